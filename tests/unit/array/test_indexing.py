"""``x[...]`` with anything that NumPy takes gives what NumPy gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import indexing
from zcluster.array.core import Array, from_numpy
from zcluster.array.indexing import compress, extract, take
from zcluster.errors import InvalidArgument

FAST = settings(max_examples=80, deadline=None)

Agrees = Callable[..., None]
Arrays = Callable[..., st.SearchStrategy[Any]]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]


def made_lazy(data: st.DataObject, index: Any, chunked: Chunked) -> Any:
    """Return an index with some of its arrays lazy."""
    made = []
    for one in index:
        if isinstance(one, np.ndarray) and data.draw(st.booleans()):
            made.append(from_numpy(one, tuple(data.draw(chunked(n)) for n in one.shape)))
        else:
            made.append(one)
    return tuple(made)


class TestAgainstNumPy:
    @pytest.mark.proves("array.Array.__getitem__")
    @given(data=st.data())
    @settings(FAST, max_examples=150)
    def test_any_index(
        self, data: st.DataObject, arrays: Arrays, indices: Arrays, agrees: Agrees
    ) -> None:
        """Arrays and masks, several of them, between integers and slices."""
        a, chunks = data.draw(arrays(ndim=(1, 4), length=(0, 5), dtypes=("i8",)))
        index = data.draw(indices(a.shape))
        x = from_numpy(a, chunks)
        try:
            expected = a[index]
        except IndexError:
            with pytest.raises(IndexError):
                x[index]
            return
        agrees(x[index], expected)

    @given(data=st.data())
    @FAST
    def test_lazy_arrays(
        self, data: st.DataObject, arrays: Arrays, indices: Arrays, chunked: Chunked, agrees: Agrees
    ) -> None:
        """Some of the arrays are not known when it is built."""
        a, chunks = data.draw(arrays(ndim=(1, 3), length=(1, 5), dtypes=("i8",)))
        index = data.draw(indices(a.shape))
        lazy = made_lazy(data, index, chunked)
        try:
            expected = a[index]
        except IndexError:
            return
        try:
            found = from_numpy(a, chunks)[lazy]
        except NotImplementedError:
            arrays_of = [one for one in index if isinstance(one, np.ndarray | bool)]
            assert len(arrays_of) > 1
            assert any(isinstance(one, Array) and one.dtype == bool for one in lazy)
            return
        agrees(found, expected)

    def test_what_a_user_writes_first(self, agrees: Agrees) -> None:
        """Value-dependent shapes."""
        a = np.random.default_rng(0).normal(size=(30, 20))
        x = from_numpy(a, (7, 9))
        agrees(x[x > 0], a[a > 0])
        agrees(x[x[:, 0] > 0], a[a[:, 0] > 0])
        agrees(x[:, x.any(axis=0)], a)
        agrees(x[x.argmax(axis=0)], a[a.argmax(axis=0)])
        agrees(x[x > 0].sum(), a[a > 0].sum(), rtol=1e-12)
        assert math.isnan(x[x > 0].shape[0])

    def test_kinds_of_integers_and_lists(self, agrees: Agrees) -> None:
        """Whatever counts as an integer or a list to NumPy."""
        a = np.arange(12).reshape(3, 4)
        x = from_numpy(a, 2)
        agrees(x[np.int8(1), np.uint16(2)], a[1, 2])
        agrees(x[np.array(1)], a[1])
        agrees(x[np.True_], a[np.True_])
        agrees(x[[True, False, True]], a[[True, False, True]])
        agrees(x[range(2)], a[range(2)])
        agrees(x[[[0, 1], [2, 0]]], a[[[0, 1], [2, 0]]])
        agrees(x[np.array([1, 0], "u1")], a[[1, 0]])

    def test_fields(self, agrees: Agrees) -> None:
        """Of records."""
        a = np.array([(1, 2.5), (3, 4.5)], [("n", "i4"), ("v", "f8")])
        x = from_numpy(a, 1)
        agrees(x["v"] + 1, a["v"] + 1)
        assert x[["n", "v"]].compute(scheduler="sync").tolist() == a.tolist()
        with pytest.raises(IndexError, match="no field of name 'w'; the dtype has n, v"):
            x["w"]
        with pytest.raises(NotImplementedError, match="map_blocks"):
            from_numpy(np.zeros(2, [("m", "f8", 3)]))["m"]


class TestErrors:
    @pytest.mark.parametrize(
        ("index", "message"),
        [
            (1.5, "only integers, slices.*found 1.5"),
            ("n", "no field of name 'n'; the dtype has none"),
            ((0, "n"), "only integers"),
            (np.array([0.5]), "must be of integer \\(or boolean\\) type; found float64"),
            (from_numpy(np.array([0.5])), "found float64"),
            ([4], "index 4 is out of bounds for axis 0 with size 3"),
            (([0, 1], [0, 1, 2]), "could not be broadcast together with shapes \\(2,\\) \\(3,\\)"),
            (np.ones(4, bool), "size of axis is 3 but size of corresponding boolean axis is 4"),
            (from_numpy(np.ones(4, bool)), "corresponding boolean axis is 4"),
            (np.ones((3, 4, 1), bool), "too many indices"),
            ((0, 0, 0), "too many indices"),
            ((..., ...), "single ellipsis"),
            (slice(None, None, 0), "cannot be zero"),
        ],
    )
    def test_at_the_call(self, index: Any, message: str) -> None:
        """What can be known is said where it is written."""
        x = from_numpy(np.zeros((3, 4)), 2)
        with pytest.raises((IndexError, ValueError), match=message):
            x[index]

    def test_a_lazy_mask_with_other_arrays(self) -> None:
        """How long they are together is not known; the way round is."""
        x = from_numpy(np.zeros((3, 4)), 2)
        with pytest.raises(NotImplementedError, match=r"mask\.compute\(\)"):
            x[x[:, 0] > 0, [0, 1]]

    def test_unknown_lengths(self) -> None:
        """A list cannot be found in them, before they are computed."""
        x = from_numpy(np.arange(9), 3)
        some = x[x > 2]
        for index in ([0], 0, np.ones(6, bool), slice(2)):
            with pytest.raises(InvalidArgument, match="compute_chunk_sizes"):
                some[index]


class TestVIndex:
    @pytest.mark.proves("array.Array.vindex")
    @given(data=st.data())
    @settings(FAST, max_examples=30)
    def test_points_in_front(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """As an index of NumPy with something between the arrays."""
        a, chunks = data.draw(arrays(ndim=(3, 3), length=(1, 5), dtypes=("i8",)))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        first, second = rng.integers(0, a.shape[1], (2, 1)), rng.integers(0, a.shape[2], 3)
        agrees(
            from_numpy(a, chunks).vindex[::-1, first, second],
            np.moveaxis(a[::-1, first, second], 0, -1),
        )
        agrees(from_numpy(a, chunks).vindex[0, :, second], a[0, :, second])

    def test_basic_too(self, agrees: Agrees) -> None:
        """Without arrays it is the usual index."""
        a = np.arange(12).reshape(3, 4)
        agrees(from_numpy(a, 2).vindex[1, 1:], a[1, 1:])


class TestBlocks:
    @pytest.mark.proves("array.Array.blocks", "array.Array.partitions")
    def test_some_blocks(self, agrees: Agrees) -> None:
        """Axes stay, lists and slices take several."""
        a = np.arange(60).reshape(6, 10)
        x = from_numpy(a, (2, 3))
        agrees(x.blocks[1], a[2:4])
        agrees(x.blocks[-1, [3, 0]], np.hstack([a[4:, 9:], a[4:, :3]]))
        agrees(
            x.partitions[::2, [True, False, False, True]],
            np.hstack([a[[0, 1, 4, 5], :3], a[[0, 1, 4, 5], 9:]]),
        )
        assert (x.blocks.shape, x.blocks.size, x.blocks.ndim) == ((3, 4), 12, 2)
        assert [one.shape for one in x.blocks.ravel()][:4] == [(2, 3), (2, 3), (2, 3), (2, 1)]

    def test_of_unknown_lengths(self) -> None:
        """Blocks can be told by their number all the same."""
        x = from_numpy(np.arange(9), 3)
        assert x[x > 2].blocks[[2, 0]].compute(scheduler="sync").tolist() == [6, 7, 8]

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            (3, "index 3 is out of bounds for axis 0 with size 3"),
            (None, "no place for a new axis"),
            (slice(2, 2), "takes none of the 3 blocks of axis 0"),
            (([0], [1]), "one list"),
            ((0, 0, 0), "too many indices"),
        ],
    )
    def test_errors(self, index: Any, message: str) -> None:
        """They speak of blocks."""
        with pytest.raises(IndexError, match=message):
            from_numpy(np.zeros((6, 10)), (2, 3)).blocks[index]


class TestFunctions:
    @pytest.mark.proves("array.take", "array.Array.take")
    @given(data=st.data())
    @settings(FAST, max_examples=30)
    def test_take(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Along each axis and flat, in all modes, of lazy places too."""
        a, chunks = data.draw(arrays(ndim=(1, 3), length=(1, 5)))
        axis = data.draw(st.sampled_from([None, *range(-a.ndim, a.ndim)]))
        mode = data.draw(st.sampled_from(["raise", "wrap", "clip"]))
        length = a.size if axis is None else a.shape[axis]
        shape = data.draw(st.sampled_from([(), (4,), (2, 2)]))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        reach = length if mode == "raise" else 9
        places = np.asarray(rng.integers(-reach, reach, shape))
        x = from_numpy(a, chunks)
        expected = np.take(a, places, axis, mode=mode)  # type: ignore[call-overload]
        agrees(take(x, places, axis, mode=mode), expected)
        agrees(x.take(from_numpy(places), axis, mode=mode), expected)

    @pytest.mark.proves("array.compress", "array.Array.compress", "array.extract")
    def test_compress_and_extract(self, agrees: Agrees) -> None:
        """Masks that are short, lazy, flat."""
        a = np.arange(12).reshape(3, 4)
        x = from_numpy(a, 2)
        for condition in ([False, True], [True, False, True]):
            for mask in (condition, from_numpy(np.array(condition))):
                agrees(compress(mask, x, axis=0), a.compress(condition, axis=0))
                agrees(x.compress(mask), a.compress(condition))
        agrees(extract(x % 5 == 0, x), np.extract(a % 5 == 0, a))
        agrees(extract(a % 5 == 0, x), np.extract(a % 5 == 0, a))

    def test_errors(self) -> None:
        """Of modes, types and shapes."""
        with pytest.raises(InvalidArgument, match="expected 'raise', 'wrap' or 'clip'"):
            take([1], 0, mode="near")
        with pytest.raises(TypeError, match="float64; expected integers"):
            take([1], [0.5])
        with pytest.raises(InvalidArgument, match="found 2 axes"):
            compress([[True]], [1])
        with pytest.raises(IndexError, match="index 2 is out of bounds"):
            compress([False, False, True], [1, 2])


def test_names_are_the_same_again() -> None:
    """Deterministic, whatever the index."""
    x = from_numpy(np.arange(12).reshape(3, 4), 2)
    for index in ([2, 0], ([0, 1], [1, 1]), x > 3, x[:, 0] % 3, (0, [1, 2])):
        assert x[index].name == x[index].name
    assert x[[0, 1], [1, 1]].name != x[[0, 1], [1, 2]].name


def test_all_that_is_public() -> None:
    """Methods and functions."""
    assert set(indexing.METHODS) == {"__getitem__", "compress", "take"}
