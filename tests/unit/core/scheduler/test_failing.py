"""Tasks that end without a result: by force, for want of time, or lost and not to run again."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.scheduler.arrival import CALL_VALUE
from zcluster.core.scheduler.invariants import check_empty
from zcluster.graph.layers import Graph
from zcluster.protocol.messages import (
    Assign,
    Cancel,
    Cancelled,
    Coordinate,
    Drop,
    ErrorInfo,
    Failed,
    Lost,
    Needs,
    Recalled,
    Release,
    Resolved,
    Retry,
    Scattered,
    Want,
)
from zcluster.types import Reschedule

ONCE = Needs(at_most_once=True)


def submit(desk: Any, client: Any, graph: Any, needs: Needs, retries: int = 0) -> int:
    """Submit a graph whose first layer has needs; return its first task."""
    layer = graph.layers[0]
    layer.options = layer.options._replace(needs=needs, retries=retries)
    first: int = desk.submit(client, graph)
    return first


def cancelled(desk: Any, name: str) -> list[int]:
    """Flush, and take the tasks that a client was told to be cancelled."""
    return sorted(task for message in desk.take(Cancelled, name) for task in message.tasks)


def shared_call(graph_of: Any, key: str = "k") -> Any:
    """Return a graph of one call whose result any client may share."""
    graph = graph_of([()])
    graph.layers[0].keys, graph.layers[0].shared = [key], True
    return graph


def errors(desk: Any, name: str = "c") -> list[tuple[int, str]]:
    """Flush, and take the tasks a client was told to have failed, with the kinds of errors."""
    return [
        (task, message.errors[which].kind)
        for message in desk.take(Failed, name)
        for task, which in zip(message.tasks, message.which, strict=True)
    ]


# --- force --------------------------------------------------------------------------------------


def test_only_what_is_forced_is_stopped(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    d.node(slots=4)
    first = d.submit(client, graph_of([()] * 2))
    d.flush()
    d.tell(client, Cancel([first], "", True))
    d.tell(client, Cancel([first + 1]))
    told = d.take(Drop, "n")
    assert {(tuple(m.tasks), m.force) for m in told} == {((first,), True), ((first + 1,), False)}
    assert d.state.forced == set()


def test_what_was_cancelled_before_is_looked_for_everywhere(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    for name in "ab":
        d.node(name)
    first = d.submit(client, graph_of([()]))
    d.flush()
    d.tell(client, Cancel([first]))
    assert len(d.take(Drop)) == 1
    d.tell(client, Cancel([first], "", True))
    for name in "ab":
        assert d.take(Drop, name) == [Drop([first], force=True)]


def test_a_finished_task_is_not_touched_by_force(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([()]))
    d.flush()
    d.finish(node, [first])
    d.tell(client, Cancel([first], "", True))
    assert d.take(Drop) == []
    assert d.word(first) == "finished"
    d.tell(client, Cancel([], "", True))
    d.flush()
    assert d.state.forced == set()


# --- what others want ---------------------------------------------------------------------------


def test_what_another_client_wants_goes_on_without_the_one_that_cancels(
    desk: Any, graph_of: Any
) -> None:
    """The one who submitted it, and the one who came later, are alike."""
    d = desk()
    one, two, node = d.client("one"), d.client("two"), d.node(slots=2)
    first = d.submit(one, graph_of([()] * 2))
    d.tell(two, Want([first, first + 1]))
    d.flush()
    d.tell(one, Cancel([first]))
    d.tell(two, Cancel([first + 1]))
    assert d.take(Drop) == []
    assert (cancelled(d, "one"), cancelled(d, "two")) == ([first], [first + 1])
    d.finish(node, [first, first + 1])
    d.flush()
    told = [(name, m.tasks) for name, m, _ in d.messages if isinstance(m, Resolved)]
    assert sorted(told) == [("one", [first + 1]), ("two", [first])]
    d.tell(one, Release([first, first + 1]))
    d.tell(two, Release([first, first + 1]))
    d.later()
    check_empty(d.state)


def test_it_ends_when_the_last_one_cancels(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two = d.client("one"), d.client("two")
    d.node()
    first = d.submit(one, graph_of([()]))
    d.tell(two, Want([first]))
    d.flush()
    for client in (one, two):
        d.tell(client, Cancel([first]))
    assert d.word(first) == "cancelled"
    assert d.take(Drop, "n") == [Drop([first])]


def test_force_ends_it_for_everybody(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two = d.client("one"), d.client("two")
    d.node()
    first = d.submit(one, graph_of([()], [(0,)]))
    d.tell(two, Want([first + 1]))
    d.flush()
    d.tell(one, Cancel([first], "enough", True))
    assert d.take(Drop, "n") == [Drop([first], force=True)]
    assert cancelled(d, "two") == [first + 1]


def test_force_after_a_cancel_that_left_it_to_others(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two = d.client("one"), d.client("two")
    d.node()
    first = d.submit(one, graph_of([()]))
    d.tell(two, Want([first]))
    d.flush()
    d.tell(one, Cancel([first]))
    d.tell(one, Cancel([first], "", True))
    assert d.take(Drop, "n") == [Drop([first], force=True)]
    assert cancelled(d, "two") == [first]


def test_force_stops_what_runs_on_after_everybody_let_go_of_it(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two = d.client("one"), d.client("two")
    d.node()
    # Something that takes it keeps the row.
    first = d.submit(one, graph_of([()], [(0,)]))
    d.tell(two, Want([first]))
    d.flush()
    d.tell(one, Cancel([first]))
    d.tell(two, Release([first]))
    assert d.word(first) == "released"
    assert [message.force for message in d.take(Drop, "n")] == [False]
    d.tell(one, Cancel([first], "", True))
    assert d.take(Drop, "n") == [Drop([first], force=True)]


def test_an_input_of_what_another_client_wants_stays(desk: Any, graph_of: Any) -> None:
    """And of what takes it, only that which nobody else needs ends."""
    d = desk()
    one, two = d.client("one"), d.client("two")
    node = d.node(slots=2)
    # 0 -> 1 -> 2 (wanted by two), 1 -> 3, 0 -> 4
    first = d.submit(one, graph_of([()], [(0,)], [(1,)], [(1,)], [(0,)]))
    d.tell(two, Want([first + 2]))
    d.flush()
    d.tell(one, Cancel([first]))
    assert cancelled(d, "one") == [*range(first, first + 5)]
    assert cancelled(d, "two") == []
    ended = {first + k for k in range(5) if d.word(first + k) == "cancelled"}
    assert ended == {first + 3, first + 4}
    for task in range(first, first + 3):
        d.flush()
        d.finish(node, [task])
    assert [m.tasks for m in d.take(Resolved, "two")] == [[first + 2]]
    assert d.take(Resolved, "one") == []


def test_a_layer_that_others_take_all_of_stays(desk: Any, graph_of: Any, add_layer: Any) -> None:
    d = desk()
    one, two = d.client("one"), d.client("two")
    d.node(slots=4)
    graph = graph_of([()] * 3)
    add_layer(graph, "all", [()] * 2, whole=[0])
    first = d.submit(one, graph)
    d.tell(two, Want([first + 4]))
    d.flush()
    d.tell(one, Cancel([first, first + 1]))
    # Of the two that take them, one is wanted by nobody any more.
    words = d.words(range(first, first + 5))
    assert [word == "cancelled" for word in words] == [False, False, False, True, False]
    d.tell(one, Cancel([first], "", True))
    assert cancelled(d, "two") == [first + 4]


def test_an_equal_call_of_another_client_keeps_the_call(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two = d.client("one"), d.client("two")
    node = d.node()
    first = d.submit(one, shared_call(graph_of))
    equal = d.submit(two, shared_call(graph_of))
    d.flush()
    d.tell(one, Cancel([first]))
    assert cancelled(d, "one") == [first]
    d.finish(node, [first])
    d.assigned()
    assert d.word(equal) != "cancelled"


@pytest.mark.parametrize("before", [False, True], ids=["at once", "cancelled before"])
def test_force_goes_from_an_equal_call_to_the_one_that_runs(
    desk: Any, graph_of: Any, before: bool
) -> None:
    d = desk()
    one, two = d.client("one"), d.client("two")
    d.node()
    first = d.submit(one, shared_call(graph_of))
    equal = d.submit(two, shared_call(graph_of))
    d.flush()
    if before:
        d.tell(two, Cancel([equal]))
        assert d.word(first) == "assigned"
    d.tell(two, Cancel([equal], "", True))
    assert d.word(first) == "cancelled"
    assert cancelled(d, "one") == [first]
    (drop,) = d.take(Drop, "n")
    assert drop.force
    assert first in drop.tasks


def test_what_is_published_is_wanted(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    d.node()
    first = d.submit(client, graph_of([()]))
    d.flush()
    d.tell(client, Coordinate(1, "dataset", "x", "publish", tasks=[first], keys=["k"]), [b"v"])
    d.tell(client, Cancel([first]))
    assert d.word(first) == "assigned"


def test_data_that_its_client_gives_up_is_lost_to_all(desk: Any, add_layer: Any) -> None:
    """Nobody else has it: others must not wait for it."""

    def data_graph() -> Graph:
        graph = Graph()
        add_layer(graph, "data", [()], call=CALL_VALUE, function=None)
        return graph

    d = desk()
    one, two = d.client("one"), d.client("two")
    d.node()
    data = d.submit(one, data_graph())
    d.tell(two, Want([data]))
    d.tell(one, Cancel([data], "no node takes it"))
    assert cancelled(d, "two") == [data]
    # Who does not have it gives up its own want alone.
    data = d.submit(one, data_graph())
    d.tell(two, Want([data]))
    d.tell(two, Cancel([data]))
    assert d.word(data) == "waiting"
    d.tell(one, Scattered([data], [0], [9]))
    assert d.word(data) == "finished"


# --- time limits --------------------------------------------------------------------------------


def test_the_limit_goes_to_the_node(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    d.node()
    submit(d, client, graph_of([()]), Needs(timeout=2.5))
    (message,) = d.take(Assign)
    assert [(layer.timeout, layer.at_most_once) for layer in message.layers] == [(2.5, False)]


def test_what_took_too_long_is_tried_again_and_takes_no_worker_down(
    desk: Any, graph_of: Any
) -> None:
    d = desk(kills=1)
    client, node = d.client(), d.node()
    first = submit(d, client, graph_of([()]), Needs(timeout=2.5), retries=1)
    d.flush()
    d.fail(node, first, "timeout")
    assert d.state.kills == {}
    assert d.word(first) == "ready"
    d.flush()
    d.fail(node, first, "timeout")
    assert errors(d) == [(first, "timeout")]


@pytest.mark.parametrize(
    ("retry_on", "kinds"),
    [(["builtins.TimeoutError"], []), (["builtins.ValueError"], ["timeout"])],
)
def test_it_is_tried_again_if_that_is_wanted(
    desk: Any, graph_of: Any, retry_on: list[str], kinds: list[str]
) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = submit(d, client, graph_of([()]), Needs(timeout=2.5, retry_on=retry_on), retries=1)
    d.flush()
    bases = ["zcluster.errors.TaskTimeout", "builtins.TimeoutError"]
    error = ErrorInfo("timeout", bases[0], "late", "", first, 1, "n", "w", bases=bases)
    d.tell(node, Failed([first], [1], [0], [error]))
    assert [kind for _, kind in errors(d)] == kinds


# --- at most once -------------------------------------------------------------------------------


def test_it_stays_with_a_node_that_is_away_and_is_lost_with_it(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node("a")
    once = submit(d, client, graph_of([()]), ONCE)
    usual = d.submit(client, graph_of([()]))
    assert d.assigned() == {"a": [once]}
    d.core.on_away(node.peer, d.now)
    d.node("b", slots=4)
    assert d.assigned() == {"b": [usual]}
    assert d.word(once) == "assigned"
    d.core.on_gone(node.peer, "killed", d.now)
    (failed,) = d.take(Failed, "c")
    (error,) = failed.errors
    assert (failed.tasks, error.kind) == ([once], "once")
    assert "node a" in error.message
    assert "killed" in error.message
    assert d.assigned() == {}


def test_a_node_that_comes_back_reports_it_as_if_nothing_had_been(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = submit(d, client, graph_of([()]), ONCE)
    d.flush()
    d.core.on_away(node.peer, d.now)
    d.core.on_back(node.peer, d.now)
    d.finish(node, [first])
    assert d.word(first) == "finished"
    d.tell(client, Release([first]))
    d.later(20)
    check_empty(d.state)


def test_what_a_node_gives_back_is_assigned_again(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = submit(d, client, graph_of([()]), ONCE)
    d.flush()
    d.messages.clear()
    d.tell(node, Recalled([first], [1]))
    assert d.assigned() == {"n": [first]}
    assert d.attempt(first) == 2


def test_it_is_not_sent_ahead_of_its_inputs(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=4)
    chain = graph_of(("a", [()]), ("b", [(0,)]))
    chain.layers[1].options = chain.layers[1].options._replace(needs=ONCE)
    first = d.submit(client, chain)
    d.flush()
    assert d.word(first + 1) == "waiting"
    d.finish(node, [first])
    assert first + 1 in d.assigned()["n"]


@pytest.mark.parametrize("kind", ["task", "killed"])
def test_no_failure_has_it_run_again(desk: Any, graph_of: Any, kind: str) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = submit(d, client, graph_of([()]), ONCE)
    d.flush()
    name = f"{Reschedule.__module__}.{Reschedule.__qualname__}"
    error = ErrorInfo(kind, name, "again", "", first, 1, "n", "w", bases=[name])
    d.tell(node, Failed([first], [1], [0], [error]))
    assert errors(d) == [(first, kind)]


def test_a_lost_result_is_not_made_again_unasked(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    graph = graph_of(("once", [()]), ("use", [(0,)]))
    first = submit(d, client, graph, ONCE)
    d.flush()
    d.finish(node, [first], length=-1)
    d.flush()
    d.messages.clear()
    d.tell(node, Lost([first]))
    assert sorted(errors(d)) == [(first, "once"), (first + 1, "input")]
    assert d.assigned() == {}
    # Somebody who asks for it takes the risk.
    d.tell(client, Retry([first]))
    assert d.assigned() == {"n": [first]}


def test_it_goes_on_though_an_input_it_has_had_is_lost(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, a = d.client(), d.node("a", slots=2)
    graph = graph_of(("in", [()]), ("once", [(0,)]))
    graph.layers[1].options = graph.layers[1].options._replace(needs=ONCE)
    first = d.submit(client, graph)
    d.flush()
    d.finish(a, [first], length=-1)
    d.flush()
    assert d.word(first + 1) == "assigned"
    d.tell(a, Lost([first]))
    d.flush()
    assert d.words([first, first + 1]) == ["assigned", "assigned"]
    assert d.attempt(first + 1) == 1
    d.finish(a, [first + 1])
    d.finish(a, [first])
    assert d.words([first, first + 1]) == ["finished", "finished"]


def test_the_last_error_says_how_earlier_workers_ended(desk: Any, graph_of: Any) -> None:
    d = desk(kills=3)
    client, node = d.client(), d.node("n")
    first = d.submit(client, graph_of([()]))
    for number in range(3):
        d.flush()
        text = f"worker w{number} was killed; its last output:\nnoise {number}"
        error = ErrorInfo("killed", "x.WorkerKilledError", text, "", first, 0, "n", "w")
        d.tell(node, Failed([first], [number + 1], [0], [error]))
    (failed,) = d.take(Failed, "c")
    assert failed.errors[0].message == (
        "worker w2 was killed\n"
        "It took down 3 workers; before this one:\n- worker w0 was killed\n- worker w1 was killed\n"
        "The last output of this one:\nnoise 2"
    )
    assert not d.state.ends
