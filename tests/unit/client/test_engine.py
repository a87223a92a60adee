"""The driver of a client's core: when things are sent, and how it ends."""

from __future__ import annotations

import operator
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.client.engine import Engine
from zcluster.client.gates import CallWhenSettled, Countdown, Deadline
from zcluster.core.client.records import Wanted
from zcluster.errors import ClientClosed, ClusterError, SchedulerLost, StartError
from zcluster.protocol.messages import Failed, Submit


def test_nobody_there_is_an_error_that_names_the_address(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/nobody"
    with pytest.raises(StartError, match=rf"{address}.*nobody answered"):
        Engine(address, name="c", timeout=0.05)
    assert not [t for t in threading.enumerate() if t.name == "zcluster-client"]


def test_calls_in_a_row_leave_in_few_messages_and_one_call_leaves_at_once(
    client: Client, cluster: Any
) -> None:
    futures = [client.submit(operator.neg, i, pure=False) for i in range(2000)]
    assert client.gather(futures)[-1] == -1999
    submits = cluster.told(Submit)
    assert sum(message.count for message in submits) == 2000
    assert len(submits) < 200
    last = client.submit(operator.neg, 1, pure=False)
    cluster.until(lambda: sum(message.count for message in cluster.told(Submit)) == 2001)
    assert last.result(5) == -1


def test_watching_counts_what_is_pending_and_unwatching_forgets(
    client: Client, cluster: Any
) -> None:
    engine = client._engine
    done = client.submit(operator.neg, 1)
    assert done.result(5) == -1
    cluster.is_holding = True
    a, b = client.submit(operator.neg, 2), client.submit(operator.neg, 3)
    records = [done._record, a._record, b._record]
    countdown = Countdown()
    seen: list[Wanted] = []
    watcher = CallWhenSettled(seen.append)
    assert engine.watch(records, countdown) == countdown.left == 2
    assert engine.watch(records, watcher) == 2
    engine.unwatch(records, countdown)
    assert a._record.watchers == [watcher]
    cluster.let_go()
    assert engine.wait(records, Deadline(5))
    assert set(seen) == {a._record, b._record}
    assert countdown.left == 2


def test_waiting_for_nothing_ends_at_once(client: Client) -> None:
    assert client._engine.wait([], Deadline(0.0))


def test_an_answer_comes_to_whoever_asked(client: Client, cluster: Any) -> None:
    cluster.answers["story"] = lambda ask: [ask.tasks, ask.text]
    assert client._engine.ask("story", [1, 2], "x") == [[1, 2], "x"]
    with pytest.raises(ClusterError, match="no gossip here"):
        client._engine.ask("gossip")


def test_a_scheduler_that_does_not_answer_is_named(client: Client, cluster: Any) -> None:
    message = r"did not answer 'info' within 0\.02 s"
    with cluster.frozen(), pytest.raises(TimeoutError, match=message):
        client._engine.ask("info", timeout=0.02)


def test_a_message_that_contradicts_itself_does_not_end_the_client(
    client: Client, cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    future = client.submit(operator.neg, 1)
    assert future.result(5) == -1
    cluster.say(Failed([future._record.task], [1], [7], []))
    assert client.submit(operator.neg, 2).result(5) == -2
    assert "error 7 of 0 does not exist" in caplog.text


def test_closing_settles_waits_and_questions_and_is_quick(client: Client, cluster: Any) -> None:
    cluster.is_holding = True
    future = client.submit(operator.neg, 1)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            future.result()
        except ClientClosed as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while future._record.watchers is None:
        time.sleep(0)  # gives the other thread its turn; there is no event for "it waits now"
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 4
    thread.join(5)
    assert "the client was closed" in str(raised[0])
    for ask in (client.statistics, lambda: client.submit(operator.neg, 1)):
        with pytest.raises(ClientClosed):
            ask()
    client.close()


def test_a_lost_scheduler_ends_questions_too(client: Client, cluster: Any) -> None:
    """The scheduler says goodbye in the round in which it should have answered."""

    def stop(_: object) -> None:
        cluster.hub.close("it stopped")

    cluster.answers["info"] = stop
    with pytest.raises(SchedulerLost, match="the scheduler is lost"):
        client._engine.ask("info", timeout=5)


def test_who_knows_why_the_scheduler_is_lost_is_asked(client: Client, cluster: Any) -> None:
    client._engine.why_lost = lambda: "its machine was sold"
    cluster.answers["info"] = lambda _: cluster.hub.close("it stopped")
    with pytest.raises(SchedulerLost, match="the scheduler is lost: its machine was sold"):
        client._engine.ask("info", timeout=5)


def test_a_fetch_after_the_end_is_empty(client: Client) -> None:
    future = client.submit(operator.neg, 1)
    assert future.result(5) == -1
    client.close()
    assert client._engine.fetch([future._record], Deadline(5)) == {}
