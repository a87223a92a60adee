"""Whether a message keeps its own promises, seen before anything of it is taken in.

Its types were checked on arrival. That its columns fit together, and that its numbers are ones
that can be counted with, is checked here: once a handler has begun, half of a message would stay.
What only the state can tell (is there such a task, is it there) is no error, and is the handlers'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zcluster.errors import ProtocolError
from zcluster.protocol.messages import (
    Failed,
    Finished,
    Message,
    Output,
    Recalled,
    Scattered,
    Submit,
    WorkerInfo,
    Workers,
)
from zcluster.types import Frames

__all__ = ["check_message", "check_workers"]

#: What fits a column, with room to add a few.
_MOST = 1 << 62
#: The least a length may be; below zero they say where a result is (see `Finished`).
_LEAST_LENGTH = -3


def check_message(message: Message, frames: Frames) -> None:
    """Raise if a message contradicts itself.

    Raises
    ------
    ProtocolError
        If it does; it says what and where.

    Examples
    --------
    >>> check_message(Recalled([1, 2], [1, 1]), [])
    >>> check_message(Recalled([1, 2], [1]), [])
    Traceback (most recent call last):
    zcluster.errors.ProtocolError: recalled: columns of 2 and 1 entries, expected equal ones [Z006]
    """
    found = _CHECKS.get(type(message))
    if found is not None:
        found(message, frames)


def check_workers(workers: Sequence[WorkerInfo]) -> None:
    """Raise if workers of a node cannot be told apart, or have less than nothing.

    Raises
    ------
    ProtocolError
        If so.
    """
    if len({worker.number for worker in workers}) != len(workers):
        raise ProtocolError(f"workers: two of {len(workers)} have one number")
    for worker in workers:
        _natural("workers", "slots", [worker.slots])
        if not all(0 <= amount < _MOST for amount in worker.resources.values()):
            raise ProtocolError(
                f"workers: {worker.name!r} has {worker.resources}, expected amounts from 0 on"
            )


def _same_length(kind: str, *columns: Sequence[Any]) -> None:
    if len(set(map(len, columns))) != 1:
        lengths = " and ".join(str(len(column)) for column in columns)
        raise ProtocolError(f"{kind}: columns of {lengths} entries, expected equal ones")


def _natural(kind: str, name: str, column: Sequence[int], least: int = 0) -> None:
    if column and not (min(column) >= least and max(column) < _MOST):
        raise ProtocolError(
            f"{kind}: {name} from {min(column)} to {max(column)}, expected {least} to {_MOST}"
        )


def _lengths(kind: str, lengths: Sequence[int], frames: Frames, least: int = 0) -> int:
    """Check the lengths that cut the first frame; return their sum."""
    _natural(kind, "lengths", lengths, least)
    total = sum(length for length in lengths if length > 0)
    brought = len(frames[0]) if frames else 0
    if total > brought:
        raise ProtocolError(f"{kind}: promises {total} bytes and brings {brought}")
    return total


def _finished(message: Finished, frames: Frames) -> None:
    _same_length("finished", message.tasks, message.attempts, message.lengths, message.sizes)
    _natural("finished", "tasks", message.tasks)
    _natural("finished", "sizes", message.sizes)
    _lengths("finished", message.lengths, frames, _LEAST_LENGTH)
    for _, runs, microseconds in message.durations:
        _natural("finished", "durations", [runs, microseconds])


def _failed(message: Failed, frames: Frames) -> None:
    _same_length("failed", message.tasks, message.attempts, message.which)
    if not all(0 <= which < len(message.errors) for which in message.which):
        raise ProtocolError(
            f"failed: names errors {sorted(set(message.which))} of {len(message.errors)}"
        )


def _recalled(message: Recalled, frames: Frames) -> None:
    _same_length("recalled", message.tasks, message.attempts)


def _scattered(message: Scattered, frames: Frames) -> None:
    _same_length("scattered", message.tasks, message.nodes, message.sizes)
    _natural("scattered", "sizes", message.sizes)


def _output(message: Output, frames: Frames) -> None:
    _same_length("output", message.tasks, message.streams, message.lengths)
    total = _lengths("output", message.lengths, frames)
    if total != sum(map(len, frames)):
        raise ProtocolError(f"output: promises {total} bytes and brings {sum(map(len, frames))}")


def _submit(message: Submit, frames: Frames) -> None:
    if message.count < 0:
        raise ProtocolError(f"submit: brings {message.count} tasks")
    _natural("submit", "imports", message.imports)
    end = 0
    for first, count in sorted(message.outputs):
        if first < end or count < 0:
            raise ProtocolError(f"submit: outputs {message.outputs[:10]} overlap")
        end = first + count
    for layer in message.layers:
        _natural(f"layer {layer.name!r}", "first and count", [layer.first, layer.count])
        if layer.shape and min(layer.shape) < 1:
            raise ProtocolError(f"layer {layer.name!r}: a shape of {layer.shape}")


def _workers(message: Workers, frames: Frames) -> None:
    check_workers(message.workers)


_CHECKS: dict[type[Message], Callable[[Any, Frames], None]] = {
    Finished: _finished,
    Failed: _failed,
    Recalled: _recalled,
    Scattered: _scattered,
    Output: _output,
    Submit: _submit,
    Workers: _workers,
}
