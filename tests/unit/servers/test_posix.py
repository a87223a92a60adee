"""The small module for what only some systems have."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from zcluster.servers import posix

_ORPHAN = """
import os, sys
from zcluster.servers import posix
posix.die_with_parent(int(sys.argv[1]))
print("lives", flush=True)
"""


def _run(told: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _ORPHAN, str(told)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_child_of_the_parent_it_was_told_of_lives_on() -> None:
    done = _run(os.getpid())
    assert (done.returncode, done.stdout) == (0, "lives\n"), done.stderr


def test_a_child_whose_parent_is_another_exits_before_it_does_anything() -> None:
    """The parent may have ended before the child could ask for the signal."""
    done = _run(1 if os.getpid() != 1 else 2)
    assert (done.returncode, done.stdout) == (posix.EXIT_ORPHAN, ""), done.stderr


def test_anonymous_memory_has_its_size_and_no_path() -> None:
    fd = posix.anonymous_memory("zc-test", 8192)
    try:
        assert os.fstat(fd).st_size == 8192
        assert os.fstat(fd).st_nlink == 0
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_pair_keeps_messages_whole_and_tells_of_the_other_end() -> None:
    ours, theirs = posix.message_pair()
    with ours:
        with theirs:
            theirs.send(b"one")
            theirs.send(b"two")
            assert ours.recv(100) == b"one"
            assert ours.recv(100) == b"two"
        try:
            assert ours.recv(100) == b""
        except ConnectionError:
            pass  # macOS says it so


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has such a file")
def test_a_worker_is_likelier_to_be_killed_for_memory_than_its_nanny() -> None:
    code = (
        "from zcluster.servers import posix\n"
        "read = lambda: int(open('/proc/self/oom_score_adj').read())\n"
        "before = read(); posix.offer_to_oom_killer(300)\n"
        "assert read() == min(1000, before + 300), (before, read())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_peak_memory_is_in_bytes() -> None:
    import resource

    peak = posix.peak_rss_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert 5 << 20 < peak < 1 << 40


_ARRAYS = """
import sys, threading
from zcluster.servers import posix
from zcluster.servers.process_memory import own_bytes
import os
if sys.argv[1] == "shared":
    posix.share_one_heap()

def work():
    for _ in range(5):
        block = bytearray(8 << 20)

work()
before = own_bytes(os.getpid())
for _ in range(4):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(own_bytes(os.getpid()) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it has an effect with glibc only")
def test_threads_that_share_a_heap_take_what_others_have_freed() -> None:
    command = [sys.executable, "-c", _ARRAYS, "shared"]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown < 8 << 20
