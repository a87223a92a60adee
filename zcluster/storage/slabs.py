"""The memory of the node's store: slabs, and how processes look into them.

`arena.py` decides which bytes belong to whom; this file has the bytes. Three parts:

- `SlabFile`: one slab, an open file that has no name. On Linux it is a memfd;
  elsewhere a file in a folder of our own, unlinked before its first use. Either
  way nothing is left behind when the last process ends, however it ends.
- `Slabs`: the nanny's side. It creates and closes slabs as the arena says, makes
  sure that memory is there before anybody writes, and views ranges.
- `SlabReader`: the side of a worker or a local client, made of the descriptors it
  was sent. `map_private` shows a result to a task; `map_shared` writes one.

Memory is asked for before it is used. A slab has its full size from the start
but no memory; `reserve` claims what lies below an end, a few MiB at a time, so
that a full machine answers with an error at that call. Without it the answer
would be SIGBUS, or the system's out-of-memory killer, at some later write.

What a task sees is a **private** mapping: writable, copied page by page on the
first write, never visible to others. It is a mapping of its own for each call,
because two tasks of one process must not see each other's writes either.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
import threading
import weakref
from collections.abc import Callable
from functools import cache

from zcluster.errors import InvalidArgument, InvariantError, StoreFull
from zcluster.storage.arena import Arena, Range

if sys.platform != "win32":
    import fcntl

__all__ = ["SlabFile", "SlabReader", "Slabs"]

#: Memory is claimed in steps of this many bytes: about 1 ms of work each.
STEP = 4 << 20
_MAP_FIXED = 0x10  # Linux; the mmap module does not have it


class SlabFile:
    """One slab: an open file without a name, of fixed size, its memory claimed on demand.

    Attributes
    ----------
    fd : int
        The descriptor; owned by this object.
    size : int
        Bytes.
    reserved : int
        Bytes from the start for which memory is known to be there.
    """

    __slots__ = ("fd", "has_holes", "reserved", "size")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self.reserved = 0
        #: Whether memory within ``reserved`` was given back.
        self.has_holes = False

    @classmethod
    def create(cls, size: int, folder: str | None = None) -> SlabFile:
        """Open a new slab.

        Parameters
        ----------
        size : int
            Bytes.
        folder : str, optional
            Use an unlinked file in this folder, which only its owner may enter.
            Needed where the system has no memfd.

        Raises
        ------
        StoreFull
            The system refuses another file; its own error is the cause.
        InvalidArgument
            `size` is below 1; the folder is open to others, or is needed and missing.
        """
        if size < 1:
            raise InvalidArgument(f"size is {size}; a slab has at least 1 byte")
        fd = -1
        try:
            fd = _open_memory() if folder is None else _open_unlinked(folder)
            os.ftruncate(fd, size)
            if folder is None:
                _seal(fd)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            where = "in memory" if folder is None else f"in {folder}"
            raise StoreFull(
                f"no new slab of {size} bytes {where}: {error.strerror}. Release results, "
                "or raise the limit that the system names (open files: ulimit -n)."
            ) from error
        return cls(fd, size)

    def reserve(self, end: int) -> None:
        """Claim memory for all bytes below `end`; nothing to do in most calls.

        Claims 1 to 5 GB/s and holds no lock of the interpreter meanwhile.

        Raises
        ------
        StoreFull
            The machine has no memory (or the folder no space) left; the system's
            error is the cause. Nothing was claimed.
        """
        if end <= self.reserved:
            return
        goal = min(self.size, -(-end // STEP) * STEP)
        if end > goal:
            raise InvariantError(f"reserve({end}) in a slab of {self.size} bytes; stay inside")
        self.claim(self.reserved, goal - self.reserved)
        self.reserved = goal

    def claim(self, offset: int, length: int) -> None:
        """Claim memory for some bytes, whether it is there or not.

        Raises
        ------
        StoreFull
            As in `reserve`.
        """
        try:
            _claim(self.fd, offset, length)
        except OSError as error:
            raise StoreFull(
                f"the system has no {length} more bytes for the store: "
                f"{error.strerror}. Release results, give the store a lower limit so that "
                "it spills earlier, or free memory on this machine."
            ) from error

    def close(self) -> None:
        """Close the descriptor; a second time does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Slabs:
    """The nanny's slabs: created and closed as the arena says.

    Parameters
    ----------
    folder : str, optional
        Where slabs are unlinked files rather than memory; see `SlabFile.create`.
    make : callable, optional
        Makes slabs of a size in another way.

    Examples
    --------
    >>> arena, slabs = Arena(limit=1 << 20), Slabs()
    >>> where = arena.allocate(5)
    >>> slabs.follow(arena)
    [0]
    >>> slabs.reserve(where)
    >>> slabs.view(where)[:5] = b"hello"
    >>> bytes(slabs.view(where)[:5])
    b'hello'
    >>> slabs.close()
    """

    def __init__(
        self, folder: str | None = None, make: Callable[[int], SlabFile] | None = None
    ) -> None:
        self._is_memory = folder is None and make is None
        self._make = make or (lambda size: SlabFile.create(size, folder))
        self._files: dict[int, SlabFile] = {}
        #: The whole slab, shared and writable; made at the first view.
        self._maps: dict[int, memoryview] = {}

    def __contains__(self, slab: int) -> bool:
        return slab in self._files

    def follow(self, arena: Arena) -> list[int]:
        """Close and create what the arena says; the numbers of the slabs created.

        Call it after each `Arena.allocate` and `Arena.trim`. When it raises, give
        the range back with `Arena.free`; the next call tries again.

        Raises
        ------
        StoreFull
            A slab could not be created.
        """
        while arena.old_slabs:
            self.drop(arena.old_slabs.pop())
        created = []
        while arena.new_slabs:
            slab, size = arena.new_slabs[0]
            self.add(slab, size)
            del arena.new_slabs[0]  # only now: a failure leaves it to the next call
            created.append(slab)
        return created

    def add(self, slab: int, size: int) -> None:
        """Create a slab under a number that was never used before."""
        if slab in self._files:
            raise InvariantError(f"slab {slab} exists already; numbers are used once")
        self._files[slab] = self._make(size)

    def drop(self, slab: int) -> None:
        """Give a slab's memory back to the system, at once, and close it.

        At once, although workers may still have its descriptor: memory is freed
        by punching a hole, and a late writer there harms nobody.
        """
        file = self._file(slab)
        if file.reserved and hasattr(mmap, "MADV_REMOVE"):
            whole = mmap.mmap(file.fd, file.size)
            try:
                whole.madvise(mmap.MADV_REMOVE, 0, file.reserved)
            except OSError as error:
                # Some file systems cannot; there the memory goes with the last descriptor.
                if self._is_memory:
                    raise InvariantError(f"slab {slab} kept its memory: {error}") from error
            finally:
                whole.close()
        self._maps.pop(slab, None)
        del self._files[slab]
        file.close()

    def reserve(self, range_: Range) -> None:
        """Make sure that memory is there for a range, before anybody writes to it.

        Raises
        ------
        StoreFull
            The machine is full. Free the range again.
        """
        file = self._file(range_.slab)
        file.reserve(range_.offset + range_.length)
        if file.has_holes:
            file.claim(range_.offset, range_.length)

    def unreserved(self, range_: Range) -> int:
        """Bytes of a range that `reserve` would claim for the first time."""
        end = range_.offset + range_.length
        return min(range_.length, max(0, end - self._file(range_.slab).reserved))

    def release(self, range_: Range) -> None:
        """Give the memory of a range that nobody has back to the system, as far as it can be."""
        file = self._file(range_.slab)
        if not hasattr(mmap, "MADV_REMOVE"):
            return
        mapping = mmap.mmap(file.fd, range_.length, offset=range_.offset)
        try:
            mapping.madvise(mmap.MADV_REMOVE)
        except OSError:  # some file systems cannot
            return
        finally:
            mapping.close()
        file.has_holes = True

    def view(self, range_: Range) -> memoryview:
        """The bytes of a range: shared and writable."""
        whole = self._maps.get(range_.slab)
        if whole is None:
            file = self._file(range_.slab)
            whole = self._maps[range_.slab] = memoryview(mmap.mmap(file.fd, file.size))
        _check_inside(range_, len(whole))
        return whole[range_.offset : range_.offset + range_.length]

    def descriptor(self, slab: int) -> int:
        """The descriptor to send to workers; it stays the property of this object."""
        return self._file(slab).fd

    def close(self) -> None:
        """Close all slabs. Views that still exist keep their memory until they die."""
        self._maps.clear()
        while self._files:
            self._files.popitem()[1].close()

    def _file(self, slab: int) -> SlabFile:
        try:
            return self._files[slab]
        except KeyError:
            raise InvariantError(_unknown(slab, self._files)) from None


class SlabReader:
    """A worker's or local client's view of the slabs it has descriptors of.

    Safe to use from several threads: the slots of a worker share one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fds: dict[int, tuple[int, int]] = {}  # slab -> descriptor, size
        self._maps: dict[int, memoryview] = {}

    def __contains__(self, slab: int) -> bool:
        return slab in self._fds

    def add(self, slab: int, fd: int) -> None:
        """Take a slab's descriptor; it is closed by `forget` or `close`."""
        size = os.fstat(fd).st_size
        with self._lock:
            if slab in self._fds:
                raise InvariantError(f"slab {slab} is known already; add each slab once")
            self._fds[slab] = (fd, size)

    def map_private(self, range_: Range, on_close: Callable[[Range], object]) -> memoryview:
        """Show a range: writable, writes seen by nobody else, not even by another call.

        Parameters
        ----------
        range_ : Range
            Whole pages. The view has the length of the range.
        on_close : callable
            Called with the range when the last view has died, arrays made from it
            included: then the lease can return. It runs in whatever thread that
            happens, also in the midst of garbage collection, so it must only do
            something like `deque.append`. It does not run when the process exits:
            the process's end returns its leases.

        Raises
        ------
        OSError
            The system has no room for another mapping (`vm.max_map_count`).
        """
        fd, size = self._known(range_.slab)
        _check_inside(range_, size)
        mapping = _map_copy_on_write(fd, range_.offset, range_.length)
        weakref.finalize(mapping, on_close, range_).atexit = False
        return memoryview(mapping)

    def map_shared(self, range_: Range) -> memoryview:
        """A range to write a result to; what is written is seen by all.

        There is one such mapping per slab, kept, so that pages which this process
        wrote before need not be mapped again.
        """
        whole = self._maps.get(range_.slab)
        if whole is None:
            with self._lock:
                fd, size = self._known(range_.slab)
                whole = self._maps.get(range_.slab)
                if whole is None:
                    whole = self._maps[range_.slab] = memoryview(mmap.mmap(fd, size))
        _check_inside(range_, len(whole))
        return whole[range_.offset : range_.offset + range_.length]

    def forget(self, slab: int) -> None:
        """The slab is gone: close its descriptor. Unknown ones are ignored."""
        with self._lock:
            self._maps.pop(slab, None)
            fd, _ = self._fds.pop(slab, (-1, 0))
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Close all descriptors. Views that still exist stay readable until they die."""
        for slab in list(self._fds):
            self.forget(slab)

    def _known(self, slab: int) -> tuple[int, int]:
        try:
            return self._fds[slab]
        except KeyError:
            raise InvariantError(_unknown(slab, self._fds)) from None


def _unknown(slab: int, known: dict[int, SlabFile] | dict[int, tuple[int, int]]) -> str:
    return (
        f"slab {slab} is not known here (known: {sorted(known) or 'none'}); "
        "it was closed, or has to be added first"
    )


def _check_inside(range_: Range, size: int) -> None:
    """Refuse what lies outside the slab: touching it would be SIGBUS."""
    if range_.offset < 0 or range_.length < 1 or range_.offset + range_.length > size:
        raise InvariantError(f"{range_} is not inside its slab of {size} bytes")


# --- what differs between systems -------------------------------------------------


def _open_memory() -> int:
    if sys.platform != "linux":
        raise InvalidArgument(
            "this system has no memfd; give a folder (mode 0700) for the store's slabs"
        )
    return os.memfd_create("zcluster", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _open_unlinked(folder: str) -> int:
    mode = stat.S_IMODE(os.stat(folder).st_mode)
    if mode & 0o077:
        raise InvalidArgument(
            f"folder {folder} has mode {mode:04o}; others could open a slab before it is "
            "unlinked. Give a folder of mode 0700."
        )
    path = os.path.join(folder, f"slab-{os.urandom(8).hex()}")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    return fd


def _seal(fd: int) -> None:
    """Fix a memfd's size: user code that truncates it would kill the nanny with SIGBUS."""
    if sys.platform == "linux":
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)


def _claim(fd: int, offset: int, length: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, offset, length)
        return
    # macOS has no such call. Writing zeros claims as well; nothing was written here yet.
    zeros = bytes(min(length, 1 << 20))
    for start in range(offset, offset + length, len(zeros)):
        os.pwrite(fd, zeros[: offset + length - start], start)


def _map_copy_on_write(fd: int, offset: int, length: int) -> mmap.mmap:
    """Map a part of a file, private and writable.

    `mmap.mmap` duplicates the descriptor for each mapping (it can be told not to
    from Python 3.13 on), and a task with 2,000 inputs would run out of
    descriptors. So on Linux an anonymous mapping is made, which has none, and the
    file is mapped over it: the mmap object still owns exactly those addresses.
    """
    raw = _raw_mmap()
    if raw is None:
        return mmap.mmap(fd, length, access=mmap.ACCESS_COPY, offset=offset)
    mapping = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    raw(mapping, fd, offset, length)
    return mapping


@cache
def _raw_mmap() -> Callable[[mmap.mmap, int, int, int], None] | None:
    """A function that maps a file over an anonymous mapping, or None where that cannot be."""
    if sys.platform != "linux" or sys.maxsize < 1 << 32:
        return None
    # Not at the top: it takes 2 ms to import, and only who maps results needs it.
    try:
        import ctypes
    except ImportError:  # a Python built without libffi
        return None

    call = ctypes.CDLL(None, use_errno=True).mmap
    call.restype = ctypes.c_void_p
    call.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_longlong,
    ]
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    flags = mmap.MAP_PRIVATE | _MAP_FIXED

    def over(mapping: mmap.mmap, fd: int, offset: int, length: int) -> None:
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        if call(address, length, protection, flags, fd, offset) != address:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot map {length} bytes: {os.strerror(number)}")

    return over
