"""One poll loop for every role.

A loop owns sockets, file descriptors and timers of one thread. Other threads
reach it through `Loop.post` and `Loop.wake` only. After the callbacks of one
round of polling it runs the ``on_idle`` callbacks: that is where a role turns
what its core decided in the round into messages, so that a burst of input leaves
as one batch.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

__all__ = ["Loop", "Timer"]


class Timer:
    """A call the loop will make at a time, unless cancelled."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Never make the call."""
        self.call = None


class Loop:
    """Polls sockets and descriptors, and runs what is due.

    Attributes
    ----------
    on_idle : list of callables
        Run once after each round of polling.
    lag : float
        The longest time, in seconds, that one round of callbacks took since it
        was last reset; heartbeats report it.
    """

    def __init__(self) -> None:
        self.on_idle: list[Callable[[], None]] = []
        self.lag = 0.0
        self._poller = zmq.Poller()
        self._callbacks: dict[Any, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._posted: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._woken = False
        self._stopped = False
        self._closed = False
        self.add_fd(self._wake_read, self._drain_wake)

    @staticmethod
    def now() -> float:
        """Return the loop's clock: monotonic seconds."""
        return time.monotonic()

    # ------------------------------------------------------------- registration

    def add_socket(self, socket: zmq.Socket[Any], callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the socket has something to receive."""
        self._callbacks[socket] = callback
        self._poller.register(socket, zmq.POLLIN)

    def add_fd(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the descriptor is readable or at its end."""
        self._callbacks[fd] = callback
        self._poller.register(fd, zmq.POLLIN)

    def remove(self, source: zmq.Socket[Any] | int) -> None:
        """Stop watching a socket or descriptor; unknown ones are ignored."""
        if self._callbacks.pop(source, None) is not None:
            with contextlib.suppress(KeyError):
                self._poller.unregister(source)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Make a call after some seconds."""
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    # ------------------------------------------------------------ other threads

    def post(self, call: Callable[[], None]) -> None:
        """Make a call on the loop's thread; safe from any thread."""
        self._posted.append(call)
        self.wake()

    def wake(self) -> None:
        """End the current wait; safe from any thread, and cheap if repeated."""
        if not self._woken and not self._closed:
            self._woken = True
            with contextlib.suppress(BlockingIOError, OSError):
                os.write(self._wake_write, b"\0")

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        # Cleared after the read and before posted calls run: a wake that comes
        # from now on writes again and is seen by the next poll.
        self._woken = False

    # -------------------------------------------------------------------- running

    def run(self) -> None:
        """Run until `stop`.

        On the main thread, signals end the current wait: Python runs their
        handlers between two calls only, and one that came just before the wait
        would not be seen until its end.
        """
        if threading.current_thread() is not threading.main_thread():
            while not self._stopped:
                self.run_once()
            return
        old = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        try:
            while not self._stopped:
                self.run_once()
        finally:
            signal.set_wakeup_fd(old)

    def run_once(self) -> None:
        """Wait for something to be ready, run what is, then the idle callbacks."""
        ready = self._poller.poll(self._wait_milliseconds())
        began = time.monotonic()
        callbacks = self._callbacks
        for source, _ in ready:
            callback = callbacks.get(source)
            if callback is not None:
                callback()
        posted = self._posted
        for _ in range(len(posted)):
            posted.popleft()()
        timers = self._timers
        while timers and timers[0][0] <= began:
            call = heapq.heappop(timers)[2].call
            if call is not None:
                call()
        for call in self.on_idle:
            call()
        self.lag = max(self.lag, time.monotonic() - began)

    def _wait_milliseconds(self) -> int:
        if self._posted or self._stopped:
            return 0
        timers = self._timers
        while timers and timers[0][2].call is None:
            heapq.heappop(timers)
        if not timers:
            return 60_000
        # Rounded up: waking a little early would spin until the timer is due.
        return min(60_000, max(0, int((timers[0][0] - time.monotonic()) * 1000) + 1))

    def stop(self) -> None:
        """Return from `run` after the current round; safe from any thread."""
        self._stopped = True
        self.wake()

    def resume(self) -> None:
        """Let `run` be called again after `stop`."""
        self._stopped = False

    def close(self) -> None:
        """Release the loop's own descriptors; call after `run` has returned."""
        if not self._closed:
            self._closed = True
            os.close(self._wake_read)
            os.close(self._wake_write)
