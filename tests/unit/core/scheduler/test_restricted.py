"""Tasks that not every worker may run, and tasks that nobody can."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from zcluster.core.scheduler.questions import explain
from zcluster.core.scheduler.restricted import STUCK_SECONDS
from zcluster.errors import ProtocolError
from zcluster.protocol.messages import Blocked, Needs, Stuck, Workers


def stuck(d: Any) -> list[Stuck]:
    """Let time pass until those who wait in vain are told."""
    found: list[Stuck] = []
    for seconds in (0.1, STUCK_SECONDS + 0.1):
        d.now += seconds
        d.core.on_time(d.now)
        found += d.take(Stuck)
    return found


def test_resources_are_given_and_taken_back(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=4, resources={"GPU": 2.0})
    first = d.submit(client, graph_of([()] * 5, needs=Needs({"GPU": 1.0})))
    assert d.assigned() == {"n": [first, first + 1]}
    assert d.state.nodes[node.index].spent == {0: {"GPU": 2.0}}
    d.finish(node, [first])
    assert d.assigned() == {"n": [first + 2]}
    d.fail(node, first + 1)
    assert d.assigned() == {"n": [first + 3]}


def test_resources_are_those_of_one_worker(desk: Any, graph_of: Any) -> None:
    """Two workers with one each are not a worker with two."""
    d = desk()
    client, _ = d.client(), d.node(workers=2, resources={"GPU": 1.0})
    d.submit(client, graph_of([()], needs=Needs({"GPU": 2.0})))
    assert d.assigned() == {}


def test_a_task_goes_to_a_worker_that_has_what_it_needs(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    d.node("poor")
    d.node("rich", resources={"GPU": 1.0, "licence": 1.0})
    first = d.submit(client, graph_of([()], needs=Needs({"GPU": 0.5, "licence": 1.0})))
    assert d.assigned() == {"rich": [first]}


def test_a_task_of_several_threads_goes_where_so_many_are(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    d.node("narrow", slots=1, workers=4)
    wide = d.node("wide", slots=4)
    first = d.submit(client, graph_of([()], needs=Needs(threads=3)))
    assert d.assigned() == {"wide": [first]}
    record = d.state.nodes[wide.index]
    assert sum(record.assigned.values()) == 3
    d.finish(wide, [first])
    assert record.assigned == {}


def test_a_lost_node_gives_its_resources_to_nobody(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    one = d.node("one", resources={"GPU": 1.0})
    first = d.submit(client, graph_of([()], needs=Needs({"GPU": 1.0})))
    assert d.assigned() == {"one": [first]}
    d.node("two", resources={"GPU": 1.0})
    d.core.on_gone(one.peer, "gone", d.now)
    assert d.assigned() == {"two": [first]}
    assert len(d.state.bound) == 1


def test_amounts_below_zero_are_refused(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    with pytest.raises(ProtocolError, match="above zero"):
        d.submit(client, graph_of([()], needs=Needs({"GPU": -1.0})))


def test_a_task_that_nobody_can_run_is_told_of_within_three_seconds(
    desk: Any, graph_of: Any
) -> None:
    d = desk()
    client, _ = d.client(), d.node(slots=2)
    first = d.submit(client, graph_of([()], needs=Needs({"GPU": 1.0}, threads=4)))
    d.flush()
    (told,) = stuck(d)
    assert told.tasks == [first]
    assert "needs the resources GPU=1 with 4 threads" in told.reasons[0]
    assert "n-0 (2 threads)" in told.reasons[0]
    assert stuck(d) == []  # once
    second = d.submit(client, graph_of([()], needs=Needs({"GPU": 1.0}, threads=4)))
    (told,) = stuck(d)
    assert told.tasks == [second]


def test_a_worker_that_comes_ends_the_wait(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, _ = d.client(), d.node()
    first = d.submit(client, graph_of([()], needs=Needs({"GPU": 1.0})))
    d.now += 1.0
    d.core.on_time(d.now)
    d.node("late", resources={"GPU": 1.0})
    assert d.assigned() == {"late": [first]}
    assert stuck(d) == []
    assert d.state.stuck == {}


def test_no_worker_at_all_is_a_reason_too(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    d.submit(client, graph_of([()]))
    (told,) = stuck(d)
    assert "no worker is here" in told.reasons[0]


def test_a_busy_worker_is_no_reason(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, _ = d.client(), d.node(resources={"GPU": 1.0})
    d.submit(client, graph_of([()] * 3, needs=Needs({"GPU": 1.0})))
    d.flush()
    assert stuck(d) == []


def test_a_task_that_waits_for_others_makes_room(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=1)
    first = d.submit(client, graph_of([()] * 3))
    assert d.assigned() == {"n": [first]}
    d.tell(node, Blocked([first], True))
    assert d.assigned() == {"n": [first + 1]}
    d.tell(node, Blocked([first], False))
    assert d.assigned() == {}
    d.finish(node, [first, first + 1], seconds=1.0)
    assert d.assigned() == {"n": [first + 2]}
    assert d.state.nodes[node.index].blocked == {}


def test_a_task_of_several_threads_that_waits_leaves_all_its_slots(
    desk: Any, graph_of: Any
) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=2)
    first = d.submit(client, graph_of([()] * 2, needs=Needs(threads=2)))
    assert d.assigned() == {"n": [first]}
    d.tell(node, Blocked([first], True))
    assert d.assigned() == {"n": [first + 1]}
    d.finish(node, [first, first + 1])
    assert d.state.nodes[node.index].blocked == {}


def test_a_node_speaks_of_its_own_tasks_alone(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node, other = d.client(), d.node("one"), d.node("two")
    first = d.submit(client, graph_of([()]))
    (name,) = d.assigned()
    liar = other if name == "one" else node
    d.tell(liar, Blocked([first, 77], True))
    assert d.state.nodes[liar.index].blocked == {}


def paused(d: Any, node: Any, *numbers: int) -> None:
    """Have a node say that some of its workers take no work."""
    workers = [
        replace(worker, status="paused", reason="its memory is full")
        if worker.number in numbers
        else replace(worker, status="running", reason="")
        for worker in d.state.nodes[node.index].info.workers
    ]
    d.tell(node, Workers(workers))


def test_paused_workers_do_not_count(desk: Any, graph_of: Any) -> None:
    """Neither their slots, nor as those that some tasks want, nor in what is told of them."""
    d = desk()
    client, node = d.client(), d.node(workers=2, resources={"GPU": 1.0})
    paused(d, node, 0)
    first = d.submit(client, graph_of([()] * 2, needs=Needs({"GPU": 1.0})))
    assert d.assigned() == {"n": [first]}
    assert d.state.nodes[node.index].spent == {1: {"GPU": 1.0}}
    other = d.submit(client, graph_of([()]))
    assert d.assigned() == {}
    paused(d, node)
    assert d.assigned() == {"n": [first + 1]}
    assert d.state.nodes[node.index].slots == 2
    d.finish(node, [first])
    assert d.assigned() == {"n": [other]}


def test_who_waits_for_a_paused_worker_is_told_so(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(workers=2)
    paused(d, node, 1)
    named = d.submit(client, graph_of([()], workers=["n-1"]))
    assert "paused: n-1 (its memory is full)" in stuck(d)[0].reasons[0]
    paused(d, node, 0, 1)
    other = d.submit(client, graph_of([()]))
    (told,) = stuck(d)
    assert told.tasks == [other]
    reason = "all workers are paused: n-0 (its memory is full); n-1 (its memory is full)"
    assert told.reasons == [reason]
    assert explain(d.state, named).endswith(reason)
    paused(d, node)
    assert d.assigned() == {"n": [named, other]}
