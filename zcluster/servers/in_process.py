"""A scheduler and a nanny with its workers as threads of this process.

`ThreadLauncher` is found by its name, like the launchers that start processes, and
takes the same command lines; so a cluster of threads is supervised and ended as any
other. Its servers are the ones that processes run, over the same sockets. They leave
alone what belongs to the user here: signals, logging, the working folder, the import
path, the standard streams.

What a thread cannot do is die. So a worker that was to be killed is left behind: nobody
hears it any more, and its threads end when the tasks end that run in them.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import zmq

from zcluster import config
from zcluster.errors import ClusterError, SchedulerLost, StartError
from zcluster.launching import Command
from zcluster.servers.forking import Ended, Forked, TemplateEvent, WorkerSettings
from zcluster.servers.nanny import Nanny
from zcluster.servers.scheduler import SchedulerServer
from zcluster.servers.settings import (
    MemoryShares,
    NannySettings,
    SchedulerSettings,
    parse_resources,
)
from zcluster.servers.status import StatusPage
from zcluster.servers.worker import Worker
from zcluster.transport.scratch import ipc_address

__all__ = ["ServerThread", "ThreadLauncher", "ThreadTemplate"]

_log = logging.getLogger(__name__)

#: What a server's thread is said to have ended with; as of the commands.
_DONE, _FAILED, _LOST = 0, 1, 4
#: Seconds that workers get to end before they are left to themselves.
_GRACE = 0.3


class ThreadLauncher:
    """Runs the commands that make up a cluster in threads; see `zcluster.launching`."""

    def start(self, command: Command) -> ServerThread:
        """Start a server.

        Raises
        ------
        StartError
            If it cannot use its address or folder.
        """
        if command.program == "scheduler":
            return ServerThread("zcluster-scheduler", _scheduler(_options(command)))
        return ServerThread("zcluster-nanny", _nanny(_options(command)))


class ServerThread:
    """A server in a thread of its own: a `zcluster.launching.Handle`.

    Parameters
    ----------
    name : str
        Of the thread.
    server : SchedulerServer or Nanny
    """

    def __init__(self, name: str, server: SchedulerServer | Nanny) -> None:
        self._server = server
        self._status: int | None = None
        self._read, self._write = os.pipe()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        status = _FAILED
        try:
            self._server.run()
            status = _DONE
        except (StartError, SchedulerLost) as error:
            _log.warning("%s", error)
            status = _LOST
        except Exception:
            _log.exception("the thread %s failed", threading.current_thread().name)
        finally:
            self._status = status
            os.write(self._write, b"\0")

    @property
    def pid(self) -> int:
        """The process id, which is ours."""
        return os.getpid()

    def fileno(self) -> int:
        """Return a descriptor that is readable once the server has ended."""
        return self._read

    def poll(self) -> int | None:
        """Return how the server ended, or None while it runs."""
        return self._status

    def terminate(self) -> None:
        """Tell the server to stop."""
        self._server.stop()

    def kill(self) -> None:
        """Tell it once more: a thread cannot be ended from outside."""
        self._server.stop()

    def close(self) -> None:
        """Close the descriptors; the server must have ended, or be that of another process."""
        if self._status is not None:
            self._thread.join(_GRACE)  # all but over
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)
        self._read = self._write = -1


class ThreadTemplate:
    """Starts workers as threads where `Template` forks them; see there for the methods."""

    def __init__(self) -> None:
        self.ended = False
        self.pid = os.getpid()
        self._members: dict[int, _Member] = {}
        self._events: deque[TemplateEvent] = deque()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._lock = threading.Lock()

    def start(self) -> None:
        """Do nothing: this process is there already."""

    def fork(self, settings: WorkerSettings, stdout: int, stderr: int, status: int) -> None:
        """Start a worker; what it prints goes where this process prints."""
        member = _Member(settings, StatusPage(os.dup(status), settings.slots), self)
        member.start()
        member.is_up.wait()

    def send_signal(self, pid: int, number: int) -> None:
        """Leave a worker behind, whatever the signal."""
        member = self._members.get(pid)
        if member is not None:
            member.abandon()
            self.note_end(member, -number)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._read

    def events(self) -> list[TemplateEvent]:
        """Return what has happened since the last call."""
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return []
        return [self._events.popleft() for _ in range(len(self._events))]

    def close(self, timeout: float = _GRACE) -> None:
        """End all workers; those that run a task go on until it ends, heard by nobody."""
        self.ended = True
        members = list(self._members.values())
        for member in members:
            member.abandon()
        deadline = time.monotonic() + timeout
        for member in members:
            member.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            os.close(self._read)
            os.close(self._write)
            self._read = self._write = -1

    # Called by the members, in their threads.

    def note_start(self, member: _Member) -> None:
        """Take note of a worker that runs."""
        self._members[member.number] = member
        settings = member.settings
        self._tell(Forked(settings.number, settings.incarnation, member.number))

    def note_end(self, member: _Member, code: int) -> None:
        """Take note of a worker that is gone, once."""
        if self._members.pop(member.number, None) is not None:
            settings = member.settings
            self._tell(Ended(settings.number, settings.incarnation, member.number, code, 0))

    def _tell(self, event: TemplateEvent) -> None:
        self._events.append(event)
        with self._lock:
            if self._write >= 0:
                os.write(self._write, b"\0")


class _Member(threading.Thread):
    """The loop thread of one worker.

    The system's number of the thread stands for a process id: no two are equal, and
    Linux answers for it as for its process.
    """

    def __init__(
        self, settings: WorkerSettings, page: StatusPage, template: ThreadTemplate
    ) -> None:
        super().__init__(name=f"{settings.name}-loop", daemon=True)
        self.settings = settings
        self.number = 0
        self.is_up = threading.Event()
        self._page = page
        self._template = template
        self._worker: Worker | None = None

    def run(self) -> None:
        """Be the worker until it is told to end and its last task has ended."""
        self.number = threading.get_native_id()
        code = _FAILED
        context: zmq.Context[Any] = zmq.Context()
        try:
            self._worker = Worker(self.settings, context, self._page, is_process=False)
            self._template.note_start(self)
            self.is_up.set()
            self._worker.run()
            code = _DONE
        except Exception:
            _log.exception("worker %s failed", self.settings.name)
        finally:
            if not self.is_up.is_set():
                self._template.note_start(self)
                self.is_up.set()
            context.destroy(0)  # its last words have left
            self._template.note_end(self, code)
            self._page.close()

    def abandon(self) -> None:
        """Have the worker hear nothing more, and end with its running tasks."""
        if self._worker is not None:
            self._worker.abandon()


# ---------------------------------------------------------------------------- settings


def _options(command: Command) -> dict[str, str]:
    """Return a command line's options by name; the address may stand alone."""
    texts = iter(command.options)
    found: dict[str, str] = {}
    for text in texts:
        if text.startswith("--"):
            found[text[2:]] = next(texts)
        else:
            found["address"] = text
    return found


def _scheduler(options: dict[str, str]) -> SchedulerServer:
    file = options.get("scheduler-file")
    return SchedulerServer(
        SchedulerSettings(
            address=options["address"],
            id=os.urandom(8).hex(),
            name=options["name"],
            scheduler_file=None if file is None else Path(file),
            log_level="",
            allowed_failures=int(
                options.get("allowed-failures") or config.get("cluster.allowed-failures")
            ),
        )
    )


def _nanny(options: dict[str, str]) -> Nanny:
    scratch = Path(options["scratch"])
    try:
        scratch.mkdir(0o700)
    except OSError as error:
        raise ClusterError(f"cannot make the scratch folder {scratch}: {error.strerror}") from error
    told = options.get("local-directory")
    settings = NannySettings(
        scheduler=options["address"],
        name=options["name"],
        host=socket.gethostname(),
        workers=int(options["nworkers"]),
        threads=int(options["nthreads"]),
        memory_limit=int(options["memory-limit"]),
        store_limit=int(options["store-limit"]),
        memory=MemoryShares(target=config.get("worker.memory.target")),
        scratch=scratch,
        data_address=ipc_address(scratch / "data"),
        local_directory=Path(told) if told else None,
        spill_limit=config.get("worker.spill-limit"),
        resources=parse_resources(options.get("resources", "")),
        log_level="",
    )
    return Nanny(settings, template=ThreadTemplate)
