"""The end of a process is told, once, and nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from zcluster.servers.endings import Endings
from zcluster.transport.loop import Loop

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="the system cannot watch processes"
)


def test_ends_are_told() -> None:
    loop = Loop()
    ended: list[int] = []

    def on_end(peer: int) -> None:
        ended.append(peer)
        loop.stop()

    endings = Endings(loop, on_end)
    programs = [
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)
    ]
    try:
        endings.watch(1, programs[0].pid)
        endings.watch(2, programs[1].pid)
        endings.watch(3, programs[1].pid)  # a later life of the same process
        endings.watch(4, os.getpid())
        programs[1].kill()
        loop.call_later(20.0, loop.stop)
        loop.run()
        assert ended == [3]
    finally:
        endings.close()
        endings.close()
        loop.close()
        for program in programs:
            program.kill()
            program.communicate()
    endings = Endings(loop, on_end)
    endings.watch(5, programs[0].pid)  # it has ended, and was seen to
    endings.close()
    assert ended == [3]
