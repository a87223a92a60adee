"""What ``zcluster doctor`` looks at on one machine: each check says what it found.

A check returns findings and raises nothing: what goes wrong is what it is there to say. FAIL is
for what will not work, WARN for what works badly or only in part.
"""

from __future__ import annotations

import math
import os
import resource
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import zmq

from zcluster.config import cpu_count, format_bytes, memory_total
from zcluster.errors import ZClusterError
from zcluster.transport.scratch import PATH_LIMIT, Scratch

from .version import versions

__all__ = ["FAIL", "OK", "WARN", "Finding", "machine_findings", "shared_findings"]

OK, WARN, FAIL = "OK", "WARN", "FAIL"

_SLOW_CURVE = 200.0  # MB/s: a network of 2 Gbit/s carries more
_FEW_FILES, _TOO_FEW_FILES = 4096, 256
_LITTLE_SHARED = 64 << 20  # what containers get, unless they ask for more
_OLD = 1_735_689_600  # 2025: no clock that is right shows an earlier time
_SKEW = 2.0


class Finding(NamedTuple):
    """One line of the report."""

    level: str
    title: str
    sentence: str


def machine_findings() -> Iterator[Finding]:
    """Yield what this machine has to say."""
    yield Finding(OK, "versions", ", ".join(f"{name} {text}" for name, text in versions().items()))
    yield from (processors(), memory(), files(), clock(), *scratch_folder())
    yield from shared_memory()
    yield from names()
    yield from ports()
    yield curve()


def processors() -> Finding:
    """Tell how many processors this process may use."""
    usable, there = cpu_count(), os.cpu_count() or 1
    if usable == there:
        return Finding(OK, "processors", f"{usable}, all of them usable")
    return Finding(
        OK, "processors", f"{usable} of {there} usable: an affinity or a cgroup holds the others"
    )


def memory() -> Finding:
    """Tell how much memory there is, and how much of it is free."""
    total, machine = memory_total(), psutil.virtual_memory()
    limited = f" of the machine's {format_bytes(machine.total)}" if total < machine.total else ""
    said = f"{format_bytes(total)}{limited}, {format_bytes(machine.available)} available"
    if machine.available < total // 10:
        return Finding(
            WARN, "memory", f"{said}: others use most of it; give workers a --memory-limit"
        )
    return Finding(OK, "memory", said)


def files() -> Finding:
    """Tell how many files and sockets a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "without limit" if hard == resource.RLIM_INFINITY else str(hard)
    said = "no limit" if soft == resource.RLIM_INFINITY else f"{soft}, at most {most}"
    if soft == resource.RLIM_INFINITY or soft >= _FEW_FILES:
        return Finding(OK, "open files", said)
    level = FAIL if soft < _TOO_FEW_FILES else WARN
    can = hard == resource.RLIM_INFINITY or hard >= _FEW_FILES
    way = f"raise it with 'ulimit -n {_FEW_FILES}'" if can else "have the administrator raise it"
    return Finding(level, "open files", f"{said}: too few for a large cluster; {way}")


def clock() -> Finding:
    """Tell whether the clock can be right."""
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now)) + " UTC"
    if now < _OLD:
        return Finding(WARN, "clock", f"{shown}, which is long ago; set it, or run NTP")
    return Finding(OK, "clock", shown)


def scratch_folder() -> Iterator[Finding]:
    """Make a folder for sockets, as every start does, and use a socket in it."""
    try:
        with Scratch() as scratch:
            path = scratch.path / "scheduler"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
            length = len(os.fsencode(path))
            free = shutil.disk_usage(scratch.path).free
            said = f"{scratch.path.parent}, {format_bytes(free)} free, paths of {length} bytes"
            yield Finding(OK, "scratch folder", f"{said} of {PATH_LIMIT}")
    except (ZClusterError, OSError) as error:
        yield Finding(FAIL, "scratch folder", f"{error}; set TMPDIR to a short local folder")


def shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Tell how large shared memory is; without such a folder there is nothing to say."""
    if not folder.is_dir():
        return
    usage = shutil.disk_usage(folder)
    said = f"{folder} has {format_bytes(usage.total)}, {format_bytes(usage.free)} free"
    if usage.free <= _LITTLE_SHARED:
        said += "; zcluster's results do not need it, but libraries in tasks (MPI) may: "
        yield Finding(WARN, "shared memory", said + "give the container a larger --shm-size")
    else:
        yield Finding(OK, "shared memory", said)


# ------------------------------------------------------------------------------- network


def names() -> Iterator[Finding]:
    """Tell what the host's name stands for."""
    host = socket.gethostname()
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError) as error:
        yield Finding(
            WARN,
            "host name",
            f"{host} resolves to nothing ({error}); start with --interface or --host ADDRESS",
        )
        return
    said = f"{host} is {', '.join(found)}"
    if all(address.startswith("127.") or address == "::1" for address in found):
        said += ": other machines would connect to themselves; start with --interface or --host"
        yield Finding(WARN, "host name", said)
    else:
        yield Finding(OK, "host name", said)


def ports() -> Iterator[Finding]:
    """Listen on, and connect to, each address of this machine."""
    for interface, entries in sorted(psutil.net_if_addrs().items()):
        for entry in entries:
            # Those of one link alone (fe80::…%eth0) are no use to others.
            if entry.family not in (socket.AF_INET, socket.AF_INET6) or "%" in entry.address:
                continue
            yield _try_address(interface, entry.family, entry.address)


def _try_address(interface: str, family: int, address: str) -> Finding:
    title = f"address {address}"
    try:
        with socket.socket(family) as listener:
            listener.bind((address, 0))
            listener.listen(1)
            port = listener.getsockname()[1]
            with socket.socket(family) as peer:
                peer.settimeout(2)
                peer.connect((address, port))
    except OSError as error:
        return Finding(
            WARN,
            title,
            f"{interface}: cannot listen and connect there ({error}); a firewall may forbid it, "
            "use another --interface",
        )
    return Finding(OK, title, f"{interface}: listens and connects")


def curve(seconds: float = 0.3) -> Finding:
    """Measure how fast this machine's libsodium encrypts."""
    title = "encryption"
    if not zmq.has("curve"):
        return Finding(
            WARN, title, "this libzmq has no CURVE, so TCP is in the clear; reinstall pyzmq"
        )
    speed = curve_speed(seconds)
    if speed == 0:
        return Finding(FAIL, title, "nothing comes through a CURVE socket here; reinstall pyzmq")
    said = f"CURVE carries {speed:.0f} MB/s between two sockets"
    if speed < _SLOW_CURVE:
        said += ": slow for large results between machines; a pyzmq with an optimised libsodium, "
        return Finding(WARN, title, said + "as distributions build it, is faster")
    return Finding(OK, title, said)


def curve_speed(seconds: float) -> float:
    """Return the MB/s that go through two encrypted sockets of this process; 0 if none do."""
    public, secret = zmq.curve_keypair()
    block, arrived = bytes(1 << 18), 0
    context: zmq.Context[Any] = zmq.Context()
    try:
        with context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
            for end in (pull, push):
                end.linger = 0
                end.curve_publickey, end.curve_secretkey = public, secret
            pull.curve_server = True
            push.curve_serverkey = public
            push.sndtimeo = pull.rcvtimeo = 2000
            push.connect(f"tcp://127.0.0.1:{pull.bind_to_random_port('tcp://127.0.0.1')}")
            with suppress(zmq.Again):
                push.send(block)
                pull.recv()  # the handshake is over
                began = time.perf_counter()
                while time.perf_counter() - began < seconds:
                    for _ in range(4):
                        push.send(block, copy=False)
                    for _ in range(4):
                        arrived += len(pull.recv(copy=False))
                return arrived / 1e6 / (time.perf_counter() - began)
    finally:
        context.term()
    return 0.0


# -------------------------------------------------------------------------- shared folder


def shared_findings(folder: Path) -> Iterator[Finding]:
    """Write, rename and read a file there, as the scheduler file is."""
    title = f"folder {folder}"
    path = folder / f"zcluster-doctor-{socket.gethostname()}-{os.getpid()}"
    other = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"zcluster")
            file.flush()
            os.fsync(file.fileno())
        os.replace(other, path)
        text, found = path.read_bytes(), path.stat()
    except OSError as error:
        yield Finding(
            FAIL, title, f"{error.strerror}: no place for a scheduler file; use another folder"
        )
        return
    finally:
        for left in (other, path):
            with suppress(OSError):
                left.unlink()
    if text != b"zcluster":
        yield Finding(FAIL, title, f"reads {text!r} where b'zcluster' was written; use another one")
    elif found.st_mode & 0o077 or found.st_uid != os.getuid():
        yield Finding(
            FAIL,
            title,
            f"a new file has mode {found.st_mode & 0o777:o} and owner {found.st_uid}, expected "
            f"600 and {os.getuid()}: a scheduler file there would be refused; use another one",
        )
    else:
        yield Finding(OK, title, "writes, renames and reads; files stay private")
        yield _skew(title, found.st_mtime - time.time())


def _skew(title: str, seconds: float) -> Finding:
    if math.fabs(seconds) > _SKEW:
        return Finding(
            WARN, title, f"its clock differs from this machine's by {seconds:+.0f} s; run NTP"
        )
    return Finding(OK, title, "its clock and this machine's agree")
