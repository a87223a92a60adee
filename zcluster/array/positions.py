"""Where extremes stand: `argmin`, `argmax` and their like without nan.

A partial result is (the extreme, its place, how many elements the place counts among). Along one
axis the places of several follow each other, so nothing else need be known. Of all axes together
a place is that in the flat array, and each block says it in those terms.

The first of equal extremes counts, and a nan is more extreme than anything, as in NumPy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zcluster.array.chunks import is_known, normalize_axis
from zcluster.array.core import Array, asarray, elementwise
from zcluster.array.reducing import has_nan, is_nan, put_out, reduced
from zcluster.errors import InvalidArgument

__all__ = ["argmax", "argmin", "nanargmax", "nanargmin"]


class _Places:
    """A step on the way to the place of an extreme.

    Attributes
    ----------
    name : str
        ``"argmin"`` or ``"argmax"``.
    stage : str
        ``"chunk"``, ``"combine"`` or ``"last"``.
    axes : tuple of int
    shape : tuple of int or None
        Of the whole array, if the place is that in the flat array.
    keepdims : bool
    skips_nan : bool
    """

    __slots__ = ("axes", "keepdims", "name", "shape", "skips_nan", "stage")

    def __init__(
        self,
        name: str,
        stage: str,
        axes: tuple[int, ...],
        shape: tuple[int, ...] | None,
        keepdims: bool,
        skips_nan: bool,
    ) -> None:
        self.name = name
        self.stage = stage
        self.axes = axes
        self.shape = shape
        self.keepdims = keepdims
        self.skips_nan = skips_nan

    @property
    def __name__(self) -> str:
        return f"{self.name}_{self.stage}"

    def __zcluster_tokenize__(self) -> Any:
        return (self.name, self.stage, self.axes, self.shape, self.keepdims, self.skips_nan)

    def __call__(self, given: Any, offsets: Any = None) -> Any:
        if self.stage == "chunk":
            return self._of_block(given, offsets)
        merged = self._merged(*given)
        return merged if self.stage == "combine" else self._result(*merged)

    def _of_block(self, block: Any, offsets: Any) -> tuple[Any, ...]:
        block = np.asarray(block)
        kept = [1 if a in self.axes else n for a, n in enumerate(block.shape)]
        counts = np.full((1,) * block.ndim, math.prod(block.shape[a] for a in self.axes), np.intp)
        if not counts.all():  # nothing here, and nothing comes of it
            kept[self.axes[0]] = 0
            none = np.empty(kept, np.intp)
            counts = counts.repeat(0, self.axes[0])
            return none.astype(block.dtype), none, counts, np.ones(kept, np.bool_)
        found = np.ones(kept, np.bool_)
        if self.skips_nan:
            missing = is_nan(block)
            found = ~missing.all(axis=self.axes, keepdims=True)
            block = np.where(missing, np.inf if self.name == "argmin" else -np.inf, block)
        axis = self.axes[0] if self.shape is None else None
        places = np.asarray(getattr(block, self.name)(axis=axis, keepdims=True))
        if self.shape is None:
            return np.take_along_axis(block, places, self.axes[0]), places, counts, found
        extremes = block.reshape(-1)[places]
        index = np.unravel_index(places.reshape(-1), block.shape)
        whole = tuple(one + start for one, start in zip(index, offsets, strict=True))
        places = np.ravel_multi_index(whole, self.shape).reshape(kept)
        return extremes, places, counts, found

    def _merged(self, extremes: Any, places: Any, counts: Any, found: Any) -> tuple[Any, ...]:
        axis = self.axes[0]
        if not extremes.shape[axis]:
            return extremes, places, counts, found
        if self.shape is None:  # each counts from where its block begins
            places = places + np.cumsum(counts, axis) - counts
        best = np.asarray(getattr(extremes, self.name)(axis=axis, keepdims=True))
        extreme = np.take_along_axis(extremes, best, axis)
        equal = extremes == extreme
        if extremes.dtype.kind in "fcmMO":
            equal |= is_nan(extremes) & is_nan(extreme)
        first = np.where(equal, places, np.iinfo(np.intp).max).min(axis, keepdims=True)
        counts = counts.sum(axis, keepdims=True)
        return extreme, first, counts, found.any(axis, keepdims=True)

    def _result(self, extremes: Any, places: Any, counts: Any, found: Any) -> Any:
        if not found.all():
            raise ValueError("All-NaN slice encountered")
        if not extremes.shape[self.axes[0]]:
            raise ValueError(f"attempt to get {self.name} of an empty sequence")
        return places if self.keepdims else np.squeeze(places, self.axes)


def _placed(
    name: str, a: Any, axis: Any, keepdims: bool, split_every: Any, out: Any, skips_nan: bool
) -> Array:
    x = asarray(a)
    if axis is not None:
        axis = normalize_axis(axis, x.ndim)
    if not x.ndim:
        function = getattr(np, f"nan{name}" if skips_nan else name)
        return put_out(elementwise(function, x, dtype=np.intp), out)
    axes = tuple(range(x.ndim)) if axis is None else (axis,)
    if any(x.shape[one] == 0 for one in axes):
        raise ValueError(f"attempt to get {name} of an empty sequence")
    is_flat = len(axes) > 1
    if is_flat and not all(map(is_known, x.chunks)):
        raise InvalidArgument(
            f"{name} of an array of shape {x.shape}: a place in the flat array needs known chunk "
            "sizes; call compute_chunk_sizes() first, or name an axis"
        )
    shape = x.shape if is_flat else None
    skips_nan = skips_nan and has_nan(x.dtype)
    first, between, last = (
        _Places(name, stage, axes, shape, bool(keepdims), skips_nan)
        for stage in ("chunk", "combine", "last")
    )
    made = reduced(
        f"{'nan' if skips_nan else ''}{name}-aggregate",
        x.expr,
        axes,
        (first, between, last),
        np.intp,
        keepdims=keepdims,
        split_every=split_every,
        takes_offsets=is_flat,
    )
    return put_out(made, out)


def argmin(
    a: Any, axis: Any = None, keepdims: bool = False, split_every: Any = None, out: Any = None
) -> Array:
    """Return where the least element stands, the first of equal ones.

    Parameters
    ----------
    a : array_like
    axis : int or None
        None: the place in the flat array.
    keepdims : bool
        The axes stay, with length 1.
    split_every : int or dict of int, optional
        How many partial results go into one task.
    out : Array, optional
        Stands for the result from then on.

    Raises
    ------
    ValueError
        If there are no elements.

    Examples
    --------
    >>> argmin(asarray([[3, 1], [1, 4]]), axis=1).compute()
    array([1, 0])
    """
    return _placed("argmin", a, axis, keepdims, split_every, out, False)


def argmax(
    a: Any, axis: Any = None, keepdims: bool = False, split_every: Any = None, out: Any = None
) -> Array:
    """Return where the greatest element stands, the first of equal ones; see `argmin`.

    Examples
    --------
    >>> int(argmax(asarray([[3, 1], [1, 4]])).compute())
    3
    """
    return _placed("argmax", a, axis, keepdims, split_every, out, False)


def nanargmin(
    a: Any, axis: Any = None, keepdims: bool = False, split_every: Any = None, out: Any = None
) -> Array:
    """Return where the least element stands that is not nan; see `argmin`.

    Where all are nan, computing it raises a ValueError.

    Examples
    --------
    >>> int(nanargmin(asarray([float("nan"), 3.0, 1.0])).compute())
    2
    """
    return _placed("argmin", a, axis, keepdims, split_every, out, True)


def nanargmax(
    a: Any, axis: Any = None, keepdims: bool = False, split_every: Any = None, out: Any = None
) -> Array:
    """Return where the greatest element stands that is not nan; see `nanargmin`.

    Examples
    --------
    >>> int(nanargmax(asarray([float("nan"), 3.0, 1.0])).compute())
    1
    """
    return _placed("argmax", a, axis, keepdims, split_every, out, True)


METHODS = {"argmax": argmax, "argmin": argmin}
