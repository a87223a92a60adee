"""``zcluster bench``: what a cluster does in a few seconds, in four figures.

Each is the best of some rounds: what the machine does beside it only ever makes it slower. The
answers are checked; a wrong one ends the run.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from zcluster.config import format_bytes
from zcluster.errors import ClusterError

from .connecting import ask_overview, cluster_options, connect, is_named

if TYPE_CHECKING:
    from zcluster.client.client import Client

__all__ = ["bench", "measure"]

_ROUNDS = 3
_CALLS = 200


class Figure(NamedTuple):
    """One line of the table."""

    name: str
    value: float
    unit: str
    what: str

    @property
    def shown(self) -> str:
        """The value as people read it.

        >>> Figure("tasks", 12345.6, "a second", "").shown, Figure("latency", 0.98, "ms", "").shown
        ('12,346 a second', '0.98 ms')
        """
        digits = 0 if self.value >= 100 else 2
        return f"{self.value:,.{digits}f} {self.unit}"


def increment(number: int) -> int:
    """Return the next number."""
    return number + 1


def make(size: int, salt: int) -> bytes:
    """Return so many bytes, different ones for each ``salt``."""
    return salt.to_bytes(8, "little") + bytes(size - 8)


def length(data: bytes) -> int:
    """Return how many bytes these are."""
    return len(data)


@click.command("bench")
@cluster_options
@click.option("--tasks", type=click.IntRange(1, 1_000_000), default=5_000, show_default=True)
@click.option("--size", type=click.IntRange(1 << 20, 1 << 30), default=32 << 20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def bench(
    address: str | None,
    scheduler_file: Path | None,
    insecure: bool,
    timeout: float,
    tasks: int,
    size: int,
    as_json: bool,
) -> None:
    """Measure a cluster: tasks a second, latency, bandwidth.

    The cluster is named by the ADDRESS its scheduler prints, or by --scheduler-file; without
    both, it is one of two workers on this machine.
    """
    with _client(address, scheduler_file, insecure, timeout) as client:
        client.wait_for_workers(1, timeout)
        if not as_json:
            click.echo(f"{client}")
        figures = list(measure(client, tasks, size))
    if as_json:
        click.echo(json.dumps([figure._asdict() for figure in figures], indent=2))
        return
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        click.echo(f"{figure.name:<{width}}  {figure.shown:>18}  {figure.what}")


def _client(
    address: str | None, scheduler_file: Path | None, insecure: bool, timeout: float
) -> Client:
    if is_named(address, scheduler_file):
        return connect(address, scheduler_file, insecure, timeout)
    from zcluster.client.client import Client  # not for --help

    return Client(n_workers=2, threads_per_worker=1, set_as_default=False)


def measure(client: Client, tasks: int, size: int) -> Iterator[Figure]:
    """Yield the figures of a cluster, as they are measured.

    Raises
    ------
    ClusterError
        If an answer is wrong.
    """
    _map_gather(client, min(tasks, 500))  # whoever runs first pays for the imports
    seconds = min(_map_gather(client, tasks) for _ in range(_ROUNDS))
    yield Figure("tasks", tasks / seconds, "a second", f"map and gather of {tasks:,} small calls")
    latency = statistics.median(_calls(client))
    yield Figure("latency", 1000 * latency, "ms", f"submit and result, median of {_CALLS}")
    amount = format_bytes(size)
    salts = iter(range(1_000_000))

    def bandwidth(move: Callable[[Client, int, int], float]) -> float:
        return size / 1e6 / min(move(client, size, next(salts)) for _ in range(_ROUNDS))

    yield Figure("to a node", bandwidth(_scatter), "MB/s", f"scatter of {amount}")
    yield Figure("from a node", bandwidth(_fetch), "MB/s", f"result of {amount}")
    names = _two_nodes(client)
    if names is not None:

        def move(client: Client, size: int, salt: int) -> float:
            return _between(client, size, salt, names)

        what = f"{amount} from {names[0]} to {names[1]}"
        yield Figure("between nodes", bandwidth(move), "MB/s", what)


def _map_gather(client: Client, tasks: int) -> float:
    began = time.perf_counter()
    futures = client.map(increment, range(tasks), pure=False)
    total = sum(client.gather(futures))
    seconds = time.perf_counter() - began
    _check("the sum of all results", total, tasks * (tasks + 1) // 2)
    return seconds


def _calls(client: Client) -> Iterator[float]:
    for number in range(_CALLS):
        began = time.perf_counter()
        found = client.submit(increment, number, pure=False).result(30)
        yield time.perf_counter() - began
        _check("a result", found, number + 1)


def _scatter(client: Client, size: int, salt: int) -> float:
    data = make(size, salt)
    began = time.perf_counter()
    future = client.scatter(data)
    seconds = time.perf_counter() - began
    _check("what arrived", client.submit(length, future, pure=False).result(60), size)
    return seconds


def _fetch(client: Client, size: int, salt: int) -> float:
    future = client.submit(make, size, salt, pure=False)
    _wait(future)
    began = time.perf_counter()
    data = future.result(60)
    seconds = time.perf_counter() - began
    _check("what arrived", data[:8], salt.to_bytes(8, "little"))
    return seconds


def _between(client: Client, size: int, salt: int, names: tuple[str, str]) -> float:
    future = client.submit(make, size, salt, pure=False, workers=[names[0]])
    _wait(future)
    began = time.perf_counter()
    found = client.submit(length, future, pure=False, workers=[names[1]]).result(60)
    seconds = time.perf_counter() - began
    _check("what arrived", found, size)
    return seconds


def _wait(future: Any) -> None:
    from zcluster.client.waiting import wait  # not for --help

    wait([future], timeout=60)


def _two_nodes(client: Client) -> tuple[str, str] | None:
    """Return a worker each of two nodes, if there are two."""
    found = [
        node["workers"][0]["name"] for node in ask_overview(client)["nodes"] if node["workers"]
    ]
    names = sorted(found)
    return (names[0], names[1]) if len(names) > 1 else None


def _check(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ClusterError(
            f"{what} is {found!r}, expected {expected!r}: the cluster computes wrongly; run "
            "'zcluster doctor' for it, and report what it says"
        )
