"""Expressions rewritten: the same values, and less to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster
import zcluster.array as da
from zcluster.array.axes import FILL, AxisMap, compose, identity, of_slice
from zcluster.array.core import Array, elementwise, from_numpy, permuted, rechunked
from zcluster.array.expressions import (
    Blockwise,
    Data,
    Dims,
    Expr,
    Gather,
    Generated,
    Reduction,
)
from zcluster.array.fusion import topological
from zcluster.array.simplify import named_as, simplified
from zcluster.array.slicing import getitem
from zcluster.array.tiles import Fold
from zcluster.graph.layers import Options
from zcluster.threaded import get

Arrays = Callable[..., st.SearchStrategy[Any]]


def simple(array: Array, *others: Array) -> Expr:
    return simplified([one.expr for one in (array, *others)])[0]


def kinds(one: Expr) -> list[str]:
    """Return the kinds from an expression down to its first source."""
    found = [type(one).__name__]
    while one.inputs:
        one = one.inputs[0]
        found.append(type(one).__name__)
    return found


def source(*lengths: tuple[Any, ...]) -> Array:
    return Array(Generated("x", np.zeros, lengths, "f8"))


def summed(array: Array, axes: tuple[int, ...], **kwargs: Any) -> Array:
    fold = Fold(np.add, axes)
    last = partial(np.sum, axis=axes, keepdims=kwargs.get("keepdims", False))
    return Array(Reduction("sum", array.expr, axes, fold, fold, last, "f8", **kwargs))


X = source((4, 4), (3, 3))


class TestGathers:
    """Slices, rechunks and the like after each other."""

    def test_one_of_many(self) -> None:
        """They read the source once."""
        made = getitem(rechunked(getitem(X, (slice(1, None), slice(None, None, -1))), 2), slice(2))
        one = simple(made)
        assert kinds(one) == ["Gather", "Generated"]
        assert one.chunks == made.chunks

    def test_what_changes_nothing_goes(self) -> None:
        """A rechunk there and back."""
        assert simple(rechunked(rechunked(X, 5), ((4, 4), (3, 3)))) is X.expr
        assert simple(getitem(X, (slice(None), slice(0, 6)))) is X.expr

    @pytest.mark.parametrize(("fill", "is_one"), [(7, True), (8, False)])
    def test_constants(self, fill: int, is_one: bool) -> None:
        """Two that fill with different values stay two."""

        def padded(one: Expr, value: int) -> Gather:
            length = one.shape[0]
            made = AxisMap(
                np.array([FILL, 0]), np.array([1, length]), np.array([0, 1]), (length + 1,)
            )
            return Gather(one, [made], value)

        data = from_numpy(np.arange(3)).expr
        outer = padded(padded(data, 7), fill)
        (one,) = simplified([outer])
        assert kinds(one) == (["Gather", "Data"] if is_one else ["Gather", "Gather", "Data"])
        assert Array(outer).compute(scheduler="sync").tolist() == [fill, 7, 0, 1, 2]

    def test_unknown_lengths(self) -> None:
        """What is known of an axis is not lost by what is not."""
        nan = float("nan")
        unknown = source((nan, nan), (3, 3))
        turned = getitem(rechunked(unknown, {1: 2}), (slice(None), slice(1, 3)))
        assert kinds(simple(turned)) == ["Gather", "Generated"]


class TestSlices:
    """They move towards the source."""

    def test_below_elements(self) -> None:
        """Of a chain, with what is broadcast."""
        y = from_numpy(np.arange(6.0), 3)
        one = simple(getitem(elementwise(np.sin, X * 2) + y, (slice(2, 4), slice(0, 2))))
        assert kinds(one) == ["Blockwise", "Blockwise", "Blockwise", "Gather", "Generated"]
        assert one.inputs[0].inputs[0].chunks == ((2,), (2,))
        assert kinds(one.inputs[1]) == ["Gather", "Data"]

    def test_below_broadcasting(self) -> None:
        """An axis of length 1 stays as it is."""
        y = from_numpy(np.ones((1, 6)), (1, 3))
        one = simple(getitem(X + y, slice(6, None)))
        assert one.inputs[0].shape == (2, 6)
        assert one.inputs[1].shape == (1, 6)

    def test_below_axes(self) -> None:
        """Of axes in another order the right ones."""
        one = simple(getitem(permuted(X, (1, None, 0)), (slice(0, 3), 0, slice(5))))
        assert kinds(one) == ["Dims", "Gather", "Generated"]
        assert one.inputs[0].shape == (5, 3)

    def test_not_below_new_axes(self) -> None:
        """A new axis that is repeated is there, below is nothing to repeat."""
        turned = permuted(X, (None, 0, 1))
        twice = AxisMap(np.array([0]), np.array([2]), np.array([0]), (2,))
        maps = [twice, *[identity(n, own) for n, own in zip(X.shape, X.chunks, strict=True)]]
        one = simple(Array(Gather(turned.expr, maps)))
        assert kinds(one) == ["Gather", "Dims", "Generated"]

    def test_below_sums(self) -> None:
        """Of other axes; not of those that are summed, which may be kept."""
        one = simple(getitem(summed(X, (0,)), slice(3)))
        assert kinds(one) == ["Reduction", "Gather", "Generated"]
        assert one.inputs[0].shape == (8, 3)
        kept = summed(X, (0,), keepdims=True)
        assert kinds(simple(getitem(kept, (slice(None), slice(3)))))[0] == "Reduction"
        assert kinds(simple(getitem(kept, slice(0))))[0] == "Gather"
        where = summed(X, (0,), takes_offsets=True)
        assert kinds(simple(getitem(where, slice(3))))[0] == "Gather"

    def test_not_below_what_others_take(self) -> None:
        """It would be made twice."""
        y = X + 1
        assert kinds(simple(getitem(y, slice(2)), y))[0] == "Gather"
        assert kinds(simple(getitem(y, slice(2)) * getitem(y, slice(2, 4))))[:2] == [
            "Blockwise",
            "Gather",
        ]

    def test_only_slices(self) -> None:
        """Repeats and margins would have the same elements made several times."""
        listed = getitem(X + 1, [3, 3, 0])
        assert kinds(simple(listed))[0] == "Gather"
        assert kinds(simple(rechunked(X + 1, 2)))[0] == "Gather"

    def test_not_below_functions_of_blocks(self) -> None:
        """Which may look at all of a block, or at its place."""
        whole = [(0, 1)]
        for extra, is_elementwise in (((), False), ((("index", "index"),), True)):
            made = Blockwise(
                "f",
                np.sort,
                [X.expr],
                (0,),
                whole,
                X.chunks,
                "f8",
                extra=extra,
                is_elementwise=is_elementwise,
            )
            assert kinds(simple(getitem(Array(made), slice(2))))[0] == "Gather"

    def test_not_below_what_others_take_of_the_same(self) -> None:
        """Neither through a slice, nor through other axes that somebody else takes as well."""
        y = X + 1
        for shared in (getitem(y, slice(1, None)), permuted(y, (1, 0))):
            first, second = simplified([getitem(shared, slice(2)).expr, shared.expr])
            made = {one.name for one in topological([first, second]) if one.label == "add"}
            assert len(made) == 1
            first, second = [getitem(shared, slice(k, k + 1)).expr for k in (0, 1)]
            found = topological(simplified([first, second]))
            assert [one.label for one in found].count("add") == 1

    def test_empty(self) -> None:
        """Nothing of nothing moves as well."""
        one = simple(getitem(getitem(X + 1, slice(0, 0)) * 2, slice(3, 0)))
        assert kinds(one) == ["Blockwise", "Blockwise", "Gather", "Generated"]
        made = getitem(getitem(from_numpy(np.arange(6.0), 2) + 1, slice(4, 4)) * 2, slice(3, 0))
        assert made.compute(scheduler="sync").shape == (0,)

    def test_of_what_takes_nothing(self) -> None:
        """There is nothing below that a slice could be taken of."""
        ones = Blockwise("ones", np.ones, [], (), [], ((4, 4),), "f8", is_elementwise=True)
        for made in (Array(ones), Array(ones) + 1):
            assert kinds(simple(getitem(made, slice(1, 6))))[-2:] == ["Gather", "Blockwise"]

    def test_one_waits_for_a_slice_below(self) -> None:
        """A rechunk stays where it is, and does not keep the slice that it takes there."""
        one = simple(rechunked(getitem(X + 1, slice(1, 7)), 6))
        assert kinds(one) == ["Gather", "Blockwise", "Gather", "Generated"]
        assert one.inputs[0].chunks == ((3, 3), (3, 3))


def alternating(array: Any, count: int) -> Any:
    """Return an array, here or of NumPy, after many steps, of which every second is a slice."""
    for _ in range(count):
        array = (array + 1)[1:]
    return array


def mixed(array: Any, count: int) -> Any:
    """Return an array, here or of NumPy, after steps of every kind."""
    for number in range(count):
        if number % 5 == 0:
            array = -array
        elif number % 5 == 1:
            array = array.T
        elif number % 5 == 2 and isinstance(array, Array):
            array = rechunked(array, 3 + number % 2)
        elif number % 5 == 3:
            array = array[:, ::-1]
        elif number % 5 == 4:
            array = array + np.arange(float(array.shape[1]))
    return array


class TestLongChains:
    """Of thousands, which cost by their number."""

    def test_all_slices_reach_the_source(self) -> None:
        """Of every second step, each below all others."""
        made = alternating(source((2_000,) * 4), 2_000)
        found = kinds(simple(made))
        assert found == ["Blockwise"] * 2_000 + ["Gather", "Generated"]

    @pytest.mark.parametrize("steps", [alternating, mixed])
    def test_each_step_costs_the_same(self, steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever is above it."""
        calls: list[int] = []
        first = source((5_000, 5_000)) if steps is alternating else X

        def counted(outer: AxisMap, inner: AxisMap) -> AxisMap:
            calls.append(1)
            return compose(outer, inner)

        monkeypatch.setattr("zcluster.array.simplify.compose", counted)
        counts = []
        for count in (500, 1_000):
            calls.clear()
            simple(steps(first, count))
            counts.append(len(calls))
        assert counts[0] > 100
        assert counts[1] <= 2 * counts[0] + 5

    @pytest.mark.parametrize(
        ("steps", "values", "chunks"),
        [
            (alternating, np.arange(10_000.0), 2_500),
            (mixed, np.arange(42.0).reshape(6, 7) / 7, (4, 5)),
        ],
    )
    def test_the_values(self, steps: Any, values: Any, chunks: Any) -> None:
        """NumPy's, to the last bit."""
        found = steps(from_numpy(values, chunks), 2_000).compute(scheduler="sync")
        np.testing.assert_array_equal(found, steps(values, 2_000))

    def test_no_limit_is_hit(self) -> None:
        """Not by five thousand steps."""
        one = simple(alternating(source((3_000, 3_000)), 5_000))
        assert one.shape == (1_000,)
        assert kinds(one).count("Gather") == 1
        one = simple(mixed(X, 5_000))
        assert one.shape == (8, 6)


class TestAxes:
    """Axes in another order."""

    def test_twice(self) -> None:
        """Is once; and there and back is nothing."""
        one = simple(permuted(permuted(X, (1, 0)), (None, 0, 1)))
        assert isinstance(one, Dims)
        assert one.axes == (None, 1, 0)
        assert one.inputs[0] is X.expr
        assert simple(permuted(permuted(X, (1, 0)), (1, 0))) is X.expr


class TestOptions:
    """How tasks are to be run stays with the operation that said so."""

    def test_options(self) -> None:
        """However it is rewritten, and whatever holds when it is."""
        with zcluster.annotate(priority=5):
            y = X + 1
        with zcluster.annotate(priority=3):
            turned = permuted(getitem(y, slice(2)), (1, 0))
        with zcluster.annotate(priority=9):
            one = simple(rechunked(getitem(turned * 2, slice(3)), 1) + 1)
        options = []
        stack: Sequence[Expr] = [one]
        while stack:
            options += [(type(one).__name__, one.options.priority) for one in stack]
            stack = [below for one in stack for below in one.inputs]
        assert ("Blockwise", 5) in options
        assert ("Dims", 3) in options
        assert X.expr.options == Options()
        assert dict(options)["Gather"] in (0, 9)


class TestKeys:
    """They are named as the user's arrays, whatever was done below."""

    @pytest.mark.parametrize(
        "step",
        [
            lambda x: getitem(x + 1, slice(1, 7)),
            lambda x: getitem(getitem(x, slice(1, None)), slice(1, None)),
            lambda x: permuted(permuted(x, (1, 0)), (1, 0)),
            lambda x: permuted(permuted(x, (1, 0)), (None, 0, 1)),
            lambda x: getitem(da.sum(x, axis=0), slice(1, 6)),
            lambda x: getitem(x, [7, 0, 3] * 40),
            lambda x: rechunked(rechunked(x + 1, 5), 2),
        ],
    )
    def test_of_one(self, step: Callable[[Array], Array]) -> None:
        """All its blocks are there under its name, and hold its values."""
        x = from_numpy(np.arange(48.0).reshape(8, 6), (4, 3))
        y = step(x)
        graph = y.dask
        assert graph is not None
        keys = [(y.name, *index) for index in np.ndindex(*y.numblocks)]
        blocks = np.empty(y.numblocks, object)
        for key, block in zip(keys, get(graph, keys), strict=True):
            blocks[key[1:]] = block
        np.testing.assert_array_equal(np.block(blocks.tolist()), y.compute(scheduler="sync"))

    def test_of_several(self) -> None:
        """What is taken by another one has one name, and is made once."""
        x, y = X.expr, X + 1
        z = getitem(y, slice(1, None))
        part, again, double = getitem(z, slice(1, None)), getitem(y, slice(2, None)), z * 2
        outputs = [one.expr for one in (part, again, double, z)]
        made = named_as(simplified(outputs), outputs)
        assert [one.name for one in made[1:]] == [again.name, double.name, z.name]
        assert made[0] is made[1]
        outputs = [x, permuted(permuted(X, (1, 0)), (1, 0)).expr]
        assert named_as(simplified(outputs), outputs) == [x, x]

    def test_nothing_given_is_renamed(self) -> None:
        """An array that stands for another one keeps its own name."""
        turned = permuted(permuted(X, (1, 0)), (1, 0)).expr
        before = X.name
        (one,) = named_as(simplified([turned]), [turned])
        assert (one.name, X.name, one.chunks) == (turned.name, before, X.chunks)


def _next(data: st.DataObject, made: list[tuple[Array, Any]]) -> tuple[Array, Any]:
    """Draw an operation on some of the arrays; return its result, here and of NumPy."""
    x, v = data.draw(st.sampled_from(made))
    kind = data.draw(st.sampled_from(["slice", "list", "chunks", "turn", "plus", "sum", "roll"]))
    if kind == "plus":
        others = [(y, w) for y, w in made if w.shape == v.shape]
        y, w = data.draw(st.sampled_from(others))
        return x + y, v + w
    if kind == "turn":
        axes = data.draw(st.permutations(range(v.ndim)))
        if v.ndim > 2 or data.draw(st.booleans()):
            return permuted(x, axes), np.transpose(v, axes)
        return permuted(x, (None, *axes)), np.transpose(v, axes)[None]
    if v.ndim == 0:
        return elementwise(np.negative, x), -v
    if kind == "slice":
        ends = st.none() | st.integers(-8, 8)
        steps = st.sampled_from([None, 1, 2, -1, -3])
        index = tuple(slice(data.draw(ends), data.draw(ends), data.draw(steps)) for _ in v.shape)
        return getitem(x, index), v[index]
    if kind == "list" and v.shape[0]:
        places = data.draw(st.lists(st.integers(0, v.shape[0] - 1), max_size=6))
        return getitem(x, places), v[np.array(places, np.int64)]
    if kind == "chunks":
        return rechunked(x, data.draw(st.integers(1, 8))), v
    if kind == "sum":
        axis, keepdims = data.draw(st.integers(0, v.ndim - 1)), data.draw(st.booleans())
        return da.sum(x, axis=axis, keepdims=keepdims), v.sum(axis=axis, keepdims=keepdims)
    shift = data.draw(st.integers(-5, 5))
    return da.roll(x, shift, 0), np.roll(v, shift, 0)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_operations(data: st.DataObject, arrays: Arrays) -> None:
    """They give NumPy's values under the arrays' own names, and nothing is made twice."""
    values, chunks = data.draw(arrays(("i8",), ndim=(1, 2)))
    made: list[tuple[Array, Any]] = [(from_numpy(values, chunks), values)]
    for _ in range(data.draw(st.integers(1, 12))):
        made.append(_next(data, made))
    wanted = data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=3)) + made[-1:]
    exprs = [one.expr for one, _ in wanted]
    fresh = simplified(exprs)
    assert [one.chunks for one in fresh] == [one.chunks for one in exprs]
    assert _elements(fresh) <= _elements(exprs)
    for found, (_, expected) in zip(
        zcluster.compute(*[one for one, _ in wanted], scheduler="sync"), wanted, strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def _elements(outputs: Sequence[Expr]) -> int:
    """Return how many elements functions make."""
    return sum(
        int(np.prod(one.shape)) for one in topological(outputs) if isinstance(one, Blockwise)
    )


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_names_say_what_is_computed(data: st.DataObject, arrays: Arrays) -> None:
    """What is the same is the same object; nothing that was given is changed."""
    values, chunks = data.draw(arrays(("f8",), ndim=(1, 2)))
    x = from_numpy(values, chunks)
    y = getitem(elementwise(np.negative, getitem(x, slice(None, None, 2))) * 2, slice(1, None))
    before = (y.name, y.expr.inputs)
    first, second, third = simplified([y.expr, y.expr, x.expr])
    assert first is second
    assert (y.name, y.expr.inputs) == before
    assert isinstance(third, Data | Gather)


def test_slices_of_slices_have_the_natural_chunks() -> None:
    """Each step says what its blocks are, and the rule keeps to it."""
    x = source((3,) * 4)
    made = getitem(getitem(x, slice(1, 11)), slice(None, None, 4))
    one = simple(made)
    assert one.chunks == made.chunks == ((1, 1, 1),)
    assert isinstance(one, Gather)
    expected = of_slice(1, 3, 4, (3,) * 4)
    assert one.maps[0].starts.tolist() == expected.starts.tolist()
