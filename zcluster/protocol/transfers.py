"""At the data port: blobs on their way between nodes and clients.

Part of the contract in `zcluster.protocol.messages`; see there for the words.
"""

from __future__ import annotations

import msgspec

from zcluster.protocol.records import Message

__all__ = [
    "Fetch",
    "FetchSmall",
    "Map",
    "Mapped",
    "Missing",
    "More",
    "Put",
    "Slice",
    "Small",
    "Stored",
]


class Fetch(Message, frozen=True, tag="fetch"):
    """Send the blob of this task, or the selected part of it (kind 1 or 3)."""

    request: int
    task: int
    kind: int = 0
    selection: list[int] = msgspec.field(default_factory=list)


class FetchSmall(Message, frozen=True, tag="fetch-small"):
    """Send the blobs of these tasks, those that are small and at hand, in one message."""

    request: int
    tasks: list[int]


class Small(Message, frozen=True, tag="small"):
    """The blobs asked for, joined in frame 0; those of length -1 are to be fetched alone."""

    request: int
    lengths: list[int]


class Slice(Message, frozen=True, tag="slice"):
    """Bytes ``offset`` onward of a blob of ``total`` bytes, in frame 0."""

    request: int
    offset: int
    total: int


class More(Message, frozen=True, tag="more"):
    """Credit: the sender of slices may go on up to byte ``upto``."""

    request: int
    upto: int


class Missing(Message, frozen=True, tag="missing"):
    """The blob cannot be had, or has no room here.

    ``kind``: 0 not here, or no room; 1 here, but no part can be cut of it; 2 in the
    heap of a worker, because it cannot be pickled: it can never travel.
    """

    request: int
    reason: str = ""
    kind: int = 0


class Put(Message, frozen=True, tag="put"):
    """A blob of ``total`` bytes follows in slices, as the result of ``task``."""

    request: int
    task: int
    total: int


class Stored(Message, frozen=True, tag="stored"):
    """The blob put here is complete."""

    request: int


class Map(Message, frozen=True, tag="map"):
    """A process of the same host asks to map the blob of this task."""

    request: int
    task: int
    holder: bytes


class Mapped(Message, frozen=True, tag="mapped"):
    """Where the blob is; a lease until a `Return`, or the holder's end."""

    request: int
    slab: int
    offset: int
    length: int
    size: int
