"""Telling clients of results, however slowly they read.

Small results go to a client as bytes, within its credit: what was said to it and not
acknowledged. What finds no credit waits here as bytes, a few credits' worth, for a client
that reads is soon back for it. Of one that has acknowledged nothing for a while no bytes
are kept but the numbers of its tasks: they stay where they were made, and it is told so,
many in one message, when it reads again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from zcluster.core.scheduler.pages import DELIVERED
from zcluster.core.scheduler.recomputing import revive
from zcluster.core.scheduler.records import ClientRecord, Effect
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Resolved
from zcluster.types import Buffer

__all__ = ["SLOW_SECONDS", "tell"]

#: Bytes of results in one message: a client acknowledges between two messages.
_MESSAGE_BYTES = 256 << 10
#: Results announced in one message, and about what each takes of it.
_MESSAGE_TASKS = 4096
_ANNOUNCED_BYTES = 16
#: For a client whose credit was used up for so long no bytes are kept.
SLOW_SECONDS = 0.5


def tell(s: SchedulerState, client: ClientRecord) -> Iterator[Effect]:
    """Say what a client's credit allows; the rest waits for its acknowledgements."""
    waiting, untold = client.waiting, client.untold
    for task, blob in client.resolved:
        if blob is None:
            untold.add(task)
        else:
            waiting.append((task, blob))
    client.resolved.clear()
    used = client.in_flight
    while waiting or untold:
        if used and used >= s.settings.client_credit:
            break
        size, effect = _message(s, client, used)
        if effect is not None:
            yield effect
        if not size:
            break
        used += size
    if used != client.in_flight or not waiting:
        client.is_slow = client.is_slow and used == client.in_flight
        client.behind_since = s.now
    elif s.now - client.behind_since >= SLOW_SECONDS and not client.is_slow:
        client.is_slow = True
        _keep_numbers(s, client)


def _message(s: SchedulerState, client: ClientRecord, used: int) -> tuple[int, Effect | None]:
    """Return what one message takes of the credit, and the message, if it says anything."""
    message = Resolved([], [], [], [])
    waiting = client.waiting
    room = min(_MESSAGE_BYTES, s.settings.client_credit - used)
    blobs: list[Buffer] = []
    size = 0
    while waiting:
        task, blob = waiting[0]
        length = len(blob)
        if size + length > room and (size or used):
            break
        waiting.popleft()
        size += length
        message.tasks.append(task)
        message.lengths.append(length)
        message.sizes.append(length)
        message.holders.append(-1)
        blobs.append(blob)
    client.kept_bytes -= size
    # A little for each, or results of no bytes would take nothing.
    size += _ANNOUNCED_BYTES * len(message.tasks)
    if client.untold and not waiting:
        announced = client.untold.take(_MESSAGE_TASKS)
        _announce(s, announced, message)
        size += _ANNOUNCED_BYTES * len(announced)
    return size, (client.peer, message, [b"".join(blobs)]) if message.tasks else None


def _announce(s: SchedulerState, tasks: list[int], message: Resolved) -> None:
    """Add where results are to a message."""
    lost: list[int] = []
    for task in tasks:
        found = s.find(task)
        if found is None:
            continue
        page, row = found
        page.flags[row] &= ~DELIVERED & 0xFF
        if page.state[row] != State.FINISHED:
            # Lost or released in between; if it is needed, it is told again.
            lost.append(task)
            continue
        message.tasks.append(task)
        message.lengths.append(-1)
        message.sizes.append(page.size[row])
        message.holders.append(s.holders(task, page, row)[0])
    if lost:
        revive(s, lost)


def _keep_numbers(s: SchedulerState, client: ClientRecord) -> None:
    """Let go of the bytes that wait for a client: the results are announced later."""
    last: deque[tuple[int, Buffer]] = deque()
    for task, blob in client.waiting:
        found = s.find(task)
        if found is None:
            continue
        page, row = found
        if page.state[row] == State.FINISHED:
            client.untold.add(task)
            page.flags[row] &= ~DELIVERED & 0xFF
        else:
            last.append((task, blob))  # its node is lost, and nobody else has them
    client.waiting = last
    client.kept_bytes = sum(len(blob) for _, blob in last)
