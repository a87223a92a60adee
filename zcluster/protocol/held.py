"""Calls that never leave this process: of the very function, with the very arguments.

A graph that will run here needs no bytes. While `passing_objects` says so, whoever makes a graph
writes a `HeldCall` where it would pack a call: nothing is pickled, so nothing has to be picklable,
and what a task does to an argument, or to what its function refers to, it does to the caller's own.

Inputs are found in lists, tuples, dicts, sets, dataclasses and slices, in any depth. What holds
one is made anew around the result; everything else is passed on as the object that it is.
(Pickling, for other processes, also finds inputs in the attributes of other objects.)
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from zcluster.protocol.objects import ATOMS

__all__ = [
    "HeldCall",
    "Input",
    "Nested",
    "container_parts",
    "evaluate",
    "hold_call",
    "list_of",
    "passes_objects",
    "passing_objects",
]

_passes_objects: ContextVar[bool] = ContextVar("zcluster_passes_objects", default=False)


@contextmanager
def passing_objects(passes: bool) -> Iterator[None]:
    """Say for a while whether graphs that are made now will run in this process."""
    token = _passes_objects.set(passes)
    try:
        yield
    finally:
        _passes_objects.reset(token)


def passes_objects() -> bool:
    """Tell whether a graph that is made now will run in this process.

    Examples
    --------
    >>> with passing_objects(True):
    ...     passes_objects()
    True
    >>> passes_objects()
    False
    """
    return _passes_objects.get()


# What is put together when a call is made ----------------------------------------------------


class Input:
    """Stands for an input of a call, by its number."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return Input, (self.number,)


class Nested:
    """A call inside an argument, made where the outer call is made."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], args: list[Any]) -> None:
        self.function = function
        self.args = args

    def __reduce__(self) -> tuple[Any, ...]:
        return Nested, (self.function, self.args)


def evaluate(value: Any, inputs: Sequence[Any] = ()) -> Any:
    """Make nested calls, inner ones first, with inputs in their places; return the rest as it is.

    Examples
    --------
    >>> evaluate(Nested(max, [Input(0), Nested(abs, [-7])]), [5])
    7
    """
    kind = type(value)
    if kind is Input:
        return inputs[value.number]
    if kind is Nested:
        return value.function(*[evaluate(arg, inputs) for arg in value.args])
    return value


def list_of(*items: Any) -> list[Any]:
    """Return a list of the arguments."""
    return list(items)


def _tuple_of(*items: Any) -> tuple[Any, ...]:
    return items


def _set_of(*items: Any) -> set[Any]:
    return set(items)


def _frozenset_of(*items: Any) -> frozenset[Any]:
    return frozenset(items)


def _dict_of(*items: Any) -> dict[Any, Any]:
    """Return a dict of some keys, which are followed by as many values."""
    middle = len(items) // 2
    return dict(zip(items[:middle], items[middle:], strict=True))


def _object_of(kind: Callable[..., Any], names: tuple[str, ...], *items: Any) -> Any:
    return kind(**dict(zip(names, items, strict=True)))


_MAKERS: dict[type, Callable[..., Any]] = {
    list: list_of,
    tuple: _tuple_of,
    set: _set_of,
    frozenset: _frozenset_of,
}


def container_parts(value: Any) -> tuple[list[Any], Callable[..., Any]] | None:
    """Return the parts of a container, and what makes one like it when called with other parts.

    None for what is no list, tuple, dict, set, dataclass or slice.

    Examples
    --------
    >>> parts, make = container_parts({"a": 1})
    >>> parts, make("b", 2)
    (['a', 1], {'b': 2})
    """
    kind = type(value)
    maker = _MAKERS.get(kind)
    if maker is not None:
        return list(value), maker
    if kind is dict:
        return [*value, *value.values()], _dict_of
    if kind is slice:
        return [value.start, value.stop, value.step], slice
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return list(value), kind
    if is_dataclass(kind):
        names = tuple(field.name for field in fields(value) if field.init)
        if not all(hasattr(value, name) for name in names):
            return None  # it is not made to its end: nobody could make one like it
        return [getattr(value, name) for name in names], partial(_object_of, kind, names)
    return None


# Calls ---------------------------------------------------------------------------------------


class HeldCall:
    """A call of a function that is here, which waits for its inputs.

    Attributes
    ----------
    function : callable
    args : tuple or None
        With `Input` and `Nested` in it where the inputs go; None: the inputs, in order.
    kwargs : dict
        The same.
    is_whole : bool
        No inputs go into the arguments, and no nested calls are among them.
    """

    __slots__ = ("args", "function", "is_whole", "kwargs")

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] | None,
        kwargs: dict[str, Any],
        is_whole: bool = False,
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.is_whole = is_whole

    def make(self, inputs: Sequence[Any]) -> Any:
        """Make the call; return its result."""
        args, kwargs = self.args, self.kwargs
        if args is None:
            return self.function(*inputs)
        if self.is_whole:
            return self.function(*args, **kwargs)
        filled = [evaluate(arg, inputs) for arg in args]
        if not kwargs:
            return self.function(*filled)
        return self.function(
            *filled, **{name: evaluate(value, inputs) for name, value in kwargs.items()}
        )


def hold_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[HeldCall, list[Any]]:
    """Make a call to be made here later.

    Returns
    -------
    call : HeldCall
    inputs : list
        The objects in the arguments that stand for inputs (see `zcluster.protocol.calls`), in the
        order in which the call takes them, each once.

    Examples
    --------
    >>> call, inputs = hold_call(sum, ([1, 2],), {})
    >>> call.make([]), inputs
    (3, [])
    """
    if not kwargs and ATOMS.issuperset(map(type, args)):
        return HeldCall(function, args, kwargs, True), []
    holding = _Holding()
    put = holding.put
    held = tuple([put(value) for value in args])
    inputs = holding.inputs
    if not kwargs:
        if len(inputs) == len(args) and all(type(value) is Input for value in held):
            return HeldCall(function, None, kwargs), inputs
    else:
        kwargs = {name: put(value) for name, value in kwargs.items()}
    return HeldCall(function, held, kwargs, not holding.is_filled), inputs


class _Holding:
    """The inputs met so far while one call is made ready."""

    __slots__ = ("_numbers", "_path", "inputs", "is_filled")

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.is_filled = False
        self._numbers: dict[int, Input] = {}
        self._path: set[int] = set()  # ids of the containers around a part

    def put(self, value: Any) -> Any:
        """Return a part of the arguments with `Input` where the inputs are."""
        kind = type(value)
        if kind in ATOMS:
            return value
        if getattr(kind, "__zcluster_input__", False):
            self.is_filled = True
            found = self._numbers.get(id(value))
            if found is None:
                found = self._numbers[id(value)] = Input(len(self.inputs))
                self.inputs.append(value)
            return found
        if kind is Nested:
            self.is_filled = True
            return Nested(value.function, [self.put(arg) for arg in value.args])
        if kind in _MAKERS and ATOMS.issuperset(map(type, value)):
            return value
        return self._put_parts(value)

    def _put_parts(self, value: Any) -> Any:
        found = container_parts(value)
        if found is None or id(value) in self._path:
            return value
        parts, maker = found
        self._path.add(id(value))
        put = [self.put(part) for part in parts]
        self._path.discard(id(value))
        if all(map(operator.is_, put, parts)):
            return value
        return Nested(maker, put)
