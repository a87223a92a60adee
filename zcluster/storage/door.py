"""How the descriptors of slabs reach workers and local clients: a unix socket beside ZeroMQ.

ZeroMQ carries bytes; a descriptor travels as ancillary data of a unix socket
(SCM_RIGHTS). So the nanny keeps a **door**, a socket in a 0700 folder. Whoever
wants to look into the store connects once and says who it is; from then on the
nanny pushes descriptors, and each side learns of the other's end at once, because
the system closes the socket of a process however it dies. For the nanny that is
the moment when the leases of the peer return.

The protocol, all of it::

    peer  → nanny   identity, 16 bytes: the token of this incarnation, once
    nanny → peer    slab number, 8 bytes little-endian, with one descriptor; repeated
    either          end of file: the other side is gone

Nothing else is allowed; a peer that says more is cut off. Only processes of the
same user get in: the folder keeps others out, and where the system can name the
peer's user (Linux), that is checked as well.

The nanny's side never blocks and belongs in its poll loop::

    for each descriptor that is readable:
        the door's         -> door.accept_ready(), register the new connections
        a connection's     -> connection.ready(); False: unregister it
    a connection with `wants_write`: also poll it for writing, then ready()
    afterwards: look into door.arrived and door.closed, empty both
"""

from __future__ import annotations

import os
import select
import socket
import stat
import struct
import sys
import time
from array import array
from collections import deque

from zcluster.errors import ClusterError, InvalidAddress, InvalidArgument, StartError

__all__ = ["IDENTITY_SIZE", "Door", "DoorClient", "DoorConnection"]

IDENTITY_SIZE = 16
_SLAB = struct.Struct("<q")
_PEER = struct.Struct("iII")  # struct ucred: pid, uid, gid
_BACKLOG = 512
#: Longest path of a unix socket: 108 bytes on Linux, 104 elsewhere, with the final zero.
_PATH_LIMIT = 107 if sys.platform == "linux" else 103
#: Received descriptors must not leak into processes that user code starts.
_CLOEXEC: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class DoorConnection:
    """One peer at the door, on the nanny's side. Made by `Door.accept_ready`.

    Attributes
    ----------
    identity : bytes
        Empty until the peer has said it.
    """

    __slots__ = ("_door", "_fd", "_outbox", "_received", "_socket", "identity")

    def __init__(self, door: Door, connected: socket.socket) -> None:
        self._door = door
        self._socket = connected
        self._fd = connected.fileno()
        self._received = b""
        self._outbox: deque[tuple[int, int]] = deque()  # slab, descriptor of our own
        self.identity = b""

    def fileno(self) -> int:
        """The number to poll; stays the same after the end, so that it can be unregistered."""
        return self._fd

    @property
    def wants_write(self) -> bool:
        """Whether descriptors wait until the peer reads."""
        return bool(self._outbox)

    def ready(self) -> bool:
        """Do what can be done without waiting. False: the connection has ended."""
        self._flush()
        try:
            # One byte more than is allowed shows a peer that says too much.
            chunk = self._socket.recv(IDENTITY_SIZE + 1 - len(self._received))
        except BlockingIOError:
            return True
        except OSError:  # reset by the peer: an end like any other
            chunk = b""
        self._received += chunk
        if not chunk or len(self._received) > IDENTITY_SIZE:
            # One that leaves after it said who it is was no stranger.
            self._door.refused += len(self._received) != IDENTITY_SIZE
            self._end()
            return False
        if len(self._received) == IDENTITY_SIZE and not self._door._admit(self):
            self._end()
            return False
        return True

    def _send(self, slab: int, fd: int) -> bool:
        if self._outbox:  # keep the order
            self._outbox.append((slab, os.dup(fd)))
            return True
        sent = self._try_send(slab, fd)
        if sent is None:
            self._outbox.append((slab, os.dup(fd)))
        return sent is not False

    def _flush(self) -> None:
        while self._outbox:
            slab, fd = self._outbox[0]
            if self._try_send(slab, fd) is None:
                return
            self._outbox.popleft()
            os.close(fd)

    def _try_send(self, slab: int, fd: int) -> bool | None:
        """True: sent. None: the peer's buffer is full. False: the connection is broken."""
        try:
            # Eight bytes go whole or not at all: a unix socket cuts only large messages.
            socket.send_fds(self._socket, [_SLAB.pack(slab)], [fd])
        except BlockingIOError:
            return None
        except OSError:
            # Not closed here: the poll loop still has the number, and must learn of
            # the end from ready(), which now sees an end of file.
            self._shut()
            return False
        return True

    def _shut(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the peer was quicker; the effect is the same

    def _end(self) -> None:
        self._socket.close()
        while self._outbox:
            os.close(self._outbox.popleft()[1])
        self._door._forget(self)


class Door:
    """The nanny's side: listens, admits, sends descriptors, notices ends. Never blocks.

    Parameters
    ----------
    path : str
        Where the socket shall be: in a folder of mode 0700.

    Attributes
    ----------
    arrived : list of bytes
        Identities admitted since the driver last emptied the list. It should send
        them the slabs that exist.
    closed : list of bytes
        Identities whose connection has ended since then: their leases return.
    refused : int
        Connections turned away: another user's, a second one of an identity, or one that
        said something else than an identity.

    Raises
    ------
    InvalidAddress
        The path is too long, or others may enter its folder.
    StartError
        The socket cannot be made; the system's error is the cause.
    """

    def __init__(self, path: str) -> None:
        _check_path(path)
        self.path = path
        self.arrived: list[bytes] = []
        self.closed: list[bytes] = []
        self.refused = 0
        self._connections: set[DoorConnection] = set()
        self._admitted: dict[bytes, DoorConnection] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(path)
            self._socket.listen(_BACKLOG)
        except OSError as error:
            self._socket.close()
            raise StartError(
                f"cannot listen at {path}: {error.strerror}. Expected a path that does not "
                "exist yet; give each nanny a fresh folder."
            ) from error
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """The number to poll for new connections."""
        return self._socket.fileno()

    def accept_ready(self) -> list[DoorConnection]:
        """Take in whoever waits outside; the caller polls what it gets."""
        new: list[DoorConnection] = []
        while True:
            try:
                connected, _ = self._socket.accept()
            except ConnectionAbortedError:
                continue
            except OSError:
                # Nobody waits, or there are no descriptors left: they may come back.
                return new
            if not _is_same_user(connected):
                self.refused += 1
                connected.close()
                continue
            connected.setblocking(False)
            connection = DoorConnection(self, connected)
            self._connections.add(connection)
            new.append(connection)

    def send_descriptor(self, identity: bytes, slab: int, fd: int) -> bool:
        """Send a slab's descriptor. False: there is no such peer, or it is going.

        The descriptor stays the caller's, who may close it at once. If the peer does
        not read, it is kept until it does (see `DoorConnection.wants_write`).
        """
        connection = self._admitted.get(identity)
        return connection is not None and connection._send(slab, fd)

    def connection(self, identity: bytes) -> DoorConnection | None:
        """The connection of a peer, if it is here."""
        return self._admitted.get(identity)

    def close(self) -> None:
        """Remove the socket file and end all connections, without reporting them as closed."""
        if self._socket.fileno() < 0:
            return
        self._socket.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass  # the launcher swept the folder before us
        for connection in list(self._connections):
            connection._end()
        self.closed.clear()
        self.arrived.clear()

    def _admit(self, connection: DoorConnection) -> bool:
        identity = connection._received
        if identity in self._admitted:
            self.refused += 1
            return False
        connection.identity = identity
        self._admitted[identity] = connection
        self.arrived.append(identity)
        return True

    def _forget(self, connection: DoorConnection) -> None:
        self._connections.discard(connection)
        if connection.identity:
            del self._admitted[connection.identity]
            self.closed.append(connection.identity)


class DoorClient:
    """The side of a worker or a local client. Blocks; one thread at a time (the caller's lock).

    Parameters
    ----------
    path : str
        The door's path.
    identity : bytes
        16 bytes that no other connection has.
    timeout : float
        Seconds until it must be connected.

    Raises
    ------
    InvalidArgument
        The identity does not have 16 bytes.
    StartError
        Nobody listens there, or not in time.
    """

    def __init__(self, path: str, identity: bytes, timeout: float) -> None:
        if len(identity) != IDENTITY_SIZE:
            raise InvalidArgument(
                f"identity has {len(identity)} bytes; expected {IDENTITY_SIZE}, made at random"
            )
        self.path = path
        self._arrived: dict[int, int] = {}  # slab -> descriptor that nobody asked for yet
        self._partial = b""
        self._partial_fds: list[int] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(timeout)
            self._socket.sendall(identity)
        except OSError as error:
            self._socket.close()
            raise StartError(
                f"cannot reach the node's door at {path} within {timeout} s: "
                f"{error.strerror or error}. The nanny makes it before it starts workers: "
                "is it still running?"
            ) from error

    def fileno(self) -> int:
        """Readable when a descriptor has arrived or the nanny is gone."""
        return self._socket.fileno()

    def receive_descriptor(self, slab: int, timeout: float) -> int:
        """The descriptor of a slab, which becomes the caller's; waits for it if need be.

        Raises
        ------
        TimeoutError
            It did not arrive within `timeout` seconds. Asking again is allowed.
        ClusterError
            The nanny is gone, or this process is out of descriptors.
        """
        deadline = time.monotonic() + timeout
        while slab not in self._arrived:
            # Poll even when the time is up: what has arrived already always counts.
            left = max(0.0, deadline - time.monotonic())
            poller = select.poll()
            poller.register(self._socket, select.POLLIN)
            if not poller.poll(left * 1000):
                raise TimeoutError(
                    f"the descriptor of slab {slab} did not arrive from {self.path} within "
                    f"{timeout} s; here are {sorted(self._arrived) or 'none'}. "
                    "Is the slab still there, and the nanny's loop running?"
                )
            self._receive()
        return self._arrived.pop(slab)

    def close(self) -> None:
        """Leave: the nanny takes all leases back. Closes descriptors nobody asked for."""
        self._socket.close()
        for fd in (*self._arrived.values(), *self._partial_fds):
            os.close(fd)
        self._arrived.clear()
        self._partial_fds.clear()

    def _connect(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        self._socket.settimeout(timeout)
        while True:
            try:
                self._socket.connect(self.path)
            except BlockingIOError:
                # The backlog is full: a unix socket says so at once instead of waiting.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
            else:
                return

    def _receive(self) -> None:
        """Read one message, or the rest of one."""
        wanted = _SLAB.size - len(self._partial)
        try:
            data, fds, flags = _receive(self._socket, wanted)
        except ConnectionResetError:
            data, fds, flags = b"", [], 0
        self._partial += data
        self._partial_fds += fds
        if not data:
            raise ClusterError(
                f"the nanny behind {self.path} is gone, or refused this process; "
                "its store cannot be read any more"
            )
        if flags & socket.MSG_CTRUNC:
            self._partial = b""  # the next message is whole again
            raise ClusterError(
                "a descriptor was lost because this process has too many files open; "
                "raise the limit (ulimit -n)"
            )
        if len(self._partial) < _SLAB.size:
            return
        (slab,) = _SLAB.unpack(self._partial)
        fds, self._partial, self._partial_fds = self._partial_fds, b"", []
        if len(fds) != 1 or slab in self._arrived:
            for fd in fds:
                os.close(fd)
            raise ClusterError(
                f"the message for slab {slab} from {self.path} came twice or carried "
                f"{len(fds)} descriptors; expected one message with one"
            )
        self._arrived[slab] = fds[0]


def _receive(connected: socket.socket, size: int) -> tuple[bytes, list[int], int]:
    """Bytes, descriptors and flags of the next message.

    What `socket.recv_fds` does, except that it ignores its flags in Python 3.11.
    """
    numbers = array("i")
    room = socket.CMSG_LEN(numbers.itemsize)
    data, ancillary, flags, _ = connected.recvmsg(size, room, _CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) // numbers.itemsize * numbers.itemsize])
    if not _CLOEXEC:
        for fd in numbers:
            os.set_inheritable(fd, False)
    return data, list(numbers), flags


def _check_path(path: str) -> None:
    size = len(os.fsencode(path))
    if size > _PATH_LIMIT:
        raise InvalidAddress(
            f"the path {path} has {size} bytes; a unix socket's path has at most "
            f"{_PATH_LIMIT}. Use a shorter folder, such as one under /tmp."
        )
    folder = os.path.dirname(path) or "."
    try:
        mode = stat.S_IMODE(os.stat(folder).st_mode)
    except OSError as error:
        raise InvalidAddress(
            f"no folder {folder} for the door: {error.strerror}; make it first, with mode 0700"
        ) from error
    if mode & 0o077:
        raise InvalidAddress(
            f"the folder {folder} has mode {mode:04o}, so others may enter; expected 0700. "
            "Use a folder of your own."
        )


def _is_same_user(connected: socket.socket) -> bool:
    if sys.platform != "linux":
        return True  # the folder's mode alone keeps others out
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, uid, _ = _PEER.unpack(raw)
    return bool(uid == os.geteuid())
