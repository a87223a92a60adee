"""What is put together of other functions: splitting, inserting, places by number, questions.

Nothing here has an expression of its own.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from zcluster.array.chunks import broadcast_shapes, normalize_axes, normalize_axis
from zcluster.array.core import Array, asarray, elementwise, rechunked
from zcluster.array.creation import zeros
from zcluster.array.joining import concatenate, stack
from zcluster.array.manipulation import (
    astype,
    broadcast_to,
    expand_dims,
    rolled,
    swapaxes,
)
from zcluster.array.ranges import arange
from zcluster.array.reshaping import ravel, reshape
from zcluster.array.restating import check_known
from zcluster.array.ufuncs import maximum, minimum

__all__ = [
    "append",
    "array",
    "array_split",
    "asarray_of",
    "can_cast",
    "copy",
    "delete",
    "diag_indices",
    "diag_indices_from",
    "dsplit",
    "hsplit",
    "insert",
    "ix_",
    "matrix_transpose",
    "ndim",
    "ravel_multi_index",
    "resize",
    "result_type",
    "roll",
    "shape",
    "size",
    "split",
    "trim_zeros",
    "unravel_index",
    "unstack",
    "vsplit",
]


# Arrays of anything -------------------------------------------------------------------------------


def asarray_of(
    a: Any,
    dtype: Any = None,
    order: str | None = None,
    *,
    device: str | None = None,
    copy: bool | None = None,
    like: Any = None,
    chunks: Any = "auto",
) -> Array:
    """Return an array in chunks of anything that NumPy makes an array of.

    Parameters
    ----------
    a : array_like
        Lists may hold arrays in chunks, which stay lazy.
    dtype : dtype, optional
    order, device, copy, like
        As NumPy has them; without effect.
    chunks : optional
        Of what is no array in chunks yet.

    Examples
    --------
    >>> asarray_of([1, 2, 3], dtype=float).compute()
    array([1., 2., 3.])
    >>> x = asarray_of([1, 2])
    >>> asarray_of([x, x + 1]).compute()
    array([[1, 2],
           [2, 3]])
    """
    if isinstance(a, list | tuple) and _holds_lazy(a):
        made = stack([asarray_of(one) for one in a])
    elif isinstance(a, Array):
        made = a
    else:
        made = asarray(np.asarray(a, dtype))
        if made.ndim:
            made = rechunked(made, chunks)
    return made if dtype is None else astype(made, dtype)


def _holds_lazy(items: Sequence[Any]) -> bool:
    return any(
        isinstance(one, Array) or (isinstance(one, list | tuple) and _holds_lazy(one))
        for one in items
    )


def array(
    object: Any,
    dtype: Any = None,
    *,
    copy: bool | None = True,
    order: str | None = None,
    subok: bool = False,
    ndmin: int = 0,
    like: Any = None,
    chunks: Any = "auto",
) -> Array:
    """Return an array in chunks of anything, with `ndmin` axes at least; see `asarray`."""
    made = asarray_of(object, dtype, order, chunks=chunks)
    while made.ndim < ndmin:
        made = expand_dims(made, 0)
    return Array(made.expr)


def copy(a: Any, order: str = "K", subok: bool = False) -> Array:
    """Return an array that is another object: an assignment to one does not change the other."""
    return Array(asarray(a).expr)


# Questions ----------------------------------------------------------------------------------------


def shape(a: Any) -> tuple[Any, ...]:
    """Return the lengths of the axes."""
    return a.shape if isinstance(a, Array) else np.shape(a)


def ndim(a: Any) -> int:
    """Return the number of axes."""
    return a.ndim if isinstance(a, Array) else np.ndim(a)


def size(a: Any, axis: Any = None) -> Any:
    """Return the number of elements, of all or along some axes."""
    lengths = shape(a)
    return math.prod(lengths[n] for n in normalize_axes(axis, len(lengths)))


def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    """Tell whether a dtype, or that of an array, goes over into another by some rule."""
    return np.can_cast(from_.dtype if isinstance(from_, Array) else from_, to, casting)


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """Return the dtype that NumPy's rules give for what is calculated with these.

    Examples
    --------
    >>> result_type(asarray([1]), 1.5)
    dtype('float64')
    """
    given = [one.dtype if isinstance(one, Array) else one for one in arrays_and_dtypes]
    return np.result_type(*given)


# Moving -------------------------------------------------------------------------------------------


def roll(a: Any, shift: Any, axis: Any = None) -> Array:
    """Return an array whose elements are moved; those beyond the end come in front.

    Parameters
    ----------
    a : array_like
    shift : int or tuple of int
        How far.
    axis : int, tuple of int or None
        Along which; None: as if the array were flat.

    Examples
    --------
    >>> roll([1, 2, 3, 4], 1).compute()
    array([4, 1, 2, 3])
    """
    given = asarray(a)
    if axis is None:
        return reshape(roll(ravel(given), shift, 0), given.shape)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    shifts = shift if isinstance(shift, tuple | list) else (shift,)
    if len(axes) != len(shifts) and 1 not in (len(axes), len(shifts)):
        raise ValueError("'shift' and 'axis' should be scalars or 1D sequences of as many items")
    total: dict[int, int] = {}
    for far, one in np.broadcast(shifts, axes):
        number = normalize_axis(one, given.ndim)
        total[number] = total.get(number, 0) + operator.index(far)
    return rolled(given, total)


def matrix_transpose(x: Any, /) -> Array:
    """Return an array with its last two axes exchanged."""
    given = asarray(x)
    if given.ndim < 2:
        raise ValueError(f"Input array must be at least 2-dimensional, but it is {given.ndim}")
    return swapaxes(given, -1, -2)


def resize(a: Any, new_shape: Any) -> Array:
    """Return an array of another shape, with its elements repeated as often as needed.

    Examples
    --------
    >>> resize([1, 2, 3], (2, 2)).compute()
    array([[1, 2],
           [3, 1]])
    """
    flat = ravel(a)
    wanted = tuple(new_shape) if isinstance(new_shape, tuple | list) else (new_shape,)
    if any(n < 0 for n in wanted):
        raise ValueError("all elements of `new_shape` must be non-negative")
    check_known(flat, [0], "resize")
    count, own = math.prod(wanted), flat.shape[0]
    if not own or not count:
        return zeros(wanted, flat.dtype)
    repeated = concatenate([flat] * -(-count // own))
    return reshape(repeated[:count], wanted)


# Parts --------------------------------------------------------------------------------------------


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Return the parts of an array along an axis.

    Parameters
    ----------
    ary : array_like
    indices_or_sections : int or sequence of int
        How many, about as long as each other; or where each begins but the first.
    axis : int

    Examples
    --------
    >>> [part.compute().tolist() for part in array_split([1, 2, 3, 4, 5], 2)]
    [[1, 2, 3], [4, 5]]
    """
    given = asarray(ary)
    axis = normalize_axis(axis, given.ndim)
    check_known(given, [axis], "split")
    length = given.shape[axis]
    if np.ndim(indices_or_sections):
        points = [0, *[int(one) for one in indices_or_sections], length]
    else:
        count = operator.index(indices_or_sections)
        if count <= 0:
            raise ValueError("number sections must be larger than 0.")
        each, rest = divmod(length, count)
        points = [0, *np.cumsum([each + 1] * rest + [each] * (count - rest)).tolist()]
    lead = (slice(None),) * axis
    return [given[(*lead, slice(start, stop))] for start, stop in pairwise(points)]


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Return the parts of an array along an axis, which must be equal; see `array_split`."""
    given = asarray(ary)
    if not np.ndim(indices_or_sections):
        length = given.shape[normalize_axis(axis, given.ndim)]
        if length % indices_or_sections:
            raise ValueError("array split does not result in an equal division")
    return array_split(given, indices_or_sections, axis)


def hsplit(ary: Any, indices_or_sections: Any) -> list[Array]:
    """Return the parts of an array along the second axis, or along the only one."""
    given = asarray(ary)
    if not given.ndim:
        raise ValueError("hsplit only works on arrays of 1 or more dimensions")
    return split(given, indices_or_sections, 1 if given.ndim > 1 else 0)


def vsplit(ary: Any, indices_or_sections: Any) -> list[Array]:
    """Return the parts of an array along the first axis."""
    given = asarray(ary)
    if given.ndim < 2:
        raise ValueError("vsplit only works on arrays of 2 or more dimensions")
    return split(given, indices_or_sections, 0)


def dsplit(ary: Any, indices_or_sections: Any) -> list[Array]:
    """Return the parts of an array along the third axis."""
    given = asarray(ary)
    if given.ndim < 3:
        raise ValueError("dsplit only works on arrays of 3 or more dimensions")
    return split(given, indices_or_sections, 2)


def unstack(x: Any, /, *, axis: int = 0) -> tuple[Array, ...]:
    """Return the arrays that an array is a stack of."""
    given = asarray(x)
    if not given.ndim:
        raise ValueError("Input array must be at least 1-d.")
    axis = normalize_axis(axis, given.ndim)
    check_known(given, [axis], "unstack")
    return tuple(given[(*[slice(None)] * axis, n)] for n in range(given.shape[axis]))


# More and fewer elements --------------------------------------------------------------------------


def append(arr: Any, values: Any, axis: int | None = None) -> Array:
    """Return an array with another after it; with no axis both are flat.

    Examples
    --------
    >>> append([1, 2], [[3], [4]]).compute()
    array([1, 2, 3, 4])
    """
    return concatenate([asarray(arr), asarray(values)], axis)


def _lane(arr: Any, axis: int | None, what: str) -> tuple[Array, int]:
    """Return an array and the axis of it; None: of the flat array."""
    given = asarray(arr)
    if axis is None:
        given, axis = ravel(given), 0
    axis = normalize_axis(axis, given.ndim)
    check_known(given, [axis], what)
    return given, axis


def _at(given: Array, places: Any, axis: int) -> Array:
    made: Array = given[(*[slice(None)] * axis, np.asarray(places, np.int64))]
    return made


def delete(arr: Any, obj: Any, axis: int | None = None) -> Array:
    """Return an array without some of the places along an axis.

    Parameters
    ----------
    arr : array_like
    obj : int, slice or array_like of int or bool
        Which places.
    axis : int, optional
        With none the array is flat.

    Examples
    --------
    >>> delete([1, 2, 3, 4], [0, 2]).compute()
    array([2, 4])
    """
    given, axis = _lane(arr, axis, "delete")
    obj = obj.compute() if isinstance(obj, Array) else obj
    return _at(given, np.delete(np.arange(given.shape[axis]), obj), axis)


def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Array:
    """Return an array with values before some of the places along an axis.

    Parameters
    ----------
    arr : array_like
    obj : int, slice or array_like of int or bool
        Before which places.
    values : array_like
        Broadcast to what is needed, with the dtype of `arr`.
    axis : int, optional
        With none the array is flat.

    Examples
    --------
    >>> insert([1, 2, 3], 1, 9).compute()
    array([1, 9, 2, 3])
    """
    given, axis = _lane(arr, axis, "insert")
    length = given.shape[axis]
    if isinstance(obj, slice):
        places: Any = np.arange(*obj.indices(length))
    else:
        places = np.asarray(obj)
        if places.dtype == np.bool_:
            places = np.flatnonzero(places)
    new = asarray(values)
    if places.size == 1:
        while new.ndim < given.ndim:
            new = expand_dims(new, 0)
        if not places.ndim:
            new = _moved_to(new, axis)
        count = new.shape[axis]
        places = int(places.reshape(()))
    else:
        count = len(places)
    target = (*given.shape[:axis], count, *given.shape[axis + 1 :])
    new = astype(broadcast_to(new, target), given.dtype)
    order = np.insert(np.arange(length), places, np.arange(length, length + count))
    return _at(concatenate([given, new], axis), order, axis)


def _moved_to(values: Array, axis: int) -> Array:
    """Return an array whose first axis is another one now."""
    order = [*range(1, values.ndim)]
    order.insert(axis, 0)
    return values.transpose(order)


def trim_zeros(filt: Any, trim: str = "fb") -> Array:
    """Return an array of one axis without the zeros at its ends; its length is not known then.

    Parameters
    ----------
    filt : array_like
    trim : {'fb', 'f', 'b'}
        At which ends, front or back.
    """
    given = asarray(filt)
    if given.ndim != 1:
        raise NotImplementedError(
            f"trim_zeros of {given.ndim} axes; compute the places with nonzero(x), and slice"
        )
    check_known(given, [0], "trim_zeros")
    length = given.shape[0]
    places = arange(length, chunks=given.chunks)
    some = given != 0
    kept = broadcast_to(asarray(True), (length,), chunks=given.chunks)
    if "f" in trim.lower():
        first = minimum.reduce(
            elementwise(np.where, some, places, length, dtype=np.int64), axis=0, initial=length
        )
        kept = kept & (places >= first)
    if "b" in trim.lower():
        last = maximum.reduce(
            elementwise(np.where, some, places, -1, dtype=np.int64), axis=0, initial=-1
        )
        kept = kept & (places <= last)
    made: Array = given[kept]
    return made


# Places by number ---------------------------------------------------------------------------------


class _Unravelled:
    """One axis of the places that numbers stand for."""

    __slots__ = ("axis", "order", "shape")

    __name__ = "unravel_index"

    def __init__(self, lengths: tuple[int, ...], order: str, axis: int) -> None:
        self.shape = lengths
        self.order = order
        self.axis = axis

    def __call__(self, block: Any) -> Any:
        return np.unravel_index(block, self.shape, self.order)[self.axis]  # type: ignore[call-overload]

    def __zcluster_tokenize__(self) -> Any:
        return ("unravelled", self.shape, self.order, self.axis)


def unravel_index(indices: Any, shape: Any, order: str = "C") -> tuple[Array, ...]:
    """Return the places that elements of a flat array have in one of some shape.

    Examples
    --------
    >>> rows, columns = unravel_index([1, 5], (2, 3))
    >>> rows.compute(), columns.compute()
    (array([0, 1]), array([1, 2]))
    """
    given = asarray(indices)
    if given.dtype.kind not in "iu":
        raise TypeError(f"only int indices permitted; found {given.dtype}")
    lengths = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    return tuple(
        elementwise(_Unravelled(lengths, order, axis), given, dtype=np.int64)
        for axis in range(len(lengths))
    )


def _ravelled(*indices: Any, dims: Any, mode: Any, order: Any) -> Any:
    return np.ravel_multi_index(indices, dims, mode=mode, order=order)


def ravel_multi_index(multi_index: Any, dims: Any, mode: Any = "raise", order: Any = "C") -> Array:
    """Return the numbers that places in an array of some shape have in the flat one.

    Examples
    --------
    >>> ravel_multi_index(([0, 1], [1, 2]), (2, 3)).compute()
    array([1, 5])
    """
    given = [asarray(one) for one in multi_index]
    if not all(one.dtype.kind in "iu" for one in given):
        raise TypeError("only int indices permitted")
    lengths = tuple(dims) if isinstance(dims, tuple | list) else (dims,)
    broadcast_shapes(*[one.shape for one in given])
    return elementwise(
        _ravelled,
        *given,
        dtype=np.int64,
        name="ravel_multi_index",
        dims=lengths,
        mode=mode,
        order=order,
    )


def ix_(*args: Any) -> tuple[Array, ...]:
    """Return arrays of places that pick a grid of elements: ``x[ix_(rows, columns)]``."""
    made = []
    for axis, one in enumerate(args):
        given = asarray(one)
        if given.ndim != 1:
            raise ValueError("Cross index must be 1 dimensional")
        if not given.size:
            given = astype(given, np.intp)
        if given.dtype == np.bool_:
            (given,) = given.nonzero()
        places = tuple(-1 if n == axis else 1 for n in range(len(args)))
        made.append(reshape(given, places))
    return tuple(made)


def diag_indices(n: int, ndim: int = 2) -> tuple[Array, ...]:
    """Return the places of the main diagonal of an array of equal lengths."""
    return (arange(n),) * ndim


def diag_indices_from(arr: Any) -> tuple[Array, ...]:
    """Return the places of the main diagonal of an array."""
    given = asarray(arr)
    if given.ndim < 2:
        raise ValueError("input array must be at least 2-d")
    if len(set(given.shape)) != 1:
        raise ValueError("All dimensions of input must be of equal length")
    return diag_indices(given.shape[0], given.ndim)


METHODS = {"copy": copy}
