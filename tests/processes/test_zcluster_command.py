"""The command ``zcluster`` with real clusters: what it prints, its exit statuses, no leavings."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.processes.conftest import Commands

pytestmark = pytest.mark.processes

PROGRAM = (sys.executable, "-P", "-m", "zcluster")


def run(*arguments: str, status: int = 0, seconds: float = 50) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and check its exit status."""
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=seconds)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture
def cluster(commands: Commands) -> str:
    """Start a scheduler and two nodes as subcommands; return the option that names them."""
    commands.start_scheduler(program=("-m", "zcluster", "scheduler"))
    option = f"--scheduler-file={commands.file}"
    for name in ("a", "b"):
        options = (option, f"--name={name}", "--nworkers=1", "--nthreads=1")
        commands.nodes[name] = commands.start("-m", "zcluster", "worker", *options)
    from zcluster.client.client import Client

    with Client(scheduler_file=commands.file, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=20)
    return option


def test_help_comes_at_once() -> None:
    """In a tenth of a second; twenty times that is still not the import of everything, on CI."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        run("--help")
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 2, seconds


def test_the_demonstration_says_what_it_does_and_ends() -> None:
    done = run("demo", "--tasks=8", "--points=100000")
    assert "Starting a scheduler and 2 workers" in done.stdout
    assert re.search(r"pi is about 3\.1\d+, error ", done.stdout)
    assert "8/8" in done.stderr  # the progress bar


def test_a_cluster_is_shown_checked_and_measured(cluster: str, commands: Commands) -> None:
    text = run("status", cluster).stdout
    assert ", 2 nodes, 2 workers, 2 threads, 0 clients, " in text
    column = [line.split()[0] for line in text.splitlines()[2:5]]
    assert (column[0], sorted(column[1:])) == ("node", ["a", "b"])

    answer = json.loads(run("status", commands.address, "--json").stdout)
    assert {node["name"] for node in answer["nodes"]} == {"a", "b"}
    assert answer["clients"] == 0

    text = run("doctor", cluster, "--shared", str(commands.file.parent)).stdout
    assert "OK    worker a-0: on " in text
    assert "OK    worker b-0: on " in text
    assert text.endswith("nothing here stands in the way\n")

    figures = json.loads(run("bench", cluster, "--size=1048576", "--json").stdout)
    assert [figure["name"] for figure in figures] == [
        *("tasks", "latency", "to a node", "from a node", "between nodes")
    ]
    assert all(figure["value"] > 0 for figure in figures)
    assert "from a-0 to b-0" in figures[-1]["what"]


@pytest.mark.slow
def test_without_a_cluster_one_of_this_machine_is_measured() -> None:
    lines = run("bench", "--size=1048576", "--tasks=500").stdout.splitlines()
    assert re.fullmatch(r"tasks +[\d,]+ a second +map and gather of 500 small calls", lines[1])
    assert len(lines) == 5


def test_the_live_view_goes_on_until_ctrl_c(cluster: str) -> None:
    with Terminal("status", cluster, "--interval=0.1") as terminal:
        terminal.wait_text(r"0 tasks finished, 0 a second")
        assert re.search(r"(?m)^b +\S", terminal.text)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(30) == 130
        terminal.wait_text(re.escape("\x1b[?25h"))  # the cursor is back
        assert "Traceback" not in terminal.text


@pytest.mark.parametrize(
    "name",
    ["status", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bench", "doctor"))],
)
def test_nobody_there_is_status_3(tmp_path: Path, name: str) -> None:
    done = run(name, f"ipc://{tmp_path}/none", "--timeout=0.2", status=3)
    assert re.search(r"^zcluster: .*nobody answered", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_subcommand_handles_signals_as_the_command_does(cluster: str, commands: Commands) -> None:
    assert commands.scheduler is not None
    for process in (*commands.nodes.values(), commands.scheduler):
        process.terminate()
        assert process.wait(30) == 143
    assert not commands.file.exists()


class Terminal:
    """A run of the command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._fd, child = pty.openpty()
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=child,
            stdout=child,
            stderr=child,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
            start_new_session=True,
        )
        os.close(child)
        self._bytes = b""

    @property
    def text(self) -> str:
        """What it has shown, without the codes for colours."""
        text = self._bytes.decode(errors="replace")  # it may end within a letter
        return re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\n")

    def wait_text(self, pattern: str, seconds: float = 20) -> None:
        """Read until something is shown."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"{pattern!r} did not come:\n{self.text}"
            data = b""
            with suppress(OSError):  # it has ended and closed its side
                data = os.read(self._fd, 4096)
            assert data, f"it ended before {pattern!r} came:\n{self.text}"
            self._bytes += data

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self._fd)
