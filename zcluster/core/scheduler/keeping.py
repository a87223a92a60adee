"""Tasks kept for the node that has their large inputs.

Where it takes longer to bring what a task needs than to wait a little, the task is not
given to just any node that has room: it is kept for the node that has most of it (`keep`),
in a list of that node. It is READY as before, and nothing is known of it at the node.

Three ways lead out of the list, so that no task stays there because of a node:

- the node has room, and takes the first (`next_own`);
- another node has nothing else to do, and would have brought the inputs and had its turn
  before the task had its turn where it is (`next_of_others`). A node that has taken nothing
  for a while is expected to take nothing for as long again, whatever its tasks were expected
  to take: so its list is handed over, earlier than what others have queued, if it hangs;
- the node takes no more work: its list goes back to the queues (`put_back`).

The list is bounded; past that tasks go where there is room, as they do with small inputs.
"""

from __future__ import annotations

from bisect import insort

from zcluster.core.scheduler.assigning import enqueue
from zcluster.core.scheduler.pages import Page
from zcluster.core.scheduler.placement import BANDWIDTH, cannot_leave, missing_inputs
from zcluster.core.scheduler.queues import Entry, Kept
from zcluster.core.scheduler.records import NodeRecord
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State

__all__ = ["keep", "next_of_others", "next_own", "put_back", "take_own"]

#: Seconds after which a node that took none of its tasks is passed over by what is older
#: than all else.
_STALLED = 0.5
#: Inputs on their way to a node that are remembered.
_MOST_FETCHED = 10_000

_Row = tuple[int, Page, int]


def keep(s: SchedulerState, node: NodeRecord, task: int, page: Page, row: int) -> None:
    """Keep a ready task for a node."""
    kept = s.queues.kept.get(node.index)
    if kept is None:
        kept = s.queues.kept[node.index] = Kept()
    if not kept.tasks:
        kept.moved = s.now
    insort(kept.tasks, (page.layer[row].base + page.order[row], task))


def put_back(s: SchedulerState) -> None:
    """Queue what is kept for nodes that take no more work."""
    queues = s.queues
    for index, kept in queues.kept.items():
        node = s.nodes.get(index)
        if kept.tasks and (node is None or not node.is_accepting):
            tasks, kept.tasks = kept.tasks, []
            for _, task in tasks:
                found = _ready(s, task)
                if found is not None:
                    enqueue(s, *found)
    if not any(kept.tasks for kept in queues.kept.values()):
        queues.kept.clear()


def next_own(s: SchedulerState, node: NodeRecord, top: Entry | None) -> Entry | None:
    """Return the first task kept for a node, if its turn is before that of ``top``."""
    kept = s.queues.kept.get(node.index)
    if kept is None or node.room <= 0:
        return None
    while kept.tasks:
        rank, task = kept.tasks[0]
        found = _ready(s, task)
        if found is not None and not cannot_leave(s, *found[1:]):
            return (rank, task, 1) if kept.is_before(top) else None
        del kept.tasks[0]
        if found is not None:
            # An input that was made again is now where the task must go.
            enqueue(s, *found)
    return None


def take_own(s: SchedulerState, node: NodeRecord) -> _Row:
    """Remove and return the task that `next_own` showed."""
    kept = s.queues.kept[node.index]
    kept.moved = s.now
    task = kept.tasks.pop(0)[1]
    page, row = s.row_of(task)
    return task, page, row


def next_of_others(s: SchedulerState, node: NodeRecord, top: Entry | None) -> _Row | None:
    """Remove and return a task kept for another node that this one would begin sooner."""
    kept_lists = s.queues.kept
    waits: list[tuple[float, int]] = []
    for index, kept in kept_lists.items():
        if index == node.index or not kept.tasks:
            continue
        stalled = s.now - kept.moved
        if top is not None and (stalled < _STALLED or kept.tasks[0][0] > top[0]):
            continue
        waits.append((-max(_wait(s, s.nodes[index], kept), stalled), index))
    if not waits:
        return None
    waits.sort()
    own = kept_lists.get(node.index)
    busy = _load(s, node) / node.slots
    for wait, index in waits:
        if busy >= -wait:
            break
        # The oldest, if its turn has passed; else what would have to wait longest.
        found = _look(s, kept_lists[index], 0 if top is not None else -1)
        if found is None:
            continue
        if own is None:
            own = kept_lists[node.index] = Kept()
        if _bring(s, own, node, found, -wait - busy):
            del kept_lists[index].tasks[0 if top is not None else -1]
            return found
    return None


def _look(s: SchedulerState, kept: Kept, position: int) -> _Row | None:
    """Return the task at one end of a list that another node may take."""
    while kept.tasks:
        found = _ready(s, kept.tasks[position][1])
        if found is not None and not cannot_leave(s, *found[1:]):
            return found
        del kept.tasks[position]
        if found is not None:
            enqueue(s, *found)
    return None


def _bring(s: SchedulerState, kept: Kept, node: NodeRecord, found: _Row, most: float) -> bool:
    """Take note that a task's inputs come to a node, if that takes less than ``most`` seconds.

    They come one after the other; what is on its way already comes once.
    """
    inputs = [
        (task, size)
        for task, size in missing_inputs(s, node, *found[1:])
        if task not in kept.fetched
    ]
    arrival = max(s.now, kept.fetched_at) + sum(size for _, size in inputs) / BANDWIDTH
    if inputs and arrival - s.now >= most:
        return False
    if inputs:
        if len(kept.fetched) > _MOST_FETCHED:
            kept.fetched.clear()
        kept.fetched_at = arrival
        kept.fetched.update(task for task, _ in inputs)
    return True


def _wait(s: SchedulerState, node: NodeRecord, kept: Kept) -> float:
    """Return the seconds until the last task kept for a node would begin there."""
    page, row = s.find(kept.tasks[-1][1]) or (None, 0)
    cost = s.settings.window if page is None else s.cost(page.layer[row].function)
    return (_load(s, node) + (len(kept.tasks) - 1) * cost) / node.slots


def _load(s: SchedulerState, node: NodeRecord) -> float:
    return sum(count * s.cost(function) for function, count in node.assigned.items())


def _ready(s: SchedulerState, task: int) -> _Row | None:
    found = s.find(task)
    if found is None or found[0].state[found[1]] != State.READY:
        return None
    return task, *found
