"""Results that are gone and needed: made again, with the least that this takes.

A needed task whose inputs are at hand runs again; inputs that were let go run
again before it; consumers are counted anew. An actor that was made is never made
again unasked: its state would be gone. It fails, with all that needs it. So does what
runs at most once, and did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from msgspec.structs import replace

from zcluster.core.scheduler.assigning import enqueue, give_back
from zcluster.core.scheduler.failing import fail, inherit_trouble, lost_once
from zcluster.core.scheduler.pages import (
    DATA,
    DELIVERED,
    HELD,
    PAGE_BITS,
    PARTIAL,
    PASSING,
    WANTED,
    Page,
)
from zcluster.core.scheduler.records import Failure, LayerRecord
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import ErrorInfo, Unreachable

__all__ = [
    "cannot_run_again",
    "has_run_once",
    "lose",
    "lost_actor",
    "need",
    "orphaned",
    "relink",
    "revive",
]

_WAITING, _AHEAD, _READY, _ASSIGNED = State.WAITING, State.AHEAD, State.READY, State.ASSIGNED
_FINISHED, _RELEASED, _FAILED, _CANCELLED = (
    State.FINISHED,
    State.RELEASED,
    State.FAILED,
    State.CANCELLED,
)
#: Of why an input failed, so many characters are said again.
_REASON_LENGTH = 300
#: Not finished, not failed, not cancelled.
_OPEN = (_WAITING, _AHEAD, _READY, _ASSIGNED)


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
        kept = kept and not _was_actor(page, row)
        if page.refs[row] and not (kept and page.refs[row] == 1):
            stack.append(task)
        elif page.refs[row] == 0 and page.kin[row] == 0:
            s.dying.append(task)
    need(s, stack, again)
    if again:
        relink(s, again)


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


def need(s: SchedulerState, stack: list[int], again: set[int], asked: Collection[int] = ()) -> None:
    """Mark released tasks, and released inputs of theirs, as to be done again.

    Those ``asked`` for by a user are, although they run at most once otherwise.
    """
    while stack:
        task = stack.pop()
        if task in again:
            continue
        page, row = s.row_of(task)
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
        # `relink` gives it up too.
        is_hopeless = cannot_run_again(page, row, is_asked=task in asked)
        for task_in in page.inputs(row):
            source, at = s.row_of(task_in)
            source.refs[at] += 1
            if is_hopeless:
                continue
            if source.state[at] == _FINISHED and source.flags[at] & PASSING:
                # Its node drops it after the consumers it has; this one would not find it. They
                # are taken from there, and then it would stay.
                s.free(task_in, [source.node[at]])
                source.state[at] = _RELEASED
            if source.state[at] == _RELEASED:
                stack.append(task_in)


def relink(s: SchedulerState, again: set[int], asked: Collection[int] = ()) -> None:
    """Count anew what unfinished consumers of recomputed tasks wait for; see `need`."""
    pulled: list[int] = []
    for task, page, row, back in _consumers(s, again):
        if task in again:
            continue
        for task_in in back:
            source, at = s.row_of(task_in)
            source.add_heir(at, task)
        page.missing[row] += len(back)
        page.unplaced[row] += len(back)
        if page.state[row] == _ASSIGNED:
            if not page.layer[row].is_once:  # it may have begun, and have had them
                pulled.append(task)
        else:
            page.state[row] = _WAITING
            page.node[row] = -1
    for task in again:
        page, row = s.row_of(task)
        _count_inputs(s, task, page, row)
    for task in pulled:
        give_back(s, task, tell=True)
    for task in again:
        _give_up_hopeless(s, task, task in asked)


def _consumers(s: SchedulerState, again: set[int]) -> Iterator[tuple[int, Page, int, list[int]]]:
    """Yield (task, page, row, inputs to be done again) of unfinished consumers of tasks.

    Nothing lists the consumers of a finished task; but it is known how many edges lead to
    unfinished ones, and those are mostly near. So this looks at the pages from the first of
    the tasks on, and ends with the last edge.
    """
    left = sum(_edges(s, task) for task in again)
    if not left:
        return
    low = min(again) >> PAGE_BITS
    for number in sorted(s.pages, key=lambda number: (number < low, number)):
        page = s.pages[number]
        if again.isdisjoint(page.indices):
            continue
        for row, state in enumerate(page.state):
            if state not in _OPEN:
                continue
            back = [task for task in page.inputs(row) if task in again]
            if back:
                left -= len(back)
                yield page.start + row, page, row, back
        if left <= 0:
            return


def _edges(s: SchedulerState, task: int) -> int:
    """Return how many edges lead from a task to unfinished ones, or a few more."""
    page, row = s.row_of(task)
    return page.refs[row] - bool(page.flags[row] & WANTED) - len(s.wants.get(task, ()))


def _count_inputs(s: SchedulerState, task: int, page: Page, row: int) -> None:
    missing = unplaced = 0
    for task_in in page.inputs(row):
        source, at = s.row_of(task_in)
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


def _give_up_hopeless(s: SchedulerState, task: int, is_asked: bool) -> None:
    """End a task to be done again that cannot be: an input failed, or its data is gone."""
    page, row = s.row_of(task)
    if page.flags[row] & DATA:
        if s.client_of(task) is None:
            fail(s, task, orphaned(s, task))
        return
    if page.flags[row] & PARTIAL:
        fail(s, task, _incomplete(s, task))
        return
    if _was_actor(page, row):
        page.size[row] = 0  # if somebody asks for it, it is made anew
        fail(s, task, lost_actor(s, task))
        return
    if not is_asked and has_run_once(page, row):
        fail(s, task, lost_once(s, task, "its result is gone"))
        return
    for task_in in page.inputs(row):
        source, at = s.row_of(task_in)
        if source.state[at] in (_FAILED, _CANCELLED):
            _inherit(s, task, task_in, is_asked)
            return
    for layer in page.layer[row].whole:
        if layer.failed >= 0:
            _inherit(s, task, layer.failed, is_asked)
            return


def _inherit(s: SchedulerState, task: int, source: int, is_asked: bool) -> None:
    """End a task of which an input failed; who asked for it learns why that did not run again."""
    found = s.find(source)
    failure = s.failures.get(source)
    if not is_asked or failure is None or found is None or not has_run_once(*found):
        inherit_trouble(s, task, source)
    elif failure.error.kind == "once":
        inherit_trouble(s, task, source)  # it says so already
    else:
        error = failure.error
        what = f"it failed ({error.type_name}: {error.message[:_REASON_LENGTH]})"
        once = replace(lost_once(s, source, what).error, kind="input")
        fail(s, task, Failure(once, b""))


def orphaned(s: SchedulerState, task: int) -> Failure:
    """Return why data cannot be had again: it was lost, and the client that had it left."""
    reason = f"the data {s.key(task)} was lost, and the client that had it is gone"
    error = ErrorInfo("lost", "zcluster.errors.DataLost", reason, "", task, 0, "", "")
    return Failure(error, b"")


def _incomplete(s: SchedulerState, task: int) -> Failure:
    """Return why a task cannot run that came when an input of it was not known any more."""
    reason = (
        f"an input of {s.key(task)} was not known when it was submitted, so it can never run; "
        "submit it anew, with futures that are still held"
    )
    error = ErrorInfo("lost", "zcluster.errors.DataLost", reason, "", task, 0, "", "")
    return Failure(error, b"")


def cannot_run_again(page: Page, row: int, is_asked: bool = False) -> bool:
    """Whether a task whose result is gone cannot be made again, unless a user asks for it."""
    if page.flags[row] & PARTIAL or _was_actor(page, row):
        return True
    return not is_asked and has_run_once(page, row)


def _was_actor(page: Page, row: int) -> bool:
    """Whether a task's result is an actor that has been made; it had a size then."""
    needs = page.layer[row].needs
    return needs is not None and needs.actor and page.size[row] > 0


def has_run_once(page: Page, row: int) -> bool:
    """Whether a task may have begun that runs at most once."""
    return page.layer[row].is_once and page.attempt[row] > 0


def lost_actor(s: SchedulerState, task: int) -> Failure:
    """Return why an actor cannot be called any more."""
    reason = (
        f"the actor {s.key(task)} is gone: its worker ended, or everybody let go of it; what it "
        "knew is lost, so submit its class again"
    )
    error = ErrorInfo("actor", "zcluster.errors.ActorLost", reason, "", task, 0, "", "")
    return Failure(error, b"")


def _unfinish_whole(s: SchedulerState, layer: LayerRecord, stack: list[int]) -> None:
    """A task of a layer that takes all of others, or that others take, is to be redone."""
    layer = layer.parent or layer
    layer.unfinished += 1
    if layer.unfinished != 1:
        return
    for source in layer.whole:
        for task in range(source.first, source.first + source.count):
            page, row = s.row_of(task)
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
                    if page.layer[row].is_once:
                        continue
                    give_back(s, task, tell=True)
                page.state[row] = _WAITING
