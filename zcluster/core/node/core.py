"""A node, as a pure state machine: what its nanny decides.

The core counts missing inputs, orders ready tasks by rank, fills batches for free
slots, keeps results until nobody needs them, and says what to fetch. It has no
socket, clock, thread or file. Events come in through the ``on_…`` methods; `flush`
returns what is to be done for all of them. What must be done with bytes it does
not look at (room in the store, cutting a part) it asks of a `Memory`.

It is one object in five files, each built on the one before: `inputs` (state, and
how long results are kept), `calls` (what is asked of workers beside their tasks),
`attempts` (what workers say), `stopping` (tasks that must end), and this one (what the
scheduler says, and what leaves). Filling batches is in `batches`.
"""

from __future__ import annotations

import heapq

from zcluster.core.node import batches, copying, leaving, pausing
from zcluster.core.node.records import (
    Assignment,
    Effects,
    Result,
)
from zcluster.core.node.states import State
from zcluster.core.node.stopping import NodeStopping
from zcluster.errors import ProtocolError
from zcluster.protocol.frames import span
from zcluster.protocol.messages import (
    Assign,
    Call,
    Copy,
    Discard,
    Drop,
    Environment,
    Free,
    Leave,
    Message,
    NodeLayer,
    Nodes,
    Recall,
    Restart,
    Run,
    Sources,
)
from zcluster.types import Buffer, Frames

__all__ = ["NodeCore"]

_WAITING, _READY, _SENT, _ABSENT = State.WAITING, State.READY, State.SENT, State.ABSENT


class NodeCore(NodeStopping):
    """The tasks, results and workers of one node; see `NodeInputs` for parameters."""

    def on_message(self, message: Message, frames: Frames, now: float) -> None:
        """The scheduler said something."""
        self.now = now
        if isinstance(message, Assign):
            self._assign(message, frames)
        elif isinstance(message, Free):
            self._free(message)
        elif isinstance(message, Drop):
            self._drop(message.tasks, message.force)
        elif isinstance(message, Recall):
            self._recall(message.tasks)
        elif isinstance(message, Copy):
            copying.copy(self, message)
        elif isinstance(message, Call):
            self._call(message, frames)
        elif isinstance(message, Leave):
            leaving.leave(self, message)
        elif isinstance(message, Restart):
            self._restart(message)
        elif isinstance(message, Nodes):
            for info in message.joined:
                self.nodes[info.index] = info
            for index in message.left:
                self.nodes.pop(index, None)
        elif isinstance(message, Sources | Environment):
            if isinstance(message, Environment):
                # The newest client's; folders of earlier ones stay on the path.
                self.told = [told for told in self.told if not isinstance(told[0], Environment)]
            self.told.append((message, frames))
            for worker in self.workers.values():
                if worker.is_ready:
                    self.effects.to_workers.append((worker.number, message, list(frames)))
        else:
            raise ProtocolError(f"the scheduler may not say {type(message).__name__} to a node")

    def _assign(self, message: Assign, frames: Frames) -> None:
        for layer in message.layers:
            self._add_layer(layer)
        for digest, place in message.functions:
            self.functions[digest] = bytes(span(frames, place))
        self._take_inline(message, frames)
        for task, size, nodes in message.places:
            self.places[task] = (size, nodes)
        constants = frames[0] if frames else b""
        inputs, offsets, selections = message.inputs, message.offsets, message.selections
        at = edge = row = 0
        workers = message.workers
        for number, count in message.runs:
            layer = self.layers[number]
            base = layer.base
            simple = not layer.slots and not layer.whole
            once = layer.at_most_once
            alone = layer.threads > 1 or layer.timeout > 0 or once
            for _ in range(count):
                task = message.tasks[at]
                stop = edge + message.arities[at]
                constant = bytes(constants[offsets[at] : offsets[at + 1]]) if offsets else b""
                wanted = inputs[edge:stop]
                if not simple:
                    wanted, row = self._select(layer, task, wanted, selections, row)
                worker = workers[at] if workers else -1
                if layer.actor and worker < 0 and not wanted:
                    worker = self._worker_for_actor(task)
                assignment = Assignment(
                    task,
                    message.attempts[at],
                    layer,
                    base + message.orders[at],
                    wanted,
                    constant,
                    bool(message.flags[at] & 1) and not (layer.actor or once),
                    worker,
                    alone,
                )
                edge = stop
                at += 1
                self._add(assignment)
        self._drop_unused(message)
        if workers:
            # It was not known there that a worker is to end.
            assigned = [self.tasks[task] for task in message.tasks if task in self.tasks]
            self.give_back([a for a in assigned if leaving.goes_back(self, a)])

    def _add_layer(self, layer: NodeLayer) -> None:
        if layer.layer not in self.layers:
            for first, count in layer.whole:
                for task in range(first, first + count):
                    self.pinned[task] = self.pinned.get(task, 0) + 1
        self.layers[layer.layer] = layer

    def _forget_layer(self, number: int) -> None:
        layer = self.layers.pop(number, None)
        if layer is None:
            return
        for first, count in layer.whole:
            for task in range(first, first + count):
                self.pinned[task] -= 1
                if not self.pinned[task]:
                    del self.pinned[task]
                    if task not in self.uses:
                        self.places.pop(task, None)

    def _drop_unused(self, message: Assign) -> None:
        """Forget what came for tasks that turned out to need nothing."""
        for task, _ in message.inline:
            self._unuse(task)
        for task, _, _ in message.places:
            if task not in self.uses and task not in self.pinned:
                self.places.pop(task, None)

    def _take_inline(self, message: Assign, frames: Frames) -> None:
        start = 0
        for task, length in message.inline:
            if task not in self.results:
                blob = bytes(frames[1][start : start + length])
                self.passing.add(task)
                # In use until the whole message is taken in.
                self.uses[task] = self.uses.get(task, 0) + 1
                self.arrived(task, Result(length, blob, lent=True))
            else:
                self.uses[task] = self.uses.get(task, 0) + 1
            start += length

    def _add(self, assignment: Assignment) -> None:
        """Take in one assigned task: count what it waits for."""
        task = assignment.task
        old = self.tasks.get(task)
        if old is not None:
            # Assigned again while it is still here: the new attempt is the one that counts.
            old.attempt = assignment.attempt
            old.passing = assignment.passing
            if old.state == _WAITING:
                self._relink(old)
            self._drop_parts(assignment.inputs)
            return
        if task in self.results:
            # Finished here in an attempt that the scheduler had taken back, or fetched.
            # From now on it is this node's own.
            self.results[task].lent = False
            self.passing.discard(task)
            self.reports.again(task, assignment.attempt, self.results[task])
            self._drop_parts(assignment.inputs)
            return
        tasks, results, uses = self.tasks, self.results, self.uses
        tasks[task] = assignment
        if task in self.awaited:
            # Tasks here wait for it from elsewhere: lost there, it is made here again.
            assignment.heirs = self.awaited.pop(task)
        if task in self.copying:
            # So it is where it was to be copied from: what comes of it yet is let go.
            copying.miss(self, task)
        missing = 0
        for source in assignment.inputs:
            uses[source] = uses.get(source, 0) + 1
            if source in results:
                continue
            missing += 1
            maker = tasks.get(source)
            if maker is not None:
                if maker.heirs is None:
                    maker.heirs = [assignment]
                else:
                    maker.heirs.append(assignment)
            else:
                self._await(source, assignment)
        assignment.missing = missing
        if not missing:
            assignment.state = _READY
            heapq.heappush(self.ready, (assignment.rank, task, assignment))

    def _relink(self, assignment: Assignment) -> None:
        """See that somebody knows of each input that a task waits for.

        Its maker may have left, and be assigned again with it.
        """
        for source in dict.fromkeys(assignment.inputs):
            if source in self.results:
                continue
            maker = self.tasks.get(source)
            waiting = self.awaited.get(source, []) if maker is None else maker.heirs or []
            if any(heir is assignment for heir in waiting):
                continue
            edges = [assignment] * assignment.inputs.count(source)
            if maker is not None:
                maker.heirs = [*waiting, *edges]
            else:
                for edge in edges:
                    self._await(source, edge)

    def _free(self, message: Free) -> None:
        results, uses = self.results, self.uses
        if self.copying:
            self.copying.difference_update(message.tasks)
        for task in message.tasks:
            if task in uses:
                # Tasks here took it for theirs before the scheduler let it go.
                if task in results:
                    results[task].lent = True
                    self.passing.add(task)
                continue
            result = results.pop(task, None)
            self.passing.discard(task)
            if result is not None and (
                result.place is not None or result.worker >= 0 or task in self.actors
            ):
                self._let_go(task, result)
        for number in message.layers:
            self._forget_layer(number)
        if message.functions:
            for digest in message.functions:
                self.functions.pop(digest, None)
                self.durations.pop(digest, None)
            for worker in self.workers.values():
                known = [digest for digest in message.functions if digest in worker.functions]
                if known:
                    worker.functions.difference_update(known)
                    self.effects.to_workers.append((worker.number, Discard([], known), []))

    def _recall(self, tasks: list[int]) -> None:
        """Give back what has not started; ask workers for what they have queued."""
        given: list[Assignment] = []
        asked: dict[int, list[int]] = {}
        for task in tasks:
            assignment = self.tasks.get(task)
            if assignment is None:
                continue
            if assignment.state == _SENT:
                asked.setdefault(assignment.worker, []).append(task)
            else:
                given.append(assignment)
        self._return(given)
        for number, wanted in asked.items():
            self.recalling.update(wanted)
            self.effects.to_workers.append((number, Recall(wanted), []))

    def on_time(self, now: float) -> None:
        """Time passed: look for batches that are stuck beside idle slots."""
        self.now = now
        batches.ask_back(self)
        self._look_at_limits()
        if self.placed:
            self._place_anew()
        if self.leaving:
            leaving.stop_idle(self)

    def on_disk_done(
        self, ticket: int, sums: list[int], error: str, is_full: bool, now: float
    ) -> None:
        """The driver has done one of `Effects.to_disk`, or could not and says why."""
        self.now = now
        if not self.spilling.on_done(ticket, sums, error, is_full):
            self.room.on_claimed(ticket, error, is_full)

    def on_pressure(self, excess: int, now: float) -> None:
        """Memory is short by so many bytes: results that are not in use go to disk."""
        self.now = now
        self.spilling.on_pressure(excess)

    def _keep_room(self) -> None:
        """Make room where there should be some, and say when there is none to be had."""
        if self.spilling.is_fuller:
            self.spilling.balance()
        if self.room.waiting:
            self.room.serve()
        trouble = self.room.trouble()
        if trouble:
            self.is_short = True
            pausing.pause(self, "disk", trouble)
        elif self.is_short:
            self.is_short = False
            pausing.resume(self, "disk")

    def flush(self, now: float) -> Effects:
        """Fill free slots, and return all that is to be done."""
        self.now = now
        if self.spilling.is_fuller or self.room.waiting or self.is_short or self.spilling.broken:
            self._keep_room()
        if self.is_paused and self.tasks:
            pausing.give_back(self)
        if self.ready:
            batches.fill(self)
        if self.spilling.asleep:
            self.spilling.wake()
            batches.fill(self)
        if self.reports:
            # First what was done: the rest may say that some of it is lost again.
            self.effects.to_scheduler[:0] = self.reports.take()
        # Before the results of the tasks that printed it.
        self.effects.to_scheduler[:0] = self.effects.output
        effects = self.effects
        self.effects = Effects()
        return effects

    def send_run(self, worker: int, message: Run, frames: list[Buffer]) -> None:
        """Send a batch to a worker."""
        self.effects.to_workers.append((worker, message, frames))
