"""The client: what users hold of a cluster.

`Client` turns calls into tasks and tasks into `Future` objects. It holds no state of
its own worth the name: that is in the core (what is wanted), the engine (what is on
the wire) and the futures. Its methods may be called from any thread.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from typing import Any

from zcluster.client import describing
from zcluster.client.addresses import find_target
from zcluster.client.asking import Asking
from zcluster.client.calls import Calls
from zcluster.client.data import Data
from zcluster.client.default import add_client, default_client, live_clients, remove_client
from zcluster.client.engine import Engine
from zcluster.client.future import fetch_values
from zcluster.client.gates import Deadline
from zcluster.client.graphs import compute_collections, submit_graph
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import Graph
from zcluster.graph.spec import fill, from_dict
from zcluster.types import running_task

__all__ = ["Client", "get_client"]

_NOT_BUILT = {
    "asynchronous": "asynchronous=True (awaiting futures in an event loop) is not built yet; "
    "call the client from a thread, which works beside any event loop",
}


class Client(Calls, Data, Asking):
    """A connection to a cluster, or to one of its own on this machine.

    Parameters
    ----------
    address : str or cluster, optional
        ``"ipc:///path"``, ``"tcp://host:port"`` or an object with a
        ``scheduler_address``. Without it: the scheduler file that
        ``ZCLUSTER_SCHEDULER_FILE`` names, or a new `LocalCluster`, which is closed
        with this client.
    n_workers, threads_per_worker, memory_limit, processes
        For the new cluster.
    scheduler_file : path, optional
        Waited for; says the address.
    timeout : float
        Seconds to wait for the cluster to answer.
    name : str, optional
        Of this client.
    set_as_default : bool
        Whether ``compute()`` should use it while it is the newest.
    insecure : bool
        Accept plain TCP, over which anyone on the network could run code as you.
    **options
        Further keywords of `LocalCluster`.

    Raises
    ------
    InvalidArgument
        If the arguments contradict each other.
    StartError
        If nobody answers in time.

    Examples
    --------
    >>> with Client(n_workers=2) as client:                     # doctest: +SKIP
    ...     futures = client.map(abs, range(-5, 5))
    ...     print(client.gather(futures))
    [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        address: Any = None,
        *,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        memory_limit: int | float | str | None = None,
        processes: bool | None = None,
        scheduler_file: str | os.PathLike[str] | None = None,
        timeout: float = 30.0,
        name: str | None = None,
        set_as_default: bool = True,
        asynchronous: bool = False,
        insecure: bool = False,
        **options: Any,
    ) -> None:
        if asynchronous:
            raise NotImplementedError(_NOT_BUILT["asynchronous"])
        if not isinstance(timeout, int | float) or timeout <= 0:
            raise InvalidArgument(f"timeout is {timeout!r}, expected seconds above zero")
        given = {
            "n_workers": n_workers,
            "threads_per_worker": threads_per_worker,
            "memory_limit": memory_limit,
            "processes": processes,
        }
        options |= {key: value for key, value in given.items() if value is not None}
        target = find_target(address, scheduler_file, insecure, timeout, options)
        self._owned = target.owned
        self.cluster = target.cluster
        self._method = "Cluster object" if target.cluster is not None else "Direct"
        try:
            if self._owned is not None:
                # It ends at once where its scheduler cannot start; a connection would wait.
                self._owned.wait_started(timeout)
            self._engine = Engine(
                target.address, name=name or f"client-{os.getpid()}", timeout=timeout
            )
            self._finalizer = weakref.finalize(self, self._engine.close, "it is not used", 1.0)
            self._finalizer.atexit = False  # `default` closes those that are left in order
            if self._owned is not None and self._owned.n_workers:
                self.wait_for_workers(self._owned.n_workers, timeout)
        except BaseException:
            self._close_parts(1.0)
            raise
        add_client(self, set_as_default)

    def compute(self, collections: Any, sync: bool = False) -> Any:
        """Compute lazy collections.

        Parameters
        ----------
        collections : collection, or list of them
        sync : bool
            Return results; else futures of them, at once.
        """
        return compute_collections(self, collections, sync)

    def get(self, dsk: Mapping[Any, Any], keys: Any) -> Any:
        """Run a hand-written graph and return the values of some of its keys.

        Examples
        --------
        >>> client.get({"x": 1, "y": (abs, "x")}, ["y"])         # doctest: +SKIP
        [1]
        """
        graph, numbers = from_dict(dsk, keys)
        return fill(numbers, graph, self.run_graph(graph))

    def run_graph(self, graph: Graph, **options: Any) -> list[Any]:
        """Run a graph and return the values of its outputs, in order."""
        futures = submit_graph(self, graph)
        records = [future._record for future in futures]
        return fetch_values(self._engine, records, Deadline(None))

    @property
    def status(self) -> str:
        """``"running"`` or ``"closed"``."""
        return "running" if self._engine.core.ended is None else "closed"

    def close(self, timeout: float = 10.0) -> None:
        """Leave the cluster, and end it if it is this client's own; again does nothing.

        Futures that are pending are settled as cancelled.
        """
        remove_client(self)
        self._finalizer.detach()
        self._close_parts(timeout)

    def _close_parts(self, timeout: float) -> None:
        engine = getattr(self, "_engine", None)
        try:
            if engine is not None:
                engine.close("the client was closed", timeout)
        finally:
            if self._owned is not None and (engine is None or engine.is_own_process):
                self._owned.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        ended = self._engine.core.ended
        reason = None if ended is None else ended.reason
        return describing.one_line("Client", self._engine.address, self._nodes(), reason)

    def _repr_html_(self) -> str:
        address = self._engine.address
        return describing.table("Client", address, self._nodes(), self._method, self.status)


def get_client(address: str | None = None, timeout: float = 30.0) -> Client:
    """Return a client: inside a task one of its cluster, else the newest live one.

    Parameters
    ----------
    address : str, optional
        Of a scheduler, to get a client of that one.
    timeout : float
        Seconds to wait for the scheduler, where a client has to be made.

    Raises
    ------
    ClientClosed
        If there is none.
    """
    task = running_task.get()
    if address is None:
        if task is None:
            return default_client()
        address = task.scheduler
    for client in reversed(live_clients()):
        if client._engine.address == address:
            return client
    # Who is in the cluster already has accepted its address.
    made = Client(address, timeout=timeout, set_as_default=False, insecure=True)
    _kept.append(made)
    return made


#: Clients made by `get_client`, which nobody else may hold: they live as long as we do.
_kept: list[Client] = []
