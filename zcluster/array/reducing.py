"""What reductions are made of, and `reduction`: a reduction by functions of the user.

A reduction is a function of each block (chunk), one of several partial results (combine), and one
that makes the result of the last of them (aggregate). Most are folds of a ufunc (`programs.Fold`),
which become one task per block together with the element-wise operations before them. What is
summed along the way may have another dtype than the result.

A block that has no elements counts for nothing: what has no identity (a maximum) gives a partial
result of no elements then, which is gone once it is put together with others.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from zcluster.array.chunks import broadcast_shapes, normalize_axes
from zcluster.array.core import Array, asarray, elementwise
from zcluster.array.expressions import Blockwise, Expr, Reduction
from zcluster.array.programs import Fold
from zcluster.errors import InvalidArgument
from zcluster.protocol.callables import callable_name

__all__ = [
    "Extreme",
    "LastFold",
    "Pack",
    "as_type",
    "broadcasts_to",
    "cast",
    "check_where",
    "dtype_of_result",
    "has_nan",
    "is_nan",
    "packed",
    "put_out",
    "reduced",
    "reduction",
    "split_count",
    "without_nan",
    "working_dtype",
]

#: How many partial results go into one task.
SPLIT_EVERY = 8


class Extreme(Fold):
    """A fold by a ufunc that has no identity: what it gives for an empty block is empty."""

    __slots__ = ()

    def __call__(self, block: Any) -> Any:
        if all(block.shape[axis] for axis in self.axes):
            return super().__call__(block)
        shape = list(block.shape)
        for axis in self.axes:
            shape[axis] = 1
        shape[self.axes[0]] = 0
        return np.empty(shape, block.dtype)

    def __zcluster_tokenize__(self) -> Any:
        return ("extreme", self.ufunc.__name__, self.axes, str(self.dtype))


class LastFold:
    """The last step of a fold: of the partial results, and with the initial value.

    Attributes
    ----------
    ufunc : numpy.ufunc
    axes : tuple of int
    dtype : dtype or None
        In which it is computed.
    result : dtype or None
        Of what comes out; None: whatever comes.
    keepdims : bool
    initial : scalar or None
    """

    __slots__ = ("axes", "dtype", "initial", "keepdims", "result", "ufunc")

    def __init__(
        self,
        ufunc: np.ufunc,
        axes: tuple[int, ...],
        dtype: Any,
        result: Any,
        keepdims: bool,
        initial: Any = None,
    ) -> None:
        self.ufunc = ufunc
        self.axes = axes
        self.dtype = dtype
        self.result = result
        self.keepdims = keepdims
        self.initial = initial

    @property
    def __name__(self) -> str:
        return f"{self.ufunc.__name__}_last"

    def __call__(self, parts: Any) -> Any:
        more = {} if self.initial is None else {"initial": self.initial}
        found = self.ufunc.reduce(
            parts, axis=self.axes, dtype=self.dtype, keepdims=self.keepdims, **more
        )
        return found if self.dtype == self.result else cast(found, self.result)

    def __zcluster_tokenize__(self) -> Any:
        return (
            "last",
            self.ufunc.__name__,
            self.axes,
            str(self.dtype),
            str(self.result),
            self.keepdims,
            self.initial,
        )


def cast(found: Any, dtype: Any) -> Any:
    """Return an array or scalar with another dtype; what does not fit becomes inf."""
    if getattr(found, "dtype", None) == dtype:
        return found
    with np.errstate(over="ignore"):
        return np.asarray(found).astype(dtype)[()]


class Pack:
    """Blocks at one place as a tuple: for a reduction of several arrays.

    Attributes
    ----------
    told : object
        What tells packs of the same arrays for different reductions apart.
    """

    __slots__ = ("told",)

    def __init__(self, told: Any) -> None:
        self.told = told

    __name__ = "pack"

    def __call__(self, *blocks: Any) -> tuple[Any, ...]:
        return blocks

    def __zcluster_tokenize__(self) -> Any:
        return ("pack", self.told)


def packed(told: Any, x: Array, *others: Any) -> Expr:
    """Return an expression whose blocks are tuples, for a `Reduction` to take.

    Parameters
    ----------
    told : object
        The name and parameters of the reduction: only one may take the expression.
    x : Array
    *others
        Arrays that broadcast to its shape; their blocks are not broadcast.
    """
    return elementwise(Pack(told), x, *others, dtype=x.dtype, name="pack").expr


def reduced(
    label: str,
    source: Expr,
    axes: tuple[int, ...],
    steps: tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]],
    dtype: Any,
    *,
    keepdims: bool = False,
    split_every: Any = None,
    takes_offsets: bool = False,
    lengths: Sequence[Any] | None = None,
) -> Array:
    """Return a reduction as an array; `steps` are the chunk, combine and aggregate functions."""
    return Array(
        Reduction(
            label,
            source,
            axes,
            *steps,
            dtype,
            split_every=split_count(split_every, axes),
            keepdims=bool(keepdims),
            takes_offsets=takes_offsets,
            lengths=lengths,
        )
    )


def split_count(split_every: Any, axes: tuple[int, ...]) -> int:
    """Return how many partial results go into one task, of what a user says.

    Raises
    ------
    InvalidArgument
        If it is less than 2.

    Examples
    --------
    >>> split_count({0: 2, 1: 4}, (0, 1)), split_count(4, (0,))
    (8, 4)
    """
    if split_every is None:
        return SPLIT_EVERY
    if split_every is False:
        return 2**31
    if isinstance(split_every, dict):
        split_every = math.prod(split_every.get(axis, 2) for axis in axes)
        return max(int(split_every), 2)
    count = int(split_every)
    if count < 2:
        raise InvalidArgument(
            f"split_every={split_every!r}: expected 2 or more, the number of partial results that "
            "go into one task; None for the usual one"
        )
    return count


def put_out(result: Array, out: Any) -> Array:
    """Give a result to the array named as `out`, if there is one, and return it.

    Raises
    ------
    InvalidArgument
        If `out` is no lazy array of the same shape.
    """
    if isinstance(out, tuple) and len(out) == 1:
        (out,) = out
    if out is None:
        return result
    if not isinstance(out, Array) or str(out.shape) != str(result.shape):
        found = f"of shape {out.shape}" if hasattr(out, "shape") else type(out).__name__
        raise InvalidArgument(
            f"out={found}: expected a lazy array of shape {result.shape}, which then stands for "
            "the result; leave out= away and use what is returned"
        )
    if out.dtype != result.dtype:
        result = as_type(result, out.dtype)
    out._expr = result.expr
    return out


def as_type(x: Array, dtype: Any) -> Array:
    """Return an array with another dtype."""
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    return elementwise(cast, x, dtype, dtype=dtype, name="astype")


@lru_cache(512)
def dtype_of_result(function: Callable[..., Any], dtype: Any, wanted: Any = None) -> Any:
    """Return the dtype that a reduction of NumPy gives, as it says for one element.

    Raises
    ------
    TypeError
        If it does not go with the dtype.
    """
    more = {} if wanted is None or working_dtype(wanted) is None else {"dtype": wanted}
    with np.errstate(all="ignore"):
        found = function(np.ones(1, dtype), **more)
    return getattr(found, "dtype", np.dtype(object))  # of objects an object


def working_dtype(dtype: Any) -> Any:
    """Return the dtype to give to a ufunc: none for those that it cannot be told, such as times."""
    return dtype if np.dtype(dtype).kind in "biufc" else None


def broadcasts_to(shape: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    """Tell whether an array of one shape can be broadcast to another.

    Examples
    --------
    >>> broadcasts_to((3,), (2, 3)), broadcasts_to((2, 3), (3,))
    (True, False)
    """
    try:
        return str(broadcast_shapes(shape, wanted)) == str(wanted)  # as text nan equals nan
    except ValueError:
        return False


def check_where(x: Array, where: Any) -> Any:
    """Return `where` as an array of bool, or None if it leaves nothing out.

    Raises
    ------
    ValueError
        If it does not broadcast to the shape of the array.
    TypeError
        If it is not of bool.
    """
    if where is None or where is True or where is np._NoValue:
        return None
    mask = where if isinstance(where, Array) else np.asarray(where)
    if mask.dtype != np.bool_:
        raise TypeError(f"where has dtype {mask.dtype}; expected bool: compare it with something")
    if not broadcasts_to(mask.shape, x.shape):
        raise ValueError(
            f"where has shape {mask.shape}; expected one that broadcasts to {x.shape}, the shape "
            "of the array"
        )
    return mask


def has_nan(dtype: Any) -> bool:
    """Tell whether NumPy's functions look for nan in arrays of a dtype."""
    return np.dtype(dtype).kind in "fcO"


def is_nan(block: Any) -> Any:
    """Return where a block is nan; of objects, what does not equal itself."""
    return block != block if block.dtype.kind == "O" else np.isnan(block)


def without_nan(block: Any, fill: Any) -> Any:
    """Return a block with something else where it is nan."""
    return np.where(is_nan(block), fill, block)


# Of users' functions ------------------------------------------------------------------------------


class _UserChunk:
    """Calls a user's function with a block, or a tuple of them, and the axes."""

    __slots__ = ("axes", "function", "holds", "more")

    def __init__(
        self, function: Callable[..., Any], axes: tuple[int, ...], more: Any, holds: bool
    ) -> None:
        self.function = function
        self.axes = axes
        self.more = more
        self.holds = holds

    @property
    def __name__(self) -> str:
        return callable_name(self.function)

    def __call__(self, block: Any) -> Any:
        if type(block) is tuple:
            first, weights = block
            block = (first, np.broadcast_to(weights, first.shape))
        else:
            block = (block,)
        found = self.function(*block, axis=self.axes, keepdims=True, **self.more)
        return _held(found, block[0].ndim) if self.holds else found


class _UserStep:
    """Calls a user's function with what came of several blocks.

    Where it is not to be concatenated, each thing lies in an array of objects of one element.
    """

    __slots__ = ("axes", "function", "holds", "is_last", "keepdims", "more")

    def __init__(
        self,
        function: Callable[..., Any],
        axes: tuple[int, ...],
        more: Any,
        holds: bool,
        is_last: bool,
        keepdims: bool,
    ) -> None:
        self.function = function
        self.axes = axes
        self.more = more
        self.holds = holds
        self.is_last = is_last
        self.keepdims = keepdims

    @property
    def __name__(self) -> str:
        return callable_name(self.function)

    def __call__(self, parts: Any) -> Any:
        given = parts
        if self.holds:
            given = parts.ravel().tolist()
            for _ in self.axes[1:]:  # lists in lists, one for each axis
                given = [given]
        elif isinstance(parts, np.ndarray):
            given = parts.copy()  # it may write into it
        keepdims = self.keepdims or not self.is_last
        found = self.function(given, axis=self.axes, keepdims=keepdims, **self.more)
        return _held(found, parts.ndim) if self.holds and not self.is_last else found


def _held(value: Any, ndim: int) -> Any:
    holder = np.empty((1,) * ndim, object)
    holder[(0,) * ndim] = value
    return holder


def _same(block: Any) -> Any:
    return block


def reduction(
    x: Any,
    chunk: Callable[..., Any],
    aggregate: Callable[..., Any],
    axis: Any = None,
    keepdims: bool = False,
    dtype: Any = None,
    split_every: Any = None,
    combine: Callable[..., Any] | None = None,
    name: str | None = None,
    out: Any = None,
    concatenate: bool = True,
    output_size: Any = 1,
    meta: Any = None,
    weights: Any = None,
) -> Array:
    """Return a reduction by functions of your own.

    Parameters
    ----------
    x : array_like
    chunk : callable
        ``chunk(block, axis=axes, keepdims=True)`` for each block, with the block of the weights
        as second argument if there are weights.
    aggregate : callable
        ``aggregate(parts, axis=axes, keepdims=keepdims)`` of what came of several blocks, put
        together along the first of the axes: the result.
    axis : int, tuple of int or None
    keepdims : bool
    dtype : dtype, optional
        Of the result. Functions that have a parameter of this name get it as well.
    split_every : int or dict of int, optional
        How many partial results go into one task.
    combine : callable, optional
        In between: as `aggregate`, with ``keepdims=True``; by default `aggregate`.
    name : str, optional
        What the array's name begins with.
    concatenate : bool
        If false the functions get lists of what came of the blocks, not one array: for anything
        that is no array, such as dicts.
    output_size : int
        The length of what is left of a reduced axis, with ``keepdims=True``.
    meta : array, optional
        Says the dtype of the result.
    weights : array_like, optional
        Broadcasts to the shape of the array.

    Raises
    ------
    InvalidArgument
        If the weights do not broadcast to the shape of the array.

    Examples
    --------
    >>> x = asarray([[1.0, -5.0], [2.0, 4.0]])
    >>> def widest(block, axis, keepdims):
    ...     return abs(block).max(axis=axis, keepdims=keepdims)
    >>> reduction(x, widest, widest, axis=0).compute()
    array([2., 5.])
    """
    x = asarray(x)
    axes = normalize_axes(axis, x.ndim)
    holds = not concatenate
    first = _UserChunk(chunk, axes, _dtype_for(chunk, dtype), holds)
    more = _dtype_for(aggregate, dtype)
    between = _UserStep(combine or aggregate, axes, {} if combine else more, holds, False, keepdims)
    last = _UserStep(aggregate, axes, more, holds, True, keepdims)
    source = x.expr
    told = (first.function, aggregate, combine, axes, keepdims, name, str(dtype))
    if weights is not None:
        wanted = asarray(weights)
        if not broadcasts_to(wanted.shape, x.shape):
            raise InvalidArgument(
                f"weights of shape {wanted.shape}: expected one that broadcasts to {x.shape}, the "
                "shape of the array"
            )
        source = packed(told, x, wanted)
    if meta is not None and dtype is None:
        dtype = meta.dtype
    if dtype is None:
        dtype = _tried(x, first, last, weights)
    # Users' functions may write into the blocks they get.
    source = Blockwise(
        "own",
        _same,
        [source],
        (0,),
        [tuple(range(x.ndim))],
        x.chunks,
        x.dtype,
        is_elementwise=True,
        reads_only=False,
    )
    made = reduced(
        f"{name or callable_name(aggregate)}-aggregate",
        source,
        axes,
        (first, between, last),
        dtype,
        keepdims=keepdims,
        split_every=split_every,
        lengths=None if output_size == 1 else [output_size] * len(axes),
    )
    return put_out(made, out)


def _dtype_for(function: Callable[..., Any], dtype: Any) -> dict[str, Any]:
    """Return the keywords that tell a function of a dtype, if it has such a parameter."""
    if dtype is None:
        return {}
    try:
        has = "dtype" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # what is not written in Python may not say
        return {}
    return {"dtype": dtype} if has else {}


def _tried(x: Array, first: _UserChunk, last: _UserStep, weights: Any) -> Any:
    """Return the dtype of what functions give for an array of one element; float if they fail."""
    block = np.ones((1,) * x.ndim, x.dtype)
    given = block if weights is None else (block, np.ones((1,) * x.ndim))
    try:
        with np.errstate(all="ignore"):
            return np.asarray(last(first(given))).dtype
    except (TypeError, ValueError, IndexError, AttributeError, KeyError, ArithmeticError):
        return np.dtype(np.float64)
