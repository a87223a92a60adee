"""Medians, percentiles and quantiles equal NumPy's, by every method, and to the last bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zcluster import config
from zcluster.array import quantiles
from zcluster.array.core import Array, from_numpy

FAST = settings(max_examples=30, deadline=None)
METHODS = [
    "linear",
    "lower",
    "higher",
    "nearest",
    "midpoint",
    "inverted_cdf",
    "averaged_inverted_cdf",
    "closest_observation",
    "interpolated_inverted_cdf",
    "hazen",
    "weibull",
    "median_unbiased",
    "normal_unbiased",
]

#: Blocks may be so small that elements are looked for across them.
SMALL = partial(config.set, {"array.chunk-size": 8})
SIZES = st.sampled_from(["small", "usual"]).map(
    lambda size: SMALL() if size == "small" else nullcontext()
)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


def _numpy(name: str, *args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return getattr(np, name)(*args, **kwargs)


def _axis(data: st.DataObject, ndim: int) -> Any:
    choices: list[Any] = [None, *range(-ndim, ndim)]
    return data.draw(st.sampled_from([*choices, (0, 1)] if ndim > 1 else choices))


class TestMedian:
    """`median` and `nanmedian`."""

    @pytest.mark.proves("array.{name}")
    @pytest.mark.parametrize("name", ["median", "nanmedian"])
    @given(data=st.data())
    @FAST
    def test_equals(self, name: str, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Along any axes or of all elements; nan of nothing."""
        a, chunks = data.draw(arrays(("?", "i1", "i8", "f4", "f8", "m8[s]")))
        axis, keepdims = _axis(data, a.ndim), data.draw(st.booleans())
        if a.dtype.kind == "m" and name == "nanmedian":
            return
        assume(a.size or not isinstance(axis, tuple))  # NumPy itself cannot: it reshapes to -1
        expected = np.asarray(_numpy(name, a, axis=axis, keepdims=keepdims))
        with data.draw(SIZES):
            agrees(getattr(quantiles, name)(from_numpy(a, chunks), axis, keepdims), expected)

    @pytest.mark.parametrize("length", [1, 2, 999, 10_000])
    @pytest.mark.parametrize("kind", ["random", "one value", "few values", "skewed", "nan"])
    def test_many(self, length: int, kind: str, agrees: Agrees) -> None:
        """Selection across blocks, whatever the distribution."""
        rng = np.random.default_rng(length)
        a = {
            "random": rng.random(length),
            "one value": np.ones(length),
            "few values": rng.integers(0, 3, length) / 2,
            "skewed": rng.pareto(0.2, length),
            "nan": np.where(rng.random(length) < 0.3, np.nan, rng.random(length)),
        }[kind]
        x = from_numpy(a, max(length // 3, 1))
        with SMALL():
            agrees(quantiles.median(x), _numpy("median", a))
            if not np.isnan(a).all():
                agrees(quantiles.nanmedian(x), _numpy("nanmedian", a))
            for q in (0.001, [0.3, 0.9]):
                agrees(quantiles.quantile(x, q), _numpy("quantile", a, q))

    def test_equal_elements_are_not_moved(self) -> None:
        """What equals a key is counted: an array of one value hands over nothing."""
        from zcluster.array import selection

        steps = quantiles._Middle()
        runs = [selection._Divided(False, False)(np.zeros(5_000)) for _ in range(5)]
        brackets = selection._Bracket(steps)([sample for _, sample in runs])
        narrowed = [selection._narrowed(values, brackets) for values, _ in runs]
        assert all(len(values) == 0 for one in narrowed for _, _, values in one)
        assert selection._Pick(steps, float)(brackets, narrowed) == 0

    def test_little_is_moved(self) -> None:
        """Of random elements about as many as a few roots of the length of a block."""
        from zcluster.array import selection

        rng = np.random.default_rng(0)
        steps = quantiles._Middle()
        runs = [selection._Divided(False, False)(rng.random(10_000)) for _ in range(10)]
        brackets = selection._Bracket(steps)([sample for _, sample in runs])
        narrowed = [selection._narrowed(values, brackets) for values, _ in runs]
        middle = [sum(len(one[place][2]) for one in narrowed) for place in (0, 1)]
        assert max(middle) < 2_500


class TestQuantiles:
    """Quantiles and percentiles, with nan or without."""

    @pytest.mark.proves("array.quantile", "array.nanquantile")
    @pytest.mark.parametrize("method", METHODS)
    @given(data=st.data())
    @settings(max_examples=12, deadline=None)
    def test_methods(
        self, method: str, data: st.DataObject, arrays: Arrays, agrees: Agrees
    ) -> None:
        """Every method, of numbers and arrays of q."""
        a, chunks = data.draw(arrays(("i8", "f4", "f8"), length=(1, 9)))
        q: Any = data.draw(
            st.sampled_from([0.5, 0, 1, 0.1, [0.0, 0.37, 1.0], [[0.2], [0.9]], np.float32(0.3), []])
        )
        axis, keepdims = _axis(data, a.ndim), data.draw(st.booleans())
        name = data.draw(st.sampled_from(["quantile", "nanquantile"]))
        try:
            expected = _numpy(name, a, q, axis=axis, method=method, keepdims=keepdims)
        except (ValueError, IndexError, TypeError):
            return  # of what NumPy itself cannot
        if name == "nanquantile" and (np.ndim(q) > 1 or np.isnan(a).all()):
            return  # the place of the axes, and the dtype, follow other rules there
        with data.draw(SIZES):
            found = getattr(quantiles, name)(
                from_numpy(a, chunks), q, axis, method=method, keepdims=keepdims
            )
            agrees(found, np.asarray(expected))

    @pytest.mark.proves("array.{name}")
    @pytest.mark.parametrize("name", ["percentile", "nanpercentile"])
    @given(data=st.data())
    @settings(max_examples=15, deadline=None)
    def test_percentiles(
        self, name: str, data: st.DataObject, arrays: Arrays, agrees: Agrees
    ) -> None:
        """A hundred times as large."""
        a, chunks = data.draw(arrays(("i8", "f8", "M8[D]"), length=(1, 9), nan=False))
        q: Any = data.draw(st.sampled_from([50, 33.3, [0, 25, 99.9]]))
        method = data.draw(st.sampled_from(["linear", "lower", "hazen"]))
        if a.dtype.kind == "M":
            method, q = "lower", [0, 50]
        axis = _axis(data, a.ndim)
        expected = _numpy(name, a, q, axis=axis, method=method)
        found = getattr(quantiles, name)(from_numpy(a, chunks), q, axis, method=method)
        agrees(found, np.asarray(expected))

    def test_many(self, agrees: Agrees) -> None:
        """A hundred quantiles of many elements, in one go."""
        a = np.random.default_rng(0).standard_normal(20_000)
        q = np.linspace(0, 1, 101)
        for method in METHODS:
            with SMALL():
                found = quantiles.quantile(from_numpy(a, 3_000), q, method=method)
            agrees(found, _numpy("quantile", a, q, method=method))

    @pytest.mark.parametrize("q", [0.3, [0.1, 0.8]])
    def test_long_lines(self, q: Any, agrees: Agrees) -> None:
        """Lines that are too long for a block are looked through across blocks."""
        a = np.random.default_rng(0).random((2, 40, 3))
        with config.set({"array.chunk-size": 64}):
            for axis in range(3):
                x = from_numpy(a, (1, 7, 2))
                agrees(quantiles.quantile(x, q, axis), np.quantile(a, q, axis))
                kept = quantiles.quantile(x, q, axis, keepdims=True)
                agrees(kept, np.quantile(a, q, axis, keepdims=True))

    def test_all_nan(self, agrees: Agrees) -> None:
        """There is nothing left, and the quantile is nan."""
        a = np.full(9, np.nan)
        with SMALL():
            agrees(quantiles.nanquantile(from_numpy(a, 2), [0.2, 0.4]), np.full(2, np.nan))

    def test_as_dask_calls_it(self, agrees: Agrees) -> None:
        """The method where Dask has it, and the way that makes no difference."""
        a = np.arange(10.0)
        found = quantiles.percentile(from_numpy(a, 3), [25, 75], "lower", internal_method="dask")
        agrees(found, np.percentile(a, [25, 75], method="lower"))

    def test_names(self) -> None:
        """The same quantile has the same name; another one has not."""
        x = from_numpy(np.arange(6.0), 2)
        assert quantiles.quantile(x, 0.5).name == quantiles.quantile(x, 0.5).name
        assert quantiles.quantile(x, 0.5).name != quantiles.quantile(x, 0.6).name
        assert quantiles.quantile(x, 0.5).name != quantiles.quantile(x, 0.5, method="lower").name


class TestErrors:
    """What cannot be is said at the call."""

    def test_arguments(self) -> None:
        """No such method, q out of range, lazy q, weights."""
        x = from_numpy(np.arange(6.0), 2)
        with pytest.raises(ValueError, match="is not a valid method"):
            quantiles.quantile(x, 0.5, method="best")
        with pytest.raises(ValueError, match="range"):
            quantiles.quantile(x, 1.5)
        with pytest.raises(ValueError, match="q is a lazy array"):
            quantiles.quantile(x, x)
        with pytest.raises(NotImplementedError, match="cumsum"):
            quantiles.quantile(x, 0.5, weights=np.ones(6))
        with pytest.raises(TypeError):
            quantiles.quantile(from_numpy(np.ones(3, complex)), 0.5)

    def test_out(self) -> None:
        """An array that is named as out stands for the result."""
        out = from_numpy(np.zeros(()))
        x: Array = from_numpy(np.arange(6.0), 2)
        assert quantiles.median(x, out=out) is out
        assert out.compute(scheduler="sync") == 2.5
