"""Work goes back from a node with a long queue when another has none."""

from __future__ import annotations

from typing import Any

from zcluster.protocol.messages import Recall, Recalled


def wrong_guess(d: Any, graph_of: Any) -> tuple[Any, Any, int]:
    """Have one node be sent many tasks that turn out to take long."""
    client, node = d.client(), d.node("one")
    first = d.submit(client, graph_of([()]))
    d.assigned()
    d.finish(node, [first], seconds=0.004)
    first = d.submit(client, graph_of([()] * 10))
    assert d.assigned() == {"one": list(range(first, first + 10))}
    d.finish(node, [first], seconds=5.0)
    return client, node, first


def test_the_later_half_is_asked_for_when_another_node_is_idle(desk: Any, graph_of: Any) -> None:
    d = desk(window=0.04)
    _, node, first = wrong_guess(d, graph_of)
    assert d.take(Recall) == []
    d.node("two", slots=2)
    assert d.take(Recall, "one") == [Recall(list(range(first + 6, first + 10)))]
    d.tell(node, Recalled([first + 8, first + 9], [1, 1]))
    assert d.assigned() == {"two": [first + 8, first + 9]}


def test_a_node_is_not_asked_again_at_once(desk: Any, graph_of: Any) -> None:
    d = desk(window=0.04)
    wrong_guess(d, graph_of)
    d.node("two")
    assert len(d.take(Recall)) == 1
    assert d.take(Recall) == []
    d.now += 1.0
    assert len(d.take(Recall)) == 1


def test_a_node_keeps_one_task_for_each_slot(desk: Any, graph_of: Any) -> None:
    d = desk(window=0.04)
    client, node = d.client(), d.node("one", slots=2)
    first = d.submit(client, graph_of([()] * 2))
    d.assigned()
    d.finish(node, [first], seconds=9.0)
    d.node("two")
    assert d.take(Recall) == []


def test_what_only_named_workers_may_run_stays(desk: Any, graph_of: Any) -> None:
    d = desk(window=0.04)
    client, node = d.client(), d.node("one")
    first = d.submit(client, graph_of([()], workers=["one"]))
    d.assigned()
    d.finish(node, [first], seconds=0.004)
    first = d.submit(client, graph_of([()] * 10, workers=["one"]))
    d.assigned()
    d.finish(node, [first], seconds=5.0)
    d.node("two")
    assert d.take(Recall) == []
