"""Averages, covariances and integrals equal NumPy's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import statistics
from zcluster.array.core import from_numpy

FAST = settings(max_examples=25, deadline=None)
CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


@pytest.mark.proves("array.average")
class TestAverage:
    """With weights of the shape of the array, or along the axes."""

    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """The average, and the sums of the weights."""
        a, chunks = data.draw(arrays(("i8", "f4", "c16"), ndim=(1, 3), length=(1, 6)))
        axis = data.draw(st.sampled_from([None, *range(-a.ndim, a.ndim)]))
        rng = np.random.default_rng(0)
        w: Any = None
        if data.draw(st.booleans()):
            shape = a.shape
            if axis is not None and data.draw(st.booleans()):
                shape = (a.shape[axis],)
            w = rng.integers(1, 5, shape)
        keepdims = data.draw(st.booleans())
        average: Any = np.average
        expected = average(a, axis, w, returned=True, keepdims=keepdims)
        found = statistics.average(from_numpy(a, chunks), axis, w, returned=True, keepdims=keepdims)
        rough = 1e-5 if a.dtype == np.float32 else 1e-10
        for one, other in zip(found, expected, strict=True):
            agrees(one, other, rtol=rough, atol=rough)

    def test_several_axes(self, agrees: Agrees) -> None:
        """Weights along several axes, in the order of these."""
        a, w = np.arange(24.0).reshape(2, 3, 4), np.arange(1.0, 9).reshape(4, 2)
        found = statistics.average(from_numpy(a, 2), (2, 0), w)
        agrees(found, np.average(a, (2, 0), w), **CLOSE)

    def test_errors(self) -> None:
        """Weights that do not fit, or add up to nothing."""
        x = from_numpy(np.arange(6.0).reshape(2, 3), 2)
        with pytest.raises(TypeError, match="Axis must be specified"):
            statistics.average(x, weights=[1, 2, 3])
        with pytest.raises(ValueError, match="consistent with shape"):
            statistics.average(x, 0, weights=[1, 2, 3])
        with pytest.raises(ZeroDivisionError):
            statistics.average(x, 1, weights=[1, 0, -1]).compute(scheduler="sync")


class TestCovariance:
    """`cov` and `corrcoef`, over all their keywords."""

    @pytest.mark.proves("array.cov")
    @given(data=st.data())
    @FAST
    def test_cov(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Rows or columns, more variables, weights, any ddof."""
        a, chunks = data.draw(arrays(("i8", "f8", "c16"), ndim=(1, 2), length=(3, 7), nan=False))
        rowvar = data.draw(st.booleans())
        count = a.shape[-1] if rowvar or a.ndim == 1 else a.shape[0]
        more: dict[str, Any] = {
            "rowvar": rowvar,
            "bias": data.draw(st.booleans()),
            "ddof": data.draw(st.sampled_from([None, 0, 1, 2])),
        }
        if data.draw(st.booleans()):
            more["fweights"] = np.arange(count) % 3 + 1
        if data.draw(st.booleans()):
            more["aweights"] = np.arange(count) % 2 + 0.5
        if data.draw(st.booleans()):
            more["y"] = np.sin(a)
        expected = np.cov(a, **more)
        if "y" in more:
            more["y"] = from_numpy(more["y"], 3)
        agrees(statistics.cov(from_numpy(a, chunks), **more), expected, **CLOSE)

    @pytest.mark.proves("array.corrcoef")
    @given(data=st.data())
    @FAST
    def test_corrcoef(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Correlations, nan of what does not vary."""
        a, chunks = data.draw(arrays(("f8", "c16"), ndim=(1, 2), length=(3, 7), nan=False))
        rowvar = data.draw(st.booleans())
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            expected = np.corrcoef(a, rowvar=rowvar)
        found = statistics.corrcoef(from_numpy(a, chunks), rowvar=rowvar)
        value = found.compute(scheduler="sync")
        assert value.shape == expected.shape
        # What does not vary may do so by a rounding error, here or there.
        certain = np.isfinite(expected) & np.isfinite(value)
        spread = np.std(a if rowvar or a.ndim == 1 else a.T, axis=-1)
        if np.all(spread > 1e-9):
            assert certain.all()
            np.testing.assert_allclose(value, expected, **CLOSE)

    def test_dtype(self, agrees: Agrees) -> None:
        """It is computed in the dtype that is given."""
        a = np.random.default_rng(0).random((3, 9))
        found = statistics.cov(from_numpy(a, 2), dtype="f4")
        agrees(found, np.cov(a, dtype="f4"), rtol=1e-4, atol=1e-5)

    def test_errors(self) -> None:
        """What does not fit is refused."""
        x = from_numpy(np.arange(6.0).reshape(2, 3), 2)
        with pytest.raises(ValueError, match="more than 2 dimensions"):
            statistics.cov(from_numpy(np.zeros((2, 2, 2))))
        with pytest.raises(ValueError, match="ddof"):
            statistics.cov(x, ddof=1.5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="fweights must be integers"):
            statistics.cov(x, fweights=[1, 2, 0.5])
        with pytest.raises(RuntimeError, match="one for each of 3 observations"):
            statistics.cov(x, aweights=[1.0, 2.0])
        with pytest.raises(ValueError, match="aweights cannot be negative"):
            statistics.cov(x, aweights=[1.0, 2.0, -1.0])


@pytest.mark.proves("array.trapezoid")
class TestTrapezoid:
    """Integrals along an axis."""

    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Even points, points along the axis, points for each element."""
        a, chunks = data.draw(arrays(("i8", "f8"), ndim=(1, 3), length=(1, 6)))
        axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
        points = data.draw(st.sampled_from(["even", "axis", "each"]))
        x: Any = {"even": None, "axis": np.arange(a.shape[axis]) ** 2, "each": np.sin(a)}[points]
        found = statistics.trapezoid(from_numpy(a, chunks), x, 0.5, axis)
        agrees(found, np.trapezoid(a, x, 0.5, axis), **CLOSE)
