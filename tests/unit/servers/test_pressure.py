"""What a nanny does about the memory of its workers, with figures that the test makes up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from zcluster.core.node.core import NodeCore
from zcluster.core.node.records import WorkerEnd, WorkerRecord
from zcluster.protocol.messages import Assign, NodeLayer
from zcluster.servers import pressure as pressure_module
from zcluster.servers.memory import StoreMemory
from zcluster.servers.pressure import Pressure
from zcluster.servers.settings import MemoryShares
from zcluster.transport.loop import Loop

MIB = 1 << 20
LIMIT = 100 * MIB
ALL = MemoryShares(target=0.6, spill=0.7, pause=0.8, terminate=0.95)


class Bench:
    """Two workers, the memory they have, and who was killed or started anew."""

    def __init__(self, shares: MemoryShares = ALL, limit: int = LIMIT) -> None:
        self.loop = Loop()
        self.memory = StoreMemory(LIMIT, lambda slab, fd: None)
        workers = [WorkerRecord(number, f"w{number}", 1, limit) for number in range(2)]
        self.core = NodeCore("n", workers, self.memory)
        self.own = {100: 0, 101: 0}
        self.killed: list[int] = []
        self.restarted: list[int] = []
        self.kills = 0
        self.pressed: list[int] = []
        self.core.on_pressure = self._on_pressure  # type: ignore[method-assign]
        for number in range(2):
            self.core.on_worker_ready(number, 100 + number, 1, 0.0)
        self.pressure = Pressure(
            self.loop, self.core, self, shares, own=self.own.__getitem__, kills=lambda: self.kills
        )

    def _on_pressure(self, excess: int, now: float) -> None:
        self.pressed.append(excess)

    # The crew.

    def pid(self, number: int) -> int:
        return 100 + number

    def incarnation(self, number: int) -> int:
        return 0 if number in self.restarted else 1

    def kill(self, number: int) -> None:
        self.killed.append(number)

    def restart(self, number: int) -> None:
        self.restarted.append(number)

    # What happens.

    def run(self, task: int) -> None:
        """Have a worker run a task."""
        layer = NodeLayer(1, 0, 0, 0, b"f", [], [], [], "x")
        message = Assign(
            [layer], [(b"f", (2, 0, 0))], [(1, 1)], [task], [1], [task], [0], [], [0], [], [], [],
            [], [],
        )  # fmt: skip
        self.core.on_message(message, [b"", b"", b""], 0.0)
        self.core.flush(0.0)

    def look(self, first: float, second: float = 0.0) -> list[tuple[str, str]]:
        """Look once, with workers that have these MiB; return how they are then."""
        self.own.update({100: int(first * MIB), 101: int(second * MIB)})
        self.pressure.look()
        return [(w.status, w.reason) for w in self.core.worker_infos()]

    def end(self, number: int = 0, cause: str = "was killed by SIGKILL") -> WorkerEnd:
        end = WorkerEnd(number, 1, cause, 7, "", [])
        return self.pressure.judged(end, "SIGKILL" in cause)

    def close(self) -> None:
        self.pressure.close()
        self.memory.close()
        self.loop.close()


@pytest.fixture
def bench() -> Iterator[Any]:
    made: list[Bench] = []

    def make(*arguments: Any) -> Bench:
        made.append(Bench(*arguments))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_worker_that_is_charged_much_is_paused_until_it_is_well_below(bench: Any) -> None:
    b = bench()
    assert b.look(79) == [("running", "")] * 2
    (status, reason), other = b.look(81)
    b.look(82)
    assert (status, other) == ("paused", ("running", ""))
    assert "81.00 MiB of memory for itself and 0 B of results, more than 80% of the 100" in reason
    assert b.look(76)[0][0] == "paused"
    assert b.look(74)[0] == ("running", "")
    assert b.killed == b.restarted == []


def test_a_pause_is_logged_when_it_lasts_and_so_is_its_end(
    bench: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While results go to disk it comes and goes ten times a second."""
    b = bench()
    with caplog.at_level(logging.WARNING):
        for own in (81, 74, 81, 82, 74):
            b.look(own)
        assert not caplog.records
        reason = b.look(81)[0][1]
        monkeypatch.setattr(pressure_module, "_TELL_AFTER", 0.0)
        for own in (81, 82, 74, 74):
            b.look(own)
    assert [r.getMessage() for r in caplog.records] == [
        f"worker w0 gets no more work for now: {reason}",
        "worker w0 gets work again",
    ]


def test_results_that_cannot_leave_memory_pause_nobody_for_long(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a full disk: the store refuses more of them, and its task says why."""
    b = bench()
    worker = b.core.workers[0]
    worker.made = 60 * MIB
    assert b.look(30)[0][0] == "paused"
    monkeypatch.setattr(pressure_module, "_STUCK_AFTER", 0.0)
    worker.made = 55 * MIB
    assert [b.look(30)[0][0] for _ in range(2)] == ["paused", "paused"]  # some went
    assert [b.look(30)[0][0] for _ in range(2)] == ["running", "running"]
    # What it has for itself pauses it still.
    assert b.look(81)[0][0] == "paused"
    assert b.look(30)[0][0] == "running"
    # Once they have left, they count again.
    worker.made = 0
    b.look(30)
    worker.made = 60 * MIB
    assert b.look(30)[0][0] == "paused"


def test_results_count_as_memory_of_who_made_them_but_end_nobody(bench: Any) -> None:
    b = bench()
    b.core.workers[0].made = 200 * MIB
    assert [status for status, _ in b.look(1)] == ["paused", "running"]
    assert b.killed == b.restarted == []
    b.core.workers[0].made = 0
    assert [status for status, _ in b.look(1)] == ["running", "running"]


def test_what_is_over_the_spill_share_is_to_go_to_disk(bench: Any) -> None:
    b = bench()
    b.look(70)
    assert b.pressed == []
    b.look(72, 75)
    assert b.pressed == [7 * MIB]


def test_a_worker_over_its_limit_is_killed_once_and_its_task_is_told_why(bench: Any) -> None:
    b = bench()
    b.run(1)
    b.look(96)
    b.look(99)
    b.look(98)
    assert (b.killed, b.restarted) == ([0], [])
    end = b.end()
    assert end.peak_memory == 99 * MIB
    assert end.cause == "was ended by its nanny"
    assert end.out_of_memory.startswith(
        "it had 96.00 MiB for itself, more than 95% of its memory limit of 100.00 MiB; give"
    )
    assert b.end().out_of_memory == ""  # that was another start of it


def test_a_worker_over_its_limit_between_tasks_is_replaced_and_nobody_is_blamed(
    bench: Any,
) -> None:
    b = bench()
    b.look(96)
    assert (b.killed, b.restarted) == ([], [0])


def test_a_worker_that_lost_its_memory_is_replaced_after_a_while_but_not_in_a_task(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench()
    monkeypatch.setattr(pressure_module, "_LEAK_AFTER", 0.0)
    b.run(1)
    b.look(85)
    b.look(85)
    assert b.restarted == []
    b.core.workers[0].batches.clear()
    # Its results are much of it: without them it could run on.
    b.core.workers[0].made = 30 * MIB
    b.look(60)
    b.look(60)
    assert b.restarted == []
    b.look(85)
    b.look(85)
    assert b.restarted == [0]


def test_a_worker_that_begins_with_too_much_is_neither_paused_nor_replaced_for_ever(
    bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Another start of it would have as much. Its first task fails, and says why."""
    b = bench()
    b.own[100] = 96 * MIB
    with caplog.at_level(logging.WARNING):
        b.pressure.started(0)
        b.pressure.started(1)
        assert b.look(97)[0][0] == "running"
        b.pressure.started(0)
    assert [r.getMessage()[:57] for r in caplog.records] == [
        "worker w0 has 96.00 MiB of memory before its first task, "
    ]
    assert b.look(90)[0][0] == "running"
    assert (b.killed, b.restarted) == ([], [])
    b.run(1)
    b.look(97)
    assert b.killed == [0]
    c = bench()
    c.own[100] = 76 * MIB
    c.pressure.started(0)
    assert c.look(90)[0][0] == "running"
    c.look(96)  # another start would have less
    assert c.restarted == [0]


def test_a_worker_with_something_that_would_be_lost_is_not_replaced(bench: Any) -> None:
    """A value that cannot be pickled, or an actor, lives in it."""
    b = bench()
    b.core.workers[0].held.add(5)
    b.look(96)
    assert (b.killed, b.restarted) == ([0], [])
    c = bench()
    c.core.actors[7] = 0
    c.look(96)
    assert (c.killed, c.restarted) == ([0], [])


def test_a_kill_by_the_system_is_out_of_memory_too(bench: Any) -> None:
    b = bench()
    assert b.end().out_of_memory == ""
    b.kills = 1
    end = b.end()
    assert end.out_of_memory.startswith("the system ran short of it and chose this process")
    assert (end.cause, end.peak_memory) == ("was killed by SIGKILL", 7)
    assert b.end().out_of_memory == ""  # that kill is known by now
    b.kills = 2
    assert b.end(cause="exited with status 1").out_of_memory == ""


def test_a_worker_that_was_full_when_somebody_killed_it_was_out_of_memory(bench: Any) -> None:
    b = bench()
    b.look(91, 80)
    assert "nearly all of its 100.00 MiB" in b.end(0).out_of_memory
    assert b.end(1).out_of_memory == ""


def test_without_a_limit_nothing_is_watched_and_figures_are_read_when_asked_for(
    bench: Any,
) -> None:
    b = bench(ALL, 0)
    assert not b.pressure.is_watching
    assert not b.loop._timers
    b.own.update({100: 5, 101: 6})
    assert b.pressure.memory() == [5, 6]
    c = bench(MemoryShares())
    assert not c.pressure.is_watching
    assert not c.loop._timers


def test_it_looks_by_itself_and_says_what_it_saw_last(bench: Any) -> None:
    b = bench()
    b.own.update({100: 81 * MIB, 101: 5})
    assert b.pressure.memory() == [0, 0]
    while not b.core.workers[0].pauses:
        b.loop.run_once()
    assert b.pressure.memory() == [81 * MIB, 5]


@pytest.mark.parametrize(
    ("shares", "word"),
    [(MemoryShares(terminate=0.5), "running"), (MemoryShares(pause=0.5), "paused")],
)
def test_what_is_switched_off_is_not_done(bench: Any, shares: MemoryShares, word: str) -> None:
    b = bench(shares)
    b.run(1)
    assert b.look(99)[0][0] == word
    assert bool(b.killed) == (word == "running")
    assert b.pressed == []
