"""Sums, products, extremes and the like: reductions by ufuncs.

They are folds: each becomes one task per block together with the element-wise operations before
it, tile by tile. Sums of float16 are kept in float32 along the way. Means and variances are in
`moments`, where the extremes stand in `positions`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zcluster.array.chunks import normalize_axes
from zcluster.array.core import Array, asarray, elementwise
from zcluster.array.programs import Fold
from zcluster.array.reducing import (
    Extreme,
    LastFold,
    check_where,
    dtype_of_result,
    has_nan,
    put_out,
    reduced,
    reduction,
    without_nan,
    working_dtype,
)

__all__ = [
    "all_",
    "any_",
    "count_nonzero",
    "max_",
    "min_",
    "nanmax",
    "nanmin",
    "nanprod",
    "nansum",
    "prod",
    "ptp",
    "reduction",
    "sum_",
]


def _chosen(where: Any, block: Any, fill: Any) -> Any:
    return np.where(where, block, fill)


def _folded(
    label: str,
    ufunc: np.ufunc,
    a: Any,
    axis: Any,
    dtype: Any,
    keepdims: bool,
    split_every: Any,
    out: Any,
    initial: Any,
    where: Any,
) -> Array:
    """Return the reduction of an array by a ufunc."""
    x = asarray(a)
    axes = normalize_axes(axis, x.ndim)
    if dtype is not None:
        dtype = np.dtype(dtype)
    if initial is np._NoValue:
        initial = None
    result = dtype_of_result(ufunc.reduce, x.dtype, dtype)
    fold, fill = Fold, ufunc.identity
    if fill is None:
        fold, fill = Extreme, initial
        if initial is None:
            _check_some(x, axes, ufunc)
    mask = check_where(x, where)
    if mask is not None:
        if fill is None:
            raise ValueError(
                f"{label} with where= needs initial= as well: the result where nothing is chosen"
            )
        x = elementwise(_chosen, mask, x, fill, dtype=x.dtype, name="where")
    working = working_dtype(result)
    if ufunc in (np.add, np.multiply):
        working = np.dtype(np.float32) if result == np.float16 else working
    elif dtype is None:
        working = None
    step = fold(ufunc, axes, working)
    last = LastFold(ufunc, axes, working, working and result, bool(keepdims), initial)
    made = reduced(
        f"{label}-aggregate",
        x.expr,
        axes,
        (step, step, last),
        result,
        keepdims=keepdims,
        split_every=split_every,
    )
    return put_out(made, out)


def _check_some(x: Array, axes: tuple[int, ...], ufunc: np.ufunc) -> None:
    """Raise NumPy's error if there is nothing to reduce, and a result to be had of it."""
    kept = [length for axis, length in enumerate(x.shape) if axis not in axes]
    if any(x.shape[axis] == 0 for axis in axes) and 0 not in kept:
        raise ValueError(
            f"zero-size array to reduction operation {ufunc.__name__} which has no identity"
        )


# Folds --------------------------------------------------------------------------------------------


def sum_(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """Return the sum of the elements along some axes.

    Parameters
    ----------
    a : array_like
    axis : int, tuple of int or None
        None: all of them.
    dtype : dtype, optional
        Of the result and in which it is summed; by default NumPy's.
    keepdims : bool
        The axes stay, with length 1.
    split_every : int or dict of int, optional
        How many partial results go into one task.
    out : Array, optional
        Stands for the result from then on.
    initial : scalar, optional
        What the sum begins with.
    where : array_like of bool, optional
        The elements that count.

    Examples
    --------
    >>> x = asarray([[1, 2], [3, 4]])
    >>> sum_(x, axis=0).compute()
    array([4, 6])
    """
    return _folded("sum", np.add, a, axis, dtype, keepdims, split_every, out, initial, where)


def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """Return the product of the elements along some axes; see `sum_`.

    Examples
    --------
    >>> int(prod(asarray([2, 3, 4])).compute())
    24
    """
    return _folded("prod", np.multiply, a, axis, dtype, keepdims, split_every, out, initial, where)


def any_(
    a: Any,
    axis: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    where: Any = None,
) -> Array:
    """Tell whether some element along some axes is true.

    Examples
    --------
    >>> any_(asarray([[0, 0], [0, 2]]), axis=1).compute()
    array([False,  True])
    """
    return _folded("any", np.logical_or, a, axis, None, keepdims, split_every, out, None, where)


def all_(
    a: Any,
    axis: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    where: Any = None,
) -> Array:
    """Tell whether all elements along some axes are true.

    Examples
    --------
    >>> all_(asarray([[1, 0], [1, 2]]), axis=1).compute()
    array([False,  True])
    """
    return _folded("all", np.logical_and, a, axis, None, keepdims, split_every, out, None, where)


def min_(
    a: Any,
    axis: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """Return the least element along some axes, nan if one is nan.

    Raises
    ------
    ValueError
        If there are no elements, and no initial value.

    Examples
    --------
    >>> min_(asarray([[3, 1], [2, 4]]), axis=1).compute()
    array([1, 2])
    """
    return _folded("min", np.minimum, a, axis, None, keepdims, split_every, out, initial, where)


def max_(
    a: Any,
    axis: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """Return the greatest element along some axes, nan if one is nan.

    Raises
    ------
    ValueError
        If there are no elements, and no initial value.

    Examples
    --------
    >>> max_(asarray([[3, 1], [2, 4]]), axis=1).compute()
    array([3, 4])
    """
    return _folded("max", np.maximum, a, axis, None, keepdims, split_every, out, initial, where)


def ptp(a: Any, axis: Any = None, keepdims: bool = False, out: Any = None) -> Array:
    """Return the range of the elements along some axes: the greatest minus the least.

    Examples
    --------
    >>> int(ptp(asarray([3, 8, 5])).compute())
    5
    """
    return put_out(max_(a, axis, keepdims) - min_(a, axis, keepdims), out)


# Without nan --------------------------------------------------------------------------------------


def _nan_filled(a: Any, fill: Any) -> Array:
    x = asarray(a)
    if not has_nan(x.dtype):
        return x
    return elementwise(without_nan, x, fill, dtype=x.dtype, name="fillnan")


def nansum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """Return the sum of the elements that are not nan; see `sum_`.

    Examples
    --------
    >>> float(nansum(asarray([1.0, float("nan"), 2.0])).compute())
    3.0
    """
    x = _nan_filled(a, 0)
    return _folded("nansum", np.add, x, axis, dtype, keepdims, split_every, out, initial, where)


def nanprod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """Return the product of the elements that are not nan; see `sum_`.

    Examples
    --------
    >>> float(nanprod(asarray([3.0, float("nan"), 2.0])).compute())
    6.0
    """
    x = _nan_filled(a, 1)
    return _folded(
        "nanprod", np.multiply, x, axis, dtype, keepdims, split_every, out, initial, where
    )


def nanmin(
    a: Any,
    axis: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """Return the least element that is not nan; nan where all are.

    Examples
    --------
    >>> float(nanmin(asarray([3.0, float("nan"), 2.0])).compute())
    2.0
    """
    return _folded("nanmin", np.fmin, a, axis, None, keepdims, split_every, out, initial, where)


def nanmax(
    a: Any,
    axis: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    initial: Any = None,
    where: Any = None,
) -> Array:
    """Return the greatest element that is not nan; nan where all are.

    Examples
    --------
    >>> float(nanmax(asarray([3.0, float("nan"), 2.0])).compute())
    3.0
    """
    return _folded("nanmax", np.fmax, a, axis, None, keepdims, split_every, out, initial, where)


# Counts -------------------------------------------------------------------------------------------


class _CountNonzero:
    """Counts what is not zero in a block."""

    __slots__ = ("axes",)

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes

    __name__ = "count_nonzero"

    def __call__(self, block: Any) -> Any:
        found = np.count_nonzero(block, axis=self.axes, keepdims=True)
        return np.asarray(found, np.intp)

    def __zcluster_tokenize__(self) -> Any:
        return ("count_nonzero", self.axes)


def count_nonzero(
    a: Any, axis: Any = None, *, keepdims: bool = False, split_every: Any = None
) -> Array:
    """Return how many elements along some axes are not zero.

    Examples
    --------
    >>> int(count_nonzero(asarray([0, 3, 0, 5])).compute())
    2
    """
    x = asarray(a)
    axes = normalize_axes(axis, x.ndim)
    dtype = np.dtype(np.intp)
    fold = Fold(np.add, axes, dtype)
    last = LastFold(np.add, axes, dtype, dtype, bool(keepdims))
    return reduced(
        "count_nonzero-aggregate",
        x.expr,
        axes,
        (_CountNonzero(axes), fold, last),
        dtype,
        keepdims=keepdims,
        split_every=split_every,
    )


METHODS = {
    "all": all_,
    "any": any_,
    "max": max_,
    "min": min_,
    "prod": prod,
    "sum": sum_,
}
