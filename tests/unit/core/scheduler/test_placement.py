"""A task goes where bringing its inputs and waiting for its turn take least."""

from __future__ import annotations

from typing import Any

from zcluster.core.scheduler.placement import resolve
from zcluster.protocol.messages import Assign


def place(desk: Any, graph_of: Any, sizes: tuple[int, int]) -> dict[str, list[int]]:
    """Make two inputs of these sizes at nodes one and two; return where their taker goes."""
    d = desk()
    client, one, two = d.client(), d.node("one", slots=2), d.node("two", slots=2)
    first = d.submit(client, graph_of([()], [()], [(0, 1)]))
    given = d.assigned()
    assert given == {"one": [first], "two": [first + 1]}
    for node, task, size in ((one, first, sizes[0]), (two, first + 1, sizes[1])):
        page, row = d.row(task)
        d.finish(node, [task], length=-1)
        page.size[row] = size
    placed: dict[str, list[int]] = d.assigned()
    return placed


def test_a_task_goes_to_its_largest_input(desk: Any, graph_of: Any) -> None:
    assert list(place(desk, graph_of, (10, 1 << 30))) == ["two"]
    assert list(place(desk, graph_of, (1 << 30, 10))) == ["one"]


def test_a_result_that_cannot_travel_is_taken_where_it_is(desk: Any, graph_of: Any) -> None:
    """Even if that node has less room: elsewhere its taker could never run."""
    d = desk(window=1.0)
    client, one = d.client(), d.node("one", slots=2)
    first = d.submit(client, graph_of([()]))
    d.flush()
    d.finish(one, [first], length=-3)
    d.assigned()
    d.node("two", slots=64)
    graph = graph_of([(-1,)])
    graph.imports = [object()]
    taker = d.submit(client, graph, [first])
    assert d.assigned() == {"one": [taker]}


def test_workers_are_named_by_worker_node_host_or_address(desk: Any) -> None:
    d = desk()
    one, two = d.node("one", workers=2, host="a"), d.node("two", host="b")
    nodes = d.state.nodes

    def found(*names: str) -> list[tuple[str, int]]:
        return [(node.info.name, number) for node, number in resolve(d.state, names)]

    assert found("one-1") == [("one", 1)]
    assert found("one") == found("a") == found("tcp://one") == [("one", 0), ("one", 1)]
    assert found("one-0", "b") == [("one", 0), ("two", 0)]
    assert found("nobody") == []
    d.core.on_away(two.peer, d.now)
    assert found("two") == []
    assert len(nodes) == 2
    assert one.index == 0


def test_the_share_of_an_input_that_is_asked_for_counts(desk: Any, graph_of: Any) -> None:
    from zcluster.protocol.messages import Slot

    d = desk()
    client, one, two = d.client(), d.node("one", slots=2), d.node("two", slots=2)
    graph = graph_of([()], [()], [(0, 1)])
    graph.layers[2].slots = [Slot(fraction=0.001), Slot(fraction=1.0)]
    first = d.submit(client, graph)
    d.assigned()
    d.finish(one, [first], length=-1)
    page, row = d.row(first)
    page.size[row] = 1 << 30
    d.finish(two, [first + 1], length=-1)
    page, row = d.row(first + 1)
    page.size[row] = 1 << 28
    (assign,) = d.take(Assign, "two")
    assert assign.tasks == [first + 2]
