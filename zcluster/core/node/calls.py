"""Direct calls, actors, uploaded files and restarts at a node.

A call is passed on to its worker and its answer to the scheduler; when the worker ends
first, its end is the answer.

An **actor** is an object that stays in the worker that made it. What the task reports is
a small blob that stands for it and can go anywhere: it is kept here as any result (and
told as one that stays here, so that nobody has a copy that outlives it). The object goes
when that result does, or with its worker; then the result is lost too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from zcluster.core.node.inputs import NodeInputs
from zcluster.core.node.pausing import RETIRING
from zcluster.core.node.records import (
    Assignment,
    Memory,
    NodeSettings,
    Result,
    WorkerEnd,
    WorkerRecord,
)
from zcluster.core.node.states import State
from zcluster.protocol.messages import (
    Call,
    Called,
    Discard,
    ErrorInfo,
    Files,
    Received,
    Restart,
    Restarted,
)
from zcluster.types import Frames

__all__ = ["NodeCalls"]

#: Seconds after which a worker that is busy counts as busy for long: the first of some
#: actors may have to wait for the imports of its class.
_SOON = 1.0


class NodeCalls(NodeInputs):
    """Adds what is asked of workers beside their tasks; see `NodeInputs` for parameters.

    Attributes
    ----------
    actors : dict of int to int
        The worker that has an actor, by its task.
    making : set of (int, int)
        (worker, task) of actors that workers were told to make and have not reported.
    placed : dict of int to int
        Workers chosen here for actors to be made, by task.
    calls : dict of int to (WorkerRecord, int)
        The worker and the actor (or -1) of calls that are not answered.
    restarting : dict of int to set of int
        Workers that have yet to come up, by request.
    """

    def __init__(
        self,
        name: str,
        workers: Iterable[WorkerRecord],
        memory: Memory,
        settings: NodeSettings | None = None,
    ) -> None:
        super().__init__(name, workers, memory, settings)
        self.actors: dict[int, int] = {}
        self.making: set[tuple[int, int]] = set()
        self.calls: dict[int, tuple[WorkerRecord, int]] = {}
        self.restarting: dict[int, set[int]] = {}
        self.placed: dict[int, int] = {}

    # ---------------------------------------------------------------------- calls

    def _call(self, call: Call, frames: Frames) -> None:
        """Pass a call on to its worker."""
        number = call.worker if call.actor < 0 else self.actors.get(call.actor, -1)
        worker = self.workers.get(number)
        if worker is None or not worker.is_ready:
            what = f"worker {number} of node {self.name}" if call.actor < 0 else "the actor"
            error = _error(call.actor, f"{what} is not here any more", self.name, "")
            self.effects.to_scheduler.append((Called(call.request, error), ()))
            return
        self.calls[call.request] = (worker, call.actor)
        message = replace(call, worker=number)
        self.effects.to_workers.append((number, message, list(frames)))

    def _called(self, worker: WorkerRecord, called: Called, frames: Frames) -> None:
        """A worker made a call."""
        entry = self.calls.get(called.request)
        if entry is not None and entry[0] is worker:
            del self.calls[called.request]
            self.effects.to_scheduler.append((called, [bytes(frame) for frame in frames]))

    def _end_calls(self, worker: WorkerRecord, end: WorkerEnd) -> None:
        """A worker ended: so do the calls it was making."""
        for request, (where, actor) in list(self.calls.items()):
            if where is worker:
                del self.calls[request]
                text = f"worker {worker.name} (pid {worker.pid}) {end.cause} during a direct call"
                if end.output:
                    text += f"; its last output:\n{end.output}"
                error = _error(actor, text, self.name, worker.name)
                self.effects.to_scheduler.append((Called(request, error), ()))

    # --------------------------------------------------------------------- actors

    def _worker_for_actor(self, task: int) -> int:
        """Return where to make an actor: the worker that has the fewest, if it is free soon.

        Making one mostly takes no time; left to themselves, they would be where the first
        batch went.
        """
        counts = Counter(self.actors.values())
        counts.update(number for number, _ in self.making)
        counts.update(self.placed.values())
        open_workers = [w for w in self.workers.values() if w.is_taking and not self._is_long(w)]
        if not open_workers:
            return -1
        number = min(open_workers, key=lambda worker: counts[worker.number]).number
        self.placed[task] = number
        return number

    def _is_long(self, worker: WorkerRecord) -> bool:
        """Whether a worker has been busy with the same for a while."""
        before = self.now - _SOON
        return worker.free <= 0 and any(batch.sent_at < before for batch in worker.batches)

    def _place_anew(self) -> None:
        """Let actors be made anywhere whose worker turned out to be busy for long, or ended."""
        for task, number in list(self.placed.items()):
            assignment = self.tasks.get(task)
            if assignment is None or assignment.state == State.SENT:
                del self.placed[task]
            elif not self.workers[number].is_taking or self._is_long(self.workers[number]):
                del self.placed[task]
                assignment.worker = assignment.bound = -1

    def note_making(self, worker: int, task: int) -> None:
        """A worker is told to make an actor."""
        self.making.add((worker, task))

    def _made_actor(self, worker: WorkerRecord, assignment: Assignment, blob: bytes) -> None:
        """An actor is there; ``blob`` stands for it."""
        task = assignment.task
        self.actors[task] = worker.number
        self.results[task] = Result(len(blob), blob)
        self.reports.stored(task, assignment.attempt, len(blob), worker.number)

    def _drop_unwanted_actor(self, worker: WorkerRecord, task: int) -> None:
        """A worker made something that nobody waits for: if it is an actor, it goes."""
        if (worker.number, task) in self.making:
            self.making.discard((worker.number, task))
            if self.actors.get(task) != worker.number:
                self.effects.to_workers.append((worker.number, Discard([task]), []))

    def _let_go(self, number: int, result: Result) -> None:
        if number in self.actors:
            worker = self.actors.pop(number)
            self.effects.to_workers.append((worker, Discard([number]), []))
        super()._let_go(number, result)

    def _lose_actors(self, worker: WorkerRecord) -> list[int]:
        """A worker ended: forget its actors, and return those that were results here."""
        lost = [task for task, number in self.actors.items() if number == worker.number]
        for task in lost:
            del self.actors[task]
            self.passing.discard(task)
            result = self.results.pop(task)
            self._free_place(task, result)
        self.making = {entry for entry in self.making if entry[0] != worker.number}
        return lost

    # ------------------------------------------------------------ files, restarts

    def on_files(self, message: Files, error: str, now: float) -> None:
        """The driver has written uploaded files, or could not and says why."""
        self.now = now
        if not error:
            # Workers need the names alone. One message for later ones: of all files there are.
            told = Files(0, [(path, (0, 0, 0)) for path, _ in message.files])
            for worker in self.workers.values():
                if worker.is_ready:
                    self.effects.to_workers.append((worker.number, told, [b""]))
            paths = {path: None for path, _ in told.files}
            for earlier, _ in self.told:
                if isinstance(earlier, Files):
                    paths |= dict.fromkeys(path for path, _ in earlier.files)
            self.told = [entry for entry in self.told if not isinstance(entry[0], Files)]
            self.told.append((Files(0, [(path, (0, 0, 0)) for path in paths]), [b""]))
        self.effects.to_scheduler.append((Received(message.request, error), ()))

    def _restart(self, message: Restart) -> None:
        """Have workers end and start anew."""
        named = {int(number) for number in message.workers if number.isdigit()}
        numbers = {n for n in self.workers if not message.workers or n in named}
        # One that is to end is killed too if it is there, and not waited for.
        leaving = {n for n in numbers if RETIRING in self.workers[n].pauses}
        gone = {n for n in leaving if not self.workers[n].is_ready}
        self.restarting[message.request] = numbers - leaving
        self.effects.to_restart.extend(sorted(numbers - gone))
        self._restarted(-1)

    def _restarted(self, number: int) -> None:
        """A worker is up; say so where it was the last of those to be started anew."""
        for request, numbers in list(self.restarting.items()):
            numbers.discard(number)
            if not numbers:
                del self.restarting[request]
                self.effects.to_scheduler.append((Restarted(request), ()))


def _error(actor: int, text: str, node: str, worker: str) -> ErrorInfo:
    kind, name = ("actor", "ActorLost") if actor >= 0 else ("killed", "WorkerKilledError")
    if actor >= 0:
        text += "; what the actor knew is lost, so submit its class again"
    return ErrorInfo(kind, f"zcluster.errors.{name}", text, "", actor, 0, node, worker)
