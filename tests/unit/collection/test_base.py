"""Collections of several kinds go into one graph, each kind at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zcluster.collection.base import Collection, Lowered, is_collection, lower
from zcluster.collection.compute import Computable
from zcluster.graph.layers import GraphBuilder
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import pack_call

calls: list[int] = []


class Squares(Computable):
    """A collection of some numbers' squares, one task each."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    @staticmethod
    def __zcluster_lower__(collections: Sequence[Any]) -> Lowered:
        calls.append(len(collections))
        builder = GraphBuilder()
        packed = pack_callable(abs)
        for collection in collections:
            for number in collection.numbers:
                builder.add_call("abs", packed, pack_call((number,), {}), ())
        graph = builder.finish()
        graph.want(range(graph.count))

        def rebuild(values: Sequence[Any]) -> list[Any]:
            results, at = [], 0
            for collection in collections:
                results.append(list(values[at : at + len(collection.numbers)]))
                at += len(collection.numbers)
            return results

        return graph, rebuild


class Others(Squares):
    """Another kind, with its own lowering."""

    @staticmethod
    def __zcluster_lower__(collections: Sequence[Any]) -> Lowered:
        graph, rebuild = Squares.__zcluster_lower__(collections)
        return graph, lambda values: [tuple(result) for result in rebuild(values)]


def test_each_kind_is_lowered_once_and_results_come_in_order() -> None:
    calls.clear()
    collections = [Squares(1, 2), Others(3), Squares(4), Others(5, 6), Squares()]
    graph, rebuild = lower(collections)
    assert calls == [3, 2]
    assert graph.count == 6
    outputs = [t for first, count in graph.outputs for t in range(first, first + count)]
    assert outputs == [0, 1, 2, 3, 4, 5]
    assert rebuild([f"v{t}" for t in outputs]) == [
        ["v0", "v1"],
        ("v3",),
        ["v2"],
        ("v4", "v5"),
        [],
    ]


def test_what_can_be_lowered_is_a_collection() -> None:
    assert is_collection(Squares(1))
    assert isinstance(Squares(1), Collection)
    assert not is_collection(Squares)
    assert not is_collection([Squares(1)])
