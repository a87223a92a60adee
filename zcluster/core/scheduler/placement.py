"""Which node runs a task: the one policy file of the scheduler.

The chooser sees sizes, places and room; it knows no messages. A task goes where
the sum of two times is least: bringing the inputs that are not there, and
waiting for the work already sent there.

With large inputs that is not enough: the node that has them may be full for a moment, and
what is queued for the one with room comes later in the same queue. Such a task is kept for the
node that has them (`zcluster.core.scheduler.keeping`), and moved only where there is
nothing else to do.
"""

from __future__ import annotations

from zcluster.core.scheduler.pages import HELD, PAGE_BITS, Page
from zcluster.core.scheduler.records import NodeRecord
from zcluster.core.scheduler.state import SchedulerState

__all__ = ["BANDWIDTH", "LARGE_BYTES", "cannot_leave", "choose", "missing_inputs", "resolve"]

#: Bytes a second between nodes, until links are measured.
BANDWIDTH = 500e6
#: Inputs are large if it takes 5 milliseconds to bring them: many messages go to and fro by then.
LARGE_BYTES = 0.005 * BANDWIDTH
#: The most tasks kept for one node.
_MOST_KEPT = 1000


def choose(
    s: SchedulerState, node: NodeRecord, page: Page, row: int
) -> tuple[NodeRecord, int, bool]:
    """Return (node, worker number or -1, whether to keep it until it has room) for a ready task.

    Parameters
    ----------
    s : SchedulerState
    node : NodeRecord
        The node with most room.
    page, row : Page, int
        The task; its inputs are all finished.
    """
    preferred = page.layer[row].preferred
    if preferred:
        places = [place for place in resolve(s, preferred) if place[0].room > 0]
        if places:
            return *places[0], False
    start, stop = page.indptr[row], page.indptr[row + 1]
    if start == stop or len(s.nodes) == 1:
        return node, -1, False
    here: dict[int, float] = {}
    total = 0.0
    slots = page.layer[row].slots
    for position, task in enumerate(page.indices[start:stop]):
        source = s.pages[task >> PAGE_BITS]
        at = task - source.start
        if source.flags[at] & HELD and s.nodes[source.node[at]].is_serving:
            # It cannot travel: it is in the heap of a worker there.
            return s.nodes[source.node[at]], -1, False
        fraction = slots[min(position, len(slots) - 1)].fraction if slots else 1.0
        size = source.size[at] * fraction
        total += size
        for holder in s.holders(task, source, at):
            here[holder] = here.get(holder, 0.0) + size
    best, least = node, (total - here.get(node.index, 0.0)) / BANDWIDTH - node.room
    for index, held in here.items():
        other = s.nodes[index]
        if other is node or not other.is_accepting or other.room <= 0:
            continue
        seconds = (total - held) / BANDWIDTH - other.room
        if seconds < least:
            best, least = other, seconds
    if total >= LARGE_BYTES:
        keeper = _holder(s, here, best)
        if keeper is not None:
            return keeper, -1, True
    return best, -1, False


def _holder(s: SchedulerState, here: dict[int, float], best: NodeRecord) -> NodeRecord | None:
    """Return the node that has so much more of the inputs that the task shall wait for it."""
    most, index = max((held, -index) for index, held in here.items()) if here else (0.0, 0)
    if most - here.get(best.index, 0.0) < LARGE_BYTES:
        return None
    node = s.nodes[-index]
    kept = s.queues.kept.get(node.index)
    if not node.is_accepting or (kept is not None and len(kept.tasks) >= _MOST_KEPT):
        return None
    return node


def cannot_leave(s: SchedulerState, page: Page, row: int) -> bool:
    """Whether an input of a task is in the heap of a worker, where the task has to go."""
    for task in page.indices[page.indptr[row] : page.indptr[row + 1]]:
        source = s.pages[task >> PAGE_BITS]
        if source.flags[task - source.start] & HELD:
            return True
    return False


def missing_inputs(
    s: SchedulerState, node: NodeRecord, page: Page, row: int
) -> list[tuple[int, float]]:
    """Return the inputs of a ready task that a node has to bring, and how many bytes of each."""
    slots = page.layer[row].slots
    found: list[tuple[int, float]] = []
    for position, task in enumerate(page.indices[page.indptr[row] : page.indptr[row + 1]]):
        source = s.pages[task >> PAGE_BITS]
        at = task - source.start
        if node.index not in s.holders(task, source, at):
            fraction = slots[min(position, len(slots) - 1)].fraction if slots else 1.0
            found.append((task, source.size[at] * fraction))
    return found


def resolve(s: SchedulerState, names: tuple[str, ...]) -> list[tuple[NodeRecord, int]]:
    """Return the (node, worker number) that worker names, or node or host names, mean."""
    found: list[tuple[NodeRecord, int]] = []
    for node in s.nodes.values():
        if not node.is_accepting:
            continue
        whole = node.info.name in names or node.info.host in names or node.info.data in names
        for worker in node.workers:
            if whole or worker.name in names:
                found.append((node, worker.number))
    return found
