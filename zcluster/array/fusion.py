"""Which expressions become one task per block.

Expressions that can be computed together, block by block, form a **group**: one layer, whose tasks
run a `programs.Program`. A group has a root, the expression whose blocks the tasks make, and grows
from there towards the inputs. An expression joins the group of those that take it if

- they are all in that group, so that its blocks are needed nowhere else. What two groups take is
  made once, and kept;
- each of its blocks is needed by one block of the root, which is what `Group.places` says: for
  each axis of a member, the axis of the root that it goes along.

Gathered blocks may be read by a group, but what they are gathered from is outside: a task takes
boxes of it. Blocks that are cheaper to make than to keep are made by everyone who takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from zcluster.array.expressions import Blockwise, Dims, Expr, Gather, Generated, Reduction

__all__ = ["Group", "Place", "fused", "place_in", "topological"]

#: For each axis of an expression, the axis of a group's root; -1: always its only chunk.
Place: TypeAlias = tuple[int, ...]


@dataclass(eq=False)
class Group:
    """Expressions that become one task per block.

    Attributes
    ----------
    root : Expr
        Whose blocks the tasks make; of a reduction, what comes of each block at first.
    grid : tuple of int
        Blocks along each axis.
    members : list of Expr
        Inputs before those that take them.
    places : dict
        By name of a member, where its blocks are.
    """

    root: Expr
    grid: tuple[int, ...]
    members: list[Expr] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)


def topological(outputs: Sequence[Expr]) -> list[Expr]:
    """Return all expressions below some, each once, inputs first."""
    order: list[Expr] = []
    seen: set[str] = set()
    stack: list[tuple[Expr, bool]] = [(one, False) for one in reversed(outputs)]
    while stack:
        one, is_done = stack.pop()
        if is_done:
            order.append(one)
        elif one.name not in seen:
            seen.add(one.name)
            stack.append((one, True))
            stack += [(source, False) for source in reversed(one.inputs)]
    return order


def fused(outputs: Sequence[Expr], order: Sequence[Expr] | None = None) -> dict[str, Group]:
    """Form groups.

    Parameters
    ----------
    outputs : sequence of Expr
        What is wanted; simplified.
    order : sequence of Expr, optional
        What `topological` says of them, if somebody knows already.

    Returns
    -------
    groups : dict
        By name of the root. Other expressions (data, what writes its own layers) are in none.
    """
    if order is None:
        order = topological(outputs)
    takers: dict[str, list[Expr]] = {one.name: [] for one in order}
    for one in order:
        for source in one.inputs:
            takers[source.name].append(one)
    wanted = {one.name for one in outputs}
    groups: dict[str, Group] = {}
    of: dict[str, Group] = {}  # by name of a member
    for one in reversed(order):
        if not isinstance(one, Blockwise | Dims | Gather | Generated | Reduction):
            continue
        group = None
        if one.name not in wanted and not isinstance(one, Reduction):
            group = _joins(one, takers, of)
        if group is None:
            grid = one.inputs[0].numblocks if isinstance(one, Reduction) else one.numblocks
            group = groups[one.name] = Group(one, grid)
            group.places[one.name] = tuple(range(one.ndim))
        group.members.append(one)
        of[one.name] = group
    for group in groups.values():
        group.members.reverse()
    return groups


def _joins(one: Expr, takers: dict[str, list[Expr]], of: dict[str, Group]) -> Group | None:
    """Return the group that an expression joins, and note its place there; None: its own."""
    found: Group | None = None
    place: Place | None = None
    for taker in takers[one.name]:
        group = of.get(taker.name)
        if group is None or (found is not None and group is not found):
            return None
        found = group
        for number, source in enumerate(taker.inputs):
            if source.name != one.name:
                continue
            there = place_in(group, taker, number)
            if there is None or (place is not None and there != place):
                return None
            place = there
    if found is None or place is None:
        return None
    found.places[one.name] = place
    return found


def place_in(group: Group, taker: Expr, number: int) -> Place | None:
    """Return the place of an input of a member; None if its blocks do not go along.

    Examples
    --------
    >>> from zcluster.array.axes import identity
    >>> source = Generated("x", None, ((2, 2), (3,)), "f8")
    >>> turned = Dims(source, (1, 0))
    >>> group = fused([turned])[turned.name]
    >>> place_in(group, turned, 0)
    (1, 0)
    """
    own = group.places[taker.name]
    source = taker.inputs[number]
    if isinstance(taker, Blockwise):
        axes = taker.axes[number]
        return tuple(-1 if axis < 0 else own[axis] for axis in axes)
    if isinstance(taker, Dims):
        place = [-1] * source.ndim
        for axis, taken in zip(own, taker.axes, strict=True):
            if taken is not None:
                place[taken] = axis
        return tuple(place)
    if isinstance(taker, Reduction):
        return tuple(range(source.ndim))
    return None
