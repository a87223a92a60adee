"""Which frames of a traceback users see: their own.

A function that users call is marked with `hides_frames`. What leaves it by exception shows no
frame of zcluster, not even of that function: a bare ``raise`` does not add the frame in which it
stands. What is a bug of ours keeps them all, and so does everything where the configuration
says ``traceback.full`` (or ``ZCLUSTER_FULL_TRACEBACK=1`` is set).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

from zcluster import config
from zcluster.errors import InvariantError, ZClusterError

__all__ = ["hide_frames", "hides_frames", "is_ours", "shows_all"]

P = ParamSpec("P")
R = TypeVar("R")

_ROOT = os.path.dirname(__file__) + os.sep
#: Raised on purpose: their text says all there is to say.
_ON_PURPOSE = (ZClusterError, CancelledError, TimeoutError, KeyboardInterrupt)


def shows_all() -> bool:
    """Tell whether all frames are to be shown."""
    return bool(config.get("traceback.full"))


def is_ours(trace: TracebackType) -> bool:
    """Tell whether an entry of a traceback is of zcluster's own code."""
    return trace.tb_frame.f_code.co_filename.startswith(_ROOT)


def hide_frames(error: BaseException) -> None:
    """Take zcluster's frames out of an exception's traceback, unless they are the news.

    They are where nothing else is left of an error that was not raised on purpose.
    """
    theirs = []
    trace = _traceback_of(error)
    while trace is not None:
        if not is_ours(trace):
            theirs.append(trace)
        trace = trace.tb_next
    is_meant = isinstance(error, _ON_PURPOSE) and not isinstance(error, InvariantError)
    if (not theirs and not is_meant and not _is_of_task(error)) or shows_all():
        return
    kept: TracebackType | None = None
    for trace in reversed(theirs):
        kept = TracebackType(kept, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
    BaseException.with_traceback(error, kept)


def _traceback_of(error: BaseException) -> TracebackType | None:
    """Return an exception's traceback, also if its class answers for all attributes itself."""
    trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return trace


def _is_of_task(error: BaseException) -> bool:
    """Whether it came without a traceback from a task: its notes say where it is from."""
    try:
        return any(str(note).startswith("task ") for note in getattr(error, "__notes__", ()))
    except Exception:  # the class answers for all attributes itself
        return False


def hides_frames(function: Callable[P, R]) -> Callable[P, R]:
    """Have what leaves a function by exception show the frames of users alone.

    Examples
    --------
    >>> from traceback import extract_tb
    >>> @hides_frames
    ... def call(function):
    ...     return function()
    >>> try:
    ...     call(lambda: 1 / 0)
    ... except ZeroDivisionError as error:
    ...     [entry.name for entry in extract_tb(error.__traceback__)]
    ['<module>', 'call', '<lambda>']
    """

    @wraps(function)
    def hiding(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            hide_frames(error)
            raise

    return hiding
