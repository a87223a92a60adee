"""A way to drive the scheduler core by hand.

`Desk`: the test plays all peers; what is said to the core, and exactly what it says. Whole
clusters live in `tests/unit/testing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from zcluster.core.scheduler.core import SchedulerCore
from zcluster.core.scheduler.invariants import check
from zcluster.core.scheduler.records import SchedulerSettings
from zcluster.core.scheduler.states import State
from zcluster.graph.layers import Graph
from zcluster.graph.lowering import slices
from zcluster.protocol.messages import (
    PROTOCOL,
    Assign,
    ErrorInfo,
    Failed,
    Finished,
    Hello,
    Message,
    NodeInfo,
    Welcome,
    WorkerInfo,
)

Said = TypeVar("Said", bound=Message)


@dataclass
class Member:
    """A client or node, as the desk knows it."""

    name: str
    peer: int
    index: int
    first: int = 0


class Desk:
    """A scheduler core and its peers, who are played by the test."""

    def __init__(self, check: bool = True, **settings: Any) -> None:
        self.is_checking = check
        self.core = SchedulerCore("inproc://s", "0", SchedulerSettings(**settings))
        self.state = self.core.state
        self.now = 1.0
        self.names: dict[int, str] = {}
        self.messages: list[tuple[str, Message, list[bytes]]] = []

    def client(self, name: str = "c") -> Member:
        """Have a client join."""
        return self._join(name, Hello("client", PROTOCOL, "0", "3", b"", name=name))

    def node(
        self,
        name: str = "n",
        slots: int = 1,
        workers: int = 1,
        host: str = "h",
        resources: dict[str, float] | None = None,
    ) -> Member:
        """Have a node join, with its workers up."""
        has = resources or {}
        infos = [WorkerInfo(k, f"{name}-{k}", slots, 0, 100 + k, has) for k in range(workers)]
        info = NodeInfo(0, name, host, 1, f"tcp://{name}", "", 0, infos)
        return self._join(name, Hello("node", PROTOCOL, "0", "3", b"", node=info))

    def _join(self, name: str, hello: Hello) -> Member:
        peer = len(self.names) + 1
        self.names[peer] = name
        welcome = self.core.on_hello(peer, hello, self.now)
        assert isinstance(welcome, Welcome), welcome
        return Member(name, peer, welcome.index, welcome.index << 40)

    def tell(self, member: Member, message: Message, frames: Sequence[Any] = ()) -> None:
        """Have a member say something."""
        self.core.on_message(member.peer, message, frames, self.now)
        if self.is_checking:
            check(self.state)

    def submit(
        self, client: Member, graph: Graph, imports: Sequence[int] = (), limit: int = 1 << 20
    ) -> int:
        """Submit a graph, all outputs wanted if none are named; return its first task."""
        first = client.first
        if not graph.outputs:
            graph.outputs = [(0, graph.count)]
        for message, frames in slices(graph, first, imports, limit):
            self.tell(client, message, frames)
        client.first += graph.count
        return first

    def flush(self) -> None:
        """Flush the core and take what it says."""
        for peer, message, frames in self.core.flush(self.now):
            name = self.names.get(peer, "?")
            self.messages.append((name, message, [bytes(frame) for frame in frames]))
        check(self.state)

    def later(self, seconds: float = 1.0) -> None:
        """Flush, let time pass (and tell the core of it often), and flush."""
        self.flush()
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            self.core.on_time(self.now)
        self.flush()

    def take(self, kind: type[Said], name: str | None = None) -> list[Said]:
        """Flush, and take all messages of a kind out of what was said (to one peer)."""
        self.flush()
        found = [m for m in self.messages if isinstance(m[1], kind) and name in (None, m[0])]
        self.messages = [m for m in self.messages if m not in found]
        return [message for _, message, _ in found if isinstance(message, kind)]

    def assigned(self) -> dict[str, list[int]]:
        """Flush; return what was assigned since the last time, by node."""
        self.flush()
        tasks: dict[str, list[int]] = {}
        for name, message, _ in self.messages:
            if isinstance(message, Assign):
                tasks.setdefault(name, []).extend(message.tasks)
        self.messages = [m for m in self.messages if not isinstance(m[1], Assign)]
        return tasks

    def finish(
        self,
        node: Member,
        tasks: Sequence[int],
        blob: bytes = b"result",
        length: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Have a node report results: small ones, or as ``length`` says."""
        lengths = [len(blob) if length is None else length] * len(tasks)
        attempts = [self.attempt(task) for task in tasks]
        sizes = [abs(n) if n >= 0 else 1000 for n in lengths]
        durations = []
        if seconds is not None:
            page, row = self.row(tasks[0])
            spent = int(seconds * 1e6 * len(tasks))
            durations = [(page.layer[row].function, len(tasks), spent)]
        message = Finished(list(tasks), attempts, lengths, sizes, [0] * len(tasks), durations)
        self.tell(node, message, [blob * len(tasks)] if length is None else [])

    def fail(self, node: Member, task: int, kind: str = "task", attempt: int | None = None) -> None:
        """Have a node report that a task failed."""
        error = ErrorInfo(kind, "ValueError", "no", "", task, 0, node.name, "w", (0, 0, 3))
        attempt = self.attempt(task) if attempt is None else attempt
        self.tell(node, Failed([task], [attempt], [0], [error]), [b"exc"])

    def row(self, task: int) -> tuple[Any, int]:
        found = self.state.find(task)
        assert found is not None, f"task {task} is forgotten"
        return found

    def attempt(self, task: int) -> int:
        found = self.state.find(task)
        return 0 if found is None else int(found[0].attempt[found[1]])

    def word(self, task: int) -> str:
        """Return a task's state in lower case."""
        found = self.state.find(task)
        return "forgotten" if found is None else State(found[0].state[found[1]]).name.lower()

    def words(self, tasks: Sequence[int]) -> list[str]:
        return [self.word(task) for task in tasks]


@pytest.fixture
def desk() -> type[Desk]:
    """Return the desk, to be made with settings."""
    return Desk


@pytest.fixture
def graph_of(add_layer: Callable[..., int]) -> Callable[..., Graph]:
    """Return what makes a graph of one call for each list of inputs, in one layer a name."""

    def make(*layers: Any, **options: Any) -> Graph:
        graph = Graph()
        for layer in layers:
            name, inputs = layer if isinstance(layer, tuple) else ("s", layer)
            add_layer(graph, name, inputs, **options)
        return graph

    return make
