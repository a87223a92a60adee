"""Tasks of others that a client wants too, and failed tasks that run once more."""

from __future__ import annotations

from typing import Any

from zcluster.core.scheduler.invariants import check_empty
from zcluster.protocol.messages import (
    Assign,
    Cancel,
    Cancelled,
    ErrorInfo,
    Failed,
    Needs,
    Release,
    Resolved,
    Retry,
    Want,
)


def test_a_result_outlives_the_client_that_had_it_made(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two, node = d.client("one"), d.client("two"), d.node()
    first = d.submit(one, graph_of([()]))
    d.flush()
    d.tell(two, Want([first]))
    d.finish(node, [first], b"value")
    d.flush()
    assert sorted(name for name, m, _ in d.messages if isinstance(m, Resolved)) == ["one", "two"]
    d.core.on_gone(one.peer, "bye", d.now)
    d.flush()
    assert d.state.find(first) is not None
    d.tell(two, Release([first]))
    d.flush()
    check_empty(d.state)


def test_who_comes_late_is_told_at_once(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two, node = d.client("one"), d.client("two"), d.node(slots=4)
    first = d.submit(one, graph_of([()] * 3))
    d.flush()
    d.finish(node, [first], b"value")
    d.fail(node, first + 1)
    d.tell(one, Cancel([first + 2]))
    d.flush()
    d.messages.clear()
    d.tell(two, Want([first, first + 1, first + 2, first + 9]))
    d.flush()
    told = {type(m): m for name, m, _ in d.messages if name == "two"}
    assert told[Resolved].tasks == [first]
    assert told[Cancelled].tasks == [first + 2]
    failed = [m for name, m, _ in d.messages if name == "two" and isinstance(m, Failed)]
    assert [m.tasks for m in failed] == [[first + 1], [first + 9]]
    assert failed[1].errors[0].kind == "lost"
    assert "not known to the scheduler any more" in failed[1].errors[0].message


def test_wanting_twice_counts_once(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two, node = d.client("one"), d.client("two"), d.node()
    first = d.submit(one, graph_of([()]))
    d.flush()
    for _ in range(2):
        d.tell(one, Want([first]))
        d.tell(two, Want([first]))
    d.finish(node, [first])
    d.tell(one, Release([first]))
    d.tell(two, Release([first]))
    d.flush()
    check_empty(d.state)


def test_a_failed_task_runs_once_more_with_what_it_failed_of(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([()], [(0,)], [(1,)]))
    d.assigned()
    d.fail(node, first)
    d.flush()
    d.messages.clear()
    d.tell(client, Retry([first + 2]))
    assert first in d.assigned()["n"]
    for task in range(first, first + 3):
        d.flush()
        d.finish(node, [task], b"again")
    resolved = [task for m in d.take(Resolved) for task in m.tasks]
    assert sorted(resolved) == [first, first + 1, first + 2]


def test_what_one_client_had_run_again_is_told_to_the_other(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two, node = d.client("one"), d.client("two"), d.node()
    first = d.submit(one, graph_of([()]))
    d.flush()
    d.tell(two, Want([first]))
    d.fail(node, first)
    d.flush()
    d.tell(one, Retry([first]))
    d.flush()
    d.finish(node, [first], b"value")
    d.flush()
    d.messages.clear()
    d.tell(two, Retry([first]))
    d.flush()
    assert [name for name, m, _ in d.messages if isinstance(m, Resolved)] == ["two"]


def begun_once(d: Any, graph_of: Any) -> tuple[Any, Any, int]:
    """Return a client, a node, and a task that runs at most once and failed, with two upon it."""
    client, node = d.client(), d.node()
    graph = graph_of(("once", [()]), ("use", [(0,), (1,)]))
    graph.layers[0].options = graph.layers[0].options._replace(needs=Needs(at_most_once=True))
    first = d.submit(client, graph)
    d.assigned()
    d.fail(node, first)
    d.take(Failed)
    return client, node, first


def test_an_input_that_runs_at_most_once_has_to_be_named(desk: Any, graph_of: Any) -> None:
    """Who retries what failed of it need not know that it would run a second time."""
    d = desk()
    client, _, first = begun_once(d, graph_of)
    d.tell(client, Retry([first + 2]))
    assert d.assigned() == {}
    (failed,) = d.take(Failed)[-1:]
    told = {error.origin: error for error in failed.errors}
    assert set(told) == {first}
    error = told[first]
    assert (error.kind, error.type_name) == ("input", "zcluster.errors.TaskLost")
    assert error.message == (
        "once runs at most once, and it failed (ValueError: no); it may have done part of its "
        "work, and is not run again: see what it did, then retry its own future or submit it anew"
    )
    # Its own failure is what it was.
    assert d.state.failures[first].error.kind == "task"
    d.tell(client, Retry([first, first + 2]))
    assert d.assigned()["n"][0] == first


def test_one_that_was_lost_says_so_itself(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    node = d.node()
    graph = graph_of(("once", [()]), ("use", [(0,)]))
    graph.layers[0].options = graph.layers[0].options._replace(needs=Needs(at_most_once=True))
    first = d.submit(client, graph)
    d.assigned()
    d.core.on_gone(node.peer, "killed", d.now)
    d.node("other")
    d.take(Failed)
    d.tell(client, Retry([first + 1]))
    (failed,) = d.take(Failed)
    assert failed.tasks == [first + 1]
    assert "runs at most once, and" in failed.errors[0].message
    assert failed.errors[0].message.count("runs at most once") == 1
    assert d.assigned() == {}


def test_all_of_a_layer_that_runs_at_most_once_has_to_be_named_too(
    desk: Any, graph_of: Any, add_layer: Any
) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=2)
    graph = graph_of([()] * 2, needs=Needs(at_most_once=True))
    add_layer(graph, "all", [()], whole=[0])
    first = d.submit(client, graph)
    d.assigned()
    d.finish(node, [first])
    d.fail(node, first + 1)
    d.take(Failed)
    d.tell(client, Retry([first + 2]))
    (failed,) = d.take(Failed)
    assert (failed.tasks, failed.errors[0].origin) == ([first + 2], first + 1)
    assert "runs at most once" in failed.errors[0].message
    assert d.assigned() == {}


def test_one_that_has_not_begun_needs_no_name(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    graph = graph_of(("in", [()]), ("once", [(0,)]), ("use", [(1,)]))
    graph.layers[1].options = graph.layers[1].options._replace(needs=Needs(at_most_once=True))
    first = d.submit(client, graph)
    d.flush()
    d.fail(node, first)
    d.flush()
    d.messages.clear()
    d.tell(client, Retry([first + 2]))
    for task in range(first, first + 3):
        d.flush()
        d.finish(node, [task])
    assert d.word(first + 2) == "finished"


def test_who_retries_an_equal_call_has_named_it(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client("one"), d.node()
    other = d.client("two")
    graphs = [graph_of([()], needs=Needs(at_most_once=True)) for _ in range(2)]
    for graph in graphs:
        graph.layers[0].keys, graph.layers[0].shared = ["k"], True
    first, equal = (
        d.submit(who, graph) for who, graph in zip((client, other), graphs, strict=True)
    )
    d.flush()
    d.fail(node, first)
    d.flush()
    d.messages.clear()
    d.tell(other, Retry([equal]))
    assert d.assigned() == {"n": [first]}


def test_only_named_exceptions_are_tried_again(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    needs = Needs(retry_on=["builtins.KeyError"])
    first = d.submit(client, graph_of([()], retries=3, needs=needs))
    d.flush()
    d.fail(node, first)  # a ValueError
    assert d.take(Failed)


def test_who_asks_for_it_runs_again_however_often(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([()], needs=Needs(retry_on=["builtins.KeyError"])))
    bases = ["mine.Later", "zcluster.types.Reschedule", "builtins.Exception"]
    for attempt in range(5):
        assert d.assigned() == {"n": [first]}
        error = ErrorInfo("task", "Later", "", "", first, 0, "n", "w", bases=bases)
        d.tell(node, Failed([first], [d.attempt(first)], [0], [error]))
        assert d.attempt(first) == attempt + 1
    d.flush()
    d.finish(node, [first], b"value")
    d.flush()
    assert d.word(first) == "finished"


def test_a_retry_waits_longer_each_time(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([()], retries=3, needs=Needs(retry_delay=1.0)))
    for delay in (1.0, 2.0, 4.0):
        assert d.assigned() == {"n": [first]}
        d.fail(node, first)
        d.now += 0.9 * delay
        d.core.on_time(d.now)
        assert d.assigned() == {}
        d.now += 0.2 * delay
        d.core.on_time(d.now)
    assert d.take(Assign) or d.assigned() == {"n": [first]}
    d.fail(node, first)
    assert d.take(Failed)


def test_what_came_with_an_unknown_input_can_never_run(desk: Any, graph_of: Any) -> None:
    """Its row has the inputs that were known: run with those it would give a wrong answer."""
    d = desk()
    client = d.client()
    d.node()
    gone = d.submit(client, graph_of([()]))
    d.tell(client, Release([gone]))
    d.later()
    graph = graph_of([()])
    for name in ("gone", "kept"):
        graph.add_import(name)
    kept = d.submit(client, graph_of([()]))
    taker = graph_of([(~0, ~1)])
    taker.imports = graph.imports
    first = d.submit(client, taker, [gone, kept])
    assert d.word(first) == "failed"
    d.take(Failed)
    d.tell(client, Retry([first]))
    (failed,) = d.take(Failed)
    assert (failed.tasks, failed.errors[0].kind) == ([first], "lost")
    assert "can never run" in failed.errors[0].message
    assert d.word(first) == "failed"
