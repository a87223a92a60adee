"""Tokens: equal calls on equal values have equal names, in every process.

`tokenize` writes its arguments as a canonical string of bytes and hashes that. Canonical means:
the same for the same value whatever the process, the hash seed, the order in which a dict was
filled, or which equal objects happen to be one object (pickles differ in the last three).

==========================  =============================================================
value                       written as
==========================  =============================================================
plain values, containers    type and content; dicts by sorted keys, sets sorted
NumPy arrays                dtype, shape, order, hash of the bytes
pandas objects              labels, dtypes and the values below
maps of files, read only    the file's name, time and size, and the place in it
importable code             module and qualified name
other functions             byte code, constants, names, defaults, closure and the globals used
other classes               name, bases and attributes
registered types            what the function given to `normalize_token` returns
with a token method         what ``__zcluster_tokenize__`` (or ``__dask_tokenize__``) returns
anything else               what ``__reduce_ex__`` says, in the same way; else cloudpickle's bytes
==========================  =============================================================

What none of this can write (a lock, an open file) gets a random token: it equals nothing, and a
computation on it is never taken for another. With ``ensure_deterministic=True`` it is an error.

Arguments that are numbers, text and tuples of them have a short way of their own (`_is_short`):
collections make the names of operations of such, a few microseconds each.
"""

from __future__ import annotations

import copyreg
import dis
import marshal
import os
import pickle
import struct
import sys
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from hashlib import blake2b
from typing import Any

from zcluster.errors import NotSerializable
from zcluster.protocol.normalizing import Normalizers
from zcluster.protocol.parts import Parts, parts_of

__all__ = ["normalize_token", "tokenize"]

_double = struct.Struct("<d").pack

#: Types whose values `marshal` writes by content alone.
_SHORT = frozenset({type(None), bool, int, str, bytes})
#: So deep is looked into a tuple among other values, before its items are written one by one.
_SHORT_DEPTH = 3

#: Where what has no token of its own is noted, while somebody asks for that. Not an argument: the
#: methods of users call `tokenize` again.
_unsure: ContextVar[list[str] | None] = ContextVar("_unsure", default=None)


def tokenize(*args: Any, ensure_deterministic: bool = False, **kwargs: Any) -> str:
    """Return a token of 32 hexadecimal digits for some values.

    Equal values give equal tokens, in this process and in others. What cannot be written in a
    deterministic way gets a random token.

    Parameters
    ----------
    *args, **kwargs
        The values.
    ensure_deterministic : bool
        Raise an error instead of giving a random token.

    Raises
    ------
    NotSerializable
        With ``ensure_deterministic=True``, for what cannot be written in a deterministic way.

    Examples
    --------
    >>> tokenize(1, {"a": 2, "b": 3}) == tokenize(1, {"b": 3, "a": 2})
    True
    >>> tokenize(1) == tokenize(1.0)
    False
    """
    if ensure_deterministic:
        return _ensured(args, kwargs)
    try:
        if not kwargs and _is_short(args):
            # Version 0: later ones write equal strings in several ways. No other token is made of
            # bytes that begin as these do, with a parenthesis.
            return blake2b(marshal.dumps(args, 0), digest_size=16).hexdigest()
        out: list[bytes] = []
        writer = _Writer(out)
        for value in args:
            writer.write(value)
        if kwargs:
            out.append(b"K")
            writer.write(kwargs)
    except RecursionError:  # nested a thousand deep
        return _random("values nested too deep").hex()
    return blake2b(b"".join(out), digest_size=16).hexdigest()


def _is_short(values: tuple[Any, ...], room: int = 50) -> bool:
    """Tell whether values are numbers, text and tuples of them, a few deep, and nothing else."""
    for value in values:
        kind = type(value)
        if kind in _SHORT or (kind is float and value == value):  # there are many a NaN
            continue
        if kind is not tuple or not room or not _is_short(value, room - 1):
            return False
    return True


def _ensured(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return a token, or raise an error where some of it would be random."""
    unsure: list[str] = []
    before = _unsure.set(unsure)
    try:
        token = tokenize(*args, **kwargs)
    finally:
        _unsure.reset(before)
    if unsure:
        raise NotSerializable(
            f"no deterministic token for {', '.join(dict.fromkeys(unsure))}; expected values that "
            "other processes can write in the same way. Leave it out, give its class a method "
            "__zcluster_tokenize__ that returns what its token is made of, or register a function "
            "for it: @normalize_token.register(Class)"
        )
    return token


def _random(what: str) -> bytes:
    """Return a token for what equals nothing."""
    unsure = _unsure.get()
    if unsure is not None:
        unsure.append(what)
    return os.urandom(16)


class _Writer:
    """Writes values canonically.

    Attributes
    ----------
    out : list of bytes
        What is written.
    open : dict
        Id to depth of the containers being written: one met again inside itself is a cycle.
    code : dict
        Id to number of the functions and classes written so far. Each is written once, since
        functions refer to each other in all directions through their globals.
    keep : list
        Holds what has its id in `code`.
    """

    __slots__ = ("code", "keep", "open", "out")

    def __init__(self, out: list[bytes]) -> None:
        self.out = out
        self.open: dict[int, int] = {}
        self.code: dict[int, int] = {}
        self.keep: list[Any] = []

    def write(self, value: Any) -> None:
        kind = type(value)
        writer = _WRITERS.get(kind)
        if writer is not None:
            writer(self, value)
        else:
            _write_other(self, kind, value)

    def apart(self, value: Any) -> bytes:
        """Return what one value is written as by itself, wherever it stands."""
        out: list[bytes] = []
        writer = _Writer(out)
        writer.open = self.open
        writer.code = dict(self.code)
        writer.write(value)
        return b"".join(out)

    def tagged(self, tag: bytes, *values: Any) -> None:
        """Write a tag, then values."""
        self.out.append(b"%s%d(" % (tag, len(values)))
        for value in values:
            self.write(value)

    def once(self, value: Any) -> bool:
        """Tell whether some code is written for the first time; else write its number."""
        number = self.code.get(id(value))
        if number is not None:
            self.out.append(b"@%d;" % number)
            return False
        self.code[id(value)] = len(self.code)
        self.keep.append(value)
        return True

    def enter(self, value: Any) -> bool:
        """Open a container, or write that it is in a cycle and return False."""
        depth = self.open.get(id(value))
        if depth is not None:
            self.out.append(b"^%d;" % (len(self.open) - depth))
            return False
        self.open[id(value)] = len(self.open)
        return True

    def leave(self, value: Any) -> None:
        del self.open[id(value)]


# Plain values ---------------------------------------------------------------------------------


def _write_none(writer: _Writer, value: None) -> None:
    writer.out.append(b"N")


def _write_ellipsis(writer: _Writer, value: types.EllipsisType) -> None:
    writer.out.append(b"E")


def _write_bool(writer: _Writer, value: bool) -> None:
    writer.out.append(b"T" if value else b"F")


def _write_int(writer: _Writer, value: int) -> None:
    # In hexadecimal: it takes linear time, and has no limit on the digits.
    writer.out.append(b"i%x;" % value)


def _write_float(writer: _Writer, value: float) -> None:
    writer.out.append(b"d" + _double(value))


def _write_complex(writer: _Writer, value: complex) -> None:
    writer.out.append(b"c" + _double(value.real) + _double(value.imag))


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"s%d:%s" % (len(data), data)


def _write_str(writer: _Writer, value: str) -> None:
    writer.out.append(_text(value))


def _write_bytes(writer: _Writer, value: bytes) -> None:
    writer.out.append(b"b%d:" % len(value))
    writer.out.append(value)


def _write_bytearray(writer: _Writer, value: bytearray) -> None:
    writer.tagged(b"bytearray", bytes(value))


def _write_memoryview(writer: _Writer, value: memoryview) -> None:
    writer.tagged(b"memoryview", value.format, value.shape, value.tobytes())


# Containers -----------------------------------------------------------------------------------

_DictKeys: type = type({}.keys())
_DictValues: type = type({}.values())
_DictItems: type = type({}.items())


def _write_items(writer: _Writer, tag: bytes, owner: Any, items: Iterable[Any], n: int) -> None:
    if writer.enter(owner):
        writer.out.append(b"%s%d(" % (tag, n))
        for item in items:
            writer.write(item)
        writer.leave(owner)


def _write_list(writer: _Writer, value: list[Any]) -> None:
    _write_items(writer, b"L", value, value, len(value))


def _write_tuple(writer: _Writer, value: tuple[Any, ...]) -> None:
    if _is_short(value, _SHORT_DEPTH):  # as chunks are, and axes
        data = marshal.dumps(value, 0)
        writer.out.append(b"M%d:%s" % (len(data), data))
        return
    _write_items(writer, b"P", value, value, len(value))


def _write_set(writer: _Writer, value: set[Any] | frozenset[Any]) -> None:
    tag = b"S" if type(value) is set else b"Z"
    items = sorted(map(writer.apart, value))
    writer.out.append(b"%s%d(" % (tag, len(items)))
    writer.out.extend(items)


def _write_dict(writer: _Writer, value: Mapping[Any, Any]) -> None:
    if not writer.enter(value):
        return
    writer.out.append(b"D%d(" % len(value))
    keyed = [
        (_text(key) if type(key) is str else writer.apart(key), item) for key, item in value.items()
    ]
    keyed.sort(key=_first)
    for key, item in keyed:
        writer.out.append(key)
        writer.write(item)
    writer.leave(value)


def _write_view(writer: _Writer, value: Any) -> None:
    items = [writer.apart(item) for item in value]
    if type(value) is not _DictValues:  # the others are sets
        items.sort()
    writer.out.append(b"%s%d(" % (type(value).__name__.encode(), len(items)))
    writer.out.extend(items)


def _first(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]


# Code -----------------------------------------------------------------------------------------


def _is_importable(module: Any, name: Any, value: Any) -> bool:
    """Tell whether importing this name gives this very object, in other processes too."""
    if not isinstance(module, str) or module == "__main__" or not isinstance(name, str):
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _write_function(writer: _Writer, value: types.FunctionType) -> None:
    module, name = value.__module__, value.__qualname__
    if _is_importable(module, name, value):
        writer.out.append(b"f%s:%s;" % (module.encode(), name.encode()))
        return
    if not writer.once(value):
        return
    code = value.__code__
    writer.tagged(b"function", code, value.__defaults__, value.__kwdefaults__, value.__dict__)
    for cell in value.__closure__ or ():
        _write_cell(writer, cell)
    scope = value.__globals__
    for used in _globals_used(code):
        if used in scope:
            writer.tagged(b"global", used, scope[used])


def _write_cell(writer: _Writer, cell: types.CellType) -> None:
    try:
        content = cell.cell_contents
    except ValueError:  # not assigned yet
        writer.out.append(b"cell?")
        return
    writer.tagged(b"cell", content)


def _write_code(writer: _Writer, code: types.CodeType) -> None:
    # Neither file nor line: the same lambda in another cell is the same function.
    writer.tagged(
        b"code",
        code.co_code,
        code.co_consts,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
        getattr(code, "co_exceptiontable", b""),
    )


_globals_known: weakref.WeakKeyDictionary[types.CodeType, tuple[str, ...]] = (
    weakref.WeakKeyDictionary()
)


def _globals_used(code: types.CodeType) -> tuple[str, ...]:
    """Return the names of globals that a code object or one inside it reads, sorted."""
    known = _globals_known.get(code)
    if known is None:
        names = {
            step.argval
            for step in dis.get_instructions(code)
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
        }
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                names.update(_globals_used(constant))
        known = _globals_known[code] = tuple(sorted(names))
    return known


def _write_builtin(writer: _Writer, value: types.BuiltinFunctionType) -> None:
    owner = value.__self__
    if owner is None or isinstance(owner, types.ModuleType):
        writer.tagged(b"builtin", value.__module__, value.__qualname__)
    else:
        writer.tagged(b"method", owner, value.__name__)


def _write_method(writer: _Writer, value: types.MethodType) -> None:
    writer.tagged(b"method", value.__self__, value.__func__)


def _write_descriptor(writer: _Writer, value: Any) -> None:
    writer.tagged(b"descriptor", value.__objclass__, value.__name__)


def _write_method_wrapper(writer: _Writer, value: types.MethodWrapperType) -> None:
    writer.tagged(b"method", value.__self__, value.__name__)


def _write_wrapped(writer: _Writer, value: Any) -> None:
    writer.tagged(b"wrapped", type(value), value.__func__)


def _write_slice(writer: _Writer, value: slice) -> None:
    writer.tagged(b"slice", value.start, value.stop, value.step)


def _write_range(writer: _Writer, value: range) -> None:
    writer.tagged(b"range", value.start, value.stop, value.step)


def _write_property(writer: _Writer, value: property) -> None:
    writer.tagged(b"property", value.fget, value.fset, value.fdel)


def _write_module(writer: _Writer, value: types.ModuleType) -> None:
    writer.tagged(b"module", value.__name__)


def _write_partial(writer: _Writer, value: partial[Any]) -> None:
    writer.tagged(b"partial", value.func, value.args, value.keywords)


# What every class has, or what says only where it was written.
_NOT_OF_CLASS = frozenset(
    {
        "__abstractmethods__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
    }
)


def _write_class(writer: _Writer, value: type) -> None:
    module, name = value.__module__, value.__qualname__
    if _is_importable(module, name, value):
        writer.out.append(b"f%s:%s;" % (module.encode(), name.encode()))
    elif writer.once(value):
        content = {k: v for k, v in vars(value).items() if k not in _NOT_OF_CLASS}
        writer.tagged(b"class", name, value.__bases__, content)


# Everything else ------------------------------------------------------------------------------


def _write_other(writer: _Writer, kind: type, value: Any) -> None:
    """Write a value of a type that is none of the above."""
    take_apart = _parts_known.get(kind)
    if take_apart is None:
        own = normalize_token.dispatch(kind)
        if own is not None:
            if writer.enter(value):
                writer.tagged(b"own", kind, own(value))
                writer.leave(value)
            return
        if issubclass(kind, type):
            _write_class(writer, value)
            return
        take_apart = parts_of(kind)
        if take_apart is not None:
            _parts_known[kind] = take_apart
    if not writer.enter(value):
        return
    try:
        parts = _parts_of_object(kind, value) if take_apart is None else take_apart(value)
    except RecursionError:
        raise
    except Exception:
        # Whatever the user's class raised; there is another way to try.
        parts = b"pickle", _pickled_or_random(value)
    writer.tagged(*parts)
    writer.leave(value)


def _parts_of_object(kind: type, value: Any) -> Parts:
    # Not those of a base: what its subclass adds is no field.
    if "__dataclass_fields__" in kind.__dict__:
        names = [field.name for field in sys.modules["dataclasses"].fields(value)]
        return b"fields", kind, {n: getattr(value, n) for n in names if hasattr(value, n)}
    reducer = copyreg.dispatch_table.get(kind)
    reduced = reducer(value) if reducer is not None else value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return _parts_of_named(kind, value, reduced)
    make, args, *rest = reduced
    state, items, pairs = [*rest[:3], None, None, None][:3]
    items = None if items is None else list(items)
    if pairs is not None:
        pairs = list(pairs) if kind is OrderedDict else dict(pairs)
    return b"object", make, args, state, items, pairs


def _parts_of_named(kind: type, value: Any, name: str) -> Parts:
    """Return the parts of what pickles as a global name."""
    # A ufunc does not know its module; the first one that has its name may be anybody's.
    for module in (getattr(value, "__module__", None), "numpy", "scipy.special"):
        if _is_importable(module, name, value):
            return b"global", module, name
    if hasattr(value, "__wrapped__"):  # such as a function of a script under lru_cache
        return b"wraps", kind, value.__wrapped__
    data = pickle.dumps(value, 5)  # finds out of which module
    if b"__main__" in data:
        raise NotSerializable(f"{name} means something else in every script; expected a module's")
    return b"name", data


def _pickled_or_random(value: Any) -> bytes:
    # Imported here: it takes 20 ms, and most processes never need it.
    import cloudpickle

    what = f"{type(value).__module__}.{type(value).__qualname__}"
    try:
        data: bytes = cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # whatever the user's class raises: it has no canonical form
        return _random(what)
    unsure = _unsure.get()
    if unsure is not None:  # often the same bytes elsewhere, but nobody knows
        unsure.append(what)
    return data


_Write = Callable[[_Writer, Any], None]

_WRITERS: dict[type, _Write] = {
    type(None): _write_none,
    types.EllipsisType: _write_ellipsis,
    bool: _write_bool,
    int: _write_int,
    float: _write_float,
    complex: _write_complex,
    str: _write_str,
    bytes: _write_bytes,
    bytearray: _write_bytearray,
    memoryview: _write_memoryview,
    list: _write_list,
    tuple: _write_tuple,
    set: _write_set,
    frozenset: _write_set,
    dict: _write_dict,
    _DictKeys: _write_view,
    _DictValues: _write_view,
    _DictItems: _write_view,
    type: _write_class,
    partial: _write_partial,
    property: _write_property,
    range: _write_range,
    slice: _write_slice,
    staticmethod: _write_wrapped,
    classmethod: _write_wrapped,
    types.BuiltinFunctionType: _write_builtin,
    types.CellType: _write_cell,
    types.CodeType: _write_code,
    types.FunctionType: _write_function,
    types.GetSetDescriptorType: _write_descriptor,
    types.MappingProxyType: _write_dict,
    types.MemberDescriptorType: _write_descriptor,
    types.MethodDescriptorType: _write_descriptor,
    types.MethodType: _write_method,
    types.MethodWrapperType: _write_method_wrapper,
    types.ModuleType: _write_module,
    types.WrapperDescriptorType: _write_descriptor,
}

#: How values of the libraries' types that were met are taken apart.
_parts_known: dict[type, Callable[[Any], Parts]] = {}

#: Functions that say what objects are made of, by type: those of users, and of other libraries.
normalize_token = Normalizers(_WRITERS, _parts_known.clear)
