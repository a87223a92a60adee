"""The connecting end, against a server written by hand that says what it likes."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

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
from zcluster.protocol.session import ACK_EVERY_MESSAGES, Session, read_head, unsequenced
from zcluster.transport import link as module
from zcluster.transport.link import RECEIVE_BURST, Link
from zcluster.transport.loop import Loop
from zcluster.transport.sockets import monitored_socket

TOKEN = b"t" * 16


class Server:
    """A ROUTER on the same loop. It hears, and speaks only when a test says so."""

    def __init__(self, loop: Loop, context: zmq.Context[Any], address: str) -> None:
        self.loop = loop
        self.decoder = Decoder(CLIENT_TO_SCHEDULER)
        self.hellos: list[Hello] = []
        self.heard: list[tuple[int, Message, list[bytes]]] = []
        self.acknowledged = 0
        self.session = Session()
        self.route = b""
        self.context, self.address = context, address
        self.open()

    def open(self) -> None:
        self.socket: zmq.Socket[Any] = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 500)
        self.socket.bind(self.address)
        self.loop.add_socket(self.socket, self._receive)

    def _receive(self) -> None:
        route, first, *payload = self.socket.recv_multipart(zmq.NOBLOCK)
        sequence, acknowledged, control = read_head(first)
        message = self.decoder.decode(control)
        self.acknowledged = max(self.acknowledged, acknowledged)
        if isinstance(message, Hello):
            self.route = route
            self.hellos.append(message)
            return
        if self.session.hear(sequence, acknowledged, 0):
            self.heard.append((sequence, message, payload))

    def say_raw(self, *frames: Any) -> None:
        self.socket.send_multipart([self.route, *frames])

    def welcome(self, resumed: bool = False, token: bytes = TOKEN) -> None:
        seen = self.session.heard if resumed else 0
        message = Welcome(3, token, resumed, seen, "here", "0", {})
        self.say_raw(*unsequenced(encode(message)))

    def say(self, message: Message, *payload: bytes) -> None:
        self.say_raw(*self.session.say(encode(message), payload))

    def releases(self) -> list[int]:
        """Return the numbers in the releases heard, in order."""
        return [
            task
            for _, message, _ in self.heard
            if type(message) is Release
            for task in message.tasks
        ]

    def close(self) -> None:
        self.loop.remove(self.socket)
        self.socket.close()


class Room:
    """A server, a link to it, and what the link has told."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.context: zmq.Context[Any] = zmq.Context()
        self.address = f"ipc://{folder}/s"
        self.server = Server(self.loop, self.context, self.address)
        self.welcomed: list[Welcome] = []
        self.told: list[tuple[Message, list[bytes]]] = []
        self.lost: list[str] = []
        self.links: list[Link] = []

    def link(self, **options: Any) -> Link:
        def hello(token: bytes, seen: int) -> Hello:
            return Hello("client", PROTOCOL, "0", "3", b"i" * 16, token, seen)

        made = Link(
            self.loop,
            self.context,
            self.address,
            hello=hello,
            accepts=SCHEDULER_TO_CLIENT,
            on_message=lambda message, frames: self.told.append((message, frames)),
            on_welcome=self.welcomed.append,
            on_lost=self.lost.append,
            **options,
        )
        self.links.append(made)
        return made

    def live_link(self, **options: Any) -> Link:
        """Return a link that was welcomed."""
        link = self.link(**options)
        self.until(lambda: self.server.hellos)
        self.server.welcome()
        self.until(lambda: link.is_live)
        return link

    def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            self.loop.call_later(0.005, lambda: None)
            self.loop.run_once()

    def close(self) -> None:
        for link in self.links:
            link.close(goodbye=False)
        if not self.server.socket.closed:
            self.server.close()
        self.context.destroy(0)
        self.loop.close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.close()


def cancelled(number: int) -> Cancelled:
    return Cancelled([number], "")


def numbers(told: list[tuple[Message, list[bytes]]]) -> list[int]:
    return [message.tasks[0] for message, _ in told if isinstance(message, Cancelled)]


# ------------------------------------------------------------------------------ beginning


def test_a_link_says_hello_and_is_live_once_it_is_welcome(room: Room) -> None:
    link = room.link()
    room.until(lambda: room.server.hellos)
    assert [one for one in room.links if one.is_live] == []
    (hello,) = room.server.hellos
    assert (hello.token, hello.seen) == (b"", 0)
    room.server.welcome()
    room.until(lambda: room.welcomed)
    assert link.is_live
    assert room.welcomed[0].index == 3


def test_what_is_said_before_the_welcome_goes_out_with_it(room: Room) -> None:
    link = room.link()
    link.send(Release([1]))
    link.send(Release([2]), [b"payload"])
    room.until(lambda: room.server.hellos)
    assert room.server.heard == []
    room.server.welcome()
    room.until(lambda: len(room.server.heard) == 2)
    assert room.server.heard == [(1, Release([1]), []), (2, Release([2]), [b"payload"])]


def test_a_refusal_is_told_once_and_ends_the_link(room: Room) -> None:
    link = room.link()
    room.until(lambda: room.server.hellos)
    room.server.say_raw(*unsequenced(encode(Refused("not on a Sunday"))))
    room.until(lambda: room.lost)
    link.send(Release([1]))
    link.close()
    assert room.lost == ["not on a Sunday"]
    assert link.in_flight == 0
    assert not link.is_live


def test_a_server_that_never_answers_is_given_up_after_the_timeout(room: Room) -> None:
    room.server.close()
    began = time.monotonic()
    room.link(timeout=0.2)
    room.until(lambda: room.lost)
    assert room.lost == [f"nobody answered at {room.address} within 0.2 s"]
    assert 0.2 <= time.monotonic() - began < 6


def test_a_server_that_comes_up_later_is_found(room: Room) -> None:
    room.server.close()
    link = room.link()
    room.loop.call_later(0.1, room.server.open)
    room.until(lambda: room.server.hellos)
    room.server.welcome()
    room.until(lambda: link.is_live)


# ------------------------------------------------------------------------ while it is live


def test_messages_go_both_ways_with_their_payload(room: Room) -> None:
    link = room.live_link()
    large = bytes(range(256)) * 1000
    link.send(Release([1]), [b"small", large])
    room.server.say(cancelled(1), b"", large)
    room.until(lambda: room.server.heard and room.told)
    assert room.server.heard == [(1, Release([1]), [b"small", large])]
    assert room.told == [(cancelled(1), [b"", large])]


def test_a_new_connection_waits_for_a_descriptor(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = room.live_link()
    tries: list[None] = []

    def full(*arguments: Any) -> Any:
        tries.append(None)
        if len(tries) < 2:
            raise zmq.ZMQError(errno.EMFILE)
        return monitored_socket(*arguments)

    monkeypatch.setattr(module, "monitored_socket", full)
    room.server.say_raw(*unsequenced(encode(Reconnect())))
    room.until(lambda: tries)
    link.send(Release([1]))
    assert not link.is_live
    room.until(lambda: len(room.server.hellos) == 2, 15)
    room.server.welcome(resumed=True)
    room.until(lambda: room.server.heard)
    assert room.server.heard == [(1, Release([1]), [])]
    assert len(tries) == 2


def test_a_first_connection_without_a_descriptor_is_an_error(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> Any:
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr(module, "monitored_socket", full)
    with pytest.raises(zmq.ZMQError, match="Too many open files"):
        room.link()


def test_what_is_in_flight_is_acknowledged_by_whatever_comes_back(room: Room) -> None:
    link = room.live_link()
    link.send(Release([1]), [bytes(1000)])
    assert 1000 < link.in_flight < 1100
    room.until(lambda: room.server.heard)
    room.server.say_raw(*room.server.session.bare(encode(Acknowledge())))
    room.until(lambda: link.in_flight == 0)
    assert room.told == []  # an acknowledgement is the link's own business


def test_a_listener_acknowledges_after_many_messages(room: Room) -> None:
    room.live_link()
    for number in range(ACK_EVERY_MESSAGES):
        room.server.say(cancelled(number))
    room.until(lambda: room.server.acknowledged == ACK_EVERY_MESSAGES, HEARTBEAT_SECONDS / 2)
    assert numbers(room.told) == list(range(ACK_EVERY_MESSAGES))


def test_a_silent_link_sends_heartbeats_with_the_lag(room: Room) -> None:
    room.live_link(beat=lambda lag: Heartbeat(lag, 7))
    room.loop.lag = 1.25
    room.until(lambda: room.server.heard)
    (sequence, beat, _) = room.server.heard[0]
    assert sequence == 0
    assert beat == Heartbeat(1.25, 7)
    assert room.loop.lag < 1.25  # it is the worst since the last one


def test_a_repeated_message_is_told_once(room: Room) -> None:
    room.live_link()
    wire = room.server.session.say(encode(cancelled(1)))
    room.server.say_raw(*wire)
    room.server.say_raw(*wire)
    room.server.say(cancelled(2))
    room.until(lambda: len(room.told) > 1)
    assert numbers(room.told) == [1, 2]


# ------------------------------------------------------------------------------ reconnects


def resume(room: Room, link: Link, hellos: int) -> Hello:
    """Answer a link that comes back, and say again what it has missed."""
    room.until(lambda: len(room.server.hellos) == hellos)
    hello = room.server.hellos[-1]
    room.server.welcome(resumed=True)
    for wire in room.server.session.unheard(hello.seen):
        room.server.say_raw(*wire)
    room.until(lambda: link.is_live)
    return hello


def test_a_new_connection_goes_on_where_the_old_one_ended(room: Room) -> None:
    link = room.live_link()
    old_route = room.server.route
    room.server.say(cancelled(1))
    link.send(Release([1]))
    room.until(lambda: room.told and room.server.heard)
    link._talk.reopen(room.loop.now())
    link.send(Release([2]))
    assert not link.is_live
    hello = resume(room, link, 2)
    assert (hello.token, hello.seen) == (TOKEN, 1)
    assert room.server.route != old_route  # a ROUTER ignores a second peer of one id
    link.send(Release([3]))
    room.server.say(cancelled(2))
    room.until(lambda: len(room.server.heard) == 3 and len(room.told) == 2)
    assert room.server.releases() == [1, 2, 3]
    assert numbers(room.told) == [1, 2]
    assert len(room.welcomed) == 1  # a resumption is not told


def test_a_gap_makes_a_new_connection_that_mends_it(room: Room) -> None:
    link = room.live_link()
    room.server.session.say(encode(cancelled(1)))  # lost on the way
    room.server.say(cancelled(2))
    hello = resume(room, link, 2)
    assert hello.seen == 0
    room.until(lambda: len(room.told) == 2)
    assert numbers(room.told) == [1, 2]
    assert link.refused == 1


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"short"],
        [bytes(16) + b"\xc1"],
        [bytes(16) + encode(Release([1]))],  # a message that only clients say
        [bytes(16) + encode(Cancelled([1], "")), *[b""] * 65],
        [b"\xff" * 16 + encode(Acknowledge())],  # acknowledges what was never said
    ],
)
def test_nonsense_makes_a_new_connection_and_is_counted(room: Room, frames: list[bytes]) -> None:
    link = room.live_link()
    room.server.say_raw(*frames)
    resume(room, link, 2)
    assert link.refused == 1
    assert room.told == []
    room.server.say(cancelled(1))
    room.until(lambda: numbers(room.told) == [1])


def test_a_link_whose_connection_is_not_known_makes_a_new_one(room: Room) -> None:
    link = room.live_link()
    room.server.say_raw(*unsequenced(encode(Reconnect())))
    link.send(Release([1]))
    assert resume(room, link, 2).token == TOKEN
    room.until(lambda: room.server.releases() == [1])
    assert link.refused == 0


def test_a_server_that_understands_nothing_is_not_asked_without_pause(room: Room) -> None:
    """It is of another version, perhaps; each hello costs it a connection."""
    room.link(timeout=0.3)
    seen = 0
    while not room.lost:
        room.until(lambda: room.lost or len(room.server.hellos) > seen)  # noqa: B023
        seen = len(room.server.hellos)
        if not room.lost:
            room.server.say_raw(*unsequenced(encode(Reconnect())))
    assert 3 <= seen <= 8
    assert "nobody answered" in room.lost[0]


def test_a_server_that_forgot_the_session_ends_the_link(room: Room) -> None:
    link = room.live_link()
    link._talk.reopen(room.loop.now())
    room.until(lambda: len(room.server.hellos) == 2)
    room.server.welcome(resumed=False)
    room.until(lambda: room.lost)
    assert room.lost == ["the scheduler no longer knows the session"]


def test_a_server_that_is_back_soon_enough_is_no_loss(room: Room) -> None:
    link = room.live_link()
    room.server.close()
    room.until(lambda: not link.is_live)
    link.send(Release([1]))
    room.server.open()
    resume(room, link, 2)
    room.until(lambda: room.server.releases() == [1])
    assert room.lost == []


# --------------------------------------------------------------------------------- the end


def test_a_server_that_goes_away_is_lost_within_the_grace(room: Room) -> None:
    room.live_link(grace=0.3, patience=60.0)
    began = time.monotonic()
    room.server.close()
    room.until(lambda: room.lost)
    assert 0.3 <= time.monotonic() - began < 6
    assert room.lost[0].startswith(f"{room.address} refuses connections, for 0.")


def test_a_server_that_accepts_and_does_not_answer_has_more_time(room: Room) -> None:
    """It is frozen, perhaps, and will go on: the grace is for those who are gone."""
    link = room.live_link(grace=0.05, patience=0.5)
    began = time.monotonic()
    link._talk.reopen(room.loop.now())
    room.until(lambda: room.lost)
    assert 0.5 <= time.monotonic() - began < 6
    assert room.lost[0].startswith(f"{room.address} does not answer, for 0.")


@pytest.mark.parametrize("reason", ["it is late", ""])
def test_the_reason_of_a_goodbye_arrives(room: Room, reason: str) -> None:
    room.live_link(grace=30.0)
    room.server.say(Goodbye(reason))
    room.server.close()
    room.until(lambda: room.lost)
    assert room.lost == [reason or "the scheduler was closed"]


def test_all_that_came_before_a_goodbye_is_told_and_so_is_its_reason(room: Room) -> None:
    """Also if the loop was busy, and finds the end of the connection together with all of it."""
    room.live_link(grace=30.0)
    count = 5 * RECEIVE_BURST
    for number in range(count):
        room.server.say(cancelled(number))
    room.server.say(Goodbye("it is late"))
    watched = room.links[0]._dealer._monitor
    assert watched is not None
    while watched.poll(0):  # what came when it connected
        watched.recv_multipart()
    room.server.close()
    assert watched.poll(5000)
    room.until(lambda: room.lost)
    assert numbers(room.told) == list(range(count))
    assert room.lost == ["it is late"]


def test_closing_says_goodbye_and_tells_nobody_here(room: Room) -> None:
    link = room.live_link()
    link.send(Release([1]))
    link.close()
    link.close()
    room.until(lambda: len(room.server.heard) == 2)
    assert room.server.heard[1] == (2, Goodbye(), [])
    assert room.lost == []
    assert not link.is_live


def test_closing_can_be_silent(room: Room) -> None:
    link = room.live_link()
    link.close(goodbye=False)
    other = room.link()
    room.until(lambda: len(room.server.hellos) == 2)
    assert room.server.heard == []
    assert not other.is_live


def test_a_callback_may_close_the_link(room: Room) -> None:
    link = room.live_link()
    link._talk._on_message = lambda message, frames: link.close()
    room.server.say(cancelled(1))
    room.server.say(cancelled(2))
    room.until(lambda: room.server.heard)
    assert room.server.heard == [(1, Goodbye(), [])]
