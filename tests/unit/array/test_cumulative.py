"""Running totals equal NumPy's, along any axis and over any chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import cumulative
from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import Blockwise

FAST = settings(max_examples=15, deadline=None)
ALL = ("?", "i1", "u8", "i8", "f4", "f8", "c16")

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


class TestAgainstNumPy:
    """Each function, over shapes, dtypes, chunks and axes."""

    @pytest.mark.proves("array.{name}")
    @pytest.mark.parametrize("name", ["cumsum", "cumprod", "nancumsum", "nancumprod"])
    @given(data=st.data())
    @FAST
    def test_equals(self, name: str, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Value, shape and dtype are NumPy's; the chunks are those of the array."""
        a, chunks = data.draw(arrays(ALL, ndim=(1, 3)))
        axis = data.draw(st.sampled_from(range(-a.ndim, a.ndim)))
        method = data.draw(st.sampled_from(["sequential", "blelloch"]))
        x = from_numpy(a, chunks)
        found = getattr(cumulative, name)(x, axis, method=method)
        assert found.chunks == x.chunks
        rough = 1e-5 if a.dtype == np.float32 else 1e-10
        agrees(found, getattr(np, name)(a, axis=axis), rtol=rough, atol=rough)

    @given(data=st.data())
    @FAST
    def test_flat(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Without an axis it is that of the flat array."""
        a, chunks = data.draw(arrays(("i8",)))
        agrees(cumulative.cumsum(from_numpy(a, chunks)), np.cumsum(a))

    @pytest.mark.parametrize("ufunc", [np.maximum, np.fmin, np.logical_or, np.subtract])
    @given(data=st.data())
    @FAST
    def test_accumulate(
        self, ufunc: np.ufunc, data: st.DataObject, arrays: Arrays, agrees: Agrees
    ) -> None:
        """Any ufunc; one that is not associative goes through the axis in one piece."""
        a, chunks = data.draw(arrays(("i8", "f8"), ndim=(1, 2), nan=True))
        axis = data.draw(st.sampled_from(range(a.ndim)))
        found = cumulative.accumulate(ufunc, from_numpy(a, chunks), axis)
        agrees(found, ufunc.accumulate(a, axis))

    @pytest.mark.proves("array.{name}")
    @pytest.mark.parametrize("name", ["cumulative_sum", "cumulative_prod"])
    @pytest.mark.parametrize("initial", [False, True])
    def test_standard(self, name: str, initial: bool, agrees: Agrees) -> None:
        """As the array API standard has them: maybe with the total of nothing at first."""
        a = np.arange(1, 13).reshape(3, 4)
        found = getattr(cumulative, name)(from_numpy(a, 2), axis=1, include_initial=initial)
        agrees(found, getattr(np, name)(a, axis=1, include_initial=initial))
        flat = getattr(cumulative, name)(from_numpy(a[0], 2), include_initial=initial)
        agrees(flat, getattr(np, name)(a[0], include_initial=initial))
        with pytest.raises(ValueError, match="expected axis="):
            getattr(cumulative, name)(from_numpy(a, 2))

    def test_dtype_and_out(self, agrees: Agrees) -> None:
        """It is summed in the dtype that is given, into the array that is named."""
        a = np.arange(6, dtype="i1")
        agrees(cumulative.cumsum(from_numpy(a, 2), dtype="f4"), np.cumsum(a, dtype="f4"))
        out = from_numpy(np.zeros(6))
        assert cumulative.cumsum(from_numpy(a, 2), out=out) is out
        agrees(out, np.cumsum(a).astype(float))

    @pytest.mark.proves("array.Array.{name}")
    @pytest.mark.parametrize("name", ["cumsum", "cumprod"])
    def test_methods(self, name: str, agrees: Agrees) -> None:
        """The same as methods of an array."""
        a = np.arange(12).reshape(3, 4) % 5
        agrees(getattr(from_numpy(a, 2), name)(axis=0), getattr(a, name)(axis=0))

    def test_durations(self, agrees: Agrees) -> None:
        """Durations add up."""
        a = np.arange(6).astype("m8[s]")
        agrees(cumulative.cumsum(from_numpy(a, 4)), np.cumsum(a))

    def test_unknown_lengths(self) -> None:
        """How long the chunks are need not be known."""
        x = from_numpy(np.arange(7.0), 3)
        chunks = ((float("nan"),) * 3,)
        unknown = Array(Blockwise("unknown", np.positive, [x.expr], (0,), [(0,)], chunks, x.dtype))
        found = cumulative.cumsum(unknown).compute(scheduler="sync")
        np.testing.assert_array_equal(found, np.cumsum(np.arange(7.0)))

    def test_many_blocks(self) -> None:
        """A row of a thousand blocks."""
        a = np.ones(1_000, int)
        found = cumulative.cumsum(from_numpy(a, 1)).compute(scheduler="sync")
        np.testing.assert_array_equal(found, np.arange(1, 1_001))


class TestErrors:
    """What cannot be is said at the call."""

    def test_method(self) -> None:
        """A method that there is not."""
        with pytest.raises(ValueError, match="'sequential' or 'blelloch'"):
            cumulative.cumsum(from_numpy(np.arange(3)), method="fast")

    def test_no_axis(self) -> None:
        """An array without axes has nothing to run along."""
        with pytest.raises(ValueError, match="without axes"):
            cumulative.accumulate(np.add, from_numpy(np.array(3)))
