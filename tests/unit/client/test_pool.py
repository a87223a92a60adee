"""The client in the shape of a pool."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import operator
import queue
from collections.abc import Iterator
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.client.pool import ClientPool
from zcluster.errors import InvalidArgument
from zcluster.protocol.messages import Submit


@pytest.fixture
def pool(client: Client) -> Iterator[ClientPool]:
    with client.get_pool() as made:
        yield made


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def late() -> None:
    raise TimeoutError("one of its own")


def test_one_call(pool: ClientPool) -> None:
    assert pool.apply(pow, (2, 3)) == 8
    assert pool.apply(echo, (1,), {"key": 2, "self": 3}) == ((1,), {"key": 2, "self": 3})
    assert pool.apply(echo) == ((), {})
    with pytest.raises(ZeroDivisionError):
        pool.apply(operator.truediv, (1, 0))
    assert repr(pool).startswith("<ClientPool of <Client")


@pytest.mark.parametrize("chunksize", [None, 1, 3, 100])
def test_many_calls(pool: ClientPool, chunksize: int | None) -> None:
    assert pool.map(operator.neg, range(20), chunksize) == [-n for n in range(20)]
    rows = zip(range(20), range(20), strict=True)
    assert pool.starmap(pow, rows, chunksize) == [n**n for n in range(20)]
    assert pool.map(operator.neg, [], chunksize) == []
    with pytest.raises(ZeroDivisionError):
        pool.starmap(operator.truediv, [(1, 1), (1, 0)], chunksize)


def test_a_map_makes_four_chunks_for_each_slot(pool: ClientPool, cluster: Any) -> None:
    pool.map(operator.neg, range(80))
    assert sum(message.count for message in cluster.told(Submit)) == 8


@pytest.mark.parametrize("chunksize", [1, 3])
def test_iterating_over_results(pool: ClientPool, chunksize: int) -> None:
    assert list(pool.imap(operator.neg, range(10), chunksize)) == [-n for n in range(10)]
    unordered = pool.imap_unordered(operator.neg, range(10), chunksize)
    assert iter(unordered) is unordered
    assert sorted(unordered) == [-n for n in reversed(range(10))]
    assert list(pool.imap(operator.neg, [])) == []
    assert list(pool.imap_unordered(operator.neg, [])) == []


def test_an_endless_iterable_is_read_a_thousand_ahead(pool: ClientPool) -> None:
    results = pool.imap(operator.neg, itertools.count())
    assert [next(results) for _ in range(3)] == [0, -1, -2]


def test_a_failing_call_does_not_end_the_iteration(pool: ClientPool) -> None:
    results = pool.imap(lambda n: 1 // n, [1, 0, -1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results) == -1
    with pytest.raises(StopIteration):
        next(results)


def test_what_is_late_is_the_timeout_of_pools(pool: ClientPool, cluster: Any) -> None:
    cluster.is_holding = True
    result = pool.apply_async(operator.neg, (1,))
    ordered, unordered = (f(operator.neg, [2]) for f in (pool.imap, pool.imap_unordered))
    for wait in (result.get, ordered.next, unordered.next):
        with pytest.raises(multiprocessing.TimeoutError, match=r"0\.01 s"):
            wait(0.01)
    result.wait(0.01)
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    cluster.let_go()
    assert (result.get(5), ordered.next(5), unordered.next(5)) == (-1, -2, -2)


def test_a_calls_own_timeout_is_its_own(pool: ClientPool) -> None:
    result = pool.apply_async(late)
    with pytest.raises(TimeoutError, match="one of its own"):
        result.get(5)


def test_results_tell_how_they_ended(pool: ClientPool) -> None:
    good, bad = pool.apply_async(abs, (-1,)), pool.apply_async(operator.truediv, (1, 0))
    good.wait()
    bad.wait()
    assert (good.ready(), good.successful()) == (True, True)
    assert (bad.ready(), bad.successful()) == (True, False)


def test_callbacks_get_the_result_or_the_exception(pool: ClientPool) -> None:
    got: queue.Queue[Any] = queue.Queue()
    pool.apply_async(operator.neg, (1,), callback=got.put, error_callback=lambda _: None)
    assert got.get(timeout=5) == -1
    pool.map_async(operator.neg, range(5), 2, callback=got.put)
    assert got.get(timeout=5) == [0, -1, -2, -3, -4]
    pool.map_async(operator.neg, [], callback=got.put)
    assert got.get(timeout=5) == []
    pool.starmap_async(divmod, [(1, 0)], callback=lambda _: None, error_callback=got.put)
    assert isinstance(got.get(timeout=5), ZeroDivisionError)


def test_a_closed_pool_finishes_and_takes_no_more(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    pool = client.get_pool()
    pool.map_async(operator.neg, range(3), 1)
    gc.collect()
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    for call in (lambda: pool.map(abs, [1]), lambda: pool.apply(abs), lambda: pool.imap(abs, [])):
        with pytest.raises(ValueError, match="not running"):
            call()
    with pytest.raises(ValueError, match="not running"), pool:
        pass
    cluster.let_go()
    pool.join()
    assert pool._held.futures == []
    assert repr(pool).endswith(" closed>")


def test_the_end_of_a_block_terminates_the_pool(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    with client.get_pool() as pool:
        result = pool.map_async(operator.neg, range(3))
    pool.join()
    assert (result.ready(), result.successful()) == (True, False)
    assert client.status == "running"


def test_arguments_that_cannot_be_meant_are_refused(client: Client, pool: ClientPool) -> None:
    for call in (pool.map, pool.imap, pool.imap_unordered):
        with pytest.raises(ValueError, match="chunksize is 0"):
            call(abs, [1], 0)
    with pytest.raises(InvalidArgument, match="a pool has no option worker"):
        client.get_pool(worker="x")
