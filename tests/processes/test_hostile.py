"""Strangers at every socket a cluster listens on: refused, counted, and otherwise without effect.

A local cluster listens in four places: the scheduler's ROUTER, the nanny's ROUTER for its
workers, the nanny's data port, and the door that hands out descriptors. Only processes of the
same user get that far (the folder's mode sees to it); what they say is still not to be trusted.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import struct
import subprocess
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest
import zmq

from zcluster.client.client import Client
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS, CALL_SINGLE
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    DATA_PORT,
    NODE_TO_SCHEDULER,
    NODE_TO_WORKER,
    PROTOCOL,
    SCHEDULER_TO_CLIENT,
    SCHEDULER_TO_NODE,
    WORKER_TO_NODE,
    Goodbye,
    Hello,
    Layer,
    LayerPart,
    Message,
    NodeInfo,
    Slot,
    Submit,
    WorkerInfo,
)
from zcluster.protocol.objects import load, plan

if TYPE_CHECKING:
    from tests.processes.conftest import Commands

pytestmark = pytest.mark.processes

Until = Callable[..., None]
MIB = 1 << 20


class Target:
    """A cluster that is attacked, and a client that goes on beside it."""

    def __init__(self, commands: Commands, client: Client) -> None:
        self.commands, self.client = commands, client
        (worker,) = client.scheduler_info()["workers"].values()
        nanny = Path(worker["data"].removeprefix("ipc://")).parent
        self.paths = {
            "scheduler": Path(commands.address.removeprefix("ipc://")),
            **{name: nanny / name for name in ("workers", "data", "door")},
        }
        self._memory = self.memory()

    def processes(self) -> list[subprocess.Popen[str]]:
        assert self.commands.scheduler is not None
        return [self.commands.scheduler, *self.commands.nodes.values()]

    def check_alive(self, after: object = "") -> None:
        for process in self.processes():
            assert process.poll() is None, f"after {after}: {self.commands.errors()}"

    def memory(self) -> int:
        return sum(psutil.Process(process.pid).memory_info().rss for process in self.processes())

    def refused(self) -> int:
        return int(self.client.statistics()["refused"])

    def connect(self, place: str) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(5)
        made.connect(str(self.paths[place]))
        return made

    def check(self) -> None:
        """See that nobody was harmed: the same processes, a client that is served, no growth."""
        client = self.client
        assert client.gather(client.map(abs, range(-50, 0), pure=False)) == list(range(50, 0, -1))
        large = client.submit(bytes, 300_000, pure=False)
        assert client.submit(len, large).result(10) == 300_000
        assert len(large.result(10)) == 300_000
        self.check_alive()
        grown = self.memory() - self._memory
        assert grown < 64 * MIB, f"scheduler and nanny have grown by {grown / MIB:.0f} MiB"


@contextlib.contextmanager
def attacked(commands: Commands) -> Iterator[Target]:
    """Start what strangers will find."""
    commands.start_scheduler()
    commands.start_node("a")
    with Client(scheduler_file=commands.file) as client:
        client.wait_for_workers(1, 20)
        client.submit(len, client.submit(bytes, 300_000)).result(10)  # all is imported and mapped
        yield Target(commands, client)


@pytest.fixture
def target(commands: Commands) -> Iterator[Target]:
    """A cluster for one test: it hears a nanny speak of strangers, or leaves things behind."""
    with attacked(commands) as target:
        yield target


@pytest.fixture(scope="module")
def lasting(commands_of_module: Commands) -> Iterator[Target]:
    """A cluster that has to stand what several tests do to it."""
    with attacked(commands_of_module) as target:
        yield target


# -------------------------------------------------------------------------- below ZeroMQ

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)


def ready_command() -> bytes:
    """Return the NULL mechanism's READY of a DEALER."""
    body = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
    return b"\x04" + bytes([len(body)]) + body


HUGE_MESSAGE = b"\x02" + struct.pack(">Q", 1 << 30)  # a long frame of 1 GiB
HUGE_COMMAND = b"\x06" + struct.pack(">Q", 1 << 30)

STREAMS = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8\r\n\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "zeros": bytes(100_000),
    "ones": b"\xff" * 100_000,
    "random": random.Random(1).randbytes(100_000),
    "half a greeting": GREETING[:20],
    "huge command before the handshake": GREETING + HUGE_COMMAND + bytes(MIB),
    "huge message before the handshake": GREETING + HUGE_MESSAGE + bytes(MIB),
    "huge message": GREETING + ready_command() + HUGE_MESSAGE + bytes(4 * MIB),
    "random after the handshake": GREETING + ready_command() + random.Random(2).randbytes(100_000),
}


def test_bytes_that_are_not_for_the_scheduler_are_refused_and_counted(
    lasting: Target, until: Until
) -> None:
    before = lasting.refused()
    send_streams(lasting, "scheduler")
    lasting.check()
    until(lambda: lasting.refused() >= before + 4, 20, "a count of what was refused")


@pytest.mark.parametrize(
    "place",
    ["data", *(pytest.param(place, marks=pytest.mark.slow) for place in ("workers", "door"))],
)
def test_bytes_that_are_not_for_a_nanny_are_refused_and_counted(
    target: Target, place: str, until: Until
) -> None:
    send_streams(target, place)
    target.check()
    wait_refused(target, until, place)


def send_streams(target: Target, place: str) -> None:
    for name, data in STREAMS.items():
        with target.connect(place) as stranger:
            # A peer that is cut off while it still talks may see the end in several ways.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                stranger.sendall(data)
            if "huge" in name and place != "door":
                assert_cut_off(stranger, name)


def wait_refused(target: Target, until: Until, place: str) -> None:
    """Wait for the nanny's sentence about strangers, which comes now and then only."""
    pattern = r"refused so far: (\d+) at the workers.*, (\d+) at the data.*, (\d+) at the door"
    which = ("workers", "data", "door").index(place)

    def is_told() -> bool:
        found = re.findall(pattern, target.commands.errors())
        return any(int(counts[which]) for counts in found)

    until(is_told, 20, "a sentence about what was refused")
    lines = target.commands.errors().splitlines()
    assert len(lines) < 5, f"strangers make the nanny talk: {lines}"


def assert_cut_off(stranger: socket.socket, name: str) -> None:
    """Read to the end, which must come although we keep the connection open."""
    try:
        while stranger.recv(65536):
            pass
    except ConnectionResetError:
        return
    except TimeoutError:
        pytest.fail(f"{name}: the connection was not closed")


def test_a_thousand_connections_that_declare_much_take_no_memory(lasting: Target) -> None:
    """What a frame declares is not reserved before it comes."""
    declared = b"\x02" + struct.pack(">Q", 60 << 20)  # just allowed
    with contextlib.ExitStack() as open_ones:
        for place in ("scheduler", "workers", "data"):
            for _ in range(100):
                stranger = open_ones.enter_context(lasting.connect(place))
                stranger.sendall(GREETING + ready_command() + declared + bytes(1000))
        lasting.check()
    lasting.check()


def test_plain_tcp_stands_the_same(commands: Commands) -> None:
    commands.start_scheduler("--port=0", "--insecure")
    commands.start_node("a", "--insecure")
    host, _, port = commands.address.removeprefix("tcp://").rpartition(":")
    with Client(scheduler_file=commands.file, insecure=True) as client:
        client.wait_for_workers(1, 20)
        (info,) = client.scheduler_info()["workers"].values()
        data_host, _, data_port = info["data"].removeprefix("tcp://").rpartition(":")
        for where in ((host, port), (data_host, data_port)):
            for data in STREAMS.values():
                with (
                    socket.create_connection((where[0].strip("[]"), int(where[1])), 5) as stranger,
                    contextlib.suppress(BrokenPipeError, ConnectionResetError),
                ):
                    stranger.sendall(data)
        assert client.gather(client.map(abs, [-1, -2])) == [1, 2]
        assert client.submit(len, client.submit(bytes, 300_000)).result(10) == 300_000


# --------------------------------------------------------------------------- above ZeroMQ


class Stranger:
    """A DEALER that may say anything."""

    def __init__(self, path: Path) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[Any] = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.setsockopt(zmq.RCVTIMEO, 5000)
        self._socket.connect(f"ipc://{path}")
        self._said = 0

    def send(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)

    def greet(self, role: str, node: NodeInfo | None = None) -> None:
        """Say a proper hello, and hear the welcome."""
        hello = Hello(role, PROTOCOL, "1", "3", os.urandom(16), node=node, name="stranger")
        self.send(struct.pack("<QQ", 0, 0) + msgspec.msgpack.encode(hello))
        assert b"welcome" in self._socket.recv_multipart()[0]

    def say(self, message: Message | bytes, *frames: bytes) -> None:
        """Say something in order, as a member does."""
        control = message if isinstance(message, bytes) else msgspec.msgpack.encode(message)
        self._said += 1
        self.send(struct.pack("<QQ", self._said, 0) + control, *frames)

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()  # waits for what is under way


GARBAGE = (
    (),
    (b"",),
    (b"", b""),
    (b"x",),
    (bytes(16),),
    (bytes(16), b""),
    (bytes(16), b"\xc1"),
    (bytes(16), b"not a message"),
    (bytes(16), b"\xdd\xff\xff\xff\xff"),  # an array of 4 billion items
    (bytes(16), b"\x91" * 100_000),  # nested 100,000 deep
    (bytes(16), msgspec.msgpack.encode(["hello"])),
    (bytes(16), msgspec.msgpack.encode(["submit", -1, 2**63, "x"])),
    (b"\xff" * 16, msgspec.msgpack.encode(Goodbye())),
    (bytes(16), msgspec.msgpack.encode(Goodbye()), *[b"x"] * 200),
    (bytes(16), bytes(17 * MIB)),
)


def send_garbage(target: Target, place: str) -> None:
    for frames in GARBAGE:
        with Stranger(target.paths[place]) as stranger:
            if frames:
                stranger.send(*frames)
    target.check()


def test_messages_that_are_none_are_refused_and_counted(lasting: Target, until: Until) -> None:
    expected = lasting.refused() + len(GARBAGE) - 1
    send_garbage(lasting, "scheduler")
    until(lambda: lasting.refused() >= expected, 20, "a count of what was refused")


@pytest.mark.parametrize("place", ["data", pytest.param("workers", marks=pytest.mark.slow)])
def test_messages_that_are_none_are_refused_by_a_nanny(
    target: Target, place: str, until: Until
) -> None:
    send_garbage(target, place)
    wait_refused(target, until, place)


def node_info(name: str) -> NodeInfo:
    worker = WorkerInfo(0, f"{name}-0", 1, 0, 1)
    return NodeInfo(0, name, "elsewhere", 1, "ipc:///nowhere", "", 0, [worker])


@pytest.mark.parametrize("role", ["client", "node"])
def test_a_member_that_talks_nonsense_is_put_out_alone(
    lasting: Target, role: str, until: Until
) -> None:
    before = lasting.refused()
    for frames in GARBAGE[2:]:
        with Stranger(lasting.paths["scheduler"]) as stranger:
            stranger.greet(role, node_info("liar") if role == "node" else None)
            stranger.say(*frames[1:] or (b"",))
    lasting.check()
    # The last frames of the list are no nonsense where a goodbye is meant.
    until(lambda: lasting.refused() >= before + 9, 20, "a count of what was refused")
    until(lambda: list(lasting.client.scheduler_info()["workers"]) == ["a-0"])


def test_a_wrong_version_and_an_unknown_role_are_told_why(lasting: Target) -> None:
    with Stranger(lasting.paths["scheduler"]) as stranger:
        for hello, reason in (
            (Hello("client", (99, 0), "9.9", "3", bytes(16)), b"same version"),
            (Hello("spy", PROTOCOL, "1", "3", bytes(16)), b"role"),
            (Hello("node", PROTOCOL, "1", "3", bytes(16)), b"describe"),
            (Hello("client", PROTOCOL, "1", "3", bytes(16), b"stolen"), b"session is over"),
        ):
            stranger.send(bytes(16) + msgspec.msgpack.encode(hello))
            answer = stranger._socket.recv_multipart()[0]
            assert b"refused" in answer
            assert reason in answer
    lasting.check()


# ------------------------------------------------- well-formed messages that make no sense


class Inventor:
    """Makes messages of the right types with contents that contradict each other."""

    NUMBERS = (0, 1, 2, 3, 7, -1, -2, 1 << 9, 1 << 20, 1 << 40, (1 << 40) + 1, 1 << 62, -(1 << 62))

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def make(self, kind: Any) -> Any:
        chance = self._random
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return self.make(chance.choice(arguments))
        if origin is list:
            return [self.make(arguments[0]) for _ in range(chance.choice((0, 1, 1, 2, 5)))]
        if origin is tuple:
            return tuple(self.make(argument) for argument in arguments)
        if origin is dict:
            return {self.make(arguments[0]): self.make(arguments[1])}
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            hints = typing.get_type_hints(kind)
            return kind(*(self.make(hints[name]) for name in kind.__struct_fields__))
        simple: dict[Any, Callable[[], Any]] = {
            int: lambda: chance.choice(self.NUMBERS),
            float: lambda: chance.choice((0.0, -1.0, 1e300, float("inf"), float("nan"))),
            bool: lambda: chance.random() < 0.5,
            str: lambda: chance.choice(("", "x", "local-0", "statistics", "\0", "é" * 100)),
            bytes: lambda: chance.choice((b"", bytes(16), chance.randbytes(16), bytes(1000))),
            type(None): lambda: None,
            msgspec.Raw: lambda: msgspec.Raw(b"\xc0"),
        }
        return simple[kind]()

    def frames(self) -> list[bytes]:
        lengths = (0, 1, 8, 100, 5000)
        count = self._random.choice((0, 1, 2, 3))
        return [self._random.randbytes(self._random.choice(lengths)) for _ in range(count)]


def spoken_to_scheduler(role: str) -> list[type[Message]]:
    spoken = CLIENT_TO_SCHEDULER if role == "client" else NODE_TO_SCHEDULER
    return [kind for kind in spoken if kind is not Hello]


@pytest.mark.parametrize("role", ["client", "node"])
def test_messages_that_contradict_themselves_do_not_end_the_scheduler(
    target: Target, role: str
) -> None:
    for kind in spoken_to_scheduler(role):
        for seed in range(12):
            inventor = Inventor(seed)
            with Stranger(target.paths["scheduler"]) as stranger:
                stranger.greet(role, node_info("liar") if role == "node" else None)
                message = inventor.make(kind)
                stranger.say(message, *inventor.frames())
        target.check_alive(f"a {kind.__name__} such as {message}")
        assert target.client.submit(abs, -1, pure=False).result(10) == 1, f"after {message}"
    target.check()


def submission() -> tuple[Submit, list[bytes]]:
    """Return a submission that is right: abs(-1), abs(-1), and max of the two."""
    digests = [pack_callable(abs), pack_callable(max)]
    constant = plan(-1).tobytes()
    constants = struct.pack("<3I", 0, len(constant), 2 * len(constant)) + bytes(constant) * 2
    edges = struct.pack("<2I", 0, 1)
    functions = b"".join(data for _, data in digests)
    ends = (len(digests[0][1]), len(functions))
    layers = [
        Layer("abs", [2], 0, 2, CALL_SINGLE, digests[0][0]),
        Layer("max", [], 2, 1, CALL_INPUTS, digests[1][0], slots=[Slot()]),
    ]
    parts = [
        LayerPart(0, 0, 2, 0, offsets=(0, 0, 12), constants=(0, 12, len(constants))),
        LayerPart(1, 2, 1, 2, indices=(1, 0, 8)),
    ]
    spans = [(digests[0][0], (2, 0, ends[0])), (digests[1][0], (2, ends[0], ends[1]))]
    message = Submit(1, 0, 3, layers, parts, [], [(2, 1)], spans, True)
    return message, [constants, edges, functions]


def places_of_numbers(value: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    if isinstance(value, int):
        yield path
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from places_of_numbers(item, (*path, at))


def replaced(value: Any, path: tuple[int, ...], number: int) -> Any:
    if not path:
        return number
    items = list(value)
    items[path[0]] = replaced(value[path[0]], path[1:], number)
    return items


def test_a_submission_with_one_wrong_number_harms_nobody_else(lasting: Target) -> None:
    message, frames = submission()
    right = msgspec.msgpack.decode(msgspec.msgpack.encode(message))
    with Stranger(lasting.paths["scheduler"]) as stranger:
        stranger.greet("client")
        stranger.say(message, *frames)
        while b"resolved" not in (heard := stranger._socket.recv_multipart())[0]:
            pass
        assert load(heard[1]) == 1  # or the rest would show nothing
    for path in places_of_numbers(right):
        wrong = right
        for number in (-1, 1, 2, 5, 1 << 31, 1 << 40, (1 << 63) - 1):
            with Stranger(lasting.paths["scheduler"]) as stranger:
                stranger.greet("client")
                wrong = replaced(right, path, number)
                stranger.say(msgspec.msgpack.encode(wrong), *frames)
        lasting.check_alive(f"one like {wrong}")
        assert lasting.client.submit(abs, -1, pure=False).result(20) == 1, f"after one like {wrong}"
    lasting.check()


@pytest.mark.parametrize("place", ["data", pytest.param("workers", marks=pytest.mark.slow)])
def test_messages_that_contradict_themselves_do_not_end_the_nanny(
    target: Target, place: str
) -> None:
    spoken = DATA_PORT if place == "data" else WORKER_TO_NODE
    for kind in (*spoken, *NODE_TO_WORKER, *SCHEDULER_TO_CLIENT, *SCHEDULER_TO_NODE):
        for seed in range(6):
            inventor = Inventor(seed)
            with Stranger(target.paths[place]) as stranger:
                for _ in range(3):
                    message = inventor.make(kind)
                    stranger.send(msgspec.msgpack.encode(message), *inventor.frames())
        target.check_alive(f"a {kind.__name__} such as {message}")
        assert target.client.submit(abs, -1, pure=False).result(10) == 1, f"after {message}"
    target.check()
