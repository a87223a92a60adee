"""`unique` as the array API standard spells it: one function for each set of results.

A nan is like no other here, as the standard has it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from zcluster.array.core import Array, asarray
from zcluster.array.sets import unique

__all__ = ["unique_all", "unique_counts", "unique_inverse", "unique_values"]


class UniqueAllResult(NamedTuple):
    """What `unique_all` returns."""

    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class UniqueCountsResult(NamedTuple):
    """What `unique_counts` returns."""

    values: Array
    counts: Array


class UniqueInverseResult(NamedTuple):
    """What `unique_inverse` returns."""

    values: Array
    inverse_indices: Array


def unique_values(x: Any) -> Array:
    """Return the different elements of an array, in order; see `unique`.

    Examples
    --------
    >>> unique_values([3, 1, 3]).compute()
    array([1, 3])
    """
    values: Array = unique(asarray(x), equal_nan=False)
    return values


def unique_counts(x: Any) -> UniqueCountsResult:
    """Return the different elements of an array, and how often each is there."""
    return UniqueCountsResult(*unique(asarray(x), return_counts=True, equal_nan=False))


def unique_inverse(x: Any) -> UniqueInverseResult:
    """Return the different elements of an array, and which of them each element is."""
    array = asarray(x)
    return UniqueInverseResult(*unique(array, return_inverse=True, equal_nan=_is_one(array)))


def unique_all(x: Any) -> UniqueAllResult:
    """Return the different elements, where each is first, which each is, and how often it is."""
    array = asarray(x)
    flags = {"return_index": True, "return_inverse": True, "return_counts": True}
    return UniqueAllResult(*unique(array, **flags, equal_nan=_is_one(array)))


def _is_one(array: Array) -> bool:
    """Tell whether it makes no difference if one nan is like another: there is none."""
    return array.dtype.kind not in "fcmM"
