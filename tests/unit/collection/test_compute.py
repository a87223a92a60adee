"""The one door: what is computed where, and what comes back."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import zcluster.collection.compute as module
from zcluster import config
from zcluster.collection.base import Lowered
from zcluster.collection.compute import (
    Computable,
    compute,
    current_runner,
    pop_runner,
    push_runner,
    register_runner,
    set_default_runner,
    visualize,
)
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import Graph, GraphBuilder
from zcluster.local import get_sync
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import make_call, pack_call
from zcluster.protocol.held import passes_objects


class Runner:
    """Runs graphs of single calls, and remembers what it was told."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.options: list[dict[str, Any]] = []

    def run_graph(self, graph: Graph, **kwargs: Any) -> list[Any]:
        self.graphs.append(graph)
        self.options.append(kwargs)
        values = []
        for first, count in graph.outputs:
            for task in range(first, first + count):
                layer = graph.layer_of(task)
                values.append(make_call(layer.call, abs, layer.constant(task - layer.first), []))
        return values


class Lazy(Computable):
    """The absolute value of a number, later."""

    def __init__(self, number: int) -> None:
        self.number = number

    @staticmethod
    def __zcluster_lower__(collections: Sequence[Any]) -> Lowered:
        builder = GraphBuilder()
        for c in collections:
            builder.add_call(
                "abs", pack_callable(abs), pack_call((c.number,), {}), (), key=f"abs-{c.number}"
            )
        graph = builder.finish()
        graph.want(range(graph.count))
        return graph, list


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test registers of its own."""
    monkeypatch.setattr(module, "_stack", [])
    monkeypatch.setattr(module, "_default", None)
    monkeypatch.setattr(module, "_factories", {})
    monkeypatch.setattr(module, "_made", {})


@pytest.fixture
def runner() -> Runner:
    made = Runner()
    push_runner(made)
    return made


Pair = namedtuple("Pair", "a b")


@dataclass
class Record:
    value: Any
    note: str = "n"
    derived: int = field(default=0, init=False)


def test_compute_always_gives_a_tuple(runner: Runner) -> None:
    assert compute(Lazy(-1)) == (1,)
    assert compute(Lazy(-1), 5, Lazy(-2)) == (1, 5, 2)
    assert compute() == ()


def test_everything_runs_in_one_graph_and_each_collection_once(runner: Runner) -> None:
    x = Lazy(-1)
    assert compute(x, [x, Lazy(-2)], {"a": x}) == (1, [1, 2], {"a": 1})
    assert [graph.count for graph in runner.graphs] == [2]


def test_collections_are_found_inside_containers(runner: Runner) -> None:
    x = Lazy(-7)
    nested = ([1, (x, {"k": {x}})], Pair(x, 0), Record(x), frozenset([x]))
    assert compute(*nested) == ([1, (7, {"k": {7}})], Pair(7, 0), Record(7), frozenset([7]))
    assert type(compute(Pair(x, 0))[0]) is Pair


def test_what_holds_nothing_lazy_passes_through_as_the_same_object(runner: Runner) -> None:
    plain: list[Any] = [[1], {"a": Record(2)}, "text", {3}, Record]
    results = compute(*plain, Lazy(0))
    assert all(a is b for a, b in zip(plain, results[:-1], strict=True))
    runner.graphs.clear()
    assert compute(*plain) == tuple(plain)
    assert runner.graphs == []


def test_containers_are_left_alone_without_traverse(runner: Runner) -> None:
    inside = [Lazy(-1)]
    assert compute(inside, Lazy(-2), traverse=False) == (inside, 2)


def test_options_reach_the_runner(runner: Runner) -> None:
    compute(Lazy(1), retries=3)
    Lazy(1).compute(priority=2)
    assert runner.options == [{"retries": 3}, {"priority": 2}]


def test_the_newest_live_runner_is_used() -> None:
    first, second, third = Runner(), Runner(), Runner()
    push_runner(first)
    push_runner(second)
    assert current_runner() is second
    pop_runner(first)
    pop_runner(third)
    assert current_runner() is second
    assert compute(Lazy(-3), scheduler=third) == (3,)
    assert len(third.graphs) == 1
    pop_runner(second)
    set_default_runner(third)
    assert current_runner() is third
    push_runner(first)
    assert current_runner() is first


def test_a_name_stands_for_a_runner_that_is_made_once() -> None:
    made: list[Runner] = []

    def factory() -> Runner:
        made.append(Runner())
        return made[-1]

    register_runner("threads", factory)
    assert Lazy(-4).compute() == 4
    assert Lazy(-4).compute(scheduler="threads") == 4
    assert len(made) == 1
    assert len(made[0].graphs) == 2


def test_a_name_may_say_where_the_runner_is_made() -> None:
    register_runner("counter", "collections:Counter")
    assert type(current_runner("counter")).__name__ == "Counter"


def test_names_may_be_written_in_any_case() -> None:
    register_runner("Mine", Runner)
    assert current_runner("MINE") is current_runner("mine")


def test_the_newest_client_has_a_name() -> None:
    with pytest.raises(InvalidArgument, match=r"'Distributed' means the client.*none is"):
        current_runner("Distributed")
    runner = Runner()
    push_runner(runner)
    assert current_runner("distributed") is runner


def test_runners_that_take_objects_get_them() -> None:
    class Here(Runner):
        takes_objects = True

    seen: list[bool] = []

    class Watched(Lazy):
        @staticmethod
        def __zcluster_lower__(collections: Any) -> Any:
            seen.append(passes_objects())
            return Lazy.__zcluster_lower__(collections)

    compute(Watched(-1), scheduler=Here())
    compute(Watched(-1), scheduler=Runner())
    assert seen == [True, False]


def test_what_cannot_run_a_graph_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="none is registered"):
        compute(Lazy(1))
    register_runner("sync", Runner)
    with pytest.raises(InvalidArgument, match=r"'thread'.*one of 'distributed', 'sync'"):
        compute(Lazy(1), scheduler="thread")
    for wrong in (3, Runner):
        with pytest.raises(InvalidArgument, match=rf"scheduler={wrong!r}.*get\(dsk, keys\)"):
            compute(Lazy(1), scheduler=wrong)


def test_the_configuration_comes_before_the_newest_client(runner: Runner) -> None:
    named, told = Runner(), Runner()
    register_runner("named", lambda: named)
    with config.set(scheduler="named"):
        assert current_runner() is named
        assert current_runner(told) is told
        with config.set(scheduler=told):
            assert current_runner() is told
        assert Lazy(-5).compute() == 5
    assert current_runner() is runner
    assert len(named.graphs) == 1


def test_a_function_that_gets_keys_of_a_plain_graph_runs_it() -> None:
    seen: list[Any] = []

    def get(dsk: dict[Any, Any], keys: list[Any], **options: Any) -> list[Any]:
        seen.append((dsk, keys, options))
        return [get_sync(dsk, key) for key in keys]

    assert compute(Lazy(-1), Lazy(-2), scheduler=get, num_workers=2) == (1, 2)
    expected = {"abs--1": (abs, -1), "abs--2": (abs, -2)}
    assert seen == [(expected, ["abs--1", "abs--2"], {"num_workers": 2})]


def test_an_executor_of_threads_runs_it() -> None:
    with ThreadPoolExecutor(1) as executor:
        assert compute(Lazy(-1), scheduler=executor) == (1,)


def test_visualize_draws_and_runs_nothing(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert visualize([Lazy(n) for n in range(5)]).tasks == 5
    assert (tmp_path / "mydask.svg").exists()
    assert Lazy(1).visualize(filename=None, optimize_graph=True).tasks == 1
    assert visualize(Lazy(1), filename="other", format="svg").tasks == 1
    assert (tmp_path / "other.svg").exists()
    assert visualize({"x": (abs, 1)}, {"y": (abs, "x")}, filename=None).tasks == 2
    assert runner.graphs == []


def test_visualize_refuses_what_it_cannot_draw(runner: Runner) -> None:
    with pytest.raises(InvalidArgument, match=r"x\.png"):
        visualize(Lazy(1), filename="x", format="png")
    with pytest.raises(InvalidArgument, match="nothing lazy"):
        visualize([1, 2], filename=None)
    with pytest.raises(InvalidArgument, match="'colour'"):
        visualize(Lazy(1), filename=None, colour="red")


def test_the_graph_is_a_mapping() -> None:
    assert dict(Lazy(-1).dask) == {"abs--1": (abs, -1)}
