"""Running sums, products and the like along an axis.

Three steps, none of which depends on the number of blocks in a row: the total of each block; what
goes before each, by one task for each row of totals; and the running totals of each block, begun
with what goes before it. A block is read twice, and nothing of its size is kept in between.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from zcluster.array.axes import identity
from zcluster.array.chunks import is_known, normalize_axis
from zcluster.array.core import Array, asarray, elementwise, rechunked
from zcluster.array.expressions import Blockwise, Concatenate, Gather, Generated
from zcluster.array.reducing import dtype_of_result, has_nan, put_out, without_nan, working_dtype
from zcluster.errors import InvalidArgument

__all__ = [
    "accumulate",
    "cumprod",
    "cumsum",
    "cumulative_prod",
    "cumulative_sum",
    "nancumprod",
    "nancumsum",
]


#: Ufuncs whose arguments may be grouped in any way.
_ASSOCIATIVE = frozenset(
    {
        np.add,
        np.bitwise_and,
        np.bitwise_or,
        np.bitwise_xor,
        np.fmax,
        np.fmin,
        np.gcd,
        np.lcm,
        np.logaddexp,
        np.logical_and,
        np.logical_or,
        np.logical_xor,
        np.maximum,
        np.minimum,
        np.multiply,
    }
)


class _Running:
    """A step on the way to running totals by a ufunc.

    ``"total"`` makes the total of a block, ``"before"`` what goes before each of the blocks in a
    row, and ``"running"`` the running totals of a block. The first block has nothing before it:
    the total that it is told is not used.
    """

    __slots__ = ("axis", "dtype", "stage", "ufunc")

    def __init__(self, stage: str, ufunc: np.ufunc, axis: int, dtype: Any) -> None:
        self.stage = stage
        self.ufunc = ufunc
        self.axis = axis
        self.dtype = dtype

    @property
    def __name__(self) -> str:
        return f"{self.ufunc.__name__}_{self.stage}"

    def __zcluster_tokenize__(self) -> Any:
        return (self.stage, self.ufunc.__name__, self.axis, str(self.dtype))

    def __call__(self, block: Any, before: Any = None, index: Any = None) -> Any:
        axis, ufunc, dtype = self.axis, self.ufunc, working_dtype(self.dtype)
        if self.stage == "total":
            return ufunc.reduce(block, axis=axis, dtype=dtype, keepdims=True)
        if self.stage == "before":
            upto = ufunc.accumulate(block, axis=axis, dtype=dtype)
            return np.concatenate([_cut(block, axis, 0, 1), _cut(upto, axis, 0, -1)], axis)
        found = ufunc.accumulate(block, axis=axis, dtype=dtype)
        if index is not None and index[axis]:
            ufunc(before, found, out=found)
        return found


def _cut(block: Any, axis: int, start: int, stop: int) -> Any:
    return block[(slice(None),) * axis + (slice(start, stop),)]


def accumulate(ufunc: np.ufunc, x: Any, axis: Any = 0, dtype: Any = None) -> Array:
    """Return what a ufunc of two arguments gives of all elements up to each, along an axis.

    Parameters
    ----------
    ufunc : numpy.ufunc
        Of those that are not associative, or not known to be, the axis becomes one chunk.
    x : array_like
    axis : int
    dtype : dtype, optional
        Of the result and in which it is computed.

    Raises
    ------
    InvalidArgument
        If the array has no axis.

    Examples
    --------
    >>> accumulate(np.maximum, asarray([1, 3, 2, 5])).compute()
    array([1, 3, 3, 5])
    """
    x = asarray(x)
    if not x.ndim:
        raise InvalidArgument(f"{ufunc.__name__} of an array without axes: expected one or more")
    axis = normalize_axis(axis, x.ndim)
    dtype = dtype_of_result(ufunc.accumulate, x.dtype, None if dtype is None else np.dtype(dtype))
    asked = x.chunks
    if ufunc not in _ASSOCIATIVE:  # one after the other, in one block
        x = rechunked(x, {axis: -1})
    elif is_known(asked[axis]) and 0 in asked[axis]:  # what is empty has no total
        x = rechunked(x, {axis: tuple(length for length in asked[axis] if length) or (0,)})
    label = f"cum{ufunc.__name__}"
    if len(x.chunks[axis]) == 1:
        made = _blocks(label, _Running("running", ufunc, axis, dtype), [x], x.chunks, dtype)
    else:
        ones = _with_axis(x.chunks, axis, (1,) * len(x.chunks[axis]))
        step = _Running("total", ufunc, axis, dtype)
        totals = _blocks(f"{label}-total", step, [x], ones, dtype)
        rows = _rechunked_axis(totals, axis, (len(ones[axis]),))
        step = _Running("before", ufunc, axis, dtype)
        before = _blocks(f"{label}-before", step, [rows], rows.chunks, dtype)
        step = _Running("running", ufunc, axis, dtype)
        before = _rechunked_axis(before, axis, ones[axis])
        made = _blocks(label, step, [x, before], x.chunks, dtype, (("index", "index"),))
    return made if made.chunks == asked else _rechunked_axis(made, axis, asked[axis])


def _with_axis(chunks: Any, axis: int, lengths: Any) -> Any:
    return (*chunks[:axis], lengths, *chunks[axis + 1 :])


def _rechunked_axis(x: Array, axis: int, lengths: Any) -> Array:
    """Return an array in other chunks along one axis; others may be of unknown lengths."""
    wanted = _with_axis(x.chunks, axis, lengths)
    maps = [identity(length, own) for length, own in zip(x.shape, wanted, strict=True)]
    return Array(Gather(x.expr, maps, label="rechunk"))


def _blocks(
    label: str, step: Any, arrays: list[Array], chunks: Any, dtype: Any, extra: Any = ()
) -> Array:
    along = tuple(range(arrays[0].ndim))
    return Array(
        Blockwise(
            label,
            step,
            [one.expr for one in arrays],
            tuple(range(len(arrays))),
            [along] * len(arrays),
            chunks,
            dtype,
            extra=extra,
        )
    )


def _cumulated(
    ufunc: np.ufunc, x: Any, axis: Any, dtype: Any, out: Any, method: str = "sequential"
) -> Array:
    if method not in ("sequential", "blelloch"):
        raise InvalidArgument(f"method={method!r}: expected 'sequential' or 'blelloch'")
    x = asarray(x)
    if axis is None:
        x, axis = (x if x.ndim == 1 else x.ravel()), 0
    if dtype is None:
        function = np.cumsum if ufunc is np.add else np.cumprod
        dtype = dtype_of_result(function, x.dtype)
    return put_out(accumulate(ufunc, x, axis, dtype), out)


def cumsum(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, method: str = "sequential"
) -> Array:
    """Return the running sums along an axis.

    Parameters
    ----------
    x : array_like
    axis : int or None
        None: of the flat array.
    dtype : dtype, optional
        Of the result and in which it is summed; by default NumPy's.
    out : Array, optional
        Stands for the result from then on.
    method : {'sequential', 'blelloch'}
        Both do the same here: no block waits for the one before it.

    Examples
    --------
    >>> cumsum(asarray([[1, 2], [3, 4]]), axis=0).compute()
    array([[1, 2],
           [4, 6]])
    """
    return _cumulated(np.add, x, axis, dtype, out, method)


def cumprod(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, method: str = "sequential"
) -> Array:
    """Return the running products along an axis; see `cumsum`.

    Examples
    --------
    >>> cumprod(asarray([2, 3, 4])).compute()
    array([ 2,  6, 24])
    """
    return _cumulated(np.multiply, x, axis, dtype, out, method)


def _filled(x: Any, fill: int) -> Array:
    array = asarray(x)
    if not has_nan(array.dtype):
        return array
    return elementwise(without_nan, array, fill, dtype=array.dtype, name="fillnan")


def nancumsum(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, *, method: str = "sequential"
) -> Array:
    """Return the running sums of the elements that are not nan; see `cumsum`.

    Examples
    --------
    >>> nancumsum(asarray([1.0, float("nan"), 2.0])).compute()
    array([1., 1., 3.])
    """
    return _cumulated(np.add, _filled(x, 0), axis, dtype, out, method)


def nancumprod(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, *, method: str = "sequential"
) -> Array:
    """Return the running products of the elements that are not nan; see `cumsum`.

    Examples
    --------
    >>> nancumprod(asarray([2.0, float("nan"), 3.0])).compute()
    array([2., 2., 6.])
    """
    return _cumulated(np.multiply, _filled(x, 1), axis, dtype, out, method)


def _standard(ufunc: np.ufunc, x: Any, axis: Any, dtype: Any, out: Any, initial: bool) -> Array:
    """Return running totals as the array API standard has them."""
    x = asarray(x)
    if axis is None:
        if x.ndim != 1:
            raise ValueError(
                f"an array of {x.ndim} axes: expected axis=, for only arrays of one axis need none"
            )
        axis = 0
    axis = normalize_axis(axis, x.ndim)
    made = _cumulated(ufunc, x, axis, dtype, None)
    if initial:
        chunks = _with_axis(made.chunks, axis, (1,))
        value = made.dtype.type(ufunc.identity)
        first = Generated("initial", partial(_full, value), chunks, made.dtype, is_cheap=True)
        made = Array(Concatenate([first, made.expr], axis))
    return put_out(made, out)


def _full(value: Any, starts: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    return np.full(shape, value)


def cumulative_sum(
    x: Any,
    /,
    *,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    include_initial: bool = False,
) -> Array:
    """Return the running sums along an axis.

    Parameters
    ----------
    x : array_like
    axis : int, optional
        May be left away for arrays of one axis.
    dtype : dtype, optional
        Of the result and in which it is summed.
    out : Array, optional
        Stands for the result from then on.
    include_initial : bool
        Begin with the sum of nothing, so that there is one more.

    Examples
    --------
    >>> cumulative_sum(asarray([1, 2, 3]), include_initial=True).compute()
    array([0, 1, 3, 6])
    """
    return _standard(np.add, x, axis, dtype, out, include_initial)


def cumulative_prod(
    x: Any,
    /,
    *,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    include_initial: bool = False,
) -> Array:
    """Return the running products along an axis; see `cumulative_sum`.

    Examples
    --------
    >>> cumulative_prod(asarray([2, 3, 4])).compute()
    array([ 2,  6, 24])
    """
    return _standard(np.multiply, x, axis, dtype, out, include_initial)


METHODS = {"cumprod": cumprod, "cumsum": cumsum}
