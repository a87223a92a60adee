"""Taking work back from a node that has too much of it, for one that has none.

What is sent ahead to a node is measured in time, by durations learned so far; where
they were wrong, one node sits beside a long private queue and another is idle. Then
the later half of what the first could give back is asked for. What has not started
comes back (`zcluster.protocol.messages.Recalled`) and is placed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zcluster.core.scheduler.pages import Page
from zcluster.core.scheduler.records import Effect, NodeRecord
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Recall

__all__ = ["recall"]

#: A node has too much if it has so many windows of work a slot, counted without what runs.
_TOO_MUCH = 2.0
#: It is asked again after so many windows at the earliest.
_PATIENCE = 4.0
_ASSIGNED = State.ASSIGNED


def recall(s: SchedulerState, nodes: Sequence[NodeRecord]) -> Iterator[Effect]:
    """Ask the fullest node for half of its work, if another is idle; yield the message.

    Parameters
    ----------
    s : SchedulerState
    nodes : sequence of NodeRecord
        Those that take work; the queues are empty.
    """
    for node in nodes:
        if not node.assigned:
            break
    else:
        return
    window = s.settings.window
    fullest, most = None, _TOO_MUCH * window
    for node in nodes:
        if not node.assigned:
            continue
        # Each slot has a task that runs: that much the node cannot give.
        load = sum(count * s.cost(function) for function, count in node.assigned.items())
        queued = load / node.slots - max(s.cost(function) for function in node.assigned)
        if queued > most and s.now - node.recall_asked > _PATIENCE * window:
            fullest, most = node, queued
    if fullest is None:
        return
    fullest.recall_asked = s.now
    tasks = _movable(s, fullest)
    if tasks:
        s.journal.note(s.now, "asked back", fullest.info.name, tasks)
        yield fullest.peer, Recall(tasks), ()


def _movable(s: SchedulerState, node: NodeRecord) -> list[int]:
    """Return the later half, by rank, of what a node has that any node could run now."""
    found: list[tuple[int, int]] = []
    for page in s.pages.values():
        if node.index in page.node:
            found.extend(_in_page(page, node.index))
    found.sort()
    first = max(node.slots, (len(found) + 1) // 2)
    return [task for _, task in found[first:]]


def _in_page(page: Page, node: int) -> Iterator[tuple[int, int]]:
    for row, at in enumerate(page.node):
        if at == node and page.state[row] == _ASSIGNED and not page.missing[row]:
            layer = page.layer[row]
            if layer.profile is None:
                yield layer.base + page.order[row], page.start + row
