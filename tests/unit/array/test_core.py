"""`Array`: what it knows, its operators, and how its blocks are put together."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster
from zcluster.array.core import (
    Array,
    asarray,
    elementwise,
    from_numpy,
    permuted,
    rechunked,
    unified,
)
from zcluster.array.expressions import Blockwise, Generated, Held
from zcluster.array.slicing import getitem
from zcluster.errors import InvalidArgument
from zcluster.protocol.tokens import tokenize
from zcluster.threaded import get

NAN = float("nan")
FAST = settings(max_examples=40, deadline=None)
Values = npt.NDArray[Any]
Arrays = Callable[..., st.SearchStrategy[Any]]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]
Agrees = Callable[..., None]

ALL = ("?", "i1", "u1", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16")

BINARY = (
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.lshift,
    operator.rshift,
    operator.and_,
    operator.or_,
    operator.xor,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
    divmod,
)
UNARY = (operator.neg, operator.pos, operator.abs, operator.invert)


def source(*chunks: Any) -> Array:
    return Array(Generated("x", lambda starts, shape: np.zeros(shape), chunks, "f8"))


class TestOperators:
    """They are NumPy's, in value, shape and dtype; what NumPy refuses is refused."""

    @given(data=st.data())
    @settings(max_examples=120, deadline=None)
    def test_binary(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """With an array on the other side, of any chunks, or a number."""
        x, chunks = data.draw(arrays(ALL, ndim=(0, 2), length=(0, 4)))
        y, others = data.draw(arrays(ALL, ndim=(0, 2), length=(0, 4)))
        scalar = data.draw(st.sampled_from([2, True, 1.5, 2j, np.float32(2), np.int8(3)]))
        left, right = from_numpy(x, chunks), from_numpy(y, others)
        function: Any = data.draw(st.sampled_from(BINARY))
        pairs: list[tuple[Any, Any, Any, Any]] = [
            (left, right, x, y),
            (left, y, x, y),
            (x, right, x, y),
            (left, scalar, x, scalar),
            (scalar, left, scalar, x),
        ]
        a, b, own, other = data.draw(st.sampled_from(pairs))
        with np.errstate(all="ignore"):
            try:
                expected = function(own, other)
            except (TypeError, ValueError):  # whichever is looked at first
                with pytest.raises((TypeError, ValueError)):
                    function(a, b).compute(scheduler="sync")
                return
            found = function(a, b)
            for one, value in zip(
                found if function is divmod else [found],
                expected if function is divmod else [expected],
                strict=True,
            ):
                agrees(one, value)

    @given(data=st.data())
    @FAST
    def test_unary(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Negative, positive, absolute, inverted."""
        x, chunks = data.draw(arrays(ALL))
        function: Any = data.draw(st.sampled_from(UNARY))
        with np.errstate(all="ignore"):
            try:
                expected = function(x)
            except TypeError:
                with pytest.raises(TypeError):
                    function(from_numpy(x, chunks))
                return
            agrees(function(from_numpy(x, chunks)), expected)

    def test_lists(self, agrees: Agrees) -> None:
        """What NumPy takes for an array is one."""
        agrees(from_numpy(np.arange(3), 2) - [1, 2, 3], np.arange(3) - [1, 2, 3])
        agrees((1, 2, 3) * from_numpy(np.arange(3), 2), np.arange(3) * (1, 2, 3))

    def test_who_decides(self) -> None:
        """Others may say that they do not want to be taken for arrays."""

        class Own:
            __array_ufunc__ = None

            def __radd__(self, other: Any) -> str:
                return "mine"

        assert from_numpy(np.arange(3)) + Own() == "mine"

    def test_truth_is_no_hash(self) -> None:
        """Comparing gives arrays, so that they cannot be keys."""
        with pytest.raises(TypeError, match="unhashable"):
            hash(from_numpy(np.arange(3)))

    def test_several_results(self) -> None:
        """A function of several results is refused, with a way round."""
        with pytest.raises(InvalidArgument, match="modf gives 2 arrays; expected one"):
            elementwise(np.modf, from_numpy(np.ones(3)))


class TestBroadcasting:
    """Blocks that go with several others."""

    @given(data=st.data())
    @FAST
    def test_any(self, data: st.DataObject, chunked: Chunked, agrees: Agrees) -> None:
        """Axes of length 1, axes that are missing, empty axes; three operands."""
        shape = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
        operands = []
        for number in range(3):
            own = [data.draw(st.sampled_from([n, n, 1])) for n in shape]
            own = own[data.draw(st.integers(0, len(own))) :]
            values = np.arange(np.prod(own, dtype=int)).reshape(own) + number
            operands.append((values, from_numpy(values, tuple(data.draw(chunked(n)) for n in own))))
        (x, a), (y, b), (z, c) = operands
        agrees(elementwise(np.where, a > b, c, b), np.where(x > y, z, y))

    def test_shapes(self) -> None:
        """Those that do not go together are named."""
        with pytest.raises(ValueError, match=r"broadcast together with shapes \(3,\) \(4,\)"):
            from_numpy(np.ones(3)) + from_numpy(np.ones(4))

    def test_unified(self) -> None:
        """Borders of one are borders of all; axes of length 1, and -1, stay as they are."""
        arrays, chunks = unified(
            [source((4, 4), (2,)), source((2, 6), (1,)), source((1,))],
            [(0, 1), (0, -1), (0,)],
        )
        assert chunks == {0: (2, 2, 4), 1: (2,)}
        assert [one.chunks for one in arrays] == [((2, 2, 4), (2,)), ((2, 2, 4), (1,)), ((1,),)]
        arrays, chunks = unified([source((1, 0)), source((1, 0))], [(0,), (0,)])
        assert chunks == {0: (1, 0)}
        with pytest.raises(ValueError, match="do not add up"):
            unified([source((2,)), source((3,))], [(0,), (0,)])
        with pytest.raises(ValueError, match="compute_chunk_sizes"):
            source((NAN, NAN)) + source((2, 3, 1))


class TestKnown:
    """What is known before anything is computed."""

    def test_properties(self) -> None:
        """Of a whole array and of its blocks."""
        x = from_numpy(np.zeros((5, 6), "f4"), ((2, 3), 4))
        assert (x.shape, x.ndim, x.size, x.itemsize, x.nbytes) == ((5, 6), 2, 30, 4, 120)
        assert (x.chunks, x.chunksize) == (((2, 3), (4, 2)), (3, 4))
        assert (x.numblocks, x.npartitions) == ((2, 2), 4)
        assert x.dtype == "f4"
        assert x.name == x.expr.name
        assert from_numpy(np.array(3)).size == 1

    def test_unknown(self) -> None:
        """What depends on unknown lengths is nan."""
        x = source((NAN, NAN), (2,))
        assert str((x.shape, x.size, x.nbytes)) == "((nan, 2), nan, nan)"

    def test_the_whole_is_laid_out_as_numpy_would(self) -> None:
        """Rows after each other, and a scalar for an array without axes."""
        found = from_numpy(np.arange(6).reshape(2, 3), 1).compute(scheduler="sync")
        assert found.flags.c_contiguous
        assert found.flags.writeable
        number = from_numpy(np.array(3)).compute(scheduler="sync")
        assert isinstance(number, np.int64)

    def test_nothing_is_computed(self) -> None:
        """However much is built."""

        def never(starts: Any, shape: Any) -> Values:
            raise AssertionError("computed")

        x = Array(Generated("x", never, ((5, 5), (5, 5)), "f8"))
        made = getitem(permuted(rechunked(x + 1, 3), (1, 0)) * x, (slice(2, None, 3), [1, 2]))
        assert made.shape == (3, 2)
        assert made.name
        assert repr(made)
        assert len(made.dask) > 4
        with pytest.raises(AssertionError, match="computed"):
            made.compute(scheduler="sync")


class TestAsCollection:
    """Computed, kept, copied, pickled, looked at."""

    @pytest.mark.parametrize("how", ["sync", "threads"])
    def test_results_are_the_callers_own(self, how: str) -> None:
        """What is done to them changes nothing."""
        data = np.arange(6.0)
        for chunks in (-1, 2):
            x = from_numpy(data, chunks)
            found = x.compute(scheduler=how)
            found += 100
            np.testing.assert_array_equal(data, np.arange(6.0))
            kept = (x + 1).persist(scheduler=how)
            first = kept.compute(scheduler=how)
            first += 100
            np.testing.assert_array_equal(kept.compute(scheduler=how), np.arange(6.0) + 1)

    @given(data=st.data())
    @FAST
    def test_kept(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """A kept array has the name, the chunks, and blocks in the place of a graph."""
        values, chunks = data.draw(arrays(ALL, nan=False))
        x = elementwise(np.logical_not, from_numpy(values, chunks))
        kept = x.persist(scheduler="sync")
        assert isinstance(kept.expr, Held)
        assert (kept.name, kept.chunks, kept.dtype) == (x.name, x.chunks, x.dtype)
        agrees(kept, np.logical_not(values))
        agrees(elementwise(np.logical_not, kept), np.asarray(values.astype(bool)))
        if values.ndim:
            agrees(getitem(kept, slice(1, None)), np.logical_not(values[1:]))

    def test_copies(self) -> None:
        """They are arrays of their own, of the same expression."""
        x = from_numpy(np.arange(3)) + 1
        for again in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
            assert again is not x
            assert again.name == x.name
            assert again.compute(scheduler="sync").tolist() == [1, 2, 3]

    def test_tokens(self) -> None:
        """An array's token is its name: nothing is looked through."""
        x = from_numpy(np.arange(3)) + 1
        assert tokenize(x) == tokenize(from_numpy(np.arange(3)) + 1)
        assert tokenize(x) != tokenize(x + 1)

    def test_several_at_once(self) -> None:
        """Among other things, each once."""
        x = from_numpy(np.arange(3), 2)
        first, (second, three), nothing = zcluster.compute(x, [x + 1, 3], None, scheduler="sync")
        assert first.tolist() == [0, 1, 2]
        assert (second.tolist(), three, nothing) == ([1, 2, 3], 3, None)

    def test_the_graph_is_one_of_tasks(self) -> None:
        """`x.dask` shows tasks by hand, which run as they stand, also those that take boxes."""
        values = np.arange(35.0).reshape(5, 7)
        x = rechunked(from_numpy(values, (2, 3)) * 2, (3, 4))
        shown = x.dask
        assert shown is not None
        task = shown[x.name, 1, 1]
        assert callable(task[0])
        assert task[2][0] is operator.getitem
        blocks = get(shown, [[(x.name, i, j) for j in range(2)] for i in range(2)])
        np.testing.assert_array_equal(np.block([list(row) for row in blocks]), values * 2)
        assert get(dict(shown), (x.name, 0, 1)).shape == (3, 3)

    def test_unknown_lengths(self) -> None:
        """Blocks tell how long they are when they are put together."""
        x = from_numpy(np.arange(12.0).reshape(4, 3), (3, 2))
        chunks = ((NAN, NAN), (NAN, NAN))
        made = Blockwise("even", lambda b: b[::2], [x.expr], (0,), [(0, 1)], chunks, "f8")
        expected = np.arange(12.0).reshape(4, 3)[[0, 2, 3]]
        np.testing.assert_array_equal(Array(made).compute(scheduler="sync"), expected)

    def test_a_block_of_another_shape(self) -> None:
        """It is named where the blocks are put together."""
        x = from_numpy(np.ones(4), 2)
        made = Array(Blockwise("f", lambda b: b[:1], [x.expr], (0,), [(0,)], x.chunks, "f8"))
        with pytest.raises(InvalidArgument, match=r"block \(0,\) came with shape \(1,\)"):
            made.compute(scheduler="sync")


class TestMaking:
    """Arrays of what is here."""

    @given(data=st.data())
    @FAST
    def test_from_numpy(self, data: st.DataObject, arrays: Arrays, agrees: Agrees) -> None:
        """Of every dtype, in any chunks."""
        values, chunks = data.draw(arrays((*ALL, "m8[s]", "M8[D]")))
        made = from_numpy(values, chunks)
        assert made.chunks == chunks
        agrees(made, values)

    @pytest.mark.parametrize(
        "values",
        [
            np.array(["a", "bcd", ""]),
            np.array([b"x", b"yz"]),
            np.array([None, "a", 3], object),
            np.array([(1, 2.5), (3, 4.5)], [("i", "i4"), ("f", "f8")]),
            np.arange(12).reshape(3, 4).T,
            np.arange(24)[::-2],
            np.array(["2020-01-01", "NaT"], "M8[D]"),
        ],
    )
    def test_odd_ones(self, values: Values) -> None:
        """Strings, objects, records, other orders in memory."""
        made = from_numpy(values, 1)
        found = made.compute(scheduler="sync")
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)

    def test_names(self) -> None:
        """By value, or as is said."""
        assert from_numpy(np.arange(3)).name == from_numpy(np.arange(3)).name
        assert from_numpy(np.arange(3)).name != from_numpy(np.arange(4)).name
        assert from_numpy(np.arange(3), name="a").name == from_numpy(np.arange(4), name="a").name

    def test_asarray(self) -> None:
        """An array stays itself."""
        x = asarray([1, 2])
        assert asarray(x) is x
        assert x.chunks == ((2,),)

    def test_scalars(self, agrees: Agrees) -> None:
        """Weak ones stay weak, those with a dtype have it."""
        x = np.arange(3, dtype="f4")
        agrees(from_numpy(x) + 1.5, x + 1.5)
        agrees(from_numpy(x) + np.float64(1.5), x + np.float64(1.5))
        agrees(from_numpy(x) + np.array(1.5), x + np.array(1.5))
