"""Products of vectors, matrices and stacks, against NumPy."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zcluster.array as da
from zcluster.array.core import from_numpy
from zcluster.array.linalg import products

FAST = settings(max_examples=30, deadline=None)
KINDS = ("?", "i1", "i8", "f4", "f8", "c16")

Near = Callable[..., None]
Chunked = Callable[[int], st.SearchStrategy[tuple[int, ...]]]


def numbers(draw: Any, shape: tuple[int, ...]) -> Any:
    """Draw an array of a shape, of some type."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    dtype = np.dtype(draw(st.sampled_from(KINDS)))
    made = rng.integers(0 if dtype.kind == "b" else -4, 5, shape)
    return (made + 1j * rng.integers(-2, 3, shape) if dtype.kind == "c" else made).astype(dtype)


def lazy(draw: Any, values: Any, chunked: Chunked) -> Any:
    return from_numpy(values, tuple(draw(chunked(n)) for n in values.shape))


LENGTHS = st.integers(0, 6)


@pytest.mark.proves("array.tensordot")
@given(data=st.data())
@FAST
def test_tensordot(data: st.DataObject, chunked: Chunked, near: Near) -> None:
    """Any axes of both, in any order, and none."""
    shape = data.draw(st.lists(LENGTHS, min_size=0, max_size=3))
    count = data.draw(st.integers(0, len(shape)))
    own = data.draw(st.permutations(range(len(shape))))[:count]
    others = data.draw(st.lists(LENGTHS, max_size=2))
    order = data.draw(st.permutations(range(count + len(others))))
    second = [*(shape[axis] for axis in own), *others]
    a, b = numbers(data.draw, tuple(shape)), numbers(data.draw, tuple(second[i] for i in order))
    axes = (own, [order.index(i) for i in range(count)])
    x, y = lazy(data.draw, a, chunked), lazy(data.draw, b, chunked)
    near(products.tensordot(x, y, axes), np.tensordot(a, b, axes))


@pytest.mark.proves("array.matmul", "array.Array.__matmul__", "array.linalg.matmul")
@given(data=st.data())
@FAST
def test_matmul(data: st.DataObject, chunked: Chunked, near: Near) -> None:
    """Stacks that are broadcast, and vectors on both sides."""
    n, k, m = data.draw(LENGTHS), data.draw(LENGTHS), data.draw(LENGTHS)
    stack = data.draw(st.lists(st.integers(1, 3), max_size=2))
    left = [1 if data.draw(st.booleans()) else one for one in stack]
    first = (k,) if data.draw(st.booleans()) else (*left, n, k)
    second = (k,) if data.draw(st.booleans()) else (*stack[data.draw(st.integers(0, 2)) :], k, m)
    a, b = numbers(data.draw, first), numbers(data.draw, second)
    x, y = lazy(data.draw, a, chunked), lazy(data.draw, b, chunked)
    near(x @ y, a @ b)


@pytest.mark.proves("array.dot", "array.Array.dot", "array.inner", "array.vdot")
@given(data=st.data())
@FAST
def test_dot_inner_and_vdot(data: st.DataObject, chunked: Chunked, near: Near) -> None:
    """Scalars, vectors and more."""
    k = data.draw(LENGTHS)
    shapes: Any = [(), (k,), (3, k), (2, 3, k)]
    a = numbers(data.draw, data.draw(st.sampled_from(shapes)))
    b = numbers(data.draw, data.draw(st.sampled_from([*shapes, (k, 2), (2, k, 2)])))
    x, y = lazy(data.draw, a, chunked), lazy(data.draw, b, chunked)
    for found, expected in ((products.dot, np.dot), (products.inner, np.inner)):
        try:
            right = expected(a, b)
        except ValueError:
            with pytest.raises(ValueError, match="mismatch"):
                found(x, y)
            continue
        near(found(x, y), right)
        if found is products.dot:
            near(x.dot(y), right)
    near(products.vdot(x, x), np.vdot(a, a))
    if a.size == b.size:
        near(products.vdot(x, y), np.vdot(a, b))


@pytest.mark.proves("array.outer", "array.kron")
@given(data=st.data())
@FAST
def test_outer_and_kron(data: st.DataObject, chunked: Chunked, near: Near) -> None:
    """With second operands of one block and of several."""
    a = numbers(data.draw, tuple(data.draw(st.lists(st.integers(0, 4), max_size=2))))
    b = numbers(data.draw, tuple(data.draw(st.lists(st.integers(0, 4), max_size=2))))
    x, y = lazy(data.draw, a, chunked), lazy(data.draw, b, chunked)
    near(products.outer(x, y), np.outer(a, b))
    near(products.kron(x, y), np.kron(a, b))


@pytest.mark.proves("array.trace", "array.Array.trace")
@given(data=st.data())
@FAST
def test_trace(data: st.DataObject, chunked: Chunked, near: Near) -> None:
    """Any two axes, offsets within and outside, other types for the sum."""
    a = numbers(data.draw, tuple(data.draw(st.lists(LENGTHS, min_size=2, max_size=3))))
    first, second = data.draw(st.permutations(range(a.ndim)))[:2]
    offset = data.draw(st.integers(-7, 7))
    x = lazy(data.draw, a, chunked)
    near(products.trace(x, offset, first, second), np.trace(a, offset, first, second))
    near(x.trace(offset, first, second, "c16"), np.trace(a, offset, first, second, "c16"))


@pytest.mark.proves("array.cross")
def test_cross(near: Near) -> None:
    """Vectors along any axis, broadcast otherwise."""
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((3, 5, 4)), rng.standard_normal((4, 3))
    x, y = from_numpy(a, (2, 3, 2)), from_numpy(b, (3, 1))
    found = products.cross(x, y, axisa=0, axisc=1)
    near(found, np.cross(a, b, axisa=0, axisc=1))
    near(products.cross(y, y[:1]), np.cross(b, b[:1]))
    near(products.cross(x, x[:, :1], axis=0), np.cross(a, a[:, :1], axis=0))
    with pytest.raises(ValueError, match="third element"):
        products.cross([1, 2], [3, 4])


@pytest.mark.proves("array.vecdot", "array.matvec", "array.vecmat", "array.linalg.vecdot")
def test_products_of_stacks_of_vectors(near: Near) -> None:
    """The first operand is conjugated where NumPy does it."""
    rng = np.random.default_rng(2)
    a = rng.standard_normal((4, 3)) + 1j * rng.standard_normal((4, 3))
    b = rng.standard_normal((2, 4, 3))
    x, y = from_numpy(a, (3, 2)), from_numpy(b, (1, 3, 2))
    vecdot: Any = np.vecdot  # its types do not know axis=
    near(products.vecdot(x, y), vecdot(a, b))
    near(products.vecdot(x, y, axis=-2), vecdot(a, b, axis=-2))
    near(products.matvec(x, y[:, 0]), np.matvec(a, b[:, 0]))
    near(products.vecmat(x[:, 0], y), np.vecmat(a[:, 0], b))


@pytest.mark.proves("array.linalg.multi_dot")
def test_multi_dot(near: Near) -> None:
    """The order is the best one; vectors may stand at both ends."""
    rng = np.random.default_rng(3)
    shapes = [(20, 2), (2, 30), (30, 3), (3, 9)]
    matrices = [rng.standard_normal(shape) for shape in shapes]
    chunks = [from_numpy(one, 7) for one in matrices]
    near(products.multi_dot(chunks), np.linalg.multi_dot(matrices))
    near(
        products.multi_dot([chunks[0][0], *chunks[1:3], chunks[3][:, 0]]),
        np.linalg.multi_dot([matrices[0][0], *matrices[1:3], matrices[3][:, 0]]),
    )
    assert products._splits([20, 2, 30, 3, 9])[0][3] == 0  # the long way first is the wrong one
    with pytest.raises(ValueError, match="two or more"):
        products.multi_dot(chunks[:1])
    with pytest.raises(ValueError, match="array 1 has 1 dimensions"):
        products.multi_dot([chunks[0], chunks[1][0], chunks[2]])


@pytest.mark.proves("array.Array.__rmatmul__")
def test_a_numpy_array_may_stand_on_the_left(near: Near) -> None:
    a: Any = np.arange(12.0).reshape(3, 4)
    near(a @ from_numpy(a.T, 2), a @ a.T)
    near(operator.matmul(a.tolist(), from_numpy(a.T, 2)), a @ a.T)


def test_turned_operands_are_read_as_they_are(near: Near) -> None:
    """``x.T @ x`` has no layer that turns blocks."""
    a = np.arange(30.0).reshape(6, 5)
    x = from_numpy(a, 2)
    near(x.T @ x, a.T @ a)
    assert not any("transpose" in one.name for one in (x.T @ x).expr.inputs)


def test_unknown_lengths_go_together(near: Near) -> None:
    """Lengths that are not known before need not be: blocks go with each other."""
    a = np.arange(20.0).reshape(10, 2)
    x = from_numpy(a, (3, 2))
    some = x[x[:, 0] > 4]
    assert np.allclose((some.T @ some).compute(scheduler="sync"), a[3:].T @ a[3:])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: x @ x, "last axis of the first has length 3; expected 2"),
        (lambda x: x @ 2, "operand 1 has 0 dimensions"),
        (lambda x: products.tensordot(x, x, 1), "axis 1 of the first array has length 3"),
        (lambda x: products.tensordot(x, x, 3), "expected 0 to 2"),
        (lambda x: products.tensordot(x, x, ([0, 0], [0, 0])), "none twice"),
        (lambda x: products.tensordot(x, x, "ab"), "."),
        (lambda x: products.vdot(x, x[0]), "6 and 3 elements"),
        (lambda x: products.vecdot(x, x[:, :2]), "3 and 2 elements"),
        (lambda x: products.trace(x[0]), "expected 2 or more"),
        (lambda x: products.trace(x, 0, 1, 1), "two different axes"),
    ],
)
def test_what_does_not_fit_is_said_at_the_call(call: Any, text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        call(da.ones((2, 3), chunks=2))
