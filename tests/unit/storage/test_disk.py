"""Ranges on disk are told from ranges in memory by their slab alone."""

from __future__ import annotations

from zcluster.storage.arena import Arena
from zcluster.storage.disk import FIRST_SLAB, is_on_disk


def test_slabs_of_an_arena_on_disk_are_on_disk() -> None:
    memory, disk = Arena(1 << 20), Arena(1 << 20, first_slab=FIRST_SLAB)
    here, there = memory.allocate(1), disk.allocate(1)
    assert here is not None
    assert there is not None
    assert not is_on_disk(here)
    assert is_on_disk(there)
    assert disk.new_slabs[0].slab == FIRST_SLAB
