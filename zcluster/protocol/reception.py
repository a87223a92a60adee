"""The listening end of many conversations, as a pure state machine.

A peer is known by its incarnation and the session token it was given, never by its
route: a route names one connection, and a peer that comes back has another. What a
stranger says before a valid hello is counted, and answered with `Reconnect`: it may
be a peer whose connection was given up here. What a peer says wrongly ends its
session, with the reason.

ZeroMQ keeps the order within a connection only. The hello of a connection that the peer
gave up may be heard after that of a later one, when what it says is long untrue; so hellos
are numbered, and an older one counts for nothing. A peer whose first welcome was lost
has no token yet and says its first hello again: it is the same peer, and gets the same
welcome.

ZeroMQ does not tell a ROUTER which peer went. Its monitor tells that one did;
then every peer is sent an acknowledgement (`Reception.probe`), and whoever cannot
be reached is the one that is gone.

What happens comes in with the time, what is to be sent goes out to a function,
and what the owner must know goes to its callbacks. The driver with sockets is
`zcluster.transport.hub`.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from zcluster.errors import ProtocolError
from zcluster.protocol.conversation import HEARTBEAT_SECONDS
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
from zcluster.types import Buffer, Frames

__all__ = ["PROBES", "Reception"]

_log = logging.getLogger(__name__)
_ACK = encode(Acknowledge())
_RECONNECT = encode(Reconnect())
#: Seconds after a disconnect at which peers are to be probed: ZeroMQ forgets the
#: route of a closed connection a little later than it reports the close.
PROBES = (0.0, 0.01, 0.1, 0.5)
#: The latest incarnations whose sessions ended are known, so many: a hello of theirs may be late.
_MOST_ENDED = 4096
_OVER = "the session is over: it was away for too long, or was fenced"


class _Peer:
    """What is known of a peer."""

    __slots__ = (
        "connection",
        "decoder",
        "incarnation",
        "last_sent",
        "number",
        "role",
        "route",
        "session",
        "token",
        "welcome",
    )

    def __init__(
        self, number: int, role: str, decoder: Decoder, incarnation: bytes, token: bytes
    ) -> None:
        self.number = number
        self.role = role
        self.decoder = decoder
        self.incarnation = incarnation
        self.route: bytes | None = None
        self.session = Session()
        self.token = token
        self.last_sent = 0.0
        #: The number of the connection it has, or had last.
        self.connection = -1
        #: What it was told first; None once it has said anything, as it was heard then.
        self.welcome: Welcome | None = None


class Reception:
    """Serves conversations.

    Parameters
    ----------
    send : callable
        ``send(route, frames)`` sends a message on a connection; False if it is
        unreachable, or so far behind that its queue is full.
    make_token : callable
        Returns 16 bytes that nobody can guess.
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
        Messages that were refused.
    """

    def __init__(
        self,
        send: Callable[[bytes, Sequence[Buffer]], bool],
        make_token: Callable[[], bytes],
        *,
        accepts: Mapping[str, Sequence[type[Message]]],
        on_hello: Callable[[int, Hello], Welcome | Refused],
        on_message: Callable[[int, Any, list[bytes]], None],
        on_disconnect: Callable[[int], None],
        on_resume: Callable[[int], None],
        on_gone: Callable[[int, str], None],
    ) -> None:
        self.refused = 0
        self._send = send
        self._make_token = make_token
        self._decoders = {
            role: Decoder([kind for kind in kinds if kind is not Hello])
            for role, kinds in accepts.items()
        }
        self._hello_decoder = Decoder((Hello,))
        self._on_hello = on_hello
        self._on_message = on_message
        self._on_disconnect = on_disconnect
        self._on_resume = on_resume
        self._on_gone = on_gone
        self._peers: dict[int, _Peer] = {}
        self._routes: dict[bytes, _Peer] = {}
        self._incarnations: dict[bytes, _Peer] = {}
        self._ended: dict[bytes, None] = {}
        self._next = 1

    # -------------------------------------------------------------------- sending

    def send(self, number: int, message: Message, frames: Frames, now: float) -> None:
        """Say something to a peer; kept and said again if it is cut off now."""
        peer = self._peers.get(number)
        if peer is not None:
            wire = peer.session.say(encode(message), frames)
            # As `_transmit`, without the call: this is for every message.
            if peer.route is not None:
                if self._send(peer.route, wire):
                    peer.last_sent = now
                else:
                    self.cut(number)

    def in_flight(self, number: int) -> int:
        """Return the bytes a peer has not acknowledged (0 for unknown peers)."""
        peer = self._peers.get(number)
        return 0 if peer is None else peer.session.in_flight

    def forget(self, number: int, reason: str = "") -> None:
        """End a peer's session; with a reason, it is told first."""
        peer = self._peers.pop(number, None)
        if peer is None:
            return
        del self._incarnations[peer.incarnation]
        self._ended[peer.incarnation] = None
        if len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        if peer.route is not None:
            if reason:
                self._send(peer.route, unsequenced(encode(Refused(reason))))
            self._routes.pop(peer.route, None)
            peer.route = None

    def say_goodbye(self, reason: str) -> None:
        """Say goodbye to all peers that can be reached."""
        for peer in self._peers.values():
            if peer.route is not None:
                self._send(peer.route, peer.session.say(encode(Goodbye(reason))))

    def _transmit(self, peer: _Peer, wire: Sequence[Buffer], now: float) -> None:
        if peer.route is None:
            return  # lost in the midst of what is said to several
        if self._send(peer.route, wire):
            peer.last_sent = now
        else:
            self.cut(peer.number)

    def cut(self, number: int) -> None:
        """Give up a peer's connection: it cannot be reached."""
        peer = self._peers.get(number)
        if peer is not None and peer.route is not None:
            self._routes.pop(peer.route, None)
            peer.route = None
            self._on_disconnect(number)

    # ------------------------------------------------------------------- liveness

    def probe(self, now: float) -> None:
        """A connection ended some time ago: find out whose."""
        for peer in list(self._routes.values()):
            self._transmit(peer, peer.session.bare(_ACK), now)

    def on_time(self, now: float, lag: float) -> float:
        """Send heartbeats; return after how many seconds to be told again."""
        beat = encode(Heartbeat(lag))
        for peer in list(self._routes.values()):
            if now - peer.last_sent >= HEARTBEAT_SECONDS:
                self._transmit(peer, peer.session.bare(beat), now)
        return HEARTBEAT_SECONDS

    # ------------------------------------------------------------------ receiving

    def on_frames(self, frames: list[bytes], now: float) -> None:
        """Take a message: the route it came by, and its frames."""
        peer = self._routes.get(frames[0])
        if peer is None:
            try:
                self._meet(frames, now)
            except ProtocolError:
                self.refused += 1
                # It may be gone again, or read nothing: then it learns nothing.
                self._send(frames[0], unsequenced(_RECONNECT))
            return
        try:
            if len(frames) < 2:
                raise ProtocolError("a message without frames")
            sequence, acknowledged, control = read_head(frames[1])
            message = peer.decoder.decode(control)
            payload = frames[2:]
            check_frames(payload)
            size = 0
            for frame in frames:
                size += len(frame)
            peer.welcome = None
            if not peer.session.hear(sequence, acknowledged, size):
                return
            if isinstance(message, Goodbye):
                self.forget(peer.number)
                self._on_gone(peer.number, message.reason)
                return
            if not isinstance(message, Acknowledge):
                self._on_message(peer.number, message, payload)
            if peer.session.is_ack_due:
                self._transmit(peer, peer.session.bare(_ACK), now)
        except ProtocolError as error:
            self.refused += 1
            _log.warning("closing the session of %s %d: %s", peer.role, peer.number, error)
            self.forget(peer.number, str(error))
            self._on_gone(peer.number, str(error))

    def _meet(self, frames: list[bytes], now: float) -> None:
        """Hear a stranger out: a hello is answered, anything else refused."""
        if len(frames) != 2:
            raise ProtocolError(f"a stranger's message of {len(frames)} frames")
        sequence, _, control = read_head(frames[1])
        if sequence != 0:
            raise ProtocolError("a stranger's message with a sequence number")
        hello: Hello = self._hello_decoder.decode(control)
        answer = self._answer(hello)
        if not isinstance(answer, Welcome):
            self.refused += isinstance(answer, Refused)
            self._send(frames[0], unsequenced(encode(answer)))
            return
        peer = self._incarnations[hello.incarnation]
        peer.connection = hello.connection
        # What the owner said to it meanwhile was kept, and follows the welcome in its order.
        # First back, then told: it may be gone again in the middle of that.
        peer.route = frames[0]
        self._routes[peer.route] = peer
        self._transmit(peer, unsequenced(encode(answer)), now)
        for wire in peer.session.unheard(hello.seen if answer.resumed else 0):
            self._transmit(peer, wire, now)

    def _answer(self, hello: Hello) -> Welcome | Refused | Reconnect:
        if hello.protocol[0] != PROTOCOL[0]:
            return Refused(
                f"protocol {hello.protocol[0]}.{hello.protocol[1]} of zcluster {hello.package} "
                f"is not spoken here, which speaks {PROTOCOL[0]}.{PROTOCOL[1]}; "
                "install the same version on both sides"
            )
        decoder = self._decoders.get(hello.role)
        if decoder is None:
            return Refused(f"role {hello.role!r} is unknown, expected {', '.join(self._decoders)}")
        peer = self._incarnations.get(hello.incarnation)
        if peer is not None:
            return self._resume(peer, hello)
        if hello.token or hello.incarnation in self._ended:
            return Refused(_OVER)
        return self._begin(decoder, hello)

    def _begin(self, decoder: Decoder, hello: Hello) -> Welcome | Refused:
        """Make a session, if the owner agrees."""
        peer = _Peer(self._next, hello.role, decoder, hello.incarnation, self._make_token())
        self._next += 1
        self._peers[peer.number] = self._incarnations[peer.incarnation] = peer
        try:
            answer = self._on_hello(peer.number, hello)
        except ProtocolError as error:
            answer = Refused(str(error))
        if isinstance(answer, Refused):
            # It never had a session; if it does not hear this, it may ask once more.
            del self._peers[peer.number], self._incarnations[peer.incarnation]
            return answer
        peer.welcome = replace(answer, token=peer.token, resumed=False, seen=0)
        return peer.welcome

    def _resume(self, peer: _Peer, hello: Hello) -> Welcome | Refused | Reconnect:
        """Go on with a session, unless this hello is not the newest."""
        if hello.token and not hmac.compare_digest(hello.token, peer.token):
            return Refused(_OVER)
        if hello.connection <= peer.connection:
            return Reconnect()
        if hello.token:
            welcome = Welcome(0, peer.token, True, peer.session.heard, "", "", {})
        elif peer.welcome is not None:
            welcome = peer.welcome
        else:
            return Refused("this incarnation has a session, and does not know its token")
        try:
            peer.session.unheard(hello.seen if hello.token else 0)
        except ProtocolError as error:
            self.forget(peer.number)
            self._on_gone(peer.number, str(error))
            return Refused(f"the session cannot go on: {error}")
        if peer.route is not None:
            self._routes.pop(peer.route, None)
            peer.route = None
        self._on_resume(peer.number)
        return welcome
