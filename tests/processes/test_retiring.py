"""Workers that leave: nothing is lost with them, and nobody starts them again."""

from __future__ import annotations

import logging
import operator
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from zcluster.distributed import Client, LocalCluster, wait
from zcluster.errors import UnknownWorker

if TYPE_CHECKING:
    from tests.processes.conftest import Commands, Log

pytestmark = pytest.mark.processes


def make(path: str, number: int) -> np.ndarray:
    with open(path, "a") as file:
        file.write(f"{number}\n")
    return np.full(50_000, number)


def note(path: str, number: int, gate: str = "") -> int:
    with open(path, "a") as file:
        file.write(f"{number}\n")
    while gate and not os.path.exists(gate):
        time.sleep(0.005)
    return number


def generate(path: str) -> Iterator[int]:
    with open(path, "a") as file:
        file.write("held\n")
    return (number for number in range(3))


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


@pytest.mark.dask("Client.retire_workers")
def test_a_node_leaves_and_nothing_is_lost(
    commands: Commands, log: Log, tmp_path: Path, until: Callable[..., None]
) -> None:
    commands.start_scheduler()
    for name in "abc":
        commands.start_node(name)
    gate = str(tmp_path / "gate")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(3, 20)
        large = client.map(make, [log.path] * 8, range(8), workers="a", pure=False)
        small = client.map(note, [log.path] * 50, range(100, 150), workers="a", pure=False)
        data = client.scatter(np.arange(10_000), workers="a")
        wait([*large, *small])
        held = client.submit(generate, log.path, workers="a", allow_other_workers=True, pure=False)
        wait(held)
        assert client.who_has(held)[held.key] == ["a"]
        running = client.submit(
            note, log.path, 200, gate, workers="a", allow_other_workers=True, pure=False
        )
        until(lambda: "200" in log.lines())
        queued = client.map(
            note,
            [log.path] * 20,
            range(300, 320),
            workers="a",
            allow_other_workers=True,
            pure=False,
        )
        with pytest.raises(TimeoutError, match="a: 1 tasks it has begun are not finished"):
            client.retire_workers("a", timeout=1.5)
        assert client.gather(queued, errors="raise") == list(range(300, 320))
        assert client.scheduler_info()["workers"]["a-0"]["status"] == "retiring"
        Path(gate).touch()
        gone = client.retire_workers(["a"], timeout=20)
        assert list(gone) == ["a-0"]
        assert gone["a-0"]["node"] == "a"
        assert commands.nodes["a"].wait(10) == 0
        assert sorted(client.scheduler_info()["workers"]) == ["b-0", "c-0"]
        assert running.result(20) == 200
        assert [int(value[0]) for value in client.gather(large)] == list(range(8))
        sums = client.gather([client.submit(np.sum, future) for future in large])
        assert sums == [50_000 * number for number in range(8)]
        assert client.gather(small) == list(range(100, 150))
        assert client.submit(sum, small).result(20) == sum(range(100, 150))
        assert client.submit(np.sum, data).result(20) == sum(range(10_000))
        # What could not travel was made again; nothing else.
        assert client.submit(list, held).result(20) == [0, 1, 2]
        again = {line for line, count in log.counts().items() if count > 1}
        assert again == {"held"}
        with pytest.raises(UnknownWorker):
            client.retire_workers("a")


@pytest.mark.slow
def test_whoever_took_all_of_a_layer_finds_it_where_it_went(commands: Commands) -> None:
    """Fetches under way, and places told before, lead to the node that is gone."""
    commands.start_scheduler()
    for name in "ab":
        commands.start_node(name)
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(2, 20)
        parts = client.map(np.full, [20_000] * 30, range(30), workers="a", pure=False)
        wait(parts)
        totals = [
            client.submit(lambda values, n: n + sum(map(np.sum, values)), parts, n)
            for n in range(40)
        ]
        client.retire_workers("a", timeout=30)  # it has begun some of them
        expected = 20_000 * sum(range(30))
        assert client.gather(totals) == [expected + n for n in range(40)]


@pytest.mark.slow
def test_some_workers_of_a_node_leave_and_their_results_stay(
    commands: Commands, log: Log, tmp_path: Path
) -> None:
    commands.start_scheduler()
    commands.start_node("a", "--nworkers=3")
    gate = str(tmp_path / "gate")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(3, 20)
        large = client.map(make, [log.path] * 6, range(6), pure=False)
        wait(large)
        busy = client.submit(
            note, log.path, 7, gate, workers="a-1", allow_other_workers=True, pure=False
        )
        log.wait_lines(7)
        mine = client.submit(note, log.path, 8, workers="a-0", allow_other_workers=True, pure=False)
        with pytest.raises(TimeoutError, match="a-1: it ends what it runs"):
            client.retire_workers(["a-0", "a-1"], timeout=3)
        Path(gate).touch()
        gone = client.retire_workers("a-1", timeout=20) if _is_here(client, "a-1") else {}
        assert set(gone) <= {"a-1"}
        assert list(client.scheduler_info()["workers"]) == ["a-2"]
        assert (busy.result(20), mine.result(20)) == (7, 8)
        assert [int(value[0]) for value in client.gather(large)] == list(range(6))
        client.restart()  # does not bring them back
        assert list(client.scheduler_info()["workers"]) == ["a-2"]
        assert client.submit(os.getpid, pure=False).result(20) > 0
        client.retire_workers("a-2", timeout=20)
        assert commands.nodes["a"].wait(10) == 0


def _is_here(client: Client, worker: str) -> bool:
    return worker in client.scheduler_info()["workers"]


@pytest.mark.slow
def test_what_cannot_be_handed_over_keeps_its_node(
    commands: Commands, caplog: pytest.LogCaptureFixture, until: Callable[..., None]
) -> None:
    commands.start_scheduler()
    commands.start_node("a")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(1, 20)
        kept = client.submit(np.ones, 30_000)
        assert kept.result().sum() == 30_000
        with (
            caplog.at_level(logging.WARNING, "zcluster"),
            pytest.raises(TimeoutError, match=r"no other node is here to take ones.*start one"),
        ):
            client.retire_workers("a", timeout=5)
        assert "a has not left yet: no other node is here" in caplog.text
        late = client.submit(operator.neg, 1)
        assert "1 nodes are to leave" in client.explain(late)
        commands.start_node("b")
        client.retire_workers("a", timeout=20)
        assert commands.nodes["a"].wait(10) == 0
        assert late.result(20) == -1
        assert client.submit(np.sum, kept).result(20) == 30_000

        actor = client.submit(Counter, actor=True).result(20)
        assert actor.add().result(20) == 1
        commands.start_node("c")
        client.wait_for_workers(2, 20)
        with pytest.raises(TimeoutError, match=r"b: it has the actor .*; let go of it"):
            client.retire_workers("b", timeout=3)
        assert actor.add().result(20) == 2
        del actor
        client.retire_workers("b", timeout=20)
        assert commands.nodes["b"].wait(10) == 0


@pytest.mark.slow
def test_a_node_dies_while_it_hands_over(commands: Commands, log: Log) -> None:
    commands.start_scheduler()
    for name in "ab":
        commands.start_node(name)
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(2, 20)
        large = client.map(
            make, [log.path] * 20, range(20), workers="a", allow_other_workers=True, pure=False
        )
        wait(large)
        with pytest.raises(TimeoutError):
            client.retire_workers("a", timeout=0.001)
        os.kill(commands.nodes["a"].pid, signal.SIGKILL)
        assert [int(value[0]) for value in client.gather(large)] == list(range(20))


@pytest.mark.slow
def test_without_names_those_leave_that_have_nothing_to_do(commands: Commands) -> None:
    commands.start_scheduler()
    for name in "abc":
        commands.start_node(name)
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(3, 20)
        kept = client.submit(np.ones, 30_000, workers="b")
        wait(kept)
        assert set(client.retire_workers(timeout=20)) == {"a-0", "c-0"}
        assert client.retire_workers(timeout=20) == {}
        assert client.gather(kept).sum() == 30_000


@pytest.mark.slow
def test_without_closing_a_node_stays_empty(commands: Commands) -> None:
    commands.start_scheduler()
    for name in "ab":
        commands.start_node(name)
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(2, 20)
        kept = client.submit(np.ones, 30_000, workers="b")
        wait(kept)
        assert list(client.retire_workers(names="b", close_workers=False, timeout=20)) == ["b-0"]
        assert "a" in client.who_has(kept)[kept.key]
        assert commands.nodes["b"].poll() is None
        homes = client.gather([client.submit(os.getppid, pure=False) for _ in range(10)])
        assert len(set(homes)) == 1
        client.retire_workers("b", timeout=20)
        assert commands.nodes["b"].wait(10) == 0
        assert client.gather(kept).sum() == 30_000


@pytest.mark.parametrize("processes", [True, False])
def test_a_local_cluster_lets_its_node_go(processes: bool, until: Callable[..., None]) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=processes) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(1, 20)
        assert client.submit(operator.neg, 1).result(20) == -1
        before = cluster.status
        client.retire_workers("local", timeout=20)
        if processes:
            until(lambda: len(cluster.pids) == 1, what="the scheduler alone")
        assert client.scheduler_info()["workers"] == {}
        assert cluster.status == before == "running"


@pytest.mark.slow
def test_nodes_are_replaced_one_by_one_while_work_goes_on(commands: Commands, log: Log) -> None:
    """A rolling upgrade: nothing is lost, and next to nothing runs twice.

    What lives in a worker's heap for the next task there is made again, where that one goes back.
    """
    commands.start_scheduler()
    for name in "ab":
        commands.start_node(name)
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(2, 20)
        chains = client.map(note, [log.path] * 40, range(40), pure=False)
        total = 40
        for old, new in zip("abcd", "cdef", strict=True):
            commands.start_node(new)
            for _ in range(5):
                later = range(total, total + 40)
                chains = [
                    client.submit(follow, log.path, chain, number, pure=False)
                    for chain, number in zip(chains, later, strict=True)
                ]
                total += 40
            client.wait_for_workers(3, 20)
            client.retire_workers(old, timeout=60)
            assert commands.nodes[old].wait(10) == 0
        assert client.gather(chains) == list(range(total - 40, total))
        assert set(client.scheduler_info()["workers"]) == {"e-0", "f-0"}
    counts = log.counts()
    assert counts.keys() == {str(number) for number in range(total)}
    assert sum(counts.values()) < 1.2 * total


def follow(path: str, before: int, number: int) -> int:
    assert before < number
    return note(path, number)
