"""What a nanny and its template process say to each other.

One record is one datagram on the pair of sockets that connects them. With `Fork`
travel three descriptors, in the order of `DESCRIPTORS`.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

import msgspec

__all__ = [
    "DESCRIPTORS",
    "RECORD_LIMIT",
    "Ended",
    "Fork",
    "Forked",
    "NotForked",
    "Request",
    "SendSignal",
    "TemplateEvent",
    "WorkerSettings",
    "event_decoder",
    "record_encoder",
    "request_decoder",
]

#: What the descriptors sent with a `Fork` are.
DESCRIPTORS = ("stdout", "stderr", "status page")
#: The most bytes of one record.
RECORD_LIMIT = 64 << 10


class WorkerSettings(msgspec.Struct, frozen=True):
    """All that a worker is told when it starts.

    Attributes
    ----------
    number, incarnation : int
        Which worker of the node it is, and which start of it; together its `identity`.
    name, node : str
        How it and its node are called in messages and errors.
    slots : int
        How many tasks it runs at a time.
    address : str
        The nanny's ROUTER for workers.
    door : str
        Path of the node's door; empty where there is no store.
    scheduler : str
        The scheduler's address, for clients that tasks make.
    keys : dict of str to str
        The cluster's, for these, as of `Keys.to_texts`; empty where none are needed.
    """

    number: int
    incarnation: int
    name: str
    node: str
    slots: int
    address: str
    door: str = ""
    scheduler: str = ""
    keys: dict[str, str] = {}

    @property
    def identity(self) -> bytes:
        """16 bytes: the routing id of the worker's socket, and its identity at the door."""
        return struct.pack(">4sIQ", b"wrk:", self.number, self.incarnation)


class _Record(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The base of the records."""


class Fork(_Record, frozen=True):
    """Start a worker."""

    settings: WorkerSettings


class SendSignal(_Record, frozen=True):
    """Send a signal to the process group of a worker, if it still runs."""

    pid: int
    signal: int


class Forked(_Record, frozen=True):
    """A worker's process was started."""

    number: int
    incarnation: int
    pid: int


class NotForked(_Record, frozen=True):
    """The system refused another process."""

    number: int
    incarnation: int
    reason: str


class Ended(_Record, frozen=True):
    """A worker's process has ended.

    ``code`` is its exit status, or minus the signal that killed it, as in
    `subprocess`; ``peak_rss`` is in bytes.
    """

    number: int
    incarnation: int
    pid: int
    code: int
    peak_rss: int


Request: TypeAlias = Fork | SendSignal
TemplateEvent: TypeAlias = Forked | NotForked | Ended

record_encoder = msgspec.msgpack.Encoder()
request_decoder = msgspec.msgpack.Decoder[Request](Request)
event_decoder = msgspec.msgpack.Decoder[TemplateEvent](TemplateEvent)
