"""The states of an assigned task at its node, and every way between them."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["TRANSITIONS", "State"]


class State(IntEnum):
    """Where a task stands at the node it is assigned to."""

    #: Not assigned here, or left.
    ABSENT = 0
    #: Some input is not here yet: being made here, or on its way.
    WAITING = 1
    #: All inputs are here; queued for a slot.
    READY = 2
    #: In a batch that went to a worker, perhaps before its inputs were made there.
    SENT = 3


_S = State
TRANSITIONS: dict[tuple[State, str], State] = {
    (_S.ABSENT, "assigned, inputs missing"): _S.WAITING,
    (_S.ABSENT, "assigned, inputs here"): _S.READY,
    (_S.WAITING, "last input here"): _S.READY,
    (_S.WAITING, "sent after its inputs"): _S.SENT,
    (_S.READY, "sent"): _S.SENT,
    (_S.SENT, "given back by the worker, inputs here"): _S.READY,
    (_S.SENT, "given back by the worker, inputs missing"): _S.WAITING,
    (_S.SENT, "finished"): _S.ABSENT,
    (_S.SENT, "failed"): _S.ABSENT,
    (_S.SENT, "its worker died"): _S.ABSENT,
    (_S.SENT, "skipped: an input held there is gone"): _S.ABSENT,
    (_S.WAITING, "dropped or recalled"): _S.ABSENT,
    (_S.READY, "dropped or recalled"): _S.ABSENT,
    (_S.SENT, "dropped"): _S.ABSENT,
}
