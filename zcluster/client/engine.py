"""The driver of a client's core: one loop thread, its sockets, and a lock.

User threads change the core under the lock and wake the loop; they never touch a
socket. The loop thread sends what the core has gathered:

- at once, if nothing was sent for `COALESCE_SECONDS`;
- else when that time is over, so that calls made in a row leave together;
- but at once if somebody waits for a result (`Engine.flush`).

Released tasks wait a little longer (`RELEASE_SECONDS`): a future says in its
``__del__`` only that it went, by one append to a deque, since that may run in any
thread at any moment, also one that holds the lock.
"""

from __future__ import annotations

import logging
import os
import platform
import socket as sockets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec
import zmq

from zcluster.client.bars import wait_with_bar
from zcluster.client.callbacks import Callbacks
from zcluster.client.fetching import DataPorts
from zcluster.client.gates import Countdown, Deadline, Gate, leave_if_exiting
from zcluster.client.outcomes import raise_ended
from zcluster.client.shipping import BY_NAME, Shipper, environment
from zcluster.client.transfers import Transfers
from zcluster.core.client.core import ClientCore
from zcluster.core.client.records import (
    Effect,
    Failure,
    Heard,
    NodesChanged,
    PutBlob,
    Replied,
    Wanted,
)
from zcluster.core.client.states import State
from zcluster.errors import (
    AuthenticationFailed,
    ClusterError,
    InvariantError,
    ProtocolError,
    StartError,
)
from zcluster.graph.layers import PackedFunction
from zcluster.protocol.conversation import DENIED
from zcluster.protocol.messages import (
    PROTOCOL,
    SCHEDULER_TO_CLIENT,
    Answer,
    Ask,
    Hello,
    Message,
    Welcome,
)
from zcluster.transport.keys import keys_of
from zcluster.transport.link import Link
from zcluster.transport.loop import Loop
from zcluster.types import Buffer, Frames
from zcluster.version import __version__

__all__ = ["COALESCE_SECONDS", "RELEASE_SECONDS", "Engine"]

COALESCE_SECONDS = 0.0005
RELEASE_SECONDS = 0.01

_log = logging.getLogger(__name__)

#: A reply with its payload frames.
Reply: TypeAlias = tuple[Any, Frames]


def _nothing() -> None:
    """Do nothing."""


def _unknown() -> str:
    """Know no reason."""
    return ""


class _Request(Gate):
    """Somebody waits for a reply."""

    __slots__ = ("reply",)

    def __init__(self) -> None:
        super().__init__()
        self.reply: Reply | None = None

    def take(self, reply: Reply | None) -> None:
        """Be told the reply; None: there will be none, as the client ended."""
        self.reply = reply
        self.open()


class Engine:
    """A connection to a scheduler, with everything a client wants of it.

    Parameters
    ----------
    address : str
    name : str
        Of the client, for people.
    timeout : float
        Seconds until the scheduler has answered.

    Attributes
    ----------
    core : ClientCore
        Use it under `lock` only.
    dropped : deque of Wanted
        Records of futures that went; append is all one does.
    on_waited : callable
        Called at the end of each wait, in the thread that waited.
    why_lost : callable
        Returns what is known here of why the scheduler went, or nothing.
    listeners : dict of message class to callable
        Who is told, in the loop's thread, of what the scheduler says unasked.

    Raises
    ------
    StartError
        If nobody answers in time, or the scheduler refuses; `AuthenticationFailed` where keys do
        not fit.
    """

    def __init__(self, address: str, *, name: str, timeout: float) -> None:
        self.address = address
        self.name = name
        self.lock = threading.Lock()
        self.core = ClientCore()
        self.dropped: deque[Wanted] = deque()
        self.settings: dict[str, float] = {}
        self.node_gates: list[Gate] = []
        self.listeners: dict[type[Message], Callable[[Any, Frames], Any]] = {}
        self.callbacks = Callbacks()
        self.on_waited: Callable[[], Any] = _nothing
        self.why_lost: Callable[[], str] = _unknown
        self.shipper = Shipper()
        self._timeout = timeout
        self._incarnation = os.urandom(16)
        self._pid = os.getpid()
        self._is_forced = False
        self._last_flush = 0.0
        self._last_release = 0.0
        self._is_timer_set = False
        self._requests: dict[int, Callable[[Reply | None], Any]] = {}
        self._refused = 0
        self._ready = Gate()
        self._start_error = ""
        self._loop = Loop()
        self._context: zmq.Context[Any] = zmq.Context()
        self._keys = keys_of(address)
        self._ports = DataPorts(self._loop, self._context, self._keys)
        self._transfers = self._new_transfers()
        self._link: Link | None = None
        self._thread = threading.Thread(target=self._run, name="zcluster-client", daemon=True)
        self._thread.start()
        try:
            is_in_time = self._ready.wait(Deadline(timeout + 1.0))
        except BaseException:
            self.close("interrupted while connecting", 1.0)
            raise
        if not is_in_time or self._start_error:
            reason = self._start_error or "the client's thread did not start"
            self.close(reason, 1.0)
            kind = AuthenticationFailed if reason.startswith(DENIED) else StartError
            raise kind(f"cannot connect to the scheduler at {address}: {reason}")

    # ------------------------------------------------------------ for user threads

    @property
    def is_own_process(self) -> bool:
        """Whether this is the process that connected, and not a fork of it."""
        return os.getpid() == self._pid

    def check_usable(self) -> None:
        """Raise if nothing can be asked any more, saying why."""
        if self.core.ended is not None:
            leave_if_exiting()
            raise_ended(self.core.ended)

    def wake(self) -> None:
        """Have the loop look at what was added to the core."""
        self._loop.wake()

    def flush(self) -> None:
        """Have everything sent now: somebody is about to wait."""
        if self.core.has_news:
            self._is_forced = True
            self._loop.wake()

    def ship_for(self, function: PackedFunction, constant: Buffer | None) -> None:
        """Send the modules that a call needs, before the call."""
        if not self.shipper.has_seen(function.digest):
            self.ship((function.data,))
        if constant is not None and BY_NAME in constant:
            self.ship((constant,))

    def ship(self, pickles: Iterable[Buffer]) -> None:
        """Send the modules that some pickles need, before what is submitted after this."""
        found = self.shipper.sources(pickles)
        if found is not None:
            with self.lock:
                self.core.say(*found)

    def watch(self, records: Iterable[Wanted], watcher: Any) -> int:
        """Have a watcher told of each record that is settled from now on.

        Returns how many are not settled yet; a `Countdown` counts them down.
        """
        pending = 0
        with self.lock:
            for record in records:
                if record.state is State.PENDING:
                    pending += 1
                    if record.watchers is None:
                        record.watchers = [watcher]
                    else:
                        record.watchers.append(watcher)
            if isinstance(watcher, Countdown):
                watcher.left += pending
        return pending

    def unwatch(self, records: Iterable[Wanted], watcher: Any) -> None:
        """Forget a watcher that gave up."""
        with self.lock:
            for record in records:
                if record.watchers is not None:
                    record.watchers = [w for w in record.watchers if w is not watcher] or None

    def wait(
        self, records: Sequence[Wanted], deadline: Deadline, stop_at_failure: bool = False
    ) -> bool:
        """Wait until all are settled (or one failed); return whether it was in time."""
        countdown = Countdown(stop_at_failure)
        if not self.watch(records, countdown):
            leave_if_exiting()
            return True
        try:
            if stop_at_failure and any(record.state > State.HERE for record in records):
                return True
            self.flush()
            if wait_with_bar(self, countdown, records, deadline):
                return True
            return countdown.left <= 0
        finally:
            if countdown.left > 0:
                self.unwatch(records, countdown)

    def fetch(self, records: Sequence[Wanted], deadline: Deadline) -> dict[int, memoryview]:
        """Get announced results from their nodes; see `Transfers.fetch`."""
        return self._transfers.fetch(records, deadline)

    def cancel(self, records: Iterable[Wanted], reason: str, force: bool = False) -> None:
        """Cancel tasks that are not finished; with ``force`` stop those that run."""
        with self.lock:
            if self.core.ended is None:
                self.core.cancel(records, reason, force)
            watched = self.core.take_settled()
        self.tell(watched)
        self._loop.wake()

    def retry(self, records: Iterable[Wanted]) -> None:
        """Have failed tasks run again."""
        with self.lock:
            self.check_usable()
            self.core.retry(records)
        self._loop.wake()

    def give_up(self, tasks: Iterable[int], reason: str) -> None:
        """Fail tasks that nobody can run."""
        with self.lock:
            self.core.give_up(tasks, reason)
            watched = self.core.take_settled()
        self.tell(watched)

    def ask(
        self, question: str, tasks: Sequence[int] = (), text: str = "", timeout: float = 10.0
    ) -> Any:
        """Ask the scheduler and wait for its answer.

        Raises
        ------
        TimeoutError
            If it does not answer in time.
        ClusterError
            If it says that it cannot.
        """
        answer: Answer = self.request(
            lambda number: Ask(number, question, list(tasks), text),
            timeout=timeout,
            what=repr(question),
        )[0]
        if answer.error:
            raise ClusterError(answer.error)
        return msgspec.msgpack.decode(answer.value, strict=False)

    def request(
        self,
        make: Callable[[int], Message],
        frames: Frames = (),
        timeout: float | None = 10.0,
        what: str = "",
    ) -> Reply:
        """Say what has a reply, and wait for it.

        Parameters
        ----------
        make : callable
            Makes the message, given the number of the request.
        frames : sequence of buffers
            Its payload.
        timeout : float or None
            Seconds; None waits as long as the client lives.
        what : str
            The request in the words of the error.

        Returns
        -------
        message, frames

        Raises
        ------
        TimeoutError
            If none comes in time.
        ClusterError
            If the client ends.
        """
        waiting = _Request()
        number = self.send_request(make, frames, waiting.take)
        try:
            is_in_time = waiting.wait(Deadline(timeout))
        finally:
            self._requests.pop(number, None)
        if waiting.reply is not None:
            return waiting.reply
        self.check_usable()
        assert not is_in_time
        raise TimeoutError(
            f"the scheduler at {self.address} did not answer {what or type(make(0)).__name__} "
            f"within {timeout:g} s; it may be overloaded or frozen"
        )

    def send_request(
        self,
        make: Callable[[int], Message],
        frames: Frames,
        take: Callable[[Reply | None], Any],
    ) -> int:
        """Say what has a reply; ``take`` gets it, in the loop's thread, and must be quick.

        It gets None where the client ends before. Returns the request's number.
        """
        with self.lock:
            self.check_usable()
            number = self.core.request(make, frames)
            self._requests[number] = take
        self._loop.wake()
        return number

    def close(self, reason: str, timeout: float) -> None:
        """End it; whatever is open is settled with the reason."""
        if not self.is_own_process:
            return
        self._loop.post(lambda: self._end(Failure("closed", reason), goodbye=True))
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
            self.callbacks.join(0.05)

    def after_fork(self) -> None:
        """Make this copy in a forked child refuse everything: the sockets are the parent's."""
        self.lock = threading.Lock()
        self._transfers = self._new_transfers()
        reason = "this process was forked from the one with the client; make a Client of its own"
        self.core.ended = None
        self.core.end(Failure("closed", reason))
        for record, watchers in self.core.take_settled():
            for watcher in watchers:
                watcher.settle(record)

    def _new_transfers(self) -> Transfers:
        return Transfers(self.core, self.lock, self._loop, self._ports, self.tell)

    # -------------------------------------------------------------- the loop thread

    def _run(self) -> None:
        try:
            self._link = Link(
                self._loop,
                self._context,
                self.address,
                hello=self._hello,
                accepts=SCHEDULER_TO_CLIENT,
                on_message=self._on_message,
                on_welcome=self._on_welcome,
                on_lost=self._on_lost,
                timeout=self._timeout,
                keys=self._keys,
                role="client",
            )
            self._loop.on_idle.append(self._on_idle)
            self._loop.run()
        except Exception as error:
            # A bug, here or in what a peer made us do: no future may hang because of it.
            _log.exception("the client's loop failed")
            self._start_error = self._start_error or repr(error)
            self._end(Failure("scheduler", f"the client's loop failed: {error!r}"), goodbye=False)
        finally:
            self._transfers.close()
            self._ready.open()
            self.callbacks.stop()
            self._ports.close()
            self._loop.close()
            self._context.term()

    def _hello(self, token: bytes, seen: int) -> Hello:
        return Hello(
            "client",
            PROTOCOL,
            __version__,
            platform.python_version(),
            self._incarnation,
            token,
            seen,
            None,
            self.name,
            sockets.gethostname(),
            os.getpid(),
        )

    def _on_welcome(self, welcome: Welcome) -> None:
        self.settings = welcome.settings
        assert self._link is not None
        self._link.send(environment(sockets.gethostname()))
        with self.lock:
            self.core.on_welcome(welcome.index, welcome.nodes)
        self._ready.open()

    def _on_lost(self, reason: str) -> None:
        if not self._start_error and self.core.ended is None:
            self._start_error = reason
        why = self.why_lost() or reason
        self._end(Failure("scheduler", f"the scheduler is lost: {why}"), goodbye=False)

    def _end(self, failure: Failure, goodbye: bool) -> None:
        if self.core.ended is None:
            with self.lock:
                self._take_dropped()
                self.core.end(failure)
                watched = self.core.take_settled()
            self.tell(watched)
        for number in list(self._requests):
            take = self._requests.pop(number, None)
            if take is not None:
                take(None)
        for gate in self.node_gates:
            gate.open()
        self._ports.close()
        if self._link is not None:
            self._link.close(goodbye)
        self._ready.open()
        self._loop.stop()

    def _on_message(self, message: Message, frames: list[bytes]) -> None:
        with self.lock:
            try:
                self.core.on_message(message, frames)
            except (InvariantError, ProtocolError):
                # One message that contradicts itself; what it said of other tasks stands.
                self._refused += 1
                _log.exception("refused a %s message of the scheduler", type(message).__name__)
            watched = self.core.take_settled()
        if type(message) in self.listeners:
            self._apply_effects()  # now: it counts before what the next message says
        self.tell(watched)

    @staticmethod
    def tell(watched: list[tuple[Wanted, list[Any]]]) -> None:
        """Tell the watchers of settled records; never under the lock."""
        for record, watchers in watched:
            for watcher in watchers:
                watcher.settle(record)

    def _on_idle(self) -> None:
        core, link = self.core, self._link
        self._ports.on_idle()
        if link is None or core.ended is not None or not core.is_welcome:
            return
        if core.has_news or self.dropped:
            now = self._loop.now()
            is_release_due = now - self._last_release >= RELEASE_SECONDS
            due = self._last_flush + COALESCE_SECONDS
            if not core.has_news:
                due = self._last_release + RELEASE_SECONDS
            if self._is_forced or due <= now:
                self._is_forced = False
                self._last_flush = now
                with self.lock:
                    if is_release_due:
                        self._last_release = now
                        self._take_dropped()
                    core.collect()
            elif not self._is_timer_set:
                self._is_timer_set = True
                self._loop.call_later(due - now, self._on_timer)
        if core.has_outgoing:
            for message, frames in core.outgoing(lambda: link.in_flight):
                link.send(message, frames)
        if core.has_effects:
            self._apply_effects()

    def _on_timer(self) -> None:
        self._is_timer_set = False  # the idle callback runs next and does the rest

    def _take_dropped(self) -> None:
        dropped = self.dropped
        if dropped:
            self.core.drop([dropped.popleft() for _ in range(len(dropped))])

    def _apply_effects(self) -> None:
        with self.lock:
            effects = self.core.take_effects()
            watched = self.core.take_settled()
        self.tell(watched)
        for effect in effects:
            self._apply(effect)

    def _apply(self, effect: Effect) -> None:
        if isinstance(effect, PutBlob):
            self._transfers.put(effect)
        elif isinstance(effect, Replied):
            take = self._requests.pop(effect.request, None)
            if take is not None:
                take((effect.message, effect.frames))
        elif isinstance(effect, Heard):
            listener = self.listeners.get(type(effect.message))
            if listener is not None:
                listener(effect.message, effect.frames)
        elif isinstance(effect, NodesChanged):
            for node in effect.left:
                self._ports.forget(node)
            gates, self.node_gates = self.node_gates, []
            for gate in gates:
                gate.open()
