"""Lazy places and masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.core import Array, from_numpy
from zcluster.array.picking import check_range, compressed, taken, taken_at_points
from zcluster.array.restating import Restated
from zcluster.errors import InvalidArgument

FAST = settings(max_examples=30, deadline=None)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]


def lazy(data: st.DataObject, values: Any, chunked: Chunked) -> Array:
    chunks = tuple(data.draw(chunked(length)) for length in values.shape)
    return from_numpy(values, chunks)


class TestPlaces:
    @given(data=st.data())
    @FAST
    def test_along_an_axis(
        self, data: st.DataObject, arrays: Arrays, chunked: Chunked, agrees: Agrees
    ) -> None:
        """In any shape, negative ones among them."""
        a, chunks = data.draw(arrays(ndim=(1, 3), length=(1, 7), dtypes=("i8",)))
        axis = data.draw(st.integers(0, a.ndim - 1))
        shape = data.draw(st.sampled_from([(), (0,), (4,), (2, 3)]))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        places = np.asarray(rng.integers(-a.shape[axis], a.shape[axis], shape))
        found = taken(from_numpy(a, chunks), lazy(data, places, chunked), axis)
        agrees(found, np.take(a, places, axis))

    @given(data=st.data())
    @FAST
    def test_points(
        self, data: st.DataObject, arrays: Arrays, chunked: Chunked, agrees: Agrees
    ) -> None:
        """Several axes at once, of which some are known."""
        a, chunks = data.draw(arrays(ndim=(2, 3), length=(1, 5), dtypes=("i8",)))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        first = rng.integers(-a.shape[0], a.shape[0], (3, 1))
        last = rng.integers(-a.shape[-1], a.shape[-1], 4)
        places = [lazy(data, first, chunked), last]
        found = taken_at_points(from_numpy(a, chunks), [0, a.ndim - 1], places, 0)
        agrees(found, a[first, :, last] if a.ndim == 3 else a[first, last])

    def test_out_of_range_when_computed(self) -> None:
        """With axis and size, in one block and in several."""
        places = from_numpy(np.array([1, 5]))
        for chunks in (-1, 2):
            with pytest.raises(IndexError, match="index 5 is out of bounds for axis 0 with size 4"):
                taken(from_numpy(np.arange(4), chunks), places, 0).compute(scheduler="sync")
        x = from_numpy(np.zeros((4, 4)), 2)
        with pytest.raises(IndexError, match="index 5 is out of bounds for axis 1 with size 4"):
            taken_at_points(x, [0, 1], [np.array(0), places], 0).compute(scheduler="sync")

    def test_an_axis_of_unknown_length(self) -> None:
        """Negative places could not be told."""
        x = Array(Restated(from_numpy(np.arange(4)).expr, ((math.nan,),)))
        with pytest.raises(InvalidArgument, match="compute_chunk_sizes"):
            taken(x, from_numpy(np.array([0])), 0)

    def test_places_from_zero_on(self) -> None:
        """Of any integers of NumPy."""
        assert check_range(np.array([-1, 2], "i1"), 0, 3).tolist() == [2, 2]
        assert check_range(np.array([2], "u8"), 0, 3).dtype == np.int64


class TestMasks:
    @given(data=st.data())
    @FAST
    def test_along_some_axes(
        self, data: st.DataObject, arrays: Arrays, chunked: Chunked, agrees: Agrees
    ) -> None:
        """In the order of memory; how many there are is not promised."""
        a, chunks = data.draw(arrays(ndim=(1, 3), dtypes=("i8",)))
        axis = data.draw(st.integers(0, a.ndim - 1))
        width = data.draw(st.integers(1, a.ndim - axis))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        mask = rng.random(a.shape[axis : axis + width]) < 0.5
        found = compressed(from_numpy(a, chunks), lazy(data, mask, chunked), axis)
        assert math.isnan(found.shape[axis])
        agrees(found, a[(*[slice(None)] * axis, mask)])

    def test_another_length(self) -> None:
        """NumPy's error, at the call."""
        mask = from_numpy(np.ones((2, 4), bool))
        with pytest.raises(IndexError, match="axis 2; size of axis is 3 but size of corresponding"):
            compressed(from_numpy(np.zeros((5, 2, 3))), mask, 1)

    def test_of_an_unknown_length(self) -> None:
        """What one mask picked may be masked again."""
        a = np.arange(20)
        x = from_numpy(a, 6)
        some = compressed(x, x % 3 > 0, 0)
        found = compressed(some, some > 9, 0).compute(scheduler="sync")
        assert found.tolist() == [n for n in a if n % 3 and n > 9]
