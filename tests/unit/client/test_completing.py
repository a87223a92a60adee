"""Futures one by one, in the order in which they are done."""

from __future__ import annotations

import gc
import operator
import threading
import weakref
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.client.completing import as_completed
from zcluster.client.future import Future
from zcluster.client.waiting import wait


def test_as_completed_gives_each_future_once_when_it_is_done(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    slow = client.map(operator.neg, range(10))
    cluster.is_holding = True
    it = as_completed(slow)
    assert (it.count(), it.is_empty(), it.has_ready()) == (10, False, False)
    cluster.let_go()
    assert set(it) == set(slow)
    assert it.is_empty()
    assert list(it) == []


def test_as_completed_can_grow_while_it_runs(client: Client) -> None:
    it = as_completed([client.submit(operator.neg, 0)])
    seen = []
    for future in it:
        seen.append(future.result())
        if len(seen) < 5:
            it.add(client.submit(operator.neg, len(seen)))
        elif len(seen) == 5:
            it.update(client.map(operator.neg, [100, 101]))
    assert sorted(seen) == [-101, -100, -4, -3, -2, -1, 0]


def test_as_completed_gives_results(client: Client) -> None:
    futures = client.map(operator.neg, range(5))
    pairs = dict(as_completed(futures, with_results=True))
    assert [pairs[future] for future in futures] == [0, -1, -2, -3, -4]


def test_as_completed_gives_or_raises_errors(client: Client) -> None:
    bad = client.submit(operator.truediv, 1, 0)
    ((future, error),) = as_completed([bad], with_results=True, raise_errors=False)
    assert future is bad
    assert error[0] is type(error[1]) is ZeroDivisionError
    assert error[2] is error[1].__traceback__
    with pytest.raises(ZeroDivisionError):
        list(as_completed([bad], with_results=True))
    assert list(as_completed([bad])) == [bad]


def test_batches_hold_what_is_done_by_then(client: Client) -> None:
    futures = client.map(operator.neg, range(50))
    wait(futures, timeout=5)
    it = as_completed(futures)
    assert it.has_ready()
    (batch,) = list(it.batches())
    assert set(batch) == set(futures)
    assert it.next_batch() == []


def test_as_completed_is_bounded_in_time(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    it = as_completed(client.map(operator.neg, range(3)), timeout=0.02)
    with pytest.raises(TimeoutError, match=r"3 futures are not done after 0\.02 s"):
        next(it)


def test_threads_may_add_while_another_iterates(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    it = as_completed(client.map(operator.neg, [0]))
    futures = client.map(operator.neg, range(1, 101))
    found: list[int] = []
    iterating = threading.Thread(target=lambda: found.extend(f.result() for f in it))
    iterating.start()
    adding = [
        threading.Thread(target=lambda part: list(map(it.add, part)), args=(futures[n::4],))
        for n in range(4)
    ]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    cluster.let_go()
    iterating.join(5)
    assert sorted(found) == [-n for n in reversed(range(101))]
    assert it.is_empty()


def test_threads_may_iterate_together(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    it = as_completed(client.map(operator.neg, range(50)))
    found: list[int] = []

    def take() -> None:
        found.extend(future.result() for future in it)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    cluster.let_go()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(found) == [-n for n in reversed(range(50))]


def test_a_future_added_twice_is_given_twice(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    future = client.submit(operator.neg, 1)
    it = as_completed([future, future])
    it.add(future)
    assert it.count() == 3
    cluster.let_go()
    assert list(it) == [future] * 3


def test_clearing_forgets_all_and_ends_who_waits(client: Client, cluster: Any) -> None:
    it = as_completed(client.map(operator.neg, range(3)))
    first = next(it)
    cluster.is_holding = True
    slow = client.submit(operator.neg, 100)
    it.add(slow)
    it.clear()
    assert (it.count(), it.is_empty(), it.has_ready(), list(it)) == (0, True, False, [])
    assert slow._record.watchers is None
    it.add(first)
    assert list(it) == [first]
    it.add(slow)
    found: list[list[Future]] = []
    waits = threading.Thread(target=lambda: found.append(list(it)))
    waits.start()
    cluster.until(lambda: it._gates)
    it.clear()
    waits.join(5)
    assert found == [[]]


def test_a_batch_need_not_wait(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    slow = client.map(operator.neg, range(3))
    it = as_completed(slow, with_results=True)
    assert it.next_batch(block=False) == []
    cluster.let_go()
    wait(slow, 5)
    cluster.until(it.has_ready)
    assert sum(len(batch) for batch in it.batches()) == 3
    assert it.next_batch() == []


def test_an_iteration_that_was_left_holds_nothing(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    it = as_completed([client.submit(operator.neg, 1)])
    gone = weakref.ref(it)
    (record,) = it._open
    del it
    gc.collect()
    assert gone() is None
    assert record.watchers
    cluster.until(lambda: record.task in cluster.released)
    cluster.let_go()
