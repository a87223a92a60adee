"""``zcluster demo``: a first run, on this machine and without a network."""

from __future__ import annotations

import math
import time

import click

__all__ = ["count_inside", "demo"]

_WORKERS = 2
_TASKS = 40
_POINTS = 2_000_000  # in each task: 32 MB at a time


def count_inside(seed: int, points: int) -> int:
    """Return how many of so many random points of the unit square lie in the quarter circle."""
    import numpy as np  # where the task runs

    random = np.random.default_rng(seed)
    x, y = random.random(points), random.random(points)
    return int(np.count_nonzero(x * x + y * y < 1.0))


@click.command("demo")
@click.option("--tasks", type=click.IntRange(1, 1_000_000), default=_TASKS, show_default=True)
@click.option("--points", type=click.IntRange(1), default=_POINTS, show_default=True)
def demo(tasks: int, points: int) -> None:
    """Estimate pi on a cluster of this machine."""
    from zcluster.distributed import Client, progress  # not for --help

    click.echo(f"Starting a scheduler and {_WORKERS} workers on this machine: Client(n_workers=2)")
    began = time.perf_counter()
    with Client(n_workers=_WORKERS, threads_per_worker=1, set_as_default=False) as client:
        click.echo(f"{client}, ready after {time.perf_counter() - began:.2f} s")
        click.echo(f"{tasks} tasks, each with {points:,} random points: client.map, client.gather")
        began = time.perf_counter()
        counts = client.map(count_inside, range(tasks), [points] * tasks)
        progress(counts)
        estimate = 4 * sum(client.gather(counts)) / (tasks * points)
        seconds = time.perf_counter() - began
    click.echo(f"pi is about {estimate:.6f}, error {abs(estimate - math.pi):.1e}, {seconds:.2f} s")
    click.echo("The cluster has ended. Its code is zcluster/cli/demo.py.")
