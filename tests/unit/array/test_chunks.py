"""The arithmetic of chunk sizes, against what it promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster import config
from zcluster.array.chunks import (
    bounds,
    broadcast_shapes,
    chunks_token,
    is_known,
    normalize_axes,
    normalize_axis,
    normalize_chunks,
    unify_axis,
)
from zcluster.errors import InvalidArgument

NAN = float("nan")
FAST = settings(max_examples=60, deadline=None)

Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
@FAST
def test_bounds_are_where_chunks_begin_and_end(lengths: list[int]) -> None:
    """One more than there are chunks, in whatever length."""
    points = bounds(lengths)
    assert points.dtype == np.int64
    assert np.diff(points).tolist() == lengths
    assert points[0] == 0


class TestUnify:
    """Chunks that go with several others."""

    @given(data=st.data(), length=st.integers(0, 12))
    @FAST
    def test_borders(self, data: st.DataObject, length: int, chunked: Chunked) -> None:
        """There is a border wherever one has one, and nowhere else; equal chunks stay as is."""
        given = [data.draw(chunked(length)) for _ in range(data.draw(st.integers(1, 3)))]
        found = unify_axis(given)
        assert sum(found) == length
        if len(set(given)) == 1:
            assert found == given[0]
            return
        borders = {point for lengths in given for point in bounds(lengths).tolist()}
        assert set(bounds(found).tolist()) == borders
        assert not length or 0 not in found

    def test_lengths_differ(self) -> None:
        """Which do not add up."""
        with pytest.raises(ValueError, match="do not add up to one length"):
            unify_axis([(2, 2), (5,)])

    def test_unknown(self) -> None:
        """Unknown lengths go with as many others, and with nothing else."""
        found = unify_axis([(NAN, NAN), (2, 3)])
        assert len(found) == 2
        assert not is_known(found)
        with pytest.raises(ValueError, match=r"call compute_chunk_sizes\(\) first"):
            unify_axis([(NAN, NAN), (5,)])
        same = (NAN, NAN)
        assert unify_axis([same, same]) is same

    def test_long_ones_are_cut_short_in_errors(self) -> None:
        """An axis of many chunks fills no screen."""
        with pytest.raises(ValueError, match=r"\(1, 1, 1, 1, …, 1\) of 1000, \(3,\)"):
            unify_axis([(1,) * 1000, (3,)])


class TestBroadcast:
    """Shapes against NumPy's rule."""

    @given(st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=1, max_size=3))
    @FAST
    def test_as_numpy(self, shapes: list[tuple[int, ...]]) -> None:
        """The same shape, or the same refusal."""
        try:
            expected = np.broadcast_shapes(*shapes)
        except ValueError:
            with pytest.raises(ValueError, match="could not be broadcast"):
                broadcast_shapes(*shapes)
            return
        assert broadcast_shapes(*shapes) == expected

    def test_unknown(self) -> None:
        """An unknown length goes with unknown ones and with 1, and with no number."""
        (found,) = broadcast_shapes((NAN,), (1,), ())
        assert math.isnan(found)
        with pytest.raises(ValueError, match="could not be broadcast"):
            broadcast_shapes((NAN,), (3,))


class TestAxes:
    """Axes as users write them."""

    def test_normalized(self) -> None:
        """From the front; None is all."""
        assert normalize_axis(-1, 3) == 2
        assert normalize_axis(np.int8(1), 2) == 1
        assert normalize_axes(None, 2) == (0, 1)
        assert normalize_axes((-1, 0), 3) == (2, 0)
        assert normalize_axes(1, 3) == (1,)

    def test_refused(self) -> None:
        """One that is not there, no integer, or named twice."""
        with pytest.raises(np.exceptions.AxisError):
            normalize_axis(2, 2)
        with pytest.raises(np.exceptions.AxisError):
            normalize_axes((-3,), 2)
        with pytest.raises(TypeError, match="expected an integer"):
            normalize_axis("x", 2)
        with pytest.raises(ValueError, match="names an axis twice"):
            normalize_axes((0, -2), 2)


class TestTokens:
    """What says the same as chunks."""

    @given(st.lists(st.integers(0, 3), min_size=1, max_size=60).map(tuple))
    @FAST
    def test_little_and_exact(self, lengths: tuple[int, ...]) -> None:
        """Others have another token, also where most are equal."""
        other = (*lengths[:-1], lengths[-1] + 1)
        assert chunks_token((lengths,)) == chunks_token((tuple(lengths),))
        assert chunks_token((lengths,)) != chunks_token((other,))
        assert chunks_token((lengths,)) != chunks_token(((*lengths, 0),))

    def test_many_equal_ones_are_short(self) -> None:
        """A million chunks cost no million."""
        assert chunks_token(((5,) * 1_000,)) == (("equal", 5, 1_000, 5),)
        assert chunks_token(((5,) * 1_000 + (2,),)) == (("equal", 5, 1_001, 2),)


class TestNormalize:
    """From what a user says to all lengths."""

    @pytest.mark.parametrize(
        ("chunks", "shape", "expected"),
        [
            (5, (12, 3), ((5, 5, 2), (3,))),
            ((5, -1), (12, 3), ((5, 5, 2), (3,))),
            ((None, 2), (4, 3), ((4,), (2, 1))),
            (((4, 8), 3), (12, 3), ((4, 8), (3,))),
            ((4, 8), (12,), ((4, 8),)),
            (((4, 0, 8),), (12,), ((4, 0, 8),)),
            ({0: 6}, (12, 3), ((6, 6), (3,))),
            ({-1: 1}, (2, 3), ((2,), (1, 1, 1))),
            ({}, (2, 3), ((2,), (3,))),
            (-1, (2, 0), ((2,), (0,))),
            (3, (0,), ((0,),)),
            ((), (), ()),
            (3, (), ()),
            (2.0, (3,), ((2, 1),)),
            (np.int64(2), (3,), ((2, 1),)),
            (100, (3,), ((3,),)),
            (((NAN, NAN),), (NAN,), ((NAN, NAN),)),
            (([2, 1],), (3,), ((2, 1),)),
        ],
    )
    def test_said(self, chunks: Any, shape: Any, expected: Any) -> None:
        """All ways to say it."""
        found = normalize_chunks(chunks, shape)
        assert str(found) == str(expected)  # nan is not equal to itself
        assert all(type(n) is int or n != n for lengths in found for n in lengths)

    @pytest.mark.parametrize(
        ("chunks", "shape", "says"),
        [
            ((4, 9), (12,), "add up to 13; expected 12"),
            ((3, 3, 3), (12, 3), "speaks of 3 axes; expected 2"),
            (0, (12,), "expected a length of 1 or more"),
            (-2, (12,), "expected a length of 1 or more"),
            (2.5, (12,), "expected a length of 1 or more"),
            (((-1, 13),), (12,), "expected none below 0"),
            (5, (NAN,), "call compute_chunk_sizes"),
            ("many", (12,), "does not parse"),
            ("auto", (12,), "needs to know the dtype"),
        ],
    )
    def test_refused(self, chunks: Any, shape: Any, says: str) -> None:
        """What does not fit says what was found and what was expected."""
        with pytest.raises(InvalidArgument, match=says):
            normalize_chunks(chunks, shape)

    def test_previous(self) -> None:
        """Axes that are not spoken of stay as they were."""
        previous = ((2, 10), (1, 2))
        assert normalize_chunks({1: -1}, (12, 3), previous=previous) == ((2, 10), (3,))
        assert normalize_chunks((None, 3), (12, 3), previous=previous) == ((2, 10), (3,))


class TestAutomatic:
    """Lengths that are chosen."""

    @given(
        shape=st.lists(st.integers(0, 3000), min_size=1, max_size=3).map(tuple),
        limit=st.sampled_from([8, 1000, "64KiB", "1MiB"]),
        dtype=st.sampled_from(["u1", "f8", "c16"]),
    )
    @FAST
    def test_no_block_is_larger(self, shape: tuple[int, ...], limit: Any, dtype: str) -> None:
        """Than the limit, unless one element is; and not much smaller than it need be."""
        found = normalize_chunks("auto", shape, dtype, limit=limit)
        assert tuple(map(sum, found)) == shape
        size = math.prod(map(max, found)) * np.dtype(dtype).itemsize
        room = config.parse_bytes(limit)
        assert size <= max(room, np.dtype(dtype).itemsize)
        total = math.prod(shape) * np.dtype(dtype).itemsize
        if total > room >= 1000:
            assert size >= room / 2 ** (len(shape) + 1)

    def test_limits(self) -> None:
        """A size is a limit; without one the configuration says."""
        assert normalize_chunks("1MiB", (1 << 20,), "u1") == ((1 << 20,),)
        assert normalize_chunks(("1 KiB", 4), (1 << 10, 8), "u1") == ((256,) * 4, (4, 4))
        with config.set({"array.chunk-size": "1KiB"}):
            assert normalize_chunks("auto", (1 << 12,), "u1") == ((1 << 10,) * 4,)
            assert normalize_chunks(None, (1 << 12,), "u1") == ((1 << 10,) * 4,)

    def test_present_borders_are_kept(self) -> None:
        """Chunks are joined, not cut, where they are small."""
        previous = ((3,) * 10,)
        found = normalize_chunks("auto", (30,), "u1", limit=7, previous=previous)
        assert found == ((6,) * 5,)
        assert normalize_chunks("auto", (30,), "u1", limit=2, previous=previous) == ((2,) * 15,)
