"""Ready tasks in order: against a sorted list as the model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zcluster.core.scheduler.queues import PRIORITY_SHIFT, Kept, ReadyQueues, base_rank


def test_ranks_order_by_priority_then_age_then_order() -> None:
    ranks = [
        base_rank(1, 9) + 7,
        base_rank(0, 1) - 5,
        base_rank(0, 1) + 5,
        base_rank(0, 2),
        base_rank(-1, 1),
    ]
    assert ranks == sorted(ranks)


@given(st.integers(), st.integers(0), st.integers(-(2**31), 2**31 - 1))
def test_ranks_travel_in_64_bits(priority: int, generation: int, order: int) -> None:
    assert -(2**63) <= base_rank(priority, generation) + order < 2**63


def test_a_run_is_cut_as_it_is_used() -> None:
    queues = ReadyQueues()
    queues.push(1, (10, 100, 5))
    queues.push(1, (12, 200, 1))
    assert queues.take(3) == (10, 100, 3)
    assert queues.peek() == (12, 200, 1)
    assert queues.take(9) == (12, 200, 1)
    assert queues.take(9) == (13, 103, 2)
    assert queues.peek() is None
    assert not queues


def test_clients_of_equal_priority_take_turns() -> None:
    queues = ReadyQueues()
    for client in (1, 2):
        for k in range(2):
            queues.push(client, (k, 10 * client + k, 1))
    order = []
    while queues.peek() is not None:
        order.append(queues.take(1)[1])
        queues.next_turn()
    assert order[:2] == [10, 20]
    assert sorted(order) == [10, 11, 20, 21]


def test_the_best_priority_goes_first_whoever_has_the_turn() -> None:
    queues = ReadyQueues()
    queues.push(1, (0, 1, 1))
    queues.push(2, (-1 << PRIORITY_SHIFT, 2, 1))
    top = queues.peek()
    assert top is not None
    assert top[1] == 2


def test_what_is_kept_for_a_node_goes_by_rank_and_takes_turns_with_other_clients() -> None:
    kept = Kept()
    kept.tasks.append((5, (1 << 40) + 7))
    assert kept.is_before(None)
    assert kept.is_before((6, (1 << 40) + 8, 1))
    assert not kept.is_before((4, (1 << 40) + 6, 1))
    other = (4, 2 << 40, 1)
    assert [kept.is_before(other) for _ in range(4)] == [True, False, True, False]
    urgent = (4 - (1 << PRIORITY_SHIFT), 2 << 40, 1)
    assert not any(kept.is_before(urgent) for _ in range(4))


def test_entries_can_be_looked_at() -> None:
    queues = ReadyQueues()
    queues.push(1, (0, 1, 1))
    queues.push(2, (0, 2, 3))
    assert queues.lengths() == {1: 1, 2: 1}
    queues.push_delayed(0.5, (0, 7, 1))
    assert list(queues.entries()) == [[(0, 1, 1)], [(0, 2, 3)], [(0, 7, 1)]]
    assert list(queues.take_due(0.4)) == []
    assert list(queues.take_due(0.5)) == [7]
    assert list(queues.entries()) == [[(0, 1, 1)], [(0, 2, 3)]]
    kept = queues.kept[0] = Kept()
    kept.tasks.append((0, 9))
    assert list(queues.entries())[-1] == [(0, 9, 1)]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), min_size=1),
    st.lists(st.integers(1, 3), min_size=1),
)
def test_one_client_gets_its_tasks_by_rank(
    entries: list[tuple[int, int]], mosts: list[int]
) -> None:
    queues = ReadyQueues()
    model: list[int] = []
    for k, (rank, count) in enumerate(entries):
        queues.push(1, (rank, 1000 * k, count))
        model.extend(range(rank, rank + count))
    taken: list[int] = []
    step = 0
    while queues.peek() is not None:
        rank, _, count = queues.take(mosts[step % len(mosts)])
        assert rank == min(set(model) - set()) or rank in model
        for value in range(rank, rank + count):
            model.remove(value)
            taken.append(value)
        assert not model or rank <= min(model) + 3
        step += 1
    assert not model
