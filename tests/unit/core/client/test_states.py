"""The table of a wanted task's states."""

from __future__ import annotations

import pytest

from zcluster.core.client.states import FINAL, STATUS, TRANSITIONS, State, advance
from zcluster.errors import InvariantError


def test_a_future_resolves_once() -> None:
    """No arrow leaves a state in which the user was told something final."""
    assert {State.HERE, State.CANCELLED, State.LOST} == FINAL
    assert not any(state in FINAL for state, _ in TRANSITIONS)


def test_every_state_can_be_reached_from_pending() -> None:
    reached = {State.PENDING}
    before: set[State] = set()
    while reached != before:
        before = set(reached)
        reached |= {to for (state, _), to in TRANSITIONS.items() if state in before}
    assert reached == set(State)


def test_every_state_has_a_word() -> None:
    assert len(STATUS) == len(State)
    assert STATUS[State.ANNOUNCED] == STATUS[State.HERE] == "finished"
    assert STATUS[State.LOST] == "lost"


@pytest.mark.parametrize(("state", "event"), list(TRANSITIONS))
def test_advance_follows_the_table(state: State, event: str) -> None:
    assert advance(state, event, 7) is TRANSITIONS[state, event]


def test_a_missing_arrow_names_state_event_and_task() -> None:
    with pytest.raises(
        InvariantError, match=r"task 0xff is HERE at its client and cannot take 'failed'"
    ):
        advance(State.HERE, "failed", 255)
