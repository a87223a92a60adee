"""The page that says what a worker was running when it died."""

from __future__ import annotations

import os
import signal

import pytest

from zcluster.servers.status import LINE, RUNS, STARTED, TASK, SlotStatus, StatusPage


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


def test_what_a_process_wrote_is_there_after_it_was_killed() -> None:
    page = StatusPage.create(slots=2)
    pid = os.fork()
    if pid == 0:
        theirs = StatusPage(os.dup(page.fd), 2)
        theirs.cells[LINE + TASK] = 5 << 40
        theirs.cells[LINE + STARTED] = 77
        theirs.cells[LINE + RUNS] = 8
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert page.read() == [SlotStatus(0, None, 0, 0), SlotStatus(1, 5 << 40, 77, 8)]
    page.close()


def test_close_closes_the_descriptor_once() -> None:
    page = StatusPage.create(slots=1)
    fd = page.fd
    page.close()
    page.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
