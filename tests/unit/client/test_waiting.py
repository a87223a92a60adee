"""Waiting for several futures."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.client.waiting import FIRST_COMPLETED, as_completed, futures_in, wait
from zcluster.errors import InvalidArgument


def test_futures_are_found_in_containers_in_order(client: Client) -> None:
    a, b, c, d = client.map(operator.neg, range(4))
    assert futures_in([a, (b, {"k": c})], iter([d])) == [a, b, c, d]
    assert futures_in() == []
    with pytest.raises(InvalidArgument, match="found int 5 among futures"):
        futures_in([a, 5])
    with pytest.raises(InvalidArgument, match="found str"):
        futures_in("abc")


def test_waiting_for_all(client: Client) -> None:
    futures = client.map(operator.neg, range(20))
    bad = client.submit(operator.truediv, 1, 0)
    done, not_done = wait([*futures, bad], timeout=5)
    assert done == {*futures, bad}
    assert not_done == set()
    assert wait([]) == (set(), set())


def test_waiting_for_the_first(client: Client, cluster: Any) -> None:
    done = client.submit(operator.neg, 1)
    assert done.result(5) == -1
    cluster.is_holding = True
    slow = client.submit(operator.neg, 2)
    assert wait([slow, done], return_when=FIRST_COMPLETED) == ({done}, {slow})
    with pytest.raises(TimeoutError, match="0 of 1 futures were done"):
        wait(slow, 0.01, FIRST_COMPLETED)
    assert slow._record.watchers is None
    cluster.let_go()
    assert wait(slow, 5, FIRST_COMPLETED).done == {slow}


def test_a_wait_that_is_late_says_how_far_it_came(client: Client, cluster: Any) -> None:
    done = client.submit(operator.neg, 1)
    assert done.result(5) == -1
    cluster.is_holding = True
    slow = client.submit(operator.neg, 2)
    with pytest.raises(TimeoutError, match=r"1 of 2 futures were done after 0\.01 s"):
        wait([done, slow], timeout=0.01)
    assert slow._record.watchers is None


def test_a_word_that_is_no_mode_is_refused(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="return_when is 'ANY'"):
        wait([], return_when="ANY")


def test_futures_of_several_clients_can_be_mixed(make_cluster: Callable[..., Any]) -> None:
    one, two = make_cluster(), make_cluster()
    with Client(one.address) as a, Client(two.address) as b:
        futures = [a.submit(operator.neg, 1), b.submit(operator.neg, 2)]
        assert wait(futures, timeout=5).done == set(futures)
        one.is_holding = True
        slow = a.submit(operator.neg, 3)
        assert wait([slow, b.submit(operator.neg, 4)], 5, FIRST_COMPLETED).not_done == {slow}
        more = [a.submit(operator.neg, 5), b.submit(operator.neg, 6)]
        one.let_go()
        assert {future.result(5) for future in as_completed(more)} == {-5, -6}


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
    assert isinstance(error, ZeroDivisionError)
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
