"""The report of a run: numbers that add up, and what was never seen."""

from __future__ import annotations

from zcluster.testing.coverage import ARROWS, Arrow
from zcluster.testing.histories import Failure, Outcome
from zcluster.testing.report import Report


def test_outcomes_add_up() -> None:
    report = Report()
    report.add(Outcome(1, True, [3, 40], 1, 2, {"cut_node": 2}, {"cut_node": 1}, 10, 1.5))
    report.add(Outcome(2, False, [300], 4, 5, failure=Failure("E", "t", [], "p", 0.0)))
    lines = "\n".join(report.lines(4.0))
    assert lines.startswith("2 schedules, 1 of them with a fault while tasks ran (50 %), 0.5 a")
    assert "10 events in 2 virtual seconds" in lines
    assert report.sizes["tasks of a graph"] == {2: 1, 32: 1, 256: 1}
    assert report.sizes["faults"] == {2: 1, 0: 1}
    assert [outcome.seed for outcome in report.failures] == [2]
    (cut,) = [line for line in lines.splitlines() if "cut_node" in line]
    assert cut.split() == ["cut_node", "2", "(1)"]


def test_what_was_never_seen_is_named() -> None:
    report = Report()
    report.coverage.arrows.update(ARROWS[1:])
    report.coverage.strange[Arrow("node", "SENT", "Free", "SENT")] = 7
    lines = list(report.coverage_lines())
    assert f"  never: {ARROWS[0]}" in lines
    assert f"  never: {ARROWS[1]}" not in lines
    assert "  not in the table, and taken 7 times: node: SENT to SENT, Free" in lines
