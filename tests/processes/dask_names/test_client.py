"""Dask's names of the client: making one, submitting, gathering, scattering, computing."""

from __future__ import annotations

import operator
import os
import time
import uuid
from concurrent.futures import CancelledError, Executor
from pathlib import Path
from typing import Any

import pytest

import zcluster
from zcluster.distributed import (
    Client,
    Event,
    Future,
    LocalCluster,
    default_client,
    get_worker,
)
from zcluster.errors import StartError

pytestmark = pytest.mark.processes


def inc(x: int) -> int:
    return x + 1


def started(_: object, number: int) -> tuple[int, int]:
    return time.perf_counter_ns(), number


def worker_name() -> Any:
    return get_worker().name


# --------------------------------------------------------------------------- submit and map


@pytest.mark.dask("Client.submit", "Future.result", "distributed.Client", "Client()")
def test_submit(client: Client) -> None:
    future = client.submit(inc, 1)
    assert future.result() == 2
    assert client.submit(operator.add, future, y := future).result() == 4
    assert y is future


@pytest.mark.dask("submit(key=)", "Future.key")
def test_submit_with_a_key(client: Client) -> None:
    future = client.submit(inc, 10, key="ten-and-one")
    assert future.key == "ten-and-one"
    assert future.result() == 11


@pytest.mark.dask("submit(pure=)")
def test_pure_calls_are_one_task(client: Client) -> None:
    assert client.submit(inc, 5).key == client.submit(inc, 5).key
    one, other = (client.submit(uuid.uuid4, pure=False) for _ in range(2))
    assert one.result() != other.result()


@pytest.mark.dask("submit(workers=)")
def test_submit_to_a_worker(client: Client) -> None:
    address = sorted(client.scheduler_info()["workers"])[1]
    name = client.scheduler_info()["workers"][address]["name"]
    found = {
        client.submit(worker_name, workers=place, pure=False).result()
        for place in (address, [address], {address})
    }
    assert found == {name}


def grow_to(path: str, size: int) -> int:
    with open(path, "a") as file:
        file.write("x")
    found = os.path.getsize(path)
    if found < size:
        raise OSError(f"only {found}")
    return found


@pytest.mark.dask("submit(retries=)", "annotate(retries=)")
def test_retries(client: Client, tmp_path: Path) -> None:
    assert client.submit(grow_to, str(tmp_path / "a"), 3, retries=2).result() == 3
    with zcluster.annotate(retries=2):
        lazy = zcluster.delayed(grow_to)(str(tmp_path / "c"), 3)
    assert client.compute(lazy).result() == 3


@pytest.mark.dask("Future.retry")
def test_retry(client: Client, tmp_path: Path) -> None:
    future = client.submit(grow_to, str(tmp_path / "retried"), 2)
    with pytest.raises(OSError, match="only 1"):
        future.result()
    future.retry()
    assert future.result() == 2


@pytest.mark.dask("submit(priority=)", "annotate(priority=)")
def test_priority(client: Client) -> None:
    # All become ready at one moment, when what they take is there.
    (place, other) = client.scheduler_info()["workers"]
    gate = Event("priority-gate")
    held = client.submit(Event.wait, gate, workers=place, pure=False)
    low = [client.submit(started, held, i, workers=place, priority=-1) for i in range(20)]
    high = [client.submit(started, held, -i, workers=place, priority=1) for i in range(1, 11)]
    with zcluster.annotate(priority=1, workers=[place]):
        high += client.compute([zcluster.delayed(started)(held, -i) for i in range(11, 21)])
    client.submit(inc, 900, workers=other).result()  # by now all of them have been heard of
    gate.set()
    order = sorted(client.gather(low + high))
    # Two threads take turns, so a few may change places.
    assert sum(number < 0 for _, number in order[:20]) >= 18


@pytest.mark.dask("submit(fifo_timeout=)")
def test_fifo_timeout_is_accepted(client: Client) -> None:
    assert client.submit(inc, 70, fifo_timeout="1s").result() == 71


@pytest.mark.dask("Client.map", "Client.gather")
def test_map_and_gather(client: Client) -> None:
    futures = client.map(operator.add, range(5), range(10, 15))
    assert all(isinstance(future, Future) for future in futures)
    assert client.gather(futures) == [10, 12, 14, 16, 18]
    assert client.gather({"a": futures[0], "b": [futures[1]]}) == {"a": 10, "b": [12]}
    assert client.gather(futures[2]) == 14


@pytest.mark.dask("map(key=)", "map(f, xs, y=1)")
def test_map_with_keys_and_keywords(client: Client) -> None:
    assert client.gather(client.map(pow, [2, 3], [3, 3], mod=client.submit(inc, 4))) == [3, 2]
    assert [future.key for future in client.map(inc, [1, 2], key=["m-1", "m-2"])] == ["m-1", "m-2"]
    assert client.map(inc, [1, 2], key="named")[0].key.startswith("named-")


@pytest.mark.dask("map(batch_size=)")
def test_map_in_batches(client: Client) -> None:
    futures = client.map(inc, range(100), batch_size=30)
    assert client.gather(futures) == list(range(1, 101))


@pytest.mark.dask("gather(errors='skip')", "gather(direct=)")
def test_gather_around_errors(client: Client) -> None:
    good, bad = client.submit(inc, 1), client.submit(operator.truediv, 1, 0)
    assert client.gather([good, bad, good], errors="skip") == [2, 2]
    assert client.gather([good], direct=True) == [2]
    with pytest.raises(ZeroDivisionError):
        client.gather([good, bad])


@pytest.mark.dask("Client.scatter", "scatter(broadcast=)", "scatter(hash=)")
def test_scatter(client: Client) -> None:
    future = client.scatter([1, 2, 3])
    assert isinstance(future, list)
    assert client.gather(future) == [1, 2, 3]
    whole = client.scatter({"a": 1, "b": 2})
    assert client.submit(inc, whole["b"]).result() == 3
    table = client.scatter((1, 2), broadcast=True)
    assert client.submit(sum, list(table)).result() == 3
    same = [client.scatter("text").key for _ in range(2)]
    assert same[0] == same[1]
    other = [client.scatter("text", hash=False).key for _ in range(2)]
    assert other[0] != other[1]


@pytest.mark.dask("scatter(workers=)")
def test_scatter_to_a_worker(client: Client) -> None:
    place = sorted(client.scheduler_info()["workers"])[1]
    (future,) = client.scatter([70_000], workers=[place])
    assert client.submit(inc, future).result() == 70_001


# ---------------------------------------------------------------- graphs and collections


@pytest.mark.dask("Client.compute")
def test_compute(client: Client) -> None:
    lazy = zcluster.delayed(inc)(1)
    assert client.compute(lazy).result() == 2
    futures = client.compute([lazy, zcluster.delayed(inc)(2)])
    assert client.gather(futures) == [2, 3]
    assert client.compute(lazy, sync=True) == 2


@pytest.mark.dask("Client.persist")
def test_persist(client: Client) -> None:
    kept = client.persist(zcluster.delayed(inc)(300))
    assert kept.compute() == 301
    (both,) = client.persist([zcluster.delayed(inc)(301)])
    assert (both + 1).compute() == 303


@pytest.mark.dask("Delayed.persist")
def test_persist_of_delayed(client: Client) -> None:
    assert zcluster.delayed(inc)(303).persist().compute() == 304


@pytest.mark.dask("Client.get")
def test_get(client: Client) -> None:
    graph = {"x": 1, "y": (inc, "x"), "z": (operator.add, "y", 10)}
    assert client.get(graph, "z") == 12
    assert client.get(graph, ["x", ["y", "z"]]) == [1, [2, 12]]


@pytest.mark.dask(
    "map(workers=, retries=, priority=)",
    "compute(workers=, retries=, priority=)",
    "persist(workers=, retries=, priority=)",
    "compute(optimize_graph=)",
    "compute(sync=)",
)
def test_wishes_for_many_tasks_at_once(client: Client) -> None:
    (_, place) = client.scheduler_info()["workers"]
    pid = client.submit(os.getpid, workers=[place], pure=False).result()
    wishes: dict[str, Any] = {"workers": [place], "retries": 1, "priority": 2}
    lazy = [zcluster.delayed(os.getpid, pure=False)() for _ in range(18)]
    pids = client.gather(client.map(pid_of, range(6), pure=False, **wishes))
    pids += client.gather(client.compute(lazy[:6], **wishes))
    pids += client.compute(lazy[6:12], sync=True, optimize_graph=False, **wishes)
    pids += zcluster.compute(*client.persist(lazy[12:], **wishes))
    assert pids == [pid] * 24


def pid_of(_: int) -> int:
    return os.getpid()


# ------------------------------------------------------------------------------- cancelling


@pytest.mark.dask(
    "Client.cancel",
    "Future.cancel",
    "Future.cancelled",
    "distributed.CancelledError",
    "cancel(reason=)",
)
def test_cancel(client: Client) -> None:
    gate = Event("cancel-gate")
    first, second = (client.submit(Event.wait, gate, pure=False) for _ in range(2))
    first.cancel()
    client.cancel([second], reason="not needed")
    for future in (first, second):
        with pytest.raises(CancelledError):
            future.result(timeout=10)
        assert future.cancelled()
        assert future.status == "cancelled"
    gate.set()


# ------------------------------------------------------------------------------ other shapes


@pytest.mark.dask("Client.get_executor")
def test_executor(client: Client) -> None:
    with client.get_executor() as executor:
        assert isinstance(executor, Executor)
        assert executor.submit(inc, 1).result() == 2
        assert list(executor.map(inc, range(3))) == [1, 2, 3]


@pytest.mark.dask("distributed.default_client", "Client.as_current")
def test_current_client(client: Client) -> None:
    with Client(client.cluster) as other:
        assert default_client() is other
        with client.as_current():
            assert default_client() is client


@pytest.mark.dask("Client.sync", "Client.asynchronous")
def test_sync(client: Client) -> None:
    async def later(x: int) -> int:
        return x + 1

    assert client.sync(later, 1) == 2
    assert client.asynchronous is False


@pytest.mark.dask("Client.status", "Client.close", "Client.cluster")
def test_close() -> None:
    client = Client(n_workers=1, threads_per_worker=1, set_as_default=False)
    assert client.status == "running"
    assert isinstance(client.cluster, LocalCluster)
    client.close()
    assert client.status == "closed"


@pytest.mark.dask("Client(timeout=)")
def test_nobody_answers_in_time(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises((StartError, OSError), match=r"."):
        Client(f"ipc://{tmp_path}/nobody", timeout=0.2)
    assert time.monotonic() < start + 5


@pytest.mark.dask("submit(allow_other_workers=)")
def test_submit_to_others_if_need_be(client: Client) -> None:
    future = client.submit(inc, 50, workers="nobody-here", allow_other_workers=True)
    assert future.result(timeout=10) == 51


@pytest.mark.dask("Client.retry")
def test_client_retry(client: Client, tmp_path: Path) -> None:
    future = client.submit(grow_to, str(tmp_path / "retried"), 2)
    with pytest.raises(OSError, match="only 1"):
        future.result()
    client.retry([future])
    assert future.result() == 2


@pytest.mark.dask("scatter(direct=)")
def test_scatter_around_the_scheduler(client: Client) -> None:
    assert client.scatter(80_000, direct=True).result() == 80_000


@pytest.mark.dask("scatter(range)")
def test_scatter_of_a_range_is_a_list(client: Client) -> None:
    assert client.gather(client.scatter(range(3))) == [0, 1, 2]


@pytest.mark.dask("Client.normalize_collection")
def test_normalize_collection(client: Client) -> None:
    kept = client.persist(zcluster.delayed(inc)(400))
    assert client.normalize_collection(kept).compute() == 401


@pytest.mark.dask("Client.futures_of")
def test_futures_of(client: Client) -> None:
    future = client.submit(inc, 1)
    assert client.futures_of([future, {"a": future}]) == [future]


@pytest.mark.dask("cancel(force=)")
def test_cancel_whoever_else_wants_it(client: Client) -> None:
    gate = Event("force-gate")
    future = client.submit(Event.wait, gate, pure=False)
    client.cancel([future], force=True)
    assert future.cancelled()
    gate.set()


@pytest.mark.dask("Future()")
def test_a_future_made_from_a_key(client: Client) -> None:
    kept = client.submit(inc, 600, key="known-by-key")
    assert Future("known-by-key", client).result() == kept.result() == 601


@pytest.mark.dask("Client.current")
def test_current(client: Client) -> None:
    with client.as_current():
        assert Client.current() is client


@pytest.mark.dask("Client(address) of nobody raises OSError")
def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"."):
        Client(f"ipc://{tmp_path}/nobody", timeout=0.2)


@pytest.mark.dask("submit(f, delayed)")
def test_lazy_arguments_are_computed(client: Client) -> None:
    lazy = zcluster.delayed(inc)(700)
    assert client.submit(operator.add, lazy, 1).result(timeout=10) == 702
    assert client.submit(sum, [lazy, 2]).result(timeout=10) == 703


@pytest.mark.dask("compute({'a': delayed})")
def test_a_container_is_computed_as_one(client: Client) -> None:
    future = client.compute({"a": zcluster.delayed(inc)(701), "b": [zcluster.delayed(inc)(702)]})
    assert future.result(timeout=10) == {"a": 702, "b": [703]}


@pytest.mark.dask("submit(3) raises TypeError")
def test_what_is_no_function(client: Client) -> None:
    what: Any = 3
    with pytest.raises(TypeError, match="callable"):
        client.submit(what)
