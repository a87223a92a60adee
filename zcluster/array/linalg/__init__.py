"""Linear algebra on arrays in chunks: the names of ``numpy.linalg`` and of ``dask.array.linalg``.

Everything is lazy, and says at the call what is wrong with a shape or type. A matrix may be in any
chunks, of square blocks or others: what an algorithm needs it makes of them, lazily. Stacks of
matrices, with axes before the last two, are done matrix by matrix, as NumPy does them.

==================  ===============================================================================
`products`          tensordot, matmul and their like, made of `contracting`
`einsums`           einsum
`definite`          Cholesky's decomposition, of positive definite matrices
`panels`            LU and QR by panels of columns
`orthogonal`        QR, for tall matrices in a tree
`spectral`          singular values and eigenvalues
`solving`           equations, inverses, determinants, least squares
`norms`             norms and condition numbers
`standard`          names that ``numpy.linalg`` has with other arguments
==================  ===============================================================================

>>> import numpy as np
>>> from zcluster.array.core import from_numpy
>>> x = from_numpy(np.array([[4.0, 2.0], [2.0, 5.0]]), chunks=1)
>>> cholesky(x, lower=True).compute(scheduler="sync")
array([[2., 0.],
       [1., 2.]])
"""

from __future__ import annotations

from typing import Any

from numpy.linalg import LinAlgError

from zcluster.array.linalg.definite import cholesky
from zcluster.array.linalg.norms import cond, matrix_norm, norm, vector_norm
from zcluster.array.linalg.orthogonal import QRResult, qr, sfqr
from zcluster.array.linalg.products import matmul, multi_dot, tensordot, vecdot
from zcluster.array.linalg.solving import (
    SlogdetResult,
    det,
    inv,
    lstsq,
    lu,
    matrix_power,
    slogdet,
    solve,
    solve_triangular,
)
from zcluster.array.linalg.spectral import (
    EighResult,
    EigResult,
    SVDResult,
    compression_matrix,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    matrix_rank,
    pinv,
    svd,
    svd_compressed,
    svdvals,
    tsqr,
)
from zcluster.array.linalg.standard import (
    cross,
    diagonal,
    outer,
    tensorinv,
    tensorsolve,
    trace,
)
from zcluster.array.missing import missing
from zcluster.array.routines import matrix_transpose

__all__ = [
    "EigResult",
    "EighResult",
    "LinAlgError",
    "QRResult",
    "SVDResult",
    "SlogdetResult",
    "cholesky",
    "compression_matrix",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "lstsq",
    "lu",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "sfqr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svd_compressed",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "tsqr",
    "vecdot",
    "vector_norm",
]


def __getattr__(name: str) -> Any:
    raise missing(f"linalg.{name}")
