"""The pretend cluster as a whole: what each fault does to members whose cores are real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zcluster.core.node.invariants import check_empty as check_node_empty
from zcluster.core.scheduler.invariants import check_empty
from zcluster.errors import InvariantError
from zcluster.graph.layers import Graph, GraphLayer
from zcluster.testing.clients import ClientMember
from zcluster.testing.fakes import function
from zcluster.testing.members import NodeMember
from zcluster.testing.model import Spec
from zcluster.testing.world import World

Fault = Callable[[World, NodeMember, ClientMember], object]


def submit(world: World, client: ClientMember, count: int = 12) -> list[int]:
    """Submit a layer of small calls, and one of large results upon it; return the latter."""
    graph = Graph()
    first = client.next
    small, large = function("s"), function("b")
    graph.add_layer(GraphLayer("s", (count,), count, 0, small, 0, None, []))
    inputs = list(range(count))
    graph.add_layer(GraphLayer("b", (count,), count, 0, large, 1, None, inputs))
    graph.outputs = [(count, count)]
    for task in range(first, first + count):
        world.model.add(task, Spec(b"s"))
        world.model.add(task + count, Spec(b"b", b"", [(task, None)]))
    client.submit(graph, (), 300)
    return list(range(first + count, first + 2 * count))


def begin(seed: int = 1, nodes: int = 2) -> tuple[World, ClientMember, list[int]]:
    """Return a world in which work has begun."""
    world = World(seed, check=True)
    client = world.add_client()
    for number in range(nodes):
        world.add_node(f"n{number}", 2, 2)
    world.settle_members()
    world.run_for(0.2)
    return world, client, submit(world, client)


def finish(world: World, client: ClientMember, tasks: list[int]) -> None:
    """Everything must come, and nothing may stay."""
    world.run_until_quiet()
    assert [task for task in tasks if not isinstance(client.wanted[task], bytes)] == []
    client.release(list(client.wanted))
    world.run_until_quiet()
    check_empty(world.state)
    for node in world.nodes:
        check_node_empty(node.core)


def restart(world: World, node: NodeMember, client: ClientMember) -> None:
    world.lose_node(node)
    world.restart_node(node.name)


def reset(world: World, node: NodeMember, client: ClientMember) -> None:
    world.drop_connection(node)
    world.drop_connection(client)


def replace(world: World, node: NodeMember, client: ClientMember) -> None:
    world.drop_connection(node, noticed=False)
    world.drop_connection(client, noticed=False)


def slow(world: World, node: NodeMember, client: ClientMember) -> None:
    world.slow(node, 3.0)
    world.slow(client, 3.0, 3.0)


def fail_transfers(world: World, node: NodeMember, client: ClientMember) -> None:
    world.fail_fetches(node, 5.0, 1.0)
    world.fail_fetches(client, 3.0)


FAULTS: dict[str, Fault] = {
    "nothing": lambda w, n, c: None,
    "a worker dies": lambda w, n, c: w.kill_worker(n, n.workers[0]),
    "a node dies": lambda w, n, c: w.lose_node(n),
    "a host dies": lambda w, n, c: w.lose_node(n, noticed=False),
    "a node is replaced": lambda w, n, c: w.add_node(n.name, 1, 1),
    "a node dies and comes back": restart,
    "a node is frozen": lambda w, n, c: w.freeze(n, 1.0),
    "a node is frozen for long": lambda w, n, c: w.freeze(n, 20.0),
    "a client is frozen": lambda w, n, c: w.freeze(c, 5.0),
    "the scheduler is frozen": lambda w, n, c: w.freeze(w.scheduler, 10.0),
    "a node is cut off": lambda w, n, c: w.cut(n, 5.0, noticed=False),
    "a node is cut off for long": lambda w, n, c: w.cut(n, 20.0),
    "a client is cut off": lambda w, n, c: w.cut(c, 8.0, noticed=False),
    "a node cannot say anything": lambda w, n, c: w.cut(n, 3.0, from_scheduler=False),
    "a node cannot hear anything": lambda w, n, c: w.cut(n, 3.0, to_scheduler=False, noticed=False),
    "connections are reset": reset,
    "connections are replaced": replace,
    "lines are slow": slow,
    "transfers fail": fail_transfers,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_whatever_happens_to_one_member_everything_comes(fault: Fault) -> None:
    world, client, tasks = begin()
    world.run_for(0.003)
    fault(world, world.nodes[0], client)
    finish(world, client, tasks)


def test_the_same_seed_is_the_same_history_and_another_is_another() -> None:
    seen = []
    for seed in (7, 7, 8):
        world, client, tasks = begin(seed)
        restart(world, world.nodes[0], client)
        world.run_for(0.3)
        replace(world, world.nodes[0], client)
        finish(world, client, tasks)
        seen.append((world.trace_hash, world.events, world.now))
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[2][0]


def test_a_scheduler_that_was_paused_ends_nobody() -> None:
    """Also not one that was away when the pause began, and came back during it."""
    world, client, tasks = begin()
    node = world.nodes[0]
    world.cut(node, 6.0)
    world.run_for(5.0)
    world.freeze(world.scheduler, 10.0)
    world.run_for(30.0)
    assert [n.name for n in world.nodes] == ["n0", "n1"]
    assert world.nodes[0] is node
    assert world.ends == []
    assert world.state.nodes.keys() == {n.index for n in world.nodes}
    finish(world, client, tasks)


def test_members_that_were_paused_do_not_give_the_scheduler_up() -> None:
    """They have heard nothing, because they did not listen."""
    world, client, tasks = begin()
    for member in (client, world.nodes[0]):
        world.cut(member, 2.0)
    world.run_for(1.0)
    world.freeze(client, 8.0)
    world.freeze(world.nodes[0], 6.0)
    finish(world, client, tasks)
    assert world.ends == []


def test_a_node_that_was_away_for_too_long_begins_another_life() -> None:
    world, client, tasks = begin()
    node = world.nodes[0]
    world.cut(node, 15.0)
    finish(world, client, tasks)
    world.run_for(20.0)
    assert [name for _, name, _ in world.ends] == ["n0"]
    assert node not in world.nodes
    assert sorted(n.name for n in world.nodes) == ["n0", "n1"]
    assert world.state.nodes.keys() == {n.index for n in world.nodes}


def test_a_member_that_is_admitted_once_more_is_found() -> None:
    """Whoever was fenced must not come back as it was, without knowing what it missed."""
    world, _, _ = begin()
    node = world.nodes[0]
    with pytest.raises(InvariantError, match="is admitted once more, as peer 99"):
        world.scheduler._on_hello(99, node._hello(b"", 0))


def test_a_client_that_dies_leaves_nothing_behind() -> None:
    world, client, _ = begin()
    world.run_for(0.01)
    other = world.add_client("other")
    world.settle_members()
    tasks = submit(world, other)
    world.lose_client(client, noticed=False)
    finish(world, other, tasks)


def test_a_client_that_closes_is_told_so_of_what_was_open() -> None:
    world, client, tasks = begin()
    client.close()
    assert {outcome.kind for outcome in client.wanted.values()} == {"closed"}
    world.run_until_quiet()
    check_empty(world.state)
    assert set(client.wanted) == set(tasks)


def test_scattered_data_is_put_again_where_it_was_lost_and_goes_with_its_release() -> None:
    world, client, _ = begin()
    tasks = client.scatter([b"small", b"large" * 100])
    dropped = client.scatter([b"dropped before it is stored" * 10])
    client.release(dropped)
    world.run_until_quiet()
    world.lose_node(world.nodes[0])
    world.add_node("n2", 1, 1)
    finish(world, client, tasks)


def test_data_is_put_elsewhere_while_a_node_is_silent_which_is_asked_until_it_answers() -> None:
    world, client, tasks = begin()
    finish(world, client, tasks)
    node = world.nodes[0]
    node.fetch_faults = 1.0
    (task,) = client.scatter([b"large" * 100], everywhere=True)
    world.run_for(30.0)
    assert client.wanted[task] is not None  # the other node has it
    assert client.putting == 1
    assert not world.model.refused
    node.fetch_faults = 0.0
    world.run_until_quiet()
    assert client.putting == 0
    assert task in node.core.results


def test_a_wrong_answer_is_seen() -> None:
    world, client, tasks = begin()
    world.model.specs[tasks[3]].constant = b"another"
    with pytest.raises(Exception, match=f"task {tasks[3]} gave"):
        finish(world, client, tasks)


def test_what_does_not_come_to_rest_is_named() -> None:
    world, client, tasks = begin(nodes=0)
    with pytest.raises(Exception, match=rf"within 5 s.*open tasks: \[{tasks[0]}"):
        world.run_until_quiet(5.0)
    assert client.wanted[tasks[0]] is None


def test_a_task_s_story_is_in_order() -> None:
    world, client, tasks = begin()
    world.run_until_quiet()
    story = world.story(tasks[0])
    times: list[Any] = [time for time, _, _ in story]
    assert times == sorted(times)
    assert {"scheduler", client.name} <= {member for _, member, _ in story}
    assert "began attempt 1" in {text for _, _, text in story}
