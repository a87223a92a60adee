"""What contestants of a benchmark use: a cluster to measure, a clock, and a check of answers.

A contestant is a function that measures one system and returns ``{measure: value}``; it checks
every answer it gets. It runs in a process of its own (see `rounds`), under the interpreter that
has its system installed. So scripts import nothing at the top but the standard library, and a
system is imported by name where it is measured.
"""

from __future__ import annotations

import importlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "distributed": {"dashboard_address": None, "silence_logs": 50},
    "zcluster.distributed": {},
    "ray": {
        "num_cpus": 2,
        "include_dashboard": False,
        "object_store_memory": 2 * 10**9,
        "log_to_driver": False,
        "logging_level": "ERROR",
    },
}


class WrongAnswer(AssertionError):
    """A system gave another result than the right one: the only thing that fails a benchmark."""


@dataclass(frozen=True)
class Contestant:
    """A system and how it is measured; `peer` means it needs the peers' interpreter."""

    name: str
    measure: Callable[[bool], dict[str, float]]
    peer: bool = False


def say(answer: dict[str, object]) -> None:
    """Hand a part of the answer to the process that started us: one line of standard output.

    Marked, since the systems that are measured like to chat there too.
    """
    print("\nRESULT " + json.dumps(answer), flush=True)


def check(what: str, found: object, expected: object) -> None:
    """Raise `WrongAnswer` unless `found` equals `expected`.

    It is said at once: a close() that hangs or fails on the way out must not hide it.
    """
    if found != expected:
        if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
            at = next(
                i for i, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]
            )
            what, found, expected = f"{what}, place {at}", found[at], expected[at]
        text = f"{what}: found {str(found)[:80]}, expected {str(expected)[:80]}"
        say({"wrong": text})
        raise WrongAnswer(text)


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """The wall time of one call in seconds, and what it returned."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


@contextmanager
def cluster(module: str) -> Iterator[Any]:
    """A client of 2 workers with 1 thread each; zcluster and dask are spelled alike."""
    make = importlib.import_module(module).Client
    with closing(make(n_workers=2, threads_per_worker=1, **OPTIONS[module])) as client:
        yield client


def dask_sends_ahead() -> None:
    """Switch off that dask's scheduler holds back tasks without inputs.

    As it comes, it gives a worker hardly more of them than it has threads, to save memory; every
    trivial call then waits for a round trip. Whoever runs such calls would change this setting.
    """
    importlib.import_module("dask").config.set({"distributed.scheduler.worker-saturation": "inf"})


@contextmanager
def ray_session() -> Iterator[Any]:
    """The module ``ray``, started with 2 CPUs and 2 GB of store, and stopped at the end."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = importlib.import_module("ray")
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        ray.init(_temp_dir=folder, **OPTIONS["ray"])
        try:
            yield ray
        finally:
            ray.shutdown()
