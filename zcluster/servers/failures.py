"""An exception as plain bounded fields: what `ErrorInfo` says of a task that failed.

Whatever a task raises must reach the user, whatever the exception is: one whose
``__str__`` raises, one with 100 MB of arguments, one with a traceback of ten
thousand frames, one that cannot be pickled. So the fields are text of bounded
length, made with every step guarded, and the pickled exception is an extra that may
be absent.

The traceback shows the user's frames alone: those of zcluster above the call are
taken off, unless the configuration says ``traceback.full``.
"""

from __future__ import annotations

import copyreg
import os
import platform
import sys
import traceback
from types import TracebackType, WrapperDescriptorType
from typing import Any

from zcluster.errors import NotSerializable
from zcluster.protocol.messages import ErrorInfo
from zcluster.protocol.objects import dumps_small
from zcluster.tracebacks import reduce_traceback, shows_all

__all__ = ["MESSAGE_LIMIT", "PICKLE_LIMIT", "TRACEBACK_LIMIT", "describe", "own_frames_off"]

#: Bytes of UTF-8 that each text may have, and bytes of the pickled exception.
MESSAGE_LIMIT = 10 << 10
TRACEBACK_LIMIT = 100 << 10
PICKLE_LIMIT = 256 << 10

#: Frames of a traceback that are formatted (each costs a look into a source file), and
#: that are pickled: tblib nests them, and the pickler's depth is bounded.
_FORMATTED = 500
_PICKLED = 100
#: Folders of the import path that are named, classes above an exception's own, and bytes of a name.
_PATHS, _BASES, _NAME_LIMIT = 6, 32, 200
#: Exceptions along ``__cause__`` and ``__context__`` that are looked at.
_CHAIN = 50

_ROOT = os.path.dirname(os.path.dirname(__file__))
_OURS = tuple(os.path.join(_ROOT, part) + os.sep for part in ("servers", "protocol", "storage"))


def describe(
    error: BaseException, task: int, kind: str, node: str, worker: str, arguments: str = ""
) -> tuple[ErrorInfo, bytes]:
    """Return what is reported of an exception, and the exception pickled (or ``b""``).

    The exception loses its traceback: frames would keep the task's inputs alive.

    Parameters
    ----------
    error : BaseException
        As caught around the task's call.
    task : int
        The task that failed.
    kind : str
        See `ErrorInfo`.
    node, worker : str
        Where it ran.
    arguments : str
        Of the call, as `show_arguments` gives them.
    """
    try:
        return _described(error, task, kind, node, worker, arguments)
    except BaseException as second:  # whatever is asked of it, its class may answer that itself
        message = f"<it cannot be looked at: {type(second).__name__} while trying>"
        name = _bounded(_type_name(type(error)), MESSAGE_LIMIT)
        bases = _bases(type(error))
        info = ErrorInfo(
            kind, name, message, "", task, 0, node, worker, arguments=arguments, bases=bases
        )
        return info, b""
    finally:
        BaseException.with_traceback(error, None)


def _described(
    error: BaseException, task: int, kind: str, node: str, worker: str, arguments: str
) -> tuple[ErrorInfo, bytes]:
    own_frames_off(error)
    if isinstance(error, ModuleNotFoundError):
        _tell_of_module(error, node, worker)
    info = ErrorInfo(
        kind=kind,
        type_name=_bounded(_type_name(type(error)), MESSAGE_LIMIT),
        message=_bounded(_text(error), MESSAGE_LIMIT),
        traceback=_bounded(_formatted(error), TRACEBACK_LIMIT),
        origin=task,
        attempt=0,
        node=node,
        worker=worker,
        arguments=arguments,
        bases=_bases(type(error)),
    )
    # Errors of our own are made again from their kind; they need no pickle.
    return info, _pickled(error) if kind == "task" else b""


def own_frames_off(error: BaseException) -> None:
    """Take zcluster's frames off the start of an exception's traceback."""
    if shows_all():
        return
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    error.__traceback__ = trace


def _tell_of_module(error: ModuleNotFoundError, node: str, worker: str) -> None:
    """Say where a module was looked for, and how it gets there."""
    name = error.name or "the module"
    own = [path or os.getcwd() for path in sys.path if not path.startswith(sys.base_prefix)]
    paths = list(dict.fromkeys(own))
    shown = ", ".join(paths[:_PATHS]) + (", …" if len(paths) > _PATHS else "")
    error.add_note(
        f"worker {worker} of node {node} (Python {platform.python_version()}) has no {name} in "
        f"{shown}; send it with client.upload_file('{name.partition('.')[0]}.py'), put it into a "
        "folder that both share, or install it there"
    )


def _bases(kind: type) -> list[str]:
    """Return the qualified names of a class and its bases, without ``object``."""
    return [
        _bounded(_type_name(base), _NAME_LIMIT)
        for base in kind.__mro__[:_BASES]
        if base is not object
    ]


def _type_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as second:  # the user's __str__ may raise anything, SystemExit too
        return f"<its message cannot be shown: __str__ raised {type(second).__name__}>"


def _formatted(error: BaseException) -> str:
    try:
        limit = -_FORMATTED if _depth(error.__traceback__) > _FORMATTED else None
        shown = traceback.TracebackException.from_exception(error, limit=limit, compact=True)
        text = "".join(shown.format())
    except BaseException as second:  # the user's source, __str__ or __notes__ are involved
        name = _type_name(type(error))
        return f"{name}: {_text(error)}\n<no traceback: {type(second).__name__} while formatting>\n"
    if limit is not None:
        text = f"<only the last {_FORMATTED} frames are shown>\n{text}"
    return text


def _depth(trace: TracebackType | None) -> int:
    depth = 0
    while trace is not None:
        trace = trace.tb_next
        depth += 1
    return depth


def _bounded(text: str, limit: int) -> str:
    """Return at most ``limit`` bytes of a text: its head and its tail, the middle marked."""
    # backslashreplace: a lone surrogate is no UTF-8 and would break the control frame.
    if len(text) <= limit:
        data = text.encode("utf-8", "backslashreplace")
        if len(data) <= limit:
            return data.decode()
    mark = f"\n[… {len(text)} characters in all, the middle is left out …]\n"
    half = (limit - len(mark.encode())) // 2
    head = text[:half].encode("utf-8", "backslashreplace")[:half]
    tail = text[-half:].encode("utf-8", "backslashreplace")[-half:]
    return head.decode("utf-8", "ignore") + mark + tail.decode("utf-8", "ignore")


def _pickled(error: BaseException) -> bytes:
    """Return the exception with its traceback and its chain, or less of it, or nothing."""
    # Not at the top: only tasks that fail need it.
    from tblib import pickling_support

    try:
        chain = _chain(error)
        for each in chain:
            own_frames_off(each)
            each.__traceback__ = _last_frames(each.__traceback__, _PICKLED)
        pickling_support.install(*chain)
        copyreg.pickle(TracebackType, reduce_traceback)  # with columns, which tblib leaves out
        for each in chain:
            if isinstance(type(each).__init__, WrapperDescriptorType):
                copyreg.pickle(type(each), _reduced_by_arguments)
        whole = _small(error)
        if whole:
            return whole
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return _small(error)
    except BaseException:  # attributes of the user's exception may raise anything
        return b""


def _reduced_by_arguments(error: BaseException) -> tuple[Any, ...]:
    """Reduce an exception whose ``__init__`` is C's: it is made again from its arguments.

    Else tblib sets its attributes from outside, and what ``__init__`` keeps in fields of
    its own is gone: the text of a UnicodeDecodeError, the code of a SystemExit.
    """
    from tblib.pickling_support import pickle_exception

    reduced: tuple[Any, ...] = pickle_exception(error, builtin_inits=(type(error).__init__,))
    return reduced


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    following: list[BaseException | None] = [error]
    while following and len(found) < _CHAIN:
        each = following.pop()
        if each is None or any(each is seen for seen in found):
            continue
        found.append(each)
        following += [each.__context__, each.__cause__]
    return found


def _last_frames(trace: TracebackType | None, count: int) -> TracebackType | None:
    for _ in range(_depth(trace) - count):
        assert trace is not None
        trace = trace.tb_next
    return trace


def _small(value: Any) -> bytes:
    try:
        return dumps_small(value, PICKLE_LIMIT) or b""
    except (NotSerializable, RecursionError, MemoryError):
        return b""
