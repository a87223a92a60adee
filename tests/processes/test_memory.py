"""A million single submits, and the scheduler is as small as before."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import pytest

from zcluster.client.client import Client
from zcluster.client.cluster import LocalCluster
from zcluster.client.waiting import wait

pytestmark = pytest.mark.processes

Until = Callable[..., None]
MIB = 1 << 20


def submit_all(client: Client, first: int, count: int, batch: int, keep: int) -> list[object]:
    """Submit one call at a time; keep every so-manyth future; at most a batch is open."""
    kept: list[object] = []
    for start in range(first, first + count, batch):
        futures = [client.submit(abs, -n, pure=False) for n in range(start, start + batch)]
        wait(futures)
        kept += futures[::keep]
    return kept


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_submits_leave_the_scheduler_as_small_as_before(until: Until) -> None:
    """One future in 10,000 is kept: it must not keep the memory of those around it."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2, 20)
        scheduler = psutil.Process(cluster.pids[0])
        submit_all(client, 0, 50_000, 50_000, 50_000)  # what a first batch allocates stays
        until(lambda: client.statistics()["rows"] == 0, 20)
        before = scheduler.memory_info().rss
        began = time.monotonic()
        kept = submit_all(client, 50_000, 1_000_000, 50_000, 10_000)
        took = time.monotonic() - began
        assert len(kept) == 100
        until(lambda: client.statistics()["rows"] == 100, 20, "the release of all others")
        # A page of 512 rows goes when its last task goes: each kept future holds one at most.
        assert client.statistics()["pages"] <= 101
        until(
            lambda: scheduler.memory_info().rss - before < 20 * MIB,
            10,
            f"a scheduler as small as before (it had {before / MIB:.0f} MiB)",
        )
        after = scheduler.memory_info().rss
        print(f"{took:.0f} s; from {before / MIB:.1f} to {after / MIB:.1f} MiB")
        assert [future.result(10) for future in kept[:3]] == [50_000, 60_000, 70_000]  # type: ignore[attr-defined]
