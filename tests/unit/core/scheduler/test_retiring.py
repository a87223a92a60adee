"""Nodes that leave hand over what they alone have, and are let go when nothing is left."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.scheduler.retiring import reasons
from zcluster.protocol.messages import (
    Called,
    Copied,
    Copy,
    Leave,
    Recall,
    Recalled,
    Retire,
    WorkerInfo,
    Workers,
)


@pytest.fixture
def two(desk: Any, graph_of: Any) -> Any:
    """Return a desk with nodes a and b, its client, and results at a of which one is small."""

    def make(count: int = 2, **settings: Any) -> Any:
        d = desk(**settings)
        client = d.client()
        a = d.node("a", slots=count)
        first = d.submit(client, graph_of([()] * count))
        d.flush()
        d.finish(a, [first], b"small")
        d.finish(a, list(range(first + 1, first + count)), length=-1)
        b = d.node("b")
        d.flush()
        d.messages.clear()
        return d, client, a, b, first

    return make


def test_what_is_only_there_is_copied_and_then_it_leaves(two: Any) -> None:
    d, client, a, b, first = two()
    d.tell(client, Retire(7, ["a"]))
    (copy,) = d.take(Copy, "b")
    assert [(task, nodes) for task, _, nodes in copy.places] == [
        (first, [a.index]),
        (first + 1, [a.index]),
    ]
    d.tell(b, Copied([first], []))
    assert not d.take(Leave)
    d.tell(b, Copied([first + 1], []))
    assert d.take(Leave, "a") == [Leave([])]
    assert not d.take(Called)
    d.core.on_gone(a.peer, "", d.now)
    assert d.take(Called, "c") == [Called(7)]
    assert d.words([first, first + 1]) == ["finished", "finished"]
    page, row = d.row(first)
    assert d.state.holders(first, page, row) == [b.index]
    assert not d.state.retiring


def test_it_gets_no_work_and_gives_back_what_it_has_not_begun(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, a = d.client(), d.node("a")
    first = d.submit(client, graph_of([()]))
    assert d.assigned() == {"a": [first]}
    d.tell(client, Retire(1, ["a"]))
    assert d.take(Recall, "a") == [Recall([first])]
    assert reasons(d.state) == {"a": "1 tasks it has begun are not finished"}
    late = d.submit(client, graph_of([()]))
    assert d.assigned() == {}
    d.later(3.0)
    d.tell(a, Recalled([first], [1]))
    d.later()
    assert d.take(Leave, "a") == [Leave([])]
    d.node("b", slots=2)
    assert d.assigned() == {"b": [first, late]}


def test_whoever_cannot_take_a_result_is_asked_again_later(two: Any) -> None:
    d, client, _, b, first = two(2)
    d.tell(client, Retire(1, ["a"]))
    assert d.take(Copy, "b")
    d.tell(b, Copied([first], [first + 1]))
    assert not d.take(Copy)
    assert "no other node has room for" in reasons(d.state)["a"]
    d.later(5.0)
    assert d.take(Copy, "b")
    d.tell(b, Copied([first + 1], []))
    assert d.take(Leave, "a")


def test_what_only_its_client_needs_and_has_keeps_nobody_here(two: Any) -> None:
    d, client, _, b, first = two(1)
    d.core.on_gone(b.peer, "", d.now)
    d.tell(client, Retire(1, ["a"]))
    assert d.take(Leave, "a")
    assert d.word(first) == "finished"


def test_where_nobody_else_is_it_waits_and_says_so(two: Any) -> None:
    d, client, _, b, _ = two(3)
    d.core.on_gone(b.peer, "", d.now)
    d.tell(client, Retire(1, ["a"]))
    d.later()
    assert not d.take(Leave)
    assert "no other node is here to take" in reasons(d.state)["a"]
    assert "and 1 more results" in reasons(d.state)["a"]
    d.node("c")
    d.later()
    assert len(d.take(Copy, "c")[0].places) == 3


def test_who_was_to_take_it_dies(two: Any) -> None:
    d, client, _, b, first = two(1)
    c = d.node("c")
    d.tell(client, Retire(1, ["a"]))
    (taker,) = [node for node in (b, c) if d.take(Copy, node.name)]
    other = c if taker is b else b
    d.core.on_gone(taker.peer, "", d.now)
    d.later()
    assert [task for task, _, _ in d.take(Copy, other.name)[0].places] == [first]


def test_two_that_leave_do_not_count_on_each_other(two: Any) -> None:
    d, client, _, b, first = two(1)
    d.tell(client, Retire(1, ["a"]))
    d.tell(b, Copied([first], []))
    d.tell(client, Retire(2, ["b"]))
    c = d.node("c")
    d.later()
    d.tell(c, Copied([first], []))
    d.later()
    assert d.take(Leave, "b")


def test_without_closing_it_is_answered_when_nothing_is_left(two: Any) -> None:
    d, client, _, b, first = two(1)
    d.tell(client, Retire(4, ["a"], False))
    d.tell(b, Copied([first], []))
    d.later()
    assert d.take(Called, "c") == [Called(4)]
    assert not d.take(Leave)
    d.tell(client, Retire(5, ["a"]))
    assert d.take(Leave, "a")


def test_some_workers_of_a_node_leave_alone(desk: Any) -> None:
    d = desk()
    client, a = d.client(), d.node("a", workers=3)
    d.tell(client, Retire(1, ["a-0", "a-2"]))
    assert d.take(Leave, "a") == [Leave([0, 2])]
    assert not d.state.retiring
    leaving = [
        WorkerInfo(k, f"a-{k}", 1, 0, 100 + k, {}, "running" if k == 1 else "retiring", "waits")
        for k in range(3)
    ]
    d.tell(a, Workers(leaving))
    assert reasons(d.state) == {"a-0": "waits", "a-2": "waits"}
    assert not d.take(Called)
    d.tell(a, Workers(leaving[1:2]))
    assert d.take(Called, "c") == [Called(1)]
    d.tell(client, Retire(2, ["a-1"]))  # the last one: the node goes
    assert d.take(Leave, "a") == [Leave([])]


def test_nobody_of_that_name_is_no_wait(desk: Any) -> None:
    d = desk()
    client = d.client()
    d.tell(client, Retire(1, ["x"]))
    assert d.take(Called, "c") == [Called(1)]


@pytest.mark.parametrize("how", ["retired", "paused"])
def test_what_was_to_follow_its_inputs_there_waits_for_them(
    desk: Any, graph_of: Any, how: str
) -> None:
    d = desk(batch=1)
    client = d.client()
    a = d.node("a")
    count = 40
    first = d.submit(client, graph_of([(), *((k,) for k in range(count - 1))]))
    d.flush()
    tasks = range(first, first + count)
    assert "ahead" in d.words(tasks)
    if how == "retired":
        d.tell(client, Retire(7, ["a"], close=False))
    else:
        paused = WorkerInfo(0, "a-0", 1, 0, 1, {}, "paused", "its memory")
        d.tell(a, Workers([paused]))
    assert d.state.nodes[a.index].ahead == []
    assert "ahead" not in d.words(tasks)
