"""Requests that wait, and what becomes of a grant that nobody waits for any more."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from zcluster.client import coordinating
from zcluster.client.client import Client
from zcluster.client.coordinating import Exchange, Outcome, ask
from zcluster.client.shared_values import pack_value
from zcluster.errors import ClientClosed, InvalidArgument
from zcluster.servers.scheduler import SchedulerServer

Two = tuple[Client, Client]


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come true within 10 s"
        time.sleep(0.002)


@contextmanager
def held_up(loop: Any) -> Iterator[None]:
    """Hold up a loop's thread."""
    is_held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        is_held.set()
        let_go.wait(10)

    loop.post(hold)
    assert is_held.wait(10)
    try:
        yield
    finally:
        let_go.set()


def acquire(client: Client, name: str, timeout: float | None = None) -> Exchange:
    exchange = Exchange(client, "lock", name, "acquire", number=1, timeout=timeout, undo="release")
    exchange.send()
    return exchange


def release(client: Client, name: str, lease: int) -> None:
    assert ask(client, "lock", name, "release", number=lease).ok


def leases(alone: SchedulerServer, name: str) -> list[int]:
    """Return the indices of the clients that have leases of a lock."""
    pool = alone._core.state.things.pools.get(("lock", name))
    return [] if pool is None else [ticket.client for ticket in list(pool.leases)]


def index(client: Client) -> int:
    return client._engine.core._next >> 40


def test_an_answer_is_yes_or_no_and_a_wait_ends_in_time(two: Two) -> None:
    a, b = two
    first = acquire(a, "time").wait()
    assert first.ok
    took = []
    for _ in range(5):
        start = time.monotonic()
        assert not acquire(b, "time", 0.05).wait().ok
        took.append(time.monotonic() - start)
    # The scheduler looks at its clock four times a second; the client is exact, where it is let.
    assert 0.05 <= min(took) < 0.2
    assert not acquire(b, "time", 0.0).wait().ok
    release(a, "time", first.request)


def test_a_grant_on_its_way_to_who_gave_up_is_given_back(two: Two, alone: SchedulerServer) -> None:
    """The grant has left the scheduler, and the client does not know of it yet."""
    a, b = two
    lease = acquire(a, "crossing").wait()
    waiting = acquire(b, "crossing")
    until(lambda: len(alone._core.state.things.waiters) == 1)
    with held_up(b._engine._loop):
        release(a, "crossing", lease.request)
        until(lambda: leases(alone, "crossing") == [index(b)])
        waiting.give_up()
        assert leases(alone, "crossing") == [index(b)]
    until(lambda: leases(alone, "crossing") == [])


def test_a_grant_that_is_here_when_the_wait_is_broken_off_is_given_back(
    two: Two, alone: SchedulerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = acquire(two[0], "ctrl-c", 5.0)

    def interrupted() -> bool:
        until(lambda: waiting._is_here)
        raise KeyboardInterrupt

    monkeypatch.setattr(waiting, "_wait_in_time", interrupted)
    with pytest.raises(KeyboardInterrupt):
        waiting.wait()
    until(lambda: leases(alone, "ctrl-c") == [])


def test_ctrl_c_takes_a_waiter_off_the_line(two: Two, alone: SchedulerServer) -> None:
    """Wherever it strikes, also before the wait has begun."""
    a, b = two
    lease = acquire(a, "signal").wait()
    main = threading.get_ident()

    def interrupt() -> None:
        until(lambda: alone._core.state.things.waiters)
        signal.pthread_kill(main, signal.SIGINT)

    until(lambda: not alone._core.state.things.waiters)  # of the tests before
    thread = threading.Thread(target=interrupt)
    exchange = Exchange(b, "lock", "signal", "acquire", number=1, timeout=None, undo="release")
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the signal must not come before
        thread.start()
        exchange.wait()
    thread.join(10)
    until(lambda: not alone._core.state.things.waiters)
    release(a, "signal", lease.request)
    assert leases(alone, "signal") == []


def test_an_item_that_nobody_took_is_back_in_its_queue(two: Two, alone: SchedulerServer) -> None:
    a, b = two
    get = Exchange(b, "queue", "back", "get", number=1, timeout=None, undo="refuse")
    get.send()
    ask(a, "queue", "back", "put", shared=pack_value(1, a, "queue"))
    until(lambda: get._is_here)
    assert ask(a, "queue", "back", "size").value == 0
    get.give_up()
    until(lambda: ask(a, "queue", "back", "size").value == 1)
    ask(a, "queue", "back", "close")


def test_a_timeout_that_the_grant_overtakes_is_a_grant(two: Two, alone: SchedulerServer) -> None:
    """The time is over, the client withdraws, and hears that it has the lock."""
    a, b = two
    lease = acquire(a, "late").wait()
    waiting = acquire(b, "late", 0.1)
    until(lambda: len(alone._core.state.things.waiters) == 1)
    with held_up(b._engine._loop):
        release(a, "late", lease.request)
        until(lambda: leases(alone, "late") == [index(b)])
        outcomes: list[bool] = []
        thread = threading.Thread(target=lambda: outcomes.append(waiting.wait().ok))
        thread.start()
        until(lambda: b._engine.core.has_outgoing)  # its withdrawal
    thread.join(10)
    assert outcomes == [True]
    assert leases(alone, "late") == [index(b)]
    release(b, "late", waiting._number)


def test_a_refusal_of_the_scheduler_is_raised(two: Two) -> None:
    a = two[0]
    assert ask(a, "semaphore", "s", "acquire", number=2).ok
    with pytest.raises(InvalidArgument, match="give max_leases=2"):
        ask(a, "semaphore", "s", "acquire", number=3)


def test_who_waits_learns_that_the_client_ended(alone: SchedulerServer) -> None:
    client = Client(alone.address, set_as_default=False)
    waiting = Exchange(client, "event", "never", "wait", timeout=None)
    waiting.send()
    until(lambda: alone._core.state.things.waiters)
    client.close()
    with pytest.raises(ClientClosed):
        waiting.wait()
    with pytest.raises(ClientClosed):
        ask(client, "event", "never", "set")
    until(lambda: not alone._core.state.things.waiters)


def test_a_scheduler_that_does_not_answer_is_an_error(
    two: Two, alone: SchedulerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinating, "ANSWER_SECONDS", 0.05)
    with held_up(alone._loop), pytest.raises(TimeoutError, match="did not answer is_set event"):
        ask(two[0], "event", "frozen", "is_set")


def test_a_coroutine_waits_and_gives_back_when_it_is_cancelled(
    two: Two, alone: SchedulerServer
) -> None:
    a, b = two

    async def get() -> Outcome:
        return await acquire(b, "async").arrive()

    async def main() -> None:
        lease = await acquire(a, "async").arrive()
        assert lease.ok
        task = asyncio.ensure_future(get())
        while not alone._core.state.things.waiters:
            await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        waiting = asyncio.ensure_future(get())
        await asyncio.sleep(0)
        release(a, "async", lease.request)
        assert (await waiting).ok

    asyncio.run(main())
    until(lambda: not alone._core.state.things.waiters)
    assert leases(alone, "async") == [index(b)]
