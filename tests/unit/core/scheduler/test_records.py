"""What the scheduler knows of layers, nodes and what happened."""

from __future__ import annotations

from typing import Any

from zcluster.core.scheduler.records import Journal, LayerRecord, NodeRecord, Tasks
from zcluster.protocol.messages import NodeInfo


def make_layer(**options: Any) -> LayerRecord:
    fields: dict[str, Any] = {
        "number": 1, "name": "x", "first": 10, "count": 6, "call": 0, "function": b"",
        "base": 0, "retries": 0, "shape": [], "keys": None, "shared": False, "slots": [],
        "whole": [], "whole_slots": [], "profile": None, "preferred": (), "priority": 0,
    }  # fmt: skip
    return LayerRecord(**fields | options)


def test_keys_follow_from_name_and_shape() -> None:
    assert make_layer(count=1).key(10) == "x"
    assert make_layer(shape=[6]).key(13) == ("x", 3)
    assert make_layer(shape=[2, 3]).key(14) == ("x", 1, 1)
    assert make_layer(shape=[6], keys=list("abcdef")).key(15) == "f"


def test_layers_are_themselves_not_their_fields() -> None:
    assert make_layer() != make_layer()


def test_a_count_that_is_zero_is_not_there() -> None:
    node = NodeRecord(0, 1, NodeInfo(0, "n", "h", 1, "", "", 0, []), 2)
    node.count_assigned(b"f", 2)
    node.count_assigned(b"f", -1)
    assert node.assigned == {b"f": 1}
    node.count_assigned(b"f", -1)
    assert node.assigned == {}


def test_a_node_takes_work_while_it_is_here_and_has_slots() -> None:
    node = NodeRecord(0, 1, NodeInfo(0, "n", "h", 1, "", "", 0, []), 2)
    seen = [node.is_accepting]
    node.away_since = 1.0
    seen.append(node.is_accepting)
    node.away_since, node.slots = None, 0
    seen.append(node.is_accepting)
    assert seen == [True, False, False]


def test_the_journal_remembers_the_last_entries() -> None:
    journal = Journal(2)
    journal.note(1.0, "submitted", "c", range(5))
    journal.note(2.0, "assigned", "n", [3])
    assert journal.story(3) == [(1.0, "submitted", "c"), (2.0, "assigned", "n")]
    assert journal.story(4) == [(1.0, "submitted", "c")]
    journal.note(3.0, "finished", "n", [3])
    assert journal.story(4) == []


def test_tasks_leave_in_their_order_however_many_are_taken() -> None:
    tasks = Tasks()
    added = [*range(5, 20), 3, 4, 9, *range(100, 200)]
    for task in added:
        tasks.add(task)
    assert tasks
    taken = []
    for most in (1, 2, 3, 40, 7, 1000):
        taken += tasks.take(most)
        tasks.add(10_000 + most)
        added.append(10_000 + most)
    assert taken + tasks.take(100) == added
    assert not tasks
    tasks.add(1)
    tasks.clear()
    assert not tasks
    assert tasks.take(5) == []
