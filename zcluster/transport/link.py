"""The connecting end of a conversation: a DEALER, a session, and their repair.

The states of a link::

    connecting ──welcome──▶ live ──disconnect, gap──▶ connecting (new socket)
        │                     │
        └──refused, or nobody there for too long──▶ lost

A connection that broke is never reused: ZeroMQ would reconnect by itself and
drop what was queued, silently. The link makes a new socket, says hello with its
session token and the last number it heard, and both ends say again what the
other has missed.

How long a link tries depends on what it sees: a refused connection means that
the process is gone (``grace``); a connection that opens but does not answer
means that it is frozen (``patience``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from zcluster.errors import ProtocolError
from zcluster.protocol.frames import Decoder, check_frames, encode
from zcluster.protocol.messages import (
    Acknowledge,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Reconnect,
    Refused,
    Welcome,
)
from zcluster.protocol.session import Session, read_head, unsequenced
from zcluster.transport.loop import Loop
from zcluster.transport.sockets import has_input, monitor, socket
from zcluster.types import Buffer, Frames

__all__ = ["HEARTBEAT_SECONDS", "RECEIVE_BURST", "Link", "send_frames"]

#: Each end says something at least this often.
HEARTBEAT_SECONDS = 0.5
#: The most messages one socket may hand over in one round of the loop.
RECEIVE_BURST = 64
#: Connections are made at least so far apart: a server that cannot understand us, of
#: another version perhaps, is not to be asked without pause.
_REOPEN_SECONDS = 0.05
#: Frames from this size on are sent without a copy.
_COPY_LIMIT = 1 << 16

_EVENT = struct.Struct("=hi")
_ACK = encode(Acknowledge())


def send_frames(target: zmq.Socket[Any], frames: Sequence[Buffer]) -> None:
    """Send a multipart message without blocking; large frames are not copied."""
    size = 0
    for frame in frames:
        size += len(frame)
    target.send_multipart(frames, zmq.NOBLOCK, size < _COPY_LIMIT)


class Link:
    """A conversation with a server, kept alive over reconnects.

    Parameters
    ----------
    loop : Loop
        All callbacks run on its thread; `send` and `close` must be called there.
    context : zmq.Context
    address : str
    hello : callable
        ``hello(token, seen)`` returns the hello to say.
    accepts : sequence of message types
        What the server may say.
    on_message : callable
        ``on_message(message, payload frames)``.
    on_welcome : callable
        Called with the first `Welcome`.
    on_lost : callable
        Called once, with a sentence, when the server refused or is gone.
    timeout, grace, patience : float
        Seconds to wait: for the first welcome; for a server that refuses
        connections; for one that accepts them and does not answer.
    beat : callable
        Makes the heartbeat from the loop's lag.
    """

    def __init__(
        self,
        loop: Loop,
        context: zmq.Context[Any],
        address: str,
        *,
        hello: Callable[[bytes, int], Hello],
        accepts: Sequence[type[Message]],
        on_message: Callable[[Any, list[bytes]], None],
        on_welcome: Callable[[Welcome], None],
        on_lost: Callable[[str], None],
        timeout: float = 30.0,
        grace: float = 2.0,
        patience: float = 30.0,
        beat: Callable[[float], Heartbeat] = Heartbeat,
    ) -> None:
        self.address = address
        self.refused = 0
        self._loop = loop
        self._context = context
        self._hello = hello
        self._decoder = Decoder(accepts)
        self._on_message = on_message
        self._on_welcome = on_welcome
        self._on_lost = on_lost
        self._beat = beat
        self._timeout, self._grace, self._patience = timeout, grace, patience
        self._session = Session()
        self._token = b""
        self._live = False
        self._over = False
        self._reachable = False
        self._broken_since = loop.now()
        self._last_beat = 0.0
        self._opened = 0.0
        self._socket: zmq.Socket[Any] | None = None
        self._monitor: zmq.Socket[Any] | None = None
        self._open()
        self._tick()

    @property
    def is_live(self) -> bool:
        """Whether the server has welcomed this link and not been cut off since."""
        return self._live

    @property
    def in_flight(self) -> int:
        """Bytes sent that the server has not acknowledged."""
        return self._session.in_flight

    # -------------------------------------------------------------------- sending

    def send(self, message: Message, frames: Frames = ()) -> None:
        """Say something; it arrives once and in order, over reconnects too."""
        if self._over:
            return
        wire = self._session.say(encode(message), frames)
        if self._live:
            self._transmit(wire)

    def _transmit(self, wire: Sequence[Buffer]) -> None:
        assert self._socket is not None
        try:
            send_frames(self._socket, wire)
        except zmq.ZMQError:
            self._reopen()

    def close(self, goodbye: bool = True) -> None:
        """End the conversation; say so if ``goodbye``."""
        if self._over:
            return
        self._over = True
        if goodbye and self._live and self._socket is not None:
            self._socket.setsockopt(zmq.LINGER, 200)
            self._transmit(self._session.say(encode(Goodbye())))
        self._shut()

    # ----------------------------------------------------------------- connecting

    def _open(self) -> None:
        if self._over or self._socket is not None:
            return
        self._opened = self._loop.now()
        self._reachable = False
        made = socket(self._context, zmq.DEALER)
        self._socket, self._monitor = made, monitor(made)
        self._loop.add_socket(self._monitor, self._on_event)
        self._loop.add_socket(made, self._receive)
        made.connect(self.address)
        send_frames(made, unsequenced(encode(self._hello(self._token, self._session.heard))))

    def _shut(self) -> None:
        self._live = False
        if self._socket is None or self._monitor is None:
            return
        self._loop.remove(self._monitor)
        self._loop.remove(self._socket)
        self._socket.disable_monitor()
        self._monitor.close(0)
        # LINGER stands as set: zero, or a moment where a goodbye is under way.
        self._socket.close()
        self._socket = self._monitor = None

    def _reopen(self) -> None:
        if self._over:
            return
        if self._live:
            self._broken_since = self._loop.now()
        self._shut()
        wait = self._opened + _REOPEN_SECONDS - self._loop.now()
        if wait > 0:
            self._loop.call_later(wait, self._open)
        else:
            self._open()

    def _on_event(self) -> None:
        current = self._monitor
        while current is not None and current is self._monitor:
            try:
                frames = current.recv_multipart(zmq.NOBLOCK)
            except zmq.ZMQError:
                return
            event = _EVENT.unpack(frames[0])[0]
            if event == zmq.EVENT_CONNECTED:
                self._reachable = True
            elif event == zmq.EVENT_CONNECT_RETRIED:
                self._reachable = False
            elif event == zmq.EVENT_DISCONNECTED:
                # What came before the end is still there: at its end a goodbye, and why.
                while self._socket is not None and has_input(self._socket):
                    self._receive()
                    if current is not self._monitor:
                        return
                self._reopen()

    def _tick(self) -> None:
        if self._over:
            return
        now = self._loop.now()
        if not self._live:
            waited = now - self._broken_since
            if not self._token:
                if waited > self._timeout:
                    self._lose(f"nobody answered at {self.address} within {self._timeout:g} s")
            elif waited > (self._patience if self._reachable else self._grace):
                state = "does not answer" if self._reachable else "refuses connections"
                self._lose(f"{self.address} {state}, for {waited:.1f} s now")
        elif now - self._last_beat >= HEARTBEAT_SECONDS:
            # Also between other messages: it says more than that we live.
            self._last_beat = now
            lag, self._loop.lag = self._loop.lag, 0.0
            self._transmit(self._session.bare(encode(self._beat(lag))))
        if not self._over:
            self._loop.call_later(0.1 if not self._live else HEARTBEAT_SECONDS / 2, self._tick)

    def _lose(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self._shut()
            self._on_lost(reason)

    # ------------------------------------------------------------------ receiving

    def _receive(self) -> None:
        for _ in range(RECEIVE_BURST):
            current = self._socket
            if current is None or not has_input(current):
                break
            try:
                self._hear(current.recv_multipart(zmq.NOBLOCK))
            except ProtocolError:
                # A gap, or nonsense: a fresh connection resends what is missing.
                self.refused += 1
                self._reopen()
                return
        if self._live and self._session.is_ack_due:
            self._transmit(self._session.bare(_ACK))

    def _hear(self, frames: list[bytes]) -> None:
        sequence, acknowledged, control = read_head(frames[0])
        payload = frames[1:]
        message = self._decoder.decode(control)
        check_frames(payload)
        if isinstance(message, Welcome):
            self._welcome(message)
            return
        if isinstance(message, Refused):
            self._lose(message.reason)
            return
        if isinstance(message, Reconnect):
            self._reopen()
            return
        if not self._live:
            return
        if not self._session.hear(sequence, acknowledged, sum(map(len, frames))):
            return
        if isinstance(message, Goodbye):
            self._lose(message.reason or "the scheduler was closed")
        elif not isinstance(message, Acknowledge | Heartbeat):
            self._on_message(message, payload)

    def _welcome(self, message: Welcome) -> None:
        if message.resumed:
            again = self._session.unheard(message.seen)
        elif self._token:
            self._lose("the scheduler no longer knows the session")
            return
        else:
            again = self._session.unheard(0)
        first = not self._token
        self._token = message.token
        self._live = True
        for wire in again:
            if self._live:
                self._transmit(wire)
        if first:
            self._on_welcome(message)
