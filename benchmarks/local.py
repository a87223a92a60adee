"""Graphs in this process: what a task costs with no cluster around it.

Timed is a whole ``compute()`` of delayed calls that lie ready: conversion, submission, running,
results. zcluster's runners drive the scheduler core that clusters have: the last lines say how
many messages it heard, which must not be none. One call runs first, to load what is imported when
it is needed; then the first graph that wants a second thread is timed, with the start of the pool.
"""

from __future__ import annotations

import gc
import importlib
import operator
import os
import statistics
import sys
from collections.abc import Callable
from typing import Any

from common import Contestant, check, timed
from rounds import run
from table import Row

INDEPENDENT = {name: f"{name}: 10,000 calls, µs/task" for name in ("sync", "threads")}
TREE = {name: f"{name}: tree of 16,383, µs/task" for name in ("sync", "threads")}
GET = "threads: get of 10,000, µs/task"
FIRST = "threads: first graph, ms"
EVENTS = {name: f"{name}: messages to the core" for name in ("sync", "threads")}


def inc(x: int) -> int:
    return x + 1


def independent(module: Any, calls: int, scheduler: str) -> float:
    """Microseconds a task of increments that do not need each other."""
    make = module.delayed(inc)
    lazies = [make(i) for i in range(calls)]
    took, results = timed(lambda: module.compute(*lazies, scheduler=scheduler))
    check("calls", list(results), list(range(1, calls + 1)))
    return 1e6 * took / calls


def tree(module: Any, leaves: int, scheduler: str) -> float:
    """Microseconds a task of a binary tree of additions over increments."""
    make, add = module.delayed(inc), module.delayed(operator.add)
    level = [make(i) for i in range(leaves)]
    while len(level) > 1:
        level = [add(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
    took, result = timed(lambda: level[0].compute(scheduler=scheduler))
    check("tree", result, leaves * (leaves + 1) // 2)
    return 1e6 * took / (2 * leaves - 1)


def by_hand(get: Callable[..., Any], calls: int) -> float:
    """Microseconds a task of a hand-written graph."""
    graph = {("inc", i): (inc, i) for i in range(calls)}
    keys = list(graph)
    took, results = timed(lambda: get(graph, keys))
    check("get", list(results), list(range(1, calls + 1)))
    return 1e6 * took / calls


def measure(name: str, quick: bool) -> dict[str, float]:
    """The same lines for zcluster and dask, which are spelled alike."""
    module = importlib.import_module(name)
    threaded = importlib.import_module(f"{name}.threaded")
    calls, leaves = (1_000, 1 << 9) if quick else (10_000, 1 << 13)
    check("a call", module.delayed(inc)(1).compute(scheduler="sync"), 2)
    two = {"x": (inc, 1), "y": (inc, 2)}
    measured = {FIRST: 1e3 * timed(lambda: threaded.get(two, ["x", "y"]))[0]}

    def middle(call: Callable[[], float]) -> float:
        values = []
        for _ in range(5):
            gc.collect()  # what an earlier graph left is not this one's cost
            values.append(call())
        return statistics.median(values)

    for scheduler in ("sync", "threads"):
        measured |= {
            INDEPENDENT[scheduler]: middle(lambda s=scheduler: independent(module, calls, s)),
            TREE[scheduler]: middle(lambda s=scheduler: tree(module, leaves, s)),
        }
    measured[GET] = middle(lambda: by_hand(threaded.get, calls))
    return measured


def with_zcluster(quick: bool) -> dict[str, float]:
    measured = measure("zcluster", quick)
    from zcluster.collection.compute import current_runner

    for scheduler, name in EVENTS.items():
        runner: Any = current_runner(scheduler)
        check(f"{scheduler} went through the core", runner.last_events > 0, True)
        measured[name] = runner.last_events
    return measured


def with_dask(quick: bool) -> dict[str, float]:
    return measure("dask", quick)


CONTESTANTS = [
    Contestant("zcluster", with_zcluster),
    Contestant("dask", with_dask, peer=True),
]
ROWS = [
    Row(INDEPENDENT["sync"], digits=1, less_is_better=True, bar=15),
    Row(INDEPENDENT["threads"], digits=1, less_is_better=True, bar=15),
    Row(TREE["sync"], digits=1, less_is_better=True),
    Row(TREE["threads"], digits=1, less_is_better=True),
    Row(GET, digits=1, less_is_better=True, bar=1000),
    Row(FIRST, digits=2, less_is_better=True, bar=100),
    Row(EVENTS["sync"]),
    Row(EVENTS["threads"]),
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "local: graphs in this process", CONTESTANTS, ROWS))
