"""How long until an error is known: a call that raises, and a call that kills its worker.

A worker that dies is replaced, and by default its task is tried on two more.
``cluster.allowed-failures = 1`` switches that off; the error is then there as soon as the death is
noticed.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from common import OPTIONS, Contestant, check, timed
from rounds import run
from table import Row

RAISED = "a call that raises, ms until the error"
ONCE = "a call that kills its worker, tried once, s"
THRICE = "the same with its retries, s"
AFTER = "the next call, s"


def fail(number: int) -> None:
    raise ValueError(number)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def error_of(client: Any, function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    took, error = timed(client.submit(function, *arguments, pure=False).exception)
    return took, error


def measured(module: str) -> dict[str, float]:
    make = importlib.import_module(module).Client
    with closing(make(n_workers=1, threads_per_worker=1, **OPTIONS[module])) as client:
        check("warm-up", client.submit(abs, -1).result(), 1)
        raised = []
        for number in range(20):
            took, error = error_of(client, fail, number)
            check("error", (type(error).__name__, error.args), ("ValueError", (number,)))
            raised.append(took)
        killed, error = error_of(client, die)
        check("killed", "Killed" in type(error).__name__, True)
        start = time.perf_counter()
        check("after", client.submit(abs, -2).result(), 2)
        after = time.perf_counter() - start
    return {RAISED: 1e3 * sorted(raised)[10], THRICE: killed, AFTER: after}


def with_zcluster(quick: bool) -> dict[str, float]:
    found = measured("zcluster.distributed")
    os.environ["ZCLUSTER_CLUSTER__ALLOWED_FAILURES"] = "1"
    importlib.import_module("zcluster.config").refresh()
    return found | {ONCE: measured("zcluster.distributed")[THRICE]}


def with_dask(quick: bool) -> dict[str, float]:
    found = measured("distributed")
    importlib.import_module("dask").config.set({"distributed.scheduler.allowed-failures": 0})
    return found | {ONCE: measured("distributed")[THRICE]}


CONTESTANTS = [
    Contestant("zcluster", with_zcluster),
    Contestant("dask", with_dask, peer=True),
]
ROWS = [
    Row(RAISED, digits=2, less_is_better=True),
    Row(ONCE, digits=3, less_is_better=True, bar=1.0),
    Row(THRICE, digits=3, less_is_better=True),
    Row(AFTER, digits=3, less_is_better=True),
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "errors: time until they are known", CONTESTANTS, ROWS))
