"""Diagonals and triangles are NumPy's, on any diagonal and in any chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import triangles as t
from zcluster.array.core import from_numpy

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=18, deadline=None)

Agrees = Callable[..., None]


@pytest.mark.proves(
    "array.eye",
    "array.identity",
    "array.tri",
    "array.tril_indices",
    "array.triu_indices",
    "array.tril_indices_from",
    "array.triu_indices_from",
)
@given(data=st.data())
@FAST
def test_made_of_nothing(data: st.DataObject, chunked: Any, agrees: Agrees) -> None:
    """Of any lengths, wide and high."""
    rows, columns = data.draw(st.tuples(st.integers(0, 7), st.integers(0, 7)))
    k = data.draw(st.integers(-8, 8))
    chunks = (data.draw(chunked(rows)), data.draw(chunked(columns)))
    agrees(t.eye(rows, columns, k, chunks=chunks), np.eye(rows, columns, k))
    agrees(t.tri(rows, columns, k, "f4", chunks=chunks), np.tri(rows, columns, k, "f4"))
    agrees(t.identity(rows, int, chunks=2), np.identity(rows, int))
    a = np.ones((rows, columns))
    for name in ("tril_indices", "triu_indices"):
        pairs = zip(
            (*getattr(t, name)(rows, k, columns, chunks=3), *getattr(t, f"{name}_from")(a, k)),
            (*getattr(np, name)(rows, k, columns), *getattr(np, f"{name}_from")(a, k)),
            strict=True,
        )
        for found, expected in pairs:
            agrees(found, expected)


@pytest.mark.proves(
    "array.tril", "array.triu", "array.diag", "array.diagonal", "array.Array.diagonal"
)
@given(data=st.data())
@FAST
def test_of_an_array(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Of any two axes of several."""
    a, chunks = data.draw(arrays(ndim=(2, 3), length=(0, 5), dtypes=("i8", "f4", "?")))
    x = from_numpy(a, chunks)
    k = data.draw(st.integers(-5, 5))
    agrees(t.tril(x, k), np.tril(a, k))
    agrees(t.triu(x, k), np.triu(a, k))
    first, second = data.draw(st.permutations(range(a.ndim)))[:2]
    agrees(x.diagonal(k, first, second), a.diagonal(k, first, second))
    if a.ndim == 2:
        agrees(t.diag(x, k), np.diag(a, k))


@pytest.mark.proves("array.diagflat", "array.vander")
@given(data=st.data())
@FAST
def test_of_a_line(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Of an array of one axis."""
    a, chunks = data.draw(arrays(ndim=(1, 1), length=(1, 6), dtypes=("i8", "f4")))
    x = from_numpy(a, chunks)
    k = data.draw(st.integers(-5, 5))
    agrees(t.diag(x, k), np.diag(a, k))
    agrees(t.diagflat(x, k), np.diagflat(a, k))
    agrees(t.tril(x, k), np.tril(a, k))
    agrees(t.vander(x), np.vander(a))
    columns, grows = data.draw(st.integers(0, 4)), data.draw(st.booleans())
    agrees(t.vander(x, columns, increasing=grows), np.vander(a, columns, increasing=grows))


def test_only_blocks_on_the_diagonal_are_made() -> None:
    """Blocks beside it are not even computed."""
    x = from_numpy(np.ones((8, 8)), 2)
    assert len(t.diagonal(x + 1).dask) <= 1 + 3 * 4


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: t.diag(1), ValueError),
        (lambda: t.diag(np.ones((2, 2, 2))), ValueError),
        (lambda: t.diagonal([1]), ValueError),
        (lambda: t.diagonal([[1]], axis1=0, axis2=0), ValueError),
        (lambda: t.diagonal([[1]], axis1=2), np.exceptions.AxisError),
        (lambda: t.tril(1), ValueError),
        (lambda: t.tril_indices_from([1]), ValueError),
        (lambda: t.vander([[1]]), ValueError),
        (lambda: t.eye(-1), ValueError),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception]) -> None:
    """At the call."""
    with pytest.raises(error):
        call()
