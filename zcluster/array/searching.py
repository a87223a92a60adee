"""Where elements are: `nonzero` and its like, and `searchsorted`."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from zcluster.array.chunks import Chunks, is_known
from zcluster.array.core import Array, asarray, elementwise, permuted
from zcluster.array.cumulative import accumulate
from zcluster.array.expressions import Blockwise, Generated
from zcluster.array.reductions import sum_
from zcluster.errors import InvalidArgument

__all__ = ["argwhere", "compressed", "flatnonzero", "nonzero", "searchsorted"]


def _chosen(block: Any, mask: Any) -> Any:
    return block[mask]


def compressed(x: Array, mask: Array) -> Array:
    """Return the elements of an array of one axis where a mask of the same chunks is true.

    Examples
    --------
    >>> x = asarray([4, 5, 6])
    >>> compressed(x, x != 5).compute()
    array([4, 6])
    """
    chunks: Chunks = ((math.nan,) * len(x.chunks[0]),)
    inputs = [x.expr, mask.expr]
    return Array(Blockwise("compressed", _chosen, inputs, (0, 1), [(0,), (0,)], chunks, x.dtype))


def _places(starts: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    return np.arange(starts[0], starts[0] + shape[0], dtype=np.intp)


def _ones(block: Any) -> Any:
    return np.ones(block.shape, np.intp)


def _is_true(block: Any) -> Any:
    return block.astype(np.bool_)


def flatnonzero(a: Any) -> Array:
    """Return where the flat array is not zero.

    Parameters
    ----------
    a : array_like

    Returns
    -------
    places : Array
        In order; how many there are is known when they are computed.

    Examples
    --------
    >>> flatnonzero(asarray([[0, 1], [2, 0]])).compute()
    array([1, 2])
    """
    x = asarray(a)
    if x.ndim != 1:
        x = x.ravel()
    if is_known(x.chunks[0]):
        places = Array(Generated("places", _places, x.chunks, np.intp, is_cheap=True))
    else:  # they are counted along the way
        ones = elementwise(_ones, x, dtype=np.intp, name="ones")
        places = accumulate(np.add, ones) - 1
    return compressed(places, elementwise(_is_true, x, dtype=np.bool_, name="astype"))


def _check_shape(x: Array, name: str) -> None:
    if x.ndim > 1 and not all(map(is_known, x.chunks)):
        raise InvalidArgument(
            f"{name} of an array of shape {x.shape} needs to know how long its chunks are; call "
            "compute_chunk_sizes() first"
        )


def _unravelled(places: Any, shape: tuple[int, ...], axis: int) -> Any:
    return np.unravel_index(places, shape)[axis]


def nonzero(a: Any) -> tuple[Array, ...]:
    """Return where an array is not zero: for each axis the places along it.

    Parameters
    ----------
    a : array_like
        Of one axis or more.

    Raises
    ------
    ValueError
        If there are no axes.

    Examples
    --------
    >>> rows, columns = nonzero(asarray([[0, 1], [2, 0]]))
    >>> rows.compute(), columns.compute()
    (array([0, 1]), array([1, 0]))
    """
    x = asarray(a)
    if not x.ndim:
        raise ValueError(
            "Calling nonzero on 0d arrays is not allowed. Use np.atleast_1d(scalar).nonzero() "
            "instead."
        )
    _check_shape(x, "nonzero")
    places = flatnonzero(x)
    if x.ndim == 1:
        return (places,)
    return tuple(
        elementwise(
            partial(_unravelled, shape=x.shape, axis=axis), places, dtype=np.intp, name="nonzero"
        )
        for axis in range(x.ndim)
    )


def _rows(places: Any, shape: tuple[int, ...]) -> Any:
    if not shape:
        return np.empty((len(places), 0), np.intp)
    return np.stack(np.unravel_index(places, shape), axis=1)


def argwhere(a: Any) -> Array:
    """Return where an array is not zero: a row for each place.

    Parameters
    ----------
    a : array_like

    Examples
    --------
    >>> argwhere(asarray([[0, 1], [2, 0]])).compute()
    array([[0, 1],
           [1, 0]])
    """
    x = asarray(a)
    _check_shape(x, "argwhere")
    places = flatnonzero(x if x.ndim else permuted(x, [None]))
    if x.ndim == 1:
        return permuted(places, [0, None], "argwhere")
    chunks: Chunks = (places.chunks[0], (x.ndim,))
    step = partial(_rows, shape=x.shape)
    return Array(Blockwise("argwhere", step, [places.expr], (0,), [(0,)], chunks, np.intp))


class _Before:
    """Counts, for each of some values, the elements of a sorted block that go before it."""

    __slots__ = ("side",)

    def __init__(self, side: str) -> None:
        self.side = side

    __name__ = "searchsorted"

    def __call__(self, block: Any, values: Any) -> Any:
        return np.asarray(np.searchsorted(block, values, side=self.side), np.intp)[None]  # type: ignore[call-overload]

    def __zcluster_tokenize__(self) -> Any:
        return ("before", self.side)


def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Array:
    """Return where values would have to go into a sorted array to keep it in order.

    Parameters
    ----------
    a : array_like, shape (n,)
        In order, over all its chunks.
    v : array_like
    side : {'left', 'right'}
        Before or after equal elements.
    sorter : array_like of int, optional
        The order that sorts `a`, which then need not be sorted.

    Raises
    ------
    ValueError
        If `a` has other than one axis, or there is no such side.

    Examples
    --------
    >>> searchsorted(asarray([1, 3, 5]), [0, 3, 9]).compute()
    array([0, 1, 3])
    """
    x, values = asarray(a), asarray(v)
    if x.ndim != 1:
        raise ValueError(f"a has {x.ndim} axes; expected a sorted array of one axis")
    if side not in ("left", "right"):
        raise ValueError(f"side={side!r}: expected 'left' or 'right'")
    if sorter is not None:
        x = x[sorter]
    count = len(x.chunks[0])
    chunks: Chunks = ((1,) * count, *values.chunks)
    along = tuple(range(1, values.ndim + 1))
    counts = Blockwise(
        "searchsorted", _Before(side), [x.expr, values.expr], (0, 1), [(0,), along], chunks, np.intp
    )
    return sum_(Array(counts), 0, dtype=np.intp)


METHODS = {"argwhere": argwhere, "nonzero": nonzero, "searchsorted": searchsorted}
