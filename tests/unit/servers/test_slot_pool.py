"""As many threads as there are slots, whoever waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from zcluster.servers.slot_pool import SlotPool


class FakeSlot:
    """A thread that calls what it finds in the queue, and ends at None."""

    def __init__(self, number: int, pool: Callable[[], SlotPool], queue: SimpleQueue[Any]) -> None:
        self._number, self._pool, self._queue = number, pool, queue
        self._thread = threading.Thread(target=self._main, name=f"slot-{number}")

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        while (call := self._queue.get()) is not None:
            call()
            if self._pool().is_surplus():
                break
        self._pool().ended(self._number)


def make(slots: int, lines: int) -> tuple[SlotPool, SimpleQueue[Any]]:
    queue: SimpleQueue[Any] = SimpleQueue()
    pool: SlotPool = SlotPool(slots, lines, lambda n: FakeSlot(n, lambda: pool, queue), queue)  # type: ignore[arg-type,return-value]
    pool.start()
    return pool, queue


def test_a_thread_stands_in_while_a_task_waits_and_ends_after() -> None:
    pool, queue = make(1, 10)
    go, seen = threading.Event(), threading.Event()

    def waits() -> None:
        pool.leave()
        go.wait(30)
        pool.come_back()

    queue.put(waits)
    queue.put(seen.set)
    assert seen.wait(30)  # by another thread: the first one waits
    assert pool.alive == 2
    go.set()
    done = threading.Event()
    while pool.alive == 2:
        queue.put(done.set)  # whoever is free sees that there is one too many
        assert done.wait(30)
    assert pool.alive == 1
    pool.stop()
    pool.join(30)
    assert pool.alive == 0


def test_there_are_never_more_threads_than_lines() -> None:
    pool, queue = make(1, 2)
    go = threading.Event()
    left: SimpleQueue[int] = SimpleQueue()

    def waits() -> None:
        pool.leave()
        left.put(1)
        go.wait(30)
        pool.come_back()

    for _ in range(3):
        queue.put(waits)
    for _ in range(2):
        left.get(timeout=30)
    assert pool.alive == 2
    go.set()
    left.get(timeout=30)
    pool.stop()
    pool.join(30)
    assert pool.alive == 0
