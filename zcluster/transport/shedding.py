"""What a listening socket does when its process may open no more files.

ZeroMQ then fails to accept a connection, leaves it in the kernel's queue, is told at once that
there is one, and so on: a processor for nothing, and nobody is told. A `Shedder` keeps a
descriptor in reserve. With that it takes the connections that wait and closes them, so that
there is nothing left to be told of. Who was sent away tries again; who is connected sees nothing
of it.

ZeroMQ's thread, which tries all the time, would take the reserve first. So for that moment its
descriptor is made to mean another listening socket, to which nobody connects.

That is so on TCP, where anybody may connect. On an ``ipc://`` address, where only the user's own
processes come, libzmq ends its process instead; there is only the limit to be raised.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import sys
import time

__all__ = ["Shedder"]

_log = logging.getLogger(__name__)

#: The most connections that are sent away at once; there may be always more.
_BURST = 1024
#: Seconds between two sentences about it.
_TELL_EVERY = 10.0


class Shedder:
    """Sends connections away that there is no descriptor for; on Linux, elsewhere it does nothing.

    Parameters
    ----------
    what : str
        Who listens, for the log.

    Attributes
    ----------
    shed : int
        Connections that were sent away.
    """

    def __init__(self, what: str) -> None:
        self.shed = 0
        self._what = what
        self._told = -_TELL_EVERY
        self._listener = self._spare = -1
        self._waiting: socket.socket | None = None
        self._nobody: socket.socket | None = None

    def watch(self, listener: int) -> None:
        """Keep what will be needed for the descriptor that ZeroMQ listens on."""
        if self._listener >= 0 or sys.platform != "linux":
            return
        self._waiting = socket.socket(fileno=os.dup(listener))
        self._waiting.setblocking(False)  # ZeroMQ's own is the same one, and does not mind
        self._nobody = socket.socket(socket.AF_UNIX)
        self._nobody.bind("")  # an address without a file, which the kernel makes up
        self._nobody.listen(0)
        self._nobody.setblocking(False)
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._listener = listener

    def send_away(self) -> None:
        """Take the connections that wait, and close them."""
        if self._waiting is None or self._nobody is None:
            return
        os.dup2(self._nobody.fileno(), self._listener, inheritable=False)
        try:
            self._drain(self._waiting)
        finally:
            os.dup2(self._waiting.fileno(), self._listener, inheritable=False)
        self._tell()

    def _drain(self, waiting: socket.socket) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        # Until none waits, or somebody else in this process has taken the reserve.
        with contextlib.suppress(OSError):
            for _ in range(_BURST):
                waiting.accept()[0].close()
                self.shed += 1
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY:
            self._told = now
            _log.warning(
                "%s has no file descriptors left (at most %d): new connections are sent away; "
                "raise the limit with 'ulimit -n', or connect fewer",
                self._what,
                resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )

    def close(self) -> None:
        """Give back what was kept; call it before ZeroMQ closes its socket."""
        for each in (self._waiting, self._nobody):
            if each is not None:
                each.close()
        self._waiting = self._nobody = None
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
