"""What the tests with whole clusters share: commands started by hand, conditions, a log of calls.

Test files cannot import each other, so shared things come as fixtures. Their types can be
imported where only the type checker looks (``if TYPE_CHECKING``).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from zcluster.distributed import Client
from zcluster.transport.scheduler_file import read_scheduler_file
from zcluster.transport.scratch import sweep

if TYPE_CHECKING:
    from tests.processes.links import Relay


def wait_until(condition: Callable[[], object], seconds: float = 30, what: str = "") -> None:
    """Wait for a condition, and fail with its name if it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        name = what or getattr(condition, "__qualname__", repr(condition))
        assert time.monotonic() < deadline, f"{name} did not come true within {seconds} s"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    """Tell whether a process is there and not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(autouse=True, scope="session")
def _warm() -> None:
    """Have a first client: what it makes for good is no leak of the first test that has one."""
    for processes in (True, False):
        with Client(n_workers=1, threads_per_worker=1, processes=processes) as client:
            # What is large is sent without a copy: pyzmq keeps a context and a thread for that.
            assert len(client.submit(bytes, bytes(3_000_000)).result()) == 3_000_000


class Log:
    """A file to which tasks append a line each, in whatever process they run.

    It says what ran, and how often: a task that ran twice is there twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        path.touch()

    def lines(self) -> list[str]:
        with open(self.path) as file:
            return file.read().splitlines()

    def counts(self) -> Counter[str]:
        return Counter(self.lines())

    def wait_lines(self, count: int, seconds: float = 30) -> None:
        wait_until(lambda: len(self.lines()) >= count, seconds, f"{count} lines in the log")


class Commands:
    """A scheduler and nodes started as people start them, and found by a scheduler file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.scheduler: subprocess.Popen[str] | None = None
        self.nodes: dict[str, subprocess.Popen[str]] = {}
        self._errors = folder / "errors"

    def start_scheduler(
        self, *options: str, program: tuple[str, ...] = ("-m", "zcluster.cli.scheduler")
    ) -> int:
        """Start the scheduler; return its pid once the file says where it is."""
        self.scheduler = self.start(*program, f"--scheduler-file={self.file}", *options)
        process = self.scheduler
        wait_until(lambda: self.file.exists() or process.poll() is not None, 30, "a scheduler file")
        assert process.poll() is None, self.errors()
        assert read_scheduler_file(self.file).pid == self.scheduler.pid
        return self.scheduler.pid

    def start_node(
        self,
        name: str,
        *options: str,
        address: str = "",
        program: tuple[str, ...] = ("-m", "zcluster.cli.worker"),
    ) -> int:
        """Start a node of one worker with one thread; return the nanny's pid."""
        where = [address, "--insecure"] if address else [f"--scheduler-file={self.file}"]
        self.nodes[name] = self.start(
            *(*program, *where, f"--name={name}", "--nworkers=1", "--nthreads=1", *options)
        )
        return self.nodes[name].pid

    @property
    def address(self) -> str:
        return read_scheduler_file(self.file).address

    def errors(self) -> str:
        """Return what all of them wrote."""
        return self._errors.read_text() if self._errors.exists() else ""

    def close(self) -> None:
        """End what still runs, in order; a stopped process is let go on first."""
        processes = [*self.nodes.values(), *([self.scheduler] if self.scheduler else [])]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in processes:
            process.wait(30)
        sweep()  # as the next start does, after processes that were killed

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a Python program whose output `errors` shows."""
        with self._errors.open("a") as errors:
            return subprocess.Popen(
                [sys.executable, "-P", *command],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                text=True,
                start_new_session=True,
            )


@contextlib.contextmanager
def no_commands() -> Iterator[Commands]:
    """Give a cluster of commands, none of them started yet, and end it."""
    with tempfile.TemporaryDirectory(prefix="file-") as folder:
        made = Commands(Path(folder))
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def commands() -> Iterator[Commands]:
    """Return a cluster of commands for one test."""
    with no_commands() as made:
        yield made


@pytest.fixture(scope="module")
def commands_of_module() -> Iterator[Commands]:
    """Return a cluster of commands for the tests of one file."""
    with no_commands() as made:
        yield made


@pytest.fixture
def relays() -> Iterator[Callable[[str], Relay]]:
    """Return a function that makes a `Relay` to an address."""
    spec = importlib.util.spec_from_file_location("links", Path(__file__).with_name("links.py"))
    assert spec is not None
    assert spec.loader is not None
    links = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(links)
    made: list[Relay] = []

    def make(to: str) -> Relay:
        made.append(links.Relay(to))
        return made[-1]

    yield make
    for relay in made:
        relay.close()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return an empty log of calls."""
    return Log(tmp_path / "log")


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Return `wait_until`."""
    return wait_until


@pytest.fixture(scope="session")
def running() -> Callable[[int], bool]:
    """Return `is_running`."""
    return is_running


@pytest.fixture
def stopped() -> Iterator[Callable[[int], None]]:
    """Return a function that stops a process with SIGSTOP; it goes on at the end at the latest."""
    pids: list[int] = []

    def stop(pid: int) -> None:
        pids.append(pid)
        os.kill(pid, signal.SIGSTOP)

    yield stop
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
