"""Tasks that nobody can run: their user is told within seconds, or they fail.

Which of the two is said by the setting ``client.unrunnable``: ``"warn"`` or
``"raise"``.
"""

from __future__ import annotations

import logging

from zcluster import config
from zcluster.client.engine import Engine
from zcluster.protocol.messages import Stuck
from zcluster.types import Frames

__all__ = ["listen"]

_log = logging.getLogger("zcluster")


def listen(engine: Engine) -> None:
    """Have a client say what the scheduler says of tasks that nobody can run."""

    def on_stuck(message: Stuck, _: Frames) -> None:
        by_reason: dict[int, list[int]] = {}
        for task, which in zip(message.tasks, message.which, strict=True):
            by_reason.setdefault(which, []).append(task)
        for which, tasks in by_reason.items():
            reason = message.reasons[which]
            if config.get("client.unrunnable") == "raise":
                engine.give_up(tasks, reason)
            else:
                with engine.lock:
                    records = [engine.core.wanted.get(task) for task in tasks]
                labels = [record.label for record in records if record is not None]
                first = labels[0] if labels else "a task"
                more = f" and {len(tasks) - 1} more wait" if len(tasks) > 1 else " waits"
                _log.warning("%s%s: %s", first, more, reason)

    engine.listeners[Stuck] = on_stuck
