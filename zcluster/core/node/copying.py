"""Copies that the scheduler wants here: fetched, and kept until it says `Free`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcluster.core.node.records import FetchOrder, Result
from zcluster.protocol.messages import Copied, Copy

if TYPE_CHECKING:
    from zcluster.core.node.inputs import NodeInputs

__all__ = ["copy", "keep", "miss"]


def copy(core: NodeInputs, message: Copy) -> None:
    """Fetch what is not here, unless it is on its way."""
    here: list[int] = []
    failed: list[int] = []
    for task, size, nodes in message.places:
        result = core.results.get(task)
        if result is not None and result.worker < 0 and not result.borrowed:
            # Fetched for tasks here, and from now on this node's own.
            result.lent = False
            core.passing.discard(task)
            here.append(task)
        elif result is not None or task in core.tasks:
            failed.append(task)
        elif task not in core.copying:
            core.copying.add(task)
            if task not in core.awaited:
                core.effects.to_fetch.append(FetchOrder(task, task, 0, [], size, nodes))
    if here or failed:
        core.effects.to_scheduler.append((Copied(here, failed), ()))


def keep(core: NodeInputs, task: int, result: Result) -> None:
    """Keep a result that was fetched as a copy, and wake tasks that wait for it."""
    core.copying.discard(task)
    result.lent = False
    core.passing.discard(task)
    core.effects.to_scheduler.append((Copied([task], []), ()))
    core.arrived(task, result)


def miss(core: NodeInputs, task: int) -> None:
    """Say that a copy could not be had."""
    core.copying.discard(task)
    core.effects.to_scheduler.append((Copied([], [task]), ()))
