"""Sums, products, extremes and the like equal NumPy's, whatever the chunks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster.array as da
from zcluster.array import reductions
from zcluster.array.core import Array, from_numpy

FAST = settings(max_examples=15, deadline=None)
ALL = ("?", "i1", "u1", "i8", "u8", "f2", "f4", "f8", "c16")
EXACT = ("min", "max", "nanmin", "nanmax", "any", "all", "count_nonzero")

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


def _function(name: str) -> Callable[..., Array]:
    found: Callable[..., Array] = getattr(
        reductions, f"{name}_" if name in ("sum", "min", "max", "any", "all") else name
    )
    return found


def _axis(data: st.DataObject, ndim: int) -> Any:
    choices: list[Any] = [None, *range(-ndim, ndim)]
    if ndim > 1:
        choices += [(0, 1), (-1, 0), ()]
    return data.draw(st.sampled_from(choices))


def _quiet(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what NumPy gives without its warnings, or the error it raises."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return function(*args, **kwargs)
        except (ValueError, TypeError) as error:
            return error


class TestAgainstNumPy:
    """Each function, over shapes, dtypes, chunks, axes and keywords."""

    @pytest.mark.proves("array.{name}")
    @pytest.mark.parametrize(
        "name",
        ["sum", "prod", "min", "max", "any", "all", "nansum", "nanprod", "nanmin", "nanmax"],
    )
    @given(data=st.data())
    @FAST
    def test_equals(self, name: str, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Value, shape and dtype are NumPy's."""
        a, chunks = data.draw(arrays(ALL))
        axis = _axis(data, a.ndim)
        keepdims = data.draw(st.booleans())
        split = data.draw(st.sampled_from([None, 2, 3, {0: 2}]))
        expected = _quiet(getattr(np, name), a, axis=axis, keepdims=keepdims)
        if isinstance(expected, Exception):
            with pytest.raises(type(expected)):
                _function(name)(from_numpy(a, chunks), axis=axis).compute(scheduler="sync")
            return
        x = from_numpy(a, chunks)
        found = _function(name)(x, axis=axis, keepdims=keepdims, split_every=split)
        if name in EXACT or a.dtype.kind in "?iu":
            agrees(found, expected)
        else:
            rough = 2e-2 if a.dtype == np.float16 else 1e-5
            agrees(found, expected, rtol=rough, atol=rough)

    @pytest.mark.parametrize("name", ["sum", "prod", "min", "max", "any", "all", "nansum"])
    @given(data=st.data())
    @FAST
    def test_where(self, name: str, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Only what is chosen counts; extremes begin with the initial value."""
        a, chunks = data.draw(arrays(("i8", "f8"), ndim=(1, 2)))
        mask = np.arange(a.shape[-1]) % 2 == 0
        more = {} if name in ("any", "all") else {"initial": data.draw(st.integers(-9, 9))}
        axis = _axis(data, a.ndim)
        expected = _quiet(getattr(np, name), a, axis=axis, where=mask, **more)
        where = from_numpy(mask, 2) if data.draw(st.booleans()) else mask
        found = _function(name)(from_numpy(a, chunks), axis=axis, where=where, **more)
        agrees(found, expected, rtol=1e-12)

    @given(data=st.data())
    @FAST
    def test_initial(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """An initial value counts once, however many blocks there are."""
        a, chunks = data.draw(arrays(("i8",), ndim=(1, 2)))
        for name in ("sum", "prod", "min", "max"):
            expected = getattr(np, name)(a, initial=7)
            agrees(_function(name)(from_numpy(a, chunks), initial=7), expected)

    @pytest.mark.proves("array.count_nonzero")
    @given(data=st.data())
    @FAST
    def test_count_nonzero(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """What is not zero is counted; nan is not zero."""
        a, chunks = data.draw(arrays(ALL))
        axis = _axis(data, a.ndim)
        keepdims = data.draw(st.booleans())
        expected = np.count_nonzero(a, axis=axis, keepdims=keepdims)
        found = reductions.count_nonzero(from_numpy(a, chunks), axis, keepdims=keepdims)
        agrees(found, np.asarray(expected, np.intp))

    @pytest.mark.proves("array.ptp")
    @given(data=st.data())
    @FAST
    def test_ptp(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """The range along each axis."""
        a, chunks = data.draw(arrays(("i8", "f8"), length=(1, 6)))
        axis = _axis(data, a.ndim)
        expected = _quiet(np.ptp, a, axis=axis)
        agrees(reductions.ptp(from_numpy(a, chunks), axis), expected)

    @pytest.mark.proves("array.{name}")
    @pytest.mark.parametrize("name", ["amin", "amax"])
    def test_other_names(self, name: str, agrees: Agrees) -> None:
        """Older names of the extremes."""
        a = np.arange(12).reshape(3, 4) % 5
        agrees(getattr(da, name)(from_numpy(a, 2), axis=0), getattr(np, name)(a, axis=0))

    @pytest.mark.proves("array.Array.{name}")
    @pytest.mark.parametrize("name", ["sum", "prod", "min", "max", "any", "all"])
    def test_methods(self, name: str, agrees: Agrees) -> None:
        """The same as methods of an array."""
        a = np.arange(12).reshape(3, 4) % 5
        agrees(getattr(from_numpy(a, 2), name)(axis=0), getattr(a, name)(axis=0))

    @pytest.mark.parametrize("dtype", ["i4", "f4", "f8", "c8"])
    def test_dtype_that_is_asked_for(self, dtype: str, agrees: Agrees) -> None:
        """It is summed in the dtype that is given."""
        a = np.arange(20, dtype="i8").reshape(4, 5)
        agrees(reductions.sum_(from_numpy(a, 2), 0, dtype=dtype), a.sum(0, dtype=dtype), rtol=1e-6)

    def test_times(self, agrees: Agrees) -> None:
        """Durations are added; the extremes of dates have their dtype, and NaT wins."""
        durations = np.arange(10).astype("m8[s]")
        agrees(reductions.sum_(from_numpy(durations, 3)), durations.sum())
        dates = np.array(["2020-01-02", "1999-01-01", "2021-05-05"], "M8[D]")
        agrees(reductions.max_(from_numpy(dates, 2)), dates.max())
        dates[1] = "NaT"
        agrees(reductions.min_(from_numpy(dates, 2)), dates.min())
        agrees(reductions.nanmin(from_numpy(dates, 2)), np.nanmin(dates))

    def test_objects(self) -> None:
        """Objects are added by their own operator."""
        a = np.array([10**30, 1, 2, 3], object)
        assert reductions.sum_(from_numpy(a, 2)).compute(scheduler="sync") == 10**30 + 6
        assert reductions.max_(from_numpy(a, 2)).compute(scheduler="sync") == 10**30


class TestCare:
    """Where blocks could make a difference, they make none."""

    def test_half_precision_does_not_stop_growing(self) -> None:
        """Partial sums of float16 are kept in float32."""
        x = from_numpy(np.ones(40_000, "f2"), 1_000)
        assert float(reductions.sum_(x, dtype="f4").compute(scheduler="sync")) == 40_000
        assert float(reductions.sum_(x).compute(scheduler="sync")) == 40_000
        assert reductions.sum_(x).dtype == np.float16

    def test_fused_tiles_give_the_same(self) -> None:
        """A chain before a sum is evaluated in tiles, of any number of axes."""
        a = np.random.default_rng(0).random((600, 700))
        x = from_numpy(a, (600, 350))
        lazy = reductions.sum_(x * 2 + 1)
        assert np.isclose(lazy.compute(scheduler="sync"), (a * 2 + 1).sum(), rtol=1e-13)
        rows = reductions.max_(abs(x - 0.5), axis=1)
        np.testing.assert_array_equal(rows.compute(scheduler="sync"), abs(a - 0.5).max(1))

    def test_blocks_without_elements(self, agrees: Agrees) -> None:
        """What is empty does not count, and need not be refused."""
        a = np.arange(5.0)
        x = from_numpy(a, ((0, 3, 0, 2, 0),))
        agrees(reductions.max_(x), a.max())
        agrees(reductions.min_(x, keepdims=True, split_every=2), a.min(keepdims=True))

    def test_unknown_lengths(self) -> None:
        """Reductions need not know how long the chunks are."""
        x = from_numpy(np.arange(6.0), 2)
        unknown = Array(_without_lengths(x))
        assert float(reductions.sum_(unknown).compute(scheduler="sync")) == 15
        assert float(reductions.max_(unknown).compute(scheduler="sync")) == 5

    def test_a_slice_reduces_less(self) -> None:
        """A slice of a reduction along other axes reads only what it needs."""
        a = np.arange(24.0).reshape(4, 6)
        lazy = reductions.sum_(from_numpy(a, 2), axis=1)[1:3]
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), a.sum(1)[1:3])

    def test_names_are_equal_for_equal_calls(self) -> None:
        """The same reduction has the same name; another one has not."""
        x = from_numpy(np.arange(6.0), 2)
        assert reductions.sum_(x).name == reductions.sum_(x).name
        assert reductions.sum_(x).name != reductions.sum_(x, keepdims=True).name
        assert reductions.sum_(x).name != reductions.sum_(x, initial=1).name
        assert reductions.sum_(x).name.startswith("sum-aggregate-")


def _without_lengths(x: Array) -> Any:
    from zcluster.array.expressions import Blockwise

    along = [tuple(range(x.ndim))]
    chunks = tuple((float("nan"),) * len(own) for own in x.chunks)
    return Blockwise("unknown", np.positive, [x.expr], (0,), along, chunks, x.dtype)


class TestOut:
    """An array that is named as out stands for the result."""

    def test_out(self) -> None:
        """It is returned, with its own dtype."""
        x = from_numpy(np.arange(6), 2)
        out = from_numpy(np.zeros((), "f4"))
        assert reductions.sum_(x, out=out) is out
        value = out.compute(scheduler="sync")
        assert value == 15
        assert value.dtype == np.float32

    @pytest.mark.parametrize("out", [np.zeros(()), from_numpy(np.zeros(3))])
    def test_what_does_not_fit(self, out: Any) -> None:
        """The error says what was expected."""
        with pytest.raises(ValueError, match="expected a lazy array of shape"):
            reductions.sum_(from_numpy(np.arange(6), 2), out=out)


class TestErrors:
    """What cannot be is said at the call."""

    def test_no_identity(self) -> None:
        """The greatest of nothing."""
        with pytest.raises(ValueError, match="zero-size array to reduction operation maximum"):
            reductions.max_(from_numpy(np.empty((0, 3)), 2), axis=0)

    def test_axis(self) -> None:
        """An axis that is not there."""
        with pytest.raises(np.exceptions.AxisError):
            reductions.sum_(from_numpy(np.zeros(3)), axis=1)

    def test_split_every(self) -> None:
        """One at a time would never end."""
        with pytest.raises(ValueError, match="split_every=1"):
            reductions.sum_(from_numpy(np.zeros(3)), split_every=1)

    def test_where_needs_an_initial_value(self) -> None:
        """As in NumPy, for what has no identity."""
        with pytest.raises(ValueError, match="initial="):
            reductions.max_(from_numpy(np.zeros(3)), where=[True, False, True])

    def test_where_that_does_not_fit(self) -> None:
        """Its shape must broadcast to that of the array, and its dtype be bool."""
        x = from_numpy(np.zeros(3))
        with pytest.raises(ValueError, match="broadcasts to"):
            reductions.sum_(x, where=np.ones((2, 3), bool))
        with pytest.raises(TypeError, match="expected bool"):
            reductions.sum_(x, where=[1, 0, 1])

    def test_what_cannot_be_added(self) -> None:
        """Dates have no sum."""
        with pytest.raises(TypeError):
            reductions.sum_(from_numpy(np.zeros(3, "M8[D]")))
