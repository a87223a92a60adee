"""Linear algebra: the graph of a large Cholesky decomposition, and products and factors computed.

BLAS computes with one thread in the contestants that run tasks on all processors themselves, and
with all of them in NumPy. (With both at a time, threads of BLAS wait for each other: dask, as it
comes, takes several times as long.) dask needs SciPy for Cholesky's decomposition.
"""

from __future__ import annotations

import importlib
import os
import statistics
import sys
from collections.abc import Callable
from typing import Any

from common import Contestant, check, timed
from rounds import run
from table import Row

GRAPHS = {n: f"Cholesky of {n} x {n} blocks: graph, ms" for n in (10, 100)}
CHOLESKY = {c: f"Cholesky of 4,000, chunks {c}, s" for c in (100, 1000)}
PRODUCT = "(m @ m).sum() of 3,000, chunks 500, s"


def middle(call: Callable[[], Any], count: int = 5) -> tuple[float, Any]:
    """The median of some times, and the last result."""
    took, result = [], None
    for _ in range(count):
        seconds, result = timed(call)
        took.append(seconds)
    return statistics.median(took), result


def matrices(quick: bool) -> tuple[Any, Any]:
    """A positive definite matrix, and another one."""
    import numpy as np

    rng = np.random.default_rng(0)
    n = 800 if quick else 4_000
    a = rng.standard_normal((n, n))
    return a @ a.T + n * np.eye(n), rng.standard_normal((1_000, 1_000) if quick else (3_000, 3_000))


def computed(module: Any, quick: bool) -> dict[str, float]:
    """The lines that are spelled alike."""
    import numpy as np

    definite, m = matrices(quick)
    expected = np.linalg.cholesky(definite)
    measured = {}
    for chunks, name in CHOLESKY.items():
        x = module.from_array(definite, chunks=min(chunks, len(definite) // 2))
        took, found = middle(lambda x=x: module.linalg.cholesky(x, lower=True).compute(), 3)
        check("a factor", bool(np.allclose(found, expected)), True)
        measured[name] = took
    x = module.from_array(m, chunks=500)
    took, total = middle(lambda: (x @ x).sum().compute())
    check("a product", bool(np.isclose(total, (m @ m).sum())), True)
    return measured | {PRODUCT: took}


def with_zcluster(quick: bool) -> dict[str, float]:
    os.environ["OMP_NUM_THREADS"] = "1"
    module: Any = importlib.import_module("zcluster.array")
    from zcluster.array.lowering import Lowering
    from zcluster.protocol.held import passing_objects

    measured = {}
    for count, name in GRAPHS.items():
        x = module.ones((count * 1_000,) * 2, chunks=1_000)

        def write(x: Any = x) -> int:
            with passing_objects(True):
                graph = Lowering([module.linalg.cholesky(x, lower=True).expr]).graph
            return sum(layer.count for layer in graph.layers if "cholesky" in layer.name)

        took, tasks = middle(write)
        check("tasks", tasks, count * (count + 1) * (count + 2) // 6 + 1)
        measured[name] = 1e3 * took
    return measured | computed(module, quick)


def with_dask(quick: bool) -> dict[str, float]:
    os.environ["OMP_NUM_THREADS"] = "1"
    importlib.import_module("scipy.linalg")  # tasks would be the first to say that it is missing
    module: Any = importlib.import_module("dask.array")
    measured = {}
    for count, name in GRAPHS.items():
        x = module.ones((count * 1_000,) * 2, chunks=1_000)
        took, _ = middle(lambda x=x: module.linalg.cholesky(x, lower=True), 1)
        measured[name] = 1e3 * took
    return measured | computed(module, quick)


def with_numpy(quick: bool) -> dict[str, float]:
    import numpy as np

    definite, m = matrices(quick)
    took, _ = middle(lambda: np.linalg.cholesky(definite), 3)
    measured = dict.fromkeys(CHOLESKY.values(), took)
    return measured | {PRODUCT: middle(lambda: (m @ m).sum())[0]}


CONTESTANTS = [
    Contestant("zcluster", with_zcluster),
    Contestant("dask", with_dask, peer=True),
    Contestant("numpy", with_numpy),
]
ROWS = [
    Row(GRAPHS[10], digits=2, less_is_better=True, bar=5),
    Row(GRAPHS[100], digits=1, less_is_better=True, bar=50),
    Row(CHOLESKY[100], digits=2, less_is_better=True, ratios={"dask": 0.2}),
    Row(CHOLESKY[1000], digits=2, less_is_better=True, ratios={"numpy": 1.25}),
    Row(PRODUCT, digits=2, less_is_better=True, ratios={"dask": 0.67, "numpy": 1.2}),
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "array_linalg: linear algebra", CONTESTANTS, ROWS))
