"""Splitting, inserting, places by number and questions: as NumPy has them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import routines as r
from zcluster.array.core import Array, from_numpy
from zcluster.array.restating import Restated
from zcluster.errors import InvalidArgument

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=12, deadline=None)

Agrees = Callable[..., None]


@pytest.mark.proves("array.roll", "array.resize", "array.matrix_transpose")
@given(data=st.data())
@FAST
def test_moving(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Along one axis, several, or flat."""
    a, chunks = data.draw(arrays(dtypes=("i8",), ndim=(2, 3), length=(0, 5)))
    x = from_numpy(a, chunks)
    far = data.draw(st.integers(-7, 7))
    agrees(r.roll(x, far), np.roll(a, far))
    agrees(r.roll(x, far, -1), np.roll(a, far, -1))
    agrees(r.roll(x, (far, 1), (0, 1)), np.roll(a, (far, 1), (0, 1)))
    agrees(r.roll(x, far, (0, -1, 0)), np.roll(a, far, (0, -1, 0)))
    shape = tuple(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=2)))
    agrees(r.resize(x, shape), np.resize(a, shape))
    agrees(r.matrix_transpose(x), np.matrix_transpose(a))


@pytest.mark.proves(
    "array.array_split",
    "array.split",
    "array.hsplit",
    "array.vsplit",
    "array.dsplit",
    "array.unstack",
)
@given(data=st.data())
@FAST
def test_parts(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Of equal lengths, nearly equal ones, or as said."""
    a, chunks = data.draw(arrays(dtypes=("i8",), ndim=(3, 3), length=(0, 4)))
    x = from_numpy(a, chunks)
    axis = data.draw(st.integers(-3, 2))
    where = data.draw(st.integers(1, 5) | st.lists(st.integers(-1, 5), max_size=3))
    calls = [("array_split", (where, axis)), ("split", (1, axis)), ("unstack", ())]
    calls += [(name, ([1],)) for name in ("hsplit", "vsplit", "dsplit")]
    for name, said in calls:
        found, expected = getattr(r, name)(x, *said), getattr(np, name)(a, *said)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            agrees(one, other)


@pytest.mark.proves("array.append", "array.delete", "array.insert")
@given(data=st.data())
@FAST
def test_more_and_fewer(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Places as integers, lists, slices and masks."""
    a, chunks = data.draw(arrays(dtypes=("i8", "f4"), ndim=(2, 2), length=(1, 5), nan=False))
    x = from_numpy(a, chunks)
    axis = data.draw(st.sampled_from([None, 0, 1]))
    length = a.size if axis is None else a.shape[axis]
    place = data.draw(st.integers(-length, length - 1))
    several = data.draw(st.lists(st.integers(-length, length - 1), min_size=2, max_size=4))
    part = slice(*data.draw(st.tuples(st.integers(0, 3), st.integers(0, 6))))
    mask = np.arange(length) % 2 == 0
    for obj in (place, several, part, mask, [place]):
        agrees(r.delete(x, obj, axis), np.delete(a, obj, axis))
        agrees(r.insert(x, obj, 9.7, axis), np.insert(a, obj, 9.7, axis))
    agrees(r.append(x, a, axis), np.append(a, a, axis))
    if axis is not None:
        new = a.take([0, 0], axis)
        agrees(r.insert(x, [0, place], new, axis), np.insert(a, [0, place], new, axis))
        lane = a.take(0, axis)
        agrees(r.insert(x, place, lane, axis), np.insert(a, place, lane, axis))
    agrees(r.delete(x, from_numpy(np.array([0]), 1), 0), np.delete(a, [0], 0))


@pytest.mark.proves("array.unravel_index", "array.ravel_multi_index", "array.ix_")
@given(data=st.data())
@FAST
def test_places(data: st.DataObject, agrees: Agrees) -> None:
    """Numbers of places, and places of numbers."""
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    order = data.draw(st.sampled_from("CF"))
    numbers = np.array(data.draw(st.lists(st.integers(0, math.prod(shape) - 1), max_size=6)), int)
    found = r.unravel_index(from_numpy(numbers, 2), shape, order)
    expected = np.unravel_index(numbers, shape, order)
    for one, other in zip(found, expected, strict=True):
        agrees(one, np.asarray(other))
    again = r.ravel_multi_index(found, shape, order=order)
    agrees(again, numbers)
    wide = [numbers * 3 + axis for axis, _ in enumerate(shape)]
    agrees(
        r.ravel_multi_index([from_numpy(one, 2) for one in wide], shape, "wrap"),
        np.ravel_multi_index(wide, shape, "wrap"),
    )
    lines = [np.arange(n) for n in shape]
    for one, other in zip(r.ix_(*lines), np.ix_(*lines), strict=True):
        agrees(one, other)


@pytest.mark.proves("array.diag_indices", "array.diag_indices_from", "array.trim_zeros")
def test_ends_and_diagonals(agrees: Agrees) -> None:
    """Places of a diagonal; an array without the zeros at its ends."""
    for found, expected in (
        (r.diag_indices(3, 2), np.diag_indices(3, 2)),
        (r.diag_indices_from(np.ones((2, 2, 2))), np.diag_indices_from(np.ones((2, 2, 2)))),
    ):
        for one, other in zip(found, expected, strict=True):
            agrees(one, other)
    for values in ([0, 0, 1, 0, 2, 0], [1, 2], [0, 0], [0], []):
        a = np.array(values, int)
        for trim in ("fb", "f", "b"):
            agrees(r.trim_zeros(from_numpy(a, 2), trim), np.trim_zeros(a, trim))


@pytest.mark.proves("array.array", "array.copy", "array.Array.copy")
def test_arrays_of_anything(agrees: Agrees) -> None:
    """Lists of arrays in chunks stay lazy; a copy does not change with the other."""
    x = from_numpy(np.arange(3), 2)
    agrees(r.array([[x, x + 1], [x, x]]), np.array([[[0, 1, 2], [1, 2, 3]], [[0, 1, 2]] * 2]))
    agrees(r.array([1, 2], "f4", ndmin=3), np.array([1, 2], "f4", ndmin=3))
    agrees(r.asarray_of(x, "f4"), np.arange(3, dtype="f4"))
    agrees(r.asarray_of(np.arange(4), chunks=2), np.arange(4))
    other = x.copy()
    other[0] = 7
    agrees(x, np.arange(3))
    agrees(other, np.array([7, 1, 2]))
    assert r.copy(x) is not x


@pytest.mark.proves(
    "array.shape", "array.ndim", "array.size", "array.result_type", "array.can_cast"
)
def test_questions() -> None:
    """Answered without computing; of anything."""
    x = from_numpy(np.ones((2, 3), "f4"))
    for a in (x, np.ones((2, 3), "f4")):
        assert (r.shape(a), r.ndim(a), r.size(a), r.size(a, 1)) == ((2, 3), 2, 6, 3)
    assert r.result_type(x, 1.5) == np.result_type(np.float32, 1.5)
    assert r.result_type(x, np.int64) == np.float64
    assert r.can_cast(x, "f8")
    assert not r.can_cast(x, "i4")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: r.roll(x, (1, 2), (0, 1, 0)), ValueError),
        (lambda x: r.roll(x, 1, 2), np.exceptions.AxisError),
        (lambda x: r.split(x, 4, 1), ValueError),
        (lambda x: r.array_split(x, 0), ValueError),
        (lambda x: r.dsplit(x, 1), ValueError),
        (lambda x: r.vsplit(x[0], 1), ValueError),
        (lambda x: r.hsplit(x[0, 0], 1), ValueError),
        (lambda x: r.unstack(x[0, 0]), ValueError),
        (lambda x: r.resize(x, (-1,)), ValueError),
        (lambda x: r.delete(x, 5, 0), IndexError),
        (lambda x: r.insert(x, 5, 0, 0), IndexError),
        (lambda x: r.insert(x, [0, 1], np.ones((3, 3)), 0), ValueError),
        (lambda x: r.unravel_index(x, 3), TypeError),
        (lambda x: r.ravel_multi_index([x], (3,)), TypeError),
        (lambda x: r.ix_(x), ValueError),
        (lambda x: r.trim_zeros(x), NotImplementedError),
        (lambda x: r.diag_indices_from(x), ValueError),
        (lambda x: r.diag_indices_from(x[0]), ValueError),
        (lambda x: r.matrix_transpose(x[0]), ValueError),
    ],
)
def test_errors(call: Callable[[Any], Any], error: type[Exception]) -> None:
    """At the call, as NumPy's."""
    with pytest.raises(error):
        call(from_numpy(np.ones((2, 3))))


def test_unknown_lengths() -> None:
    """What needs them says so."""
    x = from_numpy(np.arange(4), 2)
    hidden = Array(Restated(x.expr, ((math.nan,) * 2,)))
    for call in (
        lambda: r.array_split(hidden, 2),
        lambda: r.delete(hidden, 0, 0),
        lambda: r.insert(hidden, 0, 0, 0),
        lambda: r.unstack(hidden),
        lambda: r.trim_zeros(hidden),
        lambda: r.resize(hidden, 3),
    ):
        with pytest.raises(InvalidArgument, match="compute_chunk_sizes"):
            call()
