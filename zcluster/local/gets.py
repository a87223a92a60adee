"""Functions of the shape ``get(dsk, keys, **options)``: over a runner, and as a runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from zcluster.graph.columns import row_width
from zcluster.graph.layers import Graph, GraphLayer, HeldLayer, LargeArgument
from zcluster.graph.selecting import parts_of
from zcluster.graph.spec import fill, from_dict
from zcluster.local.driver import imported
from zcluster.local.jobs import grouped
from zcluster.protocol.callables import load_callable
from zcluster.protocol.calls import (
    CALL_ALIAS,
    CALL_INPUTS,
    CALL_PACKED,
    CALL_PACKED_LAST,
    CALL_SINGLE,
    CALL_VALUE,
    make_call,
)
from zcluster.protocol.held import HeldCall, Input, evaluate, passing_objects
from zcluster.protocol.objects import load
from zcluster.protocol.selections import Selection, apply
from zcluster.types import Key

__all__ = ["GetRunner", "get_with"]

#: Types that stand for themselves in a hand-written graph, whatever its keys are.
_PLAIN = frozenset({int, float, bool, type(None), complex})


class _Runner(Protocol):
    def run_graph(self, graph: Graph, **options: Any) -> Sequence[Any]: ...


def get_with(runner: _Runner, dsk: Mapping[Any, Any], keys: Any, **options: Any) -> Any:
    """Run a hand-written graph with a runner; return the values, lists of keys giving tuples."""
    with passing_objects(getattr(runner, "takes_objects", False)):
        graph, numbers = from_dict(dsk, keys)
    values = runner.run_graph(graph, **options) if graph.outputs else []
    return _in_tuples(fill(numbers, graph, values), keys)


def _in_tuples(values: Any, keys: Any) -> Any:
    if type(keys) is not list:
        return values
    return tuple([_in_tuples(*pair) for pair in zip(values, keys, strict=True)])


class GetRunner:
    """Runs graphs with a function of the shape ``get(dsk, keys, **options)``.

    It is given a plain dict, in which a task is a tuple with a callable in front. Where arguments
    are something else than inputs and plain numbers, the callable holds them and takes the inputs:
    nothing in them is taken for a key or a task.

    Parameters
    ----------
    get : callable
        Returns the values of a list of keys, in order.

    Examples
    --------
    >>> graph, _ = from_dict({"x": -1, "y": (abs, "x")}, "y")
    >>> GetRunner(lambda dsk, keys: print(dsk) or [1]).run_graph(graph)
    {'x': -1, 'y': (<built-in function abs>, 'x')}
    [1]
    """

    takes_objects = True

    def __init__(self, get: Callable[..., Any]) -> None:
        self._get = get

    def run_graph(self, graph: Graph, **options: Any) -> list[Any]:
        """Run a graph; return the values of its outputs, in order."""
        keys = [layer.key(position) for layer in graph.layers for position in range(layer.count)]
        dsk = dict(zip(keys, _Computations(graph, keys), strict=True))
        wanted = [
            keys[task] for start, count in graph.outputs for task in range(start, start + count)
        ]
        return list(self._get(dsk, wanted, **options))


class _Computations:
    """The tasks of a graph as they are written by hand."""

    def __init__(self, graph: Graph, keys: list[Key]) -> None:
        self._graph = graph
        self._keys = keys
        self._functions: dict[bytes, Any] = {}

    def __iter__(self) -> Iterator[Any]:
        for layer in self._graph.layers:
            row = 0
            for position in range(layer.count):
                inputs = layer.inputs(position)
                table: Sequence[int] = ()
                if layer.selections is not None:
                    width = row_width(layer.slots, layer.whole_slots, len(inputs))
                    table = [int(number) for number in layer.selections[row : row + width]]
                    row += width
                yield self._computation(layer, position, inputs, table)

    def _computation(
        self, layer: GraphLayer, position: int, inputs: list[int], table: Sequence[int]
    ) -> Any:
        function: Any = None
        if isinstance(layer.objects, HeldLayer):
            function = layer.objects.function
        elif layer.objects is not None:
            return self._held(layer, layer.objects[position], inputs)
        elif layer.function is not None:
            function = self._function(layer)
        constant = layer.constant(position)
        is_simple = min(inputs, default=0) >= 0 and not layer.slots and not layer.whole
        keys = [self._keys[source] for source in inputs if source >= 0]
        if is_simple and layer.call == CALL_INPUTS:
            return (function, *keys)
        if layer.call in (CALL_VALUE, CALL_SINGLE) and is_simple and constant is not None:
            value = load(constant)
            if type(value) in _PLAIN:
                return value if layer.call == CALL_VALUE else (function, value)
        call = _Call(layer.call, function, constant)
        if layer.call == CALL_PACKED_LAST:
            large = self._graph.imports[~inputs.pop()]
            call = _Call(CALL_PACKED, function, large.plan.tobytes())
        call.given = {
            place: _value(self._graph.imports[~source])
            for place, source in enumerate(inputs)
            if source < 0
        }
        taken = [self._graph.layers[number] for number in layer.whole]
        if not is_simple:
            call.arity, call.counts = len(inputs), [other.count for other in taken]
            call.parts = parts_of(
                call.arity, layer.slots, call.counts, layer.whole_slots, table, position
            )
        for other in taken:
            keys += self._keys[other.first : other.first + other.count]
        return (call, *keys)

    def _held(self, layer: GraphLayer, held: Any, inputs: list[int]) -> Any:
        """Return a computation of objects that are here."""
        if layer.call == CALL_VALUE:
            if type(held) in _PLAIN:
                return held
            value = _Call(CALL_ALIAS, None, None)
            value.given[0] = held
            return (value,)
        keys = [self._keys[source] for source in inputs if source >= 0]
        if len(keys) == len(inputs) and not held.kwargs:
            if held.args is None:
                return (held.function, *keys)
            if all(type(part) is Input or type(part) in _PLAIN for part in held.args):
                return (held.function, *[evaluate(part, keys) for part in held.args])
        call = _Call(CALL_INPUTS, held.function, None)
        call.held = held
        call.given = {
            place: _value(self._graph.imports[~source])
            for place, source in enumerate(inputs)
            if source < 0
        }
        return (call, *keys)

    def _function(self, layer: GraphLayer) -> Any:
        packed = layer.function
        assert packed is not None  # looked at before
        function = self._functions.get(packed.digest)
        if function is None:
            function = self._functions[packed.digest] = load_callable(packed.data)
        return function


def _value(item: Any) -> Any:
    return load(item.plan.tobytes()) if isinstance(item, LargeArgument) else imported(item)


class _Call:
    """A call that holds all it needs but the results of other tasks; it is called with those."""

    def __init__(self, form: int, function: Any, constant: Any) -> None:
        self.form = form
        self.function = function
        self.constant = constant
        #: Inputs that no task makes, by place.
        self.given: dict[int, Any] = {}
        self.arity = 0
        self.counts: list[int] = []
        self.parts: list[Selection | None] | None = None
        self.held: HeldCall | None = None

    def __call__(self, *results: Any) -> Any:
        rest = iter(results)
        inputs: list[Any] = []
        while len(inputs) < len(results) + len(self.given):
            place = len(inputs)
            inputs.append(self.given[place] if place in self.given else next(rest))
        if self.parts is not None:
            inputs = [
                value if part is None else apply(value, part)
                for value, part in zip(inputs, self.parts, strict=True)
            ]
            inputs = grouped(inputs, self.arity, self.counts)
        if self.held is not None:
            return self.held.make(inputs)
        return make_call(self.form, self.function, self.constant, inputs)

    def __repr__(self) -> str:
        return f"<call of {getattr(self.function, '__name__', 'nothing')}>"
