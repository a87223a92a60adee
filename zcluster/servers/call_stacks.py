"""Where the tasks of a worker are at this moment."""

from __future__ import annotations

import sys
import traceback
from types import FrameType

from zcluster.servers.slots import Slot

__all__ = ["call_stacks"]


def call_stacks(worker: str) -> dict[int, list[str]]:
    """Return the frames of each task that a worker runs, as text, the outermost first.

    There are none where the task's function is not written in Python.

    Parameters
    ----------
    worker : str
        Its name: a process may have several.
    """
    found: dict[int, list[str]] = {}
    for frame in list(sys._current_frames().values()):
        inner: list[FrameType] = []
        at: FrameType | None = frame
        while at is not None and at.f_code is not Slot.run_tasks.__code__:
            inner.append(at)
            at = at.f_back
        if at is None:
            continue
        slot = at.f_locals["self"]
        if slot._tools.worker == worker and slot.task >= 0:
            found[slot.task] = _lines(inner[::-1])
    return found


def _lines(frames: list[FrameType]) -> list[str]:
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames)
    return [line.rstrip("\n") for line in summary.format()]
