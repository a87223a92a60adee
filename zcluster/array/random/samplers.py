"""What draws the elements of a box: NumPy's distributions, and what is made of them.

A sampler is a small object that travels to the workers. It is called with a generator and the place
and shape of a box, and returns an array of that shape, with the sampler's ``inner`` axes after it
where one draw is a vector. `Draw` puts a sampler into cells: the function of a lazy array.

Parameters that are NumPy arrays go along the array's axes and are cut to the box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from zcluster.array.random.cells import cell_shape, draw_block
from zcluster.array.random.seeds import Key

__all__ = ["Draw", "Method", "Normals", "Part", "Sampler", "Weighted", "normal_factor"]

# Elements of a cell. Each cell costs about 2 µs beside its elements, `integers` 10 µs; a quick
# distribution takes 2 ns for an element, most others take 10 to 50.
_ROOM_QUICK = 16_384
_ROOM = 2_048
_QUICK = frozenset(["integers", "random", "uniform"])


class Sampler(Protocol):
    """Draws the elements of a box."""

    @property
    def __name__(self) -> str: ...

    @property
    def inner(self) -> tuple[int, ...]:
        """Lengths of the axes that one draw has."""
        ...

    @property
    def room(self) -> int:
        """How many numbers a cell should have."""
        ...

    def __call__(
        self, generator: np.random.Generator, starts: tuple[int, ...], shape: tuple[int, ...]
    ) -> npt.NDArray[Any]: ...


class Part(NamedTuple):
    """A block of a parameter, and where it begins."""

    values: npt.NDArray[Any]
    starts: tuple[int, ...]


def _cut(parameter: Any, starts: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Return the part of a parameter that belongs to a box."""
    if isinstance(parameter, Part):
        values, origin = parameter
    elif isinstance(parameter, np.ndarray):
        values, origin = parameter, (0,) * parameter.ndim
    else:
        return parameter
    skipped = len(shape) - values.ndim  # its axes are the last ones of the array
    box = []
    for axis, (length, begin) in enumerate(zip(values.shape, origin, strict=True), skipped):
        start = starts[axis] - begin
        box.append(slice(None) if length == 1 else slice(start, start + shape[axis]))
    return values[tuple(box)]


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """A distribution of `numpy.random.Generator`.

    Attributes
    ----------
    name : str
    parameters : tuple
        Scalars, or arrays or parts of them that go along the array's axes.
    fixed : tuple
        Parameters after them that all draws have in common.
    keywords : dict
    inner : tuple of int
    """

    name: str
    parameters: tuple[Any, ...]
    fixed: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    inner: tuple[int, ...] = ()

    @property
    def __name__(self) -> str:
        return self.name

    @property
    def room(self) -> int:
        return _ROOM_QUICK if self.name in _QUICK else _ROOM

    def __call__(
        self, generator: np.random.Generator, starts: tuple[int, ...], shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        cut = [_cut(one, starts, shape) for one in self.parameters]
        made: npt.NDArray[Any]
        if self.name == "uniform" and not any(isinstance(one, np.ndarray) for one in cut):
            # The same numbers as NumPy's `uniform`, in little more than half the time.
            low, high = map(float, cut)
            made = generator.random(shape)
            made *= high - low
            made += low
            return made
        made = getattr(generator, self.name)(*cut, *self.fixed, size=shape, **self.keywords)
        return made

    def __zcluster_tokenize__(self) -> Any:
        return ("method", self.name, self.parameters, self.fixed, self.keywords)


@dataclass(frozen=True, slots=True, eq=False)
class Normals:
    """Vectors of normal numbers with a mean and a covariance.

    Attributes
    ----------
    mean : ndarray
        Of k numbers.
    factor : ndarray
        Of shape (k, k): the covariance is its transpose times itself.
    identity : str
        A token of what the user gave; the factor's last bits are the linear algebra library's.
    """

    mean: npt.NDArray[np.float64]
    factor: npt.NDArray[np.float64]
    identity: str

    @property
    def __name__(self) -> str:
        return "multivariate_normal"

    @property
    def inner(self) -> tuple[int, ...]:
        return self.mean.shape

    @property
    def room(self) -> int:
        return _ROOM

    def __call__(
        self, generator: np.random.Generator, starts: tuple[int, ...], shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        drawn = generator.standard_normal((*shape, len(self.mean)))
        # Not by a matrix product: its last bits depend on how many rows there are.
        made = np.empty_like(drawn)
        made[...] = self.mean
        for place, row in enumerate(self.factor):
            made += drawn[..., place, np.newaxis] * row
        return made

    def __zcluster_tokenize__(self) -> Any:
        return ("normals", self.identity)


def normal_factor(cov: npt.NDArray[np.float64], method: str) -> npt.NDArray[np.float64]:
    """Return a matrix whose transpose times itself is a covariance.

    Parameters
    ----------
    cov : ndarray
        Of shape (k, k).
    method : str
        ``"svd"``, ``"eigh"`` or ``"cholesky"``, as for NumPy.

    Examples
    --------
    >>> cov = np.array([[2.0, 1.0], [1.0, 3.0]])
    >>> factor = normal_factor(cov, "eigh")
    >>> bool(np.allclose(factor.T @ factor, cov))
    True
    """
    if method == "cholesky":
        return np.ascontiguousarray(np.linalg.cholesky(cov).T)
    if method == "eigh":
        values, vectors = np.linalg.eigh(cov)
        # Of a matrix without full rank some may be a little below zero.
        return np.ascontiguousarray((vectors * np.sqrt(np.abs(values))).T)
    _, values, rows = np.linalg.svd(cov)
    return np.ascontiguousarray(np.sqrt(values)[:, np.newaxis] * rows)


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """Indices with given probabilities.

    Attributes
    ----------
    cumulated : ndarray
        The probabilities' sums up to each of them; the last is 1.
    """

    cumulated: npt.NDArray[np.float64]

    @property
    def __name__(self) -> str:
        return "choice"

    @property
    def inner(self) -> tuple[int, ...]:
        return ()

    @property
    def room(self) -> int:
        return _ROOM

    def __call__(
        self, generator: np.random.Generator, starts: tuple[int, ...], shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        found = self.cumulated.searchsorted(generator.random(shape), side="right")
        return np.asarray(found)

    def __zcluster_tokenize__(self) -> Any:
        return ("weighted", self.cumulated)


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """The function that makes the blocks of an array of random numbers.

    Attributes
    ----------
    sampler : Sampler
    key : tuple of int
        See `seeds`.
    shape : tuple of int
        Of the whole array, without the sampler's inner axes.
    dtype : dtype
    values : ndarray or None
        What the numbers are indices of.

    Examples
    --------
    >>> draw = Draw(Method("normal", (0.0, 1.0)), (1, 2), (50, 60), np.dtype(float))
    >>> whole = draw((0, 0), (50, 60))
    >>> bool((draw((20, 0), (10, 60)) == whole[20:30]).all())
    True
    """

    sampler: Sampler
    key: Key
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    values: npt.NDArray[Any] | None = None

    @property
    def __name__(self) -> str:
        return self.sampler.__name__

    @property
    def cell(self) -> tuple[int, ...]:
        """The sides of the cells; of an array without axes it has one all the same."""
        room = max(self.sampler.room // max(math.prod(self.sampler.inner), 1), 1)
        return cell_shape(self.shape or (1,), room)

    def __call__(self, starts: tuple[int, ...], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return the block that begins at a place and has a shape; inner axes count too."""
        outer = len(self.shape)
        dtype = self.dtype if self.values is None else np.dtype(np.int64)
        block = np.empty(shape, dtype)
        inner = tuple(
            slice(start, start + count)
            for start, count in zip(starts[outer:], shape[outer:], strict=True)
        )
        whole, begin = self.shape or (1,), starts[:outer] or (0,)
        out = block if outer else block.reshape((1, *shape))
        draw_block(self.sampler, self.key, whole, self.cell, begin, out, inner)
        return block if self.values is None else np.asarray(self.values[block])

    def __zcluster_tokenize__(self) -> Any:
        return ("draw", self.sampler, self.key, self.shape, str(self.dtype), self.values)
