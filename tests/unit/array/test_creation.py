"""Arrays made of nothing: the values of NumPy's, in any chunks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import creation as c
from zcluster.array.core import Array, from_numpy
from zcluster.array.restating import Restated

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=15, deadline=None)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


@pytest.mark.proves(
    "array.ones",
    "array.zeros",
    "array.empty",
    "array.full",
    "array.ones_like",
    "array.zeros_like",
    "array.empty_like",
    "array.full_like",
)
@given(data=st.data())
@FAST
def test_constants(data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
    """Of any shape, dtype and chunks, given or taken from another array."""
    a, chunks = data.draw(arrays(nan=False))
    dtype = data.draw(st.sampled_from([None, "f4", "i2", "?", "c16"]))
    agrees(c.ones(a.shape, dtype, chunks=chunks), np.ones(a.shape, dtype or float))
    agrees(c.zeros(a.shape, dtype, chunks=chunks), np.zeros(a.shape, dtype or float))
    assert c.empty(a.shape, dtype, chunks=chunks).compute(scheduler="sync").shape == a.shape
    value = data.draw(st.sampled_from([1, 2.5, True, 1j, np.float32(3), np.int8(4), "ab"]))
    if a.ndim:  # NumPy's scalars of strings have other dtypes than its arrays
        agrees(c.full(a.shape, value, chunks=chunks), np.full(a.shape, value))
    x = from_numpy(a, chunks)
    agrees(c.ones_like(x, dtype), np.ones_like(a, dtype))
    agrees(c.zeros_like(x), np.zeros_like(a))
    agrees(c.full_like(x, 1, dtype), np.full_like(a, 1, dtype))
    assert c.zeros_like(x).chunks == x.chunks
    assert c.empty_like(x, shape=(2, 3)).shape == (2, 3)
    agrees(c.zeros_like([[1, 2]], shape=3), np.zeros(3, int))


def test_constants_of_dates_and_text(agrees: Agrees) -> None:
    """Dtypes that are no numbers."""
    agrees(c.zeros(3, "M8[D]"), np.zeros(3, "M8[D]"))
    agrees(
        c.full(2, np.datetime64("2020-01-02"), chunks=1), np.full(2, np.datetime64("2020-01-02"))
    )
    agrees(c.ones(2, meta=np.ones(1, "i4")), np.ones(2, "i4"))


def test_full_of_an_array(agrees: Agrees) -> None:
    """It is broadcast, lazy or not."""
    agrees(c.full((2, 3), [1, 2, 3], chunks=2), np.full((2, 3), [1, 2, 3]))
    agrees(c.full((2, 3), from_numpy(np.array(7)), "f4"), np.full((2, 3), 7, "f4"))


def test_like_an_array_of_unknown_lengths() -> None:
    """Its blocks say how long they are."""
    x = from_numpy(np.arange(5), 2)
    hidden = Array(Restated(x.expr, ((math.nan,) * 3,)))
    found = c.full_like(hidden, 7, "f4").compute(scheduler="sync")
    np.testing.assert_array_equal(found, np.full(5, 7, "f4"))


def test_constants_are_made_where_they_are_used() -> None:
    """A sum of two constants is a task for each block, and a slice makes what it needs."""
    x = c.ones((8, 8), chunks=2) + c.full((8, 8), 2, chunks=2)
    assert len(x.dask) == 16
    assert len(x[:2, :2].dask) == 1
    assert c.ones(3).name == c.ones(3).name != c.ones(4).name


@pytest.mark.parametrize(
    ("shape", "error"), [(-1, ValueError), ((2, -3), ValueError), (1.5, TypeError)]
)
def test_shapes_that_cannot_be(shape: Any, error: type[Exception]) -> None:
    """At the call."""
    with pytest.raises(error):
        c.ones(shape)


@pytest.mark.proves("array.indices", "array.meshgrid")
@given(data=st.data())
@FAST
def test_grids(data: st.DataObject, agrees: Agrees) -> None:
    """Places of a grid, of any number of axes."""
    shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    dtype = data.draw(st.sampled_from([int, "f4"]))
    agrees(c.indices(shape, dtype, chunks=2), np.indices(shape, dtype))
    for found, expected in zip(
        c.indices(shape, sparse=True, chunks=2), np.indices(shape, sparse=True), strict=True
    ):
        agrees(found, expected)
    along = [np.arange(n) * 1.5 for n in shape]
    sparse, indexing = data.draw(st.booleans()), data.draw(st.sampled_from(["xy", "ij"]))
    for found, expected in zip(
        c.meshgrid(*[from_numpy(one, 2) for one in along], sparse=sparse, indexing=indexing),
        np.meshgrid(*along, sparse=sparse, indexing=indexing),
        strict=True,
    ):
        agrees(found, expected)


def test_grids_of_nothing(agrees: Agrees) -> None:
    """No axes at all; and an indexing that there is not."""
    agrees(c.indices(()), np.indices(()))
    assert c.meshgrid() == ()
    with pytest.raises(ValueError, match="indexing"):
        c.meshgrid([1], indexing="no")


@pytest.mark.proves("array.fromfunction")
def test_fromfunction(agrees: Agrees) -> None:
    """Of places of a dtype, with keywords; a constant is spread."""
    agrees(
        c.fromfunction(lambda i, j, k: i * k + j, (3, 4), chunks=2, k=10),
        np.fromfunction(lambda i, j: i * 10 + j, (3, 4)),
    )
    agrees(
        c.fromfunction(lambda i: i == 1, 3, dtype=int),
        np.fromfunction(lambda i: i == 1, (3,), dtype=int),
    )
    agrees(c.fromfunction(lambda i: 7, (3,), chunks=2), np.full(3, 7))


def test_from_map() -> None:
    """A function of where blocks are; what it returns must fit."""
    x = c.from_map(lambda start, shape: np.full(shape, start), (4,), dtype=int, chunks=(1, 3))
    np.testing.assert_array_equal(x.compute(scheduler="sync"), [0, 1, 1, 1])
    wrong = c.from_map(lambda start, shape: np.ones(1), (4,), dtype=float, name="wrong")
    with pytest.raises(ValueError, match="expected \\(4,\\)"):
        wrong.compute(scheduler="sync")
