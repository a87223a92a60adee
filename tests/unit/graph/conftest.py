"""What the tests of graphs share: a plain way to run one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zcluster.graph.layers import Graph, LargeArgument
from zcluster.protocol.callables import load_callable
from zcluster.protocol.calls import CALL_PACKED_LAST, make_call
from zcluster.protocol.objects import load


def _run(graph: Graph, on_task: Callable[[str], None] = lambda name: None) -> list[Any]:
    """Run the tasks by rank, as one slot would; return the values of the outputs."""
    functions: dict[bytes, Any] = {}
    tasks = []
    for layer in graph.layers:
        for p in range(layer.count):
            rank = layer.first + p if layer.orders is None else int(layer.orders[p])
            tasks.append((rank, layer, p))
    results: dict[int, Any] = {}
    for _, layer, p in sorted(tasks, key=lambda item: item[0]):
        function = None
        if layer.function is not None:
            digest = layer.function.digest
            if digest not in functions:
                functions[digest] = load_callable(layer.function.data)
            function = functions[digest]
        listed = layer.inputs(p)
        inputs = [results[i] for i in listed if i >= 0]
        for i in listed:
            if i < 0:
                value = graph.imports[~i]
                if isinstance(value, LargeArgument):
                    value = value.plan.tobytes()
                    if layer.call != CALL_PACKED_LAST:
                        value = load(value)
                inputs.insert(listed.index(i), value)
        on_task(layer.name)
        results[layer.first + p] = make_call(layer.call, function, layer.constant(p), inputs)
    return [results[t] for first, count in graph.outputs for t in range(first, first + count)]


@pytest.fixture(scope="session")
def run() -> Callable[..., list[Any]]:
    """Return a function that runs a graph and returns the values of its outputs."""
    return _run
