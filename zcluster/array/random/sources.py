"""What draws: a seed, a count of draws, and how each kind of draw becomes a lazy array."""

from __future__ import annotations

import math
import operator
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from zcluster.array.core import Array, from_numpy, rechunked
from zcluster.array.expressions import Blockwise, Generated
from zcluster.array.random.building import (
    as_parameter,
    as_size,
    chunked,
    drawn,
    invalid,
    method_drawn,
)
from zcluster.array.random.cells import local_generator
from zcluster.array.random.permutations import Order, WeightedOrder, permuted_places
from zcluster.array.random.samplers import Method, Normals, Sampler, Weighted, normal_factor
from zcluster.array.random.seeds import Key, Seed, as_seed
from zcluster.errors import InvalidArgument
from zcluster.protocol.tokens import tokenize

__all__ = ["Source"]

# Their numbers are int64; those of all other distributions are float64.
_WHOLE = frozenset(
    [
        "binomial",
        "geometric",
        "hypergeometric",
        "logseries",
        "multinomial",
        "multivariate_hypergeometric",
        "negative_binomial",
        "poisson",
        "zipf",
    ]
)


class Source:
    """A seed, and how many arrays have been drawn from it.

    Parameters
    ----------
    seed : None, int, sequence of int, SeedSequence, BitGenerator, Generator or RandomState
        None takes one from the operating system.
    """

    def __init__(self, seed: Any = None) -> None:
        self._lock = threading.Lock()
        self._seed = as_seed(seed)
        self._draws = 0
        self._children = 0  # sources made of this one

    def __getstate__(self) -> tuple[Seed, int, int]:
        with self._lock:
            return self._seed, self._draws, self._children

    def __setstate__(self, state: tuple[Seed, int, int]) -> None:
        self._lock = threading.Lock()
        self._seed, self._draws, self._children = state

    def __zcluster_tokenize__(self) -> Any:
        seed, draws, children = self.__getstate__()
        return (type(self).__name__, seed.entropy, seed.path, draws, children)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} after {self._draws} draws>"

    def _next_key(self) -> Key:
        """Return the key of the next draw, which no other one has."""
        with self._lock:
            seed, number = self._seed, self._draws
            self._draws += 1
        return seed.key(number)

    # Distributions ----------------------------------------------------------------------------

    def _drawn(
        self,
        name: str,
        parameters: tuple[Any, ...],
        size: Any,
        chunks: Any,
        dtype: Any = None,
        *,
        fixed: tuple[Any, ...] = (),
        inner: tuple[int, ...] = (),
        keywords: dict[str, Any] | None = None,
    ) -> Array:
        """Draw from a distribution; see `samplers.Method`."""
        method = Method(name, tuple(map(as_parameter, parameters)), fixed, keywords or {}, inner)
        wanted = _cast(name, np.int64 if name in _WHOLE else np.float64, dtype)
        return method_drawn(method, self._next_key, size, chunks, wanted)

    def _drawn_in(
        self,
        dtype: Any,
        name: str,
        parameters: tuple[Any, ...],
        size: Any,
        chunks: Any,
        **keywords: Any,
    ) -> Array:
        """Draw from a distribution that NumPy draws in several dtypes."""
        wanted = np.dtype(np.float64 if dtype is None else dtype)
        if name == "integers":
            is_right, expected = wanted.kind in "iub", "an integer or bool"
        else:
            is_right, expected = wanted in (np.float32, np.float64), "float32 or float64"
        if not is_right:
            raise InvalidArgument(f"{name} with dtype={wanted}: expected {expected}")
        keywords["dtype"] = wanted
        method = Method(name, tuple(map(as_parameter, parameters)), (), keywords)
        return method_drawn(method, self._next_key, size, chunks, wanted)

    def _multivariate_normal(
        self,
        mean: Any,
        cov: Any,
        size: Any,
        check_valid: Any,
        tol: float,
        method: Any,
        chunks: Any,
        dtype: Any,
    ) -> Array:
        mean, cov = np.array(mean, np.float64), np.array(cov, np.float64)
        try:
            # For its checks and warnings alone.
            local_generator((0, 0)).multivariate_normal(
                mean, cov, 0, check_valid, tol, method=method
            )
            factor = normal_factor(cov, method)
        except ValueError as error:  # of linear algebra as well
            raise invalid(
                "multivariate_normal", f"mean of shape {mean.shape}, cov of {cov.shape}", error
            ) from None
        sampler = Normals(mean, factor, tokenize(mean, cov, method))
        wanted = _cast("multivariate_normal", np.float64, dtype)
        lengths = () if size is None else as_size(size)
        return drawn(sampler, self._next_key, lengths, chunks, wanted)

    # Items ------------------------------------------------------------------------------------

    def _choice(self, a: Any, size: Any, replace: bool, p: Any, chunks: Any) -> Array:
        """Draw items, or numbers below `a`."""
        count, values = _items(a)
        lengths = () if size is None else as_size(size)
        weights = None if p is None else _weights(p, count)
        places = math.prod(lengths)
        if places and not count:
            raise InvalidArgument("choice of no items; expected one at least")
        if not replace:
            most = count if weights is None else int(np.count_nonzero(weights))
            if places > most:
                raise InvalidArgument(
                    f"choice without replacement of {places} items; there are {most}"
                    f"{'' if weights is None else ' that p allows'}: draw fewer, or replace=True"
                )
        # Large or lazy items are taken by a second step; others by the function that draws.
        near = values if isinstance(values, np.ndarray) else None
        dtype = np.dtype(np.int64) if near is None else near.dtype
        if replace:
            sampler: Sampler
            if weights is None:
                sampler = Method("integers", (0, max(count, 1)))
            else:
                cumulated = weights.cumsum()
                cumulated /= cumulated[-1] if count else 1.0
                sampler = Weighted(cumulated)
            chosen = drawn(sampler, self._next_key, lengths, chunks, dtype, near, "choice")
        else:
            wanted = chunked(chunks, lengths, dtype)
            order: Order | WeightedOrder
            if weights is None:
                order = Order(count, self._next_key(), lengths, near)
            else:
                order = WeightedOrder(weights, self._next_key(), lengths, near)
            chosen = Array(Generated("choice", order, wanted, dtype))
        return _taken(values, chosen) if isinstance(values, Array) else chosen

    def _permutation(self, x: Any, axis: int, chunks: Any) -> Array:
        """Return numbers below `x`, or the items of `x` along an axis, in a random order."""
        try:
            count = operator.index(x)
        except TypeError:
            pass
        else:
            if count < 0:
                raise InvalidArgument(f"permutation of {count} numbers; expected 0 or more")
            wanted = chunked(chunks, (count,), np.int64)
            order = Order(count, self._next_key(), (count,))
            return Array(Generated("permutation", order, wanted, np.int64))
        items = x if isinstance(x, Array) else np.asarray(x)
        if not -items.ndim <= axis < items.ndim:
            raise np.exceptions.AxisError(axis, items.ndim)
        axis %= items.ndim
        length = items.shape[axis]
        if length != length:
            raise InvalidArgument(
                f"permutation along axis {axis} of unknown length; call compute_chunk_sizes() first"
            )
        places = permuted_places(np.arange(length), length, self._next_key())
        if isinstance(items, Array):
            mixed: Array = items[(*[slice(None)] * axis, places)]
            return mixed if chunks is None else rechunked(mixed, chunks)
        return from_numpy(items.take(places, axis), "auto" if chunks is None else chunks)


def _cast(name: str, own: Any, dtype: Any) -> np.dtype[Any]:
    """Return the dtype that an array is to have."""
    wanted: np.dtype[Any] = np.dtype(own if dtype is None else dtype)
    if not np.can_cast(own, wanted, "same_kind"):
        raise InvalidArgument(
            f"{name} with dtype={wanted}: its numbers are {np.dtype(own)}; expected the same kind "
            f"of dtype, or draw without it and use .astype({str(wanted)!r})"
        )
    return wanted


def _items(a: Any) -> tuple[int, Any]:
    """Return how many items there are, and what they are: an array, lazy or not, or None."""
    try:
        count = operator.index(a)
    except TypeError:
        pass
    else:
        if count < 0:
            raise InvalidArgument(f"choice of {count} items; expected 0 or more")
        return count, None
    values = as_parameter(a)
    if np.ndim(values) != 1:
        raise NotImplementedError(
            f"choice of an array of {np.ndim(values)} axes; expected an integer or one axis: "
            "choose places with choice(a.shape[axis], ...), and take them with "
            "take(a, places, axis)"
        )
    length = values.shape[0]
    if length != length:
        raise InvalidArgument(
            "choice of an array of unknown length; call compute_chunk_sizes() on it first"
        )
    return int(length), values


def _weights(p: Any, count: int) -> npt.NDArray[np.float64]:
    """Return probabilities, after NumPy's checks."""
    weights = np.array(p, np.float64)
    try:
        local_generator((0, 0)).choice(count, size=0, p=weights)
    except ValueError as error:
        raise invalid("choice", f"of {count} items, p of shape {weights.shape}", error) from None
    return weights


def _taken(values: Array, places: Array) -> Array:
    """Return the items at some places; each task takes all items."""
    return Array(
        Blockwise(
            "choice",
            _take,
            [rechunked(values, -1).expr, places.expr],
            [0, 1],
            [(-1,), tuple(range(places.ndim))],
            places.chunks,
            values.dtype,
        )
    )


def _take(values: npt.NDArray[Any], places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    return np.asarray(values[places])
