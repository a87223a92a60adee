"""Queues and variables, as users call them; a scheduler without nodes will do."""

from __future__ import annotations

import operator
import pickle
import threading
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.client.future import Future
from zcluster.client.queues import Queue, Variable
from zcluster.errors import InvalidArgument

Two = tuple[Client, Client]


def test_what_one_client_puts_another_gets_in_order(two: Two) -> None:
    a, b = two
    queue, same = Queue("order", client=a), Queue("order", client=b)
    for number in range(5):
        queue.put({"number": number})
    assert same.qsize() == 5
    assert same.get() == {"number": 0}
    assert same.get(batch=2) == [{"number": 1}, {"number": 2}]
    assert same.get(batch=True) == [{"number": 3}, {"number": 4}]
    assert same.get(batch=True) == []


def test_a_get_waits_for_a_put_or_gives_up(two: Two) -> None:
    a, b = two
    queue = Queue("waits", client=a)
    with pytest.raises(TimeoutError, match=r"queue 'waits' did not have 1 items within 0.01 s"):
        queue.get(timeout=0.01)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(queue.get(timeout=10)))
    thread.start()
    Queue("waits", client=b).put(1)
    thread.join(10)
    assert got == [1]


def test_a_put_waits_for_room_or_gives_up(two: Two) -> None:
    a, b = two
    queue = Queue("full", client=a, maxsize=1)
    queue.put(1)
    with pytest.raises(TimeoutError, match="had no room for 0 s"):
        queue.put(2, timeout=0)
    thread = threading.Thread(target=queue.put, args=(3, 10))
    thread.start()
    same = Queue("full", client=b)
    assert [same.get(timeout=10), same.get(timeout=10)] == [1, 3]
    thread.join(10)
    queue.put(4)
    queue.close()
    assert queue.qsize() == 0


def test_a_batch_may_be_larger_than_one_answer(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    from zcluster.core.scheduler import coordination_queues

    monkeypatch.setattr(coordination_queues, "ANSWER_BYTES", 500)
    queue = Queue("large", client=two[0])
    for number in range(10):
        queue.put(bytes([number]) * 20)
    assert [item[0] for item in queue.get(batch=8)] == list(range(8))
    assert [item[0] for item in queue.get(batch=True)] == [8, 9]


def test_a_future_is_the_same_task_for_whoever_gets_it(two: Two) -> None:
    """Also if the client that put it let go of it at once."""
    a, b = two
    queue, same = Queue("futures", client=a), Queue("futures", client=b)
    future = a.submit(operator.neg, 1)
    key, task = future.key, future._record.task
    queue.put([future, "beside it"])
    del future
    got, beside = same.get()
    assert isinstance(got, Future)
    assert (got.client, got.key, got._record.task, beside) == (b, key, task, "beside it")
    assert got.status == "pending"


def test_a_client_gets_its_own_future_back(two: Two) -> None:
    a = two[0]
    future = a.submit(operator.neg, 2)
    variable = Variable("own", client=a)
    variable.set(future)
    again = variable.get()
    assert again._record is future._record
    assert future._record.holds == 2


def test_a_variable_has_the_last_value(two: Two) -> None:
    a, b = two
    variable, same = Variable("v", client=a), Variable("v", client=b)
    with pytest.raises(TimeoutError, match=r"variable 'v' had no value for 0.01 s"):
        variable.get(timeout=0.01)
    same.set(1)
    same.set([2])
    assert variable.get() == [2]
    variable.delete()
    with pytest.raises(TimeoutError):
        same.get(timeout=0)


def test_names_travel() -> None:
    queue = pickle.loads(pickle.dumps(Queue("q", maxsize=3)))
    assert (queue.name, queue.maxsize, repr(queue)) == ("q", 3, "<Queue: q>")
    assert pickle.loads(pickle.dumps(Variable("v"))).name == "v"


@pytest.mark.parametrize("batch", [0, -1, "all"])
def test_a_batch_is_a_number_or_everything(two: Two, batch: Any) -> None:
    with pytest.raises(InvalidArgument, match="batch is"):
        Queue("q", client=two[0]).get(batch=batch)


def test_a_size_is_a_number() -> None:
    with pytest.raises(InvalidArgument, match="maxsize is -1"):
        Queue(maxsize=-1)
