"""Tasks between the queues and the nodes: queued, assigned, given back.

A task that leaves ASSIGNED unfinished takes with it the tasks that were sent ahead
after it: they cannot have started. What runs at most once is never sent ahead, and never
taken back: where an input that it had is to be made again, it may be running all the same.
"""

from __future__ import annotations

import heapq

from zcluster.core.scheduler.pages import (
    PAGE_BITS,
    PASSING,
    Page,
)
from zcluster.core.scheduler.records import NodeRecord, Profile
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State

__all__ = [
    "bind",
    "enqueue",
    "enqueue_due",
    "give_back",
    "leave_node",
    "note_assigned",
    "note_blocked",
    "place_heir",
    "queue_ahead",
    "tidy_heirs",
    "unbind",
    "unplace_heirs",
]

_WAITING, _AHEAD, _READY, _ASSIGNED = State.WAITING, State.AHEAD, State.READY, State.ASSIGNED
_FINISHED = State.FINISHED
#: Not finished, not failed, not cancelled.
_OPEN = (_WAITING, _AHEAD, _READY, _ASSIGNED)


def enqueue(s: SchedulerState, task: int, page: Page, row: int) -> None:
    """Queue a task whose inputs are all finished."""
    page.state[row] = _READY
    layer = page.layer[row]
    entry = (layer.base + page.order[row], task, 1)
    if layer.profile is not None:
        s.queues.push_restricted(layer.profile, entry)
    else:
        s.queues.push(task >> 40, entry)


def enqueue_due(s: SchedulerState) -> None:
    """Queue the tasks whose time to be tried again has come."""
    for task in s.queues.take_due(s.now):
        found = s.find(task)
        if found is not None and found[0].state[found[1]] == _READY:
            enqueue(s, task, *found)


def note_blocked(s: SchedulerState, node: NodeRecord, tasks: list[int], away: bool) -> None:
    """Take note that running tasks hold no slot for now, or hold one again."""
    for task in tasks:
        found = s.find(task)
        if found is None or found[0].state[found[1]] != _ASSIGNED:
            continue
        if found[0].node[found[1]] != node.index:
            continue
        if away:
            node.blocked[task] = found[0].layer[found[1]].threads
        else:
            node.blocked.pop(task, None)


def note_assigned(s: SchedulerState, task: int, page: Page, row: int, node: int) -> None:
    """Mark a task assigned, and queue consumers that may now be sent ahead."""
    page.state[row] = _ASSIGNED
    page.node[row] = node
    attempt = page.attempt[row] + 1
    page.attempt[row] = attempt
    if attempt > 1:
        _keep_at(s, task, node)
    heir = page.heir[row]
    if heir < 0:
        return
    place_heir(s, heir, node)
    if page.more and row in page.more:
        for other in page.more[row]:
            place_heir(s, other, node)


def _keep_at(s: SchedulerState, task: int, node: int) -> None:
    """A task goes to a node once more: what was to be said there of it is out of date."""
    if task in s.elsewhere:
        s.elsewhere[task].discard(node)
    s.unfree(task, node)
    # A node that is lost sight of while its messages are sent, and is back, may be given the task
    # before it would hear that it has to forget it.
    s.undrop(task, node)


def place_heir(s: SchedulerState, heir: int, node: int) -> None:
    """Note that one more input of a consumer is assigned."""
    page = s.pages.get(heir >> PAGE_BITS)
    if page is None:
        return
    row = heir - page.start
    unplaced = page.unplaced[row] - 1
    page.unplaced[row] = unplaced
    if unplaced == 0 and page.state[row] == _WAITING and page.missing[row]:
        queue_ahead(s, heir, page, row, node)


def queue_ahead(s: SchedulerState, task: int, page: Page, row: int, node: int) -> None:
    """Queue a task at the node where all its unfinished inputs are assigned, if one."""
    layer = page.layer[row]
    if layer.profile is not None or layer.whole or layer.is_once or node not in s.nodes:
        return
    pages = s.pages
    for task_in in page.indices[page.indptr[row] : page.indptr[row + 1]]:
        source = pages[task_in >> PAGE_BITS]
        at = task_in - source.start
        if source.state[at] == _ASSIGNED:
            if source.node[at] != node:
                return
        elif source.state[at] != _FINISHED:
            return
    if not s.nodes[node].is_accepting:
        return  # it is not given there, and is queued once its inputs are finished
    page.state[row] = _AHEAD
    page.node[row] = node
    heapq.heappush(s.nodes[node].ahead, (layer.base + page.order[row], task))


def clear_ahead(s: SchedulerState, node: NodeRecord) -> None:
    """Have what was to follow its inputs to a node wait for them, as the node takes no more."""
    for _, task in node.ahead:
        found = s.find(task)
        if found is None:
            continue
        page, row = found
        if page.state[row] == _AHEAD and page.node[row] == node.index:
            page.state[row] = _WAITING
            page.node[row] = -1
    node.ahead.clear()


def bind(s: SchedulerState, node: NodeRecord, worker: int, task: int, profile: Profile) -> None:
    """Give a worker's resources to a task."""
    s.bound[task] = (node.index, worker, profile.resources)
    spent = node.spent.setdefault(worker, {})
    for name, amount in profile.resources:
        spent[name] = spent.get(name, 0.0) + amount


def unbind(s: SchedulerState, task: int) -> None:
    """Take back the resources a task was given, if any."""
    if not s.bound or task not in s.bound:
        return
    index, worker, resources = s.bound.pop(task)
    node = s.nodes.get(index)
    if node is None:
        return
    spent = node.spent[worker]
    for name, amount in resources:
        spent[name] -= amount
        if spent[name] <= 1e-9:
            del spent[name]
    if not spent:
        del node.spent[worker]


def tidy_heirs(s: SchedulerState) -> None:
    """Take rows that wait no more out of the lists of heirs that name them."""
    for task in s.loose:
        found = s.find(task)
        if found is None:
            continue
        page, row = found
        heirs = list(page.heirs(row))
        page.clear_heirs(row)
        for heir in heirs:
            other = s.find(heir)
            if other is not None and other[0].state[other[1]] in _OPEN:
                page.add_heir(row, heir)
    s.loose.clear()


def leave_node(s: SchedulerState, task: int, page: Page, row: int, tell: bool) -> None:
    """Take a task off the node it is assigned to, unfinished."""
    index = page.node[row]
    node = s.nodes.get(index)
    page.node[row] = -1
    page.flags[row] &= ~PASSING & 0xFF
    if node is None:
        return
    layer = page.layer[row]
    node.count_assigned(layer.function, -layer.threads)
    unbind(s, task)
    node.blocked.pop(task, None)
    if tell:
        s.drop(task, index)
    for task_in in page.inputs(row):
        found = s.find(task_in)
        if found is not None:
            # The node keeps the inputs of what leaves it, passing or not.
            found[0].flags[found[1]] &= ~PASSING & 0xFF


def give_back(s: SchedulerState, task: int, tell: bool, delay: float = 0.0) -> None:
    """Return an assigned task, and all sent ahead after it, to the queues.

    With a ``delay`` it is not to run before so many seconds have passed.
    """
    stack = [(task, tell)]
    while stack:
        current, inform = stack.pop()
        found = s.find(current)
        if found is None or found[0].state[found[1]] != _ASSIGNED:
            continue
        page, row = found
        leave_node(s, current, page, row, inform)
        page.state[row] = _WAITING
        stack.extend((heir, True) for heir in unplace_heirs(s, page, row))
        if page.missing[row] == 0:
            if current == task and delay > 0:
                page.state[row] = _READY
                entry = (page.layer[row].base + page.order[row], task, 1)
                s.queues.push_delayed(s.now + delay, entry)
            else:
                enqueue(s, current, page, row)


def unplace_heirs(s: SchedulerState, page: Page, row: int) -> list[int]:
    """A task is assigned no more: its consumers cannot be sent ahead.

    Returns the consumers that were sent ahead; they must be given back too.
    """
    pulled: list[int] = []
    for heir in page.heirs(row):
        found = s.find(heir)
        if found is None:
            continue
        heir_page, heir_row = found
        heir_page.unplaced[heir_row] += 1
        state = heir_page.state[heir_row]
        if state == _AHEAD:
            heir_page.state[heir_row] = _WAITING
            heir_page.node[heir_row] = -1
        elif state == _ASSIGNED and not heir_page.layer[heir_row].is_once:
            pulled.append(heir)
    return pulled
