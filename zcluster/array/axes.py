"""Where the elements of one axis come from: the arithmetic below slices, rechunks and ghost cells.

An `AxisMap` says for every place along an axis of a result which place along an axis of the input
stands there. It is a list of **segments**, each an arithmetic progression: ``start``, ``count`` and
``step``. So one notation covers

=====================  ==========================================================================
a slice                one segment; a negative step runs backwards
a rechunk              one segment, the whole axis: only the chunks of the result differ
integers               a segment for each run among them
ghost cells            a segment for each chunk, longer than the chunk; at the ends of the axis
                       some run backwards (reflect), come from the other end (periodic), repeat
                       one place (nearest: step 0), or come from nowhere (constant: start -1)
roll, flip, pad, tile  a few segments
=====================  ==========================================================================

Two maps after each other are one map (`compose`): a slice of a rechunk of a slice costs what one
slice costs. `pieces` cuts the segments at the borders of the chunks on both sides, and gives for
every chunk of the result the boxes of input chunks that it is made of. All of it is NumPy on the
segments of one axis; the blocks of an array, the product of its axes, are not enumerated here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zcluster.array.chunks import AxisChunks, bounds, chunks_token

__all__ = [
    "FILL",
    "UNKNOWN",
    "AxisMap",
    "Pieces",
    "compose",
    "identity",
    "of_indices",
    "of_slice",
    "pieces",
]

Integers = npt.NDArray[np.int64]

#: The start of a segment that comes from nowhere: its places hold a constant.
FILL = -1
#: The count of a piece that is a whole chunk of unknown length: more than any chunk has.
UNKNOWN = 1 << 62


@dataclass(frozen=True, eq=False)
class AxisMap:
    """Where the elements of one axis come from; see the top of this file.

    Attributes
    ----------
    starts, counts, steps : ndarray of int64
        The segments, in the order of the result.
    chunks : tuple of int
        Of the result; they add up to the counts.
    is_identity : bool
        Nothing changes but maybe the chunks. Only this goes with unknown lengths.
    """

    starts: Integers
    counts: Integers
    steps: Integers
    chunks: AxisChunks
    is_identity: bool = False

    @property
    def length(self) -> int:
        return int(self.counts.sum())

    def with_chunks(self, chunks: AxisChunks) -> AxisMap:
        """Return the same map with other chunks in the result."""
        return AxisMap(self.starts, self.counts, self.steps, chunks, self.is_identity)

    def __zcluster_tokenize__(self) -> tuple[Any, ...]:
        (chunks,) = chunks_token((self.chunks,))
        if self.is_identity:
            return ("identity", chunks)
        segments = np.stack([self.starts, self.counts, self.steps])
        return (segments.tolist() if segments.size < 64 else segments, chunks)


def identity(length: Any, chunks: AxisChunks) -> AxisMap:
    """Return the map that changes nothing but maybe the chunks."""
    if length != length:  # unknown
        nothing = np.empty(0, np.int64)
        return AxisMap(nothing, nothing, nothing, chunks, True)
    return AxisMap(_one(0), _one(length), _one(1), chunks, True)


def of_slice(start: int, count: int, step: int, chunks: AxisChunks) -> AxisMap:
    """Return the map of a slice; its chunks follow the chunks of the input.

    Parameters
    ----------
    start, count, step : int
        The places ``start, start + step, …``, so many of them.
    chunks : tuple of int
        Of the input.
    """
    made = AxisMap(_one(start), _one(count), _one(step), (count,))
    return made if len(chunks) == 1 else made.with_chunks(_natural_chunks(made, chunks))


def of_indices(indices: Integers, chunks: AxisChunks) -> AxisMap:
    """Return the map of a list of places in any order.

    Places that follow each other at one distance become one segment. The chunks of the result
    follow the chunks of the input where the places are in order, else they are about as long.
    """
    indices = np.asarray(indices, np.int64)
    if len(indices) == 0:
        return of_slice(0, 0, 1, chunks)
    starts, counts, steps = _runs(indices)
    made = AxisMap(starts, counts, steps, (len(indices),))
    is_ordered = bool((np.diff(indices) >= 0).all()) or bool((np.diff(indices) <= 0).all())
    if is_ordered:
        return made.with_chunks(_natural_chunks(made, chunks))
    side = max(max(chunks), 1)
    whole, rest = divmod(len(indices), side)
    return made.with_chunks((side,) * whole + ((rest,) if rest else ()))


def _one(value: int) -> Integers:
    return np.array([value], np.int64)


def _runs(indices: Integers) -> tuple[Integers, Integers, Integers]:
    """Cut a list of places into runs of consecutive ones: the step is 1, or 0 for equal ones."""
    steps = np.diff(indices)
    # A run goes on where the distance is 1, as it was before, or is 0, as it was before.
    kind = np.where(steps == 1, 1, np.where(steps == 0, 0, -1))
    breaks = np.ones(len(indices), np.bool_)
    breaks[1:] = kind < 0
    breaks[2:] |= (kind[1:] != kind[:-1]) & ~breaks[1:-1]
    begins = np.flatnonzero(breaks)
    counts = np.diff(begins, append=len(indices))
    run_steps = np.ones(len(begins), np.int64)
    long = counts > 1
    run_steps[long] = kind[begins[long]]
    return indices[begins], counts, run_steps


def _natural_chunks(made: AxisMap, chunks: AxisChunks) -> AxisChunks:
    """Return chunks with a border wherever the places pass from one input chunk to another."""
    split = _split(made.starts, made.counts, made.steps, bounds(chunks))
    if not len(split.count):
        return (0,)
    begins = np.flatnonzero(np.diff(split.interval, prepend=-2))
    lengths: list[int] = np.add.reduceat(split.count, begins).tolist()
    return tuple(lengths)


# Cutting ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Split:
    """Segments cut at points. `start` counts from the beginning of the interval."""

    segment: Integers
    interval: Integers
    start: Integers
    count: Integers
    step: Integers


def _split(starts: Integers, counts: Integers, steps: Integers, points: Integers) -> _Split:
    """Cut segments so that each lies within one of the intervals between points.

    Segments from nowhere stay whole, in interval -1.
    """
    lasts = starts + (counts - 1) * steps
    some = np.flatnonzero(counts > 0)
    if len(some) < len(counts):
        cut = _split(starts[some], counts[some], steps[some], points)
        return replace(cut, segment=some[cut.segment])
    is_fill = starts == FILL
    # An interval of no length holds nothing: `side="right"` passes it by.
    first = np.where(is_fill, 0, np.searchsorted(points, starts, side="right") - 1)
    last = np.where(is_fill, 0, np.searchsorted(points, lasts, side="right") - 1)
    touched = np.abs(last - first) + 1
    segment = np.repeat(np.arange(len(starts)), touched)
    ahead = np.arange(len(segment)) - np.repeat(np.cumsum(touched) - touched, touched)
    interval = first[segment] + np.where(last < first, -1, 1)[segment] * ahead
    start, step = starts[segment], steps[segment]
    low, high = points[interval], points[interval + 1]
    size = np.maximum(np.abs(step), 1)
    # The progression enters the interval at element `begin` and has left it at `end`.
    begin = np.where(step >= 0, -((start - low) // size), -((high - 1 - start) // size))
    end = np.where(step >= 0, -((start - high) // size), -((low - 1 - start) // size))
    begin = np.maximum(begin, 0)
    end = np.where(step == 0, counts[segment], np.minimum(end, counts[segment]))
    fill = is_fill[segment]
    begin[fill], end[fill] = 0, counts[segment][fill]
    keep = end > begin
    local = np.where(fill, FILL, start + begin * step - low)
    interval = np.where(fill, -1, interval)
    return _Split(segment[keep], interval[keep], local[keep], (end - begin)[keep], step[keep])


def compose(outer: AxisMap, inner: AxisMap) -> AxisMap:
    """Return the map that does the same as `inner` and then `outer`.

    Examples
    --------
    >>> every_other = of_slice(0, 5, 2, (10,))
    >>> backwards = of_slice(4, 5, -1, every_other.chunks)
    >>> both = compose(backwards, every_other)
    >>> both.starts.tolist(), both.counts.tolist(), both.steps.tolist()
    ([8], [5], [-2])
    """
    if outer.is_identity:
        return inner.with_chunks(outer.chunks)
    if inner.is_identity:
        return outer
    split = _split(outer.starts, outer.counts, outer.steps, bounds(inner.counts.tolist()))
    fill = split.interval < 0
    begin, step = inner.starts[split.interval], inner.steps[split.interval]
    fill |= begin == FILL
    starts = np.where(fill, FILL, begin + split.start * step)
    steps = np.where(fill, 0, split.step * step)
    return AxisMap(starts, split.count, steps, outer.chunks)


@dataclass(frozen=True, eq=False)
class Pieces:
    """What each chunk of a result is made of, along one axis.

    The pieces of chunk ``j`` are ``indptr[j]`` to ``indptr[j + 1]``, in the order in which they
    stand there.

    Attributes
    ----------
    indptr : ndarray of int64
    chunk : ndarray of int64
        The input chunk a piece comes from; -1 for a constant.
    start, count, step : ndarray of int64
        Places in that chunk. A step of 0 repeats one place.
    """

    indptr: Integers
    chunk: Integers
    start: Integers
    count: Integers
    step: Integers

    @property
    def are_single(self) -> bool:
        """Whether every chunk is one piece that runs forward, so that a box is all it takes."""
        return (
            len(self.chunk) == len(self.indptr) - 1
            and bool((np.diff(self.indptr) == 1).all())
            and bool((self.chunk >= 0).all())
            and bool(((self.step > 0) | (self.count == 1)).all())
        )

    @property
    def low(self) -> Integers:
        """The first place of each piece's box."""
        return np.minimum(self.start, self.start + np.maximum(self.count - 1, 0) * self.step)

    @property
    def high(self) -> Integers:
        """One past the last place of each piece's box."""
        return np.maximum(self.start, self.start + np.maximum(self.count - 1, 0) * self.step) + 1


def pieces(made: AxisMap, chunks: AxisChunks) -> Pieces:
    """Cut a map at the chunks of the input and of the result.

    Parameters
    ----------
    made : AxisMap
    chunks : tuple of int
        Of the input.

    Examples
    --------
    >>> found = pieces(identity(10, (5, 5)), (3, 3, 4))
    >>> found.indptr.tolist(), found.chunk.tolist(), found.start.tolist(), found.count.tolist()
    ([0, 2, 4], [0, 1, 1, 2], [0, 0, 2, 0], [3, 2, 1, 4])
    """
    if made.is_identity and made.chunks == chunks:
        count = len(chunks)
        lengths = np.array([UNKNOWN if c != c else c for c in chunks], np.int64)
        zeros = np.zeros(count, np.int64)
        return Pieces(
            np.arange(count + 1), np.arange(count), zeros, lengths, np.ones(count, np.int64)
        )
    inside = _split(made.starts, made.counts, made.steps, bounds(chunks))
    # By place in the result, cut once more at the borders of its chunks.
    begins = np.cumsum(inside.count) - inside.count
    borders = bounds(made.chunks)
    ones = np.ones(len(begins), np.int64)
    cut = _split(begins, inside.count, ones, borders)
    place = cut.segment
    skipped = cut.start + borders[cut.interval] - begins[place]
    start = (inside.start[place] + skipped * inside.step[place]).astype(np.int64, copy=False)
    chunk = inside.interval[place]
    start[chunk < 0] = FILL
    counts = np.bincount(cut.interval, minlength=len(made.chunks))
    indptr = np.zeros(len(made.chunks) + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    if (counts == 0).any():
        return _with_empty(indptr, chunk, start, cut.count, inside.step[place])
    return Pieces(indptr, chunk, start, cut.count, inside.step[place])


def _with_empty(
    indptr: Integers, chunk: Integers, start: Integers, count: Integers, step: Integers
) -> Pieces:
    """Give chunks of no length a piece of no length: of the input's first chunk."""
    empty = np.flatnonzero(np.diff(indptr) == 0)
    at = indptr[empty]
    made = [
        np.insert(column, at, value)
        for column, value in zip((chunk, start, count, step), (0, 0, 0, 1), strict=True)
    ]
    counts = np.diff(indptr)
    counts[empty] = 1
    points = np.zeros(len(indptr), np.int64)
    np.cumsum(counts, out=points[1:])
    return Pieces(points, *made)
