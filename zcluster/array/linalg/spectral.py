"""Singular values, and what is made of them; eigenvalues of matrices in one block.

A matrix in several blocks is reduced to a small triangle first: of ``A = Q R`` the singular values
are those of R, and ``R = U S V*`` gives ``A = (Q U) S V*``. R has as many rows and columns as the
shorter side of A, and goes into one task.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from zcluster.array.core import Array, asarray, elementwise, permuted, rechunked
from zcluster.array.linalg.orthogonal import decomposition
from zcluster.array.linalg.preparing import item, matrices, real_type, square, stacked
from zcluster.array.linalg.products import matmul
from zcluster.array.random import default_rng
from zcluster.array.reductions import any_, sum_
from zcluster.array.slicing import getitem
from zcluster.errors import InvalidArgument

__all__ = [
    "EigResult",
    "EighResult",
    "SVDResult",
    "compression_matrix",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "matrix_rank",
    "pinv",
    "svd",
    "svd_compressed",
    "svdvals",
    "tsqr",
]


class SVDResult(NamedTuple):
    """What `svd` returns."""

    U: Array
    S: Array
    Vh: Array


class EighResult(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Array
    eigenvectors: Array


class EigResult(NamedTuple):
    """What `eig` returns."""

    eigenvalues: Array
    eigenvectors: Array


# Singular values ----------------------------------------------------------------------------------


def svd(
    a: Any,
    coerce_signs: bool = True,
    *,
    full_matrices: bool = False,
    compute_uv: bool = True,
    hermitian: bool = False,
) -> Any:
    """Return the singular value decomposition: ``a = (U * S) @ Vh``.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
        In any chunks.
    coerce_signs : bool
        Choose the signs of the vectors so that the sum of each row of Vh has a real part of 0 or
        more; otherwise they are what LAPACK gives.
    full_matrices : bool
        Must be False: the factors have as many vectors as there are singular values.
    compute_uv : bool
        Return the singular values only, if False.
    hermitian : bool
        Accepted; the values are the same.

    Returns
    -------
    U : Array, shape (..., m, k)
        With k the lesser of m and n.
    S : Array, shape (..., k)
    Vh : Array, shape (..., k, n)

    Examples
    --------
    >>> svd([[3.0, 0.0], [0.0, 4.0]]).S.compute()
    array([4., 3.])
    """
    if full_matrices:
        raise NotImplementedError(
            "svd(full_matrices=True): expected False; the missing vectors are those of "
            "numpy.linalg.svd(x.compute())"
        )
    array = matrices(a, "svd")
    if not compute_uv:
        return svdvals(array)
    rows, columns = array.shape[-2:]
    if array.ndim > 2 or array.npartitions == 1 or not array.size:
        found = _of_stacks(array)
    elif rows >= columns:
        q, r = decomposition(array)
        inner = _of_stacks(r)
        found = SVDResult(matmul(q, inner.U), inner.S, inner.Vh)
    else:
        turned = svd(permuted(array, (1, 0)), False)
        found = SVDResult(permuted(turned.Vh, (1, 0)), turned.S, permuted(turned.U, (1, 0)))
    return _with_signs(found) if coerce_signs else found


def _of_stacks(array: Array) -> SVDResult:
    rows, columns = array.shape[-2:]
    least, dtype = min(rows, columns), array.dtype
    whole = stacked("svd", _svd_block, [array], [2], (rows, columns), dtype)
    return SVDResult(
        item(whole, 0, 2, (rows, least), dtype),
        item(whole, 1, 2, (least,), real_type(dtype)),
        item(whole, 2, 2, (least, columns), dtype),
    )


def _svd_block(block: Any) -> Any:
    return tuple(np.linalg.svd(block, full_matrices=False))


def _with_signs(found: SVDResult) -> SVDResult:
    sums = sum_(found.Vh, axis=-1)
    signs = elementwise(_sign, sums, dtype=real_type(found.U.dtype), name="sign")
    ndim = signs.ndim
    across = permuted(signs, [*range(ndim - 1), None, ndim - 1])
    return SVDResult(found.U * across, found.S, found.Vh * permuted(signs, [*range(ndim), None]))


def _sign(sums: Any) -> Any:
    return np.where(sums.real >= 0, 1, -1).astype(sums.real.dtype)


def svdvals(x: Any) -> Array:
    """Return the singular values, the largest first.

    Parameters
    ----------
    x : array_like, shape (..., m, n)
    """
    array = matrices(x, "svdvals")
    rows, columns = array.shape[-2:]
    if array.ndim == 2 and array.npartitions > 1 and array.size:
        array = decomposition(permuted(array, (1, 0)) if rows < columns else array).R
    dtype = real_type(array.dtype)
    return stacked("svdvals", _svdvals_block, [array], [2], (min(rows, columns),), dtype)


def _svdvals_block(block: Any) -> Any:
    return np.linalg.svd(block, compute_uv=False)


def tsqr(data: Any, compute_svd: bool = False, _max_vchunk_size: Any = None) -> Any:
    """Return the QR decomposition of a tall matrix in one chunk of columns, or its SVD.

    Parameters
    ----------
    data : array_like, shape (m, n)
        With at least as many rows as columns.
    compute_svd : bool
        Return u, s and vh in the place of Q and R.

    Raises
    ------
    ValueError
        If it has several chunks of columns, or fewer rows than columns.
    """
    array = matrices(data, "tsqr")
    if array.ndim != 2 or len(array.chunks[1]) > 1 or array.shape[0] < array.shape[1]:
        raise InvalidArgument(
            f"tsqr of shape {array.shape} in {array.numblocks} blocks; expected a matrix with at "
            "least as many rows as columns, in one chunk of columns: qr() takes any"
        )
    return svd(array, False) if compute_svd else decomposition(array)


# Approximations -----------------------------------------------------------------------------------


def svd_compressed(
    a: Any,
    k: int,
    iterator: str = "power",
    n_power_iter: int = 0,
    n_oversamples: int = 10,
    seed: Any = None,
    compute: bool = False,
    coerce_signs: bool = True,
) -> SVDResult:
    """Return about the largest singular values and their vectors, by random projections.

    Parameters
    ----------
    a : array_like, shape (m, n)
    k : int
        How many.
    iterator : {'power', 'QR'}
        How powers are taken: as they are, or made orthonormal each time.
    n_power_iter : int
        More of them are nearer to the truth where singular values decrease slowly.
    n_oversamples : int
        Vectors beyond `k` to work with.
    seed : object, optional
        Of the projection, as `zcluster.array.random.default_rng` takes it.
    compute : bool
        Compute the basis first and keep it, so that `a` is gone through once less.
    coerce_signs : bool
        As for `svd`.

    Examples
    --------
    >>> x = asarray([[3.0, 0.0], [0.0, 4.0]])
    >>> svd_compressed(x, 1, seed=0).S.compute().round(6)
    array([4.])
    """
    array = _matrix(a, "svd_compressed")
    basis = compression_matrix(array, k, iterator, n_power_iter, n_oversamples, seed, compute)
    inner = svd(matmul(basis, array), False)
    found = SVDResult(matmul(_adjoint(basis), inner.U), inner.S, inner.Vh)
    rows, columns = slice(None), slice(0, k)
    found = SVDResult(
        getitem(found.U, (rows, columns)), getitem(found.S, columns), getitem(found.Vh, columns)
    )
    return _with_signs(found) if coerce_signs else found


def compression_matrix(
    data: Any,
    q: int,
    iterator: str = "power",
    n_power_iter: int = 0,
    n_oversamples: int = 10,
    seed: Any = None,
    compute: bool = False,
) -> Array:
    """Return a matrix whose product with another has about the same range, and fewer rows.

    Parameters
    ----------
    data : array_like, shape (m, n)
    q : int
        Rows that matter.
    iterator, n_power_iter, n_oversamples, seed, compute
        As for `svd_compressed`.

    Returns
    -------
    basis : Array, shape (q + n_oversamples, m)
        Its rows are orthonormal; no more of them than the shorter side of `data`.
    """
    array = _matrix(data, "compression_matrix")
    rows, columns = array.shape
    if not 0 < q <= min(rows, columns):
        raise InvalidArgument(
            f"{q} singular values of a matrix of shape {array.shape}; expected 1 to "
            f"{min(rows, columns)}"
        )
    if iterator not in ("power", "QR"):
        raise InvalidArgument(f"iterator={iterator!r}; expected 'power' or 'QR'")
    size = min(q + n_oversamples, rows, columns)
    real = real_type(array.dtype)
    omega = default_rng(seed).standard_normal((columns, size), real, chunks=(array.chunks[1], size))
    image = matmul(array, omega)
    for _ in range(n_power_iter):
        if iterator == "QR":
            image = decomposition(_kept(image, compute)).Q
            image = decomposition(matmul(_adjoint(array), image)).Q
        else:
            image = matmul(_adjoint(array), _kept(image, compute))
        image = matmul(array, _kept(image, compute))
    basis = decomposition(rechunked(image, {1: -1})).Q
    return _adjoint(_kept(basis, compute))


def _kept(array: Array, compute: bool) -> Array:
    kept: Array = array.persist() if compute else array
    return kept


def _matrix(value: Any, what: str) -> Array:
    array = matrices(value, what)
    if array.ndim != 2:
        raise InvalidArgument(f"{what} of {array.ndim} dimensions; expected 2")
    return array


def _adjoint(array: Array) -> Array:
    """Return the conjugate transposes."""
    if array.dtype.kind == "c":
        array = elementwise(np.conjugate, array)
    return permuted(array, [*range(array.ndim - 2), array.ndim - 1, array.ndim - 2])


# What singular values say -------------------------------------------------------------------------


def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = "none") -> Array:
    """Return the pseudo-inverse of Moore and Penrose.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    rcond : float, optional
        Singular values below it, as a part of the largest, count as 0; 1e-15 by default.
    hermitian : bool
        Accepted; the values are the same.
    rtol : float or None, optional
        The same, by another name; None means the precision of the type times the longer side.

    Returns
    -------
    inverse : Array, shape (..., n, m)
    """
    array = matrices(a, "pinv")
    rows, columns = array.shape[-2:]
    if rtol is not None and rtol != "none" and rcond is not None:
        raise InvalidArgument("pinv: found both rcond and rtol, which mean the same; give one")
    if rcond is None and rtol is None:
        rcond = max(rows, columns) * np.finfo(array.dtype).eps
    elif rcond is None:
        rcond = 1e-15 if rtol == "none" else rtol
    u, s, vh = svd(array, False)
    inverse = stacked("pinv", partial(_inverses, rcond=rcond), [s], [1], s.shape[-1:], s.dtype)
    weighted = _adjoint(vh) * permuted(inverse, [*range(s.ndim - 1), None, s.ndim - 1])
    return matmul(weighted, _adjoint(u))


def _inverses(values: Any, rcond: Any) -> Any:
    """Return the inverses of singular values; of the small ones 0."""
    limit = np.asarray(rcond)[..., None] * values.max(axis=-1, keepdims=True, initial=0)
    large = values > limit
    return np.divide(1, values, where=large, out=np.zeros_like(values))


def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Array:
    """Return how many singular values are not about 0.

    Parameters
    ----------
    A : array_like, shape (..., m, n)
        Of a vector it is 1 unless all of it is 0.
    tol : float, optional
        What counts as 0; by default the largest one times the longer side and the precision.
    hermitian : bool
        Accepted; the rank is the same.
    rtol : float, optional
        The same as `tol`, as a part of the largest one.

    Examples
    --------
    >>> matrix_rank([[1.0, 2.0], [2.0, 4.0]]).compute()
    np.int64(1)
    """
    array = asarray(A)
    if array.ndim < 2:
        return any_(elementwise(np.not_equal, array, 0)) + 0
    if tol is not None and rtol is not None:
        raise InvalidArgument("matrix_rank: found both tol and rtol; give one")
    array = matrices(array, "matrix_rank")
    if tol is None and rtol is None:
        rtol = max(array.shape[-2:]) * np.finfo(array.dtype).eps
    count = partial(_counted, tol=tol, rtol=rtol)
    return stacked("matrix_rank", count, [svdvals(array)], [1], (), np.intp)


def _counted(values: Any, tol: Any, rtol: Any) -> Any:
    if tol is None:
        limit = values.max(axis=-1, keepdims=True, initial=0) * np.asarray(rtol)[..., None]
    else:
        limit = np.asarray(tol)[..., None]
    return np.count_nonzero(values > limit, axis=-1)


# Eigenvalues --------------------------------------------------------------------------------------


def _eigen(label: str, a: Any, function: Callable[..., Any], dtype: Any = None) -> Array:
    array = square(a, label)
    if array.ndim == 2 and array.npartitions > 1:
        raise NotImplementedError(
            f"{label} of a matrix in {array.npartitions} blocks; expected one: put it together "
            "with rechunk(-1), or find the largest singular values with svd_compressed(x, k)"
        )
    return stacked(label, function, [array], [2], array.shape[-1:], dtype or array.dtype)


def eigvalsh(a: Any, UPLO: str = "L") -> Array:
    """Return the eigenvalues of Hermitian matrices, each in one block, in ascending order.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
    UPLO : {'L', 'U'}
        Which triangle is looked at.

    Raises
    ------
    NotImplementedError
        If the matrix is in several blocks.
    """
    function = partial(np.linalg.eigvalsh, UPLO=UPLO)
    return _eigen("eigvalsh", a, function, real_type(square(a, "eigvalsh").dtype))


def eigh(a: Any, UPLO: str = "L") -> EighResult:
    """Return the eigenvalues and eigenvectors of Hermitian matrices, each in one block.

    Parameters and errors are those of `eigvalsh`.
    """
    array = square(a, "eigh")
    both = _eigen("eigh", array, partial(_eigh_block, UPLO=UPLO))
    n, dtype = array.shape[-1], array.dtype
    return EighResult(item(both, 0, 1, (n,), real_type(dtype)), item(both, 1, 1, (n, n), dtype))


def _eigh_block(block: Any, UPLO: Any) -> Any:
    return tuple(np.linalg.eigh(block, UPLO=UPLO))


def eigvals(a: Any) -> Array:
    """Return the eigenvalues of matrices, each in one block; always as complex numbers.

    Raises
    ------
    NotImplementedError
        If the matrix is in several blocks.
    """
    dtype = np.result_type(square(a, "eigvals").dtype, np.complex64)
    return _eigen("eigvals", a, partial(_eigvals_block, dtype=dtype), dtype)


def _eigvals_block(block: Any, dtype: Any) -> Any:
    return np.linalg.eigvals(block).astype(dtype)


def eig(a: Any) -> EigResult:
    """Return the eigenvalues and eigenvectors of matrices, each in one block, as complex numbers.

    Raises
    ------
    NotImplementedError
        If the matrix is in several blocks.
    """
    array = square(a, "eig")
    dtype = np.result_type(array.dtype, np.complex64)
    both = _eigen("eig", array, partial(_eig_block, dtype=dtype), dtype)
    n = array.shape[-1]
    return EigResult(item(both, 0, 1, (n,), dtype), item(both, 1, 1, (n, n), dtype))


def _eig_block(block: Any, dtype: Any) -> Any:
    return tuple(one.astype(dtype) for one in np.linalg.eig(block))
