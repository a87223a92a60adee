"""Actors: objects with a state, in one worker, called from anywhere.

``client.submit(Counter, actor=True)`` makes one. Its future's result is an `Actor`,
which stands for the object: it can be passed to tasks, other actors and other clients.
A call gives an `ActorFuture` at once; calls of one caller are made in the order in which
they were begun, and one at a time.

An actor lives while a future or an `Actor` of it is held. It is gone with its worker, and
never made again unasked, as what it knew would be lost: its calls raise `ActorLost`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from zcluster.client.base import ClientBase
from zcluster.client.client import get_client
from zcluster.client.default import live_clients
from zcluster.client.engine import Reply
from zcluster.client.future import Future
from zcluster.client.gates import Deadline, Gate, LoopGate
from zcluster.client.running import failed_reply, pack_direct, reply_value
from zcluster.config import Time
from zcluster.core.client.states import State
from zcluster.protocol.calls import reduce_as_input
from zcluster.protocol.messages import Call, Message
from zcluster.tracebacks import hides_frames
from zcluster.types import running_task

__all__ = ["Actor", "ActorFuture", "restore"]

#: Where nobody can come who calls methods by their names.
_PRIVATE = "__"
_tokens = itertools.count()


class _Hold(Future):
    """A future of an actor that can also be pickled outside a call, as the actor."""

    __slots__ = ("_restored",)

    _restored: tuple[Any, ...]

    def __zcluster_outside__(self) -> tuple[Any, ...]:
        return restore, self._restored


class Actor:
    """Stands for an object in a worker. Made by a task that was submitted as an actor.

    Methods give an `ActorFuture` at once; reading an attribute waits for its value.

    Examples
    --------
    >>> counter = client.submit(Counter, actor=True).result()    # doctest: +SKIP
    >>> counter.increment()                                      # doctest: +SKIP
    <ActorFuture: Counter.increment, pending>
    >>> counter.increment().result(), counter.n                  # doctest: +SKIP
    (2, 2)
    """

    __slots__ = ("_address", "_hold", "_kind", "_methods", "_task")

    def __init__(self, task: int, kind: str, methods: tuple[str, ...], address: str) -> None:
        self._task = task
        self._kind = kind
        self._methods = methods
        self._address = address
        self._hold: _Hold | None = None

    @property
    def key(self) -> str:
        """The name of the task that made it."""
        return f"{self._kind}-{self._task:x}" if self._hold is None else self._hold.key

    def __getattr__(self, name: str) -> Any:
        if name.startswith(_PRIVATE):
            raise AttributeError(f"an Actor has no {name!r}: ask the object through its methods")
        if name in self._methods:
            return partial(_begin, self, name)
        return _begin_raw(self, name, None, None).result()

    def __dir__(self) -> list[str]:
        return sorted({"key", *self._methods})

    def __repr__(self) -> str:
        return f"<Actor: {self._kind}, key={self.key}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Actor) and (self._task, self._address) == (
            other._task,
            other._address,
        )

    def __hash__(self) -> int:
        return hash(self._task)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._hold is None:
            return restore, (self._task, self._kind, self._methods, self._address)
        return reduce_as_input(self._hold)

    def __zcluster_tokenize__(self) -> tuple[str, int, int, int]:
        # A call that takes an actor is not the same the next time.
        return ("actor", self._task, os.getpid(), next(_tokens))


def restore(task: int, kind: str, methods: tuple[str, ...], address: str) -> Actor:
    """Return an actor that was pickled, held by a client of this process."""
    actor = Actor(task, kind, methods, address)
    _held(actor)
    return actor


def _held(actor: Actor) -> _Hold:
    """Have a client hold the actor's task."""
    if actor._hold is None:
        client = _client_for(actor._task, actor._address)
        engine = client._engine
        with engine.lock:
            record = engine.core.want(actor._task, actor.key)
        engine.wake()
        hold = _Hold(client, record)
        hold._restored = (actor._task, actor._kind, actor._methods, actor._address)
        actor._hold = hold
    return actor._hold


def _client_for(task: int, address: str) -> ClientBase:
    """Return a client of an actor's cluster: in a user's process the one that has it."""
    if running_task.get() is None:
        clients = [client for client in live_clients() if task in client._engine.core.wanted]
        for client in reversed(clients):
            if client._engine.address == address or len(clients) == 1:
                return client
    return get_client(address)


def _begin(actor: Actor, name: str, /, *args: Any, **kwargs: Any) -> ActorFuture:
    return _begin_raw(actor, name, args, kwargs)


def _begin_raw(
    actor: Actor, name: str, args: tuple[Any, ...] | None, kwargs: dict[str, Any] | None
) -> ActorFuture:
    """Begin a call of a method, or the reading of an attribute."""
    hold = _held(actor)
    client = hold._client
    engine = client._engine
    blob = pack_direct(engine, (name, args, kwargs))
    # The arguments may hold actors of which the callee has not heard yet.
    future = ActorFuture(client, f"{actor._kind}.{name}", (actor, args, kwargs))

    def make(number: int) -> Message:
        return Call(number, -1, -1, actor._task)

    if hold._record.state is State.ERROR:
        future._lost = hold.exception()
        future._settle(None)
    else:
        engine.send_request(make, [blob], future._settle)
    return future


class ActorFuture:
    """What a call of an actor gives, now or later; also to be awaited.

    Examples
    --------
    >>> future = counter.increment()                             # doctest: +SKIP
    >>> future.result(timeout=5)                                 # doctest: +SKIP
    1
    """

    __slots__ = (
        "_callbacks",
        "_client",
        "_gates",
        "_is_done",
        "_keep",
        "_label",
        "_lost",
        "_reply",
    )

    def __init__(self, client: ClientBase, label: str, keep: Any) -> None:
        self._client = client
        self._label = label
        self._keep = keep
        self._reply: Reply | None = None
        self._lost: BaseException | None = None
        self._is_done = False
        self._gates: list[Gate | LoopGate] = []
        self._callbacks: list[Callable[[ActorFuture], Any]] = []

    def _settle(self, reply: Reply | None) -> None:
        """Take the answer; None: there will be none. Runs in the loop's thread."""
        self._reply = reply
        self._keep = None
        # From here on who comes looks before it waits.
        self._is_done = True
        while self._gates:
            self._gates.pop().open()
        while self._callbacks:
            self._client._engine.callbacks.call(self._callbacks.pop(0), self)

    def done(self) -> bool:
        """Tell whether the call has been made, or cannot be."""
        return self._is_done

    @hides_frames
    def result(self, timeout: Time | None = None) -> Any:
        """Wait for the call and return what it returned.

        Raises
        ------
        Exception
            Whatever the method raised, with its traceback.
        ActorLost
            If the actor is gone.
        TimeoutError
            If it is not done after ``timeout`` seconds.
        """
        if not self._is_done:
            gate = Gate()
            self._gates.append(gate)
            self._client._engine.flush()
            deadline = Deadline(timeout)
            if not self._is_done and not gate.wait(deadline):
                raise TimeoutError(
                    f"{self._label} was not done after {deadline.seconds:g} s; wait longer"
                )
        return self._value()

    def exception(self, timeout: Time | None = None) -> BaseException | None:
        """Wait for the call and return what it raised, or None."""
        try:
            self.result(timeout)
        except Exception as error:
            if not self._is_done:
                raise
            return error
        return None

    def _value(self) -> Any:
        if self._lost is not None:
            raise self._lost
        if self._reply is None:
            self._client._engine.check_usable()
        assert self._reply is not None
        called, frames = self._reply
        if called.error is not None:
            raise failed_reply(called, frames, self._label)
        return reply_value(self._reply, self._label)

    def add_done_callback(self, function: Callable[[ActorFuture], Any]) -> None:
        """Have a function called with this future once it is done, in a thread of the client's."""
        callbacks = self._client._engine.callbacks
        callbacks.start()
        self._callbacks.append(function)
        if self._is_done:
            try:
                self._callbacks.remove(function)
            except ValueError:
                return  # it was settled in between, and has been called
            callbacks.call(function, self)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result_in_loop().__await__()

    async def _result_in_loop(self) -> Any:
        if not self._is_done:
            gate = LoopGate()
            self._gates.append(gate)
            self._client._engine.flush()
            if not self._is_done:
                await gate.wait(Deadline(None))
        return self._value()

    def __repr__(self) -> str:
        word = "done" if self._is_done else "pending"
        return f"<ActorFuture: {self._label}, {word}>"
