"""What it costs to write down an array computation, before anything runs.

The Cholesky factor of an array of 100 x 100 blocks, a sum over a million blocks, and a small slice
of ten thousand blocks; and what one call costs from end to end where there is next to nothing to
compute. Dask's figure for the sum is for a tenth of the blocks, built but not optimised.
"""

from __future__ import annotations

import importlib
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from common import Contestant, check, timed
from rounds import run
from table import Row

CHOLESKY, SMALL = "Cholesky, 100 x 100 blocks: layers, s", "the same, 10 x 10, ms"
ORDERED = "Cholesky, 100 x 100: culled, ordered, s"
MILLION, MEMORY = "sum over a million blocks, s", "memory for it, MB"
TENTH = "sum over 100,000 blocks, s"
SLICE, FIRST = "slice of exp(ones), ms", "x.sum() of one block, sync, us"


def middle(call: Callable[[], Any], times: int) -> float:
    """Return the median of the seconds that a call takes."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def small_things(da: Any, sync: str) -> dict[str, float]:
    np = importlib.import_module("numpy")
    x = da.from_array(np.arange(100.0), chunks=100)
    check("sum", float(x.sum().compute(scheduler=sync)), 4950.0)
    first = middle(lambda: x.sum().compute(scheduler=sync), 300)

    def sliced() -> Any:
        return da.exp(da.ones((10_000, 10_000), chunks=100))[1:100, 1:100].compute(scheduler=sync)

    check("slice", sliced().shape, (99, 99))
    return {FIRST: 1e6 * first, SLICE: 1e3 * middle(sliced, 30)}


def ours(quick: bool) -> dict[str, float]:
    import zcluster.array as da
    from zcluster.array.lowering import Lowering, lower_arrays
    from zcluster.array.simplify import simplified

    answer = small_things(da, "sync")

    def layers(blocks: int) -> Any:
        factor = da.linalg.cholesky(da.ones((100 * blocks, 100 * blocks), chunks=100))
        return lambda: Lowering(simplified([factor.expr])).graph

    many = 30 if quick else 100
    write = layers(many)
    write()
    answer[CHOLESKY], graph = timed(write)
    check("tasks", graph.count >= many * (many + 1) // 2, True)
    answer[SMALL] = 1e3 * middle(layers(10), 20)
    factor = da.linalg.cholesky(da.ones((100 * many, 100 * many), chunks=100))
    answer[ORDERED], _ = timed(lambda: lower_arrays([factor.expr]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def million() -> Any:
        ones = da.ones(100_000 if quick else 1_000_000, chunks=1)
        return lower_arrays([((ones + 1) * 2).sum().expr])

    answer[MILLION], (graph, _) = timed(million)
    answer[MEMORY] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    check("tasks", graph.count >= (100_000 if quick else 1_000_000), True)
    return answer


def dask(quick: bool) -> dict[str, float]:
    da: Any = importlib.import_module("dask.array")
    answer = small_things(da, "sync")
    x = da.ones((1_000, 1_000), chunks=100)
    answer[SMALL] = 1e3 * middle(lambda: da.linalg.cholesky(x), 20)
    many = 30 if quick else 100
    large = da.ones((100 * many, 100 * many), chunks=100)
    answer[CHOLESKY], _ = timed(lambda: da.linalg.cholesky(large))
    answer[TENTH], _ = timed(lambda: ((da.ones(100_000, chunks=1) + 1) * 2).sum().dask)
    return answer


CONTESTANTS = [Contestant("zcluster", ours), Contestant("dask", dask, peer=True)]
ROWS = [
    Row(CHOLESKY, 3, True, bar=0.05),
    Row(SMALL, 2, True, bar=5.0),
    Row(ORDERED, 3, True),
    Row(MILLION, 2, True, bar=0.7),
    Row(MEMORY, 0, True, bar=150.0),
    Row(TENTH, 2, True),
    Row(SLICE, 2, True, bar=5.0),
    Row(FIRST, 0, True, bar=300.0),
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "arrays: building", CONTESTANTS, ROWS))
