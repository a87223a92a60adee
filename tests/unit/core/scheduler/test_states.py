"""The table of transitions and the code say the same."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.scheduler.pages import Page
from zcluster.core.scheduler.states import TRANSITIONS, UNFINISHED, State

#: Arrows whose code goes by way of a third state, within one event, and arrivals.
BY_WAY_OF = {
    (State.FORGOTTEN, State.WAITING),
    (State.FORGOTTEN, State.READY),
    (State.ASSIGNED, State.READY),
    (State.FINISHED, State.WAITING),
    (State.RELEASED, State.READY),
}
#: Too rare for a few histories; `test_results` takes each of them.
RARE = {
    (State.READY, State.FAILED),
    (State.READY, State.CANCELLED),
    (State.READY, State.FINISHED),
    (State.AHEAD, State.CANCELLED),
    (State.AHEAD, State.FINISHED),
    (State.ASSIGNED, State.CANCELLED),
}


class Watched(bytearray):
    """A column of states that notes every change."""

    seen: set[tuple[State, State]]

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, int) and self[index] != value:
            self.seen.add((State(self[index]), State(value)))
        super().__setitem__(index, value)


def test_histories_take_all_arrows_and_no_others(
    history: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[State, State]] = set()
    original = Page.__init__

    def watched_init(page: Page, start: int) -> None:
        original(page, start)
        page.state = Watched()
        page.state.seen = seen

    monkeypatch.setattr(Page, "__init__", watched_init)
    for seed in range(40):
        one = history(seed, check=False)
        if seed % 4 == 0:
            one.failing, one.rates["retry"] = 0.2, 1
        one.run(actions=12)
    arrows = {(before, after) for (before, _), after in TRANSITIONS.items()}
    assert seen <= arrows
    assert arrows - seen <= BY_WAY_OF | RARE


def test_every_state_is_reached_and_can_be_left() -> None:
    assert set(TRANSITIONS.values()) == set(State)
    assert {before for before, _ in TRANSITIONS} == set(State)
    assert all(before not in UNFINISHED for before, _ in TRANSITIONS if before > State.ASSIGNED)
