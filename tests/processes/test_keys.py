"""A cluster on TCP lets in who has its keys, and nobody else, and shows them to nobody."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import zmq

from zcluster.client.client import Client, get_client
from zcluster.errors import InvalidAddress, StartError
from zcluster.protocol.frames import encode
from zcluster.protocol.messages import PROTOCOL, Hello
from zcluster.protocol.session import unsequenced
from zcluster.transport.keys import Keys, make_keys
from zcluster.transport.scheduler_file import (
    SchedulerFile,
    read_scheduler_file,
    write_scheduler_file,
)
from zcluster.transport.sockets import socket

if TYPE_CHECKING:
    from tests.processes.conftest import Commands

pytestmark = pytest.mark.processes


@pytest.fixture
def on_tcp(commands: Commands) -> Commands:
    """Start a cluster on TCP with keys: a scheduler and two nodes."""
    commands.start_scheduler("--port=0")
    for name in "ab":
        commands.start_node(name)
    return commands


@pytest.fixture
def client(on_tcp: Commands) -> Iterator[Client]:
    with Client(scheduler_file=on_tcp.file, set_as_default=False) as client:
        client.wait_for_workers(2, 20)
        yield client


def ask_for_more(value: int) -> int:
    """Connect from inside of a task, as a client of the same cluster."""
    return int(get_client().submit(abs, value).result(20))


def test_all_that_a_cluster_does_goes_over_keyed_tcp(on_tcp: Commands, client: Client) -> None:
    assert on_tcp.address.startswith("tcp://")
    nodes = client.overview()["nodes"]
    assert all(worker["data"].startswith("tcp://") for worker in workers_of(client))
    assert len(nodes) == 2
    assert client.gather(client.map(abs, range(-9, 0))) == list(range(9, 0, -1))
    # From node to node, from a client to a node and back, and for clients that tasks make.
    made = client.submit(np.arange, 300_000, workers="a", pure=False)
    assert client.submit(np.sum, made, workers="b").result(20) == 299_999 * 150_000
    held = client.scatter(np.arange(300_000), workers=["b"])
    assert client.submit(np.sum, held, workers="a").result(20) == 299_999 * 150_000
    assert (made.result() == held.result()).all()
    assert client.submit(ask_for_more, -7).result(20) == 7


def workers_of(client: Client) -> list[dict[str, Any]]:
    return list(client.scheduler_info()["workers"].values())


def changed(record: SchedulerFile, **keys: str) -> SchedulerFile:
    return replace(record, keys={**record.keys, **keys})


OTHER = make_keys()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"client": OTHER.client.public, "client-secret": OTHER.client.secret}, "does not know"),
        ({"scheduler": OTHER.scheduler.public}, "of an earlier scheduler"),
    ],
    ids=["another key", "another scheduler"],
)
def test_a_client_with_a_wrong_key_is_told_soon_and_by_the_file_s_name(
    on_tcp: Commands, tmp_path: Path, change: dict[str, str], says: str
) -> None:
    file = tmp_path / "wrong.json"
    write_scheduler_file(file, changed(read_scheduler_file(on_tcp.file), **change))
    began = time.monotonic()
    # In a process of its own: this one may know the right keys of the address.
    code = f"from zcluster.distributed import Client; Client(scheduler_file={str(file)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    took = time.monotonic() - began
    last = run.stderr.splitlines()[-1]
    assert "AuthenticationFailed" in last
    assert says in last
    assert str(file) in last
    print(f"told after {took:.2f} s")
    assert took < 20


def test_a_node_with_a_wrong_key_ends_and_says_so(on_tcp: Commands, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    change = {"node": OTHER.node.public, "node-secret": OTHER.node.secret}
    write_scheduler_file(file, changed(read_scheduler_file(on_tcp.file), **change))
    command = [sys.executable, "-m", "zcluster.cli.worker", f"--scheduler-file={file}"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    assert f"does not know the key from {file}" in run.stderr.splitlines()[-1]


def test_without_keys_there_is_no_way_in(on_tcp: Commands, client: Client) -> None:
    # By a name under which this process knows no keys.
    address = f"tcp://127.0.0.1:{on_tcp.address.rpartition(':')[2]}"
    with pytest.raises(InvalidAddress, match="give its scheduler file instead"):
        Client(address)
    # Its connections are cut; it knows why as soon as it has read that in time, once.
    with pytest.raises(StartError, match=r"lets nobody in without a key|perhaps it wants a key"):
        Client(address, insecure=True, timeout=5)
    assert client.submit(abs, -1).result(20) == 1


@pytest.mark.parametrize("place", ["scheduler", "data"])
def test_strangers_are_not_even_heard(on_tcp: Commands, client: Client, place: str) -> None:
    address = on_tcp.address if place == "scheduler" else workers_of(client)[0]["data"]
    keys = Keys.from_texts(read_scheduler_file(on_tcp.file).keys)
    wrong = Keys(keys.scheduler, OTHER.node, OTHER.client)
    context = zmq.Context[Any]()
    for has_key in (False, True):
        made = socket(context, zmq.DEALER)
        if has_key:
            wrong.enter(made, "client", "scheduler" if place == "scheduler" else "node")
        made.connect(address)
        made.send_multipart(unsequenced(encode(hello("client"))))
        assert not made.poll(300)
        made.close(0)
    context.term()
    assert client.submit(abs, -1).result(20) == 1


def hello(role: str) -> Hello:
    return Hello(role, PROTOCOL, "0", "3", b"i" * 16)


def test_a_node_s_key_does_not_make_a_client(on_tcp: Commands) -> None:
    keys = Keys.from_texts(read_scheduler_file(on_tcp.file).keys)
    context = zmq.Context[Any]()
    made = socket(context, zmq.DEALER)
    keys.enter(made, "node", "scheduler")
    made.connect(on_tcp.address)
    made.send_multipart(unsequenced(encode(hello("client"))))
    assert made.poll(10_000)
    assert b"this client came with the key of a node" in made.recv_multipart()[0]
    made.close(0)
    context.term()


def test_secrets_are_in_no_command_line_environment_or_log(
    on_tcp: Commands, client: Client, until: Callable[..., None]
) -> None:
    assert client.submit(ask_for_more, -7).result(20) == 7
    texts = read_scheduler_file(on_tcp.file).keys
    secrets = [text for name, text in texts.items() if name.endswith("-secret")]
    assert len(secrets) == 2
    me = psutil.Process()
    shown = [on_tcp.errors()]
    for process in me.children(recursive=True):
        shown += [*process.cmdline(), json.dumps(process.environ())]
    assert len(shown) > 8
    assert not any(secret in text for secret in secrets for text in shown)


def test_a_file_says_all_but_the_scheduler_s_secret(on_tcp: Commands) -> None:
    record = read_scheduler_file(on_tcp.file)
    assert not record.insecure
    assert sorted(record.keys) == ["client", "client-secret", "node", "node-secret", "scheduler"]
    assert not any(secret in repr(record) for secret in asdict(record)["keys"].values())
    assert on_tcp.file.stat().st_mode & 0o777 == 0o600
