"""The table of transitions at a node."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.node.records import Assignment
from zcluster.core.node.states import TRANSITIONS, State
from zcluster.graph.layers import Graph
from zcluster.protocol.messages import Recall

TAKERS: list[tuple[int, ...]] = [(0,), (1, 4), (5,), (5, 6), (3, 2)]


def test_every_state_is_reached_and_can_be_left() -> None:
    assert set(TRANSITIONS.values()) == set(State)
    assert {before for before, _ in TRANSITIONS} == set(State)


def test_what_happens_takes_arrows_of_the_table_only(
    world: Any, add_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrows = {(before, after) for (before, _), after in TRANSITIONS.items()}
    seen: set[tuple[State, State]] = set()

    class Watched(Assignment):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "state" and hasattr(self, "state") and self.state != value:
                seen.add((self.state, value))
            super().__setattr__(name, value)

    monkeypatch.setattr("zcluster.core.node.core.Assignment", Watched)
    for seed in range(8):
        live(world(seed), add_layer)
    assert seen <= arrows
    # Tasks begin as WAITING; a batch that is asked back has a test in `test_batches`.
    rare = {(State.ABSENT, State.WAITING), (State.ABSENT, State.READY), (State.SENT, State.READY)}
    assert arrows - seen <= rare


def live(w: Any, add_layer: Any) -> None:
    """Run a few graphs, with workers that die and tasks that are recalled and dropped."""
    client = w.add_client()
    for name in ("a", "b"):
        w.add_node(name, workers=2)
    for _ in range(6):
        graph = Graph()
        add_layer(graph, "s", [()] * 4, [b"", b"flaky1", b"kill1", b""], retries=2)
        add_layer(graph, "s1", TAKERS)
        graph.outputs = [(4, 5)]
        first = client.next
        for k, constant in enumerate((b"", b"flaky1", b"kill1", b"")):
            w.specs[first + k] = w.spec(b"s", constant, retries=2)
        for k, edges in enumerate(TAKERS):
            inputs = [(first + source, None) for source in edges]
            w.specs[first + 4 + k] = w.spec(b"s1", b"", inputs)
        client.submit(graph)
        for _ in range(60):
            w.step()
        for node in w.nodes:
            w.post("scheduler>node", node, Recall(list(node.core.tasks)[::2]), ())
        client.cancel([first + 8])
        for node in w.nodes[:1]:
            for worker in list(node.workers.values())[:1]:
                w.kill_worker(node, worker)
        w.run()
