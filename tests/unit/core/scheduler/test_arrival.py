"""Submissions: slices, holds, shared keys, whole layers, data, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.scheduler.arrival import CALL_ALIAS, CALL_VALUE
from zcluster.errors import ProtocolError
from zcluster.graph.layers import Graph
from zcluster.graph.lowering import slices
from zcluster.protocol.messages import (
    Assign,
    Cancel,
    Cancelled,
    Failed,
    Layer,
    LayerPart,
    Needs,
    Release,
    Resolved,
    Scattered,
    Slot,
    Submit,
    Unreachable,
)


def imported(graph: Graph) -> Graph:
    """Say that the graph's negative inputs are imports."""
    graph.imports = [object()]
    return graph


def test_a_slice_runs_before_the_next_is_here_and_is_held_until_the_last(
    desk: Any, graph_of: Any
) -> None:
    """Nobody wants the first layer's tasks yet, but a consumer may come in a later slice."""
    d = desk()
    client, node = d.client(), d.node(slots=100)
    graph = graph_of(("s", [()] * 40), ("t", [[k] for k in range(40)]))
    graph.outputs = [(40, 40)]
    first = client.first
    messages = list(slices(graph, first, [], 300))
    assert len(messages) > 1
    d.tell(client, *messages[0])
    (assign,) = d.take(Assign)
    early = assign.tasks
    d.finish(node, early, length=-1)
    assert set(d.words(early)) == {"finished"}
    for message, frames in messages[1:]:
        d.tell(client, message, frames)
    d.flush()
    everything = range(first, first + 80)
    done = ("finished", "released")
    unfinished = [t for t in everything if d.word(t) not in done]
    while unfinished:
        d.finish(node, [t for t in unfinished if d.word(t) == "assigned"])
        d.flush()
        unfinished = [t for t in everything if d.word(t) not in done]
    assert set(d.words(range(first + 40, first + 80))) == {"finished"}
    assert set(d.words(range(first, first + 40))) == {"released"}


def test_a_client_that_leaves_within_a_submission_leaves_nothing(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    graph = graph_of(("s", [()] * 40), ("t", [[]] * 40))
    graph.layers[1].whole, graph.layers[1].whole_slots = [0], [Slot()]
    messages = list(slices(_wanted(graph), client.first, [], 300))
    d.tell(client, *messages[0])
    d.core.on_gone(client.peer, "gone", d.now)
    d.flush()
    d.flush()
    assert not d.state.pages
    assert not d.state.layers


def _wanted(graph: Graph) -> Graph:
    graph.outputs = [(0, graph.count)]
    return graph


def test_slices_of_two_submissions_may_not_be_mixed(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    one = list(slices(_wanted(graph_of([[0] if k else [] for k in range(100)])), 0, [], 300))
    two = list(slices(_wanted(graph_of([()])), 1, [], 300))
    d.tell(client, *one[0])
    d.tell(client, *two[0])
    with pytest.raises(ProtocolError, match="mixed"):
        d.tell(client, *one[1])


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (Submit(0, 5, 1, [], [], [], [], [], True), "begins with task 5"),
        (Submit(0, 0, 1, [], [], [], [], [], True), "brought 0"),
        (Submit(0, 0, 0, [Layer("x", [], 0, 1, 0, b"?" * 16)], [], [], [], [], True), "not sent"),
        (Submit(0, 0, 0, [Layer("x", [], 0, 0, 3, b"")], [], [], [], [], True), "0 tasks"),
        (
            Submit(0, 0, 0, [Layer("x", [], 0, 1, 3, b"", keys=["a", "b"])], [], [], [], [], True),
            "2 keys for 1",
        ),
        (
            Submit(0, 0, 0, [Layer("x", [], 0, 1, 3, b"", whole=[0])], [], [], [], [], True),
            "not before it",
        ),
        (Submit(0, 0, 1, [], [LayerPart(0, 0, 1, 0)], [], [], [], True), "names layer 0 of 0"),
    ],
)
def test_contradictions_are_refused(desk: Any, message: Submit, match: str) -> None:
    d = desk()
    client = d.client()
    with pytest.raises(ProtocolError, match=match):
        d.core.on_message(client.peer, message, (), d.now)


def test_an_unknown_import_fails_its_taker(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    first = d.submit(client, imported(graph_of([(-1,), (0,)])), [client.first + 1000])
    assert [m.errors[0].kind for m in d.take(Failed)] == ["lost", "input"]
    assert d.words([first, first + 1]) == ["failed", "failed"]


def test_an_import_that_failed_or_was_cancelled_ends_its_taker(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=2)
    first = d.submit(client, graph_of([(), ()]))
    d.flush()
    d.fail(node, first)
    d.tell(client, Cancel([first + 1]))
    d.take(Failed)
    d.take(Cancelled)
    a = d.submit(client, imported(graph_of([(-1,)])), [first])
    b = d.submit(client, imported(graph_of([(-1,)])), [first + 1])
    assert d.words([a, b]) == ["failed", "cancelled"]
    assert [m.tasks for m in d.take(Failed)] == [[a]]
    assert [m.tasks for m in d.take(Cancelled)] == [[b]]


def test_an_import_that_was_lost_after_delivery_is_made_again(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([()]))
    d.flush()
    d.finish(node, [first])
    d.flush()
    d.core.on_gone(node.peer, "gone", d.now)
    second = d.submit(client, imported(graph_of([(-1,)])), [first])
    assert d.words([first, second]) == ["ready", "waiting"]


def test_an_equal_key_is_the_same_task(desk: Any, graph_of: Any) -> None:
    """The second client's task takes the result of the first's: it is an alias."""
    d = desk()
    one, two, node = d.client("one"), d.client("two"), d.node(slots=4)
    a = d.submit(one, graph_of([()], shared=True, keys=["k"]))
    b = d.submit(two, graph_of([()], shared=True, keys=["k"]))
    (assign,) = d.take(Assign)
    assert [layer.call for layer in assign.layers] == [0, CALL_ALIAS]
    assert (assign.tasks, assign.inputs) == ([a, b], [a])
    d.finish(node, [a, b])
    assert sorted(m.tasks for m in d.take(Resolved)) == [[a], [b]]
    d.tell(one, Release([a]))
    assert d.state.keys == {"k": a}
    d.tell(two, Release([b]))
    d.flush()
    assert not d.state.keys
    assert not d.state.layers


def test_a_key_whose_result_was_let_go_is_made_again(desk: Any, graph_of: Any) -> None:
    """Its row stays for a consumer that might be lost: it is no dead end for who asks anew."""
    d = desk()
    client, node = d.client(), d.node(slots=4)
    first = d.submit(client, graph_of([(), (0,)], shared=True, keys=["a", "b"]))
    d.flush()
    d.finish(node, [first, first + 1])
    d.tell(client, Release([first]))
    assert d.word(first) == "released"
    again = d.submit(client, graph_of([()], shared=True, keys=["a"]))
    assert d.words([first, again]) == ["ready", "waiting"]


def test_a_key_that_failed_is_tried_anew(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([()], shared=True, keys=["a"]))
    d.flush()
    d.fail(node, first)
    again = d.submit(client, graph_of([()], shared=True, keys=["a"]))
    assert d.words([first, again]) == ["failed", "ready"]


def test_a_key_whose_task_may_not_run_again_is_tried_anew(desk: Any, graph_of: Any) -> None:
    """As above, but it would be a dead end: what runs at most once has run."""
    d = desk()
    client, node = d.client(), d.node(slots=4)
    options = {"shared": True, "needs": Needs(at_most_once=True)}
    first = d.submit(client, graph_of([(), (0,)], keys=["a", "b"], **options))
    d.flush()
    d.finish(node, [first])
    d.flush()
    d.finish(node, [first + 1])
    d.tell(client, Release([first]))
    assert d.word(first) == "released"
    again = d.submit(client, graph_of([()], keys=["a"], **options))
    assert d.words([first, again]) == ["released", "ready"]


def whole_graph(graph_of: Any, count: int = 3, takers: int = 2, **options: Any) -> Graph:
    """Two layers, of which each task of the second takes all of the first."""
    graph: Graph = graph_of(("s", [()] * count), ("t", [[]] * takers), **options)
    graph.layers[1].whole, graph.layers[1].whole_slots = [0], [Slot()]
    graph.outputs = [(count, takers)]
    return graph


def test_all_of_a_layer_is_one_counter(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=8)
    first = d.submit(client, whole_graph(graph_of))
    (assign,) = d.take(Assign)
    assert assign.tasks == [first, first + 1, first + 2]
    d.finish(node, [first, first + 2])
    assert d.word(first + 3) == "waiting"
    d.finish(node, [first + 1])
    (assign,) = d.take(Assign)
    assert assign.tasks == [first + 3, first + 4]
    assert assign.inputs == []
    assert assign.layers[0].whole == [(first, 3)]
    d.finish(node, [first + 3])
    assert d.word(first) == "finished"
    d.finish(node, [first + 4])
    assert d.word(first) == "released"


def test_one_failure_in_a_layer_fails_who_takes_all_of_it(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=8)
    first = d.submit(client, whole_graph(graph_of))
    d.flush()
    d.finish(node, [first])
    d.fail(node, first + 1)
    assert [m.tasks for m in d.take(Failed)] == [[first + 4, first + 3]]
    assert d.word(first + 2) in ("released", "assigned")


def test_a_layer_of_aliases_can_be_taken_whole(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=8)
    a = d.submit(client, graph_of([()], [()], shared=True, keys=["x"]))
    graph = graph_of([(), ()], shared=True, keys=["x", "y"])
    part = whole_graph(graph_of, 1, 1)
    graph.layers.append(part.layers[1])
    graph.layers[1].first, graph.count, graph.outputs = 2, 3, [(2, 1)]
    b = d.submit(client, graph)
    rounds = 0
    while d.word(b + 2) != "finished" and rounds < 9:
        rounds += 1
        d.flush()
        tasks = [t for t in (a, a + 1, b, b + 1, b + 2) if d.word(t) == "assigned"]
        d.finish(node, tasks)
    assert d.word(b + 2) == "finished"


def data_graph(add_layer: Any, count: int = 1) -> Graph:
    graph = Graph()
    add_layer(graph, "data", [()] * count, call=CALL_VALUE, function=None)
    return graph


def test_data_waits_for_its_client_and_is_not_run(desk: Any, add_layer: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, data_graph(add_layer))
    assert d.assigned() == {}
    assert d.word(first) == "waiting"
    d.tell(client, Scattered([first], [node.index], [10]))
    assert d.word(first) == "finished"
    assert d.take(Resolved) == [Resolved([first], [-1], [10], [node.index])]


def test_data_at_a_second_node_is_a_replica(desk: Any, add_layer: Any) -> None:
    d = desk()
    client, one, two = d.client(), d.node("one"), d.node("two")
    first = d.submit(client, data_graph(add_layer))
    d.tell(client, Scattered([first, first], [one.index, two.index], [10, 10]))
    d.core.on_gone(one.peer, "gone", d.now)
    assert d.word(first) == "finished"
    assert d.state.holders(first, *d.row(first)) == [two.index]
    d.core.on_gone(two.peer, "gone", d.now)
    assert d.word(first) == "waiting"
    assert d.take(Unreachable) == [Unreachable([first], -1)]


def test_only_data_can_be_scattered(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([(), (0,)]))
    d.tell(client, Scattered([first + 1], [node.index], [10]))
    assert d.word(first + 1) == "waiting"
