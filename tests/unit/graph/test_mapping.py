"""The view shows the graph of the specification, one entry at a time."""

from __future__ import annotations

import operator
from itertools import islice
from typing import Any

import numpy as np
import pytest

from zcluster.graph.layers import Graph, GraphBuilder, GraphLayer
from zcluster.graph.mapping import GraphView, apply
from zcluster.graph.spec import from_dict
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS, CALL_ROW, CALL_SINGLE, pack_call
from zcluster.protocol.held import list_of, passing_objects
from zcluster.protocol.messages import Slot
from zcluster.protocol.objects import dumps_small


def blocks(shape: tuple[int, ...]) -> Graph:
    """Make a graph as an array does: a source, and one task for each block of it."""
    graph = Graph()
    source = GraphLayer("array", (), 1, 3, constants=b"\x80\x05K\x07.", offsets=[0, 5])
    graph.add_layer(source)
    count = int(np.prod(shape))
    each = [dumps_small(i, 100) or b"" for i in range(count)]
    graph.add_layer(
        GraphLayer(
            "x",
            shape,
            count,
            CALL_SINGLE,
            pack_callable(operator.neg),
            constants=b"".join(each),
            offsets=np.cumsum([0, *map(len, each)]),
        )
    )
    graph.add_layer(
        GraphLayer(
            "y",
            shape,
            count,
            CALL_INPUTS,
            pack_callable(operator.add),
            2,
            None,
            np.stack([np.arange(1, count + 1), np.zeros(count, int)], 1).ravel(),
        )
    )
    return graph


def test_blocks_have_keys_and_tasks_as_the_specification_says() -> None:
    view = GraphView(blocks((20, 30)))
    assert len(view) == 1201
    assert view["array"] == 7
    assert view["x", 1, 2] == (operator.neg, 32)
    assert view["y", 19, 29] == (operator.add, ("x", 19, 29), "array")
    assert list(islice(view, 3)) == ["array", ("x", 0, 0), ("x", 0, 1)]
    assert "y" not in view
    assert ("y", 20, 0) not in view
    assert ("y", 0) not in view
    assert ("y", 0, "a") not in view
    assert ["y"] not in view  # type: ignore[comparison-overlap]
    with pytest.raises(KeyError):
        view["z", 0]


def test_one_entry_is_shown_without_making_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    view = GraphView(blocks((100, 100)))
    made = 0
    real = GraphLayer.constant

    def counted(layer: GraphLayer, position: int) -> Any:
        nonlocal made
        made += 1
        return real(layer, position)

    monkeypatch.setattr(GraphLayer, "constant", counted)
    ((key, value),) = islice(view.items(), 1, 2)
    assert (key, value) == (("x", 0, 0), (operator.neg, 0))
    assert made <= 2


def test_a_view_is_a_graph(run: Any) -> None:
    view = GraphView(blocks((2, 3)))
    graph, number = from_dict(view, ("y", 1, 2))
    assert graph.count == 3
    assert run(graph) == [-5 + 7]
    assert graph.key(number) == "('y', 1, 2)"


def test_calls_with_keywords_large_arguments_and_imports_are_shown(run: Any) -> None:
    builder = GraphBuilder()
    call = pack_call(("3",), {"base": 8})
    builder.add_call("int", pack_callable(int), call, (), key="i")
    large = pack_call((b"x" * 100_000, 1), {})
    builder.add_call("getitem", pack_callable(operator.getitem), large, (), key="g")
    held = object()
    call = pack_call((), {})
    builder.add_call("f", pack_callable(print), call, (0, builder.add_import(held)), key="f")
    graph = builder.finish()
    view = GraphView(graph)
    assert view["i"] == (apply, int, ["3"], (dict, [["base", 8]]))
    assert view["g"] == (operator.getitem, b"x" * 100_000, 1)
    assert view["f"] == (print, "i", held)
    again, _ = from_dict(view, ["i", "g"])
    assert run(again) == [3, ord("x")]


def thirds() -> np.ndarray[Any, Any]:
    return np.arange(12.0).reshape(3, 4)


def shifted(row: Any, *inputs: Any) -> Any:
    """Add the integers of a row to the inputs, one to each."""
    return [value + n for value, n in zip(inputs, memoryview(row).cast("q"), strict=True)]


def parted(call: int) -> Graph:
    """Make a graph of a layer of two whose inputs are a box, an item and a whole."""
    graph = Graph()
    graph.add_layer(GraphLayer("a", (2,), 2, CALL_INPUTS, pack_callable(thirds)))
    rows = np.array([10, 20, 30, 1, 2, 3])
    graph.add_layer(
        GraphLayer(
            "b",
            (2, 1),
            2,
            call,
            pack_callable(shifted if call == CALL_ROW else operator.concat),
            -1,
            np.array([0, 3, 6]),
            np.array([0, 1, 0, 1, 0, 1]),
            constants=rows.tobytes() if call == CALL_ROW else b"",
            offsets=[0, 24, 48] if call == CALL_ROW else None,
            slots=[Slot(3, 2), Slot(3, 1), Slot()],
            selections=np.array([0, 3, 2, 1, 2, 1, 2, 3, 1, 0, 0, 1, 0, 4, 1, 1, 2, 1]),
        )
    )
    return graph


def test_boxes_of_inputs_are_shown_as_slices(run: Any) -> None:
    """A row comes first; the task runs as it stands."""
    graph = parted(CALL_ROW)
    view = GraphView(graph)
    row = np.array([1, 2, 3]).tobytes()
    assert view["b", 1, 0] == (
        shifted,
        row,
        (operator.getitem, ("a", 1), (slice(0, 0, 1), slice(0, 4, 1))),
        (operator.getitem, ("a", 0), (slice(1, 2, 1),)),
        ("a", 1),
    )
    again, _ = from_dict(view, [("b", 0, 0), ("b", 1, 0)])
    a = thirds()
    for found, expected in zip(
        run(again),
        ([a[::2, 1:2] + 10, a[2:] + 20, a + 30], [a[:0] + 1, a[1:2] + 2, a + 3]),
        strict=True,
    ):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_rows_of_even_layers_are_found_by_position() -> None:
    """Where every task takes as much, nothing is counted."""
    graph = parted(CALL_ROW)
    layer = graph.layers[1]
    layer.indptr, layer.arity = None, 3
    assert GraphView(graph)["b", 1, 0] == GraphView(parted(CALL_ROW))["b", 1, 0]


def test_a_box_of_no_dimensions_is_all_of_an_array() -> None:
    """It stays an array."""
    graph = blocks(())
    layer = GraphLayer("z", (), 1, CALL_INPUTS, pack_callable(abs), 1, None, [0])
    layer.slots, layer.selections = [Slot(3, 0)], np.array([], int)
    graph.add_layer(layer)
    assert GraphView(graph)["z"] == (abs, (operator.getitem, "array", Ellipsis))


def test_parts_of_a_whole_layer_are_shown_one_by_one(run: Any) -> None:
    """The part with the task's own number, and one that the table names."""
    graph = Graph()
    graph.add_layer(GraphLayer("p", (2,), 2, CALL_INPUTS, pack_callable(lambda: ["no", "yes"])))
    graph.add_layer(
        GraphLayer(
            "g",
            (2,),
            2,
            CALL_INPUTS,
            pack_callable(list_of),
            1,
            None,
            [0, 1],
            slots=[Slot(1)],
            whole=[0],
            whole_slots=[Slot(2)],
            selections=[1, 0],
        )
    )
    view = GraphView(graph)
    assert view["g", 1] == (
        list_of,
        (operator.getitem, ("p", 1), 0),
        [(operator.getitem, ("p", 0), 1), (operator.getitem, ("p", 1), 1)],
    )
    again, _ = from_dict(view, [("g", 0), ("g", 1)])
    assert run(again) == [["yes", ["no", "no"]], ["no", ["yes", "yes"]]]


def test_a_layer_taken_whole_is_shown_as_a_list() -> None:
    graph = blocks((3,))
    graph.add_layer(GraphLayer("sum", (), 1, CALL_INPUTS, pack_callable(sum), whole=[1]))
    assert GraphView(graph)["sum"] == (sum, [("x", 0), ("x", 1), ("x", 2)])


def test_layers_of_one_name_are_told_apart_by_their_shapes() -> None:
    graph = blocks((2,))
    graph.add_layer(GraphLayer("x", (2, 2), 4, 3, constants=b"", offsets=None))
    view = GraphView(graph)
    assert view["x", 1] == (operator.neg, 1)
    assert ("x", 1, 1) in view


def test_calls_of_objects_show_as_tasks() -> None:
    given = [object()]
    dsk = {
        "x": given,
        "plain": (operator.add, "x", "x"),
        "nested": (max, ["x", (len, "x")], given),
        "list": ["x", 3],
    }
    with passing_objects(True):
        graph, _ = from_dict(dsk, ["plain", "nested", "list"])
    view = GraphView(graph)
    assert view["x"] is given
    assert view["plain"] == (operator.add, "x", "x")
    assert view["nested"] == (max, ["x", (len, "x")], given)
    assert view["nested"][2] is given
    assert view["list"][1] == ["x", 3]
