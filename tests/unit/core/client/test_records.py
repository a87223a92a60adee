"""The records of a client core."""

from __future__ import annotations

from zcluster.core.client.records import BareCall, Wanted
from zcluster.core.client.states import State
from zcluster.graph.layers import DEFAULT_OPTIONS, Options


def test_a_record_begins_pending_with_one_hold() -> None:
    record = Wanted(5, "inc", None)
    assert (record.state, record.holds, record.detail, record.watchers) == (
        State.PENDING,
        1,
        None,
        None,
    )


def test_the_label_is_the_users_key_or_made_of_name_and_number() -> None:
    assert Wanted(255, "inc", "mine").label == "mine"
    assert Wanted(255, "inc", None).label == "inc-ff"


def test_the_label_can_be_asked_of_the_graph_and_is_asked_once() -> None:
    asked: list[int] = []

    def name_of(task: int) -> str:
        asked.append(task)
        return f"('x', {task})"

    record = Wanted(3, name_of, None)
    assert record.label == record.label == "('x', 3)"
    assert asked == [3]


def test_a_bare_call_brings_no_bytes() -> None:
    assert BareCall(3).constant is None
    assert BareCall(3).plan is None


def test_equal_options_share_a_layer() -> None:
    assert Options() == DEFAULT_OPTIONS
    assert hash(Options(("a",), retries=1)) == hash(Options(("a",), retries=1))
