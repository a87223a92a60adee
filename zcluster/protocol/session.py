"""Sessions: what was said is heard once, in order, whatever the connection does.

ZeroMQ drops the messages queued on a connection when the connection is replaced
and tells nobody. So both ends of a conversation number what they say, keep it
until the other end has acknowledged it, and say it again after a reconnect. The
first frame of every message begins with a head of two numbers, and its control
frame follows in the same frame of ZeroMQ (each frame costs both ends 3 µs):

``sequence``
    counts this end's messages from one; zero marks messages outside the session
    (hello, welcome, refusals, bare acknowledgements).
``acknowledged``
    the last sequence number this end has received in order.

A `Session` is pure: it turns messages into frames and heads into verdicts. The
sockets are in `zcluster.transport`.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from zcluster.errors import ProtocolError
from zcluster.types import Buffer

__all__ = ["ACK_EVERY_BYTES", "ACK_EVERY_MESSAGES", "Session", "read_head", "unsequenced"]

_HEAD = struct.Struct("<QQ")

#: An acknowledgement of its own is due after this much unacknowledged input.
ACK_EVERY_MESSAGES = 64
ACK_EVERY_BYTES = 256 << 10


class _Kept(NamedTuple):
    sequence: int
    size: int
    frames: list[Buffer]


def read_head(frame: Buffer) -> tuple[int, int, memoryview]:
    """Return (sequence, acknowledged, control frame) of a message's first frame.

    Raises
    ------
    ProtocolError
        If the frame is too short to be one.
    """
    if len(frame) <= _HEAD.size:
        raise ProtocolError(
            f"first frame of {len(frame)} bytes, expected a head of {_HEAD.size} and more"
        )
    sequence, acknowledged = _HEAD.unpack_from(frame)
    return sequence, acknowledged, memoryview(frame)[_HEAD.size :]


def unsequenced(
    control: Buffer, frames: Sequence[Buffer] = (), acknowledged: int = 0
) -> list[Buffer]:
    """Return the frames of a message outside any session."""
    return [_HEAD.pack(0, acknowledged) + control, *frames]


class Session:
    """Both directions of one conversation, as seen from one end.

    Attributes
    ----------
    said : int
        Sequence number of the last message said here.
    heard : int
        Sequence number of the last message heard in order.
    in_flight : int
        Bytes said and not yet acknowledged.
    """

    __slots__ = ("_kept", "_unacked_bytes", "_unacked_messages", "heard", "in_flight", "said")

    def __init__(self) -> None:
        self.said = 0
        self.heard = 0
        self.in_flight = 0
        self._kept: deque[_Kept] = deque()
        self._unacked_messages = 0
        self._unacked_bytes = 0

    def say(self, control: bytes, frames: Sequence[Buffer] = ()) -> list[Buffer]:
        """Number a message, keep it, and return its frames."""
        self.said += 1
        wire: list[Buffer] = [_HEAD.pack(self.said, self.heard) + control, *frames]
        size = 16 + len(control)
        for frame in frames:
            size += len(frame)
        self._kept.append(_Kept(self.said, size, wire))
        self.in_flight += size
        self._unacked_messages = 0
        self._unacked_bytes = 0
        return wire

    def hear(self, sequence: int, acknowledged: int, size: int) -> bool:
        """Take note of a message's head; return whether it is new.

        A repeated message is not new. A gap means messages were lost on the
        way, which only a new connection can mend.

        Raises
        ------
        ProtocolError
            On a gap, or on an acknowledgement of what was never said.
        """
        self.acknowledge(acknowledged)
        if sequence == 0:
            return True
        if sequence <= self.heard:
            return False
        if sequence != self.heard + 1:
            raise ProtocolError(f"message {sequence} came after message {self.heard}")
        self.heard = sequence
        self._unacked_messages += 1
        self._unacked_bytes += size
        return True

    def acknowledge(self, acknowledged: int) -> None:
        """Forget the messages up to one that the other end has heard."""
        if acknowledged > self.said:
            raise ProtocolError(
                f"acknowledgement of message {acknowledged}, but only {self.said} were sent"
            )
        kept = self._kept
        while kept and kept[0].sequence <= acknowledged:
            self.in_flight -= kept.popleft().size

    @property
    def is_ack_due(self) -> bool:
        """Whether enough was heard that a bare acknowledgement should go out."""
        return (
            self._unacked_messages >= ACK_EVERY_MESSAGES or self._unacked_bytes >= ACK_EVERY_BYTES
        )

    def bare(self, control: bytes) -> list[Buffer]:
        """Return the frames of an unnumbered message that acknowledges."""
        self._unacked_messages = 0
        self._unacked_bytes = 0
        return [_HEAD.pack(0, self.heard) + control]

    def unheard(self, seen: int) -> list[list[Buffer]]:
        """Return what must be said again to a peer that has heard up to ``seen``.

        Raises
        ------
        ProtocolError
            If the kept messages no longer reach back to ``seen``.
        """
        self.acknowledge(seen)
        if self._kept and self._kept[0].sequence != seen + 1:
            raise ProtocolError(
                f"the peer has heard up to {seen}, kept messages start at {self._kept[0].sequence}"
            )
        if not self._kept and self.said != seen:
            raise ProtocolError(f"the peer has heard up to {seen} of {self.said}, none are kept")
        again: list[list[Buffer]] = []
        for kept in self._kept:
            control = kept.frames[0][_HEAD.size :]
            kept.frames[0] = _HEAD.pack(kept.sequence, self.heard) + control
            again.append(kept.frames)
        return again
