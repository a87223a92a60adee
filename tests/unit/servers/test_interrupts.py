"""Windows in which a thread may be interrupted, and who looks for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from zcluster.client import gates
from zcluster.client.gates import Deadline, Gate
from zcluster.servers.interrupts import Interrupted, Interrupts, Window


class Thread:
    """A thread that runs a function as a task, with its window open."""

    def __init__(self, function: Callable[[Window], Any], wake: Any = None) -> None:
        self.window = Window()
        self.ended_by: BaseException | None = None
        self._function = function
        self._wake = wake
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        while self.window.thread == 0:
            time.sleep(0.001)

    def _run(self) -> None:
        window = self.window
        try:
            window.open(1, self._wake)
            window.thread = threading.get_ident()
            self._function(window)
            window.shut()
        except BaseException as error:
            self.ended_by = error
        window.forget()

    def join(self) -> BaseException | None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.ended_by


def spin(_: Window) -> None:
    while True:
        time.sleep(0.0001)


def test_code_of_the_users_is_interrupted() -> None:
    thread = Thread(spin)
    assert not thread.window.interrupt(2)
    assert thread.window.interrupt(1)
    assert isinstance(thread.join(), Interrupted)
    assert thread.window.hits == []


def test_who_swallows_it_hears_of_it_again_when_the_window_is_shut() -> None:
    went_on = threading.Event()

    def stubborn(window: Window) -> None:
        try:
            spin(window)
        except Interrupted:
            went_on.set()

    thread = Thread(stubborn)
    assert thread.window.interrupt(1)
    assert isinstance(thread.join(), Interrupted)
    assert went_on.is_set()


def test_nothing_is_raised_after_the_window_was_shut() -> None:
    turn = threading.Event()
    seen: list[bool] = []

    def shuts(window: Window) -> None:
        window.task = -1
        turn.wait(30)
        for _ in range(1000):
            time.sleep(0)
        seen.append(True)

    thread = Thread(shuts)
    while thread.window.task >= 0:
        time.sleep(0.001)
    assert not thread.window.interrupt(1)
    turn.set()
    assert thread.join() is None
    assert seen == [True]


def test_code_of_ours_comes_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, inside = threading.Event(), threading.Event()

    def waits(window: Window) -> None:
        inside.set()
        Gate().wait(Deadline(0.2))  # without leaving a slot: as if it worked
        turn.set()
        spin(window)

    assert gates.__file__ is not None
    thread = Thread(waits)
    assert inside.wait(30)
    while not thread.window.interrupt(1):
        time.sleep(0.001)
    assert turn.is_set()
    assert isinstance(thread.join(), Interrupted)


def test_a_wait_is_ended() -> None:
    gate = Gate()
    thread = Thread(lambda window: gate.wait(Deadline(None)), gate.open)
    assert thread.window.interrupt(1)
    assert isinstance(thread.join(), Interrupted)


class Clock:
    """Calls what is due when a test says so."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        assert seconds > 0
        self.due.append(call)

    def turn(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()


class Found:
    """A slot whose window gives way at some attempt."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.window: Any = self

    def interrupt(self, task: int) -> bool:
        self.refusals -= 1
        return self.refusals < 0


def test_a_task_is_tried_until_it_can_be_interrupted() -> None:
    clock, slot = Clock(), Found(100)
    interrupts = Interrupts(lambda task: slot, clock.later)  # type: ignore[arg-type]
    interrupts.stop([1])
    interrupts.stop([2])
    turns = 0
    while clock.due:
        assert len(clock.due) == 1
        clock.turn()
        turns += 1
    assert 40 < turns < 110
    assert slot.refusals < 0


def test_a_task_that_nobody_runs_is_forgotten() -> None:
    clock = Clock()
    interrupts = Interrupts(lambda task: None, clock.later)
    interrupts.stop([1])
    for _ in range(100):
        clock.turn()
    assert clock.due == []
