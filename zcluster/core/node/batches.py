"""Which tasks go to which worker, and when: the node's own dispatch.

A batch is some milliseconds of work for one slot, sent in one message and run
back to back. A slot may have a second batch queued behind the running one as long
as tasks are short; long tasks are bound late, so that no idle slot waits beside a
queue. A task whose missing inputs are all in the batch goes in the same batch: a
chain or a subtree runs in the worker with no message in between. What alone takes the
results of longer tasks goes with them too, and large results need no room in the store.

A task that takes several slots goes alone, to a worker where so many are free. The
first worker large enough is kept free for it, or small tasks would pass it by for ever.
One with a time limit, or that runs at most once, goes alone too: see `stopping`.
"""

from __future__ import annotations

import heapq
from enum import Enum, auto
from typing import TYPE_CHECKING

from zcluster.core.node.records import Assignment, Batch, WorkerRecord
from zcluster.core.node.states import State
from zcluster.protocol.messages import Recall, Run, Span

if TYPE_CHECKING:
    from zcluster.core.node.core import NodeCore

__all__ = ["ask_back", "fill", "finish", "runs_once"]

#: Seconds up to which a task makes nothing large.
_TRIVIAL = 50e-6
_READY, _SENT, _WAITING = State.READY, State.SENT, State.WAITING


def fill(core: NodeCore) -> None:
    """Send batches to all slots that can take one."""
    for task in list(core.reserved):
        assignment = core.tasks.get(task)
        if assignment is None or assignment.state != _READY:
            del core.reserved[task]
    open_workers = [worker for worker in core.workers.values() if _takes(core, worker)]
    while core.ready and open_workers:
        # The emptiest first; each in turn, so that work spreads before it queues.
        open_workers.sort(key=lambda worker: len(worker.batches) / worker.slots)
        sent = False
        for worker in list(open_workers):
            if _send_batch(core, worker, _slots_left(core, open_workers)):
                sent = True
                if not _takes(core, worker):
                    open_workers.remove(worker)
                break
            open_workers.remove(worker)
        if not sent and not open_workers:
            return


def _takes(core: NodeCore, worker: WorkerRecord) -> bool:
    """Whether a worker may be sent another batch."""
    if not worker.is_taking:
        return False
    if core.suspects and any(
        task in core.suspects and task not in worker.blocked
        for batch in worker.batches
        for task in batch.tasks
    ):
        return False
    # A dropped task that was running runs on, and holds its slot until it says so.
    free = worker.free
    if free > 0:
        return True
    if worker.ghosts or free <= -worker.slots:
        return False
    return all(
        batch.expected <= 2 * core.settings.batch_seconds and len(batch.tasks) > 1
        for batch in worker.batches
    )


def _slots_left(core: NodeCore, workers: list[WorkerRecord]) -> int:
    return max(1, sum(max(0, worker.free) for worker in workers))


def _send_batch(core: NodeCore, worker: WorkerRecord, slots_left: int) -> bool:
    """Make a batch for one slot and send it; False if nothing here is for this worker."""
    chosen = _choose(core, worker, slots_left)
    if not chosen:
        return False
    expected = sum(_cost(core, assignment) for assignment in chosen)
    number = core.next_batch
    core.next_batch += 1
    tasks = {assignment.task: assignment for assignment in chosen}
    threads = chosen[0].layer.threads
    worker.batches.append(Batch(number, core.now, expected, tasks, threads))
    if (limit := chosen[0].layer.timeout) > 0:
        core.limits[chosen[0].task] = (core.now + limit, chosen[0])
    _Message(core, worker, chosen, tasks).send()
    return True


def _cost(core: NodeCore, assignment: Assignment) -> float:
    learned = core.durations.get(assignment.layer.function)
    if learned is None:
        return core.settings.batch_seconds
    return max(learned, core.settings.least_cost)


def _choose(core: NodeCore, worker: WorkerRecord, slots_left: int) -> list[Assignment]:
    """Take ready tasks by rank, and tasks that follow from them, up to a batch's time."""
    ready = core.ready
    settings = core.settings
    left = settings.batch_seconds
    share = -(-len(ready) // slots_left)
    chosen: list[Assignment] = []
    following: list[tuple[int, int, Assignment]] = []
    kept: list[tuple[int, int, Assignment]] = []
    stranded: list[Assignment] = []
    batch = core.next_batch
    number = worker.number
    taken = 0
    cost = 0.0
    spilling = core.spilling
    spilled = spilling.spilled
    while left > 0 and len(chosen) < settings.batch:
        if following and (not ready or taken >= share or following[0][0] < ready[0][0]):
            assignment = heapq.heappop(following)[2]
            if assignment.task in worker.ghosts or assignment.task in core.suspects:
                continue
            if spilled and not spilling.is_open(assignment):
                continue
        elif ready and taken < share:
            entry = heapq.heappop(ready)
            assignment = entry[2]
            if assignment.state != _READY:
                continue
            bound = assignment.worker
            if (
                (bound >= 0 and bound != number)
                or assignment.task in worker.ghosts
                or not _holds_for(core, assignment, number)
            ):
                if _is_stranded(core, assignment):
                    stranded.append(assignment)
                else:
                    kept.append(entry)
                continue
            if spilled and not spilling.is_open(assignment):
                spilling.sleep(entry)
                continue
            if core.suspects or assignment.alone:
                turn = _turn(core, worker, assignment, is_first=not chosen)
                if turn is _Turn.HOLD or turn is _Turn.LATER:
                    kept.append(entry)
                    if turn is _Turn.HOLD:
                        break
                    continue
                if turn is _Turn.ALONE:
                    left = 0.0
            taken += 1
        else:
            break
        cost = _cost(core, assignment)
        if chosen and cost > left:
            # It would hold up what is in the batch already.
            entry = (assignment.rank, assignment.task, assignment)
            (kept if assignment.state == _READY else following).append(entry)
            break
        left -= cost
        assignment.state = _SENT
        assignment.worker = number
        chosen.append(assignment)
        # What stands for an actor is to be had from the outside alone.
        if assignment.heirs is not None and not assignment.layer.actor:
            _follow(assignment.heirs, batch, number, following)
    if cost > _TRIVIAL and chosen and not (chosen[0].alone or core.suspects or spilled):
        _finish_group(core, worker, chosen, following, share - taken)
    for entry in kept:
        heapq.heappush(ready, entry)
    for assignment in stranded:
        core.fail_input(assignment, "serialize", "it lives in a worker where this task may not run")
    return chosen


def _finish_group(
    core: NodeCore,
    worker: WorkerRecord,
    chosen: list[Assignment],
    following: list[tuple[int, int, Assignment]],
    spare: int,
) -> None:
    """Add to a batch what uses up its results, though its time is over.

    Such a task can run nowhere sooner, and what it takes never leaves the worker's heap: large
    results need no room in the store. If its other inputs are ready too, and enough is left for
    other slots (``spare`` tasks), they go with it.
    """
    batch, number = core.next_batch, worker.number
    left = core.settings.group_seconds - sum(_longer_cost(core, a) for a in chosen)
    heir = _only_heir(chosen[-1])
    if heir is not None and heir.ahead < heir.missing:
        others = _other_inputs(core, worker, heir, batch)
        if len(others) == heir.missing - heir.ahead and len(others) <= spare:
            left -= sum(_longer_cost(core, other) for other in others)
            if left > 0:
                for other in others:
                    _send_along(other, batch, number, chosen, following)
    heapq.heapify(following)
    while following and left > 0 and len(chosen) < core.settings.batch:
        heir = heapq.heappop(following)[2]
        left -= _longer_cost(core, heir)
        if left > 0 and heir.task not in worker.ghosts and _uses_up(core, heir):
            _send_along(heir, batch, number, chosen, following)


def _send_along(
    assignment: Assignment,
    batch: int,
    worker: int,
    chosen: list[Assignment],
    following: list[tuple[int, int, Assignment]],
) -> None:
    assignment.state = _SENT
    assignment.worker = worker
    chosen.append(assignment)
    if assignment.heirs is not None and not assignment.layer.actor:
        _follow(assignment.heirs, batch, worker, following)


def _longer_cost(core: NodeCore, assignment: Assignment) -> float:
    """Return what a task may cost, in seconds: of one never seen, that it may be long."""
    learned = core.durations.get(assignment.layer.function)
    return core.settings.group_seconds / 4 if learned is None else learned


def _only_heir(assignment: Assignment) -> Assignment | None:
    """Return the task for which alone a result is made, if it is here and waits."""
    heirs = assignment.heirs
    if not heirs or not assignment.passing or assignment.layer.actor:
        return None
    heir = heirs[0]
    if heir.state != _WAITING or any(other is not heir for other in heirs):
        return None
    return heir


def _uses_up(core: NodeCore, heir: Assignment) -> bool:
    """Whether the results that a task waits for are made for it alone."""
    for source in heir.inputs:
        maker = core.tasks.get(source)
        if maker is not None and _only_heir(maker) is not heir:
            return False
    return True


def _other_inputs(
    core: NodeCore, worker: WorkerRecord, heir: Assignment, batch: int
) -> list[Assignment]:
    """Return those inputs of a task that could be made for it in the same batch."""
    if (heir.worker >= 0 and heir.worker != worker.number) or heir.alone:
        return []
    found: dict[int, Assignment] = {}
    for source in heir.inputs:
        maker = core.tasks.get(source)
        if (
            maker is not None
            and maker.state == _READY
            and maker.worker < 0
            and not maker.alone
            and maker.layer.threads == 1
            and source not in worker.ghosts
            and _only_heir(maker) is heir
            and _holds_for(core, maker, worker.number)
        ):
            found[source] = maker
    return list(found.values())


def _follow(
    heirs: list[Assignment],
    batch: int,
    worker: int,
    following: list[tuple[int, int, Assignment]],
) -> None:
    """Note that an input of some tasks is in the batch; queue those with all there."""
    for heir in heirs:
        if heir.ahead_of != batch:
            heir.ahead_of = batch
            heir.ahead = 1
        else:
            heir.ahead += 1
        if (
            heir.ahead == heir.missing
            and heir.state == _WAITING
            and (heir.worker < 0 or heir.worker == worker)
            and not heir.alone
        ):
            heapq.heappush(following, (heir.rank, heir.task, heir))


class _Turn(Enum):
    """What a ready task may do now."""

    #: Go with the batch.
    GO = auto()
    #: Go, and nothing else with it.
    ALONE = auto()
    #: Wait, while others go before it.
    LATER = auto()
    #: Wait, and nothing more goes to this worker until it can.
    HOLD = auto()


def _turn(core: NodeCore, worker: WorkerRecord, assignment: Assignment, is_first: bool) -> _Turn:
    """Return what a task may do that goes alone, or that may have killed a worker."""
    is_suspect = assignment.task in core.suspects
    if is_suspect and not (is_first and worker.free >= worker.slots):
        return _Turn.HOLD
    if assignment.layer.threads > 1 and not (is_first and _has_slots(core, worker, assignment)):
        return _Turn.HOLD if _is_reserved(core, worker, assignment) else _Turn.LATER
    if assignment.alone and not (is_first and worker.free > 0):
        return _Turn.HOLD
    if assignment.layer.at_most_once and worker.stopping and not worker.blocked:
        # It would put off the end of what is to stop. What waits there may wait for it.
        return _Turn.LATER
    return _Turn.ALONE if is_suspect or assignment.alone else _Turn.GO


def runs_once(worker: WorkerRecord) -> bool:
    """Whether a worker may run a task that cannot run again."""
    return any(
        assignment.layer.at_most_once
        for batch in worker.batches
        for assignment in batch.tasks.values()
    )


def _has_slots(core: NodeCore, worker: WorkerRecord, assignment: Assignment) -> bool:
    """Whether a worker has as many free slots as a task takes; if not, it may wait for them.

    The first worker that is large enough is kept from other work until they are free.
    """
    threads = assignment.layer.threads
    if worker.free >= threads:
        core.reserved.pop(assignment.task, None)
        return True
    if worker.slots >= threads:
        waits = core.workers.get(core.reserved.get(assignment.task, -1))
        if waits is None or not waits.is_taking:
            core.reserved[assignment.task] = worker.number
    return False


def _is_reserved(core: NodeCore, worker: WorkerRecord, assignment: Assignment) -> bool:
    """Whether nothing more may go to a worker, as a task waits for its slots."""
    return core.reserved.get(assignment.task) == worker.number


def _is_stranded(core: NodeCore, assignment: Assignment) -> bool:
    """Whether inputs that cannot be pickled are held in workers other than the task's own."""
    places = {assignment.worker} if assignment.worker >= 0 else set()
    for source in assignment.inputs:
        result = core.results.get(source)
        if result is not None and result.worker >= 0:
            places.add(result.worker)
    return len(places) > 1


def _holds_for(core: NodeCore, assignment: Assignment, worker: int) -> bool:
    """Whether no input of a task is in the heap of another worker."""
    for source in assignment.inputs:
        result = core.results.get(source)
        if result is not None and result.worker >= 0 and result.worker != worker:
            return False
    return True


class _Message:
    """A `Run` message in the making."""

    def __init__(
        self,
        core: NodeCore,
        worker: WorkerRecord,
        chosen: list[Assignment],
        tasks: dict[int, Assignment],
    ) -> None:
        self._core = core
        self._worker = worker
        self._chosen = chosen
        self._tasks = tasks
        self._ranges: list[tuple[int, int, int, int]] = []
        self._inline: list[tuple[int, int]] = []
        self._blobs: list[bytes] = []
        self._cuts: list[tuple[int, int, list[int]]] = []
        self._known: set[int] = set()
        self._uses: dict[int, int] = {}

    def send(self) -> None:
        """Put the columns together and send them."""
        chosen = self._chosen
        arities: list[int] = []
        inputs: list[int] = []
        groups: list[list[int]] = []
        runs: list[tuple[bytes, int, int]] = []
        functions: list[tuple[bytes, Span]] = []
        function_bytes = bytearray()
        offsets: list[int] = [0]
        constants: list[bytes] = []
        end = 0
        has_groups = has_actors = False
        layer = None
        run = 0
        for assignment in chosen:
            if assignment.layer is not layer:
                if layer is not None:
                    runs.append((layer.function, layer.call, run))
                layer, run = assignment.layer, 0
                self._introduce(layer.function, functions, function_bytes)
                has_groups = has_groups or bool(layer.whole)
                has_actors = has_actors or layer.actor
            run += 1
            if assignment.inputs:
                inputs.extend(assignment.inputs)
                for source in assignment.inputs:
                    self._bring(source)
            arities.append(len(assignment.inputs))
            if assignment.constant:
                constants.append(assignment.constant)
                end += len(assignment.constant)
            offsets.append(end)
        if layer is not None:
            runs.append((layer.function, layer.call, run))
        if has_groups:
            groups = [[count for _, count in a.layer.whole] for a in chosen]
        uses, report = self._fates()
        frames: list[bytes] = [b"".join(constants), b"".join(self._blobs)]
        if function_bytes:
            frames.append(bytes(function_bytes))
        message = Run(
            functions,
            runs,
            list(self._tasks),
            arities,
            inputs,
            groups,
            offsets if end else [],
            self._ranges,
            self._inline,
            uses,
            report,
            self._cuts,
            chosen[0].layer.threads,
            self._actors() if has_actors else [],
        )
        self._core.send_run(self._worker.number, message, list(frames))

    def _actors(self) -> list[int]:
        actors = [assignment.task for assignment in self._chosen if assignment.layer.actor]
        for task in actors:
            self._core.note_making(self._worker.number, task)
        return actors

    def _introduce(
        self, digest: bytes, functions: list[tuple[bytes, Span]], data: bytearray
    ) -> None:
        if digest and digest not in self._worker.functions:
            self._worker.functions.add(digest)
            start = len(data)
            data += self._core.functions[digest]
            functions.append((digest, (2, start, len(data))))

    def _bring(self, source: int) -> None:
        """Say where an input is: in this batch, in the store, or in the message."""
        if source in self._tasks:
            self._uses[source] = self._uses.get(source, 0) + 1
            return
        if source in self._known:
            return
        self._known.add(source)
        core = self._core
        result = core.results[source]
        if result.uncut:
            whole, kind, selection = core.parts[source]
            self._cuts.append((source, kind, selection))
            if result.borrowed:
                result = core.results[whole]
                core.spilling.touch(whole)
        if result.blob is not None:
            self._inline.append((source, len(result.blob)))
            self._blobs.append(result.blob)
        elif result.place is not None:
            place = result.place
            core.memory.lease(place, self._worker.number)
            core.spilling.touch(source)
            self._ranges.append((source, place.slab, place.offset, place.length))

    def _fates(self) -> tuple[list[int], list[int]]:
        """For each task: its uses in the batch, and whether it must be reported.

        A result that cannot be pickled may stay in the worker (2), for tasks there.
        """
        uses: list[int] = []
        report: list[int] = []
        mine = self._uses
        all_uses = self._core.uses
        for assignment in self._chosen:
            task = assignment.task
            here = mine.get(task, 0)
            uses.append(here)
            report.append(0 if assignment.passing and all_uses.get(task, 0) == here else 2)
        return uses, report


def finish(worker: WorkerRecord, tasks: list[int]) -> None:
    """Take reported tasks out of a worker's batches."""
    left = worker.batches
    for batch in left:
        open_tasks = batch.tasks
        for task in tasks:
            open_tasks.pop(task, None)
    worker.batches = [batch for batch in left if batch.tasks]


def ask_back(core: NodeCore) -> None:
    """When a slot is idle, ask for part of what is stuck in another worker."""
    if core.ready:
        return
    idle = [w for w in core.workers.values() if w.is_taking and w.free > 0]
    if not idle:
        return
    for worker in core.workers.values():
        late = [
            batch
            for batch in worker.batches
            if len(batch.tasks) > 1
            and core.now - batch.sent_at > batch.expected + core.settings.stuck_after
        ]
        if not late or core.now - worker.recall_asked < core.settings.stuck_after:
            continue
        wanted: list[int] = []
        for batch in late:
            wanted.extend(_movable(batch))
        if wanted:
            worker.recall_asked = core.now
            core.effects.to_workers.append((worker.number, Recall(wanted), []))


def _movable(batch: Batch) -> list[int]:
    """Return the later half of a batch, less what follows from its first half."""
    tasks = list(batch.tasks.values())
    stay = {assignment.task for assignment in tasks[: (len(tasks) + 1) // 2]}
    moved: list[int] = []
    for assignment in tasks[len(stay) :]:
        if stay.isdisjoint(assignment.inputs) and assignment.worker >= 0:
            moved.append(assignment.task)
        else:
            stay.add(assignment.task)
    return moved
