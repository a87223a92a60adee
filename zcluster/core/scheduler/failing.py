"""Tasks that end without a result: failed, cancelled, needed by nobody."""

from __future__ import annotations

from msgspec.structs import replace

from zcluster.core.scheduler.assigning import give_back, leave_node, tidy_heirs
from zcluster.core.scheduler.pages import DATA, WANTED, Page
from zcluster.core.scheduler.records import ClientRecord, Failure, LayerRecord, NodeRecord
from zcluster.core.scheduler.releasing import drop_ref, drop_want
from zcluster.core.scheduler.results import drop_elsewhere, finish_whole
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Cancelled, ErrorInfo, Failed
from zcluster.types import Reschedule

__all__ = [
    "cancel",
    "fail",
    "inherit_trouble",
    "lost_once",
    "on_failed",
    "settle_unneeded",
    "tell_failed",
    "with_sources",
]

_WAITING, _AHEAD, _READY, _ASSIGNED = State.WAITING, State.AHEAD, State.READY, State.ASSIGNED
_RELEASED, _FAILED, _CANCELLED = State.RELEASED, State.FAILED, State.CANCELLED
#: As errors name it: a task that raised this runs again, however often.
_RESCHEDULE = f"{Reschedule.__module__}.{Reschedule.__qualname__}"
#: Of the workers a task took down, so many are remembered, in so many characters each.
_ENDS, _END_LENGTH = 5, 300
#: Of the key of an input that failed.
_KEY_LENGTH = 200
#: What a node writes between how a worker ended and what it had printed.
_OUTPUT = "; its last output:\n"
#: Not finished, not failed, not cancelled.
_OPEN = (_WAITING, _AHEAD, _READY, _ASSIGNED)


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
            give_back(s, task, tell=False, delay=_delay(s, task, page.layer[row]))
            continue
        exception = b""
        if error.exception is not None:
            exception = frame[error.exception[1] : error.exception[2]]
        if error.kind == "killed":
            error = _with_ends(s, task, error)
        fail(s, task, Failure(error, exception))


def _note_end(s: SchedulerState, task: int, error: ErrorInfo) -> None:
    """Remember how a worker ended that ran a task; what it has printed is of the last alone."""
    ends = s.ends.setdefault(task, [])
    ends.append(error.message.partition(_OUTPUT)[0][:_END_LENGTH])
    del ends[:-_ENDS]


def _with_ends(s: SchedulerState, task: int, error: ErrorInfo) -> ErrorInfo:
    """Return the error of a task that took down several workers: how each of them ended."""
    earlier = s.ends.get(task, [])[:-1]
    if not earlier:
        return error
    said = "".join(f"\n- {end}" for end in earlier)
    head, between, output = error.message.partition(_OUTPUT)
    message = f"{head}\nIt took down {s.kills[task]} workers; before this one:{said}"
    if between:
        message += f"\nThe last output of this one:\n{output}"
    return replace(error, message=message)


def _may_try_again(s: SchedulerState, task: int, layer: LayerRecord, error: ErrorInfo) -> bool:
    if layer.is_once:
        return False
    if error.kind == "killed":
        s.kills[task] = s.kills.get(task, 0) + 1
        _note_end(s, task, error)
        return s.kills[task] < s.settings.kills
    if _RESCHEDULE in error.bases:
        return True
    needs = layer.needs
    if needs is not None and needs.retry_on and not set(needs.retry_on) & {*error.bases}:
        return False
    s.tries[task] = s.tries.get(task, 0) + 1
    return s.tries[task] <= layer.retries


def _delay(s: SchedulerState, task: int, layer: LayerRecord) -> float:
    """Return how long to wait before a task that raised is tried again."""
    if layer.needs is None or task not in s.tries:
        return 0.0
    # In the end a day: the exponent must not overflow.
    return min(layer.needs.retry_delay * 2.0 ** min(s.tries[task] - 1, 60), 86400.0)


def fail(s: SchedulerState, task: int, failure: Failure) -> None:
    """A task failed for good, and with it all that would have used its result."""
    inherited = Failure(_as_input(s, failure.error, task), failure.exception)
    told: dict[int, list[int]] = {}
    current_failure = failure
    stack = [task]
    while stack:
        current = stack.pop()
        found = s.find(current)
        if found is None or found[0].state[found[1]] not in _OPEN:
            continue
        page, row = found
        s.failures[current] = current_failure
        wanters = [client.peer for client in s.wanters(current, page, row)]
        if current_failure is failure:
            for peer in wanters:
                tell_failed(s, peer, [current], failure)
        else:
            for peer in wanters:
                told.setdefault(peer, []).append(current)
        stack.extend(_settle(s, current, page, row, _FAILED, tell=current_failure is inherited))
        current_failure = inherited
    for peer, tasks in told.items():
        tell_failed(s, peer, tasks, inherited)
    tidy_heirs(s)


def _as_input(s: SchedulerState, error: ErrorInfo, origin: int) -> ErrorInfo:
    if error.kind == "input":
        return error
    return replace(error, kind="input", origin=origin, origin_key=s.key(origin)[:_KEY_LENGTH])


def tell_failed(s: SchedulerState, peer: int, tasks: list[int], failure: Failure) -> None:
    """Tell a peer that tasks failed."""
    error = failure.error
    if error.exception is not None:
        error = replace(error, exception=(0, 0, len(failure.exception)))
    count = len(tasks)
    message = Failed(tasks, [error.attempt] * count, [0] * count, [error])
    s.say(peer, message, [failure.exception])


def lost_once(s: SchedulerState, task: int, what: str) -> Failure:
    """Return why a task that runs at most once is given up: of what may have begun is lost."""
    reason = (
        f"{s.key(task)} runs at most once, and {what}; it may have done part of its work, and is "
        "not run again: see what it did, then retry its own future or submit it anew"
    )
    error = ErrorInfo("once", "zcluster.errors.TaskLost", reason, "", task, 0, "", "")
    return Failure(error, b"")


def cancel(
    s: SchedulerState,
    tasks: list[int],
    reason: str,
    force: bool = False,
    client: ClientRecord | None = None,
) -> None:
    """Give up tasks and what depends on them, unless they are finished.

    What others than the ``client`` that asks want, or need for what they want, goes on without
    this client; with ``force``, or where no client asks, it ends for everybody. With ``force``
    those that run are stopped, also what was cancelled before and runs on.
    """
    kept: set[int] = set()
    if force:
        tasks = with_sources(s, tasks)
        _stop_anywhere(s, tasks)
    elif client is not None:
        # Nobody else has the data of a client: without it no one's tasks can run.
        cancel(s, [task for task in tasks if _is_data_of(s, client, task)], reason)
        kept = _needed_by_others(s, client, tasks)
    stack = list(tasks)
    seen: set[int] = set()
    told: dict[int, list[int]] = {}
    while stack:
        current = stack.pop()
        found = s.find(current)
        if current in seen or found is None or found[0].state[found[1]] not in _OPEN:
            continue
        seen.add(current)
        page, row = found
        for wanter in s.wanters(current, page, row):
            if current not in kept or wanter is client:
                told.setdefault(wanter.peer, []).append(current)
        if current in kept and client is not None:
            drop_want(s, client, current)
            stack.extend(_consumers(page, row))
            continue
        if force:
            s.forced.add(current)
        stack.extend(_settle(s, current, page, row, _CANCELLED))
    tidy_heirs(s)
    for peer, gone in told.items():
        s.say(peer, Cancelled(gone, reason))


def with_sources(s: SchedulerState, tasks: list[int]) -> list[int]:
    """Return tasks, and those of others whose results stand for the results of some of them."""
    sources: list[int] = []
    for task in tasks:
        found = s.find(task)
        if found is not None and found[0].layer[found[1]].parent is not None:
            sources += found[0].inputs(found[1])
    return [*tasks, *sources]


def _stop_anywhere(s: SchedulerState, tasks: list[int]) -> None:
    """Have those that ended without a result stopped: where they may run is not known any more."""
    for task in tasks:
        found = s.find(task)
        if found is None or found[0].state[found[1]] in (_CANCELLED, _RELEASED):
            s.forced.add(task)
            for index in s.nodes:
                s.drop(task, index)


def _is_data_of(s: SchedulerState, client: ClientRecord, task: int) -> bool:
    found = s.find(task) if task >> 40 == client.index else None
    return found is not None and bool(found[0].flags[found[1]] & DATA)


def _needed_by_others(s: SchedulerState, client: ClientRecord, tasks: list[int]) -> set[int]:
    """Return what must stay of unfinished tasks and their consumers: for others than a client.

    They want it themselves, or a consumer of it. Numbers below zero stand for layers that others
    take all of.
    """
    above: dict[int, list[int]] = {}
    needed: list[int] = []
    seen: set[int] = set()
    stack = list(tasks)
    while stack:
        task = stack.pop()
        found = s.find(task)
        if task in seen or found is None or found[0].state[found[1]] not in _OPEN:
            continue
        seen.add(task)
        page, row = found
        is_owner = task >> 40 == client.index
        if not s.wants.get(task, set()) <= {client.index} or (
            page.flags[row] & WANTED and not is_owner
        ):
            needed.append(task)
        for heir in page.heirs(row):
            above.setdefault(heir, []).append(task)
            stack.append(heir)
        layer = page.layer[row]
        if not layer.watchers:
            continue
        layer = layer.parent or layer
        if -layer.number not in above:
            for taker in _takers(layer):
                above.setdefault(taker, []).append(-layer.number)
                stack.append(taker)
        above.setdefault(-layer.number, []).append(task)
    kept: set[int] = set()
    while needed:
        task = needed.pop()
        if task not in kept:
            kept.add(task)
            needed += above.get(task, ())
    return kept


def _consumers(page: Page, row: int) -> list[int]:
    """Return the tasks that wait for a task, alone or with all of its layer."""
    layer = page.layer[row]
    return [*page.heirs(row), *_takers(layer.parent or layer)]


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


def inherit_trouble(s: SchedulerState, task: int, source: int) -> None:
    """An unfinished task has an input that failed, was cancelled or is not known."""
    if s.find(source) is None:
        reason = (
            f"input {source} of {s.key(task)} is not known: its future was released, or the "
            "cluster restarted, before the task was submitted; keep the future, or make it again"
        )
        error = ErrorInfo("lost", "zcluster.errors.DataLost", reason, "", source, 0, "", "")
        fail(s, task, Failure(error, b""))
    elif source in s.failures:
        failure = s.failures[source]
        fail(s, task, Failure(_as_input(s, failure.error, source), failure.exception))
    else:
        cancel(s, [task], "an input was cancelled")


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
    s.ends.pop(task, None)
    s.tries.pop(task, None)
    if s.elsewhere:
        drop_elsewhere(s, task, -1)
    if page.flags[row] & DATA:
        # A node may have it from the client already, and is told of no other end.
        s.free(task, s.nodes)
    layer = page.layer[row]
    if layer.watchers and state != _RELEASED:
        heirs.extend(_fail_whole(layer.parent or layer, task))
    if layer.whole or layer.watchers:
        finish_whole(s, layer)
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
    return _takers(layer)


def _takers(layer: LayerRecord) -> list[int]:
    """Return the tasks that take all of a layer."""
    return [
        task
        for watcher in layer.watchers
        for task in range(watcher.first, watcher.first + watcher.arrived)
    ]
