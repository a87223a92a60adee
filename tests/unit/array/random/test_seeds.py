"""Seeds are what users give as such, and keys of draws are all different."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.array.random.seeds import Seed, as_seed
from zcluster.errors import InvalidArgument


def test_a_key_is_the_same_everywhere() -> None:
    """Its words are SeedSequence's, which NumPy keeps as they are from release to release."""
    assert Seed(5).key(0) == (2407271889233513904, 13516462294678083079)
    assert Seed((1, 2), (3,)).key(4) == (10519360421073801730, 8568414931009886256)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**130), st.lists(st.integers(0, 9)), st.integers(0, 2**40)),
        unique_by=lambda one: (one[0], tuple(one[1]), one[2]),
        min_size=2,
        max_size=6,
    )
)
def test_no_two_draws_have_one_key(draws: list[tuple[int, list[int], int]]) -> None:
    """Neither of one seed nor of several, spawned ones included."""
    keys = set()
    for entropy, spawned, draw in draws:
        seed = Seed(entropy)
        for number in spawned:
            seed = seed.spawned(number)
        keys.add(seed.key(draw))
    assert len(keys) == len(draws)


def test_what_may_be_a_seed() -> None:
    """Numbers of any kind, several, and a SeedSequence with its place among its siblings."""
    assert as_seed(5) == as_seed(np.int8(5)) == as_seed(np.array(5)) == Seed(5)
    assert as_seed([1, 2]) == as_seed(np.array([1, 2])) == as_seed((1, 2)) == Seed((1, 2))
    assert as_seed(np.random.SeedSequence(5).spawn(2)[1]) == Seed(5, (1,))
    assert as_seed(np.random.SeedSequence([5, 6])) == Seed((5, 6))


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.random.default_rng(5),
        lambda: np.random.RandomState(5),
        lambda: np.random.PCG64(5),
    ],
)
def test_a_generator_of_numpy_gives_a_seed_and_moves_on(make: Any) -> None:
    """The same one in the same state gives the same seed; used again it gives another."""
    generator = make()
    first = as_seed(generator)
    assert first == as_seed(make())
    assert first != as_seed(generator)


def test_none_is_another_seed_each_time() -> None:
    """128 bits of the system's do not meet twice."""
    assert as_seed() != as_seed()


@pytest.mark.parametrize("value", [-1, [1, -2]])
def test_a_seed_below_zero_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected 0 or more"):
        as_seed(value)


@pytest.mark.parametrize("value", ["5", 5.0, [1.5]])
def test_what_is_no_seed_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="expected None, an integer"):
        as_seed(value)
