"""The client as a standard executor."""

from __future__ import annotations

import asyncio
import concurrent.futures as standard
import gc
import itertools
import operator
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from zcluster.client.client import Client
from zcluster.client.executor import ClientExecutor
from zcluster.errors import ClientClosed, InvalidArgument, NotSerializable
from zcluster.protocol.messages import Cancel


@pytest.fixture
def executor(client: Client) -> Iterator[ClientExecutor]:
    with client.get_executor() as made:
        yield made


class Thing:
    """Something a weak reference can be made to."""


class Spiteful:
    """Cannot be loaded where the result goes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_complain, ())


def _complain() -> None:
    if threading.current_thread().name == "zcluster-executor":
        raise ValueError("not here")


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def thing(_: Any) -> Thing:
    return Thing()


def fail(x: int) -> None:
    raise OSError(x, "no such thing")


def test_its_futures_are_the_standard_librarys(executor: ClientExecutor) -> None:
    assert isinstance(executor, standard.Executor)
    future = executor.submit(operator.neg, 3)
    assert type(future) is standard.Future
    assert future.result(5) == -3
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert executor._max_workers == 2
    assert repr(executor).startswith("<ClientExecutor of <Client")


def test_every_keyword_is_the_functions(executor: ClientExecutor) -> None:
    kwargs = {"self": 1, "fn": 2, "key": 3, "workers": 4, "priority": 5, "pure": 6, "func": 7}
    assert executor.submit(echo, 0, **kwargs).result(5) == ((0,), kwargs)
    assert executor.submit(echo, fn=1, self=2).result(5) == ((), {"fn": 1, "self": 2})


def test_a_call_needs_a_function(executor: ClientExecutor) -> None:
    with pytest.raises(TypeError):
        executor.submit()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        executor.submit(fn=1)  # type: ignore[call-arg]
    with pytest.raises(InvalidArgument, match="expected a callable"):
        executor.submit(5)  # type: ignore[arg-type]
    with pytest.raises(NotSerializable):
        executor.submit(echo, threading.Lock())


def test_equal_calls_are_made_each_time_unless_pure(client: Client) -> None:
    with client.get_executor() as executor:
        tasks = [link.task for link in _links(executor, 2)]
    assert tasks[0]._record is not tasks[1]._record
    with client.get_executor(pure=True) as executor:
        tasks = [link.task for link in _links(executor, 2)]
    assert tasks[0]._record is tasks[1]._record


def _links(executor: ClientExecutor, count: int) -> list[Any]:
    links: list[Any] = []
    follow = executor._handing.follow

    def note(task: Any) -> Any:
        links.append(type("Link", (), {"task": task}))
        return follow(task)

    executor._handing.follow = note  # type: ignore[method-assign]
    standard.wait([executor.submit(operator.neg, 1) for _ in range(count)], 5)
    return links


def test_options_are_those_of_submit(client: Client, cluster: Any) -> None:
    with client.get_executor(priority=3, retries=1) as executor:
        assert executor.submit(operator.neg, 1).result(5) == -1
        assert list(executor.map(operator.neg, [1, 2])) == [-1, -2]
    for wrong in ({"key": "k"}, {"worker": "x"}):
        with pytest.raises(InvalidArgument, match="an executor has no option"):
            client.get_executor(**wrong)


def test_standard_functions_wait_for_its_futures(executor: ClientExecutor, cluster: Any) -> None:
    first = executor.submit(operator.neg, 1)
    assert first.result(5) == -1
    cluster.is_holding = True
    second = executor.submit(operator.neg, 2)
    done, left = standard.wait([first, second], 5, standard.FIRST_COMPLETED)
    assert (done, left) == ({first}, {second})
    assert standard.wait([second], 0.01).done == set()
    with pytest.raises(TimeoutError):
        second.result(0.01)
    cluster.let_go()
    assert {f.result() for f in standard.as_completed([first, second], 5)} == {-1, -2}
    bad = executor.submit(operator.truediv, 1, 0)
    done, _ = standard.wait([bad, first], 5, standard.FIRST_EXCEPTION)
    assert bad in done


def test_an_event_loop_runs_calls_in_it(executor: ClientExecutor) -> None:
    async def main() -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        one = await loop.run_in_executor(executor, operator.neg, 1)
        two = await asyncio.wrap_future(executor.submit(operator.neg, 2))
        return one, two

    assert asyncio.run(main()) == (-1, -2)


def test_an_exception_keeps_its_type_and_fields_and_names_its_place(
    executor: ClientExecutor,
) -> None:
    future = executor.submit(fail, 7)
    error = future.exception(5)
    assert type(error) is OSError
    assert (error.errno, error.strerror) == (7, "no such thing")
    assert "on worker worker0" in "".join(traceback.format_exception(error))
    with pytest.raises(OSError, match="no such thing"):
        future.result(5)


def test_a_result_that_cannot_be_loaded_is_an_exception(executor: ClientExecutor) -> None:
    with pytest.raises(ValueError, match="not here"):
        executor.submit(Spiteful).result(5)
    assert executor.submit(operator.neg, 1).result(5) == -1


def test_a_large_result_is_fetched_without_being_asked_for(executor: ClientExecutor) -> None:
    future = executor.submit(np.arange, 100_000)
    arrived = threading.Event()
    future.add_done_callback(lambda _: arrived.set())
    assert arrived.wait(5)
    assert future.result(0).sum() == sum(range(100_000))


def test_cancelling_a_future_cancels_its_task(executor: ClientExecutor, cluster: Any) -> None:
    cluster.is_holding = True
    future = executor.submit(operator.neg, 1)
    called: list[Any] = []
    future.add_done_callback(called.append)
    assert future.cancel()
    assert future.cancel()
    assert called == [future]
    # Told to those who wait as well, as a standard executor does.
    assert standard.wait([future], 5).done == {future}
    with pytest.raises(standard.CancelledError):
        future.result(5)
    cluster.until(lambda: cluster.told(Cancel))
    cluster.let_go()
    done = executor.submit(operator.neg, 2)
    assert done.result(5) == -2
    assert not done.cancel()


def test_cancelling_a_task_cancels_its_future(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    with client.get_executor() as executor:
        future = executor.submit(operator.neg, 1)
        (link,) = executor._handing._links
        client.cancel(link.task)
        assert standard.wait([future], 5).done == {future}
        assert future.cancelled()


def test_the_end_of_the_client_is_the_exception_of_what_is_open(cluster: Any) -> None:
    cluster.is_holding = True
    with Client(cluster.address) as client:
        executor = client.get_executor()
        future = executor.submit(operator.neg, 1)
    with pytest.raises(ClientClosed):
        future.result(5)
    with pytest.raises(ClientClosed):
        executor.submit(operator.neg, 1)
    executor.shutdown()


def test_after_its_shutdown_it_takes_nothing_and_the_client_goes_on(client: Client) -> None:
    with client.get_executor() as executor:
        future = executor.submit(operator.neg, 1)
    assert future.done()
    executor.shutdown()
    assert repr(executor).endswith("shut down>")
    for call in (lambda: executor.submit(abs, 1), lambda: executor.map(abs, [1])):
        with pytest.raises(RuntimeError, match="after shutdown"):
            call()
    assert client.submit(operator.neg, 1).result(5) == -1


def test_a_shutdown_waits_for_what_was_submitted(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    executor = client.get_executor()
    future = executor.submit(operator.neg, 1)
    results = executor.map(operator.neg, range(5))
    executor.shutdown(wait=False)
    assert not future.done()
    letting_go = threading.Thread(target=cluster.let_go)
    letting_go.start()
    executor.shutdown()
    letting_go.join()
    assert future.done()
    assert list(results) == [0, -1, -2, -3, -4]


def test_a_shutdown_can_cancel(client: Client, cluster: Any) -> None:
    executor = client.get_executor()
    done = executor.submit(operator.neg, 1)
    assert done.result(5) == -1
    cluster.is_holding = True
    open_ = [executor.submit(operator.neg, number) for number in range(5)]
    results = executor.map(operator.neg, range(5))
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in open_)
    assert done.result() == -1
    with pytest.raises(standard.CancelledError):
        next(results)


def test_map_gives_results_in_order(executor: ClientExecutor) -> None:
    assert list(executor.map(pow, range(10), range(10))) == [n**n for n in range(10)]
    assert list(executor.map(pow, range(10), itertools.repeat(2))) == [n**2 for n in range(10)]
    assert list(executor.map(operator.neg, [])) == []
    assert list(executor.map(pow, range(10), range(10), chunksize=3)) == [n**n for n in range(10)]
    assert list(executor.map(operator.neg, [], chunksize=3)) == []
    assert list(executor.map(operator.neg, range(4), chunksize=100)) == [0, -1, -2, -3]


def test_map_raises_where_the_failing_call_stands(executor: ClientExecutor) -> None:
    for chunksize in (1, 2):
        results = executor.map(divmod, [1, 1, 1, 1], [1, 1, 0, 1], chunksize=chunksize)
        assert [next(results), next(results)] == [(1, 0), (1, 0)]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(results) == []


def test_map_ends_with_its_time(client: Client, cluster: Any) -> None:
    executor = client.get_executor()
    results = executor.map(operator.neg, [1], timeout=5)
    assert list(results) == [-1]
    cluster.is_holding = True
    results = executor.map(operator.neg, [1, 2], timeout=0.02)
    with pytest.raises(TimeoutError):
        next(results)
    # It gave up, so nobody needs them.
    cluster.until(lambda: sum(len(message.tasks) for message in cluster.told(Cancel)) == 2)
    executor.shutdown()


def test_what_map_was_asked_for_is_done_though_nobody_keeps_it(
    client: Client, cluster: Any
) -> None:
    cluster.is_holding = True
    executor = client.get_executor()
    executor.map(operator.neg, range(5))
    gc.collect()
    assert len(executor._mapped.futures) == 5
    cluster.let_go()
    executor.shutdown()
    assert executor._mapped.futures == []
    assert cluster.told(Cancel) == []


def test_map_can_read_endless_iterables_as_it_needs_them(executor: ClientExecutor) -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    results = executor.map(operator.neg, numbers(), buffersize=3)
    assert len(read) == 3
    assert [next(results) for _ in range(4)] == [0, -1, -2, -3]
    assert len(read) == 7
    results.close()  # type: ignore[attr-defined]
    chunked = executor.map(operator.neg, iter(range(7)), chunksize=2, buffersize=2)
    assert list(chunked) == [-n for n in range(7)]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": -1}, ValueError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": 1.5}, TypeError),
    ],
)
def test_sizes_that_cannot_be_meant_are_refused(
    executor: ClientExecutor, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match="expected"):
        executor.map(operator.neg, [1], **options)


def _is_gone(ref: weakref.ref[Any]) -> bool:
    """Wait for another thread's frame to let go; no collector is asked."""
    deadline = time.monotonic() + 5
    while ref() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    return ref() is None


def test_results_are_nobodys_but_their_users(client: Client) -> None:
    executor = client.get_executor()
    gc.disable()
    try:
        for chunksize in (1, 3):
            for result in executor.map(thing, range(10), chunksize=chunksize):
                ref = weakref.ref(result)
                del result
                assert _is_gone(ref)
        future = executor.submit(thing, 0)
        ref = weakref.ref(future.result(5))
        del future
        assert _is_gone(ref)
    finally:
        gc.enable()
    executor.shutdown()


def test_a_task_is_released_once_its_result_was_handed_over(
    executor: ClientExecutor, cluster: Any
) -> None:
    future = executor.submit(np.arange, 100_000)
    assert future.result(5)[-1] == 99_999
    cluster.until(lambda: len(cluster.released) == 1)
    assert future.result(0)[-1] == 99_999


def test_its_thread_ends_with_it_and_not_before_its_futures(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    executor = client.get_executor()
    future = executor.submit(operator.neg, 1)
    thread = executor._handing._callbacks._thread
    assert thread is not None
    assert thread.is_alive()
    del executor
    gc.collect()
    cluster.let_go()
    assert future.result(5) == -1
    del future
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_a_callback_of_a_client_may_wait_for_an_executor(
    client: Client, executor: ClientExecutor
) -> None:
    seen: list[int] = []
    done = threading.Event()

    def wait_for_another(_: Any) -> None:
        seen.append(executor.submit(operator.neg, 2).result(5))
        done.set()

    client.submit(operator.neg, 1).add_done_callback(wait_for_another)
    assert done.wait(5)
    assert seen == [-2]


def test_many_threads_may_submit(executor: ClientExecutor) -> None:
    found: list[int] = []

    def submit(first: int) -> None:
        futures = [executor.submit(operator.neg, first + n) for n in range(50)]
        found.extend(-future.result(5) for future in futures)

    threads = [threading.Thread(target=submit, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [100 * n + m for n in range(4) for m in range(50)]


def test_a_callback_that_raises_harms_nobody(
    executor: ClientExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    future = executor.submit(operator.neg, 1)
    raising: Callable[[Any], Any] = lambda _: 1 / 0  # noqa: E731
    future.add_done_callback(raising)
    assert future.result(5) == -1
    assert executor.submit(operator.neg, 2).result(5) == -2
