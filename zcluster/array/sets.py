"""Arrays as sets: `unique`, unions, intersections and differences, and what is in what.

Each block gives the elements it has, each once; these are cut into buckets by value and merged
(`exchange`). So neither many equal elements nor many different ones have to pass through one task.
The results are in order, in chunks whose lengths are known when they are computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from zcluster.array.chunks import Chunks, normalize_axis
from zcluster.array.core import Array, asarray, elementwise, rechunked
from zcluster.array.exchange import Exchange, Run, as_run
from zcluster.array.expressions import Blockwise, Emitted, Expr, PartOf
from zcluster.array.lowering import Codes, Lowering
from zcluster.array.reductions import any_
from zcluster.array.searching import compressed
from zcluster.errors import InvalidArgument

__all__ = ["intersect1d", "isin", "setdiff1d", "setxor1d", "union1d", "unique"]

#: Elements of an array that is told to every task that looks into it.
_SMALL = 100_000


def _buckets(blocks: int) -> int:
    """Return how many buckets there are: several blocks to each, for most elements are there twice.

    Examples
    --------
    >>> _buckets(1), _buckets(12), _buckets(1000)
    (1, 12, 125)
    """
    return min(blocks, max(16, blocks // 8))


def _flat(block: Any, dtype: Any, equal_nan: bool) -> Any:
    """Return the elements of a block, in a dtype, with all kinds of nan alike."""
    values = np.asarray(block).reshape(-1)
    if values.dtype != dtype:
        values = values.astype(dtype)
    if equal_nan and values.dtype.kind == "c":
        missing = np.isnan(values)
        if missing.any():
            values = np.where(missing, values.dtype.type(complex(math.nan, math.nan)), values)
    return values


class _Distinct:
    """Makes a run of the elements of a block, each once.

    Attributes
    ----------
    dtype : dtype
    with_index, with_counts : bool
        Where each is first, and how often it is there, go with them.
    equal_nan : bool
    """

    __slots__ = ("dtype", "equal_nan", "with_counts", "with_index")

    def __init__(
        self,
        dtype: Any,
        with_index: bool = False,
        with_counts: bool = False,
        equal_nan: bool = True,
    ) -> None:
        self.dtype = dtype
        self.with_index = with_index
        self.with_counts = with_counts
        self.equal_nan = equal_nan

    def __zcluster_tokenize__(self) -> Any:
        told = (self.with_index, self.with_counts, self.equal_nan)
        return ("distinct", str(self.dtype), *told)

    def __call__(self, block: Any) -> Run:
        found: Any = np.unique(  # type: ignore[call-overload]  # flags that are no literals
            _flat(block, self.dtype, self.equal_nan),
            return_index=self.with_index,
            return_counts=self.with_counts,
            equal_nan=self.equal_nan,
        )
        return found if isinstance(found, tuple) else (found,)


class _Merged:
    """Merges distinct elements: each is there once again, with its first place and its count."""

    __slots__ = ("equal_nan", "with_counts", "with_index")

    def __init__(self, with_index: bool, with_counts: bool, equal_nan: bool) -> None:
        self.with_index = with_index
        self.with_counts = with_counts
        self.equal_nan = equal_nan

    def __zcluster_tokenize__(self) -> Any:
        return ("merged", self.with_index, self.with_counts, self.equal_nan)

    def __call__(self, parts: Sequence[Any]) -> Run:
        columns = [np.concatenate(one) for one in zip(*map(as_run, parts), strict=True)]
        keys, *more = columns
        if not more:
            return (np.unique(keys, equal_nan=self.equal_nan),)
        order = np.argsort(keys, kind="stable")  # of equal ones the first block's is first
        keys = keys[order]
        is_new = np.ones(len(keys), np.bool_)
        is_new[1:] = keys[1:] != keys[:-1]
        if self.equal_nan and keys.dtype.kind in "fcmM":
            missing = np.isnan(keys)
            is_new[1:] &= ~(missing[1:] & missing[:-1])
        starts = np.flatnonzero(is_new)
        found = [keys[starts]]
        if self.with_index:
            found.append(more.pop(0)[order][starts])
        if self.with_counts:
            counts = more.pop(0)[order]
            found.append(np.add.reduceat(counts, starts) if len(starts) else counts)
        return tuple(found)


class _OneBlock(Emitted):
    """All blocks of an array of one axis as one, whatever their lengths."""

    def __init__(self, source: Expr) -> None:
        super().__init__("rechunk", (source,), ((math.nan,),), source.dtype)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return _OneBlock(inputs[0])

    def emit(self, lowering: Lowering) -> Codes:
        codes = lowering.codes(self.inputs[0]).reshape(1, -1)
        return lowering.add(self.name, _concatenated, codes, options=self.options)


def _concatenated(*blocks: Any) -> Any:
    return np.concatenate(blocks)


def _found_in(block: Any, values: Any, dtype: Any) -> Any:
    """Return where the elements of a block are among sorted values."""
    flat = _flat(block, dtype, True)
    return np.searchsorted(values, flat).reshape(np.shape(block))


def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
) -> Any:
    """Return the different elements of an array, in order.

    Parameters
    ----------
    ar : array_like
    return_index : bool
        Return where each is first in the flat array as well.
    return_inverse : bool
        Return where each element of the array is among the different ones as well.
    return_counts : bool
        Return how often each is there as well.
    axis : int, optional
        Return the different subarrays along an axis: all of the array goes through one task.
    equal_nan : bool
        One nan is like another.

    Returns
    -------
    values : Array
    index, inverse, counts : Array
        What is asked for, in this order.

    Examples
    --------
    >>> values, counts = unique(asarray([3, 1, 3]), return_counts=True)
    >>> values.compute(), counts.compute()
    (array([1, 3]), array([1, 2]))
    """
    x = asarray(ar)
    if axis is not None:
        flags = {"index": return_index, "inverse": return_inverse, "counts": return_counts}
        return _unique_along(x, normalize_axis(axis, x.ndim), flags, equal_nan)
    if return_inverse and not equal_nan and x.dtype.kind in "fcmM":
        raise NotImplementedError(
            "unique with return_inverse=True and equal_nan=False: leave equal_nan=False away"
        )
    source = x.ravel() if return_index and x.ndim != 1 else x
    make = _Distinct(x.dtype, return_index, return_counts, equal_nan)
    finish = _Merged(return_index, return_counts, equal_nan)
    dtypes = [x.dtype] + [np.dtype(np.intp)] * (return_index + return_counts)
    buckets = _buckets(source.npartitions)
    expr = Exchange("unique", [source.expr], make, finish, buckets, dtypes, shifts=return_index)
    if len(dtypes) == 1:
        parts = [Array(expr)]
    else:
        parts = [
            Array(PartOf(expr, number, "unique", expr.chunks, dtype))
            for number, dtype in enumerate(dtypes)
        ]
    if return_inverse:
        one = _OneBlock(parts[0].expr)
        along = tuple(range(x.ndim))
        step = partial(_found_in, dtype=x.dtype)
        inverse = Blockwise(
            "inverse", step, [x.expr, one], (0, 1), [along, (-1,)], x.chunks, np.intp
        )
        parts.insert(2 if return_index else 1, Array(inverse))
    return parts[0] if len(parts) == 1 else tuple(parts)


class _UniqueAlong(Emitted):
    """What `numpy.unique` gives of one block, along an axis."""

    def __init__(self, source: Expr, axis: int, flags: dict[str, bool], equal_nan: bool) -> None:
        chunks: list[Any] = list(source.chunks)
        chunks[axis] = (math.nan,)
        super().__init__("unique", (source,), tuple(chunks), source.dtype)
        self.axis = axis
        self.flags = flags
        self.equal_nan = equal_nan

    def token(self) -> Any:
        return (self.axis, self.flags, self.equal_nan)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return _UniqueAlong(inputs[0], self.axis, self.flags, self.equal_nan)

    def emit(self, lowering: Lowering) -> Sequence[Codes]:
        more = {f"return_{name}": wanted for name, wanted in self.flags.items()}
        step = partial(_unique_of_block, axis=self.axis, equal_nan=self.equal_nan, more=more)
        (codes,) = lowering.codes(self.inputs[0]).reshape(1, -1)
        stem, _, token = self.name.rpartition("-")
        made = lowering.add(f"{stem}_block-{token}", step, codes.reshape(1, 1))
        grids = []
        for number in range(1 + sum(self.flags.values())):
            pick = partial(_item, number=number)
            one = lowering.add(f"{stem}_part{number}-{token}", pick, made.reshape(1, 1))
            grids.append(one.reshape((1,) * (1 if number else len(self.chunks))))
        return grids


def _unique_of_block(block: Any, axis: int, equal_nan: bool, more: dict[str, Any]) -> Any:
    found: Any = np.unique(block, axis=axis, equal_nan=equal_nan, **more)
    return found if isinstance(found, tuple) else (found,)


def _item(values: Sequence[Any], number: int) -> Any:
    return values[number]


def _unique_along(x: Array, axis: int, flags: dict[str, bool], equal_nan: bool) -> Any:
    expr = _UniqueAlong(rechunked(x, -1).expr, axis, flags, equal_nan)
    parts = [Array(PartOf(expr, 0, "unique", expr.chunks, x.dtype))]
    for name, wanted in flags.items():
        if wanted:
            length = x.shape[axis] if name == "inverse" else math.nan
            parts.append(Array(PartOf(expr, len(parts), name, ((length,),), np.intp)))
    return parts[0] if len(parts) == 1 else tuple(parts)


# Two sets -----------------------------------------------------------------------------------------


class _Together:
    """What an operation of NumPy's on two sets gives of the elements in a bucket.

    Attributes
    ----------
    name : str
    first : int
        How many of the parts are of the first set.
    """

    __slots__ = ("first", "name")

    def __init__(self, name: str, first: int) -> None:
        self.name = name
        self.first = first

    def __zcluster_tokenize__(self) -> Any:
        return ("together", self.name, self.first)

    def __call__(self, parts: Sequence[Any]) -> Run:
        left = np.unique(np.concatenate(parts[: self.first]))
        right = np.unique(np.concatenate(parts[self.first :]))
        if self.name == "union1d":
            return (np.union1d(left, right),)
        return (getattr(np, self.name)(left, right, assume_unique=True),)


def _of_two(name: str, ar1: Any, ar2: Any) -> Array:
    x, y = asarray(ar1), asarray(ar2)
    dtype = np.result_type(x.dtype, y.dtype)
    buckets = _buckets(x.npartitions + y.npartitions)
    finish = _Together(name, x.npartitions)
    return Array(Exchange(name, [x.expr, y.expr], _Distinct(dtype), finish, buckets, [dtype]))


def union1d(ar1: Any, ar2: Any) -> Array:
    """Return the elements that one of two arrays has, in order.

    Parameters
    ----------
    ar1, ar2 : array_like

    Examples
    --------
    >>> union1d([3, 1], [1, 2]).compute()
    array([1, 2, 3])
    """
    return _of_two("union1d", ar1, ar2)


def intersect1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, return_indices: bool = False
) -> Array:
    """Return the elements that both of two arrays have, in order.

    Parameters
    ----------
    ar1, ar2 : array_like
    assume_unique : bool
        Not looked at: the result is the same.
    return_indices : bool
        Must be false.

    Raises
    ------
    NotImplementedError
        If places are wanted.

    Examples
    --------
    >>> intersect1d([3, 1, 2], [2, 3, 5]).compute()
    array([2, 3])
    """
    if return_indices:
        raise NotImplementedError(
            "intersect1d with return_indices=True: unique(x, return_index=True) says where the "
            "elements of each are first; look for the result among them with searchsorted"
        )
    return _of_two("intersect1d", ar1, ar2)


def setxor1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Array:
    """Return the elements that one of two arrays has and the other has not, in order.

    Parameters
    ----------
    ar1, ar2 : array_like
    assume_unique : bool
        Not looked at: the result is the same.

    Examples
    --------
    >>> setxor1d([3, 1, 2], [2, 3, 5]).compute()
    array([1, 5])
    """
    return _of_two("setxor1d", ar1, ar2)


def setdiff1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Array:
    """Return the elements of an array that another has not, in order.

    Parameters
    ----------
    ar1, ar2 : array_like
    assume_unique : bool
        The first array has no element twice: its order is kept.

    Examples
    --------
    >>> setdiff1d([3, 1, 2], [2, 5]).compute()
    array([1, 3])
    """
    x = asarray(ar1)
    if not assume_unique:
        x = unique(x)
    elif x.ndim != 1:
        x = x.ravel()
    return compressed(x, isin(x, ar2, invert=True))


class _IsIn:
    """Tells for each element of a block whether it is among those of another.

    Attributes
    ----------
    values : ndarray or None
        The others; None: they come as a block, whose axes come first in the result.
    more : dict
        Keywords for `numpy.isin`.
    """

    __slots__ = ("more", "values")

    def __init__(self, values: Any, more: dict[str, Any]) -> None:
        self.values = values
        self.more = more

    __name__ = "isin"

    def __call__(self, block: Any, others: Any = None) -> Any:
        if self.values is not None:
            return np.asarray(np.isin(block, self.values, **self.more))
        found = np.asarray(np.isin(block, others, **self.more))
        return found.reshape((1,) * np.ndim(others) + found.shape)

    def __zcluster_tokenize__(self) -> Any:
        return ("isin", self.values, self.more)


def isin(
    element: Any,
    test_elements: Any,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    kind: str | None = None,
) -> Array:
    """Tell for each element of an array whether it is among those of another.

    Parameters
    ----------
    element, test_elements : array_like
    assume_unique : bool
        As in NumPy, for each pair of blocks.
    invert : bool
        Tell whether it is not.
    kind : {'sort', 'table'}, optional
        As in NumPy.

    Raises
    ------
    InvalidArgument
        If there is no such kind.

    Examples
    --------
    >>> isin(asarray([1, 2, 3]), [3, 1]).compute()
    array([ True, False,  True])
    """
    if kind not in (None, "sort", "table"):
        raise InvalidArgument(f"kind={kind!r}: expected 'sort', 'table' or None")
    x = asarray(element)
    more = {"assume_unique": assume_unique, "kind": kind}
    if not isinstance(test_elements, Array):
        values = np.asarray(test_elements)
        if values.size <= _SMALL:
            step = _IsIn(values, more | {"invert": invert})
            return elementwise(step, x, dtype=np.bool_, name="isin")
    others = asarray(test_elements)
    chunks: Chunks = (*((1,) * len(own) for own in others.chunks), *x.chunks)
    first = tuple(range(others.ndim))
    along = tuple(range(others.ndim, others.ndim + x.ndim))
    expr = Blockwise(
        "isin", _IsIn(None, more), [x.expr, others.expr], (0, 1), [along, first], chunks, np.bool_
    )
    found = any_(Array(expr), first)
    return elementwise(np.logical_not, found) if invert else found


METHODS: dict[str, Callable[..., Any]] = {}
