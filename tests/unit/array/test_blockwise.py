"""Functions of blocks that users give."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster
from zcluster.array.blockwise import blockwise, map_blocks
from zcluster.array.core import Array, from_numpy, permuted, rechunked
from zcluster.array.lowering import lower_arrays
from zcluster.errors import InvalidArgument

FAST = settings(max_examples=40, deadline=None)
Values = npt.NDArray[Any]
Arrays = Callable[..., st.SearchStrategy[Any]]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]
Agrees = Callable[..., None]

ALL = ("?", "i1", "u8", "i8", "f4", "f8", "c16", "m8[s]", "M8[D]")
VALUES = np.arange(24.0).reshape(4, 6)


@pytest.fixture
def x() -> Array:
    return from_numpy(VALUES, (2, 3))


class TestMapBlocks:
    """A function of each block."""

    @given(data=st.data())
    @FAST
    def test_any_array(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Of all dtypes and shapes, empty blocks among them; the function sees each block."""
        values, chunks = data.draw(arrays(ALL))
        made = map_blocks(
            lambda block: block[..., ::-1] if block.ndim else block, from_numpy(values, chunks)
        )
        points: list[int] = np.cumsum([0, *chunks[-1]]).tolist() if chunks else []
        expected = values.copy()
        for start, stop in pairwise(points):
            expected[..., start:stop] = values[..., start:stop][..., ::-1]
        assert made.chunks == chunks
        agrees(made, expected)

    @given(data=st.data())
    @FAST
    def test_several(self, data: st.DataObject, chunked: Chunked) -> None:
        """They are broadcast block by block; numbers and texts are passed on."""
        shape = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)))
        shapes = [shape, shape[1:], (shape[0], 1), ()]
        pool = [np.arange(np.prod(own, dtype=int), dtype=float).reshape(own) for own in shapes]
        chosen = data.draw(st.lists(st.sampled_from(range(4)), min_size=1, max_size=3))
        lazy = [
            from_numpy(pool[n], tuple(data.draw(chunked(k)) for k in shapes[n])) for n in chosen
        ]

        def added(factor: float, *blocks: Values, text: str) -> Any:
            assert text == "text"
            return sum(blocks, np.zeros(())) * factor

        made = map_blocks(added, 2.0, *lazy, text="text", dtype="f8")
        expected = sum((pool[n] for n in chosen), np.zeros(())) * 2.0
        np.testing.assert_array_equal(made.compute(scheduler="sync"), expected)

    def test_names(self, x: Array) -> None:
        """One that is given, what it begins with, and the function's own."""
        assert map_blocks(np.sin, x, name="mine").name == "mine"
        assert map_blocks(np.sin, x, token="mine").name.startswith("mine-")
        assert map_blocks(np.sin, x).name.startswith("sin-")
        assert map_blocks(np.sin, x).name == map_blocks(np.sin, x).name
        assert map_blocks(np.sin, x).name != map_blocks(np.cos, x).name

    def test_dtypes(self, x: Array) -> None:
        """What is said, what meta says, or what the function gives for empty arrays."""
        assert map_blocks(lambda b: b > 3, x).dtype == bool
        assert map_blocks(lambda b: b, x, dtype="f4").dtype == "f4"
        assert map_blocks(lambda b: b, x, meta=np.empty((0, 0), "c8")).dtype == "c8"
        assert map_blocks(lambda b: b - b.max(), x).dtype == "f8"  # empty arrays have no maximum
        with pytest.raises(InvalidArgument, match="KeyError: 'no'; say it with dtype="):
            map_blocks(lambda b: {"a": b}["no"], x)
        with pytest.raises(TypeError, match="takes a function first"):
            map_blocks(x, np.sin)  # type: ignore[arg-type]

    def test_axes(self, x: Array, agrees: Agrees) -> None:
        """Taken away, and put in; what is taken away is seen whole."""
        agrees(map_blocks(lambda b: b.sum(1), x, drop_axis=1), VALUES.sum(1))
        agrees(map_blocks(lambda b: b.sum(0), x, drop_axis=[-2]), VALUES.sum(0))
        total = map_blocks(lambda b: b.sum(), x, drop_axis=(0, 1))
        assert total.compute(scheduler="sync") == VALUES.sum()
        agrees(map_blocks(lambda b: b[None], x, new_axis=0), VALUES[None])
        agrees(map_blocks(lambda b: b[:, :, None], x, new_axis=-1), VALUES[:, :, None])
        both = map_blocks(lambda b: b.sum(0)[None, :, None], x, drop_axis=0, new_axis=[0, 2])
        agrees(both, VALUES.sum(0)[None, :, None])
        wide = map_blocks(lambda b: np.stack([b, b], 2), x, new_axis=2, chunks=(2, 3, 2))
        agrees(wide, np.stack([VALUES, VALUES], 2))

    def test_chunks(self, x: Array, agrees: Agrees) -> None:
        """Of the result, by block or one by one."""
        agrees(map_blocks(lambda b: b[:1], x, chunks=(1, 3)), VALUES[::2])
        agrees(map_blocks(lambda b: b[:1], x, chunks=((1, 1), None)), VALUES[::2])
        agrees(map_blocks(lambda b: b[:1, :1], x, chunks=1), VALUES[::2, ::3])
        assert map_blocks(lambda b: b, x, chunks=((2, 2), (3, 3))).chunks == x.chunks

    def test_without_arrays(self, agrees: Agrees) -> None:
        """Blocks that are made of their place alone."""

        def place(block_info: Any = None) -> Values:
            location = block_info[None]["array-location"]
            return np.arange(*location[0])

        agrees(map_blocks(place, chunks=((4, 3),), dtype="i8"), np.arange(7))
        with pytest.raises(InvalidArgument, match="give chunks= and dtype="):
            map_blocks(place, dtype="i8")

    @pytest.mark.parametrize(
        ("kwargs", "says"),
        [
            ({"drop_axis": 2}, "expected axes of 2 dimensions"),
            ({"chunks": (1, 2, 3)}, "speaks of 3 axes; the result has 2"),
            ({"chunks": ((1, 1, 1), 3)}, "names 3 chunks along an axis of 2 blocks"),
        ],
    )
    def test_refused(self, x: Array, kwargs: Any, says: str) -> None:
        """What makes no sense is said at the call."""
        with pytest.raises(InvalidArgument, match=says):
            map_blocks(np.sin, x, **kwargs)

    def test_promises(self, x: Array) -> None:
        """A block of another shape than promised is named."""
        with pytest.raises(
            InvalidArgument,
            match=r"lambda returned an array of shape \(3,\) for block \(0, 0\); promised was",
        ):
            map_blocks(lambda b: b[0], x, token="first").compute(scheduler="sync")

        def first(block: Values, block_id: Any = None) -> Values:
            return block if block_id != (1, 0) else block[:1]

        with pytest.raises(InvalidArgument, match=r"for block \(1, 0\); promised was \(2, 3\)"):
            map_blocks(first, x).compute(scheduler="threads")

    def test_unknown_lengths(self, x: Array) -> None:
        """They promise nothing, and can be found out."""
        nan = float("nan")
        made = map_blocks(lambda b: b[b.sum(1) > 40], x, chunks=((nan, nan), (3, 3)), dtype="f8")
        assert str(made.shape) == "(nan, 6)"
        row = map_blocks(lambda b: b[:1], rechunked(x, (2, 6)), chunks=((nan, nan), (6,)))
        np.testing.assert_array_equal(row.compute(scheduler="sync"), VALUES[::2])
        again = map_blocks(lambda b: b * 2, row)
        np.testing.assert_array_equal(again.compute(scheduler="sync"), VALUES[::2] * 2)

    def test_one_task_a_block(self, x: Array) -> None:
        """With what is around it."""
        made = map_blocks(lambda b: b + 1, map_blocks(lambda b: b * 2, x - 1) * 3) + 1
        graph, _ = lower_arrays([made.expr])
        assert graph.count == 4 + 1
        np.testing.assert_array_equal(made.compute(scheduler="sync"), (VALUES - 1) * 6 + 2)

    @pytest.mark.parametrize("how", ["sync", "threads"])
    def test_in_place(self, x: Array, how: str) -> None:
        """What a function does to its block is nobody else's affair."""

        def spoil(block: Values) -> Values:
            block *= -1
            return block

        values = VALUES.copy()
        here = from_numpy(values, (2, 3))
        kept = (here + 1).persist(scheduler=how)
        found = zcluster.compute(
            map_blocks(spoil, here),
            map_blocks(spoil, kept),
            map_blocks(spoil, permuted(here, (1, 0))),
            here + 1,
            kept,
            scheduler=how,
        )
        expected = (-VALUES, -(VALUES + 1), -VALUES.T, VALUES + 1, VALUES + 1)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(values, VALUES)


class TestInfo:
    """What a function is told of its block."""

    def test_place(self, x: Array) -> None:
        """Its place in the grid of the result."""
        made = map_blocks(lambda b, block_id=None: b * 0 + block_id[0] * 10 + block_id[1], x)
        expected = np.kron([[0, 1], [10, 11]], np.ones((2, 3)))
        np.testing.assert_array_equal(made.compute(scheduler="sync"), expected)

    def test_of_partials(self, x: Array) -> None:
        """A partial is asked like its function."""

        def add(number: int, block: Values, block_id: Any = None) -> Values:
            return np.full_like(block, number + block_id[1])

        made = map_blocks(partial(add, 5), x)
        assert made.compute(scheduler="sync")[0].tolist() == [5] * 3 + [6] * 3

    def test_everything(self) -> None:
        """For each array and for the result, as Dask documents it."""
        seen: dict[Any, Any] = {}

        def look(a: Values, factor: int, b: Values, block_info: Any = None) -> Values:
            seen[block_info[None]["chunk-location"]] = block_info
            return a + b

        a = from_numpy(np.zeros((5, 4)), ((2, 3), (4,)))
        b = from_numpy(np.zeros((5, 4)), ((2, 3), (2, 2)))
        made = map_blocks(look, a, 7, b)
        seen.clear()
        made.compute(scheduler="sync")
        assert set(seen) == {(0, 0), (0, 1), (1, 0), (1, 1)}
        place = {
            "shape": (5, 4),
            "num-chunks": (2, 2),
            "array-location": [(2, 5), (2, 4)],
            "chunk-location": (1, 1),
        }
        result = place | {"chunk-shape": (3, 2), "dtype": np.dtype("f8")}
        assert seen[1, 1] == {0: place, 2: place, None: result}

    def test_while_the_dtype_is_found_out(self, x: Array) -> None:
        """It is told of the first block."""
        told: list[Any] = []

        def look(block: Values, block_info: Any = None, block_id: Any = None) -> Values:
            told.append((block_id, block_info[0]["chunk-location"]))
            return block

        map_blocks(look, x)
        assert told == [((0, 0), (0, 0))]

    def test_of_broadcast_and_new_axes(self, x: Array) -> None:
        """Each array's own place."""
        row = from_numpy(np.arange(6.0), 3)

        def look(a: Values, b: Values, block_info: Any = None) -> Values:
            return np.full_like((a + b)[None], block_info[1]["array-location"][0][0])

        made = map_blocks(look, x, row, new_axis=0)
        assert made.compute(scheduler="sync")[0, 0].tolist() == [0] * 3 + [3] * 3


class TestBlockwise:
    """Blocks that go along axes as letters say."""

    def test_aligned(self, x: Array, agrees: Agrees) -> None:
        """One block of each."""
        agrees(blockwise(np.add, "ij", x, "ij", x, "ij"), VALUES * 2)
        agrees(blockwise(np.transpose, "ji", x, "ij"), VALUES.T)
        agrees(blockwise(np.add, "ij", x, "ij", 5, None, dtype="f8"), VALUES + 5)
        outer = blockwise(np.multiply.outer, "ij", x[:, 0], "i", x[0], "j")
        agrees(outer, np.multiply.outer(VALUES[:, 0], VALUES[0]))

    def test_contracted(self, x: Array, agrees: Agrees) -> None:
        """All blocks along an index that the result has not: in lists, or as one array."""

        def product(rows: list[Values], columns: list[Values]) -> Any:
            assert isinstance(rows, list)
            return sum(row @ column for row, column in zip(rows, columns, strict=True))

        turned = permuted(x, (1, 0))
        agrees(blockwise(product, "ik", x, "ij", turned, "jk", dtype="f8"), VALUES @ VALUES.T)
        joined = blockwise(np.dot, "ik", x, "ij", turned, "jk", dtype="f8", concatenate=True)
        agrees(joined, VALUES @ VALUES.T)
        total = blockwise(np.sum, "", x, "ij", dtype="f8", concatenate=True)
        assert total.compute(scheduler="sync") == VALUES.sum()

        def nested(blocks: list[list[Values]]) -> Any:
            return np.block(blocks).sum()

        assert blockwise(nested, "", x, "ij", dtype="f8").compute(scheduler="sync") == 276.0

    @given(data=st.data())
    @FAST
    def test_any_contraction(self, data: st.DataObject, chunked: Chunked) -> None:
        """An einsum of three indices, whichever are summed, in whatever order they stand."""
        lengths = {letter: data.draw(st.integers(1, 5)) for letter in "ijk"}
        operands = []
        for _ in range(data.draw(st.integers(1, 3))):
            own = "".join(data.draw(st.permutations("ijk"))[: data.draw(st.integers(1, 3))])
            shape = tuple(lengths[letter] for letter in own)
            values = np.arange(np.prod(shape)).reshape(shape) % 7
            operands.append((own, values, tuple(data.draw(chunked(n)) for n in shape)))
        present = sorted(set("".join(own for own, _, _ in operands)))
        out = "".join(data.draw(st.permutations(present))[: data.draw(st.integers(0, 3))])
        text = ",".join(own for own, _, _ in operands) + "->" + out
        pairs: list[Any] = []
        for own, values, chunks in operands:
            pairs += [from_numpy(values, chunks), own]

        def einsum(*blocks: Values) -> Values:
            return np.asarray(np.einsum(text, *blocks))

        made = blockwise(einsum, out, *pairs, dtype="i8", concatenate=True)
        expected = np.einsum(text, *[values for _, values, _ in operands])
        np.testing.assert_array_equal(made.compute(scheduler="sync"), expected)

    def test_new_axes_and_other_chunks(self, x: Array, agrees: Agrees) -> None:
        """Lengths that are said, numbers, functions of what they were, or one by one."""
        made = blockwise(lambda b: b[:, :, None], "ijz", x, "ij", new_axes={"z": 1}, dtype="f8")
        agrees(made, VALUES[:, :, None])
        for change in (lambda n: n // 2, 1, (1, 1)):
            made = blockwise(lambda b: b[:1], "ij", x, "ij", adjust_chunks={"i": change})
            agrees(made, VALUES[::2])
        several = blockwise(
            lambda b: b[:, None], "iz", x[:, 0], "i", new_axes={"z": (1, 1)}, dtype="f8"
        )
        agrees(several, np.stack([VALUES[:, 0]] * 2, 1))

    def test_not_aligned(self, x: Array) -> None:
        """Chunks that differ are made alike, unless that is not wanted."""
        other = rechunked(x, (4, 2))
        made = blockwise(np.add, "ij", x, "ij", other, "ij")
        assert made.chunks == ((2, 2), (2, 1, 1, 2))
        kept = blockwise(
            lambda a, b: a, "ij", x, "ij", x[::2], "ij", dtype="f8", align_arrays=False
        )
        assert kept.chunks == x.chunks
        np.testing.assert_array_equal(kept.compute(scheduler="sync"), VALUES)

    def test_promises(self, x: Array) -> None:
        """What a block should have been is said when the array is put together."""
        made = blockwise(lambda b: b[:1], "ij", x, "ij", dtype="f8")
        with pytest.raises(InvalidArgument, match=r"block \(0, 0\) came with shape \(1, 3\)"):
            made.compute(scheduler="sync")

    def test_names(self, x: Array) -> None:
        """As of `map_blocks`."""
        assert blockwise(np.sin, "ij", x, "ij", name="mine").name == "mine"
        assert blockwise(np.sin, "ij", x, "ij", token="mine").name.startswith("mine-")
        one = blockwise(np.sum, "i", x, "ij", dtype="f8")
        assert one.name == blockwise(np.sum, "i", x, "ij", dtype="f8").name
        assert one.name != blockwise(np.sum, "i", x, "ij", dtype="f8", concatenate=True).name

    @pytest.mark.parametrize(
        ("args", "kwargs", "says"),
        [
            (("ij", VALUES, "i"), {}, "for an array of 2 dimensions"),
            (("ik", VALUES, "ij"), {}, "index 'k' of the result is in no array"),
            (("ij", VALUES, "ij"), {"adjust_chunks": {"i": (1, 2, 3)}}, "which has 1 chunks"),
        ],
    )
    def test_refused(self, args: Any, kwargs: Any, says: str) -> None:
        """At the call."""
        with pytest.raises(InvalidArgument, match=says):
            blockwise(np.sin, *args, **kwargs)
