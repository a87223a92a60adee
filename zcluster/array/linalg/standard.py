"""Names of ``numpy.linalg`` that mean the last two axes, and tensors taken for matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zcluster.array import triangles
from zcluster.array.core import Array, asarray, permuted
from zcluster.array.linalg import products
from zcluster.array.linalg.solving import inv, solve
from zcluster.array.reshaping import ravel, reshape
from zcluster.errors import InvalidArgument

__all__ = ["cross", "diagonal", "outer", "tensorinv", "tensorsolve", "trace"]


def diagonal(x: Any, /, *, offset: int = 0) -> Array:
    """Return a diagonal of the matrices in the last two axes.

    Examples
    --------
    >>> diagonal([[1, 2], [3, 4]]).compute()
    array([1, 4])
    """
    return triangles.diagonal(asarray(x), offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Array:
    """Return the sum of a diagonal of the matrices in the last two axes.

    Examples
    --------
    >>> trace([[1, 2], [3, 4]], offset=1).compute()
    np.int64(2)
    """
    return products.trace(x, offset, -2, -1, dtype)


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Array:
    """Return the cross products of vectors of three elements along an axis."""
    return products.cross(x1, x2, axis=axis)


def outer(x1: Any, x2: Any, /) -> Array:
    """Return the products of each element of one vector with each of another.

    Raises
    ------
    ValueError
        If they are no vectors.
    """
    left, right = asarray(x1), asarray(x2)
    if left.ndim != 1 or right.ndim != 1:
        raise InvalidArgument(
            f"linalg.outer of {left.ndim} and {right.ndim} dimensions; expected 1: outer() takes "
            "any"
        )
    return products.outer(left, right)


def tensorsolve(a: Any, b: Any, axes: Any = None) -> Array:
    """Return x with ``tensordot(a, x, x.ndim) = b``.

    Parameters
    ----------
    a : array_like
        With the shape of `b`, then that of x; the products of both are the same number.
    b : array_like
    axes : sequence of int, optional
        Axes of `a` that belong to x; moved to the end.
    """
    array, right = asarray(a), asarray(b)
    if axes is not None:
        moved = [axis % array.ndim for axis in axes]
        kept = [axis for axis in range(array.ndim) if axis not in moved]
        array = permuted(array, [*kept, *moved])
    shape = array.shape[right.ndim :]
    size = math.prod(shape)
    if array.size != size**2 or right.size != size:
        raise np.linalg.LinAlgError(
            "Input arrays must satisfy the requirement prod(a.shape[b.ndim:]) == "
            f"prod(a.shape[:b.ndim]): found shapes {array.shape} and {right.shape}"
        )
    found = solve(reshape(array, (size, size)), ravel(right))
    return reshape(found, shape)


def tensorinv(a: Any, ind: int = 2) -> Array:
    """Return the inverse of a tensor, with respect to `tensordot` over its last axes.

    Parameters
    ----------
    a : array_like
        The product of the first lengths of its shape is that of the others.
    ind : int
        How many are the first ones.
    """
    array = asarray(a)
    if ind < 1:
        raise InvalidArgument(f"ind={ind!r}; expected 1 or more")
    first, last = array.shape[:ind], array.shape[ind:]
    size = math.prod(first)
    found = inv(reshape(array, (size, math.prod(last))))
    return reshape(found, (*last, *first))
