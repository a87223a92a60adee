"""What a hand-written graph is, and how it becomes arrays. This is the specification.

A **graph** is a mapping from keys to computations::

    {"x": 1, "y": (add, "x", 2), "z": (sum, ["x", "y", 10])}

- A **key** is any hashable value that is not a task: ``"x"``, ``5``, ``("x", 0, 1)``. A tuple that
  begins with a string is a key, never a task.
- A **task** is a tuple with a callable in front: ``(add, "x", 2)`` runs ``add(x, 2)``. Functions,
  classes, builtins, partials, lambdas and bound methods are callables. Any other tuple is data:
  ``(2, 3)`` is the pair.
- An **argument** is a key of the graph, which stands for its result; a task (a nested one runs
  where the outer one runs, as part of it); a list of arguments, in lists to any depth; or a
  literal, which is anything else: it is passed on as it is. A string that equals no key is a
  literal, as are ``None`` and NaN. Only lists are searched: a key inside a dict or a tuple is data.
- A **computation** is an argument: a task, a literal, a key (then the two keys share one result),
  or a list of those.

There are no cycles. Keys do not recurse: a chain may be as long as memory allows. A graph is data;
`istask`, `get_dependencies` and `toposort` read it without running anything.

`from_dict` turns what the wanted keys need into a `Graph`: one task for each key, tasks of one
callable side by side in one layer wherever the edges allow, ranks by `order`. **Only what the
wanted keys need is run**; ``cull=False`` keeps the rest too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from zcluster.errors import InvalidGraph
from zcluster.graph.conversion import Reader, number_tasks
from zcluster.graph.layers import Graph
from zcluster.graph.order import order_graph, ranks
from zcluster.graph.tasks import (
    flatten,
    get_dependencies,
    ishashable,
    istask,
    sorted_numbers,
    taken_keys,
)

__all__ = [
    "fill",
    "flatten",
    "from_dict",
    "get_dependencies",
    "ishashable",
    "istask",
    "order",
    "toposort",
]


def toposort(dsk: Mapping[Any, Any]) -> list[Any]:
    """Return the keys so that each comes after those it takes.

    Raises
    ------
    InvalidGraph
        If there is a cycle; it names one.
    """
    keys, dependencies = _by_number(dsk)
    return [keys[number] for number in sorted_numbers(keys, dependencies)]


def order(dsk: Mapping[Any, Any]) -> dict[Any, int]:
    """Return the rank of each key: smaller runs first. See `zcluster.graph.order`.

    Examples
    --------
    >>> from operator import add
    >>> order({"z": (add, "x", "y"), "x": 1, "y": 2})
    {'x': 0, 'y': 1, 'z': 2}
    """
    keys, dependencies = _by_number(dsk)
    numbers = sorted_numbers(keys, dependencies)
    places = [0] * len(keys)
    for place, number in enumerate(numbers):
        places[number] = place
    rows = [[places[d] for d in dependencies[number]] for number in numbers]
    indptr = list(accumulate(map(len, rows), initial=0))
    found = ranks(indptr, [d for row in rows for d in row])
    return {
        keys[number]: int(rank)
        for rank, number in sorted(zip(found, numbers, strict=True), key=lambda pair: pair[0])
    }


def _by_number(dsk: Mapping[Any, Any]) -> tuple[list[Any], list[list[int]]]:
    keys = list(dsk)
    numbers = {key: number for number, key in enumerate(keys)}
    dependencies = [[numbers[taken] for taken in taken_keys(dsk, dsk[key])] for key in keys]
    return keys, dependencies


def from_dict(dsk: Mapping[Any, Any], keys: Any, *, cull: bool = True) -> tuple[Graph, Any]:
    """Turn a hand-written graph into arrays.

    Parameters
    ----------
    dsk : mapping
        The graph; see the top of this file.
    keys : key, or (nested) list of keys
        What is wanted; these become the graph's outputs.
    cull : bool
        Leave out what the wanted keys do not need. Otherwise all of it is run: what nobody takes
        becomes an output too, after the wanted ones.

    Returns
    -------
    graph : Graph
    numbers : int or nested list of int
        The wanted tasks, nested as `keys`; see `fill`.

    Raises
    ------
    InvalidGraph
        For a cycle, a key that is not there or not hashable, or tasks nested too deep.
    NotSerializable
        If a callable or literal cannot travel.
    """
    reader = Reader(dsk)
    try:
        wanted = reader.want(keys)
        if not cull:
            for key in dsk:
                reader.number(key)
        reader.read()
    except RecursionError:
        raise InvalidGraph(
            "tasks or lists are nested too deep inside one another; give the inner tasks keys of "
            "their own: a chain of keys may have any length"
        ) from None
    graph, numbers = reader.graph, number_tasks(reader)
    order_graph(graph)
    result = _map_nested(wanted, numbers.__getitem__)
    graph.want(list(flatten(result)))
    if not cull:
        taken = {i for layer in graph.layers for i in map(int, layer.indices)}
        graph.want([task for task in range(graph.count) if task not in taken])
    return graph, result


def fill(numbers: Any, graph: Graph, values: Sequence[Any]) -> Any:
    """Put the values of a graph's outputs where `from_dict` returned their numbers."""
    tasks = [t for first, count in graph.outputs for t in range(first, first + count)]
    by_task = dict(zip(tasks, values, strict=True))
    return _map_nested(numbers, by_task.__getitem__)


def _map_nested(nested: Any, function: Callable[[Any], Any]) -> Any:
    if type(nested) is list:
        return [_map_nested(item, function) for item in nested]
    return function(nested)
