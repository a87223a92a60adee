"""What all things that clients share are made of: values kept, lines, answers, deliveries.

A value that refers to results holds their tasks, as a client does that has futures of
them: under a number of its own, which is negative (`hold`, `unhold`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from zcluster.core.scheduler.coordination_records import (
    Delivery,
    Line,
    Ticket,
    Value,
    Waiter,
)
from zcluster.core.scheduler.recomputing import revive
from zcluster.core.scheduler.releasing import drop_ref
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.wanting import add_holder
from zcluster.errors import InvalidArgument, ProtocolError
from zcluster.protocol.messages import Coordinate, Coordinated
from zcluster.protocol.services import VALUE_LIMIT
from zcluster.types import Frames

__all__ = [
    "ANSWER_BYTES",
    "TOTAL_BYTES",
    "answer",
    "copy_value",
    "deliver",
    "drop_value",
    "hold",
    "keep_value",
    "leave_lines",
    "stand_in",
    "unhold",
]

#: Bytes of all values together.
TOTAL_BYTES = 1 << 30
#: Bytes of the values in one answer, with the keys of the tasks they refer to: these stand in
#: the control frame, which has a bound.
ANSWER_BYTES = 8 << 20


# ---------------------------------------------------------------------- tasks referred to


def hold(s: SchedulerState, task: int, holder: int) -> bool:
    """Have a value want a task; False if that is not known (any more)."""
    found = s.find(task)
    if found is None:
        return False
    if add_holder(s, holder, task, *found):
        revive(s, (task,))
    return True


def unhold(s: SchedulerState, task: int, holder: int) -> None:
    """Have a value want a task no more."""
    wanting = s.wants.get(task)
    if wanting is None or holder not in wanting:
        return
    wanting.discard(holder)
    if not wanting:
        del s.wants[task]
    found = s.find(task)
    if found is not None:
        drop_ref(s, task, *found)


# ------------------------------------------------------------------------------- values


def keep_value(s: SchedulerState, message: Coordinate, frames: Frames) -> Value:
    """Keep what a message brings, and hold the tasks that it refers to.

    Raises
    ------
    InvalidArgument
        If it is too large, or refers to what is not known.
    ProtocolError
        If the message contradicts itself.
    """
    if len(frames) != 1 or len(message.tasks) != len(message.keys):
        raise ProtocolError(
            f"{message.action} {message.kind} brings {len(frames)} values, {len(message.tasks)} "
            f"tasks and {len(message.keys)} keys, expected one value and a key for each task"
        )
    blob = bytes(frames[0])
    size = len(blob)
    if size > VALUE_LIMIT:
        raise InvalidArgument(
            f"the value for {message.kind} {message.name!r} has {size} bytes, expected at most "
            f"{VALUE_LIMIT}; scatter it, and share the future"
        )
    if s.things.bytes + size > TOTAL_BYTES:
        raise InvalidArgument(
            f"the scheduler keeps {s.things.bytes} bytes of shared values, expected at most "
            f"{TOTAL_BYTES}; take or delete some before {message.kind} {message.name!r} gets more"
        )
    return _kept(s, blob, message.tasks, message.keys)


def copy_value(s: SchedulerState, value: Value) -> Value:
    """Keep a value once more, with holds of its own."""
    return _kept(s, value.blob, value.tasks, value.keys)


def _kept(s: SchedulerState, blob: bytes, tasks: Sequence[int], keys: Sequence[str]) -> Value:
    things = s.things
    value = Value(blob, tuple(tasks), tuple(keys), things.next_holder)
    things.next_holder -= 1
    things.bytes += value.size
    for task, key in zip(tasks, keys, strict=True):
        if not hold(s, task, value.holder):
            drop_value(s, value)
            raise InvalidArgument(
                f"task {key} is not known to the scheduler, so a future of it cannot be shared; "
                "keep the future until it was"
            )
    return value


def drop_value(s: SchedulerState, value: Value) -> None:
    """Let go of a value, and of the tasks that it refers to."""
    s.things.bytes -= value.size
    for task in value.tasks:
        unhold(s, task, value.holder)


# -------------------------------------------------------------------------------- lines


def stand_in(
    s: SchedulerState,
    ticket: Ticket,
    message: Coordinate,
    lines: list[Line],
    names: list[str],
    count: int = 1,
    value: Value | None = None,
) -> Waiter:
    """Have a request wait at the end of some lines."""
    until = None if message.timeout is None else s.now + message.timeout
    waiter = Waiter(ticket, message.kind, names, count, until, lines, value)
    s.things.waiters[ticket] = waiter
    for line in lines:
        line[ticket] = waiter
    return waiter


def leave_lines(s: SchedulerState, waiter: Waiter) -> None:
    """Take a request off the lines it stands in."""
    del s.things.waiters[waiter.ticket]
    for line in waiter.lines:
        del line[waiter.ticket]


# ------------------------------------------------------------------------------ answers


def answer(
    s: SchedulerState,
    ticket: Ticket,
    ok: bool = True,
    value: Any = None,
    values: Sequence[Value] = (),
    error: str = "",
) -> None:
    """Answer a request, unless it wants no answer or its client is gone."""
    client = s.clients.get(ticket.client)
    if client is None or ticket.request == 0:
        return
    message = Coordinated(
        ticket.request,
        ok,
        msgspec.Raw(msgspec.msgpack.encode(value)),
        [task for kept in values for task in kept.tasks],
        error,
        [key for kept in values for key in kept.keys],
        [len(kept.blob) for kept in values],
        [len(kept.tasks) for kept in values],
    )
    s.say(client.peer, message, [b"".join(kept.blob for kept in values)] if values else ())


def deliver(
    s: SchedulerState,
    ticket: Ticket,
    values: list[Value],
    queue: str | None = None,
    value: Any = None,
) -> None:
    """Answer with values, and keep them until the client says that it has them."""
    if values:
        s.things.deliveries[ticket] = Delivery(values, queue)
    answer(s, ticket, value=value, values=values)
