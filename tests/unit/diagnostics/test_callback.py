"""What callbacks are told, in which order, and what becomes of those that raise."""

from __future__ import annotations

from collections.abc import Iterator
from operator import add
from typing import Any

import pytest

from zcluster.collection.compute import compute
from zcluster.delayed import delayed
from zcluster.diagnostics import Callback
from zcluster.graph.layers import Graph, GraphLayer
from zcluster.local import LocalRunner, close_pool, get_sync, watching
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.messages import Slot
from zcluster.threaded import get

DSK = {"a": 1, "b": 2, "c": (add, "a", "b"), "d": (sum, ["a", "b", "c"])}


@pytest.fixture(autouse=True)
def pool() -> Iterator[None]:
    yield
    close_pool()
    assert watching._watchers == []


class Notes(Callback):
    """Writes down all it is told, states included."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[Any, ...]] = []

    def _start(self, dsk: Any) -> None:
        self.events.append(("start", set(dsk)))

    def _start_state(self, dsk: Any, state: Any) -> None:
        self.events.append(("state", set(state["ready"]), set(state["waiting"])))

    def _pretask(self, key: Any, dsk: Any, state: Any) -> None:
        assert key in state["running"]
        assert key not in state["ready"] | state["waiting"] | state["finished"]
        self.events.append(("pretask", key))

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: int) -> None:
        assert key in state["finished"]
        assert type(worker_id) is int
        self.events.append(("posttask", key, result, dict(state["cache"]), set(state["released"])))

    def _finish(self, dsk: Any, state: Any, errored: bool) -> None:
        self.events.append(("finish", errored, set(state["finished"])))


def test_all_that_happens_is_told_in_order() -> None:
    with Notes() as notes:
        assert get_sync(DSK, "d") == 6
    assert get_sync(DSK, "d") == 6  # it is told no more
    assert notes.events[:2] == [("start", set("abcd")), ("state", {"a", "b"}, {"c", "d"})]
    assert notes.events[2:-1] == [
        ("pretask", "a"),
        ("posttask", "a", 1, {"a": 1}, set()),
        ("pretask", "b"),
        ("posttask", "b", 2, {"a": 1, "b": 2}, set()),
        ("pretask", "c"),
        ("posttask", "c", 3, {"a": 1, "b": 2, "c": 3}, set()),
        ("pretask", "d"),
        ("posttask", "d", 6, {"d": 6}, {"a", "b", "c"}),
    ]
    assert notes.events[-1] == ("finish", False, set("abcd"))


def test_functions_may_be_given_and_registered_for_long() -> None:
    keys: list[Any] = []
    ends: list[bool] = []
    callback = Callback(
        pretask=lambda key, dsk, state: keys.append(key),
        finish=lambda dsk, state, errored: ends.append(errored),
    )
    callback.register()
    callback.register()  # told once all the same
    lazy = delayed(add)(1, 2, dask_key_name="three")
    assert lazy.compute(scheduler="sync") == 3
    callback.unregister()
    callback.unregister()
    assert lazy.compute(scheduler="sync") == 3
    assert keys == ["three"]
    assert ends == [False]


def test_threads_tell_of_each_task_once_and_one_at_a_time() -> None:
    inside = 0
    before: list[Any] = []
    after: list[Any] = []

    def pretask(key: Any, dsk: Any, state: Any) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        before.append(key)
        inside -= 1

    with Callback(pretask=pretask, posttask=lambda key, *rest: after.append(key)):
        lazies = [delayed(add)(i, 1) for i in range(500)]
        assert sum(compute(*lazies, scheduler="threads", num_workers=3)) == 125250
    assert sorted(before) == sorted(after) == sorted(lazy.key for lazy in lazies)


def test_futures_and_large_arguments_are_no_tasks_of_the_graph() -> None:
    with Notes() as notes:
        total = delayed(len)(bytes(100_000), dask_key_name="size").compute(scheduler="sync")
    assert total == 100_000
    assert notes.events[0] == ("start", {"size"})


def test_a_failure_is_told_at_the_end() -> None:
    for run in (get_sync, get):
        with Notes() as notes, pytest.raises(ZeroDivisionError):
            run({"a": (divmod, 1, 0), "b": (len, "a")}, "b")
        assert notes.events[-1] == ("finish", True, set())


@pytest.mark.parametrize("event", ["start", "start_state", "pretask", "posttask", "finish"])
@pytest.mark.parametrize("run", [get_sync, get])
def test_what_a_callback_raises_comes_out(event: str, run: Any) -> None:
    def raises(*args: Any) -> None:
        raise LookupError(event)

    ends: list[bool] = []
    told: dict[str, Any] = {event: raises}
    if event != "finish":
        told["finish"] = lambda *args: ends.append(args[-1])
    with Callback(**told), pytest.raises(LookupError, match=event):
        run(DSK, "d")
    assert ends == [True] * (event != "finish")


def test_tasks_that_take_all_of_a_layer_wait_for_each_of_its_tasks() -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("list", (2,), 2, 0, pack_callable(list)))
    whole = GraphLayer("len", (1,), 1, 0, pack_callable(len), whole=[0], whole_slots=[Slot()])
    graph.add_layer(whole)
    graph.outputs = [(2, 1)]
    with Notes() as notes:
        assert LocalRunner().run_graph(graph) == [2]
    assert notes.events[1] == ("state", {("list", 0), ("list", 1)}, {("len", 0)})
