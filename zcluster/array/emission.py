"""The layer of a group: its program, and what each of its tasks takes.

Members become readers and steps of a `programs.Program`. What comes from outside the group is
taken as whole blocks or, where it is gathered, as boxes of several; for each reader there is a
table with a row for each block, and the columns of the layer are these tables, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zcluster.array.axes import UNKNOWN, Pieces, pieces
from zcluster.array.chunks import bounds, is_known
from zcluster.array.expressions import Blockwise, Dims, Expr, Gather, Generated, Reduction
from zcluster.array.fusion import Group, Place, place_in
from zcluster.array.programs import (
    BACKWARD,
    FILLED,
    FORWARD,
    REPEATED,
    Assemble,
    Generate,
    Numbers,
    Program,
    Reader,
    Step,
    Whole,
    with_own,
)
from zcluster.array.rows import Rows, interleaved, outer
from zcluster.protocol.messages import Slot

if TYPE_CHECKING:
    from zcluster.array.lowering import Codes, Lowering

__all__ = ["Edges", "GroupLayer", "Permuted"]

Integers = npt.NDArray[np.int64]


@dataclass(eq=False)
class Edges:
    """What the tasks of a layer take.

    Attributes
    ----------
    codes : Rows
        A row of tasks and imports for each task.
    slots : list of Slot
        What part of each it takes, by position, as `graph.layers.GraphLayer` has it.
    selections : ndarray of int64 or None
        The table of selections.
    whole : list of int
        Layers of the graph of which every task takes all, as a list each, after the others.
    whole_slots : list of Slot
        What part of each of their results.
    """

    codes: Rows
    slots: Sequence[Slot] = ()
    selections: Integers | None = None
    whole: Sequence[int] = ()
    whole_slots: Sequence[Slot] = ()

    @classmethod
    def boxed(cls, codes: Rows, boxes: Rows, share: float = 1.0) -> Edges:
        """Return edges that take a box of each input.

        Parameters
        ----------
        codes : Rows
        boxes : Rows
            As many entries a row as the codes; each is an array of shape (ndim, 3): start, stop
            and step for each axis.
        share : float
            The share of an input that a box is, about.
        """
        slot = Slot(3, boxes.values.shape[1], share)
        return cls(codes, [slot], boxes.values.reshape(-1))


@dataclass(eq=False)
class _Taken:
    """What one reader takes: codes, and a box of each or None for whole blocks."""

    codes: Rows
    ndim: int
    boxes: Rows | None
    #: What share of its block each box is; None for whole blocks.
    shares: Rows | None
    #: Writes boxes of whole blocks, where other readers of the layer have boxes.
    whole: Callable[[], Rows] | None = None


class GroupLayer:
    """Writes the layer of a group: its program, and what each task takes."""

    def __init__(self, lowering: Lowering, group: Group) -> None:
        self.lowering = lowering
        self.group = group
        self.grid = group.grid
        self.count = math.prod(group.grid)
        self.readers: list[Reader] = []
        self.steps: list[Step] = []
        #: Of readers that take results, in their order.
        self.taken: list[_Taken] = []
        self.rows: list[Rows] = []
        self._values: dict[Any, int] = {}
        self._inside = {one.name for one in group.members}
        #: Steps that may write into what they take.
        self._writers: set[int] = set()

    def emit(
        self,
        name: str,
        tail: Sequence[Callable[..., Any]],
        shape: tuple[int, ...] | None = None,
    ) -> Codes:
        """Add the layer.

        Parameters
        ----------
        name : str
        tail : sequence of callables
            Of a reduction: called one after the other with what the group makes of a block.
        shape : tuple of int, optional
            For the keys; by default the grid of the group.
        """
        root = self.group.root
        self._put_out()
        steps = [one for one in self.group.members if isinstance(one, Blockwise | Dims)]
        if tail:
            assert isinstance(root, Reduction)  # nothing else has a tail
            self._read(root, 0)
        for one in steps:
            for number in range(len(one.inputs)):
                self._read(one, number)
            self._read_extra(one)
        if not (steps or tail):  # the root is read, and that is all
            self._read_member(root, self.group.places[root.name])
        if tail and isinstance(root, Reduction) and root.takes_offsets:
            self._numbers("start", root.inputs[0], tuple(range(root.inputs[0].ndim)))
        for one in steps:
            self._add_step(one)
        self._add_tail(tail)
        steps_with_own, written = with_own(len(self.readers), self.steps, self._writers)
        edges, firsts = self._joined_edges()
        if firsts is not None:
            self.rows.insert(0, firsts)
        program = Program(self.readers, steps_with_own, firsts is not None)
        takers = {n for n, one in enumerate(self.readers) if isinstance(one, Whole | Assemble)}
        return self.lowering.add(
            name,
            program,
            edges,
            constants=interleaved(self.rows) if program.takes_row else None,
            shape=self.grid if shape is None else shape,
            reads_only=written.isdisjoint(takers),
            options=root.options,
        )

    def _put_out(self) -> None:
        """Give layers of their own to gathers that cannot share one with what else is taken.

        Where tasks take differently many boxes, all of them must have as many dimensions.
        """
        root = self.group.root
        outside = [
            source
            for one in self.group.members
            if isinstance(one, Blockwise | Dims)
            for source in one.inputs
            if source.name not in self._inside
            and not (isinstance(source, Generated) and source.is_cheap)
        ]
        gathers = [one for one in self.group.members if isinstance(one, Gather)]
        if len({one.ndim for one in (*outside, *gathers)}) < 2:
            return
        for one in gathers:
            if one is not root and not _is_even(one):
                self._inside.discard(one.name)  # `Lowering.codes` gives it a layer

    # What tasks read --------------------------------------------------------------------------

    def _read(self, taker: Expr, number: int) -> None:
        """See that an input of a member has a reader, or is a step."""
        source = taker.inputs[number]
        place = place_in(self.group, taker, number)
        assert place is not None  # members go along
        if source.name in self._inside:
            if isinstance(source, Gather | Generated):
                self._read_member(source, place)
            return
        if isinstance(source, Generated) and source.is_cheap:
            self._generate(source, place)
            return
        key = (source.name, place)
        if key not in self._values:
            codes = self._along(self.lowering.codes(source), place)
            self._values[key] = self._reader(Whole())
            whole = partial(self._whole_boxes, source, place)
            self.taken.append(
                _Taken(Rows.fixed(codes.reshape(-1, 1)), source.ndim, None, None, whole)
            )

    def _read_member(self, one: Expr, place: Place) -> None:
        if isinstance(one, Generated):
            self._generate(one, place)
        elif isinstance(one, Gather) and (one.name, place) not in self._values:
            self._read_gather(one, place)

    def _read_gather(self, one: Gather, place: Place) -> None:
        source = one.inputs[0]
        found = [pieces(made, own) for made, own in zip(one.maps, source.chunks, strict=True)]
        are_single = all(each.are_single for each in found)
        runs_on = are_single and all(bool((each.step == 1).all()) for each in found)
        if (
            runs_on
            and isinstance(source, Generated)
            and self.lowering.is_made_anew(source)
            and (source.is_cheap or all(map(_is_taken_once, found)))
        ):
            self._values[one.name, place] = self._generated(source, place, found)
            return
        taken = _gathered(one, found, self.lowering.codes(source))
        if are_single:
            self._values[one.name, place] = self._reader(Whole())
        else:
            self._values[one.name, place] = self._reader(Assemble(one.ndim, one.dtype, one.fill))
            self.rows.append(
                interleaved(
                    [
                        _layout(each).take(self._spread(np.arange(len(each.indptr) - 1), axis))
                        for each, axis in zip(found, place, strict=True)
                    ]
                )
            )
        if place != tuple(range(len(self.grid))) or one.numblocks != self.grid:
            numbers = np.arange(one.count, dtype=np.int64).reshape(one.numblocks)
            rows = self._along(numbers, place)
            taken.codes = taken.codes.take(rows)
            taken.boxes = None if taken.boxes is None else taken.boxes.take(rows)
            taken.shares = None if taken.shares is None else taken.shares.take(rows)
            if taken.whole is not None:
                taken.whole = partial(_taken_rows, taken.whole, rows)
        self.taken.append(taken)

    def _reader(self, reader: Reader) -> int:
        self.readers.append(reader)
        return len(self.readers) - 1

    def _generate(self, one: Generated, place: Place) -> None:
        if (one.name, place) not in self._values:
            self._values[one.name, place] = self._generated(one, place, None)

    def _generated(self, one: Generated, place: Place, found: list[Pieces] | None) -> int:
        """Read generated blocks, or one box of each where `found` says which."""
        starts = [bounds(lengths)[:-1] for lengths in one.chunks]
        shapes = [np.asarray(lengths, np.int64) for lengths in one.chunks]
        if found is not None:
            starts = [s[each.chunk] + each.start for s, each in zip(starts, found, strict=True)]
            shapes = [each.count for each in found]
        columns: list[Any] = [] if one.is_uniform else list(starts)
        shape = None
        if all(bool((lengths == lengths[0]).all()) for lengths in shapes):
            shape = tuple(int(lengths[0]) for lengths in shapes)
        else:
            columns += shapes
        if columns:
            self.rows.append(self._row(columns, [*place, *place][: len(columns)]))
        return self._reader(Generate(one.function, one.ndim, one.is_uniform, shape))

    def _row(self, columns: Sequence[Any], place: Sequence[int]) -> Rows:
        """Return a table with a column for each of some arrays that go along axes of the grid."""
        if not columns:
            return Rows.fixed(np.empty((self.count, 0), np.int64))
        spread = [self._spread(column, axis) for column, axis in zip(columns, place, strict=True)]
        return Rows.fixed(np.stack(spread, axis=1))

    def _spread(self, values: Any, axis: int) -> npt.NDArray[np.int64]:
        """Return the value at each block of what goes along one axis of the grid."""
        if axis < 0:
            return np.full(self.count, values[0], np.int64)
        shape = [1] * len(self.grid)
        shape[axis] = len(values)
        return np.broadcast_to(np.asarray(values, np.int64).reshape(shape), self.grid).reshape(-1)

    def _along(self, codes: Codes, place: Place) -> Codes:
        """Return, for each block of the grid, the code of the block at a place."""
        if place == tuple(range(len(self.grid))):
            return codes.reshape(-1)
        lost = tuple(0 if axis < 0 else slice(None) for axis in place)
        left = [axis for axis in place if axis >= 0]
        codes = codes[lost].transpose(np.argsort(left)) if left else codes[lost]
        shape = [self.grid[axis] if axis in left else 1 for axis in range(len(self.grid))]
        return np.broadcast_to(codes.reshape(shape), self.grid).reshape(-1)

    def _whole_boxes(self, source: Expr, place: Place) -> Rows:
        """Return boxes of whole blocks."""
        stops = self._row(list(map(_known_or_all, source.chunks)), place).values.reshape(
            self.count, 1, source.ndim
        )
        return Rows.fixed(np.stack([np.zeros_like(stops), stops, np.ones_like(stops)], axis=-1))

    def _read_extra(self, one: Expr) -> None:
        if isinstance(one, Blockwise):
            for _, kind in one.extra:
                self._numbers(kind, one, self.group.places[one.name])

    def _numbers(self, kind: str, one: Expr, place: Place) -> None:
        key = (kind, one.chunks, place)
        if key in self._values:
            return
        columns: list[Any] = [[-1 if n != n else n for n in own] for own in one.chunks]  # its shape
        if kind == "index":
            columns = [np.arange(len(lengths)) for lengths in one.chunks]
        elif kind == "start":
            columns = [bounds(lengths)[:-1] for lengths in one.chunks]
        self._values[key] = self._reader(Numbers(one.ndim))
        self.rows.append(self._row(columns, place))

    # What they do -----------------------------------------------------------------------------

    def _value(self, taker: Expr, number: int) -> int:
        source = taker.inputs[number]
        return self._values[source.name, place_in(self.group, taker, number)]

    def _add_step(self, one: Expr) -> None:
        place = self.group.places[one.name]
        if isinstance(one, Dims):
            step = Step(Permuted(one.axes, one.inputs[0].ndim), (self._value(one, 0),), {})
        else:
            assert isinstance(one, Blockwise)  # the only other kind of step
            arguments = tuple(
                self._value(one, argument) if type(argument) is int else argument
                for argument in one.arguments
            )
            extra = tuple(
                (keyword, self._values[kind, one.chunks, place]) for keyword, kind in one.extra
            )
            step = Step(one.function, arguments, one.kwargs, extra)
            if not (one.reads_only or isinstance(one.function, np.ufunc)):
                self._writers.add(len(self.steps))
        self._values[one.name, place] = len(self.readers) + len(self.steps)
        self.steps.append(step)

    def _add_tail(self, tail: Sequence[Callable[..., Any]]) -> None:
        if not tail:
            return
        root = self.group.root
        assert isinstance(root, Reduction)  # nothing else has a tail
        source = root.inputs[0]
        place = tuple(range(source.ndim))
        extra: tuple[tuple[str, int], ...] = ()
        if root.takes_offsets:
            extra = (("offsets", self._values["start", source.chunks, place]),)
        value = self._values[source.name, place]
        for number, function in enumerate(tail):
            self.steps.append(Step(function, (value,), {}, () if number else extra))
            value = len(self.readers) + len(self.steps) - 1

    # What they take ---------------------------------------------------------------------------

    def _joined_edges(self) -> tuple[Edges, Rows | None]:
        """Return what the tasks take, of all readers; and which input of each comes first."""
        if not self.taken:
            return Edges(Rows.fixed(np.empty((self.count, 0), np.int64))), None
        codes = interleaved([one.codes for one in self.taken])
        if all(one.boxes is None for one in self.taken):
            return Edges(codes), None
        if codes.indptr is None and all(one.codes.indptr is None for one in self.taken):
            return self._by_position(codes), None
        boxes = []
        for one in self.taken:
            if one.boxes is not None:
                boxes.append(one.boxes)
            else:
                assert one.whole is not None  # `_put_out` saw to that
                boxes.append(one.whole())
        shares = interleaved([one.shares or _ones_like(one.codes) for one in self.taken])
        return _largest_first(codes, interleaved(boxes), shares)

    def _by_position(self, codes: Rows) -> Edges:
        """Return edges where every task takes as much: each position has its own slot."""
        slots: list[Slot] = []
        tables = []
        for one in self.taken:
            if one.boxes is None:
                slots += [Slot()] * one.codes.width
            else:
                assert one.shares is not None  # as there are boxes
                each = one.shares.values.reshape(self.count, -1).mean(axis=0).tolist()
                slots += [Slot(3, one.ndim, share) for share in each]
                tables.append(Rows.fixed(one.boxes.values.reshape(self.count, -1)))
        return Edges(codes, slots, interleaved(tables).values)


def _is_taken_once(found: Pieces) -> bool:
    """Tell whether no chunk of the input is in two places."""
    return len(np.unique(found.chunk)) == len(found.chunk)


def _is_even(one: Gather) -> bool:
    """Tell whether all blocks are put together from as many pieces."""
    for made, own in zip(one.maps, one.inputs[0].chunks, strict=True):
        each = pieces(made, own)
        counts = np.bincount(
            np.repeat(np.arange(len(each.indptr) - 1), np.diff(each.indptr))[each.chunk >= 0],
            minlength=len(each.indptr) - 1,
        )
        if not (counts == counts[0]).all():
            return False
    return True


def _layout(found: Pieces) -> Rows:
    """Return what `Assemble` is told of an axis: for each chunk, its pieces."""
    how = np.full(len(found.chunk), FORWARD, np.int64)
    how[(found.step < 0) & (found.count > 1)] = BACKWARD
    how[(found.step == 0) & (found.count != 1)] = REPEATED
    how[found.chunk < 0] = FILLED
    counts = np.diff(found.indptr)
    said = Rows.of(found.indptr * 2, np.stack([found.count, how], axis=1).reshape(-1))
    return interleaved([Rows.fixed(counts.reshape(-1, 1)), said])


def _gathered(one: Gather, found: Sequence[Pieces], codes: Codes) -> _Taken:
    """Return what each block of a gather takes."""
    kept = [np.flatnonzero(each.chunk >= 0) for each in found]  # a filled piece takes nothing
    points = []
    for each, rows in zip(found, kept, strict=True):
        points.append(np.searchsorted(rows, each.indptr).astype(np.int64))
    indptr, entries = outer(points)
    at = [rows[entry] for rows, entry in zip(kept, entries, strict=True)]
    index = tuple(each.chunk[place] for each, place in zip(found, at, strict=True))
    taken = Rows.of(indptr, codes[index] if index else np.full(1, codes, np.int64))
    if not found:
        return _Taken(taken, 0, None, None)
    boxes = partial(_boxes_of, taken, found, at)
    if all(_are_whole(each, own) for each, own in zip(found, one.inputs[0].chunks, strict=True)):
        return _Taken(taken, one.ndim, None, None, boxes)
    shares = np.ones(len(taken.values))
    for each, place, own in zip(found, at, one.inputs[0].chunks, strict=True):
        lengths = _known_or_all(own)[each.chunk[place]]
        shares *= np.minimum(each.count[place], lengths) / np.maximum(lengths, 1)
    return _Taken(taken, one.ndim, boxes(), Rows(taken.count, taken.width, taken.indptr, shares))


def _ones_like(codes: Rows) -> Rows:
    return Rows(codes.count, codes.width, codes.indptr, np.ones(len(codes.values)))


def _largest_first(codes: Rows, boxes: Rows, shares: Rows) -> tuple[Edges, Rows]:
    """Return edges where each task's largest box comes first; and where it belongs.

    Where tasks take differently many, the second slot stands for all inputs but the first. So the
    scheduler knows what share of its own block a task takes, beside a few cells of others.
    """
    points = codes.points
    low, high, step = boxes.values[..., 0], boxes.values[..., 1], boxes.values[..., 2]
    cells = np.prod(-(-(high - low).astype(np.float64) // step), axis=1)
    rows = np.repeat(np.arange(codes.count), np.diff(points))
    order = np.lexsort((-cells, rows))
    some = np.flatnonzero(np.diff(points))
    begin = points[:-1][some]
    largest = order[begin]
    places = np.arange(len(order))
    places[begin], places[largest] = largest, begin
    firsts = np.zeros((codes.count, 1), np.int64)
    firsts[some, 0] = largest - begin
    is_first = np.zeros(len(order), np.bool_)
    is_first[begin] = True
    ndim, each = boxes.values.shape[1], shares.values[places]
    slots = [
        Slot(3, ndim, float(each[kind].mean()) if kind.any() else 0.0)
        for kind in (is_first, ~is_first)
    ]
    taken = Rows(codes.count, codes.width, codes.indptr, codes.values[places])
    return Edges(taken, slots, boxes.values[places].reshape(-1)), Rows.fixed(firsts)


def _boxes_of(taken: Rows, found: Sequence[Pieces], at: Sequence[Integers]) -> Rows:
    """Return the box of each input: by axis, the pieces that are taken of it."""
    columns = []
    for each, place in zip(found, at, strict=True):
        low, high = each.low[place], each.high[place]
        step = np.maximum(np.abs(each.step[place]), 1)
        step[each.count[place] <= 1] = 1
        high = np.where(each.count[place] == 0, low, high)
        columns.append(np.stack([low, high, step], axis=1))
    return Rows(taken.count, taken.width, taken.indptr, np.stack(columns, axis=1))


def _taken_rows(make: Callable[[], Rows], rows: Integers) -> Rows:
    return make().take(rows)


def _known_or_all(lengths: Sequence[Any]) -> Integers:
    """Return lengths as integers, so large that nothing is longer where they are not known."""
    return np.asarray(lengths if is_known(lengths) else [UNKNOWN] * len(lengths), np.int64)


def _are_whole(found: Pieces, lengths: Sequence[Any]) -> bool:
    """Tell whether all pieces are whole chunks, forward or backward."""
    if not is_known(lengths):
        return True
    own = np.asarray(lengths, np.int64)[found.chunk]
    return bool(
        (
            (found.chunk < 0) | ((found.count == own) & ((np.abs(found.step) == 1) | (own <= 1)))
        ).all()
    )


class Permuted:
    """The function of `Dims`: axes permuted, taken out and put in."""

    __slots__ = ("axes", "ndim")

    def __init__(self, axes: tuple[int | None, ...], ndim: int) -> None:
        self.axes = axes
        self.ndim = ndim

    __name__ = "transpose"

    def __call__(self, block: Any) -> Any:
        kept = [axis for axis in self.axes if axis is not None]
        gone = [axis for axis in range(self.ndim) if axis not in kept]
        turned = block.transpose(kept + gone)
        index: list[Any] = [None if axis is None else slice(None) for axis in self.axes]
        return turned[(*index, *[0] * len(gone))]

    def __zcluster_tokenize__(self) -> Any:
        return ("permuted", self.axes, self.ndim)
