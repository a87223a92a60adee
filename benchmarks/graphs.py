"""Large graphs at once: 100,000 tasks without edges, and a binary tree sum of 131,071 tasks.

Timed is the whole way of a graph that lies ready: submission, running, results back. The tree
asks what an edge costs: most of its tasks should start where their inputs are, with no trip to
the scheduler. dask gets smaller graphs of the same kind, and is compared as a rate.
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
    """Tasks per second of one graph from submission to results. The one place that submits."""
    took, results = timed(lambda: client.get(problem.graph, problem.keys))
    check("graph", list(results), list(problem.expected))
    return len(problem.graph) / took


def measure(module: str, tasks: int, leaves: int) -> dict[str, float]:
    with cluster(module) as client:
        solve(client, tree(64, first=0))  # warm-up; numbers differ, so nothing is remembered
        return {
            INDEPENDENT: solve(client, independent(tasks, first=10**6)),
            TREE: solve(client, tree(leaves, first=2 * 10**6)),
        }


def with_zcluster(quick: bool) -> dict[str, float]:
    tasks, leaves = (10_000, 2**13) if quick else (100_000, 2**16)
    return measure("zcluster.distributed", tasks, leaves)


def with_dask(quick: bool) -> dict[str, float]:
    tasks, leaves = (1_000, 2**9) if quick else (5_000, 2**12)
    return measure("distributed", tasks, leaves)


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
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "graphs: one large graph", CONTESTANTS, ROWS))
