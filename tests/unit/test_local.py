"""Graphs in the calling thread: results, order, copies, failures, and what is kept meanwhile."""

from __future__ import annotations

import copy
import gc
import io
import operator
import pdb
import random
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zcluster
import zcluster.collection.compute as door
from zcluster.collection.base import lower
from zcluster.collection.compute import compute, current_runner
from zcluster.delayed import delayed
from zcluster.errors import InvalidArgument, InvariantError, ProtocolError
from zcluster.graph.layers import Graph, GraphBuilder, GraphLayer, Options
from zcluster.graph.spec import fill, from_dict
from zcluster.local import LocalRunner
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import (
    CALL_ALIAS,
    CALL_INPUTS,
    CALL_PACKED_LAST,
    pack_call,
)
from zcluster.protocol.messages import Slot
from zcluster.protocol.objects import Parts

seen: list[Any] = []


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No client and nothing seen; the calling thread is the default here."""
    monkeypatch.setattr(door, "_stack", [])
    monkeypatch.setattr(door, "_default", None)
    monkeypatch.setattr(door, "_DEFAULT", "sync")
    seen.clear()


def run(graph: Graph, **options: Any) -> list[Any]:
    return LocalRunner().run_graph(graph, **options)


def inc(x: int) -> int:
    return x + 1


def dec(x: int) -> int:
    return x - 1


def add(x: Any, y: Any) -> Any:
    return x + y


def note(x: Any) -> Any:
    seen.append(x)
    return x


class Token:
    """Can be referred to weakly, and goes through pickle."""


class Graphs:
    """Builds graphs of calls by hand; task numbers are inputs."""

    def __init__(self) -> None:
        self.builder = GraphBuilder()

    def call(self, function: Any, *inputs: int, **options: Any) -> int:
        return self.builder.add_call(
            function.__name__,
            pack_callable(function),
            pack_call((), {})._replace(form=CALL_INPUTS, constant=None),
            inputs,
            options=Options(**options),
        )

    def finish(self, *outputs: int) -> Graph:
        graph = self.builder.finish()
        graph.want(outputs)
        return graph


@pytest.fixture
def graphs() -> Graphs:
    return Graphs()


# What people write ------------------------------------------------------------------------------


def test_a_delayed_call_needs_no_client() -> None:
    lazy = zcluster.delayed(operator.add)(5, 6)  # a callable module
    assert repr(lazy).startswith("Delayed('add-")
    assert lazy.compute() == 11


def test_calls_in_a_loop() -> None:
    results = []
    for i in range(20):
        x = delayed(inc)(i)
        y = delayed(dec)(x)
        results.append(delayed(add)(x, y).compute())
    assert results == list(range(1, 40, 2))
    eager = [delayed(add(delayed(inc(i)), delayed(dec(inc(i))))).compute() for i in range(20)]
    assert eager == results


def test_one_call_gives_a_tuple_of_one_and_draws_one_task() -> None:
    def calculate_pi(size: int) -> float:
        source = random.Random(1)
        inside = sum(source.random() ** 2 + source.random() ** 2 < 1 for _ in range(size))
        return 4 * inside / size

    lazy = delayed(calculate_pi)(20_000)
    result = compute(lazy)
    assert type(result) is tuple
    assert result[0] == pytest.approx(3.14, abs=0.05)
    assert lazy.visualize(filename=None).tasks == 1


@pytest.mark.parametrize("name", ["sync", "synchronous", "single-threaded"])
def test_it_has_the_names_people_know(name: str) -> None:
    assert isinstance(current_runner(name), LocalRunner)
    assert delayed(inc)(1).compute(scheduler=name) == 2
    assert "calling thread" in repr(current_runner(name))


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, zcluster.local;"
        "print([m for m in ('numpy', 'zmq', 'asyncio', 'multiprocessing') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tasks_run_in_the_thread_that_asks() -> None:
    assert delayed(threading.get_ident)().compute() == threading.get_ident()


def test_a_task_may_compute() -> None:
    def outer(x: int) -> int:
        inner: int = delayed(inc)(x).compute()
        return inner * 10

    assert delayed(outer)(1).compute() == 20


def test_no_outputs_means_no_work(graphs: Graphs) -> None:
    graphs.call(list)
    assert run(graphs.finish()) == []


def test_only_what_is_needed_runs() -> None:
    dsk = {"a": (note, 1), "b": (note, 2), "c": (inc, "b")}
    graph, numbers = from_dict(dsk, ["c"])
    assert fill(numbers, graph, run(graph)) == [3]
    assert seen == [2]


def test_options_that_mean_nothing_here_are_accepted_and_others_refused() -> None:
    assert delayed(inc)(1).compute(scheduler="sync", priority=3, workers="there") == 2
    with pytest.raises(InvalidArgument, match=r"'prioritty'.*expected one of .*priority"):
        delayed(inc)(1).compute(scheduler="sync", prioritty=3)


def test_tasks_meant_for_certain_workers_run_here(graphs: Graphs) -> None:
    first = graphs.call(list, workers=("there",))
    second = graphs.call(list, first, workers=("there",), allow_other_workers=True)
    assert run(graphs.finish(second)) == [[]]


# Graphs -----------------------------------------------------------------------------------------


def test_a_chain_may_be_as_long_as_memory_allows() -> None:
    lazy = delayed(inc)(0)
    for _ in range(49_999):
        lazy = delayed(inc)(lazy)
    assert lazy.compute() == 50_000


def test_more_tasks_than_are_sent_ahead_at_once() -> None:
    lazies = [delayed(inc)(i) for i in range(3000)]
    assert compute(*lazies) == tuple(range(1, 3001))
    assert delayed(sum)(lazies).compute() == sum(range(1, 3001))


def test_tasks_run_by_rank() -> None:
    lazies = [delayed(note)(delayed(note)(i)) for i in range(600)]
    compute(*lazies)
    assert seen == [i for i in range(600) for _ in range(2)]  # not all of the first calls first


def test_equal_keys_of_two_graphs_are_one_task() -> None:
    parts = []
    for _ in range(2):
        x = delayed(note, pure=True)([5])
        parts.append(lower([delayed(add, pure=True)(x, [1]), delayed(add, pure=True)(x, [2])])[0])
    graph, other = parts
    graph.merge(other)
    assert run(graph) == [[5, 1], [5, 2]] * 2
    assert seen == [[5]]


class Done:
    """A future that has its result."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def result(self) -> Any:
        return self.value


def test_futures_among_the_inputs_give_their_results(graphs: Graphs) -> None:
    future = Done([1, 2])
    entry = graphs.builder.add_import(future)
    unused = graphs.builder.add_import(Done(3))
    task = graphs.call(sorted, entry)
    graphs.builder.add_call("keep", None, pack_call((), {})._replace(form=CALL_ALIAS), (entry,))
    graph = graphs.finish(task, task + 1)
    assert unused == ~1
    assert run(graph) == [[1, 2], [1, 2]]
    assert run(graph)[1] is not future.value  # the future has it too


def test_other_things_among_the_inputs_are_refused(graphs: Graphs) -> None:
    task = graphs.call(abs, graphs.builder.add_import(5))
    with pytest.raises(InvalidArgument, match=r"found a int.*expected a future"):
        run(graphs.finish(task))


def test_an_output_that_no_task_makes_is_told_and_not_waited_for(graphs: Graphs) -> None:
    graphs.call(list)
    graph = graphs.finish(0)
    graph.outputs.append((7, 1))
    with pytest.raises(InvariantError, match="1 outputs are not finished"):
        run(graph)


# Parts of inputs --------------------------------------------------------------------------------


def layer(function: Any, count: int, **columns: Any) -> GraphLayer:
    name = function.__name__
    return GraphLayer(name, (count,), count, CALL_INPUTS, pack_callable(function), **columns)


def halves() -> Parts:
    return Parts([[1], [2, 3]])


def table() -> np.ndarray[Any, Any]:
    return np.arange(12).reshape(3, 4)


def zeroed(array: np.ndarray[Any, Any]) -> list[Any]:
    before = array.tolist()
    array[...] = 0
    return before  # type: ignore[no-any-return]


def test_tasks_take_the_parts_they_ask_for() -> None:
    graph = Graph()
    graph.add_layer(layer(halves, 1))
    graph.add_layer(layer(table, 1))
    slots = [Slot(1), Slot(3, 2)]
    boxes = [0, 0, 2, 1, 0, 4, 2, 1, 0, 3, 2, 3, 4, 1]
    graph.add_layer(layer(pair, 2, arity=2, indices=[0, 1, 0, 1], slots=slots, selections=boxes))
    graph.outputs = [(2, 2)]
    assert run(graph) == [([1], [[0, 2], [4, 6]]), ([2, 3], [[3], [11]])]


def pair(part: list[int], box: np.ndarray[Any, Any]) -> tuple[list[int], list[Any]]:
    return part, zeroed(box)


def test_tasks_take_all_of_a_layer_or_their_own_part_of_it() -> None:
    graph = Graph()
    graph.add_layer(layer(halves, 3))
    graph.add_layer(layer(joined, 2, whole=[0], whole_slots=[Slot(2)]))
    graph.add_layer(layer(joined, 1, whole=[1], whole_slots=[Slot()]))
    graph.outputs = [(3, 3)]
    assert run(graph) == [[1] * 3, [2, 3] * 3, [1, 1, 1, 2, 3, 2, 3, 2, 3]]


def joined(lists: list[list[int]]) -> list[int]:
    return [item for some in lists for item in some]


def test_a_part_that_is_not_there_fails_the_task() -> None:
    graph = Graph()
    graph.add_layer(layer(halves, 1))
    graph.add_layer(layer(list, 1, arity=1, indices=[0], slots=[Slot(1)], selections=[2]))
    graph.outputs = [(1, 1)]
    with pytest.raises(ProtocolError, match="part 2 was asked of a Parts that has 2 parts"):
        run(graph)


# Writing into inputs ----------------------------------------------------------------------------


def grown(items: list[int]) -> list[int]:
    items.append(len(items))
    return items


def test_a_task_that_writes_into_its_input_harms_nobody_else() -> None:
    base = delayed(list)((7,))
    assert compute(delayed(grown)(base), delayed(grown)(base), base) == ([7, 1], [7, 1], [7])


def test_an_array_that_others_take_is_copied() -> None:
    base = delayed(np.ones)((2, 3), order="F")
    first, second, kept = compute(delayed(zeroed)(base), delayed(zeroed)(base), base)
    assert first == second == kept.tolist() == [[1.0] * 3] * 2
    assert kept.flags.f_contiguous
    objects = delayed(np.array)([[1], None], dtype=object)
    again, once = compute(delayed(operator.getitem)(objects, 0), objects)
    assert again == once[0] == [1]
    assert again is not once[0]


def test_the_last_taker_gets_the_object_itself() -> None:
    lazy = delayed(note)(delayed(list)((1,)))
    result = delayed(note)(lazy).compute()
    assert result is seen[0] is seen[1]


@pytest.mark.parametrize("value", [5, "text", (1, "a"), None, np.float64(2.5), operator.add])
def test_what_cannot_change_is_not_copied(value: Any) -> None:
    same: list[Any] = [value]
    graph, _ = lower([delayed(operator.is_)(x := delayed(same.__getitem__)(0), x)])
    assert run(graph) == [True]


def test_what_cannot_be_pickled_is_shared() -> None:
    lock = delayed(threading.Lock)()
    first, second = compute(lock, delayed(note)(lock))
    assert first is second


def test_a_large_argument_that_was_packed_is_private_to_each_task() -> None:
    array = np.ones(50_000)
    lazy = delayed(array)
    calls = [delayed(zeroed_sum)(lazy), delayed(zeroed_sum)(lazy), lazy.sum()]
    assert run(lower(calls)[0]) == [50_000, 50_000, 50_000]
    both = [delayed(zeroed_sum)(array, 0), delayed(zeroed_sum)(array, 0)]
    assert run(lower(both)[0]) == [50_000] * 2
    assert array.all()


def zeroed_sum(array: np.ndarray[Any, Any], start: int = 0) -> float:
    total = float(array.sum()) + start
    array[...] = 0
    return total


def test_packed_arguments_must_be_those_that_were_planned(graphs: Graphs) -> None:
    x = graphs.call(list)
    call = pack_call((), {})._replace(form=CALL_PACKED_LAST, constant=None)
    task = graphs.builder.add_call("sorted", pack_callable(sorted), call, (x,))
    with pytest.raises(InvalidArgument, match="is a list; expected the LargeArgument"):
        run(graphs.finish(task))


# What is kept -----------------------------------------------------------------------------------

alive: weakref.WeakSet[Token] = weakref.WeakSet()


def make(*_: Token) -> Token:
    seen.append(len(alive))
    token = Token()
    alive.add(token)
    return token


def test_a_result_goes_when_its_last_taker_has_run() -> None:
    lazy = delayed(make)()
    for _ in range(50):
        lazy = delayed(make)(lazy)
    result = lazy.compute()
    assert list(alive) == [result]
    assert max(seen) == 1


def test_a_tree_holds_little_at_a_time() -> None:
    level = [delayed(make)() for _ in range(256)]
    while len(level) > 1:
        level = [delayed(make)(x, y) for x, y in zip(level[::2], level[1::2], strict=True)]
    level[0].compute()
    assert len(seen) == 511
    assert max(seen) <= 9


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def divide(token: Token, x: int) -> float:
    return x / 0


def test_nothing_stays_after_a_failure(no_collector: None) -> None:
    tokens = [delayed(make)() for _ in range(5)]
    lazies = [*tokens[1:], delayed(divide)(tokens[0], 1)]
    held = None
    try:
        compute(*lazies)
    except ZeroDivisionError:
        held = len(alive)
    assert len(seen) == 5
    assert held == 1  # the failed call's own input, which its frame shows to a debugger
    assert len(alive) == 0


# Failures ---------------------------------------------------------------------------------------


class Special(Exception):
    """Cannot be pickled and holds what it was made of."""

    def __init__(self, thing: Any) -> None:
        super().__init__("special")
        self.thing = thing

    def __reduce__(self) -> Any:
        raise TypeError("not this one")


def fails(x: int) -> int:
    local = x * 2
    return deeper(local)


def deeper(local: int) -> int:
    error = Special(threading.Lock())
    seen.append(error)
    raise error


def test_the_exception_of_a_task_is_the_object_it_raised() -> None:
    lazy = delayed(inc)(delayed(fails)(21))
    with pytest.raises(Special) as caught:
        lazy.compute()
    assert caught.value is seen[0]
    assert len(seen) == 1
    frames = traceback.extract_tb(caught.value.__traceback__)
    this = "test_the_exception_of_a_task_is_the_object_it_raised"
    assert [f.name for f in frames] == [this, "fails", "deeper"]
    assert caught.value.__context__ is None
    *_, below = traceback.walk_tb(caught.value.__traceback__)
    assert below[0].f_back is not None
    assert below[0].f_back.f_locals["local"] == 42


def test_an_exception_of_ours_or_of_c_code_keeps_its_message() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        delayed(operator.add)(1, "a").compute()


def test_nothing_runs_after_a_failure() -> None:
    lazies = [delayed(fails)(1), delayed(note)(0), delayed(note)(1)]
    with pytest.raises(Special):
        compute(*lazies)
    assert [type(x) for x in seen] == [Special]


def test_a_callable_that_does_not_load_fails_its_task(graphs: Graphs) -> None:
    bad = pack_callable(abs)._replace(digest=b"x" * 16, data=b"cnowhere_at_all\nf\n.")
    graph = Graph()
    graph.add_layer(GraphLayer("f", (), 1, CALL_INPUTS, bad))
    graph.outputs = [(0, 1)]
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        run(graph)


def interrupted(x: int) -> None:
    seen.append(x)
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_the_run_at_once(graphs: Graphs) -> None:
    lazies = [delayed(interrupted)(i) for i in range(3)]
    with pytest.raises(KeyboardInterrupt):
        compute(*lazies)
    assert seen == [0]
    assert delayed(inc)(1).compute() == 2


def test_a_task_that_exits_ends_the_program() -> None:
    with pytest.raises(SystemExit):
        delayed(sys.exit)(3).compute()


debugger: list[pdb.Pdb] = []


def stops(x: int) -> int:
    answer = x + 1
    debugger[0].set_trace()
    return answer


def test_a_debugger_stops_in_a_task() -> None:
    out = io.StringIO()
    orders = io.StringIO("p 'answer', answer\nup\np type(job).__name__\nc\n")
    made = pdb.Pdb(stdin=orders, stdout=out, nosigint=True, readrc=False)
    debugger[:] = [made]
    assert delayed(stops)(41).compute() == 42
    assert "('answer', 42)" in out.getvalue()


# Trying again -----------------------------------------------------------------------------------


def third_time(items: list[int]) -> list[int]:
    items.append(2)
    seen.append(list(items))
    if len(seen) < 3:
        raise ValueError(f"attempt {len(seen)}")
    return items


def one() -> list[int]:
    return [1]


def test_a_task_with_retries_finds_its_inputs_as_they_were(graphs: Graphs) -> None:
    x = graphs.call(one)
    y = graphs.call(third_time, x, retries=2)
    z = graphs.call(note, y)
    assert run(graphs.finish(z)) == [[1, 2]]
    assert seen == [[1, 2]] * 4


def test_when_the_attempts_are_used_up_the_last_exception_is_raised(graphs: Graphs) -> None:
    x = graphs.call(one)
    y = graphs.call(third_time, x, retries=1)
    with pytest.raises(ValueError, match="attempt 2"):
        run(graphs.finish(graphs.call(note, y)))


# Against a model --------------------------------------------------------------------------------


def mix(*inputs: list[int]) -> list[int]:
    """Write into all inputs, and return the first of them where there is one."""
    result = inputs[0] if inputs else []
    result.extend([sum(map(len, inputs)), *(item for some in inputs[1:] for item in some)][:20])
    for some in inputs[1:]:
        some.clear()
    return result


@st.composite
def dags(draw: st.DrawFn) -> list[list[int]]:
    """Return the inputs of each task, all of them before it, each at most once."""
    count = draw(st.integers(1, 25))
    return [
        draw(st.lists(st.integers(0, task - 1), unique=True, max_size=4)) if task else []
        for task in range(count)
    ]


@given(dags(), st.data())
def test_results_are_those_of_a_plain_evaluation(dag: list[list[int]], data: st.DataObject) -> None:
    outputs = data.draw(st.lists(st.integers(0, len(dag) - 1), unique=True, min_size=1))
    expected: list[list[int]] = []
    for inputs in dag:
        expected.append(mix(*(copy.deepcopy(expected[i]) for i in inputs)))
    graphs = Graphs()
    for inputs in dag:
        graphs.call(mix, *inputs, retries=data.draw(st.integers(0, 1)))
    graph = graphs.finish(*outputs)
    results = run(graph)
    assert results == [expected[task] for task in outputs]
    assert all(a is not b for a, b in pairwise(results))
