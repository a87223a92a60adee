"""A pretend user's process: a real `ClientCore` and session, and somebody who judges what comes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zcluster.core.client.core import ClientCore
from zcluster.core.client.records import Failure, NodesChanged, PutBlob, Wanted
from zcluster.core.client.states import State
from zcluster.errors import InvariantError
from zcluster.graph.layers import Graph
from zcluster.graph.lowering import SLICE_LIMIT
from zcluster.protocol.conversation import Conversation
from zcluster.protocol.messages import (
    PROTOCOL,
    SCHEDULER_TO_CLIENT,
    Environment,
    Heartbeat,
    Hello,
    Message,
    Restart,
    Welcome,
)
from zcluster.testing.clock import Process
from zcluster.testing.members import ADDRESS, LOOK, Line
from zcluster.testing.model import Spec
from zcluster.testing.network import Path

if TYPE_CHECKING:
    from zcluster.testing.members import NodeMember
    from zcluster.testing.world import World

__all__ = ["ClientMember"]

#: A node that does not answer a client for so long is taken for gone.
_PATIENCE = 10.0
#: How often that is looked at.
_WATCH = 1.0
#: Kinds of failures that the end of a client's own conversation gives.
_ENDINGS = ("scheduler", "closed")


class ClientMember:
    """A client: submits, holds, fetches, releases, and judges every outcome.

    Attributes
    ----------
    core : ClientCore
    wanted : dict of int to object
        What it holds: None while pending, the bytes of a result, or a `Failure`.
    is_gone, is_over : bool
        Whether its process ended; whether it is closed or has lost the scheduler.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.core = ClientCore()
        world.on_core(self.core)
        self.wanted: dict[int, Any] = {}
        self.index = -1
        self.is_gone = False
        #: How likely a transfer to or from this client is to fail.
        self.fetch_faults = 0.0
        self.putting = 0
        self.fetching = 0
        self.lost = ""
        self._fetched_tasks: set[int] = set()
        self._open_puts: set[tuple[int, int]] = set()
        self.process = Process(world.clock, world.random, self._on_idle)
        self.path = Path()
        self._id = b"client%010d" % world.count()
        self.line = Line(world, self.process, self.path, self._converse)

    def _converse(self, line: Line) -> Conversation:
        return Conversation(
            line,
            ADDRESS,
            self.world.now,
            hello=self._hello,
            accepts=SCHEDULER_TO_CLIENT,
            on_message=self._on_message,
            on_welcome=self._on_welcome,
            on_lost=self._on_lost,
            beat=lambda: Heartbeat(0.0),
        )

    @property
    def is_frozen(self) -> bool:
        """Whether it is stopped for now."""
        return self.process.is_frozen

    @property
    def is_ready(self) -> bool:
        """Whether it can submit."""
        return self.core.is_welcome and self.core.ended is None and not self.is_gone

    @property
    def is_over(self) -> bool:
        """Whether it is closed, or has lost the scheduler."""
        return self.core.ended is not None

    @property
    def next(self) -> int:
        """The first task of the next submission."""
        self.core.collect()
        return self.core.next_task

    # ------------------------------------------------------------- what its user does

    def submit(self, graph: Graph, imports: Sequence[int] = (), limit: int = SLICE_LIMIT) -> int:
        """Submit a graph whose imports are tasks held here; return its first task."""
        first = self.next
        held = [self.core.wanted[task] for task in imports]
        records = self.core.add_graph(graph, held, str, limit)
        self._hold(records)
        return first

    def scatter(self, blobs: Sequence[bytes], everywhere: bool = False) -> list[int]:
        """Put values into stores, or into all of them; return their tasks."""
        tasks = []
        for blob in blobs:
            record = self.core.scatter(blob, "data", everywhere=everywhere)
            self.world.model.add(record.task, Spec(b"", data=blob))
            tasks.append(record.task)
            self._hold([record])
        return tasks

    def release(self, tasks: Iterable[int]) -> None:
        """Hold tasks no more."""
        for task in tasks:
            del self.wanted[task]
            self._fetched_tasks.discard(task)
            record = self.core.wanted[task]
            self.core.drop([record] * record.holds)
        self.process.wake()

    def want(self, tasks: Iterable[int]) -> None:
        """Hold tasks of other clients too."""
        for task in tasks:
            if task not in self.wanted:
                self.world.model.adopted.add(task)
                self._hold([self.core.want(task, "")])

    def retry(self, tasks: Iterable[int]) -> None:
        """Have failed tasks run again."""
        again = self.core.retry([self.core.wanted[task] for task in tasks])
        # With them run tasks that failed of them, and what else those failed of.
        self.world.model.retried([record.task for record in again])
        self._hold(again)

    def cancel(self, tasks: Iterable[int], force: bool = False) -> None:
        """Cancel tasks."""
        records = [self.core.wanted[task] for task in tasks]
        self.world.model.cancelled.update(record.task for record in records)
        options = {"force": True} if force else {}
        self.core.cancel(records, "because", **options)
        self._settle_all()
        self.process.wake()

    def restart(self, workers: Iterable[str] = ()) -> None:
        """Have workers started anew."""
        names = list(workers)
        if not names:
            # All tasks of all clients are cancelled first.
            self.world.model.cancelled.update(self.world.model.specs)
        self.core.request(lambda number: Restart(number, names))
        self.process.wake()

    def close(self) -> None:
        """Say goodbye."""
        self.end(Failure("closed", "the client was closed"))
        self.line.talk.close()
        self.is_gone = True
        self.world.model.gone.add(self.index)

    def end(self, failure: Failure) -> None:
        """Settle what is open."""
        self.core.end(failure)
        self._settle_all()

    # ---------------------------------------------------------------- the conversation

    def _hello(self, token: bytes, seen: int) -> Hello:
        return Hello(
            "client", PROTOCOL, "0", "3", self._id, token, seen, None, self.name, "elsewhere", 1
        )

    def _on_welcome(self, welcome: Welcome) -> None:
        self.line.talk.send(Environment([], "", "elsewhere"), (), self.world.now)
        self.index = welcome.index
        self.core.on_welcome(welcome.index, welcome.nodes)

    def _on_message(self, message: Message, frames: list[bytes]) -> None:
        self.core.on_message(message, frames)
        self._settle_all()

    def _on_lost(self, reason: str) -> None:
        self.lost = reason
        self.world.model.gone.add(self.index)
        self.end(Failure("scheduler", reason))
        self.world.client_lost(self, reason)

    def _on_idle(self) -> None:
        core, talk, now = self.core, self.line.talk, self.world.now
        if core.ended is None and core.is_welcome:
            if core.has_news:
                core.collect()
            if core.has_outgoing:
                for message, frames in core.outgoing(lambda: talk.in_flight):
                    talk.send(message, frames, now)
            if core.has_effects:
                for effect in core.take_effects():
                    if isinstance(effect, PutBlob):
                        self._put(effect)
                    elif not isinstance(effect, NodesChanged):
                        self.world.note_effect(self, effect)
                self._settle_all()
        talk.acknowledge(now)

    # ------------------------------------------------------------------------ outcomes

    def _hold(self, records: Iterable[Wanted]) -> None:
        for record in records:
            if record.state is State.PENDING:
                # Tried again, its bytes come anew: it may have failed since they were here.
                self._fetched_tasks.discard(record.task)
                self.wanted[record.task] = None
                record.watchers = [self]
            else:
                self._take(record)
        self.process.wake()

    def _settle_all(self) -> None:
        for record, _ in self.core.take_settled():
            self._take(record)

    def _take(self, record: Wanted) -> None:
        """A record is settled: judge it, or fetch it."""
        task = record.task
        if self.core.wanted.get(task) is not record and task not in self.wanted:
            return
        if record.state is State.ANNOUNCED:
            if self.wanted.setdefault(task, None) is not None:
                return
            record.watchers = [self]  # the bytes may come yet, or a reason why not
            self.fetching += 1
            self.world.clock.after(self.world.draw_transfer(), self._fetch, record)
            return
        self._conclude(task, record.detail)

    def _conclude(self, task: int, outcome: Any) -> None:
        if task in self._fetched_tasks:
            # Its core knows where it is, not that its bytes are here: what comes after is late.
            self._judge(task, outcome)
            return
        if self.wanted.get(task) is not None:
            raise InvariantError(
                f"task {task} was settled twice at {self.name}: {self.wanted[task]!r}, {outcome!r}"
            )
        self.wanted[task] = outcome
        self.world.tell(task, self.name, f"got {outcome!r:.60}")
        self._judge(task, outcome)

    def _judge(self, task: int, outcome: Any) -> None:
        if isinstance(outcome, Failure):
            if outcome.kind in _ENDINGS:
                return
            self.world.model.judge(task, outcome if outcome.info is None else outcome.info)
        else:
            self.world.model.judge(task, bytes(outcome))

    # ----------------------------------------------------------------------- transfers

    def _fetch(self, record: Wanted) -> None:
        """A transfer is over, if the node has the result."""
        self.fetching -= 1
        if self.process.is_dead or self.core.wanted.get(record.task) is not record:
            return
        if record.state is not State.ANNOUNCED or self.wanted.get(record.task) is not None:
            return
        node = record.detail.node
        other = self.world.node(node)
        result = None if other is None else other.core.results.get(record.task)
        if node not in self.core.nodes:
            self.process.deliver(self._unreachable, record, node)
        elif other is None or not other.serves() or self._is_transfer_lost():
            self.fetching += 1
            self.world.clock.after(_WATCH, self._wait_for, node, self.world.now, record)
        elif result is None or result.worker >= 0:
            self.process.deliver(self._unreachable, record, node)
        elif not other.core.spilling.open(record.task):
            # It is on disk, and is looked at first.
            other.process.wake()
            self.fetching += 1
            self.world.clock.after(LOOK, self._fetch, record)
        else:
            self.process.deliver(self._fetched, record, other.store.read(result))

    def _wait_for(self, node: int, since: float, waiting: Wanted | PutBlob) -> None:
        """A node says nothing: give up when it is known to be gone, or after a while."""
        now = self.world.now
        if self.process.is_frozen or (node in self.core.nodes and now < since + _PATIENCE):
            self.world.clock.after(_WATCH, self._wait_for, node, since, waiting)
        elif isinstance(waiting, PutBlob):
            if node not in self.core.nodes or self.core.ended is not None:
                self.process.deliver(self._put_done, waiting, f"node {node} left")
            else:
                self.process.deliver(self._put_silent, waiting)
        else:
            self.fetching -= 1
            self.process.deliver(self._unreachable, waiting, node)

    def _is_transfer_lost(self) -> bool:
        return self.world.random.random() < self.fetch_faults

    def _unreachable(self, record: Wanted, node: int) -> None:
        if self.core.ended is None and self.core.wanted.get(record.task) is record:
            self.core.unreachable(record, node)
            if record.state is State.ANNOUNCED and self.wanted.get(record.task) is None:
                self._take(record)  # another node has it

    def _fetched(self, record: Wanted, blob: bytes) -> None:
        task = record.task
        if self.core.wanted.get(task) is record and self.wanted.get(task) is None:
            record.watchers = None
            self._conclude(task, blob)
            self._fetched_tasks.add(task)

    def _put(self, effect: PutBlob) -> None:
        self.putting += 1
        self.world.clock.after(self.world.draw_transfer(), self._put_now, effect)

    def _put_now(self, effect: PutBlob) -> None:
        if self.process.is_dead:
            self.putting -= 1
            return
        task, node = effect.task, effect.node
        other: NodeMember | None = self.world.node(node)
        if node not in self.core.nodes:
            self.process.deliver(self._put_done, effect, f"node {node} left")
        elif other is None or not other.serves() or self._is_transfer_lost():
            self.world.clock.after(_WATCH, self._wait_for, node, self.world.now, effect)
        else:
            self._open_puts.add((task, node))
            other.process.deliver(self._put_there, other, effect)
            self.world.clock.after(_WATCH, self._watch_put, other, effect)

    def _watch_put(self, node: NodeMember, effect: PutBlob) -> None:
        if (effect.task, effect.node) not in self._open_puts:
            return
        if node.process.is_dead:
            self._open_puts.discard((effect.task, effect.node))
            self._wait_for(effect.node, self.world.now, effect)
        else:
            self.world.clock.after(_WATCH, self._watch_put, node, effect)

    def _put_there(self, node: NodeMember, effect: PutBlob) -> None:
        def tell(reason: str) -> None:
            if (effect.task, effect.node) in self._open_puts:
                self._open_puts.discard((effect.task, effect.node))
                self.process.deliver(self._put_done, effect, reason)

        node.take_blob(effect.task, effect.blob, tell)

    def _put_silent(self, effect: PutBlob) -> None:
        """Others are tried meanwhile; the node is asked until it answers or has left."""
        self.world.clock.after(_WATCH, self._put_now, effect)
        if self.core.ended is None:
            self.core.silent(effect.task, effect.node)
            self._settle_all()

    def _put_done(self, effect: PutBlob, reason: str) -> None:
        self.putting -= 1
        if self.core.ended is not None:
            return
        if reason:
            # If no other node takes it, it is given up, and what needs it.
            self.world.model.refused.add(effect.task)
            self.core.not_stored(effect.task, effect.node, reason)
        else:
            self.core.stored(effect.task, effect.node, len(effect.blob))
        self._settle_all()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is pending here, and the scheduler has heard everything."""
        if self.is_over or self.is_gone:
            return True
        core = self.core
        return (
            not self.process.is_frozen
            and self.line.talk.is_live
            and not self.line.talk.in_flight
            and not self.fetching
            and not self.putting
            and not core.has_news
            and not core.has_outgoing
            and not core.has_effects
            and all(outcome is not None for outcome in self.wanted.values())
        )
