"""Connections that no descriptor is left for are sent away, and the listener stays as it was."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from zcluster.transport.shedding import Shedder
from zcluster.transport.sockets import monitor, take_events
from zcluster.transport.sockets import socket as make


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"{tmp_path}/s")
        made.listen()
        yield made


def connect(listener: socket.socket) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(5)
    made.connect(listener.getsockname())
    return made


def test_who_waits_is_sent_away(listener: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    shedder = Shedder("somebody")
    shedder.send_away()  # it does not know of a listener yet
    shedder.watch(listener.fileno())
    waiting = [connect(listener) for _ in range(3)]
    shedder.send_away()
    assert shedder.shed == 3
    assert [each.recv(1) for each in waiting] == [b""] * 3
    assert "somebody has no file descriptors left" in caplog.text
    shedder.send_away()  # nobody waits: it does not block
    assert len(caplog.records) == 1
    shedder.close()
    shedder.close()
    with connect(listener) as late:
        shedder.send_away()
        listener.setblocking(True)
        listener.accept()[0].close()
        assert late.recv(1) == b""
    for each in waiting:
        each.close()


def fill_this_process() -> None:
    """Have strangers come where no descriptor is left, and see to whom that does harm."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    server, client = make(context, zmq.ROUTER), make(context, zmq.DEALER)
    watched = monitor(server)
    shedder = Shedder("a test")
    server.bind("tcp://127.0.0.1:*")
    address = server.getsockopt_string(zmq.LAST_ENDPOINT)
    client.connect(address)
    client.send(b"before")
    assert server.poll(5000)
    server.recv_multipart()
    take_events(watched, shedder)
    strangers = [socket.socket() for _ in range(5)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd"))) + 1
    fillers: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        while True:
            try:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        for stranger in strangers:
            stranger.connect(("127.0.0.1", int(address.rpartition(":")[2])))
        deadline = time.monotonic() + 10
        # Not all five: ZeroMQ may take one in with the descriptor that sends another away.
        while not shedder.shed:
            assert time.monotonic() < deadline, "nobody was sent away"
            if watched.poll(1000):
                take_events(watched, shedder)
        client.send(b"during")
        assert server.poll(5000)
        assert server.recv_multipart()[1] == b"during"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)
        for stranger in strangers:
            stranger.close()
        shedder.close()
    late = make(context, zmq.DEALER)
    late.connect(address)
    late.send(b"after")
    assert server.poll(5000)
    assert server.recv_multipart()[1] == b"after"
    watched.close(0)
    context.destroy(0)


def test_a_full_process_neither_spins_nor_harms_who_is_connected() -> None:
    """ZeroMQ would use up a processor on one connection that it cannot accept.

    In a process of its own: here others may close a descriptor in the middle of it.
    """
    run = subprocess.run(
        [sys.executable, "-P", __file__], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr


if __name__ == "__main__":
    fill_this_process()
