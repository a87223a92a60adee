"""Functions of blocks that users give: `map_blocks` and `blockwise`.

Where every block of the result takes one block of each input, this is a `Blockwise` expression,
which fuses with what is around it. Where it takes all blocks along an axis that the result does
not have, it is a `Contraction`: a layer whose tasks take lists of blocks.

What a function returns is looked at (`promises`): a block of another shape than promised is an
error that names the block, what came and what was promised.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from zcluster.array.chunks import AxisChunks, Chunks, chunks_token
from zcluster.array.core import Array, asarray, rechunked, unified
from zcluster.array.expressions import Blockwise, Emitted, Expr, Literal
from zcluster.array.lowering import Codes, Lowering
from zcluster.array.promises import BlockInfos, Checked
from zcluster.array.rows import Rows
from zcluster.errors import InvalidArgument
from zcluster.protocol.callables import callable_name

__all__ = ["blockwise", "map_blocks"]


# map_blocks ---------------------------------------------------------------------------------------


def map_blocks(
    func: Callable[..., Any],
    *args: Any,
    name: str | None = None,
    token: str | None = None,
    dtype: Any = None,
    chunks: Any = None,
    drop_axis: int | Sequence[int] | None = None,
    new_axis: int | Sequence[int] | None = None,
    enforce_ndim: bool = True,
    meta: Any = None,
    **kwargs: Any,
) -> Array:
    """Call a function with each block, or with the blocks at each place of several arrays.

    Parameters
    ----------
    func : callable
        Called with NumPy arrays. It may have the keywords ``block_id`` (the place of the block in
        the grid of the result) and ``block_info`` (a dict: by number of the argument, and None for
        the result, with ``shape``, ``num-chunks``, ``array-location``, ``chunk-location``).
    *args
        Arrays, which are broadcast against each other block by block, and anything else, which is
        passed on.
    name, token : str, optional
        The name of the result, or what its name begins with.
    dtype : dtype, optional
        Of the result; by default what the function gives for empty arrays.
    chunks : tuple, optional
        Of the result, where they are others: lengths of blocks, or of all chunks of an axis.
    drop_axis, new_axis : int or sequence of int, optional
        Axes that the function takes away, of which it sees the whole length, and axes that its
        result has in addition.
    enforce_ndim : bool
        Accepted; results are always looked at.
    meta : array, optional
        An empty array of the result's kind; its dtype counts.
    **kwargs
        Passed on to the function.

    Raises
    ------
    InvalidArgument
        If the axes make no sense, or (when computed) a block has another shape than promised.

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> x = from_numpy(np.arange(6), 3)
    >>> map_blocks(lambda block: block * 10, x).compute()
    array([ 0, 10, 20, 30, 40, 50])
    >>> map_blocks(lambda block, block_id=None: block + block_id[0], x, dtype=x.dtype).compute()
    array([0, 1, 2, 4, 5, 6])
    """
    if not callable(func):
        raise TypeError(f"map_blocks takes a function first; found {func!r}")
    arrays, arguments, places = _taken_apart(args)
    if arrays:
        out_ndim = max(array.ndim for array in arrays)
        axes_of_result = _axes_of_result(out_ndim, drop_axis, new_axis)
    elif chunks is None or dtype is None:
        raise InvalidArgument(
            "map_blocks without an array does not know what to make; give chunks= and dtype="
        )
    else:
        axes_of_result = [None] * (len(chunks) if isinstance(chunks, tuple | list) else 1)
    arrays, axes, aligned = _brought_together(arrays, axes_of_result)
    out_chunks = _promised_chunks(chunks, aligned, axes_of_result)
    described = [(p, a.chunks, x) for p, a, x in zip(places, arrays, axes, strict=True)]
    extra, infos = _told_of_the_first(func, described, out_chunks, dtype)
    dtype = _meta_dtype(func, arrays, arguments, kwargs | extra, dtype, meta)
    if infos is not None:
        infos.dtype = dtype
    made = Blockwise(
        token or callable_name(func),
        Checked(func, dtype, "block_id" in extra, infos),
        [array.expr for array in arrays],
        arguments,
        axes,
        out_chunks,
        dtype,
        kwargs=kwargs,
        reads_only=False,
        extra=(("promised_at", "index"), ("promised", "shape")),
    )
    if name is not None:
        made.rename(name)
    return Array(made)


def _taken_apart(args: Iterable[Any]) -> tuple[list[Array], list[Any], list[int]]:
    """Return the arrays, the arguments with their numbers in it, and their places."""
    arrays: list[Array] = []
    arguments: list[Any] = []
    places = []
    for place, one in enumerate(args):
        if isinstance(one, Array) or (isinstance(one, np.ndarray) and one.ndim):
            arguments.append(len(arrays))
            arrays.append(asarray(one))
            places.append(place)
        else:
            arguments.append(Literal(one))
    return arrays, arguments, places


def _axes_of_result(
    ndim: int, drop_axis: int | Sequence[int] | None, new_axis: int | Sequence[int] | None
) -> list[int | None]:
    """Return for each axis of the result the axis it was, or None for a new one."""
    dropped = _as_axes(drop_axis)
    for axis in dropped:
        if not -ndim <= axis < ndim:
            raise InvalidArgument(f"drop_axis={drop_axis!r}; expected axes of {ndim} dimensions")
    gone = {axis % ndim for axis in dropped}
    kept: list[int | None] = [axis for axis in range(ndim) if axis not in gone]
    added = _as_axes(new_axis)
    total = len(kept) + len(added)
    for axis in sorted(axis + total if axis < 0 else axis for axis in added):
        kept.insert(axis, None)
    return kept


def _as_axes(axes: int | Sequence[int] | None) -> list[int]:
    if axes is None:
        return []
    return [axes] if isinstance(axes, int | np.integer) else list(axes)


def _brought_together(
    arrays: Sequence[Array], axes_of_result: Sequence[int | None]
) -> tuple[list[Array], list[tuple[int, ...]], list[AxisChunks | None]]:
    """Rechunk arrays alike; return them, the result's axis for each of theirs, and its chunks.

    Axes are -1 where there is one block for all of the result's, chunks are None for new axes.
    """
    ndim = max((array.ndim for array in arrays), default=0)
    numbers = [tuple(range(ndim - array.ndim, ndim)) for array in arrays]
    arrays, aligned = unified(arrays, numbers)
    arrays = [_whole(a, own, axes_of_result) for a, own in zip(arrays, numbers, strict=True)]
    at = {number: place for place, number in enumerate(axes_of_result) if number is not None}
    axes = [
        tuple(
            at[number] if number in at and array.numblocks[axis] > 1 else -1
            for axis, number in enumerate(own)
        )
        for array, own in zip(arrays, numbers, strict=True)
    ]
    shown = [None if number is None else aligned[number] for number in axes_of_result]
    return arrays, axes, shown


def _whole(array: Array, numbers: tuple[int, ...], kept: Sequence[int | None]) -> Array:
    """Bring the axes that the function takes away into one chunk: it sees all of them."""
    dropped = [axis for axis, number in enumerate(numbers) if number not in kept]
    if all(array.numblocks[axis] == 1 for axis in dropped):
        return array
    return rechunked(array, dict.fromkeys(dropped, -1))


def _promised_chunks(
    chunks: Any, aligned: list[AxisChunks | None], axes: list[int | None]
) -> Chunks:
    """Return the chunks of the result."""
    if chunks is None:
        return tuple((1,) if lengths is None else lengths for lengths in aligned)
    if not isinstance(chunks, tuple | list):
        chunks = (chunks,) * len(axes)
    if len(chunks) != len(axes):
        raise InvalidArgument(
            f"chunks={chunks!r} speaks of {len(chunks)} axes; the result has {len(axes)}"
        )
    promised: list[AxisChunks] = []
    for one, lengths in zip(chunks, aligned, strict=True):
        count = 1 if lengths is None else len(lengths)
        if isinstance(one, tuple | list):
            if len(one) != count and lengths is not None:
                raise InvalidArgument(
                    f"chunks={chunks!r} names {len(one)} chunks along an axis of {count} blocks"
                )
            promised.append(tuple(one))
        elif one is None:
            promised.append((1,) if lengths is None else lengths)
        else:
            promised.append((one,) * count)
    return tuple(promised)


def _told_of_the_first(
    func: Callable[..., Any],
    described: Sequence[tuple[int, Chunks, tuple[int, ...]]],
    chunks: Chunks,
    dtype: Any,
) -> tuple[dict[str, Any], BlockInfos | None]:
    """Return what a function that asks where a block is hears of the first, and who tells it."""
    keywords = _keywords(func)
    first = (0,) * len(chunks)
    told: dict[str, Any] = {}
    infos = None
    if "block_id" in keywords:
        told["block_id"] = first
    if "block_info" in keywords:
        infos = BlockInfos(described, chunks, dtype)
        told["block_info"] = infos.of(first)
    return told, infos


def _keywords(func: Callable[..., Any]) -> set[str]:
    """Return the keywords of a function, as far as they can be found out."""
    while isinstance(func, partial):
        func = func.func
    try:
        return set(inspect.signature(func).parameters)
    except (TypeError, ValueError):  # it is written in C
        return set()


def _meta_dtype(
    func: Callable[..., Any],
    arrays: Sequence[Array],
    arguments: Sequence[Any],
    kwargs: dict[str, Any],
    dtype: Any,
    meta: Any,
) -> Any:
    """Return the dtype of what a function gives for empty arrays, or what was said."""
    if dtype is not None:
        return np.dtype(dtype)
    if meta is not None:
        return getattr(meta, "dtype", np.asarray(meta).dtype)
    given: list[Any] = []
    for one in arguments:
        if type(one) is int:
            array = arrays[one]
            given.append(np.empty((0,) * array.ndim, array.dtype))
        else:
            given.append(one.value)
    tries = [given]
    ones = [np.ones((1,) * g.ndim, g.dtype) if isinstance(g, np.ndarray) else g for g in given]
    tries.append(ones)
    problem: Exception | None = None
    for attempt in tries:
        try:
            with np.errstate(all="ignore"):
                return np.asarray(func(*attempt, **kwargs)).dtype
        except Exception as error:  # whatever the user's function does not take
            problem = error
    raise InvalidArgument(
        f"the dtype of what {callable_name(func)} returns could not be found out: for empty "
        f"arrays, and for arrays of one element, it raised {type(problem).__name__}: {problem}; "
        "say it with dtype="
    ) from problem


# blockwise ----------------------------------------------------------------------------------------


def blockwise(
    func: Callable[..., Any],
    out_ind: Sequence[Any],
    *args: Any,
    name: str | None = None,
    token: str | None = None,
    dtype: Any = None,
    adjust_chunks: dict[Any, Any] | None = None,
    new_axes: dict[Any, Any] | None = None,
    align_arrays: bool = True,
    concatenate: bool | None = None,
    meta: Any = None,
    **kwargs: Any,
) -> Array:
    """Call a function with blocks that go along axes as index letters say.

    Parameters
    ----------
    func : callable
        Of one block of each array; where an array has indices that the result has not, of all
        blocks along these, as nested lists, or as one array with ``concatenate=True``.
    out_ind : sequence
        The indices of the result: letters or numbers.
    *args
        Pairs of an array and its indices; with None for indices, an argument passed on as it is.
    name, token : str, optional
        The name of the result, or what its name begins with.
    dtype : dtype, optional
        Of the result.
    adjust_chunks : dict, optional
        By index, how the function changes lengths: a function of a length, a length, or all.
    new_axes : dict, optional
        By index, the length (or the chunks) of an axis that no array has.
    align_arrays : bool
        Rechunk arrays so that chunks agree; without it, they must have as many.
    concatenate : bool, optional
        See `func`.
    meta : array, optional
        An empty array of the result's kind.
    **kwargs
        Passed on to the function.

    Examples
    --------
    An outer product, block by block:

    >>> from zcluster.array.core import from_numpy
    >>> x = from_numpy(np.arange(3), 2)
    >>> blockwise(np.multiply.outer, "ij", x, "i", x, "j", dtype=x.dtype).compute()
    array([[0, 0, 0],
           [0, 1, 2],
           [0, 2, 4]])
    """
    arrays, arguments, indices = _paired(args)
    out = tuple(out_ind)
    new_axes = new_axes or {}
    letters = _numbered(indices, out, new_axes)
    numbers = [tuple(letters[one] for one in own) for own in indices]
    if align_arrays:
        arrays, found = unified(arrays, numbers)
    else:
        found = _first_chunks(arrays, numbers)
    shared = {letter: found[number] for letter, number in letters.items()}
    chunks = _adjusted(out, shared, new_axes, adjust_chunks or {})
    contracted = [letter for letter in letters if letter not in out]
    if dtype is None and meta is None and contracted:
        dtype = np.result_type(*[array.dtype for array in arrays])
    elif dtype is None:
        dtype = _meta_dtype(func, arrays, arguments, kwargs, dtype, meta)
    label = token or callable_name(func)
    inputs = [array.expr for array in arrays]
    axes = [
        tuple(
            out.index(one) if one in out and array.numblocks[axis] > 1 else -1
            for axis, one in enumerate(own)
        )
        for array, own in zip(arrays, indices, strict=True)
    ]
    made: Expr
    if contracted and (not concatenate or any(len(shared[one]) > 1 for one in contracted)):
        taken = [tuple(axis for axis, one in enumerate(own) if one not in out) for own in indices]
        made = Contraction(
            label, func, inputs, arguments, axes, taken, chunks, dtype, kwargs, bool(concatenate)
        )
    else:
        made = Blockwise(
            label, func, inputs, arguments, axes, chunks, dtype, kwargs=kwargs, reads_only=False
        )
    if name is not None:
        made.rename(name)
    return Array(made)


def _paired(args: Sequence[Any]) -> tuple[list[Array], list[Any], list[tuple[Any, ...]]]:
    """Return the arrays, the arguments with their numbers in it, and the indices of each array."""
    if len(args) % 2:
        raise InvalidArgument("blockwise takes pairs of an array and its indices; one is missing")
    arrays: list[Array] = []
    arguments: list[Any] = []
    indices: list[tuple[Any, ...]] = []
    for value, own in zip(args[::2], args[1::2], strict=True):
        if own is None:
            arguments.append(Literal(value))
            continue
        array = asarray(value)
        if len(tuple(own)) != array.ndim:
            raise InvalidArgument(
                f"indices {own!r} for an array of {array.ndim} dimensions; expected one for each"
            )
        arguments.append(len(arrays))
        arrays.append(array)
        indices.append(tuple(own))
    return arrays, arguments, indices


def _numbered(
    indices: Sequence[tuple[Any, ...]], out: tuple[Any, ...], new_axes: dict[Any, Any]
) -> dict[Any, int]:
    """Return a number for each index letter of the arrays; the result must have no others."""
    letters = {letter: number for number, letter in enumerate(dict.fromkeys(chain(*indices)))}
    unknown = [one for one in out if one not in letters and one not in new_axes]
    if unknown:
        raise InvalidArgument(f"index {unknown[0]!r} of the result is in no array and no new axis")
    return letters


def _first_chunks(
    arrays: Sequence[Array], numbers: Sequence[tuple[int, ...]]
) -> dict[int, AxisChunks]:
    """Return the chunks along axes of arrays that are not made alike: the first that are most."""
    found: dict[int, AxisChunks] = {}
    for array, own in zip(arrays, numbers, strict=True):
        for number, lengths in zip(own, array.chunks, strict=True):
            if number not in found or len(lengths) > len(found[number]):
                found[number] = lengths
    return found


def _adjusted(
    out: tuple[Any, ...],
    shared: dict[Any, AxisChunks],
    new_axes: dict[Any, Any],
    adjust: dict[Any, Any],
) -> Chunks:
    chunks = []
    for letter in out:
        if letter in new_axes:
            lengths: Any = new_axes[letter]
            lengths = tuple(lengths) if isinstance(lengths, tuple | list) else (lengths,)
        else:
            lengths = shared[letter]
        change = adjust.get(letter)
        if callable(change):
            lengths = tuple(map(change, lengths))
        elif isinstance(change, tuple | list):
            if len(change) != len(lengths):
                raise InvalidArgument(
                    f"adjust_chunks has {len(change)} lengths for index {letter!r}, which has "
                    f"{len(lengths)} chunks"
                )
            lengths = tuple(change)
        elif change is not None:
            lengths = (change,) * len(lengths)
        chunks.append(lengths)
    return tuple(chunks)


class Contraction(Emitted):
    """A function of all blocks along some axes of its inputs.

    Attributes
    ----------
    axes : sequence of tuple of int
        As of `Blockwise`.
    taken : sequence of tuple of int
        For each input, the axes along which all blocks are taken.
    concatenates : bool
        The function gets them as one array, not as nested lists.
    """

    def __init__(
        self,
        label: str,
        function: Callable[..., Any],
        inputs: Sequence[Expr],
        arguments: Sequence[Any],
        axes: Sequence[tuple[int, ...]],
        taken: Sequence[tuple[int, ...]],
        chunks: Chunks,
        dtype: Any,
        kwargs: dict[str, Any],
        concatenates: bool,
    ) -> None:
        super().__init__(label, inputs, chunks, dtype)
        self.function = function
        self.arguments = tuple(arguments)
        self.axes = tuple(axes)
        self.taken = tuple(taken)
        self.kwargs = kwargs
        self.concatenates = concatenates

    def token(self) -> Any:
        literals = [one.value if isinstance(one, Literal) else one for one in self.arguments]
        chunks = chunks_token(self.chunks)
        called = (self.function, literals, self.kwargs, self.concatenates)
        return (*called, self.axes, self.taken, chunks, str(self.dtype))

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Contraction(
            self.label,
            self.function,
            inputs,
            self.arguments,
            self.axes,
            self.taken,
            self.chunks,
            self.dtype,
            self.kwargs,
            self.concatenates,
        )

    def emit(self, lowering: Lowering) -> Codes:
        columns = []
        grids = []
        for source, axes, taken in zip(self.inputs, self.axes, self.taken, strict=True):
            codes = lowering.codes(source)
            own = [axis for axis in range(source.ndim) if axis not in taken]
            codes = codes.transpose([*own, *taken])
            grid = codes.shape[len(own) :]
            codes = codes.reshape(*codes.shape[: len(own)], -1)
            # One axis for each of the result's, in its order, and the blocks taken at the end.
            places = [axes[axis] for axis in own]
            dropped = tuple(0 if place < 0 else slice(None) for place in places)
            codes = codes[dropped]
            left = [place for place in places if place >= 0]
            codes = codes.transpose([*np.argsort(left), len(left)])
            shape = [self.numblocks[n] if n in left else 1 for n in range(self.ndim)]
            codes = codes.reshape(*shape, -1)
            columns.append(np.broadcast_to(codes, (*self.numblocks, codes.shape[-1])))
            grids.append((source.ndim, taken, grid))
        rows = np.concatenate(columns, axis=-1).reshape(self.count, -1)
        nested = Nested(self.function, self.arguments, self.kwargs, grids, self.concatenates)
        made = lowering.add(
            self.name,
            nested,
            Rows.fixed(rows),
            shape=self.numblocks,
            reads_only=False,
            options=self.options,
        )
        return made.reshape(self.numblocks)


class Nested:
    """Calls a function with lists of blocks, nested as the axes are, or with what they make."""

    __slots__ = ("arguments", "concatenates", "function", "grids", "kwargs")

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        kwargs: dict[str, Any],
        grids: Sequence[tuple[int, tuple[int, ...], tuple[int, ...]]],
        concatenates: bool,
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.kwargs = kwargs
        self.grids = tuple(grids)
        self.concatenates = concatenates

    @property
    def __name__(self) -> str:
        return callable_name(self.function)

    def __call__(self, *blocks: Any) -> Any:
        rest = iter(blocks)
        values = [self._nested(rest, *grid) for grid in self.grids]
        arguments = [values[one] if type(one) is int else one.value for one in self.arguments]
        return self.function(*arguments, **self.kwargs)

    def _nested(self, rest: Any, ndim: int, taken: Sequence[int], grid: Sequence[int]) -> Any:
        flat = [next(rest) for _ in range(math.prod(grid))]
        if self.concatenates:
            for axis, count in zip(reversed(taken), reversed(grid), strict=True):
                starts = range(0, len(flat), count)
                flat = [np.concatenate(flat[s : s + count], axis=axis) for s in starts]
            return flat[0]
        for count in reversed(grid):
            flat = [flat[start : start + count] for start in range(0, len(flat), count)]
        return flat[0]


def _map_blocks_of(array: Array, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Array:
    """Call a function with each block of this array; see `zcluster.array.map_blocks`."""
    return map_blocks(func, array, *args, **kwargs)


METHODS = {"map_blocks": _map_blocks_of}
