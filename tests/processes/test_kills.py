"""Processes that die, freeze and come back: what is lost, what is not, and what users are told.

Tasks write a line into a log where they run, so that what ran twice is seen. Nothing here
sleeps for a while and hopes: a kill comes when the log says that the moment is there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from zcluster.client.client import Client
from zcluster.client.cluster import LocalCluster
from zcluster.client.waiting import wait
from zcluster.errors import ClusterError, SchedulerLost, WorkerKilledError

if TYPE_CHECKING:
    from tests.processes.conftest import Commands, Log

pytestmark = pytest.mark.processes

Until = Callable[..., None]
Running = Callable[[int], bool]


# Tasks travel by value out of a test file, so each brings along what it uses.


def note(path: str, text: object) -> None:
    """Append a line, whole or not at all, also if the process is killed the moment after."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{text}\n".encode())
    os.close(file)


def step(path: str, number: int, seconds: float) -> int:
    note(path, number)
    time.sleep(seconds)
    return number * number


def make_large(path: str, number: int) -> np.ndarray:
    note(path, f"large {number}")
    return np.full(100_000, number)


def total(array: np.ndarray) -> int:
    return int(array.sum())


def worker_pids(client: Client) -> list[int]:
    return [worker["pid"] for worker in client.scheduler_info()["workers"].values()]


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1) as made:
        yield made


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as made:
        made.wait_for_workers(2, 20)
        yield made


# ------------------------------------------------------------------------------ a worker


def test_a_killed_worker_costs_what_it_was_running_and_no_more(
    client: Client, log: Log, until: Until, running: Running
) -> None:
    kept = client.map(make_large, [log.path] * 4, range(4), pure=False)
    wait(kept)
    futures = client.map(step, [log.path] * 1000, range(1000), [0.001] * 1000, pure=False)
    for lines in (150, 450, 800):
        log.wait_lines(lines)
        pid = worker_pids(client)[0]
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not running(pid))
    assert client.gather(futures) == [number * number for number in range(1000)]
    counts = log.counts()
    assert all(counts[str(number)] >= 1 for number in range(1000))
    # What ran at a kill runs again, and what had run and was not yet reported.
    again = sum(counts[str(number)] - 1 for number in range(1000))
    assert again <= 3 * 5, f"{again} tasks ran again after three kills"
    # The node's other results are its nanny's: still there, and not made again.
    for number, array in enumerate(client.gather(kept)):
        assert (array == number).all()
    assert all(counts[f"large {number}"] == 1 for number in range(4))


def killed_by_signal(path: str) -> None:
    note(path, "poison")
    print("about to do it", flush=True)
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(path: str) -> None:
    note(path, "poison")
    print("last words", flush=True)
    ctypes.string_at(0)


def leave(path: str) -> None:
    note(path, "poison")
    print("last words", flush=True)
    os._exit(3)


@pytest.fixture
def small_client() -> Iterator[Client]:
    """A cluster of one worker."""
    with Client(n_workers=1, threads_per_worker=1) as made:
        yield made


@pytest.mark.parametrize(
    ("poison", "cause"),
    [
        (killed_by_signal, "was killed by SIGKILL"),
        pytest.param(segfault, "was killed by SIGSEGV", marks=pytest.mark.slow),
        pytest.param(leave, "exited with status 3", marks=pytest.mark.slow),
    ],
)
def test_a_task_that_kills_its_worker_three_times_fails_and_nobody_else(
    small_client: Client, log: Log, poison: Callable[[str], None], cause: str
) -> None:
    before = small_client.map(step, [log.path] * 10, range(10), [0.005] * 10, pure=False)
    bad = small_client.submit(poison, log.path, pure=False)
    after = small_client.map(step, [log.path] * 10, range(10, 20), [0.005] * 10, pure=False)
    began = time.monotonic()
    with pytest.raises(WorkerKilledError) as caught:
        bad.result(20)
    assert time.monotonic() - began < 12  # well below one second where nothing else runs
    said = "\n".join((str(caught.value), *caught.value.__notes__))
    assert cause in said
    assert poison.__name__ in said  # the task
    assert bad.key in said
    assert "peak memory" in said
    assert "MiB" in said
    assert "last words" in said
    assert log.counts()["poison"] == 3
    assert small_client.gather([*before, *after]) == [number * number for number in range(20)]


@pytest.mark.slow
def test_a_killed_task_blames_neither_the_slot_beside_it_nor_what_waits(log: Log) -> None:
    with Client(n_workers=1, threads_per_worker=2) as client:
        client.wait_for_workers(1)
        innocents = client.map(step, [log.path] * 20, range(20), [0.05] * 20, pure=False)
        bad = client.submit(killed_by_signal, log.path, pure=False, priority=1)
        assert isinstance(bad.exception(20), WorkerKilledError)
        assert client.gather(innocents) == [number * number for number in range(20)]


# ------------------------------------------------------------------------------- a nanny


def test_a_killed_nanny_s_tasks_run_when_it_is_back_and_its_results_are_made_again(
    cluster: LocalCluster, client: Client, log: Log, until: Until, running: Running
) -> None:
    kept = client.map(make_large, [log.path] * 2, range(2), pure=False)
    wait(kept)
    futures = client.map(step, [log.path] * 200, range(200), [0.005] * 200, pure=False)
    log.wait_lines(40)
    workers = worker_pids(client)
    os.kill(cluster.pids[1], signal.SIGKILL)
    until(lambda: not any(map(running, workers)), 10, "its workers' end")
    assert client.gather(futures) == [number * number for number in range(200)]
    assert client.gather(client.map(total, kept)) == [0, 100_000]
    assert set(worker_pids(client)).isdisjoint(workers)


def test_the_only_holder_of_a_result_is_killed_and_another_makes_it_again(
    commands: Commands, log: Log, until: Until
) -> None:
    commands.start_scheduler()
    commands.start_node("a")
    pid = commands.start_node("b")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(2, 20)
        held = client.submit(make_large, log.path, 7, workers="b", allow_other_workers=True)
        wait([held])
        assert client.who_has([held]) == {held.key: ["b"]}
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        assert client.submit(total, held).result(20) == 700_000
        assert time.monotonic() - began < 7  # about 0.1 s, and 8 s if it were waited for
        assert log.counts() == {"large 7": 2}
        assert client.who_has([held]) == {held.key: ["a"]}


# --------------------------------------------------------------------------- the scheduler


def test_a_killed_scheduler_fails_every_pending_future_and_says_so(
    cluster: LocalCluster, client: Client, log: Log, until: Until
) -> None:
    futures = client.map(step, [log.path] * 100, range(100), [60] * 100, pure=False)
    log.wait_lines(2)
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(futures[number].result) for number in (0, 50, 99)]
        gathering = threads.submit(client.gather, futures)
        os.kill(cluster.pids[0], signal.SIGKILL)
        began = time.monotonic()
        for thread in (*waiting, gathering):
            with pytest.raises(SchedulerLost, match=r"is lost: (ipc://|the local cluster's s)"):
                thread.result(20)
    assert time.monotonic() - began < 12
    for future in futures:
        assert future.status == "lost"
        assert isinstance(future.exception(10), SchedulerLost)
    with pytest.raises(ClusterError):
        client.submit(abs, -1)
    assert client.status == "closed"


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("seconds", [10, 20])
def test_a_frozen_scheduler_kills_nobody(
    commands: Commands,
    log: Log,
    until: Until,
    stopped: Callable[[int], None],
    running: Running,
    seconds: float,
) -> None:
    """Who is away for longer than it was frozen is another matter."""
    pid = commands.start_scheduler()
    nanny = commands.start_node("a")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(1, 20)
        before = worker_pids(client)
        kept = client.submit(make_large, log.path, 1)
        wait([kept])
        futures = client.map(step, [log.path] * 300, range(300), [0.005] * 300, pure=False)
        log.wait_lines(30)
        stopped(pid)
        began = time.monotonic()
        until(lambda: time.monotonic() - began > seconds, seconds + 1)
        os.kill(pid, signal.SIGCONT)
        assert client.gather(futures) == [number * number for number in range(300)]
        assert client.submit(total, kept).result(10) == 100_000
        assert running(nanny)
        assert worker_pids(client) == before
        counts = log.counts()
        assert counts["large 1"] == 1
        assert sum(counts[str(number)] for number in range(300)) == 300


# ------------------------------------------------------------------------------- a client


CLIENT = """
import sys, time
from zcluster.distributed import Client, wait
client = Client(scheduler_file=sys.argv[1])
wait([large := client.submit(bytes, 5_000_000, pure=False)])
data = client.scatter(bytes(5_000_000), hash=False)
pending = client.map(time.sleep, [0.05] * 1000, pure=False)
wait(pending[:2])
print("ready", flush=True)
time.sleep(60)
"""


def _rows(client: Client) -> int:
    return int(client.statistics()["rows"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        (signal.SIGINT, 8.0),
        # Its session may come back for ten seconds.
        (signal.SIGKILL, 20.0),
    ],
)
def test_what_a_client_wanted_is_released_when_it_is_gone(
    commands: Commands, until: Until, number: int, seconds: float
) -> None:
    commands.start_scheduler()
    commands.start_node("a")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(1, 20)
        mine = client.submit(bytes, 1_000_000)
        wait([mine])
        with subprocess.Popen(
            [sys.executable, "-P", "-c", CLIENT, str(commands.file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            assert _rows(client) > 900
            until(lambda: _stored(client) > 10_000_000, 20, "the next word of the node")
            other.send_signal(number)
            other.wait(20)
            until(lambda: _rows(client) == 1, seconds, "the release of its tasks")
        until(lambda: 0 < _stored(client) < 2_000_000, 20, "the release of its results")
        assert len(mine.result(20)) == 1_000_000
        assert client.submit(abs, -1).result(20) == 1


def _stored(client: Client, name: str = "") -> int:
    """Return the bytes in a node's store, as its last heartbeat said."""
    nodes = client.overview()["nodes"]
    return int(next(node["store_used"] for node in nodes if name in ("", node["name"])))


# ------------------------------------------------------------------------- a frozen nanny


@pytest.mark.slow
def test_a_frozen_nanny_s_work_is_given_to_others_and_it_starts_over(
    commands: Commands, log: Log, until: Until, stopped: Callable[[int], None], running: Running
) -> None:
    commands.start_scheduler()
    nannies = {name: commands.start_node(name) for name in ("a", "b")}
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(2, 20)
        futures = client.map(step, [log.path] * 60, range(60), [0.05] * 60, pure=False)
        log.wait_lines(10)
        old = client.scheduler_info()["workers"]["b-0"]["pid"]
        stopped(nannies["b"])
        began = time.monotonic()
        # 60 x 0.05 s on one worker are 3 s; suspect after 2 s.
        assert client.gather(futures) == [number * number for number in range(60)]
        assert time.monotonic() - began < 9.5, "it waited for the node's end"
        assert list(client.scheduler_info()["workers"]) == ["a-0"]
        until(lambda: len(client.overview()["nodes"]) == 1, 30, "the node's end")
        assert time.monotonic() - began > 9, "a node that is away may come back for ten seconds"
        os.kill(nannies["b"], signal.SIGCONT)
        client.wait_for_workers(2, 30)
        new = client.scheduler_info()["workers"]["b-0"]["pid"]
        assert new != old
        assert running(nannies["b"])
        until(lambda: not running(old), 15, "the end of the fenced incarnation's worker")
        assert (
            client.submit(os.getppid, workers="b-0", pure=False).result(20)
            == psutil.Process(new).ppid()
        )
        # What the fenced incarnation finished meanwhile is not counted a second time.
        assert client.statistics()["finished"] <= 62


# ------------------------------------------------------------------- a transfer's two ends


def shared_memory(pid: int) -> int:
    """Return the bytes of shared memory a process has touched."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("RssShmem:"):
                return int(line.split()[1]) << 10
    return 0


SIZE = 200_000_000


def make_bytes(path: str, size: int) -> np.ndarray:
    note(path, "made")
    return np.full(size, 3, np.uint8)


def length(path: str, array: np.ndarray) -> int:
    note(path, "taken")
    return len(array)


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("share", [0.1, 0.6])
@pytest.mark.parametrize("fault", ["sender killed", "sender frozen", "receiver killed"])
def test_an_end_of_a_transfer_is_lost_at_some_chunk(
    commands: Commands,
    log: Log,
    until: Until,
    stopped: Callable[[int], None],
    fault: str,
    share: float,
) -> None:
    """The transfer is in progress, which the receiver's memory shows while it is stopped."""
    commands.start_scheduler()
    sender, receiver = (commands.start_node(name, "--memory-limit=2GB") for name in "ab")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(2, 20)
        held = client.submit(
            make_bytes, log.path, SIZE, workers="a", allow_other_workers=True, pure=False
        )
        began = time.monotonic()
        wait([held])
        making = time.monotonic() - began
        taken = client.submit(length, log.path, held, workers="b", allow_other_workers=True)
        deadline = time.monotonic() + 20
        while shared_memory(receiver) < share * SIZE:
            assert time.monotonic() < deadline, "nothing was transferred"
        stopped(receiver)
        assert shared_memory(receiver) < SIZE, "it was over before the fault"
        began = time.monotonic()
        if fault == "sender frozen":
            stopped(sender)
        else:
            os.kill(sender if fault == "sender killed" else receiver, signal.SIGKILL)
        os.kill(receiver, signal.SIGCONT)
        assert taken.result(60) == SIZE
        took = time.monotonic() - began
        print(f"{fault} at {share:.0%}: taken {took:.2f} s later, made in {making:.2f} s")
        # Whoever waits for it gives up after 2.5 s at most; then it is made again.
        assert took < 15 + 3 * making
        assert log.counts() == {"made": 1 if fault == "receiver killed" else 2, "taken": 1}
        if fault == "receiver killed":
            # The last heartbeat may be from before it was made.
            until(lambda: SIZE <= _stored(client, "a") < SIZE + (1 << 20), 20, "it is kept")
            del held, taken
            until(lambda: _stored(client, "a") == 0, 20, "the release of what was being sent")
        elif fault == "sender frozen":
            os.kill(sender, signal.SIGCONT)
            client.wait_for_workers(2, 20)


# --------------------------------------------------------------------------- again and again


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_nanny_that_is_killed_once_a_second_is_back_soon_after(
    cluster: LocalCluster, client: Client, log: Log
) -> None:
    futures = client.map(step, [log.path] * 400, range(400), [0.02] * 400, pure=False)
    kills = 0
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pids = cluster.pids
        if len(pids) > 1:
            os.kill(pids[1], signal.SIGKILL)
            kills += 1
        time.sleep(1)  # the rate of the kills is what is tested
    began = time.monotonic()
    client.wait_for_workers(2, 40)
    took = time.monotonic() - began
    print(f"both workers back {took:.1f} s after the last of {kills} kills")
    assert kills >= 5
    assert took < 30
    assert client.gather(futures) == [number * number for number in range(400)]


# ---------------------------------------------------------------------------- a stalled loop

STALLING = """
import signal, sys, time
from zcluster.cli.worker import main
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(6))
sys.exit(main())
"""


@pytest.mark.slow
def test_a_nanny_whose_loop_stalls_is_told_of_and_nothing_else(
    commands: Commands, log: Log, until: Until
) -> None:
    """Its heartbeats stop; ZeroMQ's, which another thread answers, do not."""
    commands.start_scheduler()
    nanny = commands.start_node("a", program=("-c", STALLING))
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(1, 20)
        before = worker_pids(client)
        futures = client.map(step, [log.path] * 100, range(100), [0.01] * 100, pure=False)
        log.wait_lines(10)
        os.kill(nanny, signal.SIGUSR1)
        began = time.monotonic()
        until(lambda: "node a's nanny is stalled" in commands.errors(), 10, "a warning")
        assert time.monotonic() - began < 6, "it was told of too late"
        (node,) = client.overview()["nodes"]
        assert not node["away"]
        assert client.gather(futures) == [number * number for number in range(100)]
        assert worker_pids(client) == before
        assert set(log.counts().values()) == {1}
        until(lambda: "node a's nanny goes on after" in commands.errors(), 20, "its return")
