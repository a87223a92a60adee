"""Parts of results: what tasks take of inputs of which they need not all.

A part is asked for by several tasks, perhaps, but cut once. It has a number of its
own, below zero, and is an input like any other: it is awaited, used, and goes with
its last use. While it is not cut it counts as one use of the result it is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zcluster.protocol.messages import NodeLayer, Slot

__all__ = ["Part", "PartTable"]

_WHOLE = Slot()
_PART, _OWN_PART, _BOX = 1, 2, 3


class Part(NamedTuple):
    """What is asked for: a part of ``task``, by kind (1 part, 3 box) and integers."""

    task: int
    kind: int
    selection: tuple[int, ...]


class PartTable:
    """All parts that assigned tasks ask for.

    Attributes
    ----------
    parts : dict of int to Part
        By number.
    of : dict of int to list of int
        The numbers of the parts of a result.
    """

    def __init__(self) -> None:
        self.parts: dict[int, Part] = {}
        self.of: dict[int, list[int]] = {}
        self._numbers: dict[Part, int] = {}
        self._next = -1

    def select(
        self, layer: NodeLayer, task: int, inputs: list[int], table: Sequence[int], row: int
    ) -> tuple[list[int], int]:
        """Return a task's inputs with parts in place of those it takes a part of.

        Parameters
        ----------
        layer : NodeLayer
        task : int
        inputs : list of int
            The listed inputs.
        table : sequence of int
            The selection table.
        row : int
            Where the task's row of it begins; the second value returned is its end.
        """
        own = task - layer.first
        slots = layer.slots
        chosen: list[int] = []
        for position, source in enumerate(inputs):
            slot = slots[min(position, len(slots) - 1)] if slots else _WHOLE
            chosen.append(self._choose(slot, source, table, row, own))
            row += _width(slot)
        for at, (first, count) in enumerate(layer.whole):
            slot = layer.whole_slots[at] if layer.whole_slots else _WHOLE
            for source in range(first, first + count):
                chosen.append(self._choose(slot, source, table, row, own))
            row += _width(slot)
        return chosen, row

    def _choose(self, slot: Slot, source: int, table: Sequence[int], row: int, own: int) -> int:
        if slot.kind == 0:
            return source
        if slot.kind == _OWN_PART:
            part = Part(source, _PART, (own,))
        else:
            part = Part(source, slot.kind, tuple(table[row : row + _width(slot)]))
        number = self._numbers.get(part)
        if number is None:
            number = self._next
            self._next -= 1
            self._numbers[part] = number
            self.parts[number] = part
            self.of.setdefault(source, []).append(number)
        return number

    def forget(self, number: int) -> Part | None:
        """Forget a part that no task asks for any more."""
        part = self.parts.pop(number, None)
        if part is not None:
            del self._numbers[part]
            numbers = self.of[part.task]
            numbers.remove(number)
            if not numbers:
                del self.of[part.task]
        return part


def _width(slot: Slot) -> int:
    """Return how many integers of the selection table a slot takes."""
    if slot.kind == _PART:
        return 1
    return 3 * slot.ndim if slot.kind == _BOX else 0
