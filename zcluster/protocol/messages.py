"""Every message zcluster's processes say to each other: the contract.

A message on the wire is a list of frames: a head (sequence numbers, see
`zcluster.protocol.session`), one **control frame** (one of the structs below,
msgpack, validated on arrival) and then opaque **payload frames**. What a struct
says about its payload frames stands in its docstring.

The vocabulary of this file
---------------------------
task
    ``client << 40 | number``: the client's index at the scheduler and a number
    the client counts densely. All tasks on the wire are such integers.
columns
    Messages about many tasks hold parallel lists, not a list of records.
span
    ``(frame, start, stop)``: a run of bytes in payload frame ``frame`` of the
    same message (0 is the first payload frame). ``None`` where there is none.
blob
    An object in one of the self-describing stored forms of
    `zcluster.protocol.objects`. The scheduler and the nanny never unpickle one.
rank
    The order in which ready tasks run: smaller first. A layer has a ``base``,
    given by the scheduler from (user priority, age), a task has its ``order``.

Messages are grouped by who says them to whom in the tuples at the end of the
file; the protocol page of the documentation is made from them.
"""

from __future__ import annotations

import msgspec

from zcluster.protocol.records import (
    ErrorInfo,
    Layer,
    LayerPart,
    Message,
    NodeInfo,
    NodeLayer,
    Slot,
    Span,
    WorkerInfo,
)

__all__ = [
    "CLIENT_TO_SCHEDULER",
    "DATA_PORT",
    "NODE_TO_SCHEDULER",
    "NODE_TO_WORKER",
    "PROTOCOL",
    "SCHEDULER_TO_CLIENT",
    "SCHEDULER_TO_NODE",
    "WORKER_TO_NODE",
    "Acknowledge",
    "Answer",
    "Ask",
    "Assign",
    "Cancel",
    "Cancelled",
    "Discard",
    "Done",
    "Drop",
    "Environment",
    "ErrorInfo",
    "Failed",
    "Fetch",
    "Finished",
    "Free",
    "Goodbye",
    "Grant",
    "Heartbeat",
    "Hello",
    "Layer",
    "LayerPart",
    "Lost",
    "Map",
    "Mapped",
    "Message",
    "Missing",
    "More",
    "NodeInfo",
    "NodeLayer",
    "Nodes",
    "Put",
    "Recall",
    "Recalled",
    "Reconnect",
    "Refused",
    "Release",
    "Reserve",
    "Resolved",
    "Return",
    "Run",
    "Scattered",
    "Skipped",
    "Slice",
    "Slot",
    "Sources",
    "Span",
    "Stop",
    "Stored",
    "Submit",
    "Unreachable",
    "Welcome",
    "WorkerHello",
    "WorkerInfo",
    "Workers",
]

#: (major, minor). Peers with another major are refused.
PROTOCOL = (1, 0)

# ---------------------------------------------------------------- any → server


class Hello(Message, frozen=True, tag="hello"):
    """The first message on a connection; nothing else is accepted before it.

    ``incarnation`` (16 random bytes) is the process start. ``token`` is empty,
    or the session token of an earlier welcome, to go on with that session;
    ``seen`` is then the last sequence number received. Nodes bring ``node``.
    """

    role: str
    protocol: tuple[int, int]
    package: str
    python: str
    incarnation: bytes
    token: bytes = b""
    seen: int = 0
    node: NodeInfo | None = None
    name: str = ""


class Welcome(Message, frozen=True, tag="welcome"):
    """The answer to a hello. ``index`` is the client's or node's number.

    ``resumed`` says that the session goes on: the peer resends what came after
    ``seen``. Otherwise both start at sequence number one.
    """

    index: int
    token: bytes
    resumed: bool
    seen: int
    scheduler: str
    package: str
    settings: dict[str, float]
    nodes: list[NodeInfo] = msgspec.field(default_factory=list)


class Refused(Message, frozen=True, tag="refused"):
    """The peer may not join or go on, and why. It must not try again as it is."""

    reason: str


class Reconnect(Message, frozen=True, tag="reconnect"):
    """Say hello on a new connection; the one this comes over has no session here.

    The answer to what is no hello. Otherwise a peer whose connection was given up at
    one end only would speak to nobody, for ever.
    """


class Acknowledge(Message, frozen=True, tag="ack"):
    """Carries only the head's acknowledgement."""


class Goodbye(Message, frozen=True, tag="goodbye"):
    """A clean end: the peer leaves now and will not come back."""

    reason: str = ""


# --------------------------------------------------------- client ↔ scheduler


class Submit(Message, frozen=True, tag="submit"):
    """A slice of a submission: its tasks ``first`` to ``first + count``.

    A client's tasks are numbered in the order they arrive. Slices of one
    submission follow each other, with no other submission of the client between
    them; ``layers`` are those that begin in this slice, ``imports`` and
    ``outputs`` come with the first.
    ``outputs`` are (start, count) runs, within the submission, of the wanted
    tasks. ``functions`` are (digest, span) of the callables of ``layers``.
    Payload: arrays, constants and callables, as the spans say.
    """

    submission: int
    first: int
    count: int
    layers: list[Layer]
    parts: list[LayerPart]
    imports: list[int]
    outputs: list[tuple[int, int]]
    functions: list[tuple[bytes, Span]]
    last: bool


class Release(Message, frozen=True, tag="release"):
    """The client holds these tasks no more (each was wanted once)."""

    tasks: list[int]


class Cancel(Message, frozen=True, tag="cancel"):
    """Stop these tasks and what depends on them, unless they are finished."""

    tasks: list[int]
    reason: str = ""


class Scattered(Message, frozen=True, tag="scattered"):
    """Data the client has put into nodes' stores, as results of data tasks."""

    tasks: list[int]
    nodes: list[int]
    sizes: list[int]


class Unreachable(Message, frozen=True, tag="unreachable"):
    """These results were not found at that node (or it does not answer)."""

    tasks: list[int]
    node: int


class Ask(Message, frozen=True, tag="ask"):
    """A question that gets one `Answer` with the same number.

    ``question``: ``info``, ``who_has``, ``story``, ``explain``, ``progress``,
    ``statistics``, ``processing``.
    """

    request: int
    question: str
    tasks: list[int] = msgspec.field(default_factory=list)
    text: str = ""


class Answer(Message, frozen=True, tag="answer"):
    """The answer: ``value`` is msgpack; ``error`` is a sentence or empty."""

    request: int
    value: msgspec.Raw
    error: str = ""


class Resolved(Message, frozen=True, tag="resolved"):
    """Results. ``lengths`` cut payload frame 0 into blobs, -1: not here.

    A result that is not here is at ``holders`` (node index) with ``sizes``.
    """

    tasks: list[int]
    lengths: list[int]
    sizes: list[int]
    holders: list[int]


class Failed(Message, frozen=True, tag="failed"):
    """Errors, to clients and from nodes. ``which`` indexes ``errors``.

    Payload: frame 0 holds the pickled exceptions, as spans.
    """

    tasks: list[int]
    attempts: list[int]
    which: list[int]
    errors: list[ErrorInfo]


class Cancelled(Message, frozen=True, tag="cancelled"):
    """These tasks were cancelled."""

    tasks: list[int]
    reason: str


class Nodes(Message, frozen=True, tag="nodes"):
    """Nodes that joined or changed, and the indices of those that left."""

    joined: list[NodeInfo]
    left: list[int]


# ----------------------------------------------------------- scheduler ↔ node


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

    One that is running runs on, and what it says is ignored.
    """

    tasks: list[int]


class Recall(Message, frozen=True, tag="recall"):
    """Give back those of these tasks that have not started."""

    tasks: list[int]


class Recalled(Message, frozen=True, tag="recalled"):
    """Tasks that did not start (or ran unseen in a worker that died)."""

    tasks: list[int]
    attempts: list[int]


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


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """Sent by every peer each half second: the loop's lag, and for nodes load."""

    lag: float
    store_used: int = 0
    memory: list[int] = msgspec.field(default_factory=list)


class Workers(Message, frozen=True, tag="workers"):
    """The workers of this node as they are now."""

    workers: list[WorkerInfo]


# -------------------------------------------------------------- node ↔ worker


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
    that came whole and of which the worker takes a part.
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


class Skipped(Message, frozen=True, tag="skipped"):
    """Tasks not run because an input held here failed or was never made."""

    tasks: list[int]


class Reserve(Message, frozen=True, tag="reserve"):
    """Room in the store for a blob of ``size`` bytes, for task ``task``."""

    request: int
    task: int
    size: int


class Grant(Message, frozen=True, tag="grant"):
    """The room; ``slab`` is -1 where the store is full (``reason`` says so)."""

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


class Sources(Message, frozen=True, tag="sources"):
    """Source files of plain modules: (name, is package, span in frame 0)."""

    modules: list[tuple[str, bool, Span]]


class Environment(Message, frozen=True, tag="environment"):
    """How a client imports: its ``sys.path`` and its folder, of use on its host."""

    paths: list[str]
    cwd: str
    host: str


class Stop(Message, frozen=True, tag="stop"):
    """Finish what runs and exit."""


# ------------------------------------------------------------------ data port


class Fetch(Message, frozen=True, tag="fetch"):
    """Send the blob of this task, or the selected part of it (kind 1 or 3)."""

    request: int
    task: int
    kind: int = 0
    selection: list[int] = msgspec.field(default_factory=list)


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


CLIENT_TO_SCHEDULER = (
    Hello,
    Submit,
    Release,
    Cancel,
    Scattered,
    Unreachable,
    Ask,
    Sources,
    Environment,
    Heartbeat,
    Acknowledge,
    Goodbye,
)
SCHEDULER_TO_CLIENT = (
    Welcome,
    Refused,
    Reconnect,
    Resolved,
    Failed,
    Cancelled,
    Nodes,
    Answer,
    Unreachable,
    Heartbeat,
    Acknowledge,
    Goodbye,
)
SCHEDULER_TO_NODE = (
    Welcome,
    Refused,
    Reconnect,
    Assign,
    Free,
    Drop,
    Recall,
    Nodes,
    Sources,
    Environment,
    Heartbeat,
    Acknowledge,
    Goodbye,
)
NODE_TO_SCHEDULER = (
    Hello,
    Finished,
    Failed,
    Recalled,
    Unreachable,
    Lost,
    Workers,
    Heartbeat,
    Acknowledge,
    Goodbye,
)
NODE_TO_WORKER = (Run, Grant, Discard, Recall, Sources, Environment, Stop)
WORKER_TO_NODE = (WorkerHello, Done, Failed, Skipped, Reserve, Return, Recalled)
DATA_PORT = (Hello, Fetch, Slice, More, Missing, Put, Stored, Map, Mapped, Return)
