"""Axes permuted and elements moved: as NumPy has it, and no work before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import manipulation as m
from zcluster.array.core import Array, from_numpy
from zcluster.array.restating import Restated
from zcluster.errors import InvalidArgument

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=15, deadline=None)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]


def unknown(x: Array, *axes: int) -> Array:
    """Forget the lengths of some axes."""
    chunks = tuple(
        (math.nan,) * len(own) if axis in axes else own for axis, own in enumerate(x.chunks)
    )
    return Array(Restated(x.expr, chunks))


class TestAxes:
    """Axes in another order, put in and taken out."""

    @pytest.mark.proves(
        "array.transpose",
        "array.Array.transpose",
        "array.Array.T",
        "array.swapaxes",
        "array.Array.swapaxes",
        "array.moveaxis",
        "array.rollaxis",
        "array.expand_dims",
        "array.squeeze",
        "array.Array.squeeze",
        "array.permute_dims",
        "array.matrix_transpose",
        "array.Array.mT",
    )
    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Of any axes."""
        a, chunks = data.draw(arrays(ndim=(2, 4), length=(0, 3), dtypes=("i8", "f4")))
        x = from_numpy(a, chunks)
        order = data.draw(st.permutations(range(a.ndim)))
        one, other = data.draw(st.tuples(*[st.integers(-a.ndim, a.ndim - 1)] * 2))
        agrees(x.T, a.T)
        agrees(m.transpose(x, order), a.transpose(order))
        agrees(x.transpose(*order), a.transpose(order))
        agrees(x.swapaxes(one, other), a.swapaxes(one, other))
        agrees(m.moveaxis(x, one, other), np.moveaxis(a, one, other))
        agrees(m.moveaxis(x, order[:2], (0, -1)), np.moveaxis(a, order[:2], (0, -1)))
        agrees(m.rollaxis(x, one, other), np.rollaxis(a, one, other))
        agrees(m.expand_dims(x, (0, one)), np.expand_dims(a, (0, one))) if one > 0 else None
        agrees(m.expand_dims(x, other), np.expand_dims(a, other))
        agrees(m.squeeze(x), a.squeeze())
        agrees(x.mT, a.mT)

    def test_squeeze_of_one_axis_and_of_chunks_that_are_empty(self, agrees: Agrees) -> None:
        """An axis of length 1 may be in several chunks."""
        a = np.arange(3).reshape(1, 3, 1)
        x = from_numpy(a, ((0, 1), (2, 1), (1, 0)))
        agrees(m.squeeze(x), a.squeeze())
        agrees(m.squeeze(x, -1), a.squeeze(-1))

    @pytest.mark.parametrize(
        ("call", "error"),
        [
            (lambda x: m.transpose(x, (0, 0)), ValueError),
            (lambda x: m.transpose(x, (0,)), ValueError),
            (lambda x: m.swapaxes(x, 0, 2), np.exceptions.AxisError),
            (lambda x: m.moveaxis(x, (0, 1), 0), ValueError),
            (lambda x: m.rollaxis(x, 0, 5), np.exceptions.AxisError),
            (lambda x: m.squeeze(x, 0), ValueError),
            (lambda x: m.expand_dims(x, 4), np.exceptions.AxisError),
        ],
    )
    def test_errors(self, call: Callable[[Any], Any], error: type[Exception]) -> None:
        """At the call."""
        with pytest.raises(error):
            call(from_numpy(np.ones((2, 3))))

    @pytest.mark.proves("array.atleast_1d", "array.atleast_2d", "array.atleast_3d")
    def test_at_least(self, agrees: Agrees) -> None:
        """Of any number of axes; several arrays give a tuple."""
        for a in (np.array(5), np.arange(3), np.ones((2, 3)), np.ones((2, 3, 4))):
            for name in ("atleast_1d", "atleast_2d", "atleast_3d"):
                agrees(getattr(m, name)(from_numpy(a)), getattr(np, name)(a))
        assert [one.shape for one in m.atleast_2d(1, [2])] == [(1, 1), (1, 1)]

    def test_nothing_is_added_to_the_graph(self) -> None:
        """An axis more or less is no task where somebody calculates."""
        x = from_numpy(np.ones((4, 1)), chunks=2)
        assert len((m.squeeze(x).T + 1).dask) == len((x[:, 0] + 1).dask)


class TestBroadcasting:
    """Arrays repeated along axes."""

    @pytest.mark.proves("array.broadcast_to", "array.broadcast_arrays")
    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Along new axes and those of length 1; a slice, too."""
        a, chunks = data.draw(arrays(length=(0, 4), dtypes=("i8",)))
        ones = tuple(1 if data.draw(st.booleans()) else n for n in a.shape)
        b = np.arange(math.prod(ones)).reshape(ones)
        x, y = from_numpy(a, chunks), from_numpy(b, chunks=2) if ones else from_numpy(b)
        lead = tuple(data.draw(st.lists(st.integers(0, 3), max_size=2)))
        agrees(m.broadcast_to(y, lead + a.shape), np.broadcast_to(b, lead + a.shape))
        agrees(m.broadcast_to(y, a.shape)[..., 1:], np.broadcast_to(b, a.shape)[..., 1:]) if (
            a.ndim
        ) else None
        for found, expected in zip(
            m.broadcast_arrays(x, y), np.broadcast_arrays(a, b), strict=True
        ):
            agrees(found, expected)

    def test_chunks_are_as_said(self, agrees: Agrees) -> None:
        """Those of new axes, and of those that grow."""
        x = m.broadcast_to(from_numpy(np.arange(3), 2), (4, 3), chunks=((1, 3), (2, 1)))
        assert x.chunks == ((1, 3), (2, 1))
        agrees(x, np.broadcast_to(np.arange(3), (4, 3)))
        assert m.broadcast_to(x, (4, 3)) is not x

    @pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 4), -1])
    def test_shapes_that_do_not_go_together(self, shape: Any) -> None:
        """At the call."""
        with pytest.raises(ValueError, match="cannot broadcast shape"):
            m.broadcast_to(np.ones((2, 3)), shape)


class TestMoving:
    """Elements in another place."""

    @pytest.mark.proves(
        "array.flip",
        "array.fliplr",
        "array.flipud",
        "array.rot90",
        "array.tile",
        "array.repeat",
        "array.Array.repeat",
    )
    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Backwards, turned, and several times."""
        a, chunks = data.draw(arrays(ndim=(2, 3), length=(0, 4), dtypes=("i8", "f4")))
        x = from_numpy(a, chunks)
        axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
        agrees(m.flip(x), np.flip(a))
        agrees(m.flip(x, axis), np.flip(a, axis))
        agrees(m.flipud(x), np.flipud(a))
        agrees(m.fliplr(x), np.fliplr(a))
        turns = data.draw(st.integers(-3, 5))
        agrees(m.rot90(x, turns), np.rot90(a, turns))
        agrees(m.rot90(x, turns, (1, 0)), np.rot90(a, turns, (1, 0)))
        times = tuple(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)))
        agrees(m.tile(x, times), np.tile(a, times))
        count = data.draw(st.integers(0, 4))
        agrees(x.repeat(count, axis), a.repeat(count, axis))
        each = data.draw(
            st.lists(st.integers(0, 3), min_size=a.shape[axis], max_size=a.shape[axis])
        )
        agrees(m.repeat(x, np.array(each, int), axis), a.repeat(np.array(each, int), axis))

    def test_repeated_blocks_stay_small(self) -> None:
        """Blocks that would be too large are cut first."""
        x = m.repeat(from_numpy(np.zeros(1_000)), 1_000_000)
        assert x.shape == (1_000_000_000,)
        assert max(x.chunks[0]) * 8 <= 128 * 2**20

    @pytest.mark.parametrize(
        ("repeats", "error"), [(-1, ValueError), ([1, 2], ValueError), (1.5, TypeError)]
    )
    def test_repeats_that_cannot_be(self, repeats: Any, error: type[Exception]) -> None:
        """At the call."""
        with pytest.raises(error):
            m.repeat(np.ones(3), repeats)

    def test_unknown_lengths(self) -> None:
        """Some of it needs to know them."""
        x = unknown(from_numpy(np.arange(4), 2), 0)
        twice = m.repeat(x, 2).compute(scheduler="sync")
        np.testing.assert_array_equal(twice, [0, 0, 1, 1, 2, 2, 3, 3])
        np.testing.assert_array_equal(m.tile(x, 2).compute(scheduler="sync"), [0, 1, 2, 3] * 2)
        needing: tuple[Callable[[], Array], ...] = (
            lambda: m.flip(x),
            lambda: m.rolled(x, {0: 1}),
            lambda: m.repeat(x, 0),
        )
        for call in needing:
            with pytest.raises(InvalidArgument, match="compute_chunk_sizes"):
                call()


class TestTypes:
    """`astype`."""

    @pytest.mark.proves("array.astype", "array.Array.astype")
    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """From any dtype to any other that NumPy allows."""
        a, chunks = data.draw(arrays(dtypes=("?", "i1", "i8", "f4"), ndim=(1, 3), nan=False))
        wanted = data.draw(st.sampled_from(["?", "i2", "f8", "c16", "S9"]))
        agrees(m.astype(from_numpy(a, chunks), wanted), a.astype(wanted))

    def test_casting(self) -> None:
        """What a rule does not allow is an error at the call."""
        with pytest.raises(TypeError, match="according to the rule"):
            m.astype([1.5], int, casting="safe")
        x = from_numpy(np.ones(3))
        assert m.astype(x, "f8").name == x.name
