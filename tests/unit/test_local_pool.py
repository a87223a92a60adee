"""Threads that wait for work: given, kept, ended, and forgotten in a forked process."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from zcluster.local.pool import Pool, close_pool, shared_pool

PATIENCE = 30.0


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


def test_work_goes_to_a_thread_without_any_and_else_nowhere(pool: Pool) -> None:
    out: SimpleQueue[int] = SimpleQueue()
    go = threading.Event()

    def work() -> None:
        out.put(threading.get_ident())
        assert go.wait(PATIENCE)

    assert pool.give(work, most=2)
    assert pool.give(work, most=2)
    first = {out.get(timeout=PATIENCE), out.get(timeout=PATIENCE)}
    assert len(first) == 2
    assert not pool.give(work, most=2)
    go.set()
    while not pool.give(work, most=2):
        pass  # until one of them is back
    assert out.get(timeout=PATIENCE) in first
    assert len(pool) == 2


def test_a_thread_that_works_while_the_pool_is_closed_ends_after_that(pool: Pool) -> None:
    started, go = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        started.set()
        assert go.wait(PATIENCE)

    pool.give(work, most=1)
    assert started.wait(PATIENCE)
    pool.close()
    assert not pool.give(work, most=1)
    go.set()
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive()


def test_where_no_thread_can_be_started_there_is_none(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert not pool.give(lambda: None, most=1)
    assert len(pool) == 0


def test_the_shared_pool_is_made_again_after_it_was_closed() -> None:
    first = shared_pool()
    assert shared_pool() is first
    close_pool()
    close_pool()
    assert shared_pool() is not first
    close_pool()


def test_a_forked_process_has_a_pool_of_its_own_and_the_program_ends() -> None:
    code = """
import os
from zcluster.delayed import delayed
from zcluster.collection.compute import compute

def total():
    return sum(compute(*[delayed(len)(range(i)) for i in range(50)], num_workers=4))

assert total() == 1225
child = os.fork()
if not child:
    assert total() == 1225
    print("child", flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("parent")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stdout.split() == ["child", "parent"]
    assert done.stderr == ""


def test_the_end_of_the_program_does_not_wait_for_a_task_that_was_left_behind() -> None:
    code = """
import threading
from zcluster.local import ThreadsRunner, get_with

meet = threading.Barrier(2)
never = threading.Event()
main = threading.get_ident()

def task():
    meet.wait()
    if threading.get_ident() == main:
        raise KeyboardInterrupt
    never.wait()

import __main__
__main__.task.__module__ = "test_it"
import sys; sys.modules["test_it"] = __main__
try:
    get_with(ThreadsRunner(), {"x": (task,), "y": (task,)}, ["x", "y"], num_workers=2)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout.split() == ["interrupted"]
