"""What a nanny and its workers say to each other.

Part of the contract in `zcluster.protocol.messages`; see there for the words.
"""

from __future__ import annotations

import msgspec

from zcluster.protocol.records import Message, Span

__all__ = [
    "Discard",
    "Done",
    "Grant",
    "Interrupt",
    "Reserve",
    "Return",
    "Run",
    "Skipped",
    "Stop",
    "WorkerHello",
]


class WorkerHello(Message, frozen=True, tag="worker-hello"):
    """A worker is ready."""

    number: int
    incarnation: int
    pid: int


class Run(Message, frozen=True, tag="run"):
    """Run these tasks in this order, back to back, in one slot.

    ``functions`` are (digest, span with frame 2) this worker has not seen.
    ``runs`` are (digest, call form, number of consecutive tasks of the
    columns). ``offsets`` (empty, or one more than tasks) cut frame 0 into
    constants. ``arities`` cut ``inputs``; ``groups`` (empty or one list per
    task) says how the trailing inputs form list arguments (their lengths).
    Each input is in ``ranges`` (input, slab, offset, length: a blob in the
    store; a lease), in ``inline`` (input, length: blobs in frame 1), or held in
    this worker. An input below zero is a cut part with a number of its own.
    ``uses``: how many later tasks of this worker take the result from its heap;
    ``report``: 1 if the result is also wanted outside; 2 if it may then be held
    here where it cannot be pickled. ``cuts`` are (input, kind, selection) of inputs
    that came whole and of which the worker takes a part. With ``threads`` above one there
    is one task, which may compute with so many. The results of ``actors`` stay in the heap.
    """

    functions: list[tuple[bytes, Span]]
    runs: list[tuple[bytes, int, int]]
    tasks: list[int]
    arities: list[int]
    inputs: list[int]
    groups: list[list[int]]
    offsets: list[int]
    ranges: list[tuple[int, int, int, int]]
    inline: list[tuple[int, int]]
    uses: list[int]
    report: list[int]
    cuts: list[tuple[int, int, list[int]]] = msgspec.field(default_factory=list)
    threads: int = 1
    actors: list[int] = msgspec.field(default_factory=list)


class Done(Message, frozen=True, tag="done"):
    """Results of a worker.

    ``lengths`` cut payload frame 0 into small blobs; -1: written into the
    granted range ``ranges`` names (task, slab, offset, length); -2: held in the
    heap for the consumers here; -3: held because it cannot be pickled.
    ``durations`` in µs.
    """

    tasks: list[int]
    lengths: list[int]
    durations: list[int]
    ranges: list[tuple[int, int, int, int]]


class Interrupt(Message, frozen=True, tag="interrupt"):
    """Stop these running tasks by an exception in their threads; what they say is not heard."""

    tasks: list[int]


class Skipped(Message, frozen=True, tag="skipped"):
    """Tasks not run because an input held here failed or was never made."""

    tasks: list[int]


class Reserve(Message, frozen=True, tag="reserve"):
    """Room in the store for a blob of ``size`` bytes, for task ``task``."""

    request: int
    task: int
    size: int


class Grant(Message, frozen=True, tag="grant"):
    """The room; ``slab`` is -1 where the store is full, -2 where its disk is, too.

    ``reason`` says so.
    """

    request: int
    slab: int
    offset: int
    length: int
    reason: str = ""


class Return(Message, frozen=True, tag="return"):
    """Leases that ended, as (slab, offset, length)."""

    ranges: list[tuple[int, int, int]]


class Discard(Message, frozen=True, tag="discard"):
    """Values held in the worker's heap, and callables, to forget."""

    tasks: list[int]
    functions: list[bytes] = msgspec.field(default_factory=list)


class Stop(Message, frozen=True, tag="stop"):
    """Finish what runs and exit."""
