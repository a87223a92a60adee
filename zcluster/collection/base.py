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

If it has a method ``kept(values)`` as well, the collections can be persisted: that returns the
same collections with these values, or futures of them, in the place of their graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from zcluster.errors import InvalidArgument
from zcluster.graph.layers import Graph
from zcluster.types import Key

__all__ = ["Collection", "Lowered", "Rebuild", "is_collection", "keeper", "lower"]

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

    return graph, Rebuilding(parts)


class Rebuilding:
    """Makes the results of collections of several kinds.

    Parameters
    ----------
    parts : list of (places, count, rebuild)
        For each kind, where its collections stand, and how many of the outputs are theirs.
    """

    def __init__(self, parts: list[tuple[list[int], int, Rebuild]]) -> None:
        self._parts = parts

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        return self._made(values, [rebuild for _, _, rebuild in self._parts])

    def kept(self, values: Sequence[Any]) -> list[Any]:
        """Return the collections with these values in the place of their graphs."""
        return self._made(values, [keeper(rebuild) for _, _, rebuild in self._parts])

    def _made(self, values: Sequence[Any], makers: list[Rebuild]) -> list[Any]:
        results: list[Any] = [None] * sum(len(places) for places, _, _ in self._parts)
        start = 0
        for (places, count, _), maker in zip(self._parts, makers, strict=True):
            for place, result in zip(places, maker(values[start : start + count]), strict=True):
                results[place] = result
            start += count
        return results


def keeper(rebuild: Rebuild) -> Rebuild:
    """Return what persists collections.

    Raises
    ------
    InvalidArgument
        If their kind cannot be persisted.
    """
    kept: Rebuild | None = getattr(rebuild, "kept", None)
    if kept is None:
        raise InvalidArgument(
            "a collection of this kind cannot be persisted: what its __zcluster_lower__ returns "
            "has no kept(); compute it"
        )
    return kept
