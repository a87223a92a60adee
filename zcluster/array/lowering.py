"""From expressions to layers, with NumPy, a layer at a time.

`Lowering` turns each expression into **codes**: an array in the grid of its blocks that says which
task (or import, as `graph.layers` counts them) makes each block. Groups of `fusion` become one
layer each; a `Reduction` a layer for each level of its tree; an `Emitted` writes what it likes with
`Lowering.add`. `lower_arrays` is the whole way for a few collections: simplify, fuse, emit, leave
out what nobody needs, order.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zcluster import config
from zcluster.array.emission import Edges, GroupLayer
from zcluster.array.expressions import (
    Concatenate,
    Data,
    Emitted,
    Expr,
    Generated,
    Held,
    PartOf,
    Reduction,
)
from zcluster.array.fusion import Group, fused, topological
from zcluster.array.points import scattered
from zcluster.array.rows import Rows
from zcluster.array.simplify import named_as, simplified
from zcluster.graph.culling import cull
from zcluster.graph.layers import Graph, GraphLayer, HeldLayer, LargeArgument, Options
from zcluster.graph.order import order_graph
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_ALIAS, CALL_INPUTS, CALL_ROW, CALL_VALUE, LARGE_ARGUMENT
from zcluster.protocol.held import passes_objects
from zcluster.protocol.objects import plan

__all__ = ["Codes", "Edges", "Lowering", "lower_arrays"]

#: Which task or import makes each block.
Codes: TypeAlias = npt.NDArray[np.int64]


class Lowering:
    """Writes the layers of some expressions into a graph.

    Parameters
    ----------
    outputs : sequence of Expr
        What is wanted; simplified.

    Attributes
    ----------
    graph : Graph
    """

    def __init__(self, outputs: Sequence[Expr]) -> None:
        self.graph = Graph()
        self.outputs = outputs
        self._holds = passes_objects()
        order = topological(outputs)
        self._groups = fused(outputs, order)
        takers: dict[str, int] = {}
        for one in order:
            for source in one.inputs:
                takers[source.name] = takers.get(source.name, 0) + 1
        self._takers = takers
        self._codes: dict[str, Codes] = {}
        self._parts: dict[str, Sequence[Codes]] = {}
        members = {one.name for group in self._groups.values() for one in group.members}
        members -= self._groups.keys()
        for one in order:
            # What has no inputs is written when it is first asked for: some of it never is.
            if one.name not in members and one.inputs:
                self.codes(one)

    def codes(self, one: Expr) -> Codes:
        """Return which task or import makes each block, adding layers if that is not said yet."""
        found = self._codes.get(one.name)
        if found is None:
            found = self._codes[one.name] = self._made(one)
        return found

    def put(self, one: Expr, codes: Codes) -> None:
        """Say which tasks make the blocks of an expression that was written with another one."""
        self._codes[one.name] = codes

    def _made(self, one: Expr) -> Codes:
        if isinstance(one, Data):
            return np.full((1,) * one.ndim, self.add_value(one.value, one.name), np.int64)
        if isinstance(one, Held):
            return self._held(one)
        if isinstance(one, Concatenate):
            return np.concatenate([self.codes(source) for source in one.inputs], axis=one.axis)
        if isinstance(one, PartOf):
            self.codes(one.inputs[0])
            return self._parts[one.inputs[0].name][one.number]
        if isinstance(one, Emitted):
            made = one.emit(self)
            if isinstance(made, np.ndarray):
                return made
            self._parts[one.name] = made
            return made[0]
        if isinstance(one, Reduction):
            return self._reduced(one)
        group = self._groups.get(one.name)
        if group is None:  # blocks that are made wherever they are taken; here somebody wants them
            group = Group(one, one.numblocks, [one], {one.name: tuple(range(one.ndim))})
        return GroupLayer(self, group).emit(one.name, []).reshape(one.numblocks)

    def is_made_anew(self, one: Expr) -> bool:
        """Tell whether whoever takes blocks of this makes them: they are cheap, or taken once."""
        if not isinstance(one, Generated) or one.name in self._codes:
            return False
        return one.is_cheap or self._takers.get(one.name, 0) == 1

    # Layers -----------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        function: Callable[..., Any],
        inputs: Rows | Edges | npt.ArrayLike | None = None,
        *,
        constants: Rows | None = None,
        shape: tuple[int, ...] | None = None,
        count: int | None = None,
        reads_only: bool = True,
        options: Options | None = None,
    ) -> Codes:
        """Add a layer; return the numbers of its tasks.

        Parameters
        ----------
        name : str
            Prefix of the keys; unique in the graph.
        function : callable
            ``function(*inputs)``, or ``function(constant, *inputs)`` with constants: the bytes of
            the task's row of int64.
        inputs : Rows, Edges or array_like of int, shape (tasks, inputs)
            Codes: what each task takes. None: nothing; `count` or `shape` says how many tasks.
        constants : Rows of int64, optional
        shape : tuple of int, optional
            The grid of the tasks, for their keys; by default a line.
        reads_only : bool
            The function writes into none of its inputs.

        Returns
        -------
        codes : ndarray of int64, shape (tasks,)
        """
        if inputs is None:
            if count is None:
                count = math.prod(shape or ())
            inputs = np.empty((count, 0), np.int64)
        if not isinstance(inputs, Rows | Edges):
            inputs = Rows.fixed(np.asarray(inputs, np.int64))
        edges = inputs if isinstance(inputs, Edges) else Edges(inputs)
        codes = edges.codes
        layer = GraphLayer(
            name,
            (codes.count,) if shape is None else shape,
            codes.count,
            CALL_INPUTS if constants is None else CALL_ROW,
            None if self._holds else pack_callable(function),
            codes.width,
            codes.indptr,
            codes.values,
            constants=b"" if constants is None else constants.values.astype("<i8").tobytes(),
            offsets=None if constants is None else constants.points * 8,
            slots=edges.slots,
            whole=edges.whole,
            whole_slots=edges.whole_slots,
            selections=edges.selections,
            objects=HeldLayer(function, reads_only) if self._holds else None,
        )
        if options is not None:
            layer.options = options
        first = self.graph.add_layer(layer)
        return np.arange(first, first + codes.count, dtype=np.int64)

    def add_value(self, value: Any, name: str) -> int:
        """Make a value that is here known to the graph; return its code."""
        if self._holds:
            layer = GraphLayer(name, (), 1, CALL_VALUE, objects=[value])
            layer.offsets = [0, 0]
            return self.graph.add_layer(layer)
        planned = plan(value)
        if planned.size > config.get("array.large-value"):
            warnings.warn(_too_large(value, planned.size), UserWarning, stacklevel=2)
        if planned.size > LARGE_ARGUMENT:
            return self.graph.add_import(LargeArgument(planned))
        data = planned.tobytes()
        return self.graph.add_layer(
            GraphLayer(name, (), 1, CALL_VALUE, constants=data, offsets=[0, len(data)])
        )

    def _held(self, one: Held) -> Codes:
        flat = one.blocks.ravel()
        codes = np.empty(len(flat), np.int64)
        for place, value in enumerate(flat):
            if getattr(type(value), "__zcluster_input__", False):
                codes[place] = self.graph.add_import(value)
            else:
                codes[place] = self.add_value(value, f"{one.name}-{place}")
        return codes.reshape(one.numblocks)

    # Reductions -------------------------------------------------------------------------------

    def _reduced(self, one: Reduction) -> Codes:
        """Add the levels of a tree: of each block, of several, and the last."""
        source = one.inputs[0]
        kept = [axis for axis in range(source.ndim) if axis not in one.axes]
        each = math.prod(source.numblocks[axis] for axis in one.axes)
        group = GroupLayer(self, self._groups[one.name])
        if each == 1:
            codes = group.emit(one.name, [one.chunk, one.aggregate], shape=one.numblocks)
            return codes.reshape(one.numblocks)
        token = one.name.rpartition("-")[2]
        stem = one.label.removesuffix("-aggregate").removesuffix("_agg")
        codes = group.emit(f"{stem}_chunk-{token}", [one.chunk]).reshape(source.numblocks)
        codes = codes.transpose([*kept, *one.axes]).reshape(-1, each)
        level = 0
        axis = one.axes[0]
        while codes.shape[1] > one.split_every:
            codes = self._level(
                f"{stem}_combine-{level}-{token}", Joined(one.combine, axis), codes, one
            )
            level += 1
        last = self.add(
            one.name, Joined(one.aggregate, axis), codes, shape=one.numblocks, options=one.options
        )
        return last.reshape(one.numblocks)

    def _level(self, name: str, function: Any, codes: Codes, one: Reduction) -> Codes:
        """Add a level of a tree: `split_every` of each row go into one task."""
        rows, columns = codes.shape
        tasks = -(-columns // one.split_every)
        lengths = np.full(tasks, one.split_every, np.int64)
        lengths[-1] = columns - one.split_every * (tasks - 1)
        points = np.zeros(rows * tasks + 1, np.int64)
        np.cumsum(np.tile(lengths, rows), out=points[1:])
        made = self.add(
            name,
            function,
            Rows.of(points, codes.ravel()),
            shape=(rows, tasks),
            options=one.options,
        )
        return made.reshape(rows, tasks)


def _too_large(value: Any, size: int) -> str:
    """Return what is said of a value that makes a graph large."""
    what = f"an array of shape {value.shape}" if hasattr(value, "shape") else type(value).__name__
    return (
        f"the graph has {what} in it, of {config.format_bytes(size)}, which goes to the cluster "
        "with it; read it there instead (from_array of a mapped file, h5py or zarr), or send it "
        "once and keep it: x = x.persist(), or client.scatter"
    )


class Joined:
    """A function of several arrays, or tuples of arrays, put together along an axis."""

    __slots__ = ("axis", "function")

    def __init__(self, function: Callable[[Any], Any], axis: int) -> None:
        self.function = function
        self.axis = axis

    @property
    def __name__(self) -> str:
        return str(getattr(self.function, "__name__", "combine"))

    def __call__(self, *parts: Any) -> Any:
        if len(parts) == 1:
            return self.function(parts[0])
        if type(parts[0]) is tuple:
            columns = zip(*parts, strict=True)
            return self.function(tuple(np.concatenate(one, axis=self.axis) for one in columns))
        return self.function(np.concatenate(parts, axis=self.axis))


def lower_arrays(outputs: Sequence[Expr]) -> tuple[Graph, list[Codes]]:
    """Write a graph that makes some arrays, and nothing that they do not need.

    Returns
    -------
    graph : Graph
        With its tasks in order, and no outputs yet.
    codes : list of ndarray
        For each array the task that makes each block.
    """
    lowering = Lowering(named_as(scattered(simplified(outputs)), outputs))
    graph = lowering.graph
    codes = [_made_here(graph, lowering.codes(one)) for one in lowering.outputs]
    graph, numbers = cull(graph, np.concatenate([each.reshape(-1) for each in codes]))
    order_graph(graph)
    return graph, [numbers[each] for each in codes]


def _made_here(graph: Graph, codes: Codes) -> Codes:
    """Give blocks that are made elsewhere a task here, which stands for them."""
    elsewhere = codes < 0
    if not elsewhere.any():
        return codes
    sources = codes[elsewhere]
    layer = GraphLayer("alias", (len(sources),), len(sources), CALL_ALIAS, None, 1, None, sources)
    first = graph.add_layer(layer)
    codes = codes.copy()
    codes[elsewhere] = np.arange(first, first + len(sources))
    return codes
