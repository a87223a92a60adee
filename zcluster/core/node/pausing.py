"""Workers that take no more work for now: paused, and running again.

A worker is paused for a cause (its memory, a full disk, a process that cannot be
started), and for several at a time; it runs again when the last is gone. What it runs
goes on; what it has queued comes back, to the other workers of the node or, where all
are paused, to the scheduler. The scheduler is told with the reason, for people.

One kind of task stays here: what takes a result that lives in the heap of a worker can
run nowhere else, and waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcluster.core.node.records import Assignment, WorkerEnd, WorkerRecord
from zcluster.core.node.states import State
from zcluster.protocol.messages import Blocked, Recall

if TYPE_CHECKING:
    from zcluster.core.node.attempts import NodeAttempts

__all__ = [
    "FAILED_START",
    "MEMORY",
    "RETIRING",
    "ended",
    "give_back",
    "pause",
    "resume",
    "started",
    "status",
]

#: Causes: it has more memory than it should; its process could not be started.
MEMORY = "memory"
FAILED_START = "start"
#: It is to end, and is not started again.
RETIRING = "retiring"


def pause(
    core: NodeAttempts, cause: str, reason: str, workers: Iterable[int] | None = None
) -> list[WorkerRecord]:
    """Send no more work to workers (all, if none are named) until `resume`.

    Parameters
    ----------
    core : NodeAttempts
    cause : str
        A short key, such as ``memory``; see `resume`.
    reason : str
        For people: a sentence without its full stop.
    workers : iterable of int, optional

    Returns
    -------
    paused : list of WorkerRecord
        Those that were running until now.
    """
    changed: list[WorkerRecord] = []
    for worker in _workers(core, workers):
        if cause in worker.pauses:
            continue
        if not worker.pauses:
            changed.append(worker)
        worker.pauses[cause] = reason
    if not changed:
        return changed
    core.tell_workers()
    _note_paused(core)
    for worker in changed:
        # What has begun stays there; the answer is what has not.
        queued = [task for batch in worker.batches for task in batch.tasks]
        if queued:
            core.effects.to_workers.append((worker.number, Recall(queued), []))
            _set_aside(core, worker)
    return changed


def _set_aside(core: NodeAttempts, worker: WorkerRecord) -> None:
    """Tell the scheduler that what runs in a paused worker holds no slot that counts.

    Or a long task there would keep as much work away from the other workers.
    """
    running = [next(iter(batch.tasks)) for batch in worker.batches[: worker.slots]]
    worker.aside.update(running)
    core.effects.to_scheduler.append((Blocked(running, True), ()))


def resume(
    core: NodeAttempts, cause: str, workers: Iterable[int] | None = None
) -> list[WorkerRecord]:
    """Take a cause back; return the workers that run again."""
    changed: list[WorkerRecord] = []
    for worker in _workers(core, workers):
        if worker.pauses.pop(cause, None) is not None and not worker.pauses:
            changed.append(worker)
    if changed:
        core.tell_workers()
        _note_paused(core)
    for worker in changed:
        running = {task for batch in worker.batches for task in batch.tasks} - worker.blocked
        again = sorted(running & worker.aside)
        worker.aside.clear()
        if again:
            core.effects.to_scheduler.append((Blocked(again, False), ()))
    return changed


def _workers(core: NodeAttempts, workers: Iterable[int] | None) -> list[WorkerRecord]:
    """Return the workers with these numbers, or all."""
    if workers is None:
        return list(core.workers.values())
    return [core.workers[number] for number in workers]


def started(core: NodeAttempts, worker: WorkerRecord) -> None:
    """Take note that a worker's process is up."""
    worker.pauses.pop(FAILED_START, None)
    _note_paused(core)


def ended(core: NodeAttempts, worker: WorkerRecord, end: WorkerEnd) -> None:
    """Take note that a worker's process is gone, and its memory with it."""
    worker.pauses.pop(MEMORY, None)
    worker.aside.clear()
    if not worker.is_ready and RETIRING not in worker.pauses:
        last = end.output.strip().rpartition("\n")[2]
        reason = f"its process {end.cause} before it was ready"
        worker.pauses[FAILED_START] = f"{reason}: {last}" if last else reason
    _note_paused(core)


def status(worker: WorkerRecord) -> tuple[str, str]:
    """Return how a worker is, and why, as `zcluster.protocol.records.WorkerInfo` has it."""
    if RETIRING in worker.pauses:
        return "retiring", worker.pauses[RETIRING]
    if worker.pauses:
        return "paused", "; ".join(worker.pauses.values())
    return "running", ""


def _note_paused(core: NodeAttempts) -> None:
    workers = core.workers.values()
    core.is_paused = any(w.pauses for w in workers) and not any(w.is_taking for w in workers)


def give_back(core: NodeAttempts) -> None:
    """Return what has not begun, as all workers are paused; others may run it."""
    kept = [
        assignment
        for assignment in core.tasks.values()
        if assignment.state != State.SENT
        and (_takes_held(core, assignment) or core.room.stays(assignment))
    ]
    # What follows from a task that stays can run nowhere else either.
    stays = {assignment.task for assignment in kept}
    given: list[Assignment] = []
    for assignment in core.tasks.values():
        if assignment.state == State.SENT or assignment.task in stays:
            continue
        if stays.isdisjoint(assignment.inputs):
            given.append(assignment)
    core.give_back(given)
    core.room.note_given_back()


def _takes_held(core: NodeAttempts, assignment: Assignment) -> bool:
    for source in assignment.inputs:
        result = core.results.get(source)
        if result is not None and result.worker >= 0:
            return True
    return False
