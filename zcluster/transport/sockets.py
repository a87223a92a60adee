"""ZeroMQ sockets with the options zcluster needs, and what addresses it allows."""

from __future__ import annotations

import errno
import re
import struct
from typing import Any

import zmq

from zcluster.errors import InvalidAddress
from zcluster.protocol.frames import FRAME_LIMIT
from zcluster.transport.shedding import Shedder

__all__ = [
    "IPC_PATH_LIMIT",
    "REFUSALS",
    "check_address",
    "has_input",
    "monitor",
    "monitored_socket",
    "socket",
    "take_events",
]

#: The kernel's limit for the path of a unix socket, less the final zero.
IPC_PATH_LIMIT = 107

_TCP = re.compile(r"tcp://(\[[0-9a-fA-F:.%\w]+\]|[\w.\-*]+):(\d{1,5}|\*)")

#: Events of connections whose beginning went wrong.
REFUSALS = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_MONITORED = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_LISTENING
    | zmq.EVENT_ACCEPT_FAILED
    | REFUSALS
)
_ENDED = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
_EVENT = struct.Struct("=Hi")
_FULL = (errno.EMFILE, errno.ENFILE)
#: Of so many events that there was no descriptor left, one has those sent away who wait.
_FULL_EVENTS = 100


def socket(context: zmq.Context[Any], kind: int, heartbeat: bool = True) -> zmq.Socket[Any]:
    """Make a socket that limits what strangers may send and notices dead peers.

    Parameters
    ----------
    context : zmq.Context
    kind : int
        ``zmq.ROUTER``, ``zmq.DEALER``, …
    heartbeat : bool
        Whether ZeroMQ's own heartbeats run on it. They are answered by its
        thread, so they tell a dead or frozen peer from a busy one.
    """
    made: zmq.Socket[Any] = context.socket(kind)
    made.setsockopt(zmq.LINGER, 0)
    made.setsockopt(zmq.MAXMSGSIZE, FRAME_LIMIT)
    # Back-stops only: sessions bound what is in flight by bytes.
    made.setsockopt(zmq.SNDHWM, 100_000)
    made.setsockopt(zmq.RCVHWM, 100_000)
    made.setsockopt(zmq.HANDSHAKE_IVL, 2000)
    made.setsockopt(zmq.BACKLOG, 1024)
    made.setsockopt(zmq.IPV6, 1)
    made.setsockopt(zmq.RECONNECT_IVL, 20)
    made.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
    if heartbeat:
        made.setsockopt(zmq.HEARTBEAT_IVL, 500)
        made.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1500)
        made.setsockopt(zmq.HEARTBEAT_TTL, 2000)
    if kind == zmq.ROUTER:
        made.setsockopt(zmq.ROUTER_MANDATORY, 1)
    return made


def has_input(source: zmq.Socket[Any]) -> bool:
    """Whether a message can be received at once.

    Asked before each receive after the first: a receive in vain raises, which
    costs more, and lets go of the interpreter's lock on the way.
    """
    return bool(int(source.get(zmq.EVENTS)) & zmq.POLLIN)


def monitor(watched: zmq.Socket[Any]) -> zmq.Socket[Any]:
    """Return a socket on which a socket's connection events arrive."""
    made: zmq.Socket[Any] = watched.get_monitor_socket(_MONITORED)
    return made


def monitored_socket(
    context: zmq.Context[Any], kind: int
) -> tuple[zmq.Socket[Any], zmq.Socket[Any]]:
    """Make a socket and its `monitor`.

    Raises
    ------
    zmq.ZMQError
        If the process has no descriptors left for both; then neither is there.
    """
    made = socket(context, kind)
    try:
        return made, monitor(made)
    except zmq.ZMQError:
        made.close(0)
        raise


def take_events(source: zmq.Socket[Any], shedder: Shedder | None = None) -> tuple[bool, int]:
    """Take what a socket's `monitor` has to say.

    Parameters
    ----------
    source : zmq.Socket
        The monitor.
    shedder : Shedder, optional
        Sends connections away when there are no descriptors for them.

    Returns
    -------
    bool
        Whether a connection ended, or was tried and refused.
    int
        How many strangers were refused because they did not speak ZeroMQ's protocol.
    """
    ended, refused, full = False, 0, 0
    while has_input(source):
        event, value = _EVENT.unpack(source.recv_multipart(zmq.NOBLOCK)[0])
        ended = ended or bool(event & _ENDED)
        refused += bool(event & REFUSALS)
        if event == zmq.EVENT_LISTENING and shedder is not None:
            shedder.watch(value)
        if event == zmq.EVENT_ACCEPT_FAILED and value in _FULL and shedder is not None:
            # Not after all is taken: ZeroMQ tries again and tells of it faster than we listen,
            # until nobody waits to be accepted.
            if full % _FULL_EVENTS == 0:
                shedder.send_away()
            full += 1
    return ended, refused


def check_address(address: str, insecure: bool, is_keyed: bool = False) -> str:
    """Return an address that may be used, or raise.

    Parameters
    ----------
    address : str
    insecure : bool
        Whether plain TCP was asked for.
    is_keyed : bool
        Whether the cluster's keys are at hand.

    Raises
    ------
    InvalidAddress
        If the address does not parse, is too long, or is TCP without keys and without
        ``insecure``.
    """
    if address.startswith("ipc://"):
        path = address[6:]
        if not path or len(path.encode()) > IPC_PATH_LIMIT:
            raise InvalidAddress(
                f"ipc address {address!r} has a path of {len(path.encode())} bytes, expected 1 to "
                f"{IPC_PATH_LIMIT}; set TMPDIR or --local-directory to a shorter folder"
            )
        return address
    if address.startswith("inproc://") and len(address) > 9:
        return address
    match = _TCP.fullmatch(address)
    if match is None or (match[2] != "*" and int(match[2]) > 65535):
        raise InvalidAddress(
            f"address {address!r} does not parse, expected ipc:///path or tcp://host:port"
        )
    if not insecure and not is_keyed:
        raise InvalidAddress(
            f"address {address!r} is TCP, and the keys of a cluster there are not known here; "
            "give its scheduler file instead, which has them. For plain TCP, where anyone who "
            "reaches the port can run code as you, say insecure=True (--insecure)"
        )
    return address
