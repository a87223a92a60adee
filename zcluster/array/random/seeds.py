"""Where random numbers begin: seeds, and the keys of draws made of them.

A generator holds a seed and counts its draws. The key of draw number ``d`` is 128 bits that
`numpy.random.SeedSequence` makes of the seed's entropy and a path ending in ``d``: the same in
every process, and unrelated to the keys of other draws and seeds. A lazy array holds its key and
nothing else of the generator.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from zcluster.errors import InvalidArgument

__all__ = ["Key", "Seed", "as_seed"]

#: Two words of 64 bits.
Key: TypeAlias = tuple[int, int]

# First words of paths: what follows is the number of a draw, or of a generator made by `spawn`.
# Large, so that they are not met in the spawn keys that a SeedSequence of the user counts.
_DRAW, _SPAWN = 0x7A63_0001, 0x7A63_0002


@dataclass(frozen=True, slots=True)
class Seed:
    """What all numbers of a generator come from.

    Attributes
    ----------
    entropy : int or tuple of int
    path : tuple of int
        Tells generators of the same entropy apart.
    """

    entropy: int | tuple[int, ...]
    path: tuple[int, ...] = ()

    def key(self, draw: int) -> Key:
        """Return the key of a draw.

        Examples
        --------
        >>> Seed(5).key(0) == Seed(5).key(0), Seed(5).key(0) == Seed(5).key(1)
        (True, False)
        """
        made = np.random.SeedSequence(self.entropy, spawn_key=(*self.path, _DRAW, draw))
        first, second = made.generate_state(2, np.uint64).tolist()
        return first, second

    def spawned(self, number: int) -> Seed:
        """Return the seed of a generator that this one's generator makes."""
        return Seed(self.entropy, (*self.path, _SPAWN, number))


def as_seed(value: Any = None) -> Seed:
    """Return a seed made of what users give as one.

    Parameters
    ----------
    value : None, int, sequence of int, SeedSequence, BitGenerator, Generator or RandomState
        None takes 128 bits from the operating system. From NumPy's generators 128 bits are drawn,
        which moves them on.

    Raises
    ------
    InvalidArgument
        If a number is below 0.
    TypeError
        If it is nothing of these.

    Examples
    --------
    >>> as_seed(5)
    Seed(entropy=5, path=())
    """
    if value is None:
        return Seed(secrets.randbits(128))
    if isinstance(value, np.random.SeedSequence):
        entropy = value.entropy
        return Seed(
            entropy if isinstance(entropy, int) else _integers(entropy),
            tuple(value.spawn_key),
        )
    if isinstance(value, np.random.Generator | np.random.RandomState):
        return Seed(int.from_bytes(value.bytes(16), "little"))
    if isinstance(value, np.random.BitGenerator):
        return Seed(int.from_bytes(np.random.Generator(value).bytes(16), "little"))
    if np.ndim(value) == 0:
        return Seed(_integer(value))
    return Seed(_integers(value))


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(_integer(one) for one in values)


def _integer(value: Any) -> int:
    try:
        number = int(value.__index__())
    except (AttributeError, TypeError):
        raise TypeError(
            f"seed {value!r}: expected None, an integer, integers, or a generator of NumPy"
        ) from None
    if number < 0:
        raise InvalidArgument(f"seed {number}: expected 0 or more")
    return number
