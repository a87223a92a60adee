"""The states of a wanted task as its client sees it, and the arrows between them.

::

                ┌──────────unreachable──────────┐
                ▼                               │
             pending ──resolved──▶ here     announced
                ├─────announced─────────────────▲
                ├──failed──▶ error ──retried──▶ pending
                ├──cancelled──▶ cancelled
                └──lost──▶ lost

Two states share the word ``finished``: the result is **here**, or a node
**announced** that it has it. Here, cancelled and lost are final, and error is unless
its user asks for a retry: a future resolves once, and what the scheduler says of its
task afterwards is too late (a result may cross a cancellation on the way). The
announced state is not: its node can be lost, and then the scheduler has the task run
again.
"""

from __future__ import annotations

from enum import IntEnum

from zcluster.errors import InvariantError

__all__ = ["FINAL", "STATUS", "TRANSITIONS", "State", "advance"]


class State(IntEnum):
    """What the client knows of a wanted task."""

    #: No result yet.
    PENDING = 0
    #: A node has the result; it is too large to have come unasked.
    ANNOUNCED = 1
    #: The result's bytes are in this process.
    HERE = 2
    #: The task has no result, for a reason that is known.
    ERROR = 3
    #: Cancelled by this client, by its close, or by somebody else.
    CANCELLED = 4
    #: Nobody can say any more: the scheduler, or data that cannot be made again, is gone.
    LOST = 5


#: (state, event) to state. A pair that is not here must not happen.
TRANSITIONS: dict[tuple[State, str], State] = {
    (State.PENDING, "resolved"): State.HERE,
    (State.PENDING, "announced"): State.ANNOUNCED,
    (State.PENDING, "failed"): State.ERROR,
    (State.PENDING, "cancelled"): State.CANCELLED,
    (State.PENDING, "lost"): State.LOST,
    # The same result from another node, or small enough the second time.
    (State.ANNOUNCED, "announced"): State.ANNOUNCED,
    (State.ANNOUNCED, "resolved"): State.HERE,
    # Its node is gone: the scheduler says what comes next.
    (State.ANNOUNCED, "unreachable"): State.PENDING,
    (State.ANNOUNCED, "failed"): State.ERROR,
    (State.ANNOUNCED, "cancelled"): State.CANCELLED,
    (State.ANNOUNCED, "lost"): State.LOST,
    # On request of its user: the task runs once more.
    (State.ERROR, "retried"): State.PENDING,
}

#: States from which no arrow leaves.
FINAL = frozenset(State) - {state for state, _ in TRANSITIONS}

#: The word users see, by state.
STATUS = ("pending", "finished", "finished", "error", "cancelled", "lost")


def advance(state: State, event: str, task: int) -> State:
    """Return the state after an event.

    Raises
    ------
    InvariantError
        If the table has no such arrow.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InvariantError(
            f"task {task:#x} is {state.name} at its client and cannot take {event!r}; "
            "please report this with the output of client.story(future)"
        ) from None
