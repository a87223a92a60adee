"""Meeting and parting: what opens, keeps and ends a session.

Part of the contract in `zcluster.protocol.messages`; see there for the words.
"""

from __future__ import annotations

import msgspec

from zcluster.protocol.records import Message, NodeInfo, WorkerInfo

__all__ = [
    "Acknowledge",
    "Goodbye",
    "Heartbeat",
    "Hello",
    "Nodes",
    "Reconnect",
    "Refused",
    "Welcome",
    "Workers",
]


class Hello(Message, frozen=True, tag="hello"):
    """The first message on a connection; nothing else is accepted before it.

    ``incarnation`` (16 random bytes) is the process start. ``token`` is empty,
    or the session token of an earlier welcome, to go on with that session;
    ``seen`` is then the last sequence number received. Nodes bring ``node``. ``host`` and
    ``pid`` say which process a client lives in, so that one in a worker ends with it.
    ``connection`` counts the peer's connections: of two hellos the one with the greater number
    was said last, whichever arrives last.
    """

    role: str
    protocol: tuple[int, int]
    package: str
    python: str
    incarnation: bytes
    token: bytes = b""
    seen: int = 0
    node: NodeInfo | None = None
    name: str = ""
    host: str = ""
    pid: int = 0
    connection: int = 0


class Welcome(Message, frozen=True, tag="welcome"):
    """The answer to a hello. ``index`` is the client's or node's number.

    ``resumed`` says that the session goes on: the peer resends what came after
    ``seen``. Otherwise both start at sequence number one.
    """

    index: int
    token: bytes
    resumed: bool
    seen: int
    scheduler: str
    package: str
    settings: dict[str, float]
    nodes: list[NodeInfo] = msgspec.field(default_factory=list)


class Refused(Message, frozen=True, tag="refused"):
    """The peer may not join or go on, and why. It must not try again as it is."""

    reason: str


class Reconnect(Message, frozen=True, tag="reconnect"):
    """Say hello on a new connection; the one this comes over has no session here.

    The answer to what is no hello, or one older than the session's connection. Otherwise a peer
    whose connection was given up at one end only would speak to nobody, for ever.
    """


class Acknowledge(Message, frozen=True, tag="ack"):
    """Carries only the head's acknowledgement."""


class Goodbye(Message, frozen=True, tag="goodbye"):
    """A clean end: the peer leaves now and will not come back."""

    reason: str = ""


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """Sent by every peer each half second: the loop's lag, and for nodes load.

    ``memory`` is what each worker has for itself, in bytes: what it shares with others, such
    as the store, is not counted. ``made`` is what results that each of them made take of the
    store; both together are what a worker is charged. ``store_used`` and ``spilled`` are bytes
    of results in the node's memory and on its disk. ``silent`` says for how many seconds each
    worker's loop has not answered: a task may hold the interpreter's lock for long. ``sent`` is
    the bytes of results that the node's data port has sent since it started.
    """

    lag: float
    store_used: int = 0
    memory: list[int] = msgspec.field(default_factory=list)
    made: list[int] = msgspec.field(default_factory=list)
    spilled: int = 0
    silent: list[float] = msgspec.field(default_factory=list)
    sent: int = 0


class Nodes(Message, frozen=True, tag="nodes"):
    """Nodes that joined or changed, and the indices of those that left."""

    joined: list[NodeInfo]
    left: list[int]


class Workers(Message, frozen=True, tag="workers"):
    """The workers of this node as they are now."""

    workers: list[WorkerInfo]
