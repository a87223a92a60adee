"""Workers that are to end: they finish what they run, and are not started again.

To be retired is one more cause for which a worker is paused (`zcluster.core.node.pausing`):
one that never goes away. A worker is told to stop once no actor lives in it and no direct
call is being made there; its last report leaves before it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcluster.core.node import pausing
from zcluster.core.node.pausing import RETIRING
from zcluster.core.node.states import State
from zcluster.protocol.messages import Leave, Stop

if TYPE_CHECKING:
    from zcluster.core.node.attempts import NodeAttempts
    from zcluster.core.node.records import Assignment, WorkerRecord

__all__ = ["goes_back", "leave", "stop_idle"]

_RUNS = "it ends what it runs, and then itself"


def leave(core: NodeAttempts, message: Leave) -> None:
    """End some workers, or the node."""
    if not message.workers:
        core.effects.leave = True
        return
    numbers = [n for n in message.workers if n in core.workers]
    core.leaving.update(n for n in numbers if RETIRING not in core.workers[n].pauses)
    pausing.pause(core, RETIRING, _RUNS, numbers)
    unsent = [a for a in core.tasks.values() if a.state != State.SENT and goes_back(core, a)]
    core.give_back(unsent)
    stop_idle(core)


def goes_back(core: NodeAttempts, assignment: Assignment) -> bool:
    """Whether a task may run in no worker here but one that is to end."""
    worker = core.workers.get(assignment.bound)
    return worker is not None and RETIRING in worker.pauses


def stop_idle(core: NodeAttempts) -> None:
    """Tell workers that are to end to do so, as soon as nobody needs to talk to them."""
    for number in list(core.leaving):
        worker = core.workers[number]
        reason = _reason(core, worker)
        if worker.is_ready and not reason:
            core.leaving.discard(number)
            core.effects.to_workers.append((number, Stop(), []))
        if worker.pauses[RETIRING] != (reason or _RUNS):
            worker.pauses[RETIRING] = reason or _RUNS
            core.tell_workers()


def _reason(core: NodeAttempts, worker: WorkerRecord) -> str:
    """Return what a worker that is to end waits for before it is told; empty if nothing."""
    number = worker.number
    actors = sum(home == number for home in core.actors.values())
    actors += sum(home == number for home, _ in core.making)
    if actors:
        return f"it has {actors} actors, which cannot be moved; let go of them"
    if any(where is worker for where, _ in core.calls.values()):
        return "a direct call is being made there"
    return ""
