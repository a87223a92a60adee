"""Processes beside the scheduler, from the scheduler's side: answers, limits, ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from zcluster.protocol.messages import Called
from zcluster.protocol.objects import load, plan
from zcluster.servers import aside as module
from zcluster.servers.aside import HEAD, Aside
from zcluster.transport.loop import Loop

pytestmark = pytest.mark.processes


class Rig:
    def __init__(self, seconds: float = 30.0) -> None:
        self.loop = Loop()
        self.done: list[tuple[Called, list[bytes]]] = []
        self.aside = Aside(self.loop, lambda *answer: self.done.append(answer), seconds)

    def start(self, number: int, function: Any, *args: Any) -> None:
        self.aside.start(number, [plan((function, args, {})).tobytes()])

    def wait(self, count: int) -> list[tuple[Called, list[bytes]]]:
        deadline = time.monotonic() + 20
        while len(self.done) < count:
            assert time.monotonic() < deadline
            self.loop.run_once()
        return self.done


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.aside.close()
    made.loop.close()


def children() -> list[psutil.Process]:
    return psutil.Process().children()


def test_answers_come_under_their_numbers(rig: Rig) -> None:
    """More than run at a time: the others wait for their turn."""
    for number in range(6):
        rig.start(number, pow, number, 2)
    assert len(children()) <= module._MOST
    answers = {called.request: load(frames[0]) for called, frames in rig.wait(6)}
    assert answers == {number: number**2 for number in range(6)}
    assert children() == []


def test_a_process_that_ends_is_an_answer(rig: Rig) -> None:
    rig.start(1, os._exit, 3)
    ((called, _),) = rig.wait(1)
    assert called.error is not None
    assert called.error.kind == "killed"
    assert "ended during the call" in called.error.message


def test_a_call_gets_so_long_and_no_longer() -> None:
    rig = Rig(seconds=0.5)
    try:
        rig.start(1, time.sleep, 1000)
        ((called, _),) = rig.wait(1)
        assert called.error is not None
        assert "took more than 0.5 s" in called.error.message
        assert children() == []
    finally:
        rig.aside.close()
        rig.loop.close()


def test_the_end_of_the_scheduler_ends_calls(rig: Rig) -> None:
    rig.start(1, time.sleep, 1000)
    (child,) = children()
    rig.aside.close()
    assert not child.is_running()
    assert rig.done == []


def test_nonsense_is_an_answer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in (
        (HEAD.pack(3, 1) + b"\xc1\xc1\xc1x", "nonsense"),
        (HEAD.pack(0, 1 << 40), "gave 1099511627776 bytes"),
    ):
        rig.done.clear()
        monkeypatch.setattr(module, "_MODULE", "zcluster_test_nothing_such")
        rig.aside.start(1, [b""])
        (running,) = rig.aside._running
        running.data += text
        rig.aside._read(running)
        ((called, _),) = rig.wait(1)
        assert called.error is not None
        assert expected in called.error.message


def test_a_system_without_processes_is_an_answer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    rig.start(1, abs, 1)
    ((called, _),) = rig.wait(1)
    assert called.error is not None
    assert "refused a process" in called.error.message
