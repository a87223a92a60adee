"""The nanny's hand on its template: starts workers and hears of their ends.

Nothing here blocks except `Template.close`: the nanny's loop watches `Template.fileno`
and calls `Template.events` when it is readable.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping

import msgspec

from zcluster.config.sources import LAUNCHED
from zcluster.errors import StartError
from zcluster.servers.forking import (
    RECORD_LIMIT,
    Fork,
    SendSignal,
    TemplateEvent,
    WorkerSettings,
    event_decoder,
    record_encoder,
)
from zcluster.servers.posix import message_pair

__all__ = ["Template"]

_MODULE = "zcluster.servers.template"


class Template:
    """A template process and the workers forked from it.

    The thread that calls `start` must live as long as the workers shall: on Linux its
    end ends them.

    Attributes
    ----------
    ended : bool
        The process is gone, and its workers with it; `events` found out.
    pid : int
        The process's pid; 0 before `start`.

    Examples
    --------
    ::

        template = Template()
        template.start()
        page = StatusPage.create(settings.slots)
        template.fork(settings, stdout, stderr, page.fd)
        ...                                 # template.fileno() is readable
        for event in template.events():     # Forked, NotForked, Ended
            ...
    """

    def __init__(self) -> None:
        self.ended = False
        self.pid = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._socket, self._theirs = message_pair()
        self._socket.setblocking(False)

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start the process; it serves requests made from now on when it is ready.

        Parameters
        ----------
        environment : mapping, optional
            Its environment variables, and those of the workers; as here if not given.

        Raises
        ------
        StartError
            If the system refuses another process.
        """
        fd = self._theirs.fileno()
        command = [sys.executable, "-m", _MODULE, str(fd), str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=(fd,),
                start_new_session=True,
                env={**(os.environ if environment is None else environment), LAUNCHED: "1"},
            )
        except OSError as error:
            raise StartError(
                f"cannot start {' '.join(command)}: {error.strerror}; workers are forked from "
                "this process. Is the machine out of processes or memory?"
            ) from error
        finally:
            self._theirs.close()
        self.pid = self._process.pid

    def fork(self, settings: WorkerSettings, stdout: int, stderr: int, status: int) -> None:
        """Ask for a worker; a `Forked` or `NotForked` event answers.

        Parameters
        ----------
        settings : WorkerSettings
        stdout, stderr : int
            The writing ends of its output pipes; the caller may close them at once.
        status : int
            Descriptor of its status page; stays the caller's as well.

        Raises
        ------
        StartError
            If the template is gone, or busy for so long that requests pile up.
        """
        self._request(Fork(settings), [stdout, stderr, status])

    def send_signal(self, pid: int, number: int) -> None:
        """Send a signal to a worker and to the processes its tasks have started.

        One that has ended is left alone, even if another process has its pid now.

        Raises
        ------
        StartError
            As `fork`.
        """
        self._request(SendSignal(pid, number), [])

    def _request(self, request: Fork | SendSignal, fds: list[int]) -> None:
        data = record_encoder.encode(request)
        try:
            socket.send_fds(self._socket, [data], fds)
        except OSError as error:
            raise StartError(
                f"the template process {self.pid} takes no requests ({error.strerror}); its "
                "workers are gone if it has ended: start another template"
            ) from error

    def fileno(self) -> int:
        """Readable when there are events, or the process is gone."""
        return self._socket.fileno()

    def events(self) -> list[TemplateEvent]:
        """Return what has happened since the last call, without waiting."""
        found: list[TemplateEvent] = []
        while not self.ended:
            try:
                data = self._socket.recv(RECORD_LIMIT)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            if not data:
                self.ended = True
                break
            try:
                found.append(event_decoder.decode(data))
            except msgspec.DecodeError as error:
                raise StartError(
                    f"the template process {self.pid} says what is no event ({error}); are two "
                    "versions of zcluster installed?"
                ) from error
        return found

    def close(self, timeout: float = 2.0) -> None:
        """End the process and with it all workers; waits until the process is gone.

        Parameters
        ----------
        timeout : float
            Seconds after which it is killed.
        """
        self._socket.close()
        self._theirs.close()
        if self._process is None:
            return
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
