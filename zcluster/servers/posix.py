"""What only some systems have, each with a plain fallback.

Linux can end a process together with its parent, has memory that is a file, and
sockets that keep datagrams whole and still tell of the other end's death. Where a
system lacks one of these, the caller loses a refinement and not a guarantee: the
end-of-file of an inherited socket, seen by its owner, is what ends children
everywhere.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

__all__ = [
    "anonymous_memory",
    "die_with_parent",
    "message_pair",
    "offer_to_oom_killer",
    "peak_rss_bytes",
    "share_one_heap",
]

_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX = -8
#: What a process exits with whose parent was gone before it could ask to die with it.
EXIT_ORPHAN = 75


def die_with_parent(parent: int) -> None:
    """Have the system kill this process when the thread that started it ends.

    A parent that ended before this call is noticed by its pid, and then this process
    exits at once.

    Parameters
    ----------
    parent : int
        The pid of the parent, as the parent told it.
    """
    if sys.platform == "linux":
        # Not at the top: it takes 2 ms, and the nanny, who needs this file too, never calls this.
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_ORPHAN)


def share_one_heap() -> None:
    """Have all threads take memory from one heap; no effect but with glibc.

    Else what each thread has freed is kept for that thread alone: a slot that makes arrays would
    have one or two more than it uses, and so would every other slot.
    """
    if sys.platform == "linux":
        import ctypes  # not at the top, as above

        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 1)


def anonymous_memory(name: str, size: int) -> int:
    """Return the descriptor of ``size`` zero bytes of memory that has no path.

    Raises
    ------
    OSError
        If the system has no memory or no descriptor left.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
    else:
        # Not at the top: it takes 4 ms, and only systems without memfd need it.
        import tempfile

        fd, path = tempfile.mkstemp(prefix=name)
        os.unlink(path)
    try:
        os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        raise
    return fd


def message_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets that carry whole messages and descriptors.

    Receiving gives ``b""``, or raises ``ConnectionError``, once the other end is gone.
    """
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:  # macOS has only datagrams here; they too are kept whole
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def offer_to_oom_killer(points: int) -> None:
    """Make this process a likelier victim when memory runs out; no effect off Linux."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            now = int(file.read())
            file.seek(0)
            file.write(str(min(1000, now + points)))
    except (OSError, ValueError):
        return  # no such file, or a sandbox: the kernel chooses by size alone


def peak_rss_bytes(ru_maxrss: int) -> int:
    """Return ``ru_maxrss`` in bytes: Linux counts KiB there, macOS bytes."""
    return ru_maxrss if sys.platform == "darwin" else ru_maxrss * 1024
