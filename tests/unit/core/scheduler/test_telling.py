"""Results reach clients within their credit, in the end all of them."""

from __future__ import annotations

from typing import Any

from zcluster.core.scheduler.telling import SLOW_SECONDS
from zcluster.protocol.messages import Release, Resolved

BLOB = b"0123456789"


def finish_some(d: Any, graph_of: Any, count: int) -> tuple[Any, Any, int]:
    """Let results be made for a client."""
    client, node = d.client(), d.node(slots=count)
    first = d.submit(client, graph_of([()] * count))
    d.flush()
    d.finish(node, range(first, first + count), BLOB)
    return client, node, first


def test_what_does_not_fit_the_credit_waits_for_an_acknowledgement(
    desk: Any, graph_of: Any
) -> None:
    d = desk(client_credit=25)
    client, _, first = finish_some(d, graph_of, 3)
    record = d.state.clients[client.index]
    (resolved,) = d.take(Resolved)
    assert (resolved.tasks, resolved.lengths) == ([first, first + 1], [10, 10])
    record.in_flight = 60
    d.flush()
    assert d.take(Resolved) == []
    record.in_flight = 15
    d.flush()
    assert d.take(Resolved) == [Resolved([first + 2], [10], [10], [-1])]
    assert not record.has_news
    assert record.kept_bytes == 0


def test_past_some_credits_results_are_announced(desk: Any, graph_of: Any) -> None:
    d = desk(client_credit=25)
    client, node, first = finish_some(d, graph_of, 14)
    record = d.state.clients[client.index]
    said: list[Resolved] = []
    while record.has_news or not said:
        said += d.take(Resolved)
        d.flush()
    assert [len(each.tasks) for each in said] == [2, 2, 2, 2, 6]
    assert said[-1].tasks == list(range(first + 8, first + 14))
    assert said[-1].holders == [-1] * 2 + [node.index] * 4


def test_one_that_is_longer_than_all_of_the_credit_does_not_wait_for_ever(
    desk: Any, graph_of: Any
) -> None:
    d = desk(client_credit=5)
    client, _, first = finish_some(d, graph_of, 1)
    assert d.take(Resolved) == [Resolved([first], [10], [10], [-1])]
    assert not d.state.clients[client.index].has_news


def test_of_a_client_that_reads_nothing_only_numbers_are_kept(desk: Any, graph_of: Any) -> None:
    d = desk(client_credit=25)
    client, node = d.client(), d.node(slots=40)
    record = d.state.clients[client.index]
    record.in_flight = 30
    first = d.submit(client, graph_of([()] * 40))
    d.flush()
    d.finish(node, range(first, first + 5), BLOB)
    assert record.kept_bytes == 50
    d.now += SLOW_SECONDS + 0.1
    d.flush()
    assert (record.kept_bytes, record.is_slow) == (0, True)
    d.finish(node, range(first + 5, first + 30), BLOB)
    assert record.kept_bytes == 0
    assert d.take(Resolved) == []
    record.in_flight = 0
    d.flush()
    (resolved,) = d.take(Resolved)
    assert resolved.tasks == list(range(first, first + 30))
    assert set(resolved.lengths) == {-1}
    # It reads again.
    d.finish(node, [first + 30], BLOB)
    assert d.take(Resolved) == [Resolved([first + 30], [10], [10], [-1])]


def test_bytes_that_nobody_else_has_are_kept_for_a_slow_client(desk: Any, graph_of: Any) -> None:
    d = desk(client_credit=25)
    client, node = d.client(), d.node(slots=2)
    record = d.state.clients[client.index]
    record.in_flight = 30
    first = d.submit(client, graph_of([()] * 2))
    d.flush()
    d.finish(node, [first, first + 1], BLOB)
    d.core.on_gone(node.peer, "it ended", d.now)
    d.now += SLOW_SECONDS + 0.1
    d.flush()
    assert record.kept_bytes == 20
    record.in_flight = 0
    d.flush()
    assert d.take(Resolved) == [Resolved([first, first + 1], [10, 10], [10, 10], [-1, -1])]


def test_what_was_announced_too_late_is_made_again_or_forgotten(desk: Any, graph_of: Any) -> None:
    d = desk(client_credit=25)
    client, node = d.client(), d.node(slots=2)
    record = d.state.clients[client.index]
    record.in_flight = 30
    first = d.submit(client, graph_of([()] * 2))
    d.flush()
    d.finish(node, [first, first + 1], BLOB)
    d.now += SLOW_SECONDS + 0.1
    d.flush()
    d.tell(client, Release([first]))
    d.core.on_gone(node.peer, "it ended", d.now)
    record.in_flight = 0
    d.flush()
    assert d.take(Resolved) == []
    assert d.word(first + 1) == "ready"
