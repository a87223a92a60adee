"""Means, variances and moments equal NumPy's, and lose no more digits than its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import moments
from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import Blockwise

FAST = settings(max_examples=15, deadline=None)
ALL = ("?", "i1", "u8", "i8", "f2", "f4", "f8", "c8", "c16")

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


def _numpy(name: str, *args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return getattr(np, name)(*args, **kwargs)


def _rough(a: Any) -> dict[str, float]:
    digits = {"f2": 3e-2, "f4": 2e-5, "c8": 2e-5}.get(a.dtype.str[1:], 1e-10)
    return {"rtol": digits, "atol": digits}


class TestAgainstNumPy:
    """Each function, over shapes, dtypes, chunks, axes and keywords."""

    @pytest.mark.proves("array.{name}")
    @pytest.mark.parametrize("name", ["mean", "var", "std", "nanmean", "nanvar", "nanstd"])
    @given(data=st.data())
    @FAST
    def test_equals(self, name: str, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Value, shape and dtype are NumPy's; of nothing it is nan."""
        a, chunks = data.draw(arrays(ALL))
        axis = data.draw(st.sampled_from([None, *range(-a.ndim, a.ndim)]))
        more: dict[str, Any] = {"axis": axis, "keepdims": data.draw(st.booleans())}
        if "mean" not in name:
            more["ddof"] = data.draw(st.sampled_from([0, 1, 3]))
        split = data.draw(st.sampled_from([None, 2, 3]))
        x = from_numpy(a, chunks)
        found = getattr(moments, name)(x, split_every=split, **more)
        agrees(found, _numpy(name, a, **more), **_rough(a))

    @pytest.mark.parametrize("name", ["mean", "var", "nanmean", "nanstd"])
    @given(data=st.data())
    @FAST
    def test_where(self, name: str, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Only what is chosen counts."""
        a, chunks = data.draw(arrays(("i8", "f8", "c16"), ndim=(1, 2)))
        mask = np.arange(a.size).reshape(a.shape) % 3 > 0
        axis = data.draw(st.sampled_from([None, *range(a.ndim)]))
        where = from_numpy(mask, 2) if data.draw(st.booleans()) else mask
        found = getattr(moments, name)(from_numpy(a, chunks), axis, where=where)
        agrees(found, _numpy(name, a, axis=axis, where=mask), **_rough(a))

    @pytest.mark.proves("array.moment")
    @pytest.mark.parametrize("order", range(6))
    @given(data=st.data())
    @FAST
    def test_moment(self, order: int, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Central moments of any order, merged over blocks."""
        a, chunks = data.draw(arrays(("i8", "f8", "c16"), length=(1, 9), nan=False, ndim=(1, 2)))
        axis = data.draw(st.sampled_from([None, *range(a.ndim)]))
        expected = ((a - a.mean(axis, keepdims=True)) ** order).mean(axis)
        if order == 1:
            expected = np.zeros_like(expected)
        found = moments.moment(from_numpy(a, chunks), order, axis, split_every=2)
        agrees(found, expected, rtol=1e-9, atol=1e-9)

    @pytest.mark.proves("array.Array.{name}")
    @pytest.mark.parametrize("name", ["mean", "var", "std"])
    def test_methods(self, name: str, agrees: Agrees) -> None:
        """The same as methods of an array."""
        a = np.arange(12.0).reshape(3, 4)
        agrees(getattr(from_numpy(a, 2), name)(axis=0), getattr(a, name)(axis=0), rtol=1e-14)

    @pytest.mark.proves("array.Array.moment")
    def test_moment_as_a_method(self, agrees: Agrees) -> None:
        """NumPy has none: the fourth is the mean of fourth powers."""
        a = np.arange(12.0).reshape(3, 4)
        x: Any = from_numpy(a, 2)
        agrees(x.moment(4, axis=0), ((a - a.mean(0)) ** 4).mean(0), rtol=1e-14)

    @pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
    @pytest.mark.parametrize("name", ["mean", "var", "nanmean", "std"])
    def test_dtype(self, name: str, dtype: str, agrees: Agrees) -> None:
        """It is computed in the dtype that is given."""
        a = np.arange(12.0).reshape(3, 4)
        expected = getattr(np, name)(a, axis=0, dtype=dtype)
        agrees(getattr(moments, name)(from_numpy(a, 2), 0, dtype=dtype), expected, rtol=1e-5)

    def test_durations(self, agrees: Agrees) -> None:
        """Durations have a mean."""
        a = np.array([1, 2, 6, 9], "m8[s]")
        agrees(moments.mean(from_numpy(a, 3)), a.mean())

    def test_correction(self, agrees: Agrees) -> None:
        """Another name of ddof; not both."""
        a = np.arange(5.0)
        agrees(moments.std(from_numpy(a, 2), correction=1), a.std(ddof=1), rtol=1e-14)
        with pytest.raises(ValueError, match="give one of them"):
            moments.std(from_numpy(a, 2), ddof=1, correction=1)


class TestCare:
    """What blocks, sizes and names could spoil."""

    def test_a_large_mean_does_not_hide_the_variance(self) -> None:
        """Sums of squares less squares of sums would lose all digits here."""
        a = 1e9 + np.random.default_rng(0).random(10_000)
        found = moments.var(from_numpy(a, 700), split_every=3).compute(scheduler="sync")
        assert np.isclose(found, a.var(), rtol=1e-9)

    def test_unknown_lengths(self) -> None:
        """The count is found along the way."""
        x = from_numpy(np.array([1.0, 2.0, 6.0]), 2)
        chunks = ((float("nan"), float("nan")),)
        unknown = Array(Blockwise("unknown", np.positive, [x.expr], (0,), [(0,)], chunks, x.dtype))
        assert float(moments.mean(unknown).compute(scheduler="sync")) == 3.0

    def test_names(self) -> None:
        """As Dask has them: the repr of a mean begins so."""
        x = from_numpy(np.arange(4.0), 2)
        assert moments.mean(x).name.startswith("mean_agg-aggregate-")
        assert moments.var(x).name == moments.var(x).name
        assert moments.var(x).name != moments.var(x, ddof=1).name

    def test_several_of_one_mask(self) -> None:
        """Reductions that share a mask do not get into each other's way, sliced or not."""
        a, mask = np.arange(12.0).reshape(3, 4), np.arange(12).reshape(3, 4) % 2 > 0
        x, where = from_numpy(a, 2), from_numpy(mask, 2)
        mean, var = moments.mean(x, 1, where=where), moments.var(x, 1, where=where)
        joined = (mean[1:] + var[1:] + mean[:2]).compute(scheduler="sync")
        means, vars_ = a.mean(1, where=mask), a.var(1, where=mask)
        np.testing.assert_allclose(joined, means[1:] + vars_[1:] + means[:2])

    @pytest.mark.parametrize("order", [-1, 1.5])
    def test_order(self, order: Any) -> None:
        """An order that is none."""
        with pytest.raises(ValueError, match="expected an integer of 0 or more"):
            moments.moment(from_numpy(np.arange(3.0)), order)
