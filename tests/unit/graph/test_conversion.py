"""The quick ways of packing give what the plain way gives."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zcluster.graph.conversion import LAYER_TASKS, Nested, evaluate
from zcluster.graph.spec import from_dict
from zcluster.protocol.calls import CALL_INPUTS, CALL_PACKED, CALL_SINGLE, unpack_arguments
from zcluster.protocol.objects import load

plain = st.one_of(
    st.integers(), st.integers(2**900, 2**1100), st.floats(), st.booleans(), st.none()
)


@given(st.lists(st.one_of(plain, st.just("key")), min_size=1, max_size=6))
def test_keys_among_plain_literals_are_packed_in_place(arguments: list[Any]) -> None:
    dsk = {"key": "the result", "x": (print, *arguments)}
    graph, number = from_dict(dsk, "x")
    layer = graph.layer_of(number)
    position = number - layer.first
    inputs = ["the result" for _ in layer.inputs(position)]
    constant = layer.constant(position)
    if constant is None:
        assert layer.call == CALL_INPUTS
        found: tuple[Any, ...] = tuple(inputs)
    elif layer.call == CALL_SINGLE:
        found = (load(constant),)
    else:
        assert layer.call == CALL_PACKED
        found, kwargs = unpack_arguments(constant, inputs)
        assert kwargs == {}
    expected = ["the result" if argument == "key" else argument for argument in arguments]
    assert repr(list(found)) == repr(expected)  # repr: NaN equals nothing


def test_an_object_that_stands_for_a_result_is_an_import() -> None:
    class Held:
        __zcluster_input__ = True

        def __reduce__(self) -> Any:
            from zcluster.protocol.calls import reduce_as_input

            return reduce_as_input(self)

    held = Held()
    dsk = {"a": (print, held), "b": held, "c": (print, "a", [held, 1]), "d": [held]}
    graph, numbers = from_dict(dsk, ["a", "b", "c", "d"])
    assert graph.imports == [held]
    for number in numbers:
        layer = graph.layer_of(number)
        assert -1 in layer.inputs(number - layer.first)


def test_nested_tasks_run_inside_out() -> None:
    nested = Nested(max, [1, Nested(sum, [[1, 2, 3]]), 4])
    assert evaluate(nested) == 6
    assert evaluate([nested]) == [nested]


def test_layers_are_short_enough_to_name_their_keys() -> None:
    graph, _ = from_dict(dict.fromkeys(range(LAYER_TASKS + 5), (print, None)), [0, LAYER_TASKS + 4])
    assert graph.count == 2
    keys = list(range(LAYER_TASKS + 5))
    graph, _ = from_dict(dict.fromkeys(keys, (print, None)), keys)
    assert [layer.count for layer in graph.layers] == [LAYER_TASKS, 5]
