"""Calls are packed in the quickest form and made again from inputs and constants."""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.errors import NotSerializable, ProtocolError
from zcluster.protocol import calls
from zcluster.protocol.calls import (
    CALL_ALIAS,
    CALL_INPUTS,
    CALL_PACKED,
    CALL_PACKED_LAST,
    CALL_ROW,
    CALL_SINGLE,
    CALL_VALUE,
    PackedCall,
    make_call,
    pack_call,
    reduce_as_input,
)
from zcluster.protocol.objects import plan


class Promise:
    """Stands for a value; the tests keep the value in it, but never look when packing."""

    __zcluster_input__ = True

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_as_input(self)


class Free(Promise):
    """One that says what to do when somebody else pickles it."""

    def __zcluster_outside__(self) -> tuple[Any, ...]:
        return str, ("outside",)


@dataclass
class Point:
    x: Any
    y: Any


def collect(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


def run(packed: PackedCall, function: Any = collect) -> Any:
    """Do what a worker does with a packed call."""
    inputs = [promise.value for promise in packed.inputs]
    if packed.plan is not None:
        assert packed.form == CALL_PACKED_LAST
        assert packed.constant is None
        inputs.append(memoryview(bytearray(packed.plan.tobytes())))
    return make_call(packed.form, function, packed.constant, inputs)


def test_inputs_alone_need_no_constant() -> None:
    """Also the same one twice, and none at all."""
    a, b = Promise(1), Promise(2)
    packed = pack_call((a, b, a), {})
    assert packed == PackedCall(CALL_INPUTS, None, None, [a, b, a])
    assert run(packed) == ((1, 2, 1), {})
    assert pack_call((), {}) == (CALL_INPUTS, None, None, [])


@pytest.mark.parametrize("value", [1, 2.5, "a", b"b", True, None, 1j])
def test_a_lone_atom_is_a_single(value: Any) -> None:
    """The form of map over numbers and names."""
    packed = pack_call((value,), {})
    assert packed.form == CALL_SINGLE
    assert run(packed) == ((value,), {})


def test_a_lone_small_array_is_a_single_and_private() -> None:
    """The task may write into it: the constant does not change."""
    packed = pack_call((np.zeros(100),), {})
    assert packed.form == CALL_SINGLE

    def spoil(array: Any) -> float:
        array += 1
        return float(array.sum())

    assert run(packed, spoil) == 100
    assert run(packed, spoil) == 100
    boxed = pack_call((np.array([Promise(3)], object),), {})
    assert run(boxed)[0][0][0] == 3


def test_an_input_may_stand_anywhere() -> None:
    """In containers, attributes, keywords, partials and closures; one object is one input."""
    a, b, c = Promise("A"), Promise("B"), Promise("C")
    args = ([a, {"k": (b,)}], Point(a, 1), partial(max, c), lambda: b)
    packed = pack_call(args, {"key": {1: c}})
    assert packed.form == CALL_PACKED
    assert set(packed.inputs) == {a, b, c}
    assert len(packed.inputs) == 3
    (first, point, function, closure), kwargs = run(packed)
    assert first == ["A", {"k": ("B",)}]
    assert point == Point("A", 1)
    assert function.args == ("C",)
    assert closure() == "B"
    assert kwargs == {"key": {1: "C"}}


atoms = st.integers() | st.text(max_size=5) | st.integers(0, 3).map(lambda n: Promise(n))
trees = st.recursive(atoms, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(), t))


def resolved(value: Any) -> Any:
    """The model: the same tree with every promise replaced by its value."""
    if isinstance(value, Promise):
        return value.value
    if isinstance(value, list):
        return [resolved(v) for v in value]
    if isinstance(value, dict):
        return {k: resolved(v) for k, v in value.items()}
    return value


@settings(max_examples=100, deadline=None)
@given(st.lists(trees, max_size=4), st.dictionaries(st.text(), trees, max_size=3))
def test_any_call_is_made_as_written(args: list[Any], kwargs: dict[str, Any]) -> None:
    """Whatever form is chosen."""
    packed = pack_call(tuple(args), kwargs)
    assert run(packed) == (tuple(map(resolved, args)), resolved(kwargs))


@pytest.mark.parametrize(
    "value", ["x" * 100_000, 10**200_000, np.arange(20_000), [bytes(70_000)]], ids="sial"
)
def test_a_large_argument_is_planned_not_packed(value: Any) -> None:
    """It goes into a store first and comes back as the last input."""
    promise = Promise(7)
    for args in ((value,), (promise, value)):
        packed = pack_call(args, {})
        assert packed.form == CALL_PACKED_LAST
        assert packed.plan is not None
        assert packed.plan.size > calls.LARGE_ARGUMENT
        made, _ = run(packed)
        np.testing.assert_equal(made[-1], value)
        assert made[:-1] == ((7,) if len(args) == 2 else ())


def test_values_and_aliases_call_nothing() -> None:
    """A literal is its constant; an alias is its input."""
    assert make_call(CALL_VALUE, None, plan([1, 2]).tobytes(), []) == [1, 2]
    assert make_call(CALL_ALIAS, None, None, ["x"]) == "x"


@pytest.mark.parametrize("row", [b"", b"\x80\x04", bytearray(16), memoryview(bytes(8))])
def test_a_row_is_handed_on_as_it_is(row: Any) -> None:
    """Before the inputs, and nobody tries to load it."""
    seen = make_call(CALL_ROW, lambda *given: given, row, ["x", "y"])
    assert seen[0] is row
    assert seen[1:] == ("x", "y")
    assert make_call(CALL_ROW, lambda *given: given, None, ["x"]) == (b"", "x")


@pytest.mark.parametrize("form", [CALL_INPUTS, CALL_PACKED, CALL_VALUE, CALL_SINGLE, CALL_ROW, 17])
def test_a_call_that_lacks_something_is_refused(form: int) -> None:
    """It names the form."""
    with pytest.raises(ProtocolError, match=f"form {form} "):
        make_call(form, None, None, [])


def test_the_errors_of_the_function_come_through() -> None:
    """And the next call is not disturbed."""
    with pytest.raises(ZeroDivisionError):
        run(pack_call((1, 0), {}), lambda a, b: a / b)
    assert run(pack_call((1, Promise(2)), {})) == ((1, 2), {})


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((1, [threading.Lock()]), {}, r"args\[1\]\[0\]"),
        ((Point(1, threading.Lock()),), {}, r"args\[0\]\.y"),
        ((Promise(1),), {"x": threading.Lock()}, r"kwargs\['x'\]"),
    ],
)
def test_what_cannot_be_packed_is_named(args: Any, kwargs: Any, path: str) -> None:
    """The path starts at the argument; inputs are not blamed."""
    with pytest.raises(NotSerializable, match=rf"{path}: _thread\.lock"):
        pack_call(args, kwargs)
    with pytest.raises(NotSerializable):  # the packing is over
        pickle.dumps(Promise(1))


def test_outside_a_call_the_class_decides() -> None:
    """Without a rule of its own it refuses."""
    with pytest.raises(NotSerializable, match="a Promise stands for a result"):
        pickle.dumps(Promise(1))
    assert pickle.loads(pickle.dumps(Free(1))) == "outside"
    assert run(pack_call(([Free(1)],), {})) == (([1],), {})


def test_arguments_cannot_be_unpickled_by_themselves() -> None:
    """The inputs are missing."""
    packed = pack_call(([Promise(1)],), {})
    assert packed.constant is not None
    with pytest.raises(ProtocolError, match="input 0 was asked for outside a call"):
        pickle.loads(packed.constant)
