"""Estimate pi from random points, on a cluster of this machine.

Run it with ``python examples/pi.py``; it takes about three seconds on two processors.
"""

from __future__ import annotations

import math
import time

import numpy as np

from zcluster.distributed import Client, progress

TASKS = 60
POINTS = 5_000_000  # in each task: 80 MB at a time


def count_inside(seed: int, points: int) -> int:
    """Return how many of so many random points of the unit square lie in the quarter circle."""
    random = np.random.default_rng(seed)
    x, y = random.random(points), random.random(points)
    return int(np.count_nonzero(x * x + y * y < 1.0))


def main() -> None:
    with Client(n_workers=2, threads_per_worker=1, memory_limit="1GB") as client:
        client.wait_for_workers(2, timeout=30)
        print(client)
        began = time.perf_counter()
        counts = client.map(count_inside, range(TASKS), [POINTS] * TASKS)
        progress(counts)
        estimate = 4 * sum(client.gather(counts)) / (TASKS * POINTS)
        seconds = time.perf_counter() - began
    print()
    print(f"{TASKS} tasks, {TASKS * POINTS * 16 / 1e9:.2f} GB of random positions, {seconds:.2f} s")
    print(f"pi is about {estimate:.6f}, error {abs(estimate - math.pi):.1e}")


if __name__ == "__main__":
    main()
