"""Honest peers of the scheduler core, who may be late: the machine of `test_machine`.

Hypothesis plays them all. What they say may be of an old attempt, of a task long forgotten, or
come from one who was fenced. After every step the state is walked (I1, I2, I3, I8). In the end the
peers do their duty: everything must be settled, and once all of it is released nothing may be left
(I9 to I11).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
)

from zcluster.core.scheduler.core import SchedulerCore
from zcluster.core.scheduler.invariants import check, check_empty
from zcluster.core.scheduler.records import SchedulerSettings
from zcluster.core.scheduler.states import UNFINISHED, State
from zcluster.graph.layers import Graph, GraphLayer, Options
from zcluster.graph.lowering import slices
from zcluster.protocol.messages import (
    PROTOCOL,
    Ask,
    Assign,
    Blocked,
    Cancel,
    Copied,
    Copy,
    Drop,
    ErrorInfo,
    Failed,
    Finished,
    Free,
    Heartbeat,
    Hello,
    Lost,
    Message,
    Needs,
    NodeInfo,
    Recall,
    Recalled,
    Release,
    Retry,
    Scattered,
    Unreachable,
    Want,
    Welcome,
    WorkerInfo,
    Workers,
)
from zcluster.testing.fakes import function, through

CALL_VALUE = 3
WORKERS = ("n0-0", "n1-0", "rescue-0")


@dataclass
class Given:
    """A task that a node was assigned, as the node knows it."""

    attempt: int
    inputs: list[int]
    is_passing: bool


@dataclass
class Member:
    """A client or a node."""

    role: str
    name: str
    peer: int
    index: int
    is_away: bool = False
    is_gone: bool = False
    #: What was said to it while it was away.
    unheard: list[tuple[Message, Sequence[Any]]] = field(default_factory=list)
    # Of a client: the number of its next task, what it wants, slices it has still to send, data
    # that it has to put, and where results were said to be.
    next: int = 0
    wanted: set[int] = field(default_factory=set)
    unsent: list[tuple[Message, list[Any]]] = field(default_factory=list)
    owed: set[int] = field(default_factory=set)
    # Of a node: tasks it has, every (task, attempt) it ever had, results, copies to make, tasks
    # asked back.
    given: dict[int, Given] = field(default_factory=dict)
    old: list[tuple[int, int]] = field(default_factory=list)
    holds: set[int] = field(default_factory=set)
    copying: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def __repr__(self) -> str:
        return self.name

    def ready(self) -> list[int]:
        """Return the tasks whose inputs are not made here any more: those that can end."""
        return [
            task
            for task, given in sorted(self.given.items())
            if not any(source in self.given for source in given.inputs)
        ]


def picked(items: Sequence[Any], at: int, count: int = 1) -> list[Any]:
    """Return some of the items, from a place counted round."""
    return [items[(at + k) % len(items)] for k in range(min(count, len(items)))]


AT = st.integers(0, 5)
COUNT = st.integers(1, 3)
OPTIONS = (
    Options(),
    Options(),
    Options(retries=1),
    Options(priority=1),
    Options(workers=("n0-0", "rescue-0")),
    Options(workers=("n1-0",), allow_other_workers=True),
    Options(needs=Needs({"GPU": 1.0})),
    Options(needs=Needs(threads=2, retry_on=["x"], retry_delay=0.3), retries=1),
    Options(needs=Needs(at_most_once=True)),
)


class Peers(RuleBasedStateMachine):
    """A scheduler, and honest peers who may be late."""

    tasks = Bundle("tasks")

    @initialize(
        credit=st.sampled_from((1 << 20, 0)),
        batch=st.sampled_from((512, 1)),
        inline=st.sampled_from((1 << 20, 0)),
        nodes=st.integers(1, 2),
    )
    def begin(self, credit: int, batch: int, inline: int, nodes: int) -> None:
        chosen = SchedulerSettings(
            client_credit=credit, batch=batch, inline_bytes=inline, kills=2, journal=500
        )
        self.core = SchedulerCore("inproc://s", "0", chosen)
        self.state = self.core.state
        self.members: list[Member] = []
        self.now = 1.0
        self.join_client()
        for number in range(nodes):
            self.join_node(f"n{number}", [f"n{number}-0"], 2, 1.0)
        self.flush()

    # ----------------------------------------------------------------------- members

    def join(self, role: str, name: str, hello: Hello) -> Member:
        peer = len(self.members)
        answer = self.core.on_hello(peer, hello, self.now)
        assert isinstance(answer, Welcome), answer
        member = Member(role, f"{name}#{peer}", peer, answer.index, next=answer.index << 40)
        self.members.append(member)
        return member

    def join_client(self) -> Member:
        return self.join("client", "c", Hello("client", PROTOCOL, "0", "3", b"", name="c"))

    def join_node(self, name: str, workers: Sequence[str], slots: int, gpus: float) -> Member:
        has = {"GPU": gpus} if gpus else {}
        infos = [WorkerInfo(k, worker, slots, 0, 0, has) for k, worker in enumerate(workers)]
        info = NodeInfo(0, name, "h", 1, f"tcp://{name}", "", 0, infos)
        return self.join("node", name, Hello("node", PROTOCOL, "0", "3", b"", node=info))

    def live(self, role: str = "") -> list[Member]:
        return [m for m in self.members if role in ("", m.role) and not m.is_gone]

    def here(self, role: str = "") -> list[Member]:
        """Return those who can speak; a client with half a submission says nothing else first."""
        return [m for m in self.live(role) if not m.is_away]

    def idle_clients(self) -> list[Member]:
        return [m for m in self.here("client") if not m.unsent]

    @precondition(lambda self: len(self.live("client")) < 3)
    @rule()
    def client_joins(self) -> None:
        self.join_client()
        self.flush()

    @precondition(lambda self: len(self.live("node")) < 3)
    @rule(
        name=st.sampled_from(("n0", "n1", "n2")),
        slots=st.integers(1, 3),
        gpus=st.sampled_from((0.0, 1.0)),
    )
    def node_joins(self, name: str, slots: int, gpus: float) -> None:
        """A node, or a new incarnation of one that is here."""
        self.join_node(name, [f"{name}-0"], slots, gpus)
        self.flush()

    @precondition(lambda self: self.here())
    @rule(who=AT)
    def goes_away(self, who: int) -> None:
        (member,) = picked(self.here(), who)
        note(f"{member} is away")
        member.is_away = True
        self.core.on_away(member.peer, self.now)
        self.flush()

    @precondition(lambda self: any(member.is_away for member in self.live()))
    @rule(who=AT)
    def comes_back(self, who: int) -> None:
        (member,) = picked([member for member in self.live() if member.is_away], who)
        note(f"{member} is back")
        self.bring_back(member)

    def bring_back(self, member: Member) -> None:
        member.is_away = False
        self.core.on_back(member.peer, self.now)
        unheard, member.unheard = member.unheard, []
        for message, frames in unheard:
            self.hear(member, message, frames)
        self.flush()

    @precondition(lambda self: len(self.live()) > 2)
    @rule(who=AT)
    def leaves(self, who: int) -> None:
        (member,) = picked(self.live(), who)
        note(f"{member} is gone")
        self.lose(member)

    def lose(self, member: Member) -> None:
        self.core.on_gone(member.peer, "gone", self.now)
        member.is_gone = True
        self.flush()

    @rule(seconds=st.sampled_from((0.006, 0.3, 3.0, 9.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.core.on_time(self.now)
        self.flush()

    # ----------------------------------------------------------------------- traffic

    def say(self, member: Member, message: Message, frames: Sequence[Any] = ()) -> None:
        """Have a member say something, in its frames; one who is away cannot be heard."""
        if member.is_away:
            return
        heard, payload = through(f"{member.role}>scheduler", message, frames)
        self.core.on_message(member.peer, heard, payload, self.now)
        self.flush()

    def flush(self) -> None:
        self.now += 1e-4
        for peer, message, frames in self.core.flush(self.now):
            member = self.members[peer]
            if member.is_gone:
                continue
            if member.is_away:
                member.unheard.append((message, frames))
            else:
                self.hear(member, message, frames)
        for peer, _ in self.core.take_fenced():
            self.members[peer].is_gone = True
        check(self.state)
        self.core.calls.check()

    def hear(self, member: Member, message: Message, frames: Sequence[Any]) -> None:
        message, _ = through(f"scheduler>{member.role}", message, frames)
        if isinstance(message, Assign):
            self.take(member, message)
        elif isinstance(message, Drop):
            for task in message.tasks:
                member.given.pop(task, None)
        elif isinstance(message, Free):
            member.holds.difference_update(message.tasks)
        elif isinstance(message, Recall):
            member.asked += message.tasks
        elif isinstance(message, Copy):
            member.copying += [task for task, _, _ in message.places]
        elif isinstance(message, Unreachable) and member.role == "client":
            member.owed.update(message.tasks)

    def take(self, node: Member, message: Assign) -> None:
        edge = 0
        for k, task in enumerate(message.tasks):
            inputs = message.inputs[edge : edge + message.arities[k]]
            edge += message.arities[k]
            assert (task, message.attempts[k]) not in node.old, "an attempt is made twice"
            node.given[task] = Given(message.attempts[k], inputs, bool(message.flags[k] & 1))
            node.old.append((task, message.attempts[k]))

    # ----------------------------------------------------------------------- clients

    @precondition(lambda self: self.idle_clients())
    @rule(
        target=tasks,
        who=AT,
        edges=st.lists(st.lists(st.integers(0, 4), max_size=2), min_size=1, max_size=4),
        known=st.lists(tasks, max_size=2, unique=True),
        wanted=st.sets(st.integers(0, 4), min_size=1),
        whole=st.booleans(),
        limit=st.sampled_from((1 << 20, 1 << 20, 200)),
        options=st.sampled_from(OPTIONS),
        key=st.sampled_from(("", "", "k0", "k1")),
    )
    def submits(
        self,
        who: int,
        edges: list[list[int]],
        known: list[int],
        wanted: set[int],
        whole: bool,
        limit: int,
        options: Options,
        key: str,
    ) -> Any:
        """Tasks in one layer, each taking earlier ones (or what is known); perhaps all by one."""
        inputs: list[int] = []
        indptr = [0]
        for number, sources in enumerate(edges):
            for source in sources:
                if source < number:
                    inputs.append(source)
                elif known:
                    inputs.append(~(source % len(known)))
            indptr.append(len(inputs))
        graph = Graph()
        for task in known:
            graph.add_import(Import(task))
        layer = GraphLayer(
            "s", (len(edges),), len(edges), 0, function("s"), -1, indptr, inputs, options=options
        )
        if key and not inputs:
            layer.keys, layer.shared = [f"{key}-{k}" for k in range(len(edges))], True
        graph.add_layer(layer)
        if whole:
            graph.add_layer(GraphLayer("all", (), 1, 0, function("s"), whole=[0]))
        graph.want(sorted({k % graph.count for k in wanted}))
        return self.submit(picked(self.idle_clients(), who)[0], graph, known, limit)

    @precondition(lambda self: self.idle_clients())
    @rule(target=tasks, who=AT, count=COUNT)
    def scatters(self, who: int, count: int) -> Any:
        """Data tasks: the client puts the data when it comes to it."""
        (client,) = picked(self.idle_clients(), who)
        graph = Graph()
        graph.add_layer(GraphLayer("data", (count,), count, CALL_VALUE))
        graph.want(list(range(count)))
        client.owed.update(range(client.next, client.next + count))
        return self.submit(client, graph, [], 1 << 20)

    def submit(self, client: Member, graph: Graph, known: list[int], limit: int) -> Any:
        first = client.next
        client.next += graph.count
        for start, count in graph.outputs:
            client.wanted.update(range(first + start, first + start + count))
        client.unsent = list(slices(graph, first, known, limit))
        note(f"{client} submits {first} to {client.next} in {len(client.unsent)} slices")
        self.send(client)
        return multiple(*range(first, first + graph.count))

    @precondition(lambda self: any(client.unsent for client in self.here("client")))
    @rule(who=AT)
    def sends_more(self, who: int) -> None:
        self.send(picked([client for client in self.here("client") if client.unsent], who)[0])

    def send(self, client: Member) -> None:
        self.say(client, *client.unsent.pop(0))

    @precondition(lambda self: any(client.wanted for client in self.idle_clients()))
    @rule(who=AT, at=AT, count=COUNT)
    def releases(self, who: int, at: int, count: int) -> None:
        (client,) = picked([client for client in self.idle_clients() if client.wanted], who)
        chosen = picked(sorted(client.wanted), at, count)
        client.wanted.difference_update(chosen)
        self.say(client, Release(chosen))

    @precondition(lambda self: self.idle_clients())
    @rule(who=AT, task=tasks, what=st.sampled_from(("want", "retry", "cancel", "force")))
    def asks_for(self, who: int, task: int, what: str) -> None:
        (client,) = picked(self.idle_clients(), who)
        if what in ("want", "retry"):
            client.wanted.add(task)
            self.say(client, Want([task]) if what == "want" else Retry([task]))
        else:
            self.say(client, Cancel([task], "because", what == "force"))

    @precondition(lambda self: any(client.owed for client in self.idle_clients()))
    @rule(who=AT, node=AT)
    def puts(self, who: int, node: int) -> None:
        """A client puts what it owes into a node, which may be gone when that is heard."""
        (client,) = picked([client for client in self.idle_clients() if client.owed], who)
        nodes = [member for member in self.members if member.role == "node"]
        self.put(client, picked(nodes, node)[0])

    def put(self, client: Member, node: Member) -> None:
        owed = sorted(client.owed)
        client.owed.clear()
        node.holds.update(owed)
        self.say(client, Scattered(owed, [node.index] * len(owed), [9] * len(owed)))

    @precondition(lambda self: self.here("client"))
    @rule(who=AT, task=tasks, question=st.sampled_from(("replicate", "rebalance")))
    def asks(self, who: int, task: int, question: str) -> None:
        text = "2" if question == "replicate" else ""
        self.say(picked(self.here("client"), who)[0], Ask(1, question, [task], text))

    @precondition(lambda self: self.here())
    @rule(who=AT, task=tasks, node=AT)
    def does_not_find(self, who: int, task: int, node: int) -> None:
        self.say(picked(self.here(), who)[0], Unreachable([task], node))

    # ------------------------------------------------------------------------- nodes

    def working(self) -> list[Member]:
        return [node for node in self.here("node") if node.ready()]

    @precondition(lambda self: self.working())
    @rule(who=AT, at=AT, count=COUNT, length=st.sampled_from((4, 0, -1, -3)))
    def finishes(self, who: int, at: int, count: int, length: int) -> None:
        (node,) = picked(self.working(), who)
        chosen = picked(node.ready(), at, count)
        self.finish(node, chosen, length)

    @precondition(lambda self: self.working())
    @rule(who=AT)
    def finishes_all(self, who: int) -> None:
        (node,) = picked(self.working(), who)
        while node.ready():
            self.finish(node, node.ready(), -1)

    def finish(self, node: Member, chosen: list[int], length: int) -> None:
        note(f"{node} finishes {chosen}")
        given = [node.given.pop(task) for task in chosen]
        lengths = [-2 if one.is_passing else length for one in given]
        kept = [task for task, one in zip(chosen, lengths, strict=True) if one != -2]
        node.holds.update(kept)
        self.report(node, chosen, [one.attempt for one in given], lengths)

    def report(
        self, node: Member, tasks: list[int], attempts: list[int], lengths: list[int]
    ) -> None:
        sizes = [length if length >= 0 else 1000 for length in lengths]
        payload = b"".join(b"x" * length for length in lengths if length > 0)
        durations = [(function("s").digest, len(tasks), 1000)]
        message = Finished(tasks, attempts, lengths, sizes, [0] * len(tasks), durations)
        self.say(node, message, [payload] if payload else [])

    @precondition(lambda self: self.working())
    @rule(who=AT, at=AT, kind=st.sampled_from(("task", "killed", "input", "timeout", "once")))
    def fails(self, who: int, at: int, kind: str) -> None:
        (node,) = picked(self.working(), who)
        (task,) = picked(node.ready(), at)
        note(f"{node} fails {task}")
        self.fail(node, task, node.given.pop(task).attempt, kind)

    def fail(self, node: Member, task: int, attempt: int, kind: str) -> None:
        error = ErrorInfo(kind, "ValueError", "no", "", task, 0, node.name, "w", (0, 0, 3))
        self.say(node, Failed([task], [attempt], [0], [error]), [b"exc"])

    @precondition(lambda self: any(node.old for node in self.members))
    @rule(
        who=AT, at=AT, what=st.sampled_from(("finished", "failed", "recalled", "blocked", "lost"))
    )
    def says_late(self, who: int, at: int, what: str) -> None:
        """What was taken from it, or what it had before it was fenced."""
        (node,) = picked([node for node in self.members if node.old and not node.is_away], who) or (
            None,
        )
        old = [(t, a) for t, a in node.old if t not in node.given] if node is not None else []
        if node is None or not old:
            return
        task, attempt = picked(old, at)[0]
        note(f"{node} says late that {task} (attempt {attempt}) is {what}")
        if what == "finished":
            node.holds.add(task)
            self.report(node, [task], [attempt], [-1])
        elif what == "failed":
            self.fail(node, task, attempt, "task")
        elif what == "recalled":
            self.say(node, Recalled([task], [attempt]))
        elif what == "blocked":
            self.say(node, Blocked([task], True))
        else:
            node.holds.discard(task)
            self.say(node, Lost([task]))

    @precondition(lambda self: any(node.given for node in self.here("node")))
    @rule(who=AT, at=AT, what=st.sampled_from(("recalled", "blocked", "unblocked")))
    def cannot_go_on(self, who: int, at: int, what: str) -> None:
        """A worker ended, or it was asked for; or a task waits for others."""
        (node,) = picked([node for node in self.here("node") if node.given], who)
        (task,) = picked(sorted(node.given), at)
        note(f"{node} says that {task} is {what}")
        if what == "recalled":
            self.say(node, Recalled([task], [node.given.pop(task).attempt]))
        else:
            self.say(node, Blocked([task], what == "blocked"))

    @precondition(lambda self: any(node.holds for node in self.here("node")))
    @rule(who=AT, at=AT)
    def loses(self, who: int, at: int) -> None:
        (node,) = picked([node for node in self.here("node") if node.holds], who)
        lost = picked(sorted(node.holds), at)
        note(f"{node} loses {lost}")
        node.holds.difference_update(lost)
        self.say(node, Lost(lost))

    @precondition(lambda self: any(node.copying for node in self.here("node")))
    @rule(who=AT, is_there=st.booleans())
    def copies(self, who: int, is_there: bool) -> None:
        (node,) = picked([node for node in self.here("node") if node.copying], who)
        tasks, node.copying = node.copying, []
        if is_there:
            node.holds.update(tasks)
        self.say(node, Copied(tasks, []) if is_there else Copied([], tasks))

    @precondition(lambda self: self.here("node"))
    @rule(who=AT, slots=st.sampled_from((2, 1, 3, 0)))
    def changes(self, who: int, slots: int) -> None:
        (node,) = picked(self.here("node"), who)
        self.say(node, Heartbeat(0.1, 1 << 30, [1 << 20]))
        name = f"{node.name.partition('#')[0]}-0"
        self.say(node, Workers([WorkerInfo(0, name, slots, 0, 0)] if slots else []))

    # ----------------------------------------------------------------------- the end

    def teardown(self) -> None:
        for member in self.live():
            if member.is_away:
                self.bring_back(member)
        for client in self.live("client"):
            while client.unsent:
                self.send(client)
        for node in self.live("node"):
            self.lose(node)
        self.rescue = self.join_node("rescue", WORKERS, 4, 2.0)
        self.settle()
        self.check_settled()
        for client in self.live("client"):
            self.say(client, Release(sorted(client.wanted)))
        self.settle()
        check_empty(self.state)

    def settle(self) -> None:
        """Have an honest node do everything, until there is nothing to do."""
        rescue = self.rescue
        for _ in range(1000):
            self.time_passes(1.0)
            is_busy = bool(rescue.given or rescue.copying) or not self.core.is_idle
            is_busy = is_busy or bool(self.state.queues.delayed)
            for client in self.live("client"):
                if client.owed:
                    is_busy = True
                    self.put(client, rescue)
            while rescue.ready():
                self.finish(rescue, rescue.ready(), -1)
            if rescue.copying:
                self.copies(0, True)
            if not is_busy:
                return
        raise AssertionError(f"it does not come to rest: {self.state.states()}")

    def check_settled(self) -> None:
        for task, page, row in self.state.rows():
            state = page.state[row]
            if state in UNFINISHED:
                story = self.state.journal.story(task)
                raise AssertionError(f"task {task} stays {State(state).name}: {story}")


class Import:
    """An import of a graph; the same object is the same import."""

    def __init__(self, task: int) -> None:
        self.task = task
