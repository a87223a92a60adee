"""The states of a task at the scheduler, and every way from one to the next.

The table is what the code obeys (`check_transition` in the tests and the
invariants) and what the diagrams in the documentation are drawn from.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["TRANSITIONS", "UNFINISHED", "State"]


class State(IntEnum):
    """Where a task stands."""

    #: No row: never heard of, or nobody can need it again.
    FORGOTTEN = 0
    #: Some input is not finished.
    WAITING = 1
    #: All unfinished inputs are assigned to one node, where it is queued.
    AHEAD = 2
    #: All inputs are finished; queued.
    READY = 3
    #: Given to a node.
    ASSIGNED = 4
    #: Its result is at a node, or was passing and is consumed.
    FINISHED = 5
    #: Its result was let go, or nobody needs it to be made; the row stays as long as a
    #: consumer might need it (again).
    RELEASED = 6
    #: It raised, or its worker died too often, or an input failed.
    FAILED = 7
    #: The client gave it up before it was finished.
    CANCELLED = 8


#: States in which a task is still to be done.
UNFINISHED = frozenset({State.WAITING, State.AHEAD, State.READY, State.ASSIGNED})

_S = State
TRANSITIONS: dict[tuple[State, str], State] = {
    (_S.FORGOTTEN, "arrives, inputs missing"): _S.WAITING,
    (_S.FORGOTTEN, "arrives, inputs here"): _S.READY,
    (_S.WAITING, "inputs all assigned to one node"): _S.AHEAD,
    (_S.WAITING, "last input finished"): _S.READY,
    (_S.AHEAD, "last input finished"): _S.READY,
    (_S.AHEAD, "an input went back"): _S.WAITING,
    (_S.AHEAD, "given to the node"): _S.ASSIGNED,
    (_S.READY, "given to a node"): _S.ASSIGNED,
    (_S.READY, "an input was lost"): _S.WAITING,
    (_S.ASSIGNED, "reported finished"): _S.FINISHED,
    (_S.ASSIGNED, "given back, inputs here"): _S.READY,
    (_S.ASSIGNED, "given back, inputs missing"): _S.WAITING,
    (_S.WAITING, "an earlier attempt finished"): _S.FINISHED,
    (_S.AHEAD, "an earlier attempt finished"): _S.FINISHED,
    (_S.READY, "an earlier attempt finished"): _S.FINISHED,
    (_S.WAITING, "data arrived"): _S.FINISHED,
    (_S.ASSIGNED, "raised, no retry left"): _S.FAILED,
    (_S.WAITING, "an input failed"): _S.FAILED,
    (_S.AHEAD, "an input failed"): _S.FAILED,
    (_S.ASSIGNED, "an input failed"): _S.FAILED,
    (_S.READY, "cannot be run"): _S.FAILED,
    (_S.WAITING, "nobody needs it"): _S.RELEASED,
    (_S.AHEAD, "nobody needs it"): _S.RELEASED,
    (_S.READY, "nobody needs it"): _S.RELEASED,
    (_S.ASSIGNED, "nobody needs it"): _S.RELEASED,
    (_S.WAITING, "cancelled"): _S.CANCELLED,
    (_S.AHEAD, "cancelled"): _S.CANCELLED,
    (_S.READY, "cancelled"): _S.CANCELLED,
    (_S.ASSIGNED, "cancelled"): _S.CANCELLED,
    (_S.FINISHED, "nobody needs the result"): _S.RELEASED,
    (_S.FINISHED, "result lost, not needed"): _S.RELEASED,
    (_S.FINISHED, "result lost, needed"): _S.WAITING,
    (_S.RELEASED, "needed again, inputs missing"): _S.WAITING,
    (_S.RELEASED, "needed again, inputs here"): _S.READY,
    (_S.FAILED, "to be tried once more"): _S.RELEASED,
    (_S.RELEASED, "no consumer left"): _S.FORGOTTEN,
    (_S.FAILED, "no consumer left"): _S.FORGOTTEN,
    (_S.CANCELLED, "no consumer left"): _S.FORGOTTEN,
}
