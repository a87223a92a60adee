"""Which expressions become one task a block."""

from __future__ import annotations

from typing import Any

import numpy as np

from zcluster.array.core import Array, permuted
from zcluster.array.expressions import Blockwise, Expr, Generated, Reduction
from zcluster.array.fusion import fused, place_in, topological
from zcluster.array.slicing import getitem
from zcluster.array.tiles import Fold


def source(label: str, *lengths: tuple[int, ...]) -> Array:
    return Array(Generated(label, np.zeros, lengths, "f8"))


X = source("x", (4, 4), (3, 3))


def groups(*arrays: Array) -> dict[str, list[str]]:
    """Return the labels of the members of each group, by label of the root."""
    found = fused([one.expr for one in arrays])
    return {group.root.label: [one.label for one in group.members] for group in found.values()}


def contracted(array: Array) -> Array:
    """Return a function of all blocks along the last axis, of which there is one."""
    axes: list[tuple[int, ...]] = [(0, -1)]
    made = Blockwise("rows", np.sum, [array.expr], (0,), axes, array.chunks[:1], "f8")
    return Array(made)


def test_expressions_are_ordered_inputs_first() -> None:
    """Each once, also where a name has two objects."""
    twice = X + 1, Array(Generated("x", np.zeros, X.chunks, "f8")) * 2
    order = [one.label for one in topological([(twice[0] + twice[1]).expr])]
    assert order == ["x", "add", "multiply", "add"]


class TestGroups:
    """Members of a task."""

    def test_a_chain(self) -> None:
        """All of it, with what is generated."""
        assert groups((X + 1) * 2) == {"multiply": ["x", "add", "multiply"]}

    def test_what_two_take(self) -> None:
        """It is in their group if that is one, else a group of its own."""
        y = X + 1
        assert groups(y * 2 - y) == {"subtract": ["x", "add", "multiply", "subtract"]}
        assert groups(y * 2, y - 2) == {
            "multiply": ["multiply"],
            "subtract": ["subtract"],
            "add": ["x", "add"],
        }

    def test_what_is_wanted(self) -> None:
        """It is a root, also within a chain."""
        y = X + 1
        assert groups(y * 2, y) == {"multiply": ["multiply"], "add": ["x", "add"]}

    def test_axes_in_another_order(self) -> None:
        """They go along, unless the same blocks are needed at two places."""
        assert list(groups(permuted(X + 1, (1, 0)) * 2)) == ["multiply"]
        square = source("x", (4, 4), (4, 4)) + 1
        assert set(groups(square + permuted(square, (1, 0)))) == {"add"}
        assert len(groups(square * permuted(square, (1, 0)))) == 2

    def test_broadcasting(self) -> None:
        """A row that goes along with all rows of blocks is needed by several."""
        row = source("row", (3, 3)) + 1
        assert groups(X * row)["multiply"] == ["x", "row", "add", "multiply"]

    def test_gathers(self) -> None:
        """They are read by who takes them; what they are made of is outside."""
        assert groups(getitem(X + 1, slice(1, 3)) * 2) == {
            "multiply": ["getitem", "multiply"],
            "add": ["x", "add"],
        }

    def test_reductions(self) -> None:
        """They are roots, and what comes of blocks at first goes along."""
        y = (X + 1) * 2
        fold = Fold(np.add, (0,))
        made: Expr = Reduction("sum", y.expr, (0,), fold, fold, fold, "f8")
        found = groups(Array(made) + 1)
        assert found == {"add": ["add"], "sum": ["x", "add", "multiply", "sum"]}

    def test_an_axis_of_one_chunk(self) -> None:
        """All blocks take it."""
        y = source("x", (4, 4), (3,)) + 1
        assert groups(contracted(y)) == {"rows": ["x", "add", "rows"]}
        found = fused([contracted(y).expr])
        (group,) = found.values()
        assert group.grid == (2,)
        assert group.places[y.name] == (0, -1)


def test_places() -> None:
    """Of broadcast, of turned and of dropped axes."""
    row = source("row", (3, 3)) + 1
    made: Any = permuted(X * row, (1, None, 0)).expr
    (group,) = fused([made]).values()
    times = made.inputs[0]
    assert group.places[times.name] == (2, 0)
    assert place_in(group, times, 1) == (0,)
    y = X + 1
    outer = getitem(y, slice(1, 2)).expr
    (group, _) = fused([outer]).values()
    assert place_in(group, outer, 0) is None
