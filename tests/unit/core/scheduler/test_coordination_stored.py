"""Datasets, metadata and topics at the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from zcluster.core.scheduler import coordination_stored
from zcluster.errors import ProtocolError
from zcluster.protocol.messages import Coordinate, Coordinated, Published

if TYPE_CHECKING:
    from tests.unit.core.scheduler.conftest import Desk as DeskType

Desk = Callable[..., "DeskType"]


class Talk:
    """A desk with two clients."""

    def __init__(self, desk: Any) -> None:
        self.desk = desk
        self.a, self.b = desk.client("a"), desk.client("b")
        self.requests = 0

    def ask(
        self, member: Any, kind: str, action: str, frame: bytes = b"", name: str = "x", **more: Any
    ) -> tuple[Coordinated, list[bytes]]:
        self.requests += 1
        frames = [frame] if frame else []
        self.desk.tell(member, Coordinate(self.requests, kind, name, action, **more), frames)
        self.desk.flush()
        (found,) = [
            (said, payload)
            for _, said, payload in self.desk.messages
            if isinstance(said, Coordinated) and said.request == self.requests
        ]
        self.desk.messages = [m for m in self.desk.messages if m[1] is not found[0]]
        return found


@pytest.fixture
def talk(desk: Desk) -> Talk:
    return Talk(desk())


def test_a_dataset_outlives_the_client_that_published_it(
    talk: Talk, graph_of: Callable[..., Any]
) -> None:
    node = talk.desk.node("n")
    task = talk.desk.submit(talk.a, graph_of([()]))
    talk.desk.assigned()
    talk.desk.finish(node, [task])
    assert talk.ask(talk.a, "dataset", "publish", b"v", tasks=[task], keys=["k"])[0].ok
    talk.desk.core.on_gone(talk.a.peer, "", talk.desk.now)
    talk.desk.later()
    assert talk.desk.word(task) == "finished"
    said, frames = talk.ask(talk.b, "dataset", "get")
    assert (said.tasks, frames) == ([task], [b"v"])
    talk.desk.tell(talk.b, Coordinate(0, "dataset", "x", "taken", number=talk.requests))
    assert talk.ask(talk.b, "dataset", "unpublish")[0].ok
    talk.desk.later()
    assert talk.desk.word(task) == "forgotten"


def test_a_name_is_published_once_unless_it_shall_be_replaced(talk: Talk) -> None:
    assert talk.ask(talk.a, "dataset", "publish", b"1")[0].ok
    assert not talk.ask(talk.b, "dataset", "publish", b"2")[0].ok
    assert talk.ask(talk.b, "dataset", "get")[1] == [b"1"]
    assert talk.ask(talk.b, "dataset", "publish", b"2", number=1)[0].ok
    assert talk.ask(talk.b, "dataset", "get")[1] == [b"2"]
    assert msgspec.msgpack.decode(talk.ask(talk.b, "dataset", "list")[0].value) == ["x"]
    assert talk.ask(talk.b, "dataset", "unpublish")[0].ok
    assert not talk.ask(talk.b, "dataset", "unpublish")[0].ok
    assert not talk.ask(talk.b, "dataset", "get")[0].ok


def test_a_failed_replacement_leaves_the_old_dataset(talk: Talk) -> None:
    talk.ask(talk.a, "dataset", "publish", b"1")
    unknown = talk.a.first + 9
    said, _ = talk.ask(talk.a, "dataset", "publish", b"2", number=1, tasks=[unknown], keys=["k"])
    assert "not known" in said.error
    assert talk.ask(talk.b, "dataset", "get")[1] == [b"1"]


def test_metadata_give_what_lies_above_and_below_a_path(talk: Talk) -> None:
    def note(frame: bytes, *path: str) -> None:
        assert talk.ask(talk.a, "metadata", "set", frame, names=list(path))[0].ok

    def look(*path: str) -> list[list[str]]:
        said, _ = talk.ask(talk.b, "metadata", "get", names=list(path))
        places: list[list[str]] = msgspec.msgpack.decode(said.value)
        return places

    note(b"1", "a")
    note(b"2", "a", "b")
    note(b"3", "a", "b", "c")
    note(b"4", "other")
    assert look("a", "b") == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert look("a", "b", "d") == [["a"], ["a", "b"]]
    note(b"5", "a")
    assert look("a") == [["a"]]
    assert talk.desk.state.things.metadata["a",].blob == b"5"


def test_metadata_too_large_for_one_answer_are_asked_for_in_parts(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordination_stored, "ANSWER_BYTES", 300)
    for name in ("b", "c"):
        talk.ask(talk.a, "metadata", "set", b"1234", names=["a", name])
    assert "ask for parts" in talk.ask(talk.a, "metadata", "get", names=["a"])[0].error
    assert talk.ask(talk.a, "metadata", "get", names=["a", "b"])[1] == [b"1234"]


def test_who_listens_to_a_topic_is_told_and_others_can_look(talk: Talk) -> None:
    talk.ask(talk.b, "topic", "subscribe")
    talk.ask(talk.a, "topic", "log", b"hello", names=["x", "y"], number=2_500_000)
    assert talk.desk.take(Published) == [Published("x", 2.5)]
    said, frames = talk.ask(talk.a, "topic", "events", name="y")
    assert (msgspec.msgpack.decode(said.value), frames) == ([2_500_000], [b"hello"])
    assert msgspec.msgpack.decode(talk.ask(talk.a, "topic", "list")[0].value) == ["x", "y"]
    talk.ask(talk.b, "topic", "unsubscribe")
    talk.ask(talk.a, "topic", "log", b"more", names=["x"])
    assert talk.desk.take(Published) == []


def test_a_client_that_is_gone_listens_no_more(talk: Talk) -> None:
    talk.ask(talk.b, "topic", "subscribe")
    talk.desk.core.on_gone(talk.b.peer, "", talk.desk.now)
    assert not talk.desk.state.things.topics
    talk.ask(talk.a, "topic", "log", b"hello", names=["x"])
    assert talk.desk.take(Published) == []


def test_of_a_topic_the_last_events_are_kept(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordination_stored, "EVENTS", 3)
    monkeypatch.setattr(coordination_stored, "_EVENT_BYTES", 6)
    for number in range(5):
        talk.ask(talk.a, "topic", "log", b"%d" % number, names=["x"])
    assert talk.ask(talk.a, "topic", "events")[1] == [b"234"]
    talk.ask(talk.a, "topic", "log", b"12345", names=["x"])
    assert talk.ask(talk.a, "topic", "events")[1] == [b"412345"]
    assert talk.desk.state.things.topics["x"].length == 6


def test_an_event_is_one_value_of_bounded_size(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordination_stored, "VALUE_LIMIT", 3)
    assert "4 bytes" in talk.ask(talk.a, "topic", "log", b"1234", names=["x"])[0].error
    with pytest.raises(ProtocolError, match="expected one"):
        talk.desk.tell(talk.a, Coordinate(99, "topic", "x", "log", names=["x"]))


def test_looking_at_a_topic_of_which_nobody_spoke_makes_none(talk: Talk) -> None:
    assert talk.ask(talk.a, "topic", "events")[1] == []
    talk.ask(talk.a, "topic", "unsubscribe")
    assert not talk.desk.state.things.topics
