"""What happens to tasks after they were assigned, and to results.

Reported results, errors and kills; the release of what nobody needs; the
recomputing of what was lost. The rules:

* a result is needed while a client wants it or a consumer is unfinished
  (``refs``); after that, nodes let it go and the row is RELEASED;
* a row is needed while any row lists it as an input (``kin``), because that
  consumer may be lost and run again; after that it is forgotten;
* a task that leaves ASSIGNED unfinished takes with it the tasks that were sent
  ahead after it: they cannot have started.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from zcluster.core.scheduler.pages import (
    DATA,
    DELIVERED,
    HELD,
    PAGE_BITS,
    PASSING,
    WANTED,
    Page,
)
from zcluster.core.scheduler.records import ClientRecord, Failure, LayerRecord, NodeRecord
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Cancelled, ErrorInfo, Failed, Finished, Unreachable
from zcluster.types import Buffer

__all__ = [
    "cancel",
    "drop_want",
    "enqueue",
    "fail",
    "finish_reported",
    "finish_row",
    "forget_layer",
    "forget_some",
    "give_back",
    "inherit_trouble",
    "lose",
    "need",
    "note_assigned",
    "on_failed",
    "orphaned",
    "release",
    "relink",
    "revive",
    "settle_unneeded",
    "shorten_layer",
    "tidy_heirs",
]

_WAITING, _AHEAD, _READY, _ASSIGNED = State.WAITING, State.AHEAD, State.READY, State.ASSIGNED
_FINISHED, _RELEASED, _FAILED, _CANCELLED = (
    State.FINISHED,
    State.RELEASED,
    State.FAILED,
    State.CANCELLED,
)
#: Not finished, not failed, not cancelled.
_OPEN = (_WAITING, _AHEAD, _READY, _ASSIGNED)


# ------------------------------------------------------------------------- queueing


def enqueue(s: SchedulerState, task: int, page: Page, row: int) -> None:
    """Queue a task whose inputs are all finished."""
    page.state[row] = _READY
    layer = page.layer[row]
    entry = (layer.base + page.order[row], task, 1)
    if layer.workers:
        s.queues.push_restricted(layer.workers, entry)
    else:
        s.queues.push(task >> 40, entry)


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
    if row in page.more:
        for other in page.more[row]:
            place_heir(s, other, node)


def _keep_at(s: SchedulerState, task: int, node: int) -> None:
    """A task goes to a node once more: what was to be said there of it is out of date."""
    if task in s.elsewhere:
        s.elsewhere[task].discard(node)
    s.unfree(task, node)


def place_heir(s: SchedulerState, heir: int, node: int) -> None:
    """Note that one more input of a consumer is assigned."""
    page = s.pages.get(heir >> PAGE_BITS)
    if page is None:
        return
    row = heir - page.start
    page.unplaced[row] -= 1
    if page.unplaced[row] == 0 and page.state[row] == _WAITING and page.missing[row]:
        queue_ahead(s, heir, page, row, node)


def queue_ahead(s: SchedulerState, task: int, page: Page, row: int, node: int) -> None:
    """Queue a task at the node where all its unfinished inputs are assigned, if one."""
    layer = page.layer[row]
    if layer.workers or layer.whole or node not in s.nodes:
        return
    for task_in in page.inputs(row):
        source = s.pages[task_in >> PAGE_BITS]
        at = task_in - source.start
        if source.state[at] == _ASSIGNED:
            if source.node[at] != node:
                return
        elif source.state[at] != _FINISHED:
            return
    page.state[row] = _AHEAD
    page.node[row] = node
    heapq.heappush(s.nodes[node].ahead, (layer.base + page.order[row], task))


def unplace_heirs(s: SchedulerState, page: Page, row: int) -> list[int]:
    """A task is assigned no more: its consumers cannot be sent ahead.

    Returns the consumers that were assigned; they must be given back too.
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
        elif state == _ASSIGNED:
            pulled.append(heir)
    return pulled


def leave_node(s: SchedulerState, task: int, page: Page, row: int, tell: bool) -> None:
    """Take a task off the node it is assigned to, unfinished."""
    index = page.node[row]
    node = s.nodes.get(index)
    page.node[row] = -1
    page.flags[row] &= ~PASSING & 0xFF
    if node is None:
        return
    node.count_assigned(page.layer[row].function, -1)
    if tell:
        s.drop(task, index)
    for task_in in page.inputs(row):
        found = s.find(task_in)
        if found is not None:
            # The node keeps the inputs of what leaves it, passing or not.
            found[0].flags[found[1]] &= ~PASSING & 0xFF


def give_back(s: SchedulerState, task: int, tell: bool) -> None:
    """Return an assigned task, and all sent ahead after it, to the queues."""
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
            enqueue(s, current, page, row)


# ------------------------------------------------------------------------- finishing


def finish_reported(s: SchedulerState, node: NodeRecord, message: Finished, frame: Buffer) -> None:
    """Take in a batch of results made at a node."""
    pages = s.pages
    index = node.index
    stale: list[int] = []
    counts: dict[bytes, int] = {}
    start = 0
    clients = s.clients
    for task, attempt, length, size in zip(
        message.tasks, message.attempts, message.lengths, message.sizes, strict=True
    ):
        stop = start + length if length > 0 else start
        page = pages.get(task >> PAGE_BITS)
        row = task - page.start if page is not None else -1
        if page is None or row < 0 or not page.state[row]:
            stale.append(task)
            start = stop
            continue
        state = page.state[row]
        if state != _ASSIGNED or page.node[row] != index:
            if state == _FINISHED and page.node[row] == index:
                start = stop  # said twice
                continue
            # Of a passing result of an earlier attempt nothing is left to accept.
            if length == -2 or not _accept_earlier(s, task, page, row, state):
                stale.append(task)
                start = stop
                continue
        elif page.attempt[row] != attempt:
            # The node has not heard of the newer attempt yet; it will answer to that.
            start = stop
            continue
        else:
            function = page.layer[row].function
            counts[function] = counts.get(function, 0) + 1
            if page.missing[row]:
                # An earlier attempt had inputs that are being made again.
                s.loose.update(page.inputs(row))
        page.node[row] = index
        page.size[row] = size
        if length == -3:
            page.flags[row] |= HELD
        elif length != -2 and page.flags[row] & PASSING:
            page.flags[row] &= ~PASSING & 0xFF  # the node keeps it
        flags = page.flags[row]
        if flags & WANTED:
            client = clients.get(task >> 40)
            if client is not None:
                blob = frame[start:stop] if length >= 0 else None
                client.resolved.append((task, blob))
                if blob is not None and page.refs[row] == 1:
                    page.flags[row] |= DELIVERED
        if task in s.wants:
            _tell_others(s, task, frame[start:stop] if length >= 0 else None)
        if length > 0 and page.heir[row] >= 0 and len(s.nodes) > 1:
            s.keep_inline(task, bytes(frame[start:stop]))
        start = stop
        if s.elsewhere:
            _drop_elsewhere(s, task, index)
        finish_row(s, task, page, row)
    if s.loose:
        tidy_heirs(s)
    for function, count in counts.items():
        node.count_assigned(function, -count)
    for digest, runs, microseconds in message.durations:
        s.learn(digest, runs, microseconds * 1e-6)
    if stale:
        s.frees.setdefault(index, []).extend(stale)
    s.finished_tasks += len(message.tasks)
    s.journal.note(s.now, "finished", node.info.name, message.tasks)


def _tell_others(s: SchedulerState, task: int, blob: Buffer | None) -> None:
    for client_index in s.wants[task]:
        other = s.clients.get(client_index)
        if other is not None:
            other.resolved.append((task, blob))


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
            give_back(s, heir, tell=True)
    else:
        # It was taken back, so consumers count it as not placed.
        for heir in page.heirs(row):
            found = s.find(heir)
            if found is not None:
                found[0].unplaced[found[1]] -= 1
    return True


def _drop_elsewhere(s: SchedulerState, task: int, but: int) -> None:
    """A task is done: tell nodes that still have it from the time they were away."""
    for node in s.elsewhere.pop(task, ()):
        if node != but:
            s.drop(task, node)


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


def finish_row(s: SchedulerState, task: int, page: Page, row: int) -> None:
    """Mark a task finished: wake its consumers, let go of its inputs."""
    pages = s.pages
    page.state[row] = _FINISHED
    heir = page.heir[row]
    if heir >= 0:
        _wake(s, heir)
        if row in page.more:
            for other in page.more[row]:
                _wake(s, other)
            del page.more[row]
        page.heir[row] = -1
    layer = page.layer[row]
    if layer.watchers or layer.whole:
        _finish_whole(s, layer)
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


def _finish_whole(s: SchedulerState, layer: LayerRecord) -> None:
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
    _drop_whole_refs(s, layer)


def _drop_whole_refs(s: SchedulerState, layer: LayerRecord) -> None:
    """No task of a layer needs the layers it takes all of any more."""
    for source in layer.whole:
        for task in range(source.first, source.first + source.count):
            found = s.find(task)
            if found is not None:
                drop_ref(s, task, *found)


# -------------------------------------------------------------------------- releasing


def drop_ref(s: SchedulerState, task: int, page: Page, row: int) -> None:
    """One client or consumer less needs a task."""
    page.refs[row] -= 1
    if page.refs[row] == 0:
        release(s, task, page, row)


def drop_want(s: SchedulerState, client: ClientRecord, task: int) -> None:
    """A client holds a task no more."""
    found = s.find(task)
    if found is None:
        return
    page, row = found
    if task >> 40 == client.index:
        if not page.flags[row] & WANTED:
            return
        page.flags[row] &= ~WANTED & 0xFF
    else:
        others = s.wants.get(task)
        if others is None or client.index not in others:
            return
        others.discard(client.index)
        if not others:
            del s.wants[task]
    drop_ref(s, task, page, row)


def release(s: SchedulerState, task: int, page: Page, row: int) -> None:
    """Let go of what nobody needs: a result, or a task not yet run."""
    state = page.state[row]
    if state == _FINISHED:
        page.state[row] = _RELEASED
        if not page.flags[row] & PASSING:
            node = page.node[row]
            if node in s.nodes:
                s.frees.setdefault(node, []).append(task)
                s.freed_bytes += page.size[row]
            if s.replicas and task in s.replicas:
                s.free(task, s.replicas.pop(task))
        page.node[row] = -1
        if s.inline:
            s.forget_inline(task)
    elif state in _OPEN:
        # Its inputs may now be unneeded too: a chain may be long, so no recursion.
        s.unneeded.append(task)
        return
    if page.kin[row] == 0:
        s.dying.append(task)


def settle_unneeded(s: SchedulerState) -> None:
    """Let go of unfinished tasks that nobody needs any more."""
    unneeded = s.unneeded
    while unneeded:
        task = unneeded.pop()
        found = s.find(task)
        if found is not None and found[0].refs[found[1]] == 0:
            page, row = found
            if page.state[row] in _OPEN:
                _settle(s, task, page, row, _RELEASED)
    if s.loose:
        tidy_heirs(s)


def forget_some(s: SchedulerState, most: int) -> None:
    """Forget rows that nobody lists as an input any more, a few at a time."""
    dying = s.dying
    pages = s.pages
    while dying and most > 0:
        most -= 1
        task = dying.popleft()
        found = s.find(task)
        if found is None:
            continue
        page, row = found
        if (
            page.kin[row]
            or page.refs[row]
            or page.state[row]
            not in (
                _RELEASED,
                _FAILED,
                _CANCELLED,
            )
        ):
            continue
        for task_in in page.indices[page.indptr[row] : page.indptr[row + 1]]:
            source = pages[task_in >> PAGE_BITS]
            at = task_in - source.start
            source.kin[at] -= 1
            if source.kin[at] == 0 and source.refs[at] == 0:
                dying.append(task_in)
        _forget_row(s, task, page, row)


def _forget_row(s: SchedulerState, task: int, page: Page, row: int) -> None:
    layer = page.layer[row]
    if page.state[row] == _FAILED:
        s.failures.pop(task, None)
    page.state[row] = State.FORGOTTEN
    page.clear_heirs(row)
    if layer.shared and layer.keys is not None:
        key = layer.keys[task - layer.first]
        if s.keys.get(key) == task:
            del s.keys[key]
    page.live -= 1
    if page.live == 0:
        del s.pages[task >> PAGE_BITS]
    layer.forgotten += 1
    if layer.forgotten == layer.count:
        forget_layer(s, layer)


def shorten_layer(s: SchedulerState, layer: LayerRecord) -> None:
    """The rest of a layer will never arrive: its client left."""
    if not layer.arrived:
        layer.whole = []  # it did not get so far as to take them
    absent = layer.count - layer.arrived
    layer.count = layer.arrived
    if layer.whole:
        layer.unfinished -= absent
        if layer.unfinished == 0:
            _drop_whole_refs(s, layer)
    if layer.forgotten == layer.count:
        forget_layer(s, layer)


def forget_layer(s: SchedulerState, layer: LayerRecord) -> None:
    """The last row of a layer was forgotten."""
    del s.layers[layer.number]
    for source in layer.whole:
        source.watchers.remove(layer)
        for task in range(source.first, source.first + source.count):
            found = s.find(task)
            if found is not None:
                found[0].kin[found[1]] -= 1
                if found[0].kin[found[1]] == 0 and found[0].refs[found[1]] == 0:
                    s.dying.append(task)
    for index in layer.nodes:
        node = s.nodes.get(index)
        if node is not None:
            node.layers.discard(layer.number)
            s.forgotten_layers.setdefault(index, []).append(layer.number)
    if layer.function:
        s.release_function(layer.function)


# ------------------------------------------------------- failing, cancelling, killing


def on_failed(s: SchedulerState, node: NodeRecord, message: Failed, frame: bytes) -> None:
    """Take in attempts that failed at a node: again, or for good."""
    for task, attempt, which in zip(message.tasks, message.attempts, message.which, strict=True):
        error = message.errors[which]
        found = s.find(task)
        if found is None:
            continue
        page, row = found
        if (
            page.state[row] != _ASSIGNED
            or page.node[row] != node.index
            or page.attempt[row] != attempt
        ):
            continue
        s.journal.note(s.now, f"failed ({error.kind})", node.info.name, (task,))
        if _may_try_again(s, task, page.layer[row], error):
            give_back(s, task, tell=False)
            continue
        exception = b""
        if error.exception is not None:
            exception = frame[error.exception[1] : error.exception[2]]
        fail(s, task, Failure(error, exception))


def _may_try_again(s: SchedulerState, task: int, layer: LayerRecord, error: ErrorInfo) -> bool:
    if error.kind == "killed":
        s.kills[task] = s.kills.get(task, 0) + 1
        return s.kills[task] < s.settings.kills
    s.tries[task] = s.tries.get(task, 0) + 1
    return s.tries[task] <= layer.retries


def fail(s: SchedulerState, task: int, failure: Failure) -> None:
    """A task failed for good, and with it all that would have used its result."""
    inherited = Failure(_as_input(failure.error, task), failure.exception)
    first = True
    stack = [task]
    while stack:
        current = stack.pop()
        found = s.find(current)
        if found is None or found[0].state[found[1]] not in _OPEN:
            continue
        page, row = found
        s.failures[current] = failure if first else inherited
        heirs = _settle(s, current, page, row, _FAILED, tell=not first)
        stack.extend(heirs)
        first = False
    tidy_heirs(s)


def _as_input(error: ErrorInfo, origin: int) -> ErrorInfo:
    if error.kind == "input":
        return error
    return ErrorInfo(
        "input",
        error.type_name,
        error.message,
        error.traceback,
        origin,
        error.attempt,
        error.node,
        error.worker,
        error.exception,
    )


def cancel(s: SchedulerState, tasks: list[int], reason: str) -> None:
    """Give up tasks and what depends on them, unless they are finished."""
    stack = list(tasks)
    told: dict[int, list[int]] = {}
    while stack:
        current = stack.pop()
        found = s.find(current)
        if found is None or found[0].state[found[1]] not in _OPEN:
            continue
        page, row = found
        for client in s.wanters(current, page, row):
            told.setdefault(client.peer, []).append(current)
        stack.extend(_settle(s, current, page, row, _CANCELLED))
    tidy_heirs(s)
    for peer, gone in told.items():
        s.say(peer, Cancelled(gone, reason))


def _settle(
    s: SchedulerState, task: int, page: Page, row: int, state: State, tell: bool = True
) -> list[int]:
    """End an unfinished task without a result; return the consumers that waited."""
    if page.state[row] == _ASSIGNED:
        leave_node(s, task, page, row, tell)
    page.state[row] = state
    page.node[row] = -1
    heirs = list(page.heirs(row))
    page.clear_heirs(row)
    s.kills.pop(task, None)
    s.tries.pop(task, None)
    if s.elsewhere:
        _drop_elsewhere(s, task, -1)
    if page.flags[row] & DATA:
        # A node may have it from the client already, and is told of no other end.
        s.free(task, s.nodes)
    if state == _FAILED:
        _tell_failed(s, task, page, row)
    layer = page.layer[row]
    if layer.watchers and state != _RELEASED:
        heirs.extend(_fail_whole(layer.parent or layer, task))
    if layer.whole or layer.watchers:
        _finish_whole(s, layer)
    for task_in in page.inputs(row):
        found = s.find(task_in)
        if found is not None:
            if found[0].state[found[1]] in _OPEN:
                s.loose.add(task_in)
            drop_ref(s, task_in, *found)
    if page.refs[row] == 0 and page.kin[row] == 0:
        s.dying.append(task)
    return heirs


def _fail_whole(layer: LayerRecord, task: int) -> list[int]:
    """Note that not all of a layer will be there; return who counted on that.

    Once is enough: tasks that come later look at ``failed``.
    """
    if layer.failed >= 0:
        return []
    layer.failed = task
    return [
        heir
        for watcher in layer.watchers
        for heir in range(watcher.first, watcher.first + watcher.arrived)
    ]


def inherit_trouble(s: SchedulerState, task: int, source: int) -> None:
    """An unfinished task has an input that failed, was cancelled or is not known."""
    if s.find(source) is None:
        reason = (
            f"input {source} of {s.key(task)} is not known: its future was released before the "
            "task was submitted; keep the future until then"
        )
        error = ErrorInfo("lost", "zcluster.errors.DataLost", reason, "", source, 0, "", "")
        fail(s, task, Failure(error, b""))
    elif source in s.failures:
        failure = s.failures[source]
        fail(s, task, Failure(_as_input(failure.error, source), failure.exception))
    else:
        cancel(s, [task], "an input was cancelled")


def _tell_failed(s: SchedulerState, task: int, page: Page, row: int) -> None:
    failure = s.failures[task]
    error = failure.error
    if error.exception is not None:
        error = ErrorInfo(
            error.kind,
            error.type_name,
            error.message,
            error.traceback,
            error.origin,
            error.attempt,
            error.node,
            error.worker,
            (0, 0, len(failure.exception)),
        )
    for client in s.wanters(task, page, row):
        s.say(client.peer, Failed([task], [error.attempt], [0], [error]), [failure.exception])


# --------------------------------------------------------------------------- recomputing


def lose(s: SchedulerState, lost: set[int]) -> None:
    """Results are gone: make again those that are needed, and what they need.

    Only the smallest set is recomputed: a needed task whose inputs are at hand
    runs again; inputs that were let go run again before it.
    """
    again: set[int] = set()
    stack: list[int] = []
    for task in lost:
        found = s.find(task)
        if found is None or found[0].state[found[1]] != _FINISHED:
            continue
        page, row = found
        page.state[row] = _RELEASED
        page.node[row] = -1
        s.forget_inline(task)
        s.replicas.pop(task, None)
        # The only one who needs it may be its client, which has it.
        kept = page.flags[row] & (DELIVERED | WANTED) == DELIVERED | WANTED
        if page.refs[row] and not (kept and page.refs[row] == 1):
            stack.append(task)
        elif page.refs[row] == 0 and page.kin[row] == 0:
            s.dying.append(task)
    need(s, stack, again)
    if again:
        relink(s, again)


def need(s: SchedulerState, stack: list[int], again: set[int]) -> None:
    """Mark released tasks, and released inputs of theirs, as to be done again."""
    while stack:
        task = stack.pop()
        if task in again:
            continue
        page, row = s.find(task) or _no_row(task)
        if page.state[row] != _RELEASED:
            continue
        page.state[row] = _WAITING
        page.flags[row] &= ~(DELIVERED | PASSING | HELD) & 0xFF
        page.node[row] = -1
        again.add(task)
        layer = page.layer[row]
        if layer.watchers or layer.whole:
            _unfinish_whole(s, layer, stack)
        if page.flags[row] & DATA:
            owner = s.client_of(task)
            if owner is not None:
                s.say(owner.peer, Unreachable([task], -1))
            continue  # without an owner: `relink` gives it up
        for task_in in page.inputs(row):
            source, at = s.find(task_in) or _no_row(task_in)
            source.refs[at] += 1
            if source.state[at] == _RELEASED:
                stack.append(task_in)


def revive(s: SchedulerState, tasks: Iterable[int]) -> None:
    """Make results again that were let go and that somebody needs after all."""
    gone: list[int] = []
    for task in tasks:
        found = s.find(task)
        if found is not None and found[0].state[found[1]] == _RELEASED and found[0].refs[found[1]]:
            gone.append(task)
    if gone:
        again: set[int] = set()
        need(s, gone, again)
        relink(s, again)


def _unfinish_whole(s: SchedulerState, layer: LayerRecord, stack: list[int]) -> None:
    """A task of a layer that takes all of others, or that others take, is to be redone."""
    layer = layer.parent or layer
    layer.unfinished += 1
    if layer.unfinished != 1:
        return
    for source in layer.whole:
        for task in range(source.first, source.first + source.count):
            page, row = s.find(task) or _no_row(task)
            page.refs[row] += 1
            if page.state[row] == _RELEASED:
                stack.append(task)
    for watcher in layer.watchers:
        for task in range(watcher.first, watcher.first + watcher.arrived):
            found = s.find(task)
            if found is not None and found[0].state[found[1]] in _OPEN:
                page, row = found
                page.missing[row] += 1
                page.unplaced[row] += 1
                if page.state[row] == _ASSIGNED:
                    give_back(s, task, tell=True)
                page.state[row] = _WAITING


def _no_row(task: int) -> tuple[Page, int]:
    raise AssertionError(f"task {task} is listed as an input but has no row")


def relink(s: SchedulerState, again: set[int]) -> None:
    """Count anew what unfinished consumers of recomputed tasks wait for."""
    pulled: list[int] = []
    for task, page, row in s.rows():
        state = page.state[row]
        if state not in _OPEN:
            continue
        back = [t for t in page.inputs(row) if t in again]
        if task not in again:
            if not back:
                continue
            for task_in in back:
                source, at = s.find(task_in) or _no_row(task_in)
                source.add_heir(at, task)
            page.missing[row] += len(back)
            page.unplaced[row] += len(back)
            if state == _ASSIGNED:
                pulled.append(task)
            else:
                page.state[row] = _WAITING
                page.node[row] = -1
    for task in again:
        page, row = s.find(task) or _no_row(task)
        _count_inputs(s, task, page, row)
    for task in pulled:
        give_back(s, task, tell=True)
    for task in again:
        _give_up_hopeless(s, task)


def _give_up_hopeless(s: SchedulerState, task: int) -> None:
    """End a task to be done again that cannot be: an input failed, or its data is gone."""
    page, row = s.find(task) or _no_row(task)
    if page.flags[row] & DATA:
        if s.client_of(task) is None:
            fail(s, task, orphaned(s, task))
        return
    for task_in in page.inputs(row):
        source, at = s.find(task_in) or _no_row(task_in)
        if source.state[at] in (_FAILED, _CANCELLED):
            inherit_trouble(s, task, task_in)
            return
    for layer in page.layer[row].whole:
        if layer.failed >= 0:
            inherit_trouble(s, task, layer.failed)
            return


def orphaned(s: SchedulerState, task: int) -> Failure:
    """Return why data cannot be had again: it was lost, and the client that had it left."""
    reason = f"the data {s.key(task)} was lost, and the client that had it is gone"
    error = ErrorInfo("lost", "zcluster.errors.DataLost", reason, "", task, 0, "", "")
    return Failure(error, b"")


def _count_inputs(s: SchedulerState, task: int, page: Page, row: int) -> None:
    missing = unplaced = 0
    for task_in in page.inputs(row):
        source, at = s.find(task_in) or _no_row(task_in)
        state = source.state[at]
        if state != _FINISHED:
            missing += 1
            unplaced += state != _ASSIGNED
            if state in _OPEN:
                source.add_heir(at, task)
    for layer in page.layer[row].whole:
        missing += layer.unfinished > 0
        unplaced += layer.unfinished > 0
    if page.flags[row] & DATA:
        missing = unplaced = 1
    page.missing[row] = missing
    page.unplaced[row] = unplaced
    if missing == 0:
        enqueue(s, task, page, row)
