"""Functions of lanes give what NumPy's give."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import lanes
from zcluster.array.core import Array, from_numpy
from zcluster.array.restating import Restated
from zcluster.array.ufuncs import add, maximum

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=15, deadline=None)

Agrees = Callable[..., None]


@pytest.mark.proves("array.apply_along_axis", "array.unwrap", "array.take_along_axis")
@given(data=st.data())
@FAST
def test_equals(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Along any axis; functions that return numbers, lanes and more."""
    a, chunks = data.draw(arrays(dtypes=("i8", "f8"), ndim=(1, 3), length=(1, 5), nan=False))
    x = from_numpy(a, chunks)
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    for function in (np.ptp, np.cumsum, lambda lane: np.stack([lane, 2 * lane])):
        agrees(lanes.apply_along_axis(function, axis, x), np.apply_along_axis(function, axis, a))
    agrees(lanes.unwrap(x, axis=axis), np.unwrap(a, axis=axis))
    agrees(lanes.unwrap(x, axis=axis, period=3), np.unwrap(a, axis=axis, period=3))
    ones = [1 if data.draw(st.booleans()) else n for n in a.shape]
    ones[axis] = data.draw(st.integers(1, 6))
    places = np.arange(math.prod(ones)).reshape(ones) % a.shape[axis]
    agrees(
        lanes.take_along_axis(x, from_numpy(places, 2), axis),
        np.take_along_axis(a, places, axis),
    )


def test_apply_with_what_it_returns_said(agrees: Agrees) -> None:
    """The function is not tried then, and gets its arguments."""

    def picky(lane: Any, times: int, *, plus: int) -> Any:
        assert lane.sum() != len(lane), "a lane of ones is a trial"
        return lane[:2] * times + plus

    a = np.arange(12).reshape(3, 4)
    agrees(
        lanes.apply_along_axis(picky, 1, from_numpy(a, 2), 3, plus=1, dtype=int, shape=(2,)),
        np.apply_along_axis(picky, 1, a, 3, plus=1),
    )
    empty = np.empty((0, 4))
    found = lanes.apply_along_axis(np.ptp, 1, from_numpy(empty))
    assert found.compute(scheduler="sync").shape == (0,)


@pytest.mark.proves("array.apply_over_axes")
def test_apply_over_axes(agrees: Agrees) -> None:
    """Functions that keep the axis and functions that do not."""
    a = np.arange(24).reshape(2, 3, 4)
    x = from_numpy(a, 2)
    agrees(lanes.apply_over_axes(add.reduce, x, (0, 2)), np.apply_over_axes(np.sum, a, (0, 2)))
    kept = lanes.apply_over_axes(lambda y, axis: maximum.reduce(y, axis, keepdims=True), x, -1)
    agrees(kept, np.apply_over_axes(np.max, a, -1))
    with pytest.raises(ValueError, match="correct shape"):
        lanes.apply_over_axes(lambda y, axis: 1, x, 0)


def test_take_of_the_flat_array(agrees: Agrees) -> None:
    """With no axis."""
    a = np.array([[3, 1], [2, 0]])
    agrees(lanes.take_along_axis(from_numpy(a, 1), [3, 0], None), np.array([0, 3]))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: lanes.take_along_axis(x, np.ones((2, 3)), 0), IndexError),
        (lambda x: lanes.take_along_axis(x, [1], 0), ValueError),
        (lambda x: lanes.take_along_axis(x, np.ones((2, 2), int), 0), ValueError),
        (lambda x: lanes.unwrap(x, axis=2), np.exceptions.AxisError),
        (lambda x: lanes.apply_along_axis(np.sum, 2, x), np.exceptions.AxisError),
        (
            lambda x: lanes.apply_along_axis(
                np.sum, 0, Array(Restated(x.expr, ((math.nan,), (3,))))
            ),
            ValueError,
        ),
    ],
)
def test_errors(call: Callable[[Any], Any], error: type[Exception]) -> None:
    """At the call."""
    with pytest.raises(error):
        call(from_numpy(np.ones((2, 3))))
