"""The table of transitions makes sense; that the code obeys it is seen by simulation.

`tests/unit/testing/test_histories` has histories that take its arrows and no others.
"""

from __future__ import annotations

from zcluster.core.scheduler.states import TRANSITIONS, UNFINISHED, State


def test_every_state_is_reached_and_can_be_left() -> None:
    assert set(TRANSITIONS.values()) == set(State)
    assert {before for before, _ in TRANSITIONS} == set(State)
    assert all(before not in UNFINISHED for before, _ in TRANSITIONS if before > State.ASSIGNED)
