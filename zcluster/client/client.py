"""The client: what users hold of a cluster.

`Client` turns calls into tasks and tasks into `Future` objects. It holds no state of
its own worth the name: that is in the core (what is wanted), the engine (what is on
the wire) and the futures. Its methods may be called from any thread.
"""

from __future__ import annotations

import inspect
import os
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NoReturn

from zcluster import config
from zcluster.client import describing, stuck
from zcluster.client.addresses import find_target
from zcluster.client.asynchronous import awaitable_class, run_here
from zcluster.client.calls import Calls
from zcluster.client.cluster import LocalCluster
from zcluster.client.data import Data
from zcluster.client.default import (
    add_client,
    as_current,
    default_client,
    live_clients,
    remove_client,
)
from zcluster.client.engine import Engine
from zcluster.client.executor import ClientExecutor
from zcluster.client.future import Future, fetch_values
from zcluster.client.gates import Deadline
from zcluster.client.graphs import (
    compute_collections,
    persist_collections,
    submit_graph,
    wish,
)
from zcluster.client.html import client_html
from zcluster.client.identity import Identity
from zcluster.client.inspecting import Inspecting
from zcluster.client.keywords import OF_CLIENTS, drop_needless
from zcluster.client.plugins import Plugging
from zcluster.client.pool import ClientPool
from zcluster.client.printing import Printing
from zcluster.client.recreating import Recreating
from zcluster.client.sharing import Sharing
from zcluster.config import Time, parse_timedelta
from zcluster.errors import ClusterError, InvalidArgument, NotSerializable
from zcluster.graph.layers import Graph
from zcluster.graph.spec import fill, from_dict
from zcluster.tracebacks import hides_frames
from zcluster.types import running_task

__all__ = ["Client", "get_client"]


class Client(Calls, Data, Identity, Inspecting, Printing, Recreating, Sharing, Plugging):
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
    timeout : float, str or timedelta, optional
        Seconds to wait for the cluster to answer; ``client.timeout`` of the configuration
        if absent.
    name : str, optional
        Of this client.
    set_as_default : bool
        Whether ``compute()`` should use it while it is the newest.
    asynchronous : bool
        For event loops: ``await`` the client first, or use ``async with``; methods that
        wait are then to be awaited too (see `zcluster.client.asynchronous`).
    insecure : bool
        Accept plain TCP, over which anyone on the network could run code as you.
    **options
        Further keywords of `LocalCluster`. Those of Dask's client that mean nothing here
        (``loop``, ``security=None``, ``direct_to_workers``, …) are accepted too.

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

    def __new__(cls, *args: Any, asynchronous: bool = False, **kwargs: Any) -> Client:
        """Make a client, of a class of its own if it is asynchronous."""
        return super().__new__(awaitable_class(cls) if asynchronous else cls)

    @hides_frames
    def __init__(
        self,
        address: Any = None,
        *,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        memory_limit: int | float | str | None = None,
        processes: bool | None = None,
        scheduler_file: str | os.PathLike[str] | None = None,
        timeout: Time | None = None,
        name: str | None = None,
        set_as_default: bool = True,
        asynchronous: bool = False,
        insecure: bool = False,
        **options: Any,
    ) -> None:
        if timeout is None:
            timeout = config.get("client.timeout")
        timeout = parse_timedelta(timeout)
        if timeout <= 0:
            raise InvalidArgument(f"timeout is {timeout!r}, expected seconds above zero")
        if not isinstance(name, str | None):
            raise InvalidArgument(f"name is {name!r}, expected text, or None")
        given = {
            "n_workers": n_workers,
            "threads_per_worker": threads_per_worker,
            "memory_limit": memory_limit,
            "processes": processes,
        }
        drop_needless(options, OF_CLIENTS)
        options |= {key: value for key, value in given.items() if value is not None}
        target = find_target(address, scheduler_file, insecure, timeout, options)
        self._owned = target.owned
        self.cluster = target.cluster
        self._method = target.method
        try:
            if self._owned is not None:
                # It ends at once where its scheduler cannot start; a connection would wait.
                self._owned.wait_started(timeout)
            self._engine = Engine(
                target.address, name=name or f"client-{os.getpid()}", timeout=timeout
            )
            if isinstance(target.cluster, LocalCluster):
                # Not of the cluster itself: an engine that ends must not keep it alive.
                self._engine.why_lost = target.cluster._supervisor.describe_failure
            self._hear_output()
            stuck.listen(self._engine)
            self._finalizer = weakref.finalize(self, self._engine.close, "it is not used", 1.0)
            self._finalizer.atexit = False  # `default` closes those that are left in order
            if self._owned is not None and self._owned.n_workers:
                self.wait_for_workers(self._owned.n_workers, timeout)
        except BaseException:
            self._close_parts(1.0)
            raise
        add_client(self, set_as_default)

    @hides_frames
    def compute(self, collections: Any, sync: bool = False, **wishes: Any) -> Any:
        """Compute lazy collections.

        Parameters
        ----------
        collections : collection, or list of them
        sync : bool
            Return results; else futures of them, at once.
        **wishes
            ``workers``, ``retries``, ``priority``, ``resources``, …: as in `submit`, for
            all tasks but those that have wishes of their own.

        Raises
        ------
        InvalidArgument
            For a wish that nobody knows or that cannot be meant.
        """
        return compute_collections(self, collections, sync, wishes)

    def persist(self, collections: Any, **wishes: Any) -> Any:
        """Start computing collections; return the like, whose parts are on the cluster.

        What is made of them later begins with these parts, as long as somebody holds them.
        Parameters are those of `compute`.

        Examples
        --------
        >>> total = client.persist(zcluster.delayed(sum)([1, 2]))    # doctest: +SKIP
        >>> (total + 1).compute()                                    # doctest: +SKIP
        4
        """
        return persist_collections(self, collections, wishes)

    @hides_frames
    def get(self, dsk: Mapping[Any, Any], keys: Any) -> Any:
        """Run a hand-written graph and return the values of some of its keys.

        Examples
        --------
        >>> client.get({"x": 1, "y": (abs, "x")}, ["y"])         # doctest: +SKIP
        [1]
        """
        graph, numbers = from_dict(dsk, keys)
        return fill(numbers, graph, self.run_graph(graph))

    def submit_graph(self, graph: Graph, **options: Any) -> list[Future]:
        """Submit a graph; return futures of its outputs, in order. Options as in `compute`."""
        wish(self, graph, options)
        return submit_graph(self, graph)

    def run_graph(self, graph: Graph, **options: Any) -> list[Any]:
        """Run a graph and return the values of its outputs, in order; options as in `compute`."""
        wish(self, graph, options)
        futures = submit_graph(self, graph)
        records = [future._record for future in futures]
        return fetch_values(self._engine, records, Deadline(None))

    @property
    def name(self) -> str:
        """What this client is called, for people."""
        return self._engine.name

    def get_executor(self, **options: Any) -> ClientExecutor:
        """Return a `concurrent.futures.Executor` that runs calls on this cluster.

        Parameters
        ----------
        **options
            As in `submit`: ``workers``, ``resources``, ``retries``, ``priority``, …; ``pure``
            is False unless given.
        """
        return ClientExecutor(self, **options)

    def get_pool(self, **options: Any) -> ClientPool:
        """Return what looks like a `multiprocessing.Pool` and runs calls on this cluster.

        Options are as in `get_executor`.
        """
        return ClientPool(self, **options)

    def as_current(self) -> AbstractContextManager[Client]:
        """Make this client the default one within a ``with`` block."""
        return as_current(self)

    @classmethod
    def current(cls, allow_global: bool = True) -> Client:
        """Return the client of the `as_current` block this is in, or else the default one.

        Parameters
        ----------
        allow_global : bool
            Whether the newest client will do where there is no block.

        Raises
        ------
        ClientClosed
            If there is none.
        """
        return default_client(allow_global)

    def sync(
        self,
        func: Callable[..., Any],
        *args: Any,
        asynchronous: bool | None = None,
        callback_timeout: Time | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call a function and, if it gives something to await, wait for what that gives.

        Parameters
        ----------
        asynchronous : bool, optional
            Return what is to be awaited as it is; whether the client is, if absent.
        callback_timeout : float, str or timedelta, optional
            Seconds to wait.
        """
        made = func(*args, **kwargs)
        is_left = self.asynchronous if asynchronous is None else asynchronous
        if is_left or not inspect.isawaitable(made):
            return made
        return run_here(made, callback_timeout)

    @property
    def status(self) -> describing.Status:
        """``"running"`` or ``"closed"``."""
        ended = self._engine.core.ended
        return describing.Status.running if ended is None else describing.Status.closed

    def close(self, timeout: Time = 10.0) -> None:
        """Leave the cluster, and end it if it is this client's own; again does nothing.

        Futures that are pending are settled as cancelled.
        """
        remove_client(self)
        self._finalizer.detach()
        self._close_parts(parse_timedelta(timeout))

    def shutdown(self) -> None:
        """End the cluster, whoever made it, and leave it; again does nothing.

        Raises
        ------
        NotImplementedError
            Where this client was given no cluster but an address: then whoever started the
            scheduler ends it.
        """
        cluster = self.cluster
        if cluster is None and self._engine.core.ended is None:
            raise NotImplementedError(
                f"a client of {self._engine.address} cannot end that scheduler; end its process "
                "(Ctrl-C, or kill), or make the client with the cluster: Client(cluster)"
            )
        self.close()
        if cluster is not None:
            cluster.close()

    def _close_parts(self, timeout: float) -> None:
        engine = getattr(self, "_engine", None)
        try:
            if engine is not None:
                engine.close("the client was closed", timeout)
                self._end_output()
        finally:
            if self._owned is not None and (engine is None or engine.is_own_process):
                self._owned.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Any:
        raise TypeError("this client is not asynchronous; use `with`, or Client(asynchronous=True)")

    async def __aexit__(self, *_: object) -> None:
        return

    def __reduce__(self) -> NoReturn:
        raise NotSerializable(
            "a Client was pickled, perhaps as what a task's function uses; a client stays in its "
            "process: in a task get_client() gives one of the same cluster"
        )

    def __repr__(self) -> str:
        ended = self._engine.core.ended
        reason = None if ended is None else ended.reason
        return describing.one_line("Client", self._engine.address, self._nodes(), reason)

    def _repr_html_(self) -> str:
        try:
            info = describing.cluster_info(self._engine.ask("info", timeout=1.0))
        except (ClusterError, TimeoutError):  # closed, or too busy: what is known here
            info = describing.known_info(self._engine.address, self._nodes())
        return client_html(
            info,
            name=self.name,
            method=self._method,
            status=self.status,
            cluster_type=_type_name(self.cluster),
            processes=getattr(self.cluster, "processes", True),
            now=time.time(),
        )


def _type_name(cluster: Any) -> str:
    kind = type(cluster)
    return "" if cluster is None else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def get_client(address: str | None = None, timeout: Time = 30.0) -> Client:
    """Return a client: inside a task one of its cluster, else the newest live one.

    Parameters
    ----------
    address : str, optional
        Of a scheduler, to get a client of that one.
    timeout : float, str or timedelta
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
