"""Children die with their parent.

A child is given the read end of a pipe whose write end only its parent holds, its
**lifeline**. End of file means the parent is gone; the loop sees that as it sees
everything else. That is portable, and works from any thread; but a copy of the
parent made by ``fork`` holds the write end too. So on Linux the child also asks the
kernel for a SIGTERM at its parent's end (`arm`), then looks whether the parent
ended before it asked.

A server that was told to stop but hangs would outlive its parent all the same:
`die_within` has the kernel end it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Protocol

__all__ = ["arm", "die_within", "watch"]

_PR_SET_PDEATHSIG = 1


class _Loop(Protocol):
    def add_fd(self, fd: int, callback: Callable[[], None]) -> None: ...

    def remove(self, source: int) -> None: ...


def arm(parent: int) -> bool:
    """Ask for SIGTERM when our parent ends; return whether it still lives.

    Call it first thing in a process that was started with a lifeline, and only
    there: what a user starts in a shell may outlive the shell.

    Parameters
    ----------
    parent : int
        The process id the parent said it has. We may be its grandchild, where
        ``python`` is a wrapper that starts another: it is compared only where the
        kernel's answer differs, and then asked for directly.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == parent:
        return True
    try:
        os.kill(parent, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a wrapper that changed the user: it is there
        return True
    return True


def watch(loop: _Loop, fd: int, on_end: Callable[[], None], grace: float = 2.0) -> None:
    """Call ``on_end`` once, from the loop, when the parent has let go of our lifeline.

    Parameters
    ----------
    loop : Loop
        Run by the main thread.
    fd : int
        The read end; it is closed when that happens.
    on_end : callable
        Stops the server.
    grace : float
        Seconds until the kernel ends a server that does not stop; see `die_within`.
    """
    os.set_blocking(fd, False)
    os.set_inheritable(fd, False)  # or our own children would hold it open

    def on_readable() -> None:
        try:
            said = os.read(fd, 4096)
        except BlockingIOError:
            return
        if not said:
            loop.remove(fd)
            os.close(fd)
            die_within(grace)
            on_end()

    loop.add_fd(fd, on_readable)


def die_within(seconds: float) -> None:
    """Have the kernel end this process if it still runs in so many seconds.

    An alarm with its default action needs no Python: it ends a process that hangs in
    a call. Main thread only.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
