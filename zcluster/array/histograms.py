"""Histograms, in one dimension and more.

Each block is counted by itself, and the counts are added in a tree. Edges of bins are NumPy arrays
where they are known; where they follow from the least and the greatest element they are lazy, and
the data are read twice.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from zcluster.array.chunks import Chunks
from zcluster.array.core import Array, asarray, permuted, rechunked, unified
from zcluster.array.expressions import Blockwise
from zcluster.array.reducing import Pack, as_type, reduced
from zcluster.array.reductions import max_, min_

__all__ = [
    "histogram",
    "histogram2d",
    "histogram_bin_edges",
    "histogramdd",
    "with_whole",
]


class _Sum:
    """Adds partial results of one length, which lie after each other along the first axis."""

    __slots__ = ("length", "ndim")

    def __init__(self, length: int, ndim: int) -> None:
        self.length = length
        self.ndim = ndim

    __name__ = "sum"

    def __call__(self, parts: Any) -> Any:
        return (
            parts.reshape(-1, self.length)
            .sum(0, dtype=parts.dtype)
            .reshape(self.length, *[1] * (self.ndim - 1))
        )

    def __zcluster_tokenize__(self) -> Any:
        return ("sum of counts", self.length, self.ndim)


def _counted(label: str, chunk: Any, source: Any, length: int, dtype: Any, split: Any) -> Array:
    """Return the sum, over all blocks, of counts of one length."""
    axes = tuple(range(source.ndim))
    add = _Sum(length, source.ndim)
    lengths = [length] + [1] * (source.ndim - 1)
    made = reduced(
        f"{label}-aggregate",
        source,
        axes,
        (chunk, add, add),
        dtype,
        keepdims=True,
        lengths=lengths,
        split_every=split,
    )
    return made if made.ndim == 1 else permuted(made, (0,))


def with_whole(
    told: Any,
    aligned: Sequence[Array],
    whole: Sequence[Array],
    function: Any = None,
    dtype: Any = None,
) -> Blockwise:
    """Return an expression of blocks of some arrays, and all of others, as tuples.

    With a function the result is what it gives of these instead.
    """
    x = aligned[0]
    along = tuple(range(x.ndim))
    whole = [rechunked(one, -1) if one.ndim else one for one in whole]
    return Blockwise(
        "pack" if function is None else told,
        Pack(told) if function is None else function,
        [one.expr for one in (*aligned, *whole)],
        tuple(range(len(aligned) + len(whole))),
        [along] * len(aligned) + [(-1,) * one.ndim for one in whole],
        x.chunks,
        dtype or x.dtype,
    )


def _of_whole(label: str, function: Any, chunks: Chunks, dtype: Any, *whole: Array) -> Array:
    """Return the one block that a function makes of all of some arrays."""
    arrays = [rechunked(one, -1) if one.ndim else one for one in whole]
    return Array(
        Blockwise(
            label,
            function,
            [one.expr for one in arrays],
            tuple(range(len(arrays))),
            [(-1,) * one.ndim for one in arrays],
            chunks,
            dtype,
        )
    )


# One dimension ------------------------------------------------------------------------------------


class _Edges:
    """Makes the edges of bins between two limits."""

    __slots__ = ("bins", "dtype")

    def __init__(self, bins: int, dtype: Any) -> None:
        self.bins = bins
        self.dtype = dtype

    __name__ = "histogram_bin_edges"

    def __call__(self, low: Any, high: Any) -> Any:
        nothing = np.empty(0, self.dtype)
        limits: Any = (np.asarray(low)[()], np.asarray(high)[()])
        return np.histogram_bin_edges(nothing, self.bins, range=limits)

    def __zcluster_tokenize__(self) -> Any:
        return ("edges", self.bins, str(self.dtype))


class _Histogram:
    """Counts the elements of a block, which comes with weights and lazy limits if there are any.

    Attributes
    ----------
    bins : int, ndarray or None
        As `numpy.histogram` takes it; None: the edges come with the block.
    limits : tuple of float or None
        The range that bins of equal width divide; None: it comes with the block, if it is needed.
    is_weighted : bool
    """

    __slots__ = ("bins", "is_weighted", "limits")

    def __init__(self, bins: Any, limits: Any, is_weighted: bool) -> None:
        self.bins = bins
        self.limits = limits
        self.is_weighted = is_weighted

    __name__ = "histogram"

    def __call__(self, given: Any) -> Any:
        given = list(given) if type(given) is tuple else [given]
        block = np.asarray(given.pop(0))
        weights = given.pop(0) if self.is_weighted else None
        bins, limits = self.bins, self.limits
        if bins is None:
            (bins,) = given
        elif given:
            limits = (np.asarray(given[0])[()], np.asarray(given[1])[()])
        counts, _ = np.histogram(block, bins, range=limits, weights=weights)
        return counts.reshape(-1, *[1] * (block.ndim - 1))

    def __zcluster_tokenize__(self) -> Any:
        return ("histogram", self.bins, self.limits, self.is_weighted)


def _limits(x: Array, limits: Any) -> tuple[Any, Any] | None:
    """Return the limits of bins as numbers, or None if the elements say them.

    Raises
    ------
    ValueError
        If they are no two numbers in order.
    """
    if limits is None:
        return (0.0, 1.0) if x.size == 0 else None
    low, high = limits
    if low > high:
        raise ValueError("max must be larger than min in range parameter.")
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"supplied range of [{low}, {high}] is not finite")
    return low, high


def _bins(bins: Any) -> Any:
    """Return bins as their number, or as their edges: an array, lazy or not.

    Raises
    ------
    ValueError
        If they are not in order.
    """
    if isinstance(bins, str):
        raise NotImplementedError(
            f"bins={bins!r}: how many bins there are is not known before the data are; give a "
            f"number, or numpy.histogram_bin_edges(x.compute(), {bins!r})"
        )
    if isinstance(bins, Array) and bins.ndim == 1:
        return bins
    edges = np.asarray(bins)
    if edges.ndim == 0:
        count = operator.index(edges[()])
        if count < 1:
            raise ValueError("`bins` must be positive, when an integer")
        return count
    if edges.ndim > 1:
        raise ValueError("`bins` must be 1d, when an array")
    if (edges[:-1] > edges[1:]).any():
        raise ValueError("`bins` must increase monotonically, when an array")
    return edges


def _counted_input(a: Any) -> Array:
    x = asarray(a)
    if not x.ndim:
        x = permuted(x, [None])
    return as_type(x, np.uint8) if x.dtype == np.bool_ else x


def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    """Return the edges of the bins of a histogram; see `histogram`.

    Examples
    --------
    >>> histogram_bin_edges(asarray([0.0, 1.0, 4.0]), bins=2).compute()
    array([0., 2., 4.])
    """
    x = _counted_input(a)
    bins = _bins(bins)
    if not isinstance(bins, int):
        return bins
    limits = _limits(x, range)
    if limits is not None:
        return np.histogram_bin_edges(np.empty(0, x.dtype), bins, range=limits)
    dtype = np.histogram_bin_edges(np.empty(0, x.dtype), bins, range=(0, 1)).dtype
    return _of_whole("edges", _Edges(bins, x.dtype), ((bins + 1,),), dtype, min_(x), max_(x))


def histogram(
    a: Any,
    bins: Any = 10,
    range: Any = None,
    density: bool | None = None,
    weights: Any = None,
    *,
    split_every: Any = None,
) -> tuple[Array, Any]:
    """Count how many elements fall into each of some bins.

    Parameters
    ----------
    a : array_like
    bins : int or array_like
        A number of bins of equal width, or their edges.
    range : (float, float), optional
        What bins of equal width divide; by default from the least element to the greatest, and
        then the data are read twice.
    density : bool
        Return a density, whose integral is 1.
    weights : array_like, optional
        How much each element counts; of the shape of the array.

    Returns
    -------
    counts : Array
    edges : ndarray or Array
        One more; lazy if they follow from the elements.

    Raises
    ------
    ValueError
        If bins, range or weights do not fit.

    Examples
    --------
    >>> counts, edges = histogram(asarray([1, 2, 2, 5]), bins=2, range=(0, 6))
    >>> counts.compute(), edges
    (array([3, 1]), array([0., 3., 6.]))
    """
    x = _counted_input(a)
    bins = _bins(bins)
    limits = _limits(x, range) if isinstance(bins, int) else None
    edges = histogram_bin_edges(x, bins, range)
    aligned, dtype = [x], np.dtype(np.intp)
    if weights is not None:
        w = asarray(weights)
        if not w.ndim:
            w = permuted(w, [None])
        if str(w.shape) != str(x.shape):
            raise ValueError(f"weights of shape {w.shape}: expected {x.shape}, that of the array")
        axes = tuple(builtins.range(x.ndim))
        aligned, _ = unified([x, w], [axes, axes])
        dtype = w.dtype
    whole: list[Array] = []
    if isinstance(bins, Array):
        whole = [bins]
    elif isinstance(bins, int) and limits is None:
        whole = [min_(x), max_(x)]
    step = _Histogram(None if isinstance(bins, Array) else bins, limits, weights is not None)
    source = x.expr
    if len(aligned) + len(whole) > 1:
        source = with_whole(("histogram", step.__zcluster_tokenize__()), aligned, whole)
    length = bins if isinstance(bins, int) else bins.shape[0] - 1
    counts = _counted("histogram", step, source, length, dtype, split_every)
    if density:
        chunks = counts.chunks
        counts = _of_whole("density", _density, chunks, np.float64, counts, asarray(edges))
    return counts, edges


def _density(counts: Any, *edges: Any) -> Any:
    """Return counts over the sizes of their bins and the sum of all."""
    found = np.asarray(counts, np.result_type(counts.dtype, np.float64))
    for axis, own in enumerate(edges):
        widths = np.diff(own).astype(np.float64)
        found = found / widths.reshape(-1, *[1] * (counts.ndim - axis - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return found / counts.sum()


# More dimensions ----------------------------------------------------------------------------------


class _Histogramdd:
    """Counts the points of a block, which comes with weights and lazy edges if there are any.

    Attributes
    ----------
    coordinates : int
        In how many arrays the coordinates come; 1 of two axes has them as columns.
    edges : tuple of ndarray or None
        None: they come with the block.
    is_weighted : bool
    """

    __slots__ = ("coordinates", "edges", "is_weighted")

    def __init__(self, coordinates: int, edges: tuple[Any, ...], is_weighted: bool) -> None:
        self.coordinates = coordinates
        self.edges = edges
        self.is_weighted = is_weighted

    __name__ = "histogramdd"

    def __call__(self, given: Any) -> Any:
        given = list(given) if type(given) is tuple else [given]
        points, given = given[: self.coordinates], given[self.coordinates :]
        weights = given.pop(0) if self.is_weighted else None
        rest = iter(given)
        edges = [next(rest) if one is None else one for one in self.edges]
        sample = points[0] if points[0].ndim == 2 else np.stack(points, axis=1)
        counts, _ = np.histogramdd(sample, edges, weights=weights)
        return counts.reshape(-1, *[1] * (points[0].ndim - 1))

    def __zcluster_tokenize__(self) -> Any:
        return ("histogramdd", self.coordinates, self.edges, self.is_weighted)


class _Reshaped:
    """Gives a block a shape."""

    __slots__ = ("shape",)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    __name__ = "reshape"

    def __call__(self, block: Any) -> Any:
        return block.reshape(self.shape)

    def __zcluster_tokenize__(self) -> Any:
        return ("reshaped", self.shape)


def _points(sample: Any) -> tuple[list[Array], list[Array]]:
    """Return the arrays that points come in, of the same chunks, and each coordinate."""
    if isinstance(sample, tuple | list):
        columns = [asarray(one) for one in sample]
        if any(one.ndim != 1 for one in columns) or len({str(one.shape) for one in columns}) > 1:
            raise ValueError(
                f"coordinates of shapes {[one.shape for one in columns]}: expected arrays of one "
                "axis and one length"
            )
        columns, _ = unified(columns, [(0,)] * len(columns))
        return columns, columns
    x = asarray(sample)
    if x.ndim != 2:
        raise ValueError(f"sample of shape {x.shape}: expected a row for each point")
    x = rechunked(x, {1: -1})
    return [x], [x[:, place] for place in builtins.range(x.shape[1])]


def histogramdd(
    sample: Any, bins: Any = 10, range: Any = None, density: bool | None = None, weights: Any = None
) -> tuple[Array, list[Any]]:
    """Count how many points fall into each of some boxes.

    Parameters
    ----------
    sample : array_like or sequence of array_like
        A row for each point; or an array for each coordinate.
    bins : int or sequence
        A number of bins for each coordinate, the same for all, or edges for each.
    range : sequence of (float, float) or None, optional
        What bins of equal width divide, for each coordinate; by default from the least to the
        greatest, and then the data are read twice.
    density : bool
        Return a density, whose integral is 1.
    weights : array_like, optional
        How much each point counts.

    Returns
    -------
    counts : Array
        With an axis for each coordinate.
    edges : list of ndarray or Array

    Raises
    ------
    ValueError
        If an argument does not fit the others.

    Examples
    --------
    >>> points = asarray([[0.0, 0.0], [1.0, 3.0], [0.5, 3.0]])
    >>> counts, _ = histogramdd(points, bins=2, range=[(0, 1), (0, 4)])
    >>> counts.compute()
    array([[1., 0.],
           [0., 2.]])
    """
    given, columns = _points(sample)
    count = len(columns)
    if isinstance(bins, int | np.integer):
        bins = [bins] * count
    if len(bins) != count:
        raise ValueError(f"bins for {len(bins)} dimensions; expected {count}, as the sample has")
    limits = [None] * count if range is None else list(range)
    if len(limits) != count:
        raise ValueError(f"range has {len(limits)} entries; expected {count}: one a dimension")
    edges = [
        _edges_along(column, own, limit)
        for column, own, limit in zip(columns, bins, limits, strict=True)
    ]
    aligned = given
    if weights is not None:
        w = asarray(weights)
        if w.ndim != 1 or str(w.shape[0]) != str(given[0].shape[0]):
            raise ValueError(f"weights of shape {w.shape}: expected ({given[0].shape[0]},)")
        numbers = [(0,) if one.ndim == 1 else (0, 1) for one in (*given, w)]
        aligned, _ = unified([*given, w], numbers)
    lazy = [one for one in edges if isinstance(one, Array)]
    known = tuple(None if isinstance(one, Array) else one for one in edges)
    step = _Histogramdd(len(given), known, weights is not None)
    source = given[0].expr
    if len(aligned) + len(lazy) > 1:
        source = with_whole(("histogramdd", step.__zcluster_tokenize__()), aligned, lazy)
    shape = tuple(one.shape[0] - 1 for one in edges)
    flat = _counted("histogramdd", step, source, math.prod(shape), np.float64, None)
    chunks: Chunks = tuple((length,) for length in shape)
    counts = _of_whole("histogramdd", _Reshaped(shape), chunks, np.float64, flat)
    if density:
        counts = _of_whole("density", _density, chunks, np.float64, counts, *map(asarray, edges))
    return counts, edges


def _edges_along(column: Array, bins: Any, limits: Any) -> Any:
    """Return the edges of the bins along one coordinate, as `numpy.histogramdd` has them."""
    bins = _bins(bins)
    if not isinstance(bins, int):
        return bins
    known = _limits(column, limits)
    if known is not None:
        return _line(bins, *known)
    chunks = ((bins + 1,),)
    return _of_whole("edges", partial(_line, bins), chunks, np.float64, min_(column), max_(column))


def _line(bins: int, low: Any, high: Any) -> Any:
    """Return the edges of bins of equal width."""
    low, high = np.asarray(low)[()], np.asarray(high)[()]
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"autodetected range of [{low}, {high}] is not finite")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def histogram2d(
    x: Any,
    y: Any,
    bins: Any = 10,
    range: Any = None,
    density: bool | None = None,
    weights: Any = None,
) -> tuple[Array, Any, Any]:
    """Count how many points of the plane fall into each of some boxes; see `histogramdd`.

    Parameters
    ----------
    x, y : array_like, shape (n,)
    bins : int, array_like or sequence of two of them
        A number or the edges, for both or for each.
    range : sequence of two (float, float), optional
    density : bool
    weights : array_like, optional

    Returns
    -------
    counts : Array
    x_edges, y_edges : ndarray or Array

    Examples
    --------
    >>> counts, _, _ = histogram2d([0.0, 1.0], [2.0, 2.0], bins=2, range=[(0, 1), (0, 4)])
    >>> counts.compute()
    array([[0., 1.],
           [0., 1.]])
    """
    if isinstance(bins, Array) or (not isinstance(bins, int | np.integer) and len(bins) != 2):
        bins = [bins, bins]
    counts, edges = histogramdd([x, y], bins, range, density, weights)
    return counts, edges[0], edges[1]
