"""Calls of the very objects: what is an input, what is made anew, and what is left alone."""

from __future__ import annotations

import pickle
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from zcluster.protocol.calls import reduce_as_input
from zcluster.protocol.held import (
    Nested,
    container_parts,
    evaluate,
    hold_call,
    passes_objects,
    passing_objects,
)

Pair = namedtuple("Pair", "left right")


class Place:
    """Stands for an input."""

    __zcluster_input__ = True

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_as_input(self)


@dataclass
class Point:
    x: Any
    y: Any = 0


def given(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def made(args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Sequence[Any]) -> Any:
    return hold_call(given, args, kwargs)[0].make(inputs)


nothing: tuple[Any, ...] = ()


def test_it_is_wanted_for_a_while_only() -> None:
    with passing_objects(True):
        with passing_objects(False):
            assert not passes_objects()
        assert passes_objects()
    with pytest.raises(ValueError, match="x"), passing_objects(True):
        raise ValueError("x")
    assert not passes_objects()


def test_arguments_without_inputs_are_the_very_objects() -> None:
    args = ([[1]], {"a": [2]}, Point([3]), Pair(4, []), {5}, object(), iter(nothing))
    call, inputs = hold_call(given, args, {"key": args[0]})
    assert inputs == []
    got, keywords = call.make([])
    assert all(one is other for one, other in zip(got, args, strict=True))
    assert keywords["key"] is args[0]


def test_inputs_are_found_in_containers() -> None:
    one, two = Place(), Place()
    fixed = [object()]
    args: tuple[Any, ...] = (
        one,
        [two, (one, fixed)],
        {"a": {one}, two: frozenset([two])},
        Point(one, y=fixed),
        Pair(two, 1),
        slice(one, None, 2),
    )
    call, inputs = hold_call(given, args, {"key": [two]})
    assert inputs == [one, two]
    got, keywords = call.make(["i", "j"])
    assert got == (
        "i",
        ["j", ("i", fixed)],
        {"a": {"i"}, "j": frozenset("j")},
        Point("i", fixed),
        Pair("j", 1),
        slice("i", None, 2),
    )
    assert got[1][1][1] is fixed
    assert keywords == {"key": ["j"]}


def test_one_object_is_one_input() -> None:
    place, result = Place(), object()
    for args in ((place, place), (place, place, 1), (place, [place])):
        call, inputs = hold_call(given, args, {})
        assert inputs == [place]
        got, _ = call.make([result])
        assert got[0] is result
        assert got[1] in (result, [result])


def test_inputs_alone_are_passed_as_they_come() -> None:
    places = (Place(), Place())
    call, inputs = hold_call(given, places, {})
    assert call.args is None
    assert inputs == list(places)
    assert call.make([1, 2]) == ((1, 2), {})


def test_what_contains_itself_is_passed_on() -> None:
    ring: list[Any] = [object()]
    ring.append(ring)
    assert made((ring,), {}, [])[0][0] is ring


def test_what_is_not_made_to_its_end_is_no_container() -> None:
    unfinished = object.__new__(Point)
    assert container_parts(unfinished) is None
    assert container_parts(Point) is None
    assert container_parts("text") is None


def test_nested_calls_are_made_with_the_outer_one() -> None:
    place = Place()
    inner = Nested(max, [place, Nested(len, ["abc"])])
    assert made((inner, [inner]), {}, [2]) == ((3, [3]), {})
    assert evaluate([inner]) == [inner]


def test_a_call_can_be_pickled_if_its_objects_can() -> None:
    call, _ = hold_call(given, ([Place()], Point(Place())), {"key": {"a": Place()}})
    copy = pickle.loads(pickle.dumps(call))
    assert copy.make([1, 2, 3]) == (([1], Point(2)), {"key": {"a": 3}})
