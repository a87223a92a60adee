"""Averages, covariances and integrals: made of reductions, products and slices."""

from __future__ import annotations

from typing import Any

import numpy as np

from zcluster.array.chunks import normalize_axes, normalize_axis
from zcluster.array.core import Array, asarray, elementwise, permuted, unified
from zcluster.array.expressions import Concatenate
from zcluster.array.linalg.products import matmul
from zcluster.array.moments import mean
from zcluster.array.reducing import as_type
from zcluster.array.reductions import sum_

__all__ = ["average", "corrcoef", "cov", "trapezoid"]


def average(
    a: Any,
    axis: Any = None,
    weights: Any = None,
    returned: bool = False,
    keepdims: bool = False,
) -> Any:
    """Return the mean of the elements along some axes, weighted if there are weights.

    Parameters
    ----------
    a : array_like
    axis : int, tuple of int or None
        None: all of them.
    weights : array_like, optional
        Of the shape of the array, or of its shape along the axes.
    returned : bool
        Return the sums of the weights as well.
    keepdims : bool
        The axes stay, with length 1.

    Returns
    -------
    average : Array
        If weights add up to 0, computing it raises a ZeroDivisionError.
    sums : Array
        Only with `returned`; of the shape of the average.

    Raises
    ------
    ValueError
        If the shape of the weights does not fit.

    Examples
    --------
    >>> float(average(asarray([1.0, 2.0, 6.0]), weights=[1, 1, 2]).compute())
    3.75
    """
    x = asarray(a)
    axes = normalize_axes(axis, x.ndim)
    if weights is None:
        found = mean(x, axes, keepdims=keepdims)
        if not returned:
            return found
        count = x.size / found.size if found.size else 0
        return found, elementwise(np.full_like, found, count, dtype=found.dtype, name="sums")
    w = _weights_along(x, axis, axes, asarray(weights))
    if x.dtype.kind in "biu":
        dtype = np.result_type(x.dtype, w.dtype, np.float64)
    else:
        dtype = np.result_type(x.dtype, w.dtype)
    sums = sum_(w, axes, dtype=dtype, keepdims=keepdims)  # of length 1 where they do not vary
    products = elementwise(np.multiply, x, w, dtype=dtype, name="multiply")
    total = sum_(products, axes, dtype=dtype, keepdims=keepdims)
    found = elementwise(_weighted, total, sums, dtype=dtype, name="average")
    if not returned:
        return found
    return found, elementwise(_broadcast_like, sums, found, dtype=dtype, name="sums")


def _weights_along(x: Array, axis: Any, axes: tuple[int, ...], w: Array) -> Array:
    """Return weights with the axes of an array, of length 1 where they do not vary."""
    if str(w.shape) == str(x.shape):
        return w
    if axis is None:
        raise TypeError("Axis must be specified when shapes of a and weights differ.")
    if str(w.shape) != str(tuple(x.shape[one] for one in axes)):
        raise ValueError(
            "Shape of weights must be consistent with shape of a along specified axis."
        )
    return permuted(w, [axes.index(one) if one in axes else None for one in range(x.ndim)])


def _weighted(total: Any, sums: Any) -> Any:
    if (np.asarray(sums) == 0).any():
        raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    return total / sums


def _broadcast_like(sums: Any, found: Any) -> Any:
    return np.broadcast_to(sums, np.shape(found)).copy()


# Covariances --------------------------------------------------------------------------------------


def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Array:
    """Return the covariances of variables.

    Parameters
    ----------
    m : array_like
        Of one or two axes: a row for each variable, a column for each observation.
    y : array_like, optional
        More variables.
    rowvar : bool
        If false, a column for each variable.
    bias : bool
        Divide by the number of observations, not by one less.
    ddof : int, optional
        What the number of observations is lessened by; overrides `bias`.
    fweights : array_like of int, optional
        How often each observation counts.
    aweights : array_like, optional
        How much each observation weighs.
    dtype : dtype, optional
        In which it is computed: at least float64 by default.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> cov(asarray([[1.0, 2.0, 3.0], [1.0, 0.0, -1.0]])).compute()
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    apart, right, count = _apart(m, y, rowvar, bias, ddof, fweights, aweights, dtype)
    found = elementwise(_quotient, matmul(apart, right), count, dtype=apart.dtype, name="cov")
    return found if found.shape != (1, 1) else permuted(found, ())


def corrcoef(m: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Array:
    """Return the correlation coefficients of variables.

    Parameters
    ----------
    m, y, rowvar, dtype
        As in `cov`.

    Examples
    --------
    >>> corrcoef(asarray([[1.0, 2.0, 3.0], [1.0, 0.0, -1.0]])).compute()
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    apart, right, _ = _apart(m, y, rowvar, False, None, None, None, dtype)
    square = elementwise(_absolute_square, apart, name="square")
    length = elementwise(np.sqrt, sum_(square, 1, keepdims=True))
    found = elementwise(
        _normed,
        matmul(apart, right),
        length,
        permuted(length, (1, 0)),
        dtype=apart.dtype,
        name="corrcoef",
    )
    return found if found.shape != (1, 1) else permuted(found, ())


def _apart(
    m: Any,
    y: Any,
    rowvar: bool,
    bias: bool,
    ddof: int | None,
    fweights: Any,
    aweights: Any,
    dtype: Any,
) -> tuple[Array, Array, Any]:
    """Return variables less their means, the same weighted as columns, and what to divide by."""
    if ddof is not None and ddof != int(ddof):
        raise ValueError(f"ddof={ddof!r}: expected an integer")
    x = _variables(m, rowvar, "m")
    more = None if y is None else _variables(y, rowvar, "y")
    if dtype is None:
        dtype = np.result_type(x.dtype, np.float64, *([] if more is None else [more.dtype]))
    if more is not None:
        (x, more), _ = unified([x, more], [(0, 1), (2, 1)])
        x = Array(Concatenate([as_type(x, dtype).expr, as_type(more, dtype).expr], 0))
    x = as_type(x, dtype)
    if ddof is None:
        ddof = 0 if bias else 1
    w = _observation_weights(x.shape[1], fweights, aweights)
    if w is None:
        apart = weighted = x - mean(x, 1, keepdims=True)
        count: Any = float(x.shape[1] - ddof)
    else:
        apart = x - average(x, 1, w, keepdims=True)
        weighted = apart * w
        count = sums = sum_(w)
        if aweights is None:
            count = sums - ddof
        elif ddof:
            count = sums - ddof * sum_(w * asarray(aweights)) / sums
    right = permuted(weighted, (1, 0))
    if x.dtype.kind == "c":
        right = elementwise(np.conjugate, right)
    return apart, right, count


def _variables(m: Any, rowvar: bool, name: str) -> Array:
    """Return variables as rows."""
    x = asarray(m)
    if x.ndim > 2:
        raise ValueError(f"{name} has more than 2 dimensions: {x.ndim}; expected 1 or 2")
    if x.ndim < 2:
        return permuted(x, [None] * (2 - x.ndim) + list(range(x.ndim)))
    return x if rowvar else permuted(x, (1, 0))


def _observation_weights(count: Any, fweights: Any, aweights: Any) -> Array | None:
    """Return how much each observation counts, or None if all count alike."""
    found = None
    for name, given in (("fweights", fweights), ("aweights", aweights)):
        if given is None:
            continue
        if not isinstance(given, Array):
            known = np.asarray(given, float)
            if name == "fweights" and not (known == np.around(known)).all():
                raise TypeError("fweights must be integers: how often each observation counts")
            if (known < 0).any():
                raise ValueError(f"{name} cannot be negative; the least is {known.min()}")
            given = asarray(known)
        if given.ndim != 1 or given.shape[0] != count:
            raise RuntimeError(
                f"{name} of shape {given.shape}; expected one for each of {count} observations"
            )
        found = given if found is None else found * given
    return found


def _quotient(products: Any, count: Any) -> Any:
    """Return covariances; nan or inf of too few observations."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return products * np.true_divide(1, np.maximum(count, 0))


def _absolute_square(values: Any) -> Any:
    return values.real**2 + values.imag**2 if values.dtype.kind == "c" else values * values


def _normed(products: Any, left: Any, right: Any) -> Any:
    """Return correlations: products over lengths, between -1 and 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = products / left / right
    if found.dtype.kind == "c":
        np.clip(found.real, -1, 1, out=found.real)
        np.clip(found.imag, -1, 1, out=found.imag)
        return found
    return np.clip(found, -1, 1)


# Integrals ----------------------------------------------------------------------------------------


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Array:
    """Return the integral along an axis, of the straight lines between the points.

    Parameters
    ----------
    y : array_like
    x : array_like, optional
        Where the points are: along the axis, or for each element.
    dx : float
        Their distance, without `x`.
    axis : int

    Examples
    --------
    >>> float(trapezoid(asarray([1.0, 2.0, 3.0]), dx=0.5).compute())
    2.0
    """
    y = asarray(y)
    axis = normalize_axis(axis, y.ndim)
    after = (slice(None),) * axis + (slice(1, None),)
    before = (slice(None),) * axis + (slice(None, -1),)
    if x is None:
        width = dx
    else:
        x = asarray(x)
        if x.ndim == 1:
            x = permuted(x, [0 if one == axis else None for one in range(y.ndim)])
        place = axis - (y.ndim - x.ndim)
        lead = (slice(None),) * place
        width = x[(*lead, slice(1, None))] - x[(*lead, slice(None, -1))]
    return sum_(width * (y[after] + y[before]) / 2.0, axis)
