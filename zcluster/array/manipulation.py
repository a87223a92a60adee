"""Axes in another order, elements in another place; nothing is calculated.

All of it is made of `Dims` (axes permuted, put in, taken out) and `Gather` (elements along an axis
in another order), which cost no tasks of their own where somebody calculates with the result.
Arrays side by side are in `joining`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zcluster.array.axes import AxisMap, identity, of_indices, of_slice
from zcluster.array.chunks import (
    Chunks,
    broadcast_shapes,
    is_known,
    normalize_axes,
    normalize_axis,
    normalize_chunks,
)
from zcluster.array.core import Array, asarray, elementwise, permuted, rechunked, unified
from zcluster.array.expressions import Blockwise, Concatenate, Gather
from zcluster.array.restating import check_known
from zcluster.errors import InvalidArgument

__all__ = [
    "astype",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_to",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "moveaxis",
    "repeat",
    "rollaxis",
    "rolled",
    "rot90",
    "squeeze",
    "swapaxes",
    "tile",
    "transpose",
]


class _Cast:
    """The function of `astype`."""

    __slots__ = ("casting", "dtype")

    __name__ = "astype"

    def __init__(self, dtype: np.dtype[Any], casting: Any) -> None:
        self.dtype = dtype
        self.casting = casting

    def __call__(self, block: Any) -> Any:
        made: Any = np.asarray(block)
        return made.astype(self.dtype, casting=self.casting, copy=False)

    def __zcluster_tokenize__(self) -> Any:
        return ("astype", self.dtype, self.casting)


def astype(
    x: Any,
    dtype: Any,
    order: str = "K",
    casting: Any = "unsafe",
    subok: bool = True,
    copy: bool = True,
    *,
    device: str | None = None,
) -> Array:
    """Return an array with its elements as another type.

    Parameters
    ----------
    x : array_like
    dtype : dtype
    order, subok, copy
        As NumPy has them; without effect, since a lazy array has no memory that could be shared.
    casting : {'no', 'equiv', 'safe', 'same_kind', 'unsafe'}
        Which changes are allowed.
    device : str, optional
        ``"cpu"``, as the Array API has it.

    Raises
    ------
    TypeError
        If `casting` does not allow it.

    Examples
    --------
    >>> astype([1.5, 2.5], "i8").compute()
    array([1, 2])
    """
    array = asarray(x)
    wanted = np.dtype(dtype)
    if array.dtype == wanted:
        return Array(array.expr)
    if not np.can_cast(array.dtype, wanted, casting):
        raise TypeError(
            f"Cannot cast array data from {array.dtype!r} to {wanted!r} according to the rule "
            f"{casting!r}"
        )
    return elementwise(_Cast(wanted, casting), array, dtype=wanted, name="astype")


# Axes ---------------------------------------------------------------------------------------------


def transpose(a: Any, axes: Any = None) -> Array:
    """Return an array with its axes permuted, by default reversed.

    Parameters
    ----------
    a : array_like
    axes : sequence of int, optional
        For each axis of the result the axis of `a`.

    Raises
    ------
    ValueError
        If `axes` is no permutation.

    Examples
    --------
    >>> transpose([[1, 2], [3, 4]]).compute()
    array([[1, 3],
           [2, 4]])
    """
    array = asarray(a)
    if axes is None:
        order: tuple[int, ...] = tuple(range(array.ndim))[::-1]
    else:
        if len(axes) != array.ndim:
            raise ValueError(f"axes {tuple(axes)!r} don't match an array of {array.ndim} axes")
        order = normalize_axes(tuple(axes), array.ndim)
    return permuted(array, order)


def _transpose_method(array: Array, *axes: Any) -> Array:
    """Return the array with its axes permuted: ``x.transpose(1, 0)``, or all reversed."""
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list)):
        return transpose(array, axes[0])
    return transpose(array, axes or None)


def swapaxes(a: Any, axis1: int, axis2: int) -> Array:
    """Return an array with two axes exchanged."""
    array = asarray(a)
    order = list(range(array.ndim))
    first, second = normalize_axis(axis1, array.ndim), normalize_axis(axis2, array.ndim)
    order[first], order[second] = second, first
    return permuted(array, order)


def moveaxis(a: Any, source: Any, destination: Any) -> Array:
    """Return an array with some axes in other places; the others keep their order.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> moveaxis(from_numpy(np.ones((2, 3, 4))), 0, -1).shape
    (3, 4, 2)
    """
    array = asarray(a)
    taken, put = normalize_axes(source, array.ndim), normalize_axes(destination, array.ndim)
    if len(taken) != len(put):
        raise ValueError(
            f"source {source!r} names {len(taken)} axes and destination {destination!r} {len(put)};"
            " expected as many"
        )
    order = [axis for axis in range(array.ndim) if axis not in taken]
    for where, axis in sorted(zip(put, taken, strict=True)):
        order.insert(where, axis)
    return permuted(array, order)


def rollaxis(a: Any, axis: int, start: int = 0) -> Array:
    """Return an array with an axis moved before the axis `start`."""
    array = asarray(a)
    number = normalize_axis(axis, array.ndim)
    if not -array.ndim <= start <= array.ndim:
        raise np.exceptions.AxisError(
            f"'start' arg requires {-array.ndim} <= start < {array.ndim + 1}, but {start} was "
            "passed in"
        )
    place = start + array.ndim if start < 0 else start
    return moveaxis(array, number, place - 1 if number < place else place)


def expand_dims(a: Any, axis: Any) -> Array:
    """Return an array with axes of length 1 put in, where they are to be in the result."""
    array = asarray(a)
    count = len(axis) if isinstance(axis, tuple | list) else 1
    ndim = array.ndim + count
    new = normalize_axes(axis, ndim)
    old = iter(range(array.ndim))
    return permuted(array, [None if n in new else next(old) for n in range(ndim)], "expand_dims")


def squeeze(a: Any, axis: Any = None) -> Array:
    """Return an array without its axes of length 1, or without those that are named.

    Raises
    ------
    ValueError
        If a named axis has another length.
    """
    array = asarray(a)
    if axis is None:
        gone = tuple(n for n, length in enumerate(array.shape) if length == 1)
    else:
        gone = normalize_axes(axis, array.ndim)
        if any(array.shape[n] != 1 for n in gone):
            raise ValueError(
                "cannot select an axis to squeeze out which has size not equal to one; found "
                f"axis={axis!r} of shape {array.shape}"
            )
    if any(len(array.chunks[n]) > 1 for n in gone):  # some of them are empty
        array = rechunked(array, dict.fromkeys(gone, -1))
    return permuted(array, [n for n in range(array.ndim) if n not in gone], "squeeze")


def _atleast(ndim: int, axes: dict[int, tuple[int | None, ...]], arrays: Sequence[Any]) -> Any:
    made = []
    for one in arrays:
        array = asarray(one)
        made.append(array if array.ndim >= ndim else permuted(array, axes[array.ndim], "atleast"))
    return made[0] if len(made) == 1 else tuple(made)


def atleast_1d(*arys: Any) -> Any:
    """Return arrays with one axis at least; several as a tuple."""
    return _atleast(1, {0: (None,)}, arys)


def atleast_2d(*arys: Any) -> Any:
    """Return arrays with two axes at least; several as a tuple.

    Examples
    --------
    >>> atleast_2d([1, 2, 3]).shape
    (1, 3)
    """
    return _atleast(2, {0: (None, None), 1: (None, 0)}, arys)


def atleast_3d(*arys: Any) -> Any:
    """Return arrays with three axes at least; several as a tuple."""
    return _atleast(3, {0: (None,) * 3, 1: (None, 0, None), 2: (0, 1, None)}, arys)


# Broadcasting -------------------------------------------------------------------------------------


def _broadcast_block(block: Any, shape: tuple[int, ...]) -> Any:
    if -1 in shape:  # an axis of unknown length, along which the block does not grow
        own = (1,) * (len(shape) - block.ndim) + block.shape
        shape = tuple(mine if n < 0 else n for mine, n in zip(own, shape, strict=True))
    return np.broadcast_to(block, shape)


def broadcast_to(
    array: Any, shape: Any, subok: bool = False, *, chunks: Any = None, meta: Any = None
) -> Array:
    """Return an array repeated along new axes, and along those of length 1.

    Parameters
    ----------
    array : array_like
    shape : int or tuple of int
    subok, meta
        Without effect.
    chunks : optional
        Of the axes that are new or grow; by default as long as one block may be.

    Raises
    ------
    ValueError
        If the shapes do not go together.

    Examples
    --------
    >>> broadcast_to([1, 2], (2, 2)).compute()
    array([[1, 2],
           [1, 2]])
    """
    given = asarray(array)
    wanted = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if given.shape == wanted:
        return Array(given.expr)
    new = len(wanted) - given.ndim
    fits = new >= 0 and all(
        length in (1, one) or (length != length and one != one)
        for length, one in zip(given.shape, wanted[max(new, 0) :], strict=True)
    )
    if not fits:
        raise ValueError(f"cannot broadcast shape {given.shape} to shape {wanted}")
    own = (None,) * new + given.chunks
    grows = [one is None or (sum(one) == 1 and n != 1) for one, n in zip(own, wanted, strict=True)]
    if chunks is None:
        # How long a new chunk may be is not known where the others are not.
        free = "auto" if all(map(is_known, given.chunks)) else -1
        spread: list[Any] = [free if grow else one for one, grow in zip(own, grows, strict=True)]
        said = normalize_chunks(tuple(spread), wanted, given.dtype)
    else:
        said = normalize_chunks(chunks, wanted, given.dtype)
        given = rechunked(
            given, tuple((1,) if g else c for g, c in zip(grows[new:], said[new:], strict=True))
        )
    return _broadcast(given, said)


def _broadcast(given: Array, chunks: Chunks) -> Array:
    """Repeat an array so that it has these chunks; where it does not grow it has them already."""
    new = len(chunks) - given.ndim
    axes = tuple(-1 if own != chunks[n] else n for n, own in enumerate(given.chunks, start=new))
    return Array(
        Blockwise(
            "broadcast_to",
            _broadcast_block,
            [given.expr],
            [0],
            [axes],
            chunks,
            given.dtype,
            is_elementwise=True,
            extra=(("shape", "shape"),),
        )
    )


def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Array, ...]:
    """Return arrays repeated so that they have one shape and the same chunks."""
    arrays = [asarray(one) for one in args]
    shape = broadcast_shapes(*[one.shape for one in arrays])
    ndim = len(shape)
    numbers = [tuple(range(ndim - one.ndim, ndim)) for one in arrays]
    arrays, found = unified(arrays, numbers)
    chunks = tuple(found[n] for n in range(ndim))
    for one in arrays:
        for own, wanted in zip(one.chunks[::-1], chunks[::-1], strict=False):
            if not is_known(wanted) and is_known(own):
                raise InvalidArgument(
                    f"an array of shape {one.shape} cannot be repeated along an axis of unknown "
                    f"length, in {shape}; call compute_chunk_sizes() first"
                )
    return tuple(one if one.chunks == chunks else _broadcast(one, chunks) for one in arrays)


# Elements in another place ------------------------------------------------------------------------


def _gathered(array: Array, maps: dict[int, AxisMap], label: str) -> Array:
    every = [
        maps[axis] if axis in maps else identity(length, own)
        for axis, (length, own) in enumerate(zip(array.shape, array.chunks, strict=True))
    ]
    return Array(Gather(array.expr, every, label=label))


def flip(m: Any, axis: Any = None) -> Array:
    """Return an array backwards along some axes, by default all.

    Examples
    --------
    >>> flip([1, 2, 3]).compute()
    array([3, 2, 1])
    """
    array = asarray(m)
    axes = normalize_axes(axis, array.ndim)
    check_known(array, axes, "flip")
    maps = {}
    for n in axes:
        if array.shape[n] > 1:
            maps[n] = of_slice(array.shape[n] - 1, array.shape[n], -1, array.chunks[n])
    return _gathered(array, maps, "flip") if maps else Array(array.expr)


def flipud(m: Any) -> Array:
    """Return an array backwards along the first axis."""
    array = asarray(m)
    if array.ndim < 1:
        raise ValueError("Input must be >= 1-d.")
    return flip(array, 0)


def fliplr(m: Any) -> Array:
    """Return an array backwards along the second axis."""
    array = asarray(m)
    if array.ndim < 2:
        raise ValueError("Input must be >= 2-d.")
    return flip(array, 1)


def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Array:
    """Return an array turned `k` times by 90 degrees, from the first of two axes to the second."""
    array = asarray(m)
    if len(axes) != 2:
        raise ValueError("len(axes) must be 2.")
    first, second = normalize_axes(tuple(axes), array.ndim)
    turns = k % 4
    if turns == 0:
        return Array(array.expr)
    if turns == 2:
        return flip(array, (first, second))
    if turns == 1:
        return swapaxes(flip(array, second), first, second)
    return flip(swapaxes(array, first, second), second)


def rolled(array: Array, shifts: dict[int, int]) -> Array:
    """Return an array whose elements are moved along axes; those beyond the end come in front.

    Parameters
    ----------
    array : Array
    shifts : dict
        By axis, how far.
    """
    check_known(array, list(shifts), "roll")
    maps = {}
    for axis, shift in shifts.items():
        length = array.shape[axis]
        turn = shift % length if length else 0
        if turn:
            starts = np.array([length - turn, 0], np.int64)
            counts = np.array([turn, length - turn], np.int64)
            maps[axis] = AxisMap(starts, counts, np.ones(2, np.int64), array.chunks[axis])
    return _gathered(array, maps, "roll") if maps else Array(array.expr)


def tile(A: Any, reps: Any) -> Array:
    """Return an array after itself several times along each axis.

    Examples
    --------
    >>> tile([1, 2], 2).compute()
    array([1, 2, 1, 2])
    """
    array = asarray(A)
    counts = tuple(reps) if np.iterable(reps) else (reps,)
    if any(count < 0 for count in counts):
        raise ValueError(f"reps={reps!r}: negative dimensions are not allowed")
    ndim = max(array.ndim, len(counts))
    counts = (1,) * (ndim - len(counts)) + tuple(int(count) for count in counts)
    lead = ndim - array.ndim
    if lead:
        array = permuted(array, [None] * lead + list(range(array.ndim)), "tile")
    for axis, count in enumerate(counts):
        if count == 0:
            check_known(array, [axis], "tile by 0")
            array = _gathered(array, {axis: of_slice(0, 0, 1, array.chunks[axis])}, "tile")
        elif count > 1:
            array = Array(Concatenate([array.expr] * count, axis))
    return array


class _Repeat:
    """The function of `repeat`: of each block, a number of times."""

    __slots__ = ("axis", "count")

    __name__ = "repeat"

    def __init__(self, count: int, axis: int) -> None:
        self.count = count
        self.axis = axis

    def __call__(self, block: Any) -> Any:
        return np.repeat(block, self.count, axis=self.axis)

    def __zcluster_tokenize__(self) -> Any:
        return ("repeat", self.count, self.axis)


def repeat(a: Any, repeats: Any, axis: int | None = None) -> Array:
    """Return an array with each element several times, one after the other.

    Parameters
    ----------
    a : array_like
    repeats : int or array_like of int
        How often; one number for all, or one for each place along the axis.
    axis : int, optional
        Along which; by default of the flat array.

    Examples
    --------
    >>> repeat([1, 2], 2).compute(), repeat([1, 2], [0, 3]).compute()
    (array([1, 1, 2, 2]), array([2, 2, 2]))
    """
    array = asarray(a)
    if axis is None:
        array = array.ravel()
        axis = 0
    axis = normalize_axis(axis, array.ndim)
    counts = np.asarray(repeats)
    if counts.dtype.kind not in "iub":
        raise TypeError(f"repeats={repeats!r}: cannot cast from {counts.dtype} to an integer")
    if counts.size == 1 and counts.ndim <= 1:
        return _repeated(array, int(counts.reshape(())), axis)
    if counts.ndim > 1:
        raise ValueError(f"repeats of shape {counts.shape}; object too deep for desired array")
    check_known(array, [axis], "repeat")
    if len(counts) != array.shape[axis]:
        raise ValueError(
            f"repeats has {len(counts)} numbers for {array.shape[axis]} places of axis {axis}; "
            "operands could not be broadcast together"
        )
    if (counts < 0).any():
        raise ValueError("repeats may not contain negative values.")
    places = np.repeat(np.arange(array.shape[axis]), counts)
    return _gathered(array, {axis: of_indices(places, array.chunks[axis])}, "repeat")


def _repeated(array: Array, count: int, axis: int) -> Array:
    if count < 0:
        raise ValueError(f"repeats={count}: repeats may not contain negative values.")
    if count == 1:
        return Array(array.expr)
    if count == 0:
        check_known(array, [axis], "repeat by 0")
        return _gathered(array, {axis: of_slice(0, 0, 1, array.chunks[axis])}, "repeat")
    if is_known(array.chunks[axis]):
        # Blocks grow; where they would be too large they are cut first.
        whole = (*array.shape[:axis], array.shape[axis] * count, *array.shape[axis + 1 :])
        others = [*array.chunks[:axis], "auto", *array.chunks[axis + 1 :]]
        if all(map(is_known, array.chunks)):
            longest = max(normalize_chunks(tuple(others), whole, array.dtype)[axis])
            most = max(longest // count, 1)
            if max(array.chunks[axis]) > most:
                array = rechunked(array, {axis: most})
    chunks = list(array.chunks)
    chunks[axis] = tuple(length * count for length in chunks[axis])
    axes = tuple(range(array.ndim))
    function = _Repeat(count, axis)
    return Array(
        Blockwise("repeat", function, [array.expr], [0], [axes], tuple(chunks), array.dtype)
    )


METHODS = {
    "astype": astype,
    "repeat": repeat,
    "squeeze": squeeze,
    "swapaxes": swapaxes,
    "transpose": _transpose_method,
}
PROPERTIES = {"T": transpose}
