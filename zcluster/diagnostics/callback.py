"""`Callback`: functions that are called while a graph runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from zcluster.local.watching import State, add_watcher, remove_watcher
from zcluster.types import Key

__all__ = ["Callback"]

Graph = Mapping[Key, Any]


class Callback:
    """Is told of graphs that run in this process, inside a ``with`` block or once registered.

    Give functions, or make a subclass with methods of these names and a ``_`` in front. They are
    called one at a time, in whichever thread runs the task. What they raise ends the run.

    Parameters
    ----------
    start : callable, optional
        ``start(dsk)``: a graph begins. ``dsk`` is a mapping from keys to tasks.
    start_state : callable, optional
        ``start_state(dsk, state)``: the same, with what becomes of the tasks: sets of keys under
        ``"waiting"``, ``"ready"``, ``"running"``, ``"finished"``, results that are kept by key
        under ``"cache"``, and the keys of those that were let go under ``"released"``.
    pretask : callable, optional
        ``pretask(key, dsk, state)``: a task is about to run.
    posttask : callable, optional
        ``posttask(key, result, dsk, state, worker_id)``: a task gave its result.
    finish : callable, optional
        ``finish(dsk, state, errored)``: the graph is done, or has failed.

    Examples
    --------
    >>> from zcluster.local import get_sync
    >>> with Callback(pretask=lambda key, dsk, state: print(key)):
    ...     get_sync({"x": 1, "y": (abs, "x")}, "y")
    x
    y
    1
    """

    def __init__(
        self,
        start: Callable[..., Any] | None = None,
        start_state: Callable[..., Any] | None = None,
        pretask: Callable[..., Any] | None = None,
        posttask: Callable[..., Any] | None = None,
        finish: Callable[..., Any] | None = None,
    ) -> None:
        given = {
            "_start": start,
            "_start_state": start_state,
            "_pretask": pretask,
            "_posttask": posttask,
            "_finish": finish,
        }
        self.__dict__.update({name: call for name, call in given.items() if call is not None})

    def register(self) -> None:
        """Be told of every graph from now on."""
        add_watcher(self)

    def unregister(self) -> None:
        """Be told of graphs that begin from now on no more."""
        remove_watcher(self)

    def __enter__(self) -> Self:
        self.register()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.unregister()

    # What subclasses define. ------------------------------------------------------------

    def _start(self, dsk: Graph) -> None: ...

    def _start_state(self, dsk: Graph, state: State) -> None: ...

    def _pretask(self, key: Key, dsk: Graph, state: State) -> None: ...

    def _posttask(
        self, key: Key, result: Any, dsk: Graph, state: State, worker_id: int
    ) -> None: ...

    def _finish(self, dsk: Graph, state: State, errored: bool) -> None: ...

    # What a run calls. ------------------------------------------------------------------

    def on_start(self, dsk: Graph) -> None:
        """A graph begins."""
        self._start(dsk)

    def on_start_state(self, dsk: Graph, state: State) -> None:
        """The same, with the states of its tasks."""
        self._start_state(dsk, state)

    def on_task(self, key: Key, dsk: Graph, state: State) -> None:
        """A task is about to run."""
        self._pretask(key, dsk, state)

    def on_result(self, key: Key, result: Any, dsk: Graph, state: State, worker: int) -> None:
        """A task gave its result."""
        self._posttask(key, result, dsk, state, worker)

    def on_finish(self, dsk: Graph, state: State, errored: bool) -> None:
        """A graph is done, or has failed."""
        self._finish(dsk, state, errored)
