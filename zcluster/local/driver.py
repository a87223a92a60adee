"""The core's only client and only node, in this process: what a run tells the core, and hears.

The core sends ahead about a thousand tasks at a time. They wait here for their inputs; those that
have them all are ready, and run by rank. A result is dropped when its last taker has begun to run:
takers are counted in the core's table when the whole graph is there.

Several threads may run tasks at a time, and two rules hold for what they share:

1. One at a time talks to the core: whoever holds `_driving`, and nobody ever waits for that. A
   thread that finds nothing ready takes the turn if it is free; what it cannot report because
   another has the turn, that other one sees before it goes.
2. What is counted (inputs that are missing, who will yet take a result) is counted under the
   shelf's guard, which is held for a few instructions only. Heaps, lists and dicts of integers are
   used without: each operation on them is one step of the interpreter.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

from zcluster.core.scheduler.core import SchedulerCore
from zcluster.core.scheduler.pages import WANTED
from zcluster.core.scheduler.records import SchedulerSettings
from zcluster.errors import InvalidArgument, InvariantError
from zcluster.graph.layers import (
    DEFAULT_OPTIONS,
    Graph,
    GraphLayer,
    HeldLayer,
    LargeArgument,
    Options,
)
from zcluster.graph.lowering import slices
from zcluster.local.jobs import Job, JobLayer, jobs_of
from zcluster.local.shelf import Shelf
from zcluster.protocol.callables import load_callable
from zcluster.protocol.calls import CALL_PACKED_LAST, CALL_ROW, CALL_VALUE, make_call
from zcluster.protocol.frames import span
from zcluster.protocol.messages import (
    PROTOCOL,
    Assign,
    Drop,
    ErrorInfo,
    Failed,
    Finished,
    Free,
    Hello,
    Message,
    Needs,
    NodeInfo,
    Release,
    Resolved,
    Scattered,
    Welcome,
    WorkerInfo,
)
from zcluster.types import Frames, first_task
from zcluster.version import __version__

__all__ = ["Driver", "imported"]

_NAME = "local"
_CLIENT, _NODE = 1, 2  # peers of the core
_NOW = 0.0

#: A thousand tasks at 10 µs are sent ahead: enough to make the cost of a message nothing, few
#: enough for their constants (64 KiB at most, each) to be no burden.
_SETTINGS = SchedulerSettings(window=0.01, least_cost=10e-6, journal=0)


class Driver:
    """Drives a core through one graph.

    Parameters
    ----------
    graph : Graph

    Attributes
    ----------
    first : int
        The number of the graph's first task.
    _jobs : dict
        Tasks that are assigned and have not begun. Who takes one out runs it.
    _ready : list
        A heap of (rank, task, attempt, job): those that have their inputs.
    _waiters : dict
        By task that has not run, the jobs that miss its result; one entry an edge.
    _done, _failed : list
        Jobs, and jobs with their exceptions, that the core has not heard of.
    _unresolved : set
        Outputs that the core has not said to be finished.
    _error : exception, optional
        Why it is over, if that is no good end.
    """

    def __init__(self, graph: Graph) -> None:
        self._core = SchedulerCore(_NAME, __version__, _SETTINGS)
        self._node, client = _join(self._core)
        base = first_task(client)
        self._shelf = Shelf(base)
        self._jobs: dict[int, Job] = {}
        self._ready: list[tuple[int, int, int, Job]] = []
        self._waiters: dict[int, list[Job]] = {}
        self._done: list[Job] = []
        self._failed: list[tuple[Job, Exception]] = []
        self._layers: dict[int, JobLayer] = {}
        self._objects: dict[int, Sequence[Any] | HeldLayer] = {}
        self._packed: dict[bytes, bytes] = {}
        self._functions: dict[bytes, Callable[..., Any]] = {}
        self._errors: dict[int, BaseException] = {}
        self._error: BaseException | None = None
        self._is_over = False
        self._driving = Lock()
        data = self._submit_imports(graph.imports, base)
        self.first = first = base + len(data)
        self._outputs = [
            range(first + start, first + start + count) for start, count in graph.outputs
        ]
        self._unresolved = {task for tasks in self._outputs for task in tasks}
        self._keep_objects(graph)
        self._submit(graph, data)
        self._shelf.left = self._takers(first + graph.count - base)

    @property
    def events(self) -> int:
        """Messages that the core has heard."""
        return self._core.state.events

    def outputs(self) -> list[Any]:
        """Return the values of the outputs."""
        values = self._shelf.values
        return [values[task] for tasks in self._outputs for task in tasks]

    def clear(self) -> None:
        """Let go of all values: frames of the user's traceback may still refer to this run."""
        self._is_over = True
        self._shelf.values.clear()
        self._errors.clear()
        self._error = None
        self._failed.clear()
        self._done.clear()
        self._jobs.clear()
        self._ready.clear()
        self._waiters.clear()
        self._layers.clear()
        self._objects.clear()

    # -------------------------------------------------------------------- as the client

    def _say(self, message: Message, frames: Frames = ()) -> None:
        self._core.on_message(_CLIENT, message, frames, _NOW)

    def _submit_imports(self, imports: Sequence[Any], base: int) -> list[int]:
        """Make data tasks of what the graph does not make; return them."""
        if not imports:
            return []
        count = len(imports)
        tasks = list(range(base, base + count))
        self._shelf.values.update(zip(tasks, map(imported, imports), strict=True))
        graph = Graph()
        graph.add_layer(GraphLayer("data", (count,), count, CALL_VALUE))
        graph.outputs = [(0, count)]
        for message, frames in slices(graph, 0, ()):
            self._say(message, frames)
        self._say(Scattered(tasks, [self._node] * count, [0] * count))
        return tasks

    def _keep_objects(self, graph: Graph) -> None:
        """Keep the calls and values that are passed on as they are: the core sees numbers only."""
        for layer in graph.layers:
            if layer.objects is not None:
                start = self.first + layer.first
                self._objects[start] = layer.objects
                if layer.call == CALL_VALUE:
                    self._shelf.shared.update(range(start, start + layer.count))

    def _submit(self, graph: Graph, data: list[int]) -> None:
        digests = {b""}
        for layer in graph.layers:
            if layer.function is not None:
                digests.add(layer.function.digest)
        # Taken to be quick, all of them: one that is not known would be tried alone first.
        durations = [(digest, 1, 0) for digest in sorted(digests)]
        self._core.on_message(_NODE, Finished([], [], [], [], [], durations), (), _NOW)
        for message, frames in slices(_for_any_worker(graph), 1, data):
            self._say(message, frames)
        if data:
            self._say(Release(data))

    def _takers(self, count: int) -> list[int]:
        """Return how often each result will be taken: by tasks, and by the caller."""
        left = [0] * count
        base = self._shelf.base
        state = self._core.state
        for page in state.pages.values():
            for source in page.indices:
                left[source - base] += 1
            for row, flags in enumerate(page.flags, page.start - base):
                if flags & WANTED:
                    left[row] += 1
        for layer in state.layers.values():
            for whole in layer.whole:
                for source in range(whole.first, whole.first + whole.count):
                    left[source - base] += layer.count
        for task, value in self._shelf.values.items():
            if type(value) is not LargeArgument:
                left[task - base] += 1  # a future has it too: it is never given away
        return left

    # ------------------------------------------------------------------------- the core

    def _end(self, error: BaseException | None) -> None:
        """All is done, or has failed; the first error counts."""
        with self._shelf.guard:
            if not self._is_over:
                self._is_over = True
                self._error = error

    def _raise_stuck(self) -> None:
        raise InvariantError(
            f"{len(self._unresolved)} outputs are not finished, and no task can run; "
            f"expected one of {len(self._jobs)} assigned tasks to be ready, or more to be "
            f"assigned: this is a bug in zcluster; states: {self._core.state.states()}"
        )

    def _drive(self) -> bool:
        """Tell the core what happened, and take in what it says; False if there is nothing to do.

        Where another thread does so at this moment, it will see what this one has to tell.
        """
        while self._driving.acquire(blocking=False):
            try:
                self._drive_on()
            finally:
                self._driving.release()
            if self._is_over or (self._ready and not self._failed):
                return True
            if not (self._done or self._failed):
                return False
        return bool(self._ready)

    def _drive_on(self) -> None:
        core = self._core
        while not self._is_over:
            self._report()
            # All of it before any task runs: a batch is in the order of assignment, not of rank.
            effects = list(core.flush(_NOW))
            for _, message, frames in effects:
                if type(message) is Failed:
                    self._end(self._errors[message.errors[0].origin])
                    return
                self._hear(message, frames)
            if not self._unresolved:
                self._end(None)
            if self._ready and not self._failed:
                return
            if not (effects or self._done or self._failed):
                return

    def _report(self) -> None:
        """Tell the core of tasks that are done."""
        count = len(self._done)
        if count:
            jobs = self._done[:count]
            del self._done[:count]  # others append meanwhile
            nothing = [0] * count
            report = Finished(
                [job.task for job in jobs],
                [job.attempt for job in jobs],
                [-3] * count,  # results that live in a heap
                nothing,
                nothing,
                [],
            )
            self._core.on_message(_NODE, report, (), _NOW)
        while self._failed:
            job, error = self._failed.pop(0)
            self._errors[job.task] = error
            bases = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
            info = ErrorInfo("task", "", "", "", job.task, job.attempt, _NAME, _NAME, bases=bases)
            message = Failed([job.task], [job.attempt], [0], [info])
            self._core.on_message(_NODE, message, (), _NOW)

    def _hear(self, message: Message, frames: Frames) -> None:
        if type(message) is Assign:
            self._assign(message, frames)
        elif type(message) is Resolved:
            self._unresolved.difference_update(message.tasks)
        elif type(message) is Free:
            self._shelf.drop(message.tasks)  # mostly gone already; not what futures have too
            for number in message.layers:
                self._layers.pop(number, None)
        elif type(message) is Drop:
            with self._shelf.guard:
                for task in message.tasks:
                    job = self._jobs.pop(task, None)
                    if job is not None:
                        job.missing = -1  # whatever comes of its inputs, it will not be ready

    # ---------------------------------------------------------------------- as the node

    def _assign(self, message: Assign, frames: Frames) -> None:
        """Take in assigned tasks: count what each waits for."""
        for info in message.layers:
            retries = self._core.state.layers[info.layer].retries
            objects = self._objects.get(info.first)
            self._layers[info.layer] = JobLayer(info, retries > 0, objects)
        for digest, place in message.functions:
            self._packed[digest] = bytes(span(frames, place))
        jobs, ready, waiters = self._jobs, self._ready, self._waiters
        values, guard = self._shelf.values, self._shelf.guard
        for job in jobs_of(message, frames, self._layers):
            jobs[job.task] = job
            if job.inputs:
                with guard:
                    missing = 0
                    for source in job.inputs:
                        if source not in values:
                            missing += 1
                            waiters.setdefault(source, []).append(job)
                    job.missing = missing
                if missing:
                    continue
            heapq.heappush(ready, (job.rank, job.task, job.attempt, job))

    def _put(self, task: int, value: Any) -> None:
        """Keep a result; who only waited for that is ready."""
        with self._shelf.guard:
            if self._is_over:
                return  # nobody wants it any more
            self._shelf.values[task] = value
            for job in self._waiters.pop(task, ()):
                job.missing -= 1
                if not job.missing:
                    heapq.heappush(self._ready, (job.rank, job.task, job.attempt, job))

    def _call(self, job: Job) -> Any:
        layer, shelf = job.layer, self._shelf
        if isinstance(layer.objects, HeldLayer):
            return self._call_layer(job, layer.objects)
        if layer.objects is not None:
            return self._call_held(job, layer.objects[job.task - layer.info.first])
        function = layer.function
        if function is None and layer.info.function:
            function = layer.function = self._function(layer.info.function)
        keep = layer.may_run_again
        arguments: list[Any] = []
        if layer.call == CALL_PACKED_LAST:
            arguments = shelf.take(job.inputs[:-1], keep)
            arguments.append(shelf.take_packed(job.inputs[-1], keep))
        elif not layer.is_plain:
            arguments = job.grouped(shelf.take(job.sources(), keep, job.parts()))
        elif job.inputs:
            arguments = shelf.take(job.inputs, keep)
        value = make_call(layer.call, function, job.constant, arguments)
        if keep:
            shelf.count_down(job.sources())
        return value

    def _call_held(self, job: Job, held: Any) -> Any:
        """Make a call of objects that are here; a value is its own result."""
        layer, shelf = job.layer, self._shelf
        if layer.call == CALL_VALUE:
            return held
        if not job.inputs:
            return held.make(())
        keep = layer.may_run_again
        value = held.make(shelf.take(job.inputs, keep))
        if keep:
            shelf.count_down(job.inputs)
        return value

    def _call_layer(self, job: Job, held: HeldLayer) -> Any:
        """Make a call of the layer's function, which is here."""
        layer, shelf = job.layer, self._shelf
        keep = layer.may_run_again
        shares = held.reads_only
        if layer.is_plain:
            given = job.inputs
            arguments = shelf.take(given, keep, None, shares, not shares) if given else []
        else:
            taken = shelf.take(job.sources(), keep, job.parts(), shares, not shares)
            arguments = job.grouped(taken) if layer.info.whole else taken
        if layer.call == CALL_ROW:
            value = held.function(job.constant or b"", *arguments)
        else:
            value = held.function(*arguments)
        if keep:
            shelf.count_down(job.sources())
        return value

    def _function(self, digest: bytes) -> Callable[..., Any]:
        """Return a callable; each is loaded once in a run, or twice by two threads at once."""
        function = self._functions.get(digest)
        if function is None:
            function = self._functions[digest] = load_callable(self._packed[digest])
        return function


def _join(core: SchedulerCore) -> tuple[int, int]:
    """Have the only node and the only client join; return their indices."""
    worker = WorkerInfo(0, _NAME, 1, 0, 0)
    info = NodeInfo(0, _NAME, "", 0, "", "", 0, [worker])
    indices = []
    for peer, role, node in ((_NODE, "node", info), (_CLIENT, "client", None)):
        hello = Hello(role, PROTOCOL, __version__, "", b"", node=node, name=_NAME)
        welcome = core.on_hello(peer, hello, _NOW)
        assert isinstance(welcome, Welcome)  # nobody else is here
        indices.append(welcome.index)
    return indices[0], indices[1]


def imported(item: Any) -> Any:
    """Return the value of an import: of a future its result, waiting for it."""
    if isinstance(item, LargeArgument):
        return item
    result = getattr(item, "result", None)
    if not callable(result):
        raise InvalidArgument(
            f"found a {type(item).__qualname__} among the inputs, which is not made in this graph; "
            "expected a future: compute it first, and pass its result"
        )
    return result()


def _for_any_worker(graph: Graph) -> Graph:
    """Return the graph without wishes for workers that are not here; retries are kept."""
    if all(layer.options is DEFAULT_OPTIONS for layer in graph.layers):
        return graph
    free = Graph()
    free.layers = [replace(layer, options=_tries(layer.options)) for layer in graph.layers]
    free.imports, free.outputs, free.count = graph.imports, graph.outputs, graph.count
    return free


def _tries(options: Options) -> Options:
    """Return what is wished of failures; a delay has no sense where nothing else happens."""
    needs = None
    if options.needs is not None and options.needs.retry_on:
        needs = Needs(retry_on=options.needs.retry_on)
    return Options(retries=options.retries, needs=needs)
