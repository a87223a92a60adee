"""Sockets limit what strangers may send; addresses are checked before anything is bound."""

from __future__ import annotations

import socket as plain
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from zcluster.errors import InvalidAddress
from zcluster.protocol.frames import FRAME_LIMIT
from zcluster.transport.sockets import (
    IPC_PATH_LIMIT,
    check_address,
    has_input,
    monitor,
    socket,
    take_events,
)

LIMITS = (
    zmq.MAXMSGSIZE,
    zmq.LINGER,
    zmq.SNDHWM,
    zmq.RCVHWM,
    zmq.HEARTBEAT_IVL,
    zmq.HEARTBEAT_TIMEOUT,
    zmq.HANDSHAKE_IVL,
    zmq.RECONNECT_IVL_MAX,
)


class Sockets:
    """Makes sockets of one context, and keeps them until the end of the test."""

    def __init__(self) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.kept: list[zmq.Socket[Any]] = []

    def make(self, kind: int, heartbeat: bool = True) -> zmq.Socket[Any]:
        self.kept.append(socket(self.context, kind, heartbeat))
        return self.kept[-1]

    def watch(self, watched: zmq.Socket[Any]) -> zmq.Socket[Any]:
        self.kept.append(monitor(watched))
        return self.kept[-1]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    made = Sockets()
    yield made
    made.context.destroy(0)


def wait_events(source: zmq.Socket[Any]) -> tuple[bool, int]:
    """Return the first events that matter: an end, or a stranger refused."""
    for _ in range(50):
        assert source.poll(5000), "nothing happened"
        ended, refused = take_events(source)
        if ended or refused:
            return ended, refused
    raise AssertionError("no event that matters among the first fifty")


# -------------------------------------------------------------------------------- options


@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.DEALER])
def test_a_socket_is_bounded_and_notices_dead_peers(sockets: Sockets, kind: int) -> None:
    made = sockets.make(kind)
    option: dict[int, int] = {number: int(made.get(number)) for number in LIMITS}
    assert option[zmq.MAXMSGSIZE] == FRAME_LIMIT
    assert option[zmq.LINGER] == 0  # closing never waits
    assert 0 < option[zmq.SNDHWM] <= 100_000
    assert 0 < option[zmq.RCVHWM] <= 100_000
    assert 0 < option[zmq.HEARTBEAT_IVL] < option[zmq.HEARTBEAT_TIMEOUT] <= 2000
    assert 0 < option[zmq.HANDSHAKE_IVL] <= 2000
    assert 0 < option[zmq.RECONNECT_IVL_MAX] <= 200


def test_heartbeats_can_be_left_out(sockets: Sockets) -> None:
    assert sockets.make(zmq.ROUTER, heartbeat=False).get(zmq.HEARTBEAT_IVL) == 0


def test_a_router_says_whom_it_cannot_reach(sockets: Sockets, tmp_path: Path) -> None:
    made = sockets.make(zmq.ROUTER)
    made.bind(f"ipc://{tmp_path}/s")
    with pytest.raises(zmq.ZMQError, match="Host unreachable"):
        made.send_multipart([b"nobody", b"x"], zmq.NOBLOCK)


def test_a_frame_over_the_limit_cuts_the_connection(sockets: Sockets, tmp_path: Path) -> None:
    server, client = sockets.make(zmq.ROUTER), sockets.make(zmq.DEALER)
    server.set(zmq.MAXMSGSIZE, 1000)  # a small stand-in for the real limit
    server.bind(f"ipc://{tmp_path}/s")
    watched = sockets.watch(client)
    client.connect(f"ipc://{tmp_path}/s")
    client.send(bytes(1000))
    assert server.poll(5000)
    server.recv_multipart()
    client.send(bytes(1001))
    assert wait_events(watched)[0]
    assert not has_input(server)


# ------------------------------------------------------------------------- input and events


def test_input_is_asked_for_without_taking_it(sockets: Sockets, tmp_path: Path) -> None:
    server, client = sockets.make(zmq.ROUTER), sockets.make(zmq.DEALER)
    server.bind(f"ipc://{tmp_path}/s")
    assert not has_input(server)
    client.connect(f"ipc://{tmp_path}/s")
    client.send(b"a")
    assert server.poll(5000)
    assert has_input(server)
    assert has_input(server)
    assert server.recv_multipart()[1:] == [b"a"]
    assert not has_input(server)


def test_a_connection_that_ends_is_an_event_and_one_that_opens_is_not(
    sockets: Sockets, tmp_path: Path
) -> None:
    server, client = sockets.make(zmq.ROUTER), sockets.make(zmq.DEALER)
    server.bind(f"ipc://{tmp_path}/s")
    watched = sockets.watch(server)
    assert take_events(watched) == (False, 0)
    client.connect(f"ipc://{tmp_path}/s")
    client.send(b"a")
    assert server.poll(5000)
    assert take_events(watched) == (False, 0)
    client.close()
    assert wait_events(watched) == (True, 0)
    assert take_events(watched) == (False, 0)


def test_a_connection_that_is_refused_is_an_end(sockets: Sockets, tmp_path: Path) -> None:
    client = sockets.make(zmq.DEALER)
    watched = sockets.watch(client)
    client.connect(f"ipc://{tmp_path}/nobody")
    assert wait_events(watched) == (True, 0)


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n" + bytes(64), b"\xff" + b"\xaa" * 63], ids=["http", "noise"]
)
def test_a_stranger_who_does_not_speak_zeromq_is_refused(
    sockets: Sockets, tmp_path: Path, said: bytes
) -> None:
    server = sockets.make(zmq.ROUTER)
    server.bind(f"ipc://{tmp_path}/s")
    watched = sockets.watch(server)
    with plain.socket(plain.AF_UNIX) as stranger:
        stranger.connect(f"{tmp_path}/s")
        stranger.sendall(said)
        wait_events(watched)
    assert not has_input(server)


# ------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "address",
    [
        "ipc:///tmp/zc-1/scheduler",
        "ipc://" + "x" * IPC_PATH_LIMIT,
        "inproc://here",
    ],
)
def test_addresses_of_this_machine_need_no_leave(address: str) -> None:
    assert check_address(address, insecure=False) == address
    assert check_address(address, insecure=True) == address


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:8786",
        "tcp://*:*",
        "tcp://host-1.example.org:0",
        "tcp://[::1]:65535",
        "tcp://[fe80::1%eth0]:1",
        "tcp://eth0:*",
    ],
)
def test_tcp_needs_keys_or_the_word_insecure(address: str) -> None:
    assert check_address(address, insecure=True) == address
    assert check_address(address, insecure=False, is_keyed=True) == address
    with pytest.raises(InvalidAddress, match=r"scheduler file .*insecure=True \(--insecure\)"):
        check_address(address, insecure=False)


@pytest.mark.parametrize("path", ["", "x" * (IPC_PATH_LIMIT + 1), "é" * (IPC_PATH_LIMIT // 2 + 1)])
def test_the_path_of_an_ipc_address_fits_the_kernel_s_limit(path: str) -> None:
    size = len(path.encode())
    with pytest.raises(InvalidAddress, match=f"a path of {size} bytes, expected 1 to 107; set TMP"):
        check_address(f"ipc://{path}", insecure=True)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host:8786",
        "tcp://host",
        "tcp://host:",
        "tcp://host:65536",
        "tcp://host:-1",
        "tcp://:8786",
        "tcp://host:8786/path",
        "tcp://host:8786\n",
        "tcp://a b:1",
        "tcp://a;tcp://b:1",
        "udp://host:1",
        "inproc://",
        "pgm://x:1",
    ],
)
def test_what_is_no_address_is_refused_with_what_one_looks_like(address: str) -> None:
    with pytest.raises(InvalidAddress, match="does not parse, expected ipc:///path or tcp://host"):
        check_address(address, insecure=True)
