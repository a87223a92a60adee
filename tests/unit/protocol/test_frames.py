"""Every message survives its frames, and nothing but a message comes out of bytes."""

from __future__ import annotations

import types
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.errors import ProtocolError
from zcluster.protocol import messages
from zcluster.protocol.frames import (
    CONTROL_LIMIT,
    FRAMES_LIMIT,
    Decoder,
    check_frames,
    encode,
    span,
)
from zcluster.protocol.messages import Free, Goodbye, Heartbeat, Message, Slot, Stop
from zcluster.types import Buffer

GROUPS = (
    "CLIENT_TO_SCHEDULER",
    "SCHEDULER_TO_CLIENT",
    "SCHEDULER_TO_NODE",
    "NODE_TO_SCHEDULER",
    "NODE_TO_WORKER",
    "WORKER_TO_NODE",
    "DATA_PORT",
)
KINDS = [(group, kind) for group in GROUPS for kind in getattr(messages, group)]
DECODERS = {group: Decoder(getattr(messages, group)) for group in GROUPS}

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1) | st.integers(-1, 300),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=20),
    bool: st.booleans(),
    type(None): st.none(),
    msgspec.Raw: st.integers(0, 9).map(lambda value: msgspec.Raw(encode({"value": value}))),
}


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values that an annotation of a message allows."""
    if annotation in SCALARS:
        return SCALARS[annotation]
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list:
        return st.lists(values_of(inner[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(values_of(inner[0]), values_of(inner[1]), max_size=3)
    if origin is tuple:
        return st.tuples(*map(values_of, inner))
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(values_of, inner))
    assert issubclass(annotation, Message), annotation
    return messages_of(annotation)


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    hints = typing.get_type_hints(kind)
    names = kind.__struct_fields__
    return st.builds(kind, **{name: values_of(hints[name]) for name in names})


@pytest.mark.parametrize(("group", "kind"), KINDS, ids=lambda part: getattr(part, "__name__", part))
@settings(max_examples=10)
@given(st.data())
def test_a_message_comes_out_as_it_went_in(
    group: str, kind: type[Message], data: st.DataObject
) -> None:
    message = data.draw(messages_of(kind))
    wire = encode(message)
    for buffer in (wire, bytearray(wire), memoryview(b"head" + wire)[4:]):
        decoded = DECODERS[group].decode(buffer)
        assert type(decoded) is kind
        assert encode(decoded) == wire
        if kind is not messages.Answer:  # two Raw are never equal
            assert decoded == message


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return the name of a group, and a control frame of it that was tampered with."""
    group, kind = draw(st.sampled_from(KINDS))
    wire = bytearray(encode(draw(messages_of(kind))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(wire)))
        stop = at + draw(st.integers(0, 2))
        wire[at:stop] = draw(st.binary(max_size=3))
    return group, bytes(wire)


@settings(max_examples=400)
@given(mutated())
def test_a_tampered_frame_is_a_message_or_a_protocol_error(case: tuple[str, bytes]) -> None:
    group, wire = case
    try:
        message = DECODERS[group].decode(wire)
    except ProtocolError:
        return
    assert type(message) in getattr(messages, group)


@settings(max_examples=200)
@given(st.sampled_from(GROUPS), st.binary(max_size=60))
def test_random_bytes_are_a_message_or_a_protocol_error(group: str, wire: bytes) -> None:
    try:
        message = DECODERS[group].decode(wire)
    except ProtocolError:
        return
    assert type(message) in getattr(messages, group)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,  # nested deeper than the stack is
        msgspec.msgpack.encode(["free", [1], [], [], "one too many"]),
        msgspec.msgpack.encode(["free", ["text"], [], []]),
        msgspec.msgpack.encode(["free"]),
        msgspec.msgpack.encode(["unknown", 1]),
        msgspec.msgpack.encode({"type": "free", "tasks": []}),
        encode(Free([1])) + b"\0",
        msgspec.msgpack.encode(["goodbye", "x"]).replace(b"x", b"\xff"),  # not UTF-8
    ],
)
def test_what_is_no_message_is_refused(wire: bytes) -> None:
    decoder = Decoder((Free, Goodbye))
    with pytest.raises(ProtocolError, match=r"no message accepted .* one of free, goodbye"):
        decoder.decode(wire)


def test_a_message_of_another_direction_is_refused() -> None:
    assert Decoder((Stop,)).decode(encode(Stop())) == Stop()
    with pytest.raises(ProtocolError, match="heartbeat"):
        Decoder((Stop, Free)).decode(encode(Heartbeat(0.0)))


def test_trailing_fields_may_be_absent_where_they_have_a_default() -> None:
    """A peer of an earlier minor version does not know them."""
    decoder = Decoder((Heartbeat,))
    assert decoder.decode(msgspec.msgpack.encode(["heartbeat", 0.5])) == Heartbeat(0.5, 0, [])


def test_a_control_frame_that_is_too_long_is_refused_before_it_is_read() -> None:
    decoder = Decoder((Goodbye,))
    room = CONTROL_LIMIT - len(encode(Goodbye("x" * 70_000))) + 70_000
    assert len(decoder.decode(encode(Goodbye("x" * room))).reason) == room
    with pytest.raises(ProtocolError, match=f"{CONTROL_LIMIT + 1} bytes, expected at most"):
        decoder.decode(encode(Goodbye("x" * (room + 1))))


def test_a_message_has_a_limited_number_of_payload_frames() -> None:
    check_frames([b""] * FRAMES_LIMIT)
    with pytest.raises(ProtocolError, match=f"{FRAMES_LIMIT + 1} payload frames"):
        check_frames([b""] * (FRAMES_LIMIT + 1))


def test_a_span_names_bytes_of_a_frame() -> None:
    frames: list[Buffer] = [b"abc", bytearray(b"defgh"), memoryview(b"")]
    assert bytes(span(frames, None)) == b""
    assert bytes(span(frames, (0, 0, 3))) == b"abc"
    assert bytes(span(frames, (1, 1, 3))) == b"ef"
    assert bytes(span(frames, (2, 0, 0))) == b""
    assert span(frames, (1, 0, 5)).obj is frames[1]  # not a copy


@pytest.mark.parametrize(
    "place", [(0, 0, 4), (0, 2, 1), (0, -1, 2), (-1, 0, 0), (1, 0, 0), (0, 0, 1 << 63)]
)
def test_a_span_outside_the_frames_is_refused(place: tuple[int, int, int]) -> None:
    with pytest.raises(ProtocolError, match="lies outside the message's 1 payload frames"):
        span([b"abc"], place)


def test_a_record_inside_a_message_carries_no_tag() -> None:
    """Records are frequent: a tag would be sent with every slot of every layer."""
    assert encode(Slot(3, 2, 0.5)) == msgspec.msgpack.encode([3, 2, 0.5])
