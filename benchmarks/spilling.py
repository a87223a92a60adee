"""What it costs that results do not fit into memory: bytes a second to disk and back.

A node of one worker with two threads makes several times the memory it may use, keeps all of
it, then reads all of it, one task a chunk. Beside it, in the same run and on the same disk, the
floor: a plain loop that claims, writes and reads back as many bytes with ``pwrite`` and
``pread``, without a checksum; and the same work on a node whose memory has no limit, where
nothing goes to disk. All three write to the page cache of the system, as it lets them.

    python benchmarks/spilling.py [--quick] [--limit 200MB] [--times 5] [--chunk 8MB] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import zlib
from typing import Any, NamedTuple

import numpy as np

from zcluster.client.client import Client
from zcluster.client.waiting import wait
from zcluster.config import format_bytes, parse_bytes

_STEP = 4 << 20


class Rates(NamedTuple):
    """Bytes a second out and in."""

    out: float
    back: float


def make(number: int, length: int) -> Any:
    return np.full(length, float(number))


def total(chunk: Any) -> float:
    return float(chunk.sum())


def floor(folder: str, size: int) -> Rates:
    """Write and read back as many bytes, with nothing around it."""
    data = memoryview(bytes(range(256)) * (_STEP // 256))
    with tempfile.TemporaryFile(dir=folder) as file:
        fd = file.fileno()
        began = time.perf_counter()
        os.posix_fallocate(fd, 0, size)
        for at in range(0, size, _STEP):
            os.pwrite(fd, data, at)
        wrote = time.perf_counter()
        buffer = bytearray(_STEP)
        for at in range(0, size, _STEP):
            os.preadv(fd, [buffer], at)
        return Rates(size / (wrote - began), size / (time.perf_counter() - wrote))


def checksum_rate() -> float:
    """Return how many bytes a second a checksum takes, which comes on top of either way."""
    data = bytes(64 << 20)
    began = time.perf_counter()
    zlib.crc32(data)
    return len(data) / (time.perf_counter() - began)


def work(folder: str, limit: int, chunk: int, count: int) -> tuple[Rates, int]:
    """Make and keep chunks, then read them; return the rates, and the bytes on disk."""
    length = chunk // 8
    with Client(
        n_workers=1, threads_per_worker=2, memory_limit=limit, local_directory=folder
    ) as client:
        client.submit(total, client.submit(make, 0, length)).result()  # imports NumPy
        began = time.perf_counter()
        futures = client.map(make, range(count), length=length, pure=False)
        wait(futures)
        made = time.perf_counter()
        sums = client.gather([client.submit(total, future) for future in futures])
        read = time.perf_counter()
        assert sums == [number * length for number in range(count)], "a sum is wrong"
        time.sleep(0.6)  # between two heartbeats
        (worker,) = client.scheduler_info()["workers"].values()
        spilled = worker["metrics"]["spilled"]
    size = count * length * 8
    return Rates(size / (made - began), size / (read - made)), spilled


def show(name: str, rates: list[Rates], against: list[Rates] | None = None) -> None:
    """Print the medians, and their ratio to those of others."""
    out = statistics.median(rate.out for rate in rates)
    back = statistics.median(rate.back for rate in rates)
    text = f"{name:28} {out / 1e6:>8,.0f} MB/s out {back / 1e6:>8,.0f} MB/s back"
    if against is not None:
        ratios = [
            statistics.median(getattr(rate, way) for rate in against) / value
            for way, value in (("out", out), ("back", back))
        ]
        text += f"   takes {ratios[0]:.2f} and {ratios[1]:.2f} times as long"
    print(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--limit", default="200MB", help="memory of the worker")
    parser.add_argument("--times", type=float, default=5.0, help="bytes made, over that")
    parser.add_argument("--chunk", default="8MB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="1 round, twice the memory")
    parser.add_argument("--folder", default="/var/tmp", help="where results go")
    given = parser.parse_args()
    limit, chunk = parse_bytes(given.limit), parse_bytes(given.chunk)
    times, rounds = (2.0, 1) if given.quick else (given.times, given.rounds)
    count = int(times * limit / chunk)
    size = count * (chunk // 8) * 8
    plain: list[Rates] = []
    spilling: list[Rates] = []
    unlimited: list[Rates] = []
    spilled = 0
    for _ in range(rounds):
        plain.append(floor(given.folder, size))
        rates, spilled = work(given.folder, limit, chunk, count)
        spilling.append(rates)
        unlimited.append(work(given.folder, 0, chunk, count)[0])
    print(
        f"{format_bytes(size)} in {count} chunks, {format_bytes(limit)} of memory, "
        f"{format_bytes(spilled)} on disk at the end; median of {rounds}"
    )
    show("pwrite and pread alone", plain)
    show("memory without a limit", unlimited)
    show("zcluster, going to disk", spilling, unlimited)
    print(f"{'a checksum':28} {checksum_rate() / 1e6:>8,.0f} MB/s")
    print(f"load average of the last minute {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
