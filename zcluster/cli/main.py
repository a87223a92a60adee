"""The command ``zcluster``: one name for all there is to type.

A subcommand is imported when it is used, so ``zcluster --help`` comes at once. A package adds
one of its own by an entry point in the group ``zcluster_cli`` that names a click command; names
that are taken stay ours.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

import click

from zcluster.errors import StartError
from zcluster.version import __version__

from .common import UNREACHABLE, run_command

__all__ = ["COMMANDS", "GROUP", "main", "zcluster"]

#: The entry point group of other packages' subcommands.
GROUP = "zcluster_cli"


class Subcommand(NamedTuple):
    """Where a subcommand is, its sentence, and whether it connects to a scheduler."""

    place: str
    sentence: str
    connects: bool = False


#: In the order of the help. The sentences are those of the commands, which are not imported for it.
COMMANDS: Mapping[str, Subcommand] = {
    "demo": Subcommand("zcluster.cli.demo:demo", "Estimate pi on a cluster of this machine."),
    "scheduler": Subcommand(
        "zcluster.cli.scheduler:scheduler",
        "Start a scheduler, on a private socket of this machine unless told otherwise.",
    ),
    "worker": Subcommand(
        "zcluster.cli.worker:worker",
        "Start a nanny and its workers, for the scheduler at ADDRESS.",
        connects=True,
    ),
    "status": Subcommand(
        "zcluster.cli.status:status",
        "Show a cluster's nodes and tasks: live in a terminal, else once.",
        connects=True,
    ),
    "bench": Subcommand(
        "zcluster.cli.bench:bench",
        "Measure a cluster: tasks a second, latency, bandwidth.",
        connects=True,
    ),
    "doctor": Subcommand(
        "zcluster.cli.doctor:doctor",
        "Check this machine, and a cluster if one is named.",
        connects=True,
    ),
    "simulate": Subcommand(
        "zcluster.cli.simulate:simulate",
        "Put the cores through random faults, in a pretend cluster on pretend time.",
    ),
    "config": Subcommand("zcluster.cli.config:config", "Show and change the configuration."),
    "version": Subcommand("zcluster.cli.version:version", "Print the versions that matter."),
}


class _Unreachable(click.ClickException):
    """The scheduler that was named does not answer."""

    exit_code = UNREACHABLE


class Program(click.Group):
    """A group that imports a subcommand when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(_plugins())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = COMMANDS.get(cmd_name)
        if known is not None:
            module, _, attribute = known.place.partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        plugin = _plugins().get(cmd_name)
        return None if plugin is None else _load(plugin)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, command.sentence) for name, command in COMMANDS.items()]
        rows += [(name, _origin(plugin)) for name, plugin in sorted(_plugins().items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StartError as error:
            known = COMMANDS.get(ctx.invoked_subcommand or "")
            if known is None or not known.connects:
                raise
            raise _Unreachable(str(error)) from error


def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in COMMANDS}


def _origin(plugin: EntryPoint) -> str:
    """Return where a subcommand comes from; its own sentence would take an import."""
    return f"(from {plugin.value.partition(':')[0] if plugin.dist is None else plugin.dist.name})"


def _load(plugin: EntryPoint) -> click.Command:
    try:
        command = plugin.load()
    except Exception as error:  # whatever somebody else's module does
        raise click.ClickException(
            f"the command {plugin.name!r} {_origin(plugin)} cannot be loaded "
            f"({type(error).__name__}: {error}); update or uninstall that package"
        ) from error
    if not isinstance(command, click.Command):
        raise click.ClickException(
            f"the command {plugin.name!r} {_origin(plugin)} is a {type(command).__name__}, "
            "expected a click command; update or uninstall that package"
        )
    return command


@click.group(
    "zcluster",
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, "--version", message="%(prog)s %(version)s")
@click.pass_context
def zcluster(ctx: click.Context) -> None:
    """Dask's programming model on a cluster: start one, look at it, measure it."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return run_command(zcluster, arguments)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as people want it, without the place in our code that found it."""
    click.echo(f"WARNING: {message}", err=True)


if __name__ == "__main__":
    sys.exit(main())
