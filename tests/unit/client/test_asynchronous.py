"""Clients in event loops."""

from __future__ import annotations

import asyncio
import gc
import operator
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from zcluster.client.asynchronous import PLAIN, Awaiting, awaitable_class, run_here
from zcluster.client.client import Client
from zcluster.client.completing import as_completed
from zcluster.client.waiting import FIRST_COMPLETED, wait
from zcluster.errors import ClientClosed, InvalidArgument, NoWorkers, StartError
from zcluster.protocol.messages import Nodes, Retry

Play = Callable[[Callable[[Any], Awaitable[Any]]], Any]


@pytest.fixture
def play(cluster: Any) -> Play:
    """Return a function that has a coroutine function use an asynchronous client."""

    def play(scene: Callable[[Any], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with Client(cluster.address, asynchronous=True) as client:
                async with asyncio.timeout(20):
                    return await scene(client)

        return asyncio.run(main())

    return play


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def test_it_is_a_client_of_the_same_name(play: Play) -> None:
    async def scene(client: Any) -> None:
        assert isinstance(client, Client)
        assert type(client).__name__ == "Client"
        assert (client.asynchronous, Client.asynchronous) == (True, False)
        assert repr(client).startswith("<Client: 'ipc://")

    play(scene)
    assert awaitable_class(Client) is awaitable_class(Client)
    assert awaitable_class(awaitable_class(Client)) is awaitable_class(Client)


def test_results_are_awaited(play: Play) -> None:
    async def scene(client: Any) -> None:
        future = client.submit(operator.neg, 1)
        assert await future == -1
        assert await future == -1
        assert await future.result() == -1
        assert await future.exception() is None
        assert await future.traceback() is None
        bad = client.submit(operator.truediv, 1, 0)
        for waiting in (bad, bad.result(), client.gather([future, bad])):
            with pytest.raises(ZeroDivisionError):
                await waiting
        assert isinstance(await bad.exception(), ZeroDivisionError)
        assert await bad.traceback() is (await bad.exception()).__traceback__
        assert await client.gather({"a": [future, bad]}, errors="skip") == {"a": [-1]}
        with pytest.raises(InvalidArgument, match="errors is"):
            await client.gather([], errors="no")

    play(scene)


def test_waiting_for_tasks_takes_no_thread(play: Play, cluster: Any) -> None:
    async def scene(client: Any) -> None:
        cluster.is_holding = True
        futures = client.map(operator.neg, range(200))
        before = threads()
        waiting = asyncio.gather(*futures, client.gather(futures), wait(futures))
        await asyncio.sleep(0)
        assert threads() <= before
        cluster.let_go()
        *values, gathered, waited = await waiting
        assert values == gathered == [-n for n in range(200)]
        assert waited.done == set(futures)

    play(scene)


@pytest.mark.parametrize("is_local", [True, False])
def test_large_results_come_without_holding_up_the_loop(
    make_cluster: Callable[..., Any], is_local: bool
) -> None:
    cluster = make_cluster(is_local=is_local)

    async def main() -> None:
        async with Client(cluster.address, asynchronous=True) as client:
            futures = [client.submit(np.arange, n) for n in (100_000, 10, 200_000)]
            assert [value.size for value in await client.gather(futures)] == [100_000, 10, 200_000]
            assert (await futures[0])[-1] == 99_999

    asyncio.run(main())


def test_a_timeout_ends_the_wait_and_not_the_task(play: Play, cluster: Any) -> None:
    async def scene(client: Any) -> None:
        cluster.is_holding = True
        future = client.submit(operator.neg, 1)
        for waiting in (future, client.gather(future), wait(future), future.exception()):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await waiting
        assert future.status == "pending"
        assert future._record.watchers is None
        with pytest.raises(TimeoutError, match=r"not finished after 0\.01 s"):
            await future.result(timeout=0.01)
        with pytest.raises(TimeoutError, match=r"not finished after 0\.01 s"):
            await future.exception(timeout=0.01)
        cluster.let_go()
        assert await future == -1

    play(scene)


def test_cancelling_the_task_is_an_error_of_its_own(play: Play, cluster: Any) -> None:
    """It must not look as if the coroutine that waits had been cancelled."""

    async def scene(client: Any) -> None:
        cluster.is_holding = True
        first, second = client.map(operator.neg, [1, 2])
        assert await first.cancel("enough")
        await client.cancel([second])
        for future in (first, second):
            with pytest.raises(CancelledError):
                await future

    play(scene)


def test_a_failed_task_can_be_retried(play: Play, cluster: Any) -> None:
    async def scene(client: Any) -> None:
        future = client.submit(operator.truediv, 1, 0)
        assert await future.exception() is not None
        cluster.is_holding = True
        await future.retry()
        assert future.status == "pending"
        cluster.until(lambda: cluster.told(Retry))

    play(scene)


def test_waiting_for_the_first(play: Play, cluster: Any) -> None:
    async def scene(client: Any) -> None:
        done = client.submit(operator.neg, 1)
        await done
        cluster.is_holding = True
        slow = client.submit(operator.neg, 2)
        assert await wait([slow, done], return_when=FIRST_COMPLETED) == ({done}, {slow})
        with pytest.raises(TimeoutError, match="0 of 1 futures were done"):
            await wait(slow, 0.01)
        assert await wait([]) == (set(), set())

    play(scene)


def test_futures_as_they_complete(play: Play, cluster: Any) -> None:
    async def scene(client: Any) -> None:
        futures = client.map(operator.neg, range(5))
        assert {await future async for future in as_completed(futures)} == {0, -1, -2, -3, -4}
        pairs = {f: v async for f, v in as_completed(futures, with_results=True)}
        assert [pairs[future] for future in futures] == [0, -1, -2, -3, -4]
        seen = []
        async for batch in as_completed(futures).batches():
            seen += batch
        assert set(seen) == set(futures)
        assert [future async for future in as_completed([])] == []
        bad = client.submit(operator.truediv, 1, 0)
        with pytest.raises(ZeroDivisionError):
            await anext(as_completed([bad], with_results=True))
        cluster.is_holding = True
        slow = as_completed(client.map(operator.neg, [7, 8]), timeout=0.01)
        with pytest.raises(TimeoutError, match="2 futures are not done"):
            await anext(slow)

    play(scene)


def test_as_completed_grows_while_it_is_awaited(play: Play, cluster: Any) -> None:
    async def scene(client: Any) -> None:
        cluster.is_holding = True
        it = as_completed([client.submit(operator.neg, 1)])
        waiting = asyncio.ensure_future(anext(it))
        await asyncio.sleep(0)
        it.add(client.submit(operator.neg, 2))
        cluster.let_go()
        assert {await (await waiting), *[await f async for f in it]} == {-1, -2}

    play(scene)


def test_an_iteration_that_was_given_up_can_go_on(play: Play, cluster: Any) -> None:
    async def scene(client: Any) -> None:
        cluster.is_holding = True
        it = as_completed([client.submit(operator.neg, 1)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(it)
        assert it._gates == []
        cluster.let_go()
        assert await (await anext(it)) == -1

    play(scene)


def test_what_asks_the_scheduler_is_awaited(play: Play, cluster: Any) -> None:
    cluster.answers["who_has"] = lambda ask: {str(ask.tasks[0]): ["node0"]}

    async def scene(client: Any) -> None:
        future = client.submit(operator.neg, 1)
        assert await client.who_has([future]) == {future.key: ["node0"]}
        assert await client.nthreads() == {"worker0": 2}
        (scattered,) = await client.scatter([np.arange(10)])
        assert (await client.submit(np.sum, scattered)) == 45
        assert await client.get({"x": 1, "y": (operator.neg, "x")}, ["y", "x"]) == [-1, 1]
        with pytest.raises(TypeError):
            await client.gather()

    play(scene)


def test_workers_are_waited_for(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster(nodes=2)
    late = cluster.nodes.pop(1)

    async def main() -> None:
        async with Client(cluster.address, asynchronous=True) as client:
            await client.wait_for_workers(1, timeout=5)
            with pytest.raises(NoWorkers, match=r"found 1 workers after 0\.02 s, expected 2"):
                await client.wait_for_workers(2, timeout=0.02)
            waiting = asyncio.ensure_future(client.wait_for_workers(2, timeout=5))
            await asyncio.sleep(0)
            cluster.say(Nodes([late.info], []))
            await waiting

    asyncio.run(main())
    cluster.nodes[1] = late


def test_what_never_waits_is_called_as_ever(play: Play) -> None:
    async def scene(client: Any) -> None:
        assert client.status == "running"
        assert "worker0" in client.scheduler_info()["workers"] or client.scheduler_info()
        with client.get_executor() as executor:
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(executor, operator.neg, 1) == -1
            # It blocks, as the standard's does.
            assert list(executor.map(operator.neg, [1, 2])) == [-1, -2]

    play(scene)
    assert {"submit", "map", "get_executor"} <= PLAIN


def test_in_a_thread_it_waits_as_any_client(play: Play) -> None:
    async def scene(client: Any) -> None:
        future = client.submit(operator.neg, 1)

        def work() -> Any:
            inner = client.submit(operator.neg, 2).result(5)
            return inner, client.gather([future]), wait(future, 5).done, client.nthreads()

        assert await asyncio.to_thread(work) == (-2, [-1], {future}, {"worker0": 2})

    play(scene)


def test_it_can_be_awaited_instead_of_entered(cluster: Any) -> None:
    async def main() -> None:
        made: Any = Client(cluster.address, asynchronous=True)
        assert repr(made) == "<Client: not connected yet>"
        with pytest.raises(AttributeError, match="`await` it first"):
            made.submit(operator.neg, 1)
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            made.nothing  # noqa: B018
        with pytest.raises(TypeError, match="use `async with`"), made:
            pass
        one, other = await asyncio.gather(made, made)
        assert one is other is made
        future = made.submit(operator.neg, 1)
        assert await future == -1
        pending = made.submit(operator.neg, future)
        cluster.is_holding = True
        pending = made.submit(operator.neg, 5)
        await made.close()
        await made.close()
        assert made.status == "closed"
        with pytest.raises(ClientClosed):
            await pending

    asyncio.run(main())


def test_one_that_never_connected_is_closed_at_once() -> None:
    async def main() -> None:
        made: Any = Client("ipc:///nowhere/at/all", asynchronous=True)
        await made.close()
        with pytest.raises(StartError):
            await Client("ipc:///nowhere/at/all", asynchronous=True, timeout=0.05)  # type: ignore[misc]

    asyncio.run(main())


def test_a_blocking_client_works_beside_a_running_loop(client: Client) -> None:
    """As in a cell of a notebook."""

    async def main() -> None:
        future = client.submit(operator.neg, 1)
        assert future.result(5) == -1
        assert client.gather([future]) == [-1]
        assert wait(future, 5).done == {future}
        assert [f.result() for f in as_completed([future])] == [-1]
        assert await future == -1
        assert [await f async for f in as_completed(client.map(operator.neg, [2]))] == [-2]

    asyncio.run(main())


def test_sync_waits_for_what_a_function_gives(client: Client, play: Play) -> None:
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    assert client.sync(double, 4) == 8
    assert client.sync(operator.neg, 4) == -4

    async def inside() -> Any:
        return client.sync(double, x=5)

    assert asyncio.run(inside()) == 10
    with pytest.raises(TimeoutError):
        client.sync(asyncio.sleep, 5, callback_timeout=0.01)

    async def scene(awaiting: Any) -> None:
        assert await awaiting.sync(double, 6) == 12
        assert await client.sync(double, 6, asynchronous=True) == 12
        with pytest.raises(TypeError, match="not asynchronous"):
            async with client:
                pass

    play(scene)


def test_what_is_awaitable_is_waited_for_anywhere() -> None:
    async def answer() -> int:
        return 42

    assert run_here(answer()) == 42


def test_users_classes_can_be_asynchronous_too(cluster: Any) -> None:
    class Mine(Client):
        def ask(self, x: int) -> Any:
            """Wait for something."""
            return self.submit(operator.neg, x).result(5)

    async def main() -> None:
        async with Mine(cluster.address, asynchronous=True) as client:
            assert isinstance(client, Mine)
            assert isinstance(client, Awaiting)
            assert await client.ask(3) == -3

    asyncio.run(main())
    with Mine(cluster.address) as plain:
        assert isinstance(plain, Mine)
        assert plain.ask(4) == -4


def test_an_abandoned_wait_leaves_nothing(play: Play, cluster: Any) -> None:
    """The loop may be closed before the task is done."""

    async def scene(client: Any) -> Any:
        cluster.is_holding = True
        future = client.submit(operator.neg, 1)
        waiting = asyncio.ensure_future(client.gather(future))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert future._record.watchers is None

    play(scene)
    gc.collect()
