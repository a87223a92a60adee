"""All windows of an array: against those of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import Generated
from zcluster.array.windows import Windows, sliding_window_view
from zcluster.errors import InvalidArgument
from zcluster.protocol.tokens import tokenize

NAN = float("nan")
FAST = settings(max_examples=40, deadline=None)
Arrays = Callable[..., st.SearchStrategy[Any]]


@given(data=st.data())
@FAST
def test_windows_are_those_of_numpy(data: st.DataObject, arrays: Arrays) -> None:
    """Along all axes, along some, along one twice."""
    values, chunks = data.draw(arrays(("i8", "c16"), ndim=(1, 3), length=(1, 7), nan=False))
    x = from_numpy(values, chunks)
    lengths = values.shape
    if data.draw(st.booleans()):
        window = tuple(data.draw(st.integers(1, n)) for n in lengths)
        found = sliding_window_view(x, window)
        expected = np.lib.stride_tricks.sliding_window_view(values, window)
    else:
        axis = data.draw(st.integers(-values.ndim, values.ndim - 1))
        first = data.draw(st.integers(1, lengths[axis]))
        twice = data.draw(st.integers(1, lengths[axis] - first + 1))
        found = sliding_window_view(x, (first, twice), (axis, axis))
        expected = np.lib.stride_tricks.sliding_window_view(values, (first, twice), (axis, axis))
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)


def test_what_has_no_windows_is_refused() -> None:
    """As NumPy does."""
    x = from_numpy(np.ones((4, 4)), 2)
    for window, axis, says in (
        (5, 0, "cannot be larger"),
        (-1, 0, "negative"),
        (2, None, "expected one for each of 2 axes"),
        ((2, 2), 0, "2 lengths for 1 axes"),
    ):
        with pytest.raises(ValueError, match=says):
            sliding_window_view(x, window, axis)
    unknown = Array(Generated("x", np.zeros, ((NAN, NAN),), "f8"))
    with pytest.raises(InvalidArgument, match="call compute_chunk_sizes"):
        sliding_window_view(unknown, 2)
    assert sliding_window_view(unknown, 1).ndim == 2


def test_windows_have_tokens() -> None:
    """By their shape, and the axes along which they slide."""
    assert tokenize(Windows((2,), (0,))) == tokenize(Windows((2,), (0,)))
    assert tokenize(Windows((2,), (0,))) != tokenize(Windows((2,), (1,)))
    assert tokenize(Windows((2,), (0,))) != tokenize(Windows((3,), (0,)))
