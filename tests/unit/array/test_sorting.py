"""Sorted arrays equal NumPy's: on skewed data, with nan, over any chunks and along any axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster import config
from zcluster.array import sorting
from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import Blockwise

FAST = settings(max_examples=40, deadline=None)
ALL = ("?", "i1", "u8", "i8", "f2", "f4", "f8", "c16", "m8[s]", "M8[D]")

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


def _without_lengths(x: Array) -> Array:
    chunks = tuple((float("nan"),) * len(own) for own in x.chunks)
    along = [tuple(range(x.ndim))]
    return Array(Blockwise("unknown", np.array, [x.expr], (0,), along, chunks, x.dtype))


def _skewed(kind: str, length: int) -> Any:
    """Data on which cuts by value alone would be very uneven."""
    rng = np.random.default_rng(7)
    return {
        "one value": np.full(length, 3.0),
        "two values": np.where(rng.random(length) < 0.999, 1.0, 0.0),
        "powers": rng.pareto(0.3, length),
        "sorted": np.arange(length, dtype=float),
        "reversed": np.arange(length, dtype=float)[::-1],
        "mostly nan": np.where(rng.random(length) < 0.9, np.nan, rng.random(length)),
        "with inf": np.where(rng.random(length) < 0.1, np.inf, -rng.random(length)),
        "saw": np.arange(length) % 17.0,
    }[kind]


class TestAgainstNumPy:
    """Sort and argsort, over shapes, dtypes, chunks and axes."""

    @given(data=st.data())
    @FAST
    def test_one_axis(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Across blocks: value, dtype, and the chunks of the array."""
        a, chunks = data.draw(arrays(ALL, ndim=(1, 1), length=(0, 60)))
        x = from_numpy(a, chunks)
        assert sorting.sort(x).chunks == x.chunks
        agrees(sorting.sort(x), np.sort(a))
        agrees(sorting.argsort(x), np.argsort(a, kind="stable"))

    @pytest.mark.proves("array.sort", "array.argsort")
    @given(data=st.data())
    @FAST
    def test_more_axes(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Line by line along any axis; or the flat array."""
        a, chunks = data.draw(arrays(ALL, ndim=(1, 3)))
        axis = data.draw(st.sampled_from([None, *range(-a.ndim, a.ndim)]))
        x = from_numpy(a, chunks)
        agrees(sorting.sort(x, axis), np.sort(a, axis))
        agrees(sorting.argsort(x, axis), np.argsort(a, axis, kind="stable"))

    @given(data=st.data())
    @settings(max_examples=20, deadline=None)
    def test_long_lines(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Lines that are too long for a block are sorted across blocks, each by itself."""
        a, chunks = data.draw(arrays(("i8", "f8"), ndim=(2, 3), length=(0, 6)))
        axis = data.draw(st.sampled_from(range(a.ndim)))
        with config.set({"array.chunk-size": 8}):
            agrees(sorting.sort(from_numpy(a, chunks), axis), np.sort(a, axis))
            found = sorting.argsort(from_numpy(a, chunks), axis)
            agrees(found, np.argsort(a, axis, kind="stable"))

    @pytest.mark.parametrize(
        "kind",
        [
            "one value",
            "two values",
            "powers",
            "sorted",
            "reversed",
            "mostly nan",
            "with inf",
            "saw",
        ],
    )
    @pytest.mark.parametrize("chunks", [1_000, (1, 6_998, 1), 611, (3_000, 0, 100, 3_900)])
    def test_skewed(self, kind: str, chunks: Any, agrees: Agrees) -> None:
        """Any distribution, in even and in very uneven chunks."""
        a = _skewed(kind, 7_000)
        x = from_numpy(a, (chunks,) if isinstance(chunks, tuple) else chunks)
        agrees(sorting.sort(x), np.sort(a))
        agrees(sorting.argsort(x), np.argsort(a, kind="stable"))

    def test_buckets_are_even(self) -> None:
        """An array of one value is cut as evenly as any other."""
        from zcluster.array import exchange

        runs = [(np.zeros(1_000),) for _ in range(10)]
        cuts = exchange._Plan(10)([(*exchange.sample_of(run, 40), 1_000) for run in runs])
        parts = [
            exchange._Cut(False, False)(np.int64(number).tobytes(), run, cuts)
            for number, run in enumerate(runs)
        ]
        lengths = sum(part[-1] for part in parts)
        assert lengths.sum() == 10_000
        assert lengths.min() > 700
        assert lengths.max() < 1_300

    def test_a_slice_merges_what_it_needs(self) -> None:
        """The first few of a sorted array do not need the last buckets."""
        from zcluster.array.lowering import lower_arrays

        x = from_numpy(np.random.default_rng(0).random(20_000), 1_000)
        some, _ = lower_arrays([sorting.sort(x)[:10].expr])
        whole, _ = lower_arrays([sorting.sort(x).expr])
        assert some.count < whole.count - 30

    def test_unknown_lengths(self) -> None:
        """Sorted all the same, into chunks of unknown lengths again."""
        a = np.random.default_rng(0).integers(0, 50, 300)
        x = _without_lengths(from_numpy(a, 70))
        found = sorting.sort(x)
        assert found.shape[0] != found.shape[0]
        np.testing.assert_array_equal(found.compute(scheduler="sync"), np.sort(a))
        order = sorting.argsort(x).compute(scheduler="sync")
        np.testing.assert_array_equal(order, np.argsort(a, kind="stable"))

    def test_text_and_objects(self, agrees: Agrees) -> None:
        """Whatever can be compared can be sorted."""
        a = np.array(["pear", "apple", "fig", "apple", "", "quince"])
        agrees(sorting.sort(from_numpy(a, 2)), np.sort(a))
        agrees(sorting.argsort(from_numpy(a, 4)), np.argsort(a, kind="stable"))
        b = np.array([10**30, 5, -(10**25), 7], object)
        agrees(sorting.sort(from_numpy(b, 3)), np.sort(b))

    def test_fields(self, agrees: Agrees) -> None:
        """Structured arrays, by the fields that are named."""
        a = np.array([(2, 1.0), (1, 5.0), (2, 0.5)], [("a", "i8"), ("b", "f8")])
        agrees(sorting.sort(from_numpy(a, 2), order="b"), np.sort(a, order="b"))
        agrees(sorting.argsort(from_numpy(a, 2)), np.argsort(a))

    @pytest.mark.proves(
        "array.Array.argsort", "array.Array.topk", "array.Array.argtopk", "array.Array.argpartition"
    )
    def test_methods(self, agrees: Agrees) -> None:
        """The same as methods of an array."""
        a = np.array([5, 2, 8, 1, 9, 3])
        x: Any = from_numpy(a, 2)
        agrees(x.argsort(), a.argsort(kind="stable"))
        np.testing.assert_array_equal(a[x.argpartition(2).compute(scheduler="sync")], np.sort(a))
        agrees(x.topk(2), np.sort(a)[:-3:-1])
        agrees(x.argtopk(2), np.argsort(a)[:-3:-1])

    @pytest.mark.proves("array.sort_complex")
    @pytest.mark.parametrize("dtype", ["i1", "f4", "i8", "c8", "c16"])
    def test_complex(self, dtype: str, agrees: Agrees) -> None:
        """Real numbers become complex of the least size."""
        a = np.array([3, 1, 2, 0], dtype)
        agrees(sorting.sort_complex(from_numpy(a, 3)), np.sort_complex(a))

    @pytest.mark.proves("array.partition", "array.argpartition")
    def test_partition(self, agrees: Agrees) -> None:
        """In order altogether, which is a partition anywhere."""
        a = np.array([5, 2, 8, 1, 9, 3])
        agrees(sorting.partition(from_numpy(a, 2), 2), np.sort(a))
        order = sorting.argpartition(from_numpy(a, 2), [1, 4]).compute(scheduler="sync")
        np.testing.assert_array_equal(a[order], np.sort(a))
        with pytest.raises(ValueError, match="out of bounds"):
            sorting.partition(from_numpy(a, 2), 6)
        with pytest.raises(TypeError, match="must be integer"):
            sorting.partition(from_numpy(a, 2), 1.5)

    @pytest.mark.proves("array.lexsort")
    @given(data=st.data())
    @FAST
    def test_lexsort(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Several keys, in chunks of their own."""
        a, chunks = data.draw(arrays(("i8", "f8"), ndim=(1, 2)))
        b = np.roll(a, 1)
        axis = data.draw(st.sampled_from(range(-a.ndim, a.ndim)))
        found = sorting.lexsort([from_numpy(a, chunks), from_numpy(b, 2)], axis)
        agrees(found, np.lexsort([a, b], axis))
        stacked = from_numpy(np.stack([a, b]), 2)
        agrees(sorting.lexsort(stacked, axis), np.lexsort([a, b], axis))


class TestTop:
    """The largest and the smallest few."""

    @pytest.mark.proves("array.topk", "array.argtopk")
    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """As the end of a sorted array, reversed; or its beginning."""
        a, chunks = data.draw(arrays(("i8", "f8"), ndim=(1, 3)))
        axis = data.draw(st.sampled_from(range(-a.ndim, a.ndim)))
        k = data.draw(st.integers(1, 4))
        split = data.draw(st.sampled_from([None, 2]))
        x = from_numpy(a, chunks)
        order = np.sort(a, axis)
        length = a.shape[axis]
        largest = np.flip(np.take(order, range(max(length - k, 0), length), axis), axis)
        smallest = np.take(order, range(min(k, length)), axis)
        agrees(sorting.topk(x, k, axis, split), largest)
        agrees(sorting.topk(x, -k, axis, split), smallest)
        for one, expected in ((k, largest), (-k, smallest)):
            places = sorting.argtopk(x, one, axis, split)
            assert places.shape == expected.shape
            assert places.dtype == np.intp
            value = places.compute(scheduler="sync")
            np.testing.assert_array_equal(np.take_along_axis(a, value, axis), expected)
            ordered = np.sort(value, axis)
            assert (np.diff(ordered, axis=axis) > 0).all(), "each place once"

    def test_errors(self) -> None:
        """None of them, and places where there are none."""
        x = from_numpy(np.arange(4), 2)
        with pytest.raises(ValueError, match="k=0"):
            sorting.topk(x, 0)
        with pytest.raises(ValueError, match="compute_chunk_sizes"):
            sorting.argtopk(_without_lengths(x), 1)


class TestLines:
    """How blocks are cut to hold whole lines."""

    def test_blocks_keep_their_size(self) -> None:
        """What is joined along one axis is cut along the others."""
        x = from_numpy(np.zeros((8, 6, 10)), (4, 6, 2))
        assert sorting.in_lines(x, [2]).chunks == ((1,) * 8, (3, 3), (10,))

    def test_unknown_lengths_that_are_needed(self) -> None:
        """They cannot be joined."""
        x = _without_lengths(from_numpy(np.zeros((4, 4)), 2))
        with pytest.raises(ValueError, match="compute_chunk_sizes"):
            sorting.sort(x, 1)


class TestErrors:
    """What cannot be is said at the call."""

    def test_arguments(self) -> None:
        """A kind that there is not, both of kind and stable, an axis that there is not."""
        x = from_numpy(np.arange(4), 2)
        with pytest.raises(ValueError, match="sort kind"):
            sorting.sort(x, kind="bubble")
        with pytest.raises(ValueError, match="same time"):
            sorting.sort(x, kind="stable", stable=True)
        with pytest.raises(np.exceptions.AxisError):
            sorting.sort(x, 1)

    def test_lexsort(self) -> None:
        """No keys, and keys of several shapes."""
        with pytest.raises(TypeError, match="need sequence of keys"):
            sorting.lexsort([])
        with pytest.raises(ValueError, match="expected one shape"):
            sorting.lexsort([np.zeros(2), np.zeros(3)])
