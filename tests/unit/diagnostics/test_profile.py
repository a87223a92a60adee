"""Times of tasks, memory and load, and how long results are kept."""

from __future__ import annotations

import threading
from operator import add
from time import perf_counter
from typing import Any

import pytest

from zcluster.diagnostics import CacheProfiler, Profiler, ResourceProfiler
from zcluster.errors import InvalidArgument
from zcluster.local import close_pool, get_sync
from zcluster.threaded import get

PATIENCE = 30.0
DSK = {"a": 1, "b": 2, "c": (add, "a", "b"), "d": (sum, ["a", "b", "c"])}
barriers: list[threading.Barrier] = []


def meet() -> None:
    barriers[-1].wait(PATIENCE)


def test_each_task_is_there_with_its_times() -> None:
    before = perf_counter()
    with Profiler() as profiler:
        get_sync(DSK, "d")
    assert [(result.key, result.task) for result in profiler.results] == [
        ("a", 1),
        ("b", 2),
        ("c", (add, "a", "b")),
        ("d", (sum, ["a", "b", "c"])),
    ]
    times = [when for result in profiler.results for when in result[2:4]]
    times = [before, *times, perf_counter()]
    assert times == sorted(times)
    assert {result.worker_id for result in profiler.results} == {threading.get_ident()}
    assert repr(profiler) == "<Profiler: 4 tasks>"
    profiler.clear()
    assert profiler.results == []


def test_threads_are_told_apart() -> None:
    barriers.append(threading.Barrier(2))
    with Profiler() as profiler:
        get({"x": (meet,), "y": (meet,)}, ["x", "y"], num_workers=2)
    assert len({result.worker_id for result in profiler.results}) == 2
    assert profiler.panel().rows == ["thread 0", "thread 1"]
    close_pool()


def test_a_table_says_which_functions_cost_most() -> None:
    with Profiler() as profiler:
        get_sync(DSK, "d")
    lines = profiler.summary().splitlines()
    assert lines[0].split() == ["function", "tasks", "total", "mean", "longest"]
    assert {(line.split()[0], line.split()[1]) for line in lines[1:]} == {
        ("value", "2"),
        ("add", "1"),
        ("sum", "1"),
    }


def test_tasks_that_fail_have_no_times_and_runs_are_added() -> None:
    with Profiler() as profiler:
        with pytest.raises(ZeroDivisionError):
            get_sync({"a": 1, "b": (divmod, "a", 0)}, "b")
        get_sync({"a": 1}, "a")
    assert [result.key for result in profiler.results] == ["a", "a"]
    assert profiler._begun == {}
    assert profiler._ended == {}


seen: list[Any] = []


def until_looked_at(x: int) -> int:
    """Run until memory was looked at three times."""
    deadline = perf_counter() + PATIENCE
    while len(seen[-1].results) < 3:
        assert perf_counter() < deadline
    return x


def test_memory_and_load_are_looked_at_while_tasks_run() -> None:
    with ResourceProfiler(dt=0.005) as profiler:
        seen.append(profiler)
        get_sync({"a": 1, "b": (until_looked_at, "a")}, "b")
    assert len(profiler.results) >= 4
    times = [result.time for result in profiler.results]
    assert times == sorted(times)
    assert all(1 < result.mem < 1e6 for result in profiler.results)
    assert any(result.cpu > 0 for result in profiler.results)
    assert "MB" in profiler.summary()
    assert not profiler._thread.is_alive()
    profiler.clear()
    assert profiler.summary() == "nothing was measured"


def test_a_look_takes_a_time_between() -> None:
    with pytest.raises(InvalidArgument, match="dt=0"):
        ResourceProfiler(dt=0)


def test_results_are_kept_from_when_they_are_made_until_their_last_taker_runs() -> None:
    with CacheProfiler() as profiler:
        get_sync(DSK, "d")
    kept = {result.key: result for result in profiler.results}
    assert set(kept) == set("abcd")
    assert kept["a"].cache_time < kept["b"].cache_time < kept["c"].cache_time
    assert kept["a"].free_time == kept["c"].free_time == kept["d"].cache_time
    assert kept["d"].free_time > kept["d"].cache_time
    # When the last one is made the others are noted as gone: four, for no time at all.
    assert profiler.summary() == "4 results; at most 3 results kept at a time"
    assert profiler._kept == {}


def test_results_count_what_a_function_says() -> None:
    with CacheProfiler(metric=len, metric_name="letters") as profiler:
        get_sync({"a": "abc", "b": (str.upper, "a"), "c": (len, "b")}, ["b", "a"])
    assert {(result.key, result.metric) for result in profiler.results} == {("a", 3), ("b", 3)}
    assert profiler.summary() == "2 results; at most 6 letters kept at a time"
    assert repr(profiler) == "<CacheProfiler: 2 results>"
    profiler.clear()
    assert profiler.summary() == "0 results; at most 0 letters kept at a time"
