"""Hand-written graphs over runners, and ``get`` functions as runners."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from zcluster.collection.compute import compute
from zcluster.delayed import delayed
from zcluster.errors import InvalidArgument
from zcluster.graph.layers import Graph, GraphBuilder, GraphLayer
from zcluster.graph.spec import from_dict
from zcluster.local import GetRunner, LocalRunner, ThreadsRunner, get_sync, get_with
from zcluster.local.jobs import grouped
from zcluster.protocol.callables import pack_callable
from zcluster.protocol.calls import CALL_ALIAS, CALL_INPUTS, pack_call
from zcluster.protocol.messages import Slot
from zcluster.protocol.objects import Parts


def plain_get(dsk: dict[Any, Any], keys: list[Any]) -> list[Any]:
    """Evaluate a graph by the letter of its specification, with no zcluster in it."""

    def value(computation: Any) -> Any:
        if type(computation) is list:
            return [value(item) for item in computation]
        if type(computation) is tuple and computation and callable(computation[0]):
            return computation[0](*map(value, computation[1:]))
        try:
            return value(dsk[computation]) if computation in dsk else computation
        except TypeError:
            return computation

    return [value(key) for key in keys]


def both(graph: Graph) -> list[Any]:
    """Return what the graph gives with the function above, and check that it is right."""
    values = GetRunner(plain_get).run_graph(graph)
    assert str(values) == str(LocalRunner().run_graph(graph))
    return values


@pytest.mark.parametrize("runner", [LocalRunner(), ThreadsRunner()])
def test_keys_and_values_have_one_nesting(runner: Any) -> None:
    dsk = {"x": (operator.add, 2, 3), "y": (operator.add, 2, "x"), ("z", 0): [1, "y"]}
    assert get_with(runner, dsk, "y") == 7
    assert get_with(runner, dsk, ["y", ["x", [("z", 0)]]]) == (7, (5, ([1, 7],)))
    assert get_with(runner, dsk, []) == ()
    assert get_with(runner, {"x": (2, 3)}, "x") == (2, 3)


def test_only_what_is_wanted_runs() -> None:
    assert get_sync({"x": 1, "boom": (operator.truediv, 1, 0)}, "x") == 1


def test_a_get_function_sees_a_readable_graph() -> None:
    graph, _ = from_dict({"x": 1, "y": (operator.neg, "x"), "z": (abs, -5)}, ["y", "z"])
    seen: list[Any] = []

    def get(dsk: Any, keys: Any) -> Any:
        seen.append((dsk, keys))
        return plain_get(dsk, keys)

    assert GetRunner(get).run_graph(graph) == [-1, 5]
    assert type(seen[0][0]) is dict
    assert seen == [({"x": 1, "y": (operator.neg, "x"), "z": (abs, -5)}, ["y", "z"])]


def test_a_get_function_is_given_the_objects_of_the_caller() -> None:
    given = ["x-1", (abs, -1)]
    lazy = delayed(given)
    calls = [
        delayed(operator.is_)(lazy, given),
        delayed(operator.add)(delayed(abs)(-1, dask_key_name="x-1"), 2),
        delayed(dict)([("a", lazy)], b=delayed(5)),
    ]
    expected = (True, 3, {"a": given, "b": 5})
    assert compute(*calls, scheduler=plain_get) == expected
    made = compute(lazy, scheduler=plain_get)[0]
    assert made is given
    future = DoneInput(5)
    assert compute(delayed(max)([future, 3], key=abs), scheduler=plain_get) == (5,)


def test_calls_that_hold_objects_can_be_pickled_if_the_objects_can() -> None:
    def get(dsk: Any, keys: Any) -> Any:
        return plain_get(pickle.loads(pickle.dumps(dsk)), keys)

    lazy = delayed(divmod)(delayed(len)(["a"]), 2)
    assert compute(delayed(sum)([1, lazy[0]], start=lazy[1]), scheduler=get) == (2,)


def test_nothing_in_arguments_is_taken_for_a_key_or_a_task() -> None:
    x = delayed(str)("x", dask_key_name="x")

    def kind(*args: Any, **kwargs: Any) -> str:
        return repr((args, kwargs))

    calls = [
        delayed(kind)("x", x),
        delayed(kind)((len, "x"), [x, "x"]),
        delayed(kind)({"x": x}, option=(x, ["x"])),
        delayed((len, "x")),
        delayed("x"),
        delayed(kind)(np.arange(20_000), x),
    ]
    assert compute(*calls, scheduler=plain_get) == compute(*calls, scheduler="sync")


class Done:
    """A future that has its result."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def result(self) -> Any:
        return self.value


class DoneInput(Done):
    """One that may be among the arguments of a call."""

    __zcluster_input__ = True


def test_futures_give_their_results() -> None:
    builder = GraphBuilder()
    entry = builder.add_import(Done([1, "x"]))
    call = pack_call((), {})._replace(form=CALL_INPUTS, constant=None)
    builder.add_call("len", pack_callable(len), call, (entry,), key="x")
    builder.add_call("keep", None, call._replace(form=CALL_ALIAS), (entry,), key="y")
    graph = builder.finish()
    graph.want([0, 1])
    assert both(graph) == [2, [1, "x"]]


def halves() -> Parts:
    return Parts([[1], [2, 3]])


def joined(lists: Sequence[list[int]]) -> list[int]:
    return [item for some in lists for item in some]


def layer(function: Any, count: int, **columns: Any) -> GraphLayer:
    name = function.__name__
    return GraphLayer(name, (count,), count, CALL_INPUTS, pack_callable(function), **columns)


def test_parts_of_inputs_and_whole_layers_are_taken() -> None:
    graph = Graph()
    graph.add_layer(layer(halves, 3))
    graph.add_layer(layer(joined, 2, whole=[0], whole_slots=[Slot(2)]))
    slots = [Slot(1), Slot()]
    graph.add_layer(
        layer(operator.add, 2, arity=2, indices=[0, 3, 1, 4], slots=slots, selections=[1, 0])
    )
    graph.outputs = [(3, 4)]
    assert both(graph) == [[1] * 3, [2, 3] * 3, [2, 3, 1, 1, 1], [1, 2, 3, 2, 3, 2, 3]]


def test_arguments_of_whole_layers_are_lists() -> None:
    assert grouped(["a", "b", "c"], 1, [2, 0]) == ["a", ["b", "c"], []]


def test_what_cannot_be_an_input_is_refused() -> None:
    builder = GraphBuilder()
    entry = builder.add_import(5)
    call = pack_call((), {})._replace(form=CALL_ALIAS, constant=None)
    builder.add_call("keep", None, call, (entry,), key="y")
    graph = builder.finish()
    graph.want([0])
    with pytest.raises(InvalidArgument, match="expected a future"):
        GetRunner(plain_get).run_graph(graph)
