"""The static order of a graph's tasks: depth first, so that little is held at a time.

A task's *rank* says when it should run if there were one slot: smaller first. The scheduler takes
ready tasks by rank, so the same order serves many slots. It is a depth-first search that starts at
the tasks nobody takes and goes down to their inputs; a task's rank is its place in the order in
which the search leaves tasks. From that follow the rules that people know:

1. last in, first out: what a finished task makes ready runs next; a chain is run to its end before
   another is begun;
2. all that one result needs comes before what the next one needs: a binary reduction of depth
   ``d`` never holds more than ``d + 1`` results;
3. among the inputs of a task those come first upon which most depends (counted through the whole
   graph); among equals those with the longest way below them, then those with the lower number;
4. a task that alone still needs its inputs, all of them made, runs at once: it takes the place of
   what it frees. So of two reductions of the same data neither keeps it for the other, and in ``x +
   x.T`` the two blocks that need the same two come after each other. By count, no more is held at
   any time than without this rule.

`ranks` works on arrays, `order_graph` on a graph, `spec.order` on a hand-written one. Where no task
is taken twice (maps, reductions) the search is done level by level in NumPy, without a Python step
for each edge.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from zcluster.errors import InvalidGraph
from zcluster.graph.columns import is_bulk
from zcluster.graph.layers import Graph, Integers

if TYPE_CHECKING:
    import numpy as np

__all__ = ["order_graph", "ranks"]


# What one level of the search costs in NumPy, in tasks that Python would do meanwhile.
_LEVEL_COST = 60


def ranks(indptr: Integers, indices: Integers) -> Integers:
    """Return the rank of every task of a graph.

    Parameters
    ----------
    indptr, indices : integers
        Compressed sparse rows: the inputs of task ``t`` are
        ``indices[indptr[t]:indptr[t + 1]]``, all of them below ``t``; negative ones (imports) are
        left out of account.

    Returns
    -------
    ranks : list or numpy.ndarray of int32

    Examples
    --------
    Two leaves and their sum, twice, and the sum of both:

    >>> ranks([0, 0, 0, 0, 0, 2, 4, 6], [0, 1, 2, 3, 4, 5])
    [0, 1, 3, 4, 2, 5, 6]
    """
    count = len(indptr) - 1
    if not is_bulk(count):
        starts, listed = _as_list(indptr), _as_list(indices)
        if any(i < 0 for i in listed):
            starts, listed = _without_imports(starts, listed)
        columns = _sorted_rows(starts, listed)
        return _search(starts, columns, *_takers(starts, columns))
    np: Any = _numpy()
    rows, columns = _edges(np, indptr, indices)
    taken = np.bincount(columns, minlength=count)
    if not len(columns):
        return np.arange(count, dtype=np.int32)  # type: ignore[no-any-return]
    if taken.max() <= 1:
        by_level = _forest(np, count, rows, columns)
        if by_level is not None:
            return by_level
    total, height = _weights(count, rows.tolist(), columns.tolist())
    preference = np.empty(count, np.int64)
    preference[np.lexsort((-np.array(height), -np.array(total)))] = np.arange(count)
    by_row = np.lexsort((preference[columns], rows))
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=count), out=starts[1:])
    # Sums of numbers of tasks: exact as floats for any graph that fits into memory.
    takers = np.bincount(columns, weights=rows, minlength=count).astype(np.int64)
    found = _search(starts.tolist(), columns[by_row].tolist(), taken.tolist(), takers.tolist())
    return np.array(found, np.int32)  # type: ignore[no-any-return]


def order_graph(graph: Graph) -> None:
    """Set the orders of a graph's layers; they stay None where they equal the numbers.

    An input *all of a layer* counts as an edge to the last task of that layer.
    """
    if not graph.count:
        return
    lengths: list[Any] = []
    listed: list[Any] = []
    for layer in graph.layers:
        lasts = [graph.layers[k].first + graph.layers[k].count - 1 for k in layer.whole]
        if not lasts and layer.indptr is None:
            lengths.append((layer.arity, layer.count))
            listed.append(layer.indices)
            continue
        for position in range(layer.count):
            inputs = layer.inputs(position) + lasts
            lengths.append((len(inputs), 1))
            listed.append(inputs)
    if all(not length for length, _ in lengths):
        return
    indptr, indices = _joined(graph.count, lengths, listed)
    found = ranks(indptr, indices)
    for layer in graph.layers:
        own = found[layer.first : layer.first + layer.count]
        numbers = range(layer.first, layer.first + layer.count)
        same = own == list(numbers) if isinstance(own, list) else _equals(own, numbers)
        layer.orders = None if same else own


def _numpy() -> Any:
    import numpy  # only for large graphs: a client of small ones never loads it

    return numpy


def _equals(values: Any, numbers: range) -> bool:
    return bool(values[0] == numbers[0] and (values[1:] - values[:-1] == 1).all())


def _joined(
    count: int, lengths: list[tuple[int, int]], listed: list[Any]
) -> tuple[Integers, Integers]:
    """Join the edges of layers into compressed sparse rows."""
    if not is_bulk(count):
        each = [length for length, times in lengths for _ in range(times)]
        return list(accumulate(each, initial=0)), [i for some in listed for i in _as_list(some)]
    np: Any = _numpy()
    pairs = np.array(lengths, np.int64)
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.repeat(pairs[:, 0], pairs[:, 1]), out=starts[1:])
    if all(isinstance(some, list) for some in listed):
        return starts, np.array([i for some in listed for i in some], np.int64)
    return starts, np.concatenate([np.asarray(some, np.int64) for some in listed])


def _as_list(values: Integers) -> list[int]:
    if isinstance(values, list):
        return values
    if isinstance(values, (tuple, array, range)):
        return list(values)
    numpy_values: Any = values
    return numpy_values.tolist()  # type: ignore[no-any-return]


def _without_imports(starts: list[int], listed: list[int]) -> tuple[list[int], list[int]]:
    rows = [[i for i in listed[a:b] if i >= 0] for a, b in pairwise(starts)]
    return list(accumulate(map(len, rows), initial=0)), [i for row in rows for i in row]


def _edges(np: Any, indptr: Integers, indices: Integers) -> tuple[Any, Any]:
    """Return (task, input) of each edge that is not an import, by task."""
    points = np.asarray(indptr, np.int64)
    columns = np.asarray(indices, np.int64)
    rows = np.repeat(np.arange(len(points) - 1), np.diff(points))
    own = columns >= 0
    if not own.all():
        rows, columns = rows[own], columns[own]
    if (columns >= rows).any():
        at = int((columns >= rows).argmax())
        raise InvalidGraph(
            f"task {rows[at]} takes task {columns[at]}; expected inputs to come before the tasks "
            "that take them"
        )
    return rows, columns


def _weights(
    count: int, rows: Sequence[int], columns: Sequence[int]
) -> tuple[list[float], list[int]]:
    """Return how much depends on each task, and how long the way below it is.

    The former counts paths, so it may grow beyond any integer: floats, which end at infinity.
    """
    height = [0] * count
    for task, dependency in zip(rows, columns, strict=True):
        above = height[dependency] + 1
        if above > height[task]:
            height[task] = above
    total = [0.0] * count
    for at in range(len(rows) - 1, -1, -1):
        total[columns[at]] += total[rows[at]] + 1
    return total, height


def _sorted_rows(starts: list[int], listed: list[int]) -> list[int]:
    """Sort the inputs of each task by preference."""
    count = len(starts) - 1
    rows = [t for t in range(count) for _ in range(starts[t], starts[t + 1])]
    total, height = _weights(count, rows, listed)
    result = []
    for task in range(count):
        inputs = listed[starts[task] : starts[task + 1]]
        if len(inputs) > 1:
            inputs.sort(key=lambda i: (-total[i], -height[i], i))
        result += inputs
    return result


def _takers(starts: list[int], columns: list[int]) -> tuple[list[int], list[int]]:
    """Return for each task how many edges take it, and the sum of the numbers of who does."""
    count = len(starts) - 1
    uses, takers = [0] * count, [0] * count
    for task in range(count):
        for dependency in columns[starts[task] : starts[task + 1]]:
            uses[dependency] += 1
            takers[dependency] += task
    return uses, takers


def _search(starts: list[int], columns: list[int], uses: list[int], takers: list[int]) -> list[int]:
    """Search depth first from the tasks nobody takes, by number; return the ranks.

    What is left of `takers` is, when one use is left, who that is.
    """
    count = len(starts) - 1
    roots = [task for task in range(count) if not uses[task]]
    #: Inputs of a task that are not made yet, or that others need, too.
    own = [stop - start for start, stop in pairwise(starts)]
    seen = bytearray(count)
    rank = [0] * count
    number = 0
    for root in roots:
        stack = [root]
        while stack:
            task = stack.pop()
            if task >= 0:
                if seen[task]:
                    continue
                seen[task] = 1
                start, stop = starts[task], starts[task + 1]
                if start < stop:
                    stack.append(~task)
                    stack += columns[start:stop][::-1]
                    continue
            else:  # all below it have their ranks
                task = ~task
                start, stop = starts[task], starts[task + 1]
            rank[task] = number
            number += 1
            for dependency in columns[start:stop]:
                left = uses[dependency] = uses[dependency] - 1
                takers[dependency] -= task
                if left == 1:
                    last = takers[dependency]
                    own[last] -= 1
                    if not own[last] and not seen[last]:
                        seen[last] = 1
                        stack.append(~last)
    return rank


def _forest(np: Any, count: int, rows: Any, columns: Any) -> np.ndarray[Any, Any] | None:
    """Return the ranks where nothing is taken twice; None if there are too many levels for it.

    A task's rank is where its subtree starts, plus the size of the subtree, less one.
    """
    # Numbers of tasks in four bytes, as ranks are: what is held here decides how much memory a
    # graph of a million tasks takes.
    parent = np.full(count, -1, np.int32)
    parent[columns] = rows
    depth = _depths(np, parent)
    levels = int(depth.max()) + 1
    if levels * _LEVEL_COST > count:
        return None
    by_depth = np.argsort(depth, kind="stable")
    cuts = np.searchsorted(depth[by_depth], np.arange(levels + 1))
    size = np.ones(count, np.int32)
    height = np.zeros(count, np.int32)
    for level in range(levels - 1, 0, -1):
        tasks = by_depth[cuts[level] : cuts[level + 1]]
        above = parent[tasks]
        np.add.at(size, above, size[tasks])
        np.maximum.at(height, above, height[tasks] + 1)
    # Everything in one subtree has equally much depending on it: height and number decide, at
    # the top the number alone.
    np.negative(height, out=height)
    height[parent < 0] = 0
    siblings = np.lexsort((height, parent))
    # This may wrap around, but the differences between siblings that are taken of it are right.
    before = np.cumsum(size[siblings], dtype=np.int32)
    before -= size[siblings]
    above = parent[siblings]
    begins = np.flatnonzero(np.diff(above, prepend=-2))
    before -= np.repeat(before[begins], np.diff(begins, append=count))
    del above, begins
    start = np.empty(count, np.int32)
    start[siblings] = before
    for level in range(1, levels):
        tasks = by_depth[cuts[level] : cuts[level + 1]]
        start[tasks] += start[parent[tasks]]
    start += size
    start -= 1
    return start  # type: ignore[no-any-return]


def _depths(np: Any, parent: Any) -> Any:
    """Return the distance of each task from the top, by doubling."""
    depth = (parent >= 0).astype(np.int32)
    above = parent.copy()
    while True:
        below = np.flatnonzero(above >= 0)
        if not len(below):
            return depth
        ancestors = above[below]
        depth[below] += depth[ancestors]
        above[below] = above[ancestors]
