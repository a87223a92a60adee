"""Inputs on their way into calls, and results held in a worker's heap."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from zcluster.errors import ClusterError, ProtocolError
from zcluster.protocol.objects import dumps_small, load, plan
from zcluster.protocol.selections import Box, Part
from zcluster.servers.values import MISSING, Lease, Values, load_own
from zcluster.storage.arena import Arena, Range
from zcluster.storage.slabs import SlabReader, Slabs


@dataclass
class Store:
    """The nanny's side of a store, and values that can look into it."""

    arena: Arena
    slabs: Slabs
    values: Values
    asked: list[int]

    def put(self, value: object) -> tuple[int, int, int]:
        planned = plan(value)
        where = self.arena.allocate(planned.size)
        assert where is not None
        self.slabs.follow(self.arena)
        self.slabs.reserve(where)
        planned.write_into(self.slabs.view(where))
        return where.slab, where.offset, planned.size

    def lease(self, value: object, uses: int) -> Lease:
        return Lease(self.put(value), uses, self.values.returns)


@pytest.fixture
def store() -> Iterator[Store]:
    slabs = Slabs()
    asked: list[int] = []

    def descriptor(slab: int) -> int:
        asked.append(slab)
        return os.dup(slabs.descriptor(slab))

    made = Store(Arena(limit=64 << 20), slabs, Values(SlabReader(), descriptor), asked)
    yield made
    made.values.close()
    slabs.close()


# --- leases


def test_a_lease_returns_at_the_last_of_its_ends() -> None:
    returns: deque[tuple[int, int, int]] = deque()
    lease = Lease((1, 2, 3), 2, returns)
    lease.end()
    assert not returns
    lease.end()
    assert list(returns) == [(1, 2, 3)]


def test_a_lease_that_nobody_uses_returns_at_once() -> None:
    returns: deque[tuple[int, int, int]] = deque()
    Lease((1, 2, 3), 0, returns)
    assert list(returns) == [(1, 2, 3)]


def test_ends_in_many_threads_are_all_counted() -> None:
    returns: deque[tuple[int, int, int]] = deque()
    lease = Lease((1, 2, 3), 4000, returns)

    def end() -> None:
        for _ in range(1000):
            lease.end()

    threads = [threading.Thread(target=end) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(returns) == [(1, 2, 3)]


# --- the store


def test_an_input_from_the_store_is_writable_and_harms_nobody(store: Store) -> None:
    lease = store.lease(np.arange(1000), uses=2)
    first = store.values.open(lease, b"")
    first[:] = -1
    second = store.values.open(lease, b"")
    assert second[5] == 5
    assert store.asked == [lease.place[0]], "the descriptor is asked for once"


def test_the_lease_returns_when_the_last_array_on_it_dies(store: Store) -> None:
    lease = store.lease(np.arange(1000), uses=1)
    array = store.values.open(lease, b"")
    part = array[::2]
    del array
    gc.collect()
    assert not store.values.returns
    del part
    gc.collect()
    assert list(store.values.returns) == [lease.place]


def test_a_value_that_copies_gives_the_lease_back_at_once(store: Store) -> None:
    lease = store.lease(list(range(5000)), uses=1)
    value = store.values.open(lease, b"")
    assert value == list(range(5000))
    assert list(store.values.returns) == [lease.place]


def test_a_raw_input_is_the_blob(store: Store) -> None:
    lease = store.lease([1, 2], uses=1)
    assert load(store.values.open(lease, b"", raw=True)) == [1, 2]


def test_a_box_whose_rows_lie_apart_is_copied_and_the_lease_returns(store: Store) -> None:
    whole = np.arange(40_000.0).reshape(200, 200)
    lease = store.lease(whole, 1)
    part = store.values.open_part(lease, b"", Box(((0, 200, 1), (50, 100, 2))))
    assert list(store.values.returns) == [lease.place]
    assert (part == whole[:, 50:100:2]).all()
    part[:] = 0  # its own
    assert (load(store.slabs.view(Range(*lease.place))) == whole).all()


def test_other_boxes_are_views_that_keep_the_lease(store: Store) -> None:
    whole = np.arange(40_000.0).reshape(200, 200)
    lease = store.lease(whole, 1)
    part = store.values.open_part(lease, b"", Box(((10, 20, 1), (0, 200, 1))))
    assert (part == whole[10:20]).all()
    assert not store.values.returns
    del part
    gc.collect()
    assert list(store.values.returns) == [lease.place]


@pytest.mark.parametrize(
    ("value", "selection"),
    [
        ([1, np.arange(20_000)], Box(((0, 1, 1),))),
        (np.arange(20_000), Box(((0, 1, 1), (0, 1, 1)))),
        (np.arange(20_000), Part(1)),
    ],
)
def test_a_part_that_is_not_there_is_an_error_and_the_lease_returns(
    store: Store, value: Any, selection: Any
) -> None:
    lease = store.lease(value, 1)
    with pytest.raises(ProtocolError, match="was asked of"):
        store.values.open_part(lease, b"", selection)
    gc.collect()
    assert list(store.values.returns) == [lease.place]


def test_a_part_of_what_came_with_the_message(store: Store) -> None:
    blob = plan(np.arange(6).reshape(2, 3)).tobytes()
    part = store.values.open_part((0, len(blob)), blob, Box(((0, 2, 1), (1, 2, 1))))
    assert part.tolist() == [[1], [4]]


def test_a_part_of_what_cannot_be_mapped_returns_the_lease() -> None:
    values = Values(SlabReader(), None)
    lease = Lease((3, 0, 4096), 1, values.returns)
    with pytest.raises(ClusterError, match="without a door"):
        values.open_part(lease, b"", Box(((0, 1, 1),)))
    assert list(values.returns) == [(3, 0, 4096)]


def test_without_a_door_an_input_in_the_store_is_refused_and_its_lease_returned() -> None:
    values = Values(SlabReader(), None)
    lease = Lease((4, 0, 4096), 1, values.returns)
    with pytest.raises(ClusterError, match="slab 4"):
        values.open(lease, b"")
    assert list(values.returns) == [(4, 0, 4096)]


def test_a_result_is_written_where_the_nanny_said(store: Store) -> None:
    planned = plan(np.arange(4096))
    where = store.arena.allocate(planned.size)
    assert where is not None
    store.slabs.follow(store.arena)
    store.slabs.reserve(where)
    store.values.write((where.slab, where.offset, where.length), planned)
    assert load(store.slabs.view(Range(*where)))[4095] == 4095


# --- inline


def test_inline_inputs_are_each_loaded_anew() -> None:
    values = Values(SlabReader(), None)
    frame = b"xx" + pickle.dumps([1], 5)
    first = values.open((2, len(frame)), frame)
    first.append(2)
    assert values.open((2, len(frame)), frame) == [1]


def test_small_arrays_are_writable_like_large_ones() -> None:
    blob = dumps_small(np.arange(4), 16384)
    assert blob is not None
    array = load_own(blob)
    array[0] = 9
    assert load_own(blob)[0] == 0


# --- held values


def held(value: object, uses: int) -> Values:
    values = Values(SlabReader(), None)
    assert values.hold(1, value, uses, None, None)
    return values


def test_the_only_consumer_gets_the_live_object() -> None:
    value = [object()]
    values = held(value, 1)
    assert values.take(1) is value
    assert values.take(1) is MISSING
    assert values.held == {}


@pytest.mark.parametrize("value", [[1, 2], {"a": [1]}, np.arange(3000), bytearray(b"xy")])
def test_each_of_several_consumers_gets_an_object_of_its_own(value: Any) -> None:
    values = held(value, 3)
    got = [values.take(1) for _ in range(3)]
    assert len({id(each) for each in (*got, value)}) == 4
    for each in got:
        np.testing.assert_equal(each, value)
    if isinstance(value, np.ndarray):
        for each in got:
            each[0] += 1
        assert [each[0] for each in got] == [1, 1, 1]
    assert values.held == {}


@pytest.mark.parametrize("value", [5, "text", None, 2.5, np.float64(3)])
def test_what_cannot_change_is_shared(value: object) -> None:
    values = held(value, 2)
    assert values.take(1) is value
    assert values.take(1) is value
    assert values.take(1) is MISSING


def test_a_numpy_record_can_change_and_is_copied() -> None:
    record = np.zeros(1, dtype=[("a", "i8")])[0]
    values = held(record, 2)
    values.take(1)["a"] = 7
    assert values.take(1)["a"] == 0


def test_what_cannot_be_pickled_is_shared_until_discarded() -> None:
    values = Values(SlabReader(), None)
    lock = threading.Lock()
    assert not values.hold(1, lock, 2, None, None)
    assert [values.take(1) for _ in range(5)] == [lock] * 5
    values.discard([1, 99])
    assert values.take(1) is MISSING


def test_a_blob_that_exists_is_not_made_again() -> None:
    """The value's state at the time of the report is what consumers get."""
    values = Values(SlabReader(), None)
    value = [1]
    values.hold(1, value, 2, dumps_small(value, 100), None)
    value.append(2)
    assert [values.take(1), values.take(1)] == [[1], [1]]
    values.hold(2, np.arange(9), 2, None, plan(np.arange(9)))
    assert values.take(2)[8] == 8


def test_two_slots_taking_at_once_both_get_the_value() -> None:
    values = held([1], 2000)
    got: list[Any] = []
    threads = [
        threading.Thread(target=lambda: got.extend(values.take(1) for _ in range(500)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[1]] * 2000
    assert values.held == {}
