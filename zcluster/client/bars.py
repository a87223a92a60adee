"""Progress bars: in a terminal, in a notebook, and by themselves for whatever takes long.

The main thread that waits for results draws a bar when that has lasted a second, if somebody
looks: standard error is a terminal, or this is a notebook. The configuration's ``progress``
switches it off, or on everywhere. A wait of less than a second costs nothing.

What counts is results that are waited for. Where the cluster still has more tasks to do than
those (one result of a large graph), the scheduler is asked how many.
"""

from __future__ import annotations

import html
import shutil
import sys
import threading
import time
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import msgspec

from zcluster import config
from zcluster.client.gates import Countdown, Deadline
from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State
from zcluster.errors import ClusterError
from zcluster.protocol.messages import Ask
from zcluster.types import running_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zcluster.client.engine import Engine

__all__ = ["PATIENCE", "Bar", "NotebookBar", "TerminalBar", "open_bar", "wait_with_bar"]

#: Seconds that a wait lasts before it shows a bar.
PATIENCE = 1.0
#: Seconds between two looks at what is done, and between two questions to the scheduler.
_REFRESH, _ASK = 0.1, 0.5
#: Seconds between two drawings where nobody looks: standard error is a file or a pipe.
_REFRESH_OF_LOG = 10.0
#: Records that are looked through in a microsecond, or so: many are looked at less often.
_RECORDS_A_SECOND = 1_000_000
_OPEN = ("waiting", "ahead", "ready", "assigned")


class Bar(Protocol):
    """Something that shows how far a wait is; as a context manager it ends cleanly."""

    def show(self, done: int, total: int, failed: int) -> None:
        """Draw what is done of how much."""

    def __enter__(self) -> Bar: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class TerminalBar:
    """A line of text that is drawn again and again.

    Parameters
    ----------
    file : text file
    keep : bool
        Leave the last line.
    """

    def __init__(self, file: TextIO, keep: bool) -> None:
        # Not at the top: it takes longer to import than most of this package.
        from tqdm import tqdm

        # A log keeps each drawing, so it gets few.
        self._interval = _REFRESH if file.isatty() else _REFRESH_OF_LOG
        self._drawn_at = float("-inf")
        size = shutil.get_terminal_size((0, 0))
        self._file, self._keep = file, keep
        self._width = size.columns or 80
        self._bar: Any = tqdm(
            total=0,
            unit="task",
            file=file,
            leave=keep,
            mininterval=_REFRESH,
            # A terminal that does not know its size says 0, and tqdm would draw nothing.
            ncols=None if size.columns else 80,
            nrows=None if size.lines else 24,
            delay=1e-9,  # nothing is drawn before the total is known
        )

    def show(self, done: int, total: int, failed: int) -> None:
        if not self._bar.total:
            self._bar.initial = done  # what was done before says nothing about the pace
        self._bar.total = total
        if failed:
            self._bar.set_postfix(failed=failed, refresh=False)
        self._bar.n = done
        now = time.monotonic()
        if done >= total or now - self._drawn_at >= self._interval:
            self._drawn_at = now
            self._bar.refresh()

    def __enter__(self) -> TerminalBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.close()
        if kind is not None and not self._keep:
            # Ctrl-C may have come while it was drawn, so that tqdm does not know of the line.
            self._file.write("\r" + " " * self._width + "\r")
            self._file.flush()


class NotebookBar:
    """A line of HTML in a cell's output, without widgets.

    Parameters
    ----------
    keep : bool
        Leave the last line.
    """

    def __init__(self, keep: bool) -> None:
        module = import_module("IPython.display")  # it is there, or this were no notebook
        self._html = module.HTML
        self._keep = keep
        self._began = time.monotonic()
        self._handle = module.display(self._html(""), display_id=True)

    def show(self, done: int, total: int, failed: int) -> None:
        text = _line(done, total, failed, time.monotonic() - self._began)
        self._draw(
            f'<progress value="{done}" max="{total}" style="width: 20em"></progress> '
            f"<code>{html.escape(text)}</code>"
        )

    def _draw(self, text: str) -> None:
        if self._handle is not None:
            self._handle.update(self._html(text))

    def __enter__(self) -> NotebookBar:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._keep:
            self._draw("")


def _line(done: int, total: int, failed: int, seconds: float) -> str:
    """Return the text beside a bar.

    >>> _line(30, 40, 1, 6.0)
    '30/40 tasks, 6.0 s, about 2 s left, 1 failed'
    """
    parts = [f"{done}/{total} tasks", f"{seconds:.1f} s"]
    if 0 < done < total:
        parts.append(f"about {seconds / done * (total - done):.0f} s left")
    if failed:
        parts.append(f"{failed} failed")
    return ", ".join(parts)


def is_notebook() -> bool:
    """Tell whether this process is behind a notebook."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None


def open_bar(file: TextIO | None = None, keep: bool = True) -> Bar:
    """Return a bar for where this process's user looks."""
    if file is None and is_notebook():
        return NotebookBar(keep)
    return TerminalBar(file or sys.stderr, keep)


def _is_wanted() -> bool:
    """Tell whether a wait of this thread shows a bar."""
    wish = config.get("progress")
    if wish is False or threading.current_thread() is not threading.main_thread():
        return False
    if running_task.get() is not None or sys.stderr is None:
        return False
    return bool(wish is True or is_notebook() or sys.stderr.isatty())


def wait_with_bar(
    engine: Engine, countdown: Countdown, records: Sequence[Wanted], deadline: Deadline
) -> bool:
    """Wait at a countdown, with a bar if that takes long; return whether it was in time.

    What the tasks have printed is on the screen before whatever the caller prints next.
    """
    try:
        return _wait(engine, countdown, records, deadline)
    finally:
        engine.on_waited()


def _wait(
    engine: Engine, countdown: Countdown, records: Sequence[Wanted], deadline: Deadline
) -> bool:
    left = deadline.left
    if left is not None and left <= PATIENCE:
        return countdown.wait(deadline)
    if countdown.wait(Deadline(PATIENCE)):
        return True
    if not _is_wanted():
        return countdown.wait(deadline)
    refresh = max(_REFRESH, len(records) / _RECORDS_A_SECOND)
    counted = _Counted(engine, records)
    with open_bar(keep=False) as bar:
        while True:
            bar.show(*counted.look(countdown.left))
            left = deadline.left
            if countdown.wait(Deadline(refresh if left is None else min(refresh, left))):
                return True
            if deadline.left == 0.0:
                return False


class _Counted:
    """How much of a wait is done."""

    def __init__(self, engine: Engine, records: Sequence[Wanted]) -> None:
        self._engine = engine
        self._records = records
        self._asked_at = float("-inf")
        self._is_asking = False
        self._is_lost = False
        #: What the cluster has left to do, and the most that was.
        self._open = 0
        self._most = 0

    def look(self, left: int) -> tuple[int, int, int]:
        """Return how many are done, of how many, and how many failed."""
        now = time.monotonic()
        if not self._is_asking and not self._is_lost and now - self._asked_at >= _ASK:
            self._asked_at = now
            self._ask()
        failed = sum(record.state > State.HERE for record in self._records)
        total = len(self._records)
        if self._most > total:
            return self._most - max(self._open, left), self._most, failed
        return total - left, total, failed

    def _ask(self) -> None:
        self._is_asking = True
        try:
            self._engine.send_request(lambda number: Ask(number, "progress"), (), self._take)
        except ClusterError:  # the client ended; whoever waits is told so
            self._is_lost = True

    def _take(self, reply: tuple[Any, Any] | None) -> None:
        self._is_asking = False
        if reply is None or reply[0].error:
            self._is_lost = True
            return
        counts = msgspec.msgpack.decode(reply[0].value)
        self._open = sum(counts.get(name, 0) for name in _OPEN)
        self._most = max(self._most, self._open)
