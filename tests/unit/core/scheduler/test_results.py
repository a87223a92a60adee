"""What happens to tasks after they were assigned, and to results: given this, exactly that."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from zcluster.core.scheduler.core import FREE_SECONDS
from zcluster.protocol.messages import (
    Assign,
    Cancel,
    Cancelled,
    Drop,
    Failed,
    Finished,
    Free,
    Lost,
    Recalled,
    Release,
    Resolved,
    Slot,
    Unreachable,
)


def start(d: Any, graph: Any, slots: int = 8) -> tuple[Any, Any, int]:
    """Have a client submit to one node with many slots; return them and the first task."""
    client, node = d.client(), d.node(slots=slots)
    first = d.submit(client, graph)
    d.flush()
    return client, node, first


def start_ahead(d: Any, graph: Any) -> tuple[Any, Any, int]:
    """Do so, and check that everything was assigned at once."""
    client, node, first = start(d, graph)
    assert d.assigned() == {"n": list(range(first, first + graph.count))}
    return client, node, first


def test_a_result_goes_to_its_client_as_bytes(desk: Any, graph_of: Any) -> None:
    d = desk()
    _, node, first = start(d, graph_of([()]))
    d.finish(node, [first], b"value")
    d.flush()
    (name, message, frames) = d.messages[-1]
    assert name == "c"
    assert message == Resolved([first], [5], [5], [-1])
    assert frames == [b"value"]


def test_a_large_result_is_announced_with_its_place(desk: Any, graph_of: Any) -> None:
    d = desk()
    _, node, first = start(d, graph_of([()]))
    d.finish(node, [first], length=-1)
    assert d.take(Resolved) == [Resolved([first], [-1], [1000], [node.index])]


def test_a_released_result_is_freed_and_forgotten(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node, first = start(d, graph_of([()]))
    d.finish(node, [first])
    d.tell(client, Release([first]))
    assert d.word(first) == "released"
    d.flush()
    assert d.word(first) == "forgotten"
    d.later()
    assert d.take(Free)[0].tasks == [first]


def test_frees_wait_for_company(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node, first = start(d, graph_of([()] * 4))
    d.finish(node, range(first, first + 4))
    for task in range(first, first + 4):
        d.tell(client, Release([task]))
        assert not d.take(Free)
    assert d.core.wake_after == FREE_SECONDS
    d.later(2 * FREE_SECONDS)
    (free,) = d.take(Free)
    assert free.tasks == list(range(first, first + 4))
    d.later()
    assert d.core.wake_after is None


def test_what_waits_to_be_freed_is_not_freed_if_it_is_made_there_again(
    desk: Any, graph_of: Any
) -> None:
    """Or the late `Free` would take the new result with it."""
    d = desk()
    client, node, first = start_ahead(d, graph_of([(), (0,)]))
    d.finish(node, [first, first + 1], length=-1)
    d.tell(client, Release([first]))
    d.flush()
    d.tell(node, Lost([first + 1]))
    (assign,) = d.take(Assign)
    assert assign.tasks[0] == first
    d.later()
    assert all(first not in free.tasks for free in d.take(Free))


def test_an_input_is_let_go_after_its_last_consumer(desk: Any, graph_of: Any) -> None:
    d = desk()
    graph = graph_of([(), (0,), (0,)])
    graph.outputs = [(1, 2)]
    _, node, first = start(d, graph)
    d.finish(node, [first])
    d.finish(node, [first + 1])
    assert d.word(first) == "finished"
    d.finish(node, [first + 2])
    assert d.word(first) == "released"


def test_releasing_a_long_chain_that_has_not_run_needs_no_recursion(
    desk: Any, graph_of: Any
) -> None:
    d = desk(check=False)
    client = d.client()
    count = 10_000
    assert sys.getrecursionlimit() < count
    graph = graph_of([[k - 1] if k else [] for k in range(count)])
    graph.outputs = [(count - 1, 1)]
    first = d.submit(client, graph)
    d.core.on_message(client.peer, Release([first + count - 1]), (), d.now)
    counts = d.state.states()
    assert (counts["released"], counts["waiting"], counts["ready"]) == (count, 0, 0)
    flushes = 0
    while d.core.wake_after == 0.0 or not flushes:
        left = sum(page.live for page in d.state.pages.values())
        list(d.core.flush(d.now))
        assert left - sum(page.live for page in d.state.pages.values()) <= 4000
        flushes += 1
    assert not d.state.pages
    assert flushes >= 3


def test_a_failure_is_told_with_its_exception_and_passed_on(desk: Any, graph_of: Any) -> None:
    d = desk()
    _, node, first = start(d, graph_of([(), (0,), (1,), ()]))
    d.fail(node, first)
    d.flush()
    failed = [(m, f) for _, m, f in d.messages if isinstance(m, Failed)]
    assert [m.tasks for m, _ in failed] == [[first], [first + 1, first + 2]]
    assert [m.errors[0].kind for m, _ in failed] == ["task", "input"]
    assert [m.errors[0].origin for m, _ in failed] == [first, first]
    assert [m.errors[0].origin_key for m, _ in failed] == ["", d.state.key(first)]
    assert all(frames == [b"exc"] for _, frames in failed)
    assert d.words(range(first, first + 4)) == ["failed", "failed", "failed", "assigned"]
    # Those sent ahead after it are dropped; the one that failed is gone there already.
    assert d.take(Drop) == [Drop([first + 1, first + 2])]


def test_a_task_is_tried_again_as_often_as_asked(desk: Any, graph_of: Any) -> None:
    d = desk()
    _, node, first = start(d, graph_of([()], retries=2))
    for attempt in (1, 2, 3):
        assert d.attempt(first) == attempt
        d.fail(node, first)
        d.flush()
    assert d.word(first) == "failed"
    assert d.take(Failed)[0].attempts == [0]


@pytest.mark.parametrize("retries", [0, 5])
def test_the_third_worker_killed_is_the_last(desk: Any, graph_of: Any, retries: int) -> None:
    """Retries are for tasks that raise; a task that kills gets three workers and no more."""
    d = desk()
    _, node, first = start(d, graph_of([()], retries=retries))
    for _ in range(2):
        d.fail(node, first, "killed")
        d.flush()
        assert d.word(first) == "assigned"
    d.fail(node, first, "killed")
    assert d.take(Failed)[0].errors[0].kind == "killed"
    assert d.word(first) == "failed"
    assert not d.state.kills


def test_what_an_old_attempt_says_of_failure_is_not_heard(desk: Any, graph_of: Any) -> None:
    d = desk()
    _, node, first = start(d, graph_of([()]))
    d.tell(node, Recalled([first], [1]))
    d.flush()
    d.fail(node, first, attempt=1)
    assert d.word(first) == "assigned"


def test_cancel_ends_what_depends_and_tells_who_wants_it(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, _, first = start(d, graph_of([(), (0,), ()]))
    d.tell(client, Cancel([first], "enough"))
    assert d.take(Cancelled) == [Cancelled([first, first + 1], "enough")]
    assert d.take(Drop) == [Drop([first, first + 1])]
    assert d.words(range(first, first + 3)) == ["cancelled", "cancelled", "assigned"]


def test_a_finished_task_cannot_be_cancelled(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node, first = start(d, graph_of([()]))
    d.finish(node, [first])
    d.tell(client, Cancel([first]))
    assert d.word(first) == "finished"
    assert not d.take(Cancelled)


def test_a_source_that_lives_on_forgets_consumers_that_were_cancelled(
    desk: Any, graph_of: Any
) -> None:
    """Their rows go, and other tasks may stand in their place when the source finishes."""
    d = desk()
    client, node, first = start(d, graph_of([(), (0,)]))
    d.tell(client, Cancel([first + 1]))
    assert list(d.row(first)[0].heirs(0)) == []
    d.finish(node, [first])
    assert d.words([first, first + 1]) == ["finished", "cancelled"]


def test_only_what_is_needed_is_made_again(desk: Any, graph_of: Any) -> None:
    """Of the chain 0 → 1 → 2 and 3, where 2 and 3 are wanted and 0 to 2 are lost::

    0   1   2   (3)
    """
    d = desk()
    graph = graph_of([(), (0,), (1,), ()])
    graph.outputs = [(2, 2)]
    client, node, first = start_ahead(d, graph)
    d.finish(node, [first, first + 1, first + 2, first + 3], length=-1)
    d.tell(client, Unreachable([first + 2], node.index))
    assert d.words(range(first, first + 4)) == ["ready", "waiting", "waiting", "finished"]
    assert d.assigned() == {"n": [first, first + 1, first + 2]}


def test_a_result_its_client_has_is_not_made_again(desk: Any, graph_of: Any) -> None:
    d = desk()
    _, node, first = start_ahead(d, graph_of([()]))
    d.finish(node, [first])
    d.flush()
    d.core.on_gone(node.peer, "gone", d.now)
    assert d.word(first) == "released"
    d.node("other")
    assert d.assigned() == {}


def test_a_result_its_client_had_is_made_again_for_others(desk: Any, graph_of: Any) -> None:
    """That it was delivered counts only as long as its client is the one who needs it."""
    d = desk()
    client, node, first = start(d, graph_of([()]))
    d.finish(node, [first])
    d.flush()
    graph = graph_of([(-1,)])
    graph.imports = [object()]
    second = d.submit(client, graph, [first])
    d.tell(client, Release([first]))
    d.core.on_gone(node.peer, "gone", d.now)
    assert d.words([first, second]) == ["ready", "waiting"]


def test_what_nobody_needed_can_be_needed_again(desk: Any, graph_of: Any) -> None:
    """0 → 1 → 2 and 3: 2 is lost, made again and given up half way; then 3 is lost too."""
    d = desk()
    graph = graph_of([(), (0,), (1,), (1,)])
    graph.outputs = [(2, 2)]
    client, node, first = start(d, graph)
    d.finish(node, range(first, first + 4), length=-1)
    d.tell(client, Unreachable([first + 2], node.index))
    d.tell(client, Release([first + 2]))
    assert d.words([first, first + 1]) == ["released", "released"]
    d.tell(client, Unreachable([first + 3], node.index))
    assert d.words([first, first + 1, first + 3]) == ["ready", "waiting", "waiting"]


def test_the_first_result_counts_and_the_other_attempt_is_dropped(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node, first = start(d, graph_of([()]), slots=1)
    d.core.on_away(node.peer, d.now)
    other = d.node("other")
    assert d.assigned() == {"n": [first], "other": [first]}
    d.core.on_back(node.peer, d.now)
    d.finish(node, [first])
    assert d.word(first) == "finished"
    assert d.take(Drop, "other") == [Drop([first])]
    d.finish(other, [first])
    d.later()
    assert d.take(Free, "other")[0].tasks == [first]
    assert client.index == 1


def test_what_ran_ahead_elsewhere_goes_back_when_its_input_comes_from_here(
    desk: Any, graph_of: Any
) -> None:
    """The other node will not make the input: what waits there for it would wait for ever."""
    d = desk()
    _, node, first = start(d, graph_of([(), (0,)]))
    d.core.on_away(node.peer, d.now)
    d.node("other", slots=8)
    assert d.assigned()["other"] == [first, first + 1]
    d.core.on_back(node.peer, d.now)
    d.finish(node, [first])
    assert d.word(first + 1) == "ready"
    assert d.take(Drop, "other") == [Drop([first, first + 1])]


def test_a_passing_result_of_an_earlier_attempt_is_worth_nothing(desk: Any, graph_of: Any) -> None:
    d = desk()
    graph = graph_of([(), (0,)])
    graph.outputs = [(1, 1)]
    _, node, first = start(d, graph)
    (assign,) = d.take(Assign)
    assert assign.flags == [1, 0]
    d.core.on_away(node.peer, d.now)
    d.tell(node, Finished([first], [1], [-2], [10], [0], []))
    assert d.word(first) == "ready"


def test_a_node_is_told_to_let_go_of_a_passing_result_it_kept(desk: Any, graph_of: Any) -> None:
    """Its consumer left the node before the result was used there."""
    d = desk()
    graph = graph_of([(), (0,)])
    graph.outputs = [(1, 1)]
    client, node, first = start(d, graph)
    d.tell(node, Recalled([first + 1], [1]))
    d.tell(node, Finished([first], [1], [-2], [10], [0], []))
    d.tell(client, Release([first + 1]))
    d.later()
    assert d.take(Free)[0].tasks == [first]


def test_the_poison_in_the_middle_of_a_chain_is_counted(desk: Any, graph_of: Any) -> None:
    """Its input goes down with the worker: still the kill counts, and the third is the last."""
    d = desk()
    graph = graph_of([(), (0,)])
    graph.outputs = [(1, 1)]
    _, node, first = start(d, graph)
    for _ in range(3):
        d.tell(node, Finished([first], [d.attempt(first)], [-2], [10], [0], []))
        d.fail(node, first + 1, "killed")
        d.tell(node, Lost([first]))
        d.flush()
    assert d.word(first + 1) == "failed"


def test_what_is_queued_can_be_cancelled_or_finish_by_an_earlier_attempt(
    desk: Any, graph_of: Any
) -> None:
    d = desk()
    client, node, first = start(d, graph_of([(), (0,), (), (2,), ()]), slots=5)
    d.core.on_away(node.peer, d.now)
    d.node("other", slots=2)
    d.assigned()
    queued = range(first, first + 5)
    assert d.words(queued) == ["assigned", "assigned", "ready", "waiting", "ready"]
    d.core.on_back(node.peer, d.now)
    d.tell(client, Cancel([first + 4]))
    d.finish(node, [first + 2])
    assert d.words([first + 2, first + 4]) == ["finished", "cancelled"]


def test_what_is_queued_ahead_can_be_cancelled(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, _, first = start(d, graph_of([(), (0,)]), slots=1)
    assert d.words([first, first + 1]) == ["assigned", "ahead"]
    d.tell(client, Cancel([first + 1]))
    assert d.words([first, first + 1]) == ["assigned", "cancelled"]


def test_what_is_queued_ahead_can_finish_by_an_earlier_attempt(desk: Any, graph_of: Any) -> None:
    d = desk()
    _, node, first = start_ahead(d, graph_of([(), (0,)]))
    d.core.on_away(node.peer, d.now)
    d.node("other", slots=1)
    d.flush()
    assert d.words([first, first + 1]) == ["assigned", "ahead"]
    d.core.on_back(node.peer, d.now)
    d.finish(node, [first + 1])
    assert d.words([first, first + 1]) == ["assigned", "finished"]
    assert list(d.row(first)[0].heirs(0)) == []


def test_what_takes_all_of_a_layer_with_a_failure_cannot_be_run_again(
    desk: Any, graph_of: Any
) -> None:
    """0 and 1 are finished and taken by 2; all is lost, and this time 1 fails."""
    d = desk()
    graph = graph_of(("s", [(), ()]), ("t", [[], []]))
    graph.layers[1].whole, graph.layers[1].whole_slots = [0], [Slot()]
    graph.outputs = [(2, 2)]
    client, node, first = start(d, graph)
    d.finish(node, [first, first + 1], length=-1)
    d.flush()
    d.finish(node, [first + 2, first + 3], length=-1)
    d.tell(client, Unreachable([first + 2], node.index))
    d.flush()
    d.fail(node, first + 1)
    assert d.words([first + 1, first + 2, first + 3]) == ["failed", "failed", "finished"]
    d.tell(client, Unreachable([first + 3], node.index))
    assert d.word(first + 3) == "failed"
