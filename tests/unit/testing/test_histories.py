"""Random histories end well, take known steps only, and depend on nothing but their seed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zcluster.core.client.placing import Shelf
from zcluster.core.scheduler import membership
from zcluster.errors import InvariantError
from zcluster.graph.layers import Graph
from zcluster.protocol.session import Session
from zcluster.testing import (
    Coverage,
    Cut,
    History,
    Mix,
    Plan,
    Report,
    Spec,
    add_layer,
    draw_plan,
    live,
    simulate,
)

SEEDS = Path(__file__).with_name("seeds.txt")
#: Histories of a run of the fast tests.
FEW = 120
MANY = 3000


def known_seeds() -> Iterator[tuple[int, str]]:
    for line in SEEDS.read_text().splitlines():
        if line and not line.startswith("#"):
            seed, cut, _ = line.split(maxsplit=2)
            yield int(seed), "" if cut == "-" else cut


@pytest.fixture(scope="module")
def report() -> Report:
    """A run that most tests look at."""
    return simulate(FEW, seed=1000)


def test_histories_end_well(report: Report) -> None:
    """Right answers, nothing that waits for ever, nothing left behind."""
    failed = [(outcome.seed, outcome.failure) for outcome in report.failures]
    assert failed == []
    assert report.schedules == FEW


def test_most_histories_have_a_fault_that_hits_running_work(report: Report) -> None:
    assert report.counted > FEW / 2


def test_no_core_takes_a_step_that_no_table_has(report: Report) -> None:
    assert report.coverage.strange == {}


def test_most_arrows_and_messages_are_seen(report: Report) -> None:
    assert len(report.coverage.missing_arrows()) < 15
    assert sum(report.coverage.pairs.values()) > 10_000


@pytest.mark.parametrize(("seed", "cut"), [*known_seeds()])
def test_what_failed_once_fails_no_more(seed: int, cut: str) -> None:
    assert live(draw_plan(seed).after(Cut.parse(cut))).failure is None


def hashes(first: int, count: int) -> list[str]:
    return [live(draw_plan(seed)).trace_hash for seed in range(first, first + count)]


PROGRAM = """
import sys
from zcluster.testing import draw_plan, live
for seed in range(int(sys.argv[1]), int(sys.argv[1]) + int(sys.argv[2])):
    print(live(draw_plan(seed)).trace_hash)
"""


def hashes_elsewhere(first: int, count: int, hash_seed: int) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    words = [sys.executable, "-c", PROGRAM, str(first), str(count)]
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_a_seed_is_one_history_whatever_the_hash_seed() -> None:
    """Nothing in the cores depends on chance, or on the order of sets."""
    here = hashes(1000, 5)
    assert len({*here}) == 5
    assert hashes_elsewhere(1000, 5, 17) == here


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_seeds_are_a_hundred_histories_whatever_the_hash_seed() -> None:
    one, two = hashes_elsewhere(0, 100, 1), hashes_elsewhere(0, 100, 2)
    assert one == two == hashes(0, 100)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_thousand_histories(capsys: pytest.CaptureFixture[str]) -> None:
    """As many as are to count; the time it takes is printed, and bound only widely."""
    report = simulate(MANY * 23 // 20, seed=100_000, jobs=2)
    with capsys.disabled():
        print(f"\n{report.schedules} schedules, {report.counted} count")
    assert [(outcome.seed, outcome.failure) for outcome in report.failures] == []
    assert report.counted >= MANY
    assert report.coverage.strange == {}


def test_a_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a lost node had is not queued again."""
    monkeypatch.setattr(membership, "_requeue", lambda *arguments: None)
    outcomes = (live(draw_plan(seed, only="lose_node")) for seed in range(50))
    failure = next(outcome.failure for outcome in outcomes if outcome.failure is not None)
    assert failure.kind == "InvariantError"
    assert "which is not here" in failure.text


def hears_over_gaps(self: Session, sequence: int, acknowledged: int, size: int) -> bool:
    if sequence > self.heard:
        self.heard = sequence - 1
    return hear(self, sequence, acknowledged, size)


def hears_again(self: Session, sequence: int, acknowledged: int, size: int) -> bool:
    if 0 < sequence <= self.heard:
        self.heard = sequence - 1
    return hear(self, sequence, acknowledged, size)


hear = Session.hear


@pytest.mark.parametrize(
    ("only", "owner", "name", "wrong"),
    [
        ("freeze_scheduler", membership, "excuse", lambda s, pause: None),
        ("lose_node", Shelf, "put_again", lambda self, task, node: True),
        ("drop_connection", Session, "hear", hears_over_gaps),
        ("drop_connection", Session, "hear", hears_again),
    ],
)
def test_what_takes_a_coincidence_is_aimed_at(
    only: str, owner: object, name: str, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these was missed by thousands of histories whose faults only happened to come."""
    monkeypatch.setattr(owner, name, wrong)
    assert any(live(draw_plan(seed, only=only)).failure is not None for seed in range(40))


@pytest.fixture
def silent() -> History:
    """A history in which a node has just fallen silent, with tasks."""
    history = History(Plan(1, (), {}, Mix()))
    world = history.world
    client = world.add_client("c")
    node = world.add_node("n")
    world.settle_members()
    graph = Graph()
    add_layer(graph, "s", [()] * 20)
    graph.want(range(20))
    for task in range(client.next, client.next + 20):
        history.model.add(task, Spec(b"s"))
    client.submit(graph)
    world.freeze(node, 60.0)
    world.run_for(0.2)
    history.watch_absence(node, math.inf)
    return history


def test_what_a_silent_node_has_goes_to_others_and_it_is_fenced(silent: History) -> None:
    silent.world.run_for(15.0)
    assert [reason for _, reason in silent.watcher.fenced] == ["it could not be reached"]


def test_work_that_stays_at_a_silent_node_is_found(
    silent: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "_requeue", lambda *arguments: None)
    with pytest.raises(InvariantError, match="is still at node n, of which nothing was heard"):
        silent.world.run_for(4.0)


def test_a_silent_node_that_is_not_fenced_is_found(
    silent: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "overdue", lambda s: None)
    with pytest.raises(InvariantError, match="node n is not fenced"):
        silent.world.run_for(15.0)


def test_a_history_without_actions_ends_well_too() -> None:
    plan = draw_plan(1)
    empty = Plan(1, (), plan.settings, plan.mix)
    outcome = live(empty, Coverage())
    assert outcome.failure is None
    assert not outcome.counts
