"""Two ways to drive the scheduler core.

`Desk`: the test plays all peers; what is said to the core, and exactly what it says.

`History`: a whole pretend cluster (`World`, a folder up) lives through what one seed draws: graphs,
what clients do with them, and faults. Then the faults stop and everything that is wanted must come
(I4, I9, I10); then everything is released and nothing may be left, at the scheduler and at the
nodes (I11). On the way `World` compares every outcome with the model and, in small histories, walks
both states after every event (I1 to I3, I8).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from zcluster.core.node.invariants import check_empty as check_node_empty
from zcluster.core.scheduler.core import SchedulerCore
from zcluster.core.scheduler.invariants import check, check_empty
from zcluster.core.scheduler.questions import explain
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
    Needs,
    NodeInfo,
    Recall,
    Slot,
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


_FAULTS = (
    "release",
    "cancel",
    "kill",
    "away",
    "lose_node",
    "join",
    "lose_client",
    "recall",
    "scatter",
    "fetch_fault",
    "retry",
    "want",
)


class History:
    """One history, drawn from a seed."""

    def __init__(self, seed: int, world: Any, add_layer: Any, check: bool | None = None) -> None:
        chance = random.Random(seed)
        self.random = chance
        self.add_layer = add_layer
        is_small = chance.random() < 0.5 if check is None else check
        self.size = 6 if is_small else 40
        self.world = world(
            seed,
            is_small,
            client_credit=chance.choice((0, 30, 1 << 20)),
            inline_bytes=chance.choice((0, 30, 1 << 20)),
            batch=chance.choice((2, 512)),
            window=chance.choice((1e-4, 0.04)),
        )
        # Each history has its own mix: most have few kinds of trouble.
        self.rates = {name: chance.choice((0, 0, 0, 0.5, 2)) for name in _FAULTS}
        self.rates["submit"] = 2
        self.rates["settle"] = 2
        self.failing = chance.choice((0, 0, 0.1))
        self.names = chance.choice((["s"], ["s", "b"], ["s", "b", "p", "u"]))
        self.needy = chance.choice((0, 0, 0.3))
        self.world.blocking = chance.choice((0, 0, 0.1))
        self.held_back = chance.choice((0, 0, 0, 0.3))

    # --------------------------------------------------------------------- actions

    def run(self, actions: int) -> None:
        """Play the whole history."""
        w = self.world
        for k in range(self.random.randint(1, 2)):
            w.add_client(f"c{k}")
        for k in range(self.random.randint(1, 3)):
            self.add_node(f"n{k}")
        words = list(self.rates)
        for _ in range(actions):
            word = self.random.choices(words, [self.rates[word] for word in words])[0]
            getattr(self, word)()
            for _ in range(self.random.choice((0, 1, 5, 40))):
                w.step()
        self.finish()

    def finish(self) -> None:
        """Stop the faults: everything must come; then release everything: nothing may be left."""
        w = self.world
        for member in [*w.nodes, *w.clients]:
            if member.is_away and not getattr(member, "is_gone", False):
                w.set_away(member, False)
        w.add_node("rescue", 2, 2, {"GPU": 2.0})
        w.run()
        for client in self.present():
            waiting = [task for task, outcome in client.wanted.items() if outcome is None]
            assert not waiting, "\n".join(self.explain(task) for task in waiting)
        for client in self.present():
            client.release(list(client.wanted))
        w.run()
        check_empty(w.core.state)
        w.sweep()
        for node in w.nodes:
            check_node_empty(node.core)

    def explain(self, task: int) -> str:
        story = self.world.state.journal.story(task)
        return f"{task} waits: {explain(self.world.state, task)} {story}"

    def present(self) -> list[Any]:
        return [client for client in self.world.clients if not client.is_gone]

    def add_node(self, name: str) -> None:
        chance = self.random
        resources = {"GPU": chance.choice((1.0, 2.0))} if chance.random() < 0.5 else None
        self.world.add_node(name, chance.randint(1, 2), chance.randint(1, 2), resources)

    def settle(self) -> None:
        for _ in range(200):
            if not self.world.step():
                return

    def release(self) -> None:
        for client in self.present():
            some = [task for task in client.wanted if self.random.random() < 0.4]
            if some:
                client.release(some)

    def cancel(self) -> None:
        for client in self.present():
            if client.wanted:
                client.cancel([self.random.choice(list(client.wanted))])

    def kill(self) -> None:
        workers = [(n, w) for n in self.world.nodes for w in n.workers.values()]
        if workers:
            self.world.kill_worker(*self.random.choice(workers), chance=True)

    def away(self) -> None:
        w = self.world
        member = self.random.choice([*w.nodes, *self.present()] or [None])
        if member is not None:
            w.set_away(member, not member.is_away)
            w.flush_all()

    def lose_node(self) -> None:
        if self.world.nodes:
            self.world.lose_node(self.random.choice(self.world.nodes))

    def lose_client(self) -> None:
        if len(self.present()) > 1 and self.random.random() < 0.3:
            self.world.lose_client(self.random.choice(self.present()))

    def join(self) -> None:
        self.add_node(f"n{self.random.randrange(4)}")

    def recall(self) -> None:
        for node in self.world.nodes:
            tasks = [task for task in node.core.tasks if self.random.random() < 0.5]
            if tasks:
                self.world.post("scheduler>node", node, Recall(tasks), ())

    def fetch_fault(self) -> None:
        """A node forgets a result: it says so, or somebody finds out."""
        for node in self.world.nodes:
            if node.fetches and self.random.random() < 0.5:
                order = node.fetches.pop()
                at = self.random.choice([*order.nodes, -1])
                node.core.on_unfetched(order.number, at, self.world.now)

    def retry(self) -> None:
        """Failed tasks are tried again; most fail again."""
        for client in self.present():
            failed = [t for t, outcome in client.wanted.items() if isinstance(outcome, ErrorInfo)]
            if failed:
                client.retry(self.random.sample(failed, self.random.randint(1, len(failed))))

    def want(self) -> None:
        """A client wants what another one has."""
        for client in self.present():
            others = [o for o in self.present() if o is not client and o.wanted]
            if others:
                task = self.random.choice(list(self.random.choice(others).wanted))
                if self.world.state.find(task) is not None:
                    client.want([task])

    def scatter(self) -> None:
        client = self.random.choice(self.present())
        graph = Graph()
        count = self.random.randint(1, 3)
        self.add_layer(graph, "data", [()] * count, function=None, call=3)
        graph.outputs = [(0, count)]
        first = client.submit(graph)
        for task in range(first, first + count):
            big = self.random.random() < 0.5
            blob = (b"b%d" % task).ljust(100 if big else 8, b".")
            self.world.specs[task] = self.world.spec(b"", data=blob)
            client.blobs[task] = blob
            client.put_again(task)

    # --------------------------------------------------------------------- graphs

    def submit(self) -> None:
        client = self.random.choice(self.present())
        w, chance = self.world, self.random
        known = [task for task in client.wanted if chance.random() < 0.5][:5]
        graph = Graph()
        for task in known:
            graph.add_import(Import(task))
        specs: list[Any] = []
        for _ in range(chance.randint(1, 4)):
            self.draw_layer(graph, specs, known, client)
        wanted = [k for k in range(graph.count) if chance.random() < 0.4] or [graph.count - 1]
        if chance.random() < 0.3:
            wanted = list(range(graph.count))
        graph.want(wanted)
        first = client.next
        for k, spec in enumerate(specs):
            spec.inputs = [(s + first if own else s, part) for own, s, part in spec.inputs]
            w.specs[first + k] = spec
            if spec.key is not None:
                w.sharers.setdefault(spec.key, []).append(first + k)
        client.submit(graph, known, chance.choice((300, 500, 1 << 20)))
        if known and chance.random() < 0.3:
            client.release([known[0]])

    def draw_layer(self, graph: Graph, specs: list[Any], known: list[int], client: Any) -> None:
        chance = self.random
        name = chance.choice(self.names) + str(chance.randrange(3))
        shape = chance.choice(("map", "chain", "tree", "any", "any", "whole", "parts"))
        count = chance.randint(1, self.size)
        if shape == "chain" or not graph.count:
            inputs = self.chain_or_roots(graph, shape, count)
        elif shape == "map":
            count = min(count, graph.count)
            inputs = [[graph.count - count + k] for k in range(count)]
        elif shape == "tree":
            inputs = self.tree(graph, count)
        else:
            inputs = [
                [chance.randrange(graph.count) for _ in range(chance.randint(0, 3))]
                for _ in range(count)
            ]
        if known:
            for sources in inputs:
                if chance.random() < 0.3:
                    sources.append(~chance.randrange(len(known)))
        self.emit(graph, specs, known, name, shape, inputs)

    def chain_or_roots(self, graph: Graph, shape: str, count: int) -> list[list[int]]:
        start = graph.count
        if shape == "chain":
            return [[start + k - 1] if start + k else [] for k in range(count)]
        return [[] for _ in range(count)]

    def tree(self, graph: Graph, count: int) -> list[list[int]]:
        level = list(range(max(0, graph.count - count), graph.count))
        inputs: list[list[int]] = []
        task = graph.count
        while len(level) > 1:
            pairs = [level[k : k + 2] for k in range(0, len(level), 2)]
            inputs += pairs
            level = list(range(task, task + len(pairs)))
            task += len(pairs)
        return inputs or [[level[0]]]

    def emit(
        self,
        graph: Graph,
        specs: list[Any],
        known: list[int],
        name: str,
        shape: str,
        inputs: list[list[int]],
    ) -> None:
        chance, w = self.random, self.world
        constants = [self.draw_constant(k) for k in range(len(inputs))]
        options: dict[str, Any] = {}
        whole: list[int] = []
        kind = 0
        if shape == "whole" or (shape == "parts" and chance.random() < 0.5):
            whole = [chance.randrange(len(graph.layers))] if graph.layers else []
            options["whole"] = whole
            kind = chance.choice((0, 1, 2)) if shape == "parts" else 0
            options["whole_slots"] = [Slot(kind)] * len(whole)
        elif shape == "parts":
            kind = chance.choice((1, 2))
            options["slots"] = [Slot(kind)]
        listed = kind if "slots" in options else 0
        width = sum(len(sources) for sources in inputs) if listed == 1 else 0
        width += len(inputs) * len(whole) if kind == 1 else 0
        table = [chance.randrange(3) for _ in range(width)]
        if table:
            options["selections"] = table
        options["retries"] = retries = chance.choice((0, 0, 2))
        options["priority"] = chance.choice((0, 0, 0, 1))
        if chance.random() < 0.15:
            options["workers"] = ["rescue"] if chance.random() < 0.3 else ["n0", "rescue"]
            options["allow_other_workers"] = chance.random() < 0.5
        if chance.random() < self.needy:
            options["needs"] = self.draw_needs()
        if chance.random() < 0.25:
            options["shared"] = True
            options["keys"] = [f"k{name}{chance.randrange(6)}" for _ in inputs]
            self.make_pure(options["keys"], inputs, constants, whole)
        row = 0
        layers = list(graph.layers)
        first = graph.count
        self.add_layer(graph, name, inputs, constants, **options)
        for k, sources in enumerate(inputs):
            spec = w.spec(name.encode(), constants[k], retries=retries)
            if "keys" in options:
                spec.key = options["keys"][k]
            for source in sources:
                part = None
                if listed == 1:
                    part = table[row]
                    row += 1
                elif listed == 2:
                    part = k
                own = source >= 0
                spec.inputs.append((own, source if own else known[~source], part))
            for number in whole:
                part = table[row] if kind == 1 else k if kind == 2 else None
                row += kind == 1
                layer = layers[number]
                spec.inputs += [(True, layer.first + j, part) for j in range(layer.count)]
            specs.append(spec)
        assert len(specs) == graph.count, first

    def draw_needs(self) -> Needs:
        chance = self.random
        return Needs(
            {"GPU": chance.choice((0.5, 1.0, 2.0))} if chance.random() < 0.5 else {},
            chance.choice((1, 2)),
            retry_on=chance.choice(([], ["ValueError"])),
            retry_delay=chance.choice((0.0, 0.3)),
        )

    def make_pure(
        self,
        keys: list[str],
        inputs: list[list[int]],
        constants: list[bytes],
        whole: list[int],
    ) -> None:
        """Make equal keys mean equal results: only calls without arguments share theirs."""
        for k, key in enumerate(keys):
            if inputs[k] or whole or constants[k]:
                keys[k] = f"{key}-{self.world.count()}"

    def draw_constant(self, position: int) -> bytes:
        if self.random.random() < self.failing:
            word = self.random.choice((b"fail", b"flaky1", b"flaky2", b"kill", b"kill1", b"kill2"))
            return word + b" %d" % position
        return b"" if self.random.random() < 0.5 else b"%d" % position


class Import:
    """An import of a graph; the same object is the same import."""

    def __init__(self, task: int) -> None:
        self.task = task


@pytest.fixture(scope="session")
def history(world: Any, add_layer: Any) -> Callable[..., History]:
    """Return what makes a history of a seed."""

    def make(seed: int, check: bool | None = None) -> History:
        return History(seed, world, add_layer, check)

    return make
