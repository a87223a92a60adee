"""A node, as a pure state machine: what its nanny decides.

The core counts missing inputs, orders ready tasks by rank, fills batches for free
slots, keeps results until nobody needs them, and says what to fetch. It has no
socket, clock, thread or file. Events come in through the ``on_…`` methods; `flush`
returns what is to be done for all of them. What must be done with bytes it does
not look at (room in the store, cutting a part) it asks of a `Memory`.

Who keeps a result how long:

* made here and reported: until the scheduler says `Free`;
* *passing* (only tasks of this node need it): until its last use here; if all its
  consumers are in the batch that makes it, it never leaves the worker's heap;
* fetched or cut (*lent*): until its last use here.

A task that leaves the node unfinished (recalled, dropped, failed, killed) leaves
its inputs: passing ones among them are kept from then on until `Free`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from zcluster.core.node import batches
from zcluster.core.node.records import (
    Assignment,
    Effects,
    FetchOrder,
    Memory,
    NodeSettings,
    Result,
    WorkerEnd,
    WorkerRecord,
)
from zcluster.core.node.reports import Reports
from zcluster.core.node.states import State
from zcluster.errors import ProtocolError
from zcluster.graph.columns import slot_width
from zcluster.protocol.frames import span
from zcluster.protocol.messages import (
    Assign,
    Die,
    Discard,
    Done,
    Drop,
    Environment,
    ErrorInfo,
    Failed,
    Free,
    Grant,
    Lost,
    Message,
    NodeInfo,
    NodeLayer,
    Nodes,
    Recall,
    Recalled,
    Reserve,
    Return,
    Run,
    Skipped,
    Slot,
    Sources,
    Unreachable,
    WorkerInfo,
    Workers,
)
from zcluster.storage.arena import Range
from zcluster.types import Buffer, Frames

__all__ = ["NodeCore"]

_WAITING, _READY, _SENT, _ABSENT = State.WAITING, State.READY, State.SENT, State.ABSENT
_WHOLE = Slot()
#: Tasks that are remembered to run alone.
_SUSPECTS = 256


class NodeCore:
    """The tasks, results and workers of one node.

    Parameters
    ----------
    name : str
    workers : sequence of WorkerRecord
    memory : Memory
    settings : NodeSettings
    """

    def __init__(
        self,
        name: str,
        workers: Iterable[WorkerRecord],
        memory: Memory,
        settings: NodeSettings | None = None,
    ) -> None:
        self.name = name
        self.memory = memory
        self.settings = settings or NodeSettings()
        self.workers = {worker.number: worker for worker in workers}
        self.tasks: dict[int, Assignment] = {}
        self.results: dict[int, Result] = {}
        #: Assigned tasks (by edge) that will use a result.
        self.uses: dict[int, int] = {}
        #: Results that go with their last use here.
        self.passing: set[int] = set()
        self.layers: dict[int, NodeLayer] = {}
        self.functions: dict[bytes, bytes] = {}
        self.durations: dict[bytes, float] = {}
        self.ready: list[tuple[int, int, Assignment]] = []
        #: Assignments waiting for an input that is not made by a task here.
        self.awaited: dict[int, list[Assignment]] = {}
        #: Inputs on their way: number -> (task, kind, selection).
        self.parts: dict[int, tuple[int, int, list[int]]] = {}
        self.part_numbers: dict[tuple[int, int, tuple[int, ...]], int] = {}
        self.places: dict[int, tuple[int, list[int]]] = {}
        self.nodes: dict[int, NodeInfo] = {}
        self.told: list[tuple[Message, Frames]] = []
        #: Sent tasks that the scheduler, not the nanny, wants back.
        self.recalling: set[int] = set()
        #: Room given to workers for results they have not reported: by (worker, task).
        #: A task has more than one range where a dropped attempt still runs.
        self.grants: dict[tuple[int, int], list[Range]] = {}
        #: Tasks of which some took a worker down, that ran several: each runs alone next time.
        self.suspects: dict[int, None] = {}
        #: Results whose places are kept, for layers that take all of a layer.
        self.pinned: dict[int, int] = {}
        self.reports = Reports()
        self.effects = Effects()
        self.next_part = -1
        self.next_batch = 1
        self.now = 0.0
        self.is_fenced = False

    # ------------------------------------------------------------- from the scheduler

    def on_message(self, message: Message, frames: Frames, now: float) -> None:
        """The scheduler said something."""
        self.now = now
        if isinstance(message, Assign):
            self._assign(message, frames)
        elif isinstance(message, Free):
            self._free(message)
        elif isinstance(message, Drop):
            self._drop(message.tasks)
        elif isinstance(message, Recall):
            self._recall(message.tasks)
        elif isinstance(message, Nodes):
            for info in message.joined:
                self.nodes[info.index] = info
            for index in message.left:
                self.nodes.pop(index, None)
        elif isinstance(message, Sources | Environment):
            if isinstance(message, Environment):
                # The newest client's; folders of earlier ones stay on the path.
                self.told = [told for told in self.told if not isinstance(told[0], Environment)]
            self.told.append((message, frames))
            for worker in self.workers.values():
                if worker.is_ready:
                    self.effects.to_workers.append((worker.number, message, list(frames)))
        elif isinstance(message, Die):
            self.is_fenced = True
        else:
            raise ProtocolError(f"the scheduler may not say {type(message).__name__} to a node")

    def _assign(self, message: Assign, frames: Frames) -> None:
        for layer in message.layers:
            self._add_layer(layer)
        for digest, place in message.functions:
            self.functions[digest] = bytes(span(frames, place))
        self._take_inline(message, frames)
        for task, size, nodes in message.places:
            self.places[task] = (size, nodes)
        constants = frames[0] if frames else b""
        inputs, offsets, selections = message.inputs, message.offsets, message.selections
        at = edge = row = 0
        workers = message.workers
        for number, count in message.runs:
            layer = self.layers[number]
            base = layer.base
            simple = not layer.slots and not layer.whole
            for _ in range(count):
                task = message.tasks[at]
                stop = edge + message.arities[at]
                constant = bytes(constants[offsets[at] : offsets[at + 1]]) if offsets else b""
                wanted = inputs[edge:stop]
                if not simple:
                    wanted, row = self._select(layer, task, wanted, selections, row)
                assignment = Assignment(
                    task,
                    message.attempts[at],
                    layer,
                    base + message.orders[at],
                    wanted,
                    constant,
                    bool(message.flags[at] & 1),
                    workers[at] if workers else -1,
                )
                edge = stop
                at += 1
                self._add(assignment)
        self._drop_unused(message)

    def _add_layer(self, layer: NodeLayer) -> None:
        if layer.layer not in self.layers:
            for first, count in layer.whole:
                for task in range(first, first + count):
                    self.pinned[task] = self.pinned.get(task, 0) + 1
        self.layers[layer.layer] = layer

    def _forget_layer(self, number: int) -> None:
        layer = self.layers.pop(number, None)
        if layer is None:
            return
        for first, count in layer.whole:
            for task in range(first, first + count):
                self.pinned[task] -= 1
                if not self.pinned[task]:
                    del self.pinned[task]
                    if task not in self.uses:
                        self.places.pop(task, None)

    def _drop_unused(self, message: Assign) -> None:
        """Forget what came for tasks that turned out to need nothing."""
        for task, _ in message.inline:
            self._unuse(task)
        for task, _, _ in message.places:
            if task not in self.uses and task not in self.pinned:
                self.places.pop(task, None)

    def _take_inline(self, message: Assign, frames: Frames) -> None:
        start = 0
        for task, length in message.inline:
            if task not in self.results:
                blob = bytes(frames[1][start : start + length])
                self.passing.add(task)
                # In use until the whole message is taken in.
                self.uses[task] = self.uses.get(task, 0) + 1
                self.arrived(task, Result(length, blob, lent=True))
            else:
                self.uses[task] = self.uses.get(task, 0) + 1
            start += length

    def _add(self, assignment: Assignment) -> None:
        """Take in one assigned task: count what it waits for."""
        task = assignment.task
        old = self.tasks.get(task)
        if old is not None:
            # Assigned again while it is still here: the new attempt is the one that counts.
            old.attempt = assignment.attempt
            old.passing = assignment.passing
            self._drop_parts(assignment.inputs)
            return
        if task in self.results:
            # Finished here in an attempt that the scheduler had taken back, or fetched.
            # From now on it is this node's own.
            self.results[task].lent = False
            self.passing.discard(task)
            self.reports.again(task, assignment.attempt, self.results[task])
            self._drop_parts(assignment.inputs)
            return
        tasks, results, uses = self.tasks, self.results, self.uses
        tasks[task] = assignment
        missing = 0
        for source in assignment.inputs:
            uses[source] = uses.get(source, 0) + 1
            if source in results:
                continue
            missing += 1
            maker = tasks.get(source)
            if maker is not None:
                if maker.heirs is None:
                    maker.heirs = [assignment]
                else:
                    maker.heirs.append(assignment)
            else:
                self._await(source, assignment)
        assignment.missing = missing
        if not missing:
            assignment.state = _READY
            heapq.heappush(self.ready, (assignment.rank, task, assignment))

    def _drop_parts(self, inputs: list[int]) -> None:
        """Forget parts that were cut for a task that is not to run after all."""
        for number in inputs:
            if number < 0 and number not in self.uses and number in self.parts:
                self._unuse(number)

    def _await(self, source: int, assignment: Assignment) -> None:
        """Wait for an input that no task here makes: fetch it."""
        waiting = self.awaited.get(source)
        if waiting is not None:
            waiting.append(assignment)
            return
        self.awaited[source] = [assignment]
        task, kind, selection = self.parts.get(source, (source, 0, []))
        maker = self.tasks.get(task) if source < 0 else None
        if maker is None and task not in self.results:
            self._fetch(source, task, kind, selection)

    def _fetch(self, source: int, task: int, kind: int, selection: list[int]) -> None:
        size, nodes = self.places.get(task, (0, []))
        self.effects.to_fetch.append(FetchOrder(source, task, kind, selection, size, nodes))

    # --------------------------------------------------------------------- selections

    def _select(
        self, layer: NodeLayer, taker: int, inputs: list[int], table: list[int], row: int
    ) -> tuple[list[int], int]:
        """Replace inputs of which a task takes a part by numbers of those parts."""
        index = taker - layer.first
        chosen: list[int] = []
        slots = layer.slots
        for position, task in enumerate(inputs):
            slot = slots[min(position, len(slots) - 1)] if slots else _WHOLE
            part, row = self._part(slot, task, index, table, row)
            chosen.append(part)
        for (first, count), slot in zip(layer.whole, layer.whole_slots, strict=True):
            start = row
            for task in range(first, first + count):
                part, row = self._part(slot, task, index, table, start)
                chosen.append(part)
        return chosen, row

    def _part(
        self, slot: Slot, task: int, index: int, table: list[int], row: int
    ) -> tuple[int, int]:
        if slot.kind == 0:
            return task, row
        width = slot_width(slot)
        selection = [index] if slot.kind == 2 else table[row : row + width]
        kind = 1 if slot.kind == 2 else slot.kind
        key = (task, kind, tuple(selection))
        number = self.part_numbers.get(key)
        if number is None:
            number = self.next_part
            self.next_part -= 1
            self.part_numbers[key] = number
            self.parts[number] = (task, kind, selection)
            self.passing.add(number)
            self.uses[task] = self.uses.get(task, 0) + 1
            self._cut_if_here(number, task, kind, selection)
        return number, row + width

    def _cut_if_here(self, number: int, task: int, kind: int, selection: list[int]) -> None:
        result = self.results.get(task)
        if result is None:
            return
        if result.worker >= 0:
            reason = "a part is asked of a result that cannot be pickled"
            for assignment in list(self.awaited.get(number, ())):
                self.fail_input(assignment, reason)
            return
        cut = self.memory.cut(result, kind, selection)
        if cut is not None:
            self.arrived(number, cut)
            self._unuse(task)
            return
        # It keeps its use of the whole result, whose bytes it shows.
        whole = Result(result.size, result.blob, result.place, lent=True, borrowed=True, uncut=True)
        self.arrived(number, whole)

    # ------------------------------------------------------------------------ results

    def arrived(self, number: int, result: Result) -> None:
        """A result, or a part of one, is here; wake what waits for it."""
        self.results[number] = result
        for assignment in self.awaited.pop(number, ()):
            self._input_here(assignment)
        for (task, kind, selection), part in [
            (self.parts[p], p) for p in self._parts_of(number) if p not in self.results
        ]:
            self._cut_if_here(part, task, kind, selection)

    def _parts_of(self, task: int) -> list[int]:
        if not self.parts:
            return []
        return [number for number, part in self.parts.items() if part[0] == task]

    def _input_here(self, assignment: Assignment) -> None:
        assignment.missing -= 1
        if assignment.missing == 0 and assignment.state == _WAITING:
            assignment.state = _READY
            heapq.heappush(self.ready, (assignment.rank, assignment.task, assignment))

    def on_fetched(self, number: int, result: Result, now: float) -> None:
        """The driver brought an input."""
        self.now = now
        if number not in self.awaited:
            self._let_go(number, result)
            return
        result.lent = True
        self.passing.add(number)
        self.arrived(number, result)
        if number < 0:
            self._unuse(self.parts[number][0])

    def on_put(self, task: int, result: Result) -> None:
        """A client put data into the store, as the result of a data task."""
        old = self.results.pop(task, None)
        if old is not None:
            self._let_go(task, old)
        self.arrived(task, result)

    def on_unfetched(self, number: int, node: int, reason: str, now: float) -> None:
        """An input could not be had from a node.

        The tasks that wait go back; with a reason, which is final, they fail.
        """
        self.now = now
        waiting = list(self.awaited.get(number, ()))
        task = self.parts[number][0] if number in self.parts else number
        if task < 0 or number in self.results:
            return  # nobody waits for it any more
        self.places.pop(task, None)
        if reason:
            for assignment in waiting:
                self.fail_input(assignment, reason)
            return
        self.effects.to_scheduler.append((Unreachable([task], node), ()))
        self._return(waiting)

    def fail_input(self, assignment: Assignment, reason: str) -> None:
        """Fail a task because an input can never reach a worker where it could run."""
        message = f"an input of {assignment.layer.name!r} cannot be brought to it: {reason}"
        kind = "zcluster.errors.ResultNotSerializable"
        error = ErrorInfo("serialize", kind, message, "", 0, 0, "", "")
        self._fail(assignment, error, b"", "")

    def _unuse(self, number: int) -> None:
        """One task less will use a result."""
        left = self.uses.get(number, 0) - 1
        if left > 0:
            self.uses[number] = left
            return
        self.uses.pop(number, None)
        result = None
        if number in self.passing:
            self.passing.discard(number)
            result = self.results.pop(number, None)
            if result is not None and not result.borrowed:
                self._let_go(number, result)
        if number < 0:
            task, kind, selection = self.parts.pop(number)
            del self.part_numbers[task, kind, tuple(selection)]
            if result is None or result.borrowed:
                self._unuse(task)
        elif self.places and number not in self.pinned:
            self.places.pop(number, None)

    def _let_go(self, number: int, result: Result) -> None:
        if result.place is not None:
            self.memory.free(result.place)
        elif result.worker >= 0:
            worker = self.workers[result.worker]
            if number in worker.held:
                worker.held.discard(number)
                self.effects.to_workers.append((worker.number, Discard([number]), []))

    def _free(self, message: Free) -> None:
        results, uses = self.results, self.uses
        for task in message.tasks:
            if task in uses:
                # Tasks here took it for theirs before the scheduler let it go.
                if task in results:
                    results[task].lent = True
                    self.passing.add(task)
                continue
            result = results.pop(task, None)
            self.passing.discard(task)
            if result is not None and (result.place is not None or result.worker >= 0):
                self._let_go(task, result)
        for number in message.layers:
            self._forget_layer(number)
        if message.functions:
            for digest in message.functions:
                self.functions.pop(digest, None)
                self.durations.pop(digest, None)
            for worker in self.workers.values():
                known = [digest for digest in message.functions if digest in worker.functions]
                if known:
                    worker.functions.difference_update(known)
                    self.effects.to_workers.append((worker.number, Discard([], known), []))

    # ----------------------------------------------------------- tasks that leave early

    def _recall(self, tasks: list[int]) -> None:
        """Give back what has not started; ask workers for what they have queued."""
        given: list[Assignment] = []
        asked: dict[int, list[int]] = {}
        for task in tasks:
            assignment = self.tasks.get(task)
            if assignment is None:
                continue
            if assignment.state == _SENT:
                asked.setdefault(assignment.worker, []).append(task)
            else:
                given.append(assignment)
        self._return(given)
        for number, wanted in asked.items():
            self.recalling.update(wanted)
            self.effects.to_workers.append((number, Recall(wanted), []))

    def _drop(self, tasks: list[int]) -> None:
        """Forget tasks that are not wanted here; workers need not begin them any more."""
        sent: dict[int, list[int]] = {}
        for task in tasks:
            assignment = self.tasks.get(task)
            if assignment is not None and assignment.state == _SENT:
                sent.setdefault(assignment.worker, []).append(task)
            self._leave_unfinished(task)
        for number, queued in sent.items():
            self.effects.to_workers.append((number, Recall(queued), []))

    def _return(self, assignments: list[Assignment]) -> None:
        """Give assigned tasks back to the scheduler."""
        if not assignments:
            return
        tasks = [assignment.task for assignment in assignments]
        attempts = [assignment.attempt for assignment in assignments]
        # First what became of the tasks, then what of their inputs is lost with them.
        self.effects.to_scheduler.append((Recalled(tasks, attempts), ()))
        for task in tasks:
            self._leave_unfinished(task)

    def _leave_unfinished(self, task: int) -> None:
        """Forget an assigned task, keeping its inputs for whoever runs it."""
        assignment = self.tasks.pop(task, None)
        if assignment is None:
            return
        if assignment.state == _SENT:
            self._forget_sent(assignment)
            self.workers[assignment.worker].ghosts.add(task)
        assignment.state = _ABSENT
        self.recalling.discard(task)
        lost: list[int] = []
        for source in assignment.inputs:
            result = self.results.get(source)
            if source >= 0 and (result is None or not result.lent):
                self.passing.discard(source)
                if result is None and source not in self.tasks and source not in self.awaited:
                    lost.append(source)
            waiting = self.awaited.get(source)
            if waiting is not None and assignment in waiting:
                waiting.remove(assignment)
                if not waiting:
                    del self.awaited[source]
            maker = self.tasks.get(source)
            if maker is not None and maker.heirs is not None:
                maker.passing = False
                maker.heirs = [heir for heir in maker.heirs if heir is not assignment]
            self._unuse(source)
        if lost:
            # It was in the heap of a worker for this task alone.
            self.effects.to_scheduler.append((Lost(lost), ()))

    def _forget_sent(self, assignment: Assignment) -> None:
        worker = self.workers[assignment.worker]
        for batch in worker.batches:
            batch.tasks.pop(assignment.task, None)
        worker.batches = [batch for batch in worker.batches if batch.tasks]

    # ------------------------------------------------------------------- from a worker

    def on_worker(self, number: int, message: Message, frames: Frames, now: float) -> None:
        """A worker of the current incarnation said something."""
        self.now = now
        worker = self.workers[number]
        if isinstance(message, Done):
            self._done(worker, message, frames)
        elif isinstance(message, Failed):
            self._failed(worker, message, frames)
        elif isinstance(message, Skipped):
            self._skipped(worker, message.tasks)
        elif isinstance(message, Recalled):
            self._recalled(worker, message.tasks)
        elif isinstance(message, Reserve):
            self._reserve(worker, message)
        elif isinstance(message, Return):
            for slab, offset, length in message.ranges:
                self.memory.give_back(Range(slab, offset, length), number)
        else:
            raise ProtocolError(f"a worker may not say {type(message).__name__}")

    def on_worker_ready(self, number: int, pid: int, incarnation: int, now: float) -> None:
        """A worker process is up."""
        self.now = now
        worker = self.workers[number]
        worker.pid, worker.incarnation, worker.is_ready = pid, incarnation, True
        worker.functions.clear()
        for message, frames in self.told:
            self.effects.to_workers.append((number, message, list(frames)))
        self._tell_workers()

    def _tell_workers(self) -> None:
        self.effects.to_scheduler.append((Workers(self.worker_infos()), ()))

    def worker_infos(self) -> list[WorkerInfo]:
        """Return the workers that are up, as others see them."""
        return [
            WorkerInfo(w.number, w.name, w.slots, w.memory_limit, w.pid)
            for w in self.workers.values()
            if w.is_ready
        ]

    def _done(self, worker: WorkerRecord, message: Done, frames: Frames) -> None:
        frame: Buffer = frames[0] if frames else b""
        ranges = {r[0]: r for r in message.ranges}
        tasks, results, reports = self.tasks, self.results, self.reports
        totals: dict[bytes, list[int]] = {}
        number = worker.number
        start = 0
        for task, length, microseconds in zip(
            message.tasks, message.lengths, message.durations, strict=True
        ):
            stop = start + length if length > 0 else start
            assignment = tasks.pop(task, None)
            if (
                assignment is None
                or assignment.worker != number
                or assignment.state != _SENT
                or (length == -2 and not self._is_consumed(assignment))
            ) and not self._is_done_by_ghost(worker, assignment, length):
                self._ignore(worker, task, length, ranges, assignment)
                start = stop
                continue
            assert assignment is not None
            assignment.state = _ABSENT
            digest = assignment.layer.function
            total = totals.get(digest)
            if total is None:
                totals[digest] = [1, microseconds]
            else:
                total[0] += 1
                total[1] += microseconds
            passing = assignment.passing
            if length >= 0:
                blob = bytes(frame[start:stop])
                start = stop
                if not passing:
                    results[task] = Result(length, blob)
                    reports.inline(task, assignment.attempt, blob, number)
                elif task in self.uses:
                    results[task] = Result(length, blob)
                    self.passing.add(task)
                    reports.passed(task, assignment.attempt, length, number)
                else:
                    reports.passed(task, assignment.attempt, length, number)
            elif length == -1:
                self._stored(worker, assignment, ranges[task])
            else:
                self._held(worker, assignment, length)
            if self.recalling:
                self.recalling.discard(task)
            if self.suspects:
                self.suspects.pop(task, None)
            if assignment.heirs is not None:
                for heir in assignment.heirs:
                    self._input_here(heir)
            if self.parts:
                self._cut_parts_of(task)
            for source in assignment.inputs:
                self._unuse(source)
        batches.finish(worker, message.tasks)
        if worker.ghosts:
            worker.ghosts.difference_update(message.tasks)
        for digest, (runs, spent) in totals.items():
            self._learn(digest, runs, spent)
            reports.duration(digest, runs, spent)

    @staticmethod
    def _is_done_by_ghost(
        worker: WorkerRecord, assignment: Assignment | None, length: int
    ) -> bool:
        """Whether a dropped attempt did what was to be done again."""
        return (
            length >= -1
            and assignment is not None
            and assignment.state == _READY
            and assignment.task in worker.ghosts
        )

    @staticmethod
    def _is_consumed(assignment: Assignment) -> bool:
        """Whether all who need a result that was not kept have been sent after it."""
        worker = assignment.worker
        return assignment.passing and all(
            heir.state == _SENT and heir.worker == worker for heir in assignment.heirs or ()
        )

    def _cut_parts_of(self, task: int) -> None:
        if task in self.results:
            for part in self._parts_of(task):
                if part not in self.results:
                    self._cut_if_here(part, *self.parts[part])

    def _stored(
        self, worker: WorkerRecord, assignment: Assignment, place: tuple[int, int, int, int]
    ) -> None:
        """A result was written into the store."""
        task, slab, offset, size = place
        granted = self._take_grant(worker, task, slab, offset)
        if granted is None:
            raise ProtocolError(f"a worker wrote task {task} to a range it was not granted")
        self.results[task] = Result(size, place=granted)
        if assignment.passing:
            self.reports.passed(task, assignment.attempt, size, worker.number)
            if task in self.uses:
                self.passing.add(task)
            else:
                self._let_go(task, self.results.pop(task))
        else:
            self.reports.stored(task, assignment.attempt, size, worker.number)

    def _take_grant(
        self, worker: WorkerRecord, task: int, slab: int, offset: int
    ) -> Range | None:
        """Return the range a worker was granted there, which is the result's from now on."""
        key = worker.number, task
        granted = self.grants.get(key, [])
        for place in granted:
            if place.slab == slab and place.offset == offset:
                granted.remove(place)
                if not granted:
                    del self.grants[key]
                return place
        return None

    def _held(self, worker: WorkerRecord, assignment: Assignment, length: int) -> None:
        """A result stays in the worker's heap."""
        task = assignment.task
        if length == -3:
            worker.held.add(task)
            self.results[task] = Result(0, worker=worker.number)
            self.reports.held(task, assignment.attempt, worker.number)
        else:
            self.reports.passed(task, assignment.attempt, 0, worker.number)

    def _ignore(
        self,
        worker: WorkerRecord,
        task: int,
        length: int,
        ranges: dict[int, tuple[int, int, int, int]],
        assignment: Assignment | None,
    ) -> None:
        """A result nobody waits for: of a task that was dropped, or sent elsewhere."""
        if assignment is not None:
            self.tasks[task] = assignment
            if length == -2 and assignment.state == _SENT and assignment.worker == worker.number:
                # It ran, and who needs the result was taken from the worker since.
                self._forget_sent(assignment)
                assignment.state = _WAITING
                self._return([assignment])
        if length == -1 and task in ranges:
            granted = self._take_grant(worker, task, ranges[task][1], ranges[task][2])
            if granted is not None:
                self.memory.free(granted)
        elif length == -3:
            self.effects.to_workers.append((worker.number, Discard([task]), []))

    def _learn(self, digest: bytes, runs: int, microseconds: int) -> None:
        mean = microseconds * 1e-6 / runs
        old = self.durations.get(digest)
        if old is None:
            self.durations[digest] = mean
        else:
            self.durations[digest] = old + (mean - old) * min(0.9, 0.2 + runs / 100)

    def _failed(self, worker: WorkerRecord, message: Failed, frames: Frames) -> None:
        frame = bytes(frames[0]) if frames else b""
        batches.finish(worker, message.tasks)
        for task, which in zip(message.tasks, message.which, strict=True):
            for granted in self.grants.pop((worker.number, task), ()):
                self.memory.free(granted)
            assignment = self.tasks.get(task)
            if (
                assignment is None
                or assignment.worker != worker.number
                or assignment.state != _SENT
            ):
                continue
            self._fail(assignment, message.errors[which], frame, worker.name)
        worker.ghosts.difference_update(message.tasks)

    def _fail(self, assignment: Assignment, error: ErrorInfo, frame: bytes, worker: str) -> None:
        exception = b""
        place = error.exception
        if place is not None:
            exception = frame[place[1] : place[2]]
        told = ErrorInfo(
            error.kind,
            error.type_name,
            error.message,
            error.traceback,
            assignment.task,
            assignment.attempt,
            self.name,
            worker,
            (0, 0, len(exception)) if exception else None,
        )
        message = Failed([assignment.task], [assignment.attempt], [0], [told])
        self.effects.to_scheduler.append((message, [exception]))
        self._leave_unfinished(assignment.task)

    def _sent_to(self, worker: WorkerRecord, tasks: list[int]) -> list[Assignment]:
        """Return those of the tasks that this worker has, not counting dropped ones."""
        found = [self.tasks[task] for task in tasks if task in self.tasks]
        return [a for a in found if a.state == _SENT and a.worker == worker.number]

    def _skipped(self, worker: WorkerRecord, tasks: list[int]) -> None:
        """Not run, because an input failed: the scheduler deals with its consumers."""
        worker.ghosts.difference_update(tasks)
        skipped = self._sent_to(worker, tasks)
        for assignment in skipped:
            self._forget_sent(assignment)
            assignment.state = _WAITING
        self._return(skipped)

    def _recalled(self, worker: WorkerRecord, tasks: list[int]) -> None:
        """A worker gave back tasks it had not started."""
        back: list[Assignment] = []
        worker.ghosts.difference_update(tasks)
        for assignment in self._sent_to(worker, tasks):
            task = assignment.task
            self._forget_sent(assignment)
            assignment.worker = assignment.bound
            if task in self.recalling or self._has_lost_input(assignment):
                assignment.state = _WAITING
                back.append(assignment)
            elif assignment.missing:
                assignment.state = _WAITING
            else:
                assignment.state = _READY
                heapq.heappush(self.ready, (assignment.rank, task, assignment))
        self._return(back)

    def _has_lost_input(self, assignment: Assignment) -> bool:
        """Whether an input was left in the heap of a worker for this task alone."""
        return any(
            source not in self.results
            and source not in self.tasks
            and source not in self.awaited
            and source not in self.parts
            for source in assignment.inputs
        )

    def _reserve(self, worker: WorkerRecord, message: Reserve) -> None:
        place = self.memory.allocate(message.size)
        if place is None:
            reason = (
                f"the store of node {self.name} has no room for {message.size} bytes "
                f"({self.memory.used} are in use); release results, or start the node with "
                "a larger memory limit"
            )
            grant = Grant(message.request, -1, 0, 0, reason)
        else:
            self.grants.setdefault((worker.number, message.task), []).append(place)
            grant = Grant(message.request, place.slab, place.offset, place.length)
        self.effects.to_workers.append((worker.number, grant, []))

    # ------------------------------------------------------------------ a worker's end

    def on_worker_end(self, end: WorkerEnd, now: float) -> None:
        """A worker process ended; only what was running in it is blamed."""
        self.now = now
        worker = self.workers[end.number]
        if end.incarnation != worker.incarnation and worker.is_ready:
            return
        worker.is_ready = False
        worker.ghosts.clear()
        sent = [a for batch in worker.batches for a in batch.tasks.values()]
        running = set(end.running)
        for batch in worker.batches:
            batch.tasks.clear()
        worker.batches.clear()
        for assignment in sent:
            assignment.state = _WAITING
        self.memory.drop_holder(worker.number)
        for key in [key for key in self.grants if key[0] == worker.number]:
            for granted in self.grants.pop(key):
                self.memory.free(granted)
        blamed = [assignment.task for assignment in sent if assignment.task in running]
        if len(blamed) > 1:
            self._suspect(blamed)
        for assignment in sent:
            if assignment.task in running:
                self._fail(assignment, self._killed(worker, end, assignment), b"", worker.name)
        self._return([a for a in sent if a.task not in running])
        lost = [task for task in worker.held if task in self.results]
        for task in lost:
            del self.results[task]
        worker.held.clear()
        if lost:
            gone = set(lost)
            self.effects.to_scheduler.append((Lost(lost), ()))
            self._return([a for a in self.tasks.values() if not gone.isdisjoint(a.inputs)])
        self._tell_workers()
        self.effects.to_start.append(worker.number)

    def _suspect(self, tasks: list[int]) -> None:
        """Remember tasks until they come again; those that went elsewhere not for ever."""
        self.suspects.update(dict.fromkeys(tasks))
        while len(self.suspects) > _SUSPECTS:
            del self.suspects[next(iter(self.suspects))]

    def _killed(self, worker: WorkerRecord, end: WorkerEnd, assignment: Assignment) -> ErrorInfo:
        memory = f"{end.peak_memory / 2**20:.0f} MiB" if end.peak_memory else "unknown"
        message = (
            f"worker {worker.name} (pid {worker.pid}) {end.cause} while it ran a task of "
            f"{assignment.layer.name!r}; peak memory {memory}"
        )
        if end.output:
            message += f"; its last output:\n{end.output}"
        return ErrorInfo(
            "killed", "zcluster.errors.WorkerKilledError", message, "", 0, 0, "", worker.name
        )

    # ------------------------------------------------------------------------- effects

    def on_time(self, now: float) -> None:
        """Time passed: look for batches that are stuck beside idle slots."""
        self.now = now
        batches.ask_back(self)

    def flush(self, now: float) -> Effects:
        """Fill free slots, and return all that is to be done."""
        self.now = now
        if self.ready:
            batches.fill(self)
        if self.reports:
            # First what was done: the rest may say that some of it is lost again.
            self.effects.to_scheduler.insert(0, self.reports.take())
        effects = self.effects
        self.effects = Effects()
        return effects

    def send_run(self, worker: int, message: Run, frames: list[Buffer]) -> None:
        """Send a batch to a worker."""
        self.effects.to_workers.append((worker, message, frames))
