"""A cluster's keys, and what a socket is told of them (CurveZMQ).

Each role has a key pair: the scheduler, the nodes (for what they serve and what they ask of
others), the clients. Whoever connects must know the public key of the role that listens, and
have the secret key of its own role, else not one message of it gets past the socket. The
secret key of the scheduler never leaves its process; the others travel in the scheduler file,
which only its owner can read.

A socket that has a key but no `zcluster.transport.gate.Gate` beside it lets *every* key in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zcluster.errors import InvalidArgument, StartError

if TYPE_CHECKING:
    import zmq

__all__ = ["KeyPair", "Keys", "keys_of", "make_keys", "remember"]

_ROLES = ("scheduler", "node", "client")
#: A key in the form for texts (https://rfc.zeromq.org/spec/32/): so many of these characters.
_LENGTH = 40
_ALPHABET = frozenset(
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
)
#: What the questions of sockets with keys are about; one without is never asked about.
_DOMAIN = b"zcluster"


@dataclass(frozen=True)
class KeyPair:
    """A public key, and its secret key where it is known."""

    public: str
    secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class Keys:
    """The keys of a cluster, as one of its members has them.

    Attributes
    ----------
    scheduler, node, client : KeyPair
        Of each role.
    source : str
        Where they were found, for people.
    """

    scheduler: KeyPair
    node: KeyPair
    client: KeyPair
    source: str = ""

    def pair(self, role: str) -> KeyPair:
        """Return the keys of a role."""
        found: KeyPair = getattr(self, role)
        return found

    def to_texts(self) -> dict[str, str]:
        """Return what others than the scheduler may know, for a private file or message."""
        return {
            "scheduler": self.scheduler.public,
            "node": self.node.public,
            "node-secret": self.node.secret,
            "client": self.client.public,
            "client-secret": self.client.secret,
        }

    @classmethod
    def from_texts(cls, texts: Mapping[str, str], source: str = "") -> Keys:
        """Return the keys of which `to_texts` made texts.

        Raises
        ------
        InvalidArgument
            If they are not keys; the message does not show them.
        """
        for name in ("scheduler", "node", "node-secret", "client", "client-secret"):
            text = texts.get(name)
            if not isinstance(text, str) or len(text) != _LENGTH or not _ALPHABET.issuperset(text):
                raise InvalidArgument(
                    f"{source or 'the keys'}: the key {name!r} is missing or not one, expected "
                    f"{_LENGTH} characters; let zcluster-scheduler write a new file"
                )
        return cls(
            KeyPair(texts["scheduler"]),
            KeyPair(texts["node"], texts["node-secret"]),
            KeyPair(texts["client"], texts["client-secret"]),
            source,
        )

    # ------------------------------------------------------------------- sockets

    def serve(self, socket: zmq.Socket[Any], role: str) -> None:
        """Have a socket let in only who has a key; before it is bound."""
        socket.zap_domain = _DOMAIN
        socket.curve_server = True
        self._say(socket, role)

    def enter(self, socket: zmq.Socket[Any], role: str, server: str) -> None:
        """Have a socket say who it is to one that serves; before it connects."""
        socket.curve_serverkey = self.pair(server).public.encode()
        self._say(socket, role)

    def _say(self, socket: zmq.Socket[Any], role: str) -> None:
        pair = self.pair(role)
        socket.curve_publickey = pair.public.encode()
        socket.curve_secretkey = pair.secret.encode()


def make_keys() -> Keys:
    """Make the keys of a new cluster.

    Raises
    ------
    StartError
        If ZeroMQ was built without encryption.

    Examples
    --------
    >>> keys = make_keys()
    >>> again = Keys.from_texts(keys.to_texts())
    >>> again.node == keys.node, again.scheduler.secret
    (True, '')
    """
    import zmq  # not at the top: a scheduler file can be read, and --help said, without it

    if not zmq.has("curve"):
        raise StartError(
            "the ZeroMQ library here was built without encryption (CURVE), expected one with it; "
            "install pyzmq from a wheel, or accept plain TCP with --insecure"
        )
    pairs = []
    for _ in _ROLES:
        public, secret = zmq.curve_keypair()
        pairs.append(KeyPair(public.decode(), secret.decode()))
    return Keys(pairs[0], pairs[1], pairs[2])


#: By scheduler address: what this process was told.
_known: dict[str, Keys] = {}


def remember(address: str, keys: Keys) -> None:
    """Know the keys of the cluster whose scheduler is at an address, in this process."""
    _known[address] = keys


def keys_of(address: str) -> Keys | None:
    """Return the keys of the cluster whose scheduler is at an address, if they are known here."""
    return _known.get(address)
