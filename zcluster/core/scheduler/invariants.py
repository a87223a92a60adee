"""What must hold of the scheduler's state between events: one walk that recounts it all.

Tests call `check` after every event, production never: it costs a look at every row
and every edge. What the core keeps up to date in small steps (counts of missing
inputs, references, tasks of each node) is counted here from scratch and compared.

A failure names the task by number and key, says what contradicts what, and tells the
task's story.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NoReturn

from zcluster.core.scheduler.pages import DATA, DELIVERED, WANTED, Page
from zcluster.core.scheduler.records import LayerRecord
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import UNFINISHED, State
from zcluster.errors import InvariantError

__all__ = ["check", "check_empty"]

_AHEAD, _READY, _ASSIGNED, _FINISHED = State.AHEAD, State.READY, State.ASSIGNED, State.FINISHED
_FAILED, _RELEASED = State.FAILED, State.RELEASED


def check(s: SchedulerState) -> None:
    """Walk the whole state, as it is between two events.

    Raises
    ------
    InvariantError
        If something contradicts itself.

    Examples
    --------
    >>> from zcluster.core.scheduler.records import SchedulerSettings
    >>> check(SchedulerState(SchedulerSettings(), "inproc://scheduler"))
    """
    _Walk(s).run()


def check_empty(s: SchedulerState) -> None:
    """Check that nothing is left: what must hold once every client released everything.

    Callables that might come again (`spare_functions`) and what was learned of them stay.

    Raises
    ------
    InvariantError
        If something is.
    """
    check(s)
    tables = {
        "pages": s.pages,
        "layers": s.layers,
        "keys": s.keys,
        "failures": s.failures,
        "wants": s.wants,
        "replicas": s.replicas,
        "inline": s.inline,
        "kills": s.kills,
        "ends of workers": s.ends,
        "tries": s.tries,
        "elsewhere": s.elsewhere,
        "dying": s.dying,
        "restricted queues": s.queues.restricted,
        "delayed tasks": s.queues.delayed,
        "resources given away": s.bound,
        "queues": s.queues.lengths(),
        "tasks kept": {index for index, kept in s.queues.kept.items() if kept.tasks},
        "deliveries": s.things.deliveries,
        "waiters": s.things.waiters,
        "pools": s.things.pools,
    }
    for node in s.nodes.values():
        tables[f"tasks of {node.info.name}"] = node.assigned
        tables[f"queue of {node.info.name}"] = node.ahead
        tables[f"layers of {node.info.name}"] = node.layers
        tables[f"resources spent at {node.info.name}"] = node.spent
        tables[f"waiting tasks of {node.info.name}"] = node.blocked
    for name, table in tables.items():
        if table:
            raise InvariantError(f"nothing is wanted any more, but {name} still holds {table!r}")


class _Walk:
    """One walk: first the rows, counting what others must agree with, then the others."""

    def __init__(self, s: SchedulerState) -> None:
        self._s = s
        # Tables with a default, as a `Counter` takes its time for each small update.
        self._refs: dict[int, int] = defaultdict(int)
        self._kin: dict[int, int] = defaultdict(int)
        self._heirs: dict[int, list[int]] = {}
        self._assigned: dict[tuple[int, bytes], int] = defaultdict(int)
        self._layers: dict[int, int] = defaultdict(int)
        self._queued = self._queue_entries()

    def run(self) -> None:
        """Check everything."""
        s = self._s
        if s.unneeded or s.loose:
            raise InvariantError(
                f"left over from an event: unneeded {s.unneeded}, loose {s.loose}; expected none"
            )
        for layer in s.layers.values():
            self._count_whole(layer)
        self._count_held()
        for page in s.pages.values():
            self._count_page(page)
        for page in s.pages.values():
            start = page.start
            for row, state in enumerate(page.state):
                if state:
                    self._check_row(start + row, page, row)
                    self._check_references(start + row, page, row)
        self._check_listed()
        self._check_pages()
        self._check_nodes()
        self._check_layers()
        self._check_functions()
        self._check_tables()
        self._check_things()

    def _fail(self, task: int, text: str) -> NoReturn:
        s = self._s
        found = s.find(task)
        state = State(found[0].state[found[1]]).name if found is not None else "FORGOTTEN"
        story = "\n".join(f"  {when:.6f} {what} {at}" for when, what, at in s.journal.story(task))
        raise InvariantError(f"task {task} ({s.key(task)}) is {state}: {text}; its story:\n{story}")

    # ------------------------------------------------------------------ counting

    def _queue_entries(self) -> set[int]:
        queued: set[int] = set()
        for entries in self._s.queues.entries():
            for _, first, count in entries:
                queued.update(range(first, first + count))
        return queued

    def _count_whole(self, layer: LayerRecord) -> None:
        for source in layer.whole:
            if layer not in source.watchers:
                raise InvariantError(
                    f"layer {layer.name!r} takes all of {source.name!r}, which does not know it"
                )
            tasks = range(source.first, source.first + source.count)
            for task in tasks:
                self._kin[task] += 1
                self._refs[task] += layer.unfinished > 0

    def _count_held(self) -> None:
        for client in self._s.clients.values():
            for submission in client.submissions.values():
                for task in range(submission.first, submission.first + submission.held):
                    self._refs[task] += self._s.find(task) is not None

    def _count_page(self, page: Page) -> None:
        wants, refs, kin, layers = self._s.wants, self._refs, self._kin, self._layers
        flags, indptr, indices = page.flags, page.indptr, page.indices
        task = page.start - 1
        for row, state in enumerate(page.state):
            task += 1
            if not state:
                continue
            layer = page.layer[row]
            layers[layer.number] += 1
            first, end = indptr[row], indptr[row + 1]
            if first != end:
                inputs = indices[first:end]
                for source in inputs:
                    kin[source] += 1
                if state in UNFINISHED:
                    self._count_uses(task, inputs)
            if flags[row] & WANTED:
                refs[task] += 1
            if task in wants:
                refs[task] += len(wants[task])
            if state == _ASSIGNED:
                self._assigned[page.node[row], layer.function] += layer.threads

    def _count_uses(self, task: int, inputs: Iterable[int]) -> None:
        """Count what an unfinished task needs, and where it waits for it."""
        refs, find = self._refs, self._s.find
        for source in inputs:
            refs[source] += 1
            if (found := find(source)) and found[0].state[found[1]] in UNFINISHED:
                self._heirs.setdefault(source, []).append(task)

    # ---------------------------------------------------------------------- rows

    def _check_row(self, task: int, page: Page, row: int) -> None:
        s = self._s
        state, node = page.state[row], page.node[row]
        if state in (_ASSIGNED, _AHEAD):
            if node not in s.nodes:
                self._fail(task, f"it is at node {node}, which is not here")
        elif state != _FINISHED and node != -1:
            self._fail(task, f"it names node {node}, expected none")
        if state == _READY and task not in self._queued:
            self._fail(task, "no queue has it")
        if state == _AHEAD and all(task != other for _, other in s.nodes[node].ahead):
            self._fail(task, f"the queue of node {node} does not have it")
        if state == _FINISHED:
            self._check_finished(task, page, row)
        if state in UNFINISHED:
            self._check_unfinished(task, page, row)
            self._check_heirs(task, page, row)
        elif page.heir[row] >= 0 or row in page.more:
            self._fail(task, f"it is waited for by {list(page.heirs(row))}, but not to be done")
        if (state == _FAILED) != (task in s.failures):
            self._fail(task, f"its failure is {s.failures.get(task)}")
        if state == _RELEASED and page.refs[row]:
            kept = page.flags[row] & DELIVERED and page.flags[row] & WANTED
            if not (kept and page.refs[row] == 1):
                self._fail(task, f"{page.refs[row]} need it")

    def _check_finished(self, task: int, page: Page, row: int) -> None:
        s = self._s
        if page.node[row] not in s.nodes:
            self._fail(task, f"its result is at node {page.node[row]}, which is not here")
        for node in s.replicas.get(task, ()):
            if node not in s.nodes or node == page.node[row]:
                self._fail(task, f"a replica is at node {node}; its own is {page.node[row]}")
        if not page.refs[row]:
            self._fail(task, "nobody needs it")

    def _check_unfinished(self, task: int, page: Page, row: int) -> None:
        s = self._s
        state = page.state[row]
        missing = unplaced = 0
        nodes = set()
        layer = page.layer[row]
        for source in page.inputs(row):
            found = s.find(source)
            if found is None:
                self._fail(task, f"its input {source} is forgotten")
            other = found[0].state[found[1]]
            missing += other != _FINISHED
            unplaced += other not in (_FINISHED, _ASSIGNED)
            if other == _ASSIGNED:
                nodes.add(found[0].node[found[1]])
            if other not in UNFINISHED and other != _FINISHED:
                self._fail(task, f"its input {source} is {State(other).name}: it waits for ever")
        if layer.whole:
            whole = sum(other.unfinished > 0 for other in layer.whole)
            missing += whole
            unplaced += whole
        if page.flags[row] & DATA:
            missing = unplaced = 1
        if page.missing[row] != missing or page.unplaced[row] != unplaced:
            self._fail(
                task,
                f"missing {page.missing[row]}, unplaced {page.unplaced[row]}; expected "
                f"{missing} and {unplaced}",
            )
        if (state == _READY) != (missing == 0) and state != _ASSIGNED:
            self._fail(task, f"{missing} of its inputs are missing")
        # What runs at most once may have had the inputs that are made again.
        is_ahead = missing and state in (_AHEAD, _ASSIGNED) and not layer.is_once
        if is_ahead and (unplaced or nodes != {page.node[row]}):
            self._fail(task, f"it is ahead at node {page.node[row]}, its inputs at {nodes}")

    def _check_heirs(self, task: int, page: Page, row: int) -> None:
        heirs, expected = list(page.heirs(row)), self._heirs.get(task, [])
        if heirs != expected and sorted(heirs) != sorted(expected):
            self._fail(task, f"its heirs are {heirs}, expected {expected}")

    def _check_references(self, task: int, page: Page, row: int) -> None:
        refs, kin = page.refs[row], page.kin[row]
        if refs != self._refs.get(task, 0):
            self._fail(task, f"refs {refs}, expected {self._refs.get(task, 0)}")
        expected = self._kin.pop(task, 0)  # what is left in the end is listed and not known
        if kin != expected:
            self._fail(task, f"kin {kin}, expected {expected}")
        if refs or kin or page.state[row] in UNFINISHED:
            return
        if task not in self._s.dying:
            self._fail(task, "nothing keeps it, and it is not on the way to be forgotten")

    def _check_listed(self) -> None:
        """Check that what rows list as inputs is known; of layers some may never have arrived."""
        for page in self._s.pages.values() if self._kin else ():
            for row, state in enumerate(page.state):
                for source in page.inputs(row) if state else ():
                    if source in self._kin:
                        self._fail(page.start + row, f"it lists {source}, which is forgotten")

    # -------------------------------------------------------------------- tables

    def _check_pages(self) -> None:
        for number, page in self._s.pages.items():
            live = len(page.state) - page.state.count(0)
            if page.live != live or not live:
                raise InvariantError(f"page {number} counts {page.live} live rows, it has {live}")
            counts = (page.attempt, page.missing, page.unplaced, page.refs, page.kin)
            others = (page.node, page.size, page.order, page.heir, page.flags, page.layer)
            lengths = {len(page.state), len(page.indptr) - 1, len(page.offsets) - 1}
            lengths.update(len(column) for column in (*counts, *others))
            if len(lengths) != 1 or page.indptr[-1] != len(page.indices):
                raise InvariantError(f"the columns of page {number} have lengths {lengths}")

    def _check_nodes(self) -> None:
        by_node: dict[int, dict[bytes, int]] = defaultdict(dict)
        for (index, function), count in self._assigned.items():
            by_node[index][function] = count
        for node in self._s.nodes.values():
            counted = by_node[node.index]
            if node.assigned != counted:
                raise InvariantError(
                    f"node {node.info.name} counts {node.assigned} assigned tasks by callable, "
                    f"the rows say {counted}"
                )

    def _check_layers(self) -> None:
        for layer in self._s.layers.values():
            rows = self._layers.get(layer.number, 0)
            if layer.arrived - layer.forgotten != rows or layer.forgotten >= layer.count:
                raise InvariantError(
                    f"layer {layer.name!r}: {layer.arrived} of {layer.count} tasks arrived, "
                    f"{layer.forgotten} are forgotten, {rows} are here"
                )
            if layer.parent is None and (layer.watchers or layer.whole):
                self._check_unfinished_of(layer)
        if not self._layers.keys() <= self._s.layers.keys():
            raise InvariantError("rows belong to layers that are forgotten")

    def _check_unfinished_of(self, layer: LayerRecord) -> None:
        s = self._s
        unfinished = layer.count - layer.arrived if layer.whole else 0
        failed = -1
        for task in range(layer.first, layer.first + layer.arrived):
            found = s.find(task)
            if found is None:
                continue
            state = found[0].state[found[1]]
            # A task that is an alias takes no part in what its layer takes.
            if found[0].layer[found[1]] is layer or layer.watchers:
                unfinished += state in UNFINISHED
            if state in (State.FAILED, State.CANCELLED):
                failed = task
        if layer.unfinished != unfinished:
            raise InvariantError(
                f"layer {layer.name!r} has {unfinished} unfinished tasks and counts "
                f"{layer.unfinished}"
            )
        if layer.watchers and (layer.failed < 0) != (failed < 0):
            raise InvariantError(f"of layer {layer.name!r} {failed} failed, not {layer.failed}")

    def _check_functions(self) -> None:
        s = self._s
        used = Counter(layer.function for layer in s.layers.values() if layer.function)
        for digest, function in s.functions.items():
            if function.layers != used[digest]:
                raise InvariantError(
                    f"callable {digest.hex()} counts {function.layers} layers of {used[digest]}"
                )
            if digest in s.spare_functions and function.layers:
                raise InvariantError(f"callable {digest.hex()} is spare and used")
            for index in function.nodes:
                if digest not in s.nodes[index].functions:
                    raise InvariantError(f"node {index} is said to have callable {digest.hex()}")
        if set(used) - set(s.functions):
            raise InvariantError("a layer uses a callable that is forgotten")

    def _check_tables(self) -> None:
        s = self._s
        for key, task in s.keys.items():
            found = s.find(task)
            layer = found[0].layer[found[1]] if found is not None else None
            if layer is None or layer.keys is None or layer.keys[task - layer.first] != key:
                raise InvariantError(f"key {key!r} names task {task}, which is not it")
        if s.inline_bytes != sum(map(len, s.inline.values())):
            raise InvariantError(f"inline results count {s.inline_bytes} bytes, they have others")
        for task in s.inline:
            found = s.find(task)
            if found is None or found[0].state[found[1]] != _FINISHED:
                self._fail(task, "its bytes are kept")
        for task in [*s.bound, *(t for node in s.nodes.values() for t in node.blocked)]:
            found = s.find(task)
            if found is None or found[0].state[found[1]] != _ASSIGNED:
                self._fail(task, "it has resources, or holds no slot, and is not assigned")
        for task in [*s.kills, *s.ends, *s.tries, *s.elsewhere]:
            found = s.find(task)
            if found is None or found[0].state[found[1]] not in UNFINISHED:
                self._fail(task, "its attempts are still counted")

    def _check_things(self) -> None:
        s = self._s
        things = s.things
        tickets = [*things.waiters, *things.deliveries]
        for (kind, name), pool in things.pools.items():
            tickets += pool.leases
            if len(pool.leases) > pool.limit or not (pool.leases or pool.line):
                raise InvariantError(
                    f"{kind} {name!r} of {pool.limit} has the leases {list(pool.leases)}, and "
                    f"{list(pool.line)} wait"
                )
        gone = [ticket for ticket in tickets if ticket.client not in s.clients]
        if gone:
            raise InvariantError(f"the clients of {gone} are gone, but they wait or hold")
        for waiter in things.waiters.values():
            if any(line.get(waiter.ticket) is not waiter for line in waiter.lines):
                raise InvariantError(f"{waiter.ticket} waits, but a line does not have it")
        held = {(task, value.holder) for value in things.values() for task in value.tasks}
        wants = {(task, holder) for task in s.wants for holder in s.wants[task] if holder < 0}
        if held != wants:
            raise InvariantError(f"values refer to {held - wants}, and {wants - held} are held")
