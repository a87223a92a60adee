"""The elements of a few ranks among all of an array, exactly, without moving the others.

Every block is divided where it is: some of its elements, the samples, stand where they would in
order, and the others on the right side of them. All samples together tell two keys between which
an element of a given rank must be. Each block then says how many of its elements are below the
lower key and how many equal it, and hands over those between the two; and one task picks.
Elements that equal a key are counted and not moved, so that an array of one value costs no more
than any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from zcluster.array.emission import Edges
from zcluster.array.exchange import sample_of
from zcluster.array.expressions import Emitted, Expr
from zcluster.array.lowering import Codes, Lowering
from zcluster.array.reducing import is_nan
from zcluster.array.rows import Rows
from zcluster.protocol.blobs import Parts
from zcluster.protocol.messages import Slot

__all__ = ["Ranked", "Selection"]


#: Samples of a block that is not sorted for a few ranks.
_DIVISIONS = 64
#: Blocks of fewer elements are sorted.
_SHORT = 2_048
#: For more ranks than these blocks are sorted.
_FEW_RANKS = 8


class Ranked(Protocol):
    """What is made of elements of some ranks. It can be pickled and has a token."""

    def wanted(self, count: int) -> Any:
        """Return which ranks are needed of so many elements, of which there is at least one."""

    def finish(self, ranks: Any, elements: Any, count: int) -> Any:
        """Return the result; the ranks are in order, each once. There may be no elements."""


class _Divided:
    """Divides the elements of a block at samples: each stands where it would in order.

    The result is in parts: the elements with their step, from each sample to the next, or 1 if
    they are in order altogether; and the sample.
    """

    __slots__ = ("is_sorted", "skips_nan")

    def __init__(self, skips_nan: bool, is_sorted: bool) -> None:
        self.skips_nan = skips_nan
        self.is_sorted = is_sorted

    __name__ = "divided"

    def __call__(self, block: Any) -> Any:
        values = np.asarray(block).reshape(-1)
        if self.skips_nan:
            values = values[~is_nan(values)]
        length = len(values)
        if self.is_sorted or length < _SHORT:
            values = np.sort(values)
            return Parts([(values, 1), sample_of((values,), 2 * math.isqrt(length) + 1)])
        step = -(-length // _DIVISIONS)
        values = np.partition(values, np.arange(step - 1, length, step))
        return Parts([(values, step), sample_of((values,), _DIVISIONS)])


class _Brackets(NamedTuple):
    """Between which keys elements are.

    Attributes
    ----------
    total : int
        How many elements there are.
    ranks : ndarray of int64
        Which of them are wanted, in order.
    low, high : ndarray
        An element of each rank is not below `low`, and not above `high`.
    is_open_below, is_open_above : ndarray of bool
        There is no such bound.
    """

    total: int
    ranks: Any
    low: Any
    high: Any
    is_open_below: Any
    is_open_above: Any


class _Bracket:
    """Says between which keys the elements of some ranks are, of all samples."""

    __slots__ = ("ranked",)

    def __init__(self, ranked: Ranked) -> None:
        self.ranked = ranked

    __name__ = "bracket"

    def __call__(self, samples: Sequence[tuple[int, int, Any]]) -> _Brackets:
        count = sum(length for length, _, _ in samples)
        ranks = np.unique(self.ranked.wanted(count)) if count else np.empty(0, np.int64)
        keys = np.concatenate([keys for _, _, keys in samples])
        steps = np.repeat([step for _, step, _ in samples], [len(keys) for _, _, keys in samples])
        order = np.argsort(keys, kind="stable")
        keys, upto = keys[order], np.cumsum(steps[order])
        # Up to a sample go `upto` elements at least, and no more than `slack` above that.
        slack = sum(step - 1 for length, step, _ in samples if length)
        low = np.searchsorted(upto, ranks - slack, side="right") - 1
        high = np.searchsorted(upto, ranks + 1, side="left")
        if not len(keys):
            nothing = np.ones(len(ranks), np.bool_)
            return _Brackets(count, ranks, keys, keys, nothing, nothing)
        last = len(keys) - 1
        lows, highs = keys[np.maximum(low, 0)], keys[np.minimum(high, last)]
        return _Brackets(count, ranks, lows, highs, low < 0, high > last)


def _narrowed(divided: tuple[Any, int], brackets: _Brackets) -> Any:
    """Return, for each rank, how many elements are below its bracket and how many equal its
    lower key, and the elements between its keys.
    """
    values, step = divided
    found = []
    for low, high, *opens in zip(*brackets[2:], strict=True):
        start, stop = 0, len(values)
        if step > 1:  # what is certainly not in the bracket need not be in order
            keys = values[step - 1 :: step]
            if not opens[0]:
                start = int(np.searchsorted(keys, low, side="left")) * step
            if not opens[1]:
                after = int(np.searchsorted(keys, high, side="right"))
                stop = min((after + 1) * step - 1, stop)
        among = np.sort(values[start:stop]) if step > 1 else values
        below = first = 0
        last = len(among)
        if not opens[0]:
            below = int(np.searchsorted(among, low, side="left"))
            first = int(np.searchsorted(among, low, side="right"))
        if not opens[1]:
            last = int(np.searchsorted(among, high, side="left"))
        found.append((start + below, first - below, among[first : max(last, first)]))
    return found


class _Pick:
    """Picks the elements of the ranks, and makes the result of them."""

    __slots__ = ("dtype", "ranked")

    def __init__(self, ranked: Ranked, dtype: Any) -> None:
        self.ranked = ranked
        self.dtype = dtype

    __name__ = "pick"

    def __call__(self, brackets: _Brackets, narrowed: Sequence[Any]) -> Any:
        picked = [
            self._of_rank(brackets, place, [one[place] for one in narrowed])
            for place in range(len(brackets.ranks))
        ]
        elements = np.array(picked, brackets.low.dtype)
        with np.errstate(all="ignore"):
            found = self.ranked.finish(brackets.ranks, elements, brackets.total)
        return np.asarray(found, self.dtype)

    def _of_rank(self, brackets: _Brackets, place: int, parts: Sequence[Any]) -> Any:
        rank = int(brackets.ranks[place]) - sum(below for below, _, _ in parts)
        equal = sum(equal for _, equal, _ in parts)
        if rank < equal:
            return brackets.low[place]
        between = np.concatenate([values for _, _, values in parts])
        rank -= equal
        if rank >= len(between):
            return brackets.high[place]
        between.partition(rank)
        return between[rank]


class Selection(Emitted):
    """What is made of the elements of some ranks among all.

    Parameters
    ----------
    label : str
    source : Expr
        Of any number of axes.
    ranked : Ranked
    shape : tuple of int
        Of the result, which is one block.
    dtype : dtype
    skips_nan : bool
        Elements that are nan do not count.
    """

    def __init__(
        self,
        label: str,
        source: Expr,
        ranked: Ranked,
        shape: tuple[int, ...],
        dtype: Any,
        skips_nan: bool,
    ) -> None:
        super().__init__(label, (source,), tuple((length,) for length in shape), dtype)
        self.ranked = ranked
        self.skips_nan = skips_nan

    def token(self) -> Any:
        return (self.ranked, self.chunks, str(self.dtype), self.skips_nan)

    def with_inputs(self, inputs: Sequence[Expr]) -> Expr:
        return Selection(self.label, inputs[0], self.ranked, self.shape, self.dtype, self.skips_nan)

    def emit(self, lowering: Lowering) -> Codes:
        stem, _, token = self.name.rpartition("-")
        blocks = lowering.codes(self.inputs[0]).reshape(-1, 1)
        add = partial(lowering.add, options=self.options)
        is_sorted = len(self.ranked.wanted(1)) > _FEW_RANKS
        runs = add(f"{stem}_divided-{token}", _Divided(self.skips_nan, is_sorted), blocks)
        layer = len(lowering.graph.layers) - 1
        none = Rows.fixed(np.empty((1, 0), np.int64))
        samples = Edges(none, (), np.array([1], np.int64), [layer], [Slot(1, 0, 0.01)])
        brackets = add(f"{stem}_bracket-{token}", _Bracket(self.ranked), samples)
        pairs = np.stack([runs, np.repeat(brackets, len(runs))], axis=1)
        edges = Edges(Rows.fixed(pairs), [Slot(1, 0), Slot()], np.zeros(len(runs), np.int64))
        add(f"{stem}_narrowed-{token}", _narrowed, edges)
        layer = len(lowering.graph.layers) - 1
        edges = Edges(Rows.fixed(brackets.reshape(1, 1)), (), None, [layer], [Slot()])
        return add(self.name, _Pick(self.ranked, self.dtype), edges).reshape(self.numblocks)
