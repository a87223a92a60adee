"""The pretend store refuses what a real one must not do, and its disk shows what it changed."""

from __future__ import annotations

import random

import pytest

from zcluster.storage.arena import Range
from zcluster.storage.disk import DiskJob, is_on_disk
from zcluster.testing.stores import Storage, Store


def written(store: Store, blob: bytes) -> Range:
    place = store.allocate(len(blob))
    assert place is not None
    store.bytes[place] = blob
    return place


def test_what_somebody_looks_at_stays_until_it_is_given_back() -> None:
    store = Store(Storage(limit=10))
    place = written(store, b"0123456789")
    assert store.allocate(1) is None
    store.lease(place, 3)
    store.free(place)
    assert store.bytes[place] == b"0123456789"
    with pytest.raises(AssertionError, match="after its end"):
        store.lease(place, 4)
    store.give_back(place, 3)
    assert store.used == 0
    with pytest.raises(AssertionError, match="too often"):
        store.give_back(place, 3)


def test_a_disk_gives_back_what_was_written_or_the_checksum_shows_it() -> None:
    store = Store(Storage(space=1000))
    chance = random.Random(1)
    for flips in (0.0, 1.0):
        store.disk_flips = flips
        source = written(store, b"right")
        place = store.allocate_on_disk(5)
        assert place is not None
        assert is_on_disk(place)
        sums, error, _ = store.do(DiskJob(1, "write", place, 5, source), chance)
        assert error == ""
        assert (store.bytes[place] == b"right") is not bool(flips)
        error = store.do(DiskJob(2, "check", place, 5, sums=tuple(sums)), chance)[1]
        assert bool(error) is bool(flips)


def test_a_disk_is_full_when_space_is_claimed_and_may_give_errors() -> None:
    store = Store(Storage(space=8))
    chance = random.Random(1)
    first, second = store.allocate_on_disk(5), store.allocate_on_disk(5)
    assert first is not None
    assert second is not None
    assert store.do(DiskJob(1, "claim", second, 5), chance)[1:] == (
        "10 of 8 bytes are in use",
        True,
    )
    store.free(first)
    assert store.do(DiskJob(2, "claim", second, 5), chance) == ([], "", False)
    store.disk_errors = 1.0
    assert store.do(DiskJob(3, "sum", second, 5), chance)[1:] == ("the disk gave an error", False)
    assert Store().allocate_on_disk(5) is None


def test_only_a_store_without_an_ample_disk_is_tight() -> None:
    assert not Store().is_tight
    assert not Store(Storage(limit=100, space=1 << 30)).is_tight
    assert Store(Storage(limit=100)).is_tight
    assert Store(Storage(limit=100, space=100)).is_tight


def test_what_could_not_be_written_to_disk_is_not_looked_for_there() -> None:
    store = Store(Storage(space=1000))
    place, source = store.allocate_on_disk(5), written(store, b"right")
    assert place is not None
    store.disk_errors = 1.0
    assert store.do(DiskJob(1, "write", place, 5, source), random.Random(1))[1]
    store.disk_errors = 0.0
    with pytest.raises(AssertionError, match="was never written"):
        store.do(DiskJob(2, "check", place, 5, None, (0,)), random.Random(1))


def test_a_range_is_kept_until_all_who_look_at_it_have_given_it_back() -> None:
    store = Store(Storage(space=1000))
    place = written(store, b"0123456789")
    on_disk = store.allocate_on_disk(7)
    assert on_disk is not None
    assert (store.used, store.spilled) == (10, 7)
    store.lease(place, 1)
    store.lease(place, 1)
    store.lease(place, 2)
    store.free(place)
    store.free(on_disk)
    assert (store.used, store.spilled) == (10, 0)
    store.give_back(place, 1)
    store.drop_holder(2)
    assert store.is_leased(place)
    store.give_back(place, 1)
    assert not store.is_leased(place)
    assert (store.used, store.bytes) == (0, {})
    store.release()
