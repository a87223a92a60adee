"""Assigned tasks, as a run in this process keeps them: one object each while they wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zcluster.graph.columns import row_width
from zcluster.graph.layers import HeldLayer
from zcluster.graph.selecting import parts_of
from zcluster.protocol.messages import Assign, NodeLayer
from zcluster.protocol.selections import Selection
from zcluster.types import Frames

__all__ = ["Job", "JobLayer", "grouped", "jobs_of"]


class JobLayer:
    """A layer as it was introduced to the node, with its callable once that was needed."""

    __slots__ = ("call", "function", "info", "is_plain", "may_run_again", "objects")

    def __init__(
        self, info: NodeLayer, may_run_again: bool, objects: Sequence[Any] | HeldLayer | None = None
    ) -> None:
        self.info = info
        #: Its calls, or values, where they are held as the objects they are.
        self.objects = objects
        self.call = info.call
        self.function: Callable[..., Any] | None = None
        #: Its tasks have retries: what they take must survive a failure.
        self.may_run_again = may_run_again
        #: Its tasks take listed inputs only, each as a whole.
        self.is_plain = not info.slots and not info.whole


class Job:
    """An assigned task that has not run; ``missing`` counts inputs that are not made."""

    __slots__ = ("attempt", "constant", "inputs", "layer", "missing", "rank", "selections", "task")

    def __init__(
        self,
        task: int,
        attempt: int,
        rank: int,
        layer: JobLayer,
        inputs: list[int],
        constant: bytes | None,
        selections: list[int] | None,
    ) -> None:
        self.task = task
        self.attempt = attempt
        self.rank = rank
        self.layer = layer
        self.inputs = inputs
        self.constant = constant
        self.selections = selections
        self.missing = 0

    def sources(self) -> list[int]:
        """Return the tasks whose results it takes, each as often as it does."""
        sources = list(self.inputs)
        for first, count in self.layer.info.whole:
            sources.extend(range(first, first + count))
        return sources

    def parts(self) -> list[Selection | None]:
        """Return what part it takes of each of its sources; None: all of it."""
        info = self.layer.info
        own = self.task - info.first
        counts = [count for _, count in info.whole]
        return parts_of(
            len(self.inputs), info.slots, counts, info.whole_slots, self.selections or (), own
        )

    def grouped(self, values: list[Any]) -> list[Any]:
        """Return the arguments: what it takes of whole layers is a list for each."""
        return grouped(values, len(self.inputs), [count for _, count in self.layer.info.whole])


def grouped(values: list[Any], arity: int, counts: Sequence[int]) -> list[Any]:
    """Return the arguments of a call: some values as they are, then some in lists.

    Examples
    --------
    >>> grouped([1, 2, 3, 4], 1, [2, 1])
    [1, [2, 3], [4]]
    """
    arguments = values[:arity]
    for count in counts:
        arguments.append(values[arity : arity + count])
        arity += count
    return arguments


def jobs_of(message: Assign, frames: Frames, layers: dict[int, JobLayer]) -> Iterator[Job]:
    """Yield the jobs of an assign message."""
    constants = bytes(frames[0]) if frames else b""
    tasks, attempts, orders, arities = (
        message.tasks,
        message.attempts,
        message.orders,
        message.arities,
    )
    offsets, inputs, selections = message.offsets, message.inputs, message.selections
    start = edge = row = 0
    for number, count in message.runs:
        layer = layers[number]
        base = layer.info.base
        stop = start + count
        for at in range(start, stop):
            arity = arities[at]
            table = None
            if not layer.is_plain:
                table = selections[
                    row : row + row_width(layer.info.slots, layer.info.whole_slots, arity)
                ]
                row += len(table)
            yield Job(
                tasks[at],
                attempts[at],
                base + orders[at],
                layer,
                inputs[edge : edge + arity] if arity else [],
                constants[offsets[at] : offsets[at + 1]] if offsets else None,
                table,
            )
            edge += arity
        start = stop
