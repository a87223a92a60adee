"""Servers as threads: handles that say how it went, workers that can be left behind."""

from __future__ import annotations

import logging
import os
import select
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from zcluster.errors import ClusterError, StartError
from zcluster.launching import Command, Handle, Launcher
from zcluster.servers.forking import Ended, Forked, WorkerSettings
from zcluster.servers.in_process import ServerThread, ThreadLauncher, ThreadTemplate
from zcluster.servers.status import StatusPage


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="thr-") as folder:  # short: part of an ipc path
        yield Path(folder)


def scheduler(scratch: Path) -> Command:
    return Command("scheduler", ("--address", f"ipc://{scratch}/s", "--name", "test"))


def nanny(scratch: Path, **more: str) -> Command:
    options = {
        "scratch": str(scratch / "n0"),
        "nworkers": "1",
        "nthreads": "1",
        "memory-limit": "0",
        "store-limit": "1000000",
        "name": "n",
    } | more
    texts = [text for name, value in options.items() for text in (f"--{name}", value)]
    return Command("worker", (f"ipc://{scratch}/s", *texts))


def end_of(handle: Handle) -> int | None:
    """Wait for a handle's end as its owner does."""
    ready, _, _ = select.select([handle.fileno()], [], [], 10)
    assert ready, "it did not end within 10 s"
    return handle.poll()


def test_a_server_runs_until_it_is_told_to_end(scratch: Path) -> None:
    launcher: Launcher = ThreadLauncher()
    handle = launcher.start(scheduler(scratch))
    assert handle.poll() is None
    assert handle.pid == os.getpid()
    assert select.select([handle.fileno()], [], [], 0)[0] == []
    handle.terminate()
    assert end_of(handle) == 0
    handle.kill()  # nothing is left to tell
    handle.close()
    handle.close()
    assert handle.fileno() == -1


def test_what_cannot_be_used_is_told_at_the_start(scratch: Path) -> None:
    launcher = ThreadLauncher()
    with pytest.raises(StartError, match="no-such-folder"):
        launcher.start(scheduler(scratch / "no-such-folder"))
    (scratch / "n0").mkdir()
    with pytest.raises(ClusterError, match="cannot make the scratch folder"):
        launcher.start(nanny(scratch))


def test_a_failure_is_logged_and_is_a_status(caplog: pytest.LogCaptureFixture) -> None:
    class Server:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def run(self) -> None:
            raise self.error

        def stop(self) -> None:
            raise AssertionError

    for error, status, level in (
        (StartError("nobody answers"), 4, logging.WARNING),
        (ValueError("a bug"), 1, logging.ERROR),
    ):
        caplog.clear()
        handle = ServerThread("test", Server(error))  # type: ignore[arg-type]
        assert end_of(handle) == status
        handle.close()
        assert [record.levelno for record in caplog.records] == [level]
        assert str(error) in caplog.text


def test_a_worker_that_is_killed_is_left_behind(scratch: Path) -> None:
    """It says nothing more, its end is told once, and its threads end by themselves."""
    threads = set(threading.enumerate())
    template = ThreadTemplate()
    template.start()
    page = StatusPage.create(1)
    settings = WorkerSettings(0, 1, "n-0", "n", 1, f"ipc://{scratch}/nobody")
    template.fork(settings, -1, -1, page.fd)
    (started,) = template.events()
    assert isinstance(started, Forked)
    assert (started.number, started.incarnation) == (0, 1)
    loop = next(thread for thread in threading.enumerate() if thread.name == "n-0-loop")
    template.send_signal(started.pid, 9)
    template.send_signal(started.pid, 9)  # gone: nobody
    loop.join(10)
    assert template.events() == [Ended(0, 1, started.pid, -9, 0)]
    assert template.events() == []
    template.close()
    page.close()
    assert set(threading.enumerate()) <= threads


def test_a_worker_that_cannot_start_is_told_as_ended(
    scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    template = ThreadTemplate()
    page = StatusPage.create(1)
    door = str(scratch / "no-door")
    template.fork(WorkerSettings(0, 1, "n-0", "n", 1, "ipc:///x", door), -1, -1, page.fd)
    select.select([template.fileno()], [], [], 10)
    for thread in threading.enumerate():
        if thread.name == "n-0-loop":
            thread.join(10)
    started, ended = template.events()
    assert isinstance(started, Forked)
    assert ended == Ended(0, 1, started.pid, 1, 0)
    assert "worker n-0 failed" in caplog.text
    template.close()
    page.close()
