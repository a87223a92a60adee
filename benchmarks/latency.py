"""How long one task takes when nothing else is going on, and what one more submit costs.

Three questions: a call and its result, one at a time; a chain, each call taking the one before
(per link: this is where work sent ahead shows); and the client's call alone, which is what a
user's loop pays before anything runs. The floor of the first is an echo through the same chain
of processes in plain pyzmq (`echo.py`).
"""

from __future__ import annotations

import operator
import os
import statistics
import sys
from collections.abc import Callable
from typing import Any

from common import Contestant, check, cluster, ray_session, timed
from rounds import run
from table import Row

ONE = "one submit().result(), ms"
LINK = "a link of a chain of 500, ms"
CALL = "submit() alone, us"
CALL_NAMED = "submit() alone, operator.neg, us"
WARM_UP = 20
CHAIN = 500


def inc(x: int) -> int:
    return x + 1


def one_by_one(number: int, call: Callable[[int], int]) -> float:
    """Median milliseconds of a call that waits for its result."""
    spent = []
    for i in range(WARM_UP + number):
        took, result = timed(lambda: call(i))  # noqa: B023 - called at once
        check("one call", result, i + 1)
        spent.append(took)
    return statistics.median(spent[WARM_UP:]) * 1e3


def chain(submit: Callable[[Any], Any], result: Callable[[Any], int]) -> float:
    """Milliseconds per link; each link takes the result of the one before."""

    def run_chain() -> int:
        last: Any = 0
        for _ in range(CHAIN):
            last = submit(last)
        return result(last)

    took, found = timed(run_chain)
    check("chain", found, CHAIN)
    return took / CHAIN * 1e3


def calls(number: int, submit: Callable[[int], Any], gather: Callable[[list[Any]], Any],
          expected: Callable[[int], int]) -> float:  # fmt: skip
    """Microseconds per submit in a loop, the results not waited for (checked afterwards)."""
    took, futures = timed(lambda: [submit(i) for i in range(number)])
    check("submits", list(gather(futures)), [expected(i) for i in range(number)])
    return took / number * 1e6


def with_client(module: str, quick: bool) -> dict[str, float]:
    """`inc` stands in the user's script, and travels as code; operator.neg as a name."""
    number = 1_000 if quick else 3_000
    with cluster(module) as client:

        def submit(x: Any) -> Any:
            return client.submit(inc, x, pure=False)

        def negate(x: int) -> Any:
            return client.submit(operator.neg, x, pure=False)

        return {
            ONE: one_by_one(100 if quick else 300, lambda x: submit(x).result()),
            LINK: chain(submit, lambda future: future.result()),
            CALL: calls(number, submit, client.gather, inc),
            CALL_NAMED: calls(number, negate, client.gather, operator.neg),
        }


def with_zcluster(quick: bool) -> dict[str, float]:
    return with_client("zcluster.distributed", quick)


def with_dask(quick: bool) -> dict[str, float]:
    return with_client("distributed", quick)


def with_echo(quick: bool) -> dict[str, float]:
    from echo import echoes  # pyzmq; the peers' interpreter, which runs this file too, has none

    return {ONE: statistics.median(echoes(100 if quick else 300)) * 1e3}


def with_ray(quick: bool) -> dict[str, float]:
    with ray_session() as ray:
        submit = ray.remote(inc).remote
        return {
            ONE: one_by_one(100 if quick else 300, lambda x: ray.get(submit(x))),
            LINK: chain(submit, ray.get),
            CALL: calls(1_000 if quick else 3_000, submit, ray.get, inc),
        }


CONTESTANTS = [
    Contestant("zcluster", with_zcluster),
    Contestant("echo", with_echo),
    Contestant("dask", with_dask, peer=True),
    Contestant("ray", with_ray, peer=True),
]
ROWS = [
    Row(ONE, digits=3, less_is_better=True, bar=1, ratios={"echo": 3}),
    Row(LINK, digits=4, less_is_better=True, bar=0.06),
    Row(CALL, digits=1, less_is_better=True, bar=25),
    Row(CALL_NAMED, digits=1, less_is_better=True, bar=25),
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "latency: one task at a time", CONTESTANTS, ROWS))
