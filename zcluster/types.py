"""Small types and facts that every layer may know."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import NamedTuple, TypeAlias

__all__ = [
    "TASK_BITS",
    "Buffer",
    "Frames",
    "Key",
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


class RunningTask(NamedTuple):
    """What code inside a task may know about where it runs."""

    task: int
    worker: str
    scheduler: str

    def away(self) -> AbstractContextManager[None]:
        """Return a block in which the task holds no slot."""
        return nullcontext()


#: Set by a worker while a task runs; read by the client's ``get_client``.
running_task: ContextVar[RunningTask | None] = ContextVar("running_task", default=None)


def waiting() -> AbstractContextManager[None]:
    """Return a block in which a task that runs here may wait for other tasks.

    It holds no slot meanwhile, so that those it waits for can run. Outside tasks it does
    nothing.
    """
    task = running_task.get()
    return nullcontext() if task is None else task.away()
