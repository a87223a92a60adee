"""Tables with a row for each block, against lists of lists."""

from __future__ import annotations

from itertools import chain, pairwise, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zcluster.array.rows import Rows, interleaved, outer

FAST = settings(max_examples=60, deadline=None)

Lists = list[list[int]]
TABLES = st.integers(1, 6).flatmap(
    lambda count: st.one_of(
        st.lists(st.lists(st.integers(-5, 5), max_size=4), min_size=count, max_size=count),
        st.integers(0, 3).map(lambda width: [[7] * width] * count),
    )
)


def table(lists: Lists) -> Rows:
    points = np.cumsum([0, *map(len, lists)])
    return Rows.of(points, np.array([value for row in lists for value in row], np.int64))


def lists(rows: Rows) -> Lists:
    points, values = rows.points.tolist(), rows.values.tolist()
    return [values[start:stop] for start, stop in pairwise(points)]


@given(TABLES)
@FAST
def test_a_table_is_its_rows(given_lists: Lists) -> None:
    """Of one length they are known to be."""
    made = table(given_lists)
    assert lists(made) == given_lists
    assert made.count == len(given_lists)
    widths = set(map(len, given_lists))
    assert made.width == (widths.pop() if len(widths) == 1 else -1)
    assert (made.indptr is None) == (made.width >= 0)


@given(TABLES, st.data())
@FAST
def test_rows_are_taken_in_any_order(given_lists: Lists, data: st.DataObject) -> None:
    """Also twice, and none."""
    chosen = data.draw(st.lists(st.integers(0, len(given_lists) - 1), max_size=8))
    found = table(given_lists).take(np.array(chosen, np.int64))
    assert lists(found) == [given_lists[row] for row in chosen]


@given(st.integers(1, 5), st.data())
@FAST
def test_tables_are_joined_row_by_row(count: int, data: st.DataObject) -> None:
    """Whether their rows are of one length or not."""
    one = st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=count, max_size=count)
    even = st.integers(0, 3).map(lambda width: [[width] * width] * count)
    tables = data.draw(st.lists(st.one_of(one, even), min_size=1, max_size=4))
    joined = interleaved([table(each) for each in tables])
    assert lists(joined) == [[*chain(*rows)] for rows in zip(*tables, strict=True)]


def test_entries_may_have_dimensions() -> None:
    """Boxes are entries of shape (ndim, 3)."""
    first = Rows.fixed(np.arange(12).reshape(2, 1, 2, 3))
    second = Rows.of(np.array([0, 0, 2]), np.arange(12, 24).reshape(2, 2, 3))
    joined = interleaved([first, second])
    assert joined.points.tolist() == [0, 1, 4]
    assert joined.values.shape == (4, 2, 3)
    assert joined.values[1].tolist() == [[6, 7, 8], [9, 10, 11]]
    assert joined.take(np.array([1])).values.shape == (3, 2, 3)


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), max_size=3))
@FAST
def test_a_grid_holds_all_combinations(lengths: Lists) -> None:
    """Of what its axes hold at each place; without axes there is one place with one of them."""
    axes = [np.cumsum([0, *each]) for each in lengths]
    points, entries = outer(axes)
    expected: list[list[tuple[int, ...]]] = []
    for place in product(*[range(len(each)) for each in lengths]):
        spans = [range(int(a[p]), int(a[p + 1])) for a, p in zip(axes, place, strict=True)]
        expected.append(list(product(*spans)))
    found = list(zip(*[each.tolist() for each in entries], strict=True))
    assert points.tolist() == np.cumsum([0, *map(len, expected)]).tolist()
    if lengths:
        assert found == [*chain(*expected)]
