"""`einsum` against NumPy's: any expression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.core import from_numpy
from zcluster.array.linalg.einsums import einsum

FAST = settings(max_examples=40, deadline=None)
Near = Callable[..., None]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]

EXPRESSIONS = [
    "abc,bad",
    "ab,bc->ac",
    "ab,bc,cd->ad",
    "ii->i",
    "ii",
    "iij->j",
    "ij->ji",
    "ij,ij->",
    "ij,ij->i",
    "ij,jk",
    "i,j->ij",
    "ab...,b...->a...",
    "...i,...i->...",
    "...ij,jk->...ik",
    "bij,bjk->bik",
    "ab,ab->ab",
    "abc->",
    "ab,cd->ad",
    "iab,iac,ibc->i",
    "aa,ab->b",
    "a,a,a->a",
    ",ab->ba",
]


@pytest.mark.proves("array.einsum")
@pytest.mark.parametrize("optimize", [False, True, "greedy"])
@given(data=st.data())
@FAST
def test_expressions(data: st.DataObject, optimize: Any, chunked: Chunked, near: Near) -> None:
    expression = data.draw(st.sampled_from(EXPRESSIONS))
    lengths: dict[str, int] = {}
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    values, lazy = [], []
    for term in expression.partition("->")[0].split(","):
        letters = term.replace("...", "XY")
        shape = [lengths.setdefault(one, data.draw(st.integers(0, 4))) for one in letters]
        made = rng.integers(-3, 4, shape).astype(data.draw(st.sampled_from(["i2", "f8", "c16"])))
        values.append(made)
        lazy.append(from_numpy(made, tuple(data.draw(chunked(n)) for n in made.shape)))
    near(
        einsum(expression, *lazy, optimize=optimize),
        np.einsum(expression, *values, optimize=optimize),
    )


def test_labels_as_lists(near: Near) -> None:
    a: Any = np.arange(6.0).reshape(2, 3)
    b: Any = np.arange(12.0).reshape(3, 4)
    x, y = from_numpy(a, 2), from_numpy(b, 2)
    near(einsum(x, [7, 1], y, [1, 3], [3, 7]), np.einsum(a, [7, 1], b, [1, 3], [3, 7]))
    near(einsum(x, [7, 1], y, [1, 3]), np.einsum(a, [7, 1], b, [1, 3]))
    near(einsum(x, [..., 1], y[:, 0], [1]), np.einsum(a, [..., 1], b[:, 0], [1]))


def test_lengths_of_one_are_broadcast(near: Near) -> None:
    a, b = np.arange(3.0).reshape(3, 1), np.arange(12.0).reshape(3, 4)
    x, y = from_numpy(a, (2, 1)), from_numpy(b, 2)
    for expression in ("ij,ij->i", "ij,ij->ij", "ij,kj->ik", "ij,ij->"):
        near(einsum(expression, x, y), np.einsum(expression, a, b))


def test_the_type_to_calculate_with(near: Near) -> None:
    a = np.full((4, 4), 100, "i1")
    x = from_numpy(a, 2)
    near(einsum("ij->", x), np.einsum("ij->", a))  # NumPy's sum overflows as well
    near(einsum("ij->", x, dtype="i8"), np.einsum("ij->", a, dtype="i8"))
    with pytest.raises(TypeError, match="according to the rule"):
        einsum("ij->", from_numpy(a + 0.5, 2), dtype="i8")


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("ij", "1 subscripts for 2 operands"),
        ("ij,jk->ix", "expected labels of operands"),
        ("ij,jk->ii", "each once"),
        ("ijk,jk", "operand 0 has 2 dimensions"),
        ("i,jk", "operand 0 has 2 dimensions"),
        ("i......,jk", "operand 0"),
        ("i1,jk", "found '1'"),
        ("i...,jk->ik", "expected it there as well"),
    ],
)
def test_what_does_not_fit_is_said_at_the_call(expression: str, text: str) -> None:
    x = from_numpy(np.ones((2, 2)), 1)
    with pytest.raises(ValueError, match=text):
        einsum(expression, x, x)


def test_lengths_that_differ_are_refused() -> None:
    x = from_numpy(np.ones((2, 3)), 1)
    with pytest.raises(ValueError, match="add up"):
        einsum("ij,jk", x, x)
    with pytest.raises(NotImplementedError, match="use the array"):
        einsum("ij", x, out=x)  # type: ignore[arg-type]
