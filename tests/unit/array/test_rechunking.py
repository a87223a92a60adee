"""Other chunks of the same array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import rechunking as r
from zcluster.array.core import from_numpy
from zcluster.array.ufuncs import add

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=20, deadline=None)

Agrees = Callable[..., None]


@pytest.mark.proves("array.rechunk", "array.Array.rechunk")
@given(data=st.data())
@FAST
def test_rechunk(data: st.DataObject, arrays: Any, chunked: Any, agrees: Agrees) -> None:
    """From any chunks to any others, once and twice."""
    a, chunks = data.draw(arrays(dtypes=("i8",)))
    x = from_numpy(a, chunks)
    for _ in range(2):
        wanted = tuple(data.draw(chunked(n)) for n in a.shape)
        x = r.rechunk(x, wanted)
        assert x.chunks == wanted
    agrees(x, a)
    agrees(x.rechunk(data.draw(st.sampled_from([2, -1, "auto", "16B", {}]))), a)


def test_one_task_for_each_block() -> None:
    """However many it is put together from; twice is once."""
    x = from_numpy(np.ones((12, 12)), (12, 3)) + 1
    once = x.rechunk((3, 12))
    assert len(once.dask) - len(x.dask) == 4
    assert len(once.rechunk((6, 6)).dask) == len(x.rechunk((6, 6)).dask)


def test_sizes_and_balance() -> None:
    """Limits in bytes; chunks as equal as can be."""
    x = from_numpy(np.zeros((100, 100)))
    assert max(np.prod(x.rechunk("auto", block_size_limit=800).chunksize), 0) <= 100
    assert r.rechunk(x, (30, -1), balance=True).chunks == ((25,) * 4, (100,))


@pytest.mark.parametrize("chunks", [(3,), ((1, 1), 3), 0, ((2, 2), (3,)), {5: 1}])
def test_chunks_that_do_not_fit(chunks: Any) -> None:
    """At the call."""
    with pytest.raises(ValueError):  # noqa: PT011 - several texts, and AxisError
        r.rechunk(np.ones((3, 3)), chunks)


@pytest.mark.proves("array.unify_chunks")
def test_unify_chunks(agrees: Agrees) -> None:
    """Axes of one label have the same chunks then."""
    a, b = np.arange(6), np.arange(24).reshape(6, 4)
    chunks, (x, y) = r.unify_chunks(from_numpy(a, 4), "i", from_numpy(b, (3, 4)), "ij")
    assert chunks == {"i": (3, 1, 2), "j": (4,)}
    assert x.chunks[0] == y.chunks[0]
    agrees(x, a)
    agrees(y, b)
    with pytest.raises(ValueError, match="in turn"):
        r.unify_chunks(a)


@pytest.mark.proves("array.coarsen")
@given(data=st.data())
@FAST
def test_coarsen(data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
    """Groups that reach over the borders of chunks; what is left over is left out."""
    a, chunks = data.draw(arrays(dtypes=("i8", "f4"), ndim=(2, 2), length=(1, 9), nan=False))
    steps = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    rows, columns = (n // step * step for n, step in zip(a.shape, steps, strict=True))
    groups = a[:rows, :columns].reshape(rows // steps[0], steps[0], columns // steps[1], steps[1])
    x = from_numpy(a, chunks)
    found = r.coarsen(np.sum, x, dict(enumerate(steps)), trim_excess=True)
    agrees(found, groups.sum((1, 3)), rtol=1e-5)


def test_coarsen_without_leaving_out() -> None:
    """It is said what is left over; a lazy function will do."""
    with pytest.raises(ValueError, match="trim_excess"):
        r.coarsen(np.sum, np.ones(5), {0: 2})
    found = r.coarsen(add.reduce, np.arange(4), {0: 2}).compute(scheduler="sync")
    assert found.tolist() == [1, 5]
