"""Datasets, metadata and topics: what stays until somebody takes it away.

Metadata are values by path, ``("a", "b")`` being the entry ``b`` of ``a``. The scheduler
cannot look into a value, so what is asked for may lie within the value of a shorter path,
or be made of several below: it gives all that bear on it, and the client puts them
together.
"""

from __future__ import annotations

from zcluster.core.scheduler.coordination_records import Ticket, Topic, Value
from zcluster.core.scheduler.coordination_values import (
    ANSWER_BYTES,
    answer,
    copy_value,
    deliver,
    drop_value,
    keep_value,
)
from zcluster.core.scheduler.state import SchedulerState
from zcluster.errors import InvalidArgument, ProtocolError
from zcluster.protocol.messages import Coordinate, Published
from zcluster.protocol.services import VALUE_LIMIT
from zcluster.types import Frames

__all__ = [
    "EVENTS",
    "drop_client",
    "events",
    "get_dataset",
    "get_metadata",
    "log",
    "publish",
    "set_metadata",
    "tidy_topic",
    "unpublish",
]

#: The last events of a topic that are kept: so many, and so many bytes.
EVENTS = 1000
_EVENT_BYTES = 16 << 20


# ----------------------------------------------------------------------------- datasets


def publish(s: SchedulerState, ticket: Ticket, message: Coordinate, frames: Frames) -> None:
    """Keep a value under a name; one that has the name stays, unless ``number`` is 1."""
    old = s.things.datasets.get(message.name)
    if old is not None and not message.number:
        answer(s, ticket, False)
        return
    s.things.datasets[message.name] = keep_value(s, message, frames)
    if old is not None:
        drop_value(s, old)
    answer(s, ticket)


def get_dataset(s: SchedulerState, ticket: Ticket, message: Coordinate) -> None:
    """Return a dataset; the answer is no if there is none."""
    value = s.things.datasets.get(message.name)
    if value is None:
        answer(s, ticket, False)
    else:
        deliver(s, ticket, [copy_value(s, value)])


def unpublish(s: SchedulerState, ticket: Ticket, message: Coordinate) -> None:
    """Forget a dataset; the answer is no if there is none."""
    value = s.things.datasets.pop(message.name, None)
    if value is not None:
        drop_value(s, value)
    answer(s, ticket, value is not None)


# ----------------------------------------------------------------------------- metadata


def set_metadata(s: SchedulerState, ticket: Ticket, message: Coordinate, frames: Frames) -> None:
    """Keep a value under a path, in place of all below it."""
    path = tuple(message.names)
    table = s.things.metadata
    new = keep_value(s, message, frames)
    for old in [old for old in table if old[: len(path)] == path]:
        drop_value(s, table.pop(old))
    table[path] = new
    answer(s, ticket)


def get_metadata(s: SchedulerState, ticket: Ticket, message: Coordinate) -> None:
    """Return the values that bear on a path, with their paths, the shortest first."""
    path = tuple(message.names)
    found = {
        other: value
        for other, value in s.things.metadata.items()
        if other[: len(path)] == path[: len(other)]
    }
    size = sum(value.size for value in found.values())
    if size > ANSWER_BYTES:
        raise InvalidArgument(
            f"the metadata of {list(path)} have {size} bytes, expected at most {ANSWER_BYTES} in "
            "one answer; ask for parts of them"
        )
    paths = sorted(found, key=len)
    answer(s, ticket, value=paths, values=[found[other] for other in paths])


# ------------------------------------------------------------------------------- topics


def log(s: SchedulerState, message: Coordinate, frames: Frames) -> None:
    """Note an event of each of the topics ``names``, at ``number`` microseconds; tell."""
    if len(frames) != 1:
        raise ProtocolError(f"an event of {len(frames)} values, expected one")
    blob = bytes(frames[0])
    if len(blob) > VALUE_LIMIT:
        raise InvalidArgument(
            f"an event of topic {message.names} has {len(blob)} bytes, expected at most "
            f"{VALUE_LIMIT}; say where the data are instead"
        )
    for name in message.names:
        topic = s.things.topics.setdefault(name, Topic())
        topic.events.append((message.number, blob))
        topic.length += len(blob)
        while len(topic.events) > EVENTS or topic.length > _EVENT_BYTES:
            topic.length -= len(topic.events.popleft()[1])
        told = Published(name, message.number / 1e6)
        for index in topic.listeners:
            s.say(s.clients[index].peer, told, [blob])


def events(s: SchedulerState, ticket: Ticket, message: Coordinate) -> None:
    """Return the events of a topic with their times, the oldest first."""
    topic = s.things.topics.get(message.name, Topic())
    values = [Value(blob, (), (), 0) for _, blob in topic.events]
    answer(s, ticket, value=[time for time, _ in topic.events], values=values)


def drop_client(s: SchedulerState, client: int) -> None:
    """A client listens to nothing any more."""
    for name, topic in list(s.things.topics.items()):
        topic.listeners.discard(client)
        tidy_topic(s, name)


def tidy_topic(s: SchedulerState, name: str) -> None:
    """Forget a topic on which nothing was said and to which nobody listens."""
    topic = s.things.topics.get(name)
    if topic is not None and not topic.events and not topic.listeners:
        del s.things.topics[name]
