"""The scheduler, as a pure state machine: events in, effects out.

Two rules of this file and all under it:

1. No socket, no clock, no thread, no chance. Time comes in with each event; what
   is to be said goes out as effects ``(peer, message, payload frames)``.
2. Payloads are opaque. Nothing here, nor anything it imports, can unpickle.

A driver calls the ``on_…`` methods for what happened, then `flush` once for all
of it: that is when tasks are assigned and results are told, so that a burst of
events leaves as a few large messages. The drivers are the server behind the
ROUTER, the runner in the calling thread, and the tests.

Where things are: the columns in `pages`; states and arrows in `states`; arriving
graphs in `arrival`; which node runs what in `placement`, and when in `dispatch`; what
waits for the node that has its large inputs in `keeping`; what
only some workers may run in `restricted`; what is asked back in `recall`; tasks given
and taken back in `assigning`; what nodes report in `results`; tasks that end without a
result in `failing`; what clients want of others, or once more, in `wanting`; letting go
in `releasing`; making again in `recomputing`; results on their way to clients in
`telling`; members that come and go in `membership`,
and nodes that hand over what they have before they go in `retiring`;
what people ask in `questions`, and what they ask of workers in `calls`; whether a message
keeps its promises in `checking`; what must hold in `invariants`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import msgspec

from zcluster.core.scheduler import (
    arrival,
    assigning,
    coordination,
    copying,
    failing,
    membership,
    questions,
    recomputing,
    releasing,
    restricted,
    results,
    retiring,
    wanting,
)
from zcluster.core.scheduler.calls import ASIDE, Calls
from zcluster.core.scheduler.checking import check_message
from zcluster.core.scheduler.dispatch import dispatch
from zcluster.core.scheduler.pages import DATA
from zcluster.core.scheduler.records import (
    ClientRecord,
    Effect,
    NodeRecord,
    SchedulerSettings,
)
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.core.scheduler.telling import tell
from zcluster.errors import ProtocolError
from zcluster.protocol.messages import (
    Answer,
    Ask,
    Blocked,
    Call,
    Called,
    Cancel,
    Coordinate,
    Copied,
    Drop,
    Environment,
    Failed,
    Files,
    Finished,
    Free,
    Heartbeat,
    Hello,
    Lost,
    Message,
    Output,
    Recalled,
    Received,
    Refused,
    Release,
    Restart,
    Restarted,
    Retire,
    Retry,
    Scattered,
    Sources,
    Submit,
    Unreachable,
    Want,
    Welcome,
    Workers,
)
from zcluster.types import Frames

__all__ = ["FREE_SECONDS", "PAUSE_SECONDS", "SchedulerCore"]

#: A scheduler that is told the time only after so long was paused; it is to be told each
#: quarter of a second.
PAUSE_SECONDS = 2.0

#: Rows forgotten in one flush, so that letting go of a million-task graph never
#: keeps the scheduler from its messages.
_FORGET = 4000

#: Nodes are told what to free after so many seconds, or at so many bytes: results
#: go one by one when futures do, and a message for each would wake nodes in vain.
FREE_SECONDS = 0.005
_FREE_BYTES = 1 << 20


class SchedulerCore:
    """All tasks, all nodes, all clients.

    Parameters
    ----------
    address : str
        The scheduler's address, as it is told to peers.
    package : str
        The version of zcluster, told to peers.
    settings : SchedulerSettings

    Attributes
    ----------
    state : SchedulerState
    """

    def __init__(
        self, address: str, package: str, settings: SchedulerSettings | None = None
    ) -> None:
        self.state = SchedulerState(settings or SchedulerSettings(), address)
        self._package = package
        self._told = 0.0
        self.calls = Calls(self.state)
        self._members: dict[int, ClientRecord | NodeRecord] = {}
        #: Source files and import paths of clients, for nodes that join later.
        self._told_nodes: dict[int, list[tuple[Message, Frames]]] = {}
        #: What tasks have printed, for the next flush.
        self._output: list[Effect] = []

    # ----------------------------------------------------------------------- members

    def on_hello(self, peer: int, hello: Hello, now: float) -> Welcome | Refused:
        """A client or node wants to join."""
        s = self.state
        s.now = now
        answer: Welcome | Refused
        if hello.role == "client":
            answer = membership.add_client(s, peer, hello, self._package)
            if isinstance(answer, Welcome):
                self._members[peer] = s.clients[answer.index]
        else:
            answer = membership.add_node(s, peer, hello, self._package)
            if isinstance(answer, Welcome):
                self._members[peer] = s.nodes[answer.index]
                for told in self._told_nodes.values():
                    for message, frames in told:
                        s.say(peer, message, frames)
                self.calls.joined(s.nodes[answer.index])
            # One of the same name may have been fenced, and what it had is lost.
            failing.settle_unneeded(s)
        return answer

    def on_away(self, peer: int, now: float) -> None:
        """A member cannot be reached."""
        self.state.now = now
        member = self._members.get(peer)
        if member is not None:
            membership.away(self.state, member)

    def on_back(self, peer: int, now: float) -> None:
        """A member that was away resumed its session."""
        self.state.now = now
        member = self._members.get(peer)
        if member is not None:
            membership.back(self.state, member)

    def on_gone(self, peer: int, reason: str, now: float) -> None:
        """A member left for good, or broke the protocol."""
        s = self.state
        s.now = now
        member = self._members.pop(peer, None)
        if isinstance(member, ClientRecord):
            membership.remove_client(s, member, reason or "it said goodbye")
            self._told_nodes.pop(member.index, None)
        elif isinstance(member, NodeRecord):
            membership.remove_node(s, member, reason or "it said goodbye")
        failing.settle_unneeded(s)

    def on_time(self, now: float) -> float | None:
        """Time passed; return when to be told again, if anything is due then."""
        self.state.now = now
        pause, self._told = now - self._told, now
        if pause > PAUSE_SECONDS:
            membership.excuse(self.state, pause)
        soonest = membership.overdue(self.state)
        coordination.expire(self.state)
        assigning.enqueue_due(self.state)
        restricted.tell_stuck(self.state)
        if self.state.retiring:
            retiring.hand_over(self.state)
            self.calls.retired()
        failing.settle_unneeded(self.state)
        return soonest

    # ---------------------------------------------------------------------- messages

    def on_message(self, peer: int, message: Message, frames: Frames, now: float) -> None:
        """A member said something.

        Raises
        ------
        ProtocolError
            If it may not say that, or what it says contradicts itself. The
            state is as it was but for the parts already taken in.
        """
        s = self.state
        s.now = now
        s.events += 1
        member = self._members.get(peer)
        check_message(message, frames)
        # Of a member that was fenced a moment ago nothing is heard.
        if isinstance(member, NodeRecord) and s.nodes.get(member.index) is member:
            self._from_node(member, message, frames)
        elif isinstance(member, ClientRecord) and s.clients.get(member.index) is member:
            self._from_client(member, message, frames)
        failing.settle_unneeded(s)

    def _from_node(self, node: NodeRecord, message: Message, frames: Frames) -> None:
        s = self.state
        if isinstance(message, Finished):
            results.finish_reported(s, node, message, frames[0] if frames else b"")
        elif isinstance(message, Failed):
            failing.on_failed(s, node, message, bytes(frames[0]) if frames else b"")
        elif isinstance(message, Recalled):
            for task, attempt in zip(message.tasks, message.attempts, strict=True):
                self._recalled(node, task, attempt)
        elif isinstance(message, Heartbeat):
            node.lag, node.store_used = message.lag, message.store_used
            node.memory, node.made = message.memory, message.made
            node.spilled, node.silent = message.spilled, message.silent
            node.sent = message.sent
        elif isinstance(message, Workers):
            membership.set_workers(s, node, message.workers)
            self.calls.workers_changed(node)
        elif isinstance(message, Lost):
            self._lost_at(message.tasks, node.index)
        elif isinstance(message, Copied):
            copying.on_copied(s, node, message)
            if s.retiring:
                retiring.note_copied(s, node, message)
        elif isinstance(message, Output):
            self._pass_output_on(message, frames)
        elif isinstance(message, Called | Received | Restarted):
            self.calls.answered(node.index, message, frames)
        elif isinstance(message, Blocked):
            assigning.note_blocked(s, node, message.tasks, message.away)
        elif isinstance(message, Unreachable):
            # -1: it knew no other node, and does not have it itself.
            self._lost_at(message.tasks, message.node if message.node >= 0 else node.index)
            self._tell_places_again(node, message.tasks)
        else:
            raise ProtocolError(f"a node may not say {type(message).__name__}")

    def _pass_output_on(self, message: Output, frames: Frames) -> None:
        """Hand what tasks have printed to the clients that numbered them."""
        owners = {task >> 40 for task in message.tasks}
        for owner in owners:
            client = self.state.clients.get(owner)
            if client is not None:
                said = (
                    (message, frames) if len(owners) == 1 else _output_for(owner, message, frames)
                )
                self._output.append((client.peer, *said))

    def _recalled(self, node: NodeRecord, task: int, attempt: int) -> None:
        found = self.state.find(task)
        if found is None:
            return
        page, row = found
        if (
            page.state[row] == State.ASSIGNED
            and page.node[row] == node.index
            and page.attempt[row] == attempt
        ):
            assigning.give_back(self.state, task, tell=False)

    def _lost_at(self, tasks: list[int], node: int) -> None:
        """A node does not have these results, or nobody can fetch them there."""
        s = self.state
        if node in s.nodes:
            # If it has them after all, they would stay there for ever.
            s.free_all([t for t in tasks if self._is_at(t, node)], node)
        recomputing.lose(s, {t for t in tasks if self._is_lost_with(t, node)})

    def _tell_places_again(self, node: NodeRecord, tasks: list[int]) -> None:
        """Where all of a layer is was told with the layer that takes it; tell it anew."""
        for task in tasks:
            found = self.state.find(task)
            if found is not None:
                for watcher in found[0].layer[found[1]].watchers:
                    node.layers.discard(watcher.number)

    def _is_at(self, task: int, node: int) -> bool:
        found = self.state.find(task)
        if found is None or found[0].state[found[1]] != State.FINISHED:
            return False
        return found[0].node[found[1]] == node or node in self.state.replicas.get(task, ())

    def _is_lost_with(self, task: int, node: int) -> bool:
        """Whether a result is nowhere if it is not at that node."""
        s = self.state
        found = s.find(task)
        if found is None or found[0].state[found[1]] != State.FINISHED:
            return False
        page, row = found
        others = s.replicas.get(task)
        if others is not None:
            others.discard(node)
            if page.node[row] == node and others:
                page.node[row] = others.pop()
                node = -1
            if not others:
                del s.replicas[task]
        return page.node[row] == node or page.node[row] not in s.nodes

    def _from_client(self, client: ClientRecord, message: Message, frames: Frames) -> None:
        s = self.state
        if isinstance(message, Submit):
            first = client.next_task
            arrival.submit(s, client, message, frames)
            s.journal.note(s.now, "submitted", client.name, range(first, first + message.count))
        elif isinstance(message, Release):
            for task in message.tasks:
                releasing.drop_want(s, client, task)
        elif isinstance(message, Cancel):
            failing.cancel(s, message.tasks, message.reason, message.force, client)
        elif isinstance(message, Coordinate):
            coordination.coordinate(s, client, message, frames)
        elif isinstance(message, Call):
            self.calls.call(client, message, frames)
        elif isinstance(message, Files):
            self.calls.upload(client, message, frames)
        elif isinstance(message, Restart):
            self.calls.restart(client, message)
        elif isinstance(message, Retire):
            self.calls.retire(client, message)
        elif isinstance(message, Want):
            wanting.want(s, client, message.tasks)
        elif isinstance(message, Retry):
            wanting.retry(s, client, message.tasks)
        elif isinstance(message, Scattered):
            self._scattered(client, message)
        elif isinstance(message, Unreachable):
            self._not_found(client, message)
        elif isinstance(message, Ask):
            self._answer(client, message)
        elif isinstance(message, Sources | Environment):
            self._told_nodes.setdefault(client.index, []).append((message, frames))
            for node in s.nodes.values():
                s.say(node.peer, message, frames)
        elif not isinstance(message, Heartbeat):
            raise ProtocolError(f"a client may not say {type(message).__name__}")

    def _scattered(self, client: ClientRecord, message: Scattered) -> None:
        s = self.state
        for task, node, size in zip(message.tasks, message.nodes, message.sizes, strict=True):
            found = s.find(task)
            if found is None or not found[0].flags[found[1]] & DATA:
                s.free(task, [node])
                continue
            page, row = found
            state = page.state[row]
            if state == State.FINISHED and node in s.nodes and page.node[row] != node:
                s.replicas.setdefault(task, set()).add(node)
                continue
            if state != State.WAITING:
                if state != State.FINISHED:
                    s.free(task, [node])
                continue
            if node not in s.nodes:
                s.say(client.peer, Unreachable([task], node))
                continue
            s.unfree(task, node)
            page.node[row], page.size[row] = node, size
            page.missing[row] = page.unplaced[row] = 0
            for heir in page.heirs(row):
                other = s.find(heir)
                if other is not None:
                    other[0].unplaced[other[1]] -= 1
            for holder in s.wanters(task, page, row):
                holder.resolved.append((task, None))
            results.finish_row(s, task, page, row)

    def _not_found(self, client: ClientRecord, message: Unreachable) -> None:
        """A client could not fetch results: make them again, or say where they are."""
        s = self.state
        self._lost_at(message.tasks, message.node)
        for task in message.tasks:
            found = s.find(task)
            if found is None:
                continue
            page, row = found
            if page.state[row] == State.FINISHED:
                client.resolved.append((task, None))
        recomputing.revive(s, message.tasks)

    def _answer(self, client: ClientRecord, ask: Ask) -> None:
        try:
            value = questions.answer(self.state, client, ask)
            reply = Answer(ask.request, msgspec.Raw(msgspec.msgpack.encode(value)))
        except KeyError:
            reply = Answer(
                ask.request, msgspec.Raw(b"\xc0"), f"question {ask.question!r} is not known here"
            )
        self.state.say(client.peer, reply)

    def on_aside(self, called: Called, frames: Frames, now: float) -> None:
        """The process beside the scheduler made one of the calls of `Calls.take_aside`."""
        self.state.now = now
        self.calls.answered(ASIDE, called, frames)

    # ------------------------------------------------------------------------- effects

    def flush(self, now: float) -> Iterator[Effect]:
        """Assign what can be assigned, and yield all that is to be said.

        Effects are yielded as they are made, so that a node starts on the first
        batch while the next is put together.
        """
        s = self.state
        s.now = now
        if self.calls:
            self.calls.tidy()
        if self._output:
            # Before the results of the tasks that printed it.
            output, self._output = self._output, []
            yield from output
        for client in s.clients.values():
            if client.has_news:
                yield from tell(s, client)
        yield from self._housekeeping()
        yield from dispatch(s)
        if s.dying:
            releasing.forget_some(s, _FORGET)

    @property
    def is_idle(self) -> bool:
        """Whether a flush would have nothing left to do."""
        return not self.state.dying and self.state.freed_since is None

    @property
    def wake_after(self) -> float | None:
        """Seconds after which to flush again even if nothing happens."""
        if self.state.dying:
            return 0.0
        return FREE_SECONDS if self.state.freed_since is not None else None

    def take_fenced(self) -> list[tuple[int, str]]:
        """Return the peers whose sessions must end, and why."""
        fenced, self.state.fenced = self.state.fenced, []
        for peer, _ in fenced:
            member = self._members.pop(peer, None)
            if isinstance(member, ClientRecord):
                self._told_nodes.pop(member.index, None)
        return fenced

    def _housekeeping(self) -> Iterator[Effect]:
        s = self.state
        out, s.out = s.out, []
        yield from out
        if s.drops:
            drops, s.drops = s.drops, {}
            for index, tasks in drops.items():
                if index in s.nodes:
                    if stopped := [task for task in tasks if task in s.forced]:
                        yield s.nodes[index].peer, Drop(stopped, force=True), ()
                        tasks = [task for task in tasks if task not in s.forced]
                    if tasks:
                        yield s.nodes[index].peer, Drop(tasks), ()
        s.forced.clear()
        if s.frees or s.forgotten_layers or s.forgotten_functions:
            if s.freed_since is None:
                s.freed_since = s.now
            if s.freed_bytes >= _FREE_BYTES or s.now - s.freed_since >= FREE_SECONDS:
                yield from self._free()
        elif s.freed_since is not None:
            # The nodes that were to be told are gone.
            s.freed_bytes, s.freed_since = 0, None

    def _free(self) -> Iterator[Effect]:
        """Tell nodes what nobody needs any more."""
        s = self.state
        frees, layers, functions = s.frees, s.forgotten_layers, s.forgotten_functions
        s.frees, s.forgotten_layers, s.forgotten_functions = {}, {}, {}
        s.freed_bytes, s.freed_since = 0, None
        for index in {*frees, *layers, *functions}:
            if index in s.nodes:
                message = Free(
                    frees.get(index, []), layers.get(index, []), functions.get(index, [])
                )
                yield s.nodes[index].peer, message, ()


def _output_for(client: int, message: Output, frames: Frames) -> tuple[Output, Frames]:
    """Return the part of what was printed that is one client's."""
    at = list(accumulate(message.lengths, initial=0))
    chosen = [place for place, task in enumerate(message.tasks) if task >> 40 == client]
    part = msgspec.structs.replace(
        message,
        tasks=[message.tasks[place] for place in chosen],
        streams=[message.streams[place] for place in chosen],
        lengths=[message.lengths[place] for place in chosen],
    )
    return part, [b"".join(bytes(frames[0][at[p] : at[p + 1]]) for p in chosen)]
