"""A relay of bytes between members and a scheduler: a network that can be broken on purpose.

It runs in a thread of its own and knows nothing of what passes. What a network does to a
connection, it can do: be cut in one direction or both, hold back what is under way and let go of
it all at once, delay, reset, end in the middle of a message, refuse. While a direction is cut,
its bytes wait, and so does word of a connection's end, as with TCP: nothing that passes at all
is out of order or missing.

Tests reach it by the fixture ``relays``; ``benchmarks/chaos.py`` loads this file.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["Relay"]

_CHUNK = 16 << 10
_MOST = 4 << 20  # bytes that wait in one direction; then its sender has to
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close that sends RST


class _Way:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, target: socket.socket, *, is_up: bool) -> None:
        self.source, self.target, self.is_up = source, target, is_up
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.is_cut = False
        self.is_over = False  # its source has ended; what waits still goes
        self.passed_at = time.monotonic()


class Relay:
    """Passes bytes on to an address, from an address of its own.

    Parameters
    ----------
    to : str
        ``tcp://host:port`` or ``ipc://path``; its own address is of the same kind.

    Attributes
    ----------
    address : str
        What members connect to. "Up" is from them to ``to``.
    made : int
        Connections so far.
    left : int or None
        Bytes that may pass until all connections are ended by themselves.
    silence : float
        The longest time in seconds that a direction of a connection passed nothing.
    """

    def __init__(self, to: str) -> None:
        self.made = 0
        self.left: int | None = None
        self.silence = 0.0
        self._to = to
        self._delay = 0.0
        self._cut_up = self._cut_down = False
        self._is_deaf = False  # connections are neither accepted nor refused
        self._fillers: list[socket.socket] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._selector = selectors.DefaultSelector()
        self._ways: dict[socket.socket, _Way] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._done = threading.Semaphore(0)
        self._orders, self._told = socket.socketpair()
        self._selector.register(self._told, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self._is_closed = False
        self._place: tuple[str, int] | str
        if to.startswith("ipc://"):
            self._folder = tempfile.TemporaryDirectory(prefix="w-")
            self._place = f"{self._folder.name}/wire"
            self.address = f"ipc://{self._place}"
        else:
            self._place = ("127.0.0.1", 0)
        self._listen()
        if not isinstance(self._place, str):
            self.address = f"tcp://127.0.0.1:{self._place[1]}"
        self._thread = threading.Thread(target=self._run, name="relay")
        self._thread.start()

    # ------------------------------------------------------------------------ orders

    def cut(self, up: bool = True, down: bool = True, *, new: bool = False) -> None:
        """Let nothing pass in these directions; new connections pass only if ``new``."""
        self._do(lambda: self._set_cut(up, down, new))

    def heal(self) -> None:
        """Let pass what waits, at once, and everything after it."""
        self._do(self._heal)

    def delay(self, seconds: float) -> None:
        """Let everything take so long from now on."""
        self._do(lambda: setattr(self, "_delay", seconds))

    def end(self, *, reset: bool = False) -> None:
        """End all connections; with ``reset`` as a machine does that knows nothing of them."""
        self._do(lambda: self._end_all(reset))

    def refuse(self) -> None:
        """End all connections and refuse new ones, as if the process there were gone."""
        self._do(self._refuse)

    def listen(self) -> None:
        """Accept connections again."""
        self._do(self._listen)

    def deafen(self) -> None:
        """Cut everything; whoever connects hears nothing at all, not even that it is refused."""
        self._do(self._deafen)

    def close(self) -> None:
        """End all connections and the thread."""
        self._do(self._refuse)
        self._do(lambda: setattr(self, "_is_closed", True))
        self._thread.join(10)
        self._selector.close()
        self._orders.close()
        self._told.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _do(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        self._orders.send(b"\0")
        assert self._done.acquire(timeout=10), "the relay's thread is stuck"

    # -------------------------------------------------------- on the relay's thread

    def _run(self) -> None:
        while not self._is_closed:
            for key, events in self._selector.select(self._wait()):
                if key.fileobj is self._told:
                    self._told.recv(1)
                    self._calls.popleft()()
                    self._done.release()
                elif key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._ways:
                    self._on_socket(key.fileobj, events)
            self._push_all()

    def _wait(self) -> float | None:
        """Return the seconds until something that is delayed is due."""
        now = time.monotonic()
        due = [w.waiting[0][0] for w in self._ways.values() if w.waiting and not w.is_cut]
        later = [when for when in due if when > now]
        return min(later) - now + 0.001 if later else None

    def _set_cut(self, up: bool, down: bool, new: bool) -> None:
        self._cut_up, self._cut_down = (False, False) if new else (up, down)
        for way in self._ways.values():
            way.is_cut = way.is_cut or (up if way.is_up else down)
        self._watch_all()

    def _heal(self) -> None:
        was_deaf, self._is_deaf = self._is_deaf, False
        self._cut_up = self._cut_down = False
        for way in self._ways.values():
            way.is_cut = False
            way.passed_at = time.monotonic()
        if was_deaf:
            self._unlisten()  # those that connected meanwhile heard nothing; they try again
            self._listen()
        self._push_all()

    def _end_all(self, reset: bool) -> None:
        for way in list(self._ways.values()):
            if reset:
                with contextlib.suppress(OSError):
                    way.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._drop(way)

    def _refuse(self) -> None:
        self._unlisten()
        self._end_all(False)

    def _deafen(self) -> None:
        self._set_cut(True, True, False)
        self._is_deaf = True
        self._unlisten()
        self._listen()

    def _listen(self) -> None:
        if self._listener is not None:
            return
        is_tcp = not isinstance(self._place, str)
        self._listener = socket.socket(socket.AF_INET if is_tcp else socket.AF_UNIX)
        if is_tcp:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(self._place)
        self._listener.setblocking(False)
        if is_tcp:
            self._place = self._listener.getsockname()
        if self._is_deaf:
            self._listener.listen(0)
            for _ in range(2):  # then the queue is full, and the kernel answers nobody
                filler = socket.socket(self._listener.family)
                filler.setblocking(False)
                filler.connect_ex(self._place)
                self._fillers.append(filler)
        else:
            self._listener.listen()
            self._watch_listener()

    def _watch_listener(self) -> None:
        """Accept while both directions pass: no handshake comes through half a network."""
        listener = self._listener
        if listener is None or self._is_deaf:
            return
        is_open = not (self._cut_up or self._cut_down)
        if is_open and listener not in self._selector.get_map():
            self._selector.register(listener, selectors.EVENT_READ)
        elif not is_open and listener in self._selector.get_map():
            self._selector.unregister(listener)

    def _unlisten(self) -> None:
        if self._listener is not None:
            if self._listener in self._selector.get_map():
                self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
            if isinstance(self._place, str):
                os.unlink(self._place)
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            near = self._listener.accept()[0]
        except OSError:  # it has gone again
            return
        try:
            far = self._connect()
        except OSError:  # nobody is there: so it is for whoever asks us
            near.close()
            return
        self.made += 1
        for source, target, is_up in ((near, far, True), (far, near, False)):
            source.setblocking(False)
            if source.family != socket.AF_UNIX:
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ways[source] = _Way(source, target, is_up=is_up)
        self._watch_all()

    def _connect(self) -> socket.socket:
        if not self._to.startswith("ipc://"):
            host, _, port = self._to.removeprefix("tcp://").rpartition(":")
            return socket.create_connection((host.strip("[]"), int(port)), 5)
        made = socket.socket(socket.AF_UNIX)
        try:
            made.connect(self._to.removeprefix("ipc://"))
        except OSError:
            made.close()
            raise
        return made

    # ------------------------------------------------------------------------- bytes

    def _on_socket(self, source: socket.socket, events: int) -> None:
        if not events & selectors.EVENT_READ:
            return  # room to write: `_push_all` is next
        way = self._ways[source]
        try:
            data = source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        way.is_over = not data
        if data:
            way.size += len(data)
            way.waiting.append((time.monotonic() + self._delay, data))

    def _push_all(self) -> None:
        now = time.monotonic()
        for way in list(self._ways.values()):
            if way.source in self._ways and not way.is_cut:
                self._push(way, now)
        self._watch_all()

    def _push(self, way: _Way, now: float) -> None:
        while way.waiting and way.waiting[0][0] <= now:
            data = way.waiting[0][1]
            if self.left is not None:
                data = data[: self.left]
            try:
                sent = way.target.send(data)
            except BlockingIOError:
                return
            except OSError:
                self._drop(way)
                return
            due, whole = way.waiting.popleft()
            if sent < len(whole):
                way.waiting.appendleft((due, whole[sent:]))
            way.size -= sent
            self.silence = max(self.silence, now - way.passed_at)
            way.passed_at = now
            if self.left is not None:
                self.left -= sent
                if self.left <= 0:
                    self.left = None
                    self._end_all(False)
                    return
        if way.is_over and not way.waiting:
            self._drop(way)

    def _watch_all(self) -> None:
        """Poll for what can be done: reading while there is room, writing where some waits."""
        now = time.monotonic()
        blocked = {
            way.target
            for way in self._ways.values()
            if way.waiting and not way.is_cut and way.waiting[0][0] <= now
        }
        for source, way in self._ways.items():
            wanted = 0
            if not (way.is_cut or way.is_over or way.size >= _MOST):
                wanted |= selectors.EVENT_READ
            if source in blocked:
                wanted |= selectors.EVENT_WRITE
            known = self._selector.get_map().get(source)
            if known is None and wanted:
                self._selector.register(source, wanted)
            elif known is not None and not wanted:
                self._selector.unregister(source)
            elif known is not None and known.events != wanted:
                self._selector.modify(source, wanted)
        self._watch_listener()

    def _drop(self, way: _Way) -> None:
        """End a connection, both directions: half open ones are of no use to anybody."""
        for end in (way.source, way.target):
            if self._ways.pop(end, None) is not None:
                if end in self._selector.get_map():
                    self._selector.unregister(end)
                end.close()
