"""What a user waits for before and after the work: start, first result, close, import, --help.

Start and close are timed inside a fresh interpreter. Import is what ``import`` adds to a whole
process over a bare interpreter: the difference of the best of many, started in turn, since
every disturbance makes a process slower and none makes it quicker. ``--help`` is a whole process.
"""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping

from common import OPTIONS, Contestant, check
from rounds import run
from table import Row

FIRST = "Client() to first result, s"
CLOSE = "close(), s"
IMPORT = "import beyond bare python, ms"
HELP_SCHEDULER = "scheduler --help, ms"
HELP_WORKER = "worker --help, ms"

# What the installed commands do, without asking where they were installed.
COMMAND = "import sys; from {module} import main; sys.argv = {argv}; sys.exit(main())"
ZCLUSTER_HELP = {
    HELP_SCHEDULER: COMMAND.format(module="zcluster.cli.scheduler", argv=["_", "--help"]),
    HELP_WORKER: COMMAND.format(module="zcluster.cli.worker", argv=["_", "--help"]),
}
DASK_HELP = {
    HELP_SCHEDULER: COMMAND.format(module="dask.__main__", argv=["_", "scheduler", "--help"]),
    HELP_WORKER: COMMAND.format(module="dask.__main__", argv=["_", "worker", "--help"]),
}


def inc(x: int) -> int:
    return x + 1


def start_and_close(module: str) -> dict[str, float]:
    """Once only: what a second start would find warm is not what is asked."""
    make = importlib.import_module(module).Client
    start = time.perf_counter()
    client = make(n_workers=2, threads_per_worker=1, **OPTIONS[module])
    try:
        result = client.submit(inc, 1).result()
        first = time.perf_counter()
    finally:
        closing = time.perf_counter()
        client.close()
        closed = time.perf_counter()
    check("first result", result, 2)
    return {FIRST: first - start, CLOSE: closed - closing}


def process(code: str) -> tuple[float, bytes]:
    """Milliseconds of a whole process that runs `code`, and what it said."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    spent = (time.perf_counter() - start) * 1e3
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise RuntimeError(f"{code!r} ended with {done.returncode}: {last}")
    return spent, done.stdout


def import_cost(module: str, quick: bool) -> float:
    """Milliseconds that importing `module` adds to a process: best of 15, less the best bare."""
    bare, full = [], []
    for _ in range(5 if quick else 15):
        bare.append(process("pass")[0])
        full.append(process(f"import {module}")[0])
    return min(full) - min(bare)


def help_cost(commands: Mapping[str, str], quick: bool) -> dict[str, float]:
    found = {}
    for measure, code in commands.items():
        runs = [process(code) for _ in range(3 if quick else 5)]
        check(f"{measure} says how it is used", b"usage" in runs[0][1].lower(), True)
        found[measure] = statistics.median(spent for spent, _ in runs)
    return found


def with_zcluster(quick: bool) -> dict[str, float]:
    start = start_and_close("zcluster.distributed")
    return start | {IMPORT: import_cost("zcluster", quick)} | help_cost(ZCLUSTER_HELP, quick)


def with_dask(quick: bool) -> dict[str, float]:
    start = start_and_close("distributed")
    return start | {IMPORT: import_cost("distributed", quick)} | help_cost(DASK_HELP, quick)


CONTESTANTS = [
    Contestant("zcluster", with_zcluster),
    Contestant("dask", with_dask, peer=True),
]
ROWS = [
    Row(FIRST, digits=3, less_is_better=True, bar=0.8),
    Row(CLOSE, digits=3, less_is_better=True, bar=0.3),
    Row(IMPORT, digits=1, less_is_better=True, bar=60),
    Row(HELP_SCHEDULER, less_is_better=True, bar=250),
    Row(HELP_WORKER, less_is_better=True, bar=250),
]

if __name__ == "__main__":
    sys.exit(
        run(os.path.abspath(__file__), "startup: before and after the work", CONTESTANTS, ROWS)
    )
