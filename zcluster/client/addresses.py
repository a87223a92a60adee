"""What a client connects to: the forms in which users say it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from zcluster.client.cluster import LocalCluster
from zcluster.client.keywords import OF_CLUSTERS, drop_needless
from zcluster.errors import InvalidArgument
from zcluster.transport.keys import keys_of
from zcluster.transport.scheduler_file import take_keys, wait_scheduler_file
from zcluster.transport.sockets import check_address

__all__ = ["SCHEDULER_FILE_VARIABLE", "Target", "find_target"]

#: Names the scheduler file of clients that are given nothing.
SCHEDULER_FILE_VARIABLE = "ZCLUSTER_SCHEDULER_FILE"


class Target(NamedTuple):
    """Where to connect. ``owned`` is a cluster made for this client, closed with it.

    ``method`` says to people how the address was found.
    """

    address: str
    cluster: Any = None
    owned: LocalCluster | None = None
    method: str = "Direct"


def find_target(
    address: Any,
    scheduler_file: str | os.PathLike[str] | None,
    insecure: bool,
    timeout: float,
    options: dict[str, Any],
) -> Target:
    """Return what a client's arguments mean.

    Parameters
    ----------
    address : str, cluster or None
        ``ipc://…``, ``tcp://…``, or an object with a ``scheduler_address``.
    scheduler_file : path or None
        Waited for. Without both, the environment may name one; else a `LocalCluster`
        is started.
    insecure : bool
        Whether plain TCP was asked for.
    timeout : float
        Seconds to wait for a scheduler file.
    options : dict
        Keywords of a `LocalCluster`.

    Raises
    ------
    InvalidArgument
        If they contradict each other or cannot be meant.
    StartError
        If there is no scheduler file in time.
    """
    if address is not None and scheduler_file is not None:
        raise InvalidArgument(
            f"address {address!r} and scheduler_file {str(scheduler_file)!r} were both given; "
            "expected one of them"
        )
    if not isinstance(scheduler_file, str | os.PathLike | None):
        raise InvalidArgument(f"scheduler_file is {scheduler_file!r}, expected the path of a file")
    if address is None and scheduler_file is None and not options:
        scheduler_file = os.environ.get(SCHEDULER_FILE_VARIABLE) or None
    if address is None and scheduler_file is None:
        owned = LocalCluster(**options)
        return Target(owned.scheduler_address, owned, owned, "Cluster object")
    drop_needless(options, OF_CLUSTERS)
    if options:
        raise InvalidArgument(
            f"{', '.join(sorted(options))} would start a cluster, but the client was told to "
            "connect to one; leave them out, or the address"
        )
    if scheduler_file is not None:
        path = Path(scheduler_file)
        record = wait_scheduler_file(path, timeout)
        is_keyed = take_keys(record, path) is not None
        address = check_address(record.address, insecure or record.insecure, is_keyed)
        return Target(address, method=f"Scheduler file {path}")
    if isinstance(address, str):
        return Target(check_address(address, insecure, keys_of(address) is not None))
    found = getattr(address, "scheduler_address", None)
    if not isinstance(found, str):
        raise InvalidArgument(
            f"address is a {type(address).__name__}, expected text such as 'ipc:///path' or "
            "'tcp://host:port', or a cluster with a scheduler_address"
        )
    # Whoever made the cluster chose its address.
    return Target(check_address(found, insecure=True), address, method="Cluster object")
