"""Random numbers that depend on a key and on their place in an array, and on nothing else.

However an array is cut into blocks, whoever makes them, however often: each element gets the same
number. For that the array is divided into **cells**, in a grid that its shape alone decides, and
each cell has a generator of its own. Its elements are drawn in C order, all by one call of NumPy's
distribution, which may take as many random bits for each as it likes. A block draws the cells it
touches, each down to the last row it needs, and takes its part.

The state a cell starts from has 256 bits: what the counter-based generator Philox-4x64 (Salmon,
Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011) makes of the draw's key
and the number of the cell. The generator within a cell is SFC64 (Chris Doty-Humphrey, PractRand).
Why two: Philox may start anywhere but takes twice the time of NumPy's default generator for each
word; PCG64DXSM can be moved to any place, but to move it costs as much as 300 words, which is much
for each row of a block of 1000 × 1000; SFC64 cannot be moved, and is the quickest of all. Cells are
thousands of elements, so that starting one weighs little, and what a block draws in vain at its
borders is little too: where the length of an axis has a divisor of about the right size, that is
the side of the cells, and blocks whose lengths it divides draw nothing in vain.

Blocks that are thin across many cells pay for that: a block of one column takes the time of a
block of about a hundred columns of `random`, or forty of `normal`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from zcluster.array.random.seeds import Key

__all__ = ["Sample", "cell_shape", "draw_block", "local_generator"]

#: Draws the numbers of a box: ``sample(generator, starts, shape)``, with its place in the array.
#: What it returns may have further axes.
Sample: TypeAlias = Callable[
    [np.random.Generator, tuple[int, ...], tuple[int, ...]], npt.NDArray[Any]
]


@lru_cache(maxsize=1024)
def cell_shape(shape: tuple[int, ...], room: int) -> tuple[int, ...]:
    """Return the sides of the cells of an array of this shape, of about `room` elements.

    Sides are about as long as each other, as far as the array is. Each is a divisor of the axis if
    there is one that is about right.

    Parameters
    ----------
    shape : tuple of int
    room : int
        1 or more.

    Examples
    --------
    >>> cell_shape((10_000, 10_000), 16_384), cell_shape((625_000, 2), 16_384)
    ((125, 125), (6250, 2))
    """
    sides = [1] * len(shape)
    # The shorter axes first: what they leave goes to the longer ones. Among equals the first axis
    # comes last and gets the most, since a block need not draw all rows of a cell.
    order = sorted(range(len(shape)), key=lambda axis: (shape[axis], -axis))
    for place, axis in enumerate(order):
        wanted = _root(room, len(shape) - place)
        sides[axis] = _side(shape[axis], wanted)
        room = max(room // sides[axis], 1)
    return tuple(sides)


def _root(value: int, degree: int) -> int:
    """Return the largest integer whose power is not above the value: exact on every machine."""
    root = int(value ** (1 / degree))
    while root**degree > value:
        root -= 1
    while (root + 1) ** degree <= value:
        root += 1
    return root


def _side(length: int, wanted: int) -> int:
    """Return the divisor of a length that is nearest to what is wanted, if one is near it."""
    if length <= wanted:
        return max(length, 1)
    candidates = np.arange(max(wanted * 7 // 10, 1), wanted * 14 // 10 + 1)
    divisors = candidates[length % candidates == 0]
    if not len(divisors):
        return wanted
    return int(divisors[np.argmin(np.abs(divisors - wanted))])


class _Local(threading.local):
    """A thread's generators. Whoever uses them first says where they start."""

    def __init__(self) -> None:
        self.starts = np.random.Philox(0)
        self.starts_state: Any = self.starts.state
        self.bits = np.random.SFC64(0)
        self.bits_state: Any = self.bits.state
        self.generator = np.random.Generator(self.bits)


_local = _Local()


def _start_states(key: Key, first: int, count: int) -> npt.NDArray[np.uint64]:
    """Return the states that some cells start from, four words each."""
    state = _local.starts_state
    state["state"]["key"] = np.array(key, np.uint64)
    state["state"]["counter"] = np.array([first, 0, 0, 0], np.uint64)
    state["buffer_pos"] = 4  # nothing is left of the counter before
    _local.starts.state = state
    return _local.starts.random_raw(4 * count).reshape(count, 4)


def local_generator(key: Key, number: int = 0) -> np.random.Generator:
    """Return the generator of a cell. It is valid until this thread asks for another one.

    Examples
    --------
    >>> first = local_generator((1, 2)).random(3)
    >>> bool((local_generator((1, 2)).random(3) == first).all())
    True
    """
    _restart(_local, _start_states(key, number, 1)[0])
    return _local.generator


def _restart(local: _Local, words: npt.NDArray[np.uint64]) -> None:
    state = local.bits_state
    state["state"]["state"] = words
    local.bits.state = state  # this forgets half a word that was left, too


class _Cell(NamedTuple):
    """A cell along one axis.

    Attributes
    ----------
    number, low : int
        Which it is, and where it begins.
    drawn : int
        How many of its places are drawn.
    source, target : slice
        The part of what is drawn that the block has, and where it goes.
    """

    number: int
    low: int
    drawn: int
    source: slice
    target: slice


def _cells(length: int, side: int, start: int, count: int, is_first: bool) -> list[_Cell]:
    """Return the cells along an axis that a block touches.

    Along the first axis nothing is drawn after the last row that is needed: what is drawn before
    stays the same.
    """
    stop = start + count
    cells = []
    for number in range(start // side, -(-stop // side)):
        low = number * side
        begin, end = max(low, start), min(low + side, stop)
        drawn = end - low if is_first else min(side, length - low)
        target = slice(begin - start, end - start)
        cells.append(_Cell(number, low, drawn, slice(begin - low, end - low), target))
    return cells


def draw_block(
    sample: Sample,
    key: Key,
    whole: Sequence[int],
    cell: Sequence[int],
    starts: Sequence[int],
    out: npt.NDArray[Any],
    inner: tuple[slice, ...] = (),
) -> None:
    """Fill a block of an array with the numbers that belong there.

    Parameters
    ----------
    sample : callable
    key : tuple of int
    whole : sequence of int
        Lengths of the array, of one axis at least.
    cell : sequence of int
        What `cell_shape` says of it.
    starts : sequence of int
        Where the block begins.
    out : ndarray
        The block; it may have further axes, which `sample` returns too.
    inner : tuple of slice
        The part of the further axes that the block has.
    """
    if not out.size:
        return
    axes = [
        _cells(length, side, start, count, not axis)
        for axis, (length, side, start, count) in enumerate(
            zip(whole, cell, starts, out.shape[: len(whole)], strict=True)
        )
    ]
    grid = [-(-length // side) for length, side in zip(whole, cell, strict=True)]
    local, last = _local, axes[-1]
    for outer in product(*axes[:-1]):
        number = 0
        for one, count in zip(outer, grid, strict=False):
            number = number * count + one.number
        states = _start_states(key, number * grid[-1] + last[0].number, len(last))
        lows = tuple([one.low for one in outer])
        drawn = tuple([one.drawn for one in outer])
        sources = tuple([one.source for one in outer])
        targets = tuple([one.target for one in outer])
        for one, words in zip(last, states, strict=True):
            _restart(local, words)
            made = sample(local.generator, (*lows, one.low), (*drawn, one.drawn))
            out[(*targets, one.target)] = made[(*sources, one.source, *inner)]
            del made  # the next one takes its memory, which is still in the cache
