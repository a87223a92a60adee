"""Plans: drawn from a seed alone, and the same with parts left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcluster.errors import InvalidArgument
from zcluster.testing.doings import DOINGS
from zcluster.testing.faults import FAULT_KINDS
from zcluster.testing.plans import FAULTS, WORK, Cut, draw_plan


@given(seed=st.integers(0, 2**32))
def test_a_seed_gives_one_plan(seed: int) -> None:
    plan = draw_plan(seed)
    assert plan == draw_plan(seed)
    assert [action.number for action in plan.actions] == list(range(len(plan.actions)))
    assert sorted(plan.actions, key=lambda action: action.at) == list(plan.actions)
    assert all(bool(action.size) == (action.kind == "submit") for action in plan.actions)


def test_every_kind_of_action_can_be_done() -> None:
    assert {*DOINGS} == {*WORK, "node", "client"}
    assert {*FAULT_KINDS} == {*FAULTS}


def test_all_kinds_are_drawn_and_each_fault_is_alone_somewhere() -> None:
    plans = [draw_plan(seed) for seed in range(1000)]
    kinds = [{action.kind for action in plan.actions} for plan in plans]
    assert {kind for some in kinds for kind in some} == {*WORK, *FAULTS, "node", "client"}
    alone = {kind for some in kinds for kind in some & {*FAULTS} if len(some & {*FAULTS}) == 1}
    assert alone == {*FAULTS}


def test_sizes_are_spread_over_their_orders_of_magnitude() -> None:
    plans = [draw_plan(seed) for seed in range(500)]
    sizes = [action.size for plan in plans for action in plan.actions if action.size]
    assert min(sizes) == 3
    assert 280 < max(sizes) <= 300
    small = sum(size < 30 for size in sizes) / len(sizes)
    assert 0.5 < small < 0.9


@pytest.mark.parametrize("kind", FAULTS)
def test_one_kind_of_fault_can_be_had_alone(kind: str) -> None:
    plans = [draw_plan(seed, only=kind) for seed in range(20)]
    assert {a.kind for plan in plans for a in plan.actions if a.is_fault} == {kind}


def test_an_unknown_fault_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument, match=r"'fire'; there are kill_worker, lose_node"):
        draw_plan(1, only="fire")


def test_what_is_left_out_changes_nothing_else() -> None:
    plan = draw_plan(11)
    submission = next(action for action in plan.actions if action.size > 3)
    other = next(action for action in plan.actions if action is not submission)
    less = plan.after(Cut(frozenset({other.number}), {submission.number: 3}))
    assert len(less.actions) == len(plan.actions) - 1
    for action in less.actions:
        before = plan.actions[action.number]
        if action.number == submission.number:
            assert (action.seed, action.at, action.size) == (before.seed, before.at, 3)
        else:
            assert action == before


@given(
    without=st.frozensets(st.integers(0, 60)),
    sizes=st.dictionaries(st.integers(0, 60), st.integers(3, 300)),
)
def test_a_cut_is_read_as_it_was_written(without: frozenset[int], sizes: dict[int, int]) -> None:
    cut = Cut(without, sizes)
    assert Cut.parse(str(cut)) == cut


@pytest.mark.parametrize("text", ["a", "1-", "-3", "1-2-3", "4:x", ":5", "1 2"])
def test_what_is_no_cut_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="expected numbers, ranges"):
        Cut.parse(text)
