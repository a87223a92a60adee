"""Locks, queues and data shared by tasks in several processes, and by clients that die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zcluster.client.client import Client, get_client
from zcluster.client.cluster import LocalCluster
from zcluster.client.locks import Event, Lock, MultiLock, Semaphore
from zcluster.client.queues import Queue, Variable

if TYPE_CHECKING:
    from tests.processes.conftest import Log

pytestmark = pytest.mark.processes

Until = Callable[..., None]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=2) as made:
        yield made


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as made:
        made.wait_for_workers(2, 20)
        yield made


@pytest.fixture(scope="module")
def other(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, set_as_default=False) as made:
        yield made


def add_line(path: str, rounds: int) -> None:
    """Read, and write one more: wrong unless nobody else does so meanwhile."""
    for _ in range(rounds):
        with Lock(path):
            with open(path) as file:
                count = int(file.read() or 0)
            with open(path, "w") as file:
                file.write(str(count + 1))


def test_tasks_in_several_processes_take_turns(client: Client, log: Log) -> None:
    client.gather([client.submit(add_line, log.path, 25, pure=False) for _ in range(4)])
    assert log.lines() == ["100"]


def test_a_lock_travels_among_arguments(client: Client) -> None:
    lock = Lock("argument")

    def use(given: Lock) -> bool:
        return given.acquire(timeout=0.05)

    with lock:
        assert client.submit(use, lock, pure=False).result(20) is False


def swap(first: str, second: str) -> str:
    for _ in range(20):
        with MultiLock([first, second]):
            pass
    return first


def test_multilocks_in_any_order_do_not_wait_for_each_other(client: Client) -> None:
    names = [("left", "right"), ("right", "left")] * 2
    futures = [client.submit(swap, *pair, pure=False) for pair in names]
    assert client.gather(futures) == [first for first, _ in names]


def inside(name: str, path: str) -> int:
    with Semaphore(2, name) as semaphore:
        found = semaphore.get_value()
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, f"{found}\n".encode())
        os.close(fd)
        return found


def test_a_semaphore_lets_so_many_in(client: Client, log: Log) -> None:
    found = client.gather(client.map(inside, ["s"] * 12, [log.path] * 12, pure=False))
    assert len(log.lines()) == 12
    assert set(found) <= {1, 2}


# ----------------------------------------------------------------------------- waiting


def test_tasks_that_wait_for_each_other_give_up_their_slots(client: Client) -> None:
    """More of them than there are slots: the one that sets the event is queued behind."""

    def wait_for(name: str) -> bool:
        return Event(name).wait(20)

    def let_go(name: str) -> None:
        Event(name).set()

    waiting = client.map(wait_for, ["go"] * 6, pure=False)
    client.submit(let_go, "go", pure=False).result(20)
    assert client.gather(waiting) == [True] * 6


# ------------------------------------------------------------------------------ values


def test_futures_travel_through_queues_between_tasks_and_clients(
    client: Client, other: Client
) -> None:
    def produce(name: str) -> None:
        queue = Queue(name)
        me = get_client()
        for number in range(5):
            queue.put((number, me.submit(np.full, 20_000, number)))

    # Its client lives on in the worker, its futures do not: the queue keeps the results.
    client.submit(produce, "futures", pure=False).result(20)
    queue = Queue("futures", client=other)
    for number in range(5):
        place, future = queue.get(timeout=20)
        assert place == number
        assert (future.result(20) == number).all()
    assert queue.qsize() == 0


def test_what_was_released_everywhere_else_lives_in_a_variable(
    client: Client, other: Client, until: Until
) -> None:
    future = client.submit(np.arange, 50_000)
    key = future.key
    variable = Variable("kept", client=client)
    variable.set({"array": future})
    future.result(20)
    del future
    # The release has arrived when a question that was put after it is answered.
    until(lambda: key not in client.who_has())
    got = Variable("kept", client=other).get(timeout=10)["array"]
    variable.delete()
    assert (got.result(20) == np.arange(50_000)).all()


def test_published_data_outlive_the_client(cluster: LocalCluster, client: Client) -> None:
    with Client(cluster, set_as_default=False) as publisher:
        publisher.publish_dataset(large=publisher.submit(np.ones, 100_000), small=[1, 2])
    future = client.get_dataset("large")
    assert future.client is client
    assert future.result(20).sum() == 100_000
    assert client.datasets["small"] == [1, 2]

    def total() -> float:
        return float(get_client().get_dataset("large").result().sum())

    assert client.submit(total, pure=False).result(20) == 100_000.0
    for name in ("large", "small"):
        client.unpublish_dataset(name)


def test_what_tasks_log_is_heard(client: Client) -> None:
    def work(number: int) -> None:
        get_client().log_event("progress", {"done": number})

    client.gather(client.map(work, range(4), pure=False))
    assert sorted(event["done"] for _, event in client.get_events("progress")) == [0, 1, 2, 3]


# ------------------------------------------------------------------------------- deaths


@pytest.fixture
def mortal() -> Iterator[Client]:
    """Return a client of a cluster whose workers may be killed."""
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as made:
        made.wait_for_workers(2, 20)
        yield made


def hold_or_go(name: str, path: str) -> str:
    with open(path, "r+") as file:
        if file.read():
            return "it ran before"
        Lock(name).acquire()
        file.write(f"{os.getpid()}\n")
    time.sleep(60)
    return "it was not killed"


def take(name: str) -> float:
    with Lock(name):
        return time.monotonic()


def test_a_lock_of_a_killed_worker_is_free_at_once(mortal: Client, log: Log) -> None:
    one, another = mortal.nthreads()
    holder = mortal.submit(hold_or_go, "x", log.path, workers=one, pure=False)
    log.wait_lines(1)
    waiting = mortal.submit(take, "x", workers=another, pure=False)
    assert not Lock("x", client=mortal).acquire(timeout=0.1)
    killed = time.monotonic()
    os.kill(int(log.lines()[0]), signal.SIGKILL)
    assert waiting.result(20) - killed < 2
    assert holder.result(20) == "it ran before"


def test_a_client_that_closes_frees_its_lock(cluster: LocalCluster, client: Client) -> None:
    leaving = Client(cluster, set_as_default=False)
    Lock("left behind", client=leaving).acquire()
    waiting = client.submit(take, "left behind", pure=False)
    assert not Lock("left behind", client=client).acquire(timeout=0.05)
    closed = time.monotonic()
    leaving.close()
    assert waiting.result(20) - closed < 2


def test_a_worker_that_dies_takes_its_doubts_along(mortal: Client) -> None:
    """A task that waited for an item and was killed does not swallow the item."""

    def wait_item(name: str, variable: str) -> Any:
        Variable(variable).set(os.getpid())
        return Queue(name).get(timeout=60)

    first = mortal.submit(wait_item, "items", "pid", pure=False)
    os.kill(Variable("pid", client=mortal).get(20), signal.SIGKILL)
    Variable("pid", client=mortal).delete()
    # It is run again, elsewhere or anew.
    Variable("pid", client=mortal).get(20)
    Queue("items", client=mortal).put("the item")
    assert first.result(20) == "the item"
