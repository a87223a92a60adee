"""What tasks of linear algebra do with their blocks.

Products go through `numpy.matmul`. Triangular systems and the LU decomposition are LAPACK's and
BLAS', which SciPy makes callable; what NumPy can do as well, at more cost, works without SciPy.
Nothing here writes into a block that was given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

__all__ = [
    "adjoint",
    "factored_lu",
    "has_scipy",
    "householder",
    "less_products",
    "solved",
]

#: Rows of a triangle that are worth no products.
_LEAF = 128

_MISSING = (
    "{what} of a matrix in several blocks needs SciPy, which is not installed where this task "
    "runs; install it with pip install 'zcluster[array]', or put the matrix into one block with "
    "rechunk(-1)"
)


@cache
def has_scipy() -> bool:
    """Tell whether SciPy is here."""
    try:
        import scipy.linalg.blas  # noqa: F401  # an extra: loaded where it is needed
    except ImportError:
        return False
    return True


@cache
def _function(module: str, name: str, kind: str) -> Callable[..., Any]:
    """Return a function of BLAS or LAPACK for a dtype."""
    from scipy.linalg import blas, lapack  # an extra: loaded where it is needed

    prefix = {"f": "s", "d": "d", "F": "c", "D": "z"}[kind]
    found: Callable[..., Any] = getattr(blas if module == "blas" else lapack, prefix + name)
    return found


def adjoint(block: Any) -> Any:
    """Return the conjugate transpose of a matrix; of a real one without copying it."""
    return block.conj().T if block.dtype.kind == "c" else block.T


def less_products(block: Any, left: Any, right: Any) -> Any:
    """Return a block less the products of pairs of others, in memory of its own.

    Parameters
    ----------
    block : ndarray
    left, right : sequence of ndarray
        As many of both.
    """
    if not left:
        return block
    total = np.matmul(left[0], right[0])
    np.subtract(block, total, out=total)
    product = None
    for one, other in zip(left[1:], right[1:], strict=True):
        product = np.matmul(one, other, out=product)
        total -= product
    return total


def solved(triangle: Any, block: Any, *, lower: bool, unit: bool = False) -> Any:
    """Return what a triangular matrix must be multiplied with to give a block.

    Parameters
    ----------
    triangle : ndarray, shape (n, n)
        What stands on the other side of the diagonal is not looked at.
    block : ndarray, shape (n, m)
    lower : bool
        The triangle is the lower one.
    unit : bool
        There are ones on the diagonal, whatever stands there.

    Raises
    ------
    numpy.linalg.LinAlgError
        If there is a zero on the diagonal.
    """
    if not unit and not np.diagonal(triangle).all():
        raise np.linalg.LinAlgError("Singular matrix")
    found = block.copy(order="K")
    if block.size:
        _substitute(triangle, found, lower, unit)
    return found


def _substitute(triangle: Any, block: Any, lower: bool, unit: bool) -> None:
    """Solve a triangular system in place, by halves.

    SciPy's functions of BLAS hold the interpreter's lock, so that other threads wait; products of
    NumPy do not. By halves, nearly all is products.
    """
    count = len(triangle)
    if count <= _LEAF:
        block[...] = _leaf(triangle, block, lower, unit)
        return
    half = count // 2
    halves = [slice(0, half), slice(half, count)]
    first, last = halves if lower else halves[::-1]
    _substitute(triangle[first, first], block[first], lower, unit)
    block[last] -= np.matmul(triangle[last, first], block[first])
    _substitute(triangle[last, last], block[last], lower, unit)


def _leaf(triangle: Any, block: Any, lower: bool, unit: bool) -> Any:
    if has_scipy():
        solve = _function("blas", "trsm", block.dtype.char)
        if block.flags.c_contiguous:  # BLAS reads by columns: this is the transpose of one it knows
            found = solve(1.0, triangle, block.T, side=1, lower=lower, trans_a=1, diag=unit)
            return found.T
        return solve(1.0, triangle, block, lower=lower, diag=unit)
    whole = np.tril(triangle) if lower else np.triu(triangle)
    if unit:
        np.fill_diagonal(whole, 1)
    return np.linalg.solve(whole, block)


# Panels: some columns of a matrix, all rows -------------------------------------------------------


def factored_lu(panel: Any, done: int, *, is_strict: bool) -> tuple[Any, Any]:
    """Factor a panel by Gaussian elimination with partial pivoting.

    Parameters
    ----------
    panel : ndarray, shape (rows, width)
    done : int
        Rows at the top that belong to panels before this one.
    is_strict : bool
        A pivot of zero is an error.

    Returns
    -------
    packed : ndarray, shape (rows, width)
        The rows above, as they are; below, both triangles in one.
    order : ndarray of int, shape (rows,)
        Which row stands where now.

    Raises
    ------
    ImportError
        If SciPy is not here.
    numpy.linalg.LinAlgError
        With `is_strict`, if the matrix is singular.
    """
    if not has_scipy():
        raise ImportError(_MISSING.format(what="the LU decomposition"))
    rows, width = panel.shape
    order = np.arange(rows)
    packed = np.array(panel, order="F")
    if rows > done and width:
        factored, swaps, _ = _function("lapack", "getrf", panel.dtype.char)(packed[done:])
        packed[done:] = factored
        for place, other in enumerate((swaps + done).tolist(), start=done):
            if place != other:
                order[place], order[other] = order[other], order[place]
        if is_strict and not np.diagonal(factored)[: min(rows - done, width)].all():
            raise np.linalg.LinAlgError("Singular matrix")
    return packed, order


def householder(panel: Any, done: int) -> tuple[Any, Any, Any]:
    """Factor a panel by Householder reflections, as LAPACK does.

    The product of the reflections is ``I - V T V*``.

    Returns
    -------
    panel : ndarray
        With the triangle R in the place of what was there, and the rows above as they are.
    vectors : ndarray, shape (rows - done, reflections)
        V: unit lower trapezoidal.
    inner : ndarray, shape (reflections, reflections)
        T.
    """
    packed, factors = np.linalg.qr(panel[done:], mode="raw")
    packed = packed.T
    count = len(factors)
    vectors = np.tril(packed[:, :count], -1)
    np.fill_diagonal(vectors, 1)
    vectors[:, factors == 0] = 0  # no reflection
    inverse = np.triu(adjoint(vectors) @ vectors, 1)
    np.fill_diagonal(inverse, 1 / np.where(factors == 0, 1, factors))
    inner = solved(inverse, np.eye(count, dtype=panel.dtype), lower=False)
    made = panel.copy()
    made[done:] = np.triu(packed)
    return made, vectors, inner
