"""Signatures of generalised ufuncs, and where core dimensions are."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.array.signatures import order_to_end, parse, placed
from zcluster.errors import InvalidArgument

NAMES = st.lists(st.sampled_from(["i", "j", "long_name", "3"]), max_size=3)


class TestParse:
    """What a signature says."""

    @given(st.lists(NAMES, max_size=3), st.lists(NAMES, min_size=1, max_size=3), st.data())
    def test_any(self, inputs: Any, outputs: Any, data: st.DataObject) -> None:
        """However it is spaced."""
        left, right = (",".join(f"({','.join(one)})" for one in side) for side in (inputs, outputs))
        spaced = data.draw(st.sampled_from([r"\1", r"\1 ", r" \1"]))
        found = parse(re.sub(r"([,()])", spaced, f"{left}->{right}"))
        assert [list(one) for one in found.inputs] == inputs
        assert [list(one) for one in found.outputs] == outputs
        assert found.is_single == (len(outputs) == 1)

    @pytest.mark.parametrize(
        "text",
        ["", "(i)", "(i)->", "(i)(j)->()", "i->()", "(i->()", "(i?)->()", "((i))->()", None, 3],
    )
    def test_none(self, text: Any) -> None:
        """What is none is shown, with an example."""
        with pytest.raises(InvalidArgument, match=r"is no signature; expected .*'\(i,j\)"):
            parse(text)


class TestPlaced:
    """Where core dimensions are."""

    @pytest.mark.parametrize(
        ("text", "kwargs", "inputs", "outputs"),
        [
            ("(i,j),(j)->(i)", {}, [(-2, -1), (-1,)], [(-1,)]),
            ("(i),(i)->()", {"axis": 0}, [(0,), (0,)], [()]),
            ("(i)->(i)", {"axis": 1}, [(1,)], [(1,)]),
            ("(i),()->()", {"axis": 0}, [(0,), ()], [()]),
            ("(i)->()", {"axis": 1, "keepdims": True}, [(1,)], [(1,)]),
            ("(i)->(),()", {"keepdims": True}, [(-1,)], [(-1,), (-1,)]),
            ("(i,j)->()", {"axes": [(0, 1)], "keepdims": True}, [(0, 1)], [(0, 1)]),
            ("(i,j)->(j)", {"axes": [(0, 1), 2]}, [(0, 1)], [(2,)]),
            ("(i),()->()", {"axes": [0, ()]}, [(0,), ()], [()]),
        ],
    )
    def test_said(self, text: str, kwargs: Any, inputs: Any, outputs: Any) -> None:
        """By default last, by axes for each, or by one axis for all."""
        given = {"axes": None, "axis": None, "keepdims": False} | kwargs
        found = placed(parse(text), **given)
        assert (found.inputs, found.outputs) == (inputs, outputs)

    @pytest.mark.parametrize(
        ("text", "kwargs", "says"),
        [
            ("(i)->(i)", {"keepdims": True}, r"keepdims=True goes with .* found \(i\) and \(i\)"),
            ("(i),()->()", {"keepdims": True}, "keepdims=True goes with"),
            ("->()", {"keepdims": True}, "found nothing"),
            ("(i,j)->()", {"axis": 0}, "axis=0 goes with one core dimension"),
            ("(i),(j)->()", {"axis": 0}, "axis=0 goes with one core dimension"),
            ("(i)->()", {"axis": 0, "axes": [0, ()]}, "both given"),
            ("(i)->(i)", {"axes": [0]}, r"as long as its core dimensions: \(i\),\(i\)"),
            ("(i)->()", {"axes": [(0, 1), ()]}, "expected a list"),
            ("(i)->()", {"axes": (0,)}, "expected a list"),
        ],
    )
    def test_refused(self, text: str, kwargs: Any, says: str) -> None:
        """What makes no sense together."""
        given = {"axes": None, "axis": None, "keepdims": False} | kwargs
        with pytest.raises(InvalidArgument, match=says):
            placed(parse(text), **given)


@given(st.integers(1, 4), st.data())
def test_orders(ndim: int, data: st.DataObject) -> None:
    """They bring axes to the end, as NumPy moves them."""
    one = st.integers(-ndim, ndim - 1)
    axes = data.draw(st.lists(one, max_size=ndim, unique_by=lambda axis: axis % ndim))
    x = np.empty(tuple(range(2, 2 + ndim)))
    expected = np.moveaxis(x, axes, range(-len(axes), 0)).shape
    assert x.transpose(order_to_end(axes, ndim)).shape == expected


def test_orders_refused() -> None:
    """An axis that is not there, or is named twice."""
    with pytest.raises(np.exceptions.AxisError):
        order_to_end((3,), 2)
    with pytest.raises(InvalidArgument, match="name one twice"):
        order_to_end((0, -2), 2)
