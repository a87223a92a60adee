"""The bar in text."""

from __future__ import annotations

import io
import threading
from operator import add
from typing import Any

import pytest

from zcluster.diagnostics import ProgressBar
from zcluster.diagnostics.progress import format_seconds
from zcluster.local import close_pool, get_sync
from zcluster.threaded import get

PATIENCE = 30.0
DSK = {"a": 1, "b": (add, "a", 1)}


def test_the_last_line_is_a_full_bar_and_the_time() -> None:
    out = io.StringIO()
    with ProgressBar(width=20, out=out) as bar:
        get_sync(DSK, "b")
    last = out.getvalue().split("\r")[-1]
    expected = f"[{'#' * 20}] | 100% Completed | {format_seconds(bar.last_duration)}\n"
    assert last == expected


def test_it_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar():
        get_sync(DSK, "b")
    assert f"[{'#' * 40}] | 100% Completed" in capsys.readouterr().out


class Waits(io.StringIO):
    """Says when a text was drawn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.seen = text, threading.Event()

    def write(self, text: str) -> int:
        if self.text in text:
            self.seen.set()
        return super().write(text)


drawn: list[threading.Event] = []


def until_drawn(x: Any) -> Any:
    assert drawn[-1].wait(PATIENCE)
    return x


@pytest.mark.parametrize("run", [get_sync, get])
def test_it_is_drawn_while_tasks_run(run: Any) -> None:
    out = Waits("[#####     ] | 50% Completed")
    drawn.append(out.seen)
    with ProgressBar(width=10, dt=0.001, out=out):
        assert run({"a": 1, "b": (until_drawn, "a")}, "b") == 1
    assert out.seen.is_set()
    close_pool()


def test_nothing_is_drawn_before_the_minimum() -> None:
    out = io.StringIO()
    with ProgressBar(minimum=1000, dt=0.001, out=out) as bar:
        get_sync(DSK, "b")
    assert out.getvalue() == ""
    assert bar.last_duration > 0


def compute_inside(x: int) -> int:
    inner: int = get_sync({"a": x, "b": (add, "a", 1)}, "b")
    return inner


def test_a_task_that_computes_has_no_bar_of_its_own() -> None:
    out = io.StringIO()
    with ProgressBar(out=out):
        assert get_sync({"a": 1, "b": (compute_inside, "a")}, "b") == 2
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().count("100%") == 1


def test_a_run_that_fails_leaves_what_was_done_and_no_thread() -> None:
    out = io.StringIO()
    with ProgressBar(width=10, out=out) as bar:
        for _ in range(2):  # each has a bar
            with pytest.raises(ZeroDivisionError):
                get_sync({"a": 1, "b": (divmod, "a", 0)}, "b")
    assert out.getvalue().count("[#####     ] | 50% Completed") == 2
    assert not bar._thread.is_alive()
