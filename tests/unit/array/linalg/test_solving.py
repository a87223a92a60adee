"""Equations, inverses, determinants and least squares, against NumPy and SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import scipy.linalg

from zcluster.array.core import from_numpy
from zcluster.array.linalg import panels, preparing, solving
from zcluster.array.linalg.solving import (
    det,
    inv,
    lstsq,
    lu,
    matrix_power,
    slogdet,
    solve,
    solve_triangular,
)

Near = Callable[..., None]
Matrix = Callable[..., Any]


@pytest.fixture(params=[(64, 16), (3, 2)], ids=["wide", "batched"], autouse=True)
def panel_width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels of the usual width hold small matrices whole; narrow ones do not."""
    width, batch = request.param
    monkeypatch.setattr(preparing, "_NARROW", width)
    for module in (panels, solving):
        monkeypatch.setattr(module, "batch", lambda work: batch)


@pytest.mark.proves("array.linalg.solve")
def test_solve(square_chunks: Any, inexact: str, matrix: Matrix, near: Near) -> None:
    """Right-hand sides that are vectors and matrices, positive definite matrices too."""
    a, b = matrix(13, 13, inexact) + 3 * np.eye(13, dtype=inexact), matrix(13, 5, inexact, 1)
    x, y = from_numpy(a, square_chunks), from_numpy(b, (4, 2))
    near(solve(x, y), np.linalg.solve(a, b), 10)
    near(solve(x, y[:, 1]), np.linalg.solve(a, b[:, 1]), 10)
    positive = (a @ a.conj().T + np.eye(13)).astype(inexact)
    z = from_numpy(positive, square_chunks)
    near(solve(z, y, assume_a="pos"), np.linalg.solve(positive, b), 100)


@pytest.mark.proves("array.linalg.solve_triangular")
@pytest.mark.parametrize(("lower", "unit"), [(True, False), (False, True)])
def test_solve_triangular(
    lower: bool, unit: bool, square_chunks: Any, matrix: Matrix, near: Near
) -> None:
    a, b = matrix(13, 13) / 13 + np.eye(13), matrix(13, 5, seed=1)
    x, y = from_numpy(a, square_chunks), from_numpy(b, (4, 2))
    for right, other in ((y, b), (y[:, 0], b[:, 0])):
        near(
            solve_triangular(x, right, lower, unit_diagonal=unit),
            scipy.linalg.solve_triangular(a, other, lower=lower, unit_diagonal=unit),
        )
    kind = "lower triangular" if lower else "upper triangular"
    near(solve(x, y, assume_a=kind), scipy.linalg.solve_triangular(a, b, lower=lower))


@pytest.mark.proves("array.linalg.inv", "array.linalg.det", "array.linalg.slogdet")
def test_inverse_and_determinant(
    square_chunks: Any, inexact: str, matrix: Matrix, near: Near
) -> None:
    a = matrix(13, 13, inexact) + 3 * np.eye(13, dtype=inexact)
    x = from_numpy(a, square_chunks)
    near(inv(x), np.linalg.inv(a), 10)
    near(det(x), np.linalg.det(a), 10)
    sign, logarithm = slogdet(x)
    near(sign, np.linalg.slogdet(a)[0])
    near(logarithm, np.linalg.slogdet(a)[1])


@pytest.mark.proves("array.linalg.lu")
@pytest.mark.parametrize("shape", [(13, 13), (13, 6), (6, 13), (1, 1), (0, 4)])
def test_lu(shape: tuple[int, int], matrix: Matrix, inexact: str, near: Near) -> None:
    """The factors are SciPy's: pivots are looked for in whole columns."""
    a = matrix(*shape, inexact)
    x = from_numpy(a, (4, 3))
    permutation, *others = scipy.linalg.lu(a)
    real = np.empty(0, inexact).real.dtype  # SciPy has other types for it in small cases
    for found, one in zip(lu(x), (permutation.real.astype(real), *others), strict=True):
        near(found, one)


def test_lu_of_a_singular_matrix_and_of_a_badly_scaled_one(near: Near) -> None:
    a = np.zeros((7, 7))
    a[2, 3] = a[6, 3] = 5
    for one in (a, np.diag(10.0 ** np.arange(-12, 2, 2)) + 1e-14):
        p, lower, upper = lu(from_numpy(one, 2))
        near(p @ lower @ upper, one)
    assert slogdet(from_numpy(a, 2)).sign.compute(scheduler="sync") == 0
    assert slogdet(from_numpy(a, 2)).logabsdet.compute(scheduler="sync") == -np.inf
    assert det(from_numpy(a, 2)).compute(scheduler="sync") == 0


def test_a_badly_conditioned_matrix_is_solved_as_well_as_by_lapack() -> None:
    """What is left over is as small, though the solution is far off."""
    a = scipy.linalg.hilbert(11)
    b = a.sum(axis=1)
    found = solve(from_numpy(a, 3), from_numpy(b, 4)).compute(scheduler="sync")
    assert np.abs(a @ found - b).max() < 1e-13


def test_a_small_pivot_is_not_divided_by(near: Near) -> None:
    """Pivots within diagonal blocks alone would lose all digits here."""
    a = np.array([[1e-20, 0, 1, 0], [0, 1e-20, 0, 1], [1, 0, 1, 0], [0, 1, 0, 2.0]])
    near(solve(from_numpy(a, 2), np.ones(4)), np.linalg.solve(a, np.ones(4)))
    near(inv(from_numpy(a, 2)), np.linalg.inv(a))


@pytest.mark.proves("array.linalg.lstsq")
@pytest.mark.parametrize("shape", [(20, 6), (6, 20), (9, 9), (5, 0)])
def test_least_squares(shape: tuple[int, int], matrix: Matrix, inexact: str, near: Near) -> None:
    a, b = matrix(*shape, inexact), matrix(shape[0], 3, inexact, 1)
    x, y = from_numpy(a, (4, 3)), from_numpy(b, (3, 2))
    for right, other in ((y, b), (y[:, 0], b[:, 0])):
        found, expected = lstsq(x, right), np.linalg.lstsq(a, other)
        near(found[0], expected[0], 100)
        near(found[1], expected[1], 100)
        assert found[2].compute(scheduler="sync") == expected[2]
        near(found[3], expected[3], 100)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
def test_least_squares_of_lower_rank(shape: tuple[int, int], matrix: Matrix, near: Near) -> None:
    """Of all solutions the shortest."""
    a = matrix(shape[0], 2) @ matrix(2, shape[1])
    b = matrix(shape[0], 2, seed=3)
    found, _, rank, s = lstsq(from_numpy(a, 4), from_numpy(b, 5))
    near(found, np.linalg.lstsq(a, b)[0], 10)
    near(s, np.linalg.svdvals(a))
    assert rank.compute(scheduler="sync") == 2


@pytest.mark.proves("array.linalg.matrix_power")
@pytest.mark.parametrize("power", [-3, -1, 0, 1, 2, 7])
def test_matrix_power(power: int, matrix: Matrix, near: Near) -> None:
    a = matrix(6, 6) / 3 + np.eye(6)
    near(matrix_power(from_numpy(a, 4), power), np.linalg.matrix_power(a, power), 10)
    stack = np.stack([a, a.T])
    near(matrix_power(from_numpy(stack, 4), power), np.linalg.matrix_power(stack, power), 10)
    whole = np.arange(9).reshape(3, 3)
    if power >= 0:
        near(matrix_power(from_numpy(whole, 2), power), np.linalg.matrix_power(whole, power))


def test_stacks_go_matrix_by_matrix(matrix: Matrix, near: Near) -> None:
    a = matrix(24, 4).reshape(3, 2, 4, 4)
    b = matrix(8, 3).reshape(2, 4, 3)
    x, y = from_numpy(a, (2, 1, 3, 2)), from_numpy(b, 2)
    near(inv(x), np.linalg.inv(a), 100)
    near(det(x), np.linalg.det(a), 10)
    near(slogdet(x)[0], np.linalg.slogdet(a)[0])
    near(slogdet(x)[1], np.linalg.slogdet(a)[1])
    near(solve(x, y), np.linalg.solve(a, b), 100)
    near(solve(x, b[0, :, 0]), np.linalg.solve(a, b[0, :, 0]), 100)
    near(solve(x[0, 0], y), np.linalg.solve(a[0, 0], b), 100)


def test_a_singular_matrix_is_an_error_when_it_is_computed() -> None:
    for chunks in (2, 4):
        x = from_numpy(np.ones((4, 4)), chunks)
        with pytest.raises(np.linalg.LinAlgError, match="Singular"):
            inv(x).compute(scheduler="sync")
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        solve_triangular(from_numpy(np.zeros((4, 4)), 2), np.ones(4)).compute(scheduler="sync")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: solve(x[:3], x), np.linalg.LinAlgError, "must be square"),
        (lambda x: solve(x, x[:3]), ValueError, "has 3 rows; expected 4"),
        (lambda x: solve(x, 1), ValueError, "no dimensions"),
        (lambda x: solve(x, x, assume_a="odd"), ValueError, "expected one of gen"),
        (lambda x: solve_triangular(x[None], x), NotImplementedError, "stacks"),
        (lambda x: lu(x[None]), ValueError, "3 dimensions"),
        (lambda x: lstsq(x, x[:2]), ValueError, "right-hand side has shape"),
        (lambda x: matrix_power(x[:2], 2), np.linalg.LinAlgError, "must be square"),
        (lambda x: matrix_power(x, cast(Any, 2.5)), TypeError, "expected an integer"),
        (lambda x: det(x[x[:, 0] > 5][:, :2]), ValueError, "compute_chunk_sizes"),
    ],
)
def test_what_does_not_fit_is_said_at_the_call(
    call: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        call(from_numpy(np.eye(4), 2))
