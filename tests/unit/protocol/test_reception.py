"""The listening end without sockets: who is who, and what a lost connection means."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest

from zcluster.protocol.conversation import HEARTBEAT_SECONDS, Conversation
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
#: Of the first peer of all.
TOKEN = b"%016d" % 1


class Desk:
    """A reception, the routes to it, and what came of it all."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.said: list[tuple[bytes, int, Message]] = []
        self.gone: set[bytes] = set()
        self.greeted: list[int] = []
        self.refusal: Refused | None = None
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

    def _on_hello(self, peer: int, hello: Hello) -> Welcome | Refused:
        self.greeted.append(peer)
        return self.refusal or Welcome(peer, b"", False, 0, "", "", {})

    def hear(self, route: bytes, *frames: Buffer) -> None:
        self.reception.on_frames([route, *(bytes(frame) for frame in frames)], 0.0)

    def hello(
        self, route: bytes, token: bytes = b"", seen: int = 0, connection: int = 1, who: bytes = b""
    ) -> Message | None:
        """Say hello: who is new is named by its route, who has a token is the first of all."""
        who = who or (b"1" if token else route)
        hello = Hello("client", PROTOCOL, "0", "3", who, token, seen, connection=connection)
        start = len(self.said)
        self.hear(route, *unsequenced(encode(hello)))
        answers = (Welcome, Refused, Reconnect)
        return next((m for r, _, m in self.said[start:] if isinstance(m, answers)), None)


def test_a_peer_goes_on_by_another_route_with_nothing_lost() -> None:
    d = Desk()
    d.hello(b"1")
    d.gone.add(b"1")
    for number in range(3):
        d.reception.send(1, Cancelled([number], ""), (), 0.0)
    assert d.events == [("away", 1)]
    assert d.hello(b"2", TOKEN, seen=1, connection=2) == Welcome(0, TOKEN, True, 0, "", "", {})
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
    d.hello(b"2", TOKEN, connection=2)
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
    assert isinstance(d.hello(b"3", TOKEN, connection=2), Refused)


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


# --------------------------------------------------------------------- late, twice, out of order


def talking() -> tuple[Desk, Session]:
    """Return a desk and its one peer, whose second connection has been in use for a while."""
    d = Desk()
    peer = Session()
    d.hello(b"1")
    d.reception.send(1, Cancelled([1], ""), (), 0.0)
    d.hello(b"2", TOKEN, seen=0, connection=2)
    for number in range(3):
        d.reception.send(1, Cancelled([number], ""), (), 0.0)
    peer.hear(1, 0, 0)
    d.hear(b"2", *peer.say(encode(Release([1]))))
    d.said.clear()
    d.events.clear()
    return d, peer


def assert_goes_on(d: Desk, peer: Session, route: bytes = b"2") -> None:
    """The session is whole, on this route."""
    d.said.clear()
    d.events.clear()
    d.hear(route, *peer.say(encode(Release([7]))))
    d.reception.send(1, Cancelled([8], ""), (), 0.0)
    assert d.events == [("said", 1, Release([7]))]
    assert [said for said in d.said if said[1]] == [(route, 5, Cancelled([8], ""))]


@pytest.mark.parametrize(
    ("token", "connection"), [(TOKEN, 0), (TOKEN, 1), (b"", 1)], ids=["older", "old", "first"]
)
def test_a_hello_that_comes_late_counts_for_nothing(token: bytes, connection: int) -> None:
    """What it says to have seen is long acknowledged, and its connection was given up."""
    d, peer = talking()
    assert d.hello(b"9", token, 0, connection, who=b"1") == Reconnect()
    assert (d.events, d.greeted) == ([], [1])
    assert_goes_on(d, peer)


def test_a_hello_that_comes_twice_counts_once() -> None:
    d, peer = talking()
    assert d.hello(b"9", TOKEN, 0, connection=2) == Reconnect()
    assert_goes_on(d, peer)


def test_a_late_hello_of_one_who_is_away_does_not_bring_it_back() -> None:
    d, _ = talking()
    d.reception.cut(1)
    assert d.hello(b"9", TOKEN, 0, connection=1) == Reconnect()
    assert d.events == [("away", 1)]


def test_hellos_in_order_follow_each_other_though_none_was_answered_in_time() -> None:
    d, peer = talking()
    for connection in (3, 4, 5):
        answer = d.hello(b"%d" % connection, TOKEN, peer.heard, connection)
        assert answer == Welcome(0, TOKEN, True, 1, "", "", {})
    assert d.events == [("back", 1)] * 3
    assert_goes_on(d, peer, b"5")


def test_what_comes_late_on_the_connection_before_is_not_heard() -> None:
    """It is said again on the new one, as the welcome told that it was missing."""
    d, peer = talking()
    late = [bytes(frame) for frame in peer.say(encode(Release([2])))]
    d.hello(b"3", TOKEN, peer.heard, connection=3)
    for frames in (late, [*peer.bare(encode(Heartbeat(0.0)))], unsequenced(encode(Goodbye()))):
        d.said.clear()
        d.hear(b"2", *frames)
        assert d.said == [(b"2", 0, Reconnect())]
    assert d.events == [("back", 1)]
    d.hear(b"3", *late)
    assert d.events[-1] == ("said", 1, Release([2]))
    assert_goes_on(d, peer, b"3")


def test_one_whose_first_welcome_was_lost_is_no_second_peer() -> None:
    """A node would take itself for another one of its name, and end the healthy one."""
    d = Desk()
    first = d.hello(b"1", who=b"w")
    d.reception.send(1, Cancelled([0], ""), (), 0.0)
    d.said.clear()
    assert d.hello(b"2", connection=2, who=b"w") == first == Welcome(1, TOKEN, False, 0, "", "", {})
    assert d.said[1:] == [(b"2", 1, Cancelled([0], ""))]
    assert d.greeted == [1]
    d.hear(b"2", *Session().say(encode(Release([5]))))
    assert d.events == [("back", 1), ("said", 1, Release([5]))]


def test_a_first_hello_that_comes_after_the_second_makes_no_peer() -> None:
    d = Desk()
    assert isinstance(d.hello(b"2", connection=2, who=b"w"), Welcome)
    assert d.hello(b"1", connection=1, who=b"w") == Reconnect()
    assert d.greeted == [1]
    d.hear(b"2", *Session().say(encode(Release([5]))))
    assert d.events == [("said", 1, Release([5]))]


@pytest.mark.parametrize("token", [b"", b"x" * 16], ids=["without", "with another"])
def test_nobody_gets_a_session_without_its_token(token: bytes) -> None:
    d, peer = talking()
    assert isinstance(d.hello(b"9", token, 0, connection=3, who=b"1"), Refused)
    assert (d.events, d.greeted) == ([], [1])
    assert_goes_on(d, peer)


@pytest.mark.parametrize("connection", [1, 2, 3])
@pytest.mark.parametrize("token", [TOKEN, b""], ids=["a token", "no token"])
def test_a_hello_after_the_goodbye_begins_nothing(token: bytes, connection: int) -> None:
    d, peer = talking()
    d.hear(b"2", *peer.say(encode(Goodbye("enough"))))
    assert isinstance(d.hello(b"9", token, 0, connection, who=b"1"), Refused)
    d.hear(b"2", *peer.say(encode(Goodbye("once more"))))
    assert d.said[-1] == (b"2", 0, Reconnect())
    assert d.events == [("gone", 1, "enough")]
    assert d.greeted == [1]


def test_who_was_forgotten_is_refused_however_it_comes() -> None:
    d, peer = talking()
    d.reception.forget(1, "away for too long")
    assert d.said == [(b"2", 0, Refused("away for too long"))]
    d.hear(b"2", *peer.say(encode(Release([2]))))
    assert d.said[-1] == (b"2", 0, Reconnect())
    assert isinstance(d.hello(b"9", TOKEN, 1, connection=3), Refused)
    assert isinstance(d.hello(b"9", b"", 0, connection=4, who=b"1"), Refused)
    assert (d.events, d.greeted) == ([], [1])


def test_who_was_refused_may_ask_once_more() -> None:
    """It may not have heard why, and the reason may be gone."""
    d = Desk()
    d.refusal = Refused("too many")
    assert d.hello(b"1", who=b"w") == d.refusal
    assert d.hello(b"2", who=b"w", connection=2) == d.refusal
    d.refusal = None
    assert isinstance(d.hello(b"3", who=b"w", connection=3), Welcome)


def test_those_who_went_are_not_remembered_for_ever() -> None:
    d = Desk()
    for number in range(5000):
        d.hello(b"%d" % number)
        d.reception.forget(number + 1)
    assert len(d.reception._ended) == 4096
    assert not d.reception._incarnations


def test_a_hello_within_a_session_ends_it() -> None:
    """No peer says two on one connection."""
    d, _ = talking()
    d.hello(b"2", TOKEN, 0, connection=3)
    assert [event[:2] for event in d.events] == [("gone", 1)]


def test_what_is_said_at_a_return_follows_what_was_missed() -> None:
    d, _ = talking()
    d.reception.cut(1)
    d.reception.send(1, Cancelled([10], ""), (), 0.0)
    d.reception._on_resume = lambda peer: d.reception.send(peer, Cancelled([11], ""), (), 0.0)
    d.hello(b"3", TOKEN, 1, connection=3)
    assert [sequence for route, sequence, _ in d.said if route == b"3"] == [0, 2, 3, 4, 5, 6]
    assert d.said[-1] == (b"3", 6, Cancelled([11], ""))


def test_a_welcome_that_cannot_be_sent_leaves_its_peer_away() -> None:
    d = Desk()
    d.gone.add(b"1")
    assert d.hello(b"1") is None
    assert d.events == [("away", 1)]


def test_who_is_forgotten_while_all_are_probed_is_left_alone() -> None:
    d = Desk()
    for route in (b"1", b"2"):
        d.hello(route)
    d.gone.add(b"1")
    d.reception._on_disconnect = lambda peer: d.reception.forget(2, "as 1 is gone")
    d.reception.probe(0.0)
    assert d.said[-1] == (b"2", 0, Refused("as 1 is gone"))


class Street:
    """A conversation and a reception, and connections that are heard of in any order.

    Within each the order is kept. What was said on one that was given up may still arrive, after
    what is said on later ones, or never.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.desk: list[int] = []
        self.told: list[int] = []
        self.lost: list[str] = []
        self.up: dict[bytes, deque[list[bytes]]] = {}
        self.down: dict[bytes, deque[list[bytes]]] = {}
        self.route = b""
        self.is_welcome = False
        self.reception = Reception(
            self._say_down,
            lambda: TOKEN,
            accepts={"client": CLIENT_TO_SCHEDULER},
            on_hello=lambda peer, hello: Welcome(peer, b"", False, 0, "", "", {}),
            on_message=self._on_message,
            on_disconnect=lambda peer: None,
            on_resume=lambda peer: None,
            on_gone=lambda peer, reason: self.lost.append(f"there: {reason}"),
        )
        self.talk = Conversation(
            self,
            "there",
            0.0,
            hello=lambda token, seen: Hello("client", PROTOCOL, "0", "3", b"i", token, seen),
            accepts=SCHEDULER_TO_CLIENT,
            on_message=lambda message, frames: self.told.extend(message.tasks),
            on_welcome=lambda welcome: setattr(self, "is_welcome", True),
            on_lost=self.lost.append,
            timeout=1e9,
            patience=1e9,
        )
        self.talk.begin(0.0)

    def _on_message(self, peer: int, message: Message, frames: list[bytes]) -> None:
        assert peer == 1, "a second peer"
        if isinstance(message, Release):
            self.desk.extend(message.tasks)

    def open(self) -> None:
        self.route = b"%d" % (len(self.up) + 1)
        self.up[self.route], self.down[self.route] = deque(), deque()
        self.talk.on_connected()

    def send(self, frames: Sequence[Buffer]) -> bool:
        self.up[self.route].append([bytes(frame) for frame in frames])
        return True

    def close(self, is_last_word_sent: bool) -> None:
        gone, self.route = self.route, b""
        if self.random.random() < 0.3:
            self.up[gone].clear()

    def call_after(self, seconds: float) -> None:
        """Nothing to do: time passes with every step."""

    def _say_down(self, route: bytes, frames: Sequence[Buffer]) -> bool:
        if route != self.route and self.random.random() < 0.5:
            return False
        self.down[route].append([bytes(frame) for frame in frames])
        return True

    def arrive_up(self) -> None:
        routes = [route for route, queue in self.up.items() if queue]
        if routes:
            route = self.random.choice(routes)
            self.reception.on_frames([route, *self.up[route].popleft()], self.now)

    def arrive_down(self) -> None:
        queue = self.down.get(self.route)
        if queue:
            self.talk.on_frames(queue.popleft(), self.now)

    def step(self, number: int, is_faulty: bool) -> None:
        self.now += 0.2
        chance = self.random.random()
        if is_faulty and chance < 0.05:
            self.talk.reopen(self.now)
        elif is_faulty and chance < 0.07:
            self.reception.cut(1)
        elif chance < 0.2:
            self.talk.on_time(self.now)
        elif chance < 0.25:
            self.reception.on_time(self.now, 0.0)
        elif chance < 0.6:
            self.arrive_up()
        else:
            self.arrive_down()
        if is_faulty and chance > 0.7:
            self.talk.send(Release([number]), (), self.now)
            if self.is_welcome:
                self.reception.send(1, Cancelled([number], ""), (), self.now)


@pytest.mark.parametrize("block", range(4))
def test_all_is_heard_once_whatever_comes_late_on_old_connections(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        street = Street(seed)
        said_up: list[int] = []
        said_down: list[int] = []
        for number in range(300):
            before = street.talk._session.said
            street.step(number, is_faulty=True)
            if street.talk._session.said > before:
                said_up.append(number)
                if street.is_welcome:
                    said_down.append(number)
        for number in range(3000):
            if street.desk == said_up and street.told == said_down and street.talk.is_live:
                break
            street.step(number, is_faulty=False)
        assert street.lost == [], seed
        assert (street.desk, street.told) == (said_up, said_down), seed
        assert len(street.up) > 3, "hardly a fault"
