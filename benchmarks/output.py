"""What printing costs: calls that print lines, beside the same calls that print nothing.

Both workers together print far more than may leave (64 KiB a second each): the rest is counted,
not sent. What must not happen is that printing slows the work down to less than half.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
import time
from typing import Any

from common import Contestant, check, cluster
from rounds import run
from table import Row

QUIET = "calls of 1 ms without print, calls/s"
LOUD = "the same that print 20 lines each, calls/s"
SHARE = "with print / without"
LINES = "lines printed a second"
SENT = "KiB a second that arrive from each worker"
#: Lines that a call prints.
PRINTED = 20
#: A printed line of this benchmark has so many bytes.
_LINE = "a line of output, number {}"


def work(number: int, lines: int) -> int:
    end = time.perf_counter() + 0.001
    for line in range(lines):
        print(_LINE.format(line))
    while time.perf_counter() < end:
        pass
    return number


def rate(client: Any, count: int, lines: int) -> float:
    start = time.perf_counter()
    results = client.gather(client.map(work, range(count), [lines] * count, pure=False))
    took = time.perf_counter() - start
    check("map", results, list(range(count)))
    return count / took


def with_zcluster(quick: bool) -> dict[str, float]:
    count = 2_000 if quick else 10_000
    out, err = io.StringIO(), io.StringIO()
    # Its output ends last: what was left out at the end is told when the client closes.
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        cluster("zcluster.distributed") as client,
    ):
        rate(client, 500, 0)
        quiet = rate(client, count, 0)
        start = time.perf_counter()
        loud = rate(client, count, PRINTED)
        took = time.perf_counter() - start
    left_out = sum(
        int(found.replace(",", "")) for found in re.findall(r"… ([\d,]+) lines", err.getvalue())
    )
    # On the original standard output, where the answer is looked for.
    check("lines shown and left out", out.getvalue().count("\n") + left_out, PRINTED * count)
    sent = len(out.getvalue()) - len("[local-0] ") * out.getvalue().count("\n")
    return {
        QUIET: quiet,
        LOUD: loud,
        SHARE: loud / quiet,
        LINES: PRINTED * count / took,
        SENT: sent / 1024 / took / 2,
    }


def with_dask(quick: bool) -> dict[str, float]:
    """As it comes; its workers print to the terminal of this process."""
    importlib.import_module("distributed")
    count = 500 if quick else 2_000
    with cluster("distributed") as client:
        quiet = rate(client, count, 0)
        loud = rate(client, count, PRINTED)
    return {QUIET: quiet, LOUD: loud, SHARE: loud / quiet}


CONTESTANTS = [
    Contestant("zcluster", with_zcluster),
    Contestant("dask", with_dask, peer=True),
]
ROWS = [
    Row(QUIET),
    Row(LOUD),
    Row(SHARE, digits=2, bar=0.5),
    Row(LINES, bar=10_000),
    Row(SENT, digits=1, less_is_better=True),
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "output: tasks that print", CONTESTANTS, ROWS))
