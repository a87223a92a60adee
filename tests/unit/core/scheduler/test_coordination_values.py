"""Holds of values on tasks, by themselves; what things do with them is tested with the things."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from zcluster.core.scheduler.coordination_values import hold, unhold
from zcluster.core.scheduler.invariants import check
from zcluster.errors import InvariantError
from zcluster.protocol.messages import Release

if TYPE_CHECKING:
    from tests.unit.core.scheduler.conftest import Desk as DeskType

Desk = Callable[..., "DeskType"]


def test_a_hold_counts_once_and_outlives_the_clients(
    desk: Desk, graph_of: Callable[..., Any]
) -> None:
    d = desk(check=False)
    client, node = d.client(), d.node()
    task = d.submit(client, graph_of([()]))
    assert d.assigned() == {"n": [task]}
    assert hold(d.state, task, -1)
    assert hold(d.state, task, -1)
    d.tell(client, Release([task]))
    d.finish(node, [task])
    assert d.word(task) == "finished"
    unhold(d.state, task, -1)
    unhold(d.state, task, -1)
    d.flush()
    assert d.word(task) == "forgotten"


def test_what_is_forgotten_cannot_be_held(desk: Desk) -> None:
    d = desk()
    assert not hold(d.state, d.client().first + 1, -1)
    unhold(d.state, 1 << 40, -1)
    assert d.state.wants == {}


def test_a_hold_without_a_value_is_seen(desk: Desk, graph_of: Callable[..., Any]) -> None:
    d = desk()
    task = d.submit(d.client(), graph_of([()]))
    hold(d.state, task, -5)
    with pytest.raises(InvariantError, match="are held"):
        check(d.state)
