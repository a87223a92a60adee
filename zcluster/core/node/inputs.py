"""What a node's tasks take, and how long it is kept: the lowest part of the node core.

Who keeps a result how long:

* made here and reported: until the scheduler says `Free`;
* *passing* (only tasks of this node need it): until its last use here; if all its
  consumers are in the batch that makes it, it never leaves the worker's heap;
* fetched or cut (*lent*): until its last use here.

A task that leaves the node unfinished (recalled, dropped, failed, killed) leaves
its inputs: passing ones among them are kept from then on until `Free`.

A part of a result, asked for by a selection, has a number of its own, below zero,
and is an input like any other; while it is not cut it counts as one use of the
result it is of.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable

from msgspec.structs import replace

from zcluster.core.node import copying
from zcluster.core.node.records import (
    Assignment,
    Effects,
    FetchOrder,
    Memory,
    NodeSettings,
    Result,
    WorkerRecord,
)
from zcluster.core.node.reports import Reports
from zcluster.core.node.room import Room
from zcluster.core.node.spilling import Spilling
from zcluster.core.node.states import State
from zcluster.graph.columns import slot_width
from zcluster.protocol.messages import (
    Discard,
    ErrorInfo,
    Failed,
    Grant,
    Lost,
    Message,
    NodeInfo,
    NodeLayer,
    Recalled,
    Slot,
    Unreachable,
)
from zcluster.storage.arena import Range
from zcluster.types import Frames

__all__ = ["NodeInputs"]

_WAITING, _READY, _SENT, _ABSENT = State.WAITING, State.READY, State.SENT, State.ABSENT
_WHOLE = Slot()


class NodeInputs:
    """The state of a node, and the lifetimes of inputs and results.

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
        #: Their numbers by the result they are of.
        self.parts_of: dict[int, dict[int, None]] = {}
        self.part_numbers: dict[tuple[int, int, tuple[int, ...]], int] = {}
        self.places: dict[int, tuple[int, list[int]]] = {}
        self.nodes: dict[int, NodeInfo] = {}
        #: Results on their way here that the scheduler wants kept.
        self.copying: set[int] = set()
        self.told: list[tuple[Message, Frames]] = []
        #: Sent tasks that the scheduler, not the nanny, wants back.
        self.recalling: set[int] = set()
        #: Room given to workers for results they have not reported: by (worker, task).
        #: A task has more than one range where a dropped attempt still runs.
        self.grants: dict[tuple[int, int], list[Range]] = {}
        #: Tasks of which some took a worker down, that ran several: each runs alone next time.
        self.suspects: dict[int, None] = {}
        #: Workers kept free for tasks that take several slots, by task.
        self.reserved: dict[int, int] = {}
        #: Results whose places are kept, for layers that take all of a layer.
        self.pinned: dict[int, int] = {}
        #: When tasks that run must have ended, by task.
        self.limits: dict[int, tuple[float, Assignment]] = {}
        self.reports = Reports()
        self.effects = Effects()
        self.spilling = Spilling(self)
        self.room = Room(self)
        #: All workers are paused: what is assigned goes back.
        self.is_paused = False
        #: All workers are paused because there is no room for results.
        self.is_short = False
        #: Workers that are to end and were not told to stop yet.
        self.leaving: set[int] = set()
        self.next_part = -1
        self.next_batch = 1
        self.now = 0.0

    def _await(self, source: int, assignment: Assignment) -> None:
        """Wait for an input that no task here makes: fetch it."""
        waiting = self.awaited.get(source)
        if waiting is not None:
            waiting.append(assignment)
            return
        self.awaited[source] = [assignment]
        task, kind, selection = self.parts.get(source, (source, 0, []))
        maker = self.tasks.get(task) if source < 0 else None
        if maker is None and task not in self.results and source not in self.copying:
            self._fetch(source, task, kind, selection)

    def _fetch(self, source: int, task: int, kind: int, selection: list[int]) -> None:
        size, nodes = self.places.get(task, (0, []))
        self.effects.to_fetch.append(FetchOrder(source, task, kind, selection, size, nodes))

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
            self.parts_of.setdefault(task, {})[number] = None
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
                self.fail_input(assignment, "serialize", reason)
            return
        # A part of what is on disk is cut by who takes it, of what it maps: that needs no room.
        cut = None if task in self.spilling.spilled else self.memory.cut(result, kind, selection)
        if cut is not None:
            self.arrived(number, cut)
            self._unuse(task)
            return
        # It keeps its use of the whole result, whose bytes it shows.
        whole = Result(result.size, lent=True, borrowed=True, uncut=True)
        self.arrived(number, whole)

    def _cut_parts_of(self, task: int) -> None:
        if task in self.results:
            for part in list(self.parts_of.get(task, ())):
                # One whose task failed while another was cut is gone.
                if part in self.parts and part not in self.results:
                    self._cut_if_here(part, *self.parts[part])

    def arrived(self, number: int, result: Result) -> None:
        """A result, or a part of one, is here; wake what waits for it."""
        self.results[number] = result
        if result.place is not None:
            self.spilling.note(number, result)
        for assignment in self.awaited.pop(number, ()):
            self._input_here(assignment)
        if number in self.parts_of:
            self._cut_parts_of(number)

    def _input_here(self, assignment: Assignment) -> None:
        assignment.missing -= 1
        if assignment.missing == 0 and assignment.state == _WAITING:
            assignment.state = _READY
            heapq.heappush(self.ready, (assignment.rank, assignment.task, assignment))

    def on_fetched(self, number: int, result: Result, now: float) -> None:
        """The driver brought an input."""
        self.now = now
        if number in self.copying:
            if number in self.results:  # it came with a task meanwhile
                self._let_go(number, result)
                result = self.results[number]
            copying.keep(self, number, result)
            return
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
        # It may have been fetched for tasks here; from now on it is this node's own.
        self.passing.discard(task)
        self.arrived(task, result)

    def on_unfetched(
        self, number: int, node: int, now: float, kind: str = "", reason: str = ""
    ) -> None:
        """An input could not be had from a node.

        The tasks that wait go back; with a kind of error, which is final, they fail.
        """
        self.now = now
        waiting = list(self.awaited.get(number, ()))
        if number in self.copying:
            copying.miss(self, number)
        if not waiting or number in self.results:
            # Nobody waits for it any more. Who says of it that it is not here might speak of a
            # result that was made here meanwhile, and is passing.
            return
        task = self.parts[number][0] if number in self.parts else number
        self.places.pop(task, None)
        if kind:
            for assignment in waiting:
                self.fail_input(assignment, kind, reason)
            return
        self.effects.to_scheduler.append((Unreachable([task], node), ()))
        self._return(waiting)

    def fail_input(self, assignment: Assignment, kind: str, reason: str) -> None:
        """Fail a task because an input can never reach a worker where it could run."""
        message = f"an input of {assignment.layer.name!r} cannot be brought to it: {reason}"
        names = {"store": "StoreFull", "disk": "OutOfDisk"}
        name = names.get(kind, "ResultNotSerializable")
        error = ErrorInfo(kind, f"zcluster.errors.{name}", message, "", 0, 0, "", "")
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
            siblings = self.parts_of[task]
            del siblings[number]
            if not siblings:
                del self.parts_of[task]
            if result is None or result.borrowed:
                self._unuse(task)
        elif self.places and number not in self.pinned:
            self.places.pop(number, None)

    def _drop_parts(self, inputs: list[int]) -> None:
        """Forget parts that were cut for a task that is not to run after all."""
        for number in inputs:
            if number < 0 and number not in self.uses and number in self.parts:
                self._unuse(number)

    def _let_go(self, number: int, result: Result) -> None:
        if result.place is not None:
            self._free_place(number, result)
        elif result.worker >= 0:
            worker = self.workers[result.worker]
            if number in worker.held:
                worker.held.discard(number)
                self.effects.to_workers.append((worker.number, Discard([number]), []))

    def grant(self, worker: int, task: int, request: int, place: Range) -> None:
        """Give a worker room for a result."""
        self.grants.setdefault((worker, task), []).append(place)
        answer = Grant(request, place.slab, place.offset, place.length)
        self.effects.to_workers.append((worker, answer, []))

    def let_go(self, number: int, result: Result) -> None:
        """Give back what a result takes that nobody needs."""
        self._let_go(number, result)

    def _free_place(self, number: int, result: Result) -> None:
        """Give back a result's room in the store, if it has any there."""
        if result.place is not None:
            self.spilling.forget(number, result)
            self.memory.free(result.place)
            self.charge(result.maker, -result.place.length)

    def charge(self, maker: int, change: int) -> None:
        """Bytes of the store came to be, or are no more, taken by what a worker made."""
        if maker >= 0:
            self.workers[maker].made += change

    def give_back(self, assignments: list[Assignment]) -> None:
        """Have the scheduler give tasks that have not begun to others."""
        self._return(assignments)

    def _return(self, assignments: list[Assignment]) -> None:
        """Give assigned tasks back to the scheduler."""
        if not assignments:
            return
        tasks = [assignment.task for assignment in assignments]
        attempts = [assignment.attempt for assignment in assignments]
        # First what became of the tasks, then what of their inputs is lost with them.
        self.effects.to_scheduler.append((Recalled(tasks, attempts), ()))
        among = set(tasks)
        for task in tasks:
            self._leave_unfinished(task, among)

    def _fail(self, assignment: Assignment, error: ErrorInfo, frame: bytes, worker: str) -> None:
        exception = b""
        place = error.exception
        if place is not None:
            exception = frame[place[1] : place[2]]
        told = replace(
            error,
            origin=assignment.task,
            attempt=assignment.attempt,
            node=self.name,
            worker=worker,
            exception=(0, 0, len(exception)) if exception else None,
        )
        message = Failed([assignment.task], [assignment.attempt], [0], [told])
        self.effects.to_scheduler.append((message, [exception]))
        self._leave_unfinished(assignment.task)

    def _leave_unfinished(self, task: int, among: Collection[int] = ()) -> None:
        """Forget an assigned task, keeping its inputs for whoever runs it.

        Those ``among`` which it leaves were not made here, whatever is left of them.
        """
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
                is_known = result is not None or source in self.tasks or source in self.awaited
                if not is_known and source not in among:
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
