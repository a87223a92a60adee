"""Which tasks go to which worker, in one message."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.protocol.messages import Blocked, Recall, Recalled, Run

#: The callable of a bench's first layer.
LAYER = b"f%15d" % 1


def learn(b: Any, spent: int, layer: int = 1) -> None:
    """Have the node learn how long the tasks of a layer take, in µs."""
    b.assign({900 + layer: []}, layer=layer)
    b.flush()
    b.done([900 + layer], spent=spent)
    b.flush()
    b.effects.to_workers.clear()


def batches(b: Any) -> list[list[int]]:
    return [run.tasks for run in b.sent(Run)]


def test_unknown_durations_go_one_by_one(bench: Any) -> None:
    b = bench(workers=2)
    b.assign({k: [] for k in range(5)})
    assert batches(b) == [[0], [1]]


def test_short_tasks_share_a_message(bench: Any) -> None:
    b = bench()
    learn(b, 1000)
    b.assign({k: [] for k in range(10)})
    assert batches(b) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    b.done([0, 1, 2, 3], spent=1000)
    assert batches(b) == [[8, 9]]


def test_tasks_are_shared_out_before_they_queue(bench: Any) -> None:
    b = bench(workers=2)
    learn(b, 10)
    b.assign({k: [] for k in range(6)})
    assert batches(b) == [[0, 1, 2], [3, 4, 5]]


def test_rank_decides(bench: Any) -> None:
    b = bench(batch=1)
    b.assign({5: [], 3: [], 4: []})
    assert batches(b) == [[3]]
    b.done([3])
    assert batches(b) == [[4]]


def test_long_tasks_are_bound_late(bench: Any) -> None:
    b = bench()
    learn(b, 1_000_000)
    b.assign({1: [], 2: []})
    assert batches(b) == [[1]]
    assert b.core.tasks[2].worker == -1


def test_a_chain_goes_in_one_message_and_stays_in_the_heap(bench: Any) -> None:
    b = bench()
    learn(b, 10)
    b.assign({1: [], 2: [1], 3: [2, 2]}, passing=[1, 2])
    (run,) = b.sent(Run)
    assert (run.tasks, run.uses, run.report) == ([1, 2, 3], [1, 2, 0], [0, 0, 2])


def test_what_is_used_outside_the_message_is_reported(bench: Any) -> None:
    b = bench(batch=2)
    learn(b, 10)
    b.assign({1: [], 2: [1], 3: [1]}, passing=[1])
    assert b.sent(Run)[0].report == [2, 2]


def test_a_worker_bound_task_goes_there_only(bench: Any) -> None:
    b = bench(workers=2)
    learn(b, 10)
    b.assign({1: [], 2: []}, workers=[1, 1])
    assert [run.tasks for run in b.sent(Run, 1)] == [[1, 2]]


def test_a_held_input_draws_its_consumer(bench: Any) -> None:
    b = bench(workers=2)
    b.assign({1: []}, workers=[1])
    b.flush()
    b.done([1], worker=1, length=-3)
    b.assign({2: [1]}, layer=2)
    assert [run.tasks for run in b.sent(Run, 0)] == []
    assert 2 in [task for run in b.sent(Run, 1) for task in run.tasks]


def test_a_stuck_batch_is_asked_back_when_a_slot_is_idle(bench: Any) -> None:
    b = bench(workers=2)
    learn(b, 1000)
    b.assign({1: [], 2: [], 3: [], 4: []}, workers=[0, 0, 0, 0])
    assert batches(b) == [[1, 2], [3, 4]]
    b.now += 1.0
    b.core.on_time(b.now)
    assert b.sent(Recall) == [Recall([2, 4])]
    b.hear(Recalled([2], [0]))
    assert {k: b.core.tasks[k].state.name for k in (1, 2)} == {1: "SENT", 2: "READY"}
    b.core.on_time(b.now)
    assert b.sent(Recall) == []


def test_what_follows_from_what_stays_is_not_asked_back(bench: Any) -> None:
    b = bench(workers=2)
    learn(b, 10)
    b.assign({1: [], 2: [1], 3: [2], 4: [3]}, passing=[1, 2, 3])
    b.flush()
    b.now += 1.0
    b.core.on_time(b.now)
    assert b.sent(Recall) == []


def test_tasks_that_ran_together_when_their_worker_died_run_alone_next(bench: Any) -> None:
    """One of them did it: run apart, only that one is blamed again."""
    b = bench(slots=2)
    b.assign({1: [], 2: []})
    assert batches(b) == [[1], [2]]
    b.end(running=[1, 2])
    b.core.on_worker_ready(0, 2, 2, b.now)
    b.assign({1: [], 2: [], 3: []}, attempt=2)
    assert batches(b) == [[1]]
    b.done([1])
    assert batches(b) == [[2]]
    b.done([2])
    assert batches(b) == [[3]]
    assert b.core.suspects == {}


def test_a_task_that_ran_alone_when_its_worker_died_is_no_suspect(bench: Any) -> None:
    b = bench(slots=2)
    b.assign({1: []})
    b.flush()
    b.end(running=[1])
    assert b.core.suspects == {}


def test_a_task_of_several_slots_goes_alone_to_a_worker_with_so_many(bench: Any) -> None:
    b = bench(slots=4)
    b.assign({1: []}, threads=3)
    (run,) = b.sent(Run)
    assert (run.tasks, run.threads) == ([1], 3)
    b.assign({2: [], 3: []}, layer=2)
    assert batches(b) == [[2]]  # beside it, in the slot that is left
    b.done([1])
    assert batches(b) == [[3]]


def test_small_tasks_do_not_pass_a_large_one_by(bench: Any) -> None:
    b = bench(slots=2)
    b.assign({1: [], 2: []}, layer=1)
    assert batches(b) == [[1], [2]]
    b.assign({3: []}, threads=2, layer=2)
    b.assign({4: [], 5: []}, layer=3)
    b.done([1])
    assert batches(b) == []  # its slot waits for the other one
    b.done([2])
    assert batches(b) == [[3]]
    b.done([3])
    assert batches(b) == [[4], [5]]


def test_the_others_go_on_while_one_worker_waits_for_its_slots(bench: Any) -> None:
    b = bench(workers=2, slots=2)
    b.assign({1: [], 2: [], 3: [], 4: []})
    assert len(batches(b)) == 4
    b.assign({5: []}, threads=2, layer=2)
    b.assign({6: []}, layer=3)
    (reserved,) = {w.number for w in b.core.workers.values() if 1 in _tasks(w)}
    b.done([1], worker=reserved)
    assert batches(b) == []
    other = 1 - reserved
    theirs = _tasks(b.core.workers[other])
    b.done([theirs[0]], worker=other)
    assert batches(b) == [[6]]


def _tasks(worker: Any) -> list[int]:
    return [task for batch in worker.batches for task in batch.tasks]


def test_a_task_that_waits_for_others_holds_no_slot(bench: Any) -> None:
    b = bench(slots=1)
    b.assign({1: [], 2: [], 3: []})
    assert batches(b) == [[1]]
    b.hear(Blocked([1], True))
    assert batches(b) == [[2]]
    assert [m for m, _ in b.effects.to_scheduler if isinstance(m, Blocked)] == [Blocked([1], True)]
    b.hear(Blocked([1], False))
    b.done([2])
    assert batches(b) == []
    b.done([1])
    assert batches(b) == [[3]]


def test_a_task_of_several_threads_that_waits_leaves_all_its_slots(bench: Any) -> None:
    b = bench(slots=2)
    b.assign({1: []}, threads=2)
    b.assign({2: []}, threads=2, layer=2)
    assert batches(b) == [[1]]
    b.hear(Blocked([1], True))
    assert batches(b) == [[2]]
    b.hear(Blocked([2], True))
    b.assign({3: [], 4: []}, layer=3)
    assert batches(b) == [[3], [4]]
    b.done([1])
    b.done([2])
    assert b.core.workers[0].free == 0


def test_a_task_that_left_its_slot_for_good_ends_with_its_record(bench: Any) -> None:
    b = bench(slots=1)
    b.assign({1: [], 2: []})
    b.sent(Run)
    b.hear(Blocked([1], True))
    assert batches(b) == [[2]]
    b.done([1])
    assert b.core.workers[0].blocked == set()
    b.done([2])
    b.assign({4: [], 5: []}, layer=2)
    assert batches(b) == [[4]]


def test_what_alone_takes_a_long_task_s_result_goes_with_it(bench: Any) -> None:
    """The result need not go through the store: it never leaves the worker's heap."""
    b = bench()
    b.core.durations[LAYER] = 0.02
    b.assign({1: [], 2: [1], 3: [], 4: [3]}, passing=[1, 3])
    (run,) = b.sent(Run)
    assert (run.tasks, run.report) == ([1, 2], [0, 2])


def test_a_result_that_others_take_too_is_reported_first(bench: Any) -> None:
    """They may run in other slots meanwhile. So it is with one that is not passing."""
    b = bench()
    b.core.durations[LAYER] = 0.02
    b.assign({1: [], 2: [1], 3: [1]}, passing=[1])
    assert b.sent(Run)[0].tasks == [1]
    c = bench()
    c.core.durations[LAYER] = 0.02
    c.assign({1: [], 2: [1]})
    assert c.sent(Run)[0].tasks == [1]


def test_inputs_of_one_task_go_together_if_there_is_enough_for_other_slots(bench: Any) -> None:
    b = bench(workers=2)
    b.core.durations[LAYER] = 0.02
    b.assign({1: [], 2: [], 3: [1, 2], 4: [], 5: [], 6: [4, 5]}, passing=[1, 2, 4, 5])
    assert [run.tasks for run in b.sent(Run)] == [[1, 2, 3], [4, 5, 6]]
    c = bench(workers=2)
    c.core.durations[LAYER] = 0.02
    c.assign({1: [], 2: [], 3: [1, 2]}, passing=[1, 2])
    assert [run.tasks for run in c.sent(Run)] == [[1], [2]]


@pytest.mark.parametrize(("seconds", "count"), [(0.06, 4), (0.2, 1), (None, 3)])
def test_a_group_takes_only_so_long(bench: Any, seconds: float | None, count: int) -> None:
    """What is long stays apart, and what was never seen may be long."""
    b = bench()
    if seconds is not None:
        b.core.durations[LAYER] = seconds
    b.assign({1: [], **{n: [n - 1] for n in range(2, 12)}}, passing=range(1, 11))
    assert len(b.sent(Run)[0].tasks) == count


def test_a_task_at_a_worker_of_its_own_does_not_join_a_group(bench: Any) -> None:
    b = bench(workers=2)
    b.core.durations[LAYER] = 0.02
    b.assign({1: [], 2: []}, passing=[1, 2], workers=[0, 1])
    b.assign({3: [1, 2], 4: [], 5: []})
    assert [run.tasks for run in b.sent(Run)] == [[1], [2]]
