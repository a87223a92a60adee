"""A graph into `Submit` messages: the wire form, in slices.

A small graph is one message with one payload frame. A large one is cut into slices, at task
boundaries, so that no frame is longer than a limit and the scheduler can begin before the end has
arrived. One payload frame holds, in this order (so that everything is aligned)::

    selections (int64) | indptr, indices, offsets (uint32), orders (int32) | constants | callables

A callable is sent with the first layer that uses it. One that is too large for the frame gets a
second frame of its own, as does nothing else; a single task that is larger than the limit makes
its frame longer. Both end at `FRAME_LIMIT`, with an error that says what to do.

On the wire an import is an index past the slice's last task: ``Submit.first + Submit.count + k``.
`columns` reads all this back.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from zcluster.errors import InvalidArgument, NotSerializable
from zcluster.graph.columns import row_width
from zcluster.graph.layers import DEFAULT_OPTIONS, Graph, GraphLayer, Integers
from zcluster.protocol.frames import CONTROL_LIMIT, FRAME_LIMIT
from zcluster.protocol.messages import Layer, LayerPart, Span, Submit
from zcluster.types import Buffer

__all__ = ["SLICE_LIMIT", "slices"]

#: The longest frame of a slice, in bytes.
SLICE_LIMIT = 1 << 20

# Estimates of what records take in the control frame, in bytes.
_LAYER_BYTES, _PART_BYTES, _SLOT_BYTES = 100, 80, 16


def slices(
    graph: Graph, submission: int, import_tasks: Sequence[int], limit: int = SLICE_LIMIT
) -> Iterator[tuple[Submit, list[Buffer]]]:
    """Yield the messages that submit a graph, each with its payload frames.

    Parameters
    ----------
    graph : Graph
        With at least one task.
    submission : int
        The submission's number at its client.
    import_tasks : sequence of int
        The task (client and number) of each import.
    limit : int
        The longest frame, in bytes.

    Raises
    ------
    InvalidArgument
        If one task has more inputs than fit, or keys or imports are too many for a message.
    NotSerializable
        If a callable is larger than any frame may be.
    """
    if graph.count + len(graph.imports) > 0xFFFFFFFF:
        raise InvalidArgument(
            f"a graph of {graph.count} tasks and {len(graph.imports)} imports; expected fewer "
            "than 2**32 together: submit it in several graphs"
        )
    head = 9 * len(import_tasks) + 12 * len(graph.outputs)
    if head > CONTROL_LIMIT // 2:
        raise InvalidArgument(
            f"a graph with {len(import_tasks)} imports and {len(graph.outputs)} runs of outputs; "
            "expected no more than fit into one message (about 900,000): combine them in steps"
        )
    cutter = _Cutter(graph, limit, head)
    if not cutter.fits_one_slice():
        cutter.cut()
    last = len(cutter.slices) - 1
    for at, cut in enumerate(cutter.slices):
        first = at == 0
        yield _message(
            graph,
            submission,
            cut,
            list(import_tasks) if first else [],
            graph.outputs if first else [],
            at == last,
        )


@dataclass(slots=True)
class _Cut:
    """What goes into one slice, before any bytes are made."""

    first: int
    count: int = 0
    parts: list[tuple[int, int, int]] = field(default_factory=list)  # layer, start, stop
    inline: list[Any] = field(default_factory=list)  # callables in the common frame
    alone: Any = None  # a callable with a frame of its own


class _Cutter:
    """Decides what goes into which slice."""

    def __init__(self, graph: Graph, limit: int, head: int) -> None:
        self.graph = graph
        self.limit = limit
        self.head = head
        self.slices: list[_Cut] = []
        self.last = _Cut(0)
        self.room = self.control = limit  # what is left in the last slice, in bytes
        self.sent: set[bytes] = set()  # callables, by their hash

    def fits_one_slice(self) -> bool:
        """Put everything into one slice if it fits: the usual case, with no search."""
        payload, control = 0, self.head
        cut = _Cut(0, self.graph.count)
        for number, layer in enumerate(self.graph.layers):
            function = layer.function
            if function is not None and function.digest not in self.sent:
                self.sent.add(function.digest)
                payload += len(function.data)
                cut.inline.append(function)
            payload += _size(layer, None, 0, layer.count)
            control += _control_size(layer)
            if payload > self.limit or control > self.limit:
                self.sent.clear()
                return False
            cut.parts.append((number, 0, layer.count))
        self.slices.append(cut)
        return True

    def cut(self) -> None:
        """Fill one slice after the other."""
        self.begin()
        self.control -= self.head
        for number, layer in enumerate(self.graph.layers):
            rows = _row_starts(layer)
            self.begin_layer(layer, rows)
            start = 0
            while start < layer.count:
                stop = _last_fit(layer, rows, start, self.room)
                if stop == start:  # one task that is larger than a slice should be
                    stop = start + 1
                    _check_task(layer, rows, start)
                self.last.parts.append((number, start, stop))
                self.last.count += stop - start
                self.room -= _size(layer, rows, start, stop)
                start = stop
                if start < layer.count:
                    self.begin()

    def begin(self) -> None:
        """Begin the next slice."""
        self.last = _Cut(self.last.first + self.last.count)
        self.slices.append(self.last)
        self.room = self.control = self.limit

    def begin_layer(self, layer: GraphLayer, rows: list[int] | None) -> None:
        """See that there is room for a layer's record, its callable and its first task."""
        control = _control_size(layer)
        if control > self.limit:
            _check_keys(layer, control)
        function = layer.function
        size = 0
        if function is None or function.digest in self.sent:
            function = None
        else:
            size = len(function.data)
            self.sent.add(function.digest)
        needed = size + _size(layer, rows, 0, 1)
        if self.last.parts and (control > self.control or needed > self.room):
            self.begin()
        self.control -= control
        if function is not None:
            if needed <= self.room:
                self.last.inline.append(function)
                self.room -= size
            else:
                _check_function(layer, size)
                self.last.alone = function


def _control_size(layer: GraphLayer) -> int:
    """Return about what a layer takes in the control frame, in bytes."""
    size = _LAYER_BYTES + _PART_BYTES + len(layer.name)
    if layer.keys is not None:
        size += sum(map(len, layer.keys)) + 3 * layer.count
    if layer.options is not DEFAULT_OPTIONS:
        names = list(layer.options.workers)
        if layer.options.needs is not None:
            names += [*layer.options.needs.resources, *layer.options.needs.retry_on]
            size += 16 * (len(layer.options.needs.resources) + 1)
        size += sum(map(len, names)) + 5 * len(names)
    if layer.slots or layer.whole:
        size += _SLOT_BYTES * (len(layer.slots) + len(layer.whole) + len(layer.whole_slots))
    return size


def _row_starts(layer: GraphLayer) -> list[int] | None:
    """Return where each task's row of the selection table starts; None if all are alike."""
    if layer.selections is None or layer.indptr is None or not layer.slots:
        return None
    points = layer.indptr
    widths = (
        row_width(layer.slots, layer.whole_slots, int(points[p + 1] - points[p]))
        for p in range(layer.count)
    )
    return list(accumulate(widths, initial=0))


def _rows(layer: GraphLayer, rows: list[int] | None, start: int, stop: int) -> tuple[int, int]:
    """Return the part of the selection table that belongs to these tasks."""
    if layer.selections is None:
        return 0, 0
    if rows is not None:
        return rows[start], rows[stop]
    width = len(layer.selections) // layer.count
    return start * width, stop * width


def _size(layer: GraphLayer, rows: list[int] | None, start: int, stop: int) -> int:
    """Return the payload bytes of some tasks of a layer."""
    count = stop - start
    if layer.indptr is None:
        size = 4 * layer.arity * count
    else:
        size = 4 * (int(layer.indptr[stop]) - int(layer.indptr[start]) + count + 1)
    if layer.orders is not None:
        size += 4 * count
    if layer.offsets is not None:
        size += int(layer.offsets[stop]) - int(layer.offsets[start]) + 4 * (count + 1)
    if layer.selections is not None:
        if rows is None and count == layer.count:
            return size + 8 * len(layer.selections)
        low, high = _rows(layer, rows, start, stop)
        size += 8 * (high - low)
    return size


def _last_fit(layer: GraphLayer, rows: list[int] | None, start: int, room: int) -> int:
    """Return where to stop so that the tasks from `start` fit into `room`, by bisection."""
    low, high = start, layer.count
    if _size(layer, rows, start, high) <= room:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if _size(layer, rows, start, middle) <= room:
            low = middle
        else:
            high = middle
    return low


def _check_keys(layer: GraphLayer, size: int) -> None:
    if size > CONTROL_LIMIT // 4:
        raise InvalidArgument(
            f"layer {layer.name!r} names {layer.count} keys of about {size} bytes; expected at "
            f"most {CONTROL_LIMIT // 4} bytes in one layer: give it a shape, or cut it into layers"
        )


def _check_function(layer: GraphLayer, size: int) -> None:
    if size > FRAME_LIMIT:
        raise NotSerializable(
            f"the function of {layer.name!r} is {size} bytes when pickled; expected at most "
            f"{FRAME_LIMIT}: it carries data in its closure, its globals or its object. "
            "Pass the data as an argument, or scatter it and pass the future"
        )


def _check_task(layer: GraphLayer, rows: list[int] | None, position: int) -> None:
    size = _size(layer, rows, position, position + 1)
    if size > FRAME_LIMIT:
        raise InvalidArgument(
            f"task {layer.key(position)!r} takes {len(layer.inputs(position))} inputs, {size} "
            f"bytes in the graph; expected at most {FRAME_LIMIT}: combine the inputs in a tree"
        )


# Bytes ----------------------------------------------------------------------------------------


def _message(
    graph: Graph,
    submission: int,
    cut: _Cut,
    imports: list[int],
    outputs: list[tuple[int, int]],
    last: bool,
) -> tuple[Submit, list[Buffer]]:
    writer = _Writer(cut.first + cut.count)
    all_layers = graph.layers
    for number, start, stop in cut.parts:
        writer.add(all_layers[number], start, stop)
    frame, places = writer.finish(cut.inline)
    layers, parts = [], []
    for (number, start, stop), spans in zip(cut.parts, places, strict=True):
        layer = all_layers[number]
        if start == 0:
            layers.append(_described(layer))
        indptr, indices, orders, offsets, constants, selections = spans
        parts.append(
            LayerPart(
                number,
                layer.first + start,
                stop - start,
                layer.arity,
                indptr,
                indices,
                orders,
                offsets,
                constants,
                selections,
            )
        )
    frames: list[Buffer] = [frame]
    functions = writer.functions
    if cut.alone is not None:
        functions.append((cut.alone.digest, (1, 0, len(cut.alone.data))))
        frames.append(cut.alone.data)
    message = Submit(
        submission, cut.first, cut.count, layers, parts, imports, outputs, functions, last
    )
    return message, frames


def _described(layer: GraphLayer) -> Layer:
    function = layer.function
    return Layer(
        layer.name,
        list(layer.shape),
        layer.first,
        layer.count,
        layer.call,
        b"" if function is None else function.digest,
        layer.keys,
        layer.shared,
        list(layer.slots),
        list(layer.whole),
        list(layer.whole_slots),
        list(layer.options.workers),
        *layer.options[1:],
    )


class _Writer:
    """Gathers the arrays of a slice by width, and knows the span of each in the joined frame."""

    __slots__ = ("constants", "end", "functions", "narrow", "spots", "wide")

    def __init__(self, end: int) -> None:
        self.end = end
        self.wide: list[Buffer] = []
        self.narrow: list[Buffer] = []
        self.constants: list[Buffer] = []
        # Per part, the lengths of its six columns, None for one that is absent.
        self.spots: list[tuple[int | None, ...]] = []
        self.functions: list[tuple[bytes, Span]] = []

    def add(self, layer: GraphLayer, start: int, stop: int) -> None:
        """Add some tasks of a layer."""
        all_of_it = start == 0 and stop == layer.count
        low, high = start * layer.arity, stop * layer.arity
        indptr = indices = orders = offsets = constants = selections = None
        if layer.indptr is not None:
            low, high = int(layer.indptr[start]), int(layer.indptr[stop])
            indptr = self._narrow(_rebased(layer.indptr, start, stop, low))
        if high > low:
            listed = layer.indices if all_of_it else layer.indices[low:high]
            indices = self._narrow(_wire_indices(listed, self.end))
        if layer.orders is not None:
            orders = self._narrow(_as_bytes(layer.orders[start:stop], "i"))
        if layer.offsets is not None:
            low, high = int(layer.offsets[start]), int(layer.offsets[stop])
            offsets = self._narrow(_rebased(layer.offsets, start, stop, low))
            data = layer.constants if all_of_it else memoryview(layer.constants)[low:high]
            self.constants.append(data)
            constants = len(data)
        if layer.selections is not None and len(layer.selections):
            low, high = _rows(layer, _row_starts(layer), start, stop)
            data = _as_bytes(layer.selections[low:high], "q")
            self.wide.append(data)
            selections = len(data)
        self.spots.append((indptr, indices, orders, offsets, constants, selections))

    def _narrow(self, data: bytes) -> int:
        self.narrow.append(data)
        return len(data)

    def finish(self, functions: list[Any]) -> tuple[bytes, list[list[Span | None]]]:
        """Return the frame, and the spans of the columns of each part."""
        wide = 0
        narrow = sum(map(len, self.wide)) if self.wide else 0
        loose = narrow + sum(map(len, self.narrow))
        places: list[list[Span | None]] = []
        for columns in self.spots:
            spans: list[Span | None] = []
            for column in columns[:4]:  # indptr, indices, orders, offsets
                if column is None:
                    spans.append(None)
                else:
                    spans.append((0, narrow, narrow := narrow + column))
            constants, selections = columns[4:]
            if constants is None:
                spans.append(None)
            else:
                spans.append((0, loose, loose := loose + constants))
            if selections is None:
                spans.append(None)
            else:
                spans.append((0, wide, wide := wide + selections))
            places.append(spans)
        pieces = [*self.wide, *self.narrow, *self.constants]
        for function in functions:
            self.functions.append(
                (function.digest, (0, loose, loose := loose + len(function.data)))
            )
            pieces.append(function.data)
        return b"".join(pieces), places


def _as_bytes(values: Integers, code: str) -> bytes:
    if isinstance(values, (list, tuple)):
        return array(code, values).tobytes()
    if isinstance(values, array):
        return values.tobytes() if values.typecode == code else array(code, values).tobytes()
    numpy_values: Any = values
    return numpy_values.astype(_DTYPES[code], copy=False).tobytes()  # type: ignore[no-any-return]


_DTYPES = {"I": "<u4", "i": "<i4", "q": "<i8"}


def _rebased(points: Integers, start: int, stop: int, base: int) -> bytes:
    """Return the offsets of some tasks, from zero."""
    some: Any = points[start : stop + 1]
    if not base:
        return _as_bytes(some, "I")
    if isinstance(some, (list, tuple, array)):
        return _as_bytes([point - base for point in some], "I")
    return _as_bytes(some - base, "I")


def _wire_indices(indices: Integers, end: int) -> bytes:
    """Return the inputs with imports as indices past `end`."""
    if isinstance(indices, (list, tuple, array)):
        if min(indices) < 0:
            indices = [i if i >= 0 else end + ~i for i in indices]
        return _as_bytes(indices, "I")
    values: Any = indices
    negative = values < 0
    if negative.any():
        values = values.astype("<i8")
        values[negative] = end - 1 - values[negative]
    return _as_bytes(values, "I")
