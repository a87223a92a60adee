"""`Generator` and `RandomState`: NumPy's newer and older ways to say what is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from zcluster.array.core import Array
from zcluster.array.random.building import Size
from zcluster.array.random.distributions import Distributions
from zcluster.array.random.seeds import Key, Seed, as_seed
from zcluster.errors import InvalidArgument

__all__ = ["Generator", "RandomState", "SharedState", "default_rng"]


class Generator(Distributions):
    """Draws lazy arrays of random numbers; made by `default_rng`.

    The numbers depend on the seed, on how many arrays were drawn before, and on shape and place:
    not on the chunks, nor on who computes them, nor how often. They are other numbers than NumPy's
    of the same seed. A release of NumPy that changes how it draws from a distribution changes them
    too.

    Parameters
    ----------
    seed : None, int, sequence of int, SeedSequence, BitGenerator, Generator or RandomState
        None takes one from the operating system.

    See Also
    --------
    zcluster.array.random.cells : how it is done, and sources.

    Examples
    --------
    >>> x = Generator(5).normal(10.0, 2.0, size=(400, 300), chunks=(100, 300))
    >>> y = Generator(5).normal(10.0, 2.0, size=(400, 300), chunks=77)
    >>> bool((x.compute() == y.compute()).all())
    True
    """

    def spawn(self, n_children: int) -> list[Generator]:
        """Return generators whose numbers have nothing to do with this one's or each other's."""
        if n_children < 0:
            raise InvalidArgument(f"spawn({n_children}); expected 0 or more")
        with self._lock:
            seed, first = self._seed, self._children
            self._children += n_children
        return [_generator(seed.spawned(first + number)) for number in range(n_children)]

    def random(
        self, size: Size = None, dtype: Any = None, out: Any = None, chunks: Any = "auto"
    ) -> Array:
        """Draw evenly from 0, included, to 1, excluded: float64 or float32."""
        _refuse(out)
        return self._drawn_in(dtype, "random", (), size, chunks)

    def standard_normal(
        self, size: Size = None, dtype: Any = None, out: Any = None, chunks: Any = "auto"
    ) -> Array:
        """Draw from the normal distribution with mean 0 and deviation 1: float64 or float32."""
        _refuse(out)
        return self._drawn_in(dtype, "standard_normal", (), size, chunks)

    def standard_exponential(
        self,
        size: Size = None,
        dtype: Any = None,
        method: str = "zig",
        out: Any = None,
        chunks: Any = "auto",
    ) -> Array:
        """Draw from the exponential distribution with mean 1: float64 or float32."""
        _refuse(out)
        return self._drawn_in(dtype, "standard_exponential", (), size, chunks, method=method)

    def standard_gamma(
        self,
        shape: Any,
        size: Size = None,
        dtype: Any = None,
        out: Any = None,
        chunks: Any = "auto",
    ) -> Array:
        """Draw from the gamma distribution with scale 1: float64 or float32."""
        _refuse(out)
        return self._drawn_in(dtype, "standard_gamma", (shape,), size, chunks)

    def choice(
        self,
        a: Any,
        size: Size = None,
        replace: bool = True,
        p: Any = None,
        axis: int = 0,
        shuffle: bool = True,
        chunks: Any = "auto",
    ) -> Array:
        """Draw items of `a`, or numbers below an integer `a`.

        Parameters
        ----------
        a : int or array of one axis
            A lazy array is taken as a whole by each task.
        size : int or tuple of int, optional
        replace : bool, optional
            Whether an item may be drawn again.
        p : array, optional
            The probability of each item. Without replacement each task then draws the order of
            all items.
        axis : int, optional
            0, since `a` has one axis.
        shuffle : bool, optional
            Items drawn without replacement are in a random order in any case.
        chunks : optional
        """
        if axis not in (0, -1):
            raise np.exceptions.AxisError(axis, 1)
        return self._choice(a, size, replace, p, chunks)

    def permutation(self, x: Any, axis: int = 0, chunks: Any = None) -> Array:
        """Return the numbers below an integer `x`, or what is along an axis, in a random order.

        Of an array the order is made here: one integer for each place along the axis.
        """
        return self._permutation(x, axis, "auto" if chunks is None and np.ndim(x) == 0 else chunks)

    def permuted(self, x: Any, axis: int | None = None, out: Any = None) -> Array:
        """Raise; the message says what to do instead."""
        raise NotImplementedError(
            "permuted: orders that differ from row to row are not made; permutation(x, axis) moves "
            "whole rows, permutation(x.ravel()).reshape(x.shape) moves every element"
        )


class RandomState(Distributions):
    """Draws lazy arrays of random numbers, with the names that NumPy had before `Generator`.

    Parameters
    ----------
    seed : None, int, sequence of int, SeedSequence, BitGenerator, Generator or RandomState
        None takes one from the operating system.

    See Also
    --------
    Generator : what the numbers depend on.

    Examples
    --------
    >>> state = RandomState(5)
    >>> x = state.random_sample((4, 3), chunks=2)
    >>> state.seed(5)
    >>> bool((x.compute() == state.random_sample((4, 3)).compute()).all())
    True
    """

    def seed(self, seed: Any = None) -> None:
        """Begin anew with a seed."""
        made = as_seed(seed)
        with self._lock:
            self._seed, self._draws = made, 0

    def get_state(self, legacy: bool = True) -> dict[str, Any]:
        """Return what `set_state` takes: the seed and the number of draws."""
        seed, draws, _ = self.__getstate__()
        return {"entropy": seed.entropy, "path": seed.path, "draws": draws}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back, or on, to where `get_state` was called."""
        try:
            seed, draws = Seed(state["entropy"], tuple(state["path"])), int(state["draws"])
        except (KeyError, TypeError):
            raise InvalidArgument(
                f"set_state({state!r}): expected what get_state() of this module returns"
            ) from None
        with self._lock:
            self._seed, self._draws = seed, draws

    def random_sample(self, size: Size = None, chunks: Any = "auto", *, dtype: Any = None) -> Array:
        """Draw evenly from 0, included, to 1, excluded."""
        return self._drawn_in(dtype, "random", (), size, chunks)

    random = random_sample
    ranf = random_sample
    sample = random_sample

    def rand(self, *lengths: int, chunks: Any = "auto") -> Array:
        """Draw evenly from 0 to 1 an array with these lengths."""
        return self.random_sample(lengths, chunks)

    def randn(self, *lengths: int, chunks: Any = "auto") -> Array:
        """Draw from the standard normal distribution an array with these lengths."""
        return self.standard_normal(lengths, chunks)

    def randint(
        self,
        low: Any,
        high: Any = None,
        size: Size = None,
        chunks: Any = "auto",
        dtype: Any = np.int64,
    ) -> Array:
        """Draw integers from `low` to below `high`, or from 0 to below `low`."""
        low, high = (0, low) if high is None else (low, high)
        return self._drawn_in(dtype, "integers", (low, high), size, chunks, endpoint=False)

    def random_integers(
        self, low: Any, high: Any = None, size: Size = None, chunks: Any = "auto"
    ) -> Array:
        """Draw integers from `low` to `high`, or from 1 to `low`, both included."""
        low, high = (1, low) if high is None else (low, high)
        return self._drawn_in(np.int64, "integers", (low, high), size, chunks, endpoint=True)

    def tomaxint(self, size: Size = None, chunks: Any = "auto") -> Array:
        """Draw integers from 0 to the largest one of 64 bits."""
        most = np.iinfo(np.int64).max
        return self._drawn_in(np.int64, "integers", (0, most), size, chunks, endpoint=True)

    def standard_normal(
        self, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the normal distribution with mean 0 and deviation 1."""
        return self._drawn_in(dtype, "standard_normal", (), size, chunks)

    def standard_exponential(
        self, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the exponential distribution with mean 1."""
        return self._drawn_in(dtype, "standard_exponential", (), size, chunks)

    def standard_gamma(
        self, shape: Any, size: Size = None, chunks: Any = "auto", *, dtype: Any = None
    ) -> Array:
        """Draw from the gamma distribution with scale 1."""
        return self._drawn_in(dtype, "standard_gamma", (shape,), size, chunks)

    def choice(
        self,
        a: Any,
        size: Size = None,
        replace: bool = True,
        p: Any = None,
        chunks: Any = "auto",
    ) -> Array:
        """Draw items of `a`, or numbers below an integer `a`; see `Generator.choice`."""
        return self._choice(a, size, replace, p, chunks)

    def permutation(self, x: Any, chunks: Any = None) -> Array:
        """Return the numbers below an integer, or items, in a random order."""
        return self._permutation(x, 0, "auto" if chunks is None and np.ndim(x) == 0 else chunks)


class SharedState(RandomState):
    """The state of a module's functions: without a seed it takes one when it is first used.

    So importing it does nothing, and processes forked before that draw different numbers.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self._is_seeded = False

    def __getstate__(self) -> tuple[Seed, int, int]:
        self._see_to_seed()
        return super().__getstate__()

    def __setstate__(self, state: tuple[Seed, int, int]) -> None:
        super().__setstate__(state)
        self._is_seeded = True

    def seed(self, seed: Any = None) -> None:
        """Begin anew with a seed."""
        super().seed(seed)
        self._is_seeded = True

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back, or on, to where `get_state` was called."""
        super().set_state(state)
        self._is_seeded = True

    def _next_key(self) -> Key:
        self._see_to_seed()
        return super()._next_key()

    def _see_to_seed(self) -> None:
        if self._is_seeded:
            return
        made = as_seed()
        with self._lock:
            if not self._is_seeded:
                self._seed, self._is_seeded = made, True


def default_rng(seed: Any = None) -> Generator:
    """Return a generator.

    Parameters
    ----------
    seed : optional
        See `Generator`; a `Generator` is returned as it is.

    Examples
    --------
    >>> default_rng(5).integers(100, size=3).name == default_rng(5).integers(100, size=3).name
    True
    """
    return seed if isinstance(seed, Generator) else Generator(seed)


def _generator(seed: Seed) -> Generator:
    made = Generator.__new__(Generator)
    made.__setstate__((seed, 0, 0))
    return made


def _refuse(out: Any) -> None:
    if out is not None:
        raise NotImplementedError(
            "out: arrays here are not changed in their place; use the array that is returned"
        )
