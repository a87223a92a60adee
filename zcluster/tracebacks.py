"""Which frames of a traceback users see: their own.

A function that users call is marked with `hides_frames`. What leaves it by exception shows no
frame of zcluster, not even of that function: a bare ``raise`` does not add the frame in which it
stands. What is a bug of ours keeps them all, and so does everything where the configuration
says ``traceback.full`` (or ``ZCLUSTER_FULL_TRACEBACK=1`` is set).

A traceback cannot be pickled, but it can be described: `reduce_traceback` says where its entries
stand, columns too, and `make_traceback` makes one that is shown alike, of frames without variables.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from functools import wraps
from itertools import islice
from types import CodeType, TracebackType
from typing import Any, NamedTuple, ParamSpec, TypeVar

from zcluster import config
from zcluster.errors import InvariantError, NotSerializable, ZClusterError

__all__ = [
    "hide_frames",
    "hides_frames",
    "is_ours",
    "make_traceback",
    "reduce_traceback",
    "shows_all",
]

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
    theirs = [trace for trace in _entries(error) if not is_ours(trace)]
    is_meant = isinstance(error, _ON_PURPOSE) and not isinstance(error, InvariantError)
    if (not theirs and not is_meant and not _is_of_task(error)) or shows_all():
        return
    _show_only(error, theirs)
    cause = error.__cause__ if isinstance(error, NotSerializable) else None
    if cause is not None:
        # What pickling raised: news are the user's own methods in it, not the way down to them.
        _show_only(cause, [t for t in _entries(cause) if not is_ours(t) and not _is_pickler(t)])


def _show_only(error: BaseException, entries: list[TracebackType]) -> None:
    kept: TracebackType | None = None
    for trace in reversed(entries):
        kept = TracebackType(kept, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
    BaseException.with_traceback(error, kept)


def _is_pickler(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__")).startswith("cloudpickle.")


def _entries(error: BaseException) -> Iterator[TracebackType]:
    trace = _traceback_of(error)
    while trace is not None:
        yield trace
        trace = trace.tb_next


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


class _Entry(NamedTuple):
    """Where an entry of a traceback stands; the columns are of its first and last line."""

    file: str
    name: str
    module: str
    line: int
    end_line: int | None
    column: int | None
    end_column: int | None


def reduce_traceback(
    trace: TracebackType,
) -> tuple[Callable[..., TracebackType], tuple[list[tuple[Any, ...]]]]:
    """Return what pickle needs to make a traceback again; for `copyreg.pickle`."""
    entries = []
    following: TracebackType | None = trace
    while following is not None:
        frame, line = following.tb_frame, following.tb_lineno
        code = frame.f_code
        at = following.tb_lasti // 2
        where = next(islice(code.co_positions(), max(at, 0), None), (None,) * 4)
        if where[0] != line or at < 0:
            where = (None,) * 4
        module = str(frame.f_globals.get("__name__", ""))
        entries.append((code.co_filename, code.co_name, module, line, *where[1:]))
        following = following.tb_next
    return make_traceback, (entries,)


def make_traceback(entries: list[tuple[Any, ...]]) -> TracebackType:
    """Return a traceback with the entries that `reduce_traceback` has told, one at least.

    Examples
    --------
    >>> from traceback import extract_tb
    >>> trace = make_traceback([("here.py", "divide", "here", 7, 7, 4, 9)])
    >>> entry, = extract_tb(trace)
    >>> entry.filename, entry.name, entry.lineno, entry.colno, entry.end_colno
    ('here.py', 'divide', 7, 4, 9)
    """
    made: TracebackType | None = None
    for fields in reversed(entries):
        entry = _Entry(*fields)
        try:
            exec(_stub(entry), {"__name__": entry.module, "__file__": entry.file})
        except NameError as error:
            below = error.__traceback__
            assert below is not None
            assert below.tb_next is not None
            stood = below.tb_next
            made = TracebackType(made, stood.tb_frame, stood.tb_lasti, entry.line)
    assert made is not None
    return made


_STUB = compile("__zcluster_traceback__", "<traceback>", "exec")
#: Kinds of entries in a table of locations (PEP 626, Objects/locations.md of CPython).
_NO_COLUMNS, _LONG = 13, 14


def _stub(entry: _Entry) -> CodeType:
    """Return code that fails where an entry stands, without what compiling put there."""
    kind, numbers = _NO_COLUMNS, b"\0"
    if entry.column is not None and entry.end_column is not None and entry.end_line is not None:
        kind = _LONG
        lines = max(0, entry.end_line - entry.line)
        numbers += _varint(lines) + _varint(entry.column + 1) + _varint(entry.end_column + 1)
    units = len(_STUB.co_code) // 2
    table = b""
    while units > 0:
        length = min(units, 8)
        table += bytes((0x80 | kind << 3 | length - 1,)) + numbers
        units -= length
    return _STUB.replace(
        co_filename=entry.file,
        co_name=entry.name,
        co_qualname=entry.name,
        co_firstlineno=entry.line,
        co_linetable=table,
    )


def _varint(number: int) -> bytes:
    """Return a number six bits at a time, the lowest first."""
    data = bytearray()
    while number > 63:
        data.append(0x40 | number & 63)
        number >>= 6
    data.append(number)
    return bytes(data)
