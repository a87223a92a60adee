"""Functions of lanes: of all elements along an axis, which is brought into one chunk for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from zcluster.array.chunks import normalize_axes, normalize_axis
from zcluster.array.core import Array, asarray, rechunked, unified
from zcluster.array.expressions import Blockwise
from zcluster.array.manipulation import expand_dims
from zcluster.array.restating import check_known
from zcluster.protocol.callables import callable_name

__all__ = ["apply_along_axis", "apply_over_axes", "take_along_axis", "unwrap"]


class _Along:
    """Calls a function with each lane of a block."""

    __slots__ = ("args", "axis", "dtype", "function", "kwargs", "shape")

    def __init__(
        self,
        function: Callable[..., Any],
        axis: int,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self.function = function
        self.axis = axis
        self.args = args
        self.kwargs = kwargs
        self.shape = shape
        self.dtype = dtype

    @property
    def __name__(self) -> str:
        return callable_name(self.function)

    def __call__(self, block: Any) -> Any:
        if not block.size and 0 in (*block.shape[: self.axis], *block.shape[self.axis + 1 :]):
            # A block without lanes: there is nothing to call the function with.
            return np.empty(
                (*block.shape[: self.axis], *self.shape, *block.shape[self.axis + 1 :]), self.dtype
            )
        made = np.apply_along_axis(self.function, self.axis, block, *self.args, **self.kwargs)
        return made.astype(self.dtype, copy=False)

    def __zcluster_tokenize__(self) -> Any:
        return ("along", self.function, self.axis, self.args, self.kwargs, self.shape, self.dtype)


def apply_along_axis(
    func1d: Callable[..., Any],
    axis: int,
    arr: Any,
    *args: Any,
    dtype: Any = None,
    shape: Any = None,
    **kwargs: Any,
) -> Array:
    """Return what a function makes of each lane along an axis.

    Parameters
    ----------
    func1d : callable
        Of an array with one axis.
    axis : int
    arr : array_like
    *args, **kwargs
        Passed on to the function.
    dtype : dtype, optional
    shape : tuple of int, optional
        Of what the function returns. If one of both is not said, the function is called once with
        a lane of ones, now.

    Returns
    -------
    results : Array
        With the axes of what the function returns in the place of the axis.

    Examples
    --------
    >>> apply_along_axis(np.ptp, 1, [[1, 5, 2], [7, 8, 9]]).compute()
    array([4, 2])
    """
    array = asarray(arr)
    axis = normalize_axis(axis, array.ndim)
    check_known(array, [axis], "apply_along_axis")
    if dtype is None or shape is None:
        found = np.asarray(func1d(np.ones(array.shape[axis], array.dtype), *args, **kwargs))
        dtype = found.dtype if dtype is None else dtype
        shape = found.shape if shape is None else shape
    lane = tuple(shape) if isinstance(shape, tuple | list) else (int(shape),)
    source = rechunked(array, {axis: -1})
    new = len(lane)
    chunks = (*source.chunks[:axis], *[(n,) for n in lane], *source.chunks[axis + 1 :])
    axes = (*range(axis), -1, *range(axis + new, array.ndim - 1 + new))
    function = _Along(func1d, axis, args, kwargs, lane, np.dtype(dtype))
    return Array(Blockwise("apply_along_axis", function, [source.expr], [0], [axes], chunks, dtype))


def apply_over_axes(func: Callable[..., Any], a: Any, axes: Any) -> Array:
    """Return what a function makes of an array for one axis after the other.

    Parameters
    ----------
    func : callable
        ``func(array, axis)`` with an array in chunks, such as `sum` of this package; it returns
        one that has as many axes, or one less.
    a : array_like
    axes : int or sequence of int

    Examples
    --------
    >>> from zcluster.array.ufuncs import add
    >>> apply_over_axes(add.reduce, [[1, 2], [3, 4]], [0, 1]).compute()
    array([[10]])
    """
    array = asarray(a)
    for axis in normalize_axes(axes, array.ndim):
        made = asarray(func(array, axis))
        if made.ndim == array.ndim - 1:
            made = expand_dims(made, axis)
        if made.ndim != array.ndim:
            raise ValueError(
                f"function is not returning an array of the correct shape: found {made.ndim} axes; "
                f"expected {array.ndim} or one less"
            )
        array = made
    return array


def unwrap(
    p: Any, discont: float | None = None, axis: int = -1, *, period: float = 2 * np.pi
) -> Array:
    """Return angles without jumps of more than half a period along an axis.

    Examples
    --------
    >>> unwrap([0, 1, 5], period=4).compute()
    array([0, 1, 1])
    """
    array = asarray(p)
    axis = normalize_axis(axis, array.ndim)
    function = partial(np.unwrap, discont=discont, axis=axis, period=period)
    source = rechunked(array, {axis: -1})
    dtype = function(np.ones((1,) * array.ndim, array.dtype)).dtype
    axes = tuple(range(array.ndim))
    return Array(Blockwise("unwrap", function, [source.expr], [0], [axes], source.chunks, dtype))


def _take_along_block(block: Any, indices: Any, *, axis: int) -> Any:
    return np.take_along_axis(block, indices, axis)


def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Array:
    """Return elements of each lane along an axis, by the places that another array says.

    Parameters
    ----------
    arr : array_like
    indices : array_like of int
        Broadcast against `arr` but for the axis.
    axis : int or None
        None: of the flat arrays.

    Raises
    ------
    IndexError
        If `indices` are no integers, or an index is out of range when they are computed.

    Examples
    --------
    >>> take_along_axis([[3, 1, 2]], [[1, 2, 0]], axis=1).compute()
    array([[1, 2, 3]])
    """
    array, places = asarray(arr), asarray(indices)
    if axis is None:
        array, axis = array.ravel(), 0
    if places.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if array.ndim != places.ndim:
        raise ValueError(
            f"`indices` and `arr` must have the same number of dimensions; found {places.ndim} and "
            f"{array.ndim}"
        )
    axis = normalize_axis(axis, array.ndim)
    source = rechunked(array, {axis: -1})
    numbers = tuple(range(array.ndim))
    others = tuple(-1 if n == axis else n for n in numbers)
    (source, places), found = unified([source, places], [others, others])
    chunks = tuple(places.chunks[axis] if n == axis else found[n] for n in numbers)
    mapped = [
        tuple(
            -1 if (one is source and n == axis) or (own != chunks[n] and own == (1,)) else n
            for n, own in enumerate(one.chunks)
        )
        for one in (source, places)
    ]
    return Array(
        Blockwise(
            "take_along_axis",
            partial(_take_along_block, axis=axis),
            [source.expr, places.expr],
            [0, 1],
            mapped,
            chunks,
            array.dtype,
        )
    )
