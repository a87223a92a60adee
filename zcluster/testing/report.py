"""What a run of many histories says in the end: how many, how large, what they saw, what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from zcluster.testing.coverage import ARROWS, Arrow, Coverage, Pair, every_pair
from zcluster.testing.histories import Outcome
from zcluster.testing.impossible import (
    IMPOSSIBLE_ARROWS,
    IMPOSSIBLE_PAIRS,
    RARE_ARROWS,
    RARE_PAIRS,
)
from zcluster.testing.plans import FAULTS

__all__ = ["Report", "bucket"]

_SIZES = ("tasks of a graph", "tasks of a history", "nodes", "clients", "faults")
_BAR = 24


def bucket(value: int) -> int:
    """Return the smallest value of the logarithmic bucket a value is in.

    Examples
    --------
    >>> [bucket(value) for value in (0, 1, 2, 3, 5, 300)]
    [0, 1, 2, 2, 4, 256]
    """
    return 1 << (value.bit_length() - 1) if value > 0 else 0


class Report:
    """What a run has seen so far.

    Examples
    --------
    >>> report = Report()
    >>> report.add(Outcome(1, counts=True, graphs=[7], nodes=2, faults={"cut_node": 1}))
    >>> print(report.headline(2.0))
    1 schedules, 1 of them with a fault while tasks ran (100 %), 0.5 a second
    """

    def __init__(self) -> None:
        self.schedules = 0
        self.counted = 0
        self.events = 0
        self.seconds = 0.0
        self.sizes: dict[str, Counter[int]] = {name: Counter() for name in _SIZES}
        self.faults: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.failures: list[Outcome] = []
        self.coverage = Coverage()

    def add(self, outcome: Outcome) -> None:
        """Take in how one history went."""
        self.schedules += 1
        self.counted += outcome.counts
        self.events += outcome.events
        self.seconds += outcome.seconds
        self.faults.update(outcome.faults)
        self.hits.update(outcome.hits)
        sizes = self.sizes
        sizes["tasks of a graph"].update(map(bucket, outcome.graphs))
        sizes["tasks of a history"][bucket(sum(outcome.graphs))] += 1
        sizes["nodes"][outcome.nodes] += 1
        sizes["clients"][outcome.clients] += 1
        sizes["faults"][bucket(sum(outcome.faults.values()))] += 1
        if outcome.failure is not None:
            self.failures.append(outcome)

    def headline(self, wall: float) -> str:
        """Return the run in one line."""
        share = 100 * self.counted / max(1, self.schedules)
        return (
            f"{self.schedules} schedules, {self.counted} of them with a fault while tasks ran "
            f"({share:.0f} %), {self.schedules / max(wall, 1e-9):.1f} a second"
        )

    def lines(self, wall: float) -> Iterator[str]:
        """Yield the whole report, without the failures."""
        yield self.headline(wall)
        yield f"{self.events} events in {self.seconds:.0f} virtual seconds, {wall:.1f} s of ours"
        for name, counts in self.sizes.items():
            yield ""
            yield f"{name}:"
            yield from _histogram(counts)
        yield ""
        yield "faults (those that hit running work):"
        for kind in FAULTS:
            yield f"  {kind:<18} {self.faults[kind]:7d}  ({self.hits[kind]})"
        yield ""
        yield from self.coverage_lines()

    def coverage_lines(self) -> Iterator[str]:
        """Yield what was never seen, apart from what cannot be or takes a coincidence."""
        seen = self.coverage
        arrows = [arrow for arrow in seen.missing_arrows() if arrow not in IMPOSSIBLE_ARROWS]
        pairs = [pair for pair in seen.missing_pairs() if pair not in IMPOSSIBLE_PAIRS]
        never: list[Arrow | Pair] = [
            *(arrow for arrow in arrows if arrow not in RARE_ARROWS),
            *(pair for pair in pairs if pair not in RARE_PAIRS),
        ]
        impossible = len(IMPOSSIBLE_ARROWS) + len(IMPOSSIBLE_PAIRS)
        yield (
            f"{len(ARROWS) - len(seen.missing_arrows())} of {len(ARROWS)} arrows of the state "
            f"tables, {len(every_pair()) - len(seen.missing_pairs())} of {len(every_pair())} pairs "
            f"of a message and a state; {impossible} impossible, "
            f"{len(arrows) + len(pairs) - len(never)} rare ones missed, {len(never)} never seen"
        )
        yield from (f"  never: {missing}" for missing in never)
        yield from (
            f"  declared impossible, and seen: {pair}"
            for pair in IMPOSSIBLE_PAIRS
            if seen.pairs[pair]
        )
        yield from (
            f"  not in the table, and taken {count} times: {step}"
            for step, count in sorted(seen.strange.items())
        )


def _histogram(counts: Counter[int]) -> Iterator[str]:
    most = max(counts.values(), default=1)
    for value, count in sorted(counts.items()):
        bar = "#" * round(_BAR * count / most)
        yield f"  {value:6d} {count:7d} {bar}"
