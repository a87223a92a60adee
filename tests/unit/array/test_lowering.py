"""Expressions of every kind, put together at random, against NumPy; and what the graph costs."""

from __future__ import annotations

import operator
import pickle
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster
from zcluster.array.axes import FILL, AxisMap
from zcluster.array.chunks import Chunks
from zcluster.array.core import Array, elementwise, from_numpy, permuted, rechunked
from zcluster.array.expressions import (
    Blockwise,
    Concatenate,
    Emitted,
    Expr,
    Gather,
    Generated,
    Held,
    PartOf,
    Reduction,
)
from zcluster.array.lowering import Codes, Edges, Joined, Lowering, lower_arrays
from zcluster.array.rows import Rows
from zcluster.array.slicing import getitem
from zcluster.array.tiles import Fold
from zcluster.collection.base import lower
from zcluster.graph.layers import Graph, LargeArgument, Options
from zcluster.graph.mapping import GraphView
from zcluster.local.gets import get_with
from zcluster.local.runners import LocalRunner
from zcluster.protocol.blobs import Parts
from zcluster.protocol.held import passing_objects
from zcluster.protocol.messages import Slot

Values = npt.NDArray[Any]
Pair = tuple[Values, Array]
Arrays = Callable[..., st.SearchStrategy[tuple[Values, Chunks]]]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]

DTYPES = ("?", "i4", "i8", "f4", "f8", "c16")  # in which little overflows


def ramp(starts: tuple[int, ...], shape: tuple[int, ...]) -> Values:
    """Say of each place where it is."""
    made = np.zeros(shape)
    for axis, (start, length) in enumerate(zip(starts, shape, strict=True)):
        along = [1] * len(shape)
        along[axis] = length
        made += np.arange(start, start + length).reshape(along) * (axis + 1.0)
    return made


def generated(chunks: Chunks, is_cheap: bool = False) -> Pair:
    shape = tuple(map(sum, chunks))
    made = Generated("ramp", ramp, chunks, "f8", is_cheap=is_cheap)
    return ramp((0,) * len(shape), shape), Array(made)


class Total:
    """The last step of a sum: the partial sums along the first of the reduced axes."""

    def __init__(self, axes: tuple[int, ...], keepdims: bool) -> None:
        self.axes = axes
        self.keepdims = keepdims

    def __call__(self, partials: Values) -> Values:
        return np.asarray(np.sum(partials, axis=self.axes, keepdims=self.keepdims))


def total(
    array: Array, axes: tuple[int, ...], keepdims: bool = False, split_every: int = 8
) -> Array:
    fold = Fold(np.add, axes)
    dtype = np.sum(np.ones(1, array.dtype)).dtype
    return Array(
        Reduction(
            "sum_agg-aggregate",
            array.expr,
            axes,
            fold,
            fold,
            Total(axes, keepdims),
            dtype,
            keepdims=keepdims,
            split_every=split_every,
        )
    )


# At random ----------------------------------------------------------------------------------------


class Builder:
    """Draws operations on what there is already; each adds a NumPy array and an array of ours."""

    def __init__(self, data: st.DataObject, arrays: Arrays, chunked: Chunked) -> None:
        self.data = data
        self.chunked = chunked
        self.pool: list[Pair] = []
        for _ in range(2):
            value, chunks = data.draw(arrays(DTYPES, nan=False))
            self.pool.append((value, from_numpy(value, chunks)))
            own = tuple(data.draw(chunked(length)) for length in value.shape)
            self.pool.append(generated(own, data.draw(st.booleans())))

    def draw(self, *choices: Any) -> Any:
        return self.data.draw(st.sampled_from(choices))

    def step(self) -> None:
        steps = (
            self.scaled,
            self.added,
            self.permuted,
            self.rechunked,
            self.sliced,
            self.summed,
            self.concatenated,
            self.gathered,
            self.spoiled,
        )
        self.pool.append(self.draw(*steps)(*self.draw(*self.pool)))

    def scaled(self, x: Values, a: Array) -> Pair:
        return np.asarray(np.conjugate(x) * 2), elementwise(np.conjugate, a) * 2

    def added(self, x: Values, a: Array) -> Pair:
        y, b = self.draw(*self.pool)
        try:
            return np.asarray(x + y), a + b
        except ValueError:  # NumPy does not broadcast these either
            with pytest.raises(ValueError, match="broadcast"):
                a + b
            return np.asarray(x + x), a + a

    def permuted(self, x: Values, a: Array) -> Pair:
        axes = self.data.draw(st.permutations(range(x.ndim)))
        return x.transpose(axes), permuted(a, axes)

    def rechunked(self, x: Values, a: Array) -> Pair:
        return x, rechunked(a, tuple(self.data.draw(self.chunked(n)) for n in x.shape))

    def sliced(self, x: Values, a: Array) -> Pair:
        index: list[Any] = [self.index(length) for length in x.shape]
        lists = [axis for axis, one in enumerate(index) if isinstance(one, list)]
        for axis in range(len(index)):  # one list, and then no integers: NumPy has other rules
            if lists and axis != lists[0] and not isinstance(index[axis], slice):
                index[axis] = slice(None)
        if self.data.draw(st.booleans()):
            index.insert(self.data.draw(st.integers(0, len(index))), None)
        return np.asarray(x[tuple(index)]), getitem(a, tuple(index))

    def index(self, length: int) -> Any:
        kind = self.draw("slice", "slice", "all", "integer", "list")
        if kind == "integer" and length:
            return self.data.draw(st.integers(-length, length - 1))
        if kind == "list" and length:
            return self.data.draw(st.lists(st.integers(0, length - 1), max_size=5))
        if kind == "all":
            return slice(None)
        bound = st.one_of(st.none(), st.integers(-length - 1, length + 1))
        return slice(self.data.draw(bound), self.data.draw(bound), self.draw(None, 2, -1, -3))

    def summed(self, x: Values, a: Array) -> Pair:
        if not x.ndim:
            return x, a
        axes = tuple(sorted(self.data.draw(st.sets(st.integers(0, x.ndim - 1), min_size=1))))
        keepdims = self.data.draw(st.booleans())
        made = total(a, axes, keepdims, self.draw(2, 3, 8))
        return np.asarray(np.sum(x, axis=axes, keepdims=keepdims)), made

    def concatenated(self, x: Values, a: Array) -> Pair:
        if not x.ndim:
            return x, a
        axis = self.data.draw(st.integers(0, x.ndim - 1))
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        fit = [
            (y, b)
            for y, b in self.pool
            if y.ndim == x.ndim
            and y.shape[:axis] + y.shape[axis + 1 :] == shape
            and y.dtype == x.dtype
        ]
        y, b = self.draw((x, a), *fit)
        b = rechunked(b, tuple(b.chunks[n] if n == axis else a.chunks[n] for n in range(x.ndim)))
        return np.concatenate([x, y], axis), Array(Concatenate([a.expr, b.expr], axis))

    def gathered(self, x: Values, a: Array) -> Pair:
        """Runs of places in any order, forward, backward and repeated, and constants between."""
        fill = self.draw(0, 1)
        maps, made = [], x
        for axis, length in enumerate(x.shape):
            places = self.data.draw(st.lists(st.integers(FILL, length - 1), max_size=2 * length))
            segments = [(place, self.draw(1, 3), 0) for place in places]
            if length and self.data.draw(st.booleans()):
                segments += [(0, length, 1), (length - 1, length, -1)]
            starts, counts, steps = np.array(segments, np.int64).reshape(-1, 3).T
            chunks = self.data.draw(self.chunked(int(counts.sum())))
            maps.append(AxisMap(starts, counts, steps, chunks))
            index = [s + k * d for s, n, d in segments for k in range(n)]
            padded = np.concatenate(
                [made, np.full_like(made[:0], fill, shape=one(made, axis))], axis
            )
            made = padded.take(index, axis)
        return made, Array(Gather(a.expr, maps, fill))

    def spoiled(self, x: Values, a: Array) -> Pair:
        """A function that writes into its input, which others take as well."""
        whole = tuple(range(x.ndim))
        made = Blockwise(
            "spoil", spoil, [a.expr], (0,), [whole], a.chunks, a.dtype, reads_only=False
        )
        return ~x if x.dtype == bool else -x, Array(made)


def one(x: Values, axis: int) -> tuple[int, ...]:
    """Return the shape of one more along an axis."""
    return (*x.shape[:axis], 1, *x.shape[axis + 1 :])


def spoil(block: Values) -> Values:
    function = np.logical_not if block.dtype == bool else np.negative
    # What NumPy makes without dimensions is no array.
    return np.asarray(function(block, out=block if block.flags.writeable else None))


class TestAtRandom:
    """Programs of a few operations, several of whose arrays are computed together."""

    @given(data=st.data())
    @settings(max_examples=100, deadline=None)
    def test_values(self, data: st.DataObject, arrays: Arrays, chunked: Chunked) -> None:
        """They are NumPy's, here, in threads, and by the graph that users see."""
        builder = Builder(data, arrays, chunked)
        for _ in range(data.draw(st.integers(1, 8))):
            builder.step()
        chosen = [builder.pool[-1], builder.draw(*builder.pool)]
        made = [array for _, array in chosen]
        with np.errstate(all="ignore"):
            how = builder.draw("sync", "threads", "view")
            found = through_view(made) if how == "view" else zcluster.compute(*made, scheduler=how)
        for (expected, array), value in zip(chosen, found, strict=True):
            assert array.shape == expected.shape
            assert array.dtype == expected.dtype
            assert np.asarray(value).dtype == expected.dtype
            assert np.shape(value) == expected.shape
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


def through_view(arrays: list[Array]) -> list[Any]:
    """Compute arrays from their graph in bytes, as a mapping of hand-written tasks."""
    graph, rebuild = lower(arrays)
    outputs = [task for first, count in graph.outputs for task in range(first, first + count)]
    values = get_with(LocalRunner(), GraphView(graph), [graph.key(task) for task in outputs])
    return list(rebuild(values))


# What it costs ------------------------------------------------------------------------------------


def layers(*arrays: Array) -> dict[str, int]:
    """Return how many tasks each layer of a graph has, by what its name begins with."""
    graph, _ = lower_arrays([array.expr for array in arrays])
    counts: Counter[str] = Counter()
    for layer in graph.layers:
        counts[layer.name.rpartition("-")[0] or layer.name] += layer.count
    return dict(counts)


class Calls:
    """A function of blocks that counts its calls."""

    def __init__(self) -> None:
        self.made: list[None] = []

    @property
    def count(self) -> int:
        return len(self.made)

    def __call__(self, block: Values) -> Values:
        self.made.append(None)
        return block + 1

    def __zcluster_tokenize__(self) -> str:
        return "calls"  # however many there were


class TestTasks:
    """How many tasks there are."""

    def test_a_sum_of_a_chain(self) -> None:
        """One for each block, and the tree."""
        x = generated(((10,) * 64,))[1]
        assert layers(total((x + 1) * 2, (0,))) == {
            "sum_chunk": 64,
            "sum_combine-0": 8,
            "sum_agg-aggregate": 1,
        }

    def test_a_sum_of_one_block(self) -> None:
        """It is one task."""
        assert layers(total((generated(((10,),))[1] + 1) * 2, (0,))) == {"sum_agg-aggregate": 1}

    def test_a_slice_makes_the_blocks_it_needs(self) -> None:
        """Of ten thousand blocks one runs."""
        calls = Calls()
        x = Array(Generated("ramp", ramp, ((100,) * 100,) * 2, "f8", is_cheap=True))
        sliced = getitem(elementwise(calls, x, dtype="f8"), (slice(1, 100), slice(1, 100)))
        graph, _ = lower_arrays([sliced.expr])
        assert graph.count == 1
        assert sliced.compute(scheduler="sync").shape == (99, 99)
        assert calls.count == 1

    def test_rechunks_after_each_other_are_one(self) -> None:
        """Blocks are made once, from the first chunks."""
        x = generated(((10,) * 6,))[1] + 1
        twice = rechunked(rechunked(rechunked(x, 7), 30), 20)
        assert layers(twice) == {"add": 6, "rechunk": 3}
        assert layers(rechunked(rechunked(x, 7), 10)) == {"rechunk": 6}  # named as what is wanted

    def test_a_slice_of_generated_blocks_makes_parts(self) -> None:
        """Nothing is made that is not taken; where others take the block, it is made once."""
        x = generated(((1000,) * 10,))[1]
        sliced = getitem(x, slice(10, 20)) + 1
        assert layers(sliced) == {"add": 1}
        assert layers(sliced, x + 1) == {"ramp": 10, "add": 11}

    def test_transposes_cost_nothing(self) -> None:
        """Before, between and after."""
        x = generated(((5, 5), (3, 3)))[1]
        turned = permuted(permuted(permuted(x, (1, 0)) + 1, (1, 0)) * 2, (1, None, 0))
        assert list(layers(turned).values()) == [4]

    def test_concatenating_is_free(self) -> None:
        """Blocks of several arrays after each other are no tasks of their own."""
        x, y = generated(((5, 5),))[1] + 1, generated(((4,),))[1] * 2
        both = Array(Concatenate([x.expr, y.expr], 0))
        assert layers(both) == {"add": 2, "multiply": 1}

    def test_what_is_shared_is_made_once(self) -> None:
        """However many take it, also under other objects of the same name."""
        calls = Calls()
        x = elementwise(calls, generated(((5,) * 4,))[1], dtype="f8", name="shared")
        y = elementwise(calls, generated(((5,) * 4,))[1], dtype="f8", name="shared")
        left, right = total(x + 1, (0,)), total(y * 2, (0,))
        assert left.compute(scheduler="sync") == np.sum(np.arange(20) + 2)
        assert calls.count == 4
        both = zcluster.compute(left, right, x + y, rechunked(x, 7), scheduler="sync")
        assert both[1] == np.sum(np.arange(20) + 1) * 2
        assert calls.count == 8

    def test_diamonds(self) -> None:
        """Two hundred doublings are one task a block."""
        x = y = generated(((2, 2),))[1]
        for _ in range(200):
            y = y + y
        assert layers(y) == {"add": 2}
        np.testing.assert_array_equal(y.compute(scheduler="sync"), np.arange(4) * 2.0**200)
        assert layers(y, x) == {"ramp": 2, "add": 2}


# Deep, and odd ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain() -> Array:
    """Return five thousand additions."""
    made = from_numpy(np.arange(6.0), 2)
    for _ in range(5_000):
        made = made + 1
    return made


class TestDeep:
    """Chains of any length."""

    def test_computed(self, chain: Array) -> None:
        """One task a block."""
        np.testing.assert_array_equal(chain.compute(scheduler="sync"), np.arange(5_000, 5_006))
        np.testing.assert_array_equal(
            getitem(chain, slice(1, None, 3)).compute(scheduler="sync"), [5_001, 5_004]
        )

    def test_in_bytes(self, chain: Array) -> None:
        """The graph of a chain can be sent."""
        np.testing.assert_array_equal(through_view([chain])[0], np.arange(5_000, 5_006))

    def test_pickled(self, chain: Array) -> None:
        """So can the array."""
        again = pickle.loads(pickle.dumps(chain))
        assert again.name == chain.name
        assert again.expr is not chain.expr
        np.testing.assert_array_equal(again.compute(scheduler="sync"), np.arange(5_000, 5_006))

    def test_slices_of_slices(self) -> None:
        """They are one slice."""
        made = from_numpy(np.arange(1_100), 100)
        for _ in range(1_000):
            made = getitem(made, slice(1, None))
        assert layers(made) == {"array": 1, "getitem": 1}
        np.testing.assert_array_equal(made.compute(scheduler="sync"), np.arange(1_000, 1_100))

    def test_sums_of_sums(self) -> None:
        """Reductions in a row, each added to what it was taken of."""
        x, made = np.ones((4, 3)), from_numpy(np.ones((4, 3)), 2)
        for _ in range(100):
            x, made = x + x.sum(axis=0) / 8, made + total(made, (0,)) / 8
        np.testing.assert_allclose(made.compute(scheduler="sync"), x)


class TestEdges:
    """What layers take that families write."""

    class Pairs(Emitted):
        """Two arrays: the halves of each block, and their sums."""

        def __init__(self, source: Expr) -> None:
            halves = tuple(length // 2 for length in source.chunks[0])
            super().__init__("pairs", [source], (halves,), source.dtype)

        def with_inputs(self, inputs: Any) -> Expr:
            return type(self)(inputs[0])

        def emit(self, lowering: Lowering) -> tuple[Codes, Codes]:
            codes = lowering.codes(self.inputs[0])
            made = lowering.add(f"{self.name}-halves", halves, codes.reshape(-1, 1))
            firsts = Edges(Rows.fixed(made.reshape(-1, 1)), [Slot(1)], np.zeros(len(made), int))
            seconds = Edges(Rows.fixed(made.reshape(-1, 1)), [Slot(1)], np.ones(len(made), int))
            return (
                lowering.add(f"{self.name}-0", np.positive, firsts),
                lowering.add(f"{self.name}-1", partial(np.multiply, 10), seconds),
            )

    @pytest.mark.parametrize("which", [0, 1, None])
    def test_several_arrays_of_one_operation(self, which: int | None) -> None:
        """Each stands for itself; what nobody wants is not made."""
        x = from_numpy(np.arange(12.0), 4) + 0
        pairs = self.Pairs(x.expr)
        parts = [Array(PartOf(pairs, n, "part", pairs.chunks, x.dtype)) for n in (0, 1)]
        blocks = np.arange(12.0).reshape(3, 2, 2)
        expected = [blocks[:, 0].ravel(), blocks[:, 1].ravel() * 10]
        chosen = [0, 1] if which is None else [which]
        graph, _ = lower_arrays([parts[n].expr for n in chosen])
        assert graph.count == 1 + 3 + 3 + 3 * len(chosen)
        for how in ("sync", "threads"):
            found = zcluster.compute(*[parts[n] for n in chosen], scheduler=how)
            for value, n in zip(found, chosen, strict=True):
                np.testing.assert_array_equal(value, expected[n])
        for value, n in zip(through_view([parts[n] for n in chosen]), chosen, strict=True):
            np.testing.assert_array_equal(value, expected[n])

    def test_boxes_and_rows(self) -> None:
        """A layer that takes boxes, with a constant for each task."""

        class Boxes(Emitted):
            def with_inputs(self, inputs: Any) -> Expr:
                return Boxes("boxes", inputs, self.chunks, self.dtype)

            def emit(self, lowering: Lowering) -> Codes:
                codes = lowering.codes(self.inputs[0])
                boxes = np.array([[[[1, 3, 1]]], [[[0, 4, 3]]]])
                edges = Edges.boxed(Rows.fixed(codes.reshape(-1, 1)), Rows.fixed(boxes), 0.5)
                rows = Rows.fixed(np.array([[5], [7]]))
                return lowering.add(self.name, plus_row, edges, constants=rows)

        x = generated(((4, 4),))[1] + 0
        made = Array(Boxes("boxes", [x.expr], ((2, 2),), "f8"))
        expected = [1 + 5, 2 + 5, 4 + 7, 7 + 7]
        assert made.compute(scheduler="sync").tolist() == expected
        assert through_view([made])[0].tolist() == expected
        assert (made + 1).compute(scheduler="threads").tolist() == [n + 1 for n in expected]

    def test_layers_without_inputs(self) -> None:
        """They say how many tasks they have, by count or by shape."""
        lowering = Lowering([])
        assert lowering.add("a", zero, count=3).tolist() == [0, 1, 2]
        assert lowering.add("b", zero, shape=(2, 2)).tolist() == [3, 4, 5, 6]
        assert lowering.graph.key(6) == ("b", 1, 1)


def halves(block: Values) -> Parts:
    return Parts(np.split(block, 2))


def plus_row(row: Any, block: Values) -> Values:
    return block + memoryview(row).cast("q")[0]


def zero() -> int:
    return 0


class TestValues:
    """What is here already."""

    def test_large_data_is_put_into_a_store_first(self) -> None:
        """In a graph that is sent; a small array goes along with it, as every block's source."""
        large, small = np.zeros(100_000), np.zeros(10)
        for value, imports in ((large, 1), (small, 0)):
            graph, _ = lower([from_numpy(value, -1) + 1, from_numpy(value, len(value) // 2) * 2])
            assert len(graph.imports) == imports
            assert all(type(one) is LargeArgument for one in graph.imports)
        with passing_objects(True):
            graph, _ = lower([from_numpy(large, 50_000)])
            assert graph.imports == []
            assert any(layer.objects == [large] for layer in graph.layers if layer.count == 1)

    def test_held_blocks(self) -> None:
        """Blocks that were made before, also alone and several times."""
        blocks = np.empty(2, object)
        blocks[0], blocks[1] = np.arange(3), np.arange(3, 5)
        held = Array(Held("kept-1", blocks, ((3, 2),), "i8"))
        assert held.name == "kept-1"
        assert held.compute(scheduler="sync").tolist() == [0, 1, 2, 3, 4]
        assert (held + held[:1]).compute(scheduler="sync").tolist() == [0, 1, 2, 3, 4]

    def test_options_of_an_operation_are_those_of_its_tasks(self) -> None:
        """What was annotated when the array was made."""
        with zcluster.annotate(priority=3, retries=2):
            x = generated(((2, 2),))[1] + 1
        made = total(x, (0,))
        graph, _ = lower_arrays([made.expr, x.expr])
        options = {layer.name.partition("-")[0]: layer.options for layer in graph.layers}
        assert options["add"] == Options(priority=3, retries=2)
        assert options["sum_agg"] == Options()


class TestJoined:
    """What came of several blocks, put together."""

    def test_arrays_and_tuples(self) -> None:
        """Along an axis; tuples one by one; one thing alone as it is."""
        one, other = np.ones((2, 1)), np.zeros((2, 1))
        assert Joined(np.shape, 1)(one, other) == (2, 2)
        assert Joined(operator.itemgetter(1), 0)((one, one), (other, other)).shape == (4, 1)
        assert Joined(id, 0)(one) == id(one)
        assert Joined(Total((0,), False), 0).__name__ == "combine"


def test_orders_and_outputs() -> None:
    """The graph of two arrays has their blocks as outputs, each once, and a rank for every task."""
    x = generated(((2, 2, 2),))[1] + 1
    graph, _ = lower([x, x, x * 2])
    assert isinstance(graph, Graph)
    assert sum(count for _, count in graph.outputs) == 6
    ranks: list[int] = []
    for layer in graph.layers:
        ranks += list(range(layer.first, layer.first + layer.count))
        if layer.orders is not None:
            ranks[-layer.count :] = [int(n) for n in layer.orders]
    assert sorted(ranks) == list(range(graph.count))


def spoiled(array: Array, *others: Array) -> Array:
    """Write into the blocks of an array; return them with those of others added."""
    inputs = [one.expr for one in (array, *others)]
    whole = tuple(range(array.ndim))
    made = Blockwise(
        "spoil",
        spoil_and_add,
        inputs,
        tuple(range(len(inputs))),
        [whole] * len(inputs),
        array.chunks,
        array.dtype,
        reads_only=False,
    )
    return Array(made)


def spoil_and_add(block: Values, *others: Values) -> Values:
    added = sum(others, np.zeros_like(block))
    return np.asarray(spoil(block) + added)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "transposed": lambda x: permuted(x, (1, 0)) if isinstance(x, Array) else x.T,
    "sliced": lambda x: getitem(x, slice(1, None)) if isinstance(x, Array) else x[1:],
    "same": lambda x: elementwise(np.asarray, x) if isinstance(x, Array) else x,
}


class TestWriters:
    """Functions that write into what they are given harm nobody."""

    @pytest.mark.parametrize("how", ["sync", "threads"])
    @pytest.mark.parametrize("view", VIEWS)
    def test_views(self, how: str, view: str) -> None:
        """Neither data that is here, nor blocks that were kept, nor what other tasks take."""
        values = np.arange(12.0).reshape(3, 4)
        data = values.copy()
        here = from_numpy(data, (3, 2))
        for x in (here, here + 0, (here + 0).persist(scheduler=how)):
            t, expected = VIEWS[view](x), VIEWS[view](values)
            first, kept, second, again, alone = zcluster.compute(
                spoiled(t + 0), t * 1, spoiled(t), x * 2, spoiled(x), scheduler=how
            )
            np.testing.assert_array_equal(first, -expected)
            np.testing.assert_array_equal(kept, expected)
            np.testing.assert_array_equal(second, -expected)
            np.testing.assert_array_equal(again, values * 2)
            np.testing.assert_array_equal(alone, -values)
            np.testing.assert_array_equal(x.compute(scheduler=how), values)
        np.testing.assert_array_equal(data, values)

    @pytest.mark.parametrize("view", ["transposed", "same"])
    def test_within_a_task(self, view: str) -> None:
        """What another step sees is copied first; nothing else is."""
        values = np.arange(9.0).reshape(3, 3)
        x = from_numpy(values, -1) + 0
        t = VIEWS[view](x)
        both = t + spoiled(t, x) + spoiled(x, x)
        assert sum(layers(both).values()) == (2 if view == "same" else 3)
        seen = VIEWS[view](values)
        found = both.compute(scheduler="sync")
        np.testing.assert_array_equal(found, seen + (-seen + values) + (-values + values))

    def test_the_last_taker_has_the_object(self) -> None:
        """Where nobody else sees it, nothing is copied."""
        seen: list[tuple[int, bool]] = []

        def look(block: Values) -> Values:
            seen.append((block.__array_interface__["data"][0], block.flags.owndata))
            return block

        x = elementwise(look, generated(((4, 4),))[1] + 0, dtype="f8")
        y = Array(Blockwise("look", look, [x.expr], (0,), [(0,)], x.chunks, "f8", reads_only=False))
        total(y, (0,)).compute(scheduler="sync")
        assert sorted(seen[::2]) == sorted(seen[1::2])
