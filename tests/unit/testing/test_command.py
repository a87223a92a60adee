"""The command: what it prints, what it returns, and how a failure is told."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from zcluster.errors import InvariantError
from zcluster.testing import Cut, Failure, Outcome, Report, command, draw_plan, live
from zcluster.testing.command import repeat_command, simulate, tell_failure
from zcluster.testing.faults import FAULT_KINDS
from zcluster.testing.running import Order


def invoke(*words: str) -> tuple[int, str]:
    """Run the command; return its status and what it printed."""
    runner = CliRunner()
    result = runner.invoke(simulate, words, standalone_mode=False)
    if result.exception is not None:
        return 2, str(result.exception)
    return result.return_value or 0, result.output


def test_a_run_says_what_it_saw() -> None:
    status, text = invoke("--schedules", "3", "--jobs", "1", "--only", "kill_worker")
    assert status == 0, text
    assert text.startswith("3 schedules, ")
    for word in ("tasks of a graph:", "faults (those that hit", "arrows of the state tables, "):
        assert word in text
    assert "schedules failed" not in text


def test_one_history_can_be_traced() -> None:
    status, text = invoke("--seed", "4", "--trace")
    assert status == 0
    assert "scheduler hears of peer" in text
    assert "a client hears" in text
    assert text.splitlines()[-1].startswith("seed 4 is fine")


@pytest.mark.parametrize("words", [("--only", "fire"), ("--without", "x")])
def test_what_is_not_known_is_refused(words: tuple[str, ...]) -> None:
    status, text = invoke("--schedules", "1", *words)
    assert status == 2
    assert "fire" in text or "'x'" in text


def test_a_failure_is_told_with_a_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill(history: Any, chance: Any, action: Any) -> bool:
        raise InvariantError(f"task {next(iter(history.model.specs))} is broken")

    monkeypatch.setitem(FAULT_KINDS, "kill_worker", kill)
    plan = draw_plan(3, "kill_worker")
    failure = live(plan).failure
    assert failure is not None
    tell_failure(plan, failure, "kill_worker", Cut())
    text = capsys.readouterr().out
    assert "seed 3 failed at" in text
    assert f"again: {repeat_command(3, 'kill_worker', Cut())}" in text
    assert f"the story of task {failure.tasks[0]}:" in text
    assert "submit of" in text


def test_a_run_may_stop_at_its_first_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []

    def run(order: Order, on_outcome: object) -> Report:
        orders.append(order)
        report = Report()
        failure = Failure("InvariantError", "task 7 waits\nfor ever", [7], "process", 1.5)
        report.add(Outcome(3, failure=failure))
        return report

    monkeypatch.setattr(command, "run", run)
    status, text = invoke("--schedules", "9", "--first", "--no-shrink")
    assert status == 1
    assert orders[0].is_first_enough
    assert "seed 3 failed at 1.5000 s: InvariantError: task 7 waits\n" in text
    assert "again:" not in text
