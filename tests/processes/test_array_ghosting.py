"""Ghost cells between two nodes: what crosses the network is the margins, and nothing else.

The blocks of an array lie on two nodes in turns, so that every neighbour is on the other one. The
data ports count the bytes that they send; a marker of a known size, sent last, tells when all of
them have been counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

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

ROWS, COLUMNS = 512, 1024
BLOCK = ROWS * COLUMNS * 8  # 4 MiB
MARKER = 1 << 20
#: Bytes of a block that is worth waiting for.
BLOCK = 4 << 20


@pytest.fixture
def client(commands: Commands) -> Iterator[Client]:
    """A client of the nodes ``a`` and ``b``; all tasks of a test start at once, three on each."""
    commands.start_scheduler()
    commands.start_node("a", "--nthreads=3")
    commands.start_node("b", "--nthreads=3")
    with Client(scheduler_file=str(commands.file)) as made:
        made.wait_for_workers(2, 30)
        yield made


def kept_in_turns(client: Client, count: int) -> tuple[da.Array, np.ndarray[Any, Any]]:
    """Return an array whose blocks of rows are on one node and on the other, and its values."""
    generator = da.random.default_rng(1)
    parts = []
    for number in range(count):
        with zcluster.annotate(workers=[f"{'ab'[number % 2]}-0"]):
            parts.append(generator.random((ROWS, COLUMNS), chunks=-1).persist())
    whole = da.concatenate(parts)
    wait([block for part in parts for block in part.expr.blocks.ravel()])
    return whole, whole.compute()


def sent(client: Client) -> int:
    return int(client.statistics()["sent_bytes"])


def count_sent(client: Client, until: Until, before: int) -> int:
    """Return the bytes sent since then, without the markers that make sure that all are told."""
    markers = [client.submit(np.ones, MARKER // 8, workers=f"{n}-0", pure=False) for n in "ab"]
    sums = [
        client.submit(np.sum, marker, workers=f"{n}-0", pure=False)
        for marker, n in zip(markers, "ba", strict=True)
    ]
    assert client.gather(sums) == [MARKER // 8] * 2
    until(lambda: sent(client) >= before + 2 * MARKER, 30, "the markers counted")
    return sent(client) - before - 2 * MARKER


def counted(client: Client, until: Until) -> int:
    """Return what has been sent so far, all of it."""
    start = sent(client)
    count_sent(client, until, start)
    return sent(client)


def diffused(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the mean of four neighbours; round the edge anything."""
    turned = [np.roll(block, step, axis) for axis in (0, 1) for step in (-1, 1)]
    return np.asarray(sum(turned)) / 4


@pytest.mark.parametrize("depth", [1, 3])
def test_of_a_kept_array_the_margins_move(client: Client, until: Until, depth: int) -> None:
    """Twice the depth in rows for each block that has neighbours on the other node."""
    count = 6
    x, values = kept_in_turns(client, count)
    before = counted(client, until)
    made = da.map_overlap(diffused, x, depth={0: depth, 1: 1}, boundary="periodic")
    found = made.sum(axis=1).compute()
    np.testing.assert_allclose(found, diffused(values).sum(axis=1))
    halo = count * 2 * depth * COLUMNS * 8
    moved = count_sent(client, until, before)
    # Corners are two columns more; each piece has a header.
    corners = count * 2 * depth * 2 * 8
    assert halo <= moved <= halo + corners + count * 6 * 1024
    assert moved < BLOCK / 4


def test_without_margins_nothing_moves(client: Client, until: Until) -> None:
    """Functions of blocks run where the blocks are."""
    x, values = kept_in_turns(client, 4)
    before = counted(client, until)
    found = ((x + 1) * 2).sum(axis=1).compute()
    np.testing.assert_allclose(found, ((values + 1) * 2).sum(axis=1))
    assert count_sent(client, until, before) < 64 * 1024


def test_a_slice_moves_its_rows(client: Client, until: Until) -> None:
    """Of blocks that are put together, the parts that are taken."""
    x, values = kept_in_turns(client, 4)
    before = counted(client, until)
    rows = x[ROWS - 8 : ROWS + 8].rechunk(-1) * 2
    found = rows.sum(axis=1).compute()
    np.testing.assert_allclose(found, (values[ROWS - 8 : ROWS + 8] * 2).sum(axis=1))
    assert count_sent(client, until, before) <= 8 * COLUMNS * 8 + 4096


def test_of_a_kept_array_only_partial_sums_move(client: Client, until: Until) -> None:
    """Also where all blocks of one node come first, and the other has nothing to do yet."""
    generator = da.random.default_rng(1)
    halves = []
    for name in "ab":
        with zcluster.annotate(workers=[f"{name}-0"]):
            halves.append(generator.random(8 * BLOCK // 8, chunks=BLOCK // 8).persist())
    wait([block for half in halves for block in half.expr.blocks.ravel()])
    x = da.concatenate(halves)
    before = counted(client, until)
    for power in range(1, 6):
        # Each time another callable: how long it takes is not known the first time.
        found = float((x**power).sum().compute())
        assert abs(found / (x.size / (power + 1)) - 1) < 0.01
        assert abs(float(x.sum().compute()) / (x.size / 2) - 1) < 0.01
    assert count_sent(client, until, before) < BLOCK // 16
