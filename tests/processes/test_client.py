"""The client with a cluster of real processes."""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from zcluster.delayed import delayed
from zcluster.distributed import Client, LocalCluster, as_completed, wait
from zcluster.errors import SchedulerLost, StartError

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=2, threads_per_worker=1) as made:
        yield made


def test_calls_run_in_other_processes(client: Client) -> None:
    pids = set(client.gather([client.submit(os.getpid, pure=False) for _ in range(50)]))
    assert os.getpid() not in pids
    assert pids <= {w["pid"] for w in client.scheduler_info()["workers"].values()}


def test_five_thousand_calls(client: Client) -> None:
    futures = [client.submit(operator.neg, i, pure=False) for i in range(5000)]
    assert client.gather(futures) == [-i for i in range(5000)]
    assert client.gather(client.map(lambda x: x * 2, range(5000))) == [2 * i for i in range(5000)]


def test_a_chain_of_futures(client: Client) -> None:
    future = client.submit(operator.add, 0, 0)
    for _ in range(300):
        future = client.submit(operator.add, future, 1)
    assert future.result(20) == 300


def test_large_values_both_ways(client: Client) -> None:
    array = np.arange(1_000_000)
    future = client.submit(lambda x: x[::-1].copy(), array)
    back = future.result(20)
    assert np.array_equal(back, array[::-1])
    back[:] = 0
    assert future.result(20)[0] == 999_999
    scattered = client.scatter(array)
    assert client.submit(np.sum, scattered).result(20) == array.sum()
    assert client.who_has([future, scattered]).keys() == {future.key, scattered.key}


def test_errors_keep_type_traceback_and_place(client: Client) -> None:
    def fail(x: int) -> float:
        return 1 / x

    future = client.submit(fail, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        client.submit(operator.neg, future).result(20)
    with pytest.raises(ZeroDivisionError) as caught:
        future.result(20)
    assert any("on worker" in note for note in caught.value.__notes__)
    assert "fail" in [frame.name for frame in caught.traceback]


def test_waiting_and_completing(client: Client) -> None:
    futures = client.map(operator.neg, range(100))
    assert {future.result() for future in as_completed(futures)} == {-i for i in range(100)}
    assert wait(futures, timeout=20).not_done == set()


def test_graphs_and_collections(client: Client) -> None:
    dsk = {"a": 1, "b": (operator.add, "a", 10), "c": (sum, ["a", "b"])}
    assert client.get(dsk, ["b", "c"]) == [11, 12]
    lazy = [delayed(operator.neg)(i) for i in range(10)]
    assert client.gather(client.compute(lazy)) == [-i for i in range(10)]
    assert delayed(sum)(lazy).compute() == -45


def test_cancelled_work_is_not_waited_for(client: Client) -> None:
    blocker = client.map(time.sleep, [0.3, 0.3001])
    futures = [client.submit(operator.neg, i, pure=False) for i in range(10)]
    client.cancel(futures)
    assert all(future.cancelled() for future in futures)
    wait(blocker, timeout=20)
    assert client.submit(operator.neg, 5).result(20) == -5


def test_dropped_results_are_forgotten_by_the_scheduler(client: Client) -> None:
    futures = client.map(operator.neg, range(1000, 2000))
    client.gather(futures)
    del futures
    deadline = time.monotonic() + 30
    while client.statistics()["rows"] > 50 and time.monotonic() < deadline:
        client.submit(operator.neg, 1).result(20)
    assert client.statistics()["rows"] <= 50


def test_closing_is_quick_and_leaves_nothing() -> None:
    client = Client(n_workers=1, threads_per_worker=1)
    assert client.submit(operator.neg, 1).result(20) == -1
    pids = client.cluster.pids
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 5  # about 0.1 s where nothing else runs
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
def test_a_killed_scheduler_is_an_error_within_seconds() -> None:
    with Client(n_workers=1, threads_per_worker=1) as client:
        future = client.submit(time.sleep, 60)
        os.kill(client.cluster.pids[0], signal.SIGKILL)
        with pytest.raises(SchedulerLost):
            future.result(10)


def test_a_scheduler_file_leads_to_the_cluster(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    with pytest.raises(StartError, match="scheduler file"):
        Client(scheduler_file=path, timeout=0.05)
    with (
        LocalCluster(1, 1, scheduler_file=path) as cluster,
        Client(scheduler_file=path) as first,
        Client(cluster) as second,
    ):
        assert first.submit(operator.neg, 1).result(20) == -1
        assert second.submit(operator.neg, 2).result(20) == -2


@pytest.mark.slow
def test_a_script_that_never_closes_ends_by_itself() -> None:
    code = (
        "from zcluster.distributed import Client\n"
        "client = Client(n_workers=1, threads_per_worker=1)\n"
        "futures = client.map(abs, range(-100, 0))\n"
        "pending = client.submit(__import__('time').sleep, 60)\n"
        "print(sum(client.gather(futures)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "5050\n", "")


def test_a_cancelled_task_that_runs_on_holds_up_nobody() -> None:
    """Its slot counts as taken until it ends; what comes after goes to the other one."""
    with Client(n_workers=2, threads_per_worker=1) as client:
        client.wait_for_workers(2, timeout=20)
        started = client.submit(os.getpid, pure=False).result(10)
        assert started > 0
        sleeper = client.submit(time.sleep, 30, pure=False)
        while "assigned" not in client.explain(sleeper):
            pass
        client.cancel([sleeper])
        futures = [client.submit(abs, -number, pure=False) for number in range(6)]
        assert [future.result(10) for future in futures] == list(range(6))


def slow(path: str) -> None:
    """Say that it runs, and wait to be let go."""
    Path(path, "runs").touch()
    while not Path(path, "go").exists():
        time.sleep(0.005)


def test_what_can_be_asked_while_tasks_run(client: Client, tmp_path: Path) -> None:
    kept = client.submit(np.ones, 100_000)
    running = client.submit(slow, str(tmp_path), workers="local-1", pure=False)
    kept.result(20)
    while not (tmp_path / "runs").exists():
        pass
    try:
        # It says that it runs a moment before it sleeps.
        while "time.sleep(0.005)" not in "".join(
            (stacks := client.call_stack(running)).get("local-1", {}).get(running.key, [])
        ):
            pass
        assert list(stacks) == ["local-1"]
        assert client.call_stack(keys=running.key).keys() == {"local-1"}
        assert running.key in client.call_stack()["local-1"]
        assert client.call_stack(kept) == {}  # it runs no more
        assert running.key in client.processing()["local"]
        assert kept.key in client.has_what("local-0")["local"]
        assert client.nbytes(kept) == {"ones": client.nbytes()["ones"]}
        assert client.nbytes([kept], summary=False)[kept.key] > 800_000
        assert client.ncores() == {"local-0": 1, "local-1": 1}
    finally:
        (tmp_path / "go").touch()
    running.result(20)


def test_versions_agree_on_one_machine(client: Client) -> None:
    versions = client.get_versions(check=True, packages=["no-such-package"])
    assert set(versions["workers"]) == {"local-0", "local-1"}
    mine = versions["client"]["packages"]
    assert versions["workers"]["local-0"]["packages"] == mine
    assert mine["python"] == versions["scheduler"]["packages"]["python"]
    assert mine["no-such-package"] is None


@pytest.mark.slow
def test_workers_have_their_resources_and_a_killed_nanny_s_are_not_counted() -> None:
    with LocalCluster(1, 1, resources={"GPU": 2, "disk": 0.5}) as cluster:
        cluster.scale(1)
        with pytest.raises(NotImplementedError, match="asked for 5"):
            cluster.scale(5)
        with cluster.get_client() as client:
            client.wait_for_workers(1, timeout=20)
            worker = client.scheduler_info()["workers"]["local-0"]
            assert worker["resources"] == {"GPU": 2.0, "disk": 0.5}
            assert Path(worker["local_directory"]).is_dir()
            os.kill(cluster.pids[1], signal.SIGKILL)
            began = time.monotonic()
            while client.scheduler_info()["workers"]:
                assert time.monotonic() - began < 15
            client.wait_for_workers(1, timeout=20)  # another one was started
            assert client.submit(operator.neg, 1).result(20) == -1
