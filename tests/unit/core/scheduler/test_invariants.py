"""The walk finds what contradicts itself: one planted error each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zcluster.core.scheduler.invariants import check, check_empty
from zcluster.core.scheduler.states import State
from zcluster.errors import InvariantError


def set_column(name: str, position: int, value: int) -> Callable[[Any, int], None]:
    def plant(d: Any, first: int) -> None:
        page, row = d.row(first + position)
        getattr(page, name)[row] = value

    return plant


def plant_heir(d: Any, first: int) -> None:
    d.row(first)[0].add_heir(0, first + 2)


def plant_page(d: Any, first: int) -> None:
    d.row(first)[0].live += 1


def plant_layer(d: Any, first: int) -> None:
    d.row(first)[0].layer[0].forgotten += 1


def plant_function(d: Any, first: int) -> None:
    next(iter(d.state.functions.values())).layers += 1


def plant_assigned(d: Any, first: int) -> None:
    next(iter(d.state.nodes.values())).count_assigned(b"?", 1)


def plant_key(d: Any, first: int) -> None:
    d.state.keys["nobody"] = first + 1000


def plant_inline(d: Any, first: int) -> None:
    d.state.inline_bytes += 1


def plant_loose(d: Any, first: int) -> None:
    d.state.loose.add(first)


def plant_kill(d: Any, first: int) -> None:
    d.state.kills[first + 3] = 1


PLANTED: list[tuple[Callable[[Any, int], None], str]] = [
    (set_column("state", 0, State.READY), "names node 0|no queue"),
    (set_column("state", 3, State.READY), "names node|queue"),
    (set_column("missing", 1, 0), "missing 0, unplaced 0; expected 1 and 0"),
    (set_column("unplaced", 1, 1), "unplaced 1"),
    (set_column("refs", 0, 5), "refs 5"),
    (set_column("kin", 0, 0), "kin 0"),
    (set_column("node", 0, 7), "not here"),
    (set_column("node", 3, 7), "not here"),
    (plant_heir, "heirs"),
    (plant_page, "live rows"),
    (plant_layer, "forgotten"),
    (plant_function, "counts"),
    (plant_assigned, "assigned tasks by callable"),
    (plant_key, "'nobody'"),
    (plant_inline, "inline"),
    (plant_loose, "left over"),
    (plant_kill, "attempts are still counted"),
]


def prepared(desk: Any, graph_of: Any) -> tuple[Any, int]:
    """0 is assigned, 1 and 2 after it; 3 is finished."""
    d = desk()
    client, node = d.client(), d.node(slots=4)
    first = d.submit(client, graph_of([(), (0,), (1,), ()]))
    d.flush()
    d.finish(node, [first + 3])
    d.flush()
    return d, first


@pytest.mark.parametrize(("plant", "match"), PLANTED)
def test_a_planted_contradiction_is_found(
    desk: Any, graph_of: Any, plant: Callable[[Any, int], None], match: str
) -> None:
    d, first = prepared(desk, graph_of)
    check(d.state)
    plant(d, first)
    with pytest.raises(InvariantError, match=match):
        check(d.state)


def test_an_input_that_was_forgotten_before_its_consumer_is_found(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    graph = graph_of([(), (0,)])
    graph.want([1])
    first = d.submit(client, graph)
    d.flush()
    d.finish(node, [first])
    d.flush()
    d.finish(node, [first + 1])
    d.flush()
    check(d.state)
    page, row = d.row(first)
    page.state[row] = State.FORGOTTEN
    page.live -= 1
    page.layer[row].forgotten += 1
    with pytest.raises(InvariantError, match=f"it lists {first}, which is forgotten"):
        check(d.state)


def test_the_story_of_the_task_is_told(desk: Any, graph_of: Any) -> None:
    d, first = prepared(desk, graph_of)
    d.row(first)[0].refs[0] = 9
    with pytest.raises(InvariantError, match=r"\('s', 0\)(.|\n)*assigned n"):
        check(d.state)


def test_what_is_left_is_named(desk: Any, graph_of: Any) -> None:
    d, _ = prepared(desk, graph_of)
    with pytest.raises(InvariantError, match="pages"):
        check_empty(d.state)
    check_empty(desk().state)
