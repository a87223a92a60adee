"""What a client wants of others' tasks, and failed tasks that are wanted after all."""

from __future__ import annotations

from collections.abc import Iterable

from zcluster.core.scheduler.failing import tell_failed, with_sources
from zcluster.core.scheduler.pages import WANTED, Page
from zcluster.core.scheduler.recomputing import has_run_once, need, relink, revive
from zcluster.core.scheduler.records import ClientRecord
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Cancelled, ErrorInfo, Failed

__all__ = ["add_holder", "retry", "want"]


def want(s: SchedulerState, client: ClientRecord, tasks: Iterable[int]) -> None:
    """A client holds these tasks too; it is told what they are."""
    for task in tasks:
        found = s.find(task)
        if found is None:
            _tell_unknown(s, client, task)
            continue
        page, row = found
        _hold(s, client, task, page, row)
        _tell_state(s, client, task, page, row)


def _hold(s: SchedulerState, client: ClientRecord, task: int, page: Page, row: int) -> None:
    if task >> 40 != client.index:
        add_holder(s, client.index, task, page, row)
    elif not page.flags[row] & WANTED:
        page.flags[row] |= WANTED
        page.refs[row] += 1


def add_holder(s: SchedulerState, holder: int, task: int, page: Page, row: int) -> bool:
    """Note that a client which did not submit a task, or a value, wants it; False: it did already.

    Values that clients share have numbers below zero.
    """
    holders = s.wants.setdefault(task, set())
    if holder in holders:
        return False
    holders.add(holder)
    page.refs[row] += 1
    return True


def _tell_state(s: SchedulerState, client: ClientRecord, task: int, page: Page, row: int) -> None:
    """Tell a client what became of a task that was settled before it asked."""
    state = page.state[row]
    if state == State.FINISHED:
        client.resolved.append((task, None))
    elif state == State.RELEASED:
        revive(s, [task])
    elif state == State.CANCELLED:
        s.say(client.peer, Cancelled([task], "it was cancelled by another client"))
    elif state == State.FAILED:
        tell_failed(s, client.peer, [task], s.failures[task])


def _tell_unknown(s: SchedulerState, client: ClientRecord, task: int) -> None:
    reason = (
        "the task is not known to the scheduler any more: everybody who held it let it go; "
        "keep a future of it, or publish it"
    )
    error = ErrorInfo("lost", "zcluster.errors.DataLost", reason, "", task, 0, "", "")
    s.say(client.peer, Failed([task], [0], [0], [error]))


def retry(s: SchedulerState, client: ClientRecord, tasks: list[int]) -> None:
    """Run failed tasks again, and before them the failed tasks they failed of.

    Of the latter not those that run at most once and have begun: for these somebody has to ask.
    """
    stack = []
    for task in tasks:
        found = s.find(task)
        if found is None:
            _tell_unknown(s, client, task)
            continue
        _hold(s, client, task, *found)
        if found[0].state[found[1]] == State.FAILED:
            stack.append(task)
        else:
            # Somebody else had it run again: the client that asks heard of the failure alone.
            _tell_state(s, client, task, *found)
    again = _unfail(s, stack, set(with_sources(s, stack)))
    wanted = [task for task in again if _is_needed(s, task)]
    marked: set[int] = set()
    need(s, wanted, marked, again)
    if marked:
        relink(s, marked, again)


def _unfail(s: SchedulerState, stack: list[int], named: set[int]) -> dict[int, None]:
    """Take back that tasks failed, and those they failed of; return all of them."""
    again: dict[int, None] = {}
    while stack:
        task = stack.pop()
        found = s.find(task)
        if found is None or found[0].state[found[1]] != State.FAILED:
            continue
        page, row = found
        if task not in named and has_run_once(page, row):
            continue
        # From here on as a result that was let go.
        page.state[row] = State.RELEASED
        del s.failures[task]
        again[task] = None
        stack.extend(page.inputs(row))
        layer = page.layer[row]
        layer = layer.parent or layer
        if layer.failed == task:
            layer.failed = _other_failed(s, layer.first, layer.arrived)
        for whole in layer.whole:
            stack.extend(range(whole.first, whole.first + whole.count))
    return again


def _is_needed(s: SchedulerState, task: int) -> bool:
    found = s.find(task)
    return found is not None and found[0].refs[found[1]] > 0


def _other_failed(s: SchedulerState, first: int, count: int) -> int:
    for task in range(first, first + count):
        found = s.find(task)
        if found is not None and found[0].state[found[1]] in (State.FAILED, State.CANCELLED):
            return task
    return -1
