"""The template: a warm process that workers are forked from.

Starting Python and importing what a worker needs takes a tenth of a second; forking a
process that has done both takes a millisecond. So each nanny starts one template
(``python -m zcluster.servers.template FD PARENT``), which imports, and then does what
it is told through descriptor FD: fork a worker, send a signal to one. It reports each
start and each end.

Forking is safe because nothing here has a thread: no ZeroMQ context exists before the
fork, NumPy (whose libraries start threads) is not imported, and user code never runs
here.

Who ends whom
-------------
- The nanny's end is seen as the end of file on FD, or by the system's signal on the
  parent's death. The workers are killed and the template exits.
- The template's end takes the workers with it by that same signal, and the nanny sees
  its end of FD close.
- A worker has a session and process group of its own, so that processes which tasks
  have started are killed with it. Ctrl-C in a terminal reaches none of them.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import io
import os
import select
import signal
import socket
import sys
import traceback
import types
from typing import NoReturn

import cloudpickle  # noqa: F401  # not used here: it comes along to the workers
import tblib.pickling_support  # noqa: F401  # the same

from zcluster.servers import posix
from zcluster.servers.forking import (
    DESCRIPTORS,
    RECORD_LIMIT,
    Ended,
    Fork,
    Forked,
    NotForked,
    TemplateEvent,
    WorkerSettings,
    record_encoder,
    request_decoder,
)
from zcluster.servers.worker import run_worker

__all__ = ["main"]

#: How much likelier than the nanny a worker is to be chosen when memory runs out.
_OOM_POINTS = 500
#: What the template exits with when the nanny is gone.
_EXIT_NANNY_GONE = 76


class _Template:
    """The serving end of the pair of sockets."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, WorkerSettings] = {}
        self._signal_read, self._signal_write = os.pipe()
        os.set_blocking(self._signal_read, False)
        os.set_blocking(self._signal_write, False)
        # The handler only makes the signal be noticed; the pipe ends the poll.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._signal_write, warn_on_full_buffer=False)

    def serve(self) -> NoReturn:
        """Do what the nanny says until it is gone."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._signal_read, select.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._signal_read in ready:
                os.read(self._signal_read, 4096)
                self._reap()
            if self._control.fileno() in ready:
                self._receive()

    def _receive(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, RECORD_LIMIT, len(DESCRIPTORS))
        except ConnectionError:
            data, fds = b"", []
        if not data:
            self._end()
        request = request_decoder.decode(data)
        if isinstance(request, Fork):
            self._fork(request.settings, fds)
        elif request.pid in self._children:
            # Not reaped, so the pid is still this worker's. The group too: a task may have
            # started processes.
            _kill_group(request.pid, request.signal)

    def _fork(self, settings: WorkerSettings, fds: list[int]) -> None:
        parent = os.getpid()
        event: TemplateEvent
        try:
            pid = os.fork()
        except OSError as error:
            reason = f"the system refused another process: {error.strerror}"
            event = NotForked(settings.number, settings.incarnation, reason)
        else:
            if pid == 0:
                self._be_worker(settings, fds, parent)
            self._children[pid] = settings
            event = Forked(settings.number, settings.incarnation, pid)
        for fd in fds:
            os.close(fd)
        self._report(event)

    def _be_worker(self, settings: WorkerSettings, fds: list[int], parent: int) -> NoReturn:
        code = 1
        try:
            posix.die_with_parent(parent)
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (self._control.detach(), self._signal_read, self._signal_write):
                os.close(fd)
            stdout, stderr, status = fds
            _take_over(stdout, stderr)
            posix.offer_to_oom_killer(_OOM_POINTS)
            posix.share_one_heap()
            gc.enable()
            # Code of the user may look into __main__, and must not find the template there.
            sys.modules["__main__"] = types.ModuleType("__main__")
            code = run_worker(settings, status)
        except BaseException:  # a bug of ours, or an unreachable nanny: said in the output
            traceback.print_exc()
        finally:
            _leave(code)

    def _reap(self) -> None:
        while True:
            # Looked at first and reaped after its group is killed: until then no other
            # process can get its number.
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            pid = found.si_pid
            _kill_group(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            settings = self._children.pop(pid, None)
            if settings is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            peak = posix.peak_rss_bytes(usage.ru_maxrss)
            self._report(Ended(settings.number, settings.incarnation, pid, code, peak))

    def _report(self, event: TemplateEvent) -> None:
        try:
            self._control.send(record_encoder.encode(event))
        except ConnectionError:
            self._end()

    def _end(self) -> NoReturn:
        for pid in self._children:
            _kill_group(pid, signal.SIGKILL)
        os._exit(_EXIT_NANNY_GONE)


def _kill_group(pid: int, number: int) -> None:
    """Signal a worker and the processes that its tasks have started."""
    for send in (os.killpg, os.kill):  # it may not have made its group yet
        try:
            send(pid, number)
        except ProcessLookupError:
            continue
        return


def _take_over(stdout: int, stderr: int) -> None:
    """Make two pipes this process's output, flushed at each line."""
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    # The thread at fault alone: the others are ours, or run other tasks.
    faulthandler.enable(sys.stderr, all_threads=False)


def _leave(code: int) -> NoReturn:
    """End a worker: what user code registered is run, the template's own end is not."""
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # Threads of the user's, daemons or not, must not keep a worker that was told to stop.
        os._exit(code)


def main(arguments: list[str]) -> NoReturn:
    """Be a template: ``arguments`` are the descriptor to serve and the parent's pid."""
    fd, parent = int(arguments[0]), int(arguments[1])
    posix.die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What exists now lives as long as the process; looking through it would copy the
    # pages that the workers share.
    gc.disable()
    gc.freeze()
    _Template(socket.socket(fileno=fd)).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
