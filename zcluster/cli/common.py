"""What the commands share: exit statuses, signals, TCP addresses, options for launchers.

Exit statuses
-------------
===  ==============================================================
0    ended because it was done
1    failed; the sentence on standard error says how
2    the command line cannot be meant
3    the scheduler could not be reached
4    the scheduler was lost
129  the terminal was closed (SIGHUP)
130  Ctrl-C
143  SIGTERM, after an orderly end
===  ==============================================================

Only click and light modules are imported here: ``--help`` is for people who wait.
The servers, with ZeroMQ behind them, are imported once the options are known to be
good.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol, TypeVar

import click

from zcluster import config
from zcluster.errors import InvalidArgument, SchedulerLost, StartError, ZClusterError
from zcluster.transport import lifeline
from zcluster.transport.interfaces import interface_address
from zcluster.version import __version__

__all__ = [
    "FAILED",
    "LOST",
    "UNREACHABLE",
    "USAGE",
    "Server",
    "Stopper",
    "address_towards",
    "allow_files",
    "arm",
    "common_options",
    "is_tcp",
    "resolve_host",
    "run_command",
    "tcp_address",
    "warn_insecure",
]

FAILED = 1
USAGE = 2
UNREACHABLE = 3
LOST = 4

#: As many files and connections as a server may have open at once, if the system lets it.
_FILES = 65536
#: How long an orderly end may take once our launcher has asked for it or is gone.
_GRACE = 2.0

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Server(Protocol):
    """What a command runs."""

    def run(self) -> None:
        """Run in the calling thread until stopped."""

    def stop(self) -> None:
        """Make `run` return, in order; may be called from a signal handler."""


class Stopper:
    """Turns SIGINT, SIGTERM and SIGHUP into an orderly end with the right exit status.

    A second signal, or one that comes before there is a server, ends the process at
    once, after the clean-up. Not by an exception: one that is raised while a module is
    imported or an object collected is swallowed there.

    Parameters
    ----------
    launched : bool
        Whether a launcher started us: then the end has to come within seconds.

    Attributes
    ----------
    cleanups : list of callables
        What to do at the end, last first; they must not raise, and be able to run again.
    """

    def __init__(self, launched: bool) -> None:
        self.status = 0
        self.cleanups: list[Callable[[], object]] = []
        self.server: Server | None = None
        self._launched = launched

    def install(self) -> None:
        """Handle the signals from here on."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Ignored by whoever started us (nohup): so it stays, but for SIGTERM.
            if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again = self.status != 0
        self.status = 128 + number
        if again and self._launched:
            return  # the kernel tells of a parent's end once for each of its threads
        if self._launched:
            lifeline.die_within(_GRACE)
        if self.server is None or again:
            self.clean()
            os._exit(self.status)
        self.server.stop()

    def run(self, server: Server) -> int:
        """Run a server until it ends or a signal comes; return the exit status."""
        self.server = server
        server.run()
        return self.status

    def clean(self) -> None:
        """Do what is to be done at the end; a signal meanwhile does not leave it half done."""
        while self.cleanups:
            cleanup = self.cleanups[-1]
            cleanup()
            # Only now: the handler of a signal that came meanwhile has to do it again, and exits.
            self.cleanups.pop()


def run_command(
    command: click.Command, arguments: list[str] | None = None, start_error: int = FAILED
) -> int:
    """Parse the command line, run the command, and return its exit status.

    Whatever goes wrong becomes one sentence on standard error.

    Parameters
    ----------
    command : click.Command
    arguments : list of str, optional
        Those of the process if absent.
    start_error : int
        Exit status for a `StartError`.
    """
    try:
        status = command.main(arguments, prog_name=command.name, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.exceptions.Abort:
        return 128 + signal.SIGINT
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        name = command.name if context is None else context.command_path
        return _fail(name, error.format_message(), error.exit_code)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except InvalidArgument as error:
        return _fail(command.name, str(error), USAGE)
    except SchedulerLost as error:
        return _fail(command.name, str(error), LOST)
    except StartError as error:
        return _fail(command.name, str(error), start_error)
    except ZClusterError as error:
        return _fail(command.name, str(error), FAILED)


def _fail(name: str | None, sentence: str, status: int) -> int:
    with suppress(OSError):  # standard error is gone: nobody to tell
        click.echo(f"{name}: {sentence}", err=True)
    return status


def common_options(command: _Command) -> _Command:
    """Add the options that both commands have."""
    for option in reversed(
        (
            click.option("--host", metavar="NAME", help="Listen on TCP, at this address."),
            click.option("--port", type=click.IntRange(0, 65535), help="Listen on TCP, here."),
            click.option("--interface", metavar="NAME", help="Listen on TCP, e.g. on eth0."),
            click.option("--insecure", is_flag=True, help="Plain TCP, open to anyone."),
            click.option(
                "--log-level",
                type=click.Choice(["debug", "info", "warning", "error"]),
                default=lambda: config.get("logging.level"),
                show_default="logging.level of the configuration",
            ),
            click.version_option(__version__, "--version", message="%(prog)s %(version)s"),
            click.help_option("-h", "--help"),
            # For launchers; a pipe's read end, and who holds the other.
            click.option("--lifeline", type=click.IntRange(0), hidden=True),
            click.option("--parent", type=click.IntRange(0), hidden=True),
        )
    ):
        command = option(command)
    return command


def arm(lifeline_fd: int | None, parent: int | None) -> Stopper:
    """Tie us to our launcher, if one started us, and handle signals."""
    stopper = Stopper(lifeline_fd is not None)
    stopper.install()
    allow_files()
    if lifeline_fd is not None and parent is not None and not lifeline.arm(parent):
        raise SystemExit(128 + signal.SIGTERM)  # it ended before we could ask to be told
    return stopper


def allow_files() -> None:
    """Let this process and those it starts have as many files open as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


# ------------------------------------------------------------------------------ addresses


def is_tcp(address: str) -> bool:
    """Tell whether an address is TCP."""
    return address.startswith("tcp://")


def warn_insecure() -> None:
    """Say aloud that plain TCP was asked for."""
    click.echo(
        "WARNING: --insecure: anyone who can reach this TCP port can run code as you.", err=True
    )


def tcp_address(host: str | None, port: int | None, interface: str | None, default: int) -> str:
    """Return ``tcp://address:port`` for the options given; loopback unless they say where.

    Raises
    ------
    InvalidArgument
        If the host or interface is not known, or is one that nobody could connect to.
    """
    if host is not None and interface is not None:
        raise InvalidArgument("both --host and --interface were given, expected one of them")
    if interface is not None:
        address = interface_address(interface)
    else:
        address = resolve_host("127.0.0.1" if host is None else host)
    bracketed = f"[{address}]" if ":" in address else address
    return f"tcp://{bracketed}:{default if port is None else port}"


def resolve_host(host: str) -> str:
    """Return the address of a host name; a socket is bound to an address, not a name.

    Raises
    ------
    InvalidArgument
        If nobody knows the name, or it stands for all addresses at once.
    """
    try:
        address = str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise InvalidArgument(
            f"host {host!r} is not known here ({error}); give an address or name of this machine"
        ) from None
    if not host or address in ("0.0.0.0", "::"):
        raise InvalidArgument(
            f"host {host!r} means all addresses, and others need one to connect to; give the one "
            "they should use, or --interface"
        )
    return address


def address_towards(address: str) -> str:
    """Return the address of this machine that a ``tcp://host:port`` elsewhere would see.

    Raises
    ------
    InvalidArgument
        If there is no way there.
    """
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # UDP: chooses a route, sends nothing
            return str(probe.getsockname()[0])
    except (OSError, UnicodeError, ValueError) as error:
        raise InvalidArgument(
            f"there is no way to the scheduler at {address!r} ({error}); give its address as "
            "tcp://host:port, and ours with --host or --interface"
        ) from None
