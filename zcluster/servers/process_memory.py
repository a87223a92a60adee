"""How much memory processes have for themselves, as the system counts it.

What a process maps of a store or of its libraries is not its own: the figure of
resident memory counts that in every process that looks. All is read from ``/proc``;
where there is none, every figure is 0 and nobody is found to have too much.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

__all__ = ["KillCounter", "exact_own_bytes", "members_of", "own_bytes"]

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def own_bytes(pid: int) -> int:
    """Return a process's anonymous memory: quick, and counts what forks share in each.

    Examples
    --------
    >>> import sys
    >>> own_bytes(os.getpid()) > 1_000_000 or sys.platform != "linux"
    True
    >>> own_bytes(0)
    0
    """
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared, *_ = file.read().split()
    except (OSError, ValueError):
        return 0  # it has ended
    return max(0, int(resident) - int(shared)) * _PAGE


def exact_own_bytes(pid: int) -> int:
    """Return a process's share of anonymous memory: what n processes have in common counts 1/n.

    The system walks through all pages for that: some milliseconds for each GiB.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss_Anon:"):
                    return int(line.split()[1]) << 10
    except (OSError, ValueError):
        return own_bytes(pid)
    return own_bytes(pid)  # a kernel before 5.9


def members_of(sessions: Collection[int]) -> dict[int, list[int]]:
    """Return the processes of sessions, without their leaders, by session.

    A worker leads a session; what its tasks start is in it.
    """
    found: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return found
    for name in names:
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The name, in parentheses, may hold anything; then state, parent, group, session.
                session = int(file.read().rpartition(b")")[2].split()[3])
        except (OSError, ValueError, IndexError):
            continue  # it has ended
        if session in sessions and session != int(name):
            found.setdefault(session, []).append(int(name))
    return found


class KillCounter:
    """How many processes the system has killed for want of memory, in our control group.

    Without control groups: on the whole machine.

    Parameters
    ----------
    own : str or Path
        The file that names our groups.
    root : str or Path
        Where control groups are mounted.
    """

    def __init__(self, own: str | Path = "/proc/self/cgroup", root: str | Path = "/sys/fs/cgroup"):
        self._file, self._word = _find_counter(Path(own), Path(root))

    def read(self) -> int:
        """Return the count; 0 where nobody counts."""
        try:
            for line in self._file.read_text().splitlines():
                word, _, count = line.partition(" ")
                if word == self._word:
                    return int(count)
        except (OSError, ValueError):
            return 0
        return 0


def _find_counter(own: Path, root: Path) -> tuple[Path, str]:
    """Return the file that counts kills, and the word before the count."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":  # version 2, at its own place or beside version 1
            places = [(root, "memory.events"), (root / "unified", "memory.events")]
        elif "memory" in controllers.split(","):
            places = [(root / "memory", "memory.oom_control")]
        else:
            continue
        for mount, name in places:
            folder = mount / path.lstrip("/")
            # In a container the path may be the host's, and the group the root we see.
            for candidate in (folder / name, mount / name):
                if candidate.is_file():
                    return candidate, "oom_kill"
    return Path("/proc/vmstat"), "oom_kill"
