"""Who waits for room gets it: by what goes to disk, on disk, or by what ends; or is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from zcluster.core.node.invariants import check, check_empty
from zcluster.core.node.records import Result, RoomGiven
from zcluster.graph.layers import Graph
from zcluster.protocol.messages import (
    Done,
    Drop,
    Failed,
    Free,
    Grant,
    Recalled,
    Reserve,
    Return,
    Run,
    Workers,
)
from zcluster.storage.arena import Range
from zcluster.storage.disk import DiskJob, is_on_disk
from zcluster.testing.model import Spec
from zcluster.testing.stores import AMPLE, Storage
from zcluster.testing.world import World


class Rig:
    """A bench whose store has room for 3000 bytes, and perhaps a disk."""

    def __init__(self, bench: Any, has_disk: bool) -> None:
        self.bench, self.core, self.store = bench, bench.core, bench.store
        self.store.limit = 3000
        self.store.has_disk = has_disk
        self.jobs: list[DiskJob] = []
        self.given: list[RoomGiven] = []
        self.grants: dict[int, Grant] = {}
        self.runs: list[list[int]] = []
        bench.flush = self.flush

    def flush(self) -> None:
        effects = self.core.flush(self.bench.now)
        check(self.core)
        self.bench.effects.to_scheduler += effects.to_scheduler
        self.bench.effects.to_fetch += effects.to_fetch
        for _, message, _ in effects.to_workers:
            if isinstance(message, Grant):
                self.grants[message.request] = message
            elif isinstance(message, Run):
                self.runs.append(message.tasks)
        self.jobs += effects.to_disk
        self.given += effects.room

    def settle(self, error: str = "", is_full: bool = False) -> None:
        """Do all jobs."""
        self.flush()
        while self.jobs:
            job = self.jobs.pop(0)
            if job.source is not None and not error:
                self.store.bytes[job.place] = self.store.bytes[job.source]
            sums = [] if error else [job.size]
            self.core.on_disk_done(job.ticket, sums, error, is_full, self.bench.now)
            self.flush()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        until = self.bench.now + seconds
        while self.bench.now < until:
            self.bench.now += 0.1
            self.core.on_time(self.bench.now)
            self.flush()

    def reserve(self, task: int, size: int, worker: int = 0) -> None:
        self.bench.hear(Reserve(task, task, size), worker)
        self.flush()

    def write(self, task: int, size: int, worker: int = 0) -> None:
        """Have a result written where it was granted."""
        grant = self.grants.pop(task)
        place = Range(grant.slab, grant.offset, grant.length)
        self.store.bytes[place] = b"b" * size
        self.bench.hear(Done([task], [-1], [10], [(task, *place[:2], size)]), worker)
        self.flush()

    def make(self, task: int, size: int = 1000) -> None:
        self.bench.assign({task: []})
        self.flush()
        self.reserve(task, size)
        self.settle()
        self.write(task, size)


@pytest.fixture
def rig(bench: Any) -> Callable[..., Rig]:
    """Return what makes a rig."""

    def make(has_disk: bool = False, **options: Any) -> Rig:
        return Rig(bench(**options), has_disk)

    return make


# -------------------------------------------------------------------------- with a disk


def test_room_is_made_by_results_that_go_to_disk(rig: Any) -> None:
    r = rig(has_disk=True)
    for task in (1, 2, 3):
        r.make(task)
    r.bench.assign({4: []})
    r.flush()
    r.reserve(4, 1500)
    assert r.grants == {}
    assert [job.kind for job in r.jobs] == ["write", "write"]
    r.settle()
    assert not is_on_disk(Range(r.grants[4].slab, 0, 0))
    r.write(4, 1500)
    assert r.store.used == 2500


def test_where_all_is_in_use_there_is_room_on_disk(rig: Any) -> None:
    """So nobody waits for those who wait for him."""
    r = rig(has_disk=True, slots=8)
    for task in (1, 2, 3):
        r.make(task)
    r.bench.assign({10: [1, 2, 3]})
    r.flush()
    r.reserve(10, 1000)
    assert [job.kind for job in r.jobs] == ["claim"]
    r.settle()
    assert is_on_disk(Range(r.grants[10].slab, 0, 0))
    r.write(10, 1000)
    assert [job.kind for job in r.jobs] == ["sum"]
    r.settle()
    assert r.core.results[10].sums == [1000]
    r.bench.tell(Free([10, 1, 2, 3], []))
    assert r.store.spilled == 0


def test_a_result_larger_than_memory_goes_to_disk_as_it_is_written(rig: Any) -> None:
    r = rig(has_disk=True)
    r.make(1)
    r.bench.assign({2: []})
    r.flush()
    r.reserve(2, 5000)
    r.settle()
    assert is_on_disk(Range(r.grants[2].slab, 0, 0))
    r.write(2, 5000)
    r.settle()
    r.bench.assign({3: [2]})
    r.flush()
    assert r.runs[-1] == [3]
    assert r.store.used == 1000  # nothing had to make room for it


def test_who_came_first_is_served_first(rig: Any) -> None:
    r = rig(has_disk=True, slots=8)
    r.make(1, 2500)
    r.bench.assign({2: [], 3: []})
    r.flush()
    r.reserve(2, 1000)
    r.reserve(3, 400)
    assert r.grants == {}  # there is room for the second, who does not pass
    r.settle()
    assert sorted(r.grants) == [2, 3]


def test_an_input_waits_behind_what_runs_and_the_next_task_s_comes_first(rig: Any) -> None:
    r = rig(has_disk=True, slots=8)
    r.bench.assign({11: [91], 10: [90], 20: []}, places=[(90, 1000, [4]), (91, 1000, [4])])
    r.flush()
    r.make(1, 2500)
    r.core.room.want_data(7, 1000)
    r.core.room.want_input(91, 1000)
    r.core.room.want_input(90, 1000)
    r.bench.hear(Reserve(20, 20, 1000))
    order = [wanted.number for wanted in r.core.room.waiting]
    assert order == [20, 90, 91, 7]
    r.settle()
    r.settle()
    assert 20 in r.grants
    assert [(given.number, given.is_input) for given in r.given] == [
        (90, True),
        (91, True),
        (7, False),
    ]
    for given in r.given:
        r.store.free(given.place)


def test_a_full_disk_pauses_the_node_and_then_fails_who_waits(rig: Any) -> None:
    r = rig(has_disk=True)
    for task in (1, 2, 3):
        r.make(task)
    r.bench.assign({4: []})
    r.flush()
    r.reserve(4, 1000)
    r.settle(error="/disk has 0 of 100 bytes free", is_full=True)
    r.wait(0.2)
    worker = r.bench.said(Workers)[-1].workers[0]
    assert worker.status == "paused"
    assert "memory has no room" in worker.reason
    assert "/disk has 0 of 100 bytes free" in worker.reason
    for _ in range(10):
        r.wait(0.3)
        r.settle(error="/disk has 0 of 100 bytes free", is_full=True)
    grant = r.grants.pop(4)
    assert grant.slab == -2
    assert "no room for 1000 bytes (3000 of 3000 are in use)" in grant.reason
    assert "/disk has 0 of 100 bytes free" in grant.reason
    r.flush()
    assert r.bench.said(Workers)[-1].workers[0].status == "running"


def full_of_inputs(rig: Any) -> Any:
    """Return a node that is full, and whose disk is; a task waits for room for its input."""
    r = rig(has_disk=True)
    for task in (1, 2, 3):
        r.make(task)
    want_again(r)
    r.settle(error="full", is_full=True)
    r.wait(0.2)
    return r


def want_again(r: Any) -> None:
    r.bench.assign({10: [90]}, places=[(90, 1000, [4])])
    r.flush()
    r.core.room.want_input(90, 1000)
    r.flush()


def test_a_full_node_whose_tasks_went_back_leaves_others_their_chance(rig: Any) -> None:
    """Or two full nodes hand a task to each other, and a third one never sees it."""
    r = full_of_inputs(rig)
    assert r.bench.said(Recalled)[-1].tasks == [10]
    assert not r.core.room.waiting
    r.wait(0.5)
    assert r.core.is_paused
    r.wait(1.0)
    assert not r.core.is_paused


def test_what_a_task_had_fetched_makes_no_room_for_it_when_it_goes(rig: Any) -> None:
    """Its other inputs leave with it; it would fetch them again, and wait again."""
    r = rig(has_disk=True)
    r.make(1)
    places = [(number, 1000, [4]) for number in (90, 91, 92)]
    r.bench.assign({10: [90, 91, 92]}, places=places)
    r.flush()
    for number in (90, 91):
        place = r.core.room.take(1000)
        r.core.on_fetched(number, Result(1000, place=place), r.bench.now)
    r.core.room.want_input(92, 1000)
    r.settle(error="full", is_full=True)
    r.wait(0.3)
    assert r.bench.said(Recalled)[-1].tasks == [10]
    assert r.store.used == 1000
    assert r.core.is_paused
    r.wait(1.5)
    assert not r.core.is_paused


def test_a_full_node_takes_work_as_soon_as_something_is_freed(rig: Any) -> None:
    r = full_of_inputs(rig)
    assert r.core.is_paused
    r.bench.tell(Free([1], []))
    r.flush()
    assert not r.core.is_paused


def test_a_task_that_comes_back_again_and_again_is_refused_in_the_end(rig: Any) -> None:
    """If there is no other node, it would wait for ever."""
    r = full_of_inputs(rig)
    for _ in range(10):
        r.wait(8.1)
        refused = [given for given in r.given if "no room" in given.reason]
        if refused:
            break
        want_again(r)
        r.settle(error="full", is_full=True)
        r.wait(0.2)
    assert [(given.number, given.place) for given in refused] == [(90, None)]


def test_work_goes_on_when_there_is_space_again(rig: Any) -> None:
    r = rig(has_disk=True)
    for task in (1, 2, 3):
        r.make(task)
    r.bench.assign({4: []})
    r.flush()
    r.reserve(4, 1000)
    r.settle(error="full", is_full=True)
    r.wait(0.2)
    assert r.core.is_paused
    r.wait(0.4)
    r.settle()
    assert r.grants[4].slab >= 0
    r.flush()
    assert not r.core.is_paused


def test_room_claimed_for_a_worker_that_ended_is_given_back(rig: Any) -> None:
    r = rig(has_disk=True)
    r.bench.assign({1: []})
    r.flush()
    r.reserve(1, 5000)
    (job,) = r.jobs
    r.bench.end(running=[1])
    r.settle()
    assert r.grants == {}
    assert job.place not in r.store.bytes
    assert r.core.room.is_idle


# ----------------------------------------------------------------------- without a disk


def test_what_ends_makes_room(rig: Any) -> None:
    r = rig(slots=8)
    for task in (1, 2, 3):
        r.make(task)
    r.bench.assign({4: []})
    r.flush()
    r.reserve(4, 1000)
    r.wait(0.3)
    assert r.grants == {}
    r.bench.tell(Free([1], []))
    r.flush()
    assert r.grants[4].slab == 0


def test_where_nothing_ends_who_waits_is_refused_with_figures(rig: Any) -> None:
    r = rig()
    for task in (1, 2, 3):
        r.make(task)
    r.bench.assign({4: []})
    r.flush()
    r.reserve(4, 1000)
    r.wait(0.8)
    grant = r.grants[4]
    assert grant.slab == -1
    assert grant.reason == (
        "the store of node n has no room for 1000 bytes (3000 of 3000 are in use, and results do "
        "not go to disk here); release results, or start the node with a larger memory limit"
    )


def test_while_something_runs_he_waits_longer_and_longer_still_if_something_is_freed(
    rig: Any,
) -> None:
    r = rig(slots=8, room_patience=2.0)
    for task in (1, 2, 3):
        r.make(task, 900)
    r.bench.assign({4: []})
    r.flush()
    r.bench.assign({5: []})
    r.flush()
    r.reserve(4, 2500)
    r.wait(1.5)
    r.bench.tell(Free([1], []))
    r.wait(1.5)
    assert r.grants == {}
    r.wait(1.0)
    assert r.grants[4].slab == -1


def test_tasks_that_all_wait_for_room_are_refused_one_by_one(rig: Any) -> None:
    r = rig(slots=2)
    for task in (1, 2):
        r.make(task, 1500)
    r.bench.assign({10: [1], 11: [2]})
    r.flush()
    r.reserve(10, 1000)
    r.reserve(11, 1000)
    r.wait(0.8)
    assert list(r.grants) == [10]
    r.bench.fail(10)
    r.bench.tell(Free([1], []))
    r.bench.hear(Return([tuple(p) for p in r.store.bytes if p.length == 1500][:1]))
    r.flush()
    assert r.grants[11].slab == 0


def test_what_can_never_fit_is_refused_at_once(rig: Any) -> None:
    r = rig()
    r.bench.assign({1: []})
    r.flush()
    r.reserve(1, 3001)
    assert r.grants[1].slab == -1


def test_who_has_failed_wants_no_room(rig: Any) -> None:
    r = rig(slots=8)
    r.make(1, 3000)
    r.bench.assign({2: []})
    r.flush()
    r.reserve(2, 1000)
    r.bench.fail(2)
    assert r.core.room.is_idle
    assert r.bench.said(Failed)


def test_room_for_an_input_is_taken_from_a_later_task(rig: Any) -> None:
    """Each of two tasks has one input here, and there is no room for the other."""
    r = rig()
    r.bench.assign({10: [90, 91], 11: [92, 93]}, places=[(n, 1500, [4]) for n in (90, 91, 92, 93)])
    r.flush()
    for number in (90, 92):
        place = r.core.room.take(1500)
        r.core.on_fetched(number, Result(1500, place=place), r.bench.now)
    for number in (93, 91):
        assert r.core.room.take(1500) is None
        r.core.room.want_input(number, 1500)
    r.wait(0.8)
    assert r.bench.said(Recalled)[0].tasks == [11]
    given, other = r.given
    assert given.number == 91
    assert (other.number, other.place, other.reason) == (93, None, "")  # nobody waits for it
    r.core.on_fetched(91, Result(1500, place=given.place), r.bench.now)
    r.flush()
    assert r.runs == [[10]]


def test_tasks_that_share_what_takes_room_go_together(rig: Any) -> None:
    """One alone would free nothing, come back, and go again, for ever."""
    r = rig()
    places = [(90, 1500, [4]), (91, 1500, [4]), (92, 1500, [4]), (93, 10, [4])]
    r.bench.assign({10: [90, 91], 11: [92, 93], 12: [92, 93]}, places=places)
    r.flush()
    for number in (90, 92):
        place = r.core.room.take(1500)
        r.core.on_fetched(number, Result(1500, place=place), r.bench.now)
    assert r.core.room.take(1500) is None
    r.core.room.want_input(91, 1500)
    r.wait(0.8)
    assert [sorted(said.tasks) for said in r.bench.said(Recalled)] == [[11, 12]]
    assert [given.number for given in r.given if given.place is not None] == [91]


def test_who_waits_is_refused_where_only_its_own_inputs_take_the_room(rig: Any) -> None:
    """A later task takes them too: to give that one back would free nothing."""
    r = rig()
    places = [(90, 1500, [4]), (91, 1500, [4]), (92, 1500, [4]), (93, 10, [4])]
    r.bench.assign({10: [90, 91, 92], 11: [90, 91, 93]}, places=places)
    r.flush()
    for number in (90, 91):
        place = r.core.room.take(1500)
        r.core.on_fetched(number, Result(1500, place=place), r.bench.now)
    r.core.room.want_input(92, 1500)
    r.wait(0.8)
    assert r.bench.said(Recalled) == []
    (given,) = r.given
    assert (given.number, given.place) == (92, None)
    assert "no room for 1500 bytes" in given.reason


def test_an_input_that_nobody_makes_room_for_is_refused(rig: Any) -> None:
    r = rig()
    r.make(1, 3000)
    r.bench.assign({10: [90]}, places=[(90, 1000, [4])])
    r.flush()
    r.core.room.want_input(90, 1000)
    r.wait(0.8)
    (given,) = r.given
    assert (given.number, given.place, given.is_disk) == (90, None, False)
    assert "no room for 1000 bytes" in given.reason


def test_an_input_that_no_task_waits_for_any_more_holds_up_nobody(rig: Any) -> None:
    """Or each of them would wait until it is refused, and those behind it too."""
    r = rig(slots=8)
    r.bench.assign({10: [90]}, places=[(90, 1000, [4])])
    r.flush()
    for task in (1, 2, 3):
        r.make(task)
    r.core.room.want_input(90, 2000)
    r.core.room.want_data(7, 1000)
    r.flush()
    r.bench.tell(Drop([10]))
    r.bench.tell(Free([1], []))
    r.flush()
    assert [(given.number, given.place is None) for given in r.given] == [(90, True), (7, False)]
    assert r.given[0].reason == ""
    r.store.free(r.given[1].place)


# -------------------------------------------------------------------------- as a whole


@pytest.mark.parametrize("faults", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(2))
def test_large_results_in_hardly_any_memory_give_the_right_answers(
    add_layer: Callable[..., int], seed: int, faults: float
) -> None:
    w = World(seed, check=True)
    chance = random.Random(seed)
    client = w.add_client()
    for name in ("a", "b"):
        storage = Storage(350, chance.choice((0, 200)), AMPLE)
        node = w.add_node(name, chance.choice((1, 2)), slots=2, storage=storage)
        node.store.disk_flips = faults
    w.settle_members()
    graph = Graph()
    pairs = [tuple(chance.sample(range(12), 2)) for _ in range(8)]
    layers: list[tuple[str, list[Any]]] = [
        ("b1", [()] * 12),
        ("b2", pairs),
        ("s3", [tuple(range(12, 20))]),
    ]
    for name, inputs in layers:
        constants = [b"%d" % k for k in range(12)] if name == "b1" else None
        first = client.next + add_layer(graph, name, inputs, constants)
        for at, sources in enumerate(inputs):
            taken = [(client.next + source, None) for source in sources]
            constant = constants[at] if constants else b""
            w.model.add(first + at, Spec(name.encode(), constant, taken))
    graph.outputs = [(12, 5), (20, 1)]
    client.submit(graph)
    w.run_until(lambda: any(node.store.spilled for node in w.nodes), 10.0)
    w.run_until_quiet()
    outcomes = list(client.wanted.values())
    assert len(outcomes) == 6
    assert all(isinstance(outcome, bytes) for outcome in outcomes)
    client.release(list(client.wanted))
    w.run_until_quiet()
    assert [node.store.used + node.store.spilled for node in w.nodes] == [0, 0]
    for node in w.nodes:
        check_empty(node.core)
