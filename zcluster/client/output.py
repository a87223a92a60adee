"""What tasks print, at the client: shown as it comes, and kept for `Future.log`.

The loop's thread hears it, keeps it and hands it to a printer: a thread of its own, since
writing to a terminal may block for as long as its user likes. A closed or broken terminal is
survived; the text is still kept.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import OrderedDict, deque
from typing import Any

from zcluster import config
from zcluster.config import format_bytes
from zcluster.protocol.messages import Output
from zcluster.types import Frames

__all__ = ["Log", "Printer", "TaskOutput"]

#: Bytes kept of what one task prints, and of all together.
_KEPT_OF_TASK, _KEPT = 64 << 10, 16 << 20
#: Bytes that may wait for a terminal that takes nothing.
_QUEUED = 4 << 20
#: Seconds between two counts of what was left out, for each worker.
_TELL_EVERY = 1.0
#: Seconds that a wait gives a slow terminal to show what tasks have printed.
_CATCH_UP = 0.1
#: Seconds without a line after which the printer's thread ends, until the next.
_IDLE = 5.0
_STDERR = 2

_log = logging.getLogger(__name__)


class Log:
    r"""What tasks have printed, by task: the last of each, and of the last ones.

    Examples
    --------
    >>> log = Log()
    >>> log.add(7, b"first\n")
    >>> log.add(7, b"second\n")
    >>> log.text(7)
    'first\nsecond\n'
    """

    def __init__(self, of_task: int = _KEPT_OF_TASK, in_all: int = _KEPT) -> None:
        self._of_task = of_task
        self._in_all = in_all
        self._texts: OrderedDict[int, bytearray] = OrderedDict()
        self._size = 0

    def add(self, task: int, data: bytes) -> None:
        """Keep a piece of text; what is oldest goes when there is too much."""
        text = self._texts.get(task)
        if text is None:
            text = self._texts[task] = bytearray()
        before = len(text)
        text += data
        del text[: max(0, len(text) - self._of_task)]
        self._size += len(text) - before
        while self._size > self._in_all:
            _, oldest = self._texts.popitem(last=False)
            self._size -= len(oldest)

    def text(self, task: int) -> str:
        """Return what is kept of a task's output."""
        return bytes(self._texts.get(task, b"")).decode("utf-8", "replace")


class Printer:
    """A thread that prints lines of workers, each of them whole.

    Parameters
    ----------
    rate : int
        Bytes a second of each worker, for the sentence about what was left out.
    prefix : bool
        Whether lines begin with the worker's name.
    """

    def __init__(self, rate: int, prefix: bool) -> None:
        self._rate = rate
        self._prefix = prefix
        self._changed = threading.Condition()
        self._queue: deque[tuple[str, int, str]] = deque()
        self._queued = 0
        #: Lines and bytes left out, by worker, and when each was last told.
        self._left_out: dict[str, list[int]] = {}
        self._told: dict[str, float] = {}
        self._is_ending = False
        #: Whether anything is in the queue or being printed.
        self._is_busy = False
        self._thread: threading.Thread | None = None

    def say(self, worker: str, stream: int, text: str) -> None:
        """Print the lines of a text soon; never waits."""
        with self._changed:
            if self._is_ending:
                return
            if self._queued + len(text) > _QUEUED:
                self._count(worker, text.count("\n"), len(text))
            else:
                self._queue.append((worker, stream, text))
                self._queued += len(text)
                self._is_busy = True
            self._wake()

    def leave_out(self, worker: str, lines: int, size: int) -> None:
        """Count what a worker did not send."""
        with self._changed:
            if not self._is_ending:
                self._count(worker, lines, size)
                self._wake()

    def catch_up(self) -> None:
        """Wait a moment until what was said so far is printed."""
        if self._is_busy and threading.current_thread() is not self._thread:
            with self._changed:
                self._changed.wait_for(lambda: not self._is_busy, _CATCH_UP)

    def close(self, seconds: float) -> None:
        """Print what is left and end, unless the terminal takes longer."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def _count(self, worker: str, lines: int, size: int) -> None:
        self._told.setdefault(worker, time.monotonic())
        counts = self._left_out.setdefault(worker, [0, 0])
        counts[0] += lines
        counts[1] += size

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="zcluster-output", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._is_ending:
                    wait = self._next_count()
                    if wait == 0.0:
                        break
                    if not self._changed.wait(_IDLE if wait is None else wait) and wait is None:
                        self._thread = None
                        return
                items, self._queue = self._queue, deque()
                self._queued = 0
                is_last = self._is_ending
                counted = self._take_counts(is_last)
            for worker, stream, text in items:
                self._print(stream, self._lines(worker, text))
            for worker, lines, size in counted:
                self._print(_STDERR, [self._sentence(worker, lines, size)])
            with self._changed:
                self._is_busy = bool(self._queue)
                self._changed.notify_all()
            if is_last:
                return

    def _next_count(self) -> float | None:
        """Seconds until something left out is to be told."""
        if not self._left_out:
            return None
        now = time.monotonic()
        return min(max(0.0, self._told[w] + _TELL_EVERY - now) for w in self._left_out)

    def _take_counts(self, is_last: bool) -> list[tuple[str, int, int]]:
        now = time.monotonic()
        taken = []
        for worker in list(self._left_out):
            if is_last or now - self._told[worker] >= _TELL_EVERY:
                lines, size = self._left_out.pop(worker)
                self._told[worker] = now
                taken.append((worker, lines, size))
        return taken

    def _lines(self, worker: str, text: str) -> list[str]:
        mark = f"[{worker}] " if self._prefix else ""
        # Of a line that is drawn again and again (a progress bar) its last form.
        return [
            mark + line.rstrip("\r").rpartition("\r")[2]
            for line in text.removesuffix("\n").split("\n")
        ]

    def _sentence(self, worker: str, lines: int, size: int) -> str:
        what = f"{lines:,} lines" if lines else format_bytes(size)
        return (
            f"[{worker}] … {what} left out (more than {format_bytes(self._rate)}/s); "
            "future.log() has what arrived"
        )

    def _print(self, stream: int, lines: list[str]) -> None:
        try:
            _write(sys.stderr if stream == _STDERR else sys.stdout, "\n".join(lines) + "\n")
        except Exception as error:  # closed, broken, or somebody else's idea of a file
            _log.debug("what tasks print cannot be shown: %r", error)


def _write(file: Any, text: str) -> None:
    """Write lines in one call, above a progress bar if one is drawn."""
    if file is None:  # a program without a terminal
        return
    encoding = getattr(file, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    bar = getattr(sys.modules.get("tqdm"), "tqdm", None)
    if bar is not None and getattr(bar, "_instances", None):
        with bar.external_write_mode(file=file):
            file.write(text)
    else:
        file.write(text)
    file.flush()


class TaskOutput:
    """What is heard of the tasks of one client.

    Attributes
    ----------
    log : Log
    printer : Printer
    is_shown : bool
        Whether the printer is told.
    """

    def __init__(self) -> None:
        self.log = Log()
        self.printer = Printer(config.get("output.rate"), config.get("output.prefix"))
        self.is_shown = bool(config.get("output.forward"))

    def hear(self, message: Output, frames: Frames) -> None:
        """Take in what a worker says; in the loop's thread."""
        data = memoryview(frames[0]) if frames else memoryview(b"")
        stop = 0
        for task, stream, length in zip(
            message.tasks, message.streams, message.lengths, strict=False
        ):
            start, stop = stop, stop + length
            piece = bytes(data[start:stop])
            self.log.add(task, piece)
            if self.is_shown and piece:
                self.printer.say(message.worker, stream, piece.decode("utf-8", "replace"))
        if self.is_shown and message.dropped:
            self.printer.leave_out(message.worker, message.dropped_lines, message.dropped)
