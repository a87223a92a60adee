"""Figures of memory, read from the system."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zcluster.servers.process_memory import KillCounter, exact_own_bytes, members_of, own_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")

MIB = 1 << 20


def test_what_a_process_writes_is_its_own_and_what_it_shares_is_not() -> None:
    before = own_bytes(os.getpid())
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as shared:
        shared[:] = bytes(1) * len(shared)
        # A copy of the zeros came and went: what the allocator keeps of it is not much.
        assert own_bytes(os.getpid()) - before < 16 * MIB
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as private:
        for page in range(0, len(private), 4096):
            private[page] = 1
        assert own_bytes(os.getpid()) - before > 56 * MIB
        assert exact_own_bytes(os.getpid()) > 56 * MIB


def test_forked_processes_share_what_they_do_not_write() -> None:
    """Counted quickly it is there twice, counted exactly once."""
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as private:
        for page in range(0, len(private), 4096):
            private[page] = 1
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)  # until the other end is closed
            os._exit(0)
        os.close(read)
        try:
            pids = (os.getpid(), child)
            assert own_bytes(child) > 56 * MIB
            quick, exact = sum(map(own_bytes, pids)), sum(map(exact_own_bytes, pids))
            assert quick - exact > 48 * MIB
        finally:
            os.close(write)
            os.waitpid(child, 0)


def test_a_process_that_has_ended_has_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    assert own_bytes(ended.pid) == exact_own_bytes(ended.pid) == 0


def test_a_session_has_what_its_leader_has_started() -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=sys.stdin)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as leader:
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        assert members_of({leader.pid, 1 << 22}) == {leader.pid: [child]}
        leader.communicate("\n", 30)


def group(folder: Path, line: str, file: str, text: str) -> KillCounter:
    """Return a counter over control groups as a system may show them."""
    (folder / "own").write_text(line)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text)
    return KillCounter(folder / "own", folder)


def test_kills_are_counted_in_the_control_group(tmp_path: Path) -> None:
    new = group(tmp_path / "" / ".", "0::/a/b\n", "a/b/memory.events", "oom 3\noom_kill 2\n")
    assert new.read() == 2
    (tmp_path / "a/b/memory.events").write_text("oom 4\noom_kill 3\n")
    assert new.read() == 3
    (tmp_path / "a/b/memory.events").unlink()
    assert new.read() == 0


def test_kills_are_counted_in_groups_of_the_first_version_too(tmp_path: Path) -> None:
    line = "5:cpu:/x\n4:memory:/y\n0::/\n"
    text = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"
    assert group(tmp_path, line, "memory/y/memory.oom_control", text).read() == 7


def test_a_container_sees_its_group_as_the_root(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/docker/1\n", "memory.events", "oom_kill 1\n").read() == 1


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    counter = KillCounter(tmp_path / "none", tmp_path)
    assert counter.read() >= 0
    assert counter._file == Path("/proc/vmstat")
