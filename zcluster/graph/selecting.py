"""What part of each input a task of a layer takes, read from the layer's columns.

`zcluster.protocol.messages.Layer` says how slots and the table of selections are written;
`zcluster.protocol.selections` what a selection means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, islice

from zcluster.graph.columns import row_width, slot_width
from zcluster.graph.layers import GraphLayer
from zcluster.protocol.messages import Slot
from zcluster.protocol.selections import Part, Selection, selection_from

__all__ = ["RowsOf", "parts_of"]

_WHOLE = Slot()


def parts_of(
    arity: int,
    slots: Sequence[Slot],
    counts: Sequence[int],
    whole_slots: Sequence[Slot],
    table: Sequence[int],
    own: int,
) -> list[Selection | None]:
    """Return what part a task takes of each of its sources; None: all of it.

    Parameters
    ----------
    arity, slots
        Of the listed inputs.
    counts, whole_slots
        Of the layers of which it takes all tasks.
    table : sequence of int
        The task's row of the selection table.
    own : int
        The task's place in its layer.

    Examples
    --------
    >>> parts_of(2, [Slot(), Slot(1)], [], [], [4], 0)
    [None, Part(number=4)]
    """
    rest = iter(table)
    found = []
    for position in range(arity):
        slot = slots[min(position, len(slots) - 1)] if slots else _WHOLE
        found.append(_selection(slot, rest, own))
    for place, count in enumerate(counts):
        slot = whole_slots[place] if whole_slots else _WHOLE
        found += [_selection(slot, rest, own)] * count
    return found


def _selection(slot: Slot, table: Iterator[int], own: int) -> Selection | None:
    """Return what part of an input a task takes; None: all of it."""
    if slot.kind == 0:
        return None
    if slot.kind == 2:
        return Part(own)
    return selection_from(slot.kind, list(islice(table, slot_width(slot))))


class RowsOf:
    """The rows of a layer's selection table, by position of the task.

    Parameters
    ----------
    layer : GraphLayer
        One with a table.
    """

    __slots__ = ("_starts", "_table", "_width")

    def __init__(self, layer: GraphLayer) -> None:
        assert layer.selections is not None  # the caller looks
        self._table = layer.selections
        self._width = len(layer.selections) // layer.count
        self._starts: list[int] | None = None
        if layer.indptr is not None and layer.slots:
            arities = map(int.__sub__, map(int, layer.indptr[1:]), map(int, layer.indptr[:-1]))
            widths = (row_width(layer.slots, layer.whole_slots, arity) for arity in arities)
            self._starts = list(accumulate(widths, initial=0))

    def row(self, position: int) -> list[int]:
        """Return the row of the task at a position."""
        starts = self._starts
        if starts is None:
            start, stop = position * self._width, (position + 1) * self._width
        else:
            start, stop = starts[position], starts[position + 1]
        return [int(number) for number in self._table[start:stop]]
