"""Windows in which a thread may be interrupted, and who looks for them."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from queue import SimpleQueue
from typing import Any

import pytest

from zcluster.client.gates import Deadline, Gate
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_SINGLE
from zcluster.protocol.messages import Done, ErrorInfo, Failed, Run, Skipped
from zcluster.protocol.objects import load, plan
from zcluster.servers.batches import Batch
from zcluster.servers.functions import Functions
from zcluster.servers.interrupts import Interrupted, Interrupts, Window
from zcluster.servers.outbox import Outbox
from zcluster.servers.slot_pool import SlotPool
from zcluster.servers.slots import Slot, Tools
from zcluster.servers.status import StatusPage
from zcluster.servers.values import Values
from zcluster.storage.slabs import SlabReader
from zcluster.types import waiting


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


def test_code_of_ours_comes_to_its_end() -> None:
    turn, inside = threading.Event(), threading.Event()

    def waits(window: Window) -> None:
        inside.set()
        Gate().wait(Deadline(0.2))  # without leaving a slot: as if it worked
        turn.set()
        spin(window)

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

    def stop(self, task: int) -> bool:
        self.refusals -= 1
        return self.refusals < 0


def test_a_task_is_tried_until_it_can_be_interrupted() -> None:
    clock, slot = Clock(), Found(100)
    interrupts = Interrupts(lambda task: slot, clock.later)
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


# --- slots


class Rig:
    """A slot, and what it says; nobody gives it room in a store."""

    def __init__(self) -> None:
        self.page = StatusPage.create(1)
        values = Values(SlabReader(), None)
        self.outbox = Outbox(values.returns, lambda: None)
        self.ended: SimpleQueue[BaseException | None] = SimpleQueue()
        self.batches: SimpleQueue[Batch | None] = SimpleQueue()
        self.pool = SlotPool(1, self.page.lines, lambda _: Slot(0, self.tools), self.batches)
        self.tools = Tools(
            node="n",
            worker="w",
            scheduler="ipc:///s",
            values=values,
            functions=Functions("w"),
            outbox=self.outbox,
            status=self.page,
            batches=self.batches,
            pool=self.pool,
            on_end=self.ended.put,
            grant_timeout=1000,
        )
        self.slot = Slot(0, self.tools)
        self.done: dict[int, Any] = {}
        self.failed: dict[int, ErrorInfo] = {}
        self.skipped: list[int] = []

    def put(self, calls: dict[int, tuple[Callable[..., Any], Any]]) -> None:
        """Queue a batch of calls of one argument each, by task."""
        digests = []
        for function, _ in calls.values():
            digest, data = pack_callable(function)
            self.tools.functions.put(digest, data)
            digests.append(digest)
        blobs = [plan(argument).tobytes() for _, argument in calls.values()]
        run = Run(
            functions=[],
            runs=[(digest, CALL_SINGLE, 1) for digest in digests],
            tasks=list(calls),
            arities=[0] * len(calls),
            inputs=[],
            groups=[],
            offsets=list(accumulate(map(len, blobs), initial=0)),
            ranges=[],
            inline=[],
            uses=[0] * len(calls),
            report=[1] * len(calls),
        )
        self.batches.put(Batch(run, [b"".join(blobs)], self.tools.values.returns))

    def finish(self) -> None:
        """Wait until all is done, and take what was said."""
        assert self.slot.join(30)
        for message, frames in self.outbox.drain():
            if isinstance(message, Done):
                ends = list(accumulate(message.lengths, initial=0))
                for at, task in enumerate(message.tasks):
                    self.done[task] = load(frames[0][ends[at] : ends[at + 1]])
            elif isinstance(message, Failed):
                self.failed |= {info.origin: info for info in message.errors}
            elif isinstance(message, Skipped):
                self.skipped += message.tasks


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.tools.values.close()
    made.page.close()


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Have the interpreter go from thread to thread at nearly any step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def _turn(count: int) -> int:
    total = 0
    for number in range(count):
        total += number
    return total


def _turn_and_raise(count: int) -> int:
    raise ValueError(_turn(count))


def _turn_and_swallow(count: int) -> int:
    try:
        return _turn(count)
    except BaseException:
        return -1


@pytest.mark.usefixtures("quick_switches")
def test_an_interrupt_ends_the_task_it_is_meant_for_and_no_other(rig: Rig) -> None:
    kinds = [_turn, _turn_and_raise, _turn_and_swallow]
    calls = {task: (kinds[task % 3], 50 * (task % 7)) for task in range(1, 2001)}
    for start in range(1, 2001, 500):
        rig.put({task: calls[task] for task in range(start, start + 500)})
    rig.batches.put(None)
    rig.slot.start()
    hit: set[int] = set()
    chance = random.Random(7)
    pause = 0.0
    while not rig.slot.join(pause):
        pause = chance.choice((0, 0, 0, 1e-5, 1e-4))
        for _ in range(chance.randrange(200)):  # at any place of the loop
            task = rig.slot.task
        if task >= 0 and rig.slot.window.interrupt(task):
            hit.add(task)
    rig.finish()
    assert rig.ended.get() is None
    assert len(hit) >= 3  # twenty and more, even where much else runs
    assert sorted(rig.skipped) == sorted(hit)
    raising = {task for task, (function, _) in calls.items() if function is _turn_and_raise}
    assert rig.done.keys() == calls.keys() - raising - hit
    assert rig.failed.keys() == raising - hit
    assert {info.type_name for info in rig.failed.values()} == {"builtins.ValueError"}
    assert all(value == _turn(50 * (task % 7)) for task, value in rig.done.items())


#: What `_do` does: it is pickled by reference, so that it is the test's own.
_hooks: dict[str, Callable[[], object]] = {}


def _do(_: object = None) -> object:
    return _hooks["task"]()


def test_an_interrupted_task_leaves_nothing_and_the_rest_of_its_batch_runs(rig: Rig) -> None:
    began = threading.Event()

    def endless() -> None:
        began.set()
        while True:
            time.sleep(0.001)

    _hooks["task"] = endless
    rig.put({1: (_do, None), 2: (abs, -2)})
    rig.batches.put(None)
    rig.slot.start()
    assert began.wait(30)
    assert rig.slot.stop(1)
    assert rig.slot.stop(1)  # it is under way already
    rig.finish()
    assert (rig.skipped, rig.done, rig.failed) == ([1], {2: 2}, {})
    assert rig.page.slot(0).task is None


def test_a_task_that_waits_for_others_is_woken_to_be_interrupted(rig: Rig) -> None:
    left = threading.Event()
    gate = threading.Lock()
    gate.acquire()

    def waits() -> None:
        with waiting(gate.release):
            left.set()
            gate.acquire()
            _turn(1000)

    _hooks["task"] = waits
    rig.put({1: (_do, None)})
    rig.slot.start()
    assert left.wait(30)
    while not rig.slot.stop(1):
        time.sleep(0.001)
    rig.batches.put(None)
    rig.batches.put(None)  # for the thread that stood in
    assert rig.ended.get(timeout=30) is rig.ended.get(timeout=30) is None
    rig.finish()
    assert rig.skipped == [1]
    # As many threads as before may work: the task has come back, if not by itself.
    assert rig.pool._active == 1


def test_a_task_that_waits_for_room_fails_instead(rig: Rig) -> None:
    asked = threading.Event()
    rig.outbox.wake = asked.set  # and nobody answers
    rig.put({1: (bytes, 10**6)})
    rig.batches.put(None)
    rig.slot.start()
    assert asked.wait(30)
    while not rig.slot.join(0.001):
        assert not rig.slot.stop(1)
    rig.finish()
    assert "the task is to stop" in rig.failed[1].message


class _Tried:
    """Looks, when it is pickled and when it is loaded, whether its task can be interrupted."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return _loaded, (_do(), self.value)


def _loaded(_: object, value: Any) -> Any:
    _do()
    return value


def test_results_are_taken_whole(rig: Rig) -> None:
    tries: list[bool] = []
    _hooks["task"] = lambda: tries.append(rig.slot.window.interrupt(1))
    rig.put({1: (_Tried, 3)})
    rig.batches.put(None)
    rig.slot.start()
    rig.finish()
    assert len(tries) == 2  # once here, where it is loaded
    assert not any(tries)
    assert rig.done == {1: 3}
