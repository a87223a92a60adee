"""Processes of this host that end: told at once, where the system can.

A connection that is gone may come back, and a peer that is only cut off keeps what it has;
so a scheduler waits for it. A process that has ended does not come back, and what it had
can be made again without waiting.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from zcluster.transport.loop import Loop

__all__ = ["Endings"]

#: Seconds after the end of a process in which what it has said last is still heard.
_LAST_WORDS = 0.03


class Endings:
    """Watches the processes of peers.

    Parameters
    ----------
    loop : Loop
    on_end : callable
        Called with a peer's number a moment after its process has ended.
    """

    def __init__(self, loop: Loop, on_end: Callable[[int], None]) -> None:
        self._loop = loop
        self._on_end = on_end
        #: By process id: its descriptor, and the peer it is now.
        self._watched: dict[int, tuple[int, int]] = {}

    def watch(self, peer: int, pid: int) -> None:
        """Watch a process; no effect where the system cannot, or for this one."""
        if pid == os.getpid() or not hasattr(os, "pidfd_open"):
            return
        if pid in self._watched:
            self._watched[pid] = (self._watched[pid][0], peer)
            return
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return  # it is gone, or the number is of another world: a container's
        self._watched[pid] = (fd, peer)
        self._loop.add_fd(fd, lambda: self._ended(pid))

    def _ended(self, pid: int) -> None:
        fd, peer = self._watched.pop(pid)
        self._loop.remove(fd)
        os.close(fd)
        self._loop.call_later(_LAST_WORDS, lambda: self._on_end(peer))

    def close(self) -> None:
        """Watch nobody any more."""
        for fd, _ in self._watched.values():
            self._loop.remove(fd)
            os.close(fd)
        self._watched.clear()
