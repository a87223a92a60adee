"""All the scheduler knows, and the few operations everything else is made of."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Any

from zcluster.core.scheduler.coordination_records import Things
from zcluster.core.scheduler.pages import PAGE_BITS, PAGE_SIZE, Page
from zcluster.core.scheduler.queues import ReadyQueues
from zcluster.core.scheduler.records import (
    ClientRecord,
    Effect,
    Failure,
    FunctionRecord,
    Journal,
    LayerRecord,
    NodeRecord,
    Profile,
    SchedulerSettings,
    StuckProfile,
)
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Copy, Message
from zcluster.types import Frames

__all__ = ["SchedulerState"]

#: Callables without a layer that are kept, in case they come again.
_SPARE_FUNCTIONS = 256


class SchedulerState:
    """The scheduler's tables.

    Attributes
    ----------
    pages : dict of int to Page
        By ``task >> PAGE_BITS``.
    keys : dict of str to int
        Keys that clients share; each names a row that is not forgotten.
    failures : dict of int to Failure
        All and only tasks in state FAILED.
    wants : dict of int to set of int
        Clients other than the one that numbered a task that want it, and below zero the
        values clients share that refer to it.
    replicas : dict of int to set of int
        Nodes that hold a result besides the row's ``node``.
    inline : OrderedDict of int to bytes
        Small results kept for consumers elsewhere, oldest first.
    kills : dict of int to int
        Workers an unfinished task has taken down.
    tries : dict of int to int
        Attempts of an unfinished task that raised.
    bound : dict of int to (int, int, resources)
        The node, the worker and its resources that an assigned task was given.
    durations : dict of bytes to float
        Seconds a callable takes, learned.
    out : list of Effect
        What is to be said before the next assignments.
    dying : deque of int
        Rows without consumers, to be forgotten a few at a time.
    fenced : list of (int, str)
        Peers whose sessions must end, and why.
    elsewhere : dict of int to set of int
        Nodes that still have a task that was given to others, because they could
        not be told; they are told once it is done.
    loose : set of int
        Unfinished tasks whose list of heirs names rows that wait no more.
    unneeded : list of int
        Unfinished tasks whose last need went, to be let go after the event.
    things : Things
        Locks, queues and all else that clients share by name.
    """

    def __init__(self, settings: SchedulerSettings, address: str) -> None:
        self.settings = settings
        self.address = address
        self.pages: dict[int, Page] = {}
        self.clients: dict[int, ClientRecord] = {}
        self.nodes: dict[int, NodeRecord] = {}
        self.layers: dict[int, LayerRecord] = {}
        self.functions: dict[bytes, FunctionRecord] = {}
        self.spare_functions: OrderedDict[bytes, None] = OrderedDict()
        self.keys: dict[str, int] = {}
        self.failures: dict[int, Failure] = {}
        self.wants: dict[int, set[int]] = {}
        self.replicas: dict[int, set[int]] = {}
        self.inline: OrderedDict[int, bytes] = OrderedDict()
        self.inline_bytes = 0
        self.kills: dict[int, int] = {}
        #: How the workers ended that an unfinished task took down, the last few.
        self.ends: dict[int, list[str]] = {}
        self.tries: dict[int, int] = {}
        self.bound: dict[int, tuple[int, int, tuple[tuple[str, float], ...]]] = {}
        self.durations: dict[bytes, float] = {}
        self.queues = ReadyQueues()
        #: Profiles whose tasks nobody can run; None: there is no worker at all.
        self.stuck: dict[Profile | None, StuckProfile] = {}
        self.out: list[Effect] = []
        self.frees: dict[int, list[int]] = {}
        #: Bytes of results in ``frees``, and since when the oldest is there.
        self.freed_bytes = 0
        self.freed_since: float | None = None
        self.drops: dict[int, list[int]] = {}
        #: Those of the tasks in ``drops`` that are to be stopped where they run.
        self.forced: set[int] = set()
        self.forgotten_layers: dict[int, list[int]] = {}
        self.forgotten_functions: dict[int, list[bytes]] = {}
        self.dying: deque[int] = deque()
        self.elsewhere: dict[int, set[int]] = {}
        self.loose: set[int] = set()
        self.unneeded: list[int] = []
        self.things = Things()
        self.fenced: list[tuple[int, str]] = []
        self.journal = Journal(settings.journal)
        self.generation = 0
        self.next_layer = 1
        self.next_client = 1
        self.next_node = 0
        self.events = 0
        self.finished_tasks = 0
        #: Bytes that tasks have written into nodes' stores: one copy each.
        self.stored_bytes = 0
        self.refused_messages = 0
        #: Results on their way to another node, which they leave then: (task, to) -> from.
        self.moves: dict[tuple[int, int], int] = {}
        #: Copies on order, (task, node): answered once, or the node is gone.
        self.ordered: set[tuple[int, int]] = set()
        #: Nodes that take no more work and are to leave.
        self.retiring: set[int] = set()
        #: What the driver says of its process, for those who ask.
        self.about: dict[str, Any] = {}
        self.now = 0.0

    # ------------------------------------------------------------------------ rows

    def find(self, task: int) -> tuple[Page, int] | None:
        """Return the page and row of a task, or None if it is forgotten."""
        page = self.pages.get(task >> PAGE_BITS)
        if page is None:
            return None
        row = task - page.start
        if row < 0 or row >= len(page.state) or not page.state[row]:
            return None
        return page, row

    def row_of(self, task: int) -> tuple[Page, int]:
        """Return the page and row of a task that must have one."""
        found = self.find(task)
        if found is None:
            raise AssertionError(f"task {task} is listed as an input but has no row")
        return found

    def page_for(self, task: int) -> Page:
        """Return the page to which a new row for ``task`` is appended."""
        number = task >> PAGE_BITS
        page = self.pages.get(number)
        if page is None:
            page = self.pages[number] = Page(task)
        return page

    @staticmethod
    def page_end(task: int) -> int:
        """Return the first task past the page of a task."""
        return ((task >> PAGE_BITS) << PAGE_BITS) + PAGE_SIZE

    def rows(self) -> Iterator[tuple[int, Page, int]]:
        """Yield (task, page, row) of all rows that are not forgotten."""
        for page in list(self.pages.values()):
            for row, state in enumerate(page.state):
                if state:
                    yield page.start + row, page, row

    def key(self, task: int) -> str:
        """Return a task's key as text, for messages to people."""
        found = self.find(task)
        if found is None:
            return f"task {task}"
        return str(found[0].layer[found[1]].key(task))

    # --------------------------------------------------------------------- clients

    def client_of(self, task: int) -> ClientRecord | None:
        """Return the client that numbered a task, if it is still here."""
        return self.clients.get(task >> 40)

    def wanters(self, task: int, page: Page, row: int) -> list[ClientRecord]:
        """Return the clients that want a task."""
        found: list[ClientRecord] = []
        if page.flags[row] & 1:
            owner = self.clients.get(task >> 40)
            if owner is not None:
                found.append(owner)
        for index in self.wants.get(task, ()):
            client = self.clients.get(index)
            if client is not None:
                found.append(client)
        return found

    # --------------------------------------------------------------------- effects

    def say(self, peer: int, message: Message, frames: Frames = ()) -> None:
        """Say something to a peer at the next flush, before assignments."""
        self.out.append((peer, message, frames))

    def say_copy(self, node: int, places: list[tuple[int, int, list[int]]]) -> None:
        """Have a node keep copies of results: also of what it was about to let go of."""
        for task, _, _ in places:
            self.unfree(task, node)
            self.ordered.add((task, node))
        self.say(self.nodes[node].peer, Copy(places))

    def free(self, task: int, nodes: Iterable[int]) -> None:
        """Have nodes let go of a result."""
        for node in nodes:
            self.frees.setdefault(node, []).append(task)

    def free_all(self, tasks: list[int], node: int) -> None:
        """Have a node let go of results."""
        if tasks:
            self.frees.setdefault(node, []).extend(tasks)

    def unfree(self, task: int, node: int) -> None:
        """Take back that a node should let go of a result, if it was not told yet."""
        pending = self.frees.get(node)
        if pending is not None and task in pending:
            self.frees[node] = [other for other in pending if other != task]

    def drop(self, task: int, node: int) -> None:
        """Have a node forget an assigned task."""
        self.drops.setdefault(node, []).append(task)

    def undrop(self, task: int, node: int) -> None:
        """Take back that a node should forget an assigned task, if it was not told yet."""
        pending = self.drops.get(node)
        if pending is not None and task in pending:
            self.drops[node] = [other for other in pending if other != task]

    # --------------------------------------------------------------------- results

    def holders(self, task: int, page: Page, row: int) -> list[int]:
        """Return the nodes that hold a finished task's result."""
        node = page.node[row]
        found = [node] if node in self.nodes else []
        found.extend(self.replicas.get(task, ()))
        return found

    def keep_inline(self, task: int, blob: bytes) -> None:
        """Keep a small result for consumers on other nodes, within bounds."""
        if task in self.inline:
            return
        self.inline[task] = blob
        self.inline_bytes += len(blob)
        while self.inline_bytes > self.settings.inline_bytes:
            _, oldest = self.inline.popitem(last=False)
            self.inline_bytes -= len(oldest)

    def forget_inline(self, task: int) -> None:
        """Drop the kept bytes of a small result, if any."""
        blob = self.inline.pop(task, None)
        if blob is not None:
            self.inline_bytes -= len(blob)

    # ----------------------------------------------------------------- time learned

    def cost(self, function: bytes) -> float:
        """Return the seconds a task of this callable is expected to hold a slot."""
        learned = self.durations.get(function)
        if learned is None:
            return self.settings.window
        return max(learned, self.settings.least_cost)

    def learn(self, function: bytes, runs: int, seconds: float) -> None:
        """Take note of how long runs of a callable took together."""
        if runs <= 0:
            return
        mean = seconds / runs
        old = self.durations.get(function)
        if old is None:
            self.durations[function] = mean
        else:
            # The more runs a report covers, the more it counts.
            weight = min(0.9, 0.2 + runs / 100)
            self.durations[function] = old + (mean - old) * weight

    # -------------------------------------------------------------------- callables

    def use_function(self, digest: bytes) -> None:
        """Note that a layer uses a callable."""
        self.functions[digest].layers += 1
        self.spare_functions.pop(digest, None)

    def release_function(self, digest: bytes) -> None:
        """Note that a layer is gone; callables long unused are forgotten everywhere."""
        record = self.functions.get(digest)
        if record is None:
            return
        record.layers -= 1
        if record.layers > 0:
            return
        self.spare_functions[digest] = None
        while len(self.spare_functions) > _SPARE_FUNCTIONS:
            old, _ = self.spare_functions.popitem(last=False)
            self._forget_function(old)

    def _forget_function(self, digest: bytes) -> None:
        record = self.functions.pop(digest)
        self.durations.pop(digest, None)
        for index in record.nodes:
            node = self.nodes.get(index)
            if node is not None:
                node.functions.discard(digest)
                self.forgotten_functions.setdefault(index, []).append(digest)

    def states(self) -> dict[str, int]:
        """Count the rows by state."""
        counts = dict.fromkeys((state.name.lower() for state in State), 0)
        for page in self.pages.values():
            for state in State:
                counts[state.name.lower()] += page.state.count(state)
        del counts["forgotten"]
        return counts
