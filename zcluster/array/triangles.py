"""Diagonals and triangles: arrays that have them, and the places where they are."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from zcluster.array.chunks import normalize_axis, unify_axis
from zcluster.array.core import Array, asarray, rechunked
from zcluster.array.creation import generated
from zcluster.array.expressions import Blockwise, Emitted, Expr
from zcluster.array.lowering import Codes, Lowering
from zcluster.array.manipulation import broadcast_to, moveaxis
from zcluster.array.padding import pad
from zcluster.array.restating import check_known

__all__ = [
    "diag",
    "diagflat",
    "diagonal",
    "eye",
    "identity",
    "tri",
    "tril",
    "tril_indices",
    "tril_indices_from",
    "triu",
    "triu_indices",
    "triu_indices_from",
    "vander",
]


def _eye_block(starts: tuple[int, int], shape: tuple[int, int], k: int, dtype: Any) -> Any:
    return np.eye(*shape, k=k + starts[0] - starts[1], dtype=dtype)


def eye(
    N: int,
    M: int | None = None,
    k: int = 0,
    dtype: Any = float,
    order: str = "C",
    *,
    chunks: Any = "auto",
    device: str | None = None,
    like: Any = None,
) -> Array:
    """Return an array with ones on a diagonal.

    Parameters
    ----------
    N : int
        Rows.
    M : int, optional
        Columns; by default as many.
    k : int
        Which diagonal; 0 is the main one, those above it are positive.
    dtype : dtype
    chunks : optional
        Note that Dask has it in the second place; give it by name.

    Examples
    --------
    >>> eye(2, 3, 1).compute()
    array([[0., 1., 0.],
           [0., 0., 1.]])
    """
    function = partial(_eye_block, k=operator.index(k), dtype=np.dtype(dtype))
    shape = (operator.index(N), operator.index(N if M is None else M))
    return generated("eye", function, shape, dtype, chunks)


def identity(n: int, dtype: Any = None, *, chunks: Any = "auto", like: Any = None) -> Array:
    """Return a square array with ones on its main diagonal."""
    return eye(n, dtype=float if dtype is None else dtype, chunks=chunks)


def _tri_block(starts: tuple[int, int], shape: tuple[int, int], k: int, dtype: Any) -> Any:
    return np.tri(*shape, k=k + starts[0] - starts[1], dtype=dtype)


def tri(
    N: int,
    M: int | None = None,
    k: int = 0,
    dtype: Any = float,
    chunks: Any = "auto",
    *,
    like: Any = None,
) -> Array:
    """Return an array with ones on and below a diagonal, and zeros above; see `eye`."""
    function = partial(_tri_block, k=operator.index(k), dtype=np.dtype(dtype))
    shape = (operator.index(N), operator.index(N if M is None else M))
    return generated("tri", function, shape, dtype, chunks)


def _tril_block(block: Any, k: int, start: tuple[int, ...]) -> Any:
    return np.tril(block, k + start[-2] - start[-1])


def _triu_block(block: Any, k: int, start: tuple[int, ...]) -> Any:
    return np.triu(block, k + start[-2] - start[-1])


def _triangle(m: Any, k: int, is_lower: bool) -> Array:
    array = asarray(m)
    if array.ndim == 1:
        array = broadcast_to(array, (array.shape[0],) * 2)
    if array.ndim < 2:
        raise ValueError("the array has no axes; expected one or more")
    check_known(array, [array.ndim - 2, array.ndim - 1], "tril" if is_lower else "triu")
    return Array(
        Blockwise(
            "tril" if is_lower else "triu",
            partial(_tril_block if is_lower else _triu_block, k=operator.index(k)),
            [array.expr],
            [0],
            [tuple(range(array.ndim))],
            array.chunks,
            array.dtype,
            extra=(("start", "start"),),
        )
    )


def tril(m: Any, k: int = 0) -> Array:
    """Return an array with zeros above a diagonal of the last two axes.

    Examples
    --------
    >>> tril([[1, 2], [3, 4]]).compute()
    array([[1, 0],
           [3, 4]])
    """
    return _triangle(m, k, True)


def triu(m: Any, k: int = 0) -> Array:
    """Return an array with zeros below a diagonal of the last two axes."""
    return _triangle(m, k, False)


def _triangle_indices_block(
    starts: tuple[int], shape: tuple[int], first: Any, count: Any, axis: int
) -> Any:
    """Return rows or columns of the places of a triangle, numbered from the top."""
    ends = np.cumsum(count)
    places = np.arange(starts[0], starts[0] + shape[0])
    rows = np.searchsorted(ends, places, side="right")
    if axis == 0:
        return rows.astype(np.int64, copy=False)
    return (places - (ends - count)[rows] + first[rows]).astype(np.int64, copy=False)


def _triangle_indices(
    n: int, k: int, m: int | None, chunks: Any, is_lower: bool
) -> tuple[Array, Array]:
    columns = n if m is None else m
    border = np.clip(np.arange(n) + k + (1 if is_lower else 0), 0, columns)
    first = np.zeros(n, np.int64) if is_lower else border
    count = border if is_lower else columns - border
    rows, cols = (
        generated(
            f"{'tril' if is_lower else 'triu'}_indices",
            partial(_triangle_indices_block, first=first, count=count, axis=axis),
            int(count.sum()),
            np.int64,
            chunks,
        )
        for axis in (0, 1)
    )
    return rows, cols


def tril_indices(
    n: int, k: int = 0, m: int | None = None, chunks: Any = "auto"
) -> tuple[Array, Array]:
    """Return rows and columns of the places on and below a diagonal of an (n, m) array.

    Examples
    --------
    >>> rows, columns = tril_indices(2)
    >>> rows.compute(), columns.compute()
    (array([0, 1, 1]), array([0, 0, 1]))
    """
    return _triangle_indices(n, k, m, chunks, True)


def triu_indices(
    n: int, k: int = 0, m: int | None = None, chunks: Any = "auto"
) -> tuple[Array, Array]:
    """Return rows and columns of the places on and above a diagonal of an (n, m) array."""
    return _triangle_indices(n, k, m, chunks, False)


def tril_indices_from(arr: Any, k: int = 0) -> tuple[Array, Array]:
    """Return the places on and below a diagonal of an array; see `tril_indices`."""
    rows, columns = _two_axes(arr)
    return tril_indices(rows, k, columns)


def triu_indices_from(arr: Any, k: int = 0) -> tuple[Array, Array]:
    """Return the places on and above a diagonal of an array; see `triu_indices`."""
    rows, columns = _two_axes(arr)
    return triu_indices(rows, k, columns)


def _two_axes(arr: Any) -> tuple[int, int]:
    array = asarray(arr)
    if array.ndim != 2:
        raise ValueError(f"input array must be 2-d; found {array.ndim} axes")
    check_known(array, [0, 1], "places of a triangle")
    return array.shape


def _diag_block(block: Any, k: int, start: tuple[int, int], shape: tuple[int, int]) -> Any:
    """Return a block of an array with `block`, that goes along its rows, on a diagonal."""
    made = np.zeros(shape, block.dtype)
    rows = np.arange(shape[0])
    columns = rows + start[0] + k - start[1]
    inside = (columns >= 0) & (columns < shape[1])
    made[rows[inside], columns[inside]] = block[inside]
    return made


def diag(v: Any, k: int = 0) -> Array:
    """Return a diagonal of an array of two axes, or an array with this diagonal.

    Examples
    --------
    >>> diag([1, 2]).compute()
    array([[1, 0],
           [0, 2]])
    >>> diag([[1, 2], [3, 4]]).compute()
    array([1, 4])
    """
    array = asarray(v)
    if array.ndim == 2:
        return diagonal(array, k)
    if array.ndim != 1:
        raise ValueError(f"Input must be 1- or 2-d.; found {array.ndim} axes")
    check_known(array, [0], "diag")
    k = operator.index(k)
    if k:
        # As many rows as the square has; those without an element have a zero.
        array = pad(array, (max(-k, 0), max(k, 0)))
    (own,) = array.chunks
    return Array(
        Blockwise(
            "diag",
            partial(_diag_block, k=k),
            [array.expr],
            [0],
            [(0,)],
            (own, own),
            array.dtype,
            extra=(("start", "start"), ("shape", "shape")),
        )
    )


def diagflat(v: Any, k: int = 0) -> Array:
    """Return an array of two axes with the elements of another on a diagonal."""
    return diag(asarray(v).ravel(), k)


class _Diagonal(Emitted):
    """The diagonals of the last two axes of an array, in whose blocks they are diagonals too."""

    def __init__(self, source: Expr) -> None:
        chunks = (*source.chunks[:-2], source.chunks[-1])
        super().__init__("diagonal", (source,), chunks, source.dtype)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return _Diagonal(inputs[0])

    def emit(self, lowering: Lowering) -> Codes:
        codes = np.diagonal(lowering.codes(self.inputs[0]), axis1=-2, axis2=-1)
        made = lowering.add(
            self.name,
            partial(np.diagonal, axis1=-2, axis2=-1),
            codes.reshape(-1, 1),
            shape=self.numblocks,
            options=self.options,
        )
        return made.reshape(self.numblocks)


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """Return the diagonals of two axes, along the last axis of the result.

    Raises
    ------
    ValueError
        If the array has less than two axes, or the axes are one.
    """
    array = asarray(a)
    if array.ndim < 2:
        raise ValueError(f"diag requires an array of at least two dimensions; found {array.ndim}")
    first, second = normalize_axis(axis1, array.ndim), normalize_axis(axis2, array.ndim)
    if first == second:
        raise ValueError("axis1 and axis2 cannot be the same")
    check_known(array, [first, second], "diagonal")
    array = moveaxis(array, (first, second), (-2, -1))
    offset = operator.index(offset)
    rows, columns = array.shape[-2:]
    top, left = max(-offset, 0), max(offset, 0)
    length = max(min(rows - top, columns - left), 0)
    square = array[..., top : top + length, left : left + length]
    own = unify_axis(square.chunks[-2:])
    return Array(_Diagonal(rechunked(square, {-2: own, -1: own}).expr))


def _vander_block(block: Any, columns: int, increasing: bool) -> Any:
    return np.vander(block, columns, increasing)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Array:
    """Return the powers of numbers: a row for each, the highest power first.

    Examples
    --------
    >>> vander([2, 3], 3).compute()
    array([[4, 2, 1],
           [9, 3, 1]])
    """
    array = asarray(x)
    if array.ndim != 1:
        raise ValueError("x must be a one-dimensional array or sequence.")
    if N is None:
        check_known(array, [0], "vander without N")
        N = array.shape[0]
    return Array(
        Blockwise(
            "vander",
            partial(_vander_block, columns=N, increasing=increasing),
            [array.expr],
            [0],
            [(0,)],
            (array.chunks[0], (int(N or 0),)),
            np.promote_types(array.dtype, int),
        )
    )


METHODS = {"diagonal": diagonal}
