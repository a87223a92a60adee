"""What a lazy ufunc does with keywords, and its methods, is what NumPy's does."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array import ufuncs as u
from zcluster.array.core import Array, from_numpy
from zcluster.array.universal import Ufunc, frompyfunc
from zcluster.protocol.tokens import tokenize

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=20, deadline=None)

Agrees = Callable[..., None]

REDUCED = ["add", "multiply", "maximum", "fmin", "logical_or", "bitwise_xor", "subtract"]


class TestCalls:
    """Keywords and operands."""

    def test_without_an_array_in_chunks_numpy_answers(self) -> None:
        """So they may be used inside functions of blocks."""
        assert u.add(1, 2) == 3
        assert type(u.sin(np.ones(3))) is np.ndarray
        assert u.divmod(7, 2) == (3, 1)
        out = np.zeros(2)
        assert u.add(np.ones(2), 1, out=out) is out

    def test_mixed_with_numpy(self, agrees: Agrees) -> None:
        """One operand in chunks makes it lazy; Python's scalars are weak."""
        x = from_numpy(np.arange(3, dtype="f4"), 2)
        agrees(u.add(x, 1.5), np.arange(3, dtype="f4") + 1.5)
        agrees(u.add(np.ones(3), x), np.ones(3) + np.arange(3, dtype="f4"))
        agrees(u.multiply(x, np.float64(2)), np.arange(3, dtype="f4") * np.float64(2))

    @given(data=st.data())
    @FAST
    def test_where_and_out(self, data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
        """Where the mask is false stands what was there; an array that is written is the result."""
        a, chunks = data.draw(arrays(dtypes=("i8", "f4"), nan=False))
        mask = (a.astype(int) % 2).astype(bool)
        x, where = from_numpy(a, chunks), from_numpy(mask, chunks)
        held = np.full(a.shape, 7.0)
        expected = np.add(a, 1, out=held.copy(), where=mask)
        target = from_numpy(held, chunks)
        assert u.add(x, 1, out=target, where=where) is target
        agrees(target, expected)
        agrees(u.add(x, 1, where=where), np.add(a, 1, out=np.zeros_like(a), where=mask))
        both = u.divmod(x, 3, where=where)
        for found, one in zip(both, (np.floor_divide, np.remainder), strict=True):
            agrees(found, one(a, 3, out=np.zeros_like(a), where=mask))

    def test_dtype_of_the_calculation(self, agrees: Agrees) -> None:
        """As NumPy has it."""
        a = np.arange(4, dtype="i4")
        agrees(u.add(from_numpy(a, 2), 1, dtype="f4"), np.add(a, 1, dtype="f4"))
        agrees(u.sqrt(from_numpy(a), dtype="f4"), np.sqrt(a, dtype="f4"))

    def test_out_errors(self) -> None:
        """Memory cannot hold what is not computed; shapes and kinds must do."""
        x = from_numpy(np.ones(3))
        with pytest.raises(NotImplementedError, match="assign what compute"):
            u.add(x, 1, out=np.ones(3))
        with pytest.raises(NotImplementedError, match="assign what compute"):
            np.add(x, 1, out=np.ones(3))
        with pytest.raises(TypeError, match="same_kind"):
            u.add(x, 1, out=from_numpy(np.ones(3, int)))
        with pytest.raises(ValueError, match="broadcast"):
            u.add(x, np.ones((2, 1)), out=from_numpy(np.ones(3)))
        with pytest.raises(ValueError, match="number of results"):
            u.modf(x, out=(x,))
        with pytest.raises(TypeError, match="positional and keyword"):
            u.add(x, 1, x, out=x)

    def test_out_by_position(self, agrees: Agrees) -> None:
        """The third operand of two."""
        x = from_numpy(np.ones(3), 2)
        target = from_numpy(np.zeros(3), 1)
        assert u.add(x, 1, target) is target
        agrees(target, np.full(3, 2.0))

    def test_an_error_of_types_is_raised_at_the_call(self) -> None:
        """As NumPy does."""
        with pytest.raises(TypeError):
            u.bitwise_and(from_numpy(np.ones(2)), 1)
        with pytest.raises(ValueError, match="broadcast"):
            u.add(from_numpy(np.ones(2)), np.ones(3))


class TestMethods:
    """`outer`, `reduce`, `accumulate`, `reduceat`."""

    @given(data=st.data(), name=st.sampled_from(REDUCED))
    @FAST
    def test_reduce(self, name: str, data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
        """Over any axes, with a beginning and a mask."""
        dtypes = ("i8", "u1") if name.startswith("bitwise") else ("i1", "f4", "?")
        a, chunks = data.draw(arrays(dtypes=dtypes, nan=False, length=(0, 5)))
        x, ours, of = from_numpy(a, chunks), getattr(u, name), getattr(np, name)
        axis = data.draw(st.sampled_from([None, *range(-a.ndim, a.ndim)]))
        said: dict[str, Any] = {"axis": axis, "keepdims": data.draw(st.booleans())}
        if data.draw(st.booleans()):
            said["initial"] = 1
        mask = (np.arange(a.size) % 3 > 0).reshape(a.shape)
        lazy = dict(said)
        if data.draw(st.booleans()) and name != "subtract":
            said["where"], lazy["where"] = mask, from_numpy(mask, chunks)
        try:
            expected = of.reduce(a, **said)
        except (ValueError, TypeError) as error:
            with pytest.raises(type(error)):
                ours.reduce(x, **lazy).compute(scheduler="sync")
            return
        agrees(ours.reduce(x, **lazy), expected, rtol=1e-5)

    def test_reduce_into_an_array(self, agrees: Agrees) -> None:
        """With a dtype, too; and of several axes."""
        a = np.arange(24, dtype="i2").reshape(2, 3, 4)
        target = from_numpy(np.zeros(3))
        assert u.add.reduce(from_numpy(a, 2), axis=(0, 2), out=target) is target
        agrees(target, a.sum((0, 2)).astype(float))
        agrees(u.add.reduce(from_numpy(a, 2), axis=(), dtype="f4"), a.astype("f4"))
        agrees(u.add.reduce(from_numpy(np.array(5))), np.add.reduce(np.array(5)))

    def test_where_of_what_has_an_order(self) -> None:
        """It is refused, and a way round is said."""
        x = from_numpy(np.ones(3))
        with pytest.raises(NotImplementedError, match=r"subtract\.reduce\(x\[mask\]\)"):
            u.subtract.reduce(x, where=x > 0)

    @given(data=st.data())
    @FAST
    def test_others(self, data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
        """Pairs of all elements, beginnings and parts of an axis."""
        a, chunks = data.draw(arrays(dtypes=("i8", "f4"), ndim=(1, 2), length=(1, 5), nan=False))
        x = from_numpy(a, chunks)
        agrees(u.multiply.outer(x, a), np.multiply.outer(a, a))
        axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
        agrees(u.add.accumulate(x, axis), np.add.accumulate(a, axis), rtol=1e-6)
        places = data.draw(st.lists(st.integers(0, a.shape[axis] - 1), min_size=1, max_size=4))
        agrees(u.add.reduceat(x, places, axis), np.add.reduceat(a, places, axis), rtol=1e-6)

    def test_of_numpy(self) -> None:
        """Methods answer at once where nothing is lazy."""
        a = np.arange(4)
        assert u.add.reduce(a) == 6
        assert u.add.outer(a, a).shape == (4, 4)
        assert u.add.accumulate(a)[-1] == 6
        assert u.add.reduceat(a, [0, 2]).tolist() == [1, 5]
        u.add.at(a, [0, 0], 1)
        assert a[0] == 2

    def test_method_errors(self) -> None:
        """At the call."""
        x = from_numpy(np.ones(3))
        with pytest.raises(NotImplementedError, match="bincount"):
            u.add.at(x, [0], 1)
        with pytest.raises(IndexError, match="out-of-bounds"):
            u.add.reduceat(x, [3])
        with pytest.raises(ValueError, match="binary"):
            u.sin.outer(x, x)
        with pytest.raises(np.exceptions.AxisError):
            u.add.reduce(x, axis=1)


class TestObjects:
    """A ufunc as an object."""

    @pytest.mark.proves("array.ufunc")
    def test_what_it_says_of_itself(self) -> None:
        """As NumPy's does."""
        for name in ("nin", "nout", "nargs", "ntypes", "types", "identity", "signature"):
            assert getattr(u.modf, name) == getattr(np.modf, name)
        assert repr(u.add) == "<ufunc 'add' of zcluster.array>"
        assert "numpy.add" in (u.add.__doc__ or "")

    def test_pickled(self) -> None:
        """By the function of NumPy's; with a name that stays."""
        again = pickle.loads(pickle.dumps(u.add))
        assert again.numpy is np.add
        assert tokenize(again) == tokenize(u.add) != tokenize(u.subtract)

    @pytest.mark.proves("array.frompyfunc")
    def test_frompyfunc(self, agrees: Agrees) -> None:
        """A function of Python, of one result or several."""
        a = np.arange(5)
        x = from_numpy(a, 2)
        ours, of = (make(lambda one, other: one * 10 + other, 2, 1)
                    for make in (frompyfunc, np.frompyfunc))  # fmt: skip
        agrees(ours(x, 3), of(a, 3))
        agrees(ours.outer(x, x), of.outer(a, a))
        two, of_two = (make(lambda one: (one, -one), 1, 2) for make in (frompyfunc, np.frompyfunc))
        for found, expected in zip(two(x), of_two(a), strict=True):
            agrees(found, expected)
        assert isinstance(pickle.loads(pickle.dumps(frompyfunc(max, 2, 1))), Ufunc)
        with pytest.raises(ValueError, match="nout"):
            frompyfunc(max, 2, 0)

    def test_in_functions_of_blocks(self) -> None:
        """What they get there is NumPy's."""
        x = from_numpy(np.ones(4), 2)
        found = x.map_blocks(u.negative)
        assert isinstance(found, Array)
        np.testing.assert_array_equal(found.compute(scheduler="sync"), -np.ones(4))
