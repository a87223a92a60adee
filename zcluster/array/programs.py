"""What a task of fused operations runs: a program, made once for a layer.

A program is a callable that is pickled with its layer. A task calls it with the results it takes
and a row of integers that says what is special about its block. **Readers** make values of these,
in order; then **steps** call functions of values; the value of the last step is the result::

    ((x + 1) * y[2:]).sum()     readers: Whole, Assemble(1); steps: add, multiply, partial sum

A row is int64. In a program that `is_turned` it begins with the place of the first result, which is
the largest. Then each reader takes its integers from the front:

- `Whole` none, and one result;
- `Generate` the place and the shape of the block;
- `Numbers` a few, handed on as a tuple;
- `Assemble`, for each axis: the number of pieces, then of each its length and how it is laid
  (`FORWARD`, `BACKWARD`, `REPEATED`, `FILLED`); and one result for each combination of pieces that
  is not filled, in C order.

Chains of element-wise steps over large blocks are evaluated in tiles that stay in the cache, with
the first step of a reduction at their end (`zcluster.array.tiles`). A value is let go as soon as no
step needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import chain, product
from typing import Any

import numpy as np

from zcluster.array.axes import UNKNOWN
from zcluster.array.tiles import Fold, tiling_of
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
    "with_own",
]

FORWARD, BACKWARD, REPEATED, FILLED = range(4)


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

    def turn_back(self) -> None:
        """Put the first result where it belongs, and that one first."""
        (place,) = self.numbers(1)
        if place:
            results = list(self.results)
            results[0], results[place] = results[place], results[0]
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
    """What a function makes of a block's place and shape.

    Attributes
    ----------
    is_uniform : bool
        The place does not matter, and is not in the row.
    shape : tuple of int or None
        That of all blocks, if it is not in the row either.
    """

    __slots__ = ("function", "is_uniform", "ndim", "shape")

    def __init__(
        self,
        function: Callable[..., Any],
        ndim: int,
        is_uniform: bool = False,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.function = function
        self.ndim = ndim
        self.is_uniform = is_uniform
        self.shape = shape

    @property
    def takes_row(self) -> bool:  # type: ignore[override]
        return self.ndim > 0 and not (self.is_uniform and self.shape is not None)

    def read(self, cursor: _Cursor) -> Any:
        place = (0,) * self.ndim if self.is_uniform else cursor.numbers(self.ndim)
        shape = cursor.numbers(self.ndim) if self.shape is None else self.shape
        return self.function(place, shape)


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
        if any(pieces[0][0] == UNKNOWN for pieces in axes if pieces):
            # The first piece tells how long a whole chunk of unknown length is.
            first = next(cursor.results)
            cursor.results = chain([first], cursor.results)
            axes = [
                [(first.shape[axis], FORWARD)] if pieces and pieces[0][0] == UNKNOWN else pieces
                for axis, pieces in enumerate(axes)
            ]
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
    owns : tuple of int
        Places of arguments that the function may write into and others see: it gets copies.
    """

    __slots__ = ("arguments", "extra", "function", "kwargs", "owns")

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        kwargs: dict[str, Any],
        extra: tuple[tuple[str, int], ...] = (),
        owns: tuple[int, ...] = (),
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.kwargs = kwargs
        self.extra = extra
        self.owns = owns

    def bound(self) -> Callable[[Sequence[Any]], Any]:
        """Return the same as a function of the values: made once, called for every block."""
        function, kwargs, extra = self.function, self.kwargs, self.extra
        arguments, owns = self.arguments, self.owns
        if owns:
            return self._call_with_own
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

    def _call_with_own(self, values: Sequence[Any]) -> Any:
        given = [values[one] if type(one) is int else one.value for one in self.arguments]
        for place in self.owns:
            given[place] = given[place].copy()
        more = {keyword: values[number] for keyword, number in self.extra}
        return self.function(*given, **self.kwargs, **more)


def with_own(
    readers: int, steps: Sequence[Step], writers: Collection[int]
) -> tuple[list[Step], set[int]]:
    """Give steps that may write into their arguments copies of what others see.

    Only a ufunc certainly returns new memory. What any other function returns may be its argument,
    or a view of it.

    Parameters
    ----------
    readers : int
        How many values there are before the steps.
    steps : sequence of Step
    writers : collection of int
        Which steps may write.

    Returns
    -------
    steps : list of Step
    written : set of int
        The values of readers that steps may write into nevertheless: nobody else here sees them.

    Examples
    --------
    >>> turned, spoiled = Step(np.transpose, (0,), {}), Step(np.asarray, (1,), {})
    >>> steps, written = with_own(1, [turned, spoiled], {1})
    >>> steps[1].owns, written
    ((), {0})
    >>> steps, written = with_own(1, [turned, spoiled, Step(np.add, (0, 2), {})], {1})
    >>> steps[1].owns, written
    ((0,), set())
    """
    if not writers:
        return list(steps), set()
    #: By value, one that may be the same memory; the last one of these is its own.
    later = list(range(readers + len(steps)))

    def last(value: int) -> int:
        while later[value] != value:
            later[value] = later[later[value]]
            value = later[value]
        return value

    uses = [0] * len(later)
    for number, step in enumerate(steps, start=readers):
        for one in step.arguments:
            if type(one) is int:
                uses[one] += 1
                if not isinstance(step.function, np.ufunc):
                    later[last(one)] = number
    shared = {last(value) for value, count in enumerate(uses) if count > 1}
    made, written = [], set()
    for number, step in enumerate(steps):
        owns = []
        if number in writers:
            for place, one in enumerate(step.arguments):
                if type(one) is int and last(one) in shared:
                    owns.append(place)
                elif type(one) is int:
                    written.add(last(one))
        made.append(Step(step.function, step.arguments, step.kwargs, step.extra, tuple(owns)))
    return made, {value for value in range(readers) if last(value) in written}


class Program:
    """What the tasks of a layer run; see the top of the file.

    Parameters
    ----------
    readers : sequence of Reader
        Their values are numbered from 0.
    steps : sequence of Step
        Their values follow; without steps the first reader's value is the result.
    is_turned : bool
        A row begins with the number of the result that comes first, in the place of the one that
        belongs there.
    """

    __slots__ = (
        "_calls",
        "_is_plain",
        "_reads",
        "_tiling",
        "is_turned",
        "readers",
        "steps",
        "takes_row",
    )

    def __init__(
        self, readers: Sequence[Reader], steps: Sequence[Step], is_turned: bool = False
    ) -> None:
        self.readers = tuple(readers)
        self.steps = tuple(steps)
        self.is_turned = is_turned
        self.takes_row = is_turned or any(reader.takes_row for reader in self.readers)
        self._is_plain = all(type(reader) is Whole for reader in self.readers)
        self._tiling = tiling_of(self.steps, len(self.readers))
        self._reads = [reader.read for reader in self.readers]
        calls = [step.bound() for step in self.steps]
        self._calls = list(zip(calls, _last_uses(self.steps, len(self.readers)), strict=True))

    def __reduce__(self) -> Any:
        return Program, (self.readers, self.steps, self.is_turned)

    def __repr__(self) -> str:
        return f"<program: {self.__name__}>"

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
            if self.is_turned:
                cursor.turn_back()
            values = [read(cursor) for read in self._reads]
        del given
        calls = self._calls
        if self._tiling is not None:
            made = self._tiling.run(values)
            if made is not None:
                done = self._tiling.count
                values += [None] * (done - 1)
                values.append(made)
                for _, over in calls[:done]:
                    for one in over:
                        values[one] = None
                calls = calls[done:]
        for call, over in calls:
            values.append(call(values))
            for one in over:
                values[one] = None
        return _kept(values[-1] if self.steps else values[0])


def _last_uses(steps: Sequence[Step], readers: int) -> list[tuple[int, ...]]:
    """Return for each step the values that no later one needs.

    Examples
    --------
    >>> _last_uses([Step(np.square, (0,), {}), Step(np.add, (0, 1), {})], 1)
    [(), (0, 1)]
    """
    last: dict[int, int] = {}
    for number, step in enumerate(steps):
        for one in (*step.arguments, *(value for _, value in step.extra)):
            if type(one) is int:
                last[one] = number
    over: list[list[int]] = [[] for _ in steps]
    for one, number in last.items():
        over[number].append(one)
    return [tuple(sorted(each)) for each in over]


def _kept(value: Any) -> Any:
    """Return a result that may be kept for long: no small view that keeps a large block alive.

    Examples
    --------
    >>> _kept(np.zeros(1000)[:1]).base is None, _kept(np.zeros(1000)[::-1]).base is None
    (True, False)
    """
    if type(value) is not np.ndarray or value.base is None:
        return value
    owner: Any = value.base
    while type(owner) is np.ndarray and owner.base is not None:
        owner = owner.base
    size = getattr(owner, "nbytes", None)  # of an array, and of what is mapped from the store
    return value.copy() if size is not None and size > 2 * value.nbytes else value
