"""A model beside the client's core: what is wanted and released follows from its futures."""

from __future__ import annotations

import operator
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zcluster.core.client.core import ClientCore
from zcluster.core.client.records import Wanted
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS, CALL_PACKED_LAST, CALL_SINGLE, PackedCall
from zcluster.protocol.messages import (
    ErrorInfo,
    Failed,
    Message,
    NodeInfo,
    Release,
    Resolved,
    Submit,
)

FUNCTION = pack_callable(operator.neg)
SINGLE = PackedCall(CALL_SINGLE, b"\x80", None, [])
INPUTS = PackedCall(CALL_INPUTS, None, None, [])
LARGE = PackedCall(CALL_PACKED_LAST, None, None, [])


def make_core() -> ClientCore:
    core = ClientCore()
    core.on_welcome(3, [NodeInfo(0, "n0", "h", 1, "ipc:///d", "", 0, [])])
    return core


def messages(core: ClientCore) -> list[Message]:
    core.collect()
    return [message for message, _ in core.outgoing(lambda: 0)]


class Holds(RuleBasedStateMachine):
    """Futures come, are shared, settled and dropped in any order.

    The model is a list of futures; what the core wants and releases follows from it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.core = make_core()
        self.futures: list[Wanted] = []
        self.submitted: set[int] = set()
        self.released: list[int] = []

    @rule(key=st.sampled_from([None, "a", "b"]), data=st.data())
    def submit(self, key: str | None, data: Any) -> None:
        record = None if key is None else self.core.shared(key)
        if record is None:
            inputs = data.draw(st.lists(st.sampled_from(self.futures))) if self.futures else []
            call = INPUTS if inputs else SINGLE
            record = self.core.add_call("f", FUNCTION, call, inputs, key=key)
        self.futures.append(record)

    @rule()
    def submit_large(self) -> None:
        self.futures.append(self.core.add_call("f", FUNCTION, LARGE, large=b"large"))

    @precondition(lambda self: self.futures)
    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        place = data.draw(st.integers(0, len(self.futures) - 1))
        self.core.drop([self.futures.pop(place)])

    @precondition(lambda self: self.futures)
    @rule(data=st.data(), how=st.sampled_from(["resolve", "fail", "cancel", "announce"]))
    def settle(self, data: Any, how: str) -> None:
        record = data.draw(st.sampled_from(self.futures))
        if how == "resolve":
            self.core.on_message(Resolved([record.task], [1], [], []), [b"x"])
        elif how == "fail":
            info = ErrorInfo("task", "builtins.ValueError", "no", "", record.task, 1, "n", "w")
            self.core.on_message(Failed([record.task], [1], [0], [info]), [])
        elif how == "cancel":
            self.core.cancel([record])
        else:
            self.core.on_message(Resolved([record.task], [-1], [1], [0]), [])

    @rule()
    def send(self) -> None:
        for message in messages(self.core):
            if isinstance(message, Submit):
                new = range(message.submission, message.submission + message.count)
                assert self.submitted.isdisjoint(new)
                assert not set(message.imports) - self.submitted
                assert not set(message.imports) & set(self.released)
                self.submitted.update(new)
            elif isinstance(message, Release):
                assert not set(message.tasks) - self.submitted
                self.released += message.tasks

    @invariant()
    def wanted_is_what_futures_hold(self) -> None:
        assert set(self.core.wanted) == {record.task for record in self.futures}
        for task, record in self.core.wanted.items():
            assert record.holds == sum(one is record for one in self.futures)
            assert record.task == task
        assert not set(self.released) & set(self.core.wanted)
        assert len(self.released) == len(set(self.released))

    def teardown(self) -> None:
        """Without futures nothing is held: every task was released, once."""
        self.core.drop(list(self.futures))
        self.futures.clear()
        self.send()
        assert not self.core.wanted
        assert not self.core.keys
        assert sorted(self.released) == sorted(self.submitted)


TestHolds = Holds.TestCase
