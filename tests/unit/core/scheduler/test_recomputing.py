"""What is lost is made again, and nothing that is still somewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zcluster.core.scheduler.pages import PAGE_SIZE
from zcluster.core.scheduler.recomputing import lose
from zcluster.core.scheduler.states import UNFINISHED
from zcluster.protocol.messages import Assign, Copied, Lost, Slot


@dataclass
class Plan:
    """A graph, what of it is wanted, and how its results come to be."""

    edges: list[list[int]]
    wanted: list[int]
    #: By task: whether its result is small, and stays with the scheduler's report.
    small: list[bool]
    #: How many tasks finish before the loss, and who is next, in turn.
    before: int
    choices: list[int]
    #: Results of which the other node gets a copy, by task.
    copied: list[bool]
    finished: list[int] = field(default_factory=list)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 12))
    edges = [
        sorted(draw(st.sets(st.integers(0, task - 1), max_size=3))) if task else []
        for task in range(count)
    ]
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    wanted = draw(st.sets(st.integers(0, count - 1), min_size=1))
    return Plan(
        edges,
        sorted(wanted),
        draw(flags),
        draw(st.integers(0, count)),
        draw(st.lists(st.integers(0, 100), min_size=count, max_size=count)),
        draw(flags),
    )


class Cluster:
    """A desk with two nodes that make what they are told, one task at a time."""

    def __init__(self, desk: Any, graph: Any, plan: Plan) -> None:
        self.plan = plan
        self.desk = desk(inline_bytes=0)
        self.client = self.desk.client()
        self.nodes = {name: self.desk.node(name, slots=2) for name in "ab"}
        graph.outputs = [(task, 1) for task in plan.wanted]
        self.first = self.desk.submit(self.client, graph)
        self.passing: set[int] = set()
        self.runs: dict[int, int] = {}
        #: Where results are, by task, and those that the client has.
        self.home: dict[int, str] = {}
        self.copies: set[int] = set()
        self.delivered: set[int] = set()

    def needed(self, task: int) -> bool:
        """Whether a result is wanted, or a consumer of it is not done."""
        return task in self.plan.wanted or any(
            task in sources and consumer not in self.home
            for consumer, sources in enumerate(self.plan.edges)
        )

    def run(self, steps: int) -> None:
        """Have so many tasks finish, if there are so many."""
        d = self.desk
        for step in range(steps):
            d.flush()
            for _, message, _ in d.messages:
                if isinstance(message, Assign):
                    flags = zip(message.tasks, message.flags, strict=True)
                    self.passing |= {task for task, flag in flags if flag & 1}
                    self.passing.difference_update(
                        task
                        for task, flag in zip(message.tasks, message.flags, strict=True)
                        if not flag & 1
                    )
            d.messages.clear()
            ready = [
                task
                for task, sources in enumerate(self.plan.edges)
                if d.word(self.first + task) == "assigned"
                and all(source in self.home for source in sources)
            ]
            if not ready:
                return
            choice = self.plan.choices[step % len(self.plan.choices)]
            self.finish(ready[choice % len(ready)])

    def finish(self, task: int) -> None:
        """One task ends where it was assigned."""
        d, number = self.desk, self.first + task
        page, row = d.row(number)
        name = next(n for n, node in self.nodes.items() if node.index == page.node[row])
        small = self.plan.small[task]
        consumers = [c for c, sources in enumerate(self.plan.edges) if task in sources]
        if number in self.passing:
            d.finish(self.nodes[name], [number], length=-2)
        elif small:
            d.finish(self.nodes[name], [number])
            if task in self.plan.wanted and all(c in self.home for c in consumers):
                self.delivered.add(task)
        else:
            d.finish(self.nodes[name], [number], length=-1)
        self.home[task] = name
        self.runs[task] = self.runs.get(task, 0) + 1
        other = self.nodes.get("b" if name == "a" else "a")
        if self.plan.copied[task] and other is not None and self.needed(task):
            kept = number not in self.passing
            d.tell(other, Copied([number], []))
            if kept:
                self.copies.add(task)

    def least(self) -> set[int]:
        """Return what must be made again when node a is gone: by brute force."""
        gone = {t for t, home in self.home.items() if home == "a" and t not in self.copies}
        at_hand = {task for task in self.home if task not in gone and self.needed(task)}
        open_tasks = {task for task in range(len(self.plan.edges)) if task not in self.home}
        again: set[int] = set()
        stack = [
            task
            for task in gone
            if any(task in self.plan.edges[c] for c in open_tasks)
            or (task in self.plan.wanted and task not in self.delivered)
        ]
        while stack:
            task = stack.pop()
            if task not in again:
                again.add(task)
                stack.extend(s for s in self.plan.edges[task] if s not in at_hand)
        return {task for task in again if task in self.home}

    def unfinished(self) -> set[int]:
        page_words = {t: self.desk.word(self.first + t) for t in range(len(self.plan.edges))}
        names = {state.name.lower() for state in UNFINISHED}
        return {task for task, word in page_words.items() if word in names}


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # they are a class, and a function
)
@given(plan=plans())
def test_the_smallest_set_is_made_again(desk: Any, graph_of: Any, plan: Plan) -> None:
    c = Cluster(desk, graph_of(plan.edges), plan)
    c.run(plan.before)
    before, least = c.unfinished(), c.least()
    c.desk.core.on_gone(c.nodes.pop("a").peer, "", c.desk.now)
    assert c.unfinished() - before == least
    for task in least:
        del c.home[task]
    c.copies.clear()
    runs = dict(c.runs)
    c.run(10 * len(plan.edges))
    assert not c.unfinished()
    again = {task for task, count in c.runs.items() if count > runs.get(task, 0)}
    assert again == least | before


def test_consumers_far_away_are_found(desk: Any, graph_of: Any) -> None:
    """Before a task (of an older client) and many pages behind it."""
    d = desk(check=False)
    old, new = d.client("old"), d.client("new")
    node = d.node("n", slots=1)
    graph = graph_of([()])
    source = d.submit(new, graph)
    d.flush()
    d.finish(node, [source], length=-1)
    d.submit(new, graph_of([()] * (3 * PAGE_SIZE)))
    far = d.submit(new, graph_of([(~0,)]), [source])
    other = d.submit(old, graph_of([(~0,)]), [source])
    assert d.words([far, other]) == ["ready", "ready"]
    d.tell(node, Lost([source]))
    assert d.words([source, far, other]) == ["ready", "waiting", "waiting"]


def test_nothing_is_made_again_that_nobody_needs(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node("n", slots=2)
    graph = graph_of([(), ()])
    graph.outputs = [(1, 1)]
    first = d.submit(client, graph)
    d.flush()
    d.finish(node, [first + 1], b"small")
    d.flush()
    lose(d.state, {first + 1})
    assert d.word(first + 1) == "released"  # its client has it


def test_what_a_layer_takes_all_of_is_made_again_as_far_as_it_is_lost(
    desk: Any, graph_of: Any, add_layer: Any
) -> None:
    d = desk()
    client = d.client()
    a, b = d.node("a", slots=2), d.node("b", slots=2)
    graph = graph_of([()] * 4)
    add_layer(graph, "all", [()], whole=[0], whole_slots=[Slot()])
    graph.outputs = [(4, 1)]
    first = d.submit(client, graph)
    given = d.assigned()
    for name, node in (("a", a), ("b", b)):
        d.finish(node, given[name], length=-1)
    d.core.on_gone(a.peer, "", d.now)
    lost = {task for task in range(first, first + 4) if d.word(task) != "finished"}
    assert lost == set(given["a"])
    assert d.word(first + 4) == "waiting"
    d.flush()
    d.finish(b, sorted(lost), length=-1)
    assert d.word(first + 4) == "ready"
