"""The status page: what each slot of a worker runs right now, readable after ``kill -9``.

A worker and its nanny map the same few bytes. A slot writes the number of its task
there before each call; nothing is sent and no system call is made. When the worker
has died, however it died, the nanny still has the page and knows which tasks were
running: those are blamed, no others.

Each slot has a line of eight int64, so that slots on different cores do not write
into one cache line::

    0  the current task, -1 where there is none (0 is a task)
    1  when it started, monotonic ns
    2  how many tasks the slot has run
    3  how many bytes its tasks have printed
    4  in the first line alone: when the worker's loop last answered, monotonic ns; 0: never
    5… not used

The slots' lines are followed by spare ones, for threads that stand in while a task waits.
After them each has a ring of `TAIL` bytes with the last of what its tasks have
printed.
"""

from __future__ import annotations

import mmap
import os
import time
from typing import NamedTuple

from zcluster.servers.posix import anonymous_memory

__all__ = ["LINE", "RUNS", "SPARE_LINES", "STARTED", "TAIL", "TASK", "SlotStatus", "StatusPage"]

#: Cells (int64) of one slot, and which is which.
LINE = 8
TASK, STARTED, RUNS, _PRINTED, _BEAT = 0, 1, 2, 3, 4
_NONE = -1
#: Lines beside those of the slots, for tasks that wait for others and hold no slot.
SPARE_LINES = 1000
#: Bytes kept of what the tasks of a slot print.
TAIL = 4096


class SlotStatus(NamedTuple):
    """One slot at the moment of reading; ``task`` is None while it runs nothing."""

    slot: int
    task: int | None
    started_ns: int
    runs: int


class StatusPage:
    """The page of one worker.

    Attributes
    ----------
    fd : int
        The descriptor to hand to the worker; closed by `close`.
    slots, lines : int
        How many slots there are, and how many lines: some are spare.
    cells : memoryview
        All cells as int64; the line of slot ``n`` starts at ``n * LINE``.

    Examples
    --------
    >>> page = StatusPage.create(slots=2)
    >>> page.cells[1 * LINE + TASK] = 7
    >>> [status.task for status in page.read()]
    [None, 7]
    >>> page.close()
    """

    def __init__(self, fd: int, slots: int) -> None:
        """Map a page that exists, such as one inherited; the descriptor becomes its own."""
        self.fd = fd
        self.slots = slots
        self.lines = lines = slots + SPARE_LINES
        self._map = mmap.mmap(fd, _size(lines))
        view = memoryview(self._map)
        self.cells = view[: lines * LINE * 8].cast("q")
        self._rings = view[lines * LINE * 8 :]

    @classmethod
    def create(cls, slots: int) -> StatusPage:
        """Make the page of a worker that is to be started.

        Raises
        ------
        OSError
            If the system has no descriptor left.
        """
        page = cls(anonymous_memory("zcluster-status", _size(slots + SPARE_LINES)), slots)
        for slot in range(page.lines):
            page.cells[slot * LINE + TASK] = _NONE
        return page

    def read(self) -> list[SlotStatus]:
        """Return what every slot runs, and then what waits and holds no slot."""
        spare = [self.slot(number) for number in range(self.slots, self.lines)]
        running = [status for status in spare if status.task is not None]
        return [self.slot(number) for number in range(self.slots)] + running

    def slot(self, number: int) -> SlotStatus:
        """Return what one slot runs."""
        task, started, runs = self.cells[number * LINE : number * LINE + 3].tolist()
        return SlotStatus(number, None if task == _NONE else task, started, runs)

    def clear(self, number: int) -> None:
        """Say that a slot runs nothing."""
        self.cells[number * LINE + TASK] = _NONE

    def beat(self) -> None:
        """Say that the worker's loop answers."""
        self.cells[_BEAT] = time.monotonic_ns()

    def silence(self) -> float:
        """Return for how many seconds the worker's loop has not answered.

        It does not while a task holds the interpreter's lock.

        >>> page = StatusPage.create(slots=2)
        >>> page.silence()
        0.0
        >>> page.beat()
        >>> page.silence() < 10
        True
        >>> page.close()
        """
        beat = self.cells[_BEAT]
        return max(0, time.monotonic_ns() - beat) * 1e-9 if beat else 0.0

    def add_tail(self, number: int, data: bytes) -> None:
        """Keep the end of what a slot's tasks have printed."""
        at = number * LINE + _PRINTED
        count = self.cells[at] + len(data)
        data = data[-TAIL:]
        ring = self._rings[number * TAIL : (number + 1) * TAIL]
        start = (count - len(data)) % TAIL
        first = min(len(data), TAIL - start)
        ring[start : start + first] = data[:first]
        ring[: len(data) - first] = data[first:]
        self.cells[at] = count

    def tail(self, number: int) -> bytes:
        r"""Return the last bytes that a slot's tasks have printed, at most `TAIL`.

        >>> page = StatusPage.create(slots=2)
        >>> page.add_tail(1, b"first\n" * 1000)
        >>> page.add_tail(1, b"last\n")
        >>> page.tail(1)[-12:], len(page.tail(1)), page.tail(0)
        (b'\nfirst\nlast\n', 4096, b'')
        >>> page.close()
        """
        count = self.cells[number * LINE + _PRINTED]
        ring = bytes(self._rings[number * TAIL : (number + 1) * TAIL])
        if count <= TAIL:
            return ring[:count]
        at = count % TAIL
        return ring[at:] + ring[:at]

    def close(self) -> None:
        """Unmap the page and close its descriptor; a second time does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.cells.release()
            self._rings.release()
            self._map.close()


def _size(lines: int) -> int:
    return lines * (LINE * 8 + TAIL)
