"""Copies of results on further nodes, for safety or to spread the load.

The scheduler names the copies and has each node fetch its own (`Copy`); a node that
has one says so (`Copied`). A result that was to be moved is freed at its old place only
then, so it is never nowhere. Whoever looked for it there is told the new place when it
asks.
"""

from __future__ import annotations

from collections.abc import Iterable

from zcluster.core.scheduler.pages import HELD, PASSING, Page
from zcluster.core.scheduler.records import NodeRecord
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Copied

__all__ = ["on_copied", "rebalance", "replicate"]

#: By node, what it shall fetch: (task, size, nodes that have it).
_Orders = dict[int, list[tuple[int, int, list[int]]]]


def replicate(
    s: SchedulerState, tasks: Iterable[int], nodes: Iterable[int], copies: int
) -> dict[str, list[int]]:
    """Have results copied; return the nodes that shall have each, by task.

    Parameters
    ----------
    s : SchedulerState
    tasks : iterable of int
        Results that cannot leave their worker, or are not there, are left out.
    nodes : iterable of int
        Where copies may be; all nodes if empty.
    copies : int
        How many there shall be on these nodes; 0 for one on each.
    """
    allowed = _accepting(s, nodes)
    load = {index: s.nodes[index].store_used for index in allowed}
    orders: _Orders = {}
    goals: dict[str, list[int]] = {}
    for task, page, row in _movable(s, tasks):
        holders = s.holders(task, page, row)
        goal = [index for index in allowed if index in holders]
        missing = min(copies or len(allowed), len(allowed)) - len(goal)
        for index in sorted((i for i in allowed if i not in holders), key=load.__getitem__):
            if missing <= 0:
                break
            missing -= 1
            goal.append(index)
            load[index] += page.size[row]
            orders.setdefault(index, []).append((task, page.size[row], holders))
        goals[str(task)] = goal
    _tell(s, orders)
    return goals


def rebalance(
    s: SchedulerState, tasks: Iterable[int], nodes: Iterable[int]
) -> dict[str, list[int]]:
    """Have results moved until nodes hold like amounts; return where those go that move.

    Only results with one copy count and move, the largest first.
    """
    allowed = _accepting(s, nodes)
    load = dict.fromkeys(allowed, 0)
    there: list[tuple[int, int, int]] = []
    for task, page, row in _movable(s, tasks):
        holders = s.holders(task, page, row)
        if len(holders) == 1 and holders[0] in load:
            load[holders[0]] += page.size[row]
            there.append((page.size[row], task, holders[0]))
    orders: _Orders = {}
    goals: dict[str, list[int]] = {}
    for size, task, source in sorted(there, reverse=True):
        target = min(load, key=load.__getitem__)
        if load[target] + size < load[source]:
            load[target] += size
            load[source] -= size
            s.moves[task, target] = source
            goals[str(task)] = [target]
            orders.setdefault(target, []).append((task, size, [source]))
    _tell(s, orders)
    return goals


def on_copied(s: SchedulerState, node: NodeRecord, message: Copied) -> None:
    """A node has copies, or could not get them."""
    for task in message.tasks:
        s.ordered.discard((task, node.index))
        source = s.moves.pop((task, node.index), None)
        found = s.find(task)
        if found is None or not _is_kept(*found):
            if found is None or found[0].node[found[1]] != node.index:
                s.free(task, [node.index])  # nobody needs it any more, or it is made again
            continue
        page, row = found
        if node.index not in s.holders(task, page, row):
            s.unfree(task, node.index)
            s.replicas.setdefault(task, set()).add(node.index)
        if source is not None:
            _leave(s, task, page, row, source)
    for task in message.failed:
        s.ordered.discard((task, node.index))
        s.moves.pop((task, node.index), None)


def _leave(s: SchedulerState, task: int, page: Page, row: int, source: int) -> None:
    """Have a node that a result was moved away from let go of it, if another one has it."""
    others = s.replicas.get(task, set())
    if source not in s.holders(task, page, row) or not others:
        return
    if page.node[row] == source:
        page.node[row] = others.pop()
    else:
        others.discard(source)
    if not others:
        del s.replicas[task]
    s.free(task, [source])


def _accepting(s: SchedulerState, nodes: Iterable[int]) -> list[int]:
    chosen = [s.nodes[index] for index in nodes if index in s.nodes] or s.nodes.values()
    return [node.index for node in chosen if node.away_since is None]


def _movable(s: SchedulerState, tasks: Iterable[int]) -> Iterable[tuple[int, Page, int]]:
    """Yield the rows of results that can be fetched."""
    for task in tasks:
        found = s.find(task)
        if found is None:
            continue
        page, row = found
        if _is_kept(page, row):
            yield task, page, row


def _is_kept(page: Page, row: int) -> bool:
    """Whether a result is in a store, and there until it is freed."""
    return page.state[row] == State.FINISHED and not page.flags[row] & (HELD | PASSING)


def _tell(s: SchedulerState, orders: _Orders) -> None:
    for index, places in orders.items():
        s.say_copy(index, places)
