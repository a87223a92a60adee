"""Fixtures of the tests that drive the cores: the pretend cluster of `zcluster.testing`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from zcluster.graph.layers import Graph, GraphLayer, Options
from zcluster.testing.fakes import Function, Store, function
from zcluster.testing.stepping import SteppedWorld


@pytest.fixture(scope="session")
def world() -> type[SteppedWorld]:
    """Return the pretend cluster, to be made with a seed."""
    return SteppedWorld


@pytest.fixture(scope="session")
def store() -> type[Store]:
    """Return the pretend memory of a node."""
    return Store


@pytest.fixture(scope="session")
def make_function() -> Callable[[str], Function]:
    """Return what makes callables."""
    return function


@pytest.fixture(scope="session")
def add_layer() -> Callable[..., int]:
    """Return what appends a layer to a graph and its model to a world."""
    return append_layer


def append_layer(
    graph: Graph,
    name: str = "s",
    inputs: Sequence[Sequence[int]] = ((),),
    constants: Sequence[bytes] | None = None,
    **options: Any,
) -> int:
    """Append a layer with a task for each list of inputs (``~k``: import k); return its first."""
    arities = {len(sources) for sources in inputs}
    arity = arities.pop() if len(arities) == 1 else -1
    starts = [0]
    for sources in inputs:
        starts.append(starts[-1] + len(sources))
    offsets = None
    if constants is not None:
        offsets = [0]
        for constant in constants:
            offsets.append(offsets[-1] + len(constant))
    wishes = {name: options.pop(name) for name in Options._fields if name in options}
    layer = GraphLayer(
        name,
        () if len(inputs) == 1 else (len(inputs),),
        len(inputs),
        options.pop("call", 0 if constants is None else 1),
        options.pop("function", function(name)),
        arity,
        starts if arity < 0 else None,
        [source for sources in inputs for source in sources],
        constants=b"".join(constants or ()),
        offsets=offsets,
        options=Options(**wishes),
        **options,
    )
    return graph.add_layer(layer)
