"""The memory: claimed before use, shared for writing, private for reading, given back."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from zcluster.errors import InvalidArgument, InvariantError, StoreFull
from zcluster.storage import slabs as slabs_module
from zcluster.storage.arena import Arena, NewSlab, Range
from zcluster.storage.slabs import STEP, SlabFile, SlabReader, Slabs

PAGE = 4096
SLAB = 64 * PAGE
linux = pytest.mark.skipif(sys.platform != "linux", reason="memfd, seals and /proc are Linux's")


@pytest.fixture(params=["memory", "file"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """Both kinds of slab."""
    return None if request.param == "memory" else str(tmp_path)


@pytest.fixture
def slabs(folder: str | None) -> Iterator[Slabs]:
    slabs = Slabs(folder)
    slabs.add(0, SLAB)
    yield slabs
    slabs.close()


@pytest.fixture
def reader(slabs: Slabs) -> Iterator[SlabReader]:
    reader = SlabReader()
    reader.add(0, os.dup(slabs.descriptor(0)))
    yield reader
    reader.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def bytes_on_disk(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


# --- SlabFile ---------------------------------------------------------------------


def test_a_slab_has_its_size_but_no_memory(folder: str | None) -> None:
    """A store that holds one small result must not cost a quarter of a GiB."""
    file = SlabFile.create(10 * STEP, folder)
    assert os.fstat(file.fd).st_size == 10 * STEP
    assert bytes_on_disk(file.fd) == 0
    file.reserve(1)
    assert STEP <= bytes_on_disk(file.fd) < 2 * STEP
    file.reserve(STEP)
    assert file.reserved == STEP
    file.reserve(10 * STEP)
    assert bytes_on_disk(file.fd) >= 10 * STEP
    file.close()
    file.close()


def test_the_last_step_ends_with_the_slab(folder: str | None) -> None:
    """Claiming must not make the file longer than what others have mapped."""
    file = SlabFile.create(STEP + PAGE, folder)
    file.reserve(STEP + 1)
    assert file.reserved == STEP + PAGE
    with pytest.raises(InvariantError, match="stay inside"):
        file.reserve(STEP + PAGE + 1)
    file.close()


def test_no_name_is_left(tmp_path: Path) -> None:
    """A killed process leaves nothing to sweep."""
    file = SlabFile.create(SLAB, str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    file.close()


def test_an_open_folder_is_refused(tmp_path: Path) -> None:
    """Another user could open the file before it is unlinked."""
    tmp_path.chmod(0o755)
    with pytest.raises(InvalidArgument, match="mode 0755"):
        SlabFile.create(SLAB, str(tmp_path))


def test_a_slab_of_nothing_is_refused() -> None:
    """The message says the size."""
    with pytest.raises(InvalidArgument, match="size is 0"):
        SlabFile.create(0)


@linux
def test_nobody_can_truncate_a_slab() -> None:
    """User code that does would kill the nanny with SIGBUS."""
    file = SlabFile.create(SLAB)
    for size in (0, 2 * SLAB):
        with pytest.raises(PermissionError):
            os.ftruncate(file.fd, size)
    file.close()


@linux
def test_a_full_machine_is_refused_with_the_systems_error() -> None:
    """An error now, not SIGBUS at a write later; and nothing counts as claimed."""
    system = os.statvfs("/dev/shm")
    total = system.f_blocks * system.f_frsize
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        file = SlabFile.create(total + 2 * STEP, folder)
    file.reserve(STEP)
    # More than the whole file system: refused before a single page is taken.
    with pytest.raises(StoreFull, match="more bytes for the store: No space left") as caught:
        file.reserve(total + 2 * STEP)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert file.reserved == STEP
    assert bytes_on_disk(file.fd) == STEP
    file.close()


@linux
def test_a_slab_that_cannot_be_made_leaves_no_descriptor() -> None:
    """The cause is the system's error, and the arena keeps its wish for the next call."""
    arena, slabs = Arena(limit=1 << 62, slab_size=SLAB), Slabs()
    before = open_descriptors()
    assert arena.allocate(PAGE) is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(StoreFull, match="no new slab of 262144 bytes in memory") as caught:
            slabs.follow(arena)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EMFILE
    assert open_descriptors() == before
    assert arena.new_slabs == [NewSlab(0, SLAB)]
    assert slabs.follow(arena) == [0]
    slabs.close()


@linux
def test_a_size_the_system_refuses_leaves_no_descriptor() -> None:
    """The file was opened before it was refused its size."""
    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, hard))
    try:
        with pytest.raises(StoreFull, match="File too large"):
            SlabFile.create(SLAB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert open_descriptors() == before


# --- Slabs ------------------------------------------------------------------------


def test_slabs_follow_the_arena(folder: str | None) -> None:
    """What the arena adds is made, what it drops is closed, and it is told so."""
    arena, slabs = Arena(limit=3 * SLAB, slab_size=SLAB), Slabs(folder)
    first, second = arena.allocate(SLAB), arena.allocate(2 * SLAB)
    assert first is not None
    assert second is not None
    assert slabs.follow(arena) == [0, 1]
    assert slabs.follow(arena) == []
    slabs.view(second)[-1] = 7
    arena.free(second)
    arena.trim()
    assert slabs.follow(arena) == []
    assert 0 in slabs
    assert 1 not in slabs
    with pytest.raises(InvariantError, match=r"slab 1 is not known here \(known: \[0\]\)"):
        slabs.view(second)
    slabs.close()
    assert 0 not in slabs


def test_a_dropped_slab_frees_memory_that_others_have_open(slabs: Slabs) -> None:
    """A worker that keeps a descriptor must not keep the memory."""
    elsewhere = os.dup(slabs.descriptor(0))
    slabs.reserve(Range(0, 0, SLAB))
    assert bytes_on_disk(elsewhere) >= SLAB
    slabs.drop(0)
    if sys.platform == "linux":
        assert bytes_on_disk(elsewhere) < PAGE * 2
    os.close(elsewhere)


def test_views_survive_the_close(slabs: Slabs) -> None:
    """A view that someone still sends from must not become a crash."""
    view = slabs.view(Range(0, PAGE, PAGE))
    view[:2] = b"ok"
    slabs.close()
    assert bytes(view[:2]) == b"ok"


@pytest.mark.parametrize(
    "range_",
    [Range(0, 0, SLAB + PAGE), Range(0, SLAB, PAGE), Range(0, -PAGE, PAGE), Range(0, 0, 0)],
)
def test_ranges_outside_the_slab_are_refused(
    slabs: Slabs, reader: SlabReader, range_: Range
) -> None:
    """Touching them would be SIGBUS, or silently another result."""
    gone: deque[Range] = deque()
    with pytest.raises(InvariantError, match="not inside its slab"):
        slabs.view(range_)
    with pytest.raises(InvariantError, match="not inside its slab"):
        reader.map_shared(range_)
    with pytest.raises(InvariantError, match="not inside its slab"):
        reader.map_private(range_, gone.append)
    assert not gone


def test_a_slab_number_is_used_once(slabs: Slabs, reader: SlabReader) -> None:
    """Replacing a slab under its number would show readers the wrong bytes."""
    with pytest.raises(InvariantError, match="slab 0 exists"):
        slabs.add(0, SLAB)
    with pytest.raises(InvariantError, match="slab 0 is known"):
        reader.add(0, slabs.descriptor(0))


# --- SlabReader -------------------------------------------------------------------


def test_what_a_worker_writes_the_nanny_and_others_read(slabs: Slabs, reader: SlabReader) -> None:
    """The way of a result."""
    range_ = Range(0, 3 * PAGE, 2 * PAGE)
    slabs.reserve(range_)
    reader.map_shared(range_)[:] = bytes(range(256)) * 32
    assert slabs.view(range_) == bytes(range(256)) * 32
    gone: deque[Range] = deque()
    assert reader.map_private(range_, gone.append) == bytes(range(256)) * 32
    assert slabs.view(Range(0, 0, 3 * PAGE)) == bytes(3 * PAGE)
    assert slabs.view(Range(0, 5 * PAGE, PAGE)) == bytes(PAGE)


def test_a_private_view_is_writable_and_nobody_sees_it(slabs: Slabs, reader: SlabReader) -> None:
    """Not the store, not the next task, not a task beside it in the same process."""
    range_ = Range(0, PAGE, 2 * PAGE)
    slabs.view(range_)[:] = b"a" * (2 * PAGE)
    gone: deque[Range] = deque()
    mine, other = (reader.map_private(range_, gone.append) for _ in range(2))
    assert not mine.readonly
    assert len(mine) == 2 * PAGE
    mine[10:13] = b"xyz"
    assert bytes(mine[9:14]) == b"axyza"
    for view in (other, slabs.view(range_), reader.map_private(range_, gone.append)):
        assert view == b"a" * (2 * PAGE)


def test_the_shared_mapping_is_made_once_per_slab(reader: SlabReader) -> None:
    """Pages written before need not be mapped again."""
    first = reader.map_shared(Range(0, 0, PAGE))
    assert reader.map_shared(Range(0, PAGE, PAGE)).obj is first.obj


def test_the_lease_returns_with_the_last_view(reader: SlabReader) -> None:
    """Slices and casts keep the memory; only the last one lets it go."""
    range_ = Range(0, PAGE, PAGE)
    gone: deque[Range] = deque()
    view = reader.map_private(range_, gone.append)
    part = view[5:10].cast("b")
    del view
    gc.collect()
    assert not gone
    del part
    assert list(gone) == [range_]


def test_arrays_keep_the_lease() -> None:
    """An array on the view, and views of that array, are views too."""
    numpy = pytest.importorskip("numpy")
    slabs, reader, gone = Slabs(), SlabReader(), deque[Range]()
    slabs.add(0, SLAB)
    reader.add(0, os.dup(slabs.descriptor(0)))
    range_ = Range(0, 0, PAGE)
    slabs.view(range_)[:] = bytes([1]) * PAGE
    array = numpy.frombuffer(reader.map_private(range_, gone.append), dtype="u1")
    part = array[::2].reshape(2, -1)
    array[:] = 3
    del array
    assert not gone
    slabs.view(range_)[:] = bytes([9]) * PAGE
    assert part.sum() == 3 * PAGE // 2
    del part
    assert list(gone) == [range_]
    reader.close()
    slabs.close()


def test_the_lease_returns_from_a_cycle_and_from_another_thread(reader: SlabReader) -> None:
    """Wherever the last view dies."""
    gone: deque[Range] = deque()
    cycle: list[object] = [reader.map_private(Range(0, 0, PAGE), gone.append)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert list(gone) == [Range(0, 0, PAGE)]
    box = [reader.map_private(Range(0, PAGE, PAGE), gone.append)]
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    assert gone[-1] == Range(0, PAGE, PAGE)


@linux
def test_mappings_need_no_descriptors_and_leave_none(reader: SlabReader) -> None:
    """A task with thousands of inputs must not run out of them."""
    before = open_descriptors()
    gone: deque[Range] = deque()
    views = [reader.map_private(Range(0, i % 64 * PAGE, PAGE), gone.append) for i in range(500)]
    assert open_descriptors() == before
    views.clear()
    assert len(gone) == 500


@linux
def test_a_mapping_that_fails_is_an_error_and_no_lease(tmp_path: Path) -> None:
    """A view of zeros instead would be a wrong answer."""
    reader, gone = SlabReader(), deque[Range]()
    path = tmp_path / "write-only"
    path.write_bytes(bytes(PAGE))
    reader.add(0, os.open(path, os.O_WRONLY))
    with pytest.raises(PermissionError, match="cannot map 4096 bytes"):
        reader.map_private(Range(0, 0, PAGE), gone.append)
    reader.close()
    assert not gone


def test_without_the_raw_call_mappings_work_too(
    slabs: Slabs, reader: SlabReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of other systems: private, writable, and the lease returns."""
    monkeypatch.setattr(slabs_module, "_raw_mmap", lambda: None)
    range_ = Range(0, 2 * mmap.ALLOCATIONGRANULARITY, PAGE)
    slabs.view(range_)[:3] = b"abc"
    gone: deque[Range] = deque()
    view = reader.map_private(range_, gone.append)
    view[1:2] = b"X"
    assert bytes(view[:3]) == b"aXc"
    assert bytes(slabs.view(range_)[:3]) == b"abc"
    del view
    assert list(gone) == [range_]


def test_without_fallocate_memory_is_claimed_by_writing(
    folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of macOS; what is there already must stay."""
    monkeypatch.delattr(os, "posix_fallocate")
    file = SlabFile.create(2 * STEP + PAGE, folder)
    file.reserve(1)
    os.pwrite(file.fd, b"kept", STEP - 4)
    file.reserve(2 * STEP + 1)
    assert bytes_on_disk(file.fd) >= 2 * STEP + PAGE
    assert os.pread(file.fd, 5, STEP - 4) == b"kept\0"
    assert os.fstat(file.fd).st_size == 2 * STEP + PAGE
    file.close()


def test_a_closed_reader_leaves_living_views_alone(reader: SlabReader, slabs: Slabs) -> None:
    """A task that is still running at the stop must not crash its worker."""
    gone: deque[Range] = deque()
    range_ = Range(0, 0, PAGE)
    slabs.view(range_)[:1] = b"v"
    view, shared = reader.map_private(range_, gone.append), reader.map_shared(range_)
    reader.close()
    reader.forget(0)
    assert 0 not in reader
    assert view[0] == shared[0] == ord("v")
    with pytest.raises(InvariantError, match="slab 0 is not known here"):
        reader.map_private(range_, gone.append)
    with pytest.raises(InvariantError, match="slab 0 is not known here"):
        reader.map_shared(range_)
    del view
    assert list(gone) == [range_]


@pytest.mark.processes
@pytest.mark.parametrize("keep", ["global", "cycle"])
def test_a_process_exits_silently_with_views_alive(keep: str) -> None:
    """At exit the callback would find a world half torn down; the end itself returns leases."""
    code = f"""
import gc, os
from zcluster.storage.arena import Range
from zcluster.storage.slabs import SlabReader, Slabs
gc.disable()  # or a collection may find the cycle before the end, as it should
slabs, reader = Slabs(), SlabReader()
slabs.add(0, {SLAB})
reader.add(0, os.dup(slabs.descriptor(0)))
def on_close(range_):
    raise RuntimeError("called at exit")
view = reader.map_private(Range(0, 0, {PAGE}), on_close)
if {keep!r} == "cycle":
    class Ring: pass
    ring = Ring(); ring.me, ring.view = ring, view
    del view, ring
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
