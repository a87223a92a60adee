"""Answers to people: why a task is where it is, and what is here."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from zcluster.core.scheduler import questions
from zcluster.core.scheduler.questions import explain
from zcluster.core.scheduler.states import State
from zcluster.graph.layers import Graph
from zcluster.protocol.messages import Answer, Ask, Cancel, Heartbeat, Release, Slot, Unreachable


def ask(d: Any, client: Any, question: str, *tasks: int) -> Any:
    d.tell(client, Ask(1, question, list(tasks)))
    (answer,) = d.take(Answer)
    return msgspec.msgpack.decode(answer.value)


def test_every_state_is_explained_in_a_sentence(desk: Any, graph_of: Any, add_layer: Any) -> None:
    d = desk()
    client = d.client()
    first = d.submit(client, graph_of([(), (0,), ()]))
    key = "('s', 0)"
    nobody = "no worker is here; start workers, or wait until they have joined"
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


def test_a_worker_that_does_not_answer_is_told_of(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(workers=2, slots=2)
    first = d.submit(client, graph_of([()]))
    d.flush()
    d.tell(node, Heartbeat(0.0, silent=[0.6, 0.3]))
    workers = ask(d, client, "info")["nodes"][0]["workers"]
    assert [(w["status"], w["reason"]) for w in workers] == [("running", "")] * 2
    assert explain(d.state, first).endswith("it runs there or is next")
    d.tell(node, Heartbeat(0.0, silent=[0.3, 2.25]))
    workers = ask(d, client, "info")["nodes"][0]["workers"]
    assert [w["status"] for w in workers] == ["running", "unresponsive"]
    assert workers[1]["reason"].startswith("unresponsive for 2.2 s; a task there holds")
    assert "; n-1 is unresponsive for 2.2 s" in explain(d.state, first)


def test_a_wish_that_no_worker_fulfils_is_explained(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, _ = d.client(), d.node()
    first = d.submit(client, graph_of([()], workers=["elsewhere"]))
    text = explain(d.state, first)
    assert "it needs one of the workers elsewhere" in text
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
    given = [[first + 1, "('s', 1)"], [first + 2, "('s', 2)"]]
    assert ask(d, client, "processing") == {"n": given}
    assert ask(d, client, "progress") == {"finished": 1, "assigned": 2}
    assert ask(d, client, "progress", first + 1, first + 3) == {"assigned": 2}
    info = ask(d, client, "info")
    assert (info["clients"], info["nodes"][0]["assigned"]) == (1, 2)
    assert info["nodes"][0]["workers"][0]["nthreads"] == 2
    assert info["nodes"][0]["workers"][0]["status"] == "running"
    d.tell(node, Heartbeat(0.0, 30, [10], [20], 40, sent=50))
    shown = ask(d, client, "info")["nodes"][0]
    assert (shown["store_used"], shown["memory"], shown["made"]) == (30, [10], [20])
    assert shown["spilled"] == 40
    statistics = ask(d, client, "statistics")
    assert (statistics["rows"], statistics["finished"], statistics["layers"]) == (3, 1, 1)
    assert statistics["states"]["finished"] == 1
    assert (statistics["sent_bytes"], shown["sent"]) == (50, 50)
    d.tell(client, Unreachable([first], node.index))
    assert ask(d, client, "explain", first) == [explain(d.state, first)]


def by_name(d: Any) -> dict[str, dict[str, int]]:
    """Count the tasks one by one."""
    counts: dict[str, Counter[str]] = {}
    for _, page, row in d.state.rows():
        state = State(page.state[row]).name.lower()
        counts.setdefault(page.layer[row].name, Counter())[state] += 1
    return {name: dict(found) for name, found in counts.items()}


def test_an_overview_counts_by_name_what_is_there(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, node = d.client(), d.node(slots=2)
    sizes = (("a", 700), ("b", 1300), ("c", 1))
    first = d.submit(client, graph_of(*((name, [()] * size) for name, size in sizes)))
    d.submit(client, graph_of(("d", [()]), ("e", [(0,)])))
    d.flush()
    d.finish(node, d.assigned()["n"])
    d.tell(client, Release([first]))
    d.tell(client, Cancel([first + 1999]))
    expected = by_name(d)
    found = ask(d, client, "overview")
    assert found["tasks"] == expected
    assert found["tasks"]["a"]["finished"] == 1
    assert found["tasks"]["b"]["cancelled"] == 1
    assert found["finished"] == d.state.finished_tasks
    assert found["now"] == d.now
    assert (found["nodes"][0]["slots"], found["nodes"][0]["memory"]) == (2, [])
    d.tell(node, Heartbeat(0.25, 1000, [2000]))
    shown = ask(d, client, "overview")["nodes"][0]
    assert (shown["memory"], shown["store_used"], shown["lag"]) == ([2000], 1000, 0.25)


def test_an_overview_of_very_many_layers_names_the_newest(
    desk: Any, graph_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler does nothing else meanwhile."""
    monkeypatch.setattr(questions, "_LAYERS_COUNTED", 2)
    d = desk()
    client = d.client()
    for name in ("old", "older", "add-0123456789abcdef", "add-fedcba9876543210"):
        d.submit(client, graph_of((name, [(), ()])))
    assert ask(d, client, "overview")["tasks"] == {"add": {"ready": 4}, "(others)": {"ready": 4}}


def test_what_is_on_a_node_and_how_large_it_is(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    nodes = {name: d.node(name, slots=2) for name in "nm"}
    first = d.submit(client, graph_of(("s", [()] * 3), ("t-0123456789abcdef", [()])))
    d.flush()
    given = ask(d, client, "processing")
    at = {key: name for name, tasks in given.items() for _, key in tasks}
    keys = ["('s', 0)", "('s', 1)", "('s', 2)", "t-0123456789abcdef"]
    assert sorted(at) == keys
    assert ask(d, client, "has_what") == {"n": [], "m": []}
    for position, size in ((0, 100), (3, 7)):
        d.finish(nodes[at[keys[position]]], [first + position], b"x" * size)
    held = ask(d, client, "has_what")
    assert sorted(task for name in held for task in held[name]) == [
        [first, keys[0]],
        [first + 3, keys[3]],
    ]
    assert [first, keys[0]] in held[at[keys[0]]]
    assert ask(d, client, "has_what", nodes["n"].index) == {"n": held["n"]}
    assert set(ask(d, client, "processing", nodes["m"].index, 99)) == {"m"}
    assert ask(d, client, "nbytes") == {"s": 100, "t": 7}
    assert ask(d, client, "nbytes", first, first + 1, first + 50) == {str(first): 100}
    d.tell(client, Ask(1, "nbytes", [], "keys"))
    assert msgspec.msgpack.decode(d.take(Answer)[0].value) == {keys[0]: 100, keys[3]: 7}
    elsewhere = nodes["n" if at[keys[0]] == "m" else "m"]
    d.state.replicas[first] = {elsewhere.index}
    assert all([first, keys[0]] in tasks for tasks in ask(d, client, "has_what").values())


def test_the_driver_says_of_itself_what_the_core_cannot_know(desk: Any) -> None:
    d = desk()
    client, _ = d.client(), d.node(resources={"GPU": 2.0})
    d.state.about = {"id": "7", "started": 5.0}
    info = ask(d, client, "info")
    assert (info["id"], info["started"], info["address"]) == ("7", 5.0, "inproc://s")
    assert info["nodes"][0]["workers"][0]["resources"] == {"GPU": 2.0}


# ------------------------------------------------------- the call of a task, for a second look


def test_a_call_is_told_with_its_inputs_in_their_order(desk: Any, graph_of: Any) -> None:
    d = desk()
    client = d.client()
    first = d.submit(client, graph_of([(), (), (1, 0, 1)]))
    spec = ask(d, client, "spec", first + 2)
    assert spec["key"] == "('s', 2)"
    assert [task for task, _, _, _ in spec["inputs"]] == [first + 1, first, first + 1]
    assert [(key, kind, chosen) for _, key, kind, chosen in spec["inputs"]] == [
        ("('s', 1)", 0, []),
        ("('s', 0)", 0, []),
        ("('s', 1)", 0, []),
    ]
    page, row = d.row(first + 2)
    assert spec["function"] == d.state.functions[page.layer[row].function].data
    assert spec["form"] == page.layer[row].call
    assert spec["groups"] == []


def test_the_call_of_a_task_that_is_forgotten_is_not_known(desk: Any) -> None:
    d = desk()
    assert ask(d, d.client(), "spec", 5) is None


def test_parts_and_lists_of_a_call_are_told(desk: Any, add_layer: Any) -> None:
    """A part by number, a part by place in the layer, a box, and all of a layer as one list."""
    d = desk()
    client = d.client()
    graph = Graph()
    add_layer(graph, "source", [(), ()])
    add_layer(
        graph,
        "taker",
        [(0, 1), (1, 0)],
        slots=[Slot(kind=3, ndim=1), Slot(kind=2)],
        whole=[0],
        whole_slots=[Slot(kind=1)],
        selections=[0, 5, 1, 7, 2, 4, 1, 8],
    )
    first = d.submit(client, graph)
    spec = ask(d, client, "spec", first + 3)
    shown = [(task - first, kind, chosen) for task, _, kind, chosen in spec["inputs"]]
    assert shown == [(1, 3, [2, 4, 1]), (0, 1, [1]), (0, 1, [8]), (1, 1, [8])]
    assert spec["groups"] == [2]


def test_progress_counts_the_client_s_own_tasks(desk: Any, graph_of: Any) -> None:
    d = desk()
    client, other, node = d.client("a"), d.client("b"), d.node(slots=1)
    first = d.submit(client, graph_of([(), (0,), (1,)]))
    d.submit(other, graph_of([()]))
    assert ask(d, other, "progress") == {"ready": 1}
    d.flush()
    d.finish(node, [first])
    counts = ask(d, client, "progress")
    assert sum(counts.values()) == 3
    assert counts["finished"] == 1
    assert ask(d, client, "progress", first, first + 1) == {"finished": 1}
