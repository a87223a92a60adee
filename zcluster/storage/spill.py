"""A node's results on disk: ranges of files without names, written and checked by a helper.

A `SpillFolder` hands out ranges of large files, as the store hands out ranges of shared
memory: an `Arena` says which, each file is a slab, and processes of this host map what
they read from its descriptor. So a result on disk is used where it is. Nobody has to
make room for it again, and one that is larger than all memory can be used at all; what
is read is kept in memory by the system for as long as it has no better use for it.

The files never have a name, or lose it before their first use: no end of the process,
however sudden, leaves one behind, and nobody can take one away. Space is claimed before
anything is written, so that a full disk is an error of that call and not of some later
write.

`DiskHelper` does what takes long in a thread of its own: claiming, copying out of the
store with a checksum for every few MiB, and reading back to compare them before anybody
else looks.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import tempfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

from zcluster.errors import OutOfDisk, StoreFull
from zcluster.storage.arena import PAGE, Arena, Range
from zcluster.storage.disk import FIRST_SLAB, DiskJob
from zcluster.storage.slabs import SlabFile, Slabs

__all__ = ["CHUNK", "DiskHelper", "SpillFolder"]

#: Size of a file; a larger result has one of its own.
SLAB_SIZE = 1 << 30
#: Bytes that one checksum covers.
CHUNK = 4 << 20
_NOTHING = memoryview(b"")
#: Seconds that the end of the helper is waited for.
_PATIENCE = 10.0
#: More than any disk has, where no limit was told.
_NO_LIMIT = 1 << 46


class SpillFolder:
    """Ranges in files of a folder; not safe to use from several threads, but for the I/O.

    Parameters
    ----------
    folder : Path
    limit : int, optional
        The most bytes to keep there; as many as there is room for if absent.

    Raises
    ------
    OutOfDisk
        If no file can be made there.

    Examples
    --------
    >>> folder = SpillFolder(Path(tempfile.gettempdir()))
    >>> place = folder.allocate(5)
    >>> folder.claim(place)
    >>> sums = folder.write(place, memoryview(b"hello"))
    >>> folder.check(place, 5, sums)
    >>> folder.free(place)
    >>> folder.close()
    """

    def __init__(self, folder: Path, limit: int | None = None, slab_size: int = SLAB_SIZE) -> None:
        self.folder = folder
        self.limit = _NO_LIMIT if limit is None else max(PAGE, limit)
        self._arena = Arena(self.limit, slab_size, first_slab=FIRST_SLAB)
        self._slabs = Slabs(make=self._make)
        # Tried at once: better to know now than under pressure.
        self._make(PAGE).close()

    def _make(self, size: int) -> SlabFile:
        try:
            fd = _open_nameless(self.folder)
        except OSError as error:
            raise OutOfDisk(
                f"cannot make a file in {self.folder} for results that memory has no room for: "
                f"{error.strerror}; name another folder by --local-directory"
            ) from error
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            os.close(fd)
            raise OutOfDisk(
                f"cannot make a file of {size} bytes in {self.folder}: {error.strerror}"
            ) from error
        return SlabFile(fd, size)

    @property
    def used(self) -> int:
        """Bytes handed out."""
        return self._arena.statistics().used

    @property
    def slabs(self) -> Slabs:
        """The files."""
        return self._slabs

    @property
    def arena(self) -> Arena:
        """Who has what, and who looks at it."""
        return self._arena

    def space(self) -> str:
        """Say how much room there is, for people."""
        try:
            status = os.statvfs(self.folder)
        except OSError as error:
            return f"{self.folder}: {error.strerror}"
        free = status.f_bavail * status.f_frsize
        whole = status.f_blocks * status.f_frsize
        said = f"{self.folder} has {free} of {whole} bytes free"
        if self.limit != _NO_LIMIT:
            said += f", {self.used} of the {self.limit} that results may take are in use"
        return said

    def _free(self) -> int:
        try:
            status = os.statvfs(self.folder)
        except OSError:
            return _NO_LIMIT  # the system says what is wrong when the space is claimed
        return status.f_bavail * status.f_frsize

    def allocate(self, size: int) -> Range | None:
        """Return a range, to be claimed before it is written; None at the limit."""
        place = self._arena.allocate(max(1, size))
        if place is None:
            return None
        try:
            self._slabs.follow(self._arena)
        except StoreFull:
            self._arena.free(place)
            return None
        return place

    def free(self, place: Range) -> None:
        """Give a range back; the disk has its space again when nobody needs anything."""
        self._arena.free(place)
        self.tidy()

    def tidy(self) -> None:
        """Give files back to the system that nobody needs, when much of the space is unused."""
        known = self._arena.statistics()
        if known.used <= known.in_slabs // 2:
            self._arena.trim()
            self._slabs.follow(self._arena)

    # What may be called from another thread, as long as the range is leased.

    def claim(self, place: Range) -> None:
        """Make sure that there is space for a range.

        Raises
        ------
        OutOfDisk
            If there is none.
        """
        if self._slabs.unreserved(place) > self._free():
            # Not left to the system: it may fill the disk before it finds that it cannot.
            raise OutOfDisk(f"no space for {place.length} bytes of results; {self.space()}")
        try:
            self._slabs.reserve(place)
        except StoreFull as error:
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) else str(error)
            raise OutOfDisk(
                f"no space for {place.length} bytes of results: {reason}; {self.space()}"
            ) from error

    def write(self, place: Range, data: memoryview) -> list[int]:
        """Write a result; return its checksums.

        Raises
        ------
        OSError
            As the system says.
        """
        fd = self._slabs.descriptor(place.slab)
        sums = []
        for start in range(0, len(data), CHUNK):
            chunk = data[start : start + CHUNK]
            sums.append(zlib.crc32(chunk))
            at = 0
            while at < len(chunk):
                at += os.pwrite(fd, chunk[at:], place.offset + start + at)
        return sums

    def sum(self, place: Range, size: int) -> list[int]:
        """Return the checksums of what is in a range.

        Raises
        ------
        OSError
            As the system says; also if the file is shorter than it was made.
        """
        fd = self._slabs.descriptor(place.slab)
        sums = []
        buffer = bytearray(min(CHUNK, size))
        for start in range(0, size, CHUNK):
            chunk = memoryview(buffer)[: min(CHUNK, size - start)]
            at = 0
            while at < len(chunk):
                read = os.preadv(fd, [chunk[at:]], place.offset + start + at)
                if not read:
                    raise OSError(f"the file ends at byte {start + at} of a result of {size} bytes")
                at += read
            sums.append(zlib.crc32(chunk))
        return sums

    def check(self, place: Range, size: int, sums: list[int]) -> None:
        """Read a result back and compare.

        Raises
        ------
        OSError
            As the system says, or if the bytes are not those that were written.
        """
        found = self.sum(place, size)
        if found != sums:
            first = next(
                n for n, pair in enumerate(zip(found, sums, strict=True)) if len({*pair}) > 1
            )
            raise OSError(
                f"bytes {first * CHUNK} to {min(size, (first + 1) * CHUNK)} of a result of {size} "
                f"bytes are not those that were written"
            )

    def close(self) -> None:
        """Close the files, and give their space back."""
        self._slabs.close()


def _open_nameless(folder: Path) -> int:
    """Open a new file that has no name, which only we can open."""
    nameless = getattr(os, "O_TMPFILE", 0)
    if nameless:
        # Where the file system cannot, the plain way can, or says why not.
        with contextlib.suppress(OSError):
            return os.open(folder, os.O_RDWR | os.O_CLOEXEC | nameless, 0o600)
    own = tempfile.mkdtemp(prefix="zc-", dir=folder)  # its mode is 0700
    try:
        path = os.path.join(own, "results")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
    finally:
        os.rmdir(own)
    return fd


class DiskHelper:
    """A thread that does disk jobs, those first for which somebody waits.

    Parameters
    ----------
    folder : SpillFolder
    on_done : callable
        ``on_done(ticket, sums, error, is_full)``, called in the helper's thread; an error that
        is empty is none, and `is_full` says that it was for want of space.
    """

    def __init__(
        self,
        folder: SpillFolder,
        on_done: Callable[[int, list[int], str, bool], None],
    ) -> None:
        self._folder = folder
        self._on_done = on_done
        self._jobs: list[tuple[bool, int, DiskJob, memoryview]] = []
        self._order = itertools.count()
        self._some = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="zcluster-disk", daemon=True)
        self._thread.start()

    def put(self, job: DiskJob, data: memoryview = _NOTHING) -> None:
        """Have a job done; ``data`` is what a job of kind ``write`` writes."""
        with self._some:
            # A task, or somebody else, waits for what is read: writes come last.
            heapq.heappush(self._jobs, (job.kind == "write", next(self._order), job, data))
            self._some.notify()

    def close(self) -> None:
        """Finish the job that is being done, leave the others, and end the thread."""
        with self._some:
            self._stopped = True
            self._some.notify()
        # A disk that hangs must not keep the node from its end.
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while True:
            with self._some:
                while not self._jobs and not self._stopped:
                    self._some.wait()
                if self._stopped:
                    return
                _, _, job, data = heapq.heappop(self._jobs)
            done = self._do(job, data)
            del data  # its memory may be given back once that is told
            self._on_done(job.ticket, *done)

    def _do(self, job: DiskJob, data: memoryview) -> tuple[list[int], str, bool]:
        folder = self._folder
        try:
            if job.kind == "check":
                folder.check(job.place, job.size, list(job.sums))
                return list(job.sums), "", False
            if job.kind == "sum":
                return folder.sum(job.place, job.size), "", False
            folder.claim(job.place)
            sums = folder.write(job.place, data) if job.kind == "write" else []
            return sums, "", False
        except OutOfDisk as error:
            return [], str(error), True
        except OSError as error:
            return [], f"{folder.folder}: {error.strerror or error}", False
