"""Users see their own frames."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import zcluster
from zcluster import config
from zcluster.errors import InvalidArgument, InvariantError
from zcluster.tracebacks import hide_frames, hides_frames, make_traceback, reduce_traceback

FOLDER = Path(zcluster.__file__).parent
SOURCE = """
def public(function, *args):
    return inner(function, *args)

def inner(function, *args):
    return function(*args)

def fail(error):
    raise error
"""


@pytest.fixture
def ours() -> dict[str, Any]:
    """Functions that stand in a file of zcluster's."""
    names: dict[str, Any] = {}
    exec(compile(SOURCE, str(FOLDER / "pretend.py"), "exec"), names)
    names["public"] = hides_frames(names["public"])
    return names


def frames(call: Callable[[], Any]) -> list[str]:
    """Return the names of the frames below this one."""
    try:
        call()
    except BaseException as error:
        return [entry.name for entry in traceback.extract_tb(error.__traceback__)][2:]
    raise AssertionError("nothing was raised")


def divide(x: int) -> float:
    return 1 / x


def test_only_the_user_s_frames_are_shown(ours: dict[str, Any]) -> None:
    assert frames(lambda: ours["public"](divide, 0)) == ["divide"]


def test_frames_between_the_user_s_are_hidden_too(ours: dict[str, Any]) -> None:
    def callback() -> Any:
        return ours["inner"](divide, 0)

    assert frames(lambda: ours["public"](callback)) == ["callback", "divide"]


def test_what_is_called_twice_through_us_is_hidden_twice(ours: dict[str, Any]) -> None:
    assert frames(lambda: ours["public"](ours["public"], divide, 0)) == ["divide"]


@pytest.mark.parametrize(
    "error", [InvalidArgument("no"), CancelledError(), TimeoutError(), KeyboardInterrupt()]
)
def test_what_is_raised_on_purpose_shows_no_frame(
    ours: dict[str, Any], error: BaseException
) -> None:
    assert frames(lambda: ours["public"](ours["fail"], error)) == []


def test_a_task_s_error_that_came_without_frames_shows_none(ours: dict[str, Any]) -> None:
    error = ValueError("no")
    error.add_note("task f-1 failed on worker w")
    assert frames(lambda: ours["public"](ours["fail"], error)) == []


@pytest.mark.parametrize("error", [KeyError("a bug"), InvariantError("a bug")])
def test_a_bug_of_ours_shows_all(ours: dict[str, Any], error: BaseException) -> None:
    shown = frames(lambda: ours["public"](ours["fail"], error))
    assert shown == ["hiding", "public", "inner", "fail"]


def test_the_configuration_shows_all(ours: dict[str, Any]) -> None:
    with config.set({"traceback.full": True}):
        shown = frames(lambda: ours["public"](divide, 0))
    assert shown == ["hiding", "public", "inner", "divide"]


def test_lines_stay_what_they_were(ours: dict[str, Any]) -> None:
    try:
        ours["inner"](divide, 0)
    except ZeroDivisionError as error:
        hide_frames(error)
        entry = traceback.extract_tb(error.__traceback__)[-1]
        assert entry.line == "return 1 / x"


def test_results_and_names_pass_through(ours: dict[str, Any]) -> None:
    assert ours["public"](divide, 2) == 0.5
    assert ours["public"].__name__ == "public"


def test_a_traceback_made_again_is_shown_alike() -> None:
    def over_lines(x: int) -> float:
        return (
            x + 1 / x
        )  # fmt: skip

    for call in (lambda: divide(0), lambda: over_lines(0), lambda: [1 / x for x in (0,)]):
        with pytest.raises(ZeroDivisionError) as caught:
            call()
        trace = caught.value.__traceback__
        assert trace is not None
        shown = traceback.format_tb(trace)
        for _ in range(2):  # also one that was made again, as where a task waits for another one
            make, arguments = reduce_traceback(trace)
            trace = make(*arguments)
            assert traceback.format_tb(trace) == shown
        assert trace.tb_frame.f_globals["__name__"] == __name__


def test_a_traceback_without_columns_is_made_again_without_them() -> None:
    trace = make_traceback([(__file__, "f", "m", 3, None, None, None)])
    (shown,) = traceback.format_tb(trace)
    assert "^" not in shown
    assert "line 3, in f" in shown
