"""A progress bar in text for graphs that run in this process."""

from __future__ import annotations

import sys
from threading import Event, Thread
from time import perf_counter
from typing import TextIO

from zcluster.diagnostics.callback import Callback, Graph
from zcluster.local.watching import State

__all__ = ["ProgressBar", "format_seconds"]


class ProgressBar(Callback):
    r"""Draws how many tasks are done, while graphs run in this process.

    Parameters
    ----------
    minimum : float
        Draw nothing before so many seconds.
    width : int
        Of the bar, in characters.
    dt : float
        Seconds between two drawings.
    out : text file, optional
        Where to draw; standard output by default.

    Attributes
    ----------
    last_duration : float
        Seconds that the last graph took.

    Examples
    --------
    >>> import io
    >>> from zcluster.local import get_sync
    >>> out = io.StringIO()
    >>> with ProgressBar(width=10, out=out):
    ...     get_sync({"x": 1, "y": (abs, "x")}, "y")
    1
    >>> out.getvalue().split("\r")[-1].split(" | ")[:2]
    ['[##########]', '100% Completed']
    """

    def __init__(
        self, minimum: float = 0, width: int = 40, dt: float = 0.1, out: TextIO | None = None
    ) -> None:
        super().__init__()
        self._minimum = minimum
        self._width = width
        self._dt = dt
        self._file = out
        self._state: State | None = None  # of the graph that is drawn: one at a time
        self._length = 0
        self.last_duration = 0.0

    def _start_state(self, dsk: Graph, state: State) -> None:
        if self._state is not None:
            return  # of a task of the graph, say: it has no bar of its own
        self._state, self._total = state, len(dsk)
        self._since = perf_counter()
        self._is_over = Event()
        self._thread = Thread(target=self._redraw, name="zcluster-progress", daemon=True)
        self._thread.start()

    def _finish(self, dsk: Graph, state: State, errored: bool) -> None:
        if state is not self._state:
            return
        self._is_over.set()
        self._thread.join()
        self.last_duration = perf_counter() - self._since
        if self.last_duration >= self._minimum:
            self._draw(self.last_duration)
            self._out.write("\n")
            self._out.flush()
        self._state = None
        self._length = 0

    @property
    def _out(self) -> TextIO:
        return sys.stdout if self._file is None else self._file

    def _redraw(self) -> None:
        """Draw now and then until the graph is done."""
        while not self._is_over.wait(self._dt):
            seconds = perf_counter() - self._since
            if seconds > self._minimum:
                self._draw(seconds)

    def _draw(self, seconds: float) -> None:
        """Draw the bar over the one that is there."""
        assert self._state is not None  # while there is something to draw
        share = len(self._state["finished"]) / self._total
        bar = "#" * int(self._width * share)
        text = f"[{bar:<{self._width}}] | {int(100 * share)}% Completed | {format_seconds(seconds)}"
        self._out.write(f"\r{text:<{self._length}}")
        self._out.flush()
        self._length = len(text)


def format_seconds(seconds: float) -> str:
    """Return a time for people.

    Examples
    --------
    >>> [format_seconds(t) for t in (0.0123, 4.56, 83, 3723)]
    ['12.30 ms', '4.56 s', '1m 23s', '1h 2m 3s']
    """
    if seconds < 1:
        return f"{1000 * seconds:.2f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m {rest}s" if hours else f"{minutes}m {rest}s"
