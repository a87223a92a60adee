"""Generators count their draws; equal ones draw equal arrays."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import zcluster.array.random.generators as module
from zcluster.array.core import Array, from_numpy
from zcluster.array.random import Generator, RandomState, default_rng
from zcluster.array.random.generators import SharedState
from zcluster.array.random.seeds import as_seed
from zcluster.errors import InvalidArgument
from zcluster.protocol.tokens import tokenize


def computed(array: Array) -> Any:
    return array.compute(scheduler="sync")


def test_equal_generators_draw_equal_arrays_and_names() -> None:
    """One after the other different ones; another shape or chunks are other names."""
    one, other = default_rng(5), default_rng(5)
    first, second = one.random((4, 5)), one.random((4, 5))
    assert first.name == other.random((4, 5)).name
    assert second.name == other.random((4, 5)).name
    assert first.name != second.name
    assert not np.array_equal(computed(first), computed(second))
    assert np.array_equal(computed(first), computed(first))
    assert default_rng(5).random((4, 5), chunks=2).name != first.name
    assert default_rng().random(3).name != default_rng().random(3).name


def test_the_same_array_is_the_same_on_both_sides() -> None:
    """However its blocks fall together with those of its transpose."""
    x = default_rng(5).random((30, 30), chunks=(7, 30))
    found = computed(x + x.T)
    assert np.array_equal(found, found.T)
    assert np.array_equal(found, computed(x) + computed(x).T)


def test_a_generator_is_its_own_default() -> None:
    generator = default_rng(5)
    assert default_rng(generator) is generator
    assert isinstance(generator, Generator)


@pytest.mark.parametrize("make", [Generator, RandomState])
def test_a_copy_goes_on_where_the_original_was(make: Any) -> None:
    """As it does for NumPy's."""
    original = make(5)
    original.normal(size=3)
    copies = [copy.copy(original), pickle.loads(pickle.dumps(original))]
    token = tokenize(original)
    expected = original.normal(size=3).name
    for one in copies:
        assert tokenize(one) == token
        assert one.normal(size=3).name == expected
    assert tokenize(original) != token
    assert repr(original) == f"<{make.__name__} after 2 draws>"


def test_threads_draw_different_arrays() -> None:
    generator = default_rng(5)
    names: list[str] = []

    def draw() -> None:
        names.extend(generator.random(3).name for _ in range(50))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 200


def test_children_differ_from_each_other_and_from_their_parent() -> None:
    generator = default_rng(5)
    children = generator.spawn(3) + generator.spawn(2)
    again = default_rng(5).spawn(3)
    names = [one.random(3).name for one in (generator, *children, *children[0].spawn(2))]
    assert len(set(names)) == 8
    assert [one.random(3).name for one in again] == names[1:4]
    with pytest.raises(InvalidArgument, match="expected 0 or more"):
        generator.spawn(-1)


# RandomState --------------------------------------------------------------------------------------


def test_an_old_state_begins_anew_with_a_seed() -> None:
    state = RandomState(5)
    first = state.rand(3, 4)
    assert first.shape == (3, 4)
    state.seed(5)
    assert state.random_sample((3, 4)).name == first.name
    saved = state.get_state()
    second = state.randn(2, chunks=1).name
    state.set_state(saved)
    assert state.randn(2, chunks=1).name == second
    with pytest.raises(InvalidArgument, match="get_state"):
        state.set_state({"entropy": 5})


def test_the_old_names_of_integers() -> None:
    """With their own ideas of the ends."""
    state = RandomState(5)
    assert set(computed(state.randint(3, size=300, chunks=70)).tolist()) == {0, 1, 2}
    assert set(computed(state.randint(3, 5, 300)).tolist()) == {3, 4}
    assert computed(state.randint(0, 9, 5, dtype="i1")).dtype == np.int8
    assert set(computed(state.random_integers(3, size=300)).tolist()) == {1, 2, 3}
    assert set(computed(state.random_integers(3, 4, 300)).tolist()) == {3, 4}
    assert computed(state.tomaxint(100)).max() > 2**62


@pytest.mark.parametrize(
    "name", ["random", "ranf", "sample", "random_sample", "standard_normal", "standard_exponential"]
)
def test_old_names_take_size_and_chunks(name: str) -> None:
    array = getattr(RandomState(5), name)((5, 4), 2)
    assert array.chunks == ((2, 2, 1), (2, 2))
    assert np.array_equal(computed(array), computed(getattr(RandomState(5), name)((5, 4))))
    assert computed(RandomState(5).standard_gamma(2.0, 5, 2)).shape == (5,)


def test_the_shared_state_takes_a_seed_when_it_is_first_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever use that is; once."""
    seeds = iter([7, 8, 9])
    monkeypatch.setattr(module, "as_seed", lambda *given: as_seed(*(given or (next(seeds),))))
    drawing, saving, copied, restored = (SharedState() for _ in range(4))
    assert drawing.normal(size=3).name == RandomState(7).normal(size=3).name
    assert drawing.get_state()["entropy"] == 7
    assert saving.get_state()["entropy"] == 8
    assert pickle.loads(pickle.dumps(copied)).get_state()["entropy"] == 9
    restored.set_state(saving.get_state())
    assert restored.get_state() == saving.get_state()
    fresh = SharedState()
    fresh.seed(5)
    assert fresh.get_state() == RandomState(5).get_state()


# Items --------------------------------------------------------------------------------------------

both = pytest.mark.parametrize("make", [Generator, RandomState])


@both
def test_items_are_drawn_with_their_probabilities(make: Any) -> None:
    """Numbers, items of a list, and of a lazy array, in any chunks."""
    p = [0.5, 0.0, 0.3, 0.2]
    values = np.array([10, 20, 30, 40])
    for given in (None, p):
        places = computed(make(5).choice(4, (60, 50), p=given))
        counts = np.bincount(places.reshape(-1), minlength=4)
        expected = 3000 * np.array(given or [0.25] * 4)
        assert (np.abs(counts - expected) <= 4 * np.sqrt(expected)).all()
        for items in (values, values.tolist(), from_numpy(values, 2)):
            array = make(5).choice(items, (60, 50), p=given, chunks=(17, 50))
            assert array.dtype == np.int64
            assert np.array_equal(computed(array), values[places])


@both
def test_items_are_drawn_once_each_without_replacement(make: Any) -> None:
    found = computed(make(5).choice(100, (9, 11), replace=False, chunks=4))
    assert len(np.unique(found)) == 99
    assert np.array_equal(found, computed(make(5).choice(100, (9, 11), replace=False)))
    text = np.array(list("abcdef"))
    drawn = computed(make(5).choice(text, 6, replace=False, chunks=4))
    assert sorted(drawn.tolist()) == list("abcdef")
    weighted = make(5).choice(text, 2, replace=False, p=[0, 0, 0.1, 0, 0.9, 0], chunks=1)
    assert set(computed(weighted).tolist()) == {"c", "e"}


def test_many_items_are_drawn_without_any_block_holding_all() -> None:
    """Of a billion: places are computed."""
    array = default_rng(5).choice(10**9, 5000, replace=False, chunks=1000)
    found = computed(array)
    assert len(np.unique(found)) == 5000
    assert 0 <= found.min() < 10**6
    assert 10**9 - 10**6 < found.max() < 10**9


def test_one_item() -> None:
    assert computed(default_rng(5).choice(["a"])) == "a"
    assert computed(default_rng(5).choice(1, replace=False)) == 0
    assert computed(default_rng(5).choice(0, 0)).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"a": 3, "size": 5, "replace": False}, "there are 3: draw fewer"),
        ({"a": 3, "size": 2, "replace": False, "p": [1, 0, 0]}, "there are 1 that p allows"),
        ({"a": 3, "size": 2, "p": [0.5, 0.5]}, "same size"),
        ({"a": 3, "size": 2, "p": [0.5, 0.5, 0.5]}, "do not sum to 1"),
        ({"a": 3, "size": 2, "p": [1.5, -0.5, 0]}, "not non-negative"),
        ({"a": 0, "size": 2}, "no items"),
        ({"a": -1, "size": 2}, "expected 0 or more"),
    ],
)
def test_wrong_choices_are_refused_at_the_call(arguments: Any, match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        default_rng(5).choice(**arguments)


def test_choices_of_rows_name_the_way_round() -> None:
    with pytest.raises(NotImplementedError, match="choose places"):
        default_rng(5).choice(np.eye(3), 2)
    with pytest.raises(np.exceptions.AxisError):
        default_rng(5).choice(np.arange(3), 2, axis=1)


@both
def test_numbers_and_rows_are_permuted(make: Any) -> None:
    """Numbers, what NumPy has, and lazy arrays, whose chunks stay."""
    numbers = computed(make(5).permutation(50, chunks=7))
    assert sorted(numbers.tolist()) == list(range(50))
    assert np.array_equal(numbers, computed(make(5).permutation(50)))
    table = np.arange(100).reshape(50, 2)
    lazy = make(5).permutation(from_numpy(table, (7, 1)))
    assert np.array_equal(computed(lazy), table[numbers])
    assert np.array_equal(computed(make(5).permutation(table)), table[numbers])
    assert np.array_equal(computed(make(5).permutation(table.tolist(), chunks=8)), table[numbers])
    with pytest.raises(InvalidArgument, match="expected 0 or more"):
        make(5).permutation(-1)


def test_other_axes_are_permuted() -> None:
    table = np.arange(12).reshape(3, 4)
    for items in (table, from_numpy(table, 2)):
        found = computed(default_rng(5).permutation(items, axis=-1))
        assert sorted(found[0].tolist()) == [0, 1, 2, 3]
        assert np.array_equal(found - found[:1], table - table[:1])
        with pytest.raises(np.exceptions.AxisError):
            default_rng(5).permutation(items, axis=2)


def test_what_is_not_done_names_the_way_round() -> None:
    generator = default_rng(5)
    with pytest.raises(NotImplementedError, match="permutation"):
        generator.permuted(np.eye(3))
    with pytest.raises(NotImplementedError, match="use the array that is returned"):
        generator.random(3, out=np.empty(3))
