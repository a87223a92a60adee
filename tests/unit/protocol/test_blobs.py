"""The form of a blob: sizes, alignment, dtypes, and what is refused."""

from __future__ import annotations

import mmap
import sys
import tempfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zcluster.errors import ProtocolError
from zcluster.protocol import blobs
from zcluster.protocol.blobs import ArrayHeader, PartsHeader, PickledHeader, Plan, read_header
from zcluster.protocol.objects import Parts, load, plan


def array_of(blob: bytes) -> np.ndarray[Any, Any]:
    header, at = read_header(memoryview(blob))
    assert isinstance(header, ArrayHeader)
    return blobs.array_view(memoryview(blob), header, at)


DTYPES = [
    "?",
    "i1",
    ">i4",
    "<u8",
    "f2",
    "f8",
    "c16",
    "M8[ns]",
    "m8[s]",
    "S5",
    "U3",
    "V7",
    "S0",
    [("a", "i4"), ("b", "f8", (2, 3)), ("c", [("x", "U3"), ("y", "i1")])],
    [(("title", "name"), ">i2")],
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 0, 3), (1, 1)])
def test_every_plain_dtype_has_the_array_form(dtype: Any, shape: tuple[int, ...]) -> None:
    """A dtype that fell back to pickle could not be cut."""
    array = np.zeros(shape, dtype)
    if array.nbytes and array.dtype.names is None:
        array.reshape(-1).view("u1")[:] = 1
    planned = blobs.plan_array(array)
    assert planned is not None
    blob = planned.tobytes()
    assert len(blob) == planned.size
    back = array_of(blob)
    assert back.dtype == array.dtype
    assert back.shape == shape
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype(object),
        np.dtype([("a", object)]),
        np.dtypes.StringDType(),
        np.dtype("f8", metadata={"unit": "m"}),
        np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 2]}),
    ],
    ids=str,
)
def test_other_dtypes_are_left_to_pickle(dtype: np.dtype[Any]) -> None:
    """Written as bytes they would be pointers, or lose something."""
    assert blobs.plan_array(np.empty(2, dtype)) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_view_is_written_contiguously(data: st.DataObject) -> None:
    """Strided, transposed, reversed and broadcast views keep their items."""
    array = data.draw(hnp.arrays("i4", hnp.array_shapes(min_dims=1, max_dims=4, max_side=6)))
    index: Any = data.draw(hnp.basic_indices(array.shape, allow_newaxis=True))
    view = np.asarray(array[index])
    if data.draw(st.booleans()):
        view = view.T
    planned = blobs.plan_array(view)
    assert planned is not None
    target = bytearray(b"\xff" * (planned.size + 3))
    planned.write_into(memoryview(target))
    assert target[-3:] == b"\xff" * 3
    assert bytes(target[:-3]) == planned.tobytes() == bytes(planned.written())
    assert planned.is_scattered == (not (view.flags.c_contiguous or view.flags.f_contiguous))
    back = array_of(planned.tobytes())
    assert back.flags.c_contiguous or back.flags.f_contiguous
    np.testing.assert_array_equal(back, view)


def test_a_broadcast_array_is_written_out() -> None:
    """Its strides are zero: the memory is smaller than the array."""
    view = np.broadcast_to(np.arange(3), (4, 3))
    planned = blobs.plan_array(view)
    assert planned is not None
    np.testing.assert_array_equal(array_of(planned.tobytes()), view)


def test_buffers_are_aligned_at_any_depth() -> None:
    """Arrays in parts and in pickles start at multiples of 64 bytes, as long as the blob does."""
    value = Parts([np.arange(7.0), {"a": np.arange(3000.0), "b": np.arange(5001, dtype="i1")}, 3])
    blob = np.frombuffer(plan(value).tobytes() + bytes(64), "u1")
    there = np.empty(blob.size + 64, "u1")
    start = -there.ctypes.data % blobs.ALIGNMENT
    there[start : start + blob.size] = blob
    first, second, _ = load(there[start : start + blob.size].data)
    for array in (first, second["a"], second["b"]):
        assert array.ctypes.data % blobs.ALIGNMENT == 0
        assert np.shares_memory(array, there)


def test_large_pieces_are_copied_with_and_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that never loaded NumPy copies in steps."""
    data = bytes(range(256)) * 10_000
    planned = Plan([b"head", data])
    target = bytearray(planned.size)
    planned.write_into(memoryview(target))
    assert target == b"head" + data
    monkeypatch.delitem(sys.modules, "numpy")
    again = bytearray(planned.size)
    planned.write_into(memoryview(again))
    assert again == target


def test_a_target_that_is_too_small_is_refused() -> None:
    """Both sizes are named."""
    with pytest.raises(ProtocolError, match="blob of 4 bytes does not fit into 3 bytes"):
        Plan([b"four"]).write_into(memoryview(bytearray(3)))


def test_a_target_of_another_format_is_written_as_bytes() -> None:
    """Memory that came as an array of integers is memory."""
    target = memoryview(bytearray(8)).cast("I")
    Plan([b"fourfour"]).write_into(target)
    assert target.tobytes() == b"fourfour"


def test_five_gigabytes_need_no_thirty_two_bit_number() -> None:
    """Sizes, offsets and the array itself go past 4 GiB; the file is sparse."""
    length = 5 << 30
    planned = blobs.plan_array(np.broadcast_to(np.uint8(0), (length,)))
    assert planned is not None
    head = planned.pieces[0]
    assert isinstance(head, bytes)
    assert planned.size == len(head) + length
    with tempfile.TemporaryFile() as file:
        file.write(head)
        file.seek(planned.size - 1)
        file.write(b"\x07")
        file.flush()
        with mmap.mmap(file.fileno(), planned.size) as memory:
            array = load(memoryview(memory))
            assert array.shape == (length,)
            assert array[-1] == 7
            part = blobs.plan_parts([Plan([memoryview(memory)]), Plan([b"\x80\x05N."])])
            table = part.pieces[1]
            assert isinstance(table, bytes)
            assert int.from_bytes(table[16:24], "little") == part.size - 64
            del array, part, planned


def test_headers_say_what_follows() -> None:
    """Each kind has its own header; a plain pickle has none."""
    kinds = {
        type(read_header(memoryview(plan(value).tobytes()))[0])
        for value in (1, np.zeros(3), Parts([1]), [np.zeros(5000)])
    }
    assert kinds == {type(None), ArrayHeader, PartsHeader, PickledHeader}


@pytest.mark.parametrize(
    "value", [np.arange(100.0), Parts([1, b"x" * 200]), [np.zeros(5000)]], ids=["a", "p", "k"]
)
def test_a_blob_that_was_cut_off_is_refused_at_any_length(value: Any) -> None:
    """Whatever is missing, nobody reads past the end."""
    blob = plan(value).tobytes()
    ends = {*range(min(len(blob), 300)), len(blob) - 100}
    for end in sorted(ends):
        with pytest.raises(ProtocolError):
            load(blob[:end])


@pytest.mark.parametrize(
    "blob",
    [
        b"ZB\x02\x01\x00\x00\x00\x00",
        b"ZB\x01\x09\x00\x00\x00\x00",
        b"hello, world",
        b"ZB\x01\x01\x03\x00\x00\x00abc",
        b"ZB\x01\x02\x02\x00\x00\x00\x91\xff" + bytes(100),
    ],
)
def test_what_is_no_blob_is_refused(blob: bytes) -> None:
    """Wrong version, kind, magic or header: an error of the protocol, not of a library."""
    with pytest.raises(ProtocolError):
        load(blob)


def test_a_part_that_does_not_exist_is_refused() -> None:
    """The number asked for and the count are named."""
    view = memoryview(plan(Parts([1, 2])).tobytes())
    header, at = read_header(view)
    assert isinstance(header, PartsHeader)
    with pytest.raises(ProtocolError, match="part 2 was asked of a result that has 2 parts"):
        blobs.part_view(view, header, at, 2)
