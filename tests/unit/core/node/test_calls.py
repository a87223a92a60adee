"""Direct calls, actors, files and restarts at a node."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.node.invariants import check, check_empty
from zcluster.core.node.records import WorkerEnd
from zcluster.errors import InvariantError
from zcluster.protocol.messages import (
    Assign,
    Call,
    Called,
    Discard,
    Drop,
    Files,
    Finished,
    Free,
    Lost,
    NodeLayer,
    Recalled,
    Received,
    Restart,
    Restarted,
    Run,
    Skipped,
    Workers,
)


def assign_actor(b: Any, task: int, passing: bool = False) -> None:
    function = b"f%15d" % 9
    layer = NodeLayer(9, 0, 0, 0, function, [], [], [], "x", 1, True)
    message = Assign(
        *([layer], [(function, (2, 0, 4))], [(9, 1)], [task], [1], [task], [0], []),
        *([int(passing)], [], [], [], [], []),
    )
    b.tell(message, [b"", b"", b"code"])


def discarded(b: Any, worker: int | None = None) -> list[int]:
    return [task for message in b.sent(Discard, worker) for task in message.tasks]


# ------------------------------------------------------------------------------------ calls


def test_a_call_is_passed_on_and_its_answer_back(bench: Any) -> None:
    b = bench(workers=2)
    b.tell(Call(5, 0, 1), [b"what"])
    assert b.sent(Call, 1) == [Call(5, 0, 1)]
    b.hear(Called(5), worker=1, frames=[b"that"])
    b.flush()
    assert (Called(5), [b"that"]) in b.effects.to_scheduler
    assert b.core.calls == {}


def test_only_the_worker_that_was_asked_may_answer(bench: Any) -> None:
    b = bench(workers=2)
    b.tell(Call(5, 0, 1))
    b.hear(Called(5), worker=0)
    b.hear(Called(6), worker=1)
    assert b.said(Called) == []


@pytest.mark.parametrize("number", [7, -1])
def test_a_worker_that_is_not_there_is_an_answer(bench: Any, number: int) -> None:
    b = bench()
    b.tell(Call(5, 0, number))
    (called,) = b.said(Called)
    assert (called.request, called.error.kind) == (5, "killed")


def test_the_end_of_a_worker_answers_its_calls(bench: Any) -> None:
    b = bench(workers=2)
    for request, worker in ((1, 0), (2, 1), (3, 0)):
        b.tell(Call(request, 0, worker))
    end = WorkerEnd(0, 1, "was killed by SIGKILL", 0, "last words", [])
    b.core.on_worker_end(end, b.now)
    b.flush()
    said = [m for m, _ in b.effects.to_scheduler if isinstance(m, Called | Workers)]
    called = [m for m in said if isinstance(m, Called)]
    assert [m.request for m in called] == [1, 3]
    assert isinstance(said[-3], Workers)  # who asks next must not be sent there again
    error = called[0].error
    assert error is not None
    assert "was killed by SIGKILL" in error.message
    assert "last words" in error.message
    b.tell(Call(4, 0, 0))
    assert b.said(Called)[-1].error.kind == "killed"


# ----------------------------------------------------------------------------------- actors


def test_an_actor_stays_and_what_stands_for_it_is_announced(bench: Any) -> None:
    b = bench()
    assign_actor(b, 1)
    (run,) = b.sent(Run)
    assert run.actors == [1]
    b.done([1], blob=b"proxy")
    (finished,) = b.said(Finished)
    assert finished.lengths == [-1]
    assert b.core.results[1].blob == b"proxy"
    b.tell(Call(5, 0, -1, 1))
    assert b.sent(Call) == [Call(5, 0, 0, 1)]


def test_workers_take_turns_with_actors(bench: Any) -> None:
    """Making one takes no time, so a batch of them would go to one worker."""
    b = bench(workers=2)
    for task in range(1, 7):
        assign_actor(b, task)
        b.flush()
    assert [b.core.tasks[task].bound for task in range(1, 7)] == [0, 1] * 3
    b.done([1], worker=0)
    b.tell(Free([1], [], []))
    assign_actor(b, 7)
    assert b.core.tasks[7].bound == 0  # it has one less now


def test_an_actor_does_not_wait_for_a_worker_that_is_busy_for_long(bench: Any) -> None:
    b = bench(workers=2)
    b.assign({1: []})
    b.flush()
    busy = next(n for n, w in b.core.workers.items() if w.batches)
    assign_actor(b, 2)
    assign_actor(b, 3)
    assert busy in {b.core.tasks[2].bound, b.core.tasks[3].bound}  # it may be free at once
    b.now += 2
    b.core.on_time(b.now)
    b.flush()
    assert {b.core.tasks[2].bound, b.core.tasks[3].bound} == {-1, 1 - busy}
    assign_actor(b, 4)
    assert b.core.tasks[4].bound == 1 - busy
    b.end(1 - busy)
    b.core.on_time(b.now)
    b.flush()
    assert all(assignment.bound == -1 for assignment in b.core.tasks.values())
    assign_actor(b, 5)
    assert b.core.tasks[5].bound == -1  # nobody is there who would be free soon


def test_an_actor_goes_with_its_result(bench: Any) -> None:
    b = bench()
    assign_actor(b, 1)
    b.flush()
    b.done([1])
    assert discarded(b) == []
    b.tell(Free([1], [9], []))
    assert discarded(b) == [1]
    check_empty(b.core)
    b.tell(Call(5, 0, -1, 1))
    assert b.said(Called)[-1].error.kind == "actor"


def test_an_actor_lives_as_long_as_tasks_here_use_what_stands_for_it(bench: Any) -> None:
    b = bench(slots=2)
    assign_actor(b, 1, passing=True)
    b.flush()
    b.done([1])
    b.assign({2: [1]})
    b.flush()
    b.tell(Free([1], [9], []))
    assert discarded(b) == []
    b.done([2])
    assert discarded(b) == [1]


def test_what_takes_an_actor_does_not_go_along_with_it(bench: Any) -> None:
    """In the worker's heap is the object; what stands for it comes from the outside."""
    b = bench()
    assign_actor(b, 1, passing=True)
    b.assign({2: [1]})
    assert [run.tasks for run in b.sent(Run)] == [[1]]
    b.done([1], blob=b"proxy")
    (run,) = b.sent(Run)
    assert (run.tasks, run.inline) == ([2], [(1, 5)])


def test_one_that_was_dropped_while_it_was_made_goes_too(bench: Any) -> None:
    b = bench()
    assign_actor(b, 1)
    b.flush()
    b.tell(Drop([1]))
    b.flush()
    assert b.core.making == {(0, 1)}
    b.done([1])
    assert discarded(b) == [1]
    assert b.core.making == set()


def test_tasks_that_made_none_are_forgotten(bench: Any) -> None:
    b = bench()
    for task, end in ((1, "fail"), (2, Skipped([2])), (3, Recalled([3], [0]))):
        assign_actor(b, task)
        b.flush()
        assert b.core.making
        if end == "fail":
            b.fail(task)
        else:
            b.hear(end)
        assert b.core.making == set()


def test_actors_are_lost_with_their_worker(bench: Any) -> None:
    b = bench(workers=2)
    assign_actor(b, 1)
    (run,) = b.sent(Run)
    number = next(n for n, w in b.core.workers.items() if w.batches)
    b.done([1], worker=number)
    b.tell(Call(5, 0, -1, 1))
    b.end(number)
    assert b.said(Lost) == [Lost([1])]
    (called,) = b.said(Called)
    assert (called.request, called.error.kind) == (5, "actor")
    assert called.error.type_name == "zcluster.errors.ActorLost"
    assert b.core.actors == {}
    assert run.actors == [1]


def test_invariants_name_what_is_wrong(bench: Any) -> None:
    b = bench()
    b.core.actors[7] = 0
    with pytest.raises(InvariantError, match="actor is in worker 0"):
        check(b.core)
    del b.core.actors[7]
    b.core.calls[3] = (b.core.workers[0], -1)
    b.core.workers[0].is_ready = False
    with pytest.raises(InvariantError, match="call 3 waits for worker w0"):
        check(b.core)


# ------------------------------------------------------------------------ files, restarts


def test_workers_hear_the_names_of_files_now_and_later(bench: Any) -> None:
    b = bench(workers=2)
    b.core.on_files(Files(4, [("a.py", (0, 0, 9))]), "", b.now)
    assert b.sent(Files) == [Files(0, [("a.py", (0, 0, 0))])] * 2
    assert b.said(Received) == [Received(4)]
    b.core.on_files(Files(5, [("b.py", (0, 0, 9)), ("a.py", (0, 9, 9))]), "", b.now)
    b.sent(Files)
    b.end(0)
    b.core.on_worker_ready(0, 2, 2, b.now)
    (told,) = b.sent(Files, 0)
    assert sorted(path for path, _ in told.files) == ["a.py", "b.py"]


def test_files_that_could_not_be_written_are_told_to_nobody(bench: Any) -> None:
    b = bench()
    b.core.on_files(Files(4, [("a.py", (0, 0, 9))]), "the disk is full", b.now)
    assert b.sent(Files) == []
    assert b.said(Received) == [Received(4, "the disk is full")]


def test_a_restart_is_done_when_the_last_worker_is_up(bench: Any) -> None:
    b = bench(workers=3)
    b.tell(Restart(1))
    b.tell(Restart(2, ["2", "x", "9"]))
    found = b.core.flush(b.now)
    assert found.to_restart == [0, 1, 2, 2]
    for number in (0, 1, 2):
        b.end(number)
    b.core.on_worker_ready(2, 5, 2, b.now)
    assert b.said(Restarted) == [Restarted(2)]
    b.core.on_worker_ready(0, 5, 2, b.now)
    b.core.on_worker_ready(1, 5, 2, b.now)
    b.flush()
    last = [m for m, _ in b.effects.to_scheduler if isinstance(m, Restarted | Workers)][-2:]
    assert isinstance(last[0], Workers)
    assert last[1] == Restarted(1)


def test_a_restart_of_nobody_is_done_at_once(bench: Any) -> None:
    b = bench()
    b.tell(Restart(1, ["9"]))
    assert b.said(Restarted) == [Restarted(1)]
