"""A failing history is made short, and still fails in the same way."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.errors import InvariantError
from zcluster.testing import draw_plan, live, shrink
from zcluster.testing.faults import FAULT_KINDS
from zcluster.testing.histories import Failure


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second worker that is killed is one too many."""

    def kill(history: Any, chance: Any, action: Any) -> bool:
        if history.faults["kill_worker"] >= 1:
            raise InvariantError("task 12 is broken; so it goes")
        return True

    monkeypatch.setitem(FAULT_KINDS, "kill_worker", kill)


@pytest.mark.usefixtures("broken")
def test_two_actions_are_left_of_many() -> None:
    seed = next(s for s in range(50) if draw_plan(s, "kill_worker").count(["kill_worker"]) > 3)
    plan = draw_plan(seed, "kill_worker")
    failure = live(plan).failure
    assert failure is not None
    assert failure.tasks == [12]
    told: list[str] = []
    cut, shorter = shrink(plan, failure, 60.0, told.append)
    assert shorter.signature == failure.signature
    assert [action.kind for action in plan.after(cut).actions] == ["kill_worker"] * 2
    assert live(plan.after(cut)).failure == shorter
    assert told


def test_signatures_leave_out_numbers_and_values() -> None:
    one = Failure("E", "task 12 gave b'abc', expected b'x'", [12], "f.py:f", 1.0)
    two = Failure("E", "task 7 gave b'd', expected b'longer'", [7], "f.py:f", 2.0)
    other = Failure("E", "task 7 waits", [7], "f.py:f", 2.0)
    assert one.signature == two.signature != other.signature
