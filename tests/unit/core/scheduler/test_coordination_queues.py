"""Queues, variables and events, and what becomes of values on their way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from zcluster.core.scheduler import coordination_values
from zcluster.core.scheduler.invariants import check_empty
from zcluster.errors import ProtocolError
from zcluster.protocol.messages import Coordinate, Coordinated, Release

if TYPE_CHECKING:
    from tests.unit.core.scheduler.conftest import Desk as DeskType

Desk = Callable[..., "DeskType"]


class Talk:
    """A desk with two clients and a node; what a client is answered is kept with its frames."""

    def __init__(self, desk: Any) -> None:
        self.desk = desk
        self.a, self.b = desk.client("a"), desk.client("b")
        self.requests = 0

    def say(self, member: Any, kind: str, action: str, frame: bytes = b"", **options: Any) -> int:
        self.requests += 1
        frames = [frame] if frame else []
        message = Coordinate(self.requests, kind, "x", action, **options)
        self.desk.tell(member, message, frames)
        return self.requests

    def heard(self) -> list[tuple[str, int, bool, list[bytes]]]:
        """Return who was answered which request, how, and with which values."""
        self.desk.flush()
        found = []
        for name, said, frames in self.desk.messages:
            if isinstance(said, Coordinated):
                values, start = [], 0
                for length in said.lengths:
                    values.append(frames[0][start : start + length])
                    start += length
                found.append((name, said.request, said.ok, values))
        self.desk.messages.clear()
        return found


@pytest.fixture
def talk(desk: Desk) -> Talk:
    return Talk(desk())


def test_values_come_in_the_order_in_which_they_were_put(talk: Talk) -> None:
    for number in range(3):
        talk.say(talk.a, "queue", "put", b"%d" % number)
    talk.say(talk.b, "queue", "get", number=1)
    talk.say(talk.b, "queue", "get", number=2)
    assert [values for name, _, _, values in talk.heard() if name == "b"] == [
        [b"0"],
        [b"1", b"2"],
    ]


def test_a_full_queue_takes_no_more_until_somebody_gets(talk: Talk) -> None:
    talk.say(talk.a, "queue", "put", b"1", number=1)
    waiting = talk.say(talk.a, "queue", "put", b"2", number=1)
    assert [request for _, request, _, _ in talk.heard()] == [1]
    talk.say(talk.b, "queue", "get", number=1)
    assert ("a", waiting, True, []) in talk.heard()


def test_more_than_ever_fit_are_not_waited_for(talk: Talk) -> None:
    get = talk.say(talk.b, "queue", "get", number=5)
    talk.say(talk.a, "queue", "put", b"1", number=2)
    talk.say(talk.a, "queue", "put", b"2", number=2)
    assert ("b", get, True, [b"1", b"2"]) in talk.heard()


def test_all_that_are_there_may_be_none(talk: Talk) -> None:
    talk.say(talk.a, "queue", "get", number=0)
    assert talk.heard() == [("a", 1, True, [])]
    assert not talk.desk.state.things.channels


def test_an_answer_is_no_larger_than_a_frame_may_be(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zcluster.core.scheduler import coordination_queues

    monkeypatch.setattr(coordination_queues, "ANSWER_BYTES", 410)
    for number in range(3):
        talk.say(talk.a, "queue", "put", b"%d" % number * 4)
    talk.heard()
    talk.say(talk.b, "queue", "get", number=3)
    assert talk.heard()[0][3] == [b"0000", b"1111"]


def test_who_never_took_a_value_leaves_it_to_others(talk: Talk) -> None:
    talk.say(talk.a, "queue", "put", b"1")
    talk.say(talk.a, "queue", "put", b"2")
    talk.say(talk.b, "queue", "get", number=2)
    talk.heard()
    talk.desk.core.on_gone(talk.b.peer, "", talk.desk.now)
    talk.say(talk.a, "queue", "get", number=2)
    assert talk.heard() == [("a", talk.requests, True, [b"1", b"2"])]


def test_a_closed_queue_forgets_items_and_tells_who_waits_to_put(talk: Talk) -> None:
    talk.say(talk.a, "queue", "put", b"1", number=1)
    waiting = talk.say(talk.a, "queue", "put", b"2", number=1)
    talk.heard()
    talk.say(talk.b, "queue", "close")
    assert ("a", waiting, False, []) in talk.heard()
    assert talk.desk.state.things.bytes == 0
    check_empty(talk.desk.state)


def test_nobody_gets_less_than_no_items(talk: Talk) -> None:
    with pytest.raises(ProtocolError, match="-1 items"):
        talk.say(talk.a, "queue", "get", number=-1)


def test_a_variable_is_waited_for_and_then_there_for_all(talk: Talk) -> None:
    get = talk.say(talk.b, "variable", "get")
    assert talk.heard() == []
    talk.say(talk.a, "variable", "set", b"1")
    assert ("b", get, True, [b"1"]) in talk.heard()
    talk.say(talk.b, "variable", "get")
    assert talk.heard() == [("b", talk.requests, True, [b"1"])]
    talk.say(talk.a, "variable", "delete")
    talk.say(talk.b, "variable", "get", timeout=0.0)
    assert talk.heard()[-1][2] is False
    assert not talk.desk.state.things.cells


def test_an_event_lets_all_go_on(talk: Talk) -> None:
    waits = [talk.say(member, "event", "wait") for member in (talk.a, talk.b, talk.a)]
    assert talk.heard() == []
    talk.say(talk.b, "event", "set")
    assert sorted(request for _, request, ok, _ in talk.heard() if ok)[:3] == waits
    talk.say(talk.a, "event", "clear")
    assert not talk.desk.state.things.flags


# --------------------------------------------------------------------- values with futures


def future_of(talk: Talk, graph_of: Callable[..., Any]) -> int:
    """Submit a task of client a and finish it."""
    node = talk.desk.node("n")
    task = talk.desk.submit(talk.a, graph_of([()]))
    talk.desk.assigned()
    talk.desk.finish(node, [task])
    return int(task)


def test_a_value_keeps_the_results_it_refers_to_until_they_are_taken(
    talk: Talk, graph_of: Callable[..., Any]
) -> None:
    task = future_of(talk, graph_of)
    talk.say(talk.a, "queue", "put", b"v", tasks=[task], keys=["k"])
    talk.desk.tell(talk.a, Release([task]))
    talk.desk.later()
    assert talk.desk.word(task) == "finished"
    get = talk.say(talk.b, "queue", "get", number=1)
    talk.desk.later()
    said = talk.desk.take(Coordinated, "b")[0]
    assert (said.tasks, said.keys, said.counts) == ([task], ["k"], [1])
    # On its way to b it is still held, whatever a does.
    assert talk.desk.word(task) == "finished"
    talk.desk.tell(talk.b, Coordinate(0, "queue", "x", "taken", number=get))
    talk.desk.later()
    assert talk.desk.word(task) == "forgotten"
    check_empty(talk.desk.state)


def test_a_variable_that_changes_lets_go_of_what_it_referred_to(
    talk: Talk, graph_of: Callable[..., Any]
) -> None:
    task = future_of(talk, graph_of)
    talk.say(talk.a, "variable", "set", b"v", tasks=[task], keys=["k"])
    talk.desk.tell(talk.a, Release([task]))
    talk.desk.later()
    assert talk.desk.word(task) == "finished"
    get = talk.say(talk.b, "variable", "get")
    talk.say(talk.a, "variable", "set", b"other")
    talk.desk.later()
    assert talk.desk.word(task) == "finished"
    talk.desk.tell(talk.b, Coordinate(0, "variable", "x", "refuse", number=get))
    talk.desk.later()
    assert talk.desk.word(task) == "forgotten"


def test_results_lost_with_their_node_are_made_again_for_a_value(
    talk: Talk, graph_of: Callable[..., Any]
) -> None:
    task = future_of(talk, graph_of)
    talk.say(talk.a, "queue", "put", b"v", tasks=[task], keys=["k"])
    talk.desk.tell(talk.a, Release([task]))
    talk.desk.node("other")
    node = next(iter(talk.desk.state.nodes.values()))
    talk.desk.core.on_gone(node.peer, "", talk.desk.now)
    assert talk.desk.assigned() == {"other": [task]}


def test_a_task_that_nobody_knows_cannot_be_shared(talk: Talk) -> None:
    talk.say(talk.a, "queue", "put", b"v", tasks=[talk.a.first + 7], keys=["gone-7"])
    (said,) = talk.desk.take(Coordinated)
    assert "task gone-7 is not known" in said.error
    assert talk.desk.state.things.bytes == 0


def test_values_are_bounded_one_by_one_and_together(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordination_values, "VALUE_LIMIT", 100)
    monkeypatch.setattr(coordination_values, "TOTAL_BYTES", 500)
    talk.say(talk.a, "queue", "put", b"." * 101)
    (said,) = talk.desk.take(Coordinated)
    assert "101 bytes, expected at most 100; scatter it" in said.error
    errors = []
    for _ in range(3):
        talk.say(talk.a, "queue", "put", b"." * 100)
        errors += [said.error for said in talk.desk.take(Coordinated)]
    assert [bool(error) for error in errors] == [False, False, True]
    assert "keeps 600 bytes" in errors[-1]


@pytest.mark.parametrize("frames", [[], [b"1", b"2"]])
def test_a_put_brings_one_value(talk: Talk, frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError, match="expected one value"):
        talk.desk.tell(talk.a, Coordinate(1, "queue", "x", "put"), frames)


def test_the_size_of_a_queue_counts_what_is_there(talk: Talk) -> None:
    talk.say(talk.a, "queue", "put", b"1")
    talk.say(talk.b, "queue", "size")
    said = talk.desk.take(Coordinated, "b")[0]
    assert msgspec.msgpack.decode(said.value) == 1
