"""How subcommands are told which cluster, and connect to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from zcluster.client.client import Client

__all__ = ["ask_overview", "cluster_options", "connect", "is_named"]

#: Who types a command waits for it; programs have ``client.timeout``.
_TIMEOUT = 5.0

_Command = TypeVar("_Command", bound=Callable[..., Any])


def cluster_options(command: _Command) -> _Command:
    """Add the argument ADDRESS and the options that say which cluster."""
    for option in reversed(
        (
            click.argument("address", required=False),
            click.option(
                "--scheduler-file",
                type=click.Path(dir_okay=False, path_type=Path),
                envvar="ZCLUSTER_SCHEDULER_FILE",
                help="The file the scheduler writes.",
            ),
            click.option("--insecure", is_flag=True, help="Plain TCP, open to anyone."),
            click.option(
                "--timeout",
                type=click.FloatRange(0, min_open=True),
                default=_TIMEOUT,
                show_default=True,
                help="Seconds to wait for the scheduler.",
            ),
        )
    ):
        command = option(command)
    return command


def is_named(address: str | None, scheduler_file: Path | None) -> bool:
    """Tell whether a cluster was named."""
    return address is not None or scheduler_file is not None


def connect(
    address: str | None, scheduler_file: Path | None, insecure: bool, timeout: float
) -> Client:
    """Return a client of the cluster named.

    Raises
    ------
    click.UsageError
        If none was.
    """
    if not is_named(address, scheduler_file):
        raise click.UsageError(
            "no cluster was named; give the address that the scheduler prints, or --scheduler-file"
        )
    # Not at the top: ZeroMQ and the messages, which --help can do without.
    from zcluster.client.client import Client

    return Client(
        address,
        # The variable counts only where no address was given.
        scheduler_file=scheduler_file if address is None else None,
        timeout=timeout,
        insecure=insecure,
        set_as_default=False,
    )


def ask_overview(client: Client) -> dict[str, Any]:
    """Return the scheduler's answer to what is there: nodes, their workers, tasks by name."""
    answer: dict[str, Any] = client.overview()
    # This command is not what people count.
    answer["clients"] -= 1
    return answer
