"""Which node runs a task: the one policy file of the scheduler.

The chooser sees sizes, places and room; it knows no messages. A task goes where
the sum of two times is least: bringing the inputs that are not there, and
waiting for the work already sent there.
"""

from __future__ import annotations

from zcluster.core.scheduler.pages import HELD, PAGE_BITS, Page
from zcluster.core.scheduler.records import NodeRecord
from zcluster.core.scheduler.state import SchedulerState

__all__ = ["BANDWIDTH", "choose", "resolve"]

#: Bytes a second between nodes, until links are measured.
BANDWIDTH = 500e6


def choose(s: SchedulerState, node: NodeRecord, page: Page, row: int) -> tuple[NodeRecord, int]:
    """Return (node, worker number or -1) for a ready task.

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
            return places[0]
    start, stop = page.indptr[row], page.indptr[row + 1]
    if start == stop or len(s.nodes) == 1:
        return node, -1
    here: dict[int, float] = {}
    total = 0.0
    slots = page.layer[row].slots
    for position, task in enumerate(page.indices[start:stop]):
        source = s.pages[task >> PAGE_BITS]
        at = task - source.start
        if source.flags[at] & HELD and s.nodes[source.node[at]].is_serving:
            # It cannot travel: it is in the heap of a worker there.
            return s.nodes[source.node[at]], -1
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
    return best, -1


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
