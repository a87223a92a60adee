"""Where results may go that memory has no room for: a folder on a disk of this machine.

What a folder lies on is read from the table of mounts. Three kinds are told apart:

- a **disk** of this machine: results may go there unasked;
- **memory** (tmpfs, as ``/tmp`` is on many systems): to move results there frees none;
- **elsewhere** (NFS, Lustre, GPFS, what FUSE shows, and whatever is not known): a
  thousand nodes that spill to one file server take it down for everybody.

A folder that the user names is used whatever it is: it was asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Mount", "choose_folder", "kind_of", "mount_of", "mounts"]

#: Kept in memory.
_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
#: On this machine, whatever stands in the column of the device.
_LOCAL = frozenset({"btrfs", "bcachefs", "overlay", "zfs"})
#: On a device of this machine, if one is named.
_DEVICE = "/dev/"
#: Not even then: the device is shared by many machines, or shows what is elsewhere.
_SHARED = frozenset({"gfs2", "ocfs2", "gpfs", "lustre", "fuse", "fuseblk"})


class Mount(tuple[str, str, str]):
    """(device, folder, file-system type) of one mount."""

    __slots__ = ()

    @property
    def folder(self) -> str:
        """Where it is mounted."""
        return self[1]

    @property
    def type(self) -> str:
        """What kind of file system it is."""
        return self[2]


def mounts(table: str = "/proc/mounts") -> list[Mount]:
    """Return what is mounted, in the order of the table; empty where there is none."""
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as file:
            return parse_mounts(file)
    except OSError:
        return []


def parse_mounts(lines: Iterable[str]) -> list[Mount]:
    r"""Return the mounts of a table.

    Examples
    --------
    >>> parse_mounts(["/dev/sda1 / ext4 rw 0 0", r"srv:/a /my\040data nfs4 rw 0 0"])[1].folder
    '/my data'
    """
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) >= 3:
            found.append(Mount((_plain(fields[0]), _plain(fields[1]), fields[2])))
    return found


def _plain(field: str) -> str:
    r"""Undo what the table does to blanks: ``\040`` and the like."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def mount_of(folder: str | os.PathLike[str], table: Iterable[Mount]) -> Mount | None:
    """Return the mount that a folder lies on; None if no mount is above it.

    Examples
    --------
    >>> table = parse_mounts(["/dev/sda1 / ext4 rw 0 0", "tmpfs /tmp tmpfs rw 0 0"])
    >>> mount_of("/tmp/a", table).type, mount_of("/tmpa", table).type
    ('tmpfs', 'ext4')
    """
    path = os.path.realpath(folder)
    best: Mount | None = None
    for mount in table:
        above = mount.folder.rstrip("/") + "/"
        # Of two on the same folder the later one hides the earlier.
        if (path + "/").startswith(above) and (
            best is None or len(mount.folder) >= len(best.folder)
        ):
            best = mount
    return best


def kind_of(mount: Mount | None) -> str:
    """Return ``disk``, ``memory`` or ``elsewhere``.

    Examples
    --------
    >>> lines = ["/dev/sda1 / ext4 rw 0 0", "srv:/a /n nfs rw 0 0", "x /t tmpfs rw 0 0"]
    >>> [kind_of(mount) for mount in parse_mounts(lines)]
    ['disk', 'elsewhere', 'memory']
    """
    if mount is None:
        # No table: not Linux. There the folder for temporary files is on a disk.
        return "elsewhere" if sys.platform == "linux" else "disk"
    if mount.type in _MEMORY:
        return "memory"
    if mount.type in _LOCAL:
        return "disk"
    shared = mount.type in _SHARED or mount.type.startswith("fuse.")
    return "disk" if mount[0].startswith(_DEVICE) and not shared else "elsewhere"


def choose_folder(
    told: Path | None, candidates: Iterable[Path], table: list[Mount] | None = None
) -> tuple[Path | None, str]:
    """Return the folder to spill to, or None and the reason.

    Parameters
    ----------
    told : Path, optional
        What the user named: it is taken whatever it lies on.
    candidates : iterable of Path
        Otherwise the first of these that is on a disk of this machine.
    table : list of Mount, optional
        What is mounted; read from the system if absent.

    Examples
    --------
    >>> table = parse_mounts(["tmpfs / tmpfs rw 0 0"])
    >>> choose_folder(None, [Path("/tmp")], table)
    (None, '/tmp is in memory (tmpfs)')
    >>> choose_folder(Path("/tmp"), [], table)
    (PosixPath('/tmp'), '')
    """
    if told is not None:
        return told, ""
    table = mounts() if table is None else table
    reasons = []
    for folder in candidates:
        if not os.access(folder, os.W_OK | os.X_OK):
            reasons.append(f"{folder} is not there, or not writable")
            continue
        mount = mount_of(folder, table)
        kind = kind_of(mount)
        if kind == "disk":
            return folder, ""
        name = mount.type if mount is not None else "unknown"
        where = "is in memory" if kind == "memory" else "is not known to be a disk of this machine"
        reasons.append(f"{folder} {where} ({name})")
    return None, "; ".join(reasons)
