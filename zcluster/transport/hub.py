"""The listening end of many conversations, with sockets: one ROUTER and its monitor.

What is said and concluded is decided by `zcluster.protocol.reception`; this file moves
its events in and its messages out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq

from zcluster.protocol.conversation import HEARTBEAT_SECONDS
from zcluster.protocol.messages import Hello, Message, Refused, Welcome
from zcluster.protocol.reception import PROBES, Reception
from zcluster.transport.gate import Gate, user_of
from zcluster.transport.keys import Keys
from zcluster.transport.link import RECEIVE_BURST, send_frames
from zcluster.transport.loop import Loop
from zcluster.transport.shedding import Shedder
from zcluster.transport.sockets import has_input, monitor, socket, take_events
from zcluster.types import Buffer, Frames

__all__ = ["Hub"]

#: Seconds after which what was heard is answered, and only then more is heard.
_BURST_SECONDS = 0.01


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
    keys : Keys, optional
        With them, only who has one of them is heard, and only in the role it is for.

    Attributes
    ----------
    address : str
        The address bound.
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
        keys: Keys | None = None,
    ) -> None:
        self._loop = loop
        self._refused_connections = 0
        self._on_hello = on_hello
        #: What the message came with that is being heard.
        self._head: zmq.Frame | None = None
        self._reception = Reception(
            self._send,
            lambda: os.urandom(16),
            accepts=accepts,
            on_hello=on_hello if keys is None else self._check_role,
            on_message=on_message,
            on_disconnect=on_disconnect,
            on_resume=on_resume,
            on_gone=on_gone,
        )
        self._socket = socket(context, zmq.ROUTER)
        self._gate = None if keys is None else Gate(loop, context, keys)
        if keys is not None:
            keys.serve(self._socket, "scheduler")
        self._monitor = monitor(self._socket)
        self._socket.bind(address)
        self._shedder = Shedder("the scheduler")
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        loop.add_socket(self._monitor, self._on_event)
        self._take = self._take_plain if keys is None else self._take_keyed
        loop.add_socket(self._socket, self._receive)
        self._closed = False
        loop.call_later(HEARTBEAT_SECONDS, self._tick)

    @property
    def refused(self) -> int:
        """Messages and connections that were refused."""
        return self._reception.refused + self._refused_connections

    def send(self, number: int, message: Message, frames: Frames = ()) -> None:
        """Say something to a peer; kept and said again if it is cut off now."""
        self._reception.send(number, message, frames, self._loop.now())

    def in_flight(self, number: int) -> int:
        """Return the bytes a peer has not acknowledged (0 for unknown peers)."""
        return self._reception.in_flight(number)

    def forget(self, number: int, reason: str = "") -> None:
        """End a peer's session; with a reason, it is told first."""
        self._reception.forget(number, reason)

    def close(self, reason: str) -> None:
        """Say goodbye to all peers and close the sockets."""
        if self._closed:
            return
        self._closed = True
        self._socket.setsockopt(zmq.LINGER, 200)
        self._reception.say_goodbye(reason)
        self._loop.remove(self._monitor)
        self._loop.remove(self._socket)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._shedder.close()
        self._socket.close()
        if self._gate is not None:
            self._gate.close()

    def _send(self, route: bytes, frames: Sequence[Buffer]) -> bool:
        try:
            send_frames(self._socket, [route, *frames])
        except zmq.ZMQError:
            return False
        return True

    def _on_event(self) -> None:
        ended, refused = take_events(self._monitor, self._shedder)
        self._refused_connections += refused
        if ended:
            for delay in PROBES:
                self._loop.call_later(delay, self._probe)

    def _probe(self) -> None:
        if not self._closed:
            self._reception.probe(self._loop.now())

    def _tick(self) -> None:
        if not self._closed:
            lag, self._loop.lag = self._loop.lag, 0.0
            self._loop.call_later(self._reception.on_time(self._loop.now(), lag), self._tick)

    def _receive(self) -> None:
        source, take, hear = self._socket, self._take, self._reception.on_frames
        now = self._loop.now()
        for _ in range(RECEIVE_BURST):
            if self._closed or not has_input(source):
                return
            hear(take(), now)
            if self._loop.now() - now > _BURST_SECONDS:
                return  # what was asked has its answer before the rest

    def _take_plain(self) -> list[bytes]:
        return self._socket.recv_multipart(zmq.NOBLOCK)

    def _take_keyed(self) -> list[bytes]:
        """Keep the first frame: it says whose key a message came by."""
        self._head = self._socket.recv(zmq.NOBLOCK, copy=False)
        return [self._head.bytes, *self._socket.recv_multipart(zmq.NOBLOCK)]

    def _check_role(self, peer: int, hello: Hello) -> Welcome | Refused:
        """Refuse who has the key of another role: of a node, and says that it is a client."""
        role = "" if self._head is None else user_of(self._head)
        if role != hello.role:
            return Refused(
                f"this {hello.role} came with the key of a {role}, expected that of its own role"
            )
        return self._on_hello(peer, hello)
