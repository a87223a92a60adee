"""A hub in a room, and who talks to it: links, peers who speak by hand, a wire that can be cut."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from zcluster.errors import ProtocolError
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import (
    CLIENT_TO_SCHEDULER,
    NODE_TO_SCHEDULER,
    PROTOCOL,
    SCHEDULER_TO_CLIENT,
    Cancel,
    Cancelled,
    Hello,
    Message,
    Refused,
    Release,
    Welcome,
)
from zcluster.protocol.session import Session, read_head, unsequenced
from zcluster.transport.hub import Hub
from zcluster.transport.link import Link
from zcluster.transport.loop import Loop


def make_hello(
    token: bytes = b"",
    seen: int = 0,
    role: str = "client",
    protocol: tuple[int, int] = PROTOCOL,
    incarnation: bytes = b"i" * 16,
    name: str = "",
    connection: int = 1,
) -> Hello:
    return Hello(
        role,
        protocol,
        "1.2.3",
        "3.12",
        incarnation,
        token,
        seen,
        None,
        name,
        connection=connection,
    )


class Peer:
    """A DEALER that says frame by frame what a test wants, and keeps what it is told."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.socket: zmq.Socket[Any] = room.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(room.hub.address)
        self.session = Session()
        self.told: list[tuple[int, int, Message]] = []
        self.decoder = Decoder(SCHEDULER_TO_CLIENT)
        self.incarnation = b"%016d" % id(self)
        room.loop.add_socket(self.socket, self._receive)
        room.peers.append(self)

    def _receive(self) -> None:
        first, *_ = self.socket.recv_multipart(zmq.NOBLOCK)
        sequence, acknowledged, control = read_head(first)
        self.told.append((sequence, acknowledged, self.decoder.decode(control)))

    def say_raw(self, *frames: Any) -> None:
        self.socket.send_multipart(frames)

    def say(self, message: Message, *payload: bytes) -> None:
        self.say_raw(*self.session.say(encode(message), payload))

    def hello(self, **fields: Any) -> Welcome | Refused:
        """Say hello and return the answer."""
        before = len(self.answers())
        fields.setdefault("incarnation", self.incarnation)
        self.say_raw(*unsequenced(encode(make_hello(**fields))))
        self.room.until(lambda: len(self.answers()) > before)
        return self.answers()[-1]

    def answers(self) -> list[Welcome | Refused]:
        return [message for _, _, message in self.told if isinstance(message, Welcome | Refused)]

    def comes_again(self) -> Peer:
        """Return the same peer with another connection."""
        again = Peer(self.room)
        again.incarnation = self.incarnation
        return again

    def close(self) -> None:
        self.room.loop.remove(self.socket)
        self.socket.close(0)


class Ear:
    """A link and what it was told."""

    def __init__(self, room: Room, address: str, **options: Any) -> None:
        self.told: list[int] = []
        self.payloads: list[list[bytes]] = []
        self.lost: list[str] = []
        self.incarnation = b"%016d" % id(self)
        self.link = Link(
            room.loop,
            room.context,
            address,
            hello=lambda token, seen: make_hello(token, seen, incarnation=self.incarnation),
            accepts=SCHEDULER_TO_CLIENT,
            on_message=self._on_message,
            on_welcome=lambda welcome: None,
            on_lost=self.lost.append,
            **options,
        )

    def _on_message(self, message: Message, frames: list[bytes]) -> None:
        assert isinstance(message, Cancelled)
        self.told += message.tasks
        self.payloads.append(frames)


class Wire:
    """A relay of bytes between a link and the hub, which a test can cut."""

    def __init__(self, room: Room, folder: Path) -> None:
        self.room = room
        self.address = f"ipc://{folder}/wire"
        self._to = room.hub.address.removeprefix("ipc://")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/wire")
        self._listener.listen()
        self._ends: list[socket.socket] = []
        room.loop.add_fd(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        near, far = self._listener.accept()[0], socket.socket(socket.AF_UNIX)
        far.connect(self._to)
        self._ends += [near, far]
        self.room.loop.add_fd(near.fileno(), lambda: self._pass(near, far))
        self.room.loop.add_fd(far.fileno(), lambda: self._pass(far, near))

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            data = source.recv(512)  # little at a time: a cut comes in the middle of something
            target.sendall(data)
        except ConnectionError:  # an end closed with something unread
            data = b""
        if not data:
            self.cut()

    def cut(self) -> None:
        """Cut all connections; new ones may come."""
        for end in self._ends:
            self.room.loop.remove(end.fileno())
            end.close()
        self._ends.clear()

    def close(self) -> None:
        self.cut()
        self.room.loop.remove(self._listener.fileno())
        self._listener.close()


class Room:
    """A hub, what it has told, and those who talk to it."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.context: zmq.Context[Any] = zmq.Context()
        self.folder = folder
        self.hellos: list[tuple[int, Hello]] = []
        self.heard: list[tuple[int, Message, list[bytes]]] = []
        self.events: list[tuple[Any, ...]] = []
        self.peers: list[Peer] = []
        self.ears: list[Ear] = []
        self.hub = self.open_hub()

    def open_hub(self) -> Hub:
        self.hub = Hub(
            self.loop,
            self.context,
            f"ipc://{self.folder}/s",
            accepts={"client": CLIENT_TO_SCHEDULER, "node": NODE_TO_SCHEDULER},
            on_hello=self._on_hello,
            on_message=self._on_message,
            on_disconnect=lambda peer: self.events.append(("away", peer)),
            on_resume=lambda peer: self.events.append(("back", peer)),
            on_gone=lambda peer, reason: self.events.append(("gone", peer, reason)),
        )
        return self.hub

    def _on_hello(self, peer: int, hello: Hello) -> Welcome | Refused:
        self.hellos.append((peer, hello))
        if hello.name == "unwanted":
            return Refused("there is no room")
        if hello.name == "confused":
            raise ProtocolError("a hello that contradicts itself")
        return Welcome(peer, b"", False, 0, "here", "0", {"setting": 1.0})

    def _on_message(self, peer: int, message: Message, frames: list[bytes]) -> None:
        if isinstance(message, Cancel) and message.reason == "impossible":
            raise ProtocolError("nobody can do that")
        self.heard.append((peer, message, frames))

    def peer(self) -> Peer:
        """Return a peer who speaks by hand."""
        return Peer(self)

    def ear(self, address: str | None = None, **options: Any) -> Ear:
        """Return a link that is live."""
        made = Ear(self, address or self.hub.address, **options)
        self.ears.append(made)
        self.until(lambda: made.link.is_live)
        return made

    def releases(self) -> list[int]:
        return [
            task
            for _, message, _ in self.heard
            if type(message) is Release
            for task in message.tasks
        ]

    def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            self.loop.call_later(0.005, lambda: None)
            self.loop.run_once()

    def close(self) -> None:
        for ear in self.ears:
            ear.link.close(goodbye=False)
        for peer in self.peers:
            peer.close()
        self.hub.close("")
        self.context.destroy(0)
        self.loop.close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.close()


@pytest.fixture
def wire(room: Room, tmp_path: Path) -> Iterator[Wire]:
    made = Wire(room, tmp_path)
    yield made
    made.close()
