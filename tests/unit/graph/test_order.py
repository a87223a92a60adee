"""Ranks go depth first and hold little, whichever way they are found."""

from __future__ import annotations

import heapq
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster.graph.order as module
from zcluster.errors import InvalidGraph
from zcluster.graph.layers import Graph, GraphLayer
from zcluster.graph.order import order_graph, ranks


def csr(rows: list[list[int]]) -> tuple[list[int], list[int]]:
    return list(accumulate(map(len, rows), initial=0)), [i for row in rows for i in row]


def most_held(rows: list[list[int]], rank: Any) -> int:
    """Run the tasks in one slot, ready ones by rank; return how many results were held at most."""
    consumers: list[list[int]] = [[] for _ in rows]
    for task, inputs in enumerate(rows):
        for i in inputs:
            consumers[i].append(task)
    waiting = list(map(len, rows))
    uses = list(map(len, consumers))
    ready = [(int(rank[task]), task) for task, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    held = most = done = 0
    while ready:
        at, task = heapq.heappop(ready)
        assert at == done, "a rank that is not topological"
        done += 1
        held += 1
        most = max(most, held)
        for i in rows[task]:
            uses[i] -= 1
            held -= not uses[i]
        for consumer in consumers[task]:
            waiting[consumer] -= 1
            if not waiting[consumer]:
                heapq.heappush(ready, (int(rank[consumer]), consumer))
    assert done == len(rows)
    return most


def tree(depth: int, by_level: bool) -> list[list[int]]:
    """Make a binary reduction: leaves first, then level by level."""
    rows: list[list[int]] = [[] for _ in range(2**depth)]
    level = list(range(2**depth))
    while len(level) > 1:
        above = []
        for a, b in zip(level[::2], level[1::2], strict=True):
            above.append(len(rows))
            rows.append([a, b] if by_level else [b, a])
        level = above
    return rows


@pytest.mark.parametrize("depth", [1, 2, 5, 10])
@pytest.mark.parametrize("by_level", [True, False])
def test_a_reduction_holds_its_depth_and_one_more(depth: int, by_level: bool) -> None:
    """Depth 10 takes the way through NumPy. The task that runs holds its own result too."""
    rows = tree(depth, by_level)
    assert most_held(rows, ranks(*csr(rows))) <= depth + 2
    plain = list(range(len(rows)))
    if depth > 2:
        assert most_held(rows, plain) > depth + 2


def test_two_branches_of_a_shared_source_are_finished_one_after_the_other() -> None:
    rows: list[list[int]] = [[]]
    ends = []
    for _ in range(2):
        before = 0
        for _ in range(5):
            rows.append([before])
            before = len(rows) - 1
        ends.append(before)
    rows.append(ends)
    assert most_held(rows, ranks(*csr(rows))) <= 3


def test_among_inputs_the_longer_way_comes_first() -> None:
    rows = [[], [], [1], [2], [0, 3]]
    assert list(ranks(*csr(rows))) == [3, 0, 1, 2, 4]


def test_two_reductions_of_the_same_data_keep_nothing_for_each_other() -> None:
    """Without that rule the second one begins when the first is done: all data is held."""
    count = 64
    rows: list[list[int]] = [[] for _ in range(count)]
    for _ in range(2):
        first = len(rows)
        rows += [[source] for source in range(count)]
        rows.append(list(range(first, first + count)))
    rank = list(ranks(*csr(rows)))
    order = sorted(range(len(rows)), key=rank.__getitem__)
    for place, task in enumerate(order):
        if task < count:  # a source, and what takes it
            assert {tuple(rows[taker]) for taker in order[place + 1 : place + 3]} == {(task,)}


@pytest.mark.parametrize("side", [6, 20])
def test_blocks_that_take_the_same_two_come_after_each_other(side: int) -> None:
    """``x + x.T``: of the sources no more than two are held, in Python and in NumPy."""
    count = side * side
    rows: list[list[int]] = [[] for _ in range(count)]
    rows += [[i * side + j, j * side + i] for i in range(side) for j in range(side)]
    for at in range(0, count, 8):
        rows.append(list(range(count + at, count + min(at + 8, count))))
    rank = list(ranks(*csr(rows)))
    held: set[int] = set()
    left = [2] * count
    most = 0
    for task in sorted(range(len(rows)), key=rank.__getitem__):
        if task < count:
            held.add(task)
            most = max(most, len(held))
        elif task < 2 * count:
            for source in rows[task]:
                left[source] -= 1
            held -= {source for source in rows[task] if not left[source]}
    assert most == 2


def depth_first(rows: list[list[int]]) -> list[int]:
    """Return the ranks of the same search without the rule that frees inputs early."""
    preference = csr_preference(rows)
    rank: dict[int, int] = {}

    def visit(task: int) -> None:
        if task not in rank:
            for source in preference[task]:
                visit(source)
            rank[task] = len(rank)

    taken = {source for row in rows for source in row}
    for task in range(len(rows)):
        if task not in taken:
            visit(task)
    return [rank[task] for task in range(len(rows))]


def csr_preference(rows: list[list[int]]) -> list[list[int]]:
    """Return the inputs of each task in the order in which the search goes down to them."""
    starts, listed = csr(rows)
    found = module._sorted_rows(starts, listed)
    return [found[a:b] for a, b in pairwise(starts)]


@st.composite
def dags(draw: st.DrawFn) -> list[list[int]]:
    rows: list[list[int]] = []
    for task in range(draw(st.integers(1, 30))):
        if task == 0:
            rows.append([])
        else:
            rows.append(draw(st.lists(st.integers(0, task - 1), max_size=3)))
    return rows


@st.composite
def forests(draw: st.DrawFn) -> list[list[int]]:
    count = draw(st.integers(1, 40))
    rows: list[list[int]] = [[] for _ in range(count)]
    for task in range(count):
        parent = draw(st.integers(task, count))
        if task < parent < count:
            rows[parent].append(task)
    return rows


@settings(deadline=None)
@given(rows=st.one_of(dags(), forests()))
def test_numpy_and_python_find_the_same_ranks(rows: list[list[int]]) -> None:
    plain = list(ranks(*csr(rows)))
    assert sorted(plain) == list(range(len(rows)))
    assert all(plain[i] < plain[task] for task, row in enumerate(rows) for i in row)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "is_bulk", lambda count: True)
        assert list(ranks(*csr(rows))) == plain  # level by level only where that pays
        patch.setattr(module, "_LEVEL_COST", 0)
        assert list(ranks(*csr(rows))) == plain


@settings(deadline=None)
@given(rows=dags())
def test_to_free_inputs_early_never_holds_more(rows: list[list[int]]) -> None:
    assert most_held(rows, ranks(*csr(rows))) <= most_held(rows, depth_first(rows))


@pytest.mark.parametrize("bulk", [False, True])
def test_imports_do_not_count(bulk: bool) -> None:
    count = 500 if bulk else 5
    rows = [[-1, task - 1] if task else [-1] for task in range(count)]
    assert list(ranks(*csr(rows))) == list(range(count))


def test_an_input_that_does_not_come_before_is_refused() -> None:
    rows: list[list[int]] = [[] for _ in range(300)]
    rows[7] = [8]
    with pytest.raises(InvalidGraph, match="task 7 takes task 8"):
        ranks(*csr(rows))


@pytest.mark.parametrize("blocks", [4, 400])
@pytest.mark.parametrize("arrays", [False, True])
def test_the_layers_of_a_graph_get_their_orders(blocks: int, arrays: bool) -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("x", (blocks,), blocks, 0))
    indices: Any = np.arange(blocks) if arrays else list(range(blocks))
    graph.add_layer(
        GraphLayer(
            "y", (blocks,), blocks, 0, None, 1, None, np.array(indices) if arrays else indices
        )
    )
    order_graph(graph)
    x, y = graph.layers
    assert x.orders is not None
    assert y.orders is not None
    assert [int(rank) for rank in x.orders] == list(range(0, 2 * blocks, 2))
    assert [int(rank) for rank in y.orders] == list(range(1, 2 * blocks, 2))


def test_orders_that_equal_the_numbers_are_left_out() -> None:
    for count in (5, 500):
        graph = Graph()
        graph.add_layer(GraphLayer("x", (), 1, 0))
        graph.add_layer(GraphLayer("y", (count,), count, 0, None, 1, None, list(range(count))))
        order_graph(graph)
        assert [layer.orders for layer in graph.layers] == [None, None]


def test_a_layer_taken_whole_comes_before_its_takers() -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("split", (3,), 3, 0))
    graph.add_layer(GraphLayer("gather", (3,), 3, 0, whole=[0]))
    graph.add_layer(GraphLayer("use", (3,), 3, 0, None, 1, None, [3, 4, 5]))
    order_graph(graph)
    assert graph.layers[0].orders is None
    # The last one that takes the layer runs as soon as it is the only one: the layer goes then.
    assert list(graph.layers[1].orders or ()) == [3, 5, 6]
    assert list(graph.layers[2].orders or ()) == [4, 7, 8]
