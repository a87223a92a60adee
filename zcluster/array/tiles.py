"""Element-wise steps of a program over large blocks, a tile at a time.

A chain such as ``(x + 1) * y`` evaluated step by step goes through memory once for each step, and
makes a temporary of the size of a block each time. Here the first steps of a program, as long as
they are ufuncs of blocks of one shape, run over tiles that stay in the processor's cache: each step
of a tile writes into a buffer of its own, the last one into the result. The values are the same bit
for bit, since the same functions see the same elements.

If a reduction by a ufunc follows (`Fold`), each tile is reduced at once and nothing of the size of
a block is made. Tiles are whole rows then, where the axes that stay come first (``x.sum(axis=-1)``)
or last (``x.sum(axis=0)``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from zcluster.array.programs import Step

__all__ = ["TILE", "Fold", "Tiling", "tiling_of"]

#: Elements of a tile: its inputs and buffers fit into a core's own cache.
TILE = 32_768
#: Blocks of fewer tiles are evaluated whole.
_FEW_TILES = 4


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

    def __zcluster_tokenize__(self) -> Any:
        return ("fold", self.ufunc.__name__, self.axes, str(self.dtype))


class Tiling:
    """The first steps of a program that may run a tile at a time.

    Parameters
    ----------
    steps : sequence of Step
        Element-wise ones.
    readers : int
        How many values there are before them.
    fold : Fold or None
        What follows, of the value of the last.

    Attributes
    ----------
    count : int
        Steps that this stands for, the fold among them.
    """

    __slots__ = ("_fold", "_inputs", "_readers", "_steps", "count")

    def __init__(self, steps: Sequence[Step], readers: int, fold: Fold | None) -> None:
        self._steps = tuple(steps)
        self._readers = readers
        self._fold = fold
        self.count = len(steps) + (fold is not None)
        self._inputs = sorted(
            {one for step in steps for one in step.arguments if type(one) is int and one < readers}
        )

    def run(self, values: Sequence[Any]) -> Any:
        """Return what these steps make of a block; None if its values do not suit tiles."""
        shape = _shape_of([values[one] for one in self._inputs])
        if shape is None:
            return None
        fold = self._fold
        taken = _Blocks(shape) if fold is None else _collected(fold, shape)
        if taken is not None:
            return self._go_through(values, taken)
        assert fold is not None  # its axes lie between others
        return fold(self._go_through(values, _Blocks(shape)))

    def _go_through(self, values: Sequence[Any], taken: _Taken) -> Any:
        flat = {one: values[one].reshape(-1) for one in self._inputs}
        size = math.prod(taken.shape)
        buffers: list[Any] = []
        last = len(self._steps) - 1
        for start in range(0, size, taken.length):
            stop = min(start + taken.length, size)
            tile = {one: block[start:stop] for one, block in flat.items()}
            for number, step in enumerate(self._steps):
                given = [tile[one] if type(one) is int else one.value for one in step.arguments]
                if not start:  # what dtype it has shows the first time
                    made = step.function(*given)
                    buffers.append(made)
                else:
                    out = taken.target(start, stop) if number == last else None
                    if out is None:
                        out = buffers[number][: stop - start]
                    made = step.function(*given, out=out)
                tile[self._readers + number] = made
            taken.add(tile[self._readers + last], start)
        return taken.result()


def tiling_of(steps: Sequence[Step], readers: int) -> Tiling | None:
    """Return how the first steps of a program may run a tile at a time; None if they may not.

    Parameters
    ----------
    steps : sequence of Step
    readers : int
        How many values there are before them.
    """
    count = 0
    while count < len(steps) and _is_elementwise(steps[count]):
        count += 1
    if not count:
        return None
    fold: Fold | None = None
    if count < len(steps) and steps[count].arguments == (readers + count - 1,):
        function: Any = steps[count].function
        fold = function if isinstance(function, Fold) else None
    if count < 2 and fold is None:
        return None
    found = Tiling(steps[:count], readers, fold)
    inside = range(readers, readers + found.count - 1)
    for step in steps[found.count :]:
        numbers = [*step.arguments, *(number for _, number in step.extra)]
        if any(type(one) is int and one in inside for one in numbers):
            return None  # of what is inside, nothing is left
    return found


def _is_elementwise(step: Step) -> bool:
    function = step.function
    if not isinstance(function, np.ufunc) or function.nout != 1 or function.signature:
        return False
    if step.kwargs or step.extra:
        return False
    return all(type(one) is int or np.ndim(one.value) == 0 for one in step.arguments)


def _shape_of(blocks: Sequence[Any]) -> tuple[int, ...] | None:
    """Return the shape of all blocks, if they are flat in memory and large; else None."""
    if not blocks:
        return None
    first = blocks[0]
    if type(first) is not np.ndarray or first.size < _FEW_TILES * TILE:
        return None
    for one in blocks:
        if type(one) is not np.ndarray or one.dtype.hasobject or not one.flags.c_contiguous:
            return None
        if one.shape != first.shape:
            return None
    return tuple(first.shape)


# What becomes of tiles ----------------------------------------------------------------------------


class _Taken:
    """What is made of the last step's tiles."""

    #: Elements of a tile.
    length = TILE

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def target(self, start: int, stop: int) -> Any:
        """Return where the last step may write a tile; None: into a buffer."""
        return None

    def add(self, tile: Any, start: int) -> None:
        """Take a tile, which will be overwritten."""
        raise NotImplementedError

    def result(self) -> Any:
        raise NotImplementedError


class _Blocks(_Taken):
    """All of them after each other: a block."""

    _block: Any

    def target(self, start: int, stop: int) -> Any:
        return self._block[start:stop]

    def add(self, tile: Any, start: int) -> None:
        if not start:
            self._block = np.empty(math.prod(self.shape), tile.dtype)
            self._block[: len(tile)] = tile

    def result(self) -> Any:
        return self._block.reshape(self.shape)


class _Total(_Taken):
    """One number of all elements."""

    def __init__(self, fold: Fold, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self._fold = fold
        self._found: list[Any] = []

    def add(self, tile: Any, start: int) -> None:
        self._found.append(self._fold.ufunc.reduce(tile, dtype=self._fold.dtype))

    def result(self) -> Any:
        total = self._fold.ufunc.reduce(np.array(self._found), dtype=self._fold.dtype)
        return np.asarray(total).reshape((1,) * len(self.shape))


class _OfRows(_Taken):
    """One number of each row: the last axes are reduced."""

    _column: Any

    def __init__(self, fold: Fold, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self._fold = fold
        stay = len(shape) - len(fold.axes)
        self._kept = (*shape[:stay], *[1] * len(fold.axes))
        self._width = math.prod(shape[stay:])
        self.length = max(TILE // self._width, 1) * self._width

    def add(self, tile: Any, start: int) -> None:
        rows = tile.reshape(-1, self._width)
        made = self._fold.ufunc.reduce(rows, axis=1, dtype=self._fold.dtype)
        if not start:
            self._column = np.empty(math.prod(self._kept), made.dtype)
        first = start // self._width
        self._column[first : first + len(made)] = made

    def result(self) -> Any:
        return self._column.reshape(self._kept)


class _OfColumns(_Taken):
    """A row made of all rows: the first axes are reduced."""

    _row: Any = None

    def __init__(self, fold: Fold, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self._fold = fold
        gone = len(fold.axes)
        self._kept = (*[1] * gone, *shape[gone:])
        self._width = math.prod(shape[gone:])
        self.length = max(TILE // self._width, 1) * self._width

    def add(self, tile: Any, start: int) -> None:
        ufunc = self._fold.ufunc
        row = ufunc.reduce(tile.reshape(-1, self._width), axis=0, dtype=self._fold.dtype)
        self._row = row if self._row is None else ufunc(self._row, row)

    def result(self) -> Any:
        return self._row.reshape(self._kept)


def _collected(fold: Fold, shape: tuple[int, ...]) -> _Taken | None:
    """Return what folds tiles of blocks of a shape; None if the axes lie between others."""
    ndim, axes = len(shape), tuple(sorted(fold.axes))
    if len(axes) == ndim:
        return _Total(fold, shape)
    if axes == tuple(range(ndim - len(axes), ndim)):
        return _OfRows(fold, shape)
    if axes == tuple(range(len(axes))):
        return _OfColumns(fold, shape)
    return None
