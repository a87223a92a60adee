"""Nodes that are to leave: they end what they run, and others get what they alone have.

A retiring node gets no new work, gives back what it has not started, and goes on to
serve what it has. Results that somebody needs and that are there alone are copied to other
nodes, some at a time; with the last of them, and with the last task it ran, it is told to
`Leave`. What cannot leave a worker's heap goes with it and is made again where it is needed,
as with any node that ends; tasks that need it now still go there meanwhile.

What cannot be handed over keeps the node here (`reasons` says so): an actor that somebody
holds, or results for which nobody has room.
"""

from __future__ import annotations

from collections.abc import Iterator

from zcluster.core.scheduler.assigning import clear_ahead
from zcluster.core.scheduler.pages import DELIVERED, HELD, PASSING, WANTED, Page
from zcluster.core.scheduler.recomputing import lose
from zcluster.core.scheduler.records import NodeRecord, Retirement
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Copied, Leave, Recall

__all__ = ["advance", "begin", "hand_over", "note_copied", "reasons"]

#: Of results that their client wants and has.
_KEPT = DELIVERED | WANTED
#: Results on their way from one node at a time.
_AT_A_TIME = 1000
#: Seconds after which nodes that could not take a result are asked again.
_PATIENCE = 2.0


def begin(s: SchedulerState, node: NodeRecord, leaves: bool) -> None:
    """Have a node take no more work; with ``leaves`` it ends once all is handed over."""
    if node.retiring is not None:
        node.retiring.leaves |= leaves
        advance(s, node)
        return
    node.retiring = Retirement(leaves)
    s.retiring.add(node.index)
    clear_ahead(s, node)
    s.journal.note(s.now, "node retires", node.info.name, ())
    assigned = [
        page.start + row
        for page in s.pages.values()
        if node.index in page.node
        for row, at in enumerate(page.node)
        if at == node.index and page.state[row] == State.ASSIGNED
    ]
    if assigned:
        s.say(node.peer, Recall(assigned))
    advance(s, node)


def hand_over(s: SchedulerState) -> None:
    """Go on with all nodes that retire."""
    for index in list(s.retiring):
        node = s.nodes.get(index)
        if node is None:
            s.retiring.discard(index)
        else:
            advance(s, node)


def note_copied(s: SchedulerState, to: NodeRecord, message: Copied) -> None:
    """Results have come to a node, or could not."""
    for index in list(s.retiring):
        node = s.nodes.get(index)
        if node is None or node.retiring is None:
            continue
        moving = node.retiring.moving
        ours = [task for task in message.tasks if moving.get(task) == to.index]
        failed = [task for task in message.failed if moving.get(task) == to.index]
        for task in (*ours, *failed):
            del moving[task]
        for task in failed:
            node.retiring.refused.setdefault(task, set()).add(to.index)
            node.retiring.retry_at = s.now + _PATIENCE
        if (ours or failed) and not moving:
            advance(s, node)


def advance(s: SchedulerState, node: NodeRecord) -> None:
    """Have more results copied, and let the node go if nothing is left to do there."""
    retirement = node.retiring
    if retirement is None or retirement.is_told or node.away_since is not None:
        return
    if retirement.refused and s.now >= retirement.retry_at:
        retirement.refused.clear()
    moving = retirement.moving = {
        task: to for task, to in retirement.moving.items() if _may_take(s, to)
    }
    if not moving and not retirement.todo:
        # Looked for anew only then: a node may have a million of them.
        retirement.todo = [
            task for task, page, row in _rows_at(s, node) if _is_only_at(s, node, task, page, row)
        ]
        retirement.todo.reverse()
    retirement.reason = _copy_some(s, node, retirement)
    if retirement.reason or moving:
        return
    if node.assigned:
        count = sum(node.assigned.values())
        retirement.reason = f"{count} tasks it has begun are not finished"
        return
    retirement.is_empty = True
    if retirement.leaves:
        retirement.is_told = True
        lose(s, {task for task, page, row in _rows_at(s, node) if page.flags[row] & HELD})
        s.say(node.peer, Leave([]))


def _copy_some(s: SchedulerState, node: NodeRecord, retirement: Retirement) -> str:
    """Tell others what to fetch; return what cannot be handed over, and why."""
    load = {
        other.index: other.store_used for other in s.nodes.values() if _may_take(s, other.index)
    }
    orders: dict[int, list[tuple[int, int, list[int]]]] = {}
    stuck: list[tuple[int, int]] = []
    actor = ""
    todo, moving = retirement.todo, retirement.moving
    while todo and len(moving) < _AT_A_TIME:
        task = todo.pop()
        found = s.find(task)
        if found is None or task in moving or not _is_only_at(s, node, task, *found):
            continue
        page, row = found
        needs = page.layer[row].needs
        if needs is not None and needs.actor:
            actor = actor or f"it has the actor {s.key(task)}, which cannot be moved; let go of it"
            continue
        refused = retirement.refused.get(task, ())
        able = [index for index in load if index not in refused]
        if not able:
            # Without room for it: its client may have it, and be the only one who needs it.
            if page.flags[row] & _KEPT != _KEPT or page.refs[row] > 1:
                stuck.append((task, page.size[row]))
            continue
        target = min(able, key=load.__getitem__)
        load[target] += page.size[row]
        moving[task] = target
        place = (task, page.size[row], s.holders(task, page, row))
        orders.setdefault(target, []).append(place)
    for index, places in orders.items():
        s.say_copy(index, places)
    return _why_stuck(s, stuck, is_alone=not load) or actor


def _is_only_at(s: SchedulerState, node: NodeRecord, task: int, page: Page, row: int) -> bool:
    """Whether a result that is needed can leave a node, and is at none that stays."""
    return (
        page.state[row] == State.FINISHED
        and page.node[row] == node.index
        and page.refs[row] > 0
        and not page.flags[row] & (HELD | PASSING)
        and not any(_stays(s.nodes[index]) for index in s.holders(task, page, row))
    )


def _why_stuck(s: SchedulerState, stuck: list[tuple[int, int]], is_alone: bool) -> str:
    if not stuck:
        return ""
    task, size = stuck[0]
    more = f" and {len(stuck) - 1} more results" if len(stuck) > 1 else ""
    what = f"{s.key(task)} ({size} bytes){more}"
    if is_alone:
        return f"no other node is here to take {what}; start one, or release them"
    return f"no other node has room for {what}; release results, or start another node"


def _stays(node: NodeRecord) -> bool:
    return node.away_since is None and node.retiring is None


def _may_take(s: SchedulerState, index: int) -> bool:
    node = s.nodes.get(index)
    return node is not None and node.is_accepting


def _rows_at(s: SchedulerState, node: NodeRecord) -> Iterator[tuple[int, Page, int]]:
    """Yield the rows of results a node has that somebody needs."""
    index = node.index
    for page in list(s.pages.values()):
        if index not in page.node:
            continue
        for row, at in enumerate(page.node):
            if at == index and page.state[row] == State.FINISHED and page.refs[row]:
                yield page.start + row, page, row


def reasons(s: SchedulerState) -> dict[str, str]:
    """Return what the nodes and workers that retire wait for, by name."""
    found: dict[str, str] = {}
    for node in s.nodes.values():
        if node.retiring is not None:
            coming = len(node.retiring.moving)
            found[node.info.name] = node.retiring.reason or (
                f"{coming} results are on their way to other nodes" if coming else ""
            )
            if node.away_since is not None:
                found[node.info.name] = "it cannot be reached"
        for worker in node.info.workers:
            if worker.status == "retiring":
                found[worker.name] = worker.reason
    return found
