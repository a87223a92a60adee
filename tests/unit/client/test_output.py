"""What tasks print, shown and kept at the client."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from zcluster.client import output as module
from zcluster.client.output import Log, Printer, TaskOutput
from zcluster.protocol.messages import Output


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.001)


# ------------------------------------------------------------------------------ the log


def test_a_log_keeps_the_end_of_each_task() -> None:
    log = Log(of_task=10, in_all=1000)
    log.add(1, b"0123456789abc")
    log.add(1, b"de")
    assert log.text(1) == "56789abcde"
    assert log.text(2) == ""


def test_the_oldest_tasks_go_when_there_is_too_much() -> None:
    log = Log(of_task=10, in_all=25)
    for task in range(4):
        log.add(task, b"x" * 10)
    assert [len(log.text(task)) for task in range(4)] == [0, 0, 10, 10]


def test_a_cut_letter_is_no_error() -> None:
    log = Log(of_task=3, in_all=100)
    log.add(1, "éé".encode())
    assert log.text(1) == "\ufffdé"


# -------------------------------------------------------------------------- the printer


@pytest.fixture
def printer() -> Iterator[Printer]:
    made = Printer(rate=64 << 10, prefix=True)
    yield made
    made.close(10)


def test_lines_are_printed_whole_with_the_worker_s_name(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    printer.say("w-0", 1, "one\ntwo\n")
    printer.say("w-1", 2, "without an end")
    printer.say("w-0", 1, "10 %\r20 %\r\n")
    printer.close(10)
    said = capsys.readouterr()
    assert said.out == "[w-0] one\n[w-0] two\n[w-0] 20 %\n"
    assert said.err == "[w-1] without an end\n"


def test_names_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer(rate=1, prefix=False)
    printer.say("w-0", 1, "\none\n")
    printer.close(10)
    assert capsys.readouterr().out == "\none\n"


def test_what_was_left_out_is_told_in_one_sentence_a_second(
    printer: Printer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TELL_EVERY", 0.05)
    printer.leave_out("w-0", 12_000, 99_999)
    printer.leave_out("w-0", 345, 99)
    printer.leave_out("w-1", 0, 4096)
    said = ""

    def has_said_both() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return said.count("\n") >= 2

    until(has_said_both)
    assert sorted(said.splitlines()) == [
        "[w-0] … 12,345 lines left out (more than 64.00 KiB/s); future.log() has what arrived",
        "[w-1] … 4.00 KiB left out (more than 64.00 KiB/s); future.log() has what arrived",
    ]


def test_the_end_tells_what_was_left_out_last(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    printer.leave_out("w-0", 5, 50)
    printer.close(10)
    assert "5 lines left out" in capsys.readouterr().err
    printer.say("w-0", 1, "too late\n")
    printer.leave_out("w-0", 5, 50)
    assert capsys.readouterr().out == ""


class Stuck(io.StringIO):
    """A terminal that somebody has stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.gate = threading.Event(), threading.Event()

    def write(self, text: str, /) -> int:
        self.entered.set()
        assert self.gate.wait(10)
        return super().write(text)


def test_a_terminal_that_takes_nothing_blocks_nobody_and_fills_no_memory(
    printer: Printer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_QUEUED", 1000)
    monkeypatch.setattr(module, "_CATCH_UP", 0.01)
    stuck = Stuck()
    monkeypatch.setattr(sys, "stdout", stuck)
    printer.say("w", 1, "first\n")
    assert stuck.entered.wait(10)
    for _ in range(200):
        printer.say("w", 1, "x" * 9 + "\n")
    printer.catch_up()  # gives up soon
    stuck.gate.set()
    printer.close(10)
    assert stuck.getvalue().count("xxxxxxxxx\n") == 100
    assert "100 lines left out" in capsys.readouterr().err


class Broken(io.StringIO):
    def write(self, text: str, /) -> NoReturn:
        raise BrokenPipeError


@pytest.mark.parametrize("file", [Broken(), None], ids=["broken", "none"])
def test_a_broken_terminal_is_survived(
    printer: Printer,
    file: io.StringIO | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        printer.say("w", 1, "nobody sees this\n")
        printer.catch_up()
    printer.say("w", 1, "this again\n")
    printer.catch_up()
    assert capsys.readouterr().out == "[w] this again\n"


def test_a_terminal_without_the_letter_shows_its_number(
    printer: Printer, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    printer.say("w", 1, "naïve\n")
    printer.catch_up()
    assert raw.getvalue() == b"[w] na\\xefve\n"


def test_catching_up_waits_for_what_was_said(
    printer: Printer, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(50):
        printer.say("w", 1, f"{number}\n")
        printer.catch_up()
        assert capsys.readouterr().out == f"[w] {number}\n"


def test_the_thread_goes_when_nothing_is_printed_and_comes_back(
    printer: Printer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client that nobody closes must not leave a thread for ever."""
    monkeypatch.setattr(module, "_IDLE", 0.01)
    printer.say("w", 1, "one\n")
    until(lambda: printer._thread is None)
    printer.say("w", 1, "two\n")
    printer.catch_up()
    assert capsys.readouterr().out == "[w] one\n[w] two\n"


# ----------------------------------------------------------------------- what is heard


def test_pieces_are_kept_by_task_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output = TaskOutput()
    output.hear(Output("w", [1, 2, 1], [1, 2, 1], [2, 3, 2]), [b"a\nbb\nc\n"])
    output.printer.close(10)
    assert [output.log.text(task) for task in (1, 2)] == ["a\nc\n", "bb\n"]
    said = capsys.readouterr()
    assert (said.out, said.err) == ("[w] a\n[w] c\n", "[w] bb\n")


def test_nothing_is_shown_when_it_is_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    output = TaskOutput()
    output.is_shown = False
    output.hear(Output("w", [1], [1], [2], 100, 10), [b"a\n"])
    output.printer.close(10)
    assert output.log.text(1) == "a\n"
    assert capsys.readouterr() == ("", "")
