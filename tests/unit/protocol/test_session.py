"""Over a connection that loses things, what was said is heard once and in order."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zcluster.errors import ProtocolError
from zcluster.protocol.session import (
    ACK_EVERY_BYTES,
    ACK_EVERY_MESSAGES,
    Session,
    read_head,
    unsequenced,
)
from zcluster.types import Buffer

HEAD = 16
ENDS = st.integers(0, 1)


class Conversation(RuleBasedStateMachine):
    """Two sessions, and a wire in each direction that forgets now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = (Session(), Session())
        self.wires: tuple[deque[list[Buffer]], deque[list[Buffer]]] = (deque(), deque())
        self.said: tuple[list[tuple[bytes, ...]], list[tuple[bytes, ...]]] = ([], [])
        self.heard: tuple[list[tuple[bytes, ...]], list[tuple[bytes, ...]]] = ([], [])
        #: Of what each end has said, how many messages it knows to be heard.
        self.acknowledged = [0, 0]

    @rule(end=ENDS, payload=st.lists(st.binary(max_size=5), max_size=2))
    def say(self, end: int, payload: list[bytes]) -> None:
        control = b"%d" % len(self.said[end])
        self.said[end].append((control, *payload))
        self.put(end, self.ends[end].say(control, payload))

    @rule(end=ENDS)
    def acknowledge(self, end: int) -> None:
        self.put(end, self.ends[end].bare(b"ack"))

    def put(self, end: int, frames: list[Buffer]) -> None:
        """Lay a message on the wire, as it is now: the sender may still change its own."""
        self.wires[end].append([bytes(frame) for frame in frames])

    @precondition(lambda self: any(self.wires))
    @rule(end=ENDS)
    def lose(self, end: int) -> None:
        if self.wires[end]:
            self.wires[end].popleft()

    @precondition(lambda self: any(self.wires))
    @rule(end=ENDS)
    def repeat(self, end: int) -> None:
        if self.wires[end]:
            self.wires[end].appendleft(self.wires[end][0])

    @rule(end=ENDS, count=st.integers(1, 5))
    def deliver(self, end: int, count: int) -> None:
        """Let some of what an end has said arrive at the other."""
        for _ in range(min(count, len(self.wires[end]))):
            frames = self.wires[end].popleft()
            if not self.hear(1 - end, frames):
                self.reconnect()
                return

    def hear(self, end: int, frames: list[Buffer]) -> bool:
        """Hear a message; False if one before it was lost."""
        session, heard = self.ends[end], self.heard[end]
        sequence, acknowledged, control = read_head(frames[0])
        self.acknowledged[end] = max(self.acknowledged[end], acknowledged)
        size = sum(map(len, frames))
        if sequence > len(heard) + 1:
            with pytest.raises(ProtocolError, match=f"{sequence} came after message {len(heard)}"):
                session.hear(sequence, acknowledged, size)
            return False
        is_new = session.hear(sequence, acknowledged, size)
        assert is_new == (sequence in (0, len(heard) + 1))
        if is_new and sequence:
            heard.append((bytes(control), *map(bytes, frames[1:])))
        return True

    @rule()
    def reconnect(self) -> None:
        """What is under way is lost; both ends say again what the other has not heard."""
        for end in (0, 1):
            self.wires[end].clear()
            seen = len(self.heard[1 - end])
            self.acknowledged[end] = seen
            for frames in self.ends[end].unheard(seen):
                self.put(end, frames)

    @invariant()
    def what_was_heard_was_said_in_this_order(self) -> None:
        for end in (0, 1):
            assert self.heard[1 - end] == self.said[end][: len(self.heard[1 - end])]
            assert self.ends[end].said == len(self.said[end])
            assert self.ends[1 - end].heard == len(self.heard[1 - end])

    @invariant()
    def in_flight_is_what_is_not_acknowledged(self) -> None:
        for end in (0, 1):
            rest = self.said[end][self.acknowledged[end] :]
            assert self.ends[end].in_flight == sum(HEAD + sum(map(len, parts)) for parts in rest)

    def teardown(self) -> None:
        """A connection that holds brings everything."""
        self.reconnect()
        for end in (0, 1):
            self.deliver(end, len(self.wires[end]))
            assert self.heard[1 - end] == self.said[end]
        for end in (0, 1):
            self.acknowledge(end)
            self.deliver(end, len(self.wires[end]))
        assert self.ends[0].in_flight == self.ends[1].in_flight == 0


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=120, stateful_step_count=30)


def test_a_gap_raises_and_the_message_is_not_heard() -> None:
    session = Session()
    assert session.hear(1, 0, 10)
    with pytest.raises(ProtocolError, match="message 3 came after message 1"):
        session.hear(3, 0, 10)
    assert session.heard == 1
    assert session.hear(2, 0, 10)


def test_a_message_outside_the_session_is_always_heard_and_counts_nowhere() -> None:
    session = Session()
    assert session.hear(0, 0, 10)
    assert session.hear(0, 0, 10)
    assert session.heard == 0


def test_what_was_never_said_cannot_be_acknowledged() -> None:
    session = Session()
    session.say(b"a")
    with pytest.raises(ProtocolError, match="acknowledgement of message 2, but only 1 were sent"):
        session.hear(0, 2, 10)
    with pytest.raises(ProtocolError, match="acknowledgement of message 2"):
        session.unheard(2)
    assert session.in_flight == HEAD + 1


def test_an_old_acknowledgement_changes_nothing() -> None:
    session = Session()
    for _ in range(3):
        session.say(b"a")
    session.acknowledge(2)
    session.acknowledge(1)
    assert session.in_flight == HEAD + 1
    assert [read_head(frames[0])[0] for frames in session.unheard(2)] == [3]


@pytest.mark.parametrize("said", [2, 3])
def test_a_peer_that_missed_what_is_no_longer_kept_cannot_go_on(said: int) -> None:
    session = Session()
    for _ in range(said):
        session.say(b"a")
    session.acknowledge(2)
    with pytest.raises(ProtocolError, match="the peer has heard up to 1"):
        session.unheard(1)


def test_what_is_said_again_acknowledges_what_was_heard_since() -> None:
    session = Session()
    payload = memoryview(b"payload")
    session.say(b"a", [payload])
    session.hear(1, 0, 10)
    (again,) = session.unheard(0)
    sequence, acknowledged, control = read_head(again[0])
    assert (sequence, acknowledged, bytes(control)) == (1, 1, b"a")
    assert again[1] is payload  # kept, not copied
    assert [read_head(frames[0])[:2] for frames in session.unheard(0)] == [(1, 1)]


def test_an_acknowledgement_is_due_after_many_messages_or_many_bytes() -> None:
    session = Session()

    def is_due() -> bool:
        return session.is_ack_due

    for sequence in range(1, ACK_EVERY_MESSAGES):
        session.hear(sequence, 0, 1)
        assert not is_due()
    session.hear(ACK_EVERY_MESSAGES, 0, 1)
    assert is_due()
    session.bare(b"ack")
    assert not is_due()
    session.hear(ACK_EVERY_MESSAGES + 1, 0, ACK_EVERY_BYTES)
    assert is_due()
    session.say(b"anything")  # its head acknowledges too
    assert not is_due()
    session.hear(1, 0, ACK_EVERY_BYTES)  # a repeated message is not new input
    assert not is_due()


def test_messages_outside_a_session_have_number_zero() -> None:
    frames = unsequenced(b"hello", [b"payload"], 7)
    assert frames[1:] == [b"payload"]
    sequence, acknowledged, control = read_head(frames[0])
    assert (sequence, acknowledged, bytes(control)) == (0, 7, b"hello")


@pytest.mark.parametrize("size", [0, 1, HEAD])
def test_a_first_frame_without_a_control_frame_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"first frame of {size} bytes, expected a head of 16"):
        read_head(bytes(size))
