"""Large results on one node: 200 MB made by one worker, read by the other, and by the client.

The reader reads one number of every 4 KiB page, so that a promise of bytes is not counted as
bytes, and the sum of what it read is checked. Timed is the reader's task from submit to result
(the array is ready by then), and ``result()`` in the client with the same reading. The first
array is not counted: it pays for fresh memory. The floor is NumPy copying as many bytes.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from common import Contestant, check, cluster, ray_session
from rounds import run
from table import Row

HANDED = "worker to worker, GB/s"
GATHERED = "worker to client, GB/s"
COPIED = "bytes copied per byte handed"
SIZE = 25_000_000  # float64: 200 MB
PAGE = 512  # float64 in 4 KiB


def make(numbers: int, first: int) -> Any:
    import numpy as np  # in the worker; nothing else here needs it

    return np.arange(first, first + numbers, dtype="float64")


def read(array: Any) -> float:
    """One number of every page, added up."""
    return float(array[::PAGE].sum())


def expected(numbers: int, first: int) -> float:
    """What `read` must give; every partial sum is a whole number below 2**53, so exact."""
    pages = range(first, first + numbers, PAGE)
    return float(sum(pages))


def repeated(numbers: int, times: int, once: Callable[[int], tuple[float, float]]) -> float:
    """GB/s, the median of `times` arrays after a first one that does not count.

    ``once(first)`` makes an array that begins with `first` and returns (seconds, sum read).
    """
    spent = []
    for first in range(times + 1):
        took, found = once(first)
        check("sum over the pages", found, expected(numbers, first))
        spent.append(took)
    return 8 * numbers / statistics.median(spent[1:]) / 1e9


def numbers_and_times(quick: bool) -> tuple[int, int]:
    return (SIZE // 4, 3) if quick else (SIZE, 5)


def bytes_copied(client: Any) -> float | None:
    """What the cluster has copied so far: what tasks wrote into the store, which is mapped then."""
    statistics_of = getattr(client, "statistics", None)
    return None if statistics_of is None else float(statistics_of()["stored_bytes"])


def with_client(module: str, quick: bool) -> dict[str, float]:
    numbers, times = numbers_and_times(quick)
    with cluster(module) as client:
        maker, reader = list(client.scheduler_info()["workers"])

        def made(first: int) -> Any:
            array = client.submit(make, numbers, first, workers=[maker], pure=False)
            client.submit(len, array, workers=[maker], pure=False).result()  # it is ready
            return array

        def hand_over(first: int) -> tuple[float, float]:
            array = made(first)
            start = time.perf_counter()
            total = client.submit(read, array, workers=[reader], pure=False).result()
            return time.perf_counter() - start, total

        def gather(first: int) -> tuple[float, float]:
            array = made(first)
            start = time.perf_counter()
            total = read(array.result())
            return time.perf_counter() - start, total

        before = bytes_copied(client)
        found = {HANDED: repeated(numbers, times, hand_over)}
        after = bytes_copied(client)
        if before is not None and after is not None:
            found[COPIED] = (after - before) / (8 * numbers * (times + 1))
        found[GATHERED] = repeated(numbers, times, gather)
        return found


def with_zcluster(quick: bool) -> dict[str, float]:
    return with_client("zcluster.distributed", quick)


def with_dask(quick: bool) -> dict[str, float]:
    return with_client("distributed", quick)


def with_ray(quick: bool) -> dict[str, float]:
    numbers, times = numbers_and_times(quick)

    class Actor:
        """Two of them are two processes for certain; tasks might share one."""

        def make(self, first: int) -> Any:
            return make(numbers, first)

        def read(self, array: Any) -> float:
            return read(array)

    with ray_session() as ray:
        maker, reader = ray.remote(Actor).remote(), ray.remote(Actor).remote()

        def ready(first: int) -> Any:
            array = maker.make.remote(first)
            ray.wait([array], fetch_local=False)
            return array

        def hand_over(first: int) -> tuple[float, float]:
            array = ready(first)
            start = time.perf_counter()
            total = ray.get(reader.read.remote(array))
            return time.perf_counter() - start, total

        def gather(first: int) -> tuple[float, float]:
            array = ready(first)
            start = time.perf_counter()
            total = read(ray.get(array))
            return time.perf_counter() - start, total

        return {
            HANDED: repeated(numbers, times, hand_over),
            GATHERED: repeated(numbers, times, gather),
        }


def with_memcpy(quick: bool) -> dict[str, float]:
    import numpy as np  # not in every interpreter that may run this file

    numbers, times = numbers_and_times(quick)
    target = np.empty(numbers)

    def copy(first: int) -> tuple[float, float]:
        source = make(numbers, first)
        start = time.perf_counter()
        np.copyto(target, source)
        return time.perf_counter() - start, read(target)

    speed = repeated(numbers, times, copy)
    return {HANDED: speed, GATHERED: speed}


CONTESTANTS = [
    Contestant("zcluster", with_zcluster),
    Contestant("memcpy", with_memcpy),
    Contestant("dask", with_dask, peer=True),
    Contestant("ray", with_ray, peer=True),
]
ROWS = [
    Row(HANDED, digits=2, bar=5),
    Row(GATHERED, digits=2, bar=5),
    Row(COPIED, digits=2, less_is_better=True, bar=2),
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "transfer: 200 MB on one node", CONTESTANTS, ROWS))
