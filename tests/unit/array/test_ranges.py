"""Numbers in steps are NumPy's to the last bit, in any chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import ranges as r

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=50, deadline=None)

Agrees = Callable[..., None]

_DAY = np.datetime64("2020-01-01")


@pytest.mark.proves("array.arange")
@given(
    start=st.integers(-9, 9) | st.floats(-5, 5, width=32) | st.sampled_from([np.float32(0.1)]),
    count=st.integers(-2, 20),
    step=st.sampled_from([1, -1, 3, 0.1, -0.3, 1 / 3, np.float32(0.7), np.int8(2)]),
    chunks=st.integers(1, 7),
)
@FAST
def test_arange(start: Any, count: int, step: Any, chunks: int, agrees: Agrees) -> None:
    """Steps of any kind, forward and backward."""
    stop = start + count * step
    agrees(r.arange(start, stop, step, chunks=chunks), np.arange(start, stop, step))


@pytest.mark.parametrize(
    "args",
    [
        (7,),
        (2, 9),
        (5.5,),
        (np.int8(5),),
        (np.float32(3),),
        (True,),
        (0, 300, 7, "u1"),
        (0, 9, 0.5, "f2"),
        (5, 0, -0.25, "f4"),
        (0, 5, 1.5, int),
        (0, 4, 1, complex),
        (1, 2 + 3j),
        (0, 2, 1, bool),
        (_DAY, _DAY + 31, np.timedelta64(7, "h")),
        (_DAY, _DAY + 9),
        (_DAY, 7),
        (_DAY, np.timedelta64(7, "D"), 2),
        (np.timedelta64(9, "s"),),
        (np.timedelta64(1, "m"), np.timedelta64(200, "s"), np.timedelta64(7, "s")),
        (np.array(1), np.array(5)),
        ("2020-01", "2020-06", None, "M8[M]"),
        (2**62, 2**62 + 5),
    ],
)
def test_arange_of(args: tuple[Any, ...], agrees: Agrees) -> None:
    """Dtypes as NumPy finds them, or as they are said; dates and spans."""
    agrees(r.arange(*args, chunks=3), np.arange(*args))


def test_arange_by_name(agrees: Agrees) -> None:
    """Where to stop may be named, too."""
    agrees(r.arange(stop=5), np.arange(stop=5))
    agrees(r.arange(1, stop=5, step=2), np.arange(1, stop=5, step=2))


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((), TypeError),
        ((0, 5, 0), ZeroDivisionError),
        ((0, np.inf), ValueError),
        ((0, 5, 1, bool), TypeError),
        ((5, None, None, "M8[D]"), ValueError),
    ],
)
def test_arange_errors(args: tuple[Any, ...], error: type[Exception]) -> None:
    """At the call."""
    with pytest.raises(error):
        r.arange(*args)


def test_a_part_is_made_alone() -> None:
    """A number knows itself: the last of very many costs one task."""
    x = r.arange(10**15, chunks=10**12)
    assert x[-3:].compute(scheduler="sync").tolist() == [10**15 - 3, 10**15 - 2, 10**15 - 1]


ENDS = st.sampled_from([0, 1, -3.5, 1e3, np.float32(0.1), np.int8(7), 1 + 2j])


@pytest.mark.proves("array.linspace", "array.logspace", "array.geomspace")
@given(
    start=ENDS,
    stop=ENDS,
    num=st.integers(0, 15),
    endpoint=st.booleans(),
    dtype=st.sampled_from([None, int, "f4", "c16"]),
    chunks=st.integers(1, 6),
)
@FAST
def test_spaces(
    start: Any, stop: Any, num: int, endpoint: bool, dtype: Any, chunks: int, agrees: Agrees
) -> None:
    """With and without the end, in any dtype."""
    if complex in (type(start), type(stop)):
        dtype = None
    keywords = {"endpoint": endpoint, "dtype": dtype}
    agrees(
        r.linspace(start, stop, num, chunks=chunks, **keywords),
        np.linspace(start, stop, num, **keywords),
    )
    _, step = r.linspace(start, stop, num, endpoint, retstep=True)
    expected = np.linspace(start, stop, num, endpoint, retstep=True)[1]
    np.testing.assert_array_equal(step, expected)
    if dtype is int:
        return
    low, high = start / 100, stop / 100
    agrees(
        r.logspace(low, high, num, chunks=chunks, **keywords),
        np.logspace(low, high, num, **keywords),
        rtol=1e-6,
    )
    if start != 0 and stop != 0 and np.real(start) > 0 and np.real(stop) > 0:
        agrees(
            r.geomspace(start, stop, num, chunks=chunks, **keywords),
            np.geomspace(start, stop, num, **keywords),
            rtol=1e-5,
        )


def test_space_errors() -> None:
    """At the call."""
    with pytest.raises(ValueError, match="non-negative"):
        r.linspace(0, 1, -1)
    with pytest.raises(ValueError, match="zero"):
        r.geomspace(0, 1)
    for call in (lambda: r.linspace([0, 1], 2), lambda: r.logspace(0, 1, base=[2, 3])):
        with pytest.raises(NotImplementedError, match="stack"):
            call()
