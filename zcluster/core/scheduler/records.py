"""What the scheduler knows of clients, nodes, layers and callables."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from zcluster.protocol.messages import (
    ErrorInfo,
    Layer,
    Message,
    Needs,
    NodeInfo,
    Slot,
    WorkerInfo,
)
from zcluster.types import Buffer, Frames

__all__ = [
    "RUNNING",
    "ClientRecord",
    "Effect",
    "Failure",
    "FunctionRecord",
    "Journal",
    "LayerRecord",
    "NodeRecord",
    "Profile",
    "Retirement",
    "SchedulerSettings",
    "StuckProfile",
    "Submission",
    "Tasks",
]

#: The status of workers that take work; see `zcluster.protocol.records.WorkerInfo`.
RUNNING = "running"
#: For a client that falls behind, so many times its credit is kept as bytes.
KEPT_CREDITS = 4
#: Tasks a journal may name, for each of its entries.
_NAMED = 10

#: (peer, message, payload frames): say this to that peer.
Effect = tuple[int, Message, Frames]


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """What the core is told once; all times in seconds.

    Attributes
    ----------
    window : float
        Work sent ahead to a node, for each of its slots.
    least_cost : float
        What a task is taken to cost at least: its way there and back.
    dead_after : float
        A node that cannot be reached for so long is fenced.
    client_grace : float
        A client that cannot be reached for so long is released.
    kills : int
        Workers a task may take down; it fails with the last of them.
    inline_bytes : int
        Small results kept for consumers on other nodes, in bytes.
    client_credit : int
        Bytes pushed to a client before it acknowledges; past that, results wait, for a
        few times as many bytes, or are announced only.
    batch : int
        The most tasks of one assign message.
    """

    window: float = 0.04
    least_cost: float = 10e-6
    dead_after: float = 8.0
    client_grace: float = 10.0
    kills: int = 3
    inline_bytes: int = 64 << 20
    client_credit: int = 2 << 20
    batch: int = 512
    journal: int = 20_000


@dataclass(slots=True)
class FunctionRecord:
    """A callable's bytes, who uses it and who has it."""

    digest: bytes
    data: bytes
    layers: int = 0
    nodes: set[int] = field(default_factory=set)


@dataclass(slots=True)
class StuckProfile:
    """Since when nobody could run the tasks of a profile, and which of them were told of."""

    since: float
    told: set[int] = field(default_factory=set)


class Profile(NamedTuple):
    """What a worker must be to run some tasks: one of these names, with so much free.

    Tasks of the same profile wait in one queue of their own.
    """

    workers: tuple[str, ...] = ()
    resources: tuple[tuple[str, float], ...] = ()
    threads: int = 1


@dataclass(slots=True, eq=False)
class LayerRecord:
    """A layer, while any of its rows lives.

    ``arrived`` and ``forgotten`` count rows; ``unfinished`` counts those still to
    be done, only where others take all of this one (``watchers``) or this one takes
    all of others (``whole``); tasks that have not arrived are counted in it then.
    """

    number: int
    name: str
    first: int
    count: int
    call: int
    function: bytes
    base: int
    retries: int
    shape: list[int]
    keys: list[str] | None
    shared: bool
    slots: list[Slot]
    whole: list[LayerRecord]
    whole_slots: list[Slot]
    #: Only workers like this may run it, if not None; those ``preferred`` should.
    profile: Profile | None
    preferred: tuple[str, ...]
    priority: int
    needs: Needs | None = None
    arrived: int = 0
    forgotten: int = 0
    unfinished: int = 0
    watchers: list[LayerRecord] = field(default_factory=list)
    nodes: set[int] = field(default_factory=set)
    #: A task of a watched layer that failed or was cancelled; -1: none.
    failed: int = -1
    #: The layer in whose place an alias counts for ``watchers``.
    parent: LayerRecord | None = None
    #: A task that may have begun must not begin again. Looked at often.
    is_once: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_once = self.needs is not None and self.needs.at_most_once

    @property
    def threads(self) -> int:
        """How many slots each task takes."""
        return 1 if self.profile is None else self.profile.threads

    def key(self, task: int) -> str | tuple[str | int, ...]:
        """Return the key of one of the layer's tasks."""
        position = task - self.first
        if self.keys is not None:
            return self.keys[position]
        if not self.shape:
            return self.name
        indices: list[int] = []
        for length in reversed(self.shape):
            position, index = divmod(position, length)
            indices.append(index)
        return (self.name, *reversed(indices))


@dataclass(slots=True)
class Submission:
    """A submission while its slices arrive, and for its progress after."""

    number: int
    base: int
    first: int
    imports: list[int]
    outputs: list[tuple[int, int]]
    layers: list[LayerRecord]
    #: The layers as the client described them, to check their parts against.
    described: list[Layer] = field(default_factory=list)
    arrived: int = 0
    #: Rows held by one reference each until the last slice is here.
    held: int = 0
    complete: bool = False


class Tasks:
    """A queue of tasks that takes little room where many of them are consecutive."""

    __slots__ = ("_first", "_starts", "_stops")

    def __init__(self) -> None:
        self._starts = array("q")
        self._stops = array("q")
        self._first = 0

    def __bool__(self) -> bool:
        return self._first < len(self._starts)

    def add(self, task: int) -> None:
        """Append a task."""
        if self._stops and self._stops[-1] == task:
            self._stops[-1] += 1
        else:
            self._starts.append(task)
            self._stops.append(task + 1)

    def take(self, most: int) -> list[int]:
        """Remove and return up to ``most`` tasks, the oldest first."""
        taken: list[int] = []
        starts, stops = self._starts, self._stops
        while self and len(taken) < most:
            start, stop = starts[self._first], stops[self._first]
            upto = min(stop, start + most - len(taken))
            taken.extend(range(start, upto))
            if upto == stop:
                self._first += 1
            else:
                starts[self._first] = upto
        if self._first * 2 >= len(starts):
            del starts[: self._first], stops[: self._first]
            self._first = 0
        return taken

    def clear(self) -> None:
        """Forget all tasks."""
        del self._starts[:], self._stops[:]
        self._first = 0


@dataclass(slots=True)
class ClientRecord:
    """A client's session."""

    index: int
    peer: int
    name: str
    next_task: int
    #: It lives in a worker: its tasks are what tasks wait for.
    is_inner: bool = False
    #: Its host and process.
    process: tuple[str, int] = ("", 0)
    away_since: float | None = None
    submissions: dict[int, Submission] = field(default_factory=dict)
    #: Results to be said at the next flush: (task, bytes or None).
    resolved: list[tuple[int, Buffer | None]] = field(default_factory=list)
    #: What of that waits for the client's credit: small results, and what is to be announced.
    waiting: deque[tuple[int, Buffer]] = field(default_factory=deque)
    untold: Tasks = field(default_factory=Tasks)
    #: Bytes of results in ``resolved`` and ``waiting``.
    kept_bytes: int = 0
    #: When it was last given anything that had waited; no bytes are kept if that is long ago.
    behind_since: float = 0.0
    is_slow: bool = False
    #: Bytes sent and not acknowledged; the driver keeps it up to date.
    in_flight: int = 0

    @property
    def has_news(self) -> bool:
        """Whether results are to be said to it: the driver is to note what is in flight."""
        return bool(self.resolved or self.waiting or self.untold)

    def settle(self, task: int, blob: Buffer, credit: int) -> bool:
        """Note that a small result is to be said; return whether its bytes are kept for that."""
        length = len(blob)
        if self.is_slow or self.kept_bytes + length > KEPT_CREDITS * credit:
            self.resolved.append((task, None))
            return False
        self.kept_bytes += length
        self.resolved.append((task, blob))
        return True

    def forget_news(self) -> None:
        """Say nothing of the results that were to be said."""
        self.resolved.clear()
        self.waiting.clear()
        self.untold.clear()
        self.kept_bytes = 0


@dataclass(slots=True)
class Retirement:
    """How far a node is that is to leave; see `zcluster.core.scheduler.retiring`.

    Attributes
    ----------
    leaves : bool
        Whether it ends in the end, and is not only left without work and data.
    todo : list of int
        Results that may have to be copied; the next one last.
    moving : dict of int to int
        Results on their way to others: the node that fetches each.
    refused : dict of int to set of int
        Nodes that could not take a result, until ``retry_at``.
    reason : str
        What it waits for.
    is_empty, is_told : bool
        Whether nothing is left to do there; whether it was told to leave.
    """

    leaves: bool
    todo: list[int] = field(default_factory=list)
    moving: dict[int, int] = field(default_factory=dict)
    refused: dict[int, set[int]] = field(default_factory=dict)
    retry_at: float = 0.0
    reason: str = ""
    is_empty: bool = False
    is_told: bool = False


@dataclass(slots=True)
class NodeRecord:
    """A node's incarnation. ``assigned`` counts tasks by callable.

    ``slots`` are those of workers that take work. ``memory`` is what each worker, by number,
    has for itself, and ``made`` what results that it made take of the store.
    """

    index: int
    peer: int
    info: NodeInfo
    slots: int
    away_since: float | None = None
    assigned: dict[bytes, int] = field(default_factory=dict)
    ahead: list[tuple[int, int]] = field(default_factory=list)
    functions: set[bytes] = field(default_factory=set)
    layers: set[int] = field(default_factory=set)
    room: float = 0.0
    #: It has idle slots, and no room for what was sent ahead: only what is ready goes there.
    is_starved: bool = False
    memory: list[int] = field(default_factory=list)
    made: list[int] = field(default_factory=list)
    store_used: int = 0
    spilled: int = 0
    #: Bytes of results that its data port has sent.
    sent: int = 0
    #: For how many seconds each worker has not answered its nanny.
    silent: list[float] = field(default_factory=list)
    lag: float = 0.0
    #: Resources given away, by worker number and name.
    spent: dict[int, dict[str, float]] = field(default_factory=dict)
    #: Tasks that run there and hold no slot, because they wait for others, and how many
    #: slots each has left.
    blocked: dict[int, int] = field(default_factory=dict)
    #: When tasks were last asked back from it.
    recall_asked: float = float("-inf")
    #: If it takes no more work and is to leave.
    retiring: Retirement | None = None
    #: Workers it has or had, by number, without those that were retired.
    known: set[int] = field(default_factory=set)

    @property
    def is_accepting(self) -> bool:
        """Whether new tasks may go there."""
        return self.away_since is None and self.slots > 0 and self.retiring is None

    @property
    def is_serving(self) -> bool:
        """Whether what needs something that cannot leave the node may go there."""
        retiring = self.retiring
        gone = retiring is not None and retiring.is_told
        return self.away_since is None and bool(self.info.workers) and not gone

    @property
    def workers(self) -> list[WorkerInfo]:
        """Its workers that take work."""
        return [worker for worker in self.info.workers if worker.status == RUNNING]

    def count_assigned(self, function: bytes, change: int) -> None:
        """Note that tasks came or went."""
        count = self.assigned.get(function, 0) + change
        if count > 0:
            self.assigned[function] = count
        else:
            self.assigned.pop(function, None)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task failed, as it is told to clients."""

    error: ErrorInfo
    exception: bytes


class Journal:
    """The last things that happened, by batch; a task's story is read from it.

    Bounded in entries, and in the tasks they name: those are kept as ranges or as
    arrays of eight bytes each, never as lists of integers.
    """

    __slots__ = ("_entries", "_length", "_named")

    def __init__(self, length: int) -> None:
        self._entries: deque[tuple[float, str, str, Sequence[int]]] = deque()
        self._length = length
        self._named = 0

    def note(self, now: float, word: str, where: str, tasks: Sequence[int]) -> None:
        """Note that something happened to some tasks."""
        if not isinstance(tasks, range):
            tasks = array("q", tasks)
            self._named += len(tasks)
        self._entries.append((now, word, where, tasks))
        while len(self._entries) > self._length or self._named > _NAMED * self._length:
            gone = self._entries.popleft()[3]
            if not isinstance(gone, range):
                self._named -= len(gone)

    def story(self, task: int) -> list[tuple[float, str, str]]:
        """Return (time, what, where) of all that is remembered of a task."""
        return [(when, word, where) for when, word, where, tasks in self._entries if task in tasks]
