"""A client whose connection to the scheduler is cut: within its grace it loses nothing."""

from __future__ import annotations

import operator
import os
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from zcluster.distributed import Client, LocalCluster, wait
from zcluster.errors import SchedulerLost

if TYPE_CHECKING:
    from tests.processes.conftest import Log

pytestmark = pytest.mark.processes


class Wire:
    """A relay of bytes to a scheduler, in a thread of its own, that can be cut."""

    def __init__(self, folder: str, address: str) -> None:
        self.path = f"{folder}/wire"
        self.address = f"ipc://{self.path}"
        #: Connections made so far, and bytes that may pass until the wire is cut by itself.
        self.made = 0
        self.left: int | None = None
        self._to = address.removeprefix("ipc://")
        self._selector = selectors.DefaultSelector()
        self._orders, self._told = socket.socketpair()
        self._selector.register(self._told, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self._ends: dict[socket.socket, socket.socket] = {}
        self._done = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.order(b"listen")

    def order(self, word: bytes) -> None:
        """Have the thread ``cut`` all connections, ``refuse`` new ones too, ``listen``, ``end``."""
        self._orders.send(word.ljust(6))
        assert self._done.acquire(timeout=10)

    def close(self) -> None:
        self.order(b"refuse")
        self.order(b"end")
        self._thread.join(10)
        self._selector.close()
        self._orders.close()
        self._told.close()

    def _run(self) -> None:
        word = b""
        while word != b"end":
            for key, _ in self._selector.select():
                if key.fileobj is self._told:
                    word = self._told.recv(6).strip()
                    self._obey(word)
                    self._done.release()
                elif key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._ends:
                    self._pass(key.fileobj)

    def _obey(self, word: bytes) -> None:
        if word in (b"cut", b"refuse"):
            self._cut()
        if word == b"refuse" and self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
            os.unlink(self.path)
        if word == b"listen":
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self.path)
            self._listener.listen()
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _accept(self) -> None:
        assert self._listener is not None
        near, far = self._listener.accept()[0], socket.socket(socket.AF_UNIX)
        far.connect(self._to)
        self.made += 1
        for end, other in ((near, far), (far, near)):
            self._ends[end] = other
            self._selector.register(end, selectors.EVENT_READ)

    def _pass(self, end: socket.socket) -> None:
        try:
            data = end.recv(4096)  # little at a time: a cut comes in the middle of something
            if data:
                self._ends[end].sendall(data)
        except ConnectionError:
            data = b""
        if self.left is not None:
            self.left -= len(data)
            if self.left <= 0:
                self.left = None
                self._cut()
                return
        if not data:
            self._cut()

    def _cut(self) -> None:
        for end in self._ends:
            self._selector.unregister(end)
            end.close()
        self._ends.clear()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1, 2) as made:
        with Client(made) as client:
            client.wait_for_workers(1, timeout=20)
        yield made


@pytest.fixture
def wire(cluster: LocalCluster) -> Iterator[Wire]:
    with tempfile.TemporaryDirectory(prefix="w-") as folder:
        made = Wire(folder, cluster.scheduler_address)
        try:
            yield made
        finally:
            made.close()


def note(path: str, number: int) -> int:
    with open(path, "a") as file:
        file.write(f"{number}\n")
    return -number


def test_cuts_in_the_middle_of_messages_lose_and_double_nothing(wire: Wire, log: Log) -> None:
    with Client(wire.address) as client:
        futures = []
        for start in range(0, 600, 100):
            wire.left = 500 + 17 * start  # it is cut somewhere within what comes
            futures += [
                client.submit(note, log.path, number, pure=False)
                for number in range(start, start + 100)
            ]
            assert client.gather(futures[start:]) == [-n for n in range(start, start + 100)]
            if wire.left is not None:
                wire.order(b"cut")
        array = client.submit(np.arange, 100_000)
        assert array.result(20)[-1] == 99_999
        assert wire.made == 7, "it was not cut each time"
        assert set(log.counts().values()) == {1}
        assert client.gather(futures) == [-number for number in range(600)]
        assert client.status == "running"


def test_a_cut_of_a_second_is_within_the_grace(wire: Wire, until: Callable[..., None]) -> None:
    with Client(wire.address) as client:
        kept = client.submit(np.arange, 100_000)
        wait([kept])
        running = [client.submit(time.sleep, 0.2 + i / 1000, pure=False) for i in range(4)]
        wire.order(b"refuse")
        during = client.map(operator.neg, range(50))
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 1.0)
        assert not any(future.done() for future in during)
        wire.order(b"listen")
        assert client.gather(during) == [-i for i in range(50)]
        assert client.gather(running) == [None] * 4
        assert client.submit(np.sum, kept).result(20) == 4_999_950_000


def test_a_cut_beyond_the_grace_fails_every_future_and_says_so(
    wire: Wire, cluster: LocalCluster
) -> None:
    with Client(wire.address) as client, Client(cluster) as other:
        done = client.submit(operator.neg, 1)
        assert done.result(20) == -1
        pending = client.submit(time.sleep, 30, pure=False)
        began = time.monotonic()
        wire.order(b"refuse")
        with pytest.raises(SchedulerLost, match="the scheduler is lost"):
            pending.result(20)
        assert 1.5 < time.monotonic() - began < 6
        assert done.result(1) == -1  # it was here already
        assert pending.status == "lost"
        with pytest.raises(SchedulerLost):
            client.submit(operator.neg, 2)
        assert client.status == "closed"
        assert other.submit(operator.neg, 3).result(20) == -3  # nobody else is concerned
