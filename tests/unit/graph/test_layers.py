"""The in-memory graph: keys, merging, and the builder that merges calls into layers."""

from __future__ import annotations

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.errors import InvalidArgument
from zcluster.graph.layers import (
    MERGED_CALLS,
    Graph,
    GraphBuilder,
    GraphLayer,
    LargeArgument,
    Options,
)
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS, CALL_SINGLE, PackedCall, pack_call

ADD = pack_callable(operator.add)
NEG = pack_callable(operator.neg)
INPUTS = PackedCall(CALL_INPUTS, None, None, [])


def single(value: object) -> PackedCall:
    return pack_call((value,), {})


def test_a_position_in_a_layer_becomes_a_key_in_c_order() -> None:
    layer = GraphLayer("x", (2, 3), 6, 0)
    assert [layer.key(p) for p in range(6)] == [("x", *i) for i in np.ndindex(2, 3)]
    assert GraphLayer("x", (), 1, 0).key(0) == "x"
    assert GraphLayer("x", (2,), 2, 0, keys=["a", "b"]).key(1) == "b"


def test_consecutive_calls_of_one_function_share_a_layer_and_others_do_not() -> None:
    builder = GraphBuilder()
    numbers = [builder.add_call("neg", NEG, single(i), (), key=f"k{i}") for i in range(3)]
    numbers.append(builder.add_call("add", ADD, INPUTS, (0, 1)))
    numbers.append(builder.add_call("add", ADD, INPUTS, (2, 3), options=Options(priority=1)))
    graph = builder.finish()
    assert numbers == [0, 1, 2, 3, 4]
    assert [layer.count for layer in graph.layers] == [3, 1, 1]
    assert [graph.key(t) for t in range(5)] == ["k0", "k1", "k2", "add", "add"]
    assert graph.layers[0].keys == ["k0", "k1", "k2"]
    assert graph.layers[2].options.priority == 1
    assert graph.layers[1].inputs(0) == [0, 1]
    assert [bytes(graph.layers[0].constant(p) or b"") for p in range(3)] == [
        single(i).constant for i in range(3)
    ]


def test_a_layer_of_calls_with_different_numbers_of_inputs_has_an_indptr() -> None:
    builder = GraphBuilder()
    for inputs in ((), (0,), (0, 1, 1)):
        builder.add_call("f", ADD, INPUTS, inputs)
    (layer,) = builder.finish().layers
    assert layer.arity == -1
    assert [layer.inputs(p) for p in range(3)] == [[], [0], [0, 1, 1]]


def test_layers_of_the_builder_are_bounded() -> None:
    builder = GraphBuilder()
    for i in range(MERGED_CALLS + 3):
        assert builder.add_call("neg", NEG, single(i), ()) == i
    assert [layer.count for layer in builder.finish().layers] == [MERGED_CALLS, 3]


def test_a_large_argument_becomes_the_last_input() -> None:
    builder = GraphBuilder()
    call = pack_call((b"x" * 100_000,), {})
    assert call.plan is not None
    builder.add_call("len", NEG, call, call.inputs)
    graph = builder.finish()
    assert graph.layers[0].inputs(0) == [-1]
    assert isinstance(graph.imports[0], LargeArgument)
    assert graph.imports[0].plan is call.plan


def test_an_import_is_listed_once_for_each_object() -> None:
    builder = GraphBuilder()
    first, second = object(), object()
    assert [builder.add_import(v) for v in (first, second, first)] == [-1, -2, -1]
    assert builder.graph.imports == [first, second]


def test_a_map_is_one_layer_however_long() -> None:
    builder = GraphBuilder()
    builder.add_call("add", ADD, INPUTS, ())
    constants = [single(i).constant or b"" for i in range(2000)]
    first = builder.add_map("neg", NEG, constants, CALL_SINGLE)
    second = builder.add_map("add", ADD, (), CALL_INPUTS, indices=[1, 2, 3, 4], arity=2)
    graph = builder.finish()
    assert (first, second, graph.count) == (1, 2001, 2003)
    assert bytes(graph.layers[1].constant(1999) or b"") == constants[1999]
    assert graph.layers[2].inputs(1) == [3, 4]


@pytest.mark.parametrize(
    "layer",
    [
        GraphLayer("x", (), 0, 0),
        GraphLayer("x", (2,), 2, 0, arity=1, indices=[0]),
        GraphLayer("x", (2,), 2, 0, arity=-1, indptr=[0, 1], indices=[0]),
        GraphLayer("x", (2,), 2, 0, arity=1, indptr=[0, 1, 2], indices=[0, 0]),
        GraphLayer("x", (2,), 2, 5, constants=b"abc", offsets=[0, 1, 2]),
        GraphLayer("x", (2,), 2, 0, keys=["a"]),
        GraphLayer("x", (2,), 2, 0, orders=[1]),
    ],
)
def test_a_layer_whose_columns_do_not_fit_together_is_refused(layer: GraphLayer) -> None:
    graph = Graph()
    with pytest.raises(InvalidArgument, match="'x'"):
        graph.add_layer(layer)
    assert graph.count == 0


def test_wanted_tasks_are_outputs_once_and_in_runs() -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("x", (9,), 9, 0))
    places = graph.want([4, 5, 2, 5, 6])
    assert graph.outputs == [(4, 2), (2, 1), (6, 1)]
    assert places == {4: 0, 5: 1, 2: 2, 6: 3}
    assert graph.want([7, 4]) == {7: 4, 4: 5}


def edges_by_key(graph: Graph) -> dict[object, list[object]]:
    """Describe a graph independently of its numbers."""
    described: dict[object, list[object]] = {}
    for layer in graph.layers:
        for p in range(layer.count):
            described[layer.key(p)] = [
                graph.key(i) if i >= 0 else graph.imports[~i] for i in layer.inputs(p)
            ]
    return described


@given(st.data(), st.booleans())
def test_merging_keeps_the_edges_of_both_graphs(data: st.DataObject, bulk: bool) -> None:
    shared = [object() for _ in range(3)]
    graphs = []
    for name in "ab":
        graph = Graph()
        imports = data.draw(st.permutations(shared))[: data.draw(st.integers(0, 3))]
        entries = [graph.add_import(value) for value in imports]
        for number in range(data.draw(st.integers(1, 3))):
            choices = [*entries, *range(graph.count)]
            indices: list[int] = []
            if choices:
                indices = data.draw(st.lists(st.sampled_from(choices), min_size=4, max_size=4))
            arity = len(indices) // 2
            layer = GraphLayer(f"{name}{number}", (2,), 2, 0, arity=arity, indices=indices)
            layer.orders = [1, 0]
            if bulk:
                layer.indices, layer.orders = np.array(indices, int), np.array([1, 0])
            graph.add_layer(layer)
        graph.want([graph.count - 1])
        graphs.append(graph)
    first, second = graphs
    expected = edges_by_key(first) | edges_by_key(second)
    counts = first.count, second.count
    offset = first.merge(second)
    assert offset == counts[0]
    assert first.count == sum(counts)
    assert edges_by_key(first) == expected
    assert len({id(v) for v in first.imports}) == len(first.imports)
    assert first.outputs[-1] == (first.count - 1, 1)
    orders = first.layers[-1].orders
    assert orders is not None
    assert [int(rank) for rank in orders] == [offset + 1, offset]


def test_merging_moves_the_layers_taken_whole() -> None:
    first, second = Graph(), Graph()
    for graph in (first, second):
        graph.add_layer(GraphLayer("x", (2,), 2, 0))
        graph.add_layer(GraphLayer("sum", (), 1, 0, whole=[0]))
    first.merge(second)
    assert [list(layer.whole) for layer in first.layers] == [[], [0], [], [2]]


def test_asking_for_a_task_that_is_not_there_says_how_many_there_are() -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("x", (2,), 2, 0))
    with pytest.raises(InvalidArgument, match="of 2 tasks"):
        graph.key(2)
