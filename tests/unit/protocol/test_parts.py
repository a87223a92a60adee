"""What NumPy's and pandas' objects consist of; most of it is seen in test_tokens.py."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zcluster.protocol.tokens import tokenize


def sure(value: Any) -> str:
    return tokenize(value, ensure_deterministic=True)


def test_dtypes_are_told_apart() -> None:
    """By what they are made of, which their short text does not always say."""
    different = [
        np.dtype("f8"),
        np.dtype(">f8"),
        np.dtype("V8"),
        np.dtype(("f4", (2,))),
        np.dtype("M8[s]"),
        np.dtype("M8[2s]"),
        np.dtype("S3"),
        np.dtype("U3"),
        np.dtype(object),
        np.dtype([("a", "f4"), ("b", "f4")]),
        np.dtype([("a", "f4"), ("c", "f4")]),
        np.dtype([("a", "f4", 2)]),
        np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]}),
        np.dtype((np.record, [("a", "f4"), ("b", "f4")])),
        np.dtype("f8", metadata={"a": 1}),
        np.dtypes.StringDType(),
        np.dtypes.StringDType(na_object=None),
        np.float64,
    ]
    assert len({sure(value) for value in different}) == len(different)
    assert sure(np.dtype("f8")) == sure(np.dtype(float))
    arrays = [np.zeros(2, dtype) for dtype in different[:-1] if isinstance(dtype, np.dtype)]
    assert len({sure(array) for array in arrays if array.shape == (2,)}) == len(arrays) - 1


def test_scalars_are_told_apart_from_each_other_and_from_arrays() -> None:
    pair = np.dtype([("a", "f4"), ("b", object)])
    different: list[Any] = [
        np.float64(1),
        np.float32(1),
        np.int64(1),
        1.0,
        np.array(1.0),
        np.str_("a"),
        np.bytes_(b"a"),
        np.bool_(True),
        np.datetime64(1, "s"),
        np.datetime64(1, "ms"),
        np.timedelta64(1, "s"),
        np.array((1, "x"), pair)[()],
        np.array((1, "y"), pair)[()],
    ]
    assert len({sure(value) for value in different}) == len(different)
    assert sure(np.float64(0.5)) == sure(np.ones(1)[0] / 2)


def test_functions_of_numpy_are_named_and_others_told_by_what_they_do() -> None:
    """`frompyfunc` hides the function it was given, so nothing is known of what it returns."""
    scipy = pytest.importorskip("scipy.special")
    named = [np.add, np.subtract, np.sum, np.add.reduce, np.linalg.norm, scipy.erf, scipy.erfc]
    assert len({sure(value) for value in named}) == len(named)
    hidden = np.frompyfunc(lambda x: x, 1, 1)
    assert tokenize(hidden) != tokenize(hidden)
    first, second = np.vectorize(lambda x: x + 1, [float]), np.vectorize(lambda x: x + 2, [float])
    token = sure(first)
    assert token != sure(second)
    first([1, 2])  # which it remembers
    assert sure(first) == token


def test_enumerations_are_told_by_member() -> None:
    class Color(enum.Flag):
        RED = 1
        BLUE = 2

    different = [Color.RED, Color.BLUE, Color.RED | Color.BLUE, Color(0), 1, Color]
    assert len({sure(value) for value in different}) == len(different)


# ------------------------------------------------------------------------------------ maps of files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.npy"
    np.save(path, np.arange(1000.0).reshape(100, 10))
    os.utime(path, ns=(10**18, 10**18))
    return path


def opened(path: Path, mode: Any = "r") -> Any:
    return np.load(path, mmap_mode=mode)


def test_a_map_is_told_by_its_file(path: Path) -> None:
    """And the time of its last change; it may be too large to be read."""
    array = opened(path)
    token = sure(array)
    assert token == sure(opened(path)) != sure(np.array(array))
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert sure(opened(path)) != token
    os.utime(path, ns=(10**18, 10**18))
    assert sure(opened(path)) == token


def test_places_in_a_map_are_told_apart(path: Path) -> None:
    """A view of a map has the offset of the whole in its attributes."""
    array = opened(path)
    different = [
        array,
        array[1:],
        array[:-1],
        array[:50],
        array[50:],
        array[:, ::2],
        array[:, 1::2],
        array[::-1],
        array.T,
        array.reshape(-1),
        array.view("i8"),
        array[:0],
        np.memmap(path, "f8", "r", 128, (100, 10))[2:],
    ]
    assert len({sure(value) for value in different}) == len(different)
    assert sure(array[3:]) == sure(opened(path)[1:][2:])
    assert sure(np.memmap(path, "f8", "r", 128 + 80)) == sure(array[1:].reshape(-1))


def test_a_map_of_a_file_whose_name_went_to_another(path: Path, tmp_path: Path) -> None:
    """Its time and size are those of another file; some of its elements are looked at."""
    array = opened(path)
    new = tmp_path / "new.npy"
    np.save(new, np.arange(1000.0).reshape(100, 10) + 1)
    os.utime(new, ns=(10**18, 10**18))
    new.replace(path)
    assert sure(array) != sure(opened(path))


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_what_may_be_written_through_is_read(path: Path, mode: str) -> None:
    """A file's time is not that of the last write to its map."""
    array = opened(path, mode)
    token = sure(array)
    assert token == sure(np.array(array))
    array[3, 3] = -1
    assert sure(array) != token


def test_maps_without_a_file_are_read(path: Path) -> None:
    """Of a file that is gone, of one without a name, and arrays that are maps by type alone."""
    array = opened(path)
    assert sure(array + 0) == sure(np.array(array))
    path.unlink()
    assert sure(array) == sure(np.array(array))
