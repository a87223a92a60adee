"""A selection: the part of an input that a task asks for. It is data, never code.

There are two kinds: `Part`, the number of a part of a parted result, and `Box`, a start, stop and
step for each dimension of an array. Whoever holds a result as a blob of the forms ``parts`` or
``array`` cuts it by bytes with `cut`, without unpickling; the cut is a blob again. Any other form
moves whole, and `apply` cuts the value where it is used.

On the wire a selection is a kind (1 for a part, 3 for a box) and integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from zcluster.errors import InvalidArgument, ProtocolError
from zcluster.protocol.blobs import (
    ArrayHeader,
    PartsHeader,
    Plan,
    array_view,
    part_view,
    plan_array,
    read_header,
)

__all__ = ["Box", "Part", "Selection", "apply", "box_of", "can_cut", "cut", "selection_from"]

KIND_PART = 1
KIND_BOX = 3


class Part(msgspec.Struct, frozen=True, array_like=True, tag=KIND_PART):
    """Part number `number` of a parted result (of `Parts`, a list or a tuple)."""

    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise InvalidArgument(f"part number {self.number}: expected 0 or more")

    def integers(self) -> list[int]:
        """Return the wire form, without the kind."""
        return [self.number]


class Box(msgspec.Struct, frozen=True, array_like=True, tag=KIND_BOX):
    """A box of an array: (start, stop, step) for its leading dimensions.

    It means what the same slices mean to NumPy, except that nothing counts from the end: starts
    and stops are 0 or more, steps 1 or more. `box_of` makes one from any slices.
    """

    bounds: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        for start, stop, step in self.bounds:
            if start < 0 or stop < 0 or step < 1:
                raise InvalidArgument(
                    f"box bounds {(start, stop, step)}: expected start and stop of 0 or more and "
                    "a step of 1 or more; box_of() makes them from slices and a shape"
                )

    def slices(self) -> tuple[slice, ...]:
        """Return the box as slices."""
        return tuple(slice(start, stop, step) for start, stop, step in self.bounds)

    def integers(self) -> list[int]:
        """Return the wire form, without the kind."""
        return [number for bounds in self.bounds for number in bounds]


Selection = Part | Box


def selection_from(kind: int, integers: Sequence[int]) -> Selection:
    """Return the selection that has this wire form.

    Raises
    ------
    ProtocolError
        If there is no such selection.
    """
    try:
        if kind == KIND_PART and len(integers) == 1:
            return Part(integers[0])
        if kind == KIND_BOX and len(integers) % 3 == 0:
            return Box(tuple(zip(*[iter(integers)] * 3, strict=True)))
    except InvalidArgument as error:
        raise ProtocolError(f"a malformed selection came in: {error}") from error
    raise ProtocolError(
        f"a selection of kind {kind} with {len(integers)} integers; expected kind 1 with one "
        "integer or kind 3 with three for each dimension"
    )


def box_of(slices: Sequence[slice], shape: Sequence[int]) -> Box:
    """Return the box that these slices mean for an array of this shape.

    Raises
    ------
    InvalidArgument
        If there are more slices than dimensions, or a step is negative.

    Examples
    --------
    >>> box_of([slice(-2, None)], (10, 4))
    Box(bounds=((8, 10, 1),))
    """
    if len(slices) > len(shape):
        raise InvalidArgument(f"{len(slices)} slices for {len(shape)} dimensions; leave some out")
    return Box(tuple(s.indices(n) for s, n in zip(slices, shape, strict=False)))


def can_cut(blob: bytes | memoryview, selection: Selection) -> bool:
    """Tell whether `cut` can cut this selection out of this blob by bytes.

    Raises
    ------
    ProtocolError
        If these bytes are not a blob.
    """
    header, _ = read_header(memoryview(blob))
    if type(selection) is Part:
        return type(header) is PartsHeader
    return type(header) is ArrayHeader


def cut(blob: bytes | memoryview, selection: Selection) -> Plan:
    """Cut a selection out of a blob; return the plan of what is cut, a blob itself.

    Nothing is copied yet: the plan's pieces are views on `blob`, so that they can be sent or
    written elsewhere at once.

    Raises
    ------
    ProtocolError
        If the blob has another form (see `can_cut`), no such part or too few dimensions.
    """
    view = memoryview(blob)
    header, at = read_header(view)
    if type(selection) is Part and type(header) is PartsHeader:
        return Plan([part_view(view, header, at, selection.number)])
    if type(selection) is Box and type(header) is ArrayHeader:
        _check_dimensions(selection, len(header.shape))
        array = array_view(view, header, at, raw=True)
        # The ellipsis makes a view of arrays without dimensions, too, where () would copy.
        index: Any = (*selection.slices(), ...)
        planned = plan_array(array[index], header.dtype)
        assert planned is not None  # it is None only where the dtype is to be found out
        return planned
    form = "a plain pickle" if header is None else type(header).__name__
    raise ProtocolError(
        f"{selection} cannot be cut out of this blob ({form}) by bytes; send it whole and "
        "cut the value with apply()"
    )


def _check_dimensions(box: Box, ndim: int) -> None:
    if len(box.bounds) > ndim:
        raise ProtocolError(
            f"a box of {len(box.bounds)} dimensions was asked of an array of {ndim}"
        )


def apply(value: Any, selection: Selection) -> Any:
    """Return a selection of a live value: an item, or a view of an array.

    Raises
    ------
    ProtocolError
        If the value has no such part or too few dimensions.
    """
    if type(selection) is Part:
        if not isinstance(value, list | tuple) or selection.number >= len(value):
            found = f"{len(value)} parts" if isinstance(value, list | tuple) else "no parts"
            raise ProtocolError(
                f"part {selection.number} was asked of a {type(value).__qualname__} that has "
                f"{found}; return Parts([...]) from the task"
            )
        return value[selection.number]
    assert type(selection) is Box
    ndim = getattr(value, "ndim", None)
    if not isinstance(ndim, int):
        raise ProtocolError(
            f"a box was asked of a {type(value).__qualname__}, which is no array; return an "
            "array from the task"
        )
    _check_dimensions(selection, ndim)
    return value[(*selection.slices(), ...)]
