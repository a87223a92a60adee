"""The page that says what a worker was running when it died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from zcluster.servers.status import TAIL, TASK, SlotStatus, StatusPage


def test_a_new_page_says_that_nothing_runs() -> None:
    page = StatusPage.create(slots=3)
    assert page.read() == [SlotStatus(n, None, 0, 0) for n in range(3)]
    page.close()


def test_task_zero_is_a_task() -> None:
    page = StatusPage.create(slots=1)
    page.cells[TASK] = 0
    assert page.slot(0).task == 0
    page.clear(0)
    assert page.slot(0).task is None
    page.close()


_WRITER = """
import os, signal, sys
from zcluster.servers.status import LINE, RUNS, STARTED, TASK, StatusPage
page = StatusPage(int(sys.argv[1]), 2)
page.cells[LINE + TASK] = 5 << 40
page.cells[LINE + STARTED] = 77
page.cells[LINE + RUNS] = 8
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_process_wrote_is_there_after_it_was_killed() -> None:
    page = StatusPage.create(slots=2)
    done = subprocess.run(
        [sys.executable, "-c", _WRITER, str(page.fd)], pass_fds=(page.fd,), timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert page.read() == [SlotStatus(0, None, 0, 0), SlotStatus(1, 5 << 40, 77, 8)]
    page.close()


def test_close_closes_the_descriptor_once() -> None:
    page = StatusPage.create(slots=1)
    fd = page.fd
    page.close()
    page.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_the_end_of_what_was_printed_is_kept_whatever_the_pieces() -> None:
    page = StatusPage.create(slots=2)
    said = b""
    for number in range(3000):
        piece = b"%d," % number * (number % 7)
        page.add_tail(0, piece)
        said += piece
        if number % 500 == 0:
            assert page.tail(0) == said[-TAIL:]
    page.add_tail(0, said)
    assert page.tail(0) == said[-TAIL:]
    assert page.tail(1) == b""
    assert page.read() == [SlotStatus(n, None, 0, 0) for n in range(2)]
    page.close()
