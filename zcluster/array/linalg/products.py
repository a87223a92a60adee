"""Products of vectors, matrices and stacks of them, with NumPy's names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from zcluster.array.chunks import (
    broadcast_shapes,
    is_known,
    normalize_axis,
    normalize_chunks,
)
from zcluster.array.core import Array, asarray, elementwise, permuted, rechunked, unified
from zcluster.array.expressions import Blockwise
from zcluster.array.linalg.contracting import Einsum, Labels, contracted
from zcluster.array.manipulation import moveaxis, repeat, tile
from zcluster.array.reshaping import ravel
from zcluster.array.slicing import getitem
from zcluster.config import parse_bytes
from zcluster.errors import InvalidArgument

__all__ = [
    "cross",
    "dot",
    "inner",
    "kron",
    "matmul",
    "matvec",
    "multi_dot",
    "outer",
    "tensordot",
    "trace",
    "vdot",
    "vecdot",
    "vecmat",
]

#: Bytes of a block that a Kronecker product makes.
_LARGE = parse_bytes("128MiB")


def tensordot(a: Any, b: Any, axes: Any = 2) -> Array:
    """Return the sum of products over some axes of two arrays.

    Parameters
    ----------
    a, b : array_like
    axes : int or (axes of a, axes of b)
        An integer means the last so many of `a` and the first so many of `b`.

    Returns
    -------
    product : Array
        Of the axes of `a` that are left, then those of `b`.

    Raises
    ------
    ValueError
        If the axes do not have the same lengths.

    Examples
    --------
    >>> tensordot([[1, 2], [3, 4]], [[1, 0], [0, 2]], axes=1).compute()
    array([[1, 4],
           [3, 8]])
    """
    left, right = asarray(a), asarray(b)
    left_axes, right_axes = _pairs_of(axes, left, right)
    for one, other in zip(left_axes, right_axes, strict=True):
        if not _are_same(left.shape[one], right.shape[other]):
            raise InvalidArgument(
                f"shape-mismatch for sum: axis {one} of the first array has length "
                f"{left.shape[one]}, axis {other} of the second {right.shape[other]}; expected "
                "equal lengths"
            )
    left_labels = tuple(range(left.ndim))
    partner = dict(zip(right_axes, left_axes, strict=True))
    right_labels = tuple(partner.get(axis, left.ndim + axis) for axis in range(right.ndim))
    result = tuple(x for x in left_labels if x not in left_axes)
    result += tuple(x for x in right_labels if x >= left.ndim)
    return _product("tensordot", left, left_labels, right, right_labels, result)


def _pairs_of(axes: Any, left: Array, right: Array) -> tuple[list[int], list[int]]:
    """Return the axes of both that are summed over, counted from the front."""
    if isinstance(axes, int | np.integer):
        if not 0 <= axes <= min(left.ndim, right.ndim):
            raise InvalidArgument(
                f"axes={axes} for arrays of {left.ndim} and {right.ndim} dimensions; expected 0 to "
                f"{min(left.ndim, right.ndim)}, or the axes of each"
            )
        return list(range(left.ndim - int(axes), left.ndim)), list(range(int(axes)))
    try:
        first, second = axes
    except (TypeError, ValueError):
        raise InvalidArgument(
            f"axes={axes!r}; expected an integer, or the axes of the first and of the second array"
        ) from None
    found = [
        [normalize_axis(axis, array.ndim) for axis in (np.atleast_1d(some).tolist())]
        for some, array in ((first, left), (second, right))
    ]
    if len(found[0]) != len(found[1]) or any(len(set(one)) != len(one) for one in found):
        raise InvalidArgument(
            f"axes={axes!r} name {len(found[0])} axes of the first array and {len(found[1])} of "
            "the second; expected as many of each, none twice"
        )
    return found[0], found[1]


def _are_same(one: Any, other: Any) -> bool:
    """Tell whether two lengths are equal, as far as they are known."""
    return bool(one == other or math.isnan(one) or math.isnan(other))


def _product(
    label: str, left: Array, left_labels: Labels, right: Array, right_labels: Labels, result: Labels
) -> Array:
    dtype = np.result_type(left.dtype, right.dtype)
    return contracted(label, (left, right), (left_labels, right_labels), result, dtype)


def dot(a: Any, b: Any) -> Array:
    """Return the product over the last axis of `a` and the last but one of `b`, or its only one.

    Examples
    --------
    >>> dot([1.0, 2.0], [3.0, 4.0]).compute()
    np.float64(11.0)
    """
    left, right = asarray(a), asarray(b)
    if not left.ndim or not right.ndim:
        return elementwise(np.multiply, left, right)
    return tensordot(left, right, axes=((left.ndim - 1,), (max(right.ndim - 2, 0),)))


def vdot(a: Any, b: Any) -> Array:
    """Return the product of all elements, those of `a` conjugated.

    Raises
    ------
    ValueError
        If they do not have as many elements.
    """
    left, right = asarray(a), asarray(b)
    if not _are_same(left.size, right.size):
        raise InvalidArgument(
            f"vdot of arrays of {left.size} and {right.size} elements; expected as many in both"
        )
    if left.shape != right.shape:
        left, right = ravel(left), ravel(right)
    if left.dtype.kind == "c":
        left = elementwise(np.conjugate, left)
    labels = tuple(range(left.ndim))
    return _product("vdot", left, labels, right, labels, ())


def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Array:
    """Return the products of vectors along an axis, the first ones conjugated.

    Parameters
    ----------
    x1, x2 : array_like
        Broadcast, but for the axis of the vectors.
    axis : int

    Raises
    ------
    ValueError
        If the vectors are not as long.

    Examples
    --------
    >>> vecdot([[1, 2], [3, 4]], [[1, 1], [1, 0]]).compute()
    array([3, 3])
    """
    left, right = asarray(x1), asarray(x2)
    left = moveaxis(left, normalize_axis(axis, left.ndim), -1)
    right = moveaxis(right, normalize_axis(axis, right.ndim), -1)
    if not _are_same(left.shape[-1], right.shape[-1]):
        raise InvalidArgument(
            f"vecdot of vectors of {left.shape[-1]} and {right.shape[-1]} elements; expected as "
            "many in both"
        )
    if left.dtype.kind == "c":
        left = elementwise(np.conjugate, left)
    ndim = len(broadcast_shapes(left.shape, right.shape))
    labels = [tuple(range(ndim - one.ndim, ndim)) for one in (left, right)]
    return _product("vecdot", left, labels[0], right, labels[1], tuple(range(ndim - 1)))


def inner(a: Any, b: Any) -> Array:
    """Return the product over the last axes of both.

    Examples
    --------
    >>> inner([[1, 2], [3, 4]], [1, 10]).compute()
    array([21, 43])
    """
    left, right = asarray(a), asarray(b)
    if not left.ndim or not right.ndim:
        return elementwise(np.multiply, left, right)
    return tensordot(left, right, axes=((left.ndim - 1,), (right.ndim - 1,)))


def matmul(a: Any, b: Any) -> Array:
    """Return the product of matrices, or of stacks of matrices, as ``a @ b`` does.

    Parameters
    ----------
    a, b : array_like
        The last two axes are those of the matrices; the others are broadcast. One of one dimension
        is a row on the left and a column on the right.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 1.0]).compute()
    array([3., 7.])
    """
    left, right = asarray(a), asarray(b)
    for place, one in enumerate((left, right)):
        if not one.ndim:
            raise InvalidArgument(
                f"matmul: operand {place} has 0 dimensions; expected 1 or more: multiply() is for "
                "numbers"
            )
    length, other = left.shape[-1], right.shape[-2 if right.ndim > 1 else 0]
    if not _are_same(length, other):
        raise InvalidArgument(
            f"matmul of shapes {left.shape} and {right.shape}: the last axis of the first has "
            f"length {length}; expected {other}"
        )
    stacks = [one.shape[:-2] for one in (left, right)]
    ndim = len(broadcast_shapes(*stacks))
    row, column, common = ndim, ndim + 1, ndim + 2
    left_labels = (*range(ndim - len(stacks[0]), ndim), row, common)[-left.ndim :]
    right_labels = (*range(ndim - len(stacks[1]), ndim), common, column)
    if left.ndim == 1:
        left_labels = (common,)
    if right.ndim == 1:
        right_labels = (common,)
    result = (*range(ndim), *(row,) * (left.ndim > 1), *(column,) * (right.ndim > 1))
    return _product("matmul", left, left_labels, right, right_labels, result)


def _rmatmul(array: Array, other: Any) -> Array:
    return matmul(other, array)


def matvec(x1: Any, x2: Any, /) -> Array:
    """Return the products of matrices with vectors, stacks of both.

    Examples
    --------
    >>> matvec([[1, 2], [3, 4]], [[1, 0], [0, 1]]).compute()
    array([[1, 3],
           [2, 4]])
    """
    vectors = asarray(x2)
    columns = permuted(vectors, [*range(vectors.ndim), None])
    return getitem(matmul(x1, columns), (..., 0))


def vecmat(x1: Any, x2: Any, /) -> Array:
    """Return the products of vectors, conjugated, with matrices, stacks of both.

    Examples
    --------
    >>> vecmat([1, 0], [[1, 2], [3, 4]]).compute()
    array([1, 2])
    """
    vectors = asarray(x1)
    if vectors.dtype.kind == "c":
        vectors = elementwise(np.conjugate, vectors)
    rows = permuted(vectors, [*range(vectors.ndim - 1), None, vectors.ndim - 1])
    return getitem(matmul(rows, x2), (..., 0, slice(None)))


def outer(a: Any, b: Any) -> Array:
    """Return the products of each element of `a` with each of `b`, as a matrix.

    Examples
    --------
    >>> outer([1, 2], [1, 10, 100]).compute()
    array([[  1,  10, 100],
           [  2,  20, 200]])
    """
    left, right = ravel(asarray(a)), ravel(asarray(b))
    return elementwise(np.multiply, permuted(left, (0, None)), permuted(right, (None, 0)))


def kron(a: Any, b: Any) -> Array:
    """Return the Kronecker product: all of `b`, times each element of `a`.

    Examples
    --------
    >>> kron([1, 10], [1, 2, 3]).compute()
    array([ 1,  2,  3, 10, 20, 30])
    """
    left, right = asarray(a), asarray(b)
    ndim = max(left.ndim, right.ndim)
    left, right = _with_ndim(left, ndim), _with_ndim(right, ndim)
    if not ndim:
        return elementwise(np.multiply, left, right)
    for one in (left, right):
        if not all(map(is_known, one.chunks)):
            raise InvalidArgument(
                "kron of an array with chunks of unknown sizes; call compute_chunk_sizes() first"
            )
    if right.npartitions > 1:
        for axis in range(ndim):
            left = repeat(left, right.shape[axis], axis)
        return elementwise(
            np.multiply,
            left,
            tile(right, [n // m if m else 0 for n, m in zip(left.shape, right.shape, strict=True)]),
            name="kron",
        )
    dtype = np.result_type(left.dtype, right.dtype)
    room = max(_LARGE // max(right.size * dtype.itemsize, 1), 1)
    if math.prod(left.chunksize) > room:
        chunks = normalize_chunks("auto", left.shape, "i1", limit=room, previous=left.chunks)
        left = rechunked(left, chunks)
    own = tuple(range(ndim))
    chunks = tuple(
        tuple(length * times for length in lengths)
        for lengths, times in zip(left.chunks, right.shape, strict=True)
    )
    return Array(
        Blockwise(
            "kron", np.kron, [left.expr, right.expr], (0, 1), (own, (-1,) * ndim), chunks, dtype
        )
    )


def _with_ndim(array: Array, ndim: int) -> Array:
    """Return an array with axes of length 1 before its own."""
    if array.ndim == ndim:
        return array
    return permuted(array, [*[None] * (ndim - array.ndim), *range(array.ndim)])


def trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: None = None
) -> Array:
    """Return the sum over a diagonal of two axes.

    Parameters
    ----------
    a : array_like
        Of two dimensions or more.
    offset : int
        Above 0: so many places right of the main diagonal; below 0: below it.
    axis1, axis2 : int
    dtype : dtype, optional
        Of the sum; by default as for ``sum``.
    out : None
        Nothing is written into: take the result.

    Examples
    --------
    >>> trace([[1, 2], [3, 4]]).compute()
    np.int64(5)
    """
    array = asarray(a)
    if out is not None:
        raise NotImplementedError("trace(out=...) would write; use the array that it returns")
    if array.ndim < 2:
        raise InvalidArgument(f"trace of {array.ndim} dimensions; expected 2 or more")
    rows, columns = normalize_axis(axis1, array.ndim), normalize_axis(axis2, array.ndim)
    if rows == columns:
        raise InvalidArgument(f"axis1 and axis2 are both axis {rows}; expected two different axes")
    shape = array.shape
    top, left = max(-offset, 0), max(offset, 0)
    length = max(min(shape[rows] - top, shape[columns] - left), 0)
    if dtype is None:
        dtype = np.ones(1, array.dtype).sum().dtype
    index = [slice(None)] * array.ndim
    index[rows] = slice(top, top + length)
    index[columns] = slice(left, left + length)
    if not (shape[rows] == shape[columns] and not offset):
        array = getitem(array, tuple(index))
    labels = tuple(rows if axis == columns else axis for axis in range(array.ndim))
    result = tuple(label for label in labels if label != rows)
    make = partial(Einsum, dtype=np.dtype(dtype))
    return contracted("trace", [array], [labels], result, dtype, make)


def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Array:
    """Return the cross products of vectors of three elements.

    Parameters
    ----------
    a, b : array_like
        Broadcast, but for the axes of the vectors.
    axisa, axisb, axisc : int
        Where the vectors are, in both and in the result.
    axis : int, optional
        For all three.

    Raises
    ------
    ValueError
        If the vectors are not of three elements.

    Examples
    --------
    >>> cross([1, 0, 0], [0, 1, 0]).compute()
    array([0, 0, 1])
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    left, right = asarray(a), asarray(b)
    left = moveaxis(left, normalize_axis(axisa, left.ndim), -1)
    right = moveaxis(right, normalize_axis(axisb, right.ndim), -1)
    if left.shape[-1] != 3 or right.shape[-1] != 3:
        raise InvalidArgument(
            f"cross product of vectors of {left.shape[-1]} and {right.shape[-1]} elements; "
            "expected 3: for vectors in a plane, give them a third element of 0"
        )
    left, right = rechunked(left, {left.ndim - 1: -1}), rechunked(right, {right.ndim - 1: -1})
    shape = broadcast_shapes(left.shape, right.shape)
    ndim = len(shape)
    labels = [tuple(range(ndim - one.ndim, ndim)) for one in (left, right)]
    (left, right), chunks = unified((left, right), labels)
    axes = [
        tuple(
            -1 if length == 1 and shape[label] != 1 else label
            for label, length in zip(own, one.shape, strict=True)
        )
        for own, one in zip(labels, (left, right), strict=True)
    ]
    made = Blockwise(
        "cross",
        np.cross,
        [left.expr, right.expr],
        (0, 1),
        axes,
        tuple(chunks[label] for label in range(ndim)),
        np.result_type(left.dtype, right.dtype),
    )
    return moveaxis(Array(made), -1, normalize_axis(axisc, ndim))


def multi_dot(arrays: Sequence[Any]) -> Array:
    """Return the product of several matrices, in the order that takes the fewest operations.

    Parameters
    ----------
    arrays : sequence of array_like
        Matrices; the first and the last one may be vectors.

    Examples
    --------
    >>> multi_dot([[[1.0, 2.0]], [[3.0], [4.0]], [[2.0]]]).compute()
    array([[22.]])
    """
    matrices = [asarray(one) for one in arrays]
    count = len(matrices)
    if count < 2:
        raise InvalidArgument(f"multi_dot of {count} arrays; expected two or more")
    wanted = [(1, 2) if place in (0, count - 1) else (2,) for place in range(count)]
    for place, (one, ndims) in enumerate(zip(matrices, wanted, strict=True)):
        if one.ndim not in ndims:
            raise InvalidArgument(
                f"multi_dot: array {place} has {one.ndim} dimensions; expected a matrix"
            )
    first_is_vector, last_is_vector = matrices[0].ndim == 1, matrices[-1].ndim == 1
    if first_is_vector:
        matrices[0] = permuted(matrices[0], (None, 0))
    if last_is_vector:
        matrices[-1] = permuted(matrices[-1], (0, None))
    lengths = [one.shape[0] for one in matrices] + [matrices[-1].shape[1]]
    product = _chained(matrices, _splits(lengths), 0, count - 1)
    kept = [axis for axis, gone in enumerate((first_is_vector, last_is_vector)) if not gone]
    return product if len(kept) == 2 else permuted(product, kept)


def _splits(lengths: Sequence[int]) -> list[list[int]]:
    """Return where each run of matrices is best split: ``splits[first][last]``."""
    count = len(lengths) - 1
    costs = [[0.0] * count for _ in range(count)]
    splits = [[0] * count for _ in range(count)]
    for more in range(1, count):
        for first in range(count - more):
            last = first + more
            costs[first][last] = math.inf
            for split in range(first, last):
                cost = costs[first][split] + costs[split + 1][last]
                cost += lengths[first] * lengths[split + 1] * lengths[last + 1]
                if cost < costs[first][last]:
                    costs[first][last], splits[first][last] = cost, split
    return splits


def _chained(matrices: Sequence[Array], splits: list[list[int]], first: int, last: int) -> Array:
    if first == last:
        return matrices[first]
    split = splits[first][last]
    left = _chained(matrices, splits, first, split)
    return matmul(left, _chained(matrices, splits, split + 1, last))


METHODS = {"__matmul__": matmul, "__rmatmul__": _rmatmul, "dot": dot, "trace": trace}
