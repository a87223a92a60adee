"""Estimate pi from an array of random positions that would not fit into the workers' memory.

Run it with ``python examples/array_pi.py``, or with a size in bytes.
"""

from __future__ import annotations

import math
import sys
import time

import zcluster.array as da
from zcluster.distributed import Client

CHUNKS = 100


def main(size: float) -> None:
    points = int(size / 8 / 2)
    with Client(n_workers=2, threads_per_worker=1, memory_limit="300MB"):
        began = time.perf_counter()
        xy = da.random.default_rng(1).uniform(size=(points, 2), chunks=(points // CHUNKS, 2))
        print(xy)
        inside = (xy**2).sum(axis=1) < 1
        estimate = float(4 * inside.mean().compute())
        seconds = time.perf_counter() - began
    print(f"{xy.nbytes / 1e9:.1f} GB of random positions in {seconds:.2f} s")
    print(f"pi is about {estimate:.6f}, error {abs(estimate - math.pi):.1e}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2e9)
