"""A pretend cluster that speaks the real wire, for the tests of the client.

One thread, one loop: a scheduler behind a real `Hub` that makes the calls itself as
soon as their inputs are there, and a node that is a data port with a real store. It
does what a cluster does as the client can see it, and keeps what it was told.
"""

from __future__ import annotations

import os
import socket as sockets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from zcluster.client.client import Client
from zcluster.errors import TaskError
from zcluster.graph.columns import read_part
from zcluster.protocol.calls import make_call
from zcluster.protocol.frames import Decoder, encode, span
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    DATA_PORT,
    Answer,
    Ask,
    Cancel,
    Cancelled,
    ErrorInfo,
    Failed,
    Fetch,
    FetchSmall,
    Hello,
    Layer,
    Map,
    Mapped,
    Message,
    Missing,
    More,
    NodeInfo,
    Nodes,
    Put,
    Release,
    Resolved,
    Return,
    Scattered,
    Slice,
    Small,
    Stored,
    Submit,
    Unreachable,
    Welcome,
    WorkerInfo,
)
from zcluster.protocol.objects import load, plan
from zcluster.servers.scheduler import SchedulerServer
from zcluster.servers.settings import SchedulerSettings
from zcluster.storage.arena import Arena, Range
from zcluster.storage.door import Door, DoorConnection
from zcluster.storage.slabs import Slabs
from zcluster.transport.hub import Hub
from zcluster.transport.loop import Loop
from zcluster.transport.sockets import socket
from zcluster.types import first_task

INLINE = 16 << 10


class PretendNode:
    """A data port with a store of shared memory and, if it is to be this host's, a door."""

    def __init__(self, loop: Loop, context: Any, folder: Path, index: int, is_local: bool) -> None:
        self.arena = Arena(1 << 30)
        self.slabs = Slabs()
        self.door = Door(str(folder / f"door{index}"))
        self.ranges: dict[int, tuple[Range, int]] = {}
        self.is_full = False
        self.heard: list[Message] = []
        self._sending: dict[tuple[bytes, int], tuple[int, int]] = {}
        self._puts: dict[tuple[bytes, int], tuple[int, bytearray]] = {}
        self._connections: dict[int, DoorConnection] = {}
        self._sent: dict[bytes, set[int]] = {}
        self._loop = loop
        self._decoder = Decoder(DATA_PORT)
        self._socket = socket(context, zmq.ROUTER)
        address = f"ipc://{folder}/data{index}"
        self._socket.bind(address)
        worker = WorkerInfo(0, f"worker{index}", 2, 1 << 30, os.getpid())
        host = sockets.gethostname() if is_local else "elsewhere"
        self.info = NodeInfo(
            index, f"node{index}", host, os.getpid(), address, self.door.path, 1 << 30, [worker]
        )
        loop.add_socket(self._socket, self._receive)
        self._door_number = self.door.fileno()
        loop.add_fd(self._door_number, self._accept)

    def store(self, task: int, blob: bytes) -> None:
        place = self.arena.allocate(len(blob))
        assert place is not None
        self.slabs.follow(self.arena)
        self.slabs.view(place)[: len(blob)] = blob
        self.ranges[task] = place, len(blob)

    def blob(self, task: int) -> bytes:
        place, size = self.ranges[task]
        return bytes(self.slabs.view(place)[:size])

    def close_door(self) -> bool:
        self._loop.remove(self._door_number)
        self.door.close()
        return True

    def close(self) -> None:
        self._loop.remove(self._socket)
        self._socket.close()
        self.close_door()
        self.slabs.close()

    def _accept(self) -> None:
        for connection in self.door.accept_ready():
            self._connections[connection.fileno()] = connection
            self._loop.add_fd(connection.fileno(), partial(self._ready, connection))

    def _ready(self, connection: DoorConnection) -> None:
        if not connection.ready():
            self._loop.remove(connection.fileno())

    def _receive(self) -> None:
        peer, control, *frames = self._socket.recv_multipart()
        message = self._decoder.decode(control)
        self.heard.append(message)
        handler = getattr(self, f"_on_{type(message).__name__.lower()}")
        handler(peer, message, frames)

    def _send(self, peer: bytes, message: Message, *frames: bytes) -> None:
        try:
            self._socket.send_multipart([peer, encode(message), *frames])
        except zmq.ZMQError:
            return  # whoever asked has gone

    def _on_hello(self, peer: bytes, message: Hello, frames: list[bytes]) -> None:
        assert message.role == "client"

    def _on_fetch(self, peer: bytes, message: Fetch, frames: list[bytes]) -> None:
        if message.task not in self.ranges:
            self._send(peer, Missing(message.request))
        else:
            self._sending[peer, message.request] = message.task, 0

    def _on_fetchsmall(self, peer: bytes, message: FetchSmall, frames: list[bytes]) -> None:
        blobs = [self.blob(task) if task in self.ranges else None for task in message.tasks]
        lengths = [-1 if blob is None else len(blob) for blob in blobs]
        self._send(peer, Small(message.request, lengths), b"".join(filter(None, blobs)))

    def _on_more(self, peer: bytes, message: More, frames: list[bytes]) -> None:
        task, sent = self._sending.get((peer, message.request), (-1, 0))
        if task < 0:
            return
        blob = self.blob(task)
        while sent < min(len(blob), message.upto):
            piece = blob[sent : min(sent + 100_000, message.upto)]
            self._send(peer, Slice(message.request, sent, len(blob)), piece)
            sent += len(piece)
        self._sending[peer, message.request] = task, sent

    def _on_put(self, peer: bytes, message: Put, frames: list[bytes]) -> None:
        if self.is_full:
            self._send(peer, Missing(message.request, f"node {self.info.index} is full"))
            return
        self._puts[peer, message.request] = message.task, bytearray()
        self._send(peer, More(message.request, 1 << 20))

    def _on_slice(self, peer: bytes, message: Slice, frames: list[bytes]) -> None:
        task, target = self._puts[peer, message.request]
        assert message.offset == len(target)
        target += frames[0]
        if len(target) == message.total:
            self.store(task, bytes(target))
            self._send(peer, Stored(message.request))
        else:
            self._send(peer, More(message.request, len(target) + (1 << 20)))

    def _on_map(self, peer: bytes, message: Map, frames: list[bytes]) -> None:
        if message.task not in self.ranges:
            self._send(peer, Missing(message.request))
            return
        place, size = self.ranges[message.task]
        sent = self._sent.setdefault(message.holder, set())
        if place.slab not in sent:
            sent.add(place.slab)
            while self.door.connection(message.holder) is None:
                self._accept()
                for connection in self._connections.values():
                    connection.ready()
            self.door.send_descriptor(message.holder, place.slab, self.slabs.descriptor(place.slab))
        self.arena.lease(place, message.holder)
        self._send(peer, Mapped(message.request, *place, size))

    def _on_return(self, peer: bytes, message: Return, frames: list[bytes]) -> None:
        return


class PretendScheduler:
    """Makes calls itself, in the order of their numbers, unless told to hold them."""

    def __init__(self, folder: Path, nodes: int = 1, is_local: bool = True) -> None:
        self.heard: list[Message] = []
        self.released: set[int] = set()
        self.is_holding = False
        self.nodes: dict[int, PretendNode] = {}
        self.blobs: dict[int, bytes] = {}
        self.answers: dict[str, Callable[[Ask], Any]] = {"info": self._info}
        self._joined: list[NodeInfo] = []
        self._layers: dict[int, list[Layer]] = {}
        self._imports: dict[int, list[int]] = {}
        self._functions: dict[bytes, bytes] = {}
        self._wanted: set[int] = set()
        self._waiting: list[tuple[int, int, bytes, bytes | None, list[int]]] = []
        self._failed: dict[int, ErrorInfo] = {}
        self._peer = 0
        self.loop = Loop()
        self.context: Any = zmq.Context()
        self.address = f"ipc://{folder}/scheduler"
        self.hub = self._make_hub()
        for index in range(nodes):
            self.nodes[index] = PretendNode(self.loop, self.context, folder, index, is_local)
        self._thread = threading.Thread(target=self.loop.run)
        self._thread.start()

    def _make_hub(self) -> Hub:
        def ignore(*_: Any) -> None:
            return

        return Hub(
            self.loop,
            self.context,
            self.address,
            accepts={"client": CLIENT_TO_SCHEDULER},
            on_hello=self._welcome,
            on_message=self._on_message,
            on_disconnect=ignore,
            on_resume=ignore,
            on_gone=ignore,
        )

    # What tests do, from their own thread.

    def do(self, call: Callable[[], Any]) -> Any:
        """Do something in the cluster's thread and return what it returns."""
        done: list[Any] = []
        event = threading.Event()

        def run() -> None:
            try:
                done.append(call())
            finally:
                event.set()

        self.loop.post(run)
        assert event.wait(10)
        return done[0]

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until something is so, as seen in the cluster's thread."""
        met: list[Any] = []
        event = threading.Event()

        def look() -> None:
            value = condition()
            if value:
                met.append(value)
                event.set()
                self.loop.on_idle.remove(look)
            else:
                self.loop.call_later(0.001, lambda: None)

        self.do(lambda: self.loop.on_idle.append(look))
        assert event.wait(10), "the cluster was never told"
        return met[0]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep the cluster's thread from doing anything."""
        entered, gate = threading.Event(), threading.Event()

        def freeze() -> None:
            entered.set()
            gate.wait()

        self.loop.post(freeze)
        assert entered.wait(10)
        try:
            yield
        finally:
            gate.set()

    def let_go(self) -> None:
        """Hold calls no more."""

        def go() -> None:
            self.is_holding = False
            self._work()

        self.do(go)

    def say(self, message: Message, *frames: bytes) -> None:
        """Say something to the client."""
        if isinstance(message, Nodes):
            self._joined += message.joined
        self.do(lambda: self.hub.send(self._peer, message, frames))

    def told(self, kind: type[Message]) -> list[Any]:
        """Return what the client said of a kind."""
        return [message for message in list(self.heard) if isinstance(message, kind)]

    def close(self, reason: str = "the scheduler was closed") -> None:
        def end() -> None:
            self.hub.close(reason)
            for node in self.nodes.values():
                node.close()
            self.loop.stop()

        if self._thread.is_alive():
            self.loop.post(end)
            self._thread.join(10)
            self.loop.close()
            self.context.term()

    # What the cluster does.

    def _welcome(self, peer: int, hello: Hello) -> Welcome:
        self._peer = peer
        nodes = [node.info for node in self.nodes.values()]
        return Welcome(peer, b"", False, 0, "pretend", "0", {}, nodes)

    def _info(self, _: Ask) -> dict[str, Any]:
        infos = {info.index: info for info in self._joined}
        infos |= {node.info.index: node.info for node in self.nodes.values()}
        nodes = [
            {
                "name": info.name,
                "host": info.host,
                "pid": info.pid,
                "data": info.data,
                "door": info.door,
                "away": False,
                "memory": [],
                "made": [],
                "spilled": 0,
                "workers": [
                    {
                        "number": worker.number,
                        "name": worker.name,
                        "pid": worker.pid,
                        "nthreads": worker.slots,
                        "memory_limit": worker.memory_limit,
                        "resources": worker.resources,
                        "status": worker.status,
                        "reason": worker.reason,
                    }
                    for worker in info.workers
                ],
            }
            for info in infos.values()
        ]
        return {"address": self.address, "id": "pretend", "started": 1.0, "nodes": nodes}

    def _on_message(self, peer: int, message: Any, frames: list[bytes]) -> None:
        self.heard.append(message)
        if isinstance(message, Submit):
            self._submit(first_task(peer), message, frames)
        elif isinstance(message, Scattered):
            for task, node in zip(message.tasks, message.nodes, strict=True):
                self.blobs[task] = self.nodes[node].blob(task)
            self._work()
        elif isinstance(message, Release):
            self.released.update(message.tasks)
            self._wanted.difference_update(message.tasks)
        elif isinstance(message, Cancel):
            gone = set(message.tasks)
            for task, _, _, _, inputs in self._waiting:
                if gone & set(inputs):
                    gone.add(task)
            self._waiting = [item for item in self._waiting if item[0] not in gone]
            self.hub.send(peer, Cancelled(sorted(gone), message.reason))
        elif isinstance(message, Unreachable):
            for task in message.tasks:
                other = next(n for n in self.nodes.values() if n.info.index != message.node)
                other.store(task, self.blobs[task])
                size = len(self.blobs[task])
                self.hub.send(peer, Resolved([task], [-1], [size], [other.info.index]))
        elif isinstance(message, Ask):
            answer = self.answers.get(message.question)
            value = msgspec.msgpack.encode(None if answer is None else answer(message))
            error = "" if answer else f"no {message.question} here"
            self.hub.send(peer, Answer(message.request, msgspec.Raw(value), error))

    def _submit(self, client: int, message: Submit, frames: list[bytes]) -> None:
        base = message.submission
        assert base >> 40 == client >> 40
        layers = self._layers.setdefault(base, [])
        layers += message.layers
        imports = self._imports.setdefault(base, message.imports)
        for digest, place in message.functions:
            self._functions[digest] = bytes(span(frames, place))
        for start, count in message.outputs:
            self._wanted.update(range(base + start, base + start + count))
        end = message.first + message.count
        for part in message.parts:
            layer = layers[part.layer]
            columns = read_part(part, frames, end=end, imports=len(imports), layer=layer)
            for position in range(part.count):
                self._add(base, layer, columns, position, end, imports)
        self._work()

    def _add(
        self, base: int, layer: Layer, columns: Any, position: int, end: int, imports: list[int]
    ) -> None:
        if columns.indptr is None:
            start, stop = position * columns.arity, (position + 1) * columns.arity
        else:
            start, stop = columns.indptr[position], columns.indptr[position + 1]
        indices = list(columns.indices[start:stop])
        inputs = [base + i if i < end else imports[i - end] for i in indices]
        constant = None
        if columns.offsets is not None:
            cut = columns.offsets[position], columns.offsets[position + 1]
            constant = bytes(columns.constants[cut[0] : cut[1]])
        if layer.call != 3 or constant is not None:
            task = base + columns.first + position
            self._waiting.append((task, layer.call, layer.function, constant, inputs))

    def _work(self) -> None:
        if self.is_holding:
            return
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            if all(task in self.blobs or task in self._failed for task in item[4]):
                self._run(*item)
            else:
                self._waiting.append(item)

    def _run(
        self, task: int, form: int, digest: bytes, constant: bytes | None, inputs: list[int]
    ) -> None:
        failed = [self._failed[one] for one in inputs if one in self._failed]
        try:
            if failed:
                raise TaskError("an input failed")
            function = load(self._functions[digest]) if digest in self._functions else None
            values: list[Any] = [load(bytearray(self.blobs[one])) for one in inputs]
            if form == 2:
                values[-1] = self.blobs[inputs[-1]]
            blob = plan(make_call(form, function, constant, values)).tobytes()
        except Exception as error:
            self._fail(task, error, failed)
            return
        self.blobs[task] = blob
        if task not in self._wanted:
            return
        if len(blob) <= INLINE:
            self.hub.send(self._peer, Resolved([task], [len(blob)], [], []), [blob])
        else:
            index = min(self.nodes)
            self.nodes[index].store(task, blob)
            self.hub.send(self._peer, Resolved([task], [-1], [len(blob)], [index]))

    def _fail(self, task: int, error: Exception, failed: list[ErrorInfo]) -> None:
        data = plan(error).tobytes()
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        info = ErrorInfo("task", name, str(error), "text", task, 1, "node0", "worker0")
        place: tuple[int, int, int] | None = (0, 0, len(data))
        if failed:
            info = msgspec.structs.replace(failed[0], kind="input")
            place, data = None, b""
        self._failed[task] = info
        if task in self._wanted:
            info = msgspec.structs.replace(info, exception=place)
            self.hub.send(self._peer, Failed([task], [1], [0], [info]), [data])


@pytest.fixture
def make_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Make a pretend cluster: ``make_cluster(nodes=1, is_local=True)``."""
    made: list[PretendScheduler] = []

    def make(nodes: int = 1, is_local: bool = True) -> PretendScheduler:
        folder = tmp_path_factory.mktemp("c")
        folder.chmod(0o700)
        made.append(PretendScheduler(folder, nodes, is_local))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def cluster(make_cluster: Callable[..., Any]) -> Any:
    """Return a pretend cluster of one node on this host."""
    return make_cluster()


@pytest.fixture
def client(cluster: Any) -> Iterator[Client]:
    """Return a client of the pretend cluster."""
    with Client(cluster.address) as made:
        yield made


# --- a scheduler alone ----------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchedulerServer]:
    """Return a real scheduler in a thread, without any node: for what clients share."""
    folder = tmp_path_factory.mktemp("s")
    folder.chmod(0o700)
    server = SchedulerServer(
        SchedulerSettings(address=f"ipc://{folder}/s", id=os.urandom(8).hex(), log_level="")
    )
    thread = threading.Thread(target=server.run, name="scheduler", daemon=True)
    thread.start()
    yield server
    server.stop()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def two(alone: SchedulerServer) -> Iterator[tuple[Client, Client]]:
    """Return two clients of a scheduler without nodes."""
    with (
        Client(alone.address, set_as_default=False) as first,
        Client(alone.address, set_as_default=False) as second,
    ):
        yield first, second
