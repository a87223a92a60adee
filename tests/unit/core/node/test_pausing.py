"""Workers that take no more work for now, and what becomes of what they had."""

from __future__ import annotations

from typing import Any

from zcluster.core.node import pausing
from zcluster.core.node.records import WorkerEnd
from zcluster.protocol.messages import (
    Blocked,
    Done,
    Free,
    Grant,
    Recall,
    Recalled,
    Reserve,
    Run,
    Workers,
)

#: The callable of a bench's first layer.
SHORT = b"f%15d" % 1


def statuses(bench: Any) -> list[tuple[str, str]]:
    """Return (status, reason) of each worker, as the scheduler was told last."""
    told = bench.said(Workers)
    return [(worker.status, worker.reason) for worker in told[-1].workers]


def test_a_paused_worker_gets_nothing_and_the_other_all(bench: Any) -> None:
    b = bench(workers=2)
    assert [w.name for w in pausing.pause(b.core, "disk", "it is full", [0])] == ["w0"]
    assert statuses(b) == [("paused", "it is full"), ("running", "")]
    b.core.durations[SHORT] = 1e-5
    b.assign({1: [], 2: []})
    assert b.sent(Run, 0) == []
    assert [run.tasks for run in b.sent(Run)] == [[1, 2]]
    assert pausing.pause(b.core, "disk", "it is full", [0]) == []
    assert b.said(Workers) == []  # nothing new


def test_what_it_has_queued_goes_to_the_other_worker(bench: Any) -> None:
    b = bench(workers=2)
    b.core.durations[SHORT] = 1e-5
    b.assign({1: [], 2: [], 3: [], 4: []})
    assert [run.tasks for run in b.sent(Run)] == [[1, 2], [3, 4]]
    pausing.pause(b.core, "memory", "too much", [0])
    assert [recall.tasks for recall in b.sent(Recall, 0)] == [[1, 2]]
    b.hear(Recalled([2], [0]), 0)  # the first is running
    assert [run.tasks for run in b.sent(Run, 1)] == [[2]]
    assert b.said(Recalled) == []


def test_it_runs_again_when_the_last_cause_is_gone(bench: Any) -> None:
    b = bench()
    pausing.pause(b.core, "disk", "it is full")
    pausing.pause(b.core, "memory", "too much", [0])
    assert statuses(b) == [("paused", "it is full")]
    assert b.core.worker_infos()[0].reason == "it is full; too much"
    assert pausing.resume(b.core, "disk") == []
    b.assign({1: []})
    assert [told.tasks for told in b.said(Recalled)] == [[1]]
    assert [w.name for w in pausing.resume(b.core, "memory")] == ["w0"]
    assert statuses(b) == [("running", "")]
    b.assign({2: []})
    assert b.sent(Run)[0].tasks == [2]
    assert pausing.resume(b.core, "memory") == []


def test_where_all_are_paused_what_has_not_begun_goes_back(bench: Any) -> None:
    """Also what waits for inputs that are made here, or would come later."""
    b = bench()
    b.core.durations[SHORT] = 1e-5
    b.assign({1: [], 2: [1], 3: []})
    (run,) = b.sent(Run)
    pausing.pause(b.core, "memory", "too much")
    assert b.sent(Recall)[0].tasks == run.tasks
    b.hear(Recalled([2, 3], [0, 0]), 0)
    assert [told.tasks for told in b.said(Recalled)] == [[2, 3]]
    b.done([1])
    assert b.core.tasks == {}
    # On its way here when the scheduler heard of it.
    b.assign({4: []})
    assert [told.tasks for told in b.said(Recalled)] == [[4]]
    assert b.sent(Run) == []


def test_what_runs_in_a_paused_worker_holds_no_slot_that_counts(bench: Any) -> None:
    """Or the scheduler would think that the node has as much less room."""
    b = bench(workers=2)
    b.core.durations[SHORT] = 1e-5
    b.assign({1: [], 2: [], 3: [], 4: []})
    b.flush()
    pausing.pause(b.core, "memory", "too much", [0])
    assert b.said(Blocked) == [Blocked([1], True)]
    b.hear(Recalled([2], [0]), 0)
    # It waits for others, and goes on: the scheduler knows nothing else of it.
    b.hear(Blocked([1], True), 0)
    b.hear(Blocked([1], False), 0)
    assert b.said(Blocked) == [Blocked([1], True)]
    pausing.resume(b.core, "memory")
    assert b.said(Blocked) == [Blocked([1], False)]
    pausing.pause(b.core, "memory", "too much", [0])
    b.done([1], 0)
    b.said(Blocked)
    pausing.resume(b.core, "memory")
    assert b.said(Blocked) == []


def test_what_takes_a_result_from_a_heap_here_waits(bench: Any) -> None:
    """It can run nowhere else."""
    b = bench()
    b.assign({1: []})
    b.flush()
    b.done([1], length=-3)
    pausing.pause(b.core, "memory", "too much")
    b.assign({2: [1], 3: [2], 4: []})
    assert [told.tasks for told in b.said(Recalled)] == [[4]]
    b.sent(Run)
    pausing.resume(b.core, "memory")
    assert b.sent(Run)[0].tasks == [2, 3]


def test_a_new_process_has_the_memory_that_the_old_one_had_not(bench: Any) -> None:
    b = bench()
    pausing.pause(b.core, pausing.MEMORY, "too much")
    pausing.pause(b.core, "disk", "it is full")
    b.end()
    assert b.core.workers[0].pauses == {"disk": "it is full"}
    pausing.resume(b.core, "disk")
    b.core.on_worker_ready(0, 2, 2, b.now)
    assert statuses(b) == [("running", "")]


def test_a_worker_that_cannot_be_started_is_told_of_with_the_reason(bench: Any) -> None:
    b = bench(workers=2)
    b.end()
    assert statuses(b) == [("running", "")]  # of the other; this one is starting
    b.core.on_worker_end(WorkerEnd(0, 1, "exited with status 1", 0, "a\nno threads left\n", []), 2)
    reason = "its process exited with status 1 before it was ready: no threads left"
    assert statuses(b) == [("paused", reason), ("running", "")]
    assert [worker.pid for worker in b.core.worker_infos()] == [0, 1]
    b.core.on_worker_ready(0, 5, 2, 3.0)
    assert [worker.pid for worker in b.core.worker_infos()] == [5, 1]
    assert statuses(b) == [("running", "")] * 2


def test_a_worker_is_charged_what_its_results_take_until_they_go(bench: Any) -> None:
    b = bench(workers=2)
    b.assign({1: [], 2: [1]}, workers=[0, 1])
    b.flush()
    b.hear(Reserve(7, 1, 5000), 0)
    grant = b.sent(Grant)[0]
    b.hear(Done([1], [-1], [10], [(1, grant.slab, grant.offset, 5000)]), 0)
    assert [worker.made for worker in b.core.workers.values()] == [grant.length, 0]
    assert b.core.results[1].maker == 0
    b.flush()
    b.done([2], 1)
    b.tell(Free([1, 2]))
    assert [worker.made for worker in b.core.workers.values()] == [0, 0]
