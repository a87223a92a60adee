"""Whole graphs through a client."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import zcluster
from zcluster.client.client import Client
from zcluster.client.future import Future
from zcluster.client.graphs import submit_graph
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import Graph, GraphBuilder
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import pack_call


class Squares:
    """A collection of two tasks, which are its result if `is_plain`."""

    is_plain = False

    def __init__(self, *values: int) -> None:
        self.values = values

    @staticmethod
    def __zcluster_lower__(
        collections: Sequence[Squares],
    ) -> tuple[Graph, Callable[[list[Any]], list[Any]]]:
        builder = GraphBuilder()
        function = pack_callable(abs)
        sizes = [len(one.values) for one in collections]
        for one in collections:
            for value in one.values:
                builder.add_call("abs", function, pack_call((value,), {}), ())
        graph = builder.finish()
        graph.outputs = [(0, graph.count)]

        def rebuild(values: list[Any]) -> list[Any]:
            rest = iter(values)
            return [[next(rest) for _ in range(size)] for size in sizes]

        return graph, rebuild


class Plain(Squares):
    """A collection whose one output is its result."""

    @staticmethod
    def __zcluster_lower__(collections: Sequence[Squares]) -> Any:
        return Squares.__zcluster_lower__(collections)[0], list


def test_a_graph_gives_its_outputs_in_order(client: Client) -> None:
    builder = GraphBuilder()
    function = pack_callable(operator.add)
    two = builder.add_call("x", pack_callable(abs), pack_call((-2,), {}), ())
    big = pack_call((np.arange(50_000), 0), {})
    large = builder.add_call("big", function, big, ())
    last = builder.add_call("y", function, pack_call((1, 1), {}), ())
    graph = builder.finish()
    graph.outputs = [(last, 1), (two, 1), (large, 1)]
    futures = submit_graph(client, graph)
    assert [future.key for future in futures] == ["y", "x", "big"]
    assert client.gather(futures[:2]) == [2, 2]
    assert futures[2].result(5)[-1] == 49_999


def test_a_graph_may_import_futures(client: Client) -> None:
    future = client.submit(operator.neg, 5)
    builder = GraphBuilder()
    entry = builder.add_import(future)
    builder.add_call("x", pack_callable(abs), pack_call((future,), {}), (entry,))
    graph = builder.finish()
    graph.outputs = [(0, 1)]
    assert client.run_graph(graph) == [5]
    graph.imports[0] = "something else"
    with pytest.raises(InvalidArgument, match="found a str among the arguments"):
        client.run_graph(graph)


@pytest.mark.parametrize("sync", [True, False])
def test_collections_are_computed_together_by_kind(client: Client, sync: bool) -> None:
    mixed = [Squares(-1, 2), Plain(-7), "as it is", Squares(-3)]
    made = client.compute(mixed, sync=sync)
    if not sync:
        assert isinstance(made[1], Future)
        made = client.gather(made)
    assert made == [[1, 2], 7, "as it is", [3]]


def test_one_collection_gives_one_result(client: Client) -> None:
    assert client.compute(Squares(-1, -2), sync=True) == [1, 2]
    assert client.compute(Plain(-1)).result(5) == 1
    assert client.compute(3) == 3


def test_a_container_of_collections_gives_one_result(client: Client) -> None:
    shape = {"a": Plain(-1), "b": [Squares(-2, 3), "as it is"]}
    assert client.compute(shape, sync=True) == {"a": 1, "b": [[2, 3], "as it is"]}
    whole, alone = client.compute([{"a": Plain(-1)}, Plain(-2)])
    assert isinstance(whole, Future)
    assert client.gather([whole, alone]) == [{"a": 1}, 2]
    assert client.compute(shape, traverse=False) is shape
    plain = {"a": 1}
    assert client.compute(plain) is plain
    shared: list[Any] = [Plain(-1)]
    for _ in range(50):
        shared = [shared, shared]
    assert isinstance(client.compute([shared])[0].result(5), list)
    endless: list[Any] = [Plain(-1)]
    endless.append(endless)
    with pytest.raises(InvalidArgument, match="a list that contains itself"):
        client.compute([endless])


def test_collections_among_arguments_are_computed(client: Client) -> None:
    lazy = zcluster.delayed(abs)(-1)
    assert client.submit(operator.add, lazy, 2).result(5) == 3
    assert client.submit(sum, [lazy, client.submit(abs, -2)]).result(5) == 3
    assert client.gather(client.map(operator.neg, [lazy, 4])) == [-1, -4]


def test_a_collection_that_gives_too_few_results_is_refused(client: Client) -> None:
    class Wrong(Squares):
        @staticmethod
        def __zcluster_lower__(collections: Sequence[Squares]) -> Any:
            return Squares.__zcluster_lower__(collections)[0], lambda values: []

    with pytest.raises(InvalidArgument, match="1 collections of type Wrong gave 0 results"):
        client.compute([Wrong(1)], sync=True)


def test_hand_written_graphs(client: Client) -> None:
    dsk = {"x": 1, "y": (operator.neg, "x"), "z": (sum, ["x", "y", 10])}
    assert client.get(dsk, "z") == 10
    assert client.get(dsk, ["x", ["y", "z"]]) in ([1, [-1, 10]], (1, (-1, 10)))
