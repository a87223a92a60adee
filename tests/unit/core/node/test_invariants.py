"""The walk finds what contradicts itself: one planted error each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zcluster.core.node.invariants import check, check_empty
from zcluster.core.node.records import Batch, Result
from zcluster.core.node.states import State
from zcluster.errors import InvariantError


def plant_use(core: Any) -> None:
    core.uses[1] = 5


def plant_missing(core: Any) -> None:
    core.tasks[3].missing = 1


def plant_state(core: Any) -> None:
    core.tasks[2].state = State.WAITING


def plant_ready(core: Any) -> None:
    core.ready.clear()


def plant_batch(core: Any) -> None:
    core.workers[0].batches.append(Batch(9, 0.0, 0.0, {}))


def plant_sent(core: Any) -> None:
    core.workers[0].batches.clear()


def plant_passing(core: Any) -> None:
    core.passing.add(77)


def plant_lent(core: Any) -> None:
    core.results[1].lent = True


def plant_awaited(core: Any) -> None:
    core.awaited[50] = []


def plant_part(core: Any) -> None:
    core.results[-5] = Result(1, b"x")


def plant_held(core: Any) -> None:
    core.workers[0].held.add(55)


PLANTED: list[tuple[Callable[[Any], None], str]] = [
    (plant_use, "used 5 times"),
    (plant_missing, "counted missing"),
    (plant_state, "its inputs are here|a batch has it"),
    (plant_ready, "in the queue: False"),
    (plant_batch, "empty batch"),
    (plant_sent, "in a batch of None"),
    (plant_passing, "passing"),
    (plant_lent, "lent"),
    (plant_awaited, "awaited"),
    (plant_part, "a part that nobody knows"),
    (plant_held, "held by worker 0"),
]


def prepared(bench: Any) -> Any:
    """1 is done, 2 runs, 3 is queued."""
    b = bench(batch=1)
    b.assign({1: [], 2: [1], 3: [1]})
    b.flush()
    b.done([1])
    b.flush()
    return b.core


@pytest.mark.parametrize(("plant", "match"), PLANTED)
def test_a_planted_contradiction_is_found(
    bench: Any, plant: Callable[[Any], None], match: str
) -> None:
    core = prepared(bench)
    check(core)
    plant(core)
    with pytest.raises(InvariantError, match=match):
        check(core)


def test_what_is_left_is_named(bench: Any) -> None:
    with pytest.raises(InvariantError, match="nothing is needed any more, but tasks"):
        check_empty(prepared(bench))
    check_empty(bench().core)
