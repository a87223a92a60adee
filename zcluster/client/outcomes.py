"""What a settled task gives its user: a value, or an exception that names its cause.

A task's own exception is raised as what it was: the same type, the traceback of the
worker below ours, its cause and context. It crosses the wire twice, as plain text
fields and, if that was possible, pickled. The pickled one is tried first; if it
cannot be rebuilt here, a `RemoteError` carries the text, of a class that is also the
original one where that is known, so that ``except ValueError`` still catches it.
"""

from __future__ import annotations

import importlib
from concurrent.futures import CancelledError
from typing import Any

from zcluster.core.client.records import Failure, Wanted
from zcluster.errors import (
    ActorLost,
    ClientClosed,
    DataLost,
    NoWorkers,
    OutOfDisk,
    OutOfMemory,
    RemoteError,
    ResultNotSerializable,
    SchedulerLost,
    StoreFull,
    TaskLost,
    TaskTimeout,
    WorkerKilledError,
    ZClusterError,
)
from zcluster.protocol.messages import ErrorInfo
from zcluster.protocol.objects import load

__all__ = ["exception_of", "raise_ended"]

_KILLED = {
    f"{kind.__module__}.{kind.__qualname__}": kind for kind in (WorkerKilledError, OutOfMemory)
}
_BY_KIND: dict[str, type[Exception]] = {
    "actor": ActorLost,
    "closed": ClientClosed,
    "disk": OutOfDisk,
    "killed": WorkerKilledError,
    "lost": DataLost,
    "once": TaskLost,
    "scheduler": SchedulerLost,
    "serialize": ResultNotSerializable,
    "store": StoreFull,
    "timeout": TaskTimeout,
    "workers": NoWorkers,
}


def raise_ended(failure: Failure) -> None:
    """Raise why a client can do nothing more."""
    raise _BY_KIND[failure.kind](failure.reason)


def exception_of(record: Wanted, origin: Wanted | None = None) -> BaseException:
    """Return the exception of a task that has no result; each call makes a new one.

    Parameters
    ----------
    record : Wanted
        Settled, and not with a result.
    origin : Wanted, optional
        The task whose failure this is, if it was an input and is known here.
    """
    failure: Failure = record.detail
    beyond = ""
    if failure.kind == "input" and not failure.pickled and origin is not None:
        theirs = origin.detail
        if isinstance(theirs, Failure):
            if theirs.reason != failure.reason:
                beyond = failure.reason  # why it did not run again, for one
            failure = theirs
    label = record.label
    if failure.kind == "cancelled":
        reason = f": {failure.reason}" if failure.reason else ""
        return CancelledError(f"task {label} was cancelled{reason}")
    kind = _BY_KIND.get(failure.kind)
    if failure.info is None:
        return (kind or ZClusterError)(f"task {label}: {failure.reason}")
    info = failure.info
    if info.kind == "killed":
        kind = _KILLED.get(info.type_name, kind)  # out of memory, perhaps
    if kind is not None:
        error: BaseException = kind(info.message or f"task {label} failed ({info.kind})")
        if info.traceback:
            error.add_note(info.traceback)
    else:
        error = _unpickled(failure.pickled) or _stand_in(info)
    notes = [*([beyond] if beyond else []), *_where(label, info, failure.attempt)]
    if not _add_notes(error, notes):
        error = _stand_in(info)
        _add_notes(error, notes)
    return error


def _add_notes(error: BaseException, notes: list[str]) -> bool:
    try:
        for note in notes:
            error.add_note(note)
    except Exception:  # its class answers for all attributes itself, or has strange notes
        return False
    return True


def _where(label: str, info: ErrorInfo, attempt: int) -> list[str]:
    """Return the sentences on a task that failed: its name, place, attempt and arguments."""
    place = f" on worker {info.worker}" if info.worker else ""
    place += f" of node {info.node}" if info.node else ""
    times = f", attempt {attempt}" if attempt > 1 else ""
    how = "failed"
    if info.kind == "input":
        which = f", {info.origin_key}," if info.origin_key else ""
        how = f"was not run: an input failed{which}"
    if info.kind == "killed" or info.type_name in _KILLED:
        times += " (a task may take down as many workers as cluster.allowed-failures says)"
    notes = [f"task {label} {how}{place}{times}"]
    if info.arguments:
        whose = "it" if info.kind != "input" else "the input"
        notes.append(f"{whose} was called with {info.arguments}")
    return notes


def _unpickled(data: bytes) -> BaseException | None:
    """Return a pickled exception; None if there is none or it cannot be rebuilt here.

    Unpickling runs code of the exception's class, which may raise anything; the text
    fields say the same thing, so nothing is lost when it does.
    """
    if not data:
        return None
    try:
        error = load(data)
    except Exception:
        return None
    return error if issubclass(type(error), BaseException) else None


def _stand_in(info: ErrorInfo) -> BaseException:
    """Return an error with the text, of the nearest class above the original that there is."""
    text = f"{info.type_name}: {info.message}"
    if info.traceback:
        text += f"\n\n{info.traceback}"
    for name in info.bases or [info.type_name]:
        original = _known_type(name)
        made = None if original is None else _made_of(original, text, info.type_name)
        if made is not None:
            return made
    return RemoteError(text, info.type_name)


def _made_of(original: type[Exception], text: str, type_name: str) -> BaseException | None:
    if original.__module__ == ZClusterError.__module__:
        return original(text)
    try:
        both = type("RemoteError", (RemoteError, original), {"__module__": RemoteError.__module__})
        made: BaseException = both(text, type_name)
    except Exception:
        # The layouts of the two do not fit, or the class wants to be made of other things.
        return None
    return made


def _known_type(name: str) -> type[Exception] | None:
    """Return the exception class of that name if it can be imported here."""
    module, _, short = name.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module or "builtins"), short, None)
    except Exception:  # it is not here, or importing it fails
        return None
    return found if isinstance(found, type) and issubclass(found, Exception) else None
