"""Ghost cells: against padding the whole array, and filters of whole arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster.array as da
from zcluster.array.core import Array, from_numpy, rechunked
from zcluster.array.expressions import Gather, Generated
from zcluster.array.lowering import lower_arrays
from zcluster.array.overlap import (
    Trim,
    ensure_minimum_chunksize,
    map_overlap,
    overlap,
    trim_internal,
)
from zcluster.errors import InvalidArgument
from zcluster.protocol.tokens import tokenize

NAN = float("nan")
FAST = settings(max_examples=40, deadline=None)
Values = npt.NDArray[Any]
Arrays = Callable[..., st.SearchStrategy[Any]]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]

MODES = {"periodic": "wrap", "reflect": "symmetric", "nearest": "edge"}
KINDS: list[Any] = [*MODES, "none", 3]


def grown(values: Values, chunks: Any, depths: Any, kinds: Any) -> tuple[Values, Any]:
    """Pad a whole array axis by axis, and cut out what each block sees; return its chunks too."""
    padded = values
    for axis, (pair, kind) in enumerate(zip(depths, kinds, strict=True)):
        width = [(0, 0)] * values.ndim
        width[axis] = pair
        if kind == "none":
            continue
        how: Any = {"mode": MODES.get(kind, "constant")}
        if kind not in MODES:
            how["constant_values"] = kind
        padded = np.pad(padded, width, **how)
    index, lengths = [], []
    for own, (before, after), kind in zip(chunks, depths, kinds, strict=True):
        points = np.cumsum([0, *own])
        seen = []
        for start, stop in zip(points[:-1] - before, points[1:] + after, strict=True):
            if kind == "none":
                seen.append(np.arange(max(start, 0), min(stop, points[-1])))
            else:
                seen.append(np.arange(start, stop) + before)
        index.append(np.concatenate(seen))
        lengths.append(tuple(map(len, seen)))
    return padded[np.ix_(*index)], tuple(lengths)


class TestOverlap:
    """Blocks with margins."""

    @given(data=st.data())
    @settings(max_examples=80, deadline=None)
    def test_any(self, data: st.DataObject, arrays: Arrays) -> None:
        """Of any depth, also beyond the array, on any axes, with any boundary on each."""
        values, chunks = data.draw(arrays(("i8", "f4", "?"), ndim=(1, 3), length=(1, 7), nan=False))
        most = 5 if values.ndim > 2 else 17
        depth = st.tuples(st.integers(0, 4), st.integers(0, most))
        depths = [data.draw(depth) for _ in chunks]
        kinds = [data.draw(st.sampled_from(KINDS)) for _ in chunks]
        x = from_numpy(values, chunks)
        made = overlap(x, dict(enumerate(depths)), dict(enumerate(kinds)))
        expected, lengths = grown(values, chunks, depths, kinds)
        assert made.chunks == lengths
        assert made.dtype == values.dtype
        np.testing.assert_array_equal(made.compute(scheduler="sync"), expected)
        if "none" not in kinds:
            back = trim_internal(made, dict(enumerate(depths)), dict(enumerate(kinds)))
            assert back.chunks == chunks
            np.testing.assert_array_equal(back.compute(scheduler="sync"), values)
        same = map_overlap(np.copy, x, depth=dict(enumerate(depths)), boundary=tuple(kinds))
        assert same.chunks == chunks
        np.testing.assert_array_equal(same.compute(scheduler="sync"), values)

    def test_constants_by_axis(self) -> None:
        """Each axis has its own; corners go to the last."""
        x = from_numpy(np.zeros((2, 2)), 1)
        made = overlap(x, 1, {0: 5, 1: 6}).compute(scheduler="sync")
        expected, _ = grown(np.zeros((2, 2)), x.chunks, [(1, 1)] * 2, [5, 6])
        np.testing.assert_array_equal(made, expected)

    def test_nothing(self) -> None:
        """A depth of nothing, an array of nothing, an array without axes."""
        x = from_numpy(np.arange(6).reshape(2, 3), 1)
        assert overlap(x, 0, "reflect").compute(scheduler="sync").tolist() == [[0, 1, 2], [3, 4, 5]]
        empty = overlap(from_numpy(np.zeros((0, 2)), 1), {1: 1}, "periodic")
        assert empty.compute(scheduler="sync").shape == (0, 6)
        assert overlap(np.array(3), {}).compute(scheduler="sync") == 3
        assert overlap([1, 2], 1).compute(scheduler="sync").tolist() == [1, 2]

    def test_it_is_one_gather(self) -> None:
        """A task a block, with the function and the trimming; the source's blocks are kept."""
        x = from_numpy(np.ones((8, 8)), 2).persist(scheduler="sync")
        made = map_overlap(lambda block: block + 1, x, depth=1, boundary="periodic") * 2
        assert isinstance(overlap(x, 1).expr, Gather)
        graph, _ = lower_arrays([made.expr])
        assert graph.layers[-1].count == 16
        assert graph.count == 16 + 16  # the blocks that are here

    def test_only_margins_are_asked_for(self) -> None:
        """Of neighbours a row of cells; corners are one cell."""
        x = from_numpy(np.ones((40, 40)), 10).persist(scheduler="sync")
        graph, _ = lower_arrays([overlap(x, 1, "none").expr])
        layer = graph.layers[-1]
        assert layer.selections is not None
        boxes = np.asarray(layer.selections).reshape(-1, 2, 3)
        cells = np.prod(boxes[:, :, 1] - boxes[:, :, 0], axis=1)
        assert sorted(set(cells.tolist())) == [1, 10, 100]
        assert cells.sum() == sum(12 * 12 - 0 for _ in range(4)) + 8 * 11 * 12 + 4 * 11 * 11

    def test_many_blocks(self) -> None:
        """Only blocks at the ends cost by block."""
        x = Array(Generated("x", np.zeros, ((1,) * 5000,), "f8"))
        assert len(overlap(x, 3, "reflect").chunks[0]) == 5000


class TestMapOverlap:
    """Functions of grown blocks."""

    @given(data=st.data())
    @FAST
    def test_filters(self, data: st.DataObject, arrays: Arrays) -> None:
        """The same as of the whole array, for each boundary that SciPy has too."""
        ndimage = pytest.importorskip("scipy.ndimage")
        values, chunks = data.draw(arrays(("i8", "f8"), ndim=(1, 3), length=(1, 7), nan=False))
        size = tuple(2 * data.draw(st.integers(0, 3)) + 1 for _ in chunks)
        kind = data.draw(st.sampled_from(sorted(MODES)))
        made = map_overlap(
            ndimage.maximum_filter,
            from_numpy(values, chunks),
            depth={axis: n // 2 for axis, n in enumerate(size)},
            boundary=kind,
            size=size,
            mode="constant",
        )
        mode = {"periodic": "wrap"}.get(kind, kind)
        expected = ndimage.maximum_filter(values, size=size, mode=mode)
        np.testing.assert_array_equal(made.compute(scheduler="sync"), expected)

    def test_no_boundary(self) -> None:
        """Blocks at the ends have a margin on one side, which is all that is trimmed."""
        shapes = []

        def look(block: Values) -> Values:
            shapes.append(block.shape)
            return block * 2

        x = from_numpy(np.arange(9), (4, 3, 2))
        made = map_overlap(look, x, depth=2, boundary=None, dtype="i8")
        assert made.compute(scheduler="sync").tolist() == list(range(0, 18, 2))
        assert shapes == [(6,), (7,), (4,)]

    def test_untrimmed(self) -> None:
        """What the function returns, as it is."""
        x = from_numpy(np.arange(4), 2)
        made = map_overlap(lambda block: block, x, depth=1, boundary=7, trim=False)
        assert made.compute(scheduler="sync").tolist() == [7, 0, 1, 2, 1, 2, 3, 7]

    def test_several(self) -> None:
        """Arrays of other chunks and dimensions, with depths and boundaries of their own."""
        x, y = np.arange(24.0).reshape(4, 6), np.arange(6.0)

        def add(a: Values, factor: float, b: Values) -> Any:
            return (a + b) * factor

        made = map_overlap(
            add,
            from_numpy(x, (2, 3)),
            10.0,
            from_numpy(y, 4),
            depth=[{1: 1}, {0: 1}],
            boundary=["reflect", "reflect"],
        )
        np.testing.assert_array_equal(made.compute(scheduler="sync"), (x + y) * 10)

    def test_axes_that_come_and_go(self) -> None:
        """Margins follow the axes that stay."""
        x = np.arange(24.0).reshape(4, 6)
        lazy = from_numpy(x, (2, 3))
        made = map_overlap(lambda b: b[None], lazy, depth=1, boundary="nearest", new_axis=0)
        np.testing.assert_array_equal(made.compute(scheduler="sync"), x[None])
        rows = from_numpy(x, (2, 6))
        made = map_overlap(lambda b: b.sum(1), rows, depth={0: 1}, boundary="periodic", drop_axis=1)
        np.testing.assert_array_equal(made.compute(scheduler="sync"), x.sum(1))

    def test_orders_of_arguments(self) -> None:
        """The method's, and those of old programs."""
        x = from_numpy(np.arange(5.0), 2)
        expected = np.arange(5.0) + 1
        for made in (
            x.map_overlap(lambda b: b + 1, 1, "reflect"),
            x.map_overlap(lambda b: b + 1, depth=1, boundary="reflect"),
            map_overlap(x, lambda b: b + 1, depth=1),
            da.map_overlap(lambda b, c: b + c, x, 1, depth=1),
        ):
            np.testing.assert_array_equal(made.compute(scheduler="sync"), expected)

    @pytest.mark.parametrize(
        ("args", "kwargs", "says"),
        [
            ((np.copy, np.ones(3)), {}, "depth is missing"),
            ((np.copy, np.ones(3)), {"depth": -1}, "expected an integer of 0 or more"),
            ((np.copy, np.ones(3)), {"depth": 1.5}, "expected an integer of 0 or more"),
            ((np.copy, np.ones(3)), {"depth": True}, "expected an integer of 0 or more"),
            ((np.copy, np.ones(3)), {"depth": (1, 2)}, "speaks of 2 axes; the array has 1"),
            ((np.copy, np.ones(3)), {"depth": 1, "boundary": "wrap"}, "probably 'periodic'"),
            ((np.copy, np.ones(3)), {"depth": 1, "boundary": "x"}, "expected one of"),
            ((np.copy, np.ones(3)), {"depth": 1, "boundary": ("none",) * 2}, "speaks of 2 axes"),
            ((np.copy, np.ones(3)), {"depth": 1, "boundary": {0: [1, 2]}}, "a word or a number"),
            ((np.copy, np.ones(3)), {"depth": [1, 2]}, "a list of 2 depths"),
            ((np.copy, 3), {"depth": 1}, "one array or more"),
        ],
    )
    def test_refused(self, args: Any, kwargs: Any, says: str) -> None:
        """What makes no sense is said at the call."""
        with pytest.raises(InvalidArgument, match=says):
            map_overlap(*args, **kwargs)

    def test_refused_otherwise(self) -> None:
        """No function, no such axis, and results that cannot be trimmed."""
        x = from_numpy(np.ones((4, 4)), 2)
        with pytest.raises(TypeError, match="takes a function first"):
            map_overlap(3, x, depth=1)
        with pytest.raises(np.exceptions.AxisError):
            map_overlap(np.copy, x, depth={2: 1})
        with pytest.raises(InvalidArgument, match="call compute_chunk_sizes"):
            overlap(Array(Generated("x", np.zeros, ((NAN, NAN),), "f8")), 1)
        with pytest.raises(InvalidArgument, match="shorter than the ghost cells"):
            trim_internal(x, 2, "reflect")


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8), size=st.integers(1, 9))
@FAST
def test_chunks_of_a_minimum(lengths: list[int], size: int) -> None:
    """Neighbours are joined until none is shorter; what is long enough stays."""
    if sum(lengths) < size:
        with pytest.raises(ValueError, match="expected"):
            ensure_minimum_chunksize(size, tuple(lengths))
        return
    found = ensure_minimum_chunksize(size, tuple(lengths))
    assert min(found) >= size
    assert sum(found) == sum(lengths)
    assert {int(n) for n in np.cumsum(found)} <= {int(n) for n in np.cumsum(lengths)}
    if min(lengths) >= size:
        assert found == tuple(lengths)


def test_trims_have_tokens() -> None:
    """By what they cut."""
    assert tokenize(Trim(((1, 0),))) == tokenize(Trim(((1, 0),)))
    assert tokenize(Trim(((1, 0),))) != tokenize(Trim(((0, 1),)))


def test_chunks_of_margins_are_kept() -> None:
    """A rechunk of grown blocks is another array: it is not taken for one of the source."""
    x = from_numpy(np.arange(6), 3)
    made = rechunked(overlap(x, 1, "reflect"), 5)
    assert made.compute(scheduler="sync").tolist() == [0, 0, 1, 2, 3, 2, 3, 4, 5, 5]
