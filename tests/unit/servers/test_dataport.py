"""The data port: slices under credit both ways, ranges to map, and peers that are not polite."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from zcluster.core.node.core import NodeCore
from zcluster.core.node.records import Result
from zcluster.protocol.blobs import Parts
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    DATA_PORT,
    Fetch,
    FetchSmall,
    Map,
    Mapped,
    Message,
    Missing,
    More,
    Put,
    Return,
    Slice,
    Small,
    Stop,
    Stored,
)
from zcluster.protocol.objects import load, plan
from zcluster.servers import dataport
from zcluster.servers.dataport import DataPort
from zcluster.servers.memory import StoreMemory
from zcluster.storage.disk import DiskJob, is_on_disk
from zcluster.storage.spill import SpillFolder
from zcluster.transport.loop import Loop

KIB, MIB = 1 << 10, 1 << 20


class Peer:
    """A client or another node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.socket: zmq.Socket[Any] = node.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(node.port.address)
        self.told: list[tuple[Message, bytes]] = []
        self.decoder = Decoder(DATA_PORT)
        node.loop.add_socket(self.socket, self._receive)
        node.peers.append(self)

    def _receive(self) -> None:
        control, *frames = self.socket.recv_multipart(zmq.NOBLOCK)
        self.told.append((self.decoder.decode(control), b"".join(frames)))

    def say(self, message: Message, *payload: bytes) -> None:
        self.socket.send_multipart([encode(message), *payload])

    def ask(self, message: Message, *payload: bytes) -> Message:
        """Say something; return what is answered."""
        before = len(self.told)
        self.say(message, *payload)
        self.node.until(lambda: len(self.told) > before)
        return self.told[before][0]

    def fetch(self, request: int, *question: Any) -> bytes:
        """Fetch a blob, with credit for all of it."""
        self.say(Fetch(request, *question))
        self.say(More(request, 1 << 40))
        self.node.until(lambda: self._is_complete(request))
        return self.blob(request)

    def _is_complete(self, request: int) -> bool:
        slices = [message for message, _ in self.told if isinstance(message, Slice)]
        mine = [message.total for message in slices if message.request == request]
        return bool(mine) and len(self.blob(request)) == mine[0]

    def blob(self, request: int) -> bytes:
        """Return the bytes that came, each slice where the last one ended."""
        data = b""
        for message, payload in self.told:
            if isinstance(message, Slice) and message.request == request:
                assert message.offset == len(data)
                data += payload
        return data

    def close(self) -> None:
        self.node.loop.remove(self.socket)
        self.socket.close(0)


class Node:
    """A data port with a core and a store of a few MiB."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.context: zmq.Context[Any] = zmq.Context()
        self.memory = StoreMemory(8 * MIB, lambda slab, fd: None)
        self.core = NodeCore("n", [], self.memory)
        self.port = DataPort(
            self.loop, self.context, f"ipc://{folder}/data", self.core, self.memory
        )
        self.peers: list[Peer] = []
        self.jobs: list[DiskJob] = []
        self.loop.on_idle.append(self._flush)

    def _flush(self) -> None:
        effects = self.core.flush(self.loop.now())
        for given in effects.room:
            self.port.on_room(given)
        self.jobs += effects.to_disk
        for number in effects.opened:
            self.port.opened(number)

    def keep(self, task: int, value: object) -> bytes:
        """Keep a value as the result of a task; return its blob."""
        planned = plan(value)
        place = self.memory.allocate(planned.size)
        assert place is not None
        planned.write_into(self.memory.writable(place, planned.size))
        self.core.results[task] = Result(planned.size, place=place)
        return planned.tobytes()

    def drop(self, task: int) -> None:
        place = self.core.results.pop(task).place
        assert place is not None
        self.memory.free(place)

    def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            self.loop.call_later(0.005, lambda: None)
            self.loop.run_once()

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.port.close()
        self.context.destroy(0)
        self.memory.close()
        self.loop.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.close()


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let slices be of 64 KiB, and senders be ahead by 128 KiB."""
    monkeypatch.setattr(dataport, "SLICE", 64 * KIB)
    monkeypatch.setattr(dataport, "WINDOW", 128 * KIB)


def a_result(size: int) -> np.ndarray:
    return np.arange(size, dtype="u1")


# -------------------------------------------------------------------------------- fetching


def test_a_result_comes_as_its_blob(node: Node) -> None:
    peer = Peer(node)
    node.core.results[1] = Result(3, b"abc")
    large = node.keep(2, np.arange(100_000))
    assert peer.fetch(7, 1) == b"abc"
    assert peer.fetch(8, 2) == large
    assert node.port.sent_bytes == 3 + len(large)


def test_small_results_come_together_those_that_are_at_hand(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataport, "SMALL_BYTES", 10)
    peer = Peer(node)
    node.core.results[1] = Result(3, b"abc")
    node.keep(2, np.arange(100_000))
    node.core.results[3] = Result(0, worker=0)
    node.core.results[4] = Result(0, b"")
    node.core.results[5] = Result(7, b"defghij")
    node.core.results[6] = Result(1, b"k")
    answer = peer.ask(FetchSmall(7, [1, 2, 3, 4, 5, 6, 99]))
    assert answer == Small(7, [3, -1, -1, 0, 7, -1, -1])
    assert peer.told[-1][1] == b"abcdefghij"
    assert node.port.sent_bytes == 10


@pytest.mark.usefixtures("small_slices")
def test_nothing_is_sent_without_credit_and_no_more_than_it_allows(node: Node) -> None:
    blob = node.keep(1, a_result(MIB))
    peer = Peer(node)
    peer.say(Fetch(7, 1))
    assert peer.ask(Fetch(8, 99)) == Missing(8, "the result is not here")  # it was heard
    assert peer.told == [(Missing(8, "the result is not here"), b"")]
    peer.say(More(7, 100 * KIB))
    node.until(lambda: len(peer.blob(7)) == 100 * KIB)
    peer.say(More(7, 50 * KIB))  # less than it had already
    peer.say(More(7, 200 * KIB))
    node.until(lambda: len(peer.blob(7)) == 200 * KIB)
    sizes = [len(payload) for _, payload in peer.told[1:]]
    assert sizes == [64 * KIB, 36 * KIB, 64 * KIB, 36 * KIB]
    assert {message.total for message, _ in peer.told if isinstance(message, Slice)} == {len(blob)}
    peer.say(More(7, 1 << 62))
    node.until(lambda: peer.blob(7) == blob)
    peer.say(More(7, 1 << 62))  # it is over
    assert isinstance(peer.ask(Fetch(8, 99)), Missing)


def test_only_the_part_that_is_asked_for_is_sent(node: Node) -> None:
    peer = Peer(node)
    node.keep(1, np.arange(500_000))
    node.keep(2, Parts(["a", np.arange(100_000), "c"]))
    assert load(peer.fetch(1, 1, 3, [10, 20, 5])).tolist() == [10, 15]
    assert load(peer.fetch(2, 2, 1, [2])) == "c"
    assert node.port.sent_bytes < KIB


def test_what_cannot_be_had_is_said_with_the_reason(node: Node) -> None:
    peer = Peer(node)
    node.core.results[1] = Result(3, plan({}).tobytes())
    node.core.results[2] = Result(0, worker=0)
    node.keep(3, Parts(["a"]))
    assert peer.ask(Fetch(1, 9)) == Missing(1, "the result is not here", 0)
    assert peer.ask(Fetch(2, 1, 1, [0])) == Missing(2, "it cannot be cut", 1)
    heap = peer.ask(Fetch(3, 2))
    assert isinstance(heap, Missing)
    assert (heap.request, heap.kind) == (3, 2)
    assert "cannot be pickled" in heap.reason
    for request, selection in enumerate(([1], [-1], [], [0, 0]), 10):
        # It is to come whole: the worker that takes it says what is wrong.
        answer = peer.ask(Fetch(request, 3, 1, selection))
        assert answer == Missing(request, "it cannot be cut", 1)


@pytest.mark.usefixtures("small_slices")
def test_what_is_being_sent_is_not_overwritten(node: Node) -> None:
    """A result may be freed while it is on its way; its bytes stay until the last is read."""
    blob = node.keep(1, a_result(MIB))
    peer = Peer(node)
    peer.say(Fetch(7, 1))
    peer.say(More(7, 10))
    node.until(lambda: len(peer.blob(7)) == 10)
    node.drop(1)
    assert node.memory.used >= MIB
    peer.say(More(7, 1 << 40))
    node.until(lambda: peer.blob(7) == blob)
    node.until(lambda: node.memory.used == 0)


def test_a_request_that_is_made_again_takes_the_place_of_the_first(node: Node) -> None:
    node.keep(1, a_result(MIB))
    second = node.keep(2, a_result(MIB // 2))
    peer = Peer(node)
    peer.say(Fetch(7, 1))
    assert peer.fetch(7, 2) == second
    node.drop(1)
    node.drop(2)
    node.until(lambda: node.memory.used == 0)


# --------------------------------------------------------------------------------- putting


@pytest.mark.usefixtures("small_slices")
def test_a_blob_is_put_in_slices_under_credit(node: Node) -> None:
    blob = plan(a_result(300 * KIB)).tobytes()
    peer = Peer(node)
    assert peer.ask(Put(1, 5, len(blob))) == More(1, 128 * KIB)
    first = 100 * KIB
    assert peer.ask(Slice(1, 0, len(blob)), blob[:first]) == More(1, first + 128 * KIB)
    assert 5 not in node.core.results
    assert peer.ask(Slice(1, first, len(blob)), blob[first:]) == Stored(1)
    result = node.core.results[5]
    assert bytes(node.memory.view(result)) == blob
    assert node.port.received_bytes == len(blob)
    assert peer.fetch(2, 5) == blob


@pytest.mark.parametrize("total", [9 * MIB, 0, -1, 2**63])
def test_a_blob_for_which_there_is_no_room_is_refused(node: Node, total: int) -> None:
    answer = Peer(node).ask(Put(1, 5, total))
    assert isinstance(answer, Missing)
    reason = "the store of node n has no room for" if total > 0 else "there is no blob of"
    assert answer.reason.startswith(f"{reason} {total} bytes")
    assert node.memory.used == 0


@pytest.mark.parametrize(("offset", "size"), [(1, 10), (-1, 10), (0, 101), (2**63, 1)], ids=str)
def test_slices_out_of_order_end_the_put_and_give_the_room_back(
    node: Node, offset: int, size: int
) -> None:
    peer = Peer(node)
    peer.ask(Put(1, 5, 100))
    assert peer.ask(Slice(1, offset, 100), bytes(size)) == Missing(1, "slices out of order")
    assert node.memory.used == 0
    peer.say(Slice(1, 0, 100), bytes(100))  # it is over
    assert peer.ask(Put(2, 6, 10)) == More(2, dataport.WINDOW)
    assert node.core.results == {}


def test_a_put_that_is_begun_again_takes_the_place_of_the_first(node: Node) -> None:
    peer = Peer(node)
    peer.ask(Put(1, 5, MIB))
    peer.ask(Slice(1, 0, MIB), bytes(1000))
    peer.ask(Put(1, 5, 3))
    assert peer.ask(Slice(1, 0, 3), b"abc") == Stored(1)
    node.drop(5)
    assert node.memory.used == 0


def test_peers_do_not_see_each_other_s_requests(node: Node) -> None:
    one, two = Peer(node), Peer(node)
    blobs = {1: b"a" * 100, 2: b"b" * 100}
    one.ask(Put(1, 5, 100))
    two.ask(Put(1, 6, 100))
    two.say(More(1, 50))  # it has no fetch of this number
    assert one.ask(Slice(1, 0, 100), blobs[1]) == Stored(1)
    assert two.ask(Slice(1, 0, 100), blobs[2]) == Stored(1)
    assert one.fetch(2, 6) == blobs[2]
    assert two.fetch(2, 5) == blobs[1]


def test_what_a_peer_left_unfinished_goes_with_it(node: Node) -> None:
    """ZeroMQ tells of an end a little before it forgets the peer."""
    node.keep(1, a_result(MIB))
    peer = Peer(node)
    peer.ask(Put(1, 5, 2 * MIB))
    peer.ask(Slice(1, 0, 2 * MIB), bytes(MIB))
    peer.say(Fetch(2, 1))
    peer.say(More(2, 10))
    node.until(lambda: len(peer.blob(2)) == 10)
    node.drop(1)
    assert node.memory.used > 3 * MIB
    peer.close()
    node.until(lambda: node.memory.used == 0, 2.0)


# --------------------------------------------------------------------------------- mapping


def test_a_process_of_this_host_is_told_where_a_result_is(node: Node) -> None:
    blob = node.keep(1, a_result(MIB))
    node.core.results[2] = Result(3, b"abc")
    peer = Peer(node)
    mapped = peer.ask(Map(1, 1, b"client"))
    assert isinstance(mapped, Mapped)
    place = node.core.results[1].place
    assert (mapped.slab, mapped.offset, mapped.length, mapped.size) == (*(place or ()), len(blob))
    node.drop(1)
    assert node.memory.used >= MIB  # the client looks at it
    peer.say(Return([(mapped.slab, mapped.offset, mapped.length)]))
    node.until(lambda: node.memory.used == 0)
    assert peer.ask(Map(2, 2, b"client")) == Missing(2, "not in the store")
    assert peer.ask(Map(3, 9, b"client")) == Missing(3, "not in the store")


def test_a_mapping_stays_when_the_connection_goes_and_ends_with_the_process(node: Node) -> None:
    """The process may still look at it; the door says when it has ended."""
    node.keep(1, a_result(MIB))
    peer = Peer(node)
    peer.ask(Map(1, 1, b"client"))
    peer.close()
    node.drop(1)
    other = Peer(node)
    assert isinstance(other.ask(Fetch(1, 9)), Missing)
    assert node.memory.used >= MIB
    node.port.drop_holder(b"client")
    assert node.memory.used == 0


@pytest.mark.parametrize("ranges", [[(0, 0, 4096)], [(99, 2**62, -1)], [(-1, -1, -1)], []])
def test_leases_are_returned_by_their_holder_only(
    node: Node, ranges: list[tuple[int, int, int]]
) -> None:
    blob = node.keep(1, a_result(MIB))
    node.core.results[2] = node.core.results[1]
    holder, stranger = Peer(node), Peer(node)
    mapped = holder.ask(Map(1, 1, b"client"))
    assert isinstance(mapped, Mapped)
    node.drop(1)
    stranger.say(Return([(mapped.slab, mapped.offset, mapped.length), *ranges]))
    holder.say(Return(ranges))
    assert isinstance(stranger.ask(Fetch(1, 9)), Missing)
    assert isinstance(holder.ask(Fetch(1, 9)), Missing)
    assert node.memory.used >= len(blob)


# -------------------------------------------------------------------------------- strangers


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xc1" * 10],
        [encode(Stop())],
        [encode(Mapped(1, 0, 0, 0, 0))],
        [encode(Fetch(1, 1))[:-1], b"payload"],
    ],
)
def test_nonsense_is_counted_and_the_port_goes_on(node: Node, frames: list[bytes]) -> None:
    peer = Peer(node)
    peer.socket.send_multipart(frames)
    node.until(lambda: node.port.refused == 1)
    node.core.results[1] = Result(3, b"abc")
    assert peer.fetch(7, 1) == b"abc"
    assert Peer(node).fetch(7, 1) == b"abc"


# ------------------------------------------------------------------------ results on disk


@pytest.fixture
def disk(node: Node, tmp_path: Path) -> SpillFolder:
    """Have the node's results go to disk."""
    folder = SpillFolder(tmp_path, slab_size=16 * MIB)
    node.memory._disk = folder  # its close closes this, too
    return folder


def spill(node: Node, disk: SpillFolder, task: int) -> None:
    """Move a result to disk, as the helper does."""
    result = node.core.results[task]
    node.core.spilling.recent[task] = result
    assert node.core.spilling.spill(1)
    (job,) = node.core.flush(node.loop.now()).to_disk
    disk.claim(job.place)
    assert job.source is not None
    sums = disk.write(job.place, node.memory.writable(job.source, job.size))
    node.core.on_disk_done(job.ticket, sums, "", False, node.loop.now())
    assert result.place is not None
    assert is_on_disk(result.place)


def check_jobs(node: Node, disk: SpillFolder) -> None:
    """Do what is to be checked."""
    for job in node.jobs:
        try:
            disk.check(job.place, job.size, list(job.sums))
            error = ""
        except OSError as found:
            error = str(found)
        node.core.on_disk_done(job.ticket, list(job.sums), error, False, node.loop.now())
    node.jobs.clear()


def test_what_is_on_disk_is_checked_and_sent(node: Node, disk: SpillFolder) -> None:
    blob = node.keep(5, np.arange(100_000))
    spill(node, disk, 5)
    peer = Peer(node)
    peer.say(Fetch(1, 5))
    peer.say(More(1, len(blob)))
    node.until(lambda: node.jobs)
    assert peer.blob(1) == b""
    check_jobs(node, disk)
    node.until(lambda: len(peer.blob(1)) == len(blob))
    assert peer.blob(1) == blob
    assert peer.fetch(2, 5) == blob  # checked a moment ago


def test_what_is_on_disk_is_checked_and_mapped(node: Node, disk: SpillFolder) -> None:
    blob = node.keep(5, np.arange(100_000))
    spill(node, disk, 5)
    peer = Peer(node)
    peer.say(Map(1, 5, b"me"))
    node.until(lambda: node.jobs)
    assert peer.told == []
    check_jobs(node, disk)
    node.until(lambda: peer.told)
    ((mapped, _),) = peer.told
    place = node.core.results[5].place
    assert place is not None
    assert mapped == Mapped(1, *place, len(blob))
    assert node.memory.is_leased(place)


def test_what_does_not_compare_is_missing(node: Node, disk: SpillFolder) -> None:
    node.keep(5, np.arange(100_000))
    spill(node, disk, 5)
    place = node.core.results[5].place
    assert place is not None
    os.pwrite(disk.slabs.descriptor(place.slab), b"x", place.offset + 1000)
    peer = Peer(node)
    peer.say(Fetch(1, 5))
    node.until(lambda: node.jobs)
    check_jobs(node, disk)
    node.until(lambda: peer.told)
    assert peer.told[0][0] == Missing(1, "the result is not here")
    assert disk.used == 0


def test_who_waits_for_a_check_hears_that_we_are_here(
    node: Node, disk: SpillFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataport, "_KEEP", 0.01)
    blob = node.keep(5, np.arange(100_000))
    spill(node, disk, 5)
    whole, part, mapping = Peer(node), Peer(node), Peer(node)
    whole.say(Fetch(1, 5))
    whole.say(More(1, len(blob)))
    part.say(Fetch(1, 5, 1, [0]))
    mapping.say(Map(1, 5, b"me"))
    node.until(lambda: whole.told and part.told and mapping.told)
    assert whole.told[0] == (Slice(1, 0, len(blob)), b"")
    for peer in (part, mapping):
        assert peer.told[0][0] == Missing(1, "it is being read from disk", 1)
    check_jobs(node, disk)
    node.until(lambda: len(whole.blob(1)) == len(blob))


def test_a_put_waits_for_room(node: Node) -> None:
    blob = node.keep(5, np.zeros(7 * MIB, "u1"))
    peer = Peer(node)
    node.until(lambda: node.core.now)  # it knows what time it is
    peer.say(Put(1, 6, 2 * MIB))
    node.until(lambda: node.core.room.waiting)
    assert peer.told == []
    node.drop(5)
    node.until(lambda: peer.told)
    assert isinstance(peer.told[0][0], More)
    assert len(blob) > 7 * MIB


def test_a_put_that_waits_for_room_and_is_said_again_gets_it_once(node: Node) -> None:
    node.keep(5, np.zeros(7 * MIB, "u1"))
    peer = Peer(node)
    node.until(lambda: node.core.now)
    peer.say(Put(1, 6, 2 * MIB))
    node.until(lambda: node.core.room.waiting)
    for _ in range(3):
        peer.say(Put(1, 6, 2 * MIB))
    peer.ask(Put(2, 7, 0))  # the port has heard all of them
    assert len(node.core.room.waiting) == 1
    node.drop(5)
    node.until(lambda: len(peer.told) > 1)
    assert [type(message) for message, *_ in peer.told] == [Missing, More]
    peer.ask(Put(1, 6, 0))  # that was enough: the room goes back
    assert not node.core.room.waiting
    assert not node.port._receiving
