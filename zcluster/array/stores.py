"""Arrays that lie in files: how tasks read boxes of them and write into them.

A **store** is anything with a shape, a dtype and items that are arrays: a dataset of h5py, an array
of zarr, a mapped file, a variable of netCDF. Tasks of this process use the very object. For other
processes it has to be pickled, and what cannot be, or would carry its data along, goes as a
reference that is opened there: the name of the file and the place in it.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
import uuid
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from zcluster.errors import NotSerializable

__all__ = [
    "ClosedDataset",
    "StoreLock",
    "StoreReader",
    "StoreWriter",
    "box",
    "is_dataset",
    "is_mapped",
    "lock_of",
    "mapped",
    "reference",
    "regular",
]


# Locks --------------------------------------------------------------------------------------------


class StoreLock:
    """A lock that can be pickled: copies of it in one process are one lock.

    Processes do not wait for each other.

    Parameters
    ----------
    name : str, optional
        What is one lock; by default a new one.

    Examples
    --------
    >>> lock = StoreLock()
    >>> with lock:
    ...     StoreLock(lock.name).locked()
    True
    """

    _known: ClassVar[weakref.WeakValueDictionary[str, Any]] = weakref.WeakValueDictionary()
    _guard = threading.Lock()

    def __init__(self, name: str | None = None) -> None:
        self.name = name or uuid.uuid4().hex
        with StoreLock._guard:
            found = StoreLock._known.get(self.name)
            if found is None:
                found = StoreLock._known[self.name] = _Held()
        self._held = found

    def __enter__(self) -> None:
        self._held.lock.acquire()

    def __exit__(self, *_: Any) -> None:
        self._held.lock.release()

    def locked(self) -> bool:
        """Tell whether somebody in this process has it."""
        return bool(self._held.lock.locked())

    def __reduce__(self) -> Any:
        return StoreLock, (self.name,)

    def __zcluster_tokenize__(self) -> Any:
        return ("lock", self.name)


class _Held:
    """A lock, in an object that can be referred to weakly."""

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()


def lock_of(lock: Any) -> Any:
    """Return what ``lock=`` means: None, a new lock for True, or the given one."""
    if lock is True:
        return StoreLock()
    return lock or None


# References ---------------------------------------------------------------------------------------


def mapped(filename: str, dtype: Any, shape: Any, strides: Any, place: int, mode: str) -> Any:
    """Map a part of a file: what a mapped array becomes elsewhere."""
    whole = np.memmap(filename, np.uint8, mode)  # type: ignore[call-overload]
    return np.ndarray(shape, dtype, whole, place, strides)


def _place_in_file(array: Any) -> int:
    """Return at which byte of its file a mapped array, or a view of one, begins."""
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    whole = np.frombuffer(array._mmap, np.uint8)
    place: int = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return int(start) + place


class ClosedDataset:
    """A dataset of h5py in a file that is opened for each reading.

    Who keeps a file open keeps others from writing into it.
    """

    __slots__ = ("filename", "name")

    def __init__(self, filename: str, name: str) -> None:
        self.filename = filename
        self.name = name

    def __getitem__(self, index: Any) -> Any:
        import h5py  # heavy, and not everybody has it

        with h5py.File(self.filename, "r") as file:
            return file[self.name][index]


def is_dataset(store: Any) -> bool:
    """Tell whether something is a dataset of h5py."""
    h5py = sys.modules.get("h5py")
    return h5py is not None and isinstance(store, h5py.Dataset)


def is_mapped(store: Any) -> bool:
    """Tell whether something is a mapped file, with a name, that is written where it is written."""
    is_file = isinstance(store, np.memmap) and isinstance(store.filename, str | os.PathLike)
    return bool(is_file and store.mode in ("r", "r+"))


def reference(store: Any) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
    """Return a function and arguments that open a store in another process; None: pickle it."""
    if is_mapped(store):
        name = os.path.realpath(store.filename)
        place = _place_in_file(store)
        return mapped, (name, store.dtype, store.shape, store.strides, place, store.mode)
    if is_dataset(store):
        return ClosedDataset, (os.path.realpath(store.file.filename), store.name)
    return None


def _identity(store: Any) -> Any:
    """Return what a store is told by."""
    if is_dataset(store):
        name = store.file.filename
        if store.file.mode != "r" or not os.path.exists(name):
            return ("dataset", uuid.uuid4().hex)  # it may change with nobody seeing it
        seen = os.stat(name)
        return ("dataset", os.path.realpath(name), store.name, seen.st_mtime_ns, seen.st_size)
    return store


# Reading ------------------------------------------------------------------------------------------


class StoreReader:
    """Reads a block of a store: the function of a `Generated`.

    Parameters
    ----------
    store : object
    getitem : callable, optional
        Called with the store and slices, in place of the store's own items.
    lock : context manager, optional
        Held while it is read.
    as_array : bool
        Blocks become arrays of NumPy.
    region : tuple of slice, optional
        The part of the store that is read: with starts, and steps of 1.
    name : str, optional
        What the reader is told by, in place of the store.
    """

    __slots__ = ("as_array", "getitem", "lock", "name", "region", "store")

    __name__ = "read"

    def __init__(
        self,
        store: Any,
        getitem: Callable[..., Any] | None = None,
        lock: Any = None,
        as_array: bool = True,
        region: tuple[slice, ...] | None = None,
        name: str | None = None,
    ) -> None:
        self.store = store
        self.getitem = getitem
        self.lock = lock
        self.as_array = as_array
        self.region = region
        self.name = name

    def __call__(self, start: tuple[int, ...], shape: tuple[int, ...]) -> Any:
        index = box(start, shape, self.region)
        if self.lock is None:
            return self._read(index)
        with self.lock:
            return self._read(index)

    def _read(self, index: tuple[slice, ...]) -> Any:
        found = self.store[index] if self.getitem is None else self.getitem(self.store, index)
        return np.asarray(found) if self.as_array else found

    def __reduce__(self) -> Any:
        rest = (self.getitem, self.lock, self.as_array, self.region, self.name)
        found = reference(self.store)
        if found is None:
            return StoreReader, (self.store, *rest)
        return _reader, (*found, rest)

    def __zcluster_tokenize__(self) -> Any:
        told = _identity(self.store) if self.name is None else self.name
        region = None if self.region is None else [(s.start, s.stop) for s in self.region]
        return ("store", told, self.getitem, self.as_array, region)


def _reader(function: Any, arguments: Any, rest: Any) -> StoreReader:
    return StoreReader(function(*arguments), *rest)


def box(
    start: tuple[int, ...], shape: tuple[int, ...], region: tuple[slice, ...] | None
) -> tuple[slice, ...]:
    """Return the slices of a block, within a region of a store.

    Examples
    --------
    >>> box((4,), (2,), (slice(10, 20),))
    (slice(14, 16, None),)
    """
    if region is not None:
        start = tuple(place + (one.start or 0) for place, one in zip(start, region, strict=True))
    return tuple(slice(place, place + n) for place, n in zip(start, shape, strict=True))


# Writing ------------------------------------------------------------------------------------------


class StoreWriter:
    """Writes blocks into a store; what the tasks of `store` run.

    Parameters
    ----------
    target : object
    lock : context manager, optional
    region : tuple of slice, optional
        With starts, and steps of 1.
    returns : bool
        The task gives what it wrote; else one byte, so that nothing is kept.
    """

    __slots__ = ("lock", "region", "returns", "target")

    __name__ = "store"

    def __init__(
        self,
        target: Any,
        lock: Any = None,
        region: tuple[slice, ...] | None = None,
        returns: bool = False,
    ) -> None:
        self.target = target
        self.lock = lock
        self.region = region
        self.returns = returns

    def __call__(self, block: Any, start: tuple[int, ...], *target: Any) -> Any:
        index = box(start, np.shape(block), self.region)
        into = target[0] if target else self.target
        if np.size(block):
            if self.lock is None:
                into[index] = block
            else:
                with self.lock:
                    into[index] = block
        if self.returns:
            return np.asarray(into[index])
        return np.zeros((1,) * np.ndim(block), np.uint8)

    def __reduce__(self) -> Any:
        rest = (self.lock, self.region, self.returns)
        target = self.target
        found = reference(target)
        if is_dataset(target):
            raise NotSerializable(
                f"the dataset {target.name!r} of {target.file.filename!r} cannot be written by "
                "several processes; use to_hdf5(), which writes it from this one, "
                "scheduler='threads', or a store of zarr"
            )
        if found is None and isinstance(target, np.ndarray):
            raise NotSerializable(
                f"a NumPy array of shape {target.shape} cannot be written by other processes; use "
                "scheduler='threads', compute(), or a store in a file, such as "
                "numpy.lib.format.open_memmap or zarr"
            )
        if found is None:
            return StoreWriter, (target, *rest)
        return _writer, (*found, rest)

    def __zcluster_tokenize__(self) -> Any:
        return ("writer", uuid.uuid4().hex)  # each store is written anew


def _writer(function: Any, arguments: Any, rest: Any) -> StoreWriter:
    return StoreWriter(function(*arguments), *rest)


def regular(lengths: tuple[int, ...]) -> bool:
    """Tell whether chunks are as stores have them: of one length, and maybe a shorter last one.

    Examples
    --------
    >>> regular((4, 4, 1)), regular((4, 3, 4))
    (True, False)
    """
    return all(one == lengths[0] for one in lengths[:-1]) and lengths[-1] <= lengths[0]
