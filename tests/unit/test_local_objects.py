"""Graphs in this process call the caller's own functions with the caller's own arguments."""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zcluster import threaded
from zcluster.collection.compute import compute
from zcluster.delayed import delayed
from zcluster.graph.annotations import annotate
from zcluster.graph.spec import from_dict
from zcluster.local import LocalRunner, close_pool, get_sync
from zcluster.protocol.held import passing_objects


@pytest.fixture(scope="module", autouse=True)
def no_threads_left() -> Iterator[None]:
    yield
    close_pool()


class Keeper:
    """Keeps what it is told to; it cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kept: Any = None

    def keep(self, value: Any) -> None:
        self.kept = value


def inc(x: int) -> int:
    return x + 1


def grown(items: list[int]) -> list[int]:
    items.append(len(items))
    return items


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_arguments_are_the_objects_of_the_caller(scheduler: str, tmp_path: Path) -> None:
    given = [7]
    lazy = delayed(given)
    calls = [delayed(operator.is_)(lazy, given), delayed(operator.is_)(given, lazy), lazy]
    assert compute(*calls, scheduler=scheduler) == (True, True, given)
    assert delayed(grown)(given).compute(scheduler=scheduler) is given
    assert given == [7, 1]
    with (tmp_path / "text").open("w+") as file:
        assert delayed(file_of)({"file": file, "text": delayed(str)(5)}).compute() is file
        numbers = (number for number in range(3))
        assert delayed(sum)(numbers, start=delayed(inc)(1)).compute(scheduler=scheduler) == 5
    assert (tmp_path / "text").read_text() == "5"


def file_of(parts: dict[str, Any]) -> Any:
    parts["file"].write(parts["text"])
    return parts["file"]


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_functions_are_the_objects_of_the_caller(scheduler: str) -> None:
    lock, calls, keeper = threading.Lock(), [0], Keeper()

    def call(x: int) -> int:
        with lock:
            calls.append(x)
        return x

    compute([delayed(call)(i) for i in (1, 2)], scheduler=scheduler)
    assert sorted(calls) == [0, 1, 2]
    compute(delayed(calls.append)(3), delayed(lambda: calls.append(4))(), scheduler=scheduler)
    assert sorted(calls) == [0, 1, 2, 3, 4]
    delayed(keeper.keep)(lock).compute(scheduler=scheduler)
    assert keeper.kept is lock
    made = delayed(lambda: calls.append)()
    compute(made(5), made(6), scheduler=scheduler)
    assert sorted(calls) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_a_task_that_fails_raises_the_very_exception(scheduler: str) -> None:
    class Mine(Exception):  # pickles of it would be of another class
        pass

    error = Mine(threading.Lock())

    def fail() -> None:
        raise error

    with pytest.raises(Mine) as caught:
        delayed(fail)().compute(scheduler=scheduler)
    assert caught.value is error


@pytest.mark.parametrize("get", [get_sync, threaded.get])
def test_hand_written_graphs_hold_objects(get: Any) -> None:
    lock, items = threading.Lock(), [3]
    dsk = {
        "lock": lock,
        "items": items,
        "same": (lambda a, b: a is b is lock, "lock", lock),
        "all": (lambda given: given is items, items),
        "nested": (max, ["same", (len, "items"), (abs, -9)]),
        "list": ["lock", (len, "items")],
    }
    assert get(dsk, ["same", ["all", "nested"]]) == (True, (True, 9))
    assert get(dsk, "list") == [lock, 1]


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_a_result_that_cannot_be_pickled_is_shared(scheduler: str) -> None:
    keeper = delayed(Keeper)()
    same = delayed(operator.is_)(keeper, delayed(lambda one: one)(keeper))
    assert compute(same, delayed(type)(keeper), scheduler=scheduler) == (True, Keeper)


def test_what_is_called_is_not_copied() -> None:
    items: list[int] = []
    append = delayed(lambda: lambda item: items.append(item))()
    kind = delayed(lambda: Keeper)()
    compute(append(1), append(2), append(3))
    assert sorted(items) == [1, 2, 3]
    assert compute(kind, delayed(operator.is_)(kind, Keeper)) == (Keeper, True)


def test_lazy_values_in_attributes_stay_lazy() -> None:
    keeper = Keeper()
    keeper.keep(delayed(inc)(1))
    assert delayed(operator.attrgetter("kept"))(keeper).compute() is keeper.kept


def test_the_core_sees_numbers_only() -> None:
    with passing_objects(True):
        graph, _ = from_dict({"x": [1], "y": (len, "x"), "z": (inc, 5)}, ["y", "z"])
    assert [layer.function for layer in graph.layers] == [None] * 3
    assert not any(layer.constants for layer in graph.layers)
    assert sorted(LocalRunner().run_graph(graph)) == [1, 6]


def test_an_attempt_that_failed_leaves_the_results_it_took_as_they_were() -> None:
    items = delayed(list)((1, 2))
    tries: list[list[int]] = []

    def fail_once(given: list[int], lock: Any) -> list[int]:
        with lock:
            tries.append(list(given))
            given.clear()
            if len(tries) == 1:
                raise ValueError(given)
        return given

    with annotate(retries=1):
        lazy = delayed(fail_once)(items, threading.Lock())
    assert lazy.compute() == []
    assert tries == [[1, 2], [1, 2]]
