"""Workers that use too much memory: paused, replaced, and what their tasks are told.

Nothing here sleeps and hopes: tasks say in a log where they are, and hold what they hold until
a file is there.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from zcluster.client.client import Client
from zcluster.client.cluster import LocalCluster
from zcluster.client.waiting import wait
from zcluster.errors import OutOfDisk, OutOfMemory, WorkerKilledError

if TYPE_CHECKING:
    from tests.processes.conftest import Commands

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what processes use"),
]

Until = Callable[..., None]
MIB = 1 << 20
LIMIT = 200 * MIB


# Tasks travel by value out of a test file, so each brings along what it uses.


def hog(mebibytes: int) -> int:
    """Take memory bit by bit, and give it back at the end."""
    held = []
    for _ in range(mebibytes // 4):
        held.append(np.ones(MIB // 2))
        time.sleep(0.002)
    return len(held)


def hold(mebibytes: int, path: str) -> int:
    """Have so much until a file is there."""
    held = np.ones(mebibytes * MIB // 8)
    while not os.path.exists(path):
        time.sleep(0.01)
    return int(held[:1].sum())


def leak(mebibytes: int, number: int) -> int:
    """Leave so much behind in the process."""
    vars(sys).setdefault("leaked", []).append(np.ones(mebibytes * MIB // 8))
    return number


def let_a_child_hog(mebibytes: int) -> int:
    code = f"import time; held = bytearray(b'x') * {mebibytes << 20}; time.sleep(60)"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def make(number: int) -> np.ndarray:
    return np.full(10 * MIB // 8, number, dtype=float)


def name_of_worker(_: int) -> str:
    from zcluster.distributed import get_worker

    return get_worker().name


@pytest.fixture
def client() -> Iterator[Client]:
    """Return a client of two workers that may have little."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=LIMIT) as cluster,
        Client(cluster) as made,
    ):
        made.wait_for_workers(2, 30)
        yield made


def metrics(client: Client) -> list[dict[str, Any]]:
    return [worker["metrics"] for worker in client.scheduler_info()["workers"].values()]


def pids(client: Client) -> set[int]:
    return {worker["pid"] for worker in client.scheduler_info()["workers"].values()}


# ------------------------------------------------------------------------------- too much


def test_a_task_that_takes_too_much_fails_of_that_and_costs_nobody_else_anything(
    client: Client,
) -> None:
    """Row 39: the error has the limit, the peak and the task; results made before are there."""
    kept = client.submit(make, 7)
    wait([kept])
    before = pids(client)
    greedy = client.submit(hog, 4000)
    others = [client.submit(hog, n) for n in range(8, 24)]
    with pytest.raises(OutOfMemory) as caught:
        greedy.result(60)
    assert isinstance(caught.value, WorkerKilledError)
    assert isinstance(caught.value, MemoryError)
    text = str(caught.value)
    assert "'hog'" in text
    assert "out of memory" in text
    assert "MiB of the 200 MiB it may have" in text
    assert "more than 95% of its memory limit of 200.00 MiB" in text
    assert [future.result(60) for future in others] == [n // 4 for n in range(8, 24)]
    assert kept.result(30)[0] == 7
    assert pids(client) != before


@pytest.mark.slow
def test_what_a_task_starts_counts_too(client: Client) -> None:
    with pytest.raises(OutOfMemory, match="let_a_child_hog"):
        client.submit(let_a_child_hog, 300).result(60)


# --------------------------------------------------------------------------------- paused


@pytest.mark.slow
def test_a_worker_with_much_gets_no_work_until_it_has_less(
    client: Client, tmp_path: Path, until: Until
) -> None:
    """What was queued behind it runs elsewhere, and everybody is told why."""
    release = tmp_path / "release"
    holding = client.submit(hold, 145, str(release))
    until(
        lambda: sorted(each["status"] for each in metrics(client)) == ["paused", "running"],
        30,
        "a paused worker",
    )
    (paused,) = (
        worker
        for worker in client.scheduler_info()["workers"].values()
        if worker["metrics"]["status"] == "paused"
    )
    assert "more than 80% of the 200.00 MiB it may have" in paused["metrics"]["reason"]
    names = {f.result(30) for f in client.map(name_of_worker, range(40), pure=False)}
    assert names == set(client.scheduler_info()["workers"]) - {paused["name"]}
    bound = client.submit(name_of_worker, 0, workers=[paused["name"]])
    until(lambda: "paused" in client.explain(bound), 30, "an explanation")
    assert not bound.done()
    release.touch()
    assert holding.result(30) == 1
    assert bound.result(30) == paused["name"]
    until(lambda: {each["status"] for each in metrics(client)} == {"running"}, 30, "all running")


def test_memory_is_told_by_kind_and_stays_under_the_limits(client: Client, until: Until) -> None:
    futures = client.map(make, range(12))
    wait(futures)
    # 120 MB of results, in somebody's account or on disk.
    until(
        lambda: (
            sum(m["managed"] for m in metrics(client)) + metrics(client)[0]["spilled"] >= 120 * MIB
        ),
        30,
        "managed memory",
    )
    for each in metrics(client):
        assert each["memory"] == each["managed"] + each["unmanaged"]
        assert 5 * MIB < each["unmanaged"] < LIMIT  # without what it maps of the store
        assert each["limit"] == LIMIT
    assert sum(each["memory"] for each in metrics(client)) <= 2 * LIMIT
    del futures
    until(lambda: sum(m["managed"] for m in metrics(client)) == 0, 30, "no managed memory")


# --------------------------------------------------------------------------------- leaked


@pytest.mark.slow
def test_workers_that_leak_are_replaced_between_tasks_and_nobody_is_blamed(
    client: Client,
) -> None:
    """Row 45: many tasks that lose memory end well, each in its first attempt."""
    before = pids(client)
    futures = client.map(leak, [1] * 400, range(400), pure=False)
    assert client.gather(futures) == list(range(400))
    assert pids(client).isdisjoint(before)


# ----------------------------------------------------------------------------- the system


@contextlib.contextmanager
def control_group(kind: str) -> Iterator[Path]:
    """Make a control group of the first version, if this machine lets us; it is removed."""
    folder = Path("/sys/fs/cgroup", kind, f"zc-test-{os.getpid()}")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield folder
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (folder.parent / "cgroup.procs").write_text(pid)
        deadline = time.monotonic() + 10
        while True:
            try:
                folder.rmdir()
                break
            except OSError:  # what has just ended is still in it
                assert time.monotonic() < deadline, f"{folder} cannot be removed"
                time.sleep(0.02)


_ENTER = """
import os, runpy, sys
open(sys.argv[1], "w").write(str(os.getpid()))
del sys.argv[1]
runpy.run_module("zcluster.cli.worker", run_name="__main__", alter_sys=True)
"""


def start_node_in(group: Path, commands: Commands, *options: str) -> None:
    """Start a node all of whose processes are in a control group."""
    commands.nodes["a"] = commands.start(
        *("-c", _ENTER, str(group / "cgroup.procs"), f"--scheduler-file={commands.file}"),
        *("--name=a", "--nworkers=1", "--nthreads=1", *options),
    )


@pytest.mark.slow
def test_a_kill_by_the_system_is_told_as_what_it_is(commands: Commands) -> None:
    """Row 7: in a control group that is full, the kernel kills the worker, not the nanny."""
    with control_group("memory") as group:
        (group / "memory.limit_in_bytes").write_text(str(160 * MIB))
        try:
            commands.start_scheduler()
            start_node_in(group, commands, "--memory-limit=0")
            with Client(scheduler_file=commands.file) as client:
                client.wait_for_workers(1, 30)
                with pytest.raises(OutOfMemory, match="the system ran short of it") as caught:
                    client.submit(hog, 1000).result(60)
                assert "'hog'" in str(caught.value)
                assert "was killed by SIGKILL" in str(caught.value)
                assert client.submit(hog, 8).result(30) == 2
            assert commands.nodes["a"].poll() is None
        finally:
            commands.close()


@contextlib.contextmanager
def no_more_processes(nanny: psutil.Process) -> Iterator[None]:
    """Have the system refuse another process to a nanny's template."""
    (template,) = nanny.children()
    if os.geteuid():
        before = template.rlimit(resource.RLIMIT_NPROC)
        template.rlimit(resource.RLIMIT_NPROC, (1, before[1]))
        yield
        template.rlimit(resource.RLIMIT_NPROC, before)
        return
    with control_group("pids") as group:  # no limit of processes holds for root
        (group / "cgroup.procs").write_text(str(template.pid))
        (group / "pids.max").write_text("1")
        yield
        (group / "pids.max").write_text("max")


@pytest.mark.slow
def test_a_node_that_cannot_start_a_worker_says_so_and_goes_on_trying(
    commands: Commands, until: Until
) -> None:
    """Row 55: the system refuses another process."""
    commands.start_scheduler()
    nanny = psutil.Process(commands.start_node("a"))
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(1, 30)
        (pid,) = pids(client)
        with no_more_processes(nanny):
            os.kill(pid, 9)
            future = client.submit(abs, -3)
            until(lambda: "the system refused another process" in client.explain(future), 30)
            assert "all workers are paused: a-0" in client.explain(future)
            assert not pids(client)
        assert future.result(60) == 3
        assert metrics(client)[0]["status"] == "running"


# --------------------------------------------------------------------------- backpressure


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_roots_are_not_made_faster_than_they_are_used_up() -> None:
    """A graph makes three times what the cluster may have: little of it is alive at a time.

    The benchmark says by which share of the memory that chunks may take the peak was above that
    of the idle cluster: 0.5 to 0.9 of what it may be, 1.0 where the machine is very busy.
    """
    script = Path(__file__).parents[2] / "benchmarks" / "backpressure.py"
    done = subprocess.run(
        [sys.executable, str(script), "--times", "3"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    print(done.stdout)
    found = re.findall(r"^(\w+) .*above idle ([\d.]+); on disk (.+);", done.stdout, re.MULTILINE)
    assert [(name, disk) for name, _, disk in found] == [("sums", "0 B"), ("pairs", "0 B")], (
        done.stderr
    )
    shares = {name: float(share) for name, share, _ in found}
    # Were roots made ahead of what takes them, it would be 10 and more.
    assert all(share <= 1.3 for share in shares.values()), shares


@pytest.mark.slow
def test_results_that_neither_memory_nor_disk_has_room_for_stall_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results alone would keep the worker paused: they can go nowhere."""
    monkeypatch.setenv("ZCLUSTER_WORKER__SPILL_LIMIT", str(20 * MIB))
    with Client(
        n_workers=1, threads_per_worker=2, memory_limit=100 * MIB, local_directory=tmp_path
    ) as client:
        futures = client.map(make, range(16), pure=False)
        wait(futures, timeout=90)
        failed = [future for future in futures if future.status == "error"]
        assert failed
        with pytest.raises(OutOfDisk, match="--local-directory"):
            failed[0].result(timeout=10)
        for number, future in enumerate(futures):
            if future.status == "finished":
                assert float(future.result(timeout=30)[0]) == number


def test_a_limit_below_what_a_bare_worker_has_is_an_error_and_not_a_storm() -> None:
    with Client(n_workers=1, threads_per_worker=1, memory_limit=4 * MIB) as client:
        # It is left alone as long as it runs nothing: to replace it would not help.
        pids = {_pid(client)}
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            pids.add(_pid(client))
        assert len(pids) == 1
        with pytest.raises(OutOfMemory, match="give workers more"):
            client.submit(time.sleep, 5).result(timeout=60)


def _pid(client: Client) -> int:
    return int(next(iter(client.scheduler_info()["workers"].values()))["pid"])
