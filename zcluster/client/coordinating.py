"""One request about a thing that clients share, from the call to the answer or its end.

Such a request may wait for long, and whoever made it may give up at any moment: because
its time is over, or because of Ctrl-C. What was granted in that moment must not be lost.
So a waiter whose time is over says `withdraw` and then still hears an answer: no, or the
grant. One that is broken off also says how to undo the grant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from zcluster.client.engine import Reply
from zcluster.client.future import Future
from zcluster.client.gates import Deadline, Gate, LoopGate, in_event_loop
from zcluster.client.shared_values import SharedValue, unpack_value
from zcluster.errors import ClientClosed, InvalidArgument
from zcluster.protocol.messages import Coordinate, Coordinated
from zcluster.types import waiting

if TYPE_CHECKING:
    from zcluster.client.base import ClientBase

__all__ = ["ANSWER_SECONDS", "Exchange", "Outcome", "ask", "settle"]

T = TypeVar("T")

#: Seconds in which the scheduler must answer what nobody has to wait for.
ANSWER_SECONDS = 30.0
#: Seconds that a task keeps its slot while it waits: most grants come sooner, and giving
#: the slot up costs several messages.
_BRIEF = 0.005


class Outcome:
    """An answer: whether it is yes, its plain value, and the values that clients share.

    Attributes
    ----------
    request : int
        The request that was answered; a lease goes by its number.
    """

    def __init__(self, message: Coordinated, blobs: list[memoryview], futures: list[Future]):
        self.request = message.request
        self.ok = message.ok
        self.value: Any = msgspec.msgpack.decode(message.value)
        self._blobs = blobs
        self._futures = futures
        self._counts = message.counts

    def values(self) -> list[Any]:
        """Load the values that came along."""
        values = []
        start = 0
        for blob, count in zip(self._blobs, self._counts, strict=True):
            values.append(unpack_value(blob, self._futures[start : start + count]))
            start += count
        return values


class Exchange:
    """A request and its answer.

    Parameters
    ----------
    client : Client
    kind, name, action, names, number, timeout
        As in `Coordinate`. The request waits at the scheduler at most ``timeout`` seconds.
    shared : SharedValue, optional
        The value it brings.
    undo : str
        The action that gives back what nobody takes any more.

    Raises
    ------
    ClientClosed
        If the client is closed.
    """

    def __init__(
        self,
        client: ClientBase,
        kind: str,
        name: str,
        action: str,
        *,
        names: Sequence[str] = (),
        number: int = 0,
        shared: SharedValue | None = None,
        timeout: float | None = 0.0,
        undo: str = "",
    ) -> None:
        self._client = client
        self._what = f"{action} {kind} {name or list(names)!r}"
        self._message = Coordinate(0, kind, name, action, list(names), number, timeout=timeout)
        self._shared = shared
        self._undo = undo
        self._number = 0
        self._gate = Gate()
        self._loop_gate: LoopGate | None = None
        self._is_here = False
        self._reply: Reply | None = None

    def send(self) -> None:
        """Say it, unless it was said; `wait` and `arrive` do so."""
        if self._number:
            return
        shared = self._shared
        self._shared = None
        frames = () if shared is None else (shared.blob,)
        futures = () if shared is None else shared.futures

        def make(request: int) -> Coordinate:
            self._number = request
            return msgspec.structs.replace(
                self._message,
                request=request,
                tasks=[future._record.task for future in futures],
                keys=[future.key for future in futures],
            )

        self._client._engine.send_request(make, frames, self._take)

    def wait(self) -> Outcome:
        """Wait for the answer.

        Raises
        ------
        InvalidArgument
            If the scheduler says that it cannot be done.
        ClusterError
            If the client ends.
        TimeoutError
            If the scheduler does not answer at all.
        """
        try:
            self.send()
            if not self._wait_in_time():
                self._say("withdraw")
                if not self._gate.wait(Deadline(ANSWER_SECONDS)):
                    raise self._unanswered()
            return self._accept()
        except BaseException:
            self.give_up()
            raise

    async def arrive(self) -> Outcome:
        """Wait for the answer in an event loop; as `wait`."""
        try:
            gate = self._loop_gate = LoopGate()
            self.send()
            timeout = self._message.timeout
            seconds = ANSWER_SECONDS if timeout is not None and timeout <= 0 else timeout
            if not self._is_here and not await gate.wait(Deadline(seconds)):
                self._say("withdraw")
                if not await gate.wait(Deadline(ANSWER_SECONDS)):
                    raise self._unanswered()
            return self._accept()
        except BaseException:
            self.give_up()
            raise

    def give_up(self) -> None:
        """Take it off the line; if it was granted already, give that back.

        The scheduler hears both in order, so whatever it did before, nothing is left.
        """
        if self._number:
            self._say("withdraw")
            if self._undo:
                self._say(self._undo)

    def _wait_in_time(self) -> bool:
        timeout = self._message.timeout
        if timeout is not None and timeout <= 0:
            return self._gate.wait(Deadline(ANSWER_SECONDS))
        deadline = Deadline(timeout)
        brief = _BRIEF if timeout is None else min(timeout, _BRIEF)
        if self._gate.wait(Deadline(brief)):
            return True
        with waiting():
            return self._gate.wait(deadline)

    def _unanswered(self) -> TimeoutError:
        return TimeoutError(
            f"the scheduler at {self._client._engine.address} did not answer {self._what} within "
            f"{ANSWER_SECONDS:g} s; it may be overloaded or frozen"
        )

    def _take(self, reply: Reply | None) -> None:
        """Hear the answer, in the loop's thread."""
        self._reply = reply
        self._is_here = True
        self._gate.open()
        # Looked at after the answer is here: a coroutine looks in the other order.
        if self._loop_gate is not None:
            self._loop_gate.open()

    def _accept(self) -> Outcome:
        """Make the answer this thread's: from here on nothing is given back."""
        engine = self._client._engine
        if self._reply is None:
            engine.check_usable()
            raise ClientClosed("the client ended while this waited")
        message, frames = self._reply
        assert isinstance(message, Coordinated)
        if message.error:
            raise InvalidArgument(message.error)
        futures: list[Future] = []
        if message.lengths and (message.tasks or self._message.kind == "queue"):
            with engine.lock:
                engine.check_usable()
                pairs = zip(message.tasks, message.keys, strict=True)
                records = [engine.core.want(task, key) for task, key in pairs]
                engine.core.say(self._about("taken"))
            futures = [Future(self._client, record) for record in records]
            engine.wake()
        blobs: list[memoryview] = []
        start = 0
        for length in message.lengths:
            blobs.append(memoryview(frames[0])[start : start + length])
            start += length
        return Outcome(message, blobs, futures)

    def _about(self, action: str) -> Coordinate:
        said = self._message
        return Coordinate(0, said.kind, said.name, action, said.names, self._number)

    def _say(self, action: str) -> None:
        engine = self._client._engine
        with engine.lock:
            if engine.core.ended is None:
                engine.core.say(self._about(action))
        engine.wake()


def ask(client: ClientBase, kind: str, name: str, action: str, **options: Any) -> Outcome:
    """Have something done that nobody has to wait for; see `Exchange`."""
    return Exchange(client, kind, name, action, **options).wait()


def settle(client: ClientBase, exchange: Exchange, then: Callable[[Outcome], T]) -> T:
    """Return what is made of an answer; of an asynchronous client's, something to await."""
    if client.asynchronous and in_event_loop():
        return cast(T, _settle_in_loop(exchange, then))
    return then(exchange.wait())


async def _settle_in_loop(exchange: Exchange, then: Callable[[Outcome], T]) -> T:
    return then(await exchange.arrive())
