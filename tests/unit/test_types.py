"""A task is its client and its number in one integer."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from zcluster.types import (
    TASK_BITS,
    RunningTask,
    client_of,
    first_task,
    number_of,
    running_task,
)


@given(st.integers(0, 2**23 - 1), st.integers(0, 2**TASK_BITS - 1))
def test_client_and_number_come_out_of_a_task(client: int, number: int) -> None:
    task = first_task(client) + number
    assert (client_of(task), number_of(task)) == (client, number)
    assert task < 2**63  # it fits the columns of int64


def test_a_client_s_tasks_end_where_the_next_client_s_begin() -> None:
    last = first_task(4) - 1
    assert (client_of(last), number_of(last)) == (3, 2**TASK_BITS - 1)
    assert (client_of(last + 1), number_of(last + 1)) == (4, 0)


def test_a_running_task_is_known_in_its_own_thread_only() -> None:
    assert running_task.get() is None
    token = running_task.set(RunningTask(7, "node-0", "ipc:///tmp/x"))
    try:
        assert running_task.get() == (7, "node-0", "ipc:///tmp/x")
        seen: list[RunningTask | None] = []
        thread = threading.Thread(target=lambda: seen.append(running_task.get()))
        thread.start()
        thread.join(5)
        assert seen == [None]
    finally:
        running_task.reset(token)
    assert running_task.get() is None
