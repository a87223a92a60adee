"""What writes other elements into blocks: the expressions and the functions of `assigning`.

All of them write into a copy of a block. `Assigned` and `AssignedPoints` have a task for each block
that is touched; the other blocks are those of the source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zcluster.array.chunks import AxisChunks
from zcluster.array.core import Array
from zcluster.array.expressions import Emitted, Expr
from zcluster.array.lowering import Codes, Lowering
from zcluster.array.picking import check_range
from zcluster.array.rows import Rows, interleaved

__all__ = [
    "Assigned",
    "AssignedPoints",
    "PutField",
    "PutMasked",
    "PutPlaces",
    "Touched",
    "put_where",
]

Integers = npt.NDArray[np.int64]

# By axis ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Touched:
    """What an index touches of an axis.

    Attributes
    ----------
    chunks : ndarray of int64
        The chunks it touches, ascending.
    lengths : tuple of int
        How many places of each.
    places : Rows
        For each of them, start, stop and step of a slice, or the places.
    """

    chunks: Integers
    lengths: AxisChunks
    places: Rows
    is_list: bool

    def __zcluster_tokenize__(self) -> Any:
        return (self.chunks, self.places.values, self.places.points, self.is_list)


class Assigned(Emitted):
    """Other elements at places that are said by axis.

    Parameters
    ----------
    source : Expr
    touched : list of Touched
        For each axis.
    value : Array or scalar
        An array has as many axes; along each its chunks go along with the touched ones, or there
        is one of length 1.
    """

    def __init__(self, source: Expr, touched: list[Touched], value: Any) -> None:
        inputs = (source, value.expr) if isinstance(value, Array) else (source,)
        super().__init__("setitem", inputs, source.chunks, source.dtype)
        self.touched = touched
        self.scalar = None if isinstance(value, Array) else value

    def token(self) -> Any:
        return (self.touched, self.scalar)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Assigned(inputs[0], self.touched, Array(inputs[1]) if inputs[1:] else self.scalar)

    def emit(self, lowering: Lowering) -> Codes:
        codes = lowering.codes(self.inputs[0]).copy()
        region = np.ix_(*[one.chunks for one in self.touched])
        taken = [np.asarray(codes[region])]
        grid = taken[0].shape
        if self.inputs[1:]:
            taken.append(np.broadcast_to(lowering.codes(self.inputs[1]), grid))
        inputs = np.stack([each.reshape(-1) for each in taken], axis=1)
        tables = [np.indices(grid)[axis].reshape(-1) for axis in range(len(grid))]
        rows = [one.places.take(table) for one, table in zip(self.touched, tables, strict=True)]
        heads = [
            np.diff(one.places.points)[table]
            for one, table in zip(self.touched, tables, strict=True)
        ]
        told = Rows.fixed(np.stack(heads, axis=1)) if heads else None
        made = lowering.add(
            self.name,
            _Put(tuple(one.is_list for one in self.touched), self.scalar),
            inputs,
            constants=None if told is None else interleaved([told, *rows]),
            shape=grid,
            options=self.options,
        )
        codes[region] = made.reshape(grid)
        return codes


class _Put:
    """Writes into a copy of a block, at slices and places by axis.

    It is told, for each axis, how many integers say it; then these.
    """

    __slots__ = ("are_lists", "scalar")

    __name__ = "setitem"

    def __init__(self, are_lists: tuple[bool, ...], scalar: Any) -> None:
        self.are_lists = are_lists
        self.scalar = scalar

    def __call__(self, *given: Any) -> Any:
        index: list[Any] = []
        if self.are_lists:
            told, *given = given  # type: ignore[assignment]
            row = np.frombuffer(told, np.int64)
            at = ndim = len(self.are_lists)
            for count, is_list in zip(row[:ndim].tolist(), self.are_lists, strict=True):
                said = row[at : at + count]
                index.append(said if is_list else slice(*said.tolist()))
                at += count
        made = np.array(given[0], subok=True)
        made[tuple(index)] = given[1] if len(given) > 1 else self.scalar
        return made


# By points ----------------------------------------------------------------------------------------


class AssignedPoints(Emitted):
    """Other elements at some points.

    Parameters
    ----------
    source : Expr
    axes : tuple of int
        That the points are places on.
    touched : ndarray of int64
        The blocks that have points, as numbers in the grid of these axes.
    counts : ndarray of int64
        How many each has.
    offsets : list of ndarray of int64
        For each of the axes, the place of each point in its block, in the order of the blocks.
    value : Array or scalar
        Of an array the first axis is the points, in that order, a chunk for each block, or one of
        length 1; the others are those that the points say nothing of.
    """

    def __init__(
        self,
        source: Expr,
        axes: tuple[int, ...],
        touched: Integers,
        counts: Integers,
        offsets: list[Integers],
        value: Any,
    ) -> None:
        inputs = (source, value.expr) if isinstance(value, Array) else (source,)
        super().__init__("setitem", inputs, source.chunks, source.dtype)
        self.axes = axes
        self.touched = touched
        self.counts = counts
        self.offsets = offsets
        self.scalar = None if isinstance(value, Array) else value

    def token(self) -> Any:
        return (self.axes, self.touched, self.counts, self.offsets, self.scalar)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        value = Array(inputs[1]) if inputs[1:] else self.scalar
        return AssignedPoints(inputs[0], self.axes, self.touched, self.counts, self.offsets, value)

    def emit(self, lowering: Lowering) -> Codes:
        source = self.inputs[0]
        kept = [axis for axis in range(source.ndim) if axis not in self.axes]
        codes = lowering.codes(source).transpose([*self.axes, *kept])
        lines = codes.reshape(math.prod(codes.shape[: len(self.axes)]), -1).copy()
        taken = [lines[self.touched]]
        if self.inputs[1:]:
            grid = (len(self.touched), *codes.shape[len(self.axes) :])
            told = np.broadcast_to(lowering.codes(self.inputs[1]), grid)
            taken.append(told.reshape(taken[0].shape))
        indptr = np.zeros(len(self.touched) + 1, np.int64)
        np.cumsum(self.counts, out=indptr[1:])
        rows = interleaved([Rows.of(indptr, each) for each in self.offsets])
        made = lowering.add(
            self.name,
            _PutPoints(self.axes, self.scalar),
            np.stack([each.reshape(-1) for each in taken], axis=1),
            constants=rows.take(np.repeat(np.arange(len(self.touched)), lines.shape[1])),
            shape=taken[0].shape,
            options=self.options,
        )
        lines[self.touched] = made.reshape(taken[0].shape)
        return lines.reshape(codes.shape).transpose(np.argsort([*self.axes, *kept]))


class _PutPoints:
    """Writes into a copy of a block, at points; it is told their places, axis after axis."""

    __slots__ = ("axes", "scalar")

    __name__ = "setitem"

    def __init__(self, axes: tuple[int, ...], scalar: Any) -> None:
        self.axes = axes
        self.scalar = scalar

    def __call__(self, told: Any, block: Any, *value: Any) -> Any:
        offsets = np.frombuffer(told, np.int64).reshape(len(self.axes), -1)
        made = np.array(block, subok=True)
        kept = [axis for axis in range(made.ndim) if axis not in self.axes]
        made.transpose([*self.axes, *kept])[tuple(offsets)] = value[0] if value else self.scalar
        return made


# Lazy masks and places ----------------------------------------------------------------------------


def put_where(block: Any, mask: Any, value: Any) -> Any:
    """Return a block with other elements where a mask is true."""
    made = np.array(block, subok=True)
    np.copyto(made, value, where=mask, casting="unsafe")
    return made


class PutField:
    """Writes a field of records."""

    __slots__ = ("name",)

    __name__ = "setitem"

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, block: Any, value: Any) -> Any:
        made = np.array(block, subok=True)
        made[self.name] = value
        return made

    def __zcluster_tokenize__(self) -> Any:
        return ("put field", self.name)


class PutMasked:
    """Writes as many values as a mask is true at, along an axis."""

    __slots__ = ("axis",)

    __name__ = "setitem"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def __call__(self, block: Any, mask: Any, value: Any) -> Any:
        made = np.array(block, subok=True)
        made[(*[slice(None)] * self.axis, mask)] = value
        return made

    def __zcluster_tokenize__(self) -> Any:
        return ("put masked", self.axis)


class PutPlaces:
    """Writes what a block has of some places along an axis."""

    __slots__ = ("axis", "length", "scalar")

    __name__ = "setitem"

    def __init__(self, axis: int, length: int, scalar: Any) -> None:
        self.axis = axis
        self.length = length
        self.scalar = scalar

    def __call__(self, block: Any, places: Any, *value: Any, start: Any) -> Any:
        places = check_range(places, self.axis, self.length) - start[self.axis]
        some = np.flatnonzero((places >= 0) & (places < block.shape[self.axis]))
        lead = (slice(None),) * self.axis
        made = np.array(block, subok=True)
        values = value[0] if value else self.scalar
        if np.ndim(values) and values.shape[self.axis] != 1:
            values = values[(*lead, some)]
        made[(*lead, places[some])] = values
        return made

    def __zcluster_tokenize__(self) -> Any:
        return ("put places", self.axis, self.length, self.scalar)
