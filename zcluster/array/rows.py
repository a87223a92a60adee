"""Tables with a row for each block, written by NumPy: the columns of layers are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Rows", "interleaved", "outer"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """A table whose rows may differ in length.

    Attributes
    ----------
    count : int
        Rows.
    width : int
        Entries of each row; -1 where they differ.
    indptr : ndarray of int64 or None
        Row ``r`` is ``values[indptr[r]:indptr[r + 1]]``; None with a fixed width.
    values : ndarray
        The entries, along the first axis.
    """

    count: int
    width: int
    indptr: Integers | None
    values: npt.NDArray[Any]

    @classmethod
    def fixed(cls, values: npt.NDArray[Any]) -> Rows:
        """Return a table with the rows of an array of two dimensions or more."""
        count, width = values.shape[:2]
        return cls(count, width, None, values.reshape(count * width, *values.shape[2:]))

    @classmethod
    def of(cls, indptr: Integers, values: npt.NDArray[Any]) -> Rows:
        """Return a table, with a fixed width if all rows are as long."""
        count = len(indptr) - 1
        lengths = np.diff(indptr)
        if count and bool((lengths == lengths[0]).all()):
            return cls(count, int(lengths[0]), None, values)
        return cls(count, -1, indptr, values)

    @property
    def points(self) -> Integers:
        """Where rows begin, and where the last one ends."""
        if self.indptr is not None:
            return self.indptr
        return np.arange(self.count + 1, dtype=np.int64) * self.width

    def take(self, rows: Integers) -> Rows:
        """Return some rows, in this order."""
        if self.indptr is None:
            table = self.values.reshape(self.count, self.width, *self.values.shape[1:])
            return Rows.fixed(table[rows])
        lengths = np.diff(self.indptr)[rows]
        points = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=points[1:])
        at = np.arange(points[-1]) + np.repeat(self.indptr[rows] - points[:-1], lengths)
        return Rows(len(rows), -1, points, self.values[at])


def interleaved(tables: Sequence[Rows]) -> Rows:
    """Join tables row by row.

    Examples
    --------
    >>> one = Rows.fixed(np.array([[1, 2], [3, 4]]))
    >>> other = Rows.of(np.array([0, 0, 1]), np.array([9]))
    >>> joined = interleaved([one, other])
    >>> joined.points.tolist(), joined.values.tolist()
    ([0, 2, 5], [1, 2, 3, 4, 9])
    """
    if len(tables) == 1:
        return tables[0]
    count = tables[0].count
    if all(table.indptr is None for table in tables):
        parts = [t.values.reshape(count, t.width, *t.values.shape[1:]) for t in tables]
        return Rows.fixed(np.concatenate(parts, axis=1))
    lengths = [np.diff(table.points) for table in tables]
    points = np.zeros(count + 1, np.int64)
    np.cumsum(sum(lengths), out=points[1:])
    values = np.empty((points[-1], *tables[0].values.shape[1:]), tables[0].values.dtype)
    start = points[:-1].copy()
    for table, own in zip(tables, lengths, strict=True):
        at = np.arange(len(table.values)) + np.repeat(start - table.points[:-1], own)
        values[at] = table.values
        start += own
    return Rows(count, -1, points, values)


def outer(axes: Sequence[Integers]) -> tuple[Integers, list[Integers]]:
    """Return the rows of a grid: each holds all combinations of what its axes hold there.

    Parameters
    ----------
    axes : sequence of ndarray of int64
        For each axis, the ``indptr`` of a table with a row for each place along it.

    Returns
    -------
    indptr : ndarray of int64
        With a row for each place of the grid, in C order.
    entries : list of ndarray of int64
        For each axis, its entry in each combination; the last axis runs quickest.

    Examples
    --------
    >>> points, (first, second) = outer([np.array([0, 1]), np.array([0, 2, 3])])
    >>> points.tolist(), first.tolist(), second.tolist()
    ([0, 2, 3], [0, 0, 0], [0, 1, 2])
    """
    indptr = np.array([0, 1], np.int64)
    entries: list[Integers] = []
    for points in axes:
        starts, lengths = points[:-1], np.diff(points)
        own = np.diff(indptr)
        # Row (r, s) of the new grid has own[r] * lengths[s] combinations.
        counts = np.multiply.outer(own, lengths).ravel()
        new = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=new[1:])
        row = np.repeat(np.arange(len(counts)), counts)
        inside = np.arange(new[-1]) - new[row]
        along = row % len(lengths)
        before, last = np.divmod(inside, lengths[along])
        taken = indptr[row // len(lengths)] + before
        entries = [one[taken] for one in entries]
        entries.append(starts[along] + last)
        indptr = new
    return indptr, entries
