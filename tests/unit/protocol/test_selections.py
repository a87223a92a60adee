"""Selections cut by bytes agree with NumPy's slices and with cutting the live value."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zcluster.errors import InvalidArgument, ProtocolError
from zcluster.protocol.blobs import Strided
from zcluster.protocol.objects import Parts, load, plan
from zcluster.protocol.selections import (
    Box,
    Part,
    Selection,
    apply,
    box_of,
    can_cut,
    cut,
    selection_from,
)

bounds = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 4))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_box_means_what_slices_mean(data: st.DataObject) -> None:
    """For any shape, order, dtype and bounds, past the end included; a cut can be cut again."""
    dtype = data.draw(st.sampled_from(["i1", "i2", "f4", "f8", "c16", "S3", "U2", "M8[s]"]))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, max_side=7, min_side=0))
    array = np.arange(np.prod(shape, dtype=int)).astype("i8").reshape(shape).astype(dtype)
    if data.draw(st.booleans()):
        array = np.asfortranarray(array)
    box = Box(tuple(data.draw(st.lists(bounds, max_size=len(shape)))))
    index: Any = (*box.slices(), ...)
    expected = array[index]
    blob = plan(array).tobytes()
    assert can_cut(blob, box)
    planned = cut(blob, box)
    target = bytearray(planned.size)
    planned.write_into(memoryview(target))
    back = load(target)
    assert back.dtype == array.dtype
    assert back.shape == expected.shape
    np.testing.assert_array_equal(back, expected)
    np.testing.assert_array_equal(apply(array, box), expected)
    again = load(cut(planned.tobytes(), box).tobytes())
    np.testing.assert_array_equal(again, expected[index])


def test_structured_arrays_are_cut_too() -> None:
    """The cutter sees items of so many bytes and keeps their description."""
    array = np.zeros((4, 3), [("a", "i4"), ("b", "f8", (2,))])
    array["a"] = np.arange(12).reshape(4, 3)
    back = load(cut(plan(array).tobytes(), Box(((1, 4, 2),))).tobytes())
    np.testing.assert_array_equal(back, array[1:4:2])
    assert back.dtype == array.dtype


def test_a_contiguous_cut_is_a_view() -> None:
    """Ghost rows are sent from where they lie."""
    array = np.arange(60_000.0).reshape(100, 600)
    blob = plan(array).tobytes()
    rows = cut(blob, Box(((3, 5, 1),)))
    assert rows.size < 2 * 600 * 8 + 200
    piece = rows.pieces[-1]
    assert isinstance(piece, memoryview)
    assert np.shares_memory(np.frombuffer(piece, "u1"), np.frombuffer(blob, "u1"))
    columns = cut(blob, Box(((0, 100, 1), (3, 5, 1))))
    assert isinstance(columns.pieces[-1], Strided)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.integers(), st.text(), st.just(np.arange(700.0))), min_size=1))
def test_every_part_is_cut_out_as_it_went_in(values: list[Any]) -> None:
    """By its number, as a blob of its own."""
    blob = plan(Parts(values)).tobytes()
    for number, value in enumerate(values):
        assert can_cut(blob, Part(number))
        planned = cut(blob, Part(number))
        assert planned.tobytes() == plan(value).tobytes()
        np.testing.assert_equal(load(planned.tobytes()), value)
        np.testing.assert_equal(apply(Parts(values), Part(number)), value)


@pytest.mark.parametrize(
    ("value", "selection"),
    [
        (1, Part(0)),
        ([1, 2], Part(0)),
        ([np.zeros(9000)], Part(0)),
        (np.zeros(3), Part(0)),
        (Parts([1]), Box(())),
        (np.array([None]), Box(((0, 1, 1),))),
    ],
    ids=range(6),
)
def test_other_forms_are_not_cut_by_bytes(value: Any, selection: Selection) -> None:
    """They move whole; the error says what to do."""
    blob = plan(value).tobytes()
    assert not can_cut(blob, selection)
    with pytest.raises(ProtocolError, match="send it whole"):
        cut(blob, selection)


def test_what_is_not_there_is_refused() -> None:
    """Parts past the end, too many dimensions, values of the wrong kind."""
    with pytest.raises(ProtocolError, match="part 2 was asked of a result that has 2 parts"):
        cut(plan(Parts([1, 2])).tobytes(), Part(2))
    with pytest.raises(ProtocolError, match="a box of 2 dimensions was asked of an array of 1"):
        cut(plan(np.zeros(3)).tobytes(), Box(((0, 1, 1), (0, 1, 1))))
    with pytest.raises(ProtocolError, match="a box of 2 dimensions"):
        apply(np.zeros(3), Box(((0, 1, 1), (0, 1, 1))))
    with pytest.raises(ProtocolError, match="a list that has 1 parts"):
        apply([1], Part(1))
    with pytest.raises(ProtocolError, match="a dict that has no parts"):
        apply({0: 1}, Part(0))
    with pytest.raises(ProtocolError, match="a str, which is no array"):
        apply("abc", Box(()))


def test_objects_in_arrays_are_cut_where_they_are_used() -> None:
    """The live value can be cut even if its blob cannot."""
    assert apply(np.array([1, None, "a"], object), Box(((1, 3, 1),))).tolist() == [None, "a"]
    assert apply((1, 2), Part(1)) == 2


@pytest.mark.parametrize("selection", [Part(3), Box(()), Box(((0, 5, 1), (2, 9, 3)))])
def test_the_wire_forms_come_back(selection: Selection) -> None:
    """As a struct and as a kind with integers."""
    packed = msgspec.msgpack.encode(selection)
    assert msgspec.msgpack.decode(packed, type=Part | Box) == selection
    kind = 1 if isinstance(selection, Part) else 3
    assert selection_from(kind, selection.integers()) == selection


@pytest.mark.parametrize(
    ("kind", "integers"),
    [(1, []), (1, [1, 2]), (1, [-1]), (3, [1, 2]), (3, [0, 1, 0]), (3, [-1, 1, 1]), (2, [1])],
)
def test_malformed_selections_are_refused(kind: int, integers: list[int]) -> None:
    """They come over the wire."""
    with pytest.raises(ProtocolError):
        selection_from(kind, integers)


def test_malformed_structs_are_refused() -> None:
    """Also by the decoder."""
    for data in ([1, -1], [3, [[0, 1, 0]]]):
        with pytest.raises(msgspec.ValidationError):
            msgspec.msgpack.decode(msgspec.msgpack.encode(data), type=Part | Box)


def test_slices_become_boxes() -> None:
    """What counts from the end is counted out; negative steps have no box."""
    assert box_of([slice(-3, None), slice(None, None, 2)], (10, 4, 5)) == Box(
        ((7, 10, 1), (0, 4, 2))
    )
    with pytest.raises(InvalidArgument, match="a step of 1 or more"):
        box_of([slice(None, None, -1)], (10,))
    with pytest.raises(InvalidArgument, match="2 slices for 1 dimensions"):
        box_of([slice(1), slice(1)], (10,))
