"""What no history can see, and what takes a coincidence, each with the reason.

All the rest of the coverage is to be reached: what a long run names as never seen is a history
that nobody has tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zcluster.testing.coverage import Arrow, Pair

__all__ = ["IMPOSSIBLE_ARROWS", "IMPOSSIBLE_PAIRS", "RARE_ARROWS", "RARE_PAIRS"]

#: Arrows that the code takes only by way of another state.
IMPOSSIBLE_ARROWS: Mapping[Arrow, str] = {
    Arrow("scheduler", "FORGOTTEN", "arrives, inputs here", "READY"): (
        "it is WAITING for a moment, until its slice is counted"
    ),
    Arrow("scheduler", "ASSIGNED", "given back, inputs here", "READY"): (
        "it is WAITING for a moment, while its consumers are taken back with it"
    ),
    Arrow("scheduler", "FINISHED", "result lost, needed", "WAITING"): (
        "it is RELEASED for a moment, as all lost results are, before the needed ones are found"
    ),
    Arrow("scheduler", "RELEASED", "needed again, inputs here", "READY"): (
        "it is WAITING for a moment, until its inputs are counted"
    ),
    Arrow("node", "SENT", "skipped: an input held there is gone", "ABSENT"): (
        "it is WAITING for a moment, as all that goes back from a worker"
    ),
}


def _pairs(core: str, kind: str, states: Iterable[str], reason: str) -> dict[Pair, str]:
    return {Pair(core, kind, state): reason for state in states}


#: Messages that never find their tasks in such a state.
IMPOSSIBLE_PAIRS: Mapping[Pair, str] = {
    **_pairs(
        "node",
        "Free",
        ("WAITING", "READY", "SENT"),
        "the scheduler frees results of tasks that are assigned nowhere, and takes back what it "
        "has not said yet when it assigns one again",
    ),
    **_pairs(
        "scheduler",
        "Scattered",
        ("AHEAD", "READY", "ASSIGNED"),
        "data is not run: it is WAITING until somebody has put it somewhere",
    ),
    **_pairs(
        "scheduler",
        "Scattered",
        ("FAILED",),
        "data fails once its client is gone, who says nothing more",
    ),
    **_pairs(
        "client",
        "Unreachable",
        ("LOST",),
        "a client's own data is lost to it with the scheduler alone, who says nothing more",
    ),
}

_LATE = "an earlier attempt, at a node that was away, must end just after an input was lost again"
_GHOST = "a dropped attempt must still run where the task is assigned again"
_CROSS = "it must be on its way just while something else ends the task"
_AFTER_LOSS = "another client must have it run again, of which one was told that it is lost"

#: Arrows that a run of some thousand histories may miss.
RARE_ARROWS: Mapping[Arrow, str] = {
    Arrow("scheduler", "WAITING", "an earlier attempt finished", "FINISHED"): _LATE,
}

#: Messages in states that a run of some thousand histories may miss.
RARE_PAIRS: Mapping[Pair, str] = {
    **_pairs("scheduler", "Failed", ("WAITING", "AHEAD", "RELEASED"), _LATE),
    **_pairs("scheduler", "Finished", ("FAILED",), _LATE),
    **_pairs("scheduler", "Recalled", ("READY", "AHEAD", "CANCELLED", "FAILED"), _CROSS),
    **_pairs("scheduler", "Blocked", ("AHEAD", "FAILED", "CANCELLED", "RELEASED"), _CROSS),
    **_pairs("scheduler", "Copied", ("AHEAD", "READY", "FAILED", "CANCELLED"), _CROSS),
    **_pairs("scheduler", "Unreachable of a node", ("CANCELLED", "AHEAD"), _CROSS),
    **_pairs(
        "scheduler", "Unreachable of a client", ("FORGOTTEN", "RELEASED", "CANCELLED"), _CROSS
    ),
    **_pairs("scheduler", "Retry", ("AHEAD", "RELEASED", "CANCELLED"), _CROSS),
    **_pairs("scheduler", "Lost", ("CANCELLED", "AHEAD"), _CROSS),
    **_pairs("node", "Copy", ("WAITING", "READY", "SENT"), _LATE),
    **_pairs("node", "Failed", ("WAITING", "READY"), _GHOST),
    **_pairs("node", "Skipped", ("WAITING", "READY"), _GHOST),
    **_pairs("node", "Reserve", ("WAITING", "READY"), _GHOST),
    **_pairs("node", "Recalled", ("WAITING", "READY"), _GHOST),
    **_pairs("node", "Blocked", ("WAITING", "READY"), _GHOST),
    **_pairs("client", "Resolved", ("LOST",), _AFTER_LOSS),
    **_pairs("client", "announced", ("LOST",), _AFTER_LOSS),
    **_pairs("client", "Failed", ("LOST",), _AFTER_LOSS),
    **_pairs("client", "Stuck", ("LOST",), _AFTER_LOSS),
    **_pairs("client", "Stuck", ("ERROR", "CANCELLED"), _CROSS),
    **_pairs("client", "Unreachable", ("PENDING", "ANNOUNCED", "ERROR", "CANCELLED"), _CROSS),
}
