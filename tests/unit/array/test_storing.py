"""Writing arrays into stores and files, and reading them again."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zcluster.array.core import from_numpy
from zcluster.array.storing import (
    from_npy_stack,
    from_zarr,
    store,
    to_hdf5,
    to_npy_stack,
    to_zarr,
)
from zcluster.delayed import Delayed, delayed
from zcluster.errors import InvalidArgument

VALUES = np.arange(600.0).reshape(30, 20)
SYNC: dict[str, Any] = {"scheduler": "sync"}


class TestStore:
    @pytest.mark.proves("array.store", "array.Array.store")
    def test_into_numpy(self) -> None:
        """One, several, parts of them."""
        x = from_numpy(VALUES, 7)
        target = np.zeros_like(VALUES)
        assert store(x + 1, target, **SYNC) is None
        assert (target == VALUES + 1).all()
        first, second = np.zeros((40, 20)), np.zeros(20, "i4")
        store([x, x[3]], [first, second], True, [np.s_[5:35, :], np.s_[:]], **SYNC)
        assert (first[5:35] == VALUES).all()
        assert not first[:5].any()
        assert (second == VALUES[3]).all()
        x.store(target, compute=False).compute()
        assert (target == VALUES).all()

    def test_later(self) -> None:
        """A lazy value, which writes when it is computed, each time."""
        target = np.zeros_like(VALUES)
        later = store(from_numpy(VALUES, 7), target, compute=False)
        assert isinstance(later, Delayed)
        assert not target.any()
        later.compute(**SYNC)
        target[:] = 0
        assert later.compute(**SYNC) is None
        assert (target == VALUES).all()

    @pytest.mark.parametrize("compute", [True, False])
    @pytest.mark.parametrize("load", [True, False, None])
    def test_what_was_stored(self, compute: bool, load: bool | None) -> None:
        """As an array: of what the target made of it."""
        target = np.zeros((40, 20), "i4")
        region = (slice(5, 35), slice(None))
        made = store(from_numpy(VALUES + 0.5, 7), target, True, region, compute, True, load)
        assert target.any() == compute
        assert made.dtype == np.dtype("i4")
        assert (made.compute(**SYNC) == VALUES).all()
        assert (target[5:35] == VALUES).all()
        (other,) = store([from_numpy(VALUES, 7)], [target[5:35]], return_stored=True)
        assert (other.compute(**SYNC) == VALUES).all()

    def test_lazy_targets(self) -> None:
        """Made when it is written."""
        target = np.zeros_like(VALUES)
        made: list[int] = []

        def opened() -> Any:
            made.append(1)
            return target

        store(from_numpy(VALUES, 7), delayed(opened)(), **SYNC)
        assert made == [1]
        assert (target == VALUES).all()

    @pytest.mark.parametrize(
        ("sources", "targets", "regions", "message"),
        [
            (VALUES, np.zeros(3), None, "expected lazy arrays"),
            ([from_numpy(VALUES)], [], None, "1 sources and 0 targets"),
            (from_numpy(VALUES), np.zeros(3), None, "shape \\(30, 20\\) to be stored in a target"),
            (from_numpy(VALUES), np.zeros((30, 21)), np.s_[:, :19], "the region"),
            (from_numpy(VALUES), np.zeros((60, 20)), np.s_[::2, :], "a step of 1"),
            ([from_numpy(VALUES)], [VALUES], [None, None], "2 regions for 1 sources"),
        ],
    )
    def test_errors(self, sources: Any, targets: Any, regions: Any, message: str) -> None:
        """Before anything is written."""
        with pytest.raises(InvalidArgument, match=message):
            store(sources, targets, regions=regions)


class TestHDF5:
    @pytest.mark.proves("array.to_hdf5", "array.Array.to_hdf5")
    def test_there_and_back(self, tmp_path: Path) -> None:
        """One by name, or a dict; chunks are those of the array."""
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        x = from_numpy(VALUES, 7)
        to_hdf5(tmp_path / "a.h5", "/x", x)
        to_hdf5(tmp_path / "a.h5", {"y": x + 1, "total": x.sum()}, chunks=None)
        x.to_hdf5(tmp_path / "a.h5", "z", compression="gzip")
        with h5py.File(tmp_path / "a.h5") as file:
            assert (file["x"][:] == VALUES).all()
            assert file["x"].chunks == (7, 7)
            assert (file["y"][:] == VALUES + 1).all()
            assert file["y"].chunks is None
            assert file["total"][()] == VALUES.sum()
            assert file["z"].compression == "gzip"

    def test_errors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of arguments, and where h5py is not there."""
        pytest.importorskip("h5py", reason="h5py is not installed")
        with pytest.raises(InvalidArgument, match="expected a file name, then"):
            to_hdf5(tmp_path / "a.h5", from_numpy(VALUES))
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(ImportError, match=r"to_hdf5 needs h5py.*pip install h5py"):
            to_hdf5(tmp_path / "a.h5", "x", from_numpy(VALUES))


class TestZarr:
    @pytest.mark.proves("array.to_zarr", "array.from_zarr", "array.Array.to_zarr")
    def test_there_and_back(self, tmp_path: Path) -> None:
        """Into a new array, over an old one, into a part."""
        zarr = pytest.importorskip("zarr", reason="zarr is not installed")
        x = from_numpy(VALUES, (7, 9))
        to_zarr(x, tmp_path / "a.zarr")
        read = from_zarr(tmp_path / "a.zarr")
        assert read.chunks == x.chunks
        assert (read.compute(**SYNC) == VALUES).all()
        target = zarr.open_array(str(tmp_path / "a.zarr"))
        to_zarr(x[:13] + 1, target, region=np.s_[5:18, :])
        expected = VALUES.copy()
        expected[5:18] = VALUES[:13] + 1
        assert (from_zarr(target, chunks=10).compute(**SYNC) == expected).all()
        x.to_zarr(str(tmp_path / "a.zarr"), overwrite=True)
        made = to_zarr(x, str(tmp_path / "g.zarr"), component="x", return_stored=True)
        assert (made.compute(**SYNC) == VALUES).all()
        assert (from_zarr(tmp_path / "g.zarr", "x").compute(**SYNC) == VALUES).all()

    def test_errors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of chunks and regions, and where zarr is not there."""
        pytest.importorskip("zarr", reason="zarr is not installed")
        with pytest.raises(InvalidArgument, match="not regular"):
            to_zarr(from_numpy(VALUES, ((10, 20), 20)), tmp_path / "a.zarr")
        with pytest.raises(InvalidArgument, match="give that as url"):
            to_zarr(from_numpy(VALUES), tmp_path / "a.zarr", region=np.s_[:, :])
        monkeypatch.setitem(sys.modules, "zarr", None)
        with pytest.raises(ImportError, match="from_zarr needs zarr"):
            from_zarr(tmp_path / "a.zarr")


class TestStacks:
    @pytest.mark.proves("array.to_npy_stack", "array.from_npy_stack")
    @pytest.mark.parametrize("axis", [0, -1])
    def test_there_and_back(self, tmp_path: Path, axis: int) -> None:
        """A file for each chunk along the axis; only some of them are read."""
        to_npy_stack(tmp_path / "s", from_numpy(VALUES, 7), axis)
        read = from_npy_stack(tmp_path / "s")
        assert read.chunks[axis] == ((7, 7, 7, 7, 2), (7, 7, 6))[axis]
        assert (read.compute(**SYNC) == VALUES).all()
        assert (from_npy_stack(tmp_path / "s", None)[3:9, 5:8].compute() == VALUES[3:9, 5:8]).all()
        assert read.name == from_npy_stack(tmp_path / "s").name
        (tmp_path / "s" / "1.npy").unlink()
        first = read.blocks[(0,) * 2]
        assert (first.compute(**SYNC) == VALUES[: first.shape[0], : first.shape[1]]).all()

    def test_an_info_that_is_none(self, tmp_path: Path) -> None:
        """Nothing of it is run."""
        (tmp_path / "info").write_bytes(pickle.dumps({"chunks": print}))
        with pytest.raises(InvalidArgument, match=r"builtins\.print in it"):
            from_npy_stack(tmp_path)
        unknown = {"chunks": ((float("nan"),),), "dtype": np.dtype("f8"), "axis": 0}
        (tmp_path / "info").write_bytes(pickle.dumps(unknown))
        with pytest.raises(InvalidArgument, match="no known sizes"):
            from_npy_stack(tmp_path)
