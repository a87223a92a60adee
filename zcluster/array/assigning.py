"""``x[index] = value``: the array stands for another expression afterwards.

Nothing is written anywhere: `assigned` returns a new array, and ``x[index] = value`` puts its
expression into ``x``. What was made of ``x`` before goes on standing for what it was.

Only blocks that the index touches get a task, which copies its block and writes into the copy; the
others are those of the source. The values are brought into chunks that go along with them first:

==========================  ===================================================================
integers, slices, one list  `Assigned`: by axis, what is touched of each chunk
several arrays, masks       `AssignedPoints`: by block, the points in it
a lazy mask                 element by element, like ``where``
lazy integers               each block looks for its own among all of them
==========================  ===================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zcluster.array.axes import AxisMap, identity, of_indices, of_slice, pieces
from zcluster.array.chunks import AxisChunks, bounds, is_known
from zcluster.array.core import Array, asarray, elementwise, from_numpy, permuted, rechunked
from zcluster.array.expressions import Blockwise, Gather
from zcluster.array.indexing import Parsed, parsed
from zcluster.array.manipulation import broadcast_to, moveaxis
from zcluster.array.putting import (
    Assigned,
    AssignedPoints,
    PutField,
    PutMasked,
    PutPlaces,
    Touched,
    put_where,
)
from zcluster.array.reshaping import ravel, reshape
from zcluster.array.restating import check_known
from zcluster.array.routines import asarray_of
from zcluster.array.rows import Rows
from zcluster.array.slicing import basic

__all__ = ["assigned"]

Integers = npt.NDArray[np.int64]

#: The stop of a slice that takes all of an axis, however long it is.
_END = 1 << 40


def assigned(array: Array, index: Any, value: Any) -> Array:
    """Return an array with other elements at an index.

    Parameters
    ----------
    array : Array
    index : object
        As for ``array[index]``.
    value : array_like
        Lazy or not; it is broadcast to what the index picks, and its elements become those of the
        array's dtype.

    Raises
    ------
    IndexError
        If the index is none, or out of range.
    ValueError
        If the value cannot be broadcast.

    Examples
    --------
    >>> x = from_numpy(np.arange(6), chunks=2)
    >>> assigned(x, slice(1, 4), 0).compute()
    array([0, 0, 0, 0, 4, 5])
    >>> x[x % 2 == 0] = -1
    >>> x[[1, 5]] = [7, 8]
    >>> x.compute()
    array([-1,  7, -1,  3, -1,  8])
    """
    value = _value_for(array, value)
    if isinstance(index, str):
        return elementwise(PutField(index), array, value, dtype=array.dtype, name="setitem")
    mask = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    is_scalar = not isinstance(value, Array) or not value.ndim
    is_mask = getattr(mask, "dtype", None) == np.bool_ and mask.ndim == array.ndim > 0
    found = parsed(array, index)  # also to see that the mask fits
    if is_mask and is_scalar:
        return _put_where(array, mask, value)
    return _assigned(array, found, value)


def _value_for(array: Array, value: Any) -> Any:
    """Return what is to be assigned: an array, or a scalar of the array's dtype.

    Raises what NumPy raises for a scalar that is none of the dtype's.
    """
    if isinstance(value, list | tuple):
        value = asarray_of(value, chunks=-1)  # lazy arrays in it stay lazy
    if isinstance(value, Array):
        # An axis that may be left out has one chunk.
        ones = {axis: (1,) for axis, length in enumerate(value.shape) if length == 1}
        return rechunked(value, ones)
    given = np.asarray(value)
    if given.ndim:
        return from_numpy(given)
    made = np.empty((), array.dtype)
    made[()] = value
    return made[()]


def _assigned(array: Array, index: Parsed, value: Any) -> Array:
    if not index.advanced:
        return _by_axis(array, index.basic, value)
    one, axis = index.advanced[0], index.axes[0]
    is_list = len(index.advanced) == 1 and not isinstance(one, Array) and one.ndim == 1
    if is_list and index.basic[index.entry] is not None:
        index.basic[index.entry] = one
        if isinstance(value, Array) and index.at != axis:
            shape = list(basic(array, index.basic).shape)
            shape.insert(index.at, shape.pop(axis))
            value = moveaxis(_filled_up(value, tuple(shape)), index.at, axis)
        return _by_axis(array, index.basic, value)
    if any(not (isinstance(item, slice) and item == slice(None)) for item in index.basic):
        # Of the part that the basic index picks, which then is assigned as a whole.
        part = _by_arrays(basic(array, index.basic), index, value)
        return _by_axis(array, index.basic, part)
    return _by_arrays(array, index, value)


def _filled_up(value: Array, shape: tuple[Any, ...]) -> Array:
    """Return a value with as many axes as what it is assigned to: new ones in front.

    Raises
    ------
    ValueError
        If it cannot be broadcast to the shape. Axes of length 1 in front may be too many.
    """
    extra = max(value.ndim - len(shape), 0)
    wrong = any(length != 1 for length in value.shape[:extra])
    for length, own in zip(value.shape[::-1], shape[::-1], strict=False):
        wrong |= length not in (1, own) and not (math.isnan(length) or math.isnan(own))
    if wrong:
        raise ValueError(
            f"could not broadcast input array from shape {value.shape} into shape {shape}"
        )
    if value.ndim == len(shape):
        return value
    new = [None] * (len(shape) - value.ndim)
    return permuted(value, [*new, *range(extra, value.ndim)])


def _along(value: Array, array: Array) -> Array:
    """Return a value, with as many axes, in the chunks of an array; length 1 stays."""
    wanted = {}
    for axis, (length, own) in enumerate(zip(value.shape, array.chunks, strict=True)):
        if is_known(own) and length == array.shape[axis]:
            wanted[axis] = own
    return rechunked(value, wanted)


# By axis ------------------------------------------------------------------------------------------


def _touched(item: Any, chunks: AxisChunks, length: Any) -> tuple[Touched, AxisMap | None]:
    """Return what an entry of an index touches of an axis, in ascending order.

    The second item puts values, which stand in the order of the index, into that order; None if
    they are in it.
    """
    if isinstance(item, slice) and item == slice(None):
        spans = np.tile(np.array([0, _END, 1], np.int64), (len(chunks), 1))
        return Touched(np.arange(len(chunks)), chunks, Rows.fixed(spans), False), None
    turn: AxisMap | None = None
    if isinstance(item, np.ndarray):
        order = np.argsort(item, kind="stable")
        places = item[order]
        last = np.append(places[1:] != places[:-1], True)[: len(places)]
        order, places = order[last], places[last]  # of equal ones the last counts
        if (order != np.arange(len(item))[: len(order)]).any() or len(order) < len(item):
            turn = of_indices(order, (max(len(item), 1),))
        points = bounds(chunks)
        number = np.searchsorted(points, places, side="right") - 1
        touched, counts = np.unique(number, return_counts=True)
        indptr = np.zeros(len(touched) + 1, np.int64)
        np.cumsum(counts, out=indptr[1:])
        rows = Rows.of(indptr, places - points[number])
        return Touched(touched, tuple(counts.tolist()), rows, True), turn
    if isinstance(item, slice):
        start, stop, step = item.indices(length)
        count = len(range(start, stop, step))
    else:
        start, count, step = item % length, 1, 1
    if count and step < 0:
        start, step = start + (count - 1) * step, -step
        turn = of_slice(count - 1, count, -1, (count,))
    cut = pieces(of_slice(start if count else 0, count, step if count else 1, chunks), chunks)
    some = cut.count > 0
    begin, counts = cut.start[some], cut.count[some]
    size = np.where(counts > 1, cut.step[some], 1)
    spans = np.stack([begin, begin + (counts - 1) * size + 1, size], axis=1)
    return Touched(cut.chunk[some], tuple(counts.tolist()), Rows.fixed(spans), False), turn


def _by_axis(array: Array, items: list[Any], value: Any) -> Array:
    """Assign to what integers, slices and one list pick."""
    shape = basic(array, items).shape  # and an index out of range is an error
    axes: list[int | None] = []  # for each axis of the array, the axis of the value
    touched: list[Touched] = []
    turns: list[AxisMap | None] = []
    place = 0
    for item in items:
        if item is None:
            place += 1
            continue
        axis = len(touched)
        one, turn = _touched(item, array.chunks[axis], array.shape[axis])
        touched.append(one)
        turns.append(turn)
        axes.append(None if isinstance(item, int) else place)
        place += not isinstance(item, int)
    if isinstance(value, Array):
        value = permuted(_filled_up(value, shape), axes, "getitem")
        value = _in_order(value, touched, turns)
    if not all(len(one.chunks) for one in touched):
        return array
    return Array(Assigned(array.expr, touched, value))


def _in_order(value: Array, touched: list[Touched], turns: list[AxisMap | None]) -> Array:
    """Return values in chunks that go along with the chunks that are touched."""
    maps = []
    for axis, (one, turn) in enumerate(zip(touched, turns, strict=True)):
        length, own = value.shape[axis], value.chunks[axis]
        if length == 1:
            maps.append(identity(1, (1,)))
        elif not (is_known(own) and is_known(one.lengths)):
            maps.append(identity(length, own))
        else:
            chunks = one.lengths or (0,)
            maps.append(identity(length, chunks) if turn is None else turn.with_chunks(chunks))
    return Array(Gather(value.expr, maps))


# By points ----------------------------------------------------------------------------------------


def _by_arrays(array: Array, index: Parsed, value: Any) -> Array:
    """Assign to what arrays pick; the other axes are whole."""
    if not index.is_lazy:
        return _at_points(array, tuple(index.axes), list(index.advanced), index.at, value)
    if len(index.advanced) > 1:
        raise NotImplementedError(
            "assigning to several arrays as an index of which one is lazy; compute the index: "
            "x[index.compute()] = value"
        )
    (one,), (axis,) = index.advanced, index.axes
    if one.dtype == np.bool_:
        return _by_mask(array, one, axis, index.at, value)
    return _by_places(array, one, axis, index.at, value)


def _at_points(
    array: Array, axes: tuple[int, ...], places: list[Any], at: int, value: Any
) -> Array:
    """Assign to points that are known."""
    try:
        spread = np.broadcast_arrays(*places)
    except ValueError:
        shapes = " ".join(str(one.shape) for one in places)
        raise IndexError(
            f"shape mismatch: indexing arrays could not be broadcast together with shapes {shapes}"
        ) from None
    own = spread[0].shape
    kept = [axis for axis in range(array.ndim) if axis not in axes]
    flat = [one.reshape(-1).astype(np.int64, copy=False) for one in spread]
    block = np.zeros(len(flat[0]), np.int64)
    offsets = []
    for axis, one in zip(axes, flat, strict=True):
        points = bounds(array.chunks[axis])
        number = np.searchsorted(points, one, side="right") - 1
        block = block * (len(points) - 1) + number
        offsets.append(one - points[number])
    order = np.argsort(block, kind="stable")  # where a point comes twice the last counts
    touched, counts = np.unique(block, return_counts=True)
    if isinstance(value, Array):
        beside = tuple(array.shape[axis] for axis in kept)
        value = _by_point(_filled_up(value, (*beside[:at], *own, *beside[at:])), own, at)
        chunks = [array.chunks[axis] for axis in kept]
        value = _grouped(value, order, tuple(counts.tolist()), chunks)
    if not len(touched):
        return array
    rows = [offset[order] for offset in offsets]
    return Array(AssignedPoints(array.expr, axes, touched, counts, rows, value))


def _by_point(value: Array, own: tuple[int, ...], at: int) -> Array:
    """Return values with one axis for all points, which stands in front."""
    first = tuple(range(len(own)))
    value = moveaxis(value, tuple(at + axis for axis in first), first)
    rest = value.shape[len(own) :]
    if all(length == 1 for length in value.shape[: len(own)]):
        return permuted(value, [None, *range(len(own), value.ndim)], "reshape")
    if len(own) == 1:
        return value
    return reshape(broadcast_to(value, (*own, *rest)), (math.prod(own), *rest))


def _grouped(
    value: Array, order: Integers, counts: AxisChunks, chunks: Sequence[AxisChunks]
) -> Array:
    """Return values in the order of the blocks they go to, and in chunks along with these."""
    maps = [identity(1, (1,))]
    if value.shape[0] != 1:
        maps = [of_indices(order, (max(len(order), 1),)).with_chunks(counts or (0,))]
    for length, own, wanted in zip(value.shape[1:], value.chunks[1:], chunks, strict=True):
        maps.append(identity(length, own if length == 1 or not is_known(own) else wanted))
    return Array(Gather(value.expr, maps))


# Lazy masks and places ----------------------------------------------------------------------------


def _put_where(array: Array, mask: Any, value: Any) -> Array:
    """Assign where a mask is true; the mask and the value have as many axes, or none."""
    mask = _along(asarray(mask), array)
    if isinstance(value, Array) and value.ndim:
        value = _along(value, array)
    return elementwise(put_where, array, mask, value, dtype=array.dtype, name="setitem")


def _by_mask(array: Array, mask: Array, axis: int, at: int, value: Any) -> Array:
    """Assign where a lazy mask along some axes is true."""
    before = [None] * axis
    after = [None] * (array.ndim - axis - mask.ndim)
    spread = permuted(mask, [*before, *range(mask.ndim), *after])
    if not isinstance(value, Array):
        return _put_where(array, spread, value)
    beside = (*array.shape[:axis], *array.shape[axis + mask.ndim :])
    value = moveaxis(_filled_up(value, (*beside[:at], math.nan, *beside[at:])), at, axis)
    if value.shape[axis] == 1:
        axes = [*range(axis), *[None] * mask.ndim, *range(axis + 1, value.ndim)]
        return _put_where(array, spread, permuted(value, axes, "getitem"))
    shape = array.shape
    if mask.ndim > 1:
        array = reshape(array, (*shape[:axis], -1, *shape[axis + mask.ndim :]))
        mask = ravel(mask)
    numbers = tuple(range(array.ndim))
    mask = rechunked(mask, [array.chunks[axis]]) if is_known(array.chunks[axis]) else mask
    if is_known(value.chunks[axis]) or value.numblocks[axis] != array.numblocks[axis]:
        raise NotImplementedError(
            f"a value for each element that a lazy mask picks, of shape {value.shape}: how many it "
            "picks of each chunk is not known; use where(mask, values, x) with values of the "
            "array's shape, values that the same mask picked, or mask.compute()"
        )
    value = _along(value, array)
    axes_of = tuple(-1 if a != axis and value.shape[a] == 1 else a for a in numbers)
    made = Array(
        Blockwise(
            "setitem",
            PutMasked(axis),
            [array.expr, mask.expr, value.expr],
            [0, 1, 2],
            [numbers, (axis,), axes_of],
            array.chunks,
            array.dtype,
        )
    )
    return made if made.ndim == len(shape) else reshape(made, shape)


def _by_places(array: Array, places: Array, axis: int, at: int, value: Any) -> Array:
    """Assign at lazy places along an axis: each block takes all of them."""
    check_known(array, [axis], "an array as an index")
    inputs = [array.expr, rechunked(ravel(places), -1).expr]
    numbers = tuple(range(array.ndim))
    axes: list[tuple[int, ...]] = [numbers, (-1,)]
    scalar = None if isinstance(value, Array) else value
    if isinstance(value, Array):
        check_known(places, range(places.ndim), "an index of an assignment")
        beside = (*array.shape[:axis], *array.shape[axis + 1 :])
        value = _filled_up(value, (*beside[:at], *places.shape, *beside[at:]))
        value = moveaxis(_by_point(value, places.shape, at), 0, axis)
        wanted = {
            a: -1 if a == axis else own for a, own in enumerate(array.chunks) if value.shape[a] != 1
        }
        value = rechunked(value, wanted) if wanted else value
        inputs.append(value.expr)
        axes.append(tuple(-1 if a == axis or value.shape[a] == 1 else a for a in numbers))
    return Array(
        Blockwise(
            "setitem",
            PutPlaces(axis, array.shape[axis], scalar),
            inputs,
            list(range(len(inputs))),
            axes,
            array.chunks,
            array.dtype,
            extra=(("start", "start"),),
        )
    )


def setitem(array: Array, index: Any, value: Any) -> None:
    """Let an array stand for one with other elements at an index; see `assigned`."""
    array._expr = assigned(array, index, value).expr


METHODS = {"__setitem__": setitem}
