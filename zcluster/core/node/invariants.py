"""What must hold of a node's state between events, counted from scratch.

Tests call `check` after every event, production never. `check_empty` says what must
hold once the scheduler has freed everything: no result, no use, no room in the store.
"""

from __future__ import annotations

from zcluster.core.node.core import NodeCore
from zcluster.core.node.records import Assignment
from zcluster.core.node.states import State
from zcluster.errors import InvariantError

__all__ = ["check", "check_empty"]

_WAITING, _READY, _SENT = State.WAITING, State.READY, State.SENT


def check(core: NodeCore) -> None:
    """Walk the whole state, as it is between two events.

    Raises
    ------
    InvariantError
        If something contradicts itself; it names the node and the task.
    """
    _check_uses(core)
    queued = set(core.spilling.opening)
    for queue in (core.ready, core.spilling.asleep):
        queued.update([entry[1] for entry in queue if entry[2].state == _READY])
    for task, assignment in core.tasks.items():
        # What was sent may have its input from the heap of its worker, whatever becomes of the
        # input's task once more.
        if assignment.state != _SENT:
            _check_assignment(core, assignment, task in queued)
    _check_batches(core)
    _check_awaited(core)
    _check_results(core)
    _check_parts(core)
    _check_calls(core)
    for wrong in core.spilling.check():
        raise InvariantError(f"node {core.name}: {wrong}")


def check_empty(core: NodeCore) -> None:
    """Check that nothing is left of what the scheduler let go of.

    Raises
    ------
    InvariantError
        If something is.
    """
    check(core)
    tables = {
        "tasks": core.tasks,
        "results": core.results,
        "uses": core.uses,
        "passing": core.passing,
        "layers": core.layers,
        "awaited": core.awaited,
        "parts": core.parts,
        "places": core.places,
        "pinned": core.pinned,
        "recalling": core.recalling,
        "grants": core.grants,
        "actors": core.actors,
        "actors in the making": core.making,
        "actors placed": {task for task in core.placed if task in core.tasks},
    }
    for name, table in tables.items():
        if table:
            raise InvariantError(
                f"node {core.name}: nothing is needed any more, but {name} still has {table!r}"
            )
    if not (core.room.is_idle and core.spilling.is_idle):
        raise InvariantError(f"node {core.name}: somebody waits for room, or for the disk")
    if core.memory.spilled:
        raise InvariantError(f"node {core.name}: {core.memory.spilled} bytes stay on disk")
    if core.memory.used:
        raise InvariantError(f"node {core.name}: {core.memory.used} bytes of its store stay in use")


def _fail(core: NodeCore, task: int, text: str) -> InvariantError:
    assignment = core.tasks.get(task)
    state = assignment.state.name if assignment is not None else "not assigned"
    return InvariantError(f"node {core.name}, task {task} ({state}): {text}")


def _check_uses(core: NodeCore) -> None:
    """A result is used by each edge to it, and by each part of it that is not here yet."""
    uses: dict[int, int] = {}
    for assignment in core.tasks.values():
        for source in assignment.inputs:
            uses[source] = uses.get(source, 0) + 1
    for number, (task, _, _) in core.parts.items():
        result = core.results.get(number)
        if result is None or result.borrowed:
            uses[task] = uses.get(task, 0) + 1
    if uses == core.uses:
        return
    for number in {*uses, *core.uses}:
        counted, expected = core.uses.get(number, 0), uses.get(number, 0)
        if counted != expected:
            raise _fail(core, number, f"used {counted} times by count, not {expected}")


def _check_assignment(core: NodeCore, assignment: Assignment, is_queued: bool) -> None:
    task, state, results = assignment.task, assignment.state, core.results
    missing = [source for source in assignment.inputs if source not in results]
    if len(missing) != assignment.missing:
        raise _fail(core, task, f"{assignment.missing} inputs counted missing, not {missing}")
    if state == _READY and (missing or not is_queued):
        raise _fail(core, task, f"missing {missing}, in the queue: {is_queued}")
    if state == _WAITING and not missing:
        raise _fail(core, task, "all its inputs are here")
    if state not in (_WAITING, _READY):
        raise _fail(core, task, "it is in the table of tasks")
    for source in missing:
        maker = core.tasks.get(source)
        # Without a maker it is awaited, or the maker went back and the scheduler will
        # say what becomes of what was sent ahead after it.
        if maker is not None and all(heir is not assignment for heir in maker.heirs or ()):
            raise _fail(core, task, f"its input {source} is made here and does not know it")


def _check_batches(core: NodeCore) -> None:
    sent: dict[int, int] = {}
    for worker in core.workers.values():
        if worker.batches and not worker.is_ready:
            raise InvariantError(f"node {core.name}: worker {worker.name} is gone with its batches")
        for batch in worker.batches:
            if not batch.tasks:
                raise InvariantError(f"node {core.name}: worker {worker.name} has an empty batch")
            for task, assignment in batch.tasks.items():
                if task in sent or core.tasks.get(task) is not assignment:
                    raise _fail(core, task, f"batch {batch.number} has it, or another of it")
                sent[task] = worker.number
    for task, assignment in core.tasks.items():
        if assignment.state == _SENT:
            if sent.get(task) != assignment.worker:
                where = sent.get(task)
                raise _fail(core, task, f"sent to {assignment.worker}, in a batch of {where}")
        elif task in sent:
            raise _fail(core, task, "a batch has it")
        elif assignment.worker != assignment.bound:
            raise _fail(core, task, f"at worker {assignment.worker}, bound to {assignment.bound}")


def _check_awaited(core: NodeCore) -> None:
    for number, waiting in core.awaited.items():
        if not waiting or number in core.results:
            raise _fail(core, number, f"awaited by {len(waiting)}, here: {number in core.results}")
        for assignment in waiting:
            if core.tasks.get(assignment.task) is not assignment:
                raise _fail(core, number, f"awaited by task {assignment.task}, which left")


def _check_results(core: NodeCore) -> None:
    for number in core.passing:
        if number >= 0 and number not in core.results:
            raise _fail(core, number, "passing, but not here")
        if number not in core.uses:
            raise _fail(core, number, "passing, but nobody here will use it")
    for number, result in core.results.items():
        if result.lent and number not in core.passing:
            raise _fail(core, number, "lent, but it would stay here")
        if number < 0 and number not in core.parts:
            raise _fail(core, number, "a part that nobody knows")
        is_held = result.worker >= 0 and not result.borrowed
        if is_held and number not in core.workers[result.worker].held:
            raise _fail(core, number, f"not held by worker {result.worker}")
    for worker in core.workers.values():
        for number in worker.held:
            if number not in core.results:
                raise _fail(core, number, f"held by worker {worker.number}, but not here")


def _check_calls(core: NodeCore) -> None:
    for task, number in core.actors.items():
        if task not in core.results or not core.workers[number].is_ready:
            raise _fail(core, task, f"its actor is in worker {number}, of which nothing is known")
    for request, (worker, _) in core.calls.items():
        if not worker.is_ready:
            raise InvariantError(
                f"node {core.name}: call {request} waits for worker {worker.name}, which ended"
            )


def _check_parts(core: NodeCore) -> None:
    for number, (task, kind, selection) in core.parts.items():
        if core.part_numbers.get((task, kind, tuple(selection))) != number:
            raise _fail(core, number, "a part under another number")
        if number not in core.uses:
            raise _fail(core, number, "a part that nobody here will use")
        if number not in core.parts_of.get(task, ()):
            raise InvariantError(f"node {core.name}: part {number} is not listed under {task}")
    if sum(map(len, core.parts_of.values())) != len(core.parts):
        raise InvariantError(f"node {core.name}: parts {core.parts}, by task {core.parts_of}")
    if len(core.parts) != len(core.part_numbers):
        raise InvariantError(f"node {core.name}: parts {core.parts}, numbers {core.part_numbers}")
