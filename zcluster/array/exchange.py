"""Sorting across blocks: every block is sorted by itself, cut at common places, and merged.

The places are found by sampling, and so that each of the merged **buckets** has about as many
elements, whatever the data are::

    runs      each block sorted; of each run every so many elements are a sample
    plan      one task: all samples sorted say where to cut, as elements: (key, block, place)
    cuts      each run cut there, in parts: what goes to which bucket
    buckets   the parts of one number of all runs, merged

Elements are in order by key, then by block, then by place. So the order is that of a stable sort,
and equal keys may be cut anywhere: an array of one value is cut as evenly as any other. Since a
run has exactly `step` elements for each of its samples, how many elements go before each cut is
known but for fewer than `step` of each block. So it is known beforehand into which chunks of the
result a bucket may reach, and the exact ranks that the merged buckets turn out to have need no
more than a last layer: **chunks**, each the parts of a few neighbouring buckets.

Where equal keys have to meet (the values of `unique`), cuts are by key alone.

All of it is data in arrays: a run is a tuple of arrays, keys first, then what goes with them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from zcluster.array.chunks import AxisChunks, bounds
from zcluster.array.emission import Edges
from zcluster.array.expressions import Emitted, Expr
from zcluster.array.lowering import Codes, Lowering
from zcluster.array.rows import Rows
from zcluster.errors import InvariantError
from zcluster.protocol.blobs import Parts
from zcluster.protocol.messages import Slot

__all__ = ["Cuts", "Exchange", "Run", "Sorted", "as_run", "merged", "sample_of"]

#: Keys in order, then arrays that go with them.
Run: TypeAlias = tuple[Any, ...]

#: The most samples of all blocks together; about four for each pair of a block and a bucket.
_MOST_SAMPLES = 2**22

Integers = npt.NDArray[np.int64]


def sample_of(run: Run, samples: int) -> tuple[int, int, Any]:
    """Return the length of a run, its step, and every step-th of its keys.

    Examples
    --------
    >>> sample_of((np.arange(7),), 2)
    (7, 4, array([3]))
    """
    length = len(run[0])
    step = max(-(-length // samples), 1)
    return length, step, run[0][step - 1 :: step]


# What tasks do ------------------------------------------------------------------------------------


class _Runs:
    """Sorts a block: makes a run, and its sample with the number of elements of the block."""

    __slots__ = ("make", "samples")

    def __init__(self, make: Callable[[Any], Run], samples: int) -> None:
        self.make = make
        self.samples = samples

    __name__ = "runs"

    def __call__(self, block: Any) -> Any:
        run = self.make(np.asarray(block))
        return Parts([run, (*sample_of(run, self.samples), np.size(block))])


class Cuts(NamedTuple):
    """Where to cut all runs.

    Attributes
    ----------
    starts : ndarray of int64
        How many elements the blocks before each have; runs may have fewer.
    keys, blocks, places : ndarray
        For each cut the last element before it; block -1: nothing goes before it.
    """

    starts: Any
    keys: Any
    blocks: Any
    places: Any


class _Plan:
    """Says where to cut, of all samples, so that there are buckets of about one length."""

    __slots__ = ("buckets",)

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    __name__ = "plan"

    def __call__(self, samples: Sequence[tuple[int, int, Any, int]]) -> Cuts:
        lengths = np.array([length for length, *_ in samples], np.int64)
        steps = np.array([step for _, step, *_ in samples], np.int64)
        counts = np.array([len(keys) for *_, keys, _ in samples], np.int64)
        keys = np.concatenate([keys for *_, keys, _ in samples])
        blocks = np.repeat(np.arange(len(samples)), counts)
        places = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = (places + 1) * steps[blocks] - 1
        order = np.argsort(keys, kind="stable")  # by key, then by block and place
        upto = np.cumsum(steps[blocks[order]])
        slack = int((steps - 1).sum())
        targets = np.arange(1, self.buckets) * int(lengths.sum()) // self.buckets
        last = np.searchsorted(upto, targets - slack // 2, side="right") - 1
        sizes = np.array([size for *_, size in samples], np.int64)
        starts = np.cumsum(sizes) - sizes
        if not len(keys):
            nothing = np.full(len(targets), -1)
            return Cuts(starts, np.zeros(len(targets), keys.dtype), nothing, nothing)
        found = order[np.maximum(last, 0)]
        return Cuts(starts, keys[found], np.where(last < 0, -1, blocks[found]), places[found])


class _Cut:
    """Cuts a run into parts, one for each bucket, and one more with their lengths.

    Attributes
    ----------
    by_key : bool
        Equal keys go to the same bucket.
    shifts : bool
        The second array of a run holds places in the block, which become places among all.
    """

    __slots__ = ("by_key", "shifts")

    def __init__(self, by_key: bool, shifts: bool) -> None:
        self.by_key = by_key
        self.shifts = shifts

    __name__ = "cut"

    def __call__(self, constant: Any, run: Run, cuts: Cuts) -> Any:
        (number,) = memoryview(constant).cast("q")
        keys = run[0]
        after = np.searchsorted(keys, cuts.keys, side="right")
        if not self.by_key:
            before = np.searchsorted(keys, cuts.keys, side="left")
            own = np.where(cuts.blocks == number, cuts.places + 1, before)
            after = np.where(cuts.blocks > number, after, own)
        points = [0, *np.where(cuts.blocks < 0, 0, after).tolist(), len(keys)]
        if self.shifts:
            run = (keys, run[1] + cuts.starts[number], *run[2:])
        parts: list[Any] = [
            tuple(one[start:stop] for one in run) for start, stop in itertools.pairwise(points)
        ]
        if len(run) == 1:  # an array lies in a store as it is
            parts = [part[0] for part in parts]
        return Parts([*parts, np.diff(points)])


def _ranks(counts: Sequence[Any]) -> Any:
    """Return how many elements go before each bucket, and before the end."""
    found = np.zeros(len(counts[0]) + 1, np.int64)
    np.cumsum(np.sum(counts, axis=0), out=found[1:])
    return found


def as_run(part: Any) -> Run:
    """Return what `_Cut` made of a run as a run again."""
    return part if type(part) is tuple else (part,)


def merged(parts: Sequence[Any]) -> Run:
    """Return the run of some runs that were cut at the same places; equal keys stay in order.

    Examples
    --------
    >>> merged([(np.array([1, 3]), np.array([0, 1])), (np.array([2]), np.array([2]))])
    (array([1, 2, 3]), array([0, 2, 1]))
    """
    runs = [as_run(part) for part in parts]
    if len(runs) == 1:
        return runs[0]
    keys = np.concatenate([run[0] for run in runs])
    if len(runs[0]) == 1:
        keys.sort(kind="stable")  # which makes use of the order that there is
        return (keys,)
    order = np.argsort(keys, kind="stable")
    rest = [np.concatenate([run[at] for run in runs]) for at in range(1, len(runs[0]))]
    return (keys[order], *(one[order] for one in rest))


class _Bucket:
    """Merges the parts of a bucket, and cuts it into the chunks that it reaches into.

    A task's row: the bucket's number, then where chunks begin and end, of those in its reach.
    """

    __slots__ = ("array",)

    def __init__(self, array: int) -> None:
        self.array = array

    __name__ = "bucket"

    def __call__(self, constant: Any, ranks: Any, parts: Sequence[Any]) -> Any:
        number, *points = memoryview(constant).cast("q")
        low, high = int(ranks[number]), int(ranks[number + 1])
        if low < high and not points[0] <= low <= high <= points[-1]:
            raise InvariantError(
                f"bucket {number} of a sort has ranks {low} to {high}, which is out of its reach "
                f"of {points[0]} to {points[-1]}; please report this with the data"
            )
        values = merged(parts)[self.array]
        cuts = [min(max(point - low, 0), high - low) for point in points]
        return Parts([values[a:b] for a, b in itertools.pairwise(cuts)])


class _Chunk:
    """Puts a chunk together from parts of buckets."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    __name__ = "chunk"

    def __call__(self, *parts: Any) -> Any:
        found = [part for part in parts if len(part)]
        if len(found) == 1:
            return found[0]
        return np.concatenate(found) if found else np.empty(0, self.dtype)


class _Finish:
    """Makes what is wanted of the parts of a bucket: an array, or several in parts."""

    __slots__ = ("finish",)

    def __init__(self, finish: Callable[[Sequence[Any]], Run]) -> None:
        self.finish = finish

    __name__ = "bucket"

    def __call__(self, parts: Sequence[Any]) -> Any:
        found = self.finish(parts)
        return found[0] if len(found) == 1 else Parts(found)


def _same(block: Any) -> Any:
    return block


# The expressions ----------------------------------------------------------------------------------


class Exchange(Emitted):
    """Blocks sorted, cut and merged: each bucket is a block, whose length is not known.

    Parameters
    ----------
    label : str
    inputs : sequence of Expr
        Whose blocks, of any number of axes, are runs in C order of the blocks.
    make : callable
        ``make(block)`` returns a `Run`. All keys have one dtype.
    finish : callable
        Of what the runs have for a bucket (`as_run`), the arrays that are wanted.
    buckets : int
    dtypes : sequence of dtype
        Of the arrays that `finish` returns; `PartOf` stands for each if they are several.
    by_key : bool
        Equal keys go to the same bucket.
    shifts : bool
        The second array of a run holds places in the block, which become places among all.
    """

    def __init__(
        self,
        label: str,
        inputs: Sequence[Expr],
        make: Callable[[Any], Run],
        finish: Callable[[Sequence[Any]], Run],
        buckets: int,
        dtypes: Sequence[Any],
        *,
        by_key: bool = True,
        shifts: bool = False,
    ) -> None:
        super().__init__(label, inputs, ((math.nan,) * buckets,), dtypes[0])
        self.make = make
        self.finish = finish
        self.buckets = buckets
        self.dtypes = tuple(dtypes)
        self.by_key = by_key
        self.shifts = shifts

    def token(self) -> Any:
        dtypes = [str(one) for one in self.dtypes]
        return (self.make, self.finish, self.buckets, dtypes, self.by_key, self.shifts)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Exchange(
            self.label,
            inputs,
            self.make,
            self.finish,
            self.buckets,
            self.dtypes,
            by_key=self.by_key,
            shifts=self.shifts,
        )

    def emit(self, lowering: Lowering) -> Codes | Sequence[Codes]:
        blocks = np.concatenate([lowering.codes(one).reshape(-1) for one in self.inputs])
        samples = _samples(len(blocks), self.buckets)
        layers = _Layers(lowering, self, blocks, samples, self.buckets)
        layers.cut(self.make, self.by_key, self.shifts)
        codes = lowering.add(
            self.name,
            _Finish(self.finish),
            layers.parts_of_all(np.arange(self.buckets)),
            options=self.options,
        )
        if len(self.dtypes) == 1:
            return codes
        return [
            lowering.add(
                layers.named(f"part{number}"),
                _same,
                Edges(
                    Rows.fixed(codes.reshape(-1, 1)),
                    [Slot(1, 0, 1 / len(self.dtypes))],
                    np.full(len(codes), number, np.int64),
                ),
                options=self.options,
            )
            for number in range(len(self.dtypes))
        ]


class Sorted(Emitted):
    """The elements of an array of one axis in order, or their places, in chunks of given lengths.

    Parameters
    ----------
    label : str
    source : Expr
        Of one axis and known chunks.
    make : callable
        As in `Exchange`; with two arrays the second holds places in the block.
    array : int
        Which array of a run is wanted: 0 the keys, 1 what goes with them.
    dtype : dtype
    chunks : tuple of int
        Of the result.
    """

    def __init__(
        self,
        label: str,
        source: Expr,
        make: Callable[[Any], Run],
        array: int,
        dtype: Any,
        chunks: AxisChunks,
    ) -> None:
        super().__init__(label, (source,), (chunks,), dtype)
        self.make = make
        self.array = array

    def token(self) -> Any:
        return (self.make, self.array, str(self.dtype), self.chunks)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Sorted(self.label, inputs[0], self.make, self.array, self.dtype, self.chunks[0])

    def emit(self, lowering: Lowering) -> Codes:
        (source,) = self.inputs
        lengths = np.asarray(source.chunks[0], np.int64)
        codes = lowering.codes(source).reshape(-1)[lengths > 0]
        lengths = lengths[lengths > 0]
        buckets = len(codes)
        samples = _samples(len(codes), buckets)
        layers = _Layers(lowering, self, codes, samples, buckets)
        layers.cut(self.make, False, self.array > 0)
        all_counts = layers.parts_of_all(np.array([buckets]))
        ranks = lowering.add(layers.named("ranks"), _ranks, all_counts, options=self.options)
        first, last = _reach(lengths, samples, buckets, self.chunks[0])
        edges = layers.parts_of_all(np.arange(buckets))
        edges.codes = Rows.fixed(np.repeat(ranks, buckets).reshape(-1, 1))
        merged_codes = lowering.add(
            layers.named("buckets"),
            _Bucket(self.array),
            edges,
            constants=_rows_of_buckets(first, last, self.chunks[0]),
            options=self.options,
        )
        return lowering.add(
            self.name,
            _Chunk(self.dtype),
            _chunk_edges(merged_codes, first, last, len(self.chunks[0])),
            options=self.options,
        )


def _samples(blocks: int, buckets: int) -> int:
    """Return how many samples are taken of each block."""
    return max(min(4 * buckets, _MOST_SAMPLES // max(blocks, 1)), 4)


def _reach(
    lengths: Integers, samples: int, buckets: int, chunks: AxisChunks
) -> tuple[Integers, Integers]:
    """Return the first and the last chunk of the result that each bucket may reach into."""
    steps = -(-lengths // samples)
    total = int(lengths.sum())
    # How far a cut may be from where it should be; see `_Plan`.
    error = int((steps - 1).sum() + steps.max()) + 1
    targets = np.arange(buckets + 1) * total // buckets
    low = np.maximum(targets[:-1] - error, 0)
    high = np.minimum(targets[1:] + error, total)
    low[0], high[-1] = 0, total
    points = bounds(chunks)
    first = np.searchsorted(points, low, side="right") - 1
    last = np.searchsorted(points, np.maximum(high - 1, low), side="right") - 1
    return np.minimum(first, len(chunks) - 1), np.minimum(last, len(chunks) - 1)


def _rows_of_buckets(first: Integers, last: Integers, chunks: AxisChunks) -> Rows:
    """Return the rows of `_Bucket`."""
    points = bounds(chunks)
    counts = last - first + 2
    indptr = np.zeros(len(first) + 1, np.int64)
    np.cumsum(counts + 1, out=indptr[1:])
    inside = np.arange(indptr[-1]) - np.repeat(indptr[:-1], counts + 1)
    values = points[np.maximum(np.repeat(first, counts + 1) + inside - 1, 0)]
    values[indptr[:-1]] = np.arange(len(first))
    return Rows.of(indptr, values)


def _chunk_edges(buckets: Codes, first: Integers, last: Integers, count: int) -> Edges:
    """Return which parts of which buckets each chunk takes: those whose reach it lies in."""
    chunks = np.arange(count)
    begin = np.searchsorted(last, chunks, side="left")
    end = np.maximum(np.searchsorted(first, chunks, side="right"), begin)
    indptr = np.zeros(count + 1, np.int64)
    np.cumsum(end - begin, out=indptr[1:])
    bucket = np.arange(indptr[-1]) + np.repeat(begin - indptr[:-1], end - begin)
    part = np.repeat(chunks, end - begin) - first[bucket]
    return Edges(Rows.of(indptr, buckets[bucket]), [Slot(1, 0, 0.5)], part)


class _Layers:
    """Writes the layers that cut all runs at common places."""

    def __init__(
        self, lowering: Lowering, one: Expr, blocks: Codes, samples: int, buckets: int
    ) -> None:
        self.lowering = lowering
        self.one = one
        self.blocks = blocks
        self.samples = samples
        self.buckets = buckets
        self.layer = -1

    def named(self, what: str) -> str:
        stem, _, token = self.one.name.rpartition("-")
        return f"{stem}_{what}-{token}"

    def cut(self, make: Callable[[Any], Run], by_key: bool, shifts: bool) -> None:
        """Add the layers up to the runs that are cut."""
        lowering, options = self.lowering, self.one.options
        count = len(self.blocks)
        runs = lowering.add(
            self.named("runs"),
            _Runs(make, self.samples),
            self.blocks.reshape(-1, 1),
            options=options,
        )
        all_samples = Edges(
            Rows.fixed(np.empty((1, 0), np.int64)),
            (),
            np.array([1], np.int64),
            [len(lowering.graph.layers) - 1],
            [Slot(1, 0, 0.01)],
        )
        plan = lowering.add(self.named("plan"), _Plan(self.buckets), all_samples, options=options)
        edges = Edges(
            Rows.fixed(np.stack([runs, np.repeat(plan, count)], axis=1)),
            [Slot(1, 0, 1.0), Slot()],
            np.zeros(count, np.int64),
        )
        lowering.add(
            self.named("cuts"),
            _Cut(by_key, shifts),
            edges,
            constants=Rows.fixed(np.arange(count, dtype=np.int64).reshape(-1, 1)),
            options=options,
        )
        self.layer = len(lowering.graph.layers) - 1

    def parts_of_all(self, numbers: Integers) -> Edges:
        """Return edges of tasks that each take the parts of one number of all cut runs."""
        return Edges(
            Rows.fixed(np.empty((len(numbers), 0), np.int64)),
            (),
            np.asarray(numbers, np.int64),
            [self.layer],
            [Slot(1, 0, 1 / self.buckets)],
        )
