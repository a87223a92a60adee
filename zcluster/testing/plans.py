"""What happens in a history, drawn from its seed before anything happens.

A `Plan` is a list of timed actions, and each action has a number and a seed of its own. So an
action can be left out, or made smaller, and the others stay what they are: that is how a failing
history is made short. Which nodes and clients an action is about is decided when it happens, by
its own seed, among those that are there.

Actions are of two sorts: what people do (`WORK`), and what goes wrong (`FAULTS`). Most histories
have few kinds of faults, so that each kind also meets an otherwise healthy cluster.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from zcluster.errors import InvalidArgument
from zcluster.testing.workloads import Mix, draw_size

__all__ = ["FAULTS", "WORK", "Action", "Cut", "Plan", "draw_plan"]

#: What people do, and how often among each other.
WORK: Mapping[str, float] = {
    "submit": 1.0,
    "release": 0.7,
    "cancel": 0.3,
    "cancel_force": 0.2,
    "want": 0.3,
    "retry": 0.3,
    "scatter": 0.4,
    "join": 0.3,
    "copies": 0.2,
    "recall": 0.3,
    "restart": 0.1,
    "retire": 0.15,
    "retire_workers": 0.2,
    "call": 0.2,
    "share": 0.3,
    "close_client": 0.1,
    "new_client": 0.2,
}

#: What goes wrong.
FAULTS = (
    "kill_worker",
    "lose_node",
    "restart_node",
    "freeze_node",
    "freeze_scheduler",
    "freeze_client",
    "cut_node",
    "cut_client",
    "drop_connection",
    "slow_link",
    "lose_client",
    "fail_fetches",
    "fill_store",
    "spoil_disk",
    "press_memory",
    "pause_workers",
)

#: What `Cut` is made of: a number, a range, or a number and a size.
_WORD = re.compile(r"([0-9]+)(?:-([0-9]+)|:([0-9]+))?")
_GRAPHS = (3, 300)
#: The fewest and the most actions besides those that begin a history.
_ACTIONS = (4, 12)
_FEWEST_FAULTS = 3
#: How likely it is that nothing happens for some seconds before an action.
_BREAK = 0.03
#: How many of the faults are to hit a submission: after it is under way, and while it runs.
_AIMED = 0.8
_UNDER_WAY, _WORKING = 0.003, 0.005
_CLIENTS = 4
_NODES = 5


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that happens.

    Attributes
    ----------
    number : int
        Its name: what is left out is told by numbers.
    at : float
        Virtual seconds after the start.
    kind : str
        One of `WORK` or `FAULTS`, ``node`` or ``client``.
    seed : int
        Decides everything about it.
    size : int
        Tasks of a submission; 0 for all other actions.
    """

    number: int
    at: float
    kind: str
    seed: int
    size: int = 0

    @property
    def is_fault(self) -> bool:
        return self.kind in FAULTS

    def __str__(self) -> str:
        size = f" of {self.size} tasks" if self.size else ""
        return f"{self.number:3d}  {self.at:9.4f} s  {self.kind}{size}"


@dataclass(frozen=True)
class Cut:
    """What is left out of a plan, and what is smaller than drawn.

    It is written as text on the command line: numbers, ranges of them, and ``number:size``.

    Examples
    --------
    >>> cut = Cut(frozenset({1, 2, 3, 7}), {5: 4})
    >>> str(cut), Cut.parse("1-3,7,5:4") == cut
    ('1-3,7,5:4', True)
    """

    without: frozenset[int] = frozenset()
    sizes: Mapping[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        runs: list[list[int]] = []
        for number in sorted(self.without):
            if runs and runs[-1][1] == number - 1:
                runs[-1][1] = number
            else:
                runs.append([number, number])
        words = [f"{first}-{last}" if last > first else str(first) for first, last in runs]
        return ",".join([*words, *(f"{n}:{size}" for n, size in sorted(self.sizes.items()))])

    @classmethod
    def parse(cls, text: str) -> Cut:
        """Read what `str` wrote.

        Raises
        ------
        InvalidArgument
            If it is something else.
        """
        without: set[int] = set()
        sizes: dict[int, int] = {}
        for word in filter(None, text.split(",")):
            found = _WORD.fullmatch(word)
            if found is None:
                raise InvalidArgument(
                    f"{word!r} names no actions of a history; expected numbers, ranges, or "
                    "number:size, as in 1-3,7,5:4, as a failing run printed them"
                )
            first, last, size = found.groups()
            if size is not None:
                sizes[int(first)] = int(size)
            else:
                without.update(range(int(first), int(last or first) + 1))
        return cls(frozenset(without), sizes)


@dataclass(frozen=True)
class Plan:
    """One history before it happens.

    Attributes
    ----------
    seed : int
    actions : tuple of Action
        In the order of their times.
    settings : dict
        Of the scheduler.
    mix : Mix
        What its graphs are like.
    blocking : float
        How often a task waits for others while it runs.
    """

    seed: int
    actions: tuple[Action, ...]
    settings: dict[str, Any]
    mix: Mix
    blocking: float = 0.0

    def after(self, cut: Cut) -> Plan:
        """Return the plan without some of its actions, and with some smaller."""
        actions = tuple(
            replace(action, size=min(action.size, cut.sizes.get(action.number, action.size)))
            for action in self.actions
            if action.number not in cut.without
        )
        return replace(self, actions=actions)

    def count(self, kinds: Iterable[str]) -> int:
        """Return how many actions are of some kinds."""
        chosen = set(kinds)
        return sum(action.kind in chosen for action in self.actions)


def draw_plan(seed: int, only: str | None = None) -> Plan:
    """Draw the plan of a seed.

    Parameters
    ----------
    seed : int
    only : str, optional
        The one kind of fault it may have.

    Raises
    ------
    InvalidArgument
        If there is no such kind.

    Examples
    --------
    >>> draw_plan(7) == draw_plan(7)
    True
    >>> {a.kind for a in draw_plan(7, only="cut_node").actions if a.is_fault}
    {'cut_node'}
    """
    if only is not None and only not in FAULTS:
        raise InvalidArgument(f"no fault is called {only!r}; there are {', '.join(FAULTS)}")
    chance = random.Random(seed)
    settings = {
        "client_credit": chance.choice((0, 30, 1 << 20)),
        "inline_bytes": chance.choice((0, 30, 1 << 20)),
        "batch": chance.choice((2, 512)),
        "window": chance.choice((1e-4, 0.04)),
    }
    mix = Mix.draw(chance)
    blocking = chance.choice((0.0, 0.0, 0.1))
    kinds = [*_members(chance), (0.0, "submit"), *_happenings(chance, only)]
    actions = []
    most = _GRAPHS[1]
    for number, (at, kind) in enumerate(sorted(kinds, key=lambda item: item[0])):
        size = 0
        if kind == "submit":
            size = draw_size(chance, _GRAPHS[0], most)
            # One large graph is enough for most histories.
            most = draw_size(chance, 4, _GRAPHS[1] // 4)
        actions.append(Action(number, at, kind, chance.getrandbits(32), size))
    return Plan(seed, tuple(actions), settings, mix, blocking)


def _members(chance: random.Random) -> list[tuple[float, str]]:
    clients = chance.choice((1, 1, 2, 2, 3, _CLIENTS))
    nodes = chance.choice((1, 2, 2, 3, 3, 4, _NODES))
    return [(-1.0, "client")] * clients + [(-1.0, "node")] * nodes


def _happenings(chance: random.Random, only: str | None) -> list[tuple[float, str]]:
    """Draw when what happens."""
    rates = {kind: rate for kind, rate in WORK.items() if chance.random() < 0.5}
    rates.setdefault("submit", 1.0)
    faults = {kind: chance.choice((0.3, 1.0, 3.0)) for kind in FAULTS if chance.random() < 0.2}
    if only is not None:
        faults = {only: 3.0}
    elif not faults:
        faults = {chance.choice(FAULTS): 1.0}
    # As much goes wrong as is done, whatever was drawn.
    share = sum(rates.values()) / sum(faults.values())
    rates.update({kind: rate * share for kind, rate in faults.items()})
    count = draw_size(chance, *_ACTIONS)
    pace = chance.choice((0.002, 0.02, 0.2))
    kinds = list(rates)
    drawn: list[tuple[float, str]] = []
    now = 0.0
    for _ in range(count):
        now += chance.expovariate(1 / pace)
        if chance.random() < _BREAK:
            now += chance.uniform(1.0, 12.0)
        drawn.append((now, chance.choices(kinds, [rates[kind] for kind in kinds])[0]))
    while sum(kind in faults for _, kind in drawn) < _FEWEST_FAULTS:
        drawn.append((now, chance.choice(list(faults))))
    return _aimed(chance, drawn)


def _aimed(chance: random.Random, drawn: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Have most faults happen soon after a submission: most graphs are done within moments."""
    starts = [0.0, *(at for at, kind in drawn if kind == "submit")]
    return [
        (chance.choice(starts) + _UNDER_WAY + chance.expovariate(1 / _WORKING), kind)
        if kind in FAULTS and chance.random() < _AIMED
        else (at, kind)
        for at, kind in drawn
    ]
