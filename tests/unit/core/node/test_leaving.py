"""Workers that are to end: told once nobody needs to talk to them, and not started again."""

from __future__ import annotations

from typing import Any

from zcluster.core.node.records import WorkerEnd
from zcluster.protocol.messages import (
    Call,
    Called,
    Leave,
    Recall,
    Recalled,
    Restart,
    Restarted,
    Run,
    Stop,
    Workers,
)


def test_without_names_the_node_leaves(bench: Any) -> None:
    b = bench(workers=2)
    b.tell(Leave([]))
    assert b.core.flush(b.now).leave
    assert not b.core.flush(b.now).leave


def test_a_worker_ends_what_it_runs_and_gives_back_the_rest(bench: Any) -> None:
    b = bench(workers=2)
    b.assign({1: []}, workers=[0])
    b.assign({2: []}, workers=[0])
    assert [run.tasks for run in b.sent(Run)] == [[1]]
    b.tell(Leave([0, 7]))
    assert b.sent(Recall, 0) == [Recall([1])]
    assert b.sent(Stop, 0) == [Stop()]
    assert b.said(Recalled) == [Recalled([2], [1])]
    infos = b.said(Workers)[-1].workers
    assert [(w.number, w.status) for w in infos] == [(0, "retiring"), (1, "running")]
    # The scheduler had not heard of it yet.
    b.assign({3: []}, workers=[0])
    assert b.said(Recalled) == [Recalled([3], [1])]
    b.assign({4: []})
    assert [run.tasks for run in b.sent(Run, 1)] == [[4]]
    b.done([1])
    b.end(0)
    b.flush()
    assert b.effects.to_start == []
    assert [w.number for w in b.said(Workers)[-1].workers] == [1]


def test_what_it_had_not_begun_goes_to_others_when_it_comes_back(bench: Any) -> None:
    b = bench(workers=2)
    b.assign({1: []}, workers=[0])
    b.flush()
    b.tell(Leave([0]))
    b.hear(Recalled([1], [0]), 0)
    assert b.said(Recalled) == [Recalled([1], [1])]


def test_a_direct_call_ends_first(bench: Any) -> None:
    b = bench(workers=2)
    b.tell(Call(5, 0, 0), [b"call"])
    b.tell(Leave([0]))
    assert b.sent(Stop) == []
    assert b.said(Workers)[-1].workers[0].reason == "a direct call is being made there"
    b.hear(Called(5), 0, [b"answer"])
    b.core.on_time(b.now)
    assert b.sent(Stop, 0) == [Stop()]
    b.core.on_time(b.now)
    assert b.sent(Stop) == []


def test_one_that_is_being_started_ends_when_it_is_up(bench: Any) -> None:
    b = bench(workers=2)
    b.end(0)
    b.tell(Leave([0]))
    assert b.sent(Stop) == []
    b.core.on_worker_ready(0, 2, 2, b.now)
    assert b.sent(Stop, 0) == [Stop()]


def test_a_restart_does_not_bring_it_back(bench: Any) -> None:
    b = bench(workers=2)
    b.tell(Leave([0]))
    b.flush()
    b.tell(Restart(3, []))
    b.flush()
    assert b.effects.to_restart == [0, 1]  # killed, whatever it still does
    b.end(0)
    b.end(1)
    b.flush()
    assert b.effects.to_start == [1]
    b.core.on_worker_ready(1, 2, 2, b.now)
    assert b.said(Restarted) == [Restarted(3)]
    b.effects.to_restart.clear()
    b.tell(Restart(4, ["0"]))
    b.flush()
    assert b.effects.to_restart == []
    assert b.said(Restarted) == [Restarted(4)]


def test_who_took_its_worker_down_after_its_end_is_blamed_when_it_was_alone(bench: Any) -> None:
    """A thread it left behind ended the process before the report was out."""
    b = bench()
    b.assign({1: [], 2: []})
    b.flush()

    def end(incarnation: int) -> list[Any]:
        cause = "exited with status 3"
        b.core.on_worker_end(WorkerEnd(0, incarnation, cause, 0, "", [], has_run=True), b.now)
        b.flush()
        found = [
            (type(message).__name__, message.tasks)
            for message, _ in b.effects.to_scheduler
            if hasattr(message, "tasks")
        ]
        b.effects.to_scheduler.clear()
        b.core.on_worker_ready(0, 1, incarnation + 1, b.now)
        return found

    first = [task for run in b.sent(Run) for task in run.tasks]
    assert end(1) == [("Recalled", first)]
    b.assign({1: []}, attempt=2)
    b.flush()
    assert end(2) == [("Failed", [1])]


def test_one_that_was_to_be_started_anew_is_not_waited_for(bench: Any) -> None:
    b = bench(workers=2)
    b.tell(Restart(5))
    b.tell(Leave([0]))
    b.end(0)
    b.end(1)
    assert b.said(Restarted) == []
    b.core.on_worker_ready(1, 7, 2, b.now)
    assert b.said(Restarted) == [Restarted(5)]
