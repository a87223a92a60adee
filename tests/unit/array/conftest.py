"""What tests of arrays share: arrays in chunks for Hypothesis to choose, and what "equal" means."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st

from zcluster.array.core import Array

Chosen = tuple[npt.NDArray[Any], tuple[tuple[int, ...], ...]]

DTYPES = ("?", "i1", "u1", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16", "m8[s]", "M8[D]")


@st.composite
def chunkings(draw: st.DrawFn, length: int) -> tuple[int, ...]:
    """Chunks of an axis: one, even, uneven, or with empty ones among them."""
    kind = draw(st.sampled_from(["one", "even", "uneven", "empty"]))
    if kind == "one" or length == 0:
        return (length,)
    if kind == "even":
        step = draw(st.integers(1, length))
        return (step,) * (length // step) + ((length % step,) if length % step else ())
    cuts = draw(st.lists(st.integers(0, length), max_size=5))
    points = sorted({0, length, *cuts} if kind == "uneven" else [0, length, *cuts])
    return tuple(after - before for before, after in itertools.pairwise(points))


@st.composite
def _arrays(
    draw: st.DrawFn,
    dtypes: tuple[str, ...] = ("?", "i1", "i8", "u8", "f4", "f8", "c16"),
    ndim: tuple[int, int] = (0, 3),
    length: tuple[int, int] = (0, 7),
    nan: bool = True,
) -> Chosen:
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(st.lists(st.integers(*length), min_size=ndim[0], max_size=ndim[1]))
    chunks = tuple(draw(chunkings(one)) for one in shape)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    # Few different values, so that many are equal.
    values = rng.integers(-4, 5, size=shape)
    if dtype.kind in "u?":
        values = abs(values)
    array = np.asarray(values).astype(dtype if dtype.kind not in "mM" else "i8")
    if dtype.kind in "fc":
        array = array + np.asarray(rng.choice([0, 0.25, 0.1], size=shape), dtype)
        if dtype.kind == "c":
            array = array + 1j * rng.integers(-2, 3, size=shape).astype(dtype)
        if nan and draw(st.booleans()):
            array = np.where(rng.random(shape) < 0.2, dtype.type(math.nan), array)
    elif dtype.kind in "mM":
        array = array.astype(dtype)
        if nan and draw(st.booleans()):
            array = np.where(rng.random(shape) < 0.2, np.array("NaT", dtype), array)
    return np.asarray(array, dtype), chunks


@pytest.fixture(scope="session")
def arrays() -> Callable[..., st.SearchStrategy[Chosen]]:
    """A strategy of arrays and chunks for them: ``arrays(dtypes=, ndim=, length=, nan=)``."""
    return _arrays


@pytest.fixture(scope="session")
def chunked() -> Callable[[int], st.SearchStrategy[tuple[int, ...]]]:
    """A strategy of chunks of an axis of some length."""
    return chunkings


def _assert_agrees(found: Any, expected: Any, **tolerance: Any) -> None:
    assert isinstance(found, Array)
    promised = found.shape
    value = found.compute(scheduler="sync")
    assert found.dtype == np.asarray(expected).dtype, "the promised dtype"
    assert value.dtype == np.asarray(expected).dtype, "the dtype"
    assert value.shape == np.shape(expected), "the shape"
    for length, true in zip(promised, value.shape, strict=True):
        assert length != length or length == true, "the promised shape"
    if not tolerance:
        np.testing.assert_array_equal(value, expected)
        return
    np.testing.assert_allclose(value, expected, **tolerance)


@pytest.fixture(scope="session")
def agrees() -> Callable[..., None]:
    """Checks that an array has the value, shape and dtype of NumPy's result.

    ``agrees(lazy, expected)``, with ``rtol=`` and ``atol=`` where it is not exact.
    """
    return _assert_agrees


@st.composite
def _indices(
    draw: st.DrawFn, shape: tuple[int, ...], kinds: tuple[str, ...] = ("basic", "lists", "masks")
) -> Any:
    """An index of NumPy's, most of which fit the shape: what does not is an IndexError there."""
    spread = draw(st.sampled_from([(3,), (2, 3), (1, 3), (1,), (0,)]))
    choices = ["int", "slice", "slice", "none", "ellipsis"]
    choices += ["list", "list", "truth"] if "lists" in kinds else []
    choices += ["mask"] if "masks" in kinds else []
    index: list[Any] = []
    axis = 0
    while axis < len(shape) and draw(st.integers(0, 9)) < 9:
        length, kind = shape[axis], draw(st.sampled_from(choices))
        step = draw(st.sampled_from([-3, -2, -1, 1, 2, 5]))
        end = st.none() | st.integers(-length - 2, length + 2)
        rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        if kind == "int" and length:
            index.append(draw(st.integers(-length, length - 1)))
        elif kind == "none":
            index.append(None)
        elif kind == "truth":
            index.append(draw(st.booleans()))
        elif kind == "ellipsis":
            index.append(Ellipsis)
        elif kind == "mask":
            width = min(draw(st.integers(1, 2)), len(shape) - axis)
            index.append(rng.random(shape[axis : axis + width]) < 0.5)
        elif kind == "list" and length:
            own = draw(st.sampled_from([spread, spread, spread[-1:]]))
            index.append(rng.integers(-length, length, own))
        else:
            index.append(slice(draw(end), draw(end), step))
        one = index[-1]
        if isinstance(one, np.ndarray) and one.dtype == np.bool_:
            axis += one.ndim
        else:
            axis += one is not None and one is not Ellipsis and not isinstance(one, bool)
    return tuple(index)


@pytest.fixture(scope="session")
def indices() -> Callable[..., st.SearchStrategy[Any]]:
    """A strategy of indices: ``indices(shape, kinds=("basic", "lists", "masks"))``."""
    return _indices
