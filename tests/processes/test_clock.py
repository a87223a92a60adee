"""Clocks that jump, and a machine that sleeps: nobody dies of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from zcluster.client.client import Client

if TYPE_CHECKING:
    from tests.processes.conftest import Commands, Log

#: What lasts for long here takes far longer on a busy machine.
pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

Until = Callable[..., None]
DAY = 86_400.0

#: Makes a process believe in another time: the offset stands in a file, and may change.
SITE = """
import os, time
_true = time.time
def _time():
    try:
        with open(os.environ["TEST_CLOCK"]) as file:
            return _true() + float(file.read())
    except (OSError, ValueError):
        return _true()
time.time = _time
"""


def note(path: str, number: int, seconds: float) -> int:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{number}\n".encode())
    os.close(file)
    time.sleep(seconds)
    return -number


def look() -> float:
    return time.time()


class Clock:
    """The wall clock of all processes started from now on, and of this one."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._file = folder / "offset"
        self.jump(0)
        (folder / "sitecustomize.py").write_text(SITE)
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("TEST_CLOCK", str(self._file))
        true = time.time
        patch.setattr(time, "time", lambda: true() + self.offset)

    def jump(self, offset: float) -> None:
        """Let the clock be wrong by so many seconds."""
        self.offset = offset
        scratch = self._file.with_suffix(".new")
        scratch.write_text(str(offset))
        scratch.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    folder = tmp_path / "site"
    folder.mkdir()
    return Clock(folder, monkeypatch)


@pytest.mark.slow
def test_clocks_that_jump_a_day_and_back_have_no_effect(
    clock: Clock, commands: Commands, log: Log
) -> None:
    commands.start_scheduler()
    commands.start_node("a")
    commands.start_node("b")
    true = time.time()
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(2, 40)
        before = {name: w["pid"] for name, w in client.scheduler_info()["workers"].items()}
        futures = client.map(note, [log.path] * 150, range(150), [0.01] * 150, pure=False)
        for lines, offset in ((20, DAY), (50, -DAY), (80, 30 * DAY), (110, -1.0)):
            log.wait_lines(lines)
            clock.jump(offset)
            assert abs(client.submit(look, pure=False).result(20) - true - offset) < DAY / 2
        assert client.gather(futures) == [-number for number in range(150)]
        assert set(log.counts().values()) == {1}
        after = {name: w["pid"] for name, w in client.scheduler_info()["workers"].items()}
        assert after == before
        assert client.status == "running"


SCRIPT = """
import sys
from zcluster.distributed import Client
def note(path, number, seconds):
    import os, time
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{number}\\n".encode())
    os.close(file)
    time.sleep(seconds)
    return -number
with Client(scheduler_file=sys.argv[1]) as client:
    client.wait_for_workers(2, timeout=40)
    futures = client.map(note, [sys.argv[2]] * 300, range(300), [0.02] * 300, pure=False)
    assert client.gather(futures) == [-number for number in range(300)]
    print([each["pid"] for each in client.scheduler_info()["workers"].values()], flush=True)
"""


@pytest.mark.slow
def test_a_machine_that_sleeps_and_wakes_loses_nothing(
    commands: Commands, log: Log, until: Until, stopped: Callable[[int], None]
) -> None:
    """All processes stand still for 15 seconds, and go on in any order."""
    scheduler = commands.start_scheduler()
    nannies = [commands.start_node(name) for name in "ab"]
    with subprocess.Popen(
        [sys.executable, "-P", "-c", SCRIPT, str(commands.file), log.path],
        stdout=subprocess.PIPE,
        text=True,
    ) as script:
        log.wait_lines(40, 20)
        pids = [scheduler, script.pid]
        for nanny in nannies:
            pids += [nanny, *(child.pid for child in psutil.Process(nanny).children(True))]
        for pid in pids:
            stopped(pid)
        end = time.monotonic() + 15
        until(lambda: time.monotonic() > end, 20)
        random.shuffle(pids)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.02)  # they do not wake all at once: that is tested
        assert script.stdout is not None
        workers = script.stdout.read().strip()
        assert script.wait(30) == 0
    assert workers.strip("[]").count(",") == 1
    assert {int(pid) for pid in workers.strip("[]").split(",")} <= set(pids), "one was fenced"
    assert len(log.counts()) == 300
    assert sum(log.counts().values()) <= 304
