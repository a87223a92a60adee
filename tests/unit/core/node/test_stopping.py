"""Tasks that must end: forced, timed out, or never to run again."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.node.invariants import check_empty
from zcluster.protocol.messages import (
    Blocked,
    Drop,
    Failed,
    Free,
    Interrupt,
    Recall,
    Recalled,
    Run,
    Skipped,
)


def later(bench: Any, seconds: float) -> None:
    """Let time pass, as the driver's ticks do."""
    bench.now += seconds
    bench.core.on_time(bench.now)


def restarts(bench: Any) -> list[int]:
    """Flush, and take the workers that are to be replaced."""
    bench.flush()
    found, bench.effects.to_restart = bench.effects.to_restart, []
    return list(found)


def run_one(bench: Any, task: int = 1, **options: Any) -> None:
    """Assign a task, and see it sent."""
    bench.assign({task: []}, **options)
    assert [run.tasks for run in bench.sent(Run)] == [[task]]


# --- force --------------------------------------------------------------------------------------


def test_a_task_that_is_dropped_by_force_is_interrupted_and_its_worker_stays(bench: Any) -> None:
    b = bench()
    run_one(b)
    b.tell(Drop([1], force=True))
    assert b.sent(Recall) == [Recall([1])]
    assert b.sent(Interrupt) == [Interrupt([1])]
    b.hear(Skipped([1]))
    later(b, 5)
    assert restarts(b) == []
    assert b.said(Recalled) == []
    b.tell(Free([], [1]))
    check_empty(b.core)


def test_what_is_dropped_without_force_runs_on(bench: Any) -> None:
    b = bench()
    run_one(b)
    b.tell(Drop([1]))
    later(b, 60)
    assert (b.sent(Interrupt), restarts(b)) == ([], [])


def test_what_was_dropped_before_can_be_stopped_still(bench: Any) -> None:
    b = bench()
    run_one(b)
    b.tell(Drop([1]))
    b.tell(Drop([1], force=True))
    assert b.sent(Interrupt) == [Interrupt([1])]


def test_a_worker_is_replaced_whose_task_does_not_stop(bench: Any) -> None:
    b = bench(slots=2)
    run_one(b)
    run_one(b, 2)
    b.tell(Drop([1], force=True))
    later(b, 1.9)
    assert restarts(b) == []
    later(b, 0.2)
    assert restarts(b) == [0]
    later(b, 0.1)
    assert restarts(b) == []
    b.end(running=[])
    # The neighbour goes back, and is to blame for nothing.
    assert b.said(Recalled) == [Recalled([2], [1])]
    assert b.said(Failed) == []
    later(b, 60)
    assert restarts(b) == []


def test_what_another_worker_runs_is_left_alone(bench: Any) -> None:
    b = bench(workers=2)
    b.assign({1: [], 2: []})
    assert len(b.sent(Run)) == 2
    where = b.core.tasks[2].worker
    b.tell(Drop([2], force=True))
    assert b.sent(Interrupt, where) == [Interrupt([2])]
    assert b.sent(Interrupt, 1 - where) == []
    later(b, 3)
    assert restarts(b) == [where]


def test_a_worker_is_not_replaced_while_a_task_runs_there_at_most_once(bench: Any) -> None:
    b = bench(slots=2)
    run_one(b, 1, layer=1)
    run_one(b, 2, layer=2, at_most_once=True)
    b.tell(Drop([1], force=True))
    later(b, 30)
    assert restarts(b) == []
    # Another one is not begun there meanwhile, or it would never be replaced.
    b.assign({3: []}, layer=2)
    b.done([2])
    assert b.sent(Run) == []
    later(b, 0.02)
    assert restarts(b) == [0]
    b.end()
    b.core.on_worker_ready(0, 2, 2, b.now)
    assert [run.tasks for run in b.sent(Run)] == [[3]]


def test_what_a_waiting_task_may_wait_for_is_begun_all_the_same(bench: Any) -> None:
    b = bench(slots=2)
    run_one(b, 1, layer=1)
    run_one(b, 2, layer=2, at_most_once=True)
    b.tell(Drop([1], force=True))
    b.hear(Blocked([2], True))
    b.assign({3: []}, layer=2)
    assert [run.tasks for run in b.sent(Run)] == [[3]]


# --- time limits --------------------------------------------------------------------------------


def test_a_task_fails_when_its_time_is_over(bench: Any) -> None:
    b = bench()
    run_one(b, timeout=3.0)
    later(b, 2.9)
    assert (b.said(Failed), b.sent(Interrupt)) == ([], [])
    later(b, 0.2)
    (failed,) = b.said(Failed)
    (error,) = failed.errors
    assert (error.kind, error.type_name) == ("timeout", "zcluster.errors.TaskTimeout")
    assert (error.origin, error.attempt, error.node, error.worker) == (1, 1, "n", "w0")
    assert "'x' has run for more than the 3 s" in error.message
    assert "builtins.TimeoutError" in error.bases
    assert b.sent(Interrupt) == [Interrupt([1])]
    later(b, 2.1)
    assert restarts(b) == [0]


def test_a_task_that_ends_in_time_is_left_alone(bench: Any) -> None:
    b = bench()
    run_one(b, timeout=3.0)
    b.done([1])
    later(b, 4)
    assert (b.said(Failed), b.sent(Interrupt)) == ([], [])
    assert b.core.limits == {}


def test_the_clock_of_a_second_attempt_starts_anew(bench: Any) -> None:
    b = bench()
    run_one(b, timeout=3.0)
    later(b, 3.1)
    assert len(b.said(Failed)) == 1
    b.assign({1: []}, attempt=2)
    assert b.sent(Run) == []  # the first one is there still
    b.hear(Skipped([1]))
    assert len(b.sent(Run)) == 1
    later(b, 2.9)
    assert b.said(Failed) == []
    later(b, 0.2)
    (failed,) = b.said(Failed)
    assert failed.attempts == [2]


@pytest.mark.parametrize("options", [{"timeout": 3.0}, {"at_most_once": True}])
def test_such_a_task_goes_alone_and_when_a_slot_is_free(
    bench: Any, options: dict[str, Any]
) -> None:
    b = bench()
    b.assign({1: [], 2: [1], 3: []}, **options)
    for task in (1, 2, 3):
        assert [run.tasks for run in b.sent(Run)] == [[task]]
        b.done([task])
    b.assign({11: []}, layer=2)
    assert [run.tasks for run in b.sent(Run)] == [[11]]
    b.assign({12: []}, layer=1, attempt=1)
    assert b.sent(Run) == []


def test_others_do_not_pass_it_by_for_ever(bench: Any) -> None:
    b = bench()
    b.assign({1: []}, layer=1)
    b.assign({2: []}, layer=2, timeout=1.0)
    b.assign({3: [], 4: [], 5: []}, layer=1)
    order = []
    while sent := [run.tasks for run in b.sent(Run)]:
        for tasks in sent:
            order.extend(tasks)
            b.done(tasks)
    assert order == [1, 2, 3, 4, 5]


# --- at most once -------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [[1], []])
def test_what_may_have_begun_is_lost_with_its_worker(bench: Any, running: list[int]) -> None:
    b = bench()
    run_one(b, at_most_once=True)
    b.end(running=running)
    (failed,) = b.said(Failed)
    (error,) = failed.errors
    assert (error.kind, error.type_name) == ("once", "zcluster.errors.TaskLost")
    assert "w0" in error.message
    assert "node n" in error.message
    assert b.said(Recalled) == []


def test_what_was_not_sent_stays_and_runs_in_the_next_worker(bench: Any) -> None:
    b = bench()
    b.assign({1: [], 2: []}, at_most_once=True)
    assert [run.tasks for run in b.sent(Run)] == [[1]]
    b.end(running=[1])
    assert [failed.tasks for failed in b.said(Failed)] == [[1]]
    b.core.on_worker_ready(0, 2, 2, b.now)
    assert [run.tasks for run in b.sent(Run)] == [[2]]


def test_what_the_worker_gives_back_may_run(bench: Any) -> None:
    b = bench()
    run_one(b, at_most_once=True)
    b.hear(Recalled([1], [0]))
    assert [run.tasks for run in b.sent(Run)] == [[1]]
    assert b.said(Failed) == []


def test_its_result_is_kept_though_only_tasks_here_need_it(bench: Any) -> None:
    b = bench()
    b.assign({1: [], 2: [1]}, passing=[1], at_most_once=True)
    (run,) = b.sent(Run)
    assert (run.tasks, run.uses, run.report) == ([1], [0], [2])
