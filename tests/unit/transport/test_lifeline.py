"""A child learns of its parent's end, and cannot hang past it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from zcluster.transport import lifeline
from zcluster.transport.loop import Loop


def test_the_end_of_the_pipe_is_told_once_and_the_descriptor_is_closed() -> None:
    before = signal.getsignal(signal.SIGALRM)
    loop = Loop()
    read, write = os.pipe()
    told: list[str] = []

    def on_end() -> None:
        told.append("end")
        loop.stop()

    try:
        lifeline.watch(loop, read, on_end, grace=30.0)
        os.write(write, b"hello")  # what is said is passed over
        loop.call_later(0.02, lambda: os.close(write))
        loop.run()
        assert told == ["end"]
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 20  # the kernel would end a hang
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(read)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        loop.close()


def test_a_process_that_hangs_is_ended_by_the_kernel() -> None:
    code = (
        "from zcluster.transport import lifeline\nimport signal\n"
        "signal.signal(signal.SIGALRM, lambda *_: None)\n"
        "lifeline.die_within(0.05)\nwhile True: signal.pause()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == -signal.SIGALRM


def test_a_parent_that_is_gone_is_noticed_and_a_living_one_too() -> None:
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    # In a process of its own: it would tie the test run to whoever started it.
    code = (
        "import os, sys\nfrom zcluster.transport import lifeline\n"
        f"print(lifeline.arm(os.getppid()), lifeline.arm({os.getpid()}), lifeline.arm({gone.pid}))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert said.stdout.split() == ["True", "True", "False"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_the_kernel_ends_the_child_of_a_killed_parent_even_if_a_copy_holds_the_pipe() -> None:
    child = (
        "import os, sys, signal\nfrom zcluster.transport import lifeline\n"
        "lifeline.arm(os.getppid())\nprint('armed', flush=True)\nsignal.pause()\n"
    )
    parent = (
        "import subprocess, sys, signal\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}])\nsignal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"armed\n"
        process.kill()
        assert process.stdout.read() == b""  # the child held it open: this is its end
