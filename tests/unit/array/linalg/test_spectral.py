"""Singular values and eigenvalues, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zcluster.array.core import from_numpy
from zcluster.array.linalg import spectral
from zcluster.array.linalg.spectral import (
    compression_matrix,
    matrix_rank,
    pinv,
    svd,
    svd_compressed,
    svdvals,
    tsqr,
)

Near = Callable[..., None]
Matrix = Callable[..., Any]

SHAPES = [(13, 13), (40, 4), (4, 40), (9, 13)]
CHUNKS = [(4, 3), (3, -1), (-1, 2)]


@pytest.mark.proves("array.linalg.svd", "array.linalg.svdvals")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunks", CHUNKS)
def test_svd(shape: tuple[int, int], chunks: Any, inexact: str, matrix: Matrix, near: Near) -> None:
    """Chunked along one axis, both, or none."""
    a = matrix(*shape, inexact)
    tolerance = 1e3 * float(np.finfo(inexact).eps)
    x = from_numpy(a, chunks)
    u, s, vh = svd(x)
    near(s, np.linalg.svd(a, compute_uv=False), 10)
    near((u * s) @ vh, a, 10)
    for one, other in ((u, u.conj().T), (vh.conj().T, vh)):
        product = (other @ one).compute(scheduler="sync")
        np.testing.assert_allclose(product, np.eye(len(product)), atol=tolerance)
    sums = vh.sum(axis=1).real.compute(scheduler="sync")
    assert (sums >= -tolerance).all()
    near(svdvals(x), np.linalg.svdvals(a), 10)
    near(svd(x, compute_uv=False), np.linalg.svdvals(a), 10)


def test_signs_may_be_left_as_they_are(matrix: Matrix, near: Near) -> None:
    a = matrix(6, 4)
    for found, expected in zip(
        svd(from_numpy(a, -1), False), np.linalg.svd(a, full_matrices=False), strict=True
    ):
        near(found, expected)
    with pytest.raises(NotImplementedError, match="expected False"):
        svd(from_numpy(a, 2), full_matrices=True)


def test_stacks(matrix: Matrix, near: Near) -> None:
    a = matrix(24, 3).reshape(4, 6, 3)
    x = from_numpy(a, (3, 2, 2))
    u, s, vh = svd(x)
    near(s, np.linalg.svdvals(a))
    near((u * s[:, None]) @ vh, a)
    near(pinv(x), np.linalg.pinv(a))
    near(matrix_rank(x), np.linalg.matrix_rank(a))
    near(svdvals(x), np.linalg.svdvals(a))


@pytest.mark.proves("array.linalg.tsqr")
def test_tsqr(matrix: Matrix, near: Near) -> None:
    a = matrix(40, 4)
    x = from_numpy(a, (7, 4))
    q, r = tsqr(x)
    near(q @ r, a)
    u, s, vh = tsqr(x, compute_svd=True)
    near((u * s) @ vh, a)
    near(s, np.linalg.svdvals(a))
    for wrong in (x.rechunk((7, 2)), x.T):
        with pytest.raises(ValueError, match="takes any"):
            tsqr(wrong)


@pytest.mark.proves("array.linalg.svd_compressed")
@pytest.mark.parametrize("iterator", ["power", "QR"])
@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
def test_compressed(iterator: str, shape: tuple[int, int], inexact: str, matrix: Matrix) -> None:
    """Exact where the rank is not above what is looked for."""
    a = matrix(shape[0], 4, inexact) @ matrix(4, shape[1], inexact, 1)
    x = from_numpy(a, (15, 10))
    u, s, vh = svd_compressed(x, 4, iterator, n_power_iter=1, seed=3)
    assert (u.shape, s.shape, vh.shape) == ((shape[0], 4), (4,), (4, shape[1]))
    eps = 1e5 * float(np.finfo(inexact).eps)
    found = ((u * s) @ vh).compute(scheduler="sync")
    np.testing.assert_allclose(found, a, atol=eps)
    np.testing.assert_allclose(s.compute(scheduler="sync"), np.linalg.svdvals(a)[:4], rtol=eps)


def test_more_powers_are_nearer(matrix: Matrix) -> None:
    a = matrix(60, 40)
    true = np.linalg.svdvals(a)[:3]
    x = from_numpy(a, 20)
    errors = []
    for count in (0, 8):
        found = svd_compressed(x, 3, n_power_iter=count, n_oversamples=5, seed=1).S
        errors.append(np.abs(found.compute(scheduler="sync") - true).max())
    assert errors[1] < errors[0] / 10


def test_the_seed_decides() -> None:
    x = from_numpy(np.arange(60.0).reshape(10, 6), 4)
    names = [compression_matrix(x, 2, seed=seed).name for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]


def test_what_is_computed_first_is_kept(matrix: Matrix, near: Near) -> None:
    a = matrix(20, 3) @ matrix(3, 10)
    x = from_numpy(a, 5)
    for iterator in ("power", "QR"):
        u, s, vh = svd_compressed(x, 3, iterator, n_power_iter=1, seed=1, compute=True)
        near((u * s) @ vh, a, 1000)


@pytest.mark.proves("array.linalg.pinv")
@pytest.mark.parametrize("shape", SHAPES)
def test_pinv(shape: tuple[int, int], inexact: str, matrix: Matrix, near: Near) -> None:
    a: Any = matrix(*shape, inexact)
    none: Any = None
    x = from_numpy(a, (4, 3))
    near(pinv(x), np.linalg.pinv(a), 1000)
    near(pinv(x, rtol=0.5), np.linalg.pinv(a, rtol=0.5), 100)
    near(pinv(x, rtol=None), np.linalg.pinv(a, rtol=none), 1000)
    with pytest.raises(ValueError, match="give one"):
        pinv(x, 0.1, rtol=0.1)


@pytest.mark.proves("array.linalg.matrix_rank")
def test_rank(matrix: Matrix, near: Near) -> None:
    a = matrix(12, 3) @ matrix(3, 10)
    x = from_numpy(a, (5, 4))
    near(matrix_rank(x), np.linalg.matrix_rank(a))
    near(matrix_rank(x, 100.0), np.linalg.matrix_rank(a, 100.0))
    near(matrix_rank(x, rtol=0.9), np.linalg.matrix_rank(a, rtol=0.9))
    assert matrix_rank(x[0]).compute(scheduler="sync") == 1
    assert matrix_rank(x[0] * 0).compute(scheduler="sync") == 0
    with pytest.raises(ValueError, match="give one"):
        matrix_rank(x, 0.1, rtol=0.1)


@pytest.mark.proves("array.linalg.eigh", "array.linalg.eigvalsh")
def test_hermitian(inexact: str, matrix: Matrix, near: Near) -> None:
    a = matrix(6, 6, inexact)
    a = a + a.conj().T
    x = from_numpy(a, -1)
    values, vectors = spectral.eigh(x)
    near(values, np.linalg.eigh(a)[0])
    near(vectors, np.linalg.eigh(a)[1])
    near(spectral.eigvalsh(x, "U"), np.linalg.eigvalsh(a, "U"))


@pytest.mark.proves("array.linalg.eig", "array.linalg.eigvals")
def test_general(inexact: str, matrix: Matrix, near: Near) -> None:
    """Always complex: whether all are real is not known before."""
    a = matrix(18, 3, inexact).reshape(2, 3, 3, 3)
    x = from_numpy(a, (1, 2, 3, 3))
    dtype = np.result_type(inexact, np.complex64)
    values, vectors = spectral.eig(x)
    near(values, np.linalg.eig(a)[0].astype(dtype))
    near(vectors, np.linalg.eig(a)[1].astype(dtype))
    near(spectral.eigvals(x), np.linalg.eigvals(a).astype(dtype))


@pytest.mark.parametrize("name", ["eig", "eigh", "eigvals", "eigvalsh"])
def test_eigenvalues_of_many_blocks_have_a_way_round(name: str) -> None:
    with pytest.raises(NotImplementedError, match=r"rechunk\(-1\)"):
        getattr(spectral, name)(from_numpy(np.eye(4), 2))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: svd_compressed(x, 5), "expected 1 to 4"),
        (lambda x: svd_compressed(x, 0), "expected 1 to 4"),
        (lambda x: svd_compressed(x, 1, "odd"), "expected 'power' or 'QR'"),
        (lambda x: svd_compressed(x[None], 1), "3 dimensions"),
        (lambda x: svd(x[0]), "1-dimensional"),
    ],
)
def test_what_does_not_fit_is_said_at_the_call(call: Any, text: str) -> None:
    with pytest.raises((ValueError, np.linalg.LinAlgError), match=text):
        call(from_numpy(np.eye(4), 2))
