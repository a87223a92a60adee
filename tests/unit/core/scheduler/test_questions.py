"""Answers to people: why a task is where it is, and what is here."""

from __future__ import annotations

from typing import Any

import msgspec

from zcluster.core.scheduler.questions import explain
from zcluster.graph.layers import Graph
from zcluster.protocol.messages import Answer, Ask, Cancel, Release, Unreachable


def ask(d: Any, client: Any, question: str, *tasks: int) -> Any:
    d.tell(client, Ask(1, question, list(tasks)))
    (answer,) = d.take(Answer)
    return msgspec.msgpack.decode(answer.value)


def test_every_state_is_explained_in_a_sentence(desk: Any, graph_of: Any, add_layer: Any) -> None:
    d = desk()
    client = d.client()
    first = d.submit(client, graph_of([(), (0,), ()]))
    key = "('s', 0)"
    nobody = "no worker is here (0 nodes, none reachable)"
    assert explain(d.state, first) == f"{key} is ready, but {nobody}"
    assert explain(d.state, first + 1) == f"('s', 1) waits for 1 of its inputs: {key}"
    assert "not known" in explain(d.state, first + 99)
    node = d.node()
    d.flush()
    assert explain(d.state, first) == f"{key} is assigned to n, attempt 1; it runs there or is next"
    assert explain(d.state, first + 2) == "('s', 2) is ready and waits for a free slot (1 in all)"
    d.finish(node, [first])
    assert explain(d.state, first) == f"{key} is finished; its result is at n"
    d.tell(client, Cancel([first + 2]))
    assert explain(d.state, first + 2) == "('s', 2) is cancelled: nobody needs it"
    d.flush()
    d.fail(node, first + 1)
    assert explain(d.state, first + 1) == "('s', 1) failed (task): ValueError: no"
    d.tell(client, Release([first]))
    assert explain(d.state, first) == f"{key} is released: nobody needs it"
    graph = Graph()
    add_layer(graph, "d", [()], call=3, function=None)
    data = d.submit(client, graph)
    assert explain(d.state, data) == "d is data that its client has not put into a node yet"


def test_a_wish_that_no_worker_fulfils_is_explained(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, _ = d.client(), d.node()
    first = d.submit(client, graph_of([()], workers=["elsewhere"]))
    text = explain(d.state, first)
    assert "may run only on elsewhere" in text
    assert "the workers here are n-0" in text
    assert "allow_other_workers=True" in text


def test_many_inputs_are_not_all_named(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    first = d.submit(client, graph_of([()] * 9, [range(9)]))
    text = explain(d.state, first + 9)
    assert "waits for 9 of its inputs" in text
    assert text.endswith(", …")


def test_all_of_a_layer_is_named_as_one(desk: Any, graph_of: Any) -> None:
    from zcluster.protocol.messages import Slot

    d = desk()
    client = d.client()
    graph = graph_of(("s", [()] * 3), ("t", [[]]))
    graph.layers[1].whole, graph.layers[1].whole_slots = [0], [Slot()]
    first = d.submit(client, graph)
    assert explain(d.state, first + 3) == "t waits for 1 of its inputs: all of s"


def test_the_story_of_a_task_is_told_in_order(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node()
    first = d.submit(client, graph_of([()], retries=1))
    d.flush()
    d.fail(node, first)
    d.flush()
    d.finish(node, [first])
    words = [(word, where) for _, word, where in ask(d, client, "story", first)]
    assert words == [
        ("submitted", "c"),
        ("assigned", "n"),
        ("failed (task)", "n"),
        ("assigned", "n"),
        ("finished", "n"),
    ]


def test_what_is_here_is_counted(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=2)
    first = d.submit(client, graph_of([(), (), ()]))
    d.flush()
    d.finish(node, [first], length=-1)
    assert ask(d, client, "who_has", first, first + 1) == {str(first): ["n"], str(first + 1): []}
    assert ask(d, client, "who_has") == {str(first): ["n"]}
    assert ask(d, client, "processing") == {"n": ["('s', 1)", "('s', 2)"]}
    assert ask(d, client, "progress") == {"finished": 1, "assigned": 2}
    assert ask(d, client, "progress", first + 1, first + 3) == {"assigned": 2}
    info = ask(d, client, "info")
    assert (info["clients"], info["nodes"][0]["assigned"]) == (1, 2)
    assert info["nodes"][0]["workers"][0]["nthreads"] == 2
    statistics = ask(d, client, "statistics")
    assert (statistics["rows"], statistics["finished"], statistics["layers"]) == (3, 1, 1)
    assert statistics["states"]["finished"] == 1
    d.tell(client, Unreachable([first], node.index))
    assert ask(d, client, "explain", first) == [explain(d.state, first)]
