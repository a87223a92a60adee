"""What a lazy collection is: something that can write its part of a graph.

The whole contract is one static method. It is called once for all collections of a kind that are
computed together, so that what they share is made once::

    class Answer:
        @staticmethod
        def __zcluster_lower__(collections):
            builder = GraphBuilder()
            ...                          # add calls; make outputs with `graph.want`
            return builder.finish(), lambda values: [...]   # one result for each collection

For a runner in this process it is called while `zcluster.protocol.held.passes_objects` says so:
calls should then be held as they are, but may be packed as ever.

The second item makes the collections' results of the values of the graph's outputs, in the order
of the outputs.

A second static method, ``__zcluster_persisted__(collections, results)``, returns the same
collections with their results in the place of their graphs, or futures of them: `persist`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from zcluster.graph.layers import Graph
from zcluster.types import Key

__all__ = ["Collection", "Lowered", "Rebuild", "is_collection", "lower"]

#: From the values of a graph's outputs to the results of the collections.
Rebuild: TypeAlias = Callable[[Sequence[Any]], list[Any]]

Lowered: TypeAlias = tuple[Graph, Rebuild]


@runtime_checkable
class Collection(Protocol):
    """A lazy collection. `zcluster.collection.compute.Computable` has all but the first."""

    @staticmethod
    def __zcluster_lower__(collections: Sequence[Any]) -> Lowered:
        """Return a graph for all of these collections, and how to make their results."""
        ...

    def compute(self, **kwargs: Any) -> Any: ...

    def visualize(
        self, filename: Any = "mydask", *, optimize_graph: bool = False, **kwargs: Any
    ) -> Any: ...

    @property
    def dask(self) -> Mapping[Key, Any]: ...


def is_collection(value: object) -> bool:
    """Tell whether a value is a lazy collection, which `compute` makes a result of."""
    return hasattr(type(value), "__zcluster_lower__")


def lower(collections: Sequence[Any]) -> Lowered:
    """Lower collections of any kinds into one graph, each kind at once.

    Returns
    -------
    graph : Graph
    rebuild : callable
        From the values of the outputs to one result for each of the collections, in their order.
    """
    kinds: dict[Any, list[int]] = {}
    for place, collection in enumerate(collections):
        kinds.setdefault(type(collection).__zcluster_lower__, []).append(place)
    graph = Graph()
    parts: list[tuple[list[int], int, Rebuild]] = []
    for lower_kind, places in kinds.items():
        part, rebuild = lower_kind([collections[place] for place in places])
        parts.append((places, sum(count for _, count in part.outputs), rebuild))
        if graph.count:
            graph.merge(part)
        else:
            graph = part

    def rebuild_all(values: Sequence[Any]) -> list[Any]:
        results: list[Any] = [None] * len(collections)
        start = 0
        for places, count, rebuild in parts:
            for place, result in zip(places, rebuild(values[start : start + count]), strict=True):
                results[place] = result
            start += count
        return results

    return graph, rebuild_all
