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
from zcluster.array.axes import FILL, AxisMap, identity, of_slice
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
from zcluster.array.simplify import simplified
from zcluster.array.slicing import getitem
from zcluster.array.tiles import Fold
from zcluster.graph.layers import Options

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

    def test_very_deep(self) -> None:
        """A slice of a very long chain stops on its way, and is right."""
        made = X
        for _ in range(500):
            made = made + 1
        one = simple(getitem(made, slice(2)))
        found = kinds(one)
        assert found.count("Gather") == 1
        assert found.count("Blockwise") == 500


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
