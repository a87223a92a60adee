"""Given who has room and what is ready: exactly these tasks go there, in this order."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.protocol.messages import Assign, Blocked, Cancel, Release, Workers


def test_an_unknown_duration_means_one_task_a_slot(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=3)
    first = d.submit(client, graph_of([()] * 10))
    assert d.assigned() == {"n": [first, first + 1, first + 2]}
    d.finish(node, [first], seconds=1.0)
    assert d.assigned() == {"n": [first + 3]}


def test_short_tasks_fill_the_window(desk: Any, graph_of: Any) -> None:
    d = desk(window=0.04)
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([()] * 100))
    assert d.assigned() == {"n": [first]}
    d.finish(node, [first], seconds=0.004)
    assert d.assigned() == {"n": list(range(first + 1, first + 11))}


def test_a_run_of_roots_is_shared_by_idle_nodes(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, one, two = d.client(), d.node("one"), d.node("two")
    first = d.submit(client, graph_of([()] * 4))
    assert {name: len(tasks) for name, tasks in d.assigned().items()} == {"one": 1, "two": 1}
    d.finish(one, [first], seconds=1e-5)
    given = d.assigned()
    assert sum(map(len, given.values())) == 2
    assert d.words(range(first, first + 4)).count("assigned") == 3
    assert two.index == 1


def test_what_was_sent_ahead_keeps_nobody_from_what_a_task_waits_for(
    desk: Any, graph_of: Any
) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([()] + [(k,) for k in range(5)]))
    d.assigned()
    d.tell(node, Blocked([first], True))
    d.assigned()  # what follows from it takes the room that it has left
    awaited = d.submit(client, graph_of([()]))
    assert awaited in d.assigned()["n"]


def test_clients_take_turns(desk: Any, graph_of: Any) -> None:
    d = desk()
    node = d.node()
    one, two = d.client("one"), d.client("two")
    a = d.submit(one, graph_of([()], [()], [()]))
    b = d.submit(two, graph_of([()], [()], [()]))
    order: list[int] = []
    for _ in range(6):
        (task,) = d.assigned()["n"]
        order.append(task)
        d.finish(node, [task], seconds=1.0)
    assert order == [a, b, a + 1, b + 1, a + 2, b + 2]


def test_priority_goes_before_age_and_turns(desk: Any, graph_of: Any) -> None:
    d = desk()
    node = d.node()
    one, two = d.client("one"), d.client("two")
    a = d.submit(one, graph_of([()]))
    b = d.submit(two, graph_of([()]))
    c = d.submit(one, graph_of([()], priority=1))
    low = d.submit(two, graph_of([()], priority=-1))
    order = []
    for _ in range(4):
        (task,) = d.assigned()["n"]
        order.append(task)
        d.finish(node, [task], seconds=1.0)
    assert order == [c, b, a, low]


def test_look_ahead_sends_a_chain_with_its_head(desk: Any, graph_of: Any) -> None:
    """Its links run one after the other at the node, and only the last is kept."""
    d = desk()
    client, node = d.client(), d.node()
    warm = d.submit(client, graph_of([()]))
    d.assigned()
    d.finish(node, [warm], seconds=1e-5)
    graph = graph_of([(), (0,), (1,), (2,)])
    graph.outputs = [(3, 1)]
    first = d.submit(client, graph)
    (assign,) = d.take(Assign)
    assert assign.tasks == list(range(first, first + 4))
    assert assign.flags == [1, 1, 1, 0]
    assert assign.inputs == [first, first + 1, first + 2]


def test_look_ahead_sends_a_tree(desk: Any, graph_of: Any) -> None:
    """0 and 1 make 2, which nobody may see: it is passing, and so are they."""
    d = desk()
    client, node = d.client(), d.node()
    warm = d.submit(client, graph_of([()]))
    d.assigned()
    d.finish(node, [warm], seconds=1e-5)
    graph = graph_of([(), (), (0, 1), (2,)])
    graph.outputs = [(3, 1)]
    first = d.submit(client, graph)
    (assign,) = d.take(Assign)
    assert assign.tasks == list(range(first, first + 4))
    assert assign.flags == [1, 1, 1, 0]


def test_a_task_whose_inputs_are_made_at_two_nodes_waits(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    d.node("one")
    d.node("two")
    first = d.submit(client, graph_of([(), (), (0, 1)]))
    assert sorted(d.assigned()) == ["one", "two"]
    assert d.words([first, first + 1, first + 2]) == ["assigned", "assigned", "waiting"]


def test_what_the_client_wants_is_not_passing(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, _ = d.client(), d.node(slots=4)
    d.submit(client, graph_of([(), (0,)]))
    (assign,) = d.take(Assign)
    assert assign.flags == [0, 0]


@pytest.mark.parametrize("consumers", [1, 2])
def test_what_a_task_with_retries_takes_is_not_passing(
    desk: Any, graph_of: Any, consumers: int
) -> None:
    """It may fail and take its inputs again."""
    d = desk()
    client, _ = d.client(), d.node(slots=4)
    graph = graph_of([(), *[(0,)] * consumers], retries=1)
    graph.outputs = [(1, consumers)]
    d.submit(client, graph)
    (assign,) = d.take(Assign)
    assert not any(assign.flags)


def test_only_named_workers_run_a_restricted_task(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(workers=2)
    d.node("other", workers=2)
    first = d.submit(client, graph_of([()] * 2, workers=["n-1"]))
    (assign,) = d.take(Assign)
    assert (assign.tasks, assign.workers) == ([first, first + 1], [1, 1])
    more = d.submit(client, graph_of([()], workers=["nobody"]))
    assert d.assigned() == {}
    assert d.word(more) == "ready"
    assert node.index == 0


def test_a_wish_for_workers_gives_way_where_others_may(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    d.node("one")
    d.node("two")
    options: dict[str, Any] = {"workers": ["two-0"], "allow_other_workers": True}
    first = d.submit(client, graph_of([()], [()], **options))
    assert d.assigned() == {"two": [first], "one": [first + 1]}


def test_a_node_without_slots_gets_nothing(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    d.tell(node, Workers([]))
    first = d.submit(client, graph_of([()]))
    assert d.assigned() == {}
    assert d.word(first) == "ready"


def test_an_entry_left_in_a_queue_by_a_forgotten_task_is_no_other_task(
    desk: Any, graph_of: Any
) -> None:
    """Tasks share pages: the page of a forgotten one may come again, with other rows."""
    d = desk()
    client = d.client()
    old = d.submit(client, graph_of([()] * 3, workers=[]))
    single = d.submit(client, graph_of([()]))
    d.tell(client, Cancel([old, single]))
    d.tell(client, Release([old, old + 1, old + 2, single]))
    d.later()
    new = d.submit(client, graph_of([()]))
    d.node()
    assert d.assigned() == {"n": [new]}


def test_what_alone_takes_a_result_goes_with_its_input_though_the_time_is_full(
    desk: Any, graph_of: Any
) -> None:
    """The node need not keep that result; and the slot is not taken from the next root."""
    d = desk()
    client, node = d.client(), d.node(slots=2)
    graph = graph_of([(), (0,), (), (2,), (), (4,)])
    graph.outputs = [(1, 1), (3, 1), (5, 1)]
    first = d.submit(client, graph)
    d.flush()
    (assign,) = d.take(Assign)
    assert assign.tasks == [first, first + 1, first + 2, first + 3]
    assert assign.flags == [1, 0, 1, 0]
    assert d.state.nodes[node.index].blocked == {first + 1: 1, first + 3: 1}
    d.finish(node, [first], length=-2)
    assert d.assigned() == {"n": [first + 4, first + 5]}
    d.finish(node, [first + 1, first + 2, first + 3, first + 4, first + 5])
    assert d.state.nodes[node.index].blocked == {}


def test_a_result_that_is_wanted_or_taken_by_others_brings_nobody_along(
    desk: Any, graph_of: Any
) -> None:
    d = desk()
    client = d.client()
    d.node()
    wanted = d.submit(client, graph_of([(), (0,)]))
    assert d.assigned() == {"n": [wanted]}
    e = desk()
    client = e.client()
    e.node()
    graph = graph_of([(), (0,), (0,)])
    graph.outputs = [(1, 2)]
    shared = e.submit(client, graph)
    assert e.assigned() == {"n": [shared]}
