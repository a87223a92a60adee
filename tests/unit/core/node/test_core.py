"""A node's bookkeeping: given this event, exactly these messages."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.node.invariants import check_empty
from zcluster.core.node.records import Result
from zcluster.errors import ProtocolError
from zcluster.protocol.messages import (
    Discard,
    Done,
    Drop,
    Environment,
    Failed,
    Finished,
    Free,
    Goodbye,
    Grant,
    Heartbeat,
    Lost,
    Nodes,
    Output,
    Recall,
    Recalled,
    Reserve,
    Return,
    Run,
    Skipped,
    Slot,
    Unreachable,
    WorkerHello,
    Workers,
)


def test_a_task_runs_and_its_result_is_reported_and_kept(bench: Any) -> None:
    b = bench()
    b.assign({1: []})
    (run,) = b.sent(Run)
    assert (run.tasks, run.report, run.uses) == ([1], [2], [0])
    b.done([1])
    (finished,) = b.said(Finished)
    assert (finished.tasks, finished.attempts, finished.lengths) == ([1], [1], [4])
    assert finished.durations == [(b"f%15d" % 1, 1, 10)]
    assert b.core.results[1].blob == b"blob"
    b.tell(Free([1], [1]))
    check_empty(b.core)


def test_a_task_waits_for_an_input_from_another_node(bench: Any) -> None:
    b = bench()
    b.assign({2: [1]}, places=[(1, 50, [3, 4])])
    assert b.sent(Run) == []
    (order,) = b.fetches()
    assert (order.task, order.size, order.nodes) == (1, 50, [3, 4])
    b.fetched(1)
    (run,) = b.sent(Run)
    assert run.inline == [(1, 7)]
    b.done([2])
    assert 1 not in b.core.results
    assert b.core.places == {}


def test_one_fetch_serves_all_who_wait(bench: Any) -> None:
    b = bench()
    b.assign({2: [1], 3: [1]}, places=[(1, 50, [3])])
    assert len(b.fetches()) == 1
    b.fetched(1)
    b.flush()
    assert {task for run in b.sent(Run) for task in run.tasks} <= {2, 3}


def test_tasks_go_back_when_an_input_cannot_be_had(bench: Any) -> None:
    b = bench()
    b.assign({2: [1], 3: [1]}, places=[(1, 50, [3])])
    b.core.on_unfetched(1, 3, b.now)
    assert b.said(Unreachable) == [Unreachable([1], 3)]
    assert b.said(Recalled) == [Recalled([2, 3], [1, 1])]
    assert b.core.tasks == {}
    b.tell(Free([], [1]))
    check_empty(b.core)


def test_an_answer_to_a_fetch_nobody_waits_for_is_let_go(bench: Any) -> None:
    b = bench()
    b.assign({2: [1]}, places=[(1, 50, [3])])
    b.tell(Drop([2]))
    place = b.store.allocate(100)
    b.core.on_fetched(1, Result(100, place=place), b.now)
    assert b.store.used == 0
    b.core.on_unfetched(1, 3, b.now)
    b.core.on_unfetched(-9, 3, b.now)
    assert b.said(Recalled) == []


def test_bytes_that_come_with_a_task_end_a_wait_for_them(bench: Any) -> None:
    b = bench()
    b.assign({2: [1]}, places=[(1, 50, [3])])
    b.fetches()
    b.assign({3: [1]}, inline=[(1, b"bytes")])
    assert [run.tasks for run in b.sent(Run)] == [[2]]
    assert b.core.awaited == {}


def test_bytes_for_a_task_that_is_here_already_are_not_kept(bench: Any) -> None:
    b = bench()
    b.assign({2: []})
    b.assign({2: [1]}, attempt=2, inline=[(1, b"bytes")], places=[(5, 1, [1])])
    assert b.core.results == {}
    assert b.core.places == {}
    assert b.core.tasks[2].attempt == 2


def test_a_result_of_an_attempt_taken_back_is_reported_again(bench: Any) -> None:
    b = bench()
    b.assign({1: []})
    b.flush()
    b.done([1])
    b.said(Finished)
    b.assign({1: []}, attempt=2)
    (finished,) = b.said(Finished)
    assert (finished.attempts, finished.lengths) == ([2], [4])
    assert b.sent(Run)[1:] == []


def test_a_fetched_result_becomes_this_nodes_own_when_it_is_asked_to_make_it(bench: Any) -> None:
    """Or it would go with its last use here, while the scheduler counts on it."""
    b = bench()
    b.assign({2: [1], 3: [1]}, places=[(1, 50, [3])])
    b.fetched(1)
    b.assign({1: []}, layer=2)
    assert b.said(Finished)[0].tasks == [1]
    b.flush()
    b.done([2, 3])
    assert 1 in b.core.results


def test_a_passing_result_goes_with_its_last_use(bench: Any) -> None:
    b = bench(batch=1)
    b.assign({1: [], 2: [1]}, passing=[1])
    assert b.sent(Run)[0].report == [2]
    b.done([1])
    assert b.said(Finished)[0].lengths == [-2]
    assert 1 in b.core.results
    b.flush()
    b.done([2])
    assert list(b.core.results) == [2]


def test_a_passing_result_is_kept_for_a_consumer_that_leaves(bench: Any) -> None:
    b = bench(batch=1)
    b.assign({1: [], 2: [1]}, passing=[1])
    b.flush()
    b.tell(Drop([2]))
    b.done([1])
    assert b.said(Finished)[0].lengths == [4]
    assert 1 in b.core.results


def test_a_result_that_was_not_kept_is_made_again_for_who_came_to_take_a_part(bench: Any) -> None:
    b = bench(batch=8)
    b.assign({1: []})
    b.flush()
    b.done([1], spent=1)
    b.assign({2: [], 3: [2]}, passing=[2])
    assert [run.tasks for run in b.sent(Run)][-1] == [2, 3]
    b.assign({4: [2]}, layer=2, slots=[Slot(1, 0)], selections=[0])
    b.done([2], length=-2)
    assert b.said(Finished)[-1].tasks == [1]
    assert b.said(Recalled)[-1].tasks == [2]


def test_free_waits_for_tasks_that_took_the_result_for_theirs(bench: Any) -> None:
    """They were assigned before the scheduler let the result go, and would find nothing."""
    b = bench(batch=1)
    b.assign({1: [], 2: [1]})
    b.flush()
    b.done([1])
    b.tell(Free([1]))
    assert 1 in b.core.results
    b.flush()
    b.done([2])
    assert 1 not in b.core.results


def test_a_failure_names_task_attempt_and_place(bench: Any) -> None:
    b = bench()
    b.assign({1: []}, attempt=3)
    b.flush()
    b.fail(1)
    (failed,) = b.said(Failed)
    error = failed.errors[0]
    assert (failed.tasks, failed.attempts) == ([1], [3])
    assert (error.origin, error.attempt, error.node, error.worker) == (1, 3, "n", "w0")
    assert b.core.tasks == {}


def test_what_was_skipped_after_a_failure_goes_back(bench: Any) -> None:
    b = bench()
    b.assign({1: [], 2: [1]})
    assert b.sent(Run)[0].tasks == [1, 2] if b.core.durations else True
    b.tell(Drop([2]))
    b.assign({3: []}, layer=2)
    b.flush()
    b.hear(Skipped([3]))
    assert b.said(Recalled) in ([], [Recalled([3], [1])])


def test_only_what_ran_is_blamed_for_a_workers_end(bench: Any) -> None:
    b = bench()
    b.assign({1: []})
    b.flush()
    b.done([1], spent=1)
    b.assign({2: [], 3: [], 4: []})
    (_, run) = b.sent(Run)
    assert run.tasks == [2, 3, 4]
    b.end(running=[2])
    b.flush()
    assert b.said(Failed)[0].tasks == [2]
    assert b.said(Recalled) == [Recalled([3, 4], [1, 1])]
    assert b.said(Workers)[-1].workers == []
    assert b.effects.to_start == [0]


def test_the_blame_is_told_before_what_was_lost_with_the_worker(bench: Any) -> None:
    """Else the scheduler takes the task back first, and never counts the kill."""
    b = bench()
    b.assign({9: []})
    b.flush()
    b.done([9], spent=1)
    b.assign({1: [], 2: [1]}, passing=[1])
    assert b.sent(Run)[1].report == [0, 2]
    b.effects.to_scheduler.clear()
    b.done([1], length=-2)
    b.end(running=[2])
    b.flush()
    order = [type(message) for message, _ in b.effects.to_scheduler]
    order = [kind for kind in order if kind is not Workers]
    assert order == [Finished, Failed, Lost]
    assert b.said(Lost) == [Lost([1])]


def test_the_end_of_an_older_process_is_not_the_end_of_this_one(bench: Any) -> None:
    b = bench()
    b.core.on_worker_ready(0, 2, 2, b.now)
    b.end(incarnation=1)
    assert b.core.workers[0].is_ready


def test_what_a_worker_holds_is_lost_with_it(bench: Any) -> None:
    b = bench(batch=1)
    b.assign({1: [], 2: [1], 3: [1, 2]})
    b.flush()
    b.done([1], length=-3)
    assert b.said(Finished)[0].lengths == [-3]
    b.end()
    assert b.said(Lost)[0] == Lost([1])
    assert sorted(t for m in b.said(Recalled) for t in m.tasks) == [2, 3]


def test_a_held_result_is_discarded_when_it_is_freed(bench: Any) -> None:
    b = bench()
    b.assign({1: []})
    b.flush()
    b.done([1], length=-3)
    b.tell(Free([1]))
    assert b.sent(Discard) == [Discard([1])]
    assert b.core.workers[0].held == set()


def test_room_is_granted_or_the_reason_told(bench: Any) -> None:
    b = bench()
    b.assign({1: []})
    b.flush()
    b.hear(Reserve(5, 1, 100))
    (grant,) = b.sent(Grant)
    assert (grant.request, grant.length) == (5, 100)
    b.hear(Done([1], [-1], [10], [(1, grant.slab, grant.offset, 90)]))
    (finished,) = b.said(Finished)
    assert (finished.lengths, finished.sizes) == ([-1], [90])
    b.store.limit = 50
    b.assign({2: []})
    b.flush()
    b.hear(Reserve(6, 2, 100))
    (grant,) = b.sent(Grant)
    assert grant.slab == -1
    assert "no room for 100 bytes" in grant.reason
    b.tell(Free([1]))
    assert b.store.used == 0


def test_a_range_that_was_not_granted_is_refused(bench: Any) -> None:
    b = bench()
    b.assign({1: []})
    b.flush()
    with pytest.raises(ProtocolError, match="not granted"):
        b.core.on_worker(0, Done([1], [-1], [10], [(1, 0, 0, 5)]), (), b.now)


@pytest.mark.parametrize("ends", ["fails", "dies", "is dropped"])
def test_granted_room_comes_back_whatever_happens(bench: Any, ends: str) -> None:
    b = bench()
    b.assign({1: []})
    b.flush()
    b.hear(Reserve(5, 1, 100))
    (grant,) = b.sent(Grant)
    if ends == "fails":
        b.fail(1)
    elif ends == "dies":
        b.end(running=[1])
    else:
        b.tell(Drop([1]))
        b.hear(Done([1], [-1], [10], [(1, grant.slab, grant.offset, 90)]))
    assert b.store.used == 0
    assert b.core.grants == {}


def test_inputs_in_the_store_are_lent_to_the_worker(bench: Any) -> None:
    b = bench()
    place = b.store.allocate(100)
    b.core.on_put(1, Result(100, place=place))
    b.assign({2: [1]})
    (run,) = b.sent(Run)
    assert run.ranges == [(1, place.slab, place.offset, 100)]
    b.done([2])
    b.tell(Free([1]))
    assert b.store.used == 100
    b.hear(Return([(place.slab, place.offset, 100)]))
    assert b.store.used == 0


def test_what_leaves_with_its_consumer_is_not_lost(bench: Any) -> None:
    """What ran on may still make it, for who is to make it next."""
    b = bench()
    b.assign({1: [], 2: [1], 3: [2]})
    b.sent(Run)
    b.tell(Drop([1, 2, 3]))
    b.assign({1: [], 2: [1], 3: [2]}, attempt=2)
    b.done([1])
    assert [finished.tasks for finished in b.said(Finished)] == [[1]]
    assert b.said(Lost) == []


def test_what_is_put_where_it_was_fetched_before_stays(bench: Any) -> None:
    """The scheduler counts on it, though tasks that had it fetched are done."""
    b = bench()
    b.assign({2: [1]}, places=[(1, 50, [3])])
    b.fetched(1)
    b.core.on_put(1, Result(4, b"data"))
    b.flush()
    b.done([2])
    assert 1 in b.core.results
    b.tell(Free([1, 2]))
    assert b.core.results == {}


def test_a_dropped_task_is_not_begun_and_not_sent_again_while_it_may_run(bench: Any) -> None:
    """Two runs of one task in one worker could not be told apart."""
    b = bench(workers=1, slots=2)
    b.assign({1: []})
    b.sent(Run)
    b.tell(Drop([1]))
    assert b.sent(Recall) == [Recall([1])]
    b.assign({1: []}, attempt=2)
    assert b.sent(Run) == []
    b.hear(Recalled([1], [0]))
    assert [run.tasks for run in b.sent(Run)] == [[1]]
    b.done([1])
    assert b.said(Finished)[0].attempts == [2]


def test_a_dropped_attempt_that_ran_on_does_for_the_next(bench: Any) -> None:
    b = bench()
    b.assign({1: []})
    b.flush()
    b.tell(Drop([1]))
    b.assign({1: []}, attempt=2)
    b.done([1])
    assert b.said(Finished)[0].attempts == [2]
    assert b.core.tasks == {}


def test_a_recalled_task_comes_back_unless_it_has_started(bench: Any) -> None:
    b = bench(batch=1)
    b.assign({1: [], 2: []})
    b.flush()
    b.tell(Recall([1, 2, 99]))
    assert b.said(Recalled) == [Recalled([2], [1])]
    assert b.sent(Recall) == [Recall([1])]
    b.hear(Recalled([], []))
    b.done([1])
    assert b.said(Finished)[0].tasks == [1]
    assert b.core.recalling == set()


def test_a_task_wakes_though_its_maker_left_and_came_again(bench: Any) -> None:
    b = bench(batch=1)
    b.assign({1: [], 2: [1]})
    b.flush()
    b.tell(Recall([1]))
    b.hear(Recalled([1], [0]))
    assert b.said(Recalled) == [Recalled([1], [1])]
    b.assign({1: [], 2: [1]})  # the second one is still here
    b.flush()
    b.done([1])
    b.flush()
    assert [run.tasks for run in b.sent(Run)][-1] == [2]


def test_a_bound_task_stays_bound_when_its_worker_gives_it_back(bench: Any) -> None:
    b = bench(workers=2)
    b.assign({1: []}, workers=[1])
    assert [run.tasks for run in b.sent(Run, 1)] == [[1]]
    b.hear(Recalled([1], [0]), worker=1)
    assert b.sent(Run, 0) == []
    assert b.core.tasks[1].worker == 1


def test_what_lost_its_input_in_a_heap_goes_back(bench: Any) -> None:
    """The worker ran 1 for 2 alone, and then gave 2 back: the value is nowhere else."""
    b = bench()
    b.assign({9: []})
    b.flush()
    b.done([9], spent=1)
    b.assign({1: [], 2: [1]}, passing=[1])
    b.flush()
    b.done([1], length=-2)
    b.hear(Recalled([2], [0]))
    assert b.said(Recalled) == [Recalled([2], [1])]
    assert b.said(Lost) == [Lost([1])]


def test_a_value_left_in_a_heap_for_a_task_that_was_dropped_is_made_again(bench: Any) -> None:
    b = bench()
    b.assign({9: []})
    b.flush()
    b.done([9], spent=1)
    b.assign({1: [], 2: [1]}, passing=[1])
    b.flush()
    b.tell(Drop([2]))
    b.done([1], length=-2)
    assert b.said(Recalled) == [Recalled([1], [1])]
    assert [m for m in b.said(Finished) if 1 in m.tasks] == []


def test_a_part_is_cut_where_the_whole_is(bench: Any) -> None:
    b = bench()
    b.core.on_put(1, Result(8, b"pieces"))
    b.assign({2: [1]}, slots=[Slot(1)], selections=[4])
    (run,) = b.sent(Run)
    assert run.inputs == [-1]
    assert run.inline[0][0] == -1
    b.done([2])
    assert b.core.parts == {}
    assert list(b.core.results) == [1, 2]


def test_the_part_may_be_the_tasks_own_number(bench: Any) -> None:
    b = bench()
    b.assign({12: [], 13: []}, slots=[], first=10, layer=1)
    b.assign({22: []}, first=20, layer=2, whole=[(12, 2)], whole_slots=[Slot(2)], places=[])
    assert sorted(b.core.parts.values()) == [(12, 1, [2]), (13, 1, [2])]


def test_only_the_part_is_fetched_and_all_is_forgotten_after(bench: Any) -> None:
    b = bench()
    b.assign({2: [1], 3: [1]}, slots=[Slot(1)], selections=[4, 4], places=[(1, 50, [3])])
    (order,) = b.fetches()
    assert (order.task, order.kind, order.selection, order.nodes) == (1, 1, [4], [3])
    b.fetched(order.number)
    b.flush()
    b.done([2, 3])
    b.flush()
    b.done([2, 3])
    b.tell(Free([2, 3], [1]))
    check_empty(b.core)


def test_what_cannot_be_cut_is_shown_whole_and_freed_once(bench: Any) -> None:
    b = bench()
    place = b.store.allocate(100)
    b.store.bytes[place] = b"u".ljust(100)
    b.core.on_put(1, Result(100, place=place))
    b.assign({2: [1]}, slots=[Slot(1)], selections=[4])
    (run,) = b.sent(Run)
    assert run.ranges == [(-1, place.slab, place.offset, 100)]
    b.tell(Free([1]))
    b.done([2])
    b.hear(Return([(place.slab, place.offset, 100)]))
    assert b.store.used == 0


def test_places_of_all_of_a_layer_are_kept_while_the_layer_is(bench: Any) -> None:
    """They are told once, for tasks to come."""
    b = bench()
    options: dict[str, Any] = {"whole": [(1, 2)], "whole_slots": [Slot()]}
    b.assign({5: []}, places=[(1, 9, [3]), (2, 9, [4])], **options)
    assert len(b.fetches()) == 2
    for number in (1, 2):
        b.fetched(number)
    b.flush()
    b.done([5])
    b.assign({6: []}, **options)
    assert [order.nodes for order in b.fetches()] == [[3], [4]]
    b.tell(Drop([6]))
    b.tell(Free([5], [1]))
    check_empty(b.core)


def test_callables_are_sent_once_and_discarded_when_forgotten(bench: Any) -> None:
    b = bench()
    b.assign({1: []})
    assert len(b.sent(Run)[0].functions) == 1
    b.done([1])
    b.assign({2: []})
    assert b.sent(Run)[0].functions == [] if (b.flush() or True) else False
    b.done([2])
    b.tell(Free([1, 2], [1], [b"f%15d" % 1]))
    assert b.sent(Discard) == [Discard([], [b"f%15d" % 1])]
    assert b.core.functions == {}


def test_nodes_and_folders_are_passed_on(bench: Any) -> None:
    b = bench()
    environment = Environment(["/p"], "/", "h")
    b.tell(environment)
    assert b.sent(Environment) == [environment]
    b.end()
    b.core.on_worker_ready(0, 2, 2, b.now)
    assert b.sent(Environment) == [environment]
    b.tell(Nodes([], [3]))
    assert b.core.nodes == {}


def test_who_may_say_what(bench: Any) -> None:
    b = bench()
    with pytest.raises(ProtocolError, match="Heartbeat"):
        b.tell(Heartbeat(0.0))
    with pytest.raises(ProtocolError, match="WorkerHello"):
        b.hear(WorkerHello(0, 1, 1))
    with pytest.raises(ProtocolError, match="Goodbye"):
        b.hear(Goodbye())


def test_what_a_task_printed_is_told_before_its_result(bench: Any) -> None:
    b = bench()
    b.assign({1: []})
    b.flush()
    b.done([1])
    printed = Output("w0", [1], [1], [3])
    b.hear(printed, 0, [b"abc"])
    b.flush()
    told = [(message, list(frames)) for message, frames in b.effects.to_scheduler]
    assert told[0] == (printed, [b"abc"])
    assert isinstance(told[1][0], Finished)
    assert len(told) == 2
