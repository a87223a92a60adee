"""What a scheduler and a nanny are told at their start, each as one frozen record.

The commands make them from their options and check them; the servers only read
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zcluster.errors import InvalidArgument
from zcluster.transport.keys import Keys

__all__ = ["MemoryShares", "NannySettings", "SchedulerSettings", "parse_resources"]


@dataclass(frozen=True, kw_only=True)
class MemoryShares:
    """At which shares of a worker's memory limit something is done; 0 is never.

    Attributes
    ----------
    target : float
        Results in memory are kept below it, all workers of a node together.
    spill : float
        Results go to disk while a worker is charged more.
    pause : float
        A worker that is charged more gets no more work for now.
    terminate : float
        A worker that has more for itself is replaced.
    """

    target: float = 0.0
    spill: float = 0.0
    pause: float = 0.0
    terminate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    """What a scheduler is told.

    Attributes
    ----------
    address : str
        Where to bind: ``ipc:///tmp/zc-x/scheduler`` or ``tcp://host:port``; port 0
        means any.
    id : str
        Fresh at every start.
    name : str
        For people.
    scheduler_file : Path, optional
        Written once the address is bound, removed at the end if it is still ours.
    scratch : Path, optional
        The folder its socket is in; the command removes it at the end.
    lifeline : int, optional
        Read end of the pipe whose end is our parent's end.
    insecure : bool
        Whether plain TCP was asked for.
    log_level : str
        ``"warning"``, …; empty leaves the process's logging as it is.
    allowed_failures : int
        Workers that a task may take down; it fails with the last of them.
    keys : Keys, optional
        Who listens on TCP needs them, unless it is plain.
    """

    address: str
    id: str
    name: str = "scheduler"
    allowed_failures: int = 3
    scheduler_file: Path | None = None
    scratch: Path | None = None
    lifeline: int | None = None
    insecure: bool = False
    log_level: str = "warning"
    keys: Keys | None = None


@dataclass(frozen=True, kw_only=True)
class NannySettings:
    """What a nanny is told.

    Attributes
    ----------
    scheduler : str
        The scheduler's address.
    name : str
        The node's name; its workers are called after it.
    host : str
        This machine, as other nodes see it: equal names share a store's door.
    workers, threads : int
        Worker processes, and slots in each.
    memory_limit : int
        Bytes a worker may use; 0 is no limit.
    memory : MemoryShares
        What is done when it uses much of that.
    store_limit : int
        Bytes of results the node keeps in memory.
    scratch : Path
        Our own 0700 folder, there already; the command removes it at the end.
    data_address : str
        Where to bind the data port, ``ipc://`` in the scratch folder or ``tcp://``.
    local_directory : Path, optional
        Where results go that memory has no room for; without it, a folder on a disk of this
        machine.
    spill_limit : int, optional
        The most bytes of results to keep there.
    lifeline : int, optional
        Read end of the pipe whose end is our parent's end.
    death_timeout : float, optional
        Seconds to wait for the scheduler, at start and after losing it; None waits
        for ever.
    insecure : bool
        Whether plain TCP was asked for.
    resources : dict of str to float
        What each worker has of abstract resources, such as ``{"GPU": 1}``.
    log_level : str
        ``"warning"``, …; empty leaves the process's logging as it is.
    keys : Keys, optional
        The cluster's, needed on TCP unless it is plain.
    """

    scheduler: str
    name: str
    host: str
    workers: int
    threads: int
    memory_limit: int
    store_limit: int
    scratch: Path
    data_address: str
    local_directory: Path | None = None
    spill_limit: int | None = None
    lifeline: int | None = None
    death_timeout: float | None = None
    insecure: bool = False
    resources: Mapping[str, float] = field(default_factory=dict)
    memory: MemoryShares = MemoryShares()
    log_level: str = "warning"
    keys: Keys | None = None


def parse_resources(text: str) -> dict[str, float]:
    """Return what each worker has of abstract resources.

    Raises
    ------
    InvalidArgument
        If it does not read ``NAME=AMOUNT``, once for each name.

    Examples
    --------
    >>> parse_resources("GPU=2 disk=0.5"), parse_resources("GPU=1,FOO=2")
    ({'GPU': 2.0, 'disk': 0.5}, {'GPU': 1.0, 'FOO': 2.0})
    """
    resources: dict[str, float] = {}
    for part in text.replace(",", " ").split():
        name, _, amount = part.partition("=")
        try:
            value = float(amount)
        except ValueError:
            value = -1.0
        if not name or name in resources or not 0 <= value < math.inf:
            raise InvalidArgument(
                f"resource {part!r} in {text!r} cannot be meant; expected names and amounts such "
                "as 'GPU=1 FOO=2.5', each name once"
            )
        resources[name] = value
    return resources
