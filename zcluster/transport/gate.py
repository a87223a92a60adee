"""Who is let in by sockets that have keys.

ZeroMQ asks about each connection (ZAP, https://rfc.zeromq.org/spec/27/), and lets every key in
where nobody answers.
"""

from __future__ import annotations

from typing import Any

import zmq
from zmq.utils import z85

from zcluster.transport.keys import Keys
from zcluster.transport.loop import Loop

__all__ = ["Gate", "user_of"]


def user_of(frame: zmq.Frame) -> str:
    """Return the role whose key brought a message; empty where none is needed."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


class Gate:
    """Answers for one context who may enter.

    Parameters
    ----------
    loop : Loop
        Connections are let in as long as it runs.
    context : zmq.Context
    keys : Keys
        Nodes and clients with these keys may enter.
    """

    def __init__(self, loop: Loop, context: zmq.Context[Any], keys: Keys) -> None:
        self._loop = loop
        self._roles = {keys.pair(role).public: role.encode() for role in ("node", "client")}
        self._socket: zmq.Socket[Any] = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind("inproc://zeromq.zap.01")
        loop.add_socket(self._socket, self._answer)

    def close(self) -> None:
        """Answer no more: nobody enters from now on."""
        self._loop.remove(self._socket)
        self._socket.close(0)

    def _answer(self) -> None:
        version, request, _, _, _, mechanism, *credentials = self._socket.recv_multipart()
        role = b""
        if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == 32:
            role = self._roles.get(z85.encode(credentials[0]).decode(), b"")
        verdict = (b"200", b"OK") if role else (b"400", b"this key is not one of the cluster")
        self._socket.send_multipart([version, request, *verdict, role, b""])
