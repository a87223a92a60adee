"""Other chunks: `rechunk`, the same chunks for several arrays, and blocks made smaller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from zcluster.array.chunks import AxisChunks, Chunks, normalize_axis, normalize_chunks
from zcluster.array.core import Array, asarray, rechunked, unified
from zcluster.array.expressions import Blockwise
from zcluster.array.restating import check_known
from zcluster.errors import InvalidArgument
from zcluster.protocol.callables import callable_name

__all__ = ["coarsen", "rechunk", "unify_chunks"]


def rechunk(
    x: Any,
    chunks: Any = "auto",
    threshold: Any = None,
    block_size_limit: int | str | None = None,
    balance: bool = False,
    method: Any = None,
) -> Array:
    """Return the same array in other chunks.

    A block of the result is put together from the boxes of blocks that it is made of, in one step;
    rechunks after each other are one.

    Parameters
    ----------
    x : array_like
    chunks : int, str, tuple, dict or None
        A length for all axes, or one for each: an integer, all lengths as a tuple, -1 or None for
        the whole axis, ``"auto"`` for as much as the limit allows; a size such as ``"64MiB"``. A
        dict names axes, and the others stay as they are.
    threshold, method
        Without effect: there is one way.
    block_size_limit : int or str, optional
        Bytes of a block where the size is automatic.
    balance : bool
        Make the chunks of an axis as equal as can be, about as many as there would be.

    Raises
    ------
    InvalidArgument
        If they do not fit the shape.

    Examples
    --------
    >>> rechunk(np.arange(10), 4).chunks, rechunk(np.arange(10), 4, balance=True).chunks
    (((4, 4, 2),), ((4, 3, 3),))
    """
    array = asarray(x)
    wanted = normalize_chunks(
        chunks, array.shape, array.dtype, limit=block_size_limit, previous=array.chunks
    )
    if balance:
        wanted = tuple(map(_balanced, wanted))
    return rechunked(array, wanted)


def _balanced(lengths: AxisChunks) -> AxisChunks:
    if any(n != n for n in lengths):
        return lengths
    each, rest = divmod(sum(lengths), len(lengths))
    return (each + 1,) * rest + (each,) * (len(lengths) - rest)


def unify_chunks(*args: Any, **kwargs: Any) -> tuple[dict[Any, AxisChunks], list[Array]]:
    """Give arrays the same chunks along the axes that they share.

    Parameters
    ----------
    *args
        An array and its axes, as letters or other labels, one pair after the other.
    **kwargs
        Without effect.

    Returns
    -------
    chunks : dict
        By label.
    arrays : list of Array

    Examples
    --------
    >>> from zcluster.array.core import from_numpy
    >>> x, y = from_numpy(np.ones(4), chunks=2), from_numpy(np.ones(4), chunks=3)
    >>> unify_chunks(x, "i", y, "i")[0]
    {'i': (2, 1, 1)}
    """
    arrays = [asarray(one) for one in args[::2]]
    labels = [() if one is None else tuple(one) for one in args[1::2]]
    if len(arrays) != len(labels):
        raise InvalidArgument(f"{len(args)} arguments; expected an array and its axes in turn")
    numbers: dict[Any, int] = {}
    for own in labels:
        for label in own:
            numbers.setdefault(label, len(numbers))
    made, found = unified(arrays, [tuple(numbers[label] for label in own) for own in labels])
    return {label: found[number] for label, number in numbers.items()}, made


class _Coarser:
    """Reduces groups of neighbours in a block."""

    __slots__ = ("function", "kwargs", "steps")

    def __init__(
        self, function: Callable[..., Any], steps: tuple[int, ...], kwargs: dict[str, Any]
    ) -> None:
        self.function = function
        self.steps = steps
        self.kwargs = kwargs

    @property
    def __name__(self) -> str:
        return callable_name(self.function)

    def __call__(self, block: Any) -> Any:
        shape: list[int] = []
        for length, step in zip(block.shape, self.steps, strict=True):
            shape += [length // step, step]
        inner = tuple(range(1, 2 * block.ndim, 2))
        return self.function(block.reshape(shape), axis=inner, **self.kwargs)

    def __zcluster_tokenize__(self) -> Any:
        return ("coarser", self.function, self.steps, self.kwargs)


def coarsen(
    reduction: Callable[..., Any],
    x: Any,
    axes: dict[int, int],
    trim_excess: bool = False,
    **kwargs: Any,
) -> Array:
    """Return what a reduction makes of groups of neighbours.

    Parameters
    ----------
    reduction : callable
        Such as ``numpy.mean``; of a block and the axes to reduce.
    x : array_like
    axes : dict
        By axis, how many neighbours make a group.
    trim_excess : bool
        Leave out what makes no whole group at the end.
    **kwargs
        Passed on to the reduction.

    Examples
    --------
    >>> coarsen(np.sum, [1, 2, 3, 4], {0: 2}).compute()
    array([3, 7])
    """
    array = asarray(x)
    steps = [1] * array.ndim
    for axis, step in axes.items():
        steps[normalize_axis(axis, array.ndim)] = int(step)
    grouped = [axis for axis, step in enumerate(steps) if step > 1]
    check_known(array, grouped, "coarsen")
    for axis in grouped:
        length, step = array.shape[axis], steps[axis]
        if length % step:
            if not trim_excess:
                raise ValueError(
                    f"axis {axis} of length {length} has no whole number of groups of {step}; "
                    "expected trim_excess=True, or another length"
                )
            array = array[(*[slice(None)] * axis, slice(0, length // step * step))]
    chunks: Chunks = tuple(
        own if step == 1 else _snapped(own, step)
        for own, step in zip(array.chunks, steps, strict=True)
    )
    array = rechunked(array, chunks)
    function = _Coarser(getattr(reduction, "numpy", reduction), tuple(steps), kwargs)
    probe = np.asarray(function(np.ones(steps, array.dtype)))
    coarse = tuple(tuple(n // s for n in own) for own, s in zip(chunks, steps, strict=True))
    return Array(
        Blockwise(
            "coarsen",
            function,
            [array.expr],
            [0],
            [tuple(range(array.ndim))],
            coarse,
            probe.dtype,
        )
    )


def _snapped(lengths: AxisChunks, step: int) -> AxisChunks:
    """Move the borders of chunks to whole groups."""
    points = np.cumsum(lengths)
    points = np.unique(np.append(np.rint(points[:-1] / step).astype(np.int64) * step, points[-1]))
    lean = np.diff(points, prepend=0)
    return tuple(lean[lean > 0].tolist()) or (0,)


METHODS = {"rechunk": rechunk}
