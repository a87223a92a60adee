"""What functions of linear algebra do with their arguments before they make an expression."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zcluster.array.chunks import AxisChunks, is_known
from zcluster.array.core import Array, asarray, permuted, rechunked, unified
from zcluster.array.expressions import Blockwise
from zcluster.array.linalg.contracting import ENOUGH_WORK
from zcluster.array.manipulation import astype
from zcluster.config import parse_bytes
from zcluster.errors import InvalidArgument

__all__ = [
    "LARGE",
    "batch",
    "inexact",
    "item",
    "matrices",
    "panel_chunks",
    "square",
    "squared",
    "stacked",
]

#: Bytes of a block that is put together from others.
LARGE = parse_bytes("128MiB")
#: Columns of the narrowest panels that are worth a task.
_NARROW = 64
#: Products in one task, at most.
_MOST_PRODUCTS = 16


def inexact(*values: Any) -> list[Array]:
    """Return arrays of one type that LAPACK knows.

    Raises
    ------
    TypeError
        If there is none: for float16 and longdouble, and for what are no numbers.
    """
    arrays = [asarray(one) for one in values]
    dtype = np.result_type(*[one.dtype for one in arrays])
    if dtype.kind in "biu":
        dtype = np.dtype("f8")
    if dtype.char not in "fdFD":
        raise TypeError(f"array type {dtype.name} is unsupported in linalg")
    return [astype(one, dtype) for one in arrays]


def matrices(value: Any, what: str) -> Array:
    """Return an array of a type that LAPACK knows, and of two dimensions or more.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it has fewer.
    """
    (array,) = inexact(value)
    if array.ndim < 2:
        raise np.linalg.LinAlgError(
            f"{array.ndim}-dimensional array given to {what}. Array must be at least "
            "two-dimensional"
        )
    for axis in (-2, -1):
        if not is_known(array.chunks[axis]):
            raise InvalidArgument(
                f"{what} of a matrix with chunks of unknown sizes; call compute_chunk_sizes() first"
            )
    return array


def square(value: Any, what: str) -> Array:
    """Return matrices, seeing that they are square.

    Raises
    ------
    numpy.linalg.LinAlgError
        If they are not.
    """
    array = matrices(value, what)
    if array.shape[-1] != array.shape[-2]:
        raise np.linalg.LinAlgError(
            f"Last 2 dimensions of the array must be square: found shape {array.shape} for {what}"
        )
    return array


def squared(array: Array) -> Array:
    """Return a square matrix in blocks of which those on the diagonal are square."""
    rows, columns = array.chunks
    if rows == columns:
        return array
    chosen = rows if len(rows) >= len(columns) else columns
    return rechunked(array, (chosen, chosen))


def batch(work: float) -> int:
    """Return how many products go into one task.

    Parameters
    ----------
    work : float
        Floating point operations of one.

    Examples
    --------
    >>> batch(2 * 100**3), batch(2 * 1000**3)
    (15, 1)
    """
    return max(1, min(int(ENOUGH_WORK / max(work, 1.0)), _MOST_PRODUCTS))


def panel_chunks(array: Array, border: int) -> AxisChunks:
    """Return chunks of columns for algorithms that take all rows of some columns at a time.

    They are about as wide as the array's, not so narrow that a task is not worth it, and not so
    wide that a panel is larger than `LARGE`.

    Parameters
    ----------
    array : Array
        A matrix.
    border : int
        A chunk ends here.
    """
    rows, columns = array.shape
    fits = max(LARGE // max(rows * array.itemsize, 1), _NARROW)
    width = min(max(*array.chunks[1], _NARROW), fits)
    found: list[int] = []
    for length in (border, columns - border):
        found += [width] * (length // width) + ([length % width] if length % width else [])
    return tuple(found) or (0,)


def stacked(
    label: str,
    function: Callable[..., Any],
    arrays: Sequence[Array],
    core: Sequence[int],
    shape: tuple[int, ...],
    dtype: Any,
) -> Array:
    """Return what a function makes of each matrix of a stack; matrices are in one block.

    Parameters
    ----------
    function : callable
        Of blocks, of which it broadcasts the axes before the last ones.
    arrays : sequence of Array
    core : sequence of int
        How many of the last axes of each belong to the matrix or vector.
    shape : tuple of int
        Of what it makes of one.
    """
    whole = []
    for array, count in zip(arrays, core, strict=True):
        inner = range(array.ndim - count, array.ndim)
        whole.append(rechunked(array, dict.fromkeys(inner, -1)) if count else array)
    ndim = max(array.ndim - count for array, count in zip(whole, core, strict=True))
    labels = [
        (*range(ndim - (array.ndim - count), ndim), *(-1,) * count)
        for array, count in zip(whole, core, strict=True)
    ]
    whole, chunks = unified(whole, labels)
    axes = [
        tuple(
            -1 if number < 0 or (length == 1 and sum(chunks[number]) != 1) else number
            for number, length in zip(own, array.shape, strict=True)
        )
        for own, array in zip(labels, whole, strict=True)
    ]
    made = tuple(chunks[axis] for axis in range(ndim)) + tuple((length,) for length in shape)
    expr = Blockwise(
        label, function, [one.expr for one in whole], range(len(whole)), axes, made, dtype
    )
    return Array(expr)


class _Item:
    """Takes one array out of a tuple of them."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    __name__ = "item"

    def __call__(self, values: Any) -> Any:
        return values[self.number]

    def __zcluster_tokenize__(self) -> Any:
        return ("item", self.number)


def item(array: Array, number: int, core: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return one of the arrays that `stacked` made, where its function gives tuples.

    Parameters
    ----------
    array : Array
        With `core` axes that stand for nothing.
    shape : tuple of int
        What the array has in their place.
    """
    ndim = array.ndim - core
    chunks = array.chunks[:ndim] + tuple((length,) for length in shape)
    own = (*range(ndim), *(-1,) * core)
    return Array(Blockwise("item", _Item(number), [array.expr], (0,), (own,), chunks, dtype))


def as_columns(array: Array) -> Array:
    """Return a vector as a matrix of one column, and a matrix as it is."""
    return permuted(array, (0, None)) if array.ndim == 1 else array


def real_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of the parts of a complex number; a real one is its own."""
    return np.empty((), dtype).real.dtype


def count_of(lengths: Sequence[int]) -> float:
    """Return how long chunks are on average."""
    return math.fsum(lengths) / max(len(lengths), 1)
