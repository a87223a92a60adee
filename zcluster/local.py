"""Graphs in the calling thread: the scheduler core with no process, socket or thread around it.

``compute(x, scheduler="sync")``, and ``compute(x)`` where there is no client. The scheduler core
is the one that runs behind the socket of a cluster; here one object plays its only client and its
only node, which has one slot: it submits the graph, and what the core assigns it calls, right
here. So a debugger stops in tasks, Ctrl-C interrupts them, an exception comes out as the object
that was raised, and a graph that misbehaves on a cluster misbehaves here as well.

What differs from a cluster:

- results are never pickled: they stay what they are, on their way to the tasks that take them and
  to the caller. Calls are packed as ever, so a task gets copies of plain arguments, and a function
  that travels by value (a lambda, a function of ``__main__``) runs as its copy;
- **a task that writes into its input harms nobody else**, as on a cluster. The last taker of a
  result gets the object itself. One that can change and that somebody else will still take
  (another task, or the caller) is copied first: an array by ``copy``, anything else through
  pickle. What cannot be pickled is shared;
- every run is the same: no time is measured, tasks run in the order of their ranks.

How it works: the core sends ahead about a thousand tasks at a time; they wait here for their
inputs, and those that have them all run by rank. A result is dropped when the last taker has begun
to run: takers are counted in the core's table when the whole graph is there.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from zcluster.core.scheduler.core import SchedulerCore
from zcluster.core.scheduler.pages import WANTED
from zcluster.core.scheduler.records import SchedulerSettings
from zcluster.errors import InvalidArgument, InvariantError, NotSerializable
from zcluster.graph.columns import row_width, slot_width
from zcluster.graph.layers import (
    DEFAULT_OPTIONS,
    Graph,
    GraphLayer,
    LargeArgument,
    Options,
)
from zcluster.graph.lowering import slices
from zcluster.protocol.callables import load_callable
from zcluster.protocol.calls import CALL_PACKED_LAST, CALL_VALUE, make_call
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
    NodeInfo,
    NodeLayer,
    Release,
    Resolved,
    Scattered,
    Slot,
    Welcome,
    WorkerInfo,
)
from zcluster.protocol.objects import ATOMS, load, plan
from zcluster.protocol.selections import Part, Selection, apply, selection_from
from zcluster.types import Frames, first_task
from zcluster.version import __version__

__all__ = ["LocalRunner"]

_NAME = "sync"
_CLIENT, _NODE = 1, 2  # peers of the core
_NOW = 0.0

#: A thousand tasks at 10 µs are sent ahead: enough to make the cost of a message nothing, few
#: enough for their constants (64 KiB at most, each) to be no burden.
_SETTINGS = SchedulerSettings(window=0.01, least_cost=10e-6, journal=0)

#: Options of clients that say where, when or how often tasks run: they mean nothing here.
_MEANINGLESS = frozenset(
    {"allow_other_workers", "num_workers", "priority", "resources", "retries", "workers"}
)

_WHOLE = Slot()


class LocalRunner:
    """Runs graphs in the calling thread.

    It keeps nothing between runs, so it may be used from several threads, and by a task.

    Examples
    --------
    >>> from zcluster.graph.spec import fill, from_dict
    >>> graph, numbers = from_dict({"x": -1, "y": (abs, "x")}, "y")
    >>> fill(numbers, graph, LocalRunner().run_graph(graph))
    1
    """

    def run_graph(self, graph: Graph, **options: Any) -> list[Any]:
        """Run a graph; return the values of its outputs, in order.

        Parameters
        ----------
        graph : Graph
            Futures among its imports are waited for.
        **options
            Those of `Client.compute` that say where or when tasks run are accepted and ignored.

        Raises
        ------
        Exception
            Whatever a task raised: the same object, with the task's traceback below this call.
        InvalidArgument
            For an option that nobody has, or an import that is no future.
        """
        unknown = sorted(options.keys() - _MEANINGLESS)
        if unknown:
            raise InvalidArgument(
                f"found the option {unknown[0]!r}, which a run in the calling thread does not "
                f"have; expected one of {', '.join(sorted(_MEANINGLESS))}, or none"
            )
        run = _Run(graph)
        error = run.run()
        if error is None:
            return run.outputs()
        try:
            raise error
        finally:
            # Its traceback refers to this frame: the two would keep each other alive.
            run.clear()
            del run, error

    def __repr__(self) -> str:
        return "<LocalRunner: tasks run in the calling thread>"


class _Layer:
    """A layer as it was introduced to the node, with its callable once that was needed."""

    __slots__ = ("call", "function", "info", "is_plain", "may_run_again")

    def __init__(self, info: NodeLayer, may_run_again: bool) -> None:
        self.info = info
        self.call = info.call
        self.function: Callable[..., Any] | None = None
        #: Its tasks have retries: what they take must survive a failure.
        self.may_run_again = may_run_again
        #: Its tasks take listed inputs only, each as a whole.
        self.is_plain = not info.slots and not info.whole

    def row_width(self, arity: int) -> int:
        """Return how many integers of the selection table a task has."""
        return row_width(self.info.slots, self.info.whole_slots, arity)


class _Job:
    """An assigned task that has not run; ``missing`` counts inputs, -1: it was taken back."""

    __slots__ = ("attempt", "constant", "inputs", "layer", "missing", "rank", "selections", "task")

    def __init__(
        self,
        task: int,
        attempt: int,
        rank: int,
        layer: _Layer,
        inputs: list[int],
        constant: bytes | None,
        selections: list[int],
    ) -> None:
        self.task = task
        self.attempt = attempt
        self.rank = rank
        self.layer = layer
        self.inputs = inputs
        self.constant = constant
        self.selections = selections
        self.missing = 0


class _Run:
    """One run of one graph: a core, and what its only client and its only node know.

    Attributes
    ----------
    _values : dict
        Results by task, while somebody will take them.
    _left : list of int
        By task, counted from `_base`: how often its result will yet be taken.
    _jobs : dict
        Tasks that are assigned and have not run.
    _ready : list
        A heap of (rank, task, job): those that have their inputs.
    _waiters : dict
        By task that has not run, the jobs that miss its result; one entry an edge.
    _unresolved : set
        Outputs that the core has not said to be finished.
    """

    def __init__(self, graph: Graph) -> None:
        self._core = SchedulerCore(_NAME, __version__, _SETTINGS)
        self._node, client = _join(self._core)
        self._base = first_task(client)
        self._values: dict[int, Any] = {}
        self._jobs: dict[int, _Job] = {}
        self._ready: list[tuple[int, int, _Job]] = []
        self._waiters: dict[int, list[_Job]] = {}
        self._layers: dict[int, _Layer] = {}
        self._packed: dict[bytes, bytes] = {}
        self._functions: dict[bytes, Callable[..., Any]] = {}
        self._errors: dict[int, Exception] = {}
        data = self._submit_imports(graph.imports)
        self._first = self._base + len(data)
        self._outputs = [
            range(self._first + first, self._first + first + count)
            for first, count in graph.outputs
        ]
        self._unresolved = {task for tasks in self._outputs for task in tasks}
        self._submit(graph, data)
        self._left = self._takers(len(data) + graph.count)

    def outputs(self) -> list[Any]:
        """Return the values of the outputs."""
        values = self._values
        return [values[task] for tasks in self._outputs for task in tasks]

    def clear(self) -> None:
        """Let go of all values: frames of the user's traceback may still refer to this run."""
        self._values.clear()
        self._errors.clear()
        self._jobs.clear()
        self._ready.clear()
        self._waiters.clear()

    # -------------------------------------------------------------------- as the client

    def _say(self, message: Message, frames: Frames = ()) -> None:
        self._core.on_message(_CLIENT, message, frames, _NOW)

    def _submit_imports(self, imports: Sequence[Any]) -> list[int]:
        """Make data tasks of what the graph does not make; return them."""
        if not imports:
            return []
        count = len(imports)
        tasks = list(range(self._base, self._base + count))
        self._values.update(zip(tasks, map(_imported, imports), strict=True))
        graph = Graph()
        graph.add_layer(GraphLayer("data", (count,), count, CALL_VALUE))
        graph.outputs = [(0, count)]
        for message, frames in slices(graph, 0, ()):
            self._say(message, frames)
        self._say(Scattered(tasks, [self._node] * count, [0] * count))
        return tasks

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
        base = self._base
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
        for task, value in self._values.items():
            if type(value) is not LargeArgument:
                left[task - base] += 1  # a future has it too: it is never given away
        return left

    # ------------------------------------------------------------------------- the loop

    def run(self) -> Exception | None:
        """Run what the outputs need; return the exception of a task that failed, if one did."""
        core = self._core
        while self._unresolved:
            # All of it before any task runs: a batch is in the order of assignment, not of rank.
            effects = list(core.flush(_NOW))
            for _, message, frames in effects:
                if type(message) is Failed:
                    return self._without_own_frames(message.errors[0].origin)
                self._hear(message, frames)
            if self._ready:
                self._work()
            elif not effects and self._unresolved:
                raise InvariantError(
                    f"{len(self._unresolved)} outputs are not finished, and no task can run; "
                    f"expected one of {len(self._jobs)} assigned tasks to be ready, or more to be "
                    f"assigned: this is a bug in zcluster; states: {core.state.states()}"
                )
        return None

    def _hear(self, message: Message, frames: Frames) -> None:
        if type(message) is Assign:
            self._assign(message, frames)
        elif type(message) is Resolved:
            self._unresolved.difference_update(message.tasks)
        elif type(message) is Free:
            for task in message.tasks:  # mostly gone already; not what futures have too
                self._values.pop(task, None)
            for number in message.layers:
                self._layers.pop(number, None)
        elif type(message) is Drop:
            for task in message.tasks:
                job = self._jobs.pop(task, None)
                if job is not None:
                    job.missing = -1

    def _without_own_frames(self, task: int) -> Exception:
        error = self._errors[task]
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename in _OURS:
            trace = trace.tb_next
        return error.with_traceback(trace)

    # ---------------------------------------------------------------------- as the node

    def _assign(self, message: Assign, frames: Frames) -> None:
        """Take in assigned tasks: count what each waits for."""
        for info in message.layers:
            retries = self._core.state.layers[info.layer].retries
            self._layers[info.layer] = _Layer(info, retries > 0)
        for digest, place in message.functions:
            self._packed[digest] = bytes(span(frames, place))
        constants = bytes(frames[0]) if frames else b""
        offsets, inputs, selections = message.offsets, message.inputs, message.selections
        start = edge = row = 0
        for number, count in message.runs:
            layer = self._layers[number]
            base = layer.info.base
            stop = start + count
            for at in range(start, stop):
                arity = message.arities[at]
                constant = constants[offsets[at] : offsets[at + 1]] if offsets else None
                table: list[int] = []
                if not layer.is_plain:
                    table = selections[row : row + layer.row_width(arity)]
                    row += len(table)
                self._add(
                    _Job(
                        message.tasks[at],
                        message.attempts[at],
                        base + message.orders[at],
                        layer,
                        inputs[edge : edge + arity],
                        constant,
                        table,
                    )
                )
                edge += arity
            start = stop

    def _add(self, job: _Job) -> None:
        """Put a job where it belongs: to those that are ready, or to those that wait."""
        self._jobs[job.task] = job
        values = self._values
        for source in job.inputs:
            if source not in values:
                job.missing += 1
                self._waiters.setdefault(source, []).append(job)
        if not job.missing:
            heapq.heappush(self._ready, (job.rank, job.task, job))

    def _work(self) -> None:
        """Run what is ready, and what that makes ready; report it. A failure ends it early."""
        ready, jobs, values, waiters = self._ready, self._jobs, self._values, self._waiters
        tasks: list[int] = []
        attempts: list[int] = []
        failed: _Job | None = None
        while ready:
            _, task, job = heapq.heappop(ready)
            if job.missing:  # taken back
                continue
            del jobs[task]
            try:
                values[task] = self._call(job)
            except Exception as error:  # not Ctrl-C, nor SystemExit: they end the run
                self._errors[task] = error
                failed = job
                break
            tasks.append(task)
            attempts.append(job.attempt)
            for waiter in waiters.pop(task, ()):
                waiter.missing -= 1
                if not waiter.missing:
                    heapq.heappush(ready, (waiter.rank, waiter.task, waiter))
        nothing = [0] * len(tasks)
        # -3: results that live in a heap.
        report = Finished(tasks, attempts, [-3] * len(tasks), nothing, nothing, [])
        self._core.on_message(_NODE, report, (), _NOW)
        if failed is not None:
            info = ErrorInfo("task", "", "", "", failed.task, failed.attempt, _NAME, _NAME)
            message = Failed([failed.task], [failed.attempt], [0], [info])
            self._core.on_message(_NODE, message, (), _NOW)

    def _call(self, job: _Job) -> Any:
        layer = job.layer
        function = layer.function
        if function is None and layer.info.function:
            function = layer.function = self._function(layer.info.function)
        arguments: list[Any] = []
        if layer.call == CALL_PACKED_LAST:
            arguments = [self._take(source, layer) for source in job.inputs[:-1]]
            arguments.append(self._take_blob(job.inputs[-1], layer))
        elif layer.is_plain:
            if job.inputs:
                arguments = [self._take(source, layer) for source in job.inputs]
        else:
            arguments = self._selected(job)
        value = make_call(layer.call, function, job.constant, arguments)
        if layer.may_run_again:
            for source in _sources(job):
                self._count_down(source)
        return value

    def _function(self, digest: bytes) -> Callable[..., Any]:
        """Return a callable; each is loaded once in a run."""
        function = self._functions.get(digest)
        if function is None:
            function = self._functions[digest] = load_callable(self._packed.pop(digest))
        return function

    # --------------------------------------------------------------------------- inputs

    def _take(self, source: int, layer: _Layer, selection: Selection | None = None) -> Any:
        """Return an input as one task may have it: the object itself if nobody else will."""
        value = self._values[source]
        again = layer.may_run_again
        is_last = not again and self._left[source - self._base] == 1
        if not again:
            self._count_down(source)
        if type(value) is LargeArgument:
            value, is_last = load(_blob(value)), True
        if selection is not None:
            value = apply(value, selection)
        return value if is_last or type(value) in ATOMS else _copied(value)

    def _take_blob(self, source: int, layer: _Layer) -> bytearray:
        """Return the packed arguments of a call that were too large to travel with it."""
        argument = self._values[source]
        if type(argument) is not LargeArgument:
            raise InvalidArgument(
                f"the last input of a call of form {CALL_PACKED_LAST} is a "
                f"{type(argument).__qualname__}; expected the LargeArgument that pack_call planned"
            )
        if not layer.may_run_again:
            self._count_down(source)
        return _blob(argument)

    def _count_down(self, source: int) -> None:
        """Note that a result was taken; drop it if that was the last time."""
        at = source - self._base
        self._left[at] -= 1
        if not self._left[at]:
            self._values.pop(source, None)

    def _selected(self, job: _Job) -> list[Any]:
        """Return the inputs of a task that takes parts, or all tasks of other layers."""
        layer, info = job.layer, job.layer.info
        table = iter(job.selections)
        own = job.task - info.first
        arguments: list[Any] = []
        for position, source in enumerate(job.inputs):
            slot = info.slots[min(position, len(info.slots) - 1)] if info.slots else _WHOLE
            arguments.append(self._take(source, layer, _selection(slot, table, own)))
        for (first, count), slot in zip(info.whole, info.whole_slots, strict=True):
            selection = _selection(slot, table, own)
            sources = range(first, first + count)
            arguments.append([self._take(source, layer, selection) for source in sources])
        return arguments


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


def _imported(item: Any) -> Any:
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
    free.layers = [
        replace(layer, options=Options(retries=layer.options.retries)) for layer in graph.layers
    ]
    free.imports, free.outputs, free.count = graph.imports, graph.outputs, graph.count
    return free


def _selection(slot: Slot, table: Iterator[int], own: int) -> Selection | None:
    """Return what part of an input a task takes; None: all of it."""
    if slot.kind == 0:
        return None
    if slot.kind == 2:
        return Part(own)
    return selection_from(slot.kind, list(islice(table, slot_width(slot))))


def _sources(job: _Job) -> Iterator[int]:
    """Yield the tasks whose results a job takes, one for each time."""
    yield from job.inputs
    for first, count in job.layer.info.whole:
        yield from range(first, first + count)


def _blob(argument: LargeArgument) -> bytearray:
    blob = bytearray(argument.plan.size)
    argument.plan.write_into(memoryview(blob))
    return blob


def _copied(value: Any) -> Any:
    """Return a copy of a value that another may write into; itself if it cannot change."""
    kind = type(value)
    if kind is tuple and all(type(item) in ATOMS for item in value):
        return value
    numpy = sys.modules.get("numpy")  # no value is an array before somebody has imported it
    if numpy is not None and hasattr(numpy, "generic"):
        if kind is numpy.ndarray and not value.dtype.hasobject:
            return value.copy(order="K")
        if isinstance(value, numpy.generic) and not isinstance(value, numpy.void):
            return value
    try:
        planned = plan(value)
    except NotSerializable:
        return value
    return load(_blob(LargeArgument(planned)))


#: The files whose frames stand between the caller and the task in a traceback.
_OURS = frozenset(f.__code__.co_filename for f in (_copied, make_call, load_callable, load))
