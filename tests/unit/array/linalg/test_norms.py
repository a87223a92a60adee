"""Norms of every order, against NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.core import from_numpy
from zcluster.array.linalg.norms import cond, matrix_norm, norm, vector_norm

Near = Callable[..., None]
Matrix = Callable[..., Any]
Arrays = Callable[..., st.SearchStrategy[Any]]

ORDERS: list[Any] = [None, 0, 1, -1, 2, -2, 3, 0.5, -3.5, np.inf, -np.inf, "fro", "nuc"]


@pytest.mark.proves("array.linalg.norm")
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_norm(data: st.DataObject, arrays: Arrays, near: Near) -> None:
    """Any order along any axes; what NumPy refuses is refused."""
    dtypes = ("?", "i8", "f4", "f8", "c8", "c16")
    a, chunks = data.draw(arrays(dtypes=dtypes, ndim=(1, 3), length=(1, 5), nan=False))
    order = data.draw(st.sampled_from(ORDERS))
    axes = st.integers(-a.ndim, a.ndim - 1)
    axis = data.draw(st.none() | axes | st.tuples(axes) | st.tuples(axes, axes))
    keepdims = data.draw(st.booleans())
    x = from_numpy(a, chunks)
    with np.errstate(all="ignore"):
        try:
            expected = np.linalg.norm(a, order, axis, keepdims)
        except (ValueError, TypeError):
            with pytest.raises((ValueError, TypeError)):
                norm(x, order, axis, keepdims)
            return
        if np.isfinite(expected).all():
            near(norm(x, order, axis, keepdims), expected, 10)


@pytest.mark.proves("array.linalg.vector_norm", "array.linalg.matrix_norm")
def test_norms_of_the_standard(matrix: Matrix, near: Near) -> None:
    a = matrix(24, 5).reshape(4, 6, 5)
    x = from_numpy(a, 3)
    order: Any
    for order in (1, 2, 3, np.inf, 0):
        near(vector_norm(x, ord=order), np.linalg.vector_norm(a, ord=order))
        near(
            vector_norm(x, axis=(0, 2), ord=order), np.linalg.vector_norm(a, axis=(0, 2), ord=order)
        )
    for order in (1, 2, -2, "nuc", "fro"):
        for keepdims in (False, True):
            near(
                matrix_norm(x, ord=order, keepdims=keepdims),
                np.linalg.matrix_norm(a, ord=order, keepdims=keepdims),
            )


@pytest.mark.proves("array.linalg.cond")
@pytest.mark.parametrize("p", [None, 1, -1, 2, -2, np.inf, -np.inf, "fro", "nuc"])
def test_cond(p: Any, matrix: Matrix, inexact: str, near: Near) -> None:
    a = matrix(9, 9, inexact) + 3 * np.eye(9, dtype=inexact)
    for chunks in (9, 4):
        near(cond(from_numpy(a, chunks), p), np.linalg.cond(a, p), 10)
    stack = np.stack([a, a.T])
    near(cond(from_numpy(stack, 4), p), np.linalg.cond(stack, p), 10)
    if p is None:
        near(cond(from_numpy(a[:, :4], 3)), np.linalg.cond(a[:, :4]), 10)


def test_a_norm_that_there_is_not() -> None:
    x = from_numpy(np.ones((2, 2, 2)), 1)
    with pytest.raises(ValueError, match="for matrices"):
        norm(x, 7, axis=(0, 1))
    with pytest.raises(ValueError, match="3 dimensions"):
        norm(x, 1)
    with pytest.raises(ValueError, match="expected a number"):
        norm(x, "fro", axis=0)
    with pytest.raises(ValueError, match="two for matrices"):
        norm(x, 2, axis=(0, 1, 2))
