"""What a task of fused operations runs: a program, made once for a layer.

A program is a callable that is pickled with its layer. A task calls it with the results it takes
and a row of integers that says what is special about its block. **Readers** make values of these,
in order; then **steps** call functions of values; the value of the last step is the result::

    ((x + 1) * y[2:]).sum()     readers: Whole, Assemble(1); steps: add, multiply, partial sum

A row is int64. Each reader takes its integers from the front:

- `Whole` none, and one result;
- `Generate` the place and the shape of the block;
- `Numbers` a few, handed on as a tuple;
- `Assemble`, for each axis: the number of pieces, then of each its length and how it is laid
  (`FORWARD`, `BACKWARD`, `REPEATED`, `FILLED`); and one result for each combination of pieces that
  is not filled, in C order.

Chains of element-wise steps over large blocks are evaluated in tiles that stay in the cache: each
step of a tile writes into a buffer of its own, the last one into the result. The values are the
same bit for bit, since the same functions see the same elements. A sum at the end (`Fold`) takes
the tiles' sums together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from zcluster.protocol.callables import callable_name

__all__ = [
    "BACKWARD",
    "FILLED",
    "FORWARD",
    "REPEATED",
    "Assemble",
    "Fold",
    "Generate",
    "Numbers",
    "Program",
    "Reader",
    "Step",
    "Whole",
]

FORWARD, BACKWARD, REPEATED, FILLED = range(4)

#: Elements of a tile: its inputs and buffers fit into a core's own cache.
TILE = 32_768
#: Blocks of fewer tiles are evaluated whole.
_FEW_TILES = 4


class Reader:
    """Makes a value of a task's results and its row."""

    __slots__ = ()

    #: Whether rows have integers for it.
    takes_row = True

    def read(self, cursor: _Cursor) -> Any:
        raise NotImplementedError


class _Cursor:
    """A task's row and results, and how far they have been read."""

    __slots__ = ("at", "results", "row")

    def __init__(self, constant: Any, results: Sequence[Any]) -> None:
        self.row = memoryview(constant).cast("q") if len(constant) else ()
        self.at = 0
        self.results = iter(results)

    def numbers(self, count: int) -> tuple[int, ...]:
        at = self.at
        self.at = at + count
        return tuple(self.row[at : at + count])


class Whole(Reader):
    """A result as it is."""

    __slots__ = ()
    takes_row = False

    def read(self, cursor: _Cursor) -> Any:
        return next(cursor.results)


class Numbers(Reader):
    """Some integers of the row, as a tuple."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        self.count = count

    def read(self, cursor: _Cursor) -> Any:
        return cursor.numbers(self.count)


class Generate(Reader):
    """What a function makes of a block's place and shape."""

    __slots__ = ("function", "ndim")

    def __init__(self, function: Callable[..., Any], ndim: int) -> None:
        self.function = function
        self.ndim = ndim

    def read(self, cursor: _Cursor) -> Any:
        return self.function(cursor.numbers(self.ndim), cursor.numbers(self.ndim))


class Assemble(Reader):
    """Boxes of several results, put together; see the top of the file."""

    __slots__ = ("dtype", "fill", "ndim")

    def __init__(self, ndim: int, dtype: Any, fill: Any) -> None:
        self.ndim = ndim
        self.dtype = dtype
        self.fill = fill

    def read(self, cursor: _Cursor) -> Any:
        axes = []
        for _ in range(self.ndim):
            (count,) = cursor.numbers(1)
            numbers = cursor.numbers(2 * count)
            axes.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
        if all(len(pieces) == 1 and pieces[0][1] == FORWARD for pieces in axes):
            return next(cursor.results)
        return self._put_together(axes, cursor)

    def _put_together(self, axes: list[list[tuple[int, int]]], cursor: _Cursor) -> Any:
        shape = tuple(sum(count for count, _ in pieces) for pieces in axes)
        block = np.empty(shape, self.dtype)
        placed = []  # by axis, the pieces with their slices of the block
        for pieces in axes:
            start, row = 0, []
            for count, how in pieces:
                row.append((slice(start, start + count), how))
                start += count
            placed.append(row)
        for combination in product(*placed):
            where = tuple(place for place, _ in combination)
            if any(how == FILLED for _, how in combination):
                block[where] = self.fill
                continue
            piece = next(cursor.results)
            if any(how == BACKWARD for _, how in combination):
                turn = tuple(
                    slice(None, None, -1 if how == BACKWARD else 1) for _, how in combination
                )
                piece = piece[turn]
            block[where] = piece  # where a place repeats, it is broadcast
        return block


class Step:
    """A call of a function of values.

    Attributes
    ----------
    function : callable
    arguments : tuple
        Numbers of values, and `Literal`.
    kwargs : dict
    extra : tuple of (str, int)
        Keywords, and the numbers of their values.
    """

    __slots__ = ("arguments", "extra", "function", "kwargs")

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        kwargs: dict[str, Any],
        extra: tuple[tuple[str, int], ...] = (),
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.kwargs = kwargs
        self.extra = extra

    def bound(self) -> Callable[[Sequence[Any]], Any]:
        """Return the same as a function of the values: made once, called for every block."""
        function, kwargs, extra = self.function, self.kwargs, self.extra
        arguments = self.arguments
        if len(arguments) == 1 and type(arguments[0]) is int and not extra:
            (first,) = arguments
            if not kwargs:
                return lambda values: function(values[first])
            return lambda values: function(values[first], **kwargs)
        if len(arguments) == 2 and not kwargs and not extra:
            left, right = arguments
            if type(left) is int and type(right) is int:
                return lambda values: function(values[left], values[right])
            if type(left) is int:
                right = right.value
                return lambda values: function(values[left], right)
            if type(right) is int:
                left = left.value
                return lambda values: function(left, values[right])

        def call(values: Sequence[Any]) -> Any:
            given = [values[one] if type(one) is int else one.value for one in arguments]
            if not extra:
                return function(*given, **kwargs)
            more = {keyword: values[number] for keyword, number in extra}
            return function(*given, **kwargs, **more)

        return call


class Fold:
    """The first step of a reduction by a ufunc: of tiles it may be taken in any grouping.

    Called with a block it reduces the axes, and keeps them with length 1.
    """

    __slots__ = ("axes", "dtype", "ufunc")

    def __init__(self, ufunc: np.ufunc, axes: tuple[int, ...], dtype: Any = None) -> None:
        self.ufunc = ufunc
        self.axes = axes
        self.dtype = dtype

    @property
    def __name__(self) -> str:
        return f"{self.ufunc.__name__}_partial"

    def __call__(self, block: Any) -> Any:
        return self.ufunc.reduce(block, axis=self.axes, dtype=self.dtype, keepdims=True)

    def of_tiles(self, found: list[Any], ndim: int) -> Any:
        """Return the same of the results of all tiles."""
        whole = self.ufunc.reduce(np.array(found), dtype=self.dtype)
        return np.asarray(whole).reshape((1,) * ndim)

    def of_tile(self, tile: Any) -> Any:
        """Return the same of one tile, a flat array."""
        return self.ufunc.reduce(tile, dtype=self.dtype)

    def __zcluster_tokenize__(self) -> Any:
        return ("fold", self.ufunc.__name__, self.axes, str(self.dtype))


class Program:
    """What the tasks of a layer run; see the top of the file.

    Parameters
    ----------
    readers : sequence of Reader
        Their values are numbered from 0.
    steps : sequence of Step
        Their values follow; without steps the first reader's value is the result.
    """

    __slots__ = ("_calls", "_is_plain", "_reads", "_tail", "readers", "steps", "takes_row")

    def __init__(self, readers: Sequence[Reader], steps: Sequence[Step]) -> None:
        self.readers = tuple(readers)
        self.steps = tuple(steps)
        self.takes_row = any(reader.takes_row for reader in self.readers)
        self._is_plain = all(type(reader) is Whole for reader in self.readers)
        self._tail = _tiled_tail(self.steps, len(self.readers))
        self._reads = [reader.read for reader in self.readers]
        self._calls = [step.bound() for step in self.steps]

    def __reduce__(self) -> Any:
        return Program, (self.readers, self.steps)

    @property
    def __name__(self) -> str:
        """What a picture of the graph shows."""
        names = [callable_name(step.function) for step in self.steps]
        return "-".join(names) or type(self.readers[0]).__name__.lower()

    def __call__(self, *given: Any) -> Any:
        if self._is_plain:
            values: list[Any] = list(given)
        else:
            cursor = _Cursor(given[0], given[1:]) if self.takes_row else _Cursor(b"", given)
            values = [read(cursor) for read in self._reads]
        del given
        if self._tail is not None:
            shape = _tiled_shape(values)
            if shape is not None:
                return _run_tiled(values, self.steps, self._tail, shape)
        for call in self._calls:
            values.append(call(values))
        return values[-1] if self._calls else values[0]


# Tiles --------------------------------------------------------------------------------------------


def _tiled_tail(steps: tuple[Step, ...], readers: int) -> int | None:
    """Return how many steps are element-wise ufuncs if tiles will do, at least two; else None.

    A `Fold` may follow, of the last value.
    """
    tail = len(steps)
    if tail and isinstance(steps[-1].function, Fold):
        tail -= 1
        if steps[-1].arguments != (readers + tail - 1,):
            return None
    if tail < 2 and not (tail == 1 and tail < len(steps)):
        return None
    for step in steps[:tail]:
        function = step.function
        if not isinstance(function, np.ufunc) or function.nout != 1 or function.signature:
            return None
        if step.kwargs or step.extra:
            return None
        for one in step.arguments:
            if type(one) is not int and np.ndim(one.value):
                return None
    return tail


def _tiled_shape(values: Sequence[Any]) -> tuple[int, ...] | None:
    """Return the shape of all values, if they are flat in memory and large; else None."""
    first = values[0]
    if type(first) is not np.ndarray or first.size < _FEW_TILES * TILE:
        return None
    shape: tuple[int, ...] | None = None
    for value in values:
        if type(value) is not np.ndarray or value.dtype.hasobject or not value.flags.c_contiguous:
            return None
        if shape is None:
            shape = value.shape
        elif value.shape != shape:
            return None
    return shape


def _run_tiled(
    values: Sequence[Any], steps: Sequence[Step], tail: int, shape: tuple[int, ...]
) -> Any:
    """Evaluate element-wise steps tile by tile, and the fold after them if there is one."""
    flat = [value.reshape(-1) for value in values]
    size = flat[0].size
    fold: Any = steps[-1].function if tail < len(steps) else None
    if fold is not None and len(fold.axes) != len(shape):
        fold = None
    buffers: list[Any] = []
    result: Any = None
    found = []
    for start in range(0, size, TILE):
        stop = min(start + TILE, size)
        tile = [one[start:stop] for one in flat]
        for number, step in enumerate(steps[:tail]):
            arguments = [tile[one] if type(one) is int else one.value for one in step.arguments]
            if not start:  # what dtype it has shows the first time
                made = step.function(*arguments)
                buffers.append(made)
            elif number == tail - 1 and fold is None:
                made = step.function(*arguments, out=result[start:stop])
            else:
                made = step.function(*arguments, out=buffers[number][: stop - start])
            tile.append(made)
        if fold is not None:
            found.append(fold.of_tile(tile[-1]))
        elif not start:
            result = np.empty(size, tile[-1].dtype)
            result[:stop] = tile[-1]
    if fold is not None:
        return fold.of_tiles(found, len(shape))
    block = result.reshape(shape)
    return steps[-1].function(block) if tail < len(steps) else block
