"""What the scheduler keeps of the things that clients share.

A **ticket** names one request of one client. It is what waits in a line, what holds a
lease, and what a value was delivered to: so a client that vanishes, or a waiter that gives
up, is found by it wherever it is.

A **line** is a dict of waiters by ticket, first come, first served; leaving it from the
middle costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

__all__ = [
    "Cell",
    "Channel",
    "Delivery",
    "Flag",
    "Line",
    "Pool",
    "Things",
    "Ticket",
    "Topic",
    "Value",
    "Waiter",
]

#: Bytes that a value costs beside its own.
_OVERHEAD = 200


class Ticket(NamedTuple):
    """A request of a client: the session it came in, and its number there."""

    client: int
    request: int


@dataclass(slots=True, eq=False)
class Value:
    """Bytes of a client's, with the tasks whose results they refer to.

    ``holder`` is negative: among those who want the tasks it stands where others have the
    index of a client.
    """

    blob: bytes
    tasks: Sequence[int]
    keys: Sequence[str]
    holder: int

    @property
    def size(self) -> int:
        """Bytes that it takes here, and in an answer: about."""
        return len(self.blob) + _OVERHEAD + sum(len(key.encode()) + 16 for key in self.keys)


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that could not be granted yet.

    ``names`` are the things it is about and ``count`` how many of them, or of their
    values, it asks for. ``value`` is what it brings.
    """

    ticket: Ticket
    kind: str
    names: list[str]
    count: int
    until: float | None
    lines: list[Line]
    value: Value | None = None


Line: TypeAlias = dict[Ticket, Waiter]


@dataclass(slots=True)
class Pool:
    """A lock (``limit`` 1) or a semaphore, while somebody has or wants a lease of it."""

    limit: int
    leases: dict[Ticket, None] = field(default_factory=dict)
    line: Line = field(default_factory=dict)


@dataclass(slots=True)
class Flag:
    """An event, while it is set or somebody waits for it."""

    is_set: bool = False
    line: Line = field(default_factory=dict)


@dataclass(slots=True)
class Channel:
    """A queue, while it has items or somebody waits at one of its ends; no limit is 0."""

    limit: int = 0
    items: deque[Value] = field(default_factory=deque)
    getters: Line = field(default_factory=dict)
    putters: Line = field(default_factory=dict)


@dataclass(slots=True)
class Cell:
    """A variable, while it has a value or somebody waits for one."""

    value: Value | None = None
    line: Line = field(default_factory=dict)


@dataclass(slots=True)
class Delivery:
    """Values on their way to a client; ``queue`` is where they go if it does not take them."""

    values: list[Value]
    queue: str | None


@dataclass(slots=True)
class Topic:
    """The last events of a topic, (microseconds, bytes), and the clients that listen."""

    events: deque[tuple[int, bytes]] = field(default_factory=deque)
    length: int = 0
    listeners: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Things:
    """All of them, by name.

    Attributes
    ----------
    pools : dict of (str, str) to Pool
        By kind, ``lock`` or ``semaphore``, and name.
    waiters : dict of Ticket to Waiter
        All and only those that stand in a line.
    deliveries : dict of Ticket to Delivery
    metadata : dict of tuple of str to Value
        By path; none of them is a prefix of one that is older.
    bytes : int
        Of all values that are kept, events left out.
    next_holder : int
        What the next value that refers to tasks is called among those who want them.
    """

    pools: dict[tuple[str, str], Pool] = field(default_factory=dict)
    flags: dict[str, Flag] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    datasets: dict[str, Value] = field(default_factory=dict)
    metadata: dict[tuple[str, ...], Value] = field(default_factory=dict)
    topics: dict[str, Topic] = field(default_factory=dict)
    waiters: dict[Ticket, Waiter] = field(default_factory=dict)
    deliveries: dict[Ticket, Delivery] = field(default_factory=dict)
    bytes: int = 0
    next_holder: int = -1

    def values(self) -> list[Value]:
        """Return every value that is kept, wherever it is."""
        found = [*self.datasets.values(), *self.metadata.values()]
        for channel in self.channels.values():
            found += channel.items
        found += [cell.value for cell in self.cells.values() if cell.value is not None]
        found += [w.value for w in self.waiters.values() if w.value is not None]
        for delivery in self.deliveries.values():
            found += delivery.values
        return found
