"""What is done to arguments."""

from __future__ import annotations

import numpy as np
import pytest

from zcluster.array.core import from_numpy
from zcluster.array.linalg import preparing
from zcluster.array.linalg.preparing import batch, inexact, panel_chunks, squared


def test_panels_are_neither_too_narrow_nor_too_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    x = from_numpy(np.zeros((1000, 300)), (100, 10))
    assert panel_chunks(x, 300) == (64, 64, 64, 64, 44)
    assert panel_chunks(x, 100) == (64, 36, 64, 64, 64, 8)
    assert panel_chunks(from_numpy(np.zeros((10, 300)), 200), 10) == (10, 200, 90)
    monkeypatch.setattr(preparing, "LARGE", 1000 * 8 * 80)
    assert panel_chunks(from_numpy(np.zeros((1000, 300)), 200), 300) == (80, 80, 80, 60)


def test_blocks_of_the_diagonal_become_square() -> None:
    x = from_numpy(np.zeros((6, 6)), ((2, 4), (3, 3)))
    assert squared(x).chunks == ((2, 4), (2, 4))
    assert squared(x.rechunk((6, 2))).chunks == ((2, 2, 2), (2, 2, 2))


def test_small_products_share_a_task() -> None:
    assert [batch(2.0 * n**3) for n in (10, 100, 250, 1000)] == [16, 15, 1, 1]


def test_types() -> None:
    one, other = inexact(np.ones(2, "i4"), np.ones(2, "c8"))
    assert one.dtype == other.dtype == np.dtype("c16")
    assert inexact(np.ones(2, bool))[0].dtype == np.dtype("f8")
    with pytest.raises(TypeError, match="unsupported in linalg"):
        inexact(np.ones(2, "M8[s]"))
