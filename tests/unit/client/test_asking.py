"""What a client asks its scheduler, against a pretend cluster."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.errors import ClientClosed, InvalidArgument, NoWorkers, UnknownWorker
from zcluster.protocol.messages import Nodes


def test_the_scheduler_and_its_workers(client: Client, cluster: Any) -> None:
    info = client.scheduler_info()
    assert (info["type"], info["address"], info["id"]) == ("Scheduler", cluster.address, "pretend")
    assert info["workers"]["worker0"]["host"] == cluster.nodes[0].info.host
    client.close()
    with pytest.raises(ClientClosed):
        client.scheduler_info()


def test_threads_by_worker(make_cluster: Callable[..., Any]) -> None:
    with Client(make_cluster(nodes=2).address) as client:
        assert client.nthreads() == client.ncores() == {"worker0": 2, "worker1": 2}
        for name in ("worker1", "node1", ["worker1", "node1"]):
            assert client.nthreads(name) == {"worker1": 2}
        with pytest.raises(UnknownWorker, match="'nobody'; the workers are worker0, worker1"):
            client.nthreads("nobody")


def test_questions_about_tasks(client: Client, cluster: Any) -> None:
    future = client.submit(operator.neg, 1)
    task = future._record.task
    cluster.answers = {
        "who_has": lambda ask: {str(one): ["node0"] for one in ask.tasks},
        "story": lambda ask: [[1.0, "finished", str(ask.tasks)]],
        "explain": lambda ask: [f"{ask.tasks} is finished"],
        "statistics": lambda ask: {"events": 3},
    }
    assert client.who_has() == {future.key: ["node0"]}
    for asked in (future, [future], {"a": [future]}, future.key, [future.key], {future}):
        assert client.who_has(asked) == {future.key: ["node0"]}
    assert client.who_has([]) == {}
    assert client.story(future) == [[1.0, "finished", f"[{task}]"]]
    assert client.story(future.key, future) == [[1.0, "finished", f"[{task}, {task}]"]]
    assert client.explain(future) == client.explain(future.key) == f"[{task}] is finished"
    assert client.statistics() == {"events": 3}


def test_questions_about_nodes_name_them_by_number(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster(nodes=2)
    with Client(cluster.address) as client:
        future = client.submit(operator.neg, 1, pure=False)
        task = future._record.task

        def answer(ask: Any) -> Any:
            return {str(ask.tasks): [[task, "what the scheduler calls it"], [5, "another's"]]}

        cluster.answers |= dict.fromkeys(("has_what", "processing"), answer)
        keys = [future.key, "another's"]
        for question in (client.has_what, client.processing):
            assert question() == {"[]": keys}
            assert question(["worker1", "node1"]) == {"[1]": keys}
            assert question(["node0", "worker1"]) == {"[0, 1]": keys}
            with pytest.raises(UnknownWorker):
                question("nobody")


def test_bytes_of_results(client: Client, cluster: Any) -> None:
    futures = [client.submit(operator.neg, i) for i in range(3)]
    sizes = {str(future._record.task): 10 + i for i, future in enumerate(futures[:2])}
    cluster.answers["nbytes"] = lambda ask: sizes if ask.tasks else {"all": 1, ask.text: 2}
    assert client.nbytes(futures) == {"neg": 21}  # the third is not finished: it has none
    keys = [future.key for future in futures]
    assert client.nbytes(keys, summary=False) == {keys[0]: 10, keys[1]: 11}
    assert client.nbytes(summary=False) == {"all": 1, "keys": 2}
    assert client.nbytes([]) == {}


def test_what_is_not_the_clients_is_refused_by_name(make_cluster: Callable[..., Any]) -> None:
    with Client(make_cluster().address) as one, Client(make_cluster().address) as two:
        theirs = two.submit(operator.neg, 1)
        gone = one.submit(operator.neg, 1)
        gone.release()
        questions: list[Any] = [one.who_has, one.nbytes, one.explain, one.story]
        for question in questions:
            with pytest.raises(InvalidArgument, match=f"{theirs.key} belongs to another client"):
                question(theirs)
            with pytest.raises(InvalidArgument, match="was released"):
                question(gone)
            with pytest.raises(InvalidArgument, match=r"found (a )?int"):
                question(5)
        with pytest.raises(InvalidArgument, match="no future with the key 'nokey'"):
            one.who_has("nokey")


def test_waiting_for_workers(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster(nodes=2)
    late = cluster.nodes.pop(1)
    with Client(cluster.address) as client:
        client.wait_for_workers(1, timeout=5)
        with pytest.raises(NoWorkers, match=r"found 1 workers after 0\.02 s, expected 2"):
            client.wait_for_workers(2, timeout=0.02)
        cluster.nodes[1] = late
        cluster.say(Nodes([late.info], []))
        client.wait_for_workers(2, timeout=5)
        assert set(client.nthreads()) == {"worker0", "worker1"}
        assert client._engine.node_gates == []


def test_a_worker_that_is_back_is_found_though_nobody_says_so(
    make_cluster: Callable[..., Any],
) -> None:
    cluster = make_cluster(nodes=1)
    everybody, asked = cluster.answers["info"], threading.Event()

    def nobody_at_first(ask: Any) -> Any:
        if asked.is_set():
            return everybody(ask)
        asked.set()
        return everybody(ask) | {"nodes": []}

    cluster.answers["info"] = nobody_at_first
    with Client(cluster.address) as client:
        client.wait_for_workers(1, timeout=5)
    assert asked.is_set()


def test_waiting_for_workers_ends_with_the_client(client: Client) -> None:
    threading.Timer(0.02, client.close).start()
    with pytest.raises(ClientClosed):
        client.wait_for_workers(99)
