"""The model: one right answer, and no other end without a permitted cause."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from zcluster.core.client.records import Failure
from zcluster.errors import InvariantError
from zcluster.protocol.messages import Cancelled, ErrorInfo
from zcluster.testing.fakes import part_of, result_of
from zcluster.testing.model import KILLS, Model, Spec
from zcluster.testing.stores import Storage, Store


def error(kind: str) -> ErrorInfo:
    return ErrorInfo(kind, "E", "", "", 0, 0, "", "")


@pytest.fixture
def model() -> Model:
    """Two tasks, one upon the other."""
    made = Model()
    made.add(1, Spec(b"s", b"7"))
    made.add(2, Spec(b"s", inputs=[(1, None), (1, 2)]))
    return made


def test_a_value_is_a_hash_of_what_it_is_made_of(model: Model) -> None:
    one = result_of(b"s", b"7", [])
    assert model.value(2) == result_of(b"s", b"", [one, part_of(one, 2)])
    model.judge(2, model.value(2))


def test_an_alias_gives_what_it_stands_for(model: Model) -> None:
    model.add(3, Spec(b"", alias=2))
    assert model.value(3) == model.value(2)


@pytest.mark.parametrize(
    "outcome", [b"no", error("task"), error("killed"), Cancelled([2], ""), Failure("store", "")]
)
def test_what_nothing_permits_is_wrong(model: Model, outcome: object) -> None:
    with pytest.raises(InvariantError, match="task 2"):
        model.judge(2, outcome)


def test_what_raises_fails_and_what_needs_it_fails_of_its_input(model: Model) -> None:
    model.add(3, Spec(b"s", b"fail 0"))
    model.add(4, Spec(b"s", inputs=[(3, None)]))
    model.judge(3, error("task"))
    model.judge(4, error("input"))
    with pytest.raises(InvariantError, match="task 3"):
        model.judge(3, error("killed"))


def test_a_cancelled_task_permits_the_end_of_what_needs_it(model: Model) -> None:
    model.cancelled.add(1)
    model.judge(2, Cancelled([2], ""))
    assert model.may_fail(2)


def test_what_happens_to_one_of_equal_tasks_happens_to_all() -> None:
    model = Model()
    for task in (1, 2):
        model.add(task, Spec(b"s", key="k"))
    model.cancelled.add(1)
    assert model.may_fail(2)


def test_a_task_may_fail_of_workers_that_died_under_it_and_not_before(model: Model) -> None:
    model.died([1] * (KILLS - 1))
    with pytest.raises(InvariantError):
        model.judge(1, error("killed"))
    model.died([1])
    model.judge(1, error("killed"))


def test_a_task_is_blamed_for_ends_under_it_only(model: Model) -> None:
    model.died([1])
    model.check_blamed({1: 1})
    with pytest.raises(InvariantError, match="task 2 is blamed for 1 ends of workers; it was"):
        model.check_blamed({2: 1})


def test_an_attempt_begins_once(model: Model) -> None:
    model.began(1, 1, "n0-0")
    model.began(1, 2, "n1-0")
    with pytest.raises(InvariantError, match="in attempt 1, which began at n0-0 before"):
        model.began(1, 1, "n1-0")


def test_a_task_that_runs_once_begins_once() -> None:
    model = Model()
    model.add(1, Spec(b"s", once=True))
    model.began(1, 1, "n0-0")
    with pytest.raises(InvariantError, match="at most once and began 2 times"):
        model.began(1, 2, "n0-0")
    assert not model.may_fail(1)
    model.had_losses = True
    assert model.may_fail(1)


def test_a_task_that_runs_once_begins_as_often_as_somebody_asks_for_it() -> None:
    """Also where both ask before it begins again."""
    model = Model()
    model.add(1, Spec(b"s", once=True))
    model.began(1, 1, "n0-0")
    model.retried([1])
    model.retried([1])
    model.began(1, 2, "n0-0")
    model.began(1, 3, "n0-0")
    with pytest.raises(InvariantError, match="at most once"):
        model.began(1, 4, "n0-0")


@pytest.mark.parametrize(
    ("spec", "flag"),
    [
        (Spec(b"s", limited=True), ""),
        (Spec(b"s", b"flaky1"), ""),
        (Spec(b"s", actor=True), "had_losses"),
    ],
)
def test_some_tasks_may_end_by_themselves(spec: Spec, flag: str) -> None:
    model = Model()
    model.add(1, spec)
    if flag:
        assert not model.may_fail(1)
        setattr(model, flag, True)
    assert model.may_fail(1)


def test_only_what_a_tight_store_refused_may_fail_for_want_of_room(model: Model) -> None:
    tight = SimpleNamespace(name="n0", store=Store(Storage(limit=100)))
    ample = SimpleNamespace(name="n1", store=Store(Storage(limit=100, space=1 << 30)))
    with pytest.raises(InvariantError, match="task 1 failed for want of room at node n1"):
        model.note_refused(1, ample)
    assert not model.may_fail(1)
    model.note_refused(1, tight)
    assert model.may_fail(1)


def test_only_a_client_that_was_away_for_long_may_be_given_up() -> None:
    model = Model()
    model.note_away([3, 4], 4.0)
    assert model.missed == set()
    model.note_away([4], 5.0)
    assert model.missed == model.gone == {4}
    assert not model.may_be_missed(SimpleNamespace(index=3))
    assert model.may_be_missed(SimpleNamespace(index=4))


def test_data_goes_with_the_client_that_would_put_it_again() -> None:
    model = Model()
    model.add(5 << 40, Spec(b"", data=b"x"))
    model.judge(5 << 40, b"x")
    with pytest.raises(InvariantError):
        model.judge(5 << 40, error("lost"))
    model.gone.add(5)
    model.judge(5 << 40, error("lost"))


def test_who_comes_late_may_hear_that_a_task_is_lost(model: Model) -> None:
    model.adopted.add(1)
    model.judge(1, error("lost"))
