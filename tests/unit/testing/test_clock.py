"""Pretend time, and processes in it."""

from __future__ import annotations

import random

from zcluster.testing.clock import Clock, Process


class Told:
    """A process and what it did, when."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.did: list[str] = []
        self.process = Process(self.clock, random.Random(1), lambda: self.did.append("idle"))

    def do(self, what: str) -> None:
        self.did.append(what)

    def run(self, seconds: float) -> list[str]:
        end = self.clock.now + seconds
        while self.clock.next_time is not None and self.clock.next_time <= end:
            self.clock.step()
        self.clock.now = end
        did, self.did = self.did, []
        return did


def test_what_is_for_the_same_time_happens_in_order() -> None:
    clock = Clock()
    seen: list[int] = []
    for number in range(5):
        clock.at(1.0, seen.append, number)
    clock.at(0.5, seen.append, 9)
    while clock.step():
        pass
    assert seen == [9, 0, 1, 2, 3, 4]
    assert (clock.now, clock.events, clock.next_time) == (1.0, 6, None)


def test_a_round_takes_what_arrived_then_timers_then_the_rest() -> None:
    told = Told()
    told.process.call_later(0.0, told.do, "timer")
    told.process.deliver(told.do, "one")
    told.process.deliver(told.do, "two")
    assert told.run(1.0) == ["one", "two", "timer", "idle"]


def test_what_a_frozen_process_missed_comes_all_at_once_and_input_comes_first() -> None:
    told = Told()
    told.process.is_frozen = True
    told.process.call_later(0.1, told.do, "timer")
    assert told.run(1.0) == []
    told.process.deliver(told.do, "input")
    assert told.run(1.0) == []
    told.process.thaw()
    assert told.run(1.0) == ["input", "timer", "idle"]


def test_a_dead_process_does_nothing() -> None:
    told = Told()
    told.process.call_later(0.1, told.do, "timer")
    told.process.deliver(told.do, "input")
    told.process.is_dead = True
    assert told.run(1.0) == []


def test_a_tick_makes_no_round_of_its_own_unless_the_process_is_busy_or_frozen() -> None:
    told = Told()
    told.process.tick_later(0.1, told.do, "tick")
    assert told.run(1.0) == ["tick"]
    told.process.is_frozen = True
    told.process.tick_later(0.1, told.do, "late")
    assert told.run(1.0) == []
    told.process.thaw()
    assert told.run(1.0) == ["late", "idle"]


def test_a_burst_is_taken_in_several_rounds() -> None:
    told = Told()
    for _ in range(100):
        told.process.deliver(told.do, "input")
    did = told.run(1.0)
    assert did.count("input") == 100
    assert did.count("idle") == 2
