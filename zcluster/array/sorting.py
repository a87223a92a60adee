"""Sorting along an axis, wherever it is chunked; the largest few; and orders of several keys.

An array of one axis is sorted across its blocks (`exchange`). With more axes each line is sorted
by itself: the sorted axis becomes one chunk and the others are cut finer, so that blocks keep their
size. Where a line is too long for that, each is sorted across blocks like an array of one axis.

Sorts are stable, whatever `kind` says: it is looked at for errors alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from zcluster import config
from zcluster.array.chunks import AxisChunks, Chunks, is_known, normalize_axis
from zcluster.array.core import Array, asarray, permuted, rechunked, unified
from zcluster.array.exchange import Exchange, Run, Sorted, merged
from zcluster.array.expressions import Blockwise, Concatenate, Dims
from zcluster.array.reducing import as_type, reduced
from zcluster.config import parse_bytes
from zcluster.errors import InvalidArgument

__all__ = [
    "argpartition",
    "argsort",
    "argtopk",
    "lexsort",
    "partition",
    "sort",
    "sort_complex",
    "topk",
]

_KINDS = ("quicksort", "heapsort", "mergesort", "stable")


# Lines --------------------------------------------------------------------------------------------


def line_limit() -> int:
    """Return how many bytes a block may have that holds whole lines of an axis."""
    limit = config.get("array.chunk-size", "128MiB")
    return parse_bytes(limit) if isinstance(limit, str) else int(limit)


def in_lines(x: Array, axes: Sequence[int]) -> Array:
    """Return an array with some axes in one chunk each, and the others cut finer for it.

    Blocks keep about their size.

    Examples
    --------
    >>> x = rechunked(asarray(np.zeros((8, 8))), 4)
    >>> in_lines(x, [1]).chunks
    ((2, 2, 2, 2), (8,))
    """
    wanted: dict[int, Any] = {axis: -1 for axis in axes if len(x.chunks[axis]) > 1}
    if not wanted:
        return x
    for axis in wanted:
        if not is_known(x.chunks[axis]):
            raise InvalidArgument(
                f"axis {axis} has chunks of unknown sizes, and is needed in one piece; call "
                "compute_chunk_sizes() first"
            )
    factor = math.prod(len(x.chunks[axis]) for axis in wanted)
    for axis, lengths in enumerate(x.chunks):
        if axis in axes or factor == 1 or not is_known(lengths):
            continue
        times = min(factor, max(max(lengths), 1))
        finer = tuple(part for length in lengths for part in _cut_in(length, times))
        factor = -(-factor // times)
        if finer != lengths:
            wanted[axis] = finer
    return rechunked(x, wanted)


def _cut_in(length: int, times: int) -> list[int]:
    """Cut a length into about so many."""
    times = max(min(times, length), 1)
    points = [length * place // times for place in range(times + 1)]
    return [after - before for before, after in itertools.pairwise(points)]


def on_lines(
    label: str,
    function: Callable[..., Any],
    x: Array,
    axis: int,
    dtype: Any,
    chunks: AxisChunks | None = None,
) -> Array:
    """Return a function of the blocks of an array whose axis is in one chunk."""
    x = in_lines(x, [axis])
    made: Chunks = x.chunks if chunks is None else (*x.chunks[:axis], chunks, *x.chunks[axis + 1 :])
    along = [tuple(range(x.ndim))]
    return Array(Blockwise(label, function, [x.expr], (0,), along, made, dtype))


def is_long(x: Array, axis: int) -> bool:
    """Tell whether one line along an axis is in several chunks, and too much for one block."""
    lengths = x.chunks[axis]
    if len(lengths) == 1 or not all(map(is_known, x.chunks)) or not x.size:
        return False
    return int(sum(lengths)) * x.itemsize > line_limit()


def each_line(function: Callable[[Array], Array], x: Array, axis: int) -> Array:
    """Return what a function of arrays of one axis makes of every line of an array."""
    if x.ndim == 1:
        return function(x)
    rest = [length for at, length in enumerate(x.shape) if at != axis]
    lines = []
    for place in np.ndindex(*rest):
        index: list[Any] = list(place)
        index.insert(axis, slice(None))
        lines.append(function(x[tuple(index)]))
    return _in_axes(lines, rest, axis)


def _in_axes(lines: list[Array], rest: list[int], axis: int) -> Array:
    """Return an array of lines, in C order of the other axes."""
    ndim = len(rest) + 1
    exprs = [Dims(line.expr, [None] * (ndim - 1) + [0]) for line in lines]
    for at in range(ndim - 2, -1, -1):
        count = rest[at]
        exprs = [
            Concatenate(exprs[start : start + count], at)  # type: ignore[misc]
            for start in range(0, len(exprs), count)
        ]
    axes = list(range(ndim - 1))
    axes.insert(axis, ndim - 1)
    return permuted(Array(exprs[0]), axes)


# Sorts --------------------------------------------------------------------------------------------


def _sorted_run(block: Any) -> Run:
    return (np.sort(block, kind="stable") if block.dtype.hasobject else np.sort(block),)


def _ordered_run(block: Any) -> Run:
    order = np.argsort(block, kind="stable")
    return block[order], order


def _sorted_lines(block: Any, axis: int, order: Any = None) -> Any:
    return np.sort(block, axis=axis, kind="stable", order=order)


def _ordered_lines(block: Any, axis: int, order: Any = None) -> Any:
    return np.argsort(block, axis=axis, kind="stable", order=order)


def _checked(a: Any, axis: Any, kind: Any, stable: Any) -> tuple[Array, int]:
    """Return an array and an axis of it; without an axis the flat array."""
    if kind is not None and kind not in _KINDS:
        raise ValueError(f"sort kind must be one of {', '.join(map(repr, _KINDS))} (got {kind!r})")
    if kind is not None and stable is not None:
        raise ValueError("`kind` and `stable` parameters can't be provided at the same time.")
    x = asarray(a)
    if axis is None:
        return (x if x.ndim == 1 else x.ravel()), 0
    return x, normalize_axis(axis, x.ndim)


def _sorted_across(x: Array, makes_order: bool) -> Array:
    """Return an array of one axis sorted across blocks, or its order."""
    make = _ordered_run if makes_order else _sorted_run
    label, array = ("argsort", 1) if makes_order else ("sort", 0)
    dtype = np.dtype(np.intp) if makes_order else x.dtype
    if is_known(x.chunks[0]):
        return Array(Sorted(label, x.expr, make, array, dtype, x.chunks[0]))
    finish = partial(_merged_array, array=array)
    buckets = len(x.chunks[0])
    return Array(
        Exchange(label, [x.expr], make, finish, buckets, [dtype], by_key=False, shifts=makes_order)
    )


def _merged_array(parts: Sequence[Any], array: int) -> Run:
    return (merged(parts)[array],)


def sort(
    a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Array:
    """Return the elements along an axis in order, nan at the end.

    Parameters
    ----------
    a : array_like
    axis : int or None
        None: the flat array.
    kind, stable
        As in NumPy; all sorts here are stable.
    order : str or list of str, optional
        Of structured arrays, the fields in the order in which they are compared.

    Returns
    -------
    sorted : Array
        Of the same chunks, if there is one axis; else the sorted axis is one chunk, and the others
        may be cut finer.

    Raises
    ------
    numpy.exceptions.AxisError
        If there is no such axis.

    Examples
    --------
    >>> x = rechunked(asarray([5, 3, 9, 1, 4]), 2)
    >>> sort(x).compute(), sort(x).chunks
    (array([1, 3, 4, 5, 9]), ((2, 2, 1),))
    """
    x, axis = _checked(a, axis, kind, stable)
    if _goes_across(x, axis, order):
        return each_line(partial(_sorted_across, makes_order=False), x, axis)
    return on_lines("sort", partial(_sorted_lines, axis=axis, order=order), x, axis, x.dtype)


def _goes_across(x: Array, axis: int, order: Any) -> bool:
    """Tell whether lines are sorted across blocks."""
    if order is not None or x.dtype.names or len(x.chunks[axis]) == 1 or not x.size:
        return False
    return x.ndim == 1 or is_long(x, axis)


def argsort(
    a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Array:
    """Return the places of the elements along an axis, in the order of the elements.

    Equal elements keep their order.

    Parameters
    ----------
    a, axis, kind, order, stable
        As in `sort`.

    Examples
    --------
    >>> argsort(rechunked(asarray([5, 3, 9, 1, 4]), 2)).compute()
    array([3, 1, 4, 0, 2])
    """
    x, axis = _checked(a, axis, kind, stable)
    if _goes_across(x, axis, order):
        return each_line(partial(_sorted_across, makes_order=True), x, axis)
    return on_lines("argsort", partial(_ordered_lines, axis=axis, order=order), x, axis, np.intp)


def sort_complex(a: Any) -> Array:
    """Return the elements along the last axis in order, as complex numbers.

    Parameters
    ----------
    a : array_like

    Examples
    --------
    >>> sort_complex(asarray([2, 1])).compute()
    array([1.+0.j, 2.+0.j])
    """
    x = sort(a)
    return as_type(x, np.sort_complex(np.ones(1, x.dtype)).dtype)


def partition(a: Any, kth: Any, axis: Any = -1, kind: Any = "introselect") -> Array:
    """Return the elements so that the kth ones stand where they would in order.

    What is smaller stands before, what is not after: here the elements are in order altogether.

    Parameters
    ----------
    a : array_like
    kth : int or sequence of int
    axis : int or None
    kind : str
        As in NumPy.

    Raises
    ------
    ValueError
        If one of the places is none of the axis.

    Examples
    --------
    >>> int(partition(rechunked(asarray([5, 3, 9, 1, 4]), 2), 2)[2].compute())
    4
    """
    _check_kth(a, kth, axis)
    return sort(a, axis)


def argpartition(a: Any, kth: Any, axis: Any = -1, kind: Any = "introselect") -> Array:
    """Return places so that those of the kth elements stand where they would in order.

    Parameters
    ----------
    a, kth, axis, kind
        As in `partition`.

    Examples
    --------
    >>> int(argpartition(rechunked(asarray([5, 3, 9, 1, 4]), 2), 2)[2].compute())
    4
    """
    _check_kth(a, kth, axis)
    return argsort(a, axis)


def _check_kth(a: Any, kth: Any, axis: Any) -> None:
    x = asarray(a)
    length = x.size if axis is None else x.shape[normalize_axis(axis, x.ndim)]
    for one in np.ravel(kth).tolist():
        if not isinstance(one, int) or isinstance(one, bool):
            raise TypeError("Partition index must be integer")
        if length == length and not -length <= one < length:
            raise ValueError(f"kth(={one}) out of bounds ({length})")


def lexsort(keys: Any, axis: int = -1) -> Array:
    """Return the places of elements in the order of several keys, the last of which counts most.

    Parameters
    ----------
    keys : sequence of array_like, or array_like
        Of one shape; or an array whose first axis goes through the keys.
    axis : int
        It becomes one chunk.

    Examples
    --------
    >>> lexsort([[1, 5, 1, 4], [2, 1, 1, 1]]).compute()
    array([2, 3, 1, 0])
    """
    if isinstance(keys, Array):
        keys = [keys[place] for place in range(keys.shape[0])]
    arrays = [asarray(key) for key in keys]
    if not arrays:
        raise TypeError("need sequence of keys with len > 0 in lexsort")
    if len({str(one.shape) for one in arrays}) > 1:
        raise ValueError(f"keys of shapes {[one.shape for one in arrays]}: expected one shape")
    ndim = arrays[0].ndim
    axis = normalize_axis(axis, ndim)
    along = tuple(range(ndim))
    arrays, _ = unified([in_lines(one, [axis]) for one in arrays], [along] * len(arrays))
    return Array(
        Blockwise(
            "lexsort",
            partial(_lexsorted, axis=axis),
            [one.expr for one in arrays],
            tuple(range(len(arrays))),
            [along] * len(arrays),
            arrays[0].chunks,
            np.intp,
        )
    )


def _lexsorted(*keys: Any, axis: int) -> Any:
    return np.lexsort(keys, axis=axis)


# The largest few ----------------------------------------------------------------------------------


class _Largest:
    """The k largest elements along an axis, or with -k the smallest; maybe with their places.

    Attributes
    ----------
    stage : str
        ``"chunk"``, ``"combine"`` or ``"last"``, which puts them in order.
    """

    __slots__ = ("axis", "k", "places", "stage")

    def __init__(self, stage: str, k: int, axis: int, places: bool) -> None:
        self.stage = stage
        self.k = k
        self.axis = axis
        self.places = places

    @property
    def __name__(self) -> str:
        return f"{'arg' if self.places else ''}topk_{self.stage}"

    def __zcluster_tokenize__(self) -> Any:
        return ("topk", self.stage, self.k, self.axis, self.places)

    def __call__(self, given: Any, offsets: Any = None) -> Any:
        values, places = given if type(given) is tuple else (given, None)
        if self.places and places is None:  # of a block
            shape = [1] * values.ndim
            shape[self.axis] = -1
            places = np.arange(values.shape[self.axis]).reshape(shape) + offsets[self.axis]
            places = np.broadcast_to(places, values.shape)
        if not self.places:
            found = self._few(values)
            return found if self.stage != "last" else self._ordered(np.sort(found, self.axis))
        order = self._few(values, np.argpartition)
        values, places = (np.take_along_axis(one, order, self.axis) for one in (values, places))
        if self.stage != "last":
            return values, places
        order = np.argsort(values, self.axis, kind="stable")
        return self._ordered(np.take_along_axis(places, order, self.axis))

    def _few(self, values: Any, function: Any = np.partition) -> Any:
        """Return the k largest, or where they are, in no order."""
        length, axis, k = values.shape[self.axis], self.axis, self.k
        if length <= abs(k):
            if function is np.partition:
                return values
            shape = [1] * values.ndim
            shape[axis] = -1
            return np.broadcast_to(np.arange(length).reshape(shape), values.shape)
        found = function(values, -k if k > 0 else -k - 1, axis=axis)
        kept = slice(-k, None) if k > 0 else slice(None, -k)
        return found[(slice(None),) * axis + (kept,)]

    def _ordered(self, found: Any) -> Any:
        """Return what is in rising order with the most extreme first."""
        return np.flip(found, self.axis) if self.k > 0 else found


def _top(a: Any, k: int, axis: int, split_every: Any, places: bool) -> Array:
    x = asarray(a)
    axis = normalize_axis(axis, x.ndim)
    k = int(k)
    if not k:
        raise InvalidArgument("k=0: expected how many of the largest, or less than 0: the smallest")
    if places and not is_known(x.chunks[axis]):
        raise InvalidArgument(
            f"axis {axis} has chunks of unknown sizes, so there are no places in it; call "
            "compute_chunk_sizes() first"
        )
    length = x.shape[axis]
    few = abs(k) if length != length else min(abs(k), length)
    steps = tuple(_Largest(stage, k, axis, places) for stage in ("chunk", "combine", "last"))
    return reduced(
        "argtopk-aggregate" if places else "topk-aggregate",
        x.expr,
        (axis,),
        (steps[0], steps[1], steps[2]),
        np.intp if places else x.dtype,
        keepdims=True,
        split_every=split_every,
        takes_offsets=places,
        lengths=[few],
    )


def topk(a: Any, k: int, axis: int = -1, split_every: Any = None) -> Array:
    """Return the k largest elements along an axis, the largest first.

    Parameters
    ----------
    a : array_like
    k : int
        With less than 0 the smallest ones, the smallest first.
    axis : int
    split_every : int or dict of int, optional
        How many partial results go into one task.

    Raises
    ------
    InvalidArgument
        If k is 0.

    Examples
    --------
    >>> topk(asarray([5, 1, 3, 6]), 2).compute(), topk(asarray([5, 1, 3, 6]), -2).compute()
    (array([6, 5]), array([1, 3]))
    """
    return _top(a, k, axis, split_every, False)


def argtopk(a: Any, k: int, axis: int = -1, split_every: Any = None) -> Array:
    """Return the places of the k largest elements along an axis; see `topk`.

    Examples
    --------
    >>> argtopk(asarray([5, 1, 3, 6]), 2).compute()
    array([3, 0])
    """
    return _top(a, k, axis, split_every, True)


METHODS = {
    "argpartition": argpartition,
    "argsort": argsort,
    "argtopk": argtopk,
    "topk": topk,
}
