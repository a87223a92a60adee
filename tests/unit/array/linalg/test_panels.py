"""How panels are factored: in batches, and named so that equal ones are made once."""

from __future__ import annotations

import numpy as np
import pytest

from zcluster.array.core import from_numpy
from zcluster.array.linalg import panels, preparing
from zcluster.array.linalg.panels import _parity
from zcluster.array.linalg.solving import lu, solve
from zcluster.array.lowering import lower_arrays


@pytest.mark.parametrize(("batch", "updates"), [(1, 10), (2, 4), (16, 0)])
def test_panels_take_changes_in_batches(
    batch: int, updates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five panels: an update of each by each, or of each by several."""
    monkeypatch.setattr(preparing, "_NARROW", 1)
    monkeypatch.setattr(panels, "batch", lambda work: batch)
    _, _, upper = lu(from_numpy(np.eye(10), 2))
    graph, _ = lower_arrays([upper.expr])
    counts = [layer.count for layer in graph.layers if "lu_update" in layer.name]
    assert sum(counts) == updates


def test_the_factors_share_their_panels() -> None:
    """P, L and U together factor the matrix once."""
    x = from_numpy(np.eye(200), 100)
    graph, _ = lower_arrays([one.expr for one in lu(x)])
    names = [layer.name for layer in graph.layers]
    assert len(names) == len(set(names))
    assert sum(layer.count for layer in graph.layers if "lu_factor" in layer.name) == 2


def test_names_tell_systems_apart() -> None:
    x = from_numpy(np.eye(8), 4)
    assert solve(x, np.ones(8)).name == solve(x, np.ones(8)).name
    assert solve(x, np.ones(8)).name != solve(x, np.zeros(8)).name


@pytest.mark.parametrize(("order", "sign"), [([0, 1, 2], 1), ([1, 0, 2], -1), ([2, 0, 1], 1)])
def test_the_sign_of_an_order(order: list[int], sign: int) -> None:
    assert _parity(np.array(order)) == sign
