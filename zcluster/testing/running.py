"""Many histories, one after the other or in several processes.

A process of its own (`zcluster.testing.child`) lives through every so many-th seed and prints a
line for each, and one with its coverage at the end; `run` starts some and reads what they print. So
a history that never ends is noticed, and named by its seed.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import msgspec

from zcluster.testing.coverage import Coverage
from zcluster.testing.histories import Failure, Outcome, live
from zcluster.testing.plans import draw_plan
from zcluster.testing.report import Report

__all__ = ["Order", "outcomes", "run", "simulate"]

#: A history that takes longer than this is taken to be without end.
_PATIENCE = 120.0
#: What each process runs.
_CHILD = ("-m", "zcluster.testing.child")


@dataclass(frozen=True)
class Order:
    """Which histories to live through.

    Attributes
    ----------
    first : int
        The first seed; others follow it.
    schedules : int or None
        How many; None: until the time is over.
    seconds : float or None
    jobs : int
        Processes.
    only : str or None
        The one kind of fault.
    is_first_enough : bool
        Whether to stop at the first failure.
    """

    first: int = 0
    schedules: int | None = 100
    seconds: float | None = None
    jobs: int = 1
    only: str | None = None
    is_first_enough: bool = False


def outcomes(order: Order, coverage: Coverage, step: int = 1) -> Iterator[Outcome]:
    """Live through histories in this process.

    Examples
    --------
    >>> [outcome.seed for outcome in outcomes(Order(3, schedules=2), Coverage())]
    [3, 4]
    """
    end = None if order.seconds is None else time.monotonic() + order.seconds
    seed = order.first
    last = None if order.schedules is None else seed + order.schedules * step
    while (last is None or seed < last) and (end is None or time.monotonic() < end):
        yield live(draw_plan(seed, order.only), coverage)
        seed += step


def simulate(
    schedules: int = 100, *, seed: int = 0, only: str | None = None, jobs: int = 0
) -> Report:
    """Live through some histories; return what they saw, failures included.

    Parameters
    ----------
    schedules : int
        How many.
    seed : int
        The first one.
    only : str, optional
        The one kind of fault, of `zcluster.testing.FAULTS`.
    jobs : int
        Processes to do it in; 0 is this one.

    Examples
    --------
    >>> report = simulate(3, only="kill_worker")
    >>> report.schedules, report.failures
    (3, [])
    """
    order = Order(seed, schedules, jobs=jobs, only=only)
    if jobs:
        return run(order)
    report = Report()
    for outcome in outcomes(order, report.coverage):
        report.add(outcome)
    return report


def run(order: Order, on_outcome: Callable[[Report], None] | None = None) -> Report:
    """Live through histories in processes of their own; return what they saw.

    Parameters
    ----------
    order : Order
    on_outcome : callable, optional
        Called after each with the report so far.
    """
    report = Report()
    children = [_Child(order, number) for number in range(order.jobs)]
    try:
        with selectors.DefaultSelector() as selector:
            for child in children:
                selector.register(child.output, selectors.EVENT_READ, child)
            while selector.get_map():
                if order.is_first_enough and report.failures:
                    break
                for key, _ in selector.select(1.0):
                    if not key.data.read(report):
                        selector.unregister(key.fileobj)
                    elif on_outcome is not None:
                        on_outcome(report)
                for child in children:
                    if child.is_stuck:
                        selector.unregister(child.output)
                        child.give_up(report)
    finally:
        for child in children:
            child.close()
    report.failures.sort(key=lambda outcome: outcome.seed)
    return report


class _Child:
    """A process that lives through its share of the histories."""

    def __init__(self, order: Order, number: int) -> None:
        count = -1
        if order.schedules is not None:
            count = len(range(number, order.schedules, order.jobs))
        words = [order.first + number, order.jobs, count, order.seconds or -1, order.only or ""]
        self._process = subprocess.Popen(
            [sys.executable, *_CHILD, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self._seed, self._step = order.first + number, order.jobs
        self._rest = b""
        self._heard = time.monotonic()
        self._is_done = False

    @property
    def output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def is_stuck(self) -> bool:
        return not self._is_done and time.monotonic() - self._heard > _PATIENCE

    def read(self, report: Report) -> bool:
        """Take in what it printed; False once that is all."""
        data = os.read(self.output.fileno(), 1 << 16)
        if not data:
            if not self._is_done:
                status = self._process.wait()
                self._fail(report, "Ended", f"its process ended with status {status}")
            return False
        self._heard = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"O"):
                report.add(msgspec.json.decode(line[1:], type=Outcome))
                self._seed += self._step
            elif line.startswith(b"C"):
                report.coverage.add(Coverage.from_plain(msgspec.json.decode(line[1:])))
                self._is_done = True
        return True

    def give_up(self, report: Report) -> None:
        """End it: its history does not."""
        self._process.kill()
        self._fail(report, "Endless", f"it has not ended for {_PATIENCE:g} s")

    def _fail(self, report: Report, kind: str, text: str) -> None:
        self._is_done = True
        report.add(Outcome(self._seed, failure=Failure(kind, text, [], "process", 0.0)))

    def close(self) -> None:
        """End it, and leave nothing behind."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self.output.close()
