"""What a node knows of its tasks, results, workers and layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from zcluster.core.node.states import State
from zcluster.protocol.messages import Message, NodeLayer
from zcluster.storage.arena import Range
from zcluster.storage.disk import DiskJob
from zcluster.types import Buffer, Frames

__all__ = [
    "Assignment",
    "Effects",
    "FetchOrder",
    "Memory",
    "NodeSettings",
    "Result",
    "RoomGiven",
    "WorkerEnd",
    "WorkerRecord",
]


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What the core is told once; times in seconds.

    Attributes
    ----------
    batch_seconds : float
        Work sent to a slot in one message.
    least_cost : float
        What a task is taken to cost at least.
    batch : int
        The most tasks of one message to a worker.
    queue_below : float
        A slot gets a second batch while the first runs if its tasks are
        expected to be shorter than this; longer ones are bound late.
    group_seconds : float
        A batch may take so long if its tasks take each other's results, which need no
        room then.
    stuck_after : float
        A batch that takes this long beyond what was expected is asked back
        when another slot is idle.
    stop_after : float
        A worker is replaced if a task that is to stop runs so long after it was told.
    """

    batch_seconds: float = 0.004
    least_cost: float = 12e-6
    batch: int = 256
    queue_below: float = 0.002
    group_seconds: float = 0.25
    stuck_after: float = 0.02
    target: int = 0
    room_patience: float = 2.0
    stop_after: float = 2.0


class Assignment:
    """A task assigned to this node."""

    __slots__ = (
        "ahead",
        "ahead_of",
        "alone",
        "attempt",
        "bound",
        "constant",
        "heirs",
        "inputs",
        "layer",
        "missing",
        "passing",
        "rank",
        "state",
        "task",
        "worker",
    )

    def __init__(
        self,
        task: int,
        attempt: int,
        layer: NodeLayer,
        rank: int,
        inputs: list[int],
        constant: bytes,
        passing: bool,
        worker: int,
        alone: bool = False,
    ) -> None:
        self.task = task
        #: It goes to a worker with no other task, for what its layer says.
        self.alone = alone
        self.attempt = attempt
        self.layer = layer
        self.rank = rank
        self.inputs = inputs
        self.constant = constant
        self.passing = passing
        #: The worker it is bound to; -1 for any.
        self.bound = worker
        #: The worker it was sent to, or is bound to; -1 for any.
        self.worker = worker
        self.state = State.WAITING
        #: Inputs (by edge) that are not here.
        self.missing = 0
        #: Assigned tasks that wait for this one's result.
        self.heirs: list[Assignment] | None = None
        #: Of the missing inputs, how many are in the batch numbered ``ahead_of``.
        self.ahead = 0
        self.ahead_of = 0

    def __lt__(self, other: Assignment) -> bool:
        # A queue may hold the entry of an assignment that left and of the next of the same
        # task: rank and task are equal, and either order is right.
        return False


class Result:
    """A result at this node: bytes, or a range of the store, or in a worker's heap.

    ``size`` is that of the blob. The range is in memory or on disk. ``lent`` marks what
    other nodes or the scheduler keep too (fetched, cut): it goes with its last use here.
    ``borrowed`` marks a part that could not be cut: its bytes are those of the whole result.
    ``uncut`` marks what stands for a part and is the whole: the worker cuts it.
    ``maker`` is the number of the worker here that made what is in the store; -1: none.
    What is on disk has ``sums``, once they are known, and need not be checked again before
    ``fresh_until``.
    """

    __slots__ = (
        "blob",
        "borrowed",
        "fresh_until",
        "lent",
        "maker",
        "place",
        "size",
        "sums",
        "uncut",
        "worker",
    )

    def __init__(
        self,
        size: int,
        blob: bytes | None = None,
        place: Range | None = None,
        worker: int = -1,
        lent: bool = False,
        borrowed: bool = False,
        uncut: bool = False,
        maker: int = -1,
    ) -> None:
        self.maker = maker
        self.sums: list[int] | None = None
        self.fresh_until = 0.0
        self.uncut = uncut
        self.borrowed = borrowed
        self.size = size
        self.blob = blob
        self.place = place
        self.worker = worker
        self.lent = lent


@dataclass(slots=True)
class Batch:
    """Tasks sent to a worker in one message, not all reported yet."""

    number: int
    sent_at: float
    expected: float
    tasks: dict[int, Assignment]
    #: Slots it takes.
    threads: int = 1


@dataclass(slots=True)
class WorkerRecord:
    """A worker process. ``incarnation`` counts its starts."""

    number: int
    name: str
    slots: int
    memory_limit: int
    pid: int = 0
    incarnation: int = 0
    is_ready: bool = False
    functions: set[bytes] = field(default_factory=set)
    batches: list[Batch] = field(default_factory=list)
    #: Tasks whose value lives in its heap.
    held: set[int] = field(default_factory=set)
    recall_asked: float = 0.0
    #: Dropped tasks it may still run; none of them is sent to it again before it says.
    ghosts: set[int] = field(default_factory=set)
    #: Tasks that run there and hold no slot, because they wait for others.
    blocked: set[int] = field(default_factory=set)
    #: Ghosts that were told to stop, and when it is to be replaced if they have not.
    stopping: dict[int, float] = field(default_factory=dict)
    #: What it has of abstract resources.
    resources: dict[str, float] = field(default_factory=dict)
    #: Bytes of the store that results which it made take.
    made: int = 0
    #: Why it takes no more work for now, by cause; see `zcluster.core.node.pausing`.
    pauses: dict[str, str] = field(default_factory=dict)
    #: Tasks that run there although it is paused, and hold no slot that counts.
    aside: set[int] = field(default_factory=set)

    @property
    def is_taking(self) -> bool:
        """Whether it may be sent work."""
        return self.is_ready and not self.pauses

    @property
    def free(self) -> int:
        """Slots for which nothing was sent; below zero where batches are queued."""
        blocked = self.blocked
        busy = len(self.ghosts) - len(blocked)
        for batch in self.batches:
            threads = batch.threads
            # A task of several threads is alone in its batch, and has left all its slots.
            busy += 1 if threads > 1 and not blocked.isdisjoint(batch.tasks) else threads
        return self.slots - busy

    @property
    def outstanding(self) -> int:
        """Tasks sent and not reported."""
        return sum(len(batch.tasks) for batch in self.batches)


class WorkerEnd(NamedTuple):
    """How a worker process ended, as its parent knows it."""

    number: int
    incarnation: int
    cause: str
    peak_memory: int
    output: str
    running: list[int]
    #: How it came to want memory, as a sentence's end; empty: that was not the reason.
    out_of_memory: str = ""
    #: Whether it has run tasks, and ended without being told to.
    has_run: bool = False


class FetchOrder(NamedTuple):
    """Bring a blob, or a part of it, from one of some nodes."""

    number: int
    task: int
    kind: int
    selection: list[int]
    size: int
    nodes: list[int]


class RoomGiven(NamedTuple):
    """Room for an input, or for data from outside, that was waited for; or None and why not.

    Without a reason: no task waits for the input any more.
    """

    number: int
    place: Range | None
    is_input: bool
    reason: str = ""
    is_disk: bool = False


@dataclass(slots=True)
class Effects:
    """What the driver is to do, in this order."""

    to_scheduler: list[tuple[Message, Frames]] = field(default_factory=list)
    to_workers: list[tuple[int, Message, list[Buffer]]] = field(default_factory=list)
    to_start: list[int] = field(default_factory=list)
    to_fetch: list[FetchOrder] = field(default_factory=list)
    #: Workers to end and start anew.
    to_restart: list[int] = field(default_factory=list)
    #: Whether the node is to say goodbye and end, after all else is done.
    leave: bool = False
    #: What is to be done with ranges on disk.
    to_disk: list[DiskJob] = field(default_factory=list)
    #: Room that was waited for.
    room: list[RoomGiven] = field(default_factory=list)
    #: Results that were checked for somebody, and may be gone.
    opened: list[int] = field(default_factory=list)
    #: Why results were lost that were on disk.
    lost_on_disk: list[str] = field(default_factory=list)
    #: What tasks have printed: goes to the scheduler before all else.
    output: list[tuple[Message, Frames]] = field(default_factory=list)


class Memory(Protocol):
    """What the core needs done with bytes it does not look at."""

    def allocate(self, size: int) -> Range | None:
        """Return room in memory, or None if there is none."""

    def allocate_on_disk(self, size: int) -> Range | None:
        """Return room on disk, which has to be claimed; None if that is at its limit."""

    def disk_space(self) -> str:
        """Say how much room there is on disk."""

    def free(self, place: Range) -> None:
        """Give room back, once all leases on it have ended."""

    def lease(self, place: Range, holder: int) -> None:
        """Note that a worker may look at a range until it returns the lease."""

    def give_back(self, place: Range, holder: int) -> None:
        """A worker returned a lease."""

    def drop_holder(self, holder: int) -> None:
        """A worker ended, and its leases with it."""

    def cut(self, result: Result, kind: int, selection: list[int]) -> Result | None:
        """Return a part of a result as a result of its own; None: whoever takes it cuts it."""

    def release(self) -> None:
        """Give memory in which there are no results back to the system."""

    def is_leased(self, place: Range) -> bool:
        """Return whether somebody can see a range."""

    @property
    def has_disk(self) -> bool:
        """Whether results may go to disk."""

    @property
    def limit(self) -> int:
        """The most bytes of memory that results may take."""

    @property
    def used(self) -> int:
        """Bytes of memory that hold results."""

    @property
    def spilled(self) -> int:
        """Bytes on disk that hold results."""
