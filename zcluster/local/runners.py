"""The runners of this process: what `zcluster.collection.compute` finds by name, or wraps."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zcluster import config
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import Graph
from zcluster.local import chains
from zcluster.local import driver as driver_module
from zcluster.local.chains import Chain, chain_of
from zcluster.local.pool import shared_pool
from zcluster.local.run import Run
from zcluster.local.shelf import Shelf
from zcluster.local.watching import Watching, watching
from zcluster.protocol import held, objects
from zcluster.protocol.callables import load_callable
from zcluster.protocol.calls import make_call

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = ["ExecutorRunner", "LocalRunner", "ThreadsRunner", "wanted_workers"]

#: Options of clients that say where, when or how often tasks run: they mean nothing here.
_MEANINGLESS = frozenset(
    {"allow_other_workers", "num_workers", "priority", "resources", "retries", "workers"}
)


class LocalRunner:
    """Runs graphs in the calling thread.

    It keeps nothing between runs but a count, so it may be used from several threads, and by a
    task.

    Attributes
    ----------
    last_events : int
        Messages the scheduler core heard in the run that ended last; none where that was a chain of
        a few tasks (`zcluster.local.chains`).

    Examples
    --------
    >>> from zcluster.graph.spec import fill, from_dict
    >>> graph, numbers = from_dict({"x": -1, "y": (abs, "x")}, "y")
    >>> fill(numbers, graph, LocalRunner().run_graph(graph))
    1
    """

    #: Graphs hold the very functions and arguments; see `zcluster.collection.compute`.
    takes_objects = True
    _where = "the calling thread"

    def __init__(self) -> None:
        self.last_events = 0

    def run_graph(self, graph: Graph, **options: Any) -> list[Any]:
        """Run a graph; return the values of its outputs, in order.

        Parameters
        ----------
        graph : Graph
            Futures among its imports are waited for.
        **options
            Those of `Client.compute` that say where or when tasks run are accepted and ignored,
            but for ``num_workers`` where there are threads.

        Raises
        ------
        Exception
            Whatever a task raised: the same object, with the task's traceback below this call.
        InvalidArgument
            For an option that nobody has, or an import that is no future.
        """
        if options and (unknown := sorted(options.keys() - _MEANINGLESS)):
            raise InvalidArgument(
                f"found the option {unknown[0]!r}, which a run in {self._where} does not "
                f"have; expected one of {', '.join(sorted(_MEANINGLESS))}, or none"
            )
        watch = watching(graph)
        is_done = False
        run = self._make(graph, options, watch)
        try:
            if watch is not None:
                watch.start(run.first)
            error = run.run()
            if error is None:
                values = run.outputs()
                is_done = True
                return values
            raise _without_own_frames(error)
        finally:
            self.last_events = run.events
            if watch is not None:
                watch.finish(not is_done)
            # A traceback refers to this frame: the two would keep each other alive.
            if not is_done:
                run.clear()
            del run, watch
            error = None

    def _make(
        self, graph: Graph, options: Mapping[str, Any], watch: Watching | None
    ) -> Run | Chain:
        chain = chain_of(graph) if watch is None else None
        return chain or Run(graph, watch=watch)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: tasks run in {self._where}>"


class ThreadsRunner(LocalRunner):
    """Runs graphs in the calling thread and in threads of this process's pool.

    As many tasks run at a time as there are workers: ``num_workers=`` of the run, or else the
    configuration's, or as many as this process may use processors. The calling thread is one of
    them, but where an event loop runs in it (in a notebook, say): there it waits, since a task may
    want a loop of its own.

    The threads stay for later runs; `close_pool` ends them.

    Examples
    --------
    >>> from zcluster.graph.spec import fill, from_dict
    >>> graph, numbers = from_dict({"x": -1, "y": (abs, "x")}, "y")
    >>> fill(numbers, graph, ThreadsRunner().run_graph(graph, num_workers=4))
    1
    """

    _where = "the calling thread and a pool of threads"

    def _make(
        self, graph: Graph, options: Mapping[str, Any], watch: Watching | None
    ) -> Run | Chain:
        takes_part = not _has_event_loop()
        if takes_part and watch is None:
            _asked_workers(options.get("num_workers"))
            chain = chain_of(graph)
            if chain is not None:
                return chain
        most = wanted_workers(options.get("num_workers")) - takes_part

        def summon(run: Run) -> bool:
            return shared_pool().give(run.help, most)

        return Run(graph, most, summon, watch, takes_part)


class ExecutorRunner(LocalRunner):
    """Runs graphs in the threads of an executor of the user's; the calling thread waits.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        One that runs calls in this process.
    """

    def __init__(self, executor: Executor) -> None:
        super().__init__()
        if executor.submit(os.getpid).result() != os.getpid():
            raise InvalidArgument(
                f"{executor!r} runs calls in other processes, which results do not travel to; "
                "expected an executor of threads, or scheduler='processes', which has its own"
            )
        self._executor = executor
        self._where = f"the threads of {executor!r}"

    def _make(self, graph: Graph, options: Mapping[str, Any], watch: Watching | None) -> Run:
        workers = options.get("num_workers")
        if workers is None:
            workers = getattr(self._executor, "_max_workers", None)
        return Run(graph, wanted_workers(workers), self._summon, watch, takes_part=False)

    def _summon(self, run: Run) -> bool:
        def ended(future: Future[None]) -> None:
            if future.cancelled():  # the executor was shut down
                run.helper_is_gone()

        self._executor.submit(run.help).add_done_callback(ended)
        return True


def _has_event_loop() -> bool:
    """Tell whether an event loop runs in this thread."""
    asyncio = sys.modules.get("asyncio")  # none runs before somebody has imported it
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def wanted_workers(workers: Any = None) -> int:
    """Return how many workers to have: the number given, else the configured one, else all.

    Raises
    ------
    InvalidArgument
        For what is no number of workers.

    Examples
    --------
    >>> wanted_workers(4)
    4
    """
    workers = _asked_workers(workers)
    return config.cpu_count() if workers is None else workers


def _asked_workers(workers: Any) -> int | None:
    """Return the number of workers that was given, or configured; None if neither was."""
    if workers is None:
        workers = config.get("num_workers", None)
    if workers is None:
        return None
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InvalidArgument(
            f"num_workers={workers!r}; expected how many tasks may run at a time, as an integer "
            "from 1 on, or None for as many as there are processors"
        )
    return workers


def _without_own_frames(error: BaseException) -> BaseException:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OURS:
        trace = trace.tb_next
    return error.with_traceback(trace)


#: The files whose frames stand between the caller and the task in a traceback.
_OURS = frozenset(
    [
        *(f.__code__.co_filename for f in (Run.run, Shelf.take, make_call, load_callable)),
        chains.__file__,
        driver_module.__file__,
        held.__file__,
        objects.__file__,
    ]
)
