"""``x[index]`` with all that NumPy takes, ``x.vindex``, ``x.blocks``, and functions that pick.

`parsed` takes an index apart into a basic one (`slicing`) and **advanced** ones of what that gives:
arrays of places and masks, NumPy's or lazy. What comes of these follows NumPy's rules: integers
count among the advanced where there is an array; the axes of the advanced ones stand where the
first of them stood, or in front if there is anything between them.

==================================  ===================================================
one list of integers, a mask        a `Gather` along the axis (`slicing`)
several arrays of integers          their points (`points`)
lazy integers, lazy masks           `picking`
==================================  ===================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any

import numpy as np

from zcluster.array.chunks import normalize_axis
from zcluster.array.core import Array, asarray, elementwise, permuted
from zcluster.array.manipulation import moveaxis
from zcluster.array.picking import check_range, compressed, out_of_range, taken, taken_at_points
from zcluster.array.points import Points, points_chunks
from zcluster.array.reducing import put_out
from zcluster.array.reshaping import ravel
from zcluster.array.restating import check_known, picked
from zcluster.array.slicing import basic, expanded
from zcluster.errors import InvalidArgument

__all__ = ["compress", "extract", "getitem", "parsed", "take"]

_BASIC = frozenset({int, slice, type(None), EllipsisType})

_EXPECTED = (
    "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean "
    "arrays are valid indices"
)


def normal_item(item: Any) -> Any:
    """Return an entry of an index as an int, slice, None, Ellipsis, ndarray or Array.

    Raises
    ------
    IndexError
        If it is nothing of these.
    """
    if type(item) in _BASIC or isinstance(item, slice):
        return item
    if isinstance(item, Array):
        if item.dtype.kind not in "iub":
            raise IndexError(
                f"arrays used as indices must be of integer (or boolean) type; found {item.dtype}"
            )
        return item
    if isinstance(item, bool | np.bool_):
        return np.asarray(item)
    if hasattr(item, "__index__") and not getattr(item, "ndim", 0):
        try:
            return item.__index__()
        except TypeError:
            pass  # an array of another type, which is looked at below
    if isinstance(item, str) or not hasattr(item, "__len__"):
        raise IndexError(f"{_EXPECTED}; found {item!r}")
    values = np.asarray(item)
    if not values.size and not isinstance(item, np.ndarray):
        values = values.astype(np.int64)
    if values.dtype.kind not in "iub":
        raise IndexError(
            f"arrays used as indices must be of integer (or boolean) type; found {values.dtype}"
        )
    return values


@dataclass(eq=False)
class Parsed:
    """An index taken apart.

    Attributes
    ----------
    basic : list
        What comes first: an index with an entry for each axis and each new one.
    axes : list of int
        For each advanced index, the axis of the result of `basic`; of a mask the first.
    advanced : list of ndarray or Array
        Places from 0 on, if they are known; lazy places, lazy masks.
    at : int
        Where the axes of the advanced ones stand in the result.
    entry : int
        In `basic`, where the entry of the last advanced one is.
    """

    basic: list[Any] = field(default_factory=list)
    axes: list[int] = field(default_factory=list)
    advanced: list[Any] = field(default_factory=list)
    at: int = 0
    entry: int = 0

    @property
    def is_lazy(self) -> bool:
        return any(isinstance(one, Array) for one in self.advanced)


def parsed(array: Array, index: Any) -> Parsed:
    """Take an index apart.

    Raises
    ------
    IndexError
        If it is none, or known to be out of range.
    """
    given = index if isinstance(index, tuple) else (index,)
    items = tuple(normal_item(item) for item in given)
    entries = expanded(items, array.ndim)
    made = Parsed()
    is_first = True
    axis = out = 0  # of the array, of the result of the basic index
    for item in entries:
        is_kept = item is None or isinstance(item, slice)
        if not is_kept and is_first:
            made.at, is_first = out, False
        if is_kept or isinstance(item, int):
            made.basic.append(item)
            axis += item is not None
            out += is_kept
            continue
        for one in _advanced(item, array, axis):
            made.entry = len(made.basic)
            made.axes.append(out)
            made.advanced.append(one)
            is_new = item.dtype == np.bool_ and not item.ndim
            made.basic += [None if is_new else slice(None)] * _width(one)
            out += _width(one)
        axis += item.ndim if item.dtype == np.bool_ else 1
    # An ellipsis that stands for nothing parts them, too.
    parts = [item is None or isinstance(item, slice | EllipsisType) for item in items]
    if made.advanced and any(parts[parts.index(False) : len(parts) - parts[::-1].index(False)]):
        made.at = 0  # they do not stand side by side
    return made


def _width(one: Any) -> int:
    """Return of how many axes an advanced index picks."""
    is_mask = isinstance(one, Array) and one.dtype == np.bool_
    return one.ndim if is_mask else 1


def _advanced(item: Any, array: Array, axis: int) -> list[Any]:
    """Return the advanced indices that an entry for some axes is: of a mask the places."""
    if item.dtype == np.bool_ and not item.ndim:  # of a new axis of length 1
        if isinstance(item, Array):
            return [permuted(item, [None])]
        return [np.zeros(int(item), np.int64)]
    if isinstance(item, Array):
        return [item]
    if item.dtype != np.bool_:
        check_known(array, [axis], "an index of integers")
        return [check_range(item, axis, array.shape[axis])]
    for number, length in enumerate(item.shape):
        check_known(array, [axis + number], "a mask that is no lazy array")
        if length != array.shape[axis + number]:
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis + number}; size of "
                f"axis is {array.shape[axis + number]} but size of corresponding boolean axis is "
                f"{length}"
            )
    return list(item.nonzero())


def getitem(array: Array, index: Any) -> Array:
    """Return ``array[index]``, lazily, as NumPy has it.

    Parameters
    ----------
    array : Array
    index : object
        What NumPy takes, also lazy arrays of integers or booleans. Of a lazy mask the chunks of
        the result have unknown sizes; ``compute_chunk_sizes()`` finds them out.

    Raises
    ------
    IndexError
        If it is no index, or out of range. Of lazy arrays that shows when they are computed.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> x = from_numpy(np.arange(12).reshape(3, 4), chunks=2)
    >>> x[:, [3, 0]].compute().tolist(), x[[0, 2], [1, 1]].compute().tolist()
    ([[3, 0], [7, 4], [11, 8]], [1, 9])
    >>> x[x > 9].compute()
    array([10, 11])
    """
    entries = index if type(index) is tuple else (index,)
    if all(type(item) in _BASIC for item in entries):
        return basic(array, expanded(index, array.ndim))
    if isinstance(index, str) or (
        isinstance(index, list) and index and all(isinstance(one, str) for one in index)
    ):
        return _field(array, index)
    return _indexed(array, parsed(array, index))


def _field(array: Array, name: Any) -> Array:
    """Return a field of an array of records, or several."""
    names = [name] if isinstance(name, str) else name
    for one in names:
        if one not in (array.dtype.names or ()):
            known = ", ".join(array.dtype.names or ()) or "none"
            raise IndexError(f"no field of name {one!r}; the dtype has {known}")
    dtype = array.dtype[name]
    if dtype.subdtype is not None:
        raise NotImplementedError(
            f"field {name!r} is an array in each record; use map_blocks(lambda b: b[{name!r}], x, "
            f"dtype=…, new_axis=…, chunks=…)"
        )
    return elementwise(_Field(name), array, dtype=dtype, name="getitem")


class _Field:
    __slots__ = ("name",)

    __name__ = "field"

    def __init__(self, name: Any) -> None:
        self.name = name

    def __call__(self, block: Any) -> Any:
        return block[self.name]

    def __zcluster_tokenize__(self) -> Any:
        return ("field", self.name)


def _indexed(array: Array, index: Parsed) -> Array:
    if not index.advanced:
        return basic(array, index.basic)
    if len(index.advanced) == 1:
        return _by_one(array, index)
    found = basic(array, index.basic)
    places: list[Any] = list(index.advanced)
    if any(one.dtype == np.bool_ for one in places):
        raise NotImplementedError(
            "a lazy mask together with other arrays as an index: how long they are together is "
            "not known; index with one after the other, or with mask.compute()"
        )
    if index.is_lazy:
        return taken_at_points(found, index.axes, places, index.at)
    return _at_points(found, tuple(index.axes), places, index.at)


def _by_one(array: Array, index: Parsed) -> Array:
    """Index with one array and what is basic."""
    (one,), (axis,) = index.advanced, index.axes
    if isinstance(one, Array):
        found = basic(array, index.basic)
        if one.dtype == np.bool_:
            found = compressed(found, one, axis)
            return found if axis == index.at else moveaxis(found, axis, index.at)
        found = taken(found, one, axis)
        if axis == index.at:
            return found
        own = tuple(range(axis, axis + one.ndim))
        return moveaxis(found, own, tuple(range(index.at, index.at + one.ndim)))
    if one.ndim != 1 or index.basic[index.entry] is None:
        return _at_points(basic(array, index.basic), (axis,), [one], index.at)
    index.basic[index.entry] = one
    found = basic(array, index.basic)
    return found if axis == index.at else moveaxis(found, axis, index.at)


def _at_points(array: Array, axes: tuple[int, ...], places: list[Any], at: int) -> Array:
    """Return the elements at points that are known."""
    try:
        spread = np.broadcast_arrays(*places)
    except ValueError:
        shapes = " ".join(str(one.shape) for one in places)
        raise IndexError(
            f"shape mismatch: indexing arrays could not be broadcast together with shapes {shapes}"
        ) from None
    most = math.prod(max(max(array.chunks[axis]), 1) for axis in axes)
    chunks = points_chunks(spread[0].shape, most)
    flat = tuple(one.reshape(-1).astype(np.int64, copy=False) for one in spread)
    return Array(Points(array.expr, axes, flat, chunks, at))


# Other ways to index ------------------------------------------------------------------------------


class VIndex:
    """What ``x.vindex`` is: indexing by points, whose axes stand in front."""

    __slots__ = ("_array",)

    def __init__(self, array: Array) -> None:
        self._array = array

    def __getitem__(self, index: Any) -> Array:
        found = parsed(self._array, index)
        found.at = 0
        return _indexed(self._array, found)


def vindex(array: Array) -> VIndex:
    """Index by points: arrays of integers are broadcast, and their axes stand in front.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> x = from_numpy(np.arange(24).reshape(2, 3, 4), chunks=2)
    >>> x.vindex[[0, 1], :, [3, 0]].shape, x.vindex[:, [0, 1], [3, 0]].shape
    ((2, 3), (2, 2))
    """
    return VIndex(array)


class BlockIndex:
    """What ``x.blocks`` is: the grid of the blocks, of which an index takes some."""

    __slots__ = ("_array",)

    def __init__(self, array: Array) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of blocks along each axis."""
        return self._array.numblocks

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        """The number of blocks."""
        return self._array.npartitions

    def ravel(self) -> list[Array]:
        """Return an array for each block."""
        return [self[index] for index in np.ndindex(*self.shape)]

    def __getitem__(self, index: Any) -> Array:
        items = list(index) if isinstance(index, tuple) else [index]
        if any(item is None for item in items):
            raise IndexError("blocks have no place for a new axis; expected integers and slices")
        entries = expanded(tuple(normal_item(item) for item in items), self._array.ndim)
        lists = [entry for entry in entries if isinstance(entry, np.ndarray | Array)]
        if len(lists) > 1 or any(isinstance(one, Array) or one.ndim != 1 for one in lists):
            raise IndexError(
                "blocks are indexed by integers, slices and one list of integers or booleans of "
                f"one dimension; found {index!r}"
            )
        places = []
        for axis, (entry, count) in enumerate(zip(entries, self.shape, strict=True)):
            if isinstance(entry, int) and not -count <= entry < count:
                raise out_of_range(entry, axis, count)
            found = np.atleast_1d(np.arange(count)[entry])
            if not len(found):
                raise IndexError(f"index {entry!r} takes none of the {count} blocks of axis {axis}")
            places.append(found.tolist())
        return picked(self._array, places)


def blocks(array: Array) -> BlockIndex:
    """Index by blocks: ``x.blocks[i, j]`` is an array of the block there; axes stay.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> x = from_numpy(np.arange(6), chunks=2)
    >>> x.blocks.shape, x.blocks[1].compute(), x.blocks[[2, 0]].compute()
    ((3,), array([2, 3]), array([4, 5, 0, 1]))
    """
    return BlockIndex(array)


# Functions ----------------------------------------------------------------------------------------


def take(
    a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise"
) -> Array:
    """Return the elements at places along an axis.

    Parameters
    ----------
    a : array_like
    indices : array_like of int
        Lazy or not; their axes stand in the place of the axis.
    axis : int, optional
        By default the array is taken flat.
    out : Array, optional
        Stands for the result from then on.
    mode : {'raise', 'wrap', 'clip'}
        What is done about places out of range.

    Examples
    --------
    >>> take([4, 3, 5, 7], [0, 1, -1]).compute()
    array([4, 3, 7])
    """
    array = asarray(a)
    if axis is None:
        array, axis = ravel(array), 0
    axis = normalize_axis(axis, array.ndim)
    places = indices if isinstance(indices, Array) else np.asarray(indices)
    if mode not in ("raise", "wrap", "clip"):
        raise InvalidArgument(f"mode={mode!r}; expected 'raise', 'wrap' or 'clip'")
    if places.dtype.kind not in "iub" and places.size:
        raise TypeError(f"indices are of type {places.dtype}; expected integers")
    if places.dtype.kind not in "iu":
        places = places.astype(np.int64)
    if mode != "raise":
        check_known(array, [axis], f"take with mode={mode!r}")
        last = max(array.shape[axis], 1)
        places = places % last if mode == "wrap" else places.clip(0, last - 1)
    return put_out(getitem(array, (*[slice(None)] * axis, places)), out)


def compress(condition: Any, a: Any, axis: int | None = None, out: Any = None) -> Array:
    """Return the elements along an axis where a condition is true.

    Parameters
    ----------
    condition : array_like of bool
        With one axis; where it is shorter than the other, the rest is left out.
    a : array_like
    axis : int, optional
        By default the array is taken flat.
    out : Array, optional
        Stands for the result from then on.

    Examples
    --------
    >>> compress([False, True], [[1, 2], [3, 4], [5, 6]], axis=0).compute()
    array([[3, 4]])
    """
    array = asarray(a)
    mask = condition if isinstance(condition, Array) else np.asarray(condition)
    if mask.ndim != 1:
        raise InvalidArgument(f"condition must be a 1-d array; found {mask.ndim} axes")
    if axis is None:
        array, axis = ravel(array), 0
    axis = normalize_axis(axis, array.ndim)
    mask = mask.astype(np.bool_)
    index: list[Any] = [slice(None)] * axis
    if isinstance(mask, np.ndarray):
        return put_out(getitem(array, (*index, mask.nonzero()[0])), out)
    if mask.shape[0] < array.shape[axis]:
        array = getitem(array, (*index, slice(mask.shape[0])))
    return put_out(getitem(array, (*index, mask)), out)


def extract(condition: Any, arr: Any) -> Array:
    """Return the elements of a flat array where a condition, taken flat, is true.

    Examples
    --------
    >>> extract([[True, False], [False, True]], [[1, 2], [3, 4]]).compute()
    array([1, 4])
    """
    mask = condition if isinstance(condition, Array) else np.asarray(condition)
    return compress(ravel(mask) if isinstance(mask, Array) else mask.reshape(-1), arr)


def _compress_method(
    array: Array, condition: Any, axis: int | None = None, out: Any = None
) -> Array:
    return compress(condition, array, axis, out)


METHODS = {"__getitem__": getitem, "compress": _compress_method, "take": take}
PROPERTIES = {"blocks": blocks, "partitions": blocks, "vindex": vindex}
