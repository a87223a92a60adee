"""Names that ``numpy.linalg`` has with arguments of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zcluster.array import linalg
from zcluster.array.core import from_numpy

Near = Callable[..., None]
Matrix = Callable[..., Any]


@pytest.mark.proves(
    "array.linalg.diagonal",
    "array.linalg.trace",
    "array.linalg.cross",
    "array.linalg.outer",
    "array.linalg.matrix_transpose",
    "array.linalg.tensordot",
)
def test_the_last_axes_are_meant(matrix: Matrix, near: Near) -> None:
    a = matrix(24, 3).reshape(4, 6, 3)
    x = from_numpy(a, 2)
    near(linalg.diagonal(x, offset=1), np.linalg.diagonal(a, offset=1))
    near(linalg.trace(x, offset=-1), np.linalg.trace(a, offset=-1))
    near(linalg.cross(x, x[:1]), np.linalg.cross(a, a[:1]))
    near(linalg.outer(x[0, 0], x[:, 0, 0]), np.linalg.outer(a[0, 0], a[:, 0, 0]))
    near(linalg.matrix_transpose(x), np.linalg.matrix_transpose(a))
    near(linalg.tensordot(x, x, axes=3), np.linalg.tensordot(a, a, axes=3))
    with pytest.raises(ValueError, match="takes any"):
        linalg.outer(x, x)


@pytest.mark.proves("array.linalg.tensorsolve", "array.linalg.tensorinv")
def test_tensors_as_matrices(matrix: Matrix, near: Near) -> None:
    a = matrix(24, 24).reshape(6, 4, 2, 3, 4) + 3 * np.eye(24).reshape(6, 4, 2, 3, 4)
    b = matrix(6, 4)
    x = from_numpy(a, (4, 3, 2, 2, 3))
    near(linalg.tensorsolve(x, b), np.linalg.tensorsolve(a, b), 10)
    turned = np.moveaxis(a, 2, 0)
    near(
        linalg.tensorsolve(from_numpy(turned, 3), b, axes=(0, 3, 4)),
        np.linalg.tensorsolve(turned, b, axes=(0, 3, 4)),
        10,
    )
    near(linalg.tensorinv(x), np.linalg.tensorinv(a), 10)
    with pytest.raises(np.linalg.LinAlgError, match="requirement"):
        linalg.tensorsolve(x, b[:3])
    with pytest.raises(ValueError, match="1 or more"):
        linalg.tensorinv(x, 0)


@pytest.mark.proves("array.linalg.LinAlgError")
def test_the_error_is_numpys() -> None:
    assert linalg.LinAlgError is np.linalg.LinAlgError
    with pytest.raises(AttributeError, match="has no attribute"):
        _ = linalg.nonsense


def test_functions_of_numpy_come_here(matrix: Matrix, near: Near) -> None:
    a = matrix(8, 8)
    x: Any = from_numpy(a, 3)
    near(np.linalg.norm(x), np.linalg.norm(a))
    near(np.linalg.inv(x), np.linalg.inv(a), 10)
    near(np.einsum("ij,jk", x, x), a @ a)
    near(np.tensordot(x, x, 1), a @ a)
    near(np.matmul(x, x), a @ a)
