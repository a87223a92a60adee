"""How much memory a cluster takes for a graph whose data would fill it ten times over.

Root tasks make chunks, the next tasks take them, and all of it is reduced to one number. A
scheduler that makes roots faster than it uses them up fills the memory and goes to disk. Here
as much is alive as is being worked on: the sum of what all processes of the cluster have in
proportion (PSS: what n processes share counts 1/n in each), read again and again while it runs,
must stay under

    2 x slots x chunk x live inputs + what the idle cluster has,

and nothing may go to disk.

Two graphs: the sum of each chunk (one live input), and the sum of all of ``x`` and ``y`` for
pairs of chunks (two). Durations are not known when it begins.

    python benchmarks/backpressure.py [--quick] [--workers 2] [--chunk 10MB] [--limit 200MB]
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from zcluster.client.client import Client
from zcluster.client.cluster import LocalCluster
from zcluster.config import format_bytes, parse_bytes

#: Seconds between two looks at the processes.
_LOOK = 0.02


def make(number: int, length: int) -> np.ndarray:
    """Return a chunk whose sum is known."""
    return np.full(length, float(number % 7))


def total(chunk: np.ndarray) -> float:
    return float(chunk.sum())


def total_of_both(x: np.ndarray, y: np.ndarray) -> float:
    """Take two chunks and, beside them, no memory: what a task allocates is its own affair."""
    return float(x.sum() + y.sum())


def add(*numbers: float) -> float:
    return sum(numbers)


def import_numpy() -> None:
    """What a worker has when it has done anything at all with arrays."""
    np.ones(10).sum()


def reduced(graph: dict[Any, Any], last: list[Any]) -> Any:
    """Add a tree of sums to a graph; return the key of its top."""
    level = 0
    while len(last) > 1:
        keys = [("sum", level, at) for at in range(0, len(last), 2)]
        for (_, _, at), key in zip(keys, keys, strict=True):
            graph[key] = (add, *last[at : at + 2])
        last, level = keys, level + 1
    return last[0]


def sums(count: int, length: int) -> tuple[dict[Any, Any], Any, float]:
    """Return (graph, key, answer): the sum of each chunk, and of all sums."""
    graph: dict[Any, Any] = {("x", i): (make, i, length) for i in range(count)}
    graph |= {("part", i): (total, ("x", i)) for i in range(count)}
    key = reduced(graph, [("part", i) for i in range(count)])
    return graph, key, float(length) * sum(i % 7 for i in range(count))


def pairs(count: int, length: int) -> tuple[dict[Any, Any], Any, float]:
    """Return the same for the sums of two chunks together."""
    half = count // 2
    graph: dict[Any, Any] = {("x", i): (make, i, length) for i in range(half)}
    graph |= {("y", i): (make, i + 1, length) for i in range(half)}
    graph |= {("part", i): (total_of_both, ("x", i), ("y", i)) for i in range(half)}
    key = reduced(graph, [("part", i) for i in range(half)])
    return graph, key, float(length) * sum(i % 7 + (i + 1) % 7 for i in range(half))


class Watcher(threading.Thread):
    """Reads again and again what the processes of a cluster have."""

    def __init__(self, client: Client, cluster: LocalCluster) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._roots = [psutil.Process(pid) for pid in cluster.pids]
        self._over = threading.Event()
        self.peak = 0
        self.spilled = 0
        self.looks = 0

    def now(self) -> int:
        """Return the sum of proportional memory of all processes."""
        size = 0
        for root in self._roots:
            for process in (root, *root.children(recursive=True)):
                try:
                    size += process.memory_full_info().pss
                except psutil.Error:
                    continue  # it has ended
        return size

    def run(self) -> None:
        while not self._over.wait(_LOOK):
            self.peak = max(self.peak, self.now())
            self.looks += 1
            if self.looks % 20 == 0:
                self._look_at_disk()

    def _look_at_disk(self) -> None:
        workers = self._client.scheduler_info()["workers"].values()
        self.spilled = max([self.spilled, *(each["metrics"]["spilled"] for each in workers)])

    def end(self) -> None:
        self._over.set()
        self.join()
        self._look_at_disk()


@dataclass(frozen=True)
class Measured:
    """What a graph took."""

    name: str
    seconds: float
    idle: int
    peak: int
    bound: int
    spilled: int
    made: int

    @property
    def is_within(self) -> bool:
        """Whether it kept to what is asked for."""
        return self.peak <= self.bound and self.spilled == 0

    def __str__(self) -> str:
        return (
            f"{self.name:6} {format_bytes(self.made):>10} made in {self.seconds:.1f} s: peak "
            f"{format_bytes(self.peak)}, idle {format_bytes(self.idle)}, bound "
            f"{format_bytes(self.bound)}; peak over bound {self.peak / self.bound:.2f}, above "
            f"idle {(self.peak - self.idle) / (self.bound - self.idle):.2f}; on disk "
            f"{format_bytes(self.spilled)}; {'kept' if self.is_within else 'BROKEN'}"
        )


def measure(name: str, workers: int, chunk: int, limit: int, times: float) -> Measured:
    """Run one graph in a cluster of its own, and watch it."""
    build, live = {"sums": (sums, 1), "pairs": (pairs, 2)}[name]
    length = chunk // 8
    count = int(times * workers * limit / chunk) // 2 * 2
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=limit) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers, 60)
        client.run(import_numpy)
        graph, key, answer = build(count, length)
        watcher = Watcher(client, cluster)
        idle = watcher.now()
        watcher.start()
        began = time.monotonic()
        found = client.get(graph, key)
        took = time.monotonic() - began
        watcher.end()
    assert found == answer, f"found {found}, expected {answer}"
    bound = 2 * workers * chunk * live + idle
    return Measured(name, took, idle, watcher.peak, bound, watcher.spilled, count * length * 8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chunk", default="10MB")
    parser.add_argument("--limit", default="200MB", help="memory of each worker")
    parser.add_argument("--times", type=float, default=10.0, help="made, over the limits' sum")
    parser.add_argument("--quick", action="store_true", help="make as much as the limits' sum")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    chunk, limit = parse_bytes(given.chunk), parse_bytes(given.limit)
    times = 1.0 if given.quick else given.times
    is_within = True
    for _ in range(given.rounds):
        for name in ("sums", "pairs"):
            measured = measure(name, given.workers, chunk, limit, times)
            print(measured, flush=True)
            is_within = is_within and measured.is_within
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
