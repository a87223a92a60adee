"""Sorts, medians, distinct elements and reductions of arrays, in this process with its threads.

Data: 4 million float64 in 16 chunks, of which a third are one value; its blocks are in memory
before the clock starts. zcluster is measured beside NumPy, which has one core and the whole array,
and dask, which has functions for some of it (its sort is none). Every answer is checked.
"""

from __future__ import annotations

import gc
import importlib
import os
import statistics
import sys
from collections.abc import Callable
from typing import Any

from common import Contestant, check, timed
from rounds import run
from table import Row

SORT = "sort, ms"
FEW = "the 10 least of the sorted, ms"
ARGSORT = "argsort, ms"
MEDIAN = "median, ms"
UNIQUE = "unique of 1,000 values, ms"
TOPK = "topk(10), ms"
STD = "std of x * 2 + 1, ms"
CUMSUM = "cumsum, ms"
BUILT = "1,000 blocks: sort()[:5] written, ms"


def data(quick: bool) -> Any:
    np = importlib.import_module("numpy")
    length = 400_000 if quick else 4_000_000
    rng = np.random.default_rng(0)
    return np.where(rng.random(length) < 0.33, 0.5, rng.random(length))


def rounded(a: Any) -> Any:
    """The same in a thousand different values."""
    return (a * 1_000).astype("i8")


def middle(call: Callable[[], Any], expected: Any) -> float:
    """Milliseconds of a call, the median of three; and whether it gives what is expected."""
    np = importlib.import_module("numpy")
    values = []
    for _ in range(3):
        gc.collect()
        took, found = timed(call)
        check("the answer", bool(np.allclose(found, expected)), True)
        values.append(1e3 * took)
    return statistics.median(values)


def with_zcluster(quick: bool) -> dict[str, float]:
    np = importlib.import_module("numpy")
    da = importlib.import_module("zcluster.array")
    a = data(quick)
    x = da.from_array(a, chunks=len(a) // 16).persist(scheduler="sync")
    ordered, counts = np.sort(a), np.unique(rounded(a), return_counts=True)[1]
    few = da.from_array(rounded(a), chunks=len(a) // 16).persist(scheduler="sync")
    lines = {
        SORT: (da.sort(x), ordered),
        FEW: (da.sort(x)[:10], ordered[:10]),
        ARGSORT: (da.argsort(x), np.argsort(a, kind="stable")),
        MEDIAN: (da.median(x), np.median(a)),
        UNIQUE: (da.unique(few, return_counts=True)[1], counts),
        TOPK: (da.topk(x, 10), ordered[:-11:-1]),
        STD: (da.std(x * 2 + 1), (a * 2 + 1).std()),
        CUMSUM: (da.cumsum(x, 0), np.cumsum(a)),
    }
    measured = {
        name: middle(lambda lazy=lazy: lazy.compute(scheduler="threads"), expected)
        for name, (lazy, expected) in lines.items()
    }
    lowering = importlib.import_module("zcluster.array.lowering")
    blocks = 100 if quick else 1_000
    many = da.from_array(a, chunks=-(-len(a) // blocks))
    expr = da.sort(many)[:5].expr
    took = [timed(lambda: lowering.lower_arrays([expr]))[0] for _ in range(3)]
    return measured | {BUILT: 1e3 * statistics.median(took)}


def with_numpy(quick: bool) -> dict[str, float]:
    np = importlib.import_module("numpy")
    a = data(quick)
    ordered, few = np.sort(a), rounded(a)
    counts = np.unique(few, return_counts=True)[1]
    return {
        SORT: middle(lambda: np.sort(a), ordered),
        FEW: middle(lambda: np.sort(np.partition(a, 10)[:10]), ordered[:10]),
        ARGSORT: middle(lambda: np.argsort(a, kind="stable"), np.argsort(a, kind="stable")),
        MEDIAN: middle(lambda: np.median(a), np.median(a)),
        UNIQUE: middle(lambda: np.unique(few, return_counts=True)[1], counts),
        TOPK: middle(lambda: np.sort(np.partition(a, -10)[-10:])[::-1], ordered[:-11:-1]),
        STD: middle(lambda: (a * 2 + 1).std(), (a * 2 + 1).std()),
        CUMSUM: middle(lambda: np.cumsum(a), np.cumsum(a)),
    }


def with_dask(quick: bool) -> dict[str, float]:
    np = importlib.import_module("numpy")
    da = importlib.import_module("dask.array")
    a = data(quick)
    x = da.from_array(a, chunks=len(a) // 16).persist(scheduler="sync")
    ordered, counts = np.sort(a), np.unique(rounded(a), return_counts=True)[1]
    few = da.from_array(rounded(a), chunks=len(a) // 16).persist(scheduler="sync")
    lines = {
        MEDIAN: (da.median(x, axis=0), np.median(a)),
        UNIQUE: (da.unique(few, return_counts=True)[1], counts),
        TOPK: (da.topk(x, 10), ordered[:-11:-1]),
        STD: (da.std(x * 2 + 1), (a * 2 + 1).std()),
        CUMSUM: (da.cumsum(x, 0), np.cumsum(a)),
    }
    return {
        name: middle(lambda lazy=lazy: lazy.compute(scheduler="threads"), expected)
        for name, (lazy, expected) in lines.items()
    }


CONTESTANTS = [
    Contestant("zcluster", with_zcluster),
    Contestant("numpy", with_numpy),
    Contestant("dask", with_dask, peer=True),
]
ROWS = [
    Row(SORT, digits=1, less_is_better=True, ratios={"numpy": 1.0}),
    Row(FEW, digits=1, less_is_better=True),
    Row(ARGSORT, digits=1, less_is_better=True, ratios={"numpy": 1.0}),
    Row(MEDIAN, digits=1, less_is_better=True, ratios={"dask": 1.0}),
    Row(UNIQUE, digits=1, less_is_better=True, ratios={"dask": 1.0}),
    Row(TOPK, digits=1, less_is_better=True, ratios={"dask": 1.0}),
    Row(STD, digits=1, less_is_better=True, ratios={"dask": 1.0}),
    Row(CUMSUM, digits=1, less_is_better=True, ratios={"dask": 1.0}),
    Row(BUILT, digits=1, less_is_better=True),
]

if __name__ == "__main__":
    sys.exit(
        run(os.path.abspath(__file__), "sorts and reductions in this process", CONTESTANTS, ROWS)
    )
