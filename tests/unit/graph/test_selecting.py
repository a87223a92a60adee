"""What part of each input a task takes, as the columns of its layer say."""

from __future__ import annotations

import numpy as np

from zcluster.graph.layers import GraphLayer
from zcluster.graph.selecting import RowsOf, parts_of
from zcluster.protocol.messages import Slot
from zcluster.protocol.selections import Box, Part


def test_the_last_slot_stands_for_all_that_follow() -> None:
    """And without slots everything is taken whole."""
    slots = [Slot(), Slot(1)]
    assert parts_of(4, slots, [], [], [7, 8, 9], 0) == [None, Part(7), Part(8), Part(9)]
    assert parts_of(2, [], [], [], [], 0) == [None, None]


def test_whole_layers_follow_the_listed_inputs() -> None:
    """Each has one slot, for all of its tasks; kind 2 is the part with the task's number."""
    found = parts_of(1, [Slot(3, 1)], [2, 1, 1], [Slot(2), Slot(), Slot(1)], [0, 4, 2, 6], 5)
    assert found == [Box(((0, 4, 2),)), Part(5), Part(5), None, Part(6)]
    assert parts_of(0, [], [2], [], [], 0) == [None, None]


def layer(indptr: list[int] | None) -> GraphLayer:
    made = GraphLayer("x", (2,), 2, 0)
    made.indptr = indptr
    made.slots = [Slot(1), Slot(3, 1)]
    made.selections = np.arange(8)
    return made


def test_rows_are_as_long_as_the_slots_of_their_inputs() -> None:
    """By counting where tasks take differently many, else by position."""
    uneven = RowsOf(layer([0, 1, 4]))
    assert [uneven.row(0), uneven.row(1)] == [[0], [1, 2, 3, 4, 5, 6, 7]]
    even = RowsOf(layer(None))
    assert [even.row(0), even.row(1)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
