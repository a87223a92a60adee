"""Counts of integers, and the bins that numbers fall into, equal NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import counting
from zcluster.array.core import from_numpy

FAST = settings(max_examples=40, deadline=None)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


@pytest.mark.proves("array.bincount")
class TestBincount:
    """How often each integer is there."""

    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """With weights or not; the length follows from the data, or is given."""
        a, chunks = data.draw(arrays(("u1", "?", "i8"), ndim=(1, 1), length=(0, 20)))
        a = abs(a) if a.dtype.kind == "i" else a
        more: dict[str, Any] = {"minlength": data.draw(st.sampled_from([0, 9]))}
        if data.draw(st.booleans()):
            more["weights"] = np.arange(len(a)) / 2
        found = counting.bincount(from_numpy(a, chunks), split_every=2, **more)
        agrees(found, np.bincount(a, **more))
        assert (found.shape == (9,)) == (more["minlength"] == 9)

    def test_errors(self) -> None:
        """What cannot be is said at the call; what the data say, when they are there."""
        x = from_numpy(np.array([1, 5]), 1)
        with pytest.raises(ValueError, match="found 5, but minlength=3"):
            counting.bincount(x, minlength=3).compute(scheduler="sync")
        with pytest.raises(ValueError, match="one of one axis"):
            counting.bincount(from_numpy(np.zeros((2, 2), int)))
        with pytest.raises(TypeError, match="expected integers"):
            counting.bincount(from_numpy(np.zeros(2)))
        with pytest.raises(ValueError, match="must not be negative"):
            counting.bincount(x, minlength=-1)
        with pytest.raises(ValueError, match="weights of shape"):
            counting.bincount(x, weights=[1])


@pytest.mark.proves("array.digitize")
class TestDigitize:
    """The bins that numbers fall into."""

    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Rising and falling edges, lazy ones or not."""
        a, chunks = data.draw(arrays(("i8", "f4", "f8")))
        bins = np.array([-3.0, -1.0, 0.0, 0.25, 4.0])
        bins = bins[::-1] if data.draw(st.booleans()) else bins
        right = data.draw(st.booleans())
        edges: Any = from_numpy(bins, 2) if data.draw(st.booleans()) else bins
        found = counting.digitize(from_numpy(a, chunks), edges, right)
        agrees(found, np.asarray(np.digitize(a, bins, right), np.intp))

    def test_errors(self) -> None:
        """Edges in no order."""
        with pytest.raises(ValueError, match="monotonically"):
            counting.digitize(from_numpy(np.zeros(2)), [1, 3, 2])
