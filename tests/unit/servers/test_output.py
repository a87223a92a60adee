"""What tasks print, gathered by line and task, within a rate."""

from __future__ import annotations

import contextvars
import io
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from zcluster.protocol.messages import Output as OutputMessage
from zcluster.servers.output import STDERR, STDOUT, Output, SlotOutput, TaskStream
from zcluster.servers.status import LINE, TASK, StatusPage


class Rig:
    """A worker's output with a clock that stands still, and one slot that runs task 7."""

    def __init__(self, rate: int = 1 << 20) -> None:
        self.page = StatusPage.create(2)
        self.time = 100.0
        self.output = Output("w", self.page, rate, now=lambda: self.time)
        self.slot = self.output.slot(0)
        self.run(7)

    def run(self, task: int) -> None:
        self.page.cells[TASK] = task

    def take(self) -> list[tuple[int, int, str]]:
        """Return what leaves: (task, stream, text)."""
        said = []
        for message, frames in self.output.take():
            assert isinstance(message, OutputMessage)
            assert message.worker == "w"
            at = 0
            columns = zip(message.tasks, message.streams, message.lengths, strict=True)
            for task, stream, length in columns:
                if length:
                    said.append((task, stream, frames[0][at : at + length].decode()))
                at += length
        return said

    def dropped(self) -> tuple[int, int]:
        """Return the bytes and lines left out, as far as they are told."""
        told = [message for message, _ in self.output.take() if isinstance(message, OutputMessage)]
        return sum(m.dropped for m in told), sum(m.dropped_lines for m in told)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.page.close()


@pytest.fixture
def slow() -> Iterator[Rig]:
    """A rig that may say 100 bytes a second."""
    made = Rig(100)
    yield made
    made.page.close()


def test_whole_lines_leave_and_the_rest_waits_for_its_end(rig: Rig) -> None:
    for text in ("one", "\n", "two", " and", " three\nfour"):
        assert rig.slot.write(STDOUT, text)
    assert rig.take() == [(7, STDOUT, "one\ntwo and three\n")]
    assert list(rig.slot.unfinished) == [STDOUT]
    rig.slot.end_task()
    assert rig.take() == [(7, STDOUT, "four")]
    assert not rig.slot.unfinished


def test_a_line_that_a_task_did_not_end_is_not_the_next_ones(rig: Rig) -> None:
    rig.slot.write(STDOUT, "mine")
    rig.run(8)
    rig.slot.write(STDOUT, "yours\n")
    assert rig.take() == [(7, STDOUT, "mine"), (8, STDOUT, "yours\n")]


def test_the_two_streams_of_a_task_are_apart(rig: Rig) -> None:
    rig.slot.write(STDOUT, "half ")
    rig.slot.write(STDERR, "error\n")
    rig.slot.write(STDOUT, "whole\n")
    assert rig.take() == [(7, STDERR, "error\n"), (7, STDOUT, "half whole\n")]


def test_between_tasks_nothing_is_taken(rig: Rig) -> None:
    """Text of a thread that outlives its task goes to the process's own output."""
    rig.run(-1)
    assert not rig.slot.write(STDOUT, "late\n")
    assert rig.take() == []


def test_what_is_more_than_the_rate_is_left_out_and_counted(slow: Rig) -> None:
    for number in range(100):
        slow.slot.write(STDOUT, f"{number:9}\n")
    assert "".join(text for _, _, text in slow.take()) == "".join(f"{n:9}\n" for n in range(10))
    slow.slot.end_task()
    assert slow.dropped() == (900, 90)
    assert slow.dropped() == (0, 0), "each is told once"


def test_time_brings_room_but_never_more_than_a_second_of_it(slow: Rig) -> None:
    slow.slot.write(STDOUT, "x" * 99 + "\n")
    slow.slot.write(STDOUT, "left out\n")
    slow.time += 0.5
    slow.slot.write(STDOUT, "y" * 49 + "\n")
    slow.time += 1000
    for _ in range(20):
        slow.slot.write(STDOUT, "z" * 9 + "\n")
    text = "".join(text for _, _, text in slow.take())
    assert [text.count(letter) for letter in "xyz"] == [99, 49, 90]


def test_a_task_that_runs_on_tells_now_and_then(slow: Rig) -> None:
    slow.time += 1
    slow.slot.write(STDOUT, "x" * 99 + "\n")
    slow.slot.write(STDOUT, "left out\n")
    assert slow.dropped() == (9, 1)
    slow.slot.write(STDOUT, "left out\n")
    assert slow.dropped() == (0, 0), "told a moment ago"
    slow.time += 0.11
    assert slow.dropped() == (9, 1)


def test_a_part_of_a_text_that_fits_is_sent(slow: Rig) -> None:
    slow.slot.write(STDOUT, "".join(f"{number:9}\n" for number in range(50)))
    assert slow.take() == [(7, STDOUT, "".join(f"{n:9}\n" for n in range(10)))]


def test_a_line_longer_than_the_rate_is_not_lost_for_ever(slow: Rig) -> None:
    slow.slot.write(STDOUT, "x" * 5000 + "\n")
    assert slow.take() == [(7, STDOUT, "x" * 5000 + "\n")]
    slow.time += 1
    slow.slot.write(STDOUT, "y\n")
    assert slow.take() == [], "it is paid for afterwards"


def test_a_text_without_end_takes_no_memory(rig: Rig) -> None:
    for _ in range(1000):
        rig.slot.write(STDOUT, "x" * 10_000)
        rig.take()
    assert not rig.slot.unfinished


def test_messages_are_bounded(rig: Rig) -> None:
    rig.output._rate = rig.output._allowed = 10 << 20
    for number in range(400):
        rig.run(number)
        rig.slot.write(STDOUT, "x" * 8000 + "\n")
    sizes = [len(frames[0]) for _, frames in rig.output.take()]
    assert sum(sizes) == 400 * 8001
    assert len(sizes) > 2
    assert max(sizes) < (1 << 20) + 8192


def test_what_is_no_utf_8_is_written_out(rig: Rig) -> None:
    rig.slot.write(STDOUT, "a lone \udc80 surrogate\n")
    assert rig.take() == [(7, STDOUT, "a lone \\udc80 surrogate\n")]


def test_the_tail_of_a_slot_has_all_even_what_is_left_out(slow: Rig) -> None:
    for number in range(2000):
        slow.slot.write(STDOUT, f"{number}\n")
    slow.slot.write(STDOUT, "no end")
    slow.slot.write(STDERR, "error")
    assert slow.page.tail(0).endswith(b"\n1998\n1999\nno end\nerror")
    assert slow.page.tail(1) == b""


# --------------------------------------------------------------------------- the stream


def in_slot(slot: SlotOutput, stream: TaskStream, *texts: str) -> None:
    """Write as a slot's thread does."""

    def run() -> None:
        slot.enter()
        for text in texts:
            stream.write(text)

    contextvars.Context().run(run)


def test_a_slot_s_text_is_taken_and_others_goes_to_the_process(rig: Rig) -> None:
    own = io.StringIO()
    stream = TaskStream(rig.output, STDOUT, own)
    in_slot(rig.slot, stream, "task\n")
    stream.write("main\n")
    thread = threading.Thread(target=stream.write, args=("thread\n",))
    thread.start()
    thread.join()
    assert rig.take() == [(7, STDOUT, "task\n")]
    assert own.getvalue() == "main\nthread\n"


def test_a_stream_is_a_text_file_to_whoever_asks() -> None:
    page = StatusPage.create(1)
    stream = TaskStream(Output("w", page, 1), STDERR, sys.__stderr__)  # type: ignore[arg-type]
    assert (stream.encoding, stream.isatty(), stream.writable()) == ("utf-8", False, True)
    assert stream.fileno() == sys.__stderr__.fileno()  # type: ignore[union-attr]
    stream.close()
    assert not stream.closed, "other tasks print too"
    with pytest.raises(TypeError, match="must be str, not bytes"):
        stream.write(b"bytes")  # type: ignore[arg-type]
    page.close()


def test_a_forked_child_prints_to_the_process_s_own_output(rig: Rig) -> None:
    """Its copy of what is gathered is never sent."""
    read, write = os.pipe()
    with open(write, "w") as own:
        stream = TaskStream(rig.output, STDOUT, own)
        child = os.fork()
        if child == 0:
            in_slot(rig.slot, stream, "from the child\n")
            own.flush()
            os._exit(0)
        os.waitpid(child, 0)
    with open(read) as pipe:
        assert pipe.read() == "from the child\n"


def test_installing_again_brings_the_streams_back(rig: Rig) -> None:
    before = sys.stdout, sys.stderr
    try:
        rig.output.install()
        first = sys.stdout
        sys.stdout = io.StringIO()
        rig.output.install()
        assert sys.stdout is first
        assert isinstance(sys.stderr, TaskStream)
    finally:
        sys.stdout, sys.stderr = before


def test_slots_have_lines_of_their_own(rig: Rig) -> None:
    rig.page.cells[1 * LINE + TASK] = 9
    other = rig.output.slot(1)
    rig.slot.write(STDOUT, "half ")
    other.write(STDOUT, "other\n")
    rig.slot.write(STDOUT, "whole\n")
    assert rig.take() == [(9, STDOUT, "other\n"), (7, STDOUT, "half whole\n")]
