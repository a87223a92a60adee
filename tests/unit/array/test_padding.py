"""Padding by all modes gives what NumPy's gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.core import from_numpy
from zcluster.array.padding import pad

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=15, deadline=None)

Agrees = Callable[..., None]

MODES = ("constant", "edge", "reflect", "symmetric", "wrap", "linear_ramp")
STATISTICS = ("maximum", "mean", "median", "minimum")
WIDTHS = st.integers(0, 9)


@pytest.mark.proves("array.pad")
@given(data=st.data())
@FAST
def test_equals(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Modes, widths and keywords of all kinds."""
    a, chunks = data.draw(arrays(ndim=(1, 3), length=(1, 5), dtypes=("i8", "f4"), nan=False))
    x = from_numpy(a, chunks)
    pair = st.tuples(WIDTHS, WIDTHS)
    width = data.draw(WIDTHS | pair | st.tuples(*[pair] * a.ndim))
    for mode in MODES:
        said: dict[str, Any] = {}
        if mode == "constant":
            said = data.draw(
                st.sampled_from([{}, {"constant_values": 3.7}, {"constant_values": (1, 2)}])
            )
        elif mode == "linear_ramp":
            said = {"end_values": data.draw(st.sampled_from([0, 5, (1, -9)]))}
        elif mode in ("reflect", "symmetric"):
            said = {"reflect_type": data.draw(st.sampled_from(["even", "odd"]))}
        # The last bit of a ramp depends on what other lanes there are, in NumPy.
        near = {"rtol": 1e-6, "atol": 1} if mode == "linear_ramp" else {}
        agrees(pad(x, width, mode, **said), np.pad(a, width, mode, **said), **near)
    mode = data.draw(st.sampled_from(STATISTICS))
    said = {"stat_length": data.draw(st.sampled_from([None, 2, (1, 3)]))}
    agrees(pad(x, width, mode, **said), np.pad(a, width, mode, **said), rtol=1e-6)


def test_a_function(agrees: Agrees) -> None:
    """It gets whole lanes, one axis after the other."""

    def frame(lane: Any, widths: Any, axis: int, said: dict[str, Any]) -> None:
        lane[: widths[0]] = said["value"] + axis
        if widths[1]:
            lane[-widths[1] :] = lane.sum()

    a = np.arange(12.0).reshape(3, 4)
    width = ((1, 2), (0, 3))
    agrees(pad(from_numpy(a, 2), width, frame, value=7), np.pad(a, width, frame, value=7))


def test_by_axis(agrees: Agrees) -> None:
    """Widths may be said by axis."""
    a = np.arange(6).reshape(2, 3)
    agrees(pad(from_numpy(a, 2), {-1: (1, 2)}), np.pad(a, {-1: (1, 2)}))


def test_of_no_elements(agrees: Agrees) -> None:
    """A constant can stand around nothing; else there is nothing to repeat."""
    a = np.empty((0, 2))
    agrees(pad(a, 1), np.pad(a, 1))
    with pytest.raises(ValueError, match="empty axis 0"):
        pad(a, 1, "edge")


def test_chunks_grow_by_little_and_not_by_much() -> None:
    """A margin joins the chunk at the end; what is longer gets chunks of its own."""
    x = from_numpy(np.arange(12), 4)
    assert pad(x, 1).chunks == ((5, 4, 5),)
    assert pad(x, (0, 9), "wrap").chunks == ((4, 4, 4, 4, 4, 1),)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: pad([1], 1, "no"), ValueError, "not supported"),
        (lambda: pad([1], 1, "edge", constant_values=1), ValueError, "unsupported keyword"),
        (lambda: pad([1], -1), ValueError, "negative"),
        (lambda: pad([1], 1.5), TypeError, "integral"),
        (lambda: pad([1], 1, "maximum", stat_length=0), ValueError, "stat_length"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], says: str) -> None:
    """At the call."""
    with pytest.raises(error, match=says):
        call()
