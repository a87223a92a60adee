"""The connecting end of a conversation, as a pure state machine.

The states::

    connecting ──welcome──▶ live ──disconnect, gap──▶ connecting (new connection)
        │                     │
        └──refused, or nobody there for too long──▶ over

A connection that broke is never reused: ZeroMQ would reconnect by itself and
drop what was queued, silently. A new connection is opened, says hello with the
session token and the last number heard, and both ends say again what the other
has missed.

How long this end tries depends on what it sees: a refused connection means that
the process at the other end is gone (``grace``, from the first refusal on); one that
opens and does not answer, or that neither opens nor is refused, means that it is frozen
or cut off (``patience``, from the break on).

What happens comes in with the time, what is to be done goes out to a `Wire`, and
what the owner must know goes to its callbacks. The driver with sockets is
`zcluster.transport.link`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from zcluster.errors import ProtocolError
from zcluster.protocol.frames import Decoder, check_frames, encode
from zcluster.protocol.messages import (
    Acknowledge,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Reconnect,
    Refused,
    Welcome,
)
from zcluster.protocol.session import Session, read_head, unsequenced
from zcluster.types import Buffer, Frames

__all__ = ["DENIED", "HEARTBEAT_SECONDS", "PAUSE_SECONDS", "Conversation", "Wire"]

#: Each end says something at least this often.
HEARTBEAT_SECONDS = 0.5
#: Whoever is told the time only after so long was paused itself, and blames nobody for it.
PAUSE_SECONDS = 1.0
#: Connections are made at least so far apart: a server that cannot understand us, of
#: another version perhaps, is not to be asked without pause.
_REOPEN_SECONDS = 0.05
#: One that is neither made nor refused within this is tried afresh: the system would try the old
#: one again ever more seldom, and be late when the network is back.
_CONNECT_SECONDS = 2.0
#: Connections on which nothing but nonsense is heard until the other end is given up: it says the
#: same again each time, and would for ever.
_MOST_NONSENSE = 5
#: How the reason begins where keys do not fit.
DENIED = "authentication failed"
#: Seconds of connections that end before anybody spoke until it is taken for that.
_DENIED_SECONDS = 1.5
#: How often this end looks whether it has waited too long.
_WATCH_SECONDS = 0.1
#: A timer may come this much before its time.
_EARLY = 1e-3

_ACK = encode(Acknowledge())
#: What begins or ends a session; and what is of no interest to the owner of one. Tuples, as
#: making a union for each message costs more than looking into it.
_ANSWERS = (Welcome, Refused, Reconnect)
_OWN = (Acknowledge, Heartbeat)


class Wire(Protocol):
    """The connection of one conversation: there is one at a time, or none."""

    def open(self) -> None:
        """Make a new connection; what happens to it is told by the ``on_…`` methods."""

    def send(self, frames: Sequence[Buffer]) -> bool:
        """Send a message on it; False if it cannot be sent."""

    def close(self, is_last_word_sent: bool) -> None:
        """Give it up, if there is one; what was sent last may need a moment to leave."""

    def call_after(self, seconds: float) -> None:
        """Have `Conversation.on_time` called after some seconds, besides all other calls."""


class Conversation:
    """A conversation with a server, kept alive over reconnects.

    Parameters
    ----------
    wire : Wire
    address : str
        The server, for messages to people.
    now : float
        The time, in seconds of any clock that never goes back.
    hello : callable
        ``hello(token, seen)`` returns the hello to say; it is numbered here.
    accepts : sequence of message types
        What the server may say.
    on_message : callable
        ``on_message(message, payload frames)``.
    on_welcome : callable
        Called with the first `Welcome`.
    on_lost : callable
        Called once, with a sentence, when the server refused or is gone.
    timeout, grace, patience : float
        Seconds to wait: for the first welcome; for a server that refuses
        connections; for one that does not and does not answer.
    beat : callable
        Makes a heartbeat.
    keys : str
        Where our keys are from, for messages to people; empty if there are none.

    Attributes
    ----------
    is_live : bool
        Whether the server has welcomed this end and not been cut off since.
    is_over : bool
    token : bytes
        Of the session; empty before the first welcome.
    refused : int
        Messages that were nonsense here.
    """

    def __init__(
        self,
        wire: Wire,
        address: str,
        now: float,
        *,
        hello: Callable[[bytes, int], Hello],
        accepts: Sequence[type[Message]],
        on_message: Callable[[Any, list[bytes]], None],
        on_welcome: Callable[[Welcome], None],
        on_lost: Callable[[str], None],
        timeout: float = 30.0,
        grace: float = 2.0,
        patience: float = 30.0,
        beat: Callable[[], Heartbeat] = lambda: Heartbeat(0.0),
        keys: str = "",
    ) -> None:
        self.address = address
        self._keys = keys
        #: Since when connections break off before anybody spoke.
        self._denied_since: float | None = None
        self.refused = 0
        self.is_live = False
        self.is_over = False
        self.token = b""
        self._wire = wire
        self._hello = hello
        self._decoder = Decoder(accepts)
        self._on_message = on_message
        self._on_welcome = on_welcome
        self._on_lost = on_lost
        self._beat = beat
        self._timeout, self._grace, self._patience = timeout, grace, patience
        self._session = Session()
        self._connections = 0
        self._is_open = False
        self._is_refused = self._is_connected = False
        self._broken_since = now
        #: When the connection that is tried now was first seen to be refused.
        self._refused_since: float | None = None
        self._nonsense = 0
        self._nonsense_after = -1
        self._last_beat = 0.0
        self._opened = 0.0
        self._told = now

    @property
    def in_flight(self) -> int:
        """Bytes sent that the server has not acknowledged."""
        return self._session.in_flight

    def begin(self, now: float) -> None:
        """Make the first connection."""
        self._open(now)

    # -------------------------------------------------------------------- sending

    def send(self, message: Message, frames: Frames, now: float) -> None:
        """Say something; it arrives once and in order, over reconnects too."""
        if self.is_over:
            return
        wire = self._session.say(encode(message), frames)
        if self.is_live and not self._wire.send(wire):
            self.reopen(now)

    def close(self, goodbye: bool = True) -> None:
        """End the conversation; say so if ``goodbye``."""
        if self.is_over:
            return
        self.is_over = True
        is_said = goodbye and self.is_live
        if is_said:
            self._wire.send(self._session.say(encode(Goodbye())))
        self._shut(is_said)

    # ----------------------------------------------------------------- connecting

    def on_connected(self) -> None:
        """The connection stands; nobody has answered on it yet."""
        self._is_connected = True
        self._is_refused, self._refused_since = False, None

    def on_refused(self) -> None:
        """Nobody listens there."""
        self._is_refused = True

    def on_denied(self, why: str, now: float) -> None:
        """The server broke off before anybody spoke.

        Parameters
        ----------
        why : str
            ``"key"``: it refuses ours; ``"mechanism"``: one end wants keys and the other has none;
            empty where it did not say. It may have ended at that moment then, or be too full:
            only a new conversation that gets nowhere for a while gives up for it.
        now : float
        """
        if self._denied_since is None:
            self._denied_since = now
        if why == "key":
            self._lose(f"{DENIED}: {self.address} does not know the key from {self._keys}")
        elif why == "mechanism" and not self._keys:
            self._lose(
                f"{DENIED}: {self.address} lets nobody in without a key, and there is none here; "
                "give the scheduler file, which has it"
            )
        elif why == "mechanism":
            self._lose(f"{DENIED}: {self.address} has no keys, expected those of {self._keys}")
        elif self._keys and not self.token and now - self._denied_since > _DENIED_SECONDS:
            self._lose(
                f"{DENIED}: {self.address} has not the key that {self._keys} names; is that file "
                "of an earlier scheduler?"
            )

    def on_disconnected(self, now: float) -> None:
        """The connection broke; all that came over it was handed in."""
        self.reopen(now)

    def reopen(self, now: float) -> None:
        """Give up the connection and make another one."""
        if self.is_over:
            return
        if self.is_live:
            self._broken_since = now
        self._shut()
        wait = self._opened + _REOPEN_SECONDS - now
        if wait > 0:
            self._wire.call_after(wait)
        else:
            self._open(now)

    def _open(self, now: float) -> None:
        self._opened = now
        self._is_open = True
        self._is_refused = self._is_connected = False
        self._refused_since = None
        self._connections += 1
        hello = self._hello(self.token, self._session.heard)
        self._wire.open()
        self._wire.send(unsequenced(encode(replace(hello, connection=self._connections))))

    def _shut(self, is_last_word_sent: bool = False) -> None:
        self.is_live = self._is_open = False
        self._wire.close(is_last_word_sent)

    def on_time(self, now: float) -> float:
        """Time passed; return after how many seconds to be told again, at the latest."""
        pause, self._told = now - self._told, now
        if self.is_over:
            return HEARTBEAT_SECONDS
        if pause > PAUSE_SECONDS:
            # This end heard nobody because it did not listen.
            self._broken_since = min(now, self._broken_since + pause)
            if self._refused_since is not None:
                self._refused_since = min(now, self._refused_since + pause)
        if not self._is_open and now >= self._opened + _REOPEN_SECONDS - _EARLY:
            self._open(now)
        if not self.is_live:
            is_heard_of = self._is_connected or self._is_refused
            if self._is_open and not is_heard_of and now - self._opened > _CONNECT_SECONDS:
                self.reopen(now)
            self._give_up_if_due(now)
        elif now - self._last_beat >= HEARTBEAT_SECONDS:
            # Also between other messages: it says more than that we live.
            self._last_beat = now
            self._say_bare(encode(self._beat()), now)
        return HEARTBEAT_SECONDS / 2 if self.is_live else _WATCH_SECONDS

    def _give_up_if_due(self, now: float) -> None:
        waited = now - self._broken_since
        if self._is_refused and self._refused_since is None:
            self._refused_since = now
        if not self.token:
            if waited > self._timeout:
                reason = f"nobody answered at {self.address} within {self._timeout:g} s"
                # A Unix socket wants no key: there it is full, or no server of ours.
                is_cut = self._denied_since is not None and not self.address.startswith("ipc://")
                if is_cut and not self._keys:
                    reason += "; it breaks off: perhaps it wants a key, from its scheduler file"
                self._lose(reason)
        elif self._refused_since is not None:
            # A cut before it says nothing of the process, and is not counted.
            if (refused := now - self._refused_since) > self._grace:
                self._lose(f"{self.address} refuses connections, for {refused:.1f} s now")
        elif waited > self._patience:
            self._lose(f"{self.address} does not answer, for {waited:.1f} s now")

    def _lose(self, reason: str) -> None:
        if not self.is_over:
            self.is_over = True
            self._shut()
            self._on_lost(reason)

    def _say_bare(self, control: bytes, now: float) -> None:
        if not self._wire.send(self._session.bare(control)):
            self.reopen(now)

    # ------------------------------------------------------------------ receiving

    def on_frames(self, frames: list[bytes], now: float) -> bool:
        """Take a message of the current connection; False if that is given up for it."""
        try:
            sequence, acknowledged, control = read_head(frames[0])
            payload = frames[1:]
            message = self._decoder.decode(control)
            check_frames(payload)
            kind = type(message)
            if kind in _ANSWERS:
                self._take_answer(message, now)
            elif self.is_live and self._session.hear(sequence, acknowledged, sum(map(len, frames))):
                if kind is Goodbye:
                    self._lose(message.reason or "the scheduler was closed")
                elif kind not in _OWN:
                    self._on_message(message, payload)
        except ProtocolError as error:
            # A gap, or nonsense: a fresh connection resends what is missing.
            self.refused += 1
            if self.is_live and self._is_in_vain():
                self._lose(f"{self.address} says what is not understood here: {error}")
            self.reopen(now)
            return False
        return True

    def _is_in_vain(self) -> bool:
        """Count nonsense with nothing new before it; return whether it was too much."""
        if self._nonsense_after != self._session.heard:
            self._nonsense, self._nonsense_after = 0, self._session.heard
        self._nonsense += 1
        return self._nonsense >= _MOST_NONSENSE

    def _take_answer(self, message: Welcome | Refused | Reconnect, now: float) -> None:
        if self.is_over:
            return
        if isinstance(message, Welcome):
            self._welcome(message, now)
        elif isinstance(message, Refused):
            self._lose(message.reason)
        else:
            self.reopen(now)

    def acknowledge(self, now: float) -> None:
        """Say what was heard, if enough was; call it after a burst of messages."""
        if self.is_live and self._session.is_ack_due:
            self._say_bare(_ACK, now)

    def _welcome(self, message: Welcome, now: float) -> None:
        if self.is_live or not message.token:
            raise ProtocolError("a welcome that answers no hello, or without a token")
        if message.resumed:
            if message.token != self.token:
                raise ProtocolError("a welcome to somebody else's session")
            again = self._session.unheard(message.seen)
        elif self.token:
            self._lose("the scheduler no longer knows the session")
            return
        else:
            again = self._session.unheard(0)
        first = not self.token
        self._denied_since = None
        self.token = message.token
        self.is_live = True
        for wire in again:
            if self.is_live and not self._wire.send(wire):
                self.reopen(now)
        if first:
            self._on_welcome(message)
