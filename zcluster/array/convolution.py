"""Convolution and correlation of lines, by ghosting: `convolve`, `correlate`.

Each block of the result is made of the elements of the longer line that it overlaps with, which are
those of a block and a margin of its neighbours. Nothing is padded: what lies beyond the ends takes
no part, as with NumPy, also where there are infinite numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zcluster.array.axes import AxisMap
from zcluster.array.chunks import AxisChunks, bounds, is_known
from zcluster.array.core import Array, asarray, elementwise, rechunked
from zcluster.array.expressions import Blockwise, Gather
from zcluster.array.slicing import getitem
from zcluster.errors import InvalidArgument

__all__ = ["convolve", "correlate"]

_MODES = ("full", "same", "valid")
_BACKWARD = slice(None, None, -1)


def convolve(a: Any, v: Any, mode: str = "full") -> Array:
    """Return the convolution of two lines.

    Parameters
    ----------
    a, v : array_like, shape (n,) and (m,)
        The shorter one is brought into one chunk.
    mode : {"full", "same", "valid"}
        All places where they overlap, as many as the longer line has, or those where they overlap
        all along.

    Raises
    ------
    ValueError
        If one is empty or no line.

    Examples
    --------
    >>> convolve([1, 2, 3], [0, 1, 10]).compute()
    array([ 0,  1, 12, 23, 30])
    """
    long, short = _lines(a, v, True)
    if short.shape[0] > long.shape[0]:
        long, short = short, long
    return _convolved(long, short, _mode(mode), 0)


def correlate(a: Any, v: Any, mode: str = "valid") -> Array:
    """Return the correlation of two lines: how alike they are, for each distance.

    Parameters
    ----------
    a, v : array_like, shape (n,) and (m,)
        The shorter one is brought into one chunk.
    mode : {"valid", "same", "full"}
        As of `convolve`.

    Raises
    ------
    ValueError
        If one is empty or no line.

    Examples
    --------
    >>> correlate([1, 2, 3], [0, 1, 10], "same").compute()
    array([21, 32,  3])
    """
    first, second = _lines(a, v, False)
    if second.dtype.kind == "c":
        second = elementwise(np.conjugate, second)
    turned = getitem(second, _BACKWARD)
    if turned.shape[0] <= first.shape[0]:
        return _convolved(first, turned, _mode(mode), 0)
    return _convolved(turned, first, _mode(mode), 1)


def _lines(a: Any, v: Any, takes_numbers: bool) -> tuple[Array, Array]:
    lines = asarray(a), asarray(v)
    for name, one in zip("av", lines, strict=True):
        if one.ndim > 1 or not (one.ndim or takes_numbers):
            raise ValueError(f"{name} has {one.ndim} dimensions; expected a line, of 1 dimension")
        if one.ndim and not is_known(one.chunks[0]):
            raise InvalidArgument(
                f"{name} has chunks of unknown sizes; call compute_chunk_sizes() first"
            )
        if not one.size:
            raise ValueError(f"{name} cannot be empty")
    first, second = (one if one.ndim else _line_of(one) for one in lines)
    return first, second


def _line_of(number: Array) -> Array:
    line: Array = getitem(number, None)
    return line


def _mode(mode: str) -> str:
    if mode not in _MODES:
        raise ValueError(f"mode={mode!r}; expected one of {', '.join(map(repr, _MODES))}")
    return mode


def _convolved(long: Array, short: Array, mode: str, shift: int) -> Array:
    """Return a convolution; `shift` moves the middle of ``"same"`` where it lies between two."""
    length, more = long.shape[0], short.shape[0] - 1
    first, last = {
        "full": (0, length + more),
        "same": ((more + shift) // 2, (more + shift) // 2 + length),
        "valid": (more, length),
    }[mode]
    starts, stops = _borders(long.chunks[0], first, last)
    lows = np.maximum(starts - more, 0)
    highs = np.minimum(stops, length)
    seen = tuple((highs - lows).tolist())
    grown = Gather(long.expr, [AxisMap(lows, highs - lows, np.ones_like(lows), seen)])
    kernel = rechunked(short, -1)
    made = Blockwise(
        "convolve",
        Convolved(tuple((starts - lows).tolist())),
        [grown, kernel.expr],
        (0, 1),
        [(0,), (-1,)],
        (tuple((stops - starts).tolist()),),
        np.convolve(np.ones(1, long.dtype), np.ones(1, short.dtype)).dtype,
        extra=(("index", "index"), ("shape", "shape")),
    )
    return Array(made)


def _borders(chunks: AxisChunks, first: int, last: int) -> tuple[Any, Any]:
    """Cut the places from `first` to `last` where the chunks of a line end."""
    points = bounds(chunks)[1:-1]
    inner = np.unique(points[(points > first) & (points < last)])
    points = np.concatenate([[first], inner, [last]])
    return points[:-1], points[1:]


class Convolved:
    """The convolution of a piece of a line, cut to the places that the block is to have.

    Attributes
    ----------
    befores : tuple of int
        For each block, how many places come before them.
    """

    __slots__ = ("befores",)

    __name__ = "convolve"

    def __init__(self, befores: tuple[int, ...]) -> None:
        self.befores = befores

    def __call__(self, piece: Any, kernel: Any, *, index: tuple[int], shape: tuple[int]) -> Any:
        start = self.befores[index[0]]
        return np.convolve(piece, kernel)[start : start + shape[0]]

    def __zcluster_tokenize__(self) -> Any:
        return ("convolved", self.befores)
