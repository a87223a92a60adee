"""Basic indexing equals NumPy's, costs nothing by itself, and moves towards the source."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

from zcluster.array.core import Array, elementwise, from_numpy
from zcluster.array.creation import ones
from zcluster.array.expressions import Data
from zcluster.array.lowering import lower_arrays
from zcluster.array.restating import Restated
from zcluster.array.slicing import basic, expanded, getitem
from zcluster.errors import InvalidArgument

FAST = settings(max_examples=60, deadline=None)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


class TestAgainstNumPy:
    @given(data=st.data())
    @FAST
    def test_any_basic_index(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Integers, slices, None and the ellipsis, over arrays in any chunks."""
        a, chunks = data.draw(arrays())
        index = data.draw(basic_indices(a.shape, allow_newaxis=True))
        agrees(getitem(from_numpy(a, chunks), index), a[index])

    @given(data=st.data())
    @FAST
    def test_one_after_the_other(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Indices after each other become one, below what is element-wise."""
        a, chunks = data.draw(arrays(ndim=(1, 3), dtypes=("i8",)))
        x = from_numpy(a, chunks) * 2
        a = a * 2
        for _ in range(2):
            index = data.draw(basic_indices(a.shape, allow_newaxis=True))
            x, a = getitem(x, index) + 1, a[index] + 1
        agrees(x, a)

    @pytest.mark.proves("array.Array.__getitem__")
    @pytest.mark.parametrize(
        "index",
        [
            (slice(None, 100), slice(500, 100, -2)),
            (slice(None), [10, 1, 5]),
            (slice(None, None, -1),),
            (..., None, 3),
            ([599, 0, 0, -1],),
            ([],),
        ],
    )
    def test_indices_of_the_guide(self, index: Any, agrees: Agrees) -> None:
        """Those that users see first."""
        a = np.arange(600 * 600).reshape(600, 600)
        agrees(getitem(from_numpy(a, (100, 90)), index), a[index])

    def test_chunks_follow_those_of_the_source(self) -> None:
        """A slice keeps the borders, so that each block is a box of one."""
        x = from_numpy(np.arange(10), 4)
        assert getitem(x, slice(1, None)).chunks == ((3, 4, 2),)
        assert getitem(x, slice(None, None, -1)).chunks == ((2, 4, 4),)
        assert getitem(x, slice(3, 3)).chunks == ((0,),)


class TestCost:
    def test_one_block_of_ten_thousand_is_one_task(self) -> None:
        """Neither the other blocks nor their exponentials are made."""
        x = ones((10_000, 10_000), chunks=100)
        graph, _ = lower_arrays([getitem(elementwise(np.exp, x), np.s_[1:100, 1:100]).expr])
        assert graph.count == 1

    def test_only_what_runs_is_made(self) -> None:
        """Counted where it counts: by the function."""
        calls: list[int] = []

        def noted(block: Any) -> Any:
            calls.append(block.size)
            return block + 1

        x = elementwise(noted, from_numpy(np.arange(100), 10), dtype=int)
        found = getitem(x, slice(25, 27)).compute(scheduler="sync")
        assert found.tolist() == [26, 27]
        assert calls == [2]

    def test_the_whole_is_the_array_itself(self) -> None:
        """``x[...]`` and ``x[:]`` are no operations."""
        x = from_numpy(np.arange(4))
        (same,) = lower_arrays([getitem(x, ...).expr])[1]
        assert same.shape == (1,)
        assert isinstance(x.expr, Data)
        assert lower_arrays([getitem(x, slice(None)).expr])[0].count == 1


class TestErrors:
    def test_out_of_range(self) -> None:
        """At the call, with axis and size."""
        x = from_numpy(np.zeros((3, 4)))
        with pytest.raises(IndexError, match="index 4 is out of bounds for axis 1 with size 4"):
            getitem(x, (0, 4))
        with pytest.raises(IndexError, match="index -5 is out of bounds for axis 1 with size 4"):
            getitem(x, (slice(None), [0, -5]))

    def test_too_many(self) -> None:
        """As NumPy says it."""
        with pytest.raises(IndexError, match="array is 1-dimensional, but 2 were indexed"):
            getitem(from_numpy(np.zeros(3)), (0, 0))
        with pytest.raises(IndexError, match="single ellipsis"):
            expanded((..., ...), 2)

    def test_no_index(self) -> None:
        """What stands there is shown."""
        with pytest.raises(IndexError, match=r"found 1\.5 for axis 0"):
            getitem(from_numpy(np.zeros(3)), 1.5)

    def test_unknown_lengths(self) -> None:
        """They say what to do; all of an axis can be had."""
        x = from_numpy(np.arange(6), 3)
        unknown = Array(Restated(x.expr, ((math.nan, math.nan),)))
        assert getitem(unknown, slice(None)).compute(scheduler="sync").tolist() == [*range(6)]
        with pytest.raises(InvalidArgument, match="call compute_chunk_sizes\\(\\) first"):
            basic(unknown, [slice(0, 2)])
