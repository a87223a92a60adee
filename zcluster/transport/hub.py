"""The listening end of many conversations: one ROUTER, one session a peer.

A peer is known by the session token it was given, never by its routing id: a
ROUTER silently ignores a second peer with the same id, so an id is used for one
connection only. What a stranger says before a valid hello is counted, and answered
with `Reconnect`: it may be a peer whose connection was given up here. What a peer
says wrongly ends its session, with the reason.

ZeroMQ does not tell a ROUTER which peer went. Its monitor tells that one did;
then every peer is sent an acknowledgement, and the ROUTER, which is set to
complain about peers it cannot reach, names the one that is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq
from msgspec.structs import replace

from zcluster.errors import ProtocolError
from zcluster.protocol.frames import Decoder, check_frames, encode
from zcluster.protocol.messages import (
    PROTOCOL,
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
from zcluster.transport.link import HEARTBEAT_SECONDS, RECEIVE_BURST, send_frames
from zcluster.transport.loop import Loop
from zcluster.transport.sockets import has_input, monitor, socket, take_events
from zcluster.types import Buffer, Frames

__all__ = ["Hub"]

_log = logging.getLogger(__name__)
_ACK = encode(Acknowledge())
_RECONNECT = encode(Reconnect())
#: Seconds after a disconnect at which peers are probed: ZeroMQ forgets the
#: routing id of a closed connection a little later than it reports the close.
_PROBES = (0.0, 0.01, 0.1, 0.5)


class _Peer:
    """What the hub knows of a peer."""

    __slots__ = (
        "decoder",
        "incarnation",
        "last_sent",
        "number",
        "role",
        "route",
        "session",
        "token",
    )

    def __init__(self, number: int, role: str, decoder: Decoder, incarnation: bytes) -> None:
        self.number = number
        self.role = role
        self.decoder = decoder
        self.incarnation = incarnation
        self.route: bytes | None = None
        self.session = Session()
        self.token = os.urandom(16)
        self.last_sent = 0.0


class Hub:
    """Serves conversations on one address.

    Parameters
    ----------
    loop : Loop
    context : zmq.Context
    address : str
        Where to bind. `address` is then the address bound, with its port.
    accepts : mapping of str to message types
        For each role a peer may have, what it may say.
    on_hello : callable
        ``on_hello(peer, hello)`` returns the `Welcome` (its token and session
        fields are filled in here) or `Refused`.
    on_message : callable
        ``on_message(peer, message, payload frames)``.
    on_disconnect, on_resume : callables
        A peer cannot be reached for now; it is back, with nothing lost.
    on_gone : callable
        ``on_gone(peer, reason)``: it said goodbye or broke the protocol.

    Attributes
    ----------
    refused : int
        Messages and connections that were refused.
    """

    def __init__(
        self,
        loop: Loop,
        context: zmq.Context[Any],
        address: str,
        *,
        accepts: Mapping[str, Sequence[type[Message]]],
        on_hello: Callable[[int, Hello], Welcome | Refused],
        on_message: Callable[[int, Any, list[bytes]], None],
        on_disconnect: Callable[[int], None],
        on_resume: Callable[[int], None],
        on_gone: Callable[[int, str], None],
    ) -> None:
        self._loop = loop
        self._decoders = {role: Decoder(kinds) for role, kinds in accepts.items()}
        self._hello_decoder = Decoder((Hello,))
        self._on_hello = on_hello
        self._on_message = on_message
        self._on_disconnect = on_disconnect
        self._on_resume = on_resume
        self._on_gone = on_gone
        self._peers: dict[int, _Peer] = {}
        self._routes: dict[bytes, _Peer] = {}
        self._tokens: dict[bytes, _Peer] = {}
        self._next = 1
        self.refused = 0
        self._socket = socket(context, zmq.ROUTER)
        self._monitor = monitor(self._socket)
        self._socket.bind(address)
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        loop.add_socket(self._monitor, self._on_event)
        loop.add_socket(self._socket, self._receive)
        self._closed = False
        loop.call_later(HEARTBEAT_SECONDS, self._tick)

    # -------------------------------------------------------------------- sending

    def send(self, number: int, message: Message, frames: Frames = ()) -> None:
        """Say something to a peer; kept and said again if it is cut off now."""
        peer = self._peers.get(number)
        if peer is not None:
            wire = peer.session.say(encode(message), frames)
            if peer.route is not None:
                self._transmit(peer, wire)

    def in_flight(self, number: int) -> int:
        """Return the bytes a peer has not acknowledged (0 for unknown peers)."""
        peer = self._peers.get(number)
        return 0 if peer is None else peer.session.in_flight

    def forget(self, number: int, reason: str = "") -> None:
        """End a peer's session; with a reason, it is told first."""
        peer = self._peers.pop(number, None)
        if peer is None:
            return
        self._tokens.pop(peer.token, None)
        if peer.route is not None:
            if reason:
                with contextlib.suppress(zmq.ZMQError):
                    send_frames(self._socket, [peer.route, *unsequenced(encode(Refused(reason)))])
            self._routes.pop(peer.route, None)
            peer.route = None

    def close(self, reason: str) -> None:
        """Say goodbye to all peers and close the sockets."""
        if self._closed:
            return
        self._closed = True
        self._socket.setsockopt(zmq.LINGER, 200)
        for peer in self._peers.values():
            if peer.route is not None:
                with contextlib.suppress(zmq.ZMQError):
                    wire = peer.session.say(encode(Goodbye(reason)))
                    send_frames(self._socket, [peer.route, *wire])
        self._loop.remove(self._monitor)
        self._loop.remove(self._socket)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close()

    def _transmit(self, peer: _Peer, wire: Sequence[Buffer]) -> None:
        assert peer.route is not None
        try:
            send_frames(self._socket, [peer.route, *wire])
            peer.last_sent = self._loop.now()
        except zmq.ZMQError:
            # Unreachable, or so far behind that its queue is full.
            self._cut(peer)

    def _cut(self, peer: _Peer) -> None:
        if peer.route is not None:
            self._routes.pop(peer.route, None)
            peer.route = None
            self._on_disconnect(peer.number)

    # ------------------------------------------------------------------- liveness

    def _on_event(self) -> None:
        ended, refused = take_events(self._monitor)
        self.refused += refused
        if ended:
            for delay in _PROBES:
                self._loop.call_later(delay, self._probe)

    def _probe(self) -> None:
        if not self._closed:
            for peer in list(self._routes.values()):
                self._transmit(peer, peer.session.bare(_ACK))

    def _tick(self) -> None:
        if self._closed:
            return
        now = self._loop.now()
        beat = encode(Heartbeat(self._loop.lag))
        self._loop.lag = 0.0
        for peer in list(self._routes.values()):
            if now - peer.last_sent >= HEARTBEAT_SECONDS:
                self._transmit(peer, peer.session.bare(beat))
        self._loop.call_later(HEARTBEAT_SECONDS, self._tick)

    # ------------------------------------------------------------------ receiving

    def _receive(self) -> None:
        for _ in range(RECEIVE_BURST):
            if self._closed or not has_input(self._socket):
                return
            frames: list[bytes] = self._socket.recv_multipart(zmq.NOBLOCK)
            peer = self._routes.get(frames[0])
            try:
                if peer is None:
                    self._meet(frames)
                else:
                    self._hear(peer, frames)
            except ProtocolError as error:
                self.refused += 1
                if peer is None:
                    self._answer_stranger(frames[0], _RECONNECT)
                else:
                    _log.warning("closing the session of %s %d: %s", peer.role, peer.number, error)
                    self.forget(peer.number, str(error))
                    self._on_gone(peer.number, str(error))

    def _hear(self, peer: _Peer, frames: list[bytes]) -> None:
        if len(frames) < 2:
            raise ProtocolError("a message without frames")
        sequence, acknowledged, control = read_head(frames[1])
        message = peer.decoder.decode(control)
        payload = frames[2:]
        check_frames(payload)
        size = 0
        for frame in frames:
            size += len(frame)
        if not peer.session.hear(sequence, acknowledged, size):
            return
        if isinstance(message, Goodbye):
            self.forget(peer.number)
            self._on_gone(peer.number, message.reason)
            return
        if not isinstance(message, Acknowledge):
            self._on_message(peer.number, message, payload)
        if peer.session.is_ack_due and peer.route is not None:
            self._transmit(peer, peer.session.bare(_ACK))

    def _meet(self, frames: list[bytes]) -> None:
        """Hear a stranger out: a hello is answered, anything else refused."""
        if len(frames) != 2:
            raise ProtocolError(f"a stranger's message of {len(frames)} frames")
        sequence, _, control = read_head(frames[1])
        if sequence != 0:
            raise ProtocolError("a stranger's message with a sequence number")
        hello: Hello = self._hello_decoder.decode(control)
        answer = self._answer(frames[0], hello)
        if isinstance(answer, Refused):
            self.refused += 1
        self._answer_stranger(frames[0], encode(answer))
        peer = self._routes.get(frames[0])
        if isinstance(answer, Welcome) and answer.resumed and peer is not None:
            for wire in peer.session.unheard(hello.seen):
                if peer.route is not None:
                    self._transmit(peer, wire)
            self._on_resume(peer.number)

    def _answer_stranger(self, route: bytes, control: bytes) -> None:
        # It may be gone again, or read nothing: then it learns nothing.
        with contextlib.suppress(zmq.ZMQError):
            send_frames(self._socket, [route, *unsequenced(control)])

    def _answer(self, route: bytes, hello: Hello) -> Welcome | Refused:
        if hello.protocol[0] != PROTOCOL[0]:
            return Refused(
                f"protocol {hello.protocol[0]}.{hello.protocol[1]} of zcluster {hello.package} "
                f"is not spoken here, which speaks {PROTOCOL[0]}.{PROTOCOL[1]}; "
                "install the same version on both sides"
            )
        decoder = self._decoders.get(hello.role)
        if decoder is None:
            return Refused(f"role {hello.role!r} is unknown, expected {', '.join(self._decoders)}")
        if hello.token:
            return self._resume(route, hello)
        peer = _Peer(self._next, hello.role, decoder, hello.incarnation)
        peer.route = route
        self._next += 1
        self._peers[peer.number] = self._routes[route] = self._tokens[peer.token] = peer
        try:
            answer = self._on_hello(peer.number, hello)
        except ProtocolError as error:
            answer = Refused(str(error))
        if isinstance(answer, Refused):
            self.forget(peer.number)
            return answer
        return replace(answer, token=peer.token, resumed=False, seen=0)

    def _resume(self, route: bytes, hello: Hello) -> Welcome | Refused:
        peer = self._tokens.get(hello.token)
        if peer is None or peer.incarnation != hello.incarnation:
            return Refused("the session is over: it was away for too long, or was fenced")
        try:
            peer.session.unheard(hello.seen)
        except ProtocolError as error:
            self.forget(peer.number)
            self._on_gone(peer.number, str(error))
            return Refused(f"the session cannot go on: {error}")
        if peer.route is not None:
            self._routes.pop(peer.route, None)
        peer.route = route
        self._routes[route] = peer
        welcome = Welcome(0, b"", True, 0, "", "", {})
        return replace(welcome, token=peer.token, seen=peer.session.heard)
