"""From a settled record to the exception its user sees."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

import pytest
from msgspec.structs import replace

from zcluster.client.outcomes import exception_of, raise_ended
from zcluster.core.client.records import Failure, Wanted
from zcluster.core.client.states import State
from zcluster.errors import (
    ClientClosed,
    DataLost,
    OutOfMemory,
    RemoteError,
    ResultNotSerializable,
    SchedulerLost,
    StoreFull,
    WorkerKilledError,
)
from zcluster.protocol.messages import ErrorInfo
from zcluster.protocol.objects import plan


class Unloadable(Exception):
    def __reduce__(self) -> Any:
        return (_explode, ())


def _explode() -> None:
    raise RuntimeError("boom")


def make_info(kind: str = "task", type_name: str = "builtins.ValueError") -> ErrorInfo:
    return ErrorInfo(kind, type_name, "bad value", "Traceback: line 3", 5, 0, "node1", "worker2")


def make_record(failure: Failure, state: State = State.ERROR) -> Wanted:
    record = Wanted(5, "f", "key-1")
    record.state, record.detail = state, failure
    return record


def test_the_pickled_exception_is_raised_as_it_was() -> None:
    data = plan(KeyError("a", 1)).tobytes()
    record = make_record(Failure("task", "", make_info(), data, 3))
    error = exception_of(record)
    assert type(error) is KeyError
    assert error.args == ("a", 1)
    assert error.__notes__ == ["task key-1 failed on worker worker2 of node node1, attempt 3"]
    assert exception_of(record) is not error


@pytest.mark.parametrize("data", [b"", b"\x80nonsense", b"?", plan("no exception").tobytes()])
def test_without_it_the_text_is_raised_and_the_known_type_still_catches_it(data: bytes) -> None:
    error = exception_of(make_record(Failure("task", "", make_info(), data)))
    assert isinstance(error, RemoteError)
    assert isinstance(error, ValueError)
    assert error.type_name == "builtins.ValueError"
    assert "bad value" in str(error)
    assert "line 3" in str(error)


def test_an_exception_that_cannot_be_rebuilt_here_is_no_other_error() -> None:
    data = plan(Unloadable()).tobytes()
    error = exception_of(make_record(Failure("task", "", make_info(), data)))
    assert isinstance(error, RemoteError)
    assert "boom" not in str(error)


@pytest.mark.parametrize("name", ["nobody.knows.This", "builtins.int", "builtins.UnicodeError.x"])
def test_an_unknown_type_is_a_remote_error(name: str) -> None:
    error = exception_of(make_record(Failure("task", "", make_info(type_name=name))))
    assert type(error) is RemoteError
    assert error.type_name == name


def test_a_type_that_wants_other_arguments_is_a_remote_error() -> None:
    info = make_info(type_name="builtins.UnicodeDecodeError")
    error = exception_of(make_record(Failure("task", "", info)))
    assert isinstance(error, RemoteError)


def test_an_error_of_ours_is_raised_as_itself() -> None:
    info = make_info("input", "zcluster.errors.WorkerKilledError")
    assert type(exception_of(make_record(Failure("input", "", info)))) is WorkerKilledError


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("killed", WorkerKilledError),
        ("lost", DataLost),
        ("serialize", ResultNotSerializable),
        ("store", StoreFull),
    ],
)
def test_the_machinerys_failures_have_types_of_their_own(
    kind: str, expected: type[Exception]
) -> None:
    error = exception_of(make_record(Failure(kind, "", make_info(kind))))
    assert type(error) is expected
    assert "bad value" in str(error)
    assert "Traceback: line 3" in error.__notes__


def test_a_task_that_took_all_memory_failed_of_that() -> None:
    info = make_info("killed", "zcluster.errors.OutOfMemory")
    error = exception_of(make_record(Failure("killed", "", info)))
    assert type(error) is OutOfMemory
    assert isinstance(error, MemoryError)
    assert any("as many workers as" in note for note in error.__notes__)


def test_a_failed_input_is_the_inputs_own_error() -> None:
    origin = make_record(Failure("task", "", make_info(), plan(KeyError("x")).tobytes()))
    record = make_record(Failure("input", "", make_info("input")))
    error = exception_of(record, origin)
    assert type(error) is KeyError
    error = exception_of(record)
    assert isinstance(error, ValueError)
    assert "was not run: an input failed on worker" in error.__notes__[0]
    named = replace(make_info("input"), origin_key="('x', 1)")
    error = exception_of(make_record(Failure("input", "", named)))
    assert "was not run: an input failed, ('x', 1), on worker" in error.__notes__[0]


def test_what_is_said_beyond_the_inputs_own_error_is_a_note() -> None:
    origin = make_record(Failure("task", "no", make_info(), plan(KeyError("x")).tobytes()))
    record = make_record(Failure("input", "it is not run again", make_info("input")))
    error = exception_of(record, origin)
    assert type(error) is KeyError
    assert error.__notes__[0] == "it is not run again"
    assert "it is not run again" not in exception_of(origin).__notes__


def test_a_cancelled_task_says_why() -> None:
    record = make_record(Failure("cancelled", "too slow"), State.CANCELLED)
    error = exception_of(record)
    assert type(error) is CancelledError
    assert str(error) == "task key-1 was cancelled: too slow"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("closed", ClientClosed), ("scheduler", SchedulerLost), ("store", StoreFull)],
)
def test_failures_without_a_report_name_the_reason(kind: str, expected: type[Exception]) -> None:
    error = exception_of(make_record(Failure(kind, "because"), State.LOST))
    assert type(error) is expected
    assert "because" in str(error)


def test_the_end_of_a_client_is_raised() -> None:
    with pytest.raises(SchedulerLost, match="it was killed"):
        raise_ended(Failure("scheduler", "it was killed"))
