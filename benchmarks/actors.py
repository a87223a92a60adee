"""What a call of an actor costs, beside a submit: there and back, and many at once.

An actor lives in one worker and is called from this process. A call takes the way of a task but
for the slot, so it should cost no more than `submit().result()` does. The last measure asks for a
thousand calls before it waits for the first.
"""

from __future__ import annotations

import os
import statistics
import sys
from typing import Any

from common import Contestant, check, cluster, timed
from rounds import run
from table import Row

CALL = "one actor call and its result, ms"
SUBMIT = "one submit().result(), ms"
RATIO = "actor call / submit"
MANY = "1,000 calls at once, calls/s"
WARM_UP = 20


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.n = 0

    def increment(self) -> int:
        self.n += 1
        return self.n


def inc(x: int) -> int:
    return x + 1


def one_by_one(number: int, call: Any) -> float:
    """Median milliseconds of a call that waits for its result."""
    spent = []
    for i in range(WARM_UP + number):
        took, result = timed(lambda: call(i))  # noqa: B023 - called at once
        check("one call", result, i + 1)
        spent.append(took)
    return statistics.median(spent[WARM_UP:]) * 1e3


def many(counter: Any, number: int) -> float:
    """Calls per second, all begun before the first is waited for."""
    before = counter.increment().result()
    took, found = timed(lambda: [f.result() for f in [counter.increment() for _ in range(number)]])
    # Sorted: dask makes calls of one caller in another order than they were begun in.
    check("calls at once", sorted(found), list(range(before + 1, before + 1 + number)))
    return number / took


def measure(module: str, quick: bool) -> dict[str, float]:
    number = 100 if quick else 500
    with cluster(module) as client:
        submit = one_by_one(number, lambda i: client.submit(inc, i, pure=False).result())
        counter = client.submit(Counter, actor=True).result()
        call = one_by_one(number, lambda i: counter.increment().result())
        return {
            CALL: call,
            SUBMIT: submit,
            RATIO: call / submit,
            MANY: many(counter, 100 if quick else 1000),
        }


def with_zcluster(quick: bool) -> dict[str, float]:
    return measure("zcluster.distributed", quick)


def with_dask(quick: bool) -> dict[str, float]:
    return measure("distributed", quick)


CONTESTANTS = [Contestant("zcluster", with_zcluster), Contestant("dask", with_dask, peer=True)]
ROWS = [
    Row(CALL, digits=3, less_is_better=True),
    Row(SUBMIT, digits=3, less_is_better=True),
    Row(RATIO, digits=2, less_is_better=True, bar=1.5),
    Row(MANY, digits=0),
]

if __name__ == "__main__":
    sys.exit(
        run(os.path.abspath(__file__), "actors: calls of a stateful object", CONTESTANTS, ROWS)
    )
