"""Where elements are: what NumPy finds, in the order in which it finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import searching
from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import Blockwise

FAST = settings(max_examples=40, deadline=None)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


def _without_lengths(x: Array) -> Array:
    chunks = tuple((float("nan"),) * len(own) for own in x.chunks)
    along = [tuple(range(x.ndim))]
    return Array(Blockwise("unknown", np.array, [x.expr], (0,), along, chunks, x.dtype))


class TestNonzero:
    """`nonzero`, `flatnonzero` and `argwhere`."""

    @pytest.mark.proves(
        "array.nonzero", "array.flatnonzero", "array.argwhere", "array.Array.nonzero"
    )
    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """In C order of the whole array, whatever the chunks."""
        a, chunks = data.draw(arrays(("?", "i8", "f8", "c16")))
        x = from_numpy(a, chunks)
        agrees(searching.flatnonzero(x), np.flatnonzero(a))
        agrees(searching.argwhere(x), np.argwhere(a))
        if a.ndim:
            for one, other in zip(x.nonzero(), np.nonzero(a), strict=True):
                agrees(one, other)

    def test_unknown_lengths(self) -> None:
        """Along one axis places are counted along the way; more need known lengths."""
        a = np.array([0, 1, 1, 0, 3, 0, 1])
        (found,) = searching.nonzero(_without_lengths(from_numpy(a, 3)))
        assert found.compute(scheduler="sync").tolist() == [1, 2, 4, 6]
        for function in (searching.nonzero, searching.argwhere):
            with pytest.raises(ValueError, match="compute_chunk_sizes"):
                function(_without_lengths(from_numpy(np.eye(3), 2)))

    def test_no_axes(self) -> None:
        """As in NumPy, a scalar has no places."""
        with pytest.raises(ValueError, match="0d arrays"):
            searching.nonzero(from_numpy(np.array(3)))


@pytest.mark.proves("array.searchsorted", "array.Array.searchsorted")
class TestSearchsorted:
    """Where values would go."""

    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Both sides, values of any shape, nan among them."""
        a, chunks = data.draw(arrays(("i8", "f8"), ndim=(1, 1), length=(0, 20)))
        v, others = data.draw(arrays(("i8", "f8")))
        side: Any = data.draw(st.sampled_from(["left", "right"]))
        a = np.sort(a)
        found = searching.searchsorted(from_numpy(a, chunks), from_numpy(v, others), side)
        agrees(found, np.asarray(np.searchsorted(a, v, side)))

    def test_scalar(self, agrees: Agrees) -> None:
        """One value, which is here."""
        a = np.arange(10) * 2
        x: Any = from_numpy(a, 3)
        agrees(x.searchsorted(7), np.asarray(np.searchsorted(a, 7)))

    def test_sorter(self, agrees: Agrees) -> None:
        """An order that sorts."""
        a = np.array([5, 1, 9, 3])
        found = searching.searchsorted(from_numpy(a, 2), [4, 9], sorter=np.argsort(a))
        agrees(found, np.searchsorted(np.sort(a), [4, 9]))

    def test_errors(self) -> None:
        """More axes than one; a side that there is not."""
        with pytest.raises(ValueError, match="one axis"):
            searching.searchsorted(from_numpy(np.eye(3)), 1)
        with pytest.raises(ValueError, match="'left' or 'right'"):
            searching.searchsorted(from_numpy(np.arange(3)), 1, side="middle")
