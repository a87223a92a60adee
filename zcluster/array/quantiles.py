"""Medians, percentiles and quantiles: exact, by all methods of NumPy's.

Along an axis they are those of its lines, block by block (`sorting.in_lines`). Of all elements
together, and of lines that are too long for a block, they are made of the elements of a few ranks,
which `selection` finds without moving the rest.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from zcluster.array.chunks import is_known, normalize_axes
from zcluster.array.core import Array, asarray, permuted
from zcluster.array.expressions import Blockwise
from zcluster.array.reducing import has_nan, put_out
from zcluster.array.reshaping import reshape
from zcluster.array.selection import Ranked, Selection
from zcluster.array.sorting import each_line, in_lines, is_long, line_limit
from zcluster.errors import InvalidArgument

__all__ = [
    "median",
    "nanmedian",
    "nanpercentile",
    "nanquantile",
    "percentile",
    "quantile",
]


# Quantiles of what is in order --------------------------------------------------------------------

#: Of methods that interpolate: where among n elements, counted from 0, a quantile is: at
#: ``n q + alpha + q (1 - alpha - beta) - 1``.
_CONTINUOUS = {
    "interpolated_inverted_cdf": (0, 1),
    "hazen": (0.5, 0.5),
    "weibull": (0, 0),
    "median_unbiased": (1 / 3.0, 1 / 3.0),
    "normal_unbiased": (3 / 8.0, 3 / 8.0),
}


def _places(n: int, q: Any, method: str) -> tuple[Any, Any, Any]:
    """Return the ranks of the elements on both sides of quantiles, and the weight of the upper.

    Where the weight is None, the lower one is the quantile.
    """
    if method in ("lower", "higher", "nearest"):
        roundings: dict[str, Any] = {"lower": np.floor, "higher": np.ceil, "nearest": np.around}
        rounded = roundings[method]
        low = rounded((n - 1) * q).astype(np.intp)
        return low, low, None
    if method in ("inverted_cdf", "closest_observation"):
        at = n * q - (1 if method == "inverted_cdf" else 1.5)
        low = np.floor(at)
        stays = at == low
        if method == "closest_observation":  # of two that are as near, the even one from 1 on
            stays &= low % 2 == 1
        low = np.clip(np.where(stays, low, low + 1), 0, n - 1).astype(np.intp)
        return low, low, None
    if method == "linear":
        at = (n - 1) * q
    elif method == "midpoint":
        at = 0.5 * (np.floor((n - 1) * q) + np.ceil((n - 1) * q))
    elif method == "averaged_inverted_cdf":
        at = n * q - 1
    else:
        alpha, beta = _CONTINUOUS[method]
        at = n * q + (alpha + q * (1 - alpha - beta)) - 1
    at = np.asarray(at)
    low = np.floor(at)
    high = low + 1
    weight = at - low
    low = np.where(at >= n - 1, n - 1, np.where(at < 0, 0, low))
    high = np.where(at >= n - 1, n - 1, np.where(at < 0, 0, high))
    if method == "midpoint":
        weight = np.where(at % 1 == 0, 0.0, 0.5)
    elif method == "averaged_inverted_cdf":
        weight = np.where(weight == 0, 0.5, 1.0)
    return low.astype(np.intp), high.astype(np.intp), np.asarray(weight, at.dtype)


class _Quantile:
    """Which ranks quantiles need, and what they are.

    Attributes
    ----------
    q : ndarray
    is_weak : bool
        It was given as a number of Python's, whose precision does not count.
    method : str
    """

    __slots__ = ("is_weak", "method", "q")

    def __init__(self, q: Any, is_weak: bool, method: str) -> None:
        self.q = q
        self.is_weak = is_weak
        self.method = method

    def __zcluster_tokenize__(self) -> Any:
        return ("quantile", self.q, self.is_weak, self.method)

    def wanted(self, count: int) -> Any:
        low, high, _ = _places(count, self.q, self.method)
        return np.concatenate([np.ravel(low), np.ravel(high), [count - 1]]).astype(np.int64)

    def finish(self, ranks: Any, elements: Any, count: int) -> Any:
        if not count:  # all were nan
            return np.full(np.shape(self.q), np.nan)
        low, high, weight = _places(count, self.q, self.method)
        below = elements[np.searchsorted(ranks, low)]
        found = below
        if weight is not None:
            weight = float(weight) if self.is_weak else weight
            above = elements[np.searchsorted(ranks, high)]
            span = above - below
            found = np.where(
                np.asarray(weight) >= 0.5, above - span * (1 - weight), below + span * weight
            )
        if elements.dtype.kind in "fcmM" and np.isnan(elements[-1]):
            found = np.full(np.shape(found), elements[-1])
        return found


class _Middle:
    """Which ranks a median needs, and what it is."""

    __slots__ = ()

    def __zcluster_tokenize__(self) -> Any:
        return "middle"

    def wanted(self, count: int) -> Any:
        return np.array([(count - 1) // 2, count // 2, count - 1])

    def finish(self, ranks: Any, elements: Any, count: int) -> Any:
        if not count:
            return np.nan
        if elements.dtype.kind in "fcmM" and np.isnan(elements[-1]):
            return elements[-1]
        pair = elements[np.searchsorted(ranks, [(count - 1) // 2, count // 2])]
        return np.mean(pair[: 2 - count % 2])


# The functions ------------------------------------------------------------------------------------


class _Lines:
    """Calls a function of NumPy's that reduces the last axes of a block.

    Attributes
    ----------
    function : callable
    axes : tuple of int
    keepdims : bool
    more : dict
        Keywords for it.
    dtype : dtype
        Of the result.
    """

    __slots__ = ("axes", "dtype", "function", "keepdims", "more")

    def __init__(
        self,
        function: Callable[..., Any],
        axes: tuple[int, ...],
        keepdims: bool,
        more: Any,
        dtype: Any,
    ) -> None:
        self.function = function
        self.axes = axes
        self.keepdims = keepdims
        self.more = more
        self.dtype = dtype

    @property
    def __name__(self) -> str:
        return str(self.function.__name__)

    def __call__(self, block: Any) -> Any:
        if not block.size and all(block.shape[axis] for axis in self.axes):
            lengths = [1 if axis in self.axes else n for axis, n in enumerate(block.shape)]
            if not self.keepdims:
                lengths = [n for axis, n in enumerate(block.shape) if axis not in self.axes]
            return np.empty((*np.shape(self.more.get("q", 0)), *lengths), self.dtype)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)  # of lines that are all nan
            return self.function(block, axis=self.axes, keepdims=self.keepdims, **self.more)


def _ranked(
    function: Callable[..., Any],
    a: Any,
    axis: Any,
    keepdims: bool,
    out: Any,
    steps: Ranked,
    more: dict[str, Any],
) -> Array:
    """Return what a function of NumPy's gives, which needs elements of some ranks."""
    x = asarray(a)
    axes = normalize_axes(axis, x.ndim)
    label = str(function.__name__)
    skips_nan = label.startswith("nan") and has_nan(x.dtype)
    q_shape = np.shape(more.get("q", 0))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        tried = np.asarray(function(np.ones(3, x.dtype), **more))
    dtype = tried.dtype
    if any(x.shape[one] == 0 for one in axes):  # NumPy says what that gives
        return put_out(_of_nothing(function, x, axes, keepdims, more), out)
    if x.ndim and not _goes_across(x, axes):
        made = _by_lines(
            label, _Lines(function, axes, keepdims, more, dtype), x, axes, q_shape, dtype
        )
        return put_out(made, out)

    def selected(line: Array) -> Array:
        expr = Selection(label, line.expr, steps, q_shape, dtype, skips_nan)
        return Array(expr)

    made = selected(x) if len(axes) == x.ndim else _each(selected, x, axes[0], len(q_shape))
    if keepdims:
        kept = [None if one in axes else 0 for one in range(x.ndim)]
        count = itertools.count(len(q_shape))
        kept = [None if one is None else next(count) for one in kept]
        made = permuted(made, [*range(len(q_shape)), *kept])
    return put_out(made, out)


def _goes_across(x: Array, axes: tuple[int, ...]) -> bool:
    """Tell whether elements are looked for across blocks: what is small is put into one."""
    if len(axes) < x.ndim:
        return len(axes) == 1 and is_long(x, axes[0])
    if x.npartitions == 1:
        return False
    return not all(map(is_known, x.chunks)) or int(x.nbytes) > line_limit()


def _each(function: Callable[[Array], Array], x: Array, axis: int, q_ndim: int) -> Array:
    """Return what a function makes of each line, with axes of its own first."""

    def flat(line: Array) -> Array:
        found = function(line)
        return permuted(found, [None]) if not q_ndim else found

    made = each_line(flat, x, axis)
    rest = [one for one in range(x.ndim) if one != axis]
    return permuted(made, [axis, *rest] if q_ndim else rest)


def _of_nothing(
    function: Callable[..., Any], x: Array, axes: tuple[int, ...], keepdims: bool, more: Any
) -> Array:
    """Return what NumPy gives where an axis that is reduced has no elements."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        nothing = np.empty(tuple(0 if one != one else one for one in x.shape), x.dtype)
        return asarray(np.asarray(function(nothing, axis=axes, keepdims=keepdims, **more)))


def _by_lines(
    label: str, function: _Lines, x: Array, axes: tuple[int, ...], q_shape: Any, dtype: Any
) -> Array:
    x = in_lines(x, axes)
    first = len(q_shape)
    kept = (
        list(range(x.ndim))
        if function.keepdims
        else [one for one in range(x.ndim) if one not in axes]
    )
    chunks = [(length,) for length in q_shape]
    chunks += [(1,) if one in axes else x.chunks[one] for one in kept]
    place = [-1 if one in axes else first + kept.index(one) for one in range(x.ndim)]
    return Array(Blockwise(label, function, [x.expr], (0,), [tuple(place)], tuple(chunks), dtype))


def median(a: Any, axis: Any = None, keepdims: bool = False, out: Any = None) -> Array:
    """Return the median of the elements along some axes, nan if one is nan.

    Parameters
    ----------
    a : array_like
    axis : int, tuple of int or None
        None: all of them.
    keepdims : bool
        The axes stay, with length 1.
    out : Array, optional
        Stands for the result from then on.

    Examples
    --------
    >>> float(median(asarray([5, 1, 4, 2])).compute())
    3.0
    """
    return _ranked(np.median, a, axis, keepdims, out, _Middle(), {})


def nanmedian(a: Any, axis: Any = None, keepdims: bool = False, out: Any = None) -> Array:
    """Return the median of the elements that are not nan; see `median`.

    Examples
    --------
    >>> float(nanmedian(asarray([5.0, float("nan"), 4.0, 2.0])).compute())
    4.0
    """
    return _ranked(np.nanmedian, a, axis, keepdims, out, _Middle(), {})


def _quantiles(
    function: Callable[..., Any],
    a: Any,
    q: Any,
    axis: Any,
    out: Any,
    method: Any,
    keepdims: bool,
    weights: Any,
    interpolation: Any,
    scale: int,
) -> Array:
    if interpolation is not None:
        method = interpolation
    if isinstance(axis, str):  # where Dask's percentile has its method
        axis, method = None, axis
    if isinstance(q, Array):
        raise InvalidArgument(
            "q is a lazy array; expected numbers, which say what is computed: q.compute()"
        )
    if weights is not None:
        raise NotImplementedError(
            f"weights of a {function.__name__}: sort the values with their weights "
            "(order = argsort(x)), and look where cumsum(weights[order]) passes q * sum(weights)"
        )
    values = np.asarray(q)
    if values.ndim > 1:
        flat = _quantiles(
            function, a, values.ravel(), axis, None, method, keepdims, None, None, scale
        )
        return put_out(reshape(flat, (*values.shape, *flat.shape[1:])), out)
    more = {"q": q if type(q) in (int, float) else values, "method": method}
    share = np.true_divide(values, scale) if scale != 1 else values
    steps = _Quantile(share, type(q) in (int, float), method)
    return _ranked(function, a, axis, keepdims, out, steps, more)


def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
    interpolation: Any = None,
) -> Array:
    """Return quantiles of the elements along some axes, nan if one is nan.

    Parameters
    ----------
    a : array_like
    q : float or array_like
        Between 0 and 1; its axes come first in the result, however many there are.
    axis : int, tuple of int or None
        None: all of them.
    out : Array, optional
        Stands for the result from then on.
    overwrite_input : bool
        Not looked at: nothing is overwritten.
    method : str
        Any of NumPy's.
    keepdims : bool
        The axes stay, with length 1.
    weights
        Must be None.
    interpolation : str, optional
        An older name of `method`.

    Raises
    ------
    ValueError
        If q is out of range or there is no such method.
    NotImplementedError
        If there are weights.

    Examples
    --------
    >>> quantile(asarray([5, 1, 4, 2]), [0.5, 1]).compute()
    array([3., 5.])
    """
    return _quantiles(np.quantile, a, q, axis, out, method, keepdims, weights, interpolation, 1)


def nanquantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
    interpolation: Any = None,
) -> Array:
    """Return quantiles of the elements that are not nan; see `quantile`.

    Examples
    --------
    >>> float(nanquantile(asarray([5.0, float("nan"), 4.0]), 0.5).compute())
    4.5
    """
    return _quantiles(np.nanquantile, a, q, axis, out, method, keepdims, weights, interpolation, 1)


def percentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
    interpolation: Any = None,
    internal_method: Any = None,
) -> Array:
    """Return percentiles of the elements along some axes; see `quantile`.

    Parameters
    ----------
    a, axis, out, overwrite_input, method, keepdims, weights, interpolation
        As in `quantile`.
    q : float or array_like
        Between 0 and 100.
    internal_method : str, optional
        Not looked at: all results are exact.

    Examples
    --------
    >>> float(percentile(asarray([5, 1, 4, 2]), 50).compute())
    3.0
    """
    return _quantiles(np.percentile, a, q, axis, out, method, keepdims, weights, interpolation, 100)


def nanpercentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
    interpolation: Any = None,
    internal_method: Any = None,
) -> Array:
    """Return percentiles of the elements that are not nan; see `percentile`.

    Examples
    --------
    >>> float(nanpercentile(asarray([5.0, float("nan"), 4.0]), 50).compute())
    4.5
    """
    return _quantiles(
        np.nanpercentile, a, q, axis, out, method, keepdims, weights, interpolation, 100
    )


METHODS: dict[str, Callable[..., Any]] = {}
