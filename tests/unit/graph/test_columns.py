"""Reading a part refuses whatever would break a promise of the protocol."""

from __future__ import annotations

import subprocess
import sys
from array import array

import pytest

from zcluster.errors import ProtocolError
from zcluster.graph.columns import read_part, row_width
from zcluster.protocol.messages import Layer, LayerPart, Slot


class Frame:
    """One payload frame, written array by array."""

    def __init__(self) -> None:
        self.data = bytearray()

    def put(self, code: str, *values: int) -> tuple[int, int, int]:
        start = len(self.data)
        self.data += bytes(values) if code == "B" else array(code, values).tobytes()
        return (0, start, len(self.data))


def layer(call: int = 0, **changes: object) -> Layer:
    fields = {"name": "x", "shape": [3], "first": 0, "count": 3, "call": call, "function": b""}
    return Layer(**(fields | changes))  # type: ignore[arg-type]


def test_a_good_part_is_read_without_copying() -> None:
    frame = Frame()
    part = LayerPart(
        0,
        1,
        2,
        -1,
        frame.put("I", 0, 1, 3),
        frame.put("I", 0, 1, 4),
        frame.put("i", -5, 7),
        frame.put("I", 0, 2, 2),
        frame.put("B", 8, 9),
    )
    columns = read_part(part, [frame.data], end=3, imports=2)
    assert columns.indptr is not None
    assert columns.orders is not None
    assert columns.offsets is not None
    assert columns.indptr.tolist() == [0, 1, 3]
    assert columns.indices.tolist() == [0, 1, 4]
    assert columns.orders.tolist() == [-5, 7]
    assert bytes(columns.constants[columns.offsets[0] : columns.offsets[1]]) == b"\x08\x09"
    assert columns.indices.obj is frame.data


@pytest.mark.parametrize("count", [3, 500])
@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("bad", ["itself", "later", "past the imports"])
def test_an_input_that_is_not_earlier_is_refused(count: int, by_row: bool, bad: str) -> None:
    """500 tasks take the way through NumPy, 3 the way without."""
    frame = Frame()
    indices = [count] * count  # all of them import 0
    at = count - 2
    indices[at] = {"itself": at, "later": at + 1, "past the imports": count + 1}[bad]
    indptr = frame.put("I", *range(count + 1)) if by_row else None
    part = LayerPart(0, 0, count, -1 if by_row else 1, indptr, frame.put("I", *indices))
    with pytest.raises(ProtocolError, match=f"task {at} takes input {indices[at]}"):
        read_part(part, [frame.data], end=count, imports=1)


@pytest.mark.parametrize("count", [3, 500])
def test_offsets_that_fall_are_refused(count: int) -> None:
    frame = Frame()
    offsets = frame.put("I", 0, 2, *([1] * (count - 2)), 3)
    part = LayerPart(0, 0, count, 0, offsets=offsets, constants=frame.put("B", 1, 2, 3))
    with pytest.raises(ProtocolError, match="does not rise"):
        read_part(part, [frame.data], end=count, imports=0)


BAD_PARTS = {
    "no task": LayerPart(0, 0, 0, 0),
    "negative first": LayerPart(0, -1, 1, 0),
    "past the end": LayerPart(0, 8, 3, 0),
    "arity": LayerPart(0, 0, 1, -2),
    "a frame that is not there": LayerPart(0, 0, 1, 1, indices=(1, 0, 4)),
    "past the frame": LayerPart(0, 0, 1, 1, indices=(0, 60, 68)),
    "a broken integer": LayerPart(0, 0, 1, 1, indices=(0, 0, 3)),
    "too few indices": LayerPart(0, 0, 2, 1, indices=(0, 0, 4)),
    "no indptr": LayerPart(0, 0, 1, -1, indices=(0, 0, 4)),
    "short indptr": LayerPart(0, 0, 1, -1, indptr=(0, 0, 4)),
    "indptr and arity": LayerPart(0, 0, 1, 1, indptr=(0, 0, 8), indices=(0, 0, 4)),
    "orders": LayerPart(0, 0, 1, 0, orders=(0, 0, 8)),
    "constants without offsets": LayerPart(0, 0, 1, 0, constants=(0, 0, 4)),
    "offsets without constants": LayerPart(0, 0, 1, 0, offsets=(0, 0, 8)),
    "selections of half an integer": LayerPart(0, 0, 1, 0, selections=(0, 0, 4)),
}


@pytest.mark.parametrize("part", BAD_PARTS.values(), ids=BAD_PARTS.keys())
def test_a_malformed_part_is_refused(part: LayerPart) -> None:
    frame = array("I", [0, 9, 0, 9, 0, 9, 0, 9, 0, 9, 0, 9, 0, 9, 0, 9]).tobytes()
    with pytest.raises(ProtocolError):
        read_part(part, [frame], end=10, imports=0)


def test_a_part_must_fit_its_layer() -> None:
    frame = Frame()
    listed = frame.put("I", 9, 9, 9)
    part = LayerPart(0, 0, 3, 1, indices=listed)
    assert read_part(part, [frame.data], end=9, imports=1, layer=layer()).count == 3
    for wrong, says in [
        (layer(first=1), "not in layer"),
        (layer(count=2), "not in layer"),
        (layer(call=5), "without constants"),
        (layer(slots=[Slot(1)]), "expected 3"),
        (layer(slots=[Slot(3, 2)]), "expected 18"),
        (layer(slots=[Slot(4)]), "kind"),
    ]:
        with pytest.raises(ProtocolError, match=says):
            read_part(part, [frame.data], end=9, imports=1, layer=wrong)
    with pytest.raises(ProtocolError, match="without inputs"):
        read_part(LayerPart(0, 0, 3, 0), [], end=9, imports=0, layer=layer(call=4))
    constant = LayerPart(0, 0, 1, 0, offsets=frame.put("I", 0, 1), constants=frame.put("B", 1))
    with pytest.raises(ProtocolError, match="with constants"):
        read_part(constant, [frame.data], end=9, imports=1, layer=layer(call=0))


def test_the_last_slot_repeats() -> None:
    slots = [Slot(0), Slot(3, 2), Slot(1)]
    assert [row_width(slots, (), n) for n in range(5)] == [0, 0, 6, 7, 8]
    assert row_width(slots, [Slot(1), Slot(2)], 0) == 1
    assert row_width((), (), 3) == 0


def test_reading_imports_nothing_that_unpickles() -> None:
    code = (
        "import sys, zcluster.graph.columns, zcluster.graph.layers, zcluster.graph.lowering\n"
        "bad = {'pickle', 'cloudpickle', 'numpy', 'asyncio', 'zcluster.protocol.objects'}\n"
        "assert not bad & set(sys.modules), bad & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
