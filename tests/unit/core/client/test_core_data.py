"""Large arguments and scattered values: data tasks, and the copies that the client keeps."""

from __future__ import annotations

import operator
from collections.abc import Iterable

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
from zcluster.graph.columns import read_part
from zcluster.graph.layers import Graph, GraphLayer
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_INPUTS, CALL_SINGLE, PackedCall
from zcluster.protocol.messages import (
    Cancel,
    Cancelled,
    ErrorInfo,
    Failed,
    Message,
    NodeInfo,
    Nodes,
    Release,
    Resolved,
    Scattered,
    Submit,
    Unreachable,
)
from zcluster.types import Frames, first_task

FUNCTION = pack_callable(operator.neg)
FIRST = first_task(3)


def make_node(index: int) -> NodeInfo:
    return NodeInfo(index, f"n{index}", "h", 1, "ipc:///d", "", 0, [])


def make_core(nodes: Iterable[int] = (0,)) -> ClientCore:
    core = ClientCore()
    core.on_welcome(3, [make_node(index) for index in nodes])
    core.take_effects()
    return core


def add(core: ClientCore, *inputs: Wanted, key: str | None = None) -> Wanted:
    if inputs:
        return core.add_call(
            "f", FUNCTION, PackedCall(CALL_INPUTS, None, None, []), inputs, key=key
        )
    return core.add_call("f", FUNCTION, PackedCall(CALL_SINGLE, b"\x80", None, []), key=key)


def state_of(record: Wanted) -> State:
    """Return a record's state, which calls change behind the type checker's back."""
    return record.state


def sent(core: ClientCore) -> list[tuple[Message, Frames]]:
    core.collect()
    return list(core.outgoing(lambda: 0))


def messages(core: ClientCore) -> list[Message]:
    return [message for message, _ in sent(core)]


def edges(submit: Submit, frames: Frames) -> dict[int, list[int]]:
    """Return the inputs of each task of a submission in one slice, all as tasks."""
    found: dict[int, list[int]] = {}
    for part in submit.parts:
        columns = read_part(part, frames, end=submit.count, imports=len(submit.imports))
        for position in range(part.count):
            if columns.indptr is None:
                start, stop = position * columns.arity, (position + 1) * columns.arity
            else:
                start, stop = columns.indptr[position], columns.indptr[position + 1]
            found[submit.submission + part.first + position] = [
                submit.submission + i if i < submit.count else submit.imports[i - submit.count]
                for i in columns.indices[start:stop]
            ]
    return found


def resolve(core: ClientCore, *records: Wanted, blob: bytes = b"blob") -> None:
    tasks = [record.task for record in records]
    message = Resolved(tasks, [len(blob)] * len(tasks), [], [])
    core.on_message(message, [blob * len(tasks)])


def failed(task: int, kind: str = "task", data: bytes = b"") -> tuple[Failed, Frames]:
    info = ErrorInfo(kind, "builtins.ValueError", "no", "", task, 2, "n", "w", (0, 0, len(data)))
    return Failed([task], [2], [0], [info]), [data]


def large(core: ClientCore, *inputs: Wanted) -> Wanted:
    call = PackedCall(2, None, None, [])
    return core.add_call("f", FUNCTION, call, inputs, large=b"large" * 100)


def test_a_large_argument_is_a_data_task_before_the_call() -> None:
    core = make_core()
    other = add(core)
    record = large(core, other)
    (put,) = core.take_effects()
    assert isinstance(put, PutBlob)
    assert (put.task, put.node, put.blob) == (FIRST + 1, 0, b"large" * 100)
    ((submit, frames),) = sent(core)
    assert isinstance(submit, Submit)
    assert edges(submit, frames)[record.task] == [other.task, put.task]
    data = submit.layers[1]
    assert (data.call, data.function, data.first) == (3, b"", 1)
    core.stored(put.task, put.node, 500)
    assert messages(core) == [Scattered([put.task], [0], [500])]


def test_the_copy_is_put_again_while_the_call_may_need_it_and_then_released() -> None:
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
    messages(core)
    resolve(core, record)
    assert messages(core) == [Release([put.task])]
    core.on_message(Unreachable([put.task], again.node), [])
    assert core.take_effects() == []
    (cancel,) = messages(core)
    assert isinstance(cancel, Cancel)
    assert cancel.tasks == [put.task]


def test_a_copy_is_kept_for_a_later_task_of_the_chain() -> None:
    """The first call's future may go: what depends on it still needs it to run."""
    core = make_core()
    a = large(core)
    b = add(core, a)
    core.drop([a])
    (put,) = core.take_effects()
    assert isinstance(put, PutBlob)
    core.stored(put.task, put.node, 500)
    messages(core)
    core.on_message(Unreachable([put.task], 0), [])
    assert [type(effect) for effect in core.take_effects()] == [PutBlob]
    resolve(core, b)
    assert messages(core) == [Release([put.task])]


def test_a_graphs_large_arguments_are_kept_until_all_its_outputs_are_settled() -> None:
    core = make_core()
    graph = Graph()
    graph.add_layer(GraphLayer("x", (2,), 2, CALL_INPUTS, FUNCTION, 1, None, [~0, ~0]))
    graph.imports.append("large")
    graph.outputs = [(0, 2)]
    a, b = core.add_graph(graph, [b"blob"], str)
    (put,) = core.take_effects()
    assert isinstance(put, PutBlob)
    data, main = messages(core)
    assert isinstance(data, Submit)
    assert isinstance(main, Submit)
    assert main.imports == [put.task] == [data.submission]
    resolve(core, a)
    assert messages(core) == []
    core.drop([b])
    assert messages(core) == [Release([b.task, put.task])]


def test_a_graph_without_outputs_keeps_no_copy() -> None:
    core = make_core()
    graph = Graph()
    graph.add_layer(GraphLayer("x", (1,), 1, CALL_INPUTS, FUNCTION, 1, None, [~0]))
    graph.imports.append("large")
    assert core.add_graph(graph, [b"blob"], str) == []
    assert isinstance(messages(core)[-1], Release)


def test_a_scattered_value_is_finished_when_stored_and_kept_until_released() -> None:
    core = make_core()
    record = core.scatter(b"value", "int", key="int-1")
    assert core.shared("int-1") is record
    record.watchers = ["x"]
    core.stored(record.task, 0, 5)
    assert (record.state, record.detail) == (State.HERE, b"value")
    assert core.take_settled() == [(record, ["x"])]
    core.take_effects()
    core.on_message(Unreachable([record.task], 0), [])
    assert [type(effect) for effect in core.take_effects()] == [PutBlob]
    messages(core)
    user = add(core, record)
    core.drop([record, record])
    (_, release) = messages(core)
    assert release == Release([record.task])
    core.stored(record.task, 0, 5)
    core.on_message(Unreachable([record.task], 0), [])
    assert [type(effect) for effect in core.take_effects()] == [PutBlob]
    core.stored(record.task, 0, 5)
    resolve(core, user)
    core.on_message(Unreachable([record.task], 0), [])
    assert core.take_effects() == []


def test_a_value_scattered_everywhere_is_finished_when_all_nodes_have_it() -> None:
    core = make_core([0, 1])
    record = core.scatter(b"v", "int", everywhere=True)
    core.stored(record.task, 0, 1)
    assert state_of(record) is State.PENDING
    core.stored(record.task, 1, 1)
    assert state_of(record) is State.HERE
    assert messages(core)[-1] == Scattered([record.task] * 2, [0, 1], [1, 1])


def test_what_is_stored_after_it_was_let_go_is_told_all_the_same() -> None:
    """Nobody else knows of it: the node would keep it as long as it lives."""
    core = make_core()
    record = core.scatter(b"v", "int")
    core.drop([record])
    messages(core)
    core.stored(record.task, 0, 1)
    assert messages(core) == [Scattered([record.task], [0], [1])]


def test_when_no_store_has_room_the_call_fails_and_says_so() -> None:
    core = make_core()
    record = large(core)
    scattered = core.scatter(b"v", "int")
    for effect in core.take_effects():
        assert isinstance(effect, PutBlob)
        core.not_stored(effect.task, effect.node, "full")
    assert scattered.state is State.ERROR
    cancels = [message for message in messages(core) if isinstance(message, Cancel)]
    assert [message.reason for message in cancels] == ["full", "full"]
    # Whether the call needs it the scheduler knows: the data may be at another node after all.
    assert state_of(record) is State.PENDING
    core.on_message(Cancelled([record.task], "full"), [])
    assert state_of(record) is State.ERROR
    assert record.detail == scattered.detail == Failure("store", "full")


def test_what_does_not_need_the_data_that_no_store_has_room_for_goes_on() -> None:
    core = make_core()
    needed, other = large(core), core.scatter(b"v", "int")
    put = next(effect for effect in core.take_effects() if isinstance(effect, PutBlob))
    assert put.task not in (needed.task, other.task)
    core.not_stored(put.task, put.node, "full")
    for effect in core.take_effects():
        assert isinstance(effect, PutBlob)
        core.not_stored(effect.task, effect.node, "full")
    core.on_message(Resolved([needed.task], [2], [], []), [b"ok"])
    assert needed.state is State.HERE


def test_data_waits_for_the_first_node() -> None:
    core = make_core([])
    large(core)
    assert core.take_effects() == []
    core.on_message(Nodes([make_node(6)], []), [])
    changed, put = core.take_effects()
    assert changed == NodesChanged([])
    assert isinstance(put, PutBlob)
    assert put.node == 6
    core.on_message(Nodes([], [6]), [])
    assert core.take_effects() == [NodesChanged([6])]
    assert core.nodes == {}
