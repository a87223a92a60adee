"""A way to drive the client's core by hand: the test plays the scheduler."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable

import pytest

from zcluster.core.client.core import ClientCore
from zcluster.core.client.records import Wanted
from zcluster.core.client.states import State
from zcluster.graph.columns import read_part
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS, CALL_SINGLE, PackedCall
from zcluster.protocol.messages import Message, NodeInfo, Nodes, Resolved, Submit
from zcluster.types import Frames

FUNCTION = pack_callable(operator.neg)


def make_node(index: int) -> NodeInfo:
    return NodeInfo(index, f"n{index}", "h", 1, "ipc:///d", "", 0, [])


class Core(ClientCore):
    """A welcomed core, and short words for what tests have it do and look at."""

    def __init__(self, nodes: Iterable[int] = (0,)) -> None:
        super().__init__()
        self.on_welcome(3, [make_node(index) for index in nodes])
        self.take_effects()

    def add(self, *inputs: Wanted, key: str | None = None) -> Wanted:
        """Add a call of one constant, or of inputs."""
        if inputs:
            call = PackedCall(CALL_INPUTS, None, None, [])
            return self.add_call("f", FUNCTION, call, inputs, key=key)
        return self.add_call("f", FUNCTION, PackedCall(CALL_SINGLE, b"\x80", None, []), key=key)

    def sent(self) -> list[tuple[Message, Frames]]:
        """Return what goes out now, with its frames."""
        self.collect()
        return list(self.outgoing(lambda: 0))

    def messages(self) -> list[Message]:
        """Return what goes out now."""
        return [message for message, _ in self.sent()]

    def resolve(self, *records: Wanted, blob: bytes = b"blob") -> None:
        """Have the scheduler say that tasks are finished, with a small result each."""
        tasks = [record.task for record in records]
        message = Resolved(tasks, [len(blob)] * len(tasks), [], [])
        self.on_message(message, [blob * len(tasks)])

    def hear_of_node(self, index: int) -> None:
        """Have the scheduler say that a node has come."""
        self.on_message(Nodes([make_node(index)], []), [])

    @staticmethod
    def state_of(record: Wanted) -> State:
        """Return a record's state, which calls change behind the type checker's back."""
        return record.state

    @staticmethod
    def edges(submit: Submit, frames: Frames) -> dict[int, list[int]]:
        """Return the inputs of each task of a submission in one slice, all as tasks."""
        found: dict[int, list[int]] = {}
        for part in submit.parts:
            columns = read_part(part, frames, end=submit.count, imports=len(submit.imports))
            for position in range(part.count):
                if columns.indptr is None:
                    start, stop = position * columns.arity, (position + 1) * columns.arity
                else:
                    start, stop = columns.indptr[position], columns.indptr[position + 1]
                found[submit.submission + part.first + position] = [
                    submit.submission + i if i < submit.count else submit.imports[i - submit.count]
                    for i in columns.indices[start:stop]
                ]
        return found


@pytest.fixture
def make_core() -> Callable[..., Core]:
    """Return what makes a core that knows of some nodes."""
    return Core


@pytest.fixture
def core() -> Core:
    """Return a core that knows of one node."""
    return Core()
