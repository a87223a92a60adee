"""What a run has seen: arrows of the state tables, and messages in every state of their tasks.

The cores say nothing of this themselves; `zcluster.testing.watching` looks on and counts here. A
run's report names what was never taken. What cannot happen is listed in
`zcluster.testing.impossible` with the reason: everything else that is missing is a history that
nobody has tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from zcluster.core.client.states import TRANSITIONS as CLIENT_ARROWS
from zcluster.core.client.states import State as ClientState
from zcluster.core.node.states import TRANSITIONS as NODE_ARROWS
from zcluster.core.node.states import State as NodeState
from zcluster.core.scheduler.states import TRANSITIONS as SCHEDULER_ARROWS
from zcluster.core.scheduler.states import State as SchedulerState

__all__ = ["ARROWS", "KINDS", "STATES", "UNKNOWN", "Arrow", "Coverage", "Pair", "every_pair"]

#: The state of a task that a client does not hold.
UNKNOWN = "UNKNOWN"


class Arrow(NamedTuple):
    """One way from a state to the next, of one core's table."""

    core: str
    before: str
    event: str
    after: str

    def __str__(self) -> str:
        return f"{self.core}: {self.before} to {self.after}, {self.event}"


class Pair(NamedTuple):
    """A kind of message about a task, and the task's state where it arrives."""

    core: str
    kind: str
    state: str

    def __str__(self) -> str:
        return f"{self.core}: {self.kind} about a task that is {self.state}"


def _arrows(core: str, table: Mapping[tuple[Any, str], Any]) -> list[Arrow]:
    return [Arrow(core, before.name, event, after.name) for (before, event), after in table.items()]


#: Every arrow there is.
ARROWS = (
    *_arrows("scheduler", SCHEDULER_ARROWS),
    *_arrows("node", NODE_ARROWS),
    *_arrows("client", CLIENT_ARROWS),
)

#: The kinds of messages about tasks that each core takes; ``announced`` is a `Resolved` without
#: the bytes. Where both clients and nodes say one, it is named after who does.
KINDS: Mapping[str, tuple[str, ...]] = {
    "scheduler": (
        "Release",
        "Cancel",
        "Want",
        "Retry",
        "Scattered",
        "Unreachable of a client",
        "Finished",
        "Failed",
        "Recalled",
        "Lost",
        "Blocked",
        "Copied",
        "Unreachable of a node",
    ),
    "node": (
        "Assign",
        "Free",
        "Drop",
        "Recall",
        "Copy",
        "Done",
        "Failed",
        "Skipped",
        "Reserve",
        "Recalled",
        "Blocked",
    ),
    "client": ("Resolved", "announced", "Failed", "Cancelled", "Unreachable", "Stuck"),
}


def _names(states: Iterable[IntEnum]) -> tuple[str, ...]:
    return tuple(state.name for state in states)


#: The states in which a message may find a task, by core.
STATES: Mapping[str, tuple[str, ...]] = {
    "scheduler": _names(SchedulerState),
    "node": _names(NodeState),
    "client": (UNKNOWN, *_names(ClientState)),
}


def every_pair() -> list[Pair]:
    """Return every message in every state."""
    return [
        Pair(core, kind, state)
        for core, kinds in KINDS.items()
        for kind in kinds
        for state in STATES[core]
    ]


class Coverage:
    """How often each arrow and each pair was seen.

    Examples
    --------
    >>> seen = Coverage()
    >>> seen.pairs[Pair("node", "Drop", "SENT")] += 1
    >>> again = Coverage.from_plain(seen.as_plain())
    >>> again.pairs == seen.pairs, len(again.missing_arrows()) == len(ARROWS)
    (True, True)
    """

    def __init__(self) -> None:
        self.arrows: Counter[Arrow] = Counter()
        self.pairs: Counter[Pair] = Counter()
        #: Steps that no table has.
        self.strange: Counter[Arrow] = Counter()

    def add(self, other: Coverage) -> None:
        """Add what another run has seen."""
        self.arrows.update(other.arrows)
        self.pairs.update(other.pairs)
        self.strange.update(other.strange)

    def missing_arrows(self) -> list[Arrow]:
        """Return the arrows that were never taken."""
        return [arrow for arrow in ARROWS if not self.arrows[arrow]]

    def missing_pairs(self) -> list[Pair]:
        """Return the pairs that were never seen."""
        return [pair for pair in every_pair() if not self.pairs[pair]]

    def as_plain(self) -> dict[str, list[tuple[list[str], int]]]:
        """Return this as lists of texts and numbers."""
        return {
            name: [(list(key), count) for key, count in sorted(getattr(self, name).items())]
            for name in ("arrows", "pairs", "strange")
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Iterable[tuple[list[str], int]]]) -> Coverage:
        """Return what `as_plain` wrote."""
        made = cls()
        for key, count in plain["arrows"]:
            made.arrows[Arrow(*key)] = count
        for key, count in plain["pairs"]:
            made.pairs[Pair(*key)] = count
        for key, count in plain["strange"]:
            made.strange[Arrow(*key)] = count
        return made
