"""Objects to bytes and back: values become blobs, blobs become values.

A blob (see `blobs`) is the one form of results and arguments everywhere. `plan` says how large
the blob of a value will be and copies nothing large until it is written; `load` copies nothing
either: arrays are views on the buffer that was given.

What is pickled how: plain pickle first, which sends functions and classes by reference. Where it
fails, or where its bytes name ``__main__`` (a script or notebook, which the other side does not
have), cloudpickle sends the code by value.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from zcluster.errors import NotSerializable, ProtocolError
from zcluster.protocol.blobs import (
    PICKLE_START,
    ArrayHeader,
    Parts,
    PartsHeader,
    PickledHeader,
    Piece,
    Plan,
    aligned,
    array_view,
    part_view,
    pickled_views,
    plan_array,
    plan_buffers,
    plan_parts,
    read_header,
)
from zcluster.protocol.culprits import refusal

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "ATOMS",
    "Parts",
    "Pickled",
    "Plan",
    "dumps_small",
    "load",
    "load_private",
    "names_by_value_code",
    "pickled",
    "plan",
    "plan_pickled",
    "small_atoms",
]

#: Types that pickle at once, refer to no code and contain nothing.
ATOMS = frozenset({int, float, bool, type(None), complex, str, bytes})

_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
_FEW = 16

# A smaller buffer costs more as a buffer of its own (padding, a slice, a view) than as a copy.
_IN_BAND = 4096


def plan(value: object, root: str = "value") -> Plan:
    """Plan the blob of a value: nothing large is copied before it is written.

    Parameters
    ----------
    value : object
        Anything; instances of `Parts` get one blob a part.
    root : str
        What to call the value in an error.

    Raises
    ------
    NotSerializable
        Naming the path to the part that cannot be pickled.

    Examples
    --------
    >>> p = plan([1, 2])
    >>> target = bytearray(p.size)
    >>> p.write_into(memoryview(target))
    >>> load(target)
    [1, 2]
    """
    kind = type(value)
    if kind in ATOMS:
        if (kind is str or kind is bytes) and len(cast(str, value)) > _IN_BAND:
            return plan_pickled(_pickled_with(pickle.Pickler, value, None))
        return Plan([pickle.dumps(value, 5)])
    if kind is Parts:
        return plan_parts([plan(p, f"{root}[{i}]") for i, p in enumerate(cast(Parts, value))])
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is getattr(numpy, "ndarray", None):
        planned = plan_array(cast("np.ndarray[Any, Any]", value))
        if planned is not None:
            return planned
    try:
        return plan_pickled(pickled(value))
    except (NotSerializable, MemoryError):
        raise
    except Exception as error:
        raise refusal(error, {root: value}) from error


# Pickling -------------------------------------------------------------------------------------


class Pickled(NamedTuple):
    """A pickle in pieces, and its out-of-band buffers."""

    chunks: list[bytes | memoryview]
    buffers: list[memoryview]


class _TooLarge(Exception):
    """Raised inside a pickler to make it stop."""


class _Chunks:
    """A file for the pickler: it keeps what it is given, and large bytes are not copied."""

    __slots__ = ("chunks", "write")

    def __init__(self) -> None:
        self.chunks: list[bytes | memoryview] = []
        self.write = self.chunks.append


class _Limited:
    """A file for the pickler that raises past its limit."""

    __slots__ = ("chunks", "left")

    def __init__(self, limit: int) -> None:
        self.chunks: list[bytes | memoryview] = []
        self.left = limit

    def write(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            raise _TooLarge
        self.chunks.append(data)


def names_by_value_code(chunks: Iterable[bytes | memoryview]) -> bool:
    """Tell whether a pickle may refer to code that must travel by value (a superset)."""
    cloudpickle = sys.modules.get("cloudpickle")
    # It may be half imported, in another thread.
    registry = getattr(cloudpickle, "list_registry_pickle_by_value", None)
    names = registry() if registry is not None else ()
    for chunk in chunks:
        if type(chunk) is not bytes:  # the payload of a bytearray: it holds no names
            continue
        if b"__main__" in chunk or (names and any(n.encode() in chunk for n in names)):
            return True
    return False


def pickled(
    value: object, before: Callable[[], object] | None = None, limit: int | None = None
) -> Pickled:
    """Pickle a value, plainly if that will do, with cloudpickle otherwise.

    Parameters
    ----------
    value : object
    before : callable, optional
        Called before each of the (at most two) attempts.
    limit : int, optional
        Give up past so many bytes.

    Raises
    ------
    Exception
        Whatever pickling the value raised.
    """
    if before is not None:
        before()
    try:
        result = _pickled_with(pickle.Pickler, value, limit)
    except (_TooLarge, NotSerializable, MemoryError):
        raise
    except Exception:
        # cloudpickle knows lambdas, closures and classes made in functions; if it cannot do it
        # either, its own exception says why.
        result = None
    if result is not None and not names_by_value_code(result.chunks):
        return result
    # Imported here: it takes 20 ms, and most processes never need it.
    import cloudpickle

    if before is not None:
        before()
    return _pickled_with(cloudpickle.Pickler, value, limit)


def _pickled_with(pickler: Callable[..., Any], value: object, limit: int | None) -> Pickled:
    buffers: list[memoryview] = []
    sink = _Chunks() if limit is None else _Limited(limit)

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _IN_BAND:
            return True
        if limit is not None and raw.nbytes > limit:
            raise _TooLarge
        buffers.append(raw)
        return False

    pickler(sink, 5, buffer_callback=keep).dump(value)
    chunks = sink.chunks
    for at, chunk in enumerate(chunks):
        if type(chunk) is not bytes:  # a view, so that a bytearray cannot be resized meanwhile
            chunks[at] = memoryview(chunk).cast("B")
    return Pickled(chunks, buffers)


def plan_pickled(parts: Pickled) -> Plan:
    """Plan the blob of what `pickled` returned."""
    chunks: list[Piece] = list(parts.chunks)
    return plan_buffers(chunks, parts.buffers) if parts.buffers else Plan(chunks)


def small_atoms(values: Iterable[Any]) -> bool:
    """Tell whether all of these are atoms of at most 1 KiB: so plain pickle will do, at once."""
    for value in values:
        kind = type(value)
        if kind not in ATOMS or ((kind is str or kind is bytes) and len(value) > 1024):
            return False
    return True


def dumps_small(value: object, limit: int) -> bytes | None:
    """Return the blob of a value if it is at most `limit` bytes, else None.

    It gives up early: after a look at the length where that says enough, else when the pickler
    has written more than `limit` bytes.

    Raises
    ------
    NotSerializable
        Naming the path to the part that cannot be pickled.
    """
    kind = type(value)
    if kind in ATOMS:
        if (kind is str or kind is bytes) and len(cast(str, value)) > limit:
            return None
        data = pickle.dumps(value, 5)
        return data if len(data) <= limit else None
    if kind is Parts:
        return _small_parts(cast(Parts, value), limit)
    if kind in _CONTAINERS:
        length = len(cast(list[Any], value))
        if length > limit:
            return None  # an element takes a byte at least
        if (
            length <= _FEW
            and (kind is list or kind is tuple)
            and small_atoms(cast(list[Any], value))
        ):
            data = pickle.dumps(value, 5)
            return data if len(data) <= limit else None
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is getattr(numpy, "ndarray", None):
        array = cast("np.ndarray[Any, Any]", value)
        if array.nbytes > limit:
            return None
        planned = plan_array(array)
        if planned is not None:
            return planned.tobytes() if planned.size <= limit else None
    try:
        result = pickled(value, None, limit)
    except (NotSerializable, MemoryError):
        raise
    except _TooLarge:
        return None
    except Exception as error:
        raise refusal(error, {"value": value}) from error
    if not result.buffers and len(result.chunks) == 1:
        return bytes(result.chunks[0])
    planned = plan_pickled(result)
    return planned.tobytes() if planned.size <= limit else None


def _small_parts(parts: Parts, limit: int) -> bytes | None:
    plans = []
    left = limit
    for part in parts:
        blob = dumps_small(part, left)
        if blob is None:
            return None
        plans.append(Plan([blob]))
        left -= aligned(len(blob))
        if left < 0:
            return None
    planned = plan_parts(plans)
    return planned.tobytes() if planned.size <= limit else None


# Loading --------------------------------------------------------------------------------------


def load_private(blob: bytes | bytearray | memoryview) -> Any:
    """Return the value of a blob, with arrays that may be written to.

    Where the blob is read-only and arrays would be views on it, it is copied first. For small
    blobs, which several tasks may share.
    """
    if blob and blob[0] != PICKLE_START and memoryview(blob).readonly:
        blob = bytearray(blob)
    return load(blob)


def load(blob: bytes | bytearray | memoryview) -> Any:
    """Return the value of a blob; arrays in it are views on `blob`.

    Arrays are writable if `blob` is; see `load_private`.

    Raises
    ------
    ProtocolError
        If these bytes are not a blob.
    """
    if not blob:
        raise ProtocolError("an empty buffer is no blob; a blob has one byte at least")
    if blob[0] == PICKLE_START:
        return pickle.loads(blob)
    view = memoryview(blob)
    header, at = read_header(view)
    if type(header) is ArrayHeader:
        return array_view(view, header, at)
    if type(header) is PartsHeader:
        return Parts(load(part_view(view, header, at, n)) for n in range(header.count))
    data, buffers = pickled_views(view, cast(PickledHeader, header), at)
    return pickle.loads(data, buffers=buffers)
