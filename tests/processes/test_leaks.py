"""Clusters come and go, end in the middle, or are left alone: nothing of them stays.

Moments are drawn at random; a failing run prints its seed, which ``ZCLUSTER_TEST_SEED`` repeats.
What runs side by side has a scratch folder each, so that what is left behind has an owner.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.processes

#: Scripts at a time: most of their time they wait.
SIDE_BY_SIDE = 3
#: Seconds after a signal within which nothing may be left. The bar is 3 s on an idle machine.
BOUND = 20.0

#: Clusters in one process, two at a time; before and after it says what there is of everything.
CYCLES = """
import gc, json, os, sys, tempfile, threading
import psutil
from zcluster.distributed import Client, LocalCluster

def traces():
    gc.collect()
    this = psutil.Process()
    with open("/proc/self/maps") as maps:
        stores = maps.read().count("/memfd:zcluster")
    counts = {
        "processes": len(this.children(recursive=True)),
        "descriptors": this.num_fds(),
        "threads": this.num_threads(),
        "stores": stores,
        "files": len(os.listdir(tempfile.gettempdir())),
    }
    return counts, this.memory_info().rss

def cycle(number):
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster, Client(cluster) as client:
        assert client.submit(int.__add__, number, 1).result() == number + 1
        if number % 4 == 0:
            assert len(client.submit(bytes, 200_000).result()) == 200_000

done = []

def cycles(count):
    for number in range(count):
        cycle(number)
        done.append(number)

def two_at_a_time(count):
    threads = [threading.Thread(target=cycles, args=(count // 2,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

two_at_a_time(4)
before, rss = traces()
two_at_a_time(int(sys.argv[1]))
after, grown = traces()
answer = {"cycles": len(done) - 4, "before": before, "after": after, "grown": grown - rss}
print(json.dumps(answer))
"""

#: Starts, runs and stops, and says where it is.
PHASED = """
import time
from zcluster.distributed import Client

print("begin", flush=True)
client = Client(n_workers=2, threads_per_worker=1)
print("started", flush=True)
for _ in range(2):
    futures = client.map(lambda x: time.sleep(0.002) or x, range(100), pure=False)
    large = client.map(lambda n: bytes(n), [300_000] * 10, pure=False)
    assert sum(client.gather(futures)) == 4950
    assert sum(map(len, client.gather(large))) == 3_000_000
print("ran", flush=True)
client.close()
print("closed", flush=True)
"""
#: Seconds after the line of each phase in which a moment is drawn.
PHASES = {"begin": 0.8, "started": 0.5, "ran": 0.2}

#: Ends with work on its way; the word says how it waits for it.
PENDING = """
import asyncio, random, sys, threading, time
from zcluster.distributed import Client, as_completed

async def wait_in_loop():
    other = await Client(client.cluster, asynchronous=True)
    future = other.submit(time.sleep, 60, pure=False)
    is_waiting.set()
    await future

async def come_and_go():
    is_waiting.set()
    while True:
        async with Client(client.cluster, asynchronous=True) as other:
            await other.gather([other.submit(abs, -1, pure=False), await other.scatter(1)])
            await other.ncores()

def go_on():
    while True:
        client.submit(time.sleep, 0.01, pure=False).result()

how = sys.argv[1]
is_waiting = threading.Event()
client = Client(n_workers=1, threads_per_worker=1, processes=how != "threads")
assert client.submit(abs, -1).result() == 1
# What runs when it is cancelled runs on, and the soldier's answer waits for it.
seconds = 0.2 if how == "soldier" else 60
pending = [client.submit(time.sleep, seconds, pure=False) for _ in range(20)]
if how == "callback":
    for future in pending:
        future.add_done_callback(lambda future: print("called", future.status))
daemons = {
    "result": [pending[0].result, lambda: client.gather(pending), pending[1].exception],
    "iterator": [lambda: [future.result() for future in as_completed(pending)]],
    "submit": [go_on],
    "loop": [lambda: asyncio.run(wait_in_loop())],
    "connecting": [lambda: asyncio.run(come_and_go())],
    "request": [client.ncores, lambda: client.run(time.sleep, 60)],
}
for waits in daemons.get(how, ()):
    threading.Thread(target=waits, daemon=True).start()
if how in ("loop", "connecting"):
    is_waiting.wait(20)
    time.sleep(0.05 * random.random() if how == "connecting" else 0)
if how == "soldier":
    client.cancel(pending)
    answer = client.submit(lambda: time.sleep(0.5) or "answered", pure=False)
    threading.Thread(target=lambda: print(answer.result(), flush=True)).start()
print("ends", flush=True)
"""
WAYS = (
    "plain",
    "threads",
    "callback",
    "iterator",
    "result",
    "submit",
    "loop",
    "connecting",
    "request",
    "soldier",
)


def seed() -> int:
    number = int(os.environ.get("ZCLUSTER_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"ZCLUSTER_TEST_SEED={number}")
    return number


@contextlib.contextmanager
def script(source: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a script with a scratch folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="l-"))
    with subprocess.Popen(
        [sys.executable, "-P", "-c", source, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(folder)},
    ) as process:
        try:
            yield process, folder
        finally:
            process.kill()
            shutil.rmtree(folder, ignore_errors=True)


def wait_line(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line == f"{wanted}\n":
            return
    raise AssertionError(f"the script ended before {wanted!r}: {process.communicate()[1]}")


def wait_moment(process: subprocess.Popen[str], seconds: float) -> None:
    """Let time pass, or the script end."""
    watched = os.pidfd_open(process.pid)
    try:
        select.select([watched], [], [], seconds)
    finally:
        os.close(watched)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def of_folder(folder: Path) -> list[psutil.Process]:
    """Return the processes that were started with a scratch folder, also by a parent now dead."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("TMPDIR") == str(folder) and is_running(process):
                found.append(process)
    return found


def wait_nothing(folder: Path, began: float) -> float:
    """Wait until nothing is left of a script; return the seconds since `began`."""
    while True:
        left = [*map(str, of_folder(folder)), *os.listdir(folder)]
        took = time.monotonic() - began
        if not left:
            return took
        assert took < BOUND, f"left behind after {took:.1f} s: {left}"
        time.sleep(0.02)  # between two looks


def side_by_side(task: Callable[[int], float], count: int) -> None:
    """Do something so many times, some at a time; print how long the slowest took."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        took = list(pool.map(task, range(count)))
    print(f"{count} times: the slowest took {max(took):.2f} s, half {sorted(took)[count // 2]:.2f}")


def drawn(chance: random.Random, count: int) -> list[tuple[str, float]]:
    phases = [chance.choice(list(PHASES)) for _ in range(count)]
    moments = [(phase, chance.uniform(0, PHASES[phase])) for phase in phases]
    print(
        "\n".join(
            f"{k}: {seconds:.4f} s after {phase!r}" for k, (phase, seconds) in enumerate(moments)
        )
    )
    return moments


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_clusters_leave_nothing_in_their_process() -> None:
    with script(CYCLES, "200") as (process, folder):
        said, errors = process.communicate(timeout=580)
        assert process.returncode == 0, errors
        # On a busy machine a worker may be so late that it is waited for aloud.
        assert all("no worker is here" in line for line in errors.splitlines()), errors
        answer = json.loads(said)
        print(answer)
        assert answer["cycles"] == 200
        assert answer["after"] == answer["before"]
        assert answer["after"]["processes"] == answer["after"]["files"] == 0
        assert answer["grown"] < 32 << 20, "more than 160 kB a cluster"
        assert os.listdir(folder) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fifty_interrupts_leave_nothing() -> None:
    moments = drawn(random.Random(seed()), 50)

    def interrupt(number: int) -> float:
        phase, seconds = moments[number]
        with script(PHASED) as (process, folder):
            wait_line(process, phase)
            wait_moment(process, seconds)
            began = time.monotonic()
            os.killpg(process.pid, signal.SIGINT)
            said = process.communicate(timeout=30)
            took = wait_nothing(folder, began)
            # Its last line was out: the signal came while the interpreter was ending.
            ended_before = process.returncode == 0 and said[0].endswith("closed\n")
            is_cut = process.returncode in (-signal.SIGINT, 130)
            assert ended_before or is_cut, (number, process.returncode, said)
        return took

    side_by_side(interrupt, len(moments))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fifty_killed_parents_leave_nothing() -> None:
    moments = drawn(random.Random(seed()), 50)

    def kill(number: int) -> float:
        phase, seconds = moments[number]
        with script(PHASED) as (process, folder):
            wait_line(process, phase)
            wait_moment(process, seconds)
            began = time.monotonic()
            process.kill()
            process.communicate(timeout=30)
            return wait_nothing(folder, began)

    side_by_side(kill, len(moments))


def end_with_pending(how: str) -> float:
    """Run a script that ends with work on its way; return the seconds that it took to end."""
    with script(PENDING, how) as (process, folder):
        wait_line(process, "ends")
        began = time.monotonic()
        said, errors = process.communicate(timeout=30)
        took = time.monotonic() - began
        assert (process.returncode, errors) == (0, ""), how
        assert how != "soldier" or said == "answered\n", "who is no daemon is waited for"
        wait_nothing(folder, began)
    assert took < BOUND, f"{how}: the interpreter took {took:.1f} s to end"
    return took


@pytest.mark.parametrize("how", ["result", "connecting"])
def test_an_interpreter_ends_with_pending_futures(how: str) -> None:
    end_with_pending(how)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_thirty_interpreters_end_with_pending_futures() -> None:
    side_by_side(lambda number: end_with_pending(WAYS[number % len(WAYS)]), 30)
