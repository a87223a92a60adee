"""The listening end: with links, with strangers, with peers that vanish."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from zcluster.protocol.conversation import HEARTBEAT_SECONDS
from zcluster.protocol.frames import encode
from zcluster.protocol.messages import (
    PROTOCOL,
    Acknowledge,
    Cancel,
    Cancelled,
    Goodbye,
    Heartbeat,
    Hello,
    Reconnect,
    Refused,
    Release,
    Welcome,
)
from zcluster.protocol.session import ACK_EVERY_MESSAGES, unsequenced

if TYPE_CHECKING:
    from tests.unit.transport.conftest import Room, Wire

#: Of a client that was never here.
HELLO = Hello("client", PROTOCOL, "1.2.3", "3.12", b"i" * 16, connection=1)


def cancelled(number: int) -> Cancelled:
    return Cancelled([number], "")


# ------------------------------------------------------------------------------ beginning


def test_each_peer_gets_a_number_and_a_token_of_its_own(room: Room) -> None:
    answers = [room.peer().hello(), room.peer().hello(role="node")]
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
    answer = room.peer().hello(protocol=protocol)
    assert isinstance(answer, Refused)
    assert f"protocol {protocol[0]}.{protocol[1]} of zcluster 1.2.3" in answer.reason
    assert f"speaks {PROTOCOL[0]}.{PROTOCOL[1]}" in answer.reason
    assert "install the same version" in answer.reason
    assert room.hellos == []
    assert room.hub.refused == 1


def test_another_minor_version_is_welcome(room: Room) -> None:
    assert isinstance(room.peer().hello(protocol=(PROTOCOL[0], PROTOCOL[1] + 5)), Welcome)


def test_an_unknown_role_is_refused(room: Room) -> None:
    assert room.peer().hello(role="king") == Refused(
        "role 'king' is unknown, expected client, node"
    )
    assert room.hellos == []


def test_who_is_refused_by_the_owner_leaves_nothing_behind(room: Room) -> None:
    peer = room.peer()
    assert peer.hello(name="unwanted") == Refused("there is no room")
    room.hub.send(1, cancelled(1))  # to nobody
    assert room.hub.in_flight(1) == 0
    assert isinstance(peer.hello(), Welcome)  # the same connection is a stranger's again


def test_a_hello_that_contradicts_itself_is_refused_and_leaves_nothing_behind(room: Room) -> None:
    peer = room.peer()
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
    "numbered": [b"\x01" + bytes(15) + encode(HELLO)],
    "payload": [bytes(16) + encode(HELLO), b"payload"],
    "resume of nothing": [bytes(16) + encode(replace(HELLO, token=b"t" * 16))],
}


@pytest.mark.parametrize("frames", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_stranger_s_garbage_is_counted_and_harms_nobody(room: Room, frames: list[bytes]) -> None:
    friend = room.ear()
    stranger = room.peer()
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
    peer = room.peer()
    peer.hello()
    room.hub.send(1, cancelled(1), [bytes(1000)])
    assert 1000 < room.hub.in_flight(1) < 1100
    peer.say_raw(*unsequenced(encode(Acknowledge()), (), 1))
    room.until(lambda: room.hub.in_flight(1) == 0)
    assert room.heard == []
    assert room.hub.in_flight(99) == 0


def test_many_messages_are_acknowledged_without_an_answer(room: Room) -> None:
    peer = room.peer()
    peer.hello()
    for number in range(ACK_EVERY_MESSAGES):
        peer.say(Release([number]))
    room.until(
        lambda: peer.told[-1] == (0, ACK_EVERY_MESSAGES, Acknowledge()), HEARTBEAT_SECONDS * 0.9
    )


def test_a_heartbeat_is_passed_on_and_the_hub_sends_its_own(room: Room) -> None:
    peer = room.peer()
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
    peer = room.peer()
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
    peer = room.peer()
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
    late = room.peer()
    late.say_raw(
        *unsequenced(
            encode(replace(HELLO, token=ear.link._talk.token, incarnation=ear.incarnation))
        )
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
    welcome = room.peer().hello()
    assert isinstance(welcome, Welcome)
    answer = room.peer().hello(token=welcome.token, incarnation=b"j" * 16)
    assert isinstance(answer, Refused)
    assert "the session is over" in answer.reason


@pytest.mark.parametrize("seen", [0, 5])
def test_a_session_that_no_longer_fits_cannot_go_on(room: Room, seen: int) -> None:
    """The peer says it has heard less than it acknowledged, or more than was said."""
    peer = room.peer()
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
    peer = room.peer()
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
    answer = room.peer().hello(token=token)
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
