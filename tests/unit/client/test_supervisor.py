"""The supervisor starts two processes, does what its table says, and leaves nothing.

The processes are real but speak no ZeroMQ: small scripts that write down that they
ran, and end as they are told.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from zcluster.client.supervisor import Supervisor
from zcluster.config import Settings
from zcluster.errors import SchedulerLost, StartError
from zcluster.launching import Command

pytestmark = pytest.mark.processes

QUICK = Settings(stop_grace=0.2, restart_first=0.02, restart_most=0.04)
STAY = "import signal; signal.pause()"
STUBBORN = (
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "open(sys.argv[1], 'w').close()\nwhile True: signal.pause()"
)


class ScriptProcess:
    """A script that runs here; ``fileno`` is -1, so the supervisor has to poll."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.closed = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def fileno(self) -> int:
        return -1

    def poll(self) -> int | None:
        return self.process.poll()

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.closed = True


class WatchedProcess(ScriptProcess):
    """The same with a descriptor that says when it has ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(process)
        self.pidfd = os.pidfd_open(process.pid)

    def fileno(self) -> int:
        return self.pidfd

    def close(self) -> None:
        super().close()
        os.close(self.pidfd)


class ScriptLauncher:
    """Runs the script that a command's options are."""

    def __init__(self, handle: type[ScriptProcess]) -> None:
        self.handle = handle
        self.started: list[ScriptProcess] = []
        self.threads: set[threading.Thread] = set()

    def start(self, command: Command) -> ScriptProcess:
        self.threads.add(threading.current_thread())
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", *command.options], start_new_session=True
        )
        self.started.append(self.handle(process))
        return self.started[-1]


def script(code: str) -> Callable[..., Command]:
    return lambda *folders: Command("worker", (code, *map(str, folders)))


@pytest.fixture(params=[ScriptProcess, WatchedProcess])
def launcher(request: pytest.FixtureRequest) -> ScriptLauncher:
    return ScriptLauncher(request.param)


@pytest.fixture
def supervise(launcher: ScriptLauncher) -> Iterator[Callable[..., Supervisor]]:
    """Return a function that makes a supervisor, which is stopped at the end of the test."""
    made: list[Supervisor] = []

    def make(scheduler: str = STAY, nanny: str | None = STAY) -> Supervisor:
        supervisor = Supervisor(
            launcher, script(scheduler), None if nanny is None else script(nanny), QUICK
        )
        made.append(supervisor)
        return supervisor

    yield make
    for supervisor in made:
        supervisor.request_stop()
        supervisor.wait_stopped(10)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true within 10 s"
        time.sleep(0.002)


def test_both_run_and_are_gone_after_the_stop(
    launcher: ScriptLauncher, supervise: Callable[..., Supervisor]
) -> None:
    supervisor = supervise()
    scratch = supervisor.start()
    wait_until(lambda: len(supervisor.pids) == 2)
    assert not supervisor.is_stopped
    began = time.monotonic()
    supervisor.request_stop()
    assert supervisor.wait_stopped(10)
    assert time.monotonic() - began < 5
    assert [handle.process.returncode for handle in launcher.started] == [-signal.SIGTERM] * 2
    assert all(handle.closed for handle in launcher.started)
    assert not scratch.path.exists()
    assert supervisor.pids == ()
    assert supervisor.failure is None
    supervisor.request_stop()  # again: nothing


def test_one_thread_starts_everything(
    launcher: ScriptLauncher, supervise: Callable[..., Supervisor]
) -> None:
    """The kernel may tie a child's life to the thread that started it."""
    supervise(nanny="import sys; sys.exit(1)").start()
    wait_until(lambda: len(launcher.started) >= 4)
    assert len(launcher.threads) == 1
    assert threading.main_thread() not in launcher.threads


def test_a_nanny_that_ends_is_started_again_in_a_fresh_folder(
    launcher: ScriptLauncher,
    supervise: Callable[..., Supervisor],
    caplog: pytest.LogCaptureFixture,
) -> None:
    code = "import os, sys; os.mkdir(sys.argv[2]); sys.exit(7)"
    with caplog.at_level(logging.WARNING, logger="zcluster.cluster"):
        supervisor = supervise(nanny=code)
        scratch = supervisor.start()
        wait_until(lambda: len(launcher.started) >= 4)
    assert "exit status 7; starting another in 0.0 s" in caplog.text
    folders = {str(handle.process.args[-1]) for handle in launcher.started[1:]}  # type: ignore[index]
    assert len(folders) == len(launcher.started) - 1
    assert not (scratch.path / "n0").exists()
    assert launcher.started[0].poll() is None  # the scheduler never noticed


def test_the_wait_before_another_nanny_doubles_to_its_limit(
    launcher: ScriptLauncher,
    supervise: Callable[..., Supervisor],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, logger="zcluster.cluster"):
        supervise(nanny="import sys; sys.exit(1)").start()
        wait_until(lambda: len(launcher.started) >= 5)
    waits = [record.args[2] for record in caplog.records if isinstance(record.args, tuple)]
    assert waits[:3] == [0.02, 0.04, 0.04]


def test_a_nanny_that_cannot_do_what_it_is_told_is_not_started_again(
    launcher: ScriptLauncher, supervise: Callable[..., Supervisor]
) -> None:
    """Another one would end as it did; and without any, all would wait for ever."""
    supervisor = supervise(nanny="import sys; sys.exit(2)")
    scratch = supervisor.start()
    assert supervisor.wait_stopped(10)
    assert isinstance(supervisor.failure, StartError)
    assert "ended with exit status 2" in str(supervisor.failure)
    assert len(launcher.started) == 2
    assert launcher.started[0].process.returncode == -signal.SIGTERM
    assert all(handle.closed for handle in launcher.started)
    assert not scratch.path.exists()


def test_a_scheduler_that_ends_is_not_started_again_and_takes_the_nanny_along(
    launcher: ScriptLauncher, supervise: Callable[..., Supervisor]
) -> None:
    supervisor = supervise()
    scratch = supervisor.start()
    wait_until(lambda: len(supervisor.pids) == 2)
    launcher.started[0].process.kill()
    assert supervisor.wait_stopped(10)
    assert isinstance(supervisor.failure, SchedulerLost)
    assert "killed by signal 9" in str(supervisor.failure)
    assert len(launcher.started) == 2
    assert launcher.started[1].process.returncode == -signal.SIGTERM
    assert not scratch.path.exists()


def test_what_does_not_stop_is_killed_after_the_grace(
    supervise: Callable[..., Supervisor], tmp_path: Path, launcher: ScriptLauncher
) -> None:
    supervisor = supervise(scheduler=STUBBORN.replace("sys.argv[1]", repr(str(tmp_path / "deaf"))))
    supervisor.start()
    wait_until((tmp_path / "deaf").exists)
    wait_until(lambda: len(supervisor.pids) == 2)
    supervisor.request_stop()
    assert supervisor.wait_stopped(10)
    assert launcher.started[0].process.returncode == -signal.SIGKILL


def test_a_scheduler_alone_is_possible(
    launcher: ScriptLauncher, supervise: Callable[..., Supervisor]
) -> None:
    supervisor = supervise(nanny=None)
    supervisor.start()
    wait_until(lambda: len(supervisor.pids) == 1)
    supervisor.request_stop()
    assert supervisor.wait_stopped(10)
    assert len(launcher.started) == 1


def test_a_stop_asked_for_before_anything_ran_starts_nothing(
    launcher: ScriptLauncher, supervise: Callable[..., Supervisor]
) -> None:
    supervisor = supervise()
    supervisor.request_stop()
    scratch = supervisor.start()
    assert supervisor.wait_stopped(10)
    assert launcher.started == []
    assert not scratch.path.exists()


class NoProcesses:
    """A launcher on a machine that is full."""

    def start(self, command: Command) -> ScriptProcess:
        raise StartError("cannot start anything")


def test_a_launcher_that_can_start_nothing_is_a_failure_and_leaves_nothing() -> None:
    supervisor = Supervisor(NoProcesses(), script(STAY), script(STAY), QUICK)
    scratch = supervisor.start()
    assert supervisor.wait_stopped(10)
    assert isinstance(supervisor.failure, StartError)
    assert not scratch.path.exists()


def test_no_scratch_folder_is_an_error_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/no/such/folder")
    supervisor = Supervisor(ScriptLauncher(ScriptProcess), script(STAY), None, QUICK)
    with pytest.raises(StartError, match="/no/such/folder"):
        supervisor.start()


def test_a_supervisor_nobody_holds_is_not_kept_after_its_end(
    supervise: Callable[..., Supervisor],
) -> None:
    supervisor = Supervisor(ScriptLauncher(ScriptProcess), script(STAY), None, QUICK)
    supervisor.start()
    descriptors = psutil.Process().num_fds()
    supervisor.request_stop()
    assert supervisor.wait_stopped(10)
    supervisor._thread.join(10)
    watch = weakref.ref(supervisor)
    del supervisor
    gc.collect()
    assert watch() is None
    assert psutil.Process().num_fds() < descriptors


def test_a_forked_copy_lets_go_and_ends_nothing(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise()
    scratch = supervisor.start()
    wait_until(lambda: len(supervisor.pids) == 2)
    pids = supervisor.pids
    pid = os.fork()
    if pid == 0:
        supervisor.request_stop()
        os._exit(0 if supervisor.is_stopped and supervisor.wait_stopped(0) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert not supervisor.is_stopped
    assert scratch.path.is_dir()
    for child in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            assert psutil.Process(child).status() != psutil.STATUS_ZOMBIE
