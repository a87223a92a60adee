"""What stands around the cores of a pretend node: callables, stores, workers, fetches.

See `zcluster.testing.world`. What a core wants done that is not here yet has one place each:
`FakeWorker.hear` for what a worker is told, `FakeNode.flush` for what a node is to do, `Store` for
what becomes of bytes.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple, Protocol

from zcluster.core.node.core import NodeCore
from zcluster.core.node.invariants import check as check_node
from zcluster.core.node.records import FetchOrder, NodeSettings, Result, WorkerRecord
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    NODE_TO_SCHEDULER,
    NODE_TO_WORKER,
    SCHEDULER_TO_CLIENT,
    SCHEDULER_TO_NODE,
    WORKER_TO_NODE,
    Blocked,
    Discard,
    Done,
    Environment,
    ErrorInfo,
    Failed,
    Grant,
    Interrupt,
    Message,
    Recall,
    Recalled,
    Reserve,
    Return,
    Run,
    Skipped,
    Sources,
    Stop,
)
from zcluster.storage.arena import Range
from zcluster.storage.disk import FIRST_SLAB, DiskJob, is_on_disk


class Around(Protocol):
    """What fakes need of the world they are in."""

    random: Random
    is_checking: bool
    blocking: float
    tries: Counter[int]

    @property
    def now(self) -> float:
        """Pretend seconds."""

    def count(self) -> int:
        """Return a number that was not given before."""

    def post(self, way: str, who: Any, message: Message, frames: Sequence[Any]) -> None:
        """Put a message on its way."""

    def kill_worker(self, node: Any, worker: FakeWorker) -> None:
        """A worker process ends."""

    def node(self, index: int) -> Any:
        """Return the node the scheduler numbered so."""

    def began(self, node: FakeNode, worker: FakeWorker, task: int, attempt: int) -> None:
        """A worker began a task."""


__all__ = [
    "BIG",
    "FakeNode",
    "FakeWorker",
    "Function",
    "Store",
    "function",
    "part_of",
    "result_of",
    "through",
]

_DECODERS = {
    "client>scheduler": Decoder(CLIENT_TO_SCHEDULER),
    "scheduler>client": Decoder(SCHEDULER_TO_CLIENT),
    "node>scheduler": Decoder(NODE_TO_SCHEDULER),
    "scheduler>node": Decoder(SCHEDULER_TO_NODE),
    "node>worker": Decoder(NODE_TO_WORKER),
    "worker>node": Decoder(WORKER_TO_NODE),
}
#: Bytes from which on a result goes into the store of a pretend node.
BIG = 100


def through(way: str, message: Message, frames: Sequence[Any]) -> tuple[Message, list[bytes]]:
    """Send a message through its frames."""
    return _DECODERS[way].decode(encode(message)), [bytes(frame) for frame in frames]


# ------------------------------------------------------------------------------- values


class Function(NamedTuple):
    """A callable as it travels: the hash of its bytes, and those."""

    digest: bytes
    data: bytes


def function(name: str) -> Function:
    """Return a callable; the first letter of its name says what its results are."""
    data = name.encode()
    return Function(hashlib.blake2b(data, digest_size=16).digest(), data)


def result_of(name: bytes, constant: bytes, inputs: Sequence[Any]) -> bytes:
    """Return the blob a call makes."""
    digest = hashlib.blake2b(name + b"|" + constant, digest_size=12)
    for value in inputs:
        digest.update(repr(value).encode())
    blob = name[:1] + digest.digest()
    return blob.ljust(BIG, b".") if name[:1] == b"b" else blob


def part_of(blob: bytes, number: int) -> bytes:
    """Return what a taker of a part of a blob gets."""
    if blob[:1] == b"u":
        return blob
    return b"s" + hashlib.blake2b(blob + bytes([number % 251]), digest_size=12).digest()


class Store:
    """The memory of a node, which knows who looks at what: it is never used again too early."""

    def __init__(self) -> None:
        self.bytes: dict[Range, bytes] = {}
        self.freed: set[Range] = set()
        self.leases: Counter[tuple[Range, int]] = Counter()
        self._next = 0
        self.limit = 1 << 30
        #: Whether there is a disk, its space, and how likely it is not to give back the right
        #: bytes (which a checksum shows).
        self.has_disk = False
        self.disk_limit = 1 << 30
        self.disk_faults = 0.0

    def allocate(self, size: int) -> Range | None:
        if self.used + size > self.limit:
            return None
        return self._new(0, size)

    def _new(self, slab: int, size: int) -> Range:
        self._next += 1
        place = Range(slab, 4096 * self._next, size)
        self.bytes[place] = b""
        return place

    def allocate_on_disk(self, size: int) -> Range | None:
        return self._new(FIRST_SLAB, size) if self.has_disk else None

    def disk_space(self) -> str:
        return f"{self.spilled} of {self.disk_limit} bytes are in use"

    def do(self, job: DiskJob, chance: random.Random) -> tuple[list[int], str, bool]:
        """Do what a disk is asked for; return the checksums, or why not and if for want of space.

        A disk is found to be full when space is claimed: a range that is not is given out.
        """
        if job.kind in ("write", "claim"):
            if self.spilled > self.disk_limit:
                return [], self.disk_space(), True
            if job.source is not None:
                self.bytes[job.place] = self.bytes[job.source]
            return [job.size], "", False
        if chance.random() < self.disk_faults:
            return [], "the bytes are not those that were written", False
        return [job.size], "", False

    def release(self) -> None:
        assert all(place in self.bytes for place, _ in self.leases)

    def is_leased(self, place: Range) -> bool:
        return any(lent == place for lent, _ in self.leases)

    def free(self, place: Range) -> None:
        assert place not in self.freed, f"{place} is freed twice"
        assert place in self.bytes, f"{place} is freed after its end"
        self.freed.add(place)
        self._collect(place)

    def lease(self, place: Range, holder: int) -> None:
        assert place in self.bytes.keys() - self.freed, f"{place} is lent after its end"
        self.leases[place, holder] += 1

    def give_back(self, place: Range, holder: int) -> None:
        assert self.leases[place, holder] > 0, f"{place} is returned too often"
        self.leases[place, holder] -= 1
        self._collect(place)

    def drop_holder(self, holder: int) -> None:
        for place, who in [key for key in self.leases if key[1] == holder]:
            del self.leases[place, who]
            self._collect(place)

    def _collect(self, place: Range) -> None:
        self.leases = +self.leases
        if place in self.freed and all(lent != place for lent, _ in self.leases):
            self.freed.discard(place)
            del self.bytes[place]

    def read(self, result: Result) -> bytes:
        assert result.worker < 0, "a value in a heap cannot be read from outside"
        if result.blob is not None:
            return result.blob
        assert result.place is not None
        return self.bytes[result.place]

    def cut(self, result: Result, kind: int, selection: list[int]) -> Result | None:
        if result.worker >= 0 or self.read(result)[:1] == b"u":
            return None
        blob = part_of(self.read(result), selection[0])
        return Result(len(blob), blob, lent=True)

    @property
    def used(self) -> int:
        return sum(place.length for place in self.bytes if not is_on_disk(place))

    @property
    def spilled(self) -> int:
        return sum(place.length for place in self.bytes if is_on_disk(place))


# ------------------------------------------------------------------------------ workers


@dataclass
class _Batch:
    run: Run
    frames: list[bytes]
    todo: deque[int]
    #: Those of the tasks, as they were when they were sent.
    attempts: list[int]
    current: int | None = None


class FakeWorker:
    """A worker process: runs what it is sent, and is as strict as a real one."""

    def __init__(self, world: Around, node: FakeNode, number: int, incarnation: int) -> None:
        self.world, self.node, self.number, self.incarnation = world, node, number, incarnation
        self.slots = node.core.workers[number].slots
        self.functions: dict[bytes, bytes] = {}
        self.heap: dict[int, tuple[bytes, int]] = {}
        self.queue: deque[_Batch] = deque()
        #: Attempts of the tasks in each message that is on its way here.
        self.sent: deque[list[int]] = deque()
        self.running: list[_Batch] = []
        self.done: list[tuple[int, int, int, bytes]] = []
        self.ranges: list[tuple[int, int, int, int]] = []
        self.failed: list[tuple[int, ErrorInfo]] = []
        self.skipped: list[int] = []
        self.waiting: dict[int, tuple[_Batch, bytes]] = {}
        self.blocked: set[int] = set()
        self.stopped = False
        #: Its end was asked for.
        self.is_doomed = False

    def hear(self, message: Message, frames: list[bytes]) -> None:
        """Take a message of the nanny."""
        if isinstance(message, Run):
            for digest, (frame, start, stop) in message.functions:
                self.functions[digest] = frames[frame][start:stop]
            todo = deque(range(len(message.tasks)))
            self.queue.append(_Batch(message, frames, todo, self.sent.popleft()))
        elif isinstance(message, Recall):
            back = []
            for batch in [*self.running, *self.queue]:
                for at in [at for at in batch.todo if batch.run.tasks[at] in message.tasks]:
                    batch.todo.remove(at)
                    back.append(batch.run.tasks[at])
            self.say(Recalled(back, [0] * len(back)))
        elif isinstance(message, Interrupt):
            self._interrupt(message.tasks)
        elif isinstance(message, Grant):
            self._write(message)
        elif isinstance(message, Discard):
            for task in message.tasks:
                self.heap.pop(task, None)
            for digest in message.functions:
                self.functions.pop(digest, None)
        else:
            assert isinstance(message, Stop | Environment | Sources), message

    def say(self, message: Message, frames: Sequence[bytes] = ()) -> None:
        self.world.post("worker>node", (self.node, self), message, frames)

    @property
    def is_busy(self) -> bool:
        return bool(self.queue or self.running or self.done or self.failed or self.skipped)

    def _interrupt(self, tasks: list[int]) -> None:
        """Stop tasks that run, if they let themselves be stopped: half of them do."""
        for batch in self.running:
            at = batch.current
            if at is None or batch.run.tasks[at] not in tasks or self.world.random.random() < 0.5:
                continue
            if all(batch is not waiting for waiting, _ in self.waiting.values()):
                self.blocked.discard(batch.run.tasks[at])
                self.skipped.append(batch.run.tasks[at])
                batch.current = None

    def current(self) -> list[int]:
        """Return the tasks that are running and would be blamed."""
        if self.is_doomed:
            return []
        return [b.run.tasks[b.current] for b in self.running if b.current is not None]

    def step(self) -> None:
        """Begin or end one task in some slot, or report."""
        while self.queue and self.taken < self.slots + len(self.blocked):
            self.running.append(self.queue.popleft())
            assert self.running[-1].run.threads <= self.slots, "a task takes more slots than are"
        movable = [b for b in self.running if all(b is not w for w, _ in self.waiting.values())]
        if not movable or self.world.random.random() < 0.2:
            self.report()
            return
        batch = self.world.random.choice(movable)
        if batch.current is None:
            if batch.todo:
                batch.current = batch.todo.popleft()
                at = batch.current
                self.world.began(self.node, self, batch.run.tasks[at], batch.attempts[at])
                if self.world.random.random() < self.world.blocking:
                    self._block(batch)
                return
            self.running.remove(batch)
            returned = [(r[1], r[2], r[3]) for r in batch.run.ranges]
            if returned:
                self.say(Return(returned))
            return
        self._end(batch, batch.current)

    @property
    def taken(self) -> int:
        """Slots that running batches take."""
        return sum(batch.run.threads for batch in self.running)

    def _block(self, batch: _Batch) -> None:
        """The task that just began waits for others: what was to follow goes back."""
        assert batch.current is not None
        back = [batch.run.tasks[at] for at in batch.todo]
        batch.todo.clear()
        if back:
            self.say(Recalled(back, [0] * len(back)))
        task = batch.run.tasks[batch.current]
        self.blocked.add(task)
        self.say(Blocked([task], True))

    def _end(self, batch: _Batch, at: int) -> None:
        run = batch.run
        task = run.tasks[at]
        if task in self.blocked:
            self.blocked.discard(task)
            if self.world.random.random() < 0.7:
                self.say(Blocked([task], False))
        inputs = self._inputs(batch, at)
        if inputs is None:
            self.skipped.append(task)
            batch.current = None
            return
        digest, form = next(
            (d, f)
            for k, (d, f, count) in enumerate(run.runs)
            if sum(r[2] for r in run.runs[: k + 1]) > at
        )
        constant = batch.frames[0][run.offsets[at] : run.offsets[at + 1]] if run.offsets else b""
        tried = self.world.tries[task] = self.world.tries[task] + 1
        word = constant.split(b" ")[0]
        if word.startswith(b"kill") and tried <= int(word[4:] or 1000):
            self.world.kill_worker(self.node, self)
            return
        if word.startswith(b"fail") or (word.startswith(b"flaky") and tried <= int(word[5:])):
            text = f"try {tried}"
            error = ErrorInfo("task", "ValueError", text, "", task, 0, "", "", bases=["ValueError"])
            self.failed.append((task, error))
            batch.current = None
            return
        blob = inputs[0] if form == 4 else result_of(self.functions[digest], constant, inputs)
        uses, report = run.uses[at], run.report[at]
        if word == b"held" and report:
            self.heap[task] = (blob, -1)
            self._finish(batch, task, -3, b"")
            return
        if uses:
            self.heap[task] = (blob, uses)
        if not report:
            self._finish(batch, task, -2, b"")
        elif len(blob) >= BIG:
            request = self.world.count()
            self.waiting[request] = (batch, blob)
            self.say(Reserve(request, task, len(blob)))
        else:
            self._finish(batch, task, len(blob), blob)

    def _write(self, grant: Grant) -> None:
        batch, blob = self.waiting.pop(grant.request)
        assert batch.current is not None
        task = batch.run.tasks[batch.current]
        if grant.slab < 0:
            self.heap.pop(task, None)
            error = ErrorInfo("store", "StoreFull", grant.reason, "", task, 0, "", "")
            self.failed.append((task, error))
            batch.current = None
            return
        place = Range(grant.slab, grant.offset, grant.length)
        assert not self.node.store.bytes[place], "a range is written twice"
        self.node.store.bytes[place] = blob
        self.ranges.append((task, grant.slab, grant.offset, len(blob)))
        self._finish(batch, task, -1, b"")

    def _finish(self, batch: _Batch, task: int, length: int, blob: bytes) -> None:
        self.done.append((task, length, self.world.random.choice((5, 50, 5000, 100_000)), blob))
        batch.current = None

    def _inputs(self, batch: _Batch, at: int) -> list[Any] | None:
        run = batch.run
        ranges = {r[0]: Range(r[1], r[2], r[3]) for r in run.ranges}
        starts: dict[int, bytes] = {}
        start = 0
        for source, length in run.inline:
            starts[source] = batch.frames[1][start : start + length]
            start += length
        first = sum(run.arities[:at])
        cuts = {number: selection[0] for number, _, selection in run.cuts}
        found: list[Any] = []
        for source in run.inputs[first : first + run.arities[at]]:
            if source in ranges or source in starts:
                place = ranges.get(source)
                blob = starts[source] if place is None else self.node.store.bytes[place]
                found.append(part_of(blob, cuts[source]) if source in cuts else blob)
            elif source in self.heap:
                blob, uses = self.heap[source]
                found.append(blob)
                if uses == 1:
                    del self.heap[source]
                elif uses > 0:
                    self.heap[source] = (blob, uses - 1)
            else:
                return None
        return found

    def report(self) -> None:
        """Say what is done, failed and skipped, as the outbox does."""
        if self.done:
            tasks, lengths, spent, blobs = (list(c) for c in zip(*self.done, strict=True))
            self.say(Done(tasks, lengths, spent, self.ranges), [b"".join(blobs)])
            self.done, self.ranges = [], []
        if self.failed:
            named = [task for task, _ in self.failed]
            errors = [error for _, error in self.failed]
            self.say(Failed(named, [0] * len(named), list(range(len(named))), errors))
            self.failed = []
        if self.skipped:
            self.say(Skipped(self.skipped))
            self.skipped = []


# -------------------------------------------------------------------------------- nodes


class FakeNode:
    """What stands around a `NodeCore`: its workers, its store, its fetches."""

    def __init__(
        self,
        world: Around,
        name: str,
        workers: int,
        slots: int,
        resources: dict[str, float] | None = None,
    ) -> None:
        self.world, self.name = world, name
        self.store = Store()
        records = [
            WorkerRecord(n, f"{name}-{n}", slots, 0, resources=dict(resources or {}))
            for n in range(workers)
        ]
        self.core = NodeCore(name, records, self.store, NodeSettings())
        self.workers: dict[int, FakeWorker] = {}
        self.starting = list(range(workers))
        self.fetches: list[FetchOrder] = []
        #: What is to be done with the disk.
        self.jobs: list[DiskJob] = []
        self.peer = world.count()
        self.index = -1
        self.is_away = False

    def start_worker(self) -> None:
        """Have one worker that is to be started say hello."""
        number = self.starting.pop(0)
        worker = FakeWorker(self.world, self, number, self.world.count())
        self.workers[number] = worker
        self.core.on_worker_ready(number, 1, worker.incarnation, self.world.now)

    def flush(self) -> None:
        effects = self.core.flush(self.world.now)
        for number, message, payload in effects.to_workers:
            if number in self.workers:
                if isinstance(message, Run):
                    assigned = [self.core.tasks.get(task) for task in message.tasks]
                    self.workers[number].sent.append([a.attempt if a else 0 for a in assigned])
                self.world.post("node>worker", self.workers[number], message, payload)
        for said, frames in effects.to_scheduler:
            self.world.post("node>scheduler", self, said, frames)
        self.fetches.extend(effects.to_fetch)
        self.jobs.extend(effects.to_disk)
        self.starting.extend(effects.to_start)
        for number in effects.to_restart:
            if number in self.workers:
                self.workers[number].is_doomed = True
                self.world.kill_worker(self, self.workers[number])
        if self.world.is_checking:
            check_node(self.core)

    def do_job(self) -> None:
        """Do the next job of the disk."""
        job = self.jobs.pop(0)
        self.core.on_disk_done(
            job.ticket, *self.store.do(job, self.world.random), now=self.world.now
        )

    def fetch(self) -> None:
        """Bring one input from one of the nodes that should have it."""
        order = self.fetches.pop(self.world.random.randrange(len(self.fetches)))
        last = -1
        for index in order.nodes:
            last = index
            other = self.world.node(index)
            if other is None or other.is_away:
                continue
            result = other.core.results.get(order.task)
            if result is None or result.worker >= 0:
                continue
            blob = other.store.read(result)
            if order.kind:
                blob = part_of(blob, order.selection[0])
            if len(blob) < BIG:
                self.core.on_fetched(order.number, Result(len(blob), blob), self.world.now)
                return
            place = self.store.allocate(len(blob))
            if place is None:
                continue
            self.store.bytes[place] = blob
            self.core.on_fetched(order.number, Result(len(blob), place=place), self.world.now)
            return
        self.core.on_unfetched(order.number, last, self.world.now)


# ------------------------------------------------------------------------------ clients
