"""Results on their way to the scheduler, gathered into few messages."""

from __future__ import annotations

from zcluster.core.node.records import Result
from zcluster.protocol.messages import Finished, Message
from zcluster.types import Frames

__all__ = ["Reports"]

#: Bytes of small results in one message: the scheduler has one in its hands at a time, and
#: answers others between two.
_MESSAGE_BYTES = 1 << 20


class Reports:
    """Columns of a `Finished` message in the making."""

    __slots__ = ("_attempts", "_blobs", "_durations", "_lengths", "_sizes", "_tasks", "_workers")

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._tasks: list[int] = []
        self._attempts: list[int] = []
        self._lengths: list[int] = []
        self._sizes: list[int] = []
        self._workers: list[int] = []
        self._blobs: list[bytes] = []
        self._durations: dict[bytes, list[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def _add(self, task: int, attempt: int, length: int, size: int, worker: int) -> None:
        self._tasks.append(task)
        self._attempts.append(attempt)
        self._lengths.append(length)
        self._sizes.append(size)
        self._workers.append(worker)

    def inline(self, task: int, attempt: int, blob: bytes, worker: int) -> None:
        """A small result, which travels in the report."""
        self._blobs.append(blob)
        self._add(task, attempt, len(blob), len(blob), worker)

    def stored(self, task: int, attempt: int, size: int, worker: int) -> None:
        """A result in the node's store."""
        self._add(task, attempt, -1, size, worker)

    def passed(self, task: int, attempt: int, size: int, worker: int) -> None:
        """A result that only tasks of this node needed."""
        self._add(task, attempt, -2, size, worker)

    def held(self, task: int, attempt: int, worker: int) -> None:
        """A result that lives in a worker's heap."""
        self._add(task, attempt, -3, 0, worker)

    def again(self, task: int, attempt: int, result: Result) -> None:
        """A result that was here already when its task was assigned again."""
        if result.blob is not None:
            self.inline(task, attempt, result.blob, -1)
        elif result.worker >= 0:
            self.held(task, attempt, result.worker)
        else:
            self.stored(task, attempt, result.size, -1)

    def duration(self, digest: bytes, runs: int, microseconds: int) -> None:
        """Time that runs of a callable took together."""
        known = self._durations.get(digest)
        if known is None:
            self._durations[digest] = [runs, microseconds]
        else:
            known[0] += runs
            known[1] += microseconds

    def take(self) -> list[tuple[Message, Frames]]:
        """Return messages of what was gathered, and start anew."""
        messages: list[tuple[Message, Frames]] = []
        durations = [(digest, runs, spent) for digest, (runs, spent) in self._durations.items()]
        blobs = iter(self._blobs)
        start, size = 0, 0
        joined: list[bytes] = []
        for place, length in enumerate(self._lengths):
            if length >= 0:
                joined.append(next(blobs))
                size += length
            if size < _MESSAGE_BYTES and place + 1 < len(self._lengths):
                continue
            part = slice(start, place + 1)
            message = Finished(
                self._tasks[part],
                self._attempts[part],
                self._lengths[part],
                self._sizes[part],
                self._workers[part],
                durations,
            )
            messages.append((message, [b"".join(joined)] if joined else []))
            start, size, joined, durations = place + 1, 0, [], []
        self._clear()
        return messages
