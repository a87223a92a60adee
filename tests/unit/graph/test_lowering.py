"""What slices say, read_part reads back: for any graph and any limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster.graph.lowering as lowering
from zcluster.errors import InvalidArgument, NotSerializable
from zcluster.graph.columns import read_part, row_width
from zcluster.graph.layers import Graph, GraphBuilder, GraphLayer
from zcluster.graph.lowering import slices
from zcluster.protocol.callables import Packed, pack_callable
from zcluster.protocol.calls import pack_call
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import Layer, Slot, Submit
from zcluster.types import Buffer


class Task(NamedTuple):
    """A task as either side sees it."""

    key: object
    function: bytes
    inputs: list[int]
    order: int
    constant: bytes | None
    selection: list[int]


def tasks_of(graph: Graph) -> list[Task]:
    tasks = []
    for layer in graph.layers:
        at = 0
        for p in range(layer.count):
            inputs = layer.inputs(p)
            width = row_width(layer.slots, layer.whole_slots, len(inputs))
            row = [] if layer.selections is None else layer.selections[at : at + width]
            at += width
            constant = layer.constant(p)
            tasks.append(
                Task(
                    layer.key(p),
                    b"" if layer.function is None else layer.function.data,
                    inputs,
                    layer.first + p if layer.orders is None else int(layer.orders[p]),
                    None if constant is None else bytes(constant),
                    [int(i) for i in row],
                )
            )
    return tasks


class Reader:
    """A model of the receiving side: it reads slices and remembers layers and callables."""

    def __init__(self) -> None:
        self.decoder = Decoder((Submit,))
        self.layers: list[Layer] = []
        self.functions: dict[bytes, bytes] = {}
        self.tasks: list[Task] = []
        self.imports: list[int] | None = None
        self.outputs: list[tuple[int, int]] = []
        self.messages: list[Submit] = []

    def take(self, message: Submit, frames: Sequence[Buffer]) -> None:
        message = self.decoder.decode(encode(message))
        assert message.first == len(self.tasks)
        assert not (self.messages and self.messages[-1].last)
        if self.imports is None:
            self.imports, self.outputs = message.imports, message.outputs
        else:
            assert not message.imports
            assert not message.outputs
        self.messages.append(message)
        self.layers += message.layers
        for digest, (frame, start, stop) in message.functions:
            assert digest not in self.functions
            self.functions[digest] = bytes(frames[frame][start:stop])
        end = message.first + message.count
        for part in message.parts:
            layer = self.layers[part.layer]
            columns = read_part(part, frames, end=end, imports=len(self.imports), layer=layer)
            self._read(layer, columns, end)
        assert len(self.tasks) == end

    def _read(self, layer: Layer, columns: Any, end: int) -> None:
        described = GraphLayer(layer.name, tuple(layer.shape), layer.count, layer.call)
        described.keys = layer.keys
        at = row = 0
        for p in range(columns.count):
            number = columns.first + p
            stop = at + columns.arity if columns.indptr is None else columns.indptr[p + 1]
            inputs = [i if i < end else ~(i - end) for i in columns.indices[at:stop]]
            at = stop
            width = row_width(layer.slots, layer.whole_slots, len(inputs))
            constant = None
            if columns.offsets is not None:
                constant = bytes(columns.constants[columns.offsets[p] : columns.offsets[p + 1]])
            self.tasks.append(
                Task(
                    described.key(number - layer.first),
                    self.functions[layer.function] if layer.function else b"",
                    inputs,
                    number if columns.orders is None else columns.orders[p],
                    constant,
                    columns.selections[row : row + width].tolist(),
                )
            )
            row += width


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    graph = Graph()
    for _ in range(draw(st.integers(0, 3))):
        graph.add_import(object())
    bulk = draw(st.booleans())
    for number in range(draw(st.integers(1, 5))):
        count = draw(st.integers(1, 12))
        varied = draw(st.booleans())
        arities = [draw(st.integers(0, 4))] * count
        if varied:
            arities = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
        indices: list[int] = []
        for p, arity in enumerate(arities):
            choices = st.integers(-len(graph.imports), graph.count + p - 1)
            if graph.count + p == 0 and not graph.imports:
                arities = [0] * count
                indices = []
                break
            indices += draw(st.lists(choices, min_size=arity, max_size=arity))
        layer = GraphLayer(f"l{number}", (count,), count, 0)
        layer.arity, layer.indices = arities[0], indices
        if varied:
            layer.arity, layer.indptr = -1, np.cumsum([0, *arities]).tolist()
        if draw(st.booleans()):
            layer.call = 5
            constants = draw(st.lists(st.binary(max_size=40), min_size=count, max_size=count))
            layer.constants = b"".join(constants)
            layer.offsets = np.cumsum([0, *map(len, constants)]).tolist()
        if draw(st.booleans()):
            layer.orders = draw(st.permutations(range(graph.count, graph.count + count)))
        if draw(st.booleans()):
            layer.keys = [f"key{number}.{p}" for p in range(count)]
        if draw(st.booleans()):
            layer.slots = draw(
                st.lists(st.sampled_from([Slot(), Slot(1), Slot(2), Slot(3, 2)]), max_size=3)
            )
            layer.whole_slots = draw(st.lists(st.sampled_from([Slot(1), Slot(2)]), max_size=2))
            rows = sum(row_width(layer.slots, layer.whole_slots, a) for a in arities)
            layer.selections = list(range(rows))
        data = draw(st.sampled_from([b"", b"f" * 20, b"g" * 300]))
        layer.function = Packed(data[:1] * 16, data) if data else None
        if bulk:
            for name in ("indptr", "indices", "offsets", "orders", "selections"):
                column = getattr(layer, name)
                if column is not None:
                    setattr(layer, name, np.array(column, dtype=np.int64))
        graph.add_layer(layer)
    graph.want(draw(st.lists(st.integers(0, graph.count - 1), max_size=4)))
    return graph


@settings(deadline=None)
@given(graphs(), st.sampled_from([64, 200, 600, 4 << 20]))
def test_what_is_sent_is_what_is_read(graph: Graph, limit: int) -> None:
    expected = tasks_of(graph)
    imports = list(range(1000, 1000 + len(graph.imports)))
    reader = Reader()
    for message, frames in slices(graph, 7, imports, limit):
        assert message.submission == 7
        # A frame over the limit holds one task, or one callable, and nothing else.
        assert len(frames) <= 2
        assert len(frames[0]) <= limit or message.count == 1
        reader.take(message, frames)
    assert reader.messages[-1].last
    assert reader.tasks == expected
    assert reader.imports == imports
    assert reader.outputs == graph.outputs
    assert [layer.first for layer in reader.layers] == [layer.first for layer in graph.layers]


def test_a_small_graph_is_one_message_with_one_frame() -> None:
    builder = GraphBuilder()
    function = pack_callable(len)
    for text in ("a", "bb", "ccc"):
        builder.add_call("len", function, pack_call((text,), {}), ())
    builder.add_call("abs", pack_callable(abs), pack_call((1,), {}), ())
    ((message, frames),) = slices(builder.finish(), 0, [])
    assert len(frames) == 1
    assert len(message.layers) == 2
    assert [digest for digest, _ in message.functions] == [
        function.digest,
        pack_callable(abs).digest,
    ]


def test_many_layers_are_cut_by_the_size_of_their_records_too() -> None:
    """The control frame has a limit as well: it holds names and keys."""
    graph = Graph()
    for number in range(50):
        graph.add_layer(GraphLayer(f"layer{number}", (), 1, 0, keys=["k" * 300]))
    sent = list(slices(graph, 0, [], limit=5000))
    assert len(sent) > 3
    assert all(len(encode(message)) <= 5000 for message, _ in sent)
    assert [layer.name for m, _ in sent for layer in m.layers] == [f"layer{n}" for n in range(50)]


def test_a_callable_too_large_for_any_frame_is_refused_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lowering, "FRAME_LIMIT", 10_000)
    graph = Graph()
    graph.add_layer(GraphLayer("f", (), 1, 0, Packed(b"d" * 16, bytes(10_001))))
    with pytest.raises(NotSerializable, match="scatter"):
        list(slices(graph, 0, [], limit=1000))


def test_a_large_callable_has_a_frame_of_its_own() -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("f", (), 1, 0, Packed(b"d" * 16, bytes(5 << 20))))
    ((message, frames),) = slices(graph, 0, [])
    assert [len(frame) for frame in frames] == [0, 5 << 20]
    assert message.functions == [(b"d" * 16, (1, 0, 5 << 20))]


def test_a_task_with_too_many_inputs_is_refused_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lowering, "FRAME_LIMIT", 4000)
    for count in (1000, 1001):
        graph = Graph()
        graph.add_import(object())
        inputs = np.full(count, -1, np.int32)
        graph.add_layer(GraphLayer("sum", (), 1, 0, arity=count, indices=inputs))
        if count == 1000:
            assert len(list(slices(graph, 0, [5], limit=1000))) == 1
        else:
            with pytest.raises(InvalidArgument, match="in a tree"):
                list(slices(graph, 0, [5], limit=1000))


def test_more_keys_than_a_message_holds_are_refused() -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("x", (9,), 9, 0, keys=["k" * (1 << 20)] * 9))
    with pytest.raises(InvalidArgument, match="give it a shape"):
        list(slices(graph, 0, []))


def test_more_imports_than_a_message_holds_are_refused() -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("x", (), 1, 0))
    with pytest.raises(InvalidArgument, match="in steps"):
        list(slices(graph, 0, range(1_000_000)))
