"""Actors in real workers: called from everywhere, in order, and lost with their worker."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zcluster.distributed import Actor, ActorFuture, Client, get_client, get_worker
from zcluster.errors import ActorLost, ResultNotSerializable

pytestmark = pytest.mark.processes

Until = Callable[..., None]


class Counter:
    """Counts; the usual example."""

    def __init__(self, start: int = 0) -> None:
        self.n = start
        self.order: list[int] = []

    def increment(self, by: int = 1) -> int:
        self.n += by
        return self.n

    def note(self, number: int) -> None:
        self.order.append(number)

    def slowly(self, path: str) -> str:
        while not os.path.exists(path):
            time.sleep(0.005)
        return path

    def threads(self) -> tuple[int, str]:
        return threading.get_ident(), get_worker().name

    def fail(self) -> None:
        raise ValueError("counted wrongly")

    def die(self) -> None:
        os._exit(5)

    async def later(self, by: int) -> int:
        await asyncio.sleep(0)
        return self.increment(by)

    def add_of(self, other: Any) -> int:
        self.other = other
        return self.n + int(other.increment(0).result())

    def ask_other(self) -> int:
        return int(self.other.increment(0).result())

    def total(self, array: Any) -> Any:
        return array + self.n

    def generator(self) -> Any:
        return (x for x in "ab")


class Witness:
    """Writes down its end."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __del__(self) -> None:
        Path(self.path).touch()


class Broken:
    def __init__(self) -> None:
        raise RuntimeError("not made")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=2, threads_per_worker=1) as made:
        yield made


@pytest.fixture
def fresh() -> Iterator[Client]:
    """Return a client of a cluster for one test, which may end workers."""
    with Client(n_workers=2, threads_per_worker=1) as made:
        yield made


@pytest.fixture
def counter(client: Client) -> Any:
    return client.submit(Counter, actor=True).result(10)


def test_methods_and_attributes(counter: Any) -> None:
    assert isinstance(counter, Actor)
    call = counter.increment()
    assert isinstance(call, ActorFuture)
    assert call.result(10) == 1
    assert call.done()
    assert counter.increment(by=4).result(10) == 5
    assert counter.n == 5
    assert {"increment", "fail"} <= set(dir(counter))
    assert "Counter" in repr(counter)
    assert "Counter.increment, done" in repr(call)
    with pytest.raises(AttributeError, match="nothing_such"):
        counter.nothing_such  # noqa: B018 - reading it asks the object


def test_actors_are_spread_over_the_workers(client: Client) -> None:
    counts = []
    for _ in range(6):
        futures = [client.submit(Counter, actor=True) for _ in range(10)]
        places = [counter.threads().result(20)[1] for counter in client.gather(futures)]
        counts.append(sorted(places.count(name) for name in client.nthreads()))
        # Mostly five each; a worker that a busy machine keeps from its work for a second is
        # passed over, and the end of actors of another test may not have been heard of.
        if counts[-1][0] >= 3:
            break
    assert counts[-1][0] >= 3, counts


def test_both_spellings_and_arguments(client: Client) -> None:
    made = client.submit(Counter, start=7, actors=True, pure=True).result(10)
    assert made.n == 7
    named = client.submit(Counter, 1, actor=True, key="my-counter")
    assert named.key == "my-counter"
    assert named.result(10).n == 1


def test_calls_are_made_in_order_and_one_at_a_time(counter: Any) -> None:
    calls = [counter.note(number) for number in range(500)]
    assert counter.order == list(range(500))
    assert all(call.done() for call in calls)
    assert len({counter.threads().result(10) for _ in range(20)}) == 1


def test_an_actor_answers_while_the_slots_are_busy(client: Client, tmp_path: Path) -> None:
    counter = client.submit(Counter, actor=True).result(10)
    path = str(tmp_path / "go")
    waiting = [client.submit(Counter.slowly, None, path, pure=False) for _ in range(4)]
    assert counter.increment().result(10) == 1
    Path(path).touch()
    assert client.gather(waiting) == [path] * 4


def test_errors_come_to_whoever_asks(counter: Any) -> None:
    call = counter.fail()
    with pytest.raises(ValueError, match="counted wrongly") as caught:
        call.result(10)
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-1] == "fail"
    assert any("Counter.fail" in note for note in caught.value.__notes__)
    assert isinstance(call.exception(), ValueError)
    assert counter.increment().exception(10) is None
    with pytest.raises(ResultNotSerializable, match="generator"):
        counter.generator().result(10)
    with pytest.raises(TypeError):
        counter.increment(1, 2, 3).result(10)


def test_one_that_cannot_be_made_fails_as_any_task(client: Client) -> None:
    with pytest.raises(RuntimeError, match="not made"):
        client.submit(Broken, actor=True).result(10)


def test_callbacks_timeouts_and_event_loops(counter: Any, tmp_path: Path, until: Until) -> None:
    path = tmp_path / "go"
    call = counter.slowly(str(path))
    seen: list[Any] = []
    call.add_done_callback(lambda future: seen.append(future.result()))
    with pytest.raises(TimeoutError, match=r"Counter\.slowly was not done"):
        call.result(0.01)
    path.touch()
    assert call.result(10) == str(path)
    call.add_done_callback(lambda future: seen.append("late"))
    until(lambda: len(seen) == 2)
    assert seen == [str(path), "late"]

    async def main() -> list[int]:
        return list(await asyncio.gather(*[counter.later(1) for _ in range(5)]))

    assert asyncio.run(main()) == [1, 2, 3, 4, 5]


def test_large_arguments_and_results(counter: Any) -> None:
    array = np.arange(1_000_000)
    assert np.array_equal(counter.total(array).result(20), array)


# --------------------------------------------------------------------- in other hands


def use(counter: Any, times: int = 1) -> int:
    for _ in range(times):
        found = counter.increment().result(20)
    return int(found)


def test_tasks_on_any_worker_call_it(client: Client) -> None:
    future = client.submit(Counter, actor=True)
    counter = future.result(10)
    workers = sorted(client.nthreads())
    tasks = [client.submit(use, counter, 10, workers=name) for name in workers]
    tasks += [client.submit(use, future, 10, workers=name, pure=False) for name in workers]
    client.gather(tasks)
    assert counter.n == 40


def test_equal_calls_with_an_actor_are_not_one(client: Client, counter: Any) -> None:
    """Pure calls share results; one that has a state in it is another call each time."""
    assert client.submit(use, counter).result(20) == 1
    assert client.submit(use, counter).result(20) == 2


def test_actors_call_each_other(client: Client) -> None:
    one = client.submit(Counter, 1, actor=True).result(10)
    two = client.submit(Counter, 2, actor=True).result(10)
    assert one.add_of(two).result(20) == 3
    del two  # the other one holds it
    gc.collect()
    client.statistics()  # heard after the release
    assert one.ask_other().result(20) == 2


def test_it_comes_back_from_tasks_and_copies_are_the_same_one(client: Client, counter: Any) -> None:
    back = client.submit(lambda x: [x], counter).result(20)[0]
    assert back == counter
    assert hash(back) == hash(counter)
    assert back.increment().result(10) == 1
    copy = pickle.loads(pickle.dumps(counter))
    assert copy.increment().result(10) == 2


def make_in_task() -> int:
    counter = get_client().submit(Counter, 10, actor=True).result()
    found: int = counter.increment().result()
    return found


def test_tasks_make_actors_too(client: Client) -> None:
    assert client.submit(make_in_task, pure=False).result(20) == 11


def test_other_clients_call_it(client: Client, counter: Any) -> None:
    with Client(client.cluster, set_as_default=False) as other:
        assert other.submit(abs, -1).result(10) == 1
        assert counter.increment().result(10) == 1


# -------------------------------------------------------------------------- ends


def test_the_last_one_who_lets_go_ends_it(client: Client, tmp_path: Path, until: Until) -> None:
    path = tmp_path / "gone"
    future = client.submit(Witness, str(path), actor=True)
    witness = future.result(10)
    del future
    gc.collect()
    assert witness.path == str(path)
    assert not path.exists()
    del witness
    until(path.exists, 10, "the end of the actor")


def test_one_that_nobody_waits_for_any_more_goes_too(
    client: Client, tmp_path: Path, until: Until
) -> None:
    """It is made after its future went: what it gives is not wanted, and it must not stay."""

    def make(path: str, go: str) -> Witness:
        Path(path + ".began").touch()
        while not os.path.exists(go):
            time.sleep(0.005)
        return Witness(path)

    path, go = tmp_path / "gone", tmp_path / "go"
    future = client.submit(make, str(path), str(go), actor=True)
    until(Path(str(path) + ".began").exists, 10, "the beginning")
    future.cancel()
    client.statistics()
    go.touch()
    until(path.exists, 10, "the end of the actor")


def test_it_is_lost_with_its_worker_and_not_made_again(fresh: Client, tmp_path: Path) -> None:
    log = tmp_path / "made"

    def make(path: str) -> Counter:
        with open(path, "a") as file:
            file.write("made\n")
        return Counter()

    future = fresh.submit(make, str(log), actor=True)
    counter = future.result(10)
    task = fresh.submit(Counter.slowly, counter, str(tmp_path / "never"), pure=False)
    calls = [counter.die(), counter.increment()]
    for call in calls:
        with pytest.raises(ActorLost, match="submit its class again"):
            call.result(10)
    with pytest.raises(ActorLost):
        counter.increment().result(10)
    with pytest.raises(ActorLost):
        counter.n  # noqa: B018 - reading it asks the object
    with pytest.raises(ActorLost):
        future.result(10)
    with pytest.raises(ActorLost):
        task.result(10)
    assert future.status == "error"
    assert log.read_text() == "made\n"
    fresh.wait_for_workers(2, 20)
    again = fresh.submit(make, str(log), actor=True).result(10)
    assert again.increment().result(10) == 1


def test_a_retry_makes_it_anew(fresh: Client) -> None:
    future = fresh.submit(Counter, 3, actor=True)
    counter = future.result(10)
    with pytest.raises(ActorLost):
        counter.die().result(10)
    with pytest.raises(ActorLost):
        future.result(10)
    future.retry()
    assert future.result(20).increment().result(10) == 4


def test_a_restart_ends_actors(fresh: Client) -> None:
    counter = fresh.submit(Counter, actor=True).result(10)
    fresh.restart()
    with pytest.raises(ActorLost):
        counter.increment().result(10)
