"""Pretend clients, and the model of what they should get.

See `zcluster.testing.world`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zcluster.core.node.records import Result
from zcluster.graph.layers import Graph
from zcluster.graph.lowering import slices
from zcluster.protocol.messages import (
    PROTOCOL,
    Cancel,
    Cancelled,
    Failed,
    Hello,
    Message,
    Release,
    Resolved,
    Retry,
    Scattered,
    Unreachable,
    Want,
)
from zcluster.testing.fakes import BIG, FakeNode

__all__ = ["FakeClient", "Spec"]

if TYPE_CHECKING:
    from zcluster.testing.world import World


@dataclass
class Spec:
    """What a task should give: the model beside the thing."""

    name: bytes
    constant: bytes = b""
    #: (task, part or None), and lists of them.
    inputs: list[Any] = field(default_factory=list)
    alias: int | None = None
    data: bytes | None = None
    retries: int = 0
    key: str | None = None


class FakeClient:
    """A client: submits, holds, fetches, releases; it believes nothing."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.peer = world.count()
        welcome = world.join(self.peer, Hello("client", PROTOCOL, "0", "3", b"", name=name))
        self.index = welcome.index
        self.next = self.index << 40
        #: Tasks held: pending, or what is known of them.
        self.wanted: dict[int, Any] = {}
        self.announced: list[tuple[int, int]] = []
        self.blobs: dict[int, bytes] = {}
        self.is_gone = False
        self.is_away = False

    def say(self, message: Message, frames: Sequence[Any] = ()) -> None:
        self.world.post("client>scheduler", self, message, frames)

    def submit(self, graph: Graph, imports: Sequence[int] = (), limit: int = 1 << 20) -> int:
        """Submit a graph; return its first task."""
        first = self.next
        self.next += graph.count
        for message, frames in slices(graph, first, imports, limit):
            self.say(message, frames)
        for start, count in graph.outputs:
            for task in range(first + start, first + start + count):
                self.wanted[task] = None
        return first

    def release(self, tasks: Sequence[int]) -> None:
        for task in tasks:
            del self.wanted[task]
            self.blobs.pop(task, None)
        self.say(Release(list(tasks)))

    def want(self, tasks: Sequence[int]) -> None:
        """Hold tasks of other clients too."""
        for task in tasks:
            self.wanted.setdefault(task, None)
            self.world.adopted.add(task)
        self.say(Want(list(tasks)))

    def retry(self, tasks: Sequence[int]) -> None:
        """Have failed tasks run again."""
        for task in tasks:
            self.wanted[task] = None
        self.say(Retry(list(tasks)))

    def cancel(self, tasks: Sequence[int]) -> None:
        for task in tasks:
            self.world.cancelled.add(task)
        self.say(Cancel(list(tasks), "because"))

    def put(self, task: int, blob: bytes, node: FakeNode) -> None:
        """Put data into a node, and say so."""
        if len(blob) < BIG:
            node.core.on_put(task, Result(len(blob), blob))
        else:
            place = node.store.allocate(len(blob))
            assert place is not None
            node.store.bytes[place] = blob
            node.core.on_put(task, Result(len(blob), place=place))
        node.flush()
        self.say(Scattered([task], [node.index], [len(blob)]))

    def hear(self, message: Message, frames: list[bytes]) -> None:
        if isinstance(message, Resolved):
            start = 0
            for task, length, holder in zip(
                message.tasks, message.lengths, message.holders, strict=True
            ):
                if length >= 0:
                    self.settle(task, frames[0][start : start + length])
                    start += length
                elif task in self.wanted and self.wanted[task] is None:
                    self.announced.append((task, holder))
        elif isinstance(message, Failed):
            for task, which in zip(message.tasks, message.which, strict=True):
                self.settle(task, message.errors[which])
        elif isinstance(message, Cancelled):
            for task in message.tasks:
                self.settle(task, message)
        elif isinstance(message, Unreachable):
            for task in message.tasks:
                self.put_again(task)

    def put_again(self, task: int) -> None:
        nodes = [node for node in self.world.nodes if not node.is_away]
        if task not in self.blobs:
            self.say(Cancel([task], "no copy is kept"))
            self.world.cancelled.add(task)
        elif nodes:
            self.put(task, self.blobs[task], self.world.random.choice(nodes))
        else:
            self.world.late.append((self, task))

    def settle(self, task: int, outcome: Any) -> None:
        if task not in self.wanted:
            return
        known = self.wanted[task]
        if known is None:
            self.world.judge(task, outcome)
            self.wanted[task] = outcome
        elif isinstance(known, bytes):
            assert not isinstance(outcome, bytes) or known == outcome, "resolved twice, differently"

    def fetch(self) -> None:
        """Fetch an announced result from where it should be."""
        task, holder = self.announced.pop(0)
        if self.wanted.get(task, b"") is not None:
            return
        node = self.world.node(holder)
        result = node.core.results.get(task) if node is not None and not node.is_away else None
        if node is None or result is None or result.worker >= 0:
            self.say(Unreachable([task], holder))
        else:
            self.settle(task, node.store.read(result))
