"""Expressions rewritten so that less is computed, each step by expression and not by block.

- Gathers after each other are one: a slice of a rechunk of a slice reads the source once.
- A slice moves below what is element-wise, below axes in another order, and below a reduction of
  other axes, towards the source, if nobody else takes what it moves below.
- Axes permuted twice are permuted once.
- What changes nothing goes.

What has the same name is the same expression, and stays one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zcluster.array.axes import FILL, AxisMap, compose, identity
from zcluster.array.expressions import Blockwise, Dims, Expr, Gather, Reduction
from zcluster.array.fusion import topological

__all__ = ["simplified"]

#: A slice moves below so many expressions at most.
_DEEPEST = 200


def simplified(outputs: Sequence[Expr]) -> list[Expr]:
    """Return expressions with the same values that cost less, or the same ones.

    Examples
    --------
    >>> import numpy as np
    >>> from zcluster.array.axes import of_slice
    >>> from zcluster.array.expressions import Generated
    >>> source = Generated("x", None, ((4, 4),), "f8")
    >>> first = Gather(source, [of_slice(2, 6, 1, (4, 4))])
    >>> (both,) = simplified([Gather(first, [of_slice(0, 3, 2, first.chunks[0])])])
    >>> both.inputs[0] is source, both.maps[0].starts.tolist(), both.maps[0].steps.tolist()
    (True, [2], [2])
    """
    order = topological(outputs)
    takers: dict[str, int] = dict.fromkeys((one.name for one in outputs), 1)
    for one in order:
        for source in one.inputs:
            takers[source.name] = takers.get(source.name, 0) + 1
    rules = _Rules()
    made: dict[str, Expr] = {}
    for one in order:
        inputs = [made[source.name] for source in one.inputs]
        fresh = one
        if any(new is not old for new, old in zip(inputs, one.inputs, strict=True)):
            fresh = _as_wanted(one.with_inputs(inputs), one)
        made[one.name] = fresh = rules.applied(fresh)
        if takers.get(one.name) == 1:
            rules.lone.add(fresh.name)
    return [made[one.name] for one in outputs]


class _Rules:
    """The rules, and what they know.

    Attributes
    ----------
    lone : set of str
        Names of expressions that one other takes.
    """

    def __init__(self) -> None:
        self.lone: set[str] = set()
        self._depth = 0

    def applied(self, one: Expr) -> Expr:
        """Return an expression after the rules, or the same one."""
        self._depth += 1
        try:
            while True:
                new = None
                if isinstance(one, Gather):
                    new = self._gather(one)
                elif isinstance(one, Dims):
                    new = _dims(one)
                if new is None:
                    return one
                one = new
        finally:
            self._depth -= 1

    def _gather(self, one: Gather) -> Expr | None:
        """Return what is the same as a gather and costs less, if a rule says so."""
        source = one.inputs[0]
        if all(
            m.is_identity and m.chunks == c for m, c in zip(one.maps, source.chunks, strict=True)
        ):
            return source
        if isinstance(source, Gather) and _fills_agree(one, source):
            return _composed(one, source)
        if isinstance(source, Dims):
            return self._below_dims(one, source)
        is_lone = source.name in self.lone and self._depth < _DEEPEST
        if not (is_lone and _only_leaves_out(one)):
            return None
        if isinstance(source, Blockwise) and source.is_elementwise and not source.extra:
            return self._below_elementwise(one, source)
        if isinstance(source, Reduction):
            return self._below_reduction(one, source)
        return None

    def _below_dims(self, one: Gather, source: Dims) -> Expr | None:
        taken = source.inputs[0]
        maps = [identity(length, own) for length, own in _axes(taken)]
        for made, axis in zip(one.maps, source.axes, strict=True):
            if axis is not None:
                maps[axis] = made
            elif made.chunks != (1,) or made.starts.tolist() != [0]:
                return None
        below = self.applied(_as_wanted(Gather(taken, maps, one.fill, one.label), one))
        return _as_wanted(Dims(below, source.axes, source.label), source)

    def _below_elementwise(self, one: Gather, source: Blockwise) -> Expr:
        inputs = []
        for taken, axes in zip(source.inputs, source.axes, strict=True):
            maps = []
            for axis, (length, own) in zip(axes, _axes(taken), strict=True):
                maps.append(identity(length, own) if axis < 0 else one.maps[axis])
            below = _as_wanted(Gather(taken, maps, one.fill, one.label), one)
            inputs.append(self.applied(below))
        return _as_wanted(source.on(inputs, one.chunks), source)

    def _below_reduction(self, one: Gather, source: Reduction) -> Expr | None:
        taken = source.inputs[0]
        maps = [identity(length, own) for length, own in _axes(taken)]
        kept = iter(one.maps)
        for axis in range(taken.ndim):
            if axis not in source.axes:
                maps[axis] = next(kept)
            elif source.keepdims and not next(kept).is_identity:
                return None
        if source.takes_offsets:
            return None
        below = self.applied(_as_wanted(Gather(taken, maps, one.fill, one.label), one))
        return _as_wanted(source.with_inputs([below]), source)


def _as_wanted(made: Expr, one: Expr) -> Expr:
    """Give an expression that stands for another one the options of that one."""
    made.options = one.options
    return made


def _composed(one: Gather, source: Gather) -> Expr | None:
    for outer, inner in zip(one.maps, source.maps, strict=True):
        if not outer.is_identity and inner.is_identity and not len(inner.counts):
            return None  # of unknown length
    fill = source.fill if _has_fill(source.maps) else one.fill
    maps = [compose(outer, inner) for outer, inner in zip(one.maps, source.maps, strict=True)]
    return _as_wanted(Gather(source.inputs[0], maps, fill, one.label), one)


def _has_fill(maps: Sequence[AxisMap]) -> bool:
    return any(bool((made.starts == FILL).any()) for made in maps)


def _fills_agree(outer: Gather, inner: Gather) -> bool:
    if not (_has_fill(outer.maps) and _has_fill(inner.maps)):
        return True
    return bool(outer.fill == inner.fill)


def _only_leaves_out(one: Gather) -> bool:
    """Tell whether a gather is a slice: of each axis a part in equal steps, or all as it is."""
    for made, own in zip(one.maps, one.inputs[0].chunks, strict=True):
        if made.is_identity:
            if made.chunks != own:
                return False
        elif len(made.starts) != 1 or made.steps[0] == 0 or made.starts[0] == FILL:
            return False
    return True


def _axes(one: Expr) -> list[tuple[Any, Any]]:
    return list(zip(one.shape, one.chunks, strict=True))


def _dims(one: Dims) -> Expr | None:
    source = one.inputs[0]
    if one.axes == tuple(range(source.ndim)):
        return source
    if not isinstance(source, Dims):
        return None
    axes = tuple(None if axis is None else source.axes[axis] for axis in one.axes)
    return _as_wanted(Dims(source.inputs[0], axes, one.label), one)
