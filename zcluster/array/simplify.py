"""Expressions rewritten so that less is computed, each step by expression and not by block.

- Gathers after each other are one: a slice of a rechunk of a slice reads the source once.
- A slice moves below what is element-wise, below axes in another order, and below a reduction of
  other axes, towards the source, if nobody else takes what it moves below.
- Axes permuted twice are permuted once.
- What changes nothing goes.

What has the same name is the same expression, and stays one.

It takes two passes, and each looks at an expression once, however many slices are above it. The
first goes from the outputs down. What is gathered of an expression is handed to it as a `_Moved`,
which it hands on to its inputs, put together with a gather on its way, or keeps. So an expression
that one other takes knows what is asked of it before anything is made. One that several take is
asked for all of it, and each of them gathers what came of it. The second pass goes up, and makes
what the first one found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zcluster.array.axes import FILL, AxisMap, compose, identity
from zcluster.array.chunks import Chunks
from zcluster.array.expressions import Blockwise, Dims, Expr, Gather, Reduction
from zcluster.array.fusion import topological
from zcluster.graph.layers import Options

__all__ = ["named_as", "simplified"]


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
    made: dict[str, Expr] = {}
    if any(isinstance(one, Gather | Dims) for one in order):
        plans = _planned(outputs, order)
        for one in order:
            made[one.name] = _made(one, plans.get(one.name), made)
    else:
        made = {one.name: one for one in order}
    return [made[one.name] for one in outputs]


def named_as(made: Sequence[Expr], outputs: Sequence[Expr]) -> list[Expr]:
    """Give expressions the names of others that they stand for, so that keys are as promised.

    What is taken by something else as well, or is an output itself, keeps its name: its blocks are
    made once, and have one key each.

    Parameters
    ----------
    made, outputs : sequence of Expr
        The rewritten expressions, and those that the user has.

    Examples
    --------
    >>> from zcluster.array.expressions import Generated
    >>> source = Generated("x", None, ((4, 4), (3,)), "f8")
    >>> turned = Dims(Dims(source, (1, 0)), (None, 0, 1))
    >>> (one,) = named_as(simplified([turned]), [turned])
    >>> one.axes, one.name == turned.name
    ((None, 1, 0), True)
    """
    if all(fresh is one for fresh, one in zip(made, outputs, strict=True)):
        return list(made)
    taken: set[str] = set()
    if len(made) > 1:  # of one alone, nothing else can take it
        taken = {source.name for one in topological(made) for source in one.inputs}
    wanted = {one.name for one in outputs}
    found: dict[str, Expr] = {}
    for fresh, one in zip(made, outputs, strict=True):
        name = fresh.name
        if name not in found:
            keeps = name in taken or name in wanted or one.name in taken
            found[name] = fresh if keeps else fresh.under(one.name)
    return [found[fresh.name] for fresh in made]


# What is asked for --------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Moved:
    """What is gathered of an expression, apart from the expression.

    Attributes
    ----------
    maps, fill, label, options
        As a `Gather` has them.
    origin : Gather or None
        One that is just this, if it was given.
    """

    maps: tuple[AxisMap, ...]
    fill: Any
    label: str
    options: Options
    origin: Gather | None = None

    @classmethod
    def of(cls, one: Gather) -> _Moved:
        return cls(one.maps, one.fill, one.label, one.options, one)

    @property
    def chunks(self) -> Chunks:
        return tuple(made.chunks for made in self.maps)

    def along(self, maps: Sequence[AxisMap]) -> _Moved:
        """Return the same of an array with other axes."""
        return _Moved(tuple(maps), self.fill, self.label, self.options)

    def on(self, source: Expr) -> Expr:
        """Return the gather of an expression."""
        if self.origin is not None and self.origin.inputs[0] is source:
            return self.origin
        return _as_wanted(Gather(source, self.maps, self.fill, self.label), self.options)

    def after(self, inner: _Moved) -> _Moved | None:
        """Return what does the same as another and then this; None if no gather does."""
        has_fill = _has_fill(inner.maps)
        if has_fill and _has_fill(self.maps) and not bool(self.fill == inner.fill):
            return None
        for outer, below in zip(self.maps, inner.maps, strict=True):
            if not outer.is_identity and below.is_identity and not len(below.counts):
                return None  # of unknown length
        maps = [compose(outer, below) for outer, below in zip(self.maps, inner.maps, strict=True)]
        fill = inner.fill if has_fill else self.fill
        return _Moved(tuple(maps), fill, self.label, self.options)

    def changes(self, chunks: Chunks) -> bool:
        """Tell whether anything changes in an array of some chunks."""
        for made, own in zip(self.maps, chunks, strict=True):
            if not made.is_identity or made.chunks != own:
                return True
        return False

    def only_leaves_out(self, chunks: Chunks) -> bool:
        """Tell whether this is a slice: of each axis a part in equal steps, or all as it is.

        Repeats and margins are not: below something else, it would be done for them several times.
        """
        for made, own in zip(self.maps, chunks, strict=True):
            if made.is_identity:
                if made.chunks != own:
                    return False
            elif len(made.starts) != 1:
                if len(made.starts):
                    return False
            elif made.steps[0] == 0 or made.starts[0] == FILL:
                return False
        return True


def _has_fill(maps: Sequence[AxisMap]) -> bool:
    return any(not made.is_identity and bool((made.starts == FILL).any()) for made in maps)


# Down ---------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Plan:
    """What becomes of an expression.

    Attributes
    ----------
    asked : list of (_Moved or None)
        What is taken of each input; None: all of it, as it is.
    handed : list of bool
        Whether the input sees to that, as nobody else takes it; else it is done with what comes.
    chunks : tuple of tuples or None
        Of the result, if they are others.
    above : _Moved or None
        What is done with the result.
    """

    asked: list[_Moved | None]
    handed: list[bool]
    chunks: Chunks | None = None
    above: _Moved | None = None


def _planned(outputs: Sequence[Expr], order: Sequence[Expr]) -> dict[str, _Plan]:
    """Decide by name what becomes of expressions, where it is not what they are.

    Parameters
    ----------
    outputs, order : sequence of Expr
        What is wanted, and all below, inputs first.
    """
    takers = dict.fromkeys((one.name for one in order), 0)
    for one in outputs:
        takers[one.name] = 2  # it is wanted as it is, whoever else takes it
    for one in order:
        for source in one.inputs:
            takers[source.name] += 1
    wanted: dict[str, _Moved] = {}
    plans: dict[str, _Plan] = {}
    for one in reversed(order):
        moved = wanted.get(one.name)
        if moved is not None and not moved.changes(one.chunks):
            moved = None
        if moved is None:
            source = one.inputs[0] if isinstance(one, Gather) else one
            if source is one or not source.inputs or takers[source.name] > 1:
                continue  # nothing is handed to anybody
        plan = plans[one.name] = _plan(one, moved)
        for source, asked in zip(one.inputs, plan.asked, strict=True):
            is_handed = takers[source.name] == 1
            plan.handed.append(is_handed)
            if is_handed and asked is not None:
                wanted[source.name] = asked
    return plans


def _plan(one: Expr, moved: _Moved | None) -> _Plan:
    """Decide what becomes of a gather, or of what something is gathered of."""
    if isinstance(one, Gather):
        return _plan_of_gather(one, moved)
    assert moved is not None  # else it stays what it is
    found: _Plan | None = None
    if isinstance(one, Dims):
        maps = _below_dims(moved, one)
        found = None if maps is None else _Plan([moved.along(maps)], [], moved.chunks)
    elif moved.only_leaves_out(one.chunks):
        if isinstance(one, Blockwise) and _is_by_element(one):
            found = _Plan(_below_elementwise(moved, one), [], moved.chunks)
        elif isinstance(one, Reduction):
            maps = _below_reduction(moved, one)
            found = None if maps is None else _Plan([moved.along(maps)], [], moved.chunks)
    return _Plan([None] * len(one.inputs), [], above=moved) if found is None else found


def _is_by_element(one: Blockwise) -> bool:
    """Tell whether less of the inputs gives less of the result, and the same."""
    return one.is_elementwise and bool(one.inputs) and not one.extra


def _plan_of_gather(one: Gather, moved: _Moved | None) -> _Plan:
    """Decide what becomes of a gather: it is handed down, with what is gathered of it."""
    own = _Moved.of(one)
    if moved is None:
        return _Plan([own], [])
    # Anything but a slice waits for what comes up: it would keep this one, which may be a slice,
    # from moving on.
    both = moved.after(own) if moved.only_leaves_out(one.chunks) else None
    return _Plan([own], [], above=moved) if both is None else _Plan([both], [], moved.chunks)


def _below_dims(moved: _Moved, one: Dims) -> list[AxisMap] | None:
    """Return what is gathered of the input; None if a new axis is more than one place."""
    maps = _all_of(one.inputs[0])
    for made, axis in zip(moved.maps, one.axes, strict=True):
        if axis is not None:
            maps[axis] = made
        elif made.chunks != (1,) or made.starts.tolist() != [0]:
            return None
    return maps


def _below_elementwise(moved: _Moved, one: Blockwise) -> list[_Moved | None]:
    asked: list[_Moved | None] = []
    for source, axes in zip(one.inputs, one.axes, strict=True):
        maps = [
            moved.maps[axis] if axis >= 0 else identity(source.shape[place], source.chunks[place])
            for place, axis in enumerate(axes)
        ]
        asked.append(moved.along(maps))
    return asked


def _below_reduction(moved: _Moved, one: Reduction) -> list[AxisMap] | None:
    """Return what is gathered of the input; None if it depends on what is left out."""
    if one.takes_offsets:
        return None
    maps = _all_of(one.inputs[0])
    kept = iter(moved.maps)
    for axis in range(len(maps)):
        if axis not in one.axes:
            maps[axis] = next(kept)
        elif one.keepdims and not next(kept).is_identity:
            return None
    return maps


def _all_of(one: Expr) -> list[AxisMap]:
    return [identity(length, own) for length, own in zip(one.shape, one.chunks, strict=True)]


# Up -----------------------------------------------------------------------------------------------


def _made(one: Expr, plan: _Plan | None, made: dict[str, Expr]) -> Expr:
    """Make what was planned of what came of the inputs."""
    inputs = [made[source.name] for source in one.inputs]
    if plan is None:
        return _renewed(one, inputs)
    for number, (asked, is_handed) in enumerate(zip(plan.asked, plan.handed, strict=True)):
        if asked is not None and not is_handed:
            inputs[number] = _gathered(asked, inputs[number])
    if isinstance(one, Gather):
        fresh = inputs[0]
    elif isinstance(one, Blockwise) and plan.chunks is not None:
        fresh = _as_wanted(one.on(inputs, plan.chunks), one.options)
    else:
        fresh = _renewed(one, inputs)
    return fresh if plan.above is None else _gathered(plan.above, fresh)


def _renewed(one: Expr, inputs: list[Expr]) -> Expr:
    """Return the same operation on what became of its inputs."""
    if isinstance(one, Gather):
        return _gathered(_Moved.of(one), inputs[0])
    if isinstance(one, Dims):
        return _turned(inputs[0], one)
    for new, old in zip(inputs, one.inputs, strict=True):
        if new is not old:
            break
    else:
        return one
    return _as_wanted(one.with_inputs(inputs), one.options)


def _gathered(moved: _Moved, source: Expr) -> Expr:
    """Return what is gathered of an expression that is made: of what is below, if it is like that.

    Gathers and axes in another order are looked through, and stay for others who take them.
    """
    turns: list[Dims] = []
    while moved.changes(source.chunks):
        below: _Moved | None = None
        if isinstance(source, Gather):
            below = moved.after(_Moved.of(source))
        elif isinstance(source, Dims):
            maps = _below_dims(moved, source)
            if maps is not None:
                turns.append(source)
                below = moved.along(maps)
        if below is None:
            source = moved.on(source)
            break
        moved, source = below, source.inputs[0]
    for turn in reversed(turns):
        source = _turned(source, turn)
    return source


def _turned(source: Expr, one: Dims) -> Expr:
    """Return an expression with its axes as another has them; once, if they were turned before."""
    axes = one.axes
    if isinstance(source, Dims):
        axes = tuple(None if axis is None else source.axes[axis] for axis in axes)
        source = source.inputs[0]
    if axes == tuple(range(source.ndim)):
        return source
    if source is one.inputs[0]:
        return one
    return _as_wanted(Dims(source, axes, one.label), one.options)


def _as_wanted(made: Expr, options: Options) -> Expr:
    """Give an expression that stands for another one the options of that one."""
    made.options = options
    return made
