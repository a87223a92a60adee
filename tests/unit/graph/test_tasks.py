"""Hand-written tasks are read without running anything."""

from __future__ import annotations

from functools import partial
from operator import add

import pytest

from zcluster.errors import InvalidGraph
from zcluster.graph.tasks import (
    computation,
    flatten,
    get_dependencies,
    ishashable,
    istask,
    sorted_numbers,
    taken_keys,
)


@pytest.mark.parametrize("front", [add, int, len, partial(add, 1), lambda: 0, "a".split])
def test_a_tuple_with_a_callable_in_front_is_a_task(front: object) -> None:
    assert istask((front, 1))


@pytest.mark.parametrize("value", [(), (2, 3), ("x", 0), [add, 1], add, None, {"a": (add,)}])
def test_anything_else_is_data(value: object) -> None:
    assert not istask(value)


def test_dependencies_are_found_in_lists_and_nested_tasks_and_nowhere_else() -> None:
    dsk = {"a": 1, "b": 2, ("c", 0): 3, "d": None}
    task = (add, ["a", ["b", (add, ("c", 0), "a")]], {"x": "d"}, ("d", "d"), "nothing", None)
    assert get_dependencies(dsk, task=task) == {"a", "b", ("c", 0)}
    assert get_dependencies(dsk, task=task, as_list=True) == ["a", "b", ("c", 0), "a"]
    assert get_dependencies(dsk | {"z": task}, "z") == {"a", "b", ("c", 0)}
    assert taken_keys(dsk, None) == []


def test_a_missing_key_is_named_with_those_like_it() -> None:
    dsk = {"total": 1, ("x", 0): 2}
    with pytest.raises(InvalidGraph, match=r"no key 'totl'; did you mean 'total'\?"):
        computation(dsk, "totl")
    with pytest.raises(InvalidGraph, match=r"did you mean \('x', 0\)\?"):
        computation(dsk, ("x", 1))
    with pytest.raises(InvalidGraph, match="one of its 2 keys, such as 'total'"):
        computation(dsk, 99)


def test_what_is_not_hashable_cannot_be_a_key() -> None:
    assert not ishashable(["x"])
    assert ishashable(("x", 1))
    with pytest.raises(InvalidGraph, match="a dict is not hashable"):
        computation({}, {"x": 1})


def test_sorting_puts_dependencies_first_and_names_a_cycle() -> None:
    assert sorted_numbers("abc", [[1, 2], [2], []]) == [2, 1, 0]
    with pytest.raises(InvalidGraph, match="'b' → 'c' → 'b'"):
        sorted_numbers("abcd", [[1], [2], [1, 3], []])


def test_a_long_cycle_is_shortened() -> None:
    keys = [f"k{i}" for i in range(1000)]
    with pytest.raises(InvalidGraph, match="more …") as caught:
        sorted_numbers(keys, [[(i + 1) % 1000] for i in range(1000)])
    assert len(str(caught.value)) < 400


def test_nested_lists_are_flattened() -> None:
    assert list(flatten([1, [2, [(3, 4)]], []])) == [1, 2, (3, 4)]
    assert list(flatten("x")) == ["x"]
