"""Large arguments and scattered values: data tasks, and the copies that the client keeps."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

from zcluster.core.client.core import (
    ClientCore,
)
from zcluster.core.client.records import (
    Failure,
    NodesChanged,
    PutBlob,
    Wanted,
)
from zcluster.core.client.states import State
from zcluster.graph.layers import Graph, GraphLayer
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS, PackedCall
from zcluster.protocol.messages import (
    Cancel,
    Cancelled,
    Nodes,
    Release,
    Resolved,
    Scattered,
    Submit,
    Unreachable,
)
from zcluster.types import first_task

if TYPE_CHECKING:
    from tests.unit.core.client.conftest import Core

FUNCTION = pack_callable(operator.neg)
FIRST = first_task(3)


def large(core: ClientCore, *inputs: Wanted) -> Wanted:
    call = PackedCall(2, None, None, [])
    return core.add_call("f", FUNCTION, call, inputs, large=b"large" * 100)


def test_a_large_argument_is_a_data_task_before_the_call(core: Core) -> None:
    other = core.add()
    record = large(core, other)
    (put,) = core.take_effects()
    assert isinstance(put, PutBlob)
    assert (put.task, put.node, put.blob) == (FIRST + 1, 0, b"large" * 100)
    ((submit, frames),) = core.sent()
    assert isinstance(submit, Submit)
    assert core.edges(submit, frames)[record.task] == [other.task, put.task]
    data = submit.layers[1]
    assert (data.call, data.function, data.first) == (3, b"", 1)
    core.stored(put.task, put.node, 500)
    assert core.messages() == [Scattered([put.task], [0], [500])]


def test_the_copy_is_put_again_while_the_call_may_need_it_and_then_released(
    make_core: Callable[..., Core],
) -> None:
    core = make_core([0, 1])
    record = large(core)
    (put,) = core.take_effects()
    assert isinstance(put, PutBlob)
    core.stored(put.task, put.node, 500)
    core.on_message(Unreachable([put.task], put.node), [])
    (again,) = core.take_effects()
    assert isinstance(again, PutBlob)
    assert (again.task, again.node) == (put.task, 1 - put.node)
    core.stored(again.task, again.node, 500)
    core.messages()
    core.resolve(record)
    assert core.messages() == [Release([put.task])]
    core.on_message(Unreachable([put.task], again.node), [])
    assert core.take_effects() == []
    (cancel,) = core.messages()
    assert isinstance(cancel, Cancel)
    assert cancel.tasks == [put.task]


def test_a_copy_is_kept_for_a_later_task_of_the_chain(core: Core) -> None:
    """The first call's future may go: what depends on it still needs it to run."""
    a = large(core)
    b = core.add(a)
    core.drop([a])
    (put,) = core.take_effects()
    assert isinstance(put, PutBlob)
    core.stored(put.task, put.node, 500)
    core.messages()
    core.on_message(Unreachable([put.task], 0), [])
    assert [type(effect) for effect in core.take_effects()] == [PutBlob]
    core.resolve(b)
    assert core.messages() == [Release([put.task])]


def test_a_graphs_large_arguments_are_kept_until_all_its_outputs_are_settled(core: Core) -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("x", (2,), 2, CALL_INPUTS, FUNCTION, 1, None, [~0, ~0]))
    graph.imports.append("large")
    graph.outputs = [(0, 2)]
    a, b = core.add_graph(graph, [b"blob"], str)
    (put,) = core.take_effects()
    assert isinstance(put, PutBlob)
    data, main = core.messages()
    assert isinstance(data, Submit)
    assert isinstance(main, Submit)
    assert main.imports == [put.task] == [data.submission]
    core.resolve(a)
    assert core.messages() == []
    core.drop([b])
    assert core.messages() == [Release([b.task, put.task])]


def test_a_graph_without_outputs_keeps_no_copy(core: Core) -> None:
    graph = Graph()
    graph.add_layer(GraphLayer("x", (1,), 1, CALL_INPUTS, FUNCTION, 1, None, [~0]))
    graph.imports.append("large")
    assert core.add_graph(graph, [b"blob"], str) == []
    assert isinstance(core.messages()[-1], Release)


def test_a_scattered_value_is_finished_when_stored_and_kept_until_released(core: Core) -> None:
    record = core.scatter(b"value", "int", key="int-1")
    assert core.shared("int-1") is record
    record.watchers = ["x"]
    core.stored(record.task, 0, 5)
    assert (record.state, record.detail) == (State.HERE, b"value")
    assert core.take_settled() == [(record, ["x"])]
    core.take_effects()
    core.on_message(Unreachable([record.task], 0), [])
    assert [type(effect) for effect in core.take_effects()] == [PutBlob]
    core.messages()
    user = core.add(record)
    core.drop([record, record])
    (_, release) = core.messages()
    assert release == Release([record.task])
    core.stored(record.task, 0, 5)
    core.on_message(Unreachable([record.task], 0), [])
    assert [type(effect) for effect in core.take_effects()] == [PutBlob]
    core.stored(record.task, 0, 5)
    core.resolve(user)
    core.on_message(Unreachable([record.task], 0), [])
    assert core.take_effects() == []


def test_a_value_scattered_everywhere_is_finished_when_all_nodes_have_it(
    make_core: Callable[..., Core],
) -> None:
    core = make_core([0, 1])
    record = core.scatter(b"v", "int", everywhere=True)
    core.stored(record.task, 0, 1)
    assert core.state_of(record) is State.PENDING
    core.stored(record.task, 1, 1)
    assert core.state_of(record) is State.HERE
    assert core.messages()[-1] == Scattered([record.task] * 2, [0, 1], [1, 1])


def test_what_is_stored_after_it_was_let_go_is_told_all_the_same(core: Core) -> None:
    """Nobody else knows of it: the node would keep it as long as it lives."""
    record = core.scatter(b"v", "int")
    core.drop([record])
    core.messages()
    core.stored(record.task, 0, 1)
    assert core.messages() == [Scattered([record.task], [0], [1])]


def test_a_value_let_go_before_a_node_had_it_is_given_up_for_all(
    make_core: Callable[..., Core],
) -> None:
    """Other clients may want it, and nobody else could bring it."""
    core = make_core([])
    record = core.scatter(b"v", "int")
    core.messages()
    core.drop([record])
    cancel, release = core.messages()
    assert isinstance(cancel, Cancel)
    assert cancel.tasks == [record.task]
    assert "let go of it before a node had it" in cancel.reason
    assert release == Release([record.task])


def test_a_value_let_go_on_its_way_to_a_node_that_refuses_it_is_given_up_for_all(
    core: Core,
) -> None:
    record = core.scatter(b"v", "int")
    core.drop([record])
    assert not any(isinstance(message, Cancel) for message in core.messages())
    core.not_stored(record.task, 0, "full")
    (cancel,) = core.messages()
    assert isinstance(cancel, Cancel)
    assert cancel.tasks == [record.task]


def test_when_no_store_has_room_the_call_fails_and_says_so(core: Core) -> None:
    record = large(core)
    scattered = core.scatter(b"v", "int")
    for effect in core.take_effects():
        assert isinstance(effect, PutBlob)
        core.not_stored(effect.task, effect.node, "full")
    assert scattered.state is State.ERROR
    cancels = [message for message in core.messages() if isinstance(message, Cancel)]
    assert [message.reason for message in cancels] == ["full", "full"]
    # Whether the call needs it the scheduler knows: the data may be at another node after all.
    assert core.state_of(record) is State.PENDING
    core.on_message(Cancelled([record.task], "full"), [])
    assert core.state_of(record) is State.ERROR
    assert record.detail == scattered.detail == Failure("store", "full")


def test_what_does_not_need_the_data_that_no_store_has_room_for_goes_on(core: Core) -> None:
    needed, other = large(core), core.scatter(b"v", "int")
    put = next(effect for effect in core.take_effects() if isinstance(effect, PutBlob))
    assert put.task not in (needed.task, other.task)
    core.not_stored(put.task, put.node, "full")
    for effect in core.take_effects():
        assert isinstance(effect, PutBlob)
        core.not_stored(effect.task, effect.node, "full")
    core.on_message(Resolved([needed.task], [2], [], []), [b"ok"])
    assert needed.state is State.HERE


def test_data_waits_for_the_first_node(make_core: Callable[..., Core]) -> None:
    core = make_core([])
    large(core)
    assert core.take_effects() == []
    core.hear_of_node(6)
    changed, put = core.take_effects()
    assert changed == NodesChanged([])
    assert isinstance(put, PutBlob)
    assert put.node == 6
    core.on_message(Nodes([], [6]), [])
    assert core.take_effects() == [NodesChanged([6])]
    assert core.nodes == {}
