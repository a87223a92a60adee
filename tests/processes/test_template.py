"""The template process, driven by its nanny's hand: starts, ends, and who ends whom."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from zcluster.errors import StartError
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import WORKER_TO_NODE, Run, Stop, WorkerHello
from zcluster.servers.forking import Ended, Forked, TemplateEvent, WorkerSettings
from zcluster.servers.status import StatusPage
from zcluster.servers.template_client import Template
from zcluster.transport.sockets import socket

pytestmark = pytest.mark.processes

DECODER = Decoder(WORKER_TO_NODE)


class Nanny:
    """As much of a nanny as a template needs."""

    def __init__(self, folder: str) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.router = socket(self.context, zmq.ROUTER)
        self.router.setsockopt(zmq.RCVTIMEO, 30_000)
        self.address = f"ipc://{folder}/workers"
        self.router.bind(self.address)
        self.template = Template()
        self.pages: list[StatusPage] = []
        self.output = os.pipe()
        self.errors = os.pipe()
        self.template.start()

    def fork(self, number: int, slots: int = 1) -> WorkerSettings:
        settings = WorkerSettings(number, 1, f"w{number}", "node", slots, self.address)
        page = StatusPage.create(slots)
        self.pages.append(page)
        self.template.fork(settings, self.output[1], self.errors[1], page.fd)
        return settings

    def hello(self) -> WorkerHello:
        _, control = self.router.recv_multipart()
        message = DECODER.decode(control)
        assert isinstance(message, WorkerHello)
        return message

    def started(self, number: int = 0) -> WorkerHello:
        self.fork(number)
        hello = self.hello()
        assert self.events(1) == [Forked(number, 1, hello.pid)]
        return hello

    def events(self, count: int) -> list[TemplateEvent]:
        """Wait for so many events."""
        found: list[TemplateEvent] = []
        while len(found) < count:
            assert select.select([self.template], [], [], 30)[0], f"only {found} came"
            found += self.template.events()
            assert not self.template.ended
        return found

    def call(self, settings: WorkerSettings, function: Any) -> None:
        """Have a worker run a task without arguments."""
        digest, data = pack_callable(function)
        run = Run(
            [(digest, (2, 0, len(data)))], [(digest, CALL_INPUTS, 1)],
            [9], [0], [], [], [], [], [], [0], [1],
        )  # fmt: skip
        self.router.send_multipart([settings.identity, encode(run), b"", b"", data])

    def read(self, pipe: tuple[int, int], until: bytes) -> bytes:
        """Read a worker's output until it contains some bytes."""
        found = b""
        while until not in found:
            assert select.select([pipe[0]], [], [], 30)[0], found
            found += os.read(pipe[0], 65536)
        return found

    def close(self) -> None:
        self.template.close()
        for page in self.pages:
            page.close()
        for fd in (*self.output, *self.errors):
            os.close(fd)
        self.router.close(0)
        self.context.term()


@pytest.fixture
def nanny(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nanny]:
    # What tasks print stays in the pipes: there is no client to send it to.
    monkeypatch.setenv("ZCLUSTER_OUTPUT__FORWARD", "false")
    folder = tempfile.mkdtemp(prefix="zc-", dir="/tmp")
    made = Nanny(folder)
    yield made
    made.close()
    shutil.rmtree(folder)


def wait_gone(*pids: int) -> None:
    deadline = time.monotonic() + 30
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < deadline, f"{pid} still runs"
                time.sleep(0.005)


def test_workers_start_stop_and_are_reported(nanny: Nanny) -> None:
    first, second = nanny.fork(0), nanny.fork(1)
    hellos = {hello.number: hello for hello in (nanny.hello(), nanny.hello())}
    assert nanny.events(2) == [Forked(n, 1, hellos[n].pid) for n in (0, 1)]
    assert psutil.Process(hellos[0].pid).ppid() == nanny.template.pid
    nanny.router.send_multipart([first.identity, encode(Stop())])
    (ended,) = nanny.events(1)
    assert isinstance(ended, Ended)
    assert (ended.number, ended.pid, ended.code) == (0, hellos[0].pid, 0)
    assert 5 << 20 < ended.peak_rss < 1 << 30
    nanny.router.send_multipart([second.identity, encode(Stop())])
    (ended,) = nanny.events(1)
    assert isinstance(ended, Ended)
    assert (ended.number, ended.code) == (1, 0)


def test_a_killed_worker_is_reported_with_its_signal_and_what_it_ran(nanny: Nanny) -> None:
    settings = nanny.fork(0)
    hello = nanny.hello()

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    nanny.call(settings, die)
    events = nanny.events(2)
    assert isinstance(events[1], Ended)
    assert (events[1].pid, events[1].code) == (hello.pid, -signal.SIGKILL)
    assert nanny.pages[0].slot(0).task == 9


def test_an_exit_code_is_reported(nanny: Nanny) -> None:
    settings = nanny.fork(0)
    nanny.hello()
    nanny.call(settings, lambda: os._exit(23))
    ended = nanny.events(2)[1]
    assert isinstance(ended, Ended)
    assert ended.code == 23


def test_a_segfault_leaves_its_traceback_in_the_output(nanny: Nanny) -> None:
    settings = nanny.fork(0)
    nanny.hello()

    def crash() -> None:
        import faulthandler

        faulthandler._sigsegv()  # type: ignore[attr-defined]

    nanny.call(settings, crash)
    ended = nanny.events(2)[1]
    assert isinstance(ended, Ended)
    assert ended.code == -signal.SIGSEGV
    assert b"in crash" in nanny.read(nanny.errors, b"in crash")


def test_what_a_task_prints_comes_out_line_by_line(nanny: Nanny) -> None:
    settings = nanny.fork(0)
    nanny.hello()

    def speak() -> None:
        print("to out")
        print("to err", file=sys.stderr)
        print("no end", end="")

    nanny.call(settings, speak)
    assert nanny.read(nanny.output, b"no end") == b"to out\nno end"
    assert nanny.read(nanny.errors, b"\n") == b"to err\n"


def test_a_worker_has_no_descriptors_of_its_template(nanny: Nanny) -> None:
    """One it kept could hold a socket or a pipe open that others wait to see closed."""
    settings = nanny.fork(0)
    nanny.hello()
    nanny.fork(1)
    hello = nanny.hello()
    nanny.call(settings, lambda: print("done"))
    nanny.read(nanny.output, b"done")
    links = {}
    for entry in Path(f"/proc/{hello.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links[int(entry.name)] = os.readlink(entry)
    template = {
        os.readlink(entry) for entry in Path(f"/proc/{nanny.template.pid}/fd").iterdir()
    } - {links[0]}
    shared = {fd: link for fd, link in links.items() if fd > 2 and link in template}
    assert {fd: link for fd, link in shared.items() if not link.startswith("anon_inode")} == {}
    ours = os.readlink(f"/proc/self/fd/{nanny.output[1]}")
    assert [fd for fd, link in links.items() if link == ours] == [1]


def test_main_is_empty_and_interrupts_are_for_the_client(nanny: Nanny) -> None:
    settings = nanny.fork(0)
    hello = nanny.hello()
    os.kill(hello.pid, signal.SIGINT)
    os.kill(nanny.template.pid, signal.SIGINT)
    nanny.call(settings, lambda: print(sorted(vars(sys.modules["__main__"])), end="."))
    assert b"'main'" not in nanny.read(nanny.output, b"].")
    assert os.getsid(hello.pid) == hello.pid


def test_processes_that_a_task_started_end_with_its_worker(nanny: Nanny) -> None:
    settings = nanny.fork(0)
    hello = nanny.hello()

    def spawn() -> None:
        child = subprocess.Popen(["sleep", "1000"])
        print(f"child {child.pid} ", flush=True)

    nanny.call(settings, spawn)
    child = int(nanny.read(nanny.output, b" \n").split()[1])
    assert psutil.pid_exists(child)
    os.kill(hello.pid, signal.SIGKILL)  # the worker alone
    nanny.events(2)
    wait_gone(child)


def test_a_signal_reaches_the_processes_of_a_worker_too(nanny: Nanny) -> None:
    settings = nanny.fork(0)
    hello = nanny.hello()

    nanny.call(settings, lambda: print(subprocess.Popen(["sleep", "1000"]).pid, flush=True))
    child = int(nanny.read(nanny.output, b"\n"))
    nanny.template.send_signal(hello.pid, signal.SIGTERM)
    ended = nanny.events(2)[1]
    assert isinstance(ended, Ended)
    assert ended.code == -signal.SIGTERM
    wait_gone(child)


def test_a_signal_to_a_worker_that_has_ended_goes_nowhere(nanny: Nanny) -> None:
    hello = nanny.started()
    os.kill(hello.pid, signal.SIGKILL)
    nanny.events(1)
    nanny.template.send_signal(hello.pid, signal.SIGKILL)
    nanny.template.send_signal(os.getpid(), signal.SIGKILL)  # not its child: ignored
    assert nanny.started(1).number == 1


def test_closing_ends_workers_even_busy_ones(nanny: Nanny) -> None:
    settings = nanny.fork(0)
    hello = nanny.hello()

    def last() -> None:
        print("runs", flush=True)
        time.sleep(1000)

    nanny.call(settings, last)
    nanny.read(nanny.output, b"runs")
    nanny.template.close()
    wait_gone(hello.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems lack the signal")
def test_a_killed_template_takes_its_workers_along(nanny: Nanny) -> None:
    hello = nanny.started()
    os.kill(nanny.template.pid, signal.SIGKILL)
    wait_gone(hello.pid)
    while not nanny.template.ended:
        assert select.select([nanny.template], [], [], 30)[0]
        nanny.template.events()
    with pytest.raises(StartError, match="takes no requests"):
        nanny.fork(1)


_NANNY = """
import os, sys, time
from zcluster.servers.forking import Forked, WorkerSettings
from zcluster.servers.status import StatusPage
from zcluster.servers.template_client import Template
import select
template = Template()
template.start()
settings = WorkerSettings(0, 1, "w", "n", 1, "ipc://" + sys.argv[1] + "/nobody")
template.fork(settings, 1, 2, StatusPage.create(1).fd)
select.select([template], [], [], 30)
(forked,) = template.events()
print(template.pid, forked.pid, flush=True)
time.sleep(1000)
"""


def test_a_killed_nanny_takes_template_and_workers_along() -> None:
    folder = tempfile.mkdtemp(prefix="zc-", dir="/tmp")
    with subprocess.Popen(
        [sys.executable, "-c", _NANNY, folder], stdout=subprocess.PIPE, text=True
    ) as nanny:
        assert nanny.stdout is not None
        pids = [int(word) for word in nanny.stdout.readline().split()]
        assert len(pids) == 2
        nanny.kill()
        wait_gone(*pids)
    shutil.rmtree(folder)


def test_closing_a_template_that_never_started() -> None:
    template = Template()
    template.close()
    template.close()
