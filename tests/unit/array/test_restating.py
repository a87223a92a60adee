"""Blocks in another grid: no task, no element moved."""

from __future__ import annotations

import math
from typing import Any

import numpy
import pytest

from zcluster.array.core import Array, from_numpy
from zcluster.array.manipulation import broadcast_to
from zcluster.array.padding import pad
from zcluster.array.restating import Picked, Restated, check_known, picked
from zcluster.errors import InvalidArgument

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here


def hidden() -> Array:
    """An array of two axes, of which the first has unknown lengths."""
    x = from_numpy(np.arange(12).reshape(6, 2), (2, 1)) + 1
    return Array(Restated(x.expr, ((math.nan,) * 3, (1, 1))))


def test_other_lengths_are_said_of_the_same_blocks() -> None:
    """Nothing is added to the graph."""
    x = from_numpy(np.arange(6), 2) + 1
    y = Array(Restated(x.expr, ((math.nan,) * 3,)))
    assert len(y.dask) == len(x.dask)
    np.testing.assert_array_equal(y.compute(scheduler="sync"), np.arange(6) + 1)
    assert y.name == Array(Restated(x.expr, y.chunks)).name != x.name


def test_some_blocks() -> None:
    """In any order; with lengths that are known it is a gather, and moves towards the source."""
    a = np.arange(12).reshape(6, 2)
    x = from_numpy(a, (2, 1)) + 1
    y = picked(x, [[2, 0], [1]])
    assert y.chunks == ((2, 2), (1,))
    np.testing.assert_array_equal(y.compute(scheduler="sync"), a[[4, 5, 0, 1], 1:] + 1)
    assert len((y * 2).dask) == 1 + 2 + 2  # the data, and what the two blocks need


def test_some_blocks_of_unknown_lengths() -> None:
    """They are taken as they are, and the others are not made."""
    a = np.arange(12).reshape(6, 2) + 1
    y = picked(hidden(), [[2, 0], [0, 1]])
    assert isinstance(y.expr, Picked)
    np.testing.assert_array_equal(y.compute(scheduler="sync"), a[[4, 5, 0, 1]])
    assert len(picked(hidden(), [[1], [1]]).dask) < len(hidden().dask)


def test_needed_lengths() -> None:
    """The error says what needs them, of which axis, and what to do."""
    check_known(hidden(), [1], "counting")
    with pytest.raises(InvalidArgument, match="counting needs the length of axis 0"):
        check_known(hidden(), [0, 1], "counting")


def test_axes_beside_one_of_unknown_length() -> None:
    """They are sliced, turned, rechunked and grown as ever; whole chunks are taken of the other."""
    a = np.arange(12).reshape(6, 2) + 1
    x = hidden()
    for found, expected in (
        (x[:, :1], a[:, :1]),
        (x[:, ::-1] * 2, a[:, ::-1] * 2),
        (x[:, [1, 0, 1]], a[:, [1, 0, 1]]),
        (x.rechunk({1: 2}) + 1, a + 1),
        (pad(x, [(0, 0), (1, 1)]), np.pad(a, [(0, 0), (1, 1)])),
        (x[:, :1] + x.rechunk({1: 2}), a[:, :1] + a),
        (broadcast_to(x, (3, math.nan, 2)), np.broadcast_to(a, (3, 6, 2))),
    ):
        np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)
