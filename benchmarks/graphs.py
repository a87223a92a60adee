"""Large graphs at once: 100,000 tasks without edges, and a binary tree sum of 131,071 tasks.

Timed is the whole way of a graph that lies ready: submission, running, results back. The tree
asks what an edge costs: most of its tasks should start where their inputs are, with no trip to
the scheduler. dask gets smaller graphs of the same kind, and is compared as a rate.

zcluster gets each graph twice: as arrays, which is what collections send, and as a
hand-written dict, which has to be turned into arrays first.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common import Contestant, check, cluster, dask_sends_ahead, timed
from rounds import run
from table import Row

INDEPENDENT = "independent, tasks/s"
TREE = "binary tree sum, tasks/s"
INDEPENDENT_DICT = "independent, from a dict"
TREE_DICT = "binary tree sum, from a dict"

Key = Hashable
Graph = Mapping[Key, Any]


def inc(x: int) -> int:
    return x + 1


@dataclass(frozen=True)
class Problem:
    """A graph, the keys wanted of it, and what they must be."""

    graph: Graph
    keys: Sequence[Key]
    expected: Sequence[int]


def independent(tasks: int, first: int) -> Problem:
    """`tasks` increments, all of them wanted."""
    keys = [(f"inc-{first}", i) for i in range(tasks)]
    graph: dict[Key, Any] = {key: (inc, first + key[1]) for key in keys}
    return Problem(graph, keys, range(first + 1, first + 1 + tasks))


def tree(leaves: int, first: int) -> Problem:
    """Increments of `leaves` numbers, added in pairs up to one: 2 * leaves - 1 tasks."""
    name = f"tree-{first}"
    graph: dict[Key, Any] = {(name, 0, i): (inc, first + i) for i in range(leaves)}
    level, width = 0, leaves
    while width > 1:
        level, width = level + 1, width // 2
        for i in range(width):
            below = level - 1
            pair = (name, below, 2 * i), (name, below, 2 * i + 1)
            graph[name, level, i] = (operator.add, *pair)
    expected = leaves * (first + 1) + leaves * (leaves - 1) // 2
    return Problem(graph, [(name, level, 0)], [expected])


def solve(client: Any, problem: Problem) -> float:
    """Tasks per second of a dict graph, from submission to results."""
    took, results = timed(lambda: client.get(problem.graph, problem.keys))
    check("graph", list(results), list(problem.expected))
    return len(problem.graph) / took


def solve_arrays(client: Any, leaves: int, first: int, is_tree: bool) -> float:
    """Tasks per second of the same graphs given as layers of arrays."""
    graph = arrays(leaves, first, is_tree)
    took, results = timed(lambda: client.run_graph(graph))
    values = range(first + 1, first + 1 + leaves)
    check("graph", list(results), [sum(values)] if is_tree else list(values))
    return int(graph.count) / took


def arrays(leaves: int, first: int, is_tree: bool) -> Any:
    """A layer of increments, and a layer of sums for each level of the tree."""
    import numpy as np

    from zcluster.graph.layers import Graph, GraphLayer
    from zcluster.protocol.callables import pack_callable
    from zcluster.protocol.calls import CALL_INPUTS, CALL_SINGLE
    from zcluster.protocol.objects import plan

    numbers = [plan(number).tobytes() for number in range(first, first + leaves)]
    offsets = np.cumsum([0, *map(len, numbers)], dtype=np.uint32)
    graph = Graph()
    increments = GraphLayer("inc", (leaves,), leaves, CALL_SINGLE, pack_callable(inc))
    increments.constants, increments.offsets = b"".join(numbers), offsets
    below, width = graph.add_layer(increments), leaves
    graph.outputs = [(0, leaves)]
    while is_tree and width > 1:
        pairs = np.arange(below, below + width, dtype=np.int64)
        below, width = graph.count, width // 2
        sums = GraphLayer("add", (width,), width, CALL_INPUTS, pack_callable(operator.add))
        sums.arity, sums.indices = 2, pairs
        graph.add_layer(sums)
        graph.outputs = [(below, width)]
    return graph


def with_zcluster(quick: bool) -> dict[str, float]:
    tasks, leaves = (10_000, 2**13) if quick else (100_000, 2**16)
    with cluster("zcluster.distributed") as client:
        solve(client, tree(64, first=0))  # warm-up; numbers differ, so nothing is remembered
        solve_arrays(client, 64, 0, is_tree=True)
        return {
            INDEPENDENT: solve_arrays(client, tasks, 10**6, is_tree=False),
            TREE: solve_arrays(client, leaves, 2 * 10**6, is_tree=True),
            INDEPENDENT_DICT: solve(client, independent(tasks, first=3 * 10**6)),
            TREE_DICT: solve(client, tree(leaves, first=4 * 10**6)),
        }


def with_dask(quick: bool) -> dict[str, float]:
    tasks, leaves = (1_000, 2**9) if quick else (5_000, 2**12)
    with cluster("distributed") as client:
        solve(client, tree(64, first=0))
        return {
            INDEPENDENT: solve(client, independent(tasks, first=10**6)),
            TREE: solve(client, tree(leaves, first=2 * 10**6)),
        }


def with_dask_ahead(quick: bool) -> dict[str, float]:
    dask_sends_ahead()
    return with_dask(quick)


CONTESTANTS = [
    Contestant("zcluster", with_zcluster),
    Contestant("dask", with_dask, peer=True),
    Contestant("dask-ahead", with_dask_ahead, peer=True),
]
ROWS = [
    Row(INDEPENDENT, bar=60_000),
    Row(TREE, bar=60_000),
    Row(INDEPENDENT_DICT),
    Row(TREE_DICT),
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "graphs: one large graph", CONTESTANTS, ROWS))
