"""What arrays are before they are computed: names, tokens, pickles."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import cloudpickle
import numpy as np
import pytest

from zcluster.array.axes import identity, of_slice
from zcluster.array.core import from_numpy
from zcluster.array.expressions import (
    Blockwise,
    Concatenate,
    Data,
    Dims,
    Emitted,
    Expr,
    Gather,
    Generated,
    Held,
    Literal,
    PartOf,
    Reduction,
)
from zcluster.array.tiles import Fold

NAN = float("nan")


def zeros(starts: Any, shape: Any) -> Any:
    return np.zeros(shape)


def source(*chunks: Any, **kwargs: Any) -> Generated:
    return Generated("x", zeros, chunks, "f8", **kwargs)


def elementwise(*inputs: Expr, function: Any = np.add, **kwargs: Any) -> Blockwise:
    first = inputs[0]
    axes = [tuple(range(one.ndim)) for one in inputs]
    numbers = kwargs.pop("arguments", tuple(range(len(inputs))))
    return Blockwise("f", function, inputs, numbers, axes, first.chunks, "f8", **kwargs)


X = source((3, 2), (4,))
FOLD = Fold(np.add, (0,))


class Several(Emitted):
    def token(self) -> Any:
        return ()

    def with_inputs(self, inputs: Any) -> Expr:
        return Several("several", inputs, self.chunks, self.dtype)


def reduction(of: Expr = X, **kwargs: Any) -> Reduction:
    return Reduction("sum", of, (0,), FOLD, FOLD, FOLD, kwargs.pop("dtype", "f8"), **kwargs)


MAPS = [of_slice(0, 3, 1, (3, 2)), identity(4, (4,))]

#: Pairs that are not the same.
DIFFERENT: list[tuple[Expr, Expr]] = [
    (X, source((3, 2), (3,))),
    (X, Generated("x", zeros, X.chunks, "f4")),
    (X, Generated("y", zeros, X.chunks, "f8")),
    (Gather(X, MAPS), Gather(X, MAPS, 1)),
    (Gather(X, MAPS), Gather(X, [of_slice(1, 3, 1, (3, 2)), MAPS[1]])),
    (Concatenate([X, X], 0), Concatenate([X, X], 1)),
    (Concatenate([X, X], 0), Concatenate([X], 0)),
    (Dims(X, (1, 0)), Dims(X, (0, 1))),
    (elementwise(X, X), elementwise(X)),
    (elementwise(X, X), elementwise(X, X, function=np.subtract)),
    (elementwise(X, arguments=(0, Literal(1))), elementwise(X, arguments=(0, Literal(2)))),
    (elementwise(X, arguments=(0, Literal(1))), elementwise(X, arguments=(Literal(1), 0))),
    (elementwise(X, kwargs={"out": 1}), elementwise(X)),
    (reduction(), reduction(keepdims=True)),
    (reduction(), reduction(split_every=2)),
    (reduction(), reduction(dtype="f4")),
    (PartOf(X, 0, "p", X.chunks, "f8"), PartOf(X, 1, "p", X.chunks, "f8")),
    (from_numpy(np.arange(3)).expr, from_numpy(np.arange(1, 4)).expr),
]


class TestNames:
    """They say all that decides about the values."""

    @pytest.mark.parametrize("pair", DIFFERENT)
    def test_others(self, pair: tuple[Expr, Expr]) -> None:
        """Another operation has another name."""
        left, right = pair
        assert left.name != right.name
        assert left.name.startswith(left.label + "-")

    def test_the_same(self) -> None:
        """The same operation has the same, on the same inputs."""
        again = source((3, 2), (4,))
        assert elementwise(again, X).name == elementwise(X, again).name
        assert Gather(again, list(MAPS)).name == Gather(X, MAPS).name
        assert reduction(again).name == reduction().name

    def test_numbers_and_literals(self) -> None:
        """The first input, and the number that it has, are different arguments."""
        first = elementwise(X, arguments=(0, Literal(0)))
        assert first.name != elementwise(X, X).name
        assert repr(Literal(3)) == "Literal(3)"

    def test_chosen(self) -> None:
        """A name that its maker chose, and what is made of it."""
        one, other = source((3,)), source((3,))
        one.rename("mine")
        assert one.name == "mine"
        assert repr(one) == "<Generated mine>"
        assert elementwise(one).name != elementwise(other).name

    def test_another_one(self) -> None:
        """The same expression under two names; neither knows of the other."""
        one = elementwise(X)
        before = one.name
        other = one.under("mine")
        assert (one.name, other.name) == (before, "mine")
        assert (other.inputs, other.chunks, other.options) == (one.inputs, X.chunks, one.options)
        assert elementwise(other).name != elementwise(one).name

    def test_an_identity_stands_for_the_rest(self) -> None:
        """Functions without a token of their own."""
        one = elementwise(X, function=lambda x: x, identity="f")
        assert one.name == elementwise(X, function=lambda x: x + 1, identity="f").name
        assert one.on([X], X.chunks).name == one.name


class TestShapes:
    """What is known without computing."""

    def test_known(self) -> None:
        """Shapes, blocks and how many they are."""
        assert (X.shape, X.ndim, X.numblocks, X.count) == ((5, 4), 2, (2, 1), 2)
        assert source().shape == ()
        assert source().count == 1

    def test_unknown(self) -> None:
        """A length is nan if one of its chunks is."""
        (length,) = source((NAN, NAN)).shape
        assert length != length
        assert source((NAN,)).numblocks == (1,)

    def test_of_operations(self) -> None:
        """What they make of their inputs' chunks."""
        assert Concatenate([X, source((1,), (4,))], 0).chunks == ((3, 2, 1), (4,))
        assert Dims(X, (None, 1, 0)).chunks == ((1,), (4,), (3, 2))
        assert Dims(source((1,), (2, 2)), (1,)).chunks == ((2, 2),)
        assert reduction().chunks == ((4,),)
        assert reduction(keepdims=True).chunks == ((1,), (4,))
        assert reduction(keepdims=True, lengths=[3]).chunks == ((3,), (4,))


ALL: list[Expr] = [
    X,
    Data(np.arange(3), ("token",)),
    Gather(X, MAPS, 1),
    Concatenate([X, X], 0),
    Dims(X, (1, 0)),
    elementwise(X, X, is_elementwise=True, reads_only=False, extra=(("k", "index"),)),
    reduction(keepdims=True, takes_offsets=True, lengths=[1]),
    Several("several", [X], X.chunks, "f8"),
    PartOf(Several("several", [X], X.chunks, "f8"), 1, "part", X.chunks, "f8"),
    Held("held-1", np.array([[1], [2]], object), X.chunks, "f8"),
]


class TestCopies:
    """Expressions made again."""

    @pytest.mark.parametrize("one", ALL, ids=lambda one: type(one).__name__)
    @pytest.mark.parametrize("module", [pickle, cloudpickle])
    def test_pickled(self, one: Expr, module: Any) -> None:
        """Of every kind, with all that they know."""
        again = module.loads(module.dumps(one))
        assert type(again) is type(one)
        assert again.name == one.name
        assert (again.chunks, again.dtype) == (one.chunks, one.dtype)
        assert again.__dict__.keys() == one.__dict__.keys()
        assert copy.copy(one).name == one.name

    def test_what_is_shared_stays_shared(self) -> None:
        """An input that two take is one object again."""
        y = elementwise(X)
        again = pickle.loads(pickle.dumps(elementwise(y, y)))
        assert again.inputs[0] is again.inputs[1]
        assert again.inputs[0].inputs[0].name == X.name

    @pytest.mark.parametrize("one", [one for one in ALL if one.inputs], ids=repr)
    def test_on_other_inputs(self, one: Expr) -> None:
        """The same operation, and the same name on the same inputs."""
        again = one.with_inputs(one.inputs)
        assert again is not one
        assert again.name == one.name
        other = one.with_inputs([source((3, 2), (4,), is_cheap=True)] * len(one.inputs))
        assert other.name == one.name or isinstance(one, PartOf)
        assert other.chunks == one.chunks

    def test_what_subclasses_say(self) -> None:
        """The base class knows no operation."""
        with pytest.raises(NotImplementedError):
            Expr("x", [], (), "f8").with_inputs([])
        with pytest.raises(NotImplementedError):
            Emitted("x", [], (), "f8").emit(None)  # type: ignore[arg-type]
