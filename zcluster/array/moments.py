"""Means, variances and higher central moments, in one reading of the data.

A mean of known lengths is a fold like a sum, divided at the end. Everything else is put together
from (count, sum, moments about the mean) of each block: what several blocks give is merged by the
formulas of Chan, Golub and LeVeque, and Pébay for higher orders, which never subtract large sums
from each other. So a variance is as exact as one that reads the data twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from zcluster.array.chunks import is_known, normalize_axes
from zcluster.array.core import Array, asarray, elementwise
from zcluster.array.programs import Fold
from zcluster.array.reducing import (
    cast,
    check_where,
    dtype_of_result,
    has_nan,
    is_nan,
    packed,
    put_out,
    reduced,
    working_dtype,
)
from zcluster.array.tiles import TILE
from zcluster.errors import InvalidArgument

__all__ = ["mean", "moment", "nanmean", "nanstd", "nanvar", "std", "var"]


# Means --------------------------------------------------------------------------------------------


class _LastMean:
    """The mean of sums, whose count is known."""

    __slots__ = ("axes", "count", "dtype", "keepdims", "result")

    def __init__(
        self, axes: tuple[int, ...], count: int, dtype: Any, result: Any, keepdims: bool
    ) -> None:
        self.axes = axes
        self.count = count
        self.dtype = dtype
        self.result = result
        self.keepdims = keepdims

    __name__ = "mean_agg"

    def __call__(self, parts: Any) -> Any:
        total: Any = np.add.reduce(parts, axis=self.axes, dtype=self.dtype, keepdims=True)
        if not self.keepdims:
            total = np.squeeze(total, self.axes)
        return cast(_divided(total, self.count), self.result)

    def __zcluster_tokenize__(self) -> Any:
        return ("mean", self.axes, self.count, str(self.dtype), str(self.result), self.keepdims)


def _divided(total: Any, count: Any) -> Any:
    """Return the quotient, nan where there is nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.true_divide(total, count)


class _Wanted(NamedTuple):
    """What is made of the moments.

    Attributes
    ----------
    axes : tuple of int
    order : int
        Of the highest moment; 1: the mean is wanted.
    working : str
        The dtype in which it is computed.
    result : str
        The dtype of what comes out.
    skips_nan : bool
    keepdims : bool
    ddof : float
        What the count is lessened by before dividing.
    is_root : bool
        The root is wanted.
    is_absolute : bool
        Powers are those of absolute values: the variance of complex numbers is real.
    """

    axes: tuple[int, ...]
    order: int
    working: str
    result: str
    skips_nan: bool
    keepdims: bool
    ddof: Any
    is_root: bool
    is_absolute: bool


class _Step:
    """A step on the way to moments.

    ``"chunk"`` makes (count, sum, sums of the powers of what is apart from the mean) of a block,
    or of a pair of blocks that also says what counts; ``"combine"`` the same of several; and
    ``"last"`` what is wanted of that.
    """

    __slots__ = ("stage", "wanted")

    def __init__(self, stage: str, wanted: _Wanted) -> None:
        self.stage = stage
        self.wanted = wanted

    @property
    def __name__(self) -> str:
        return f"moments_{self.stage}"

    def __zcluster_tokenize__(self) -> Any:
        return ("moments", self.stage, tuple(self.wanted))

    def __call__(self, given: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.stage == "chunk":
                return self._of_block(given)
            merged = self._merged(*given)
            return merged if self.stage == "combine" else self._result(merged)

    def _of_block(self, given: Any) -> tuple[Any, ...]:
        block, where = given if type(given) is tuple else (given, None)
        axes, dtype = self.wanted.axes, working_dtype(self.wanted.working)
        if self.wanted.skips_nan:
            missing = is_nan(block)
            if missing.any():
                where = ~missing if where is None else where & ~missing
                block = np.where(missing, 0, block)
        if where is None:
            length = math.prod(block.shape[axis] for axis in axes)
            total = np.add.reduce(block, axis=axes, dtype=dtype, keepdims=True)
            # With nan in other blocks counts may differ from lane to lane.
            shape = np.shape(total) if self.wanted.skips_nan else (1,) * block.ndim
            count = np.full(shape, length, np.int64)
        else:
            where = np.broadcast_to(where, block.shape)
            count = np.add.reduce(where, axis=axes, dtype=np.int64, keepdims=True)
            total = np.add.reduce(block, axis=axes, dtype=dtype, keepdims=True, where=where)
        if self.wanted.order < 2:
            return count, total
        means = _means(total, count)
        if where is None:
            return count, total, *self._powers_of(block, means, dtype)
        apart = np.where(where, np.subtract(block, means, dtype=dtype), 0)
        return count, total, *self._powers(apart)

    def _powers_of(self, block: Any, means: Any, dtype: Any) -> list[Any]:
        """Return the sums of powers of what is apart from the means.

        Of a large block some rows at a time: they stay in the cache, and nothing as large as the
        block is made.
        """
        if type(block) is not np.ndarray or block.size < 4 * TILE:
            return self._powers(np.subtract(block, means, dtype=dtype))
        axis = int(np.argmax(np.abs(block.strides)))
        length = block.shape[axis]
        step = max(TILE * length // block.size, 1)
        found: list[list[Any]] = []
        for start in range(0, length, step):
            place = (*[slice(None)] * axis, slice(start, start + step))
            near = means if means.shape[axis] == 1 else means[place]
            made = self._powers(np.subtract(block[place], near, dtype=dtype))
            if found and axis in self.wanted.axes:
                found = [[sums[0] + one] for sums, one in zip(found, made, strict=True)]
            elif found:
                found = [[*parts, one] for parts, one in zip(found, made, strict=True)]
            else:
                found = [[one] for one in made]
        return [np.concatenate(parts, axis) if len(parts) > 1 else parts[0] for parts in found]

    def _powers(self, apart: Any) -> list[Any]:
        """Return the sums of powers; what they are of may be written into."""
        if self.wanted.is_absolute:
            return [self._sum(_square(apart))]
        if self.wanted.order == 2:
            return [self._sum(np.multiply(apart, apart, out=apart) if apart.ndim else apart**2)]
        found, power = [], apart
        for _ in range(self.wanted.order - 1):
            power = power * apart
            found.append(self._sum(power))
        return found

    def _sum(self, values: Any) -> Any:
        return np.add.reduce(values, axis=self.wanted.axes, keepdims=True)

    def _merged(self, count: Any, total: Any, *powers: Any) -> tuple[Any, ...]:
        counts, totals = self._sum(count), self._sum(total)
        if self.wanted.order < 2:
            return counts, totals
        # How far the means of the parts are from the mean of all; what is empty does not count.
        apart = np.where(count > 0, _means(total, count) - _means(totals, counts), 0)
        if self.wanted.is_absolute:
            return counts, totals, self._sum(powers[0] + count * _square(apart))
        merged = []
        for order in range(2, self.wanted.order + 1):
            value = powers[order - 2] + count * apart**order
            for k in range(1, order - 1):
                value = value + math.comb(order, k) * powers[order - k - 2] * apart**k
            merged.append(self._sum(value))
        return counts, totals, *merged

    def _result(self, merged: tuple[Any, ...]) -> Any:
        wanted, count = self.wanted, merged[0]
        if wanted.order < 2:
            found = np.true_divide(merged[1], count)
        else:
            left = np.maximum(count - wanted.ddof, 0)
            if wanted.skips_nan:  # of too few there is no variance
                left = np.where(left > 0, left, np.nan)
            found = np.true_divide(merged[-1], left)
        if wanted.is_root:
            found = np.sqrt(found)
        if not wanted.keepdims:
            found = np.squeeze(found, wanted.axes)
        return cast(found, np.dtype(wanted.result))


def _square(values: Any) -> Any:
    """Return the squares of the absolute values of complex numbers."""
    return values.real**2 + values.imag**2


def _means(total: Any, count: Any) -> Any:
    """Return the means, 0 where there is nothing."""
    total = np.asarray(total)
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def _made(
    label: str,
    a: Any,
    axis: Any,
    order: int,
    dtype: Any,
    result: Any,
    keepdims: bool,
    split_every: Any,
    where: Any,
    *,
    skips_nan: bool = False,
    ddof: Any = 0,
    is_root: bool = False,
    is_absolute: bool = False,
) -> Array:
    """Return a moment of an array, of what is chosen."""
    x = asarray(a)
    working = np.dtype(x.dtype if dtype is None else dtype)
    if working.kind in "biu":
        working = np.dtype(np.float64)
    elif working == np.float16:
        working = np.dtype(np.float32)
    wanted = _Wanted(
        normalize_axes(axis, x.ndim),
        order,
        str(working),
        str(result),
        skips_nan and has_nan(x.dtype),
        bool(keepdims),
        ddof,
        is_root,
        is_absolute and working.kind == "c",
    )
    mask = check_where(x, where)
    source = x.expr if mask is None else packed((label, tuple(wanted)), x, mask)
    return reduced(
        f"{label}-aggregate",
        source,
        wanted.axes,
        (_Step("chunk", wanted), _Step("combine", wanted), _Step("last", wanted)),
        result,
        keepdims=keepdims,
        split_every=split_every,
    )


def mean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    where: Any = None,
) -> Array:
    """Return the mean of the elements along some axes; nan of none.

    Parameters
    ----------
    a : array_like
    axis : int, tuple of int or None
        None: all of them.
    dtype : dtype, optional
        Of the result and in which it is computed; by default NumPy's.
    keepdims : bool
        The axes stay, with length 1.
    split_every : int or dict of int, optional
        How many partial results go into one task.
    out : Array, optional
        Stands for the result from then on.
    where : array_like of bool, optional
        The elements that count.

    Examples
    --------
    >>> mean(asarray([[1, 2], [3, 5]]), axis=0).compute()
    array([2. , 3.5])
    """
    x = asarray(a)
    axes = normalize_axes(axis, x.ndim)
    result = dtype_of_result(np.mean, x.dtype, dtype)
    label = "mean_agg"
    if check_where(x, where) is not None or not all(is_known(x.chunks[axis]) for axis in axes):
        made = _made(label, x, axes, 1, dtype, result, keepdims, split_every, where)
        return put_out(made, out)
    working = np.dtype(np.float32) if result == np.float16 else working_dtype(result)
    fold = Fold(np.add, axes, working)
    count = math.prod(x.shape[axis] for axis in axes)
    last = _LastMean(axes, count, working, result, bool(keepdims))
    made = reduced(
        f"{label}-aggregate",
        x.expr,
        axes,
        (fold, fold, last),
        result,
        keepdims=keepdims,
        split_every=split_every,
    )
    return put_out(made, out)


def nanmean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: bool = False,
    split_every: Any = None,
    out: Any = None,
    *,
    where: Any = None,
) -> Array:
    """Return the mean of the elements that are not nan; see `mean`.

    Examples
    --------
    >>> float(nanmean(asarray([1.0, float("nan"), 4.0])).compute())
    2.5
    """
    x = asarray(a)
    if not has_nan(x.dtype):
        return mean(x, axis, dtype, keepdims, split_every, out, where=where)
    result = dtype_of_result(np.nanmean, x.dtype, dtype)
    made = _made(
        "nanmean_agg", x, axis, 1, dtype, result, keepdims, split_every, where, skips_nan=True
    )
    return put_out(made, out)


# Variances ----------------------------------------------------------------------------------------


def _variance(
    label: str,
    function: Callable[..., Any],
    a: Any,
    axis: Any,
    dtype: Any,
    keepdims: bool,
    ddof: Any,
    split_every: Any,
    out: Any,
    where: Any,
    correction: Any,
) -> Array:
    if correction is not None:
        if ddof != 0:
            raise InvalidArgument("ddof and correction are the same; give one of them")
        ddof = correction
    x = asarray(a)
    made = _made(
        label,
        x,
        axis,
        2,
        dtype,
        dtype_of_result(function, x.dtype, dtype),
        keepdims,
        split_every,
        where,
        skips_nan="nan" in label,
        ddof=ddof,
        is_root="std" in label,
        is_absolute=True,
    )
    return put_out(made, out)


def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: bool = False,
    ddof: Any = 0,
    split_every: Any = None,
    out: Any = None,
    *,
    where: Any = None,
    correction: Any = None,
) -> Array:
    """Return the variance of the elements along some axes.

    Parameters
    ----------
    a, axis, dtype, keepdims, split_every, out, where
        As in `mean`.
    ddof : float
        The sum of squares is divided by the count less this.
    correction : float, optional
        Another name of `ddof`.

    Examples
    --------
    >>> float(var(asarray([1.0, 2.0, 3.0, 6.0])).compute())
    3.5
    """
    return _variance(
        "var_agg", np.var, a, axis, dtype, keepdims, ddof, split_every, out, where, correction
    )


def std(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: bool = False,
    ddof: Any = 0,
    split_every: Any = None,
    out: Any = None,
    *,
    where: Any = None,
    correction: Any = None,
) -> Array:
    """Return the standard deviation of the elements along some axes; see `var`.

    Examples
    --------
    >>> float(std(asarray([1.0, 3.0])).compute())
    1.0
    """
    return _variance(
        "std_agg", np.std, a, axis, dtype, keepdims, ddof, split_every, out, where, correction
    )


def nanvar(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: bool = False,
    ddof: Any = 0,
    split_every: Any = None,
    out: Any = None,
    *,
    where: Any = None,
    correction: Any = None,
) -> Array:
    """Return the variance of the elements that are not nan; see `var`.

    Examples
    --------
    >>> float(nanvar(asarray([1.0, float("nan"), 3.0])).compute())
    1.0
    """
    return _variance(
        "nanvar_agg", np.nanvar, a, axis, dtype, keepdims, ddof, split_every, out, where, correction
    )


def nanstd(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: bool = False,
    ddof: Any = 0,
    split_every: Any = None,
    out: Any = None,
    *,
    where: Any = None,
    correction: Any = None,
) -> Array:
    """Return the standard deviation of the elements that are not nan; see `var`.

    Examples
    --------
    >>> float(nanstd(asarray([1.0, float("nan"), 3.0])).compute())
    1.0
    """
    return _variance(
        "nanstd_agg", np.nanstd, a, axis, dtype, keepdims, ddof, split_every, out, where, correction
    )


def moment(
    a: Any,
    order: int,
    axis: Any = None,
    dtype: Any = None,
    keepdims: bool = False,
    ddof: Any = 0,
    split_every: Any = None,
    out: Any = None,
) -> Array:
    """Return a central moment: the mean of a power of how far the elements are from their mean.

    Parameters
    ----------
    a : array_like
    order : int
        The power; 2 gives the variance.
    axis, dtype, keepdims, split_every, out
        As in `mean`.
    ddof : float
        The sum is divided by the count less this.

    Raises
    ------
    InvalidArgument
        If the order is no integer of 0 or more.

    Examples
    --------
    >>> float(moment(asarray([1.0, 2.0, 6.0]), 3).compute())
    6.0
    """
    if int(order) != order or order < 0:
        raise InvalidArgument(f"order={order!r}: expected an integer of 0 or more")
    x = asarray(a)
    result = dtype_of_result(np.mean, x.dtype, dtype)
    if order < 2:  # whatever the elements are
        constant = mean(x, axis, dtype, keepdims, split_every)
        return put_out(elementwise(np.full_like, constant, 1 - int(order), dtype=result), out)
    made = _made(
        "moment_agg", x, axis, int(order), dtype, result, keepdims, split_every, None, ddof=ddof
    )
    return put_out(made, out)


METHODS = {"mean": mean, "moment": moment, "std": std, "var": var}
