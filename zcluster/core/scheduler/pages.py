"""The scheduler's tasks, as columns.

A task is an integer, and its row is a position in the columns of a `Page`. A
page holds up to 512 consecutive tasks of one client and goes when its last row
is forgotten, so that neither a million small submissions nor one kept future
holds memory. There is no object per task: a row costs about 60 bytes, an edge
eight, and constants what they are.

The columns, and what must hold of them (checked in `invariants`):

======== ==================================================================
state    a `State`
flags    bits: WANTED by its client, PASSING, DATA, DELIVERED, HELD, and PARTIAL
         where an input was not known when the task came: it can never run
attempt  number of times it was assigned
missing  number of inputs (by edge) that are not FINISHED
unplaced number of inputs that are neither FINISHED nor ASSIGNED
refs     who needs the result: clients that want it and unfinished consumers
kin      rows that list it as an input, so that it might be needed again
node     where it is assigned or queued ahead, or where the result is; -1
size     bytes of the result
order    rank within the submission
heir     the first consumer that waits for it, or -1; others are in ``more``
======== ==================================================================

Heirs are noted only while a task is unfinished; a result used by a million
tasks over time does not collect a million entries.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zcluster.core.scheduler.records import LayerRecord

__all__ = [
    "DATA",
    "DELIVERED",
    "HELD",
    "PAGE_BITS",
    "PAGE_SIZE",
    "PARTIAL",
    "PASSING",
    "WANTED",
    "Page",
]

PAGE_BITS = 9
PAGE_SIZE = 1 << PAGE_BITS

WANTED = 1
PASSING = 2
DATA = 4
DELIVERED = 8
HELD = 16
PARTIAL = 32


class Page:
    """Up to 512 consecutive tasks; row ``i`` is task ``start + i``."""

    __slots__ = (
        "attempt",
        "constants",
        "flags",
        "heir",
        "indices",
        "indptr",
        "kin",
        "layer",
        "live",
        "missing",
        "more",
        "node",
        "offsets",
        "order",
        "refs",
        "selections",
        "size",
        "start",
        "state",
        "unplaced",
    )

    def __init__(self, start: int) -> None:
        self.start = start
        #: Rows that are not forgotten.
        self.live = 0
        self.state = bytearray()
        self.flags = bytearray()
        self.attempt = array("H")
        self.missing = array("i")
        self.unplaced = array("i")
        self.refs = array("i")
        self.kin = array("i")
        self.node = array("i")
        self.size = array("q")
        self.order = array("i")
        self.heir = array("q")
        self.more: dict[int, list[int]] = {}
        self.layer: list[LayerRecord] = []
        self.indptr = array("I", [0])
        self.indices = array("q")
        self.offsets = array("I", [0])
        self.constants = bytearray()
        self.selections: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.state)

    def extend(
        self,
        layer: LayerRecord,
        state: int,
        flags: int,
        orders: Sequence[int],
        lengths: Sequence[int] | None,
        constants: bytes | memoryview,
    ) -> None:
        """Append rows that so far have no inputs.

        ``lengths`` are those of the rows' constants, which ``constants`` joins.
        """
        count = len(orders)
        zeros = _zeros(count)
        self.live += count
        self.state.extend(bytes((state,)) * count)
        self.flags.extend(bytes((flags,)) * count)
        self.attempt.extend(array("H", bytes(2 * count)))
        self.missing.extend(zeros)
        self.unplaced.extend(zeros)
        self.refs.extend(zeros)
        self.kin.extend(zeros)
        self.node.extend(_minus_ones(count))
        self.size.extend(array("q", bytes(8 * count)))
        self.order.extend(array("i", orders))
        self.heir.extend(array("q", b"\xff" * (8 * count)))
        self.layer.extend([layer] * count)
        end = len(self.constants)
        if lengths is None:
            self.offsets.extend(array("I", [end]) * count)
        else:
            for length in lengths:
                end += length
                self.offsets.append(end)
            self.constants += constants
        # Rows without inputs: the caller appends to indptr for rows that have.

    def inputs(self, row: int) -> array[int]:
        """Return the inputs of a row, in argument order."""
        return self.indices[self.indptr[row] : self.indptr[row + 1]]

    def constant(self, row: int) -> bytes:
        """Return the constant of a row (empty if it has none)."""
        return bytes(self.constants[self.offsets[row] : self.offsets[row + 1]])

    def heirs(self, row: int) -> Iterator[int]:
        """Yield the consumers that wait for a row's result."""
        first = self.heir[row]
        if first >= 0:
            yield first
            yield from self.more.get(row, ())

    def add_heir(self, row: int, task: int) -> None:
        """Note a consumer that waits for a row's result."""
        if self.heir[row] < 0:
            self.heir[row] = task
        else:
            self.more.setdefault(row, []).append(task)

    def clear_heirs(self, row: int) -> None:
        """Forget who waits for a row's result."""
        self.heir[row] = -1
        self.more.pop(row, None)


def _zeros(count: int) -> array[int]:
    return array("i", bytes(4 * count))


def _minus_ones(count: int) -> array[int]:
    return array("i", b"\xff" * (4 * count))
