"""Results on several nodes: copied for safety, moved to spread them."""

from __future__ import annotations

import operator
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from zcluster.distributed import Client
from zcluster.errors import InvalidArgument, ResultNotSerializable, UnknownWorker

if TYPE_CHECKING:
    from tests.processes.conftest import Commands, Log

pytestmark = pytest.mark.processes


def make(path: str, number: int) -> np.ndarray:
    with open(path, "a") as file:
        file.write(f"{number}\n")
    return np.full(50_000, number)


@pytest.mark.slow
def test_copies_survive_a_node_and_results_are_spread(
    commands: Commands, log: Log, until: Callable[..., None]
) -> None:
    commands.start_scheduler()
    pids = {name: commands.start_node(name) for name in "abc"}
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(3, 20)
        large = client.map(make, [log.path] * 6, range(6), workers="a", pure=False)
        small = client.submit(operator.neg, 1, workers="a")
        client.replicate([*large, small], n=2)
        holders = client.who_has(large)
        assert all("a" in names and len(names) == 2 for names in holders.values())
        assert {name for names in holders.values() for name in names} == {"a", "b", "c"}
        client.replicate(small, workers=["b", "c"])
        assert sorted(client.who_has(small)[small.key]) == ["a", "b", "c"]
        os.kill(pids["a"], signal.SIGKILL)
        until(lambda: len(client.scheduler_info()["workers"]) == 2)
        sums = [client.submit(np.sum, future, workers="b") for future in large]
        assert client.gather(sums) == [50_000 * number for number in range(6)]
        assert set(log.counts().values()) == {1}  # nothing was made again

        crowded = client.map(make, [log.path] * 4, range(10, 14), workers="b", pure=False)
        client.rebalance(crowded)
        homes = [names for (names,) in client.who_has(crowded).values()]
        assert sorted(homes) == ["b", "b", "c", "c"]
        assert [int(array[0]) for array in client.gather(crowded)] == [10, 11, 12, 13]
        assert client.submit(np.sum, crowded[0], workers="c").result(20) == 500_000

        held = client.submit(lambda: (number for number in range(3)), pure=False)
        with pytest.raises(ResultNotSerializable, match=f"{held.key} cannot be copied"):
            client.replicate(held)
        with pytest.raises(ZeroDivisionError):
            client.replicate(client.submit(operator.truediv, 1, 0))
        with pytest.raises(UnknownWorker):
            client.replicate(small, workers="nobody")
        with pytest.raises(InvalidArgument, match="n is 0"):
            client.replicate(small, n=0)
        client.rebalance([])
        del large, small, sums, crowded, held
        until(lambda: not any(client.has_what().values()), what="an empty cluster")
