"""What a history is permitted to give: the model beside the thing.

A task's result is a hash of its callable, its constant and its inputs, so there is one right
answer, and this file knows it. It also knows what may end a task without an answer: it raises, it
takes its workers down, it was cancelled, it came too late, or something it needs did one of these.
Whatever else a client is told is wrong.

What a call does is said by its constant: ``fail`` raises, ``flaky<n>`` raises the first n times,
``kill<n>`` takes its worker down the first n times, ``held`` gives what cannot be pickled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from zcluster.errors import InvariantError
from zcluster.protocol.messages import ErrorInfo
from zcluster.testing.fakes import part_of, result_of

__all__ = ["KILLS", "Model", "Spec"]

#: Workers a task may take down before it fails.
KILLS = 3

#: Seconds that a client may be away in all, and is surely not given up for gone.
_GRACE = 8.0

#: What a client says of its futures when its session is over.
_OF_ABSENCE = frozenset({"scheduler", "closed"})


@dataclass
class Spec:
    """What a task should give.

    Attributes
    ----------
    inputs : list
        (task, part or None) each.
    alias : int or None
        The task whose result it stands for.
    data : bytes or None
        What was put into a store as its result.
    key : str or None
        Under which equal calls of all clients are one task.
    limited, once, actor : bool
        Whether it has a time limit, runs at most once, or makes an actor.
    """

    name: bytes
    constant: bytes = b""
    inputs: list[Any] = field(default_factory=list)
    alias: int | None = None
    data: bytes | None = None
    retries: int = 0
    key: str | None = None
    limited: bool = False
    once: bool = False
    actor: bool = False

    @property
    def word(self) -> bytes:
        """What it does, if that is out of the ordinary."""
        return self.constant.split(b" ")[0]


class Model:
    """All tasks of a history, what happened to them, and what follows from it.

    Examples
    --------
    >>> model = Model()
    >>> model.add(7, Spec(b"", data=b"right"))
    >>> model.judge(7, b"right")
    >>> model.judge(7, b"wrong")
    Traceback (most recent call last):
    ...
    zcluster.errors.InvariantError: task 7 gave b'wrong', expected b'right' [Z020]
    """

    def __init__(self) -> None:
        self.specs: dict[int, Spec] = {}
        #: Tasks that may end without a result, for what somebody did to them.
        self.cancelled: set[int] = set()
        #: Tasks that clients want which did not submit them: they may come too late.
        self.adopted: set[int] = set()
        #: Clients (their indices) that are gone, and the data they put into stores with them.
        self.gone: set[int] = set()
        #: How often each task ran to its end, and how often its worker ended under it.
        self.tries: Counter[int] = Counter()
        self.deaths: Counter[int] = Counter()
        #: Tasks under each shared key: what happens to one happens to all.
        self.sharers: dict[str, list[int]] = {}
        #: Every (task, attempt) that began, with where.
        self.begun: dict[tuple[int, int], str] = {}
        self.starts: Counter[int] = Counter()
        #: Whether anything was lost from which a task that runs once cannot come back.
        self.had_losses = False
        #: Tasks for whose results or inputs some node had no room, or data that none would take.
        self.refused: set[int] = set()
        #: Those that were to run again, and take an actor.
        self.after_actors: set[int] = set()
        #: Clients that may have been given up for gone, and for how long each was away.
        self.missed: set[int] = set()
        self._away: dict[int, float] = {}
        #: Whether a node's data port may have been silent for as long as clients wait for it.
        self.had_silent_ports = False
        self._values: dict[int, Any] = {}

    def add(self, task: int, spec: Spec) -> None:
        """Note what a task should give."""
        self.specs[task] = spec
        if spec.key is not None:
            self.sharers.setdefault(spec.key, []).append(task)

    # --------------------------------------------------------------------- runs

    def began(self, task: int, attempt: int, place: str, is_alias: bool = False) -> None:
        """Note that a worker began an attempt; an alias only hands on what another task gave.

        Raises
        ------
        InvariantError
            If it began before.
        """
        before = self.begun.get((task, attempt))
        if before is not None:
            raise InvariantError(
                f"task {task} began at {place} in attempt {attempt}, which began at {before} before"
            )
        self.begun[task, attempt] = place
        if is_alias:
            return
        self.starts[task] += 1
        spec = self.specs.get(task)
        if spec is not None and spec.once and self.starts[task] > 1:
            raise InvariantError(
                f"task {task} may run at most once and began {self.starts[task]} times, "
                f"now at {place}"
            )

    def note_refused(self, task: int, node: Any) -> None:
        """Note that a node has no room for what a task makes or takes.

        Raises
        ------
        InvariantError
            If it should have.
        """
        if not node.store.is_tight:
            raise InvariantError(
                f"task {task} failed for want of room at node {node.name}, which has "
                f"{node.store.used} of {node.store.limit} bytes in use, and a disk: "
                f"{node.store.has_disk}"
            )
        self.refused.add(task)

    def note_away(self, clients: Iterable[int], seconds: float) -> None:
        """Note that clients (their indices) cannot be heard for some time."""
        for client in clients:
            self._away[client] = self._away.get(client, 0.0) + seconds
            if self._away[client] > _GRACE:
                self.missed.add(client)
                self.gone.add(client)

    def may_be_missed(self, client: Any) -> bool:
        """Whether the scheduler may have given a client up for gone."""
        return client.index in self.missed

    def retried(self, tasks: Iterable[int]) -> None:
        """Note that somebody asked for failed tasks to run again, and for what they failed of."""
        stack = list(tasks)
        seen: set[int] = set()
        while stack:
            task = stack.pop()
            if task not in seen:
                seen.add(task)
                # Who asks twice before it began again may have it run twice.
                self.starts[task] = min(0, self.starts[task] - 1)
                sources = list(self.sources(task))
                stack.extend(sources)
                if any(source in self.specs and self.specs[source].actor for source in sources):
                    # Nobody may hold the actor any more by now, and it is not made again.
                    self.after_actors.add(task)
                spec = self.specs.get(task)
                if spec is not None and spec.key is not None:
                    # Under a shared key one of them runs, and the others hand on what it gave.
                    stack.extend(self.sharers[spec.key])

    def died(self, tasks: Iterable[int]) -> None:
        """Note that a worker ended while it ran these."""
        self.deaths.update(tasks)
        self.had_losses = True

    def check_blamed(self, kills: dict[int, int]) -> None:
        """Check that tasks are blamed for no more ends of workers than there were under them.

        Raises
        ------
        InvariantError
            If one is.
        """
        for task, count in kills.items():
            if count > self.deaths[task]:
                raise InvariantError(
                    f"task {task} is blamed for {count} ends of workers; it was running in "
                    f"{self.deaths[task]} of them"
                )

    # ------------------------------------------------------------------- values

    def value(self, task: int) -> Any:
        """Return what a task should give: bytes, or a word that says why it cannot."""
        values = self._values
        stack = [task]
        while stack:
            at = stack[-1]
            if at in values:
                stack.pop()
                continue
            open_inputs = [source for source in self.sources(at) if source not in values]
            if open_inputs:
                stack.extend(open_inputs)
                continue
            values[at] = self._value(self.specs[at])
            stack.pop()
        return values[task]

    def sources(self, task: int) -> Iterator[int]:
        """Yield the tasks a task takes something of."""
        spec = self.specs[task]
        if spec.alias is not None:
            yield spec.alias
        for item in spec.inputs:
            yield item[0]

    def _value(self, spec: Spec) -> Any:
        if spec.data is not None:
            return spec.data
        if spec.alias is not None:
            value = self._values[spec.alias]
            return "input" if isinstance(value, str) else value
        values = []
        for task, part in spec.inputs:
            value = self._values[task]
            if isinstance(value, str):
                return "input"
            values.append(value if part is None else part_of(value, part))
        word = spec.word
        if word == b"fail":
            return "task"
        if word.startswith(b"kill") and int(word[4:] or 1000) >= KILLS:
            return "killed"
        return result_of(spec.name, spec.constant, values)

    # ----------------------------------------------------------------- judgement

    def may_fail(self, task: int) -> bool:
        """Whether a task may end without a result, for what happened to it or what it needs."""
        seen: set[int] = set()
        stack = [task]
        while stack:
            at = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            spec = self.specs[at]
            if at in self.cancelled or at in self.adopted or self._may_end_by_itself(at, spec):
                return True
            stack.extend(self.sources(at))
            if spec.key is not None:
                stack.extend(self.sharers[spec.key])
        return False

    def _may_end_by_itself(self, task: int, spec: Spec) -> bool:
        if self.deaths[task] >= KILLS or spec.limited or task in self.refused:
            return True
        # A client that waits in vain for a node's data port says that it has it no more.
        if (spec.once or spec.actor) and (self.had_losses or self.had_silent_ports):
            return True
        if spec.data is not None and task >> 40 in self.gone:
            return True
        word = spec.word
        # It may raise too often, unless a failure was lost on its way.
        return word.startswith(b"flaky") and int(word[5:]) > spec.retries

    def judge(self, task: int, outcome: Any) -> None:
        """Check an outcome that a client was told of: bytes, or what says why there are none.

        Raises
        ------
        InvariantError
            If it is neither the right one nor permitted.
        """
        expected = self.value(task)
        if isinstance(outcome, bytes):
            if outcome != expected:
                raise InvariantError(f"task {task} gave {outcome!r}, expected {expected!r}")
            return
        info = outcome if isinstance(outcome, ErrorInfo) else getattr(outcome, "info", None)
        kind = info.kind if info is not None else getattr(outcome, "kind", "cancelled")
        fits = kind == expected or (kind == "lost" and task in self.adopted)
        fits = fits or (kind in _OF_ABSENCE and bool(self.missed))
        fits = fits or (kind == "input" and task in self.after_actors)
        if not fits and not self.may_fail(task):
            raise InvariantError(f"task {task} ended with {outcome!r}, expected {expected!r}")
