"""Throughput of ``client.map`` and ``gather``: thousands of calls that do next to nothing.

What is left when the work takes no time is the cost of a task: the call, the messages, the
bookkeeping, the result on its way back. All systems have 2 worker processes.
"""

from __future__ import annotations

import importlib
import os
import statistics
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from common import Contestant, check, cluster, dask_sends_ahead, ray_session, timed
from rounds import run
from table import Row

IMPURE = "map + gather, tasks/s"
PURE = "map + gather, pure=True, tasks/s"
WARM_UP = 200
REPEATS = 3


def inc(x: int) -> int:
    return x + 1


def rate(tasks: int, call: Callable[[range], Iterable[int]]) -> float:
    """Tasks per second, the median of some repeats, each on arguments not seen before."""
    check("warm-up", list(call(range(WARM_UP))), list(range(1, WARM_UP + 1)))
    spent = []
    for first in range(10**6, 10**6 + REPEATS * tasks, tasks):
        arguments = range(first, first + tasks)
        took, results = timed(partial(call, arguments))
        check("map", list(results), [x + 1 for x in arguments])
        spent.append(took)
    return tasks / statistics.median(spent)


def size(quick: bool) -> int:
    return 1_000 if quick else 5_000


def mapped(client: Any, pure: bool, arguments: range) -> Iterable[int]:
    results: Iterable[int] = client.gather(client.map(inc, arguments, pure=pure))
    return results


def with_zcluster(quick: bool) -> dict[str, float]:
    with cluster("zcluster.distributed") as client:
        return {
            IMPURE: rate(size(quick), partial(mapped, client, False)),
            PURE: rate(size(quick), partial(mapped, client, True)),
        }


def with_dask(quick: bool) -> dict[str, float]:
    with cluster("distributed") as client:
        return {IMPURE: rate(size(quick), partial(mapped, client, False))}


def with_dask_ahead(quick: bool) -> dict[str, float]:
    dask_sends_ahead()
    return with_dask(quick)


def in_pool(pool: ProcessPoolExecutor, arguments: range) -> list[int]:
    """One submit per call: `pool.map` with larger chunks would send no tasks, but lists."""
    futures = [pool.submit(inc, x) for x in arguments]
    return [future.result() for future in futures]


def with_pool(quick: bool) -> dict[str, float]:
    with ProcessPoolExecutor(2) as pool:
        return {IMPURE: rate(size(quick), lambda xs: in_pool(pool, xs))}


def with_loky(quick: bool) -> dict[str, float]:
    pool = importlib.import_module("loky").get_reusable_executor(max_workers=2)
    try:
        return {IMPURE: rate(size(quick), lambda xs: in_pool(pool, xs))}
    finally:
        pool.shutdown(wait=True)


def with_ray(quick: bool) -> dict[str, float]:
    with ray_session() as ray:
        remote = ray.remote(inc)
        return {IMPURE: rate(size(quick), lambda xs: ray.get([remote.remote(x) for x in xs]))}


CONTESTANTS = [
    Contestant("zcluster", with_zcluster),
    Contestant("dask", with_dask, peer=True),
    Contestant("dask-ahead", with_dask_ahead, peer=True),
    Contestant("pool", with_pool),
    Contestant("loky", with_loky, peer=True),
    Contestant("ray", with_ray, peer=True),
]
ROWS = [
    Row(IMPURE, bar=30_000, ratios={"dask": 50, "pool": 4}),
    Row(PURE),
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "map_gather: trivial calls", CONTESTANTS, ROWS))
