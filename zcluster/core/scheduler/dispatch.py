"""Giving tasks to nodes.

A node is sent work by time, not by count: a window of a few tens of milliseconds
for each slot, in durations learned by callable. A callable never seen counts as
a whole window, so that each slot gets one such task and idle slots never wait
beside a queue. A task that waits for others makes room for one more. Tasks sent ahead
of their inputs count in the same budget, but for those that alone take what is about to be
made: they go with it, so that large results are used up where and when they are made.

Each round takes the node with the most room and the task whose turn it is. Tasks
without inputs go in runs; others where placement says. What was kept for a node
(`zcluster.core.scheduler.keeping`) is given to it in its turn, and to others that would be idle.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from zcluster.core.scheduler import placement
from zcluster.core.scheduler.assignments import AssignBatch, assign
from zcluster.core.scheduler.keeping import keep, next_of_others, next_own, put_back, take_own
from zcluster.core.scheduler.pages import PAGE_BITS, WANTED, Page
from zcluster.core.scheduler.queues import Entry
from zcluster.core.scheduler.recall import recall
from zcluster.core.scheduler.records import Effect, NodeRecord
from zcluster.core.scheduler.restricted import dispatch_restricted
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State

__all__ = ["dispatch"]

#: The longest run of root tasks given to one node at a time.
_RUN = 256
#: The most single tasks assigned before the next client has its turn.
_IN_A_ROW = 32
_AHEAD, _READY, _ASSIGNED = State.AHEAD, State.READY, State.ASSIGNED


def dispatch(s: SchedulerState) -> Iterator[Effect]:
    """Assign what can be assigned now; yield the messages as batches fill."""
    nodes: list[NodeRecord] = []
    has_ahead = False
    for node in s.nodes.values():
        if node.is_accepting:
            nodes.append(node)
            if node.ahead:
                has_ahead = True
    if s.queues.kept:
        put_back(s)
    if not nodes:
        return
    if has_ahead or s.queues or s.queues.restricted or s.queues.kept:
        yield from _give(s, nodes)
    if len(nodes) > 1 and not s.queues:
        yield from recall(s, nodes)


def _give(s: SchedulerState, nodes: list[NodeRecord]) -> Iterator[Effect]:
    """Assign what is queued to those nodes that take work."""
    batches: dict[int, AssignBatch] = {}
    for node in nodes:
        node.room = _room(s, node)
        node.is_starved = False
        if node.room <= 0 and node.blocked:
            idle = _idle_slots(s, node)
            node.is_starved = idle > 0
            node.room = max(node.room, idle * s.settings.window)
    if s.queues.restricted:
        yield from dispatch_restricted(s, batches)
    # (-room, index): the node with most room first.
    order = [(-node.room, node.index) for node in nodes if node.room > 0]
    heapq.heapify(order)
    while order:
        node = s.nodes[order[0][1]]
        batch = batches.get(node.index)
        if batch is None:
            batch = batches[node.index] = AssignBatch(s, node)
        given = _give_next(s, node, batch, batches, len(order))
        if given and node.room > 0:
            heapq.heapreplace(order, (-node.room, node.index))
        else:
            heapq.heappop(order)
            if given:
                _complete_group(s, node, batch)
        if len(batch) >= s.settings.batch:
            yield batch.take()
    for batch in batches.values():
        if len(batch):
            yield batch.take()


def _room(s: SchedulerState, node: NodeRecord) -> float:
    """Return the seconds of work a node may still be sent.

    A task takes up a window of one slot at most, however long it is: it fills that slot
    and none of the others.
    """
    window = s.settings.window
    load = 0.0
    for function, count in node.assigned.items():
        load += count * min(window, s.cost(function))
    # A little less, or what rounding leaves of a full window would be room for one more.
    return (node.slots + sum(node.blocked.values())) * window - load - 1e-9


def _idle_slots(s: SchedulerState, node: NodeRecord) -> int:
    """Return how many slots have nothing to do, on a node where tasks wait for others.

    What was sent ahead of inputs fills the budget and no slot. Were it counted, what those that
    wait are waiting for would never get in: it has to come before what follows from them.
    """
    idle = node.slots
    for page in s.pages.values():
        if node.index not in page.node:
            continue
        for row, at in enumerate(page.node):
            if at == node.index and page.state[row] == _ASSIGNED and not page.missing[row]:
                idle -= page.start + row not in node.blocked
                if not idle:
                    return 0
    return idle


def _give_next(
    s: SchedulerState,
    node: NodeRecord,
    batch: AssignBatch,
    batches: dict[int, AssignBatch],
    open_nodes: int,
) -> bool:
    """Assign the next task, or run of tasks, a node should have; False if none."""
    top = s.queues.peek()
    own = None
    if s.queues.kept:
        own = next_own(s, node, top)
        top = s.queues.peek()
    if node.ahead and not node.is_starved and _give_ahead(s, node, batch, own or top):
        return True
    if own is not None:
        assign(s, node, batch, *take_own(s, node), -1)
        return True
    if s.queues.kept and node.room > 0:
        other = next_of_others(s, node, top)
        if other is not None:
            assign(s, node, batch, *other, -1)
            return True
        top = s.queues.peek()
    if top is None:
        return False
    if top[2] == 1:
        _give_ready(s, node, batch, batches)
        s.queues.next_turn()
        return True
    share = -(-top[2] // open_nodes)
    cost = _cost_of(s, top[1])
    most = max(1, min(_RUN, share, int(node.room / cost)))
    _, task, count = s.queues.take(most)
    for current in range(task, task + count):
        run_page = s.pages.get(current >> PAGE_BITS)
        row = current - run_page.start if run_page is not None else -1
        # Below zero: forgotten, and its page is another that begins later.
        if run_page is not None and row >= 0 and run_page.state[row] == _READY:
            assign(s, node, batch, current, run_page, row, -1)
    s.queues.next_turn()
    return True


def _give_ready(
    s: SchedulerState, node: NodeRecord, batch: AssignBatch, batches: dict[int, AssignBatch]
) -> None:
    """Assign single ready tasks; a few in a row where there is only one node to choose."""
    queues, ahead = s.queues, node.ahead
    is_only_node = len(s.nodes) == 1
    left = min(_IN_A_ROW, s.settings.batch - len(batch)) if is_only_node else 1
    while left > 0:
        left -= 1
        task = queues.take(1)[1]
        found = s.find(task)
        if found is not None and found[0].state[found[1]] == _READY:
            page, row = found
            if is_only_node and not page.layer[row].preferred:
                assign(s, node, batch, task, page, row, -1)
            else:
                target, worker, is_kept = placement.choose(s, node, page, row)
                if is_kept:
                    keep(s, target, task, page, row)
                    return
                if target is not node and target.index not in batches:
                    batches[target.index] = AssignBatch(s, target)
                assign(s, target, batches[target.index], task, page, row, worker)
        top = queues.head()
        if top is None or top[2] > 1 or node.room <= 0 or (ahead and ahead[0][0] < top[0]):
            return


def _give_ahead(s: SchedulerState, node: NodeRecord, batch: AssignBatch, top: Entry | None) -> bool:
    """Assign tasks queued ahead at a node, as long as they come before ``top``.

    What alone takes results that the node is about to make goes there though its time is full,
    and if it may be long it leaves its slot to others until then: it can run nowhere sooner,
    and the node may let go of those results once it has run, or need not even keep them.
    """
    ahead = node.ahead
    pages = s.pages
    before = top[0] if top is not None else None
    given = False
    left = s.settings.batch - len(batch)
    window, durations = s.settings.window, s.durations
    while ahead and left > 0:
        rank, task = ahead[0]
        page = pages.get(task >> PAGE_BITS)
        row = task - page.start if page is not None else -1
        # Stale where the task is forgotten (and its page perhaps another) or elsewhere.
        if page is None or row < 0 or page.state[row] != _AHEAD or page.node[row] != node.index:
            heapq.heappop(ahead)
            continue
        if before is not None and rank > before:
            break
        learned = durations.get(page.layer[row].function)
        is_long = learned is None or learned >= window
        is_last_use = (is_long or node.room <= 0) and _uses_up(s, node, page, row)
        if node.room <= 0 and not is_last_use:
            break
        heapq.heappop(ahead)
        assign(s, node, batch, task, page, row, -1)
        if is_long and is_last_use:
            node.blocked[task] = 1
            node.room += window
        given = True
        left -= 1
    return given


def _complete_group(s: SchedulerState, node: NodeRecord, batch: AssignBatch) -> None:
    """Assign what belongs to the last root task given to a node, though its time is full.

    That is the other inputs of the task that alone takes its result, if they are next and short,
    and that task: together their results never leave a worker's heap, apart they pile up.
    """
    left = s.settings.batch - len(batch)
    top = s.queues.peek()
    while top is not None and left > 0 and _is_in_group(s, node, top[1]):
        task = s.queues.take(1)[1]
        page = s.pages[task >> PAGE_BITS]
        assign(s, node, batch, task, page, task - page.start, -1)
        left -= 1
        top = s.queues.peek()
    if node.ahead and left > 0:
        _give_ahead(s, node, batch, top)


def _is_in_group(s: SchedulerState, node: NodeRecord, task: int) -> bool:
    """Whether a short root task is made for one other, which has an input assigned to the node."""
    found = s.find(task)
    if found is None or found[0].state[found[1]] != _READY:
        return False
    page, row = found
    layer = page.layer[row]
    heir = page.heir[row]
    if (
        heir < 0
        or page.refs[row] != 1
        or page.indptr[row] != page.indptr[row + 1]
        or layer.preferred
        or s.cost(layer.function) >= s.settings.window
    ):
        return False
    other = s.find(heir)
    return other is not None and any(
        source.state[at] == _ASSIGNED and source.node[at] == node.index
        for source, at in filter(None, map(s.find, other[0].inputs(other[1])))
    )


def _uses_up(s: SchedulerState, node: NodeRecord, page: Page, row: int) -> bool:
    """Whether what a task waits for is made for it alone, and begins before it."""
    for task in page.inputs(row):
        source = s.pages[task >> PAGE_BITS]
        at = task - source.start
        if source.state[at] == _ASSIGNED and (
            source.refs[at] != 1
            or source.flags[at] & WANTED
            or task in s.wants
            or task in node.blocked
        ):
            return False
    return True


def _cost_of(s: SchedulerState, task: int) -> float:
    found = s.find(task)
    window = s.settings.window
    return window if found is None else min(window, s.cost(found[0].layer[found[1]].function))
