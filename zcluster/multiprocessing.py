"""Hand-written graphs in processes of this machine: the runner of ``scheduler="processes"``.

It is a local cluster of its own, of processes with one thread each, with a client that is not
anybody's default. It starts with the first graph and stays; `close` ends it, as Ctrl-C and the end
of the program do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

from zcluster.client.client import Client
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import Graph
from zcluster.local import get_with, wanted_workers

__all__ = ["ProcessesRunner", "close", "get"]


class _Cluster:
    """A client with a cluster of its own, and how many runs use it."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pid = os.getpid()
        self.users = 0
        self.client = Client(n_workers=workers, threads_per_worker=1, set_as_default=False)

    @property
    def is_usable(self) -> bool:
        """Whether graphs may go there: not after a fork, nor when somebody closed the client."""
        return self.pid == os.getpid() and self.client.status == "running"


#: The cluster of this process, and what guards it and the counts of users.
_cluster: _Cluster | None = None
_guard = Lock()


def _after_fork() -> None:
    global _cluster, _guard
    _cluster, _guard = None, Lock()


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def _borrowed(workers: int | None) -> Iterator[Client]:
    """Lend the cluster to a run: with so many workers, or any number for None."""
    global _cluster
    gone = None
    with _guard:
        cluster = _cluster
        if cluster is None or not cluster.is_usable or workers not in (None, cluster.workers):
            # The old one first: two of them may be more than there is memory for.
            gone, _cluster = cluster, None
            if gone is not None and not gone.users:
                gone.client.close()
            cluster = _cluster = _Cluster(wanted_workers(workers))
        cluster.users += 1
    try:
        yield cluster.client
    except KeyboardInterrupt:
        # What runs there would run on, in the way of what comes next.
        with _guard:
            if cluster is _cluster:
                _cluster = None
        raise
    finally:
        with _guard:
            cluster.users -= 1
            is_last = not cluster.users and cluster is not _cluster
        if is_last:
            cluster.client.close()


class ProcessesRunner:
    """Runs graphs on the cluster of this process, which is started when it is first needed."""

    def run_graph(
        self, graph: Graph, *, num_workers: int | None = None, **options: Any
    ) -> list[Any]:
        """Run a graph; return the values of its outputs, in order.

        Parameters
        ----------
        graph : Graph
        num_workers : int, optional
            Processes. Where there is a cluster with another number, a new one takes its place.
        **options
            See `zcluster.client.Client.run_graph`.
        """
        if num_workers is not None:
            num_workers = wanted_workers(num_workers)
        for item in graph.imports:
            if hasattr(item, "result"):
                raise InvalidArgument(
                    f"found {item!r} among the inputs, which the processes of this runner cannot "
                    "reach; expected no futures: compute with their client, or pass their results"
                )
        with _borrowed(num_workers) as client:
            return client.run_graph(graph, **options)

    def __repr__(self) -> str:
        found = _cluster
        state = "not started" if found is None else f"{found.workers} workers"
        return f"<ProcessesRunner: {state}>"


_processes = ProcessesRunner()


def get(dsk: Mapping[Any, Any], keys: Any, num_workers: int | None = None, **options: Any) -> Any:
    """Run a hand-written graph in processes; only what the keys need is run.

    Parameters
    ----------
    dsk : mapping
        See `zcluster.graph.spec`.
    keys : key, or (nested) list of keys
        What is wanted.
    num_workers : int, optional
        Processes; by default as many as run already, or as there are processors.
    **options
        See `zcluster.client.Client.run_graph`.

    Returns
    -------
    values : object
        One value, or tuples of values nested as the keys.

    Examples
    --------
    >>> get({"x": 1, "y": (sum, ["x", 2])}, ["y", "x"])  # doctest: +SKIP
    (3, 1)
    """
    return get_with(_processes, dsk, keys, num_workers=num_workers, **options)


def close() -> None:
    """End the cluster, if there is one; the next run starts another."""
    global _cluster
    with _guard:
        cluster, _cluster = _cluster, None
    if cluster is not None:
        cluster.client.close()
