"""The arithmetic of chunk sizes: pure numbers, no graphs.

Chunks are a tuple with one tuple of lengths for each axis: ``((5, 5, 2), (10,))``. A length that
is not known before something is computed is ``nan``; an axis has either known lengths only, or
unknown ones only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zcluster import config
from zcluster.config import parse_bytes
from zcluster.errors import InvalidArgument

__all__ = [
    "AxisChunks",
    "Chunks",
    "bounds",
    "broadcast_shapes",
    "chunks_token",
    "is_known",
    "normalize_axes",
    "normalize_axis",
    "normalize_chunks",
    "unify_axis",
]

AxisChunks: TypeAlias = tuple[Any, ...]  # of ints, or of nans
Chunks: TypeAlias = tuple[AxisChunks, ...]

#: Of one block, where nobody says otherwise.
_DEFAULT_SIZE = "128MiB"


def is_known(lengths: Sequence[Any]) -> bool:
    """Tell whether the lengths of an axis' chunks are known."""
    return not lengths or not math.isnan(lengths[0])


def chunks_token(chunks: Chunks) -> tuple[Any, ...]:
    """Return what says the same as chunks, in little where an axis has many of one length."""
    return tuple(map(_axis_token, chunks))


def _axis_token(lengths: AxisChunks) -> tuple[Any, ...]:
    if len(lengths) < 20:
        return lengths
    most = lengths.count(lengths[0])
    if most == len(lengths) or (most == len(lengths) - 1 and lengths[-1] != lengths[0]):
        return ("equal", lengths[0], len(lengths), lengths[-1])
    return (np.array(lengths).tobytes(),)


def bounds(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return where chunks begin, and where the last one ends.

    Examples
    --------
    >>> bounds((5, 5, 2)).tolist()
    [0, 5, 10, 12]
    """
    points = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=points[1:])
    return points


def normalize_axis(axis: Any, ndim: int) -> int:
    """Return an axis counted from the front.

    Raises
    ------
    numpy.exceptions.AxisError
        If there is no such axis.
    """
    try:
        number = axis.__index__()
    except AttributeError:
        raise TypeError(f"axis {axis!r}: expected an integer") from None
    if not -ndim <= number < ndim:
        raise np.exceptions.AxisError(number, ndim)
    return int(number % ndim)


def normalize_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return axes counted from the front; None means all of them.

    Raises
    ------
    numpy.exceptions.AxisError
        If there is no such axis.
    ValueError
        If one is named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple | list):
        return (normalize_axis(axis, ndim),)
    axes = tuple(normalize_axis(one, ndim) for one in axis)
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis {axis!r} names an axis twice; expected each once")
    return axes


def broadcast_shapes(*shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the shape that arrays of these shapes have together, as NumPy broadcasts.

    Unknown lengths (nan) go with unknown ones and with 1.

    Raises
    ------
    ValueError
        If they do not broadcast.
    """
    ndim = max(map(len, shapes), default=0)
    result = []
    for axis in range(-ndim, 0):
        lengths = [shape[axis] for shape in shapes if len(shape) >= -axis]
        others = [length for length in lengths if length != 1]
        known = {length for length in others if not math.isnan(length)}
        if len(known) > 1 or (known and len(known) < len(set(map(str, others)))):
            hint = "; call compute_chunk_sizes() first" if len(known) < len(set(others)) else ""
            raise ValueError(
                "operands could not be broadcast together with shapes "
                f"{' '.join(map(str, shapes))}{hint}"
            )
        result.append(others[0] if others else 1)
    return tuple(result)


def unify_axis(candidates: Sequence[AxisChunks]) -> AxisChunks:
    """Return chunks that have a border wherever one of the candidates has one.

    Raises
    ------
    ValueError
        If the lengths of the candidates differ, or unknown ones differ in number.

    Examples
    --------
    >>> unify_axis([(5, 5), (3, 7)])
    (3, 2, 5)
    """
    first = candidates[0]
    if all(other == first or other is first for other in candidates[1:]):
        return first
    if not all(map(is_known, candidates)):
        if len({len(other) for other in candidates}) == 1:
            return next(other for other in candidates if not is_known(other))
        raise ValueError(
            f"chunks of unknown sizes do not go with others: {', '.join(map(_short, candidates))}; "
            "call compute_chunk_sizes() first"
        )
    if len({sum(other) for other in candidates}) > 1:
        raise ValueError(
            f"chunks that do not add up to one length: {', '.join(map(_short, candidates))}"
        )
    points = np.unique(np.concatenate([bounds(other) for other in candidates]))
    return tuple(np.diff(points).tolist()) or (0,)


def _short(lengths: AxisChunks) -> str:
    if len(lengths) <= 6:
        return repr(lengths)
    return f"({', '.join(map(str, lengths[:4]))}, …, {lengths[-1]}) of {len(lengths)}"


# From what a user says to chunks ----------------------------------------------------------------


def normalize_chunks(
    chunks: Any,
    shape: Sequence[Any],
    dtype: Any = None,
    *,
    limit: int | str | None = None,
    previous: Chunks | None = None,
) -> Chunks:
    """Return the lengths of all chunks along each axis.

    Parameters
    ----------
    chunks : int, str, tuple, dict or None
        A length for all axes, or one for each axis: an integer, all lengths as a tuple, -1 or None
        for the whole axis, ``"auto"`` for as much as the limit allows. A size such as ``"64MiB"``
        is ``"auto"`` with that limit. A dict names axes; the others stay as they were, or whole.
    shape : sequence of int
        Lengths of the array.
    dtype : dtype, optional
        Needed for ``"auto"``.
    limit : int or str, optional
        Bytes of a block where the size is automatic; by default the configuration's
        ``array.chunk-size``.
    previous : tuple of tuples, optional
        Present chunks: automatic ones keep to their borders where they can.

    Raises
    ------
    InvalidArgument
        If they do not fit the shape; this is a ValueError too.

    Examples
    --------
    >>> normalize_chunks(5, (12, 3))
    ((5, 5, 2), (3,))
    >>> normalize_chunks({0: (4, 8)}, (12, 3))
    ((4, 8), (3,))
    """
    shape = tuple(shape)
    wanted = _by_axis(chunks, shape, previous)
    for text in wanted:
        if isinstance(text, str) and text != "auto":
            limit = parse_bytes(text)
    wanted = ["auto" if isinstance(one, str) else one for one in wanted]
    if "auto" in wanted:
        wanted = _automatic(wanted, shape, dtype, limit, previous)
    return tuple(
        _axis_chunks(one, length, axis)
        for axis, (one, length) in enumerate(zip(wanted, shape, strict=True))
    )


def _by_axis(chunks: Any, shape: tuple[Any, ...], previous: Chunks | None) -> list[Any]:
    """Return what is said of each axis."""
    ndim = len(shape)
    if isinstance(chunks, dict):
        stay: list[Any] = list(previous) if previous is not None else [-1] * ndim
        for axis, one in chunks.items():
            stay[normalize_axis(axis, ndim)] = one
        return stay
    if chunks is None:
        return ["auto"] * ndim
    if isinstance(chunks, str | int | np.integer) or (
        isinstance(chunks, float) and not math.isnan(chunks)
    ):
        return [chunks] * ndim
    listed = list(chunks)
    is_flat = all(isinstance(one, int | np.integer) for one in listed)
    if ndim == 1 and len(listed) != 1 and is_flat:
        return [tuple(listed)]
    if len(listed) != ndim:
        raise InvalidArgument(
            f"chunks={chunks!r} speaks of {len(listed)} axes; expected {ndim}, as shape {shape} has"
        )
    return [
        stay if one is None and previous is not None else one
        for one, stay in zip(listed, previous or listed, strict=True)
    ]


def _axis_chunks(one: Any, length: Any, axis: int) -> AxisChunks:
    if isinstance(one, tuple | list | np.ndarray):
        lengths = tuple(x if isinstance(x, float) and math.isnan(x) else int(x) for x in one)
        if not lengths:
            lengths = (0,)
        if is_known(lengths):
            if min(lengths) < 0:
                raise InvalidArgument(f"chunks {lengths} of axis {axis}: expected none below 0")
            if not math.isnan(length) and sum(lengths) != length:
                raise InvalidArgument(
                    f"chunks {_short(lengths)} of axis {axis} add up to {sum(lengths)}; expected "
                    f"{length}, the length of the axis"
                )
        return lengths
    if isinstance(length, float) and math.isnan(length):
        raise InvalidArgument(
            f"axis {axis} has an unknown length; call compute_chunk_sizes() before choosing chunks"
        )
    if one is None or one == -1 or length == 0:
        return (int(length),)
    step = int(one)
    if step < 1 or step != one:
        raise InvalidArgument(
            f"chunks={one!r} for axis {axis}; expected a length of 1 or more, -1 for the whole "
            "axis, 'auto', or all lengths as a tuple"
        )
    whole, rest = divmod(int(length), step)
    return (step,) * whole + ((rest,) if rest else ())


def _automatic(
    wanted: list[Any],
    shape: tuple[Any, ...],
    dtype: Any,
    limit: int | str | None,
    previous: Chunks | None,
) -> list[Any]:
    """Choose lengths for the axes that are 'auto', about as long as each other."""
    if limit is None:
        limit = config.get("array.chunk-size", _DEFAULT_SIZE)
    if isinstance(limit, str):
        limit = parse_bytes(limit)
    if dtype is None:
        raise InvalidArgument("chunks='auto' needs to know the dtype; give dtype=, or give chunks")
    itemsize = max(np.dtype(dtype).itemsize, 1)
    room = max(limit / itemsize, 1.0)  # items a block
    chosen = list(wanted)
    free = []
    for axis, one in enumerate(wanted):
        if one == "auto":
            free.append(axis)
        else:
            room /= max(_longest(one, shape[axis]), 1)
    # The shorter axes first: what they leave goes to the longer ones.
    for place, axis in enumerate(sorted(free, key=lambda a: shape[a])):
        side = max(int(max(room, 1.0) ** (1 / (len(free) - place)) + 1e-9), 1)
        chosen[axis] = _fitted(side, int(shape[axis]), previous[axis] if previous else None)
        room /= max(_longest(chosen[axis], shape[axis]), 1)
    return chosen


def _longest(one: Any, length: Any) -> int:
    if isinstance(one, tuple | list):
        return int(max(one))
    if one is None or one == -1:
        return int(length)
    return min(int(one), int(length))


def _fitted(side: int, length: int, present: AxisChunks | None) -> Any:
    """Return a length of about `side`: a multiple of the present chunks, or an even division."""
    if side >= length:
        return -1
    if present and is_known(present) and max(present) <= side:
        return _merged(present, side)
    pieces = -(-length // side)
    return -(-length // pieces)


def _merged(present: AxisChunks, side: int) -> AxisChunks:
    """Join neighbouring chunks as long as they are not longer than `side` together."""
    points = list(accumulate(present, initial=0))
    merged, start = [], 0
    for before, point in zip(points[1:], [*points[2:], math.inf], strict=True):
        if point - start > side:
            merged.append(before - start)
            start = before
    return tuple(merged)
