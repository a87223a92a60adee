"""All windows of a shape: `sliding_window_view`.

The windows that begin in a block reach into the blocks behind it. So a block is grown by what they
see there, which is one segment of an `AxisMap`, and then NumPy finds the windows in it: one task a
block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zcluster.array.axes import AxisMap, identity
from zcluster.array.chunks import AxisChunks, bounds, is_known, normalize_axis
from zcluster.array.core import Array, asarray
from zcluster.array.expressions import Blockwise, Gather
from zcluster.errors import InvalidArgument

__all__ = ["sliding_window_view"]


def sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, automatic_rechunk: bool = True
) -> Array:
    """Return all windows of a shape, along new axes at the end.

    Parameters
    ----------
    x : array
    window_shape : int or tuple of int
    axis : int or tuple of int, optional
        The axes that the windows slide along; by default all, in order.
    automatic_rechunk : bool
        Accepted; windows take from their neighbours what they need.

    Raises
    ------
    ValueError
        If a window is longer than the array.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> sliding_window_view(from_numpy(np.arange(5), 2), 3).compute()
    array([[0, 1, 2],
           [1, 2, 3],
           [2, 3, 4]])
    """
    array = asarray(x)
    window = tuple(window_shape) if np.iterable(window_shape) else (window_shape,)
    if any(length < 0 for length in window):
        raise ValueError("`window_shape` cannot contain negative values")
    axes: tuple[int, ...]
    if axis is None:
        axes = tuple(range(array.ndim))
        if len(window) != array.ndim:
            raise ValueError(
                f"window_shape has {len(window)} lengths; expected one for each of {array.ndim} "
                "axes, or axis="
            )
    else:
        named = tuple(axis) if np.iterable(axis) else (axis,)
        axes = tuple(normalize_axis(one, array.ndim) for one in named)
        if len(window) != len(axes):
            raise ValueError(f"window_shape has {len(window)} lengths for {len(axes)} axes")
    reach = [0] * array.ndim
    for one, length in zip(axes, window, strict=True):
        reach[one] += length - 1
    maps, chunks = [], []
    for number, (lengths, more) in enumerate(zip(array.chunks, reach, strict=True)):
        made, own = _windows(lengths, more, number)
        maps.append(made)
        chunks.append(own)
    grown = Gather(array.expr, maps, label="windows")
    made_windows = Blockwise(
        "sliding_window_view",
        Windows(window, axes),
        [grown],
        (0,),
        [tuple(range(array.ndim))],
        (*chunks, *((length,) for length in window)),
        array.dtype,
    )
    return Array(made_windows)


def _windows(lengths: AxisChunks, more: int, axis: int) -> tuple[AxisMap, AxisChunks]:
    """Return what the windows that begin in each chunk see, and how many begin there."""
    if not more:
        return identity(sum(lengths), lengths), lengths
    if not is_known(lengths):
        raise InvalidArgument(
            f"axis {axis} has chunks of unknown sizes; call compute_chunk_sizes() first"
        )
    points = bounds(lengths)
    total = int(points[-1]) - more
    if total < 1:
        raise ValueError("window shape cannot be larger than input array shape")
    stops = np.minimum(points[1:], total)
    counts = np.maximum(stops - points[:-1], 0)
    kept = np.flatnonzero(counts)
    starts, counts = points[:-1][kept], counts[kept]
    seen = counts + more
    made = AxisMap(starts, seen, np.ones_like(starts), tuple(seen.tolist()))
    return made, tuple(counts.tolist())


class Windows:
    """The windows of one block."""

    __slots__ = ("axes", "shape")

    __name__ = "sliding_window_view"

    def __init__(self, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
        self.shape = shape
        self.axes = axes

    def __call__(self, block: Any) -> Any:
        if any(not block.shape[axis] for axis in self.axes):  # NumPy finds no window there
            left = list(block.shape)
            for axis, length in zip(self.axes, self.shape, strict=True):
                left[axis] = max(left[axis] - length + 1, 0)
            return np.empty((*left, *self.shape), block.dtype)
        return np.lib.stride_tricks.sliding_window_view(block, self.shape, self.axes)

    def __zcluster_tokenize__(self) -> Any:
        return ("windows", self.shape, self.axes)
