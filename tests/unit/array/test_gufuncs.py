"""Functions of core dimensions, against the same functions of whole arrays."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster
from zcluster.array.core import Array, from_numpy, rechunked
from zcluster.array.expressions import Generated
from zcluster.array.gufuncs import apply_gufunc, as_gufunc, gufunc
from zcluster.array.lowering import lower_arrays
from zcluster.array.slicing import getitem
from zcluster.errors import InvalidArgument

NAN = float("nan")
FAST = settings(max_examples=40, deadline=None)
Values = npt.NDArray[Any]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]
Agrees = Callable[..., None]

VALUES = np.arange(24.0).reshape(2, 3, 4)


def span(block: Values) -> tuple[Any, Any]:
    return block.min(axis=-1), block.max(axis=-1)


def product(a: Values, b: Values) -> Any:
    return np.einsum("...i,...j->...ij", a, b)


def blocks(*shape: int, chunks: Any = 2) -> tuple[Values, Array]:
    values = np.arange(float(np.prod(shape))).reshape(shape)
    return values, from_numpy(values, chunks)


@pytest.mark.proves("array.apply_gufunc")
class TestResults:
    """What comes out."""

    @given(data=st.data())
    @FAST
    def test_broadcast_loops(self, data: st.DataObject, chunked: Chunked, agrees: Agrees) -> None:
        """Loop dimensions go along in blocks, of length 1 and missing ones too."""
        loop = data.draw(st.lists(st.integers(0, 4), max_size=2))
        lengths = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
        operands = []
        for core in lengths:
            own = [data.draw(st.sampled_from([n, n, 1])) for n in loop]
            own = own[data.draw(st.integers(0, len(own))) :]
            values = np.arange(np.prod([*own, core], dtype=int)).reshape(*own, core) % 11
            chunks = (*[data.draw(chunked(n)) for n in own], (core,))
            operands.append((values, from_numpy(values, chunks)))
        (x, a), (y, b) = operands
        agrees(apply_gufunc(product, "(i),(j)->(i,j)", a, b), product(x, y))

    def test_several(self) -> None:
        """In one task a block; what nobody wants is not taken."""
        values, x = blocks(6, 4, chunks=(2, 4))
        low, high = apply_gufunc(span, "(i)->(),()", x)
        found = zcluster.compute(low, high, high - low, scheduler="sync")
        expected = values.min(1), values.max(1), values.max(1) - values.min(1)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        for how in ("sync", "threads"):
            assert low.compute(scheduler=how).tolist() == values.min(1).tolist()
        graph, _ = lower_arrays([(low + 1).expr, (high * 2).expr])
        counts = {layer.name.partition("-")[0]: layer.count for layer in graph.layers}
        assert counts["span"] == 3
        again = pickle.loads(pickle.dumps(high))
        assert again.name == high.name

    def test_of_other_shapes(self, agrees: Agrees) -> None:
        """Results with core dimensions of their own, of other dtypes."""

        def several(x: Values) -> Any:
            return x[..., ::2], x.sum(-1) > 4, np.stack([x] * 3, -1)

        values, x = blocks(4, 3, chunks=(2, 3))
        half, large, three = apply_gufunc(
            several, "(i)->(h),(),(i,t)", x, output_sizes={"h": 2, "t": 3}
        )
        agrees(half, values[:, ::2])
        agrees(large, values.sum(1) > 4)
        agrees(three, np.stack([values] * 3, -1))
        agrees(getitem(three, (slice(1, 3), 0)), np.stack([values] * 3, -1)[1:3, 0])

    def test_one_in_a_tuple(self, agrees: Agrees) -> None:
        """A signature of one result gives an array."""
        values, x = blocks(4, 3, chunks=(2, 3))
        agrees(apply_gufunc(lambda b: b.sum(-1), "(i)->()", x), values.sum(1))

    def test_without_core_dimensions(self, agrees: Agrees) -> None:
        """It is a function of blocks; of arrays without axes, of a call."""
        values, x = blocks(4, 3)
        agrees(apply_gufunc(np.add, "(),()->()", x, 2.0), values + 2)
        assert apply_gufunc(np.add, "(),()->()", 1, 2).compute(scheduler="sync") == 3
        agrees(apply_gufunc(lambda: np.arange(3), "->(i)", output_sizes={"i": 3}), np.arange(3))

    def test_a_fixed_length(self, agrees: Agrees) -> None:
        """A number in the signature is one."""
        values, x = blocks(4, 3, chunks=(2, 3))
        agrees(apply_gufunc(np.cross, "(3),(3)->(3)", x, x[::-1]), np.cross(values, values[::-1]))
        with pytest.raises(InvalidArgument, match="'3' has lengths 3 and 4"):
            apply_gufunc(np.cross, "(3),(3)->(3)", np.ones((2, 4)), x)

    def test_slices_and_views_around(self, agrees: Agrees) -> None:
        """It is an array as any other."""
        values, x = blocks(6, 4, chunks=(2, 4))
        made = apply_gufunc(lambda b: b.cumsum(-1), "(i)->(i)", (x + 1) * 2) - 1
        expected = ((values + 1) * 2).cumsum(1) - 1
        agrees(getitem(made, (slice(None, None, -2), slice(1, 3))), expected[::-2, 1:3])


class TestAxes:
    """Core dimensions elsewhere."""

    def test_axis(self, agrees: Agrees) -> None:
        """Of one that all share; kept if that is wanted."""
        x = from_numpy(VALUES, (1, 3, 2))
        mean = gufunc(lambda b: b.mean(-1), signature="(i)->()")
        agrees(mean(x, axis=1), VALUES.mean(1))
        agrees(mean(x, axis=1, keepdims=True), VALUES.mean(1, keepdims=True))
        agrees(mean(x, axis=-2, keepdims=True), VALUES.mean(1, keepdims=True))
        run = apply_gufunc(lambda b: b.cumsum(-1), "(i)->(i)", x, axis=1)
        agrees(run, VALUES.cumsum(1))
        both = apply_gufunc(span, "(i)->(),()", x, axis=1, keepdims=True)
        agrees(both[0], VALUES.min(1, keepdims=True))
        agrees(both[1], VALUES.max(1, keepdims=True))

    def test_axes(self, agrees: Agrees) -> None:
        """For each argument and result."""
        x, y = VALUES, VALUES.transpose(1, 2, 0)
        lazy = from_numpy(x, (2, 3, 2)), from_numpy(y, (3, 1, 2))

        def multiply(a: Values, b: Values) -> Any:
            return a @ b

        made = apply_gufunc(multiply, "(i,j),(j,k)->(i,k)", *lazy, axes=[(0, 1), (0, 2), (2, 0)])
        moved = np.moveaxis(x, (0, 1), (-2, -1)) @ np.moveaxis(y, (0, 2), (-2, -1))
        agrees(made, np.moveaxis(moved, (-2, -1), (2, 0)))
        total = apply_gufunc(
            lambda b: b.sum((-2, -1)), "(i,j)->()", lazy[0], axes=[(0, 1)], keepdims=True
        )
        agrees(total, x.sum((0, 1), keepdims=True))

    def test_chunks(self, agrees: Agrees) -> None:
        """Core dimensions are in one chunk, or brought into one."""
        values, x = blocks(4, 6, chunks=(2, 4))
        with pytest.raises(InvalidArgument, match=r"'i' has 2 chunks; .* allow_rechunk=True"):
            apply_gufunc(span, "(i)->(),()", x)
        low, _ = apply_gufunc(span, "(i)->(),()", x, allow_rechunk=True)
        agrees(low, values.min(1))
        other = rechunked(from_numpy(values, -1), (3, -1))
        agrees(apply_gufunc(np.add, "(i),(i)->(i)", rechunked(x, (2, -1)), other), values * 2)

    def test_unknown_lengths(self) -> None:
        """They go along."""
        x = Array(Generated("x", lambda starts, shape: np.ones((2, 3)), ((NAN, NAN), (3,)), "f8"))
        made = apply_gufunc(span, "(i)->(),()", x + 0)[1]
        assert made.chunks[0][0] != made.chunks[0][0]


class TestOptions:
    """How the function is called, and what is known of its results."""

    @pytest.mark.parametrize("length", [0, 1, 5])
    def test_vectorize(self, length: int, agrees: Agrees) -> None:
        """It sees core dimensions alone, one after the other."""

        def middle(row: Values, factor: float) -> float:
            assert row.ndim == 1
            return float(np.sort(row)[len(row) // 2] * factor)

        values, x = blocks(length, 3, chunks=(2, 3))
        made = apply_gufunc(middle, "(i),()->()", x, 2.0, vectorize=True, output_dtypes="f8")
        agrees(made, np.median(values, axis=1) * 2 if length else np.zeros(0))
        if length:
            made = apply_gufunc(middle, "(i),()->()", x, 2.0, vectorize=True)
            agrees(made, np.median(values, axis=1) * 2)

    def test_dtypes(self) -> None:
        """Said, by meta, or found out by calling it with ones."""
        _, x = blocks(4, 3, chunks=(2, 3))
        assert apply_gufunc(lambda b: b.sum(-1) > 1, "(i)->()", x).dtype == bool
        assert apply_gufunc(lambda b: b[..., 2], "(i)->()", x).dtype == "f8"
        said = apply_gufunc(span, "(i)->(),()", x, output_dtypes=("f4", int))
        assert [one.dtype for one in said] == [np.dtype("f4"), np.dtype(int)]
        meta = apply_gufunc(span, "(i)->(),()", x, meta=(np.empty(0, "c8"), np.empty(0, "i2")))
        assert [one.dtype for one in meta] == [np.dtype("c8"), np.dtype("i2")]
        assert apply_gufunc(np.sum, "(i)->()", x, meta=np.empty(0, "c8")).dtype == "c8"
        for kwargs in ({"output_dtypes": ["f8"]}, {"output_dtypes": "f8"}, {"meta": np.empty(0)}):
            with pytest.raises(InvalidArgument, match="for 2 results; expected one for each"):
                apply_gufunc(span, "(i)->(),()", x, **kwargs)

        def never(block: Values) -> Any:
            raise ZeroDivisionError("of course")

        with pytest.raises(InvalidArgument, match="ZeroDivisionError: of course; say them with"):
            apply_gufunc(never, "(i)->()", x)

    def test_large_core_dimensions_are_not_tried(self) -> None:
        """The function is tried on little."""
        seen: list[int] = []

        def look(block: Values) -> Any:
            seen.append(block.size)
            return block.sum(-1)

        apply_gufunc(look, "(i)->()", np.ones((2, 1_000_000)))
        assert seen == [1]

    def test_keywords(self, agrees: Agrees) -> None:
        """What is no option is the function's."""
        values, x = blocks(4, 3, chunks=(2, 3))
        agrees(
            apply_gufunc(lambda b, power: (b**power).sum(-1), "(i)->()", x, power=2),
            (values**2).sum(1),
        )

    @pytest.mark.parametrize(
        ("signature", "args", "kwargs", "says"),
        [
            ("(i)->()", (), {}, "0 arguments for signature"),
            ("(i),(i)->()", (np.ones(3), np.ones(4)), {}, "'i' has lengths 3 and 4"),
            ("(i)->(k)", (np.ones(3),), {}, "in no argument; say its length: output_sizes"),
            ("(i,j)->()", (np.ones(3),), {}, "an argument of 1 dimensions"),
            ("(i)->()", (np.ones(3),), {"axis": 0, "axes": [0]}, "both given"),
            ("nonsense", (), {}, "is no signature"),
        ],
    )
    def test_refused(self, signature: str, args: Any, kwargs: Any, says: str) -> None:
        """At the call."""
        with pytest.raises(InvalidArgument, match=says):
            apply_gufunc(np.sum, signature, *args, **kwargs)

    def test_loops_that_do_not_broadcast(self) -> None:
        """As NumPy says it."""
        with pytest.raises(ValueError, match="could not be broadcast"):
            apply_gufunc(np.add, "(),()->()", np.ones(3), np.ones(4))

    def test_promises(self) -> None:
        """Other shapes, and other numbers of results, than the signature says."""
        _, x = blocks(4, 3, chunks=(2, 3))
        made = apply_gufunc(lambda b: b, "(i)->()", x, output_dtypes="f8")
        with pytest.raises(
            InvalidArgument, match=r"shape \(2, 3\) for block \(0,\) .* says \(2,\)"
        ):
            made.compute(scheduler="sync")
        made = apply_gufunc(span, "(i)->(),(),()", x, output_dtypes=["f8"] * 3)[0]
        with pytest.raises(InvalidArgument, match="returned 2 results; the signature says 3"):
            made.compute(scheduler="sync")
        made = apply_gufunc(np.sum, "(i)->(),()", x, output_dtypes=["f8"] * 2)[0]
        with pytest.raises(InvalidArgument, match="returned one result; the signature says 2"):
            made.compute(scheduler="sync")

    def test_names(self) -> None:
        """By the function, its signature and its arguments."""
        _, x = blocks(4, 3, chunks=(2, 3))
        first = apply_gufunc(span, "(i)->(),()", x)
        again = apply_gufunc(span, "(i)->(),()", x)
        assert [one.name for one in first] == [one.name for one in again]
        assert first[0].name != first[1].name
        assert first[0].name.startswith("span-")
        assert first[0].name != apply_gufunc(span, "(i)->(),()", x + 1)[0].name


@pytest.mark.proves("array.gufunc", "array.as_gufunc")
class TestObjects:
    """Functions with a signature."""

    def test_decorator(self, agrees: Agrees) -> None:
        """It has the name and the words of the function."""

        @as_gufunc("(i),(i)->()", output_dtypes="f8")
        def dot(a: Values, b: Values) -> Any:
            """Multiply and add."""
            return (a * b).sum(-1)

        values, x = blocks(4, 3, chunks=(2, 3))
        agrees(dot(x, x), (values * values).sum(1))
        agrees(dot(x, x, output_dtypes=None), (values * values).sum(1))
        assert (dot.__name__, dot.__doc__) == ("dot", "Multiply and add.")
        assert repr(dot) == "<gufunc 'dot' of signature '(i),(i)->()'>"

    def test_of_ufuncs(self, agrees: Agrees) -> None:
        """Those of NumPy say their signature themselves."""
        values, x = blocks(3, 2, 4, chunks=(2, 2, 4))
        agrees(gufunc(np.vecdot)(x, x), np.vecdot(values, values))

    def test_refused(self) -> None:
        """No signature, or none."""
        with pytest.raises(InvalidArgument, match="sin has no signature; give one"):
            gufunc(np.sin)
        with pytest.raises(InvalidArgument, match="is no signature"):
            gufunc(np.sin, signature="x")
