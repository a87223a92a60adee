"""The connecting end of a conversation, with sockets: a DEALER and its monitor.

What is said, and when a connection is given up, is decided by
`zcluster.protocol.conversation`; this file moves its events in and its messages out.
A connection that was given up takes its socket with it: ZeroMQ would reconnect by
itself and drop what was queued, silently.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from zcluster.protocol.conversation import Conversation
from zcluster.protocol.messages import Heartbeat, Hello, Message, Welcome
from zcluster.transport.keys import Keys
from zcluster.transport.loop import Loop
from zcluster.transport.sockets import REFUSALS, has_input, monitored_socket
from zcluster.types import Buffer, Frames

__all__ = ["RECEIVE_BURST", "Link", "send_frames"]

#: The most messages one socket may hand over in one round of the loop.
RECEIVE_BURST = 64
#: Frames from this size on are sent without a copy.
_COPY_LIMIT = 1 << 16

_EVENT = struct.Struct("=hi")
_log = logging.getLogger(__name__)


def send_frames(target: zmq.Socket[Any], frames: Sequence[Buffer]) -> None:
    """Send a multipart message without blocking; large frames are not copied."""
    size = 0
    for frame in frames:
        size += len(frame)
    target.send_multipart(frames, zmq.NOBLOCK, size < _COPY_LIMIT)


def _why_denied(event: int, value: int) -> str:
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return "key"
    is_mismatch = value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
    return "mechanism" if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and is_mismatch else ""


class _Dealer:
    """The socket of a link: the `Wire` of its conversation."""

    def __init__(
        self,
        loop: Loop,
        context: zmq.Context[Any],
        address: str,
        keys: Keys | None = None,
        role: str = "",
    ) -> None:
        self.talk: Conversation
        self._keys = keys
        self._role = role
        self._loop = loop
        self._context = context
        self._address = address
        self._socket: zmq.Socket[Any] | None = None
        self._monitor: zmq.Socket[Any] | None = None

    def open(self) -> None:
        try:
            made, events = monitored_socket(self._context, zmq.DEALER)
        except zmq.ZMQError as error:
            if not self.talk.token:
                raise  # nobody was spoken to, and whoever starts this end is told
            _log.warning("no connection to %s can be made now: %s", self._address, error)
            return
        if self._keys is not None:
            self._keys.enter(made, self._role, "scheduler")
        self._socket, self._monitor = made, events
        self._loop.add_socket(self._monitor, self._on_event)
        self._loop.add_socket(made, self._receive)
        made.connect(self._address)
        if self._address.startswith("inproc://"):
            self.talk.on_connected()  # ZeroMQ tells of no events there

    def send(self, frames: Sequence[Buffer]) -> bool:
        if self._socket is None:
            return False
        try:
            send_frames(self._socket, frames)
        except zmq.ZMQError:
            return False
        return True

    def close(self, is_last_word_sent: bool) -> None:
        if self._socket is None or self._monitor is None:
            return
        self._loop.remove(self._monitor)
        self._loop.remove(self._socket)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(200 if is_last_word_sent else 0)
        self._socket = self._monitor = None

    def call_after(self, seconds: float) -> None:
        self._loop.call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        self.talk.on_time(self._loop.now())

    def _on_event(self) -> None:
        current = self._monitor
        while current is not None and current is self._monitor:
            try:
                frames = current.recv_multipart(zmq.NOBLOCK)
            except zmq.ZMQError:
                return
            event, value = _EVENT.unpack(frames[0])
            if event == zmq.EVENT_CONNECTED:
                self.talk.on_connected()
            elif event & REFUSALS:
                self.talk.on_denied(_why_denied(event, value), self._loop.now())
            elif event == zmq.EVENT_CONNECT_RETRIED:
                self.talk.on_refused()
            elif event == zmq.EVENT_DISCONNECTED:
                # What came before the end is still there: at its end a goodbye, and why.
                while self._socket is not None and has_input(self._socket):
                    self._receive()
                    if current is not self._monitor:
                        return
                self.talk.on_disconnected(self._loop.now())

    def _receive(self) -> None:
        talk, now = self.talk, self._loop.now()
        for _ in range(RECEIVE_BURST):
            current = self._socket
            if current is None or not has_input(current):
                break
            if not talk.on_frames(current.recv_multipart(zmq.NOBLOCK), now):
                return
            talk.acknowledge(now)


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
        connections; for one that does not and does not answer.
    beat : callable
        Makes the heartbeat from the loop's lag.
    keys : Keys, optional
        The cluster's, needed on TCP unless it is plain.
    role : str
        Whose key of them is ours: ``"client"`` or ``"node"``.
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
        keys: Keys | None = None,
        role: str = "",
    ) -> None:
        self.address = address
        self._loop = loop
        self._dealer = _Dealer(loop, context, address, keys, role)
        self._talk = self._dealer.talk = Conversation(
            self._dealer,
            address,
            loop.now(),
            hello=hello,
            accepts=accepts,
            on_message=on_message,
            on_welcome=on_welcome,
            on_lost=on_lost,
            timeout=timeout,
            grace=grace,
            patience=patience,
            beat=lambda: beat(self._take_lag()),
            keys="" if keys is None else keys.source or "this process",
        )
        self._talk.begin(loop.now())
        self._tick()

    @property
    def is_live(self) -> bool:
        """Whether the server has welcomed this link and not been cut off since."""
        return self._talk.is_live

    @property
    def in_flight(self) -> int:
        """Bytes sent that the server has not acknowledged."""
        return self._talk.in_flight

    @property
    def refused(self) -> int:
        """Messages of the server that were nonsense here."""
        return self._talk.refused

    def send(self, message: Message, frames: Frames = ()) -> None:
        """Say something; it arrives once and in order, over reconnects too."""
        self._talk.send(message, frames, self._loop.now())

    def close(self, goodbye: bool = True) -> None:
        """End the conversation; say so if ``goodbye``."""
        self._talk.close(goodbye)

    def _take_lag(self) -> float:
        lag, self._loop.lag = self._loop.lag, 0.0
        return lag

    def _tick(self) -> None:
        again = self._talk.on_time(self._loop.now())
        if not self._talk.is_over:
            self._loop.call_later(again, self._tick)
