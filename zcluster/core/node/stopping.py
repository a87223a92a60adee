"""Stopping tasks that run: forced, or after their time.

What runs and is not wanted is a **ghost** in its worker. One that is to stop is told so by
an exception in its thread (`Interrupt`). If it is still there after `NodeSettings.stop_after`
seconds, because it waits in a call of the system's or holds the interpreter's lock, its worker
is replaced. What ran in the worker's other slots goes back and runs again, and nobody is
blamed. While one of those runs at most once, the replacement waits.

A task with a time limit, or that runs at most once, goes alone to a free slot: it begins when
it is sent. So it is known here since when it runs, and that what was not sent has not begun.
"""

from __future__ import annotations

from zcluster.core.node.attempts import NodeAttempts
from zcluster.core.node.batches import runs_once
from zcluster.core.node.records import Assignment, WorkerRecord
from zcluster.core.node.states import State
from zcluster.errors import TaskTimeout
from zcluster.protocol.messages import ErrorInfo, Interrupt, Recall

__all__ = ["NodeStopping"]

_SENT = State.SENT
_TIMEOUT = [
    f"{kind.__module__}.{kind.__qualname__}" for kind in TaskTimeout.__mro__ if kind is not object
]


class NodeStopping(NodeAttempts):
    """Adds what ends tasks that run; see `NodeInputs` for parameters."""

    def _drop(self, tasks: list[int], force: bool) -> None:
        """Forget tasks that are not wanted here; workers need not begin them any more."""
        sent: dict[int, list[int]] = {}
        among = set(tasks)
        for task in tasks:
            assignment = self.tasks.get(task)
            if assignment is not None and assignment.state == _SENT:
                sent.setdefault(assignment.worker, []).append(task)
            self._leave_unfinished(task, among)
        for number, queued in sent.items():
            self.effects.to_workers.append((number, Recall(queued), []))
        if force:
            wanted = set(tasks)
            for worker in self.workers.values():
                if ghosts := wanted & worker.ghosts:
                    self._stop(worker, sorted(ghosts))

    def _stop(self, worker: WorkerRecord, ghosts: list[int]) -> None:
        """Have a worker stop what it should not run any more, or be replaced."""
        self.effects.to_workers.append((worker.number, Interrupt(ghosts), []))
        due = self.now + self.settings.stop_after
        for task in ghosts:
            worker.stopping.setdefault(task, due)

    def _look_at_limits(self) -> None:
        """Stop what has run for too long, and replace workers where it does not stop."""
        for task, (due, assignment) in list(self.limits.items()):
            if self.tasks.get(task) is not assignment or assignment.state != _SENT:
                del self.limits[task]
            elif self.now >= due:
                del self.limits[task]
                self._time_out(assignment)
        for worker in self.workers.values():
            if worker.stopping:
                self._replace_if_due(worker)

    def _time_out(self, assignment: Assignment) -> None:
        worker, layer = self.workers[assignment.worker], assignment.layer
        message = (
            f"a task of {layer.name!r} has run for more than the {layer.timeout:g} s it may, on "
            f"worker {worker.name} (pid {worker.pid}), and was stopped; give it a longer timeout=, "
            "or less to do"
        )
        error = ErrorInfo("timeout", _TIMEOUT[0], message, "", 0, 0, "", "", bases=_TIMEOUT)
        self._fail(assignment, error, b"", worker.name)
        self._stop(worker, [assignment.task])

    def _replace_if_due(self, worker: WorkerRecord) -> None:
        for task in worker.stopping.keys() - worker.ghosts:
            del worker.stopping[task]
        if not worker.stopping or self.now < min(worker.stopping.values()) or runs_once(worker):
            return
        # Asked again later, should it be there still; its end clears this.
        worker.stopping = dict.fromkeys(worker.stopping, self.now + self.settings.stop_after)
        self.effects.to_restart.append(worker.number)
