"""Dask's names of what tasks and clients share: locks, queues, variables, datasets, topics."""

from __future__ import annotations

import threading
from concurrent.futures import Future as LocalFuture
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import zcluster
from zcluster.distributed import (
    Client,
    Event,
    Future,
    Lock,
    MultiLock,
    Queue,
    Semaphore,
    Variable,
)

pytestmark = pytest.mark.processes


# ----------------------------------------------------------------------------------- locks


@pytest.mark.dask("Lock", "Lock.acquire", "Lock.release", "Lock.locked")
def test_lock(client: Client) -> None:
    lock = Lock("one-at-a-time")
    assert lock.acquire(timeout=5)
    assert lock.locked()
    assert not Lock("one-at-a-time").acquire(timeout=0.05)
    assert not Lock("one-at-a-time").acquire(blocking=False)
    lock.release()
    assert not lock.locked()


@pytest.mark.dask("Lock")
def test_lock_in_tasks(client: Client) -> None:
    def add_one(i: int) -> None:
        total = Variable("total")
        with Lock("total-lock"):
            total.set(total.get() + 1)

    Variable("total").set(0)
    client.gather(client.map(add_one, range(12)))
    assert Variable("total").get() == 12


@pytest.mark.dask("MultiLock", "MultiLock.acquire", "MultiLock.release")
def test_multi_lock(client: Client) -> None:
    with MultiLock(["a", "b"]):
        other = MultiLock(["b", "c"])
        assert not other.acquire(timeout=0.05)
    assert other.acquire(timeout=5)
    other.release()


@pytest.mark.dask(
    "Semaphore",
    "Semaphore.acquire",
    "Semaphore.release",
    "Semaphore.get_value",
    "Semaphore.close",
)
def test_semaphore(client: Client) -> None:
    semaphore = Semaphore(max_leases=2, name="two-seats")
    assert semaphore.get_value() == 0
    assert semaphore.acquire()
    with semaphore:
        assert semaphore.get_value() == 2
        assert not semaphore.acquire(timeout=0.05)
    assert semaphore.get_value() == 1
    semaphore.release()

    def use(i: int, seats: Semaphore) -> int:
        with seats:
            return seats.get_value()

    seats_taken = client.gather(client.map(use, range(8), seats=semaphore))
    assert all(1 <= taken <= 2 for taken in seats_taken)
    semaphore.close()


# ------------------------------------------------------------------------------------ event


@pytest.mark.dask("Event", "Event.wait", "Event.set", "Event.clear", "Event.is_set")
def test_event(client: Client) -> None:
    event = Event("start")
    assert not event.is_set()
    assert event.wait(timeout=0.05) is False
    waiting = client.submit(lambda name: Event(name).wait(timeout=20), "start")
    event.set()
    assert waiting.result(timeout=10) is True
    assert event.is_set()
    event.clear()
    assert not event.is_set()


# ------------------------------------------------------------------------- queue, variable


@pytest.mark.dask("Queue", "Queue.put", "Queue.get", "Queue.qsize", "Queue.close")
def test_queue(client: Client) -> None:
    queue = Queue("work", maxsize=3)
    queue.put(1)
    queue.put({"a": 2})
    future = client.submit(abs, -3)
    queue.put(future)
    assert queue.qsize() == 3
    from zcluster.distributed import TimeoutError

    with pytest.raises(TimeoutError):
        queue.put(4, timeout=0.05)
    assert queue.get() == 1
    assert queue.get(batch=True)[0] == {"a": 2}
    with pytest.raises(TimeoutError):
        queue.get(timeout=0.05)
    queue.close()


@pytest.mark.dask("Queue.put", "Queue.get")
def test_queue_between_tasks_and_client(client: Client) -> None:
    def double(_: int) -> None:
        value = Queue("there").get(timeout=10)
        Queue("back").put(value * 2)

    futures = client.map(double, range(3))
    for value in (1, 2, 3):
        Queue("there").put(value)
    assert sorted(Queue("back").get(timeout=10) for _ in range(3)) == [2, 4, 6]
    client.gather(futures)
    future = client.submit(abs, -7)
    Queue("futures").put(future)
    found = Queue("futures").get(timeout=5)
    assert isinstance(found, Future)
    assert found.result() == 7


@pytest.mark.dask("Variable", "Variable.set", "Variable.get", "Variable.delete")
def test_variable(client: Client) -> None:
    variable = Variable("x")
    variable.set(1)
    assert Variable("x").get() == 1
    future = client.submit(sum, [1, 2])
    variable.set(future)
    del future
    assert Variable("x").get().result() == 3
    from zcluster.distributed import TimeoutError

    with pytest.raises(TimeoutError):
        Variable("nobody sets it").get(timeout=0.05)
    variable.delete()
    with pytest.raises(TimeoutError):
        Variable("x").get(timeout=0.05)


# ---------------------------------------------------------------- datasets, metadata, topics


@pytest.mark.dask(
    "Client.publish_dataset",
    "publish_dataset(override=)",
    "Client.get_dataset",
    "Client.list_datasets",
    "Client.unpublish_dataset",
    "Client.datasets",
)
def test_datasets(client: Client) -> None:
    total = client.persist(zcluster.delayed(sum)([1, 2, 3]))
    client.publish_dataset(total=total)
    client.publish_dataset([1], name="pair")
    client.publish_dataset([1, 2], name="pair", override=True)
    assert set(client.list_datasets()) == {"total", "pair"}
    assert client.get_dataset("total").compute() == 6
    assert client.datasets["pair"] == [1, 2]
    with Client(client.cluster.scheduler_address, set_as_default=False) as other:
        assert other.get_dataset("pair") == [1, 2]
    client.unpublish_dataset("total")
    del client.datasets["pair"]
    assert not list(client.list_datasets())
    with pytest.raises(KeyError):
        client.get_dataset("pair")
    assert client.get_dataset("pair", default=5) == 5


@pytest.mark.dask("Client.set_metadata", "Client.get_metadata")
def test_metadata(client: Client) -> None:
    client.set_metadata("x", 1)
    client.set_metadata(["run", "name"], "first")
    assert client.get_metadata("x") == 1
    assert client.get_metadata(["run", "name"]) == "first"
    assert client.get_metadata(["run"]) == {"name": "first"}
    assert client.get_metadata("missing", default=None) is None
    with pytest.raises(KeyError):
        client.get_metadata("missing")


@pytest.mark.dask(
    "Client.log_event",
    "Client.get_events",
    "Client.subscribe_topic",
    "Client.unsubscribe_topic",
)
def test_topics(client: Client) -> None:
    heard: LocalFuture[Any] = LocalFuture()

    def hear(event: tuple[float, Any]) -> None:
        heard.set_result(event[1])

    client.subscribe_topic("steps", hear)
    client.submit(abs, -5).result()  # whatever was said before has been heard by now
    client.log_event("steps", {"step": 1})
    assert heard.result(timeout=10) == {"step": 1}
    client.unsubscribe_topic("steps")
    client.log_event("steps", {"step": 2})
    events = client.get_events("steps")
    assert [message for _, message in events] == [{"step": 1}, {"step": 2}]


def test_threads_share_what_they_use(client: Client) -> None:
    """Not a name of Dask's, but what its users do: the same objects from several threads."""
    seen: set[int] = set()
    lock = Lock("threads")

    def enter(_: int) -> None:
        with Lock("threads"):
            seen.add(threading.get_ident())

    assert lock.acquire(timeout=5)
    with ThreadPoolExecutor(3) as pool:
        tries = [pool.submit(enter, i) for i in range(3)]
        lock.release()
        for one in tries:
            one.result(timeout=10)
    assert seen
