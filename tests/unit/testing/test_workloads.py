"""Graphs drawn by chance: of the size that was asked for, each task with its model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.graph.lowering import slices
from zcluster.testing.model import Model
from zcluster.testing.workloads import SHAPES, Mix, data_graph, draw_graph, draw_size

RICH = Mix(
    names=("s", "b", "p", "u"),
    failing=0.1,
    needy=0.3,
    shared=0.3,
    restricted=0.3,
    limited=0.2,
    once=0.2,
    actors=0.2,
    aliases=0.2,
)


@given(seed=st.integers(0, 2**32), size=st.integers(3, 300), shape=st.sampled_from(SHAPES))
def test_a_graph_has_the_size_asked_for_and_can_be_sent(seed: int, size: int, shape: str) -> None:
    drawn = draw_graph(random.Random(seed), Mix(shapes=(shape,)), size, [5, 6])
    assert drawn.graph.count == len(drawn.specs)
    assert size <= drawn.graph.count + 1 <= size + 2
    assert sum(message.count for message, _ in slices(drawn.graph, 100, [5, 6])) == (
        drawn.graph.count
    )


@given(seed=st.integers(0, 2**32))
def test_every_task_has_a_value_or_a_reason(seed: int) -> None:
    chance = random.Random(seed)
    model = Model()
    numbers = iter(range(10**6))
    first = 0
    for _ in range(3):
        known = [task for task in model.specs if chance.random() < 0.1]
        drawn = draw_graph(chance, RICH, draw_size(chance, 3, 100), known, ["n0"], numbers.__next__)
        for task, spec in drawn.placed(first):
            model.add(task, spec)
        first += drawn.graph.count
    for task in range(first):
        assert isinstance(model.value(task), bytes) or model.value(task) in (
            "task",
            "killed",
            "input",
        )
    for tasks in model.sharers.values():
        assert len({model.value(task) for task in tasks}) == 1


def test_equal_seeds_draw_equal_graphs() -> None:
    one, two = (draw_graph(random.Random(3), RICH, 50) for _ in range(2))
    assert one.specs == two.specs
    assert [layer.options for layer in one.graph.layers] == [
        layer.options for layer in two.graph.layers
    ]


@pytest.mark.parametrize("count", [1, 3])
def test_data_tasks_are_all_wanted(count: int) -> None:
    assert data_graph(count).outputs == [(0, count)]


def test_most_mixes_are_without_most_kinds_of_trouble() -> None:
    mixes = [Mix.draw(random.Random(seed)) for seed in range(200)]
    for name in ("needy", "limited", "once", "actors"):
        assert 20 < sum(getattr(mix, name) > 0 for mix in mixes) < 100, name
