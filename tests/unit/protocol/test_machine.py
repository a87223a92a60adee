"""Two ends of a conversation over a line that drops, repeats and breaks: heard once, in order.

Each direction is a queue of what is under way. A connection that breaks loses what is on it, and
its successor begins with what each end says it has heard. Beside the two `Session` stands a model:
the texts said, and the texts heard.
"""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from zcluster.errors import ProtocolError
from zcluster.protocol.session import ACK_EVERY_MESSAGES, Session, read_head
from zcluster.types import Buffer

ENDS = st.sampled_from((0, 1))


class Line(RuleBasedStateMachine):
    """End 0 and end 1, and what is on its way to each."""

    @initialize()
    def begin(self) -> None:
        self.ends = (Session(), Session())
        self.said: tuple[list[bytes], list[bytes]] = ([], [])
        self.heard: tuple[list[bytes], list[bytes]] = ([], [])
        #: Messages on their way to each end, as frames.
        self.under_way: tuple[deque[list[Buffer]], deque[list[Buffer]]] = (deque(), deque())
        #: A message was lost and the line did not break: the next one shows a gap.
        self.has_gap = [False, False]

    @rule(end=ENDS, count=st.integers(1, 3), size=st.integers(0, 9))
    def says(self, end: int, count: int, size: int) -> None:
        for _ in range(count):
            text = b"%d" % len(self.said[end])
            self.said[end].append(text)
            wire = self.ends[end].say(text, [b"p" * size] if size else [])
            self.under_way[1 - end].append(list(wire))

    @precondition(lambda self: any(self.under_way))
    @rule(end=ENDS)
    def hears(self, end: int) -> None:
        if not self.under_way[end]:
            end = 1 - end
        self.hear(end, self.under_way[end].popleft())

    def hear(self, end: int, wire: list[Buffer]) -> None:
        sequence, acknowledged, control = read_head(wire[0])
        before = self.ends[end].heard
        try:
            is_new = self.ends[end].hear(sequence, acknowledged, sum(map(len, wire)))
        except ProtocolError:
            assert sequence > before + 1, "only a gap is refused"
            assert self.has_gap[end], "nothing was lost, and it says so"
            self.breaks()
            return
        assert is_new == (sequence == 0 or sequence == before + 1)
        if is_new and sequence:
            self.heard[end].append(bytes(control))
        if self.ends[end].is_ack_due:
            self.acknowledges(end)

    @rule(end=ENDS)
    def acknowledges(self, end: int) -> None:
        self.under_way[1 - end].append(self.ends[end].bare(b"ack"))
        assert not self.ends[end].is_ack_due

    @precondition(lambda self: any(self.under_way))
    @rule(end=ENDS, at=st.integers(0, 9))
    def is_said_twice(self, end: int, at: int) -> None:
        """The network repeats a message, later."""
        queue = self.under_way[end]
        if queue:
            queue.append(list(queue[at % len(queue)]))

    @precondition(lambda self: any(self.under_way))
    @rule(end=ENDS, at=st.integers(0, 9))
    def is_lost(self, end: int, at: int) -> None:
        """A message is dropped, and nobody is told."""
        queue = self.under_way[end]
        if queue:
            del queue[at % len(queue)]
            self.has_gap[end] = True

    @rule()
    def breaks(self) -> None:
        """The connection breaks and is made again: each says what it has heard, and goes on."""
        for queue in self.under_way:
            queue.clear()
        self.has_gap = [False, False]
        heard = [end.heard for end in self.ends]
        for number, end in enumerate(self.ends):
            for wire in end.unheard(heard[1 - number]):
                self.under_way[1 - number].append(list(wire))

    @rule(end=ENDS, beyond=st.integers(1, 3))
    def is_told_of_what_was_never_said(self, end: int, beyond: int) -> None:
        session = self.ends[end]
        before = session.in_flight
        for claim in (session.acknowledge, session.unheard):
            with pytest.raises(ProtocolError, match=r"were sent"):
                claim(session.said + beyond)
        assert session.in_flight == before

    @invariant()
    def what_is_heard_was_said(self) -> None:
        if not hasattr(self, "ends"):
            return
        for number, session in enumerate(self.ends):
            other = self.ends[1 - number]
            assert self.heard[1 - number] == self.said[number][: other.heard]
            kept = list(session._kept)
            assert session.in_flight == sum(sum(map(len, one.frames)) for one in kept)
            assert session.in_flight >= 0
            # Nothing is forgotten before it was heard, and all that was heard may be.
            first = kept[0].sequence if kept else session.said + 1
            assert first <= other.heard + 1
            assert [one.sequence for one in kept] == list(range(first, session.said + 1))
            assert session._unacked_messages <= ACK_EVERY_MESSAGES

    def teardown(self) -> None:
        """The line holds at last: everything arrives, and nothing is kept."""
        self.breaks()
        while any(self.under_way):
            for number in (0, 1):
                while self.under_way[number]:
                    self.hear(number, self.under_way[number].popleft())
        for number in (0, 1):
            assert self.heard[1 - number] == self.said[number]
            self.hear(1 - number, self.ends[number].bare(b"ack"))
        assert [end.in_flight for end in self.ends] == [0, 0]


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Line, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )


def test_everything_is_heard_once_and_in_order() -> None:
    run(60, 40)


@pytest.mark.slow
def test_everything_is_heard_once_and_in_order_for_long() -> None:
    run(200, 50)
