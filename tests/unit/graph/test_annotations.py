"""What users may wish, and where their wishes go."""

from __future__ import annotations

from typing import Any

import pytest

import zcluster
from zcluster.errors import InvalidArgument
from zcluster.graph.annotations import annotate, current_options, get_annotations, options_from
from zcluster.graph.layers import DEFAULT_OPTIONS, Options
from zcluster.protocol.messages import Needs


def test_nothing_wished_is_the_usual() -> None:
    assert current_options() is DEFAULT_OPTIONS
    assert options_from({"retries": 0, "threads": 1, "resources": None}) is DEFAULT_OPTIONS


def test_wishes_become_one_record() -> None:
    wishes = {
        "workers": "w1",
        "priority": -3,
        "resources": {"GPU": 1},
        "retry_on": (KeyError, OSError),
        "retry_delay": 0.5,
        "timeout": "2 min",
        "at_most_once": True,
    }
    assert options_from(wishes) == Options(
        ("w1",),
        False,
        0,
        -3,
        Needs({"GPU": 1.0}, 1, False, ["builtins.KeyError", "builtins.OSError"], 0.5, 120.0, True),
    )


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"retries": -1}, "retries is -1, expected a whole number from 0 on"),
        ({"retries": "2"}, "retries is '2'"),
        ({"priority": 1.5}, "priority is 1.5, expected a whole number"),
        ({"threads": 0}, "threads is 0, expected a whole number from 1 on"),
        ({"resources": "GPU"}, "expected a dict such as"),
        ({"resources": {"GPU": 0}}, "an amount above zero"),
        ({"resources": {1: 1}}, "a name and an amount"),
        ({"retry_on": "ValueError"}, "expected an exception class"),
        ({"retry_delay": -1}, "expected seconds from 0 on"),
        ({"retry_delay": float("nan")}, "expected seconds from 0 on"),
        ({"workers": 1.5}, "expected a name or a list of names"),
        ({"timeout": 0}, "timeout is 0, expected seconds above zero"),
        ({"timeout": -1.0}, "timeout is -1.0, expected seconds above zero"),
        ({"timeout": float("inf")}, "timeout is inf, expected"),
        ({"timeout": True}, "timeout is True, expected"),
        ({"timeout": "soon"}, "timeout is 'soon', expected seconds above zero, or a text"),
        ({"timeout": [1]}, r"timeout is \[1\], expected"),
        ({"at_most_once": True, "retries": 1}, "at_most_once=True with retries=1, expected one"),
    ],
)
def test_what_cannot_be_meant_is_said_at_the_call(wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        options_from(wishes)
    with pytest.raises(InvalidArgument, match=message), annotate(**wishes):
        pass
    assert current_options() is DEFAULT_OPTIONS


def test_what_contradicts_an_outer_block_is_said_too() -> None:
    outer = "at_most_once=True with retries=2"
    with annotate(retries=2), pytest.raises(InvalidArgument, match=outer), annotate(at_most_once=1):
        pass
    with annotate(retries=2), annotate(retries=0, at_most_once=True, timeout=5):
        assert current_options() == Options(needs=Needs(timeout=5.0, at_most_once=True))
    with annotate(timeout=5), annotate(timeout=None):
        assert current_options() == DEFAULT_OPTIONS


def test_a_wish_that_nobody_knows_is_refused_for_a_call() -> None:
    with pytest.raises(InvalidArgument, match="the wish 'colour', expected one of actor, allow"):
        options_from({"colour": 1})


def test_annotations_may_be_anything_and_only_wishes_count() -> None:
    with annotate(colour="blue", retries=2), annotate(span=("a",)):
        assert get_annotations() == {"colour": "blue", "retries": 2, "span": ("a",)}
        assert current_options() == Options(retries=2)
    assert get_annotations() == {}


@pytest.mark.parametrize(
    ("name", "meant"),
    [("retry", "retry_on or retries"), ("worker", "workers"), ("resource", "resources")],
)
def test_a_name_that_is_almost_a_wish_gives_a_warning(name: str, meant: str) -> None:
    says = rf"given {name}, .*did you mean {meant}\?"
    with pytest.warns(UserWarning, match=says) as caught, annotate(**{name: 1}):
        pass
    assert caught[0].filename == __file__


def test_an_inner_block_adds_to_the_outer_one() -> None:
    with annotate(retries=2, resources={"GPU": 1}):
        with annotate(threads=4, retries=3):
            inner = current_options()
        outer = current_options()
    assert (inner.retries, inner.needs) == (3, Needs({"GPU": 1.0}, 4))
    assert (outer.retries, outer.needs) == (2, Needs({"GPU": 1.0}))
    assert current_options() is DEFAULT_OPTIONS


def test_lazy_calls_keep_the_wishes_of_where_they_were_made() -> None:
    with annotate(priority=5):
        high = zcluster.delayed(abs)(-1)
    low = zcluster.delayed(abs)(-2)
    total = high + low
    with annotate(priority=9):
        graph, _ = type(total).__zcluster_lower__([total])
    by_name = {(layer.name, layer.options.priority) for layer in graph.layers}
    assert by_name == {("abs", 5), ("abs", 0), ("add", 0)}
