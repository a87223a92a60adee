"""Starts a scheduler and a nanny, watches them, and ends them: one thread does it all.

Everything with an effect outside (the scratch folder, the processes, their end)
happens on the supervisor's thread. Python delivers Ctrl-C to the main thread only,
so none of it can be cut in the middle, whatever the caller was doing; and on Linux a
child may be told to die with the thread that started it, so that thread has to live
as long. Callers set a flag and write to a pipe, which is safe from a finaliser too.

What it does when one of the two ends without being asked:

========= =============================================================
scheduler nothing is started again (its tasks are gone, and clients see
          ``SchedulerLost``); the nanny is stopped, the folder removed
nanny     it is started again, after 0.1 s, then 0.2 s, … up to 30 s;
          not if it ended by itself with status 0: then it was retired;
          nor with status 2: what it was told cannot be meant, and another
          would end as it did, so the scheduler is stopped and it is said
========= =============================================================
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

from zcluster.config import Settings
from zcluster.errors import ClusterError, SchedulerLost, StartError, ZClusterError
from zcluster.launching import Command, Handle, Launcher
from zcluster.transport.scratch import Scratch, remove_tree, sweep

__all__ = ["Supervisor"]

_log = logging.getLogger("zcluster.cluster")

#: Exit status of a command that cannot do what it was told, ever (see `zcluster.cli.common`).
_USAGE = 2

#: Those whose thread runs; what an exiting interpreter has to wait for.
_live: set[Supervisor] = set()
_hooks_installed = False


class Supervisor:
    """Runs a scheduler and, if asked for, a nanny.

    Parameters
    ----------
    launcher : Launcher
        Used on the supervisor's thread.
    scheduler : callable
        From the cluster's scratch folder to the scheduler's command.
    nanny : callable or None
        From the scratch folder and a fresh folder's path for this nanny to its command.
    settings : Settings

    Attributes
    ----------
    failure : ClusterError or None
        Why the cluster ended without being asked.
    scratch : Scratch or None
        The cluster's folder, known once `start` has returned.
    """

    def __init__(
        self,
        launcher: Launcher,
        scheduler: Callable[[Path], Command],
        nanny: Callable[[Path, Path], Command] | None,
        settings: Settings,
    ) -> None:
        self.failure: ZClusterError | None = None
        self.scratch: Scratch | None = None
        self._launcher = launcher
        self._scheduler_command = scheduler
        self._nanny_command = nanny
        self._settings = settings
        self._scheduler: Handle | None = None
        self._nanny: Handle | None = None
        self._nanny_folder: Path | None = None
        self._nannies = 0  # started so far
        self._nanny_due: float | None = None  # when to start the next one
        self._nanny_started = 0.0
        self._wait = settings.restart_first
        self._stop = False
        self._process = os.getpid()
        self._prepared = threading.Event()
        self._stopped = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        #: Nobody writes to the pipe while it is closed. A thread may be interrupted with it by
        #: a finaliser or a signal handler that asks for the end, so it can be taken twice.
        self._pipe_lock = threading.RLock()
        self._thread = threading.Thread(target=self._run, name="zcluster-cluster", daemon=True)

    # -------------------------------------------------------------------- callers

    def start(self) -> Scratch:
        """Start the thread; return when the folder is made and processes are being started.

        Raises
        ------
        ZClusterError
            If the folder cannot be made.
        """
        _install_hooks()
        _live.add(self)
        self._thread.start()
        self._prepared.wait(self._settings.start_timeout)
        if self.scratch is None:
            self._stopped.wait(self._settings.start_timeout)
            raise self.failure or StartError(
                f"the cluster's thread did not start within {self._settings.start_timeout:g} s"
            )
        return self.scratch

    def request_stop(self) -> None:
        """Ask for the end; returns at once, from any thread, finaliser or signal handler."""
        if self._process == os.getpid() and not self._stop:
            self._stop = True
            with self._pipe_lock:
                if self._wake_write < 0:
                    return  # it has ended already
                try:
                    os.write(self._wake_write, b"\0")
                except BlockingIOError:  # full: it is going to wake anyway
                    return

    def wait_stopped(self, seconds: float) -> bool:
        """Wait until the processes and the folder are gone; return whether they are."""
        return self._process != os.getpid() or self._stopped.wait(seconds)

    def describe_failure(self) -> str:
        """Return why the cluster ended without being asked; nothing if it did not."""
        return "" if self.failure is None else str(self.failure.args[0])

    @property
    def is_stopped(self) -> bool:
        """Whether the processes and the folder are gone."""
        return self._stop or self._process != os.getpid() or self._stopped.is_set()

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that were started and have not been seen to end."""
        return tuple(handle.pid for handle in (self._scheduler, self._nanny) if handle is not None)

    # -------------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            self.scratch = Scratch()
            self._prepared.set()
            if not self._stop:
                self._scheduler = self._launcher.start(self._scheduler_command(self.scratch.path))
            if not self._stop:
                self._start_nanny()
            sweep(self.scratch.path.parent)  # here it costs no start any time
            while not self._stop and self.failure is None:
                self._poll()
                self._look()
        except ZClusterError as error:
            self.failure = error
        except BaseException as error:
            self.failure = ClusterError(
                f"the cluster's thread failed: {type(error).__name__}: {error}"
            )
            raise
        finally:
            self._end()

    def _poll(self) -> None:
        """Wait for a process to end, a nanny to be due, or a caller."""
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        waits = []
        for handle in (self._scheduler, self._nanny):
            if handle is not None and handle.fileno() >= 0:
                poller.register(handle.fileno(), select.POLLIN)
            elif handle is not None:
                waits.append(0.05)  # where the system offers nothing to wait on
        if self._nanny_due is not None:
            waits.append(max(0.0, self._nanny_due - time.monotonic()))
        poller.poll(min(waits) * 1000 + 1 if waits else None)

    def _look(self) -> None:
        """See who has ended, and do what the table at the top says."""
        assert self._scheduler is not None
        status = self._scheduler.poll()
        if status is not None and not self._stop:
            self.failure = SchedulerLost(
                f"the local cluster's scheduler (pid {self._scheduler.pid}) ended: "
                f"{_describe(status)}; make a new cluster, and see its messages on standard error"
            )
            return
        if self._nanny is not None:
            self._look_at_nanny(self._nanny)
        if self._nanny_due is not None and time.monotonic() >= self._nanny_due and not self._stop:
            self._start_nanny()

    def _look_at_nanny(self, nanny: Handle) -> None:
        status = nanny.poll()
        if status is None or self._stop:
            return
        now = time.monotonic()
        if now - self._nanny_started > self._settings.restart_forget:
            self._wait = self._settings.restart_first
        if status == 0:
            _log.info("the nanny (pid %d) was retired", nanny.pid)
        elif status == _USAGE:
            self.failure = StartError(
                f"the local cluster's nanny (pid {nanny.pid}) ended with exit status {status}: an "
                "option, the configuration or a ZCLUSTER_ variable cannot be meant, and another "
                "one would end like it; what is wrong it says on standard error: correct it, and "
                "make a new cluster"
            )
        else:
            _log.warning(
                "the nanny (pid %d) ended: %s; starting another in %.1f s",
                nanny.pid,
                _describe(status),
                self._wait,
            )
            self._nanny_due = now + self._wait
            self._wait = min(self._settings.restart_most, self._wait * 2)
        nanny.close()
        self._nanny = None
        if self._nanny_folder is not None:
            remove_tree(self._nanny_folder)

    def _start_nanny(self) -> None:
        self._nanny_due = None
        if self._nanny_command is None or self.scratch is None:
            return
        # A fresh folder for each: a predecessor's sockets must not be in the way.
        self._nanny_folder = self.scratch.path / f"n{self._nannies}"
        self._nannies += 1
        self._nanny_started = time.monotonic()
        self._nanny = self._launcher.start(
            self._nanny_command(self.scratch.path, self._nanny_folder)
        )

    def _end(self) -> None:
        """End what runs: told first, killed after the grace; then the folder goes."""
        handles = [handle for handle in (self._nanny, self._scheduler) if handle is not None]
        try:
            for handle in handles:
                handle.terminate()
            if not _wait_ended(handles, self._settings.stop_grace):
                for handle in handles:
                    handle.kill()
                _wait_ended(handles, self._settings.stop_grace)
            for handle in handles:
                handle.close()
        finally:
            self._nanny = self._scheduler = None
            if self.scratch is not None:
                self.scratch.remove()
            self._close_pipe()
            _live.discard(self)
            self._prepared.set()
            self._stopped.set()

    def _close_pipe(self) -> None:
        with self._pipe_lock:
            ends = self._wake_read, self._wake_write
            self._wake_read = self._wake_write = -1
        for end in ends:
            if end >= 0:
                os.close(end)

    # -------------------------------------------------------------------- elsewhere

    def forget(self) -> None:
        """Let go of all descriptors: in a forked copy, whose processes these are not."""
        for handle in (self._nanny, self._scheduler):
            if handle is not None:
                handle.close()
        if self.scratch is not None:
            self.scratch.forget()

    def __del__(self) -> None:
        self._close_pipe()  # of one that was never started, or in a forked copy


def _wait_ended(handles: list[Handle], seconds: float) -> bool:
    """Wait until all have ended; return whether they have."""
    deadline = time.monotonic() + seconds
    while True:
        running = [handle for handle in handles if handle.poll() is None]
        left = deadline - time.monotonic()
        if not running or left <= 0:
            return not running
        poller = select.poll()
        for handle in running:
            if handle.fileno() >= 0:
                poller.register(handle.fileno(), select.POLLIN)
            else:
                left = min(left, 0.01)
        poller.poll(left * 1000 + 1)


def _describe(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


def _install_hooks() -> None:
    """Once, when the first cluster starts: importing has no effect."""
    global _hooks_installed
    if not _hooks_installed:
        _hooks_installed = True
        atexit.register(_close_all)
        os.register_at_fork(after_in_child=_forget_all)


def _close_all() -> None:
    """End all clusters of an exiting interpreter, together."""
    supervisors = list(_live)
    for supervisor in supervisors:
        supervisor.request_stop()
    for supervisor in supervisors:
        supervisor.wait_stopped(3.0)


def _forget_all() -> None:
    """In a forked copy: its parent's children must be able to see the parent's end."""
    for supervisor in list(_live):
        supervisor.forget()
    _live.clear()
