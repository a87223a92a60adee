"""A whole cluster of pretence, driven one message at a time: the cores are real, the rest is not.

`World` holds one `SchedulerCore`, some `NodeCore`, and fakes of what stands around them: clients,
worker processes and stores. There is no socket, thread or clock. Each direction between two
members is a queue; a step takes one message from one of them. All messages pass through their
frames and back.

A task's result is a hash of its callable, its constant and its inputs, so that a wrong answer is
seen by whoever gets it: the first letter of its bytes says what it is.

====== ====================================================
``s``  small: its bytes travel in the report
``b``  big: it goes into the node's store
``p``  parted: part k of it can be cut where it is
``u``  a list that cannot be cut: takers of a part get it whole
====== ====================================================

What a call does is said by its constant: ``fail`` raises, ``flaky<n>`` raises the first n times,
``kill<n>`` takes its worker down the first n times, ``held`` gives what cannot be pickled.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from zcluster.core.node.core import NodeCore
from zcluster.core.node.invariants import check as check_node
from zcluster.core.node.records import FetchOrder, NodeSettings, Result, WorkerEnd, WorkerRecord
from zcluster.core.scheduler.core import SchedulerCore
from zcluster.core.scheduler.invariants import check as check_scheduler
from zcluster.core.scheduler.records import SchedulerSettings
from zcluster.graph.layers import Graph, GraphLayer
from zcluster.graph.lowering import slices
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    NODE_TO_SCHEDULER,
    NODE_TO_WORKER,
    PROTOCOL,
    SCHEDULER_TO_CLIENT,
    SCHEDULER_TO_NODE,
    WORKER_TO_NODE,
    Cancel,
    Cancelled,
    Discard,
    Done,
    ErrorInfo,
    Failed,
    Grant,
    Hello,
    Message,
    NodeInfo,
    Recall,
    Recalled,
    Release,
    Reserve,
    Resolved,
    Return,
    Run,
    Scattered,
    Skipped,
    Stop,
    Unreachable,
    Welcome,
    WorkerInfo,
)
from zcluster.storage.arena import Range

_DECODERS = {
    "client>scheduler": Decoder(CLIENT_TO_SCHEDULER),
    "scheduler>client": Decoder(SCHEDULER_TO_CLIENT),
    "node>scheduler": Decoder(NODE_TO_SCHEDULER),
    "scheduler>node": Decoder(SCHEDULER_TO_NODE),
    "node>worker": Decoder(NODE_TO_WORKER),
    "worker>node": Decoder(WORKER_TO_NODE),
}
_BIG = 100


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
    return blob.ljust(_BIG, b".") if name[:1] == b"b" else blob


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

    def allocate(self, size: int) -> Range | None:
        if self.used + size > self.limit:
            return None
        self._next += 1
        place = Range(0, 4096 * self._next, size)
        self.bytes[place] = b""
        return place

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
        return sum(place.length for place in self.bytes)


# ------------------------------------------------------------------------------ workers


@dataclass
class _Batch:
    run: Run
    frames: list[bytes]
    todo: deque[int]
    current: int | None = None


class FakeWorker:
    """A worker process: runs what it is sent, and is as strict as a real one."""

    def __init__(self, world: World, node: FakeNode, number: int, incarnation: int) -> None:
        self.world, self.node, self.number, self.incarnation = world, node, number, incarnation
        self.slots = node.core.workers[number].slots
        self.functions: dict[bytes, bytes] = {}
        self.heap: dict[int, tuple[bytes, int]] = {}
        self.queue: deque[_Batch] = deque()
        self.running: list[_Batch] = []
        self.done: list[tuple[int, int, int, bytes]] = []
        self.ranges: list[tuple[int, int, int, int]] = []
        self.failed: list[tuple[int, ErrorInfo]] = []
        self.skipped: list[int] = []
        self.waiting: dict[int, tuple[_Batch, bytes]] = {}
        self.stopped = False

    def hear(self, message: Message, frames: list[bytes]) -> None:
        """Take a message of the nanny."""
        if isinstance(message, Run):
            for digest, (frame, start, stop) in message.functions:
                self.functions[digest] = frames[frame][start:stop]
            self.queue.append(_Batch(message, frames, deque(range(len(message.tasks)))))
        elif isinstance(message, Recall):
            back = []
            for batch in [*self.running, *self.queue]:
                for at in [at for at in batch.todo if batch.run.tasks[at] in message.tasks]:
                    batch.todo.remove(at)
                    back.append(batch.run.tasks[at])
            self.say(Recalled(back, [0] * len(back)))
        elif isinstance(message, Grant):
            self._write(message)
        elif isinstance(message, Discard):
            for task in message.tasks:
                self.heap.pop(task, None)
            for digest in message.functions:
                self.functions.pop(digest, None)
        else:
            assert isinstance(message, Stop)

    def say(self, message: Message, frames: Sequence[bytes] = ()) -> None:
        self.world.post("worker>node", (self.node, self), message, frames)

    @property
    def is_busy(self) -> bool:
        return bool(self.queue or self.running or self.done or self.failed or self.skipped)

    def current(self) -> list[int]:
        """Return the tasks that are running."""
        return [b.run.tasks[b.current] for b in self.running if b.current is not None]

    def step(self) -> None:
        """Begin or end one task in some slot, or report."""
        while self.queue and len(self.running) < self.slots:
            self.running.append(self.queue.popleft())
        movable = [b for b in self.running if all(b is not w for w, _ in self.waiting.values())]
        if not movable or self.world.random.random() < 0.2:
            self.report()
            return
        batch = self.world.random.choice(movable)
        if batch.current is None:
            if batch.todo:
                batch.current = batch.todo.popleft()
                return
            self.running.remove(batch)
            returned = [(r[1], r[2], r[3]) for r in batch.run.ranges]
            if returned:
                self.say(Return(returned))
            return
        self._end(batch, batch.current)

    def _end(self, batch: _Batch, at: int) -> None:
        run = batch.run
        task = run.tasks[at]
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
            error = ErrorInfo("task", "ValueError", f"try {tried}", "", task, 0, "", "")
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
        elif len(blob) >= _BIG:
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
        found: list[Any] = []
        for source in run.inputs[first : first + run.arities[at]]:
            if source in ranges:
                found.append(self.node.store.bytes[ranges[source]])
            elif source in starts:
                found.append(starts[source])
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

    def __init__(self, world: World, name: str, workers: int, slots: int) -> None:
        self.world, self.name = world, name
        self.store = Store()
        records = [WorkerRecord(n, f"{name}-{n}", slots, 0) for n in range(workers)]
        self.core = NodeCore(name, records, self.store, NodeSettings())
        self.workers: dict[int, FakeWorker] = {}
        self.starting = list(range(workers))
        self.fetches: list[FetchOrder] = []
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
                self.world.post("node>worker", self.workers[number], message, payload)
        for said, frames in effects.to_scheduler:
            self.world.post("node>scheduler", self, said, frames)
        self.fetches.extend(effects.to_fetch)
        self.starting.extend(effects.to_start)
        if self.world.is_checking:
            check_node(self.core)

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
            if len(blob) < _BIG:
                self.core.on_fetched(order.number, Result(len(blob), blob), self.world.now)
                return
            place = self.store.allocate(len(blob))
            if place is None:
                continue
            self.store.bytes[place] = blob
            self.core.on_fetched(order.number, Result(len(blob), place=place), self.world.now)
            return
        self.core.on_unfetched(order.number, last, "", self.world.now)


# ------------------------------------------------------------------------------ clients


@dataclass
class Spec:
    """What a task should give: the model beside the thing."""

    name: bytes
    constant: bytes = b""
    #: (task, part or None), and lists of them.
    inputs: list[Any] = field(default_factory=list)
    alias: int | None = None
    data: bytes | None = None
    retries: int = 0
    key: str | None = None


class FakeClient:
    """A client: submits, holds, fetches, releases; it believes nothing."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.peer = world.count()
        welcome = world.join(self.peer, Hello("client", PROTOCOL, "0", "3", b"", name=name))
        self.index = welcome.index
        self.next = self.index << 40
        #: Tasks held: pending, or what is known of them.
        self.wanted: dict[int, Any] = {}
        self.announced: list[tuple[int, int]] = []
        self.blobs: dict[int, bytes] = {}
        self.is_gone = False
        self.is_away = False

    def say(self, message: Message, frames: Sequence[Any] = ()) -> None:
        self.world.post("client>scheduler", self, message, frames)

    def submit(self, graph: Graph, imports: Sequence[int] = (), limit: int = 1 << 20) -> int:
        """Submit a graph; return its first task."""
        first = self.next
        self.next += graph.count
        for message, frames in slices(graph, first, imports, limit):
            self.say(message, frames)
        for start, count in graph.outputs:
            for task in range(first + start, first + start + count):
                self.wanted[task] = None
        return first

    def release(self, tasks: Sequence[int]) -> None:
        for task in tasks:
            del self.wanted[task]
            self.blobs.pop(task, None)
        self.say(Release(list(tasks)))

    def cancel(self, tasks: Sequence[int]) -> None:
        for task in tasks:
            self.world.cancelled.add(task)
        self.say(Cancel(list(tasks), "because"))

    def put(self, task: int, blob: bytes, node: FakeNode) -> None:
        """Put data into a node, and say so."""
        if len(blob) < _BIG:
            node.core.on_put(task, Result(len(blob), blob))
        else:
            place = node.store.allocate(len(blob))
            assert place is not None
            node.store.bytes[place] = blob
            node.core.on_put(task, Result(len(blob), place=place))
        node.flush()
        self.say(Scattered([task], [node.index], [len(blob)]))

    def hear(self, message: Message, frames: list[bytes]) -> None:
        if isinstance(message, Resolved):
            start = 0
            for task, length, holder in zip(
                message.tasks, message.lengths, message.holders, strict=True
            ):
                if length >= 0:
                    self.settle(task, frames[0][start : start + length])
                    start += length
                elif task in self.wanted and self.wanted[task] is None:
                    self.announced.append((task, holder))
        elif isinstance(message, Failed):
            for task, which in zip(message.tasks, message.which, strict=True):
                self.settle(task, message.errors[which])
        elif isinstance(message, Cancelled):
            for task in message.tasks:
                self.settle(task, message)
        elif isinstance(message, Unreachable):
            for task in message.tasks:
                self.put_again(task)

    def put_again(self, task: int) -> None:
        nodes = [node for node in self.world.nodes if not node.is_away]
        if task not in self.blobs:
            self.say(Cancel([task], "no copy is kept"))
            self.world.cancelled.add(task)
        elif nodes:
            self.put(task, self.blobs[task], self.world.random.choice(nodes))
        else:
            self.world.late.append((self, task))

    def settle(self, task: int, outcome: Any) -> None:
        if task not in self.wanted:
            return
        known = self.wanted[task]
        if known is None:
            self.world.judge(task, outcome)
            self.wanted[task] = outcome
        elif isinstance(known, bytes):
            assert not isinstance(outcome, bytes) or known == outcome, "resolved twice, differently"

    def fetch(self) -> None:
        """Fetch an announced result from where it should be."""
        task, holder = self.announced.pop(0)
        if self.wanted.get(task, b"") is not None:
            return
        node = self.world.node(holder)
        result = node.core.results.get(task) if node is not None and not node.is_away else None
        if node is None or result is None or result.worker >= 0:
            self.say(Unreachable([task], holder))
        else:
            self.settle(task, node.store.read(result))


# -------------------------------------------------------------------------------- world


class World:
    """Everything, and the one source of chance."""

    def __init__(self, seed: int = 0, check: bool = False, **settings: Any) -> None:
        self.random = random.Random(seed)
        self.is_checking = check
        self.now = 0.0
        self.core = SchedulerCore("inproc://s", "0", SchedulerSettings(**settings))
        self.nodes: list[FakeNode] = []
        self.clients: list[FakeClient] = []
        self.links: dict[tuple[str, int], deque[tuple[Any, Message, list[bytes]]]] = {}
        self.specs: dict[int, Spec] = {}
        self.memo: dict[int, Any] = {}
        self.cancelled: set[int] = set()
        self.tries: Counter[int] = Counter()
        self.deaths: Counter[int] = Counter()
        #: Tasks under each shared key: what happens to one happens to all.
        self.sharers: dict[str, list[int]] = {}
        self.late: list[tuple[FakeClient, int]] = []
        self.said: list[tuple[str, Message]] = []
        self._count = 0

    def count(self) -> int:
        self._count += 1
        return self._count

    @staticmethod
    def spec(*args: Any, **options: Any) -> Spec:
        return Spec(*args, **options)

    @property
    def state(self) -> Any:
        return self.core.state

    def join(self, peer: int, hello: Hello) -> Welcome:
        welcome = self.core.on_hello(peer, hello, self.now)
        assert isinstance(welcome, Welcome), welcome
        return welcome

    def add_client(self, name: str = "c") -> FakeClient:
        client = FakeClient(self, name)
        self.clients.append(client)
        return client

    def add_node(self, name: str = "n", workers: int = 1, slots: int = 1) -> FakeNode:
        """Have a node join, with its workers up; one of the same name is replaced."""
        for old in [node for node in self.nodes if node.name == name]:
            self._forget(old)
        node = FakeNode(self, name, workers, slots)
        while node.starting:
            node.start_worker()
        infos: list[WorkerInfo] = node.core.worker_infos()
        info = NodeInfo(0, name, "host", 1, f"d-{name}", "", 0, infos)
        welcome = self.join(node.peer, Hello("node", PROTOCOL, "0", "3", b"", node=info))
        node.index = welcome.index
        for other in welcome.nodes:
            node.core.nodes[other.index] = other
        self.nodes.append(node)
        node.flush()
        self.flush()
        return node

    def node(self, index: int) -> FakeNode | None:
        return next((node for node in self.nodes if node.index == index), None)

    def post(self, way: str, who: Any, message: Message, frames: Sequence[Any]) -> None:
        """Put a message on its way."""
        self.said.append((way, message))
        end = who[1] if isinstance(who, tuple) else who
        link = self.links.setdefault((way, id(end)), deque())
        link.append((who, *through(way, message, frames)))

    def flush(self) -> None:
        """Flush the scheduler."""
        for peer, message, frames in self.core.flush(self.now):
            for client in self.clients:
                if client.peer == peer:
                    self.post("scheduler>client", client, message, frames)
            for node in self.nodes:
                if node.peer == peer:
                    self.post("scheduler>node", node, message, frames)
        for peer, _ in self.core.take_fenced():
            for client in self.clients:
                client.is_gone = client.is_gone or client.peer == peer
            for node in [node for node in self.nodes if node.peer == peer]:
                self._forget(node)
        if self.is_checking:
            check_scheduler(self.core.state)

    def _forget(self, node: FakeNode) -> None:
        if node in self.nodes:
            self.nodes.remove(node)
        dead = {id(node), *(id(worker) for worker in node.workers.values())}
        for key in [key for key in self.links if key[1] in dead]:
            del self.links[key]

    # ---------------------------------------------------------------------- steps

    def deliver(self, way: str, end: int) -> None:
        """Deliver the next message of a link."""
        who, message, frames = self.links[way, end].popleft()
        if way == "scheduler>client":
            who.hear(message, frames)
        elif way in ("client>scheduler", "node>scheduler"):
            self.core.on_message(who.peer, message, frames, self.now)
        elif way == "scheduler>node":
            who.core.on_message(message, frames, self.now)
        elif way == "node>worker":
            who.hear(message, frames)
        else:
            node, worker = who
            if node.workers.get(worker.number) is worker:
                node.core.on_worker(worker.number, message, frames, self.now)

    def moves(self) -> list[Callable[[], None]]:
        """Return everything that could happen next, faults apart."""
        moves: list[Callable[[], None]] = []
        for (way, end), link in self.links.items():
            if not link:
                continue
            who = link[0][0]
            crosses = "scheduler" in way
            if crosses and who.is_away:
                continue
            moves.append(lambda way=way, end=end: self.deliver(way, end))  # type: ignore[misc]
        for node in self.nodes:
            if node.starting:
                moves.append(node.start_worker)
            if node.fetches:
                moves.append(node.fetch)
            moves.extend(w.step for w in node.workers.values() if w.is_busy and not w.stopped)
        moves.extend(c.fetch for c in self.clients if c.announced and not c.is_gone)
        if self.late and any(not node.is_away for node in self.nodes):
            moves.append(self._put_late)
        return moves

    def _put_late(self) -> None:
        client, task = self.late.pop(0)
        if not client.is_gone:
            client.put_again(task)

    def step(self) -> bool:
        """Let one thing happen; False if there is nothing to."""
        self.now += self.random.choice((1e-6, 1e-4, 2e-3))
        moves = self.moves()
        if moves:
            self.random.choice(moves)()
        if self.random.random() < 0.6 or not moves:
            before = len(self.said)
            self.flush_all()
            if not moves:
                return len(self.said) > before or self.core.wake_after is not None
        return True

    def flush_all(self) -> None:
        for node in list(self.nodes):
            node.flush()
        self.flush()

    def run(self, most: int = 100_000) -> None:
        """Run until nothing happens any more."""
        for _ in range(most):
            if not self.step():
                self.now += 1.0
                for node in self.nodes:
                    node.core.on_time(self.now)
                self.core.on_time(self.now)
                self.flush_all()
                if not self.moves() and self.core.wake_after is None:
                    return
        raise AssertionError(f"it does not come to rest: {self.core.state.states()}")

    def sweep(self) -> None:
        """Forget data that clients put into nodes and did not come to tell the scheduler of.

        Nobody else knows of it: it stays until its node ends.
        """
        gone = {client.index for client in self.clients if client.is_gone}
        for node in self.nodes:
            for task in [t for t in node.core.results if t >> 40 in gone]:
                if self.specs[task].data is not None and self.state.find(task) is None:
                    result = node.core.results.pop(task)
                    if result.place is not None:
                        node.store.free(result.place)

    # --------------------------------------------------------------------- faults

    def kill_worker(self, node: FakeNode, worker: FakeWorker, chance: bool = False) -> None:
        """A worker process ends; what it has said before counts."""
        self.deaths.update(worker.current())
        if self.random.random() < 0.5:
            worker.report()
        link = self.links.pop(("worker>node", id(worker)), deque())
        for _, message, frames in link:
            node.core.on_worker(worker.number, message, frames, self.now)
        self.links.pop(("node>worker", id(worker)), None)
        del node.workers[worker.number]
        worker.stopped = True
        end = WorkerEnd(worker.number, worker.incarnation, "died", 0, "", worker.current())
        node.core.on_worker_end(end, self.now)

    def set_away(self, member: FakeNode | FakeClient, is_away: bool) -> None:
        member.is_away = is_away
        if is_away:
            self.core.on_away(member.peer, self.now)
        else:
            self.core.on_back(member.peer, self.now)

    def lose_node(self, node: FakeNode) -> None:
        """A node is gone for good."""
        self.core.on_gone(node.peer, "gone", self.now)
        self._forget(node)
        self.flush()

    def lose_client(self, client: FakeClient) -> None:
        """A client is gone; half of the time with what it said and nobody has heard yet."""
        spoken = self.links.get(("client>scheduler", id(client)), deque())
        while spoken and self.random.random() < 0.9:
            self.deliver("client>scheduler", id(client))
        client.is_gone = True
        for key in [key for key in self.links if key[1] == id(client)]:
            del self.links[key]
        self.core.on_gone(client.peer, "gone", self.now)
        self.flush()

    # ---------------------------------------------------------------------- model

    def value(self, task: int) -> Any:
        """Return what a task should give: bytes, or a word that says why it cannot."""
        stack = [task]
        while stack:
            at = stack[-1]
            if at in self.memo:
                stack.pop()
                continue
            open_inputs = [t for t in self._sources(at) if t not in self.memo]
            if open_inputs:
                stack.extend(open_inputs)
                continue
            self.memo[at] = self._value(self.specs[at])
            stack.pop()
        return self.memo[task]

    def _sources(self, task: int) -> Iterator[int]:
        spec = self.specs[task]
        if spec.alias is not None:
            yield spec.alias
        for item in spec.inputs:
            yield item[0]

    def _value(self, spec: Spec) -> Any:
        if spec.data is not None:
            return spec.data
        if spec.alias is not None:
            return self.memo[spec.alias]
        values = []
        for task, part in spec.inputs:
            value = self.memo[task]
            if isinstance(value, str):
                return "input"
            values.append(value if part is None else part_of(value, part))
        word = spec.constant.split(b" ")[0]
        if word == b"fail":
            return "task"
        if word.startswith(b"kill") and int(word[4:] or 1000) >= 3:
            return "killed"
        return result_of(spec.name, spec.constant, values)

    def is_doomed(self, task: int) -> bool:
        """Whether a task may end without a result, for something that happened to what it needs."""
        seen: set[int] = set()
        stack = [task]
        while stack:
            at = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            if at in self.cancelled or self.deaths[at] >= 3:
                return True
            spec = self.specs[at]
            if spec.constant.startswith(b"flaky") and int(spec.constant[5:6]) > spec.retries:
                return True  # it may raise too often, unless a failure was lost on its way
            gone = any(c.is_gone and c.index == at >> 40 for c in self.clients)
            if gone and spec.data is not None:
                return True
            stack.extend(self._sources(at))
            if spec.key is not None:
                stack.extend(self.sharers[spec.key])
        return False

    def judge(self, task: int, outcome: Any) -> None:
        """Check an outcome that a client was told of."""
        expected = self.value(task)
        if isinstance(outcome, bytes):
            assert outcome == expected, f"task {task} gave {outcome!r}, expected {expected!r}"
        elif isinstance(outcome, ErrorInfo):
            fits = outcome.kind == expected or (outcome.kind == "input" and expected == "input")
            assert fits or self.is_doomed(task), f"task {task}: {outcome}, expected {expected!r}"
        else:
            assert self.is_doomed(task), f"task {task} was cancelled, expected {expected!r}"


@pytest.fixture(scope="session")
def world() -> type[World]:
    """Return the pretend cluster, to be made with a seed."""
    return World


@pytest.fixture(scope="session")
def store() -> type[Store]:
    """Return the pretend memory of a node."""
    return Store


@pytest.fixture(scope="session")
def make_function() -> Callable[[str], Function]:
    """Return what makes callables."""
    return function


@pytest.fixture(scope="session")
def add_layer() -> Callable[..., int]:
    """Return what appends a layer to a graph and its model to a world."""
    return append_layer


def append_layer(
    graph: Graph,
    name: str = "s",
    inputs: Sequence[Sequence[int]] = ((),),
    constants: Sequence[bytes] | None = None,
    **options: Any,
) -> int:
    """Append a layer with a task for each list of inputs (``~k``: import k); return its first."""
    arities = {len(sources) for sources in inputs}
    arity = arities.pop() if len(arities) == 1 else -1
    starts = [0]
    for sources in inputs:
        starts.append(starts[-1] + len(sources))
    offsets = None
    if constants is not None:
        offsets = [0]
        for constant in constants:
            offsets.append(offsets[-1] + len(constant))
    layer = GraphLayer(
        name,
        () if len(inputs) == 1 else (len(inputs),),
        len(inputs),
        options.pop("call", 0 if constants is None else 1),
        options.pop("function", function(name)),
        arity,
        starts if arity < 0 else None,
        [source for sources in inputs for source in sources],
        constants=b"".join(constants or ()),
        offsets=offsets,
        **options,
    )
    return graph.add_layer(layer)
