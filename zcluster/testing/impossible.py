"""What no history can see, each with the reason: the rest of the coverage is to be reached."""

from __future__ import annotations

from collections.abc import Mapping

from zcluster.testing.coverage import Arrow, Pair

__all__ = ["IMPOSSIBLE_ARROWS", "IMPOSSIBLE_PAIRS"]

#: Arrows that the code takes only by way of another state.
IMPOSSIBLE_ARROWS: Mapping[Arrow, str] = {
    Arrow("scheduler", "ASSIGNED", "given back, inputs here", "READY"): (
        "it is WAITING for a moment, while its consumers are taken back with it"
    ),
    Arrow("scheduler", "FINISHED", "result lost, needed", "WAITING"): (
        "it is RELEASED for a moment, as all lost results are, before the needed ones are found"
    ),
    Arrow("scheduler", "RELEASED", "needed again, inputs here", "READY"): (
        "it is WAITING for a moment, until its inputs are counted"
    ),
}

#: Messages that never find their tasks in such a state.
IMPOSSIBLE_PAIRS: Mapping[Pair, str] = {
    Pair("node", "Free", state): (
        "the scheduler frees results of tasks that are assigned nowhere, and takes back what it "
        "has not said yet when it assigns one again"
    )
    for state in ("WAITING", "READY", "SENT")
}
