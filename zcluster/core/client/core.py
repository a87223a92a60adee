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

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, ClassVar

from zcluster.core.client.placing import Shelf
from zcluster.core.client.records import (
    DEFAULT_OPTIONS,
    Announced,
    Answered,
    BareCall,
    Data,
    Effect,
    Failure,
    NodesChanged,
    Options,
    Wanted,
)
from zcluster.core.client.states import State, advance
from zcluster.errors import InvariantError, ProtocolError
from zcluster.graph.layers import Graph, GraphBuilder, PackedCall, PackedFunction
from zcluster.graph.lowering import slices
from zcluster.protocol.frames import span
from zcluster.protocol.messages import (
    Answer,
    Ask,
    Cancel,
    Cancelled,
    Failed,
    Message,
    NodeInfo,
    Nodes,
    Release,
    Resolved,
    Scattered,
    Unreachable,
)
from zcluster.types import Frames, first_task

__all__ = ["CREDIT", "IMPORTS_OF_SUBMISSION", "ClientCore"]

#: The most bytes sent and not acknowledged by the scheduler.
CREDIT = 16 << 20

#: An open submission is closed early when it has more imports than this: they all
#: stand in the control frame of its first slice.
IMPORTS_OF_SUBMISSION = 1 << 16

#: The most calls with keys of their own in one layer: the keys of a layer all stand in
#: one control frame, which has a bound.
KEYED_CALLS = 2048

#: Failures of these kinds mean that nobody can say any more what became of a task.
_LOST_KINDS = frozenset({"lost", "scheduler"})
_CANCELLED_KINDS = frozenset({"cancelled", "closed"})

_PENDING, _ANNOUNCED, _HERE = State.PENDING, State.ANNOUNCED, State.HERE


_DATA_CALL = BareCall(3)  # CALL_VALUE


class ClientCore:
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

    def __init__(self) -> None:
        self.wanted: dict[int, Wanted] = {}
        self.keys: dict[str, Wanted] = {}
        self.nodes: dict[int, NodeInfo] = {}
        self.ended: Failure | None = None
        self.is_welcome = False
        self.submitted = 0
        self._builder: GraphBuilder | None = None
        self._base = 0
        self._next = 0
        self._outbox: deque[Iterator[tuple[Message, Frames]]] = deque()
        self._released: list[int] = []
        self._requests = 0
        self._effects: list[Effect] = []
        self._settled: list[Wanted] = []
        self._shelf = Shelf(self.nodes, self._effects)
        self._stored: list[tuple[int, int, int]] = []
        self._scattered: dict[int, Data] = {}

    # ------------------------------------------------------------ from the user

    def add_call(
        self,
        name: str,
        function: PackedFunction,
        call: PackedCall,
        inputs: Sequence[Wanted] = (),
        *,
        large: bytes | None = None,
        key: str | None = None,
        options: Options = DEFAULT_OPTIONS,
    ) -> Wanted:
        """Add a call to the open submission.

        Parameters
        ----------
        name : str
            How its key begins.
        function, call : PackedFunction, PackedCall
        inputs : sequence of Wanted
            The records its inputs stand for, in order.
        large : bytes, optional
            The blob of its arguments, if that is too large to travel in a graph.
        key : str, optional
            Its key, under which an equal call of any client is the same task.
        """
        keeps: tuple[Data, ...] = ()
        indices: list[int] = []
        if inputs:
            keeps = self._inherited(inputs)
            indices = self._indices(inputs)
        if large is not None:
            data = self._add_data(large)
            keeps = (*keeps, data)
            indices.append(data.task - self._base)
            call = BareCall(call.form)
        if keeps:
            self._shelf.use(keeps)
        builder = self._builder
        if builder is None:
            builder = self._open()
        if key is None and options is DEFAULT_OPTIONS:
            number = builder.add_call(name, function, call, indices)
        else:
            number = builder.add_call(
                name,
                function,
                call,
                indices,
                key=key,
                shared=key is not None,
                workers=options.workers,
                allow_other_workers=options.allow_other_workers,
                retries=options.retries,
                priority=options.priority,
            )
        task = self._base + number
        self._next = task + 1
        record = self.wanted[task] = Wanted(task, name, key, keeps)
        if key is not None:
            self.keys[key] = record
        return record

    def add_map(
        self,
        name: str,
        function: PackedFunction,
        form: int,
        constants: Sequence[bytes],
        keys: list[str] | None = None,
        options: Options = DEFAULT_OPTIONS,
    ) -> list[Wanted]:
        """Add many calls of one function, each with a constant: one layer, with keys several."""
        builder = self._builder if self._builder is not None else self._open()
        first = self._base + len(builder)
        step = max(len(constants), 1) if keys is None else KEYED_CALLS
        for start in range(0, len(constants), step):
            builder.add_map(
                name,
                function,
                constants[start : start + step],
                form,
                keys=None if keys is None else keys[start : start + step],
                shared=keys is not None,
                workers=options.workers,
                allow_other_workers=options.allow_other_workers,
                retries=options.retries,
                priority=options.priority,
            )
        self._next = first + len(constants)
        tasks = range(first, self._next)
        if keys is None:
            records = [Wanted(task, name, None) for task in tasks]
        else:
            records = [Wanted(task, name, key) for task, key in zip(tasks, keys, strict=True)]
            self.keys.update(zip(keys, records, strict=True))
        self.wanted.update(zip(tasks, records, strict=True))
        return records

    def shared(self, key: str) -> Wanted | None:
        """Return the record under a key, with one hold more, if it can be shared."""
        record = self.keys.get(key)
        if record is not None:
            record.holds += 1
        return record

    def add_graph(
        self, graph: Graph, imports: Sequence[Wanted | bytes], name_of: Callable[[int], str]
    ) -> list[Wanted]:
        """Submit a graph; return the records of its outputs, in order.

        Parameters
        ----------
        graph : Graph
        imports : sequence of Wanted or bytes
            What the graph's imports stand for: results wanted here, or the blobs of
            large arguments.
        name_of : callable
            Gives the key of a task by its number in the graph.
        """
        self._check_open()
        keeps = self._inherited([item for item in imports if isinstance(item, Wanted)])
        tasks: list[int] = []
        for item in imports:
            if isinstance(item, Wanted):
                tasks.append(item.task)
            else:
                data = self._add_data(item)
                keeps = (*keeps, data)
                tasks.append(data.task)
        self._seal()
        base = self._next
        if graph.count:
            # The first slice is made here, so that a graph that cannot be sent is refused
            # at the call, and before it has taken numbers.
            messages = slices(graph, base, tasks)
            self._outbox.append(chain((next(messages),), messages))
        self._next += graph.count
        self.submitted += graph.count

        def key_of(task: int) -> str:
            return name_of(task - base)

        records = []
        self._shelf.use(keeps)
        for start, count in graph.outputs:
            for task in range(base + start, base + start + count):
                record = self.wanted.get(task)
                if record is None:
                    record = self.wanted[task] = Wanted(task, key_of, None, keeps)
                    self._shelf.use(keeps)
                else:
                    record.holds += 1
                records.append(record)
        self._released.extend(self._shelf.unuse(keeps))  # of a graph without outputs
        return records

    def scatter(
        self,
        blob: bytes,
        name: str,
        *,
        key: str | None = None,
        places: tuple[int, ...] = (),
        everywhere: bool = False,
    ) -> Wanted:
        """Put a value into a node's store, or into all; return its record.

        Parameters
        ----------
        blob : bytes
        name, key
            As for `add_call`.
        places : tuple of int
            The nodes it may go to; empty means any.
        everywhere : bool
            Put it to all of them.
        """
        data = self._add_data(blob, is_argument=False, places=places, everywhere=everywhere)
        record = self.wanted[data.task] = Wanted(data.task, name, key)
        self._scattered[data.task] = data
        self._shelf.use((data,))
        if key is not None:
            self.keys[key] = record
        return record

    def drop(self, records: Iterable[Wanted]) -> None:
        """Drop one hold on each; a task that nobody holds is released."""
        for record in records:
            record.holds -= 1
            if record.holds == 0 and self.wanted.pop(record.task, None) is not None:
                self._forget_key(record)
                self._released.append(record.task)
                self._unkeep(record)
                data = self._scattered.pop(record.task, None) if self._scattered else None
                if data is not None:
                    self._shelf.unuse((data,))

    def cancel(self, records: Iterable[Wanted], reason: str = "") -> None:
        """Cancel tasks that are not finished; they count as cancelled here at once."""
        tasks = []
        for record in records:
            if record.state is _PENDING and record.task in self.wanted:
                tasks.append(record.task)
                self._settle(record, "cancelled", Failure("cancelled", reason))
        if tasks:
            self.say(Cancel(tasks, reason))

    def ask(self, question: str, tasks: Sequence[int] = (), text: str = "") -> int:
        """Ask the scheduler; return the number its `Answered` effect will carry."""
        self._check_open()
        self._requests += 1
        self.say(Ask(self._requests, question, list(tasks), text))
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

    # ------------------------------------------------------- from the data ports

    def stored(self, task: int, node: int, size: int) -> None:
        """Take note that a blob is in a node's store."""
        data = self._shelf.stored(task)
        if data is None:
            return
        self._stored.append((task, node, size))
        record = self.wanted.get(task) if task in self._scattered else None
        if record is not None and record.state is _PENDING and not data.open:
            self._settle(record, "resolved", data.blob)

    def not_stored(self, task: int, node: int, reason: str) -> None:
        """Take note that a node did not take a blob; another one is tried."""
        data = self._shelf.not_stored(task, node)
        if data is None:
            return
        failure = Failure("store", reason)
        self.say(Cancel([task], reason))
        for record in list(self.wanted.values()):
            if record.task == task or data in record.keeps:
                self._settle_late(record, "failed", failure)

    def unreachable(self, record: Wanted, node: int) -> None:
        """Take note that an announced result could not be fetched from a node."""
        if record.state is _ANNOUNCED and record.detail.node == node:
            record.state = advance(record.state, "unreachable", record.task)
            record.detail = None
            self.say(Unreachable([record.task], node))

    def cannot_travel(self, record: Wanted, reason: str) -> None:
        """Take note that a result can never leave the worker that made it."""
        self._settle_late(record, "failed", Failure("serialize", reason))

    # ------------------------------------------------------- from the scheduler

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
            if record is not None:
                self._settle_late(record, "cancelled", failure)

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

    def _on_answer(self, message: Answer, frames: Frames) -> None:
        self._effects.append(Answered(message))

    _HANDLERS: ClassVar[dict[type[Message], Callable[[ClientCore, Any, Frames], None]]] = {
        Resolved: _on_resolved,
        Failed: _on_failed,
        Cancelled: _on_cancelled,
        Nodes: _on_nodes,
        Unreachable: _on_unreachable,
        Answer: _on_answer,
    }

    # ------------------------------------------------------------------------ out

    @property
    def has_news(self) -> bool:
        """Whether `collect` would add to what is to be sent."""
        return bool(self._builder is not None or self._released or self._stored)

    @property
    def has_effects(self) -> bool:
        """Whether `take_effects` would return anything."""
        return bool(self._effects)

    @property
    def has_outgoing(self) -> bool:
        """Whether anything waits for `outgoing`."""
        return bool(self._outbox)

    def collect(self) -> None:
        """Close the open submission and queue what has gathered."""
        if self.ended is not None:
            self._released.clear()
            self._stored.clear()
            return
        self._seal()
        if self._stored:
            stored, self._stored = self._stored, []
            tasks, nodes, sizes = (list(column) for column in zip(*stored, strict=True))
            self.say(Scattered(tasks, nodes, sizes))
        if self._released:
            released, self._released = self._released, []
            self.say(Release(released))

    def outgoing(self, in_flight: Callable[[], int]) -> Iterator[tuple[Message, Frames]]:
        """Give messages to send, in order, while fewer bytes than `CREDIT` are in flight.

        Only the driver's thread takes messages, and it needs no lock for it.
        """
        outbox = self._outbox
        while outbox and in_flight() < CREDIT:
            item = next(outbox[0], None)
            if item is None:
                outbox.popleft()
            else:
                yield item

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

    # --------------------------------------------------------------------- inside

    def _check_open(self) -> None:
        if self.ended is not None or not self.is_welcome:
            raise InvariantError("the core takes calls between its welcome and its end only")

    def _open(self) -> GraphBuilder:
        self._check_open()
        self._builder = GraphBuilder()
        self._base = self._next
        return self._builder

    def _seal(self) -> None:
        builder = self._builder
        if builder is not None:
            graph = builder.finish()
            graph.outputs = [(0, graph.count)]
            tasks = [record.task for record in graph.imports]
            self.submitted += graph.count
            self._outbox.append(slices(graph, self._base, tasks))
            self._builder = None

    def say(self, message: Message, frames: Frames = ()) -> None:
        """Queue a message after what was submitted so far."""
        self._seal()
        self._outbox.append(iter([(message, frames)]))

    def _indices(self, inputs: Sequence[Wanted]) -> list[int]:
        """Return where the open submission finds its inputs."""
        builder = self._builder if self._builder is not None else self._open()
        if len(builder.graph.imports) > IMPORTS_OF_SUBMISSION:
            self._seal()
            builder = self._open()
        base = self._base
        return [
            record.task - base if record.task >= base else builder.add_import(record)
            for record in inputs
        ]

    def _add_data(
        self,
        blob: bytes,
        is_argument: bool = True,
        places: tuple[int, ...] = (),
        everywhere: bool = False,
    ) -> Data:
        builder = self._builder if self._builder is not None else self._open()
        task = self._base + builder.add_call("data", None, _DATA_CALL, ())
        self._next = task + 1
        data = Data(task, blob, is_argument, places)
        self._shelf.add(data, everywhere)
        return data

    def _inherited(self, inputs: Iterable[Wanted]) -> tuple[Data, ...]:
        """Return the blobs that a task with these inputs may need again."""
        keeps: dict[Data, None] = {}
        for record in inputs:
            if record.keeps:
                keeps.update(dict.fromkeys(record.keeps))
            if self._scattered and record.task in self._scattered:
                keeps[self._scattered[record.task]] = None
        return tuple(keeps)

    def _settle(self, record: Wanted, event: str, detail: Any) -> None:
        record.state = advance(record.state, event, record.task)
        record.detail = detail
        if record.state is not _ANNOUNCED and record.keeps:
            self._unkeep(record)
        if record.state is State.CANCELLED or record.state is State.LOST:
            self._forget_key(record)
        if record.watchers is not None:
            self._settled.append(record)

    def _settle_late(self, record: Wanted, event: str, detail: Any) -> None:
        """Settle a record unless it is final: then this came too late."""
        if record.state is _PENDING or record.state is _ANNOUNCED:
            self._settle(record, event, detail)

    def _unkeep(self, record: Wanted) -> None:
        keeps, record.keeps = record.keeps, ()
        self._released.extend(self._shelf.unuse(keeps))

    def _forget_key(self, record: Wanted) -> None:
        if record.key is not None and self.keys.get(record.key) is record:
            del self.keys[record.key]
