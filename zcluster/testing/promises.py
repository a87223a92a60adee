"""What members promise each other, and no single core can check: looked at as it is said and done.

The states of the cores may all be right while a task runs that nobody needs, or a node leaves with
what it alone has: it is made again, and nobody notices. So this file looks at what is said, begun
and believed:

- a node is never told to let go of what it is to make, or has, nor to drop what a client wants
  after its last use there;
- a node that is told to leave has nothing on its way to others any more, and one that retires is
  asked for all that it has not begun;
- what was asked back is sent to no worker;
- the scheduler is told of what was in the heap of a worker that ended;
- a node has nothing any more that could not be read back from its disk;
- no task runs twice at the same time in one worker;
- when all is quiet, results are where the scheduler believes them to be;
- in the end all nodes that were to leave have left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from zcluster.core.node.core import NodeCore
from zcluster.core.scheduler.pages import HELD, PASSING, WANTED
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.errors import InvariantError
from zcluster.protocol.messages import Assign, Free, Leave, Lost, Message, Recall
from zcluster.storage.arena import Range

if TYPE_CHECKING:
    from zcluster.testing.fakes import FakeWorker

__all__ = [
    "check_alone",
    "check_left",
    "check_lost",
    "check_missed",
    "check_places",
    "check_retiring",
    "check_said",
]


def check_said(s: SchedulerState, peer: int, message: Message) -> None:
    """Check what a scheduler is about to say to a node.

    Raises
    ------
    InvariantError
        If the node is to let go of what it is to make or has, or of what is wanted, or leaves too
        early.
    """
    if type(message) is Assign:
        for task, flag in zip(message.tasks, message.flags, strict=True):
            found = s.find(task) if flag else None
            if found is not None and (found[0].flags[found[1]] & WANTED or task in s.wants):
                raise InvariantError(
                    f"node {_node_of(s, peer)} is to drop task {task} after its last use there, "
                    "and a client wants it"
                )
    elif type(message) is Free:
        node = _node_of(s, peer)
        for task in message.tasks:
            found = s.find(task)
            if found is None or found[0].node[found[1]] != node:
                continue
            state = found[0].state[found[1]]
            if state in (State.ASSIGNED, State.FINISHED):
                raise InvariantError(
                    f"node {node} is told to let go of task {task}, {State(state).name} there"
                )
    elif type(message) is Leave and not message.workers:
        node = _node_of(s, peer)
        record = s.nodes.get(node)
        if record is None or record.retiring is None:
            return
        for task in record.retiring.moving:
            found = s.find(task)
            if found is None or found[0].node[found[1]] != node or task in s.replicas:
                continue
            page, row = found
            if page.state[row] == State.FINISHED and not page.flags[row] & (HELD | PASSING):
                raise InvariantError(
                    f"node {node} is told to leave, and task {task} is on its way from there"
                )


def _node_of(s: SchedulerState, peer: int) -> int:
    return next((node.index for node in s.nodes.values() if node.peer == peer), -2)


def check_retiring(s: SchedulerState, index: int) -> None:
    """Check that a node that has just begun to retire is asked for what it has not begun.

    Raises
    ------
    InvariantError
        If it is not asked for a task it has.
    """
    node = s.nodes.get(index)
    if node is None:
        return
    asked = {
        task
        for peer, message, _ in s.out
        if peer == node.peer and isinstance(message, Recall)
        for task in message.tasks
    }
    for task, page, row in s.rows():
        if page.state[row] == State.ASSIGNED and page.node[row] == index and task not in asked:
            raise InvariantError(f"node {index} retires, and is not asked for task {task}")


def check_alone(worker: FakeWorker, task: int) -> None:
    """Check that a task which a worker has just begun runs in it once.

    Raises
    ------
    InvariantError
        If it runs there twice.
    """
    if sum(batch.running == task for batch in worker.running) > 1:
        raise InvariantError(
            f"task {task} runs twice at the same time in worker {worker.node.name}-{worker.number}"
        )


def check_lost(core: NodeCore, place: Range) -> None:
    """Check that a node has no result any more where its disk gave back something else.

    Raises
    ------
    InvariantError
        If it has.
    """
    for task, result in core.results.items():
        if result.place == place:
            raise InvariantError(
                f"task {task} is at node {core.name} on disk, where it could not be read"
            )


def check_missed(core: NodeCore, held: Iterable[int]) -> None:
    """Check that a node says what was in the heap of a worker that has just ended.

    Raises
    ------
    InvariantError
        If the scheduler is not told of some of it.
    """
    said = {
        task
        for message, _ in core.effects.to_scheduler
        if isinstance(message, Lost)
        for task in message.tasks
    }
    for task in held:
        if task not in said:
            raise InvariantError(
                f"task {task} was in the heap of a worker of {core.name} that ended, and the "
                "scheduler is not told that it is lost"
            )


def check_places(s: SchedulerState, find: Callable[[int], Any]) -> None:
    """Check, when all is quiet, that nodes have the results the scheduler counts on.

    Parameters
    ----------
    s : SchedulerState
    find : callable
        Returns the node of an index, or None.

    Raises
    ------
    InvariantError
        If one has not.
    """
    for task, page, row in s.rows():
        if page.state[row] != State.FINISHED or page.flags[row] & PASSING:
            continue
        for index in s.holders(task, page, row):
            node = find(index)
            if node is not None and task not in node.core.results:
                raise InvariantError(
                    f"task {task} is FINISHED at node {node.name}, which does not have its result"
                )


def check_left(s: SchedulerState) -> None:
    """Check, with nothing left to do or to keep, that no node still hands over what it has.

    Raises
    ------
    InvariantError
        If one does.
    """
    for node in s.nodes.values():
        retiring = node.retiring
        if retiring is not None and (retiring.leaves or retiring.moving):
            raise InvariantError(
                f"node {node.info.name} was to leave and is still here; it waits for "
                f"{retiring.reason or sorted(retiring.moving)}"
            )
