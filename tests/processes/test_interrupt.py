"""Ctrl-C and kill -9 at any moment of a script with a cluster of its own: prompt, nothing left.

A terminal sends Ctrl-C to the whole foreground group. The moment is what is tried: it is drawn
at random over start, run and stop, and a failing run prints its seed and its moments, so that
``ZCLUSTER_TEST_SEED`` repeats it.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.processes

Until = Callable[..., None]

SCRIPT = """
import time
from zcluster.distributed import Client, wait

print("begin", flush=True)
client = Client(n_workers=2, threads_per_worker=1)
print("started", flush=True)
total = 0
for _ in range(3):
    futures = client.map(lambda x: time.sleep(0.002) or x, range(100), pure=False)
    large = client.map(lambda n: bytes(n), [300_000] * 10, pure=False)
    total += sum(client.gather(futures)) + sum(map(len, client.gather(large)))
print("ran", flush=True)
client.close()
print("closed", flush=True)
"""

#: Seconds of each phase from its first line on in which a moment is drawn.
PHASES = {"begin": 0.6, "started": 0.5, "ran": 0.15}


def seed() -> int:
    return int(os.environ.get("ZCLUSTER_TEST_SEED") or random.SystemRandom().randrange(1 << 32))


def start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
        start_new_session=True,  # as a shell gives each command a group of its own
    )


def wait_phase(script: subprocess.Popen[str], phase: str) -> None:
    assert script.stdout is not None
    for line in script.stdout:
        if line == f"{phase}\n":
            return
    raise AssertionError(f"the script ended before {phase!r}: {script.communicate()[1]}")


def wait_moment(script: subprocess.Popen[str], seconds: float) -> None:
    """Let time pass, or the script end."""
    process = os.pidfd_open(script.pid)
    try:
        select.select([process], [], [], seconds)
    finally:
        os.close(process)


def family(script: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(script.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def left_behind() -> list[str]:
    folders = [str(path) for path in Path(os.environ["TMPDIR"]).glob("zc-*")]
    return folders + [name for name in os.listdir("/dev/shm") if name.startswith("zc")]


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def moments() -> list[tuple[str, float]]:
    """Return one while it starts, one while it runs, one while it stops."""
    number = seed()
    print(f"ZCLUSTER_TEST_SEED={number}")
    chance = random.Random(number)
    phases = ["begin", "started", "ran"]
    return [(phase, chance.uniform(0, PHASES[phase])) for phase in phases]


def test_ctrl_c_at_any_moment_is_prompt_and_leaves_nothing(until: Until) -> None:
    for phase, seconds in moments():
        print(f"{seconds:.4f} s after {phase!r}")
        with start() as script:
            wait_phase(script, phase)
            wait_moment(script, seconds)
            processes = family(script)
            began = time.monotonic()
            os.killpg(script.pid, signal.SIGINT)
            said = script.communicate(timeout=30)
            took = time.monotonic() - began
        assert took < 12, f"it took {took:.1f} s to end: {said}"
        # Its last line was out: the signal came while the interpreter was ending.
        ended_before = script.returncode == 0 and said[0].endswith("closed\n")
        assert ended_before or script.returncode in (-signal.SIGINT, 130), said
        assert not any(map(is_running, processes))
        assert left_behind() == []


def test_ctrl_c_twice_ends_at_once_and_leaves_nothing(until: Until) -> None:
    with start() as script:
        wait_phase(script, "started")
        processes = family(script)
        for _ in range(2):
            os.killpg(script.pid, signal.SIGINT)
        began = time.monotonic()
        script.communicate(timeout=30)
        assert time.monotonic() - began < 12
    assert script.returncode in (-signal.SIGINT, 130)
    until(lambda: not any(map(is_running, processes)), 12)
    until(lambda: left_behind() == [], 12)


def test_ctrl_c_while_a_script_ends_prints_nothing() -> None:
    script = """
import os, signal, sys
from zcluster.distributed import Client
client = Client(n_workers=1, threads_per_worker=1)

def interrupted(frame, event, argument):
    if event == "call" and frame.f_code.co_name == "wait_stopped":
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGINT)

sys.setprofile(interrupted)
"""
    run = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        timeout=20,
        start_new_session=True,
    )
    assert (run.stdout, run.stderr) == ("", "")


def test_a_script_that_catches_ctrl_c_goes_on_with_its_cluster() -> None:
    """The signal is the script's alone: nobody under it hears it from the terminal."""
    script = """
import os, signal, time
from zcluster.distributed import Client
client = Client(n_workers=1, threads_per_worker=1)
pending = client.submit(time.sleep, 1.0)
try:
    os.killpg(0, signal.SIGINT)
    pending.result()
except KeyboardInterrupt:
    print("caught", client.submit(abs, -1).result(), pending.result())
client.close()
"""
    run = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        timeout=20,
        start_new_session=True,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "caught 1 None\n", "")
    assert left_behind() == []


@pytest.mark.parametrize(
    "phase",
    [pytest.param(phase, marks=() if phase == "started" else pytest.mark.slow) for phase in PHASES],
)
def test_a_killed_script_takes_everything_along(phase: str, until: Until) -> None:
    number = seed()
    print(f"ZCLUSTER_TEST_SEED={number}")
    with start() as script:
        wait_phase(script, phase)
        wait_moment(script, random.Random(number).uniform(0, PHASES[phase]))
        processes = family(script)
        script.kill()
        script.communicate(timeout=20)
        until(lambda: not any(map(is_running, processes)), 12, "the end of its processes")
        until(lambda: left_behind() == [], 12, "the end of its files")
