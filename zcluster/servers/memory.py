"""The node's store as the node core asks for it: an arena, its slabs, and cuts."""

from __future__ import annotations

from collections.abc import Callable

from zcluster.core.node.records import Result
from zcluster.errors import ProtocolError, StoreFull
from zcluster.protocol.blobs import Plan
from zcluster.protocol.selections import can_cut, cut, selection_from
from zcluster.storage.arena import Arena, Range
from zcluster.storage.slabs import Slabs

__all__ = ["StoreMemory", "plan_cut"]

#: Cut parts up to this size stay in the nanny's heap and travel in messages.
_INLINE = 16 << 10


class StoreMemory:
    """Room in shared memory, with leases; implements `zcluster.core.node.records.Memory`.

    Parameters
    ----------
    limit : int
        Bytes of results the node keeps.
    on_slab : callable
        Called with the number and descriptor of each new slab, before any range
        of it is given out.
    """

    def __init__(self, limit: int, on_slab: Callable[[int, int], None]) -> None:
        self._arena = Arena(limit)
        self._slabs = Slabs()
        self._on_slab = on_slab
        self._known: list[int] = []

    @property
    def limit(self) -> int:
        """The most bytes it keeps."""
        return self._arena.limit

    @property
    def used(self) -> int:
        """Bytes of the store that hold results."""
        return self._arena.statistics().used

    def descriptors(self) -> list[tuple[int, int]]:
        """Return (slab, descriptor) of all slabs."""
        return [(slab, self._slabs.descriptor(slab)) for slab in self._known if slab in self._slabs]

    def allocate(self, size: int) -> Range | None:
        """Return room in the store, or None if it or the machine is full."""
        place = self._arena.allocate(max(1, size))
        try:
            for slab in self._slabs.follow(self._arena):
                self._known.append(slab)
                self._on_slab(slab, self._slabs.descriptor(slab))
            if place is not None:
                self._slabs.reserve(place)
        except StoreFull:
            if place is not None:
                self._arena.free(place)
            return None
        return place

    def free(self, place: Range) -> None:
        """Give room back, once all leases on it have ended."""
        self._arena.free(place)

    def lease(self, place: Range, holder: int | bytes) -> None:
        """Note that a process may look at a range until it returns the lease."""
        self._arena.lease(place, holder)

    def give_back(self, place: Range, holder: int | bytes) -> None:
        """A process returned a lease."""
        self._arena.give_back(place, holder)

    def drop_holder(self, holder: int | bytes) -> None:
        """A process ended, and its leases with it."""
        self._arena.drop_holder(holder)

    def view(self, result: Result) -> memoryview:
        """Return the bytes of a result that is not in a worker's heap."""
        if result.blob is not None:
            return memoryview(result.blob)
        assert result.place is not None
        return self._slabs.view(result.place)[: result.size]

    def writable(self, place: Range, size: int) -> memoryview:
        """Return a range to write a blob of ``size`` bytes into."""
        return self._slabs.view(place)[:size]

    def cut(self, result: Result, kind: int, selection: list[int]) -> Result | None:
        """Return a part of a result as a result of its own; None if it cannot be cut."""
        if result.worker >= 0:
            return None
        plan = plan_cut(self.view(result), kind, selection)
        if plan is None:
            return None
        if plan.size <= _INLINE:
            return Result(plan.size, plan.tobytes(), lent=True)
        place = self.allocate(plan.size)
        if place is None:
            return None
        plan.write_into(self.writable(place, plan.size))
        return Result(plan.size, place=place, lent=True)

    def close(self) -> None:
        """Give all memory back to the system."""
        self._slabs.close()


def plan_cut(view: memoryview, kind: int, selection: list[int]) -> Plan | None:
    """Return the plan of a part of a blob; None if it cannot be cut here.

    That is so for a part that is not there, too: then the worker that takes it gets
    the whole, finds the same, and its task fails with the reason.
    """
    try:
        chosen = selection_from(kind, selection)
        return cut(view, chosen) if can_cut(view, chosen) else None
    except (ProtocolError, ArithmeticError, TypeError, ValueError):
        # The last three come from NumPy, for a header that a broken worker has written.
        return None
