"""Arrays of what is there: NumPy's, files, lazy values."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zcluster
from zcluster.array.core import Array
from zcluster.array.io import asanyarray, asarray, from_array, from_delayed, to_delayed
from zcluster.array.joining import concatenate
from zcluster.array.lowering import lower_arrays
from zcluster.delayed import Delayed, delayed
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import LargeArgument
from zcluster.protocol.calls import CALL_VALUE

Agrees = Callable[..., None]

VALUES = np.arange(600.0).reshape(30, 20)


class Store:
    """Something with shape, dtype and items, which notes what is read."""

    def __init__(self, values: Any, chunks: Any = None) -> None:
        self._values = values
        self.shape = values.shape
        self.dtype = values.dtype
        if chunks is not None:
            self.chunks = chunks
        self.read: list[Any] = []

    def __getitem__(self, index: Any) -> Any:
        self.read.append(index)
        return self._values[index]

    def __zcluster_tokenize__(self) -> Any:
        return ("store", self._values)


class TestNumPy:
    @pytest.mark.proves("array.from_array")
    def test_in_chunks(self, agrees: Agrees) -> None:
        """As one says."""
        x = from_array(VALUES, chunks=100)
        assert x.chunks == ((30,), (20,))
        agrees(from_array(VALUES, chunks=7), VALUES)
        agrees(from_array([[1, 2], [3, 4]], chunks=1), np.array([[1, 2], [3, 4]]))
        agrees(from_array(3.5), np.float64(3.5))
        assert from_array(np.arange(10_000), chunks=2500).numblocks == (4,)

    def test_is_in_the_graph_once(self) -> None:
        """However often it is used, and by equal value."""
        large = np.random.default_rng(0).random((1000, 20))
        parts = [from_array(large.copy(), chunks=large.shape) for _ in range(100)]
        x = concatenate(parts)
        assert (x.shape, x.numblocks) == ((100_000, 20), (100, 1))
        graph, _ = lower_arrays([x.expr])
        assert [type(one) for one in graph.imports] == [LargeArgument]
        small = concatenate([from_array(np.arange(3), chunks=3) for _ in range(100)])
        graph, _ = lower_arrays([small.expr])
        assert [(layer.call, layer.count) for layer in graph.layers] == [(CALL_VALUE, 1)]

    def test_names(self) -> None:
        """By value, by choice, or of its own."""
        assert from_array(VALUES, 7).name == from_array(VALUES.copy(), 7).name
        assert from_array(VALUES, 7, name="mine").name == "mine"
        assert from_array(VALUES, 7, name=False).name != from_array(VALUES, 7, name=False).name
        assert from_array(Store(VALUES), 7, name="mine").name == "mine"
        names = {from_array(Store(VALUES), 7, name=False).name for _ in range(2)}
        assert len(names) == 2

    def test_large_ones_are_warned_of(self) -> None:
        """Where they leave the process, with a way round."""
        with zcluster.config.set({"array.large-value": 1000}):
            x = from_array(VALUES, 7) + 1
            x.compute(scheduler="sync")
            with pytest.warns(UserWarning, match=r"an array of shape \(30, 20\).*from_array"):
                lower_arrays([x.expr])

    def test_what_is_no_array(self) -> None:
        """Said with what would be."""
        with pytest.raises(InvalidArgument, match="found a dict; expected something with shape"):
            from_array({})
        with pytest.raises(InvalidArgument, match="lazy already"):
            from_array(from_array(VALUES))


class TestStores:
    def test_only_what_is_needed_is_read(self, agrees: Agrees) -> None:
        """Slices move into the reading, below what is calculated."""
        store = Store(VALUES)
        x = from_array(store, chunks=(10, 20)) + 1
        agrees(x[12:15, 3:5], VALUES[12:15, 3:5] + 1)
        assert store.read == [(slice(12, 15), slice(3, 5))]
        agrees(x, VALUES + 1)
        assert len(store.read) == 4

    def test_chunks_follow_those_of_the_store(self) -> None:
        """Automatic ones are multiples of them."""
        x = from_array(Store(np.zeros((1000, 1000)), chunks=(30, 1000)), chunks="1MB")
        assert x.chunks[0][0] % 30 == 0
        assert x.chunks[0][0] > 30
        assert from_array(Store(VALUES, chunks=None), chunks=8).chunksize == (8, 8)

    def test_options(self, agrees: Agrees) -> None:
        """Of reading."""
        read: list[Any] = []

        def getitem(store: Any, index: Any) -> Any:
            read.append(index)
            return store[index]

        agrees(from_array(VALUES, 10, getitem=getitem, lock=True), VALUES)
        assert len(read) == 6
        listed = Store(VALUES)
        del listed.dtype
        agrees(from_array(listed, 10, meta=np.empty(0, "f8")), VALUES)
        matrix = from_array(Store(np.ma.masked_array([1, 2], [False, True])), asarray=False)
        assert isinstance(matrix.compute(scheduler="sync"), np.ma.MaskedArray)

    def test_a_mapped_file_is_read_by_name(self, tmp_path: Path, agrees: Agrees) -> None:
        """Nothing of it is in the graph."""
        np.save(tmp_path / "values.npy", VALUES)
        values = np.load(tmp_path / "values.npy", mmap_mode="r")
        x = from_array(values, 7)
        agrees(x, VALUES)
        assert from_array(values, 7).name == x.name
        graph, _ = lower_arrays([x.expr])
        assert not graph.imports
        assert sum(len(layer.function.data) for layer in graph.layers if layer.function) < 2000

    def test_datasets_of_hdf5(self, tmp_path: Path, agrees: Agrees) -> None:
        """By their chunks; elsewhere by the name of the file."""
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("group/x", data=VALUES, chunks=(10, 5))
        with h5py.File(tmp_path / "a.h5", "r") as file:
            x = from_array(file["group/x"], chunks="1kB")
            assert all(n % 10 == 0 for n in x.chunks[0])
            agrees(x, VALUES)
            agrees(asarray(file["group/x"])[3:5, ::2], VALUES[3:5, ::2])
            assert from_array(file["group/x"]).name == from_array(file["group/x"]).name
            reader: Any = from_array(file["group/x"]).expr
            there = pickle.loads(pickle.dumps(reader.function))
        assert (there((2, 0), (1, 3)) == VALUES[2:3, :3]).all()
        with h5py.File(tmp_path / "a.h5", "a") as file:  # nobody has it open
            del file["group"]


class TestAsArray:
    @pytest.mark.proves("array.asarray", "array.asanyarray")
    def test_anything(self, agrees: Agrees) -> None:
        """What NumPy takes, and lists of lazy arrays."""
        agrees(asarray([1, 2]), np.asarray([1, 2]))
        agrees(asarray(VALUES, dtype="f4"), np.asarray(VALUES, "f4"))
        agrees(asanyarray([1, 2], "u1"), np.asanyarray([1, 2], "u1"))
        agrees(asarray(5), np.asarray(5))
        x = from_array(VALUES, 7)
        assert asarray(x).name == x.name
        agrees(asarray([x, x + 1]), np.asarray([VALUES, VALUES + 1]))
        agrees(asarray(Store(VALUES, chunks=(4, 4)), dtype="f4"), VALUES.astype("f4"))

    def test_unknown_sizes(self, agrees: Agrees) -> None:
        """They are put together if one says so."""
        x = from_array(np.arange(6), 3)
        some = x[x > 2]
        agrees(asarray([some, some], allow_unknown_chunksizes=True), np.array([[3, 4, 5]] * 2))

    def test_subclasses(self) -> None:
        """They stay, or go."""
        masked = np.ma.masked_array([1, 2], [False, True])
        kept = asanyarray(masked).compute(scheduler="sync")
        assert isinstance(kept, np.ma.MaskedArray)
        assert type(asarray(masked).compute(scheduler="sync")) is np.ndarray

    def test_lazy_values(self) -> None:
        """Their shape is not known."""
        with pytest.raises(TypeError, match="from_delayed"):
            asarray(delayed(1))


class TestLazyValues:
    @pytest.mark.proves("array.from_delayed", "array.Array.to_delayed")
    def test_there_and_back(self) -> None:
        """Blocks of an array, each by itself."""
        x = from_array(VALUES, 11)[::2] + 1
        blocks = to_delayed(x)
        assert blocks.shape == x.numblocks
        assert all(isinstance(one, Delayed) for one in blocks.ravel())
        parts = [
            [
                from_delayed(blocks[i, j], (x.chunks[0][i], x.chunks[1][j]), x.dtype)
                for j in range(2)
            ]
            for i in range(blocks.shape[0])
        ]
        whole = concatenate([concatenate(row, axis=1) for row in parts])
        assert (whole.compute(scheduler="sync") == VALUES[::2] + 1).all()
        assert (x.blocks[1, 1].compute(scheduler="sync") == blocks[1, 1].compute()).all()

    def test_blocks_can_be_packed(self) -> None:
        """For another process."""
        blocks = (from_array(VALUES, 11) + 1).to_delayed()
        again = pickle.loads(pickle.dumps(delayed(np.block)(blocks.tolist())))
        assert (again.compute(scheduler="sync") == VALUES + 1).all()

    def test_what_they_share_is_made_once(self) -> None:
        """In one graph, with calculations on top."""
        calls: list[str] = []

        def base() -> int:
            calls.append("base")
            return 5

        def part(base: int, n: int) -> Any:
            calls.append("part")
            return np.full(2, base + n)

        shared = delayed(base)()
        x = concatenate([from_delayed(delayed(part)(shared, n), (2,), int) for n in range(3)])
        assert (x + 1).compute(scheduler="sync").tolist() == [6, 6, 7, 7, 8, 8]
        assert sorted(calls) == ["base", "part", "part", "part"]

    def test_shapes(self) -> None:
        """What comes is compared with what was said; nan is any length."""
        value = delayed(np.ones)((2, 3))
        with pytest.raises(
            InvalidArgument, match=r"shape \(2, 3\); from_delayed was told \(2, 4\)"
        ):
            from_delayed(value, (2, 4), float).compute(scheduler="sync")
        unknown = from_delayed(value, (math.nan, 3), meta=np.ones(0))
        assert unknown.compute(scheduler="sync").shape == (2, 3)
        assert from_delayed(delayed(7), (), int).compute(scheduler="sync") == 7
        with pytest.raises(InvalidArgument, match="dtype= or meta="):
            from_delayed(value, (2, 3))

    def test_names(self) -> None:
        """By the key of the value, or chosen."""
        value = delayed(np.ones, pure=True)(3)
        assert from_delayed(value, (3,), float).name == from_delayed(value, (3,), float).name
        assert from_delayed(value, (3,), float, name="mine").name == "mine"
        assert isinstance(from_delayed(value, 3, float), Array)
