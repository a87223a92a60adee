"""The store and its disk with real memory and real files, beside a dict of what should be there.

Results are put, looked at through private mappings (which are written to, as tasks may), copied to
disk and freed, in any order. Nobody ever sees another's bytes, a look keeps what it sees whatever
happens to the result, and what goes wrong on disk is noticed. In the end nothing is used.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from zcluster.storage.arena import PAGE, Arena, Range
from zcluster.storage.slabs import SlabReader, Slabs
from zcluster.storage.spill import SpillFolder

SLAB = 4 * PAGE
LIMIT = 3 * SLAB
DISK_LIMIT = 4 * SLAB
AT = st.integers(0, 9)


@dataclass
class Entry:
    """A result: its bytes, and where it is, in memory or on disk, with the sums."""

    data: bytes
    place: Range
    sums: list[int] | None = None
    is_broken: bool = False


@dataclass
class Look:
    """A task's view of a result, which it may have written to."""

    place: Range
    data: bytearray
    views: list[memoryview] = field(default_factory=list)


class StoreMachine(RuleBasedStateMachine):
    """A node's memory and disk, and a worker that looks at what is there."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="zc-machine-")
        self.arena, self.slabs = Arena(LIMIT, SLAB), Slabs()
        self.disk = SpillFolder(Path(self.folder.name), DISK_LIMIT, SLAB)
        self.reader = SlabReader()
        self.entries: dict[int, Entry] = {}
        self.looks: list[Look] = []
        self.ended: deque[Range] = deque()
        self.count = 0

    def arena_of(self, place: Range) -> Arena:
        return self.disk.arena if self.is_on_disk(place) else self.arena

    def is_on_disk(self, place: Range) -> bool:
        return place.slab in self.disk.slabs

    def read(self, place: Range, size: int) -> bytes:
        slabs = self.disk.slabs if self.is_on_disk(place) else self.slabs
        return bytes(slabs.view(place)[:size])

    def all_of(self, on_disk: bool) -> list[int]:
        found = (n for n, entry in self.entries.items() if self.is_on_disk(entry.place) is on_disk)
        return sorted(found)

    @rule(size=st.integers(1, 3 * PAGE))
    def puts(self, size: int) -> None:
        place = self.arena.allocate(size)
        if place is None:
            return
        self.slabs.follow(self.arena)
        self.slabs.reserve(place)
        self.count += 1
        data = (b"%d." % self.count * size)[:size]
        self.slabs.view(place)[:size] = data
        self.entries[self.count] = Entry(data, place)

    @precondition(lambda self: self.all_of(on_disk=False))
    @rule(at=AT)
    def spills(self, at: int) -> None:
        """Copy to disk, then free in memory: there is no moment in which it is nowhere."""
        numbers = self.all_of(on_disk=False)
        entry = self.entries[numbers[at % len(numbers)]]
        place = self.disk.allocate(len(entry.data))
        if place is None:
            assert self.disk.used + len(entry.data) > DISK_LIMIT - SLAB - PAGE, "there was room"
            return
        self.disk.claim(place)
        source = self.slabs.view(entry.place)[: len(entry.data)]
        entry.sums = self.disk.write(place, source)
        source.release()
        self.arena.free(entry.place)
        entry.place = place

    @precondition(lambda self: self.all_of(on_disk=True))
    @rule(at=AT)
    def is_checked(self, at: int) -> None:
        numbers = self.all_of(on_disk=True)
        entry = self.entries[numbers[at % len(numbers)]]
        assert entry.sums is not None
        if entry.is_broken:
            with pytest.raises(OSError, match="not those that were written"):
                self.disk.check(entry.place, len(entry.data), entry.sums)
        else:
            self.disk.check(entry.place, len(entry.data), entry.sums)

    @precondition(lambda self: self.all_of(on_disk=True))
    @rule(at=AT, byte=AT)
    def goes_wrong(self, at: int, byte: int) -> None:
        """The disk gives back another byte than it was given."""
        numbers = self.all_of(on_disk=True)
        entry = self.entries[numbers[at % len(numbers)]]
        if entry.is_broken or any(look.place == entry.place for look in self.looks):
            return  # who looks sees the file: it would see the byte too
        place, at = entry.place, byte % len(entry.data)
        fd = self.disk.slabs.descriptor(place.slab)
        os.pwrite(fd, bytes([entry.data[at] ^ 1]), place.offset + at)
        entry.is_broken = True

    @precondition(lambda self: self.entries)
    @rule(at=AT)
    def looks_at(self, at: int) -> None:
        """A worker maps a result; it keeps the lease until the view is gone."""
        entry = self.entries[sorted(self.entries)[at % len(self.entries)]]
        if entry.is_broken:
            return  # it is checked before anybody looks
        place = entry.place
        if place.slab not in self.reader:
            slabs = self.disk.slabs if self.is_on_disk(place) else self.slabs
            self.reader.add(place.slab, os.dup(slabs.descriptor(place.slab)))
        self.arena_of(place).lease(place, "w")
        view = self.reader.map_private(place, self.ended.append)
        assert bytes(view[: len(entry.data)]) == entry.data
        self.looks.append(Look(place, bytearray(entry.data), [view]))

    @precondition(lambda self: self.looks)
    @rule(at=AT, byte=AT)
    def writes_to_what_it_sees(self, at: int, byte: int) -> None:
        """Its own copy changes, and nothing else does."""
        look = self.looks[at % len(self.looks)]
        where = byte % len(look.data)
        look.data[where] ^= 0xFF
        look.views[0][where] = look.data[where]

    @precondition(lambda self: self.looks)
    @rule(at=AT)
    def looks_away(self, at: int) -> None:
        look = self.looks.pop(at % len(self.looks))
        look.views.clear()
        while self.ended:
            place = self.ended.popleft()
            self.arena_of(place).give_back(place, "w")

    @precondition(lambda self: self.looks)
    @rule()
    def worker_ends(self) -> None:
        """All it looked at is free, also what nobody heard of."""
        self.looks.clear()
        self.ended.clear()
        for arena in (self.arena, self.disk.arena):
            arena.drop_holder("w")
        self.reader.close()
        self.reader = SlabReader()

    @precondition(lambda self: self.entries)
    @rule(at=AT)
    def frees(self, at: int) -> None:
        entry = self.entries.pop(sorted(self.entries)[at % len(self.entries)])
        if self.is_on_disk(entry.place):
            self.disk.free(entry.place)
        else:
            self.arena.free(entry.place)

    @rule()
    def tidies(self) -> None:
        self.arena.trim()
        self.slabs.follow(self.arena)
        self.disk.tidy()
        for slab in list(self.reader._fds):
            if slab not in self.slabs and slab not in self.disk.slabs:
                self.reader.forget(slab)

    @invariant()
    def everybody_sees_their_own(self) -> None:
        if not hasattr(self, "entries"):
            return
        self.arena.check()
        self.disk.arena.check()
        for number, entry in self.entries.items():
            if not entry.is_broken:
                assert self.read(entry.place, len(entry.data)) == entry.data, number
        for look in self.looks:
            assert bytes(look.views[0][: len(look.data)]) == look.data
        assert os.listdir(self.folder.name) == [], "a file has a name"

    def teardown(self) -> None:
        if not hasattr(self, "entries"):
            return
        while self.entries:
            self.frees(0)
        while self.looks:
            self.looks_away(0)
        self.tidies()
        for arena in (self.arena, self.disk.arena):
            known = arena.statistics()
            assert (known.used, known.leased, known.waiting, known.slabs) == (0, 0, 0, 0)
        self.reader.close()
        self.disk.close()
        self.slabs.close()
        self.folder.cleanup()


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None),
    )


def test_a_store_and_its_disk_give_back_what_they_got() -> None:
    run(40, 40)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_store_and_its_disk_give_back_what_they_got_for_long() -> None:
    run(200, 50)
