"""The graph as users see it: a lazy mapping from keys to tasks, over the layers.

``x.dask`` is a `GraphView`. Its length costs nothing, its first item costs one task, and the rest
is made as it is asked for::

    >>> from zcluster.graph.spec import from_dict
    >>> graph, _ = from_dict({"x": 1, "y": (abs, "x")}, "y")
    >>> dict(GraphView(graph))
    {'x': 1, 'y': (<built-in function abs>, 'x')}

A task with keywords shows as ``(apply, function, [args], (dict, [[name, value], …]))``, an input
of which the task takes a part as ``(getitem, key, part)``, with slices or the number of an item,
and an input that comes from elsewhere as the object that stands for it. The view is a graph in the
sense of `spec`: it can be given to any ``get``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import getitem
from typing import Any

from zcluster.graph.layers import Graph, GraphLayer, HeldLayer, LargeArgument
from zcluster.graph.selecting import RowsOf, parts_of
from zcluster.protocol.callables import load_callable
from zcluster.protocol.calls import (
    CALL_ALIAS,
    CALL_INPUTS,
    CALL_PACKED_LAST,
    CALL_ROW,
    CALL_SINGLE,
    CALL_VALUE,
    unpack_arguments,
)
from zcluster.protocol.held import HeldCall, Input, Nested, list_of
from zcluster.protocol.objects import load
from zcluster.protocol.selections import Part, Selection
from zcluster.types import Key

__all__ = ["GraphView", "apply"]


def apply(function: Callable[..., Any], args: list[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a function: how a call with keywords is written as a task."""
    return function(*args, **kwargs)


class GraphView(Mapping[Key, Any]):
    """A read-only view of a graph as a mapping from keys to tasks or values.

    Parameters
    ----------
    graph : Graph
        It must not be merged into another one while it is looked at.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._named: dict[Key, int] | None = None
        self._functions: dict[bytes, Callable[..., Any]] = {}
        self._rows: dict[int, RowsOf] = {}  # by first task of the layer

    def __repr__(self) -> str:
        return f"<GraphView: {len(self)} tasks in {len(self._graph.layers)} layers>"

    def __len__(self) -> int:
        return self._graph.count

    def __iter__(self) -> Iterator[Key]:
        for layer in self._graph.layers:
            for position in range(layer.count):
                yield layer.key(position)

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not None

    def __getitem__(self, key: Key) -> Any:
        task = self._find(key)
        if task is None:
            raise KeyError(key)
        layer = self._graph.layer_of(task)
        return self._task(layer, task - layer.first)

    def _find(self, key: object) -> int | None:
        """Return the task that has a key."""
        named = self._names()
        try:
            task = named.get(key)
            if task is not None:
                return task
            first = named.get((_Shaped, key[0])) if type(key) is tuple and key else None
        except TypeError:  # not hashable
            return None
        if first is None:
            return None
        index: tuple[Any, ...] = key[1:]  # type: ignore[index]
        for layer in self._graph.layers:
            # Layers of one name and different shapes may follow each other.
            if layer.first >= first and layer.keys is None and layer.name == key[0]:  # type: ignore[index]
                position = _position(layer.shape, index)
                if position is not None:
                    return layer.first + position
        return None

    def _names(self) -> dict[Key, int]:
        """Return the tasks of the keys that are named, and the first task of each shaped name."""
        named = self._named
        if named is None:
            named = {}
            for layer in self._graph.layers:
                if layer.keys is not None:
                    named.update({key: layer.first + p for p, key in enumerate(layer.keys)})
                elif not layer.shape:
                    named[layer.name] = layer.first
                else:
                    named.setdefault((_Shaped, layer.name), layer.first)
            self._named = named
        return named

    def _input(self, number: int) -> Any:
        if number >= 0:
            return self._graph.key(number)
        value = self._graph.imports[~number]
        return load(value.plan.tobytes()) if isinstance(value, LargeArgument) else value

    def _inputs(self, layer: GraphLayer, position: int, numbers: Sequence[int]) -> list[Any]:
        """Return what a task takes, as it is written in a task."""
        listed = [self._input(number) for number in numbers]
        taken = [self._graph.layers[k] for k in layer.whole]
        groups = [[other.key(p) for p in range(other.count)] for other in taken]
        if not (layer.slots or layer.whole_slots):
            return [*listed, *groups]
        row: list[int] = []
        if layer.selections is not None:
            rows = self._rows.get(layer.first)
            if rows is None:
                rows = self._rows[layer.first] = RowsOf(layer)
            row = rows.row(position)
        counts = [other.count for other in taken]
        parts = iter(parts_of(len(listed), layer.slots, counts, layer.whole_slots, row, position))
        listed = [_part(value, next(parts)) for value in listed]
        return [*listed, *([_part(value, next(parts)) for value in group] for group in groups)]

    def _task(self, layer: GraphLayer, position: int) -> Any:
        """Return the task tuple (or the value, or the key) at a position of a layer."""
        constant = layer.constant(position)
        numbers = layer.inputs(position)
        inputs = self._inputs(layer, position, numbers)
        if isinstance(layer.objects, HeldLayer):
            first = () if constant is None else (bytes(constant),)
            return (layer.objects.function, *first, *inputs)
        if layer.objects is not None:
            held = layer.objects[position]
            return held if layer.call == CALL_VALUE else _written(held, inputs)
        if layer.call == CALL_ALIAS:
            return inputs[0]
        if layer.call == CALL_VALUE or layer.function is None:
            return None if constant is None else load(constant)
        function = self._function(layer)
        if layer.call == CALL_INPUTS:
            return (function, *inputs)
        if layer.call == CALL_PACKED_LAST:
            constant = self._graph.imports[~numbers[-1]].plan.tobytes()
        assert constant is not None  # the other forms have one
        if layer.call == CALL_ROW:
            return (function, bytes(constant), *inputs)
        if layer.call == CALL_SINGLE:
            return (function, load(constant))
        args, kwargs = unpack_arguments(constant, inputs)
        return _task_of(function, args, kwargs)

    def _function(self, layer: GraphLayer) -> Callable[..., Any]:
        packed = layer.function
        assert packed is not None  # looked at before
        function = self._functions.get(packed.digest)
        if function is None:
            function = self._functions[packed.digest] = load_callable(packed.data)
        return function


def _task_of(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if not kwargs:
        return (function, *args)
    return (apply, function, list(args), (dict, [[k, v] for k, v in kwargs.items()]))


def _part(value: Any, part: Selection | None) -> Any:
    """Return a part of an input as it is written in a task."""
    if part is None:
        return value
    if type(part) is Part:
        return (getitem, value, part.number)
    assert not isinstance(part, Part)  # there are two kinds
    return (getitem, value, part.slices() or Ellipsis)


def _written(call: HeldCall, inputs: list[Any]) -> Any:
    """Return a call that was made ready to be made here as a task."""
    if call.args is None:
        return (call.function, *inputs)
    args = [_written_part(part, inputs) for part in call.args]
    kwargs = {name: _written_part(part, inputs) for name, part in call.kwargs.items()}
    return _task_of(call.function, args, kwargs)


def _written_part(part: Any, inputs: list[Any]) -> Any:
    if type(part) is Input:
        return inputs[part.number]
    if type(part) is Nested:
        parts = [_written_part(inner, inputs) for inner in part.args]
        return parts if part.function is list_of else (part.function, *parts)
    return part


class _Shaped:
    """Marks the names of layers with a shape among the keys."""


def _position(shape: tuple[int, ...], index: tuple[Any, ...]) -> int | None:
    """Return the position in C order, or None if there is no such block."""
    if len(index) != len(shape):
        return None
    position = 0
    for i, length in zip(index, shape, strict=True):
        if not isinstance(i, int) or not 0 <= i < length:
            return None
        position = position * length + i
    return position
