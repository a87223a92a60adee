"""What objects of well-known libraries consist of, for their tokens.

Each function here takes a value and returns its **parts**: a tag and values that say everything
about it, each of which has a token of its own. `parts_of` finds the function for a type, of the
standard library, NumPy or pandas; the last two only where they are loaded, since a type of theirs
cannot come from elsewhere.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from enum import Enum
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

__all__ = ["Parts", "parts_of"]

#: A tag, then values.
Parts = tuple[Any, ...]

# Sizes of NumPy's own types say all there is about them; strings have a length, dates a unit.
_TOLD_BY_STR = frozenset("biufcmMSUO")
_SAMPLES = 16


def parts_of(kind: type) -> Callable[[Any], Parts] | None:
    """Return what takes objects of a type apart, or None for types that are not known here."""
    if issubclass(kind, Enum):
        return _enum
    if issubclass(kind, PurePath) and kind.__module__.startswith("pathlib"):
        return _path
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "vectorize"):  # else it is being imported right now
        if kind is numpy.ndarray:
            return _array
        if kind is numpy.memmap:
            return _memmap
        if kind is numpy.vectorize:
            return _vectorize
        if issubclass(kind, numpy.dtype):
            return _dtype
        if issubclass(kind, numpy.generic) and kind.__module__ == "numpy":
            return _scalar
    pandas = sys.modules.get("pandas")
    if pandas is not None and hasattr(pandas, "api"):
        return _pandas_parts(pandas, kind)
    return None


# The standard library ---------------------------------------------------------------------------


def _enum(value: Enum) -> Parts:
    return b"enum", type(value), value._name_, value._value_


def _path(value: PurePath) -> Parts:
    # Which parts it was put together from does not count, as pickles have it in some versions.
    return b"path", type(value).__name__, os.fspath(value)


# NumPy ------------------------------------------------------------------------------------------


def _array(array: Any) -> Parts:
    dtype = array.dtype
    if dtype.hasobject:
        return b"objects", dtype, array.shape, array.ravel().tolist()
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
    return b"array", dtype, array.shape, order, digest.digest()


def _memmap(array: Any) -> Parts:
    """Return the file, when it was changed last, and the place in it, where those say enough.

    What may be written through is read: a file's time is not that of the last write to its map. A
    few of the elements are looked at in any case, for a map stays with its file when another one
    takes the name.
    """
    try:
        changed = os.stat(array.filename) if array.mode == "r" else None
    except (TypeError, OSError):  # a file without a name, or one that is gone
        changed = None
    if changed is None:
        return _array(array.view(sys.modules["numpy"].ndarray))
    seen = array.flat[:: max(1, array.size // _SAMPLES)].tobytes() if array.size else b""
    file = (os.path.realpath(array.filename), changed.st_mtime_ns, changed.st_size)
    place = (_place_in_file(array), array.shape, array.strides)
    return b"file", file, place, array.dtype, seen


def _place_in_file(array: Any) -> int:
    """Return at which byte of its file a mapped array, or a view of one, begins."""
    numpy = sys.modules["numpy"]
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    mapped = numpy.frombuffer(array._mmap, "u1")
    place: int = array.__array_interface__["data"][0] - mapped.__array_interface__["data"][0]
    return int(start) + place


def _dtype(dtype: Any) -> Parts:
    # Compounds are told by their parts, those of other libraries by what they are made by.
    is_plain = dtype.names is None and dtype.subdtype is None and not dtype.metadata
    if is_plain and (dtype.kind in _TOLD_BY_STR or dtype.type is sys.modules["numpy"].void):
        return b"dtype", dtype.str
    return b"dtype", type(dtype), *dtype.__reduce__()


def _scalar(value: Any) -> Parts:
    if value.dtype.hasobject:
        return b"scalar", value.dtype, value.item()
    return b"scalar", value.dtype, value.tobytes()


def _vectorize(value: Any) -> Parts:
    # Not all of its attributes: one of them is a cache that fills when it is called.
    return b"vectorize", value.pyfunc, value.otypes, value.excluded, value.signature, value.cache


# pandas -----------------------------------------------------------------------------------------


def _pandas_parts(pandas: Any, kind: type) -> Callable[[Any], Parts] | None:
    if kind is pandas.DataFrame:
        return _frame
    if kind is pandas.Series:
        return _series
    if issubclass(kind, pandas.Index):
        return _index
    if issubclass(kind, pandas.api.extensions.ExtensionArray):
        return _column
    return None


def _frame(frame: Any) -> Parts:
    columns = [frame.iloc[:, at].array for at in range(frame.shape[1])]
    return b"frame", frame.columns, frame.index, columns, frame.attrs


def _series(series: Any) -> Parts:
    return b"series", series.name, series.index, series.array, series.attrs


def _index(index: Any) -> Parts:
    kind = type(index).__name__
    if kind == "RangeIndex":
        return b"rangeindex", index.start, index.stop, index.step, index.name
    if kind == "MultiIndex":
        codes = [level.copy() for level in index.codes]
        return b"levels", list(index.levels), codes, list(index.names)
    return b"index", kind, index.name, index.array, getattr(index, "freqstr", None)


def _column(array: Any) -> Parts:
    """Return the values of a column or index: what NumPy knows as arrays, the rest one by one."""
    kind = type(array).__name__
    if kind == "Categorical":
        return b"categories", array.categories, array.ordered, array.codes
    if hasattr(array, "asi8"):  # times, with or without a zone
        return b"times", str(array.dtype), array.asi8
    if kind == "NumpyExtensionArray":
        return b"column", array.to_numpy()
    values = array.to_numpy(dtype=object)
    missing = array.isna()
    return b"values", str(array.dtype), missing, values[~missing].tolist()
