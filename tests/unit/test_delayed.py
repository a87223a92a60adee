"""Lazy calls: what is lazy, what comes out, and what is refused."""

from __future__ import annotations

import copy
import gc
import inspect
import operator
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.collection.base import lower
from zcluster.collection.compute import compute, persist, pop_runner, push_runner, visualize
from zcluster.delayed import Delayed, DelayedAttr, delayed
from zcluster.errors import InvalidArgument, InvalidGraph, NotSerializable
from zcluster.graph.layers import Graph, LargeArgument
from zcluster.protocol.callables import load_callable
from zcluster.protocol.calls import CALL_PACKED_LAST, make_call
from zcluster.protocol.objects import load

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
ran: list[str] = []


class Runner:
    """Runs a graph by rank in this process, and counts."""

    def __init__(self) -> None:
        self.tasks = 0
        self.imports: list[Any] = []

    def run_graph(self, graph: Graph, **kwargs: Any) -> list[Any]:
        ranked = []
        for layer in graph.layers:
            for p in range(layer.count):
                rank = layer.first + p if layer.orders is None else int(layer.orders[p])
                ranked.append((rank, p, layer))
        self.tasks = len(ranked)
        self.imports = graph.imports
        results: dict[int, Any] = {}
        for _, p, layer in sorted(ranked, key=lambda item: item[0]):
            function = None if layer.function is None else load_callable(layer.function.data)
            inputs = []
            for i in layer.inputs(p):
                value = results[i] if i >= 0 else graph.imports[~i]
                if isinstance(value, LargeArgument):
                    blob = value.plan.tobytes()
                    value = blob if layer.call == CALL_PACKED_LAST else load(blob)
                inputs.append(value)
            results[layer.first + p] = make_call(layer.call, function, layer.constant(p), inputs)
        return [results[t] for first, count in graph.outputs for t in range(first, first + count)]


@pytest.fixture(autouse=True)
def runner() -> Iterator[Runner]:
    made = Runner()
    push_runner(made)
    yield made
    pop_runner(made)


def inc(x: Any) -> Any:
    """Add one."""
    ran.append("inc")
    return x + 1


def add(x: Any, y: Any = 10) -> Any:
    return x + y


def total(values: Any) -> Any:
    return sum(values)


# What people write ---------------------------------------------------------------------------


def test_a_delayed_call_is_made_at_compute_and_not_before() -> None:
    ran.clear()
    lazy = delayed(inc)(10000)
    picture = visualize(lazy, filename=None)
    assert ran == []
    assert picture.tasks == 1
    assert compute(lazy) == (10001,)
    assert lazy.compute() == 10001


def test_the_repr_is_the_function_and_a_uuid() -> None:
    lazy = delayed(add)(5, 6)
    assert re.fullmatch(rf"Delayed\('add-{UUID}'\)", repr(lazy))
    assert lazy.key == lazy.key
    assert lazy.key != delayed(add)(5, 6).key
    assert lazy.compute() == 11


def test_the_program_with_plain_values() -> None:
    """Inc runs at once, in the client; only the operators are lazy."""
    results = []
    for i in range(20):
        x = delayed(inc(i))
        y = delayed(x - 1)
        z = delayed(operator.add(x, y))
        results.append(z.compute())
    assert results == list(range(1, 40, 2))


def test_the_program_with_decorators(runner: Runner) -> None:
    @delayed
    def up(x: int) -> int:
        return x + 1

    @delayed
    def down(x: int) -> int:
        return x - 1

    @delayed
    def both(x: int, y: int) -> int:
        return x + y

    lazies = [both(up(i), down(i)) for i in range(20)]
    assert list(compute(*lazies)) == list(range(0, 40, 2))
    assert runner.tasks == 60
    assert compute(lazies) == (list(range(0, 40, 2)),)
    assert visualize(lazies[:5], filename=None).tasks == 15


def test_the_decorator_keeps_name_documentation_and_signature() -> None:
    lazy = delayed(inc)
    assert lazy.__name__ == "inc"
    assert lazy.__doc__ == "Add one."
    assert lazy.__wrapped__ is inc
    assert inspect.signature(lazy) == inspect.signature(inc)
    assert "lazy" not in (Delayed.__doc__ or "lazy")


def test_the_decorator_takes_options() -> None:
    @delayed(nout=2, pure=True)
    def halves(x: int) -> tuple[int, int]:
        return x // 2, x - x // 2

    low, high = halves(7)
    assert compute(low, high) == (3, 4)
    assert halves(7).key == halves(7).key


def test_a_delayed_function_in_a_class_is_a_method() -> None:
    class Counter:
        start = 5

        @delayed
        def plus(self, x: int) -> int:
            return self.start + x

    assert Counter().plus(2).compute() == 7


def test_methods_classes_partials_and_callable_objects_can_be_delayed() -> None:
    class Scale:
        def __call__(self, x: int) -> int:
            return 3 * x

    assert delayed("a b".split)().compute() == ["a", "b"]
    assert delayed(str.upper)("x").compute() == "X"
    assert delayed(dict)(a=1).compute() == {"a": 1}
    lazy = delayed(Scale())(4)
    assert lazy.compute() == 12
    assert lazy.key.startswith("scale-")
    assert delayed(lambda x: -x)(4).key.startswith("lambda-")


# Values ---------------------------------------------------------------------------------------


@dataclass
class Record:
    value: Any
    rest: Any = None


def test_a_value_stays_a_value_and_a_delayed_stays_itself() -> None:
    lazy = delayed(5)
    assert delayed(lazy) is lazy
    assert lazy.compute() == 5
    assert lazy.key.startswith("int-")
    assert delayed(None).compute() is None
    assert delayed(inc).compute()(1) == 2
    assert delayed("t" * 100_000).compute() == "t" * 100_000
    array = np.arange(100_000)
    assert (delayed(array).sum().compute()) == array.sum()


def test_lazy_values_are_inputs_wherever_they_stand(runner: Runner) -> None:
    x, y = delayed(inc)(1), delayed(inc)(2)
    assert delayed(total)([x, y, 5]).compute() == 10
    assert delayed(total)({x: 1, 7: y}).compute() == 9
    assert delayed(lambda d: d["k"][0])({"k": (x, y)}).compute() == 2
    assert delayed(lambda r: (r.value, r.rest[0]))(Record(x, [y])).compute() == (2, 3)
    assert delayed(add)(x, y=y).compute() == 5
    assert delayed(add)(x, x).compute() == 4
    assert runner.tasks == 2


def test_a_container_of_lazy_values_is_lazy() -> None:
    x = delayed(inc)(1)
    assert delayed([x, (x, 3), {"k": x}]).compute() == [2, (2, 3), {"k": 2}]
    assert delayed(Record(x)).compute() == Record(2)
    assert delayed((x, 1))[0].compute() == 2
    assert delayed([1, 2]).key.startswith("list-")


def test_without_traverse_lazy_values_inside_stay_lazy() -> None:
    x = delayed(inc)(1)
    (inside,) = delayed([x], traverse=False).compute()
    assert isinstance(inside, Delayed)
    assert inside.key == x.key
    assert inside.compute() == 2
    assert compute(inside + x) == (4,)


def test_plain_arguments_are_read_when_it_is_computed() -> None:
    values = [1, 2]
    lazy = delayed(total)(values)
    values.append(3)
    assert lazy.compute() == 6
    values.append(4)
    assert lazy.compute() == 10


def test_large_arguments_are_imports(runner: Runner) -> None:
    text = "t" * 100_000
    assert delayed(add)(delayed(add)("a", "b"), text).compute() == "ab" + text
    assert [type(value) for value in runner.imports] == [LargeArgument]


def test_what_cannot_travel_is_named(runner: Runner) -> None:
    import threading

    with pytest.raises(NotSerializable, match=r"args\[0\].*lock"):
        delayed(inc)([threading.Lock()]).compute()


# Lazy operations ------------------------------------------------------------------------------

BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.lshift,
    operator.rshift,
    operator.and_,
    operator.or_,
    operator.xor,
    divmod,
]
COMPARED = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
UNARY = [operator.neg, operator.pos, operator.invert, abs, round]


@pytest.mark.parametrize("function", BINARY + COMPARED)
def test_operators_are_lazy_on_both_sides(function: Any) -> None:
    x, y = delayed(13), delayed(3)
    for lazy in (function(x, y), function(x, 3), function(13, y)):
        assert isinstance(lazy, Delayed)
        assert lazy.compute() == function(13, 3)


@pytest.mark.parametrize("function", UNARY)
def test_operators_of_one_value_are_lazy(function: Any) -> None:
    lazy = function(delayed(-13))
    assert isinstance(lazy, Delayed)
    assert lazy.compute() == function(-13)


def test_operators_have_names_and_matrices_too() -> None:
    x = delayed(2)
    assert (x + 1).key.startswith("add-")
    assert (1 - x).key.startswith("sub-")
    assert x[0].key.startswith("getitem-")
    a = np.arange(4).reshape(2, 2)
    assert ((delayed(a) @ a).compute() == a @ a).all()
    assert ((a @ delayed(a)).compute() == a @ a).all()
    assert (np.float64(3) * x).compute() == 6


def test_attributes_items_and_methods_are_lazy() -> None:
    x = delayed(3 + 4j)
    assert isinstance(x.imag, DelayedAttr)
    assert x.imag.compute() == 4
    assert x.conjugate().compute() == 3 - 4j
    assert x.conjugate().key.startswith("conjugate-")
    words = delayed("a-b-c")
    assert words.split("-", maxsplit=1)[1].compute() == "b-c"
    assert delayed([5, 6, 7])[delayed(1) : delayed(3)].compute() == [6, 7]
    assert delayed({"f": inc})["f"](1).compute() == 2


def test_names_with_an_underscore_are_not_lazy() -> None:
    x = delayed(1)
    assert not hasattr(x, "_repr_html_")
    assert not hasattr(x, "__array__")


@pytest.mark.parametrize("use", [bool, len, list, iter, lambda x: 1 in x, lambda x: x and 1])
def test_what_would_need_the_value_is_refused(use: Any) -> None:
    with pytest.raises(TypeError, match="compute"):
        use(delayed(inc)(1))


def test_a_delayed_does_not_change() -> None:
    x = delayed(inc)(1)
    with pytest.raises(TypeError, match="does not change"):
        x.attribute = 1
    with pytest.raises(TypeError, match="does not change"):
        x[0] = 1


def test_the_number_of_parts_allows_unpacking() -> None:
    a, b = delayed(divmod, nout=2)(17, 5)
    assert compute(a, b) == (3, 2)
    assert len(delayed(divmod, nout=2)(17, 5)) == 2
    assert list(delayed(list, nout=0)()) == []
    first, second = delayed((1, 2), nout=2)
    assert (first + second).compute() == 3
    bad: Any
    for bad in (-1, 1.5, True, "2"):
        with pytest.raises(InvalidArgument, match="nout="):
            delayed(divmod, nout=bad)


# Names ----------------------------------------------------------------------------------------


def test_pure_calls_are_named_by_what_they_compute_and_made_once(runner: Runner) -> None:
    pure = delayed(add, pure=True)
    x, y = pure(1, 2), pure(1, 2)
    assert x.key == y.key
    assert x.key != pure(1, 3).key
    assert delayed(add)(1, 2, pure=True).key == x.key
    assert pure(1, 2, pure=False).key != x.key
    assert pure(x, 1).key == pure(y, 1).key
    assert compute(x, y, pure(x, 1), pure(y, 1)) == (3, 3, 4, 4)
    assert runner.tasks == 2
    assert delayed(5, pure=True).key == delayed(5, pure=True).key
    graph, _ = lower([x, delayed(add)(1, 2)])
    assert [layer.shared for layer in graph.layers] == [True, False]


@pytest.mark.parametrize("word", ["dask_key_name", "zcluster_key_name"])
def test_a_call_can_be_given_its_key(word: str) -> None:
    lazy = delayed(add)(1, 2, **{word: "three"})
    assert lazy.key == "three"
    assert lazy.compute() == 3
    assert list(lazy.dask) == ["three"]
    assert delayed(5, name="five").key == "five"
    with pytest.raises(InvalidArgument, match="not empty"):
        delayed(add)(1, 2, **{word: 3})


def test_two_calls_of_one_given_key_are_refused() -> None:
    x = delayed(inc)(1, dask_key_name="x")
    assert compute(x, x) == (2, 2)
    with pytest.raises(InvalidGraph, match="'x'"):
        compute(x, delayed(inc)(2, dask_key_name="x"))


def test_the_graph_is_a_mapping_from_keys_to_tasks() -> None:
    x = delayed(inc)(1)
    y = x + 5
    assert dict(y.dask) == {x.key: (inc, 1), y.key: (operator.add, x.key, 5)}


def test_calls_of_one_function_share_a_layer() -> None:
    graph, _ = lower([(delayed(i) - 1) * 2 for i in range(10)])
    assert sorted((layer.name, layer.count) for layer in graph.layers) == [
        ("mul", 10),
        ("sub", 10),
        ("value", 10),
    ]


# Long chains and copies -------------------------------------------------------------------


def test_long_chains_are_computed_pickled_and_dropped_without_recursion(runner: Runner) -> None:
    length = 20_000
    chain = delayed(inc)(0)
    for _ in range(length):
        chain = chain + 1
    graph, _ = lower([chain])
    assert graph.count == length + 1
    assert len(graph.layers) < 20
    twin = pickle.loads(pickle.dumps(chain))
    assert twin.key == chain.key
    del graph, chain, twin, _
    gc.collect()


def test_a_pickled_delayed_is_the_same_computation() -> None:
    x = delayed(inc)(1)
    text = "t" * 100_000
    lazy = delayed(add, nout=2)([x, x], delayed(list)((x * 3, delayed(text))))
    twin = pickle.loads(pickle.dumps(lazy))
    assert twin.key == lazy.key
    assert twin.compute() == lazy.compute() == [2, 2, 6, text]
    first, _ = twin
    assert first.compute() == 2
    assert pickle.loads(pickle.dumps(twin)).compute() == twin.compute()
    named = delayed(inc)(1, dask_key_name="named")
    assert compute(named, pickle.loads(pickle.dumps(named))) == (2, 2)


def test_copies_are_the_same_object() -> None:
    x = delayed(inc)(1)
    assert copy.copy(x) is x
    assert copy.deepcopy([x])[0] is x


def test_a_future_in_a_container_is_an_import() -> None:
    class Held:
        __zcluster_input__ = True

        def __reduce__(self) -> Any:
            from zcluster.protocol.calls import reduce_as_input

            return reduce_as_input(self)

    held = Held()
    for lazy in (delayed([held]), delayed(held), delayed(inc)(held)):
        graph, _ = lower([lazy])
        assert graph.imports == [held]


# Any expression -------------------------------------------------------------------------------

OPERATIONS: list[Any] = [operator.add, operator.sub, operator.mul, max]


@given(
    start=st.integers(-9, 9),
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 99), st.integers(0, 99), st.booleans()),
        max_size=12,
    ),
)
def test_any_expression_gives_what_python_gives(
    start: int, steps: list[tuple[int, int, int, bool]]
) -> None:
    values: list[Any] = [start]
    lazies: list[Any] = [delayed(start)]
    for op, a, b, as_call in steps:
        function = OPERATIONS[op]
        a %= len(values)
        right, lazy_right = (values[b % len(values)], lazies[b % len(values)])
        if b % 3 == 0:
            right = lazy_right = b
        values.append(function(values[a], right))
        if as_call or function is max:
            lazies.append(delayed(function)(lazies[a], lazy_right))
        else:
            lazies.append(function(lazies[a], lazy_right))
    own = Runner()
    assert list(compute(*lazies, scheduler=own)) == values
    assert own.tasks <= len(values)


# The module that can be called --------------------------------------------------------------

IMPORTS = [
    "import zcluster.delayed; from zcluster.delayed import Delayed",
    "from zcluster.delayed import Delayed; import zcluster.delayed",
    "from zcluster.delayed import Delayed, delayed; import zcluster",
]


def test_a_task_may_use_the_module_itself() -> None:
    def nested(number: int) -> Any:
        return callable_module(abs)(-number).compute()

    callable_module: Any = sys.modules["zcluster.delayed"]
    assert delayed(nested)(3).compute() == 3
    assert pickle.loads(pickle.dumps(callable_module)) is callable_module


@pytest.mark.parametrize("imports", IMPORTS)
def test_the_module_can_be_called_in_any_order_of_imports(imports: str) -> None:
    code = f"""
import sys
{imports}
lazy = zcluster.delayed(abs)(-1)
assert isinstance(lazy, Delayed), lazy
import zcluster.delayed
assert isinstance(zcluster.delayed(5), Delayed)
@zcluster.delayed(pure=True)
def f(x): return x
assert f(1).key == f(1).key
heavy = {{"numpy", "asyncio", "pandas", "multiprocessing", "zmq"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def test_persisted_collections_have_their_results_in_them(tmp_path: Path) -> None:
    def note(x: int) -> int:
        with (tmp_path / "calls").open("a") as file:
            file.write(f"{x}\n")
        return x * 10

    lazy: dict[str, Any] = {"a": delayed(note)(1), "b": [delayed(note)(2), 3]}
    (kept,) = persist(lazy, scheduler="sync")
    assert kept["b"][1] == 3
    assert kept["a"].key == lazy["a"].key
    assert compute(kept, scheduler="sync") == ({"a": 10, "b": [20, 3]},)
    assert (kept["a"] + kept["b"][0]).compute(scheduler="sync") == 30
    assert sorted((tmp_path / "calls").read_text().split()) == ["1", "2"]  # once each
    assert lazy["a"].persist(scheduler="threads").compute(scheduler="sync") == 10
    assert persist(1, [2]) == (1, [2])
