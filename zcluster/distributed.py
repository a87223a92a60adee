"""The cluster's names under the module where Dask users look for them.

>>> from zcluster.distributed import Client, progress

Importing this module also makes the newest live client the one that collections
compute with.
"""

from __future__ import annotations

import builtins
import warnings
import weakref
from concurrent.futures import CancelledError
from typing import Any, NoReturn

from zcluster.client.actors import Actor, ActorFuture
from zcluster.client.client import Client, get_client
from zcluster.client.cluster import LocalCluster
from zcluster.client.completing import as_completed
from zcluster.client.default import default_client, follow_default
from zcluster.client.describing import Status
from zcluster.client.future import Future
from zcluster.client.inner import rejoin, secede, worker_client
from zcluster.client.locks import Event, Lock, MultiLock, Semaphore
from zcluster.client.plugins import WorkerPlugin
from zcluster.client.progress import progress
from zcluster.client.queues import Queue, Variable
from zcluster.client.waiting import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    fire_and_forget,
    futures_of,
    wait,
)
from zcluster.collection.compute import pop_runner, push_runner
from zcluster.errors import ClientClosed, WorkerKilledError
from zcluster.graph.layers import Graph
from zcluster.servers.calls import get_worker
from zcluster.types import Reschedule

# The standard library's own, so that code written for other executors catches it.
TimeoutError = TimeoutError

#: The old name of `Client`, with ``submit``, ``map``, ``gather`` and ``get``.
Executor = Client

#: What an actor's methods return.
BaseActorFuture = ActorFuture


def CompatibleExecutor(*args: Any, **kwargs: Any) -> NoReturn:
    """Raise: this is `Client.get_executor` now, as in Dask."""
    raise NotImplementedError("CompatibleExecutor is gone; use Client(...).get_executor()")


#: The old name of `worker_client`.
local_client = worker_client

#: What tasks print and warn of appears at the client in any case.
print = builtins.print
warn = warnings.warn

#: The name that Dask has for it.
KilledWorker = WorkerKilledError

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "Actor",
    "ActorFuture",
    "BaseActorFuture",
    "CancelledError",
    "Client",
    "CompatibleExecutor",
    "Event",
    "Executor",
    "Future",
    "KilledWorker",
    "LocalCluster",
    "Lock",
    "MultiLock",
    "Queue",
    "Reschedule",
    "Semaphore",
    "Status",
    "TimeoutError",
    "Variable",
    "WorkerPlugin",
    "as_completed",
    "default_client",
    "fire_and_forget",
    "futures_of",
    "get_client",
    "get_worker",
    "local_client",
    "print",
    "progress",
    "rejoin",
    "secede",
    "wait",
    "warn",
    "worker_client",
]


class _WeakRunner:
    """Runs graphs with a client without keeping it alive: it ends with its last user."""

    def __init__(self, client: Client) -> None:
        self._client = weakref.ref(client)

    def run_graph(self, graph: Graph, **options: Any) -> list[Any]:
        client = self._client()
        if client is None:
            raise ClientClosed("the client these collections were computed with is gone")
        return client.run_graph(graph, **options)

    def submit_graph(self, graph: Graph, **options: Any) -> list[Future]:
        client = self._client()
        if client is None:
            raise ClientClosed("the client these collections were computed with is gone")
        return client.submit_graph(graph, **options)


#: What takes a client's runner away: at its close, or when nobody holds it any more.
_ends: weakref.WeakKeyDictionary[Client, weakref.finalize[..., Client]]
_ends = weakref.WeakKeyDictionary()


def _push(client: Client) -> None:
    runner = _WeakRunner(client)
    push_runner(runner)
    _ends[client] = weakref.finalize(client, pop_runner, runner)
    _ends[client].atexit = False


def _pop(client: Client) -> None:
    end = _ends.pop(client, None)
    if end is not None:
        end()


follow_default(_push, _pop)
