"""A nanny's fetches: inputs that other nodes hold, brought into this node's store.

One connection a node, opened when first needed. A fetch that fails at one holder
is tried at the next; when none is left the core is told, and the scheduler finds
another way. One for which the store has no room waits until the core gives it some: nobody else
could do better with it, and to make the input again would not help.

Of one holder so much is asked at a time as keeps it busy, and the rest in its turn. A holder cuts
what is asked for at once: boxes of a whole rechunk would fill its memory, and the last of them
would take longer than anybody waits for a sign of life.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

from zcluster.core.node.records import FetchOrder, Result, RoomGiven
from zcluster.core.node.room import Room
from zcluster.errors import ProtocolError
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import Fetch, Message, Missing, More, NodeInfo, Slice
from zcluster.servers.dataport import WINDOW
from zcluster.servers.memory import StoreMemory
from zcluster.storage.arena import Range
from zcluster.transport.keys import Keys
from zcluster.transport.link import send_frames
from zcluster.transport.loop import Loop
from zcluster.transport.sockets import has_input, monitored_socket, take_events

__all__ = ["Fetcher"]

_log = logging.getLogger(__name__)

#: Blobs up to this size stay in the nanny's heap.
_SMALL = 16 << 10
#: Where this process has no descriptor left for a connection, that is tried again after so
#: many seconds, so many times for each holder.
_AGAIN, _TRIES = 0.25, 20
#: A holder that sends nothing for so long is given up; one that sends other things only, after
#: so many times that.
_PATIENCE = 2.0
_OTHERS = 10
#: Bytes that are asked of a holder at a time, about; two inputs in any case.
_ON_THE_WAY = 32 << 20
#: A part of a parted result has so many bytes at most, until the holder says.
_PART = 1 << 20
#: No task has this number: a request for it only ends an earlier one.
_NOTHING = -1 << 62
_BURST = 32


class _Fetch:
    """One input on its way."""

    __slots__ = (
        "due",
        "heap",
        "is_whole",
        "node",
        "nodes",
        "order",
        "place",
        "received",
        "room",
        "seen",
        "target",
        "tries",
    )

    def __init__(self, order: FetchOrder) -> None:
        self.order = order
        self.nodes = list(order.nodes)
        #: Bytes that are on their way, about.
        self.due = _expected(order)
        self.node = -1
        self.is_whole = False
        self.seen = 0.0
        self.place: Range | None = None
        #: Room that was waited for, for the next holder's bytes.
        self.room: Range | None = None
        self.heap: bytearray | None = None
        self.target: memoryview | None = None
        self.received = 0
        #: Connections to the current holder that could not be made.
        self.tries = 0


def _expected(order: FetchOrder) -> int:
    """Return how many bytes an input will have, as far as can be told."""
    if order.kind == 1:
        return min(order.size, _PART)
    if order.kind == 3:
        bounds = zip(
            order.selection[::3], order.selection[1::3], order.selection[2::3], strict=True
        )
        items = math.prod(max(stop - start, 0) // step for start, stop, step in bounds)
        return min(order.size, 8 * items)
    return order.size


class _Connection:
    """The connection to one node's data port."""

    def __init__(self, index: int, sock: zmq.Socket[Any], events: zmq.Socket[Any]) -> None:
        self.index = index
        self.socket = sock
        self.monitor = events
        self.fetches: dict[int, _Fetch] = {}
        #: Those whose turn has not come.
        self.queue: deque[_Fetch] = deque()
        #: When anything came.
        self.seen = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted of this holder."""
        return not (self.fetches or self.queue)

    def take_all(self) -> list[_Fetch]:
        """Return what was wanted of this holder, and forget it."""
        found = [*self.fetches.values(), *self.queue]
        self.fetches.clear()
        self.queue.clear()
        return found


class Fetcher:
    """Fetches inputs from other nodes.

    Parameters
    ----------
    loop, context, memory
    room : Room
        The core's, who gives room in the store.
    nodes : dict of int to NodeInfo
        The nodes known, kept up to date by the core.
    on_fetched : callable
        ``on_fetched(number, result)``.
    on_failed : callable
        ``on_failed(number, node, kind, reason)``: the last holder tried does not have it;
        with a kind (of `ErrorInfo`) and a reason, nobody will be able to bring it.
    keys : Keys, optional
        The cluster's, needed on TCP unless it is plain.
    """

    def __init__(
        self,
        loop: Loop,
        context: zmq.Context[Any],
        memory: StoreMemory,
        room: Room,
        nodes: dict[int, NodeInfo],
        on_fetched: Callable[[int, Result], None],
        on_failed: Callable[[int, int, str, str], None],
        keys: Keys | None = None,
    ) -> None:
        self._keys = keys
        self._loop = loop
        self._context = context
        self._memory = memory
        self._room = room
        #: Those that wait for room, by the input's number.
        self._waiting: dict[int, _Fetch] = {}
        self._nodes = nodes
        self._on_fetched = on_fetched
        self._on_failed = on_failed
        self._connections: dict[int, _Connection] = {}
        self._decoder = Decoder((Slice, Missing))
        self._next = 1
        self._watching = False
        self._closed = False

    def fetch(self, order: FetchOrder) -> None:
        """Start to fetch an input."""
        self._try_next(_Fetch(order))

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        for connection in list(self._connections.values()):
            self._disconnect(connection)

    def _try_next(self, fetch: _Fetch) -> None:
        self._discard(fetch)
        while fetch.nodes:
            fetch.node = fetch.nodes.pop(0)
            info = self._nodes.get(fetch.node)
            if info is None:
                continue
            try:
                connection = self._connect(fetch.node, info)
            except zmq.ZMQError as error:
                if self._wait_for_descriptors(fetch, error):
                    return
                continue
            fetch.tries = 0
            connection.queue.append(fetch)
            self._ask_more(connection)
            return
        self._give_up(fetch, "", "")

    def _ask_more(self, connection: _Connection) -> None:
        """Ask a holder for as much as may be on its way."""
        due = sum(fetch.due for fetch in connection.fetches.values())
        while connection.queue:
            due += connection.queue[0].due
            if due > _ON_THE_WAY and len(connection.fetches) > 1:
                return
            fetch = connection.queue.popleft()
            number = self._next
            self._next += 1
            fetch.seen = self._loop.now()
            connection.fetches[number] = fetch
            order = fetch.order
            if fetch.is_whole:
                self._say(connection, Fetch(number, order.task))
            else:
                self._say(connection, Fetch(number, order.task, order.kind, order.selection))
            self._say(connection, More(number, WINDOW))
            self._watch()

    def _wait_for_descriptors(self, fetch: _Fetch, error: zmq.ZMQError) -> bool:
        """Try the same holder again in a moment; False if that was done often enough."""
        for connection in list(self._connections.values()):
            if connection.is_idle:
                self._disconnect(connection)
        fetch.tries += 1
        if fetch.tries > _TRIES:
            fetch.tries = 0
            return False
        if fetch.tries == 1:
            _log.warning(
                "no connection to node %d can be made for an input (%s); it is tried again: "
                "raise the limit of open files (ulimit -n)",
                fetch.node,
                error,
            )
        fetch.nodes.insert(0, fetch.node)
        self._loop.call_later(_AGAIN, lambda: self._try_again(fetch))
        return True

    def _try_again(self, fetch: _Fetch) -> None:
        if not self._closed:
            self._try_next(fetch)

    def _give_up(self, fetch: _Fetch, kind: str, reason: str) -> None:
        self._discard(fetch)
        if fetch.room is not None:
            self._memory.free(fetch.room)
        self._on_failed(fetch.order.number, fetch.node, kind, reason)

    def _connect(self, index: int, info: NodeInfo) -> _Connection:
        connection = self._connections.get(index)
        if connection is None:
            made, events = monitored_socket(self._context, zmq.DEALER)
            connection = self._connections[index] = _Connection(index, made, events)
            if self._keys is not None:
                self._keys.enter(made, "node", "node")
            self._loop.add_socket(connection.monitor, lambda: self._on_event(connection))
            made.connect(info.data)
            self._loop.add_socket(made, lambda: self._receive(connection))
        return connection

    def _disconnect(self, connection: _Connection) -> None:
        del self._connections[connection.index]
        self._loop.remove(connection.monitor)
        self._loop.remove(connection.socket)
        connection.socket.disable_monitor()
        connection.monitor.close(0)
        connection.socket.close(0)

    def _on_event(self, connection: _Connection) -> None:
        """A holder that is gone is given up at once; its data port was up before the node was."""
        ended, _ = take_events(connection.monitor)
        if not ended:
            return
        self._receive(connection)
        if self._connections.get(connection.index) is connection:
            self._disconnect(connection)
            for fetch in connection.take_all():
                self._try_next(fetch)

    @staticmethod
    def _say(connection: _Connection, message: Message) -> None:
        try:
            send_frames(connection.socket, [encode(message)])
        except zmq.Again:
            # Nobody reads there: the fetch runs into its patience.
            return

    def _receive(self, connection: _Connection) -> None:
        for _ in range(_BURST):
            if connection.socket.closed or not has_input(connection.socket):
                return
            frames = connection.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            try:
                message = self._decoder.decode(frames[0].bytes)
            except ProtocolError:
                continue
            fetch = connection.fetches.get(message.request)
            if fetch is None:
                continue
            fetch.seen = connection.seen = self._loop.now()
            if isinstance(message, Missing):
                self._end(connection, message.request)
                if message.kind == 2:
                    self._give_up(fetch, "serialize", message.reason)
                    continue
                if message.kind == 1:
                    # It comes whole, and the worker that takes it cuts it.
                    fetch.is_whole = True
                    fetch.due = fetch.order.size
                    fetch.nodes.insert(0, fetch.node)
                self._try_next(fetch)
            elif not self._take(connection, fetch, message, frames[1:]):
                self._stop(connection, message.request)
                self._try_next(fetch)

    def _take(
        self, connection: _Connection, fetch: _Fetch, message: Slice, frames: list[Any]
    ) -> bool:
        """Write a slice where it belongs; False if this holder is of no use."""
        if message.total < 0:
            return False
        if fetch.target is None and not self._make_room(fetch, message.total):
            self._stop(connection, message.request)
            number = fetch.order.number
            self._waiting[number] = fetch
            self._room.want_input(number, message.total)
            return True
        target = fetch.target
        assert target is not None
        data = frames[0].buffer if frames else memoryview(b"")
        stop = message.offset + len(data)
        if message.offset != fetch.received or stop > len(target):
            return False
        target[message.offset : stop] = data
        fetch.received = stop
        if stop < len(target):
            self._say(connection, More(message.request, stop + WINDOW))
            return True
        self._end(connection, message.request)
        size = len(target)
        if fetch.heap is not None:
            result = Result(size, bytes(fetch.heap), lent=True)
        else:
            result = Result(size, place=fetch.place, lent=True)
        result.uncut = fetch.is_whole
        fetch.place = None
        if fetch.room is not None:  # another holder had something smaller
            self._memory.free(fetch.room)
        self._on_fetched(fetch.order.number, result)
        return True

    def _make_room(self, fetch: _Fetch, total: int) -> bool:
        if total <= _SMALL:
            fetch.heap = bytearray(total)
            fetch.target = memoryview(fetch.heap)
            return True
        if fetch.room is not None and total <= fetch.room.length:
            fetch.place, fetch.room = fetch.room, None
        else:
            fetch.place = self._room.take(total)
        if fetch.place is None:
            return False
        fetch.target = self._memory.writable(fetch.place, total)
        fetch.due = total
        return True

    def on_room(self, given: RoomGiven) -> None:
        """There is room for an input that has waited, or will be none."""
        fetch = self._waiting.pop(given.number, None)
        if fetch is None:  # it was asked for again meanwhile, and that one has come
            if given.place is not None:
                self._memory.free(given.place)
            return
        if given.place is None:
            self._give_up(fetch, "disk" if given.is_disk else "store", given.reason)
            return
        if fetch.room is not None:
            self._memory.free(fetch.room)
        fetch.room = given.place
        fetch.nodes.insert(0, fetch.node)
        self._try_next(fetch)

    def _end(self, connection: _Connection, number: int) -> None:
        """A fetch is over at this holder; the next may begin."""
        del connection.fetches[number]
        self._ask_more(connection)

    def _stop(self, connection: _Connection, number: int) -> None:
        """Want no more of a fetch; its holder lets go of what it was sending."""
        self._say(connection, Fetch(number, _NOTHING))
        self._end(connection, number)

    def _discard(self, fetch: _Fetch) -> None:
        if fetch.place is not None:
            self._memory.free(fetch.place)
        fetch.place = fetch.heap = fetch.target = None
        fetch.received = 0

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._loop.call_later(_PATIENCE / 4, self._look)

    def _look(self) -> None:
        """Give up on holders that are silent for too long."""
        self._watching = False
        now = self._loop.now()
        for connection in list(self._connections.values()):
            is_silent = connection.seen < now - _PATIENCE
            before = now - _PATIENCE * (1 if is_silent else _OTHERS)
            silent = [n for n, fetch in connection.fetches.items() if fetch.seen < before]
            stuck = [connection.fetches[number] for number in silent]
            if stuck and len(stuck) == len(connection.fetches):
                # A fresh connection next time: this one may be to a process that is gone.
                for number in silent:
                    self._say(connection, Fetch(number, _NOTHING))
                self._disconnect(connection)
                stuck = connection.take_all()
                silent = []
            for number in silent:
                self._stop(connection, number)
            for fetch in stuck:
                self._try_next(fetch)
            if connection.fetches:
                self._watch()
