"""Chains of a few tasks: which graphs are chains, and that a run of one is like any other."""

from __future__ import annotations

import asyncio
import copy
import traceback
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zcluster
import zcluster.array as za
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import Graph
from zcluster.graph.spec import fill, from_dict
from zcluster.local.chains import chain_of
from zcluster.local.run import Run
from zcluster.local.runners import LocalRunner, ThreadsRunner
from zcluster.protocol.held import passing_objects


def inc(x: int) -> int:
    return x + 1


def add(x: Any, y: Any) -> Any:
    return x + y


def graph_of(dsk: dict[str, Any], keys: Any) -> Graph:
    with passing_objects(True):
        return from_dict(dsk, keys)[0]


@pytest.mark.parametrize(
    ("dsk", "keys", "is_chain"),
    [
        ({"x": (inc, 1)}, "x", True),
        ({"x": (inc, 1), "y": (add, "x", "x"), "z": (add, "x", "y")}, "z", True),
        ({"x": (inc, 1), "y": (inc, "x")}, ["x", "y"], True),
        ({"x": (inc, 1), "y": (inc, 2)}, ["x", "y"], False),
        ({"x": (inc, 1), "y": (inc, 2), "z": (add, "x", "y")}, "z", False),
        ({"x": (inc, 1), "y": (inc, "x"), "z": (inc, "x")}, ["y", "z"], False),
        ({"x0": (inc, 1), **{f"x{n}": (inc, f"x{n - 1}") for n in range(1, 99)}}, "x98", False),
    ],
    ids=["a call", "a chain", "all of it wanted", "two calls", "a fork", "branches", "long"],
)
def test_a_chain_runs_one_task_at_a_time(dsk: dict[Any, Any], keys: Any, is_chain: bool) -> None:
    assert (chain_of(graph_of(dsk, keys)) is not None) == is_chain


def test_a_graph_of_packed_calls_is_none() -> None:
    with passing_objects(False):
        graph, _ = from_dict({"x": (inc, 1)}, "x")
    assert chain_of(graph) is None


def test_what_nobody_wants_at_the_end_is_not_run() -> None:
    graph = graph_of({"x": (inc, 1), "y": (inc, "x")}, ["x", "y"])
    graph.outputs = [(0, 1)]
    assert chain_of(graph) is None


def test_calls_with_options_are_left_to_the_core() -> None:
    runner = LocalRunner()
    assert zcluster.delayed(inc)(1).compute(scheduler=runner) == 2
    assert runner.last_events == 0
    with zcluster.annotate(retries=2):
        lazy = zcluster.delayed(inc)(2)
    assert lazy.compute(scheduler=runner) == 3
    assert runner.last_events > 0


def test_a_sum_of_one_block_is_a_chain_and_so_is_one_of_data() -> None:
    runner = ThreadsRunner()
    data = np.arange(10.0)
    for array, expected in ((za.ones(10, chunks=10), 10.0), (za.from_array(data, chunks=10), 45.0)):
        assert array.sum().compute(scheduler=runner) == expected
        assert runner.last_events == 0
    assert data.tolist() == list(range(10))


def test_the_caller_gets_an_array_of_its_own() -> None:
    data = np.arange(4.0)
    made = (za.from_array(data, chunks=4) + 0).compute(scheduler="sync")
    made[:] = 7
    assert data.tolist() == [0, 1, 2, 3]


def test_the_number_of_workers_is_looked_at_all_the_same() -> None:
    with pytest.raises(InvalidArgument, match="num_workers=0"):
        zcluster.delayed(inc)(1).compute(scheduler="threads", num_workers=0)


def test_where_an_event_loop_runs_a_task_has_a_thread_of_its_own() -> None:
    def own_loop() -> int:
        return asyncio.run(asyncio.sleep(0, 5))

    async def main() -> int:
        return int(zcluster.delayed(own_loop)().compute(scheduler="threads"))

    assert asyncio.run(main()) == 5


def test_an_error_is_the_object_that_was_raised_and_shows_no_frames_of_the_run() -> None:
    error = KeyError("of the task")

    def fails(x: int) -> int:
        raise error

    graph = graph_of({"x": (inc, 1), "y": (fails, "x")}, "y")
    with pytest.raises(KeyError) as caught:
        LocalRunner().run_graph(graph)
    assert caught.value is error
    names = [entry.name for entry in traceback.extract_tb(error.__traceback__)]
    assert names[-2:] == ["run_graph", "fails"]


class Token:
    """Can be referred to weakly."""


def test_a_result_goes_when_its_last_taker_runs_and_all_after_a_failure() -> None:
    alive: weakref.WeakSet[Token] = weakref.WeakSet()
    most = []

    def make(*inputs: Token) -> Token:
        token = Token()
        alive.add(token)
        most.append(len(alive))
        return token

    def fails(*inputs: Any) -> None:
        raise ValueError

    dsk: dict[str, Any] = {"a": (make,), "b": (make, "a"), "c": (make, "b"), "d": (make, "c")}
    LocalRunner().run_graph(graph_of(dsk, "d"))
    assert most == [1, 2, 2, 2]
    dsk["e"] = (fails, "d")
    with pytest.raises(ValueError, match=r"^$") as caught:
        LocalRunner().run_graph(graph_of(dsk, ["a", "e"]))
    caught.value.__traceback__ = None
    del caught
    assert not alive


def test_ctrl_c_leaves_at_once() -> None:
    begun = []

    def interrupted() -> None:
        begun.append(1)
        raise KeyboardInterrupt

    graph = graph_of({"x": (interrupted,), "y": (inc, "x")}, "y")
    with pytest.raises(KeyboardInterrupt):
        LocalRunner().run_graph(graph)
    assert begun == [1]


def grown(*inputs: list[int]) -> list[int]:
    """Write into all inputs, and return the first."""
    for number, one in enumerate(inputs):
        one.append(len(one) + number)
    return inputs[0] if inputs else [0]


@given(st.data())
def test_a_chain_and_the_core_make_the_same(data: st.DataObject) -> None:
    """Tasks write into what they take: each has it to itself, and the caller has its own."""
    count = data.draw(st.integers(1, 6))
    dsk: dict[str, Any] = {"v": [1]}
    for task in range(count):
        known = list(dsk)
        more = data.draw(st.lists(st.sampled_from(known), max_size=3, unique=True))
        dsk[f"x{task}"] = (grown, *dict.fromkeys([known[-1], *more]))
    keys = [*data.draw(st.lists(st.sampled_from(list(dsk)), unique=True)), f"x{count - 1}"]
    results = []
    for make in (chain_of, Run):
        with passing_objects(True):
            graph, numbers = from_dict(copy.deepcopy(dsk), keys)
        run: Any = make(graph)
        assert run is not None
        assert run.run() is None
        results.append(fill(numbers, graph, run.outputs()))
    assert results[0] == results[1]
