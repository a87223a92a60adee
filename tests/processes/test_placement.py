"""Large results stay where they are: what takes them goes to them, and partial results cross."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

import zcluster
import zcluster.array as da
from zcluster.client.client import Client
from zcluster.client.waiting import wait

if TYPE_CHECKING:
    from tests.processes.conftest import Commands

pytestmark = pytest.mark.processes

Until = Callable[..., None]

BLOCK = 4 << 20
MARKER = 1 << 20


@pytest.fixture
def client(commands: Commands) -> Iterator[Client]:
    """A client of two nodes with a slot each."""
    commands.start_scheduler()
    commands.start_node("a")
    commands.start_node("b")
    with Client(scheduler_file=str(commands.file)) as made:
        made.wait_for_workers(2, 30)
        yield made


def sent(client: Client) -> int:
    return int(client.statistics()["sent_bytes"])


def count_sent(client: Client, until: Until, before: int) -> int:
    """Return the bytes sent since then; markers, sent last, tell when all have been counted."""
    markers = [client.submit(np.ones, MARKER // 8, workers=f"{n}-0", pure=False) for n in "ab"]
    sums = [
        client.submit(np.sum, marker, workers=f"{n}-0", pure=False)
        for marker, n in zip(markers, "ba", strict=True)
    ]
    assert client.gather(sums) == [MARKER // 8] * 2
    until(lambda: sent(client) >= before + 2 * MARKER, 30, "the markers counted")
    return sent(client) - before - 2 * MARKER


def test_of_a_kept_array_only_partial_sums_move(client: Client, until: Until) -> None:
    """Also where all blocks of one node come first, and the other has nothing to do yet."""
    generator = da.random.default_rng(1)
    halves = []
    for name in "ab":
        with zcluster.annotate(workers=[f"{name}-0"]):
            halves.append(generator.random(8 * BLOCK // 8, chunks=BLOCK // 8).persist())
    wait([block for half in halves for block in half.expr.blocks.ravel()])
    x = da.concatenate(halves)
    start = sent(client)
    count_sent(client, until, start)
    before = sent(client)
    for power in range(1, 6):
        # Each time another callable: how long it takes is not known the first time.
        found = float((x**power).sum().compute())
        assert abs(found / (x.size / (power + 1)) - 1) < 0.01
        assert abs(float(x.sum().compute()) / (x.size / 2) - 1) < 0.01
    assert count_sent(client, until, before) < BLOCK // 16
