"""Where extremes stand is where NumPy finds them: the first of equals, nan before all else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import positions
from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import Blockwise

FAST = settings(max_examples=15, deadline=None)
ALL = ("?", "i1", "u8", "f4", "f8", "c16", "m8[s]", "M8[D]")

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


class TestAgainstNumPy:
    """Each function, over shapes, dtypes, chunks, axes and keywords."""

    @pytest.mark.proves("array.{name}")
    @pytest.mark.parametrize("name", ["argmin", "argmax", "nanargmin", "nanargmax"])
    @given(data=st.data())
    @FAST
    def test_equals(self, name: str, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Value, shape and dtype are NumPy's, and so are its errors."""
        a, chunks = data.draw(arrays(ALL))
        axis = data.draw(st.sampled_from([None, *range(-a.ndim, a.ndim)]))
        keepdims = data.draw(st.booleans())
        split = data.draw(st.sampled_from([None, 2, 3]))
        x = from_numpy(a, chunks)
        function = getattr(positions, name)
        try:
            expected = getattr(np, name)(a, axis=axis, keepdims=keepdims)
        except ValueError as error:
            with pytest.raises(ValueError, match=str(error).split(" of ")[0]):
                function(x, axis, keepdims, split).compute(scheduler="sync")
            return
        if name.startswith("nan") and a.dtype.kind in "mM":
            return  # NumPy replaces no NaT
        agrees(function(x, axis, keepdims, split), np.asarray(expected, np.intp))

    def test_unknown_lengths(self) -> None:
        """Along one axis the lengths are found along the way; in the flat array they are needed."""
        a = np.array([[3, 1, 2, 0, 5]] * 2)
        x = from_numpy(a, 2)
        chunks = tuple((float("nan"),) * len(own) for own in x.chunks)
        unknown = Array(
            Blockwise("unknown", np.positive, [x.expr], (0,), [(0, 1)], chunks, x.dtype)
        )
        found = positions.argmin(unknown, 1).compute(scheduler="sync")
        np.testing.assert_array_equal(found, a.argmin(1))
        with pytest.raises(ValueError, match="compute_chunk_sizes"):
            positions.argmin(unknown)

    @pytest.mark.proves("array.Array.{name}")
    @pytest.mark.parametrize("name", ["argmin", "argmax"])
    def test_methods(self, name: str, agrees: Agrees) -> None:
        """The same as methods of an array."""
        a = np.arange(12).reshape(3, 4) % 5
        agrees(getattr(from_numpy(a, 2), name)(axis=0), getattr(a, name)(axis=0))

    def test_a_slice(self) -> None:
        """A slice of the places along another axis."""
        a = np.random.default_rng(0).integers(0, 9, (6, 7))
        found = positions.argmax(from_numpy(a, 2), 1)[2:5].compute(scheduler="sync")
        np.testing.assert_array_equal(found, a.argmax(1)[2:5])


class TestErrors:
    """What cannot be is said at the call where it is known."""

    def test_nothing(self) -> None:
        """The least of nothing."""
        with pytest.raises(ValueError, match="attempt to get argmin of an empty sequence"):
            positions.argmin(from_numpy(np.empty((0, 3))), 0)

    def test_axis(self) -> None:
        """An axis that is not there."""
        with pytest.raises(np.exceptions.AxisError):
            positions.argmin(from_numpy(np.zeros(3)), 1)
