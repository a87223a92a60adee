"""Padding: more elements at the ends of axes, by all the modes of NumPy.

Modes that repeat elements of the array, or one constant, only move elements (`Gather`). Those that
calculate with what is at the ends make a block for each end and put it beside the array. The few
that need whole lanes (functions, odd reflections) have the axis in one chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from zcluster.array.axes import FILL, AxisMap, identity
from zcluster.array.chunks import AxisChunks
from zcluster.array.core import Array, asarray, rechunked
from zcluster.array.creation import full
from zcluster.array.expressions import Blockwise, Gather
from zcluster.array.joining import concatenate
from zcluster.array.restating import check_known
from zcluster.protocol.callables import callable_name

__all__ = ["pad"]

#: By mode, the keywords it knows.
_KEYWORDS: dict[str, tuple[str, ...]] = {
    "constant": ("constant_values",),
    "edge": (),
    "empty": (),
    "linear_ramp": ("end_values",),
    "maximum": ("stat_length",),
    "mean": ("stat_length",),
    "median": ("stat_length",),
    "minimum": ("stat_length",),
    "reflect": ("reflect_type",),
    "symmetric": ("reflect_type",),
    "wrap": (),
}
_STATISTICS = ("maximum", "mean", "median", "minimum")

Pair = tuple[int, int]
Segment = tuple[int, int, int]


def pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Array:
    """Return an array with more elements at the ends of its axes.

    Parameters
    ----------
    array : array_like
    pad_width : int, pair of int, sequence of pairs or dict
        How many before and after; one for all axes, or one for each, or by axis.
    mode : str or callable
        As NumPy has them. A function gets lanes along one axis, and is called with the widths, the
        axis and the keywords; the axes are then in one chunk, one after the other.
    **kwargs
        ``constant_values``, ``end_values``, ``stat_length`` and ``reflect_type``, as NumPy has
        them.

    Raises
    ------
    ValueError
        If the mode is not known, or does not have a keyword.

    Examples
    --------
    >>> pad([1, 2, 3], 2, mode="reflect").compute()
    array([3, 2, 1, 2, 3, 2, 1])
    """
    given = asarray(array)
    widths = _widths(pad_width, given.ndim)
    if callable(mode):
        return _by_function(given, widths, mode, kwargs)
    if mode not in _KEYWORDS:
        raise ValueError(f"mode '{mode}' is not supported; expected one of {', '.join(_KEYWORDS)}")
    wrong = set(kwargs) - set(_KEYWORDS[mode])
    if wrong:
        raise ValueError(f"unsupported keyword arguments for mode '{mode}': {wrong}")
    check_known(given, [axis for axis, pair in enumerate(widths) if any(pair)], "pad")
    if mode not in ("constant", "empty"):
        for axis, pair in enumerate(widths):
            if any(pair) and given.shape[axis] == 0:
                raise ValueError(
                    f"can't extend empty axis {axis} using modes other than 'constant' or 'empty'"
                )
    if mode in ("constant", "empty"):
        return _with_constants(given, widths, kwargs.get("constant_values", 0))
    if mode in ("linear_ramp", *_STATISTICS):
        return _with_ends(given, widths, mode, kwargs)
    if kwargs.get("reflect_type", "even") == "odd":
        for axis, pair in enumerate(widths):
            given = _whole_axis(given, axis, pair, mode, kwargs)
        return given
    return _moved(given, widths, mode)


def _widths(pad_width: Any, ndim: int) -> list[Pair]:
    """Return how much there is to be before and after, for each axis."""
    if isinstance(pad_width, dict):
        rows: list[Any] = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            rows[axis] = np.broadcast_to(width, (2,)).tolist()
        pad_width = rows
    widths = np.asarray(pad_width)
    if widths.size and widths.dtype.kind not in "iu":
        raise TypeError("`pad_width` must be of integral type.")
    found = np.broadcast_to(widths, (ndim, 2)).astype(np.int64)
    if (found < 0).any():
        raise ValueError("index can't contain negative values")
    return [(int(before), int(after)) for before, after in found]


def _pairs(given: Any, ndim: int) -> Any:
    """Return something said of the ends of axes, for each axis and end."""
    return np.broadcast_to(np.asarray(given), (ndim, 2))


# Elements of the array ----------------------------------------------------------------------------


def _moved(array: Array, widths: list[Pair], mode: str, fill: Any = 0) -> Array:
    """Pad with what is in the array, or one constant."""
    maps = []
    for axis, (before, after) in enumerate(widths):
        length, own = array.shape[axis], array.chunks[axis]
        if not (before or after):
            maps.append(identity(length, own))
            continue
        lead = [
            (start + (count - 1) * step, count, -step)  # inward
            for start, count, step in reversed(_outward(mode, length, before, is_before=True))
        ]
        tail = _outward(mode, length, after, is_before=False)
        segments = np.array([*lead, (0, length, 1), *tail], np.int64).reshape(-1, 3).T
        starts, counts, steps = np.ascontiguousarray(segments)
        maps.append(AxisMap(starts, counts, steps, _padded_chunks(own, before, after)))
    return Array(Gather(array.expr, maps, fill, label="pad"))


def _outward(mode: str, length: int, width: int, *, is_before: bool) -> list[Segment]:
    """Return the segments of one end, from the array outward."""
    if not width:
        return []
    if mode == "constant":
        return [(FILL, width, 0)]
    last = length - 1
    if mode == "edge" or (mode == "reflect" and length == 1):
        return [(0 if is_before else last, width, 0)]
    skipped = 1 if mode == "reflect" else 0  # the element at the end is not there twice
    count = length - skipped
    forward, backward = (skipped, count, 1), (last - skipped, count, -1)
    if mode == "wrap":
        cycle = [backward] if is_before else [forward]
    else:
        cycle = [forward, backward] if is_before else [backward, forward]
    found = []
    place = 0
    while width > 0:
        start, count, step = cycle[place % len(cycle)]
        found.append((start, min(count, width), step))
        width -= count
        place += 1
    return found


def _padded_chunks(own: AxisChunks, before: int, after: int) -> AxisChunks:
    """Let the first and the last chunk grow, if that is little; else put chunks beside them."""
    side = max(*own, 1)
    chunks = list(own)
    if before <= side:
        chunks[0] += before
    if after <= side:
        chunks[-1] += after
    lead = _cut(before, side) if before > side else ()
    tail = _cut(after, side) if after > side else ()
    return (*lead, *chunks, *tail)


def _cut(length: int, side: int) -> AxisChunks:
    whole, rest = divmod(length, side)
    return (side,) * whole + ((rest,) if rest else ())


def _with_constants(array: Array, widths: list[Pair], values: Any) -> Array:
    said = _pairs(values, array.ndim)
    used = said[np.asarray(widths).reshape(said.shape) > 0]
    if not used.size:
        return Array(array.expr)
    as_held = used.astype(array.dtype)
    if (as_held == as_held[0]).all():
        return _moved(array, widths, "constant", as_held[0])
    for axis, (pair, row) in enumerate(zip(widths, said, strict=True)):
        ends = []
        for width, value in zip(pair, row, strict=True):
            shape = (*array.shape[:axis], width, *array.shape[axis + 1 :])
            own = (*array.chunks[:axis], "auto", *array.chunks[axis + 1 :])
            held = np.asarray(value).astype(array.dtype)[()]
            ends.append(full(shape, held, array.dtype, chunks=own))
        array = concatenate([ends[0], array, ends[1]], axis)
    return array


# What is calculated -------------------------------------------------------------------------------


def _with_ends(array: Array, widths: list[Pair], mode: str, kwargs: dict[str, Any]) -> Array:
    """Pad with what a mode calculates of the ends, axis after axis."""
    lengths = _pairs(kwargs.get("stat_length"), array.ndim)
    values = _pairs(kwargs.get("end_values", 0), array.ndim)
    for axis, pair in enumerate(widths):
        parts = [array]
        for side, width in enumerate(pair):
            if width:
                end = _end_of(array, axis, side, mode, lengths[axis, side])
                said = {"end_values": values[axis, side]} if mode == "linear_ramp" else {}
                made = _beside(end, axis, side, width, mode, said)
                parts.insert(0 if side == 0 else len(parts), made)
        array = concatenate(parts, axis)
    return array


def _end_of(array: Array, axis: int, side: int, mode: str, stat_length: Any) -> Array:
    """Return what a mode looks at on one side of an axis, in one chunk along it."""
    length = array.shape[axis]
    taken = 1 if mode == "linear_ramp" else length
    if stat_length is not None and mode in _STATISTICS:
        taken = min(int(stat_length), length)
        if taken <= 0:
            raise ValueError(
                f"stat_length of {stat_length} yields no value for padding; expected 1 or more"
            )
    place = slice(0, taken) if side == 0 else slice(length - taken, length)
    end = array[(*[slice(None)] * axis, place)]
    return rechunked(end, {axis: -1})


def _beside_block(block: Any, axis: int, side: int, width: int, mode: str, said: Any) -> Any:
    widths = [(0, 0)] * block.ndim
    widths[axis] = (width, 0) if side == 0 else (0, width)
    padded = np.pad(block, widths, mode=mode, **said)  # type: ignore[call-overload]
    place = slice(0, width) if side == 0 else slice(padded.shape[axis] - width, None)
    return padded[(*[slice(None)] * axis, place)]


def _beside(end: Array, axis: int, side: int, width: int, mode: str, said: dict[str, Any]) -> Array:
    function = partial(_beside_block, axis=axis, side=side, width=width, mode=mode, said=said)
    return _lanes(end, axis, width, function)


def _lanes(array: Array, axis: int, length: int, function: Callable[..., Any]) -> Array:
    """Return a function of blocks whose axis is in one chunk, and has another length then."""
    chunks = list(array.chunks)
    chunks[axis] = (length,)
    axes = tuple(range(array.ndim))
    return Array(Blockwise("pad", function, [array.expr], [0], [axes], tuple(chunks), array.dtype))


def _whole_axis_block(block: Any, axis: int, pair: Pair, mode: str, said: dict[str, Any]) -> Any:
    widths = [(0, 0)] * block.ndim
    widths[axis] = pair
    return np.pad(block, widths, mode=mode, **said)  # type: ignore[call-overload]


def _whole_axis(array: Array, axis: int, pair: Pair, mode: str, said: dict[str, Any]) -> Array:
    if not any(pair):
        return array
    array = rechunked(array, {axis: -1})
    function = partial(_whole_axis_block, axis=axis, pair=pair, mode=mode, said=said)
    return _lanes(array, axis, array.shape[axis] + sum(pair), function)


class _ByFunction:
    """Calls a user's function with each lane of a block."""

    __slots__ = ("axis", "function", "kwargs", "pair")

    def __init__(
        self, function: Callable[..., Any], axis: int, pair: Pair, kwargs: dict[str, Any]
    ) -> None:
        self.function = function
        self.axis = axis
        self.pair = pair
        self.kwargs = kwargs

    @property
    def __name__(self) -> str:
        return callable_name(self.function)

    def __call__(self, block: Any) -> Any:
        made = block.copy()
        lanes = np.moveaxis(made, self.axis, -1)
        for place in np.ndindex(lanes.shape[:-1]):
            self.function(lanes[place], self.pair, self.axis, self.kwargs)
        return made

    def __zcluster_tokenize__(self) -> Any:
        return ("pad by", self.function, self.axis, self.pair, self.kwargs)


def _by_function(
    array: Array, widths: list[Pair], function: Callable[..., Any], kwargs: dict[str, Any]
) -> Array:
    check_known(array, range(array.ndim), "pad by a function")
    array = _moved(array, widths, "constant")
    for axis, pair in enumerate(widths):
        array = rechunked(array, {axis: -1})
        by_lane = _ByFunction(function, axis, pair, kwargs)
        array = _lanes(array, axis, array.shape[axis], by_lane)
    return array
