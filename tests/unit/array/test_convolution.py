"""Convolution and correlation of lines are NumPy's, over any chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.convolution import convolve, correlate
from zcluster.array.core import Array, from_numpy
from zcluster.array.expressions import Generated
from zcluster.array.lowering import lower_arrays
from zcluster.errors import InvalidArgument

Arrays = Callable[..., st.SearchStrategy[Any]]
Agrees = Callable[..., None]

ALL = ("?", "i1", "i8", "u8", "f4", "f8", "c16")


@pytest.mark.proves("array.convolve", "array.correlate")
class TestAgainstNumPy:
    """Values, shapes and dtypes."""

    @pytest.mark.parametrize("mode", ["full", "same", "valid"])
    @given(data=st.data())
    @settings(max_examples=30, deadline=None)
    def test_any(self, mode: str, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """The shorter one first or second, even and odd, in chunks of any size."""
        x, chunks = data.draw(arrays(ALL, ndim=(1, 1), length=(1, 12), nan=False))
        y, others = data.draw(arrays(ALL, ndim=(1, 1), length=(1, 9), nan=False))
        pairs: Any = ((convolve, np.convolve), (correlate, np.correlate))
        for function, expected in pairs:
            made = function(from_numpy(x, chunks), from_numpy(y, others), mode)
            agrees(made, expected(x, y, mode), rtol=1e-5, atol=1e-5)

    def test_numbers_and_lists(self, agrees: Agrees) -> None:
        """As NumPy takes them."""
        agrees(convolve([1, 2], 3), np.array([3, 6]))
        agrees(convolve(2, [1, 2]), np.array([2, 4]))
        agrees(correlate([1, 2], [3, 4, 5], "full"), np.correlate([1, 2], [3, 4, 5], "full"))

    def test_beyond_the_ends(self, agrees: Agrees) -> None:
        """There is nothing, and nothing times infinity is no number there."""
        x, y = np.arange(6.0), np.array([np.inf, 1.0, np.nan])
        agrees(convolve(from_numpy(x, 2), y), np.convolve(x, y))


def test_a_task_a_block() -> None:
    """Which takes the margin it needs, however far it reaches."""
    x = from_numpy(np.arange(100.0), 10).persist(scheduler="sync")
    several = ((3, "same", 10), (25, "same", 9), (25, "valid", 8), (4, "full", 10), (1, "full", 10))
    for length, mode, blocks in several:
        made = convolve(x, np.ones(length), mode)
        assert made.numblocks == (blocks,)
        graph, _ = lower_arrays([made.expr])
        assert graph.layers[-1].count == blocks


def test_refused() -> None:
    """What is no line, or empty, or of unknown lengths."""
    for args, says in (
        (([], [1]), "a cannot be empty"),
        (([1], []), "v cannot be empty"),
        (([[1]], [1]), "a has 2 dimensions"),
        (([1], [1], "most"), "expected one of 'full', 'same', 'valid'"),
    ):
        for function in (convolve, correlate):
            with pytest.raises(ValueError, match=says):
                function(*args)
    with pytest.raises(ValueError, match="v has 0 dimensions; expected a line"):
        correlate([1], 2)
    nan = float("nan")
    unknown = Array(Generated("x", np.zeros, ((nan, nan),), "f8"))
    with pytest.raises(InvalidArgument, match=r"call compute_chunk_sizes\(\) first"):
        convolve(unknown, [1])
