"""Small graphs of which one task at a time can run: a chain leaves the scheduler nothing to decide.

There is one order to run it in, no second thread could take part, and each result is there when
the next task asks. So nothing is assigned or reported: what a user feels as "one call" or "the sum
of a block" costs what its tasks cost. Results are handed on by the same `Shelf` as in any run.
Graphs with retries, parts of results or futures in them are left to `zcluster.local.run`, and so
are those that somebody watches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zcluster.graph.layers import DEFAULT_OPTIONS, Graph, GraphLayer, HeldLayer
from zcluster.local.shelf import Shelf
from zcluster.protocol.calls import CALL_INPUTS, CALL_ROW, CALL_VALUE

__all__ = ["Chain", "chain_of"]

#: Tasks, those that only hand a value on among them: looking through more would cost something.
_MOST = 16


class Chain:
    """One run of a graph in which each task takes the result of the one before; see `chain_of`.

    Attributes
    ----------
    events : int
        Messages that a core has heard: none.
    first : int
        The number of the graph's first task.
    """

    events = 0
    first = 0

    def __init__(self, graph: Graph, tasks: list[tuple[GraphLayer, int, list[int]]]) -> None:
        self._tasks = tasks
        self._outputs = [
            task for first, count in graph.outputs for task in range(first, first + count)
        ]
        self._shelf = shelf = Shelf(0)
        shelf.left = left = [0] * graph.count
        for layer in graph.layers:
            if layer.call == CALL_VALUE and not isinstance(layer.objects, HeldLayer):
                tasks_here = range(layer.first, layer.first + layer.count)
                shelf.values.update(zip(tasks_here, layer.objects or (), strict=True))
                shelf.shared.update(tasks_here)
        for _, _, inputs in tasks:
            for source in inputs:
                left[source] += 1
        for task in self._outputs:
            left[task] += 1

    def run(self) -> BaseException | None:
        """Run the tasks; return the exception of the one that failed, if one did."""
        values = self._shelf.values
        for layer, task, inputs in self._tasks:
            try:
                values[task] = self._called(layer, task - layer.first, inputs)
            except Exception as error:  # not Ctrl-C, nor SystemExit: they leave by themselves
                return error
        return None

    def _called(self, layer: GraphLayer, position: int, inputs: list[int]) -> Any:
        held, shelf = layer.objects, self._shelf
        if not isinstance(held, HeldLayer):
            assert held is not None  # by `chain_of`
            return held[position].make(shelf.take(inputs, False) if inputs else ())
        shares = held.reads_only
        given = shelf.take(inputs, False, None, shares, not shares) if inputs else []
        if layer.call == CALL_ROW:
            return held.function(bytes(layer.constant(position) or b""), *given)
        return held.function(*given)

    def outputs(self) -> list[Any]:
        """Return the values of the outputs."""
        values = self._shelf.values
        return [values[task] for task in self._outputs]

    def clear(self) -> None:
        """Let go of all values: frames of the user's traceback may still refer to this run."""
        self._shelf.values.clear()
        self._tasks.clear()


def chain_of(graph: Graph) -> Chain | None:
    """Return the run of a small graph of which one task at a time can run; None for any other.

    Examples
    --------
    >>> from zcluster.graph.spec import from_dict
    >>> from zcluster.protocol.held import passing_objects
    >>> with passing_objects(True):
    ...     line, _ = from_dict({"x": (abs, -1), "y": (abs, "x")}, "y")
    ...     pair, _ = from_dict({"x": (abs, -1), "y": (abs, -2)}, ["x", "y"])
    >>> chain_of(line) is None, chain_of(pair) is None
    (False, True)
    """
    if graph.count > _MOST or graph.imports or not all(map(_is_plain, graph.layers)):
        return None
    tasks: list[tuple[GraphLayer, int, list[int]]] = []
    last = -1
    for layer, task in _calls(graph):
        inputs = layer.inputs(task - layer.first)
        if last >= 0 and last not in inputs:
            return None
        tasks.append((layer, task, inputs))
        last = task
    wanted = max((first + count for first, count in graph.outputs), default=0)
    if wanted > graph.count or not any(
        first <= last < first + count for first, count in graph.outputs
    ):
        return None  # what nobody needs does not run; what is not there is told
    return Chain(graph, tasks)


def _is_plain(layer: GraphLayer) -> bool:
    """Tell whether the calls of a layer are here, take whole results, and want nothing special."""
    if layer.objects is None or layer.options is not DEFAULT_OPTIONS or layer.slots or layer.whole:
        return False
    return layer.call in (CALL_INPUTS, CALL_ROW) or not isinstance(layer.objects, HeldLayer)


def _calls(graph: Graph) -> Iterator[tuple[GraphLayer, int]]:
    """Yield the tasks that call something."""
    for layer in graph.layers:
        if layer.call != CALL_VALUE:
            for task in range(layer.first, layer.first + layer.count):
                yield layer, task
