"""Elements that a lazy array picks: places or a mask that are not known before they are computed.

Places along an axis: each block of places goes to each block of the axis, which gives what it has
of them; what came of one block of places is put together again. So little more is moved than what
is picked. A mask goes along with the blocks; how many elements it leaves of each is not known, so
the chunks of the result have unknown sizes (nan).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from zcluster.array.chunks import Chunks, bounds
from zcluster.array.core import Array, elementwise, permuted, unified
from zcluster.array.expressions import Blockwise, Emitted, Expr
from zcluster.array.lowering import Codes, Lowering
from zcluster.array.manipulation import moveaxis
from zcluster.array.reshaping import ravel, reshape
from zcluster.array.restating import check_known
from zcluster.array.rows import Rows

__all__ = ["check_range", "compressed", "out_of_range", "taken", "taken_at_points"]


def out_of_range(place: Any, axis: int, length: int) -> IndexError:
    """Return NumPy's error for a place that an axis does not have."""
    return IndexError(f"index {int(place)} is out of bounds for axis {axis} with size {length}")


def check_range(places: Any, axis: int, length: int) -> Any:
    """Return integers of NumPy as places from 0 on.

    Raises
    ------
    IndexError
        If one is out of range.
    """
    places = places.astype(np.int64)
    wrong = (places < -length) | (places >= length)
    if wrong.any():
        raise out_of_range(places[wrong].flat[0], axis, length)
    return np.where(places < 0, places + length, places)


# Places -------------------------------------------------------------------------------------------


class _Take:
    """Picks places along an axis that is one block."""

    __slots__ = ("axis", "length")

    __name__ = "take"

    def __init__(self, axis: int, length: int) -> None:
        self.axis = axis
        self.length = length

    def __call__(self, block: Any, places: Any) -> Any:
        return np.take(block, check_range(places, self.axis, self.length), axis=self.axis)

    def __zcluster_tokenize__(self) -> Any:
        return ("take", self.axis, self.length)


class _TakeSome:
    """Picks what one block has of some places: which of them, and their elements.

    It is told where the block begins and ends.
    """

    __slots__ = ("axis", "length")

    __name__ = "take_some"

    def __init__(self, axis: int, length: int) -> None:
        self.axis = axis
        self.length = length

    def __call__(self, told: Any, block: Any, places: Any) -> Any:
        start, stop = memoryview(told).cast("q")
        places = check_range(places, self.axis, self.length)
        which = np.flatnonzero((places >= start) & (places < stop))
        return len(places), which, np.take(block, places[which] - start, axis=self.axis)


class _TakeAll:
    """Puts together what several blocks had."""

    __slots__ = ("axis",)

    __name__ = "take_all"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def __call__(self, *parts: Any) -> Any:
        count, _, first = parts[0]
        shape = (*first.shape[: self.axis], count, *first.shape[self.axis + 1 :])
        made = np.empty_like(first, order="C", shape=shape)
        lead = (slice(None),) * self.axis
        for _, which, found in parts:
            made[(*lead, which)] = found
        return made


class _Taken(Emitted):
    """Places along an axis of several blocks."""

    def __init__(self, source: Expr, places: Expr, axis: int) -> None:
        chunks = (*source.chunks[:axis], places.chunks[0], *source.chunks[axis + 1 :])
        super().__init__("getitem", (source, places), chunks, source.dtype)
        self.axis = axis

    def token(self) -> Any:
        return self.axis

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return _Taken(inputs[0], inputs[1], self.axis)

    def emit(self, lowering: Lowering) -> Codes:
        source, places = self.inputs
        # Beside the axis, the block along it, and the block of places: a task for each.
        codes = np.moveaxis(lowering.codes(source), self.axis, -1)
        grid, blocks = codes.shape[:-1], codes.shape[-1]
        told = lowering.codes(places)
        codes = np.broadcast_to(codes.reshape(-1, 1, blocks), (math.prod(grid), len(told), blocks))
        pairs = np.stack([codes, np.broadcast_to(told[:, None], codes.shape)], axis=-1)
        points = bounds(source.chunks[self.axis])
        spans = np.broadcast_to(
            np.stack([points[:-1], points[1:]], axis=1), (*codes.shape, 2)
        ).reshape(-1, 2)
        length = source.shape[self.axis]
        some = lowering.add(
            f"{self.name}-some",
            _TakeSome(self.axis, length),
            pairs.reshape(-1, 2),
            constants=Rows.fixed(spans),
            options=self.options,
        )
        order = np.arange(math.prod(grid) * len(told)).reshape(*grid, len(told))
        order = np.moveaxis(order, -1, self.axis)
        made = lowering.add(
            self.name,
            _TakeAll(self.axis),
            some.reshape(-1, blocks)[order.reshape(-1)],
            shape=order.shape,
            options=self.options,
        )
        return made.reshape(order.shape)


def taken(array: Array, places: Array, axis: int) -> Array:
    """Return the elements at lazy places along an axis.

    Parameters
    ----------
    array : Array
    places : Array of int
        With any number of axes, which stand in the place of the axis.
    axis : int

    Raises
    ------
    InvalidArgument
        If the length of the axis is not known.
    """
    check_known(array, [axis], "an array as an index")
    if places.ndim == 0:
        found = taken(array, permuted(places, [None]), axis)
        return permuted(found, [a for a in range(array.ndim) if a != axis], "squeeze")
    if places.ndim > 1:
        found = taken(array, ravel(places), axis)
        return reshape(found, (*array.shape[:axis], *places.shape, *array.shape[axis + 1 :]))
    if array.numblocks[axis] > 1:
        return Array(_Taken(array.expr, places.expr, axis))
    chunks: Chunks = (*array.chunks[:axis], places.chunks[0], *array.chunks[axis + 1 :])
    axes = tuple(-1 if a == axis else a for a in range(array.ndim))
    function = _Take(axis, array.shape[axis])
    inputs = [array.expr, places.expr]
    return Array(
        Blockwise("getitem", function, inputs, [0, 1], [axes, (axis,)], chunks, array.dtype)
    )


class _FlatPlaces:
    """Makes one place of the places on several axes."""

    __slots__ = ("axes", "lengths")

    __name__ = "flat_places"

    def __init__(self, axes: tuple[int, ...], lengths: tuple[int, ...]) -> None:
        self.axes = axes
        self.lengths = lengths

    def __call__(self, *places: Any) -> Any:
        flat: Any = 0
        for one, axis, length in zip(places, self.axes, self.lengths, strict=True):
            flat = flat * length + check_range(np.asarray(one), axis, length)
        return flat

    def __zcluster_tokenize__(self) -> Any:
        return ("flat places", self.axes, self.lengths)


def taken_at_points(array: Array, axes: Sequence[int], places: Sequence[Any], at: int) -> Array:
    """Return the elements at points, of which some or all places are lazy.

    Parameters
    ----------
    array : Array
    axes : sequence of int
        Ascending.
    places : sequence of Array or ndarray
        Of integers, for each of these axes; they are broadcast.
    at : int
        Where the axes of the places stand in the result.
    """
    check_known(array, range(array.ndim), "an index of several arrays")
    lengths = tuple(array.shape[axis] for axis in axes)
    flat = elementwise(_FlatPlaces(tuple(axes), lengths), *places, dtype=np.int64)
    array = moveaxis(array, tuple(axes), tuple(range(len(axes))))
    kept = array.shape[len(axes) :]
    found = taken(reshape(array, (math.prod(lengths), *kept)), flat, 0)
    first = tuple(range(flat.ndim))
    return moveaxis(found, first, tuple(at + axis for axis in first))


# Masks --------------------------------------------------------------------------------------------


class _Compress:
    """Picks what a mask says along an axis."""

    __slots__ = ("axis",)

    __name__ = "compress"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def __call__(self, block: Any, mask: Any) -> Any:
        return block[(*[slice(None)] * self.axis, mask)]

    def __zcluster_tokenize__(self) -> Any:
        return ("compress", self.axis)


def compressed(array: Array, mask: Array, axis: int) -> Array:
    """Return the elements where a lazy mask is true, in the order of memory (C).

    Parameters
    ----------
    array : Array
    mask : Array of bool
        Along `axis` and the axes after it, as many as it has.
    axis : int
        Where the one axis that is made of these stands in the result; its chunks have unknown
        sizes.

    Raises
    ------
    IndexError
        If the lengths of the mask are other than the array's.
    """
    for number, length in enumerate(mask.shape):
        own = array.shape[axis + number]
        if length != own and not (math.isnan(length) or math.isnan(own)):
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis + number}; size of "
                f"axis is {own} but size of corresponding boolean axis is {length}"
            )
    if mask.ndim > 1:
        length = math.prod(array.shape[axis : axis + mask.ndim])
        flat = -1 if math.isnan(length) else length
        shape = (*array.shape[:axis], flat, *array.shape[axis + mask.ndim :])
        array, mask = reshape(array, shape), ravel(mask)
    numbers = tuple(range(array.ndim))
    (array, mask), _ = unified([array, mask], [numbers, (axis,)])
    unknown = (math.nan,) * array.numblocks[axis]
    chunks: Chunks = (*array.chunks[:axis], unknown, *array.chunks[axis + 1 :])
    inputs = [array.expr, mask.expr]
    function = _Compress(axis)
    return Array(
        Blockwise("getitem", function, inputs, [0, 1], [numbers, (axis,)], chunks, array.dtype)
    )
