"""The table of transitions at a node."""

from __future__ import annotations

from zcluster.core.node.states import TRANSITIONS, State
from zcluster.testing import simulate


def test_every_state_is_reached_and_can_be_left() -> None:
    assert set(TRANSITIONS.values()) == set(State)
    assert {before for before, _ in TRANSITIONS} == set(State)


def test_what_happens_takes_arrows_of_the_table_only() -> None:
    """Among faults of all kinds; and it takes all of them, but for what they are due to."""
    report = simulate(10, seed=40)
    assert report.failures == []
    assert report.coverage.strange == {}
    arrows = report.coverage.arrows
    seen = {(before, after) for core, before, _, after in arrows if core == "node"}
    assert seen == {(before.name, after.name) for (before, _), after in TRANSITIONS.items()}
