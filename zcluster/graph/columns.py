"""The arrays of a layer's part, read from the frames of a message and checked.

This is the reading half of `lowering`; the scheduler imports it, so nothing here pickles. What
arrives may be anything: `read_part` either returns columns that keep every promise of
`zcluster.protocol.messages.LayerPart`, or raises `ProtocolError`.

The arrays are little-endian, as every machine that zcluster runs on is; they are not copied.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zcluster.errors import ProtocolError
from zcluster.protocol.frames import span
from zcluster.protocol.messages import Layer, LayerPart, Slot, Span
from zcluster.types import Frames

__all__ = ["Columns", "is_bulk", "read_part", "row_width", "slot_width"]

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("zcluster's arrays are little-endian; this machine is not")

# From so many integers on NumPy is quicker than Python, its call overhead included; and its
# import (some 50 ms, once) as well.
_BULK = 200
_BULK_WITH_IMPORT = 50_000

# Call forms (zcluster.protocol.calls, which may not be imported here): with a constant, and with
# the least number of inputs.
_WITH_CONSTANT = frozenset({1, 5, 6})
_WITHOUT_CONSTANT = frozenset({0, 2, 4})
_LEAST_INPUTS = {2: 1, 4: 1}

_SLOT_KINDS = 4


@dataclass(slots=True)
class Columns:
    """Consecutive tasks of a layer: their edges, ranks and constants.

    Attributes
    ----------
    first, count : int
        The tasks, counted within the submission.
    arity : int
        Listed inputs of each task, or -1 where `indptr` says.
    indptr : memoryview of uint32, or None
    indices : memoryview of uint32
        Tasks of the submission, and from ``end`` on its imports.
    orders : memoryview of int32, or None
        None: the ranks are the tasks' numbers.
    offsets : memoryview of uint32, or None
        They cut `constants`; None: the tasks have no constants.
    constants : memoryview of bytes
    selections : memoryview of int64
    """

    first: int
    count: int
    arity: int
    indptr: memoryview | None
    indices: memoryview
    orders: memoryview | None
    offsets: memoryview | None
    constants: memoryview
    selections: memoryview


def is_bulk(count: int) -> bool:
    """Whether so many integers are better handed to NumPy."""
    return count >= (_BULK if "numpy" in sys.modules else _BULK_WITH_IMPORT)


def slot_width(slot: Slot) -> int:
    """Return how many integers of the selection table an input with this slot takes."""
    if slot.kind == 1:
        return 1
    return 3 * slot.ndim if slot.kind == 3 else 0


def row_width(slots: Sequence[Slot], whole_slots: Sequence[Slot], arity: int) -> int:
    """Return how many integers of the selection table a task with `arity` listed inputs takes."""
    width = sum(map(slot_width, whole_slots)) if whole_slots else 0
    if slots:
        width += sum(map(slot_width, slots[:arity]))
        if arity > len(slots):
            width += (arity - len(slots)) * slot_width(slots[-1])
    return width


def read_part(
    part: LayerPart, frames: Frames, *, end: int, imports: int, layer: Layer | None = None
) -> Columns:
    """Return the columns of a part.

    Parameters
    ----------
    part : LayerPart
    frames : sequence of bytes-like
        Payload frames of the message.
    end : int
        One past the last task of the message (``Submit.first + Submit.count``): an index from
        there on is import ``index - end``.
    imports : int
        Number of imports of the submission.
    layer : Layer, optional
        The part's layer, to check that the two fit together.

    Raises
    ------
    ProtocolError
        If anything is not as promised; it says what.
    """
    first, count, arity = part.first, part.count, part.arity
    if count < 1 or first < 0 or first + count > end or arity < -1:
        raise ProtocolError(
            f"part of layer {part.layer}: tasks {first} to {first + count} with arity {arity}; "
            f"expected at least one task, none past {end}, and an arity from -1 on"
        )
    indices = _cast(frames, part.indices, "I")
    indptr = None
    if arity == -1:
        indptr = _cut_points(frames, part.indptr, count, len(indices), "indptr")
    elif part.indptr is not None or arity * count != len(indices):
        raise ProtocolError(
            f"part of layer {part.layer}: {len(indices)} indices for {count} tasks of "
            f"{arity} inputs, indptr {part.indptr}; they do not fit together"
        )
    if len(indices):
        _check_edges(first, count, arity, indptr, indices, end, imports)
    orders = None
    if part.orders is not None:
        orders = _cast(frames, part.orders, "i")
        if len(orders) != count:
            raise ProtocolError(f"{len(orders)} orders for {count} tasks; expected one a task")
    constants = span(frames, part.constants)
    offsets = None
    if part.offsets is not None:
        offsets = _cut_points(frames, part.offsets, count, len(constants), "offsets")
    elif len(constants):
        raise ProtocolError(f"{len(constants)} bytes of constants without offsets to cut them")
    selections = _cast(frames, part.selections, "q")
    columns = Columns(first, count, arity, indptr, indices, orders, offsets, constants, selections)
    if layer is not None:
        _check_layer(columns, layer)
    return columns


def _cast(frames: Frames, place: Span | None, code: Any) -> memoryview:
    view = span(frames, place)
    if view.format != "B":  # never from a socket; frames made by hand may be anything
        view = view.cast("B")
    if len(view) % (8 if code == "q" else 4):
        raise ProtocolError(f"span {place} of {len(view)} bytes is no whole number of integers")
    return view.cast(code)


def _cut_points(
    frames: Frames, place: Span | None, count: int, total: int, name: str
) -> memoryview:
    """Read ``count + 1`` offsets that cut `total` items, and check that they do."""
    points = _cast(frames, place, "I")
    if len(points) != count + 1:
        raise ProtocolError(f"{name} has {len(points)} entries; expected {count + 1}")
    good = points[0] == 0 and points[-1] == total
    if good:
        if not is_bulk(count):
            good = all(map(operator.le, points, points[1:]))
        else:
            import numpy  # only for large graphs: a scheduler of small ones never loads it

            values = numpy.frombuffer(points, numpy.uint32)
            good = bool((values[1:] >= values[:-1]).all())
    if not good:
        raise ProtocolError(f"{name} does not rise from 0 to {total}")
    return points


def _check_edges(
    first: int,
    count: int,
    arity: int,
    indptr: memoryview | None,
    indices: memoryview,
    end: int,
    imports: int,
) -> None:
    """Check that every input is an earlier task of the submission or one of its imports."""
    if not is_bulk(len(indices)):
        highest = max(indices)
        if highest < first:
            return
        bad = _bad_edge(first, count, arity, indptr, indices, end, imports)
    else:
        bad = _bad_edge_in_bulk(first, count, arity, indptr, indices, end, imports)
    if bad is not None:
        task, index = bad
        raise ProtocolError(
            f"task {task} takes input {index}; expected an earlier task of the submission, "
            f"or one of its {imports} imports (from {end} on)"
        )


def _bad_edge(
    first: int,
    count: int,
    arity: int,
    indptr: memoryview | None,
    indices: memoryview,
    end: int,
    imports: int,
) -> tuple[int, int] | None:
    limit = end + imports
    at = 0
    for position in range(count):
        task = first + position
        stop = at + arity if indptr is None else indptr[position + 1]
        for index in indices[at:stop]:
            if index >= task and not end <= index < limit:
                return task, index
        at = stop
    return None


def _bad_edge_in_bulk(
    first: int,
    count: int,
    arity: int,
    indptr: memoryview | None,
    indices: memoryview,
    end: int,
    imports: int,
) -> tuple[int, int] | None:
    import numpy  # only for large graphs: a scheduler of small ones never loads it

    values = numpy.frombuffer(indices, numpy.uint32)
    if int(values.max()) < first:
        return None
    lengths: Any = arity
    if indptr is not None:
        lengths = numpy.diff(numpy.frombuffer(indptr, numpy.uint32))
    tasks = numpy.repeat(numpy.arange(first, first + count, dtype=numpy.int64), lengths)
    bad = values >= tasks
    bad &= (values < end) | (values >= end + imports)
    if not bad.any():
        return None
    at = int(bad.argmax())
    return int(tasks[at]), int(values[at])


def _check_layer(columns: Columns, layer: Layer) -> None:
    first, count = columns.first, columns.count
    if first < layer.first or first + count > layer.first + layer.count:
        raise ProtocolError(
            f"tasks {first} to {first + count} are not in layer {layer.name!r}, which has "
            f"{layer.first} to {layer.first + layer.count}"
        )
    if (columns.offsets is None and layer.call in _WITH_CONSTANT) or (
        columns.offsets is not None and layer.call in _WITHOUT_CONSTANT
    ):
        raise ProtocolError(
            f"layer {layer.name!r} of call form {layer.call} "
            f"with{'out' if columns.offsets is None else ''} constants"
        )
    indptr = columns.indptr
    least = _LEAST_INPUTS.get(layer.call, 0)
    arities: Any = (columns.arity,)
    if indptr is not None and (least or layer.slots):
        arities = [indptr[p + 1] - indptr[p] for p in range(count)]
    if least and min(arities) < least:
        raise ProtocolError(
            f"layer {layer.name!r} of call form {layer.call} has tasks without inputs"
        )
    if not (layer.slots or layer.whole_slots):
        rows = 0
    else:
        for slot in (*layer.slots, *layer.whole_slots):
            if not 0 <= slot.kind < _SLOT_KINDS or slot.ndim < 0:
                raise ProtocolError(f"layer {layer.name!r} has {slot}; expected a kind from 0 to 3")
        slots, whole_slots = layer.slots, layer.whole_slots
        rows = sum(row_width(slots, whole_slots, arity) for arity in arities)
        if len(arities) == 1:
            rows *= count
    if len(columns.selections) != rows:
        raise ProtocolError(
            f"layer {layer.name!r}: {len(columns.selections)} integers in the selection table "
            f"of {count} tasks; expected {rows}"
        )
