"""Rows to columns between two nodes: zcluster and dask, whose peer-to-peer rechunk is taken.

An array of 20,000 x 20,000 float64 (3.2 GB) is kept in chunks of 1,000 whole rows, half of them on
each of two nodes with one worker each. It is rechunked into as many chunks of whole columns, which
are kept too, so each of these is made of a box of every chunk. Half of the bytes must move from one
node to the other; zcluster's data ports count what they send. Both systems talk over TCP to
127.0.0.1, without encryption.

Each system checks a sum. The first rechunk counts as much as the others: fresh memory is part of
what it costs.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from common import OPTIONS, Contestant, check, timed
from rounds import run
from table import Row

TOOK, RATE = "rows to columns, s", "GB/s"
MOVED = "bytes moved per byte that must"


def sizes(quick: bool) -> tuple[int, int]:
    """Return the lengths of a side and of a chunk."""
    return (6_000, 300) if quick else (20_000, 1_000)


def rechunked(
    da: Any, wait: Callable[[Any], Any], quick: bool, sent: Callable[[], int] = int
) -> dict[str, float]:
    """Measure a rechunk; ``sent()`` says how many bytes have crossed over since the start."""
    side, chunk = sizes(quick)
    small = da.random.random((100, 100), chunks=(50, 100)).rechunk((100, 50))
    check("sum of zeros", float((small * 0).sum().compute()), 0.0)  # workers import what they need
    x = da.random.random((side, side), chunks=(chunk, side)).persist()
    wait(x)
    expected = float(x.sum().compute())

    def all_at_once() -> Any:
        turned = x.rechunk((side, chunk)).persist()
        wait(turned)
        return turned

    before = sent()
    took, turned = timed(all_at_once)
    moved = sent() - before
    found = float(turned.sum().compute())
    check("sum of all", abs(found - expected) < 1e-9 * expected, True)
    measured = {TOOK: took, RATE: x.nbytes / took / 1e9}
    return measured | {MOVED: moved / (x.nbytes / 2)} if moved else measured


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Give the client of a scheduler and two nodes, started as commands."""
    command = [sys.executable, "-P", "-m"]
    options = ["--host=127.0.0.1", "--insecure", "--log-level=error"]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder, "scheduler.json")

        def start(*arguments: str) -> None:
            process = subprocess.Popen(
                [*command, *arguments, f"--scheduler-file={file}", *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)

        start("zcluster.cli.scheduler")
        for name in ("one", "two"):
            start("zcluster.cli.worker", f"--name={name}", "--nworkers=1", "--nthreads=1")
        make = importlib.import_module("zcluster.distributed").Client
        with make(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, 30)
            yield client


def with_zcluster(quick: bool) -> dict[str, float]:
    da = importlib.import_module("zcluster.array")
    wait = importlib.import_module("zcluster.distributed").wait
    with two_nodes() as client:

        def sent() -> int:
            time.sleep(1.5)  # the figures come with heartbeats
            return int(client.statistics()["sent_bytes"])

        return rechunked(da, wait, quick, sent)


def with_dask(method: str) -> Callable[[bool], dict[str, float]]:
    def measure(quick: bool) -> dict[str, float]:
        dask = importlib.import_module("dask")
        distributed = importlib.import_module("distributed")
        da = importlib.import_module("dask.array")
        options = {**OPTIONS["distributed"], "protocol": "tcp"}
        with (
            dask.config.set({"array.rechunk.method": method}),
            distributed.Client(n_workers=2, threads_per_worker=1, **options),
        ):
            return rechunked(da, distributed.wait, quick)

    return measure


CONTESTANTS = [
    Contestant("zcluster", with_zcluster),
    Contestant("dask p2p", with_dask("p2p"), peer=True),
    Contestant("dask tasks", with_dask("tasks"), peer=True),
]
ROWS = [
    Row(TOOK, 2, True, ratios={"dask p2p": 0.5, "dask tasks": 0.5}),
    Row(RATE, 2),
    Row(MOVED, 3, True, bar=1.05),
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "arrays: rows to columns", CONTESTANTS, ROWS))
