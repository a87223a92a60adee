"""Starts commands on this machine.

Each child runs in a session of its own, so that Ctrl-C reaches the client alone,
and holds the read end of a pipe, its **lifeline**: when this process ends, however
it ends, the pipe does too, and the child stops. Whoever wants a process that
outlives this one uses the command line.
"""

from __future__ import annotations

import os
import select
import signal
import site
import subprocess
import sys
from collections.abc import Iterable

import zcluster
from zcluster.config.sources import LAUNCHED
from zcluster.errors import StartError
from zcluster.launching import Command

__all__ = ["LocalLauncher", "LocalProcess"]


class LocalProcess:
    """A child of this process.

    Parameters
    ----------
    process : subprocess.Popen
    lifeline : int
        The write end of its lifeline.
    """

    def __init__(self, process: subprocess.Popen[bytes], lifeline: int) -> None:
        self._process = process
        self._lifeline = lifeline
        self._pidfd = _open_pidfd(process.pid)
        self._owner = os.getpid()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def fileno(self) -> int:
        """Return a descriptor that is readable once the child has ended, or -1."""
        return self._pidfd

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the child's session: it, and what it started and did not detach."""
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # not yet a leader of its own group
                self._process.kill()

    def close(self) -> None:
        """Let go of the lifeline; a child that still runs stops by itself.

        In a forked copy of this process it only closes the copy's descriptors.
        """
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if os.getpid() != self._owner:
            self._process.returncode = 0  # or Popen would warn of a child that is not ours

    def __repr__(self) -> str:
        status = self._process.returncode
        state = "running" if status is None else f"ended with {status}"
        return f"<LocalProcess {self.pid}: {state}>"


class LocalLauncher:
    """Runs commands with this interpreter, on this machine."""

    def start(self, command: Command) -> LocalProcess:
        """Start a command; standard output and error are inherited.

        Raises
        ------
        StartError
            If there is no interpreter to run, or the system refuses a process.
        """
        if not sys.executable:
            raise StartError(
                "sys.executable is empty (an embedded interpreter?), expected the path of Python; "
                "set it, or start zcluster-scheduler and zcluster-worker by hand"
            )
        read, write = os.pipe()  # neither end is inherited by other children
        arguments = command.as_arguments(sys.executable)
        arguments += ["--lifeline", str(read), "--parent", str(os.getpid())]
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                pass_fds=(read,),
                start_new_session=True,
                env=_environment(command.variables),
            )
        except OSError as error:
            os.close(write)
            raise StartError(
                f"cannot start {arguments[0]}: {error}; look at the limit on processes (ulimit -u)"
            ) from error
        finally:
            os.close(read)
        return LocalProcess(process, write)


def _environment(variables: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return our environment with more variables, and with a path for the children.

    The folder zcluster came from is on it, unless that is an installation's own folder: ahead of
    the standard library, old backports in it would win.
    """
    environment = dict(os.environ) | dict(variables)
    environment[LAUNCHED] = "1"  # what is wrong with settings was said here
    root = os.path.dirname(os.path.abspath(zcluster.__path__[0]))
    installed = {*site.getsitepackages(), site.getusersitepackages()}
    if root not in installed and os.path.realpath(root) not in map(os.path.realpath, installed):
        paths = [root, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return environment


def _open_pidfd(pid: int) -> int:
    """Return a descriptor that is readable when a process has ended, -1 where there is none."""
    if not (hasattr(os, "pidfd_open") and hasattr(select, "poll")):
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError:  # an old kernel, or a sandbox: the caller polls
        return -1
