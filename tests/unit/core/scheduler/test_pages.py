"""Rows in columns."""

from __future__ import annotations

from typing import Any

from zcluster.core.scheduler.pages import PAGE_SIZE, Page


def test_rows_are_appended_with_their_constants() -> None:
    page = Page(1000)
    layer: Any = object()
    page.extend(layer, 3, 1, [7, 8], [2, 3], b"aabbb")
    page.extend(layer, 1, 0, [9], None, b"")
    assert len(page) == page.live == 3
    assert (list(page.state), list(page.flags)) == ([3, 3, 1], [1, 1, 0])
    assert list(page.order) == [7, 8, 9]
    assert [page.constant(row) for row in range(3)] == [b"aa", b"bbb", b""]
    assert list(page.node) == [-1] * 3
    assert list(page.heir) == [-1] * 3


def test_inputs_are_cut_by_row() -> None:
    page = Page(0)
    layer: Any = object()
    page.extend(layer, 1, 0, [0, 1], None, b"")
    page.indices.extend([5, 6, 7])
    page.indptr.extend([1, 3])
    assert [list(page.inputs(row)) for row in range(2)] == [[5], [6, 7]]


def test_heirs_are_kept_in_order_and_cleared() -> None:
    page = Page(0)
    layer: Any = object()
    page.extend(layer, 1, 0, [0], None, b"")
    assert list(page.heirs(0)) == []
    for heir in (3, 4, 4):
        page.add_heir(0, heir)
    assert list(page.heirs(0)) == [3, 4, 4]
    page.clear_heirs(0)
    assert list(page.heirs(0)) == []
    assert not page.more


def test_a_row_costs_little() -> None:
    """About 60 bytes and its place in the list of layers."""
    page = Page(0)
    layer: Any = object()
    page.extend(layer, 1, 0, range(PAGE_SIZE), None, b"")
    columns = ("state", "flags", "attempt", "missing", "unplaced", "refs", "kin", "node", "size")
    used = sum(
        memoryview(getattr(page, name)).nbytes for name in (*columns, "order", "heir", "offsets")
    )
    assert used / PAGE_SIZE < 60
