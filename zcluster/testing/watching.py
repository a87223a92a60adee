"""Looking on while the cores work: what states tasks take, and what no single core can check.

A `Watcher` puts itself between the cores of a `World` and those who drive them: it counts, in a
`Coverage`, the arrows that are taken and the states in which messages find their tasks, and it
checks what the cores' own invariants cannot see, since it is about what was said before:

- a member that was fenced changes nothing any more (I5);
- nor does a result of an attempt that a newer one has replaced, at the same node (I5);
- nobody asks for a result that was passing, once it is dropped; as long as nothing was lost: a task
  that has to run again, elsewhere, may ask for its inputs before they are known to be lost too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import zcluster.core.client.core as client_module
import zcluster.core.node.core as node_module
from zcluster.core.client.core import ClientCore
from zcluster.core.client.states import State as ClientState
from zcluster.core.node.core import NodeCore
from zcluster.core.node.records import Assignment
from zcluster.core.node.states import TRANSITIONS as NODE_ARROWS
from zcluster.core.node.states import State as NodeState
from zcluster.core.scheduler.core import SchedulerCore
from zcluster.core.scheduler.pages import PASSING, Page
from zcluster.core.scheduler.states import TRANSITIONS as SCHEDULER_ARROWS
from zcluster.core.scheduler.states import State
from zcluster.errors import InvariantError
from zcluster.protocol.messages import (
    Copied,
    Copy,
    Failed,
    Finished,
    Heartbeat,
    Message,
    Resolved,
    Unreachable,
)
from zcluster.testing.coverage import UNKNOWN, Arrow, Coverage

__all__ = ["Watcher"]

_ASSIGNED = int(State.ASSIGNED)
_NAMES = {int(state): state.name for state in State}

#: Which event of the table a step is, where the states alone do not tell: by what caused it.
_SCHEDULER_CAUSES = {
    ("WAITING", "FINISHED"): {"Scattered": "data arrived", "": "an earlier attempt finished"},
    ("FINISHED", "RELEASED"): {
        "Lost": "result lost, not needed",
        "Unreachable": "result lost, not needed",
        "gone": "result lost, not needed",
        "": "nobody needs the result",
    },
    ("ASSIGNED", "FAILED"): {"Failed of it": "raised, no retry left", "": "an input failed"},
}
_NODE_CAUSES = {
    ("SENT", "ABSENT"): {
        "Done": "finished",
        "Failed": "failed",
        "Skipped": "skipped: an input held there is gone",
        "end": "its worker died",
        "Drop": "dropped",
        "": "finished",
    },
}


def _events(table: Any) -> dict[tuple[str, str], list[str]]:
    """Return the events that lead from one state to another."""
    found: dict[tuple[str, str], list[str]] = {}
    for (before, event), after in table.items():
        found.setdefault((before.name, after.name), []).append(event)
    return found


_SCHEDULER_EVENTS, _NODE_EVENTS = _events(SCHEDULER_ARROWS), _events(NODE_ARROWS)


#: Without a call of `super`, as there are many.
_set = bytearray.__setitem__


class _Column(bytearray):
    """A column of states that tells of every change."""

    page: Page
    tell: Callable[[int, int, int], None]

    def __setitem__(self, index: Any, value: Any) -> None:
        if type(index) is int:
            before = self[index]
            if before != value:
                self.tell(self.page.start + index, before, value)
                _set(self, index, value)
            return
        for at, (before, after) in enumerate(zip(self[index], value, strict=True)):
            if before != after:
                self.tell(self.page.start + index.start + at, before, after)
        _set(self, index, value)

    def extend(self, states: Iterable[Any]) -> None:
        start = self.page.start + len(self)
        for at, state in enumerate(states):
            self.tell(start + at, 0, state)
        super().extend(states)


class _Assignment(Assignment):
    """An assignment that tells of every change of its state."""

    __slots__ = ("_state",)
    watcher: ClassVar[Watcher]

    @property
    def state(self) -> NodeState:
        return self._state

    @state.setter
    def state(self, value: NodeState) -> None:
        before = getattr(self, "_state", None)
        self._state = value
        if before is not None and before != value:
            self.watcher.node_step(self, before, value)


class Watcher:
    """Counts what the cores do, and checks what only somebody beside them can.

    Parameters
    ----------
    coverage : Coverage
        Where it is counted.

    Examples
    --------
    >>> from zcluster.core.scheduler.records import SchedulerSettings
    >>> watcher = Watcher(Coverage())
    >>> core = SchedulerCore("inproc://s", "0", SchedulerSettings())
    >>> watcher.watch(core)
    """

    def __init__(self, coverage: Coverage) -> None:
        self.coverage = coverage
        # Plain tuples are equal to the named ones, and much is counted.
        self._arrows: Counter[tuple[str, ...]] = cast(Any, coverage.arrows)
        self._pairs: Counter[tuple[str, ...]] = cast(Any, coverage.pairs)
        #: Called with a line for each message that a core hears.
        self.trace: Callable[[str], object] | None = None
        #: Says whether anything was lost so far.
        self.had_losses: Callable[[], bool] = lambda: False
        #: The peers that were fenced, and why.
        self.fenced: list[tuple[int, str]] = []
        self._cause = ""
        self._named: frozenset[int] = frozenset()
        self._steps: list[tuple[int, int, int]] = []
        self._find: Callable[[int], tuple[Page, int] | None] = lambda task: None
        #: Arrows by the states before and after, and the cause.
        self._known: dict[tuple[int, int, str], tuple[str, ...]] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look on at the cores that are made meanwhile, and given to `watch`."""
        advance, assignment = client_module.advance, node_module.Assignment  # type: ignore[attr-defined]
        _Assignment.watcher = self

        def noted(state: ClientState, event: str, task: int) -> ClientState:
            after = advance(state, event, task)
            self._count("client", state.name, event, after.name)
            return after

        client_module.advance = noted  # type: ignore[attr-defined]
        node_module.Assignment = _Assignment  # type: ignore[attr-defined]
        try:
            yield
        finally:
            client_module.advance = advance  # type: ignore[attr-defined]
            node_module.Assignment = assignment  # type: ignore[attr-defined]

    def watch(self, core: Any) -> None:
        """Look on at a core."""
        if isinstance(core, SchedulerCore):
            self._watch_scheduler(core)
        elif isinstance(core, NodeCore):
            self._watch_node(core)
        else:
            assert isinstance(core, ClientCore)
            self._watch_client(core)

    def _count(self, core: str, before: str, event: str, after: str) -> None:
        self._arrows[core, before, event, after] += 1

    def _saw(self, core: str, kind: str, state: str) -> None:
        self._pairs[core, kind, state] += 1

    # --------------------------------------------------------------- scheduler

    def _watch_scheduler(self, core: SchedulerCore) -> None:
        state, original = core.state, core.on_message
        self._find = state.find
        make_page = state.page_for

        def page_for(task: int) -> Page:
            page = make_page(task)
            if type(page.state) is bytearray:
                column = _Column()
                column.page, column.tell = page, self._scheduler_step
                page.state = column
            return page

        def on_message(peer: int, message: Message, frames: Any, now: float) -> None:
            if self.trace is not None:
                self.trace(f"{now:11.6f}  scheduler hears of peer {peer}: {message}")
            if type(message) is Heartbeat:
                self._begin("Heartbeat")
                original(peer, message, frames, now)
                if self._steps:
                    raise InvariantError(f"a heartbeat changed task {self._steps[0][0]}")
                return
            is_node = peer in [node.peer for node in state.nodes.values()]
            is_known = is_node or peer in [client.peer for client in state.clients.values()]
            self._see_at_scheduler(core, message, is_node)
            stale: list[int] = []
            if isinstance(message, Finished | Failed):
                stale = self._stale(core, peer, message)
            elsewhere: dict[int, set[int]] = {}
            if state.elsewhere and isinstance(message, Finished):
                some = [task for task in message.tasks if task in state.elsewhere]
                elsewhere = {task: set(state.elsewhere[task]) for task in some}
            self._begin(type(message).__name__, message)
            original(peer, message, frames, now)
            if elsewhere:
                self._check_told(core, peer, elsewhere)
            if not is_known and self._steps:
                raise InvariantError(
                    f"{type(message).__name__} of a member that is not here changed "
                    f"task {self._steps[0][0]}"
                )
            if stale and isinstance(message, Failed) and len(stale) == len(message.tasks):
                if self._steps:
                    raise InvariantError(
                        f"task {self._steps[0][0]} changed by the failure of an attempt that is "
                        "not the last"
                    )
                return
            for task in stale:
                if any(step[0] == task and step[2] == State.FINISHED for step in self._steps):
                    raise InvariantError(
                        f"task {task} is FINISHED by the report of an attempt that is not the last"
                    )

        state.page_for = page_for  # type: ignore[method-assign]
        core.on_message = on_message  # type: ignore[method-assign]
        for name, cause in (("on_gone", "gone"), ("on_time", "time"), ("on_away", "away")):
            setattr(core, name, self._caused(getattr(core, name), cause))
        core.on_hello = self._caused(core.on_hello, "gone")  # type: ignore[method-assign]
        core.flush = self._caused(core.flush, "flush")  # type: ignore[method-assign]
        take_fenced = core.take_fenced

        def noted_fenced() -> list[tuple[int, str]]:
            fenced = take_fenced()
            self.fenced += fenced
            return fenced

        core.take_fenced = noted_fenced  # type: ignore[method-assign]

    def _begin(self, cause: str, message: Message | None = None) -> None:
        self._cause = cause
        self._steps = []
        self._named = frozenset(message.tasks) if cause == "Failed" else frozenset()  # type: ignore[union-attr]

    def _caused(self, method: Callable[..., Any], cause: str) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            self._begin(cause)
            return method(*args)

        return wrapped

    def _scheduler_step(self, task: int, before: int, after: int) -> None:
        self._steps.append((task, before, after))
        if after == _ASSIGNED:
            self._check_needed(task)
        key = (before, after, "Failed of it" if task in self._named else self._cause)
        arrow = self._known.get(key)
        if arrow is not None:
            self._arrows[arrow] += 1
            return
        names = _NAMES[before], _NAMES[after]
        events = _SCHEDULER_EVENTS.get(names)
        if events is None:
            self.coverage.strange[Arrow("scheduler", names[0], self._cause, names[1])] += 1
            return
        event = events[0]
        if len(events) > 1:
            table = _SCHEDULER_CAUSES[names]
            event = table.get(key[2], table[""])
        self._known[key] = ("scheduler", names[0], event, names[1])
        self._arrows[self._known[key]] += 1

    def _check_told(self, core: SchedulerCore, peer: int, elsewhere: dict[int, set[int]]) -> None:
        """Nodes that have a task from the time they were away are told once others did it."""
        state = core.state
        for task, nodes in elsewhere.items():
            for index in nodes if task not in state.elsewhere else ():
                node = state.nodes.get(index)
                if node and node.peer != peer and task not in state.drops.get(index, ()):
                    raise InvariantError(
                        f"task {task} is done by another node, and {node.info.name}, which has it "
                        "from the time it was away, is not told"
                    )

    def _check_needed(self, task: int) -> None:
        found = self._find(task)
        if found is None or found[0].attempt[found[1]]:
            return  # what ran before may be made again for what has just ended
        if found[0].kin[found[1]] and not found[0].refs[found[1]]:
            raise InvariantError(
                f"task {task} is assigned, and none of its consumers needs it any more"
            )

    def _see_at_scheduler(self, core: SchedulerCore, message: Message, is_node: bool) -> None:
        tasks = getattr(message, "tasks", None)
        if not tasks:
            tasks = message.failed if isinstance(message, Copied) else ()
        kind = type(message).__name__
        if kind == "Unreachable":
            kind += " of a node" if is_node else " of a client"
        elif kind in ("Coordinate", "Ask", "Output"):
            return
        find = core.state.find
        for task in tasks:
            found = find(task)
            state = "FORGOTTEN" if found is None else _NAMES[found[0].state[found[1]]]
            self._saw("scheduler", kind, state)
            if is_node and isinstance(message, Unreachable) and found is not None:
                self._check_passing(core, task, *found)

    def _check_passing(self, core: SchedulerCore, task: int, page: Page, row: int) -> None:
        is_passing = page.flags[row] & PASSING and page.state[row] == State.FINISHED
        if is_passing and not self.had_losses():
            raise InvariantError(
                f"task {task} was passing at node {page.node[row]}, where it is dropped after its "
                "last consumer, and another node asked for it"
            )

    def _stale(self, core: SchedulerCore, peer: int, message: Finished | Failed) -> list[int]:
        """Return the tasks that are at this node in a newer attempt than the message's."""
        stale = []
        for task, attempt in zip(message.tasks, message.attempts, strict=True):
            found = core.state.find(task)
            if found is None or found[0].state[found[1]] != State.ASSIGNED:
                continue
            page, row = found
            node = core.state.nodes.get(page.node[row])
            is_here = node is not None and node.peer == peer
            if is_here and page.attempt[row] != attempt and message.tasks.count(task) == 1:
                stale.append(task)
        return stale

    # -------------------------------------------------------------------- node

    def _watch_node(self, core: NodeCore) -> None:
        on_message, on_worker, on_end = core.on_message, core.on_worker, core.on_worker_end

        def from_scheduler(message: Message, frames: Any, now: float) -> None:
            if self.trace is not None:
                self.trace(f"{now:11.6f}  node {core.name} hears: {message}")
            kind = type(message).__name__
            tasks = getattr(message, "tasks", ())
            if isinstance(message, Copy):
                tasks = [task for task, _, _ in message.places]
            self._see_at_node(core, kind, tasks)
            before = set(core.tasks) if kind == "Assign" else ()
            self._cause = kind
            on_message(message, frames, now)
            if kind == "Assign":
                for task in tasks:
                    assignment = core.tasks.get(task)
                    if assignment is not None and task not in before:
                        self._node_arrow("ABSENT", assignment.state.name)

        def from_worker(number: int, message: Message, frames: Any, now: float) -> Any:
            if self.trace is not None:
                self.trace(f"{now:11.6f}  node {core.name} hears of worker {number}: {message}")
            kind = self._cause = type(message).__name__
            if kind == "Reserve":
                self._see_at_node(core, kind, (message.task,))  # type: ignore[attr-defined]
            elif kind in ("Done", "Failed", "Skipped", "Recalled", "Blocked"):
                self._see_at_node(core, kind, message.tasks)  # type: ignore[attr-defined]
            return on_worker(number, message, frames, now)

        core.on_message = from_scheduler  # type: ignore[method-assign]
        core.on_worker = from_worker  # type: ignore[method-assign]
        core.on_worker_end = self._caused(on_end, "end")  # type: ignore[method-assign]
        for name in ("on_time", "flush"):
            setattr(core, name, self._caused(getattr(core, name), name))

    def _see_at_node(self, core: NodeCore, kind: str, tasks: Iterable[int]) -> None:
        if kind in ("Output", "Call", "Called"):
            return
        for task in tasks:
            assignment = core.tasks.get(task)
            self._saw("node", kind, "ABSENT" if assignment is None else assignment.state.name)

    def node_step(self, assignment: Assignment, before: NodeState, after: NodeState) -> None:
        """Take note of a change at a node; what has just come is counted when it is all here."""
        if self._cause != "Assign":
            self._node_arrow(before.name, after.name)

    def _node_arrow(self, before: str, after: str) -> None:
        events = _NODE_EVENTS.get((before, after))
        if events is None:
            self.coverage.strange[Arrow("node", before, self._cause, after)] += 1
            return
        table = _NODE_CAUSES.get((before, after), {})
        event = table.get(self._cause, table.get("", events[0])) if len(events) > 1 else events[0]
        self._count("node", before, event, after)

    # ------------------------------------------------------------------ client

    def _watch_client(self, core: ClientCore) -> None:
        original = core.on_message

        def on_message(message: Message, frames: Any) -> None:
            if self.trace is not None:
                self.trace(f"{'':11}  a client hears: {message}")
            kind = type(message).__name__
            if kind in ("Resolved", "Failed", "Cancelled", "Unreachable", "Stuck"):
                lengths = message.lengths if isinstance(message, Resolved) else ()
                for at, task in enumerate(message.tasks):  # type: ignore[attr-defined]
                    record = core.wanted.get(task)
                    word = "announced" if lengths and lengths[at] < 0 else kind
                    state = UNKNOWN if record is None else record.state.name
                    self._saw("client", word, state)
                    if word == "Resolved" and record is not None and not record.state:
                        self._count("client", "PENDING", "resolved", "HERE")
            original(message, frames)

        core.on_message = on_message  # type: ignore[method-assign]
