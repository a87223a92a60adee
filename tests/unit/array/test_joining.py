"""Arrays side by side: as NumPy has them, and no work before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import joining as m
from zcluster.array.core import Array, from_numpy
from zcluster.array.restating import Restated
from zcluster.errors import InvalidArgument

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=15, deadline=None)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


def unknown(x: Array, *axes: int) -> Array:
    """Forget the lengths of some axes."""
    chunks = tuple(
        (math.nan,) * len(own) if axis in axes else own for axis, own in enumerate(x.chunks)
    )
    return Array(Restated(x.expr, chunks))


class TestSideBySide:
    """Several arrays in one."""

    @pytest.mark.proves(
        "array.concatenate",
        "array.concat",
        "array.stack",
        "array.vstack",
        "array.hstack",
        "array.dstack",
        "array.column_stack",
    )
    @given(data=st.data())
    @FAST
    def test_equals(
        self, data: st.DataObject, arrays: Arrays, chunked: Any, agrees: Agrees
    ) -> None:
        """Of different dtypes and chunks."""
        a, chunks = data.draw(arrays(ndim=(1, 3), length=(0, 4), nan=False))
        axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
        other = "c8" if a.dtype.kind == "c" else data.draw(st.sampled_from(["f4", "i8"]))
        b = a[(*[slice(None)] * (axis % a.ndim), slice(0, 2))].astype(other)
        x, y = from_numpy(a, chunks), from_numpy(b, tuple(data.draw(chunked(n)) for n in b.shape))
        agrees(m.concatenate([x, y, a], axis), np.concatenate([a, b, a], axis))
        agrees(m.concatenate([x, y], None), np.concatenate([a, b], None))
        agrees(m.stack([x, a, x], axis), np.stack([a, a, a], axis))
        for name in ("vstack", "hstack", "dstack"):
            agrees(getattr(m, name)([x, x]), getattr(np, name)([a, a]))
        if a.ndim < 3:
            agrees(m.column_stack([x, a]), np.column_stack([a, a]))

    @pytest.mark.proves("array.block")
    def test_block(self, agrees: Agrees) -> None:
        """Nested lists of different numbers of axes."""
        a, b = np.arange(4).reshape(2, 2), np.ones((2, 3))
        x, y = from_numpy(a, 1), from_numpy(b, 2)
        agrees(m.block([[x, y], [y, x]]), np.block([[a, b], [b, a]]))
        agrees(m.block([x, y]), np.block([a, b]))
        agrees(m.block(x), np.block(a))
        agrees(m.block([[[x]], [[x]]]), np.block([[[a]], [[a]]]))
        agrees(m.block([1, x[0]]), np.block([1, a[0]]))

    @pytest.mark.parametrize(
        ("nested", "error", "says"),
        [
            ((1, 2), TypeError, "tuple"),
            ([], ValueError, "empty"),
            ([1, [2]], ValueError, "mismatched"),
            ([[1], [[2]]], ValueError, "mismatched"),
        ],
    )
    def test_block_errors(self, nested: Any, error: type[Exception], says: str) -> None:
        """As NumPy's."""
        with pytest.raises(error, match=says):
            m.block(nested)

    @pytest.mark.parametrize(
        ("call", "says"),
        [
            (lambda: m.concatenate([]), "at least one"),
            (lambda: m.stack([]), "at least one"),
            (lambda: m.concatenate([1, 2]), "zero-dimensional"),
            (lambda: m.concatenate([[1], [[2]]]), "number of|dimensions must match"),
            (lambda: m.concatenate([np.ones((2, 3)), np.ones((2, 4))]), "along dimension 1"),
            (lambda: m.stack([[1], [1, 2]]), "same shape"),
        ],
    )
    def test_errors(self, call: Callable[[], Any], says: str) -> None:
        """At the call."""
        with pytest.raises(ValueError, match=says):
            call()

    def test_unknown_lengths(self) -> None:
        """Along the axis they do no harm; along others they must be said to agree."""
        x = from_numpy(np.arange(6).reshape(3, 2), chunks=2)
        both = m.concatenate([x, unknown(x, 0)])
        assert both.chunks == ((math.nan,) * 4, (2,))
        np.testing.assert_array_equal(
            both.compute(scheduler="sync"), np.tile(np.arange(6).reshape(3, 2), (2, 1))
        )
        with pytest.raises(InvalidArgument, match="allow_unknown_chunksizes"):
            m.concatenate([x, unknown(x, 0)], axis=1)
        wide = m.concatenate([x, unknown(x, 0)], axis=1, allow_unknown_chunksizes=True)
        assert wide.compute(scheduler="sync").shape == (3, 4)

    def test_no_task_of_its_own(self) -> None:
        """Whoever calculates with it takes the blocks of the parts."""
        x = from_numpy(np.ones(4), 2)
        names = {str(key) for key in (m.concatenate([x + 1, x + 2]) * 2).dask}
        assert not any("concatenate" in name for name in names)
