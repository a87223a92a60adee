"""Norms of vectors and matrices, and condition numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from zcluster.array.chunks import normalize_axes
from zcluster.array.core import Array, asarray, elementwise, permuted
from zcluster.array.linalg.preparing import real_type, square, stacked
from zcluster.array.linalg.solving import inv
from zcluster.array.linalg.spectral import svdvals
from zcluster.array.manipulation import astype, moveaxis
from zcluster.array.reductions import max_, min_, sum_
from zcluster.array.slicing import getitem
from zcluster.errors import InvalidArgument

__all__ = ["cond", "matrix_norm", "norm", "vector_norm"]


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    """Return the norm of vectors or matrices.

    Parameters
    ----------
    x : array_like
    ord : int, float, inf, -inf, 'fro' or 'nuc', optional
        As for `numpy.linalg.norm`; by default the square root of the sum of all squares.
    axis : int or tuple of two int, optional
        One axis: norms of vectors; two: norms of matrices. By default all axes.
    keepdims : bool
        The axes stay, with length 1.

    Raises
    ------
    ValueError
        If there is no such norm.

    Examples
    --------
    >>> norm([[3.0, 4.0], [6.0, 8.0]], axis=1).compute()
    array([ 5., 10.])
    """
    array = asarray(x)
    if array.dtype.kind not in "fc":
        array = astype(array, float)
    if axis is None and ord is None:
        return _vector_norm(array, 2, tuple(range(array.ndim)), keepdims)
    axes = normalize_axes(axis, array.ndim)
    if axis is None and len(axes) not in (1, 2):
        raise InvalidArgument(
            f"norm of order {ord!r} of {array.ndim} dimensions; expected one axis for vectors, two "
            "for matrices"
        )
    if len(axes) == 1:
        return _vector_norm(array, 2 if ord is None else ord, axes, keepdims)
    if len(axes) == 2:
        return _matrix_norm(array, "fro" if ord is None else ord, axes, keepdims)
    raise InvalidArgument(f"norm over the axes {axis!r}; expected one, or two for matrices")


def _vector_norm(array: Array, order: Any, axes: tuple[int, ...], keepdims: bool) -> Array:
    if isinstance(order, str):
        raise InvalidArgument(f"norm of order {order!r} for vectors; expected a number")
    real = real_type(array.dtype)
    if order == 2:
        return elementwise(np.sqrt, sum_(_squared(array), axis=axes, keepdims=keepdims))
    moduli = elementwise(np.absolute, array)
    if order == np.inf:
        return max_(moduli, axis=axes, keepdims=keepdims)
    if order == -np.inf:
        return min_(moduli, axis=axes, keepdims=keepdims)
    if order == 0:
        some = astype(elementwise(np.not_equal, array, 0), real)
        return sum_(some, axis=axes, keepdims=keepdims)
    if order == 1:
        return sum_(moduli, axis=axes, keepdims=keepdims)
    powers = sum_(elementwise(np.power, moduli, order), axis=axes, keepdims=keepdims)
    return elementwise(np.power, powers, 1 / order)


def _squared(array: Array) -> Array:
    """Return the squares of the moduli."""
    if array.dtype.kind == "c":
        return elementwise(_squares, array, dtype=real_type(array.dtype), name="square")
    return elementwise(np.square, array)


def _squares(block: Any) -> Any:
    return np.square(block.real) + np.square(block.imag)


def _matrix_norm(array: Array, order: Any, axes: tuple[int, ...], keepdims: bool) -> Array:
    rows, columns = axes
    if order in ("fro", "f"):
        return elementwise(np.sqrt, sum_(_squared(array), axis=axes, keepdims=keepdims))
    if order == "nuc" or order in (2, -2):
        values = svdvals(moveaxis(array, axes, (-2, -1)))
        last = values.ndim - 1
        if order == "nuc":
            found = sum_(values, axis=last)
        else:
            found = (max_ if order == 2 else min_)(values, axis=last)
        if not keepdims:
            return found
        kept = iter(range(found.ndim))
        return permuted(found, [None if axis in axes else next(kept) for axis in range(array.ndim)])
    if order not in (1, -1, np.inf, -np.inf):
        raise InvalidArgument(
            f"norm of order {order!r} for matrices; expected 'fro', 'nuc', 1, -1, 2, -2, inf or "
            "-inf"
        )
    inner, outer = (rows, columns) if abs(order) == 1 else (columns, rows)
    sums = sum_(elementwise(np.absolute, array), axis=inner, keepdims=True)
    largest = max_ if order > 0 else min_
    found = largest(sums, axis=outer, keepdims=True)
    if keepdims:
        return found
    return permuted(found, [axis for axis in range(array.ndim) if axis not in axes])


def vector_norm(
    x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: int | float = 2
) -> Array:
    """Return the norm of vectors, over one axis or several; see `norm`.

    Parameters
    ----------
    x : array_like
    axis : int or tuple of int, optional
        By default all axes.
    keepdims : bool
    ord : int, float, inf or -inf
    """
    array = asarray(x)
    if array.dtype.kind not in "fc":
        array = astype(array, float)
    return _vector_norm(array, ord, normalize_axes(axis, array.ndim), keepdims)


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Array:
    """Return the norm of the matrices in the last two axes; see `norm`."""
    return norm(x, ord, (-2, -1), keepdims)


def cond(x: Any, p: Any = None) -> Array:
    """Return the condition number: how much errors of a right-hand side may grow.

    Parameters
    ----------
    x : array_like, shape (..., m, n)
        Square, unless `p` is None, 2 or -2. With another `p`, a singular matrix in several blocks
        is an error when it is computed; its condition number is infinite.
    p : {None, 1, -1, 2, -2, inf, -inf, 'fro', 'nuc'}
        The norm; None means 2.

    Examples
    --------
    >>> cond([[2.0, 0.0], [0.0, 4.0]]).compute()
    np.float64(2.0)
    """
    if p in (None, 2, -2):
        values = svdvals(x)
        first, last = (getitem(values, (..., place)) for place in (0, values.shape[-1] - 1))
        return last / first if p == -2 else first / last
    array = square(x, "cond")
    if array.ndim > 2 or array.npartitions == 1:
        real = real_type(array.dtype)
        return stacked("cond", _Cond(p), [array], [2], (), real)
    return norm(array, p, (-2, -1)) * norm(inv(array), p, (-2, -1))


class _Cond:
    """Condition numbers of matrices in one block."""

    __slots__ = ("p",)

    def __init__(self, p: Any) -> None:
        self.p = p

    __name__ = "cond"

    def __call__(self, block: Any) -> Any:
        return np.linalg.cond(block, self.p)

    def __zcluster_tokenize__(self) -> Any:
        return ("cond", self.p)
