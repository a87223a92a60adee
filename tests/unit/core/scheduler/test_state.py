"""The few operations everything else is made of."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.scheduler.records import SchedulerSettings
from zcluster.core.scheduler.state import SchedulerState


def make_state(**settings: Any) -> SchedulerState:
    return SchedulerState(SchedulerSettings(**settings), "inproc://s")


def test_a_row_is_found_by_its_task(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    first = d.submit(client, graph_of([()] * 600))
    for task in (first, first + 511, first + 512, first + 599):
        page, row = d.row(task)
        assert page.start + row == task
    assert d.state.find(first + 600) is None
    assert d.state.find(first - 1) is None
    assert len(list(d.state.rows())) == 600
    assert len(d.state.pages) == 2


def test_small_results_are_kept_within_bounds_the_oldest_go() -> None:
    s = make_state(inline_bytes=10)
    s.keep_inline(1, b"12345")
    s.keep_inline(2, b"12345")
    s.keep_inline(1, b"12345")
    s.keep_inline(3, b"1")
    assert list(s.inline) == [2, 3]
    assert s.inline_bytes == 6
    s.forget_inline(2)
    s.forget_inline(99)
    assert s.inline_bytes == 1


def test_durations_are_learned_the_more_the_more_runs() -> None:
    s = make_state(window=0.04, least_cost=1e-5)
    assert s.cost(b"f") == 0.04
    s.learn(b"f", 1, 1.0)
    assert s.cost(b"f") == 1.0
    s.learn(b"f", 0, 9.0)
    s.learn(b"f", 1, 2.0)
    assert s.cost(b"f") == pytest.approx(1.21)
    s.learn(b"f", 1000, 1000.0)
    assert s.cost(b"f") == pytest.approx(1.021)
    s.learn(b"g", 1, 0.0)
    assert s.cost(b"g") == 1e-5


def test_what_is_to_be_freed_can_be_taken_back() -> None:
    s = make_state()
    s.free(1, [0, 1])
    s.free_all([2, 3], 1)
    s.unfree(1, 1)
    s.unfree(9, 7)
    assert s.frees == {0: [1], 1: [2, 3]}


def test_states_are_counted(desk: Any, graph_of: Any) -> None:
    d = desk()
    d.submit(d.client(), graph_of([(), (0,), ()]))
    counts = d.state.states()
    assert (counts["ready"], counts["waiting"], sum(counts.values())) == (2, 1, 3)
