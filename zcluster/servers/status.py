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
    3… not used
"""

from __future__ import annotations

import mmap
import os
from typing import NamedTuple

from zcluster.servers.posix import anonymous_memory

__all__ = ["LINE", "RUNS", "STARTED", "TASK", "SlotStatus", "StatusPage"]

#: Cells (int64) of one slot, and which is which.
LINE = 8
TASK, STARTED, RUNS = 0, 1, 2
_NONE = -1


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
        self._map = mmap.mmap(fd, slots * LINE * 8)
        self.cells = memoryview(self._map).cast("q")

    @classmethod
    def create(cls, slots: int) -> StatusPage:
        """Make the page of a worker that is to be started.

        Raises
        ------
        OSError
            If the system has no descriptor left.
        """
        page = cls(anonymous_memory("zcluster-status", slots * LINE * 8), slots)
        for slot in range(slots):
            page.cells[slot * LINE + TASK] = _NONE
        return page

    def read(self) -> list[SlotStatus]:
        """Return what every slot runs."""
        return [self.slot(number) for number in range(self.slots)]

    def slot(self, number: int) -> SlotStatus:
        """Return what one slot runs."""
        task, started, runs = self.cells[number * LINE : number * LINE + 3].tolist()
        return SlotStatus(number, None if task == _NONE else task, started, runs)

    def clear(self, number: int) -> None:
        """Say that a slot runs nothing."""
        self.cells[number * LINE + TASK] = _NONE

    def close(self) -> None:
        """Unmap the page and close its descriptor; a second time does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.cells.release()
            self._map.close()
