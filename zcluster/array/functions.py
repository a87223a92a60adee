"""Functions that go element by element and are no ufuncs: rounding, clipping, choosing, comparing.

As with ufuncs, NumPy answers at once where no operand is an array in chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from zcluster.array.chunks import broadcast_shapes
from zcluster.array.core import Array, asarray, elementwise, rechunked
from zcluster.array.expressions import Blockwise
from zcluster.array.ufuncs import conjugate, logical_and
from zcluster.array.universal import put_into
from zcluster.protocol.callables import callable_name

__all__ = [
    "allclose",
    "angle",
    "around",
    "array_equal",
    "array_equiv",
    "choose",
    "clip",
    "fix",
    "i0",
    "imag",
    "interp",
    "isclose",
    "iscomplex",
    "iscomplexobj",
    "isneginf",
    "isnull",
    "isposinf",
    "isreal",
    "isrealobj",
    "nan_to_num",
    "notnull",
    "piecewise",
    "real",
    "round_",
    "select",
    "sinc",
    "where",
]


def _is_lazy(*operands: Any) -> bool:
    return any(isinstance(one, Array) for one in operands)


def _put(made: Array, out: Any) -> Array:
    if out is None:
        return made
    held = out[0] if isinstance(out, tuple) else out
    if not isinstance(held, Array):
        raise NotImplementedError(
            f"out= of type {type(held).__name__} cannot hold what is not computed yet; leave it "
            "out, and assign what compute() returns: out[...] = result.compute()"
        )
    return put_into(held, made)


def clip(
    a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None,
    max: Any = None, **kwargs: Any
) -> Any:  # fmt: skip
    """Return an array whose elements are within limits.

    Parameters
    ----------
    a : array_like
    a_min, a_max : array_like, optional
        The limits; `min` and `max` are other names for them.
    out : Array, optional
    **kwargs
        As ufuncs have them.

    Examples
    --------
    >>> clip(asarray([1, 5, 9]), 2, 6).compute()
    array([2, 5, 6])
    """
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if not _is_lazy(a, low, high, out):
        return np.clip(a, low, high, out=out, **kwargs)
    return _put(elementwise(np.clip, a, low, high, name="clip", **kwargs), out)


def round_(a: Any, decimals: int = 0, out: Any = None) -> Any:
    """Return an array whose elements have so many digits behind the point.

    Examples
    --------
    >>> round_(asarray([1.26, 1.34]), 1).compute()
    array([1.3, 1.3])
    """
    if not _is_lazy(a, out):
        return np.round(a, decimals, out)
    return _put(elementwise(np.round, a, decimals=decimals, name="round"), out)


around = round_


def fix(x: Any, out: Any = None) -> Any:
    """Return an array whose elements are integers, towards zero."""
    return _put(elementwise(np.fix, x), out) if _is_lazy(x, out) else np.fix(x, out)


def real(val: Any) -> Any:
    """Return the real parts."""
    if not _is_lazy(val):
        return np.real(val)
    return elementwise(np.real, val) if val.dtype.kind in "cO" else Array(val.expr)


def imag(val: Any) -> Any:
    """Return the imaginary parts."""
    return elementwise(np.imag, val) if _is_lazy(val) else np.imag(val)


def angle(z: Any, deg: bool = False) -> Any:
    """Return the angles of complex numbers, in radians or degrees."""
    return elementwise(np.angle, z, deg=deg) if _is_lazy(z) else np.angle(z, deg)


def iscomplex(x: Any) -> Any:
    """Tell of each element whether its imaginary part is not zero."""
    return elementwise(np.iscomplex, x) if _is_lazy(x) else np.iscomplex(x)


def isreal(x: Any) -> Any:
    """Tell of each element whether its imaginary part is zero."""
    return elementwise(np.isreal, x) if _is_lazy(x) else np.isreal(x)


def iscomplexobj(x: Any) -> bool:
    """Tell whether the elements are complex numbers."""
    return x.dtype.kind == "c" if _is_lazy(x) else np.iscomplexobj(x)


def isrealobj(x: Any) -> bool:
    """Tell whether the elements are no complex numbers."""
    return not iscomplexobj(x)


def isposinf(x: Any, out: Any = None) -> Any:
    """Tell of each element whether it is positive infinity."""
    return _put(elementwise(np.isposinf, x), out) if _is_lazy(x, out) else np.isposinf(x, out)


def isneginf(x: Any, out: Any = None) -> Any:
    """Tell of each element whether it is negative infinity."""
    return _put(elementwise(np.isneginf, x), out) if _is_lazy(x, out) else np.isneginf(x, out)


def _isnull_block(block: Any) -> Any:
    if block.dtype.kind in "mM":
        return np.isnat(block)
    if block.dtype.kind in "fc":
        return np.isnan(block)
    if block.dtype.kind == "O":
        return np.array([one is None or one != one for one in block.flat], bool).reshape(
            block.shape
        )
    return np.zeros(block.shape, bool)


def isnull(values: Any) -> Array:
    """Tell of each element whether it is missing: NaN, NaT or None."""
    return elementwise(_isnull_block, asarray(values), dtype=bool, name="isnull")


def notnull(values: Any) -> Array:
    """Tell of each element whether it is not missing; see `isnull`."""
    return ~isnull(values)


def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    """Return an array with numbers in the place of NaN and infinities.

    Examples
    --------
    >>> nan_to_num(asarray([1.0, np.nan]), nan=-1).compute()
    array([ 1., -1.])
    """
    if not _is_lazy(x):
        return np.nan_to_num(x, copy, nan, posinf, neginf)
    return elementwise(np.nan_to_num, x, nan=nan, posinf=posinf, neginf=neginf)


def i0(x: Any) -> Any:
    """Return the modified Bessel function of the first kind, of order 0."""
    return elementwise(np.i0, x) if _is_lazy(x) else np.i0(x)


def sinc(x: Any) -> Any:
    """Return ``sin(pi x) / (pi x)``."""
    return elementwise(np.sinc, x) if _is_lazy(x) else np.sinc(x)


# Comparing ----------------------------------------------------------------------------------------


def isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """Tell of each pair of elements whether they are equal but for a tolerance."""
    if not _is_lazy(a, b, rtol, atol):
        return np.isclose(a, b, rtol, atol, equal_nan)
    return elementwise(np.isclose, a, b, rtol, atol, name="isclose", equal_nan=equal_nan)


def allclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    """Tell whether all elements are equal but for a tolerance.

    Examples
    --------
    >>> bool(allclose(asarray([1.0]), [1.0 + 1e-9]))
    True
    """
    if not _is_lazy(a, b, rtol, atol):
        return np.allclose(a, b, rtol, atol, equal_nan)
    return logical_and.reduce(isclose(a, b, rtol, atol, equal_nan), axis=None)


def _equal_or_both_nan(a: Any, b: Any) -> Any:
    return (a == b) | ((a != a) & (b != b))


def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Array:
    """Tell whether two arrays have one shape and the same elements."""
    first, second = asarray(a1), asarray(a2)
    if str(first.shape) != str(second.shape):
        return asarray(False)
    if equal_nan:
        same = elementwise(_equal_or_both_nan, first, second, dtype=bool)
    else:
        same = first == second
    return logical_and.reduce(same, axis=None)  # type: ignore[no-any-return]


def array_equiv(a1: Any, a2: Any) -> Array:
    """Tell whether two arrays have the same elements once they are broadcast."""
    first, second = asarray(a1), asarray(a2)
    try:
        broadcast_shapes(first.shape, second.shape)
    except ValueError:
        return asarray(False)
    return logical_and.reduce(first == second, axis=None)  # type: ignore[no-any-return]


# Choosing -----------------------------------------------------------------------------------------


def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """Return elements of one array where a condition is true, and of another where it is not.

    Parameters
    ----------
    condition : array_like
    x, y : array_like, optional
        Without them the places where the condition is true, as `nonzero` returns them.

    Examples
    --------
    >>> where(asarray([True, False]), [1, 2], [3, 4]).compute()
    array([1, 4])
    """
    if (x is None) != (y is None):
        raise ValueError("either both or neither of x and y should be given")
    if x is None:
        return asarray(condition).nonzero()
    if not _is_lazy(condition, x, y):
        return np.where(condition, x, y)
    if isinstance(condition, bool | np.bool_):
        condition = np.asarray(condition)
    return elementwise(np.where, condition, x, y, name="where")


def _choose_block(block: Any, *choices: Any, mode: Any) -> Any:
    return np.choose(block, choices, mode=mode)


def choose(a: Any, choices: Sequence[Any], out: Any = None, mode: Any = "raise") -> Any:
    """Return elements of several arrays; the element of `a` says of which one.

    Examples
    --------
    >>> choose(asarray([0, 1, 1]), [[1, 2, 3], [10, 20, 30]]).compute()
    array([ 1, 20, 30])
    """
    options = list(choices)
    if not _is_lazy(a, out, *options):
        return np.choose(a, options, out=out, mode=mode)
    index = asarray(a)
    if not np.can_cast(index.dtype, np.intp, "same_kind"):
        raise TypeError(f"Cannot cast array data from {index.dtype!r} to {np.dtype(np.intp)!r}")
    made = elementwise(
        _choose_block,
        index,
        *options,
        dtype=np.result_type(*[getattr(one, "dtype", np.asarray(one).dtype) for one in options]),
        name="choose",
        mode=mode,
    )
    return _put(made, out)


def _select_block(count: int, default: Any, *parts: Any) -> Any:
    return np.select(parts[:count], parts[count:], default)


def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    """Return of each place the element of the array whose condition is the first that is true.

    Examples
    --------
    >>> x = asarray([1, 2, 3])
    >>> select([x < 2, x < 3], [x, x * 10], default=-1).compute()
    array([ 1, 20, -1])
    """
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    if not condlist:
        raise ValueError("select with an empty condition list is not possible")
    if not _is_lazy(*condlist, *choicelist, default):
        return np.select(list(condlist), list(choicelist), default)
    conditions = [asarray(one) for one in condlist]
    for place, one in enumerate(conditions):
        if one.dtype != np.bool_:
            raise TypeError(
                f"invalid entry {place} in condlist: should be boolean ndarray; found {one.dtype}"
            )
    return elementwise(
        _select_block, len(conditions), default, *conditions, *choicelist, name="select"
    )


class _Piecewise:
    """The function of `piecewise`: values or functions, by condition."""

    __slots__ = ("args", "functions", "kwargs")

    __name__ = "piecewise"

    def __init__(
        self, functions: Sequence[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.functions = list(functions)
        self.args = args
        self.kwargs = kwargs

    def __call__(self, block: Any, *conditions: Any) -> Any:
        full = [np.broadcast_to(one, block.shape) for one in conditions]
        return np.piecewise(block, full, self.functions, *self.args, **self.kwargs)

    def __zcluster_tokenize__(self) -> Any:
        return ("piecewise", self.functions, self.args, self.kwargs)


def piecewise(x: Any, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Any:
    """Return what functions make of the elements for which their condition is true.

    Parameters
    ----------
    x : array_like
        Also says the dtype of the result.
    condlist : array_like of bool, or a sequence of them
    funclist : sequence of callable or scalar
        One for each condition, and one more for where none is true if that is not to be 0.
    *args, **kw
        Passed on to the functions.

    Examples
    --------
    >>> x = asarray([-1.0, 0.0, 2.0])
    >>> piecewise(x, [x < 0, x > 0], [lambda v: -v, 10]).compute()
    array([ 1.,  0., 10.])
    """
    if isinstance(condlist, np.ndarray | Array):
        is_one = condlist.ndim < 2 and np.ndim(x) > 0
    else:
        first = condlist[0] if isinstance(condlist, list | tuple) and condlist else None
        is_one = not isinstance(first, list | np.ndarray | Array) and np.ndim(x) > 0
    conditions = [condlist] if is_one else list(condlist)
    if not _is_lazy(x, *conditions):
        return np.piecewise(x, condlist, funclist, *args, **kw)
    if len(funclist) not in (len(conditions), len(conditions) + 1):
        raise ValueError(
            f"with {len(conditions)} condition(s), either {len(conditions)} or "
            f"{len(conditions) + 1} functions are expected"
        )
    array = asarray(x)
    return elementwise(
        _Piecewise(funclist, args, kw),
        array,
        *[asarray(one) for one in conditions],
        dtype=array.dtype,
        name="piecewise",
    )


def _interp_block(block: Any, xp: Any, fp: Any, *, left: Any, right: Any, period: Any) -> Any:
    return np.interp(block, xp, fp, left=left, right=right, period=period)


def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    """Return a function at places between those where it is known, along straight lines.

    Parameters
    ----------
    x : array_like
        The places.
    xp, fp : array_like, shape (n,)
        Where it is known, in order, and what it is there; each block takes all of them.
    left, right : scalar, optional
        What it is before and after, by default as at the ends.
    period : scalar, optional
        It repeats.

    Examples
    --------
    >>> interp(asarray([0.5, 3.0]), [0, 1, 2], [0, 10, 20]).compute()
    array([ 5., 20.])
    """
    if not _is_lazy(x, xp, fp):
        return np.interp(x, xp, fp, left, right, period)
    array = asarray(x)
    known = [asarray(xp), asarray(fp)]
    if any(one.ndim != 1 for one in known) or known[0].shape != known[1].shape:
        raise ValueError(
            f"fp and xp are not of the same length: found shapes {known[1].shape} and "
            f"{known[0].shape}; expected one axis each"
        )
    whole = [rechunked(one, -1) for one in known]
    return _with_tables(
        array,
        whole,
        _interp_block,
        {"left": left, "right": right, "period": period},
        complex if known[1].dtype.kind == "c" else float,
    )


def _with_tables(
    array: Array,
    tables: Sequence[Array],
    function: Callable[..., Any],
    kwargs: dict[str, Any],
    dtype: Any,
) -> Array:
    """Return a function of the blocks of an array and of all of some small arrays."""
    axes = [tuple(range(array.ndim)), *[(-1,) * one.ndim for one in tables]]
    return Array(
        Blockwise(
            callable_name(function).strip("_").removesuffix("_block"),
            function,
            [array.expr, *[one.expr for one in tables]],
            list(range(1 + len(tables))),
            axes,
            array.chunks,
            dtype,
            kwargs=kwargs,
        )
    )


def _conj_method(array: Array) -> Any:
    """Return the complex conjugates."""
    return conjugate(array)


METHODS = {
    "choose": choose,
    "clip": clip,
    "conj": _conj_method,
    "conjugate": _conj_method,
    "round": round_,
}
PROPERTIES = {"imag": imag, "real": real}
