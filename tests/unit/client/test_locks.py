"""Locks, semaphores and events, as users call them; a scheduler without nodes will do."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.client.locks import Event, Lock, MultiLock, Semaphore
from zcluster.client.queues import Queue, Variable
from zcluster.errors import InvalidArgument

Two = tuple[Client, Client]


def test_a_lock_excludes_until_it_is_released(two: Two) -> None:
    a, b = two
    lock, other = Lock("x", client=a), Lock("x", client=b)
    with lock:
        assert other.locked()
        assert not other.acquire(blocking=False)
        assert not other.acquire(timeout=0.01)
    assert not lock.locked()
    assert other.acquire()
    other.release()


def test_threads_take_turns(two: Two) -> None:
    """Two threads of one client exclude each other as two clients do."""
    inside: list[int] = []
    most: list[int] = []

    def work(client: Client) -> None:
        lock = Lock("turns", client=client)
        for _ in range(20):
            with lock:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work, args=(client,)) for client in two * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(most) == 80
    assert max(most) == 1


def test_releasing_what_was_not_acquired_is_an_error(two: Two) -> None:
    lock = Lock("x", client=two[0])
    with pytest.raises(InvalidArgument, match="was released and not acquired"):
        lock.release()
    with lock, pytest.raises(InvalidArgument, match="releases what it acquired itself"):
        Lock("x", client=two[0]).release()


def test_names_travel_and_clients_stay(two: Two) -> None:
    lock: Any
    for lock in (Lock("x", two[0]), Event("x", two[0]), Semaphore(2, "x", two[0])):
        copy = pickle.loads(pickle.dumps(lock))
        assert (copy.name, copy._given) == ("x", None)
        assert repr(copy) == repr(lock)
    assert pickle.loads(pickle.dumps(Semaphore(2, "x"))).max_leases == 2
    assert pickle.loads(pickle.dumps(MultiLock(["a", "b"]))).names == ["a", "b"]
    assert repr(MultiLock(["a", "b"])) == "<MultiLock: a, b>"
    assert Lock().name != Lock().name


def test_a_multilock_excludes_the_locks_of_its_names(two: Two) -> None:
    a, b = two
    both = MultiLock(["left", "right"], client=a)
    left = Lock("left", client=b)
    with left:
        assert not both.acquire(blocking=False)
        assert both.acquire(num_locks=1)
        assert not Lock("right", client=b).acquire(blocking=False)
        both.release()
    with both:
        assert left.locked()
        assert not left.acquire(timeout=0.01)
    assert not left.locked()


def test_a_semaphore_counts(two: Two) -> None:
    a, b = two
    first, second = Semaphore(2, "s", client=a), Semaphore(2, "s", client=b)
    assert first.acquire()
    with second:
        assert first.get_value() == 2
        assert not first.acquire(timeout=0.0)
        assert (len(first.leases), len(second.leases)) == (1, 1)
        with pytest.raises(InvalidArgument, match="give max_leases=2"):
            Semaphore(3, "s", client=a).acquire()
    first.release()
    assert (first.get_value(), first.leases) == (0, ())


def test_a_closed_semaphore_is_new_for_the_next(two: Two) -> None:
    a, b = two
    first = Semaphore(1, "closed", client=a)
    first.acquire()
    first.close()
    assert first.leases == ()
    assert Semaphore(5, "closed", client=b).acquire(timeout=0.0)


def test_an_event_is_waited_for(two: Two) -> None:
    a, b = two
    event, same = Event("e", client=a), Event("e", client=b)
    assert not event.wait(timeout=0.01)
    assert not event.is_set()
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(same.wait(10)))
    thread.start()
    event.set()
    thread.join(10)
    assert seen == [True]
    assert same.is_set()
    same.clear()
    assert not event.is_set()


def test_a_coroutine_can_hold_a_lock(two: Two) -> None:
    a, b = two
    order: list[str] = []

    async def work(name: str, client: Client) -> None:
        async with Lock("async", client=client):
            order.append(name)
            await asyncio.sleep(0)
            order.append(name)

    async def main() -> None:
        await asyncio.gather(work("a", a), work("b", b))

    asyncio.run(main())
    assert order in (["a", "a", "b", "b"], ["b", "b", "a", "a"])


def test_with_an_asynchronous_client_methods_are_awaited(alone: Any) -> None:
    async def main() -> None:
        async with Client(alone.address, asynchronous=True, set_as_default=False) as client:
            made: Any = client
            lock: Any = Lock("awaited", client=made)
            assert await lock.acquire()
            assert await lock.locked()
            assert not await lock.acquire(timeout=0.02)
            assert not await lock.acquire(blocking=False)
            await lock.release()
            event: Any = Event("awaited", client=made)
            waiting = asyncio.ensure_future(event.wait())
            await event.set()
            assert await waiting
            queue: Any = Queue("awaited", client=made)
            variable: Any = Variable("awaited", client=made)
            getting = asyncio.ensure_future(queue.get())
            for number in range(3):
                await queue.put(number)
            assert await getting == 0
            assert await queue.get(batch=2) == [1, 2]
            await variable.set(7)
            assert await variable.get() == 7
            await made.publish_dataset(seven=7)
            assert await made.get_dataset("seven") == 7
            assert dict(made.datasets) == {"seven": 7}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: Lock(""), "name of a Lock is ''"),
        (lambda: Event(7), "name of a Event is 7"),  # type: ignore[arg-type]
        (lambda: MultiLock([]), r"names are \[\]"),
        (lambda: MultiLock(["a", ""]), "names are"),
        (lambda: MultiLock(["a"]).acquire(num_locks=2), "num_locks is 2, expected 1 to 1"),
        (lambda: Semaphore(0), "max_leases is 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_call(make: Any, found: str) -> None:
    with pytest.raises(InvalidArgument, match=found):
        make()


def test_a_timeout_is_a_number(two: Two) -> None:
    with pytest.raises(InvalidArgument, match="found 'soon' where a time"):
        Lock("x", client=two[0]).acquire(timeout="soon")
