"""What a client says: calls, graphs and data on their way to the scheduler.

The lower half of `zcluster.core.client.core`, where the whole is explained.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from zcluster.core.client.placing import Shelf
from zcluster.core.client.records import (
    BareCall,
    Data,
    Effect,
    Failure,
    Wanted,
)
from zcluster.errors import InvariantError
from zcluster.graph.layers import (
    DEFAULT_OPTIONS,
    Graph,
    GraphBuilder,
    Options,
    PackedCall,
    PackedFunction,
)
from zcluster.graph.lowering import SLICE_LIMIT, slices
from zcluster.protocol.messages import Cancel, Message, NodeInfo, Release, Scattered
from zcluster.types import Frames

__all__ = ["CREDIT", "IMPORTS_OF_SUBMISSION", "Submitting"]

#: The most bytes sent and not acknowledged by the scheduler.
CREDIT = 16 << 20
#: Tasks let go of in one message: the scheduler answers others between two.
_RELEASED = 20_000

#: An open submission is closed early when it has more imports than this: they all
#: stand in the control frame of its first slice.
IMPORTS_OF_SUBMISSION = 1 << 16

#: The most calls with keys of their own in one layer: the keys of a layer all stand in
#: one control frame, which has a bound.
KEYED_CALLS = 2048

_DATA_CALL = BareCall(3)  # CALL_VALUE


class Submitting:
    """A client's tables, and the queue of what it has to say; see `ClientCore`."""

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
        shared = key is not None
        number = builder.add_call(
            name, function, call, indices, key=key, shared=shared, options=options
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
                options=options,
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
        self,
        graph: Graph,
        imports: Sequence[Wanted | bytes],
        name_of: Callable[[int], str],
        limit: int = SLICE_LIMIT,
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
        limit : int
            Bytes of one slice of it on its way.
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
            messages = slices(graph, base, tasks, limit)
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
        data = self._add_data(blob, False, places, everywhere, key or name)
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

    def say(self, message: Message, frames: Frames = ()) -> None:
        """Queue a message after what was submitted so far."""
        self._seal()
        self._outbox.append(iter([(message, frames)]))

    @property
    def next_task(self) -> int:
        """The number that the next task will have."""
        return self._next

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

    def _indices(self, inputs: Sequence[Wanted]) -> list[int]:
        """Return where the open submission finds its inputs."""
        builder = self._builder if self._builder is not None else self._open()
        if len(builder.graph.imports) > IMPORTS_OF_SUBMISSION:
            self._seal()
            builder = self._open()
        # Past the end are those that another client, who came later, has numbered.
        base, end = self._base, self._next
        return [
            record.task - base if base <= record.task < end else builder.add_import(record)
            for record in inputs
        ]

    def _add_data(
        self,
        blob: bytes,
        is_argument: bool = True,
        places: tuple[int, ...] = (),
        everywhere: bool = False,
        name: str = "data",
    ) -> Data:
        builder = self._builder if self._builder is not None else self._open()
        task = self._base + builder.add_call(name, None, _DATA_CALL, ())
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

    def _unkeep(self, record: Wanted) -> None:
        keeps, record.keeps = record.keeps, ()
        self._released.extend(self._shelf.unuse(keeps))

    def _forget_key(self, record: Wanted) -> None:
        if record.key is not None and self.keys.get(record.key) is record:
            del self.keys[record.key]

    @property
    def has_news(self) -> bool:
        """Whether `collect` would add to what is to be sent."""
        gathered = self._released or self._stored or self._shelf.abandoned
        return bool(self._builder is not None or gathered)

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
        if self._shelf.abandoned:
            # Others may want it, and would wait for ever.
            self.say(Cancel(self._shelf.abandoned, "its client let go of it before a node had it"))
            self._shelf.abandoned = []
        if self._released:
            released, self._released = self._released, []
            for start in range(0, len(released), _RELEASED):
                self.say(Release(released[start : start + _RELEASED]))

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
