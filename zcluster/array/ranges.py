"""Numbers in steps: `arange`, `linspace` and the like, of which each block knows its own.

A block computes its elements as NumPy does for the whole array, from their numbers: the results
are the same to the last bit.
"""

from __future__ import annotations

import math
import operator
from functools import partial
from typing import Any

import numpy as np

from zcluster.array.chunks import normalize_chunks
from zcluster.array.core import Array
from zcluster.array.expressions import Generated

__all__ = ["arange", "geomspace", "linspace", "logspace"]


def _line(label: str, function: Any, length: int, dtype: Any, chunks: Any) -> Array:
    own = normalize_chunks(chunks, (length,), np.dtype(dtype))
    return Array(Generated(label, function, own, dtype, is_cheap=True))


def arange(
    start: Any = None,
    stop: Any = None,
    step: Any = 1,
    dtype: Any = None,
    *,
    chunks: Any = "auto",
    name: str | None = None,
    meta: Any = None,
    device: str | None = None,
    like: Any = None,
) -> Array:
    """Return numbers from a first one in equal steps, up to one that is left out.

    Parameters
    ----------
    start : number or datetime
        The first; with no `stop`, what is given is where to stop, and the first is 0.
    stop : number or datetime
    step : number or timedelta
    dtype : dtype, optional
        By default that of the others, but at least an integer of this machine.
    chunks : optional
    name : str, optional
        What the array's name begins with.
    meta, device, like
        Without effect.

    Examples
    --------
    >>> arange(5, chunks=2).compute(), arange(1, 2, 0.25).compute()
    (array([0, 1, 2, 3, 4]), array([1.  , 1.25, 1.5 , 1.75]))
    """
    if stop is None:
        if start is None:
            raise TypeError("arange() requires stop to be specified.")
        start, stop = None, start
    start, stop, step = (_plain(one) for one in (start, stop, step))
    step = 1 if step is None else step
    kinds = [np.asarray(one).dtype for one in (start, stop, step) if one is not None]
    if any(kind.kind in "mM" for kind in kinds) or np.dtype(dtype or int).kind in "mM":
        return _of_dates(start, stop, step, dtype, chunks, name)
    if start is None:
        start = 0
    if dtype is None:
        dtype = np.result_type(np.int64, *kinds)
    dtype = np.dtype(dtype)
    length = _length(start, stop, step)
    if dtype == np.bool_ and length > 2:
        raise TypeError(f"arange() of booleans has at most 2 elements; found {length}")
    second = start + step if length > 1 else start
    first_two = np.array([start, second]).astype(dtype)
    function = partial(_arange_block, first=first_two[0], second=first_two[1], dtype=dtype)
    return _line(name or "arange", function, length, dtype, chunks)


def _plain(value: Any) -> Any:
    """Return a scalar where there is an array without axes."""
    if isinstance(value, np.ndarray) and not value.ndim:
        return value[()]
    if isinstance(value, str):
        return np.datetime64(value)
    return value


def _length(start: Any, stop: Any, step: Any) -> int:
    """Return how many steps there are before the stop."""
    if step == 0:
        raise ZeroDivisionError("arange with step=0; expected another step")
    steps = (stop - start) / step
    parts = (steps.real, steps.imag) if isinstance(steps, complex) else (steps,)
    if not all(map(math.isfinite, parts)):
        raise ValueError(f"arange: cannot compute length of {start} to {stop} in steps of {step}")
    return max(min(math.ceil(part) for part in parts), 0)


def _arange_block(
    starts: tuple[int], shape: tuple[int], first: Any, second: Any, dtype: Any
) -> Any:
    """Return some of the numbers: ``first + n * (second - first)``, but the second as it is."""
    numbers = np.arange(starts[0], starts[0] + shape[0])
    if dtype == np.bool_:
        return np.where(numbers == 0, first, second)
    if dtype == np.float16:  # NumPy computes these as float32
        begin, delta = np.float32(first), np.float32(second) - np.float32(first)
        made = (begin + numbers.astype(np.float32) * delta).astype(dtype)
    else:
        with np.errstate(all="ignore"):  # integers wrap, as NumPy's do
            made = (first + numbers.astype(dtype) * (second - first)).astype(dtype, copy=False)
    made[numbers == 1] = second
    return made


def _of_dates(start: Any, stop: Any, step: Any, dtype: Any, chunks: Any, name: Any) -> Array:
    """Return dates or times in equal steps, which are integers in a unit."""
    if start is not None and np.asarray(start).dtype.kind == "M":
        if np.asarray(stop).dtype.kind != "M":
            stop = start + stop
        probe = np.arange(start, start, step, dtype=dtype)
        unit = np.result_type(probe.dtype, np.asarray(stop).dtype) if dtype is None else probe.dtype
        first = np.asarray(start).astype(unit)
    else:
        given = [np.asarray(one).dtype for one in (start, stop, step) if one is not None]
        spans = [kind for kind in given if kind.kind == "m"]
        unit = np.result_type(*spans) if dtype is None else np.dtype(dtype)
        if unit.kind == "M":
            raise ValueError("arange: a start is needed for dates; expected arange(start, stop)")
        first = np.asarray(0 if start is None else start).astype(unit)
    letter, multiple = np.datetime_data(unit)
    span = np.dtype(f"m8[{multiple}{letter}]")
    last = np.asarray(stop).astype(unit).astype(np.int64)
    begin = int(first.astype(np.int64))
    delta = int(np.asarray(step).astype(span).astype(np.int64))
    length = _length(begin, int(last), delta)
    function = partial(_dates_block, begin=begin, delta=delta, dtype=unit)
    return _line(name or "arange", function, length, unit, chunks)


def _dates_block(starts: tuple[int], shape: tuple[int], begin: int, delta: int, dtype: Any) -> Any:
    numbers = np.arange(starts[0], starts[0] + shape[0], dtype=np.int64)
    return (begin + numbers * delta).view(dtype)


# From one to another ------------------------------------------------------------------------------


def _linspace_block(
    starts: tuple[int],
    shape: tuple[int],
    ends: tuple[Any, Any],
    num: int,
    endpoint: bool,
    working: Any,
    dtype: Any,
) -> Any:
    """Return some of the numbers of `linspace`, by the arithmetic of NumPy's."""
    start, stop = ends
    divisions = num - 1 if endpoint else num
    delta = np.subtract(stop, start, dtype=type(working))
    made = np.arange(starts[0], starts[0] + shape[0]).astype(working)
    step = delta / divisions if divisions > 0 else None
    if step is None:
        made = made * delta
    elif step == 0:
        made = made / divisions * delta
    else:
        made = made * step
    made = made + start
    if endpoint and num > 1 and starts[0] + shape[0] == num and shape[0]:
        made[-1] = stop
    if np.issubdtype(dtype, np.integer):
        made = np.floor(made)
    return made.astype(dtype, copy=False)


def _ends(start: Any, stop: Any, num: Any, what: str) -> tuple[Any, Any, int]:
    """Return both ends in the dtype to calculate with, and how many there are to be."""
    num = operator.index(num)
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    if np.ndim(start) or np.ndim(stop):
        raise NotImplementedError(
            f"{what} between arrays; call it for each pair of numbers and stack what it returns"
        )
    working = np.result_type(_plain(start), _plain(stop), float(num))
    return np.asarray(start).astype(working)[()], np.asarray(stop).astype(working)[()], num


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    chunks: Any = "auto",
    device: str | None = None,
) -> Any:
    """Return numbers from one to another, at equal distances.

    Parameters
    ----------
    start, stop : number
    num : int
        How many.
    endpoint : bool
        The last one is `stop`; else that is left out.
    retstep : bool
        Return the distance as well.
    dtype : dtype, optional
    axis
        As NumPy has it; there is one.
    chunks : optional

    Returns
    -------
    numbers : Array, shape (num,)
    step : float
        If `retstep`.

    Examples
    --------
    >>> linspace(0, 1, 5, chunks=2).compute()
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    first, last, num = _ends(start, stop, num, "linspace")
    working = first.dtype
    wanted = working if dtype is None else np.dtype(dtype)
    function = partial(
        _linspace_block,
        ends=(first, last),
        num=num,
        endpoint=bool(endpoint),
        working=working,
        dtype=wanted,
    )
    made = _line("linspace", function, num, wanted, chunks)
    if not retstep:
        return made
    divisions = num - 1 if endpoint else num
    delta = np.subtract(last, first, dtype=type(working))
    return made, delta / divisions if divisions > 0 else np.float64(math.nan)


def _powers_block(starts: tuple[int], shape: tuple[int], line: Any, base: Any, dtype: Any) -> Any:
    return np.power(base, line(starts, shape)).astype(dtype, copy=False)


def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
    *,
    chunks: Any = "auto",
) -> Array:
    """Return powers of a base, whose exponents are at equal distances; see `linspace`.

    Examples
    --------
    >>> logspace(0, 2, 3).compute()
    array([  1.,  10., 100.])
    """
    if np.ndim(base):
        raise NotImplementedError("logspace of several bases; call it for each and stack")
    line = linspace(start, stop, num, endpoint, chunks=chunks)
    working = np.power(_plain(base), np.ones(1, line.dtype)).dtype
    wanted = working if dtype is None else np.dtype(dtype)
    function = partial(_powers_block, line=line.expr.function, base=base, dtype=wanted)
    return _line("logspace", function, line.shape[0], wanted, line.chunks)


def _geomspace_block(
    starts: tuple[int],
    shape: tuple[int],
    line: Any,
    ends: tuple[Any, Any],
    sign: Any,
    num: int,
    endpoint: bool,
    dtype: Any,
) -> Any:
    made = np.power(10.0, line(starts, shape)).astype(ends[0].dtype)
    if shape[0] and starts[0] == 0:
        made[0] = ends[0]
    if shape[0] and endpoint and num > 1 and starts[0] + shape[0] == num:
        made[-1] = ends[1]
    return (made * sign).astype(dtype, copy=False)


def geomspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    dtype: Any = None,
    axis: int = 0,
    *,
    chunks: Any = "auto",
) -> Array:
    """Return numbers from one to another, each a constant times the one before.

    Raises
    ------
    ValueError
        If one end is 0.

    Examples
    --------
    >>> geomspace(1, 8, 4).compute()
    array([1., 2., 4., 8.])
    """
    _, _, num = _ends(start, stop, num, "geomspace")
    if start == 0 or stop == 0:
        raise ValueError("Geometric sequence cannot include zero")
    working = np.result_type(start, stop, float(num), np.zeros((), dtype))
    first, last = np.asarray(start).astype(working)[()], np.asarray(stop).astype(working)[()]
    sign = np.sign(first)
    first, last = first / sign, last / sign
    line = linspace(np.log10(first), np.log10(last), num, endpoint, chunks=chunks)
    wanted = working if dtype is None else np.dtype(dtype)
    function = partial(
        _geomspace_block,
        line=line.expr.function,
        ends=(first, last),
        sign=sign,
        num=num,
        endpoint=bool(endpoint),
        dtype=wanted,
    )
    return _line("geomspace", function, num, wanted, line.chunks)
