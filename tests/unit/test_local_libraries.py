"""BLAS computes with one thread while several threads run tasks, and as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import zcluster
from zcluster.local.libraries import begin_sharing, end_sharing

assert np.__version__  # it brings a BLAS


@pytest.fixture(autouse=True)
def several_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """BLAS has three threads, and the environment says nothing."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with threadpool_limits(3):
        yield


def threads() -> set[int]:
    """Return how many threads the libraries take now."""
    return {library["num_threads"] for library in threadpool_info()}


def test_it_is_as_before_when_the_last_run_is_over() -> None:
    begin_sharing()
    begin_sharing()
    assert threads() == {1}
    end_sharing()
    assert threads() == {1}
    end_sharing()
    assert threads() == {3}


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    begin_sharing()
    assert threads() == {3}
    end_sharing()


def test_runs_of_several_threads_share() -> None:
    """Two tasks that wait for each other: so both threads are at work."""
    both = Barrier(2, timeout=30)

    def look(number: int) -> set[int]:
        both.wait()
        return threads()

    tasks = [zcluster.delayed(look)(number) for number in range(2)]
    found = zcluster.compute(*tasks, scheduler="threads", num_workers=2)
    assert list(found) == [{1}, {1}]
    assert threads() == {3}


def test_a_run_of_one_thread_is_left_alone() -> None:
    assert zcluster.delayed(threads)().compute(scheduler="sync") == {3}
    assert zcluster.delayed(threads)().compute(scheduler="threads") == {3}
