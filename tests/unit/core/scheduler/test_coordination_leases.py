"""Leases: who has them, in which order, and when they are forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from zcluster.errors import ProtocolError
from zcluster.protocol.messages import Coordinate, Coordinated

if TYPE_CHECKING:
    from tests.unit.core.scheduler.conftest import Desk as DeskType

Desk = Callable[..., "DeskType"]


class Asking:
    """A client at a desk, with its requests counted."""

    def __init__(self, desk: Any, name: str) -> None:
        self.desk = desk
        self.name = name
        self.member = desk.client(name)
        self.requests = 0

    def acquire(self, *names: str, number: int = 0, kind: str = "lock", **options: Any) -> int:
        self.requests += 1
        number = number or len(names)
        message = Coordinate(
            self.requests, kind, names[0], "acquire", list(names), number, **options
        )
        self.desk.tell(self.member, message)
        return self.requests

    def release(self, lease: int, *names: str, kind: str = "lock") -> None:
        self.desk.tell(self.member, Coordinate(0, kind, names[0], "release", list(names), lease))

    def answers(self) -> list[tuple[int, bool]]:
        return [(said.request, said.ok) for said in self.desk.take(Coordinated, self.name)]


@pytest.fixture
def three(desk: Desk) -> list[Asking]:
    made = desk()
    return [Asking(made, name) for name in ("a", "b", "c")]


def test_a_lock_goes_to_whoever_waits_longest(three: list[Asking]) -> None:
    a, b, c = three
    lease = a.acquire("x")
    b.acquire("x")
    c.acquire("x")
    assert [who.answers() for who in three] == [[(1, True)], [], []]
    a.release(lease, "x")
    assert [who.answers() for who in three] == [[], [(1, True)], []]
    b.release(1, "x")
    assert [who.answers() for who in three] == [[], [], [(1, True)]]


def test_two_requests_of_one_client_exclude_each_other(three: list[Asking]) -> None:
    a = three[0]
    a.acquire("x")
    a.acquire("x", timeout=0.0)
    assert a.answers() == [(1, True), (2, False)]


def test_a_release_that_comes_twice_frees_nobody_elses_lease(three: list[Asking]) -> None:
    a, b, c = three
    a.acquire("x")
    b.acquire("x")
    a.release(1, "x")
    a.release(1, "x")
    c.acquire("x", timeout=0.0)
    assert b.answers() == [(1, True)]
    assert c.answers() == [(1, False)]


def test_several_locks_are_had_together_or_not_at_all(three: list[Asking]) -> None:
    a, b, c = three
    a.acquire("x")
    b.acquire("x", "y")
    # It is behind b, who has not got y yet but is first in the line for it.
    c.acquire("y", "x")
    assert (b.answers(), c.answers()) == ([], [])
    a.release(1, "x")
    assert (b.answers(), c.answers()) == ([(1, True)], [])
    b.release(1, "x", "y")
    assert c.answers() == [(1, True)]


def test_some_of_several_locks_leave_the_others_to_those_behind(three: list[Asking]) -> None:
    a, b, c = three
    a.acquire("x")
    b.acquire("x", "y", "z", number=2)
    c.acquire("x")
    assert b.answers() == [(1, True)]
    a.release(1, "x")
    assert c.answers() == [(1, True)]
    pools = b.desk.state.things.pools
    assert sorted(name for _, name in pools) == ["x", "y", "z"]
    b.release(1, "x", "y", "z")
    assert sorted(name for _, name in pools) == ["x"]


def test_a_semaphore_has_so_many_leases_and_says_how_many_are_out(three: list[Asking]) -> None:
    a, b, c = three
    for who in three:
        who.acquire("s", kind="semaphore", number=2)
    assert [who.answers() for who in three] == [[(1, True)], [(1, True)], []]
    a.desk.tell(a.member, Coordinate(9, "semaphore", "s", "count"))
    (said,) = a.desk.take(Coordinated)
    assert bytes(said.value) == b"\x02"
    b.release(1, "s", kind="semaphore")
    assert c.answers() == [(1, True)]


def test_a_semaphore_that_is_used_has_one_size(three: list[Asking]) -> None:
    a, b, _ = three
    a.acquire("s", kind="semaphore", number=2)
    b.acquire("s", kind="semaphore", number=3)
    (said,) = b.desk.take(Coordinated, "b")
    assert not said.ok
    assert "give max_leases=2" in said.error
    a.release(1, "s", kind="semaphore")
    b.acquire("s", kind="semaphore", number=3)
    assert b.answers() == [(2, True)]


def test_who_waits_for_what_is_closed_is_told(three: list[Asking]) -> None:
    a, b, _ = three
    a.acquire("s", kind="semaphore", number=1)
    b.acquire("s", kind="semaphore", number=1)
    a.desk.tell(a.member, Coordinate(9, "semaphore", "s", "close"))
    (said,) = b.desk.take(Coordinated, "b")
    assert "was closed" in said.error
    assert not a.desk.state.things.pools


@pytest.mark.parametrize(
    ("names", "kind", "number"),
    [(["x"], "lock", 2), (["x"], "lock", 0), (["x"], "semaphore", 0), (["x", "y"], "semaphore", 1)],
)
def test_what_can_never_be_granted_ends_the_session(
    three: list[Asking], names: list[str], kind: str, number: int
) -> None:
    a = three[0]
    message = Coordinate(1, kind, "x", "acquire", names, number)
    with pytest.raises(ProtocolError, match="nobody can acquire"):
        a.desk.tell(a.member, message)
