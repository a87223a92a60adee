"""How much memory a cluster takes for arrays that are several times larger than all of it.

Reductions of random arrays of five times the cluster's memory: pi, a sum, a standard deviation, and
``(x + x.T).mean()``, where each block is needed twice. Blocks come to be when they are used up, so
what all processes of the cluster have in proportion (PSS, see `backpressure`) must stay under

    2 x slots x chunk x live inputs + what the idle cluster has,

and nothing may go to disk. Live inputs are one block, and two for ``x + x.T``: a block and its
mirror image, which are made once and taken by two tasks after each other.

The last row is of an array that is kept: 60% of the cluster's memory is persisted and reduced three
times. What has gone to disk by then may be read from there, but nothing goes there again.

    python benchmarks/array_memory.py [--quick] [--times 5] [--limit 300MB] [--chunk 16MB]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backpressure import Measured, Watcher

import zcluster.array as da
from zcluster.config import format_bytes, parse_bytes
from zcluster.distributed import Client, LocalCluster, wait


@dataclass(frozen=True)
class Reduced:
    """A reduction of an array of about so many bytes in chunks of so many.

    Attributes
    ----------
    build : callable
        ``build(size, chunk)`` returns the lazy result and the bytes it is made of.
    expected, within : float
        What it is, and how far off it may be.
    live : int
        Blocks that a task needs at a time.
    """

    build: Callable[[int, int], tuple[Any, int]]
    expected: float
    within: float
    live: int = 1


def square(size: int, chunk: int) -> Any:
    """Return random numbers in about square chunks."""
    edge = math.isqrt(chunk // 8)
    side = max(math.isqrt(size // 8) // edge, 1) * edge
    return da.random.random((side, side), chunks=edge)


def pi(size: int, chunk: int) -> tuple[Any, int]:
    points = da.random.uniform(0.0, 1.0, size=(size // 16, 2), chunks=(chunk // 16, 2))
    return 4 * ((points**2).sum(axis=-1) < 1).mean(), points.nbytes


def total(size: int, chunk: int) -> tuple[Any, int]:
    x = square(size, chunk)
    return x.sum() / x.size, x.nbytes


def spread(size: int, chunk: int) -> tuple[Any, int]:
    x = square(size, chunk)
    return x.std(axis=0).mean(), x.nbytes


def symmetric(size: int, chunk: int) -> tuple[Any, int]:
    x = square(size, chunk)
    return (x + x.T).mean(), x.nbytes


REDUCTIONS = {
    "pi": Reduced(pi, math.pi, 0.01),
    "sum": Reduced(total, 0.5, 0.001),
    "std": Reduced(spread, 12**-0.5, 0.001),
    "x + x.T": Reduced(symmetric, 1.0, 0.001, live=2),
}


def import_arrays() -> None:
    """What a worker has when it has done anything at all with arrays."""
    da.random.random(10).std().compute(scheduler="sync")


def a_cluster(workers: int, limit: int) -> LocalCluster:
    return LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=limit)


def measure(name: str, workers: int, chunk: int, limit: int, times: float) -> Measured:
    """Compute one of them in a cluster of its own, and watch it."""
    reduced = REDUCTIONS[name]
    result, made = reduced.build(int(times * workers * limit), chunk)
    with a_cluster(workers, limit) as cluster, Client(cluster) as client:
        client.wait_for_workers(workers, 60)
        client.run(import_arrays)
        watcher = Watcher(client, cluster)
        idle = watcher.now()
        watcher.start()
        began = time.monotonic()
        found = float(result.compute())
        took = time.monotonic() - began
        watcher.end()
    assert abs(found - reduced.expected) < reduced.within, f"{name} is {found}"
    bound = 2 * workers * chunk * reduced.live + idle
    return Measured(name, took, idle, watcher.peak, bound, watcher.spilled, made)


def wait_for_beats() -> None:
    """Wait until nodes have said how they are: between two heartbeats at most."""
    time.sleep(1.2)


def spilled(client: Any) -> int:
    workers = client.scheduler_info()["workers"].values()
    return max(int(each["metrics"]["spilled"]) for each in workers)


@dataclass(frozen=True)
class Kept:
    """What went to disk of an array that is kept: when it was made, and after reductions."""

    size: int
    seconds: float
    before: int
    after: int

    @property
    def is_within(self) -> bool:
        """Whether reductions of it sent nothing to disk."""
        return self.after <= self.before

    def __str__(self) -> str:
        return (
            f"kept    {format_bytes(self.size):>10} persisted and reduced 3 times in "
            f"{self.seconds:.1f} s: on disk {format_bytes(self.before)} before, "
            f"{format_bytes(self.after)} after; {'kept' if self.is_within else 'BROKEN'}"
        )


def keep(workers: int, chunk: int, limit: int) -> Kept:
    """Persist 60% of the cluster's memory, and reduce it several times."""
    with a_cluster(workers, limit) as cluster, Client(cluster) as client:
        client.wait_for_workers(workers, 60)
        client.run(import_arrays)
        began = time.monotonic()
        size = int(0.6 * workers * limit)
        x = da.random.random(size // 8, chunks=chunk // 8).persist()
        wait(x)
        made = time.monotonic() - began
        wait_for_beats()
        before = spilled(client)
        began = time.monotonic()
        for found, expected in ((x.mean(), 0.5), (x.std(), 12**-0.5), ((x * 2).max(), 2.0)):
            assert abs(float(found.compute()) - expected) < 0.001
        took = made + time.monotonic() - began
        wait_for_beats()
        return Kept(x.nbytes, took, before, spilled(client))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chunk", default="16MB")
    parser.add_argument("--limit", default="300MB", help="memory of each worker")
    parser.add_argument("--times", type=float, default=5.0, help="made, over the limits' sum")
    parser.add_argument("--quick", action="store_true", help="make as much as the limits' sum")
    parser.add_argument("--only", metavar="NAMES", help="by comma; 'kept' is the last row")
    given = parser.parse_args()
    chunk, limit = parse_bytes(given.chunk), parse_bytes(given.limit)
    times = 1.0 if given.quick else given.times
    names = given.only.split(",") if given.only else [*REDUCTIONS, "kept"]
    is_within = True
    for name in names:
        measured: Any
        if name == "kept":
            measured = keep(given.workers, chunk, limit)
        else:
            measured = measure(name, given.workers, chunk, limit, times)
        print(measured, flush=True)
        is_within = is_within and measured.is_within
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
