"""What a node knows of tasks and workers."""

from __future__ import annotations

import heapq

from zcluster.core.node.records import Assignment, Batch, WorkerRecord
from zcluster.core.node.states import State
from zcluster.protocol.messages import NodeLayer

LAYER = NodeLayer(1, 0, 0, 0, b"f", [], [], [], "x")


def test_two_entries_of_one_task_can_stand_in_a_queue() -> None:
    """One that left and came again has the same rank and number: a tie must not raise."""
    queue: list[tuple[int, int, Assignment]] = []
    for attempt in (1, 2, 3):
        assignment = Assignment(7, attempt, LAYER, 5, [], b"", False, -1)
        heapq.heappush(queue, (assignment.rank, assignment.task, assignment))
    attempts = {heapq.heappop(queue)[2].attempt for _ in range(3)}
    assert attempts == {1, 2, 3}


def test_an_assignment_begins_waiting_and_knows_what_it_is_bound_to() -> None:
    assignment = Assignment(7, 1, LAYER, 5, [1, 2], b"c", True, 3)
    assert (assignment.state, assignment.bound, assignment.worker) == (State.WAITING, 3, 3)


def test_a_worker_counts_what_it_has_not_reported() -> None:
    worker = WorkerRecord(0, "w", 1, 0)
    assignment = Assignment(7, 1, LAYER, 5, [], b"", False, -1)
    worker.batches = [Batch(1, 0.0, 0.0, {7: assignment}), Batch(2, 0.0, 0.0, {8: assignment})]
    assert worker.outstanding == 2
