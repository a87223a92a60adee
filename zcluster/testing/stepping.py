"""A whole cluster of pretence, driven one message at a time: the cores are real, the rest is not.

`SteppedWorld` holds one `SchedulerCore`, some `NodeCore`, and fakes around them: clients,
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

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from zcluster.core.node.records import Result, WorkerEnd
from zcluster.core.scheduler.core import SchedulerCore
from zcluster.core.scheduler.invariants import check as check_scheduler
from zcluster.core.scheduler.records import SchedulerSettings
from zcluster.graph.layers import Graph
from zcluster.graph.lowering import slices
from zcluster.protocol.messages import (
    PROTOCOL,
    Cancel,
    Cancelled,
    ErrorInfo,
    Failed,
    Hello,
    Message,
    NodeInfo,
    Release,
    Resolved,
    Retry,
    Scattered,
    Unreachable,
    Want,
    Welcome,
    WorkerInfo,
)
from zcluster.testing.fakes import BIG, FakeNode, FakeWorker, part_of, result_of, through

__all__ = ["SteppedWorld"]


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

    def __init__(self, world: SteppedWorld, name: str) -> None:
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

    def want(self, tasks: Sequence[int]) -> None:
        """Hold tasks of other clients too."""
        for task in tasks:
            self.wanted.setdefault(task, None)
            self.world.adopted.add(task)
        self.say(Want(list(tasks)))

    def retry(self, tasks: Sequence[int]) -> None:
        """Have failed tasks run again."""
        for task in tasks:
            self.wanted[task] = None
        self.say(Retry(list(tasks)))

    def cancel(self, tasks: Sequence[int]) -> None:
        for task in tasks:
            self.world.cancelled.add(task)
        self.say(Cancel(list(tasks), "because"))

    def put(self, task: int, blob: bytes, node: FakeNode) -> None:
        """Put data into a node, and say so."""
        if len(blob) < BIG:
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


class SteppedWorld:
    """Everything, and the one source of chance."""

    now: float

    def __init__(self, seed: int = 0, check: bool = False, **settings: Any) -> None:
        self.random = random.Random(seed)
        self.is_checking = check
        #: How likely a task that begins is to wait for others.
        self.blocking = 0.0
        self.now = 0.0
        self.core = SchedulerCore("inproc://s", "0", SchedulerSettings(**settings))
        self.nodes: list[FakeNode] = []
        self.clients: list[FakeClient] = []
        self.links: dict[tuple[str, int], deque[tuple[Any, Message, list[bytes]]]] = {}
        self.specs: dict[int, Spec] = {}
        self.memo: dict[int, Any] = {}
        self.cancelled: set[int] = set()
        #: Tasks that clients want which did not submit them: they may come too late.
        self.adopted: set[int] = set()
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

    def add_node(
        self,
        name: str = "n",
        workers: int = 1,
        slots: int = 1,
        resources: dict[str, float] | None = None,
    ) -> FakeNode:
        """Have a node join, with its workers up; one of the same name is replaced."""
        for old in [node for node in self.nodes if node.name == name]:
            self._forget(old)
        node = FakeNode(self, name, workers, slots, resources)
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

    def began(
        self, node: FakeNode, worker: FakeWorker, task: int, attempt: int, is_alias: bool
    ) -> None:
        """A worker began a task: nothing is noted of that here."""

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
            if node.jobs:
                moves.append(node.do_job)
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

    def worker_left(self, node: FakeNode, worker: FakeWorker) -> None:
        """A worker process ended because it was told to."""
        self.kill_worker(node, worker)

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
            if at in self.cancelled or self.deaths[at] >= 3 or at in self.adopted:
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
            is_late = outcome.kind == "lost" and task in self.adopted
            assert fits or is_late or self.is_doomed(task), (
                f"task {task}: {outcome}, expected {expected!r}"
            )
        else:
            assert self.is_doomed(task), f"task {task} was cancelled, expected {expected!r}"
