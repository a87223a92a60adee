"""Every error zcluster raises on purpose, as one tree.

::

    ZClusterError
    ├── InvalidArgument (ValueError)      a value that cannot be meant: raised at the call
    │   ├── InvalidAddress
    │   ├── InvalidGraph                  a cycle, a missing key, an unhashable key
    │   └── UnknownWorker                 a worker name or address nobody has
    ├── NotSerializable (TypeError)       an object that cannot travel, and its bad part
    ├── ProtocolError                     the peer said something it may not say
    │   └── VersionMismatch
    ├── ClusterError                      the machinery failed, not the user's function
    │   ├── StartError                    a process or a connection did not come up
    │   ├── SchedulerLost
    │   ├── ClientClosed
    │   ├── NoWorkers                     nobody could run it in time
    │   ├── StoreFull                     a node's store is at its limit
    │   └── DataLost                      a result that nobody can make again is gone
    ├── TaskError                         a task could not give its result
    │   ├── WorkerKilledError             it took its worker down, again and again
    │   ├── ResultNotSerializable
    │   └── RemoteError                   an exception that could not be rebuilt here
    └── InvariantError (AssertionError)   a bug in zcluster: state that contradicts itself

``CancelledError`` and ``TimeoutError`` are the standard library's own
(`concurrent.futures.CancelledError`, `TimeoutError`), so that code written for
other executors catches them.
"""

from __future__ import annotations

__all__ = [
    "ClientClosed",
    "ClusterError",
    "DataLost",
    "InvalidAddress",
    "InvalidArgument",
    "InvalidGraph",
    "InvariantError",
    "NoWorkers",
    "NotSerializable",
    "ProtocolError",
    "RemoteError",
    "ResultNotSerializable",
    "SchedulerLost",
    "StartError",
    "StoreFull",
    "TaskError",
    "UnknownWorker",
    "VersionMismatch",
    "WorkerKilledError",
    "ZClusterError",
]


class ZClusterError(Exception):
    """The root of the tree."""


class InvalidArgument(ZClusterError, ValueError):
    """An argument that cannot be meant; raised at the call that gave it."""


class InvalidAddress(InvalidArgument):
    """An address that does not parse or may not be used."""


class InvalidGraph(InvalidArgument):
    """A graph with a cycle, a missing key or an unhashable key."""


class UnknownWorker(InvalidArgument):
    """A worker name or address that no worker of the cluster has."""


class NotSerializable(ZClusterError, TypeError):
    """An object that cannot be turned into bytes."""


class ProtocolError(ZClusterError):
    """A message that is malformed, too large, or not allowed here."""


class VersionMismatch(ProtocolError):
    """The two ends speak different versions of the protocol."""


class ClusterError(ZClusterError):
    """The machinery failed, not the user's function."""


class StartError(ClusterError):
    """A process or a connection did not come up in time."""


class SchedulerLost(ClusterError):
    """The connection to the scheduler is gone for good."""


class ClientClosed(ClusterError, RuntimeError):
    """The client was closed before the call or while it waited."""


class NoWorkers(ClusterError, TimeoutError):
    """Too few workers, for too long."""


class StoreFull(MemoryError, ClusterError):
    """A node's store is at its limit."""


class DataLost(ClusterError):
    """A result that cannot be computed again is gone with its last holder."""


class TaskError(ZClusterError):
    """A task could not give its result."""


class WorkerKilledError(TaskError):
    """A task whose worker process died each time it ran there."""


class ResultNotSerializable(TaskError, TypeError):
    """A result that cannot leave the worker that made it."""


class RemoteError(TaskError):
    """Stands for an exception that could not be rebuilt in this process.

    Attributes
    ----------
    type_name : str
        Qualified name of the original type.
    """

    def __init__(self, message: str, type_name: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name


class InvariantError(ZClusterError, AssertionError):
    """State that contradicts itself: a bug in zcluster."""
