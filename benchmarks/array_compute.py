"""Arrays on a cluster of two workers, and in threads: zcluster, dask, and NumPy in one thread.

The arrays are those of lessons: 10,000 x 10,000 random numbers in chunks of 1,000 x 1,000, a
filter of four neighbours, a matrix product, a chain of element-wise operations, a hundred thousand
tiny blocks. NumPy does the same on one array, with as many BLAS threads as there are processors
for the product, else with one.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from common import Contestant, check, cluster, timed
from rounds import run
from table import Row

MEAN, SYMMETRIC, SPREAD = "random mean, s", "(x + x.T).mean(), s", "std(axis=0), s"
FILTER, PRODUCT, CHAIN = "4-point filter, s", "(m @ m).sum(), s", "chain of 6 in threads, s"
TINY_THREADS, TINY_CLIENT = "100,000 tiny blocks, threads, s", "the same, client, s"


def four_points(block: Any) -> Any:
    """Return the mean of the four neighbours of each element but those at the edge: these go."""
    mean = block.copy()
    inner = block[:-2, 1:-1] + block[2:, 1:-1] + block[1:-1, :-2] + block[1:-1, 2:]
    mean[1:-1, 1:-1] = inner / 4
    return mean


def chain(x: Any, sqrt: Callable[[Any], Any]) -> Any:
    """Six element-wise operations and a sum."""
    return (sqrt((x + 1.5) * 2.0 - 0.5) * x + 3.0).sum()


def close_to(what: str, found: float, expected: float, tolerance: float) -> None:
    check(what, abs(found - expected) <= tolerance, True)


def lazy(array: str, distributed: str, quick: bool) -> dict[str, float]:
    """Measure zcluster or dask."""
    da = importlib.import_module(array)
    side, chunk = (2_000, 500) if quick else (10_000, 1_000)
    answer: dict[str, float] = {}
    with cluster(distributed):
        x = da.random.random((side, side), chunks=(chunk, chunk))
        x.mean().compute()  # workers import what they need
        answer[MEAN], mean = timed(lambda: float(x.mean().compute()))
        close_to(MEAN, mean, 0.5, 0.01)
        answer[SYMMETRIC], mean = timed(lambda: float((x + x.T).mean().compute()))
        close_to(SYMMETRIC, mean, 1.0, 0.01)
        answer[SPREAD], spread = timed(lambda: x.std(axis=0).compute())
        close_to(SPREAD, float(spread.mean()), 0.2887, 0.01)
        smooth = da.map_overlap(four_points, x, depth=1, boundary="reflect", dtype=x.dtype)
        answer[FILTER], mean = timed(lambda: float(smooth.mean().compute()))
        close_to(FILTER, mean, 0.5, 0.01)
        size = 1_000 if quick else 3_000
        m = da.random.random((size, size), chunks=(size // 6, size // 6))
        answer[PRODUCT], total = timed(lambda: float((m @ m).sum().compute()))
        close_to(PRODUCT, total / size**3, 0.25, 0.01)
        tiny = 10_000 if quick else 100_000
        ones = da.ones((10 * tiny // 100, 1_000), chunks=(10, 10))
        blocks = ((ones + 1) * 2).sum()
        answer[TINY_CLIENT], total = timed(lambda: float(blocks.compute()))
        check(TINY_CLIENT, total, 400.0 * tiny)
    answer[TINY_THREADS], total = timed(lambda: float(blocks.compute(scheduler="threads")))
    check(TINY_THREADS, total, 400.0 * tiny)
    count = 10_000_000 if quick else 100_000_000
    long = da.ones(count, chunks=4_000_000)
    long = long.persist(scheduler="threads")
    result = chain(long, da.sqrt)
    result.compute(scheduler="threads")
    answer[CHAIN], total = timed(lambda: float(result.compute(scheduler="threads")))
    close_to(CHAIN, total / count, 5.1213203, 1e-6)
    return answer


def plain(quick: bool) -> dict[str, float]:
    """Measure NumPy."""
    import numpy as np

    side = 2_000 if quick else 10_000
    answer: dict[str, float] = {}
    generator = np.random.default_rng(1)
    answer[MEAN], mean = timed(lambda: float(generator.random((side, side)).mean()))
    close_to(MEAN, mean, 0.5, 0.01)

    def symmetric() -> float:
        x = generator.random((side, side))
        return float((x + x.T).mean())

    answer[SYMMETRIC], mean = timed(symmetric)
    close_to(SYMMETRIC, mean, 1.0, 0.01)
    answer[SPREAD], _ = timed(lambda: generator.random((side, side)).std(axis=0))

    def smooth() -> float:
        grown = np.pad(generator.random((side, side)), 1, mode="symmetric")
        inner = grown[:-2, 1:-1] + grown[2:, 1:-1] + grown[1:-1, :-2] + grown[1:-1, 2:]
        return float((inner / 4).mean())

    answer[FILTER], mean = timed(smooth)
    close_to(FILTER, mean, 0.5, 0.01)
    size = 1_000 if quick else 3_000

    def product() -> float:
        m = generator.random((size, size))
        return float((m @ m).sum())

    answer[PRODUCT], total = timed(product)
    close_to(PRODUCT, total / size**3, 0.25, 0.01)
    x = np.ones(10_000_000 if quick else 100_000_000)
    answer[CHAIN], total = timed(lambda: float(chain(x, np.sqrt)))
    close_to(CHAIN, total / len(x), 5.1213203, 1e-6)
    return answer


CONTESTANTS = [
    Contestant("zcluster", lambda quick: lazy("zcluster.array", "zcluster.distributed", quick)),
    Contestant("dask", lambda quick: lazy("dask.array", "distributed", quick), peer=True),
    Contestant("numpy", plain),
]
ROWS = [
    Row(MEAN, 2, True, ratios={"dask": 0.5, "numpy": 1.3}),
    Row(SYMMETRIC, 2, True, ratios={"dask": 0.5, "numpy": 1.3}),
    Row(SPREAD, 2, True, ratios={"dask": 0.5, "numpy": 1.3}),
    Row(FILTER, 2, True, ratios={"dask": 0.25, "numpy": 2.0}),
    Row(PRODUCT, 2, True, ratios={"dask": 1 / 1.5, "numpy": 1.2}),
    Row(CHAIN, 3, True, ratios={"dask": 0.4, "numpy": 1 / 3}),
    Row(TINY_THREADS, 2, True, bar=3.0),
    Row(TINY_CLIENT, 2, True, bar=4.0),
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "arrays: computing", CONTESTANTS, ROWS))
