"""Callables to bytes and back, and the bounded cache a worker keeps of them.

A layer's callable crosses the wire once, under the hash of its bytes. The hash names cache
entries and nothing else: a function sent by value pickles to other bytes in another process, or
after a global that it uses has changed. Therefore

- what pickles as a mere reference (``numpy.add``, ``mymodule.load``) is remembered by object;
- what travels by value (lambdas, closures, code of ``__main__``, partials and bound methods, whose
  state may change) is pickled at every call;
- but for a plain function of ``__main__`` whose code, defaults and all globals it could use are the
  very objects they were, and objects that cannot change: pickling it again would give the same.
"""

from __future__ import annotations

import operator
import pickle
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple, cast

from zcluster.errors import NotSerializable
from zcluster.protocol.culprits import refusal
from zcluster.protocol.objects import pickled, plan_pickled

__all__ = [
    "CallableCache",
    "Packed",
    "callable_name",
    "forget_callables",
    "load_callable",
    "pack_callable",
]


class Packed(NamedTuple):
    """A callable as bytes, under the hash of the bytes (16 of them)."""

    digest: bytes
    data: bytes


# By id; the first item gives the callable, to see that the id has not been taken over.
_remembered: dict[int, tuple[Callable[[], Any], Packed]] = {}
_MOST_REMEMBERED = 10_000

# Functions of __main__ by id, with the parts their pickle was made of (which holds the code, so
# that a new function under an old id is told apart by it).
_by_parts: dict[int, tuple[tuple[Any, ...], Packed]] = {}
_names: dict[CodeType, tuple[str, ...]] = {}
_ABSENT = object()
_CONSTANT = frozenset(
    (int, float, complex, bool, str, bytes, type(None), CodeType, ModuleType, object)
)

# How a pickle ends that is nothing but a reference: STACK_GLOBAL, MEMOIZE, STOP. No callable that
# carries state ends so: building it takes another opcode after the last reference.
_ENDS_AS_REFERENCE = b"\x93\x94."


def pack_callable(function: Callable[..., Any]) -> Packed:
    """Turn a callable into bytes.

    Raises
    ------
    NotSerializable
        Naming the path to the part that cannot be pickled.
    """
    entry = _remembered.get(id(function))
    if entry is not None and entry[0]() is function:
        return entry[1]
    parts = _constant_parts(function) if type(function) is FunctionType else None
    if parts is not None:
        kept = _by_parts.get(id(function))
        if kept is not None and _are_same(kept[0], parts):
            return kept[1]
    try:
        data = plan_pickled(pickled(function)).tobytes()
    except (NotSerializable, MemoryError):
        raise
    except Exception as error:
        raise refusal(error, {callable_name(function): function}) from error
    packed = Packed(blake2b(data, digest_size=16).digest(), data)
    if data.endswith(_ENDS_AS_REFERENCE):
        _remember(function, packed)
    elif parts is not None:
        if len(_by_parts) >= _MOST_REMEMBERED:
            _by_parts.clear()
        _by_parts[id(function)] = (parts, packed)
    return packed


def _constant_parts(function: FunctionType) -> tuple[Any, ...] | None:
    """Return all that the pickle of a function of ``__main__`` depends on, if none can change.

    Names are taken from the code, those of attributes too: one that happens to be
    a global as well is looked at in vain, which costs nothing.
    """
    if function.__module__ != "__main__" or function.__closure__ or function.__dict__:
        return None
    code = function.__code__
    names = _names.get(code)
    if names is None:
        if len(_names) >= _MOST_REMEMBERED:
            _names.clear()
        names = _names[code] = _names_in(code)
    values = [code, function.__name__, *(function.__defaults__ or ())]
    values.extend((function.__kwdefaults__ or {}).values())
    scope = function.__globals__
    for name in names:
        values.append(scope.get(name, _ABSENT))
    for value in values:
        if not _is_constant(value):
            return None
    return tuple(values)


def _is_constant(value: Any) -> bool:
    """Whether an object pickles to the same bytes as long as it is the same object."""
    kind = type(value)
    if kind in _CONSTANT:
        return True
    if kind in (FunctionType, BuiltinFunctionType, type):
        return getattr(value, "__module__", None) not in (None, "__main__")
    return False


def _are_same(old: tuple[Any, ...], new: tuple[Any, ...]) -> bool:
    return len(old) == len(new) and all(map(operator.is_, old, new))


def _names_in(code: CodeType) -> tuple[str, ...]:
    """Return the names a code object and those nested in it use."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(dict.fromkeys(_names_in(constant)))
    return tuple(names)


def _remember(function: Callable[..., Any], packed: Packed) -> None:
    if len(_remembered) >= _MOST_REMEMBERED:
        _remembered.clear()
    key = id(function)
    get: Callable[[], Any]

    def forget(_: object, pop: Callable[..., object] = _remembered.pop) -> None:
        pop(key, None)

    try:
        get = weakref.ref(function, forget)
    except TypeError:  # a NumPy ufunc: it lives as long as its module
        get = partial(_identity, function)
    _remembered[key] = (get, packed)


def _identity(value: Any) -> Any:
    return value


def forget_callables() -> None:
    """Forget what was remembered: for when modules were reloaded or uploaded anew."""
    _remembered.clear()
    _by_parts.clear()


def load_callable(data: bytes | memoryview) -> Callable[..., Any]:
    """Return the callable that `pack_callable` made these bytes of."""
    function: Callable[..., Any] = pickle.loads(data)
    return function


def callable_name(function: Any) -> str:
    """Return a short name for a callable, as used in key prefixes.

    Examples
    --------
    >>> callable_name(partial(str.split, sep=","))
    'split'
    >>> callable_name(lambda: None)
    'lambda'
    """
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, operator.methodcaller):
        maker, args = cast("tuple[Any, tuple[Any, ...]]", function.__reduce__())
        # With keywords it reduces to a partial of itself that has the name.
        return str(maker.args[0] if isinstance(maker, partial) else args[0])
    name = getattr(function, "__name__", None)
    if type(name) is not str or not name:
        name = type(function).__name__.lower()
    return name.strip("<>")


class CallableCache:
    """The callables a process has been sent, by hash, the least recently used dropped first.

    A callable is unpickled when it is first asked for, in the thread that asks.

    Parameters
    ----------
    limit : int
        Bytes of pickles to hold; the newest entry stays, whatever its size.
    """

    def __init__(self, limit: int = 64 << 20) -> None:
        self.limit = limit
        self.size = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, digest: bytes, data: bytes) -> list[bytes]:
        """Add a callable; return the hashes that were dropped to make room."""
        if digest in self._entries:
            return []
        self._entries[digest] = _Entry(data)
        self.size += len(data)
        dropped = []
        while self.size > self.limit and len(self._entries) > 1:
            old, entry = self._entries.popitem(last=False)
            self.size -= entry.size
            dropped.append(old)
        return dropped

    def get(self, digest: bytes) -> Callable[..., Any] | None:
        """Return the callable, or None if it is not here (any more).

        Raises
        ------
        Exception
            Whatever unpickling it raised, such as ModuleNotFoundError.
        """
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if len(self._entries) > 1:
            try:
                self._entries.move_to_end(digest)
            except KeyError:  # dropped by another thread meanwhile: still good for this call
                pass
        function = entry.function
        if function is None:
            data = entry.data
            function = entry.function or load_callable(data)
            # Two threads may have loaded it at once: one of the two objects is kept.
            if entry.function is None:
                entry.function = function
                entry.data = b""
            function = entry.function
        return function

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self.size = 0


class _Entry:
    __slots__ = ("data", "function", "size")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.function: Callable[..., Any] | None = None
