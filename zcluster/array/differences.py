"""Differences of neighbours: `diff`, `ediff1d`, `gradient`."""

from __future__ import annotations

from typing import Any

import numpy as np

from zcluster.array.chunks import normalize_axes, normalize_axis
from zcluster.array.core import Array, asarray, elementwise, rechunked
from zcluster.array.joining import concatenate
from zcluster.array.manipulation import astype, broadcast_to
from zcluster.array.reshaping import ravel
from zcluster.array.restating import check_known

__all__ = ["diff", "ediff1d", "gradient"]


def _part(array: Array, axis: int, start: int | None, stop: int | None) -> Array:
    made: Array = array[(*[slice(None)] * axis, slice(start, stop))]
    return made


def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Array:
    """Return the differences of neighbours along an axis.

    Parameters
    ----------
    a : array_like
    n : int
        How many times; the axis becomes shorter by 1 each time.
    axis : int
    prepend, append : array_like, optional
        To stand before and after `a` along the axis; a scalar has length 1.

    Examples
    --------
    >>> diff([1, 4, 9]).compute()
    array([3, 5])
    """
    array = asarray(a)
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    if not array.ndim:
        raise ValueError("diff requires input that is at least one dimensional")
    axis = normalize_axis(axis, array.ndim)
    if n == 0:
        return Array(array.expr)
    check_known(array, [axis], "diff")
    parts = [array]
    for place, extra in ((0, prepend), (2, append)):
        if extra is not None:
            one = asarray(extra)
            if not one.ndim:
                shape = list(array.shape)
                shape[axis] = 1
                one = broadcast_to(one, tuple(shape))
            parts.insert(place, one)
    if len(parts) > 1:
        array = concatenate(parts, axis)
    function = np.not_equal if array.dtype == np.bool_ else np.subtract
    for _ in range(n):
        before = _part(array, axis, None, -1)
        after = rechunked(_part(array, axis, 1, None), before.chunks)
        array = elementwise(function, after, before, name="diff")
    return array


def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Array:
    """Return the differences of neighbours in the flat array, and what shall stand around them.

    Examples
    --------
    >>> ediff1d([1, 2, 4], to_begin=-9).compute()
    array([-9,  1,  2])
    """
    flat = ravel(ary)
    parts = [diff(flat)]
    for place, extra in ((0, to_begin), (2, to_end)):
        if extra is not None:
            one = ravel(extra)
            if not np.can_cast(one.dtype, flat.dtype, "same_kind"):
                name = "to_begin" if place == 0 else "to_end"
                raise TypeError(
                    f"dtype of `{name}` must be compatible with input `ary` under the `same_kind` "
                    f"rule; found {one.dtype} and {flat.dtype}"
                )
            parts.insert(place, astype(one, flat.dtype))
    return concatenate(parts) if len(parts) > 1 else parts[0]


# Gradients ----------------------------------------------------------------------------------------


def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Return the slopes along axes, from both neighbours; at the ends from one side.

    Parameters
    ----------
    f : array_like
    *varargs : scalar or array_like
        The distance of neighbours, or their places along the axis: none (it is 1), one for all
        axes, or one for each.
    axis : int, tuple of int or None
    edge_order : {1, 2}
        How exact the ends are.

    Returns
    -------
    slopes : Array or tuple of Array
        One for each axis; a tuple if there are several.

    Examples
    --------
    >>> gradient([1.0, 2.0, 4.0, 7.0]).compute()
    array([1. , 1.5, 2.5, 3. ])
    """
    array = asarray(f)
    axes = normalize_axes(axis, array.ndim)
    if edge_order not in (1, 2):
        raise ValueError(f"'edge_order' greater than 2 not supported; found {edge_order}")
    if len(varargs) not in (0, 1, len(axes)):
        raise TypeError(f"{len(varargs)} distances; expected none, one, or {len(axes)}")
    spacings = [1.0] * len(axes) if not varargs else list(varargs)
    if len(spacings) == 1:
        spacings *= len(axes)
    check_known(array, axes, "gradient")
    if array.dtype.kind == "M":
        kind = np.dtype(array.dtype.str.replace("M8", "m8"))
        array = elementwise(_as_spans, array, dtype=kind, kind=kind)
    elif array.dtype.kind not in "fcm":
        array = astype(array, np.float64)
    found = []
    for number, spacing in zip(axes, spacings, strict=True):
        if array.shape[number] < edge_order + 1:
            raise ValueError(
                "Shape of array too small to calculate a numerical gradient, at least (edge_order "
                f"+ 1) elements are required; found {array.shape[number]} along axis {number}"
            )
        found.append(_slopes(array, number, spacing, edge_order))
    return found[0] if len(axes) == 1 else tuple(found)


def _as_spans(block: Any, kind: Any) -> Any:
    return block.view(kind)


def _slopes(array: Array, axis: int, spacing: Any, edge_order: int) -> Array:
    length = array.shape[axis]
    steps = None
    if np.ndim(spacing) or isinstance(spacing, Array):
        places = np.asarray(spacing)
        if places.ndim != 1 or len(places) != length:
            raise ValueError(
                f"distances must be scalars or 1d with as many places as the axis: found shape "
                f"{places.shape} for axis {axis} of length {length}"
            )
        if places.dtype.kind in "iu":
            places = places.astype(np.float64)
        steps = np.diff(places)
        if len(steps) and (steps == steps[0]).all():
            spacing, steps = steps[0], None
    parts = [_edge(array, axis, spacing, steps, edge_order, 0)]
    if length > 2:
        parts.append(_inside(array, axis, spacing, steps))
    parts.append(_edge(array, axis, spacing, steps, edge_order, 1))
    own = {axis: array.chunks[axis]}
    return rechunked(astype(concatenate(parts, axis), array.dtype), own)


def _lined(values: Any, axis: int, ndim: int) -> Any:
    return np.asarray(values).reshape([-1 if n == axis else 1 for n in range(ndim)])


def _inside(array: Array, axis: int, spacing: Any, steps: Any) -> Array:
    """Return the slopes between the ends."""
    middle = _part(array, axis, 1, -1)
    before = rechunked(_part(array, axis, None, -2), middle.chunks)
    after = rechunked(_part(array, axis, 2, None), middle.chunks)
    if steps is None:
        even: Array = (after - before) / (2.0 * spacing)
        return even
    first, second = (_lined(one, axis, array.ndim) for one in (steps[:-1], steps[1:]))
    a = -second / (first * (first + second))
    b = (second - first) / (first * second)
    c = first / (second * (first + second))
    uneven: Array = a * before + b * middle + c * after
    return uneven


def _edge(array: Array, axis: int, spacing: Any, steps: Any, edge_order: int, side: int) -> Array:
    """Return the slope at one end."""
    length = array.shape[axis]
    places = range(edge_order + 1) if side == 0 else range(length - edge_order - 1, length)
    parts = [_part(array, axis, n, n + 1) for n in places]
    if edge_order == 1:
        if steps is not None:
            spacing = steps[0 if side == 0 else -1]
        slope: Array = (parts[1] - parts[0]) / spacing
        return slope
    if steps is None:
        factors = (-1.5, 2.0, -0.5) if side == 0 else (0.5, -2.0, 1.5)
        a, b, c = (factor / spacing for factor in factors)
    elif side == 0:
        first, second = steps[0], steps[1]
        a = -(2.0 * first + second) / (first * (first + second))
        b = (first + second) / (first * second)
        c = -first / (second * (first + second))
    else:
        first, second = steps[-2], steps[-1]
        a = second / (first * (first + second))
        b = -(second + first) / (first * second)
        c = (2.0 * second + first) / (second * (first + second))
    curve: Array = a * parts[0] + b * parts[1] + c * parts[2]
    return curve
