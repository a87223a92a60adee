"""What a launcher is, and finding one by name.

A launcher is a function from command to started command: it is told *what* should
run (a `Command`: which program of zcluster, with which options) and makes it run
*somewhere*, returning a handle. It knows no scheduler and no client, and adds only
what its place needs (an interpreter, ``ssh host``, the two ends of a lifeline).

Launchers are found by the name of an entry point in the group
``zcluster.launchers``, never imported, so that a site can add one in a package of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from zcluster.errors import InvalidArgument, StartError

__all__ = ["GROUP", "Command", "Handle", "Launcher", "find_launcher", "find_launcher_names"]

#: The entry point group that launchers are listed in.
GROUP = "zcluster.launchers"


@dataclass(frozen=True)
class Command:
    """One program of zcluster and its options.

    Attributes
    ----------
    program : str
        ``"scheduler"`` or ``"worker"``: the module ``zcluster.cli.<program>``.
    options : tuple of str
        What follows the program on its command line.
    variables : tuple of (str, str)
        Environment variables it has beside those of where it is started.
    """

    program: str
    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    def as_arguments(self, python: str) -> list[str]:
        """Return the argument list that runs it with an interpreter.

        ``-P`` keeps the working directory off the path: a user's ``queue.py`` there
        would otherwise be imported in place of the standard library's.
        """
        return [python, "-P", "-m", f"zcluster.cli.{self.program}", *self.options]


class Handle(Protocol):
    """A started command."""

    @property
    def pid(self) -> int:
        """Its process id where it was started, 0 if that is not known."""

    def fileno(self) -> int:
        """Return a descriptor that is readable once it has ended, or -1: then poll."""

    def poll(self) -> int | None:
        """Return its exit status, negative for a signal, or None while it runs."""

    def terminate(self) -> None:
        """Ask it to stop; does nothing once it has ended."""

    def kill(self) -> None:
        """Make it stop, with what it started; does nothing once it has ended."""

    def close(self) -> None:
        """Release what belongs to the handle; the command must have ended."""


class Launcher(Protocol):
    """Starts commands in one kind of place."""

    def start(self, command: Command) -> Handle:
        """Start a command, with its variables, and return at once.

        The calling thread must live as long as the command should: on Linux a
        child can be told to die with the *thread* that started it.

        Raises
        ------
        StartError
            If nothing could be started.
        """


def find_launcher(name: str) -> Launcher:
    """Return a launcher by the name of its entry point.

    Raises
    ------
    InvalidArgument
        If nobody offers a launcher of that name; the message lists those there are.
    StartError
        If it is offered but cannot be loaded.
    """
    # Not at the top: it brings email and zipfile along, 20 ms for those who never start anything.
    from importlib.metadata import entry_points

    found = list(entry_points(group=GROUP, name=name))
    if not found:
        names = find_launcher_names()
        known = f"expected one of {', '.join(names)}" if names else "and none is installed at all"
        raise InvalidArgument(
            f"no launcher is called {name!r}, {known}; is the package that brings it installed "
            f"in this environment (entry points of group {GROUP!r})?"
        )
    try:
        launcher: Launcher = found[0].load()()
    except (ImportError, AttributeError, TypeError) as error:
        raise StartError(
            f"launcher {name!r} ({found[0].value}) cannot be loaded: {error}; "
            "install the package that brings it again"
        ) from error
    return launcher


def find_launcher_names() -> Sequence[str]:
    """Return the names of all launchers that are installed, sorted."""
    from importlib.metadata import entry_points  # 20 ms, see above

    return sorted({entry.name for entry in entry_points(group=GROUP)})
