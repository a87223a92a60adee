"""Orders are permutations, each part of them can be asked for, and they look random."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster.array.random.permutations as module
from zcluster.array.random.permutations import (
    Order,
    WeightedOrder,
    permuted_places,
    weighted_places,
)

KEY = (3, 4)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few items, too, places are computed and no order is drawn."""
    monkeypatch.setattr(module, "_FEW", 3)


@given(st.integers(0, 300), st.integers(0, 2**64 - 1), st.sampled_from([3, 1000]))
def test_every_item_stands_once(count: int, key: int, few: int) -> None:
    """Whether the order is drawn or computed."""
    before, module._FEW = module._FEW, few
    try:
        order = permuted_places(np.arange(count), count, (key, 1))
    finally:
        module._FEW = before
    assert sorted(order.tolist()) == list(range(count))


@pytest.mark.parametrize("count", [65_536, 65_537, 100_000, 131_073])
def test_many_items_stand_once_each(count: int) -> None:
    """The counts at which drawing ends, and at which a number more has a bit more."""
    order = permuted_places(np.arange(count), count, KEY)
    assert np.array_equal(np.sort(order), np.arange(count))


@pytest.mark.parametrize("few", [3, 65_536])
def test_any_part_is_the_same_as_in_the_whole(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEW", few)
    whole = Order(120, KEY, (10, 12))((0, 0), (10, 12))
    assert sorted(whole.reshape(-1).tolist()) == list(range(120))
    assert np.array_equal(Order(120, KEY, (10, 12))((3, 5), (4, 2)), whole[3:7, 5:7])
    assert Order(5, KEY, ())((), ()).shape == ()


@pytest.mark.usefixtures("network")
def test_computed_orders_of_four_are_about_as_frequent_as_each_other() -> None:
    """All 24 of them: the worst case for a network, whose halves have one bit each."""
    rounds = 1200
    seen = Counter(
        tuple(permuted_places(np.arange(4), 4, (key, 9)).tolist()) for key in range(rounds)
    )
    expected = rounds / 24
    assert len(seen) == 24
    assert sum((times - expected) ** 2 / expected for times in seen.values()) < 23 + 5 * 46**0.5


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("count", [1000, 70_000])
def test_computed_orders_have_no_pattern(count: int) -> None:
    """What stands at a place has to do neither with the place nor with its neighbours."""
    order = permuted_places(np.arange(count), count, KEY).astype(float)
    order -= order.mean()
    order /= order.std()
    place = np.linspace(-math.sqrt(3), math.sqrt(3), count)
    for one, other in [(order, place), (order[1:], order[:-1]), (order[2:], order[:-2])]:
        assert abs((one * other).sum()) < 4 * math.sqrt(count)
    fixed = (permuted_places(np.arange(count), count, (5, 6)) == np.arange(count)).sum()
    assert fixed < 8  # one is expected


@settings(max_examples=50)
@given(st.data())
def test_items_with_weights_are_drawn_once_each(data: Any) -> None:
    """Those without weight are not drawn."""
    weights = np.array(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=30)), float)
    most = int(np.count_nonzero(weights))
    count = data.draw(st.integers(0, most))
    if count:
        drawn = weighted_places(np.arange(count), weights, count, KEY).tolist()
        assert len(set(drawn)) == count
        assert weights[drawn].all()
    assert WeightedOrder(weights, KEY, (count,))((0,), (count,)).shape == (count,)


def test_the_first_and_second_drawn_have_the_right_shares() -> None:
    """The first by weight, the second by weight among those that are left."""
    weights = np.array([1.0, 2.0, 3.0])
    rounds = 4000
    seen = Counter(
        tuple(weighted_places(np.arange(2), weights, 2, (key, 9)).tolist()) for key in range(rounds)
    )
    for (first, second), times in seen.items():
        share = weights[first] / 6 * weights[second] / (6 - weights[first])
        assert abs(times - rounds * share) < 4 * math.sqrt(rounds * share)
