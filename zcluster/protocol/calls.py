"""How the call of a task is made from its inputs and its constant.

A layer says in which of seven forms its calls are written:

=====  ================  ==========================================================
form   name              the result
=====  ================  ==========================================================
0      CALL_INPUTS       ``f(*inputs)``
1      CALL_PACKED       ``f(*args, **kwargs)``; the constant is the blob of both
2      CALL_PACKED_LAST  the same, but that blob is the task's last input
3      CALL_VALUE        the constant itself: a literal
4      CALL_ALIAS        input 0
5      CALL_SINGLE       ``f(x)``; the constant is the blob of ``x``
6      CALL_ROW          ``f(constant, *inputs)``; the constant is bytes, passed as they are
=====  ================  ==========================================================

In forms 1 and 2 the arguments may contain inputs anywhere: in lists, in dicts, in attributes, in
the closure of a lambda. This works by pickling: while a call is being packed, an object that
stands for a result (a future, a delayed call) pickles itself by way of `reduce_as_input` as "take
input 3", and unpickling in the worker takes it. No container needs to be known for that.

A class whose instances stand for inputs has ``__zcluster_input__ = True`` and::

    def __reduce__(self):
        return reduce_as_input(self)
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from zcluster.errors import NotSerializable, ProtocolError
from zcluster.protocol.culprits import refusal
from zcluster.protocol.objects import (
    ATOMS,
    Plan,
    load_private,
    pickled,
    plan,
    plan_pickled,
    small_atoms,
)

__all__ = [
    "CALL_ALIAS",
    "CALL_INPUTS",
    "CALL_PACKED",
    "CALL_PACKED_LAST",
    "CALL_ROW",
    "CALL_SINGLE",
    "CALL_VALUE",
    "LARGE_ARGUMENT",
    "PackedCall",
    "make_call",
    "pack_call",
    "reduce_as_input",
    "take_input",
    "unpack_arguments",
]

CALL_INPUTS = 0
CALL_PACKED = 1
CALL_PACKED_LAST = 2
CALL_VALUE = 3
CALL_ALIAS = 4
CALL_SINGLE = 5
CALL_ROW = 6

#: Arguments of more bytes than this go into a store first, and do not travel in the graph.
LARGE_ARGUMENT = 64 * 1024

_FEW = 16


class PackedCall(NamedTuple):
    """The arguments of a call, ready to travel.

    Attributes
    ----------
    form : int
        One of the ``CALL_`` constants.
    constant : bytes or None
        The blob of the arguments, if the form has one.
    plan : Plan or None
        With CALL_PACKED_LAST: the blob still to be written; whoever submits puts it into a store
        and makes it the last input.
    inputs : list
        The objects that stand for inputs, in order.
    """

    form: int
    constant: bytes | None
    plan: Plan | None
    inputs: list[Any]


class _Packing:
    """The inputs met so far while one call is pickled."""

    __slots__ = ("inputs", "numbers")

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self.numbers: dict[int, int] = {}

    def number(self, value: Any) -> int:
        """Return the number of an input; the same object has one number."""
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.inputs)
            self.inputs.append(value)
        return number

    def start_again(self) -> None:
        self.inputs.clear()
        self.numbers.clear()


_packing: ContextVar[_Packing | None] = ContextVar("zcluster_packing", default=None)
_inputs: ContextVar[Sequence[Any] | None] = ContextVar("zcluster_inputs", default=None)


# The client's side ----------------------------------------------------------------------------


def reduce_as_input(value: Any) -> tuple[Any, ...]:
    """Return what ``__reduce__`` of an object that stands for an input returns.

    Outside a packing (somebody else pickles it) the method ``__zcluster_outside__`` of the class
    decides, if there is one.

    Raises
    ------
    NotSerializable
        Outside a packing, if the class does not say what to do there.
    """
    packing = _packing.get()
    if packing is not None:
        return take_input, (packing.number(value),)
    outside = getattr(type(value), "__zcluster_outside__", None)
    if outside is not None:
        reduced: tuple[Any, ...] = outside(value)
        return reduced
    raise NotSerializable(
        f"a {type(value).__qualname__} stands for a result and was pickled outside a call; "
        "expected it among the arguments of a task: pass it there, or pass its result"
    )


def take_input(number: int) -> Any:
    """Return an input of the call that is being unpacked."""
    inputs = _inputs.get()
    if inputs is None:
        raise ProtocolError(
            f"input {number} was asked for outside a call; these bytes are the arguments of a "
            "task and can be unpickled by `unpack_arguments` only"
        )
    return inputs[number]


def pack_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> PackedCall:
    """Pack the arguments of a call in the form that is quickest to make it from.

    Raises
    ------
    NotSerializable
        Naming the path, such as ``args[0].lock``, to the part that cannot be pickled.
    """
    if not kwargs:
        if len(args) == 1:
            constant = _single(args[0])
            if constant is not None:
                return PackedCall(CALL_SINGLE, constant, None, [])
        for value in args:
            if not getattr(type(value), "__zcluster_input__", False):
                break
        else:
            return PackedCall(CALL_INPUTS, None, None, list(args))
    packing = _Packing()
    token = _packing.set(packing)
    try:
        if len(args) + len(kwargs) <= _FEW and _is_flat(args) and _is_flat(kwargs.values()):
            constant = pickle.dumps((args, kwargs), 5)
            if len(constant) <= LARGE_ARGUMENT:
                return PackedCall(CALL_PACKED, constant, None, packing.inputs)
        planned = plan_pickled(pickled((args, kwargs), packing.start_again))
        if planned.size <= LARGE_ARGUMENT:
            return PackedCall(CALL_PACKED, planned.tobytes(), None, packing.inputs)
        return PackedCall(CALL_PACKED_LAST, None, planned, packing.inputs)
    except (NotSerializable, MemoryError):
        raise
    except Exception as error:
        raise refusal(error, {"args": args, "kwargs": kwargs}) from error
    finally:
        _packing.reset(token)


def _is_flat(values: Iterable[Any]) -> bool:
    """Tell whether these are inputs and small atoms only, so that plain pickle will do, at once."""
    return small_atoms(v for v in values if not getattr(type(v), "__zcluster_input__", False))


def _single(value: Any) -> bytes | None:
    """Return the blob of a lone argument that is small and cannot contain inputs, else None."""
    kind = type(value)
    if kind in ATOMS:
        if (kind is str or kind is bytes) and len(value) > LARGE_ARGUMENT:
            return None
        data = pickle.dumps(value, 5)
        return data if len(data) <= LARGE_ARGUMENT else None
    numpy = sys.modules.get("numpy")
    if numpy is None or kind is not getattr(numpy, "ndarray", None):
        return None
    if value.dtype.hasobject or value.nbytes > LARGE_ARGUMENT:
        return None
    planned = plan(value, "args[0]")
    return planned.tobytes() if planned.size <= LARGE_ARGUMENT else None


# The worker's side ----------------------------------------------------------------------------


def unpack_arguments(
    constant: bytes | bytearray | memoryview, inputs: Sequence[Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return args and kwargs from their blob, with the inputs in their places."""
    token = _inputs.set(inputs)
    try:
        args, kwargs = load_private(constant)
    finally:
        _inputs.reset(token)
    return args, kwargs


def make_call(
    form: int,
    function: Callable[..., Any] | None,
    constant: bytes | bytearray | memoryview | None,
    inputs: Sequence[Any],
) -> Any:
    """Make the call of a task and return its result.

    Parameters
    ----------
    form : int
        One of the ``CALL_`` constants.
    function : callable or None
        None for CALL_VALUE and CALL_ALIAS.
    constant : bytes-like or None
        The blob, for the forms that have one.
    inputs : sequence
        The loaded inputs; with CALL_PACKED_LAST the last one is the blob itself, not loaded.

    Raises
    ------
    ProtocolError
        If form, function and constant do not go together.
    Exception
        Whatever the function raised.
    """
    if form == CALL_ALIAS:
        return inputs[0]
    if form == CALL_PACKED_LAST:
        inputs, constant = inputs[:-1], inputs[-1]
    if form == CALL_VALUE and constant is not None:
        return load_private(constant)
    if function is not None:
        if form == CALL_INPUTS:
            return function(*inputs)
        if form == CALL_ROW:  # where all rows of a message are empty, none is sent
            return function(b"" if constant is None else constant, *inputs)
        if constant is not None:
            if form == CALL_SINGLE:
                return function(load_private(constant))
            if form in (CALL_PACKED, CALL_PACKED_LAST):
                args, kwargs = unpack_arguments(constant, inputs)
                return function(*args, **kwargs)
    raise ProtocolError(
        f"a call of form {form} with{'' if function else 'out'} a function and "
        f"with{'' if constant else 'out'} a constant cannot be made; see zcluster.protocol.calls"
    )
