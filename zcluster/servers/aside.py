"""Calls beside the scheduler: each in a process of its own, on the scheduler's host.

The scheduler never runs code of the user and never unpickles. So it starts a process for
a call, gives it the bytes, and passes the answer on as bytes. The loop never waits for
it: what goes in is a file in memory, what comes out a pipe. The process gets so long and
no longer, and ends with the scheduler.

What the process writes to its pipe: two lengths of eight bytes, of the error (a msgpack
`ErrorInfo`, or nil) and of the payload; then those.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from zcluster.protocol.messages import Called, ErrorInfo
from zcluster.servers.posix import anonymous_memory
from zcluster.transport.loop import Loop, Timer
from zcluster.types import Buffer

__all__ = ["HEAD", "SECONDS", "Aside"]

#: Seconds a call may take.
SECONDS = 300.0
#: Processes at a time; further calls wait.
_MOST = 4
#: Bytes of an answer: what a direct call may give, and a traceback.
_ANSWER_LIMIT = 34 << 20

#: The lengths before an answer's error and payload.
HEAD = struct.Struct("<QQ")
_MODULE = "zcluster.servers.aside_process"
_error_decoder = msgspec.msgpack.Decoder[ErrorInfo | None](ErrorInfo | None)


class _Process:
    """One call under way."""

    def __init__(self, number: int, process: subprocess.Popen[bytes], fd: int) -> None:
        self.number = number
        self.process = process
        self.fd = fd
        self.data = bytearray()
        self.timer: Timer | None = None


class Aside:
    """The processes beside a scheduler.

    Parameters
    ----------
    loop : Loop
    on_done : callable
        Takes a `Called`, which names the call's number, and its payload frames.
    seconds : float
        That a call may take.
    """

    def __init__(
        self,
        loop: Loop,
        on_done: Callable[[Called, list[bytes]], None],
        seconds: float = SECONDS,
    ) -> None:
        self._loop = loop
        self._on_done = on_done
        self._seconds = seconds
        self._running: set[_Process] = set()
        self._waiting: deque[tuple[int, Sequence[Buffer]]] = deque()

    def start(self, number: int, frames: Sequence[Buffer]) -> None:
        """Have a call made, now or when another has ended."""
        self._waiting.append((number, frames))
        self._start_next()

    def _start_next(self) -> None:
        while self._waiting and len(self._running) < _MOST:
            number, frames = self._waiting.popleft()
            try:
                running = self._open(number, frames)
            except OSError as error:
                text = f"the system refused a process beside the scheduler: {error.strerror}"
                self._on_done(Called(number, _killed(text)), [])
                continue
            self._running.add(running)
            self._loop.add_fd(running.fd, lambda r=running: self._read(r))  # type: ignore[misc]
            text = f"the call beside the scheduler took more than {self._seconds:g} s"
            running.timer = self._loop.call_later(
                self._seconds,
                lambda r=running, t=text: self._end(r, t),  # type: ignore[misc]
            )

    @staticmethod
    def _open(number: int, frames: Sequence[Buffer]) -> _Process:
        data = b"".join(HEAD.pack(len(frame), 0) + bytes(frame) for frame in frames)
        memory = anonymous_memory("zc-aside", 0)
        out_read, out_write = os.pipe()
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(data)
            os.lseek(memory, 0, os.SEEK_SET)
            process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(os.getpid())],
                stdin=memory,
                stdout=out_write,
                start_new_session=True,
            )
        except BaseException:
            os.close(out_read)
            raise
        finally:
            os.close(out_write)
            os.close(memory)
        os.set_blocking(out_read, False)
        return _Process(number, process, out_read)

    def _read(self, running: _Process) -> None:
        try:
            data = os.read(running.fd, 1 << 20)
        except BlockingIOError:
            return
        running.data += data
        answer = running.data
        if len(answer) >= HEAD.size:
            first, second = HEAD.unpack_from(answer)
            if first + second > _ANSWER_LIMIT:
                self._end(running, f"the call beside the scheduler gave {second} bytes")
                return
            if len(answer) >= HEAD.size + first + second:
                self._end(running, "")
                return
        if not data:
            self._end(running, "the process beside the scheduler ended during the call")

    def _end(self, running: _Process, failure: str) -> None:
        self._close(running)
        called, frames = self._answer(running, failure)
        self._on_done(called, frames)
        self._start_next()
        self._loop.wake()

    def _answer(self, running: _Process, failure: str) -> tuple[Called, list[bytes]]:
        if failure:
            code = running.process.returncode
            ended = f" (status {code})" if code != -signal.SIGKILL else ""
            return Called(running.number, _killed(failure + ended)), []
        first, second = HEAD.unpack_from(running.data)
        at = HEAD.size + first
        try:
            error = _error_decoder.decode(running.data[HEAD.size : at])
        except msgspec.DecodeError:
            error = _killed("the process beside the scheduler answered nonsense")
        return Called(running.number, error), [bytes(running.data[at : at + second])]

    def _close(self, running: _Process) -> None:
        self._running.discard(running)
        self._loop.remove(running.fd)
        os.close(running.fd)
        if running.timer is not None:
            running.timer.cancel()
        if running.process.poll() is None:
            try:
                os.killpg(running.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                running.process.kill()
        running.process.wait()

    def close(self) -> None:
        """End all processes."""
        self._waiting.clear()
        for running in list(self._running):
            self._close(running)


def _killed(text: str) -> ErrorInfo:
    return ErrorInfo("killed", "zcluster.errors.WorkerKilledError", text, "", -1, 0, "", "")
