"""Descriptors through a unix socket: to processes, in order, and the end of a peer."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zcluster.errors import ClusterError, InvalidAddress, InvalidArgument, StartError
from zcluster.storage.arena import Range
from zcluster.storage.door import IDENTITY_SIZE, Door, DoorClient, DoorConnection
from zcluster.storage.slabs import SlabFile, SlabReader, Slabs

ME = b"m" * IDENTITY_SIZE
YOU = b"y" * IDENTITY_SIZE
PAGE = 4096


class Loop:
    """The nanny's poll loop around a door, as far as it has to do with it."""

    def __init__(self, path: str) -> None:
        self.door = Door(path)
        self.connections: dict[int, DoorConnection] = {}

    def run_until(self, condition: Callable[[], object], timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            self.turn(50)

    def turn(self, milliseconds: int) -> None:
        poller = select.poll()
        poller.register(self.door, select.POLLIN)
        for number, connection in self.connections.items():
            out = select.POLLOUT if connection.wants_write else 0
            poller.register(number, select.POLLIN | out)
        for number, _ in poller.poll(milliseconds):
            if number == self.door.fileno():
                for new in self.door.accept_ready():
                    self.connections[new.fileno()] = new
            elif not self.connections[number].ready():
                del self.connections[number]


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(str(tmp_path / "door"))
    yield loop
    loop.door.close()


@pytest.fixture
def slab() -> Iterator[SlabFile]:
    file = SlabFile.create(4 * PAGE)
    yield file
    file.close()


def enter(loop: Loop, identity: bytes = ME) -> DoorClient:
    """A client that the door has let in."""
    client = DoorClient(loop.door.path, identity, timeout=10)
    loop.run_until(lambda: identity in loop.door.arrived)
    return client


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_descriptor_arrives_and_opens_the_same_memory(loop: Loop, slab: SlabFile) -> None:
    """The reason why the door exists."""
    client = enter(loop)
    assert loop.door.send_descriptor(ME, 7, slab.fd)
    fd = client.receive_descriptor(7, timeout=10)
    assert fd != slab.fd
    assert os.fstat(fd).st_ino == os.fstat(slab.fd).st_ino
    assert not os.get_inheritable(fd)
    os.close(fd)
    client.close()


def test_descriptors_are_kept_until_somebody_asks(loop: Loop, slab: SlabFile) -> None:
    """They come in the order of the slabs, and are wanted in the order of the tasks."""
    client = enter(loop)
    other = SlabFile.create(PAGE)
    big = 1 << 40
    assert loop.door.send_descriptor(ME, 0, slab.fd)
    assert loop.door.send_descriptor(ME, big, other.fd)
    second = client.receive_descriptor(big, timeout=10)
    first = client.receive_descriptor(0, timeout=0)
    assert os.fstat(first).st_size == slab.size
    assert os.fstat(second).st_size == other.size
    os.close(first)
    os.close(second)
    other.close()
    client.close()


def test_a_slab_that_does_not_come_is_waited_for_in_vain(loop: Loop) -> None:
    """The wait ends, says what it waited for, and may be tried again."""
    client = enter(loop)
    with pytest.raises(TimeoutError, match="descriptor of slab 3 did not arrive"):
        client.receive_descriptor(3, timeout=0.01)
    read, write = os.pipe()
    assert loop.door.send_descriptor(ME, 3, read)
    os.close(client.receive_descriptor(3, timeout=10))
    os.close(read)
    os.close(write)
    client.close()


def test_the_end_of_a_client_is_noticed(loop: Loop) -> None:
    """Then its leases return."""
    client = enter(loop)
    assert loop.door.connection(ME) is not None
    client.close()
    loop.run_until(lambda: loop.door.closed)
    assert loop.door.closed == [ME]
    assert loop.connections == {}
    assert loop.door.connection(ME) is None
    assert not loop.door.send_descriptor(ME, 0, 0)


def test_an_identity_can_come_in_pieces(loop: Loop) -> None:
    """A stream has no borders."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(loop.door.path)
        peer.sendall(ME[:5])
        loop.run_until(lambda: loop.connections)
        loop.turn(10)
        assert loop.door.arrived == []
        peer.sendall(ME[5:])
        loop.run_until(lambda: loop.door.arrived)
    assert loop.door.arrived == [ME]
    loop.run_until(lambda: loop.door.closed == [ME])


@pytest.mark.parametrize("words", [b"", b"short", ME + b"!"])
def test_a_peer_that_breaks_the_protocol_is_cut_off(loop: Loop, words: bytes) -> None:
    """It never arrived, so nobody is told that it went."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(loop.door.path)
        loop.run_until(lambda: loop.connections)
        peer.sendall(words)
        if len(words) <= IDENTITY_SIZE:
            peer.shutdown(socket.SHUT_WR)
        loop.run_until(lambda: not loop.connections)
        peer.settimeout(10)
        assert peer.recv(1) == b""
    assert loop.door.arrived == loop.door.closed == []


def test_a_peer_that_says_more_later_is_cut_off(loop: Loop) -> None:
    """It was here, so its end is reported."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(loop.door.path)
        peer.sendall(ME)
        loop.run_until(lambda: loop.door.arrived)
        peer.sendall(b"and another thing")
        loop.run_until(lambda: loop.door.closed)
    assert loop.door.closed == [ME]


def test_a_second_peer_of_the_same_identity_is_refused(loop: Loop, slab: SlabFile) -> None:
    """The first one keeps its place and its leases."""
    first = enter(loop)
    second = DoorClient(loop.door.path, ME, timeout=10)
    loop.run_until(lambda: loop.door.refused)
    with pytest.raises(ClusterError, match="gone, or refused this process"):
        second.receive_descriptor(0, timeout=10)
    second.close()
    assert loop.door.closed == []
    assert loop.door.send_descriptor(ME, 0, slab.fd)
    os.close(first.receive_descriptor(0, timeout=10))
    first.close()


def test_another_user_is_refused(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the system's word for who the peer is counts."""
    if sys.platform != "linux":
        pytest.skip("only Linux names the peer's user")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(loop.door.path)
        real = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: real + 1)
        loop.run_until(lambda: loop.door.refused)
        peer.settimeout(10)
        assert peer.recv(1) == b""
    assert loop.connections == {}


def test_a_peer_that_does_not_read_blocks_nobody(loop: Loop, slab: SlabFile) -> None:
    """What its buffer does not hold waits, also when the slab is closed meanwhile, in order."""
    client = enter(loop)
    connection = loop.door.connection(ME)
    assert connection is not None
    count = 0
    while not connection.wants_write:
        assert loop.door.send_descriptor(ME, count, slab.fd)
        count += 1
    assert loop.door.send_descriptor(ME, count, slab.fd)
    size = slab.size
    slab.close()
    thread = threading.Thread(target=loop.run_until, args=(lambda: not connection.wants_write,))
    thread.start()
    for number in range(count + 1):
        fd = client.receive_descriptor(number, timeout=10)
        assert os.fstat(fd).st_size == size
        os.close(fd)
    thread.join()
    client.close()


@pytest.mark.parametrize("end", ["peer", "door"])
def test_what_waits_for_a_dead_peer_is_closed(loop: Loop, slab: SlabFile, end: str) -> None:
    """No descriptor leaks on either side, and the end of a peer is reported once."""
    client = enter(loop)
    connection = loop.door.connection(ME)
    assert connection is not None
    before = open_descriptors()
    number = 0
    while not connection.wants_write:
        loop.door.send_descriptor(ME, number, slab.fd)
        number += 1
    assert open_descriptors() == before + 1
    if end == "peer":
        client.close()
        loop.run_until(lambda: loop.door.closed)
        assert loop.door.closed == [ME]
        assert open_descriptors() == before - 2  # both ends of the connection
    else:
        loop.door.close()
        client.close()
        assert open_descriptors() == before - 3  # and the listening socket


def test_sending_to_a_peer_that_is_going_says_so(loop: Loop, slab: SlabFile) -> None:
    """The end itself is still reported by the loop, not by the send."""
    enter(loop).close()
    assert not loop.door.send_descriptor(ME, 0, slab.fd)
    assert loop.door.closed == []
    assert len(loop.connections) == 1
    loop.run_until(lambda: loop.door.closed == [ME])


def test_the_end_of_the_nanny_is_an_error_for_the_client(loop: Loop, slab: SlabFile) -> None:
    """What arrived before is still given out."""
    client = enter(loop)
    loop.door.send_descriptor(ME, 1, slab.fd)
    loop.door.close()
    os.close(client.receive_descriptor(1, timeout=10))
    with pytest.raises(ClusterError, match="gone"):
        client.receive_descriptor(2, timeout=10)
    client.close()


def test_closing_leaves_no_file_and_no_descriptor(tmp_path: Path, slab: SlabFile) -> None:
    """Twice is once, and a folder swept by somebody else is no error."""
    before = open_descriptors()
    loop = Loop(str(tmp_path / "door"))
    client = enter(loop)
    loop.door.send_descriptor(ME, 0, slab.fd)
    loop.door.send_descriptor(ME, 1, slab.fd)
    os.close(client.receive_descriptor(1, timeout=10))
    loop.door.close()
    loop.door.close()
    client.close()
    assert open_descriptors() == before
    assert list(tmp_path.iterdir()) == []
    swept = Door(str(tmp_path / "door"))
    (tmp_path / "door").unlink()
    swept.close()


def test_a_message_without_its_descriptor_is_an_error(tmp_path: Path) -> None:
    """As it happens when the process has too many files open: never a wrong number."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "door"))
        listener.listen()
        client = DoorClient(str(tmp_path / "door"), ME, timeout=10)
        peer, _ = listener.accept()
        with peer:
            peer.sendall(bytes(3))
            peer.sendall(bytes(5))
            with pytest.raises(ClusterError, match="carried 0 descriptors"):
                client.receive_descriptor(0, timeout=10)
        client.close()


def test_a_nanny_that_refuses_is_an_end_not_a_crash(tmp_path: Path) -> None:
    """A connection that is closed with our identity unread comes back as a reset."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "door"))
        listener.listen()
        client = DoorClient(str(tmp_path / "door"), ME, timeout=10)
        listener.accept()[0].close()
        with pytest.raises(ClusterError, match="gone, or refused this process"):
            client.receive_descriptor(0, timeout=10)
        client.close()


def test_too_many_open_files_are_named(loop: Loop, slab: SlabFile) -> None:
    """The descriptor is lost then; a number must never be made up."""
    client = enter(loop)
    loop.door.send_descriptor(ME, 0, slab.fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Polling and receiving need no new number; taking over the descriptor does.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(ClusterError, match="too many files open"):
            client.receive_descriptor(0, timeout=10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    loop.door.send_descriptor(ME, 0, slab.fd)
    os.close(client.receive_descriptor(0, timeout=10))
    client.close()


def test_a_slab_sent_twice_is_an_error(loop: Loop, slab: SlabFile) -> None:
    """Nothing leaks, and the first one stays."""
    client = enter(loop)
    before = open_descriptors()
    for number in (4, 4):
        loop.door.send_descriptor(ME, number, slab.fd)
    with pytest.raises(ClusterError, match=r"slab 4 .* came twice"):
        client.receive_descriptor(9, timeout=10)
    assert open_descriptors() == before + 1
    os.close(client.receive_descriptor(4, timeout=0))
    client.close()


def test_a_client_needs_a_door(tmp_path: Path) -> None:
    """Nobody there is a failed start, said with the path."""
    with pytest.raises(StartError, match="cannot reach the node's door at"):
        DoorClient(str(tmp_path / "door"), ME, timeout=1)


def test_a_client_does_not_wait_for_ever_at_a_crowded_door(tmp_path: Path) -> None:
    """A full backlog is answered at once by the system, and tried again until the deadline."""
    path = str(tmp_path / "door")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        with pytest.raises(StartError, match=r"within 0\.05 s"):
            DoorClient(path, ME, timeout=0.05)


def test_an_identity_has_sixteen_bytes(tmp_path: Path) -> None:
    """Anything else would be waited for until the end of time."""
    with pytest.raises(InvalidArgument, match="identity has 3 bytes"):
        DoorClient(str(tmp_path / "door"), b"abc", timeout=1)


def test_paths_that_cannot_work_are_refused(tmp_path: Path) -> None:
    """Each with its own reason."""
    with pytest.raises(InvalidAddress, match="at most"):
        Door(str(tmp_path / ("x" * 120)))
    with pytest.raises(InvalidAddress, match="no folder"):
        Door(str(tmp_path / "missing" / "door"))
    (tmp_path / "door").write_text("")
    with pytest.raises(StartError, match="cannot listen at"):
        Door(str(tmp_path / "door"))
    tmp_path.chmod(0o750)
    with pytest.raises(InvalidAddress, match="mode 0750"):
        Door(str(tmp_path / "other"))


CHILD = """
import sys
from zcluster.storage.arena import Range
from zcluster.storage.door import DoorClient
from zcluster.storage.slabs import SlabReader
client = DoorClient(sys.argv[1], bytes.fromhex(sys.argv[2]), timeout=20)
reader = SlabReader()
reader.add(5, client.receive_descriptor(5, timeout=20))
seen = reader.map_private(Range(5, 4096, 4096), lambda range_: None)
seen[:5] = bytes(seen[:5]).upper()
reader.map_shared(Range(5, 8192, 4096))[:5] = seen[:5]
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.processes
def test_another_process_reads_and_writes_and_its_death_is_noticed(loop: Loop) -> None:
    """The whole way: descriptor, private look, shared write, SIGKILL, leases may return."""
    slabs = Slabs()
    slabs.add(5, 4 * PAGE)
    slabs.view(Range(5, PAGE, PAGE))[:5] = b"hello"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, loop.door.path, YOU.hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        loop.run_until(lambda: loop.door.arrived == [YOU])
        assert loop.door.send_descriptor(YOU, 5, slabs.descriptor(5))
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        assert bytes(slabs.view(Range(5, 2 * PAGE, PAGE))[:5]) == b"HELLO"
        assert bytes(slabs.view(Range(5, PAGE, PAGE))[:5]) == b"hello"
        assert loop.door.closed == []
        child.send_signal(signal.SIGKILL)
        loop.run_until(lambda: loop.door.closed == [YOU])
    finally:
        child.kill()
        child.communicate()
        slabs.close()


def test_a_reader_fed_by_the_door_maps_what_it_is_told(loop: Loop) -> None:
    """The two classes fit together: ask for a slab only when it is not known yet."""
    slabs, reader = Slabs(), SlabReader()
    slabs.add(0, PAGE)
    client = enter(loop)
    loop.door.send_descriptor(ME, 0, slabs.descriptor(0))
    for text in (b"one", b"two"):
        slabs.view(Range(0, 0, PAGE))[:3] = text
        if 0 not in reader:
            reader.add(0, client.receive_descriptor(0, timeout=10))
        assert bytes(reader.map_private(Range(0, 0, PAGE), lambda _: None)[:3]) == text
    reader.close()
    client.close()
    slabs.close()
