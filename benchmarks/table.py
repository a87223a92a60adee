"""The table of a benchmark: medians of the rounds, ratios, bars, and whether they are met.

A row is one measure. Under it stands a line for every contestant that has it: the median, the
ratio zcluster / contestant, and the bar zcluster promises there, if any. zcluster missing from
the machine leaves a bar "not measured"; zcluster failing is a bar "missed".
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

OURS = "zcluster"
ABSENT = "not installed"
LINE = "{:<32} {:<10} {:>14} {:>9} {:>10}  {}"


@dataclass(frozen=True)
class Row:
    """How a measure is shown, and zcluster's bars: a figure, and ratios zcluster / other."""

    measure: str
    digits: int = 0
    less_is_better: bool = False
    bar: float | None = None
    ratios: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Outcome:
    """What the rounds of one contestant gave; `trouble` says why it was given up, if it was."""

    rounds: list[dict[str, float]] = field(default_factory=list)
    trouble: str = ""
    wrong: bool = False

    def median(self, measure: str) -> float | None:
        """The median of the rounds that have this measure; None where none has."""
        values = [each[measure] for each in self.rounds if measure in each]
        return statistics.median(values) if values else None


def show(rows: Sequence[Row], outcomes: Mapping[str, Outcome]) -> None:
    """Print the table, then a sentence for every contestant that was in trouble."""
    print(LINE.format("measure", "who", "median", "ratio", "bar", "").rstrip())
    for row in rows:
        lines = [_line(row, name, outcomes) for name in outcomes if _is_shown(row, name, outcomes)]
        for number, cells in enumerate(lines):
            print(LINE.format("" if number else row.measure, *cells).rstrip())
    for name, outcome in outcomes.items():
        if outcome.trouble:
            print(f"{name}: {outcome.trouble}")
    print(f"ratio: {OURS} / who; load average of the last minute {os.getloadavg()[0]:.1f}")


def _bar(row: Row, name: str) -> float | None:
    return row.bar if name == OURS else row.ratios.get(name)


def _is_shown(row: Row, name: str, outcomes: Mapping[str, Outcome]) -> bool:
    """A contestant without a figure has a line only where a bar was to be compared with it."""
    outcome = outcomes[name]
    if outcome.median(row.measure) is not None:
        return True
    return bool(outcome.trouble) and _bar(row, name) is not None


def _line(row: Row, name: str, outcomes: Mapping[str, Outcome]) -> tuple[str, ...]:
    """The cells after the first: who, median, ratio, bar, verdict."""
    ours = outcomes.get(OURS, Outcome(trouble=ABSENT))
    our_median, median = ours.median(row.measure), outcomes[name].median(row.measure)
    ratio = our_median / median if name != OURS and our_median is not None and median else None
    shown = outcomes[name].trouble.split(":")[0] if median is None else f"{median:,.{row.digits}f}"
    bar = _bar(row, name)
    if bar is None:
        return name, shown, _times(ratio), "", ""
    sign = "<=" if row.less_is_better else ">="
    text = f"{sign} {bar:,g}" if name == OURS else f"{sign} {bar:,g}x"
    return name, shown, _times(ratio), text, _verdict(row, bar, our_median, ratio, name, ours)


def _times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


def _verdict(
    row: Row, bar: float, median: float | None, ratio: float | None, name: str, ours: Outcome
) -> str:
    if ours.trouble and not ours.trouble.startswith(ABSENT):
        return "missed"
    reached = median if name == OURS else ratio
    if reached is None:
        return "not measured"
    return "met" if (reached <= bar if row.less_is_better else reached >= bar) else "missed"
