"""Differences of neighbours are NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import differences as d
from zcluster.array.core import from_numpy

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=15, deadline=None)

Agrees = Callable[..., None]


@pytest.mark.proves("array.diff", "array.ediff1d")
@given(data=st.data())
@FAST
def test_differences(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Along any axis, several times, with more at the ends."""
    a, chunks = data.draw(arrays(dtypes=("?", "i8", "f4", "M8[D]"), ndim=(1, 3), nan=False))
    x = from_numpy(a, chunks)
    axis, n = data.draw(st.integers(-a.ndim, a.ndim - 1)), data.draw(st.integers(0, 3))
    agrees(d.diff(x, n, axis), np.diff(a, n, axis))
    if a.dtype.kind != "M":
        more = {"prepend": a.dtype.type(1), "append": a}
        agrees(d.diff(x, n, axis, **more), np.diff(a, n, axis, **more))
    if a.dtype.kind in "if":
        ends = {"to_begin": a.dtype.type(5), "to_end": np.ones(2, a.dtype)}
        agrees(d.ediff1d(x), np.ediff1d(a))
        agrees(d.ediff1d(x, **ends), np.ediff1d(a, **ends))


def test_of_nothing_left(agrees: Agrees) -> None:
    """As many differences as elements."""
    a = np.array([1, 5])
    agrees(d.diff(from_numpy(a, 2), 2), np.diff(a, 2))
    agrees(d.diff(from_numpy(a, 1), 3), np.diff(a, 3))


def test_chunks_are_those_of_the_array() -> None:
    """But for the last one; so nothing is cut into small pieces."""
    x = from_numpy(np.arange(12), 4)
    assert d.diff(x).chunks == ((4, 4, 3),)


@pytest.mark.proves("array.gradient")
@given(data=st.data())
@FAST
def test_gradient(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """With even and uneven distances, at the ends of either order."""
    dtypes = ("i8", "f4", "f8", "c16")
    a, chunks = data.draw(arrays(dtypes=dtypes, ndim=(1, 3), length=(3, 6), nan=False))
    x = from_numpy(a, chunks)
    order = data.draw(st.sampled_from([1, 2]))
    axis = data.draw(st.sampled_from([None, 0, -1]))
    axes = range(a.ndim) if axis is None else [axis]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    each = [
        data.draw(
            st.sampled_from([2.5, np.arange(a.shape[n]), np.cumsum(rng.random(a.shape[n]) + 0.1)])
        )
        for n in axes
    ]
    spacings = data.draw(st.sampled_from([[], [0.5], each]))
    found = d.gradient(x, *spacings, axis=axis, edge_order=order)
    expected = np.gradient(a, *spacings, axis=axis, edge_order=order)
    near = {"rtol": 1e-5, "atol": 1e-5}
    if isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            agrees(one, other, **near)
            assert one.chunks == x.chunks or any(0 in own for own in x.chunks)
    else:
        agrees(found, expected, **near)


def test_gradient_of_dates(agrees: Agrees) -> None:
    """Spans."""
    a = np.array(["2020-01-01", "2020-01-05", "2020-01-06"], "M8[D]")
    agrees(d.gradient(from_numpy(a, 2)), np.gradient(a))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: d.diff(x, -1), ValueError),
        (lambda x: d.diff(1), ValueError),
        (lambda x: d.diff(x, axis=1), np.exceptions.AxisError),
        (lambda x: d.ediff1d(x, to_end=1.5), TypeError),
        (lambda x: d.gradient(x, edge_order=3), ValueError),
        (lambda x: d.gradient(x[:1]), ValueError),
        (lambda x: d.gradient(x, 1, 2), TypeError),
        (lambda x: d.gradient(x, [1, 2]), ValueError),
    ],
)
def test_errors(call: Callable[[Any], Any], error: type[Exception]) -> None:
    """At the call."""
    with pytest.raises(error):
        call(from_numpy(np.arange(4)))
