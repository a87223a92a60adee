"""What a core may not reach while it is simulated."""

from __future__ import annotations

import builtins
import os
import random
import threading
import time
from collections.abc import Callable

import pytest

from zcluster.errors import InvariantError
from zcluster.testing.guard import forbidden

FORBIDDEN: dict[str, Callable[[], object]] = {
    "clock": lambda: time.monotonic(),
    "sleep": lambda: time.sleep(0),
    "chance": lambda: random.random(),
    "random bytes": lambda: os.urandom(4),
    "file": lambda: builtins.open(os.devnull).close(),
    "thread": lambda: threading.Thread(target=int).start(),
}


def called_by(module: str, call: Callable[[], object]) -> None:
    """Make a call from a module of some name."""
    space = {"__name__": module, "call": call}
    exec("def ask(): call()", space)
    space["ask"]()  # type: ignore[operator]


@pytest.mark.parametrize("call", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_a_core_that_asks_is_refused(call: Callable[[], object]) -> None:
    with forbidden(), pytest.raises(InvariantError, match=r"zcluster\.core\.scheduler\.x calls"):
        called_by("zcluster.core.scheduler.x", call)
    called_by("zcluster.core.scheduler.x", lambda: time.monotonic())  # it is over


def test_everybody_else_may() -> None:
    with forbidden():
        called_by("zcluster.testing.x", lambda: time.monotonic())
    with forbidden(False):
        called_by("zcluster.core.scheduler.x", lambda: random.random())


def test_all_is_as_before_after_a_failure() -> None:
    before = (time.monotonic, random.random, os.urandom, builtins.open, threading.Thread.start)
    with pytest.raises(ZeroDivisionError), forbidden():
        raise ZeroDivisionError
    assert before == (
        time.monotonic,
        random.random,
        os.urandom,
        builtins.open,
        threading.Thread.start,
    )
