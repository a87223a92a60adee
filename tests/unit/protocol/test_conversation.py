"""The connecting end without sockets: when it opens, resends, waits and gives up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from zcluster.protocol.conversation import (
    DENIED,
    HEARTBEAT_SECONDS,
    PAUSE_SECONDS,
    Conversation,
)
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    PROTOCOL,
    SCHEDULER_TO_CLIENT,
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
from zcluster.protocol.session import Session, read_head, unsequenced
from zcluster.types import Buffer

TOKEN = b"t" * 16


class Server:
    """The wire of a conversation, and whoever is at its other end."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.opened = 0
        self.closed = 0
        self.is_full = False
        self.timers: list[float] = []
        self.heard: list[tuple[int, Message]] = []
        self.told: list[Message] = []
        self.lost: list[str] = []
        self.session = Session()
        self._decoder = Decoder((Hello, *CLIENT_TO_SCHEDULER))
        self.talk = Conversation(
            self,
            "there",
            0.0,
            hello=lambda token, seen: Hello("client", PROTOCOL, "0", "3", b"", token, seen),
            accepts=SCHEDULER_TO_CLIENT,
            on_message=lambda message, frames: self.told.append(message),
            on_welcome=lambda welcome: None,
            on_lost=self.lost.append,
            **options,
        )
        self.talk.begin(0.0)

    def open(self) -> None:
        self.opened += 1

    def send(self, frames: Sequence[Buffer]) -> bool:
        sequence, _, control = read_head(frames[0])
        self.heard.append((sequence, self._decoder.decode(control)))
        return not self.is_full

    def close(self, is_last_word_sent: bool) -> None:
        self.closed += 1

    def call_after(self, seconds: float) -> None:
        self.timers.append(seconds)

    def say(self, message: Message) -> None:
        self.talk.on_frames([bytes(f) for f in self.session.say(encode(message))], self.now)

    def say_bare(self, message: Message) -> bool:
        frames = [bytes(frame) for frame in unsequenced(encode(message))]
        return self.talk.on_frames(frames, self.now)

    def welcome(self, resumed: bool = False, seen: int = 0, token: bytes = TOKEN) -> bool:
        self.talk.on_connected()
        return self.say_bare(Welcome(1, token, resumed, seen, "", "", {}))

    def wait(self, seconds: float) -> None:
        """Let time pass, telling the conversation of it as a loop does."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.1)
            self.talk.on_time(self.now)


@pytest.fixture
def server() -> Server:
    made = Server()
    made.welcome()
    return made


def releases(server: Server) -> list[tuple[int, Message]]:
    return [said for said in server.heard if isinstance(said[1], Release)]


def test_what_is_said_before_the_welcome_goes_out_after_it() -> None:
    server = Server()
    server.talk.send(Release([1]), (), 0.0)
    assert not releases(server)
    server.welcome()
    assert releases(server) == [(1, Release([1]))]


def test_a_broken_connection_is_replaced_and_says_again_what_was_missed(server: Server) -> None:
    server.talk.send(Release([1]), (), 0.0)
    server.talk.send(Release([2]), (), 0.0)
    server.say(Cancelled([7], ""))
    server.now = 5.0
    server.talk.on_disconnected(5.0)
    assert (server.opened, server.talk.is_live) == (2, False)
    hello = Hello("client", PROTOCOL, "0", "3", b"", TOKEN, 1, connection=2)
    assert server.heard[-1] == (0, hello)
    server.welcome(resumed=True, seen=1)
    assert releases(server)[2:] == [(2, Release([2]))]
    assert server.told == [Cancelled([7], "")]


def test_a_message_that_cannot_be_sent_makes_a_new_connection(server: Server) -> None:
    server.is_full = True
    server.talk.send(Release([1]), (), 5.0)
    assert (server.opened, server.talk.is_live) == (2, False)
    server.is_full = False
    server.welcome(resumed=True)
    assert releases(server)[-1] == (1, Release([1]))


def test_connections_are_made_at_some_distance(server: Server) -> None:
    server.now = 5.0
    server.say_bare(Reconnect())
    server.say_bare(Reconnect())
    assert server.opened == 2
    assert server.timers == [pytest.approx(0.05)]
    server.now = 5.05
    server.talk.on_time(5.05)
    assert server.opened == 3


def test_a_gap_makes_a_new_connection(server: Server) -> None:
    server.session.say(encode(Cancelled([1], "")))  # lost on the way
    server.say(Cancelled([2], ""))
    assert server.talk.refused == 1
    assert not server.talk.is_live
    assert server.told == []


def test_a_refused_connection_is_given_up_after_the_grace() -> None:
    server = Server(grace=2.0, patience=30.0)
    server.welcome()
    server.now = 1.0
    server.talk.on_disconnected(1.0)
    server.talk.on_refused()
    server.wait(1.9)
    assert server.lost == []
    server.wait(0.3)
    (reason,) = server.lost
    assert reason.startswith("there refuses connections, for 2.")


def test_the_grace_counts_from_the_first_refusal_in_a_row() -> None:
    """A network that was cut for longer than that is not the process's end."""
    server = Server(grace=2.0, patience=30.0)
    server.welcome()
    server.talk.on_disconnected(0.0)
    server.wait(3.0)
    server.talk.on_refused()
    server.wait(1.8)
    assert server.lost == []
    server.talk.on_connected()  # somebody listens again, and then no more
    server.talk.on_disconnected(server.now)
    server.wait(0.1)
    server.talk.on_refused()
    server.wait(1.8)
    assert server.lost == []
    server.wait(0.5)
    (reason,) = server.lost
    assert reason.startswith("there refuses connections, for 2.")


@pytest.mark.parametrize("is_open", [True, False], ids=["accepts", "says nothing at all"])
def test_a_server_that_is_silent_has_the_patience(is_open: bool) -> None:
    """Also where no connection comes about: a network that is cut refuses nothing."""
    server = Server(grace=2.0, patience=30.0)
    server.welcome()
    server.talk.on_disconnected(0.0)
    if is_open:
        server.talk.on_connected()
    server.wait(29.0)
    assert server.lost == []
    server.wait(2.0)
    (reason,) = server.lost
    assert reason.startswith("there does not answer, for 30.")


def test_a_connection_that_neither_stands_nor_is_refused_is_tried_afresh(server: Server) -> None:
    """Behind a cut network the system repeats its own attempts ever more seldom."""
    server.talk.on_disconnected(server.now)
    server.wait(1.9)
    assert server.opened == 2
    server.wait(3.5)
    assert server.opened == 4
    server.talk.on_connected()  # it stands, and somebody is slow to answer
    server.wait(10)
    assert server.opened == 4
    assert not server.lost


def test_the_time_in_which_this_end_was_paused_counts_for_nothing() -> None:
    server = Server(patience=10.0)
    server.welcome()
    server.talk.on_disconnected(0.0)
    server.wait(5.0)
    server.now += 60.0
    server.talk.on_time(server.now)
    server.wait(4.0)
    assert server.lost == []
    server.wait(2.0)
    assert server.lost


def test_a_pause_that_is_short_is_none() -> None:
    server = Server(patience=10.0)
    server.welcome()
    server.talk.on_disconnected(0.0)
    while not server.lost:
        server.now += PAUSE_SECONDS * 0.9
        server.talk.on_time(server.now)
    assert server.now < 12.0


def test_nobody_who_answers_at_first_is_given_up_after_the_timeout() -> None:
    server = Server(timeout=3.0)
    server.wait(2.9)
    assert server.lost == []
    server.wait(0.3)
    assert server.lost == ["nobody answered at there within 3 s"]


def test_who_is_refused_by_key_gives_up_at_once() -> None:
    server = Server(keys="a file")
    server.talk.on_denied("key", server.now)
    assert server.lost == [f"{DENIED}: there does not know the key from a file"]


@pytest.mark.parametrize(
    ("keys", "said"), [("", "lets nobody in without a key"), ("a file", "there has no keys")]
)
def test_ends_of_which_one_has_keys_give_up_at_once(keys: str, said: str) -> None:
    server = Server(keys=keys)
    server.talk.on_denied("mechanism", server.now)
    (reason,) = server.lost
    assert reason.startswith(DENIED)
    assert said in reason


def test_connections_that_break_off_without_a_word_are_given_up_after_a_while() -> None:
    server = Server(keys="a file")
    for _ in range(3):
        server.talk.on_denied("", server.now)
        server.now += 0.6
    assert server.lost == []
    server.talk.on_denied("", server.now)
    (reason,) = server.lost
    assert "there has not the key that a file names" in reason


def test_who_waits_in_vain_and_was_cut_off_is_told_of_keys() -> None:
    server = Server(timeout=3.0)
    server.talk.on_denied("", server.now)
    server.wait(3.2)
    (reason,) = server.lost
    assert reason.startswith("nobody answered at there within 3 s")
    assert "perhaps it wants a key" in reason


@pytest.mark.parametrize("keys", ["", "a file"])
def test_a_session_outlives_connections_that_break_off_without_a_word(keys: str) -> None:
    """A server that is full does that to everybody; who has a session knows its key fits."""
    server = Server(keys=keys)
    if keys:
        server.welcome()
    for _ in range(10):
        server.talk.on_denied("", server.now)
        server.now += 1.0
    assert server.lost == []


def test_heartbeats_are_said_also_between_other_messages(server: Server) -> None:
    for _ in range(40):
        server.wait(HEARTBEAT_SECONDS / 10)
        server.talk.send(Release([1]), (), server.now)
    beats = [said for said in server.heard if isinstance(said[1], Heartbeat)]
    assert 3 <= len(beats) <= 5


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Goodbye("it is late"), "it is late"),
        (Goodbye(), "the scheduler was closed"),
        (Refused("no"), "no"),
    ],
)
def test_the_end_is_told_once_with_its_reason(
    server: Server, message: Message, reason: str
) -> None:
    server.say(message)
    server.talk.on_disconnected(9.0)
    server.wait(60.0)
    assert server.lost == [reason]
    assert server.opened == 1


def test_a_server_that_forgot_the_session_is_lost(server: Server) -> None:
    server.talk.on_disconnected(9.0)
    server.welcome(resumed=False)
    assert server.lost == ["the scheduler no longer knows the session"]


def test_a_close_says_goodbye_unless_told_otherwise(server: Server) -> None:
    server.talk.close()
    server.talk.close()
    server.talk.send(Release([1]), (), 0.0)
    assert server.heard[-1] == (1, Goodbye())
    silent = Server()
    silent.welcome()
    silent.talk.close(goodbye=False)
    assert not [said for said in silent.heard if isinstance(said[1], Goodbye)]
    assert silent.talk.is_over


# --------------------------------------------------------------------- late, twice, out of place


def connections(server: Server) -> list[int]:
    return [said[1].connection for said in server.heard if isinstance(said[1], Hello)]


def test_each_connection_says_a_greater_number_in_its_hello(server: Server) -> None:
    for second in range(1, 4):
        server.now = second
        server.talk.reopen(server.now)
    assert connections(server) == [1, 2, 3, 4]


def test_a_second_welcome_on_a_connection_makes_a_new_one(server: Server) -> None:
    server.now = 5.0
    assert not server.welcome()
    assert connections(server) == [1, 2]
    assert server.welcome(resumed=True)
    assert server.talk.is_live
    assert not server.lost


@pytest.mark.parametrize(
    "answer",
    [
        {"resumed": True, "token": b"o" * 16},
        {"resumed": True, "seen": 99},
        {"resumed": False, "token": b""},
    ],
    ids=["of another session", "of what was not said", "without a token"],
)
def test_a_welcome_that_does_not_fit_is_not_taken(server: Server, answer: dict[str, Any]) -> None:
    server.talk.send(Release([1]), (), 0.0)
    server.now = 5.0
    server.talk.on_disconnected(5.0)
    assert not server.welcome(**answer)
    assert (server.talk.is_live, server.talk.token, server.lost) == (False, TOKEN, [])
    server.now = 6.0
    server.talk.on_time(6.0)
    assert server.welcome(resumed=True)
    assert releases(server)[-1] == (1, Release([1]))


def test_a_first_welcome_cannot_resume_anything() -> None:
    server = Server()
    assert not server.welcome(resumed=True)
    assert server.talk.token == b""


def test_what_comes_before_the_welcome_counts_for_nothing(server: Server) -> None:
    """It was said on another connection, or is said again after the welcome."""
    server.talk.on_disconnected(5.0)
    for message in (Cancelled([1], ""), Goodbye("too early")):
        server.say(message)
    assert (server.told, server.lost) == ([], [])
    server.welcome(resumed=True)
    for wire in server.session.unheard(0):
        server.talk.on_frames([bytes(frame) for frame in wire], 5.0)
    assert (server.told, server.lost) == ([Cancelled([1], "")], ["too early"])


@pytest.mark.parametrize(
    "late",
    [Welcome(1, TOKEN, True, 0, "", "", {}), Refused("late"), Reconnect()],
    ids=lambda late: type(late).__name__,
)
@pytest.mark.parametrize("is_closed", [True, False], ids=["closed here", "ended there"])
def test_an_answer_after_the_end_changes_nothing(
    server: Server, late: Message, is_closed: bool
) -> None:
    if is_closed:
        server.talk.close()
    else:
        server.say(Goodbye("enough"))
    server.now = 5.0
    server.say_bare(late)
    assert (server.talk.is_live, server.talk.is_over, server.opened) == (False, True, 1)
    assert server.lost == ([] if is_closed else ["enough"])


def test_a_second_goodbye_and_what_follows_it_change_nothing(server: Server) -> None:
    for message in (Goodbye("enough"), Goodbye("once more"), Cancelled([1], "")):
        server.say(message)
    assert (server.told, server.lost) == ([], ["enough"])


def test_a_goodbye_after_a_gap_waits_for_what_is_missing(server: Server) -> None:
    missing = server.session.say(encode(Cancelled([1], "")))
    last = server.session.say(encode(Goodbye("enough")))
    server.now = 5.0
    server.talk.on_frames([bytes(frame) for frame in last], 5.0)
    assert not server.lost
    server.welcome(resumed=True)
    for wire in (missing, last):
        server.talk.on_frames([bytes(frame) for frame in wire], 5.0)
    assert (server.told, server.lost) == ([Cancelled([1], "")], ["enough"])


def speak_nonsense(server: Server, times: int) -> None:
    for _ in range(times):
        server.now += 1.0
        assert not server.talk.on_frames([b"x"], server.now)
        if not server.talk.is_over:
            server.welcome(resumed=True)


def test_a_server_that_says_the_same_nonsense_for_ever_is_lost(server: Server) -> None:
    """It would say it again on each connection, and whoever waits here would wait for ever."""
    speak_nonsense(server, 4)
    assert not server.lost
    speak_nonsense(server, 1)
    (reason,) = server.lost
    assert reason.startswith("there says what is not understood here: first frame of 1 bytes")


def test_nonsense_between_what_is_understood_is_no_end(server: Server) -> None:
    for number in range(4):
        speak_nonsense(server, 4)
        server.say(Cancelled([number], ""))
    assert len(server.told) == 4
    assert not server.lost
