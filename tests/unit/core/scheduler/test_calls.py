"""Direct calls, files and restarts at the scheduler: passed on, answered once, whoever goes."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.core.scheduler.calls import FILES_LIMIT, RESTARTED
from zcluster.core.scheduler.invariants import check_empty
from zcluster.errors import ProtocolError
from zcluster.protocol.messages import (
    Call,
    Called,
    Cancelled,
    Drop,
    Failed,
    Files,
    Free,
    Lost,
    Needs,
    Received,
    Release,
    Restart,
    Restarted,
    Retry,
    Workers,
)


def names_of(messages: list[Any]) -> list[tuple[int, str]]:
    return [(m.request, "" if m.error is None else m.error.kind) for m in messages]


def test_a_call_goes_to_its_worker_and_the_answer_back(desk: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(workers=2)
    d.flush()
    d.messages.clear()
    d.tell(client, Call(7, node.index, 1), [b"what"])
    d.flush()
    ((name, call, frames),) = d.messages
    assert (name, call.node, call.worker, frames) == ("n", node.index, 1, [b"what"])
    d.messages.clear()
    d.tell(node, Called(call.request), [b"that"])
    d.flush()
    assert d.messages == [("c", Called(7), [b"that"])]
    d.core.calls.check()
    assert not d.core.calls


def test_requests_of_two_clients_are_kept_apart(desk: Any) -> None:
    d = desk()
    one, two, node = d.client("one"), d.client("two"), d.node()
    d.tell(one, Call(1, node.index, 0))
    d.tell(two, Call(1, node.index, 0))
    first, second = d.take(Call, "n")
    assert first.request != second.request
    d.tell(node, Called(second.request))
    assert d.take(Called, "two") == [Called(1)]
    assert d.take(Called, "one") == []


@pytest.mark.parametrize(("node", "worker"), [(9, 0), (0, 9), (-7, 0)])
def test_a_worker_that_is_not_here_is_an_answer(desk: Any, node: int, worker: int) -> None:
    d = desk()
    client = d.client()
    d.node()
    d.tell(client, Call(1, node, worker))
    assert names_of(d.take(Called)) == [(1, "killed")]


def test_a_node_that_goes_fails_its_calls_and_no_others(desk: Any) -> None:
    d = desk()
    client, one, two = d.client(), d.node("one"), d.node("two")
    d.tell(client, Call(1, one.index, 0))
    d.tell(client, Call(2, two.index, 0))
    (call,) = d.take(Call, "one")
    d.core.on_gone(one.peer, "gone", d.now)
    assert names_of(d.take(Called)) == [(1, "killed")]
    d.tell(one, Called(call.request))  # late: it is fenced
    assert d.take(Called) == []
    assert len(d.core.calls) == 1
    d.core.calls.check()


def test_nobody_is_told_when_the_client_is_gone(desk: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    d.tell(client, Call(1, node.index, 0))
    (call,) = d.take(Call)
    d.core.on_gone(client.peer, "gone", d.now)
    d.tell(node, Called(call.request))
    assert d.take(Called) == []
    assert not d.core.calls


def test_calls_beside_the_scheduler_are_handed_out_and_answered(desk: Any) -> None:
    d = desk()
    client = d.client()
    d.tell(client, Call(4, -1, -1), [b"what"])
    ((number, frames),) = d.core.calls.take_aside()
    assert [bytes(frame) for frame in frames] == [b"what"]
    assert d.core.calls.take_aside() == []
    d.core.on_aside(Called(number), [b"that"], d.now)
    assert d.take(Called) == [Called(4)]


# ----------------------------------------------------------------------------------- actors


@pytest.fixture
def actor(desk: Any, graph_of: Any) -> Any:
    """Return a desk with an actor at its node, whose future its client has."""
    d = desk()
    d.owner, d.home = d.client(), d.node()
    d.task = d.submit(d.owner, graph_of([()], needs=Needs(actor=True)))
    d.flush()
    d.finish(d.home, [d.task], length=-1)
    d.flush()
    d.messages.clear()
    return d


def test_calls_of_an_actor_go_where_it_is(actor: Any) -> None:
    d = actor
    d.tell(d.owner, Call(1, -1, -1, d.task), [b"what"])
    (call,) = d.take(Call, "n")
    assert (call.node, call.actor) == (d.home.index, d.task)
    d.tell(d.home, Called(call.request))
    assert d.take(Called, "c") == [Called(1)]


def test_an_actor_is_lost_with_its_worker_and_not_made_again(actor: Any) -> None:
    d = actor
    d.tell(d.home, Lost([d.task]))
    (failed,) = d.take(Failed)
    assert failed.errors[0].kind == "actor"
    assert d.word(d.task) == "failed"
    d.tell(d.owner, Call(1, -1, -1, d.task))
    assert names_of(d.take(Called)) == [(1, "actor")]
    assert d.assigned() == {}


def test_an_actor_is_lost_with_its_node(actor: Any) -> None:
    d = actor
    d.tell(d.owner, Call(1, -1, -1, d.task))
    d.core.on_gone(d.home.peer, "gone", d.now)
    assert names_of(d.take(Called)) == [(1, "actor")]
    assert len(d.take(Failed)) == 1


def test_what_takes_a_lost_actor_fails_with_it(actor: Any, graph_of: Any) -> None:
    d = actor
    graph = graph_of([[~0]])
    graph.add_import(object())
    taker = d.submit(d.owner, graph, imports=[d.task])
    assert d.assigned() == {"n": [taker]}
    d.tell(d.home, Lost([d.task]))
    tasks = [task for failed in d.take(Failed) for task in failed.tasks]
    assert sorted(tasks) == [d.task, taker]
    assert d.take(Drop)[0].tasks == [taker]


def test_an_actor_that_nobody_held_when_it_was_lost_is_gone(actor: Any) -> None:
    d = actor
    d.tell(d.owner, Release([d.task]))
    d.tell(d.home, Lost([d.task]))
    d.tell(d.owner, Call(1, -1, -1, d.task))
    d.later()
    assert d.take(Failed) == []
    assert names_of(d.take(Called)) == [(1, "actor")]
    d.later()
    check_empty(d.state)


def test_a_retry_makes_a_lost_actor_anew(actor: Any) -> None:
    d = actor
    d.tell(d.home, Lost([d.task]))
    d.tell(d.owner, Retry([d.task]))
    assert d.assigned() == {"n": [d.task]}
    d.finish(d.home, [d.task], length=-1)
    d.tell(d.home, Lost([d.task]))
    assert d.word(d.task) == "failed"


def test_a_task_that_is_no_actor_cannot_be_called(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    task = d.submit(client, graph_of([()]))
    d.flush()
    d.finish(node, [task])
    d.tell(client, Call(1, -1, -1, task))
    assert names_of(d.take(Called)) == [(1, "actor")]


def test_a_call_of_an_actor_that_was_not_made_says_why(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    task = d.submit(client, graph_of([()], needs=Needs(actor=True)))
    d.flush()
    d.fail(node, task)
    d.tell(client, Call(1, -1, -1, task))
    d.flush()
    ((called, frames),) = [(m, frames) for _, m, frames in d.messages if isinstance(m, Called)]
    assert called.error is not None
    assert called.error.type_name == "ValueError"
    assert (called.error.exception, frames) == ((0, 0, 3), [b"exc"])


# ------------------------------------------------------------------------------------ files


def test_files_go_to_all_nodes_and_are_done_when_the_last_has_them(desk: Any) -> None:
    d = desk()
    client, one, two = d.client(), d.node("one"), d.node("two")
    files = [("a.py", (0, 0, 1)), ("b.py", (0, 1, 2))]
    d.tell(client, Files(3, files), [b"xy"])
    (sent,) = d.take(Files, "one")
    assert d.take(Files, "two") == [sent]
    assert sent.files == files
    d.tell(one, Received(sent.request))
    assert d.take(Called) == []
    d.tell(one, Received(sent.request))  # twice
    assert d.take(Called) == []
    d.tell(two, Received(sent.request))
    assert d.take(Called) == [Called(3)]


def test_a_node_that_cannot_write_files_says_why(desk: Any) -> None:
    d = desk()
    client, one, two = d.client(), d.node("one"), d.node("two")
    d.tell(client, Files(3, []))
    (sent,) = d.take(Files, "one")
    d.tell(one, Received(sent.request, "the disk is full"))
    d.core.on_gone(two.peer, "gone", d.now)
    (called,) = d.take(Called)
    assert called.error.message == "the disk is full"


def test_without_nodes_files_wait_for_them(desk: Any) -> None:
    d = desk()
    client = d.client()
    d.tell(client, Files(1, [("a.py", (0, 0, 3))]), [b"old"])
    d.tell(client, Files(2, [("a.py", (0, 0, 3)), ("b.py", (0, 3, 3))]), [b"new"])
    assert [called.request for called in d.take(Called)] == [1, 2]
    d.core.on_gone(client.peer, "gone", d.now)
    d.node()
    d.flush()
    told = {
        path: frames[place[0]][place[1] : place[2]]
        for _, message, frames in d.messages
        if isinstance(message, Files)
        for path, place in message.files
    }
    assert told == {"a.py": b"new", "b.py": b""}


def test_a_node_that_joins_gets_files_in_frames_of_a_size(desk: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("zcluster.core.scheduler.calls._FRAME", 10)
    d = desk()
    client = d.client()
    for number in range(5):
        d.tell(client, Files(number, [(f"{number}.py", (0, 0, 6))]), [b"123456"])
    d.node()
    d.flush()
    told = [(m, frames) for _, m, frames in d.messages if isinstance(m, Files)]
    assert len(told) == 5
    assert all(len(frames[0]) == 6 and m.request == 0 for m, frames in told)


def test_files_are_bounded_and_stay_in_their_folder(desk: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("zcluster.core.scheduler.calls.FILES_LIMIT", 10)
    d = desk()
    client = d.client()
    d.tell(client, Files(1, [("a.py", (0, 0, 8))]), [b"12345678"])
    d.tell(client, Files(2, [("b.py", (0, 0, 8))]), [b"12345678"])
    assert names_of(d.take(Called)) == [(1, ""), (2, "store")]
    for path in ("/etc/passwd", "../x.py", "a/../../x", ""):
        with pytest.raises(ProtocolError, match="out of its folder"):
            d.tell(client, Files(3, [(path, (0, 0, 0))]), [b""])
    assert FILES_LIMIT == 256 << 20


# --------------------------------------------------------------------------------- restarts


def test_a_restart_cancels_everything_and_lets_go_of_it(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two, node = d.client("one"), d.client("two"), d.node("n", slots=2)
    done = d.submit(one, graph_of([()]))
    d.flush()
    d.finish(node, [done], length=-1)
    running = d.submit(two, graph_of([()] * 5))
    d.flush()
    d.messages.clear()
    d.tell(one, Restart(9))
    assert d.take(Cancelled, "one") == [Cancelled([done], RESTARTED)]
    (cancelled,) = d.take(Cancelled, "two")
    assert sorted(cancelled.tasks) == list(range(running, running + 5))
    (restart,) = d.take(Restart)
    assert restart.workers == []
    assert len(d.take(Drop)[0].tasks) > 0
    d.later()
    assert done in d.take(Free)[0].tasks
    assert d.take(Called) == []
    d.tell(node, Workers([]))
    d.tell(node, Restarted(restart.request))
    assert d.take(Called) == [Called(9)]
    d.later()
    check_empty(d.state)
    d.tell(one, Release([done]))
    d.tell(two, Release([running]))


def test_some_workers_are_started_anew_where_they_are(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, one, two = d.client(), d.node("one", workers=2), d.node("two")
    task = d.submit(client, graph_of([()]))
    d.flush()
    d.messages.clear()
    d.tell(client, Restart(5, ["one-1"]))
    (restart,) = d.take(Restart, "one")
    assert restart.workers == ["1"]
    assert d.take(Restart, "two") == []
    assert d.take(Cancelled) == []
    assert d.word(task) == "assigned"
    d.core.on_gone(two.peer, "gone", d.now)
    assert d.take(Called) == []
    d.core.on_gone(one.peer, "gone", d.now)
    assert d.take(Called) == [Called(5)]


def test_a_restart_without_nodes_is_done_at_once(desk: Any) -> None:
    d = desk()
    client = d.client()
    d.tell(client, Restart(5))
    assert d.take(Called) == [Called(5)]
    d.core.calls.check()
