"""Futures: what they tell, what they raise, when they let go."""

from __future__ import annotations

import gc
import operator
import pickle
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

from zcluster.client.client import Client
from zcluster.client.future import Future, fetch_values
from zcluster.client.gates import Deadline
from zcluster.errors import ClientClosed, DataLost, InvalidArgument, NotSerializable, SchedulerLost
from zcluster.protocol.messages import ErrorInfo, Failed, Release, Resolved, Retry, Unreachable
from zcluster.protocol.objects import plan

ANSWER = plan(42).tobytes()


def test_a_future_goes_from_pending_to_finished(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    future = client.submit(operator.neg, 3, key="mine")
    assert (future.status, future.done(), future.cancelled()) == ("pending", False, False)
    assert repr(future) == "<Future: pending, key: mine>"
    cluster.let_go()
    assert future.result(5) == -3
    assert (future.status, future.done(), future.client) == ("finished", True, client)
    assert repr(future) == "<Future: finished, type: int, key: mine>"
    assert future.exception() is None
    assert future.traceback() is None


def test_the_tasks_exception_is_raised_with_a_note(client: Client) -> None:
    future = client.submit(operator.truediv, 1, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        future.result(5)
    assert "on worker worker0 of node node0" in caught.value.__notes__[0]
    assert future.status == "error"
    assert isinstance(future.exception(), ZeroDivisionError)
    assert f"<Future: error, key: {future.key}>" == repr(future)
    with pytest.raises(ZeroDivisionError):
        client.submit(operator.neg, future).result(5)


def test_a_result_that_is_late_is_a_timeout_that_names_it(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    future = client.submit(operator.neg, 3, key="slow")
    for wait in (future.result, future.exception):
        with pytest.raises(TimeoutError, match=r"slow not finished after 0\.01 s"):
            wait(0.01)
    cluster.let_go()
    assert future.result(5) == -3


def test_each_result_is_the_users_own(client: Client) -> None:
    """Two calls of `result` never share what one of them may change."""
    future = client.submit(np.zeros, 3)
    first = future.result(5)
    first += 1
    assert future.result(5).sum() == 0


@pytest.mark.parametrize("is_local", [True, False])
def test_a_large_result_is_fetched_when_asked_for(
    make_cluster: Callable[..., Any], is_local: bool
) -> None:
    cluster = make_cluster(is_local=is_local)
    with Client(cluster.address) as client:
        future = client.submit(np.arange, 100_000)
        assert future.result(5).sum() == sum(range(100_000))
        again = future.result(5)
        again += 1
        assert future.result(5)[0] == 0
        assert "size: " in repr(future)


def test_a_holder_that_lost_the_result_is_reported_and_the_next_one_asked(
    make_cluster: Callable[..., Any],
) -> None:
    cluster = make_cluster(nodes=2)
    with Client(cluster.address) as client:
        future = client.submit(np.arange, 50_000)
        assert future.exception(5) is None
        cluster.do(cluster.nodes[0].ranges.clear)
        assert future.result(5).sum() == sum(range(50_000))
        assert cluster.told(Unreachable)[0].node == 0


def test_lost_data_is_an_error_of_its_own(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    future = client.submit(operator.neg, 3)
    info = ErrorInfo("lost", "", "its node is gone", "", 0, 1, "n", "w")
    cluster.say(Failed([future._record.task], [1], [0], [info]))
    with pytest.raises(DataLost, match="its node is gone"):
        future.result(5)
    assert future.status == "lost"


def test_cancelling_settles_a_future_at_once(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    future = client.submit(operator.neg, 3)
    needs_it = client.submit(operator.neg, future)
    assert future.cancel("not needed")
    assert future.status == "cancelled"
    with pytest.raises(CancelledError, match="not needed"):
        future.result(5)
    with pytest.raises(CancelledError):
        future.exception(5)
    with pytest.raises(CancelledError, match="not needed"):
        needs_it.result(5)


def test_a_finished_future_is_not_cancelled(client: Client) -> None:
    future = client.submit(operator.neg, 3)
    assert future.result(5) == -3
    assert not future.cancel()
    assert future.result(5) == -3


def test_a_failed_task_can_be_run_again(client: Client, cluster: Any) -> None:
    future = client.submit(operator.truediv, 1, 0)
    assert isinstance(future.exception(5), ZeroDivisionError)
    cluster.is_holding = True
    future.retry()
    assert future.status == "pending"
    cluster.until(lambda: [m.tasks for m in cluster.told(Retry)] == [[future._record.task]])
    cluster.say(Resolved([future._record.task], [len(ANSWER)], [], []), ANSWER)
    assert future.result(5) == 42
    future.retry()  # it did not fail
    assert future.result(5) == 42
    future.release()
    with pytest.raises(InvalidArgument, match="was released"):
        future.retry()


def test_the_type_of_a_result_is_known_once_it_is_here(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    future = client.submit(operator.neg, 3)
    assert (future.type, future.status) == (None, "pending")
    cluster.let_go()
    assert future.result(5) == -3
    assert future.type is int
    large = client.submit(np.arange, 100_000)
    assert large.exception(5) is None
    assert large.type is None


def test_the_last_future_of_a_task_releases_it(client: Client, cluster: Any) -> None:
    first = client.submit(operator.neg, 3)
    second = client.submit(operator.neg, 3)
    task = first._record.task
    assert first.result(5) == second.result(5) == -3
    first.release()
    first.release()
    with pytest.raises(InvalidArgument, match="was released"):
        client.submit(operator.neg, first)
    del second
    gc.collect()
    cluster.until(lambda: task in cluster.released)
    assert sum(message.tasks.count(task) for message in cluster.told(Release)) == 1


def test_a_released_pending_future_cannot_be_waited_for(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    future = client.submit(operator.neg, 3)
    future.release()
    assert future.status == "cancelled"
    for wait in (future.result, future.exception):
        with pytest.raises(InvalidArgument, match="was released"):
            wait(5)


def test_callbacks_run_once_in_another_thread_whenever_they_are_added(
    client: Client, cluster: Any
) -> None:
    cluster.is_holding = True
    future = client.submit(operator.neg, 3)
    made: list[tuple[Any, str, int]] = []
    done = threading.Semaphore(0)

    def note(f: Future) -> None:
        made.append((f, f.status, threading.get_ident()))
        done.release()

    future.add_done_callback(note)
    cluster.let_go()
    assert done.acquire(timeout=5)
    future.add_done_callback(note)
    assert done.acquire(timeout=5)
    assert [(f, status) for f, status, _ in made] == [(future, "finished")] * 2
    assert threading.get_ident() not in {ident for *_, ident in made}


def test_callbacks_run_at_the_end_of_the_client_too(cluster: Any) -> None:
    cluster.is_holding = True
    done = threading.Event()
    with Client(cluster.address) as client:
        future = client.submit(operator.neg, 3)
        future.add_done_callback(lambda _: done.set())
    assert done.wait(5)
    assert future.status == "cancelled"
    with pytest.raises(ClientClosed, match="the client was closed"):
        future.result()


def test_a_future_cannot_be_pickled_outside_a_call(client: Client) -> None:
    future = client.submit(operator.neg, 3)
    with pytest.raises(NotSerializable, match="a Future stands for a result"):
        pickle.dumps(future)


def test_a_lost_scheduler_settles_all_futures(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    future = client.submit(operator.neg, 3)
    client._engine.flush()
    cluster.close("it was told to stop")
    with pytest.raises(SchedulerLost, match="the scheduler is lost"):
        future.result(5)
    assert future.status == "lost"
    with pytest.raises(SchedulerLost, match="the scheduler is lost"):
        client.submit(operator.neg, 4)


def test_ctrl_c_ends_a_wait(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    future = client.submit(operator.neg, 3)
    main = threading.main_thread().ident
    assert main is not None
    cluster.do(lambda: cluster.loop.call_later(0.02, lambda: signal.pthread_kill(main, 2)))
    with pytest.raises(KeyboardInterrupt):
        future.result(5)
    assert future._record.watchers is None
    cluster.let_go()
    assert future.result(5) == -3


def test_several_results_come_in_order_and_the_first_failure_at_once(
    client: Client, cluster: Any
) -> None:
    engine = client._engine
    good = client.submit(operator.neg, 1)
    bad = client.submit(operator.truediv, 1, 0)
    assert bad.exception(5) is not None
    records = [good._record, bad._record, good._record]
    assert fetch_values(engine, records, Deadline(5), skip="none") == [-1, "none", -1]
    cluster.is_holding = True
    slow = client.submit(operator.neg, 2)
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        fetch_values(engine, [slow._record, bad._record], Deadline(5))
    assert time.monotonic() - began < 2.0
    other = client.submit(operator.neg, 5)
    with pytest.raises(TimeoutError, match="and 1 more"):
        fetch_values(engine, [slow._record, other._record], Deadline(0.01))


def test_results_announced_twice_or_late_are_no_trouble(client: Client, cluster: Any) -> None:
    future = client.submit(operator.neg, 3)
    assert future.result(5) == -3
    cluster.say(Resolved([future._record.task], [1], [], []), b"x")
    cluster.until(lambda: True)
    assert future.result(5) == -3


def test_a_future_by_key(client: Client, cluster: Any) -> None:
    first = client.submit(operator.neg, 1, key="by-key")
    second = Future("by-key", client)
    assert second.result(5) == -1
    first.release()
    assert second.result(5) == -1
    assert "key: by-key" in repr(second)
    assert "finished, type: int" in second._repr_html_()
    with pytest.raises(InvalidArgument, match="holds no future with the key 'of-nobody'"):
        Future("of-nobody", client)
