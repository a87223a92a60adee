"""Copies are ordered where they are missing, counted when they are there, and let go of."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.scheduler.copying import rebalance, replicate
from zcluster.protocol.messages import Copied, Copy, Free, Release


@pytest.fixture
def place(desk: Any, graph_of: Any) -> Any:
    """Return a function that makes a desk with nodes and results, all of them at the first."""

    def make(sizes: list[int], nodes: int = 3) -> tuple[Any, list[Any], Any, int]:
        d = desk()
        client = d.client()
        members = [d.node("a", slots=len(sizes))]
        first = d.submit(client, graph_of([()] * len(sizes)))
        d.flush()
        for position, size in enumerate(sizes):
            d.finish(members[0], [first + position], b"x" * size)
        members += [d.node(name) for name in "bcdef"[: nodes - 1]]
        d.flush()
        return d, members, client, first

    return make


def holders(d: Any, task: int) -> set[int]:
    page, row = d.row(task)
    return set(d.state.holders(task, page, row))


def test_copies_are_ordered_where_none_is(place: Any) -> None:
    d, (a, b, c), _, first = place([10, 20])
    goals = replicate(d.state, [first, first + 1, first + 99], [], 2)
    assert set(goals) == {str(first), str(first + 1)}
    assert [goal[0] for goal in goals.values()] == [a.index] * 2
    assert {goal[1] for goal in goals.values()} == {b.index, c.index}  # the load is spread
    orders = {m.name: d.take(Copy, m.name) for m in (a, b, c)}
    assert orders["a"] == []
    (order,) = orders["b"]
    assert order.places == [(first, 10, [a.index])]
    assert replicate(d.state, [first], [], 1) == {str(first): [a.index]}
    assert d.take(Copy) == []


def test_a_copy_counts_when_it_is_there_and_goes_with_the_result(place: Any) -> None:
    d, (a, b, c), client, first = place([10])
    assert sorted(replicate(d.state, [first], [], 0)[str(first)]) == [a.index, b.index, c.index]
    assert holders(d, first) == {a.index}
    d.tell(b, Copied([first], []))
    d.tell(b, Copied([first], []))
    d.tell(c, Copied([], [first]))  # it could not
    assert holders(d, first) == {a.index, b.index}
    d.core.on_gone(a.peer, "gone", d.now)
    assert holders(d, first) == {b.index}
    d.tell(client, Release([first]))
    d.later()
    assert [free.tasks for free in d.take(Free, "b")] == [[first]]


def test_a_copy_of_what_nobody_needs_any_more_is_freed(place: Any) -> None:
    d, (_, b, _), client, first = place([10])
    replicate(d.state, [first], [b.index], 0)
    d.tell(client, Release([first]))
    d.later()
    d.take(Free)
    d.tell(b, Copied([first], []))
    d.later()
    assert [free.tasks for free in d.take(Free, "b")] == [[first]]
    assert d.state.replicas == {}


def test_results_are_moved_until_nodes_hold_like_amounts(place: Any) -> None:
    d, (a, b, c), _, first = place([100, 60, 50, 10, 1])
    goals = rebalance(d.state, range(first, first + 5), [])
    (to_b,), (to_c,) = d.take(Copy, "b"), d.take(Copy, "c")
    moved = {b.name: [place[0] for place in to_b.places], c.name: [p[0] for p in to_c.places]}
    assert {task for tasks in moved.values() for task in tasks} == set(map(int, goals))
    left = {100, 60, 50, 10, 1} - {size for o in (to_b, to_c) for _, size, _ in o.places}
    amounts = [sum(size for _, size, _ in o.places) for o in (to_b, to_c)]
    assert max(sum(left), *amounts) <= 121
    for member, name in ((b, "b"), (c, "c")):
        d.tell(member, Copied(moved[name], []))
        assert all(holders(d, task) == {member.index} for task in moved[name])
    d.later()
    freed = [task for free in d.take(Free, "a") for task in free.tasks]
    assert sorted(freed) == sorted(moved["b"] + moved["c"])
    assert d.state.moves == {}
    assert rebalance(d.state, range(first, first + 5), [a.index]) == {}  # alone it has no choice


def test_a_move_that_fails_leaves_the_result_where_it_is(place: Any) -> None:
    d, (a, b), _, first = place([100, 100], nodes=2)
    (moved,) = rebalance(d.state, [first, first + 1], [])
    d.tell(b, Copied([], [int(moved)]))
    assert holders(d, int(moved)) == {a.index}
    assert d.state.moves == {}


def test_a_copy_at_the_target_does_not_cost_the_last_one(place: Any) -> None:
    """The old place died before the new one said that it has it."""
    d, (a, b), _, first = place([100, 100], nodes=2)
    (moved,) = map(int, rebalance(d.state, [first, first + 1], []))
    replicate(d.state, [moved], [b.index], 0)
    d.tell(b, Copied([moved], []))
    d.tell(b, Copied([moved], []))
    assert holders(d, moved) == {b.index}
    assert b.index != a.index


def test_a_result_made_twice_stays_where_a_copy_of_it_is_on_order(place: Any) -> None:
    """The node answers the order with what it made itself; let go of, it would be nowhere."""
    d, (_, b), _, first = place([10], nodes=2)
    replicate(d.state, [first], [], 0)
    d.take(Copy)
    d.finish(b, [first], b"x" * 10)  # an attempt from before it was cut off
    d.tell(b, Copied([first], []))
    assert b.index in holders(d, first)
    assert not d.state.frees.get(b.index)
    # Without an order nobody wants it there.
    d, (_, b), _, first = place([10], nodes=2)
    d.finish(b, [first], b"x" * 10)
    assert d.state.frees[b.index] == [first]
