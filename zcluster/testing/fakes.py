"""What stands around the cores of a pretend node: workers, fetches.

See `zcluster.testing.world`. What a core wants done that is not here yet has one place each:
`FakeWorker.hear` for what a worker is told, `FakeNode.flush` for what a node is to do; what becomes
of bytes is in `zcluster.testing.stores`, what they are in `zcluster.testing.values`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any, Protocol

from zcluster.core.node.core import NodeCore
from zcluster.core.node.invariants import check as check_node
from zcluster.core.node.records import (
    FetchOrder,
    NodeSettings,
    Result,
    RoomGiven,
    WorkerRecord,
)
from zcluster.errors import InvariantError
from zcluster.protocol.calls import CALL_ALIAS
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    NODE_TO_SCHEDULER,
    NODE_TO_WORKER,
    SCHEDULER_TO_CLIENT,
    SCHEDULER_TO_NODE,
    WORKER_TO_NODE,
    Blocked,
    Call,
    Called,
    Discard,
    Done,
    Environment,
    ErrorInfo,
    Failed,
    Files,
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
from zcluster.storage.disk import DiskJob
from zcluster.testing.stores import Storage, Store
from zcluster.testing.values import BIG, Function, function, part_of, result_of


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

    def worker_left(self, node: Any, worker: FakeWorker) -> None:
        """A worker process ended because it was told to."""

    def node(self, index: int) -> Any:
        """Return the node the scheduler numbered so."""

    def began(
        self, node: FakeNode, worker: FakeWorker, task: int, attempt: int, is_alias: bool
    ) -> None:
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


def through(way: str, message: Message, frames: Sequence[Any]) -> tuple[Message, list[bytes]]:
    """Send a message through its frames."""
    return _DECODERS[way].decode(encode(message)), [bytes(frame) for frame in frames]


# ------------------------------------------------------------------------------ workers


@dataclass(eq=False)
class _Batch:
    run: Run
    frames: list[bytes]
    todo: deque[int]
    #: Those of the tasks, as they were when they were sent.
    attempts: list[int]
    current: int | None = None
    #: What runs does not let itself be stopped, and does not end.
    is_stuck: bool = False
    #: What runs takes its time.
    is_slow: bool = False

    def __post_init__(self) -> None:
        run = self.run
        #: Where the inputs of each task begin, and what each calls.
        self.starts = [0, *accumulate(run.arities)]
        self.calls = [(digest, form) for digest, form, count in run.runs for _ in range(count)]
        #: By input: where it is in the store, its bytes if they came along, which part is meant.
        self.ranges = {r[0]: Range(r[1], r[2], r[3]) for r in run.ranges}
        self.inline: dict[int, bytes] = {}
        start = 0
        for source, length in run.inline:
            self.inline[source] = self.frames[1][start : start + length]
            start += length
        self.cuts = {number: selection[0] for number, _, selection in run.cuts}

    @property
    def running(self) -> int:
        """The task that runs, or -1."""
        return -1 if self.current is None else self.run.tasks[self.current]

    @property
    def stands(self) -> bool:
        return self.is_stuck or self.is_slow


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
        #: Direct calls it was asked to make: request and payload.
        self.calls: deque[tuple[int, list[bytes]]] = deque()
        self.stopped = False
        #: Its end was asked for.
        self.is_doomed = False
        #: It was told to end what it runs, and then itself.
        self.is_leaving = False
        #: It has begun a task.
        self.has_run = False

    def hear(self, message: Message, frames: list[bytes]) -> None:
        """Take a message of the nanny."""
        if isinstance(message, Run):
            for digest, (frame, start, stop) in message.functions:
                self.functions[digest] = frames[frame][start:stop]
            todo = deque(range(len(message.tasks)))
            self.queue.append(_Batch(message, frames, todo, self.sent.popleft()))
            if self.is_leaving:
                self._give_back(set(message.tasks))
        elif isinstance(message, Recall):
            self._give_back(set(message.tasks))
        elif isinstance(message, Stop):
            self.is_leaving = True
            self._give_back({task for batch in self.queue for task in batch.run.tasks})
        elif isinstance(message, Call):
            self.calls.append((message.request, frames))
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
            assert isinstance(message, Environment | Sources | Files), message

    def _give_back(self, tasks: set[int]) -> None:
        """Give back those of the tasks that have not begun."""
        back = []
        for batch in [*self.running, *self.queue]:
            for at in [at for at in batch.todo if batch.run.tasks[at] in tasks]:
                batch.todo.remove(at)
                back.append(batch.run.tasks[at])
        self.say(Recalled(back, [0] * len(back)))

    def say(self, message: Message, frames: Sequence[bytes] = ()) -> None:
        self.world.post("worker>node", (self.node, self), message, frames)

    @property
    def is_busy(self) -> bool:
        if self.queue or self.running or self.done or self.failed or self.skipped or self.calls:
            return True
        return self.is_leaving

    @property
    def can_step(self) -> bool:
        """Whether it can do anything but wait for room."""
        if self.done or self.failed or self.skipped or self.calls:
            return True
        if self.queue and self.taken < self.slots + len(self.blocked):
            return True
        still = len(self.waiting)
        for batch in self.running:
            still += batch.is_stuck or batch.is_slow
        return still < len(self.running) or (self.is_leaving and not self.running)

    def _interrupt(self, tasks: list[int]) -> None:
        """Stop tasks that run, if they let themselves be stopped: half of them do.

        Some of the others hang from then on.
        """
        for batch in self.running:
            at = batch.current
            if at is None or batch.run.tasks[at] not in tasks:
                continue
            is_waiting = any(batch is waiting for waiting, _ in self.waiting.values())
            if self.world.random.random() < 0.5:
                batch.is_stuck = not is_waiting and self.world.random.random() < 0.5
            elif not is_waiting and not batch.is_stuck:
                self.blocked.discard(batch.run.tasks[at])
                self.skipped.append(batch.run.tasks[at])
                batch.current = None
                batch.is_slow = False

    def linger(self, tasks: Collection[int]) -> list[_Batch]:
        """Have some tasks that run take their time, until `go_on`."""
        waiting = [batch for batch, _ in self.waiting.values()]
        slow = [b for b in self.running if b.running in tasks and b not in waiting]
        for batch in slow:
            batch.is_slow = True
        return slow

    def go_on(self, slow: list[_Batch]) -> None:
        """Have them end after all, unless they hang."""
        for batch in slow:
            batch.is_slow = False

    def current(self) -> list[int]:
        """Return the tasks that are running and would be blamed."""
        if self.is_doomed:
            return []
        return [b.run.tasks[b.current] for b in self.running if b.current is not None]

    def step(self) -> None:
        """Begin or end one task in some slot, make a direct call, or report."""
        if self.calls and self.world.random.random() < 0.5:
            request, frames = self.calls.popleft()
            self.say(Called(request), frames)
            return
        while self.queue and self.taken < self.slots + len(self.blocked):
            self.running.append(self.queue.popleft())
            assert self.running[-1].run.threads <= self.slots, "a task takes more slots than are"
        waiting = [id(batch) for batch, _ in self.waiting.values()]
        movable = [b for b in self.running if not b.stands and id(b) not in waiting]
        if not movable or self.world.random.random() < 0.2:
            self.report()
            if self.is_leaving and not (self.running or self.calls):
                self.world.worker_left(self.node, self)
            return
        batch = self.world.random.choice(movable)
        if batch.current is None:
            if batch.todo:
                batch.current = batch.todo.popleft()
                at = batch.current
                self.has_run = True
                is_alias = batch.calls[at][1] == CALL_ALIAS
                task, attempt = batch.run.tasks[at], batch.attempts[at]
                self.world.began(self.node, self, task, attempt, is_alias)
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
        return sum([batch.run.threads for batch in self.running])

    def _block(self, batch: _Batch) -> None:
        """The task that just began waits for others: what stands behind it goes back.

        What needs its result stays: it can begin nowhere before.
        """
        assert batch.current is not None
        run = batch.run
        task = run.tasks[batch.current]
        starts = batch.starts
        stay, back = {task}, []
        for at in list(batch.todo):
            if stay.isdisjoint(run.inputs[starts[at] : starts[at + 1]]):
                batch.todo.remove(at)
                back.append(run.tasks[at])
            else:
                stay.add(run.tasks[at])
        if back:
            self.say(Recalled(back, [0] * len(back)))
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
        digest, form = batch.calls[at]
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
        blob = (
            inputs[0] if form == CALL_ALIAS else result_of(self.functions[digest], constant, inputs)
        )
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
            kind, name = ("disk", "OutOfDisk") if grant.slab == -2 else ("store", "StoreFull")
            error = ErrorInfo(kind, name, grant.reason, "", task, 0, "", "")
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
        ranges, inline, cuts = batch.ranges, batch.inline, batch.cuts
        found: list[Any] = []
        for source in batch.run.inputs[batch.starts[at] : batch.starts[at + 1]]:
            if source in ranges or source in inline:
                place = ranges.get(source)
                blob = inline[source] if place is None else self.node.store.bytes[place]
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
        storage: Storage | None = None,
    ) -> None:
        self.world, self.name = world, name
        storage = storage or Storage()
        self.store = Store(storage)
        records = [
            WorkerRecord(n, f"{name}-{n}", slots, 0, resources=dict(resources or {}))
            for n in range(workers)
        ]
        self.core = NodeCore(name, records, self.store, NodeSettings(target=storage.target))
        self.workers: dict[int, FakeWorker] = {}
        self.starting = list(range(workers))
        self.fetches: list[FetchOrder] = []
        #: What is to be done with the disk.
        self.jobs: list[DiskJob] = []
        #: Who gets room in the store that waited for it, or does not.
        self.rooms: list[RoomGiven] = []
        #: It was told to say goodbye.
        self.is_leaving = False
        #: The tasks and attempts that the scheduler asked back.
        self.asked_back: set[tuple[int, int]] = set()
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
                    attempts = [a.attempt if a else 0 for a in assigned]
                    self._check_wanted(message.tasks, attempts)
                    self.workers[number].sent.append(attempts)
                self.world.post("node>worker", self.workers[number], message, payload)
        for said, frames in effects.to_scheduler:
            self.world.post("node>scheduler", self, said, frames)
        self.fetches.extend(effects.to_fetch)
        self.jobs.extend(effects.to_disk)
        self.rooms.extend(effects.room)
        self.is_leaving |= effects.leave
        self.starting.extend(effects.to_start)
        for number in effects.to_restart:
            if number in self.workers:
                self.workers[number].is_doomed = True
                self.world.kill_worker(self, self.workers[number])
        self._check()

    def _check(self) -> None:
        """Walk the core's state."""
        if self.world.is_checking:
            check_node(self.core)

    def _check_wanted(self, tasks: list[int], attempts: list[int]) -> None:
        for pair in zip(tasks, attempts, strict=True) if self.asked_back else ():
            if pair in self.asked_back:
                raise InvariantError(
                    f"task {pair[0]} is sent to a worker of {self.name} in attempt {pair[1]}, "
                    "which the scheduler had asked back"
                )

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
