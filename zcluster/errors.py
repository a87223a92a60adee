"""Every error zcluster raises on purpose, as one tree.

::

    ZClusterError
    ├── InvalidArgument (ValueError)      a value that cannot be meant: raised at the call
    │   ├── InvalidAddress
    │   ├── InvalidGraph                  a cycle, a missing key, an unhashable key
    │   ├── UnknownWorker                 a worker name or address nobody has
    │   ├── UnknownKey (KeyError)         a key that the configuration does not have
    │   └── NotCallable (TypeError)       what stands where a function is expected
    ├── NotSerializable (TypeError)       an object that cannot travel, and its bad part
    ├── NotAvailable (NotImplementedError, AttributeError)   a name there is not; a way round
    ├── ProtocolError                     the peer said something it may not say
    │   └── VersionMismatch
    ├── ClusterError                      the machinery failed, not the user's function
    │   ├── StartError (OSError)          a process or a connection did not come up
    │   │   └── AuthenticationFailed      because keys do not fit
    │   ├── SchedulerLost
    │   ├── ClientClosed
    │   ├── NoWorkers                     nobody could run it in time
    │   ├── StoreFull                     a node's store is at its limit
    │   │   └── OutOfDisk                 so is the disk it spills to
    │   └── DataLost                      a result that nobody can make again is gone
    ├── TaskError                         a task could not give its result
    │   ├── WorkerKilledError             it took its worker down, again and again
    │   │   └── OutOfMemory               its worker took more memory than it may
    │   ├── TaskTimeout (TimeoutError)    it took longer than it may
    │   ├── TaskLost                      it may have run, and may not run again
    │   ├── ActorLost                     an actor went with its worker, or was let go
    │   ├── ResultNotSerializable
    │   └── RemoteError                   an exception that could not be rebuilt here
    └── InvariantError (AssertionError)   a bug in zcluster: state that contradicts itself

The text of each ends in its code, such as ``[Z002]``; ``docs/errors.md`` explains them by code.

``CancelledError`` and ``TimeoutError`` are the standard library's own
(`concurrent.futures.CancelledError`, `TimeoutError`), so that code written for
other executors catches them.
"""

from __future__ import annotations

import re
from typing import ClassVar

__all__ = [
    "ActorLost",
    "AuthenticationFailed",
    "ClientClosed",
    "ClusterError",
    "DataLost",
    "InvalidAddress",
    "InvalidArgument",
    "InvalidGraph",
    "InvariantError",
    "NoWorkers",
    "NotAvailable",
    "NotCallable",
    "NotSerializable",
    "OutOfDisk",
    "OutOfMemory",
    "ProtocolError",
    "RemoteError",
    "ResultNotSerializable",
    "SchedulerLost",
    "StartError",
    "StoreFull",
    "TaskError",
    "TaskLost",
    "TaskTimeout",
    "UnknownKey",
    "UnknownWorker",
    "VersionMismatch",
    "WorkerKilledError",
    "ZClusterError",
]

_HAS_CODE = re.compile(r"\[Z\d{3}\]\Z")
#: Where the text of one goes on after that of another that it was made of.
_CODE_WITHIN = re.compile(r" \[Z\d{3}\](?=[;,.)])")


class ZClusterError(Exception):
    """The root of the tree."""

    #: Where the documentation explains it; also at the end of its text.
    code: ClassVar[str] = "Z000"

    def __str__(self) -> str:
        # One that was made of another's text has that one's code already, the nearer one.
        # Not super(): a KeyError would quote it.
        text = _CODE_WITHIN.sub("", Exception.__str__(self)).rstrip("\n")
        return text if not text or _HAS_CODE.search(text) else f"{text} [{self.code}]"


class InvalidArgument(ZClusterError, ValueError):
    """An argument that cannot be meant; raised at the call that gave it."""

    code = "Z001"


class InvalidAddress(InvalidArgument):
    """An address that does not parse or may not be used."""

    code = "Z002"


class InvalidGraph(InvalidArgument):
    """A graph with a cycle, a missing key or an unhashable key."""

    code = "Z003"


class UnknownWorker(InvalidArgument):
    """A worker name or address that no worker of the cluster has."""

    code = "Z004"


class UnknownKey(InvalidArgument, KeyError):
    """A key that the configuration does not have."""

    code = "Z021"


class NotCallable(InvalidArgument, TypeError):
    """What was given as a function and cannot be called."""

    code = "Z022"


class NotSerializable(ZClusterError, TypeError):
    """An object that cannot be turned into bytes."""

    code = "Z005"


class NotAvailable(ZClusterError, NotImplementedError, AttributeError):
    """A name of NumPy's or Dask's that there is not here; the text has a way round."""

    code = "Z027"


class ProtocolError(ZClusterError):
    """A message that is malformed, too large, or not allowed here."""

    code = "Z006"


class VersionMismatch(ProtocolError):
    """The two ends speak different versions of the protocol."""

    code = "Z007"


class ClusterError(ZClusterError):
    """The machinery failed, not the user's function."""

    code = "Z008"


class StartError(ClusterError, OSError):
    """A process or a connection did not come up in time."""

    code = "Z009"


class AuthenticationFailed(StartError):
    """The other end refuses our key, or has none of the key that was expected of it."""

    code = "Z028"


class SchedulerLost(ClusterError):
    """The connection to the scheduler is gone for good."""

    code = "Z010"


class ClientClosed(ClusterError, RuntimeError, ValueError):
    """The client was closed before the call or while it waited, or there is none."""

    code = "Z011"


class NoWorkers(ClusterError, TimeoutError):
    """Too few workers, for too long."""

    code = "Z012"


class StoreFull(MemoryError, ClusterError):
    """A node's store is at its limit."""

    code = "Z013"


class OutOfDisk(StoreFull):
    """A node's store is at its limit, and the disk it spills to is full."""

    code = "Z023"


class DataLost(ClusterError):
    """A result that cannot be computed again is gone with its last holder."""

    code = "Z014"


class TaskError(ZClusterError):
    """A task could not give its result."""

    code = "Z015"


class WorkerKilledError(TaskError):
    """A task whose worker process died each time it ran there."""

    code = "Z016"


class OutOfMemory(WorkerKilledError, MemoryError):
    """A task whose worker took more memory than it may, each time it ran there."""

    code = "Z024"


class TaskTimeout(TaskError, TimeoutError):
    """A task that took longer than its ``timeout``."""

    code = "Z025"


class TaskLost(TaskError):
    """A task that runs at most once, was lost with its worker, and may have run."""

    code = "Z026"


class ActorLost(TaskError):
    """An actor that cannot be called any more, and its state with it."""

    code = "Z017"


class ResultNotSerializable(TaskError, TypeError):
    """A result that cannot leave the worker that made it."""

    code = "Z018"


class RemoteError(TaskError):
    """Stands for an exception that could not be rebuilt in this process.

    Attributes
    ----------
    type_name : str
        Qualified name of the original type.
    """

    code = "Z019"

    def __init__(self, message: str, type_name: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name


class InvariantError(ZClusterError, AssertionError):
    """State that contradicts itself: a bug in zcluster."""

    code = "Z020"
