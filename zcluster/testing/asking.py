"""What clients of a history ask beside tasks: direct calls, shared things, workers that leave.

`Asking` says it for them, hears the answers, and knows what they may be: each request is answered
once, a lock has one holder, what was put into a queue is taken once. In the end all must have been
answered, and the scheduler must have forgotten all of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zcluster.core.client.records import Replied
from zcluster.errors import InvariantError
from zcluster.protocol.messages import (
    Call,
    Called,
    Coordinate,
    Coordinated,
    Message,
    Restart,
    Retire,
)

if TYPE_CHECKING:
    from zcluster.testing.histories import History

__all__ = ["Asking"]

#: Names of the shared things: few, so that clients meet.
_NAMES = ("x", "y")
#: What a client may do with each kind of thing.
_ACTIONS = {
    "lock": ("acquire", "acquire", "count"),
    "semaphore": ("acquire", "acquire", "count"),
    "event": ("set", "clear", "wait", "wait", "is_set"),
    "queue": ("put", "put", "get", "get", "size"),
    "variable": ("set", "get", "get", "delete"),
}
_LEASES = 2
#: Seconds that whoever waits for a shared thing waits at most.
_PATIENCE = 5.0


@dataclass
class _Request:
    client: Any
    number: int
    message: Message
    blob: bytes = b""


class Asking:
    """All that was asked in a history, and what came of it.

    Parameters
    ----------
    history : History

    Examples
    --------
    >>> from zcluster.testing.histories import History
    >>> from zcluster.testing.plans import draw_plan
    >>> history = History(draw_plan(3))
    >>> history.run()
    >>> history.asking.open
    {}
    """

    def __init__(self, history: History) -> None:
        self._history = history
        #: What is not answered yet, by the client's index and the request's number.
        self.open: dict[tuple[int, int], _Request] = {}
        #: Who has the locks, as far as clients know.
        self._holders: dict[str, Any] = {}
        self._taken: dict[bytes, Any] = {}
        self._values = 0

    # ------------------------------------------------------------------------ asking

    def call(self, client: Any, chance: random.Random) -> None:
        """Call a function in some worker, in an actor, or beside the scheduler."""
        blob = self._value()
        nodes = [info for info in client.core.nodes.values() if info.workers]
        actors = [task for task in client.wanted if self._history.model.specs[task].actor]
        if actors and chance.random() < 0.7:
            actor = chance.choice(actors)
            self._ask(client, lambda number: Call(number, -1, -1, actor), blob)
        elif nodes and chance.random() < 0.8:
            node = chance.choice(nodes)
            worker = chance.choice(node.workers).number
            self._ask(client, lambda number: Call(number, node.index, worker), blob)
        else:
            self._ask(client, lambda number: Call(number, -1, 0), blob)

    def retire(self, client: Any, names: list[str], close: bool = True) -> None:
        """Have nodes or workers end."""
        self._ask(client, lambda number: Retire(number, names, close))

    def restart(self, client: Any) -> None:
        """Have all workers started anew."""
        self._ask(client, lambda number: Restart(number))

    def share(self, client: Any, chance: random.Random) -> None:
        """Do something with a thing that clients share."""
        kind = chance.choice(list(_ACTIONS))
        action = chance.choice(_ACTIONS[kind])
        name, timeout = chance.choice(_NAMES), chance.choice((0.0, 0.1, _PATIENCE))
        if kind == "lock" and action == "acquire" and chance.random() < 0.3:
            names = list(_NAMES)
            message = Coordinate(0, kind, "", action, names, len(names), timeout=timeout)
            self._coordinate(client, message)
            return
        number = {"acquire": 1, "put": chance.choice((0, 1)), "get": 1}.get(action, 0)
        if kind == "semaphore":
            number = _LEASES
        blob, tasks = b"", []
        if action in ("put", "set") and kind != "event":
            blob = self._value()
            held = [task for task in client.wanted if chance.random() < 0.3]
            tasks = held[:2] if chance.random() < 0.5 else []
        keys = [str(task) for task in tasks]
        self._coordinate(
            client, Coordinate(0, kind, name, action, [], number, tasks, keys, timeout), blob
        )

    def _value(self) -> bytes:
        self._values += 1
        return b"value %d" % self._values

    def _coordinate(self, client: Any, message: Coordinate, blob: bytes = b"") -> None:
        def make(number: int) -> Message:
            return Coordinate(
                number,
                message.kind,
                message.name,
                message.action,
                message.names,
                message.number,
                message.tasks,
                message.keys,
                message.timeout,
            )

        self._ask(client, make, blob)

    def _ask(self, client: Any, make: Callable[[int], Message], blob: bytes = b"") -> None:
        made: list[Message] = []

        def keep(number: int) -> Message:
            made.append(make(number))
            return made[0]

        number = client.core.request(keep, [blob] if blob else ())
        self.open[client.index, number] = _Request(client, number, made[0], blob)
        client.process.wake()

    # ----------------------------------------------------------------------- answers

    def on_effect(self, client: Any, effect: Any) -> None:
        """A client's core says something besides results."""
        if not isinstance(effect, Replied):
            return
        request = self.open.pop((client.index, effect.request), None)
        if request is None:
            raise InvariantError(
                f"request {effect.request} of {client.name} was answered twice, or never made: "
                f"{effect.message}"
            )
        answer = effect.message
        if isinstance(answer, Coordinated) and isinstance(request.message, Coordinate):
            if answer.error and not self._may_refuse(request.message):
                raise InvariantError(f"{request.message} was answered by {answer.error!r}")
            if answer.ok:
                self._granted(request, request.message, answer, effect.frames)
        elif isinstance(answer, Called) and isinstance(request.message, Call):
            given = bytes(effect.frames[0]) if effect.frames else b""
            if answer.error is None and request.message.node >= 0 and given != request.blob:
                raise InvariantError(f"{request.message} gave {given!r}, not {request.blob!r}")

    def _may_refuse(self, message: Coordinate) -> bool:
        """Whether what a thing was to refer to may be known no more, or the thing was closed."""
        model = self._history.model
        is_gone = any(t in model.cancelled or t in model.adopted for t in message.tasks)
        return is_gone or (message.kind == "queue" and not message.tasks)

    def _granted(
        self, request: _Request, message: Coordinate, answer: Coordinated, frames: Any
    ) -> None:
        if message.kind in ("lock", "semaphore") and message.action == "acquire":
            names = message.names or [message.name]
            if message.kind == "lock":
                for name in names:
                    self._hold(request.client, name)
            seconds = 0.5 * self._history.world.random.random()
            self._history.world.at(seconds, self._release, request, message.kind, names)
        elif message.action == "get":
            self._take(request, message, answer, frames)

    def _hold(self, client: Any, name: str) -> None:
        before = self._holders.get(name)
        if before is not None and self._is_sure_of(before):
            raise InvariantError(f"lock {name!r} was given to {client.name}; {before.name} has it")
        self._holders[name] = client

    def _is_sure_of(self, client: Any) -> bool:
        """Whether what a client was given is its own, as it was never given up for gone."""
        return not (client.is_gone or client.is_over or self._history.model.may_be_missed(client))

    def _release(self, request: _Request, kind: str, names: list[str]) -> None:
        client = request.client
        if client.is_frozen:
            self._history.world.at(0.1, self._release, request, kind, names)
        elif client.is_ready:
            for name in names if kind == "lock" else ():
                if self._holders.get(name) is client:
                    del self._holders[name]
            message = Coordinate(0, kind, names[0], "release", names, request.number)
            client.core.say(message)
            client.process.wake()

    def _take(
        self, request: _Request, message: Coordinate, answer: Coordinated, frames: Any
    ) -> None:
        """Values have come: say so, and hold what they refer to."""
        client = request.client
        value = bytes(frames[0]) if frames else b""
        if message.kind == "queue":
            before = self._taken.get(value)
            if before is not None and self._is_sure_of(before):
                raise InvariantError(
                    f"{value!r} was taken from a queue by {before.name}, and then by {client.name}"
                )
            self._taken[value] = client
        client.want([task for task in answer.tasks if task not in client.wanted])
        if message.kind == "queue" or answer.tasks:
            client.core.say(Coordinate(0, message.kind, message.name, "taken", [], request.number))
            client.process.wake()

    # ------------------------------------------------------------------------- state

    @property
    def is_restarting(self) -> bool:
        """Whether somebody asked for a restart, and was not answered, or cannot be."""
        return any(isinstance(request.message, Restart) for request in self.open.values())

    def waiting(self) -> list[Message]:
        """Return what clients that are here asked, and were not answered."""
        return [
            request.message
            for request in self.open.values()
            if not (request.client.is_gone or request.client.is_over)
        ]

    def forget_things(self, client: Any) -> None:
        """Have a client forget all shared things that would stay."""
        for name in _NAMES:
            client.core.say(Coordinate(0, "queue", name, "close"))
            client.core.say(Coordinate(0, "event", name, "clear"))
            client.core.say(Coordinate(0, "variable", name, "delete"))
        client.process.wake()

    def check_empty(self) -> None:
        """Check that the scheduler knows of nothing that was asked.

        Raises
        ------
        InvariantError
            If it does.
        """
        core = self._history.world.core
        core.calls.check()
        if len(core.calls):
            raise InvariantError(f"all was answered, and {len(core.calls)} requests are open")
        things = core.state.things
        tables = ("pools", "flags", "channels", "cells", "waiters", "deliveries")
        for name in tables:
            if getattr(things, name):
                raise InvariantError(f"no client is here, and {name}: {getattr(things, name)!r}")
        if things.bytes:
            raise InvariantError(f"no client is here, and shared values take {things.bytes} bytes")
