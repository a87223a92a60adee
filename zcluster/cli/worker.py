"""The command ``zcluster-worker``: one nanny on this machine and its workers.

Spellings are those of ``dask-worker`` (``--nprocs`` and the newer ``--nworkers`` are
the same option). The scheduler is named by address or by the file it writes.
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from zcluster import config
from zcluster.config import (
    Settings,
    cpu_count,
    default_threads,
    format_bytes,
    memory_total,
    parse_bytes,
    parse_memory_limit,
)
from zcluster.errors import ClusterError, InvalidArgument
from zcluster.servers.settings import MemoryShares, NannySettings, parse_resources
from zcluster.transport.keys import Keys
from zcluster.transport.scheduler_file import take_keys, wait_scheduler_file
from zcluster.transport.scratch import Scratch, ipc_address, remove_tree, sweep

from .common import (
    UNREACHABLE,
    address_towards,
    arm,
    common_options,
    is_tcp,
    run_command,
    tcp_address,
    warn_insecure,
)

__all__ = ["count_workers", "main", "worker"]

_MOST = 4096  # workers or threads; above, it is a slip that would take the machine down


@dataclass(frozen=True)
class _Where:
    """Where the scheduler is and where we listen."""

    scheduler: str
    data: str | None
    insecure: bool
    keys: Keys | None


@click.command("zcluster-worker")
@click.argument("address", required=False)
@click.option(
    "--scheduler-file",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="ZCLUSTER_SCHEDULER_FILE",
    help="The file the scheduler writes; waited for.",
)
@click.option(
    "--nworkers",
    "--nprocs",
    "workers",
    default=1,
    show_default=True,
    help="Worker processes; -1 is one for each processor, -2 one fewer.",
)
@click.option(
    "--nthreads",
    type=click.IntRange(1, _MOST),
    default=lambda: config.get("worker.threads"),
    help="Threads in each; if absent what Slurm gives, or a fair share of the processors.",
)
@click.option(
    "--memory-limit",
    default=lambda: config.get("worker.memory-limit"),
    show_default="worker.memory-limit",
    help="For each worker: 2GB, 0.5 of the machine, auto, or 0 for no limit.",
)
@click.option("--name", help="This node's name; unique in the cluster.")
@click.option(
    "--resources",
    default="",
    metavar="TEXT",
    help="What each worker has of abstract resources, as in 'GPU=1 FOO=2'.",
)
@click.option(
    "--local-directory",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Where results go that memory has no room for; a folder on a disk of this machine.",
)
@click.option(
    "--death-timeout",
    type=click.FloatRange(0, min_open=True),
    default=lambda: config.get("worker.death-timeout"),
    show_default="worker.death-timeout",
    help="Seconds to wait for the scheduler, at start and after losing it.",
)
@common_options
@click.option("--scratch", type=click.Path(file_okay=False, path_type=Path), hidden=True)
@click.option("--store-limit", hidden=True)
def worker(
    address: str | None,
    scheduler_file: Path | None,
    workers: int,
    nthreads: int | None,
    memory_limit: str,
    name: str | None,
    resources: str,
    local_directory: Path | None,
    death_timeout: float,
    host: str | None,
    port: int | None,
    interface: str | None,
    insecure: bool,
    log_level: str,
    lifeline: int | None,
    parent: int | None,
    scratch: Path | None,
    store_limit: str | None,
) -> int:
    """Start a nanny and its workers, for the scheduler at ADDRESS."""
    stopper = arm(lifeline, parent)
    cpus = cpu_count()
    count = count_workers(workers, cpus)
    threads = default_threads(os.environ, cpus, count).count if nthreads is None else nthreads
    limit = parse_memory_limit(memory_limit, min(1.0, threads / cpus))
    if limit > memory_total() and lifeline is None:  # a local cluster has said so itself
        click.echo(
            f"WARNING: --memory-limit {format_bytes(limit)} is more than this machine's "
            f"{format_bytes(memory_total())}.",
            err=True,
        )
    listen = None
    if (host, port, interface) != (None, None, None):
        listen = tcp_address(host, port, interface, 0)
    where = _find_scheduler(address, scheduler_file, death_timeout, insecure, listen)
    try:
        if scratch is None:
            sweep()
            own = Scratch()
            stopper.cleanups.append(own.remove)
            scratch = own.path
        else:
            stopper.cleanups.append(partial(remove_tree, scratch))
            _make_folder(scratch)
        settings = NannySettings(
            scheduler=where.scheduler,
            name=f"{socket.gethostname()}-{os.getpid()}" if name is None else name,
            host=socket.gethostname(),
            workers=count,
            threads=threads,
            memory_limit=limit,
            store_limit=_store_limit(store_limit, count * limit),
            memory=_memory_shares(),
            scratch=scratch,
            data_address=where.data or ipc_address(scratch / "data"),
            local_directory=None if local_directory is None else local_directory.absolute(),
            spill_limit=config.get("worker.spill-limit"),
            lifeline=lifeline,
            death_timeout=death_timeout,
            insecure=where.insecure,
            keys=where.keys,
            resources=parse_resources(resources),
            log_level=log_level,
        )
        # Not at the top: ZeroMQ and the messages, which --help can do without.
        from zcluster.servers.nanny import Nanny

        return stopper.run(Nanny(settings))
    finally:
        stopper.clean()


def count_workers(workers: int, cpus: int) -> int:
    """Return a number of workers; negative ones count down from the processors, as in Dask.

    Raises
    ------
    InvalidArgument
        If nothing would be left, or it is zero.

    Examples
    --------
    >>> count_workers(3, 8), count_workers(-1, 8), count_workers(-2, 8)
    (3, 8, 7)
    """
    count = cpus + 1 + workers if workers < 0 else workers
    if not 1 <= count <= _MOST:
        raise InvalidArgument(
            f"--nworkers {workers} makes {count} workers with {cpus} processors, expected 1 to "
            f"{_MOST}, or -1 for one on each processor"
        )
    return count


def _find_scheduler(
    address: str | None,
    scheduler_file: Path | None,
    seconds: float,
    insecure: bool,
    listen: str | None,
) -> _Where:
    """Return where the scheduler is; a scheduler on TCP needs a data port on TCP too."""
    if address is None and scheduler_file is None:
        raise InvalidArgument(
            "no scheduler was named; give the address that zcluster-scheduler prints, "
            "or --scheduler-file"
        )
    keys = None
    if address is None and scheduler_file is not None:
        scheduler_file = scheduler_file.absolute()
        record = wait_scheduler_file(scheduler_file, seconds)
        address = record.address
        keys = take_keys(record, scheduler_file)
        # Whoever started the scheduler accepted plain TCP, and the file is that user's alone.
        insecure = insecure or record.insecure
    assert address is not None
    if not address.startswith(("ipc://", "tcp://")):
        raise InvalidArgument(
            f"scheduler address {address!r} is not one, expected ipc:///path or tcp://host:port"
        )
    if is_tcp(address):
        listen = listen or tcp_address(address_towards(address), None, None, 0)
    if listen is not None and keys is None:
        if not insecure:
            raise InvalidArgument(
                f"the scheduler at {address} and this node would speak plain TCP, and anyone who "
                "reaches the port could run code as you; give --scheduler-file=FILE of a scheduler "
                "on TCP, which has its keys, or accept the risk with --insecure"
            )
        warn_insecure()
    return _Where(address, listen, insecure, keys)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(0o700, exist_ok=True)
    except OSError as error:  # whoever started us has ended and removed its folder
        raise ClusterError(f"cannot make the scratch folder {path}: {error.strerror}") from error


def _store_limit(given: str | None, workers: int) -> int:
    """Return how many bytes of results the node keeps in memory."""
    if given is not None:
        return parse_bytes(given)
    total = memory_total()
    return int(Settings().store_share * (min(workers, total) if workers else total))


def _memory_shares() -> MemoryShares:
    names = ("target", "spill", "pause", "terminate")
    return MemoryShares(**{name: config.get(f"worker.memory.{name}") for name in names})


def main() -> int:
    """Run the command; return its exit status."""
    return run_command(worker, start_error=UNREACHABLE)


if __name__ == "__main__":
    sys.exit(main())
