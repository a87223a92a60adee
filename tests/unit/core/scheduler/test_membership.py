"""What happens when clients and nodes join, go quiet, come back, or die."""

from __future__ import annotations

from typing import Any

from zcluster.protocol.messages import (
    PROTOCOL,
    Drop,
    Failed,
    Finished,
    Free,
    Hello,
    NodeInfo,
    Nodes,
    Recalled,
    Refused,
    Release,
    Unreachable,
    Welcome,
    WorkerInfo,
    Workers,
)


def test_everybody_hears_of_a_node_that_joins_and_leaves(desk: Any) -> None:
    d = desk()
    d.client()
    d.node("old")
    d.flush()
    d.messages.clear()
    node = d.node("new")
    d.flush()
    assert [(name, type(m)) for name, m, _ in d.messages] == [("c", Nodes), ("old", Nodes)]
    assert all(m.joined[0].name == "new" for _, m, _ in d.messages)
    d.messages.clear()
    d.core.on_gone(node.peer, "", d.now)
    d.flush()
    assert [(name, m.left) for name, m, _ in d.messages] == [
        ("c", [node.index]),
        ("old", [node.index]),
    ]


def test_newcomers_hear_of_the_nodes_there_are(desk: Any) -> None:
    d = desk()
    d.node("one")
    for hello in (
        Hello("client", PROTOCOL, "0", "3", b""),
        Hello("node", PROTOCOL, "0", "3", b"", node=NodeInfo(0, "two", "h", 1, "", "", 0, [])),
    ):
        welcome = d.core.on_hello(90, hello, d.now)
        assert isinstance(welcome, Welcome)
        assert [node.name for node in welcome.nodes] == ["one"]


def test_a_node_must_describe_itself(desk: Any) -> None:
    d = desk()
    answer = d.core.on_hello(1, Hello("node", PROTOCOL, "0", "3", b""), d.now)
    assert isinstance(answer, Refused)


def test_a_name_taken_on_another_host_is_refused(desk: Any) -> None:
    d = desk()
    d.node("n", host="one")
    info = NodeInfo(0, "n", "two", 1, "", "", 0, [])
    answer = d.core.on_hello(90, Hello("node", PROTOCOL, "0", "3", b"", node=info), d.now)
    assert isinstance(answer, Refused)
    assert "--name" in answer.reason


def test_a_new_incarnation_takes_the_place_of_the_old(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, old = d.client(), d.node("n")
    first = d.submit(client, graph_of([()]))
    assert d.assigned() == {"n": [first]}
    d.node("n")
    assert d.core.take_fenced() == [(old.peer, "a new incarnation took its place")]
    assert d.assigned() == {"n": [first]}
    assert d.attempt(first) == 2


def test_nothing_is_heard_of_a_node_that_was_just_fenced(desk: Any, graph_of: Any) -> None:
    """Its last messages may be in the same burst."""
    d = desk()
    client, old = d.client(), d.node("n")
    first = d.submit(client, graph_of([()]))
    d.flush()
    d.node("n")
    d.tell(old, Finished([first], [1], [-1], [10], [0], []))
    assert d.word(first) == "ready"


def test_the_tasks_of_a_node_that_is_away_go_to_others_at_once(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, one = d.client(), d.node("one")
    first = d.submit(client, graph_of([()]))
    d.flush()
    d.core.on_away(one.peer, d.now)
    d.assigned()
    assert d.word(first) == "ready"
    d.node("two")
    assert d.assigned() == {"two": [first]}


def test_a_node_that_comes_back_is_told_of_what_others_did_meanwhile(
    desk: Any, graph_of: Any
) -> None:
    """It could not be told before; else it would run what is long done."""
    d = desk()
    client, one, two = d.client(), d.node("one"), None
    first = d.submit(client, graph_of([()]))
    d.flush()
    d.core.on_away(one.peer, d.now)
    two = d.node("two")
    d.flush()
    d.finish(two, [first])
    d.core.on_back(one.peer, d.now)
    assert d.take(Drop, "one") == [Drop([first])]
    assert not d.state.elsewhere


def test_a_node_that_stays_away_is_fenced_and_its_results_made_again(
    desk: Any, graph_of: Any
) -> None:
    d = desk(dead_after=10.0)
    client, node = d.client(), d.node("one")
    first = d.submit(client, graph_of([()]))
    d.flush()
    d.finish(node, [first], length=-1)
    d.core.on_away(node.peer, d.now)
    d.later(9.0)
    assert d.word(first) == "finished"
    d.later(1.0)
    assert d.core.take_fenced() == [(node.peer, "it could not be reached")]
    assert d.word(first) == "ready"


def test_a_scheduler_that_was_paused_counts_that_time_to_nobody(desk: Any) -> None:
    """Whoever was away before may have come back meanwhile: what it said is not heard yet."""
    d = desk(dead_after=8.0, client_grace=8.0)
    client, node = d.client(), d.node("one")
    d.later(0.25)
    d.core.on_away(node.peer, d.now)
    d.core.on_away(client.peer, d.now)
    d.later(1.0)
    d.now += 60.0
    d.core.on_time(d.now)
    assert d.core.take_fenced() == []
    d.core.on_back(client.peer, d.now)
    d.later(6.0)
    assert d.core.take_fenced() == []
    d.later(2.0)
    assert d.core.take_fenced() == [(node.peer, "it could not be reached")]


def test_queued_ahead_at_a_node_that_dies_means_waiting_again(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([(), (0,)]))
    d.flush()
    assert d.words([first, first + 1]) == ["assigned", "ahead"]
    d.core.on_away(node.peer, d.now)
    assert d.words([first, first + 1]) == ["ready", "waiting"]


def test_a_client_that_leaves_releases_what_it_wanted(desk: Any, graph_of: Any) -> None:
    d = desk(client_grace=10.0)
    one, node = d.client("one"), d.node(slots=2)
    first = d.submit(one, graph_of([(), (0,)]))
    d.flush()
    d.finish(node, [first])
    d.core.on_away(one.peer, d.now)
    d.later(10.0)
    assert d.core.take_fenced() == [(one.peer, "the client was away for too long")]
    d.later()
    assert d.take(Drop) == [Drop([first + 1])]
    assert d.take(Free)[0].tasks == [first]
    assert not d.state.pages


def test_what_another_client_takes_outlives_its_client(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two, node = d.client("one"), d.client("two"), d.node(slots=2)
    a = d.submit(one, graph_of([()], shared=True, keys=["k"]))
    b = d.submit(two, graph_of([()], shared=True, keys=["k"]))
    d.core.on_gone(one.peer, "", d.now)
    assert d.words([a, b]) == ["ready", "waiting"]
    d.flush()
    d.finish(node, [a, b])
    assert d.word(b) == "finished"


def test_lost_data_of_a_client_that_left_is_lost_for_good(desk: Any, add_layer: Any) -> None:
    from zcluster.graph.layers import Graph
    from zcluster.protocol.messages import Scattered

    d = desk()
    one, two, node = d.client("one"), d.client("two"), d.node()
    graph = Graph()
    add_layer(graph, "data", [()], call=3, function=None)
    data = d.submit(one, graph)
    d.tell(one, Scattered([data], [node.index], [5]))
    taker = Graph()
    add_layer(taker, "s", [(-1,)])
    taker.imports = [object()]
    task = d.submit(two, taker, [data])
    d.core.on_gone(one.peer, "", d.now)
    d.core.on_gone(node.peer, "", d.now)
    assert d.words([data, task]) == ["failed", "failed"]
    (failed,) = d.take(Failed, "two")
    assert failed.errors[0].type_name == "zcluster.errors.DataLost"
    d.tell(two, Release([task]))


def test_workers_as_they_are_now_decide_the_slots(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=1)
    first = d.submit(client, graph_of([()] * 3))
    assert d.assigned() == {"n": [first]}
    d.tell(node, Workers([WorkerInfo(0, "n-0", 1, 0, 1), WorkerInfo(1, "n-1", 1, 0, 1)]))
    assert d.assigned() == {"n": [first + 1]}
    d.tell(node, Workers([]))
    d.tell(node, Recalled([first, first + 1], [1, 1]))
    assert d.assigned() == {}


def test_an_input_nobody_could_name_a_place_for_is_not_at_the_node_that_asks(
    desk: Any, graph_of: Any
) -> None:
    """Or it would be assigned there, and come back, for ever."""
    d = desk()
    client, node = d.client(), d.node(slots=2)
    first = d.submit(client, graph_of([(), (0,)]))
    d.flush()
    d.finish(node, [first], length=-1)
    d.tell(node, Unreachable([first], -1))
    assert d.word(first) == "ready"


# ------------------------------------------------------------- clients inside of workers


def inner_client(d: Any, name: str, host: str, pid: int) -> Any:
    """Have a client join that says where it lives."""
    return d._join(name, Hello("client", PROTOCOL, "0", "3", b"", name=name, host=host, pid=pid))


def node_with(d: Any, pids: list[int], pid: int = 1) -> Any:
    """Have a node join whose workers are these processes."""
    infos = [WorkerInfo(k, f"n-{k}", 1, 0, worker) for k, worker in enumerate(pids)]
    info = NodeInfo(0, "n", "h", pid, "tcp://n", "", 0, infos)
    return d._join("n", Hello("node", PROTOCOL, "0", "3", b"", node=info))


def test_a_client_in_a_worker_ends_with_the_worker(desk: Any) -> None:
    d = desk()
    node = node_with(d, [10, 11])
    ten, eleven = inner_client(d, "ten", "h", 10), inner_client(d, "eleven", "h", 11)
    elsewhere = inner_client(d, "elsewhere", "other host", 10)
    infos = [WorkerInfo(0, "n-0", 1, 0, 12), WorkerInfo(1, "n-1", 1, 0, 11)]
    d.tell(node, Workers(infos))
    assert set(d.state.clients) == {eleven.index, elsewhere.index}
    assert d.core.take_fenced() == [(ten.peer, "its worker is gone")]


def test_clients_in_workers_end_with_their_node(desk: Any) -> None:
    d = desk()
    node = node_with(d, [10])
    inner_client(d, "ten", "h", 10)
    outer = inner_client(d, "outer", "h", 20)
    d.core.on_gone(node.peer, "", d.now)
    assert set(d.state.clients) == {outer.index}


def test_a_client_beside_workers_that_are_threads_outlives_them(desk: Any) -> None:
    """They have the process number of their node, and of the client that started it."""
    d = desk()
    node = node_with(d, [10], pid=10)
    client = inner_client(d, "c", "h", 10)
    d.tell(node, Workers([]))
    d.core.on_gone(node.peer, "", d.now)
    assert set(d.state.clients) == {client.index}


def test_what_a_client_in_a_worker_wanted_ends_when_its_node_is_replaced(
    desk: Any, graph_of: Any
) -> None:
    d = desk()
    node_with(d, [10])
    inner = inner_client(d, "ten", "h", 10)
    task = d.submit(inner, graph_of([()]))
    node_with(d, [20])
    assert d.assigned() == {}
    assert d.word(task) == "forgotten"
