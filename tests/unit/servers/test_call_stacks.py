"""The frames of running tasks, found by the slots whose calls they are in."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from zcluster.servers.call_stacks import call_stacks
from zcluster.servers.slots import Slot


class Waiting(Slot):
    """A slot that is in the middle of a task: its batch waits when it is asked for tasks."""

    def __init__(self, worker: str, task: int) -> None:
        self._tools: Any = SimpleNamespace(worker=worker)
        self._task = task

    @property
    def task(self) -> int:
        return self._task


def test_tasks_are_told_by_worker_with_their_own_frames() -> None:
    gate, entered = threading.Event(), threading.Semaphore(0)

    class Batch:
        @property
        def tasks(self) -> Any:
            entered.release()
            gate.wait(10)
            raise RuntimeError("over")

    def run(slot: Slot) -> None:
        try:
            Slot.run_tasks(slot, Batch())  # type: ignore[arg-type]
        except (RuntimeError, AttributeError):
            return

    slots = [Waiting("one", 7), Waiting("two", 8), Waiting("one", -1)]
    for slot in slots:
        slot._tools.outbox = slot._tools.status = SimpleNamespace(cells=[])
        slot.number = 0
    threads = [threading.Thread(target=run, args=(slot,)) for slot in slots]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert entered.acquire(timeout=10)
    try:
        found = call_stacks("one")
        assert list(found) == [7]  # -1 is no task
        text = "\n".join(found[7])
        assert "gate.wait(10)" in text
        assert "slots.py" not in text
        assert text.index("gate.wait(10)") < text.index("threading.py")
        assert list(call_stacks("two")) == [8]
        assert call_stacks("three") == {}
    finally:
        gate.set()
        for thread in threads:
            thread.join(10)
