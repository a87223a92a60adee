"""A whole cluster of pretence: the cores and the sessions are real, all around them is not.

`World` holds a scheduler, nodes and clients (`members`, `clients`), each with its core as it is in
production and its conversation over real frames, a pretend `network` between them, workers and
stores that are `fakes`, and one pretend `clock`. One seed decides everything: two worlds of one
seed to which the same is done live through the same, event by event (`World.trace_hash`).

A task's result is a hash of its callable, its constant and its inputs, so that a wrong answer is
seen by whoever gets it: the first letter of its bytes says what it is.

====== ====================================================
``s``  small: its bytes travel in the report
``b``  big: it goes into the node's store
``p``  parted: part k of it can be cut where it is
``u``  a list that cannot be cut: takers of a part get it whole
====== ====================================================
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from zcluster.core.node.records import WorkerEnd
from zcluster.core.scheduler.records import SchedulerSettings
from zcluster.errors import InvariantError
from zcluster.protocol.messages import Failed, Free, Message
from zcluster.testing.clients import ClientMember
from zcluster.testing.clock import Clock, Process
from zcluster.testing.fakes import FakeNode, FakeWorker, through
from zcluster.testing.guard import forbidden
from zcluster.testing.members import NodeMember, SchedulerMember
from zcluster.testing.model import Model
from zcluster.testing.network import Network, Path
from zcluster.testing.promises import check_alone, check_missed
from zcluster.testing.stores import Storage

__all__ = ["World"]

Member = NodeMember | ClientMember | SchedulerMember

#: A launcher brings a node back after so long.
_RESTART = 0.1
#: How often it is looked whether all is quiet.
_LOOK = 0.05


class World:
    """A scheduler, nodes and clients, and the one source of chance.

    Parameters
    ----------
    seed : int
    check : bool
        Walk the states of the cores after every event (after some, where they are large), and
        refuse clocks, chance, files and threads to the cores.
    on_core : callable, optional
        Called with each core that is made, before anything is said to it.
    **settings
        Of `SchedulerSettings`.

    Attributes
    ----------
    model : Model
        What tasks should give, and what happened to them.
    scheduler : SchedulerMember
    nodes : list of NodeMember
    clients : list of ClientMember
    blocking : float
        How likely a task that begins is to wait for others.
    slowness : float
        How likely a step of a worker is to take long (up to a second).
    """

    def __init__(
        self,
        seed: int = 0,
        check: bool = False,
        on_core: Callable[[Any], None] | None = None,
        **settings: Any,
    ) -> None:
        self.random = random.Random(seed)
        self.is_checking = check
        #: Called with each core that is made, before anything is said to it.
        self.on_core = on_core or (lambda core: None)
        self.blocking = 0.0
        self.slowness = 0.02
        self.clock = Clock()
        self.network = Network(self.clock, self.random)
        self.model = Model()
        self.tries = self.model.tries
        self.nodes: list[NodeMember] = []
        self.clients: list[ClientMember] = []
        self.on_effect: Callable[[ClientMember, Any], None] | None = None
        #: Processes that ended, and why.
        self.ends: list[tuple[float, str, str]] = []
        self._links: dict[tuple[str, int], deque[tuple[Any, Message, list[bytes]]]] = {}
        self._working: set[int] = set()
        self._stories: dict[int, list[tuple[float, str, str]]] = {}
        self._healing: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        self._last_of_name: dict[str, NodeMember] = {}
        self._count = 0
        self.scheduler = SchedulerMember(self, SchedulerSettings(**settings))
        self.core = self.scheduler.core

    # --------------------------------------------------------------------- looking on

    @property
    def now(self) -> float:
        """Pretend seconds since the beginning."""
        return self.clock.now

    @property
    def state(self) -> Any:
        """The scheduler's state."""
        return self.core.state

    @property
    def trace_hash(self) -> str:
        """A hash of all that was said so far, by whom and when."""
        return self.network.trace_hash

    @property
    def events(self) -> int:
        """Events so far."""
        return self.clock.events

    def count(self) -> int:
        """Return a number that was not given before."""
        self._count += 1
        return self._count

    def node(self, index: int) -> NodeMember | None:
        """Return the node the scheduler numbered so, if its process lives."""
        for node in self.nodes:
            if node.index == index:
                return node
        if index in self.state.nodes:
            # It answers at its data port before it is welcomed, and others may know of it first.
            data = self.state.nodes[index].info.data
            newborn = (node for node in self.nodes if node.index < 0)
            return next((node for node in newborn if node.data == data), None)
        return None

    def tell(self, task: int, member: str, text: str) -> None:
        """Note what happened to a task."""
        self._stories.setdefault(task, []).append((self.now, member, text))

    def story(self, task: int) -> list[tuple[float, str, str]]:
        """Return what happened to a task, in order: (time, member, text)."""
        told = [
            (float(entry[0]), "scheduler", " ".join(str(part) for part in entry[1:]))
            for entry in self.state.journal.story(task)
        ]
        return sorted([*told, *self._stories.get(task, [])], key=lambda entry: entry[0])

    def began(
        self, node: FakeNode, worker: FakeWorker, task: int, attempt: int, is_alias: bool
    ) -> None:
        """Note that a worker began a task, in the attempt that it was sent."""
        place = f"{node.name}-{worker.number}"
        if attempt:  # else it was dropped before it was sent
            self.model.began(task, attempt, place, is_alias)
        self.tell(task, place, f"began attempt {attempt}")
        check_alone(worker, task)

    def note_effect(self, client: ClientMember, effect: Any) -> None:
        """Pass on what a client's core says besides results."""
        if self.on_effect is not None:
            self.on_effect(client, effect)

    # ----------------------------------------------------------------------- members

    def add_client(self, name: str = "c") -> ClientMember:
        """Have a client connect."""
        client = ClientMember(self, name)
        self.clients.append(client)
        return client

    def add_node(
        self,
        name: str = "n",
        workers: int = 1,
        slots: int = 1,
        resources: dict[str, float] | None = None,
        storage: Storage | None = None,
        is_beside: bool = False,
    ) -> NodeMember:
        """Have a node connect; the process of one of the same name ends, unless it is beside it."""
        for old in [node for node in self.nodes if node.name == name and not is_beside]:
            self.lose_node(old)
        node = self._last_of_name[name] = NodeMember(self, name, workers, slots, resources, storage)
        self.nodes.append(node)
        return node

    def draw_transfer(self) -> float:
        """Return how long some transfer between nodes takes."""
        return 1e-4 + self.random.random() ** 6 * 0.2

    # ------------------------------------------------------------------ workers' links

    def post(self, way: str, who: Any, message: Message, frames: Sequence[Any]) -> None:
        """Put a message on its way: between a nanny and its workers, or to the scheduler."""
        if way == "node>scheduler":
            if isinstance(message, Failed):
                for task, which in zip(message.tasks, message.which, strict=True):
                    if message.errors[which].kind in ("store", "disk"):
                        self.model.note_refused(task, who)
            who.line.talk.send(message, frames, self.now)
            return
        node, worker = who if way == "worker>node" else (who.node, who)
        self.network.note(type(message).__name__.encode())
        link = self._links.get((way, id(worker)))
        if link is None:
            link = self._links[way, id(worker)] = deque()
        link.append((worker, *through(way, message, frames)))
        self.clock.after(self.random.random() * 2e-4, self._pass, way, node, worker)

    def _pass(self, way: str, node: NodeMember, worker: FakeWorker) -> None:
        link = self._links.get((way, id(worker)))
        if not link:
            return
        _, message, frames = link.popleft()
        if way == "node>worker":
            worker.hear(message, frames)
            self._kick(worker)
        else:
            node.process.deliver(self._hear_worker, node, worker, message, frames)

    def _hear_worker(
        self, node: NodeMember, worker: FakeWorker, message: Message, frames: list[bytes]
    ) -> None:
        if node.workers.get(worker.number) is worker:
            node.core.on_worker(worker.number, message, frames, self.now)

    def _kick(self, worker: FakeWorker) -> None:
        """Have a worker go on, if it has work."""
        if worker.can_step and not worker.stopped and id(worker) not in self._working:
            self._working.add(id(worker))
            chance = self.random.random
            seconds = 1e-5 + chance() ** 3 * 2e-3
            if chance() < self.slowness:
                seconds = chance() ** 2
            self.clock.after(seconds, self._work, worker)

    def linger(self, worker: FakeWorker, tasks: list[int], seconds: float) -> None:
        """Have tasks that run in a worker take some time."""
        slow = worker.linger(tasks)
        if slow:
            self.clock.after(seconds, self._go_on, worker, slow)

    def _go_on(self, worker: FakeWorker, slow: list[Any]) -> None:
        worker.go_on(slow)
        self._kick(worker)

    def _work(self, worker: FakeWorker) -> None:
        self._working.discard(id(worker))
        if not worker.stopped:
            worker.step()
            self._kick(worker)

    # ------------------------------------------------------------------------- faults

    def kill_worker(self, node: NodeMember, worker: FakeWorker) -> None:
        """A worker process ends; what it has said before counts."""
        self.model.died(worker.current())
        if self.random.random() < 0.5:
            worker.report()
        for _, message, frames in self._links.pop(("worker>node", id(worker)), deque()):
            node.process.deliver(self._hear_worker, node, worker, message, frames)
        self._links.pop(("node>worker", id(worker)), None)
        worker.stopped = True
        running = worker.current()
        node.process.deliver(self._worker_ended, node, worker, running)

    def _worker_ended(self, node: NodeMember, worker: FakeWorker, running: list[int]) -> None:
        if node.workers.get(worker.number) is worker:
            del node.workers[worker.number]
            has_run = worker.has_run and not worker.is_doomed
            if has_run and not running:
                # One task that was there alone may have left a thread behind.
                batches = node.core.workers[worker.number].batches
                sent = [task for batch in batches for task in batch.tasks]
                self.model.deaths.update(sent if len(sent) == 1 else ())
            end = WorkerEnd(
                worker.number, worker.incarnation, "died", 0, "", running, has_run=has_run
            )
            held = node.core.workers[worker.number].held & node.core.results.keys()
            held |= {task for task, number in node.core.actors.items() if number == worker.number}
            node.core.on_worker_end(end, self.now)
            check_missed(node.core, held)

    def worker_left(self, node: NodeMember, worker: FakeWorker) -> None:
        """A worker process ended because it was told to; what it has said counts."""
        worker.stopped = True
        for _, message, frames in self._links.pop(("worker>node", id(worker)), deque()):
            node.process.deliver(self._hear_worker, node, worker, message, frames)
        self._links.pop(("node>worker", id(worker)), None)
        node.process.deliver(self._worker_is_gone, node, worker)

    def _worker_is_gone(self, node: NodeMember, worker: FakeWorker) -> None:
        if node.workers.get(worker.number) is worker:
            del node.workers[worker.number]
            end = WorkerEnd(worker.number, worker.incarnation, "ended", 0, "", [])
            node.core.on_worker_end(end, self.now)

    def node_left(self, node: NodeMember) -> None:
        """A node was told to leave: it says goodbye, and its processes end."""
        if node.is_gone:
            return
        node.line.talk.close()
        node.is_gone = node.process.is_dead = True
        self.ends.append((self.now, node.name, "it was retired"))
        for worker in node.workers.values():
            worker.stopped = True
            self._links.pop(("worker>node", id(worker)), None)
            self._links.pop(("node>worker", id(worker)), None)
        self.nodes.remove(node)

    def lose_node(self, node: NodeMember, noticed: bool = True) -> None:
        """A node's processes end at once; ``noticed`` False: its host is gone, without a word."""
        if node.is_gone:
            return
        self.model.died([task for w in node.workers.values() for task in w.current()])
        self._end(node, "killed", noticed)

    def _end(self, node: NodeMember, reason: str, noticed: bool = True) -> None:
        node.is_gone = node.process.is_dead = True
        self.ends.append((self.now, node.name, reason))
        for worker in node.workers.values():
            worker.stopped = True
            self._links.pop(("worker>node", id(worker)), None)
            self._links.pop(("node>worker", id(worker)), None)
        self.nodes.remove(node)
        self.network.died(node.process, noticed)

    def restart_node(self, name: str, after: float = _RESTART) -> None:
        """Have a launcher start a node again, as it was when it was last here."""
        self.clock.after(after, self._restart, self._last_of_name[name])

    def _restart(self, last: NodeMember) -> None:
        if all(node.name != last.name for node in self.nodes):
            self.add_node(last.name, *last.shape)

    def node_lost(self, node: NodeMember, is_fenced: bool, reason: str) -> None:
        """A nanny's conversation is over: it begins another life, or ends."""
        if node.is_gone:
            return
        self.model.died([task for w in node.workers.values() for task in w.current()])
        self._end(node, reason)
        if is_fenced:
            self.clock.after(0.0, self._restart, node)

    def lose_client(self, client: ClientMember, noticed: bool = True) -> None:
        """A client's process ends; some of what it said may still arrive."""
        if client.is_gone:
            return
        client.is_gone = client.process.is_dead = True
        self.model.gone.add(client.index)
        self.network.died(client.process, noticed)

    def client_lost(self, client: ClientMember, reason: str) -> None:
        """A client's conversation is over."""
        self.ends.append((self.now, client.name, reason))

    def freeze(self, member: Member, seconds: float) -> None:
        """Stop a process for some seconds."""
        process = member.process
        if process.is_frozen or process.is_dead:
            return
        process.is_frozen = True
        self.network.frozen(process)
        self._heal_after(seconds, self._thaw, process)

    def _thaw(self, process: Process) -> None:
        process.thaw()

    def cut(
        self,
        member: NodeMember | ClientMember,
        seconds: float,
        to_scheduler: bool = True,
        from_scheduler: bool = True,
        noticed: bool = True,
    ) -> None:
        """Let nothing through between a member and the scheduler for some seconds.

        ``noticed``: the connection is reset at once; else it is found out by silence.
        """
        if noticed:
            self.drop_connection(member)
        self.network.cut(member.path, to_scheduler, from_scheduler)
        self._heal_after(seconds, self.network.mend, member.path, to_scheduler, from_scheduler)

    def drop_connection(self, member: NodeMember | ClientMember, noticed: bool = True) -> None:
        """A member's connection ends, and what is under way is lost.

        ``noticed`` False: ZeroMQ makes another one by itself and says nothing.
        """
        made = member.line.connection
        if made is not None:
            if noticed:
                self.network.reset(made)
            else:
                self.network.replace(made)

    def slow(self, member: NodeMember | ClientMember, seconds: float, delay: float = 0.5) -> None:
        """Have what goes between a member and the scheduler take longer."""
        path = member.path
        self._slow(path, delay)
        self._heal_after(seconds, self._slow, path, -delay)

    def _slow(self, path: Path, delay: float) -> None:
        path.up.delay = max(0.0, path.up.delay + delay)
        path.down.delay = max(0.0, path.down.delay + delay)

    def fail_fetches(
        self, member: NodeMember | ClientMember, seconds: float, rate: float = 0.5
    ) -> None:
        """Have transfers from and to a member fail."""
        member.fetch_faults = rate
        self._heal_after(seconds, self._serve, member)

    def _serve(self, member: NodeMember | ClientMember) -> None:
        member.fetch_faults = 0.0

    def _heal_after(self, seconds: float, call: Callable[..., None], *args: Any) -> None:
        number = self.count()
        self._healing[number] = (call, args)
        self.clock.after(seconds, self._heal_one, number)

    def _heal_one(self, number: int) -> None:
        fault = self._healing.pop(number, None)
        if fault is not None:
            call, args = fault
            call(*args)

    def heal(self) -> None:
        """End all faults that would end by themselves later."""
        for number in list(self._healing):
            self._heal_one(number)

    # ------------------------------------------------------------------------ running

    def at(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        """Have something happen some seconds from now."""
        self.clock.after(seconds, call, *args)

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self._run(self.now + seconds, None)

    def run_until_quiet(self, limit_seconds: float = 120.0) -> None:
        """Let time pass until nobody has anything to do and nothing is under way.

        Raises
        ------
        InvariantError
            If it takes longer, with what is open.
        """
        if not self._run(self.now + limit_seconds, lambda: self.is_quiet):
            raise InvariantError(
                f"it did not come to rest within {limit_seconds:g} s: {self.unrest()}"
            )

    def run_until(self, condition: Callable[[], bool], limit_seconds: float = 120.0) -> bool:
        """Let time pass until something is so; return whether it was in time."""
        return self._run(self.now + limit_seconds, condition)

    def _run(self, end: float, condition: Callable[[], bool] | None) -> bool:
        clock = self.clock
        was_so = False
        with forbidden(self.is_checking):
            while condition is not None:
                # Twice: what is under way within a process is not looked at.
                is_so = condition()
                if is_so and was_so:
                    return True
                was_so = is_so
                if clock.now >= end:
                    return is_so
                clock.run(min(clock.now + _LOOK, end))
            clock.run(end)
        return False

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is to be done, and everybody has heard everything."""
        return (
            all(client.is_quiet for client in self.clients)
            and all(node.is_quiet for node in self.nodes)
            and self.scheduler.is_quiet
            and not any(self._links.values())
        )

    def unrest(self) -> str:
        """Say who is not quiet, and which tasks are open."""
        members: list[Member] = [self.scheduler, *self.nodes, *self.clients]
        loud = [member.name for member in members if not member.is_quiet]
        tasks = [t for c in self.clients for t, outcome in c.wanted.items() if outcome is None]
        return f"busy: {loud}; open tasks: {tasks[:10]}; states: {self.state.states()}"

    def settle_members(self, limit_seconds: float = 30.0) -> None:
        """Let time pass until all members that can be welcomed are."""
        self._run(
            self.now + limit_seconds,
            lambda: (
                all(client.is_ready or client.is_over or client.is_gone for client in self.clients)
                and all(node.index >= 0 for node in self.nodes)
            ),
        )

    def sweep(self) -> None:
        """Forget data that clients put into nodes and did not come to tell the scheduler of.

        Nobody else knows of it: it stays until its node ends.
        """
        for node in self.nodes:
            left = []
            for task in [t for t in node.core.results if t >> 40 in self.model.gone]:
                spec = self.model.specs.get(task)
                if spec is not None and spec.data is not None and self.state.find(task) is None:
                    left.append(task)
            if left:
                node.core.on_message(Free(left), (), self.now)
                node.flush()
