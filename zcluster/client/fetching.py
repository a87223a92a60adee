"""A client's side of the nodes' data ports: large results in, large blobs out.

All of it runs on the client's loop thread. A message here is a control frame and
payload frames, without a session: what matters is asked again by whoever waits.

From a node of this host a result is not copied at all. The nanny says where in its
store it is (`Map`, `Mapped`), the store's descriptor comes through the node's door,
and the range is mapped privately: the user may write into it and nobody else sees
that. When the last view on the mapping dies the lease goes back (`Return`). From
other hosts results come in slices, and go in slices, never more ahead than `WINDOW`.
Small results, which a client that fell behind is not sent unasked, come many at a time.
"""

from __future__ import annotations

import os
import platform
import socket as sockets
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import zmq

from zcluster.errors import ClusterError, InvariantError, ProtocolError, StartError
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    PROTOCOL,
    Fetch,
    FetchSmall,
    Hello,
    Map,
    Mapped,
    Message,
    Missing,
    More,
    NodeInfo,
    Put,
    Return,
    Slice,
    Small,
    Stored,
)
from zcluster.storage.arena import Range
from zcluster.storage.door import DoorClient
from zcluster.storage.slabs import SlabReader
from zcluster.transport.keys import Keys
from zcluster.transport.link import send_frames
from zcluster.transport.loop import Loop
from zcluster.transport.sockets import has_input, socket
from zcluster.types import Buffer
from zcluster.version import __version__

__all__ = ["PATIENCE_SECONDS", "SLICE", "WINDOW", "DataPorts"]

#: Bytes of one slice, and how far a sender may be ahead of its receiver.
SLICE = 8 << 20
WINDOW = 32 << 20
#: Results up to this size are asked for together: in one request so many, of so many bytes
#: together, and so many requests at a time.
SMALL = 16 << 10
_SMALL_TASKS, _SMALL_BYTES, _SMALL_REQUESTS = 256, 1 << 20, 4
#: A node that says nothing for this long to who wants a result is taken for gone. Who brings a
#: blob asks again, and waits: there may be no other node, and the scheduler will say if it is gone.
PATIENCE_SECONDS = 10.0
#: Where there is no descriptor for a connection, it is tried again after so long, so often.
_AGAIN, _TRIES = 0.25, 40
#: How often that is looked at, while anything is asked.
WATCH_SECONDS = 1.0
_DOOR_SECONDS = 2.0

#: `Missing.kind` of a result that can never leave the worker that made it.
_CANNOT_TRAVEL = 2

#: Called with the result's bytes; or with None, why, and whether that is final.
OnFetched: TypeAlias = Callable[[memoryview | None, str, bool], None]
#: Called with an empty string once stored; or with why not.
OnStored: TypeAlias = Callable[[str], None]
#: Called, more than once perhaps, while a blob cannot be stored as the node says nothing.
OnSilent: TypeAlias = Callable[[], None]


class _Fetching:
    """A result under way to us."""

    __slots__ = ("done", "is_mapping", "received", "seen", "target", "task")

    def __init__(self, task: int, done: OnFetched, now: float, is_mapping: bool) -> None:
        self.task = task
        self.is_mapping = is_mapping
        self.done = done
        self.seen = now
        self.target: memoryview | None = None
        self.received = 0

    def fail(self, reason: str) -> None:
        self.done(None, reason, False)


class _FetchingSmall:
    """Small results under way to us, together."""

    __slots__ = ("results", "seen")

    def __init__(self, results: list[tuple[int, OnFetched]], now: float) -> None:
        self.results = results
        self.seen = now

    def fail(self, reason: str) -> None:
        for _, done in self.results:
            done(None, reason, False)


class _Putting:
    """A blob under way to a store."""

    __slots__ = ("blob", "done", "seen", "sent", "silent", "task")

    def __init__(
        self, task: int, blob: Buffer, done: OnStored, silent: OnSilent, now: float
    ) -> None:
        self.task = task
        self.blob = memoryview(blob)
        self.done = done
        self.silent = silent
        self.seen = now
        self.sent = 0

    def fail(self, reason: str) -> None:
        self.done(reason)


class _Port:
    """The connection to one node's data port."""

    def __init__(
        self, loop: Loop, context: zmq.Context[Any], node: NodeInfo, keys: Keys | None
    ) -> None:
        self.node = node
        self.requests: dict[int, _Fetching | _FetchingSmall | _Putting] = {}
        #: Small results that are still to be asked for: (task, size, done).
        self._small: deque[tuple[int, int, OnFetched]] = deque()
        self._small_requests = 0
        self._loop = loop
        self._identity = os.urandom(16)
        self._decoder = Decoder((Slice, Small, More, Missing, Stored, Mapped))
        self._number = 0
        self._returned: deque[Range] = deque()
        self._reader = SlabReader()
        self._socket = socket(context, zmq.DEALER)
        if keys is not None:
            keys.enter(self._socket, "client", "node")
        self._door = _open_door(node, self._identity)
        self._socket.connect(node.data)
        loop.add_socket(self._socket, self._receive)
        self._send(
            Hello("client", PROTOCOL, __version__, platform.python_version(), self._identity)
        )

    # --------------------------------------------------------------------- asking

    def fetch(self, task: int, size: int, done: OnFetched) -> None:
        if 0 <= size <= SMALL:
            self._small.append((task, size, done))  # asked for at the end of the round
        else:
            self._fetch_alone(task, done)

    def ask_small(self) -> None:
        """Ask for small results, as far as they may be on their way at a time."""
        small = self._small
        while small and self._small_requests < _SMALL_REQUESTS:
            room = _SMALL_BYTES
            results: list[tuple[int, OnFetched]] = []
            while small and len(results) < _SMALL_TASKS and small[0][1] <= room:
                task, size, done = small.popleft()
                room -= size
                results.append((task, done))
            number = self._next_number()
            self.requests[number] = _FetchingSmall(results, self._loop.now())
            self._small_requests += 1
            self._send(FetchSmall(number, [task for task, _ in results]))

    def _fetch_alone(self, task: int, done: OnFetched) -> None:
        number = self._next_number()
        is_mapping = self._door is not None
        request = self.requests[number] = _Fetching(task, done, self._loop.now(), is_mapping)
        if is_mapping:
            self._send(Map(number, task, self._identity))
        else:
            self._ask_slices(number, request)

    def put(self, task: int, blob: Buffer, done: OnStored, silent: OnSilent) -> None:
        number = self._next_number()
        self.requests[number] = _Putting(task, blob, done, silent, self._loop.now())
        self._send(Put(number, task, len(blob)))

    def urge(self, before: float) -> None:
        """Begin puts again that were not heard of since a time: the connection may be another."""
        for number, request in list(self.requests.items()):
            if isinstance(request, _Putting) and request.seen < before:
                request.seen = self._loop.now()
                request.sent = 0
                self._send(Put(number, request.task, len(request.blob)))
                request.silent()

    def return_leases(self) -> None:
        """Give back the ranges on which no view is left."""
        returned = self._returned
        if returned:
            ranges: list[tuple[int, int, int]] = []
            while returned:
                slab, offset, length = returned.popleft()
                ranges.append((slab, offset, length))
            self._send(Return(ranges))

    def give_up(self, reason: str, before: float) -> None:
        """Fail the requests that were not heard of since a time."""
        is_small = before == float("inf")
        for number, request in list(self.requests.items()):
            if request.seen < before:
                del self.requests[number]
                if isinstance(request, _FetchingSmall):
                    self._small_requests -= 1
                    is_small = True
                request.fail(reason)
        while self._small and is_small:  # what has not been asked would have no other answer
            self._small.popleft()[2](None, reason, False)

    def close(self) -> None:
        self._loop.remove(self._socket)
        self._socket.close()
        if self._door is not None:
            self._door.close()
        self._reader.close()

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _ask_slices(self, number: int, request: _Fetching) -> None:
        request.is_mapping = False
        self._send(Fetch(number, request.task))
        self._send(More(number, WINDOW))

    def _send(self, message: Message, frames: Sequence[Buffer] = ()) -> None:
        try:
            send_frames(self._socket, [encode(message), *frames])
        except zmq.Again:
            # Nobody reads there: the requests run into their patience.
            return

    # ------------------------------------------------------------------- hearing

    def _receive(self) -> None:
        for _ in range(16):
            if not has_input(self._socket):
                return
            frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            try:
                self._hear(self._decoder.decode(frames[0].bytes), frames[1:])
            except ProtocolError as error:
                self.give_up(f"node {self.node.name} spoke nonsense: {error}", float("inf"))

    def _hear(self, message: Any, frames: list[Any]) -> None:
        number = message.request
        request = self.requests.get(number)
        if request is None:
            if isinstance(message, Mapped):  # too late; the range is ours to give back
                self._returned.append(Range(message.slab, message.offset, message.length))
            elif isinstance(message, More):  # nor has the node to keep room for a blob any more
                self._send(Put(number, -1, 0))
            return
        request.seen = self._loop.now()
        if isinstance(request, _Putting):
            self._hear_putting(number, request, message)
        elif isinstance(request, _FetchingSmall):
            if isinstance(message, Small):
                self._take_small(number, request, message, frames)
        elif isinstance(message, Mapped):
            self._map(number, request, message)
        elif isinstance(message, Slice):
            self._take(number, request, message, frames)
        elif isinstance(message, Missing) and request.is_mapping:
            self._ask_slices(number, request)  # it may be on disk, or in no slab
        elif isinstance(message, Missing):
            del self.requests[number]
            reason = message.reason or f"node {self.node.name} does not have it"
            request.done(None, reason, message.kind == _CANNOT_TRAVEL)

    def _take_small(
        self, number: int, request: _FetchingSmall, message: Small, frames: list[Any]
    ) -> None:
        data = frames[0].buffer if frames else memoryview(b"")
        lengths = message.lengths
        if len(lengths) != len(request.results) or len(data) != sum(n for n in lengths if n > 0):
            raise ProtocolError(
                f"{len(lengths)} small results and {len(data)} bytes came, "
                f"expected {len(request.results)} results and the bytes of their lengths"
            )
        del self.requests[number]
        self._small_requests -= 1
        start = 0
        for (task, done), length in zip(request.results, lengths, strict=True):
            if length < 0:  # it is not here, or on disk, or in the store: it will be said alone
                self._fetch_alone(task, done)
                continue
            done(memoryview(bytearray(data[start : start + length])), "", False)
            start += length

    def _hear_putting(self, number: int, request: _Putting, message: Any) -> None:
        if isinstance(message, More):
            total = len(request.blob)
            upto = min(message.upto, total)
            while request.sent < upto:
                stop = min(request.sent + SLICE, upto)
                self._send(Slice(number, request.sent, total), [request.blob[request.sent : stop]])
                request.sent = stop
        elif isinstance(message, Stored):
            del self.requests[number]
            request.done("")
        elif isinstance(message, Missing):
            del self.requests[number]
            request.fail(message.reason or f"the store of node {self.node.name} has no room")

    def _map(self, number: int, request: _Fetching, message: Mapped) -> None:
        lease = Range(message.slab, message.offset, message.length)
        try:
            view = self._view(lease, message.size)
        except (OSError, ClusterError, InvariantError):
            # The door closed, or the system has no room for a mapping: take a copy.
            self._returned.append(lease)
            self._ask_slices(number, request)
            return
        del self.requests[number]
        request.done(view, "", False)

    def _view(self, lease: Range, size: int) -> memoryview:
        if lease.slab not in self._reader:
            if self._door is None:
                raise ClusterError(f"node {self.node.name} has no door for this process")
            self._reader.add(lease.slab, self._door.receive_descriptor(lease.slab, _DOOR_SECONDS))
        return self._reader.map_private(lease, self._on_lease_end)[:size]

    def _on_lease_end(self, lease: Range) -> None:
        """Note it. This runs wherever the last view dies, in the middle of anything."""
        self._returned.append(lease)
        self._loop.wake()

    def _take(self, number: int, request: _Fetching, message: Slice, frames: list[Any]) -> None:
        if request.target is None:
            request.target = memoryview(bytearray(message.total))
        data = frames[0].buffer if frames else memoryview(b"")
        stop = message.offset + len(data)
        if message.offset != request.received or stop > len(request.target):
            raise ProtocolError(
                f"slice {message.offset} to {stop} of {len(request.target)} bytes came after "
                f"{request.received} bytes"
            )
        request.target[message.offset : stop] = data
        request.received = stop
        if stop == len(request.target):
            del self.requests[number]
            request.done(request.target, "", False)
        else:
            self._send(More(number, stop + WINDOW))


def _open_door(node: NodeInfo, identity: bytes) -> DoorClient | None:
    """Connect to a node's door if it is on this host."""
    if node.host != sockets.gethostname() or not node.door or not os.path.exists(node.door):
        return None
    try:
        return DoorClient(node.door, identity, _DOOR_SECONDS)
    except (StartError, OSError):
        return None  # it has just gone, or is another host's path: slices work from anywhere


class DataPorts:
    """The data ports this client talks to, opened when first needed.

    Parameters
    ----------
    loop : Loop
    context : zmq.Context
    keys : Keys, optional
        The cluster's, needed on TCP unless it is plain.
    """

    def __init__(self, loop: Loop, context: zmq.Context[Any], keys: Keys | None = None) -> None:
        self._keys = keys
        self._loop = loop
        self._context = context
        self._ports: dict[int, _Port] = {}
        self._watching = False
        self._closed = False

    def fetch(self, node: NodeInfo, task: int, done: OnFetched, size: int = -1) -> None:
        """Get the blob of a task from a node; of that size, if it is known."""
        self._use(
            node,
            lambda port: port.fetch(task, size, done),
            lambda reason: done(None, reason, False),
        )

    def put(
        self, node: NodeInfo, task: int, blob: Buffer, done: OnStored, silent: OnSilent
    ) -> None:
        """Put a blob into a node's store as the result of a data task."""
        self._use(node, lambda port: port.put(task, blob, done, silent), done)

    def forget(self, node: int) -> None:
        """Close the port of a node that left; its requests fail."""
        port = self._ports.pop(node, None)
        if port is not None:
            port.close()
            port.give_up(f"node {port.node.name} left", float("inf"))

    def on_idle(self) -> None:
        """Return ended leases, ask for small results; called once a round of the loop."""
        for port in self._ports.values():
            port.return_leases()
            port.ask_small()

    def close(self) -> None:
        """Close all ports; requests fail."""
        self._closed = True
        for node in list(self._ports):
            self.forget(node)

    def _use(
        self,
        node: NodeInfo,
        use: Callable[[_Port], None],
        fail: Callable[[str], None],
        tries: int = _TRIES,
    ) -> None:
        """Use a port; later where this process has no descriptor left for it, or not at all."""
        try:
            port = self._port(node)
        except zmq.ZMQError as error:
            if tries and not self._closed:
                again = partial(self._use, node, use, fail, tries - 1)
                self._loop.call_later(_AGAIN, again)
            else:
                fail(f"no connection to node {node.name} can be made: {error}")
            return
        use(port)

    def _port(self, node: NodeInfo) -> _Port:
        port = self._ports.get(node.index)
        if port is None:
            port = self._ports[node.index] = _Port(self._loop, self._context, node, self._keys)
        if not self._watching:
            self._watching = True
            self._loop.call_later(WATCH_SECONDS, self._watch)
        return port

    def _watch(self) -> None:
        """Give up on nodes that do not answer; runs while anything is asked."""
        self._watching = False
        before = self._loop.now() - PATIENCE_SECONDS
        for port in list(self._ports.values()):
            port.urge(before)
            port.give_up(
                f"node {port.node.name} did not answer within {PATIENCE_SECONDS:g} s", before
            )
        if any(port.requests for port in self._ports.values()):
            self._watching = True
            self._loop.call_later(WATCH_SECONDS, self._watch)
