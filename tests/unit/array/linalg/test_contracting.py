"""How products are spread over tasks."""

from __future__ import annotations

import numpy as np
import pytest

from zcluster.array.core import from_numpy
from zcluster.array.linalg import contracting
from zcluster.array.linalg.contracting import Pair, Products, _share, added
from zcluster.array.linalg.products import matmul
from zcluster.array.lowering import lower_arrays


@pytest.mark.parametrize(
    ("tasks", "combinations", "work", "size", "share"),
    [
        (36, 6, 2 * 500**3, 4e6, 6),  # enough tasks: one for each block
        (1, 6, 2e9, 4e6, 1),  # few blocks of much work: a task for each product
        (1, 6, 1e3, 1e3, 6),  # of little work: one task
        (100, 100, 2e9, 1e8, 2),  # large ones: memory bounds it
        (100, 40, 2e6, 1e5, 14),  # three tasks alike, of at most sixteen
    ],
)
def test_how_many_products_a_task_takes(
    tasks: int, combinations: int, work: float, size: float, share: int
) -> None:
    assert _share(tasks, combinations, work, size) == share


def test_partial_sums_are_added_in_a_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a product to a task there are as many tasks, and levels of sums above them."""
    monkeypatch.setattr(contracting, "_share", lambda *_: 1)
    a = np.arange(400.0).reshape(20, 20)
    x = from_numpy(a, (20, 1))
    y = from_numpy(a, (1, 20))
    product = matmul(x, y)
    graph, _ = lower_arrays([product.expr])
    names = {layer.name.rpartition("-")[0]: layer.count for layer in graph.layers}
    assert names["matmul_partial"] == 20
    assert names["matmul_sum-0"] == 3
    assert names["matmul"] == 1
    np.testing.assert_allclose(product.compute(scheduler="sync"), a @ a)


def test_uneven_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracting, "_share", lambda *_: 3)
    a = np.arange(49.0).reshape(7, 7)
    found = matmul(from_numpy(a, (2, 1)), from_numpy(a, (1, 3)))
    np.testing.assert_allclose(found.compute(scheduler="sync"), a @ a)


def test_tasks_write_into_no_block() -> None:
    blocks = [np.full((3, 3), float(n)) for n in range(6)]
    before = [one.copy() for one in blocks]
    Products(Pair((0, 1), (1, 2), (0, 2)), 2)(*blocks)
    Products(Pair((0, 1), (0, 1), (0, 1)), 2)(*blocks)
    added(*blocks)
    for one, other in zip(blocks, before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_names_are_the_same_for_the_same_product() -> None:
    x = from_numpy(np.eye(4), 2)
    assert matmul(x, x).name == matmul(x, x).name
    assert matmul(x, x).name != matmul(x, x.T).name
