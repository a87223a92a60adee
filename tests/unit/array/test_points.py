"""Points, and gathers that are better taken as points."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import points
from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import Gather
from zcluster.array.lowering import lower_arrays
from zcluster.array.points import Points, points_chunks, scattered
from zcluster.array.restating import Restated
from zcluster.array.simplify import simplified
from zcluster.array.slicing import getitem

FAST = settings(max_examples=40, deadline=None)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


@pytest.fixture(params=["whole", "boxes"])
def small_block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are taken whole, or boxes of them however small they are."""
    if request.param == "boxes":
        monkeypatch.setattr(points, "_SMALL_BLOCK", 0)


@pytest.mark.usefixtures("small_block")
class TestPoints:
    @given(data=st.data())
    @FAST
    def test_any_axes(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Some of the axes, in any number of points, put anywhere among the others."""
        a, chunks = data.draw(arrays(ndim=(1, 3), length=(1, 7), dtypes=("i8", "c16")))
        count = data.draw(st.integers(1, a.ndim))
        axes = tuple(sorted(data.draw(st.permutations(range(a.ndim)))[:count]))
        shape = data.draw(st.sampled_from([(0,), (1,), (5,), (2, 4), (1, 6), (3, 0)]))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        places = tuple(rng.integers(0, a.shape[axis], math.prod(shape)) for axis in axes)
        at = data.draw(st.integers(0, a.ndim - count))
        own = points_chunks(shape, data.draw(st.integers(1, 9)))
        x = Array(Points(from_numpy(a, chunks).expr, axes, places, own, at))
        front = np.moveaxis(a, axes, range(count))[places]
        front = front.reshape((*shape, *front.shape[1:]))
        agrees(x, np.moveaxis(front, range(len(shape)), range(at, at + len(shape))))

    def test_beside_unknown_lengths(self) -> None:
        """Axes that are taken whole may have any length."""
        a = np.arange(24).reshape(4, 6)
        x = from_numpy(a, (2, 3))
        x = Array(Restated(x.expr, ((2, 2), (math.nan, math.nan))))
        places = (np.array([3, 0, 3]),)
        found = Array(Points(x.expr, (0,), places, ((2, 1),), 0))
        assert (found.compute(scheduler="sync") == a[[3, 0, 3]]).all()

    def test_no_points_in_a_chunk(self) -> None:
        """A chunk of no length still has the lengths of the other axes."""
        a = np.arange(24).reshape(4, 6)
        x = from_numpy(a, (2, 3))
        places = (np.array([3, 1]),)
        found = Array(Points(x.expr, (0,), places, ((0, 2, 0),), 0))
        assert (found.compute(scheduler="sync") == a[[3, 1]]).all()


class TestScattered:
    def test_each_block_is_taken_once(self) -> None:
        """However many of its elements go into a block of the result."""
        a = np.arange(1000)
        index = np.random.default_rng(0).permutation(1000)
        x = getitem(from_numpy(a, 100) + 0, index)
        assert isinstance(x.expr, Gather)
        (found,) = scattered(simplified([x.expr]))
        assert isinstance(found, Points)
        graph, _ = lower_arrays([x.expr])
        taking = next(layer for layer in graph.layers if layer.name == x.name)
        assert len(taking.indices) == 100
        assert (x.compute(scheduler="sync") == index).all()

    def test_what_follows_each_other_stays(self) -> None:
        """Runs are boxes, which is cheaper."""
        x = from_numpy(np.arange(1000), 100) + 0
        for index in (slice(None, None, -3), np.r_[0:500, 200:700], [5, 3, 5]):
            one = simplified([getitem(x, index).expr])
            assert scattered(one)[0] is one[0]

    @given(data=st.data())
    @FAST
    def test_several_axes(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Some scattered, some sliced, and something calculated with it."""
        a, chunks = data.draw(arrays(ndim=(2, 3), length=(1, 7), dtypes=("i8",)))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        axis = data.draw(st.integers(0, a.ndim - 1))
        index = rng.integers(0, a.shape[axis], data.draw(st.integers(20, 90)))
        other = (axis + 1) % a.ndim
        x, expected = from_numpy(a, chunks), a
        for place, one in ((axis, index), (other, slice(None, None, -1)), (axis, slice(3, 50, 2))):
            where: tuple[Any, ...] = (*[slice(None)] * place, one)
            x, expected = getitem(x, where), expected[where]
        agrees(x + 1, expected + 1)


def test_chunks_of_points() -> None:
    """The first axis that is longer than 1 is cut."""
    assert points_chunks((4, 5), 10) == ((2, 2), (5,))
    assert points_chunks((1, 0), 10) == ((1,), (0,))
    assert points_chunks((3, 0), 1) == ((3,), (0,))
