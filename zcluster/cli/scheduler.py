"""The command ``zcluster-scheduler``.

Without ``--host``, ``--port`` or ``--interface`` it listens on a private socket in a
folder of its own and says where; ``--scheduler-file`` tells clients and workers of the
same user.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import click

from zcluster import config
from zcluster.errors import InvalidArgument
from zcluster.servers.settings import SchedulerSettings
from zcluster.transport.keys import Keys, make_keys
from zcluster.transport.scheduler_file import remove_scheduler_file
from zcluster.transport.scratch import Scratch, remove_tree, sweep

from .common import arm, common_options, is_tcp, run_command, tcp_address, warn_insecure

__all__ = ["main", "scheduler"]

_PORT = 8786  # the one people know from dask-scheduler


@click.command("zcluster-scheduler")
@click.option(
    "--scheduler-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write how to reach this scheduler here (mode 0600); removed at the end.",
)
@click.option("--name", default="scheduler", show_default=True, help="For people.")
@click.option(
    "--local-directory",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Where to make the scratch folder; TMPDIR or /tmp if absent.",
)
@click.option(
    "--allowed-failures",
    type=click.IntRange(1),
    default=lambda: config.get("cluster.allowed-failures"),
    show_default="cluster.allowed-failures",
    help="Workers that a task may take down; it fails with the last of them.",
)
@common_options
@click.option("--address", hidden=True)
@click.option("--scratch", type=click.Path(file_okay=False, path_type=Path), hidden=True)
def scheduler(
    scheduler_file: Path | None,
    name: str,
    local_directory: Path | None,
    allowed_failures: int,
    host: str | None,
    port: int | None,
    interface: str | None,
    insecure: bool,
    log_level: str,
    lifeline: int | None,
    parent: int | None,
    address: str | None,
    scratch: Path | None,
) -> int:
    """Start a scheduler, on a private socket of this machine unless told otherwise."""
    stopper = arm(lifeline, parent)
    id = os.urandom(8).hex()
    if scheduler_file is not None:
        scheduler_file = scheduler_file.absolute()
        # The server does it too; a signal may come before it could.
        stopper.cleanups.append(partial(remove_scheduler_file, scheduler_file, id))
    if scratch is not None:
        stopper.cleanups.append(partial(remove_tree, scratch))
    try:
        keys = None
        if address is None and (host, port, interface) != (None, None, None):
            keys = _make_keys(insecure, scheduler_file)
            address = tcp_address(host, port, interface, _PORT)
        elif address is None:
            sweep(local_directory)
            own = Scratch(local_directory)
            stopper.cleanups.append(own.remove)
            scratch = own.path
            address = own.address("scheduler")
        elif is_tcp(address):
            keys = _make_keys(insecure, scheduler_file)
        settings = SchedulerSettings(
            address=address,
            id=id,
            name=name,
            scheduler_file=scheduler_file,
            scratch=scratch,
            lifeline=lifeline,
            insecure=insecure,
            log_level=log_level,
            allowed_failures=allowed_failures,
            keys=keys,
        )
        # Not at the top: ZeroMQ and the messages, which --help can do without.
        from zcluster.servers.scheduler import SchedulerServer

        server = SchedulerServer(settings, is_alone=True)
        if lifeline is None:
            click.echo(f"Scheduler at: {getattr(server, 'address', address)}", err=True)
        return stopper.run(server)
    finally:
        stopper.clean()


def _make_keys(insecure: bool, scheduler_file: Path | None) -> Keys | None:
    """Return keys for TCP; none where plain TCP was asked for by name, which is said aloud.

    Raises
    ------
    InvalidArgument
        If there is no file to put them in.
    """
    if insecure:
        warn_insecure()
        return None
    if scheduler_file is None:
        raise InvalidArgument(
            "TCP was asked for, and nobody could connect without the keys that this scheduler "
            "makes; say where to put them with --scheduler-file=FILE, leave out --host, --port and "
            "--interface for a private socket on this machine, or let everybody in with --insecure"
        )
    return make_keys()


def main() -> int:
    """Run the command; return its exit status."""
    return run_command(scheduler)


if __name__ == "__main__":
    sys.exit(main())
