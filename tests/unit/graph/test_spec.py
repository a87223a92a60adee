"""Hand-written graphs give what the specification says, against a plain recursive evaluator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from operator import add, mul
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.errors import InvalidGraph
from zcluster.graph.spec import fill, from_dict, get_dependencies, istask, order, toposort

Run = Callable[..., list[Any]]


def inc(x: int) -> int:
    return x + 1


def get(run: Run, dsk: Mapping[Any, Any], keys: Any, cull: bool = True) -> Any:
    graph, numbers = from_dict(dsk, keys, cull=cull)
    return fill(numbers, graph, run(graph))


def evaluated(dsk: Mapping[Any, Any], value: Any) -> Any:
    """Evaluate a computation in the plainest way there is."""
    if type(value) is list:
        return [evaluated(dsk, item) for item in value]
    if istask(value):
        return value[0](*[evaluated(dsk, item) for item in value[1:]])
    try:
        if value in dsk:
            return evaluated(dsk, dsk[value])
    except TypeError:
        return value
    return value


PROGRAMS: list[tuple[Mapping[Any, Any], Any, Any]] = [
    ({"y": (add, 2, "x"), "x": (add, 2, 3)}, "y", 7),
    ({"y": (add, 2, (add, 2, 3))}, "y", 7),
    ({"y": (add, "x", (mul, "x", (inc, "x"))), "x": 3}, "y", 15),
    ({"x": (2, 3)}, "x", (2, 3)),
    ({("x", 0): 1, ("x", 1): (add, ("x", 0), 10)}, ("x", 1), 11),
    ({1: (inc, 2), 2: 5}, 1, 6),
    ({b"k": (inc, 2)}, b"k", 3),
    ({"x": 1, "y": 2, "s": (sum, ["x", "y", 10])}, "s", 13),
    ({"x": 1, "l": ["x", ["x", 5], (inc, "x")]}, "l", [1, [1, 5], 2]),
    ({"x": 1, "l": ["x", "z"]}, "l", [1, "z"]),
    ({"x": [1, 2, "other"]}, "x", [1, 2, "other"]),
    ({"x": 1, "l": (len, [(inc, "x"), "x"])}, "l", 2),
    ({"x": 1, "a": "x", "b": "a", "y": (inc, "b")}, ["a", "b", "y"], [1, 1, 2]),
    ({"x": (str.split, "a b")}, "x", ["a", "b"]),
    ({"x": ("a,b".split, ",")}, "x", ["a", "b"]),
    ({"x": (partial(add, 1), 4)}, "x", 5),
    ({"x": (dict,)}, "x", {}),
    ({"x": (lambda a, b: a - b, 9, "y"), "y": 4}, "x", 5),
    ({"x": ({"a": 1}.get, "a")}, "x", 1),
    ({"x": (isinstance, 3, int)}, "x", True),
    ({"x": (dict, [["a", "y"]]), "y": 8}, "x", {"a": 8}),
    ({"x": None, "y": (lambda v: v is None, "x")}, "y", True),
    ({"x": "some text", "n": (len, "x"), "m": (len, "text")}, ["n", "m"], [9, 4]),
    ({"x": 1}, [], []),
    ({"x": 1, "y": 2}, ["y", ["x", "y"], []], [2, [1, 2], []]),
    ({"d": (list, {"a": 1})}, "d", ["a"]),
]


@pytest.mark.parametrize(("dsk", "keys", "expected"), PROGRAMS)
def test_programs_give_what_the_specification_says(
    run: Run, dsk: Mapping[Any, Any], keys: Any, expected: Any
) -> None:
    assert get(run, dsk, keys) == expected


def test_nan_survives_as_a_literal(run: Run) -> None:
    assert math.isnan(get(run, {"x": math.nan, "y": (add, "x", math.nan)}, "y"))


def test_large_literals_travel_as_imports(run: Run) -> None:
    text = "t" * 100_000
    dsk = {"x": text, "n": (len, "x"), "y": (add, "n", 1), "z": (str.count, text, "t")}
    graph, numbers = from_dict(dsk, ["n", "y", "z"])
    assert len(graph.imports) == 2
    assert fill(numbers, graph, run(graph)) == [100_000, 100_001, 100_000]


def test_only_what_is_wanted_runs_unless_told_otherwise(run: Run) -> None:
    dsk = {"x": 1, "y": (inc, "x"), "z": (mul, "x", 5), "w": (inc, "z")}
    names: list[str] = []
    graph, _ = from_dict(dsk, "y")
    run(graph, names.append)
    assert names == ["value", "inc"]
    assert get(run, dsk, "y", cull=False) == 2
    graph, _ = from_dict(dsk, "y", cull=False)
    names.clear()
    run(graph, names.append)
    assert sorted(names) == ["inc", "inc", "mul", "value"]


class Lazy(Mapping[Any, Any]):
    """A mapping that makes each task when it is asked for, as one that spills does."""

    def __getitem__(self, key: Any) -> Any:
        if key not in self:
            raise KeyError(key)
        return (inc, f"k{int(key[1:]) - 1}") if key != "k0" else (int, 0)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.startswith("k") and 0 <= int(key[1:]) < 50

    def __iter__(self) -> Iterator[str]:
        return (f"k{i}" for i in range(50))

    def __len__(self) -> int:
        return 50


def test_any_mapping_is_a_graph(run: Run) -> None:
    assert get(run, Lazy(), "k49") == 49


@pytest.mark.parametrize(
    ("dsk", "keys", "says"),
    [
        ({"a": (inc, "b"), "b": (inc, "c"), "c": (inc, "a")}, "a", "cycle: 'a' → 'b' → 'c' → 'a'"),
        ({"a": "b", "b": "a"}, "a", "cycle"),
        ({"a": "a"}, "a", "cycle: 'a' → 'a'"),
        ({"x": 1}, ["x", "y"], "no key 'y'"),
        ({"x": 1}, {"x"}, "not hashable"),
        ({(inc, 1): 2}, [(inc, 1)], "is a task"),
    ],
)
def test_what_is_no_graph_is_refused(dsk: Mapping[Any, Any], keys: Any, says: str) -> None:
    with pytest.raises(InvalidGraph, match=says):
        from_dict(dsk, keys)


def test_tasks_nested_too_deep_are_refused_with_advice() -> None:
    task: Any = 1
    for _ in range(100_000):
        task = (inc, task)
    with pytest.raises(InvalidGraph, match="keys of their own"):
        from_dict({"x": task}, "x")
    while type(task) is tuple:
        task = task[1]


def test_chains_of_keys_do_not_recurse() -> None:
    length = 100_000
    dsk: dict[Any, Any] = {("x", i): (inc, ("x", i - 1)) for i in range(1, length)}
    dsk["x", 0] = (int,)
    graph, number = from_dict(dsk, ("x", length - 1))
    assert graph.count == length
    assert graph.key(number) == "('x', 99999)"
    part = {("x", i): dsk["x", i] for i in range(5000)}
    assert toposort(part)[-1] == ("x", 4999)


def test_tasks_of_one_function_stand_in_one_layer() -> None:
    dsk: dict[Any, Any] = {("a", i): (inc, i) for i in range(8, 16)}
    for i in range(1, 8):
        dsk["a", i] = (add, ("a", 2 * i), ("a", 2 * i + 1))
    graph, _ = from_dict(dsk, ("a", 1))
    assert [(layer.name, layer.count) for layer in graph.layers] == [("inc", 8), ("add", 7)]
    assert graph.layers[0].key(0) in {f"('a', {i})" for i in range(8, 16)}


@st.composite
def dicts(draw: st.DrawFn) -> dict[Any, Any]:
    dsk: dict[Any, Any] = {}
    literals = st.one_of(
        st.integers(-(2**70), 2**70), st.floats(-9, 9), st.booleans(), st.just("text"), st.none()
    )
    for number in range(draw(st.integers(1, 12))):
        names = st.sampled_from(list(dsk)) if dsk else st.nothing()
        arguments = st.recursive(
            st.one_of(names, literals),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.lists(inner, max_size=3).map(lambda items: (gather, *items)),
            ),
            max_leaves=5,
        )
        key = draw(st.sampled_from([f"k{number}", ("k", number), number + 100]))
        dsk[key] = draw(
            st.one_of(
                arguments,
                st.lists(arguments, max_size=4).map(lambda items: (gather, *items)),
            )
        )
    return dsk


def gather(*items: Any) -> tuple[Any, ...]:
    return ("gathered", *items)


@settings(deadline=None, max_examples=50)
@given(dsk=dicts(), data=st.data())
def test_any_graph_gives_what_plain_evaluation_gives(
    run: Run, dsk: dict[Any, Any], data: st.DataObject
) -> None:
    keys = data.draw(st.lists(st.sampled_from(list(dsk)), max_size=4))
    expected = [evaluated(dsk, key) for key in keys]
    assert get(run, dsk, keys) == expected
    for names in (toposort(dsk), list(order(dsk))):
        places = {key: place for place, key in enumerate(names)}
        assert len(places) == len(dsk)
        assert all(places[d] < places[k] for k in dsk for d in get_dependencies(dsk, k))


def test_the_child_upon_which_most_depends_comes_first() -> None:
    fan: dict[Any, Any] = {"lone": 1, "popular": 2, "z": (add, "lone", "popular")}
    fan |= {f"other{i}": (inc, "popular") for i in range(3)}
    ranks = order(fan)
    assert ranks["popular"] < ranks["lone"] < ranks["z"]


def test_what_was_made_ready_last_runs_first() -> None:
    """A chain runs to its end before the next is begun."""
    chains: dict[Any, Any] = {(c, 0): i for i, c in enumerate("ab")}
    chains |= {(c, i): (inc, (c, i - 1)) for c in "ab" for i in (1, 2, 3)}
    assert [key[0] for key in order(chains)] == ["a"] * 4 + ["b"] * 4
