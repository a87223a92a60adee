"""Control frames: messages to msgpack and back, within limits.

Decoding validates: a frame that is not one of the messages a receiver accepts,
field by field, raises `ProtocolError` and nothing else. The receiver refuses the
message and counts it; its state is as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Union

import msgspec

from zcluster.errors import ProtocolError
from zcluster.protocol.messages import Message
from zcluster.types import Buffer, Frames

__all__ = [
    "CONTROL_LIMIT",
    "FRAMES_LIMIT",
    "FRAME_LIMIT",
    "Decoder",
    "check_frames",
    "encode",
    "span",
]

#: The largest control frame, in bytes.
CONTROL_LIMIT = 16 << 20
#: The largest payload frame, in bytes; ``MAXMSGSIZE`` of every socket.
FRAME_LIMIT = 64 << 20
#: The most payload frames of one message.
FRAMES_LIMIT = 64

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode


@cache
def _decoder_of(accepts: tuple[type[Message], ...]) -> msgspec.msgpack.Decoder[Any]:
    """Return what decodes some kinds of messages; it keeps nothing, and is slow to make."""
    return msgspec.msgpack.Decoder(Union[accepts])  # noqa: UP007 - built from a runtime tuple


class Decoder:
    """Decodes the control frames of one direction.

    Parameters
    ----------
    accepts : sequence of message types
        What may be said here; anything else is a `ProtocolError`.
    """

    def __init__(self, accepts: Sequence[type[Message]]) -> None:
        self._decoder = _decoder_of(tuple(accepts))
        self._names = ", ".join(sorted(str(kind.__struct_config__.tag) for kind in accepts))

    def decode(self, control: Buffer) -> Any:
        """Return the message in a control frame.

        Raises
        ------
        ProtocolError
            If the frame is too long or is not one of the accepted messages.
        """
        if len(control) > CONTROL_LIMIT:
            raise ProtocolError(
                f"control frame of {len(control)} bytes, expected at most {CONTROL_LIMIT}"
            )
        try:
            return self._decoder.decode(control)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(
                f"control frame is no message accepted here ({error}); "
                f"expected one of {self._names}"
            ) from None


def check_frames(frames: Frames) -> None:
    """Raise `ProtocolError` if a message has too many payload frames.

    How large each may be is the sockets' business (`FRAME_LIMIT`).
    """
    if len(frames) > FRAMES_LIMIT:
        raise ProtocolError(f"{len(frames)} payload frames, expected at most {FRAMES_LIMIT}")


def span(frames: Frames, place: tuple[int, int, int] | None) -> memoryview:
    """Return the bytes a span names (empty for ``None``).

    Raises
    ------
    ProtocolError
        If the span lies outside the frames.
    """
    if place is None:
        return memoryview(b"")
    index, start, stop = place
    if not (0 <= index < len(frames) and 0 <= start <= stop <= len(frames[index])):
        raise ProtocolError(f"span {place} lies outside the message's {len(frames)} payload frames")
    return memoryview(frames[index])[start:stop]
