"""Large results in, large blobs out."""

from __future__ import annotations

import errno
import gc
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import zmq

from zcluster.client import fetching
from zcluster.client.fetching import DataPorts
from zcluster.client.gates import Deadline, Gate
from zcluster.protocol.messages import Fetch, FetchSmall, Map, NodeInfo, Return
from zcluster.transport.loop import Loop
from zcluster.transport.sockets import socket

BLOB = bytes(range(256)) * 4000  # a megabyte, in eleven slices


class Rig:
    """Data ports on a loop of their own, asked from the test's thread."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.context: Any = zmq.Context()
        self.ports = DataPorts(self.loop, self.context)
        self.loop.on_idle.append(self.ports.on_idle)
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def fetch(self, node: NodeInfo, task: int) -> tuple[memoryview | None, str]:
        gate = Gate()
        got: list[tuple[memoryview | None, str]] = []

        def done(view: memoryview | None, reason: str, is_final: bool) -> None:
            got.append((view, reason))
            gate.open()

        self.loop.post(lambda: self.ports.fetch(node, task, done))
        assert gate.wait(Deadline(10))
        return got[0]

    def fetch_all(
        self, node: NodeInfo, sizes: dict[int, int]
    ) -> tuple[dict[int, bytes], dict[int, str]]:
        """Fetch results of known sizes; return their bytes, and why others did not come."""
        gate = Gate()
        got: dict[int, bytes] = {}
        failed: dict[int, str] = {}

        def take(task: int, view: memoryview | None, reason: str, is_final: bool) -> None:
            if view is None:
                failed[task] = reason
            else:
                got[task] = bytes(view)
            if len(got) + len(failed) == len(sizes):
                gate.open()

        def ask() -> None:
            for task, size in sizes.items():
                self.ports.fetch(node, task, partial(take, task), size)

        self.loop.post(ask)
        assert gate.wait(Deadline(20))
        return got, failed

    def put(
        self, node: NodeInfo, task: int, blob: bytes, silent: Callable[[], None] = lambda: None
    ) -> str:
        gate = Gate()
        got: list[str] = []

        def done(reason: str) -> None:
            got.append(reason)
            gate.open()

        self.loop.post(lambda: self.ports.put(node, task, blob, done, silent))
        assert gate.wait(Deadline(10))
        return got[0]

    def close(self) -> None:
        def end() -> None:
            self.ports.close()
            self.loop.stop()

        self.loop.post(end)
        self.thread.join(10)
        self.loop.close()
        self.context.term()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def test_on_this_host_a_result_is_mapped_and_the_users_own(rig: Rig, cluster: Any) -> None:
    node = cluster.nodes[0]
    cluster.do(lambda: node.store(7, BLOB))
    view, reason = rig.fetch(node.info, 7)
    assert view is not None
    assert (view == BLOB, view.readonly, reason) == (True, False, "")
    view[0] = 99
    again, _ = rig.fetch(node.info, 7)
    assert again is not None
    assert again[0] == 0
    assert not [m for m in node.heard if isinstance(m, Fetch)]


def test_a_lease_goes_back_when_the_last_view_dies(rig: Rig, cluster: Any) -> None:
    node = cluster.nodes[0]
    cluster.do(lambda: node.store(7, BLOB))
    view, _ = rig.fetch(node.info, 7)
    assert view is not None
    part = view[10:20]
    del view
    gc.collect()
    assert not [m for m in node.heard if isinstance(m, Return)]
    del part
    gc.collect()
    place, _ = node.ranges[7]
    returned = cluster.until(lambda: [m for m in node.heard if isinstance(m, Return)])
    assert returned == [Return([tuple(place)])]


def test_from_another_host_a_result_comes_in_slices(
    rig: Rig, make_cluster: Callable[..., Any]
) -> None:
    cluster = make_cluster(is_local=False)
    node = cluster.nodes[0]
    cluster.do(lambda: node.store(7, BLOB))
    view, reason = rig.fetch(node.info, 7)
    assert view is not None
    assert (view == BLOB, view.readonly, reason) == (True, False, "")
    assert not [m for m in node.heard if isinstance(m, Map)]


def test_what_cannot_be_mapped_is_asked_for_in_slices_and_may_be_missing(
    rig: Rig, cluster: Any
) -> None:
    node = cluster.nodes[0]
    view, reason = rig.fetch(node.info, 7)
    assert view is None
    assert reason == "node node0 does not have it"
    assert [type(m) for m in node.heard if isinstance(m, Map | Fetch)] == [Map, Fetch]


def test_without_its_door_a_node_of_this_host_sends_slices(rig: Rig, cluster: Any) -> None:
    node = cluster.nodes[0]
    cluster.do(lambda: node.store(7, BLOB))
    cluster.do(node.close_door)
    view, _ = rig.fetch(node.info, 7)
    assert view is not None
    assert bytes(view) == BLOB


def test_a_blob_is_put_in_slices_under_credit(rig: Rig, cluster: Any) -> None:
    node = cluster.nodes[0]
    large = bytes(9 << 20)
    assert rig.put(node.info, 8, BLOB) == ""
    assert rig.put(node.info, 9, large) == ""
    assert cluster.do(lambda: node.blob(8) == BLOB)
    assert cluster.do(lambda: node.blob(9) == large)


def test_a_full_store_says_so(rig: Rig, cluster: Any) -> None:
    cluster.nodes[0].is_full = True
    assert rig.put(cluster.nodes[0].info, 8, BLOB) == "node 0 is full"


def test_a_node_that_left_fails_what_was_asked_of_it(rig: Rig, cluster: Any) -> None:
    info = cluster.nodes[0].info

    def leave_soon() -> None:
        rig.loop.call_later(0.01, lambda: rig.ports.forget(0))

    with cluster.frozen():
        rig.loop.post(leave_soon)
        assert rig.fetch(info, 7) == (None, "node node0 left")


def test_a_node_that_does_not_answer_is_given_up(
    rig: Rig, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(fetching, "WATCH_SECONDS", 0.02)
    with cluster.frozen():
        _, reason = rig.fetch(cluster.nodes[0].info, 7)
    assert reason == "node node0 did not answer within 0.01 s"


def test_a_node_that_does_not_take_a_blob_is_waited_for(
    rig: Rig, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(fetching, "WATCH_SECONDS", 0.02)
    node = cluster.nodes[0]
    told: list[None] = []
    done: list[str] = []
    is_enough = Gate()

    def silent() -> None:
        told.append(None)
        if len(told) == 3:
            is_enough.open()

    with cluster.frozen():
        rig.loop.post(lambda: rig.ports.put(node.info, 7, BLOB, done.append, silent))
        assert is_enough.wait(Deadline(10))
        assert not done
    cluster.until(lambda: done)
    assert done == [""]
    assert cluster.do(lambda: node.blob(7) == BLOB)


def test_small_results_come_many_at_a_time(rig: Rig, cluster: Any) -> None:
    node = cluster.nodes[0]
    blobs = {task: b"%d" % task * 1000 for task in range(3000)}
    cluster.do(lambda: [node.store(task, blob) for task, blob in blobs.items()])
    got, failed = rig.fetch_all(node.info, {task: len(blob) for task, blob in blobs.items()})
    assert got == blobs
    assert failed == {}
    asked = [m.tasks for m in node.heard if isinstance(m, FetchSmall)]
    assert [task for tasks in asked for task in tasks] == list(range(3000))
    assert 12 <= len(asked) <= 20
    assert not [m for m in node.heard if isinstance(m, Map | Fetch)]


def test_a_small_result_that_is_not_at_hand_is_fetched_alone(rig: Rig, cluster: Any) -> None:
    node = cluster.nodes[0]
    cluster.do(lambda: node.store(7, b"seven"))
    got, failed = rig.fetch_all(node.info, {7: 5, 8: 5})
    assert got == {7: b"seven"}
    assert failed == {8: "node node0 does not have it"}


def test_a_silent_node_is_given_up_with_all_that_was_to_be_asked_of_it(
    rig: Rig, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(fetching, "WATCH_SECONDS", 0.02)
    with cluster.frozen():
        got, failed = rig.fetch_all(cluster.nodes[0].info, dict.fromkeys(range(5000), 5))
    assert got == {}
    assert set(failed.values()) == {"node node0 did not answer within 0.01 s"}
    assert len(failed) == 5000


def test_without_descriptors_a_connection_is_made_later(
    rig: Rig, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_AGAIN", 0.01)
    node = cluster.nodes[0]
    cluster.do(lambda: node.store(7, BLOB))
    tries: list[None] = []

    def full(*arguments: Any) -> Any:
        tries.append(None)
        if len(tries) < 3:
            raise zmq.ZMQError(errno.EMFILE)
        return socket(*arguments)

    monkeypatch.setattr(fetching, "socket", full)
    view, reason = rig.fetch(node.info, 7)
    assert view is not None
    assert (bytes(view), reason) == (BLOB, "")
    assert len(tries) == 3


def test_without_descriptors_for_long_a_fetch_fails(
    rig: Rig, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_AGAIN", 0.001)

    def full(*arguments: Any) -> Any:
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr(fetching, "socket", full)
    view, reason = rig.fetch(cluster.nodes[0].info, 7)
    assert view is None
    assert reason == "no connection to node node0 can be made: Too many open files"
