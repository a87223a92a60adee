"""The module has NumPy's names, and its functions share one state."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from zcluster.array import random

# What is not here, and why.
ABSENT = {"bit_generator"}  # there is not one: each cell of an array has its own


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Other tests find the shared state as it was."""
    before = random.get_state()
    yield
    random.set_state(before)


def test_every_name_of_numpy_is_here() -> None:
    """Of the module, and of both classes; the newer functions that share the state as well."""
    assert set(np.random.__all__) <= set(random.__all__) <= set(dir(random))
    for ours, theirs in [
        (random.Generator, np.random.Generator),
        (random.RandomState, np.random.RandomState),
    ]:
        names = {name for name in dir(theirs) if not name.startswith("_")}
        assert names - set(dir(ours)) <= ABSENT
    assert random.integers.__doc__
    for name in random.__all__:
        assert getattr(random, name).__doc__, name


def test_functions_share_a_state_that_a_seed_begins_anew() -> None:
    random.seed(7)
    first = [random.normal(size=3).name, random.random(3).name, random.integers(9, size=3).name]
    random.seed(7)
    again = [random.normal(size=3).name, random.random(3).name, random.integers(9, size=3).name]
    assert first == again
    assert len(set(first)) == 3
    random.seed()
    assert random.normal(size=3).name not in first


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("random", lambda: random.random(20, chunks=5)),
        ("random", lambda: random.random(size=(15, 15), chunks=(10, 5))),
        ("uniform", lambda: random.uniform(low=0.0, high=1.0, size=(62, 2), chunks=31)),
    ],
)
def test_the_calls_that_everybody_writes(name: str, array: object) -> None:
    """A size that is a number or several, and chunks that are longer than an axis."""
    made = array()  # type: ignore[operator]
    assert made.name.startswith(f"{name}-")
    assert made.dtype == np.float64
    found = made.compute(scheduler="sync")
    assert found.shape == made.shape
    assert 0 <= found.min() < found.max() < 1
    assert np.array_equal(found, made.compute(scheduler="sync"))


def test_pi_comes_out_within_four_sigma() -> None:
    """Of 625,000 points; the lengths of blocks are those of a well-known example."""
    random.seed(0)
    points = random.uniform(low=0.0, high=1.0, size=(625_000, 2), chunks=31_250)
    assert points.chunks == ((31_250,) * 20, (2,))
    found = points.compute(scheduler="sync")
    pi = 4 * ((found**2).sum(axis=1) < 1).mean()
    assert abs(pi - math.pi) < 4 * math.sqrt(math.pi * (4 - math.pi) / 625_000)
