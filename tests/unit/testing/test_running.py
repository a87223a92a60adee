"""Histories in processes of their own: all of them, once, and nothing left behind."""

from __future__ import annotations

import pytest

from zcluster.testing import running
from zcluster.testing.coverage import Coverage
from zcluster.testing.report import Report
from zcluster.testing.running import Order, outcomes, run, simulate


def test_processes_see_what_one_process_sees() -> None:
    seen: list[int] = []
    report = run(Order(50, schedules=3, jobs=2), lambda so_far: seen.append(so_far.schedules))
    alone = simulate(3, seed=50)
    assert (report.schedules, report.counted, report.events) == (
        alone.schedules,
        alone.counted,
        alone.events,
    )
    assert report.coverage.arrows == alone.coverage.arrows
    assert report.coverage.pairs == alone.coverage.pairs
    assert report.failures == []
    assert seen


def test_a_run_ends_when_its_time_is_over() -> None:
    assert 1 <= len([*outcomes(Order(0, schedules=None, seconds=0.01), Coverage())]) < 1000


def test_a_process_that_ends_early_is_a_failure_of_the_next_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = Order(7, schedules=2, jobs=1, only="fire")  # refused by the child
    report = run(order)
    (outcome,) = report.failures
    assert outcome.seed == 7
    assert outcome.failure is not None
    assert "status 1" in outcome.failure.text


def test_a_history_without_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_PATIENCE", 0.5)
    monkeypatch.setattr(running, "_CHILD", ("-c", "import time; time.sleep(600)"))
    report: Report = run(Order(9, schedules=1, jobs=1))
    (outcome,) = report.failures
    assert (outcome.seed, outcome.failure and outcome.failure.kind) == (9, "Endless")
