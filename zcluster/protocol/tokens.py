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
importable code             module and qualified name
other functions             byte code, constants, names, defaults, closure and the globals used
other classes               name, bases and attributes
with a token method         what ``__zcluster_tokenize__`` (or ``__dask_tokenize__``) returns
anything else               what ``__reduce_ex__`` says, in the same way; else cloudpickle's bytes
==========================  =============================================================

What none of this can write (a lock, an open file) gets a random token: it equals nothing, and a
computation on it is never taken for another.
"""

from __future__ import annotations

import copyreg
import dis
import os
import pickle
import struct
import sys
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any

__all__ = ["tokenize"]

_double = struct.Struct("<d").pack


def tokenize(*args: Any, **kwargs: Any) -> str:
    """Return a token of 32 hexadecimal digits for some values.

    Equal values give equal tokens, in this process and in others. What cannot be written in a
    deterministic way gets a random token.

    Examples
    --------
    >>> tokenize(1, {"a": 2, "b": 3}) == tokenize(1, {"b": 3, "a": 2})
    True
    >>> tokenize(1) == tokenize(1.0)
    False
    """
    out: list[bytes] = []
    writer = _Writer(out)
    try:
        for value in args:
            writer.write(value)
        if kwargs:
            out.append(b"K")
            writer.write(kwargs)
    except RecursionError:  # nested a thousand deep
        return os.urandom(16).hex()
    return blake2b(b"".join(out), digest_size=16).hexdigest()


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


def _write_str(writer: _Writer, value: str) -> None:
    data = value.encode("utf-8", "surrogatepass")
    writer.out.append(b"s%d:%s" % (len(data), data))


def _write_bytes(writer: _Writer, value: bytes) -> None:
    writer.out.append(b"b%d:" % len(value))
    writer.out.append(value)


def _write_bytearray(writer: _Writer, value: bytearray) -> None:
    writer.tagged(b"bytearray", bytes(value))


def _write_memoryview(writer: _Writer, value: memoryview) -> None:
    writer.tagged(b"memoryview", value.format, value.shape, value.tobytes())


# Containers -----------------------------------------------------------------------------------


def _write_items(writer: _Writer, tag: bytes, owner: Any, items: Iterable[Any], n: int) -> None:
    if writer.enter(owner):
        writer.out.append(b"%s%d(" % (tag, n))
        for item in items:
            writer.write(item)
        writer.leave(owner)


def _write_list(writer: _Writer, value: list[Any]) -> None:
    _write_items(writer, b"L", value, value, len(value))


def _write_tuple(writer: _Writer, value: tuple[Any, ...]) -> None:
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
    keyed = [(writer.apart(key), item) for key, item in value.items()]
    keyed.sort(key=_first)
    for key, item in keyed:
        writer.out.append(key)
        writer.write(item)
    writer.leave(value)


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
    writer.tagged(b"descriptor", value.__qualname__)


def _write_wrapped(writer: _Writer, value: Any) -> None:
    writer.tagged(b"wrapped", type(value), value.__func__)


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


# Arrays and frames ----------------------------------------------------------------------------


def _write_array(writer: _Writer, array: Any) -> None:
    dtype = array.dtype
    form = dtype.str if dtype.names is None else dtype.descr
    if dtype.hasobject:
        writer.tagged(b"objects", form, array.shape, array.ravel().tolist())
        return
    order = "C"
    if not array.flags.c_contiguous:
        if array.flags.f_contiguous:
            order, array = "F", array.T
        else:
            array = array.copy(order="C")
    digest = blake2b(digest_size=16)
    if array.nbytes:
        # By way of NumPy: dtypes such as datetime64 do not offer the buffer protocol.
        digest.update(array.reshape(-1).view("u1").data)
    writer.tagged(b"array", form, array.shape, order, digest.digest())


def _write_dtype(writer: _Writer, dtype: Any) -> None:
    form = dtype.str if dtype.names is None and not dtype.metadata else dtype.__reduce__()
    writer.tagged(b"dtype", type(dtype).__name__, form)


def _write_frame(writer: _Writer, frame: Any) -> None:
    columns = [frame.iloc[:, at].array for at in range(frame.shape[1])]
    writer.tagged(b"frame", frame.columns, frame.index, columns, frame.attrs)


def _write_series(writer: _Writer, series: Any) -> None:
    writer.tagged(b"series", series.name, series.index, series.array, series.attrs)


def _write_index(writer: _Writer, index: Any) -> None:
    kind = type(index).__name__
    if kind == "RangeIndex":
        writer.tagged(b"range", index.start, index.stop, index.step, index.name)
    elif kind == "MultiIndex":
        codes = [level.copy() for level in index.codes]
        writer.tagged(b"levels", list(index.levels), codes, list(index.names))
    else:
        writer.tagged(b"index", kind, index.name, index.array, getattr(index, "freqstr", None))


def _write_column(writer: _Writer, array: Any) -> None:
    """Write the values of a column or index: what NumPy knows as arrays, the rest one by one."""
    kind = type(array).__name__
    if kind == "Categorical":
        writer.tagged(b"categories", array.categories, array.ordered, array.codes)
    elif hasattr(array, "asi8"):  # times, with or without a zone
        writer.tagged(b"times", str(array.dtype), array.asi8)
    elif kind == "NumpyExtensionArray":
        writer.tagged(b"column", array.to_numpy())
    else:
        values = array.to_numpy(dtype=object)
        missing = array.isna()
        writer.tagged(b"values", str(array.dtype), missing, values[~missing].tolist())


# Everything else ------------------------------------------------------------------------------


def _write_other(writer: _Writer, kind: type, value: Any) -> None:
    """Find out what to do with a type met for the first time."""
    if isinstance(value, type):
        _write_class(writer, value)
        return
    method = getattr(kind, "__zcluster_tokenize__", None) or getattr(
        kind, "__dask_tokenize__", None
    )
    if method is not None:
        writer.tagged(b"own", kind, method(value))
        return
    library = _library_writer(kind)
    if library is not None:
        library(writer, value)
        return
    if not writer.enter(value):
        return
    mark, depth = len(writer.out), len(writer.open)
    try:
        _write_object(writer, kind, value)
    except RecursionError:
        raise
    except Exception:
        # Whatever the user's class raised; there is another way to try.
        del writer.out[mark:]
        while len(writer.open) > depth:
            writer.open.popitem()
        writer.tagged(b"pickle", _pickled_or_random(value))
    writer.leave(value)


def _write_object(writer: _Writer, kind: type, value: Any) -> None:
    if hasattr(kind, "__dataclass_fields__"):
        names = [f.name for f in sys.modules["dataclasses"].fields(value)]
        writer.tagged(b"fields", kind, {name: getattr(value, name) for name in names})
        return
    reducer = copyreg.dispatch_table.get(kind)
    reduced = reducer(value) if reducer is not None else value.__reduce_ex__(4)
    if isinstance(reduced, str):  # a global name: pickle finds out of which module
        data = pickle.dumps(value, 5)
        if b"__main__" in data:  # such as a function of a script under lru_cache
            writer.tagged(b"wraps", kind, value.__wrapped__)
        else:
            writer.tagged(b"name", data)
        return
    make, args, *rest = reduced
    state, items, pairs = [*rest[:3], None, None, None][:3]
    items = None if items is None else list(items)
    if pairs is not None:
        pairs = list(pairs) if kind is OrderedDict else dict(pairs)
    writer.tagged(b"object", make, args, state, items, pairs)


def _pickled_or_random(value: Any) -> bytes:
    # Imported here: it takes 20 ms, and most processes never need it.
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # whatever the user's class raises: it has no canonical form
        return os.urandom(16)
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
    type: _write_class,
    partial: _write_partial,
    property: _write_property,
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
    types.MethodWrapperType: _write_descriptor,
    types.ModuleType: _write_module,
    types.WrapperDescriptorType: _write_descriptor,
}


def _library_writer(kind: type) -> _Write | None:
    """Return the writer for types of NumPy and pandas, if those are loaded; remember it."""
    writer: _Write | None = None
    numpy = sys.modules.get("numpy")
    pandas = sys.modules.get("pandas")
    if numpy is not None and hasattr(numpy, "ndarray"):
        if kind is numpy.ndarray or kind is getattr(numpy, "memmap", None):
            writer = _write_array
        elif issubclass(kind, numpy.dtype):
            writer = _write_dtype
    if pandas is not None and hasattr(pandas, "api"):
        if kind is pandas.DataFrame:
            writer = _write_frame
        elif kind is pandas.Series:
            writer = _write_series
        elif issubclass(kind, pandas.Index):
            writer = _write_index
        elif issubclass(kind, pandas.api.extensions.ExtensionArray):
            writer = _write_column
    if writer is not None:
        _WRITERS[kind] = writer
    return writer
