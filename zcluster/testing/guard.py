"""A guard around pure code: while it stands, the cores reach no clock, chance, file or thread."""

from __future__ import annotations

import builtins
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from zcluster.errors import InvariantError

__all__ = ["forbidden"]

_PURE = "zcluster.core."
_TIME = ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep", "time", "time_ns")
_CHANCE = ("choice", "choices", "randint", "random", "randrange", "sample", "shuffle", "uniform")
#: Who has it, under which name, and how it is called in what is raised.
_PLACES: list[tuple[Any, str, str]] = [
    *((time, name, f"time.{name}") for name in _TIME),
    *((random, name, f"random.{name}") for name in _CHANCE),
    (os, "urandom", "os.urandom"),
    (builtins, "open", "builtins.open"),
    (threading.Thread, "start", "Thread.start"),
]
#: How far up it is looked for who asks.
_DEPTH = 12


@contextmanager
def forbidden(is_on: bool = True) -> Iterator[None]:
    """Have clocks, chance, files and threads raise where a core asks for them.

    Parameters
    ----------
    is_on : bool
        False: let everything be.

    Examples
    --------
    >>> with forbidden():
    ...     time.monotonic() > 0  # not a core
    True
    """
    if not is_on:
        yield
        return
    saved = []
    for owner, name, word in _PLACES:
        call = getattr(owner, name)
        saved.append((owner, name, call))
        setattr(owner, name, _refusing(call, word))
    try:
        yield
    finally:
        for owner, name, call in saved:
            setattr(owner, name, call)


@cache
def _refusing(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **options: Any) -> Any:
        frame = sys._getframe(1)
        for _ in range(_DEPTH):
            module = str(frame.f_globals.get("__name__", ""))
            if module.startswith(_PURE):
                raise InvariantError(
                    f"{module} calls {name}: a core is told the time, and has no chance, file or "
                    "thread; give it what it needs with an event"
                )
            if frame.f_back is None:
                break
            frame = frame.f_back
        return call(*args, **options)

    return refuse
