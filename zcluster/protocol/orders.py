"""What the scheduler tells a node to do with tasks and results, and what it hears back.

Part of the contract in `zcluster.protocol.messages`; see there for the words.
"""

from __future__ import annotations

import msgspec

from zcluster.protocol.records import Message, NodeLayer, Span

__all__ = [
    "Assign",
    "Blocked",
    "Copied",
    "Copy",
    "Drop",
    "Finished",
    "Free",
    "Leave",
    "Lost",
    "Recall",
    "Recalled",
]


class Assign(Message, frozen=True, tag="assign"):
    """Run these tasks, smaller rank first, each as soon as its inputs are here.

    ``runs`` are (layer, number of consecutive tasks of these columns).
    ``arities`` cut ``inputs``; ``offsets`` (empty, or one more than tasks) cut
    payload frame 0 into constants. ``flags``: 1 passing (drop the result after
    its last consumer here). ``workers`` is empty or a worker number per task, -1
    for any. ``selections`` are the tasks' rows joined. ``places`` says of inputs
    that are not here nor assigned here where they are, as (task, size, nodes);
    ``inline`` are (task, length) of inputs whose blobs stand in frame 1.
    ``functions`` are (digest, span) with frame 2.
    """

    layers: list[NodeLayer]
    functions: list[tuple[bytes, Span]]
    runs: list[tuple[int, int]]
    tasks: list[int]
    attempts: list[int]
    orders: list[int]
    arities: list[int]
    inputs: list[int]
    flags: list[int]
    workers: list[int]
    offsets: list[int]
    selections: list[int]
    places: list[tuple[int, int, list[int]]]
    inline: list[tuple[int, int]]


class Free(Message, frozen=True, tag="free"):
    """Results nobody needs any more; and layers, and callables, to forget."""

    tasks: list[int]
    layers: list[int] = msgspec.field(default_factory=list)
    functions: list[bytes] = msgspec.field(default_factory=list)


class Drop(Message, frozen=True, tag="drop"):
    """Assigned tasks that are not wanted here any more: forget them.

    One that is running runs on, and what it says is ignored; with ``force`` it is stopped:
    by an exception in its thread, and if that does not help, by replacing its worker.
    """

    tasks: list[int]
    force: bool = False


class Leave(Message, frozen=True, tag="leave"):
    """These workers (numbers) shall end what they run, give back the rest, and end.

    None named: the node says goodbye, and ends with all of its workers.
    """

    workers: list[int]


class Recall(Message, frozen=True, tag="recall"):
    """Give back those of these tasks that have not started."""

    tasks: list[int]


class Recalled(Message, frozen=True, tag="recalled"):
    """Tasks that did not start (or ran unseen in a worker that died)."""

    tasks: list[int]
    attempts: list[int]


class Blocked(Message, frozen=True, tag="blocked"):
    """These running tasks wait for others and hold no slot (``away``), or do again."""

    tasks: list[int]
    away: bool


class Copy(Message, frozen=True, tag="copy"):
    """Fetch these results and keep them: ``places`` are (task, size, nodes)."""

    places: list[tuple[int, int, list[int]]]


class Copied(Message, frozen=True, tag="copied"):
    """Copies asked for that are here now, and those that could not be had."""

    tasks: list[int]
    failed: list[int]


class Finished(Message, frozen=True, tag="finished"):
    """Results made at a node.

    ``lengths`` cut payload frame 0 into small blobs; -1: the result is in the
    node's store; -2: it was passing and is not kept; -3: it lives in the heap
    of a worker. ``durations`` are (digest of the callable, runs, total µs).
    """

    tasks: list[int]
    attempts: list[int]
    lengths: list[int]
    sizes: list[int]
    workers: list[int]
    durations: list[tuple[bytes, int, int]]


class Lost(Message, frozen=True, tag="lost"):
    """Results this node reported and has no more."""

    tasks: list[int]
