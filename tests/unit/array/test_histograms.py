"""Histograms equal NumPy's, with limits that are given and with those that the data have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import histograms
from zcluster.array.core import Array, from_numpy

FAST = settings(max_examples=40, deadline=None)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


def _same_edges(found: Any, expected: Any) -> None:
    value = found.compute(scheduler="sync") if isinstance(found, Array) else found
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_array_equal(value, expected)


class TestHistogram:
    """One dimension."""

    @pytest.mark.proves("array.histogram", "array.histogram_bin_edges")
    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Any bins, limits, weights and shapes."""
        a, chunks = data.draw(arrays(("u1", "i8", "f4", "f8"), nan=False, ndim=(0, 3)))
        bins: Any = data.draw(st.sampled_from([1, 7, [-2, 0, 1, 5], np.linspace(-4, 4, 9)]))
        more: dict[str, Any] = {"density": data.draw(st.booleans())}
        if data.draw(st.booleans()):
            more["range"] = (-3, 4.5)
        if data.draw(st.booleans()):
            kind = data.draw(st.sampled_from(["i8", "f4", "f8"]))
            more["weights"] = np.arange(a.size).reshape(a.shape).astype(kind)
        with np.errstate(all="ignore"):
            expected = np.histogram(a, bins, **more)
        counts, edges = histograms.histogram(from_numpy(a, chunks), bins, **more)
        agrees(counts, expected[0], rtol=1e-6)
        _same_edges(edges, expected[1])
        found = histograms.histogram_bin_edges(from_numpy(a, chunks), bins, more.get("range"))
        _same_edges(found, expected[1])

    def test_what_is_lazy(self, agrees: Agrees) -> None:
        """Edges that are computed, weights that are lazy."""
        a, w = np.arange(10.0), np.arange(10.0) % 3
        edges = np.array([0.0, 2.0, 7.0, 9.0])
        counts, found = histograms.histogram(
            from_numpy(a, 3), from_numpy(edges, 2), weights=from_numpy(w, 4)
        )
        agrees(counts, np.histogram(a, edges, weights=w)[0])
        assert isinstance(found, Array)

    def test_bool(self, agrees: Agrees) -> None:
        """Truth is counted as 0 and 1."""
        a = np.array([True, False, True])
        counts, _ = histograms.histogram(from_numpy(a, 2), 2, (0, 1))
        agrees(counts, np.array([1, 2]))

    def test_errors(self) -> None:
        """What cannot be is said at the call; what the data say, when they are there."""
        x = from_numpy(np.array([1.0, np.nan]), 1)
        with pytest.raises(NotImplementedError, match="give a number"):
            histograms.histogram(x, "auto")
        with pytest.raises(ValueError, match="max must be larger"):
            histograms.histogram(x, 3, (1, 0))
        with pytest.raises(ValueError, match="not finite"):
            histograms.histogram(x, 3, (0, np.inf))
        with pytest.raises(ValueError, match="must be positive"):
            histograms.histogram(x, 0)
        with pytest.raises(ValueError, match="must increase monotonically"):
            histograms.histogram(x, [3, 1, 2])
        with pytest.raises(ValueError, match="must be 1d"):
            histograms.histogram(x, [[3, 1, 2]])
        with pytest.raises(ValueError, match="weights of shape"):
            histograms.histogram(x, 3, (0, 1), weights=[1])
        with pytest.raises(ValueError, match="not finite"):
            histograms.histogram(x, 3)[0].compute(scheduler="sync")


class TestMoreDimensions:
    """`histogramdd` and `histogram2d`."""

    @pytest.mark.proves("array.histogramdd")
    @given(data=st.data())
    @FAST
    def test_rows(self, data: st.DataObject, chunked: Any, agrees: Agrees) -> None:
        """A row for each point, in any chunks."""
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        length, count = data.draw(st.integers(0, 20)), data.draw(st.integers(1, 3))
        a = rng.integers(0, 5, (length, count)) + rng.random((length, count))
        chunks = (data.draw(chunked(length)), data.draw(chunked(count)))
        bins: Any = data.draw(st.sampled_from([3, [2, 3, 4], [[0, 1, 3], 2, [0.0, 5.0]]]))
        bins = bins if isinstance(bins, int) else bins[:count]
        limits = data.draw(st.sampled_from([None, [(0, 3), None, (1, 2)]]))
        more: dict[str, Any] = {"range": None if limits is None else limits[:count]}
        if data.draw(st.booleans()):
            more["weights"] = rng.random(length)
        more["density"] = data.draw(st.booleans())
        with np.errstate(all="ignore"):
            expected = np.histogramdd(a, bins, **more)
        counts, edges = histograms.histogramdd(from_numpy(a, chunks), bins, **more)
        agrees(counts, expected[0], rtol=1e-12)
        for one, other in zip(edges, expected[1], strict=True):
            np.testing.assert_array_equal(
                one.compute(scheduler="sync") if isinstance(one, Array) else one, other
            )

    @pytest.mark.proves("array.histogram2d")
    def test_coordinates(self, agrees: Agrees) -> None:
        """An array for each coordinate, with chunks of their own."""
        rng = np.random.default_rng(0)
        x, y, w = rng.random(20), rng.random(20), rng.random(20)
        found = histograms.histogram2d(
            from_numpy(x, 6), from_numpy(y, 7), 4, weights=from_numpy(w, 3)
        )
        expected = np.histogram2d(x, y, 4, weights=w)
        agrees(found[0], expected[0], rtol=1e-12)
        for one, other in zip(found[1:], expected[1:], strict=True):
            agrees(one, other)

    @pytest.mark.parametrize("bins", [3, [0, 0.5, 1], [2, [0, 0.5, 1]], [3, 2]])
    def test_bins_of_two(self, bins: Any, agrees: Agrees) -> None:
        """Bins for both or for each."""
        x, y = np.random.default_rng(0).random((2, 20))
        limits = [(0, 1), (0, 1)]
        found = histograms.histogram2d(x, y, bins, limits)
        agrees(found[0], np.histogram2d(x, y, bins, limits)[0])

    def test_errors(self) -> None:
        """What does not fit is refused."""
        x = from_numpy(np.zeros((3, 2)))
        with pytest.raises(ValueError, match="a row for each point"):
            histograms.histogramdd(from_numpy(np.zeros(3)), 2)
        with pytest.raises(ValueError, match="bins for 3 dimensions"):
            histograms.histogramdd(x, [1, 2, 3])
        with pytest.raises(ValueError, match="range has 1 entries"):
            histograms.histogramdd(x, 2, [(0, 1)])
        with pytest.raises(ValueError, match="one length"):
            histograms.histogramdd([np.zeros(2), np.zeros(3)], 2)
        with pytest.raises(ValueError, match="weights of shape"):
            histograms.histogramdd(x, 2, weights=np.zeros(2))
