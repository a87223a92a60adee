"""A real worker process over a real ROUTER, with the test as its nanny."""

from __future__ import annotations

import os
import pickle
import select
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import pytest
import zmq

from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS, CALL_SINGLE
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    WORKER_TO_NODE,
    Discard,
    Done,
    Environment,
    Failed,
    Grant,
    Message,
    Recall,
    Recalled,
    Reserve,
    Return,
    Run,
    Skipped,
    Sources,
    Stop,
    WorkerHello,
)
from zcluster.protocol.objects import load, plan
from zcluster.servers.forking import Ended, Forked, TemplateEvent, WorkerSettings
from zcluster.servers.status import StatusPage
from zcluster.servers.template_client import Template
from zcluster.servers.worker import EXIT_NANNY_GONE, Worker
from zcluster.storage.arena import Arena, Range
from zcluster.storage.door import Door
from zcluster.storage.slabs import Slabs
from zcluster.transport.sockets import socket

pytestmark = pytest.mark.processes

DECODER = Decoder(WORKER_TO_NODE)
M = TypeVar("M", bound=Message)


class Nanny:
    """The other end of a worker's link, its store and its door."""

    def __init__(self, folder: str, template: Template) -> None:
        self.folder = Path(folder)
        self.template = template
        self.context: zmq.Context[Any] = zmq.Context()
        self.router = socket(self.context, zmq.ROUTER)
        self.router.setsockopt(zmq.RCVTIMEO, 30_000)
        self.address = f"ipc://{folder}/workers"
        self.router.bind(self.address)
        self.door = Door(f"{folder}/door")
        self.arena, self.slabs = Arena(limit=64 << 20), Slabs()
        self.settings = WorkerSettings(0, 1, "w", "n", 2, self.address, self.door.path)
        self.page = StatusPage.create(2)
        self.pid = 0
        self.frames: list[bytes] = []
        self.returned: list[tuple[int, int, int]] = []
        self._known: set[bytes] = set()

    def start(self) -> None:
        """Have a worker forked."""
        with open(self.folder / "output", "wb") as output:
            fd = output.fileno()
            self.template.fork(self.settings, fd, fd, self.page.fd)
        self.pid = self.receive(WorkerHello).pid
        assert self._event() == Forked(0, 1, self.pid)
        for connection in self.door.accept_ready():
            while not connection.identity:
                connection.ready()
        assert self.door.arrived == [self.settings.identity]

    def send(self, message: Message, *frames: bytes) -> None:
        self.router.send_multipart([self.settings.identity, encode(message), *frames])

    def receive(self, kind: type[M]) -> M:
        """Take the next message, which must be of this kind; leases come at any time."""
        while True:
            identity, control, *self.frames = self.router.recv_multipart()
            assert identity == self.settings.identity
            message = DECODER.decode(control)
            if isinstance(message, Return):
                self.returned += message.ranges
            if isinstance(message, kind):
                return message
            assert isinstance(message, Return), message

    def put(self, value: object) -> tuple[int, int, int]:
        planned = plan(value)
        where = self.reserve(planned.size)
        planned.write_into(self.slabs.view(where))
        return where.slab, where.offset, planned.size

    def reserve(self, size: int) -> Range:
        where = self.arena.allocate(size)
        assert where is not None
        for slab in self.slabs.follow(self.arena):
            fd = self.slabs.descriptor(slab)
            assert self.door.send_descriptor(self.settings.identity, slab, fd)
        self.slabs.reserve(where)
        return where

    def run(
        self,
        tasks: list[int],
        function: Callable[..., Any],
        inputs: list[list[int]] | None = None,
        ranges: dict[int, tuple[int, int, int]] | None = None,
        constant: object = None,
        uses: int = 0,
    ) -> None:
        digest, data = pack_callable(function)
        new = [] if digest in self._known else [(digest, (2, 0, len(data)))]
        self._known.add(digest)
        blob = b"" if constant is None else plan(constant).tobytes()
        count = len(tasks)
        self.send(
            Run(
                functions=new,
                runs=[(digest, CALL_INPUTS if constant is None else CALL_SINGLE, count)],
                tasks=tasks,
                arities=[len(each) for each in inputs] if inputs else [0] * count,
                inputs=[key for each in inputs or () for key in each],
                groups=[],
                offsets=[n * len(blob) for n in range(count + 1)] if blob else [],
                ranges=[(key, *place) for key, place in (ranges or {}).items()],
                inline=[],
                uses=[uses] * count,
                report=[1] * count,
            ),
            blob * count,
            b"",
            data if new else b"",
        )

    def results(self, count: int) -> dict[int, Any]:
        """Wait for so many small results."""
        found: dict[int, Any] = {}
        while len(found) < count:
            done = self.receive(Done)
            at = 0
            for task, length in zip(done.tasks, done.lengths, strict=True):
                found[task] = load(self.frames[0][at : at + length])
                at += length
        return found

    def wait_exit(self) -> int:
        """Wait for the worker's end and return what it exited with."""
        ended = self._event()
        assert isinstance(ended, Ended)
        assert ended.pid == self.pid
        self.pid = 0
        return ended.code

    def _event(self) -> TemplateEvent:
        assert select.select([self.template], [], [], 30)[0]
        (event,) = self.template.events()
        return event

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def wait_running(self, *tasks: int) -> None:
        deadline = time.monotonic() + 30
        while {status.task for status in self.page.read()} - {None} != set(tasks):
            assert time.monotonic() < deadline, self.page.read()
            time.sleep(0.001)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait_exit()
        self.page.close()
        self.door.close()
        self.slabs.close()
        self.router.close(0)
        self.context.term()


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    made = Template()
    made.start()
    yield made
    made.close()


@pytest.fixture
def nanny(template: Template) -> Iterator[Nanny]:
    folder = tempfile.mkdtemp(prefix="zc-", dir="/tmp")
    os.chmod(folder, 0o700)
    made = Nanny(folder, template)
    try:
        made.start()
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


def wait_for_file(path: str) -> str:
    deadline = time.monotonic() + 30
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.001)
    return "went on"


def test_a_run_gives_its_results(nanny: Nanny) -> None:
    nanny.run(list(range(5, 300)), abs, constant=-4)
    assert nanny.results(295) == dict.fromkeys(range(5, 300), 4)
    nanny.run([1], abs, constant=-5)  # the callable is known by now
    assert nanny.results(1) == {1: 5}


def test_slots_run_batches_side_by_side(nanny: Nanny) -> None:
    """Both tasks wait for the other one's file."""
    one, two = str(nanny.folder / "one"), str(nanny.folder / "two")

    def meet(mine: str, other: str) -> str:
        open(mine, "x").close()
        return wait_for_file(other)

    nanny.run([1], lambda: meet(one, two))
    nanny.run([2], lambda: meet(two, one))
    assert nanny.results(2) == {1: "went on", 2: "went on"}


def steps(gate: str, first: float) -> Callable[[], int]:
    """Return a task that takes long at its first call, and at its third waits for a file."""
    calls: list[None] = []

    def step() -> int:
        calls.append(None)
        if len(calls) == 1:
            time.sleep(first)
        if len(calls) == 3:
            wait_for_file(gate)
        return len(calls)

    return step


@pytest.mark.parametrize("first", [0.0, 0.02])
def test_results_do_not_wait_for_a_long_task_behind_them(nanny: Nanny, first: float) -> None:
    """One batch, whose last task ends only after the results before it were seen.

    A first task that takes long outlasts the loop's first look, which finds nothing.
    """
    gate = str(nanny.folder / "gate")
    nanny.run([1, 2, 3], steps(gate, first))
    assert nanny.results(2) == {1: 1, 2: 2}
    open(gate, "x").close()
    assert nanny.results(1) == {3: 3}


def test_inputs_are_read_from_the_store_and_leases_come_back(nanny: Nanny) -> None:
    place = nanny.put(np.arange(100_000))
    nanny.run([1, 2], lambda array: int(array.sum()), [[100], [100]], {100: place})
    assert nanny.results(2) == dict.fromkeys((1, 2), sum(range(100_000)))
    while not nanny.returned:
        nanny.receive(Return)
    assert nanny.returned == [place]


def test_a_lease_that_ends_later_comes_back_without_another_message(nanny: Nanny) -> None:
    place = nanny.put(np.arange(100_000))
    nanny.run([1], lambda array: array[:3], [[100]], {100: place}, uses=1)
    nanny.results(1)
    nanny.send(Discard([1]))
    assert nanny.receive(Return).ranges == [place]


def test_a_lease_that_ends_in_a_thread_of_the_task_comes_back(nanny: Nanny) -> None:
    """Nothing else happens at that time: the loop must look by itself."""
    place = nanny.put(np.arange(100_000))

    def keep(array: Any) -> None:
        threading.Timer(0.2, array.sum).start()

    nanny.run([1], keep, [[100]], {100: place})
    assert nanny.results(1) == {1: None}
    assert nanny.receive(Return).ranges == [place]


def test_a_large_result_asks_for_room_and_lands_there(nanny: Nanny) -> None:
    nanny.run([1], np.arange, constant=50_000)
    reserve = nanny.receive(Reserve)
    assert reserve.task == 1
    where = nanny.reserve(reserve.size)
    nanny.send(Grant(reserve.request, *where))
    done = nanny.receive(Done)
    assert (done.tasks, done.lengths) == ([1], [-1])
    assert done.ranges == [(1, where.slab, where.offset, reserve.size)]
    assert load(nanny.slabs.view(where))[-1] == 49_999


def test_a_full_store_fails_the_task(nanny: Nanny) -> None:
    nanny.run([1], np.arange, constant=50_000)
    while isinstance(message := nanny.receive(Message), Reserve):
        # Twice, if its garbage collector found something meanwhile.
        nanny.send(Grant(message.request, -1, 0, 0, "full up"))
    assert isinstance(message, Failed)
    assert message.errors[0].kind == "store"
    assert "full up" in message.errors[0].message


def test_failures_and_what_follows_from_them(nanny: Nanny) -> None:
    def fail() -> None:
        raise ValueError("no good")

    nanny.run([1], fail, uses=1)
    failed = nanny.receive(Failed)
    (error,) = failed.errors
    assert (error.type_name, error.message, error.worker) == ("builtins.ValueError", "no good", "w")
    assert error.exception is not None
    frame, start, stop = error.exception
    assert str(pickle.loads(nanny.frames[frame][start:stop])) == "no good"
    nanny.run([2], abs, [[1]])
    assert nanny.receive(Skipped).tasks == [2]


def test_recall_gives_back_what_has_not_started(nanny: Nanny) -> None:
    gate = str(nanny.folder / "gate")
    nanny.run([1, 2, 3], lambda: wait_for_file(gate))
    nanny.run([4, 5], lambda: wait_for_file(gate))
    nanny.run([6, 7], lambda: wait_for_file(gate))
    nanny.wait_running(1, 4)
    nanny.send(Recall([1, 3, 6, 99]))
    assert nanny.receive(Recalled) == Recalled([3, 6], [0, 0])
    open(gate, "x").close()
    assert nanny.results(5) == dict.fromkeys((1, 2, 4, 5, 7), "went on")


def test_stop_finishes_what_runs_and_gives_back_the_rest(nanny: Nanny) -> None:
    gate = str(nanny.folder / "gate")
    nanny.run([1, 2], lambda: wait_for_file(gate))
    nanny.run([3], lambda: wait_for_file(gate))
    nanny.run([4], lambda: wait_for_file(gate))
    nanny.wait_running(1, 3)
    nanny.send(Stop())
    assert nanny.receive(Recalled).tasks == [2, 4]
    nanny.run([5], abs, constant=1)
    assert nanny.receive(Recalled).tasks == [5]
    open(gate, "x").close()
    assert nanny.results(2) == {1: "went on", 3: "went on"}
    assert nanny.wait_exit() == 0


def test_a_worker_whose_nanny_is_gone_ends_at_once(nanny: Nanny) -> None:
    nanny.run([1], lambda: time.sleep(1000))
    nanny.wait_running(1)
    nanny.router.close(0)
    assert nanny.wait_exit() == EXIT_NANNY_GONE


def test_environment_and_sources_make_modules_importable(nanny: Nanny) -> None:
    (nanny.folder / "zc_on_path.py").write_text("value = 'found on the path'\n")
    nanny.send(Environment([str(nanny.folder)], str(nanny.folder), "host"))
    source = b"value = 'sent as source'\n"
    nanny.send(Sources([("zc_sent", False, (0, 0, len(source)))]), source)

    def look() -> tuple[str, str, str]:
        import zc_on_path  # type: ignore[import-not-found]
        import zc_sent  # type: ignore[import-not-found]

        return zc_on_path.value, zc_sent.value, os.getcwd()

    nanny.run([1], look)
    assert nanny.results(1)[1] == ("found on the path", "sent as source", str(nanny.folder))


def test_new_sources_replace_what_callables_refer_to(nanny: Nanny) -> None:
    for answer in (b"1", b"2"):
        source = b"def f():\n    return " + answer + b"\n"
        nanny.send(Sources([("zc_changing", False, (0, 0, len(source)))]), source)
        data = b"\x80\x05czc_changing\nf\n."  # by reference, the same bytes each time
        run = Run(
            [(b"d" * 16, (2, 0, len(data)))], [(b"d" * 16, CALL_INPUTS, 1)],
            [1], [0], [], [], [], [], [], [0], [1],
        )  # fmt: skip
        nanny.send(run, b"", b"", data)
        assert nanny.results(1) == {1: int(answer)}


def test_discarded_callables_are_forgotten(nanny: Nanny) -> None:
    nanny.run([1], abs, constant=-1)
    nanny.results(1)
    nanny.send(Discard([], [pack_callable(abs).digest]))
    nanny.run([2], abs, constant=-1)
    assert "was discarded" in nanny.receive(Failed).errors[0].message


def test_a_folder_that_is_not_here_is_no_reason_to_fail(nanny: Nanny) -> None:
    nanny.send(Environment([], "/nonexistent/folder", "host"))
    nanny.run([1], abs, constant=-1)
    assert nanny.results(1) == {1: 1}
    assert "/nonexistent/folder cannot be entered here: No such file" in nanny.output()


def test_an_idle_worker_does_not_use_the_processor(nanny: Nanny) -> None:
    nanny.run([1], abs, constant=-1)
    nanny.results(1)
    process = psutil.Process(nanny.pid)
    before = process.num_ctx_switches().voluntary
    assert nanny.router.poll(300) == 0
    assert process.num_ctx_switches().voluntary - before < 30


def test_a_message_that_is_none_ends_the_worker_with_its_reason(nanny: Nanny) -> None:
    """It is a bug; a worker that went on would leave tasks hanging."""
    nanny.router.send_multipart([nanny.settings.identity, b"\x91\xa5hello"])
    assert nanny.wait_exit() == 1
    assert "ProtocolError: control frame is no message accepted here" in nanny.output()


def test_a_worker_in_a_thread_serves_and_ends() -> None:
    """A cluster without processes: the same worker over ``inproc``."""
    context: zmq.Context[Any] = zmq.Context()
    router = socket(context, zmq.ROUTER)
    router.setsockopt(zmq.RCVTIMEO, 30_000)
    router.bind("inproc://workers")
    page = StatusPage.create(1)
    settings = WorkerSettings(0, 1, "w", "n", 1, "inproc://workers")
    worker = Worker(settings, context, page)
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(worker.run()))
    thread.start()
    identity, _ = router.recv_multipart()
    router.send_multipart([identity, encode(Stop())])
    thread.join(30)
    assert ended == [True]
    page.close()
    router.close(0)
    context.term()
