"""A client whose connection to the scheduler is cut: within its grace it loses nothing."""

from __future__ import annotations

import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from zcluster.client import fetching
from zcluster.distributed import Client, LocalCluster, wait
from zcluster.errors import SchedulerLost

if TYPE_CHECKING:
    from tests.processes.conftest import Log
    from tests.processes.links import Relay

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1, 2) as made:
        with Client(made) as client:
            client.wait_for_workers(1, timeout=20)
        yield made


@pytest.fixture
def wire(cluster: LocalCluster, relays: Callable[[str], Relay]) -> Relay:
    return relays(cluster.scheduler_address)


def note(path: str, number: int) -> int:
    with open(path, "a") as file:
        file.write(f"{number}\n")
    return -number


def test_cuts_in_the_middle_of_messages_lose_and_double_nothing(wire: Relay, log: Log) -> None:
    with Client(wire.address) as client:
        futures = []
        for start in range(0, 600, 100):
            wire.left = 500 + 17 * start  # it is cut somewhere within what comes
            futures += [
                client.submit(note, log.path, number, pure=False)
                for number in range(start, start + 100)
            ]
            assert client.gather(futures[start:]) == [-n for n in range(start, start + 100)]
            if wire.left is not None:
                wire.end()
        array = client.submit(np.arange, 100_000)
        assert array.result(20)[-1] == 99_999
        assert wire.made == 7, "it was not cut each time"
        assert set(log.counts().values()) == {1}
        assert client.gather(futures) == [-number for number in range(600)]
        assert client.status == "running"


def test_a_cut_of_a_second_is_within_the_grace(wire: Relay, until: Callable[..., None]) -> None:
    with Client(wire.address) as client:
        kept = client.submit(np.arange, 100_000)
        wait([kept])
        running = [client.submit(time.sleep, 0.2 + i / 1000, pure=False) for i in range(4)]
        wire.refuse()
        during = client.map(operator.neg, range(50))
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 1.0)
        assert not any(future.done() for future in during)
        wire.listen()
        assert client.gather(during) == [-i for i in range(50)]
        assert client.gather(running) == [None] * 4
        assert client.submit(np.sum, kept).result(20) == 4_999_950_000


def test_a_cut_beyond_the_grace_fails_every_future_and_says_so(
    wire: Relay, cluster: LocalCluster
) -> None:
    with Client(wire.address) as client, Client(cluster) as other:
        done = client.submit(operator.neg, 1)
        assert done.result(20) == -1
        pending = client.submit(time.sleep, 30, pure=False)
        began = time.monotonic()
        wire.refuse()
        with pytest.raises(SchedulerLost, match="the scheduler is lost"):
            pending.result(20)
        assert 1.5 < time.monotonic() - began < 6
        assert done.result(1) == -1  # it was here already
        assert pending.status == "lost"
        with pytest.raises(SchedulerLost):
            client.submit(operator.neg, 2)
        assert client.status == "closed"
        assert other.submit(operator.neg, 3).result(20) == -3  # nobody else is concerned


def test_a_store_that_is_silent_for_a_while_takes_everything_in_the_end(
    cluster: LocalCluster,
    stopped: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no other node, and this one is not full: it is waited for."""
    monkeypatch.setattr(fetching, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(fetching, "WATCH_SECONDS", 0.1)
    large = [np.full(4_000_000, number) for number in range(2)]
    with Client(cluster) as client:
        nanny = client.submit(os.getppid).result(20)
        stopped(nanny)
        threading.Timer(3.0, os.kill, (nanny, signal.SIGCONT)).start()
        futures = client.scatter(large)
        total = client.submit(np.sum, large[1][:1_000_000], pure=False)
        assert client.gather(client.map(np.sum, futures)) == [0, 4_000_000]
        assert total.result(30) == 1_000_000
        assert client.gather(futures)[1][-1] == 1
