"""Queues, variables and events: what clients wait for until another one brings it.

What was taken from a queue stays there, on its way, until the client says that it has it;
if the client gives up or vanishes before that, it goes back in front. So a `get` that runs
out of time loses nothing.
"""

from __future__ import annotations

from zcluster.core.scheduler.coordination_records import (
    Cell,
    Channel,
    Flag,
    Ticket,
    Value,
)
from zcluster.core.scheduler.coordination_values import (
    ANSWER_BYTES,
    answer,
    copy_value,
    deliver,
    drop_value,
    keep_value,
    leave_lines,
    stand_in,
)
from zcluster.core.scheduler.state import SchedulerState
from zcluster.errors import ProtocolError
from zcluster.protocol.messages import Coordinate
from zcluster.types import Frames

__all__ = [
    "clear_flag",
    "close_channel",
    "delete_cell",
    "get_cell",
    "get_items",
    "put_item",
    "return_items",
    "serve_channel",
    "set_cell",
    "set_flag",
    "tidy",
    "wait_flag",
]


# ------------------------------------------------------------------------------- queues


def put_item(s: SchedulerState, ticket: Ticket, message: Coordinate, frames: Frames) -> None:
    """Put a value into a queue of ``number`` places (0: any number), or wait for room."""
    value = keep_value(s, message, frames)
    channel = _channel(s, message)
    stand_in(s, ticket, message, [channel.putters], [message.name], value=value)
    serve_channel(s, message.name)


def get_items(s: SchedulerState, ticket: Ticket, message: Coordinate) -> None:
    """Take ``number`` values, or wait for them; 0 takes those that are there.

    An answer that would be too large has fewer; the client asks again for the others.
    """
    if message.number < 0:
        raise ProtocolError(f"nobody can get {message.number} items of a queue")
    channel = _channel(s, message)
    if message.number:
        count = message.number
        stand_in(s, ticket, message, [channel.getters], [message.name], count)
    elif channel.getters:
        answer(s, ticket, value=0)
    else:
        _deliver(s, ticket, message.name, channel, len(channel.items))
    serve_channel(s, message.name)


def _channel(s: SchedulerState, message: Coordinate) -> Channel:
    channel = s.things.channels.get(message.name)
    if channel is None:
        channel = s.things.channels[message.name] = Channel()
    # Whoever only gets need not know how many places there are.
    if message.action == "put" and message.number > 0 and not channel.limit:
        channel.limit = message.number
    return channel


def serve_channel(s: SchedulerState, name: str) -> None:
    """Pass on what can be passed on at both ends of a queue; forget it if it is idle."""
    channel = s.things.channels.get(name)
    while channel is not None:
        getter = next(iter(channel.getters.values()), None)
        putter = next(iter(channel.putters.values()), None)
        # More than ever fit in cannot be waited for: then all that fit are given.
        if getter is not None and len(channel.items) >= _least(channel, getter.count):
            leave_lines(s, getter)
            _deliver(s, getter.ticket, name, channel, getter.count)
        elif putter is not None and (not channel.limit or len(channel.items) < channel.limit):
            leave_lines(s, putter)
            assert putter.value is not None  # it stands in a line of those who put
            channel.items.append(putter.value)
            answer(s, putter.ticket)
        else:
            break
    if channel is not None and not (channel.items or channel.getters or channel.putters):
        del s.things.channels[name]


def _least(channel: Channel, count: int) -> int:
    return min(count, channel.limit) if channel.limit else count


def _deliver(s: SchedulerState, ticket: Ticket, name: str, channel: Channel, most: int) -> None:
    values: list[Value] = []
    size = 0
    while channel.items and len(values) < most:
        size += channel.items[0].size
        if values and size > ANSWER_BYTES:
            break
        values.append(channel.items.popleft())
    deliver(s, ticket, values, name, value=len(channel.items))


def return_items(s: SchedulerState, name: str, values: list[Value]) -> None:
    """Give a queue back what was not taken, in front; it must be served then."""
    channel = s.things.channels.setdefault(name, Channel())
    channel.items.extendleft(reversed(values))


def close_channel(s: SchedulerState, name: str) -> None:
    """Forget what is in a queue; who waits to put goes on, who waits to get waits."""
    channel = s.things.channels.get(name)
    if channel is None:
        return
    for waiter in list(channel.putters.values()):
        leave_lines(s, waiter)
        assert waiter.value is not None  # it stands in a line of those who put
        drop_value(s, waiter.value)
        answer(s, waiter.ticket, False, error=f"queue {name!r} was closed while this waited")
    for value in channel.items:
        drop_value(s, value)
    channel.items.clear()
    serve_channel(s, name)


# ---------------------------------------------------------------------------- variables


def set_cell(s: SchedulerState, ticket: Ticket, message: Coordinate, frames: Frames) -> None:
    """Give a variable a value; all who wait for one get it."""
    value = keep_value(s, message, frames)
    cell = s.things.cells.setdefault(message.name, Cell())
    old, cell.value = cell.value, value
    if old is not None:
        drop_value(s, old)
    for waiter in list(cell.line.values()):
        leave_lines(s, waiter)
        _show(s, waiter.ticket, value)
    answer(s, ticket)


def get_cell(s: SchedulerState, ticket: Ticket, message: Coordinate) -> None:
    """Return a variable's value, or wait for one."""
    cell = s.things.cells.setdefault(message.name, Cell())
    if cell.value is not None:
        _show(s, ticket, cell.value)
    else:
        stand_in(s, ticket, message, [cell.line], [message.name])


def _show(s: SchedulerState, ticket: Ticket, value: Value) -> None:
    if value.tasks:
        # Held until the client holds them: the variable may get another value meanwhile.
        deliver(s, ticket, [copy_value(s, value)])
    else:
        answer(s, ticket, values=[value])


def delete_cell(s: SchedulerState, name: str) -> None:
    """Take a variable's value away."""
    cell = s.things.cells.get(name)
    if cell is not None and cell.value is not None:
        old, cell.value = cell.value, None
        drop_value(s, old)
    tidy(s, "variable", name)


# ------------------------------------------------------------------------------- events


def set_flag(s: SchedulerState, name: str) -> None:
    """Set an event: all who wait go on."""
    flag = s.things.flags.setdefault(name, Flag())
    flag.is_set = True
    for waiter in list(flag.line.values()):
        leave_lines(s, waiter)
        answer(s, waiter.ticket)


def clear_flag(s: SchedulerState, name: str) -> None:
    """Clear an event."""
    flag = s.things.flags.get(name)
    if flag is not None:
        flag.is_set = False
    tidy(s, "event", name)


def wait_flag(s: SchedulerState, ticket: Ticket, message: Coordinate) -> None:
    """Wait until an event is set."""
    flag = s.things.flags.setdefault(message.name, Flag())
    if flag.is_set:
        answer(s, ticket)
    else:
        stand_in(s, ticket, message, [flag.line], [message.name])


def tidy(s: SchedulerState, kind: str, name: str) -> None:
    """Forget a variable or an event that says nothing and that nobody waits for."""
    things = s.things
    if kind == "variable":
        cell = things.cells.get(name)
        if cell is not None and cell.value is None and not cell.line:
            del things.cells[name]
    else:
        flag = things.flags.get(name)
        if flag is not None and not flag.is_set and not flag.line:
            del things.flags[name]
