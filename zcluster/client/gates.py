"""How a user's thread waits for the loop thread: gates that open once.

A gate is a lock that is taken at first and released to open it: the cheapest thing
in Python that a signal interrupts. A `Countdown` watches records and opens when
enough of them are settled. There is no polling anywhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State

__all__ = ["CallWhenSettled", "Countdown", "Deadline", "Gate"]

_FINISHED = (State.HERE, State.ANNOUNCED)


class Deadline:
    """A moment after which a wait gives up; with ``None`` seconds there is none."""

    __slots__ = ("at", "seconds")

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.at = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds that are left: at least zero, or None."""
        return None if self.at is None else max(0.0, self.at - time.monotonic())


class Gate:
    """Opens once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let the waiting thread go on; opening twice does nothing more."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it was open

    def wait(self, deadline: Deadline) -> bool:
        """Wait until it is open; return whether it was in time. One thread may wait."""
        left = deadline.left
        return self._lock.acquire(timeout=-1 if left is None else min(left, threading.TIMEOUT_MAX))


class Countdown(Gate):
    """Opens when ``left`` more records are settled, or at the first failure if so asked.

    Attributes
    ----------
    left : int
        Set before the first record can be settled (under the engine's lock), and
        counted down by the loop thread alone.
    """

    __slots__ = ("_stop_at_failure", "left")

    def __init__(self, stop_at_failure: bool = False) -> None:
        super().__init__()
        self.left = 0
        self._stop_at_failure = stop_at_failure

    def settle(self, record: Wanted) -> None:
        """Count one settled record."""
        self.left -= 1
        if self.left == 0 or (self._stop_at_failure and record.state not in _FINISHED):
            self.open()


class CallWhenSettled:
    """A watcher that calls a function, on the loop thread: it must be quick and not raise."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[Wanted], Any]) -> None:
        self._call = call

    def settle(self, record: Wanted) -> None:
        """Pass the record on."""
        self._call(record)
