"""Arrays side by side in one: `concatenate`, and what is made of it. No task is added for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zcluster.array.chunks import is_known, normalize_axis
from zcluster.array.core import Array, asarray, permuted, unified
from zcluster.array.expressions import Concatenate
from zcluster.array.manipulation import (
    astype,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    expand_dims,
)
from zcluster.array.restating import Restated
from zcluster.errors import InvalidArgument

__all__ = ["block", "column_stack", "concatenate", "dstack", "hstack", "stack", "vstack"]


def concatenate(
    arrays: Sequence[Any],
    axis: int | None = 0,
    allow_unknown_chunksizes: bool = False,
    *,
    dtype: Any = None,
    casting: Any = "same_kind",
) -> Array:
    """Return arrays after each other along an axis.

    Parameters
    ----------
    arrays : sequence of array_like
        Of shapes that agree but for the axis.
    axis : int or None
        None: all of them flat.
    allow_unknown_chunksizes : bool
        Trust that shapes agree where they are not known.
    dtype : dtype, optional
        Of the result; by default one that all fit into.
    casting : str
        Which changes of dtype are allowed.

    Raises
    ------
    ValueError
        If shapes do not agree, or are not known.

    Examples
    --------
    >>> concatenate([[1, 2], [3]]).compute()
    array([1, 2, 3])
    """
    given = [asarray(one) for one in arrays]
    if not given:
        raise ValueError("need at least one array to concatenate")
    if axis is None:
        given, axis = [one.ravel() for one in given], 0
    if not given[0].ndim:
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    axis = normalize_axis(axis, given[0].ndim)
    _check_sides(given, axis, allow_unknown_chunksizes)
    wanted = np.result_type(*[one.dtype for one in given]) if dtype is None else np.dtype(dtype)
    given = [astype(one, wanted, casting=casting) for one in given]
    some = [one for one in given if one.shape[axis] != 0] or given[:1]
    if len(some) == 1:
        return some[0]
    numbers = [tuple(-1 if n == axis else n for n in range(one.ndim)) for one in some]
    some, _ = unified(some, numbers)
    joined = Concatenate([one.expr for one in some], axis)
    known = [is_known(one.chunks[axis]) for one in some]
    if any(known) and not all(known):  # an axis has lengths that are known, or none
        chunks = list(joined.chunks)
        chunks[axis] = (math.nan,) * len(chunks[axis])
        return Array(Restated(joined, tuple(chunks)))
    return Array(joined)


def _check_sides(arrays: Sequence[Array], axis: int, allow_unknown: bool) -> None:
    first = arrays[0]
    for place, one in enumerate(arrays):
        if one.ndim != first.ndim:
            raise ValueError(
                "all the input array dimensions must match: the array at index 0 has "
                f"{first.ndim} dimension(s) and the array at index {place} has {one.ndim}"
            )
        for n, (mine, theirs) in enumerate(zip(one.shape, first.shape, strict=True)):
            if n == axis or mine == theirs:
                continue
            if mine == mine and theirs == theirs:
                raise ValueError(
                    "all the input array dimensions except for the concatenation axis must match "
                    f"exactly, but along dimension {n}, the array at index 0 has size {theirs} and "
                    f"the array at index {place} has size {mine}"
                )
            if not allow_unknown:
                raise InvalidArgument(
                    f"the array at index {place} has an unknown length along axis {n}, or the "
                    "first one has; call compute_chunk_sizes() first, or pass "
                    "allow_unknown_chunksizes=True if you know that they agree"
                )


def stack(
    arrays: Sequence[Any],
    axis: int = 0,
    allow_unknown_chunksizes: bool = False,
    *,
    dtype: Any = None,
    casting: Any = "same_kind",
) -> Array:
    """Return arrays of one shape along a new axis.

    Examples
    --------
    >>> stack([[1, 2], [3, 4]], axis=1).compute()
    array([[1, 3],
           [2, 4]])
    """
    given = [asarray(one) for one in arrays]
    if not given:
        raise ValueError("need at least one array to stack")
    if not allow_unknown_chunksizes and len({str(one.shape) for one in given}) > 1:
        raise ValueError("all input arrays must have the same shape")
    axis = normalize_axis(axis, given[0].ndim + 1)
    return concatenate(
        [expand_dims(one, axis) for one in given],
        axis,
        allow_unknown_chunksizes,
        dtype=dtype,
        casting=casting,
    )


def _side_by_side(
    tup: Any, prepare: Callable[..., Any], axis: int, allow_unknown: bool, kwargs: dict[str, Any]
) -> Array:
    return concatenate([prepare(one) for one in tup], axis, allow_unknown, **kwargs)


def vstack(tup: Sequence[Any], allow_unknown_chunksizes: bool = False, **kwargs: Any) -> Array:
    """Return arrays below each other; those of one axis are rows."""
    return _side_by_side(tup, atleast_2d, 0, allow_unknown_chunksizes, kwargs)


def hstack(tup: Sequence[Any], allow_unknown_chunksizes: bool = False, **kwargs: Any) -> Array:
    """Return arrays side by side: along the second axis, or the first of those that have one."""
    given = [atleast_1d(one) for one in tup]
    axis = 0 if given and given[0].ndim == 1 else 1
    return concatenate(given, axis, allow_unknown_chunksizes, **kwargs)


def dstack(tup: Sequence[Any], allow_unknown_chunksizes: bool = False) -> Array:
    """Return arrays after each other along the third axis."""
    return _side_by_side(tup, atleast_3d, 2, allow_unknown_chunksizes, {})


def column_stack(tup: Sequence[Any]) -> Array:
    """Return arrays side by side; those of one axis are columns."""
    given = [asarray(one) for one in tup]
    return concatenate([atleast_2d(one).T if one.ndim < 2 else one for one in given], 1)


def block(arrays: Any, allow_unknown_chunksizes: bool = False) -> Array:
    """Return an array put together of nested lists of arrays.

    The innermost lists go along the last axis, those around them along the one before, and so on.

    Examples
    --------
    >>> block([[np.ones((1, 2)), np.zeros((1, 1))], [np.ones((1, 3))]]).compute()
    array([[1., 1., 0.],
           [1., 1., 1.]])
    """
    depth, ndim = _depth(arrays)
    ndim = max(depth, ndim)

    def joined(nested: Any, level: int) -> Array:
        if isinstance(nested, list):
            parts = [joined(one, level + 1) for one in nested]
            return concatenate(parts, level - depth, allow_unknown_chunksizes)
        array = asarray(nested)
        axes = [None] * (ndim - array.ndim) + list(range(array.ndim))
        return permuted(array, axes, "block") if len(axes) > array.ndim else array

    return joined(arrays, 0)


def _depth(nested: Any, where: str = "arrays") -> tuple[int, int]:
    """Return how deep lists are nested, and the most axes that one of the arrays has."""
    if isinstance(nested, tuple):
        raise TypeError(
            f"{where} is a tuple. Only lists can be used to arrange blocks, and np.block does not "
            "allow implicit conversion from tuple to ndarray."
        )
    if not isinstance(nested, list):
        return 0, asarray(nested).ndim
    if not nested:
        raise ValueError(f"List at {where} cannot be empty")
    found = [_depth(one, f"{where}[{place}]") for place, one in enumerate(nested)]
    if len({depth for depth, _ in found}) > 1:
        raise ValueError(
            f"List depths are mismatched in {where}: found "
            f"{', '.join(str(depth + 1) for depth, _ in found)}; expected all alike"
        )
    return found[0][0] + 1, max(ndim for _, ndim in found)
