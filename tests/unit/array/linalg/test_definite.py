"""Cholesky's decomposition in blocks, against NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import Generated
from zcluster.array.linalg import definite
from zcluster.array.linalg.definite import cholesky
from zcluster.array.lowering import Lowering

Near = Callable[..., None]
Matrix = Callable[..., Any]


def definite_one(made: Any) -> Any:
    return (made @ made.conj().T + len(made) * np.eye(len(made))).astype(made.dtype)


@pytest.mark.proves("array.linalg.cholesky")
@pytest.mark.parametrize("batch", [1, 2, 16])
def test_both_factors(
    batch: int,
    square_chunks: Any,
    inexact: str,
    matrix: Matrix,
    near: Near,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In any chunks, with any number of columns in a batch."""
    monkeypatch.setattr(definite, "batch", lambda work: batch)
    a = definite_one(matrix(13, 13, inexact))
    x = from_numpy(a, square_chunks)
    near(cholesky(x, lower=True), np.linalg.cholesky(a))
    near(cholesky(x), np.linalg.cholesky(a, upper=True))


def test_one_triangle_is_looked_at(matrix: Matrix, near: Near) -> None:
    a = definite_one(matrix(9, 9))
    expected = np.linalg.cholesky(a)
    wrong = np.full((9, 9), np.nan)
    near(cholesky(from_numpy(np.tril(a) + np.triu(wrong, 1), 4), lower=True), expected)
    near(cholesky(from_numpy(np.triu(a) + np.tril(wrong, -1), 4)), expected.T)


@given(count=st.integers(1, 7), batch=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_any_number_of_blocks(count: int, batch: int, seed: int) -> None:
    made = np.random.default_rng(seed).standard_normal((2 * count, 2 * count))
    a = definite_one(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(definite, "batch", lambda work: batch)
        found = cholesky(from_numpy(a, 2), lower=True).compute(scheduler="sync")
    np.testing.assert_allclose(found, np.linalg.cholesky(a), atol=1e-12)


def test_stacks_and_integers(matrix: Matrix, near: Near) -> None:
    a = np.stack([definite_one(matrix(5, 5, "c16", seed)) for seed in range(3)])
    near(cholesky(from_numpy(a, (2, 3, 2)), lower=True), np.linalg.cholesky(a))
    near(cholesky(from_numpy(np.diag([4, 9, 16]), 2)), np.diag([2.0, 3.0, 4.0]))


def ones(starts: Any, shape: Any) -> Any:
    return np.ones(shape)


@pytest.mark.parametrize("length", [100, 1000])
def test_a_graph_has_a_layer_for_each_step(length: int) -> None:
    """Blocks of one update each: the tasks and edges of the algorithm, and no more."""
    chunks = (length,) * 20
    source = Array(Generated("x", ones, (chunks, chunks), "f8"))
    factor = cholesky(source, lower=True)
    graph = Lowering([factor.expr]).graph
    tasks = sum(layer.count for layer in graph.layers if "cholesky" in layer.name)
    edges = sum(len(layer.indices) for layer in graph.layers)
    if length == 1000:  # 20 factors, 190 solutions, 1330 updates; one block of zeros
        assert tasks == 20 + 190 + 1330 + 1
        assert edges == 20 + 2 * 190 + 3 * 1330
    else:
        assert tasks < 500


def test_what_is_not_positive_definite_is_an_error() -> None:
    a = np.eye(6)
    a[4, 4] = -1
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        cholesky(from_numpy(a, 2)).compute(scheduler="sync")


@pytest.mark.parametrize("shape", [(4, 3), (4,), (2, 3, 4)])
def test_what_is_not_square_is_said_at_the_call(shape: tuple[int, ...]) -> None:
    with pytest.raises(np.linalg.LinAlgError):
        cholesky(from_numpy(np.ones(shape), 2))


def test_types_that_lapack_does_not_know() -> None:
    with pytest.raises(TypeError, match="float16 is unsupported"):
        cholesky(from_numpy(np.eye(4, dtype="f2"), 2))
