"""Worker processes: started, heard, blamed for what they ran, replaced, and all gone at the end."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from zcluster.core.node.records import WorkerEnd
from zcluster.errors import StartError
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import WORKER_TO_NODE, Run, Stop, WorkerHello
from zcluster.servers import crew as crew_module
from zcluster.servers.crew import Crew, _cause
from zcluster.servers.forking import WorkerSettings
from zcluster.servers.template_client import Template
from zcluster.storage.door import Door
from zcluster.transport.loop import Loop


class Nanny:
    """As much of a nanny as a crew needs: a loop, a ROUTER, a door."""

    def __init__(self, folder: str, with_door: bool = True) -> None:
        self.loop = Loop()
        self.context: zmq.Context[Any] = zmq.Context()
        self.router: zmq.Socket[Any] = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.LINGER, 1000)
        self.address = f"ipc://{folder}/workers"
        self.router.bind(self.address)
        self.door = Door(f"{folder}/door") if with_door else None
        self.hellos: list[WorkerHello] = []
        self.ends: list[WorkerEnd] = []
        self.is_heard = False
        self.ended_at: list[float] = []
        self.decoder = Decoder(WORKER_TO_NODE)
        self.loop.add_socket(self.router, self._receive)
        self.crew = Crew(
            self.loop,
            ["n-0", "n-1"],
            node="n",
            threads=2,
            address=self.address,
            door=Path(folder) / "door",
            scheduler="ipc:///nowhere",
            on_end=self._on_end,
        )

    def _receive(self) -> None:
        message = self.decoder.decode(self.router.recv_multipart(zmq.NOBLOCK)[1])
        if isinstance(message, WorkerHello):
            self.hellos.append(message)

    def _on_end(self, end: WorkerEnd) -> None:
        assert self.crew.incarnation(end.number) == 0  # it may be started again from here
        self.is_heard = self.crew.is_heard(end.number, end.incarnation)
        self.ends.append(end)
        self.ended_at.append(self.loop.now())

    @property
    def template(self) -> Template:
        """The process that workers are forked from."""
        template = self.crew._template
        assert isinstance(template, Template)
        return template

    def start(self, number: int) -> WorkerHello:
        """Start a worker and wait until it is up."""
        before = len(self.hellos)
        self.crew.start(number)
        self.until(lambda: len(self.hellos) > before and self.crew.pid(number))
        return self.hellos[-1]

    def end_of(self, number: int) -> WorkerEnd:
        """Wait for a worker's end."""
        self.until(lambda: any(end.number == number for end in self.ends))
        return next(end for end in self.ends if end.number == number)

    def run(self, number: int, task: int, function: Callable[[], object]) -> None:
        """Have a worker run a task without arguments."""
        digest, data = pack_callable(function)
        run = Run(
            [(digest, (2, 0, len(data)))], [(digest, CALL_INPUTS, 1)],
            [task], [0], [], [], [], [], [], [0], [1],
        )  # fmt: skip
        route = WorkerSettings(number, self.crew.incarnation(number), "", "", 1, "").identity
        self.router.send_multipart([route, encode(run), b"", b"", data])

    def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            self.loop.call_later(0.005, lambda: None)
            self.loop.run_once()

    def close(self) -> None:
        self.crew.close()
        if self.door is not None:
            self.door.close()
        self.context.destroy(0)
        self.loop.close()


@pytest.fixture
def folder() -> Iterator[str]:
    made = tempfile.mkdtemp(prefix="crew-")  # short: it is part of an ipc path
    yield made
    shutil.rmtree(made)


@pytest.fixture
def nanny(folder: str) -> Iterator[Nanny]:
    made = Nanny(folder)
    yield made
    made.close()


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# What workers run travels by value, so it brings along what it uses.


def talk_and_die() -> None:
    print("to the output")
    print("to the errors", file=sys.stderr)
    print("without a line's end", end="", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def talk_much() -> None:
    for number in range(2000):
        print(number, "x" * 2000 if number == 1999 else "", file=sys.__stdout__)
    os._exit(3)


def start_a_process_and_wait() -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    print("child", pid, flush=True, file=sys.__stdout__)
    time.sleep(60)


# --------------------------------------------------------------------------- start and end


@pytest.mark.processes
def test_workers_start_and_say_who_they_are(nanny: Nanny) -> None:
    assert (nanny.crew.incarnation(0), nanny.crew.pid(0)) == (0, 0)
    for number in (0, 1):
        hello = nanny.start(number)
        assert hello == WorkerHello(number, number + 1, nanny.crew.pid(number))
        assert nanny.crew.incarnation(number) == number + 1
        assert is_running(hello.pid)
    nanny.crew.start(0)  # it is there already
    assert nanny.crew.incarnation(0) == 1
    assert nanny.ends == []


@pytest.mark.processes
def test_a_killed_worker_is_told_and_can_be_replaced(nanny: Nanny) -> None:
    old, other = nanny.start(0), nanny.start(1)
    nanny.crew.kill(0)
    end = nanny.end_of(0)
    assert (end.number, end.incarnation) == (0, old.incarnation)
    assert nanny.is_heard  # what it has said before
    assert not nanny.crew.is_heard(0, old.incarnation)
    assert nanny.crew.is_heard(1, other.incarnation)
    assert end.cause == "was killed by SIGKILL"
    assert end.peak_memory > 1 << 20
    assert end.running == []
    assert end.output == ""
    assert not is_running(old.pid)
    assert (nanny.crew.incarnation(0), nanny.crew.pid(0)) == (0, 0)
    nanny.crew.kill(0)  # nobody is there to kill
    new = nanny.start(0)
    assert new.pid != old.pid
    assert new.incarnation > other.incarnation
    assert is_running(other.pid)


@pytest.mark.processes
def test_a_worker_that_is_told_to_stop_ends_cleanly(nanny: Nanny) -> None:
    nanny.start(0)
    route = WorkerSettings(0, 1, "", "", 1, "").identity
    nanny.router.send_multipart([route, encode(Stop())])
    assert nanny.end_of(0).cause == "exited with status 0"


@pytest.mark.processes
def test_a_dead_worker_s_task_and_last_words_are_known(
    nanny: Nanny, capfd: pytest.CaptureFixture[str]
) -> None:
    nanny.start(0)
    nanny.run(0, 77, talk_and_die)
    end = nanny.end_of(0)
    assert end.running == [77]
    assert end.output == "to the output\nto the errors\nwithout a line's end"
    said = capfd.readouterr()  # it is shown where the task came from, not here
    assert said.out == said.err == ""


@pytest.mark.processes
def test_what_a_worker_prints_is_passed_on_whole_and_kept_in_part(
    nanny: Nanny, capfd: pytest.CaptureFixture[str]
) -> None:
    nanny.start(0)
    nanny.run(0, 1, talk_much)
    end = nanny.end_of(0)
    assert end.cause == "exited with status 3"
    lines = end.output.splitlines()
    assert lines[-2].strip() == "1998"
    assert lines[-1].startswith("1999 xxx")
    assert len(lines[-1]) == 500
    assert len(lines) <= 80
    assert len(end.output) <= 4096
    out = capfd.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in out] == list(range(2000))
    assert len(out[-1]) == 2005


@pytest.mark.processes
def test_what_a_worker_s_tasks_have_started_ends_with_it(
    nanny: Nanny, capfd: pytest.CaptureFixture[str]
) -> None:
    nanny.start(0)
    nanny.run(0, 1, start_a_process_and_wait)
    said = ""

    def has_said() -> bool:
        nonlocal said
        said += capfd.readouterr().out
        return said.endswith("\n")

    nanny.until(has_said)
    child = int(said.split()[1])
    assert is_running(child)
    nanny.crew.kill(0)
    assert nanny.end_of(0).running == [1]
    nanny.until(lambda: not is_running(child))


@pytest.mark.processes
def test_a_worker_that_cannot_start_says_why_and_is_tried_less_and_less_often(
    folder: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crew_module, "_FIRST_DELAY", 0.05)
    nanny = Nanny(folder, with_door=False)
    try:
        for count in (1, 2, 3):
            nanny.crew.start(0)
            nanny.until(lambda: len(nanny.ends) == count)  # noqa: B023 - called at once
        assert nanny.hellos == []
        assert [end.incarnation for end in nanny.ends] == [1, 2, 3]
        assert {end.cause for end in nanny.ends} == {"exited with status 1"}
        assert "StartError" in nanny.ends[0].output
        assert "door" in nanny.ends[0].output
        first, second, third = nanny.ended_at
        assert second - first >= 0.05
        assert third - second >= 0.1
    finally:
        nanny.close()


# ----------------------------------------------------------------------------- the template


@pytest.mark.processes
def test_a_worker_that_is_started_anew_is_not_to_blame(nanny: Nanny) -> None:
    """And it is up at once, however short its life was; what it still says does not count."""
    hello = nanny.start(0)
    nanny.run(0, 7, hang)
    nanny.crew.restart(0)
    assert nanny.crew.incarnation(0) == 0
    assert not nanny.crew.is_heard(0, hello.incarnation)
    end = nanny.end_of(0)
    assert not nanny.is_heard
    assert end.incarnation == hello.incarnation
    assert end.running == []
    begun = time.monotonic()
    assert nanny.start(0).incarnation > hello.incarnation
    assert time.monotonic() - begun < 5
    nanny.crew.restart(1)  # not there: it is started
    nanny.until(lambda: any(hello.number == 1 for hello in nanny.hellos))


def hang() -> None:
    while True:
        time.sleep(1000)


def test_a_template_that_dies_takes_its_workers_and_is_replaced(nanny: Nanny) -> None:
    hellos = [nanny.start(0), nanny.start(1)]
    os.kill(nanny.template.pid, signal.SIGKILL)
    nanny.until(lambda: len(nanny.ends) == 2)
    assert {end.cause for end in nanny.ends} == {"was killed with the process it was forked from"}
    nanny.until(lambda: not any(is_running(hello.pid) for hello in hellos))
    assert nanny.start(0).pid not in {hello.pid for hello in hellos}


@pytest.mark.processes
def test_a_template_that_is_gone_and_not_yet_missed_breaks_nothing(nanny: Nanny) -> None:
    nanny.start(0)
    os.kill(nanny.template.pid, signal.SIGKILL)
    process = nanny.template._process
    assert process is not None
    process.wait(10)
    nanny.crew.kill(0)
    nanny.crew.start(1)
    nanny.until(lambda: len(nanny.ends) == 2)
    assert {end.number for end in nanny.ends} == {0, 1}
    assert nanny.start(1).number == 1


# ---------------------------------------------------------------------------------- the end


@pytest.mark.processes
def test_closing_waits_until_all_are_gone_and_tells_nobody(nanny: Nanny) -> None:
    before = len(os.listdir("/dev/fd"))
    pids = [nanny.start(0).pid, nanny.start(1).pid, nanny.template.pid]
    nanny.crew.close()
    nanny.crew.close()
    assert nanny.ends == []
    nanny.until(lambda: not any(map(is_running, pids)), 2.0)
    nanny.crew.start(0)  # a timer that was set before
    nanny.loop.call_later(0.0, lambda: None)
    nanny.loop.run_once()
    assert nanny.crew.incarnation(0) == 0
    # ZeroMQ's thread closes the connections when it has seen their ends.
    nanny.until(lambda: len(os.listdir("/dev/fd")) <= before, 5.0)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (0, "exited with status 0"),
        (3, "exited with status 3"),
        (-9, "was killed by SIGKILL"),
        (-11, "was killed by SIGSEGV"),
        (-63, "was killed by signal 63"),
    ],
)
def test_a_cause_has_words(code: int, cause: str) -> None:
    assert _cause(code) == cause


# --------------------------------------------------------------- what the system refuses


@pytest.mark.processes
def test_a_template_that_cannot_be_started_is_tried_again_and_workers_with_it(
    nanny: Nanny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may refuse another process for a while."""
    nanny.start(0)
    monkeypatch.setattr(crew_module, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(nanny.crew, "_template_delay", 0.01)
    starts: list[Template] = []

    class Refused(Template):
        def start(self, environment: Any = None) -> None:
            starts.append(self)
            raise StartError("no processes left")

    monkeypatch.setattr(nanny.crew, "_make_template", Refused)
    os.kill(nanny.template.pid, signal.SIGKILL)
    nanny.until(lambda: len(starts) >= 3)
    assert nanny.ends[0].cause == "was killed with the process it was forked from"
    nanny.crew.start(0)
    nanny.until(lambda: len(nanny.ends) == 2)
    assert nanny.ends[1].cause.startswith("could not be started (no processes left")
    assert nanny.ends[1].running == []
    monkeypatch.setattr(nanny.crew, "_make_template", Template)
    nanny.until(lambda: not nanny.crew._refused)
    assert nanny.start(0).incarnation > 2


@pytest.mark.processes
def test_a_worker_for_which_there_are_no_descriptors_is_tried_again(
    nanny: Nanny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "_FIRST_DELAY", 0.01)
    real = os.pipe
    left = [real]

    def pipe() -> tuple[int, int]:
        if left:
            return left.pop()()
        raise OSError(errno.EMFILE, "Too many open files")

    before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "pipe", pipe)
    nanny.crew.start(0)
    nanny.until(lambda: nanny.ends)
    assert nanny.ends[0].cause == "could not be started (Too many open files)"
    assert len(os.listdir("/dev/fd")) == before
    monkeypatch.setattr(os, "pipe", real)
    assert nanny.start(0).number == 0


@pytest.mark.processes
def test_a_crew_whose_template_could_not_be_replaced_can_be_closed(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nanny = Nanny(folder)

    class Refused(Template):
        def start(self, environment: Any = None) -> None:
            raise StartError("no processes left")

    monkeypatch.setattr(nanny.crew, "_make_template", Refused)
    os.kill(nanny.template.pid, signal.SIGKILL)
    nanny.until(lambda: nanny.crew._refused)
    nanny.close()
