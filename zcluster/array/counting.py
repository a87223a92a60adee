"""Counting integers, and finding the bins that numbers fall into."""

from __future__ import annotations

import math
import operator
from functools import partial
from typing import Any

import numpy as np

from zcluster.array.core import Array, asarray, elementwise
from zcluster.array.histograms import with_whole
from zcluster.array.reducing import packed, reduced
from zcluster.errors import InvalidArgument

__all__ = ["bincount", "digitize"]


class _Bincount:
    """Counts the integers of a block, or adds up counts. A partial result has its length with it.

    Attributes
    ----------
    stage : str
        ``"chunk"``, ``"combine"`` or ``"last"``.
    minlength : int
    """

    __slots__ = ("minlength", "stage")

    def __init__(self, stage: str, minlength: int) -> None:
        self.stage = stage
        self.minlength = minlength

    @property
    def __name__(self) -> str:
        return f"bincount_{self.stage}"

    def __zcluster_tokenize__(self) -> Any:
        return ("bincount", self.stage, self.minlength)

    def __call__(self, given: Any) -> Any:
        if self.stage == "chunk":
            block, weights = given if type(given) is tuple else (given, None)
            counts = np.bincount(block, weights, self.minlength)
        else:
            flat, lengths = given
            counts = np.zeros(lengths.max(), flat.dtype)
            start = 0
            for length in lengths.tolist():
                counts[:length] += flat[start : start + length]
                start += length
        if self.stage != "last":
            return counts, np.array([len(counts)])
        if self.minlength and len(counts) > self.minlength:
            raise InvalidArgument(
                f"bincount: found {len(counts) - 1}, but minlength={self.minlength} says how long "
                f"the result is; give minlength={len(counts)} or more, or leave it away: then the "
                "length is known when it is computed"
            )
        return counts


def bincount(x: Any, weights: Any = None, minlength: int = 0, split_every: Any = None) -> Array:
    """Count how often each integer from 0 on is there.

    Parameters
    ----------
    x : array_like of int, shape (n,)
        0 or more.
    weights : array_like, optional
        How much each counts.
    minlength : int
        The length of the result. With 0 it follows from the greatest integer and is not known
        before it is computed. Greater integers than it has room for raise an error when they are
        found.
    split_every : int or dict of int, optional
        How many partial results go into one task.

    Raises
    ------
    ValueError
        If the array has more axes than one, or weights of another length.

    Examples
    --------
    >>> bincount(asarray([0, 2, 2]), minlength=4).compute()
    array([1, 0, 2, 0])
    """
    x = asarray(x)
    if x.ndim != 1:
        raise ValueError(f"an array of {x.ndim} axes: expected one of one axis")
    if x.dtype.kind not in "biu":
        raise TypeError(f"bincount of {x.dtype}: expected integers; use x.astype(int)")
    minlength = operator.index(minlength)
    if minlength < 0:
        raise ValueError("'minlength' must not be negative")
    source = x.expr
    dtype: Any = np.intp
    if weights is not None:
        w = asarray(weights)
        if str(w.shape) != str(x.shape):
            raise ValueError(f"weights of shape {w.shape}: expected {x.shape}")
    if weights is not None and x.shape[0] != 0:  # NumPy counts nothing in integers
        source = packed(("bincount", minlength), x, w)
        dtype = np.float64
    return reduced(
        "bincount-aggregate",
        source,
        (0,),
        (
            _Bincount("chunk", minlength),
            _Bincount("combine", minlength),
            _Bincount("last", minlength),
        ),
        dtype,
        keepdims=True,
        lengths=[minlength or math.nan],
        split_every=split_every,
    )


def _digitized(block: Any, bins: Any, right: bool) -> Any:
    return np.digitize(block, bins, right)


def digitize(x: Any, bins: Any, right: bool = False) -> Array:
    """Return the number of the bin that each element falls into.

    Parameters
    ----------
    x : array_like
    bins : array_like, shape (n,)
        The edges, rising or falling.
    right : bool
        The right edges belong to the bins, and not the left ones.

    Raises
    ------
    ValueError
        If the edges are not in order.

    Examples
    --------
    >>> digitize(asarray([0.5, 2.0, 9.0]), [1, 2, 3]).compute()
    array([0, 2, 3])
    """
    x = asarray(x)
    if isinstance(bins, Array):
        function = partial(_digitized, right=bool(right))
        return Array(with_whole("digitize", [x], [bins], function, np.intp))
    edges = np.asarray(bins)
    np.digitize(np.empty(0), edges, right)  # raises if they are not in order
    return elementwise(
        partial(_digitized, bins=edges, right=bool(right)), x, dtype=np.intp, name="digitize"
    )
