"""A node's data port: results out to clients and other nodes, large blobs in.

Large data never goes through the scheduler. A blob is fetched in slices under
credit, put in slices under credit, or, by a process of the same host, mapped: then
the port only says where in the store it is. What is on disk is checked first. There is
no session here: whoever asked asks again, here or elsewhere.
"""

from __future__ import annotations

import itertools
from typing import Any

import zmq

from zcluster.core.node.core import NodeCore
from zcluster.core.node.records import Result, RoomGiven
from zcluster.errors import ProtocolError
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    Fetch,
    FetchSmall,
    Hello,
    Map,
    Mapped,
    Message,
    Missing,
    More,
    Put,
    Return,
    Slice,
    Small,
    Stored,
)
from zcluster.servers.memory import StoreMemory, plan_cut
from zcluster.storage.arena import Range
from zcluster.transport.gate import Gate
from zcluster.transport.keys import Keys
from zcluster.transport.link import send_frames
from zcluster.transport.loop import Loop
from zcluster.transport.shedding import Shedder
from zcluster.transport.sockets import has_input, monitor, socket, take_events

__all__ = ["SLICE", "SMALL_BYTES", "WINDOW", "DataPort"]

#: Bytes of one slice, and how far a sender may be ahead of its receiver.
SLICE = 8 << 20
WINDOW = 32 << 20
#: Bytes of the small results in one message.
SMALL_BYTES = 1 << 20
#: Messages taken in one round of the loop.
_BURST = 32
#: Seconds between looks whether sent bytes were read.
_LOOK = 0.05
#: Seconds after which somebody who waits for a result on disk hears of us, again and again;
#: and after how many of these who cannot be told otherwise is sent to ask for slices.
_KEEP, _KEEPS = 0.5, 3
#: Seconds after a disconnect at which peers are probed: ZeroMQ forgets the routing id
#: of a closed connection a little later than it reports the close.
_PROBES = (0.0, 0.01, 0.1, 0.5)


class _Sending:
    """A blob on its way out."""

    __slots__ = ("held", "sent", "total", "tracker", "view")

    def __init__(self, view: memoryview, held: tuple[Range, bytes] | None) -> None:
        self.view = view
        self.total = len(view)
        self.sent = 0
        #: A lease on the range it is read from.
        self.held = held
        #: Tells when ZeroMQ has read the last slice, and so all before it.
        self.tracker: zmq.MessageTracker | None = None


class _Opening:
    """Who asked for what is on disk and being checked."""

    __slots__ = ("looks", "message", "upto")

    def __init__(self, message: Fetch | Map) -> None:
        self.message = message
        #: The credit that came meanwhile.
        self.upto = 0
        self.looks = 0


class _Receiving:
    """A blob on its way in."""

    __slots__ = ("place", "received", "target", "task", "total")

    def __init__(self, task: int, total: int, place: Range, target: memoryview) -> None:
        self.task = task
        self.total = total
        self.place = place
        self.target = target
        self.received = 0


class DataPort:
    """Serves a node's results.

    Parameters
    ----------
    loop, context
    address : str
        Where to bind; `address` is then the address bound.
    core : NodeCore
    memory : StoreMemory
    keys : Keys, optional
        With them, only who has one of them is heard.

    Attributes
    ----------
    refused : int
        Connections that were refused, and messages that were not understood.
    sent_bytes, received_bytes : int
    """

    def __init__(
        self,
        loop: Loop,
        context: zmq.Context[Any],
        address: str,
        core: NodeCore,
        memory: StoreMemory,
        keys: Keys | None = None,
    ) -> None:
        self._loop = loop
        self._core = core
        self._memory = memory
        self._decoder = Decoder((Hello, Fetch, FetchSmall, More, Put, Slice, Map, Return))
        self._socket = socket(context, zmq.ROUTER)
        self._gate = None if keys is None else Gate(loop, context, keys)
        if keys is not None:
            keys.serve(self._socket, "node")
        self._monitor = monitor(self._socket)
        self._socket.bind(address)
        self._shedder = Shedder(f"the data port of node {core.name}")
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._sending: dict[tuple[bytes, int], _Sending] = {}
        self._receiving: dict[tuple[bytes, int], _Receiving] = {}
        self._opening: dict[tuple[bytes, int], _Opening] = {}
        #: Puts that wait for room, by ticket.
        self._waiting: dict[int, tuple[bytes, Put]] = {}
        self._ticket = itertools.count()
        #: Whose mappings are leased, by the routing id that asked.
        self._holders: dict[bytes, bytes] = {}
        self._lease = itertools.count()
        self.refused = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        loop.add_socket(self._socket, self._receive)
        loop.add_socket(self._monitor, self._on_event)

    def close(self) -> None:
        """Close the port."""
        self._loop.remove(self._socket)
        self._loop.remove(self._monitor)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._shedder.close()
        self._socket.close(0)
        if self._gate is not None:
            self._gate.close()

    def drop_holder(self, holder: bytes) -> None:
        """A process that mapped results has ended."""
        self._memory.drop_holder(holder)

    # ------------------------------------------------------------------------- hearing

    def _receive(self) -> None:
        for _ in range(_BURST):
            if not has_input(self._socket):
                return
            frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            try:
                if len(frames) < 2:
                    raise ProtocolError("a message without a control frame")
                message = self._decoder.decode(frames[1].bytes)
                self._hear(frames[0].bytes, message, frames[2:])
            except ProtocolError:
                self.refused += 1

    def _hear(self, route: bytes, message: Message, frames: list[Any]) -> None:
        if isinstance(message, Fetch):
            self._fetch(route, message)
        elif isinstance(message, FetchSmall):
            self._fetch_small(route, message)
        elif isinstance(message, More):
            self._more(route, message)
        elif isinstance(message, Put):
            self._put(route, message)
        elif isinstance(message, Slice):
            self._slice(route, message, frames)
        elif isinstance(message, Map):
            self._map(route, message)
        elif isinstance(message, Return):
            holder = self._holders.get(route)
            if holder is not None:
                for slab, offset, length in message.ranges:
                    self._memory.give_back(Range(slab, offset, length), holder)

    def _on_event(self) -> None:
        """A connection ended: forget what was under way on connections that are gone."""
        ended, refused = take_events(self._monitor, self._shedder)
        self.refused += refused
        if ended:
            for delay in _PROBES:
                self._loop.call_later(delay, self._probe)

    def _probe(self) -> None:
        if self._socket.closed:
            return
        routes = {route for route, _ in (*self._sending, *self._receiving, *self._opening)}
        routes.update(route for route, _ in self._waiting.values())
        for route in routes.union(self._holders):
            self._say(route, Missing(0))

    def _say(self, route: bytes, message: Message, frames: list[Any] | None = None) -> bool:
        try:
            send_frames(self._socket, [route, encode(message), *(frames or [])])
        except zmq.ZMQError:
            self._forget_route(route)
            return False
        return True

    def _forget_route(self, route: bytes) -> None:
        for key in [key for key in self._sending if key[0] == route]:
            self._end_sending(key)
        for key in [key for key in self._receiving if key[0] == route]:
            self._end_receiving(key)
        for key in [key for key in self._opening if key[0] == route]:
            del self._opening[key]
        for ticket in [t for t, (who, _) in self._waiting.items() if who == route]:
            del self._waiting[ticket]
        # Its leases stay: the process may be there and look at what it mapped.
        self._holders.pop(route, None)

    # ------------------------------------------------------------------------- sending

    def _result(self, task: int) -> Result | None:
        result = self._core.results.get(task)
        return None if result is None or result.worker >= 0 else result

    def _fetch(self, route: bytes, message: Fetch) -> None:
        # One of the same number takes its place, whatever comes of it.
        self._end_sending((route, message.request))
        self._opening.pop((route, message.request), None)
        result = self._result(message.task)
        if result is None:
            if message.task in self._core.results:
                reason = (
                    "the result cannot be pickled, so it stays in the worker that made it; return "
                    "something that can be, or use it in tasks only, which then run there"
                )
                self._say(route, Missing(message.request, reason, 2))
            else:
                self._say(route, Missing(message.request, "the result is not here"))
            return
        if not self._core.spilling.open(message.task):
            self._wait_for_check(route, message)
            return
        view = self._memory.view(result)
        held_range: tuple[Range, bytes] | None = None
        if message.kind:
            planned = plan_cut(view, message.kind, message.selection)
            if planned is None:
                self._say(route, Missing(message.request, "it cannot be cut", 1))
                return
            view = planned.written() if planned.is_scattered else memoryview(planned.tobytes())
        elif result.place is not None:
            holder = b"sending:%d" % next(self._lease)
            self._memory.lease(result.place, holder)
            held_range = (result.place, holder)
        self._sending[route, message.request] = _Sending(view, held_range)

    def _fetch_small(self, route: bytes, message: FetchSmall) -> None:
        """Send several small results at once; a client has few such requests open."""
        lengths: list[int] = []
        blobs: list[bytes | memoryview] = []
        room = SMALL_BYTES
        for task in message.tasks:
            result = self._result(task)
            if result is None or result.place is not None or result.size > room:
                lengths.append(-1)
                continue
            blob = self._memory.view(result)
            room -= len(blob)
            lengths.append(len(blob))
            blobs.append(blob)
        self._say(route, Small(message.request, lengths), [b"".join(blobs)])
        self.sent_bytes += SMALL_BYTES - room

    def _more(self, route: bytes, message: More) -> None:
        key = (route, message.request)
        sending = self._sending.get(key)
        if sending is None:
            if key in self._opening:
                self._opening[key].upto = message.upto
            return
        upto = min(message.upto, sending.total)
        while sending.sent < upto:
            stop = min(sending.sent + SLICE, upto)
            control = encode(Slice(message.request, sending.sent, sending.total))
            try:
                self._socket.send_multipart([route, control], zmq.NOBLOCK | zmq.SNDMORE)
                sending.tracker = self._socket.send(
                    sending.view[sending.sent : stop], zmq.NOBLOCK, copy=False, track=True
                )
            except zmq.ZMQError:
                self._forget_route(route)
                return
            self.sent_bytes += stop - sending.sent
            sending.sent = stop
        if sending.sent == sending.total:
            self._end_sending(key)

    def _end_sending(self, key: tuple[bytes, int]) -> None:
        sending = self._sending.pop(key, None)
        if sending is not None and sending.held is not None:
            self._give_back_when_read(sending)

    def _give_back_when_read(self, sending: _Sending) -> None:
        """Return the lease once ZeroMQ has read the bytes, which it sends without a copy."""
        if sending.tracker is not None and not sending.tracker.done:
            self._loop.call_later(_LOOK, lambda: self._give_back_when_read(sending))
        elif sending.held is not None:
            self._memory.give_back(*sending.held)

    def _map(self, route: bytes, message: Map) -> None:
        result = self._result(message.task)
        if result is None or result.place is None:
            self._say(route, Missing(message.request, "not in the store"))
            return
        if not self._core.spilling.open(message.task):
            self._wait_for_check(route, message)
            return
        self._holders[route] = message.holder
        self._memory.lease(result.place, message.holder)
        place = result.place
        self._say(
            route,
            Mapped(message.request, place.slab, place.offset, place.length, result.size),
        )

    def _wait_for_check(self, route: bytes, message: Fetch | Map) -> None:
        key = (route, message.request)
        waiting = self._opening[key] = _Opening(message)
        self._loop.call_later(_KEEP, lambda: self._keep_waiting(key, waiting))

    def _keep_waiting(self, key: tuple[bytes, int], waiting: _Opening) -> None:
        """Say that we are here while what was asked for is read from disk, which takes long."""
        if self._opening.get(key) is not waiting or self._socket.closed:
            return
        waiting.looks += 1
        message = waiting.message
        result = self._result(message.task)
        if result is None:
            return  # it is gone, and the end of the check will say so
        if isinstance(message, Fetch) and not message.kind:
            self._say(key[0], Slice(message.request, 0, result.size))
        elif waiting.looks == _KEEPS:
            # It comes whole, and in slices.
            del self._opening[key]
            self._say(key[0], Missing(message.request, "it is being read from disk", 1))
            return
        self._loop.call_later(_KEEP, lambda: self._keep_waiting(key, waiting))

    def opened(self, task: int) -> None:
        """A result on disk was checked, and may be gone."""
        if not self._opening:
            return
        for key, waiting in list(self._opening.items()):
            if waiting.message.task == task and self._opening.pop(key, None) is not None:
                self._hear(key[0], waiting.message, [])
                if waiting.upto:
                    self._more(key[0], More(key[1], waiting.upto))

    # ------------------------------------------------------------------------ receiving

    def _put(self, route: bytes, message: Put) -> None:
        self._end_receiving((route, message.request))
        if (route, message) in self._waiting.values():
            return  # it was said again, as there is no room yet
        if message.total <= 0:
            self._say(route, Missing(message.request, f"there is no blob of {message.total} bytes"))
            return
        place = self._core.room.take(message.total)
        if place is not None:
            self._begin_receiving(route, message, place)
            return
        ticket = next(self._ticket)
        self._waiting[ticket] = (route, message)
        self._core.room.want_data(ticket, message.total)

    def on_room(self, given: RoomGiven) -> None:
        """There is room for what somebody wants to put here, or will be none."""
        route, message = self._waiting.pop(given.number, (b"", None))
        if message is None:  # who asked is gone
            if given.place is not None:
                self._memory.free(given.place)
        elif given.place is None:
            self._say(route, Missing(message.request, given.reason))
        else:
            self._begin_receiving(route, message, given.place)

    def _begin_receiving(self, route: bytes, message: Put, place: Range) -> None:
        target = self._memory.writable(place, message.total)
        self._receiving[route, message.request] = _Receiving(
            message.task, message.total, place, target
        )
        self._say(route, More(message.request, WINDOW))

    def _end_receiving(self, key: tuple[bytes, int]) -> None:
        receiving = self._receiving.pop(key, None)
        if receiving is not None:
            self._memory.free(receiving.place)

    def _slice(self, route: bytes, message: Slice, frames: list[Any]) -> None:
        key = (route, message.request)
        receiving = self._receiving.get(key)
        if receiving is None:
            return
        data = frames[0].buffer if frames else memoryview(b"")
        stop = message.offset + len(data)
        if message.offset != receiving.received or stop > receiving.total:
            self._end_receiving(key)
            self._say(route, Missing(message.request, "slices out of order"))
            return
        receiving.target[message.offset : stop] = data
        receiving.received = stop
        self.received_bytes += len(data)
        if stop < receiving.total:
            self._say(route, More(message.request, stop + WINDOW))
            return
        del self._receiving[key]
        self._core.on_put(receiving.task, Result(receiving.total, place=receiving.place))
        self._say(route, Stored(message.request))
