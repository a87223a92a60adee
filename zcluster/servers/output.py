"""What tasks print, on its way to whoever submitted them.

In a worker ``sys.stdout`` and ``sys.stderr`` are a `TaskStream` each. It knows the slot that
writes and so the task: what a task prints, logs or warns of is gathered by whole lines and
leaves with the worker's other messages, before the result of the task. Text of threads that
belong to no slot, and of forked children, goes where it would have gone: into the pipes that
the nanny reads.

A worker says no more than its rate, counted here, so that a task that floods its output costs
the wire nothing. What is left out is counted and told now and then, at the latest when the
task ends.

The last few KiB of each slot are also kept in the status page: there without a system call, they
survive ``kill -9``, and the nanny puts them into the error that names what killed the worker.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TextIO

from zcluster.protocol.messages import Message
from zcluster.protocol.messages import Output as OutputMessage
from zcluster.servers.status import LINE, TAIL, TASK, StatusPage

__all__ = ["STDERR", "STDOUT", "Output", "SlotOutput", "TaskStream"]

STDOUT, STDERR = 1, 2

#: Bytes of one piece: a line that is longer is cut into several.
_PIECE = 8 << 10
#: Bytes of one message.
_MESSAGE = 1 << 20
#: Seconds between two counts of what was left out, while the task runs.
_TELL_EVERY = 0.1
#: The key of `SlotOutput.unfinished` that says that something was left out.
_LEFT_OUT = 0


class SlotOutput:
    """What one slot is printing: the lines that it has not ended yet.

    Attributes
    ----------
    unfinished : dict of int to list of str
        By stream. The slot looks at it after each task: if it is not empty, it calls `end_task`.
    """

    __slots__ = ("_output", "_slot", "_status", "_stream", "_task", "_where", "unfinished")

    def __init__(self, output: Output, status: StatusPage, slot: int) -> None:
        self._output = output
        self._status = status
        self._slot = slot
        self._where = slot * LINE + TASK
        self._task = -1
        self._stream = STDOUT
        self.unfinished: dict[int, list[str]] = {}

    def enter(self) -> None:
        """Have what this thread prints count for this slot's tasks."""
        _slot.set(self)

    def write(self, stream: int, text: str) -> bool:
        """Take a piece of text; False if the slot runs no task at the moment."""
        task = self._status.cells[self._where]
        if task < 0:
            return False
        with self._output.lock:
            self._keep_tail(stream, text)
            if task != self._task:
                self._end_lines()
                self._task = task
            begun = self.unfinished.get(stream)
            head, newline, rest = text.rpartition("\n")
            if newline:
                if begun is not None:
                    head = "".join(begun) + head
                    del self.unfinished[stream]
                    begun = None
                if not self._output.add(task, stream, head + "\n"):
                    self.unfinished[_LEFT_OUT] = []
            if rest:
                if begun is None:
                    begun = self.unfinished[stream] = []
                begun.append(rest)
                if len(rest) > _PIECE or len(begun) > _PIECE:
                    self._end_lines()
        return True

    def _keep_tail(self, stream: int, text: str) -> None:
        # What does not fit is not encoded: it may be long.
        data = text[-TAIL:].encode("utf-8", "backslashreplace")
        if stream != self._stream:
            if self._stream in self.unfinished:
                data = b"\n" + data
            self._stream = stream
        self._status.add_tail(self._slot, data)

    def end_task(self) -> None:
        """Pass on lines without an end: the task that began them has ended."""
        with self._output.lock:
            self._end_lines()
            self._output.tell_now()

    def _end_lines(self) -> None:
        self.unfinished.pop(_LEFT_OUT, None)
        for stream, begun in self.unfinished.items():
            self._output.add(self._task, stream, "".join(begun))
        self.unfinished.clear()


#: Of the thread that writes; copied contexts (of asyncio, say) carry it along.
_slot: ContextVar[SlotOutput | None] = ContextVar("zcluster_slot_output", default=None)


class Output:
    """The output of the tasks of one worker.

    Parameters
    ----------
    worker : str
        The worker's name.
    status : StatusPage
        Says which task a slot runs, and keeps the last lines.
    rate : int
        Bytes a second that may leave; as many may leave at once.
    now : callable
        The monotonic time in seconds.

    Attributes
    ----------
    lock : threading.Lock
        Held by whoever calls `add`.
    pid : int
        Of the process whose output this is: a forked child is another.
    """

    def __init__(
        self,
        worker: str,
        status: StatusPage,
        rate: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lock = threading.Lock()
        self.pid = os.getpid()
        self._worker = worker
        self._status = status
        self._rate = max(1, rate)
        self._now = now
        self._allowed = float(self._rate)
        self._allowed_at = now()
        self._pieces: deque[tuple[int, int, bytes]] = deque()
        self._dropped_bytes = 0
        self._dropped_lines = 0
        self._dropped_of = (-1, STDOUT)
        self._told_at = now()
        self._streams: tuple[Any, Any] | None = None

    def slot(self, number: int) -> SlotOutput:
        """Return what a slot's thread prints through."""
        return SlotOutput(self, self._status, number)

    def install(self) -> None:
        """Put the streams in place, again if a task has put others there."""
        if self._streams is None:
            self._streams = (
                TaskStream(self, STDOUT, sys.stdout),
                TaskStream(self, STDERR, sys.stderr),
            )
        sys.stdout, sys.stderr = self._streams

    def add(self, task: int, stream: int, text: str) -> bool:
        """Take whole lines of a task, or the end of one; False if some are left out.

        The caller holds `lock`.
        """
        data = text.encode("utf-8", "backslashreplace")
        now = self._now()
        self._allowed = min(
            float(self._rate), self._allowed + (now - self._allowed_at) * self._rate
        )
        self._allowed_at = now
        if len(data) <= self._allowed and len(data) <= _PIECE:
            self._allowed -= len(data)
            self._pieces.append((task, stream, data))
            return True
        before = self._dropped_bytes
        for line in data.splitlines(keepends=True):
            for start in range(0, len(line), _PIECE):
                self._add_piece(task, stream, line[start : start + _PIECE])
        return self._dropped_bytes == before

    def tell_now(self) -> None:
        """Have what was left out told the next time."""
        self._told_at = float("-inf")

    def _add_piece(self, task: int, stream: int, data: bytes) -> None:
        # A piece larger than the rate is let pass alone, or it could never leave.
        if len(data) <= self._allowed or self._allowed >= self._rate:
            self._allowed -= len(data)
            self._pieces.append((task, stream, data))
        else:
            self._dropped_bytes += len(data)
            self._dropped_lines += data.endswith(b"\n")
            self._dropped_of = (task, stream)

    # --------------------------------------------------------------- the loop

    def take(self) -> list[tuple[Message, list[bytes]]]:
        """Return messages of what was printed since the last time."""
        messages: list[tuple[Message, list[bytes]]] = []
        if not self._pieces and not self._dropped_bytes:
            return messages
        with self.lock:
            pieces, self._pieces = self._pieces, deque()
            dropped = lines = 0
            if self._dropped_bytes and self._now() - self._told_at >= _TELL_EVERY:
                dropped, self._dropped_bytes = self._dropped_bytes, 0
                lines, self._dropped_lines = self._dropped_lines, 0
                self._told_at = self._now()
        while pieces:
            messages.append(self._message(pieces))
        if dropped:
            task, stream = self._dropped_of
            empty = OutputMessage(self._worker, [task], [stream], [0], dropped, lines)
            messages.append((empty, []))
        return messages

    def _message(self, pieces: deque[tuple[int, int, bytes]]) -> tuple[Message, list[bytes]]:
        tasks: list[int] = []
        streams: list[int] = []
        lengths: list[int] = []
        joined: list[bytes] = []
        size = 0
        while pieces and size < _MESSAGE:
            task, stream, data = pieces.popleft()
            if tasks and tasks[-1] == task and streams[-1] == stream:
                lengths[-1] += len(data)
            else:
                tasks.append(task)
                streams.append(stream)
                lengths.append(len(data))
            joined.append(data)
            size += len(data)
        return OutputMessage(self._worker, tasks, streams, lengths), [b"".join(joined)]


class TaskStream(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr`` in a worker.

    What is not text of a task (`fileno`, `buffer`, bytes, other threads) is the process's own
    stream. Closing it does nothing: other tasks print too.
    """

    def __init__(self, output: Output, stream: int, own: TextIO) -> None:
        self._output = output
        self._stream = stream
        self._own = own

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        slot = _slot.get()
        if slot is None or os.getpid() != self._output.pid or not slot.write(self._stream, text):
            return self._own.write(text)
        return len(text)

    def flush(self) -> None:
        self._own.flush()

    def close(self) -> None:
        # Its own end calls this too, perhaps after that of the stream it writes to.
        if not self._own.closed:
            self.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._own.fileno()

    def isatty(self) -> bool:
        return False

    def reconfigure(self, **_: Any) -> None:
        """Do nothing: lines leave whole, and in UTF-8."""

    @property
    def name(self) -> str:
        return str(self._own.name)

    @property
    def mode(self) -> str:
        return "w"

    @property
    def buffer(self) -> Any:
        return self._own.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"
