"""Dask's names of what a cluster can be asked, and how it shows itself."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zcluster
from zcluster.distributed import Client, Event, LocalCluster, Status, wait

pytestmark = pytest.mark.processes


def inc(x: int) -> int:
    return x + 1


def wait_for(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


# --------------------------------------------------------------------------- the cluster


@pytest.mark.dask("Client.scheduler_info", "Client(n_workers=, threads_per_worker=, memory_limit=)")
def test_scheduler_info(client: Client) -> None:
    info = client.scheduler_info()
    assert info["type"] == "Scheduler"
    assert info["address"] == client.cluster.scheduler_address
    assert info["started"] < time.time()
    assert len(info["workers"]) == 2
    for worker in info["workers"].values():
        assert worker["type"] == "Worker"
        assert worker["nthreads"] == 2
        assert worker["memory_limit"] == 500_000_000
        assert worker["resources"] == {}
        assert {"id", "host", "name", "nanny", "local_directory", "services"} <= worker.keys()
    wait_for(
        lambda: all(
            worker["metrics"]["memory"] > 0
            for worker in client.scheduler_info()["workers"].values()
        )
    )


@pytest.mark.dask("Client.nthreads", "Client.ncores")
def test_nthreads(client: Client) -> None:
    workers = list(client.scheduler_info()["workers"])
    assert client.nthreads() == dict.fromkeys(workers, 2)
    assert client.ncores() == client.nthreads()
    assert client.nthreads(workers[:1]) == {workers[0]: 2}


@pytest.mark.dask("Client.__repr__", "Client._repr_html_")
def test_how_a_client_shows_itself(client: Client) -> None:
    text = repr(client)
    assert client.cluster.scheduler_address in text
    assert "processes=2 threads=4, memory=0.93 GiB" in text
    html = client._repr_html_()
    for word in ("Connection method", "Cluster type", "Cluster Info", "Total threads"):
        assert word in html


@pytest.mark.dask("LocalCluster.__repr__", "LocalCluster._repr_html_", "LocalCluster.name")
def test_how_a_cluster_shows_itself(client: Client) -> None:
    cluster = client.cluster
    assert cluster.scheduler_address in repr(cluster)
    for figure in ("=2", "threads=4", "memory=0.93 GiB"):
        assert figure in repr(cluster)
    assert cluster.name
    assert "Total memory" in cluster._repr_html_()


# ----------------------------------------------------------------------------- the data


@pytest.mark.dask("Client.who_has", "Client.has_what")
def test_where_results_are(client: Client) -> None:
    futures = client.map(np.arange, [10_000, 10_001])
    wait(futures)
    places = client.who_has(futures)
    assert set(places) == {future.key for future in futures}
    assert all(len(place) == 1 for place in places.values())
    there = client.has_what()
    for future in futures:
        (place,) = places[future.key]
        assert future.key in there[place]


@pytest.mark.dask("Client.nbytes")
def test_nbytes(client: Client) -> None:
    future = client.submit(np.arange, 20_000, key="range-20000")
    wait(future)
    size = client.nbytes(["range-20000"], summary=False)["range-20000"]
    assert 160_000 <= size < 170_000


@pytest.mark.dask("Client.replicate", "Client.rebalance")
def test_copies(client: Client) -> None:
    future = client.submit(np.arange, 30_000)
    wait(future)
    client.replicate([future])
    (places,) = client.who_has([future]).values()
    assert len(places) == len(client.has_what())
    client.replicate([future], n=1)
    client.rebalance([future])
    assert len(future.result()) == 30_000


# ---------------------------------------------------------------------------- the tasks


def stand_still(gate: Event) -> bool:
    return gate.wait()


@pytest.mark.dask("Client.processing", "Client.call_stack")
def test_what_runs(client: Client) -> None:
    gate = Event("still-gate")
    future = client.submit(stand_still, gate, key="stand-still")
    wait_for(lambda: any("stand-still" in str(keys) for keys in client.processing().values()))
    wait_for(lambda: "stand_still" in str(client.call_stack([future])))
    gate.set()
    assert future.result(timeout=10)


@pytest.mark.dask("Client.recreate_error_locally", "Client.recreate_task_locally")
def test_recreate(client: Client) -> None:
    def invert(x: float) -> float:
        return 1 / x

    future = client.submit(invert, 0)
    with pytest.raises(ZeroDivisionError):
        client.recreate_error_locally(future)
    assert client.recreate_task_locally(client.submit(invert, 4)) == 0.25


# ----------------------------------------------------------------------------- clusters


@pytest.mark.dask(
    "distributed.LocalCluster",
    "LocalCluster(n_workers=, threads_per_worker=, memory_limit=)",
    "LocalCluster(name=)",
    "LocalCluster.scheduler_address",
    "LocalCluster.close",
    "LocalCluster.status",
    "Client(cluster)",
    "Client(address)",
    "Client(name=)",
    "Client(set_as_default=)",
)
def test_local_cluster() -> None:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, memory_limit="400MB", name="small"
        ) as cluster,
        Client(cluster, set_as_default=False) as first,
        Client(cluster.scheduler_address, name="second", timeout=10) as second,
    ):
        first.wait_for_workers(1, timeout=20)
        (worker,) = first.scheduler_info()["workers"].values()
        assert (worker["nthreads"], worker["memory_limit"]) == (2, 400_000_000)
        assert zcluster.distributed.default_client() is second
        assert cluster.name == "small"
        future = first.submit(inc, 1, key="shared")
        assert future.result() == 2
        assert first.cluster is cluster
        assert "second" in getattr(second, "name", getattr(second, "id", ""))
    assert "closed" in str(cluster.status)


@pytest.mark.dask("LocalCluster.get_client")
def test_a_client_of_a_cluster() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster, cluster.get_client() as own:
        assert own.submit(inc, 1).result() == 2


@pytest.mark.dask("LocalCluster(processes=False)", "Client(processes=False)")
def test_clusters_of_threads() -> None:
    import os

    with Client(processes=False, n_workers=1, threads_per_worker=2, set_as_default=False) as own:
        assert own.submit(os.getpid).result() == os.getpid()
    with (
        LocalCluster(processes=False, n_workers=1, threads_per_worker=1) as cluster,
        Client(cluster, set_as_default=False) as own,
    ):
        assert own.submit(os.getpid).result() == os.getpid()


@pytest.mark.dask(
    "LocalCluster(resources=)",
    "submit(resources=)",
    "annotate(resources=)",
)
def test_resources() -> None:
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=4,
            resources={"SEAT": 1},
        ) as cluster,
        Client(cluster, set_as_default=False) as own,
    ):
        times = own.gather(own.map(spell, range(4), resources={"SEAT": 1}, pure=False))
        with zcluster.annotate(resources={"SEAT": 1}):
            lazy = [zcluster.delayed(spell)(i) for i in range(4)]
        times += own.gather(own.compute(lazy))
        times.sort()
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


def spell(_: int) -> tuple[float, float]:
    """Return when this call began and ended; it lasts long enough for others to meet it."""
    start = time.monotonic()
    while time.monotonic() < start + 0.005:
        pass
    return start, time.monotonic()


@pytest.mark.dask("Client.write_scheduler_file")
def test_write_scheduler_file(client: Client, tmp_path: Path) -> None:
    client.write_scheduler_file(str(tmp_path / "scheduler.json"))
    with Client(scheduler_file=str(tmp_path / "scheduler.json"), set_as_default=False) as other:
        assert other.submit(inc, 1).result() == 2


@pytest.mark.dask("Client.story")
def test_story(client: Client) -> None:
    future = client.submit(inc, 7, key="told")
    future.result()
    assert len(client.story("told")) > 1
    assert list(client.story("told")) == list(client.story(future))


@pytest.mark.dask("LocalCluster.wait_for_workers", "LocalCluster.scheduler_info")
def test_a_cluster_waits_for_its_workers() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster:
        cluster.wait_for_workers(1)
        assert len(cluster.scheduler_info["workers"]) == 1


@pytest.mark.dask("Client.shutdown")
def test_shutdown() -> None:
    cluster = LocalCluster(n_workers=1, threads_per_worker=1)
    own = Client(cluster, set_as_default=False)
    own.shutdown()
    assert "closed" in str(own.status)
    assert "closed" in str(cluster.status)


@pytest.mark.dask("LocalCluster.workers", "LocalCluster.dashboard_link", "Client.dashboard_link")
def test_what_scripts_print_of_a_cluster(client: Client) -> None:
    assert len(client.cluster.workers) == 2
    assert str(client.dashboard_link) == str(client.cluster.dashboard_link)


@pytest.mark.dask("Client.scheduler", "Client.id")
def test_what_scripts_print_of_a_client(client: Client) -> None:
    assert client.scheduler.address == client.cluster.scheduler_address
    assert isinstance(client.id, str)


@pytest.mark.dask(
    "LocalCluster(host=)",
    "LocalCluster(scheduler_port=)",
    "LocalCluster(protocol=)",
    "LocalCluster(env=)",
    "LocalCluster(death_timeout=)",
    "LocalCluster(security=None, interface=None, loop=None, asynchronous=False)",
    "LocalCluster(dashboard_address=)",
    "LocalCluster(silence_logs=)",
    "Client(security=None, direct_to_workers=, heartbeat_interval=)",
    "distributed.Status",
)
def test_keywords_that_scripts_pass() -> None:
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            host="127.0.0.1",
            scheduler_port=0,
            protocol="tcp",
            interface=None,
            security=None,
            asynchronous=False,
            loop=None,
            preload=[],
            death_timeout="20s",
            dashboard_address=None,
            silence_logs=False,
            env={"OF_THE_WORKERS": "yes"},
        ) as cluster,
        Client(
            cluster,
            set_as_default=False,
            security=None,
            direct_to_workers=True,
            heartbeat_interval=5000,
        ) as own,
    ):
        assert cluster.status == Status.running
        assert own.submit(os.getenv, "OF_THE_WORKERS").result(timeout=20) == "yes"
    assert "OF_THE_WORKERS" not in os.environ
