"""The scheduler file: where a scheduler says how to reach it.

A JSON object ``{"type", "id", "address", "insecure", "pid", "host", "started", "keys", …}``.
Whoever reads it can run code as its owner, so it has mode
0600 from its first byte, appears complete or not at all (written beside, then
renamed), and is **refused** when others could have read or written it: group or
world permissions, a symbolic link, a foreign owner. ssh does the same with keys.

A scheduler that was killed leaves its file. A reader on the same host sees that
nobody listens at an ``ipc://`` address any more and goes on waiting for a new file.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from zcluster.errors import InvalidArgument, StartError
from zcluster.transport.keys import Keys, remember

__all__ = [
    "SchedulerFile",
    "is_listening",
    "read_scheduler_file",
    "remove_scheduler_file",
    "take_keys",
    "wait_scheduler_file",
    "write_scheduler_file",
]

_LARGEST = 1 << 20  # bytes; a scheduler file has a few hundred


@dataclass(frozen=True)
class SchedulerFile:
    """What a scheduler file says.

    Attributes
    ----------
    address : str
        ``ipc://…`` or ``tcp://host:port``.
    id : str
        Fresh at every start of a scheduler.
    insecure : bool
        Whether plain TCP was accepted by whoever started the scheduler.
    pid, host : int, str
        Where the scheduler runs.
    started : float
        Seconds since the epoch.
    version, python : str
        Of zcluster and of the interpreter that runs the scheduler.
    keys : dict of str to str
        The cluster's, as of `Keys.to_texts`; empty where none are needed.
    """

    address: str
    id: str
    insecure: bool = False
    pid: int = 0
    host: str = ""
    started: float = field(default_factory=time.time)
    version: str = ""
    python: str = ""
    type: str = "scheduler"
    keys: dict[str, str] = field(default_factory=dict, repr=False)


def write_scheduler_file(path: Path, record: SchedulerFile) -> None:
    """Write a scheduler file, complete or not at all; an older one is replaced.

    Raises
    ------
    StartError
        If the folder does not let us.
    """
    new = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    text = json.dumps(asdict(record), indent=2) + "\n"
    try:
        # O_EXCL follows no link, and the mode holds before the first byte is there.
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, text.encode())
            os.fsync(file)  # other hosts of a shared file system may look next
        finally:
            os.close(file)
        os.rename(new, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise StartError(
            f"cannot write the scheduler file {path}: {error.strerror}; expected a path in a "
            "folder you may write to"
        ) from error


def remove_scheduler_file(path: Path, id: str) -> bool:
    """Remove a scheduler file if it is still that of scheduler ``id``; return whether it was."""
    try:
        ours = read_scheduler_file(path).id == id
    except (InvalidArgument, StartError):
        return False
    if ours:
        with contextlib.suppress(OSError):
            os.unlink(path)
    return ours


def read_scheduler_file(path: Path) -> SchedulerFile:
    """Return what a scheduler file says.

    Raises
    ------
    StartError
        If there is no such file.
    InvalidArgument
        If it is not a scheduler file, or somebody else could have read or written it.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise StartError(
            f"there is no scheduler file {path}; start zcluster-scheduler --scheduler-file={path}"
        ) from None
    except OSError as error:
        if path.is_symlink():
            raise _refused(path, "it is a symbolic link") from None
        raise InvalidArgument(f"cannot read the scheduler file {path}: {error.strerror}") from error
    try:
        _check_private(path, os.fstat(file))
        text = os.read(file, _LARGEST)
    finally:
        os.close(file)
    return _parse(path, text)


def wait_scheduler_file(path: Path, seconds: float) -> SchedulerFile:
    """Return what a scheduler file says, once it is there and its scheduler listens.

    Raises
    ------
    StartError
        If it is not there in time.
    InvalidArgument
        As `read_scheduler_file`, and then at once.
    """
    deadline = time.monotonic() + seconds
    pause = 0.01
    while True:
        problem = "it is not there"
        try:
            record = read_scheduler_file(path)
        except StartError:
            record = None
        if record is not None:
            if is_listening(record.address):
                return record
            problem = f"it is there, but nobody listens at {record.address}"
        left = deadline - time.monotonic()
        if left <= 0:
            raise StartError(
                f"waited {seconds:g} s for the scheduler file {path}: {problem}; start "
                f"zcluster-scheduler --scheduler-file={path}, or look at why it ended"
            )
        time.sleep(min(pause, left))  # between two looks; shared file systems tell nobody
        pause = min(0.25, pause * 1.5)


def take_keys(record: SchedulerFile, path: Path) -> Keys | None:
    """Return the keys in a scheduler file, if it has any, and know them in this process.

    Raises
    ------
    InvalidArgument
        If they are not keys.
    """
    if not record.keys:
        return None
    keys = Keys.from_texts(record.keys, str(path))
    remember(record.address, keys)
    return keys


def is_listening(address: str) -> bool:
    """Tell whether somebody listens at an ``ipc://`` address of this host; True for others.

    The probe connects and says nothing; ZeroMQ drops such a peer.
    """
    if not address.startswith("ipc://"):
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address.removeprefix("ipc://"))
        except (ConnectionError, FileNotFoundError):
            return False
        except OSError:  # its queue is full, say: somebody is there
            return True
    return True


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, "it is not a regular file")
    if status.st_uid != os.getuid():
        raise _refused(path, f"it belongs to user {status.st_uid}, and you are {os.getuid()}")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise _refused(path, f"its mode is {mode:04o}, expected 0600")


def _refused(path: Path, found: str) -> InvalidArgument:
    return InvalidArgument(
        f"refused the scheduler file {path}: {found}, so somebody else could make you run code; "
        "let zcluster-scheduler write a new one"
    )


def _parse(path: Path, text: bytes) -> SchedulerFile:
    try:
        fields = json.loads(text)
        known = {
            name: fields[name] for name in SchedulerFile.__dataclass_fields__ if name in fields
        }
        record = SchedulerFile(**known)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidArgument(
            f"{path} is not a scheduler file ({error}); expected the JSON object that "
            "zcluster-scheduler --scheduler-file writes"
        ) from None
    if not isinstance(record.address, str) or "://" not in record.address:
        raise InvalidArgument(
            f"scheduler file {path} has address {record.address!r}, expected 'ipc://…' or 'tcp://…'"
        )
    for name, value in asdict(record).items():
        expected = _TYPES[name]
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise InvalidArgument(
                f"scheduler file {path} has {name} {value!r}, expected a value of type "
                f"{expected.__name__}; let zcluster-scheduler write a new one"
            )
    return record


#: Of what type each field of the file is.
_TYPES = {name: type(value) for name, value in asdict(SchedulerFile("", "")).items()}
