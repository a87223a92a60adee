"""How user threads wait for the loop thread."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from zcluster.client import gates
from zcluster.client.gates import (
    CallWhenSettled,
    Countdown,
    Deadline,
    Gate,
    LoopCountdown,
    LoopGate,
    in_event_loop,
    in_thread,
    running_loop,
)
from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State
from zcluster.errors import InvalidArgument

NOW = Deadline(0.0)
LATER = Deadline(5.0)


def make_record(state: State = State.HERE) -> Wanted:
    record = Wanted(1, "f", None)
    record.state = state
    return record


def test_a_gate_is_closed_until_it_is_opened() -> None:
    gate = Gate()
    assert not gate.wait(NOW)
    gate.open()
    gate.open()
    assert gate.wait(NOW)


def test_a_gate_lets_another_thread_go_on() -> None:
    gate = Gate()
    thread = threading.Thread(target=gate.open)
    thread.start()
    assert gate.wait(LATER)
    thread.join()


def test_a_deadline_counts_down_to_zero_or_never() -> None:
    assert Deadline(None).left is None
    assert Deadline(-1).left == 0.0
    left = Deadline(5.0).left
    assert left is not None
    assert 4.0 < left <= 5.0
    assert Deadline("2 min").seconds == 120.0
    with pytest.raises(InvalidArgument, match="'soon' where a time is expected"):
        Deadline("soon")


def test_a_deadline_far_away_is_no_error() -> None:
    gate = Gate()
    gate.open()
    assert gate.wait(Deadline(1e300))


def test_a_countdown_opens_at_zero() -> None:
    countdown = Countdown()
    countdown.left = 2
    countdown.settle(make_record())
    assert not countdown.wait(NOW)
    countdown.settle(make_record(State.ERROR))
    assert countdown.wait(NOW)


@pytest.mark.parametrize("state", [State.ERROR, State.CANCELLED, State.LOST])
def test_a_countdown_can_stop_at_the_first_failure(state: State) -> None:
    countdown = Countdown(stop_at_failure=True)
    countdown.left = 3
    countdown.settle(make_record(State.ANNOUNCED))
    assert not countdown.wait(NOW)
    countdown.settle(make_record(state))
    assert countdown.wait(NOW)


def test_a_call_gets_the_record() -> None:
    seen: list[Wanted] = []
    record = make_record()
    CallWhenSettled(seen.append).settle(record)
    assert seen == [record]


def test_a_wait_ends_near_its_deadline() -> None:
    began = time.monotonic()
    assert not Gate().wait(Deadline(0.02))
    assert 0.015 < time.monotonic() - began < 2.0


def test_an_event_loop_is_seen_in_its_own_thread_alone() -> None:
    async def look() -> tuple[bool, bool]:
        assert running_loop() is asyncio.get_running_loop()
        return in_event_loop(), await asyncio.to_thread(in_event_loop)

    assert not in_event_loop()
    assert asyncio.run(look()) == (True, False)


def test_a_coroutine_waits_at_a_gate_that_any_thread_opens() -> None:
    async def wait(deadline: Deadline) -> bool:
        gate = LoopGate()
        thread = threading.Thread(target=gate.open)
        thread.start()
        assert await gate.wait(deadline)
        thread.join()
        gate.open()
        return await gate.wait(deadline)

    assert asyncio.run(wait(Deadline(None)))
    assert asyncio.run(wait(LATER))
    assert asyncio.run(wait(Deadline(1e300)))


def test_a_coroutine_gives_up_in_time() -> None:
    async def wait() -> bool:
        return await LoopGate().wait(Deadline(0.01))

    assert not asyncio.run(wait())


def test_opening_a_gate_whose_loop_is_gone_is_no_error() -> None:
    async def make() -> LoopGate:
        return LoopGate()

    asyncio.run(make()).open()


def test_a_coroutine_waits_for_a_countdown() -> None:
    async def wait(stop_at_failure: bool, state: State) -> bool:
        countdown = LoopCountdown(stop_at_failure)
        countdown.left = 2
        countdown.settle(make_record(state))
        return await countdown.wait_in_loop(Deadline(0.01))

    assert not asyncio.run(wait(False, State.ERROR))
    assert not asyncio.run(wait(True, State.HERE))
    assert asyncio.run(wait(True, State.ERROR))


def test_daemons_go_no_further_when_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread ends, without a word; a coroutine stays where it is, and its loop goes on."""
    monkeypatch.setattr(gates, "_is_exiting", True)
    seen: list[object] = []

    def wait() -> None:
        gate = Gate()
        gate.open()
        with pytest.raises(SystemExit):  # which ends a thread, and is not shown
            gate.wait(LATER)
        seen.append("left")

    async def wait_in_loop() -> None:
        gate = LoopGate()
        gate.open()
        await gate.wait(LATER)
        seen.append("the coroutine went on")

    async def look() -> None:
        _, waiting = await asyncio.wait([asyncio.create_task(wait_in_loop())], timeout=0.05)
        seen.append(len(waiting))

    for target in (wait, lambda: asyncio.run(look())):
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
    assert seen == ["left", 1]


def test_a_loop_without_threads_gets_one() -> None:
    """As when the interpreter has begun to end."""

    def fail() -> None:
        raise KeyError("x")

    async def call() -> int:
        await running_loop().shutdown_default_executor()
        with pytest.raises(KeyError):
            await in_thread(fail)
        made: int = await in_thread(abs, -1)
        return made

    assert asyncio.run(call()) == 1
