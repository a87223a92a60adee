"""Arrays as sets: what NumPy finds, in whatever chunks the elements are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import sets
from zcluster.array.core import Array, from_numpy

FAST = settings(max_examples=40, deadline=None)
ALL = ("?", "i1", "u8", "i8", "f4", "f8", "c16", "m8[s]", "M8[D]")

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


class TestUnique:
    """The different elements, and where they are."""

    @pytest.mark.proves("array.unique")
    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """With any of what else can be asked for."""
        a, chunks = data.draw(arrays(ALL))
        flags: dict[str, Any] = {
            f"return_{name}": data.draw(st.booleans()) for name in ("index", "inverse", "counts")
        }
        expected: Any = np.unique(a, **flags)
        found = sets.unique(from_numpy(a, chunks), **flags)
        if not any(flags.values()):
            expected, found = (expected,), (found,)
        for one, other in zip(found, expected, strict=True):
            agrees(one, other)

    @given(data=st.data())
    @FAST
    def test_nan_that_differ(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Each nan by itself, if that is wanted."""
        a, chunks = data.draw(arrays(("f8", "i8")))
        expected = np.unique(a, return_counts=True, equal_nan=False)
        found = sets.unique(from_numpy(a, chunks), return_counts=True, equal_nan=False)
        for one, other in zip(found, expected, strict=True):
            agrees(one, other)

    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_along_an_axis(self, axis: int, agrees: Agrees) -> None:
        """Different rows or columns, in one task."""
        a = np.array([[1, 2, 1], [3, 4, 3], [1, 2, 1]])
        flags: dict[str, Any] = {
            "return_index": True,
            "return_inverse": True,
            "return_counts": True,
        }
        expected: Any = np.unique(a, axis=axis, **flags)
        found = sets.unique(from_numpy(a, 2), axis=axis, **flags)
        for one, other in zip(found, expected, strict=True):
            agrees(one, other)
        agrees(sets.unique(from_numpy(a, 2), axis=axis), np.unique(a, axis=axis))

    @pytest.mark.parametrize("kind", ["one value", "all different", "skewed"])
    def test_many(self, kind: str, agrees: Agrees) -> None:
        """Few different elements and many, over many blocks."""
        rng = np.random.default_rng(0)
        a = {
            "one value": np.ones(5_000),
            "all different": rng.permutation(5_000),
            "skewed": rng.zipf(1.3, 5_000),
        }[kind]
        found = sets.unique(from_numpy(a, 100), return_index=True, return_counts=True)
        expected = np.unique(a, return_index=True, return_counts=True)
        for one, other in zip(found, expected, strict=True):
            agrees(one, other)

    def test_text(self, agrees: Agrees) -> None:
        """Whatever can be compared."""
        a = np.array(["b", "a", "", "b", "longer"])
        agrees(sets.unique(from_numpy(a, 2)), np.unique(a))

    def test_what_is_not_there(self) -> None:
        """The error names a way round."""
        with pytest.raises(NotImplementedError, match="equal_nan"):
            sets.unique(from_numpy(np.ones(3)), return_inverse=True, equal_nan=False)


class TestTwoSets:
    """Unions, intersections and differences."""

    @pytest.mark.proves("array.{name}")
    @pytest.mark.parametrize("name", ["union1d", "intersect1d", "setxor1d", "setdiff1d"])
    @given(data=st.data())
    @FAST
    def test_equals(self, name: str, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Arrays of any shapes and of two dtypes."""
        (a, first), (b, second) = (data.draw(arrays(("i8", "f8", "u1"))) for _ in range(2))
        expected = getattr(np, name)(a, b)
        agrees(getattr(sets, name)(from_numpy(a, first), from_numpy(b, second)), expected)

    def test_difference_in_order(self, agrees: Agrees) -> None:
        """Of what is known to be a set the order is kept."""
        a, b = np.array([[5, 3], [9, 1]]), np.array([3, 4])
        found = sets.setdiff1d(from_numpy(a, 1), b, assume_unique=True)
        agrees(found, np.setdiff1d(a, b, assume_unique=True))

    def test_places(self) -> None:
        """The error names a way round."""
        with pytest.raises(NotImplementedError, match="return_index=True"):
            sets.intersect1d([1], [1], return_indices=True)


@pytest.mark.proves("array.isin")
class TestIsIn:
    """Whether elements are among others."""

    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Others that are here, or lazy; of any shape."""
        (a, first), (b, second) = (data.draw(arrays(("i8", "f8"))) for _ in range(2))
        invert = data.draw(st.booleans())
        others: Any = from_numpy(b, second) if data.draw(st.booleans()) else b
        found = sets.isin(from_numpy(a, first), others, invert=invert)
        agrees(found, np.asarray(np.isin(a, b, invert=invert)))

    def test_many_others(self, agrees: Agrees, monkeypatch: pytest.MonkeyPatch) -> None:
        """Too many to be told to every task go to each block by block."""
        monkeypatch.setattr(sets, "_SMALL", 3)
        a, b = np.arange(10), np.arange(0, 20, 3)
        agrees(sets.isin(from_numpy(a, 4), b, kind="sort"), np.isin(a, b))

    def test_kind(self) -> None:
        """A kind that there is not."""
        with pytest.raises(ValueError, match="'sort', 'table' or None"):
            sets.isin([1], [1], kind="hash")

    def test_unknown_lengths(self) -> None:
        """The different elements of what is unknown, looked for in others."""
        found: Array = sets.isin(sets.unique(from_numpy(np.array([3, 1, 3, 7]), 2)), [3, 7])
        assert found.compute(scheduler="sync").tolist() == [False, True, True]
