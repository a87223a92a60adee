"""How quickly a lock goes from one worker to the other, beside what a submit costs.

Two tasks, one on each worker, take the same lock in turns: each acquires it, writes a letter into
a file, keeps it for 2 ms, in which the other asks for it, and lets it go. So leases are handed over
between processes. Two at a time are a wrong answer.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from itertools import pairwise
from typing import Any

from common import Contestant, check, cluster, timed
from rounds import run
from table import Row

HAND_OVER = "hand-over of a lock, ms"
ROUND_TRIP = "one submit().result(), ms"
RATIO = "hand-over / submit"
WARM_UP = 20


def inc(x: int) -> int:
    return x + 1


def take_turns(module: str, path: str, number: int, me: int) -> list[tuple[float, float, int]]:
    """Acquire and release; return from when to when each lease was had, on the machine's clock."""
    import importlib
    import time

    distributed = importlib.import_module(module)
    lock = distributed.Lock(path)
    leases = []
    # Both have connected before the first begins.
    distributed.Event(f"{path}-{me}").set()
    distributed.Event(f"{path}-{1 - me}").wait()
    for _ in range(number):
        lock.acquire()
        begun = time.monotonic()
        with open(path, "r+") as file:
            before = file.read()
            file.write(str(me))
            file.seek(0)
            if file.read() != f"{before}{me}":
                raise AssertionError("two had the lock at a time")
        time.sleep(0.002)  # meanwhile the other asks for it
        leases.append((begun, time.monotonic(), me))
        lock.release()
    return leases


def hand_over(client: Any, module: str, number: int) -> float:
    """Median milliseconds from one worker's call of release to the other's lease."""
    names = list(client.scheduler_info()["workers"])
    with tempfile.NamedTemporaryFile("w+") as file:
        futures = [
            client.submit(take_turns, module, file.name, number, me, workers=[name], pure=False)
            for me, name in enumerate(names)
        ]
        leases = sorted(lease for found in client.gather(futures) for lease in found)
        check("leases", len(file.read()), 2 * number)
    pairs = list(pairwise(leases))
    check("leases at a time", max(before[1] > after[0] for before, after in pairs), False)
    gaps = [after[0] - before[1] for before, after in pairs if before[2] != after[2]]
    check("hand-overs between workers", len(gaps) > number, True)
    return statistics.median(gaps) * 1e3


def round_trip(client: Any, number: int) -> float:
    """Median milliseconds of a call that waits for its result."""
    spent = []
    for i in range(WARM_UP + number):
        took, result = timed(lambda: client.submit(inc, i, pure=False).result())  # noqa: B023 - called at once
        check("one call", result, i + 1)
        spent.append(took)
    return statistics.median(spent[WARM_UP:]) * 1e3


def measure(module: str, quick: bool) -> dict[str, float]:
    number = 50 if quick else 200
    with cluster(module) as client:
        one = round_trip(client, number)
        handed = hand_over(client, module, number)
        return {HAND_OVER: handed, ROUND_TRIP: one, RATIO: handed / one}


def with_zcluster(quick: bool) -> dict[str, float]:
    return measure("zcluster.distributed", quick)


def with_dask(quick: bool) -> dict[str, float]:
    return measure("distributed", quick)


CONTESTANTS = [Contestant("zcluster", with_zcluster), Contestant("dask", with_dask, peer=True)]
ROWS = [
    Row(HAND_OVER, digits=3, less_is_better=True),
    Row(ROUND_TRIP, digits=3, less_is_better=True),
    Row(RATIO, digits=2, less_is_better=True, bar=2),
]

if __name__ == "__main__":
    sys.exit(
        run(os.path.abspath(__file__), "coordination: a lock between workers", CONTESTANTS, ROWS)
    )
