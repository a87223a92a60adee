"""The client's methods, against a pretend cluster."""

from __future__ import annotations

import operator
import os
import threading
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from zcluster.client.client import Client, get_client
from zcluster.client.future import Future
from zcluster.errors import (
    ClientClosed,
    InvalidArgument,
    NotSerializable,
    NoWorkers,
    StoreFull,
    UnknownWorker,
)
from zcluster.protocol.messages import Cancel, Put, Scattered, Submit

Pair = namedtuple("Pair", "left right")


def total(*args: Any, **kwargs: Any) -> Any:
    return sum(args) + sum(kwargs.values())


# ------------------------------------------------------------------------- submit


def test_arguments_may_hold_futures_at_any_depth(client: Client) -> None:
    a, b = client.submit(operator.neg, 1), client.submit(operator.neg, 2)
    assert client.submit(operator.add, a, b).result(5) == -3
    assert client.submit(total, a, 10, x=b).result(5) == 7
    assert client.submit(sum, [a, b, a]).result(5) == -4
    assert client.submit(len, {"k": [a, (b,)]}).result(5) == 1


def test_arguments_are_frozen_when_submit_returns(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    small, large = [1, 2], np.ones(50_000)
    futures = [client.submit(sum, small), client.submit(np.sum, large)]
    small.append(100)
    large[:] = 7
    cluster.let_go()
    assert client.gather(futures) == [3, 50_000]


def test_equal_pure_calls_are_one_task(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    futures = [client.submit(operator.neg, 1) for _ in range(3)]
    assert len({future._record for future in futures}) == 1
    assert client.map(operator.neg, [1])[0].key == futures[0].key
    apart = [client.submit(operator.neg, 1, pure=False) for _ in range(2)]
    assert len({future.key for future in [*futures, *apart]}) == 3


def test_equal_keys_are_one_task(client: Client) -> None:
    first = client.submit(operator.neg, 1, key="k")
    assert client.submit(operator.neg, 2, key="k").result(5) == first.result(5) == -1
    assert client.submit(operator.neg, 3, key=("x", 0)).key == "('x', 0)"


def test_options_reach_the_scheduler(client: Client, cluster: Any) -> None:
    options: dict[str, Any] = {
        "workers": "worker0",
        "allow_other_workers": True,
        "retries": 2,
        "priority": 5,
    }
    client.submit(operator.neg, 1, **options).result(5)
    client.gather(client.map(operator.neg, [2], **options))
    for message in cluster.told(Submit):
        layer = message.layers[0]
        assert (layer.workers, layer.allow_other_workers) == (["worker0"], True)
        assert (layer.retries, layer.priority) == (2, 5)


@pytest.mark.parametrize(
    ("error", "args", "options"),
    [
        (InvalidArgument, (3, 1), {}),
        (InvalidArgument, (operator.neg, 1), {"retries": -1}),
        (InvalidArgument, (operator.neg, 1), {"key": [1]}),
        (UnknownWorker, (operator.neg, 1), {"workers": "nobody"}),
        (NotSerializable, (operator.neg, threading.Lock()), {}),
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_call(
    client: Client, cluster: Any, error: type[Exception], args: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(error):
        client.submit(*args, **options)
    assert client.submit(operator.neg, 1).result(5) == -1
    assert len(cluster.told(Submit)) == 1


def test_a_large_argument_goes_into_a_store(client: Client, cluster: Any) -> None:
    future = client.submit(np.sum, np.arange(50_000), pure=False)
    assert future.result(5) == sum(range(50_000))
    (put,) = [m for m in cluster.nodes[0].heard if isinstance(m, Put)]
    assert cluster.told(Scattered)[0].tasks == [put.task]
    cluster.until(lambda: put.task in cluster.released)


def test_many_threads_may_submit_at_once(client: Client) -> None:
    results: dict[int, list[int]] = {}

    def work(number: int) -> None:
        futures = [client.submit(operator.neg, i, pure=bool(i % 2)) for i in range(200)]
        results[number] = client.gather(futures)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert all(results[number] == [-i for i in range(200)] for number in range(4))


# ---------------------------------------------------------------------------- map


def test_map_goes_over_iterables_in_step(client: Client) -> None:
    assert client.gather(client.map(operator.add, range(5), iter([10, 20, 30]))) == [10, 21, 32]
    assert client.gather(client.map(total, [1, 2], x=10)) == [11, 12]
    assert client.map(operator.neg, []) == []
    assert client.gather(client.map(operator.neg, [1, 1, 2], batch_size=2)) == [-1, -1, -2]


def test_map_takes_futures_and_large_items(client: Client) -> None:
    futures = client.map(operator.neg, range(3))
    assert client.gather(client.map(operator.neg, futures)) == [0, 1, 2]
    arrays = [np.full(20_000, value) for value in range(3)]
    assert client.gather(client.map(np.sum, arrays)) == [0, 20_000, 40_000]


def test_map_shares_what_is_there_already(client: Client) -> None:
    one = client.submit(operator.neg, 1)
    futures = client.map(operator.neg, [0, 1, 1])
    assert futures[1]._record is futures[2]._record is one._record


def test_keys_of_a_map(client: Client) -> None:
    assert [f.key for f in client.map(operator.neg, [1, 2], key=["a", "b"])] == ["a", "b"]
    futures = client.map(operator.neg, [1, 2], key="mine")
    assert all(future.key.startswith("mine-") for future in futures)
    assert client.gather(futures) == [-1, -2]
    with pytest.raises(InvalidArgument, match="found 1 keys for 2 calls"):
        client.map(operator.neg, [1, 2], key=["a"])
    apart = client.map(operator.neg, [1, 1], key="mine", pure=False)
    assert all(future.key.startswith("mine-") for future in apart)
    assert len({future.key for future in [*futures, *apart]}) == 4
    with pytest.raises(InvalidArgument, match="expected iterables"):
        client.map(operator.neg)


def test_a_map_may_make_actors(client: Client, cluster: Any) -> None:
    futures = client.map(operator.neg, [1, 1], actor=True)
    assert len({future.key for future in futures}) == 2
    cluster.until(lambda: cluster.told(Submit))
    needs = [layer.needs for message in cluster.told(Submit) for layer in message.layers]
    assert needs
    assert all(need is not None and need.actor for need in needs)


def test_a_client_cannot_travel_and_says_what_to_do(client: Client) -> None:
    for argument in (client, {"deep": [client]}):
        with pytest.raises(NotSerializable, match=r"in a task get_client\(\) gives one"):
            client.submit(len, argument)
    with pytest.raises(NotSerializable, match="get_client"):
        client.submit(lambda: client.scheduler_info())


# ------------------------------------------------------------------------- gather


def test_gather_keeps_containers(client: Client) -> None:
    a, b = client.map(operator.neg, [1, 2])
    assert client.gather(a) == -1
    assert client.gather([a, b]) == [-1, -2]
    assert client.gather((a, [b], {"k": a}, {b}, "text", 5)) == (
        -1,
        [-2],
        {"k": -1},
        {-2},
        "text",
        5,
    )
    assert client.gather(iter([a, b])) == [-1, -2]
    assert client.gather(Pair(a, b)) == Pair(-1, -2)
    assert client.gather([]) == []


def test_gather_raises_or_skips_errors(client: Client) -> None:
    good = client.submit(operator.neg, 1)
    bad = client.submit(operator.truediv, 1, 0)
    with pytest.raises(ZeroDivisionError):
        client.gather([good, bad])
    assert client.gather([good, bad, good], errors="skip") == [-1, -1]
    assert client.gather({"a": bad, "b": [good, bad]}, errors="skip") == {"b": [-1]}
    assert client.gather(bad, errors="skip") is None
    with pytest.raises(InvalidArgument, match="errors is 'ignore'"):
        client.gather([good], errors="ignore")


def test_gather_refuses_the_futures_of_others(make_cluster: Callable[..., Any]) -> None:
    with Client(make_cluster().address) as a, Client(make_cluster().address) as b:
        with pytest.raises(InvalidArgument, match="belongs to another client"):
            a.gather([b.submit(operator.neg, 1)])
        released = a.submit(operator.neg, 1)
        released.release()
        with pytest.raises(InvalidArgument, match="was released"):
            a.gather([released])


# ------------------------------------------------------------------------ scatter


def test_scatter_keeps_containers_and_values_can_be_used(client: Client) -> None:
    one = client.scatter(5)
    assert one.status == "finished"
    assert client.submit(operator.neg, one).result(5) == -5
    many = client.scatter([1, 2])
    assert client.gather(many) == [1, 2]
    named = client.scatter({"a": 3})
    assert client.gather(named) == {"a": 3}
    assert isinstance(client.scatter((1,)), tuple)


def test_an_equal_value_is_scattered_once(client: Client) -> None:
    array = np.arange(10)
    assert client.scatter(array)._record is client.scatter(array.copy())._record
    assert client.scatter(array, hash=False)._record is not client.scatter(array)._record


def test_scatter_can_go_everywhere_or_to_some(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster(nodes=2)
    with Client(cluster.address) as client:
        future = client.scatter(5, broadcast=True)
        cluster.until(lambda: all(future._record.task in n.ranges for n in cluster.nodes.values()))
        there = client.scatter([6, 7], workers="worker1")
        assert all(f._record.task in cluster.nodes[1].ranges for f in there)
        with pytest.raises(UnknownWorker, match="worker0, worker1"):
            client.scatter(1, workers="nobody")


def test_scatter_without_room_or_nodes_says_so(make_cluster: Callable[..., Any]) -> None:
    full, empty = make_cluster(), make_cluster(nodes=0)
    full.nodes[0].is_full = True
    with Client(full.address) as client, pytest.raises(StoreFull, match="node 0 is full"):
        client.scatter(5)
    with Client(empty.address) as client, pytest.raises(NoWorkers, match="there are 0 workers"):
        client.scatter(5, timeout=0.02)


def test_a_scattered_result_is_the_users_own(client: Client) -> None:
    future = client.scatter(np.zeros(3))
    mine = future.result()
    mine += 1
    assert future.result().sum() == 0


# ------------------------------------------------------------------------- the rest


def test_cancelling_takes_containers(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    futures = client.map(operator.neg, range(3))
    client.cancel({"a": futures}, reason="enough")
    assert all(future.cancelled() for future in futures)
    cluster.until(lambda: cluster.told(Cancel))
    with pytest.raises(CancelledError, match="enough"):
        client.gather(futures)


def test_what_a_client_says_of_its_cluster(client: Client, cluster: Any) -> None:
    text = f"<Client: '{cluster.address}' processes=1 threads=2, memory=1.00 GiB>"
    assert repr(client) == text
    html = client._repr_html_()
    for said in ("worker0", "Connection method", "Direct", client.name, "days ago"):
        assert said in html
    assert client.status == "running"
    client.close()
    assert client.status == "closed"
    assert "closed (the client was closed)" in repr(client)
    assert "worker0" in client._repr_html_()  # as it was when it closed


def test_keywords_of_dask_that_mean_nothing_here(cluster: Any) -> None:
    with Client(cluster.address, loop=None, security=None, direct_to_workers=True) as client:
        assert client.submit(abs, -1).result(5) == 1
    with pytest.raises(InvalidArgument, match="security is 'tls'; keys come with"):
        Client(cluster.address, security="tls")


def test_the_current_client(client: Client) -> None:
    with pytest.raises(ClientClosed, match="no live client"):
        Client.current(allow_global=False)
    assert Client.current() is client
    with client.as_current():
        assert Client.current(allow_global=False) is client


def test_a_scheduler_of_others_is_not_shut_down(client: Client) -> None:
    with pytest.raises(NotImplementedError, match="cannot end that scheduler; end its process"):
        client.shutdown()
    assert client.status == "running"
    client.close()
    client.shutdown()  # nothing is left to end


@pytest.mark.parametrize("timeout", [0, -1, "soon", True])
def test_a_timeout_has_to_be_seconds(timeout: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"timeout is|a time is expected"):
        Client("ipc:///nowhere", timeout=timeout)


def test_a_forked_child_gets_a_clear_error_and_the_parent_goes_on(client: Client) -> None:
    future = client.submit(operator.neg, 1)
    assert future.result(5) == -1
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"nothing raised"
        try:
            client.close()
            client.submit(operator.neg, 2)
        except ClientClosed as error:
            said = str(error).encode()
        finally:
            os.write(writes, said)
            os._exit(0)
    os.close(writes)
    try:
        assert b"this process was forked" in os.read(reads, 1000)
    finally:
        os.close(reads)
        os.waitpid(child, 0)
    assert client.submit(operator.neg, 3).result(5) == -3


def test_futures_made_by_a_client_know_it(client: Client) -> None:
    future = client.submit(operator.neg, 1)
    assert isinstance(future, Future)
    assert future.client is client is get_client()
