"""The *blob*: the one self-describing form of every value, as bytes.

Results and arguments have this form inside a message, in shared memory, on disk and on the data
port. There are four kinds::

    0x80 …                       a plain pickle (protocol 5): most small things
    "ZB" version kind length │ header │ pad │ buffer │ pad │ buffer …
                     kind 1    array     one NumPy array: dtype, shape, order, bytes
                     kind 2    parts     a table of (offset, size), then n blobs
                     kind 3    pickled   a pickle and its out-of-band buffers

The header is MessagePack. Every buffer starts at a multiple of 64 bytes from the start of the
blob, so that arrays read from it are aligned when the blob is. Lengths are 64-bit throughout.

This file knows the form and never pickles or unpickles: a process that only holds, cuts and sends
blobs (see `selections`) needs no more. `objects` makes blobs of values and values of blobs.

A `Plan` is a blob that is not written yet. It says how large the blob will be before a byte is
copied: the caller finds room of that size, and `Plan.write_into` puts the bytes straight there.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec

from zcluster.errors import ProtocolError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "ALIGNMENT",
    "PICKLE_START",
    "ArrayHeader",
    "Header",
    "Parts",
    "PartsHeader",
    "PickledHeader",
    "Piece",
    "Plan",
    "Strided",
    "aligned",
    "array_view",
    "part_view",
    "pickled_views",
    "plan_array",
    "plan_buffers",
    "plan_parts",
    "read_header",
]

ALIGNMENT = 64
PICKLE_START = 0x80
VERSION = 1
KIND_ARRAY, KIND_PARTS, KIND_PICKLED = 1, 2, 3

_PREFIX = struct.Struct("<2sBBI")
_MAGIC = b"ZB"
_PART = struct.Struct("<QQ")

# Slice assignment keeps the GIL: a larger copy goes through NumPy, which gives it away.
_LARGE_COPY = 1 << 20

_Natural = Annotated[int, msgspec.Meta(ge=0)]


class Parts(list[Any]):
    """A result in parts, each of which can be asked for alone.

    A task that returns ``Parts([a, b, c])`` has its parts stored one after another, and an edge
    with the selection ``Part(1)`` moves ``b`` and nothing else.
    """

    __slots__ = ()


class ArrayHeader(msgspec.Struct, frozen=True, array_like=True):
    """What the bytes of an array mean.

    Attributes
    ----------
    dtype : str or list
        NumPy's ``dtype.str``, or its ``descr`` for a structured one.
    itemsize : int
        Bytes an item: enough to cut the array without knowing its dtype.
    shape : tuple of int
    order : str
        ``"C"`` or ``"F"``.
    """

    dtype: str | list[Any]
    itemsize: _Natural
    shape: tuple[_Natural, ...]
    order: Literal["C", "F"]


class PartsHeader(msgspec.Struct, frozen=True, array_like=True):
    """How many parts there are; a table of (offset, size) follows."""

    count: _Natural


class PickledHeader(msgspec.Struct, frozen=True, array_like=True):
    """Length of the pickle, then of each of its buffers, in bytes."""

    size: _Natural
    buffers: tuple[_Natural, ...]


Header = ArrayHeader | PartsHeader | PickledHeader

_encode = msgspec.msgpack.Encoder().encode
_DECODERS: dict[int, Callable[[memoryview], Header]] = {
    KIND_ARRAY: msgspec.msgpack.Decoder(ArrayHeader).decode,
    KIND_PARTS: msgspec.msgpack.Decoder(PartsHeader).decode,
    KIND_PICKLED: msgspec.msgpack.Decoder(PickledHeader).decode,
}

# Planning--------------------------------------------------------------------------------------


class Strided:
    """An array whose items do not lie side by side: made contiguous where it is written."""

    __slots__ = ("array", "order", "size")

    def __init__(self, array: np.ndarray[Any, Any], order: Literal["C", "F"]) -> None:
        self.array = array
        self.order = order
        self.size = array.nbytes

    def __len__(self) -> int:
        return self.size

    def write_into(self, target: memoryview) -> None:
        """Write the items into `target`, without a temporary."""
        numpy = sys.modules["numpy"]
        array = self.array
        there = numpy.ndarray(array.shape, array.dtype, buffer=target, order=self.order)
        numpy.copyto(there, array)

    def tobytes(self) -> bytes:
        """Return the items as bytes."""
        return self.array.tobytes(self.order)


Piece = bytes | memoryview | Strided


class Plan:
    """A blob that is not written yet: its exact size and the pieces it consists of.

    The pieces refer to the buffers of the value, so the value must not change before the blob is
    written.

    Attributes
    ----------
    size : int
        Bytes of the whole blob.
    pieces : list of bytes, memoryview or Strided
        Its content, in order, padding included.
    """

    __slots__ = ("pieces", "size")

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = pieces
        self.size = sum(map(len, pieces))

    def write_into(self, target: memoryview) -> None:
        """Write the blob at the start of `target`.

        Raises
        ------
        ProtocolError
            If `target` is smaller than `size`.
        """
        if target.format != "B" or target.ndim != 1:
            target = target.cast("B")
        if len(target) < self.size:
            raise ProtocolError(
                f"a blob of {self.size} bytes does not fit into {len(target)} bytes; "
                "allocate Plan.size bytes for it"
            )
        at = 0
        for piece in self.pieces:
            end = at + len(piece)
            if type(piece) is Strided:
                piece.write_into(target[at:end])
            elif end - at > _LARGE_COPY:
                _copy_large(target[at:end], cast("bytes | memoryview", piece))
            else:
                target[at:end] = piece  # type: ignore[assignment]
            at = end

    def buffers(self) -> list[bytes | memoryview]:
        """Return the content as buffers, for a scattered write; only `Strided` is copied."""
        return [p.tobytes() if isinstance(p, Strided) else p for p in self.pieces]

    @property
    def is_scattered(self) -> bool:
        """Whether items that do not lie side by side have to be brought together."""
        return any(type(piece) is Strided for piece in self.pieces)

    def written(self) -> memoryview:
        """Return the blob in writable memory of its own; it is copied once."""
        # NumPy does not fill the memory with zeros first.
        numpy = sys.modules.get("numpy")
        has_numpy = numpy is not None and hasattr(numpy, "empty")
        target: Any = numpy.empty(self.size, "u1") if has_numpy else bytearray(self.size)  # type: ignore[union-attr]
        view = memoryview(target)
        self.write_into(view)
        return view

    def tobytes(self) -> bytes:
        """Return the blob as bytes."""
        if len(self.pieces) == 1 and type(self.pieces[0]) is bytes:
            return self.pieces[0]
        return b"".join(self.buffers())


def _copy_large(target: memoryview, source: bytes | memoryview) -> None:
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "copyto"):
        numpy.copyto(numpy.frombuffer(target, "u1"), numpy.frombuffer(source, "u1"))
        return
    source = memoryview(source)
    for at in range(0, len(source), _LARGE_COPY):
        target[at : at + _LARGE_COPY] = source[at : at + _LARGE_COPY]


def aligned(size: int) -> int:
    """Return the next multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _head(kind: int, header: Header) -> bytes:
    """Return prefix, header and padding: the first buffer comes right after."""
    packed = _encode(header)
    size = _PREFIX.size + len(packed)
    return _PREFIX.pack(_MAGIC, VERSION, kind, len(packed)) + packed + bytes(aligned(size) - size)


def plan_array(array: np.ndarray[Any, Any], dtype: str | list[Any] | None = None) -> Plan | None:
    """Plan the ``array`` form, or return None where the dtype has to be pickled.

    Parameters
    ----------
    array : numpy.ndarray
    dtype : str or list, optional
        Written into the header in place of the array's own dtype.
    """
    if dtype is None:
        dtype = _describe(array.dtype)
        if dtype is None:
            return None
    flags = array.flags
    order: Literal["C", "F"] = "C"
    piece: Piece
    if flags.c_contiguous:
        piece = _flat(array)
    elif flags.f_contiguous:
        order = "F"
        piece = _flat(array.T)
    else:
        # Copying runs faster along the direction in which the source lies in memory.
        order = "F" if abs(array.strides[0]) < abs(array.strides[-1]) else "C"
        piece = Strided(array, order)
    head = _head(KIND_ARRAY, ArrayHeader(dtype, array.itemsize, array.shape, order))
    return Plan([head, piece])


def _flat(array: np.ndarray[Any, Any]) -> bytes | memoryview:
    """Return the bytes of a C-contiguous array, as a view."""
    if not array.nbytes:
        return b""
    # By way of NumPy: dtypes such as datetime64 do not offer the buffer protocol.
    return array.reshape(-1).view("u1").data


def plan_parts(plans: list[Plan]) -> Plan:
    """Plan the ``parts`` form from the plans of its parts."""
    head = _head(KIND_PARTS, PartsHeader(len(plans)))
    table = bytearray(aligned(len(plans) * _PART.size))
    at = len(head) + len(table)
    pieces: list[Piece] = [head, b""]
    for number, planned in enumerate(plans):
        _PART.pack_into(table, number * _PART.size, at, planned.size)
        pieces += planned.pieces
        at += planned.size
        if pad := -at % ALIGNMENT:
            pieces.append(bytes(pad))
            at += pad
    pieces[1] = bytes(table)
    return Plan(pieces)


def plan_buffers(chunks: list[Piece], buffers: list[memoryview]) -> Plan:
    """Plan the ``pickled`` form: a pickle in pieces, then its out-of-band buffers."""
    size = sum(map(len, chunks))
    header = PickledHeader(size, tuple(map(len, buffers)))
    pieces: list[Piece] = [_head(KIND_PICKLED, header), *chunks]
    for buffer in buffers:
        if pad := -size % ALIGNMENT:
            pieces.append(bytes(pad))
        pieces.append(buffer)
        size = len(buffer)
    return Plan(pieces)


# Reading--------------------------------------------------------------------------------------


def read_header(view: memoryview) -> tuple[Header | None, int]:
    """Return the header of a blob (None for a plain pickle) and where its first buffer starts.

    Raises
    ------
    ProtocolError
        If these bytes are not a blob of a version known here.
    """
    if len(view) and view[0] == PICKLE_START:
        return None, 0
    if len(view) < _PREFIX.size:
        raise ProtocolError(f"{len(view)} bytes are too few for a blob; it was cut off on its way")
    magic, version, kind, length = _PREFIX.unpack_from(view)
    if magic != _MAGIC or version != VERSION or kind not in _DECODERS:
        raise ProtocolError(
            f"not a blob: it starts with {bytes(view[:4])!r}, expected 0x80 or "
            f"{_MAGIC + bytes([VERSION])!r} and a kind from 1 to 3; both ends need one version"
        )
    end = _PREFIX.size + length
    if end > len(view):
        raise _cut_off(end, view)
    try:
        return _DECODERS[kind](view[_PREFIX.size : end]), aligned(end)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"the header of a blob is malformed ({error})") from error


def _cut_off(end: int, view: memoryview) -> ProtocolError:
    return ProtocolError(
        f"a blob ends after {len(view)} bytes where its header promises {end}; "
        "it was cut off on its way: fetch it again"
    )


def array_view(
    view: memoryview, header: ArrayHeader, at: int, raw: bool = False
) -> np.ndarray[Any, Any]:
    """Return the array at `at`, as a view.

    Parameters
    ----------
    raw : bool
        Leave the dtype alone and give items of that many bytes, for whoever only cuts.

    Raises
    ------
    ProtocolError
        If the header describes no array, or a longer one than is there.
    """
    import numpy  # not needed by a process that handles no arrays

    try:
        dtype: np.dtype[Any]
        if raw:
            dtype = numpy.dtype(_RAW.get(header.itemsize) or f"V{header.itemsize}")
        else:
            dtype = _dtype_from(header.dtype)
        if dtype.subdtype is not None:
            raise ValueError(f"{dtype} is of several items")
        size = dtype.itemsize
        for length in header.shape:
            size *= length
        if at + size > len(view):
            raise _cut_off(at + size, view)
        buffer = view[at : at + size] if size else b""
        return numpy.ndarray(header.shape, dtype, buffer=buffer, order=header.order)
    except _REFUSALS as error:
        raise ProtocolError(f"the header of a blob describes no array ({error})") from error


#: What NumPy raises for a dtype or a shape that cannot be; a header may say anything.
_REFUSALS = (ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError, ValueError)

# NumPy moves items of these sizes one machine word at a time.
_RAW = {1: "u1", 2: "u2", 4: "u4", 8: "u8", 16: "c16"}


def part_view(view: memoryview, header: PartsHeader, at: int, number: int) -> memoryview:
    """Return the blob of one part, as a view.

    Raises
    ------
    ProtocolError
        If there is no such part.
    """
    if not 0 <= number < header.count:
        raise ProtocolError(f"part {number} was asked of a result that has {header.count} parts")
    entry = at + number * _PART.size
    if entry + _PART.size > len(view):
        raise _cut_off(entry + _PART.size, view)
    offset, size = _PART.unpack_from(view, entry)
    if offset + size > len(view):
        raise _cut_off(offset + size, view)
    return view[offset : offset + size]


def pickled_views(
    view: memoryview, header: PickledHeader, at: int
) -> tuple[memoryview, list[memoryview]]:
    """Return the pickle and its buffers, as views."""
    end = at + header.size
    data = view[at:end]
    buffers = []
    for length in header.buffers:
        start = aligned(end)
        end = start + length
        buffers.append(view[start:end])
    if end > len(view):
        raise _cut_off(end, view)
    return data, buffers


# Dtypes ---------------------------------------------------------------------------------------

_described: dict[Any, str | list[Any] | None] = {}


def _describe(dtype: np.dtype[Any]) -> str | list[Any] | None:
    """Return a dtype as plain data, or None if only pickle can tell it."""
    if dtype.metadata is not None:  # equal dtypes may differ in it, so this comes first
        return None
    try:
        return _described[dtype]
    except KeyError:
        pass
    if len(_described) > 1000:
        _described.clear()
    wire: str | list[Any] | None = None
    if not dtype.hasobject and dtype.isbuiltin != 2:
        try:
            wire = dtype.str if dtype.names is None else _descr_to_wire(dtype.descr)
            if _dtype_from(wire) != dtype:
                wire = None
        except (ValueError, TypeError):  # overlapping fields have no descr
            wire = None
    _described[dtype] = wire
    return wire


def _dtype_from(wire: str | list[Any]) -> np.dtype[Any]:
    import numpy  # see array_view

    if isinstance(wire, str):
        return numpy.dtype(wire)
    return numpy.lib.format.descr_to_dtype(_descr_from_wire(wire))


def _descr_to_wire(descr: Iterable[Any]) -> list[Any]:
    return [
        [name, form if isinstance(form, str) else _descr_to_wire(form), *shape]
        for name, form, *shape in descr
    ]


def _descr_from_wire(wire: list[Any]) -> list[Any]:
    """Undo what MessagePack does to a descr: it turns every tuple into a list."""
    return [
        (
            tuple(name) if isinstance(name, list) else name,
            form if isinstance(form, str) else _descr_from_wire(form),
            *(tuple(lengths) for lengths in shape),
        )
        for name, form, *shape in wire
    ]
