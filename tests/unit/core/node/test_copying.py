"""Copies are fetched, kept until they are freed, and told of once."""

from __future__ import annotations

from typing import Any

from zcluster.core.node.records import FetchOrder, Result
from zcluster.protocol.messages import Copied, Copy, Free, Unreachable


def test_a_copy_is_fetched_told_of_and_kept_until_it_is_freed(bench: Any) -> None:
    b = bench()
    b.tell(Copy([(1, 50, [3, 4])]))
    b.tell(Copy([(1, 50, [3, 4])]))  # on its way
    assert b.fetches() == [FetchOrder(1, 1, 0, [], 50, [3, 4])]
    place = b.store.allocate(50)
    b.core.on_fetched(1, Result(50, place=place), b.now)
    assert b.said(Copied) == [Copied([1], [])]
    b.assign({2: [1]})
    b.flush()
    b.done([2])
    assert 1 in b.core.results  # its use by a task was not its last
    b.tell(Copy([(1, 50, [3])]))  # here already
    assert b.said(Copied) == [Copied([1], [])]
    b.tell(Free([1, 2]))
    assert b.core.results == {}


def test_what_was_fetched_for_a_task_becomes_a_copy(bench: Any) -> None:
    b = bench()
    b.assign({2: [1]}, places=[(1, 50, [3])])
    b.tell(Copy([(1, 50, [3])]))
    assert len(b.fetches()) == 1
    b.fetched(1)
    assert b.said(Copied) == [Copied([1], [])]
    b.flush()
    b.done([2])
    assert 1 in b.core.results
    b.assign({4: [3]}, places=[(3, 50, [3])])
    b.fetched(3)
    b.tell(Copy([(3, 50, [3])]))
    assert b.said(Copied) == [Copied([3], [])]
    b.flush()
    b.done([4])
    assert 3 in b.core.results


def test_a_task_that_comes_while_a_copy_is_on_its_way_waits_for_it(bench: Any) -> None:
    b = bench()
    b.tell(Copy([(1, 50, [3]), (5, 4, [3])]))
    b.assign({2: [1]}, places=[(1, 50, [3])])
    assert len(b.fetches()) == 2
    b.assign({6: [5]}, inline=[(5, b"blob")])  # its bytes come by another way
    for number in (1, 5):
        b.fetched(number)
    assert [said.tasks for said in b.said(Copied)] == [[1], [5]]
    b.flush()
    b.done([2, 6])
    assert {1, 5} <= set(b.core.results)


def test_a_copy_that_cannot_be_had_is_told_of_and_tasks_go_back(bench: Any) -> None:
    b = bench()
    b.tell(Copy([(1, 50, [3]), (2, 50, [3])]))
    b.assign({4: [2]}, places=[(2, 50, [3])])
    for number in (1, 2):
        b.core.on_unfetched(number, 3, b.now)
    assert [said.failed for said in b.said(Copied)] == [[1], [2]]
    assert b.said(Unreachable) == [Unreachable([2], 3)]
    assert b.core.copying == set()
    assert b.core.tasks == {}


def test_a_copy_that_is_freed_on_its_way_is_not_kept(bench: Any) -> None:
    b = bench()
    b.tell(Copy([(1, 50, [3])]))
    b.tell(Free([1]))
    b.core.on_fetched(1, Result(50, place=b.store.allocate(50)), b.now)
    assert b.store.used == 0
    assert b.said(Copied) == []


def test_no_copy_is_made_of_what_is_made_here(bench: Any) -> None:
    b = bench()
    b.assign({1: []})
    b.tell(Copy([(1, 50, [3])]))
    assert b.fetches() == []
    assert b.said(Copied) == [Copied([], [1])]


def test_a_copy_on_its_way_is_none_any_more_when_the_task_is_to_be_made_here(bench: Any) -> None:
    """It was lost where it was; what comes from there yet would take the place of the result."""
    b = bench()
    b.tell(Copy([(1, 50, [3])]))
    b.assign({2: [1]}, places=[(1, 50, [3])])
    b.assign({1: []}, layer=2)
    assert b.said(Copied) == [Copied([], [1])]
    b.core.on_fetched(1, Result(50, place=b.store.allocate(50)), b.now)
    assert b.store.used == 0
    b.flush()
    b.done([1])
    assert b.core.results[1].blob == b"blob"
