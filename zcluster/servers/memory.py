"""The node's store as the node core asks for it: memory, the disk, and cuts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zcluster.core.node.records import Result
from zcluster.errors import OutOfDisk, ProtocolError, StoreFull
from zcluster.protocol.blobs import Plan
from zcluster.protocol.selections import can_cut, cut, selection_from
from zcluster.storage.arena import Arena, Range
from zcluster.storage.disk import is_on_disk
from zcluster.storage.filesystems import choose_folder
from zcluster.storage.slabs import Slabs
from zcluster.storage.spill import SpillFolder

__all__ = ["StoreMemory", "open_disk", "plan_cut"]

#: Cut parts up to this size stay in the nanny's heap and travel in messages.
_INLINE = 16 << 10
#: Larger parts are not copied: whoever takes one maps the whole, and cuts what it sees.
_COPIED = 256 << 10


class StoreMemory:
    """Room in shared memory, with leases; implements `zcluster.core.node.records.Memory`.

    Parameters
    ----------
    limit : int
        Bytes of results the node keeps.
    on_slab : callable
        Called with the number and descriptor of each new slab, before any range
        of it is given out.
    disk : SpillFolder, optional
        Where results go that memory has no room for.
    """

    def __init__(
        self,
        limit: int,
        on_slab: Callable[[int, int], None],
        disk: SpillFolder | None = None,
    ) -> None:
        self._arena = Arena(limit)
        self._slabs = Slabs()
        self._disk = disk
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
        known = []
        for slabs in (self._slabs, *([self._disk.slabs] if self._disk is not None else [])):
            known += [(slab, slabs.descriptor(slab)) for slab in self._known if slab in slabs]
        return known

    @property
    def has_disk(self) -> bool:
        """Whether results may go to disk."""
        return self._disk is not None

    @property
    def spilled(self) -> int:
        """Bytes on disk that hold results."""
        return 0 if self._disk is None else self._disk.used

    def disk_space(self) -> str:
        """Say how much room there is on disk."""
        return "" if self._disk is None else self._disk.space()

    def allocate_on_disk(self, size: int) -> Range | None:
        """Return room on disk, which has to be claimed; None if that is at its limit."""
        if self._disk is None:
            return None
        place = self._disk.allocate(size)
        if place is not None and place.slab not in self._known:
            self._known.append(place.slab)
            self._on_slab(place.slab, self._disk.slabs.descriptor(place.slab))
        return place

    def _arena_of(self, place: Range) -> Arena:
        if self._disk is not None and is_on_disk(place):
            return self._disk.arena
        return self._arena

    def _slabs_of(self, place: Range) -> Slabs:
        if self._disk is not None and is_on_disk(place):
            return self._disk.slabs
        return self._slabs

    def allocate(self, size: int) -> Range | None:
        """Return room in memory, or None if there is none, or the machine is full."""
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
        self._arena_of(place).free(place)
        self._tidy(place)

    def _tidy(self, place: Range) -> None:
        if self._disk is not None and is_on_disk(place):
            self._disk.tidy()

    def release(self) -> None:
        """Give memory in which there are no results back to the system."""
        self._arena.trim()
        self._slabs.follow(self._arena)
        for place in self._arena.free_ranges():
            self._slabs.release(place)

    def is_leased(self, place: Range) -> bool:
        """Return whether somebody can see a range."""
        return self._arena_of(place).is_leased(place)

    def lease(self, place: Range, holder: int | bytes) -> None:
        """Note that a process may look at a range until it returns the lease."""
        self._arena_of(place).lease(place, holder)

    def give_back(self, place: Range, holder: int | bytes) -> None:
        """A process returned a lease."""
        self._arena_of(place).give_back(place, holder)
        self._tidy(place)

    def drop_holder(self, holder: int | bytes) -> None:
        """A process ended, and its leases with it."""
        self._arena.drop_holder(holder)
        if self._disk is not None:
            self._disk.arena.drop_holder(holder)
            self._disk.tidy()

    def view(self, result: Result) -> memoryview:
        """Return the bytes of a result that is not in a worker's heap."""
        if result.blob is not None:
            return memoryview(result.blob)
        assert result.place is not None
        return self._slabs_of(result.place).view(result.place)[: result.size]

    def writable(self, place: Range, size: int) -> memoryview:
        """Return a range to write a blob of ``size`` bytes into."""
        return self._slabs_of(place).view(place)[:size]

    def cut(self, result: Result, kind: int, selection: list[int]) -> Result | None:
        """Return a part of a result as a result of its own; None: whoever takes it cuts it."""
        if result.worker >= 0:
            return None
        plan = plan_cut(self.view(result), kind, selection)
        if plan is None or (plan.size > _COPIED and result.place is not None):
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
        if self._disk is not None:
            self._disk.close()


def open_disk(
    told: Path | None, scratch: Path, limit: int | None = None
) -> tuple[SpillFolder | None, str]:
    """Return where results go that memory has no room for, or None and why they do not.

    Parameters
    ----------
    told : Path, optional
        The folder that the user named. Otherwise it is that of the scratch folder or
        ``/var/tmp``, whichever is on a disk of this machine.
    scratch : Path
    limit : int, optional
        The most bytes to keep there.
    """
    folder, reason = choose_folder(told, (scratch.parent, Path("/var/tmp")))
    if folder is None:
        return None, reason
    try:
        return SpillFolder(folder, limit), ""
    except OutOfDisk as error:
        return None, str(error)


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
