"""Tasks about tasks: what code inside a task does with a client of its cluster.

A task may submit tasks and wait for them. While it waits it holds no slot, without
being asked: a worker of one slot runs any recursion. `secede` does the same for other
kinds of waiting, of which zcluster knows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zcluster.client.client import Client, get_client
from zcluster.config import Time
from zcluster.errors import InvalidArgument
from zcluster.types import RunningTask, running_task

__all__ = ["rejoin", "secede", "worker_client"]


def _current(name: str) -> RunningTask:
    task = running_task.get()
    if task is None:
        raise InvalidArgument(
            f"{name} was called outside of a task; expected a call in a function that runs on a "
            "worker, in the thread in which it was begun"
        )
    return task


def secede() -> None:
    """Let another task run in this task's slot, while this one waits for something.

    Waiting for futures does that by itself; this is for long waits for other things.

    Raises
    ------
    InvalidArgument
        Outside of a task.

    Examples
    --------
    >>> def polite(path):                                       # doctest: +SKIP
    ...     secede()
    ...     wait_for_file(path)
    ...     rejoin()
    ...     return open(path).read()
    """
    _current("secede()").leave()


def rejoin() -> None:
    """Take a slot again after `secede`; at once, if need be beside another task.

    Raises
    ------
    InvalidArgument
        Outside of a task.
    """
    _current("rejoin()").come_back()


@contextmanager
def worker_client(timeout: Time = 30.0, separate_thread: bool = True) -> Iterator[Client]:
    """Give a task a client of its own cluster; the task holds no slot in this block.

    Parameters
    ----------
    timeout : float, str or timedelta
        Seconds to wait for the scheduler.
    separate_thread : bool
        Whether to give up the slot.

    Raises
    ------
    InvalidArgument
        Outside of a task.

    Examples
    --------
    >>> def fibonacci(n):                                       # doctest: +SKIP
    ...     if n < 2:
    ...         return n
    ...     with worker_client() as client:
    ...         return sum(client.gather(client.map(fibonacci, [n - 1, n - 2])))
    """
    task = _current("worker_client()")
    client = get_client(timeout=timeout)
    if separate_thread:
        task.leave()
    try:
        yield client
    finally:
        if separate_thread:
            task.come_back()
