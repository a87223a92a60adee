"""The records of shared things: what `Things.values` must find."""

from __future__ import annotations

from collections import deque

from zcluster.core.scheduler.coordination_records import (
    Cell,
    Channel,
    Delivery,
    Things,
    Ticket,
    Value,
    Waiter,
)


def test_every_value_is_found_wherever_it_is() -> None:
    """A value that is not found here is one whose tasks nobody lets go of."""
    values = [Value(b"%d" % number, (), (), -number) for number in range(6)]
    things = Things()
    things.datasets["d"] = values[0]
    things.metadata["m",] = values[1]
    things.channels["q"] = Channel(items=deque([values[2]]))
    things.cells["v"] = Cell(values[3])
    things.cells["empty"] = Cell()
    ticket = Ticket(1, 2)
    things.waiters[ticket] = Waiter(ticket, "queue", ["q"], 1, None, [], values[4])
    things.waiters[Ticket(1, 3)] = Waiter(Ticket(1, 3), "event", ["e"], 1, None, [])
    things.deliveries[ticket] = Delivery([values[5]], None)
    assert sorted(value.blob for value in things.values()) == [value.blob for value in values]
