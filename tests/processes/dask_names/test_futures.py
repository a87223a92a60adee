"""Dask's names of futures, and of waiting for them."""

from __future__ import annotations

import asyncio
import operator
import queue
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest

import zcluster
from zcluster.distributed import (
    Client,
    Event,
    Future,
    Lock,
    Queue,
    Variable,
    as_completed,
    fire_and_forget,
    futures_of,
    progress,
    wait,
)

pytestmark = pytest.mark.processes


def inc(x: int) -> int:
    return x + 1


def divide(x: float, y: float) -> float:
    return x / y


# ------------------------------------------------------------------------------ one future


@pytest.mark.dask("Future.status", "Future.done", "Future.type", "Future.client")
def test_what_a_future_says(client: Client) -> None:
    gate = Event("says-gate")
    future = client.submit(Event.wait, gate, pure=False)
    assert not future.done()
    assert future.status == "pending"
    gate.set()
    assert future.result(timeout=10) is True
    assert future.done()
    assert future.status == "finished"
    assert future.type is bool
    assert future.client is client


@pytest.mark.dask("Future.__repr__")
def test_reprs(client: Client) -> None:
    future = client.submit(inc, 1)
    future.result()
    assert repr(future) == f"<Future: finished, type: int, key: {future.key}>"


@pytest.mark.dask("Future.exception", "Future.traceback")
def test_errors(client: Client) -> None:
    future = client.submit(divide, 1, 0)
    assert isinstance(future.exception(), ZeroDivisionError)
    assert "divide" in [frame.name for frame in traceback.extract_tb(future.traceback())]
    assert future.status == "error"
    fine = client.submit(divide, 1, 1)
    assert fine.exception() is None
    assert fine.traceback() is None


@pytest.mark.dask("distributed.TimeoutError")
def test_a_result_that_takes_too_long(client: Client) -> None:
    gate = Event("late-gate")
    future = client.submit(Event.wait, gate, pure=False)
    from zcluster.distributed import TimeoutError

    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        wait(future, timeout=0.05)
    gate.set()
    assert future.result(timeout=10) is True


@pytest.mark.dask("Future.add_done_callback")
def test_callbacks(client: Client) -> None:
    heard: queue.Queue[Future] = queue.Queue()
    future = client.submit(inc, 20)
    future.add_done_callback(heard.put)
    assert heard.get(timeout=10) is future
    future.add_done_callback(heard.put)
    assert heard.get(timeout=10).result() == 21


@pytest.mark.dask("Future.release")
def test_release(client: Client) -> None:
    future = client.submit(inc, 30, key="let-go")
    assert future.result() == 31
    assert "let-go" in client.who_has()
    future.release()
    tries = 0
    while "let-go" in client.who_has():  # what is let go is told in batches
        tries += 1
        assert client.submit(inc, 1000 + tries).result() == 1001 + tries


@pytest.mark.dask("distributed.KilledWorker")
def test_a_task_that_kills_its_worker() -> None:
    from zcluster.distributed import KilledWorker

    def end() -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    own = Client(n_workers=1, threads_per_worker=1, set_as_default=False)
    with own, pytest.raises(KilledWorker):
        own.submit(end).result(timeout=30)


# ------------------------------------------------------------------------------------ wait


@pytest.mark.dask("distributed.wait")
def test_wait(client: Client) -> None:
    gate = Event("wait-gate")
    quick = client.submit(inc, 50)
    slow = client.submit(Event.wait, gate, pure=False)
    done, not_done = wait([quick, slow], return_when="FIRST_COMPLETED")
    assert (done, not_done) == ({quick}, {slow})
    gate.set()
    answer = wait([quick, slow], timeout=10)
    assert (answer.done, answer.not_done) == ({quick, slow}, set())


@pytest.mark.dask("distributed.progress")
def test_progress(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    futures = client.map(inc, range(60, 64))
    progress(futures)
    wait(futures)
    assert "100%" in "".join(capfd.readouterr())
    assert client.gather(futures) == [61, 62, 63, 64]


@pytest.mark.dask("distributed.fire_and_forget")
def test_fire_and_forget(client: Client) -> None:
    def tell(name: str) -> None:
        Variable(name).set("it ran")

    fire_and_forget(client.submit(tell, "forgotten"))
    assert Variable("forgotten").get(timeout=10) == "it ran"


@pytest.mark.dask("distributed.futures_of")
def test_futures_of(client: Client) -> None:
    future = client.submit(inc, 70)
    assert futures_of([1, {"a": future}, [future]]) == [future]
    (part,) = futures_of(client.persist(zcluster.delayed(inc)(71)))
    assert part.result() == 72


# ---------------------------------------------------------------------------- as_completed


@pytest.mark.dask("as_completed()", "distributed.as_completed")
def test_as_completed(client: Client) -> None:
    gate = Event("completed-gate")
    slow = client.submit(Event.wait, gate, pure=False)
    quick = client.submit(inc, 80)
    order = []
    for future in as_completed([slow, quick]):
        order.append(future)
        gate.set()
    assert order == [quick, slow]


@pytest.mark.dask("as_completed(with_results=)")
def test_as_completed_with_results(client: Client) -> None:
    futures = client.map(inc, range(90, 93))
    found = dict(as_completed(futures, with_results=True))
    assert [found[future] for future in futures] == [91, 92, 93]
    bad = client.submit(divide, 1, 0)
    with pytest.raises(ZeroDivisionError):
        list(as_completed([bad], with_results=True))


@pytest.mark.dask("as_completed.add", "as_completed.update")
def test_as_completed_grows(client: Client) -> None:
    seq = as_completed([client.submit(inc, 0)])
    found = []
    for future in seq:
        value = future.result()
        found.append(value)
        if value < 3:
            seq.add(client.submit(inc, value))
        elif value == 3:
            seq.update(client.map(inc, [100, 200]))
    assert found[:3] == [1, 2, 3]
    assert sorted(found[3:]) == [101, 201]


@pytest.mark.dask("as_completed.count", "as_completed.is_empty", "as_completed.clear")
def test_as_completed_counts(client: Client) -> None:
    seq = as_completed(client.map(inc, range(110, 113)))
    assert seq.count() == 3
    assert not seq.is_empty()
    next(seq)
    assert seq.count() == 2
    seq.clear()
    assert seq.count() == 0
    assert seq.is_empty()


@pytest.mark.dask("as_completed.has_ready", "as_completed.next_batch", "as_completed.batches")
def test_as_completed_in_batches(client: Client) -> None:
    gate = Event("batch-gate")
    slow = client.submit(Event.wait, gate, pure=False)
    futures = client.map(inc, range(120, 123))
    seq = as_completed([slow])
    assert not seq.has_ready()
    assert seq.next_batch(block=False) == []
    gate.set()
    assert seq.next_batch(block=True) == [slow]
    batches = list(as_completed(futures).batches())
    assert sorted(future.result() for batch in batches for future in batch) == [121, 122, 123]


@pytest.mark.dask("as_completed(timeout=)")
def test_as_completed_gives_up(client: Client) -> None:
    gate = Event("give-up-gate")
    slow = client.submit(Event.wait, gate, pure=False)
    from zcluster.distributed import TimeoutError

    with pytest.raises(TimeoutError):
        next(as_completed([slow], timeout=0.05))
    gate.set()
    assert slow.result(timeout=10) is True


# ---------------------------------------------------------------------------- asynchronous


@pytest.mark.dask(
    "Client(asynchronous=True)",
    "Future.__await__",
    "as_completed.__aiter__",
    "ActorFuture.__await__",
)
def test_asynchronous_client(client: Client) -> None:
    async def main() -> None:
        async with Client(client.cluster.scheduler_address, asynchronous=True) as own:
            assert own.asynchronous
            assert await own.submit(inc, 130) == 131
            futures = own.map(inc, range(3))
            assert await own.gather(futures) == [1, 2, 3]
            assert await futures[0].result() == 1
            seen = [await future.result() async for future in as_completed(futures)]
            assert sorted(seen) == [1, 2, 3]
            done, _ = await wait(futures)
            assert len(done) == 3
            counter = await own.submit(Counter, actor=True)
            assert await counter.add(2) == 2
            slow = own.submit(grow_old, pure=False)
            await own.cancel([slow])
            with pytest.raises(CancelledError):
                await slow
            lazy = zcluster.delayed(operator.add)(1, 2)
            assert await own.compute(lazy) == 3

    asyncio.run(main())


def grow_old() -> None:
    Event("nobody-sets-it").wait(timeout=1)


@pytest.mark.dask("await of locks, events and variables")
def test_asynchronous_coordination(client: Client) -> None:
    async def main() -> None:
        async with Client(client.cluster.scheduler_address, asynchronous=True):
            event: Any = Event("asynchronous-event")
            await event.set()
            assert await event.is_set()
            variable: Any = Variable("asynchronous-variable")
            async with Lock("asynchronous-lock"):
                await variable.set(1)
            assert await variable.get() == 1

    asyncio.run(main())


class Counter:
    n = 0

    def add(self, by: int) -> int:
        self.n += by
        return self.n


@pytest.mark.dask("Future._repr_html_")
def test_html(client: Client) -> None:
    future = client.submit(inc, 1)
    future.result()
    html = future._repr_html_()
    assert "finished" in html
    assert future.key in html


@pytest.mark.dask("as_completed(raise_errors=)")
def test_as_completed_with_errors(client: Client) -> None:
    bad = client.submit(divide, 1, 0)
    ((same, error),) = as_completed([bad], with_results=True, raise_errors=False)
    assert same is bad
    assert error[0] is ZeroDivisionError


@pytest.mark.dask("progress(notebook=)")
def test_progress_as_text(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    futures = client.map(inc, range(160, 164))
    progress(futures, notebook=False)
    wait(futures)
    assert "100%" in "".join(capfd.readouterr())


@pytest.mark.dask("timeout='10s'")
def test_timeouts_in_words(client: Client) -> None:
    from zcluster.distributed import TimeoutError

    gate = Event("words-gate")
    future = client.submit(Event.wait, gate, pure=False)
    attempts: list[Callable[[], Any]] = [
        lambda: wait(future, timeout="50ms"),
        lambda: next(as_completed([future], timeout="50ms")),
        lambda: Queue("words").get(timeout="50ms"),
        lambda: future.result(timeout="50ms"),
    ]
    for attempt in attempts:
        with pytest.raises(TimeoutError):
            attempt()
    gate.set()
    assert future.result(timeout=10)
