"""What the tasks of a group take: whole blocks, boxes, rows of numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.axes import AxisMap
from zcluster.array.core import Array, elementwise, from_numpy, permuted, rechunked
from zcluster.array.emission import Edges, Permuted
from zcluster.array.expressions import Blockwise, Concatenate, Gather, Generated, Reduction
from zcluster.array.lowering import lower_arrays
from zcluster.array.overlap import overlap
from zcluster.array.rows import Rows
from zcluster.array.slicing import getitem
from zcluster.array.tiles import Fold
from zcluster.graph.layers import GraphLayer
from zcluster.protocol.calls import CALL_INPUTS, CALL_ROW
from zcluster.protocol.held import passing_objects
from zcluster.protocol.messages import Slot
from zcluster.protocol.tokens import tokenize

NAN = float("nan")
FAST = settings(max_examples=40, deadline=None)
Values = npt.NDArray[Any]
Arrays = Callable[..., st.SearchStrategy[Any]]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]


def last_layer(array: Array) -> GraphLayer:
    with passing_objects(True):
        graph, _ = lower_arrays([array.expr])
    return graph.layers[-1]


def held(values: Values, chunks: Any) -> Array:
    """Return an array of blocks that are made, and stay as they are."""
    kept: Array = from_numpy(values, chunks).persist(scheduler="sync")
    return kept


def unknown(array: Array) -> Array:
    """Return the same array, with chunks of which nothing is known."""
    chunks = tuple((NAN,) * count for count in array.numblocks)
    axes = [tuple(range(array.ndim))]
    made = Blockwise("unknown", np.positive, [array.expr], (0,), axes, chunks, array.dtype)
    return Array(made)


def summed(array: Array, axes: tuple[int, ...]) -> Array:
    fold = Fold(np.add, axes)
    last = partial(np.sum, axis=axes)
    return Array(Reduction("sum", array.expr, axes, fold, fold, last, array.dtype))


class TestEdges:
    """The columns of layers."""

    def test_whole_blocks(self) -> None:
        """They need no selections, and what is the same for all blocks is one argument."""
        layer = last_layer(held(np.ones((4, 4)), 2) + held(np.ones(4), 2))
        assert (layer.call, layer.arity, list(layer.slots)) == (CALL_INPUTS, 2, [])
        assert np.asarray(layer.indices).reshape(4, 2)[:, 1].tolist() == [4, 5, 4, 5]

    def test_boxes_by_position(self) -> None:
        """Where every task takes as much, each position has a slot with its share."""
        x, y = held(np.arange(8.0), 4), held(np.arange(4.0), 2)
        layer = last_layer(getitem(x, slice(0, None, 2)) + y)
        assert layer.call == CALL_INPUTS
        assert list(layer.slots) == [Slot(3, 1, 0.5), Slot()]
        assert np.asarray(layer.selections).reshape(2, 3).tolist() == [[0, 3, 2], [0, 3, 2]]

    def test_uneven(self) -> None:
        """Where they take differently many, the largest comes first, and others share a slot."""
        x, y = held(np.arange(10.0), 5), held(np.arange(10.0), (2, 8))
        layer = last_layer(rechunked(x, ((2, 8),)) + y)
        assert layer.call == CALL_ROW
        assert layer.arity == -1
        assert np.asarray(layer.indptr).tolist() == [0, 2, 5]
        # 2 of 5 and all of 2; then all of 8, all of 5, and 3 of 5.
        assert [(slot.kind, round(slot.fraction, 3)) for slot in layer.slots] == [
            (3, round((2 / 5 + 1) / 2, 3)),
            (3, round((1 + 1 + 3 / 5) / 3, 3)),
        ]
        assert np.asarray(layer.indices).tolist() == [0, 2, 3, 1, 0]
        rows = [np.frombuffer(bytes(layer.constant(p) or b""), np.int64) for p in (0, 1)]
        assert [row[0] for row in rows] == [0, 2]

    @pytest.mark.parametrize("boundary", ["none", "periodic", 0])
    def test_margins(self, boundary: Any) -> None:
        """A task's own block weighs by what it is: nearly all of it; margins weigh little."""
        x = held(np.zeros((40, 40)), 10)
        layer = last_layer(overlap(x, 1, boundary))
        shares = sorted({round(slot.fraction, 3) for slot in layer.slots})
        assert shares[-1] == 1.0
        assert all(share <= 0.1 for share in shares[:-1])

    def test_boxed(self) -> None:
        """Made by hand."""
        boxes = Rows.fixed(np.arange(12).reshape(2, 1, 2, 3))
        edges = Edges.boxed(Rows.fixed(np.array([[0], [1]])), boxes, 0.1)
        assert list(edges.slots) == [Slot(3, 2, 0.1)]
        assert edges.selections is not None
        assert edges.selections.tolist() == list(range(12))

    def test_what_is_not_taken_is_not_listed(self) -> None:
        """Blocks of constants alone take nothing."""
        x = held(np.arange(4.0), 2)
        maps = [AxisMap(np.array([-1]), np.array([5]), np.array([0]), (2, 3))]
        filled = Array(Gather(x.expr, maps, 7))
        layer = last_layer(filled)
        assert (layer.arity, len(layer.indices)) == (0, 0)
        assert filled.compute(scheduler="sync").tolist() == [7] * 5


class TestMixtures:
    """Uneven gathers with inputs of other dimensions."""

    @given(data=st.data())
    @FAST
    def test_uneven_with_others(self, data: st.DataObject, chunked: Chunked) -> None:
        """Rows, columns and numbers, whole and gathered, in one operation."""
        shape = (data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6)))
        pool: list[tuple[Values, Array]] = []
        for own in (shape, shape[1:], (shape[0], 1), ()):
            values = np.arange(np.prod(own, dtype=int), dtype="f8").reshape(own) + 1
            array = held(values, tuple(data.draw(chunked(n)) for n in own))
            how = data.draw(st.sampled_from(["rechunk", "reverse", "whole", "turn"]))
            if how == "rechunk":
                array = rechunked(array, tuple(data.draw(chunked(n)) for n in own))
            elif how == "reverse" and own:
                values, array = values[::-1], getitem(array, slice(None, None, -1))
            elif how == "turn" and len(own) == 2 and own[0] == own[1]:
                values, array = values.T, permuted(array, (1, 0))
            pool.append((values, array))
        expected: Any = 0
        found: Any = 0
        for values, array in data.draw(st.permutations(pool)):
            expected, found = expected * 2 + values, found * 2 + array
        np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)
        axes = data.draw(st.sampled_from([(0,), (1,), (0, 1)]))
        total = summed(found, axes)
        np.testing.assert_allclose(total.compute(scheduler="sync"), expected.sum(axis=axes))

    def test_the_same_gather_at_two_places(self) -> None:
        """Turned against itself, it is read twice, or made once before."""
        values = np.arange(36.0).reshape(6, 6)
        x = rechunked(held(values, (4, 4)), (2, 2))
        both = x + permuted(x, (1, 0))
        np.testing.assert_array_equal(both.compute(scheduler="sync"), values + values.T)
        uneven = rechunked(held(values, ((1, 5), (1, 5))), ((4, 2), (4, 2)))
        both = uneven * permuted(uneven, (1, 0)) + getitem(uneven, 0)
        expected = values * values.T + values[0]
        np.testing.assert_array_equal(both.compute(scheduler="sync"), expected)


def ramp(starts: tuple[int, ...], shape: tuple[int, ...]) -> Values:
    grids = [
        np.arange(s, s + n) * 10.0**k for k, (s, n) in enumerate(zip(starts, shape, strict=True))
    ]
    made: Values = np.zeros(shape)
    for axis, grid in enumerate(grids):
        made = made + grid.reshape([-1 if axis == k else 1 for k in range(len(shape))])
    return made


class TestGenerated:
    """Blocks made where they are taken."""

    @given(data=st.data(), is_cheap=st.booleans())
    @FAST
    def test_parts(self, data: st.DataObject, is_cheap: bool, chunked: Chunked) -> None:
        """A slice of generated blocks makes the part, which is what is cut out."""
        shape = data.draw(st.lists(st.integers(0, 7), min_size=0, max_size=3))
        chunks = tuple(data.draw(chunked(n)) for n in shape)
        x = Array(Generated("ramp", ramp, chunks, "f8", is_cheap=is_cheap))
        index = tuple(
            slice(data.draw(st.integers(0, n)), None, data.draw(st.sampled_from([1, 2, -1])))
            for n in shape
        )
        taken = getitem(x, index)
        whole = ramp((0,) * len(shape), tuple(shape))
        for one in (taken, permuted(taken, range(len(shape))[::-1]), taken + 1, taken + x.ndim):
            assert one.compute(scheduler="sync").shape == one.shape
        np.testing.assert_array_equal(taken.compute(scheduler="sync"), whole[index])
        if shape:
            again = rechunked(x, tuple(data.draw(chunked(n)) for n in shape)) - taken[..., :0].sum()
            np.testing.assert_array_equal(again.compute(scheduler="sync"), whole)

    def test_made_once_where_two_take_it(self) -> None:
        """Unless that costs less than keeping it."""
        for is_cheap, count in ((False, 8), (True, 16)):
            made: list[Any] = []

            def note(starts: Any, shape: Any, made: list[Any] = made) -> Values:
                made.append(starts)
                return np.ones(shape)

            x = Array(Generated("note", note, ((5,) * 8,), "f8", is_cheap=is_cheap))
            total = summed(x + 1, (0,)) + summed(x * 2, (0,))
            assert total.compute(scheduler="sync") == 160
            assert len(made) == count


class TestUnknown:
    """Chunks of unknown sizes."""

    VALUES = np.arange(20.0).reshape(5, 4)

    @pytest.mark.parametrize(
        ("make", "expected"),
        [
            (lambda x: x + 1, VALUES + 1),
            (lambda x: elementwise(np.add, x, x), VALUES * 2),
            (lambda x: permuted(x, (1, 0)), VALUES.T),
            (lambda x: permuted(x, (1, 0)) * 2, VALUES.T * 2),
            (lambda x: permuted(x, (0, None, 1)) - 1, VALUES[:, None] - 1),
            (lambda x: summed(x, (0,)), VALUES.sum(0)),
            (lambda x: summed(x * 2, (0, 1)), VALUES.sum() * 2),
            (lambda x: Array(Concatenate([x.expr, x.expr], 0)), np.concatenate([VALUES] * 2)),
            (lambda x: x + summed(x, (0,)), VALUES + VALUES.sum(0)),
        ],
    )
    def test_computed(self, make: Any, expected: Values) -> None:
        """What needs no lengths needs none."""
        for chunks in ((2, 2), (5, 4), ((5, 0), 4)):
            x = unknown(held(self.VALUES, chunks))
            np.testing.assert_allclose(make(x).compute(scheduler="sync"), expected)

    def test_on_one_axis_only(self) -> None:
        """The others are sliced and rechunked, with what is uneven and what is whole."""
        x = held(self.VALUES, (2, 2))
        chunks = ((NAN,) * 3, (2, 2))
        half = Array(Blockwise("half", np.positive, [x.expr], (0,), [(0, 1)], chunks, x.dtype))
        for index in (slice(1, 3), slice(None, None, -1), slice(None, None, 2)):
            found = getitem(half, (slice(None), index))
            np.testing.assert_array_equal(found.compute(scheduler="sync"), self.VALUES[:, index])
            found = getitem(half * 2, (slice(None), index)) + 1
            expected = self.VALUES[:, index] * 2 + 1
            np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)
        again = rechunked(half, {1: (1, 3)}) + half[:, :1] * 0
        np.testing.assert_array_equal(again.compute(scheduler="sync"), self.VALUES)


class TestPermuted:
    """The function of axes in another order."""

    @pytest.mark.parametrize("axes", [(1, 0), (None, 0, 1), (1, None), (0, 1), (1, 0, None)])
    def test_views(self, axes: tuple[int | None, ...]) -> None:
        """Of the block, in whatever order, with axes put in and taken out."""
        block = np.arange(3.0).reshape(1, 3)
        found = Permuted(axes, 2)(block)
        kept = [axis for axis in axes if axis is not None]
        expected = block.transpose(kept + [a for a in (0, 1) if a not in kept])
        expected = expected.reshape([1 if a is None else block.shape[a] for a in axes])
        np.testing.assert_array_equal(found, expected)
        assert np.shares_memory(found, block)

    def test_tokens(self) -> None:
        """By what it does."""
        assert tokenize(Permuted((1, 0), 2)) == tokenize(Permuted((1, 0), 2))
        assert tokenize(Permuted((1, 0), 2)) != tokenize(Permuted((0, 1), 2))
