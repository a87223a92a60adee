"""Executors and pools on a cluster of real processes."""

from __future__ import annotations

import concurrent.futures as standard
import operator
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.optimize import differential_evolution, rosen

from zcluster.distributed import Client, fire_and_forget
from zcluster.errors import WorkerKilledError

if TYPE_CHECKING:
    from tests.processes.conftest import Log

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=2, threads_per_worker=1) as made:
        yield made


def test_standard_code_runs_on_the_cluster(client: Client) -> None:
    with client.get_executor() as executor:
        assert executor._max_workers == 2
        futures = [executor.submit(pow, n, 2) for n in range(200)]
        assert sorted(f.result() for f in standard.as_completed(futures, 20)) == sorted(
            n * n for n in range(200)
        )
        pids = set(executor.map(lambda _: os.getpid(), range(100)))
        assert os.getpid() not in pids
        assert list(executor.map(operator.neg, range(1000), chunksize=50)) == [
            -n for n in range(1000)
        ]
        large = executor.submit(np.arange, 500_000)
        assert large.result(20)[-1] == 499_999


def test_a_call_inside_a_call_waits_without_a_slot(client: Client) -> None:
    def outer(n: int) -> int:
        from zcluster.distributed import get_client

        with get_client().get_executor() as executor:
            return sum(executor.map(abs, range(n)))

    with client.get_executor() as executor:
        assert list(executor.map(outer, [3, 4, 5])) == [3, 6, 10]


def test_a_killed_worker_is_an_exception_of_its_call_alone() -> None:
    with Client(n_workers=2, threads_per_worker=1) as client, client.get_executor() as executor:
        bad = executor.submit(os._exit, 3)
        good = [executor.submit(operator.neg, n) for n in range(10)]
        with pytest.raises(WorkerKilledError):
            bad.result(30)
        assert [future.result(20) for future in good] == [-n for n in range(10)]


def test_cancelled_calls_do_not_run(client: Client, log: Log) -> None:
    def work(path: str, after: Any) -> None:
        with open(path, "a") as file:
            file.write("ran\n")

    with client.get_executor() as executor:
        gate = client.submit(time.sleep, 0.3, pure=False)  # they need it, so none has begun
        open_ = [executor.submit(work, log.path, gate) for _ in range(50)]
        assert all(future.cancel() for future in open_)
        assert standard.wait(open_, 20).not_done == set()
        assert gate.result(20) is None
        assert executor.submit(operator.neg, 1).result(20) == -1
    assert log.lines() == []


def test_a_pool_is_what_scipy_takes_for_workers(client: Client) -> None:
    bounds: Any = [(0, 2)] * 3
    options: dict[str, Any] = {"updating": "deferred", "rng": 1, "maxiter": 3, "polish": False}
    with client.get_pool() as pool:
        found = differential_evolution(rosen, bounds, workers=pool.map, **options)
    alone = differential_evolution(rosen, bounds, workers=1, **options)
    assert found.fun == alone.fun
    assert found.x.tolist() == alone.x.tolist()


def test_what_is_forgotten_is_done(client: Client, log: Log) -> None:
    def work(path: str) -> None:
        time.sleep(0.05)
        with open(path, "a") as file:
            file.write("ran\n")

    fire_and_forget([client.submit(work, log.path, pure=False) for _ in range(3)])
    log.wait_lines(3)
