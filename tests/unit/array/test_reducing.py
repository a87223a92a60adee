"""Reductions of users' own functions, and the pieces that all reductions are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zcluster.array import reducing
from zcluster.array.core import from_numpy


def _total(block: Any, axis: Any, keepdims: bool) -> Any:
    return np.sum(block, axis=axis, keepdims=keepdims)


def _weighted(block: Any, weights: Any, axis: Any, keepdims: bool) -> Any:
    return (block * weights).sum(axis=axis, keepdims=keepdims)


def _described(block: Any, axis: Any, keepdims: bool) -> dict[str, Any]:
    return {"sum": block.sum(), "count": block.size}


def _flat(parts: Any) -> list[dict[str, Any]]:
    if not isinstance(parts, list):
        return [parts]
    return [one for part in parts for one in _flat(part)]


def _joined(parts: Any, axis: Any, keepdims: bool) -> dict[str, Any]:
    return {name: sum(one[name] for one in _flat(parts)) for name in ("sum", "count")}


def _mean(parts: Any, axis: Any, keepdims: bool) -> Any:
    found = _joined(parts, axis, keepdims)
    return np.asarray(found["sum"] / found["count"])


@pytest.mark.proves("array.reduction")
class TestReduction:
    """`reduction` with functions of the user."""

    @pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
    @pytest.mark.parametrize("keepdims", [False, True])
    def test_arrays(self, axis: Any, keepdims: bool) -> None:
        """What came of the blocks is put together, and reduced again."""
        a = np.arange(30.0).reshape(5, 6)
        lazy = reducing.reduction(
            from_numpy(a, 2), _total, _total, axis, keepdims=keepdims, split_every=2
        )
        expected = a.sum(axis, keepdims=keepdims)
        assert lazy.shape == expected.shape
        assert lazy.dtype == expected.dtype
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), expected)

    @pytest.mark.parametrize("axis", [None, 0])
    def test_anything(self, axis: Any) -> None:
        """With concatenate=False what comes of blocks may be anything: here dicts, in lists."""
        a = np.arange(12.0) if axis == 0 else np.arange(12.0).reshape(3, 4)
        lazy = reducing.reduction(
            from_numpy(a, 2),
            _described,
            _mean,
            axis,
            combine=_joined,
            concatenate=False,
            split_every=2,
            dtype="f8",
        )
        assert lazy.compute(scheduler="sync") == a.mean()

    def test_weights(self) -> None:
        """They are broadcast to the shape of the array."""
        a = np.arange(12.0).reshape(3, 4)
        w = np.array([1.0, 0.0, 2.0, 0.0])
        lazy = reducing.reduction(from_numpy(a, 2), _weighted, _total, 1, weights=w)
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), (a * w).sum(1))
        with pytest.raises(ValueError, match="broadcasts to"):
            reducing.reduction(from_numpy(a, 2), _weighted, _total, 1, weights=np.ones(3))

    def test_output_size(self) -> None:
        """What is left of an axis may be longer than 1."""

        def two(block: Any, axis: Any, keepdims: bool) -> Any:
            return np.sort(block)[-2:]

        lazy = reducing.reduction(
            from_numpy(np.arange(9) % 5, 3), two, two, 0, keepdims=True, output_size=2, dtype="i8"
        )
        assert lazy.shape == (2,)
        assert lazy.compute(scheduler="sync").tolist() == [3, 4]

    def test_dtype_is_told(self) -> None:
        """A function that has a parameter dtype gets what was given."""

        def total(block: Any, axis: Any, keepdims: bool, dtype: Any = None) -> Any:
            return np.sum(block, axis=axis, keepdims=keepdims, dtype=dtype)

        lazy = reducing.reduction(from_numpy(np.ones(4, "i1"), 2), total, total, dtype="f4")
        assert lazy.compute(scheduler="sync").dtype == np.float32
        assert lazy.dtype == np.float32

    def test_meta_and_name(self) -> None:
        """The dtype of meta; the name of the aggregate function, or the one that is given."""
        x = from_numpy(np.ones(4), 2)
        lazy = reducing.reduction(x, _total, _total, meta=np.empty((), "f4"))
        assert lazy.dtype == np.float32
        assert lazy.name.startswith("_total-aggregate-")
        assert reducing.reduction(x, _total, _total, name="mine").name.startswith("mine-aggregate-")

    def test_functions_may_write(self) -> None:
        """What they write into is theirs alone."""

        def careless(block: Any, axis: Any, keepdims: bool) -> Any:
            block[...] = block * 2
            return block.sum(axis=axis, keepdims=keepdims)

        x = from_numpy(np.ones(6), 2) + 0
        lazy = reducing.reduction(x, careless, careless, split_every=2)
        both = lazy + (x.sum() - 6)
        assert lazy.compute(scheduler="sync") == 48
        assert both.compute(scheduler="threads") == 48


class TestPieces:
    """What other families use."""

    @pytest.mark.parametrize(
        ("given", "expected"),
        [(None, 8), (3, 3), ({0: 2, 1: 3}, 6), ({5: 9}, 4), (False, 2**31)],
    )
    def test_split_count(self, given: Any, expected: int) -> None:
        """How many partial results go into one task, however it is said."""
        assert reducing.split_count(given, (0, 1)) == expected

    def test_cast(self) -> None:
        """What does not fit becomes inf, without a warning."""
        assert np.isinf(reducing.cast(np.array(1e30), "f2"))

    def test_an_extreme_of_nothing_is_nothing(self) -> None:
        """It is gone once it is put together with others."""
        step = reducing.Extreme(np.maximum, (0, 1))
        assert step(np.empty((0, 2, 3))).shape == (0, 1, 3)
        assert step(np.ones((1, 2, 3))).shape == (1, 1, 3)
