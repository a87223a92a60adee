"""What only somebody beside the cores can see."""

from __future__ import annotations

import pytest

from zcluster.core.client import core as client_module
from zcluster.core.node import core as node_module
from zcluster.core.scheduler.pages import PASSING
from zcluster.errors import InvariantError
from zcluster.graph.layers import Graph
from zcluster.protocol.messages import Finished, Release, Unreachable
from zcluster.testing import Coverage, Spec, World, add_layer
from zcluster.testing.coverage import Arrow, Pair
from zcluster.testing.watching import Watcher


@pytest.fixture
def watcher() -> Watcher:
    return Watcher(Coverage())


@pytest.fixture
def world(watcher: Watcher) -> World:
    """A cluster that has run two tasks, one upon the other."""
    with watcher.watching():
        made = World(1, check=True, on_core=watcher.watch)
        client = made.add_client()
        made.add_node("n", 1, 1)
        made.settle_members()
        graph = Graph()
        add_layer(graph, "s", [()])
        add_layer(graph, "s", [(0,)])
        graph.want([0, 1])
        first = client.next
        made.model.add(first, Spec(b"s"))
        made.model.add(first + 1, Spec(b"s", inputs=[(first, None)]))
        client.submit(graph)
        made.run_until_quiet()
    return made


def test_steps_and_messages_are_counted(world: World, watcher: Watcher) -> None:
    seen = watcher.coverage
    assert seen.arrows[Arrow("scheduler", "ASSIGNED", "reported finished", "FINISHED")] == 2
    assert seen.arrows[Arrow("node", "SENT", "finished", "ABSENT")] == 2
    assert seen.arrows[Arrow("client", "PENDING", "resolved", "HERE")] == 2
    assert seen.pairs[Pair("scheduler", "Finished", "ASSIGNED")] == 2
    assert seen.pairs[Pair("client", "Resolved", "PENDING")] == 2
    assert seen.strange == {}


def test_nothing_is_left_of_watching(world: World) -> None:
    assert node_module.Assignment.__name__ == "Assignment"  # type: ignore[attr-defined]
    assert client_module.advance.__name__ == "advance"  # type: ignore[attr-defined]


def test_a_member_that_is_not_here_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task, page, row), _ = world.state.rows()
    client = next(iter(world.state.clients.values()))
    monkeypatch.setattr(world.state, "clients", {})
    world.core.on_message(client.peer, Release([task]), (), world.now)  # is not heard
    page.state[row] += 0
    monkeypatch.undo()
    assert world.state.find(task) is not None


def test_who_asks_for_what_was_passing_is_wrong(world: World, watcher: Watcher) -> None:
    (task, page, row), _ = world.state.rows()
    page.flags[row] |= PASSING
    node = next(iter(world.state.nodes.values()))
    with pytest.raises(InvariantError, match=f"task {task} was passing"):
        world.core.on_message(node.peer, Unreachable([task], -1), (), world.now)
    watcher.had_losses = lambda: True
    world.core.on_message(node.peer, Unreachable([task], -1), (), world.now)


def test_a_trace_has_every_message(world: World, watcher: Watcher) -> None:
    lines: list[str] = []
    watcher.trace = lines.append
    node = next(iter(world.state.nodes.values()))
    world.core.on_message(node.peer, Finished([], [], [], [], [], []), (), world.now)
    (line,) = lines
    assert "scheduler hears of peer" in line
    assert "Finished(tasks=[]" in line
