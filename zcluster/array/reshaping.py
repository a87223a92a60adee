"""Reshaping, in the order of memory (C): which blocks of one shape are blocks of the other.

Seen flat, an array is a line, and a block is a piece of the line if its chunks have a **level**:
axes before it in chunks of 1, the axis of the level in any chunks, axes after it whole. If all
blocks of both shapes are the same pieces of the line, reshaping takes each block as it is, and
nothing moves. Else the array is rechunked first, so that it is so.

Axes fall into groups that hold the same elements on both sides, ``(4, 6, 10) -> (24, 2, 5)`` into
``(4, 6) -> (24)`` and ``(10) -> (2, 5)``; each group is planned alone. At level ``j`` an axis of
length ``n[j]`` has pieces that are multiples of ``n[j+1] * n[j+2] * …`` long, the same in each of
its rows of ``n[j] * n[j+1] * …`` elements. Of all pairs of levels for which both sides can have the
same pieces, that one is taken whose pieces come nearest to the size that is aimed at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zcluster import config
from zcluster.array.chunks import AxisChunks, Chunks, bounds, is_known
from zcluster.array.core import Array, asarray, permuted, rechunked
from zcluster.array.expressions import Blockwise, Emitted, Expr, Generated
from zcluster.array.lowering import Codes, Lowering
from zcluster.array.manipulation import squeeze, transpose
from zcluster.array.rows import Rows
from zcluster.config import parse_bytes
from zcluster.errors import InvalidArgument

__all__ = ["Plan", "planned", "ravel", "reshape"]

_Lengths = tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """How the axes of one group are chunked so that blocks stay whole.

    Attributes
    ----------
    before, after : tuple of tuples
        The chunks of both sides, in as many pieces, which hold the same elements.
    is_leading : bool
        Only the first axis of each side is in several chunks.
    """

    before: Chunks
    after: Chunks

    @property
    def is_leading(self) -> bool:
        return all(len(own) == 1 for own in (*self.before[1:], *self.after[1:]))


def planned(
    before: _Lengths, after: _Lengths, chunks: Chunks, room: int, merge_chunks: bool = True
) -> Plan:
    """Plan a group of axes; all lengths are above 1.

    Parameters
    ----------
    before, after : tuple of int
        Lengths, with the same product.
    chunks : tuple of tuples
        Present ones.
    room : int
        Elements that a block of the group may have, if that is possible.
    merge_chunks : bool
        Blocks may become larger than they are.

    Examples
    --------
    >>> planned((4, 6), (24,), ((2, 2), (6,)), 100)
    Plan(before=((2, 2), (6,)), after=((12, 12),))
    >>> planned((4, 6), (24,), ((2, 2), (3, 3)), 100).before
    ((2, 2), (6,))
    >>> planned((2, 6), (6, 2), ((1, 1), (6,)), 4)
    Plan(before=((1, 1), (6,)), after=((3, 3), (2,)))
    """
    if before == after:
        return Plan(chunks, chunks)
    chunks = tuple(tuple(n for n in own if n) for own in chunks)
    borders = _borders(before, chunks)
    if borders is not None:
        kept = _realized(borders, after)
        if kept is not None:
            return Plan(chunks, kept)
    present = math.prod(max(own) for own in chunks)
    if not merge_chunks:
        room = min(room, present)
    else:
        # The chunks of the first axis stay, as near as can be, and the other axes become whole.
        grain = math.lcm(math.prod(before[1:]), math.prod(after[1:]))
        points = bounds(chunks[0]) * math.prod(before[1:])
        snapped = np.unique(np.rint(points / grain).astype(np.int64)) * grain
        if np.diff(snapped).max() <= room:
            return Plan(_realized(snapped, before) or (), _realized(snapped, after) or ())
    return _of_levels(before, after, room)


def _borders(lengths: _Lengths, chunks: Chunks) -> npt.NDArray[np.int64] | None:
    """Return where blocks begin and end on the line; None if they are no pieces of it."""
    level = max((n for n, own in enumerate(chunks) if len(own) > 1), default=0)
    if any(len(own) != length for own, length in zip(chunks[:level], lengths, strict=False)):
        return None
    row, grain = math.prod(lengths[level:]), math.prod(lengths[level + 1 :])
    begins = np.add.outer(
        np.arange(math.prod(lengths[:level])) * row, bounds(chunks[level])[:-1] * grain
    )
    return np.append(begins.reshape(-1), math.prod(lengths))


def _realized(borders: npt.NDArray[np.int64], lengths: _Lengths) -> Chunks | None:
    """Return chunks whose blocks are these pieces of the line; None if there are none."""
    count = len(borders) - 1
    for level, length in enumerate(lengths):
        row, grain = math.prod(lengths[level:]), math.prod(lengths[level + 1 :])
        rows = math.prod(lengths[:level])
        if count % rows or (borders % grain).any():
            continue
        pieces = np.diff(borders).reshape(rows, -1)
        if (pieces.sum(axis=1) != row).any() or (pieces != pieces[0]).any():
            continue
        own = tuple((pieces[0] // grain).tolist())
        assert sum(own) == length  # the pieces of a row
        return _at_level(lengths, level, own)
    return None


def _at_level(lengths: _Lengths, level: int, own: AxisChunks) -> Chunks:
    leading = tuple((1,) * length for length in lengths[:level])
    return (*leading, own, *[(length,) for length in lengths[level + 1 :]])


def _of_levels(before: _Lengths, after: _Lengths, room: int) -> Plan:
    """Plan with pieces of about `room` elements, by the best pair of levels."""
    best: tuple[Any, ...] = ()
    for j in range(len(before)):
        row, grain = math.prod(before[j:]), math.prod(before[j + 1 :])
        for k in range(len(after)):
            other_row, other_grain = math.prod(after[k:]), math.prod(after[k + 1 :])
            common = math.lcm(grain, other_grain)
            period = min(row, other_row)
            if max(row, other_row) % period or period % common:
                continue
            size = min(period, max(common, room // common * common))
            # As large as there is room for; else as small as can be. Few levels break a tie.
            merit = (size <= room, size if size <= room else -size, -j - k)
            if not best or merit > best[0]:
                best = (merit, j, k, common, period, size)
    _, j, k, common, period, size = best
    units = period // common
    pieces = -(-units // (size // common))
    lengths = np.full(pieces, units // pieces, np.int64)
    lengths[: units % pieces] += 1
    lengths *= common
    sides = []
    for side, level in ((before, j), (after, k)):
        row, grain = math.prod(side[level:]), math.prod(side[level + 1 :])
        own = np.tile(lengths // grain, row // period)
        sides.append(_at_level(side, level, tuple(own.tolist())))
    return Plan(*sides)


# Shapes -------------------------------------------------------------------------------------------


def _groups(before: _Lengths, after: _Lengths) -> list[tuple[slice, slice]]:
    """Pair the axes of two shapes of as many elements into groups, as small as can be."""
    found = []
    i = k = 0
    while i < len(before):
        start, other = i, k
        mine, theirs = before[i], after[k]
        i, k = i + 1, k + 1
        while mine != theirs:
            if mine < theirs:
                mine, i = mine * before[i], i + 1
            else:
                theirs, k = theirs * after[k], k + 1
        found.append((slice(start, i), slice(other, k)))
    return found


def _wanted_shape(shape: Any, size: Any) -> tuple[Any, ...]:
    """Return a shape without -1."""
    wanted = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    wanted = tuple(n if n != n else n.__index__() for n in wanted)
    free = [n for n, length in enumerate(wanted) if length < 0]
    if len(free) > 1 or any(wanted[n] != -1 for n in free):
        raise ValueError(f"can only specify one unknown dimension, as -1; found shape {wanted}")
    rest = math.prod(length for length in wanted if length != -1)
    if free and rest and not size % rest:
        wanted = tuple(size // rest if length == -1 else length for length in wanted)
    if -1 in wanted or math.prod(wanted) != size:
        raise ValueError(f"cannot reshape array of size {size} into shape {wanted}")
    return wanted


def reshape(
    a: Any,
    shape: Any,
    order: str = "C",
    *,
    merge_chunks: bool = True,
    limit: int | str | None = None,
    copy: bool | None = None,
) -> Array:
    """Return an array with its elements in another shape.

    Blocks stay as they are where each is a block of the new shape; else the array is rechunked
    first, so that this is so.

    Parameters
    ----------
    a : array_like
    shape : int or tuple of int
        One length may be -1: what is left.
    order : {'C', 'F', 'A'}
        Which axis runs quickest, the last or the first. ``'A'`` is ``'C'`` here.
    merge_chunks : bool
        Blocks may be joined to larger ones. Else they are not, and there may be many.
    limit : int or str, optional
        Bytes of a block at most, if that is possible; by default the configuration's
        ``array.chunk-size``.
    copy
        Without effect.

    Raises
    ------
    ValueError
        If the new shape has another number of elements.
    InvalidArgument
        If it needs lengths that are not known.

    Examples
    --------
    >>> reshape(np.arange(6), (2, -1)).compute()
    array([[0, 1, 2],
           [3, 4, 5]])
    """
    array = asarray(a)
    if order not in ("C", "F", "A"):
        raise ValueError(f"order must be one of 'C', 'F' or 'A'; found {order!r}")
    if order == "F":
        turned = tuple(shape)[::-1] if isinstance(shape, tuple | list) else shape
        return transpose(reshape(transpose(array), turned, merge_chunks=merge_chunks, limit=limit))
    if not all(map(is_known, array.chunks)):
        return _with_unknown(array, shape)
    wanted = _wanted_shape(shape, array.size)
    if wanted == array.shape:
        return Array(array.expr)
    if array.size == 0:
        chunks = tuple((n,) for n in wanted)
        made = Generated("reshape", _Nothing(array.dtype), chunks, array.dtype, is_cheap=True)
        return Array(made)
    lean = squeeze(array)
    after = tuple(n for n in wanted if n != 1)
    if lean.shape != after:
        lean = _reshaped(lean, after, merge_chunks, _room(limit, array.dtype))
    axes = iter(range(lean.ndim))
    return permuted(lean, [None if n == 1 else next(axes) for n in wanted], "reshape")


def _room(limit: int | str | None, dtype: np.dtype[Any]) -> int:
    """Return how many elements a block may have."""
    if limit is None:
        limit = config.get("array.chunk-size", "128MiB")
    if isinstance(limit, str):
        limit = parse_bytes(limit)
    return max(int(limit) // max(dtype.itemsize, 1), 1)


class _Nothing:
    """Makes blocks without elements."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype

    def __call__(self, starts: tuple[int, ...], shape: tuple[int, ...]) -> Any:
        return np.empty(shape, self.dtype)

    def __zcluster_tokenize__(self) -> Any:
        return ("nothing", self.dtype)


def _reshaped(array: Array, after: _Lengths, merge_chunks: bool, room: int) -> Array:
    """Reshape an array without axes of length 1, and with elements."""
    groups = _groups(array.shape, after)
    largest = [math.prod(max(own) for own in array.chunks[mine]) for mine, _ in groups]
    plans = []
    for number, (mine, theirs) in enumerate(groups):
        others = math.prod(largest[:number] + largest[number + 1 :])
        own_room = max(room // max(others, 1), 1)
        plan = planned(array.shape[mine], after[theirs], array.chunks[mine], own_room, merge_chunks)
        largest[number] = math.prod(max(own) for own in plan.before)
        plans.append(plan)
    source = rechunked(array, tuple(own for plan in plans for own in plan.before))
    chunks = tuple(own for plan in plans for own in plan.after)
    if not all(plan.is_leading or plan.before == plan.after for plan in plans):
        return Array(_Reshaped(source.expr, chunks))
    axes: list[int] = []
    for (mine, theirs), plan in zip(groups, plans, strict=True):
        axes.append(theirs.start)
        axes += [-1] * (mine.stop - mine.start - 1)
        assert len(plan.before[0]) == len(plan.after[0])  # a block here is a block there
    return Array(
        Blockwise(
            "reshape",
            _in_shape,
            [source.expr],
            [0],
            [tuple(axes)],
            chunks,
            array.dtype,
            extra=(("shape", "shape"),),
        )
    )


def _in_shape(block: Any, shape: tuple[int, ...]) -> Any:
    return block.reshape(shape)


def _in_shape_of_row(constant: Any, block: Any) -> Any:
    return block.reshape(tuple(memoryview(constant).cast("q")))


class _Reshaped(Emitted):
    """An array of another shape, whose blocks hold the same elements in the same order."""

    def __init__(self, source: Expr, chunks: Chunks) -> None:
        super().__init__("reshape", (source,), chunks, source.dtype)

    def token(self) -> Any:
        return self.chunks

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return _Reshaped(inputs[0], self.chunks)

    def emit(self, lowering: Lowering) -> Codes:
        codes = lowering.codes(self.inputs[0]).reshape(-1, 1)
        shapes = np.stack(np.meshgrid(*self.chunks, indexing="ij"), axis=-1)
        made = lowering.add(
            self.name,
            _in_shape_of_row,
            codes,
            constants=Rows.fixed(shapes.reshape(len(codes), -1).astype(np.int64)),
            shape=self.numblocks,
            options=self.options,
        )
        return made.reshape(self.numblocks)


class _RowsInShape:
    """Reshapes the rows of a block, however many there are."""

    __slots__ = ("lead", "shape")

    __name__ = "reshape"

    def __init__(self, lead: int, shape: _Lengths) -> None:
        self.lead = lead
        self.shape = shape

    def __call__(self, block: Any) -> Any:
        rest = math.prod(self.shape)
        rows = block.size // rest if rest else len(block)
        return block.reshape((*[1] * self.lead, rows, *self.shape))

    def __zcluster_tokenize__(self) -> Any:
        return ("rows in shape", self.lead, self.shape)


def _with_unknown(array: Array, shape: Any) -> Array:
    """Reshape an array whose first axis has an unknown length, row by row."""
    wanted = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    lead = next((n for n, length in enumerate(wanted) if length != 1), 0)
    tail = wanted[lead + 1 :]
    known = [n == n for n in array.shape]
    inside = math.prod(
        n for n, known_one in zip(array.shape[1:], known[1:], strict=True) if known_one
    )
    outside = math.prod(tail)
    if (
        known[0]
        or not all(known[1:])
        or not wanted
        or (wanted[lead] != -1 and wanted[lead] == wanted[lead])
        or any(n != n or n < 0 for n in tail)
        or (inside != outside and (not outside or inside % outside))
    ):
        raise InvalidArgument(
            f"an array of shape {array.shape} cannot be reshaped to {wanted} before its lengths "
            "are known; call compute_chunk_sizes() first, or keep -1 in the place of the axis"
        )
    if array.ndim > 1:
        array = rechunked(array, dict.fromkeys(range(1, array.ndim), -1))
    chunks = ((1,),) * lead + (array.chunks[0],) + tuple((int(n),) for n in tail)
    axes = (lead, *[-1] * (array.ndim - 1))
    function = _RowsInShape(lead, tuple(int(n) for n in tail))
    return Array(Blockwise("reshape", function, [array.expr], [0], [axes], chunks, array.dtype))


def _reshape_method(array: Array, *shape: Any, **kwargs: Any) -> Array:
    """Return the array in another shape: ``x.reshape(2, 3)`` or ``x.reshape((2, 3))``."""
    if len(shape) == 1 and isinstance(shape[0], tuple | list):
        return reshape(array, shape[0], **kwargs)
    return reshape(array, kwargs.pop("shape", None) or shape, **kwargs)


def ravel(a: Any, order: str = "C") -> Array:
    """Return an array with all its elements along one axis.

    Examples
    --------
    >>> ravel([[1, 2], [3, 4]]).compute()
    array([1, 2, 3, 4])
    """
    return reshape(a, (-1,), "C" if order == "K" else order)


METHODS = {"flatten": ravel, "ravel": ravel, "reshape": _reshape_method}
