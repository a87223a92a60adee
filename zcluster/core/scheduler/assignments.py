"""Building `Assign` messages: rows of the table to columns on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from zcluster.core.scheduler.assigning import note_assigned
from zcluster.core.scheduler.pages import PAGE_BITS, PASSING, WANTED, Page
from zcluster.core.scheduler.records import Effect, LayerRecord, NodeRecord
from zcluster.core.scheduler.state import SchedulerState
from zcluster.core.scheduler.states import State
from zcluster.protocol.messages import Assign, Needs, NodeLayer, Span
from zcluster.types import Buffer

__all__ = ["AssignBatch", "assign"]

_ASSIGNED, _FINISHED = State.ASSIGNED, State.FINISHED
_USUAL = Needs()


def assign(
    s: SchedulerState,
    node: NodeRecord,
    batch: AssignBatch,
    task: int,
    page: Page,
    row: int,
    worker: int,
) -> None:
    """Assign a task to a node, or to one of its workers: it goes with the batch."""
    layer = page.layer[row]
    function = layer.function
    assigned = node.assigned
    learned = s.durations.get(function)
    settings = s.settings
    cost = settings.window
    if learned is not None and learned < cost:
        cost = learned if learned > settings.least_cost else settings.least_cost
    if layer.profile is None:
        assigned[function] = assigned.get(function, 0) + 1
        node.room -= cost
    else:
        threads = layer.profile.threads
        assigned[function] = assigned.get(function, 0) + threads
        node.room -= cost * threads
    note_assigned(s, task, page, row, node.index)
    batch.add(task, page, row, worker)


class AssignBatch:
    """Tasks on their way to one node."""

    def __init__(self, s: SchedulerState, node: NodeRecord) -> None:
        self._s = s
        self._node = node
        self._clear()

    def __len__(self) -> int:
        return len(self._tasks)

    def _clear(self) -> None:
        self._layers: list[NodeLayer] = []
        self._functions: list[tuple[bytes, Span]] = []
        self._function_bytes = bytearray()
        self._runs: list[tuple[int, int]] = []
        self._run_layer: LayerRecord | None = None
        self._run_length = 0
        self._tasks: list[int] = []
        self._attempts: list[int] = []
        self._orders: list[int] = []
        self._arities: list[int] = []
        self._inputs: list[int] = []
        self._workers: list[int] = []
        self._offsets: list[int] = [0]
        self._constants = bytearray()
        self._selections: list[int] = []
        self._places: dict[int, tuple[int, int, list[int]]] = {}
        self._inline: dict[int, bytes] = {}

    def add(self, task: int, page: Page, row: int, worker: int) -> None:
        """Append a task that was just marked assigned to the node."""
        layer = page.layer[row]
        if layer is not self._run_layer:
            self._end_run()
            self._run_layer = layer
            if layer.number not in self._node.layers:
                self._introduce(layer)
        self._run_length += 1
        self._tasks.append(task)
        self._attempts.append(page.attempt[row])
        self._orders.append(page.order[row])
        start, stop = page.indptr[row], page.indptr[row + 1]
        self._arities.append(stop - start)
        if start != stop:
            inputs = page.indices[start:stop]
            self._inputs.extend(inputs)
            if len(self._s.nodes) > 1 or self._s.replicas:
                self._locate(inputs)
        if page.selections and row in page.selections:
            self._selections.extend(page.selections[row])
        if worker >= 0 or self._workers:
            # A column only where somebody is bound to a worker.
            self._workers.extend([-1] * (len(self._tasks) - 1 - len(self._workers)))
            self._workers.append(worker)
        low, high = page.offsets[row], page.offsets[row + 1]
        if low != high:
            self._constants += page.constants[low:high]
        self._offsets.append(len(self._constants))

    def _locate(self, inputs: Iterable[int], is_whole: bool = False) -> None:
        """Say of inputs that are not at the node where they are.

        Where all of a layer is, is said once, for all tasks to come: in any case the place.
        """
        s, index = self._s, self._node.index
        for task in inputs:
            page = s.pages[task >> PAGE_BITS]
            row = task - page.start
            if page.node[row] == index or task in self._places:
                continue
            if task in self._inline and not is_whole:
                continue
            if s.replicas and index in s.replicas.get(task, ()):
                continue
            if page.state[row] != _FINISHED:
                continue
            blob = s.inline.get(task)
            if blob is not None:
                self._inline[task] = blob
            if blob is None or is_whole:
                self._places[task] = (task, page.size[row], s.holders(task, page, row))

    def _introduce(self, layer: LayerRecord) -> None:
        s, node = self._s, self._node
        node.layers.add(layer.number)
        layer.nodes.add(node.index)
        if layer.function and layer.function not in node.functions:
            record = s.functions[layer.function]
            node.functions.add(layer.function)
            forgotten = s.forgotten_functions.get(node.index)
            if forgotten is not None and layer.function in forgotten:
                forgotten.remove(layer.function)
            record.nodes.add(node.index)
            start = len(self._function_bytes)
            self._function_bytes += record.data
            self._functions.append((layer.function, (2, start, len(self._function_bytes))))
        needs = layer.needs or _USUAL
        self._layers.append(
            NodeLayer(
                layer.number,
                layer.base,
                layer.first,
                layer.call,
                layer.function,
                layer.slots,
                [(source.first, source.count) for source in layer.whole],
                layer.whole_slots,
                layer.name,
                layer.threads,
                needs.actor,
                needs.timeout,
                needs.at_most_once,
            )
        )
        for source in layer.whole:
            if len(s.nodes) > 1:
                self._locate(range(source.first, source.first + source.count), is_whole=True)

    def _end_run(self) -> None:
        if self._run_layer is not None:
            self._runs.append((self._run_layer.number, self._run_length))
        self._run_length = 0

    def take(self) -> Effect:
        """Return the message of what was added, and start anew."""
        self._end_run()
        s = self._s
        inline = list(self._inline.items())
        frames: list[Buffer] = [bytes(self._constants)]
        if inline or self._function_bytes:
            frames.append(b"".join(blob for _, blob in inline))
        if self._function_bytes:
            frames.append(bytes(self._function_bytes))
        message = Assign(
            self._layers,
            self._functions,
            self._runs,
            self._tasks,
            self._attempts,
            self._orders,
            self._arities,
            self._inputs,
            self._flags(),
            self._workers,
            self._offsets if self._constants else [],
            self._selections,
            list(self._places.values()),
            [(task, len(blob)) for task, blob in inline],
        )
        s.journal.note(s.now, "assigned", self._node.info.name, self._tasks)
        effect = (self._node.peer, message, frames)
        self._clear()
        return effect

    def _flags(self) -> list[int]:
        """Mark as passing what only tasks assigned to the same node need.

        Decided when the batch leaves, because consumers are assigned after
        their inputs, mostly in the same batch. What a consumer with retries takes
        is kept: it would have to be made again, and some tasks may not run twice.
        """
        pages, wants = self._s.pages, self._s.wants
        index = self._node.index
        flags: list[int] = []
        for task in self._tasks:
            page = pages[task >> PAGE_BITS]
            row = task - page.start
            heir = page.heir[row]
            if heir < 0 or page.flags[row] & WANTED or (wants and task in wants):
                flags.append(0)
                continue
            more = page.more.get(row) if page.more else None
            passing = page.refs[row] == (1 if more is None else 1 + len(more))
            if passing:
                other = pages[heir >> PAGE_BITS]
                at = heir - other.start
                passing = (
                    other.state[at] == _ASSIGNED
                    and other.node[at] == index
                    and not other.layer[at].retries
                )
            if passing and more is not None:
                passing = all(self._has(consumer) for consumer in more)
            if passing:
                page.flags[row] |= PASSING
            flags.append(1 if passing else 0)
        return flags

    def _has(self, task: int) -> bool:
        """Whether a task is assigned to the node, and runs once."""
        page = self._s.pages[task >> PAGE_BITS]
        row = task - page.start
        if page.state[row] != _ASSIGNED or page.node[row] != self._node.index:
            return False
        return not page.layer[row].retries
