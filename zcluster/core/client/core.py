"""The client's state machine: what this process wants, and what it must say for it.

Two things go in, two come out, and nothing here knows a socket, a clock or a
thread (the driver, `zcluster.client.engine`, holds a lock around every call but
those to `ClientCore.outgoing`).

In, from the user: calls, graphs, values to scatter, holds dropped, cancellations,
questions. Calls made one after the other gather in an open **submission** until
the driver asks for messages; so calls made while it is busy leave together. In,
from the scheduler: messages.

Out: messages, as a lazy queue (`ClientCore.outgoing`) from which the driver takes
no more than its credit: a graph of a million tasks is turned into slices only as
they leave. And effects (`ClientCore.take_effects`), and those settled records
that somebody watches (`ClientCore.take_settled`).

Order is what makes releasing safe: everything goes through the one queue, so a
release never overtakes a submission that uses its task.

A task's number is its place in a dense count over all submissions of this client.
A submission is named by its first number.

Large arguments and scattered values are **data tasks**: calls of form
``CALL_VALUE`` without a constant, finished not by a worker but by the message
`Scattered`, after the client has put their blob into some node's store. The
client keeps its copy while anything it wants may still need it (`Data.users`):
where the store was lost, the scheduler says `Unreachable`, and it is put again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from zcluster.core.client.records import (
    Announced,
    Data,
    Effect,
    Failure,
    Heard,
    NodesChanged,
    Replied,
    Wanted,
)
from zcluster.core.client.states import State, advance
from zcluster.core.client.submitting import CREDIT, IMPORTS_OF_SUBMISSION, Submitting
from zcluster.errors import InvariantError, ProtocolError
from zcluster.protocol.frames import span
from zcluster.protocol.messages import (
    Answer,
    Ask,
    Called,
    Cancel,
    Cancelled,
    Coordinated,
    Failed,
    Message,
    NodeInfo,
    Nodes,
    Output,
    Published,
    Resolved,
    Retry,
    Stuck,
    Unreachable,
    Want,
)
from zcluster.types import Frames, first_task

__all__ = ["CREDIT", "IMPORTS_OF_SUBMISSION", "ClientCore"]

#: Failures of these kinds mean that nobody can say any more what became of a task.
_LOST_KINDS = frozenset({"lost", "scheduler"})
_CANCELLED_KINDS = frozenset({"cancelled", "closed"})

_PENDING, _ANNOUNCED, _HERE = State.PENDING, State.ANNOUNCED, State.HERE


class ClientCore(Submitting):
    """See the module's docstring.

    Attributes
    ----------
    wanted : dict of int to Wanted
        All and only the tasks that futures of this process hold.
    keys : dict of str to Wanted
        The records among them that an equal call may share.
    nodes : dict of int to NodeInfo
    ended : Failure or None
        Why nothing more can be submitted.
    """

    def cancel(self, records: Iterable[Wanted], reason: str = "", force: bool = False) -> None:
        """Cancel tasks that are not finished; they count as cancelled here at once.

        With ``force`` those that run are stopped, also what was cancelled before.
        """
        tasks = []
        for record in records:
            if record.task not in self.wanted:
                continue
            if record.state is _PENDING:
                tasks.append(record.task)
                self._settle(record, "cancelled", Failure("cancelled", reason))
            elif force and record.state is State.CANCELLED:
                tasks.append(record.task)
        if tasks:
            self.say(Cancel(tasks, reason, force))

    def give_up(self, tasks: Iterable[int], reason: str) -> None:
        """Fail tasks of this client that nobody can run, and have them forgotten."""
        failure = Failure("workers", reason)
        mine = list(tasks)
        for task in mine:
            record = self.wanted.get(task)
            if record is not None:
                self._settle_late(record, "failed", failure)
        if mine:
            self.say(Cancel(mine, reason))

    def retry(self, records: Iterable[Wanted]) -> list[Wanted]:
        """Have failed tasks run again, and tasks that failed of them; return what is pending."""
        again = [record for record in records if record.state is State.ERROR]
        if not again:
            return again
        tasks = {record.task for record in again}
        again += [
            record
            for record in self.wanted.values()
            if record.state is State.ERROR
            and record.task not in tasks
            and record.detail.kind == "input"
            and record.detail.info.origin in tasks
        ]
        for record in again:
            record.state = advance(record.state, "retried", record.task)
            record.detail = None
        self.say(Retry([record.task for record in again]))
        return again

    def want(self, task: int, key: str) -> Wanted:
        """Hold a task that somebody else submitted, or that is held here already."""
        record = self.wanted.get(task)
        if record is not None:
            record.holds += 1
            return record
        self._check_open()
        # First what was let go: it may be this task, and the scheduler goes by the last word.
        self.collect()
        record = self.wanted[task] = Wanted(task, key, key)
        self.say(Want([task]))
        return record

    def ask(self, question: str, tasks: Sequence[int] = (), text: str = "") -> int:
        """Ask the scheduler; return the number its `Replied` effect will carry."""
        return self.request(lambda number: Ask(number, question, list(tasks), text))

    def request(self, make: Callable[[int], Message], frames: Frames = ()) -> int:
        """Say what has an answer; return the number its `Replied` effect will carry.

        Parameters
        ----------
        make : callable
            Makes the message, given the number.
        frames : sequence of buffers
            Its payload.
        """
        self._check_open()
        self._requests += 1
        self.say(make(self._requests), frames)
        return self._requests

    def end(self, failure: Failure) -> None:
        """Settle everything that is open: the scheduler is lost, or the client closes."""
        if self.ended is not None:
            return
        self.ended = failure
        event = "cancelled" if failure.kind in _CANCELLED_KINDS else "lost"
        for record in self.wanted.values():
            if record.state is _PENDING or record.state is _ANNOUNCED:
                self._settle(record, event, failure)
        self._builder = None
        self._outbox.clear()

    def stored(self, task: int, node: int, size: int) -> None:
        """Take note that a blob is in a node's store."""
        data = self._shelf.stored(task, node)
        # Also of what was let go meanwhile: only the scheduler can have the node free it.
        self._stored.append((task, node, size))
        if data is None:
            return
        self._settle_if_stored(data)

    def silent(self, task: int, node: int) -> None:
        """Take note that a node has not answered a put for long; others are tried meanwhile."""
        data = self._shelf.silent(task, node)
        if data is not None:
            self._settle_if_stored(data)

    def _settle_if_stored(self, data: Data) -> None:
        record = self.wanted.get(data.task) if data.task in self._scattered else None
        if record is not None and record.state is _PENDING and data.is_stored and not data.open:
            self._settle(record, "resolved", data.blob)

    def not_stored(self, task: int, node: int, reason: str) -> None:
        """Take note that a node did not take a blob; another one is tried."""
        data = self._shelf.not_stored(task, node)
        if data is None:
            kept = self._shelf.data.get(task)
            if kept is not None:
                self._settle_if_stored(kept)  # it was the last of several copies
            else:
                self._shelf.abandoned.append(task)  # it was let go of while it was on its way
            return
        data.failure = Failure("store", reason)
        # Which tasks need it the scheduler knows: it says so, and they fail for this reason.
        self.say(Cancel([task], reason))
        record = self.wanted.get(task)
        if record is not None:
            self._settle_late(record, "failed", data.failure)

    def unreachable(self, record: Wanted, node: int) -> None:
        """Take note that an announced result could not be fetched from a node."""
        if record.state is _ANNOUNCED and record.detail.node == node:
            record.state = advance(record.state, "unreachable", record.task)
            record.detail = None
            self.say(Unreachable([record.task], node))

    def cannot_travel(self, record: Wanted, reason: str) -> None:
        """Take note that a result can never leave the worker that made it."""
        self._settle_late(record, "failed", Failure("serialize", reason))

    def on_welcome(self, index: int, nodes: Iterable[NodeInfo]) -> None:
        """Begin: tasks are numbered within this client's range from now on."""
        if self.is_welcome:
            raise InvariantError(f"client {index} was welcomed twice")
        self.is_welcome = True
        self._next = first_task(index)
        self.on_message(Nodes(list(nodes), []), ())

    def on_message(self, message: Message, frames: Frames) -> None:
        """Take a message of the scheduler.

        Raises
        ------
        ProtocolError
            If its parts contradict each other.
        """
        handler = self._HANDLERS.get(type(message))
        if handler is None:
            raise ProtocolError(f"a client takes no {type(message).__name__} message")
        handler(self, message, frames)

    def _on_resolved(self, message: Resolved, frames: Frames) -> None:
        blobs = bytes(frames[0]) if frames else b""
        wanted, settled = self.wanted, self._settled
        start = 0
        away = []
        for position, (task, length) in enumerate(zip(message.tasks, message.lengths, strict=True)):
            if length < 0:
                away.append(position)
                continue
            stop = start + length
            record = wanted.get(task)
            if record is not None and record.state is _PENDING:
                # What `_settle` does, without the calls: this is the busiest line of a client.
                record.detail = blobs[start:stop]
                record.state = _HERE
                if record.keeps:
                    self._unkeep(record)
                if record.watchers is not None:
                    settled.append(record)
            elif record is not None:
                self._settle_late(record, "resolved", blobs[start:stop])
            start = stop
        if start > len(blobs):
            raise ProtocolError(f"results of {start} bytes, but only {len(blobs)} bytes came")
        if away:
            self._on_announced(message, away)

    def _on_announced(self, message: Resolved, away: list[int]) -> None:
        """Take results that stayed where they were made.

        Their sizes and holders may be columns of the whole message or of them alone.
        """
        holders, sizes = message.holders, message.sizes
        if len(holders) != len(sizes) or len(holders) not in (len(message.tasks), len(away)):
            raise ProtocolError(
                f"{len(away)} announced results with {len(holders)} holders and {len(sizes)} sizes"
            )
        for order, position in enumerate(away):
            column = position if len(holders) == len(message.tasks) else order
            record = self.wanted.get(message.tasks[position])
            if record is not None:
                self._settle_late(record, "announced", Announced(holders[column], sizes[column]))

    def _on_failed(self, message: Failed, frames: Frames) -> None:
        failures: dict[tuple[int, int], Failure] = {}
        columns = zip(message.tasks, message.attempts, message.which, strict=True)
        for task, attempt, which in columns:
            if not 0 <= which < len(message.errors):
                raise ProtocolError(f"error {which} of {len(message.errors)} does not exist")
            failure = failures.get((which, attempt))
            if failure is None:
                info = message.errors[which]
                pickled = bytes(span(frames, info.exception))
                failure = Failure(info.kind, info.message, info, pickled, attempt)
                failures[which, attempt] = failure
            record = self.wanted.get(task)
            if record is not None:
                event = "lost" if failure.kind in _LOST_KINDS else "failed"
                self._settle_late(record, event, failure)

    def _on_cancelled(self, message: Cancelled, frames: Frames) -> None:
        failure = Failure("cancelled", message.reason)
        for task in message.tasks:
            record = self.wanted.get(task)
            if record is None:
                continue
            stored_nowhere = next((data.failure for data in record.keeps if data.failure), None)
            if stored_nowhere is None:
                self._settle_late(record, "cancelled", failure)
            else:
                self._settle_late(record, "failed", stored_nowhere)

    def _on_nodes(self, message: Nodes, frames: Frames) -> None:
        for node in message.left:
            self.nodes.pop(node, None)
        for info in message.joined:
            self.nodes[info.index] = info
        self._effects.append(NodesChanged(message.left))
        self._shelf.place_waiting()

    def _on_unreachable(self, message: Unreachable, frames: Frames) -> None:
        """Put scattered data and large arguments again that their node has lost."""
        gone = [t for t in message.tasks if not self._shelf.put_again(t, message.node)]
        if gone:
            self.say(Cancel(gone, f"node {message.node} is lost and the client kept no copy"))

    def _on_reply(self, message: Answer | Called | Coordinated, frames: Frames) -> None:
        self._effects.append(Replied(message.request, message, frames))

    def _on_heard(self, message: Message, frames: Frames) -> None:
        self._effects.append(Heard(message, frames))

    _HANDLERS: ClassVar[dict[type[Message], Callable[[ClientCore, Any, Frames], None]]] = {
        Resolved: _on_resolved,
        Failed: _on_failed,
        Cancelled: _on_cancelled,
        Nodes: _on_nodes,
        Unreachable: _on_unreachable,
        Answer: _on_reply,
        Called: _on_reply,
        Coordinated: _on_reply,
        Output: _on_heard,
        Published: _on_heard,
        Stuck: _on_heard,
    }

    @property
    def has_effects(self) -> bool:
        """Whether `take_effects` would return anything."""
        return bool(self._effects)

    def take_effects(self) -> list[Effect]:
        """Return what the driver has to do, and forget it."""
        effects = self._effects[:]
        self._effects.clear()
        return effects

    def take_settled(self) -> list[tuple[Wanted, list[Any]]]:
        """Return the settled records with those who watched them, and forget the watchers."""
        settled, self._settled = self._settled, []
        watched = []
        for record in settled:
            watchers, record.watchers = record.watchers, None
            if watchers is not None:
                watched.append((record, watchers))
        return watched

    def _settle(self, record: Wanted, event: str, detail: Any) -> None:
        record.state = advance(record.state, event, record.task)
        record.detail = detail
        # One that failed may be run once more, and needs its large arguments for it.
        if record.keeps and record.state is not _ANNOUNCED and record.state is not State.ERROR:
            self._unkeep(record)
        if record.state is State.CANCELLED or record.state is State.LOST:
            self._forget_key(record)
        if record.watchers is not None:
            self._settled.append(record)

    def _settle_late(self, record: Wanted, event: str, detail: Any) -> None:
        """Settle a record unless it is final: then this came too late."""
        if record.state is State.ERROR and event in ("resolved", "announced"):
            # Somebody else had it run again: another client, or the retry of a task upon it.
            record.state = advance(record.state, "retried", record.task)
        if record.state is _PENDING or record.state is _ANNOUNCED:
            self._settle(record, event, detail)
