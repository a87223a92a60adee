"""A pretend ZeroMQ between members and the scheduler, on pretend time.

Each direction of a connection keeps the order of what is sent, and may be slow or cut. What is
sent during a cut is held, as TCP holds it: it arrives when the cut heals, unless the connection
has ended by then, which loses it. Who hears nothing for two seconds ends the connection, and the
other end learns of it if its direction is whole, else by its own silence. A process that is frozen
takes nothing in; its kernel goes on to accept connections and bytes.

Some connections end as soon as they stand, and what was said on them arrives late, after what is
said on the next one: within a connection there is an order, between two there is none.

A connection can also be replaced without a word, as ZeroMQ does it: what was under way is lost,
and what comes next comes by a route that the listening end does not know.

And a message can be lost, or arrive once more, while the connection stays: no transport should do
that, and sessions are there so that nobody has to trust in it.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from zcluster.testing.clock import Clock, Process
from zcluster.types import Buffer

__all__ = ["Caller", "Connection", "Network", "Path"]

#: ZeroMQ ends a connection that was silent for so long, or that is not answered at first.
_SILENCE = 2.0
#: How often a connection that is refused is tried again.
_RETRY = 0.1
#: One in so many connections ends at once and is heard late, by up to so many seconds.
_LATE_EVERY = 5
_LATE_SECONDS = 1.5
#: What arrives twice does so within so many seconds.
_AGAIN_SECONDS = 0.05
_TIME = struct.Struct("<d")


class Caller(Protocol):
    """The connecting end, as the network sees it."""

    def on_connected(self, connection: Connection) -> None:
        """The connection stands."""

    def on_refused(self, connection: Connection) -> None:
        """Nobody listens."""

    def on_disconnected(self, connection: Connection) -> None:
        """The connection ended."""

    def on_frames(self, connection: Connection, frames: list[bytes]) -> object:
        """A message arrived; return `zcluster.testing.clock.UNTOUCHED` if nothing follows."""


class _Way:
    """One direction between a member and the scheduler."""

    __slots__ = ("cuts", "delay", "slowed")

    def __init__(self) -> None:
        #: Cuts that have not healed.
        self.cuts = 0
        self.delay = 0.0
        self.slowed = 0

    @property
    def is_cut(self) -> bool:
        return self.cuts > 0


class Path:
    """Both directions between a member and the scheduler."""

    __slots__ = ("down", "up")

    def __init__(self) -> None:
        self.up = _Way()
        self.down = _Way()


class _Queue:
    """What is under way in one direction of a connection."""

    __slots__ = ("has_gaps", "held", "last", "losses", "repeats")

    def __init__(self) -> None:
        self.held: deque[list[bytes]] = deque()
        self.last = 0.0
        #: So many of the next messages get lost, or arrive once more.
        self.losses = 0
        self.repeats = 0
        #: Whether any was lost.
        self.has_gaps = False


class Connection:
    """A connection of a member to the scheduler."""

    __slots__ = (
        "caller",
        "down",
        "is_far_open",
        "is_late",
        "is_near_open",
        "is_shaken",
        "path",
        "process",
        "route",
        "unsent",
        "up",
    )

    def __init__(self, process: Process, path: Path, caller: Caller, route: bytes) -> None:
        self.process = process
        self.path = path
        self.caller = caller
        self.route = route
        self.is_near_open = True
        self.is_far_open = False
        self.is_shaken = False
        self.is_late = False
        self.unsent: list[list[bytes]] = []
        self.up = _Queue()
        self.down = _Queue()


def _is_numbered(frames: list[bytes]) -> bool:
    """Whether a message is of a session, whose number is its first eight bytes."""
    return frames[0][:8] != bytes(8)


class Network:
    """All connections to one scheduler.

    Parameters
    ----------
    clock : Clock
    chance : random.Random

    Attributes
    ----------
    listener : Process or None
        The scheduler's process.
    on_frames : callable
        Told at the scheduler of a message: the route, then its frames.
    on_ended : callable
        Told at the scheduler that some connection ended.
    """

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        self.listener: Process | None = None
        self.on_frames: Callable[[list[bytes]], object]
        self.on_ended: Callable[[], None]
        self.connections: dict[bytes, Connection] = {}
        self._clock = clock
        self._random = chance.random
        self._routes = 0
        self._digest = hashlib.blake2b(digest_size=16)

    @property
    def trace_hash(self) -> str:
        """A hash of all that was said so far, and when."""
        return self._digest.hexdigest()

    def note(self, word: bytes) -> None:
        """Add something to the hash."""
        self._digest.update(_TIME.pack(self._clock.now) + word)

    def _delay(self, way: _Way) -> float:
        return (1e-5 + self._random() ** 4 * 2e-3) + way.delay

    # ----------------------------------------------------------------- connecting

    def connect(self, process: Process, path: Path, caller: Caller) -> Connection:
        """Begin to make a connection."""
        self._routes += 1
        made = Connection(process, path, caller, b"\0%d" % self._routes)
        self._clock.after(self._delay(path.up), self._knock, made)
        return made

    def _knock(self, made: Connection) -> None:
        if not made.is_near_open or made.process.is_dead:
            return
        listener = self.listener
        if made.path.up.is_cut or made.path.down.is_cut:
            self._clock.after(0.2, self._knock, made)  # the kernel says it again
        elif listener is None or listener.is_dead:
            made.process.deliver(made.caller.on_refused, made)
            self._clock.after(_RETRY, self._knock, made)
        else:
            made.process.deliver(made.caller.on_connected, made)
            self._clock.after(_SILENCE, self._handshake_over, made)
            self._shake(made, listener)

    def _shake(self, made: Connection, listener: Process) -> None:
        """The greetings go both ways; they need the other process, but not its loop."""
        if not made.is_near_open or made.process.is_dead or listener.is_dead:
            return
        if listener.is_frozen or made.process.is_frozen or made.path.up.is_cut:
            self._clock.after(0.05, self._shake, made, listener)
            return
        made.is_shaken = made.is_far_open = True
        self.connections[made.route] = made
        unsent, made.unsent = made.unsent, []
        for frames in unsent:
            self._push(made, made.up, made.path.up, self._arrive_up, frames)
        number = int(made.route[1:])
        if number % _LATE_EVERY == 0:
            made.is_late = True
            self._clock.after(0.01, self._end_near, made)
            seconds = _LATE_SECONDS / (1 + number // _LATE_EVERY % 7)
            self._clock.after(seconds, self._arrive_late, made)

    def _arrive_late(self, made: Connection) -> None:
        made.is_late = False
        if not made.path.up.is_cut:
            self._release_up(made)

    def _handshake_over(self, made: Connection) -> None:
        if not made.is_shaken and made.is_near_open:
            self._end_near(made)

    # -------------------------------------------------------------------- sending

    def send_up(self, made: Connection, frames: Sequence[Buffer]) -> bool:
        """Send from the connecting end; what cannot leave yet is kept."""
        if not made.is_near_open:
            return True  # the socket takes it all the same
        copied = [bytes(frame) for frame in frames]
        if made.is_shaken:
            self._push(made, made.up, made.path.up, self._arrive_up, copied)
        else:
            made.unsent.append(copied)
        return True

    def send_down(self, route: bytes, frames: Sequence[Buffer]) -> bool:
        """Send from the listening end; False if there is no such connection."""
        made = self.connections.get(route)
        if made is None:
            return False
        copied = [bytes(frame) for frame in frames]
        self._push(made, made.down, made.path.down, self._arrive_down, copied)
        return True

    def _push(
        self,
        made: Connection,
        queue: _Queue,
        way: _Way,
        arrive: Callable[..., None],
        frames: list[bytes],
    ) -> None:
        clock = self._clock
        self._digest.update(_TIME.pack(clock.now) + frames[0])
        if queue.losses and _is_numbered(frames):
            queue.losses -= 1
            queue.has_gaps = True
            return
        if queue.repeats and _is_numbered(frames):
            queue.repeats -= 1
            again = self._random() ** 2 * _AGAIN_SECONDS
            clock.after(again, self._push, made, queue, way, arrive, frames)
        last = clock.now + self._delay(way)
        if last > queue.last:
            queue.last = last
        clock.at(queue.last, arrive, made, made.route, frames)

    def _arrive_up(self, made: Connection, route: bytes, frames: list[bytes]) -> None:
        if made.route != route or not made.is_far_open:
            return  # lost with its connection
        if made.path.up.is_cut or made.up.held or made.is_late:
            made.up.held.append(frames)
        elif self.listener is not None:
            self.listener.deliver(self.on_frames, [route, *frames])

    def _arrive_down(self, made: Connection, route: bytes, frames: list[bytes]) -> None:
        if made.route != route or not made.is_near_open:
            return
        if made.path.down.is_cut or made.down.held:
            made.down.held.append(frames)
        else:
            made.process.deliver(made.caller.on_frames, made, frames)

    # --------------------------------------------------------------------- ending

    def close(self, made: Connection, is_last_word_sent: bool) -> None:
        """The connecting end gives a connection up."""
        made.is_near_open = False
        if made.is_shaken:
            if not is_last_word_sent and self._random() < 0.5:
                made.up.held.clear()
            self._tell_end_far(made)

    def _tell_end_far(self, made: Connection) -> None:
        """The end of a connection goes to the scheduler, after all that was sent."""
        if made.path.up.is_cut or made.up.held:
            self._clock.after(_SILENCE, self._end_far, made)
        else:
            made.up.last = max(made.up.last, self._clock.now + self._delay(made.path.up))
            self._clock.at(made.up.last, self._end_far, made)

    def _end_far(self, made: Connection) -> None:
        """The scheduler's end is closed."""
        if not made.is_far_open:
            return
        made.is_far_open = False
        listener = self.listener
        if listener is None or listener.is_dead:
            return
        # Behind what arrived before; the route can be used until then, in vain.
        listener.deliver(self._forget_route, made, made.route)
        if not made.is_near_open:
            return
        if made.path.down.is_cut:
            self._clock.after(_SILENCE, self._end_near, made)
        else:
            made.down.last = max(made.down.last, self._clock.now + self._delay(made.path.down))
            self._clock.at(made.down.last, self._end_near, made)

    def _forget_route(self, made: Connection, route: bytes) -> None:
        self.connections.pop(route, None)
        self.on_ended()

    def _end_near(self, made: Connection) -> None:
        """The connecting end is closed by its kernel or by ZeroMQ."""
        if not made.is_near_open:
            return
        made.is_near_open = False
        made.process.deliver(made.caller.on_disconnected, made)
        if made.is_far_open:
            self._tell_end_far(made)

    def reset(self, made: Connection) -> None:
        """Both ends learn at once that the connection is gone, and what was under way is lost."""
        made.up.held.clear()
        made.down.held.clear()
        route = made.route
        made.route = b"-" + route
        if made.is_far_open:
            made.is_far_open = False
            if self.listener is not None:
                self.listener.deliver(self._forget_route, made, route)
        self._end_near(made)

    def replace(self, made: Connection) -> None:
        """ZeroMQ makes the connection anew by itself, and says nothing."""
        if not made.is_shaken or not made.is_near_open:
            return
        old, self._routes = made.route, self._routes + 1
        made.up.held.clear()
        made.down.held.clear()
        made.route = b"\0%d" % self._routes
        if made.is_far_open and self.listener is not None:
            if self._random() < 0.5:
                self.listener.deliver(self._forget_route, made, old)
            else:
                self.connections.pop(old, None)
        made.is_far_open = True
        self.connections[made.route] = made

    # --------------------------------------------------------------------- faults

    def lose_next(self, made: Connection, count: int) -> None:
        """Lose the next messages of a session to a member; what follows them arrives.

        The other way there is no such fault: it ends the session, as nobody comes back from it.
        """
        made.down.losses = count

    def repeat_next(self, made: Connection, up: int, down: int) -> None:
        """Have the next messages of a session arrive twice, the second time a little later."""
        made.up.repeats, made.down.repeats = up, down

    def of(self, process: Process) -> list[Connection]:
        """Return the connections of a member that the scheduler still has."""
        return [made for made in self.connections.values() if made.process is process]

    def cut(self, path: Path, up: bool, down: bool) -> None:
        """Let nothing through, until `mend`."""
        for way, is_cut in ((path.up, up), (path.down, down)):
            way.cuts += is_cut
        self._clock.after(_SILENCE * (0.8 + 0.3 * self._random()), self._silent, path, up, down)

    def _silent(self, path: Path, up: bool, down: bool) -> None:
        """Those who heard nothing end their connections, if the cut is still there."""
        for made in [made for made in self.connections.values() if made.path is path]:
            if up and path.up.is_cut:
                self._end_far(made)
            if down and path.down.is_cut:
                self._end_near(made)

    def mend(self, path: Path, up: bool, down: bool) -> None:
        """Let through again; what was held is said again by the kernels, in their time."""
        for way, is_cut in ((path.up, up), (path.down, down)):
            way.cuts -= is_cut
        for made in [made for made in self.connections.values() if made.path is path]:
            seconds = self._random() ** 2 * 1.5
            if made.up.held and not path.up.is_cut:
                self._clock.after(seconds, self._release_up, made)
            if made.down.held and not path.down.is_cut:
                self._clock.after(seconds, self._release_down, made)

    def _release_up(self, made: Connection) -> None:
        held, made.up.held = made.up.held, deque()
        for frames in held:
            self._arrive_up(made, made.route, frames)

    def _release_down(self, made: Connection) -> None:
        held, made.down.held = made.down.held, deque()
        for frames in held:
            self._arrive_down(made, made.route, frames)

    def frozen(self, process: Process) -> None:
        """A process was frozen: those who wait for it hear nothing for two seconds."""
        self._clock.after(_SILENCE * (0.8 + 0.3 * self._random()), self._still_frozen, process)

    def _still_frozen(self, process: Process) -> None:
        if not process.is_frozen and not process.is_dead:
            return
        for made in list(self.connections.values()):
            if process is self.listener:
                self._end_near(made)
            elif made.process is process:
                self._end_far(made)

    def died(self, process: Process, is_noticed: bool) -> None:
        """A process ended; its kernel says so, unless the whole host is gone."""
        if not is_noticed:
            self.frozen(process)
            return
        for made in list(self.connections.values()):
            if process is self.listener:
                self._end_near(made)
            elif made.process is process:
                made.is_near_open = False
                self._tell_end_far(made)
