"""The listening end: with links, with strangers, with peers that vanish."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from zcluster.errors import ProtocolError
from zcluster.protocol.conversation import HEARTBEAT_SECONDS
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    NODE_TO_SCHEDULER,
    PROTOCOL,
    SCHEDULER_TO_CLIENT,
    Acknowledge,
    Cancel,
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
from zcluster.transport.hub import Hub
from zcluster.transport.link import Link
from zcluster.transport.loop import Loop


def make_hello(
    token: bytes = b"",
    seen: int = 0,
    role: str = "client",
    protocol: tuple[int, int] = PROTOCOL,
    incarnation: bytes = b"i" * 16,
    name: str = "",
    connection: int = 1,
) -> Hello:
    return Hello(
        role,
        protocol,
        "1.2.3",
        "3.12",
        incarnation,
        token,
        seen,
        None,
        name,
        connection=connection,
    )


class Peer:
    """A DEALER that says frame by frame what a test wants, and keeps what it is told."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.socket: zmq.Socket[Any] = room.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(room.hub.address)
        self.session = Session()
        self.told: list[tuple[int, int, Message]] = []
        self.decoder = Decoder(SCHEDULER_TO_CLIENT)
        self.incarnation = b"%016d" % id(self)
        room.loop.add_socket(self.socket, self._receive)
        room.peers.append(self)

    def _receive(self) -> None:
        first, *_ = self.socket.recv_multipart(zmq.NOBLOCK)
        sequence, acknowledged, control = read_head(first)
        self.told.append((sequence, acknowledged, self.decoder.decode(control)))

    def say_raw(self, *frames: Any) -> None:
        self.socket.send_multipart(frames)

    def say(self, message: Message, *payload: bytes) -> None:
        self.say_raw(*self.session.say(encode(message), payload))

    def hello(self, **fields: Any) -> Welcome | Refused:
        """Say hello and return the answer."""
        before = len(self.answers())
        fields.setdefault("incarnation", self.incarnation)
        self.say_raw(*unsequenced(encode(make_hello(**fields))))
        self.room.until(lambda: len(self.answers()) > before)
        return self.answers()[-1]

    def answers(self) -> list[Welcome | Refused]:
        return [message for _, _, message in self.told if isinstance(message, Welcome | Refused)]

    def comes_again(self) -> Peer:
        """Return the same peer with another connection."""
        again = Peer(self.room)
        again.incarnation = self.incarnation
        return again

    def close(self) -> None:
        self.room.loop.remove(self.socket)
        self.socket.close(0)


class Ear:
    """A link and what it was told."""

    def __init__(self, room: Room, address: str, **options: Any) -> None:
        self.told: list[int] = []
        self.payloads: list[list[bytes]] = []
        self.lost: list[str] = []
        self.incarnation = b"%016d" % id(self)
        self.link = Link(
            room.loop,
            room.context,
            address,
            hello=lambda token, seen: make_hello(token, seen, incarnation=self.incarnation),
            accepts=SCHEDULER_TO_CLIENT,
            on_message=self._on_message,
            on_welcome=lambda welcome: None,
            on_lost=self.lost.append,
            **options,
        )

    def _on_message(self, message: Message, frames: list[bytes]) -> None:
        assert isinstance(message, Cancelled)
        self.told += message.tasks
        self.payloads.append(frames)


class Wire:
    """A relay of bytes between a link and the hub, which a test can cut."""

    def __init__(self, room: Room, folder: Path) -> None:
        self.room = room
        self.address = f"ipc://{folder}/wire"
        self._to = room.hub.address.removeprefix("ipc://")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/wire")
        self._listener.listen()
        self._ends: list[socket.socket] = []
        room.loop.add_fd(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        near, far = self._listener.accept()[0], socket.socket(socket.AF_UNIX)
        far.connect(self._to)
        self._ends += [near, far]
        self.room.loop.add_fd(near.fileno(), lambda: self._pass(near, far))
        self.room.loop.add_fd(far.fileno(), lambda: self._pass(far, near))

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            data = source.recv(512)  # little at a time: a cut comes in the middle of something
            target.sendall(data)
        except ConnectionError:  # an end closed with something unread
            data = b""
        if not data:
            self.cut()

    def cut(self) -> None:
        """Cut all connections; new ones may come."""
        for end in self._ends:
            self.room.loop.remove(end.fileno())
            end.close()
        self._ends.clear()

    def close(self) -> None:
        self.cut()
        self.room.loop.remove(self._listener.fileno())
        self._listener.close()


class Room:
    """A hub, what it has told, and those who talk to it."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.context: zmq.Context[Any] = zmq.Context()
        self.folder = folder
        self.hellos: list[tuple[int, Hello]] = []
        self.heard: list[tuple[int, Message, list[bytes]]] = []
        self.events: list[tuple[Any, ...]] = []
        self.peers: list[Peer] = []
        self.ears: list[Ear] = []
        self.hub = self.open_hub()

    def open_hub(self) -> Hub:
        self.hub = Hub(
            self.loop,
            self.context,
            f"ipc://{self.folder}/s",
            accepts={"client": CLIENT_TO_SCHEDULER, "node": NODE_TO_SCHEDULER},
            on_hello=self._on_hello,
            on_message=self._on_message,
            on_disconnect=lambda peer: self.events.append(("away", peer)),
            on_resume=lambda peer: self.events.append(("back", peer)),
            on_gone=lambda peer, reason: self.events.append(("gone", peer, reason)),
        )
        return self.hub

    def _on_hello(self, peer: int, hello: Hello) -> Welcome | Refused:
        self.hellos.append((peer, hello))
        if hello.name == "unwanted":
            return Refused("there is no room")
        if hello.name == "confused":
            raise ProtocolError("a hello that contradicts itself")
        return Welcome(peer, b"", False, 0, "here", "0", {"setting": 1.0})

    def _on_message(self, peer: int, message: Message, frames: list[bytes]) -> None:
        if isinstance(message, Cancel) and message.reason == "impossible":
            raise ProtocolError("nobody can do that")
        self.heard.append((peer, message, frames))

    def ear(self, address: str | None = None, **options: Any) -> Ear:
        """Return a link that is live."""
        made = Ear(self, address or self.hub.address, **options)
        self.ears.append(made)
        self.until(lambda: made.link.is_live)
        return made

    def releases(self) -> list[int]:
        return [
            task
            for _, message, _ in self.heard
            if type(message) is Release
            for task in message.tasks
        ]

    def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            self.loop.call_later(0.005, lambda: None)
            self.loop.run_once()

    def close(self) -> None:
        for ear in self.ears:
            ear.link.close(goodbye=False)
        for peer in self.peers:
            peer.close()
        self.hub.close("")
        self.context.destroy(0)
        self.loop.close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.close()


@pytest.fixture
def wire(room: Room, tmp_path: Path) -> Iterator[Wire]:
    made = Wire(room, tmp_path)
    yield made
    made.close()


def cancelled(number: int) -> Cancelled:
    return Cancelled([number], "")


# ------------------------------------------------------------------------------ beginning


def test_each_peer_gets_a_number_and_a_token_of_its_own(room: Room) -> None:
    answers = [Peer(room).hello(), Peer(room).hello(role="node")]
    first, second = answers
    assert isinstance(first, Welcome)
    assert isinstance(second, Welcome)
    assert [peer for peer, _ in room.hellos] == [1, 2]
    assert (first.index, second.index) == (1, 2)
    assert (first.resumed, first.seen, first.settings) == (False, 0, {"setting": 1.0})
    assert len(first.token) == len(second.token) == 16
    assert first.token != second.token
    assert room.hub.refused == 0


@pytest.mark.parametrize("protocol", [(PROTOCOL[0] + 1, 0), (0, 9)])
def test_another_protocol_is_refused_with_both_versions(
    room: Room, protocol: tuple[int, int]
) -> None:
    answer = Peer(room).hello(protocol=protocol)
    assert isinstance(answer, Refused)
    assert f"protocol {protocol[0]}.{protocol[1]} of zcluster 1.2.3" in answer.reason
    assert f"speaks {PROTOCOL[0]}.{PROTOCOL[1]}" in answer.reason
    assert "install the same version" in answer.reason
    assert room.hellos == []
    assert room.hub.refused == 1


def test_another_minor_version_is_welcome(room: Room) -> None:
    assert isinstance(Peer(room).hello(protocol=(PROTOCOL[0], PROTOCOL[1] + 5)), Welcome)


def test_an_unknown_role_is_refused(room: Room) -> None:
    assert Peer(room).hello(role="king") == Refused("role 'king' is unknown, expected client, node")
    assert room.hellos == []


def test_who_is_refused_by_the_owner_leaves_nothing_behind(room: Room) -> None:
    peer = Peer(room)
    assert peer.hello(name="unwanted") == Refused("there is no room")
    room.hub.send(1, cancelled(1))  # to nobody
    assert room.hub.in_flight(1) == 0
    assert isinstance(peer.hello(), Welcome)  # the same connection is a stranger's again


def test_a_hello_that_contradicts_itself_is_refused_and_leaves_nothing_behind(room: Room) -> None:
    peer = Peer(room)
    assert peer.hello(name="confused") == Refused("a hello that contradicts itself [Z006]")
    assert room.hub.refused == 1
    room.hub.send(1, cancelled(1))
    assert room.hub.in_flight(1) == 0
    assert isinstance(peer.hello(), Welcome)
    assert [number for number, _ in room.hellos] == [1, 2]


GARBAGE: dict[str, list[bytes]] = {
    "nothing": [b""],
    "short": [b"x"],
    "noise": [bytes(16) + b"\xc1\xff"],
    "no hello": [bytes(16) + encode(Release([1]))],
    "numbered": [b"\x01" + bytes(15) + encode(make_hello())],
    "payload": [bytes(16) + encode(make_hello()), b"payload"],
    "resume of nothing": [bytes(16) + encode(make_hello(token=b"t" * 16))],
}


@pytest.mark.parametrize("frames", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_stranger_s_garbage_is_counted_and_harms_nobody(room: Room, frames: list[bytes]) -> None:
    friend = room.ear()
    stranger = Peer(room)
    for _ in range(3):
        before = room.hub.refused
        stranger.say_raw(*frames)
        room.until(lambda: room.hub.refused > before)  # noqa: B023 - called at once
    assert room.hub.refused == 3
    assert len(room.hellos) == 1
    friend.link.send(Release([1]))
    room.until(lambda: room.releases() == [1])
    assert room.events == []


def test_what_is_not_zeromq_is_counted(room: Room) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(room.hub.address.removeprefix("ipc://"))
        stranger.sendall(
            b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"PLAIN".ljust(20, b"\0") + bytes(32)
        )
        room.until(lambda: room.hub.refused)
    assert room.hellos == []


# ------------------------------------------------------------------------------- messages


def test_messages_go_both_ways_with_their_payload(room: Room) -> None:
    ear = room.ear()
    large = bytes(range(256)) * 1000
    ear.link.send(Release([7]), [b"a", large])
    room.hub.send(1, cancelled(8), [large, b""])
    room.until(lambda: room.heard and ear.told)
    assert room.heard == [(1, Release([7]), [b"a", large])]
    assert (ear.told, ear.payloads) == ([8], [[large, b""]])


def test_what_is_in_flight_is_known_until_it_is_acknowledged(room: Room) -> None:
    peer = Peer(room)
    peer.hello()
    room.hub.send(1, cancelled(1), [bytes(1000)])
    assert 1000 < room.hub.in_flight(1) < 1100
    peer.say_raw(*unsequenced(encode(Acknowledge()), (), 1))
    room.until(lambda: room.hub.in_flight(1) == 0)
    assert room.heard == []
    assert room.hub.in_flight(99) == 0


def test_many_messages_are_acknowledged_without_an_answer(room: Room) -> None:
    peer = Peer(room)
    peer.hello()
    for number in range(ACK_EVERY_MESSAGES):
        peer.say(Release([number]))
    room.until(
        lambda: peer.told[-1] == (0, ACK_EVERY_MESSAGES, Acknowledge()), HEARTBEAT_SECONDS * 0.9
    )


def test_a_heartbeat_is_passed_on_and_the_hub_sends_its_own(room: Room) -> None:
    peer = Peer(room)
    peer.hello()
    peer.say_raw(*unsequenced(encode(Heartbeat(0.25))))
    room.until(lambda: room.heard)
    assert room.heard == [(1, Heartbeat(0.25), [])]
    room.until(lambda: isinstance(peer.told[-1][2], Heartbeat), 3 * HEARTBEAT_SECONDS)


BAD: dict[str, tuple[list[bytes], str]] = {
    "noise": ([bytes(16) + b"\xc1"], "no message accepted here"),
    "headless": ([b"x"], "first frame of 1 bytes"),
    "of another role": ([bytes(16) + encode(cancelled(1))], "no message accepted here"),
    "a gap": ([b"\x05" + bytes(15) + encode(Release([1]))], "message 5 came after message 0"),
    "unsaid": ([bytes(8) + b"\x09" + bytes(7) + encode(Release([1]))], "message 9, but only 0"),
    "too many frames": ([bytes(16) + encode(Release([1])), *[b""] * 65], "65 payload frames"),
    "impossible": ([bytes(16) + encode(Cancel([1], "impossible"))], "nobody can do that"),
}


@pytest.mark.parametrize(("frames", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_message_ends_that_session_only_and_says_why(
    room: Room, frames: list[bytes], reason: str
) -> None:
    friend = room.ear()
    peer = Peer(room)
    peer.hello()
    peer.say_raw(*frames)
    room.until(lambda: len(peer.answers()) == 2)
    answer = peer.answers()[-1]
    assert isinstance(answer, Refused)
    assert reason in answer.reason
    assert room.events == [("gone", 2, answer.reason)]
    assert room.hub.refused == 1
    friend.link.send(Release([1]))
    room.hub.send(1, cancelled(2))
    room.until(lambda: room.releases() == [1] and friend.told == [2])


# ----------------------------------------------------------------------------- reconnects


def test_nothing_is_lost_or_doubled_over_a_new_connection(room: Room) -> None:
    ear = room.ear()
    for round_ in range(5):
        for number in range(round_ * 20, round_ * 20 + 20):
            ear.link.send(Release([number]), [b"%d" % number])
            room.hub.send(1, cancelled(number), [b"%d" % number])
        ear.link._talk.reopen(room.loop.now())
    room.until(lambda: len(room.releases()) >= 100 and len(ear.told) >= 100)
    assert room.releases() == ear.told == list(range(100))
    assert [frames for _, _, frames in room.heard] == [[b"%d" % n] for n in range(100)]
    assert ("back", 1) in room.events
    assert len(room.hellos) == 1  # a resumption asks the owner nothing


def test_nothing_is_lost_or_doubled_when_the_wire_is_cut(room: Room, wire: Wire) -> None:
    ear = room.ear(wire.address)
    count = 0

    def say_some() -> None:
        nonlocal count
        for _ in range(30):
            ear.link.send(Release([count]), [bytes(100)])
            room.hub.send(1, cancelled(count), [bytes(100)])
            count += 1

    for _ in range(6):
        say_some()
        room.until(lambda: max(len(ear.told), len(room.heard)) >= count - 15)
        wire.cut()
        say_some()
        room.until(lambda: ear.link.is_live)
    room.until(lambda: len(room.releases()) >= count and len(ear.told) >= count)
    assert room.releases() == ear.told == list(range(count))
    # Each was told to be back; that it was away is seen only if nothing came before.
    assert len([event for event in room.events if event[0] == "back"]) >= 6
    assert {event[1] for event in room.events} == {1}
    assert ear.lost == []


def test_a_peer_that_is_away_is_told_everything_when_it_is_back(room: Room, wire: Wire) -> None:
    peer = Peer(room)
    welcome = peer.hello()
    assert isinstance(welcome, Welcome)
    peer.close()
    room.until(lambda: ("away", 1) in room.events, 1.0)
    for number in range(3):
        room.hub.send(1, cancelled(number))
    again = peer.comes_again()
    answer = again.hello(token=welcome.token, seen=0, connection=2)
    assert isinstance(answer, Welcome)
    assert (answer.resumed, answer.token, answer.seen) == (True, welcome.token, 0)
    room.until(lambda: len(again.told) == 4)
    assert [(sequence, message) for sequence, _, message in again.told[1:]] == [
        (number + 1, cancelled(number)) for number in range(3)
    ]
    assert room.events == [("away", 1), ("back", 1)]


def test_a_hello_that_comes_late_does_not_cut_the_peer_off(room: Room) -> None:
    """Of two connections made shortly after each other, the first may be heard last."""
    ear = room.ear()
    room.hub.send(1, cancelled(1))
    room.until(lambda: ear.told == [1] and not room.hub.in_flight(1))
    ear.link._talk.reopen(room.loop.now())
    room.until(lambda: ear.link.is_live)
    late = Peer(room)
    late.say_raw(
        *unsequenced(encode(make_hello(ear.link._talk.token, incarnation=ear.incarnation)))
    )
    room.until(lambda: late.told)
    assert [message for _, _, message in late.told] == [Reconnect()]
    late.close()
    ear.link.send(Release([1]))
    room.hub.send(1, cancelled(2))
    room.until(lambda: room.releases() == [1] and ear.told == [1, 2])
    assert ("gone", 1) not in [event[:2] for event in room.events]


def test_a_peer_that_reads_nothing_is_cut_off_and_comes_back(room: Room, wire: Wire) -> None:
    """A full queue is noticed here only: its connection is still there."""
    ear = room.ear(wire.address)
    room.hub._reception.cut(1)
    room.hub.send(1, cancelled(1))
    ear.link.send(Release([1]))
    room.until(lambda: room.releases() == [1] and ear.told == [1])
    assert room.events == [("away", 1), ("back", 1)]


def test_a_session_of_another_incarnation_is_not_resumed(room: Room) -> None:
    welcome = Peer(room).hello()
    assert isinstance(welcome, Welcome)
    answer = Peer(room).hello(token=welcome.token, incarnation=b"j" * 16)
    assert isinstance(answer, Refused)
    assert "the session is over" in answer.reason


@pytest.mark.parametrize("seen", [0, 5])
def test_a_session_that_no_longer_fits_cannot_go_on(room: Room, seen: int) -> None:
    """The peer says it has heard less than it acknowledged, or more than was said."""
    peer = Peer(room)
    welcome = peer.hello()
    assert isinstance(welcome, Welcome)
    for number in range(2):
        room.hub.send(1, cancelled(number))
    peer.say_raw(*unsequenced(encode(Acknowledge()), (), 1))
    room.until(lambda: room.hub.in_flight(1) < 60)
    answer = peer.comes_again().hello(token=welcome.token, seen=seen, connection=2)
    assert isinstance(answer, Refused)
    assert "the session cannot go on" in answer.reason
    assert [event[:2] for event in room.events] == [("gone", 1)]
    answer = peer.comes_again().hello(token=welcome.token, seen=1, connection=3)
    assert isinstance(answer, Refused)


# --------------------------------------------------------------------------------- the end


def test_a_goodbye_is_told_with_its_reason(room: Room) -> None:
    peer = Peer(room)
    peer.hello()
    peer.say(Goodbye("it is late"))
    room.until(lambda: room.events)
    assert room.events == [("gone", 1, "it is late")]
    room.hub.send(1, cancelled(1))
    assert room.hub.in_flight(1) == 0


def test_the_hub_s_goodbye_reaches_every_link_with_its_reason(room: Room) -> None:
    ears = [room.ear(grace=30.0) for _ in range(3)]
    room.hub.send(1, cancelled(1))
    room.hub.close("it is late")
    room.hub.close("a second time")
    room.until(lambda: all(ear.lost for ear in ears))
    assert [ear.lost for ear in ears] == [["it is late"]] * 3
    assert ears[0].told == [1]


def test_a_hub_that_vanishes_is_lost_within_the_grace(room: Room) -> None:
    ear = room.ear(grace=0.3)
    room.hub.forget(1)  # nobody is left to say goodbye to
    began = time.monotonic()
    room.hub.close("unheard")
    room.until(lambda: ear.lost)
    assert 0.3 <= time.monotonic() - began < 6
    assert "refuses connections" in ear.lost[0]


def test_who_is_forgotten_is_told_why_and_cannot_come_back(room: Room) -> None:
    ear = room.ear()
    token = ear.link._talk.token
    room.hub.forget(1, "you were away for too long")
    room.hub.forget(1, "a second time")
    room.until(lambda: ear.lost)
    assert ear.lost == ["you were away for too long"]
    assert room.events == []  # whoever forgets knows it already
    answer = Peer(room).hello(token=token)
    assert isinstance(answer, Refused)
    assert "the session is over" in answer.reason


def test_who_is_forgotten_while_away_is_told_at_its_return(room: Room) -> None:
    ear = room.ear()
    ear.link._talk.reopen(room.loop.now())
    room.hub.forget(1)
    room.until(lambda: ear.lost)
    assert "the session is over" in ear.lost[0]


PROGRAM = """
import sys, time, zmq
from zcluster.protocol.frames import encode
from zcluster.protocol.messages import PROTOCOL, Hello
from zcluster.protocol.session import unsequenced
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(sys.argv[1])
socket.send_multipart(unsequenced(encode(Hello("client", PROTOCOL, "0", "3", b"j" * 16))))
time.sleep(60)
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        (signal.SIGKILL, 15.0),  # the system closes its connection, at once
        (signal.SIGSTOP, 20.0),  # ZeroMQ's heartbeats are not answered for two seconds
    ],
    ids=["killed", "frozen"],
)
def test_a_process_that_vanishes_is_noticed_soon(
    room: Room, number: signal.Signals, seconds: float
) -> None:
    friend = room.ear()
    with subprocess.Popen([sys.executable, "-P", "-c", PROGRAM, room.hub.address]) as process:
        try:
            room.until(lambda: len(room.hellos) == 2, 20)
            process.send_signal(number)
            room.until(lambda: room.events, seconds)
            assert room.events == [("away", 2)]
            room.hub.send(2, cancelled(1))  # kept for its return
            assert room.hub.in_flight(2) > 0
        finally:
            process.kill()
    room.hub.send(1, cancelled(2))
    room.until(lambda: friend.told == [2])
