"""A short private folder for sockets and other things that must not outlive us.

A unix socket's path ends at 107 bytes (103 on macOS), so the folder is short,
``zc-`` and eight characters directly under ``TMPDIR``; its mode is 0700, which is
what keeps everybody else off an ``ipc://`` address.

Who owns a folder holds a lock (``flock``) on the file ``owner`` in it. The kernel
lets go of that lock when the owner ends, however it ends, so the next start can tell
a dead owner's folder from a live one's and remove it: `sweep`. Two rules make
that safe: the file gets its name only after it is locked, and a folder that has no
such file yet is left alone for a minute.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import socket
import sys
import time
from pathlib import Path

from zcluster.errors import InvalidAddress, StartError

__all__ = ["PATH_LIMIT", "Scratch", "ipc_address", "remove_tree", "sweep"]

#: The longest path of a unix socket, in bytes, less the final zero.
PATH_LIMIT = 103 if sys.platform == "darwin" else 107

_PREFIX = "zc-"
_OWNER = "owner"
_UNOWNED_SECONDS = 60.0  # how long a folder may take from mkdir to its owner file


class Scratch:
    """A fresh 0700 folder owned by this process.

    Parameters
    ----------
    parent : Path, optional
        Where to make it; ``TMPDIR`` or ``/tmp`` if absent.

    Attributes
    ----------
    path : Path

    Raises
    ------
    StartError
        If the parent does not let us make a folder.
    InvalidAddress
        If the parent's path is so long that no socket would fit.

    Examples
    --------
    >>> with Scratch() as scratch:
    ...     scratch.address("scheduler").startswith("ipc:///")
    True
    >>> scratch.path.exists()
    False
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = _default_parent() if parent is None else parent.absolute()
        name = _PREFIX + base64.b32encode(os.urandom(5)).decode().lower()
        self.path = parent / name
        ipc_address(self.path / "scheduler")
        try:
            os.mkdir(self.path, 0o700)
        except OSError as error:
            raise StartError(
                f"cannot make a folder in {parent}: {error.strerror}; expected a folder you may "
                "write to, set TMPDIR to one"
            ) from error
        self._process = os.getpid()
        self._lock = _lock_new_owner(self.path)

    def address(self, name: str) -> str:
        """Return the address of a socket in the folder; see `ipc_address`."""
        return ipc_address(self.path / name)

    def remove(self) -> None:
        """Remove the folder and what is in it; again, or in a forked copy, does nothing."""
        if self._process != os.getpid():
            self.forget()
        if self._lock >= 0:
            remove_tree(self.path)
            self.forget()

    def forget(self) -> None:
        """Let go of the lock and leave the folder: in a forked copy, or when others remove it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<Scratch {self.path}>"


def ipc_address(path: Path) -> str:
    """Return the address of a socket at a path.

    Raises
    ------
    InvalidAddress
        If the path is longer than a unix socket's may be.
    """
    size = len(os.fsencode(path))
    if size > PATH_LIMIT:
        raise InvalidAddress(
            f"socket path {path} has {size} bytes, expected at most {PATH_LIMIT}; set TMPDIR to a "
            "shorter folder, such as /tmp"
        )
    return f"ipc://{path}"


def sweep(parent: Path | None = None) -> list[Path]:
    """Remove our own folders whose owners have died; return those removed.

    Folders of other users, of other hosts (on a shared file system), or with a living
    owner are left alone. Costs a ``scandir`` and two system calls a folder.
    """
    removed = []
    try:
        entries = list(os.scandir(_default_parent() if parent is None else parent))
    except OSError:  # not there or not ours to read: whoever makes a folder in it will say so
        return []
    for entry in entries:
        if entry.name.startswith(_PREFIX) and len(entry.name) == 11 and _is_abandoned(entry):
            remove_tree(Path(entry.path))
            removed.append(Path(entry.path))
    return removed


def remove_tree(path: Path, seconds: float = 0.2) -> None:
    """Remove a folder even while a dying process still writes there; never raises.

    Links are removed, not followed. What is still there after ``seconds`` is left
    to the next `sweep`.
    """
    deadline = time.monotonic() + seconds
    while True:
        for folder, folders, files in os.walk(path, topdown=False):
            for name in files:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))
            for name in folders:
                _remove_folder(os.path.join(folder, name))
        if _remove_folder(os.fspath(path)) or time.monotonic() > deadline:
            return
        time.sleep(0.005)  # between two tries: something was made there meanwhile


def _remove_folder(path: str) -> bool:
    """Remove an empty folder or a link to one; return whether it is gone."""
    try:
        if os.path.islink(path):
            os.unlink(path)
        else:
            os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _default_parent() -> Path:
    return Path(os.environ.get("TMPDIR") or "/tmp").absolute()


def _lock_new_owner(folder: Path) -> int:
    """Make the owner file of a new folder, locked before it has its name; return its descriptor."""
    new = folder / "owner.new"
    lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(lock, f"{os.getpid()} {socket.gethostname()}\n".encode())
        os.rename(new, folder / _OWNER)
    except OSError as error:  # a file system without locks
        os.close(lock)
        remove_tree(folder)
        raise StartError(
            f"cannot lock a file in {folder.parent}: {error.strerror}; set TMPDIR to a folder on a "
            "local file system"
        ) from error
    return lock


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    """Tell whether a folder is ours and its owner is dead."""
    try:
        status = entry.stat(follow_symlinks=False)
        if status.st_uid != os.getuid() or not entry.is_dir(follow_symlinks=False):
            return False
        try:
            file = os.open(
                os.path.join(entry.path, _OWNER), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except FileNotFoundError:
            return time.time() - status.st_mtime > _UNOWNED_SECONDS
    except OSError:  # gone meanwhile, or made unreadable by hand
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A lock that is free says nothing where it may be held on another host.
        return (
            os.read(file, 300).decode(errors="replace").strip().endswith(f" {socket.gethostname()}")
        )
    except OSError:  # held: the owner lives
        return False
    finally:
        os.close(file)
