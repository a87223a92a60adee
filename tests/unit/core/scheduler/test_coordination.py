"""Shared things against a model: any order of requests, releases, doubts and deaths.

`Model` is the same thing written as plainly as possible: one list of who waits, looked
through from the front after every event. What the scheduler answers must be exactly what
the model says, so nobody is served out of turn, no two have what one can have, and
nothing is lost when clients vanish.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from zcluster.core.scheduler.invariants import check
from zcluster.errors import ProtocolError
from zcluster.protocol.messages import Coordinate, Coordinated

if TYPE_CHECKING:
    from tests.unit.core.scheduler.conftest import Desk as DeskType

Desk = Callable[..., "DeskType"]

LIMITS = {"one": 1, "other": 1, "two": 2}
PLACES = 2


@dataclass
class Asked:
    """Somebody in the model waits."""

    who: tuple[str, int]
    names: list[str]
    count: int
    until: float | None
    item: bytes = b""


@dataclass
class Model:
    """What there is, and who waits, the oldest first."""

    leases: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    waiting: list[Asked] = field(default_factory=list)
    items: deque[bytes] = field(default_factory=deque)
    under_way: dict[tuple[str, int], bytes] = field(default_factory=dict)
    getting: list[Asked] = field(default_factory=list)
    putting: list[Asked] = field(default_factory=list)
    answers: list[tuple[str, int, bool, bytes]] = field(default_factory=list)

    def settle(self) -> None:
        """Grant what can be granted."""
        claimed: set[str] = set()
        for asked in list(self.waiting):
            ready = [
                name
                for name in asked.names
                if name not in claimed and len(self.leases.get(name, [])) < LIMITS[name]
            ]
            if len(ready) < asked.count:
                claimed.update(asked.names)
                continue
            for name in ready[: asked.count]:
                self.leases.setdefault(name, []).append(asked.who)
            self.waiting.remove(asked)
            self.answers.append((*asked.who, True, b""))
        while True:
            if self.getting and self.items:
                asked = self.getting.pop(0)
                self.under_way[asked.who] = self.items.popleft()
                self.answers.append((*asked.who, True, self.under_way[asked.who]))
            elif self.putting and len(self.items) < PLACES:
                asked = self.putting.pop(0)
                self.items.append(asked.item)
                self.answers.append((*asked.who, True, b""))
            else:
                return

    def give_up(self, is_meant: Callable[[Asked], bool], tell: bool = True) -> None:
        for line in (self.waiting, self.getting, self.putting):
            for asked in [asked for asked in line if is_meant(asked)]:
                line.remove(asked)
                if tell:
                    self.answers.append((*asked.who, False, b""))


class Sharing(RuleBasedStateMachine):
    """Three names of clients, any of which may vanish and come again."""

    make_desk: Desk

    @initialize()
    def begin(self) -> None:
        self.desk = self.make_desk(check=True)
        self.model = Model()
        self.members: dict[str, Any] = {}
        self.alive: list[str] = []
        self.requests = 0
        self.joined = 0
        self.items = 0
        #: Items that were put, got, or went down with a client that had them.
        self.put: list[bytes] = []
        self.got: list[bytes] = []

    def who(self, number: int) -> str:
        if not self.alive:
            self.join()
        return self.alive[number % len(self.alive)]

    @precondition(lambda self: len(self.alive) < 3)
    @rule()
    def join(self) -> None:
        self.joined += 1
        name = f"c{self.joined}"
        self.members[name] = self.desk.client(name)
        self.alive.append(name)

    def say(self, who: str, kind: str, name: str, action: str, **options: Any) -> int:
        self.requests += 1
        frames = options.pop("frames", ())
        message = Coordinate(self.requests, kind, name, action, **options)
        self.desk.tell(self.members[who], message, frames)
        return self.requests

    def compare(self) -> None:
        """Compare what was said with what the model says."""
        self.model.settle()
        said = []
        for name, message, frames in self.desk_messages():
            said.append((name, message.request, message.ok, frames[0] if frames else b""))
            assert not message.error
        expected = [answer for answer in self.model.answers if answer[0] in self.alive]
        self.model.answers.clear()
        assert sorted(said) == sorted(expected)

    def desk_messages(self) -> list[tuple[str, Coordinated, list[bytes]]]:
        self.desk.flush()
        found = [m for m in self.desk.messages if isinstance(m[1], Coordinated)]
        self.desk.messages.clear()
        return [(name, m, frames) for name, m, frames in found if isinstance(m, Coordinated)]

    # ------------------------------------------------------------------------- leases

    @rule(
        at=st.integers(0, 2),
        names=st.sampled_from((["one"], ["other"], ["one", "other"], ["other", "one"], ["two"])),
        count=st.integers(1, 2),
        timeout=st.sampled_from((None, None, 0.0, 2.0)),
    )
    def acquire(self, at: int, names: list[str], count: int, timeout: float | None) -> None:
        who = self.who(at)
        count = min(count, len(names))
        is_lock = names != ["two"]
        kind, number = ("lock", count) if is_lock else ("semaphore", LIMITS["two"])
        request = self.say(
            who, kind, names[0], "acquire", names=names, number=number, timeout=timeout
        )
        self.ask(self.model.waiting, (who, request), names, count, timeout)

    def ask(
        self,
        line: list[Asked],
        who: tuple[str, int],
        names: list[str],
        count: int,
        timeout: float | None,
        item: bytes = b"",
    ) -> None:
        until = None if timeout is None else self.desk.now + timeout
        asked = Asked(who, names, count, until, item)
        line.append(asked)
        self.model.settle()
        if timeout == 0.0:
            self.model.give_up(lambda other: other is asked)
        self.compare()

    @precondition(lambda self: any(self.model.leases.values()))
    @rule(at=st.integers(0, 9))
    def release(self, at: int) -> None:
        held = sorted({holder for holders in self.model.leases.values() for holder in holders})
        who, request = held[at % len(held)]
        names = [name for name, holders in self.model.leases.items() if (who, request) in holders]
        kind = "semaphore" if names == ["two"] else "lock"
        self.desk.tell(
            self.members[who], Coordinate(0, kind, names[0], "release", names, number=request)
        )
        for name in names:
            self.model.leases[name].remove((who, request))
        self.compare()

    # ------------------------------------------------------------------------- a queue

    @rule(at=st.integers(0, 2), timeout=st.sampled_from((None, 0.0, 2.0)))
    def put_item(self, at: int, timeout: float | None) -> None:
        self.items += 1
        who, item = self.who(at), b"item %d" % self.items
        request = self.say(who, "queue", "q", "put", number=PLACES, timeout=timeout, frames=[item])
        self.ask(self.model.putting, (who, request), ["q"], 1, timeout, item)

    @rule(at=st.integers(0, 2), timeout=st.sampled_from((None, 0.0, 2.0)))
    def get_item(self, at: int, timeout: float | None) -> None:
        who = self.who(at)
        request = self.say(who, "queue", "q", "get", number=1, timeout=timeout)
        self.ask(self.model.getting, (who, request), ["q"], 1, timeout)

    @precondition(lambda self: self.model.under_way)
    @rule(at=st.integers(0, 9), word=st.sampled_from(("taken", "refuse")))
    def end_delivery(self, at: int, word: str) -> None:
        who, request = list(self.model.under_way)[at % len(self.model.under_way)]
        item = self.model.under_way.pop((who, request))
        self.desk.tell(self.members[who], Coordinate(0, "queue", "q", word, number=request))
        if word == "taken":
            self.got.append(item)
        else:
            self.model.items.appendleft(item)
        self.compare()

    # --------------------------------------------------------------- doubts and deaths

    @rule(at=st.integers(0, 20))
    def withdraw(self, at: int) -> None:
        if not self.requests:
            return
        number = self.requests - at % self.requests
        who = self.who(at)
        self.desk.tell(self.members[who], Coordinate(0, "lock", "one", "withdraw", number=number))
        self.model.give_up(lambda asked: asked.who == (who, number))
        self.compare()

    @rule()
    def time_passes(self) -> None:
        self.desk.now += 1.5
        self.desk.core.on_time(self.desk.now)
        now = self.desk.now
        self.model.give_up(lambda asked: asked.until is not None and asked.until <= now)
        self.compare()

    @precondition(lambda self: self.alive)
    @rule(at=st.integers(0, 2))
    def vanish(self, at: int) -> None:
        who = self.who(at)
        self.alive.remove(who)
        self.desk.core.on_gone(self.members[who].peer, "it was killed", self.desk.now)
        model = self.model
        model.give_up(lambda asked: asked.who[0] == who, tell=False)
        for name, holders in model.leases.items():
            model.leases[name] = [holder for holder in holders if holder[0] != who]
        # The newest goes back first, so that they are in order again.
        lost = [key for key in model.under_way if key[0] == who]
        for key in reversed(lost):
            model.items.appendleft(model.under_way.pop(key))
        self.compare()

    def teardown(self) -> None:
        if not hasattr(self, "desk"):
            return
        while self.alive:
            self.vanish(0)
        check(self.desk.state)
        things = self.desk.state.things
        assert not things.pools
        assert not things.waiters
        assert not things.deliveries
        left = [value.blob for channel in things.channels.values() for value in channel.items]
        assert left == list(self.model.items)
        assert set(things.channels) == ({"q"} if left else set())


def test_shared_things_are_given_in_turn_and_never_lost(desk: Desk) -> None:
    class Bound(Sharing):
        make_desk = staticmethod(desk)

    run_state_machine_as_test(
        Bound, settings=settings(max_examples=200, stateful_step_count=40, deadline=None)
    )


def test_what_nobody_can_do_ends_the_session(desk: Desk) -> None:
    d = desk()
    client = d.client()
    with pytest.raises(ProtocolError, match="nobody can 'eat' a 'lock'"):
        d.tell(client, Coordinate(1, "lock", "a", "eat"))


def test_a_request_that_still_waits_cannot_be_made_again(desk: Desk) -> None:
    d = desk()
    client = d.client()
    wait = Coordinate(1, "event", "e", "wait")
    d.tell(client, wait)
    with pytest.raises(ProtocolError, match="made already"):
        d.tell(client, wait)


def test_a_client_that_is_away_too_long_holds_nothing_any_more(desk: Desk) -> None:
    d = desk(client_grace=10.0)
    first, second = d.client("first"), d.client("second")
    for member in (first, second):
        d.tell(member, Coordinate(1, "lock", "a", "acquire", number=1))
    d.core.on_away(first.peer, d.now)
    d.later(9.0)
    assert d.take(Coordinated, "second") == []
    d.later(2.0)
    assert [answer.ok for answer in d.take(Coordinated, "second")] == [True]


def test_no_answer_is_given_to_request_zero(desk: Desk) -> None:
    d = desk()
    client = d.client()
    d.tell(client, Coordinate(0, "event", "e", "set"))
    d.tell(client, Coordinate(1, "event", "e", "is_set"))
    assert [answer.request for answer in d.take(Coordinated)] == [1]


def test_who_may_take_one_of_several_is_offered_all_that_a_dead_client_had(desk: Desk) -> None:
    """It takes the one it named first, and the other one stays for nobody out of turn."""
    d = desk()
    first, second = d.client("first"), d.client("second")
    d.tell(first, Coordinate(1, "lock", "one", "acquire", ["one"], number=1))
    d.tell(first, Coordinate(2, "lock", "one", "acquire", ["one", "other"], number=2))
    d.tell(second, Coordinate(3, "lock", "one", "acquire", ["one", "other"], number=1))
    d.tell(second, Coordinate(4, "lock", "one", "acquire", ["one"], number=1))
    d.take(Coordinated)
    d.core.on_gone(first.peer, "it was killed", d.now)
    assert [answer.request for answer in d.take(Coordinated, "second")] == [3]
