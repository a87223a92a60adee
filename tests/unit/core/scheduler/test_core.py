"""The scheduler core as a whole: random histories, and what it says when."""

from __future__ import annotations

from typing import Any

import pytest

from zcluster.errors import ProtocolError
from zcluster.protocol.messages import (
    Answer,
    Ask,
    Environment,
    Finished,
    Heartbeat,
    Output,
    Release,
    Resolved,
    Sources,
    Submit,
    Welcome,
)


def test_a_result_lost_before_it_was_told_is_made_again(desk: Any, graph_of: Any) -> None:
    """It did not fit the credit, so nobody has its bytes, and its node is gone."""
    d = desk(client_credit=0)
    client, node = d.client(), d.node(slots=4)
    first = d.submit(client, graph_of([()]))
    d.flush()
    d.finish(node, [first], b"0123456789")
    d.core.on_gone(node.peer, "gone", d.now)
    assert d.take(Resolved) == []
    assert d.word(first) == "ready"


def test_a_node_that_joins_later_hears_how_to_import(desk: Any) -> None:
    d = desk()
    client = d.client()
    environment = Environment(["/p"], "/", "h")
    d.tell(client, environment)
    d.tell(client, Sources([]))
    d.node()
    assert d.take(Environment) == [environment]
    assert len(d.take(Sources)) == 1


def test_roles_may_not_be_mixed_up(desk: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    with pytest.raises(ProtocolError, match="a client may not say Finished"):
        d.tell(client, Finished([], [], [], [], [], []))
    with pytest.raises(ProtocolError, match="a node may not say Submit"):
        d.tell(node, Submit(0, 0, 0, [], [], [], [], [], True))


def test_bytes_that_were_promised_must_be_there(desk: Any) -> None:
    d = desk()
    node = d.node()
    with pytest.raises(ProtocolError, match="promises 10 bytes and brings 3"):
        d.tell(node, Finished([1], [1], [10], [10], [0], []), [b"123"])


def test_a_heartbeat_brings_the_load(desk: Any) -> None:
    d = desk()
    node = d.node()
    d.tell(node, Heartbeat(0.5, 77, [1, 2]))
    record = d.state.nodes[node.index]
    assert (record.lag, record.store_used, record.memory) == (0.5, 77, [1, 2])


def test_an_unknown_question_gets_an_answer_too(desk: Any) -> None:
    d = desk()
    client = d.client()
    d.tell(client, Ask(3, "why"))
    (answer,) = d.take(Answer)
    assert answer.request == 3
    assert "'why'" in answer.error


def test_rows_are_forgotten_a_few_at_a_time(desk: Any, graph_of: Any) -> None:
    d = desk(check=False)
    client, node = d.client(), d.node(slots=10_000)
    count = 9_000
    first = d.submit(client, graph_of([()] * count))
    d.core.on_time(d.now)
    list(d.core.flush(d.now))
    d.finish(node, range(first, first + count))
    d.tell(client, Release(list(range(first, first + count))))
    left = []
    while d.state.dying:
        list(d.core.flush(d.now))
        left.append(sum(page.live for page in d.state.pages.values()))
        assert (d.core.wake_after == 0.0) == bool(d.state.dying)
    assert left == [5000, 1000, 0]
    assert isinstance(d.core.on_hello(99, _hello(), d.now), Welcome)


def _hello() -> Any:
    from zcluster.protocol.messages import PROTOCOL, Hello

    return Hello("client", PROTOCOL, "0", "3", b"")


# ------------------------------------------------------------------- what tasks print


def test_output_goes_to_whose_task_it_is_and_before_the_result(desk: Any, graph_of: Any) -> None:
    d = desk()
    one, two, node = d.client("one"), d.client("two"), d.node(slots=2)
    first, second = d.submit(one, graph_of([()])), d.submit(two, graph_of([()]))
    d.flush()
    d.messages.clear()
    d.finish(node, [first])
    d.tell(node, Output("w", [first, second, first], [1, 2, 1], [1, 2, 3], 9, 1), [b"abbccc"])
    d.flush()
    said = [(name, message, frames) for name, message, frames in d.messages]
    assert said[0] == ("one", Output("w", [first, first], [1, 1], [1, 3], 9, 1), [b"accc"])
    assert said[1] == ("two", Output("w", [second], [2], [2], 9, 1), [b"bb"])
    assert isinstance(said[2][1], Resolved)
    assert len([m for m in said if isinstance(m[1], Output)]) == 2


def test_output_of_one_client_passes_as_it_is(desk: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    message = Output("w", [client.first], [1], [3])
    d.tell(node, message, [b"abc"])
    d.tell(node, Output("w", [99 << 40], [1], [3]), [b"abc"])  # its client is gone
    assert d.take(Output) == [message]


@pytest.mark.parametrize(
    ("columns", "payload"),
    [(([1 << 40], [1], []), b""), (([1 << 40], [1], [5]), b"abc"), (([1 << 40], [], [3]), b"abc")],
)
def test_output_that_contradicts_itself_is_refused(
    desk: Any, columns: tuple[Any, Any, Any], payload: bytes
) -> None:
    d = desk()
    node = d.node()
    with pytest.raises(ProtocolError, match=r"output|printed"):
        d.tell(node, Output("w", *columns), [payload])
