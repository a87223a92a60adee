"""Waiting for several futures."""

from __future__ import annotations

import concurrent.futures
import gc
import operator
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.client.completing import as_completed
from zcluster.client.future import Future
from zcluster.client.waiting import (
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Holding,
    fire_and_forget,
    futures_in,
    futures_of,
    wait,
)
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import GraphBuilder
from zcluster.protocol.messages import Cancel


def test_futures_are_found_in_containers_in_order(client: Client) -> None:
    a, b, c, d = client.map(operator.neg, range(4))
    assert futures_in([a, (b, {"k": c})], iter([d])) == [a, b, c, d]
    assert futures_in() == []
    with pytest.raises(InvalidArgument, match="found int 5 among futures"):
        futures_in([a, 5])
    with pytest.raises(InvalidArgument, match="found str"):
        futures_in("abc")


class Kept:
    """A collection whose graph holds futures, and which is not to be iterated over."""

    __zcluster_lower__ = None

    def __init__(self, futures: list[Future]) -> None:
        self.dask = dict(enumerate(futures))

    def __iter__(self) -> Iterator[object]:
        raise AssertionError("this would compute it")


def test_the_futures_of_a_collection_are_waited_for(client: Client) -> None:
    a, b, c = client.map(operator.neg, range(3))
    assert futures_in([a, Kept([b, c])]) == [a, b, c]
    assert futures_in(Kept([])) == []


class Bottomless:
    """Iterates over others like it."""

    def __iter__(self) -> Iterator[Bottomless]:
        yield Bottomless()


def loops() -> list[Any]:
    """Return containers without a bottom."""
    itself: list[Any] = []
    itself.append(itself)
    mapping: dict[str, Any] = {}
    mapping["self"] = (mapping,)
    return [itself, mapping]


@pytest.mark.parametrize("which", [0, 1])
def test_a_container_that_contains_itself_is_refused(client: Client, which: int) -> None:
    value = loops()[which]
    for call in (wait, as_completed, client.gather, client.cancel):
        with pytest.raises(InvalidArgument, match="contains itself"):
            call(value)
    assert futures_of(value) == []


def test_containers_without_end_are_refused(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="found a Bottomless that contains itself"):
        wait(Bottomless())
    deep: Any = client.submit(operator.neg, 1)
    for _ in range(50):
        deep = [deep]
    assert len(wait(deep, 5).done) == 1
    value = client.gather(deep)
    for _ in range(50):
        (value,) = value
    assert value == -1


class Pair:
    """A collection with two futures in its graph."""

    def __init__(self, *futures: Future) -> None:
        self.dask = {"x": futures[0], "y": (operator.neg, [futures[1]])}

    __zcluster_lower__ = GraphBuilder


def test_futures_of_are_found_in_collections_and_containers(client: Client) -> None:
    a, b, c = client.map(operator.neg, range(3))
    assert futures_of([a, {"k": (b, 5)}, "text", None], c, a) == [a, b, c]
    assert futures_of(Pair(a, b), [Pair(b, c)]) == [a, b, c]
    assert futures_of() == futures_of(5) == []


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


def test_waiting_for_the_first_exception(client: Client, cluster: Any) -> None:
    assert FIRST_EXCEPTION == concurrent.futures.FIRST_EXCEPTION
    good = client.map(operator.neg, range(3))
    assert wait(good, 5, FIRST_EXCEPTION).not_done == set()
    bad = client.submit(operator.truediv, 1, 0)
    assert isinstance(bad.exception(5), ZeroDivisionError)
    cluster.is_holding = True
    slow = client.submit(operator.neg, 2, key="slow")
    assert wait([slow, bad], 5, FIRST_EXCEPTION) == ({bad}, {slow})
    # Neither a result nor a cancelled task ends it.
    cancelled = client.submit(operator.neg, 3)
    cancelled.cancel()
    with pytest.raises(TimeoutError, match="4 of 5 futures"):
        wait([slow, cancelled, *good], 0.01, FIRST_EXCEPTION)
    late = client.submit(operator.truediv, 2, slow, key="late")
    cluster.let_go()
    assert late in wait([late, slow], 5, FIRST_EXCEPTION).done
    cluster.is_holding = True
    slow, fails = client.submit(operator.neg, 8), client.submit(operator.truediv, 8, 0)
    letting_go = threading.Thread(target=cluster.let_go)
    letting_go.start()
    assert fails in wait([fails, slow], 5, FIRST_EXCEPTION).done
    letting_go.join()


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


def test_what_is_forgotten_runs_to_its_end(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    future, *several = client.map(operator.neg, range(3))
    tasks = [one._record.task for one in (future, *several)]
    fire_and_forget(future)
    fire_and_forget({"a": several})
    del future, several
    gc.collect()
    assert client.submit(operator.neg, 5).status == "pending"
    assert set(tasks) <= set(client._engine.core.wanted)
    cluster.let_go()
    cluster.until(lambda: set(tasks) <= cluster.released)
    assert set(tasks) <= set(cluster.blobs)
    assert cluster.told(Cancel) == []


def test_nothing_to_forget_is_an_error() -> None:
    with pytest.raises(InvalidArgument, match="found no futures in list"):
        fire_and_forget([1, 2])


def test_holding_ends_with_the_task(client: Client, cluster: Any) -> None:
    done = client.submit(operator.neg, 1)
    assert done.result(5) == -1
    cluster.is_holding = True
    slow = client.submit(operator.neg, 2)
    holding = Holding()
    holding.add([done, slow])
    assert holding.futures == [slow]
    cluster.let_go()
    holding.wait()
    assert holding.futures == []
    holding.wait()
