"""Small types and facts that every layer may know."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeAlias

__all__ = [
    "TASK_BITS",
    "Buffer",
    "Frames",
    "Key",
    "Reschedule",
    "RunningTask",
    "client_of",
    "first_task",
    "number_of",
    "running_task",
    "waiting",
]

#: The low bits of a task that are its number; the bits above are its client.
TASK_BITS = 40
_NUMBER = (1 << TASK_BITS) - 1

#: The name of a task and of its result, as users see it.
Key: TypeAlias = Hashable

#: What a payload frame may be.
Buffer: TypeAlias = bytes | bytearray | memoryview
Frames: TypeAlias = Sequence[Buffer]


def first_task(client: int) -> int:
    """Return the first task a client may number."""
    return client << TASK_BITS


def client_of(task: int) -> int:
    """Return the index of the client that numbered a task."""
    return task >> TASK_BITS


def number_of(task: int) -> int:
    """Return a task's number at its client."""
    return task & _NUMBER


class Reschedule(Exception):
    """Raised by a task that wants to run again later, perhaps elsewhere; no retry is counted."""


class RunningTask(NamedTuple):
    """What code inside a task may know about where it runs."""

    task: int
    worker: str
    scheduler: str

    def leave(self, wake: Callable[[], None] | None = None) -> None:
        """Hold no slot from now on, so that others may run meanwhile.

        ``wake`` ends the wait that follows, if the task is to stop.
        """

    def come_back(self) -> None:
        """Hold a slot again; each `leave` needs one."""


#: Set by a worker while a task runs; read by the client's ``get_client``.
running_task: ContextVar[RunningTask | None] = ContextVar("running_task", default=None)


@contextmanager
def waiting(wake: Callable[[], None] | None = None) -> Iterator[None]:
    """Wait for other tasks in this block, from within a task or not.

    A task holds no slot meanwhile, so that those it waits for can run. ``wake`` ends the
    wait, from any thread, if the task is to stop.
    """
    task = running_task.get()
    if task is None:
        yield
        return
    task.leave(wake)
    try:
        yield
    finally:
        task.come_back()
