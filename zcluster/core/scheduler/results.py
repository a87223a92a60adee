"""Results that nodes report: consumers wake, inputs are let go, clients are told."""

from __future__ import annotations

from zcluster.core.scheduler.assigning import (
    enqueue,
    give_back,
    leave_node,
    tidy_heirs,
    unbind,
)
from zcluster.core.scheduler.pages import (
    DATA,
    DELIVERED,
    HELD,
    PAGE_BITS,
    PASSING,
    WANTED,
    Page,
)
from zcluster.core.scheduler.records import LayerRecord, NodeRecord
from zcluster.core.scheduler.releasing import drop_whole_refs, release
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Finished
from zcluster.types import Buffer

__all__ = ["drop_elsewhere", "finish_reported", "finish_row", "finish_whole"]

_WAITING, _AHEAD, _READY, _ASSIGNED = State.WAITING, State.AHEAD, State.READY, State.ASSIGNED
_FINISHED, _RELEASED = State.FINISHED, State.RELEASED
#: Not finished, not failed, not cancelled.
_OPEN = (_WAITING, _AHEAD, _READY, _ASSIGNED)


def finish_reported(s: SchedulerState, node: NodeRecord, message: Finished, frame: Buffer) -> None:
    """Take in a batch of results made at a node."""
    pages = s.pages
    index = node.index
    stale: list[int] = []
    counts: dict[bytes, int] = {}
    stop = 0
    clients, wants, elsewhere = s.clients, s.wants, s.elsewhere
    bound, blocked = s.bound, node.blocked
    is_only_node = len(s.nodes) == 1
    credit = s.settings.client_credit
    for task, attempt, length, size in zip(
        message.tasks, message.attempts, message.lengths, message.sizes, strict=True
    ):
        start, stop = stop, (stop + length if length > 0 else stop)
        page = pages.get(task >> PAGE_BITS)
        row = task - page.start if page is not None else -1
        if page is None or row < 0 or not page.state[row]:
            stale.append(task)
            continue
        state = page.state[row]
        if state != _ASSIGNED or page.node[row] != index:
            if state == _FINISHED and page.node[row] == index:
                continue  # said twice
            # Of a passing result of an earlier attempt nothing is left to accept.
            if length == -2 or not _accept_earlier(s, task, page, row, state):
                if (task, index) not in s.ordered:  # else it is the copy that is wanted there
                    stale.append(task)
                continue
        elif page.attempt[row] != attempt:
            continue  # the node has not heard of the newer one yet; it will answer to that
        else:
            layer = page.layer[row]
            function = layer.function
            counts[function] = counts.get(function, 0) + (
                1 if layer.profile is None else layer.profile.threads
            )
            if bound:
                unbind(s, task)
            if blocked:
                blocked.pop(task, None)
            if page.missing[row]:
                # An earlier attempt had inputs that are being made again.
                s.loose.update(page.inputs(row))
        page.node[row] = index
        page.size[row] = size
        if length == -1:
            s.stored_bytes += size
        elif length == -3:
            page.flags[row] |= HELD
        if length >= -1 and page.flags[row] & PASSING:
            page.flags[row] &= ~PASSING & 0xFF  # the node keeps it
        flags = page.flags[row]
        if flags & WANTED:
            client = clients.get(task >> 40)
            if client is not None:
                if length < 0:
                    client.resolved.append((task, None))
                elif client.settle(task, frame[start:stop], credit) and page.refs[row] == 1:
                    page.flags[row] |= DELIVERED
        if wants and task in wants:
            _tell_others(s, task, frame[start:stop] if length >= 0 else None)
        if length > 0 and not is_only_node and page.heir[row] >= 0:
            s.keep_inline(task, bytes(frame[start:stop]))
        if elsewhere:
            drop_elsewhere(s, task, index)
        finish_row(s, task, page, row)
    if s.loose:
        tidy_heirs(s)
    if stale:
        s.frees.setdefault(index, []).extend(stale)
    _account(s, node, message, counts)


def _account(
    s: SchedulerState, node: NodeRecord, message: Finished, counts: dict[bytes, int]
) -> None:
    """Note what a report says as a whole; ``counts`` has the slots that are free, by callable."""
    for function, count in counts.items():
        node.count_assigned(function, -count)
    for digest, runs, microseconds in message.durations:
        s.learn(digest, runs, microseconds * 1e-6)
    s.finished_tasks += len(message.tasks)
    s.journal.note(s.now, "finished", node.info.name, message.tasks)


def _tell_others(s: SchedulerState, task: int, blob: Buffer | None) -> None:
    for client_index in s.wants[task]:
        other = s.clients.get(client_index)
        if other is None:
            continue
        if blob is None:
            other.resolved.append((task, None))
        else:
            other.settle(task, blob, s.settings.client_credit)


def _accept_earlier(s: SchedulerState, task: int, page: Page, row: int, state: int) -> bool:
    """Whether a result of an earlier attempt is still of use; prepare the row."""
    if state not in _OPEN or page.flags[row] & DATA:
        return False
    if page.missing[row]:
        s.loose.update(page.inputs(row))
    if state == _ASSIGNED:
        leave_node(s, task, page, row, tell=True)
        # What was sent ahead after it waits there for a result that will not be made.
        for heir in list(page.heirs(row)):
            found = s.find(heir)
            if found is not None and not found[0].layer[found[1]].is_once:
                give_back(s, heir, tell=True)
    else:
        # It was taken back, so consumers count it as not placed.
        for heir in page.heirs(row):
            found = s.find(heir)
            if found is not None:
                found[0].unplaced[found[1]] -= 1
    return True


def drop_elsewhere(s: SchedulerState, task: int, but: int) -> None:
    """A task is done: tell nodes that still have it from the time they were away."""
    for node in s.elsewhere.pop(task, ()):
        if node != but:
            s.drop(task, node)


def finish_row(s: SchedulerState, task: int, page: Page, row: int) -> None:
    """Mark a task finished: wake its consumers, let go of its inputs."""
    pages = s.pages
    page.state[row] = _FINISHED
    heir = page.heir[row]
    if heir >= 0:
        page.heir[row] = -1
        _wake(s, heir)
        if page.more and row in page.more:
            for other in page.more.pop(row):
                _wake(s, other)
    layer = page.layer[row]
    if layer.watchers or layer.whole:
        finish_whole(s, layer)
    start, stop = page.indptr[row], page.indptr[row + 1]
    if start != stop:
        for task_in in page.indices[start:stop]:
            source = pages[task_in >> PAGE_BITS]
            at = task_in - source.start
            refs = source.refs[at] - 1
            source.refs[at] = refs
            if refs == 0:
                if source.flags[at] & PASSING and source.state[at] == _FINISHED:
                    # What `release` does where there is nothing to free, without the call.
                    source.state[at] = _RELEASED
                    source.node[at] = -1
                    if s.inline:
                        s.forget_inline(task_in)
                else:
                    release(s, task_in, source, at)
    if page.refs[row] == 0:
        release(s, task, page, row)
    if s.kills or s.tries:
        s.kills.pop(task, None)
        s.ends.pop(task, None)
        s.tries.pop(task, None)


def _wake(s: SchedulerState, heir: int) -> None:
    page = s.pages.get(heir >> PAGE_BITS)
    if page is None:
        return
    row = heir - page.start
    missing = page.missing[row] - 1
    page.missing[row] = missing
    if missing == 0 and page.state[row] in (_WAITING, _AHEAD):
        page.node[row] = -1
        enqueue(s, heir, page, row)


def finish_whole(s: SchedulerState, layer: LayerRecord) -> None:
    """Count a task that is done, of a layer that others take all of or that takes all."""
    layer = layer.parent or layer
    layer.unfinished -= 1
    if layer.unfinished:
        return
    for watcher in layer.watchers:
        for task in range(watcher.first, watcher.first + watcher.arrived):
            found = s.find(task)
            if found is not None:
                found[0].unplaced[found[1]] -= 1
                _wake(s, task)
    drop_whole_refs(s, layer)
