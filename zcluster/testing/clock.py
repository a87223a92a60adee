"""Pretend time: a heap of what will happen, and processes that can be paused and killed in it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

__all__ = ["UNTOUCHED", "Clock", "Process"]

#: The most messages that one round of a process's loop takes in.
_BURST = 64
#: How long a message may wait for the loop to look.
_ROUND = 2e-4
#: What a call in a process's loop returns after which nothing needs to be done.
UNTOUCHED = object()


class Clock:
    """What will happen, and when.

    Examples
    --------
    >>> clock = Clock()
    >>> clock.after(2.0, print, "second")
    >>> clock.after(1.0, print, "first")
    >>> while clock.step():
    ...     pass
    first
    second
    >>> clock.now
    2.0
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, time: float, call: Callable[..., Any], *args: Any) -> None:
        """Make a call at a time; what is for the same time happens in the order given."""
        self._count += 1
        heappush(self._heap, (time if time > self.now else self.now, self._count, call, args))

    def after(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        """Make a call after some seconds."""
        self._count += 1
        heappush(self._heap, (self.now + seconds, self._count, call, args))

    @property
    def events(self) -> int:
        """Calls made so far."""
        return self._count - len(self._heap)

    @property
    def next_time(self) -> float | None:
        """When the next call is due."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> bool:
        """Make the next call; False if there is none."""
        if not self._heap:
            return False
        self.now, _, call, args = heappop(self._heap)
        call(*args)
        return True

    def run(self, end: float) -> bool:
        """Make all calls that are due by ``end``; return whether there are later ones."""
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, call, args = heappop(heap)
            call(*args)
        self.now = max(self.now, end)
        return bool(heap)


class Process:
    """A process with a loop: it takes what arrived, then its timers, then what follows of both.

    While it is frozen what arrives gathers, and timers are late. When it is dead nothing happens.
    Where all calls of a round return `UNTOUCHED` nothing follows of them.

    Parameters
    ----------
    clock : Clock
    chance : random.Random
    on_idle : callable
        Called at the end of each round of the loop.
    """

    def __init__(self, clock: Clock, chance: random.Random, on_idle: Callable[[], None]) -> None:
        self.is_frozen = False
        self.is_dead = False
        self._clock = clock
        self._random = chance.random
        self._on_idle = on_idle
        self._inbox: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._due: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._is_awake = False

    def deliver(self, call: Callable[..., Any], *args: Any) -> None:
        """Have something that arrives now taken in."""
        if not self.is_dead:
            self._inbox.append((call, args))
            if not self._is_awake:
                self.wake()

    def call_later(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        """Set a timer."""
        self._clock.after(seconds, self._fire, call, args)

    def tick_later(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        """Set a timer after which, for itself, nothing else is to be done in the round."""
        self._clock.after(seconds, self._tick, call, args)

    def _tick(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self.is_frozen or self._is_awake:
            self._fire(call, args)
        elif not self.is_dead:
            call(*args)

    def _fire(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if not self.is_dead:
            self._due.append((call, args))
            self.wake()

    def wake(self) -> None:
        """Have the loop make a round."""
        if not self._is_awake and not self.is_frozen:
            self._is_awake = True
            self._clock.after(self._random() * _ROUND, self._round)

    def thaw(self) -> None:
        """Go on after having been frozen."""
        self.is_frozen = False
        self.wake()

    def _is_over(self) -> bool:
        return self.is_dead

    def _round(self) -> None:
        self._is_awake = False
        if self.is_frozen or self.is_dead:
            return
        inbox, due = self._inbox, self._due
        count = min(len(inbox), _BURST)
        is_touched = not (count or due)
        if due:
            self._due = []
        for _ in range(count):
            call, args = inbox.popleft()
            if call(*args) is not UNTOUCHED:
                is_touched = True
            if self._is_over():
                return
        for call, args in due:
            if call(*args) is not UNTOUCHED:
                is_touched = True
            if self._is_over():
                return
        if is_touched:
            self._on_idle()
        if inbox:
            self.wake()
