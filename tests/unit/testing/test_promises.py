"""What is said, begun and believed is looked at, and what breaks a promise is named."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.node.records import Result
from zcluster.core.scheduler import retiring
from zcluster.core.scheduler.state import SchedulerState
from zcluster.errors import InvariantError
from zcluster.graph.layers import Graph
from zcluster.protocol.messages import Assign, Free, Leave, Lost, Recall
from zcluster.storage.arena import Range
from zcluster.testing import Spec, World, add_layer
from zcluster.testing.promises import (
    check_alone,
    check_left,
    check_lost,
    check_missed,
    check_places,
    check_retiring,
    check_said,
)


@pytest.fixture
def world() -> World:
    """A cluster of two nodes that has run a task."""
    made = World(1, check=True)
    client = made.add_client()
    made.add_node("a", 1, 1)
    made.add_node("b", 1, 1)
    made.settle_members()
    submit(made, client)
    made.run_until_quiet()
    return made


def submit(world: World, client: Any) -> int:
    graph = Graph()
    add_layer(graph, "s", [()])
    graph.want([0])
    task: int = client.next
    world.model.add(task, Spec(b"s"))
    client.submit(graph)
    return task


def holder(world: World) -> tuple[SchedulerState, int, Any]:
    """Return the scheduler's state, the task, and the record of the node that has it."""
    s = world.core.state
    task, page, row = next(iter(s.rows()))
    return s, task, s.nodes[page.node[row]]


def test_a_node_is_not_told_to_let_go_of_what_it_has(world: World) -> None:
    s, task, node = holder(world)
    other = next(record for record in s.nodes.values() if record is not node)
    check_said(s, other.peer, Free([task]))
    with pytest.raises(InvariantError, match=f"let go of task {task}, FINISHED there"):
        check_said(s, node.peer, Free([task]))


def test_a_node_is_not_told_to_drop_what_a_client_wants(world: World) -> None:
    s, task, node = holder(world)
    columns: dict[str, Any] = {name: [] for name in Assign.__struct_fields__}
    columns["tasks"] = [task]
    check_said(s, node.peer, Assign(**{**columns, "flags": [0]}))
    with pytest.raises(InvariantError, match=f"is to drop task {task} after its last use"):
        check_said(s, node.peer, Assign(**{**columns, "flags": [1]}))


def test_a_node_does_not_leave_before_what_it_has_has_come_to_others(world: World) -> None:
    s, task, node = holder(world)
    retiring.begin(s, node, leaves=True)
    assert task in node.retiring.moving
    with pytest.raises(InvariantError, match="is on its way from there"):
        check_said(s, node.peer, Leave([]))
    node.retiring.moving.clear()
    check_said(s, node.peer, Leave([]))


def test_a_node_that_retires_is_asked_for_what_it_has(world: World) -> None:
    for member in world.nodes:
        world.freeze(member, 5.0)
    task = submit(world, world.clients[0])
    world.run_for(0.5)
    s = world.core.state
    node = next(node for node in s.nodes.values() if any(node.assigned.values()))
    with pytest.raises(InvariantError, match=f"is not asked for task {task}"):
        check_retiring(s, node.index)
    s.say(node.peer, Recall([task]))
    check_retiring(s, node.index)


def test_no_task_runs_twice_at_once_in_a_worker(world: World) -> None:
    worker = world.nodes[0].workers[0]

    class Running:
        running = 7

    worker.running = [Running()]  # type: ignore[list-item]
    check_alone(worker, 7)
    worker.running *= 2
    with pytest.raises(InvariantError, match="task 7 runs twice"):
        check_alone(worker, 7)


def test_results_are_where_the_scheduler_believes_them_to_be(world: World) -> None:
    s, task, record = holder(world)
    check_places(s, world.node)
    node = world.node(record.index)
    assert node is not None
    node.core.results.pop(task)
    with pytest.raises(InvariantError, match="does not have its result"):
        check_places(s, world.node)


def test_who_was_to_leave_has_left_in_the_end(world: World) -> None:
    s, task, node = holder(world)
    check_left(s)
    retiring.begin(s, node, leaves=False)
    with pytest.raises(InvariantError, match=f"still here; it waits for .*{task}"):
        check_left(s)
    world.run_until_quiet()
    world.run_for(1.0)
    check_left(s)


def test_what_was_in_the_heap_of_a_worker_that_ended_is_missed(world: World) -> None:
    core = world.nodes[0].core
    core.effects.to_scheduler.append((Lost([7]), ()))
    check_missed(core, {7})
    with pytest.raises(InvariantError, match="task 8 was in the heap"):
        check_missed(core, {7, 8})


def test_what_could_not_be_read_from_disk_is_there_no_more(world: World) -> None:
    _, task, record = holder(world)
    node = world.node(record.index)
    assert node is not None
    place = Range(1, 2, 3)
    check_lost(node.core, place)
    node.core.results[task] = Result(3, place=place)
    with pytest.raises(InvariantError, match=f"task {task} .* could not be read"):
        check_lost(node.core, place)
