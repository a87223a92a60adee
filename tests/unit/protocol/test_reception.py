"""The listening end without sockets: who is who, and what a lost connection means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zcluster.protocol.conversation import HEARTBEAT_SECONDS
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    PROTOCOL,
    SCHEDULER_TO_CLIENT,
    Acknowledge,
    Cancelled,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Reconnect,
    Refused,
    Release,
    Welcome,
)
from zcluster.protocol.reception import Reception
from zcluster.protocol.session import Session, read_head, unsequenced
from zcluster.types import Buffer

_ANSWERS = Decoder((Welcome, Refused, Reconnect, *SCHEDULER_TO_CLIENT))


class Desk:
    """A reception, the routes to it, and what came of it all."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.said: list[tuple[bytes, int, Message]] = []
        self.gone: set[bytes] = set()
        self.tokens = 0
        self.reception = Reception(
            self._send,
            self._token,
            accepts={"client": CLIENT_TO_SCHEDULER},
            on_hello=self._on_hello,
            on_message=lambda peer, message, frames: self.events.append(("said", peer, message)),
            on_disconnect=lambda peer: self.events.append(("away", peer)),
            on_resume=lambda peer: self.events.append(("back", peer)),
            on_gone=lambda peer, reason: self.events.append(("gone", peer, reason)),
        )

    def _token(self) -> bytes:
        self.tokens += 1
        return b"%016d" % self.tokens

    def _send(self, route: bytes, frames: Sequence[Buffer]) -> bool:
        if route in self.gone:
            return False
        sequence, _, control = read_head(frames[0])
        self.said.append((route, sequence, _ANSWERS.decode(control)))
        return True

    def _on_hello(self, peer: int, hello: Hello) -> Welcome:
        return Welcome(peer, b"", False, 0, "", "", {})

    def hear(self, route: bytes, *frames: Buffer) -> None:
        self.reception.on_frames([route, *(bytes(frame) for frame in frames)], 0.0)

    def hello(self, route: bytes, token: bytes = b"", seen: int = 0) -> Message:
        hello = Hello("client", PROTOCOL, "0", "3", b"i", token, seen)
        self.hear(route, *unsequenced(encode(hello)))
        return next(m for r, _, m in reversed(self.said) if isinstance(m, Welcome | Refused))


def test_a_peer_goes_on_by_another_route_with_nothing_lost() -> None:
    d = Desk()
    d.hello(b"1")
    d.gone.add(b"1")
    for number in range(3):
        d.reception.send(1, Cancelled([number], ""), (), 0.0)
    assert d.events == [("away", 1)]
    assert d.hello(b"2", b"%016d" % 1, seen=1) == Welcome(0, b"%016d" % 1, True, 0, "", "", {})
    assert d.events == [("away", 1), ("back", 1)]
    assert [(sequence, m) for route, sequence, m in d.said if route == b"2"][1:] == [
        (2, Cancelled([1], "")),
        (3, Cancelled([2], "")),
    ]


def test_a_peer_that_goes_again_while_it_is_told_what_it_missed_is_away() -> None:
    """Not back: nobody would look after it any more."""
    d = Desk()
    d.hello(b"1")
    d.gone.add(b"1")
    d.reception.send(1, Cancelled([0], ""), (), 0.0)
    d.gone.add(b"2")
    d.hello(b"2", b"%016d" % 1)
    assert d.events == [("away", 1), ("back", 1), ("away", 1)]


def test_a_probe_finds_who_is_gone() -> None:
    d = Desk()
    d.hello(b"1")
    d.hello(b"2")
    d.gone.add(b"2")
    d.reception.probe(0.0)
    d.reception.probe(0.1)
    assert d.events == [("away", 2)]
    assert d.said[-1] == (b"1", 0, Acknowledge())


def test_who_speaks_on_a_route_that_was_given_up_is_to_come_again() -> None:
    d = Desk()
    session = Session()
    d.hello(b"1")
    d.reception.cut(1)
    d.hear(b"1", *session.say(encode(Release([1]))))
    assert d.said[-1] == (b"1", 0, Reconnect())
    assert d.events == [("away", 1)]


def test_heartbeats_go_to_those_who_heard_nothing_lately() -> None:
    d = Desk()
    d.hello(b"1")
    d.hello(b"2")
    d.reception.send(1, Cancelled([0], ""), (), 1.0)
    assert d.reception.on_time(1.0 + HEARTBEAT_SECONDS / 2, 0.25) == HEARTBEAT_SECONDS
    assert [said for said in d.said if isinstance(said[2], Heartbeat)] == [
        (b"2", 0, Heartbeat(0.25))
    ]


def test_what_is_in_flight_is_known_by_peer() -> None:
    d = Desk()
    d.hello(b"1")
    d.reception.send(1, Cancelled([0], ""), [bytes(100)], 0.0)
    assert d.reception.in_flight(1) > 100
    d.hear(b"1", *unsequenced(encode(Acknowledge()), (), 1))
    assert d.reception.in_flight(1) == d.reception.in_flight(2) == 0


def test_nonsense_ends_its_session_only() -> None:
    d = Desk()
    d.hello(b"1")
    d.hello(b"2")
    d.hear(b"1", b"x")
    assert [event[:2] for event in d.events] == [("gone", 1)]
    assert isinstance(d.said[-1][2], Refused)
    d.hear(b"2", *Session().say(encode(Release([5]))))
    assert d.events[-1] == ("said", 2, Release([5]))
    assert isinstance(d.hello(b"3", b"%016d" % 1), Refused)


def test_a_goodbye_goes_to_all_who_can_be_reached_and_is_heard_of_all() -> None:
    d = Desk()
    d.hello(b"1")
    d.hello(b"2")
    d.hear(b"1", *Session().say(encode(Goodbye("enough"))))
    assert d.events == [("gone", 1, "enough")]
    d.reception.say_goodbye("closed")
    assert [(route, m) for route, _, m in d.said if isinstance(m, Goodbye)] == [
        (b"2", Goodbye("closed"))
    ]
