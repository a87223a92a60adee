"""Reshaping: as NumPy does, with as few and as short ways for blocks as can be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import Gather
from zcluster.array.reshaping import planned, ravel, reshape
from zcluster.array.restating import Restated
from zcluster.errors import InvalidArgument

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=50, deadline=None)

Agrees = Callable[..., None]


@st.composite
def shapes(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    """A shape with so many elements."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        factor = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
        found.append(factor)
        size //= factor
    return tuple(draw(st.permutations([*found, size])))


@pytest.mark.proves("array.reshape", "array.Array.reshape")
@given(data=st.data())
@FAST
def test_equals(data: st.DataObject, chunked: Any, agrees: Agrees) -> None:
    """Between any shapes, however they are chunked, however small blocks are to be."""
    size = data.draw(st.sampled_from([1, 7, 12, 24, 36, 60]))
    before, after = data.draw(shapes(size)), data.draw(shapes(size))
    a = np.arange(size).reshape(before)
    x = from_numpy(a, tuple(data.draw(chunked(n)) for n in before))
    limit = data.draw(st.sampled_from([None, 8, 64, "200B"]))
    merge = data.draw(st.booleans())
    agrees(reshape(x, after, limit=limit, merge_chunks=merge), a.reshape(after))
    agrees(reshape(x, after, order="F"), a.reshape(after, order="F"))
    place = data.draw(st.integers(0, len(after) - 1))
    free = [-1 if n == place else length for n, length in enumerate(after)]
    agrees(x.reshape(*free), a.reshape(free))
    agrees(x.reshape(free)[..., :2] + 1, a.reshape(free)[..., :2] + 1)


@pytest.mark.proves("array.ravel", "array.Array.ravel", "array.Array.flatten")
def test_ravel(agrees: Agrees) -> None:
    """One axis, in either order."""
    a = np.arange(24).reshape(2, 3, 4)
    x = from_numpy(a, (1, 2, 2))
    agrees(ravel(x), a.ravel())
    agrees(x.flatten("F"), a.flatten("F"))
    agrees(ravel(5), np.array([5]))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 5), (1, 0)])
def test_of_no_elements(shape: tuple[int, ...], agrees: Agrees) -> None:
    """There is nothing to move."""
    agrees(reshape(np.empty((3, 0), "f4"), shape), np.empty(shape, "f4"))


@pytest.mark.parametrize(
    ("before", "chunks", "after", "expected"),
    [
        ((4, 6), ((2, 2), (6,)), (24,), ((12, 12),)),
        ((24,), ((12, 12),), (4, 6), ((2, 2), (6,))),
        ((4, 6), ((1,) * 4, (3, 3)), (24,), ((3,) * 8,)),
        ((2, 3, 4), ((1, 1), (2, 1), (4,)), (6, 4), ((2, 1, 2, 1), (4,))),
        ((4, 6, 5), ((2, 2), (3, 3), (5,)), (4, 6, 5, 1), ((2, 2), (3, 3), (5,), (1,))),
    ],
)
def test_blocks_that_are_blocks_of_both_shapes_stay(
    before: Any, chunks: Any, after: Any, expected: Any
) -> None:
    """Nothing is rechunked then."""
    x = reshape(from_numpy(np.zeros(before), chunks), after)
    assert x.chunks == expected
    assert (
        not any(isinstance(one, Gather) and one.label == "rechunk" for one in x.expr.inputs)
        or x.expr.inputs[0].chunks == chunks
    )


def test_the_first_axis_keeps_its_chunks() -> None:
    """Others become whole; without merging, blocks do not grow."""
    x = from_numpy(np.zeros((100, 100)), 10)
    assert ravel(x).chunks == ((1000,) * 10,)
    assert max(reshape(x, -1, merge_chunks=False).chunks[0]) == 100
    assert max(reshape(x, -1, limit=800).chunks[0]) == 100


def test_pieces_of_rows_where_whole_rows_are_too_long() -> None:
    """Both sides in pieces of about the size that there is room for."""
    cut = ((2,), (300_001, 699_999))
    plan = planned((2, 1_000_000), (1_000_000, 2), cut, 1000)
    assert [math.prod(map(max, side)) for side in (plan.before, plan.after)] == [1000, 1000]


@pytest.mark.parametrize(
    ("shape", "says"), [((5,), "cannot reshape"), ((-1, -1), "one unknown"), ((-1, 4), "cannot")]
)
def test_errors(shape: Any, says: str) -> None:
    """At the call."""
    with pytest.raises(ValueError, match=says):
        reshape(np.ones((2, 3)), shape)
    with pytest.raises(ValueError, match="order"):
        reshape([1], 1, order="X")


class TestUnknownLengths:
    """The first axis may be of unknown length, if each block is reshaped by itself."""

    @pytest.mark.parametrize("shape", [(-1, 4), (-1,), (-1, 2, 2), (1, -1, 4), (-1, 2)])
    def test_rows(self, shape: tuple[int, ...]) -> None:
        """Their number says itself."""
        a = np.arange(24).reshape(6, 4)
        x = from_numpy(a, (4, 2))
        hidden = Array(Restated(x.expr, ((math.nan, math.nan), (2, 2))))
        found = reshape(hidden, shape)
        assert math.isnan(found.size)
        np.testing.assert_array_equal(found.compute(scheduler="sync"), a.reshape(shape))

    @pytest.mark.parametrize("shape", [(6, 4), (-1, 8), (4, -1), ()])
    def test_what_needs_them(self, shape: tuple[int, ...]) -> None:
        """It is refused, and what to do is said."""
        x = from_numpy(np.ones((6, 4)), (4, 2))
        hidden = Array(Restated(x.expr, ((math.nan, math.nan), (2, 2))))
        with pytest.raises(InvalidArgument, match="compute_chunk_sizes"):
            reshape(hidden, shape)
