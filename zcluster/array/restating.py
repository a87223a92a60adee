"""Blocks as they are, seen in another grid: nothing is computed, and no task is added.

`Restated` says other lengths of the same blocks: those that were found out, or none at all.
`Picked` is some of the blocks along each axis, whatever their lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from zcluster.array.axes import AxisMap
from zcluster.array.chunks import Chunks, bounds, is_known
from zcluster.array.core import Array
from zcluster.array.expressions import Emitted, Expr, Gather
from zcluster.array.lowering import Codes, Lowering
from zcluster.errors import InvalidArgument

__all__ = ["Picked", "Restated", "check_known", "picked"]


class Restated(Emitted):
    """The same blocks, of which other chunk lengths are said.

    Parameters
    ----------
    source : Expr
    chunks : tuple of tuples
        As many as the source has; nan for lengths that are not known.
    """

    def __init__(self, source: Expr, chunks: Chunks) -> None:
        super().__init__(source.label, (source,), chunks, source.dtype)

    def token(self) -> Any:
        return self.chunks

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Restated(inputs[0], self.chunks)

    def emit(self, lowering: Lowering) -> Codes:
        return lowering.codes(self.inputs[0])


class Picked(Emitted):
    """Some of the blocks along each axis, in any order.

    Parameters
    ----------
    source : Expr
    places : sequence of tuple of int
        For each axis the numbers of the chunks that are taken.
    """

    def __init__(self, source: Expr, places: Sequence[tuple[int, ...]]) -> None:
        chunks = tuple(
            tuple(own[place] for place in axis)
            for axis, own in zip(places, source.chunks, strict=True)
        )
        super().__init__("blocks", (source,), chunks, source.dtype)
        self.places = tuple(places)

    def token(self) -> Any:
        return self.places

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Picked(inputs[0], self.places)

    def emit(self, lowering: Lowering) -> Codes:
        codes = lowering.codes(self.inputs[0])
        return codes[np.ix_(*self.places)] if self.places else codes


def picked(array: Array, places: Sequence[Sequence[int]]) -> Array:
    """Return some of the blocks of an array along each axis, as an array.

    Parameters
    ----------
    array : Array
    places : sequence of sequence of int
        For each axis the numbers of the chunks that are taken; at least one.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> picked(from_numpy(np.arange(6), chunks=2), [[2, 0]]).compute()
    array([4, 5, 0, 1])
    """
    taken = [tuple(int(place) for place in axis) for axis in places]
    if all(map(is_known, array.chunks)):
        maps = []
        for axis, own in zip(taken, array.chunks, strict=True):
            chosen = np.asarray(axis, np.int64)
            lengths = np.asarray(own, np.int64)[chosen]
            steps = np.ones(len(axis), np.int64)
            maps.append(AxisMap(bounds(own)[chosen], lengths, steps, tuple(lengths.tolist())))
        return Array(Gather(array.expr, maps, label="blocks"))
    return Array(Picked(array.expr, taken))


def check_known(array: Array, axes: Sequence[int], what: str) -> None:
    """See that the lengths of some axes are known.

    Parameters
    ----------
    what : str
        What needs to know them, for the error.

    Raises
    ------
    InvalidArgument
        If one is not.
    """
    for axis in axes:
        if math.isnan(array.shape[axis]):
            raise InvalidArgument(
                f"{what} needs the length of axis {axis}, which has chunks of unknown sizes; call "
                "compute_chunk_sizes() first"
            )
