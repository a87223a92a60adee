"""Basic indexing: integers, slices, ``None``, ``...``, and a list of integers on an axis.

`indexing` has all else, and is what ``x[...]`` asks. An index becomes a `Gather` (what stays of
each axis) and a `Dims` (axes that integers take out and ``None`` puts in). Neither computes
anything, and both move towards the source.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zcluster.array.axes import AxisMap, identity, of_indices, of_slice
from zcluster.array.chunks import is_known
from zcluster.array.core import Array, permuted
from zcluster.array.expressions import Gather
from zcluster.errors import InvalidArgument

__all__ = ["basic", "expanded", "getitem"]


def expanded(index: Any, ndim: int) -> list[Any]:
    """Return an index with an entry for each axis, ``None`` where there is a new one.

    Raises
    ------
    IndexError
        If there are more entries than axes.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    taken = sum(_axes_of(item) for item in items)
    ellipses = sum(item is Ellipsis for item in items)
    if ellipses > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if taken > ndim:
        raise IndexError(
            f"too many indices for array: array is {ndim}-dimensional, but {taken} were indexed"
        )
    if not ellipses:
        items.append(Ellipsis)
    place = next(place for place, item in enumerate(items) if item is Ellipsis)
    items[place : place + 1] = [slice(None)] * (ndim - taken)
    return items


def _axes_of(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    if getattr(item, "dtype", None) == np.bool_:
        return int(item.ndim)
    return 1


def basic(array: Array, items: list[Any]) -> Array:
    """Index an array with what `expanded` returned: integers, slices, None and integer arrays.

    Raises
    ------
    IndexError
        If an integer is out of range.
    """
    maps: list[AxisMap] = []
    axes: list[int | None] = []  # of the result
    for item in items:
        if item is None:
            axes.append(None)
            continue
        axis = len(maps)
        made = _axis_map(item, array, axis)
        maps.append(made)
        if not _is_integer(item):
            axes.append(axis)
    gathered = Array(Gather(array.expr, maps))
    if axes == list(range(array.ndim)):
        return gathered
    return permuted(gathered, axes, "getitem")


def _is_integer(item: Any) -> bool:
    return isinstance(item, int | np.integer) and not isinstance(item, bool | np.bool_)


def _axis_map(item: Any, array: Array, axis: int) -> AxisMap:
    length, chunks = array.shape[axis], array.chunks[axis]
    if isinstance(item, slice) and item == slice(None):
        return identity(length, chunks)
    if not is_known(chunks):
        raise InvalidArgument(
            f"axis {axis} has chunks of unknown sizes, so {item!r} cannot be found in it; call "
            "compute_chunk_sizes() first"
        )
    if _is_integer(item):
        if not -length <= item < length:
            raise IndexError(f"index {item} is out of bounds for axis {axis} with size {length}")
        return of_slice(int(item) % length, 1, 1, chunks)
    if isinstance(item, slice):
        start, stop, step = item.indices(length)
        count = len(range(start, stop, step))
        if (start, count, step) == (0, length, 1):
            return identity(length, chunks)
        return of_slice(start if count else 0, count, step if count else 1, chunks)
    indices = np.asarray(item)
    if indices.size == 0:
        indices = indices.astype(np.int64)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), None and integer or boolean arrays "
            f"are valid indices; found {item!r} for axis {axis}"
        )
    wrong = (indices < -length) | (indices >= length)
    if wrong.any():
        first = int(indices[wrong][0])
        raise IndexError(f"index {first} is out of bounds for axis {axis} with size {length}")
    return of_indices(indices.astype(np.int64) % max(length, 1), chunks)


def getitem(array: Array, index: Any) -> Array:
    """Return ``array[index]``, lazily, for a basic index.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> getitem(from_numpy(np.arange(10), chunks=4), slice(8, 2, -3)).compute()
    array([8, 5])
    """
    return basic(array, expanded(index, array.ndim))
