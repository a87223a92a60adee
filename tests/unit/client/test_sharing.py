"""Datasets, metadata and topics, as users call them; a scheduler without nodes will do."""

from __future__ import annotations

import gc
import operator
import queue
import weakref
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.errors import InvalidArgument
from zcluster.servers.scheduler import SchedulerServer

Two = tuple[Client, Client]


def test_published_data_are_there_for_others(two: Two) -> None:
    a, b = two
    futures = a.map(operator.neg, range(3))
    a.publish_dataset(futures, name="negated")
    a.publish_dataset(plain={"x": [1, 2]}, other=3)
    assert b.list_datasets() == ("negated", "plain", "other")
    assert b.get_dataset("plain") == {"x": [1, 2]}
    got = b.get_dataset("negated")
    assert [future.key for future in got] == [future.key for future in futures]
    assert all(future.client is b for future in got)
    for name in b.list_datasets():
        b.unpublish_dataset(name)
    assert a.list_datasets() == ()


def test_a_name_is_taken_until_it_is_given_free(two: Two) -> None:
    a, b = two
    a.publish_dataset(x=1)
    with pytest.raises(KeyError, match="'x' exists already"):
        b.publish_dataset(x=2)
    b.publish_dataset(x=3, override=True)
    assert a.get_dataset("x") == 3
    a.unpublish_dataset("x")
    assert a.get_dataset("x", default=None) is None
    with pytest.raises(KeyError, match="'x' is not published"):
        a.get_dataset("x")
    with pytest.raises(KeyError, match="'x' is not published"):
        a.unpublish_dataset("x")


def test_datasets_are_a_mapping(two: Two) -> None:
    a, b = two
    a.datasets["one"] = 1
    a.datasets["two"] = 2
    assert dict(b.datasets) == {"one": 1, "two": 2}
    assert ("one" in b.datasets, "three" in b.datasets, len(b.datasets)) == (True, False, 2)
    assert repr(b.datasets) == "<Datasets: one, two>"
    del b.datasets["one"], b.datasets["two"]
    assert repr(a.datasets) == "<Datasets: none>"


@pytest.mark.parametrize(("args", "name"), [((1,), None), ((), "x"), ((1, 2), "x"), ((1,), "")])
def test_a_value_has_a_name(two: Two, args: Any, name: Any) -> None:
    with pytest.raises(InvalidArgument):
        two[0].publish_dataset(*args, name=name)


def test_metadata_nest(two: Two) -> None:
    a, b = two
    with pytest.raises(KeyError, match="no metadata"):
        a.get_metadata("run")
    assert a.get_metadata(["run", "seed"], default=0) == 0
    a.set_metadata("run", {"seed": 1, "sizes": {"x": 1}})
    b.set_metadata(["run", "sizes", "y"], 2)
    b.set_metadata(["run", "name", "first"], "Ada")
    assert a.get_metadata("run") == {
        "seed": 1,
        "sizes": {"x": 1, "y": 2},
        "name": {"first": "Ada"},
    }
    assert a.get_metadata(["run", "sizes", "x"]) == 1
    b.set_metadata(["run", "sizes"], 5)
    assert a.get_metadata(["run", "sizes"]) == 5
    with pytest.raises(KeyError):
        a.get_metadata(["run", "sizes", "x"])
    a.set_metadata("run", None)
    assert b.get_metadata("run") is None


def test_events_are_heard_and_kept(two: Two) -> None:
    a, b = two
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    b.subscribe_topic("news", heard.put)
    a.log_event("news", {"n": 1})
    a.log_event(["news", "more"], 2)
    when, what = heard.get(timeout=10)
    assert (what, heard.get(timeout=10)[1]) == ({"n": 1}, 2)
    assert a.get_events("news") == ((when, {"n": 1}), a.get_events("more")[0])
    assert set(b.get_events()) == {"news", "more"}
    b.unsubscribe_topic("news")
    a.log_event("news", 3)
    # An answer to b would come after what it was told before.
    assert [event[1] for event in b.get_events("news")] == [{"n": 1}, 2, 3]
    assert heard.empty()
    with pytest.raises(InvalidArgument, match="does not listen to 'news'"):
        b.unsubscribe_topic("news")


def test_a_handler_that_raises_does_not_end_the_others(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    a = two[0]
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    a.subscribe_topic("bad", lambda event: event[1] / 0)
    a.subscribe_topic("good", heard.put)
    a.log_event(["bad", "good"], 1)
    assert heard.get(timeout=10)[1] == 1
    assert "ZeroDivisionError" in caplog.text


def test_listening_does_not_keep_a_client_alive(alone: SchedulerServer) -> None:
    client = Client(alone.address, set_as_default=False)
    client.subscribe_topic("t", print)
    ended = client._finalizer
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    assert not ended.alive


def test_futures_and_large_data_are_no_metadata_and_no_events(two: Two) -> None:
    a = two[0]
    with pytest.raises(InvalidArgument, match="expected plain values"):
        a.set_metadata("x", a.submit(operator.neg, 1))
    with pytest.raises(InvalidArgument, match="1048576; scatter it"):
        a.log_event("x", b"." * (1 << 20))
    with pytest.raises(InvalidArgument, match="list of texts"):
        a.set_metadata([], 1)
    with pytest.raises(InvalidArgument, match="a topic is ''"):
        a.get_events("")
    with pytest.raises(InvalidArgument, match="expected a function"):
        a.subscribe_topic("x", 7)  # type: ignore[arg-type]
