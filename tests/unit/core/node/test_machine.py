"""The node core alone: the scheduler's side, the workers' and the disk's are played by rules.

The memory is a fake that knows who looks at what (`zcluster.testing.fakes.Store`): a range that is
lent after its end, freed twice or used again too early fails at once. The scheduler keeps the
protocol: what it takes back it takes back with all that was sent ahead after it. Workers are
strict: they run what they were sent, in order, with the inputs that they were sent.

After every step the state is walked. In the end workers do their work, the scheduler frees
everything, and nothing may be left: no result, no lease, no byte of the store.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from zcluster.core.node.core import NodeCore
from zcluster.core.node.invariants import check, check_empty
from zcluster.core.node.records import NodeSettings, Result, WorkerEnd, WorkerRecord
from zcluster.protocol.messages import (
    Assign,
    Copied,
    Copy,
    Done,
    Drop,
    ErrorInfo,
    Failed,
    Finished,
    Free,
    Grant,
    Interrupt,
    Lost,
    Message,
    NodeLayer,
    Recall,
    Recalled,
    Reserve,
    Return,
    Run,
    Skipped,
    Unreachable,
)
from zcluster.storage.arena import Range
from zcluster.testing.fakes import BIG, Store, through

AT = st.integers(0, 5)
#: Where results of other nodes are numbered from.
ELSEWHERE = 1000
DIGEST = b"f" * 16


@dataclass
class Batch:
    """A message to run, as far as a worker got with it."""

    run: Run
    todo: deque[int]
    inputs: dict[int, list[int]]


@dataclass
class Worker:
    """A worker process, as it sees itself."""

    number: int
    incarnation: int
    batches: list[Batch] = field(default_factory=list)
    heap: dict[int, int] = field(default_factory=dict)
    #: Asked for room: by request, the task.
    asked: dict[int, int] = field(default_factory=dict)
    granted: dict[int, Grant] = field(default_factory=dict)
    is_here: bool = True


def picked(items: Sequence[Any], at: int) -> Any:
    return items[at % len(items)]


class NodeMachine(RuleBasedStateMachine):
    """One node; its scheduler keeps the protocol, its workers are strict."""

    @initialize(
        workers=st.integers(1, 2),
        slots=st.integers(1, 2),
        batch=st.sampled_from((256, 2)),
        limit=st.sampled_from((1 << 30, 6 * BIG)),
        has_disk=st.booleans(),
    )
    def begin(self, workers: int, slots: int, batch: int, limit: int, has_disk: bool) -> None:
        self.store = Store()
        self.store.limit, self.store.has_disk = limit, has_disk
        records = [WorkerRecord(k, f"w{k}", slots, 0) for k in range(workers)]
        self.core = NodeCore("n", records, self.store, NodeSettings(batch=batch))
        self.now = 1.0
        self.workers: dict[int, Worker] = {}
        self.starting = list(range(workers))
        self.fetches: list[Any] = []
        self.jobs: list[Any] = []
        self.requests = 0
        # The scheduler: what it has assigned here (attempt, inputs), the attempts of all tasks,
        # results here, results elsewhere.
        self.given: dict[int, tuple[int, list[int]]] = {}
        self.attempts: dict[int, int] = {}
        self.inputs: dict[int, list[int]] = {}
        self.here: set[int] = set()
        #: Results that are to go with their last use here.
        self.passed: set[int] = set()
        self.next = 0
        self.is_layer_known = False
        while self.starting:
            self.worker_starts()

    # -------------------------------------------------------------------- the driver

    def flush(self) -> None:
        self.now += 1e-4
        effects = self.core.flush(self.now)
        for number, message, frames in effects.to_workers:
            if number in self.workers and self.workers[number].is_here:
                heard, _ = through("node>worker", message, frames)
                self.worker_hears(self.workers[number], heard)
        self.fetches += effects.to_fetch
        self.jobs += effects.to_disk
        self.starting += [n for n in effects.to_start if n not in self.starting]
        for number in effects.to_restart:
            self.end(self.workers[number])
        check(self.core)
        for said, payload in effects.to_scheduler:
            heard, _ = through("node>scheduler", said, payload)
            self.scheduler_hears(heard)

    def tell(self, message: Message, frames: Sequence[Any] = ()) -> None:
        heard, payload = through("scheduler>node", message, frames)
        self.core.on_message(heard, payload, self.now)
        check(self.core)
        self.flush()

    @rule(seconds=st.sampled_from((0.03, 3.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.core.on_time(self.now)
        self.flush()

    @precondition(lambda self: self.jobs)
    @rule(at=AT, is_broken=st.integers(0, 4))
    def disk_is_done(self, at: int, is_broken: int) -> None:
        job = self.jobs.pop(at % len(self.jobs))
        self.store.disk_errors = float(is_broken == 4)
        done = self.store.do(job, random.Random(0))
        self.core.on_disk_done(job.ticket, *done, now=self.now)
        self.flush()

    # ----------------------------------------------------------------- the scheduler

    @rule(
        edges=st.lists(st.lists(st.integers(-3, 6), max_size=2), min_size=1, max_size=4),
        passing=st.sets(st.integers(0, 3), max_size=2),
        inline=st.booleans(),
    )
    def assigns(self, edges: list[list[int]], passing: set[int], inline: bool) -> None:
        """New tasks; inputs count back from them: results here, tasks here, or elsewhere (< 0)."""
        tasks = list(range(self.next, self.next + len(edges)))
        self.next += len(edges)
        chosen: list[list[int]] = []
        for task, sources in zip(tasks, edges, strict=True):
            known = [t for t in (*self.here, *self.given, *tasks) if t < task]
            chosen.append(
                [
                    picked(known, source) if source >= 0 and known else ELSEWHERE + abs(source)
                    for source in sources
                ]
            )
        self.inputs.update(zip(tasks, chosen, strict=True))
        taken = {source for sources in chosen for source in sources}
        silent = {tasks[k] for k in passing if k < len(tasks)} & taken
        self.assign(tasks, silent, inline)

    def assign(self, tasks: list[int], silent: set[int], inline: bool) -> None:
        inputs = [self.inputs[task] for task in tasks]
        for task in tasks:
            self.attempts[task] = self.attempts.get(task, 0) + 1
            self.given[task] = (self.attempts[task], self.inputs[task])
        away = sorted({s for sources in inputs for s in sources if s >= ELSEWHERE})
        layers = [] if self.is_layer_known else [NodeLayer(1, 0, 0, 0, DIGEST, [], [], [], "x")]
        self.is_layer_known = True
        note(f"assigned {dict(zip(tasks, inputs, strict=True))}, passing {silent}")
        message = Assign(
            layers,
            [(DIGEST, (2, 0, 4))] if layers else [],
            [(1, len(tasks))],
            tasks,
            [self.attempts[task] for task in tasks],
            tasks,
            [len(sources) for sources in inputs],
            [source for sources in inputs for source in sources],
            [int(task in silent) for task in tasks],
            [],
            [],
            [],
            [] if inline else [(source, BIG, [7]) for source in away],
            [(source, 4) for source in away] if inline else [],
        )
        self.tell(message, [b"", b"blob" * len(away) if inline else b"", b"code"])

    def back(self) -> list[int]:
        """Return tasks that are not here any more, with all their inputs to be had."""
        return [
            task
            for task, sources in self.inputs.items()
            if task not in self.given
            and task not in self.here
            and all(s >= ELSEWHERE or s in self.here or s in self.given for s in sources)
        ]

    @precondition(lambda self: self.back())
    @rule(at=AT)
    def assigns_again(self, at: int) -> None:
        self.assign([picked(self.back(), at)], set(), False)

    @precondition(lambda self: self.given)
    @rule(at=AT)
    def recalls(self, at: int) -> None:
        task = picked(sorted(self.given), at)
        note(f"recall of {task}")
        self.tell(Recall([task]))

    @precondition(lambda self: self.given)
    @rule(at=AT, force=st.booleans())
    def drops(self, at: int, force: bool) -> None:
        self.take_back([picked(sorted(self.given), at)], force)

    def take_back(self, tasks: Sequence[int], force: bool = False) -> None:
        """Have the node forget tasks, and what was sent ahead after them."""
        gone = set(tasks)
        grown = True
        while grown:
            after = {task for task, (_, sources) in self.given.items() if gone & {*sources}}
            grown = not after <= gone
            gone |= after
        dropped = sorted(task for task in gone if task in self.given)
        for task in dropped:
            self.leave(task)
        if dropped:
            note(f"drop of {dropped}")
            self.tell(Drop(dropped, force))

    def leave(self, task: int) -> None:
        """A task leaves the node unfinished: its inputs stay there, also passing ones."""
        _, sources = self.given.pop(task)
        kept = self.passed.intersection(sources)
        self.passed -= kept
        self.here |= kept

    @precondition(lambda self: self.here)
    @rule(at=AT)
    def frees(self, at: int) -> None:
        """A result, perhaps one that tasks here took for theirs."""
        task = picked(sorted(self.here), at)
        if not any(task in sources for _, sources in self.given.values()):
            self.here.discard(task)
            self.tell(Free([task]))

    @rule(at=AT)
    def orders_a_copy(self, at: int) -> None:
        self.tell(Copy([(ELSEWHERE + at, BIG, [7])]))

    def scheduler_hears(self, message: Message) -> None:
        if isinstance(message, Finished):
            for task, attempt, length in zip(
                message.tasks, message.attempts, message.lengths, strict=True
            ):
                if self.given.get(task, (0, []))[0] == attempt:
                    del self.given[task]
                    (self.passed if length == -2 else self.here).add(task)
                elif task not in self.given and task not in self.here and length != -2:
                    self.tell(Free([task]))
        elif isinstance(message, Recalled | Failed):
            gone = [
                task
                for task, attempt in zip(message.tasks, message.attempts, strict=True)
                if self.given.get(task, (0, []))[0] == attempt
            ]
            for task in gone:
                self.leave(task)
            self.take_back(gone)
        elif isinstance(message, Lost | Unreachable):
            self.here.difference_update(message.tasks)
            self.passed.difference_update(message.tasks)
            self.take_back([t for t, g in self.given.items() if {*message.tasks} & {*g[1]}])
        elif isinstance(message, Copied):
            self.tell(Free(message.tasks))

    # ------------------------------------------------------------------- other nodes

    @precondition(lambda self: self.fetches)
    @rule(at=AT, how=st.sampled_from(("small", "large", "large", "not")))
    def fetch_ends(self, at: int, how: str) -> None:
        order = self.fetches.pop(at % len(self.fetches))
        note(f"{order.task} is fetched: {how}")
        place = self.store.allocate(BIG) if how == "large" else None
        if how == "small":
            self.core.on_fetched(order.number, Result(4, b"blob"), self.now)
        elif place is not None:
            self.store.bytes[place] = b"x" * BIG
            self.core.on_fetched(order.number, Result(BIG, place=place), self.now)
        else:
            self.core.on_unfetched(order.number, 7, self.now)
        check(self.core)
        self.flush()

    # ----------------------------------------------------------------------- workers

    def worker_hears(self, worker: Worker, message: Message) -> None:
        if isinstance(message, Run):
            inputs, edge = {}, 0
            for task, arity in zip(message.tasks, message.arities, strict=True):
                inputs[task] = message.inputs[edge : edge + arity]
                edge += arity
            worker.batches.append(Batch(message, deque(range(len(message.tasks))), inputs))
            for _, slab, offset, length in message.ranges:
                assert worker.number in self.store.leases[Range(slab, offset, length)]
        elif isinstance(message, Recall):
            back = []
            for batch in worker.batches:
                begun = [*worker.asked.values()]
                tasks = batch.run.tasks
                for at in [k for k in batch.todo if tasks[k] in message.tasks]:
                    if tasks[at] not in begun:
                        batch.todo.remove(at)
                        back.append(tasks[at])
            self.say(worker, Recalled(back, [0] * len(back)))
            self.close_batches(worker)
        elif isinstance(message, Grant):
            assert message.request in worker.asked
            worker.granted[message.request] = message
        elif isinstance(message, Interrupt):
            # It gets to a task that runs; what it says then is not heard.
            for request in [r for r, t in worker.asked.items() if t in message.tasks]:
                task = worker.asked[request]
                if request not in worker.granted:
                    continue
                del worker.asked[request], worker.granted[request]
                self.end_task(worker, task)
                self.say(worker, Skipped([task]))

    def say(self, worker: Worker, message: Message, frames: Sequence[bytes] = ()) -> None:
        heard, payload = through("worker>node", message, frames)
        self.core.on_worker(worker.number, heard, payload, self.now)
        check(self.core)

    def take_out(self, worker: Worker, task: int) -> None:
        for batch in worker.batches:
            for at in [k for k in batch.todo if batch.run.tasks[k] == task]:
                batch.todo.remove(at)

    def busy(self) -> list[Worker]:
        """Return the workers that have a task to begin."""
        return [w for w in self.workers.values() if w.is_here and self.next_of(w) is not None]

    def next_of(self, worker: Worker) -> tuple[Batch, int] | None:
        for batch in worker.batches:
            if batch.todo and batch.run.tasks[batch.todo[0]] not in worker.asked.values():
                return batch, batch.todo[0]
        return None

    @precondition(lambda self: self.busy())
    @rule(who=AT, how=st.sampled_from(("small", "large", "large", "held", "fails")))
    def runs_one(self, who: int, how: str) -> None:
        """A task, with what it was sent, or not at all."""
        worker = picked(self.busy(), who)
        self.run_one(worker, how)
        self.flush()

    def run_one(self, worker: Worker, how: str) -> None:
        found = self.next_of(worker)
        assert found is not None
        batch, at = found
        run, task = batch.run, batch.run.tasks[at]
        sent = {r[0] for r in run.ranges} | {source for source, _ in run.inline}
        missing = [s for s in batch.inputs[task] if s not in sent and s not in worker.heap]
        note(f"worker {worker.number} runs {task}: {how}, missing {missing}")
        if missing:
            self.end_task(worker, task)
            self.say(worker, Skipped([task]))
            return
        for source in batch.inputs[task]:
            if worker.heap.get(source, 0) > 0:
                worker.heap[source] -= 1
                if not worker.heap[source]:
                    del worker.heap[source]
        if how == "fails":
            self.end_task(worker, task)
            error = ErrorInfo("task", "ValueError", "no", "", task, 0, "", "")
            self.say(worker, Failed([task], [0], [0], [error]))
            return
        if how == "large" and run.report[at]:
            self.requests += 1
            worker.asked[self.requests] = task
            self.say(worker, Reserve(self.requests, task, BIG))
            return
        self.finish(worker, batch, at, how)

    def finish(self, worker: Worker, batch: Batch, at: int, how: str) -> None:
        run, task = batch.run, batch.run.tasks[at]
        if run.uses[at]:
            worker.heap[task] = run.uses[at]
        length = -2
        if how == "held" and run.report[at] == 2:
            worker.heap[task] = -1
            length = -3
        elif run.report[at]:
            length = 4
        self.end_task(worker, task)
        self.say(worker, Done([task], [length], [50], []), [b"blob"] if length > 0 else [])

    def end_task(self, worker: Worker, task: int) -> None:
        self.take_out(worker, task)
        self.close_batches(worker)

    def close_batches(self, worker: Worker) -> None:
        """Return what was lent for batches that are done."""
        done = [batch for batch in worker.batches if not batch.todo]
        worker.batches = [batch for batch in worker.batches if batch.todo]
        for batch in done:
            if batch.run.ranges:
                self.say(worker, Return([(r[1], r[2], r[3]) for r in batch.run.ranges]))

    def writing(self) -> list[tuple[Worker, int]]:
        return [(w, r) for w in self.workers.values() if w.is_here for r in w.granted]

    @precondition(lambda self: self.writing())
    @rule(at=AT)
    def writes(self, at: int) -> None:
        """A worker that was given room writes its result; or fails, if there is none."""
        self.write(*picked(self.writing(), at))
        self.flush()

    def write(self, worker: Worker, request: int) -> None:
        grant, task = worker.granted.pop(request), worker.asked.pop(request)
        batches = [b for b in worker.batches if any(b.run.tasks[k] == task for k in b.todo)]
        (batch,) = batches
        at = batch.run.tasks.index(task)
        note(f"worker {worker.number} writes {task} to {grant.slab}")
        self.end_task(worker, task)
        if grant.slab < 0:
            error = ErrorInfo("store", "StoreFull", grant.reason, "", task, 0, "", "")
            self.say(worker, Failed([task], [0], [0], [error]))
            return
        place = Range(grant.slab, grant.offset, grant.length)
        assert not self.store.bytes[place], "a range is written twice"
        self.store.bytes[place] = b"x" * BIG
        if batch.run.uses[at]:
            worker.heap[task] = batch.run.uses[at]
        written = (task, place.slab, place.offset, BIG)
        self.say(worker, Done([task], [-1], [50], [written]))

    @precondition(lambda self: any(w.is_here for w in self.workers.values()))
    @rule(who=AT)
    def worker_ends(self, who: int) -> None:
        worker = picked([w for w in self.workers.values() if w.is_here], who)
        note(f"worker {worker.number} ends")
        self.end(worker)
        self.flush()

    def end(self, worker: Worker) -> None:
        running = list(worker.asked.values())[:1]
        worker.is_here = False
        end = WorkerEnd(worker.number, worker.incarnation, "died", 0, "", running)
        self.core.on_worker_end(end, self.now)
        check(self.core)

    @precondition(lambda self: self.starting)
    @rule()
    def worker_starts(self) -> None:
        number = self.starting.pop(0)
        self.requests += 1
        self.workers[number] = Worker(number, self.requests)
        self.core.on_worker_ready(number, 1, self.requests, self.now)
        self.flush()

    # ----------------------------------------------------------------------- the end

    def teardown(self) -> None:
        self.store.limit = 1 << 30
        for _ in range(2000):
            if self.starting:
                self.worker_starts()
            elif self.jobs:
                self.disk_is_done(0, 0)
            elif self.fetches:
                self.fetch_ends(0, "small")
            elif self.writing():
                self.writes(0)
            elif self.busy():
                self.runs_one(0, "small")
            elif self.given or self.core.tasks:
                self.time_passes(3.0)
            else:
                break
        else:
            raise AssertionError(f"it does not come to rest: {self.given}")
        self.tell(Free(sorted(self.here), [1], [DIGEST]))
        for _ in range(50):
            if self.jobs:
                self.disk_is_done(0, 0)
            else:
                self.time_passes(3.0)
        check_empty(self.core)
        assert not self.store.bytes, f"the store keeps {self.store.bytes.keys()}"
        assert not self.store.leases, f"leases are out: {self.store.leases}"


def run(machine: type[NodeMachine], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None),
    )


def test_a_node_adds_up_whatever_happens_around_it() -> None:
    run(NodeMachine, 60, 40)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_node_adds_up_for_long() -> None:
    run(NodeMachine, 200, 50)
