"""As many threads as a worker has slots, whatever its tasks wait for.

A task that waits for other tasks leaves its slot: another thread takes its place, or
those it waits for might never run. When it comes back there is a thread too many,
until one that has finished its batch sees that and ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING

from zcluster.servers.batches import Batch

if TYPE_CHECKING:
    from zcluster.servers.slots import Slot

__all__ = ["SlotPool"]


class SlotPool:
    """The slots of a worker.

    Parameters
    ----------
    slots : int
        How many there should be.
    lines : int
        The most threads there can be, running and waiting.
    make : callable
        Makes the slot of a number.
    batches : SimpleQueue
        What the slots work on; None ends one.
    """

    def __init__(
        self,
        slots: int,
        lines: int,
        make: Callable[[int], Slot],
        batches: SimpleQueue[Batch | None],
    ) -> None:
        self._wanted = slots
        self._make = make
        self._batches = batches
        self._lock = threading.Lock()
        self._free = list(range(lines - 1, -1, -1))
        self._slots: dict[int, Slot] = {}
        #: Threads that work or could; those whose task waits do not count.
        self._active = 0
        self._is_stopped = False

    def start(self) -> None:
        """Start all threads."""
        with self._lock:
            self._fill()

    def _fill(self) -> None:
        while self._active < self._wanted and self._free and not self._is_stopped:
            number = self._free.pop()
            slot = self._slots[number] = self._make(number)
            self._active += 1
            slot.start()

    @property
    def alive(self) -> int:
        """How many threads there are."""
        return len(self._slots)

    def running(self, task: int) -> Slot | None:
        """Return the slot that runs a task."""
        return next((slot for slot in list(self._slots.values()) if slot.task == task), None)

    def leave(self) -> None:
        """The task of a slot waits: another thread may work in its place."""
        with self._lock:
            self._active -= 1
            self._fill()

    def come_back(self) -> None:
        """The task of a slot goes on."""
        with self._lock:
            self._active += 1

    def is_surplus(self) -> bool:
        """Whether the calling thread, which has nothing to do, is one too many and must end."""
        if self._active <= self._wanted:  # without the lock: almost always so
            return False
        with self._lock:
            if self._active <= self._wanted:
                return False
            self._active -= 1
            return True

    def ended(self, number: int) -> None:
        """Take note that a slot's thread ends."""
        with self._lock:
            if self._slots.pop(number, None) is not None:
                self._free.append(number)

    def stop(self) -> None:
        """Have all threads end once they have run what is in the queue."""
        with self._lock:
            self._is_stopped = True
            for _ in self._slots:
                self._batches.put(None)

    def join(self, timeout: float) -> None:
        """Wait until each thread has ended, so many seconds at most for each."""
        for slot in list(self._slots.values()):
            slot.join(timeout)
