"""What workers say, and how they end: the middle part of the node core.

A worker reports results, errors, and tasks it skipped or gave back; it asks for
room in the store. When its process ends, only what was running in it is blamed,
and what was not reported goes back to the scheduler.
"""

from __future__ import annotations

import heapq

from zcluster.core.node import batches, leaving, pausing
from zcluster.core.node.calls import NodeCalls
from zcluster.core.node.records import (
    Assignment,
    Result,
    WorkerEnd,
    WorkerRecord,
)
from zcluster.core.node.states import State
from zcluster.errors import ProtocolError
from zcluster.protocol.messages import (
    Blocked,
    Called,
    Discard,
    Done,
    ErrorInfo,
    Failed,
    Lost,
    Message,
    Output,
    Recalled,
    Reserve,
    Return,
    Skipped,
    WorkerInfo,
    Workers,
)
from zcluster.storage.arena import Range
from zcluster.types import Buffer, Frames

__all__ = ["NodeAttempts"]

_WAITING, _READY, _SENT, _ABSENT = State.WAITING, State.READY, State.SENT, State.ABSENT
#: Tasks remembered that shared a worker when it died.
_SUSPECTS = 1000


class NodeAttempts(NodeCalls):
    """Adds what is heard from and of workers."""

    def on_worker(self, number: int, message: Message, frames: Frames, now: float) -> None:
        """A worker of the current incarnation said something."""
        self.now = now
        worker = self.workers[number]
        if self.making and isinstance(message, Failed | Skipped | Recalled):
            self.making.difference_update((number, task) for task in message.tasks)
        if isinstance(message, Done):
            self._done(worker, message, frames)
        elif isinstance(message, Failed):
            self._failed(worker, message, frames)
        elif isinstance(message, Skipped):
            self._skipped(worker, message.tasks)
        elif isinstance(message, Recalled):
            self._recalled(worker, message.tasks)
        elif isinstance(message, Blocked):
            self._blocked(worker, message)
        elif isinstance(message, Output):
            self.effects.output.append((message, frames))
        elif isinstance(message, Called):
            self._called(worker, message, frames)
        elif isinstance(message, Reserve):
            self._reserve(worker, message)
        elif isinstance(message, Return):
            for slab, offset, length in message.ranges:
                self.memory.give_back(Range(slab, offset, length), number)
        else:
            raise ProtocolError(f"a worker may not say {type(message).__name__}")

    def _done(self, worker: WorkerRecord, message: Done, frames: Frames) -> None:
        frame: Buffer = frames[0] if frames else b""
        ranges = {r[0]: r for r in message.ranges}
        tasks = self.tasks
        totals: dict[bytes, list[int]] = {}
        number = worker.number
        stop = 0
        for task, length, microseconds in zip(
            message.tasks, message.lengths, message.durations, strict=True
        ):
            start, stop = stop, (stop + length if length > 0 else stop)
            assignment = tasks.pop(task, None)
            if (
                assignment is None
                or assignment.worker != number
                or assignment.state != _SENT
                or (length == -2 and not self._is_consumed(assignment))
            ) and not self._is_done_by_ghost(worker, assignment, length):
                self._ignore(worker, task, length, ranges, assignment)
                continue
            assert assignment is not None
            assignment.state = _ABSENT
            digest = assignment.layer.function
            total = totals.get(digest)
            if total is None:
                totals[digest] = [1, microseconds]
            else:
                total[0] += 1
                total[1] += microseconds
            if length >= 0:
                self._made(worker, assignment, bytes(frame[start:stop]))
            elif length == -1:
                self._stored(worker, assignment, ranges[task])
            else:
                self._held(worker, assignment, length)
            if self.recalling:
                self.recalling.discard(task)
            if self.making:
                self.making.discard((number, task))
            if self.suspects:
                self.suspects.pop(task, None)
            if assignment.heirs is not None:
                for heir in assignment.heirs:
                    self._input_here(heir)
            if self.parts:
                self._cut_parts_of(task)
            for source in assignment.inputs:
                self._unuse(source)
        batches.finish(worker, message.tasks)
        if worker.ghosts:
            worker.ghosts.difference_update(message.tasks)
        if worker.blocked:
            worker.blocked.difference_update(message.tasks)
        for digest, (runs, spent) in totals.items():
            self._learn(digest, runs, spent)
            self.reports.duration(digest, runs, spent)

    def _made(self, worker: WorkerRecord, assignment: Assignment, blob: bytes) -> None:
        """Take in a small result, which came with the report."""
        task, attempt = assignment.task, assignment.attempt
        if assignment.layer.actor:
            self._made_actor(worker, assignment, blob)
        elif not assignment.passing:
            self.results[task] = Result(len(blob), blob)
            self.reports.inline(task, attempt, blob, worker.number)
        else:
            if task in self.uses:
                self.results[task] = Result(len(blob), blob)
                self.passing.add(task)
            self.reports.passed(task, attempt, len(blob), worker.number)

    @staticmethod
    def _is_done_by_ghost(worker: WorkerRecord, assignment: Assignment | None, length: int) -> bool:
        """Whether a dropped attempt did what was to be done again."""
        return (
            length >= -1
            and assignment is not None
            and assignment.state == _READY
            and assignment.task in worker.ghosts
        )

    def _is_consumed(self, assignment: Assignment) -> bool:
        """Whether all who need a result that was not kept have been sent after it."""
        worker = assignment.worker
        # Parts are never cut in a heap: tasks that came since want some.
        parts = self.parts_of.get(assignment.task)
        if parts and any(part not in self.results for part in parts):
            return False
        return assignment.passing and all(
            heir.state == _SENT and heir.worker == worker for heir in assignment.heirs or ()
        )

    def _stored(
        self, worker: WorkerRecord, assignment: Assignment, place: tuple[int, int, int, int]
    ) -> None:
        """A result was written into the store."""
        task, slab, offset, size = place
        granted = self._take_grant(worker, task, slab, offset)
        if granted is None:
            raise ProtocolError(f"a worker wrote task {task} to a range it was not granted")
        self.results[task] = Result(size, place=granted, maker=worker.number)
        worker.made += granted.length
        self.spilling.note(task, self.results[task])
        if assignment.layer.actor:
            self.actors[task] = worker.number
        if assignment.passing:
            self.reports.passed(task, assignment.attempt, size, worker.number)
            if task in self.uses:
                self.passing.add(task)
            else:
                self._let_go(task, self.results.pop(task))
        else:
            self.reports.stored(task, assignment.attempt, size, worker.number)

    def _take_grant(self, worker: WorkerRecord, task: int, slab: int, offset: int) -> Range | None:
        """Return the range a worker was granted there, which is the result's from now on."""
        key = worker.number, task
        granted = self.grants.get(key, [])
        for place in granted:
            if place.slab == slab and place.offset == offset:
                granted.remove(place)
                if not granted:
                    del self.grants[key]
                return place
        return None

    def _held(self, worker: WorkerRecord, assignment: Assignment, length: int) -> None:
        """A result stays in the worker's heap."""
        task = assignment.task
        if length == -3:
            worker.held.add(task)
            self.results[task] = Result(0, worker=worker.number)
            self.reports.held(task, assignment.attempt, worker.number)
        else:
            self.reports.passed(task, assignment.attempt, 0, worker.number)

    def _ignore(
        self,
        worker: WorkerRecord,
        task: int,
        length: int,
        ranges: dict[int, tuple[int, int, int, int]],
        assignment: Assignment | None,
    ) -> None:
        """A result nobody waits for: of a task that was dropped, or sent elsewhere."""
        if assignment is not None:
            self.tasks[task] = assignment
            if length == -2 and assignment.state == _SENT and assignment.worker == worker.number:
                # It ran, and who needs the result was taken from the worker since.
                self._forget_sent(assignment)
                assignment.state = _WAITING
                self._return([assignment])
        if length == -1 and task in ranges:
            granted = self._take_grant(worker, task, ranges[task][1], ranges[task][2])
            if granted is not None:
                self.memory.free(granted)
        elif length == -3:
            self.effects.to_workers.append((worker.number, Discard([task]), []))
        if self.making:
            self._drop_unwanted_actor(worker, task)

    def _learn(self, digest: bytes, runs: int, microseconds: int) -> None:
        mean = microseconds * 1e-6 / runs
        old = self.durations.get(digest)
        if old is None:
            self.durations[digest] = mean
        else:
            self.durations[digest] = old + (mean - old) * min(0.9, 0.2 + runs / 100)

    def _failed(self, worker: WorkerRecord, message: Failed, frames: Frames) -> None:
        frame = bytes(frames[0]) if frames else b""
        batches.finish(worker, message.tasks)
        for task, which in zip(message.tasks, message.which, strict=True):
            self._take_room_back(worker, task)
            assignment = self.tasks.get(task)
            if (
                assignment is None
                or assignment.worker != worker.number
                or assignment.state != _SENT
            ):
                continue
            self._fail(assignment, message.errors[which], frame, worker.name)
        worker.ghosts.difference_update(message.tasks)
        worker.blocked.difference_update(message.tasks)

    def _take_room_back(self, worker: WorkerRecord, task: int) -> None:
        """An attempt ended without a result: it needs no room for one."""
        for granted in self.grants.pop((worker.number, task), ()):
            self.memory.free(granted)
        if not self.room.is_idle:
            self.room.withdraw(worker.number, task)

    def _blocked(self, worker: WorkerRecord, message: Blocked) -> None:
        """Running tasks hold no slot any more, as they wait for others; or do again."""
        if message.away:
            worker.blocked.update(message.tasks)
        else:
            worker.blocked.difference_update(message.tasks)
        known = [assignment.task for assignment in self._sent_to(worker, message.tasks)]
        if not message.away and worker.aside:
            known = [task for task in known if task not in worker.aside]
        if known:
            self.effects.to_scheduler.append((Blocked(known, message.away), ()))

    def _sent_to(self, worker: WorkerRecord, tasks: list[int]) -> list[Assignment]:
        """Return those of the tasks that this worker has, not counting dropped ones."""
        found = [self.tasks[task] for task in tasks if task in self.tasks]
        return [a for a in found if a.state == _SENT and a.worker == worker.number]

    def _skipped(self, worker: WorkerRecord, tasks: list[int]) -> None:
        """Not run, because an input failed: the scheduler deals with its consumers.

        Or a ghost that was stopped.
        """
        worker.ghosts.difference_update(tasks)
        worker.blocked.difference_update(tasks)
        for task in tasks:
            self._take_room_back(worker, task)
        skipped = self._sent_to(worker, tasks)
        for assignment in skipped:
            self._forget_sent(assignment)
            assignment.state = _WAITING
        self._return(skipped)

    def _recalled(self, worker: WorkerRecord, tasks: list[int]) -> None:
        """A worker gave back tasks it had not started."""
        back: list[Assignment] = []
        worker.ghosts.difference_update(tasks)
        for assignment in self._sent_to(worker, tasks):
            task = assignment.task
            self._forget_sent(assignment)
            assignment.worker = assignment.bound
            if (
                task in self.recalling
                or self._has_lost_input(assignment)
                or leaving.goes_back(self, assignment)
            ):
                assignment.state = _WAITING
                back.append(assignment)
            elif assignment.missing:
                assignment.state = _WAITING
            else:
                assignment.state = _READY
                heapq.heappush(self.ready, (assignment.rank, task, assignment))
        self._return(back)

    def _has_lost_input(self, assignment: Assignment) -> bool:
        """Whether an input was left in the heap of a worker for this task alone."""
        return any(
            source not in self.results
            and source not in self.tasks
            and source not in self.awaited
            and source not in self.parts
            for source in assignment.inputs
        )

    def _reserve(self, worker: WorkerRecord, message: Reserve) -> None:
        place = self.room.take(message.size)
        if place is None:
            self.room.want_result(worker.number, message.task, message.request, message.size)
        else:
            self.grant(worker.number, message.task, message.request, place)

    def on_worker_ready(self, number: int, pid: int, incarnation: int, now: float) -> None:
        """A worker process is up."""
        self.now = now
        worker = self.workers[number]
        worker.pid, worker.incarnation, worker.is_ready = pid, incarnation, True
        pausing.started(self, worker)
        worker.functions.clear()
        for message, frames in self.told:
            self.effects.to_workers.append((number, message, list(frames)))
        self.tell_workers()
        leaving.stop_idle(self)
        self._restarted(number)

    def on_worker_end(self, end: WorkerEnd, now: float) -> None:
        """A worker process ended; only what was running in it is blamed."""
        self.now = now
        worker = self.workers[end.number]
        if end.incarnation != worker.incarnation and worker.is_ready:
            return
        pausing.ended(self, worker, end)
        worker.is_ready = False
        worker.ghosts.clear()
        worker.blocked.clear()
        worker.stopping.clear()
        sent = [a for batch in worker.batches for a in batch.tasks.values()]
        running = set(end.running)
        for batch in worker.batches:
            batch.tasks.clear()
        worker.batches.clear()
        for assignment in sent:
            assignment.state = _WAITING
        self.memory.drop_holder(worker.number)
        self.room.withdraw(worker.number)
        for key in [key for key in self.grants if key[0] == worker.number]:
            for granted in self.grants.pop(key):
                self.memory.free(granted)
        blamed = [assignment.task for assignment in sent if assignment.task in running]
        if len(blamed) > 1:
            self._suspect(blamed)
        elif not blamed and end.has_run:
            running |= self._after_its_end(sent)
        for assignment in sent:
            if assignment.layer.at_most_once:
                running.add(assignment.task)  # or has run, and nobody heard of it
                self._fail(assignment, self._lost_once(worker, end, assignment), b"", worker.name)
            elif assignment.task in running:
                self._fail(assignment, self._killed(worker, end, assignment), b"", worker.name)
        self._return([a for a in sent if a.task not in running])
        lost = [task for task in worker.held if task in self.results]
        for task in lost:
            del self.results[task]
        worker.held.clear()
        lost += self._lose_actors(worker)
        if lost:
            gone = set(lost)
            for task in lost:  # and parts that show the bytes of what is gone
                gone.update(
                    part
                    for part in self.parts_of.get(task, ())
                    if part in self.results and self.results[part].borrowed
                )
            self.effects.to_scheduler.append((Lost(lost), ()))
            self._return([a for a in self.tasks.values() if not gone.isdisjoint(a.inputs)])
        self.tell_workers()
        self._end_calls(worker, end)
        if pausing.RETIRING in worker.pauses:
            self.leaving.discard(worker.number)
            self._restarted(worker.number)  # that is all there will be
        else:
            self.effects.to_start.append(worker.number)

    def _after_its_end(self, sent: list[Assignment]) -> set[int]:
        """Return who took down a worker that ran nothing: a task that had ended, perhaps.

        A thread it left behind may have, before its report was out. Nobody is blamed at first,
        but each of them runs alone next time; one that did it alone is blamed.
        """
        tasks = [assignment.task for assignment in sent]
        if len(tasks) == 1 and tasks[0] in self.suspects:
            return {tasks[0]}
        self._suspect(tasks)
        return set()

    def _suspect(self, tasks: list[int]) -> None:
        """Remember tasks until they come again; those that went elsewhere not for ever."""
        self.suspects.update(dict.fromkeys(tasks))
        while len(self.suspects) > _SUSPECTS:
            del self.suspects[next(iter(self.suspects))]

    def _killed(self, worker: WorkerRecord, end: WorkerEnd, assignment: Assignment) -> ErrorInfo:
        memory = f"{end.peak_memory / 2**20:.0f} MiB" if end.peak_memory else "unknown"
        if end.peak_memory and worker.memory_limit:
            memory += f" of the {worker.memory_limit / 2**20:.0f} MiB it may have"
        when = "while" if assignment.task in end.running else "just after"
        message = (
            f"worker {worker.name} (pid {worker.pid}) {end.cause} {when} it ran a task of "
            f"{assignment.layer.name!r}; peak memory {memory}"
        )
        name = "WorkerKilledError"
        if end.out_of_memory:
            name = "OutOfMemory"
            message += f"; out of memory: {end.out_of_memory}"
        if end.output:
            message += f"; its last output:\n{end.output}"
        return ErrorInfo("killed", f"zcluster.errors.{name}", message, "", 0, 0, "", worker.name)

    def _lost_once(self, worker: WorkerRecord, end: WorkerEnd, assignment: Assignment) -> ErrorInfo:
        message = (
            f"worker {worker.name} (pid {worker.pid}) of node {self.name} {end.cause} while it ran "
            f"a task of {assignment.layer.name!r}, which runs at most once: it may have done "
            "part of its work, and is not run again; see what it did, and submit it anew"
        )
        if end.out_of_memory:
            message += f"; out of memory: {end.out_of_memory}"
        if end.output:
            message += f"; its last output:\n{end.output}"
        return ErrorInfo("once", "zcluster.errors.TaskLost", message, "", 0, 0, "", worker.name)

    def tell_workers(self) -> None:
        """Say which workers are here, and how they are."""
        self.effects.to_scheduler.append((Workers(self.worker_infos()), ()))

    def worker_infos(self) -> list[WorkerInfo]:
        """Return the workers that are up, or cannot come up, as others see them."""
        return [
            WorkerInfo(
                worker.number,
                worker.name,
                worker.slots,
                worker.memory_limit,
                worker.pid if worker.is_ready else 0,
                worker.resources,
                *pausing.status(worker),
            )
            for worker in self.workers.values()
            if worker.is_ready or pausing.FAILED_START in worker.pauses
        ]
