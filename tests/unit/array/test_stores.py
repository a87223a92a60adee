"""Stores: what goes to other processes in their place, and locks."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zcluster.array.stores import (
    StoreLock,
    StoreReader,
    StoreWriter,
    box,
    is_mapped,
    lock_of,
    reference,
    regular,
)
from zcluster.errors import NotSerializable
from zcluster.protocol.tokens import tokenize

VALUES = np.arange(60.0).reshape(6, 10)


@pytest.fixture
def mapped_file(tmp_path: Path) -> Path:
    made = np.memmap(tmp_path / "values", "f8", "w+", shape=VALUES.shape)
    made[:] = VALUES
    made.flush()
    return tmp_path / "values"


def copied(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


class TestMappedFiles:
    @pytest.mark.parametrize("part", [np.s_[:], np.s_[2:, ::3], np.s_[::-1], np.s_[:, 4]], ids=str)
    def test_go_by_name(self, mapped_file: Path, part: Any) -> None:
        """The bytes stay in the file, of views too."""
        view = np.memmap(mapped_file, "f8", "r", shape=VALUES.shape)[part]
        reader = StoreReader(view)
        assert len(pickle.dumps(reader)) < 500
        there = copied(reader)((1, 2)[: view.ndim], (2, 2)[: view.ndim])
        index = np.s_[1:3, 2:4][: view.ndim]
        assert (there == VALUES[part][index]).all()

    def test_with_an_offset(self, mapped_file: Path) -> None:
        """Counted from the beginning of the file."""
        store = np.memmap(mapped_file, "f8", "r", 80, (5, 10))
        assert (copied(StoreReader(store))((0, 0), (1, 10)) == VALUES[1:2]).all()

    def test_are_written_by_name(self, mapped_file: Path) -> None:
        """What may be written is written there."""
        store = np.memmap(mapped_file, "f8", "r+", shape=VALUES.shape)
        copied(StoreWriter(store))(np.full((1, 2), -1.0), (2, 3))
        assert np.memmap(mapped_file, "f8", "r", shape=VALUES.shape)[2, 3:5].tolist() == [-1, -1]

    def test_which_count_as_such(self, mapped_file: Path) -> None:
        """A private map is not what the file is."""
        shape = VALUES.shape
        assert is_mapped(np.memmap(mapped_file, "f8", "r", shape=shape))
        assert not is_mapped(np.memmap(mapped_file, "f8", "c", shape=shape))
        assert not is_mapped(VALUES)
        assert reference(VALUES) is None


class TestReading:
    def test_ways_to_read(self) -> None:
        """Through a function, under a lock, within a region, as it is."""
        taken: list[Any] = []

        def getitem(store: Any, index: Any) -> Any:
            taken.append((index, lock.locked()))
            return store[index].tolist()

        lock = StoreLock()
        reader = StoreReader(VALUES, getitem, lock, False, (slice(2, 6), slice(1, None)))
        assert reader((1, 2), (1, 2)) == VALUES[3:4, 3:5].tolist()
        assert taken == [((slice(3, 4), slice(3, 5)), True)]
        assert not lock.locked()

    def test_a_name_in_place_of_the_store(self) -> None:
        """Readers of equal names are equal, whatever they read."""
        one, two = StoreReader(VALUES, name="n"), StoreReader(VALUES + 1, name="n")
        assert tokenize(one) == tokenize(two)
        assert tokenize(StoreReader(VALUES)) != tokenize(StoreReader(VALUES + 1))

    def test_boxes(self) -> None:
        """Slices that a region moves."""
        assert box((4,), (2,), None) == (slice(4, 6),)
        assert box((4,), (2,), (slice(None, 9),)) == (slice(4, 6),)


class TestWriting:
    def test_returns_what_is_there(self) -> None:
        """After it was turned into the dtype of the target."""
        target = np.zeros(4, int)
        assert StoreWriter(target, None, None, True)(np.array([1.7]), (2,)).tolist() == [1]
        assert StoreWriter(target)(np.array([5]), (0,)).tolist() == [0]
        assert target.tolist() == [5, 0, 1, 0]

    def test_memory_of_this_process_stays_here(self) -> None:
        """What another process would write, nobody would see."""
        with pytest.raises(NotSerializable, match="cannot be written by other processes"):
            pickle.dumps(StoreWriter(np.zeros(3)))

    def test_each_is_told_apart(self) -> None:
        """Storing twice is writing twice."""
        target = np.zeros(3)
        assert tokenize(StoreWriter(target)) != tokenize(StoreWriter(target))


class TestLocks:
    def test_copies_are_one(self) -> None:
        """In this process."""
        lock = StoreLock()
        with lock:
            assert copied(lock).locked()
            assert not StoreLock().locked()
        assert not copied(lock).locked()

    def test_what_users_say(self) -> None:
        """True, False, or one of theirs."""
        assert isinstance(lock_of(True), StoreLock)
        assert lock_of(False) is None
        mine = StoreLock()
        assert lock_of(mine) is mine


def test_regular_chunks() -> None:
    """The last may be shorter, not longer."""
    assert regular((3, 3, 3))
    assert regular((3,))
    assert not regular((3, 4))
