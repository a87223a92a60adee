"""The pretend memory and disk of a node: no range is used again while somebody looks at it."""

from __future__ import annotations

import random
from typing import NamedTuple
from zlib import crc32

from zcluster.core.node.records import Result
from zcluster.storage.arena import Range
from zcluster.storage.disk import FIRST_SLAB, DiskJob, is_on_disk
from zcluster.testing.values import part_of

__all__ = ["AMPLE", "Storage", "Store"]

_CHANGED = "the bytes are not those that were written"


#: More than any history needs.
AMPLE = 1 << 30


class Storage(NamedTuple):
    """What a node has for results: bytes of memory, and on disk (0: there is none)."""

    limit: int = AMPLE
    #: Bytes in memory from which on results go to disk.
    target: int = 0
    space: int = 0


class Store:
    """The memory of a node, which knows who looks at what: it is never used again too early.

    Examples
    --------
    >>> store = Store()
    >>> place = store.allocate(100)
    >>> store.bytes[place] = b"right"
    >>> store.free(place)
    >>> store.used
    0
    """

    def __init__(self, storage: Storage | None = None) -> None:
        self.bytes: dict[Range, bytes] = {}
        self.freed: set[Range] = set()
        #: By range, who looks at it and how often.
        self.leases: dict[Range, dict[int, int]] = {}
        self._next = 0
        self._used = self._spilled = 0
        storage = storage or Storage()
        self.limit = storage.limit
        #: Whether there is a disk, and its space.
        self.has_disk = storage.space > 0
        self.disk_limit = storage.space or AMPLE
        #: How likely the disk is to change what is written, and not to do what it is asked for.
        self.disk_flips = 0.0
        self.disk_errors = 0.0
        #: What was to be written to disk and is not there.
        self.unwritten: set[Range] = set()
        #: Whether there may have been no room for something.
        self.is_tight = storage.limit < AMPLE and storage.space < AMPLE

    def allocate(self, size: int) -> Range | None:
        if self.used + size > self.limit:
            return None
        return self._new(0, size)

    def _new(self, slab: int, size: int) -> Range:
        self._next += 1
        place = Range(slab, 4096 * self._next, size)
        self.bytes[place] = b""
        self._count(place, size)
        return place

    def _count(self, place: Range, size: int) -> None:
        if is_on_disk(place):
            self._spilled += size
        else:
            self._used += size

    def allocate_on_disk(self, size: int) -> Range | None:
        return self._new(FIRST_SLAB, size) if self.has_disk else None

    def disk_space(self) -> str:
        return f"{self.spilled} of {self.disk_limit} bytes are in use"

    def do(self, job: DiskJob, chance: random.Random) -> tuple[list[int], str, bool]:
        """Do what a disk is asked for; return the checksums, or why not and if for want of space.

        A disk is found to be full when space is claimed: a range that is not is given out.
        """
        if job.kind == "write":
            self.unwritten.add(job.place)
        if job.kind in ("write", "claim") and self.spilled > self.disk_limit:
            return [], self.disk_space(), True
        if self.disk_errors and chance.random() < self.disk_errors:
            return [], "the disk gave an error", False
        if job.kind == "check":
            assert job.place not in self.unwritten, f"{job.place} was never written"
            found = crc32(self.bytes[job.place])
            return ([found], "", False) if [found] == list(job.sums) else ([], _CHANGED, False)
        if job.kind == "claim":
            return [], "", False
        blob = self.bytes[job.place if job.source is None else job.source]
        if job.source is not None:
            # What others write is used at once, and would be checked much later.
            is_changed = self.disk_flips and chance.random() < self.disk_flips
            self.bytes[job.place] = b"?" + blob[1:] if is_changed else blob
            self.unwritten.discard(job.place)
        return [crc32(blob)], "", False

    def release(self) -> None:
        assert self.leases.keys() <= self.bytes.keys()

    def is_leased(self, place: Range) -> bool:
        return place in self.leases

    def free(self, place: Range) -> None:
        assert place not in self.freed, f"{place} is freed twice"
        assert place in self.bytes, f"{place} is freed after its end"
        self.freed.add(place)
        self._collect(place)

    def lease(self, place: Range, holder: int) -> None:
        is_there = place in self.bytes and place not in self.freed
        assert is_there, f"{place} is lent after its end"
        holders = self.leases.setdefault(place, {})
        holders[holder] = holders.get(holder, 0) + 1

    def give_back(self, place: Range, holder: int) -> None:
        holders = self.leases.get(place, {})
        assert holder in holders, f"{place} is returned too often"
        if holders[holder] > 1:
            holders[holder] -= 1
        else:
            del holders[holder]
            self._settle(place, holders)

    def drop_holder(self, holder: int) -> None:
        for place, holders in [item for item in self.leases.items() if holder in item[1]]:
            del holders[holder]
            self._settle(place, holders)

    def _settle(self, place: Range, holders: dict[int, int]) -> None:
        if not holders:
            del self.leases[place]
            self._collect(place)

    def _collect(self, place: Range) -> None:
        if place in self.freed and place not in self.leases:
            self.freed.discard(place)
            del self.bytes[place]
            self._count(place, -place.length)

    def read(self, result: Result) -> bytes:
        assert result.worker < 0, "a value in a heap cannot be read from outside"
        if result.blob is not None:
            return result.blob
        assert result.place is not None
        return self.bytes[result.place]

    def cut(self, result: Result, kind: int, selection: list[int]) -> Result | None:
        if result.worker >= 0 or self.read(result)[:1] == b"u":
            return None
        blob = part_of(self.read(result), selection[0])
        return Result(len(blob), blob, lent=True)

    @property
    def used(self) -> int:
        return self._used

    @property
    def spilled(self) -> int:
        return self._spilled
