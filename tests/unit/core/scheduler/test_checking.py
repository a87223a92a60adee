"""A message that contradicts itself is refused whole: nothing of it is taken in."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from zcluster.core.scheduler.checking import check_message, check_workers
from zcluster.errors import ProtocolError
from zcluster.protocol.messages import (
    ErrorInfo,
    Failed,
    Finished,
    Layer,
    Message,
    Output,
    Recalled,
    Release,
    Scattered,
    Submit,
    WorkerInfo,
    Workers,
)

ERROR = ErrorInfo("task", "ValueError", "no", "", 1, 0, "n", "w")
LAYER = Layer("x", [2], 0, 2, 0, b"")
WORKER = WorkerInfo(0, "w", 1, 0, 0, {"GPU": 1.0})

#: Messages that keep their promises, with their payload.
GOOD: dict[str, tuple[Message, list[bytes]]] = {
    "finished": (Finished([1, 2], [1, 1], [4, -1], [4, 9], [0, 0], [(b"f", 2, 10)]), [b"blob"]),
    "failed": (Failed([1], [1], [0], [ERROR]), [b""]),
    "recalled": (Recalled([1, 2], [1, 1]), []),
    "scattered": (Scattered([1], [0], [9]), []),
    "output": (Output("w", [1, 1], [1, 2], [2, 1]), [b"abc"]),
    "submit": (Submit(1, 0, 2, [LAYER], [], [7], [(0, 1), (1, 1)], [], True), []),
    "workers": (Workers([WORKER, replace(WORKER, number=1)]), []),
    "release": (Release([1]), []),
}
#: What is wrong with them then, and what is said of it.
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("finished", {"attempts": [1]}, "columns of 2 and 1 and 2 and 2"),
    ("finished", {"sizes": [4]}, "columns"),
    ("finished", {"lengths": [5, -1]}, "promises 5 bytes and brings 4"),
    ("finished", {"lengths": [4, -4]}, "lengths from -4"),
    ("finished", {"sizes": [4, 1 << 63]}, "sizes from 4 to 9223372036854775808"),
    ("finished", {"tasks": [1, (1 << 64) - 1]}, "tasks from 1"),
    ("finished", {"durations": [(b"f", -1, 10)]}, "durations"),
    ("failed", {"which": [1]}, r"names errors \[1\] of 1"),
    ("failed", {"which": [-1]}, r"names errors \[-1\] of 1"),
    ("failed", {"attempts": []}, "columns"),
    ("recalled", {"attempts": [1]}, "columns"),
    ("scattered", {"nodes": []}, "columns"),
    ("scattered", {"sizes": [-1]}, "sizes from -1"),
    ("output", {"streams": [1]}, "columns"),
    ("output", {"lengths": [1, 1]}, "promises 2 bytes and brings 3"),
    ("output", {"lengths": [4, -1]}, "lengths from -1"),
    ("submit", {"count": -1}, "brings -1 tasks"),
    ("submit", {"imports": [-1]}, "imports from -1"),
    ("submit", {"outputs": [(0, 2), (1, 1)]}, "overlap"),
    ("submit", {"outputs": [(-1, 1)]}, "overlap"),
    ("submit", {"layers": [replace(LAYER, shape=[0])]}, r"a shape of \[0\]"),
    ("submit", {"layers": [replace(LAYER, count=1 << 63)]}, "first and count"),
    ("workers", {"workers": [WORKER, WORKER]}, "two of 2 have one number"),
    ("workers", {"workers": [replace(WORKER, slots=-1)]}, "slots from -1"),
    ("workers", {"workers": [replace(WORKER, resources={"GPU": float("nan")})]}, "amounts"),
]


@pytest.mark.parametrize("name", GOOD)
def test_what_keeps_its_promises_is_accepted(name: str) -> None:
    check_message(*GOOD[name])


@pytest.mark.parametrize(("name", "changes", "text"), WRONG)
def test_what_contradicts_itself_is_refused(name: str, changes: dict[str, Any], text: str) -> None:
    message, frames = GOOD[name]
    with pytest.raises(ProtocolError, match=text):
        check_message(replace(message, **changes), frames)


def test_workers_are_checked_in_a_hello_too() -> None:
    check_workers([WORKER])
    with pytest.raises(ProtocolError, match="one number"):
        check_workers([WORKER, WORKER])
