"""Tasks about tasks: they submit, wait, and never stand in their own way."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zcluster.distributed import Client, get_client, rejoin, secede, worker_client
from zcluster.errors import InvalidArgument, NoWorkers


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster with one slot: whatever waits in it stands in everybody's way."""
    with Client(n_workers=1, threads_per_worker=1, set_as_default=False) as client:
        yield client


def fibonacci(n: int) -> int:
    if n < 2:
        return n
    client = get_client()
    one, two = client.map(fibonacci, [n - 1, n - 2], pure=False)
    return int(one.result()) + int(two.result())


def with_worker_client(n: int) -> int:
    if n < 2:
        return n
    with worker_client() as client:
        return sum(client.gather(client.map(with_worker_client, [n - 1, n - 2], pure=False)))


def child(value: int) -> int:
    return value + 1


def parent(value: int) -> int:
    return int(get_client().submit(child, value, pure=False).result())


async def awaiting_parent(value: int) -> int:
    futures = get_client().map(child, [value, value + 1], pure=False)
    return sum(await asyncio.gather(*futures))


def wide_parent(value: int) -> int:
    return int(get_client().submit(child, value, threads=2, pure=False).result())


@pytest.mark.parametrize("function", [fibonacci, with_worker_client])
def test_a_recursion_runs_in_one_slot(client: Client, function: Any) -> None:
    assert client.submit(function, 9, pure=False).result(60) == 34


def inner(number: int) -> int:
    return number


def add_inner(total: int, number: int) -> int:
    return total + int(get_client().submit(inner, number).result())


def test_a_chain_whose_tasks_wait_does_not_wait_for_itself(client: Client) -> None:
    total: Any = 0
    for number in range(30):
        total = client.submit(add_inner, total, number)
    assert total.result(30) == sum(range(30))


def test_all_slots_wait_and_nothing_hangs(client: Client) -> None:
    futures = client.map(parent, range(200), pure=False)
    assert client.gather(futures) == list(range(1, 201))


def test_tasks_of_several_threads_wait_and_nothing_hangs() -> None:
    with Client(n_workers=1, threads_per_worker=2, set_as_default=False) as client:
        futures = client.map(wide_parent, range(20), threads=2, pure=False)
        assert client.gather(futures) == list(range(1, 21))


def test_coroutines_of_tasks_wait_and_nothing_hangs(client: Client) -> None:
    futures = client.map(awaiting_parent, range(20), pure=False)
    assert client.gather(futures) == [2 * value + 3 for value in range(20)]


def test_threads_that_stood_in_are_gone_afterwards(client: Client) -> None:
    client.gather(client.map(parent, range(20), pure=False))
    deadline = time.monotonic() + 20
    while client.submit(threading.active_count, pure=False).result(20) > 8:
        assert time.monotonic() < deadline, "the threads stay"


def leaves_its_slot(folder: str) -> str:
    secede()
    path = Path(folder)
    (path / "away").touch()
    while not (path / "go on").exists():
        time.sleep(0.005)
    rejoin()
    return "back"


def test_secede_lets_others_run(client: Client, tmp_path: Path) -> None:
    away = client.submit(leaves_its_slot, str(tmp_path), pure=False)
    assert client.submit(abs, -1, pure=False).result(20) == 1
    (tmp_path / "go on").touch()
    assert away.result(20) == "back"
    # One slot again: the next two run one after the other.
    assert client.gather(client.map(abs, [-1, -2], pure=False)) == [1, 2]


def fails_while_away() -> None:
    secede()
    raise ValueError("away")


def test_a_task_that_fails_while_away_is_like_any_other(client: Client) -> None:
    with pytest.raises(ValueError, match="away"):
        client.submit(fails_while_away, pure=False).result(20)
    assert client.submit(parent, 1, pure=False).result(20) == 2


def dies_with_its_child() -> int:
    return int(get_client().submit(os._exit, 3, pure=False).result())


def test_a_child_that_kills_the_worker_takes_its_parent_along(client: Client) -> None:
    """Both ran there; both are tried again, and then the error names the cause."""
    with pytest.raises(Exception, match=r"status 3|died|killed"):
        client.submit(dies_with_its_child, pure=False).result(60)
    assert client.submit(abs, -4, pure=False).result(30) == 4


@pytest.mark.parametrize("function", [secede, rejoin, worker_client])
def test_outside_of_a_task_they_say_so(function: Any) -> None:
    enter = function if function is not worker_client else worker_client().__enter__
    with pytest.raises(InvalidArgument, match="outside of a task"):
        enter()


@pytest.mark.slow
def test_a_task_that_nobody_can_run_fails_where_that_was_asked_for(client: Client) -> None:
    from zcluster import config

    with config.set({"client.unrunnable": "raise"}):
        begun = time.monotonic()
        future = client.submit(abs, -1, resources={"GPU": 1}, pure=False)
        with pytest.raises(NoWorkers, match="GPU=1"):
            future.result(20)
        assert time.monotonic() - begun < 10
    assert client.submit(abs, -1, pure=False).result(20) == 1


def test_a_task_that_nobody_can_run_is_spoken_of(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    future = client.submit(abs, -1, resources={"FPGA": 2}, pure=False)
    deadline = time.monotonic() + 20
    while "FPGA=2" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "FPGA=2" in client.explain(future)
    future.cancel()


def blas_threads() -> tuple[str | None, set[int]]:
    import numpy as np
    from threadpoolctl import threadpool_info

    np.dot(np.ones((4, 4)), np.ones((4, 4)))
    found = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    return os.environ.get("OMP_NUM_THREADS"), found


@pytest.mark.slow
def test_a_task_of_several_threads_computes_with_so_many() -> None:
    with Client(n_workers=1, threads_per_worker=2, set_as_default=False) as client:
        assert client.submit(blas_threads, pure=False).result(30) == ("1", {1})
        assert client.submit(blas_threads, threads=2, pure=False).result(30) == ("2", {2})
        assert client.submit(blas_threads, pure=False).result(30) == ("1", {1})
