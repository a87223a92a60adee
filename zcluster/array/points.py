"""Elements at given places of some axes: what several lists of integers ask for.

`Points` takes, for each chunk of its result, every block that has some of the points once, and
picks them out with one call of NumPy. A `Gather` does so with a call for each run of places that
follow each other, which is dear where they follow each other nowhere: `scattered` finds the gathers
for which that is so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zcluster.array.axes import FILL, AxisMap, identity, pieces
from zcluster.array.chunks import AxisChunks, bounds, chunks_token
from zcluster.array.emission import Edges
from zcluster.array.expressions import Emitted, Expr, Gather
from zcluster.array.fusion import topological
from zcluster.array.rows import Rows, interleaved
from zcluster.protocol.messages import Slot

if TYPE_CHECKING:
    from zcluster.array.lowering import Codes, Lowering

__all__ = ["Points", "points_chunks", "scattered"]

Integers = npt.NDArray[np.int64]

#: A gather is scattered if it takes more pieces than this of a block for a block,
_MOST_PIECES = 4
#: or more than this for a block, and they are shorter than that.
_MANY_PIECES, _SHORT_PIECE = 16, 8
#: Blocks of fewer bytes are taken whole: cutting costs more than it saves.
_SMALL_BLOCK = 65_536
#: The stop of a box that takes all of an axis, however long it is.
_END = 1 << 40


def points_chunks(shape: Sequence[int], most: int) -> tuple[AxisChunks, ...]:
    """Return chunks for points in some shape: the first axis is cut, the others are whole.

    Parameters
    ----------
    shape : sequence of int
    most : int
        Points in a chunk, if that is possible.

    Examples
    --------
    >>> points_chunks((1, 7, 2), 6)
    ((1,), (3, 3, 1), (2,))
    """
    chunks: list[AxisChunks] = [(length,) for length in shape]
    if math.prod(shape) > most:
        cut = next(axis for axis, length in enumerate(shape) if length != 1)
        side = max(most // math.prod(shape[cut + 1 :]), 1)
        whole, rest = divmod(shape[cut], side)
        chunks[cut] = (side,) * whole + ((rest,) if rest else ())
    return tuple(chunks)


class Points(Emitted):
    """The elements at some points; axes that the points say nothing of stay whole.

    Parameters
    ----------
    source : Expr
    axes : tuple of int
        That the points are places on; of known lengths.
    places : tuple of ndarray of int64, shape (points,)
        For each of these axes the place of each point: 0 or more, and within the array.
    chunks : tuple of tuples
        Of the axes that the points have in the result, in C order; at most the first of them that
        is longer than 1 has several chunks.
    at : int
        Where these axes stand in the result.
    """

    def __init__(
        self,
        source: Expr,
        axes: tuple[int, ...],
        places: tuple[Integers, ...],
        chunks: tuple[AxisChunks, ...],
        at: int,
        label: str = "getitem",
    ) -> None:
        kept = [own for axis, own in enumerate(source.chunks) if axis not in axes]
        super().__init__(label, (source,), (*kept[:at], *chunks, *kept[at:]), source.dtype)
        self.axes = axes
        self.places = places
        self.own_chunks = chunks
        self.at = at

    def token(self) -> Any:
        return (self.axes, self.places, chunks_token(self.own_chunks), self.at)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Points(inputs[0], self.axes, self.places, self.own_chunks, self.at, self.label)

    def emit(self, lowering: Lowering) -> Codes:
        source = self.inputs[0]
        kept = [axis for axis in range(source.ndim) if axis not in self.axes]
        codes = lowering.codes(source).transpose([*self.axes, *kept])
        grid = codes.shape[len(self.axes) :]
        codes = codes.reshape(-1, math.prod(grid))
        found = _Found(self, source)
        # In the order of the blocks of the result: its chunk of points, and its place beside.
        lines = np.arange(found.count * codes.shape[1]).reshape(found.count, *grid)
        lines = np.moveaxis(lines, 0, self.at).reshape(-1)
        chunk, beside = np.divmod(lines, codes.shape[1])
        blocks = found.blocks.take(chunk)
        taken = codes[blocks.values, np.repeat(beside, np.diff(blocks.points))]
        inputs = Rows(blocks.count, blocks.width, blocks.indptr, taken)
        function = _Picking(self.axes, self.at, _shape_of(self.own_chunks))
        rows: Rows | None = found.rows
        slots = [Slot(3, source.ndim, found.share)]
        if codes.shape[1] > 1:  # many blocks take the same points: they are told as an input
            told = lowering.add(f"{self.name}-points", _told, constants=rows, count=found.count)
            inputs = interleaved([Rows.fixed(told[chunk].reshape(-1, 1)), inputs])
            slots.insert(0, Slot())
            rows = None
        edges = Edges(inputs)
        if found.boxes is not None:
            edges = Edges(inputs, slots, found.boxes.take(chunk).values.reshape(-1))
        made = lowering.add(
            self.name, function, edges, constants=rows, shape=self.numblocks, options=self.options
        )
        return made.reshape(self.numblocks)


class _Found:
    """Which points of which blocks go into each chunk of the result.

    Attributes
    ----------
    count : int
        Chunks.
    blocks : Rows
        For each chunk the blocks it takes, as numbers in the grid of the axes.
    rows : Rows
        For each chunk what `_Picking` is told.
    boxes : Rows or None
        For each chunk the boxes of these blocks; None if they are taken whole.
    share : float
    """

    def __init__(self, one: Points, source: Expr) -> None:
        lengths = [n for own in one.own_chunks for n in own if len(own) > 1]
        total = len(one.places[0])
        lengths = [n * (total // max(sum(lengths), 1)) for n in lengths] or [total]
        self.count = len(lengths)
        chunk = np.repeat(np.arange(self.count), lengths)
        block = np.zeros(total, np.int64)
        offsets = []
        for axis, places in zip(one.axes, one.places, strict=True):
            points = bounds(source.chunks[axis])
            number = np.searchsorted(points, places, side="right") - 1
            block = block * (len(points) - 1) + number
            offsets.append(places - points[number])
        order = np.lexsort((block, chunk))  # stable
        chunk, block = chunk[order], block[order]
        begins = np.flatnonzero((np.diff(chunk, prepend=-1) != 0) | (np.diff(block, prepend=-1)))
        counts = np.diff(begins, append=total)
        group_chunk, group_block = chunk[begins], block[begins]
        offsets = [each[order] for each in offsets]
        lows = [np.minimum.reduceat(each, begins) if total else each for each in offsets]
        highs = [np.maximum.reduceat(each, begins) + 1 if total else each for each in offsets]
        empty = np.setdiff1d(np.arange(self.count), group_chunk)
        if len(empty):  # they need some block, to know the lengths of the other axes
            where = np.searchsorted(group_chunk, empty)
            group_chunk = np.insert(group_chunk, where, empty)
            group_block, counts = np.insert(group_block, where, 0), np.insert(counts, where, 0)
            lows = [np.insert(each, where, 0) for each in lows]
            highs = [np.insert(each, where, 0) for each in highs]
        groups = np.bincount(group_chunk, minlength=self.count)
        indptr = np.zeros(self.count + 1, np.int64)
        np.cumsum(groups, out=indptr[1:])
        self.blocks = Rows.of(indptr, group_block)
        self.boxes, self.share = _boxes(one.axes, source, lows, highs, group_block, indptr)
        if self.boxes is not None:
            offsets = [
                each - np.repeat(low, counts) for each, low in zip(offsets, lows, strict=True)
            ]
        by_chunk = np.zeros(self.count + 1, np.int64)
        np.cumsum(lengths, out=by_chunk[1:])
        within = order - np.repeat(by_chunk[:-1], lengths)
        heads = np.stack([np.asarray(lengths, np.int64), groups], axis=1)
        self.rows = interleaved(
            [
                Rows.fixed(heads),
                Rows.of(indptr, counts),
                *[Rows.of(by_chunk, each) for each in (within, *offsets)],
            ]
        )


def _boxes(
    axes: tuple[int, ...],
    source: Expr,
    lows: list[Integers],
    highs: list[Integers],
    block: Integers,
    indptr: Integers,
) -> tuple[Rows | None, float]:
    """Return the boxes of blocks that hold the points, unless they are much of the blocks."""
    if math.prod(map(max, source.chunks)) * source.dtype.itemsize < _SMALL_BLOCK:
        return None, 1.0
    share = 1.0
    boxes = np.empty((len(block), source.ndim, 3), np.int64)
    boxes[:] = (0, _END, 1)
    shape = tuple(source.numblocks[axis] for axis in axes)
    numbers = np.unravel_index(block, shape)
    for axis, low, high, number in zip(axes, lows, highs, numbers, strict=True):
        boxes[:, axis, 0], boxes[:, axis, 1] = low, high
        own = np.asarray(source.chunks[axis], np.int64)[number]
        share *= float(np.mean((high - low) / np.maximum(own, 1)))
    if share > 0.5:
        return None, 1.0
    return Rows.of(indptr, boxes), share


def _shape_of(chunks: tuple[AxisChunks, ...]) -> tuple[int, ...]:
    """Return the shape of all blocks of points, with -1 for an axis that is cut."""
    return tuple(own[0] if len(own) == 1 else -1 for own in chunks)


def _told(constant: Any) -> Integers:
    return np.frombuffer(constant, np.int64).copy()


class _Picking:
    """Picks points out of blocks; what the tasks of `Points` run.

    It is told, in integers: how many points and how many blocks; how many points of each block;
    the place of each point in the result, and its place on each axis of its block.
    """

    __slots__ = ("at", "axes", "shape")

    __name__ = "points"

    def __init__(self, axes: tuple[int, ...], at: int, shape: tuple[int, ...]) -> None:
        self.axes = axes
        self.at = at
        self.shape = shape

    def __call__(self, told: Any, *blocks: Any) -> Any:
        told = told if isinstance(told, np.ndarray) else np.frombuffer(told, np.int64)
        total, groups = told[:2].tolist()
        counts = told[2 : 2 + groups].tolist()
        places, *offsets = told[2 + groups :].reshape(1 + len(self.axes), total)
        kept = [axis for axis in range(blocks[0].ndim) if axis not in self.axes]
        beside = [blocks[0].shape[axis] for axis in kept]
        made = np.empty_like(
            blocks[0], order="C", shape=(*beside[: self.at], total, *beside[self.at :])
        )
        front = np.moveaxis(made, self.at, 0)
        start = 0
        for block, count in zip(blocks, counts, strict=True):
            stop = start + count
            picked = block.transpose([*self.axes, *kept])[
                tuple(offset[start:stop] for offset in offsets)
            ]
            if groups == 1:  # they stand in order
                front[...] = picked
            else:
                front[places[start:stop]] = picked
            start = stop
        if len(self.shape) == 1:
            return made
        rest = math.prod(length for length in self.shape if length != -1)
        # NumPy could not tell what -1 stands for, if it is empty beside the points.
        shape = tuple(total // rest if length == -1 else length for length in self.shape)
        return made.reshape((*beside[: self.at], *shape, *beside[self.at :]))


# Gathers ------------------------------------------------------------------------------------------


def scattered(outputs: Sequence[Expr]) -> list[Expr]:
    """Return the same expressions, with `Points` in the place of gathers that take many pieces."""
    made: dict[str, Expr] = {}
    for one in topological(outputs):
        fresh = one
        if any(made[source.name] is not source for source in one.inputs):
            fresh = one.with_inputs([made[source.name] for source in one.inputs])
        made[one.name] = _as_points(fresh) if isinstance(fresh, Gather) else fresh
    return [made[one.name] for one in outputs]


def _as_points(one: Gather) -> Expr:
    source = one.inputs[0]
    found = [
        axis
        for axis, (made, own) in enumerate(zip(one.maps, source.chunks, strict=True))
        if len(made.starts) > 2 * _MOST_PIECES and _is_scattered(made, own)
    ]
    if not found:
        return one
    maps = list(one.maps)
    for axis in found:
        maps[axis] = identity(source.shape[axis], source.chunks[axis])
    if any(not made.is_identity or made.chunks != own for made, own in _pairs(maps, source)):
        source = Gather(source, maps, one.fill, one.label)
    for axis in found:
        places = _places(one.maps[axis])
        source = Points(source, (axis,), (places,), (one.maps[axis].chunks,), axis, one.label)
    return source


def _pairs(maps: Sequence[AxisMap], source: Expr) -> list[tuple[AxisMap, AxisChunks]]:
    return list(zip(maps, source.chunks, strict=True))


def _is_scattered(made: AxisMap, own: AxisChunks) -> bool:
    if (made.starts == FILL).any():
        return False
    cut = pieces(made, own)
    chunk = np.repeat(np.arange(len(cut.indptr) - 1), np.diff(cut.indptr))
    count = len(cut.chunk)
    if count > _MANY_PIECES * len(made.chunks) and made.length < _SHORT_PIECE * count:
        return True
    return count > _MOST_PIECES * len(np.unique(chunk * len(own) + cut.chunk))


def _places(made: AxisMap) -> Integers:
    """Return the place on the axis of the input of each place of the result."""
    within = np.arange(made.length) - np.repeat(np.cumsum(made.counts) - made.counts, made.counts)
    return np.repeat(made.starts, made.counts) + within * np.repeat(made.steps, made.counts)
