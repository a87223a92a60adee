"""The node's store: room, leases, parts, and a limit that holds."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from zcluster.core.node.records import Result
from zcluster.protocol.blobs import Parts
from zcluster.protocol.objects import load, plan
from zcluster.servers.memory import StoreMemory, open_disk
from zcluster.storage.arena import Range

MIB = 1 << 20


class Store(StoreMemory):
    """A store that keeps what it has told of slabs."""

    def __init__(self, limit: int) -> None:
        self.told: list[tuple[int, int]] = []
        super().__init__(limit, lambda slab, fd: self.told.append((slab, fd)))


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store(16 * MIB)
    yield made
    made.close()


def kept(store: Store, value: object) -> Result:
    """Return a value as a result in the store."""
    planned = plan(value)
    place = store.allocate(planned.size)
    assert place is not None
    planned.write_into(store.writable(place, planned.size))
    return Result(planned.size, place=place)


def test_what_is_written_is_what_is_seen(store: Store) -> None:
    first, second = store.allocate(10), store.allocate(5000)
    assert first is not None
    assert second is not None
    store.writable(first, 10)[:] = b"0123456789"
    store.writable(second, 5000)[:] = b"x" * 5000
    assert bytes(store.view(Result(10, place=first))) == b"0123456789"
    assert bytes(store.view(Result(5000, place=second))) == b"x" * 5000
    assert bytes(store.view(Result(3, b"abc"))) == b"abc"
    assert store.used == first.length + second.length


def test_a_slab_is_told_before_a_range_of_it_is_given_out(store: Store) -> None:
    assert store.descriptors() == []
    place = store.allocate(1)
    assert place is not None
    assert [slab for slab, _ in store.told] == [place.slab]
    assert store.descriptors() == store.told
    fd = store.told[0][1]
    store.writable(place, 1)[:] = b"!"
    assert os.pread(fd, 1, place.offset) == b"!"
    store.allocate(1)
    assert len(store.told) == 1  # the same slab


def test_the_limit_is_an_answer_and_not_an_error(store: Store) -> None:
    assert store.allocate(17 * MIB) is None
    places = []
    while (place := store.allocate(MIB)) is not None:
        places.append(place)
    assert len(places) == 16
    assert store.used == 16 * MIB
    store.free(places.pop())
    assert store.allocate(MIB) is not None
    assert store.allocate(MIB) is None


def test_nothing_takes_room_of_its_own(store: Store) -> None:
    """A blob of no bytes has a place like any other."""
    place = store.allocate(0)
    assert place is not None
    assert len(store.writable(place, 0)) == 0
    store.free(place)
    assert store.used == 0


def test_a_range_is_used_again_when_the_last_lease_on_it_has_ended(store: Store) -> None:
    place = store.allocate(16 * MIB)
    assert place is not None
    store.lease(place, 1)
    store.lease(place, b"client")
    store.lease(place, b"client")
    store.free(place)
    holders: tuple[int | bytes, ...] = (1, 1, b"client")  # the second time it has none
    for holder in holders:
        store.give_back(place, holder)
        assert store.allocate(MIB) is None
    store.drop_holder(b"client")
    assert store.used == 0
    assert store.allocate(MIB) is not None


def test_leases_that_never_were_are_no_error(store: Store) -> None:
    """What a process says of its leases may be nonsense, or late."""
    store.give_back(Range(7, 1 << 62, -5), b"stranger")
    store.drop_holder(b"stranger")
    place = store.allocate(1)
    assert place is not None
    store.lease(place, b"client")
    store.give_back(Range(place.slab, place.offset, place.length + 4096), b"client")
    store.free(place)
    assert store.used == place.length


# ---------------------------------------------------------------------------------- parts


def test_a_small_part_is_cut_into_the_heap(store: Store) -> None:
    whole = kept(store, np.arange(100_000).reshape(100, 1000))
    used = store.used
    part = store.cut(whole, 3, [10, 12, 1, 0, 1000, 500])
    assert part is not None
    assert part.blob is not None
    assert part.lent  # it can be cut again, here or elsewhere
    assert part.size == len(part.blob)
    assert load(part.blob).tolist() == [[10_000, 10_500], [11_000, 11_500]]
    assert store.used == used


def test_a_larger_part_is_cut_into_the_store(store: Store) -> None:
    whole = kept(store, np.arange(1_000_000))
    used = store.used
    part = store.cut(whole, 3, [0, 50_000, 2])
    assert part is not None
    assert part.place is not None
    assert part.lent
    assert (load(store.view(part)) == np.arange(0, 50_000, 2)).all()
    assert store.used == used + part.place.length
    store.free(part.place)
    assert store.used == used


def test_a_large_part_is_cut_by_who_takes_it(store: Store) -> None:
    """It would be there twice, and one process would copy for all workers of the node."""
    whole = kept(store, np.arange(1_000_000))
    used = store.used
    assert store.cut(whole, 3, [0, 1_000_000, 2]) is None
    assert store.used == used


def test_a_part_of_a_parted_result_is_one_of_its_blobs(store: Store) -> None:
    whole = kept(store, Parts([b"first", "second", np.arange(30_000)]))
    parts = [store.cut(whole, 1, [number]) for number in range(3)]
    values = [load(store.view(part)) for part in parts if part is not None]
    assert values[:2] == [b"first", "second"]
    assert values[2].sum() == sum(range(30_000))
    small = store.cut(Result(3, plan(Parts(["a", "b"])).tobytes()), 1, [1])
    assert small is not None
    assert load(store.view(small)) == "b"


def test_what_cannot_be_cut_by_bytes_is_no_part(store: Store) -> None:
    pickled = Result(0, plan({"a": 1}).tobytes())
    assert store.cut(pickled, 1, [0]) is None
    assert store.cut(kept(store, np.arange(10)), 1, [0]) is None  # an array has no parts
    assert store.cut(kept(store, Parts([1, 2])), 3, [0, 1, 1]) is None  # parts are no array
    assert store.cut(Result(5, worker=0), 1, [0]) is None  # in a worker's heap


def test_a_part_for_which_there_is_no_room_is_no_part(store: Store) -> None:
    whole = kept(store, np.zeros(10 * MIB, "u1"))
    for size in (MIB, 4096):
        while store.allocate(size):
            pass
    assert store.cut(whole, 3, [0, 200_000, 1]) is None
    assert store.cut(whole, 3, [0, 100, 1]) is not None  # the heap has room


@pytest.mark.parametrize(
    ("kind", "selection"), [(2, [0]), (1, []), (1, [-1]), (1, [3]), (3, [0, 1]), (3, [0, 1, 0])]
)
def test_a_part_that_is_not_there_is_no_part(store: Store, kind: int, selection: list[int]) -> None:
    """The worker that takes it gets the whole, and its task fails with the reason."""
    whole = kept(store, Parts([1, 2, 3]))
    assert store.cut(whole, kind, selection) is None


@pytest.mark.parametrize(
    "shape", [(2**40, 2**40), (1,) * 70, (2**70,)], ids=["huge", "deep", "odd"]
)
@pytest.mark.parametrize("itemsize", [0, 8, 2**40])
def test_a_header_that_a_broken_worker_wrote_breaks_no_more(
    store: Store, shape: tuple[int, ...], itemsize: int
) -> None:
    header = msgspec.msgpack.encode(["|V8", itemsize, [min(n, 2**63) for n in shape], "C"])
    blob = b"ZB\x01\x01" + struct.pack("<I", len(header)) + header + bytes(4096)
    part = store.cut(Result(len(blob), blob), 3, [0, 1, 1])
    assert part is None or part.size < 200  # items of no size at all are not wrong


def test_closing_gives_the_memory_back() -> None:
    before = set(os.listdir("/dev/fd"))
    store = Store(MIB)
    place = store.allocate(1)
    assert place is not None
    store.view(Result(1, place=place)).release()
    store.close()
    assert set(os.listdir("/dev/fd")) == before
    assert store.descriptors() == []


# ------------------------------------------------------------------------------- on disk


@pytest.fixture
def both(tmp_path: Path) -> Iterator[StoreMemory]:
    """Return a store with a disk."""
    disk, reason = open_disk(tmp_path, tmp_path)
    assert reason == ""
    made = StoreMemory(16 * MIB, lambda slab, fd: None, disk)
    yield made
    made.close()


def test_ranges_on_disk_are_used_as_those_in_memory(both: StoreMemory) -> None:
    here, there = both.allocate(1000), both.allocate_on_disk(1000)
    assert here is not None
    assert there is not None
    assert [slab for slab, _ in both.descriptors()] == [here.slab, there.slab]
    for place, byte in ((here, b"m"), (there, b"d")):
        both.writable(place, 1000)[:] = byte * 1000
        assert bytes(both.view(Result(1000, place=place))) == byte * 1000
        both.lease(place, b"reader")
        assert both.is_leased(place)
        both.free(place)
    assert (both.used, both.spilled) == (4096, 4096)
    both.drop_holder(b"reader")
    assert (both.used, both.spilled) == (0, 0)


def test_a_lease_on_disk_keeps_the_range(both: StoreMemory) -> None:
    place = both.allocate_on_disk(1000)
    assert place is not None
    both.lease(place, 3)
    both.free(place)
    assert both.spilled == 4096
    both.give_back(place, 3)
    assert both.spilled == 0
    assert both.descriptors() == []  # the file went with the last range


def test_without_a_disk_there_is_no_room_on_it(store: Store) -> None:
    assert not store.has_disk
    assert store.allocate_on_disk(1) is None
    assert (store.spilled, store.disk_space()) == (0, "")


def test_a_disk_where_nothing_can_be_written_is_none(tmp_path: Path) -> None:
    disk, reason = open_disk(tmp_path / "none", tmp_path)
    assert disk is None
    assert "cannot make a file in" in reason


def test_a_machine_that_is_full_has_no_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said when room is asked for, and not by SIGBUS when that is written to."""

    def refuse(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        assert store.allocate(1000) is None
    assert store.used == 0
    assert store.allocate(1000) is not None


@pytest.mark.skipif(not hasattr(mmap, "MADV_REMOVE"), reason="Linux gives memory back at once")
def test_memory_without_results_goes_back_to_the_system(store: Store) -> None:
    places = [store.allocate(MIB) for _ in range(8)]
    for number, place in enumerate(places):
        assert place is not None
        store.writable(place, MIB)[:] = bytes([number + 1]) * MIB
    (_, fd), *_ = store.told
    full = os.fstat(fd).st_blocks * 512
    assert full >= 8 * MIB
    for place in places[:6]:
        assert place is not None
        store.free(place)
    store.release()
    assert os.fstat(fd).st_blocks * 512 <= full - 6 * MIB
    assert places[7] is not None
    assert bytes(store.view(Result(MIB, place=places[7]))) == b"\x08" * MIB
    again = store.allocate(6 * MIB)  # claimed before anybody writes
    assert again is not None
    assert os.fstat(fd).st_blocks * 512 >= full
    assert bytes(store.writable(again, 6 * MIB)[:100]) == bytes(100)
