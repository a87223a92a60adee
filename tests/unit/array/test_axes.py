"""Maps of one axis, against the list of places that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.axes import (
    FILL,
    AxisMap,
    Pieces,
    compose,
    identity,
    of_indices,
    of_slice,
    pieces,
)
from zcluster.protocol.tokens import tokenize

FAST = settings(max_examples=80, deadline=None)
LENGTHS = st.sampled_from([0, 1, 2, 5, 13, 40])

Chunks = tuple[int, ...]
Chunked = Callable[[int], st.SearchStrategy[Chunks]]
Maker = Callable[[st.DataObject, int, Chunks], AxisMap]


def places(made: AxisMap) -> list[int]:
    """Return where each element comes from; -1: from nowhere."""
    found: list[int] = []
    for start, count, step in zip(made.starts, made.counts, made.steps, strict=True):
        found += [FILL if start == FILL else int(start + k * step) for k in range(count)]
    return found


def drawn_segments(data: st.DataObject, length: int) -> AxisMap:
    """Draw a map of any segments: runs in any step, repeated places, places from nowhere."""
    segments = []
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["fill", "repeat", "run"]))
        start = data.draw(st.integers(0, length - 1)) if length else 0
        if kind == "fill" or not length:
            segments.append((FILL, data.draw(st.integers(1, 4)), 0))
        elif kind == "repeat":
            segments.append((start, data.draw(st.integers(0, 4)), 0))
        else:
            step = data.draw(st.sampled_from([1, -1, 2, -3]))
            room = (length - 1 - start) // step if step > 0 else start // -step
            segments.append((start, data.draw(st.integers(0, room + 1)), step))
    columns = np.array(segments, np.int64)
    total = int(columns[:, 1].sum())
    return AxisMap(columns[:, 0], columns[:, 1], columns[:, 2], (total,))


def drawn_map(data: st.DataObject, length: int, chunks: Chunks, chunked: Chunked) -> AxisMap:
    """Draw a map of an axis."""
    kind = data.draw(st.sampled_from(["identity", "slice", "indices", "segments"]))
    if kind == "identity":
        return identity(length, data.draw(chunked(length)))
    if kind == "slice":
        step = data.draw(st.sampled_from([1, 2, 3, 7, -1, -2, -5]))
        bound = st.one_of(st.none(), st.integers(-length, length))
        taken = range(*slice(data.draw(bound), data.draw(bound), step).indices(length))
        return of_slice(taken.start if len(taken) else 0, len(taken), step, chunks)
    if kind == "indices" and length:
        drawn = data.draw(st.lists(st.integers(0, length - 1), max_size=9))
        return of_indices(np.array(drawn, np.int64), chunks)
    made = drawn_segments(data, length)
    return made.with_chunks(data.draw(chunked(made.length)))


def assembled(found: Pieces, chunks: Chunks) -> list[list[int]]:
    """Return what each chunk of a result holds of ``0, 1, 2, …``, by its pieces."""
    parts = np.split(np.arange(sum(chunks)), np.cumsum(chunks)[:-1])
    blocks = []
    for j in range(len(found.indptr) - 1):
        block: list[int] = []
        for e in range(int(found.indptr[j]), int(found.indptr[j + 1])):
            count = int(found.count[e])
            if found.chunk[e] < 0:
                block += [FILL] * count
                continue
            part = parts[found.chunk[e]]
            block += [int(part[found.start[e] + k * found.step[e]]) for k in range(count)]
            if count:
                assert 0 <= found.low[e] < found.high[e] <= len(part), "the box is in the chunk"
                assert found.low[e] <= found.start[e] < found.high[e]
        blocks.append(block)
    return blocks


@given(data=st.data(), length=LENGTHS)
@FAST
def test_pieces_hold_what_the_map_says(data: st.DataObject, length: int, chunked: Chunked) -> None:
    """For any map, over any chunks: every chunk its elements, in order."""
    chunks = data.draw(chunked(length))
    made = drawn_map(data, length, chunks, chunked)
    assert sum(made.chunks) == made.length
    blocks = assembled(pieces(made, chunks), chunks)
    assert list(map(len, blocks)) == list(made.chunks)
    assert [*chain(*blocks)] == places(made)


@given(data=st.data(), length=LENGTHS)
@FAST
def test_two_maps_are_one(data: st.DataObject, length: int, chunked: Chunked) -> None:
    """After each other, they take what the second takes of the first."""
    chunks = data.draw(chunked(length))
    inner = drawn_map(data, length, chunks, chunked)
    outer = drawn_map(data, inner.length, inner.chunks, chunked)
    both = compose(outer, inner)
    first = places(inner)
    expected = [FILL if place == FILL else first[place] for place in places(outer)]
    assert both.chunks == outer.chunks
    assert places(both) == expected
    assert [*chain(*assembled(pieces(both, chunks), chunks))] == expected


@given(data=st.data(), length=st.integers(1, 40))
@FAST
def test_chunks_follow_those_of_the_input(
    data: st.DataObject, length: int, chunked: Chunked
) -> None:
    """A slice, and places in order, give one block for each block they touch."""
    chunks = data.draw(chunked(length))
    step = data.draw(st.sampled_from([1, 2, 7, -1, -3]))
    taken = range(*slice(None, None, step).indices(length))
    made = of_slice(taken.start, len(taken), step, chunks)
    found = pieces(made, chunks)
    assert len(found.chunk) == len(made.chunks)
    assert found.are_single == (step > 0 or all(c == 1 for c in made.chunks))
    drawn = sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=1)))
    made = of_indices(np.array(drawn), chunks)
    touched = np.searchsorted(np.cumsum(chunks), drawn, side="right")
    assert list(made.chunks) == np.bincount(touched)[np.unique(touched)].tolist()


def test_runs_among_integers_are_segments() -> None:
    """Places that follow each other, and one that repeats, cost one segment."""
    made = of_indices(np.array([3, 4, 5, 5, 5, 9, 8, 2, 3]), (10,))
    assert places(made) == [3, 4, 5, 5, 5, 9, 8, 2, 3]
    assert len(made.starts) < 9
    everything = of_indices(np.arange(1000), (300, 300, 400))
    assert everything.starts.tolist() == [0]
    assert everything.chunks == (300, 300, 400)


def test_unordered_integers_have_chunks_about_as_long() -> None:
    """The longest chunk of the input says how long."""
    made = of_indices(np.array([9, 0, 8, 1, 7, 2, 6]), (3, 3, 4))
    assert made.chunks == (4, 3)
    assert of_indices(np.array([], int), (3, 4)).chunks == (0,)


def test_nothing_is_unknown_to_the_identity() -> None:
    """Of an unknown length only what changes nothing can be said."""
    nan = float("nan")
    made = identity(nan, (nan, nan))
    found = pieces(made, made.chunks)
    assert found.chunk.tolist() == [0, 1]
    assert found.are_single
    other = made.with_chunks(made.chunks)
    assert compose(other, made).is_identity


@pytest.mark.parametrize("step", [1, -1, 3])
def test_maps_have_tokens_of_their_values(step: int) -> None:
    """Equal maps have one token, others another."""

    def made(count: int) -> AxisMap:
        return of_slice(9, count, step, (20,) * 3)

    assert tokenize(made(3)) == tokenize(made(3))
    assert tokenize(made(3)) != tokenize(made(4))
    assert tokenize(made(3)) != tokenize(made(3).with_chunks((1, 2)))
    assert tokenize(identity(60, (60,))) != tokenize(identity(60, (30, 30)))
    many = of_indices(np.arange(0, 600, 7), (600,))
    assert tokenize(many) == tokenize(of_indices(np.arange(0, 600, 7), (600,)))
    assert tokenize(many) != tokenize(of_indices(np.arange(1, 601, 7), (601,)))
