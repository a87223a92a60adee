"""What goes to disk, when it may be used from there, and what becomes of what does not read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zcluster.core.node.invariants import check
from zcluster.core.node.records import Effects, Result
from zcluster.core.node.spilling import FRESH, HOLDER
from zcluster.protocol.messages import (
    Done,
    Free,
    Grant,
    Lost,
    Recalled,
    Reserve,
    Return,
    Run,
    Slot,
    Workers,
)
from zcluster.storage.arena import Range
from zcluster.storage.disk import DiskJob, is_on_disk


class Rig:
    """A bench with a disk, whose jobs are done when the test says so."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.core = bench.core
        self.store = bench.store
        self.store.has_disk = True
        self.jobs: list[DiskJob] = []
        self.opened: list[int] = []
        self.lost: list[str] = []
        bench.flush = self.flush

    def flush(self) -> Effects:
        effects: Effects = self.core.flush(self.bench.now)
        check(self.core)
        self.bench.effects.to_scheduler += effects.to_scheduler
        self.bench.effects.to_workers += effects.to_workers
        self.bench.effects.to_fetch += effects.to_fetch
        self.jobs += effects.to_disk
        self.opened += effects.opened
        self.lost += effects.lost_on_disk
        return effects

    def make(self, task: int, size: int = 1000, worker: int = 0, assign: bool = True) -> None:
        """Have a worker make a result in the store."""
        if assign:
            self.bench.assign({task: []})
        self.flush()
        self.bench.hear(Reserve(task, task, size), worker)
        self.settle()
        (grant,) = [g for g in self.bench.sent(Grant, worker) if g.request == task]
        assert grant.slab >= 0, grant.reason
        self.write(task, grant, size, worker)

    def write(self, task: int, grant: Grant, size: int, worker: int = 0) -> None:
        place = Range(grant.slab, grant.offset, grant.length)
        self.store.bytes[place] = b"b" * size
        self.bench.hear(Done([task], [-1], [10], [(task, *place[:2], size)]), worker)
        self.flush()

    def do(self, error: str = "", is_full: bool = False) -> DiskJob:
        """Do the next job."""
        self.flush()
        job = self.jobs.pop(0)
        sums = [] if error else [job.size]
        if job.source is not None and not error:
            self.store.bytes[job.place] = self.store.bytes[job.source]
        self.core.on_disk_done(job.ticket, sums, error, is_full, self.bench.now)
        check(self.core)
        self.flush()
        return job

    def settle(self) -> None:
        """Do all jobs."""
        self.flush()
        while self.jobs:
            self.do()

    def places(self) -> dict[int, str]:
        return {
            number: "disk" if is_on_disk(result.place) else "memory"
            for number, result in self.core.results.items()
            if result.place is not None
        }


@pytest.fixture
def rig(bench: Any) -> Callable[..., Rig]:
    """Return what makes a rig."""

    def make(**options: Any) -> Rig:
        return Rig(bench(**options))

    return make


def test_what_was_not_used_for_longest_goes_first(rig: Any) -> None:
    r = rig(target=3000)
    for task in (1, 2, 3):
        r.make(task)
    assert r.jobs == []
    r.bench.assign({10: [1]})  # uses the first
    r.bench.sent(Run)
    r.bench.hear(Return([(p.slab, p.offset, p.length) for p in [r.core.results[1].place]]))
    r.bench.done([10])
    r.make(4)
    r.settle()
    assert r.places() == {1: "memory", 2: "disk", 3: "memory", 4: "memory"}
    r.make(5)
    r.settle()
    assert r.places() == {1: "memory", 2: "disk", 3: "disk", 4: "memory", 5: "memory"}
    assert (r.store.used, r.store.spilled) == (3000, 2000)


def test_what_is_being_written_can_be_used_and_let_go(rig: Any) -> None:
    r = rig(target=1000)
    r.make(1)
    r.make(2)
    (job,) = r.jobs
    assert (job.kind, r.places()[1]) == ("write", "memory")
    r.bench.assign({10: [1]})
    ((source, slab, *_),) = r.bench.sent(Run)[-1].ranges
    assert (source, slab) == (1, 0)  # from memory, under a lease
    r.bench.tell(Free([1], []))
    r.bench.hear(Return([(job.source.slab, job.source.offset, job.source.length)]))
    assert job.source in r.store.bytes  # the writer still looks
    r.bench.done([10])
    r.do()
    assert job.source not in r.store.bytes
    assert r.store.spilled == 0
    assert 1 not in r.core.results


def test_what_is_freed_while_it_is_written_leaves_nothing(rig: Any) -> None:
    r = rig(target=1000)
    r.make(1)
    r.make(2)
    r.bench.tell(Free([1, 2], []))
    r.settle()
    assert (r.store.used, r.store.spilled, r.core.spilling.leaving) == (0, 0, 0)


def test_what_somebody_looks_at_stays(rig: Any) -> None:
    r = rig(target=1000, slots=4)
    r.make(1)
    r.bench.assign({10: [1]})
    r.bench.sent(Run)
    r.make(2)
    r.make(3)
    r.settle()
    assert r.places() == {1: "memory", 2: "disk", 3: "disk"}


def test_what_no_task_here_will_use_goes_before_what_one_will(rig: Any) -> None:
    r = rig(target=2000)
    r.make(1)
    r.make(2)
    r.bench.assign({10: [1, 99]}, places=[(99, 5, [4])])  # waits for another node's
    r.make(3)
    r.settle()
    assert r.places() == {1: "memory", 2: "disk", 3: "memory"}


def test_a_result_on_disk_is_checked_before_its_task_goes_out(rig: Any) -> None:
    r = rig(target=1000)
    r.make(1)
    r.make(2)
    r.settle()
    r.bench.assign({10: [1], 11: [2]})
    assert [run.tasks for run in r.bench.sent(Run)][-1] == [11]  # goes before it
    r.flush()
    (job,) = r.jobs
    assert (job.kind, job.place, job.sums) == ("check", r.core.results[1].place, (1000,))
    r.bench.done([11])
    assert r.bench.sent(Run) == []
    r.do()
    (run,) = r.bench.sent(Run)
    assert run.tasks == [10]
    assert is_on_disk(Range(*run.ranges[0][1:]))
    r.bench.done([10])
    r.bench.assign({12: [1]})
    assert r.bench.sent(Run)[0].tasks == [12]  # checked a moment ago
    r.bench.done([12])
    r.bench.now += FRESH + 1
    r.bench.assign({13: [1]})
    assert r.bench.sent(Run) == []
    r.settle()
    assert r.bench.sent(Run)[0].tasks == [13]


def test_one_check_serves_all_who_wait_and_only_the_next_are_checked(rig: Any) -> None:
    r = rig(target=1, slots=2)
    for task in range(1, 11):
        r.make(task)
    r.settle()
    r.bench.sent(Run)
    tasks = {20 + task: [task] for task in range(1, 11)} | {50: [1]}
    r.bench.assign(tasks)
    r.flush()
    assert len(r.jobs) == 4  # two for each slot
    seen: list[int] = []
    while len(seen) < len(tasks):
        r.settle()
        for run in r.bench.sent(Run):
            seen += run.tasks
            r.bench.done(run.tasks)
    assert sorted(seen) == sorted(tasks)


def test_what_follows_in_a_batch_waits_for_its_input_on_disk(rig: Any) -> None:
    r = rig(target=1000)
    r.make(1)
    r.make(2)
    r.settle()
    r.core.durations[b"f%15d" % 1] = 1e-5
    r.bench.assign({10: [], 11: [10, 1]})
    assert r.bench.sent(Run)[-1].tasks == [10]
    r.bench.done([10])
    r.settle()
    assert r.bench.sent(Run)[0].tasks == [11]


def test_a_part_of_what_is_on_disk_is_cut_by_who_takes_it(rig: Any) -> None:
    r = rig(target=1000)
    r.make(1)
    r.make(2)
    r.settle()
    r.bench.assign({10: [1]}, layer=2, slots=[Slot(1)], selections=[7])
    r.settle()
    (run,) = r.bench.sent(Run)[-1:]
    ((number, *place),) = run.ranges
    assert number < 0
    assert Range(*place) == r.core.results[1].place
    assert run.cuts == [(number, 1, [7])]
    r.bench.done([10])
    r.bench.tell(Free([1, 2], []))
    r.bench.hear(Return([tuple(place)]))
    assert r.store.spilled == 0


# ------------------------------------------------------------------------------ trouble


def test_what_does_not_read_is_lost_and_its_tasks_go_back(rig: Any) -> None:
    r = rig(target=1000)
    r.make(1)
    r.make(2)
    r.settle()
    r.bench.assign({10: [1], 11: [10], 12: [1, 2]})
    r.flush()
    r.do(error="/disk: Input/output error")
    assert r.lost == ["/disk: Input/output error"]
    assert r.bench.said(Lost)[0].tasks == [1]
    assert [sorted(told.tasks) for told in r.bench.said(Recalled)] == [[10, 12]]
    assert 1 not in r.core.results
    assert r.store.spilled == 0
    assert list(r.core.tasks) == [11]
    assert r.core.spilling.broken == ""


def test_a_part_goes_with_the_whole_that_does_not_read(rig: Any) -> None:
    r = rig(target=1000)
    r.make(1)
    r.make(2)
    r.settle()
    r.bench.assign({10: [1]}, layer=2, slots=[Slot(1)], selections=[7])
    r.flush()
    r.do(error="bad")
    assert r.bench.said(Lost)[0].tasks == [1]
    assert r.bench.said(Recalled)[0].tasks == [10]
    assert (r.core.parts, r.core.uses) == ({}, {})


def test_what_was_fetched_and_does_not_read_is_not_told_as_lost(rig: Any) -> None:
    r = rig(target=1)
    r.bench.assign({10: [99, 98]}, places=[(99, 1000, [4]), (98, 5, [4])])
    place = r.store.allocate(1000)
    r.core.on_fetched(99, Result(1000, place=place), r.bench.now)
    r.make(2)
    r.settle()
    assert r.places()[99] == "disk"
    r.bench.fetched(98)
    r.flush()
    r.do(error="bad")
    assert r.bench.said(Recalled)[0].tasks == [10]
    assert all(99 not in told.tasks for told in r.bench.said(Lost))


def test_three_in_a_row_and_the_node_takes_no_more_work(rig: Any) -> None:
    r = rig(target=1)
    for task in range(1, 6):
        r.make(task)
    r.settle()
    for task in (1, 2):
        r.bench.assign({20 + task: [task]})
        r.flush()
        r.do(error="/disk: Input/output error")
    r.bench.assign({23: [3]})
    r.settle()
    r.bench.done([23])  # that one could be read
    for task in (4, 5):
        r.bench.assign({20 + task: [task]})
        r.flush()
        r.do(error="/disk: Input/output error")
    assert r.core.spilling.broken == ""
    r.bench.now += FRESH + 1
    r.bench.assign({26: [3]})
    r.flush()
    r.do(error="/disk: Input/output error")
    worker = r.bench.said(Workers)[-1].workers[0]
    assert worker.status == "paused"
    assert worker.reason.startswith("3 results in a row could not be read back: /disk: Input")
    assert not r.core.spilling.can_write


def test_a_full_disk_leaves_results_where_they_are_and_is_tried_again(rig: Any) -> None:
    r = rig(target=1000)
    r.make(1)
    r.make(2)
    r.do(error="no space", is_full=True)
    assert r.places() == {1: "memory", 2: "memory"}
    assert r.core.spilling.full == "no space"
    assert r.store.spilled == 0
    r.flush()
    assert r.jobs == []
    r.bench.now += 1
    r.flush()
    assert len(r.jobs) == 1  # one, to see
    r.settle()
    assert r.core.spilling.full == ""
    assert sorted(r.places().values()) == ["disk", "memory"]


def test_at_its_limit_the_disk_is_full(rig: Any) -> None:
    r = rig(target=1000)
    r.store.allocate_on_disk = lambda size: None
    r.make(1)
    r.make(2)
    assert r.jobs == []
    assert r.core.spilling.full == "0 of 1073741824 bytes are in use"


def test_pressure_moves_what_it_says_whatever_the_target(rig: Any) -> None:
    r = rig()
    for task in range(1, 6):
        r.make(task)
    r.core.on_pressure(1500, r.bench.now)
    r.flush()
    assert len(r.jobs) == 2
    r.core.on_pressure(1500, r.bench.now)  # they are on their way
    r.flush()
    assert len(r.jobs) == 2
    r.settle()
    assert r.store.used == 3000


def test_a_result_on_disk_is_charged_to_nobody(rig: Any) -> None:
    r = rig(target=1000)
    r.make(1)
    r.make(2)
    assert r.core.workers[0].made == 2000
    r.settle()
    assert r.core.workers[0].made == 1000
    r.bench.tell(Free([1, 2], []))
    assert r.core.workers[0].made == 0


def test_others_are_told_when_a_result_was_checked(rig: Any) -> None:
    r = rig(target=1000)
    r.make(1)
    r.make(2)
    r.settle()
    assert r.core.spilling.open(2)
    assert not r.core.spilling.open(1)
    assert not r.core.spilling.open(1)
    r.flush()
    assert [job.kind for job in r.jobs] == ["check"]
    r.settle()
    assert r.opened == [1]
    assert r.core.spilling.open(1)


def test_a_check_of_what_is_freed_meanwhile_keeps_its_range(rig: Any) -> None:
    r = rig(target=1000)
    r.make(1)
    r.make(2)
    r.settle()
    place = r.core.results[1].place
    r.core.spilling.open(1)
    r.bench.tell(Free([1], []))
    assert r.store.leases[place] == {HOLDER: 1}
    r.do()
    assert place not in r.store.bytes
    assert r.opened == [1]


def test_without_a_disk_nothing_is_done(rig: Any) -> None:
    r = rig(target=1)
    r.store.has_disk = False
    r.make(1)
    r.core.on_pressure(10**9, r.bench.now)
    r.flush()
    assert r.jobs == []
