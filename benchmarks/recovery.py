"""How soon a task runs again whose worker was killed.

A worker is killed with SIGKILL at a random moment of its task's run; counted is the time from the
kill until the task begins once more: in another worker that is idle, or where there is none, in
the one that takes the place of the killed one.
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import closing
from typing import Any

from common import OPTIONS, Contestant, check
from rounds import run
from table import Row

#: Seconds that a task runs, and how long is waited for it to begin.
SPAN, PATIENCE = 0.15, 60.0
BESIDE, ALONE = "another worker is idle", "there was only this worker"
MEDIAN, WORST = "median, ms", "p99, ms"


def begin(path: str, number: int) -> int:
    """Say who runs this and since when, and take a while."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\n")
    time.sleep(SPAN)
    return number


def begun(path: str, times: int) -> tuple[int, float]:
    """Wait until a task has begun so many times; return where and when it did the last time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if os.path.exists(path):
            with open(path) as file:
                lines = file.read().splitlines(keepends=True)
            if len(lines) >= times and lines[times - 1].endswith("\n"):
                pid, when = lines[times - 1].split()
                return int(pid), float(when)
        time.sleep(0.001)
    raise TimeoutError(f"a task had not begun {times} times after {PATIENCE:g} s")


def measured(module: str, workers: int, kills: int) -> list[float]:
    """Return the seconds from each kill until its task began again, in order of size."""
    chance = random.Random(workers)
    make = importlib.import_module(module).Client
    found: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(make(n_workers=workers, threads_per_worker=1, **OPTIONS[module])) as client,
    ):
        check("warm-up", client.submit(abs, -1).result(), 1)
        for number in range(kills):
            client.wait_for_workers(workers)
            path = os.path.join(folder, str(number))
            future: Any = client.submit(begin, path, number, pure=False)
            pid, _ = begun(path, 1)
            time.sleep(chance.uniform(0, 0.8 * SPAN))
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            found.append(begun(path, 2)[1] - killed)
            check("result", future.result(), number)
    return sorted(found)


def figures(module: str, kills: int) -> dict[str, float]:
    answer: dict[str, float] = {}
    for workers, where in ((2, BESIDE), (1, ALONE)):
        took = measured(module, workers, kills)
        answer[f"{where}: {MEDIAN}"] = 1e3 * took[len(took) // 2]
        answer[f"{where}: {WORST}"] = 1e3 * took[min(len(took) - 1, int(0.99 * len(took)))]
    return answer


CONTESTANTS = [
    Contestant("zcluster", lambda quick: figures("zcluster.distributed", 5 if quick else 25)),
    # It takes seconds, often many, to replace a worker.
    Contestant("dask", lambda quick: figures("distributed", 2 if quick else 4), peer=True),
]
ROWS = [
    Row(f"{where}: {what}", digits=1, less_is_better=True, bar=250.0 if what == WORST else None)
    for where in (BESIDE, ALONE)
    for what in (MEDIAN, WORST)
]

if __name__ == "__main__":
    sys.exit(run(os.path.abspath(__file__), "recovery: a killed worker's task", CONTESTANTS, ROWS))
