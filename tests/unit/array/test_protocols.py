"""An array where Python, NumPy and notebooks expect one."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster.array as da
from zcluster.array.core import Array, from_numpy
from zcluster.array.restating import Restated
from zcluster.errors import InvalidArgument, NotAvailable

np: Any = numpy  # NumPy is the model; its stubs do not know what is tried here

FAST = settings(max_examples=20, deadline=None)

Agrees = Callable[..., None]


def hidden(x: Array) -> Array:
    """Forget the lengths of an array."""
    return Array(Restated(x.expr, tuple((math.nan,) * len(own) for own in x.chunks)))


class TestNumPy:
    """NumPy's functions stay lazy."""

    @pytest.mark.proves("array.Array.__array_function__")
    def test_functions(self, agrees: Agrees) -> None:
        """By name, also below linalg and lib; with keywords."""
        a = np.arange(12.0).reshape(3, 4)
        x = from_numpy(a, 2)
        agrees(np.sum(x, axis=0), np.sum(a, axis=0))
        agrees(np.concatenate([x, a]), np.concatenate([a, a]))
        agrees(np.where(x > 3, x, 0), np.where(a > 3, a, 0))
        agrees(np.reshape(x, (4, 3)), a.reshape(4, 3))
        agrees(np.lib.stride_tricks.sliding_window_view(x, 2, axis=0),
               np.lib.stride_tricks.sliding_window_view(a, 2, axis=0))  # fmt: skip
        agrees(np.around(x, 1), np.around(a, 1))
        assert np.shape(x) == (3, 4)
        assert np.result_type(x, np.int8) == np.float64

    @pytest.mark.proves("array.Array.__array_ufunc__", "array.Array.__array_priority__")
    def test_ufuncs(self, agrees: Agrees) -> None:
        """Calls and methods; with NumPy's arrays and scalars on the left."""
        a = np.arange(6.0).reshape(2, 3)
        x = from_numpy(a, 2)
        agrees(np.hypot(x, 2), np.hypot(a, 2))
        agrees(a + x, a + a)
        agrees(np.float64(2) * x, np.float64(2) * a)
        agrees(np.add.reduce(x, axis=1), np.add.reduce(a, axis=1))
        agrees(np.multiply.outer(x, a), np.multiply.outer(a, a))
        whole, rest = np.divmod(x, 2)
        agrees(whole, a // 2)
        agrees(rest, a % 2)
        target = from_numpy(np.zeros((2, 3)))
        assert np.negative(x, out=target) is target
        agrees(target, -a)

    def test_what_there_is_not(self) -> None:
        """The error says what to do instead; nothing is computed behind the back."""
        x = from_numpy(np.ones(3))
        with pytest.raises(NotAvailable, match=r"numpy\.poly"):
            np.poly(x)
        with pytest.raises(NotAvailable, match="packbits"):
            np.packbits(x)
        held = np.ones(3)
        with pytest.raises(NotImplementedError, match="assign what compute"):
            held += x

    def test_other_libraries_are_asked(self) -> None:
        """What has protocols of its own decides."""

        class Other:
            __array_priority__ = 20

            def __array_ufunc__(self, *args: Any, **kwargs: Any) -> str:
                return "mine"

            def __array_function__(self, *args: Any, **kwargs: Any) -> str:
                return "mine"

        x = from_numpy(np.ones(3))
        assert np.add(x, Other()) == "mine"
        assert np.concatenate([x, Other()]) == "mine"

    @pytest.mark.proves("array.Array.__array__")
    def test_values(self) -> None:
        """`numpy.asarray` computes; what cannot be without a copy is an error."""
        x = from_numpy(np.arange(4), 2)
        np.testing.assert_array_equal(np.asarray(x + 1), np.arange(4) + 1)
        assert np.asarray(x, "f4").dtype == np.float32
        assert np.array(x, copy=True).tolist() == [0, 1, 2, 3]
        with pytest.raises(ValueError, match="copy"):
            np.array(x, copy=False)


OPERATORS = [
    "add", "and", "divmod", "eq", "floordiv", "ge", "gt", "le", "lshift", "lt", "mod", "mul", "ne",
    "or", "pow", "rshift", "sub", "truediv", "xor",
]  # fmt: skip


class TestPython:
    """Python's own protocols."""

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(
                name,
                marks=pytest.mark.proves(f"array.Array.__{name}__", f"array.Array.__r{name}__")
                if name not in ("eq", "ge", "gt", "le", "lt", "ne")
                else pytest.mark.proves(f"array.Array.__{name}__"),
            )
            for name in OPERATORS
        ],
    )
    def test_operators(self, name: str, agrees: Agrees) -> None:
        """With an array in chunks, one of NumPy's and a scalar, on either side."""
        a, b = np.array([5, 7, 9]), np.array([[1], [2]])
        x, y = from_numpy(a, 2), from_numpy(b, 1)
        operate = divmod if name == "divmod" else getattr(operator, f"__{name}__")
        for ours, expected in (
            (operate(x, y), operate(a, b)),
            (operate(x, b), operate(a, b)),
            (operate(a, y), operate(a, b)),
            (operate(x, 2), operate(a, 2)),
            (operate(2, y), operate(2, b)),
        ):
            if name == "divmod":
                for one, other in zip(ours, expected, strict=True):
                    agrees(one, other)
            else:
                agrees(ours, expected)

    @pytest.mark.proves(
        "array.Array.__abs__",
        "array.Array.__invert__",
        "array.Array.__neg__",
        "array.Array.__pos__",
        "array.Array.dtype",
        "array.Array.itemsize",
        "array.Array.nbytes",
        "array.Array.ndim",
        "array.Array.shape",
        "array.Array.size",
    )
    def test_signs_and_attributes(self, agrees: Agrees) -> None:
        """Of one array."""
        a = np.array([[-1, 2], [3, -4]], "i2")
        x = from_numpy(a, 1)
        for operate in (abs, operator.invert, operator.neg, operator.pos):
            agrees(operate(x), operate(a))
        for name in ("dtype", "itemsize", "nbytes", "ndim", "shape", "size"):
            assert getattr(x, name) == getattr(a, name)

    @pytest.mark.proves(
        "array.Array.__float__",
        "array.Array.__int__",
        "array.Array.__bool__",
        "array.Array.__complex__",
        "array.Array.__index__",
        "array.Array.item",
    )
    def test_scalars(self) -> None:
        """An array of one element is a number where one is asked for."""
        x = from_numpy(np.array(3))
        assert (float(x), int(x), complex(x), bool(x)) == (3.0, 3, 3 + 0j, True)
        assert operator.index(x) == 3
        assert [1, 2, 3, 4][x] == 4
        assert x.item() == 3
        a = np.arange(6).reshape(2, 3)
        y = from_numpy(a, 2)
        assert (y.item(4), y.item(-1), y.item(1, 2), y.item((0, 1))) == (4, 5, 5, 1)
        assert bool(y.sum() > 3) is True

    def test_scalar_errors(self) -> None:
        """What has several elements is none; nothing is computed to find out."""
        x = from_numpy(np.ones(3))
        with pytest.raises(ValueError, match="ambiguous"):
            bool(x)
        for kind in (float, int, complex):
            with pytest.raises(TypeError, match="one element"):
                kind(x)
        with pytest.raises(TypeError, match="integer scalar"):
            operator.index(from_numpy(np.array(1.5)))
        with pytest.raises(ValueError, match="size 1"):
            x.item()

    @pytest.mark.proves(
        "array.Array.__len__",
        "array.Array.__iter__",
        "array.Array.__contains__",
        "array.Array.tolist",
    )
    def test_sequences(self) -> None:
        """Length, items, what is in it."""
        a = np.arange(6).reshape(3, 2)
        x = from_numpy(a, 2)
        assert len(x) == 3
        assert [one.compute(scheduler="sync").tolist() for one in x] == a.tolist()
        assert 4 in x
        assert 9 not in x
        assert x.tolist() == a.tolist()
        first, *_ = x
        assert isinstance(first, Array)

    @pytest.mark.parametrize("call", [len, iter])
    def test_sequence_errors(self, call: Callable[[Any], Any]) -> None:
        """With no axes there is no length, and none as long as it is not known."""
        with pytest.raises(TypeError, match=r"0-d|unsized"):
            call(from_numpy(np.array(1)))
        with pytest.raises(InvalidArgument, match="compute_chunk_sizes"):
            call(hidden(from_numpy(np.ones(3))))

    def test_copies(self) -> None:
        """An assignment to one does not change the other; pickled it has the same name."""
        x = from_numpy(np.arange(3), 2) + 1
        for other in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
            assert other.name == x.name
            other[0] = 7
            assert x.tolist() == [1, 2, 3]
            assert other.tolist() == [7, 2, 3]


class TestSizes:
    """`compute_chunk_sizes`."""

    @pytest.mark.proves("array.Array.compute_chunk_sizes")
    @given(data=st.data())
    @FAST
    def test_lengths_are_found(self, data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
        """Of all axes, in place."""
        a, chunks = data.draw(arrays(dtypes=("i8",), ndim=(1, 3), length=(0, 5)))
        x = from_numpy(a, chunks)
        y = hidden(x + 1)
        assert y.compute_chunk_sizes(scheduler="sync") is y
        assert y.chunks == x.chunks
        agrees(y, a + 1)
        agrees(y[..., :2] * 2, (a + 1)[..., :2] * 2)

    def test_after_a_mask(self) -> None:
        """Known lengths cost nothing."""
        x = from_numpy(np.arange(6), 2)
        y = x[x > 2]
        assert math.isnan(y.shape[0])
        assert y.compute_chunk_sizes().chunks == ((0, 1, 2),)
        assert x.compute_chunk_sizes() is x


class TestMemory:
    """`view`."""

    @pytest.mark.proves("array.Array.view")
    @given(data=st.data())
    @FAST
    def test_equals(self, data: st.DataObject, arrays: Any, agrees: Agrees) -> None:
        """As types of the same size, larger ones and smaller ones."""
        a, chunks = data.draw(arrays(dtypes=("i4", "f8"), ndim=(1, 2), length=(1, 4), nan=False))
        a, chunks = np.concatenate([a, a], -1), (*chunks[:-1], chunks[-1] * 2)
        x = from_numpy(a, chunks)
        for dtype in ("i4", "f8", "u1", "c16"):
            if a.shape[-1] * a.itemsize % np.dtype(dtype).itemsize:
                with pytest.raises(ValueError, match="last axis"):
                    x.view(dtype)
                continue
            expected = a.view(dtype)
            found = x.view(dtype)
            assert found.shape == expected.shape
            assert found.compute(scheduler="sync").tobytes() == expected.tobytes()
        assert x.view().name == x.name

    def test_errors(self) -> None:
        """Without axes the size of items must stay."""
        with pytest.raises(ValueError, match="0d"):
            from_numpy(np.array(1.5)).view("i4")


class TestStandard:
    """The array API."""

    @pytest.mark.proves(
        "array.Array.__array_namespace__", "array.Array.device", "array.Array.to_device"
    )
    def test_namespace(self) -> None:
        """The package, in all versions that it says."""
        x = from_numpy(np.ones(3))
        for version in (None, "2023.12", da.__array_api_version__):
            assert x.__array_namespace__(api_version=version) is da
        with pytest.raises(ValueError, match="1999"):
            x.__array_namespace__(api_version="1999")
        assert (x.device, x.to_device("cpu") is x) == ("cpu", True)
        with pytest.raises(InvalidArgument, match="expected 'cpu'"):
            x.to_device("gpu")
        assert "boolean indexing" in da.__array_namespace_info__().capabilities()


class TestShowing:
    """Text and pictures."""

    @pytest.mark.proves("array.Array.to_svg")
    def test_text_and_pictures(self) -> None:
        """Nothing is computed for them."""
        x = from_numpy(np.ones((4, 4)), 2) + 1
        assert repr(x).startswith("zarray<add, shape=(4, 4)")
        assert "<svg" in x._repr_html_()
        assert x.to_svg().startswith("<svg")
        assert "nan" in repr(hidden(x))
