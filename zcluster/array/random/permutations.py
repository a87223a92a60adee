"""Random orders that can be asked for in any part: what stands at place ``i`` of a permutation.

Up to 65,536 items the whole order is drawn, by NumPy's shuffle, for each block again: all orders
are equally likely. Of more items, a block computes what stands at its places and nothing else. A
**Feistel network** is a permutation of the numbers of so many bits: it cuts a number into two
halves, and in each of its rounds changes one half by a hash of the other. Places whose number is
not below the count of items go through it again until it is ("cycle walking", Black and Rogaway,
"Ciphers with arbitrary finite domains", 2002); fewer than half need that. The rounds are twelve,
two more than NIST's FF1 (SP 800-38G) has for numbers as small. How a shuffle is made of a bijection
like this, and how well it passes for one: Mitchell, Stokes, Frank and Holmes, "Bandwidth-optimal
random shuffling for GPUs", 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zcluster.array.random.cells import local_generator
from zcluster.array.random.seeds import Key

__all__ = ["Order", "WeightedOrder", "permuted_places", "weighted_places"]

Words = npt.NDArray[np.uint64]

#: Up to so many items the whole order is drawn for each block.
_FEW = 65_536
_ROUNDS = 12
#: Places computed at once: what is needed meanwhile stays in the cache.
_PIECE = 16_384

# Odd constants with about as many ones as zeros, of the finalizer that David Stafford found for 64
# bits ("Mix13", 2011).
_FIRST, _SECOND = np.uint64(0xBF58_476D_1CE4_E5B9), np.uint64(0x94D0_49BB_1331_11EB)


def permuted_places(places: npt.NDArray[np.int64], count: int, key: Key) -> npt.NDArray[np.int64]:
    """Return which items stand at some places of a random order.

    Parameters
    ----------
    places : ndarray of int64
        Each from 0 to ``count - 1``.
    count : int
        How many items there are.
    key : tuple of int
        Says which order.

    Examples
    --------
    >>> order = permuted_places(np.arange(100_000), 100_000, (1, 2))
    >>> bool((np.sort(order) == np.arange(100_000)).all())
    True
    """
    if count <= _FEW:
        taken: npt.NDArray[np.int64] = local_generator(key).permutation(count)[places]
        return taken
    network = _Network(count, key)
    flat = places.reshape(-1).astype(np.uint64)
    for start in range(0, len(flat), _PIECE):
        network.walk(flat[start : start + _PIECE])
    return flat.astype(np.int64).reshape(places.shape)


class _Network:
    """A permutation of the numbers below a count."""

    def __init__(self, count: int, key: Key) -> None:
        bits = (count - 1).bit_length()
        low, high = bits // 2, bits - bits // 2
        self.count = np.uint64(count)
        self.low, self.high = np.uint64(low), np.uint64(high)
        self.mask = np.uint64((1 << low) - 1)
        words = local_generator(key).integers(0, 1 << 64, _ROUNDS, dtype=np.uint64, endpoint=False)
        self.keys = list(words)

    def walk(self, numbers: Words) -> None:
        """Replace numbers by what they become."""
        numbers[...] = self._pass(numbers)
        (far,) = np.nonzero(numbers >= self.count)
        while len(far):
            made = self._pass(numbers[far])
            numbers[far] = made
            far = far[made >= self.count]

    def _pass(self, numbers: Words) -> Words:
        left, right = numbers >> self.low, numbers & self.mask
        for number, key in enumerate(self.keys):
            if number % 2:
                right ^= _hashed(left, key, self.low)
            else:
                left ^= _hashed(right, key, self.high)
        return (left << self.low) | right


def _hashed(half: Words, key: np.uint64, bits: np.uint64) -> Words:
    """Return so many bits of a hash of each number."""
    mixed = half ^ key
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(32)
    mixed *= _SECOND
    return mixed >> (np.uint64(64) - bits)


def weighted_places(
    places: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], count: int, key: Key
) -> npt.NDArray[np.int64]:
    """Return which items stand at some places when items are drawn by weight, each once.

    The items in order of an exponential number divided by their weight: the first is each item
    with a probability of its share of all weights, the second with its share of the rest, and so
    on (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).

    Parameters
    ----------
    places : ndarray of int64
        Each from 0 to ``count - 1``.
    weights : ndarray of float64
        Of all items; at least `count` are above 0.
    count : int
        How many are drawn.
    key : tuple of int

    Examples
    --------
    >>> weighted_places(np.arange(2), np.array([0.0, 1.0, 2.0]), 2, (1, 2)).tolist()
    [2, 1]
    """
    waits = local_generator(key).standard_exponential(len(weights))
    with np.errstate(divide="ignore"):
        waits /= weights  # never, where the weight is 0
    first = np.argpartition(waits, count - 1)[:count] if count < len(weights) else np.arange(count)
    drawn: npt.NDArray[np.int64] = first[np.argsort(waits[first], kind="stable")][places]
    return drawn


def _places(
    whole: tuple[int, ...], starts: tuple[int, ...], shape: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Return the number in C order of each element of a block."""
    places = np.zeros(shape, np.int64)
    step = 1
    for axis in range(len(whole) - 1, -1, -1):
        along = np.arange(starts[axis], starts[axis] + shape[axis]) * step
        places += along.reshape([-1] + [1] * (len(whole) - 1 - axis))
        step *= whole[axis]
    return places


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The function that makes blocks of a random order: items drawn without putting them back.

    Attributes
    ----------
    count : int
        How many items there are.
    key : tuple of int
    shape : tuple of int
        Of the whole array, which may have fewer places than there are items.
    values : ndarray or None
        The items; None: numbers from 0.
    """

    count: int
    key: Key
    shape: tuple[int, ...]
    values: npt.NDArray[Any] | None = None

    @property
    def __name__(self) -> str:
        return "permutation"

    def __call__(self, starts: tuple[int, ...], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        drawn = permuted_places(_places(self.shape, starts, shape), self.count, self.key)
        return drawn if self.values is None else np.asarray(self.values[drawn])

    def __zcluster_tokenize__(self) -> Any:
        return ("order", self.count, self.key, self.shape, self.values)


@dataclass(frozen=True, slots=True, eq=False)
class WeightedOrder:
    """The same for items with weights; each block draws the order of all.

    Attributes
    ----------
    weights : ndarray of float64
    key, shape, values
        See `Order`.
    """

    weights: npt.NDArray[np.float64]
    key: Key
    shape: tuple[int, ...]
    values: npt.NDArray[Any] | None = None

    @property
    def __name__(self) -> str:
        return "choice"

    def __call__(self, starts: tuple[int, ...], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        places = _places(self.shape, starts, shape)
        count = math.prod(self.shape)
        if not count:
            drawn = places
        else:
            drawn = weighted_places(places, self.weights, count, self.key)
        return drawn if self.values is None else np.asarray(self.values[drawn])

    def __zcluster_tokenize__(self) -> Any:
        return ("weighted", self.weights, self.key, self.shape, self.values)
