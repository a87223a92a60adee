"""Inputs come from other nodes, from the next holder where one fails, or not at all."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from zcluster.core.node.core import NodeCore
from zcluster.core.node.records import FetchOrder, Result
from zcluster.protocol.blobs import Parts
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import DATA_PORT, Fetch, Message, Missing, More, NodeInfo, Slice
from zcluster.protocol.objects import load, plan
from zcluster.servers import dataport, fetching
from zcluster.servers.dataport import DataPort
from zcluster.servers.fetching import Fetcher
from zcluster.servers.memory import StoreMemory
from zcluster.storage.arena import Range
from zcluster.transport.loop import Loop

KIB, MIB = 1 << 10, 1 << 20


class Holder:
    """A node that has results."""

    def __init__(self, bench: Bench, index: int) -> None:
        self.bench = bench
        self.memory = StoreMemory(64 * MIB, lambda slab, fd: None)
        self.core = NodeCore(f"n{index}", [], self.memory)
        self.port = DataPort(
            bench.loop, bench.context, bench.address(index), self.core, self.memory
        )

    def keep(self, task: int, value: object) -> bytes:
        """Keep a value as the result of a task; return its blob."""
        planned = plan(value)
        place = self.memory.allocate(planned.size)
        assert place is not None
        planned.write_into(self.memory.writable(place, planned.size))
        self.core.results[task] = Result(planned.size, place=place)
        return planned.tobytes()

    def close(self) -> None:
        self.port.close()
        self.memory.close()


class Liar:
    """Something at a node's address that answers as a test says."""

    def __init__(
        self, bench: Bench, index: int, answer: Callable[[Message], list[list[bytes]]]
    ) -> None:
        self.bench = bench
        self.heard: list[Message] = []
        self.answer = answer
        self.decoder = Decoder(DATA_PORT)
        self.socket: zmq.Socket[Any] = bench.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(bench.address(index))
        bench.loop.add_socket(self.socket, self._receive)

    def _receive(self) -> None:
        route, control = self.socket.recv_multipart(zmq.NOBLOCK)
        message = self.decoder.decode(control)
        self.heard.append(message)
        for frames in self.answer(message):
            self.socket.send_multipart([route, *frames])

    def close(self) -> None:
        self.bench.loop.remove(self.socket)
        self.socket.close(0)


class Bench:
    """A fetcher, what it has told, and the nodes it knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = Loop()
        self.context: zmq.Context[Any] = zmq.Context()
        self.memory = StoreMemory(8 * MIB, lambda slab, fd: None)
        self.core = NodeCore("n", [], self.memory)
        self.loop.on_idle.append(self._flush)
        self.fetched: dict[int, Result] = {}
        self.failed: list[tuple[int, int, str, str]] = []
        self.nodes = {
            index: NodeInfo(index, f"n{index}", "host", 1, self.address(index), "", 0, [])
            for index in (1, 2, 3)
        }
        self.fetcher = Fetcher(
            self.loop,
            self.context,
            self.memory,
            self.core.room,
            self.nodes,
            self._on_fetched,
            lambda *said: self.failed.append(said),
        )
        self.others: list[Holder | Liar] = []

    def _flush(self) -> None:
        for given in self.core.flush(self.loop.now()).room:
            self.fetcher.on_room(given)

    def _on_fetched(self, number: int, result: Result) -> None:
        assert number not in self.fetched
        self.fetched[number] = result

    def address(self, index: int) -> str:
        return f"ipc://{self.folder}/{index}"

    def holder(self, index: int) -> Holder:
        made = Holder(self, index)
        self.others.append(made)
        return made

    def liar(self, index: int, answer: Callable[[Message], list[list[bytes]]]) -> Liar:
        made = Liar(self, index, answer)
        self.others.append(made)
        return made

    def fetch(
        self, task: int, nodes: list[int], kind: int = 0, selection: list[int] | None = None
    ) -> Result:
        """Fetch an input and return it."""
        self.order(task, nodes, kind, selection)
        self.until(lambda: task in self.fetched)
        return self.fetched[task]

    def order(
        self, task: int, nodes: list[int], kind: int = 0, selection: list[int] | None = None
    ) -> None:
        self.core.copying.add(task)  # it is wanted, or it would be given no room
        self.fetcher.fetch(FetchOrder(task, task, kind, selection or [], 0, nodes))

    def bytes_of(self, result: Result) -> bytes:
        return bytes(self.memory.view(result))

    def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            self.loop.call_later(0.005, lambda: None)
            self.loop.run_once()

    def close(self) -> None:
        self.fetcher.close()
        for other in self.others:
            other.close()
        self.context.destroy(0)
        self.memory.close()
        self.loop.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a holder be given up after a tenth of a second."""
    monkeypatch.setattr(fetching, "_PATIENCE", 0.1)


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a holder be ahead by 64 KiB, so that it is never done before it is asked for more."""
    monkeypatch.setattr(fetching, "WINDOW", 64 * KIB)


# ------------------------------------------------------------------------- what is brought


def test_a_large_input_comes_into_the_store_and_a_small_one_into_the_heap(bench: Bench) -> None:
    holder = bench.holder(1)
    large = holder.keep(1, np.arange(100_000))
    small = holder.keep(2, [1, 2, 3])
    result = bench.fetch(1, [1])
    assert result.place is not None
    assert bench.bytes_of(result) == large
    assert bench.memory.used == result.place.length
    result = bench.fetch(2, [1])
    assert result.blob == small
    assert result.lent  # the holder keeps it, too
    assert not result.uncut
    assert len(bench.fetcher._connections) == 1


def test_an_input_of_many_slices_comes_with_credit_given_as_it_arrives(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataport, "SLICE", 64 * KIB)
    monkeypatch.setattr(fetching, "WINDOW", 100 * KIB)
    blob = bench.holder(1).keep(1, np.arange(250_000))
    assert bench.bytes_of(bench.fetch(1, [1])) == blob


def test_several_inputs_come_at_the_same_time(bench: Bench) -> None:
    holders = [bench.holder(1), bench.holder(2)]
    blobs = {task: holders[task % 2].keep(task, np.full(10_000, task)) for task in range(20)}
    for task in range(20):
        bench.order(task, [1 + task % 2])
    bench.until(lambda: len(bench.fetched) == 20)
    assert {task: bench.bytes_of(result) for task, result in bench.fetched.items()} == blobs
    assert bench.failed == []


def test_only_the_part_is_brought(bench: Bench) -> None:
    holder = bench.holder(1)
    holder.keep(1, np.arange(1_000_000))
    holder.keep(2, Parts([np.arange(100_000), "second"]))
    box = bench.fetch(1, [1], 3, [5, 10, 1])
    assert load(bench.bytes_of(box)).tolist() == [5, 6, 7, 8, 9]
    assert load(bench.bytes_of(bench.fetch(2, [1], 1, [1]))) == "second"
    assert not box.uncut
    assert holder.port.sent_bytes < KIB


def test_what_cannot_be_cut_there_comes_whole_and_is_marked(bench: Bench) -> None:
    """The worker that takes it cuts the value."""
    blob = bench.holder(1).keep(1, ["first", "second"])
    result = bench.fetch(1, [1], 1, [1])
    assert bench.bytes_of(result) == blob
    assert result.uncut


# --------------------------------------------------------------------- holders that are not


def test_the_next_holder_is_asked_where_one_has_it_not(bench: Bench) -> None:
    bench.holder(1)
    blob = bench.holder(2).keep(1, [1, 2, 3])
    assert bench.fetch(1, [1, 2]).blob == blob
    assert bench.failed == []


def test_a_holder_that_is_not_known_or_not_there_is_passed_over(bench: Bench) -> None:
    blob = bench.holder(2).keep(1, [1, 2, 3])
    began = time.monotonic()
    assert bench.fetch(1, [99, 1, 2]).blob == blob
    assert time.monotonic() - began < 1.9  # its connection is refused at once


@pytest.mark.parametrize(("nodes", "last"), [([1, 2], 2), ([99], 99), ([2, 1, 3], 3)])
def test_an_input_that_nobody_has_fails_with_the_last_holder(
    bench: Bench, nodes: list[int], last: int
) -> None:
    bench.holder(1)
    bench.holder(2)
    bench.order(7, nodes)
    bench.until(lambda: bench.failed)
    assert bench.failed == [(7, last, "", "")]
    assert bench.fetched == {}


def test_an_input_that_can_never_travel_fails_at_once_with_the_reason(bench: Bench) -> None:
    bench.holder(1).core.results[7] = Result(0, worker=0)
    bench.holder(2)
    bench.order(7, [1, 2])
    bench.until(lambda: bench.failed)
    ((number, node, kind, reason),) = bench.failed
    assert (number, node, kind) == (7, 1, "serialize")
    assert "cannot be pickled" in reason


def test_a_holder_that_goes_away_is_given_up_at_once(bench: Bench) -> None:
    liar = bench.liar(1, lambda message: [])
    blob = bench.holder(2).keep(1, [1, 2, 3])
    bench.order(1, [1, 2])
    bench.until(lambda: len(liar.heard) == 2)
    began = time.monotonic()
    liar.close()
    bench.until(lambda: bench.fetched)
    assert time.monotonic() - began < 1.9
    assert bench.fetched[1].blob == blob


def _is_up(holder: Holder) -> bool:
    return holder.port._shedder._waiting is not None


@pytest.fixture
def descriptors(bench: Bench) -> Iterator[Callable[[bool], None]]:
    """Take all file descriptors that this process may open, or give them back."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def take(take_all: bool) -> None:
        if not take_all:
            while taken:
                os.close(taken.pop())
            return
        for other in bench.others:  # they are up before there are none left
            if isinstance(other, Holder):
                bench.until(partial(_is_up, other))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[0], 256), limits[1]))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))

    yield take
    take(False)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_without_descriptors_a_fetch_waits_and_holders_are_not_blamed(
    bench: Bench, descriptors: Callable[[bool], None]
) -> None:
    blob = bench.holder(1).keep(1, [1, 2, 3])
    descriptors(True)
    bench.order(1, [1])
    began = time.monotonic()
    bench.until(lambda: time.monotonic() - began > 2.5 * fetching._AGAIN)
    assert not bench.fetched
    assert not bench.failed
    descriptors(False)
    bench.until(lambda: bench.fetched)
    assert bench.fetched[1].blob == blob


def test_without_descriptors_for_long_a_fetch_fails(
    bench: Bench, descriptors: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_AGAIN", 0.001)
    bench.holder(1)
    bench.holder(2)
    descriptors(True)
    bench.order(7, [1, 2])
    bench.until(lambda: bench.failed)
    descriptors(False)
    assert bench.failed == [(7, 2, "", "")]


@pytest.mark.usefixtures("impatient")
def test_a_silent_holder_is_given_up_after_a_while(bench: Bench) -> None:
    liar = bench.liar(1, lambda message: [])
    blob = bench.holder(2).keep(1, [1, 2, 3])
    bench.order(1, [1, 2])
    bench.order(2, [1])
    bench.until(lambda: bench.fetched and bench.failed)
    assert liar.heard[:2] == [Fetch(1, 1), More(1, dataport.WINDOW)]
    assert bench.fetched[1].blob == blob
    assert bench.failed == [(2, 1, "", "")]
    assert 1 not in bench.fetcher._connections  # it may be a process that is gone


@pytest.mark.usefixtures("impatient")
def test_a_slow_holder_is_waited_for(bench: Bench) -> None:
    """Patience counts from the last slice: a large input takes as long as it takes."""
    sent = 0

    def answer(message: Message) -> list[list[bytes]]:
        if isinstance(message, More):
            bench.loop.call_later(0.06, lambda: liar._send_one(message.request))
        return []

    class Slow(Liar):
        def _send_one(self, request: int) -> None:
            nonlocal sent
            sent += 1
            control = encode(Slice(request, sent - 1, 4))
            self.socket.send_multipart([self.route, control, b"%d" % sent])

        def _receive(self) -> None:
            self.route, control = self.socket.recv_multipart(zmq.NOBLOCK)
            self.answer(self.decoder.decode(control))

    liar = Slow(bench, 1, answer)
    bench.others.append(liar)
    assert bench.fetch(1, [1]).blob == b"1234"


LIES: dict[str, Callable[[int], list[list[bytes]]]] = {
    "no size": lambda request: [[encode(Slice(request, 0, -1)), b""]],
    "in the middle": lambda request: [[encode(Slice(request, 5, 10)), b"x"]],
    "before the start": lambda request: [[encode(Slice(request, -5, 10)), b"x" * 5]],
    "past the end": lambda request: [[encode(Slice(request, 0, 3)), b"abcd"]],
    "twice": lambda request: [[encode(Slice(request, 0, 10)), b"abcd"]] * 2,
    "large, then wrong": lambda request: [
        [encode(Slice(request, 0, MIB)), bytes(1000)],
        [encode(Slice(request, 0, MIB)), bytes(1000)],
    ],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_holder_that_sends_nonsense_is_given_up(
    bench: Bench, lie: Callable[[int], list[list[bytes]]]
) -> None:
    bench.liar(1, lambda message: lie(message.request) if isinstance(message, Fetch) else [])
    blob = bench.holder(2).keep(1, [1, 2, 3])
    assert bench.fetch(1, [1, 2]).blob == blob
    assert bench.memory.used == 0


def test_what_is_not_understood_or_not_asked_for_is_passed_over(bench: Bench) -> None:
    def answer(message: Message) -> list[list[bytes]]:
        if not isinstance(message, Fetch):
            return []
        return [
            [b"\xc1"],
            [encode(Fetch(1, 1))],
            [encode(Missing(99))],
            [encode(Slice(98, 0, 3)), b"xyz"],
            [encode(Slice(message.request, 0, 3)), b"abc"],
        ]

    bench.liar(1, answer)
    assert bench.fetch(1, [1]).blob == b"abc"


# ------------------------------------------------------------------------------------ room


def test_an_input_that_can_never_fit_fails_with_the_reason(bench: Bench) -> None:
    """To make it again would not help, which is what the scheduler does without a reason."""
    bench.holder(1).keep(7, np.zeros(9 * MIB, "u1"))
    bench.order(7, [1])
    bench.until(lambda: bench.failed)
    ((number, node, kind, reason),) = bench.failed
    assert (number, node, kind) == (7, 1, "store")
    assert f"no room for {9 * MIB + 64} bytes (0 of {8 * MIB} are in use, " in reason
    assert bench.memory.used == 0


def fill(bench: Bench) -> list[Range]:
    """Take all room of the store."""
    places = []
    while (place := bench.memory.allocate(MIB)) is not None:
        places.append(place)
    return places


@pytest.mark.usefixtures("small_window")
def test_an_input_for_which_there_is_no_room_waits_until_there_is(bench: Bench) -> None:
    holder = bench.holder(1)
    blob = holder.keep(7, np.arange(100_000))
    places = fill(bench)
    bench.order(7, [1])
    bench.until(lambda: holder.port.sent_bytes)
    sent = holder.port.sent_bytes
    looks = bench.loop.now() + 0.1
    bench.until(lambda: bench.loop.now() > looks)
    assert (bench.fetched, bench.failed) == ({}, [])
    assert holder.port.sent_bytes == sent  # not sent in vain, again and again
    bench.memory.free(places.pop())
    bench.until(lambda: bench.fetched)
    assert bench.bytes_of(bench.fetched[7]) == blob


@pytest.mark.usefixtures("small_window")
def test_an_input_does_not_wait_for_room_for_ever_nor_does_its_holder(
    bench: Bench,
) -> None:
    holder = bench.holder(1)
    holder.keep(7, np.arange(100_000))
    fill(bench)
    bench.order(7, [1])
    bench.until(lambda: bench.failed)
    assert "has no room" in bench.failed[0][3]
    place = holder.core.results.pop(7).place
    assert place is not None
    holder.memory.free(place)
    bench.until(lambda: holder.memory.used == 0)  # it let go of what it was sending


def test_closing_in_the_midst_tells_nobody(bench: Bench) -> None:
    bench.liar(1, lambda message: [])
    bench.order(1, [1])
    bench.fetcher.close()
    bench.loop.call_later(0.02, lambda: None)
    bench.loop.run_once()
    assert bench.failed == []
    assert bench.fetched == {}
