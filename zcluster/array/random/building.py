"""Lazy arrays of random numbers: from what users say of size, chunks and parameters.

A parameter of a distribution is a scalar, a NumPy array that broadcasts against the size, or a
lazy array that does. Small NumPy arrays travel with the function that draws; larger ones become
lazy, so that each task gets its part alone. The numbers are the same whichever way they come: for
lazy parameters numbers are drawn in blocks of whole cells (`cells`), and cut into the chunks that
were asked for afterwards.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zcluster.array.chunks import AxisChunks, Chunks, bounds, normalize_chunks
from zcluster.array.core import Array, from_numpy, rechunked
from zcluster.array.expressions import Blockwise, Generated, Literal
from zcluster.array.random.cells import local_generator
from zcluster.array.random.samplers import Draw, Method, Part, Sampler
from zcluster.array.random.seeds import Key
from zcluster.errors import InvalidArgument

__all__ = [
    "Size",
    "as_parameter",
    "as_size",
    "check",
    "chunked",
    "drawn",
    "invalid",
    "method_drawn",
]

#: What users give as a size.
Size: TypeAlias = "int | Sequence[int] | None"

#: Bytes of a NumPy array above which it is cut by the graph, not by the function that draws.
_LARGE = 65_536


def as_size(size: Any) -> tuple[int, ...]:
    """Return a size as a shape.

    Raises
    ------
    InvalidArgument
        If a length is below 0.
    TypeError
        If one is no integer.

    Examples
    --------
    >>> as_size(3), as_size((2, 3))
    ((3,), (2, 3))
    """
    lengths: tuple[int, ...]
    try:
        lengths = (operator.index(size),)
    except TypeError:
        try:
            lengths = tuple(operator.index(one) for one in size)
        except TypeError:
            raise TypeError(f"size={size!r}: expected an integer or a tuple of them") from None
    if any(length < 0 for length in lengths):
        raise InvalidArgument(f"size={size!r}: expected lengths of 0 or more")
    return lengths


def as_parameter(value: Any) -> Any:
    """Return a parameter as a scalar, a NumPy array of at least one axis, or a lazy array."""
    if isinstance(value, Array) or not np.ndim(value):
        return value[()] if isinstance(value, np.ndarray) else value
    array = np.array(value)  # a copy: nobody writes into it before the numbers are drawn
    return from_numpy(array) if array.nbytes > _LARGE else array


def chunked(chunks: Any, size: tuple[int, ...], dtype: Any, inner: tuple[int, ...] = ()) -> Chunks:
    """Return chunks for a size, and one for each of the inner axes.

    Examples
    --------
    >>> chunked(2, (5,), float, (3,))
    ((2, 2, 1), (3,))
    """
    item = np.dtype((dtype, inner)) if inner else dtype  # automatic chunks count all its bytes
    return (*normalize_chunks(chunks, size, item), *[(length,) for length in inner])


def drawn(
    sampler: Sampler,
    next_key: Callable[[], Key],
    size: tuple[int, ...],
    chunks: Any,
    dtype: Any,
    values: npt.NDArray[Any] | None = None,
    label: str | None = None,
) -> Array:
    """Return an array of what a sampler draws; its parameters are scalars or NumPy arrays."""
    own = np.dtype(dtype)
    wanted = chunked(chunks, size, own, sampler.inner)
    # The key comes last: a call that fails draws nothing.
    function = Draw(sampler, next_key(), size, own, values)
    return Array(Generated(label or sampler.__name__, function, wanted, own))


def method_drawn(
    method: Method, next_key: Callable[[], Key], size: Any, chunks: Any, dtype: Any
) -> Array:
    """Return an array of a distribution, after a check of its parameters.

    Raises
    ------
    InvalidArgument
        If the distribution takes no such parameters, or they do not go with the size.
    """
    shapes = [one.shape for one in method.parameters if isinstance(one, np.ndarray | Array)]
    common = _common_shape(method, shapes)
    lengths = common if size is None else as_size(size)
    if _common_shape(method, [lengths, *shapes]) != lengths:
        raise InvalidArgument(
            f"{method.name}: parameters of shapes {', '.join(map(str, shapes))} do not go with "
            f"size={size!r}; expected shapes that broadcast to it"
        )
    check(method, common)
    if not any(isinstance(one, Array) for one in method.parameters):
        return drawn(method, next_key, lengths, chunks, dtype)
    return _drawn_with_arrays(method, next_key, lengths, chunks, np.dtype(dtype))


def _common_shape(method: Method, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    for shape in shapes:
        if any(length != length for length in shape):
            raise InvalidArgument(
                f"{method.name}: a parameter of shape {shape}; expected known lengths: call "
                "compute_chunk_sizes() on it first"
            )
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise InvalidArgument(
            f"{method.name}: size and parameters of shapes {', '.join(map(str, shapes))}; expected "
            "shapes that broadcast together"
        ) from None


def check(method: Method, common: tuple[int, ...] = ()) -> None:
    """Raise what NumPy raises for these parameters, before anything is drawn.

    Parameters
    ----------
    method : Method
        What is lazy in it is not looked at.
    common : tuple of int
        The shape of its parameters together.
    """
    if any(isinstance(one, Array) for one in method.parameters):
        return
    # NumPy looks at the parameters of a draw of nothing too; `integers` does not.
    size: Any = None if method.name == "integers" else (0, *common)
    try:
        getattr(local_generator((0, 0)), method.name)(
            *method.parameters, *method.fixed, size=size, **method.keywords
        )
    except (ValueError, OverflowError) as error:
        given = [_short(one) for one in (*method.parameters, *method.fixed)]
        raise invalid(method.name, ", ".join(given), error) from None


def invalid(name: str, given: str, error: Exception) -> InvalidArgument:
    """Return the error for parameters that NumPy refused."""
    return InvalidArgument(
        f"{name}({given}): {error}; numpy.random.Generator.{name} says what it takes"
    )


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"<array of shape {value.shape}>"
    return repr(value)


# Lazy parameters ----------------------------------------------------------------------------------


class _DrawGiven:
    """Draws blocks of which some parameters come as blocks."""

    __slots__ = ("draw",)

    def __init__(self, draw: Draw) -> None:
        self.draw = draw

    @property
    def __name__(self) -> str:
        return self.draw.__name__

    def __call__(self, *parameters: Any, starts: Any, shape: Any) -> npt.NDArray[Any]:
        ndim = len(self.draw.shape)
        method: Any = self.draw.sampler
        # In the array's own places, as those that are cut by the sampler.
        parts = tuple(
            Part(one, tuple(starts)[ndim - one.ndim : ndim]) if isinstance(one, np.ndarray) else one
            for one in parameters
        )
        given = replace(self.draw, sampler=replace(method, parameters=parts))
        return given(tuple(starts), tuple(shape))

    def __zcluster_tokenize__(self) -> Any:
        return ("draw given", self.draw)


def _drawn_with_arrays(
    method: Method,
    next_key: Callable[[], Key],
    size: tuple[int, ...],
    chunks: Any,
    dtype: np.dtype[Any],
) -> Array:
    lazy = [from_numpy(p) if isinstance(p, np.ndarray) else p for p in method.parameters]
    wanted = chunked(chunks, size, dtype, method.inner)
    draw = Draw(replace(method, parameters=()), next_key(), size, dtype)
    # An array without axes has one cell, and one chunk.
    whole = tuple(
        _of_whole_cells(own, side)
        for own, side in zip(wanted[: len(size)], draw.cell[: len(size)], strict=True)
    )
    inputs: list[Array] = []
    axes: list[tuple[int, ...]] = []
    arguments: list[Any] = []
    for one in lazy:
        if not isinstance(one, Array):
            arguments.append(Literal(one))
            continue
        skipped = len(size) - one.ndim
        own = [axis if length != 1 else -1 for axis, length in enumerate(one.shape, start=skipped)]
        arguments.append(len(inputs))
        axes.append(tuple(own))
        inputs.append(rechunked(one, tuple((1,) if axis < 0 else whole[axis] for axis in own)))
    made = Array(
        Blockwise(
            method.name,
            _DrawGiven(draw),
            [one.expr for one in inputs],
            arguments,
            axes,
            (*whole, *wanted[len(size) :]),
            dtype,
            extra=(("starts", "start"), ("shape", "shape")),
        )
    )
    return rechunked(made, wanted)


def _of_whole_cells(chunks: AxisChunks, side: int) -> AxisChunks:
    """Return chunks like some others, with borders at those of cells."""
    points = bounds(chunks)
    points[1:-1] = -(-points[1:-1] // side) * side
    lengths = np.diff(np.unique(np.minimum(points, points[-1])))
    return tuple(lengths.tolist()) or (0,)
