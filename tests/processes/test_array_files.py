"""Arrays in files, and indices of all kinds, where tasks run in other processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zcluster import Client
from zcluster.array.core import from_numpy
from zcluster.array.io import from_array, from_delayed
from zcluster.array.joining import concatenate
from zcluster.array.storing import (
    from_npy_stack,
    from_zarr,
    store,
    to_hdf5,
    to_npy_stack,
    to_zarr,
)
from zcluster.delayed import delayed
from zcluster.errors import NotSerializable

pytestmark = pytest.mark.processes

VALUES = np.random.default_rng(0).random((300, 200))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Return a client of two workers."""
    with Client(n_workers=2, threads_per_worker=1) as made:
        yield made


@pytest.mark.usefixtures("client")
class TestFiles:
    def test_mapped_files_are_opened_there(self, tmp_path: Path) -> None:
        """Read and written by name."""
        np.save(tmp_path / "x.npy", VALUES)
        x = from_array(np.load(tmp_path / "x.npy", mmap_mode="r"), 70)
        assert (x[::-1, 3:].compute() == VALUES[::-1, 3:]).all()
        target = np.lib.format.open_memmap(tmp_path / "y.npy", "w+", "f8", VALUES.shape)
        store(x + 1, np.load(tmp_path / "y.npy", mmap_mode="r+"))
        assert (target == VALUES + 1).all()

    def test_stacks(self, tmp_path: Path) -> None:
        """Each file is written and read by a worker."""
        to_npy_stack(tmp_path / "s", from_numpy(VALUES, 70))
        assert (from_npy_stack(tmp_path / "s").compute() == VALUES).all()

    def test_hdf5(self, tmp_path: Path) -> None:
        """Read there, written here; a dataset is no target for workers."""
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        to_hdf5(tmp_path / "a.h5", "x", from_numpy(VALUES, 70) + 1)
        with h5py.File(tmp_path / "a.h5", "r") as file:
            assert (from_array(file["x"], 70).compute() == VALUES + 1).all()
        with (
            h5py.File(tmp_path / "a.h5", "a") as file,
            pytest.raises(NotSerializable, match="use to_hdf5"),
        ):
            store(from_numpy(VALUES, 70), file["x"])

    def test_zarr(self, tmp_path: Path) -> None:
        """Both by workers."""
        pytest.importorskip("zarr", reason="zarr is not installed")
        loop = pytest.importorskip("zarr.core.sync", reason="zarr 2 is installed")
        try:
            to_zarr(from_numpy(VALUES, 70), tmp_path / "a.zarr")
            assert (from_zarr(tmp_path / "a.zarr").compute() == VALUES).all()
        finally:
            loop.cleanup_resources()  # zarr keeps a thread with an event loop

    def test_memory_of_this_process(self) -> None:
        """Nobody there could write into it."""
        with pytest.raises(NotSerializable, match="scheduler='threads'"):
            store(from_numpy(VALUES, 70), np.zeros_like(VALUES))
        target = np.zeros_like(VALUES)
        store(from_numpy(VALUES, 70), target, scheduler="threads")
        assert (target == VALUES).all()


class TestValues:
    def test_lazy_values_and_futures(self, client: Client) -> None:
        """Blocks that calls make, and blocks on workers."""
        parts = [from_delayed(delayed(np.full)(3, n), (3,), int) for n in range(3)]
        assert (concatenate(parts) + 1).compute().tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
        future = client.submit(np.arange, 4)
        assert (from_delayed(future, (4,), int) * 2).compute().tolist() == [0, 2, 4, 6]
        blocks = (from_numpy(VALUES, 90) + 1).to_delayed()
        assert (delayed(np.block)(blocks.tolist()).compute() == VALUES + 1).all()


@pytest.mark.usefixtures("client")
class TestIndices:
    def test_read(self) -> None:
        """Boxes of large blocks, points of small ones, lazy places, masks."""
        x = (from_numpy(VALUES, 150) + 1).persist()
        a = VALUES + 1
        some = np.random.default_rng(1).integers(0, 200, 500)
        assert (x[some].compute() == a[some]).all()
        assert (x[some[:20], some[:20]].compute() == a[some[:20], some[:20]]).all()
        assert (x[from_numpy(some, 130)].compute() == a[some]).all()
        assert (x[x > 1.5].compute() == a[a > 1.5]).all()
        assert (x[:, [10, 1, 5]].compute() == a[:, [10, 1, 5]]).all()

    def test_written(self) -> None:
        """Of kept arrays: what is kept stays what it was."""
        x = (from_numpy(VALUES, 150) + 1).persist()
        y, a = x.copy(), VALUES + 1
        pair: tuple[Any, Any] = (y, a)
        for each in pair:
            each[3:290:7, [5, 1]] = 0
            each[[0, 299], [199, 0]] = [7, 8]
            each[each > 1.9] = -1
        assert (y.compute() == a).all()
        assert (x.compute() == VALUES + 1).all()
