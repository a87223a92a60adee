"""Culling: tasks that no output needs are taken out, a layer at a time, on arrays.

Collections emit whole layers, because that is what NumPy does quickly, and ask for some of their
tasks. Nothing is done for a task: a layer costs a few array operations, and a graph of which every
task is needed is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zcluster.graph.columns import row_width
from zcluster.graph.layers import Graph, GraphLayer, HeldLayer

__all__ = ["cull"]

_Integers = npt.NDArray[np.int64]

#: Names are written one by one; with more tasks than this left of a layer they are numbered anew.
_MOST_NAMED = 1000


def cull(graph: Graph, wanted: npt.ArrayLike) -> tuple[Graph, _Integers]:
    """Take out the tasks that the wanted ones do not need.

    Parameters
    ----------
    graph : Graph
        Without outputs; it is used up.
    wanted : array_like of int
        Tasks.

    Returns
    -------
    graph : Graph
        The same graph if every task is needed.
    numbers : ndarray of int64, shape (tasks before,)
        The new number of each task; -1 for those that are gone.

    Examples
    --------
    >>> graph = Graph()
    >>> graph.add_layer(GraphLayer("x", (3,), 3, 0)), graph.add_layer(
    ...     GraphLayer("y", (3,), 3, 0, None, 1, None, [0, 1, 2]))
    (0, 3)
    >>> culled, numbers = cull(graph, [4])
    >>> culled.count, numbers.tolist(), culled.key(1)
    (2, [-1, 0, -1, -1, 1, -1], "('y', 1)")
    """
    needed = _needed(graph, np.asarray(wanted, np.int64))
    if needed.all():
        return graph, np.arange(graph.count, dtype=np.int64)
    numbers = np.cumsum(needed) - 1
    numbers[~needed] = -1
    culled = Graph()
    for value in graph.imports:
        culled.add_import(value)  # those that are not needed any more are dropped below
    layers: dict[int, int] = {}  # old number to new one
    for number, layer in enumerate(graph.layers):
        keep = needed[layer.first : layer.first + layer.count]
        if not keep.any():
            continue
        layers[number] = len(culled.layers)
        kept = layer if keep.all() else _kept(layer, np.flatnonzero(keep))
        kept.indices = _renumbered(kept.indices, numbers)
        kept.whole = [layers[k] for k in kept.whole]
        culled.add_layer(kept)
    _drop_imports(culled)
    return culled, numbers


def _needed(graph: Graph, wanted: _Integers) -> npt.NDArray[np.bool_]:
    """Return which tasks are needed. Inputs come before the tasks that take them."""
    needed = np.zeros(graph.count, np.bool_)
    needed[wanted] = True
    for layer in reversed(graph.layers):
        own = slice(layer.first, layer.first + layer.count)
        if not needed[own].any():
            continue
        for k in layer.whole:
            taken = graph.layers[k]
            needed[taken.first : taken.first + taken.count] = True
        indices = np.asarray(layer.indices, np.int64)
        if not len(indices):
            continue
        rows = _rows_of(layer)
        inner = indices >= layer.first
        if inner.any():  # a chain within the layer: in steps, from its end
            for task, source in zip(rows[inner][::-1], indices[inner][::-1], strict=True):
                if needed[layer.first + task]:
                    needed[source] = True
        taken_now = indices[needed[own][rows]]
        needed[taken_now[taken_now >= 0]] = True
    return needed


def _rows_of(layer: GraphLayer) -> _Integers:
    """Return the position of the task that each edge belongs to."""
    if layer.indptr is None:
        return np.repeat(np.arange(layer.count), layer.arity)
    return np.repeat(np.arange(layer.count), _lengths(layer.indptr))


def _lengths(indptr: Any) -> _Integers:
    points = np.asarray(indptr, np.int64)
    return points[1:] - points[:-1]


def _kept(layer: GraphLayer, positions: _Integers) -> GraphLayer:
    """Return a layer with some of its tasks; if they are few, their keys read as they did."""
    keys = layer.keys
    if keys is not None:
        keys = [keys[position] for position in positions]
    elif len(positions) <= _MOST_NAMED:
        keys = [str(layer.key(int(position))) for position in positions]
    indptr, indices = _rows_taken(layer.indptr, layer.arity, layer.indices, positions)
    offsets, constants = layer.offsets, layer.constants
    if offsets is not None:
        data = np.frombuffer(constants, np.uint8)
        starts, chosen = _rows_taken(offsets, -1, data, positions)
        offsets, constants = starts, np.asarray(chosen, np.uint8).tobytes()
    selections = layer.selections
    if selections is not None:
        widths = _widths(layer)
        _, selections = _rows_taken(widths, -1, selections, positions)
    objects: Any = layer.objects
    if objects is not None and not isinstance(objects, HeldLayer):
        objects = [objects[position] for position in positions]
    return GraphLayer(
        layer.name,
        (len(positions),),
        len(positions),
        layer.call,
        layer.function,
        layer.arity,
        indptr,
        indices,
        None if layer.orders is None else np.asarray(layer.orders)[positions],
        constants,
        offsets,
        keys,
        layer.shared,
        layer.slots,
        layer.whole,
        layer.whole_slots,
        selections,
        layer.options,
        objects=objects,
    )


def _widths(layer: GraphLayer) -> _Integers:
    """Return where the row of each task begins in the table of selections, and where it ends."""
    assert layer.selections is not None  # looked at before
    if layer.indptr is None:
        width = len(layer.selections) // layer.count
        return np.arange(layer.count + 1, dtype=np.int64) * width
    arities = np.diff(np.asarray(layer.indptr, np.int64))
    by_arity = {a: row_width(layer.slots, layer.whole_slots, int(a)) for a in np.unique(arities)}
    widths = np.zeros(layer.count + 1, np.int64)
    for arity, width in by_arity.items():
        widths[1:][arities == arity] = width
    return np.cumsum(widths)


def _rows_taken(
    indptr: Any, arity: int, values: Sequence[int] | npt.NDArray[Any], positions: _Integers
) -> tuple[_Integers | None, npt.NDArray[Any]]:
    """Return some rows of a table in compressed sparse rows, or of one with rows of one length."""
    values = np.asarray(values)
    if indptr is None:
        return None, values.reshape(-1, arity)[positions].ravel() if arity else values[:0]
    starts = np.asarray(indptr, np.int64)
    lengths = np.diff(starts)[positions]
    points = np.zeros(len(positions) + 1, np.int64)
    np.cumsum(lengths, out=points[1:])
    at = np.arange(points[-1]) + np.repeat(starts[positions] - points[:-1], lengths)
    return points, values[at]


def _renumbered(indices: Any, numbers: _Integers) -> npt.NDArray[Any]:
    renumbered = np.array(indices, np.int64)
    own = renumbered >= 0
    renumbered[own] = numbers[renumbered[own]]
    return renumbered


def _drop_imports(graph: Graph) -> None:
    """Forget the imports that nobody takes any more."""
    if not graph.imports:
        return
    taken = np.zeros(len(graph.imports), np.bool_)
    for layer in graph.layers:
        indices = np.asarray(layer.indices, np.int64)
        taken[~indices[indices < 0]] = True
    if taken.all():
        return
    places = np.cumsum(taken) - 1
    for layer in graph.layers:
        indices = np.asarray(layer.indices, np.int64)
        negative = indices < 0
        if negative.any():
            indices = indices.copy()
            indices[negative] = ~places[~indices[negative]]
            layer.indices = indices
    kept = [value for value, is_taken in zip(graph.imports, taken, strict=True) if is_taken]
    graph.set_imports(kept)
