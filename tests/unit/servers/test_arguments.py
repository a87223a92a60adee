"""Arguments as short text, whatever they are."""

from __future__ import annotations

import pickle
import time
from array import array
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from zcluster.protocol.calls import (
    CALL_INPUTS,
    CALL_PACKED,
    CALL_ROW,
    CALL_SINGLE,
    CALL_VALUE,
    pack_call,
)
from zcluster.servers.arguments import ARGUMENTS_LIMIT, show_arguments, show_call


class Mean:
    """Raises whatever is asked of it."""

    def __repr__(self) -> NoReturn:
        raise RuntimeError("no words")

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(name)

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1, "1"),
        (1 << 200, "<int of 201 bits>"),
        (2.5, "2.5"),
        (None, "None"),
        (True, "True"),
        ("it's", '"it\'s"'),
        ("x" * 31, "'" + "x" * 30 + "…'"),
        (b"y" * 99, "b'" + "y" * 30 + "…'"),
        ([1, [2, [3, [4, [5]]]]], "[1, [2, [3, […]]]]"),
        ((), "()"),
        ({"a": 1}, "{'a': 1}"),
        (range(10**9), "range(0, 1000000000)"),
        (np.zeros((2, 3)), "<ndarray (2, 3) float64>"),
        (np.float32(2), "<float32 () float32>"),
        (Path("/a/b"), "PosixPath('/a/b')"),
        (Decimal("1.5"), "Decimal('1.5')"),
        (len, "<len>"),
        (show_call, "<show_call>"),
        (dict, "<dict>"),
    ],
)
def test_a_value_is_shown_by_what_it_is(value: Any, shown: str) -> None:
    assert show_arguments((value,), {}) == f"({shown})"


def test_no_code_of_the_user_runs() -> None:
    assert show_arguments((Mean(), [Mean()]), {}) == "(<Mean>, [<Mean>])"


def test_keywords_have_their_names() -> None:
    assert show_arguments((1,), {"b": 2}) == "(1, b=2)"


def test_the_text_is_bounded_and_large_things_are_not_looked_through() -> None:
    many = dict.fromkeys(range(100000), "x" * 1000)
    started = time.thread_time()
    text = show_arguments([many, set(many), list(many)] * 50, {})
    assert time.thread_time() - started < 0.5
    assert len(text) <= ARGUMENTS_LIMIT
    assert text.endswith("…)")


def test_a_list_that_contains_itself_ends() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert show_arguments((loop,), {}) == "([1, [1, [1, […]]]])"


def test_a_class_that_lies_costs_no_error() -> None:
    class Liar(type):
        @property
        def __module__(cls) -> NoReturn:  # type: ignore[override]
            raise RuntimeError("who asks?")

    class Lying(metaclass=Liar):
        pass

    assert show_arguments((Lying(),), {}) == "(<arguments that cannot be shown: RuntimeError>)"


def test_a_call_is_shown_from_its_form_and_constant() -> None:
    assert show_call(CALL_SINGLE, pickle.dumps(5), None) == "(5)"
    assert show_call(CALL_INPUTS, None, [1, 2]) == "(1, 2)"
    packed = pack_call((1, 2), {"c": 3})
    assert show_call(CALL_PACKED, packed.constant, []) == "(1, 2, c=3)"


def test_a_row_of_integers_is_shown_as_such() -> None:
    """Before the inputs; bytes that are no integers as bytes."""
    row = array("q", [3, 0, 5, 5, 7, 9])
    assert show_call(CALL_ROW, row.tobytes(), [2]) == "([3, 0, 5, 5, …], 2)"
    assert show_call(CALL_ROW, bytearray(b"odd"), [[1]]) == "(b'odd', [1])"
    assert show_call(CALL_ROW, b"", [1]) == "([], 1)"
    assert show_call(CALL_ROW, None, [1]) == "([], 1)"


def test_what_is_not_at_hand_is_not_shown() -> None:
    assert show_call(CALL_INPUTS, None, None) == ""
    assert show_call(CALL_VALUE, None, []) == ""
    assert show_call(CALL_SINGLE, b"\x80nonsense", None) == ""
