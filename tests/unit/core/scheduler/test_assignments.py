"""Rows of the table as columns of an `Assign` message."""

from __future__ import annotations

from typing import Any

from zcluster.core.scheduler.state import _SPARE_FUNCTIONS
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Assign, Drop, Free, Message, Release, Slot


def test_columns_are_joined_and_cut(desk: Any, graph_of: Any, make_function: Any) -> None:
    d = desk()
    client, _ = d.client(), d.node(slots=4)
    first = d.submit(client, graph_of([(), (0,)], constants=[b"aa", b"b"]))
    d.flush()
    ((_, assign, frames),) = [m for m in d.messages if isinstance(m[1], Assign)]
    assert assign.runs == [(assign.layers[0].layer, 2)]
    assert (assign.tasks, assign.attempts, assign.orders) == ([first, first + 1], [1, 1], [0, 1])
    assert (assign.arities, assign.inputs) == ([0, 1], [first])
    assert (assign.offsets, frames[0]) == ([0, 2, 3], b"aab")
    digest, data = make_function("s")
    assert assign.functions == [(digest, (2, 0, 1))]
    assert frames[2] == data


def test_a_layer_and_its_callable_are_sent_once_to_a_node(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([()] * 2))
    (assign,) = d.take(Assign)
    assert (len(assign.layers), len(assign.functions)) == (1, 1)
    d.finish(node, [first])
    (assign,) = d.take(Assign)
    assert (len(assign.layers), len(assign.functions)) == (0, 0)
    d.submit(client, graph_of([()]))
    d.finish(node, [first + 1])
    (assign,) = d.take(Assign)
    assert (len(assign.layers), len(assign.functions)) == (1, 0)


def test_a_callable_that_comes_again_is_not_forgotten_late(
    desk: Any, graph_of: Any, make_function: Any
) -> None:
    """Word that it can go waits for company, and must not come after the callable itself."""
    d = desk()
    client, node = d.client(), d.node(slots=2)
    for number in range(_SPARE_FUNCTIONS + 1):
        task = d.submit(client, graph_of((f"s{number}", [()])))
        d.flush()
        d.finish(node, [task])
        d.tell(client, Release([task]))
        d.flush()
    digest, _ = make_function("s0")
    assert digest not in d.state.functions
    d.messages.clear()
    d.submit(client, graph_of(("s0", [()])))
    (assign,) = d.take(Assign)
    assert [found for found, _ in assign.functions] == [digest]
    d.later()
    assert all(digest not in free.functions for free in d.take(Free))


def test_inputs_elsewhere_come_with_their_place_or_their_bytes(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    one, two = d.node("one", slots=2), d.node("two", slots=1)
    first = d.submit(client, graph_of([()], [()], [(0, 1)]))
    d.assigned()
    d.finish(one, [first], length=-1)
    d.finish(two, [first + 1], b"tiny")
    d.flush()
    (found,) = [m for m in d.messages if isinstance(m[1], Assign)]
    name, assign, frames = found
    assert name == "one"
    assert assign.places == []
    assert (assign.inline, frames[1]) == ([(first + 1, 4)], b"tiny")


def test_where_all_of_a_layer_is_comes_with_the_layer(desk: Any, graph_of: Any) -> None:
    d = desk(window=10.0)
    client, one, two = d.client(), d.node("one"), d.node("two")
    graph = graph_of(("s", [(), ()]), ("t", [[], []]))
    graph.layers[1].whole, graph.layers[1].whole_slots = [0], [Slot(1)]
    graph.layers[1].selections = [5, 6]
    first = d.submit(client, graph)
    d.assigned()
    d.finish(one, [first], length=-1)
    d.finish(two, [first + 1], length=-1)
    assigns = d.take(Assign)
    assert {tuple(place) for a in assigns for place in _places(a)} == {
        (first, (one.index,)),
        (first + 1, (two.index,)),
    }
    assert sorted(number for a in assigns for number in a.selections) == [5, 6]


def _places(assign: Assign) -> list[tuple[int, tuple[int, ...]]]:
    return [(task, tuple(nodes)) for task, _, nodes in assign.places]


def test_a_batch_is_no_longer_than_it_may_be(desk: Any, graph_of: Any) -> None:
    d = desk(batch=3)
    client, _ = d.client(), d.node(slots=8)
    d.submit(client, graph_of([()], [()], [()], [()]))
    assert [len(m.tasks) for m in d.take(Assign)] == [3, 1]


def test_a_drop_never_comes_after_the_assignment_that_replaces_it(desk: Any, graph_of: Any) -> None:
    """A driver may find out that a node is away, and back, while it sends what a flush yields."""
    d = desk(batch=2)
    client, _ = d.client(), d.node(slots=6)
    d.flush()
    d.submit(client, graph_of([(), (0,), (1,), (2,)]))
    said: list[Message] = []
    for _ in range(3):
        for peer, message, _ in d.core.flush(d.now):
            said.append(message)
            if len(said) == 1:
                assert isinstance(message, Assign)
                d.core.on_away(peer, d.now)
                d.core.on_back(peer, d.now)
    had: set[int] = set()
    for message in said:
        if isinstance(message, Assign):
            had.update(message.tasks)
        elif isinstance(message, Drop):
            had.difference_update(message.tasks)
    rows = d.state.rows()
    assigned = {task for task, page, row in rows if page.state[row] == State.ASSIGNED}
    assert assigned
    assert assigned <= had
