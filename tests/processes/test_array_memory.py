"""Arrays larger than the memory of all workers: reduced in little memory, rechunked over disk."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

import zcluster.array as da
from zcluster.distributed import Client, LocalCluster, wait

if TYPE_CHECKING:
    from tests.processes.conftest import Commands

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what processes use"),
]

Until = Callable[..., None]
MB = 10**6
LIMIT = 300 * MB
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def spilled(client: Client) -> int:
    workers = client.scheduler_info()["workers"].values()
    return max(int(each["metrics"]["spilled"]) for each in workers)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_reductions_of_more_than_memory_take_little_of_it() -> None:
    """Each is of 1.5 GB in chunks of 16 MB, where two workers have 300 MB each.

    The benchmark says by which share of the memory that chunks may take the peak was above that of
    the idle cluster: 0.5 to 0.85, more where the machine is busy. Were chunks made ahead of what
    takes them, it would be 10 and more.
    """
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "array_memory.py"), "--times", "2.5"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    print(done.stdout)
    found = re.findall(
        r"^(.+?) +[\d.]+ GiB .*above idle ([\d.]+); on disk (.+);", done.stdout, re.M
    )
    assert [(name, disk) for name, _, disk in found] == [
        ("pi", "0 B"),
        ("sum", "0 B"),
        ("std", "0 B"),
        ("x + x.T", "0 B"),
    ], done.stderr
    shares = {name: float(share) for name, share, _ in found}
    assert all(share <= 1.3 for share in shares.values()), shares
    assert re.search(r"^kept .*; kept$", done.stdout, re.M)  # reductions sent nothing to disk


@pytest.mark.slow
def test_what_is_kept_is_charged_once(until: Until) -> None:
    """A worker that reads blocks from the store maps them, and is not charged for that."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=LIMIT) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2, 30)
        x = da.random.random((240 * MB // 8,), chunks=16 * MB // 8).persist()
        wait(x)
        assert abs(float(x.std().compute()) - 12**-0.5) < 0.001
        turned = x.reshape(3000, 10_000).rechunk((3000, 500))  # boxes are copied out of the store
        assert abs(float((turned * 2).mean().compute()) - 1.0) < 0.001

        def sums() -> tuple[int, int]:
            workers = [each["metrics"] for each in client.scheduler_info()["workers"].values()]
            managed = sum(each["managed"] for each in workers)
            assert all(each["memory"] < LIMIT for each in workers)
            return managed + spilled(client), max(each["unmanaged"] for each in workers)

        until(lambda: abs(sums()[0] - x.nbytes) < MB, 10, "the bytes of x, in memory or on disk")
        # An interpreter with NumPy, and what a task took: a few blocks.
        until(lambda: sums()[1] < 160 * MB, 10, "workers that have no more than that")


def peak_of(client: Client, pids: Sequence[int], compute: Callable[[], Any]) -> tuple[Any, int]:
    """Return what a call returns, and the most memory that nobody could take from the cluster."""
    spec = importlib.util.spec_from_file_location("backpressure", BENCHMARKS / "backpressure.py")
    assert spec is not None
    assert spec.loader is not None
    backpressure = importlib.util.module_from_spec(spec)
    sys.modules["backpressure"] = backpressure
    spec.loader.exec_module(backpressure)

    class Started:
        """What a watcher wants to know of a cluster."""

        def __init__(self) -> None:
            self.pids = pids

    watcher: Any = backpressure.Watcher(client, Started())
    # Pages of files are left out: the system gives them up when it needs memory.
    watcher.now = lambda: sum(
        resident(process.pid)
        for pid in pids
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    )
    watcher.start()
    found = compute()
    watcher.end()
    return found, watcher.peak


def resident(pid: int) -> int:
    """Return the bytes of a process that are no file's, in proportion."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (OSError, psutil.Error):
        return 0
    found = dict(re.findall(r"^(Pss_\w+): +(\d+) kB", text, re.M))
    return 1024 * (int(found["Pss_Anon"]) + int(found["Pss_Shmem"]))


def check_columns(columns: Any, x: Any) -> None:
    """Compare with the same numbers made anew, by column."""
    np.testing.assert_allclose(columns, x.sum(axis=0).compute(), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_rows_become_columns_of_three_times_the_memory(tmp_path: Path) -> None:
    """Every block of the result takes a box of every block: all of it is there at a time."""
    side, chunk = 12_000, 200
    limit = 190 * MB  # of each of two workers; 1,152 MB in all
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=limit, local_directory=tmp_path
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2, 30)
        x = da.random.default_rng(5).random((side, side), chunks=(chunk, side))
        turned = x.rechunk((side, chunk))
        columns, peak = peak_of(client, cluster.pids, turned.sum(axis=0).compute)
        print(f"peak {peak / MB:.0f} MB; on disk {spilled(client) / MB:.0f} MB at the end")
        check_columns(columns, x)
        # The scheduler, the nanny and the template are beside the workers.
        assert peak < 2 * limit + 150 * MB


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_rows_become_columns_between_nodes_that_have_too_little(
    commands: Commands, tmp_path: Path, until: Until
) -> None:
    """Boxes cross over, of blocks that are on disk; no more bytes than must."""
    side, chunk = 12_000, 200
    limit = 190 * MB
    commands.start_scheduler()
    options = (f"--memory-limit={limit}", f"--local-directory={tmp_path}")
    pids = [commands.start_node(name, *options) for name in ("one", "two")]
    with Client(scheduler_file=str(commands.file)) as client:
        client.wait_for_workers(2, 30)
        x = da.random.default_rng(5).random((side, side), chunks=(chunk, side))
        turned = x.rechunk((side, chunk))
        columns, peak = peak_of(client, pids, turned.sum(axis=0).compute)
        must = x.nbytes / 2
        until(lambda: client.statistics()["sent_bytes"] > 0.9 * must, 5, "what was sent")
        moved = client.statistics()["sent_bytes"] / must
        print(f"peak {peak / MB:.0f} MB; {moved:.3f} of the bytes that must move")
        check_columns(columns, x)
        assert moved < 1.3  # 1.0 where each node made half of the blocks
        assert peak < 2 * limit + 150 * MB
