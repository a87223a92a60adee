"""Files without names: written, checked, given back; and the thread that does it."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zcluster.errors import OutOfDisk
from zcluster.storage.arena import Range
from zcluster.storage.disk import DiskJob, is_on_disk
from zcluster.storage.spill import CHUNK, DiskHelper, SpillFolder

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[SpillFolder]:
    made = SpillFolder(tmp_path, slab_size=8 * MIB)
    yield made
    made.close()


def place_for(folder: SpillFolder, size: int) -> Range:
    place = folder.allocate(size)
    assert place is not None
    folder.claim(place)
    return place


def pattern(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


@pytest.mark.parametrize("size", [1, 4095, CHUNK, CHUNK + 1, 2 * CHUNK + 77])
def test_what_is_written_is_read_back_and_mapped(folder: SpillFolder, size: int) -> None:
    data = pattern(size)
    place = place_for(folder, size)
    assert is_on_disk(place)
    sums = folder.write(place, memoryview(data))
    assert len(sums) == -(-size // CHUNK)
    folder.check(place, size, sums)
    assert folder.sum(place, size) == sums
    assert bytes(folder.slabs.view(place)[:size]) == data


@pytest.mark.parametrize("at", [0, CHUNK, 2 * CHUNK + 76])
def test_a_byte_that_changed_is_noticed(folder: SpillFolder, at: int) -> None:
    size = 2 * CHUNK + 77
    place = place_for(folder, size)
    sums = folder.write(place, memoryview(pattern(size)))
    fd = folder.slabs.descriptor(place.slab)
    (old,) = os.pread(fd, 1, place.offset + at)
    os.pwrite(fd, bytes([old ^ 1]), place.offset + at)
    first = at // CHUNK * CHUNK
    with pytest.raises(OSError, match=f"bytes {first} to .* are not those that were written"):
        folder.check(place, size, sums)


def test_a_file_that_was_cut_is_noticed(folder: SpillFolder) -> None:
    place = place_for(folder, MIB)
    sums = folder.write(place, memoryview(pattern(MIB)))
    os.ftruncate(folder.slabs.descriptor(place.slab), place.offset + 5)
    with pytest.raises(OSError, match="the file ends at byte 5 of a result of 1048576 bytes"):
        folder.check(place, MIB, sums)


def test_files_have_no_name_and_only_we_may_open_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for nameless in (True, False):
        if not nameless:
            monkeypatch.delattr(os, "O_TMPFILE", raising=False)
        folder = SpillFolder(tmp_path, slab_size=MIB)
        place = place_for(folder, 10)
        assert list(tmp_path.iterdir()) == []
        assert os.fstat(folder.slabs.descriptor(place.slab)).st_mode & 0o777 == 0o600
        folder.close()


def test_a_folder_where_no_file_can_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutOfDisk, match=r"not there.*--local-directory"):
        SpillFolder(tmp_path / "not there")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_goes_away_takes_nothing_along(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    folder = SpillFolder(inner, slab_size=MIB)
    place = place_for(folder, 1000)
    sums = folder.write(place, memoryview(pattern(1000)))
    inner.rmdir()
    folder.check(place, 1000, sums)
    assert folder.allocate(2 * MIB) is None  # that would be another file
    assert "No such file" in folder.space()
    folder.free(place)
    folder.close()


def test_the_limit_holds_and_says_so(tmp_path: Path) -> None:
    folder = SpillFolder(tmp_path, limit=3 * MIB, slab_size=MIB)
    places = [place_for(folder, MIB) for _ in range(3)]
    assert folder.allocate(1) is None
    assert f"{3 * MIB} of the {3 * MIB} that results may take are in use" in folder.space()
    folder.free(places[1])
    assert folder.allocate(MIB) is not None
    folder.close()


def test_space_is_given_back_when_much_is_unused(folder: SpillFolder) -> None:
    places = [place_for(folder, 8 * MIB) for _ in range(4)]
    for place in places:
        folder.write(place, memoryview(pattern(8 * MIB)))
    held = os.dup(folder.slabs.descriptor(places[0].slab))  # as a worker would
    try:
        for place in places:
            folder.free(place)
        assert os.fstat(held).st_blocks * 512 < MIB
        assert folder.used == 0
    finally:
        os.close(held)


def test_more_than_the_disk_has_is_refused_before_any_of_it_is_taken(folder: SpillFolder) -> None:
    """Or the whole disk would be full for a moment, and everybody's writes would fail."""
    system = os.statvfs(folder.folder)
    place = folder.allocate(2 * system.f_blocks * system.f_frsize)
    assert place is not None
    with pytest.raises(OutOfDisk, match=r"no space for \d+ bytes of results; .* bytes free"):
        folder.claim(place)
    assert os.fstat(folder.slabs.descriptor(place.slab)).st_blocks == 0
    folder.free(place)
    again = folder.allocate(6 * MIB)
    assert again is not None
    folder.claim(again)


def test_a_full_disk_is_an_error_of_the_claim(
    folder: SpillFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder.allocate(6 * MIB)
    assert place is not None

    def refuse(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(OutOfDisk, match=rf"no space for {6 * MIB} bytes .*No space.*free"):
            folder.claim(place)
    folder.claim(place)


def test_a_limit_on_files_leaves_no_room(folder: SpillFolder) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, hard))
    try:
        assert folder.allocate(6 * MIB) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert folder.allocate(6 * MIB) is not None


# --------------------------------------------------------------------------- the helper


class Helped:
    """A helper and its answers."""

    def __init__(self, folder: SpillFolder) -> None:
        self.answers: SimpleQueue[tuple[int, list[int], str, bool]] = SimpleQueue()
        self.helper = DiskHelper(folder, lambda *answer: self.answers.put(answer))
        self._ticket = 0

    def do(
        self, kind: str, place: Range, size: int, data: bytes = b"", sums: tuple[int, ...] = ()
    ) -> tuple[list[int], str, bool]:
        self._ticket += 1
        source = Range(0, 0, size) if kind == "write" else None
        job = DiskJob(self._ticket, kind, place, size, source, sums)
        self.helper.put(job, memoryview(data))
        ticket, *answer = self.answers.get(timeout=30)
        assert ticket == self._ticket
        return tuple(answer)  # type: ignore[return-value]


@pytest.fixture
def helped(folder: SpillFolder) -> Iterator[Helped]:
    made = Helped(folder)
    yield made
    made.helper.close()


def test_the_helper_writes_sums_and_checks(folder: SpillFolder, helped: Helped) -> None:
    data = pattern(MIB)
    place = folder.allocate(MIB)
    assert place is not None
    sums, error, is_full = helped.do("write", place, MIB, data)
    assert (error, is_full) == ("", False)
    assert helped.do("sum", place, MIB) == (sums, "", False)
    assert helped.do("check", place, MIB, sums=tuple(sums)) == (sums, "", False)
    other = folder.allocate(MIB)
    assert other is not None
    assert helped.do("claim", other, MIB) == ([], "", False)


def test_the_helper_says_what_is_wrong(folder: SpillFolder, helped: Helped, tmp_path: Path) -> None:
    place = place_for(folder, 100)
    sums, error, is_full = helped.do("check", place, 100, sums=(1,))
    assert (sums, is_full) == ([], False)
    assert error.startswith(f"{tmp_path}: bytes 0 to 100")


def test_what_somebody_waits_for_goes_before_writes(
    folder: SpillFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_for(folder, 100)
    begun, go = threading.Event(), threading.Event()
    done: SimpleQueue[int] = SimpleQueue()

    def write(*_: object) -> list[int]:
        begun.set()
        assert go.wait(30)
        return []

    monkeypatch.setattr(folder, "write", write)
    helper = DiskHelper(folder, lambda ticket, *_: done.put(ticket))
    helper.put(DiskJob(1, "write", place, 100, place))
    assert begun.wait(30)
    helper.put(DiskJob(2, "write", place, 100, place))
    helper.put(DiskJob(3, "sum", place, 100))
    go.set()
    order = [done.get(timeout=30) for _ in range(3)]
    helper.close()
    assert order == [1, 3, 2]


def test_its_end_leaves_what_was_not_begun(folder: SpillFolder) -> None:
    answers: list[int] = []
    helper = DiskHelper(folder, lambda ticket, *_: answers.append(ticket))
    helper.close()
    helper.put(DiskJob(1, "claim", Range(0, 0, 1), 1))
    assert answers == []


# ------------------------------------------------------------------------- as a whole


class SpillModel(RuleBasedStateMachine):
    """What is kept on disk is what a dict of bytes keeps, whatever goes and comes."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = SpillFolder(Path(tempfile.gettempdir()), 256 << 10, 64 << 10)
        self._model: dict[Range, tuple[bytes, list[int]]] = {}
        self._freed: dict[Range, tuple[bytes, list[int]]] = {}

    @rule(size=st.integers(1, 100_000), byte=st.integers(0, 255))
    def write(self, size: int, byte: int) -> None:
        place = self._folder.allocate(size)
        if place is None:
            return
        self._folder.claim(place)
        data = bytes([byte]) * size
        self._model[place] = (data, self._folder.write(place, memoryview(data)))

    def _some(self, at: int, table: dict[Range, tuple[bytes, list[int]]]) -> Range:
        return list(table)[at % len(table)]

    @precondition(lambda self: self._model)
    @rule(at=st.integers(0, 100))
    def free(self, at: int) -> None:
        place = self._some(at, self._model)
        del self._model[place]
        self._folder.free(place)

    @precondition(lambda self: self._model)
    @rule(at=st.integers(0, 100))
    def free_while_somebody_looks(self, at: int) -> None:
        place = self._some(at, self._model)
        self._folder.arena.lease(place, "reader")
        self._freed[place] = self._model.pop(place)
        self._folder.free(place)

    @precondition(lambda self: self._freed)
    @rule(at=st.integers(0, 100))
    def look_no_more(self, at: int) -> None:
        place = self._some(at, self._freed)
        del self._freed[place]
        assert self._folder.arena.give_back(place, "reader")
        self._folder.tidy()

    @invariant()
    def everything_is_there(self) -> None:
        for place, (data, sums) in (self._model | self._freed).items():
            self._folder.check(place, len(data), sums)
            assert self._folder.slabs.view(place)[: len(data)] == data
        known = (*self._model, *self._freed)
        assert self._folder.used == sum(place.length for place in known)
        self._folder.arena.check()

    def teardown(self) -> None:
        self._folder.close()


TestSpillModel = SpillModel.TestCase
TestSpillModel.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_jobs_of_many_threads_are_all_done(folder: SpillFolder, helped: Helped) -> None:
    places = [place_for(folder, 1000) for _ in range(40)]

    def put(first: int) -> None:
        for number in range(first, 40, 4):
            helped.helper.put(DiskJob(number, "sum", places[number], 1000))

    threads = [threading.Thread(target=put, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(helped.answers.get(timeout=30)[0] for _ in places) == list(range(40))
