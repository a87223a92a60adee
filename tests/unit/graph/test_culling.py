"""Culling keeps what the wanted tasks need: against a search of the graph, one task at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zcluster.graph.culling import cull
from zcluster.graph.layers import Graph, GraphLayer, HeldLayer
from zcluster.protocol.calls import CALL_INPUTS, CALL_ROW
from zcluster.protocol.messages import Slot


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, list[int]]:
    """Layers of tasks that take earlier tasks and imports, some with constants and selections."""
    graph = Graph()
    imports = [object() for _ in range(3)]
    for entry in imports:
        graph.add_import(entry)
    for number in range(draw(st.integers(1, 5))):
        count = draw(st.integers(1, 6))
        rows = []
        for position in range(count):
            latest = graph.count + (position if draw(st.booleans()) else 0)
            rows.append(draw(st.lists(st.integers(-3, latest - 1), max_size=3)))
        indptr = np.cumsum([0, *map(len, rows)])
        has_rows, has_slots = draw(st.booleans()), draw(st.booleans())
        edges = int(indptr[-1])
        constants = b"".join(bytes([number, p]) * p for p in range(count))
        graph.add_layer(
            GraphLayer(
                f"l{number}",
                (count,),
                count,
                CALL_ROW if has_rows else CALL_INPUTS,
                None,
                -1,
                indptr,
                np.array([i for row in rows for i in row], np.int64),
                constants=constants if has_rows else b"",
                offsets=np.cumsum([0, *[2 * p for p in range(count)]]) if has_rows else None,
                slots=[Slot(1)] if has_slots else [],
                selections=np.arange(edges) + 100 * number if has_slots else None,
                objects=HeldLayer(max),
            )
        )
    wanted = draw(st.lists(st.integers(0, graph.count - 1), min_size=1, max_size=4))
    return graph, wanted


def described(graph: Graph) -> dict[str, tuple[object, ...]]:
    """Say of each task, by key, what it takes: keys, imports, its constant and its selections."""
    said: dict[str, tuple[object, ...]] = {}
    for layer in graph.layers:
        row = 0
        for position in range(layer.count):
            inputs = layer.inputs(position)
            taken = tuple(str(graph.key(i)) if i >= 0 else graph.imports[~i] for i in inputs)
            constant = layer.constant(position)
            parts: tuple[int, ...] = ()
            if layer.selections is not None:
                parts = tuple(int(n) for n in layer.selections[row : row + len(inputs)])
                row += len(inputs)
            said[str(layer.key(position))] = (
                taken,
                None if constant is None else bytes(constant),
                parts,
            )
    return said


def sources(entry: tuple[object, ...]) -> list[str]:
    """Return the keys among what a task takes."""
    assert isinstance(entry[0], tuple)  # by `described`
    return [other for other in entry[0] if isinstance(other, str)]


@given(graphs())
def test_what_is_left_is_what_the_wanted_tasks_need(drawn: tuple[Graph, list[int]]) -> None:
    graph, wanted = drawn
    before = described(graph)
    names = [str(graph.key(task)) for task in range(graph.count)]
    needed: set[str] = set()
    stack = [names[task] for task in wanted]
    while stack:
        name = stack.pop()
        if name not in needed:
            needed.add(name)
            stack += sources(before[name])
    culled, numbers = cull(graph, wanted)
    assert described(culled) == {name: before[name] for name in needed}
    for task, name in enumerate(names):
        assert (numbers[task] >= 0) == (name in needed)
        if name in needed:
            assert str(culled.key(int(numbers[task]))) == name
    taken = {i for layer in culled.layers for i in np.asarray(layer.indices).tolist() if i < 0}
    if culled is not graph:
        assert len(culled.imports) == len(taken), "an import that nobody takes was kept"


def test_a_graph_that_is_needed_is_left_as_it_is() -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("x", (2,), 2, CALL_INPUTS))
    culled, numbers = cull(graph, [0, 1])
    assert culled is graph
    assert numbers.tolist() == [0, 1]


def test_all_of_a_layer_is_kept_for_those_who_take_it() -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("other", (2,), 2, CALL_INPUTS))
    graph.add_layer(GraphLayer("x", (3,), 3, CALL_INPUTS))
    graph.add_layer(GraphLayer("all", (2,), 2, CALL_INPUTS, whole=[1], whole_slots=[Slot()]))
    culled, numbers = cull(graph, [6])
    assert numbers.tolist() == [-1, -1, 0, 1, 2, -1, 3]
    assert [layer.name for layer in culled.layers] == ["x", "all"]
    assert culled.layers[1].whole == [0]


def test_many_tasks_left_of_a_layer_are_numbered_anew() -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("x", (3000,), 3000, CALL_INPUTS))
    culled, _ = cull(graph, np.arange(0, 3000, 2))
    assert culled.key(7) == ("x", 7)
