"""What tasks do with their blocks: with SciPy and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg

from zcluster.array.core import from_numpy
from zcluster.array.linalg import kernels
from zcluster.array.linalg.definite import cholesky
from zcluster.array.linalg.kernels import factored_lu, householder, less_products, solved
from zcluster.array.linalg.solving import lu, solve

Matrix = Callable[..., Any]


@pytest.fixture(params=["with SciPy", "without"])
def scipy_or_not(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "without":
        monkeypatch.setattr(kernels, "has_scipy", lambda: False)
    name: str = request.param
    return name


@pytest.fixture
def without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "has_scipy", lambda: False)


@pytest.mark.usefixtures("scipy_or_not")
@pytest.mark.parametrize("rows", [1, 128, 129, 300])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("unit", [True, False])
def test_triangular_systems(
    rows: int, lower: bool, unit: bool, inexact: str, matrix: Matrix
) -> None:
    """In any memory order, below and above the size at which triangles are halved."""
    whole = matrix(rows, rows, inexact) / rows + np.eye(rows, dtype=inexact)
    block = matrix(rows, 5, inexact, 1)
    expected = scipy.linalg.solve_triangular(whole, block, lower=lower, unit_diagonal=unit)
    eps = float(np.finfo(inexact).eps)
    for triangle in (whole, np.asfortranarray(whole), np.repeat(whole, 2, 1)[:, ::2]):
        for right in (block, np.asfortranarray(block), np.repeat(block, 2, 0)[::2]):
            before = right.copy()
            found = solved(triangle, right, lower=lower, unit=unit)
            assert found.dtype == block.dtype
            np.testing.assert_allclose(found, expected, atol=1e4 * eps)
            np.testing.assert_array_equal(right, before)


def test_a_zero_on_the_diagonal() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        solved(np.zeros((2, 2)), np.ones((2, 1)), lower=True)
    assert solved(np.zeros((2, 2)), np.ones((2, 1)), lower=True, unit=True).tolist() == [[1], [1]]


def test_products_are_subtracted_in_new_memory(matrix: Matrix) -> None:
    block, one, other = (matrix(4, 4, seed=seed) for seed in range(3))
    before = block.copy()
    found = less_products(block, [one, other], [other, one])
    np.testing.assert_allclose(found, before - one @ other - other @ one)
    np.testing.assert_array_equal(block, before)
    assert less_products(block, [], []) is block


def test_a_panel_of_lu(matrix: Matrix, inexact: str) -> None:
    panel = matrix(9, 3, inexact)
    packed, order = factored_lu(panel, 2, is_strict=True)
    np.testing.assert_array_equal(packed[:2], panel[:2])
    assert order[:2].tolist() == [0, 1]
    lower = np.tril(packed[2:], -1) + np.eye(7, 3)
    np.testing.assert_allclose(lower @ np.triu(packed[2:5]), panel[order][2:], rtol=1e-4)


def test_a_pivot_of_zero() -> None:
    factored_lu(np.zeros((3, 2)), 0, is_strict=False)
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        factored_lu(np.zeros((3, 2)), 0, is_strict=True)


@pytest.mark.parametrize("zeros", [False, True])
def test_a_panel_of_reflections(zeros: bool, matrix: Matrix, inexact: str) -> None:
    """Columns that need no reflection are left alone."""
    panel = matrix(8, 3, inexact)
    if zeros:
        panel[:, 1] = 0
        panel[3:, 2] = 0
    made, vectors, inner = householder(panel, 2)
    np.testing.assert_array_equal(made[:2], panel[:2])
    q = np.eye(6) - vectors @ inner @ vectors.conj().T
    eps = float(np.finfo(inexact).eps)
    np.testing.assert_allclose(q.conj().T @ q, np.eye(6), atol=100 * eps)
    np.testing.assert_allclose(q @ made[2:], panel[2:], atol=100 * eps)


@pytest.mark.usefixtures("without_scipy")
def test_what_works_without_scipy(matrix: Matrix) -> None:
    a = matrix(9, 9)
    positive = a @ a.T + 9 * np.eye(9)
    x = from_numpy(positive, 4)
    found = cholesky(x, lower=True).compute(scheduler="sync")
    np.testing.assert_allclose(found, np.linalg.cholesky(positive), atol=1e-12)
    found = solve(x, a[0], assume_a="pos").compute(scheduler="sync")
    np.testing.assert_allclose(found, np.linalg.solve(positive, a[0]), atol=1e-12)


@pytest.mark.usefixtures("without_scipy")
def test_what_needs_scipy_says_so(matrix: Matrix) -> None:
    with pytest.raises(ImportError, match=r"pip install 'zcluster\[array\]'"):
        lu(from_numpy(matrix(9, 9), 4))[0].compute(scheduler="sync")
