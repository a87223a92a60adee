"""Ghosting: blocks that see a margin of their neighbours.

`overlap` grows every block by ghost cells: a margin of its neighbours, and at the ends of the array
what the boundary condition says. `map_overlap` calls a function with the grown blocks and trims the
result. A margin is one more segment of an `AxisMap`, so

- ghost cells come from as many blocks as the margin reaches, corners included, also where it is
  deeper than a chunk or than the whole array;
- each of them is a box of a block, cut where the block is: nothing else crosses the network;
- growing, the function and trimming are one task per block.

The kinds of boundary, for an axis ``a b c d`` and a depth of 2:

==============  ===================  ===========================================================
kind            left | axis | right
==============  ===================  ===========================================================
``"periodic"``  c d | a b c d | a b  the other end
``"reflect"``   b a | a b c d | d c  as in a mirror at the edge (`numpy.pad` calls it symmetric)
``"nearest"``   a a | a b c d | d d  the last element again
a number        0 0 | a b c d | 0 0  a constant
``"none"``      a b c d              nothing: blocks at the ends have a margin on one side only
==============  ===================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from zcluster.array.axes import FILL, AxisMap, identity
from zcluster.array.blockwise import map_blocks
from zcluster.array.chunks import AxisChunks, bounds, is_known, normalize_axis
from zcluster.array.core import Array, asarray, unified
from zcluster.array.expressions import Blockwise, Gather
from zcluster.array.windows import sliding_window_view  # Dask's module has the name, too
from zcluster.errors import InvalidArgument

__all__ = [
    "ensure_minimum_chunksize",
    "map_overlap",
    "overlap",
    "sliding_window_view",
    "trim_internal",
    "trim_overlap",
]

#: For each axis, how many ghost cells there are before and after.
Depths: TypeAlias = tuple[tuple[int, int], ...]

#: Ghost cells of each chunk along an axis, in front and behind; None: there are none.
Margin: TypeAlias = tuple[list[int], list[int]] | None

_KINDS = ("periodic", "reflect", "nearest", "none")
#: Words that others use for one of these.
_PROBABLY = {
    "length": "nearest",
    "symmetric": "reflect",
    "mirror": "reflect",
    "wrap": "periodic",
    "edge": "nearest",
    "constant": "a number, such as 0",
}


# What users say -----------------------------------------------------------------------------------


def _depths(depth: Any, ndim: int) -> Depths:
    """Return the depth of every axis."""
    by_axis: list[tuple[int, int]] = [(0, 0)] * ndim
    if depth is None:
        raise InvalidArgument(
            "depth is missing; expected how many ghost cells a block gets: an integer, or a dict "
            "from axis to an integer or a pair (before, after)"
        )
    if isinstance(depth, dict):
        for axis, one in depth.items():
            by_axis[normalize_axis(axis, ndim)] = _pair(one)
    elif isinstance(depth, tuple | list):
        if len(depth) != ndim:
            raise InvalidArgument(
                f"depth={depth!r} speaks of {len(depth)} axes; the array has {ndim}. A pair "
                "(before, after) for one axis goes into a dict: depth={0: (1, 2)}"
            )
        by_axis = [_pair(one) for one in depth]
    else:
        by_axis = [_pair(depth)] * ndim
    return tuple(by_axis)


def _pair(one: Any) -> tuple[int, int]:
    before, after = one if isinstance(one, tuple | list) and len(one) == 2 else (one, one)
    for number in (before, after):
        is_integer = isinstance(number, int | np.integer) and not isinstance(number, bool)
        if not is_integer or number < 0:
            raise InvalidArgument(
                f"depth {one!r}; expected an integer of 0 or more, or a pair of them"
            )
    return int(before), int(after)


def _boundaries(boundary: Any, ndim: int) -> tuple[Any, ...]:
    """Return the kind of boundary of every axis."""
    if isinstance(boundary, dict):
        by_axis: list[Any] = ["none"] * ndim
        for axis, one in boundary.items():
            by_axis[normalize_axis(axis, ndim)] = one
    elif isinstance(boundary, tuple | list):
        if len(boundary) != ndim:
            raise InvalidArgument(
                f"boundary={boundary!r} speaks of {len(boundary)} axes; the array has {ndim}"
            )
        by_axis = list(boundary)
    else:
        by_axis = [boundary] * ndim
    return tuple(map(_kind, by_axis))


def _kind(one: Any) -> Any:
    if one is None:
        return "none"
    if not isinstance(one, str):
        if np.ndim(one):
            raise InvalidArgument(f"boundary {one!r}; expected a word or a number for an axis")
        return one
    if one in _KINDS:
        return one
    hint = _PROBABLY.get(one)
    raise InvalidArgument(
        f"boundary={one!r}; expected one of {', '.join(map(repr, _KINDS))}, or a number"
        + (f": probably {hint!r} was meant" if hint else "")
    )


# Ghost cells --------------------------------------------------------------------------------------


def overlap(x: Any, depth: Any, boundary: Any = None, *, allow_rechunk: bool = True) -> Array:
    """Grow every block by ghost cells: a margin of its neighbours.

    Parameters
    ----------
    x : array
    depth : int, tuple or dict
        Ghost cells on each side: for all axes, for each axis, or by axis; a pair says how many
        before and after. It may be deeper than a chunk, and than the array.
    boundary : str, number, tuple or dict, optional
        What is beyond the ends: ``"periodic"``, ``"reflect"``, ``"nearest"``, ``"none"``, or a
        constant; see the top of this module. By axis in a tuple or dict.
    allow_rechunk : bool
        Accepted; chunks smaller than the depth need no rechunking here.

    Returns
    -------
    array : Array
        Its chunks are longer by the depths.

    Raises
    ------
    InvalidArgument
        If depth or boundary make no sense, or chunk sizes are unknown.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> x = from_numpy(np.arange(4), 2)
    >>> overlap(x, 1, "periodic").compute()
    array([3, 0, 1, 2, 1, 2, 3, 0])
    """
    array = asarray(x)
    return _grown(array, _depths(depth, array.ndim), _boundaries(boundary, array.ndim))


def _grown(array: Array, depths: Depths, kinds: tuple[Any, ...]) -> Array:
    maps = []
    constants = {
        axis: kind
        for axis, (kind, pair) in enumerate(zip(kinds, depths, strict=True))
        if not isinstance(kind, str) and any(pair)
    }
    if len(set(map(repr, constants.values()))) > 1:
        # Each axis has its own constant: one after the other, the corners go to the last.
        for axis in range(array.ndim):
            own = tuple(pair if a == axis else (0, 0) for a, pair in enumerate(depths))
            array = _grown(array, own, kinds)
        return array
    for axis, (lengths, pair, kind) in enumerate(zip(array.chunks, depths, kinds, strict=True)):
        maps.append(_axis_map(lengths, pair, kind, axis))
    fill = next(iter(constants.values()), 0)
    return Array(Gather(array.expr, maps, fill, "overlap"))


def _axis_map(lengths: AxisChunks, pair: tuple[int, int], kind: Any, axis: int) -> AxisMap:
    if not any(pair):
        return identity(sum(lengths), lengths)
    if not is_known(lengths):
        raise InvalidArgument(
            f"axis {axis} has chunks of unknown sizes, so their neighbours' cells cannot be found; "
            "call compute_chunk_sizes() first"
        )
    points = bounds(lengths)
    length = int(points[-1])
    low, high = points[:-1] - pair[0], points[1:] + pair[1]
    starts, stops = np.maximum(low, 0), np.minimum(high, length)
    inner = np.stack([starts, np.maximum(stops - starts, 0), np.ones_like(starts)], axis=1)
    if kind == "none" or not length:
        return _of_segments(inner, inner[:, 1])
    # Only blocks near the ends reach beyond them: segments are put in there.
    rows: list[Any] = [inner]
    order = [np.arange(len(lengths)) * 3 + 1]
    for block in np.flatnonzero(low < 0).tolist():
        made = _beyond(int(low[block]), min(int(high[block]), 0), length, kind)
        rows.append(made)
        order.append(np.full(len(made), block * 3))
    for block in np.flatnonzero(high > length).tolist():
        made = _beyond(max(int(low[block]), length), int(high[block]), length, kind)
        rows.append(made)
        order.append(np.full(len(made), block * 3 + 2))
    by_block = np.concatenate(order)
    place = np.argsort(by_block, kind="stable")
    segments = np.concatenate(rows)[place]
    return _of_segments(segments, high - low)


def _of_segments(segments: Any, lengths: Any) -> AxisMap:
    return AxisMap(segments[:, 0], segments[:, 1], segments[:, 2], tuple(lengths.tolist()))


def _beyond(start: int, stop: int, length: int, kind: Any) -> Any:
    """Return the segments of places beyond an end, from `start` to `stop`."""
    if kind == "nearest":
        return np.array([[0 if start < 0 else length - 1, stop - start, 0]])
    if not isinstance(kind, str):
        return np.array([[FILL, stop - start, 0]])
    segments = []
    while start < stop:
        turn, place = divmod(start, length)
        count = min(length - place, stop - start)
        if kind == "reflect" and turn % 2:
            segments.append([length - 1 - place, count, -1])
        else:
            segments.append([place, count, 1])
        start += count
    return np.array(segments, np.int64).reshape(-1, 3)


# Trimming -----------------------------------------------------------------------------------------


class Trim:
    """Cuts the margins off a block; how long they are depends on where it is.

    Attributes
    ----------
    befores : tuple of tuple of int
        For each axis and each chunk along it, how much is cut off in front.
    """

    __slots__ = ("befores",)

    __name__ = "trim"

    def __init__(self, befores: tuple[tuple[int, ...], ...]) -> None:
        self.befores = befores

    def __call__(self, block: Any, *, index: tuple[int, ...], shape: tuple[int, ...]) -> Any:
        where = []
        for before, place, length in zip(self.befores, index, shape, strict=True):
            start = before[place]
            where.append(slice(start, start + length) if length >= 0 else slice(None))
        return block[tuple(where)]

    def __zcluster_tokenize__(self) -> Any:
        return ("trim", self.befores)


def _trimmed(array: Array, befores: Sequence[Sequence[int]], chunks: Sequence[AxisChunks]) -> Array:
    """Cut blocks to some chunks, from some place on."""
    if array.chunks == tuple(chunks):
        return array
    made = Blockwise(
        "trim",
        Trim(tuple(map(tuple, befores))),
        [array.expr],
        (0,),
        [tuple(range(array.ndim))],
        tuple(chunks),
        array.dtype,
        extra=(("index", "index"), ("shape", "shape")),
    )
    return Array(made)


def trim_internal(x: Any, axes: Any, boundary: Any = None) -> Array:
    """Cut the ghost cells off every block; the inverse of `overlap`.

    Parameters
    ----------
    x : array
    axes : int, tuple or dict
        The depth, as of `overlap`.
    boundary : str, number, tuple or dict, optional
        As of `overlap`: with ``"none"`` the blocks at the ends have no ghost cells there.

    Raises
    ------
    InvalidArgument
        If a chunk is shorter than its ghost cells. With ``"none"`` and a depth beyond the
        neighbouring chunk, blocks do not show how much of them is margin: let `map_overlap` trim.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> x = from_numpy(np.arange(4), 2)
    >>> trim_internal(overlap(x, 1, "reflect"), 1, "reflect").compute()
    array([0, 1, 2, 3])
    """
    array = asarray(x)
    depths = _depths(axes, array.ndim)
    kinds = _boundaries(boundary, array.ndim)
    befores, chunks = [], []
    for axis, (lengths, (before, after), kind) in enumerate(
        zip(array.chunks, depths, kinds, strict=True)
    ):
        fronts, backs = [before] * len(lengths), [after] * len(lengths)
        if kind == "none":
            fronts[0] = backs[-1] = 0
        own = tuple(n - f - b for n, f, b in zip(lengths, fronts, backs, strict=True))
        if is_known(own) and min(own) < 0:
            raise InvalidArgument(
                f"chunks {lengths} of axis {axis} are shorter than the ghost cells {before, after} "
                "that are to be trimmed"
            )
        befores.append(fronts)
        chunks.append(own if is_known(own) else lengths)
    return _trimmed(array, befores, chunks)


trim_overlap = trim_internal


# Functions of grown blocks ------------------------------------------------------------------------


def map_overlap(
    func: Any,
    *args: Any,
    depth: Any = None,
    boundary: Any = None,
    trim: bool = True,
    align_arrays: bool = True,
    allow_rechunk: bool = True,
    **kwargs: Any,
) -> Array:
    """Call a function with blocks that see a margin of their neighbours.

    Parameters
    ----------
    func : callable
        Called with the grown blocks; what it returns has their shape, unless `chunks`,
        `drop_axis` or `new_axis` say otherwise.
    *args
        Arrays, whose blocks are matched, and arguments that are passed on.
    depth, boundary
        As of `overlap`; a list has one for each array.
    trim : bool
        Cut the ghost cells off the results.
    align_arrays : bool
        Rechunk arrays so that their chunks agree.
    allow_rechunk : bool
        Accepted; chunks smaller than the depth need no rechunking here.
    **kwargs
        Passed on to `map_blocks`, and from there to the function.

    Raises
    ------
    InvalidArgument
        If depth or boundary make no sense.

    Examples
    --------
    A running mean, the same at block borders as anywhere:

    >>> from zcluster.array.core import from_numpy
    >>> x = from_numpy(np.array([0.0, 3.0, 6.0, 9.0]), 2)
    >>> mean = lambda block: (np.roll(block, 1) + block + np.roll(block, -1)) / 3
    >>> map_overlap(mean, x, depth=1, boundary="nearest").compute()
    array([1., 3., 6., 8.])
    """
    if isinstance(func, Array) and args and callable(args[0]):  # the order of old programs
        func, args = args[0], (func, *args[1:])
    if not callable(func):
        raise TypeError(f"map_overlap takes a function first; found {func!r}")
    places = [n for n, one in enumerate(args) if isinstance(one, Array | np.ndarray)]
    arrays = [asarray(args[place]) for place in places]
    if not arrays:
        raise InvalidArgument("map_overlap takes one array or more; found none")
    if align_arrays:
        ndim = max(array.ndim for array in arrays)
        numbers = [tuple(range(ndim - array.ndim, ndim)) for array in arrays]
        arrays, _ = unified(arrays, numbers)
    own_depths = [_depths(one, a.ndim) for one, a in zip(_each(depth, arrays), arrays, strict=True)]
    own_kinds = [
        _boundaries(one, a.ndim) for one, a in zip(_each(boundary, arrays), arrays, strict=True)
    ]
    given = list(args)
    for place, array, depths, kinds in zip(places, arrays, own_depths, own_kinds, strict=True):
        given[place] = _grown(array, depths, kinds)
    made = map_blocks(func, *given, **kwargs)
    if not trim:
        return made
    largest = max(range(len(arrays)), key=lambda n: arrays[n].ndim)
    margins = [
        _margins(lengths, pair, kind)
        for lengths, pair, kind in zip(
            arrays[largest].chunks, own_depths[largest], own_kinds[largest], strict=True
        )
    ]
    followed = _followed(margins, made.ndim, kwargs)
    befores, chunks = [], []
    for lengths, margin in zip(made.chunks, followed, strict=True):
        fronts, backs = margin or ([0] * len(lengths), [0] * len(lengths))
        if len(fronts) != len(lengths):
            raise InvalidArgument(
                f"the result has {len(lengths)} chunks where the array has {len(fronts)}; trim it "
                "yourself: trim=False, then trim_internal(…)"
            )
        befores.append(fronts)
        chunks.append(tuple(n - f - b for n, f, b in zip(lengths, fronts, backs, strict=True)))
    return _trimmed(made, befores, chunks)


def _each(said: Any, arrays: Sequence[Array]) -> list[Any]:
    """Return what is said for each array: a list says it one by one."""
    if not isinstance(said, list):
        return [said] * len(arrays)
    if len(said) != len(arrays):
        raise InvalidArgument(
            f"a list of {len(said)} depths or boundaries for {len(arrays)} arrays; expected one "
            "for each"
        )
    return said


def _margins(lengths: AxisChunks, pair: tuple[int, int], kind: Any) -> Margin:
    """Return how many ghost cells each chunk has in front and behind."""
    if not any(pair):
        return None
    if kind != "none":
        return [pair[0]] * len(lengths), [pair[1]] * len(lengths)
    points = bounds(lengths)
    fronts = np.minimum(points[:-1], pair[0])
    backs = np.minimum(points[-1] - points[1:], pair[1])
    return fronts.tolist(), backs.tolist()


def _followed(margins: list[Margin], ndim: int, kwargs: dict[str, Any]) -> list[Margin]:
    """Take axes out and put them in as the function does."""
    margins = list(margins)
    dropped = kwargs.get("drop_axis")
    if dropped is not None:
        gone = [dropped] if isinstance(dropped, int | np.integer) else list(dropped)
        for axis in sorted((axis % len(margins) for axis in gone), reverse=True):
            del margins[axis]
    added = kwargs.get("new_axis")
    if added is not None:
        new = [added] if isinstance(added, int | np.integer) else list(added)
        total = len(margins) + len(new)
        for axis in sorted(axis % total for axis in new):
            margins.insert(axis, None)
    if len(margins) != ndim:
        raise InvalidArgument(
            f"the result has {ndim} dimensions and depth speaks of {len(margins)}; trim it "
            "yourself: trim=False, then trim_internal(…)"
        )
    return margins


def ensure_minimum_chunksize(size: int, chunks: AxisChunks) -> AxisChunks:
    """Return chunks none of which is shorter than a size, by joining neighbours.

    Raises
    ------
    ValueError
        If all of them together are shorter.

    Examples
    --------
    >>> ensure_minimum_chunksize(10, (20, 20, 1))
    (20, 21)
    """
    if min(chunks) >= size:
        return tuple(chunks)
    joined: list[int] = []
    waiting = 0
    for length in chunks:
        waiting += length
        if waiting >= size:
            joined.append(waiting)
            waiting = 0
    if waiting or not joined:
        if not joined:
            raise ValueError(f"chunks {chunks} are {sum(chunks)} together; expected {size} or more")
        joined[-1] += waiting
    return tuple(joined)


def _map_overlap_of(array: Array, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Array:
    """Call a function with this array's blocks grown; see `zcluster.array.map_overlap`."""
    if "depth" not in kwargs and args:
        names = ("depth", "boundary", "trim")
        kwargs |= dict(zip(names, args, strict=False))
        args = args[len(names) :]
    return map_overlap(func, array, *args, **kwargs)


METHODS = {"map_overlap": _map_overlap_of}
