"""Arrays made of nothing: constants, grids of places, functions of places.

Each block is made where it is needed, of its place in the array alone. Those that are cheaper to
make than to keep are made by every task that takes them, and cost no task of their own. Numbers in
steps (`arange`, `linspace`) are in `ranges`, diagonals and triangles in `triangles`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from zcluster.array.chunks import Chunks, is_known, normalize_chunks
from zcluster.array.core import Array, asarray, elementwise, permuted
from zcluster.array.expressions import Blockwise, Generated
from zcluster.array.joining import stack
from zcluster.array.manipulation import broadcast_to
from zcluster.errors import InvalidArgument
from zcluster.protocol.callables import callable_name

__all__ = [
    "empty",
    "empty_like",
    "from_map",
    "fromfunction",
    "full",
    "full_like",
    "generated",
    "indices",
    "meshgrid",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]


def _shape_of(shape: Any) -> tuple[int, ...]:
    """Return a shape as a tuple of int."""
    items = tuple(shape) if np.iterable(shape) else (shape,)
    if not all(isinstance(n, int | np.integer) for n in items):
        raise TypeError(f"shape {shape!r}: expected integers")
    if any(n < 0 for n in items):
        raise ValueError(f"shape {shape!r}: negative dimensions are not allowed")
    return tuple(int(n) for n in items)


def generated(
    label: str,
    function: Callable[..., Any],
    shape: Any,
    dtype: Any,
    chunks: Any,
    *,
    is_uniform: bool = False,
) -> Array:
    """Return an array of a function of places, which is made anew wherever it is taken.

    Parameters
    ----------
    label : str
    function : callable
        See `expressions.Generated`.
    shape : int or tuple of int
    dtype : dtype
    chunks
        See `chunks.normalize_chunks`.
    is_uniform : bool
        The place does not matter.
    """
    dtype = np.dtype(dtype)
    own = normalize_chunks(chunks, _shape_of(shape), dtype)
    return Array(Generated(label, function, own, dtype, is_cheap=True, is_uniform=is_uniform))


# Constants ----------------------------------------------------------------------------------------


def _zeros_block(starts: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return np.zeros(shape, dtype)


def _full_block(starts: Any, shape: tuple[int, ...], value: Any, dtype: Any) -> Any:
    return np.full(shape, value, dtype)


def _dtype_or(dtype: Any, meta: Any) -> Any:
    if dtype is None and meta is not None:
        return np.dtype(meta.dtype)
    return np.dtype(float if dtype is None else dtype)


def full(
    shape: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "C",
    *,
    chunks: Any = "auto",
    name: str | None = None,
    meta: Any = None,
    device: str | None = None,
    like: Any = None,
) -> Array:
    """Return an array that holds one value everywhere.

    Parameters
    ----------
    shape : int or tuple of int
    fill_value : scalar or array_like
        An array is broadcast.
    dtype : dtype, optional
        By default that of the value.
    order, device, like
        As NumPy has them; without effect.
    chunks : optional
        See `rechunk`.
    name : str, optional
        What the array's name begins with.
    meta : array_like, optional
        An array of the dtype, where `dtype` does not say it.

    Examples
    --------
    >>> full(3, 7).compute()
    array([7, 7, 7])
    """
    if dtype is None and meta is not None:
        dtype = meta.dtype
    if isinstance(fill_value, Array) or np.ndim(fill_value):
        value = asarray(fill_value)
        if dtype is not None:
            value = value.astype(dtype)
        return broadcast_to(value, _shape_of(shape), chunks=chunks)
    dtype = np.asarray(fill_value).dtype if dtype is None else np.dtype(dtype)
    held = np.asarray(fill_value).astype(dtype)[()]
    function = partial(_full_block, value=held, dtype=dtype)
    return generated(name or "full", function, shape, dtype, chunks, is_uniform=True)


def ones(
    shape: Any,
    dtype: Any = None,
    order: str = "C",
    *,
    chunks: Any = "auto",
    name: str | None = None,
    meta: Any = None,
    device: str | None = None,
    like: Any = None,
) -> Array:
    """Return an array of ones; see `full`.

    Examples
    --------
    >>> ones((1, 2)).compute()
    array([[1., 1.]])
    """
    dtype = _dtype_or(dtype, meta)
    value = np.ones((), dtype)[()]
    function = partial(_full_block, value=value, dtype=dtype)
    return generated(name or "ones", function, shape, dtype, chunks, is_uniform=True)


def zeros(
    shape: Any,
    dtype: Any = None,
    order: str = "C",
    *,
    chunks: Any = "auto",
    name: str | None = None,
    meta: Any = None,
    device: str | None = None,
    like: Any = None,
) -> Array:
    """Return an array of zeros; see `full`."""
    dtype = _dtype_or(dtype, meta)
    function = partial(_zeros_block, dtype=dtype)
    return generated(name or "zeros", function, shape, dtype, chunks, is_uniform=True)


def empty(
    shape: Any,
    dtype: Any = None,
    order: str = "C",
    *,
    chunks: Any = "auto",
    name: str | None = None,
    meta: Any = None,
    device: str | None = None,
    like: Any = None,
) -> Array:
    """Return an array whose values do not matter; see `full`.

    They are zeros, which cost no more: a task that runs again must make the same.
    """
    dtype = _dtype_or(dtype, meta)
    function = partial(_zeros_block, dtype=dtype)
    return generated(name or "empty", function, shape, dtype, chunks, is_uniform=True)


class _Filled:
    """Makes a block of one value in the shape of another block."""

    __slots__ = ("dtype", "value")

    __name__ = "full_like"

    def __init__(self, value: Any, dtype: Any) -> None:
        self.value = value
        self.dtype = dtype

    def __call__(self, block: Any) -> Any:
        return np.full_like(block, self.value, dtype=self.dtype)

    def __zcluster_tokenize__(self) -> Any:
        return ("filled", self.value, self.dtype)


def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    chunks: Any = None,
    name: str | None = None,
    device: str | None = None,
) -> Array:
    """Return an array like another, that holds one value everywhere.

    Parameters
    ----------
    a : array_like
    fill_value : scalar
    dtype : dtype, optional
        By default that of `a`.
    shape : int or tuple of int, optional
        By default that of `a`.
    chunks : optional
        By default those of `a`, if the shape is.
    """
    dtype = (
        np.dtype(a.dtype if hasattr(a, "dtype") else np.asarray(a).dtype)
        if (dtype is None)
        else np.dtype(dtype)
    )
    if isinstance(a, Array) and shape is None and chunks is None:
        if not all(map(is_known, a.chunks)):
            value = np.asarray(fill_value).astype(dtype)[()]
            return elementwise(_Filled(value, dtype), a, dtype=dtype, name=name or "full_like")
        chunks = a.chunks
    if shape is None:
        shape = a.shape if isinstance(a, Array) else np.shape(a)
    return full(shape, fill_value, dtype, chunks="auto" if chunks is None else chunks, name=name)


def ones_like(
    a: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    chunks: Any = None,
    name: str | None = None,
    device: str | None = None,
) -> Array:
    """Return an array of ones like another; see `full_like`."""
    return full_like(a, 1, dtype, order, subok, shape, chunks=chunks, name=name or "ones_like")


def zeros_like(
    a: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    chunks: Any = None,
    name: str | None = None,
    device: str | None = None,
) -> Array:
    """Return an array of zeros like another; see `full_like`."""
    return full_like(a, 0, dtype, order, subok, shape, chunks=chunks, name=name or "zeros_like")


def empty_like(
    prototype: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    chunks: Any = None,
    name: str | None = None,
    device: str | None = None,
) -> Array:
    """Return an array like another, whose values do not matter; see `empty` and `full_like`."""
    return zeros_like(
        prototype, dtype, order, subok, shape, chunks=chunks, name=name or "empty_like"
    )


# Functions of places ------------------------------------------------------------------------------


def _indices_block(starts: tuple[int, ...], shape: tuple[int, ...], axis: int, dtype: Any) -> Any:
    along = np.arange(starts[axis], starts[axis] + shape[axis], dtype=dtype)
    lined = along.reshape([-1 if n == axis else 1 for n in range(len(shape))])
    return np.array(np.broadcast_to(lined, shape))


def indices(
    dimensions: Any, dtype: Any = int, sparse: bool = False, *, chunks: Any = "auto"
) -> Any:
    """Return the places of a grid: for each axis an array that holds the place along it.

    Parameters
    ----------
    dimensions : tuple of int
        The grid.
    dtype : dtype
    sparse : bool
        Each has length 1 along the other axes, and they come as a tuple.
    chunks : optional
        Of the grid.

    Returns
    -------
    grid : Array, shape (axes, *dimensions), or tuple of Array

    Examples
    --------
    >>> indices((2, 2)).compute().tolist()
    [[[0, 0], [1, 1]], [[0, 1], [0, 1]]]
    """
    shape = _shape_of(dimensions)
    own = normalize_chunks(chunks, shape, np.dtype(dtype))
    found = []
    for axis in range(len(shape)):
        chunks = tuple(c if n == axis or not sparse else (1,) for n, c in enumerate(own))
        function = partial(_indices_block, axis=axis, dtype=np.dtype(dtype))
        found.append(Array(Generated("indices", function, chunks, dtype, is_cheap=True)))
    if sparse:
        return tuple(found)
    return stack(found) if found else zeros((0,), dtype)


def meshgrid(
    *xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy"
) -> tuple[Array, ...]:
    """Return a grid's places of places along each axis.

    Parameters
    ----------
    *xi : array_like
        For each axis, its places.
    copy : bool
        Without effect.
    sparse : bool
        Each has length 1 along the other axes.
    indexing : {'xy', 'ij'}
        ``'xy'``: the first axis of the result belongs to the second of `xi`.

    Examples
    --------
    >>> first, second = meshgrid([1, 2], [3, 4])
    >>> first.compute().tolist(), second.compute().tolist()
    ([[1, 2], [1, 2]], [[3, 3], [4, 4]])
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"Valid values for `indexing` are 'xy' and 'ij'; found {indexing!r}")
    given = [asarray(one) for one in xi]
    given = [one if one.ndim == 1 else one.ravel() for one in given]
    places = list(range(len(given)))
    if indexing == "xy" and len(given) > 1:
        places[:2] = 1, 0
    lined = []
    for one, place in zip(given, places, strict=True):
        axes: list[int | None] = [0 if n == place else None for n in range(len(given))]
        lined.append(permuted(one, axes, "meshgrid"))
    if sparse:
        return tuple(lined)
    chunks: dict[int, Any] = {p: one.chunks[0] for one, p in zip(given, places, strict=True)}
    own: Chunks = tuple(chunks[n] for n in range(len(given)))
    shape = tuple(math.nan if not is_known(c) else sum(c) for c in own)
    return tuple(broadcast_to(one, shape, chunks=own) for one in lined)


class _OfPlaces:
    """Calls a function of `fromfunction` with the places of a block."""

    __slots__ = ("dtype", "function", "kwargs")

    def __init__(self, function: Callable[..., Any], dtype: Any, kwargs: dict[str, Any]) -> None:
        self.function = function
        self.dtype = dtype
        self.kwargs = kwargs

    @property
    def __name__(self) -> str:
        return callable_name(self.function)

    def __call__(self, start: tuple[int, ...], shape: tuple[int, ...]) -> Any:
        places = [_indices_block(start, shape, axis, self.dtype) for axis in range(len(shape))]
        made = self.function(*places, **self.kwargs)
        return made if np.shape(made) == shape else np.broadcast_to(made, shape)

    def __zcluster_tokenize__(self) -> Any:
        return ("of places", self.function, self.dtype, self.kwargs)


def fromfunction(
    function: Callable[..., Any],
    shape: Any,
    *,
    dtype: Any = float,
    chunks: Any = "auto",
    like: Any = None,
    **kwargs: Any,
) -> Array:
    """Return an array of a function of places.

    Parameters
    ----------
    function : callable
        Of an array for each axis, that holds places along it; its elements depend on the places
        of each element alone.
    shape : int or tuple of int
    dtype : dtype
        Of the places.
    chunks : optional
    **kwargs
        Passed on to the function.

    Examples
    --------
    >>> fromfunction(lambda i, j: i + 10 * j, (2, 2), dtype=int).compute()
    array([[ 0, 10],
           [ 1, 11]])
    """
    whole = _shape_of(shape)
    made = _OfPlaces(function, np.dtype(float if dtype is None else dtype), kwargs)
    found = np.asarray(made((0,) * len(whole), (1,) * len(whole))).dtype
    return _placed(callable_name(function), made, whole, found, chunks)


class _Placed:
    """Calls a function of `from_map` with where a block is."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    @property
    def __name__(self) -> str:
        return callable_name(self.function)

    def __call__(self, start: tuple[int, ...], shape: tuple[int, ...]) -> Any:
        block = np.asarray(self.function(start, shape))
        if block.shape != shape:
            raise InvalidArgument(
                f"{self.__name__} returned a block of shape {block.shape} for the block at "
                f"{start}; expected {shape}"
            )
        return block

    def __zcluster_tokenize__(self) -> Any:
        return ("placed", self.function)


def from_map(
    function: Callable[[tuple[int, ...], tuple[int, ...]], Any],
    shape: Any,
    *,
    dtype: Any,
    chunks: Any = "auto",
    name: str | None = None,
) -> Array:
    """Return an array whose blocks a function makes of where they are.

    Parameters
    ----------
    function : callable
        ``function(start, shape)`` with tuples of int: the place of the block's first element, and
        the shape of the block that it returns.
    shape : int or tuple of int
        Of the array.
    dtype : dtype
        Of the blocks.
    chunks : optional
    name : str, optional
        What the array's name begins with.

    Examples
    --------
    >>> from_map(lambda start, shape: np.full(shape, start[0]), 4, dtype=int, chunks=2).compute()
    array([0, 0, 2, 2])
    """
    label = name or callable_name(function)
    return _placed(label, _Placed(function), _shape_of(shape), np.dtype(dtype), chunks)


def _placed(label: str, function: Any, shape: tuple[int, ...], dtype: Any, chunks: Any) -> Array:
    extra = (("start", "start"), ("shape", "shape"))
    own = normalize_chunks(chunks, shape, dtype)
    return Array(Blockwise(label, function, (), (), (), own, dtype, extra=extra))
