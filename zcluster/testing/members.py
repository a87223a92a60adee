"""Who takes part in a pretend cluster: real cores and sessions, with pretence around them.

Each member does what its server does (`zcluster.servers.scheduler`, `zcluster.servers.nanny`,
`zcluster.client.engine`) with the same rules, on pretend time and a pretend network: take in what
arrived, then what is due, then flush. Clients are in `zcluster.testing.clients`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zcluster.core.node.invariants import check as check_node
from zcluster.core.node.records import FetchOrder, Result, RoomGiven
from zcluster.core.scheduler.core import SchedulerCore
from zcluster.core.scheduler.invariants import check as check_scheduler
from zcluster.core.scheduler.records import ClientRecord, NodeRecord, SchedulerSettings
from zcluster.errors import InvariantError
from zcluster.protocol.conversation import Conversation
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    NODE_TO_SCHEDULER,
    PROTOCOL,
    SCHEDULER_TO_NODE,
    Called,
    Files,
    Free,
    Heartbeat,
    Hello,
    Leave,
    Message,
    NodeInfo,
    Recall,
    Refused,
    Welcome,
)
from zcluster.protocol.reception import PROBES, Reception
from zcluster.storage.disk import DiskJob
from zcluster.testing.clock import UNTOUCHED, Process
from zcluster.testing.fakes import BIG, FakeNode, part_of
from zcluster.testing.network import Connection, Path
from zcluster.testing.promises import check_lost, check_retiring, check_said
from zcluster.testing.stores import Storage
from zcluster.types import Buffer, Frames

if TYPE_CHECKING:
    from zcluster.testing.world import World

__all__ = ["ADDRESS", "LOOK", "Line", "NodeMember", "SchedulerMember"]

ADDRESS = "pretend://scheduler"
#: As in the servers.
_SCHEDULER_TICK = 0.25
_NODE_TICK = 0.1
_ALONE = 10.0
_FENCED = "the session"
#: How soon a transfer looks again whether a result on disk was checked.
LOOK = 0.02
#: How long a new worker takes.
_START = 0.1
#: The kinds of messages that `check_said` looks at.
_LETTING_GO = (Free, Leave)
#: States are walked after every event while there are so few rows; else after as many events
#: as there are times as many rows.
_FEW_ROWS = 5


class Line:
    """A member's end of its conversation with the scheduler: the `Wire`, and the network's caller.

    Parameters
    ----------
    world : World
    process : Process
    path : Path
    make : callable
        Makes the conversation upon this wire.
    """

    def __init__(
        self,
        world: World,
        process: Process,
        path: Path,
        make: Callable[[Line], Conversation],
    ) -> None:
        self.connection: Connection | None = None
        self._world = world
        self._process = process
        self._path = path
        self.talk = make(self)
        process.deliver(self._begin)

    def _begin(self) -> None:
        self.talk.begin(self._world.now)
        self._tick()

    def _tick(self) -> None:
        again = self.talk.on_time(self._world.now)
        if not self.talk.is_over:
            self._process.tick_later(again, self._tick)

    def open(self) -> None:
        """Make a connection."""
        self.connection = self._world.network.connect(self._process, self._path, self)

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Send on it."""
        assert self.connection is not None
        return self._world.network.send_up(self.connection, frames)

    def close(self, is_last_word_sent: bool) -> None:
        """Give it up."""
        made, self.connection = self.connection, None
        if made is not None:
            self._world.network.close(made, is_last_word_sent)

    def call_after(self, seconds: float) -> None:
        """Have the conversation told of the time."""
        self._process.call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        self.talk.on_time(self._world.now)

    def on_connected(self, connection: Connection) -> None:
        """The network made the connection."""
        if connection is self.connection:
            self.talk.on_connected()

    def on_refused(self, connection: Connection) -> None:
        """Nobody listens."""
        if connection is self.connection:
            self.talk.on_refused()

    def on_disconnected(self, connection: Connection) -> None:
        """The connection ended."""
        if connection is self.connection:
            self.talk.on_disconnected(self._world.now)

    def on_frames(self, connection: Connection, frames: list[bytes]) -> object:
        """A message arrived."""
        if connection is not self.connection or self.talk.on_frames(frames, self._world.now):
            return None
        if not connection.down.has_gaps:
            raise InvariantError("the scheduler said something that makes no sense to a member")
        return None


class _NodeLine(Line):
    """A node's: of heartbeats, which are the conversation's own, nothing follows there."""

    #: Set by the node when it is told something.
    has_news = False

    def on_frames(self, connection: Connection, frames: list[bytes]) -> object:
        """A message arrived."""
        self.has_news = False
        super().on_frames(connection, frames)
        return None if self.has_news else UNTOUCHED


class SchedulerMember:
    """The scheduler's process."""

    name = "scheduler"

    def __init__(self, world: World, settings: SchedulerSettings) -> None:
        self.world = world
        self.process = Process(world.clock, world.random, self._on_idle)
        self.core = SchedulerCore(ADDRESS, "0", settings)
        world.on_core(self.core)
        self.reception = Reception(
            world.network.send_down,
            self._make_token,
            accepts={"client": CLIENT_TO_SCHEDULER, "node": NODE_TO_SCHEDULER},
            on_hello=self._on_hello,
            on_message=self._on_message,
            on_disconnect=self._on_disconnect,
            on_resume=self._on_resume,
            on_gone=self._on_gone,
        )
        self._tokens = 0
        #: The incarnations that were ever welcomed.
        self._admitted: set[bytes] = set()
        self._is_timer_set = False
        self._has_news = self._is_touched = False
        self._unchecked = 0
        world.network.listener = self.process
        world.network.on_frames = self._on_frames
        world.network.on_ended = self._on_ended
        self.process.call_later(_SCHEDULER_TICK, self._tick)
        self.process.call_later(_SCHEDULER_TICK, self._beat)

    @property
    def is_frozen(self) -> bool:
        """Whether it is stopped for now."""
        return self.process.is_frozen

    def _make_token(self) -> bytes:
        self._tokens += 1
        return b"%016d" % self._tokens

    # ---------------------------------------------------------------------- events in

    def _on_frames(self, frames: list[bytes]) -> object:
        self._is_touched = False
        self.reception.on_frames(frames, self.world.now)
        # Of heartbeats and acknowledgements nothing follows but for who waits for credit.
        clients = self.core.state.clients.values()
        if self._is_touched or any(client.has_news for client in clients):
            return None
        return UNTOUCHED

    def _on_ended(self) -> None:
        for delay in PROBES:
            self.process.call_later(delay, self._probe)

    def _probe(self) -> None:
        self.reception.probe(self.world.now)

    def _beat(self) -> None:
        self.process.tick_later(self.reception.on_time(self.world.now, 0.0), self._beat)

    def _tick(self) -> None:
        self.core.on_time(self.world.now)
        self._unchecked += 1
        self.process.call_later(_SCHEDULER_TICK, self._tick)

    def _on_hello(self, peer: int, hello: Hello) -> Welcome | Refused:
        self._has_news = self._is_touched = True
        if hello.incarnation in self._admitted:
            raise InvariantError(
                f"{hello.incarnation.decode()} is admitted once more, as peer {peer}: its session "
                "is over, and it may come back as another incarnation only"
            )
        answer = self.core.on_hello(peer, hello, self.world.now)
        if isinstance(answer, Welcome):
            self._admitted.add(hello.incarnation)
        return answer

    def _on_disconnect(self, peer: int) -> None:
        self._is_touched = True
        self.core.on_away(peer, self.world.now)

    def _on_resume(self, peer: int) -> None:
        self._is_touched = True
        self.core.on_back(peer, self.world.now)

    def _on_message(self, peer: int, message: Message, frames: list[bytes]) -> None:
        if type(message) is not Heartbeat:
            self._has_news = self._is_touched = True
        state = self.core.state
        retiring = set(state.retiring)
        self.core.on_message(peer, message, frames, self.world.now)
        for index in state.retiring - retiring if state.retiring else ():
            check_retiring(state, index)

    def _on_gone(self, peer: int, reason: str) -> None:
        if reason:
            # All members keep to the protocol, whatever the network does to them.
            raise InvariantError(f"the session of peer {peer} was ended: {reason}")
        self._has_news = self._is_touched = True
        self.core.on_gone(peer, reason, self.world.now)

    # ---------------------------------------------------------------------- effects out

    def _on_idle(self) -> None:
        core, reception, now = self.core, self.reception, self.world.now
        for client in core.state.clients.values():
            if client.has_news:
                client.in_flight = reception.in_flight(client.peer)
        for peer, message, frames in core.flush(now):
            if type(message) in _LETTING_GO:
                check_said(core.state, peer, message)
            reception.send(peer, message, frames, now)
        for number, _ in core.calls.take_aside():
            self.process.call_later(0.01, self._answer_aside, number)
        for peer, reason in core.take_fenced():
            reception.forget(peer, reason)
        again = core.wake_after
        if again == 0:
            self.process.wake()
        elif again is not None and not self._is_timer_set:
            self._is_timer_set = True
            self.process.call_later(again, self._on_timer)
        if self.world.is_checking and self._has_news:
            self._has_news = False
            self._unchecked += _FEW_ROWS
            if self._unchecked >= sum(len(page.state) for page in core.state.pages.values()):
                self._unchecked = 0
                check_scheduler(core.state)

    def _on_timer(self) -> None:
        self._is_timer_set = False

    def _answer_aside(self, number: int) -> None:
        self.core.on_aside(Called(number), [], self.world.now)

    @property
    def is_quiet(self) -> bool:
        """Whether it has nothing to do, and all peers have heard everything."""
        state = self.core.state
        members: list[ClientRecord | NodeRecord] = [
            *state.clients.values(),
            *state.nodes.values(),
        ]
        return (
            not self.process.is_frozen
            and self.core.is_idle
            and all(
                member.away_since is None and not self.reception.in_flight(member.peer)
                for member in members
            )
        )


class NodeMember(FakeNode):
    """One life of a node's nanny, with its workers."""

    def __init__(
        self,
        world: World,
        name: str,
        workers: int,
        slots: int,
        resources: dict[str, float] | None = None,
        storage: Storage | None = None,
    ) -> None:
        super().__init__(world, name, workers, slots, resources, storage)
        self.world: World = world
        world.on_core(self.core)
        self.shape = (workers, slots, resources, storage)
        self.is_gone = False
        #: Its data port, another one in each life.
        self.data = f"d-{name}-{self.peer}"
        self.fetching = self.doing = 0
        #: What came for whom there is no room yet: inputs by number, and data by ticket.
        self._inputs: dict[int, tuple[FetchOrder, int, bytes]] = {}
        self._puts: dict[int, tuple[int, bytes, Callable[[str], None]]] = {}
        self.process = Process(world.clock, world.random, self._on_idle)
        self.path = Path()
        self._id = b"node%012d" % self.peer
        self._is_ticking = False
        self._unchecked = 0
        self._starting = 0
        self.line = _NodeLine(world, self.process, self.path, self._converse)

    def _converse(self, line: Line) -> Conversation:
        return Conversation(
            line,
            ADDRESS,
            self.world.now,
            hello=self._hello,
            accepts=SCHEDULER_TO_NODE,
            on_message=self._on_message,
            on_welcome=self._on_welcome,
            on_lost=self._on_lost,
            timeout=float("inf"),
            grace=_ALONE,
            patience=3 * _ALONE,
            beat=lambda: Heartbeat(0.0, self.store.used, spilled=self.store.spilled),
        )

    @property
    def is_frozen(self) -> bool:
        """Whether it is stopped for now."""
        return self.process.is_frozen

    # ----------------------------------------------------------------- the scheduler

    def _hello(self, token: bytes, seen: int) -> Hello:
        infos = self.core.worker_infos()
        info = NodeInfo(0, self.name, "host", 1, self.data, "", 0, infos)
        return Hello("node", PROTOCOL, "0", "3", self._id, token, seen, info)

    def _on_welcome(self, message: Welcome) -> None:
        self.line.has_news = True
        self.index = message.index
        for info in message.nodes:
            self.core.nodes[info.index] = info

    def _on_message(self, message: Message, frames: Frames) -> None:
        self.line.has_news = True
        if isinstance(message, Recall):
            known = [self.core.tasks[task] for task in message.tasks if task in self.core.tasks]
            self.asked_back.update((a.task, a.attempt) for a in known)
        if isinstance(message, Files):
            self.core.on_files(message, "", self.world.now)
        else:
            self.core.on_message(message, frames, self.world.now)

    def _on_lost(self, reason: str) -> None:
        self.line.has_news = True
        self.world.node_lost(self, reason.startswith(_FENCED), reason)

    # ------------------------------------------------------------------------ effects

    def _on_idle(self) -> None:
        self.flush()
        self.line.talk.acknowledge(self.world.now)

    def flush(self) -> None:
        """Do what the core wants done."""
        super().flush()
        if len(self.starting) > self._starting:
            self._start_workers()
        if self.fetches or self.jobs or self.rooms:
            self._begin_orders()
        if not self._is_ticking and self._needs_ticks():
            self._is_ticking = True
            self.process.call_later(_NODE_TICK, self._tick)
        if self.is_leaving:
            self.world.node_left(self)

    def _check(self) -> None:
        if self.world.is_checking:
            self._unchecked += _FEW_ROWS
            if self._unchecked >= len(self.core.tasks) + len(self.core.results):
                self._unchecked = 0
                check_node(self.core)

    def _begin_orders(self) -> None:
        """Have what was asked for on its way: inputs, jobs of the disk, room."""
        fetches, self.fetches = self.fetches, []
        for order in fetches:
            self.fetching += 1
            self.world.clock.after(self.world.draw_transfer(), self._fetch, order)
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            self.doing += 1
            self.process.call_later(self.world.draw_transfer(), self._do_job, job)
        rooms, self.rooms = self.rooms, []
        for given in rooms:
            if given.is_input and given.place is None and not given.reason:
                # Nobody waits for it any more. At once: it may be asked for again.
                self.fetching -= self._inputs.pop(given.number, None) is not None
            else:
                self.process.deliver(self._room_given, given)

    def _needs_ticks(self) -> bool:
        """Whether time alone may change anything; a real one ticks all the time."""
        core = self.core
        if core.tasks or core.placed or core.leaving or core.is_short or core.room.waiting:
            return True
        return core.spilling.is_fuller or any(worker.stopping for worker in core.workers.values())

    def _do_job(self, job: DiskJob) -> None:
        self.doing -= 1
        done = self.store.do(job, self.world.random)
        self.core.on_disk_done(job.ticket, *done, now=self.world.now)
        if job.kind == "check" and done[1]:
            check_lost(self.core, job.place)

    def _start_workers(self) -> None:
        count = len(self.starting) - self._starting
        self._starting += count
        for _ in range(count):
            seconds = _START * (0.5 + self.world.random.random())
            self.process.call_later(seconds, self._worker_started)

    def _worker_started(self) -> None:
        self._starting -= 1
        if self.starting:
            self.start_worker()

    def _tick(self) -> None:
        self._is_ticking = False
        self.core.on_time(self.world.now)

    # ------------------------------------------------------------------------ data port

    def _fetch(self, order: FetchOrder) -> None:
        """A transfer is over, if a node had it."""
        if self.process.is_dead:
            return
        last, is_slow = -1, False
        for index in order.nodes:
            last = index
            other = self.world.node(index)
            if other is None or other.process.is_dead:
                continue
            if not other.serves() or not self.serves():
                is_slow = True
                continue
            result = other.core.results.get(order.task)
            if result is None or result.worker >= 0:
                continue
            if other.core.spilling.open(order.task):
                self._bring(order, index, other.store.read(result))
            else:
                # It is on disk, and is looked at first.
                other.process.wake()
                self.world.clock.after(LOOK, self._fetch, order)
            return
        seconds = 2.0 if is_slow else 0.0
        self.world.clock.after(seconds, self.process.deliver, self._unfetched, order.number, last)

    def _unfetched(self, number: int, node: int) -> None:
        self.fetching -= 1
        self.core.on_unfetched(number, node, self.world.now)

    def _bring(self, order: FetchOrder, node: int, blob: bytes) -> None:
        if order.kind:
            blob = part_of(blob, order.selection[0])
        self.process.deliver(self._arrived, order, node, blob)

    def _arrived(self, order: FetchOrder, node: int, blob: bytes) -> None:
        """An input is here, and may need room."""
        number, size = order.number, len(blob)
        if size < BIG:
            self._fetched(number, Result(size, blob))
            return
        place = self.core.room.take(size)
        if place is None:
            # One that waits already is forgotten.
            self.fetching -= number in self._inputs
            self._inputs[number] = (order, node, blob)
            self.core.room.want_input(number, size)
        else:
            self.store.bytes[place] = blob
            self._fetched(number, Result(size, place=place))

    def _room_given(self, given: RoomGiven) -> None:
        """There is room for what came, or will be none."""
        place = given.place
        if given.is_input and given.number in self._inputs:
            order, node, blob = self._inputs.pop(given.number)
            if place is None:
                self.fetching -= 1
                kind = "disk" if given.is_disk else "store"
                self.core.on_unfetched(order.number, node, self.world.now, kind, given.reason)
            else:
                self.store.bytes[place] = blob
                self._fetched(order.number, Result(len(blob), place=place))
        elif given.is_input:
            if place is not None:
                self.store.free(place)
        else:
            task, blob, tell = self._puts.pop(given.number)
            if place is not None:
                self.store.bytes[place] = blob
                self.core.on_put(task, Result(len(blob), place=place))
            else:
                self.world.model.note_refused(task, self)
            tell(given.reason)

    def _fetched(self, number: int, result: Result) -> None:
        self.fetching -= 1
        self.core.on_fetched(number, result, self.world.now)

    def serves(self) -> bool:
        """Whether its data port answers just now."""
        return not self.process.is_frozen and self.world.random.random() >= self.fetch_faults

    def take_blob(self, task: int, blob: bytes, tell: Callable[[str], None]) -> None:
        """Store what a client sends; tell it why not, or that it is here by an empty string."""
        size = len(blob)
        if size < BIG:
            self.core.on_put(task, Result(size, blob))
            tell("")
            return
        place = self.core.room.take(size)
        if place is None:
            ticket = self.world.count()
            self._puts[ticket] = (task, blob, tell)
            self.core.room.want_data(ticket, size)
        else:
            self.store.bytes[place] = blob
            self.core.on_put(task, Result(size, place=place))
            tell("")

    #: How likely a transfer from, to or through this node is to fail.
    fetch_faults = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether it has nothing to do, and the scheduler has heard everything."""
        return (
            not self.process.is_frozen
            and self.line.talk.is_live
            and not self.line.talk.in_flight
            and not self.core.tasks
            and not self.fetching
            and not self.doing
            and not self._inputs
            and not self._puts
            and self.core.room.is_idle
            and not self.starting
            and not any(worker.is_busy for worker in self.workers.values())
        )
