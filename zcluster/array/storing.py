"""Arrays written into stores and files, block by block, and such files read again.

`store` writes into anything that takes ``target[slices] = block``. Where tasks run in other
processes the target has to be one that these can open: an array of zarr, a mapped file. A file of
HDF5 is written by one process; `to_hdf5` has the blocks sent to this one, a few at a time.
"""

from __future__ import annotations

import io
import math
import os
import pickle
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from zcluster.array.chunks import bounds, is_known, normalize_axis
from zcluster.array.core import Array, asarray, rechunked
from zcluster.array.expressions import Blockwise, Expr, Generated
from zcluster.array.indexing import blocks
from zcluster.array.io import from_array, lazy_object, to_delayed
from zcluster.array.restating import check_known
from zcluster.array.stores import StoreReader, StoreWriter, lock_of, regular
from zcluster.collection.compute import compute as computed
from zcluster.collection.compute import current_runner, persist
from zcluster.delayed import Delayed
from zcluster.errors import InvalidArgument

__all__ = ["from_npy_stack", "from_zarr", "store", "to_hdf5", "to_npy_stack", "to_zarr"]


def _nothing(*_: Any) -> None:
    return None


def store(
    sources: Any,
    targets: Any,
    lock: Any = True,
    regions: Any = None,
    compute: bool = True,
    return_stored: bool = False,
    load_stored: bool | None = None,
    **kwargs: Any,
) -> Any:
    """Write arrays into what takes ``target[slices] = block``.

    Parameters
    ----------
    sources : Array or sequence of Array
    targets : object or sequence of objects
        One for each array: arrays of NumPy (where tasks run in this process), mapped files,
        datasets of h5py, arrays of zarr, or lazy values of such.
    lock : bool or context manager
        Held while something is written; True for a new one. Each process has its own.
    regions : tuple of slice, or sequence of such, optional
        The part of each target that is written; steps are 1.
    compute : bool
        Write now; else return a lazy value that does so when it is computed.
    return_stored : bool
        Return arrays that read what was written, or that write when they are computed.
    load_stored : bool, optional
        These hold the blocks that were written; by default only if ``compute=False``.
    **kwargs
        Passed on to `compute`.

    Returns
    -------
    nothing, a Delayed, or with ``return_stored`` an Array or a tuple of them

    Examples
    --------
    >>> target = np.zeros(5, int)
    >>> store(asarray([1, 2, 3]), target, regions=(slice(1, 4),))
    >>> target
    array([0, 1, 2, 3, 0])
    """
    is_one = isinstance(sources, Array)
    arrays = [sources] if is_one else list(sources)
    into = [targets] if is_one and not isinstance(targets, list | tuple) else list(targets)
    if any(not isinstance(one, Array) for one in arrays):
        raise InvalidArgument("sources: expected lazy arrays; make them with from_array()")
    if len(arrays) != len(into):
        raise InvalidArgument(f"{len(arrays)} sources and {len(into)} targets; expected as many")
    parts = _regions(regions, len(arrays))
    loads = return_stored and not compute if load_stored is None else load_stored
    shared = lock_of(lock)
    written = [
        _written(one, target, shared, part, return_stored and (loads or not compute))
        for one, target, part in zip(arrays, into, parts, strict=True)
    ]
    if not compute:
        if return_stored:
            return written[0] if is_one else tuple(written)
        lazy = [block for one in written for block in to_delayed(one).reshape(-1)]
        return Delayed("store", _nothing, tuple(lazy), {})
    if not return_stored:
        computed(*written, **kwargs)
        return None
    if loads:
        made = list(persist(*written, **kwargs))
    else:
        computed(*written, **kwargs)
        made = [
            _reading(one, target, shared, part)
            for one, target, part in zip(arrays, into, parts, strict=True)
        ]
    return made[0] if is_one else tuple(made)


def _regions(regions: Any, count: int) -> list[tuple[slice, ...] | None]:
    if regions is None:
        return [None] * count
    is_one = isinstance(regions, slice) or (
        isinstance(regions, tuple) and all(isinstance(one, slice) for one in regions)
    )
    listed = [regions] * count if is_one else list(regions)
    if len(listed) != count:
        raise InvalidArgument(f"{len(listed)} regions for {count} sources; expected as many")
    made: list[tuple[slice, ...] | None] = []
    for one in listed:
        region = (one,) if isinstance(one, slice) else one
        for part in region or ():
            if (part.start or 0) < 0 or (part.step or 1) != 1:
                raise InvalidArgument(
                    f"region {part}: expected a start of 0 or more and a step of 1"
                )
        made.append(None if region is None else tuple(region))
    return made


def _written(
    source: Array, target: Any, lock: Any, region: tuple[slice, ...] | None, returns: bool
) -> Array:
    """Return an array whose blocks are written when they are computed."""
    check_known(source, range(source.ndim), "store")
    numbers = tuple(range(source.ndim))
    starts = Generated("starts", _start_of, source.chunks, np.int64, is_cheap=True)
    inputs: list[Expr] = [source.expr, starts]
    axes: list[tuple[int, ...]] = [numbers, numbers]
    dtype = source.dtype
    if isinstance(target, Delayed):
        inputs.append(lazy_object(target))
        axes.append(())
        writer = StoreWriter(None, lock, region, returns)
    else:
        _check_fits(source.shape, getattr(target, "shape", None), region)
        writer = StoreWriter(target, lock, region, returns)
        dtype = getattr(target, "dtype", dtype)
    chunks = source.chunks
    if not returns:
        chunks, dtype = tuple((1,) * len(own) for own in chunks), np.dtype(np.uint8)
    arguments = list(range(len(inputs)))
    return Array(Blockwise("store", writer, inputs, arguments, axes, chunks, dtype))


def _start_of(start: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return where a block begins: to `StoreWriter` a block of these is that, and no array."""
    return start


def _check_fits(shape: tuple[int, ...], target: Any, region: tuple[slice, ...] | None) -> None:
    """Raise if an array does not fit into a target, or a region of it."""
    if target is None:
        return
    room = tuple(target)
    if region is not None:
        lengths = zip(region, room, strict=False)
        room = tuple(len(range(*one.indices(length))) for one, length in lengths)
    if len(room) != len(target) or tuple(shape) != room:
        where = (
            f"the region {region} of a target of shape {tuple(target)}" if region else "a target"
        )
        raise InvalidArgument(
            f"an array of shape {shape} to be stored in {where}, which has shape {room}; expected "
            "the same shape"
        )


def _reading(source: Array, target: Any, lock: Any, region: tuple[slice, ...] | None) -> Array:
    """Return an array that reads what was stored."""
    if isinstance(target, Delayed):
        target = target.compute()
    reader = StoreReader(target, None, lock, True, region)
    dtype = getattr(target, "dtype", source.dtype)
    return Array(Generated("store", reader, source.chunks, dtype))


# HDF5 ---------------------------------------------------------------------------------------------


def to_hdf5(filename: Any, *args: Any, chunks: Any = True, **kwargs: Any) -> None:
    """Write arrays into a file of HDF5, which is written by this process alone.

    Parameters
    ----------
    filename : str or path
    *args
        A name and an array, or a dict of arrays by name.
    chunks : tuple of int, True or None
        Of the datasets: True for those of the array, None for no chunks.
    **kwargs
        Passed on to h5py's ``require_dataset``.

    Raises
    ------
    ImportError
        Without h5py.
    """
    h5py = _needed("h5py", "to_hdf5")
    if len(args) == 1 and isinstance(args[0], dict):
        arrays = {str(name): asarray(one) for name, one in args[0].items()}
    elif len(args) == 2 and isinstance(args[0], str):
        arrays = {args[0]: asarray(args[1])}
    else:
        raise InvalidArgument(
            "to_hdf5: expected a file name, then the name of a dataset and an array, or a dict of "
            "arrays by name"
        )
    for one in arrays.values():
        check_known(one, range(one.ndim), "to_hdf5")
    with h5py.File(filename, mode="a") as file:
        datasets = [
            file.require_dataset(
                name,
                shape=one.shape,
                dtype=one.dtype,
                chunks=_dataset_chunks(one, chunks),
                **kwargs,
            )
            for name, one in arrays.items()
        ]
        if getattr(current_runner(), "takes_objects", False):
            store(list(arrays.values()), datasets)
            return
        for one, dataset in zip(persist(*arrays.values()), datasets, strict=True):
            _write_here(one, dataset)


def _dataset_chunks(array: Array, chunks: Any) -> Any:
    """Return the chunks of a dataset for an array."""
    if chunks is True:
        return tuple(max(max(own), 1) for own in array.chunks) or None
    return chunks or None


def _write_here(source: Array, target: Any) -> None:
    """Write the blocks of an array that is computed elsewhere, one after the other."""
    points = [bounds(own).tolist() for own in source.chunks]
    for index in np.ndindex(*source.numblocks):
        where = tuple(slice(p[i], p[i + 1]) for p, i in zip(points, index, strict=True))
        if math.prod(part.stop - part.start for part in where):
            target[where] = blocks(source)[index].compute()


def _needed(name: str, what: str) -> ModuleType:
    """Import a package that not everybody has."""
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(
            f"{what} needs {name}, which is not installed; pip install {name}"
        ) from error


# Zarr ---------------------------------------------------------------------------------------------


def to_zarr(
    arr: Any,
    url: Any,
    component: str | None = None,
    storage_options: dict[str, Any] | None = None,
    overwrite: bool = False,
    region: tuple[slice, ...] | None = None,
    compute: bool = True,
    return_stored: bool = False,
    **kwargs: Any,
) -> Any:
    """Write an array into one of zarr, chunk by chunk, wherever the tasks run.

    Parameters
    ----------
    arr : Array
    url : str, path, or an array of zarr
        Where it is made; an array of zarr is written into.
    component : str, optional
        The name of the array within a group at `url`.
    storage_options : dict, optional
        Of the store, for a remote one.
    overwrite : bool
        Take the place of an array that is there.
    region : tuple of slice, optional
        The part of an array of zarr that is written.
    compute, return_stored
        See `store`.
    **kwargs
        Passed on to ``zarr.create_array``.

    Raises
    ------
    InvalidArgument
        If the chunks are not regular; this is a ValueError too.
    ImportError
        Without zarr.
    """
    zarr = _needed("zarr", "to_zarr")
    array = asarray(arr)
    check_known(array, range(array.ndim), "to_zarr")
    if isinstance(url, zarr.Array):
        part = None if region is None else _regions(region, 1)[0]
        offsets = [one.start or 0 for one in part] if part else [0] * array.ndim
        _check_fits(array.shape, url.shape, part)
        array = rechunked(array, _along_with(array, url, offsets))
        return store(array, url, False, part, compute, return_stored)
    if region is not None:
        raise InvalidArgument("to_zarr: a region is a part of an array of zarr; give that as url")
    if not all(map(regular, array.chunks)):
        raise InvalidArgument(
            f"to_zarr: chunks {array.chunks} are not regular; expected one length along each axis, "
            "but for a shorter last chunk: use rechunk() first"
        )
    target = zarr.create_array(
        url if isinstance(url, str) or not isinstance(url, os.PathLike) else os.fspath(url),
        name=component,
        shape=array.shape,
        chunks=tuple(max(max(own), 1) for own in array.chunks),
        dtype=array.dtype,
        overwrite=overwrite,
        storage_options=storage_options,
        **kwargs,
    )
    return store(array, target, False, None, compute, return_stored)


def _along_with(array: Array, target: Any, offsets: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Return chunks with borders at those of a target, where two tasks would write into one."""
    wanted = {}
    for axis, (length, side, offset) in enumerate(
        zip(array.shape, target.chunks, offsets, strict=True)
    ):
        ends = bounds(array.chunks[axis]) + offset
        snapped = np.minimum(-(-ends // side) * side, length + offset)
        snapped[0] = offset
        wanted[axis] = tuple(np.diff(np.unique(snapped)).tolist()) or (0,)
    return wanted


def from_zarr(
    url: Any,
    component: str | None = None,
    storage_options: dict[str, Any] | None = None,
    chunks: Any = None,
    name: str | None = None,
    inline_array: bool = False,
    **kwargs: Any,
) -> Array:
    """Return an array that reads one of zarr; its chunks are those of the store.

    Parameters
    ----------
    url : str, path, or an array of zarr
    component : str, optional
        The name of the array within a group at `url`.
    storage_options : dict, optional
        Of the store, for a remote one.
    chunks : optional
        By default those of the store.
    name, inline_array
        See `from_array`.
    **kwargs
        Passed on to ``zarr.open_array``.

    Raises
    ------
    ImportError
        Without zarr.
    """
    zarr = _needed("zarr", "from_zarr")
    source = url
    if not isinstance(url, zarr.Array):
        where = os.fspath(url) if isinstance(url, os.PathLike) else url
        source = zarr.open_array(
            where, path=component, mode="r", storage_options=storage_options, **kwargs
        )
    return from_array(
        source,
        chunks=tuple(source.chunks) if chunks is None else chunks,
        name=name,
        inline_array=inline_array,
    )


# Folders of NumPy's files -------------------------------------------------------------------------

_INFO = "info"


def to_npy_stack(dirname: Any, x: Any, axis: int = 0) -> None:
    """Write an array as a folder of NumPy's files, cut along one axis.

    The files are ``0.npy``, ``1.npy`` and so on, and ``info``, as Dask has them.

    Parameters
    ----------
    dirname : str or path
        Made if it is not there.
    x : Array
    axis : int
        The others are brought into one chunk.
    """
    array = asarray(x)
    axis = normalize_axis(axis, array.ndim)
    check_known(array, range(array.ndim), "to_npy_stack")
    array = rechunked(array, {a: -1 for a in range(array.ndim) if a != axis})
    folder = Path(dirname)
    folder.mkdir(parents=True, exist_ok=True)
    info = {"chunks": array.chunks, "dtype": array.dtype, "axis": axis}
    (folder / _INFO).write_bytes(pickle.dumps(info))
    store(array, _NpyStack(str(folder.resolve()), axis, bounds(array.chunks[axis]).tolist()), False)


class _NpyStack:
    """A folder of files, as a store.

    Attributes
    ----------
    points : list of int
        Where along the axis each file begins, and where the last one ends.
    """

    def __init__(self, folder: str, axis: int, points: list[int], mmap_mode: Any = None) -> None:
        self.folder = folder
        self.axis = axis
        self.points = points
        self.mmap_mode = mmap_mode

    def _file(self, place: int) -> tuple[str, int]:
        """Return the file that has a place along the axis, and where it begins."""
        number = int(np.searchsorted(self.points, place, side="right")) - 1
        return os.path.join(self.folder, f"{number}.npy"), self.points[number]

    def __setitem__(self, index: tuple[slice, ...], block: Any) -> None:
        file, _ = self._file(index[self.axis].start)
        np.save(file, block)

    def __getitem__(self, index: tuple[slice, ...]) -> Any:
        part = index[self.axis]
        file, start = self._file(part.start)
        own = list(index)
        own[self.axis] = slice(part.start - start, part.stop - start)
        return np.load(file, mmap_mode=self.mmap_mode)[tuple(own)]

    def __zcluster_tokenize__(self) -> Any:
        seen = []
        for number in range(len(self.points) - 1):
            with suppress(FileNotFoundError):  # that shows when it is read
                found = os.stat(os.path.join(self.folder, f"{number}.npy"))
                seen.append((found.st_mtime_ns, found.st_size))
        return ("npy stack", self.folder, self.axis, self.points, seen)


class _OnlyTypes(pickle.Unpickler):
    """Reads a pickle of plain data and dtypes, and nothing else: it is a file of somebody's."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if module == "numpy.dtypes":
            return getattr(np.dtypes, name)
        raise InvalidArgument(
            f"the info of a stack of files has a {module}.{name} in it; expected numbers and a "
            "dtype, as to_npy_stack() writes it"
        )


def from_npy_stack(dirname: Any, mmap_mode: str | None = "r") -> Array:
    """Return an array that reads what `to_npy_stack` wrote, here or in Dask.

    Parameters
    ----------
    dirname : str or path
    mmap_mode : str or None
        How files are mapped; None: they are read.

    Raises
    ------
    InvalidArgument
        If there is something else in its info.
    """
    folder = Path(dirname).resolve()
    info = _OnlyTypes(io.BytesIO((folder / _INFO).read_bytes())).load()
    chunks, axis = info["chunks"], info["axis"]
    if not all(map(is_known, chunks)):
        raise InvalidArgument(f"the files in {folder} have no known sizes; write them again")
    files = _NpyStack(str(folder), axis, bounds(chunks[axis]).tolist(), mmap_mode)
    return Array(Generated("from-npy-stack", StoreReader(files), chunks, info["dtype"]))


def _to_hdf5_method(array: Array, filename: Any, datapath: str, **kwargs: Any) -> None:
    """Write the array into a file of HDF5, as a dataset of this name."""
    to_hdf5(filename, datapath, array, **kwargs)


METHODS = {"store": store, "to_hdf5": _to_hdf5_method, "to_zarr": to_zarr}
